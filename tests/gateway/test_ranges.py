"""Tests of the range policy."""

from math import nextafter

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway import ranges
from custom_components.grokmon.gateway.catalog import CATALOG
from custom_components.grokmon.gateway.errors import Code, GatewayError, RangeError
from custom_components.grokmon.gateway.models import Range, Value
from custom_components.grokmon.gateway.ranges import Limits

from .wire import Sender, attempt, device_of

SENDER = Sender.new()
NUMBERS = {name: metric.hard for name, metric in CATALOG.items() if metric.hard is not None}
LIMITS = ranges.limits_of(device_of(SENDER), frozenset(CATALOG))


def test_limits_of_the_catalogue() -> None:
    """Limit every number by the catalogue, and no boolean."""
    assert LIMITS.keys() == NUMBERS.keys()
    assert LIMITS["temp_c"] == Limits(Range(-40.0, 85.0), Range(12.8, 35.0))
    assert LIMITS["ph"] == Limits(Range(0.0, 14.0), Range(float("-inf"), float("inf")))


def test_limits_of_the_device() -> None:
    """Prefer what the user chose for a device, and leave what is possible as it is."""
    device = device_of(SENDER, ranges={"temp_c": Range(20.0, 25.0), "co2_ppm": Range(1.0, 2.0)})
    assert ranges.limits_of(device, frozenset({"temp_c", "ph", "smoke"})) == {
        "temp_c": Limits(Range(-40.0, 85.0), Range(20.0, 25.0)),
        "ph": LIMITS["ph"],
    }


@pytest.mark.parametrize("name", NUMBERS)
def test_both_ends_are_possible(name: str) -> None:
    """Accept the ends of the possible range, and refuse the next number beyond them, naming metric and range."""
    hard = NUMBERS[name]
    for possible in (hard.low, hard.high):
        assert set(ranges.apply({name: possible}, LIMITS)) <= {name}
    for impossible in (nextafter(hard.low, -1e99), nextafter(hard.high, 1e99)):
        with pytest.raises(RangeError) as caught:
            ranges.apply({name: impossible}, LIMITS)
        assert caught.value.code is Code.METRIC_IMPOSSIBLE
        assert caught.value.detail == f"{name} {hard.low:g} to {hard.high:g}"


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({}, ()),
        ({"temp_c": 12.8}, ()),
        ({"temp_c": 35.0}, ()),
        ({"temp_c": 35.01}, ("temp_c",)),
        ({"temp_c": 12.79}, ("temp_c",)),
        ({"temp_c": 36, "humidity_percent": 50, "co2_ppm": 2001.0}, ("temp_c", "co2_ppm")),
        ({"ph": 0.0, "ec_ms_cm": 20.0}, ()),
        ({"smoke": True, "temp_c": 20.0}, ()),
        ({"smoke": True, "temp_c": 36.0}, ("temp_c",)),
        ({"vpd_kpa": 0.0}, ()),
        ({"vpd_kpa": 3.0}, ()),
        ({"vpd_kpa": 3.01}, ("vpd_kpa",)),
    ],
)
def test_flags(values: dict[str, Value], flags: tuple[str, ...]) -> None:
    """Flag what is implausible, in the order of the reading, and change nothing."""
    before = dict(values)
    assert ranges.apply(values, LIMITS) == flags
    assert values == before


@pytest.mark.parametrize("vpd", [-0.5, -0.1, -5e-324])
def test_dew(vpd: float) -> None:
    """Make a deficit slightly below zero 0, and flag it once."""
    values: dict[str, Value] = {"vpd_kpa": vpd}
    assert ranges.apply(values, LIMITS) == ("vpd_kpa",)
    assert values == {"vpd_kpa": 0.0}


def test_dew_where_it_is_plausible() -> None:
    """Flag dew also where the user's range would let it pass."""
    limits = ranges.limits_of(device_of(SENDER, ranges={"vpd_kpa": Range(-0.5, 2.0)}), frozenset({"vpd_kpa"}))
    values: dict[str, Value] = {"vpd_kpa": -0.2}
    assert ranges.apply(values, limits) == ("vpd_kpa",)
    assert values == {"vpd_kpa": 0.0}


def test_impossible_deficit() -> None:
    """Refuse a reported deficit far below zero."""
    with pytest.raises(RangeError, match=r"metric_impossible: vpd_kpa -0\.5 to 60"):
        ranges.apply({"vpd_kpa": -0.51}, LIMITS)


@given(st.dictionaries(st.sampled_from(list(NUMBERS)), st.floats(-100.0, 100.0), max_size=6))
def test_any_values(values: dict[str, Value]) -> None:
    """Raise nothing but RangeError; what passes is possible, and flagged exactly where it is implausible."""
    before = dict(values)
    impossible = {name for name, value in before.items() if not NUMBERS[name].low <= value <= NUMBERS[name].high}
    plausible = {name: LIMITS[name].plausible for name in before}
    flagged = [name for name, value in before.items() if not plausible[name].low <= value <= plausible[name].high]
    result = attempt(lambda: ranges.apply(values, LIMITS))
    if isinstance(result, GatewayError):
        assert type(result) is RangeError
        assert result.detail.split()[0] in impossible
    else:
        assert impossible == set()
        assert sorted(result) == sorted(flagged)
