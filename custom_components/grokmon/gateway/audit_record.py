"""The record of a decision: who, what, of what, with which outcome and why; and what may be searched for."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
import json
from typing import Any, Final

from .principals import Principal

type Record = dict[str, Any]

_MAX_DETAILS: Final = 2048
_MAX_TEXT: Final = 256
_encode: Final = json.JSONEncoder(allow_nan=False).encode
_TEXTS: Final = ("at", "boot", "action", "outcome", "reason")
OUTCOMES: Final = ("done", "allowed", "refused", "failed", "found")


def make(
    action: str,
    *,
    wall: float,
    mono: float,
    boot: str,
    principal: Principal | None,
    target: Mapping[str, str],
    outcome: str,
    reason: str,
    cid: str | None,
    details: Mapping[str, Any],
) -> Record:
    """Return a record. Raises ValueError or TypeError for details that are not JSON."""
    bounded = _bounded(details)
    size = len(_encode(bounded))
    return {
        "at": datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "mono": round(mono, 3),
        "boot": boot,
        "principal": None if principal is None else _bounded(principal.as_dict()),
        "action": action,
        "object": _bounded(target),
        "outcome": outcome,
        "reason": reason[:_MAX_TEXT],
        "cid": cid[:_MAX_TEXT] if cid is not None else None,
        "details": bounded if size <= _MAX_DETAILS else {"left_out": size},
    }


def _bounded(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value[:_MAX_TEXT] if type(value) is str else value for name, value in members.items()}


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for: times in seconds since 1970, words that are equal, one of some actions. None match all."""

    start: float | None = None
    end: float | None = None
    device: str | None = None
    zone: str | None = None
    identity: str | None = None
    caller: str | None = None
    actions: frozenset[str] = frozenset()
    outcome: str | None = None

    def matches(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a record is one that is looked for."""
        principal = record["principal"] or {}
        wanted = (
            (self.device, record["object"].get("device")),
            (self.zone, record["object"].get("zone")),
            (self.identity, principal.get("identity")),
            (self.caller, principal.get("caller")),
            (self.outcome, record["outcome"]),
        )
        if any(want is not None and want != has for want, has in wanted):
            return False
        if self.actions and record["action"] not in self.actions:
            return False
        if self.start is None and self.end is None:
            return True
        at = datetime.fromisoformat(record["at"]).timestamp()
        return (self.start is None or at >= self.start) and (self.end is None or at < self.end)


def search(lines: Iterable[bytes], wanted: Search, limit: int) -> Iterator[Record]:
    """Return the records that match, at most `limit`. A line that is no record is passed over: verify tells of it."""
    found = 0
    for line in lines:
        if found >= limit:
            return
        try:
            record = json.loads(line)
            matches = wanted.matches(record) and _is_record(record)
        except ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError:
            continue
        if matches:
            found += 1
            yield record


def _is_record(record: Mapping[str, Any]) -> bool:
    """Tell whether a record has the form that `make` gives it: who reads it need not look again."""
    datetime.fromisoformat(record["at"]).timestamp()
    named: tuple[Any, ...] = (record["principal"] or {}, record["object"])
    texts = [*(record[name] for name in _TEXTS), *(text for each in named for text in each.values())]
    cid = record["cid"]
    return (
        type(record["details"]) is dict and {type(text) for text in texts} == {str} and type(cid) in {str, type(None)}
    )
