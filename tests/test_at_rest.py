"""The key-encryption key in a running Home Assistant: where it comes from, its rotation, its end."""

import asyncio
import os
from pathlib import Path
import stat
import threading
from typing import Any
from unittest.mock import patch

from homeassistant.config_entries import ConfigEntryState
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import issue_registry as ir
import pytest

from custom_components.grokmon import at_rest
from custom_components.grokmon.at_rest import async_rotate_kek
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.kek import (
    Kek,
    KekAwayError,
    KekError,
    KekRefusedError,
    KekSource,
    forget_previous,
    load_kek,
    replace_generated,
)

from .common import Room, RoomDevice

KEY = bytes(range(100, 132))
OTHER = bytes(range(32))
SAYS = {ConfigEntryState.SETUP_ERROR: "kek_unavailable", ConfigEntryState.SETUP_RETRY: "kek_away"}
VARIABLES = [name for name in os.environ if name.startswith("GROKMON_")]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what the environment of the tests says about keys."""
    for name in VARIABLES:
        monkeypatch.delenv(name)


def _folder(room: Room) -> Path:
    return Path(room.hass.config.path(DOMAIN))


def _names(room: Room) -> set[str]:
    """Return what is in the integration's folder."""
    return {path.name for path in _folder(room).iterdir()}


def _write(room: Room, name: str, text: str) -> None:
    path = _folder(room) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def _key_on_disk(room: Room) -> Kek:
    return load_kek(_folder(room), {})


def _issues(room: Room) -> set[str]:
    return {issue_id for domain, issue_id in ir.async_get(room.hass).issues if domain == DOMAIN}


async def _unload(room: Room) -> None:
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)


async def _rotate(room: Room) -> None:
    await room.hass.services.async_call(DOMAIN, "rotate_kek", {}, blocking=True, context=room.admin)
    await room.settle()


async def _is_heard(device: RoomDevice, value: float) -> bool:
    """Tell whether the hub still knows the key of a device."""
    await device.report({"temp_c": value})
    return device.room.state("tent-1/temp_c").state == str(value)


# Where it comes from


async def test_key_is_generated(room: Room) -> None:
    """Where nobody names a key, there is one all the same."""
    assert _key_on_disk(room) == room.hub.store.kek
    assert room.hub.store.kek.source is KekSource.GENERATED


async def test_key_from_outside(quiet_room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key from outside leaves no key on the disk."""
    monkeypatch.setenv("GROKMON_KEK", KEY.hex())
    assert await quiet_room.set_up()
    assert quiet_room.hub.store.kek == Kek(KEY, KekSource.ENVIRONMENT)
    assert "kek" not in _names(quiet_room)
    assert stat.S_IMODE(_folder(quiet_room).stat().st_mode) == 0o700


async def test_generated_key_gives_way_to_one_from_outside(tent: RoomDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever brings a key of their own gives the generated one as the previous one, once."""
    room = tent.room
    await _unload(room)
    monkeypatch.setenv("GROKMON_KEK", KEY.hex())
    monkeypatch.setenv("GROKMON_KEK_PREVIOUS", _key_on_disk(room).key.hex())
    assert await room.set_up()
    assert await _is_heard(tent, 21.5)
    monkeypatch.delenv("GROKMON_KEK_PREVIOUS")
    await room.reload()
    assert await _is_heard(tent, 22.5)


@pytest.mark.parametrize(
    ("variable", "value", "state"),
    [
        ("GROKMON_KEK", "no key at all", ConfigEntryState.SETUP_ERROR),
        ("GROKMON_KEK", KEY.hex(), ConfigEntryState.SETUP_ERROR),
        ("GROKMON_KEK_FILE", "/nowhere/at/all", ConfigEntryState.SETUP_RETRY),
        ("GROKMON_KEK_PREVIOUS", "no key at all", ConfigEntryState.SETUP_ERROR),
        ("GROKMON_VAULT_ADDR", "http://127.0.0.1:1", ConfigEntryState.SETUP_RETRY),
    ],
)
async def test_without_the_right_key(
    tent: RoomDevice, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, state: ConfigEntryState
) -> None:
    """A hub whose store cannot be opened does not start, says why and not the key, and loses nothing.

    Where the key may come later, such as with a disk or a Vault, the start is tried again by itself.
    """
    room = tent.room
    await _unload(room)
    before = room.stored()
    with monkeypatch.context() as context:
        context.setenv(variable, value)
        assert not await room.set_up()
        assert room.entry_is(state)
        assert room.entry.error_reason_translation_key == SAYS[state]
        assert room.entry.reason is not None
        assert value not in room.entry.reason or value.startswith("/")
    assert room.stored() == before
    await room.reload()
    assert await _is_heard(tent, 21.5)


async def test_generated_key_is_lost(tent: RoomDevice) -> None:
    """A store whose key is gone is not replaced by an empty one."""
    room = tent.room
    await _unload(room)
    before = room.stored()
    kek = _key_on_disk(room)
    (_folder(room) / "kek").unlink()
    assert not await room.set_up()
    assert room.entry_is(ConfigEntryState.SETUP_ERROR)
    assert room.stored() == before
    _write(room, "kek", kek.key.hex())
    await room.reload()
    assert await _is_heard(tent, 21.5)


async def test_folder_cannot_be_made(quiet_room: Room) -> None:
    """A disk that takes no key is an error of the set-up, in words."""
    _folder(quiet_room).touch()
    assert not await quiet_room.set_up()
    assert quiet_room.entry_is(ConfigEntryState.SETUP_RETRY)
    assert quiet_room.entry.error_reason_translation_key == "kek_away"


async def test_vault_gives_nothing(tent: RoomDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody has to see to in Vault is an issue, until the hub starts by itself."""
    room = tent.room
    await _unload(room)

    def refuse(*_arguments: object) -> Kek:
        raise KekRefusedError("Vault: Forbidden")

    with monkeypatch.context() as context:
        context.setattr(at_rest, "load_kek", refuse)
        assert not await room.set_up()
        assert room.entry_is(ConfigEntryState.SETUP_RETRY)
        assert room.entry.error_reason_translation_key == "kek_away"
        issue = ir.async_get(room.hass).async_get_issue(DOMAIN, "kek_refused")
        assert issue is not None
        assert (issue.is_fixable, issue.severity) == (False, ir.IssueSeverity.ERROR)
        assert issue.translation_placeholders == {"error": "Vault: Forbidden"}
    await room.let_pass(100)
    assert room.entry_is(ConfigEntryState.LOADED)
    assert "kek_refused" not in _issues(room)


@pytest.mark.parametrize("then", [KekAwayError("Vault: VaultDown"), KekError("Vault: the secret has no field kek")])
async def test_vault_gives_nothing_for_another_reason(tent: RoomDevice, then: KekError) -> None:
    """The issue tells of what holds now, and of nothing that is over."""
    room = tent.room
    await _unload(room)
    for error, told in ((KekRefusedError("Vault: Forbidden"), True), (then, False)):
        with patch.object(at_rest, "load_kek", side_effect=error):
            assert not await room.set_up()
        assert ("kek_refused" in _issues(room)) is told
        await _unload(room)


# Rotation


async def test_rotation_leaves_one_key(tent: RoomDevice) -> None:
    """After a rotation only the new key is on the disk, and opens the store."""
    room = tent.room
    before = room.hub.store.kek.key
    await _rotate(room)
    assert _key_on_disk(room).key == room.hub.store.kek.key != before
    assert "kek.previous" not in _names(room)
    await room.reload()
    assert await _is_heard(tent, 21.5)


async def test_crash_between_key_and_store(tent: RoomDevice) -> None:
    """A key that was replaced while the store was not sealed with it yet opens it at the next start."""
    room = tent.room
    await _unload(room)
    fresh = replace_generated(_folder(room))
    assert await room.set_up()
    assert await _is_heard(tent, 21.5)
    assert room.hub.store.kek.key == fresh.key
    assert "kek.previous" not in _names(room)
    await room.reload()
    assert await _is_heard(tent, 22.5)


@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_disk_fails_while_it_is_rotated(tent: RoomDevice, attempts: int) -> None:
    """A rotation that fails, and fails again, leaves a key on the disk that opens the store."""
    room = tent.room
    before = room.hub.store.kek
    room.break_store()
    for _ in range(attempts):
        with pytest.raises(HomeAssistantError):
            await _rotate(room)
    assert room.hub.store.kek == before
    assert await room.audit("kek_rotated") == []
    await _unload(room)
    room.repair_store()
    assert await room.set_up()
    assert await _is_heard(tent, 21.5)
    await room.reload()
    assert await _is_heard(tent, 22.5)


async def test_rotation_after_one_that_failed(tent: RoomDevice) -> None:
    """A rotation that works after one that did not leaves one key."""
    room = tent.room
    room.break_store()
    with pytest.raises(HomeAssistantError):
        await _rotate(room)
    room.repair_store()
    await _rotate(room)
    assert _key_on_disk(room) == Kek(room.hub.store.kek.key, KekSource.GENERATED)
    await room.reload()
    assert await _is_heard(tent, 21.5)


async def test_key_cannot_be_written(tent: RoomDevice) -> None:
    """A disk that takes no new key is an error in words, and the old one stays."""
    room = tent.room
    (_folder(room) / "kek.new").mkdir()
    with pytest.raises(HomeAssistantError):
        await _rotate(room)
    await room.reload()
    assert await _is_heard(tent, 21.5)


async def test_two_rotations_at_once(tent: RoomDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two administrators at the same time: the key on the disk is the one that the store is sealed with."""
    room = tent.room
    second_done = threading.Event()
    calls = iter(range(2))

    def replace(*arguments: Any) -> Kek:
        call = next(calls)
        kek = replace_generated(*arguments)
        if call == 0:
            # Where the second one may run meanwhile, it overtakes the first one here.
            second_done.wait(0.5)
        else:
            second_done.set()
        return kek

    monkeypatch.setattr(at_rest, "replace_generated", replace)
    await asyncio.gather(*(async_rotate_kek(room.hass, room.hub.store) for _ in range(2)))
    assert _key_on_disk(room).key == room.hub.store.kek.key
    await room.reload()
    assert await _is_heard(tent, 21.5)


async def test_reload_while_it_is_rotated(tent: RoomDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that starts meanwhile does not forget the one key that opens the store."""
    room = tent.room
    begun, loaded, replaced = (threading.Event() for _ in range(3))

    def replace(folder: Path) -> Kek:
        begun.set()
        # Where the next run may start meanwhile, it reads the key here before it is replaced.
        loaded.wait(0.5)
        kek = replace_generated(folder)
        replaced.set()
        return kek

    def load(*arguments: Any) -> Kek:
        kek = load_kek(*arguments)
        loaded.set()
        return kek

    def forget(folder: Path) -> None:
        assert replaced.wait(10)
        forget_previous(folder)

    monkeypatch.setattr(at_rest, "replace_generated", replace)
    monkeypatch.setattr(at_rest, "load_kek", load)
    monkeypatch.setattr(at_rest, "forget_previous", forget)
    rotating = room.hass.async_create_task(async_rotate_kek(room.hass, room.hub.store))
    await room.until(begun.is_set)
    await room.hass.config_entries.async_reload(room.entry.entry_id)
    # The store of the run that began it may have been closed by then.
    await asyncio.gather(rotating, return_exceptions=True)
    await room.reload()
    assert await _is_heard(tent, 21.5)


@pytest.mark.parametrize("source", ["file", "environment"])
async def test_key_from_elsewhere_is_rotated_there(
    quiet_room: Room, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    """The hub does not replace a key that somebody else keeps, and says where it comes from."""
    if source == "file":
        path = tmp_path / "secret"
        path.write_text(KEY.hex())
        monkeypatch.setenv("GROKMON_KEK_FILE", str(path))
    else:
        monkeypatch.setenv("GROKMON_KEK", KEY.hex())
    assert await quiet_room.set_up()
    before = quiet_room.stored()
    with pytest.raises(ServiceValidationError) as refused:
        await _rotate(quiet_room)
    assert (refused.value.translation_key, refused.value.translation_placeholders) == (
        "kek_elsewhere",
        {"source": source},
    )
    assert quiet_room.stored() == before
    assert quiet_room.hub.store.kek.key == KEY
    assert await quiet_room.audit("kek_rotated") == []


# The end


@pytest.mark.parametrize("left", [False, True], ids=["clean", "after a crash"])
async def test_removal_forgets(tent: RoomDevice, *, left: bool) -> None:
    """With the integration go the key, what is staged and the issues; the audit trail stays."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await room.let_pass(10)
    assert {"audit", "kek", "staging"} <= _names(room)
    if left:
        _write(room, "kek.previous", OTHER.hex())
    assert _issues(room)
    await room.hass.config_entries.async_remove(room.entry.entry_id)
    await room.settle()
    assert _names(room) == {"audit"}
    assert not _issues(room)
    assert not list(room.storage.glob("grokmon.*"))


async def test_removal_where_there_is_nothing(quiet_room: Room) -> None:
    """Removing what was never set up is no error."""
    await quiet_room.hass.config_entries.async_remove(quiet_room.entry.entry_id)
    await quiet_room.settle()
    assert not _folder(quiet_room).exists()
