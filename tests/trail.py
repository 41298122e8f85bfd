"""Records of the audit trail, as tests like to read them."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

_NO_REFUSALS = frozenset({"credential", "interlock", "posture", "suspicious_activity"})


def is_refusal(event: dict[str, Any]) -> bool:
    """Tell whether the data of a security event tells of one message that was refused or flagged."""
    return event["category"] not in _NO_REFUSALS


def by_code(refusals: Mapping[tuple[str | None, str], int]) -> Counter[str]:
    """Return how many there are of each code: of very many devices at once, the trail has no names."""
    counts: Counter[str] = Counter()
    for (_, code), count in refusals.items():
        counts[code] += count
    return counts


def flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as one level: principal, object and details beside time and action, without chain and outcome.

    The reason of a refused command is its `code`, since its caller may have given a `reason`, too.
    """
    why = "code" if record["action"].startswith("command_refused") else "reason"
    principal = record["principal"] or {}
    entry = {
        "at": record["at"],
        "event": record["action"],
        why: record["reason"],
        "cid": record["cid"],
        **record["object"],
        **record["details"],
        **principal,
    }
    return {name: value for name, value in entry.items() if value not in (None, "")}
