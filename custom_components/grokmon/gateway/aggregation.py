"""Aggregation: the first of a kind is told at once, the rest now and then, so that a flood cannot fill a disk."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

WINDOW: Final = 60.0
MAX_WINDOWS: Final = 60


@dataclass(slots=True)
class _Open[K: Hashable]:
    since: float
    turn: int = 0
    count: int = 0
    merged: set[K] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Summary[K: Hashable]:
    """How often something happened again, `merged` from so many keys."""

    key: K
    count: int
    merged: int = 0


class Aggregator[K: Hashable]:
    """Count what happens by key. The caller keeps the number of keys small, or says how to `merge` them.

    With MAX_WINDOWS open, what has none is counted under the key that `merge` makes of its own. `windows` are the
    lengths of one window after the other while something goes on; the last one repeats.
    """

    def __init__(self, merge: Callable[[K], K] | None = None, windows: tuple[float, ...] = (WINDOW,)) -> None:
        self._merge = merge
        self._windows = windows
        self._open: dict[K, _Open[K]] = {}

    def merges(self, key: K) -> bool:
        """Tell whether a key has no window of its own, and would get none."""
        return self._merge is not None and key not in self._open and len(self._open) >= MAX_WINDOWS

    def add(self, key: K, now: float) -> bool:
        """Count one; True when it is the first of its kind in this window."""
        shared = self._merge(key) if self._merge is not None and self.merges(key) else key
        window = self._open.get(shared)
        if first := window is None:
            window = self._open[shared] = _Open(now)
        window.count += not first
        if shared != key:
            window.merged.add(key)
        return first

    def close(self, now: float, *, everything: bool = False) -> list[Summary[K]]:
        """Return a summary of every window that has ended, or of all; what goes on gets a new window."""
        summaries: list[Summary[K]] = []
        for key, window in list(self._open.items()):
            # A clock that jumped back must not keep a window open.
            if not everything and 0.0 <= now - window.since < self._windows[window.turn]:
                continue
            if window.count:
                summaries.append(Summary(key, window.count, len(window.merged)))
                self._open[key] = _Open(now, min(window.turn + 1, len(self._windows) - 1))
            else:
                del self._open[key]
        return summaries
