"""Fans: exhaust, circulation and intake, in percent or in steps."""

from typing import Any, override

from homeassistant.components.fan import FanEntity
from homeassistant.components.fan.const import FanEntityFeature
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .entity import SwitchedEntity, follow_outputs
from .gateway.actuators import Kind
from .hub import GrokmonConfigEntry

PARALLEL_UPDATES = 0
_STEPS_OF_PERCENT = 100


async def async_setup_entry(
    _hass: HomeAssistant, entry: GrokmonConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the fans of every device as it is enrolled."""
    follow_outputs(entry, async_add_entities, GrokmonFan, Kind.FAN)


class GrokmonFan(SwitchedEntity, FanEntity):
    """A fan."""

    _attr_supported_features = FanEntityFeature.SET_SPEED | FanEntityFeature.TURN_ON | FanEntityFeature.TURN_OFF

    @property
    @override
    def speed_count(self) -> int:
        """Return the number of speeds."""
        return self.actuator.speeds or _STEPS_OF_PERCENT

    @property
    @override
    def percentage(self) -> int | None:
        """Return the speed that the device says, in percent."""
        if self.observed is None:
            return None
        if not self.observed.on or not self.observed.percent:
            return 0
        # Rounded, the slowest would be off.
        return max(1, round(self.observed.percent))

    @override
    async def async_turn_on(self, percentage: int | None = None, preset_mode: str | None = None, **kwargs: Any) -> None:
        """Turn on, to a speed or as fast as it may be."""
        await self._async_command(on=True, percent=percentage)

    @override
    async def async_set_percentage(self, percentage: int) -> None:
        """Set the speed; 0 turns off."""
        await self._async_command(percent=percentage)
