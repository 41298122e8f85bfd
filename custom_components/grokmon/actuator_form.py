"""The form for the limits of an output: only what its kind has."""

from collections.abc import Mapping
from typing import Any, Final

from homeassistant.const import UnitOfTime, UnitOfVolume
from homeassistant.helpers.selector import BooleanSelector, NumberSelector
import probatio

from .forms import number
from .gateway.actuators import MAX_DOSE_ML, MAX_INJECTION_S, MAX_LEASE, Actuator, Kind, Role

_DAY_S: Final = 86_400

_SECONDS: Final = UnitOfTime.SECONDS
_MILLILITERS: Final = UnitOfVolume.MILLILITERS
_FIELDS: Final[Mapping[str, NumberSelector | BooleanSelector]] = {
    "lease_s": number(1, MAX_LEASE, _SECONDS, whole=True),
    "min_percent": number(0, 100, "%"),
    "max_percent": number(1, 100, "%"),
    "safe_percent": number(0, 100, "%"),
    "speeds": number(1, 100, whole=True),
    "hours_day": number(0, 24, UnitOfTime.HOURS),
    "min_on_s": number(0, 3600, _SECONDS),
    "min_off_s": number(0, 3600, _SECONDS),
    "ml_per_s": number(0.1, 1000, "mL/s"),
    "dose_ml": number(1, MAX_DOSE_ML, _MILLILITERS),
    "max_dose_ml": number(1, MAX_DOSE_ML, _MILLILITERS),
    "day_ml": number(0, 1_000_000, _MILLILITERS),
    "interval_s": number(0, _DAY_S, _SECONDS),
    "inject_s": number(1, MAX_INJECTION_S, _SECONDS),
    "hour_s": number(0, 3600, _SECONDS),
    "needs_approval": BooleanSelector(),
}
_WHOLE: Final = frozenset({"lease_s", "speeds"})
_OF_KIND: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.LIGHT: ("min_percent", "max_percent", "hours_day"),
    Kind.FAN: ("min_percent", "max_percent", "safe_percent", "speeds"),
    Kind.SWITCH: ("min_on_s", "min_off_s"),
    Kind.PUMP: ("ml_per_s", "dose_ml", "max_dose_ml", "day_ml", "interval_s"),
}
# What is said at a field whose answer does not fit another one.
PROBLEMS: Final[Mapping[str, str]] = {
    "min_percent": "lowest_above_highest",
    "dose_ml": "dose_above_largest",
    "inject_s": "injection_above_hour",
}
_OPTIONAL: Final = frozenset({"speeds", "hours_day"})


def limits_schema(actuator: Actuator) -> probatio.Schema:
    """Return the form for an output."""
    return probatio.Schema(
        {
            (probatio.Optional if name in _OPTIONAL else probatio.Required)(name): _FIELDS[name]
            for name in _names(actuator)
        }
    )


def limits_of(actuator: Actuator) -> dict[str, Any]:
    """Return what the form shows for an output as it is."""
    return {name: value for name in _names(actuator) if (value := getattr(actuator, name)) is not None}


def changed_actuator(actuator: Actuator, answers: Mapping[str, Any]) -> Actuator:
    """Return the output with the answers of its form. Raises RegistryError for limits that make no sense."""
    kept = {name: value for name, value in actuator.as_dict().items() if name not in _names(actuator)}
    answered = {name: int(value) if name in _WHOLE else value for name, value in answers.items()}
    return Actuator.from_dict(kept | answered)


def _names(actuator: Actuator) -> tuple[str, ...]:
    doses = ("inject_s", "hour_s", "interval_s") if actuator.role is Role.CO2_VALVE else ()
    return ("lease_s", *_OF_KIND[actuator.kind], *doses, "needs_approval")
