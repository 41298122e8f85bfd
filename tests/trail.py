"""Records of the audit trail, as tests like to read them."""

from typing import Any


def flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as one level: principal, object and details beside the action, without time, chain and outcome.

    The reason of a refused command is its `code`, since its caller may have given a `reason`, too.
    """
    why = "code" if record["action"].startswith("command_refused") else "reason"
    principal = record["principal"] or {}
    entry = {
        "event": record["action"],
        why: record["reason"],
        "cid": record["cid"],
        **record["object"],
        **record["details"],
        **principal,
    }
    return {name: value for name, value in entry.items() if value not in (None, "")}
