"""What can be switched: kinds, roles and limits of actuators, and the commands to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from math import inf
import re
from typing import Any, Final, Self

from .errors import Code, PolicyError, RegistryError

NAME_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
MAX_ACTUATORS: Final = 32
MAX_LEASE: Final = 3600
# "IoT Security Best Practices for Grok & Mon", section 4: the bounds of every command.
MAX_PERCENT: Final = 100.0
MAX_DOSE_ML: Final = 1000.0
MAX_INJECTION_S: Final = 120.0


class Kind(StrEnum):
    """How an actuator is driven."""

    LIGHT = "light"
    FAN = "fan"
    SWITCH = "switch"
    PUMP = "pump"


class Role(StrEnum):
    """What an actuator does in the room; interlocks and budgets go by it."""

    GROW_LIGHT = "grow_light"
    EXHAUST = "exhaust"
    CIRCULATION = "circulation"
    INTAKE = "intake"
    HUMIDIFIER = "humidifier"
    DEHUMIDIFIER = "dehumidifier"
    HEAT_MAT = "heat_mat"
    CO2_VALVE = "co2_valve"
    OUTLET = "outlet"
    IRRIGATION = "irrigation"


# What the figures of a command are in.
UNITS: Final = {"percent": "%", "amount_ml": "mL", "seconds": "s"}

KIND_OF: Final[Mapping[Role, Kind]] = {
    Role.GROW_LIGHT: Kind.LIGHT,
    Role.EXHAUST: Kind.FAN,
    Role.CIRCULATION: Kind.FAN,
    Role.INTAKE: Kind.FAN,
    Role.HUMIDIFIER: Kind.SWITCH,
    Role.DEHUMIDIFIER: Kind.SWITCH,
    Role.HEAT_MAT: Kind.SWITCH,
    Role.CO2_VALVE: Kind.SWITCH,
    Role.OUTLET: Kind.SWITCH,
    Role.IRRIGATION: Kind.PUMP,
}

# Lamps and fans bridge a restart of Home Assistant; what floods or suffocates ends within seconds.
_LEASES: Final = {Role.CO2_VALVE: 30, Role.IRRIGATION: 15, Role.HEAT_MAT: 120, Role.HUMIDIFIER: 120}
_DEFAULT_LEASE: Final = 300
# Big motors and lamps: one after the other, or a breaker trips.
_LOADS: Final = frozenset({Role.GROW_LIGHT, Role.HEAT_MAT, Role.DEHUMIDIFIER, Role.HUMIDIFIER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Actuator:
    """One output of a device, with its limits.

    `safe_percent` is where a fan goes when nobody asks for anything; every other output goes off. `min_on_s` and
    `min_off_s` space the starts of a compressor; turning off is never refused. `interval_s` is the least time between
    two doses, `day_ml` and `hours_day` are budgets in 24 hours, `hour_s` is one of seconds in an hour; None is none.
    """

    name: str
    role: Role
    safe_percent: float = 0.0
    min_percent: float = 0.0
    max_percent: float = MAX_PERCENT
    speeds: int | None = None
    lease_s: int = 0
    min_on_s: float = 0.0
    min_off_s: float = 0.0
    needs_approval: bool = False
    ml_per_s: float = 25.0
    dose_ml: float = 200.0
    max_dose_ml: float = MAX_DOSE_ML
    day_ml: float = 5000.0
    interval_s: float = 60.0
    inject_s: float = 60.0
    hour_s: float = 240.0
    hours_day: float | None = None

    def __post_init__(self) -> None:
        """Take the lease of the role where none is given."""
        if self.lease_s == 0:
            object.__setattr__(self, "lease_s", _LEASES.get(self.role, _DEFAULT_LEASE))

    @property
    def kind(self) -> Kind:
        """Return how it is driven."""
        return KIND_OF[self.role]

    @property
    def has_percent(self) -> bool:
        """Tell whether it is set in percent."""
        return self.kind is Kind.LIGHT or self.kind is Kind.FAN

    @property
    def is_load(self) -> bool:
        """Tell whether its start is staggered with those of others."""
        return self.role in _LOADS

    @property
    def ends_by_itself(self) -> bool:
        """Tell whether every command to it is one dose: of water, or of CO2."""
        return self.role is Role.IRRIGATION or self.role is Role.CO2_VALVE

    @property
    def max_run_s(self) -> float:
        """Return the longest that a pump may run for one dose."""
        return self.max_dose_ml / self.ml_per_s

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return a checked actuator from plain data. Raises RegistryError (`actuator_invalid`)."""
        known = {each.name for each in fields(cls)}
        if unknown := data.keys() - known:
            raise RegistryError(Code.ACTUATOR_INVALID, min(map(str, unknown)))
        role = data.get("role")
        if type(role) is not str or role not in {each.value for each in Role}:
            raise RegistryError(Code.ACTUATOR_INVALID, "role")
        actuator = cls(**{**data, "role": Role(role), "name": data.get("name", role)})
        check(actuator)
        return actuator

    def as_dict(self) -> dict[str, Any]:
        """Return the plain data that `from_dict` takes, without what is at its default."""
        default = Actuator(name=self.name, role=self.role)
        changed = {
            each.name: value
            for each in fields(self)
            if (value := getattr(self, each.name)) != getattr(default, each.name)
        }
        return {"name": self.name, "role": self.role.value} | changed

    def for_device(self) -> dict[str, Any]:
        """Return what the device itself has to know of this output."""
        spec: dict[str, Any] = {"kind": self.kind.value}
        if self.has_percent:
            spec |= {"min_percent": self.min_percent, "max_percent": self.max_percent}
        if self.kind is Kind.FAN:
            spec["safe_percent"] = self.safe_percent
        if self.kind is Kind.PUMP:
            spec |= {"ml_per_s": self.ml_per_s, "max_run_s": self.max_run_s}
        return spec


def is_within(value: object, low: float, high: float) -> bool:
    """Tell whether a value is a number within bounds."""
    return type(value) in {int, float} and low <= value <= high  # type: ignore[operator] # a number, by its type


def check(actuator: Actuator) -> None:
    """Refuse an actuator that could not be driven safely. Raises RegistryError (`actuator_invalid`)."""
    if type(actuator.name) is not str or NAME_PATTERN.fullmatch(actuator.name) is None:
        raise RegistryError(Code.ACTUATOR_INVALID, "name")
    bounds: tuple[tuple[str, float, float], ...] = (
        ("min_percent", 0.0, MAX_PERCENT),
        ("max_percent", 1.0, MAX_PERCENT),
        ("safe_percent", 0.0, MAX_PERCENT if actuator.kind is Kind.FAN else 0.0),
        ("min_on_s", 0.0, 3600.0),
        ("min_off_s", 0.0, 3600.0),
        ("ml_per_s", 0.1, 1000.0),
        ("max_dose_ml", 1.0, MAX_DOSE_ML),
        ("dose_ml", 1.0, MAX_DOSE_ML),
        ("day_ml", 0.0, 1_000_000.0),
        ("interval_s", 0.0, 86_400.0),
        ("inject_s", 1.0, MAX_INJECTION_S),
        ("hour_s", 0.0, 3600.0),
    )
    for name, low, high in bounds:
        if not is_within(getattr(actuator, name), low, high):
            raise RegistryError(Code.ACTUATOR_INVALID, f"{name}: {low:g} to {high:g}")
    if type(actuator.lease_s) is not int or not 1 <= actuator.lease_s <= MAX_LEASE:
        raise RegistryError(Code.ACTUATOR_INVALID, f"lease_s: 1 to {MAX_LEASE}")
    if actuator.speeds is not None and (type(actuator.speeds) is not int or not 1 <= actuator.speeds <= MAX_PERCENT):
        raise RegistryError(Code.ACTUATOR_INVALID, "speeds: 1 to 100")
    if actuator.hours_day is not None and not is_within(actuator.hours_day, 0.0, 24.0):
        raise RegistryError(Code.ACTUATOR_INVALID, "hours_day: 0 to 24")
    if type(actuator.needs_approval) is not bool:
        raise RegistryError(Code.ACTUATOR_INVALID, "needs_approval")
    _check_together(actuator)


def _check_together(actuator: Actuator) -> None:
    if actuator.min_percent >= actuator.max_percent:
        raise RegistryError(Code.ACTUATOR_INVALID, "min_percent is not below max_percent", field="min_percent")
    if actuator.dose_ml > actuator.max_dose_ml:
        raise RegistryError(Code.ACTUATOR_INVALID, "dose_ml is above max_dose_ml", field="dose_ml")
    if actuator.role is Role.CO2_VALVE and actuator.inject_s > actuator.hour_s:
        raise RegistryError(Code.ACTUATOR_INVALID, "inject_s is above hour_s", field="inject_s")


@dataclass(frozen=True, slots=True)
class Key:
    """The name of one output in the room."""

    device_id: str
    actuator: str

    def __str__(self) -> str:
        return f"{self.device_id}/{self.actuator}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What somebody wants of one output.

    `percent` for lights and fans, `amount_ml` for a pump, `seconds` for a dose of CO2, `on` for every switch. A value
    of 0 or False is *off*. Values come from people, automations and models: `normalise` judges them.
    """

    key: Key
    on: bool | None = None
    percent: float | None = None
    amount_ml: float | None = None
    seconds: float | None = None

    @property
    def energises(self) -> bool:
        """Tell whether anything but *off* is asked for. What cannot be understood does, and is refused."""
        amounts = (self.percent, self.amount_ml, self.seconds)
        return self.on is not False and not any(amount == 0 for amount in amounts if amount is not None)

    def params(self) -> dict[str, Any]:
        """Return what is asked for as plain data."""
        named = {"on": self.on, "percent": self.percent, "amount_ml": self.amount_ml, "seconds": self.seconds}
        return {name: value for name, value in named.items() if value is not None}


def normalise(command: Command, actuator: Actuator) -> Command:
    """Return the command in the one form that fits the actuator, with defaults filled in.

    Raises PolicyError: `parameter_invalid` for a value of the wrong type, sign or kind, `limit_exceeded` beyond bounds.
    Nothing is ever clamped: 99,999 is a mistake that its maker should hear of.
    """
    given = {name for name in ("percent", "amount_ml", "seconds") if getattr(command, name) is not None}
    wanted = {Kind.LIGHT: "percent", Kind.FAN: "percent", Kind.PUMP: "amount_ml"}.get(actuator.kind)
    if actuator.role is Role.CO2_VALVE:
        wanted = "seconds"
    if command.on is not None and type(command.on) is not bool:
        raise PolicyError(Code.PARAMETER_INVALID, "on is not a boolean")
    if given - {wanted}:
        raise PolicyError(Code.PARAMETER_INVALID, f"{actuator.name} takes no {min(given - {wanted})}")
    if not command.energises:
        return _off(command, actuator)
    if wanted is None:
        return replace(command, on=True)
    value = getattr(command, wanted)
    if value is None:
        value = {"percent": actuator.max_percent, "amount_ml": actuator.dose_ml, "seconds": actuator.inject_s}[wanted]
    low, high = {
        "percent": (actuator.min_percent, actuator.max_percent),
        "amount_ml": (0.0, actuator.max_dose_ml),
        "seconds": (1.0, MAX_INJECTION_S),
    }[wanted]
    # Not isfinite: that cannot tell of a whole number beyond every float.
    if type(value) not in {int, float} or not -inf < value < inf:
        raise PolicyError(Code.PARAMETER_INVALID, f"{wanted} is not a finite number")
    if value < 0:
        raise PolicyError(Code.PARAMETER_INVALID, f"{wanted} is negative")
    if not low <= value <= high:
        raise PolicyError(
            Code.LIMIT_EXCEEDED,
            f"{wanted} of {actuator.name}: {low:g} to {high:g}",
            values={"low": f"{low:g}", "high": f"{high:g}", "unit": UNITS[wanted]},
            limit=high,
        )
    changes: dict[str, Any] = {"on": True, wanted: float(value)}
    return replace(command, **changes)


def _off(command: Command, actuator: Actuator) -> Command:
    return Command(key=command.key, on=False, percent=0.0 if actuator.has_percent else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a device says that one of its outputs does."""

    on: bool
    percent: float | None = None
    # It counts down in every state; that alone is nothing new.
    lease_left_s: int | None = field(default=None, compare=False)
    reason: str = ""
    cid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The time, as the hub knows it.

    `wall` is in seconds since the epoch; `steady` never jumps and goes on over a restart: leases, budgets and rates go
    by it; `day_s` is the local time of the day in seconds, by which lights go.
    """

    wall: float
    steady: float
    day_s: float = field(default=0.0)
