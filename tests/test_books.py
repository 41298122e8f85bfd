"""Tests of when the books are written."""

import asyncio
from collections.abc import Awaitable, Callable
import contextlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

from homeassistant.config_entries import ConfigEntryState
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.storage import Store
import pytest

from custom_components.grokmon.books import Books
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.actuators import Command, Key
from custom_components.grokmon.gateway.control import Controller

from .common import Room, RoomDevice

FAN = Key("node", "exhaust")


@pytest.fixture
async def node(room: Room) -> RoomDevice:
    """Return a device with a fan, and let everything about it be saved."""
    device = await room.enrol("node", actuators=[{"role": "exhaust"}])
    await device.act()
    await room.let_pass(1)
    return device


def saved_wish(room: Room) -> dict[str, Any] | None:
    """Return what the disk has of what is to be on."""
    (output,) = room.stored("control")["control"]["outputs"]
    wish: dict[str, Any] | None = output["wish"]
    return wish


def saves(room: Room, save: Callable[[Callable[[], Any]], Awaitable[None]]) -> Any:
    """Let the books be saved otherwise."""
    return patch.object(room.hub.dispatcher._books._store, "async_save", save)


async def test_what_was_switched_is_on_the_disk_a_second_later(node: RoomDevice) -> None:
    """After a crash, nobody wonders about what had been ended."""
    room = node.room
    await room.act("fan", "turn_on", "node/output_exhaust")
    await room.let_pass(1)
    assert saved_wish(room) is not None
    await room.act("fan", "turn_off", "node/output_exhaust")
    await room.let_pass(1)
    assert saved_wish(room) is None


async def test_what_changes_nothing_is_not_saved(node: RoomDevice) -> None:
    """Switching off what is off writes nothing, however often."""
    room, count = node.room, 0
    real = room.hub.dispatcher._books._store.async_save

    async def counted(make: Callable[[], Any]) -> None:
        nonlocal count
        count += 1
        await real(make)

    who = await room.hub.callers.async_identify(room.admin)
    with saves(room, counted):
        for _ in range(20):
            await room.hub.dispatcher.async_send(Command(key=FAN, on=False), who)
            await room.let_pass(1)
    assert count <= 1


async def test_slow_disk_is_not_asked_again_meanwhile(node: RoomDevice) -> None:
    """Nobody who needs the books waits behind saves that nobody waits for."""
    room, gate, under_way, most = node.room, asyncio.Event(), 0, 0
    real = room.hub.dispatcher._books._store.async_save
    who = await room.hub.callers.async_identify(room.admin)

    async def slow(make: Callable[[], Any]) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await gate.wait()
        under_way -= 1
        await real(make)

    with saves(room, slow):
        for on in (True, False) * 3:
            await room.hub.dispatcher.async_send(Command(key=FAN, percent=50.0 if on else 0.0), who)
            room.tick(15)
            await asyncio.sleep(0)
        gate.set()
        await room.settle()
    assert most == 1
    await room.let_pass(1)
    assert saved_wish(room) is None


async def test_save_that_failed_is_made_up_for(node: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """A minute later it is tried again, and not each second."""
    room, count = node.room, 0
    await room.act("fan", "turn_on", "node/output_exhaust")
    await room.let_pass(1)

    async def fail(_make: Callable[[], Any]) -> None:
        nonlocal count
        count += 1
        raise OSError(28, "No space left on device")

    with saves(room, fail):
        await room.act("fan", "turn_off", "node/output_exhaust")
        for _ in range(30):
            await room.let_pass(1)
    assert count == 1
    assert "could not be saved" in caplog.text
    assert saved_wish(room) is not None
    for _ in range(31):
        await room.let_pass(1)
    assert saved_wish(room) is None


async def _blocked(room: Room) -> None:
    """Block the AI, have the disk know of it, and stop."""
    await room.act("switch", "turn_off", "hub/ai_control")
    await room.settle()
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)


async def _still_blocked(room: Room) -> None:
    assert room.stored("control")["control"]["ai_allowed"] is False
    await room.reload()
    assert room.state("hub/ai_control").state == "off"


async def test_books_that_cannot_be_read_are_not_written_over(node: RoomDevice) -> None:
    """A start that fails before it has read what an earlier one left takes nothing away."""
    room, load = node.room, Store.async_load
    await _blocked(room)

    async def refused(store: Store[Any]) -> Any:
        if store.key == "grokmon.control":
            raise HomeAssistantError("permission denied")
        return await load(store)

    with patch.object(Store, "async_load", refused):
        assert not await room.set_up()
    assert room.entry.state is ConfigEntryState.SETUP_RETRY
    await _still_blocked(room)


async def test_start_that_fails_before_the_books_are_taken_up(node: RoomDevice) -> None:
    """What was read and not understood is not lost, either."""
    room = node.room
    await _blocked(room)
    with patch.object(Controller, "restore", side_effect=KeyError("outputs")):
        assert not await room.set_up()
    await _still_blocked(room)


async def test_stop_while_the_books_are_read(node: RoomDevice) -> None:
    """Home Assistant may stop at any moment of a start."""
    room, load = node.room, Books.async_load
    await _blocked(room)

    async def stopped(books: Books) -> None:
        await room.entry.runtime_data.async_stop()
        await load(books)

    with patch.object(Books, "async_load", stopped):
        await room.set_up()
    await _still_blocked(room)


async def test_who_blocks_the_ai_again_has_it_on_the_disk(node: RoomDevice) -> None:
    """After a disk that failed, nobody is told that it is done while it is not."""
    room = node.room
    await room.hub.dispatcher.async_changed_by_hand()

    async def refused(_make: Callable[[], Any]) -> None:
        raise OSError

    with saves(room, refused), contextlib.suppress(HomeAssistantError, OSError):
        await room.act("switch", "turn_off", "hub/ai_control")
    await room.act("switch", "turn_off", "hub/ai_control")
    assert room.stored("control")["control"]["ai_allowed"] is False


async def test_off_that_is_only_counted_is_on_the_disk(node: RoomDevice) -> None:
    """What changes what is to be done after an interlock is saved, however often it was said."""
    room = node.room
    await room.act("fan", "turn_off", "node/output_exhaust")
    await room.act("fan", "turn_on", "node/output_exhaust")
    node.protocol.by_hand("exhaust", room.now, on=False)
    await node.answer()
    await room.let_pass(1)
    await room.act("fan", "turn_off", "node/output_exhaust")
    await room.let_pass(1)
    (saved,) = room.stored("control")["control"]["outputs"]
    assert saved["kept_off"] is True


def _issue(room: Room) -> ir.IssueEntry | None:
    return ir.async_get(room.hass).async_get_issue(DOMAIN, "books_lost")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize("lose", [Path.unlink, _cut])
async def test_books_that_are_lost(node: RoomDevice, lose: Callable[[Path], None]) -> None:
    """The AI, which may have been blocked, is; it is on record and an issue, which stays over a start."""
    room = node.room
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    lose(room.storage / "grokmon.control")
    assert await room.set_up()
    assert room.state("hub/ai_control").state == "off"
    issue = _issue(room)
    assert issue is not None
    assert (issue.is_fixable, issue.is_persistent, issue.severity) == (True, True, ir.IssueSeverity.WARNING)
    # After a crash, too.
    await room.let_pass(1)
    assert room.stored("control")["control"]["ai_allowed"] is False
    await room.reload()
    assert _issue(room) is not None
    assert room.state("hub/ai_control").state == "off"
    assert len(await room.audit("books_lost")) == 1


async def test_first_start_has_lost_nothing(room: Room) -> None:
    """Its books are on the disk before there is anything to lose, also where it never ends in order."""
    await room.let_pass(1)
    node = await room.enrol("node", actuators=[{"role": "exhaust"}])
    await node.act()
    with patch.object(Books, "async_save_quietly"):
        await room.reload()
    assert (_issue(room), await room.audit("books_lost")) == (None, [])
    assert room.state("hub/ai_control").state == "on"


async def test_clock_that_is_set_before_a_crash(node: RoomDevice) -> None:
    """What it was set by is no time that budgets go by: it is on the disk at the next second."""
    room = node.room
    before = room.steady
    with patch("custom_components.grokmon.clock.time", lambda: room.now + 3 * 86_400):
        await room.let_pass(1)
        with patch.object(Books, "async_save_quietly"):
            await room.reload()
        await room.let_pass(1)
        assert room.steady - before == pytest.approx(2)


async def test_start_saves_nothing(node: RoomDevice) -> None:
    """The disk has it already, with the time by which it goes on."""
    room = node.room
    await room.reload()
    with patch.object(Books, "async_save_quietly") as save:
        await room.let_pass(1)
    assert save.mock_calls == []


async def test_clock_that_starts_in_the_past(node: RoomDevice) -> None:
    """What it is put right by later is no time that budgets go by, whatever was saved meanwhile."""
    room = node.room
    before = room.steady
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    with patch("custom_components.grokmon.clock.time", lambda: room.now - 50 * 365 * 86_400):
        assert await room.set_up()
        room.hub.dispatcher._books.async_changed()
        await room.let_pass(1)
        with patch.object(Books, "async_save_quietly"):
            await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert await room.set_up()
    await room.let_pass(1)
    assert room.steady - before == pytest.approx(2)


async def test_clock_that_starts_in_the_past_is_no_reason_to_save(node: RoomDevice) -> None:
    """What the disk has is right."""
    room = node.room
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    with patch("custom_components.grokmon.clock.time", lambda: room.now - 50 * 365 * 86_400):
        assert await room.set_up()
        with patch.object(Books, "async_save_quietly") as save:
            await room.let_pass(1)
    assert save.mock_calls == []


async def test_stop_goes_on_whatever_cannot_be_told(node: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """A summary that fails keeps neither the books nor the sessions from the disk."""
    room = node.room
    sid, books = node.protocol.sid, room.hub.dispatcher._books
    with (
        patch.object(room.hub.dispatcher.log, "summarise", side_effect=ValueError("no line")),
        patch.object(books, "async_save_quietly", wraps=books.async_save_quietly) as save,
    ):
        assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert save.await_count == 1
    assert room.stored("sessions")["sessions"]["node"]["sid"] == sid
    assert "no line" in caplog.text


async def test_clock_that_was_far_ahead_once(node: RoomDevice) -> None:
    """Time passes over restarts again, a day after it at the latest."""
    room = node.room
    with patch("custom_components.grokmon.clock.time", lambda: room.now + 3650 * 86_400):
        await room.let_pass(1)
    room.hub.dispatcher._books.async_changed()
    await room.let_pass(1)
    before = room.steady
    for _ in range(2):
        assert await room.hass.config_entries.async_unload(room.entry.entry_id)
        await room.let_pass(2 * 86_400)
        assert await room.set_up()
    assert room.steady - before >= 3 * 86_400 - 10
