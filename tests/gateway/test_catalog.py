"""Tests of the catalogue: names and limits are an interface."""

import pytest

from custom_components.grokmon.gateway.catalog import CATALOG, VPD, Metric
from custom_components.grokmon.gateway.models import Range

NUMBERS = [
    "temp_c",
    "temp_f",
    "leaf_temp_c",
    "leaf_temp_f",
    "root_temp_c",
    "root_temp_f",
    "soil_temp_c",
    "soil_temp_f",
    "humidity_percent",
    "vpd_kpa",
    "co2_ppm",
    "soil_moisture_percent",
    "ec_ms_cm",
    "ph",
    "ppfd_umol",
    "dli_mol",
    "lux",
    "tank_level_percent",
    "water_flow_l_min",
    "pressure_hpa",
    "vbat",
    "battery_percent",
    "rssi_dbm",
    "power_w",
    "uptime_s",
]
BOOLEANS = ["smoke", "tamper", "leak", "door", "mains_power", "float_switch"]
NUMERIC = [CATALOG[name] for name in NUMBERS]

UNITS = {
    "temp_c": "°C",
    "temp_f": "°F",
    "humidity_percent": "%",
    "vpd_kpa": "kPa",
    "co2_ppm": "ppm",
    "ec_ms_cm": "mS/cm",
    "ph": None,
    "ppfd_umol": "\u03bcmol/m²/s",
    "dli_mol": "mol/m²",
    "lux": "lx",
    "water_flow_l_min": "L/min",
    "pressure_hpa": "hPa",
    "vbat": "V",
    "rssi_dbm": "dBm",
    "power_w": "W",
    "uptime_s": "s",
    "smoke": None,
}
PLAUSIBLE = {
    "temp_c": Range(12.8, 35.0),
    "temp_f": Range(55.0, 95.0),
    "leaf_temp_f": Range(55.0, 95.0),
    "humidity_percent": Range(20.0, 90.0),
    "vpd_kpa": Range(0.0, 3.0),
    "co2_ppm": Range(300.0, 2000.0),
    "soil_moisture_percent": Range(0.0, 100.0),
}


def test_names_are_stable() -> None:
    """Offer exactly the metrics that the protocol names."""
    assert sorted(CATALOG) == sorted(NUMBERS + BOOLEANS)
    assert VPD == "vpd_kpa"


@pytest.mark.parametrize("name", CATALOG)
def test_metric_is_found_by_its_name(name: str) -> None:
    """File each metric under its own name."""
    assert CATALOG[name].name == name


@pytest.mark.parametrize("name", BOOLEANS)
def test_boolean(name: str) -> None:
    """Give a boolean neither unit nor limits nor statistics."""
    metric = CATALOG[name]
    assert metric.is_boolean
    assert (metric.unit, metric.hard, metric.plausible, metric.state_class) == (None, None, None, None)


@pytest.mark.parametrize("metric", NUMERIC, ids=lambda metric: metric.name)
def test_number(metric: Metric) -> None:
    """Give a number limits the right way up, the plausible ones within the possible ones, and a precision."""
    assert not metric.is_boolean
    assert metric.hard is not None
    assert metric.precision is not None
    assert metric.state_class in {"measurement", "total_increasing"}
    plausible = metric.plausible or metric.hard
    assert metric.hard.low <= plausible.low < plausible.high <= metric.hard.high


@pytest.mark.parametrize(("name", "unit"), UNITS.items())
def test_unit(name: str, unit: str | None) -> None:
    """Measure in the unit that the name says."""
    assert CATALOG[name].unit == unit


@pytest.mark.parametrize(("name", "plausible"), PLAUSIBLE.items())
def test_plausible_range(name: str, plausible: Range) -> None:
    """Flag outside the ranges of the requirements."""
    assert CATALOG[name].plausible == plausible


@pytest.mark.parametrize("place", ["temp", "leaf_temp", "root_temp", "soil_temp"])
def test_temperature(place: str) -> None:
    """Offer each temperature on two scales, to a tenth of a degree."""
    celsius, fahrenheit = Range(-40.0, 85.0), Range(-40.0, 185.0)
    for scale, unit, hard in (("c", "°C", celsius), ("f", "°F", fahrenheit)):
        name = f"{place}_{scale}"
        plausible = PLAUSIBLE[f"temp_{scale}"]
        assert CATALOG[name] == Metric(
            name=name, unit=unit, hard=hard, plausible=plausible, device_class="temperature", precision=1
        )


@pytest.mark.parametrize(
    ("name", "device_class", "plausible", "precision"),
    [
        ("humidity_percent", "humidity", PLAUSIBLE["humidity_percent"], 1),
        ("soil_moisture_percent", "moisture", PLAUSIBLE["soil_moisture_percent"], 1),
        ("tank_level_percent", None, None, 1),
        ("battery_percent", "battery", None, 0),
    ],
)
def test_percentage(name: str, device_class: str | None, plausible: Range | None, precision: int) -> None:
    """Offer shares from 0 to 100, and the battery's beside what is measured in the room."""
    assert CATALOG[name] == Metric(
        name=name,
        unit="%",
        hard=Range(0.0, 100.0),
        plausible=plausible,
        device_class=device_class,
        precision=precision,
        diagnostic=name == "battery_percent",
    )


@pytest.mark.parametrize(
    ("name", "device_class"), [*zip(BOOLEANS, ["smoke", "tamper", "moisture", "door", "plug", "problem"], strict=True)]
)
def test_class_of_a_boolean(name: str, device_class: str) -> None:
    """Say what true means, as Home Assistant does."""
    assert CATALOG[name] == Metric(name=name, device_class=device_class, state_class=None)


@pytest.mark.parametrize("place", ["temp", "leaf_temp", "root_temp", "soil_temp"])
def test_both_scales_have_the_same_limits(place: str) -> None:
    """Refuse the same temperatures in °C and °F, and flag the same to a tenth of a degree."""
    celsius, fahrenheit = CATALOG[f"{place}_c"], CATALOG[f"{place}_f"]
    assert celsius.hard is not None
    assert celsius.plausible is not None
    assert fahrenheit.hard is not None
    assert fahrenheit.plausible is not None
    assert [celsius.hard.low * 1.8 + 32, celsius.hard.high * 1.8 + 32] == [fahrenheit.hard.low, fahrenheit.hard.high]
    assert celsius.plausible.low * 1.8 + 32 == pytest.approx(fahrenheit.plausible.low, abs=0.1)
    assert celsius.plausible.high * 1.8 + 32 == pytest.approx(fahrenheit.plausible.high, abs=0.1)
