"""Tests of the exports: what other programs read is what was recorded."""

from collections.abc import Callable
import csv
import io
import json
import re
from typing import Any

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway.audit_export import FORMATS, comma_separated, common_event_format, json_lines
from custom_components.grokmon.gateway.audit_record import OUTCOMES, Record, Search, search

from .wire import brief

RECORD: Record = {
    "n": 7,
    "prev": "ab" * 32,
    "at": "2026-11-23T18:00:00.250Z",
    "mono": 1.5,
    "boot": "boot",
    "principal": {"caller": "ai", "identity": "user-1"},
    "action": "command_refused",
    "object": {"device": "tent-1", "actuator": "pump", "zone": "z1"},
    "outcome": "refused",
    "reason": "range",
    "cid": "cid-1",
    "details": {"text": "Blüte, 5", "value": 1.5},
    "mac": "cd" * 32,
}
BARE: Record = {**RECORD, "principal": None, "object": {}, "reason": "", "cid": None, "details": {}}


def rows(text: str) -> list[dict[str, str]]:
    """Read CSV as other programs do."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def extension(event: str) -> dict[str, str]:
    """Read the extension of a CEF event, as its specification says."""
    parts = re.split(r"(?<!\\)\|", event.removesuffix("\n"), maxsplit=7)
    assert len(parts) == 8
    pairs = re.findall(r"(\w+)=((?:\\.|[^\\=])*)(?= \w+=|$)", parts[7])
    return {name: re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), value) for name, value in pairs}


def test_formats() -> None:
    """Offer the three formats by name; nothing is made of nothing."""
    assert {name: form([]) for name, form in FORMATS.items()} == {
        "jsonl": "",
        "csv": "n,at,caller,identity,action,device,actuator,zone,outcome,reason,cid,details\r\n",
        "cef": "",
    }


def test_json_lines() -> None:
    """Write every member, chain and MAC, too, one record to a line."""
    text = json_lines([RECORD, BARE])
    assert [json.loads(line) for line in text.splitlines()] == [RECORD, BARE]
    assert text.endswith("}\n")
    assert "Blüte" in text


def test_csv() -> None:
    """Write what a person looks at in columns."""
    first, second = rows(comma_separated([RECORD, BARE]))
    assert first == {
        "n": "7",
        "at": "2026-11-23T18:00:00.250Z",
        "caller": "ai",
        "identity": "user-1",
        "action": "command_refused",
        "device": "tent-1",
        "actuator": "pump",
        "zone": "z1",
        "outcome": "refused",
        "reason": "range",
        "cid": "cid-1",
        "details": '{"text": "Blüte, 5", "value": 1.5}',
    }
    empty = {"caller", "identity", "device", "actuator", "zone", "reason", "cid"}
    assert {name for name, value in second.items() if value == ""} == empty
    assert comma_separated([RECORD]).count("\r\n") == 2


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"], ids=ascii)
def test_csv_holds_no_formula(start: str) -> None:
    """Quote what a spreadsheet would compute."""
    (row,) = rows(comma_separated([{**RECORD, "reason": f"{start}1+1", "object": {"device": f"{start}x"}}]))
    assert row["reason"] == f"'{start}1+1"
    assert row["device"] == f"'{start}x"


def test_cef() -> None:
    """Write an event as security information systems read it."""
    text = common_event_format([RECORD, BARE])
    first, second = text.splitlines(keepends=True)
    assert first.startswith("CEF:0|Grok & Mon|grokmon|1|command_refused|command_refused|6|rt=1795456800250 ")
    assert extension(first) == {
        "rt": "1795456800250",
        "externalId": "7",
        "suser": "user-1",
        "spriv": "ai",
        "dvchost": "tent-1",
        "outcome": "refused",
        "reason": "range",
        "cs1Label": "details",
        "cs1": '{"text": "Blüte, 5", "value": 1.5}',
        "cs2Label": "object",
        "cs2": '{"device": "tent-1", "actuator": "pump", "zone": "z1"}',
    }
    assert second.startswith("CEF:0|")
    assert set(extension(second)) == {"rt", "externalId", "outcome", "cs1Label", "cs1", "cs2Label", "cs2"}


@pytest.mark.parametrize(
    ("outcome", "severity"),
    [("done", 2), ("allowed", 3), ("refused", 6), ("failed", 6), ("found", 8), ("other", 5)],
)
def test_cef_severity(outcome: str, severity: int) -> None:
    """Rank what was found highest, and what nobody knows in the middle."""
    assert common_event_format([{**RECORD, "outcome": outcome}]).split("|")[6] == str(severity)
    assert outcome in {*OUTCOMES, "other"}


def test_cef_escapes() -> None:
    """Escape what would end a field, a value or the event."""
    (event,) = common_event_format(
        [{**RECORD, "action": "a|b\\c\r\nCEF:0", "reason": "x=1 y\\z\r\nCEF:0|", "details": {"k": "a=b|\\"}}]
    ).splitlines()
    assert event.startswith(r"CEF:0|Grok & Mon|grokmon|1|a\|b\\c\r\nCEF:0|a\|b\\c\r\nCEF:0|6|")
    assert r"reason=x\=1 y\\z\r\nCEF:0|" in event
    read = extension(event)
    assert read["reason"] == "x=1 y\\z\r\nCEF:0|"
    assert json.loads(read["cs1"]) == {"k": "a=b|\\"}


@given(st.text(), st.dictionaries(st.text(max_size=5), st.text() | st.integers(), max_size=3))
def test_any_record(reason: str, details: dict[str, Any]) -> None:
    """Write any record so that it can be read back in each format."""
    record = {**RECORD, "reason": reason, "details": details}
    assert json.loads(json_lines([record])) == record
    (row,) = rows(comma_separated([record]))
    assert row["reason"].removeprefix("'") == reason.removeprefix("'")
    assert json.loads(row["details"]) == details
    event = common_event_format([record])
    assert event.count("\n") == 1
    assert json.loads(extension(event)["cs1"]) == details


@pytest.mark.parametrize("form", FORMATS.values(), ids=brief)
def test_lone_surrogate(form: Callable[[list[Record]], str]) -> None:
    """Write a text that is no Unicode so that the export can still be sent."""
    assert form([{**RECORD, "details": {"text": "a\ud800"}}]).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"at": 5},
        {"at": "never"},
        {"at": "0001-01-01T00:00:00"},
        {"at": ["2026-11-23T18:00:00.250Z"]},
        {"action": 1},
        {"outcome": []},
        {"reason": {}},
        {"cid": {}},
        {"principal": {"identity": {}}},
        {"principal": "somebody"},
        {"object": {"device": 5}},
        {"details": "text"},
        {"details": None},
    ],
    ids=brief,
)
@pytest.mark.parametrize("form", FORMATS.values(), ids=brief)
def test_changed_line_stops_no_export(form: Callable[[list[Record]], str], changes: dict[str, Any]) -> None:
    """Export the other records: whoever changed one line of the trail must not keep anybody from the rest."""
    lines = [json.dumps(record).encode() for record in (RECORD | changes, BARE)]
    assert form(list(search(lines, Search(), 10))) == form([BARE])


@pytest.mark.parametrize("member", ["at", "action", "outcome", "reason", "cid", "principal", "object", "details"])
def test_line_without_a_member_stops_no_export(member: str) -> None:
    """Pass over what lacks a member."""
    lines = [json.dumps({name: value for name, value in RECORD.items() if name != member}).encode()]
    assert list(search(lines, Search(), 10)) == []


@pytest.mark.parametrize("number", [None, [], {}], ids=brief)
@pytest.mark.parametrize("form", FORMATS.values(), ids=brief)
def test_number_of_a_changed_line(form: Callable[[list[Record]], str], number: Any) -> None:
    """Write a record whose number somebody changed, as it is."""
    record = RECORD | {"n": number}
    assert form([record])
    del record["n"]
    assert form([record])
