"""Tests of watering: whether a dose can be seen where the water has to come by."""

import pytest

from custom_components.grokmon.gateway.actuators import Key
from custom_components.grokmon.gateway.watering import WateringWatch

PUMP = Key("node", "pump")


def begun(amount: float = 500, before: float | None = 30.0) -> WateringWatch:
    """Return a watch over a dose of 20 s that began at second 100."""
    watch = WateringWatch()
    if before is not None:
        watch.observe("z", {"soil_moisture_percent": before}, 50)
    watch.begin(PUMP, "z", amount, 20, 100)
    return watch


def test_flow_is_seen() -> None:
    """Flow while the pump runs settles it, whatever the soil says."""
    watch = begun()
    watch.observe("z", {"water_flow_l_min": 0.0}, 101)
    watch.observe("z", {"water_flow_l_min": 1.5}, 110)
    assert watch.judge(115) == []
    assert watch.judge(121) == []
    assert watch.judge(2000) == []


def test_no_flow_is_a_fault() -> None:
    """A flow sensor that sees nothing while the pump runs is a fault, told once."""
    watch = begun()
    watch.observe("z", {"water_flow_l_min": 0.0}, 110)
    watch.observe("z", {"water_flow_l_min": 1.5}, 130)
    assert watch.judge(131) == [(PUMP, "no_flow")]
    assert watch.judge(132) == []


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
        watch.observe("z", {"soil_moisture_percent": value}, 200 + number)
    watch.observe("elsewhere", {"soil_moisture_percent": 99}, 210)
    assert watch.judge(900) == []
    assert watch.judge(1001) == ([(PUMP, "no_moisture")] if fault else [])
    assert watch.judge(1002) == []


def test_nothing_is_expected_of_a_dose_that_was_stopped() -> None:
    """A pump that was switched off gives no water."""
    watch = begun()
    watch.observe("z", {"water_flow_l_min": 0.0}, 110)
    watch.stopped(PUMP)
    assert watch.judge(131) == []
