"""The outputs of a device: commands, leases and timers, without a network and without a clock of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Literal, NamedTuple

type Kind = Literal["light", "fan", "switch", "pump"]
type OutputHook = Callable[[str, bool, float | None], None]
"""Takes the name of an output, whether it is on, and at how many percent, of lights and fans."""

MAX_LEASE_S = 3600
MAX_DOSE_ML = 1000.0
_PERCENT_KINDS = frozenset({"light", "fan"})
# What each action can drive, and its one parameter.
_DRIVING: dict[str, tuple[Kind, str]] = {
    "set_light_intensity": ("light", "intensity_percent"),
    "set_fan_speed": ("fan", "speed_percent"),
    "set_switch": ("switch", "on"),
    "trigger_irrigation": ("pump", "amount_ml"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ActuatorSpec:
    """Say what an output is, as the settings of a device do."""

    kind: Kind
    safe_percent: float = 0.0
    """Where a fan rests; everything else rests off."""
    min_percent: float = 0.0
    max_percent: float = 100.0
    ml_per_s: float = 25.0
    max_run_s: float = 60.0

    @property
    def has_percent(self) -> bool:
        """Tell whether it is set in percent."""
        return self.kind in _PERCENT_KINDS


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what a device answers to a command."""

    cid: str
    result: Literal["done", "rejected", "failed"]
    reason: str = ""
    about: tuple[str, ...] = ()
    """The outputs whose state goes with the answer."""


@dataclass(slots=True)
class Output:
    """Hold what one output does. `lease_ends` and `run_ends` are on the device's own clock."""

    spec: ActuatorSpec
    on: bool = False
    percent: float = 0.0
    reason: str = "boot"
    cid: str | None = None
    lease_ends: float | None = None
    run_ends: float | None = None

    @property
    def deadline(self) -> float | None:
        """Tell when it ends by itself."""
        return min((end for end in (self.lease_ends, self.run_ends) if end is not None), default=None)

    def state(self, now: float) -> dict[str, Any]:
        """Give what it does as a message holds it."""
        state: dict[str, Any] = {"on": self.on, "reason": self.reason}
        if self.spec.has_percent:
            state["percent"] = self.percent
        if self.lease_ends is not None:
            state["lease_left_s"] = max(0, ceil(self.lease_ends - now))
        if self.cid is not None:
            state["cid"] = self.cid
        return state


class Change(NamedTuple):
    """One setting of an output."""

    at: float
    name: str
    on: bool
    percent: float
    reason: str


class CommandRejectedError(Exception):
    """A command that the device does not carry out; the text is the reason in its answer."""


@dataclass(slots=True)
class Outputs:
    """Carry out commands and end what nobody prolongs."""

    specs: Mapping[str, ActuatorSpec] = field(default_factory=dict)
    on_output: OutputHook = lambda _name, _on, _percent: None
    stuck: set[str] = field(default_factory=set)
    """Outputs that do not move, although commands to them are answered as done. Their state is the truth."""
    broken: set[str] = field(default_factory=set)
    """Outputs that cannot be driven: commands to them fail."""
    log: list[Change] = field(default_factory=list)
    """Every setting of an output so far."""
    outputs: dict[str, Output] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with everything off."""
        self.outputs = {name: Output(spec) for name, spec in self.specs.items()}

    def __getitem__(self, name: str) -> Output:
        return self.outputs[name]

    @property
    def deadline(self) -> float | None:
        """Tell when the next output ends by itself."""
        return min((end for output in self.outputs.values() if (end := output.deadline) is not None), default=None)

    def command(self, claims: Mapping[str, Any], now: float) -> Answer:
        """Carry out a command that was found to be genuine and new; call `expire` first."""
        cid, about = claims["cid"], self.about(claims)
        if self.broken.intersection(about):
            return Answer(cid, "failed", "broken", about)
        try:
            self._carry_out(claims, now)
        except CommandRejectedError as error:
            return Answer(cid, "rejected", str(error), about)
        return Answer(cid, "done", about=about)

    def about(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the outputs that a command is about."""
        name = claims.get("actuator")
        if name is None:
            return tuple(self.outputs) if claims.get("action") == "stop" else ()
        return (name,) if name in tuple(self.outputs) else ()

    def expire(self, now: float) -> bool:
        """End what is due; tell whether anything was."""
        due = [
            (name, each) for name, each in self.outputs.items() if each.deadline is not None and now >= each.deadline
        ]
        for name, output in due:
            self._rest(name, "done" if output.run_ends == output.deadline else "lease", now)
        return bool(due)

    def by_hand(self, name: str, now: float, *, on: bool, percent: float = 0.0) -> None:
        """Let somebody turn a knob on the device itself."""
        spec = self.specs[name]
        run_ends = now + spec.max_run_s if on and spec.kind == "pump" else None
        self._set(name, "local", now, on=on, percent=percent, run_ends=run_ends)

    def states(self, now: float, names: tuple[str, ...] | None = None) -> dict[str, dict[str, Any]]:
        """Give the outputs as a state message holds them."""
        return {name: self.outputs[name].state(now) for name in (self.outputs if names is None else names)}

    def _carry_out(self, claims: Mapping[str, Any], now: float) -> None:
        action, name, params = claims.get("action"), claims.get("actuator"), claims.get("params")
        if action not in (*_DRIVING, "stop", "renew", "identify"):
            raise CommandRejectedError("unknown_action")
        if name is None and action in {"stop", "identify"}:
            _check_params(params, set())
            if action == "stop":
                for each in self.outputs:
                    self._rest(each, "stopped", now)
            return
        if name not in tuple(self.outputs):
            raise CommandRejectedError("unknown_actuator")
        if action == "identify":
            raise CommandRejectedError("invalid")
        if action == "stop":
            _check_params(params, set())
            self._rest(name, "stopped", now)
        elif action == "renew":
            self._renew(self.outputs[name], claims, now)
        else:
            self._drive(name, *_DRIVING[action], claims, now)

    @staticmethod
    def _renew(output: Output, claims: Mapping[str, Any], now: float) -> None:
        of = _check_params(claims.get("params"), {"of"})["of"]
        if type(of) is not str:
            raise CommandRejectedError("invalid")
        lease = _lease(claims)
        if not output.on or output.cid != of:
            raise CommandRejectedError("not_running")
        output.lease_ends = now + lease

    def _drive(self, name: str, kind: Kind, parameter: str, claims: Mapping[str, Any], now: float) -> None:
        spec = self.specs[name]
        if spec.kind != kind:
            raise CommandRejectedError("unknown_action")
        value = _check_params(claims.get("params"), {parameter})[parameter]
        if not _is_valid(kind, value):
            raise CommandRejectedError("invalid")
        if not value:
            self._set(name, "command", now, on=False)
            return
        lease = _lease(claims)
        run = value / spec.ml_per_s if kind == "pump" else None
        percent = float(value) if spec.has_percent else 0.0
        if spec.has_percent and not spec.min_percent <= percent <= spec.max_percent:
            raise CommandRejectedError("limit")
        if run is not None and run > spec.max_run_s:
            raise CommandRejectedError("limit")
        run_ends = None if run is None else now + run
        self._set(
            name, "command", now, on=True, percent=percent, cid=claims["cid"], lease_ends=now + lease, run_ends=run_ends
        )

    def _rest(self, name: str, reason: str, now: float) -> None:
        spec = self.specs[name]
        safe = spec.safe_percent if spec.kind == "fan" else 0.0
        self._set(name, reason, now, on=safe > 0, percent=safe)

    def _set(
        self,
        name: str,
        reason: str,
        now: float,
        *,
        on: bool,
        percent: float = 0.0,
        cid: str | None = None,
        lease_ends: float | None = None,
        run_ends: float | None = None,
    ) -> None:
        output = self.outputs[name]
        output.reason, output.cid, output.lease_ends, output.run_ends = reason, cid, lease_ends, run_ends
        if name in self.stuck:
            return
        output.on, output.percent = on, percent
        self.log.append(Change(now, name, on, percent, reason))
        self.on_output(name, on, percent if output.spec.has_percent else None)


def specs_from(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, ActuatorSpec]:
    """Give the outputs that the settings of a device name."""
    return {name: ActuatorSpec(**spec) for name, spec in settings.items()}


def _check_params(params: Any, names: set[str]) -> dict[str, Any]:
    if type(params) is not dict or params.keys() != names:
        raise CommandRejectedError("invalid")
    return params


def _is_valid(kind: Kind, value: Any) -> bool:
    if kind == "switch":
        return type(value) is bool
    if type(value) not in {int, float}:
        return False
    return bool(0 < value <= MAX_DOSE_ML if kind == "pump" else 0 <= value <= 100)


def _lease(claims: Mapping[str, Any]) -> int:
    lease = claims.get("lease_s")
    if type(lease) is not int or not 1 <= lease <= MAX_LEASE_S:
        raise CommandRejectedError("invalid")
    return lease
