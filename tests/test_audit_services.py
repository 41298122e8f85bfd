"""The services for the audit trail: reading, exporting and verifying it."""

import csv
import io
import json
from threading import get_ident
from typing import Any
from unittest.mock import AsyncMock, patch

from homeassistant.auth.models import User
from homeassistant.core import Context
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
import probatio
import pytest

from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.audit_export import FORMATS

from .common import Room, RoomDevice

SERVICES = ("verify_audit", "get_audit_log", "export_audit_log")


async def _records(room: Room, **wanted: Any) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = (await room.call("get_audit_log", wanted))["records"]
    return records


async def _actions(room: Room, **wanted: Any) -> list[str]:
    return [record["action"] for record in await _records(room, **wanted)]


@pytest.fixture
async def busy(tent: RoomDevice) -> RoomDevice:
    """Return a device in a room where this and that was decided, an hour apart."""
    room = tent.room
    await room.hass.config.async_set_time_zone("UTC")
    zone = await room.add_zone("Veg tent")
    await room.let_pass(60)
    await room.let_pass(3540)
    await tent.send(b"nonsense")
    await room.let_pass(3600)
    room.hub.audit.record("photoperiod_override", zone=zone.subentry_id, minutes=5, actor="grower")
    await room.call("revoke_device", {"device_id": "tent-1"})
    await room.hub.audit.async_flush()
    return tent


# Who may call


@pytest.mark.parametrize("service", SERVICES)
async def test_only_administrators_may(room: Room, hass_read_only_user: User, service: str) -> None:
    """Refuse automations, users without the right, and users who are no more; and record nothing of it."""
    for context in (Context(), Context(user_id=hass_read_only_user.id), Context(user_id="deleted")):
        with pytest.raises(Unauthorized):
            await room.call(service, context=context)
    assert await room.audit("verified", "audit_exported") == []


@pytest.mark.parametrize("service", SERVICES)
async def test_needs_a_running_hub(room: Room, service: str) -> None:
    """Say so while the hub does not run."""
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    with pytest.raises(ServiceValidationError) as refused:
        await room.call(service)
    assert refused.value.translation_key == "not_loaded"


async def test_export_is_written_in_a_thread(room: Room) -> None:
    """Keep nobody waiting while ten thousand records are put into a form."""
    threads: list[int] = []

    def form(_records: Any) -> str:
        threads.append(get_ident())
        return "text"

    with patch.dict(FORMATS, {"csv": form}):
        assert (await room.call("export_audit_log", {"format": "csv"}))["content"] == "text"
    assert len(threads) == 1
    assert threads != [get_ident()]


# Reading


async def test_records_are_whole_and_in_order(busy: RoomDevice) -> None:
    """Return the records as they are on the disk, the oldest first."""
    records = await _records(busy.room)
    assert records == [json.loads(line) for line in busy.room.audit_path.read_text().splitlines()]
    assert [record["n"] for record in records] == list(range(1, len(records) + 1))


async def test_what_waits_is_found(room: Room) -> None:
    """Find what was decided a moment ago."""
    room.hub.audit.record("just_now")
    assert (await _actions(room))[-1] == "just_now"


async def test_records_of_a_time(busy: RoomDevice) -> None:
    """Find from a moment on and before another; a time without a zone is one of Home Assistant's."""
    room = busy.room
    everything = await _actions(room)
    start, end = "2026-11-23T13:00:00+00:00", "2026-11-23T14:00:00+00:00"
    assert (await _actions(room, start=start, end=end))[0] == "refused"
    early, late = await _actions(room, end=start), await _actions(room, start=end)
    assert early[0] == "started"
    assert "revoked" in late
    assert early + await _actions(room, start=start, end=end) + late == everything
    await room.hass.config.async_set_time_zone("Asia/Tokyo")
    assert await _actions(room, start="2026-11-23 22:00:00", end="2026-11-23 23:00:00") == await _actions(
        room, start=start, end=end
    )
    assert await _actions(room, start="2027-01-01 00:00:00") == []


async def test_records_of_an_object(busy: RoomDevice) -> None:
    """Find what was decided of a device, and of a zone by the name that the user knows."""
    room = busy.room
    assert await _actions(room, device_id="tent-1") == ["enrolled", "refused", "revoked"]
    assert await _actions(room, device_id="tent-9") == []
    assert await _actions(room, zone="veg TENT") == ["zone_added", "photoperiod_override"]
    with pytest.raises(ServiceValidationError) as refused:
        await room.call("get_audit_log", {"zone": "Nowhere"})
    assert refused.value.translation_key == "unknown_zone"


async def test_records_of_a_caller(busy: RoomDevice) -> None:
    """Find what somebody did, and what a class of callers did."""
    room = busy.room
    user_id = room.admin.user_id
    assert await _actions(room, identity=user_id) == ["enrolled", "revoked"]
    assert await _actions(room, identity="grower") == ["photoperiod_override"]
    persons = await _actions(room, caller="person")
    assert persons == ["enrolled", "zone_added", "photoperiod_override", "revoked"]
    assert await _actions(room, caller="ai") == []
    with pytest.raises(probatio.Invalid):
        await room.call("get_audit_log", {"caller": "ghost"})


async def test_records_of_a_kind(busy: RoomDevice) -> None:
    """Find an action, and an outcome, and both only where both hold."""
    room = busy.room
    assert await _actions(room, action="refused") == ["refused"]
    assert await _actions(room, outcome="refused") == ["refused"]
    assert await _actions(room, action="revoked", outcome="refused") == []
    assert await _actions(room, action="revoked", device_id="tent-1", outcome="done") == ["revoked"]
    with pytest.raises(probatio.Invalid):
        await room.call("get_audit_log", {"outcome": "maybe"})


async def test_newest_are_returned(room: Room) -> None:
    """Return the newest records within the limit, 100 unless told otherwise."""
    for number in range(120):
        room.hub.audit.record("tick", number=number)
    records = await _records(room)
    assert [record["details"]["number"] for record in records] == list(range(20, 120))
    assert [record["details"]["number"] for record in await _records(room, limit=2)] == [118, 119]
    assert len(await _records(room, limit=10_000)) > 120
    assert [record["details"]["number"] for record in await _records(room, action="tick", limit=1)] == [119]


@pytest.mark.parametrize("service", ["get_audit_log", "export_audit_log"])
@pytest.mark.parametrize("limit", [0, -1, 10_001, "many"])
async def test_limit_is_bounded(room: Room, service: str, limit: object) -> None:
    """Take limits within reason only."""
    with pytest.raises(probatio.Invalid):
        await room.call(service, {"limit": limit})


async def test_line_that_is_no_record_is_passed_over(room: Room) -> None:
    """Find the others; that a line is broken is for the verification to tell."""
    await room.hub.audit.async_flush()
    before = await _actions(room)
    with room.audit_path.open("ab") as file:
        file.write(b"{}\n\xff\n")
    assert await _actions(room) == before


@pytest.mark.parametrize("service", ["get_audit_log", "export_audit_log"])
async def test_trail_that_cannot_be_read(room: Room, service: str) -> None:
    """Say what is wrong, and do not call it empty."""
    await room.hub.audit.async_flush()
    room.audit_path.rename(room.audit_path.with_suffix(".aside"))
    room.audit_path.mkdir()
    with pytest.raises(HomeAssistantError) as failed:
        await room.call(service)
    assert failed.value.translation_key == "audit_not_read"
    room.audit_path.rmdir()
    room.audit_path.with_suffix(".aside").rename(room.audit_path)
    assert await room.audit("audit_exported") == []


# Exporting


async def _export(room: Room, form: str | None = None, **wanted: Any) -> str:
    """Export records; return the content, and see that it was recorded."""
    before = len(await room.audit("audit_exported"))
    response = await room.call("export_audit_log", wanted | ({} if form is None else {"format": form}))
    recorded = await room.audit("audit_exported")
    assert len(recorded) == before + 1
    assert (recorded[-1]["caller"], recorded[-1]["identity"]) == ("person", room.admin.user_id)
    assert (recorded[-1]["format"], recorded[-1]["records"]) == (form or "jsonl", response["records"])
    assert response.keys() == {"format", "records", "content"}
    assert response["format"] == (form or "jsonl")
    content: str = response["content"]
    return content


async def test_export_as_json_lines(busy: RoomDevice) -> None:
    """Export what reading returns, one record to a line."""
    room = busy.room
    records = await _records(room)
    for form in (None, "jsonl"):
        content = await _export(room, form, end="2026-11-23T14:00:00+00:00")
        exported = [json.loads(line) for line in content.splitlines()]
        assert exported == [record for record in records if record["at"] < "2026-11-23T14"]


async def test_export_as_csv(busy: RoomDevice) -> None:
    """Export a table with a header."""
    rows = list(csv.DictReader(io.StringIO(await _export(busy.room, "csv", device_id="tent-1"))))
    assert [row["action"] for row in rows] == ["enrolled", "refused", "revoked"]
    assert {row["device"] for row in rows} == {"tent-1"}
    assert [row["identity"] for row in rows] == [busy.room.admin.user_id, "", busy.room.admin.user_id]
    assert json.loads(rows[1]["details"])["bytes"] == len(b"nonsense")


async def test_export_for_security_information_systems(busy: RoomDevice) -> None:
    """Export one event in the Common Event Format to a line."""
    lines = (await _export(busy.room, "cef", device_id="tent-1")).splitlines()
    assert [line.split("|")[4] for line in lines] == ["enrolled", "refused", "revoked"]
    assert all(line.startswith("CEF:0|Grok & Mon|grokmon|1|") for line in lines)
    assert "dvchost=tent-1" in lines[0]
    assert f"suser={busy.room.admin.user_id}" in lines[0]
    assert [line.split("|")[6] for line in lines] == ["2", "6", "2"]


async def test_export_of_nothing(room: Room) -> None:
    """Record an export of nothing too."""
    assert await _export(room, "jsonl", device_id="tent-9") == ""
    assert (await _export(room, "csv", device_id="tent-9")).count("\r\n") == 1
    assert await _export(room, "cef", device_id="tent-9") == ""


async def test_export_is_larger_than_a_look(room: Room) -> None:
    """Export up to 10 000 records unless told otherwise."""
    for number in range(150):
        room.hub.audit.record("tick", number=number)
    assert len((await _export(room, action="tick")).splitlines()) == 150
    (line,) = (await _export(room, action="tick", limit=1)).splitlines()
    assert json.loads(line)["details"] == {"number": 149}


async def test_format_that_there_is_not(room: Room) -> None:
    """Refuse other formats."""
    with pytest.raises(probatio.Invalid):
        await room.call("export_audit_log", {"format": "xml"})
    assert await room.audit("audit_exported") == []


# Verifying


async def test_verification_tells_what_it_found(busy: RoomDevice) -> None:
    """Return the result in numbers; with a finding also where and what."""
    room = busy.room
    lines = len(await _records(room))
    assert await room.call("verify_audit") == {
        "ok": True,
        "result": "good",
        "entries": lines,
        "checkpoints_to_line": lines,
    }
    verified = (await room.audit("verified"))[-1]
    assert (verified["identity"], verified["lines"]) == (room.admin.user_id, lines)
    room.audit_path.write_bytes(room.audit_path.read_bytes().replace(b'"revoked"', b'"enabled"', 1))
    response = await room.call("verify_audit")
    assert (response["ok"], response["result"], response["entries"]) == (False, "altered", lines + 1)
    assert response.keys() == {"ok", "result", "entries", "checkpoints_to_line", "line", "reason"}


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("not a checkpoint")])
async def test_verification_that_cannot_be_made(room: Room, error: Exception) -> None:
    """Say why, and call nothing good."""
    with (
        patch.object(room.hub.audit, "async_verify", AsyncMock(side_effect=error)),
        pytest.raises(HomeAssistantError) as failed,
    ):
        await room.call("verify_audit")
    assert failed.value.translation_domain == DOMAIN
    assert failed.value.translation_key == "audit_not_read"
    assert failed.value.translation_placeholders == {"error": str(error)}
