"""Zones: growth stage, targets, photoperiod, budgets and interlock settings of a tent, a bed or a room.

The defaults of the stages are figures of the field, to be edited per zone. Temperature, humidity, CO2 and photoperiod:
D. Jin, S. Jin and J. Chen, "Cannabis Indoor Growing Conditions, Management Practices, and Post-Harvest Treatment: A
Review", American Journal of Plant Sciences 10 (2019), 925-946. Light: S. Chandra et al., Physiology and Molecular
Biology of Plants 14 (2008), 299-306, and V. Rodriguez-Morrison et al., Frontiers in Plant Science 12 (2021), 646020.
Vapour pressure deficits follow from the temperatures and humidities; water is for about one square metre of canopy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, Self

from .actuators import is_within
from .errors import Code, RegistryError
from .models import Range

DAY_S: Final = 86_400.0
HOUR_S: Final = 3600.0
_MOST: Final = 100_000.0


class Stage(StrEnum):
    """Stages of growth."""

    SEEDLING = "seedling"
    VEGETATIVE = "vegetative"
    TRANSITION = "transition"
    FLOWERING = "flowering"
    LATE_FLOWER = "late_flower"
    HARVEST = "harvest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What a stage wants. `light_hours` and `water_ml_day` are per day."""

    temp_c: Range
    humidity_percent: Range
    vpd_kpa: Range
    ppfd_umol: Range
    co2_ppm: Range
    light_hours: float
    water_ml_day: float


def _targets(light_hours: float, water_ml_day: float, **wanted: tuple[float, float]) -> Targets:
    return Targets(
        light_hours=light_hours, water_ml_day=water_ml_day, **{name: Range(*both) for name, both in wanted.items()}
    )


STAGES: Final[Mapping[Stage, Targets]] = {
    Stage.SEEDLING: _targets(
        18,
        1000,
        temp_c=(22, 27),
        humidity_percent=(65, 80),
        vpd_kpa=(0.4, 0.9),
        ppfd_umol=(100, 300),
        co2_ppm=(400, 800),
    ),
    Stage.VEGETATIVE: _targets(
        18,
        3000,
        temp_c=(22, 28),
        humidity_percent=(55, 70),
        vpd_kpa=(0.8, 1.2),
        ppfd_umol=(300, 600),
        co2_ppm=(400, 1200),
    ),
    Stage.TRANSITION: _targets(
        12,
        4000,
        temp_c=(22, 28),
        humidity_percent=(50, 65),
        vpd_kpa=(0.9, 1.4),
        ppfd_umol=(500, 800),
        co2_ppm=(400, 1200),
    ),
    Stage.FLOWERING: _targets(
        12,
        5000,
        temp_c=(20, 28),
        humidity_percent=(40, 55),
        vpd_kpa=(1.0, 1.6),
        ppfd_umol=(600, 1000),
        co2_ppm=(400, 1400),
    ),
    Stage.LATE_FLOWER: _targets(
        12,
        4000,
        temp_c=(18, 26),
        humidity_percent=(35, 50),
        vpd_kpa=(1.1, 1.7),
        ppfd_umol=(500, 900),
        co2_ppm=(400, 1000),
    ),
    Stage.HARVEST: _targets(
        0,
        500,
        temp_c=(15, 22),
        humidity_percent=(45, 60),
        vpd_kpa=(0.6, 1.3),
        ppfd_umol=(0, 300),
        co2_ppm=(350, 800),
    ),
}
TARGET_METRICS: Final = ("temp_c", "humidity_percent", "vpd_kpa", "ppfd_umol", "co2_ppm")


class Interlock(StrEnum):
    """Rules of safety, from the one that comes first to the one that comes last."""

    SMOKE = "smoke"
    LEAK = "leak"
    TAMPER = "tamper"
    MAINS_LOSS = "mains_loss"
    OVER_TEMPERATURE = "over_temperature"
    HIGH_CO2 = "high_co2"
    TANK_EMPTY = "tank_empty"
    SENSOR_FAULT = "sensor_fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterlockSettings:
    """Which interlocks a zone has, and when they trip.

    `exhaust_on_smoke` lets exhaust fans run while there is smoke, where the fire service or the law wants it so.
    """

    enabled: frozenset[Interlock] = frozenset(Interlock)
    over_temperature_c: float = 35.0
    high_co2_ppm: float = 1800.0
    tank_low_percent: float = 5.0
    stale_s: float = 300.0
    exhaust_on_smoke: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """What holds for everything in a zone.

    `lights_on_s` is when the light day begins, in seconds after local midnight; it lasts as long as the stage says.
    `lamp_hours` and `water_ml_day` are budgets in 24 hours, of each lamp and of all pumps together; None takes the
    stage's. `co2_hour_s` is the budget of CO2 in seconds an hour.
    """

    zone_id: str
    name: str
    stage: Stage = Stage.SEEDLING
    lights_on_s: float = 6 * HOUR_S
    stages: Mapping[Stage, Targets] = field(default_factory=dict)
    lamp_hours: float | None = None
    water_ml_day: float | None = None
    co2_hour_s: float = 240.0
    interlocks: InterlockSettings = field(default_factory=InterlockSettings)

    @property
    def targets(self) -> Targets:
        """Return what the present stage wants."""
        return self.stages.get(self.stage) or STAGES[self.stage]

    @property
    def water_budget(self) -> float:
        """Return the millilitres that all pumps together may give in 24 hours."""
        return self.targets.water_ml_day if self.water_ml_day is None else self.water_ml_day

    @property
    def lamp_budget_s(self) -> float:
        """Return the seconds that each lamp may burn in 24 hours."""
        return HOUR_S * (self.targets.light_hours if self.lamp_hours is None else self.lamp_hours)

    def is_dark(self, day_s: float) -> bool:
        """Tell whether a time of day, in seconds after local midnight, is in the dark period."""
        return (day_s - self.lights_on_s) % DAY_S >= HOUR_S * self.targets.light_hours

    def until_light_change(self, day_s: float) -> float | None:
        """Return the seconds until the light day begins or ends; None when it never does."""
        light_s = HOUR_S * self.targets.light_hours
        if not 0 < light_s < DAY_S:
            return None
        since = (day_s - self.lights_on_s) % DAY_S
        return light_s - since if since < light_s else DAY_S - since

    @classmethod
    def from_dict(cls, zone_id: str, name: str, data: Mapping[str, Any]) -> Self:
        """Return a checked zone from the plain data of its subentry. Raises RegistryError (`zone_invalid`)."""
        try:
            chosen = {name: _READERS[name](value) if name in _READERS else value for name, value in data.items()}
            zone = cls(zone_id=zone_id, name=name, **chosen)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise RegistryError(Code.ZONE_INVALID, str(error)) from error
        check(zone)
        return zone


def _targets_from(default: Targets, changed: Mapping[str, Any]) -> Targets:
    values: dict[str, Any] = {
        name: Range(*value) if name in TARGET_METRICS else value for name, value in changed.items()
    }
    return replace(default, **values)


def _stages_from(stages: Mapping[str, Any]) -> dict[Stage, Targets]:
    return {Stage(stage): _targets_from(STAGES[Stage(stage)], changed) for stage, changed in stages.items()}


def _interlocks_from(settings: Mapping[str, Any]) -> InterlockSettings:
    changed = dict(settings)
    if "enabled" in changed:
        changed["enabled"] = frozenset(Interlock(each) for each in changed["enabled"])
    return InterlockSettings(**changed)


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "stage": Stage,
    "stages": _stages_from,
    "interlocks": _interlocks_from,
}


def check(zone: Zone) -> None:
    """Refuse settings that make no sense. Raises RegistryError (`zone_invalid`)."""
    settings = zone.interlocks
    bounds = {
        "lights_on_s": (zone.lights_on_s, 0.0, DAY_S - 1),
        "lamp_hours": (0.0 if zone.lamp_hours is None else zone.lamp_hours, 0.0, 24.0),
        "water_ml_day": (0.0 if zone.water_ml_day is None else zone.water_ml_day, 0.0, 1_000_000.0),
        "co2_hour_s": (zone.co2_hour_s, 0.0, HOUR_S),
        "over_temperature_c": (settings.over_temperature_c, 20.0, 60.0),
        "high_co2_ppm": (settings.high_co2_ppm, 600.0, 10_000.0),
        "tank_low_percent": (settings.tank_low_percent, 0.0, 90.0),
        "stale_s": (settings.stale_s, 10.0, DAY_S),
    }
    for name, (value, low, high) in bounds.items():
        if not is_within(value, low, high):
            raise RegistryError(Code.ZONE_INVALID, f"{name}: {low:g} to {high:g}")
    if type(settings.exhaust_on_smoke) is not bool:
        raise RegistryError(Code.ZONE_INVALID, "exhaust_on_smoke")
    for stage, targets in zone.stages.items():
        daily = {"light_hours": (targets.light_hours, 24.0), "water_ml_day": (targets.water_ml_day, 1_000_000.0)}
        for name, (value, high) in daily.items():
            if not is_within(value, 0.0, high):
                raise RegistryError(Code.ZONE_INVALID, f"{stage}: {name}: 0 to {high:g}")
        for name in TARGET_METRICS:
            wanted: Range = getattr(targets, name)
            bounded = is_within(wanted.low, -_MOST, _MOST) and is_within(wanted.high, -_MOST, _MOST)
            if not bounded or wanted.low >= wanted.high:
                said = f"{stage}: {name} is upside down, or out of bounds"
                raise RegistryError(Code.ZONE_INVALID, said, field=name)
