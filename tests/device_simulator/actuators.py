"""The outputs of a device: commands, leases and timers, without a network and without a clock of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, isfinite
from typing import Any, Literal

type Kind = Literal["light", "fan", "switch", "pump"]
type Applied = Callable[[str, bool, float | None], None]

ACTIONS: dict[str, Kind] = {
    "set_light_intensity": "light",
    "set_fan_speed": "fan",
    "set_switch": "switch",
    "trigger_irrigation": "pump",
}
_PARAMETER = {"light": "intensity_percent", "fan": "speed_percent", "switch": "on", "pump": "amount_ml"}
_MAX_LEASE = 3600
_MAX_DOSE_ML = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ActuatorSpec:
    """Say what an output is, as its settings do."""

    kind: Kind
    safe_percent: float = 0.0
    min_percent: float = 0.0
    max_percent: float = 100.0
    ml_per_s: float = 25.0
    max_run_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what a device answers to a command."""

    cid: str
    result: Literal["done", "rejected", "failed"]
    reason: str = ""
    touched: tuple[str, ...] = ()


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
        ends = [end for end in (self.lease_ends, self.run_ends) if end is not None]
        return min(ends, default=None)


@dataclass(frozen=True, slots=True)
class Change:
    """Hold one change of an output, for the tests."""

    at: float
    name: str
    on: bool
    percent: float
    reason: str


class CommandRejectedError(Exception):
    """A command that the device does not carry out; the text is the reason in its answer."""


@dataclass(slots=True)
class Outputs:
    """Carry out commands and end what nobody prolongs.

    `stuck` are outputs that do not move although the device says that they did; `log` are all changes so far.
    """

    specs: Mapping[str, ActuatorSpec] = field(default_factory=dict)
    applied: Applied = lambda _name, _on, _percent: None
    stuck: set[str] = field(default_factory=set)
    log: list[Change] = field(default_factory=list)
    outputs: dict[str, Output] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with everything off."""
        self.outputs = {name: Output(spec) for name, spec in self.specs.items()}

    @property
    def deadline(self) -> float | None:
        """Tell when the next output ends by itself."""
        return min((end for output in self.outputs.values() if (end := output.deadline) is not None), default=None)

    def command(self, claims: Mapping[str, Any], now: float) -> Answer:
        """Carry out a command that was found to be genuine and new."""
        self.expire(now)
        cid = claims["cid"]
        try:
            return Answer(cid, "done", touched=self._carry_out(claims, now))
        except CommandRejectedError as error:
            return Answer(cid, "rejected", str(error))

    def expire(self, now: float) -> bool:
        """End what is due; tell whether anything was."""
        ended = False
        for name, output in self.outputs.items():
            if output.deadline is None or now < output.deadline:
                continue
            done = output.run_ends is not None and now >= output.run_ends
            self._rest(name, "done" if done else "lease", now)
            ended = True
        return ended

    def by_hand(self, name: str, now: float, *, on: bool, percent: float = 0.0) -> None:
        """Let somebody turn a knob on the device itself."""
        self._set(name, on=on, percent=percent, reason="local", now=now)

    def states(self, now: float, names: tuple[str, ...] | None = None) -> dict[str, dict[str, Any]]:
        """Give the outputs as a state message holds them."""
        return {name: _state(self.outputs[name], now) for name in (self.outputs if names is None else names)}

    def _carry_out(self, claims: Mapping[str, Any], now: float) -> tuple[str, ...]:
        action, params = claims["action"], claims["params"]
        if action == "identify":
            return ()
        name = claims.get("actuator")
        if action == "stop" and name is None:
            for each in self.outputs:
                self._rest(each, "stopped", now)
            return tuple(self.outputs)
        if name not in self.outputs:
            raise CommandRejectedError("unknown_actuator")
        if action == "stop":
            self._rest(name, "stopped", now)
        elif action == "renew":
            self._renew(self.outputs[name], params, _lease(claims), now)
        elif ACTIONS.get(action) == self.outputs[name].spec.kind:
            self._drive(name, claims, params, now)
        else:
            raise CommandRejectedError("unknown_action")
        return (name,)

    @staticmethod
    def _renew(output: Output, params: Mapping[str, Any], lease: int, now: float) -> None:
        if not output.on or output.cid is None or output.cid != params.get("of"):
            raise CommandRejectedError("not_running")
        output.lease_ends = now + lease

    def _drive(self, name: str, claims: Mapping[str, Any], params: Mapping[str, Any], now: float) -> None:
        output = self.outputs[name]
        spec = output.spec
        value = params.get(_PARAMETER[spec.kind])
        if len(params) != 1 or not _is_valid(spec.kind, value):
            raise CommandRejectedError("invalid")
        percent = float(value or 0) if spec.kind in {"light", "fan"} else 0.0
        if value is None or not value:
            self._set(name, on=False, percent=0.0, reason="command", now=now)
            return
        if percent and not spec.min_percent <= percent <= spec.max_percent:
            raise CommandRejectedError("limit")
        run = value / spec.ml_per_s if spec.kind == "pump" else None
        if run is not None and run > spec.max_run_s:
            raise CommandRejectedError("limit")
        lease = _lease(claims)
        self._set(name, on=True, percent=percent, reason="command", now=now)
        output.cid = claims["cid"]
        output.lease_ends = now + lease
        output.run_ends = None if run is None else now + run

    def _rest(self, name: str, reason: str, now: float) -> None:
        safe = self.outputs[name].spec.safe_percent
        self._set(name, on=safe > 0, percent=safe, reason=reason, now=now)

    def _set(self, name: str, *, on: bool, percent: float, reason: str, now: float) -> None:
        output = self.outputs[name]
        output.cid = output.lease_ends = output.run_ends = None
        if name in self.stuck:
            return
        output.on, output.percent, output.reason = on, percent, reason
        self.log.append(Change(now, name, on, percent, reason))
        self.applied(name, on, percent if output.spec.kind in {"light", "fan"} else None)


def specs_from(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, ActuatorSpec]:
    """Give the outputs that the settings of a device name."""
    return {name: ActuatorSpec(**spec) for name, spec in settings.items()}


def _state(output: Output, now: float) -> dict[str, Any]:
    state: dict[str, Any] = {"on": output.on, "reason": output.reason}
    if output.spec.kind in {"light", "fan"}:
        state["percent"] = output.percent
    if output.lease_ends is not None:
        state["lease_left_s"] = max(0, ceil(output.lease_ends - now))
    if output.cid is not None:
        state["cid"] = output.cid
    return state


def _is_valid(kind: Kind, value: Any) -> bool:
    if kind == "switch":
        return type(value) is bool
    if type(value) not in {int, float} or not isfinite(value):
        return False
    return bool(0 <= value <= (_MAX_DOSE_ML if kind == "pump" else 100))


def _lease(claims: Mapping[str, Any]) -> int:
    lease = claims.get("lease_s")
    if type(lease) is not int or not 1 <= lease <= _MAX_LEASE:
        raise CommandRejectedError("invalid")
    return lease
