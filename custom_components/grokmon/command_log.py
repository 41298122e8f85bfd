"""The command log: what was decided about commands and what became of them, for the audit trail and for a model."""

from collections import deque
from typing import Any, Final

from homeassistant.core import callback

from .audit_log import AuditLog
from .gateway.actions import Fate, Settled
from .gateway.actuators import Caller, Command, Moment, Principal
from .gateway.aggregation import Aggregator
from .gateway.errors import Code, PolicyError
from .gateway.outputs import Order

_DECISIONS: Final = 10
_SHOWN: Final = 32
_OUTCOMES: Final = {Fate.DONE: "done", Fate.LATE: "found"}
_HUGE: Final = 2**53


class CommandLog:
    """Record commands: what was allowed at once, what was refused the first time at once and then once a minute.

    `decisions` are the last ones in words of ours and numbers only, since a model reads them.
    """

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._refusals: Aggregator[tuple[str, Caller, Code]] = Aggregator()
        self.decisions: deque[dict[str, Any]] = deque(maxlen=_DECISIONS)

    @callback
    def accepted(self, order: Order, now: Moment) -> None:
        """Record an order that is about to go out."""
        key = order.key
        facts: dict[str, Any] = {"params": order.command.params()}
        if order.lease_s:
            facts["lease_s"] = order.lease_s
        self._audit.record(
            "command",
            outcome="allowed",
            who=order.principal,
            cid=order.cid,
            device=key.device_id,
            actuator=key.actuator,
            **facts,
        )
        self._decide(order.command, order.principal, "allowed", now)

    @callback
    def refused(self, command: Command, who: Principal, error: PolicyError, now: Moment) -> None:
        """Record a command that was refused."""
        self._decide(command, who, error.code.value, now)
        facts: dict[str, Any] = dict(error.facts())
        if self._refusals.add((str(command.key), who.caller, error.code), now.steady):
            self._audit.record(
                "command_refused",
                outcome="refused",
                reason=error.code.value,
                who=who,
                device=command.key.device_id,
                actuator=command.key.actuator,
                params=_bounded(command.params()),
                detail=error.detail,
                **facts,
            )

    @callback
    def settled(self, order: Order, settled: Settled) -> None:
        """Record what became of an order."""
        event = "ack_late" if settled.fate is Fate.LATE else f"command_{settled.fate}"
        self._audit.record(
            event,
            outcome=_OUTCOMES.get(settled.fate, "failed"),
            reason=settled.reason,
            cid=order.cid,
            device=order.key.device_id,
            actuator=order.key.actuator,
        )

    @callback
    def summarise(self, now: Moment, *, closing: bool) -> None:
        """Record what was refused again since the last summaries."""
        for summary in self._refusals.close(now.steady, everything=closing):
            output, caller, code = summary.key
            device, _, actuator = output.partition("/")
            self._audit.record(
                "command_refused_again",
                outcome="refused",
                reason=code.value,
                device=device,
                actuator=actuator,
                caller=caller.value,
                count=summary.count,
            )

    def _decide(self, command: Command, who: Principal, outcome: str, now: Moment) -> None:
        facts = {"output": str(command.key), "caller": who.caller.value, "outcome": outcome}
        self.decisions.append({"at": int(now.wall), **facts, **_bounded(command.params())})


def _bounded(params: dict[str, Any]) -> dict[str, Any]:
    """Return what was asked for as JSON can hold it, whoever made it up."""
    return {name: value if _is_plain(value) else repr(value)[:_SHOWN] for name, value in params.items()}


def _is_plain(value: object) -> bool:
    return type(value) is bool or (type(value) in {int, float} and -_HUGE < value < _HUGE)  # type: ignore[operator] # a number, by its type
