"""Aggregation: the first of a kind is told at once, the rest once a minute, so that a flood cannot fill a disk."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

WINDOW: Final = 60.0


@dataclass(slots=True)
class _Open:
    since: float
    count: int = 0


@dataclass(frozen=True, slots=True)
class Summary[K: Hashable]:
    """How often something happened again after `since` (seconds since the epoch)."""

    key: K
    since: float
    count: int


class Aggregator[K: Hashable]:
    """Count what happens by key. The caller keeps the number of keys small."""

    def __init__(self) -> None:
        self._open: dict[K, _Open] = {}

    def add(self, key: K, now: float) -> bool:
        """Count one; True when it is the first of its kind in this window."""
        if (window := self._open.get(key)) is None:
            self._open[key] = _Open(now)
            return True
        window.count += 1
        return False

    def close(self, now: float, *, everything: bool = False) -> list[Summary[K]]:
        """Return a summary of every window that has ended, or of all; what goes on gets a new window."""
        summaries: list[Summary[K]] = []
        for key, window in list(self._open.items()):
            # A clock that jumped back must not keep a window open.
            if not everything and 0.0 <= now - window.since < WINDOW:
                continue
            if window.count:
                summaries.append(Summary(key, window.since, window.count))
                self._open[key] = _Open(now)
            else:
                del self._open[key]
        return summaries
