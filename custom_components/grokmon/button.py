"""Buttons: a dose now, everything off, and the reset of what latched."""

from typing import Final, override

from homeassistant.components.button import ButtonEntity
from homeassistant.components.button.const import ButtonDeviceClass
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .access import async_admit, async_admit_administrator
from .coordinator import DOSE_NOW_SUFFIX, IDENTIFY, DeviceCoordinator
from .entity import DeviceEntity, HubEntity, OutputEntity, ZoneEntity, follow_devices, follow_outputs, follow_zones
from .errors import translate_errors
from .gateway.actuators import Actuator, Kind
from .gateway.errors import Code, PolicyError
from .hub import GrokmonConfigEntry, GrokmonHub
from .zone_coordinator import ZoneCoordinator

PARALLEL_UPDATES = 0
STOP: Final = "stop"
RESET: Final = "reset_interlocks"


async def async_setup_entry(
    _hass: HomeAssistant, entry: GrokmonConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the buttons of the hub, of zones, and of pumps as they are enrolled."""
    hub = entry.runtime_data
    async_add_entities([StopEverything(entry)])
    follow_zones(entry, async_add_entities, lambda zone: (StopZone(hub, zone), ResetInterlocks(hub, zone)))
    follow_devices(entry, async_add_entities, {IDENTIFY: hub}, lambda device, hub: IdentifyButton(hub, device))
    follow_outputs(entry, async_add_entities, DoseButton, Kind.PUMP)


class IdentifyButton(DeviceEntity, ButtonEntity):
    """Let a device show where it is."""

    _attr_device_class = ButtonDeviceClass.IDENTIFY
    _attr_entity_category = EntityCategory.DIAGNOSTIC

    def __init__(self, hub: GrokmonHub, coordinator: DeviceCoordinator) -> None:
        super().__init__(coordinator, IDENTIFY, measured=True)
        self._hub = hub

    @override
    @translate_errors
    async def async_press(self) -> None:
        """Ask it."""
        who = await async_admit(self._hub, self._context, self.entity_id)
        await self._hub.dispatcher.async_identify(self._coordinator.device.device_id, who)


class DoseButton(OutputEntity, ButtonEntity):
    """Give the amount that is set, now."""

    def __init__(self, hub: GrokmonHub, coordinator: DeviceCoordinator, actuator: Actuator) -> None:
        super().__init__(hub, coordinator, actuator, DOSE_NOW_SUFFIX)

    @override
    async def async_press(self) -> None:
        """Give it."""
        await self._async_command(amount_ml=self.dose_ml)


class StopEverything(HubEntity, ButtonEntity):
    """Switch everything off."""

    _attr_translation_key = STOP

    def __init__(self, entry: GrokmonConfigEntry) -> None:
        super().__init__(entry, STOP)
        self._hub = entry.runtime_data

    @override
    @translate_errors
    async def async_press(self) -> None:
        """Switch everything off."""
        await self._hub.async_stop_all(list(self._hub.dispatcher.controller.outputs), self._context)


class StopZone(ZoneEntity, ButtonEntity):
    """Switch everything in a zone off."""

    def __init__(self, hub: GrokmonHub, coordinator: ZoneCoordinator) -> None:
        super().__init__(coordinator, STOP)
        self._hub = hub

    @override
    @translate_errors
    async def async_press(self) -> None:
        """Switch everything off."""
        outputs = self._hub.dispatcher.controller.outputs_in(self._coordinator.zone.zone_id)
        await self._hub.async_stop_all([output.key for output in outputs], self._context)


class ResetInterlocks(ZoneEntity, ButtonEntity):
    """Reset what is latched in a zone; for administrators."""

    _attr_entity_category = EntityCategory.CONFIG

    def __init__(self, hub: GrokmonHub, coordinator: ZoneCoordinator) -> None:
        super().__init__(coordinator, RESET)
        self._hub = hub

    @override
    @translate_errors
    async def async_press(self) -> None:
        """Reset what can be reset."""
        who = await async_admit_administrator(
            self._hub, self._context, self.entity_id, "only an administrator resets an interlock"
        )
        _, kept = await self._hub.async_reset_interlocks(self._coordinator.zone.zone_id, who.identity)
        if kept:
            raise PolicyError(
                Code.INTERLOCKED, f"the condition of {', '.join(sorted(kept))} still holds", variant="holds"
            )
