"""Sensors: the metrics of devices, and what the hub counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any, Final, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import MATCH_ALL, PERCENTAGE, EntityCategory, UnitOfPressure, UnitOfTime, UnitOfVolume
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.typing import StateType

from .coordinator import ACCEPTED, AUDIT, EXPIRES, KEY_AGE, LAST_SEEN, POSTURE, REJECTED, SCORE, DeviceCoordinator
from .entity import DeviceEntity, GrokmonEntity, HubEntity, ZoneEntity, follow_devices, follow_zones
from .gateway.catalog import CATALOG, Metric
from .gateway.models import Value
from .gateway.posture import Posture
from .gateway.zones import Interlock
from .hub import GrokmonConfigEntry
from .unique_ids import full_name, metric_entity
from .zone_coordinator import INTERLOCK, NEXT_LIGHT_CHANGE, NO_INTERLOCK, SILENT, VPD, WATER_LEFT, ZoneCoordinator

PARALLEL_UPDATES = 0
# What changes with every reading, and is looked at when something is wrong.
_SELDOM: Final = frozenset({"rssi_dbm", "uptime_s"})
# Before the first verification nothing is known against the trail.
_TRUSTED: Final = frozenset({None, "good"})


def _audit_state(audit: Any) -> str:
    if not audit["healthy"]:
        return "fault"
    return "ok" if audit["last_result"] in _TRUSTED else "altered"


def _posture_state(posture: Any) -> str:
    return str(posture["posture"])


def _interlock_state(interlock: Any) -> str:
    return str(interlock[INTERLOCK])


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
        entity_registry_enabled_default=metric.name not in _SELDOM,
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
            key=EXPIRES,
            translation_key=EXPIRES,
            device_class=SensorDeviceClass.TIMESTAMP,
            entity_category=EntityCategory.DIAGNOSTIC,
            value_fn=lambda value: None if value == inf else datetime.fromtimestamp(value, UTC),
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
        key=SCORE,
        translation_key=SCORE,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
    ),
)
# What of the details is the state itself.
_VERDICTS: Final = {AUDIT: "healthy", POSTURE: POSTURE}
POSTURE_SENSOR: Final = GrokmonSensorDescription(
    key=POSTURE,
    translation_key=POSTURE,
    device_class=SensorDeviceClass.ENUM,
    options=[posture.value for posture in Posture],
    entity_category=EntityCategory.DIAGNOSTIC,
    value_fn=_posture_state,
)
AUDIT_SENSOR: Final = GrokmonSensorDescription(
    key=AUDIT,
    translation_key=AUDIT,
    device_class=SensorDeviceClass.ENUM,
    options=["ok", "fault", "altered"],
    entity_category=EntityCategory.DIAGNOSTIC,
    value_fn=_audit_state,
)

DETAILED_SENSORS: Final = (AUDIT_SENSOR, POSTURE_SENSOR)

INTERLOCK_SENSOR: Final = GrokmonSensorDescription(
    key=INTERLOCK,
    translation_key=f"zone_{INTERLOCK}",
    device_class=SensorDeviceClass.ENUM,
    options=[NO_INTERLOCK, *(each.value for each in Interlock)],
    value_fn=_interlock_state,
)
ZONE_SENSORS: Final = (
    INTERLOCK_SENSOR,
    GrokmonSensorDescription(
        key=NEXT_LIGHT_CHANGE,
        translation_key=f"zone_{NEXT_LIGHT_CHANGE}",
        device_class=SensorDeviceClass.TIMESTAMP,
        value_fn=lambda value: datetime.fromtimestamp(value, UTC),
    ),
    GrokmonSensorDescription(
        key=WATER_LEFT,
        translation_key=f"zone_{WATER_LEFT}",
        device_class=SensorDeviceClass.VOLUME_STORAGE,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfVolume.MILLILITERS,
        suggested_display_precision=0,
    ),
    GrokmonSensorDescription(
        key=VPD,
        translation_key=f"zone_{VPD}",
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfPressure.KPA,
        suggested_display_precision=2,
    ),
)


async def async_setup_entry(
    _hass: HomeAssistant, entry: GrokmonConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the sensors of the hub, of zones, and of every device as it is enrolled."""
    async_add_entities(HubSensor(entry, description) for description in HUB_SENSORS)
    async_add_entities(DetailedSensor(entry, description) for description in DETAILED_SENSORS)
    follow_devices(entry, async_add_entities, DEVICE_SENSORS, DeviceSensor)
    follow_zones(entry, async_add_entities, lambda zone: [_zone_sensor(zone, each) for each in ZONE_SENSORS])


def _zone_sensor(zone: ZoneCoordinator, description: GrokmonSensorDescription) -> ZoneSensor:
    return (InterlockSensor if description is INTERLOCK_SENSOR else ZoneSensor)(zone, description)


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


class ZoneSensor(ZoneEntity, GrokmonSensor):
    """A figure of a zone."""

    def __init__(self, coordinator: ZoneCoordinator, description: GrokmonSensorDescription) -> None:
        super().__init__(coordinator, description.key)
        self.entity_description = description


class InterlockSensor(ZoneSensor):
    """The most urgent interlock of a zone, with the sensors whose silence is a fault."""

    _unrecorded_attributes = frozenset({SILENT})

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any]:
        """Return which sensors are silent, where some are."""
        # A new zone is shown before it is judged.
        silent = self._coordinator.values.get(INTERLOCK, {}).get(SILENT)
        if not silent:
            return {}
        return {SILENT: [full_name(self.hass, metric_entity(self.hass, *each)) or "/".join(each) for each in silent]}


class HubSensor(HubEntity, GrokmonSensor):
    """A total of the hub."""

    def __init__(self, entry: GrokmonConfigEntry, description: GrokmonSensorDescription) -> None:
        super().__init__(entry, description.key)
        self.entity_description = description


class DetailedSensor(HubSensor):
    """A verdict about the hub, with everything that it is made of."""

    _unrecorded_attributes = frozenset({MATCH_ALL})

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any]:
        """Return everything but the verdict itself."""
        shown: Mapping[str, Any] = self._coordinator.values.get(self._key, {})
        return {name: each for name, each in shown.items() if name != _VERDICTS[self._key]}
