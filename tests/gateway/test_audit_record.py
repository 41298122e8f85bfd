"""Tests of the record of a decision, and of the search for one."""

from collections.abc import Mapping
import json
from typing import Any

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway.audit import MAX_LINE, Position, append
from custom_components.grokmon.gateway.audit_record import OUTCOMES, Record, Search, make, search
from custom_components.grokmon.gateway.principals import Caller, Principal

from .wire import NOW, brief

AI = Principal(caller=Caller.AI, identity="user-1", via="script.x", reason="too dry", approved_by="user-2")


def made(
    action: str = "command_allowed",
    *,
    wall: float = NOW,
    who: Principal | None = AI,
    target: Mapping[str, str] | None = None,
    outcome: str = "allowed",
    reason: str = "",
    cid: str | None = "cid-1",
    details: Mapping[str, Any] | None = None,
) -> Record:
    """Return a record."""
    return make(
        action,
        wall=wall,
        mono=12.3456,
        boot="boot",
        principal=who,
        target=target or {},
        outcome=outcome,
        reason=reason,
        cid=cid,
        details=details or {},
    )


def test_record() -> None:
    """Say who, what, of what, with which outcome and why, by the wall's clock and the steady one."""
    record = made(target={"device": "tent-1", "zone": "z1"}, reason="range", wall=NOW + 0.0625, details={"value": 1.5})
    assert record == {
        "at": "2025-11-22T22:20:00.062Z",
        "mono": 12.346,
        "boot": "boot",
        "principal": {
            "caller": "ai",
            "identity": "user-1",
            "via": "script.x",
            "reason": "too dry",
            "approved_by": "user-2",
        },
        "action": "command_allowed",
        "object": {"device": "tent-1", "zone": "z1"},
        "outcome": "allowed",
        "reason": "range",
        "cid": "cid-1",
        "details": {"value": 1.5},
    }
    bare = made(who=None, cid=None)
    assert (bare["principal"], bare["cid"]) == (None, None)


def test_order_of_the_members() -> None:
    """Write the members in the same order for every record."""
    assert list(made()) == "at mono boot principal action object outcome reason cid details".split()  # noqa: SIM905 - short


@pytest.mark.parametrize("letter", ["x", "ä", "\U0001f331", "\ud800", "\x00"], ids=ascii)
def test_long_texts_are_cut(letter: str) -> None:
    """Keep 256 characters of a text, and whatever is no text as it is."""
    record = made(reason=letter * 257, details={"text": letter * 257, "list": ["y" * 300]})
    assert record["reason"] == letter * 256
    if letter in "xä":
        assert record["details"] == {"text": letter * 256, "list": ["y" * 300]}
    short = made(reason=letter * 256, details={"text": letter * 100})
    assert (short["reason"], short["details"]) == (letter * 256, {"text": letter * 100})


def test_details_that_are_too_many_are_left_out() -> None:
    """Say how many bytes were left out rather than write a line that nobody can read; 2048 are not too many."""
    spare = 2048 - len(json.dumps({"list": ["", ""]}))
    assert made(details={"list": ["", "x" * spare]})["details"] == {"list": ["", "x" * spare]}
    assert made(details={"list": ["", "x" * (spare + 1)]})["details"] == {"left_out": 2049}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"raw", {1}], ids=brief)
def test_details_that_are_not_json(value: object) -> None:
    """Refuse them where they are made, where one sees whose mistake it is."""
    with pytest.raises((ValueError, TypeError)):
        made(details={"value": value})


@given(
    st.dictionaries(st.text(max_size=10), st.text() | st.integers() | st.booleans() | st.none(), max_size=5),
    st.text(max_size=300),
)
def test_any_record_is_a_line(details: dict[str, Any], reason: str) -> None:
    """Make nothing of any details and reason that is too long for a line."""
    line, _ = append(Position(10**17, "f" * 64), b"", made(details=details, reason=reason))
    assert len(line) <= MAX_LINE
    assert json.loads(line)["action"] == "command_allowed"


def test_largest_record_is_a_line() -> None:
    """Write also what has the largest details and the longest reason that a record may have."""
    spare = 2048 - len(json.dumps({"list": [""]}))
    record = made(reason="\x00" * 256, details={"list": ["x" * spare]})
    assert len(append(Position(10**17, "f" * 64), b"", record)[0]) <= MAX_LINE


def test_record_of_a_talkative_principal() -> None:
    """Write what an AI gave as a long reason beside a long reason and long details: a record always fits a line."""
    who = Principal(caller=Caller.AI, identity="user-1", reason="\U0001f331" * 256)
    spare = 2048 - len(json.dumps({"list": [""]}))
    append(Position(), b"", made(who=who, reason="\U0001f331" * 256, details={"list": ["x" * spare]}))


# --- Search

RECORDS = [
    made("command_allowed", wall=NOW, target={"device": "tent-1", "zone": "z1"}),
    made("command_refused", wall=NOW + 1, target={"device": "tent-2"}, outcome="refused"),
    made("reading_refused", wall=NOW + 2, target={"device": "tent-1"}, who=None, outcome="refused"),
    made("output_ended", wall=NOW + 3, who=Principal(caller=Caller.PERSON, identity="user-1"), outcome="done"),
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Search(), [0, 1, 2, 3]),
        (Search(device="tent-1"), [0, 2]),
        (Search(zone="z1"), [0]),
        (Search(zone=""), []),
        (Search(identity="user-1"), [0, 1, 3]),
        (Search(caller="ai"), [0, 1]),
        (Search(caller="person"), [3]),
        (Search(actions=frozenset({"command_refused"})), [1]),
        (Search(actions=frozenset({"command_refused", "output_ended"})), [1, 3]),
        (Search(actions=frozenset({"command"})), []),
        (Search(outcome="refused"), [1, 2]),
        (Search(outcome="refused", device="tent-1"), [2]),
        (Search(start=NOW + 1), [1, 2, 3]),
        (Search(end=NOW + 1), [0]),
        (Search(start=NOW + 1, end=NOW + 3), [1, 2]),
        (Search(start=NOW + 0.001, end=NOW + 1.001, outcome="refused"), [1]),
        (Search(start=NOW + 4), []),
    ],
    ids=brief,
)
def test_what_is_found(wanted: Search, expected: list[int]) -> None:
    """Find what equals every word that is given, from the start on and before the end."""
    assert [number for number, record in enumerate(RECORDS) if wanted.matches(record)] == expected


def test_search_in_lines() -> None:
    """Return so many of the first that match, in the order of the lines."""
    lines = [json.dumps(record).encode() for record in RECORDS]
    assert list(search(lines, Search(), 10)) == RECORDS
    assert list(search(lines, Search(), 2)) == RECORDS[:2]
    assert list(search(lines, Search(device="tent-1"), 1)) == RECORDS[:1]
    assert list(search(lines, Search(outcome="refused"), 2)) == RECORDS[1:3]
    assert list(search(lines, Search(), 0)) == []


def test_search_reads_no_further_than_it_must() -> None:
    """Leave the rest of the trail alone once enough is found."""
    lines = iter([json.dumps(record).encode() for record in RECORDS])
    assert len(list(search(lines, Search(), 1))) == 1
    assert len(list(lines)) == 2


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"torn",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b'{"principal":5}',
        b"[" * 200_000,
        b'{"principal":null,"object":[],"action":"x","outcome":"y"}',
        b'{"principal":{},"object":{},"action":"x","outcome":"y","at":"never"}',
        b'{"principal":{},"object":{},"action":"x","outcome":"y","at":5}',
        b'{"principal":{},"object":{},"action":"x","outcome":"y"}',
    ],
    ids=brief,
)
def test_lines_that_are_no_records_are_passed_over(line: bytes) -> None:
    """Find the others: a damaged line is for the verification to tell of."""
    lines = [line, json.dumps(RECORDS[0]).encode(), line]
    assert list(search(lines, Search(start=NOW), 10)) == RECORDS[:1]


def test_outcomes() -> None:
    """Know the outcomes that a search may name."""
    assert set(OUTCOMES) == {"done", "allowed", "refused", "failed", "found"}
