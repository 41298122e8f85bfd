"""The command log: what was decided about commands and what became of them, for the audit trail and for a model."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from homeassistant.core import callback

from .audit_log import AuditLog
from .gateway.actions import Fate, Settled
from .gateway.actuators import Command, Moment
from .gateway.aggregation import Aggregator
from .gateway.errors import PolicyError
from .gateway.orders import Order
from .gateway.principals import Principal

_DECISIONS: Final = 10
_SHOWN: Final = 32
_OUTCOMES: Final = {Fate.DONE: "done", Fate.LATE: "found"}
_HUGE: Final = 2**53
# Of so many commands at a time it is remembered that they are not on record.
_UNRECORDED: Final = 1024
# Who is named where very many are refused at once.
_SEVERAL: Final = "several"


class _Decision(NamedTuple):
    """What is the same decision: about the same thing, for the same one, for the same reason."""

    event: str
    outcome: str
    reason: str
    who: Principal
    target: tuple[tuple[str, str], ...] = ()


class CommandLog:
    """Record commands: what was allowed at once, what was refused the first time at once and then once a minute.

    So is, in order that nobody can fill the trail with it, what anybody may ask for without end: that off is what
    nobody wants on, and that an interlock switches on again what it drives.
    `decisions` are the last ones in words of ours and numbers only, since a model reads them.
    """

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._often: Aggregator[_Decision] = Aggregator(merge=_merged)
        self._latest: dict[_Decision, Mapping[str, Any]] = {}
        self._unrecorded: deque[str] = deque(maxlen=_UNRECORDED)
        self.decisions: deque[dict[str, Any]] = deque(maxlen=_DECISIONS)

    @callback
    def accepted(self, order: Order, now: Moment, *, repeated: bool) -> None:
        """Record an order that is about to go out; `repeated` says that it is one of many."""
        key = order.key
        self._decide(order.command, order.principal, "allowed", now)
        target = {"device": key.device_id, "actuator": key.actuator}
        decision = _Decision("command", "allowed", "", order.principal, tuple(target.items()))
        if repeated and not self._is_first(decision, now):
            self._unrecorded.append(order.cid)
            return
        facts: dict[str, Any] = {"params": order.command.params()}
        if order.lease_s:
            facts["lease_s"] = order.lease_s
        self._audit.record(
            "command",
            outcome="allowed",
            who=order.principal,
            cid=order.cid,
            **target,
            **facts,
        )

    @callback
    def refused(self, command: Command, who: Principal, error: PolicyError, now: Moment) -> None:
        """Record a command that was refused."""
        self._decide(command, who, error.code.value, now)
        target = {"device": command.key.device_id, "actuator": command.key.actuator}
        facts = {"params": bounded(command.params()), "detail": error.detail, **error.facts()}
        self.denied("command_refused", who, error.code.value, now, target, **facts)

    @callback
    def denied(
        self, event: str, who: Principal, reason: str, now: Moment, target: Mapping[str, str], **facts: Any
    ) -> None:
        """Record that somebody may not have what was asked for of a target.

        Of very many at once, only how many they are is on record, by event, reason and class of callers.
        """
        if self._is_first(_Decision(event, "refused", reason, who, tuple(target.items())), now):
            self._audit.record(event, outcome="refused", reason=reason, who=who, **target, **facts)

    @callback
    def done(self, event: str, who: Principal, now: Moment, target: Mapping[str, str], **facts: Any) -> None:
        """Record what somebody did that is no command; that it was done again, once a minute, and how at last."""
        decision = _Decision(event, "done", "", _same(who), tuple(target.items()))
        if self._is_first(decision, now):
            self._audit.record(event, who=who, **target, **facts)
        elif not self._often.merges(decision):
            self._latest[decision] = facts

    @callback
    def settled(self, order: Order, settled: Settled, now: Moment) -> None:
        """Record what became of an order."""
        event = "ack_late" if settled.fate is Fate.LATE else f"command_{settled.fate}"
        outcome = _OUTCOMES.get(settled.fate, "failed")
        if outcome == "failed" or not self.is_unrecorded(order):
            self._became(event, outcome, settled.reason, order, now)

    @callback
    def withdrawn(self, order: Order, reason: str, now: Moment) -> None:
        """Record that an order did not go out."""
        self._became("command_withdrawn", "failed", reason, order, now)

    @callback
    def lost(self, order: Order, reason: str, now: Moment) -> None:
        """Record that nobody knows whether an order went out."""
        self._became("command_lost", "failed", reason, order, now)

    @callback
    def summarise(self, now: Moment, *, closing: bool) -> None:
        """Record what was decided again since the last summaries."""
        for summary in self._often.close(now.steady, everything=closing):
            event, outcome, reason, who, target = summary.key
            facts: dict[str, Any] = {**dict(target), **self._latest.pop(summary.key, {}), "count": summary.count}
            if summary.merged:
                facts["merged"] = summary.merged
            self._audit.record(f"{event}_again", outcome=outcome, reason=reason, who=who, **facts)

    def is_unrecorded(self, order: Order) -> bool:
        """Tell whether an order is one of many and not on record."""
        return order.cid in self._unrecorded

    def _became(self, event: str, outcome: str, reason: str, order: Order, now: Moment) -> None:
        device, actuator = order.key.device_id, order.key.actuator
        target = (("device", device), ("actuator", actuator))
        decision = _Decision(event, outcome, reason, order.principal, target)
        if self.is_unrecorded(order) and not self._is_first(decision, now):
            return
        self._audit.record(event, outcome=outcome, reason=reason, cid=order.cid, device=device, actuator=actuator)

    def _is_first(self, decision: _Decision, now: Moment) -> bool:
        return self._often.add(decision._replace(who=_same(decision.who)), now.steady)

    def _decide(self, command: Command, who: Principal, outcome: str, now: Moment) -> None:
        facts = {"output": str(command.key), "caller": who.caller.value, "outcome": outcome}
        self.decisions.append({"at": int(now.wall), **facts, **bounded(command.params())})


def _same(who: Principal) -> Principal:
    """Return who it is: neither what a model gives as its reason nor who approved makes it another decision."""
    return Principal(caller=who.caller, identity=who.identity, via=who.via)


def _merged(decision: _Decision) -> _Decision:
    several = Principal(caller=decision.who.caller, identity=_SEVERAL)
    return _Decision(decision.event, decision.outcome, decision.reason, several)


def bounded(params: dict[str, Any]) -> dict[str, Any]:
    """Return what was asked for as JSON can hold it, whoever made it up."""
    return {name: value if _is_plain(value) else repr(value)[:_SHOWN] for name, value in params.items()}


def _is_plain(value: object) -> bool:
    return type(value) is bool or (type(value) in {int, float} and -_HUGE < value < _HUGE)  # type: ignore[operator] # a number, by its type
