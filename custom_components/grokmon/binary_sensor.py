"""Binary sensors: the booleans of devices, and whether a device is heard."""

from dataclasses import dataclass
from typing import Final, override

from homeassistant.components.binary_sensor import BinarySensorEntity, BinarySensorEntityDescription
from homeassistant.components.binary_sensor.const import BinarySensorDeviceClass
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import CONNECTIVITY, DeviceCoordinator
from .entity import DeviceEntity, follow_devices
from .gateway.catalog import CATALOG, Metric
from .hub import GrokmonConfigEntry

PARALLEL_UPDATES = 0


@dataclass(frozen=True, kw_only=True)
class GrokmonBinarySensorDescription(BinarySensorEntityDescription):
    """Describe a binary sensor. A measured value is known only while its device is heard."""

    measured: bool = True


def _describe(metric: Metric) -> GrokmonBinarySensorDescription:
    return GrokmonBinarySensorDescription(
        key=metric.name,
        translation_key=metric.name,
        device_class=BinarySensorDeviceClass(metric.device_class) if metric.device_class else None,
    )


DEVICE_SENSORS: Final = {metric.name: _describe(metric) for metric in CATALOG.values() if metric.is_boolean} | {
    CONNECTIVITY: GrokmonBinarySensorDescription(
        key=CONNECTIVITY,
        device_class=BinarySensorDeviceClass.CONNECTIVITY,
        entity_category=EntityCategory.DIAGNOSTIC,
        measured=False,
    )
}


async def async_setup_entry(
    _hass: HomeAssistant, entry: GrokmonConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the binary sensors of every device as it is enrolled."""
    follow_devices(entry, async_add_entities, DEVICE_SENSORS, DeviceBinarySensor)


class DeviceBinarySensor(DeviceEntity, BinarySensorEntity):
    """A boolean of a device, or whether it is heard."""

    entity_description: GrokmonBinarySensorDescription

    def __init__(self, coordinator: DeviceCoordinator, description: GrokmonBinarySensorDescription) -> None:
        super().__init__(coordinator, description.key, measured=description.measured)
        self.entity_description = description

    @property
    @override
    def is_on(self) -> bool | None:
        """Return the value."""
        value = self._coordinator.values.get(self._key)
        return None if value is None else bool(value)
