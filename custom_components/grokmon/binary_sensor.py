"""Binary sensors: the booleans of devices, and whether a device is heard."""

from dataclasses import dataclass
from typing import Final, override

from homeassistant.components.binary_sensor import BinarySensorEntity, BinarySensorEntityDescription
from homeassistant.components.binary_sensor.const import BinarySensorDeviceClass
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import CONNECTIVITY, DeviceCoordinator, fault_key
from .entity import DeviceEntity, ZoneEntity, follow_devices, follow_outputs, follow_zones, placeholders_of
from .gateway.actuators import Actuator, Kind
from .gateway.catalog import CATALOG, Metric
from .hub import GrokmonConfigEntry
from .zone_coordinator import CLIMATE_IN_TARGET, INTERLOCK_ACTIVE, LIGHT_PERIOD, VPD_IN_TARGET, ZoneCoordinator

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
    """Set up the binary sensors of zones, and of every device as it is enrolled."""
    follow_devices(entry, async_add_entities, DEVICE_SENSORS, DeviceBinarySensor)
    follow_outputs(entry, async_add_entities, lambda _hub, *output: FaultSensor(*output), *Kind)
    follow_zones(entry, async_add_entities, lambda zone: [ZoneBinarySensor(zone, each) for each in ZONE_SENSORS])


ZONE_SENSORS: Final = (
    BinarySensorEntityDescription(
        key=INTERLOCK_ACTIVE, device_class=BinarySensorDeviceClass.SAFETY, translation_key=f"zone_{INTERLOCK_ACTIVE}"
    ),
    BinarySensorEntityDescription(key=LIGHT_PERIOD, translation_key=f"zone_{LIGHT_PERIOD}"),
    BinarySensorEntityDescription(key=VPD_IN_TARGET, translation_key=f"zone_{VPD_IN_TARGET}"),
    BinarySensorEntityDescription(key=CLIMATE_IN_TARGET, translation_key=f"zone_{CLIMATE_IN_TARGET}"),
)


class FaultSensor(DeviceEntity, BinarySensorEntity):
    """Whether an output does something else than it was told."""

    _attr_device_class = BinarySensorDeviceClass.PROBLEM
    _attr_entity_category = EntityCategory.DIAGNOSTIC

    def __init__(self, coordinator: DeviceCoordinator, actuator: Actuator) -> None:
        super().__init__(coordinator, fault_key(actuator.name), measured=False)
        self._attr_translation_key = f"{actuator.role}_fault"
        self._attr_translation_placeholders = placeholders_of(actuator)

    @property
    @override
    def is_on(self) -> bool:
        """Return whether it is out of step."""
        return bool(self._coordinator.values.get(self._key, False))


class ZoneBinarySensor(ZoneEntity, BinarySensorEntity):
    """A fact about a zone."""

    def __init__(self, coordinator: ZoneCoordinator, description: BinarySensorEntityDescription) -> None:
        super().__init__(coordinator, description.key)
        self.entity_description = description

    @property
    @override
    def is_on(self) -> bool | None:
        """Return the fact, or None while nothing is measured."""
        value: bool | None = self._coordinator.values.get(self._key)
        return value


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
