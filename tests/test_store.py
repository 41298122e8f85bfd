"""The private stores, on a real disk."""

import asyncio
from base64 import standard_b64encode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import replace
import json
from pathlib import Path
import stat
from threading import Event
from typing import Any
from unittest.mock import patch

from homeassistant.core import CoreState, HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.storage import Store
import pytest

from custom_components.grokmon import turns
from custom_components.grokmon.broker import certificates
from custom_components.grokmon.checked_store import CONTROL, CheckedStore, async_remove_stores, lock_of
from custom_components.grokmon.gateway import authority, credentials, lifecycle
from custom_components.grokmon.gateway.models import Algorithm, Auth, CredentialState, DeviceStatus
from custom_components.grokmon.gateway.vault import Vault, VaultError
from custom_components.grokmon.kek import Kek, KekSource
from custom_components.grokmon.session_store import SessionStore
from custom_components.grokmon.store import (
    AuthorityState,
    BrokerState,
    SecurityRecord,
    SecurityStore,
)

from .common import RoomDevice
from .device_simulator.credentials import generate_key_pair, public_pem

KEK = Kek(bytes(range(32)), KekSource.GENERATED)
OTHER = Kek(bytes(range(1, 33)), KekSource.GENERATED)
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
    return SecurityRecord((credentials.issue(algorithm, NOW, pem),), Auth.SIGNED, status)


def _other_records() -> dict[str, SecurityRecord]:
    """Return records of whatever else a device may have."""
    old, new = (credentials.issue(Algorithm.HS256, NOW) for _ in range(2))
    issuer = authority.new_authority(NOW)
    issued, _ = authority.issue_for(issuer, "certified", NOW)
    certificate = credentials.record_certificate(issued.serial, issued.certificate, NOW, issued.not_after)
    used = (replace(old, state=CredentialState.ACTIVE),)
    return {
        "broker": SecurityRecord((credentials.issue_password(NOW),), Auth.BROKER),
        "token": SecurityRecord((credentials.issue_token(NOW),), Auth.TOKEN),
        "rotated": SecurityRecord(lifecycle.rotate(used, new, NOW)),
        "certified": SecurityRecord((certificate,), Auth.BROKER),
        "bare": SecurityRecord(),
    }


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _on_disk(path: Path) -> bytes:
    return path.read_bytes()


def _remove(path: Path) -> None:
    path.unlink()


def _alter(path: Path, change: Callable[[Any], None]) -> None:
    """Change what a store holds on the disk."""
    file = json.loads(path.read_bytes())
    change(file["data"])
    path.write_text(json.dumps(file))


def _move_secret(data: Any, giver: str, given: int, taker: str, taken: int) -> None:
    """Put the secret of one credential in the place of another's."""
    devices = data["devices"]
    devices[taker]["credentials"][taken]["secret"] = devices[giver]["credentials"][given]["secret"]


def _break(path: Path) -> None:
    """Let the disk refuse what is written to a store; what it holds is kept aside."""
    if path.exists():
        path.rename(path.with_suffix(".aside"))
    path.mkdir(parents=True)


def _repair(path: Path) -> None:
    """Let the disk take a store again, which is as it was."""
    path.rmdir()
    if path.with_suffix(".aside").exists():
        path.with_suffix(".aside").rename(path)


def _store(hass: HomeAssistant, kek: Kek = KEK) -> SecurityStore:
    return SecurityStore(hass, kek)


async def _filled(hass: HomeAssistant, kek: Kek = KEK) -> SecurityStore:
    """Return a store on the disk with devices of every kind, and the site's keys."""
    store = _store(hass, kek)
    store.state.devices = {
        f"{algorithm.name.lower()}-{status}": _record(algorithm, status)
        for algorithm in Algorithm
        for status in DeviceStatus
    } | _other_records()
    store.state.broker = BrokerState("password of the administrator", "password of the probe", {"gone": ["gone.1"]})
    authorities = [authority.new_authority(NOW) for _ in range(2)]
    crl = authority.revocation_list(authorities[0], {"0f": NOW}, 3, NOW)
    store.state.authority = AuthorityState(authorities, {"0f": NOW}, crl, 3)
    store.state.acknowledged = {"mfa": "one person"}
    store.state.site_keys = {name: credentials.new_site_key(name) for name in (Algorithm.ES256, Algorithm.EDDSA)}
    store.state.backup_at = NOW
    await store.async_save()
    return store


def _content(store: SecurityStore) -> tuple[Any, ...]:
    """Return everything that a store holds, in a form that can be compared."""
    state = store.state
    site_keys = {name: credentials.private_pem(key) for name, key in state.site_keys.items()}
    keys = state.audit_key, state.journal_key, state.token_key
    authorities = [(each.certificate, authority.key_pem(each)) for each in state.authority.authorities]
    lists = state.authority.revoked, state.authority.revocation_list, state.authority.number
    return state.devices, site_keys, keys, state.broker, authorities, lists, state.acknowledged, state.backup_at


async def _loaded(hass: HomeAssistant, kek: Kek = KEK) -> tuple[Any, ...]:
    """Return what a store on the disk holds for whoever has this key."""
    store = _store(hass, kek)
    await store.async_load()
    return _content(store)


async def test_new_store_keeps_its_keys(hass: HomeAssistant, path: Path) -> None:
    """Begin a store where there is none: its own keys must be the same ones at the next start."""
    store = _store(hass)
    await store.async_load()
    assert (store.state.devices, store.state.site_keys, store.state.backup_at) == ({}, {}, None)
    keys = _content(store)[2]
    assert [len(key) for key in keys] == [32, 32, 32]
    assert len(set(keys)) == 3
    assert len(store.state.broker.probe_password) == 43
    assert _mode(path) == 0o600
    assert await _loaded(hass) == _content(store)
    _remove(path)
    anew = await _loaded(hass)
    assert set(anew[2]).isdisjoint(keys)
    assert anew[3].probe_password != store.state.broker.probe_password


async def test_everything_survives(hass: HomeAssistant) -> None:
    """Devices of every kind, what else is secret or decided, and the store's own keys come back as they were."""
    store = await _filled(hass)
    assert await _loaded(hass) == _content(store)
    assert all(part for part in _content(store))


# Sealed


async def test_no_secret_on_the_disk(hass: HomeAssistant, path: Path) -> None:
    """Nothing that opens a door is readable in the file, in whatever form."""
    store = await _filled(hass)
    devices, site_keys, keys, broker, authorities, *_ = _content(store)
    secrets = [each.secret for record in devices.values() for each in record.credentials if each.secret]
    assert len(secrets) == 6
    passwords = (broker.admin_password.encode(), broker.probe_password.encode())
    data = _on_disk(path)
    for secret in (*secrets, *keys, *passwords, KEK.key):
        for form in (secret, secret.hex().encode(), urlsafe_b64encode(secret)[:43], standard_b64encode(secret)[:43]):
            assert form not in data
    assert b"PRIVATE KEY" not in data
    for pem in (*site_keys.values(), *(pem for _, pem in authorities)):
        for line in pem.splitlines():
            assert line.encode() not in data
    assert b"PUBLIC KEY" in data


async def test_other_key(hass: HomeAssistant, path: Path) -> None:
    """Whoever has another key gets nothing, is told which one it takes, and changes nothing."""
    await _filled(hass)
    before = _on_disk(path)
    store = _store(hass, OTHER)
    with pytest.raises(VaultError, match=Vault(KEK.key).key_id):
        await store.async_load()
    assert (store.state.devices, store.state.site_keys) == ({}, {})
    assert _on_disk(path) == before


async def test_neither_key(hass: HomeAssistant) -> None:
    """A previous key that is not the right one either does not help."""
    await _filled(hass)
    with pytest.raises(VaultError):
        await _loaded(hass, replace(OTHER, previous=bytes(32)))


async def test_previous_key(hass: HomeAssistant, path: Path) -> None:
    """The key before this one opens the store once more; from then on only the new one does."""
    store = await _filled(hass)
    assert await _loaded(hass, replace(OTHER, previous=KEK.key)) == _content(store)
    assert Vault(KEK.key).key_id.encode() not in _on_disk(path)
    assert await _loaded(hass, OTHER) == _content(store)
    assert await _loaded(hass, replace(OTHER, previous=KEK.key)) == _content(store)
    with pytest.raises(VaultError):
        await _loaded(hass, KEK)


@pytest.mark.parametrize(
    "move",
    [
        lambda data: _move_secret(data, "hs256-revoked", 0, "hs256-active", 0),
        lambda data: _move_secret(data, "rotated", 0, "rotated", 1),
        lambda data: data["devices"].update({"thief": data["devices"]["hs256-active"]}),
        lambda data: data["site_keys"].update(ES256=data["site_keys"]["EdDSA"]),
        lambda data: data.update(audit_key=data["journal_key"]),
        lambda data: data.update(journal_key=data["audit_key"]),
        lambda data: data.update(token_key=data["audit_key"]),
        lambda data: data["broker"].update(admin_password=data["broker"]["probe_password"]),
        lambda data: data["broker"].update(probe_password=data["broker"]["admin_password"]),
        lambda data: data["authority"]["authorities"][0].update(key=data["site_keys"]["ES256"]),
        lambda data: data.update(audit_key="in the clear"),
    ],
    ids=[
        "other device",
        "other credential",
        "other name",
        "other algorithm",
        "audit",
        "journal",
        "token",
        "administrator",
        "probe",
        "authority",
        "not sealed",
    ],
)
async def test_moved_secret_is_refused(hass: HomeAssistant, path: Path, move: Callable[[Any], None]) -> None:
    """A secret counts only where it was sealed for."""
    await _filled(hass)
    _alter(path, move)
    with pytest.raises(VaultError):
        await _loaded(hass)


# Sealed anew


async def test_sealed_anew(hass: HomeAssistant) -> None:
    """Another key takes over at once, and for every write that follows."""
    store = await _filled(hass)
    await store.async_reseal(OTHER)
    assert store.kek == OTHER
    assert await _loaded(hass, OTHER) == _content(store)
    with pytest.raises(VaultError):
        await _loaded(hass, KEK)
    store.state.devices["late"] = _record(Algorithm.HS256)
    await store.async_save()
    assert await _loaded(hass, OTHER) == _content(store)


async def test_only_what_changed_is_sealed_again(hass: HomeAssistant, path: Path) -> None:
    """A save costs as much as what changed; a device that was removed is kept nowhere."""
    store = await _filled(hass)
    before = json.loads(_on_disk(path))["data"]["devices"]
    store.state.devices["broker"] = replace(store.state.devices["broker"])
    del store.state.devices["token"]
    await store.async_save()
    after = json.loads(_on_disk(path))["data"]["devices"]
    assert {name for name in before if before[name] != after.get(name)} == {"broker", "token"}
    assert store._known.keys() == after.keys()
    assert await _loaded(hass) == _content(store)


async def test_disk_fails_while_it_is_sealed_anew(hass: HomeAssistant, path: Path) -> None:
    """Where the disk fails, the key before stays in force, on the disk and in what is written next."""
    store = await _filled(hass)
    _break(path)
    with pytest.raises(HomeAssistantError) as failed:
        await store.async_reseal(OTHER)
    assert failed.value.translation_key == "store_not_written"
    assert store.kek == KEK
    _repair(path)
    assert await _loaded(hass) == _content(store)
    store.state.devices["late"] = _record(Algorithm.HS256)
    await store.async_save()
    assert await _loaded(hass) == _content(store)


async def test_backup_is_marked(hass: HomeAssistant) -> None:
    """A mark is on the disk until it is taken away."""
    store = _store(hass)
    await store.async_load()
    for mark in (NOW, None):
        await store.async_mark_backup(mark)
        assert (await _loaded(hass))[-1] == mark


async def test_mark_that_was_not_written_is_not_written_later(hass: HomeAssistant, path: Path) -> None:
    """A backup that was not made, since it could not be marked, leaves no mark for the next write."""
    store = _store(hass)
    _break(path)
    with pytest.raises(HomeAssistantError):
        await store.async_mark_backup(NOW)
    _repair(path)
    await store.async_save()
    assert (await _loaded(hass))[-1] is None


# On the disk


async def test_only_the_owner_may_read(hass: HomeAssistant, path: Path) -> None:
    """Credentials and sessions are for Home Assistant alone, after every write."""
    store, sessions = _store(hass), SessionStore(hass)
    for device_id in ("tent-1", "tent-2"):
        store.state.devices[device_id] = _record(Algorithm.HS256)
        await store.async_save()
        assert _mode(path) == 0o600
    await sessions.async_put(SESSIONS, NOW)
    assert _mode(path.with_name("grokmon.sessions")) == 0o600


async def test_failed_write_is_an_error(hass: HomeAssistant, path: Path) -> None:
    """Home Assistant only logs a write that fails; what is not on the disk was not saved."""
    store = _store(hass)
    store.state.devices["tent-1"] = _record(Algorithm.HS256)
    _break(path)
    with pytest.raises(HomeAssistantError) as failed:
        await store.async_save()
    assert failed.value.translation_key == "store_not_written"


async def test_catches_up(hass: HomeAssistant, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What the disk refused is saved when it takes it again; it is told when that begins, and when it is over."""
    store = await _filled(hass)
    store.state.devices["tent-9"] = _record(Algorithm.HS256, DeviceStatus.REVOKED)
    _break(path)
    with pytest.raises(HomeAssistantError):
        await store.async_save()
    await store.async_catch_up()
    assert caplog.text.count("will be tried again") == 1
    _repair(path)
    caplog.set_level("INFO", "custom_components.grokmon.store")
    await store.async_catch_up()
    assert "What was decided about devices is on the disk" in caplog.text
    assert await _loaded(hass) == _content(store)


async def test_catches_up_once(hass: HomeAssistant, path: Path) -> None:
    """However many find the store behind, it is written once; and not at all where it is not."""
    store = await _filled(hass)
    _break(path)
    with pytest.raises(HomeAssistantError):
        await store.async_save()
    _repair(path)
    with patch.object(store, "async_save", wraps=store.async_save) as save:
        await asyncio.gather(*(store.async_catch_up() for _ in range(3)))
    assert save.await_count == 1


async def test_catches_up_at_the_end(hass: HomeAssistant, path: Path) -> None:
    """What the disk refused is saved before the end, and nothing after it."""
    store = await _filled(hass)
    store.state.devices["tent-9"] = _record(Algorithm.HS256, DeviceStatus.REVOKED)
    _break(path)
    with pytest.raises(HomeAssistantError):
        await store.async_save()
    _repair(path)
    await store.async_close()
    kept = await _loaded(hass)
    assert kept == _content(store)
    store.state.devices.clear()
    with pytest.raises(HomeAssistantError) as refused:
        await store.async_save()
    assert refused.value.translation_key == "not_loaded"
    assert await _loaded(hass) == kept


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
    store = _store(hass)
    store.state.devices["tent-1"] = _record(Algorithm.HS256)
    with pytest.raises(HomeAssistantError):
        await store.async_save()


async def test_removed_stores_are_gone(hass: HomeAssistant, path: Path) -> None:
    """Removing deletes all files; there being none is no error."""
    store, sessions = await _filled(hass), SessionStore(hass)
    await sessions.async_put(SESSIONS, NOW)
    await CheckedStore(hass, CONTROL).async_save(dict)
    assert len(list(path.parent.glob("grokmon.*"))) == 3
    for _ in range(2):
        await sessions.async_remove()
        await async_remove_stores(hass)
        assert not list(path.parent.glob("grokmon.*"))
    assert await _loaded(hass) != _content(store)


# Callers that are cancelled


class Gate:
    """A disk that is done when it is told to be."""

    def __init__(self) -> None:
        """Begin closed."""
        self.reached = Event()
        self.opened = Event()
        self.writing = 0
        self.met = False

    async def async_cancelled(self, hass: HomeAssistant, work: Awaitable[None], *, stopping: bool = False) -> None:
        """Let a caller be cancelled while it waits for the disk, or by Home Assistant that stops."""

        async def call() -> None:
            await work

        caller = hass.async_create_background_task(call(), "caller")
        assert await hass.async_add_executor_job(self.reached.wait, 10)
        for task in list(hass._background_tasks) if stopping else [caller]:
            task.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()

    async def async_open(self, following: asyncio.Task[Any]) -> None:
        """Let the disk go on while another one waits for it."""
        await asyncio.sleep(0)
        assert not following.done()
        self.opened.set()
        await following


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Generator[Gate]:
    """Let the disk take its time."""
    made, real = Gate(), Store._write_prepared_data

    def slowly(store: Any, *prepared: Any) -> None:
        made.writing += 1
        made.met |= made.writing > 1
        made.reached.set()
        assert made.opened.wait(10)
        real(store, *prepared)
        made.writing -= 1

    monkeypatch.setattr(Store, "_write_prepared_data", slowly)
    yield made
    made.opened.set()


@pytest.mark.parametrize("stopping", [False, True])
async def test_caller_is_cancelled(hass: HomeAssistant, gate: Gate, *, stopping: bool) -> None:
    """A thread goes on when its caller is cancelled: what is saved later is never overtaken by what was before."""
    store = CheckedStore(hass, CONTROL)
    await gate.async_cancelled(hass, store.async_save(lambda: {"spent": 1}), stopping=stopping)
    await gate.async_open(hass.async_create_task(store.async_save(lambda: {"spent": 2})))
    assert not gate.met
    assert await CheckedStore(hass, CONTROL).async_load() == {"spent": 2}


async def test_what_a_cancelled_caller_takes_back_is_not_on_the_disk(hass: HomeAssistant, gate: Gate) -> None:
    """Who is cancelled takes back what was to be kept; the disk follows, though it had it already."""
    store = _store(hass)
    await gate.async_cancelled(hass, store.async_mark_backup(NOW))
    assert store.state.backup_at is None
    gate.opened.set()
    await hass.async_block_till_done()
    assert await _loaded(hass) == _content(store)


async def test_next_run_waits_for_the_writes_of_the_one_before(hass: HomeAssistant, gate: Gate) -> None:
    """What a run still writes is what the next one reads: it could not be overtaken otherwise."""
    await gate.async_cancelled(hass, CheckedStore(hass, CONTROL).async_save(lambda: {"spent": 1}))
    loading = hass.async_create_task(CheckedStore(hass, CONTROL).async_load())
    await gate.async_open(loading)
    assert loading.result() == {"spent": 1}


async def test_removed_stores_do_not_come_back(hass: HomeAssistant, path: Path, gate: Gate) -> None:
    """What a run still writes is deleted, too."""
    await gate.async_cancelled(hass, _store(hass).async_save())
    await gate.async_open(hass.async_create_task(async_remove_stores(hass)))
    await hass.async_block_till_done()
    assert not list(path.parent.glob("grokmon.*"))


def test_record_hides_its_secret() -> None:
    """A record that gets into a log or a trace does not tell the key."""
    record = _record(Algorithm.HS256)
    (credential,) = record.credentials
    assert repr(credential.secret) not in repr(record)
    written = record.as_dict(Vault(KEK.key), "device/tent-1")
    assert credential.secret.hex() not in json.dumps(written)
    assert SecurityRecord.from_dict(written, Vault(KEK.key).unseal, "device/tent-1") == record


async def test_state_hides_its_secrets(hass: HomeAssistant) -> None:
    """What holds everything does not tell it."""
    store = await _filled(hass)
    broker = store.state.broker
    keys = (store.state.audit_key, store.state.journal_key, store.state.token_key, KEK.key)
    for secret in (*map(repr, keys), broker.admin_password, broker.probe_password):
        assert secret not in repr(store.state) + repr(store.kek)


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


async def test_save_while_home_assistant_stops(hass: HomeAssistant) -> None:
    """Home Assistant writes everything as the last thing that it does; there is nothing to read back before."""
    store = await _filled(hass)
    store.state.acknowledged = {"anonymous": "a lab"}
    hass.set_state(CoreState.stopping)
    await store.async_save()
    hass.set_state(CoreState.running)


# What the way out has to remember


async def test_control_store(hass: HomeAssistant, path: Path) -> None:
    """What was saved comes back; what is not on the disk was not saved."""
    store, control = CheckedStore(hass, CONTROL), path.with_name("grokmon.control")
    assert await store.async_load() is None
    await store.async_save(lambda: {"spent": 1})
    assert await CheckedStore(hass, CONTROL).async_load() == {"spent": 1}
    assert _mode(control) == 0o600
    _break(control)
    with pytest.raises(HomeAssistantError) as failed:
        await store.async_save(lambda: {"spent": 2})
    assert failed.value.translation_key == "store_not_written"
    # Home Assistant writes it when everything else has ended; there is nothing to read back before.
    hass.set_state(CoreState.stopping)
    await store.async_save(lambda: {"spent": 3})
    hass.set_state(CoreState.running)
    _repair(control)
    assert await CheckedStore(hass, CONTROL).async_load() == {"spent": 1}


async def test_run_that_went_on_for_too_long_writes_over_nothing(
    tent: RoomDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the end of a run could not wait for does not put back what that run knew."""
    room, write = tent.room, certificates._write

    def call(service: str, **data: Any) -> Coroutine[Any, Any, Any]:
        # Waiting for everything else, too, would be waiting for the thread.
        return room.hass.services.async_call(
            "grokmon", service, data, blocking=True, return_response=True, context=room.admin
        )

    await room.call("sign_certificate", {"device_id": "tent-1"})
    begun, go_on = Event(), Event()

    def slowly(*written: Any) -> None:
        begun.set()
        assert go_on.wait(10)
        write(*written)

    with patch.object(certificates, "_write", slowly), monkeypatch.context() as hurried:
        for bound in ("_LAST_SECONDS", "_LAST_RUN_SECONDS"):
            hurried.setattr(turns, bound, 0.0)
        rotating = room.hass.async_create_task(call("rotate_authority"))
        await room.until(begun.is_set)
        assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert await room.hass.config_entries.async_setup(room.entry.entry_id)
    await call("enroll_device", device_id="tent-2", name="Tent 2", metrics=["temp_c"])
    go_on.set()
    # The list that could not be kept is signed anew by the next run.
    await rotating
    assert set(room.stored()["devices"]) == {"tent-1", "tent-2"}


async def test_cancelled_save_after_the_end(hass: HomeAssistant) -> None:
    """Who is cancelled after the end of a run does not bring back what was removed since."""
    store = CheckedStore(hass, CONTROL)
    await store.async_save(lambda: {"spent": 1})
    lock = lock_of(hass, CONTROL)
    await lock.acquire()
    saving = hass.async_create_task(store.async_save(lambda: {"spent": 2}))
    removing = hass.async_create_task(async_remove_stores(hass))
    store.async_close()
    saving.cancel()
    lock.release()
    with pytest.raises(asyncio.CancelledError):
        await saving
    await removing
    await hass.async_block_till_done()
    assert await CheckedStore(hass, CONTROL).async_load() is None
