"""Sensors: the metrics of devices, and what the hub counts."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import EntityCategory, UnitOfTime
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.typing import StateType

from .coordinator import ACCEPTED, AUDIT, KEY_AGE, LAST_SEEN, REJECTED, DeviceCoordinator
from .entity import DeviceEntity, GrokmonEntity, HubEntity, follow_devices
from .gateway.catalog import CATALOG, Metric
from .gateway.models import Value
from .hub import GrokmonConfigEntry

PARALLEL_UPDATES = 0


@dataclass(frozen=True, kw_only=True)
class GrokmonSensorDescription(SensorEntityDescription):
    """Describe a sensor. A measured value is known only while its device is heard."""

    value_fn: Callable[[Value], StateType | datetime] | None = None
    measured: bool = True


def _describe(metric: Metric) -> GrokmonSensorDescription:
    return GrokmonSensorDescription(
        key=metric.name,
        translation_key=metric.name,
        native_unit_of_measurement=metric.unit,
        device_class=SensorDeviceClass(metric.device_class) if metric.device_class else None,
        state_class=SensorStateClass(metric.state_class) if metric.state_class else None,
        suggested_display_precision=metric.precision,
        entity_category=EntityCategory.DIAGNOSTIC if metric.diagnostic else None,
    )


METRICS: Final = {metric.name: _describe(metric) for metric in CATALOG.values() if not metric.is_boolean}

DIAGNOSTICS: Final = {
    description.key: description
    for description in (
        GrokmonSensorDescription(
            key=LAST_SEEN,
            translation_key=LAST_SEEN,
            device_class=SensorDeviceClass.TIMESTAMP,
            entity_category=EntityCategory.DIAGNOSTIC,
            entity_registry_enabled_default=False,
            value_fn=lambda value: datetime.fromtimestamp(value, UTC),
            measured=False,
        ),
        GrokmonSensorDescription(
            key=REJECTED,
            translation_key=REJECTED,
            state_class=SensorStateClass.TOTAL_INCREASING,
            entity_category=EntityCategory.DIAGNOSTIC,
            measured=False,
        ),
        GrokmonSensorDescription(
            key=KEY_AGE,
            translation_key=KEY_AGE,
            native_unit_of_measurement=UnitOfTime.DAYS,
            device_class=SensorDeviceClass.DURATION,
            state_class=SensorStateClass.MEASUREMENT,
            entity_category=EntityCategory.DIAGNOSTIC,
            entity_registry_enabled_default=False,
            measured=False,
        ),
    )
}

DEVICE_SENSORS: Final = METRICS | DIAGNOSTICS

HUB_SENSORS: Final = (
    GrokmonSensorDescription(
        key=ACCEPTED,
        translation_key=ACCEPTED,
        state_class=SensorStateClass.TOTAL_INCREASING,
        entity_category=EntityCategory.DIAGNOSTIC,
    ),
    GrokmonSensorDescription(
        key=REJECTED,
        translation_key=REJECTED,
        state_class=SensorStateClass.TOTAL_INCREASING,
        entity_category=EntityCategory.DIAGNOSTIC,
    ),
    GrokmonSensorDescription(
        key=AUDIT,
        translation_key=AUDIT,
        device_class=SensorDeviceClass.ENUM,
        options=["ok", "fault"],
        entity_category=EntityCategory.DIAGNOSTIC,
        value_fn=lambda healthy: "ok" if healthy else "fault",
    ),
)


async def async_setup_entry(
    _hass: HomeAssistant, entry: GrokmonConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the sensors of the hub, and of every device as it is enrolled."""
    async_add_entities(HubSensor(entry, description) for description in HUB_SENSORS)
    follow_devices(entry, async_add_entities, DEVICE_SENSORS, DeviceSensor)


class GrokmonSensor(GrokmonEntity, SensorEntity):
    """A sensor that shows one value of a coordinator."""

    entity_description: GrokmonSensorDescription

    @property
    @override
    def native_value(self) -> StateType | datetime:
        """Return the value as it is shown."""
        value = self._coordinator.values.get(self._key)
        shown = self.entity_description.value_fn
        return value if value is None or shown is None else shown(value)


class DeviceSensor(DeviceEntity, GrokmonSensor):
    """A metric of a device, or a fact about it."""

    def __init__(self, coordinator: DeviceCoordinator, description: GrokmonSensorDescription) -> None:
        super().__init__(coordinator, description.key, measured=description.measured)
        self.entity_description = description


class HubSensor(HubEntity, GrokmonSensor):
    """A total of the hub."""

    def __init__(self, entry: GrokmonConfigEntry, description: GrokmonSensorDescription) -> None:
        super().__init__(entry, description.key)
        self.entity_description = description
