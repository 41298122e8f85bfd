"""Outputs: what was asked of each actuator, what it was last told, and what its device says that it does.

An output has at most one order on its way and at most one wish that stands. The wish is what the hub renews the lease
for; without one, an output is to be off, or where its safe state is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import ceil
from typing import Any, Final

from .actuators import Actuator, Command, Key, Observed
from .models import Ack, Result
from .orders import Order, Wish
from .principals import Caller, Principal
from .ratelimit import TokenBucket

# "Commanded and observed differ for 5 s": the time that a device has to do what it acknowledged.
MISMATCH_S: Final = 5.0
_PERCENT_TOLERANCE: Final = 1.0
# A pump is given this much longer than its dose takes before its lease is no longer renewed.
_PUMP_MARGIN_S: Final = 2.0
# How often an output is told again that did not do what the hub itself wants of it.
_AGAIN_S: Final = 10.0
# How soon a renewal is tried again that could not be sent.
_RENEW_AGAIN_S: Final = 5.0
# So often in a minute an interlock lets a fan go that it drove: sensors flutter.
_LETS_GO: Final = 4
# So often in a minute a device is told to stop what goes on and off unasked.
_STOPS: Final = 3
_MINUTE_S: Final = 60.0
# Who gives a fan back that an interlock drove.
GIVEN_BACK: Final = "interlock_ended"
# What a device says to a renewal of what is not on by that command.
NOT_RUNNING: Final = "not_running"
# How an output may come to be at rest without anything being wrong.
_ENDED: Final = frozenset({"boot", "lease", "done", "stopped", "safe", "local"})


def is_driving(who: Principal) -> bool:
    """Tell whether it is an interlock that wants something on."""
    return who.caller is Caller.SYSTEM and who.identity != GIVEN_BACK


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
    it. `started_at` and `stopped_at` are when it last did, as far as anybody knows. `held_by` is the class of who last
    commanded it, at `commanded_at`.

    `kept_off` says that *off* was the last that anybody asked of it. `taken_up` says that the wish is of an earlier
    run, and that the device has not spoken since. `told_at` is when it was last told to stop because it may not go on.
    `unasked_since` is since when it has been on unasked, `unasked_told_at` when it was last told to stop because of
    that.

    `forced` says that an interlock drives it, or has yet to give it back, which was tried `returns` times; `driven_at`
    is when it was last driven or given back, `resume` what stood before that. `let_be` says that an administrator
    switched it off all the same. `lets_go` and `stops` bound how often the hub itself lets it go and stops it.
    """

    key: Key
    actuator: Actuator
    zone_id: str | None = None
    observed: Observed | None = None
    pending: Order | None = None
    wish: Wish | None = None
    taken_up: bool = False
    fault: str | None = None
    mismatch_since: float | None = None
    started_at: float | None = None
    stopped_at: float | None = None
    held_by: Caller | None = None
    commanded_at: float = 0.0
    told_at: float | None = None
    unasked_since: float | None = None
    unasked_told_at: float | None = None
    forced: bool = False
    returns: int = 0
    driven_at: float = 0.0
    resume: Order | None = None
    kept_off: bool = False
    let_be: bool = False
    lets_go: TokenBucket = field(default_factory=lambda: TokenBucket(_LETS_GO, _MINUTE_S), compare=False)
    stops: TokenBucket = field(default_factory=lambda: TokenBucket(_STOPS, _MINUTE_S), compare=False)

    @property
    def is_on(self) -> bool:
        """Tell whether it is on, as far as anybody knows: what was sent and not answered counts as on."""
        observed = self.observed is not None and self.observed.on
        return observed or self.is_wanted

    @property
    def is_wanted(self) -> bool:
        """Tell whether it is to be on, or an order for that is on its way."""
        return self.wish is not None or (self.pending is not None and self.pending.command.energises)

    @property
    def is_ending(self) -> bool:
        """Tell whether an *off* is on its way."""
        return self.pending is not None and not self.pending.command.energises

    @property
    def runs(self) -> bool:
        """Tell whether its last start came after its last stop, also while its device is not heard."""
        return self.started_at is not None and (self.stopped_at is None or self.stopped_at < self.started_at)

    @property
    def wished_by(self) -> Caller | None:
        """Return the class of who wants it on: what was given back is wanted by who had wanted it before."""
        if self.wish is None:
            return None
        principal = self.wish.order.principal
        if principal.identity == GIVEN_BACK and self.resume is not None:
            principal = self.resume.principal
        return principal.caller

    @property
    def is_driven(self) -> bool:
        """Tell whether what an interlock asked for stands."""
        return self.wish is not None and is_driving(self.wish.order.principal)

    @property
    def rest(self) -> Command:
        """Return what brings it to where it goes when nobody asks for anything, as near as it may be set."""
        actuator = self.actuator
        safe = min(max(actuator.safe_percent, actuator.min_percent), actuator.max_percent)
        return Command(key=self.key, percent=safe if actuator.safe_percent > 0 else 0.0)

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
            "held_by": self.held_by.value if self.held_by is not None else None,
            "commanded_at": self.commanded_at,
            "wish": self.wish.as_dict() if self.wish is not None else None,
            "forced": self.forced,
            "resume": self.resume.as_dict() if self.resume is not None else None,
            "kept_off": self.kept_off,
            "let_be": self.let_be,
        }

    def take_up(self, data: Mapping[str, Any], now: float) -> None:
        """Take up what `as_dict` returned before a restart; a wish stands only while its lease does."""
        self.fault, self.started_at, self.stopped_at = data["fault"], data["started_at"], data["stopped_at"]
        # Earlier releases did not save these.
        self.forced, resume = data.get("forced", False), data.get("resume")
        self.resume = Order.from_dict(resume) if resume is not None else None
        self.kept_off, self.let_be = data.get("kept_off", False), data.get("let_be", False)
        held_by = data.get("held_by")
        self.held_by = Caller(held_by) if held_by is not None else None
        self.commanded_at = data.get("commanded_at", 0.0)
        wish = data["wish"]
        if wish is not None and now < wish["lease_until"]:
            self.wish, self.taken_up = Wish.from_dict(wish, now), True

    def is_repeated(self, wanted: Command, who: Principal) -> bool:
        """Tell whether a command is one of those that anybody may give without end: on record once a minute."""
        if self.forced:
            # Somebody switches a driven fan off, and the interlock on again.
            # What an administrator switches off is let be, and no repetition.
            return who.caller is Caller.SYSTEM or not (wanted.energises or who.administrator)
        # Whoever switches off what nobody wants on is heard; the hub itself has a reason.
        doubtful = who.caller is Caller.SYSTEM and (self.is_on or self.runs)
        return not (wanted.energises or self.is_wanted or doubtful)

    def run_s(self, wanted: Command) -> float | None:
        """Return for how long a command may keep it on, None for as long as nobody says otherwise."""
        if wanted.amount_ml is not None:
            return wanted.amount_ml / self.actuator.ml_per_s + _PUMP_MARGIN_S
        return wanted.seconds

    def send(self, order: Order) -> Order | None:
        """Note an order that is on its way; return the one that it takes the place of."""
        replaced, self.pending = self.pending, order
        if not order.command.energises:
            # From here on nothing is renewed, whatever becomes of the order: the lease ends it at the latest.
            self.wish = None
        return replaced

    def take_back(self) -> None:
        """Give up what is pending and never went out."""
        if self.pending is not None and self.pending.principal.identity == GIVEN_BACK:
            # That nobody could be told says nothing about the fan.
            self.returns = max(1, self.returns - 1)
        self.pending = None

    def note_caller(self, order: Order) -> None:
        """Note who commands it now: the hub itself takes nothing from anybody."""
        caller = order.principal.caller
        if caller is Caller.SYSTEM:
            return
        if not order.command.energises:
            self.kept_off = True
        if order.command.energises or self.held_by is None or caller.rank <= self.held_by.rank:
            # Off is for everybody. Who comes later does not get what is held by having switched it off first.
            self.held_by, self.commanded_at = caller, order.at
        if order.command.energises:
            self.let_be = False
        elif self.forced:
            self.forced, self.resume = False, None
            # An administrator may have a reason that no sensor knows of.
            self.let_be = order.principal.administrator

    def turned(self, now: float, *, on: bool) -> None:
        """Note when it starts and stops; nothing changes when it had already."""
        if on and not self.runs:
            self.started_at = now
        elif self.runs and not on:
            self.stopped_at = now

    def ready_at(self, now: float) -> float:
        """Return when it may start: it rests for its minimum time, and for what was missing of its minimum time on."""
        if self.runs and self.is_on and not self.is_ending:
            return now
        # What has yet to say that it stopped may do so just now.
        stopped = now if self.runs else self.stopped_at
        if stopped is None:
            return now
        # What never started in this run began, at the latest, when it stopped.
        started = stopped if self.started_at is None else self.started_at
        return max(stopped, started + self.actuator.min_on_s) + self.actuator.min_off_s

    def needs_a_stop(self, now: float) -> bool:
        """Tell whether what may not go on is to be told so: at once, and again after a while if that was in vain."""
        return not self.is_ending and (self.told_at is None or now - self.told_at >= _AGAIN_S)

    def confirm(self, order: Order, now: float) -> None:
        """Note that the device did what was ordered."""
        self.mismatch_since = None
        self.turned(now, on=order.command.energises)
        if not order.command.energises:
            self.wish = None
            return
        self.unasked_since = self.unasked_told_at = None
        if order.principal.caller is not Caller.SYSTEM:
            self.forced, self.resume, self.kept_off = False, None, False
        elif order.principal.identity == GIVEN_BACK:
            self.forced = False
        until = None if order.run_s is None else now + order.run_s
        self.wish, self.taken_up = Wish(order, until, now, now + order.lease_s, now), False

    def renewed(self, now: float) -> None:
        """Note that the device was told to go on."""
        if self.wish is not None:
            self.wish.renewed_at = now
            self.wish.lease_until = now + self.lease_of(now)

    def not_renewed(self, now: float) -> None:
        """Note that the device could not be told to go on: it is tried again soon."""
        if self.wish is not None:
            third = self.longest(self.wish) / 3
            self.wish.renewed_at = now - third + min(third, _RENEW_AGAIN_S)

    def answered(self, order: Order, ack: Ack, now: float) -> None:
        """Take over what the device said to the renewal of an order."""
        if self.wish is None or self.wish.order.cid != order.cid:
            return
        if ack.result is Result.DONE:
            self.wish.confirmed_at = now
            return
        state = ack.states.get(self.key.actuator, self.observed)
        # What has ended, and what an earlier run did not know of, is judged by the state that comes with the answer.
        if ack.reason == NOT_RUNNING and not self.taken_up and (state is None or not self._is_at_rest(state)):
            # Somebody set it by hand: on without a lease is on unasked.
            self.wish = None

    def longest(self, wish: Wish) -> int:
        """Return the longest lease that a renewal gives: limits may have been changed since."""
        return min(wish.order.lease_s, self.actuator.lease_s)

    def lease_of(self, now: float) -> int:
        """Return the lease that a renewal gives: no longer than what is still to run."""
        if self.wish is None:
            return 0
        lease_s = self.longest(self.wish)
        if self.wish.until is None:
            return lease_s
        return max(1, min(lease_s, ceil(self.wish.until - now)))

    def drop(self) -> Order | None:
        """Give up the order that is on its way and the wish that stands; return the order."""
        pending, self.pending, self.wish = self.pending, None, None
        self.forced, self.resume, self.mismatch_since, self.unasked_since = False, None, None, None
        return pending

    def report(self, observed: Observed, now: float) -> Step:
        """Take over what the device says; tell what it means."""
        self.observed = observed
        self.turned(now, on=observed.on)
        if self._is_at_rest(observed):
            self.unasked_since = self.unasked_told_at = None
        if self.pending is not None:
            return Step.SAME
        if self.taken_up:
            self._trust(observed)
        if self.wish is None:
            return self._judge_idle(observed, now)
        self.unasked_since = self.unasked_told_at = None
        if observed.on and self._matches(observed):
            self.mismatch_since = None
            self.wish.confirmed_at = now
            return Step.SAME
        if self._is_at_rest(observed) and observed.reason in _ENDED and observed.cid in {None, self.wish.order.cid}:
            self.wish, self.mismatch_since = None, None
            # What is still needed is driven again; what ended while it was given back is left as it is.
            self.forced = self.forced and not self.returns
            return Step.ENDED
        return self._differs(now)

    def overdue(self, now: float) -> bool:
        """Tell whether the device has had its time to do what it acknowledged."""
        # What is on its way gives it its time anew.
        waits = self.fault is None and self.pending is None
        return waits and self.mismatch_since is not None and now - self.mismatch_since >= MISMATCH_S

    def may_be_driven(self, now: float) -> bool:
        """Tell whether it is there, and was not driven or given back just now."""
        return self.observed is not None and now - self.driven_at >= _AGAIN_S

    def _judge_idle(self, observed: Observed, now: float) -> Step:
        if self._is_at_rest(observed) or (self.forced and not self.returns):
            # What an interlock wants on is asked for again, not stopped.
            self.mismatch_since = self.unasked_since = None
            return Step.SAME
        if self.unasked_since is None:
            self.unasked_since = now
        # That it is off, a device may say and not do: no answer makes this time begin anew.
        lasts = self.fault is None and now - self.unasked_since >= _AGAIN_S
        if self._differs(now) is Step.FAULT or lasts:
            return Step.FAULT
        if self.unasked_told_at is None:
            if not self.stops.take(now):
                return Step.SAME
        elif now - self.unasked_told_at < _AGAIN_S:
            return Step.SAME
        self.unasked_told_at = now
        return Step.UNWANTED

    def _is_at_rest(self, observed: Observed) -> bool:
        safe = self.actuator.safe_percent
        return not observed.on or (safe > 0 and self._is_near(observed, safe))

    def _trust(self, observed: Observed) -> None:
        """Drop a wish of an earlier run where the device says that it was given another command since."""
        self.taken_up = False
        wish = self.wish
        if wish is None or observed.reason != "command" or observed.cid == wish.order.cid:
            return
        if not observed.on or not self._matches(observed):
            self.wish = None
        elif observed.cid is not None:
            # The same again: a renewal has to name the command that the device goes by.
            wish.order = replace(wish.order, cid=observed.cid)

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
