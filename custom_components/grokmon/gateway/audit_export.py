"""Records for other programs: JSON Lines, CSV (RFC 4180), and CEF for security information systems."""

from collections.abc import Callable, Iterable, Mapping
import csv
from datetime import datetime
import io
import json
from typing import Any, Final

from .audit_record import Record

_COLUMNS: Final = (
    "n",
    "at",
    "caller",
    "identity",
    "action",
    "device",
    "actuator",
    "zone",
    "outcome",
    "reason",
    "cid",
    "details",
)
_SEVERITY: Final = {"done": 2, "allowed": 3, "refused": 6, "failed": 6, "found": 8}
_dense: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# What a spreadsheet would take for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def json_lines(records: Iterable[Record]) -> str:
    """Return one JSON object to a line."""
    return _sendable("".join(_dense(record) + "\n" for record in records))


def comma_separated(records: Iterable[Record]) -> str:
    """Return CSV with a header; details are JSON in one column."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(_COLUMNS)
    for record in records:
        flat = _flat(record)
        rows.writerow([_cell(flat.get(column)) for column in _COLUMNS])
    return _sendable(text.getvalue())


def common_event_format(records: Iterable[Record]) -> str:
    """Return ArcSight's Common Event Format, version 0, one event to a line."""
    return _sendable("".join(_event(record) + "\n" for record in records))


FORMATS: Final[Mapping[str, Callable[[Iterable[Record]], str]]] = {
    "jsonl": json_lines,
    "csv": comma_separated,
    "cef": common_event_format,
}


def _event(record: Record) -> str:
    flat = _flat(record)
    named = {
        "rt": int(datetime.fromisoformat(record["at"]).timestamp() * 1000),
        "externalId": flat.get("n"),
        "suser": flat.get("identity"),
        "spriv": flat.get("caller"),
        "dvchost": flat.get("device"),
        "outcome": flat["outcome"],
        "reason": flat["reason"],
        "cs1Label": "details",
        "cs1": flat["details"],
        "cs2Label": "object",
        "cs2": json.dumps(record["object"]),
    }
    extension = " ".join(f"{name}={_value(value)}" for name, value in named.items() if value not in (None, ""))
    action = _header(record["action"])
    return f"CEF:0|Grok & Mon|grokmon|1|{action}|{action}|{_SEVERITY.get(record['outcome'], 5)}|{extension}"


def _flat(record: Record) -> dict[str, Any]:
    principal = record["principal"] or {}
    return {
        **record,
        "caller": principal.get("caller"),
        "identity": principal.get("identity"),
        **record["object"],
        "details": json.dumps(record["details"], ensure_ascii=False),
    }


def _sendable(text: str) -> str:
    """Return a text without half characters, which no answer can carry: as JSON escapes them."""
    return text.encode(errors="backslashreplace").decode()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _header(text: str) -> str:
    return _escaped(text, "|")


def _value(value: object) -> str:
    return _escaped(str(value), "=")


def _escaped(text: str, end: str) -> str:
    return text.replace("\\", "\\\\").replace(end, f"\\{end}").replace("\n", "\\n").replace("\r", "\\r")
