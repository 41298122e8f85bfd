"""Interlocks: what the sensors say that must not be on, whoever asks for it.

A condition trips an interlock at once. Those that latch stay until an administrator resets them, and cannot be reset
while the condition holds; the others end with some distance to their limit, so that nothing flutters.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from .actuators import Actuator, Role
from .climate import celsius_of
from .models import Value
from .zones import Interlock, Zone

_EVERYTHING: Final = frozenset(Role)
_WATER: Final = frozenset({Role.IRRIGATION})
_HURTS: Final = frozenset({Role.IRRIGATION, Role.CO2_VALVE, Role.HEAT_MAT})
_HEATS: Final = frozenset({Role.GROW_LIGHT, Role.HEAT_MAT})
_FANS: Final = frozenset({Role.EXHAUST, Role.CIRCULATION, Role.INTAKE})
# How far below its limit a condition must be before it counts as over.
_COOLER_C: Final = 2.0
_CLEARER_PPM: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one interlock is about.

    `covers` are the roles that it keeps off. `stale_stops` says that silence of its sensors also ends what runs; the
    silence of the others only keeps more from being switched on.
    """

    metrics: tuple[str, ...]
    covers: frozenset[Role]
    latches: bool = False
    everywhere: bool = False
    exhausts: bool = False
    stale_stops: bool = False


RULES: Final[Mapping[Interlock, Rule]] = {
    Interlock.SMOKE: Rule(metrics=("smoke",), covers=_EVERYTHING, latches=True, everywhere=True),
    Interlock.LEAK: Rule(metrics=("leak",), covers=_WATER, latches=True),
    Interlock.TAMPER: Rule(metrics=("tamper",), covers=_HURTS, latches=True),
    Interlock.MAINS_LOSS: Rule(metrics=("mains_power",), covers=_EVERYTHING - _FANS),
    Interlock.OVER_TEMPERATURE: Rule(metrics=("temp_c", "temp_f"), covers=_HEATS, exhausts=True, stale_stops=True),
    Interlock.HIGH_CO2: Rule(metrics=("co2_ppm",), covers=frozenset({Role.CO2_VALVE}), exhausts=True, stale_stops=True),
    Interlock.TANK_EMPTY: Rule(metrics=("float_switch", "tank_level_percent"), covers=_WATER),
    # It tells of the sensors of the others, which keep off what they cover by themselves.
    Interlock.SENSOR_FAULT: Rule(metrics=(), covers=frozenset()),
}

JUDGED: Final = {metric: interlock for interlock, rule in RULES.items() for metric in rule.metrics}


@dataclass(slots=True)
class _Sensor:
    """The last value of one metric of one device, waited for `since` then.

    `value` is None before the first, `heard` before the first that was not old.
    """

    since: float
    heard: float | None = None
    value: Value | None = None
    plausible: bool = True


@dataclass(slots=True)
class _Guard:
    """One zone under guard: its sensors by metric and device, what is tripped, and what is latched."""

    zone: Zone
    sensors: dict[str, dict[str, _Sensor]] = field(default_factory=dict)
    tripped: set[Interlock] = field(default_factory=set)


class Interlocks:
    """The interlocks of all zones."""

    def __init__(self) -> None:
        self._guards: dict[str, _Guard] = {}
        self._latched: dict[str, set[Interlock]] = {}

    def set_zone(self, zone: Zone, metrics: Mapping[str, Iterable[str]], now: float) -> None:
        """Guard a zone whose devices measure these metrics, by device. What was measured and latched stays."""
        known = self._guards.get(zone.zone_id)
        guard = _Guard(zone)
        for device_id, names in metrics.items():
            for name in names:
                before = known.sensors.get(name, {}).get(device_id) if known is not None else None
                guard.sensors.setdefault(name, {})[device_id] = before or _Sensor(now)
        if known is not None:
            guard.tripped = known.tripped & zone.interlocks.enabled
        self._guards[zone.zone_id] = guard

    @property
    def zone_ids(self) -> frozenset[str]:
        """Return the zones under guard."""
        return frozenset(self._guards)

    def remove_zone(self, zone_id: str) -> None:
        """Guard a zone no longer."""
        self._guards.pop(zone_id, None)
        self._latched.pop(zone_id, None)

    def observe(
        self,
        device_id: str,
        zone_id: str,
        values: Mapping[str, Value],
        flags: Collection[str],
        now: float,
        *,
        old: bool = False,
    ) -> bool:
        """Take over what a device measured, `flags` names the implausible; tell whether it is worth a judgement.

        What is `old` may trip an interlock; that something is over, or that a sensor is there, it cannot tell.
        """
        if (guard := self._guards.get(zone_id)) is None:
            return False
        news = False
        for name in JUDGED.keys() & values.keys():
            if (sensor := guard.sensors.get(name, {}).get(device_id)) is None:
                continue
            if old:
                if _condition(guard.zone, name, values[name], held=False):
                    sensor.value, news = values[name], True
                continue
            plausible, held = name not in flags, JUDGED[name] in guard.tripped
            verdict = _condition(guard.zone, name, values[name], held=held)
            news |= (
                sensor.value is None
                or sensor.plausible != plausible
                or _condition(guard.zone, name, sensor.value, held=held) != verdict
            )
            sensor.heard, sensor.value, sensor.plausible = now, values[name], plausible
        return news

    def judge(self, now: float) -> list[tuple[str, Interlock, bool]]:
        """Bring every interlock up to date; return what tripped (True) and what ended (False), by zone."""
        changes: list[tuple[str, Interlock, bool]] = []
        for zone_id, guard in self._guards.items():
            latched = self.latched(zone_id)
            for interlock in Interlock:
                holds = interlock in guard.zone.interlocks.enabled and self._holds(guard, interlock, now)
                if holds and interlock not in guard.tripped:
                    guard.tripped.add(interlock)
                    if RULES[interlock].latches:
                        self._latched.setdefault(zone_id, set()).add(interlock)
                    if interlock not in latched:
                        changes.append((zone_id, interlock, True))
                elif not holds and interlock in guard.tripped:
                    guard.tripped.discard(interlock)
                    if interlock not in self._latched.get(zone_id, set()):
                        changes.append((zone_id, interlock, False))
        return changes

    def active(self, zone_id: str | None) -> tuple[Interlock, ...]:
        """Return what is tripped or latched in a zone, and what is so everywhere; the most urgent first."""
        found: set[Interlock] = set()
        for known, guard in self._guards.items():
            here = guard.tripped | self._latched.get(known, set())
            found |= here if known == zone_id else {each for each in here if RULES[each].everywhere}
        return tuple(each for each in Interlock if each in found)

    def tripped(self, zone_id: str) -> frozenset[Interlock]:
        """Return whose condition holds now."""
        guard = self._guards.get(zone_id)
        return frozenset() if guard is None else frozenset(guard.tripped)

    def latched(self, zone_id: str) -> frozenset[Interlock]:
        """Return what stays until it is reset."""
        return frozenset(self._latched.get(zone_id, ()))

    def blocking(self, actuator: Actuator, zone_id: str | None) -> Interlock | None:
        """Return the interlock that keeps an output off, or None."""
        for interlock in self.active(zone_id):
            if interlock is Interlock.SMOKE and actuator.role is Role.EXHAUST and self._may_exhaust(zone_id):
                continue
            if actuator.role in RULES[interlock].covers:
                return interlock
        return None

    def stale(self, actuator: Actuator, zone_id: str | None, now: float, *, running: bool) -> str | None:
        """Return the metric without which an output may not go on, or None.

        For what is not `running`, every rule that covers it needs one sensor that was heard lately with a plausible
        value; what runs is ended by silence only where the rule says so, and not in the first minutes after a start.
        """
        guard = self._guards.get(zone_id) if zone_id is not None else None
        if guard is None or Interlock.SENSOR_FAULT not in guard.zone.interlocks.enabled:
            return None
        for interlock, rule in RULES.items():
            if interlock not in guard.zone.interlocks.enabled or actuator.role not in rule.covers:
                continue
            if running and not rule.stale_stops:
                continue
            if self._unheard(guard, rule, now, patient=running):
                return next(name for name in rule.metrics if name in guard.sensors)
        return None

    def silent(self, zone_id: str, now: float) -> tuple[tuple[str, str], ...]:
        """Return what a sensor fault is about: the devices, and their metrics, that a rule can no longer rely on."""
        guard = self._guards.get(zone_id)
        if guard is None or Interlock.SENSOR_FAULT not in guard.zone.interlocks.enabled:
            return ()
        return tuple(
            (device_id, name)
            for interlock, rule in RULES.items()
            if interlock in guard.zone.interlocks.enabled and self._unheard(guard, rule, now, patient=True)
            for name in rule.metrics
            for device_id in guard.sensors.get(name, ())
        )

    def exhausting(self, zone_id: str | None) -> Interlock | None:
        """Return the interlock that wants the exhaust fans of a zone at full speed, or None."""
        active = self.active(zone_id)
        if Interlock.SMOKE in active and not self._may_exhaust(zone_id):
            return None
        return next((each for each in active if RULES[each].exhausts), None)

    def reset(self, zone_id: str) -> tuple[frozenset[Interlock], frozenset[Interlock]]:
        """Let go of the latches of a zone; return what was let go, and what stays because its condition holds."""
        latched = self._latched.get(zone_id, set())
        kept = latched & self.tripped(zone_id)
        freed = latched - kept
        if kept:
            self._latched[zone_id] = set(kept)
        else:
            self._latched.pop(zone_id, None)
        return frozenset(freed), frozenset(kept)

    def snapshot(self) -> dict[str, dict[str, list[str]]]:
        """Return what is latched and what is tripped, as plain data."""
        tripped = {zone_id: guard.tripped for zone_id, guard in self._guards.items()}
        return {"latched": _sorted(self._latched), "tripped": _sorted(tripped)}

    def restore(self, latched: Mapping[str, Iterable[str]], tripped: Mapping[str, Iterable[str]]) -> None:
        """Take up what was latched, and what was tripped, in the zones that are still under guard."""
        for zone_id, guard in self._guards.items():
            if zone_id in latched:
                self._latched[zone_id] = {Interlock(each) for each in latched[zone_id]}
            guard.tripped = {Interlock(each) for each in tripped.get(zone_id, ())} & guard.zone.interlocks.enabled

    def _may_exhaust(self, zone_id: str | None) -> bool:
        guard = self._guards.get(zone_id) if zone_id is not None else None
        return guard is not None and guard.zone.interlocks.exhaust_on_smoke

    def _unheard(self, guard: _Guard, rule: Rule, now: float, *, patient: bool) -> bool:
        """Tell whether a rule that has sensors in this zone has none that can be relied on."""
        sensors = [sensor for name in rule.metrics for sensor in guard.sensors.get(name, {}).values()]
        if not sensors:
            return False
        stale_s = guard.zone.interlocks.stale_s
        for sensor in sensors:
            heard = sensor.since if patient and sensor.heard is None else sensor.heard
            if heard is not None and sensor.plausible and now - heard < stale_s:
                return False
        return True

    def _holds(self, guard: _Guard, interlock: Interlock, now: float) -> bool:
        if interlock is Interlock.SENSOR_FAULT:
            return bool(self.silent(guard.zone.zone_id, now))
        held = interlock in guard.tripped
        return any(
            # What was tripped before a restart is not over because no sensor has spoken yet.
            held and now - sensor.since < guard.zone.interlocks.stale_s
            if sensor.value is None
            else _condition(guard.zone, name, sensor.value, held=held)
            for name in RULES[interlock].metrics
            for sensor in guard.sensors.get(name, {}).values()
        )


def _sorted(by_zone: Mapping[str, Collection[Interlock]]) -> dict[str, list[str]]:
    return {zone_id: sorted(each.value for each in found) for zone_id, found in by_zone.items() if found}


def _condition(zone: Zone, metric: str, value: Value, *, held: bool) -> bool:
    """Tell whether a value trips its interlock, or keeps one that is `held`."""
    settings = zone.interlocks
    match metric:
        case "mains_power":
            return value is False
        case "temp_c":
            return value >= settings.over_temperature_c - (_COOLER_C if held else 0.0)
        case "temp_f":
            return celsius_of(value) >= settings.over_temperature_c - (_COOLER_C if held else 0.0)
        case "co2_ppm":
            return value >= settings.high_co2_ppm - (_CLEARER_PPM if held else 0.0)
        case "tank_level_percent":
            return value <= settings.tank_low_percent
        case _:
            return value is True
