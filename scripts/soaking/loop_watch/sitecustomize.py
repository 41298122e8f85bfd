"""Write down which steps of the event loop of Home Assistant take long; Python imports this by itself at its start.

Asyncio's debug mode tells the same and makes every step several times as slow, so that most of what it tells is itself.
A pass of the garbage collector over all objects happens within some step, and is told apart from it.
"""

from asyncio.events import Handle
import gc
import os
from pathlib import Path
import sys
from time import perf_counter
from typing import Any

LONG_S = 0.1
"""From when on asyncio calls a step slow, in seconds."""
_ALL = 2


class _Steps:
    def __init__(self, path: str) -> None:
        self._log = Path(path).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - until the process ends
        self._run = Handle._run  # noqa: SLF001 - asyncio has no hook for it
        self._collecting_since = 0.0
        self._collected_s = 0.0

    def run(self, handle: Handle) -> None:
        """Run a step."""
        self._collected_s, begun = 0.0, perf_counter()
        try:
            self._run(handle)
        finally:
            took = perf_counter() - begun
            if took - self._collected_s >= LONG_S:
                self._log.write(f"step\t{took - self._collected_s:.3f}\t{handle!r}\n")

    def collected(self, phase: str, info: dict[str, Any]) -> None:
        """See a pass of the garbage collector begin and end."""
        if phase == "start":
            self._collecting_since = perf_counter()
            return
        took = perf_counter() - self._collecting_since
        self._collected_s += took
        if info["generation"] == _ALL:
            # What is left then is what is used: a process may hold more than that, and hold it for long.
            self._log.write(f"collection\t{took:.3f}\t{sys.getallocatedblocks()}\n")


if (_path := os.environ.get("GROKMON_LOOP_WATCH")) and "homeassistant" in sys.orig_argv:
    _steps = _Steps(_path)

    def _watched(self: Handle) -> None:
        _steps.run(self)

    Handle._run = _watched  # type: ignore[method-assign] # noqa: SLF001 - as above
    gc.callbacks.append(_steps.collected)
