"""A journal: rows of one day in one file, compressed and encrypted. Blocking: not for the event loop."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
import os
from pathlib import Path
import re
from typing import Any, Final
import zlib

import orjson

from . import disk
from .gateway.vault import Vault, VaultError

type Row = Mapping[str, Any]

_LENGTH_BYTES: Final = 4


class JournalFile:
    """Append frames of rows to the file of the day; read them back, and delete what is too old or too much.

    A frame is its length and its sealed rows, bound to journal, day and place: none can be swapped, moved or repeated.
    """

    def __init__(self, folder: Path, name: str, vault: Vault, *, keep_days: int, max_bytes: int) -> None:
        self._folder = folder
        self._name = name
        self._vault = vault
        self._keep_days = keep_days
        self._max_bytes = max_bytes
        self._files = re.compile(rf"{name}-([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})\.journal")
        self._frames: dict[str, int] = {}

    @property
    def size(self) -> int:
        """Return how many bytes are on the disk."""
        return sum(path.stat().st_size for path in self._paths())

    def append(self, rows: Sequence[Row], now: float) -> None:
        """Append rows as one frame, all or none, and wait until the disk has them. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        day = _day(now)
        descriptor = os.open(self._path(day), os.O_RDWR | os.O_CREAT | os.O_APPEND, disk.PRIVATE)
        try:
            if day not in self._frames:
                self._frames[day] = _drop_torn(descriptor)
            index = self._frames[day]
            plain = b"\n".join(orjson.dumps(row) for row in rows)
            sealed = self._vault.seal_bytes(zlib.compress(plain), self._owner(day, index))
            try:
                disk.append(descriptor, len(sealed).to_bytes(_LENGTH_BYTES) + sealed)
            except OSError:
                del self._frames[day]
                raise
        finally:
            os.close(descriptor)
        self._frames = {day: index + 1}

    def read(self, start: float, end: float, limit: int, keep: Callable[[Row], bool]) -> tuple[list[Row], int]:
        """Return rows with `start` <= `at` < `end` in their order, at most `limit`; and how many frames are damaged."""
        rows: list[Row] = []
        damaged = 0
        for path in self._paths():
            day = path.name.removeprefix(f"{self._name}-").removesuffix(".journal")
            if day < _day(start):
                # Rows are written after they came in, so they may be in the file of a later day, never of an earlier.
                continue
            data = path.read_bytes()
            frames = list(_frames(data))
            damaged += _length(frames) != len(data)
            for index, sealed in enumerate(frames):
                try:
                    plain = zlib.decompress(self._vault.unseal_bytes(sealed, self._owner(day, index)))
                except VaultError, zlib.error:
                    damaged += 1
                    continue
                for line in plain.split(b"\n"):
                    row: Row = orjson.loads(line)
                    if start <= row["at"] < end and keep(row):
                        rows.append(row)
                        if len(rows) == limit:
                            return rows, damaged
        return rows, damaged

    def purge(self, now: float) -> list[str]:
        """Delete the days that are too old, then the oldest while there is too much; return the names.

        The day that is written to stays, unless it alone is twice too much.
        """
        oldest = _day(now - timedelta(days=self._keep_days).total_seconds())
        today = self._path(_day(now))
        gone: list[str] = []
        paths = self._paths()
        total = self.size
        for path in paths:
            size = path.stat().st_size
            aged = path.name < self._path(oldest).name
            allowed = 2 * self._max_bytes if path == today else self._max_bytes
            if not aged and total <= allowed:
                continue
            path.unlink()
            total -= size
            gone.append(path.name)
            self._frames.clear()
        return gone

    def _owner(self, day: str, index: int) -> str:
        return f"{self._name}/{day}/{index}"

    def _path(self, day: str) -> Path:
        return self._folder / f"{self._name}-{day}.journal"

    def _paths(self) -> list[Path]:
        if not self._folder.exists():
            return []
        return sorted(path for path in self._folder.iterdir() if self._files.fullmatch(path.name))


def _day(at: float) -> str:
    return datetime.fromtimestamp(min(max(at, 0.0), 253_402_300_799.0), UTC).date().isoformat()


def _frames(data: bytes) -> Iterator[bytes]:
    """Return the complete frames of a file."""
    at = 0
    while (begin := at + _LENGTH_BYTES) <= len(data):
        at = begin + int.from_bytes(data[at:begin])
        if at > len(data):
            return
        yield data[begin:at]


def _drop_torn(descriptor: int) -> int:
    """Cut off what a power cut left of a frame; return how many frames are complete."""
    size = os.fstat(descriptor).st_size
    end = count = 0
    while (begin := end + _LENGTH_BYTES) <= size:
        after = begin + int.from_bytes(os.pread(descriptor, _LENGTH_BYTES, end))
        if after > size:
            break
        end = after
        count += 1
    os.ftruncate(descriptor, end)
    return count


def _length(frames: Sequence[bytes]) -> int:
    return sum(len(frame) + _LENGTH_BYTES for frame in frames)
