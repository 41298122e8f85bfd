"""Climate quantities that follow from measured ones."""

from collections.abc import Mapping
from math import exp
from typing import Final

from .catalog import VPD
from .models import Value

AIR: Final = ("temp_c", "temp_f")
LEAF: Final = ("leaf_temp_c", "leaf_temp_f")
HUMIDITY: Final = "humidity_percent"
# What a sensor can output. Far below it the formula has its pole, and it overflows beside that.
_COLDEST: Final = -40.0
_HOTTEST: Final = 85.0


def celsius_of(fahrenheit: float) -> float:
    """Return a temperature in °C."""
    return (fahrenheit - 32.0) / 1.8


def saturation_vapour_pressure(temperature_c: float) -> float:
    """Return the saturation vapour pressure over water in kPa.

    Tetens' formula, as in FAO Irrigation and Drainage Paper 56, equation 11: 0.6108 · exp(17.27 · T / (T + 237.3)).
    """
    return 0.6108 * exp(17.27 * temperature_c / (temperature_c + 237.3))


def vapour_pressure_deficit(air_c: float, humidity_percent: float, leaf_c: float | None = None) -> float:
    """Return the vapour pressure deficit in kPa, of the leaf where its temperature is known, else of the air.

    Saturation pressure at the leaf's temperature less the vapour pressure of the air (FAO-56, equations 11 and 17).
    Below zero when the leaf is colder than the dew point.
    """
    vapour_pressure = saturation_vapour_pressure(air_c) * humidity_percent / 100.0
    return saturation_vapour_pressure(air_c if leaf_c is None else leaf_c) - vapour_pressure


def derives_vpd(metrics: frozenset[str]) -> bool:
    """Tell whether the deficit follows from these metrics and is not among them."""
    return VPD not in metrics and HUMIDITY in metrics and not metrics.isdisjoint(AIR)


def vpd_of(values: Mapping[str, Value]) -> float | None:
    """Return the deficit that follows from one reading in kPa, or None where it takes an absent or impossible value."""
    humidity = values.get(HUMIDITY)
    air = _celsius(values, *AIR)
    if humidity is None or air is None:
        return None
    # Adding zero takes the sign from a rounded -0.
    return round(vapour_pressure_deficit(air, humidity, _celsius(values, *LEAF)), 3) + 0.0


def _celsius(values: Mapping[str, Value], celsius: str, fahrenheit: str) -> float | None:
    """Return a temperature in °C; None where it is absent, or impossible, which the range policy refuses."""
    if (value := values.get(celsius)) is None:
        if (value := values.get(fahrenheit)) is None:
            return None
        value = celsius_of(value)
    return value if _COLDEST <= value <= _HOTTEST else None
