"""The audit file: segments of lines, their key and their checkpoints on a disk. Blocking: not for the event loop."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
import hashlib
import io
import json
import os
from pathlib import Path
import re
import secrets
from typing import Any, Final

from . import disk
from .gateway import audit
from .gateway.audit import Key, Position, Verification, Verifier

KEY_FILE: Final = "next.key"
SEGMENT_BYTES: Final = 10_000_000
SEGMENT_SECONDS: Final = 30 * 86_400.0
TRAIL_BYTES: Final = 500_000_000
CHECKPOINT_LINES: Final = 100
CHECKPOINT_SECONDS: Final = 3600.0
_BLOCK: Final = 65_536
_KEY_LINE: Final = re.compile(rb"([0-9]{18}) ([0-9a-f]{64}) ([0-9a-f]{16})\n")

type Sign = Callable[[Position, float], str]


@dataclass(frozen=True, slots=True)
class Opening:
    """What was found when the trail was taken up.

    `torn` counts the bytes of an incomplete last line, which were set aside; `missing` the lines that the key knows of
    and the trail does not hold; `lagged` those that the key did not know of yet; `forged` is the first of these whose
    MAC is wrong. `new_key` says that there was no key: the trail is new, or its key was lost.
    """

    torn: int = 0
    missing: int = 0
    lagged: int = 0
    forged: int | None = None
    new_key: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that another one follows: its file, its first and its last line."""

    path: Path
    first: int
    last: Position


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a trail goes: the size of each segment, the checkpoints beside it, and the end that is known here."""

    sizes: Mapping[Path, int]
    notes: bytes
    end: Position


class AuditFile:
    """Append lines to the segments of a trail, move its key on, and write checkpoints that `sign` makes."""

    def __init__(self, folder: Path, sign: Sign) -> None:
        self.folder = folder
        self.end = Position()
        self._sign = sign
        self._secret = b""
        self._descriptor: int | None = None
        self._segment = Path()
        self._began = 0.0
        self._marked = 0
        self._cut_to: int | None = None
        self.checkpoint = Position()
        self._checkpoint_at = 0.0

    def open(self, now: float) -> Opening:
        """Take up the trail where it ends.

        Raises OSError when the folder cannot be written, ValueError when the last line is not one of a trail.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.close()
        torn = self._find_end() + self._mend_checkpoints()
        self._checkpoint_at = now
        key = self._read_key()
        if key is None:
            self._secret = secrets.token_bytes(audit.KEY_BYTES)
            self.mark()
            return Opening(torn=torn, new_key=True)
        self._secret = key.secret
        self._marked = key.start - 1
        if (missing := self._marked - self.end.count) > 0:
            # The numbers go on after the gap, so that it stays where everybody finds it.
            self.end = Position(self._marked, self.end.head)
            return Opening(torn=torn, missing=missing)
        forged = self._catch_up()
        return Opening(torn=torn, lagged=self.end.count - self._marked, forged=forged)

    def close(self) -> None:
        """Let go of the open segment."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._cut_to = None

    def append(self, records: Iterable[Mapping[str, Any]], now: float) -> None:
        """Append records, all or none, and wait until the disk has them. Raises OSError.

        The key in memory moves on; `mark` moves it on the disk.
        """
        end, secret = self.end, self._secret
        lines: list[bytes] = []
        for record in records:
            line, end = audit.append(end, secret, record)
            secret = audit.evolve(secret)
            lines.append(line)
        self._undo()
        descriptor, size = self._writable(now)
        try:
            disk.append(descriptor, b"".join(lines))
        except OSError:
            self._cut_to = size
            raise
        self.end, self._secret = end, secret

    def mark(self) -> None:
        """Replace the key on the disk by the one of the next line: what was before it is erased. Raises OSError."""
        plain = f"{self.end.count + 1:018} {self._secret.hex()} "
        check = hashlib.sha256(plain.encode()).hexdigest()[:16]
        # In place and within one sector: a new file would leave the old key in a block that is merely free.
        descriptor = os.open(self.folder / KEY_FILE, os.O_WRONLY | os.O_CREAT, disk.PRIVATE)
        try:
            disk.write_all(descriptor, text := f"{plain}{check}\n".encode())
            os.ftruncate(descriptor, len(text))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._marked = self.end.count

    def new_key(self) -> Key:
        """Go on with a key that nobody can have yet; return it. The line that says so is the last of the old key."""
        self._secret = secrets.token_bytes(audit.KEY_BYTES)
        self.mark()
        return Key(self.end.count + 1, self._secret)

    def write_checkpoint(self, now: float, *, at_once: bool = False) -> str | None:
        """Write a checkpoint when one is due, or the lines since the last one matter; return it. Raises OSError."""
        lines = self.end.count - self.checkpoint.count
        due = lines >= CHECKPOINT_LINES or now - self._checkpoint_at >= CHECKPOINT_SECONDS
        if not lines or not (due or at_once):
            return None
        position = self.end
        note = self._sign(position, now)
        disk.append_to(self.folder / audit.CHECKPOINTS, note.encode())
        self.checkpoint, self._checkpoint_at = position, now
        return note

    def extent(self) -> Extent:
        """Return how far the trail goes now, by all that is known here: it can be verified while it goes on."""
        # Not what they say: nothing is written meanwhile, and to find that out takes much longer than to read them.
        notes = kept.read_bytes() if (kept := self.folder / audit.CHECKPOINTS).exists() else b""
        return Extent({path: path.stat().st_size for path in audit.segments(self.folder)}, notes, self.end)

    def verify(self, anchors: Iterable[Position] = (), extent: Extent | None = None) -> Verification:
        """Check every line against the checkpoints beside the trail, and the end that this process knows."""
        whole = extent or self.extent()
        beside = [each.position for each in audit.checkpoints(whole.notes.decode())]
        known = [whole.end] if whole.end.count else []
        verifier = Verifier((), [*beside, *known, *anchors])
        for number, (path, size) in enumerate(whole.sizes.items(), 1):
            with path.open("rb") as file:
                verifier.feed(io.BytesIO(file.read(size)), last=number == len(whole.sizes))
        return verifier.report()

    def lines(self, newest_first: bool = False, first: int = 1) -> Iterator[bytes]:
        """Return the lines of all segments but those that end before the line `first`."""
        paths = audit.segments(self.folder)
        begun = sum(path.name <= audit.segment_name(first) for path in paths)
        paths = paths[max(0, begun - 1) :]
        for path in reversed(paths) if newest_first else paths:
            data = path.read_bytes().splitlines(keepends=True)
            yield from reversed(data) if newest_first else data

    def expired(self, before: float) -> Segment | None:
        """Return the oldest segment when all of its lines are older than `before`, or the trail is too large."""
        paths = audit.segments(self.folder)
        if len(paths) < 2:  # noqa: PLR2004 - the last one still grows
            return None
        first, last = audit.start_of(_first_line(paths[0])), audit.start_of(_first_line(paths[1]))
        if first is None or last is None:
            return None
        if _time_of(paths[1]) >= before and sum(path.stat().st_size for path in paths) <= TRAIL_BYTES:
            return None
        return Segment(paths[0], first.count + 1, last)

    def delete(self, segment: Segment) -> None:
        """Delete the oldest segment, and the checkpoints of lines that are gone. Raises OSError or ValueError."""
        segment.path.unlink()
        path = self.folder / audit.CHECKPOINTS
        if not path.exists():
            return
        # The one of the last line that is gone stays: the first line that is left names it.
        kept = (
            note
            for note in audit.checkpoints(path.read_text(encoding="utf-8"))
            if note.position.count >= segment.last.count
        )
        disk.replace_file(path, "".join(note.whole for note in kept).encode())

    def _find_end(self) -> int:
        """Take up the last line; set aside what a power cut left of one, and return how many bytes that was."""
        aside = 0
        for path in reversed(audit.segments(self.folder)):
            descriptor = os.open(path, os.O_RDWR)
            try:
                last, torn = _last_line(descriptor)
                aside += len(torn)
                if torn:
                    self._set_aside(path, descriptor, torn)
            finally:
                os.close(descriptor)
            if not last:
                path.unlink()
                continue
            if (end := audit.after(last)) is None:
                msg = f"{path} does not end with a line of the audit trail"
                raise ValueError(msg)
            self.end, self._segment = end, path
            self._began = _time_of(path)
            break
        return aside

    def _mend_checkpoints(self) -> int:
        """Set aside what a power cut left of the last checkpoint; return how many bytes that was."""
        path = self.folder / audit.CHECKPOINTS
        if not path.exists():
            return 0
        data = path.read_bytes()
        whole = data[: audit.whole_checkpoints(data)]
        if len(whole) == len(data):
            return 0
        descriptor = os.open(path, os.O_RDWR)
        try:
            self._set_aside(path, descriptor, data[len(whole) :])
        finally:
            os.close(descriptor)
        return len(data) - len(whole)

    def _catch_up(self) -> int | None:
        """Move the key on over lines that it does not know of; return the first of them whose MAC is wrong."""
        forged: int | None = None
        end: Position | None = None
        for line in self.lines(first=self._marked + 1) if self._marked < self.end.count else ():
            start = audit.start_of(line)
            if start is None or start.count < self._marked:
                continue
            if end is None:
                end = start
            if forged is None and not audit.is_next(line, end, self._secret):
                forged = end.count + 1
            end = Position(end.count + 1, hashlib.sha256(line).hexdigest())
            self._secret = audit.evolve(self._secret)
        return forged

    def _read_key(self) -> Key | None:
        try:
            found = _KEY_LINE.fullmatch((self.folder / KEY_FILE).read_bytes())
        except FileNotFoundError:
            return None
        if found is None or hashlib.sha256(found[0][:-17]).hexdigest()[:16].encode() != found[3]:
            return None
        return Key(int(found[1]), bytes.fromhex(found[2].decode()))

    def _undo(self) -> None:
        """Cut off what a failed write left, or its lines would stand there twice: nobody was told that it is there."""
        if self._descriptor is not None and self._cut_to is not None:
            os.ftruncate(self._descriptor, self._cut_to)
            self._cut_to = None

    def _writable(self, now: float) -> tuple[int, int]:
        """Return the segment that takes the next line, and its size."""
        if self._descriptor is not None:
            state = os.fstat(self._descriptor)
            full = state.st_size >= SEGMENT_BYTES or now - self._began >= SEGMENT_SECONDS
            # One that somebody deleted takes no more lines that nobody could read.
            if state.st_nlink and not full:
                return self._descriptor, state.st_size
            self.close()
            self._segment = Path()
        if self._segment == Path():
            self._segment = self.folder / audit.segment_name(self.end.count + 1)
            self._began = now
        self._descriptor = os.open(self._segment, os.O_WRONLY | os.O_CREAT | os.O_APPEND, disk.PRIVATE)
        _sync_folder(self.folder)
        return self._descriptor, os.fstat(self._descriptor).st_size

    @staticmethod
    def _set_aside(path: Path, descriptor: int, torn: bytes) -> None:
        size = os.fstat(descriptor).st_size - len(torn)
        aside = path.with_name(f"{path.name}.torn-{size}")
        aside.touch(disk.PRIVATE)
        aside.write_bytes(torn)
        os.ftruncate(descriptor, size)


def _time_of(path: Path) -> float:
    """Return when the first line of a segment was written; of a damaged one, when the last one was."""
    try:
        return datetime.fromisoformat(json.loads(_first_line(path))["at"]).replace(tzinfo=UTC).timestamp()
    except ValueError, KeyError, TypeError:
        return path.stat().st_mtime


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(audit.MAX_LINE + 1)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _last_line(descriptor: int) -> tuple[bytes, bytes]:
    """Return the last complete line of a file, and what stands behind it."""
    position = os.fstat(descriptor).st_size
    tail = b""
    while position and tail.count(b"\n") < 2:  # noqa: PLR2004 - one ends the line, one the line before it
        start = max(0, position - _BLOCK)
        tail = os.pread(descriptor, position - start, start) + tail
        position = start
    complete, newline, torn = tail.rpartition(b"\n")
    return complete.rpartition(b"\n")[2] + newline, torn
