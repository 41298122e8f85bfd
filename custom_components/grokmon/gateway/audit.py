"""The audit trail: its lines, keys and checkpoints, and their verification. Runs as a script, without Home Assistant.

A line is one JSON object. It begins with its number and the SHA-256 of the line before it, and ends with a MAC over the
raw bytes before that member. The key of the MAC evolves: after each line it is replaced by HMAC(key, "next"), and what
it was is gone. Whoever takes the box therefore holds no key for what is written already. `docs/adr/0012` tells what can
be found with which of: the first key, a checkpoint kept elsewhere, or neither.
"""

# An inspector's Python may be older than Home Assistant's: from 3.10 on, this file runs.
from __future__ import annotations

import argparse
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
import hashlib
import hmac
import json
from pathlib import Path
import re
import sys
from typing import Any, Final, NoReturn

GENESIS: Final = "0" * 64
KEY_BYTES: Final = 32
MAX_LINE: Final = 16_384
KEY_CHANGED: Final = "audit_key_changed"
SEGMENT_DELETED: Final = "audit_segment_deleted"
CHECKPOINTS: Final = "checkpoints"
_MAC_MEMBER: Final = b',"mac":"'
_TAIL_BYTES: Final = len(_MAC_MEMBER) + 64 + len(b'"}\n')
_START: Final = re.compile(rb'\{"n":([1-9][0-9]{0,17}),"prev":"([0-9a-f]{64})",')
_KEY: Final = re.compile(r"([1-9][0-9]{0,17})\.([A-Za-z0-9_-]{43})")
_SEGMENT: Final = re.compile(r"audit-([0-9]{12})\.jsonl")
# It begins where a word does, and has a few lines more at most: to try at each letter of a long word, or each beginning
# of many that have no end, would take the square of the length.
_NOTE: Final = re.compile(
    r"(?<!\S)(\S+)\n([0-9]{1,18})\n([A-Za-z0-9+/]{43}=)\n((?:.+\n){0,32})\n\u2014 (\S+) ([A-Za-z0-9+/=]+)\n"
)
_SIGNATURE_BYTES: Final = 64
_KEY_HASH_BYTES: Final = 4
_ED25519: Final = b"\x01"
_MAX_FINDINGS: Final = 100
# Named, since this file is read by Pythons that want parentheses which the formatter takes away.
_NO_MARK: Final = (ValueError, KeyError, TypeError, RecursionError)
_MOST_SKIPPED: Final = 50_000_000
_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_NOT_VERIFIED: Final = 3


class Verdict(IntEnum):
    """What a verification found; also the exit code of the script."""

    GOOD = 0
    ALTERED = 1
    CUT = 2


@dataclass(frozen=True)
class Position:
    """A place in the chain: how many lines there were, and the SHA-256 of the last one."""

    count: int = 0
    head: str = GENESIS


@dataclass(frozen=True)
class Key:
    """The key of the line with the number `start`. Its text is what a person keeps elsewhere."""

    start: int
    secret: bytes = field(repr=False)

    @classmethod
    def from_text(cls, text: str) -> Key:
        """Return the key that `text` wrote; raise ValueError when it is none."""
        found = _KEY.fullmatch(text.strip())
        if found is None:
            raise ValueError("no audit key: it looks like 1.xxxxx, with 43 characters after the point")
        return cls(int(found[1]), urlsafe_b64decode(found[2] + "="))

    def to_text(self) -> str:
        """Return the key as text."""
        return f"{self.start}.{urlsafe_b64encode(self.secret).decode().rstrip('=')}"


@dataclass(frozen=True)
class Checkpoint:
    """A signed note (C2SP signed-note, tlog-checkpoint): origin, number of lines, hash of the last one."""

    origin: str
    position: Position
    text: str
    signature: bytes

    @property
    def whole(self) -> str:
        """Return the note as it was written, with its signature."""
        return _signed(self.origin, self.text, self.signature)

    def signed_by(self, public_key: bytes) -> bool | None:
        """Tell whether this Ed25519 key signed it; None where Python has no `cryptography` to find out."""
        try:
            from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - optional for the script
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
        except ImportError:
            return None
        if self.signature[:_KEY_HASH_BYTES] != key_hash(self.origin, public_key):
            return False
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(self.signature[_KEY_HASH_BYTES:], self.text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Finding:
    """What is wrong, at the number that the line has or should have."""

    line: int
    result: Verdict
    reason: str


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    `end` is the last line, `lines` how many there are, `keyed` of how many the MAC was checked, `anchored` the last one
    that a checkpoint vouches for, `unkeyed` of how many after the first that was checked the MAC was not.
    """

    end: Position
    findings: tuple[Finding, ...] = ()
    lines: int = 0
    keyed: int = 0
    anchored: int = 0
    unkeyed: int = 0

    @property
    def result(self) -> Verdict:
        """Return what was found first."""
        return self.findings[0].result if self.findings else Verdict.GOOD


def evolve(secret: bytes) -> bytes:
    """Return the key of the next line."""
    return hmac.digest(secret, b"next", "sha256")


def append(end: Position, secret: bytes, record: Mapping[str, Any]) -> tuple[bytes, Position]:
    """Return the line for a record after `end`, and the new end.

    Raises ValueError when the record has a member of the chain, a number that is not JSON, or is too long.
    """
    if not record.keys().isdisjoint({"n", "prev", "mac"}):
        raise ValueError("n, prev and mac are members of the chain")
    count = end.count + 1
    text = _encode({"n": count, "prev": end.head, **record})
    # A lone surrogate becomes what JSON escapes it to.
    body = text.encode(errors="backslashreplace")[:-1]
    if len(body) + _TAIL_BYTES > MAX_LINE:
        raise ValueError("the record is too long")
    line = b"".join((body, _MAC_MEMBER, hmac.digest(secret, body, "sha256").hex().encode(), b'"}\n'))
    return line, Position(count, hashlib.sha256(line).hexdigest())


def is_next(line: bytes, end: Position, secret: bytes | None) -> bool:
    """Tell whether a line follows on `end` and, with its key, whether its MAC is right."""
    body = line[:-_TAIL_BYTES]
    if not line.startswith(b'{"n":%d,"prev":"%s",' % (end.count + 1, end.head.encode())):
        return False
    if secret is None:
        return line[-_TAIL_BYTES:-67] == _MAC_MEMBER and line.endswith(b'"}\n')
    mac = hmac.digest(secret, body, "sha256").hex().encode()
    return hmac.compare_digest(line[-_TAIL_BYTES:], b"".join((_MAC_MEMBER, mac, b'"}\n')))


def start_of(line: bytes) -> Position | None:
    """Return the place after which a line claims to stand, or None when it is no line of a trail."""
    found = _START.match(line)
    return None if found is None else Position(int(found[1]) - 1, found[2].decode())


def after(line: bytes) -> Position | None:
    """Return the place that a complete line claims to be, or None when it is no line of a trail."""
    start = start_of(line)
    if start is None or not line.endswith(b'"}\n'):
        return None
    return Position(start.count + 1, hashlib.sha256(line).hexdigest())


def key_hash(name: str, public_key: bytes) -> bytes:
    """Return how a signature names its key (C2SP signed-note)."""
    return hashlib.sha256(b"".join((name.encode(), b"\n", _ED25519, public_key))).digest()[:_KEY_HASH_BYTES]


def checkpoint_text(origin: str, position: Position, at: str) -> str:
    """Return the text of a checkpoint that is to be signed; it ends with a line feed."""
    return f"{origin}\n{position.count}\n{b64encode(bytes.fromhex(position.head)).decode()}\n{at}\n"


def note(origin: str, text: str, public_key: bytes, signature: bytes) -> str:
    """Return a text and its Ed25519 signature as a signed note."""
    return _signed(origin, text, key_hash(origin, public_key) + signature)


def _signed(origin: str, text: str, signature: bytes) -> str:
    return f"{text}\n\u2014 {origin} {b64encode(signature).decode()}\n"


def checkpoints(text: str) -> Iterator[Checkpoint]:
    """Return the checkpoints that a text holds; raise ValueError when there is anything else in it."""
    end = 0
    for found in _NOTE.finditer(text):
        between, end = text[end : found.start()], found.end()
        signature = b64decode(found[6])
        if between.strip() or found[5] != found[1] or len(signature) != _KEY_HASH_BYTES + _SIGNATURE_BYTES:
            raise ValueError("not a checkpoint")
        position = Position(int(found[2]), b64decode(found[3]).hex())
        yield Checkpoint(found[1], position, found[0].rpartition("\n\u2014 ")[0], signature)
    if text[end:].strip():
        raise ValueError("not a checkpoint")


def whole_checkpoints(data: bytes) -> int:
    """Return how many bytes at the start of a file are whole checkpoints."""
    end = 0
    for found in _NOTE.finditer(data.decode(errors="replace")):
        end += len(found[0].encode())
    return end


class Verifier:
    """Check lines in their order: that each follows on the one before, its MAC, and what checkpoints say.

    After a line that is wrong it goes on from what that line claims, so that one finding does not hide the next.
    """

    def __init__(self, keys: Iterable[Key] = (), anchors: Iterable[Position] = ()) -> None:
        self._keys = {key.start: key.secret for key in keys}
        # Of one place several checkpoints may tell, and none may hide another: that is what a fork looks like.
        self._anchors: dict[int, set[str]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.count, set()).add(anchor.head)
        self._first: Position | None = None
        self._end = Position()
        self._secret: bytes | None = None
        self._keyed = 0
        self._unkeyed = 0
        self._anchored = 0
        self._deleted: set[Position] = set()
        self._findings: list[Finding] = []
        self._lines = 0
        self._bad = 0
        # Forged numbers must not cost hours: so many keys are skipped, in all.
        self._spare = _MOST_SKIPPED
        # What was deleted took its keys with it, but they follow from one that is earlier.
        self._first_key = True

    def feed(self, lines: Iterable[bytes], *, last: bool = True) -> None:
        """Check the lines of one segment. `last` says that no other follows: only there a line may be incomplete."""
        for line in lines:
            self._lines += 1
            if self._first is None:
                self._first = self._end = start_of(line) or Position()
            number = self._end.count + 1
            if not line.endswith(b"\n"):
                self._find(number, Verdict.CUT if last else Verdict.ALTERED, "the line is incomplete")
                continue
            if is_next(line, self._end, secret := self._key_of(number)):
                self._advance(line, number, secret)
                self._look_for_marks(line, number)
            else:
                self._resume(line, number + self._bad)
            if not self._bad:
                self._compare()

    def report(self) -> Verification:
        """Return what was found."""
        findings = list(self._findings)
        first = self._first or Position()
        if first.count and first not in self._deleted:
            reason = f"lines 1 to {first.count} are missing, and no line says why"
            findings.insert(0, Finding(1, Verdict.CUT, reason))
        beyond = max(self._anchors, default=0)
        if beyond > self._end.count:
            findings.append(Finding(self._end.count + 1, Verdict.CUT, f"a checkpoint counts {beyond} lines"))
        found = tuple(findings[:_MAX_FINDINGS])
        return Verification(self._end, found, self._lines, self._keyed, self._anchored, self._unkeyed)

    def _key_of(self, number: int) -> bytes | None:
        """Return the key of a line: of one that was given, or of the line that is due, as far as needed."""
        start = max((start for start in self._keys if start <= number), default=0)
        due = self._end.count + 1
        if start >= due or self._first_key:
            secret: bytes | None = self._keys.get(start)
        else:
            start, secret = due, self._secret
        self._spare -= number - start
        if secret is None or self._spare < 0:
            return None
        for _ in range(number - start):
            secret = evolve(secret)
        return secret

    def _advance(self, line: bytes, number: int, secret: bytes | None) -> None:
        self._end = Position(number, hashlib.sha256(line).hexdigest())
        self._first_key = False
        self._bad = 0
        self._secret = None
        if secret is not None:
            self._secret = evolve(secret)
            self._keyed += 1
        elif self._keyed:
            self._unkeyed += 1

    def _resume(self, line: bytes, number: int) -> None:
        """Find back to the trail, over lines that are missing or are none of it."""
        claims = start_of(line)
        missing = claims.count - self._end.count if claims is not None else -1
        if claims is None or not 0 < missing <= self._spare:
            mac = claims == self._end and self._key_of(number) is not None
            reason = "the MAC is wrong" if mac else "the line does not follow from the one before it"
        elif is_next(line, claims, secret := self._key_of(claims.count + 1)):
            if missing > self._bad:
                self._find(number, Verdict.CUT, f"lines {number} to {claims.count} are missing")
            self._advance(line, claims.count + 1, secret)
            self._look_for_marks(line, claims.count + 1)
            return
        else:
            reason = "the MAC is wrong"
        self._find(number, Verdict.ALTERED, reason)
        self._bad += 1

    def _look_for_marks(self, line: bytes, number: int) -> None:
        if b'"action":"audit_' not in line:
            return
        try:
            record = json.loads(line)
            if record["action"] == KEY_CHANGED:
                # The key ends here; whoever has the next one gives that, too.
                self._secret = self._keys.get(number + 1)
            elif record["action"] == SEGMENT_DELETED:
                self._deleted.add(Position(record["details"]["through"], record["details"]["head"]))
        except _NO_MARK:
            # Nobody who has the key writes such a mark: it marks nothing.
            return

    def _compare(self) -> None:
        wanted = self._anchors.get(self._end.count)
        if wanted is None:
            return
        if wanted == {self._end.head}:
            self._anchored = self._end.count
        else:
            self._find(self._end.count, Verdict.ALTERED, "the line is not the one of a checkpoint")

    def _find(self, line: int, result: Verdict, reason: str) -> None:
        if len(self._findings) < _MAX_FINDINGS:
            self._findings.append(Finding(line, result, reason))


def segments(folder: Path) -> list[Path]:
    """Return the files of a trail in their order."""
    return sorted(path for path in folder.iterdir() if _SEGMENT.fullmatch(path.name))


def segment_name(first: int) -> str:
    """Return the name of the file whose first line has this number."""
    return f"audit-{first:012}.jsonl"


def verify(folder: Path, keys: Iterable[Key] = (), anchors: Iterable[Position] = ()) -> Verification:
    """Check the trail in a folder. Raises OSError when it cannot be read."""
    verifier = Verifier(keys, anchors)
    paths = segments(folder)
    for path in paths:
        with path.open("rb") as lines:
            verifier.feed(lines, last=path is paths[-1])
    return verifier.report()


class _Parser(argparse.ArgumentParser):
    """A parser whose exit code is none of a verification's."""

    def error(self, message: str) -> NoReturn:  # override: typing has no such name before 3.12
        self.exit(_NOT_VERIFIED, f"{self.prog}: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Verify a trail; print what was found."""
    parser = _Parser(description="Verify an audit trail. Exit codes: 0 good, 1 altered, 2 cut, 3 not verified.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("verify", help="check every line, and what checkpoints say of them")
    command.add_argument("folder", type=Path, help="the folder with audit-*.jsonl")
    command.add_argument("--key", action="append", default=[], help="a key that was kept elsewhere; repeatable")
    command.add_argument("--anchors", type=Path, help="a file with checkpoints that were kept elsewhere")
    command.add_argument("--public-key", help="the key that signed them, base64; then each signature is checked")
    options = parser.parse_args(arguments)
    try:
        keys = [Key.from_text(text) for text in options.key]
        anchors = list(_local(options.folder))
        if options.anchors is not None:
            anchors += _trusted(options.anchors, options.public_key)
        report = verify(options.folder, keys, anchors)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    _print(report, with_anchors=options.anchors is not None)
    if report.result is Verdict.GOOD and keys and (report.unkeyed or not report.keyed):
        print("not every line has a key: give also the key that begins where the last one ends")  # noqa: T201
        return _NOT_VERIFIED
    return report.result


def _local(folder: Path) -> Iterator[Position]:
    """Return the checkpoints beside the trail. One that cannot be read any more proves nothing."""
    kept = folder / CHECKPOINTS
    if kept.exists():
        yield from (checkpoint.position for checkpoint in checkpoints(kept.read_text(encoding="utf-8")))


def _trusted(path: Path, public_key: str | None) -> Iterator[Position]:
    key = b64decode(public_key, validate=True) if public_key is not None else None
    for checkpoint in checkpoints(path.read_text(encoding="utf-8")):
        signed = checkpoint.signed_by(key) if key is not None else True
        if signed is None:
            raise ValueError("signatures need the Python package cryptography")
        if not signed:
            raise ValueError(f"{path}: the checkpoint of line {checkpoint.position.count} is not signed by this key")
        yield checkpoint.position


def _print(report: Verification, *, with_anchors: bool) -> None:
    where = "kept elsewhere and here" if with_anchors else "kept here only: a cut end may not be found"
    keyed = f"{report.keyed} MACs checked" if report.keyed else "no key given: a rewritten end may not be found"
    print(f"{report.result.name.lower()}: {report.lines} lines, {keyed}")  # noqa: T201 - a script
    print(f"checkpoints up to line {report.anchored}, {where}")  # noqa: T201 - a script
    for finding in report.findings:
        print(f"line {finding.line}: {finding.reason}")  # noqa: T201 - a script


if __name__ == "__main__":
    sys.exit(main())
