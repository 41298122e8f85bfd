"""Backups: what is on the disk while one is made, and a start from one."""

from datetime import UTC, datetime
import json
from pathlib import Path
from shutil import copytree, rmtree
from time import monotonic
from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.util import dt as dt_util
import pytest

from custom_components.grokmon.backup import async_post_backup, async_pre_backup
from custom_components.grokmon.backup_mark import _LAST, async_begin, async_end, async_is_running
from custom_components.grokmon.const import DOMAIN

from .common import START, Room, RoomDevice


def _issue(room: Room) -> ir.IssueEntry | None:
    return ir.async_get(room.hass).async_get_issue(DOMAIN, "restored")


def _folders(room: Room) -> list[tuple[Path, Path]]:
    """Return the folders of a backup, and where the backup keeps them."""
    backup = Path(room.hass.config.path("backup"))
    return [(room.storage, backup / "storage"), (Path(room.hass.config.path(DOMAIN)), backup / "grokmon")]


def _copy(room: Room) -> None:
    """Make a backup of the disk as it is."""
    for folder, kept in _folders(room):
        copytree(folder, kept)


def _restore(room: Room) -> None:
    """Put the disk back as it was when the backup was made."""
    for folder, kept in _folders(room):
        rmtree(folder)
        copytree(kept, folder)
    _start_anew(room)


def _start_anew(room: Room) -> None:
    """Let Home Assistant be another process, which knows nothing of the backups of the one before."""
    room.hass.data.pop(_LAST, None)


def _staged(room: Room) -> list[str]:
    return sorted(path.name for path in Path(room.hass.config.path(DOMAIN, "staging")).iterdir())


def _checkpoints(room: Room) -> str:
    """Return all that lies beside the trail."""
    return "".join(path.read_text() for path in sorted(room.audit_path.parent.glob("*checkpoint*")))


def _last_line(room: Room) -> int:
    line: int = json.loads(room.audit_path.read_text().splitlines()[-1])["n"]
    return line


async def _stop(room: Room) -> None:
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)


async def _back_up(room: Room) -> None:
    """Make a backup as Home Assistant does."""
    await async_pre_backup(room.hass)
    _copy(room)
    await async_post_backup(room.hass)
    await room.settle()


async def test_mark_is_there_while_a_backup_is_made(tent: RoomDevice) -> None:
    """The store is marked from before a backup until after it."""
    room = tent.room
    assert room.stored()["backup_at"] is None
    await async_pre_backup(room.hass)
    assert room.stored()["backup_at"] == room.now
    await async_post_backup(room.hass)
    assert room.stored()["backup_at"] is None
    events = [entry["event"] for entry in await room.audit("backup_begun", "backup_ended", "verified")]
    assert events == ["backup_begun", "backup_ended", "verified"]
    assert room.hub.keeper.verified_at == room.now


async def test_everything_is_on_the_disk_before_a_backup(tent: RoomDevice) -> None:
    """What waits is written, and a checkpoint says up to where the trail of the backup goes."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await tent.send(b"nonsense")
    before = _checkpoints(room)
    await async_pre_backup(room.hass)
    assert _staged(room) == ["quarantine-2026-11-23.journal", "telemetry-2026-11-23.journal"]
    assert room.audit_on_disk()[-1]["event"] == "backup_begun"
    assert _checkpoints(room) != before
    assert room.hub.audit.checkpoint == room.hub.audit.entries == _last_line(room)


async def test_start_after_a_backup_is_no_restore(tent: RoomDevice) -> None:
    """Who made a backup and starts again was not restored."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await _back_up(room)
    await room.reload()
    assert await room.audit("restored") == []
    assert _issue(room) is None
    await tent.send(tent.sign_reading({"temp_c": 22.5}))
    assert room.state("tent-1/temp_c").state == "22.5"


async def test_hub_that_starts_anew_during_a_backup(tent: RoomDevice) -> None:
    """It is no restore, and what the backup copies afterwards is still marked."""
    room = tent.room
    await async_pre_backup(room.hass)
    await room.reload()
    assert room.stored()["backup_at"] == room.now
    await async_post_backup(room.hass)
    assert room.stored()["backup_at"] is None
    assert await room.audit("restored") == []
    assert _issue(room) is None


async def test_hub_that_is_away_when_a_backup_ends(tent: RoomDevice) -> None:
    """The mark that it leaves behind is its own: the next start takes it away, and is no restore."""
    room = tent.room
    await async_pre_backup(room.hass)
    await _stop(room)
    await async_post_backup(room.hass)
    assert await room.set_up()
    assert room.stored()["backup_at"] is None
    assert await room.audit("restored") == []


async def test_restore_is_told(tent: RoomDevice) -> None:
    """Who starts from a backup knows it, tells it once, and asks for the devices to be looked through."""
    room = tent.room
    await _back_up(room)
    await room.let_pass(3600)
    await _stop(room)
    _restore(room)
    assert await room.set_up()
    at = datetime.fromisoformat(START).timestamp()
    assert await room.audit("restored") == [{"event": "restored", "backup_at": round(at)}]
    assert room.stored()["backup_at"] is None
    issue = _issue(room)
    assert issue is not None
    assert (issue.severity, issue.is_fixable, issue.is_persistent) == (ir.IssueSeverity.ERROR, True, True)
    assert issue.data == {"issue": "restored"}
    shown = dt_util.as_local(datetime.fromtimestamp(at, UTC))
    assert issue.translation_placeholders == {"at": f"{shown:%Y-%m-%d %H:%M}"}
    await room.reload()
    assert len(await room.audit("restored")) == 1
    assert _issue(room) is not None


async def test_restore_drops_kept_sessions(tent: RoomDevice) -> None:
    """A message from before a restore does not get in again: its counter is unknown, so its session is, too."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await async_pre_backup(room.hass)
    recorded = tent.sign_reading({"temp_c": 30.0})
    await _stop(room)
    _start_anew(room)
    assert room.stored("sessions")["sessions"].keys() == {"tent-1"}
    assert await room.set_up()
    assert not (room.storage / "grokmon.sessions").exists()
    assert await room.audit("restored") != []
    await tent.send(recorded)
    assert room.hub.refused_by_code("tent-1") == {"session_unknown": 1}
    await tent.hello()
    await tent.report({"temp_c": 22.5})
    assert room.state("tent-1/temp_c").state == "22.5"


async def test_backup_that_cannot_be_marked(tent: RoomDevice) -> None:
    """A backup that nobody could tell from the present is not made, and the next start is no restore."""
    room = tent.room
    room.break_store()
    with pytest.raises(HomeAssistantError) as failed:
        await async_pre_backup(room.hass)
    assert failed.value.translation_key == "store_not_written"
    room.repair_store()
    # A supervisor that was refused does not say that the backup is over; any later change writes the store.
    await room.enrol("tent-2")
    await room.reload()
    assert await room.audit("restored") == []
    assert _issue(room) is None


async def test_disk_fails_while_staged_is_written_before_a_backup(tent: RoomDevice) -> None:
    """What cannot be staged does not keep a backup from being made."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    (Path(room.hass.config.path(DOMAIN)) / "staging").touch()
    await async_pre_backup(room.hass)
    assert room.stored()["backup_at"] == room.now


async def test_trail_that_cannot_be_read_after_a_backup(room: Room) -> None:
    """A backup is not lost for it: it is an issue until the trail can be read."""
    await async_pre_backup(room.hass)
    checkpoints = room.audit_path.parent / "checkpoints"
    kept = checkpoints.read_bytes()
    checkpoints.write_bytes(b"\xff")
    await async_post_backup(room.hass)
    assert ir.async_get(room.hass).async_get_issue(DOMAIN, "audit_unreadable") is not None
    checkpoints.write_bytes(kept)
    await _back_up(room)
    assert ir.async_get(room.hass).async_get_issue(DOMAIN, "audit_unreadable") is None


async def test_hub_is_not_there(hass: HomeAssistant) -> None:
    """Without a hub there is nothing to do."""
    await async_pre_backup(hass)
    await async_post_backup(hass)


async def test_hub_is_unloaded(tent: RoomDevice) -> None:
    """A hub that is unloaded has everything on the disk already."""
    room = tent.room
    await _stop(room)
    before = room.stored()
    await async_pre_backup(room.hass)
    await async_post_backup(room.hass)
    assert room.stored() == before


async def test_line_that_is_written_while_a_backup_copies(tent: RoomDevice) -> None:
    """What is copied one after the other fits all the same: no line is missed after a restore."""
    room = tent.room
    await async_pre_backup(room.hass)
    _copy(room)
    room.hub.audit.record("note")
    await room.hub.audit.async_flush()
    ((_, _), (folder, kept)) = _folders(room)
    (kept / "audit" / "next.key").write_bytes((folder / "audit" / "next.key").read_bytes())
    await async_post_backup(room.hass)
    await _stop(room)
    _restore(room)
    assert await room.set_up()
    assert (await room.hub.keeper.async_verify()).findings == ()
    assert await room.audit("audit_finding") == []


async def test_mark_that_could_not_be_taken_away(tent: RoomDevice) -> None:
    """A disk that a backup filled makes no restore of it: the next write takes the mark away."""
    room = tent.room
    await async_pre_backup(room.hass)
    room.break_store()
    with pytest.raises(HomeAssistantError):
        await async_post_backup(room.hass)
    room.repair_store()
    await room.enrol("tent-2")
    assert room.stored()["backup_at"] is None
    await _stop(room)
    _start_anew(room)
    assert await room.set_up()
    assert await room.audit("restored") == []


def _key(room: Room) -> bytes:
    return (room.audit_path.parent / "next.key").read_bytes()


async def test_backup_whose_end_never_comes(tent: RoomDevice) -> None:
    """The key of the trail waits for hours, not for ever, and so do checkpoints."""
    room = tent.room
    await async_pre_backup(room.hass)
    before = _key(room)
    await room.let_pass(60)
    assert _key(room) == before
    await room.let_pass(6 * 3600)
    room.hub.audit.record("note")
    await room.hub.audit.async_flush(checkpoint=True)
    assert _key(room) != before
    assert room.hub.audit.checkpoint == room.hub.audit.entries


async def test_backup_that_could_not_begin(tent: RoomDevice) -> None:
    """Nobody says that it has ended, and nothing waits for that."""
    room = tent.room
    room.break_store()
    with pytest.raises(HomeAssistantError):
        await async_pre_backup(room.hass)
    room.repair_store()
    before = _key(room)
    room.hub.audit.record("note")
    await room.hub.audit.async_flush()
    assert _key(room) != before


async def test_no_new_key_while_a_backup_copies(tent: RoomDevice) -> None:
    """A backup of the lines of one key and of the next one would look like a trail that was cut."""
    room = tent.room
    await async_pre_backup(room.hass)
    with pytest.raises(OSError, match="backup"):
        await room.hub.audit.async_new_key("user")
    await async_post_backup(room.hass)
    assert await room.hub.audit.async_new_key("user")


async def test_clock_that_is_set_while_a_backup_copies(room: Room) -> None:
    """A backup is being made whatever somebody sets the clock to, for six hours of a clock that nobody sets."""
    async_begin(room.hass, room.now)
    steady = monotonic()
    for later, running in ((0.0, True), (6 * 3600 - 1.0, True), (6 * 3600 + 1.0, False)):
        with patch("custom_components.grokmon.backup_mark.monotonic", return_value=steady + later):
            assert async_is_running(room.hass) is running
    async_end(room.hass)
    assert not async_is_running(room.hass)
