"""Turns: a job that runs once at a time, however many ask for it."""

import asyncio
from collections.abc import Awaitable, Callable


class Turns:
    """Run a job for whoever asks; those who ask while it runs share the one run that follows."""

    def __init__(self, job: Callable[[], Awaitable[None]]) -> None:
        self._job = job
        self._lock = asyncio.Lock()
        self._begun = 0
        self._done = 0
        self._ended = False

    async def async_run(self) -> None:
        """Return when a run is over that began after this call. Raises what the job raises."""
        wanted = self._begun + 1
        async with self._lock:
            # A run that failed was nobody's but its own: the next in line tries again.
            if self._ended or self._done >= wanted:
                return
            self._begun += 1
            number = self._begun
            await self._job()
            self._done = number

    async def async_end(self) -> None:
        """Begin no other run, and wait for the one that is under way."""
        self._ended = True
        async with self._lock:
            pass
