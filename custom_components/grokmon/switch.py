"""Switches: what is on or off, pumps that end by themselves, and whether the AI may act."""

from typing import Any, override

from homeassistant.components.switch import SwitchEntity
from homeassistant.components.switch.const import SwitchDeviceClass
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .access import async_admit_administrator
from .coordinator import AI_CONTROL, DeviceCoordinator
from .entity import HubEntity, SwitchedEntity, follow_outputs
from .errors import translate_errors
from .gateway.actuators import Actuator, Kind, Role
from .hub import GrokmonConfigEntry, GrokmonHub

PARALLEL_UPDATES = 0


async def async_setup_entry(
    _hass: HomeAssistant, entry: GrokmonConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the switch of the hub, and those of every device as it is enrolled."""
    async_add_entities([AiControl(entry)])
    follow_outputs(entry, async_add_entities, GrokmonSwitch, Kind.SWITCH, Kind.PUMP)


class GrokmonSwitch(SwitchedEntity, SwitchEntity):
    """An output that is on or off. On is, for a pump and a CO2 valve, one dose of the usual amount."""

    def __init__(self, hub: GrokmonHub, coordinator: DeviceCoordinator, actuator: Actuator) -> None:
        super().__init__(hub, coordinator, actuator)
        self._attr_device_class = SwitchDeviceClass.OUTLET if actuator.role is Role.OUTLET else SwitchDeviceClass.SWITCH

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        """Turn on."""
        await self._async_command(on=True)


class AiControl(HubEntity, SwitchEntity):
    """Whether the AI may do more than turn things off. Anybody may block it, only an administrator lets it act."""

    _attr_entity_category = EntityCategory.CONFIG
    _attr_translation_key = AI_CONTROL

    def __init__(self, entry: GrokmonConfigEntry) -> None:
        super().__init__(entry, AI_CONTROL)
        self._hub = entry.runtime_data

    @property
    @override
    def is_on(self) -> bool:
        """Return whether the AI may act."""
        return bool(self._coordinator.values[AI_CONTROL])

    @override
    @translate_errors
    async def async_turn_on(self, **kwargs: Any) -> None:
        """Let the AI act."""
        who = await async_admit_administrator(
            self._hub, self._context, self.entity_id, "only an administrator lets the AI act"
        )
        await self._hub.async_allow_ai(allowed=True, who=who)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        """Block the AI at once."""
        who = await self._hub.callers.async_identify(self._context)
        await self._hub.async_allow_ai(allowed=False, who=who)
