"""The audit trail: entries in a hash chain, and their verification. Runs as a script, without Home Assistant.

A line is one JSON object that ends with its own hash, SHA-256 over the previous line's hash and the bytes of this line
before that member. Editing, removing, inserting or reordering lines breaks the chain; a cut-off end is found with a
checkpoint, the number of entries and the last hash. Whoever can write the file and every checkpoint can also make a new
chain: keep a checkpoint elsewhere.
"""

# An inspector's Python may be older than Home Assistant's: from 3.10 on, this file runs.
from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
import hashlib
import json
from pathlib import Path
import re
import sys
from typing import Any, Final, NoReturn

GENESIS: Final = "0" * 64
_HASH_MEMBER: Final = b',"hash":"'
_TAIL_BYTES: Final = len(_HASH_MEMBER) + 64 + len(b'"}')
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_LINE: Final = re.compile(rb'\{"n":([1-9][0-9]{0,17}),(?:.*,)?"hash":"([0-9a-f]{64})"\}\n')
_NOT_VERIFIED: Final = 3


class Result(IntEnum):
    """What a verification found; also the exit code of the script."""

    GOOD = 0
    ALTERED = 1
    CUT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The number of entries in a chain, and the hash of the last one."""

    count: int = 0
    head: str = GENESIS

    @classmethod
    def from_json(cls, text: str) -> Checkpoint:
        """Return the checkpoint that `to_json` wrote; raise ValueError when the text is none."""
        try:
            data = json.loads(text)
            count, head = data["count"], data["head"]
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(text) from error
        if type(count) is not int or count < 0 or type(head) is not str or _HASH.fullmatch(head) is None:
            raise ValueError(text)
        if (count == 0) != (head == GENESIS):
            raise ValueError(text)
        return cls(count, head)

    def to_json(self) -> str:
        """Return the checkpoint as JSON."""
        return json.dumps({"count": self.count, "head": self.head})


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification. `end` is the chain up to the last good line, `line` the first bad one."""

    result: Result
    end: Checkpoint
    line: int | None = None
    reason: str = ""


def append(end: Checkpoint, entry: Mapping[str, Any]) -> tuple[bytes, Checkpoint]:
    """Return the line for an entry after `end`, and the new end.

    Raises ValueError when the entry has a member of the chain, or a number that is not JSON.
    """
    if "n" in entry or "hash" in entry:
        raise ValueError("n and hash are members of the chain")
    count = end.count + 1
    text = json.dumps({"n": count, **entry}, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # A lone surrogate becomes what JSON escapes it to.
    body = text.encode(errors="backslashreplace")[:-1]
    head = _hash(end.head, body)
    return b"".join((body, _HASH_MEMBER, head.encode(), b'"}\n')), Checkpoint(count, head)


def verify(lines: Iterable[bytes], checkpoint: Checkpoint | None = None) -> Report:
    """Check every line of a chain, and that it goes as far as a checkpoint."""
    end = Checkpoint()
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return Report(Result.CUT, end, number, "the last line is incomplete")
        head = _head_of(line, end)
        if head is None:
            return Report(Result.ALTERED, end, number, "the line does not follow from the one before it")
        end = Checkpoint(number, head)
        if checkpoint is not None and number == checkpoint.count and head != checkpoint.head:
            return Report(Result.ALTERED, end, number, "the line is not the one of the checkpoint")
    if checkpoint is not None and end.count < checkpoint.count:
        return Report(Result.CUT, end, end.count + 1, f"the checkpoint counts {checkpoint.count} entries")
    return Report(Result.GOOD, end)


def end_of(line: bytes) -> Checkpoint | None:
    """Return the end of the chain that a complete last line states, or None when it is no line of a chain."""
    found = _LINE.fullmatch(line)
    return None if found is None else Checkpoint(int(found[1]), found[2].decode())


def _head_of(line: bytes, previous: Checkpoint) -> str | None:
    body, tail = line[: -_TAIL_BYTES - 1], line[-_TAIL_BYTES - 1 :]
    head = _hash(previous.head, body)
    if tail != b"".join((_HASH_MEMBER, head.encode(), b'"}\n')):
        return None
    return head if line.startswith(b'{"n":%d,' % (previous.count + 1)) else None


def _hash(previous: str, body: bytes) -> str:
    return hashlib.sha256(previous.encode() + body).hexdigest()


class _Parser(argparse.ArgumentParser):
    """A parser whose exit code is none of a verification's."""

    def error(self, message: str) -> NoReturn:  # override: typing has no such name before 3.12
        self.exit(_NOT_VERIFIED, f"{self.prog}: {message}\n")


def main(arguments: list[str] | None = None) -> Result:
    """Verify a file; print what was found."""
    parser = _Parser(description="Verify an audit trail. Exit codes: 0 good, 1 altered, 2 cut, 3 not verified.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("verify", help="check a file and, where there is one, its checkpoint")
    command.add_argument("file", type=Path)
    command.add_argument("--checkpoint", type=Path, help="a checkpoint kept elsewhere; default: FILE.checkpoint")
    options = parser.parse_args(arguments)
    kept: Path = options.checkpoint or Path(f"{options.file}.checkpoint")
    try:
        checkpoint = Checkpoint.from_json(kept.read_text()) if options.checkpoint or kept.exists() else None
        with options.file.open("rb") as lines:
            report = verify(lines, checkpoint)
    except OSError as error:
        parser.error(str(error))
    except ValueError:
        parser.error(f"{kept} is no checkpoint")
    against = "its checkpoint" if checkpoint else "no checkpoint, so a cut end would not be found"
    print(f"{report.result.name.lower()}: {report.end.count} good entries, compared with {against}")  # noqa: T201 - a script
    if report.line is not None:
        print(f"line {report.line}: {report.reason}")  # noqa: T201 - a script
    return report.result


if __name__ == "__main__":
    sys.exit(main())
