"""Tests of the audit trail: its lines, keys and checkpoints, and what the script says without Home Assistant."""

import ast
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
import hashlib
import hmac
import json
from pathlib import Path
import runpy
import shutil
import subprocess
import sys
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway import audit
from custom_components.grokmon.gateway.audit import (
    GENESIS,
    MAX_LINE,
    Checkpoint,
    Finding,
    Key,
    Position,
    Verdict,
    Verification,
    Verifier,
    after,
    append,
    checkpoint_text,
    checkpoints,
    evolve,
    is_next,
    key_hash,
    main,
    note,
    segment_name,
    segments,
    start_of,
    verify,
)

from .wire import brief

FIRST: Final = Key(1, bytes(range(32)))
FRESH: Final = b"fresh".ljust(32)
AT: Final = "2026-11-23T18:00:00+00:00"
ORIGIN: Final = "grokmon/audit/0011223344556677"
PRIVATE: Final = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC: Final = PRIVATE.public_key().public_bytes_raw()
OTHER_PUBLIC: Final = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32).public_key().public_bytes_raw()
RECORDS: Final[list[dict[str, Any]]] = [
    {"at": AT, "action": "started", "details": {"devices": 2}},
    {"at": AT, "action": "refused", "object": {"device": "tent-1"}, "reason": "replayed"},
    {"at": AT, "action": "changed", "details": {"name": "Zelt, ärmlich\n\u2028\r\x85", "values": [1, None]}},
    {"at": AT, "action": "commanded", "object": {"device": "tent-1"}},
    {"at": AT, "action": "stopped"},
]
FOLLOWS: Final = "the line does not follow from the one before it"
WRONG: Final = "the MAC is wrong"
INCOMPLETE: Final = "the line is incomplete"
NOT_ALL: Final = "not every line has a key: give also the key that begins where the last one ends"


def chain(
    records: Iterable[Mapping[str, Any]], secret: bytes = FIRST.secret, end: Position | None = None
) -> tuple[list[bytes], list[Position]]:
    """Return the lines of these records, and the place before each and after the last."""
    places = [end or Position()]
    lines: list[bytes] = []
    for record in records:
        line, place = append(places[-1], secret, record)
        secret = evolve(secret)
        lines.append(line)
        places.append(place)
    return lines, places


def secret_of(number: int) -> bytes:
    """Return the key of a line, as anybody computes it from the first one."""
    secret = FIRST.secret
    for _ in range(number - 1):
        secret = hmac.new(secret, b"next", "sha256").digest()
    return secret


def numbered(count: int) -> list[dict[str, Any]]:
    """Return so many records."""
    return [{"at": AT, "action": "tick", "details": {"number": number}} for number in range(count)]


def judged(lines: Iterable[bytes], keys: Iterable[Key] = (FIRST,), anchors: Iterable[Position] = ()) -> Verification:
    """Verify lines as those of one segment."""
    verifier = Verifier(keys, anchors)
    verifier.feed(lines)
    return verifier.report()


def found(report: Verification) -> list[tuple[int, int, str]]:
    """Return the findings of a report, flat."""
    return [(each.line, int(each.result), each.reason) for each in report.findings]


def signed(position: Position, origin: str = ORIGIN, private: Ed25519PrivateKey = PRIVATE) -> str:
    """Return a checkpoint."""
    text = checkpoint_text(origin, position, AT)
    return note(origin, text, private.public_key().public_bytes_raw(), private.sign(text.encode()))


LINES, PLACES = chain(RECORDS)
END: Final = PLACES[-1]
DATA: Final = b"".join(LINES)
BOUNDARIES: Final = [len(b"".join(LINES[:count])) for count in range(len(LINES) + 1)]


def split(data: bytes) -> list[bytes]:
    """Split as a file that is opened for reading bytes does: at line feeds only."""
    parts = [part + b"\n" for part in data.split(b"\n")]
    return [*parts[:-1], parts[-1][:-1]] if parts[-1] != b"\n" else parts[:-1]


# --- Lines


def test_lines_are_json() -> None:
    """Write lines that any JSON parser reads: number, hash of the line before, the record, MAC."""
    for number, (line, record) in enumerate(zip(LINES, RECORDS, strict=True), 1):
        parsed = json.loads(line)
        assert list(parsed) == ["n", "prev", *record, "mac"]
        assert parsed["n"] == number
        assert {name: parsed[name] for name in record} == record


def test_chain_as_anybody_computes_it() -> None:
    """Hash the whole line before; compute the MAC over the raw bytes before its member, with the key of that line."""
    prev = "0" * 64
    for number, line in enumerate(LINES, 1):
        body, mac = line[:-1].split(b',"mac":"')
        assert line.startswith(b'{"n":%d,"prev":"%s",' % (number, prev.encode()))
        assert mac == hmac.new(secret_of(number), body, "sha256").hexdigest().encode() + b'"}'
        prev = hashlib.sha256(line).hexdigest()
    assert Position(len(LINES), prev) == END


def test_line_as_it_always_was() -> None:
    """Write the same bytes for the same record for ever."""
    line, end = append(Position(), bytes(32), {"action": "started"})
    mac = "c4650f8bb4767e6ffb70c2dab3da698b5e1d16273c3bf0aafc7226478aae5fc0"
    assert line == b'{"n":1,"prev":"%s","action":"started","mac":"%s"}\n' % (b"0" * 64, mac.encode())
    assert end == Position(1, hashlib.sha256(line).hexdigest())
    assert evolve(bytes(32)).hex() == "962618a77f066042c306b8c078af543eec3d11bcd18d4c51296e6dfd3e458593"


def test_empty_record() -> None:
    """Write a record without members so that it verifies."""
    lines, places = chain([{}, {"action": "x"}, {}])
    assert lines[0].startswith(b'{"n":1,"prev":"%s","mac":"' % GENESIS.encode())
    assert judged(lines) == Verification(places[-1], (), 3, 3)
    assert judged(lines, ()) == Verification(places[-1], (), 3, 0)


@pytest.mark.parametrize("name", ["n", "prev", "mac"])
def test_members_of_the_chain_are_not_for_records(name: str) -> None:
    """Refuse a record that would write a line with a member twice."""
    with pytest.raises(ValueError, match=r"^n, prev and mac are members of the chain$"):
        append(Position(), FIRST.secret, {"action": "x", name: 5})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_no_json(value: float) -> None:
    """Refuse to write what is no JSON."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(Position(), FIRST.secret, {"value": value})


def test_lone_surrogate() -> None:
    """Write a text that is no Unicode as JSON escapes it, rather than lose the record and those beside it."""
    lines, places = chain([{"name": "a\ud800b"}])
    assert json.loads(lines[0])["name"] == "a\ud800b"
    assert judged(lines) == Verification(places[-1], (), 1, 1)


@pytest.mark.parametrize("letter", ["x", "ä", "\u2028", "\U0001f331"])
def test_longest_line(letter: str) -> None:
    """Write a line of the most bytes that are allowed, and none that has one more."""
    spare = MAX_LINE - len(append(Position(), FIRST.secret, {"text": ""})[0])
    text = letter * (spare // len(letter.encode()))
    text += "y" * (spare - len(text.encode()))
    line, end = append(Position(), FIRST.secret, {"text": text})
    assert len(line) == MAX_LINE
    assert judged([line]).end == end
    with pytest.raises(ValueError, match=r"^the record is too long$"):
        append(Position(), FIRST.secret, {"text": text + "z"})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.text(max_size=8).filter(lambda name: name not in {"n", "prev", "mac"})


@given(
    st.lists(st.dictionaries(MEMBERS, VALUES, max_size=4), max_size=4),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 10**17),
)
def test_any_records(records: list[dict[str, Any]], secret: bytes, before: int) -> None:
    """Write one line per record that can be read back, follows on the one before and tells where it stands."""
    lines, places = chain(records, secret, Position(before, "ab" * 32))
    assert split(b"".join(lines)) == lines
    assert [{k: v for k, v in json.loads(line).items() if k not in {"n", "prev", "mac"}} for line in lines] == records
    assert [start_of(line) for line in lines] == places[:-1]
    assert [after(line) for line in lines] == places[1:]
    for line, place in zip(lines, places[:-1], strict=True):
        assert is_next(line, place, secret)
        assert is_next(line, place, None)
        assert not is_next(line, place, evolve(secret))
        secret = evolve(secret)


@given(st.lists(st.dictionaries(MEMBERS, VALUES, max_size=4), max_size=4))
def test_any_trail(records: list[dict[str, Any]]) -> None:
    """Find any trail good that was written by this code."""
    lines, places = chain(records)
    assert judged(lines, [FIRST], places[1:]) == Verification(
        places[-1], (), len(lines), len(lines), anchored=len(lines)
    )


@pytest.mark.parametrize(
    ("line", "keyed", "plain"),
    [
        (LINES[1], True, True),
        (LINES[0], False, False),
        (LINES[2], False, False),
        (LINES[1].replace(b"tent-1", b"tent-2"), False, True),
        (LINES[1].replace(b"tent-1", b"tent-10"), False, True),
        (LINES[1][:-67] + LINES[1][-67:-3].upper() + b'"}\n', False, True),
        (LINES[1][:-4] + b'f"}\n' if LINES[1][-4:-3] != b"f" else LINES[1][:-4] + b'0"}\n', False, True),
        (LINES[1][:-1], False, False),
        (LINES[1] + b"\n", False, False),
        (LINES[1].replace(b"\n", b"\r\n"), False, False),
        (LINES[1].replace(b'"mac"', b'"mad"'), False, False),
        (b" " + LINES[1], False, False),
        (LINES[1].replace(b'{"n":2', b'{"n":02'), False, False),
        (json.dumps(json.loads(LINES[1])).encode() + b"\n", False, False),
        (b"", False, False),
        (b"\n", False, False),
        (b'"}\n', False, False),
    ],
    ids=brief,
)
def test_what_is_next(line: bytes, *, keyed: bool, plain: bool) -> None:
    """Take the bytes of a line as they are: with its key nothing else follows, without it only the frame counts."""
    assert is_next(line, PLACES[1], secret_of(2)) is keyed
    assert is_next(line, PLACES[1], None) is plain


HEX: Final = b"0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("line", "start", "complete"),
    [
        (LINES[0], PLACES[0], True),
        (LINES[4], PLACES[4], True),
        (LINES[4][:-1], PLACES[4], False),
        (LINES[4] + b"\n", PLACES[4], False),
        (LINES[4].replace(b"\n", b"\r\n"), PLACES[4], False),
        (b'{"n":999999999999999999,"prev":"%s",' % HEX, Position(10**18 - 2, HEX.decode()), False),
        (b'{"n":7,"prev":"%s","a":%s"}\n' % (HEX, b"[" * 100_000), Position(6, HEX.decode()), True),
        (b'{"n":1000000000000000000,"prev":"%s","}\n' % HEX, None, False),
        (b'{"n":%s,"prev":"%s","}\n' % (b"9" * 5000, HEX), None, False),
        (b'{"n":0,"prev":"%s","}\n' % HEX, None, False),
        (b'{"n":-1,"prev":"%s","}\n' % HEX, None, False),
        (b'{"n":01,"prev":"%s","}\n' % HEX, None, False),
        (b'{"n":1.0,"prev":"%s","}\n' % HEX, None, False),
        (b'{"n":"1","prev":"%s","}\n' % HEX, None, False),
        (b'{"n":true,"prev":"%s","}\n' % HEX, None, False),
        ('{"n":\u0661,"prev":"'.encode() + HEX + b'","}\n', None, False),
        (b'{"n": 1,"prev":"%s","}\n' % HEX, None, False),
        (b'{"n":1,"prev":"%s","}\n' % HEX.upper(), None, False),
        (b'{"n":1,"prev":"%s","}\n' % HEX[1:], None, False),
        (b'{"n":1,"prev":"%s"}\n' % HEX, None, False),
        (b'{"prev":"%s","n":1,"}\n' % HEX, None, False),
        (b" " + LINES[0], None, False),
        (b"\xef\xbb\xbf" + LINES[0], None, False),
        (b"{}\n", None, False),
        (b"\n", None, False),
        (b"", None, False),
    ],
    ids=brief,
)
def test_where_a_line_claims_to_stand(line: bytes, start: Position | None, *, complete: bool) -> None:
    """Return the place before a line and, when it is complete, the one after it; nothing for what is no line."""
    assert start_of(line) == start
    expected = Position((start or Position()).count + 1, hashlib.sha256(line).hexdigest()) if complete else None
    assert after(line) == expected


@given(st.binary(max_size=120) | st.binary(max_size=30).map(lambda b: b'{"n":1,"prev":"%s",' % HEX + b + b'"}\n'))
def test_any_last_line(line: bytes) -> None:
    """Raise for no line."""
    assert start_of(line) in {None, Position(0, HEX.decode())}
    assert after(line) in {None, Position(1, hashlib.sha256(line).hexdigest())}


# --- Keys


@given(st.integers(1, 10**18 - 1), st.binary(min_size=32, max_size=32))
def test_key_there_and_back(start: int, secret: bytes) -> None:
    """Read the key that was written, also with the white space that comes with copying it."""
    key = Key(start, secret)
    text = key.to_text()
    assert text.startswith(f"{start}.")
    assert len(text) == len(f"{start}.") + 43
    assert Key.from_text(text) == Key.from_text(f" {text}\n") == key


def test_key_evolves() -> None:
    """Make the key of the next line from the one of this line, and show no key where objects are shown."""
    assert evolve(FIRST.secret) == secret_of(2)
    assert evolve(evolve(FIRST.secret)) == secret_of(3)
    assert repr(FIRST) == "Key(start=1)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.",
        FIRST.to_text()[2:],
        FIRST.to_text()[:-1],
        FIRST.to_text() + "A",
        FIRST.to_text() + "=",
        "0" + FIRST.to_text(),
        "0." + FIRST.to_text()[2:],
        "-" + FIRST.to_text(),
        "1" * 19 + FIRST.to_text()[1:],
        "\u0661" + FIRST.to_text()[1:],
        "1." + "+" * 43,
        "1." + "ä" * 43,
        FIRST.to_text().replace(".", " ."),
    ],
    ids=brief,
)
def test_text_that_is_no_key(text: str) -> None:
    """Refuse what is no key, and say what one looks like."""
    with pytest.raises(ValueError, match=r"^no audit key: it looks like 1\.xxxxx, with 43 characters after the point$"):
        Key.from_text(text)


# --- Checkpoints


def test_checkpoint_is_a_signed_note() -> None:
    """Write a note as C2SP's signed-note and tlog-checkpoint say, computed here by hand."""
    text = f"{ORIGIN}\n5\n{b64encode(bytes.fromhex(END.head)).decode()}\n{AT}\n"
    assert checkpoint_text(ORIGIN, END, AT) == text
    named = hashlib.sha256(ORIGIN.encode() + b"\n\x01" + PUBLIC).digest()[:4]
    assert key_hash(ORIGIN, PUBLIC) == named
    signature = b64encode(named + PRIVATE.sign(text.encode())).decode()
    assert signed(END) == f"{text}\n\u2014 {ORIGIN} {signature}\n"


@pytest.mark.parametrize("between", ["", "\n", "\n\n  \n"])
def test_checkpoints_there_and_back(between: str) -> None:
    """Read as many checkpoints as there are, with their signatures, whatever white space is between them."""
    read = list(checkpoints(between + between.join(signed(place) for place in PLACES) + between))
    assert [each.position for each in read] == PLACES
    assert {each.origin for each in read} == {ORIGIN}
    assert all(each.signed_by(PUBLIC) is True for each in read)
    assert [each.text for each in read] == [checkpoint_text(ORIGIN, place, AT) for place in PLACES]
    assert [each.whole for each in read] == [signed(place) for place in PLACES]
    assert list(checkpoints(between)) == []


def test_checkpoint_with_other_lines() -> None:
    """Read a note with no further line, and one with several: they are part of what is signed."""
    for more in ("", "one\n", "one\n\u2014 two\nthree\n"):
        text = f"{ORIGIN}\n5\n{b64encode(bytes.fromhex(END.head)).decode()}\n{more}"
        (read,) = checkpoints(note(ORIGIN, text, PUBLIC, PRIVATE.sign(text.encode())))
        assert (read.position, read.text, read.signed_by(PUBLIC)) == (END, text, True)


def test_checkpoint_of_another_key() -> None:
    """Take no signature for another one: not of another key, name, text or count."""
    (read,) = checkpoints(signed(END))
    assert read.signed_by(OTHER_PUBLIC) is False
    for changed in (
        Checkpoint("grokmon/other", read.position, read.text, read.signature),
        Checkpoint(ORIGIN, read.position, read.text + "x", read.signature),
        Checkpoint(ORIGIN, read.position, read.text, read.signature[:-1] + bytes([read.signature[-1] ^ 1])),
        Checkpoint(ORIGIN, read.position, read.text, bytes([read.signature[0] ^ 1]) + read.signature[1:]),
    ):
        assert changed.signed_by(PUBLIC) is False


def test_signature_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say that it is not known, rather than yes or no, where there is no library to find out."""
    (read,) = checkpoints(signed(END))
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    assert read.signed_by(PUBLIC) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1],
        lambda text: text[1:].replace("rokmon", "", 1),
        lambda text: text + "x",
        lambda text: "x y" + text,
        lambda text: text + text[:40],
        lambda text: text[:40] + text,
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("\n5\n", "\n-5\n"),
        lambda text: text.replace("\n5\n", "\n5.0\n"),
        lambda text: text.replace("\n5\n", "\n\n"),
        lambda text: text.replace("\n5\n", "\n" + "9" * 19 + "\n"),
        lambda text: text.replace("\n5\n", "\n\u0665\n"),
        lambda text: text.replace("=\n", "\n"),
        lambda text: text.replace("\u2014", "-"),
        lambda text: text.replace(f"\u2014 {ORIGIN}", "\u2014 other"),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text.rpartition(" ")[0] + " AAAA\n",
        lambda text: text.rpartition(" ")[0] + " A\n",
        lambda text: text.rpartition(" ")[0] + " " + "A" * 88 + "\n",
        lambda _: "null",
        lambda _: "\u2014 " * 10_000,
    ],
)
def test_hostile_checkpoint(spoil: Callable[[str], str]) -> None:
    """Refuse what is no checkpoint: a bad one must not make a trail look good."""
    with pytest.raises(ValueError, match=r".*"):
        list(checkpoints(spoil(signed(END))))


@pytest.mark.parametrize("text", ["x\n" + signed(END), signed(END) + "x\n" + signed(END), signed(END) + "x"], ids=brief)
def test_something_beside_checkpoints(text: str) -> None:
    """Refuse what stands before, between or after checkpoints."""
    with pytest.raises(ValueError, match=r"^not a checkpoint$"):
        list(checkpoints(text))


@given(st.text(max_size=200))
def test_any_checkpoint(text: str) -> None:
    """Raise nothing but ValueError for any text, and take none but white space for no checkpoints."""
    try:
        read = list(checkpoints(text))
    except ValueError:
        read = []
    else:
        assert not text.strip()
    assert read == []


# --- What is found


def test_good_trail() -> None:
    """Find a whole trail good, with and without key, also with checkpoints at any place in it."""
    assert judged(LINES) == Verification(END, (), 5, 5)
    assert judged(LINES, ()) == Verification(END, (), 5, 0)
    assert judged([]) == Verification(Position(0, GENESIS), (), 0, 0)
    for place in PLACES[1:]:
        assert judged(LINES, (), [place]) == Verification(END, (), 5, 0, anchored=place.count)
    assert judged(LINES, [FIRST], PLACES) == Verification(END, (), 5, 5, anchored=5)


@pytest.mark.parametrize("number", [2, 5, 6])
def test_key_of_a_later_line(number: int) -> None:
    """Check what a key that begins later can check; with the first one beside, everything."""
    later = Key(number, secret_of(number))
    assert judged(LINES, [later]) == Verification(END, (), 5, 6 - number)
    assert judged(LINES, [FIRST, later]) == Verification(END, (), 5, 5)
    wrong = Key(number, FRESH)
    findings = tuple(Finding(line, Verdict.ALTERED, WRONG) for line in range(number, 6))
    assert judged(LINES, [FIRST, wrong]).findings == findings


def test_every_flipped_bit_is_found() -> None:
    """Find every single bit that is flipped with the key; an incomplete last line is cut, whatever else it is."""
    for at in range(len(DATA)):
        for bit in range(8):
            report = judged(split(DATA[:at] + bytes([DATA[at] ^ 1 << bit]) + DATA[at + 1 :]))
            assert report.result is not Verdict.GOOD
            if at == len(DATA) - 1:
                assert found(report) == [(5, 2, INCOMPLETE)]


def test_every_removed_byte_is_found() -> None:
    """Find every single byte that is missing."""
    for at in range(len(DATA)):
        assert judged(split(DATA[:at] + DATA[at + 1 :])).result is not Verdict.GOOD


@pytest.mark.parametrize("byte", [b" ", b"\n", b"\r", b"\x00", b"0", b'"', b",", b"}"])
def test_every_added_byte_is_found(byte: bytes) -> None:
    """Find every single byte that was put in; behind the last line feed it is an incomplete line."""
    for at in range(len(DATA) + 1):
        assert judged(split(DATA[:at] + byte + DATA[at:])).result is not Verdict.GOOD


def test_every_cut() -> None:
    """Find a cut inside a line without anything; one between lines only with a checkpoint beyond it."""
    for at in range(len(DATA) + 1):
        lines = split(DATA[:at])
        expected = Verdict.GOOD if at in BOUNDARIES else Verdict.CUT
        assert judged(lines, ()).result is judged(lines).result is expected
        assert judged(lines, (), [END]).result is (Verdict.GOOD if at == len(DATA) else Verdict.CUT)


MISSING_3: Final = "lines 3 to 3 are missing"
REWRITTEN: Final = chain([{"action": "forged"}, *RECORDS[3:]], bytes(32), PLACES[2])[0]
TWICE: Final = LINES[2].replace(b'"action":', b'"action":"x","action":')


@pytest.mark.parametrize(
    ("lines", "plain", "keyed", "anchored"),
    [
        (LINES[:-1], [], [], [(5, 2, "a checkpoint counts 5 lines")]),
        ([], [], [], [(1, 2, "a checkpoint counts 5 lines")]),
        ([*LINES[:4], LINES[4].replace(b"stopped", b"stepped")], [], [(5, 1, WRONG)], None),
        ([*LINES[:4], LINES[4][:-67] + b"0" * 64 + b'"}\n'], [], [(5, 1, WRONG)], None),
        ([*LINES[:2], *LINES[3:]], [(3, 2, MISSING_3)], [(3, 2, MISSING_3)], [(3, 2, MISSING_3)]),
        (
            [*LINES[:2], LINES[2].replace(b"changed", b"chanced"), *LINES[3:]],
            [(4, 1, FOLLOWS)],
            [(3, 1, WRONG)],
            [(4, 1, FOLLOWS)],
        ),
        ([*LINES[:2], TWICE, *LINES[3:]], [(4, 1, FOLLOWS)], [(3, 1, WRONG)], [(4, 1, FOLLOWS)]),
        ([*LINES[:2], b"{}\n", *LINES[3:]], [(3, 1, FOLLOWS)], [(3, 1, FOLLOWS)], None),
        ([*LINES, LINES[-1]], [(6, 1, FOLLOWS)], [(6, 1, FOLLOWS)], None),
        ([*LINES, b"\n"], [(6, 1, FOLLOWS)], [(6, 1, FOLLOWS)], [(6, 1, FOLLOWS)]),
        ([*LINES, b"torn"], [(6, 2, INCOMPLETE)], [(6, 2, INCOMPLETE)], [(6, 2, INCOMPLETE)]),
        ([*LINES, LINES[0][:-1]], [(6, 2, INCOMPLETE)], [(6, 2, INCOMPLETE)], [(6, 2, INCOMPLETE)]),
        (LINES[2:], [(1, 2, "lines 1 to 2 are missing, and no line says why")], None, None),
        ([*LINES[:2], *REWRITTEN], [], [(3, 1, WRONG), (4, 1, WRONG), (5, 1, WRONG)], None),
        (
            [*LINES, *chain([{"action": "later"}], secret_of(6), END)[0]],
            [],
            [],
            [],
        ),
    ],
    ids=brief,
)
def test_what_was_done_to_a_trail(
    lines: list[bytes],
    plain: list[tuple[int, int, str]],
    keyed: list[tuple[int, int, str]] | None,
    anchored: list[tuple[int, int, str]] | None,
) -> None:
    """Find what was removed, added, moved or rewritten; what only a key or only a checkpoint can show, with it.

    None stands for findings that begin with those of the plain verification or have others beside them.
    """
    assert found(judged(lines, ())) == plain
    for report, expected in ((judged(lines), keyed), (judged(lines, (), [END]), anchored)):
        if expected is not None:
            assert found(report) == expected
        else:
            assert report.result is not Verdict.GOOD
            assert set(plain) <= set(found(report))


def test_line_of_no_checkpoint() -> None:
    """Name each line that is another one than a checkpoint says, and go on comparing."""
    anchors = [PLACES[1], Position(2, "0" * 64), PLACES[3], Position(4, "1" * 64)]
    report = judged(LINES, [FIRST], anchors)
    other = "the line is not the one of a checkpoint"
    assert found(report) == [(2, 1, other), (4, 1, other)]
    assert (report.anchored, report.end) == (3, END)


@pytest.mark.parametrize("order", [1, -1])
def test_two_checkpoints_of_one_line(order: int) -> None:
    """Find that two checkpoints contradict each other: whoever has the box could sign another one for the same line."""
    anchors = [PLACES[3], Position(3, "0" * 64)][::order]
    assert found(judged(LINES, [FIRST], anchors)) == [(3, 1, "the line is not the one of a checkpoint")]


def test_gap_with_wrong_lines_behind() -> None:
    """Take up the key behind a gap, and tell when the line there was not written by it."""
    forged = chain([{"action": "forged"}], bytes(32), PLACES[3])[0]
    assert found(judged([*LINES[:2], *forged])) == [(3, 1, WRONG)]
    assert found(judged([*LINES[:2], *forged], ())) == [(3, 2, MISSING_3)]


def test_findings_go_on() -> None:
    """Report every place where something is wrong, each once, and the result of the first."""
    lines, places = chain(numbered(200))
    spoilt = [line.replace(b"tick", b"tock") if n in {20, 150} else line for n, line in enumerate(lines, 1) if n != 90]
    report = judged(spoilt, [FIRST], [places[-1]])
    assert found(report) == [
        (20, 1, WRONG),
        (90, 2, "lines 90 to 90 are missing"),
        (150, 1, WRONG),
    ]
    assert (report.end, report.lines, report.keyed, report.anchored) == (places[-1], 199, 197, 200)
    assert report.result is Verdict.ALTERED


def test_findings_are_bounded() -> None:
    """Stop listing at 100, but read to the end."""
    report = judged(chain(numbered(150), bytes(32))[0])
    assert [each.line for each in report.findings] == list(range(1, 101))
    assert (report.lines, report.end.count, report.keyed) == (150, 0, 0)


@given(st.lists(st.binary(max_size=100) | st.sampled_from(LINES) | st.binary(max_size=80).map(lambda b: b + b"\n")))
def test_any_lines(lines: list[bytes]) -> None:
    """Raise for no file, and find none good that is not the trail."""
    assert (judged(lines, [FIRST], [END]).result is Verdict.GOOD) == (lines == LINES)
    assert (judged(lines, [FIRST]).result is Verdict.GOOD) == (lines == LINES[: len(lines)])
    judged(lines, ())


@pytest.mark.parametrize(
    "forged",
    [
        {"details": {"action": "audit_x"}},
        {"action": "audit_segment_deleted"},
        {"action": "audit_segment_deleted", "details": {"through": [], "head": {}}},
        {"action": "audit_segment_deleted", "details": None},
    ],
    ids=brief,
)
def test_forged_marks(forged: dict[str, Any]) -> None:
    """Raise for no line that somebody without the key wrote, whatever it pretends to mark."""
    lines = [*LINES, *chain([forged], bytes(32), END)[0]]
    judged(lines, ())


@pytest.mark.parametrize("body", [b'"action":"audit_x', b'"action":"audit_\xff"', b'"action":"audit_","a":' + b"[" * 9])
def test_forged_marks_that_are_no_json(body: bytes) -> None:
    """Raise for no last line either that is no JSON at all."""
    start = b'{"n":6,"prev":"%s",' % END.head.encode()
    judged([*LINES, start + body + b',"mac":"' + b"0" * 64 + b'"}\n'], ())


_HUGE: Final = b'{"n":999999999999999999,"prev":"%s","mac":"%s"}\n' % (HEX, HEX)
_JUDGE: Final = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("audit", sys.argv[1])
audit = sys.modules["audit"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit)
verifier = audit.Verifier([audit.Key(1, bytes(range(32)))])
verifier.feed(sys.stdin.buffer)
print(verifier.report().result.name)
"""


@pytest.mark.parametrize("lines", [[*LINES, _HUGE], [_HUGE]], ids=["last", "first"])
def test_huge_number(lines: list[bytes]) -> None:
    """Come to an end with a line that claims a number which no trail reaches."""
    command = [sys.executable, "-I", "-S", "-c", _JUDGE, audit.__file__]
    done = subprocess.run(command, input=b"".join(lines), capture_output=True, check=True, timeout=60)  # noqa: S603 - ours
    assert done.stdout.strip() in {b"ALTERED", b"CUT"}


@pytest.mark.parametrize(
    ("kept", "findings", "keyed"),
    [
        ([1, 2, 13], [(3, 2, "lines 3 to 12 are missing")], 3),
        ([1, 2, 14], [(3, 1, FOLLOWS)], 2),
        ([1, 2, 7, 13], [(3, 2, "lines 3 to 6 are missing"), (8, 2, "lines 8 to 12 are missing")], 4),
        ([1, 2, 7, 15], [(3, 2, "lines 3 to 6 are missing"), (8, 1, FOLLOWS)], 3),
    ],
)
def test_as_many_keys_are_skipped_as_one_can_wait_for(
    monkeypatch: pytest.MonkeyPatch, kept: list[int], findings: list[tuple[int, int, str]], keyed: int
) -> None:
    """Compute the keys of lines that are missing, up to a number in all, since anybody can write a huge one."""
    monkeypatch.setattr(audit, "_MOST_SKIPPED", 10)
    lines = chain(numbered(15))[0]
    report = judged([lines[number - 1] for number in kept])
    assert (found(report), report.keyed) == (findings, keyed)


@pytest.mark.parametrize("keys", [[FIRST], []], ids=["key", "no key"])
@pytest.mark.parametrize("change", ["duplicated", "swapped", "inserted"])
def test_finds_back_after_a_line_from_before(keys: list[Key], change: str) -> None:
    """Go on after a line that was put in or moved, so that this finding does not hide all of the next."""
    lines, places = chain(numbered(200))
    inserted = append(places[20], FRESH, {"action": "forged"})[0]
    spoilt = {
        "duplicated": [*lines[:21], *lines[20:]],
        "swapped": [*lines[:20], lines[21], lines[20], *lines[22:]],
        "inserted": [*lines[:20], inserted, *lines[20:]],
    }[change]
    report = judged(spoilt, keys, [places[-1]])
    assert report.result is not Verdict.GOOD
    assert max(each.line for each in report.findings) <= 23
    assert report.anchored == 200


# --- Segments


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the trail: two segments, and files that are none."""
    path = tmp_path / "audit"
    path.mkdir()
    (path / segment_name(1)).write_bytes(b"".join(LINES[:3]))
    (path / segment_name(4)).write_bytes(b"".join(LINES[3:]))
    for name in ("next.key", "audit-000000000001.jsonl.torn-17", "audit-1.jsonl", "xaudit-000000000001.jsonl"):
        (path / name).write_bytes(b"no segment")
    return path


def test_segments_in_their_order(folder: Path) -> None:
    """Name a segment by its first line, and find no other file."""
    assert [path.name for path in segments(folder)] == ["audit-000000000001.jsonl", "audit-000000000004.jsonl"]
    assert verify(folder, [FIRST], [END]) == Verification(END, (), 5, 5, anchored=5)


def test_empty_folder(tmp_path: Path) -> None:
    """Find nothing wrong where nothing is; a checkpoint says whether there should be something."""
    assert verify(tmp_path) == Verification(Position(), (), 0, 0)
    assert found(verify(tmp_path, (), [END])) == [(1, 2, "a checkpoint counts 5 lines")]
    with pytest.raises(OSError, match="missing"):
        verify(tmp_path / "missing")


def test_incomplete_line_between_segments(folder: Path) -> None:
    """Take an incomplete line for a cut only at the very end."""
    (folder / segment_name(1)).write_bytes(b"".join(LINES[:3])[:-9])
    assert found(verify(folder, [FIRST]))[:2] == [(3, 1, INCOMPLETE), (3, 2, MISSING_3)]
    (folder / segment_name(1)).write_bytes(b"".join(LINES[:3]))
    (folder / segment_name(4)).write_bytes(LINES[3][:-9])
    assert found(verify(folder, [FIRST])) == [(4, 2, INCOMPLETE)]


def test_missing_segment(folder: Path) -> None:
    """Find a segment that is gone: the first, one between, the last with a checkpoint."""
    middle = folder / segment_name(4)
    (folder / segment_name(6)).write_bytes(b"".join(chain(numbered(2), secret_of(6), END)[0]))
    assert verify(folder, [FIRST]).result is Verdict.GOOD
    kept = middle.read_bytes()
    middle.unlink()
    assert found(verify(folder, [FIRST])) == [(4, 2, "lines 4 to 5 are missing")]
    middle.write_bytes(kept)
    (folder / segment_name(6)).unlink()
    assert verify(folder, [FIRST]).result is Verdict.GOOD
    assert verify(folder, [FIRST], [Position(7, "f" * 64)]).result is Verdict.CUT
    (folder / segment_name(1)).unlink()
    assert found(verify(folder, [FIRST])) == [(1, 2, "lines 1 to 3 are missing, and no line says why")]


def _deleted(through: Position) -> dict[str, Any]:
    details = {"first": 1, "through": through.count, "head": through.head}
    return {"at": AT, "action": audit.SEGMENT_DELETED, "details": details}


def test_deleted_segment_that_a_line_tells_of() -> None:
    """Find nothing wrong with a beginning whose deletion is recorded, and check the rest with the first key."""
    lines, places = chain([*RECORDS, _deleted(PLACES[3])])
    assert judged(lines[3:]) == Verification(places[-1], (), 3, 3)
    assert judged(lines[3:], (), [PLACES[1], PLACES[4]]) == Verification(places[-1], (), 3, 0, anchored=4)
    assert judged(lines[3:], [Key(3, secret_of(3))]) == Verification(places[-1], (), 3, 3)
    assert judged(lines[3:], [Key(5, secret_of(5))]) == Verification(places[-1], (), 3, 2)
    assert judged(lines) == Verification(places[-1], (), 6, 6)


@pytest.mark.parametrize(
    "told", [Position(2, PLACES[2].head), Position(3, "0" * 64), Position(4, PLACES[4].head)], ids=brief
)
def test_deleted_segment_that_no_line_tells_of(told: Position) -> None:
    """Take the record of one deletion for no other one; that of a forged line for none with the key."""
    lines, _ = chain([*RECORDS, _deleted(told)])
    why = [(1, 2, "lines 1 to 3 are missing, and no line says why")]
    assert found(judged(lines[3:])) == why
    forged = [*LINES[3:], *chain([_deleted(PLACES[3])], FRESH, END)[0]]
    assert found(judged(forged)) == [*why, (6, 1, WRONG)]
    assert found(judged(forged, ())) == []


def test_key_changed() -> None:
    """Check lines with the old key up to the record of the change, then with the new one, or not at all."""
    old, places = chain([*RECORDS, {"at": AT, "action": audit.KEY_CHANGED}])
    new, more = chain(numbered(3), FRESH, places[-1])
    fresh = Key(7, FRESH)
    assert judged([*old, *new], [FIRST]) == Verification(more[-1], (), 9, 6, unkeyed=3)
    assert judged([*old, *new], [FIRST, fresh]) == Verification(more[-1], (), 9, 9)
    assert judged([*old, *new], [fresh]) == Verification(more[-1], (), 9, 3)
    edited = [*old, new[0].replace(b"tick", b"tock"), *new[1:]]
    assert found(judged(edited, [FIRST, fresh])) == [(7, 1, WRONG)]
    assert found(judged(edited, [FIRST])) == [(8, 1, FOLLOWS)]


def test_key_changed_behind_a_gap() -> None:
    """Check with the new key from where it begins, and the line that has none here with no other one."""
    old, places = chain([*RECORDS, {"at": AT, "action": audit.KEY_CHANGED}])
    new = chain(numbered(3), FRESH, places[-1])[0]
    report = judged([*old[:4], old[5], *new], [FIRST, Key(5, secret_of(5)), Key(8, evolve(FRESH))])
    assert found(report) == [(5, 2, "lines 5 to 5 are missing")]
    assert (report.keyed, report.unkeyed) == (7, 1)


def test_key_changed_unsaid() -> None:
    """Take no other key without a line that says so, nor because a forged line says so."""
    new = chain(numbered(2), FRESH, END)[0]
    assert found(judged([*LINES, *new])) == [(6, 1, WRONG), (7, 1, WRONG)]
    said, places = chain([{"action": audit.KEY_CHANGED}], FRESH, END)
    assert found(judged([*LINES, *said, *chain(numbered(1), bytes(32), places[-1])[0]])) == [
        (6, 1, WRONG),
        (7, 1, WRONG),
    ]


def test_other_records_of_the_trail_itself() -> None:
    """Take no other action for a mark, wherever the words stand."""
    records: list[dict[str, Any]] = [
        {"action": "audit_recovered", "details": {}},
        {"action": "asked", "details": {"action": audit.KEY_CHANGED}},
        {"action": "asked", "reason": '"action":"audit_key_changed"'},
    ]
    lines, places = chain(records)
    assert judged(lines) == Verification(places[-1], (), 3, 3)


# --- The script

ELSEWHERE: Final = "kept elsewhere and here"
HERE: Final = "kept here only: a cut end may not be found"
NO_KEY: Final = "no key given: a rewritten end may not be found"


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    """Return a file with a checkpoint, kept beside the folder."""
    path = tmp_path / "anchors.txt"
    path.write_text(signed(END), encoding="utf-8")
    return path


def _edit(folder: Path, first: int, old: bytes, new: bytes) -> None:
    path = folder / segment_name(first)
    path.write_bytes(path.read_bytes().replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        (b"", b"", 0, [f"good: 5 lines, {NO_KEY}", f"checkpoints up to line 0, {HERE}"]),
        (b"stopped", b"stepped", 0, [f"good: 5 lines, {NO_KEY}", f"checkpoints up to line 0, {HERE}"]),
        (
            b"commanded",
            b"commander",
            1,
            [f"altered: 5 lines, {NO_KEY}", f"checkpoints up to line 0, {HERE}", f"line 5: {FOLLOWS}"],
        ),
        (LINES[4], LINES[4][:-1], 2, [f"cut: 5 lines, {NO_KEY}", f"checkpoints up to line 0, {HERE}"]),
    ],
    ids=brief,
)
def test_script_with_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], *, old: bytes, new: bytes, code: int, said: list[str]
) -> None:
    """Say what was found, and what would not be."""
    _edit(folder, 4, old, new)
    assert main(["verify", str(folder)]) == code
    assert capsys.readouterr().out.splitlines()[: len(said)] == said


@pytest.mark.parametrize("public", [[], ["--public-key", b64encode(PUBLIC).decode()]], ids=["", "signed"])
def test_script_with_everything(
    folder: Path, anchors: Path, capsys: pytest.CaptureFixture[str], public: list[str]
) -> None:
    """Check the MACs and what was kept elsewhere, also its signatures."""
    options = ["verify", str(folder), "--key", FIRST.to_text(), "--anchors", str(anchors), *public]
    assert main(options) == 0
    assert capsys.readouterr().out == f"good: 5 lines, 5 MACs checked\ncheckpoints up to line 5, {ELSEWHERE}\n"
    _edit(folder, 4, LINES[4], b"")
    assert main(options) == 2
    assert capsys.readouterr().out == (
        f"cut: 4 lines, 4 MACs checked\ncheckpoints up to line 0, {ELSEWHERE}\nline 5: a checkpoint counts 5 lines\n"
    )
    _edit(folder, 4, b"commanded", b"commander")
    assert main(options) == 1


def test_script_with_the_checkpoints_beside(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Compare with the checkpoints that stand beside the trail, without trusting them more than it."""
    (folder / audit.CHECKPOINTS).write_text(signed(PLACES[2]) + signed(END), encoding="utf-8")
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out == f"good: 5 lines, {NO_KEY}\ncheckpoints up to line 5, {HERE}\n"
    _edit(folder, 4, LINES[4], b"")
    assert main(["verify", str(folder)]) == 2
    elsewhere = folder.parent / "earlier.txt"
    elsewhere.write_text(signed(PLACES[2]), encoding="utf-8")
    assert main(["verify", str(folder), "--anchors", str(elsewhere)]) == 2
    (folder / audit.CHECKPOINTS).unlink()
    assert main(["verify", str(folder)]) == 0


def test_script_with_keys_that_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Call no trail good of which lines were not checked with the keys that were given; a finding comes first."""
    old, places = chain([*RECORDS, {"at": AT, "action": audit.KEY_CHANGED}])
    new = chain(numbered(2), FRESH, places[-1])[0]
    (folder / segment_name(4)).write_bytes(b"".join([*old[3:], *new]))
    first, fresh = ["--key", FIRST.to_text()], ["--key", Key(7, FRESH).to_text()]
    assert main(["verify", str(folder), *first]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == NOT_ALL
    assert main(["verify", str(folder), *first, *fresh]) == 0
    assert main(["verify", str(folder), *fresh]) == 0
    assert main(["verify", str(folder), "--key", Key(9, FRESH).to_text()]) == 3
    _edit(folder, 4, b"commanded", b"commander")
    assert main(["verify", str(folder), *first]) == 1
    assert NOT_ALL not in capsys.readouterr().out.splitlines()[-1:]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "required"),
        (["verify"], "required"),
        (["prove", "audit"], "invalid choice"),
        (["verify", "audit", "--unknown"], "unrecognized"),
        (["verify", "missing"], "missing"),
        (["verify", "anchors.txt"], "anchors.txt"),
        (["verify", "audit", "--key", "1.short"], "no audit key"),
        (["verify", "audit", "--anchors", "missing.txt"], "missing.txt"),
        (["verify", "audit", "--anchors", "."], "directory"),
        (["verify", "audit", "--anchors", "binary"], "decode"),
        (["verify", "audit", "--anchors", "text"], "not a checkpoint"),
        (["verify", "audit", "--anchors", "anchors.txt", "--public-key", "?"], "base64"),
        (["verify", "audit", "--anchors", "anchors.txt", "--public-key", "QUJD"], "line 5 is not signed by this key"),
        (
            ["verify", "audit", "--anchors", "anchors.txt", "--public-key", b64encode(OTHER_PUBLIC).decode()],
            "line 5 is not signed by this key",
        ),
    ],
    ids=brief,
)
@pytest.mark.usefixtures("folder", "anchors")
def test_script_that_cannot_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], why: str
) -> None:
    """Exit with a code of its own where nothing was verified: it is neither good nor altered nor cut."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "text").write_text("{}")
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert why in said.err


def test_script_that_cannot_check_signatures(
    folder: Path, anchors: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify nothing when signatures were asked for and there is no library for them."""
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(SystemExit) as caught:
        main(["verify", str(folder), "--anchors", str(anchors), "--public-key", b64encode(PUBLIC).decode()])
    assert caught.value.code == 3
    assert capsys.readouterr().err.endswith(": signatures need the Python package cryptography\n")
    assert main(["verify", str(folder), "--anchors", str(anchors)]) == 0


def _pythons() -> list[str]:
    """Return this Python, the system's, which is what an inspector has, and one of each version that pyenv has."""
    found = {sys.executable, *filter(None, [shutil.which("python3", path="/usr/bin:/usr/local/bin")])}
    for path in Path.home().glob(".pyenv/versions/3.*/bin/python3"):
        major, minor = path.parents[1].name.split(".")[:2]
        if (int(major), int(minor)) >= (3, 10):
            found.add(str(path))
    return sorted(found)


PYTHONS: Final = _pythons()


def _run(python: str, isolation: list[str], *arguments: str) -> tuple[int, str, str]:
    command = [python, *isolation, audit.__file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - our own script
    return done.returncode, done.stdout, done.stderr


def test_script_has_the_syntax_of_an_older_python() -> None:
    """Parse the script as Python 3.10 does."""
    assert ast.parse(Path(audit.__file__).read_text(encoding="utf-8"), feature_version=(3, 10))


def test_script_needs_the_standard_library_only() -> None:
    """Import nothing else where the module is loaded."""
    tree = ast.parse(Path(audit.__file__).read_text(encoding="utf-8"))
    names = {
        name.partition(".")[0]
        for node in tree.body
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names <= sys.stdlib_module_names


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("isolation", [["-I", "-S"], ["-S"]], ids=" ".join)
def test_script_in_a_bare_interpreter(folder: Path, anchors: Path, python: str, isolation: list[str]) -> None:
    """Run as a file, with a Python that knows neither Home Assistant nor this package nor any other."""
    options = ["verify", str(folder), "--key", FIRST.to_text(), "--anchors", str(anchors)]
    assert _run(python, isolation, *options)[::2] == (0, "")
    code, said, error = _run(python, isolation, *options, "--public-key", b64encode(PUBLIC).decode())
    assert (code, said, "cryptography" in error) == (3, "", True)
    _edit(folder, 4, b"tent-1", b"tent-2")
    code, said, error = _run(python, isolation, *options)
    assert (code, said.splitlines()[2], error) == (1, f"line 4: {WRONG}", "")
    _edit(folder, 4, b"tent-2", b"tent-1")
    _edit(folder, 4, LINES[4], LINES[4][:-9])
    code, said, error = _run(python, isolation, *options)
    assert (code, said.splitlines()[2], error) == (2, f"line 5: {INCOMPLETE}", "")


def test_script_as_it_is_run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit with the code of what was found."""
    monkeypatch.setattr(sys, "argv", ["audit.py", "verify", str(folder)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(audit.__file__, run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("good: 5 lines")


USAGE: Final = """
usage: audit.py [-h] {verify} ...
Verify an audit trail. Exit codes: 0 good, 1 altered, 2 cut, 3 not verified.
positional arguments:
  {verify}  verify  check every line, and what checkpoints say of them
options:
  -h, --help  show this help message and exit
"""
USAGE_OF_VERIFY: Final = """
usage: audit.py verify [-h] [--key KEY] [--anchors ANCHORS] [--public-key PUBLIC_KEY] folder
positional arguments:
  folder  the folder with audit-*.jsonl
options:
  -h, --help  show this help message and exit
  --key KEY  a key that was kept elsewhere; repeatable
  --anchors ANCHORS  a file with checkpoints that were kept elsewhere
  --public-key PUBLIC_KEY  the key that signed them, base64; then each signature is checked
"""


@pytest.mark.parametrize(("command", "usage"), [([], USAGE), (["verify"], USAGE_OF_VERIFY)], ids=["", "verify"])
def test_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], usage: str
) -> None:
    """Tell how it is used, what it takes and what its exit codes mean."""
    monkeypatch.setattr(sys, "argv", ["audit.py"])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.split() == usage.split()


def test_usage_in_a_bare_interpreter() -> None:
    """Tell how it is used."""
    code, said, _ = _run(sys.executable, ["-I", "-S"], "verify", "--help")
    assert code == 0
    assert {"--key", "--anchors", "--public-key"} <= set(said.split())
    assert "3 not verified" in _run(sys.executable, ["-I", "-S"], "--help")[1]


def test_head_in_a_checkpoint_is_the_one_of_the_line() -> None:
    """Write the hash of the last line as it is in a checkpoint: base64 of its 32 bytes."""
    assert b64decode(signed(END).splitlines()[2]) == hashlib.sha256(LINES[-1]).digest()
