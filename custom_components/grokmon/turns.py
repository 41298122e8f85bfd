"""Turns: what is done once at a time, however many ask for it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError

from .const import DOMAIN

# A disk that hangs, or a broker, must not keep everything else from being put away.
_LAST_SECONDS: Final = 10.0
# Longer than a broker that does not answer keeps one waiting: work at it that goes on would undo what comes after.
_LAST_RUN_SECONDS: Final = 20.0


class Queue:
    """Do work that writes, one after the other, and each to its end: a thread goes on when its caller is cancelled."""

    def __init__(self, hass: HomeAssistant, name: str) -> None:
        self._hass = hass
        self._name = name
        self._lock = asyncio.Lock()

    async def async_do[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Return what the work returns when its turn has come. Raises what it raises."""

        async def alone() -> T:
            async with self._lock:
                return await work

        # Not eager: when Home Assistant stops, it cancels the jobs of a task that it did not know of when they began.
        return await asyncio.shield(self._hass.async_create_task(alone(), self._name, eager_start=False))


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
        """Begin no other run, and wait a while for the one that is under way."""
        self._ended = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_RUN_SECONDS), self._lock:
                pass


class Changes:
    """Let one at a time change something, in the order in which they come, until the end.

    Raises HomeAssistantError for who comes later, and for who had not finished when the end could wait no longer.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._ended = False

    async def __aenter__(self) -> None:
        """Wait for the turn."""
        await self._lock.acquire()
        if self._ended:
            self._lock.release()
            raise _not_loaded()

    async def __aexit__(self, error: type[BaseException] | None, *_rest: object) -> None:
        """Give the turn to the next."""
        self._lock.release()
        if self._ended and error is None:
            raise _not_loaded()

    async def async_end(self) -> None:
        """Let nobody begin any more, once those who came before are done, or after some seconds."""
        try:
            async with asyncio.timeout(_LAST_SECONDS), self._lock:
                self._ended = True
        except TimeoutError:
            self._ended = True


def _not_loaded() -> HomeAssistantError:
    return HomeAssistantError(translation_domain=DOMAIN, translation_key="not_loaded")
