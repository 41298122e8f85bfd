"""Repairs of the audit trail and of security: an alert that is acknowledged, and a restore that is confirmed."""

from datetime import UTC, datetime
from typing import Any

from homeassistant.components.repairs import DOMAIN as REPAIRS, repairs_flow_manager
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest

from custom_components.grokmon.const import DOMAIN

from .common import Room, RoomDevice


async def _begin(room: Room, issue_id: str) -> tuple[Any, Any]:
    """Open a repair as a person does; return the manager of such flows, and the first form."""
    assert await async_setup_component(room.hass, REPAIRS, {})
    manager: Any = repairs_flow_manager(room.hass)
    return manager, await manager.async_init(DOMAIN, data={"issue_id": issue_id})


def _issue(room: Room, issue_id: str) -> ir.IssueEntry | None:
    return ir.async_get(room.hass).async_get_issue(DOMAIN, issue_id)


async def _alert(tent: RoomDevice) -> None:
    for _ in range(6):
        await tent.send(b"nonsense")
    assert _issue(tent.room, "security_alert_tent-1") is not None


def _restored(room: Room) -> None:
    room.hub.keeper.async_restored(datetime(2026, 11, 20, 8, 30, tzinfo=UTC).timestamp())


async def test_alert_is_acknowledged(tent: RoomDevice) -> None:
    """Acknowledge an alert: the issue goes, the trail says so, and what goes on is an alert again."""
    room = tent.room
    await _alert(tent)
    manager, form = await _begin(room, "security_alert_tent-1")
    assert (form["type"], form["step_id"]) == ("form", "confirm")
    assert _issue(room, "security_alert_tent-1") is not None
    done = await manager.async_configure(form["flow_id"], {})
    assert done["type"] == "create_entry"
    assert _issue(room, "security_alert_tent-1") is None
    (entry,) = await room.audit("alert_acknowledged")
    assert (entry["caller"], entry["identity"], entry["device"]) == ("person", "administrator", "tent-1")
    await _alert(tent)


async def test_alert_without_a_running_hub(tent: RoomDevice) -> None:
    """Acknowledge nothing while nobody could take note of it."""
    room = tent.room
    await _alert(tent)
    manager, form = await _begin(room, "security_alert_tent-1")
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    done = await manager.async_configure(form["flow_id"], {})
    assert (done["type"], done["reason"]) == ("abort", "not_loaded")
    assert _issue(room, "security_alert_tent-1") is not None


async def test_restore_is_confirmed(room: Room) -> None:
    """Confirm that the devices were looked through: the issue goes, and the trail says who did it."""
    _restored(room)
    issue = _issue(room, "restored")
    assert issue is not None
    assert (issue.is_fixable, issue.is_persistent, issue.severity) == (True, True, ir.IssueSeverity.ERROR)
    assert issue.translation_placeholders == {"at": "2026-11-20 00:30"}
    manager, form = await _begin(room, "restored")
    assert (form["type"], form["step_id"]) == ("form", "confirm")
    assert await room.audit("restore_confirmed") == []
    assert (await manager.async_configure(form["flow_id"], {}))["type"] == "create_entry"
    assert _issue(room, "restored") is None
    (entry,) = await room.audit("restore_confirmed")
    assert (entry["caller"], entry["identity"]) == ("person", "administrator")


async def test_loss_of_the_books_is_confirmed(room: Room) -> None:
    """The issue goes, the trail says who did it, and the AI stays as it is."""
    room.hub.alarms.async_restore(room.hub.dispatcher.controller, lost=True)
    manager, form = await _begin(room, "books_lost")
    assert (form["type"], form["step_id"]) == ("form", "confirm")
    assert (await manager.async_configure(form["flow_id"], {}))["type"] == "create_entry"
    assert _issue(room, "books_lost") is None
    (entry,) = await room.audit("books_confirmed")
    assert (entry["caller"], entry["identity"]) == ("person", "administrator")


@pytest.mark.parametrize("issue_id", ["security_alert_tent-1", "restored"])
async def test_nothing_happens_before_it_is_confirmed(tent: RoomDevice, issue_id: str) -> None:
    """Leave the issue where the form was only looked at, over a start too."""
    room = tent.room
    await _alert(tent)
    _restored(room)
    await _begin(room, issue_id)
    await room.reload()
    assert _issue(room, issue_id) is not None
    assert await room.audit("alert_acknowledged", "restore_confirmed") == []
