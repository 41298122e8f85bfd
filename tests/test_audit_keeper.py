"""The audit keeper: the key, verification, retention and checkpoints, in a room that is set up."""

from collections.abc import Generator
from datetime import UTC
from pathlib import Path
from shutil import copytree, rmtree
from threading import Event
from typing import Any
from unittest.mock import AsyncMock, Mock, patch

from freezegun.api import FrozenDateTimeFactory
from homeassistant.components.repairs import DOMAIN as REPAIRS, repairs_flow_manager
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest

from custom_components.grokmon import anchors, audit_log
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.disk import append_to
from custom_components.grokmon.gateway.audit import CHECKPOINTS, Key, Verdict, checkpoints, main, segments

from .common import Room, RoomDevice

DAY = 86_400.0


@pytest.fixture(autouse=True)
def clock_of_the_disk(clock: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock stand still in the executor, too, where freezegun leaves the real one."""
    monkeypatch.setattr(audit_log, "time", lambda: clock().replace(tzinfo=UTC).timestamp())


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return a file on another mount."""
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere" / "checkpoints"


@pytest.fixture
def options(request: pytest.FixtureRequest, elsewhere: Path) -> dict[str, Any]:
    """Return options with the file on another mount, where a test is marked so."""
    chosen: dict[str, Any] = getattr(request, "param", {})
    return {name: str(elsewhere) if value == "elsewhere" else value for name, value in chosen.items()}


with_file = pytest.mark.parametrize("options", [{"anchor_file": "elsewhere"}], indirect=True)


def _folder(room: Room) -> Path:
    return room.audit_path.parent


def _issue(room: Room, issue_id: str) -> ir.IssueEntry | None:
    return ir.async_get(room.hass).async_get_issue(DOMAIN, issue_id)


def _kept(elsewhere: Path) -> list[int]:
    """Return how many lines each of the checkpoints elsewhere counts."""
    return [each.position.count for each in checkpoints(elsewhere.read_text())] if elsewhere.exists() else []


def _alter(room: Room, old: bytes = b'"started"', new: bytes = b'"sparted"') -> None:
    text = room.audit_path.read_bytes()
    assert old in text
    room.audit_path.write_bytes(text.replace(old, new, 1))


async def _stop(room: Room) -> None:
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    await room.settle()


async def _repair(room: Room) -> tuple[Any, Any]:
    """Open the repair of the key as a person does; return the manager of such flows, and what it says."""
    assert await async_setup_component(room.hass, REPAIRS, {})
    manager: Any = repairs_flow_manager(room.hass)
    return manager, await manager.async_init(DOMAIN, data={"issue_id": "audit_key_unseen"})


async def _options(room: Room, step: str) -> dict[str, Any]:
    """Open a step of the options."""
    menu = await room.hass.config_entries.options.async_init(room.entry.entry_id)
    assert step in menu["menu_options"]
    following = await room.hass.config_entries.options.async_configure(menu["flow_id"], {"next_step_id": step})
    return dict(following)


async def _answer(room: Room, form: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    following = await room.hass.config_entries.options.async_configure(form["flow_id"], answer)
    await room.settle()
    return dict(following)


@pytest.fixture
def broken(room: Room) -> Generator[None]:
    """Let the disk refuse what is written to the trail."""
    with patch.object(room.hub.audit._file, "append", Mock(side_effect=OSError(28, "No space left on device"))):
        yield


# The key


async def test_first_start_asks_to_keep_the_key(room: Room) -> None:
    """Ask for the key to be kept elsewhere until somebody saw it, over starts too."""
    issue = _issue(room, "audit_key_unseen")
    assert issue is not None
    assert (issue.severity, issue.is_fixable, issue.is_persistent) == (ir.IssueSeverity.WARNING, True, True)
    assert (issue.translation_key, issue.data) == ("audit_key_unseen", {"issue": "audit_key_unseen"})
    await room.reload()
    assert _issue(room, "audit_key_unseen") is not None


async def test_key_is_shown_once(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    """Show a key that verifies what is written from then on, and that is nowhere else."""
    manager, form = await _repair(room)
    assert (form["type"], form["step_id"]) == ("form", "key")
    text = form["description_placeholders"]["key"]
    key = Key.from_text(text)
    assert key.to_text() == text
    assert key.start == room.hub.audit.entries + 1
    (qr,) = form["data_schema"].schema.values()
    assert qr.config["data"] == text
    assert form["description_placeholders"]["public_key"].endswith("=")
    # Whoever closes the dialog without an answer is asked again.
    assert _issue(room, "audit_key_unseen") is not None
    done = await manager.async_configure(form["flow_id"], {})
    assert done["type"] == "create_entry"
    assert text not in str(done)
    (changed,) = await room.audit("audit_key_changed")
    assert (changed["caller"], changed["identity"]) == ("person", "administrator")
    await room.enrol()
    await room.reload()
    assert _issue(room, "audit_key_unseen") is None
    await _stop(room)
    lines = len(room.audit_on_disk())
    code = main(["verify", str(_folder(room)), "--key", text])
    told = capsys.readouterr().out
    assert told.startswith(f"good: {lines} lines, {lines - key.start + 1} MACs checked\n")
    # What was written before the key was seen is vouched for by the first line after it.
    assert code == 0
    for file in _folder(room).iterdir():
        assert key.secret.hex() not in file.read_text()
        assert text not in file.read_text()


async def test_key_finds_what_was_rewritten(room: Room) -> None:
    """Find with the key what was changed in a line that was written under it."""
    _, form = await _repair(room)
    await room.enrol("tent-1")
    await _stop(room)
    _alter(room, b'"enrolled"', b'"enrolls_"')
    assert main(["verify", str(_folder(room)), "--key", form["description_placeholders"]["key"]]) == 1


async def test_lost_key_is_asked_for_again(room: Room) -> None:
    """Ask again when a new key had to be made, since what was kept is good no longer."""
    _, form = await _repair(room)
    assert form["step_id"] == "key"
    await _stop(room)
    (_folder(room) / "next.key").unlink()
    assert await room.set_up()
    assert _issue(room, "audit_key_unseen") is not None
    assert [entry["reason"] for entry in await room.audit("audit_finding")] == ["key_lost"]


async def test_key_needs_a_running_hub(room: Room) -> None:
    """Leave the issue while nobody could change the key."""
    await _stop(room)
    _, form = await _repair(room)
    assert (form["type"], form["reason"]) == ("abort", "not_loaded")
    assert _issue(room, "audit_key_unseen") is not None


@pytest.mark.usefixtures("broken")
async def test_key_that_cannot_be_written(room: Room) -> None:
    """Show no key that the trail does not go on with."""
    _, form = await _repair(room)
    assert (form["type"], form["reason"]) == ("abort", "not_written")
    assert _issue(room, "audit_key_unseen") is not None
    form = await _answer(room, await _options(room, "audit_key"), {})
    assert (form["type"], form["reason"]) == ("abort", "not_written")


async def test_new_key_in_the_options(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    """Show another key on request; both together verify all lines from the first of them on."""
    _, repair = await _repair(room)
    first = repair["description_placeholders"]["key"]
    await room.enrol("tent-1")
    form = await _options(room, "audit_key")
    assert (form["type"], form["step_id"]) == ("form", "audit_key")
    assert len(await room.audit("audit_key_changed")) == 1
    shown = await _answer(room, form, {})
    assert shown["step_id"] == "key"
    second = shown["description_placeholders"]["key"]
    assert Key.from_text(second).start > Key.from_text(first).start
    assert Key.from_text(second).secret != Key.from_text(first).secret
    options = dict(room.entry.options)
    assert _issue(room, "audit_key_unseen") is not None
    assert (await _answer(room, shown, {}))["type"] == "create_entry"
    assert _issue(room, "audit_key_unseen") is None
    assert dict(room.entry.options) == options
    await room.enrol("tent-2")
    await _stop(room)
    lines = len(room.audit_on_disk())
    main(["verify", str(_folder(room)), "--key", first, "--key", second])
    keyed = lines - Key.from_text(first).start + 1
    assert capsys.readouterr().out.startswith(f"good: {lines} lines, {keyed} MACs checked\n")


async def test_options_need_a_running_hub_for_a_key(room: Room) -> None:
    """Say so where the options are open while the hub stops."""
    form = await _options(room, "audit_key")
    await _stop(room)
    done = await _answer(room, form, {})
    assert (done["type"], done["reason"]) == ("abort", "not_loaded")


# The options


@pytest.mark.parametrize("options", [{"stale_after": 600, "anchor_ca_file": "/ssl/ca.crt"}], indirect=True)
async def test_options_of_the_trail(room: Room, elsewhere: Path) -> None:
    """Keep the other options, forget what was left empty, and go on with the new places at once."""
    form = await _options(room, "audit")
    suggested = {str(field): (field.description or {}).get("suggested_value") for field in form["data_schema"].schema}
    assert suggested["anchor_ca_file"] == "/ssl/ca.crt"
    answer = {"audit_retention_days": 90.0, "anchor_file": str(elsewhere), "anchor_notification": False}
    assert (await _answer(room, form, answer))["type"] == "create_entry"
    assert dict(room.entry.options) == {
        "stale_after": 600,
        "audit_retention_days": 90,
        "anchor_file": str(elsewhere),
        "anchor_notification": False,
    }
    assert room.hub.keeper.anchored_at == {}
    await room.hub.audit.async_flush(checkpoint=True)
    await room.settle()
    assert _kept(elsewhere) == [room.hub.audit.entries]
    assert room.hub.keeper.anchored_at == {"file": room.now}


@with_file
async def test_last_checkpoint_that_cannot_be_kept(room: Room, elsewhere: Path) -> None:
    """That it failed is the last line of this run, and not one more of a trail that another run has taken up."""
    await room.let_pass(5)
    await room.hass.async_add_executor_job(rmtree, elsewhere.parent)
    await room.reload()
    await room.let_pass(2)
    assert [each["event"] for each in await room.audit("stopped", "anchor_failed", "started")] == [
        *("started", "stopped", "anchor_failed", "started"),
    ]
    assert (await room.hub.keeper.async_verify()).result is Verdict.GOOD


async def test_options_that_cannot_be_used(room: Room, elsewhere: Path) -> None:
    """Ask again, with what was answered, until all of it can be used."""
    answer: dict[str, Any] = {"anchor_url": "http://a", "anchor_syslog": "a b", "anchor_file": "here"}
    form = await _answer(room, await _options(room, "audit"), answer | {"anchor_ca_file": "ca.crt"})
    assert form["step_id"] == "audit"
    assert form["errors"] == {
        "anchor_url": "invalid_url",
        "anchor_syslog": "invalid_host",
        "anchor_file": "invalid_path",
        "anchor_ca_file": "invalid_path",
    }
    suggested = {str(field): (field.description or {}).get("suggested_value") for field in form["data_schema"].schema}
    assert suggested["anchor_syslog"] == "a b"
    assert "anchor_file" not in room.entry.options
    done = await _answer(room, form, {"anchor_file": str(elsewhere)})
    assert done["type"] == "create_entry"
    assert room.entry.options["audit_retention_days"] == 365


# Verification


async def test_trail_is_verified_after_a_start_and_daily(room: Room) -> None:
    """Verify a minute after a start, and then every day, and record that nothing was wrong."""
    await room.let_pass(59)
    assert await room.audit("verified") == []
    assert room.hub.keeper.state()["last_result"] is None
    await room.let_pass(1)
    (verified,) = await room.audit("verified")
    assert (verified["reason"], "identity" in verified) == ("good", False)
    at = room.now
    assert room.hub.keeper.verified_at == at
    state = room.hub.keeper.state()
    assert (state["healthy"], state["last_checkpoint"]) == (True, room.hub.audit.checkpoint)
    assert (state["last_verification"], state["last_result"]) == ("2026-11-23T12:01:00+00:00", "good")
    await room.let_pass(DAY - 61)
    assert len(await room.audit("verified")) == 1
    await room.let_pass(1)
    assert len(await room.audit("verified")) == 2
    await room.let_pass(DAY)
    assert len(await room.audit("verified")) == 3


async def test_nothing_is_verified_after_the_end(room: Room) -> None:
    """End the timers with the hub."""
    keeper = room.hub.keeper
    await _stop(room)
    await room.let_pass(DAY)
    assert keeper.verified_at is None


async def test_altered_trail_is_an_issue_until_it_is_good(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """Tell of an altered line daily, and take it back once the trail is as it was written."""
    await room.let_pass(60)
    await room.hub.audit.async_flush()
    _alter(room)
    await room.let_pass(DAY)
    issue = _issue(room, "audit_finding")
    assert issue is not None
    assert (issue.severity, issue.is_fixable) == (ir.IssueSeverity.ERROR, False)
    placeholders = issue.translation_placeholders
    assert placeholders is not None
    assert placeholders.keys() == {"line", "reason", "count"}
    # The first line was altered, and the second is the first that does not follow.
    assert placeholders["line"] == "2"
    assert "The audit trail is not what was written, from line 2 on" in caplog.text
    found = (await room.audit("verified"))[-1]
    assert (found["reason"], found["line"]) == ("altered", 2)
    assert room.hub.keeper.state()["last_result"] == "altered"
    _alter(room, b'"sparted"', b'"started"')
    await room.let_pass(DAY)
    assert _issue(room, "audit_finding") is None
    assert room.hub.keeper.state()["last_result"] == "good"


async def test_trail_that_cannot_be_read(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """Go on a day later where the trail could not be read."""
    with patch.object(room.hub.audit, "async_verify", AsyncMock(side_effect=OSError(5, "Input/output error"))):
        await room.let_pass(60)
    assert "The audit trail could not be verified" in caplog.text
    assert room.hub.keeper.verified_at is None
    await room.let_pass(DAY)
    assert room.hub.keeper.state()["last_result"] == "good"


# Retention


@pytest.mark.parametrize("options", [{"audit_retention_days": 40}], indirect=True)
async def test_old_segment_is_deleted_after_a_record(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    """Record which lines go, delete them, and verify what is left, with a key from before too."""
    _, form = await _repair(room)
    key = form["description_placeholders"]["key"]
    await room.let_pass(31 * DAY)
    await room.let_pass(1)
    first, second = segments(_folder(room))
    assert first == room.audit_path
    through = int(second.name[6:18]) - 1
    await room.let_pass(39 * DAY)
    assert first.exists()
    await room.let_pass(2 * DAY)
    assert not first.exists()
    (deleted,) = (await room.call("get_audit_log", {"action": "audit_segment_deleted"}))["records"]
    assert (deleted["details"]["first"], deleted["details"]["through"]) == (1, through)
    assert deleted["n"] > through
    response = await room.call("verify_audit")
    assert (response["ok"], response["result"]) == (True, "good")
    assert _issue(room, "audit_finding") is None
    await _stop(room)
    assert main(["verify", str(_folder(room)), "--key", key]) == 0
    assert "good" in capsys.readouterr().out
    second.unlink()
    assert main(["verify", str(_folder(room)), "--key", key]) == 2


@pytest.mark.parametrize("options", [{"audit_retention_days": 40}], indirect=True)
async def test_nothing_is_deleted_that_could_not_be_recorded(room: Room) -> None:
    """Keep a segment whose deletion the trail does not tell of."""
    await room.let_pass(31 * DAY)
    with patch.object(room.hub.audit._file, "append", Mock(side_effect=OSError(28, "No space left on device"))):
        await room.let_pass(60 * DAY)
        assert room.audit_path.exists()


# Checkpoints elsewhere


@with_file
async def test_checkpoints_reach_a_file(room: Room, elsewhere: Path) -> None:
    """Put the checkpoints elsewhere that lie beside the trail, and verify by them."""
    await room.enrol()
    assert _kept(elsewhere) == []
    await room.let_pass(3600)
    # One for the hour, and another one if the verification after the start was told of between two looks.
    first = _kept(elsewhere)
    assert len(first) in {1, 2}
    await room.let_pass(3600)
    await room.enrol("tent-2")
    second = _kept(elsewhere)
    assert len(second) > len(first)
    await _stop(room)
    await room.settle()
    assert _kept(elsewhere) == _kept(_folder(room) / CHECKPOINTS)
    assert len(_kept(elsewhere)) > len(second)
    assert _kept(elsewhere)[-1] == len(room.audit_on_disk())
    assert main(["verify", str(_folder(room)), "--anchors", str(elsewhere)]) == 0
    room.audit_path.write_bytes(b"".join(room.audit_path.read_bytes().splitlines(keepends=True)[:-1]))
    (_folder(room) / CHECKPOINTS).unlink()
    assert main(["verify", str(_folder(room)), "--anchors", str(elsewhere)]) == 2


async def _put_back(tent: RoomDevice, elsewhere: Path, more: int, after: int) -> None:
    """Put the trail back to an older copy, with its key; `more` devices are enrolled before that, `after` then."""
    room = tent.room
    copy = elsewhere.with_name("copy")
    await _stop(room)
    copytree(_folder(room), copy)
    assert await room.set_up()
    for number in range(more):
        await room.enrol(f"more-{number}")
    await _stop(room)
    await room.settle()
    rmtree(_folder(room))
    copytree(copy, _folder(room))
    assert await room.set_up()
    for number in range(after):
        await room.enrol(f"after-{number}")


@with_file
@pytest.mark.parametrize(("more", "after", "result"), [(20, 0, "cut"), (1, 20, "altered")])
async def test_trail_that_was_put_back_is_found(
    tent: RoomDevice, elsewhere: Path, more: int, after: int, result: str
) -> None:
    """Find by the file elsewhere, within a minute after the start, that the trail is an older copy."""
    room = tent.room
    await _put_back(tent, elsewhere, more, after)
    assert await room.audit("audit_finding") == []
    assert _issue(room, "audit_finding") is None
    await room.let_pass(60)
    assert _issue(room, "audit_finding") is not None
    assert room.hub.keeper.state()["last_result"] == result
    assert [entry["reason"] for entry in await room.audit("verified")] == [result]
    await room.let_pass(10)
    assert room.state("hub/audit").state == "altered"


@with_file
async def test_trail_that_was_put_back_and_grew_as_long_is_found(tent: RoomDevice, elsewhere: Path) -> None:
    """Find an older copy that is as long again as the checkpoint elsewhere says, line for line other ones."""
    room = tent.room
    await _put_back(tent, elsewhere, 8, 0)
    await room.hub.audit.async_flush()
    while room.hub.audit.entries < _kept(elsewhere)[-1]:
        room.hub.audit.record("tick")
        await room.hub.audit.async_flush()
    assert room.hub.audit.entries == _kept(elsewhere)[-1]
    await room.let_pass(60)
    assert room.hub.keeper.state()["last_result"] == "altered"


async def test_trail_that_was_put_back_is_not_found_alone(tent: RoomDevice, elsewhere: Path) -> None:
    """Nothing on this computer tells an older copy from the trail: that is what the file elsewhere is for."""
    await _put_back(tent, elsewhere, 20, 0)
    await tent.room.let_pass(60)
    assert _issue(tent.room, "audit_finding") is None


@with_file
async def test_stop_waits_for_the_last_checkpoint(room: Room, elsewhere: Path) -> None:
    """A stop leaves a checkpoint of all lines elsewhere before it is over."""
    await room.enrol()
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    lines = len(room.audit_on_disk())
    assert _kept(elsewhere)[-1] == lines


@with_file
async def test_mount_that_is_away(room: Room, elsewhere: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Verify without what cannot be read; tell of the mount with the next checkpoint, until it is back."""
    elsewhere.parent.rmdir()
    await room.let_pass(60)
    assert "Checkpoints kept elsewhere could not be read" in caplog.text
    assert room.hub.keeper.state()["last_result"] == "good"
    issue = _issue(room, "anchor_failed_file")
    assert issue is not None
    assert issue.translation_placeholders == {"kind": "file", "reason": "No such file or directory"}
    elsewhere.parent.mkdir()
    await room.enrol()
    await room.let_pass(3600)
    assert _issue(room, "anchor_failed_file") is None
    assert [entry["event"] for entry in await room.audit("anchor_failed", "anchor_restored")] == [
        "anchor_failed",
        "anchor_restored",
    ]


@with_file
async def test_mount_that_hangs(room: Room, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that hangs keeps neither the hub from stopping nor the trail from being verified, and is told of."""
    back, held = Event(), list[Path]()

    def hang(path: Path, data: bytes) -> None:
        held.append(path)
        assert back.wait(10)
        append_to(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(anchors, "append_to", hang)
        patched.setattr(anchors, "TIMEOUT_S", 0)
        await room.reload()
        await room.reload()
        assert held == [elsewhere]
        issue = _issue(room, "anchor_failed_file")
        assert issue is not None
        assert issue.translation_placeholders == {"kind": "file", "reason": "TimeoutError"}
        assert (await room.hub.keeper.async_verify()).result is Verdict.GOOD
    back.set()
    await room.hub.audit.async_flush(checkpoint=True)
    await room.settle()
    assert len(_kept(elsewhere)) == 2
    assert _issue(room, "anchor_failed_file") is None
    assert [each["event"] for each in await room.audit("stopped", "anchor_failed", "started")] == [
        *("started", "stopped", "anchor_failed"),
        *("started", "stopped", "anchor_failed"),
        "started",
    ]
