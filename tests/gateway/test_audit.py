"""Tests of the audit trail: every change to it is found, and the script says so without Home Assistant."""

import ast
from collections.abc import Callable
import json
from pathlib import Path
import runpy
import shutil
import subprocess
import sys
from typing import Any

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway import audit
from custom_components.grokmon.gateway.audit import GENESIS, Checkpoint, Report, Result, append, end_of, main, verify

from .wire import brief

ENTRIES: list[dict[str, Any]] = [
    {"at": "2026-11-23T18:00:00.000+00:00", "event": "started", "devices": 2},
    {"at": "2026-11-23T18:00:01.000+00:00", "event": "refused", "device": "tent-1", "reason": "replayed"},
    {"at": "2026-11-23T18:00:02.000+00:00", "event": "changed", "name": "Zelt, ärmlich\n\u2028", "values": [1, None]},
    {"event": "stopped"},
]

ALONE = "good entries, compared with no checkpoint, so a cut end would not be found"
BROKEN = "the line does not follow from the one before it"


def trail(entries: list[dict[str, Any]], start: Checkpoint | None = None) -> tuple[list[bytes], Checkpoint]:
    """Return the lines of these entries, and the end."""
    end = start or Checkpoint()
    lines: list[bytes] = []
    for entry in entries:
        line, end = append(end, entry)
        lines.append(line)
    return lines, end


LINES, END = trail(ENTRIES)
DATA = b"".join(LINES)
BOUNDARIES = [len(b"".join(LINES[:count])) for count in range(len(LINES) + 1)]


def by_newline(data: bytes) -> list[bytes]:
    """Split as a file opened for reading bytes does."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    return [*lines[:-1], lines[-1][:-1]] if lines[-1] != b"\n" else lines[:-1]


def judged(data: bytes, checkpoint: Checkpoint | None = None) -> int:
    """Verify the bytes of a file, split at line feeds only; return the exit code."""
    return int(verify(by_newline(data), checkpoint).result)


# --- The chain


def test_lines_are_json() -> None:
    """Write lines that any JSON parser reads, with number, entry and hash."""
    for number, (line, entry) in enumerate(zip(LINES, ENTRIES, strict=True), 1):
        parsed = json.loads(line)
        assert list(parsed) == ["n", *entry, "hash"]
        assert parsed["n"] == number
        assert {name: parsed[name] for name in entry} == entry


def test_hash_as_anybody_computes_it() -> None:
    """Hash the previous hash and the bytes of the line before its own."""
    line, end = append(Checkpoint(), {"event": "started"})
    head = "58db1e8d2fa6cb914f4d95ee6a83880e73b6aa3fca8c86f02682620bc18d6279"
    assert line == b'{"n":1,"event":"started","hash":"%s"}\n' % head.encode()
    assert end == Checkpoint(1, head)


def test_good_trail() -> None:
    """Find a whole trail good, also with a checkpoint at any place in it."""
    assert verify(LINES) == Report(Result.GOOD, END)
    for count in range(len(LINES) + 1):
        assert verify(LINES, trail(ENTRIES[:count])[1]) == Report(Result.GOOD, END)
    assert verify([]) == Report(Result.GOOD, Checkpoint(0, GENESIS))


def test_empty_entry() -> None:
    """Write an entry without members so that it verifies."""
    lines, end = trail([{}, {"event": "x"}, {}])
    assert verify(lines, end) == Report(Result.GOOD, end)
    assert end_of(lines[2]) == end


@pytest.mark.parametrize("entry", [{"n": 5}, {"hash": "x"}, {"event": "x", "n": 1, "hash": GENESIS}])
def test_members_of_the_chain_are_not_for_entries(entry: dict[str, Any]) -> None:
    """Refuse an entry that would write a line with a member twice, or with a wrong number."""
    with pytest.raises(ValueError, match="n and hash"):
        append(Checkpoint(), entry)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_no_json(value: float) -> None:
    """Refuse to write what is no JSON."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(Checkpoint(), {"value": value})


def test_lone_surrogate() -> None:
    """Write a text that is no Unicode as JSON escapes it, rather than lose the entry and those beside it."""
    line, end = append(Checkpoint(), {"name": "a\ud800b"})
    assert json.loads(line)["name"] == "a\ud800b"
    assert verify([line], end).result is Result.GOOD


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.text(max_size=8).filter(lambda name: name not in {"n", "hash"})


@given(st.lists(st.dictionaries(MEMBERS, VALUES, max_size=4), max_size=4))
def test_any_entries(entries: list[dict[str, Any]]) -> None:
    """Write one line per entry that verifies, can be read back, and tells where the chain ends."""
    lines, end = trail(entries)
    assert by_newline(b"".join(lines)) == lines
    assert verify(lines, end) == Report(Result.GOOD, end)
    assert [end_of(line) for line in lines[-1:]] == [end for _ in lines[-1:]]
    assert [{k: v for k, v in json.loads(line).items() if k not in {"n", "hash"}} for line in lines] == entries


# --- What was done to it


@pytest.mark.parametrize("checkpoint", [None, END], ids=["alone", "with a checkpoint"])
def test_every_flipped_bit_is_found(checkpoint: Checkpoint | None) -> None:
    """Find every single bit that is flipped: altered, or cut where the last line feed is hit."""
    last = len(DATA) - 1
    results = {
        (at, bit): judged(DATA[:at] + bytes([DATA[at] ^ 1 << bit]) + DATA[at + 1 :], checkpoint)
        for at in range(len(DATA))
        for bit in range(8)
    }
    assert results == {(at, bit): 2 if at == last else 1 for at in range(len(DATA)) for bit in range(8)}


def test_every_removed_byte_is_found() -> None:
    """Find every single byte that is missing."""
    results = [judged(DATA[:at] + DATA[at + 1 :]) for at in range(len(DATA))]
    assert results == [1] * (len(DATA) - 1) + [2]


@pytest.mark.parametrize("byte", [b" ", b"\n", b"\r", b"\x00", b"0", b'"', b",", b"}"])
def test_every_added_byte_is_found(byte: bytes) -> None:
    """Find every single byte that was put in; behind the last line feed it is an incomplete line."""
    results = [judged(DATA[:at] + byte + DATA[at:]) for at in range(len(DATA) + 1)]
    assert results[:-1] == [1] * len(DATA)
    assert results[-1] == (1 if byte == b"\n" else 2)


def test_every_cut_without_a_checkpoint() -> None:
    """Find a cut inside a line; a cut between lines cannot be found without a checkpoint."""
    results = [judged(DATA[:at]) for at in range(len(DATA) + 1)]
    assert results == [0 if at in BOUNDARIES else 2 for at in range(len(DATA) + 1)]


def test_every_cut_with_a_checkpoint() -> None:
    """Find every cut, wherever it is."""
    results = [judged(DATA[:at], END) for at in range(len(DATA) + 1)]
    assert results == [2] * len(DATA) + [0]


@pytest.mark.parametrize(
    ("lines", "alone", "compared"),
    [
        (LINES[1:], 1, 1),
        (LINES[:1] + LINES[2:], 1, 1),
        (LINES[:-1], 0, 2),
        ([], 0, 2),
        ([LINES[0], *LINES], 1, 1),
        ([*LINES, LINES[-1]], 1, 1),
        ([*LINES[:2], LINES[1], *LINES[2:]], 1, 1),
        ([LINES[1], LINES[0], *LINES[2:]], 1, 1),
        ([*LINES[:2], LINES[3], LINES[2]], 1, 1),
        (LINES[::-1], 1, 1),
        ([*LINES, b"\n"], 1, 1),
        ([b"\n", *LINES], 1, 1),
        ([*LINES, b"{}\n"], 1, 1),
        ([*LINES, b"torn"], 2, 2),
        ([*LINES, LINES[0][:-1]], 2, 2),
        ([b"\xef\xbb\xbf" + LINES[0], *LINES[1:]], 1, 1),
        ([line.replace(b"\n", b"\r\n") for line in LINES], 1, 1),
        ([LINES[0].replace(b'{"n":1,', b'{"n":1,"n":1,'), *LINES[1:]], 1, 1),
        ([LINES[0].replace(b'"event":"started"', b'"event":"started","event":"x"'), *LINES[1:]], 1, 1),
        ([LINES[0].replace(b'"event":"started"', b'"event":"x","event":"started"'), *LINES[1:]], 1, 1),
        ([LINES[0].replace(b'"}\n', b'","event":"x"}\n'), *LINES[1:]], 1, 1),
        ([LINES[0].replace(b'"}\n', b'","hash":"%s"}\n' % END.head.encode()), *LINES[1:]], 1, 1),
        ([LINES[0].replace(b'{"n":1,', b'{"n": 1,'), *LINES[1:]], 1, 1),
        ([LINES[0].replace(b'{"n":1,', b'{"n":01,'), *LINES[1:]], 1, 1),
        ([*LINES[:2], LINES[2].replace("ä".encode(), b"\\u00e4"), LINES[3]], 1, 1),
        ([json.dumps(json.loads(line)).encode() + b"\n" for line in LINES], 1, 1),
        ([line[:-67] + line[-67:].upper() for line in LINES], 1, 1),
        (trail(ENTRIES[1:])[0], 0, 2),
        (trail([{"event": "forged"}, *ENTRIES[1:]])[0], 0, 1),
        (trail([*ENTRIES[:-1], {"event": "forged"}])[0], 0, 1),
        (trail([*ENTRIES[:-1], {"event": "forged"}, {"event": "more"}])[0], 0, 1),
        (trail([*ENTRIES, {"event": "later"}])[0], 0, 0),
        (trail(ENTRIES, Checkpoint(1, GENESIS))[0], 1, 1),
        (trail(ENTRIES, Checkpoint(0, "f" * 64))[0], 1, 1),
    ],
    ids=brief,
)
def test_what_was_done_to_a_trail(lines: list[bytes], alone: int, compared: int) -> None:
    """Find what was removed, added, moved or rewritten; what only a checkpoint can show, with it."""
    assert [int(verify(lines).result), int(verify(lines, END).result)] == [alone, compared]


def test_where_it_was_done() -> None:
    """Name the first bad line, and how far the trail is good."""
    bad = [*LINES[:2], LINES[2].replace(b"changed", b"chanced"), LINES[3]]
    assert verify(bad) == Report(Result.ALTERED, trail(ENTRIES[:2])[1], 3, BROKEN)
    assert verify([*LINES, b"{"]) == Report(Result.CUT, END, 5, "the last line is incomplete")
    other = Checkpoint(3, "0" * 63 + "1")
    assert verify(LINES, other) == Report(
        Result.ALTERED, trail(ENTRIES[:3])[1], 3, "the line is not the one of the checkpoint"
    )
    assert verify(LINES, Checkpoint(6, END.head)) == Report(Result.CUT, END, 5, "the checkpoint counts 6 entries")


@given(st.lists(st.binary(max_size=100) | st.sampled_from(LINES) | st.binary(max_size=80).map(lambda b: b + b"\n")))
def test_any_lines(lines: list[bytes]) -> None:
    """Raise for no file, and find none good that is not the beginning of the trail."""
    report = verify(lines, END)
    assert (report.result is Result.GOOD) == (lines == LINES)
    assert (verify(lines).result is Result.GOOD) == (lines == LINES[: len(lines)])


# --- Where a chain ends


def test_end_of_a_line_that_no_parser_reads() -> None:
    """Return what a line states, however deep it is: what stands in it is for the verification to judge."""
    assert end_of(b'{"n":7,"a":%s,"hash":"%s"}\n' % (b"[" * 100_000, HASH)) == Checkpoint(7, HASH.decode())


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_end_of_a_line(count: int) -> None:
    """Return the end that a line states."""
    assert end_of(LINES[count - 1]) == trail(ENTRIES[:count])[1]


HASH = b"0123456789abcdef" * 4


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{}\n",
        b"torn",
        LINES[0][:-1],
        LINES[0][1:],
        LINES[0] + b"\n",
        LINES[0] + LINES[1],
        b" " + LINES[0],
        LINES[0].replace(b"\n", b"\r\n"),
        b'{"hash":"%s"}\n' % HASH,
        b'{"m":1,"hash":"%s"}\n' % HASH,
        b'{"n":"1","hash":"%s"}\n' % HASH,
        b'{"n":1.0,"hash":"%s"}\n' % HASH,
        b'{"n":true,"hash":"%s"}\n' % HASH,
        b'{"n":null,"hash":"%s"}\n' % HASH,
        b'{"n":-1,"hash":"%s"}\n' % HASH,
        b'{"n":0,"hash":"%s"}\n' % HASH,
        b'{"n":01,"hash":"%s"}\n' % HASH,
        b'{"n":1,"hash":"%s"}\n' % HASH.upper(),
        b'{"n":1,"hash":"%s"}\n' % HASH[:-1],
        b'{"n":1,"hash":"%sg"}\n' % HASH[:-1],
        b'{"n":1,"hash":"%s"} \n' % HASH,
        b'["n",1,{"x":1,"hash":"%s"}\n' % HASH,
        b'{"a":{"x":1,"hash":"q"},"n":1,"z":"%s"}\n' % (b"p" * 49),
        b'{"n":%s,"hash":"%s"}\n' % (b"9" * 5000, HASH),
        b'{"n":1,"a":%s,"hash":"%s"}' % (b"," * 20_000, HASH),
    ],
    ids=brief,
)
def test_no_end_of_a_chain(line: bytes) -> None:
    """Return nothing for what is no complete line of a chain."""
    assert end_of(line) is None


@given(st.binary(max_size=120) | st.binary(max_size=30).map(lambda b: b'{"n":1,' + b + b',"hash":"%s"}\n' % HASH))
def test_any_last_line(line: bytes) -> None:
    """Raise for no last line."""
    assert end_of(line) in {None, Checkpoint(1, HASH.decode())}


# --- Checkpoints


def test_checkpoint_there_and_back() -> None:
    """Read the checkpoint that was written."""
    assert Checkpoint.from_json(END.to_json()) == END
    assert Checkpoint.from_json(Checkpoint().to_json()) == Checkpoint()
    assert json.loads(END.to_json()) == {"count": 4, "head": END.head}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "4",
        '"text"',
        "{}",
        '{"count":4}',
        '{"head":"HEAD"}',
        '{"count":"4","head":"HEAD"}',
        '{"count":4.0,"head":"HEAD"}',
        '{"count":true,"head":"HEAD"}',
        '{"count":null,"head":"HEAD"}',
        '{"count":-4,"head":"HEAD"}',
        '{"count":1e999,"head":"HEAD"}',
        '{"count":NaN,"head":"HEAD"}',
        '{"count":0,"head":"HEAD"}',
        f'{{"count":4,"head":"{GENESIS}"}}',
        f'{{"count":4,"head":"{"g" * 64}"}}',
        '{"count":4,"head":"0HEAD"}',
        '{"count":4,"head":" HEAD"}',
        '{"count":4,"head":4}',
        '{"count":4,"head":null}',
        '{"count":[4],"head":"HEAD"}',
        "[" * 200_000,
    ],
    ids=brief,
)
def test_hostile_checkpoint(text: str) -> None:
    """Refuse what is no checkpoint: a bad one must not make a trail look good."""
    with pytest.raises(ValueError, match=r".*"):
        Checkpoint.from_json(text.replace("HEAD", END.head))


# --- The script


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the file of the trail."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (lambda data: data, 0, [f"good: 4 {ALONE}"]),
        (lambda _: b"", 0, [f"good: 0 {ALONE}"]),
        (lambda data: data.replace(b"stopped", b"stepped"), 1, [f"altered: 3 {ALONE}", f"line 4: {BROKEN}"]),
        (lambda data: data[:-1], 2, [f"cut: 3 {ALONE}", "line 4: the last line is incomplete"]),
    ],
)
def test_script_without_a_checkpoint(
    file: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[bytes], bytes], code: int, said: list[str]
) -> None:
    """Say what was found, and that a cut end would not be."""
    file.write_bytes(spoil(DATA))
    assert main(["verify", str(file)]) == code
    assert capsys.readouterr().out.splitlines() == said


@pytest.mark.parametrize("options", [[], ["--checkpoint", "audit.jsonl.checkpoint"]], ids=["beside", "named"])
def test_script_with_a_checkpoint(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """Compare with the checkpoint beside the file, or with the one that is named."""
    monkeypatch.chdir(file.parent)
    (file.parent / "audit.jsonl.checkpoint").write_text(END.to_json())
    assert main(["verify", "audit.jsonl", *options]) == 0
    assert capsys.readouterr().out == "good: 4 good entries, compared with its checkpoint\n"
    file.write_bytes(b"".join(LINES[:2]))
    assert main(["verify", "audit.jsonl", *options]) == 2
    assert capsys.readouterr().out == (
        "cut: 2 good entries, compared with its checkpoint\nline 3: the checkpoint counts 4 entries\n"
    )
    file.write_bytes(b"".join(trail([*ENTRIES[:-1], {"event": "forged"}])[0]))
    assert main(["verify", "audit.jsonl", *options]) == 1


def test_named_checkpoint_comes_before_the_one_beside(file: Path) -> None:
    """Trust the checkpoint that was kept elsewhere, whatever stands beside the file."""
    kept = file.parent / "kept.json"
    kept.write_text(END.to_json())
    file.write_bytes(LINES[0])
    file.with_name("audit.jsonl.checkpoint").write_text(trail(ENTRIES[:1])[1].to_json())
    assert main(["verify", str(file)]) == 0
    assert main(["verify", str(file), "--checkpoint", str(kept)]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["verify"],
        ["prove", "audit.jsonl"],
        ["verify", "audit.jsonl", "--unknown"],
        ["verify", "missing.jsonl"],
        ["verify", "."],
        ["verify", "audit.jsonl", "--checkpoint", "missing.json"],
        ["verify", "audit.jsonl", "--checkpoint", "audit.jsonl"],
        ["verify", "audit.jsonl", "--checkpoint", "."],
        ["verify", "audit.jsonl", "--checkpoint", "binary"],
    ],
)
def test_script_that_cannot_verify(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Exit with a code of its own where nothing was verified: it is neither good nor altered nor cut."""
    monkeypatch.chdir(file.parent)
    (file.parent / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err != ""


def test_script_says_why_it_cannot_verify(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Name the file that is no checkpoint, or that is not there."""
    with pytest.raises(SystemExit):
        main(["verify", str(file), "--checkpoint", str(file)])
    assert capsys.readouterr().err.endswith(f": {file} is no checkpoint\n")
    file.unlink()
    with pytest.raises(SystemExit):
        main(["verify", str(file)])
    assert str(file) in capsys.readouterr().err


# The system's Python is what an inspector has; on Debian 12 it is 3.11.
PYTHONS = sorted({sys.executable, *filter(None, [shutil.which("python3", path="/usr/bin:/usr/local/bin")])})


def test_script_has_the_syntax_of_an_older_python() -> None:
    """Parse the script as Python 3.10 does."""
    assert ast.parse(Path(audit.__file__).read_text(encoding="utf-8"), feature_version=(3, 10))


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("isolation", ["-IS", "-S"])
@pytest.mark.parametrize(
    ("data", "code", "word"),
    [(DATA, 0, "good"), (DATA.replace(b"tent-1", b"tent-2"), 1, "altered"), (DATA[:-9], 2, "cut")],
)
def test_script_in_a_bare_interpreter(
    file: Path, *, python: str, isolation: str, data: bytes, code: int, word: str
) -> None:
    """Run as a file, with a Python that knows neither Home Assistant nor this package nor any other."""
    file.write_bytes(data)
    command = [python, isolation, audit.__file__, "verify", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=file.parent)  # noqa: S603 - our own script
    assert (done.returncode, done.stdout.split(":")[0], done.stderr) == (code, word, "")


def test_script_as_it_is_run(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit with the code of what was found."""
    monkeypatch.setattr(sys, "argv", ["audit.py", "verify", str(file)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(audit.__file__, run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("good: 4 good entries")


def test_usage_in_a_bare_interpreter(tmp_path: Path) -> None:
    """Tell how it is used."""
    command = [sys.executable, "-I", "-S", audit.__file__, "verify", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)  # noqa: S603 - our own script
    assert done.returncode == 0
    assert "--checkpoint" in done.stdout
