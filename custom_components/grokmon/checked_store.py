"""Private stores whose writes are read back, and their end."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
import json
from pathlib import Path
from typing import Any, Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.storage import Store
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN

VERSION: Final = 1
CONTROL: Final = "control"
SECURITY: Final = "security"
SESSIONS: Final = "sessions"
_LOCKS: Final[HassKey[defaultdict[str, asyncio.Lock]]] = HassKey(f"{DOMAIN}_store_locks")


class CheckedStore:
    """A private store whose writes are read back."""

    def __init__(self, hass: HomeAssistant, name: str) -> None:
        self._hass = hass
        self._store: Store[dict[str, Any]] = Store(hass, VERSION, f"{DOMAIN}.{name}", private=True, atomic_writes=True)
        self._lock = lock_of(hass, name)
        self._closed = False

    @property
    def path(self) -> str:
        """Return where the store is on the disk."""
        return str(self._store.path)

    async def async_load(self) -> dict[str, Any] | None:
        """Return what was saved, or None before the first time."""
        async with self._lock:
            return await self._store.async_load()

    async def async_save(self, make: Callable[[], dict[str, Any]]) -> None:
        """Save what `make` returns when its turn comes.

        Raises HomeAssistantError when the disk does not hold it, or when the store is closed.
        """
        try:
            # A thread goes on when its caller is cancelled, and would write over what is saved next.
            saved = await asyncio.shield(self._task(make))
        except asyncio.CancelledError:
            # Who is cancelled takes back what was to be kept: so does the disk.
            self._task(make)
            raise
        if not saved:
            raise HomeAssistantError(translation_domain=DOMAIN, translation_key="not_loaded")

    @callback
    def async_close(self) -> None:
        """Save nothing more: another run may have taken up the store, and this one would put back what it knew."""
        self._closed = True

    def _task(self, make: Callable[[], dict[str, Any]]) -> asyncio.Task[bool]:
        # Not eager: when Home Assistant stops, it cancels the jobs of a task that it did not know of when they began.
        return self._hass.async_create_task(self._async_save(make), "grokmon store", eager_start=False)

    async def _async_save(self, make: Callable[[], dict[str, Any]]) -> bool:
        """Save; return False for a store that is closed."""
        # One after the other, or one save would read back what the next one wrote.
        async with self._lock:
            if self._closed:
                return False
            data = make()
            await self._store.async_save(data)
            if self._hass.is_stopping:
                # Home Assistant writes all stores together then, as the last thing that it does.
                return True
            if await self._hass.async_add_executor_job(_data_in, Path(self.path)) != data:
                raise HomeAssistantError(translation_domain=DOMAIN, translation_key="store_not_written")
        return True


async def async_remove_stores(hass: HomeAssistant) -> None:
    """Delete all stores, and with them every credential."""
    for name in (SECURITY, SESSIONS, CONTROL):
        async with lock_of(hass, name):
            await Store[dict[str, Any]](hass, VERSION, f"{DOMAIN}.{name}", private=True).async_remove()


def lock_of(hass: HomeAssistant, name: str) -> asyncio.Lock:
    """Return the lock of a store, or of its key: one for all runs, as a thread of the one before may still write."""
    return hass.data.setdefault(_LOCKS, defaultdict(asyncio.Lock))[name]


def _data_in(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())["data"]
    except OSError, ValueError, KeyError, TypeError:
        return None
