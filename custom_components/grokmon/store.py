"""Security state on disk: credentials, the site's keys, and the sessions of a graceful stop.

Config entries are stored readable by everybody; these files are private. A write is read back before it counts.
"""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any, Final, cast

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.storage import Store

from .const import DOMAIN
from .gateway import credentials
from .gateway.models import Algorithm, Credential, DeviceStatus, PrivateKey

_VERSION: Final = 1
# A stop and a start belong together within this time; older sessions may come from a restored copy of the disk, whose
# counters would let recorded messages in. A device without its session gets a new one within seconds.
_SESSIONS_MAX_AGE: Final = 120.0


@dataclass(frozen=True, slots=True)
class SecurityRecord:
    """What is secret or decided about one device."""

    credential: Credential
    status: DeviceStatus = DeviceStatus.ACTIVE

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SecurityRecord:
        """Return the record that `as_dict` wrote."""
        return cls(
            Credential(
                key_id=data["key_id"],
                algorithm=Algorithm(data["algorithm"]),
                created=data["created"],
                secret=b64decode(data["secret"]),
                public_key=data["public_key"],
            ),
            DeviceStatus(data["status"]),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON."""
        return {
            "key_id": self.credential.key_id,
            "algorithm": self.credential.algorithm.value,
            "created": self.credential.created,
            "secret": b64encode(self.credential.secret).decode(),
            "public_key": self.credential.public_key,
            "status": self.status.value,
        }


@dataclass(slots=True)
class SecurityState:
    """Everything that the security store holds."""

    devices: dict[str, SecurityRecord] = field(default_factory=dict)
    site_keys: dict[Algorithm, PrivateKey] = field(default_factory=dict)


class SecurityStore:
    """The private store of credentials and keys."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self._store: Store[dict[str, Any]] = Store(
            hass, _VERSION, f"{DOMAIN}.security", private=True, atomic_writes=True
        )
        self._lock = asyncio.Lock()
        self.state = SecurityState()

    async def async_load(self) -> None:
        """Read the store."""
        data = await self._store.async_load() or {"devices": {}, "site_keys": {}}
        self.state = SecurityState(
            {device_id: SecurityRecord.from_dict(record) for device_id, record in data["devices"].items()},
            {Algorithm(name): credentials.load_site_key(pem) for name, pem in data["site_keys"].items()},
        )

    async def async_save(self) -> None:
        """Write the store, and read it back. Raises HomeAssistantError when the disk does not hold what was written."""
        # One after the other, or one save would read back what the next one wrote.
        async with self._lock:
            data = {
                "devices": {device_id: record.as_dict() for device_id, record in self.state.devices.items()},
                "site_keys": {name.value: credentials.private_pem(key) for name, key in self.state.site_keys.items()},
            }
            await self._store.async_save(data)
            if await self._hass.async_add_executor_job(_data_in, Path(self._store.path)) != data:
                raise HomeAssistantError(translation_domain=DOMAIN, translation_key="store_not_written")

    async def async_remove(self) -> None:
        """Delete the store."""
        await self._store.async_remove()


class SessionStore:
    """The sessions of a graceful stop, good for one start."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._store: Store[dict[str, Any]] = Store(
            hass, _VERSION, f"{DOMAIN}.sessions", private=True, atomic_writes=True
        )

    async def async_take(self, now: float) -> Mapping[str, Mapping[str, Any]]:
        """Return the sessions and delete them, so that a crash, or a copy of the disk, cannot bring them back."""
        data = await self._store.async_load()
        if data is None:
            return {}
        await self._store.async_remove()
        recent = 0.0 <= now - data["saved_at"] <= _SESSIONS_MAX_AGE
        return cast("Mapping[str, Mapping[str, Any]]", data["sessions"]) if recent else {}

    async def async_put(self, sessions: Mapping[str, Mapping[str, Any]], now: float) -> None:
        """Keep the sessions for the next start."""
        await self._store.async_save({"saved_at": now, "sessions": dict(sessions)})

    async def async_remove(self) -> None:
        """Delete the store."""
        await self._store.async_remove()


class ControlStore:
    """What the way out has to remember: budgets that are spent, what is latched, what is to be on, and since when."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self._store: Store[dict[str, Any]] = Store(
            hass, _VERSION, f"{DOMAIN}.control", private=True, atomic_writes=True
        )
        self._lock = asyncio.Lock()

    async def async_load(self) -> dict[str, Any] | None:
        """Return what was saved, or None before the first time."""
        return await self._store.async_load()

    async def async_save(self, make: Callable[[], dict[str, Any]]) -> None:
        """Save what `make` returns when its turn comes. Raises HomeAssistantError when the disk does not hold it."""
        async with self._lock:
            data = make()
            await self._store.async_save(data)
            if self._hass.is_stopping:
                # Home Assistant writes all stores together then, as the last thing that it does.
                return
            if await self._hass.async_add_executor_job(_data_in, Path(self._store.path)) != data:
                raise HomeAssistantError(translation_domain=DOMAIN, translation_key="store_not_written")

    async def async_remove(self) -> None:
        """Delete the store."""
        await self._store.async_remove()


def _data_in(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())["data"]
    except OSError, ValueError, KeyError, TypeError:
        return None
