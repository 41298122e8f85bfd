"""The audit file: lines on a disk, written and read outside the event loop."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
import os
from pathlib import Path
from typing import Any, Final

from .gateway.audit import Checkpoint, Report, append, end_of, verify

FILE_NAME: Final = "audit.jsonl"
_PRIVATE: Final = 0o600
_BLOCK: Final = 65_536


@dataclass(frozen=True, slots=True)
class Opening:
    """What was found when the trail was taken up.

    `torn` counts the bytes of an incomplete last line, which were set aside. `contradicted` says that the checkpoint is
    not one of this trail: entries are gone, or it cannot be read; it was set aside as evidence.
    """

    torn: int
    contradicted: bool


class AuditFile:
    """Append entries to the chain in one file, and keep the checkpoint beside it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._checkpoint_path = folder / f"{FILE_NAME}.checkpoint"
        self.end = Checkpoint()

    def open(self) -> Opening:
        """Take up the chain where it ends.

        Raises OSError when the folder cannot be written, ValueError when the last line is not one of a chain.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, _PRIVATE)
        try:
            last, torn = _last_line(descriptor)
            if torn:
                self._set_aside(descriptor, torn)
            if last:
                end = end_of(last)
                if end is None:
                    msg = f"{self.path} does not end with an entry of the audit trail"
                    raise ValueError(msg)
                self.end = end
        finally:
            os.close(descriptor)
        return Opening(len(torn), self._contradicted())

    def write(self, entries: Iterable[Mapping[str, Any]], *, mark: bool = True) -> None:
        """Append entries and move the checkpoint, all or none, and wait until the disk has them. Raises OSError.

        Without `mark` the checkpoint is left for the next write: it then only counts less than there is.
        """
        end = self.end
        lines: list[bytes] = []
        for entry in entries:
            line, end = append(end, entry)
            lines.append(line)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _PRIVATE)
        try:
            size = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, b"".join(lines))
                os.fdatasync(descriptor)
                if mark:
                    self._write_checkpoint(end)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        self.end = end

    def verify(self) -> Report:
        """Check the whole file against the end of the chain that this process knows."""
        with self.path.open("rb") as lines:
            return verify(lines, self.end)

    def _contradicted(self) -> bool:
        """Tell whether the checkpoint on the disk goes further than the trail; set it aside then."""
        try:
            kept = Checkpoint.from_json(self._checkpoint_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except ValueError:
            kept = None
        if kept is not None and (kept.count < self.end.count or kept == self.end):
            return False
        self._checkpoint_path.replace(
            self.path.with_name(f"{self._checkpoint_path.name}.contradicted-{self.end.count}")
        )
        return True

    def _write_checkpoint(self, end: Checkpoint) -> None:
        fresh = self._checkpoint_path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
        try:
            _write_all(descriptor, end.to_json().encode())
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(self._checkpoint_path)

    def _set_aside(self, descriptor: int, torn: bytes) -> None:
        size = os.fstat(descriptor).st_size - len(torn)
        aside = self.path.with_name(f"{FILE_NAME}.torn-{size}")
        aside.touch(_PRIVATE)
        aside.write_bytes(torn)
        os.ftruncate(descriptor, size)


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


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
