"""The sessions of a graceful stop, on the disk for the next start."""

from collections.abc import Mapping
import logging
from typing import Any, Final, cast

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.storage import Store

from .checked_store import SESSIONS, VERSION
from .const import DOMAIN

_LOGGER = logging.getLogger(__name__)

# A stop and a start belong together within this time; older sessions may come from a restored copy of the disk, whose
# counters would let recorded messages in. A device without its session gets a new one within seconds.
_MAX_AGE_S: Final = 120.0


class SessionStore:
    """The sessions of a graceful stop, good for one start."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._store: Store[dict[str, Any]] = Store(
            hass, VERSION, f"{DOMAIN}.{SESSIONS}", private=True, atomic_writes=True
        )

    async def async_take(self, now: float) -> Mapping[str, Mapping[str, Any]]:
        """Return the sessions and delete them, so that a crash, or a copy of the disk, cannot bring them back."""
        try:
            data = await self._store.async_load()
        except HomeAssistantError as error:
            # Devices get new ones within seconds; what cannot be deleted must not be read later, either.
            _LOGGER.warning("The sessions of the last run could not be read: %s", error)
            await self._store.async_remove()
            return {}
        if data is None:
            return {}
        await self._store.async_remove()
        recent = 0.0 <= now - data["saved_at"] <= _MAX_AGE_S
        return cast("Mapping[str, Mapping[str, Any]]", data["sessions"]) if recent else {}

    async def async_put(self, sessions: Mapping[str, Mapping[str, Any]], now: float) -> None:
        """Keep the sessions for the next start."""
        await self._store.async_save({"saved_at": now, "sessions": dict(sessions)})

    async def async_remove(self) -> None:
        """Delete the store."""
        await self._store.async_remove()
