"""Base entities: one coordinator, one key."""

from collections.abc import Callable, Mapping
from typing import override

from homeassistant.core import Context, callback
from homeassistant.helpers.device_registry import DeviceEntryType, DeviceInfo
from homeassistant.helpers.entity import Entity
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .const import DOMAIN, MANUFACTURER
from .coordinator import Coordinator, DeviceCoordinator
from .hub import GrokmonConfigEntry


class GrokmonEntity(Entity):
    """An entity that shows one value of a coordinator."""

    _attr_has_entity_name = True
    _attr_should_poll = False

    def __init__(self, coordinator: Coordinator, key: str) -> None:
        self._coordinator = coordinator
        self._key = key

    @override
    async def async_added_to_hass(self) -> None:
        """Follow the value."""
        self._coordinator.async_listen(self._key, self._refresh)

    @override
    async def async_will_remove_from_hass(self) -> None:
        """Follow the value no longer."""
        self._coordinator.async_unlisten(self._key, self._refresh)

    @callback
    def _refresh(self, context: Context | None) -> None:
        if context is not None:
            self.async_set_context(context)
        self.async_write_ha_state()


class DeviceEntity(GrokmonEntity):
    """An entity of a device of the room."""

    _coordinator: DeviceCoordinator

    def __init__(self, coordinator: DeviceCoordinator, key: str, *, measured: bool) -> None:
        super().__init__(coordinator, key)
        self._measured = measured
        self._attr_unique_id = f"{coordinator.device.device_id}_{key}"
        self.device_entry = coordinator.device_entry

    @property
    @override
    def available(self) -> bool:
        """Return whether the value is current: a measured one is only while the device is heard."""
        return self._coordinator.online or not self._measured


class HubEntity(GrokmonEntity):
    """An entity of the hub itself."""

    def __init__(self, entry: GrokmonConfigEntry, key: str) -> None:
        super().__init__(entry.runtime_data.coordinator, key)
        self._attr_unique_id = f"hub_{key}"
        self._attr_device_info = hub_device_info()


def follow_devices[D](
    entry: GrokmonConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
    descriptions: Mapping[str, D],
    create: Callable[[DeviceCoordinator, D], Entity],
) -> None:
    """Add the described entities of every device, now and as devices are enrolled or get more metrics."""

    @callback
    def add(coordinator: DeviceCoordinator, keys: frozenset[str]) -> None:
        async_add_entities(
            [create(coordinator, descriptions[key]) for key in sorted(keys) if key in descriptions],
            config_subentry_id=coordinator.subentry_id,
        )

    entry.runtime_data.enrolment.async_add_platform(add)


def hub_device_info() -> DeviceInfo:
    """Return the device of the hub."""
    return DeviceInfo(
        identifiers={(DOMAIN, DOMAIN)},
        entry_type=DeviceEntryType.SERVICE,
        manufacturer=MANUFACTURER,
        translation_key="hub",
    )
