"""Outputs: what was asked of each actuator, what it was last told, and what its device says that it does.

An output has at most one order on its way and at most one wish that stands. The wish is what the hub renews the lease
for; without one, an output is to be off, or where its safe state is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Any, Final, Self

from .actuators import Actuator, Caller, Command, Key, Observed, Principal

# "Commanded and observed differ for 5 s": the time that a device has to do what it acknowledged.
MISMATCH_S: Final = 5.0
_PERCENT_TOLERANCE: Final = 1.0
# How often an exhaust fan is asked again that did not do what an interlock wants.
_DRIVE_AGAIN_S: Final = 10.0
# How an output may come to be off without anything being wrong.
_ENDED: Final = frozenset({"boot", "lease", "done", "stopped", "safe", "local"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command on its way, or one that was carried out.

    `run_s` is how long it is to stay on, None for as long as nobody says otherwise.
    """

    cid: str
    command: Command
    principal: Principal
    at: float
    lease_s: int = 0
    run_s: float | None = None

    @property
    def key(self) -> Key:
        """Return the output that it is about."""
        return self.command.key

    def as_dict(self) -> dict[str, Any]:
        """Return the order as plain data."""
        return {
            "cid": self.cid,
            "device_id": self.key.device_id,
            "actuator": self.key.actuator,
            "params": self.command.params(),
            "caller": self.principal.caller.value,
            "identity": self.principal.identity,
            "at": self.at,
            "lease_s": self.lease_s,
            "run_s": self.run_s,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the order that `as_dict` wrote."""
        return cls(
            cid=data["cid"],
            command=Command(key=Key(data["device_id"], data["actuator"]), **data["params"]),
            principal=Principal(caller=Caller(data["caller"]), identity=data["identity"]),
            at=data["at"],
            lease_s=data["lease_s"],
            run_s=data["run_s"],
        )


@dataclass(slots=True)
class Wish:
    """What is to be on. `lease_until` is when the device ends it unless it is renewed."""

    order: Order
    until: float | None
    renewed_at: float
    lease_until: float
    confirmed_at: float

    def as_dict(self) -> dict[str, Any]:
        """Return the wish as plain data."""
        return {**self.order.as_dict(), "until": self.until, "lease_until": self.lease_until}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], now: float) -> Self:
        """Return the wish that `as_dict` wrote."""
        lease_until = data["lease_until"]
        return cls(Order.from_dict(data), data["until"], lease_until - data["lease_s"], lease_until, now)


class Step(StrEnum):
    """What a report of a device means for an output."""

    SAME = "same"
    ENDED = "ended"
    UNWANTED = "unwanted"
    FAULT = "fault"


@dataclass(slots=True)
class Output:
    """One actuator of one device.

    `observed` is what its device last said, None before the first time. `fault` latches until an administrator resets
    it. `held_by` is the class of who last commanded it, at `commanded_at`. `forced` says that an interlock drives it,
    for the last time at `driven_at`, `resume` what stood before that, `let_be` that an administrator switched it off
    all the same.
    """

    key: Key
    actuator: Actuator
    zone_id: str | None = None
    observed: Observed | None = None
    pending: Order | None = None
    wish: Wish | None = None
    fault: str | None = None
    mismatch_since: float | None = None
    started_at: float | None = None
    stopped_at: float | None = None
    held_by: Caller | None = None
    commanded_at: float = 0.0
    forced: bool = False
    driven_at: float = 0.0
    resume: Order | None = None
    let_be: bool = False

    @property
    def is_on(self) -> bool:
        """Tell whether it is on, as far as anybody knows: what was sent and not answered counts as on."""
        observed = self.observed is not None and self.observed.on
        return observed or self.wish is not None or (self.pending is not None and self.pending.command.energises)

    @property
    def in_step(self) -> bool:
        """Tell whether the device does what was asked of it."""
        return self.fault is None and self.mismatch_since is None

    def as_dict(self) -> dict[str, Any]:
        """Return what has to survive a restart, as plain data."""
        return {
            "device_id": self.key.device_id,
            "actuator": self.key.actuator,
            "fault": self.fault,
            "started_at": self.started_at,
            "stopped_at": self.stopped_at,
            "wish": self.wish.as_dict() if self.wish is not None else None,
            "forced": self.forced,
            "resume": self.resume.as_dict() if self.resume is not None else None,
        }

    def take_up(self, data: Mapping[str, Any], now: float) -> None:
        """Take up what `as_dict` returned before a restart; a wish stands only while its lease does."""
        self.fault, self.started_at, self.stopped_at = data["fault"], data["started_at"], data["stopped_at"]
        # Earlier releases did not save these.
        self.forced, resume = data.get("forced", False), data.get("resume")
        self.resume = Order.from_dict(resume) if resume is not None else None
        wish = data["wish"]
        if wish is not None and now < wish["lease_until"]:
            self.wish = Wish.from_dict(wish, now)

    def send(self, order: Order) -> Order | None:
        """Note an order that is on its way; return the one that it takes the place of."""
        replaced, self.pending = self.pending, order
        if not order.command.energises:
            # From here on nothing is renewed, whatever becomes of the order: the lease ends it at the latest.
            self.wish = None
        return replaced

    def confirm(self, order: Order, now: float) -> None:
        """Note that the device did what was ordered."""
        self.mismatch_since = None
        if not order.command.energises:
            self.wish = None
            return
        until = None if order.run_s is None else now + order.run_s
        self.wish = Wish(order, until, now, now + order.lease_s, now)

    def renewed(self, now: float) -> None:
        """Note that the device was told to go on."""
        if self.wish is not None:
            self.wish.renewed_at = now
            self.wish.lease_until = now + self.lease_of(now)

    def lease_of(self, now: float) -> int:
        """Return the lease that a renewal gives: no longer than what is still to run."""
        if self.wish is None:
            return 0
        if self.wish.until is None:
            return self.wish.order.lease_s
        return max(1, min(self.wish.order.lease_s, ceil(self.wish.until - now)))

    def drop(self) -> Order | None:
        """Give up the order that is on its way and the wish that stands; return the order."""
        pending, self.pending, self.wish = self.pending, None, None
        self.forced, self.resume, self.mismatch_since = False, None, None
        return pending

    def report(self, observed: Observed, now: float) -> Step:
        """Take over what the device says; tell what it means."""
        was_on = self.observed is not None and self.observed.on
        self.observed = observed
        if observed.on and not was_on:
            self.started_at = now
        elif was_on and not observed.on:
            self.stopped_at = now
        if self.pending is not None:
            return Step.SAME
        if self.wish is None:
            return self._judge_idle(observed, now)
        if observed.on and self._matches(observed):
            self.mismatch_since = None
            self.wish.confirmed_at = now
            return Step.SAME
        if not observed.on and observed.reason in _ENDED and observed.cid in {None, self.wish.order.cid}:
            self.wish, self.mismatch_since, self.forced = None, None, False
            return Step.ENDED
        return self._differs(now)

    def overdue(self, now: float) -> bool:
        """Tell whether the device has had its time to do what it acknowledged."""
        # What is on its way gives it its time anew.
        waits = self.fault is None and self.pending is None
        return waits and self.mismatch_since is not None and now - self.mismatch_since >= MISMATCH_S

    def driven_in_vain(self, now: float) -> bool:
        """Tell whether what an interlock wants did not come about, and may now that the device is there."""
        return self.wish is None and self.observed is not None and now - self.driven_at >= _DRIVE_AGAIN_S

    def _judge_idle(self, observed: Observed, now: float) -> Step:
        safe = self.actuator.safe_percent
        at_rest = not observed.on or (safe > 0 and self._is_near(observed, safe))
        if at_rest:
            self.mismatch_since = None
            return Step.SAME
        return Step.FAULT if self._differs(now) is Step.FAULT else Step.UNWANTED

    def _differs(self, now: float) -> Step:
        if self.mismatch_since is None:
            self.mismatch_since = now
        return Step.FAULT if self.overdue(now) else Step.SAME

    def _matches(self, observed: Observed) -> bool:
        """Tell whether what is on is what the wish asked for, as near as the device can set it."""
        wanted = self.wish.order.command.percent if self.wish is not None else None
        return wanted is None or self._is_near(observed, wanted)

    def _is_near(self, observed: Observed, percent: float) -> bool:
        """Tell whether a device is at a percentage; one that does not say where it is may be."""
        if observed.percent is None:
            return True
        step = 50.0 / self.actuator.speeds if self.actuator.speeds else 0.0
        return abs(observed.percent - percent) <= _PERCENT_TOLERANCE + step
