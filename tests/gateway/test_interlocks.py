"""Tests of interlocks: what trips, what it keeps off, what latches, and what silence means."""

from dataclasses import replace
from typing import Any

import pytest

from custom_components.grokmon.gateway.actuators import Actuator, Role
from custom_components.grokmon.gateway.interlocks import RULES, Interlocks
from custom_components.grokmon.gateway.models import Value
from custom_components.grokmon.gateway.zones import Interlock, InterlockSettings, Zone

ALL = Zone(zone_id="z", name="Tent", interlocks=InterlockSettings())
SENSORS = {"sensors": [metric for rule in RULES.values() for metric in rule.metrics]}


def actuator(role: Role) -> Actuator:
    """Return an actuator of a role."""
    return Actuator(name=role.value, role=role)


def guarded(zone: Zone = ALL, *metrics: str) -> Interlocks:
    """Return interlocks that guard a zone from second 0."""
    interlocks = Interlocks()
    interlocks.set_zone(zone, {"sensors": metrics} if metrics else SENSORS, 0)
    return interlocks


def see(interlocks: Interlocks, now: float = 1, flags: Any = (), **values: Any) -> list[str]:
    """Take over values; return what trips (+) and ends (-)."""
    interlocks.observe("sensors", "z", values, flags, now)
    return [f"{'+' if active else '-'}{interlock}" for _, interlock, active in interlocks.judge(now)]


@pytest.mark.parametrize(
    ("interlock", "bad", "good", "off", "untouched"),
    [
        ("smoke", {"smoke": True}, {"smoke": False}, set(Role), set()),
        ("leak", {"leak": True}, {"leak": False}, {Role.IRRIGATION}, {Role.GROW_LIGHT}),
        ("tamper", {"tamper": True}, {"tamper": False}, {Role.IRRIGATION, Role.CO2_VALVE}, {Role.EXHAUST}),
        ("mains_loss", {"mains_power": False}, {"mains_power": True}, {Role.GROW_LIGHT, Role.OUTLET}, {Role.EXHAUST}),
        ("over_temperature", {"temp_c": 35}, {"temp_c": 32.9}, {Role.GROW_LIGHT, Role.HEAT_MAT}, {Role.EXHAUST}),
        ("over_temperature", {"temp_f": 95}, {"temp_f": 91}, {Role.GROW_LIGHT}, {Role.CIRCULATION}),
        ("high_co2", {"co2_ppm": 1800}, {"co2_ppm": 1499}, {Role.CO2_VALVE}, {Role.GROW_LIGHT}),
        ("tank_empty", {"float_switch": True}, {"float_switch": False}, {Role.IRRIGATION}, {Role.GROW_LIGHT}),
        ("tank_empty", {"tank_level_percent": 5}, {"tank_level_percent": 6}, {Role.IRRIGATION}, {Role.EXHAUST}),
    ],
)
def test_condition_keeps_off_what_it_covers(
    interlock: str, bad: dict[str, Value], good: dict[str, Value], off: set[Role], untouched: set[Role]
) -> None:
    """An interlock trips at its limit, keeps off its roles, and ends with some distance, unless it latches."""
    interlocks = guarded(ALL, *bad)
    assert see(interlocks, **good) == []
    assert see(interlocks, **bad) == [f"+{interlock}"]
    assert see(interlocks, **bad) == []
    for role in off:
        assert interlocks.blocking(actuator(role), "z") == interlock
    for role in untouched:
        assert interlocks.blocking(actuator(role), "z") is None
    latches = RULES[Interlock(interlock)].latches
    assert see(interlocks, **good) == ([] if latches else [f"-{interlock}"])
    assert interlocks.active("z") == ((Interlock(interlock),) if latches else ())


def test_nothing_flutters_at_the_limit() -> None:
    """Slightly below the limit is not over yet, and slightly below is not tripped either."""
    interlocks = guarded(ALL, "temp_c", "co2_ppm")
    assert see(interlocks, temp_c=34.9, co2_ppm=1799) == []
    assert see(interlocks, temp_c=35.0, co2_ppm=1800) == ["+over_temperature", "+high_co2"]
    assert see(interlocks, temp_c=33.5, co2_ppm=1600) == []
    assert see(interlocks, temp_c=32.9, co2_ppm=1499) == ["-over_temperature", "-high_co2"]


def test_latch_stays_until_it_is_reset_and_the_condition_is_over() -> None:
    """A reset frees nothing while the condition holds, and survives a restart."""
    interlocks = guarded(ALL, "smoke", "leak")
    see(interlocks, smoke=True)
    assert interlocks.reset("z") == (frozenset(), frozenset({Interlock.SMOKE}))
    see(interlocks, smoke=False)
    after = guarded(ALL, "smoke", "leak")
    after.restore(**interlocks.snapshot())
    assert after.active("z") == (Interlock.SMOKE,) == tuple(after.latched("z"))
    assert see(after, smoke=False) == []
    assert see(after, smoke=True) == []
    see(after, smoke=False)
    assert after.reset("z") == (frozenset({Interlock.SMOKE}), frozenset())
    assert after.active("z") == ()
    assert after.snapshot() == {"latched": {}, "tripped": {}}
    assert after.reset("z") == (frozenset(), frozenset())


def test_what_is_tripped_is_not_over_because_of_a_restart() -> None:
    """It stands until a sensor speaks, or has had its time to; of what is no longer guarded nothing is taken up."""
    interlocks = guarded(ALL, "temp_c", "leak")
    see(interlocks, temp_c=36.0, leak=True)
    after = guarded(ALL, "temp_c")
    after.restore(**interlocks.snapshot())
    assert after.tripped("z") == {Interlock.OVER_TEMPERATURE, Interlock.LEAK}
    # There is no such sensor any more.
    assert after.judge(1) == [("z", Interlock.LEAK, False)] or after.latched("z") == {Interlock.LEAK}
    assert after.tripped("z") == {Interlock.OVER_TEMPERATURE}
    assert see(after, now=2, temp_c=36.0) == []
    assert see(after, now=3, temp_c=22.0) == ["-over_temperature"]
    silent = guarded(ALL, "temp_c")
    silent.restore(**interlocks.snapshot())
    silent.judge(ALL.interlocks.stale_s - 1)
    assert Interlock.OVER_TEMPERATURE in silent.active("z")
    silent.judge(ALL.interlocks.stale_s)
    assert Interlock.OVER_TEMPERATURE not in silent.active("z")
    elsewhere = Interlocks()
    elsewhere.restore(**interlocks.snapshot())
    assert elsewhere.snapshot() == {"latched": {}, "tripped": {}}


def test_what_is_old_trips_and_does_not_end() -> None:
    """An old value counts by the limit itself; it is no sign of life, and a fresh one comes before it."""
    interlocks = guarded(ALL, "temp_c")
    lamp = actuator(Role.GROW_LIGHT)

    def old(temp_c: float, flags: Any = ()) -> bool:
        return interlocks.observe("sensors", "z", {"temp_c": temp_c}, flags, 1, old=True)

    assert not old(34.9)
    assert interlocks.judge(1) == []
    assert interlocks.stale(lamp, "z", 1, running=False) == "temp_c"
    assert old(35)
    assert interlocks.judge(1) == [("z", Interlock.OVER_TEMPERATURE, True)]
    assert interlocks.stale(lamp, "z", 1, running=False) == "temp_c"
    assert not old(34)
    assert not old(22, ["temp_c"])
    assert interlocks.judge(1) == []
    assert see(interlocks, temp_c=22) == ["-over_temperature"]
    assert old(36, ["temp_c"])
    assert interlocks.judge(1) == [("z", Interlock.OVER_TEMPERATURE, True)]
    assert interlocks.stale(lamp, "z", 1, running=False) is None
    assert see(interlocks, temp_c=22) == ["-over_temperature"]


def test_smoke_is_everywhere_and_leaks_are_not() -> None:
    """Smoke in one zone keeps everything off in all of them."""
    interlocks = guarded(ALL, "smoke", "leak")
    interlocks.set_zone(replace(ALL, zone_id="y"), {"sensors": []}, 0)
    see(interlocks, smoke=True, leak=True)
    assert interlocks.active("y") == interlocks.active(None) == (Interlock.SMOKE,)
    assert interlocks.blocking(actuator(Role.CIRCULATION), None) is Interlock.SMOKE
    assert interlocks.exhausting("z") is None


def test_exhaust_may_run_in_smoke_where_it_is_set_so() -> None:
    """The exception is for exhaust fans only."""
    zone = replace(ALL, interlocks=InterlockSettings(exhaust_on_smoke=True))
    interlocks = guarded(zone, "smoke")
    see(interlocks, smoke=True)
    assert interlocks.blocking(actuator(Role.EXHAUST), "z") is None
    assert interlocks.blocking(actuator(Role.CIRCULATION), "z") is Interlock.SMOKE


@pytest.mark.parametrize("may", [True, False])
@pytest.mark.parametrize("smokes", ["z", "y"])
def test_heat_wants_the_exhaust_in_smoke_where_it_is_set_so(may: bool, smokes: str) -> None:
    """Smoke wants no fan itself; wherever it is, each zone says whether its own fans may run."""
    settings = InterlockSettings(enabled=ALL.interlocks.enabled, exhaust_on_smoke=may)
    interlocks = guarded(replace(ALL, interlocks=settings), "smoke", "temp_c")
    interlocks.set_zone(replace(ALL, zone_id="y"), {"sensors": ["smoke"]}, 0)
    interlocks.observe("sensors", smokes, {"smoke": True}, (), 1)
    interlocks.judge(1)
    assert interlocks.exhausting("z") is None
    see(interlocks, temp_c=36.0)
    assert interlocks.exhausting("z") is (Interlock.OVER_TEMPERATURE if may else None)
    assert interlocks.exhausting("y") is interlocks.exhausting(None) is None


def test_heat_and_co2_want_the_exhaust() -> None:
    """Exhaust fans are wanted while it is too hot or there is too much CO2."""
    interlocks = guarded(ALL, "temp_c", "leak")
    assert interlocks.exhausting("z") is None
    see(interlocks, leak=True)
    assert interlocks.exhausting("z") is None
    see(interlocks, temp_c=36)
    assert interlocks.exhausting("z") is Interlock.OVER_TEMPERATURE


def test_energising_needs_a_sensor_that_was_heard_lately() -> None:
    """Without a fresh and plausible value nothing more is switched on; what runs has some patience."""
    interlocks = guarded(ALL, "temp_c")
    lamp = actuator(Role.GROW_LIGHT)
    assert interlocks.stale(lamp, "z", 1, running=False) == "temp_c"
    assert interlocks.stale(lamp, "z", 1, running=True) is None
    assert interlocks.stale(lamp, "z", 301, running=True) == "temp_c"
    see(interlocks, 301, temp_c=22)
    assert interlocks.stale(lamp, "z", 302, running=False) is None
    see(interlocks, 303, ("temp_c",), temp_c=34)
    assert interlocks.stale(lamp, "z", 304, running=False) == "temp_c"
    see(interlocks, 305, temp_c=22)
    assert interlocks.stale(lamp, "z", 604, running=True) is None
    assert interlocks.stale(lamp, "z", 605, running=True) == "temp_c"
    assert see(interlocks, 606) == ["+sensor_fault"]
    assert interlocks.silent("z", 606) == (("sensors", "temp_c"),)
    assert interlocks.blocking(lamp, "z") is None
    assert see(interlocks, 607, temp_c=22) == ["-sensor_fault"]
    assert interlocks.silent("z", 607) == ()
    assert interlocks.silent("y", 9999) == ()
    assert interlocks.stale(actuator(Role.EXHAUST), "z", 9999, running=False) is None
    assert interlocks.stale(lamp, "y", 9999, running=False) is None


def test_silence_of_smoke_sensors_ends_nothing() -> None:
    """A wireless glitch must not darken the room: it only keeps more from being switched on."""
    interlocks = guarded(ALL, "smoke")
    lamp = actuator(Role.GROW_LIGHT)
    assert interlocks.stale(lamp, "z", 9999, running=False) == "smoke"
    assert interlocks.stale(lamp, "z", 9999, running=True) is None


def test_one_of_two_sensors_is_enough() -> None:
    """A rule can be judged as long as one of its sensors speaks."""
    interlocks = Interlocks()
    interlocks.set_zone(ALL, {"sensors": ["temp_c"], "others": ["temp_f"]}, 0)
    interlocks.observe("others", "z", {"temp_f": 70.0}, (), 1)
    assert interlocks.stale(actuator(Role.GROW_LIGHT), "z", 2, running=False) is None


def test_what_is_not_enabled_does_nothing() -> None:
    """A zone can do without an interlock; one that is switched off ends."""
    interlocks = guarded(ALL, "temp_c")
    see(interlocks, temp_c=40)
    without = replace(ALL, interlocks=InterlockSettings(enabled=frozenset({Interlock.SMOKE})))
    interlocks.set_zone(without, {"sensors": ["temp_c"]}, 5)
    assert interlocks.active("z") == ()
    assert see(interlocks, temp_c=40) == []
    assert interlocks.stale(actuator(Role.GROW_LIGHT), "z", 9999, running=False) is None


def test_only_sensors_of_the_zone_count() -> None:
    """Values of others, of unknown zones and of unknown metrics change nothing."""
    interlocks = guarded(ALL, "temp_c")
    interlocks.observe("stranger", "z", {"temp_c": 80.0}, (), 1)
    interlocks.observe("sensors", "nowhere", {"temp_c": 80.0}, (), 1)
    interlocks.observe("sensors", "z", {"smoke": True}, (), 1)
    assert interlocks.judge(1) == []
    assert interlocks.tripped("nowhere") == frozenset()


@pytest.mark.parametrize(("metric", "trips", "keeps"), [("temp_c", 35.0, 33.0), ("temp_f", 95.0, 91.4)])
def test_heat_ends_with_some_distance(metric: str, trips: float, keeps: float) -> None:
    """A room that is hardly cooler is still too hot, whatever the unit; one that never was too hot is not."""
    interlocks = guarded(ALL, metric)
    assert see(interlocks, **{metric: trips - 0.1}) == []
    assert see(interlocks, **{metric: trips}) == ["+over_temperature"]
    assert see(interlocks, **{metric: keeps + 0.1}) == []
    assert see(interlocks, **{metric: keeps - 0.1}) == ["-over_temperature"]


def test_only_news_are_worth_a_judgement() -> None:
    """Only what changes the verdict of a rule is news: not the same value again, nor what no rule looks at."""
    interlocks = guarded(ALL, "temp_c", "ph")

    def news(value: float, *flags: str, metric: str = "temp_c") -> bool:
        return interlocks.observe("sensors", "z", {metric: value}, flags, 1)

    assert [news(22.0), news(22.0), news(34.9), news(34.9, "temp_c"), news(22.0)] == [True, False, False, True, True]
    assert [news(35.0), news(36.0), news(34.9)] == [True, False, True]
    assert not news(6.1, metric="ph")


def test_news_of_what_is_held() -> None:
    """A tripped interlock ends at another value than it trips at."""
    interlocks = guarded(ALL, "temp_c")
    assert see(interlocks, temp_c=36.0) == ["+over_temperature"]
    assert not interlocks.observe("sensors", "z", {"temp_c": 33.1}, (), 1)
    assert interlocks.observe("sensors", "z", {"temp_c": 32.9}, (), 1)


def test_news_of_one_sensor_among_many() -> None:
    """Any of the values may be the news, and those that nobody guards are none."""
    values: dict[str, Any] = {
        "smoke": False,
        "leak": False,
        "tamper": False,
        "mains_power": True,
        "temp_c": 22.0,
        "temp_f": 72.0,
        "co2_ppm": 900.0,
        "float_switch": False,
        "tank_level_percent": 50.0,
    }
    bad: dict[str, Any] = {
        "mains_power": False,
        "temp_c": 35.0,
        "temp_f": 95.0,
        "co2_ppm": 1800.0,
        "tank_level_percent": 5,
    }
    interlocks = guarded()
    assert interlocks.observe("sensors", "z", values, (), 1)
    for metric in values:
        assert interlocks.observe("sensors", "z", values | {metric: bad.get(metric, True)}, (), 1), metric
        assert interlocks.observe("sensors", "z", values, (), 1), metric
        assert not interlocks.observe("sensors", "z", values, (), 1), metric
        assert guarded(ALL, metric).observe("sensors", "z", values, (), 1), metric
    assert not interlocks.observe("sensors", "elsewhere", values, (), 1)
    assert not interlocks.observe("others", "z", values, (), 1)


def test_zone_that_is_changed_keeps_what_was_measured() -> None:
    """A sensor that is added has yet to speak; those that were there have spoken."""
    interlocks = guarded(ALL, "temp_c", "co2_ppm")
    see(interlocks, temp_c=36.0, co2_ppm=900.0)
    interlocks.set_zone(ALL, {"sensors": ["co2_ppm", "temp_c", "smoke"]}, 5)
    assert interlocks.active("z") == (Interlock.OVER_TEMPERATURE,)
    assert interlocks.judge(6) == []
    assert interlocks.stale(actuator(Role.HEAT_MAT), "z", 6, running=True) is None
    assert interlocks.stale(actuator(Role.HEAT_MAT), "z", 6, running=False) == "smoke"
    assert interlocks.judge(304) == [("z", Interlock.SENSOR_FAULT, True)]


def test_removed_zone_is_forgotten() -> None:
    """A zone that is no more blocks nothing."""
    interlocks = guarded(ALL, "smoke")
    see(interlocks, smoke=True)
    assert interlocks.zone_ids == {"z"}
    interlocks.remove_zone("z")
    assert interlocks.active(None) == ()
    assert interlocks.latched("z") == frozenset()
    assert interlocks.zone_ids == frozenset()
    interlocks.remove_zone("z")


@pytest.mark.parametrize("metric", ["smoke", "leak", "tamper", "float_switch"])
def test_what_nobody_waits_for_hides_nothing(metric: str) -> None:
    """A device that measures more than it is registered with is judged by what it is registered with."""
    interlocks = guarded(ALL, metric)
    everything: dict[str, Value] = dict.fromkeys(("smoke", "leak", "tamper", "float_switch"), True)
    assert interlocks.observe("sensors", "z", everything, (), 1)
    assert len(interlocks.judge(1)) == 1
