"""Lights: lamps that are dimmed in percent."""

from typing import Any, override

from homeassistant.components.light import LightEntity
from homeassistant.components.light.const import ATTR_BRIGHTNESS, ColorMode
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.util.color import brightness_to_value, value_to_brightness

from .entity import SwitchedEntity, follow_outputs
from .gateway.actuators import Kind
from .hub import GrokmonConfigEntry

PARALLEL_UPDATES = 0
_SCALE = (1, 100)


async def async_setup_entry(
    _hass: HomeAssistant, entry: GrokmonConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the lights of every device as it is enrolled."""
    follow_outputs(entry, async_add_entities, GrokmonLight, Kind.LIGHT)


class GrokmonLight(SwitchedEntity, LightEntity):
    """A lamp."""

    _attr_color_mode = ColorMode.BRIGHTNESS
    _attr_supported_color_modes = {ColorMode.BRIGHTNESS}  # noqa: RUF012 - as Home Assistant has it

    @property
    @override
    def brightness(self) -> int | None:
        """Return the brightness that the device says, 1 to 255."""
        if self.observed is None or not self.observed.on or self.observed.percent is None:
            return None
        return value_to_brightness(_SCALE, self.observed.percent)

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        """Turn on, to a brightness or as bright as it may be."""
        brightness: int | None = kwargs.get(ATTR_BRIGHTNESS)
        # Rounded, the least brightness would be off.
        percent = None if brightness is None else float(max(1, round(brightness_to_value(_SCALE, brightness))))
        await self._async_command(on=True, percent=percent)
