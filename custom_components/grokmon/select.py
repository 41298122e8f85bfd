"""Selects: the growth stage of a zone."""

from typing import override

from homeassistant.components.select import SelectEntity
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .access import async_admit
from .entity import ZoneEntity, follow_zones
from .errors import translate_errors
from .gateway.zones import Stage
from .hub import GrokmonConfigEntry, GrokmonHub
from .zone_coordinator import STAGE, ZoneCoordinator

PARALLEL_UPDATES = 0


async def async_setup_entry(
    _hass: HomeAssistant, entry: GrokmonConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the stage of every zone."""
    hub = entry.runtime_data
    follow_zones(entry, async_add_entities, lambda zone: [StageSelect(hub, zone)])


class StageSelect(ZoneEntity, SelectEntity):
    """The growth stage, by which targets, photoperiod and budgets go."""

    _attr_options = [stage.value for stage in Stage]  # noqa: RUF012 - as Home Assistant has it

    def __init__(self, hub: GrokmonHub, coordinator: ZoneCoordinator) -> None:
        super().__init__(coordinator, STAGE)
        self._hub = hub

    @property
    @override
    def current_option(self) -> str:
        """Return the stage."""
        return self._coordinator.zone.stage.value

    @override
    @translate_errors
    async def async_select_option(self, option: str) -> None:
        """Change the stage."""
        who = await async_admit(self._hub, self._context, self.entity_id)
        self._hub.zones.async_set_stage(self._coordinator.zone.zone_id, Stage(option), who)
