"""Tests of the derived climate, against the tables of FAO Irrigation and Drainage Paper 56."""

from collections.abc import Mapping

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway import climate
from custom_components.grokmon.gateway.models import Value

# FAO-56, annex 2, table 2.3: saturation vapour pressure in kPa, rounded to three places.
TABLE = {1: 0.657, 5: 0.872, 10: 1.228, 15: 1.705, 20: 2.338, 24.5: 3.075, 25: 3.168, 30: 4.243, 40: 7.376}

TEMPERATURES = st.floats(-40.0, 85.0)
HUMIDITIES = st.floats(0.0, 100.0)
ANYTHING = st.floats(-(2.0**53), 2.0**53) | st.floats(-250.0, -200.0) | st.integers(-(2**53), 2**53)


@pytest.mark.parametrize(("temperature", "pressure"), TABLE.items())
def test_saturation_vapour_pressure(temperature: float, pressure: float) -> None:
    """Agree with the table."""
    assert climate.saturation_vapour_pressure(temperature) == pytest.approx(pressure, abs=0.0006)


def test_deficit_of_the_air() -> None:
    """Follow example 5 of FAO-56 in spirit: 25 °C and 60 % leave 40 % of 3.168 kPa."""
    assert climate.vapour_pressure_deficit(25.0, 60.0) == pytest.approx(0.4 * 3.168, abs=0.001)


def test_deficit_of_a_leaf() -> None:
    """Take the saturation pressure at the leaf and the vapour pressure of the air."""
    assert climate.vapour_pressure_deficit(25.0, 60.0, 20.0) == pytest.approx(2.338 - 0.6 * 3.168, abs=0.001)


def test_deficit_below_zero_is_dew() -> None:
    """Go below zero for a leaf colder than the dew point."""
    assert climate.vapour_pressure_deficit(25.0, 100.0, 20.0) == pytest.approx(2.338 - 3.168, abs=0.001)


@given(TEMPERATURES)
def test_saturated_air_has_no_deficit(temperature: float) -> None:
    """Have no deficit at 100 %."""
    assert climate.vapour_pressure_deficit(temperature, 100.0) == pytest.approx(0.0, abs=1e-9)


@given(TEMPERATURES, HUMIDITIES, HUMIDITIES)
def test_drier_air_has_more_deficit(temperature: float, one: float, other: float) -> None:
    """Never have less deficit in drier air."""
    wet, dry = max(one, other), min(one, other)
    deficit = climate.vapour_pressure_deficit
    assert deficit(temperature, dry) >= deficit(temperature, wet) - 1e-9


@pytest.mark.parametrize(
    ("metrics", "derives"),
    [
        ({"temp_c", "humidity_percent"}, True),
        ({"temp_f", "humidity_percent", "leaf_temp_c"}, True),
        ({"temp_c", "humidity_percent", "vpd_kpa"}, False),
        ({"temp_c"}, False),
        ({"humidity_percent"}, False),
        ({"leaf_temp_c", "humidity_percent"}, False),
        (set[str](), False),
    ],
)
def test_what_derives_a_deficit(metrics: set[str], derives: bool) -> None:
    """Derive from air temperature and humidity, unless the device reports a deficit of its own."""
    assert climate.derives_vpd(frozenset(metrics)) is derives


@pytest.mark.parametrize(
    ("values", "deficit"),
    [
        ({"temp_c": 25.0, "humidity_percent": 60.0}, 1.267),
        ({"temp_f": 77.0, "humidity_percent": 60.0}, 1.267),
        ({"temp_c": 25, "humidity_percent": 60}, 1.267),
        ({"temp_c": 25.0, "temp_f": 50.0, "humidity_percent": 60.0}, 1.267),
        ({"temp_c": 25.0, "leaf_temp_c": 20.0, "humidity_percent": 60.0}, 0.438),
        ({"temp_c": 25.0, "leaf_temp_f": 68.0, "humidity_percent": 60.0}, 0.438),
        ({"temp_c": 0.0, "humidity_percent": 0.0}, 0.611),
    ],
)
def test_deficit_of_a_reading(values: Mapping[str, Value], deficit: float) -> None:
    """Take either scale, °C first, and the leaf where its temperature is known; round to a pascal."""
    assert climate.vpd_of(values) == deficit


@pytest.mark.parametrize(
    "values", [{}, {"temp_c": 25.0}, {"humidity_percent": 60.0}, {"leaf_temp_c": 20.0, "humidity_percent": 60.0}]
)
def test_no_deficit_of_part_of_a_reading(values: Mapping[str, Value]) -> None:
    """Derive nothing where air temperature or humidity is absent."""
    assert climate.vpd_of(values) is None


@pytest.mark.parametrize("humidity", [100.0, 100.01])
def test_no_deficit_has_no_sign(humidity: float) -> None:
    """Give 0, not -0, where the deficit is too small to tell."""
    assert repr(climate.vpd_of({"temp_c": 20.0, "humidity_percent": humidity})) == "0.0"


@pytest.mark.parametrize("edge", [{"temp_c": -40.0}, {"temp_f": -40.0}, {"temp_c": 85.0}, {"temp_f": 185.0}])
def test_edge_of_the_possible(edge: Mapping[str, Value]) -> None:
    """Derive a deficit for every temperature that the range policy lets through."""
    assert climate.vpd_of({**edge, "humidity_percent": 100.0}) == 0.0
    leaf = {f"leaf_{name}": value for name, value in edge.items()}
    assert climate.vpd_of({"temp_c": 20.0, "humidity_percent": 0.0, **leaf}) == climate.vpd_of(
        {**edge, "humidity_percent": 0.0}
    )


IMPOSSIBLE = [-40.1, 85.1, -237.3, -237.300001, -240.0, -(2.0**53), 2.0**53]


@pytest.mark.parametrize("air", IMPOSSIBLE)
def test_impossible_air_breaks_nothing(air: float) -> None:
    """Compute nothing where the formula has its pole, overflows, or no sensor measures."""
    assert climate.vpd_of({"temp_c": air, "humidity_percent": 50.0}) is None
    assert climate.vpd_of({"temp_f": air * 1.8 + 32.0, "humidity_percent": 50.0}) is None


@pytest.mark.parametrize("leaf", IMPOSSIBLE)
def test_impossible_leaf_breaks_nothing(leaf: float) -> None:
    """Take the deficit of the air where that of the leaf cannot be."""
    air = {"temp_c": 20.0, "humidity_percent": 50.0}
    assert climate.vpd_of(air | {"leaf_temp_c": leaf}) == climate.vpd_of(air)


@given(st.dictionaries(st.sampled_from([*climate.AIR, *climate.LEAF, climate.HUMIDITY]), ANYTHING))
def test_any_numbers_give_a_number_or_none(values: dict[str, Value]) -> None:
    """Raise for no numbers that a message can carry."""
    deficit = climate.vpd_of(values)
    assert deficit is None or abs(deficit) < 1e18
