"""Event: what a person responsible for the room should know about its security."""

from typing import Final, override

from homeassistant.components.event import EventEntity, EventEntityDescription
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .entity import hub_device_info
from .gateway.security_events import Category
from .hub import GrokmonConfigEntry
from .unique_ids import HUB, unique_id

PARALLEL_UPDATES = 0

SECURITY_EVENT: Final = EventEntityDescription(
    key="security_event",
    translation_key="security_event",
    event_types=[category.value for category in Category],
)


async def async_setup_entry(
    _hass: HomeAssistant, entry: GrokmonConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the security event of the hub."""
    async_add_entities([SecurityEvent(entry)])


class SecurityEvent(EventEntity):
    """The last thing that somebody responsible for the room should know of."""

    _attr_has_entity_name = True
    _attr_should_poll = False
    entity_description = SECURITY_EVENT

    def __init__(self, entry: GrokmonConfigEntry) -> None:
        self._monitor = entry.runtime_data.monitor
        self._attr_unique_id = unique_id(HUB, SECURITY_EVENT.key)
        self._attr_device_info = hub_device_info()

    @override
    async def async_added_to_hass(self) -> None:
        """Follow the security monitor."""
        await super().async_added_to_hass()
        self.async_on_remove(self._monitor.async_listen(self._show))

    @callback
    def _show(self, category: Category, details: dict[str, str]) -> None:
        self._trigger_event(category.value, details)
        self.async_write_ha_state()
