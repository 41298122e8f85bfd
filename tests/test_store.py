"""The private stores, on a real disk."""

import json
from pathlib import Path
import stat
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
import pytest

from custom_components.grokmon.gateway import credentials
from custom_components.grokmon.gateway.models import Algorithm, DeviceStatus
from custom_components.grokmon.store import SecurityRecord, SecurityStore, SessionStore

from .device_simulator.credentials import generate_key_pair, public_pem

NOW = 1_763_850_000.25
SESSIONS = {"tent-1": {"sid": "s" * 16, "boot": "b" * 22, "counters": {"telemetry": 7}, "retired": []}}


@pytest.fixture
def path(hass: HomeAssistant) -> Path:
    """Return the file of the credentials."""
    return Path(hass.config.path(".storage", "grokmon.security"))


def _record(algorithm: Algorithm, status: DeviceStatus = DeviceStatus.ACTIVE) -> SecurityRecord:
    pem = ""
    if algorithm is not Algorithm.HS256:
        pem = public_pem(generate_key_pair("es256" if algorithm is Algorithm.ES256 else "eddsa"))
    return SecurityRecord(credentials.issue(algorithm, NOW, pem), status)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_new_store_is_empty(hass: HomeAssistant, path: Path) -> None:
    """Reading a store that was never written makes no file."""
    store = SecurityStore(hass)
    await store.async_load()
    assert (store.state.devices, store.state.site_keys) == ({}, {})
    assert not list(path.parent.glob(path.name))


async def test_credentials_survive(hass: HomeAssistant) -> None:
    """Devices of every kind, their status and the site's keys come back as they were."""
    store = SecurityStore(hass)
    store.state.devices = {
        f"{algorithm.name.lower()}-{status}": _record(algorithm, status)
        for algorithm in Algorithm
        for status in DeviceStatus
    }
    store.state.site_keys = {name: credentials.new_site_key(name) for name in (Algorithm.ES256, Algorithm.EDDSA)}
    await store.async_save()
    again = SecurityStore(hass)
    await again.async_load()
    assert again.state.devices == store.state.devices
    assert {name: credentials.private_pem(key) for name, key in again.state.site_keys.items()} == {
        name: credentials.private_pem(key) for name, key in store.state.site_keys.items()
    }


async def test_only_the_owner_may_read(hass: HomeAssistant, path: Path) -> None:
    """Credentials and sessions are for Home Assistant alone, after every write."""
    store, sessions = SecurityStore(hass), SessionStore(hass)
    for device_id in ("tent-1", "tent-2"):
        store.state.devices[device_id] = _record(Algorithm.HS256)
        await store.async_save()
        assert _mode(path) == 0o600
    await sessions.async_put(SESSIONS, NOW)
    assert _mode(path.with_name("grokmon.sessions")) == 0o600


async def test_failed_write_is_an_error(hass: HomeAssistant, path: Path) -> None:
    """Home Assistant only logs a write that fails; what is not on the disk was not saved."""
    store = SecurityStore(hass)
    store.state.devices["tent-1"] = _record(Algorithm.HS256)
    path.parent.joinpath(path.name).mkdir(parents=True)
    with pytest.raises(HomeAssistantError) as failed:
        await store.async_save()
    assert failed.value.translation_key == "store_not_written"


@pytest.mark.parametrize(
    "found", ["", "{", "[]", "{}", '{"data": {}}', '{"data": {"devices": {}, "site_keys": {}}}'], ids=range(6)
)
async def test_what_is_read_back_counts(
    hass: HomeAssistant, path: Path, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    """A disk that loses what it was given, in whatever way, is found out at once."""

    def lose(self: Any, mode: str, json_data: Any) -> None:  # noqa: ARG001 - the signature of what it replaces
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)

    monkeypatch.setattr("homeassistant.helpers.storage.Store._write_prepared_data", lose)
    store = SecurityStore(hass)
    store.state.devices["tent-1"] = _record(Algorithm.HS256)
    with pytest.raises(HomeAssistantError):
        await store.async_save()


async def test_removed_store_is_gone(hass: HomeAssistant, path: Path) -> None:
    """Removing deletes the file; there being none is no error."""
    store, sessions = SecurityStore(hass), SessionStore(hass)
    store.state.devices["tent-1"] = _record(Algorithm.HS256)
    await store.async_save()
    await sessions.async_put(SESSIONS, NOW)
    for _ in range(2):
        await store.async_remove()
        await sessions.async_remove()
    assert not list(path.parent.glob("grokmon.*"))


def test_record_hides_its_secret() -> None:
    """A record that gets into a log or a trace does not tell the key."""
    record = _record(Algorithm.HS256)
    assert repr(record.credential.secret) not in repr(record)
    assert json.dumps(record.as_dict())


# Sessions


async def test_sessions_are_taken_once(hass: HomeAssistant, path: Path) -> None:
    """Who takes the sessions deletes them."""
    store = SessionStore(hass)
    assert await store.async_take(NOW) == {}
    await store.async_put(SESSIONS, NOW)
    assert await SessionStore(hass).async_take(NOW + 60) == SESSIONS
    assert not path.with_name("grokmon.sessions").exists()
    assert await SessionStore(hass).async_take(NOW + 60) == {}


@pytest.mark.parametrize(("later", "kept"), [(0, True), (120, True), (120.5, False), (-0.5, False)])
async def test_sessions_grow_old(hass: HomeAssistant, path: Path, later: float, *, kept: bool) -> None:
    """Sessions from too long ago, or from the future, are dropped, and deleted all the same."""
    await SessionStore(hass).async_put(SESSIONS, NOW)
    assert await SessionStore(hass).async_take(NOW + later) == (SESSIONS if kept else {})
    assert not path.with_name("grokmon.sessions").exists()
