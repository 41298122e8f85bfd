"""The coordinator of a zone: what it shows of itself."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Final

from homeassistant.core import callback
from homeassistant.helpers.device_registry import DeviceEntry
from homeassistant.util import dt as dt_util

from .coordinator import Coordinator, DeviceCoordinator
from .gateway.actuators import Moment, Role
from .gateway.climate import celsius_of
from .gateway.control import Controller
from .gateway.models import Range
from .gateway.zones import Zone

STAGE: Final = "stage"
INTERLOCK: Final = "interlock"
SILENT: Final = "silent"
INTERLOCK_ACTIVE: Final = "interlock_active"
LIGHT_PERIOD: Final = "light_period"
NEXT_LIGHT_CHANGE: Final = "next_light_change"
WATER_LEFT: Final = "water_left"
VPD: Final = "vpd"
VPD_IN_TARGET: Final = "vpd_in_target"
CLIMATE_IN_TARGET: Final = "climate_in_target"
NO_INTERLOCK: Final = "none"
_CLIMATE: Final = ("temp_c", "humidity_percent", "co2_ppm")
_READ: Final = (*_CLIMATE, "vpd_kpa", "ppfd_umol", "soil_moisture_percent")


def readings_in(zone_id: str, devices: Iterable[DeviceCoordinator]) -> dict[str, float]:
    """Return the climate of a zone: the mean of what its devices say that are heard."""
    found: dict[str, list[float]] = {}
    for device in devices:
        if device.device.zone != zone_id or not device.online:
            continue
        for metric in _READ:
            if (value := device.values.get(metric)) is not None:
                found.setdefault(metric, []).append(value)
        if "temp_c" not in device.values and (fahrenheit := device.values.get("temp_f")) is not None:
            found.setdefault("temp_c", []).append(celsius_of(fahrenheit))
    return {metric: fmean(values) for metric, values in found.items()}


class ZoneCoordinator(Coordinator):
    """What one zone shows of itself."""

    def __init__(self, subentry_id: str, zone: Zone, device_entry: DeviceEntry) -> None:
        super().__init__()
        self.subentry_id = subentry_id
        self.zone = zone
        self.device_entry = device_entry

    @callback
    def async_refresh(self, controller: Controller, devices: Iterable[DeviceCoordinator], now: Moment) -> None:
        """Bring everything up to date."""
        zone = self.zone
        active = controller.interlocks.active(zone.zone_id)
        self.async_set(STAGE, zone.stage.value)
        silent = controller.interlocks.silent(zone.zone_id, now.steady)
        self.async_set(INTERLOCK, {INTERLOCK: active[0].value if active else NO_INTERLOCK, SILENT: silent})
        self.async_set(INTERLOCK_ACTIVE, bool(active))
        pumps = [each.key for each in controller.outputs_in(zone.zone_id) if each.actuator.role is Role.IRRIGATION]
        self.async_set(WATER_LEFT, round(controller.policy.water_left(zone, pumps, now.steady)) if pumps else None)
        self.async_set(LIGHT_PERIOD, not zone.is_dark(now.day_s))
        change = zone.until_light_change(now.day_s)
        self.async_set(NEXT_LIGHT_CHANGE, None if change is None else _minute(_later(now.wall, change)))
        climate = readings_in(zone.zone_id, devices)
        vpd = climate.get("vpd_kpa")
        self.async_set(VPD, None if vpd is None else round(vpd, 2))
        self.async_set(VPD_IN_TARGET, None if vpd is None else _within(vpd, zone.targets.vpd_kpa))
        self.async_set(CLIMATE_IN_TARGET, _in_target(climate, zone))


def _in_target(climate: Mapping[str, float], zone: Zone) -> bool | None:
    measured = [name for name in _CLIMATE if name in climate]
    if not measured:
        return None
    return all(_within(climate[name], getattr(zone.targets, name)) for name in measured)


def _within(value: float, wanted: Range) -> bool:
    return wanted.low <= value <= wanted.high


def _later(wall: float, seconds: float) -> float:
    """Return the time at which clocks show so much more: a night has an hour more or less when they are changed."""
    return (dt_util.as_local(dt_util.utc_from_timestamp(wall)) + timedelta(seconds=seconds)).timestamp()


def _minute(wall: float) -> float:
    """Return a time to the minute: it must not change with every look at the clock."""
    return datetime.fromtimestamp(round(wall / 60.0) * 60.0, UTC).timestamp()
