"""Tests of watering: whether a dose can be seen where the water has to come by."""

import pytest

from custom_components.grokmon.gateway.actuators import Key
from custom_components.grokmon.gateway.watering import WateringWatch

PUMP = Key("node", "pump")


def begun(amount: float = 500, before: float | None = 30.0) -> WateringWatch:
    """Return a watch over a dose of 20 s that began at second 100."""
    watch = WateringWatch()
    if before is not None:
        watch.observe("soil", "z", {"soil_moisture_percent": before}, 50)
    watch.begin(PUMP, "z", amount, 20, 100)
    return watch


def test_flow_is_seen() -> None:
    """Flow while the pump runs settles it, whatever the soil says."""
    watch = begun()
    watch.observe("soil", "z", {"water_flow_l_min": 0.0}, 101)
    watch.observe("soil", "z", {"water_flow_l_min": 0.1}, 110)
    assert watch.judge(115) == []
    assert watch.judge(121) == []
    assert watch.judge(2000) == []


def test_no_flow_is_a_fault() -> None:
    """A flow sensor that sees nothing while the pump runs is a fault, told once."""
    watch = begun()
    watch.observe("soil", "z", {"water_flow_l_min": 0.0}, 110)
    assert watch.judge(120) == []
    watch.observe("soil", "z", {"water_flow_l_min": 1.5}, 130)
    assert watch.judge(131) == [(PUMP, "no_flow")]
    assert watch.judge(132) == []


@pytest.mark.parametrize(
    ("at", "fault"), [(101.9, "no_moisture"), (102, "no_flow"), (120, "no_flow"), (120.1, "no_moisture")]
)
def test_flow_counts_while_the_pump_runs(at: float, fault: str) -> None:
    """Look at the flow from two seconds after the start to the last moment of the dose."""
    watch = begun()
    watch.observe("soil", "z", {"water_flow_l_min": 0.0}, at)
    for now in (121, 122, 123):
        watch.observe("soil", "z", {"soil_moisture_percent": 29.0}, now)
    assert watch.judge(130) + watch.judge(1001) == [(PUMP, fault)]


def test_soil_is_looked_at_after_the_dose() -> None:
    """Count no reading of the soil while the pump runs, nor one of another zone; go on to the zone of the next dose."""
    watch = WateringWatch()
    other = Key("node", "other")
    for zone, pump in (("a", other), ("z", PUMP)):
        watch.observe("soil", zone, {"soil_moisture_percent": 30.0}, 50)
        watch.begin(pump, zone, 500, 20, 100)
    for now in (120, 121, 122):
        watch.observe("soil", "z", {"soil_moisture_percent": 29.0}, now)
    assert watch.judge(1001) == []
    watch.begin(other, "a", 500, 20, 1100)
    watch.begin(PUMP, "z", 500, 20, 1100)
    for now in (1121, 1122, 1123):
        watch.observe("soil", "z", {"soil_moisture_percent": 28.0}, now)
    assert watch.judge(2001) == [(PUMP, "no_moisture")]


@pytest.mark.parametrize(
    ("amount", "before", "after", "fault"),
    [
        (500, 30.0, [29.9, 30.0, 30.0], True),
        (500, 30.0, [29.9, 30.1, 30.0], False),
        (500, 30.0, [29.9, 30.0], False),
        (100, 30.0, [29.9, 29.9, 29.9], True),
        (99, 30.0, [29.9, 29.9, 29.9], False),
        (500, None, [29.9, 29.9, 29.9], False),
    ],
)
def test_soil_moisture(amount: float, before: float | None, after: list[float], fault: bool) -> None:
    """Soil that does not get wetter in a quarter of an hour is a fault, if that can be known."""
    watch = begun(amount, before)
    for number, value in enumerate(after):
        watch.observe("soil", "z", {"soil_moisture_percent": value}, 200 + number)
    watch.observe("soil", "elsewhere", {"soil_moisture_percent": 99}, 210)
    assert watch.judge(999.9) == []
    assert watch.judge(1000) == ([(PUMP, "no_moisture")] if fault else [])
    assert watch.judge(1001) == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ({"a": 60.0, "b": 40.0}, {"a": 60.0, "b": 50.0}, False),
        ({"a": 60.0, "b": 40.0}, {"a": 60.0, "b": 40.0}, True),
        ({"b": 40.0}, {"a": 60.0, "b": 40.0}, True),
        ({"b": 40.0}, {"a": 60.0}, False),
        ({"a": 100.0, "b": 40.0}, {"a": 100.0, "b": 40.0}, True),
        ({"a": 100.0, "b": 100.0}, {"a": 100.0, "b": 99.0}, False),
    ],
)
def test_each_sensor_is_compared_with_itself(before: dict[str, float], after: dict[str, float], fault: bool) -> None:
    """Expect one sensor to rise above what it said itself, of those that can."""
    watch = WateringWatch()
    for device_id, value in before.items():
        watch.observe(device_id, "z", {"soil_moisture_percent": value}, 50)
    watch.begin(PUMP, "z", 500, 20, 100)
    for now in (200, 201, 202):
        for device_id, value in after.items():
            watch.observe(device_id, "z", {"soil_moisture_percent": value}, now)
    assert watch.judge(1000) == ([(PUMP, "no_moisture")] if fault else [])


def test_nothing_is_expected_of_a_dose_that_was_stopped() -> None:
    """A pump that was switched off gives no water."""
    watch = begun()
    watch.observe("soil", "z", {"water_flow_l_min": 0.0}, 110)
    watch.stopped(PUMP, 111)
    assert watch.judge(131) == []


def test_dose_that_is_over_is_not_forgotten() -> None:
    """Whoever switches a pump off that has run makes no water of what did not arrive."""
    watch = begun()
    watch.observe("soil", "z", {"water_flow_l_min": 0.0}, 110)
    watch.stopped(PUMP, 131)
    assert watch.judge(131) == [(PUMP, "no_flow")]
    watch = begun()
    watch.observe("soil", "z", {"water_flow_l_min": 0.0}, 110)
    watch.stopped(PUMP, watch._doses[0].flow_ends)
    assert watch.judge(131) == []
