"""What was accepted and what was rejected, staged, and the services that give it to administrators."""

import asyncio
from datetime import timedelta
from hashlib import sha256
import json
from math import inf
import os
from pathlib import Path
from threading import Event
from typing import Any

from homeassistant.auth.models import User
from homeassistant.core import Context
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
from homeassistant.helpers.translation import async_get_translations
import probatio
import pytest

from custom_components.grokmon import staging
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.envelope import MAX_MESSAGE_BYTES
from custom_components.grokmon.gateway.models import Reading
from custom_components.grokmon.journal_file import JournalFile
from custom_components.grokmon.staging import Staging

from .common import Room, RoomDevice

CALLS: dict[str, dict[str, Any]] = {
    "export_telemetry": {},
    "get_quarantine": {},
    "capture_rejected": {"device_id": "tent-1", "minutes": 10},
    "rotate_kek": {},
}
RESPONDING = {"export_telemetry", "get_quarantine"}
DAY = 86_400.0


async def _call(room: Room, service: str, data: dict[str, Any] | None = None, context: Context | None = None) -> Any:
    """Call a service, as an administrator unless told otherwise; return its response, if it has one."""
    response = await room.hass.services.async_call(
        DOMAIN,
        service,
        CALLS[service] if data is None else data,
        blocking=True,
        return_response=service in RESPONDING,
        context=context or room.admin,
    )
    await room.settle()
    return response


async def _capture(room: Room, minutes: float) -> None:
    await _call(room, "capture_rejected", {"device_id": "tent-1", "minutes": minutes})


async def _quarantine(room: Room, **period: Any) -> list[dict[str, Any]]:
    response = await _call(room, "get_quarantine", period)
    assert response["damaged"] == 0
    rows: list[dict[str, Any]] = response["rows"]
    return rows


async def _telemetry(room: Room, **period: Any) -> list[dict[str, Any]]:
    response = await _call(room, "export_telemetry", period)
    assert response["damaged"] == 0
    rows: list[dict[str, Any]] = response["rows"]
    return rows


def _folder(room: Room) -> Path:
    return Path(room.hass.config.path(DOMAIN, "staging"))


def _files(room: Room) -> dict[str, bytes]:
    """Return the files of the staging area."""
    folder = _folder(room)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.exists() else {}


def _alter(room: Room, name: str) -> None:
    """Alter the last byte of a file."""
    path = _folder(room) / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def _break(room: Room) -> None:
    """Let the disk refuse what is staged; what it holds is kept aside."""
    folder = _folder(room)
    if folder.exists():
        folder.rename(folder.with_suffix(".aside"))
    folder.touch()


def _repair(room: Room) -> None:
    """Let the disk take what is staged again."""
    folder = _folder(room)
    folder.unlink()
    if folder.with_suffix(".aside").exists():
        folder.with_suffix(".aside").rename(folder)


def _healthy(room: Room) -> bool:
    return room.hub.staging.healthy


async def _counts(journal: Staging) -> tuple[int, int]:
    """Return how many readings and how many rejected messages are kept."""
    read = (journal.async_telemetry, journal.async_quarantine)
    accepted, rejected = [(await each(0.0, inf, 50_000, None))[0] for each in read]
    return len(accepted), len(rejected)


def _reading(number: int, room: Room) -> Reading:
    return Reading(
        device_id="tent-1",
        received_at=room.now,
        measured_at=room.now,
        values={"temp_c": number},
        flags=(),
        late=False,
        meta={},
        hello=None,
    )


# Who may call


@pytest.mark.parametrize("service", CALLS)
async def test_automation_may_not(tent: RoomDevice, service: str) -> None:
    """A call without a user, as from an automation or a script, is refused and changes nothing."""
    kek = tent.room.hub.store.kek
    with pytest.raises(Unauthorized):
        await _call(tent.room, service, context=Context())
    await tent.send(b'{"a": 1}')
    assert "content" not in (await _quarantine(tent.room))[0]
    assert tent.room.hub.store.kek == kek
    assert await tent.room.audit("telemetry_exported", "capture", "kek_rotated") == []


@pytest.mark.parametrize("service", CALLS)
async def test_user_who_is_no_administrator_may_not(tent: RoomDevice, hass_read_only_user: User, service: str) -> None:
    """A user of the household neither reads what is staged nor rotates the key."""
    kek = tent.room.hub.store.kek
    with pytest.raises(Unauthorized):
        await _call(tent.room, service, context=Context(user_id=hass_read_only_user.id))
    with pytest.raises(Unauthorized):
        await _call(tent.room, service, context=Context(user_id="0" * 32))
    assert tent.room.hub.store.kek == kek
    assert await tent.room.audit("telemetry_exported", "quarantine_read", "capture", "kek_rotated") == []


@pytest.mark.parametrize("service", CALLS)
async def test_hub_is_not_there(tent: RoomDevice, service: str) -> None:
    """A hub that is not loaded has nothing to give."""
    await tent.room.hass.config_entries.async_unload(tent.room.entry.entry_id)
    with pytest.raises(ServiceValidationError) as refused:
        await _call(tent.room, service)
    assert refused.value.translation_key == "not_loaded"


@pytest.mark.parametrize(
    ("service", "data"),
    [
        ("export_telemetry", {"limit": 0}),
        ("export_telemetry", {"limit": 10_001}),
        ("export_telemetry", {"start": "yesterday"}),
        ("get_quarantine", {"end": 7}),
        ("get_quarantine", {"payload": True}),
        ("capture_rejected", {"minutes": 5}),
        ("capture_rejected", {"device_id": "tent-1"}),
        ("capture_rejected", {"device_id": "tent-1", "minutes": -1}),
        ("capture_rejected", {"device_id": "tent-1", "minutes": 61}),
        ("rotate_kek", {"key": "00"}),
    ],
)
async def test_refuses_what_is_out_of_form(tent: RoomDevice, service: str, data: dict[str, Any]) -> None:
    """The form of a call is checked before anything else."""
    with pytest.raises(probatio.Invalid):
        await _call(tent.room, service, data)


# Accepted


async def test_accepted_readings_come_back(tent: RoomDevice) -> None:
    """Every accepted reading is staged with its values, as they were measured."""
    room = tent.room
    assert await _telemetry(room) == []
    for number in range(3):
        await tent.report({"temp_c": 21.5 + number})
        await room.let_pass(1)
    start = room.now - 3
    assert await _telemetry(room) == [
        {
            "at": start + number,
            "device": "tent-1",
            "measured_at": start + number,
            "values": {"temp_c": 21.5 + number},
            "late": False,
            "flags": [],
        }
        for number in range(3)
    ]
    assert await room.audit("telemetry_exported") == [
        {"event": "telemetry_exported", "caller": "person", "identity": room.admin.user_id, "rows": rows}
        for rows in (0, 3)
    ]
    assert await _quarantine(room) == []


async def test_implausible_and_late_are_told(tent: RoomDevice) -> None:
    """What was strange about a reading is staged with it."""
    room = tent.room
    await tent.report({"temp_c": 79.0}, ts=int(room.now) - 400)
    row = (await _telemetry(room))[0]
    assert (row["late"], row["flags"], row["measured_at"]) == (True, ["temp_c"], room.now - 400)


async def test_period_limit_and_device(tent: RoomDevice) -> None:
    """An administrator asks for a period, a device, and so many rows."""
    room = tent.room
    other = await room.enrol("tent-2")
    begin = room.now
    for number in range(4):
        await (other if number % 2 else tent).report({"temp_c": 20.0 + number})
        await room.let_pass(60)

    async def values(**period: Any) -> list[float]:
        return [row["values"]["temp_c"] for row in await _telemetry(room, **period)]

    def moment(minutes: int) -> str:
        return (room.freezer() - timedelta(minutes=4 - minutes)).isoformat() + "+00:00"

    assert room.now == begin + 240
    assert await values() == [20, 21, 22, 23]
    assert await values(device_id="tent-2") == [21, 23]
    assert await values(device_id="tent-3") == []
    assert await values(start=moment(1)) == [21, 22, 23]
    assert await values(end=moment(2)) == [20, 21]
    assert await values(start=moment(1), end=moment(3), device_id="tent-1") == [22]
    assert await values(limit=3) == [20, 21, 22]
    assert [entry["device"] for entry in await room.audit("telemetry_exported") if "device" in entry] == [
        "tent-2",
        "tent-3",
        "tent-1",
    ]


async def test_staged_is_sealed_on_the_disk(tent: RoomDevice) -> None:
    """Nothing that is staged can be read without the key."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await tent.send(b"nonsense")
    await room.let_pass(10)
    files = _files(room)
    assert list(files) == ["quarantine-2026-11-23.journal", "telemetry-2026-11-23.journal"]
    for data in files.values():
        for plain in (b"tent-1", b"temp_c", b"malformed", b"values", b"reason"):
            assert plain not in data
    assert await room.hub.staging.async_size() == sum(map(len, files.values())) > 0


async def test_staged_survives_a_restart(tent: RoomDevice) -> None:
    """What waits is written when the hub stops, and read after the next start, under the next key as well."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await tent.send(b"nonsense")
    await room.reload()
    await _call(room, "rotate_kek")
    await tent.report({"temp_c": 22.5})
    await room.reload()
    assert [row["values"] for row in await _telemetry(room)] == [{"temp_c": 21.5}, {"temp_c": 22.5}]
    assert [row["reason"] for row in await _quarantine(room)] == ["malformed"]


@pytest.mark.parametrize(("service", "name"), [("export_telemetry", "telemetry"), ("get_quarantine", "quarantine")])
async def test_damage_is_told(tent: RoomDevice, service: str, name: str) -> None:
    """An altered frame is told of; what is not altered is read."""
    room = tent.room
    for _ in range(2):
        await tent.report({"temp_c": 21.5})
        await tent.send(b"nonsense")
        await room.let_pass(10)
    _alter(room, f"{name}-2026-11-23.journal")
    response = await _call(room, service)
    assert (len(response["rows"]), response["damaged"]) == (1, 1)


# Rejected


async def test_rejected_is_kept_without_its_content(tent: RoomDevice) -> None:
    """Of a rejected message it is known who, when, why and how long, and not what it said."""
    room = tent.room
    payload = b'{"temp_c": 21, "note": "hello"}'
    await tent.send(payload)
    assert await _quarantine(room) == [
        {
            "at": room.now,
            "device": "tent-1",
            "reason": "malformed",
            "bytes": len(payload),
            "sha256": sha256(payload).hexdigest(),
        }
    ]
    assert await room.audit("quarantine_read") == [
        {"event": "quarantine_read", "caller": "person", "identity": room.admin.user_id, "rows": 1}
    ]


async def test_unknown_sender_is_not_named(tent: RoomDevice) -> None:
    """What somebody claims to be does not get into the journal, and is never captured."""
    room = tent.room
    await _capture(room, 10)
    await room.receive("grokmon/v1/tent-9/up/telemetry", b'{"a": 1}')
    rows = await _quarantine(room, device_id="unknown")
    assert [(row["device"], "content" in row) for row in rows] == [("unknown", False)]
    assert await _quarantine(room, device_id="tent-9") == []


async def test_content_is_captured_redacted(tent: RoomDevice) -> None:
    """While it is switched on, content is kept, without its signature and what may be secret."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await _capture(room, 10)
    signed = tent.sign_reading({"temp_c": 22.5}, note="hello", password="hunter2")
    altered = signed[:-4] + b"AAAA"
    await tent.send(altered)
    await tent.send(b'{"temp_c": 21, "token": "hunter2"}')
    await tent.send(b"\x00\x01")
    first, second, third = (row["content"] for row in await _quarantine(room))
    assert (first["claims"]["metrics"], first["claims"]["note"]) == ({"temp_c": 22.5}, "hello")
    assert second == {"json": {"temp_c": 21, "token": "removed"}}
    assert third == {"json": "removed"}
    told = json.dumps([first, second, third])
    assert "hunter2" not in told
    assert altered.rpartition(b".")[2].decode() not in told
    assert [(entry["device"], entry["minutes"], entry["identity"]) for entry in await room.audit("capture")] == [
        ("tent-1", 10, room.admin.user_id)
    ]


async def test_capture_is_for_one_device(tent: RoomDevice) -> None:
    """Capturing for one device captures nothing for another one."""
    room = tent.room
    other = await room.enrol("tent-2")
    await _capture(room, 10)
    for device in (tent, other):
        await device.send(b'{"a": 1}')
    assert [(row["device"], "content" in row) for row in await _quarantine(room)] == [
        ("tent-1", True),
        ("tent-2", False),
    ]


async def test_capture_ends_by_time(tent: RoomDevice) -> None:
    """Capturing ends by itself, to the second."""
    room = tent.room
    await _capture(room, 1)
    for _ in range(3):
        await tent.send(b'{"a": 1}')
        await room.let_pass(30)
    assert ["content" in row for row in await _quarantine(room)] == [True, True, False]


async def test_capture_ends_by_hand_and_with_the_hub(tent: RoomDevice) -> None:
    """Zero minutes end capturing, and so does a restart."""
    room = tent.room
    for by_hand in (True, False):
        await _capture(room, 60)
        await tent.send(b'{"a": 1}')
        await (_capture(room, 0) if by_hand else room.reload())
        await tent.send(b'{"a": 1}')
    assert ["content" in row for row in await _quarantine(room)] == [True, False, True, False]


async def test_capture_ends_with_the_device(tent: RoomDevice) -> None:
    """What is enrolled later under the same identifier is another device."""
    room = tent.room
    await _capture(room, 60)
    await room.remove()
    again = await room.enrol()
    await again.send(b'{"a": 1}')
    assert ["content" in row for row in await _quarantine(room)] == [False]


async def test_capture_for_an_unknown_device(tent: RoomDevice) -> None:
    """A device must be enrolled, and the refusal says which one is not."""
    room = tent.room
    with pytest.raises(ServiceValidationError) as refused:
        await _call(room, "capture_rejected", {"device_id": "tent-9", "minutes": 5})
    error = refused.value
    assert (error.translation_key, error.translation_placeholders) == ("unknown_device", {"detail": "tent-9"})
    texts = await async_get_translations(room.hass, "en", "exceptions", [DOMAIN])
    assert "tent-9" in texts[f"component.{DOMAIN}.exceptions.unknown_device.message"].format(detail="tent-9")
    assert await room.audit("capture") == []


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a": 123456789012345678901234567890}',
        b'{"a": "\\ud800"}',
        b'{"a": NaN}',
        b"[" * 10_000,
        b'{"a": "' + b"x" * 10_000 + b'"}',
        b"1" * 10_000,
    ],
    ids=["long integer", "half a character", "no number", "deep", "long", "many digits"],
)
async def test_captured_content_does_not_stop_the_journal(tent: RoomDevice, payload: bytes) -> None:
    """Nothing that a device sends keeps what others sent, or what is rejected later, from the disk."""
    room = tent.room
    await _capture(room, 10)
    await tent.send(b"first")
    await tent.send(payload)
    await room.hub.staging.async_flush()
    await tent.send(b"last")
    assert [row["bytes"] for row in await _quarantine(room)] == [5, len(payload), 4]
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert room.audit_on_disk()[-1]["event"] == "stopped"


@pytest.mark.parametrize(("spaces", "kept"), [(0, True), (1, False)])
async def test_content_that_is_too_long_is_not_captured(
    tent: RoomDevice, monkeypatch: pytest.MonkeyPatch, spaces: int, *, kept: bool
) -> None:
    """What anybody can send without a key, of any length, is not even looked through."""
    seen: list[int] = []
    monkeypatch.setattr(staging, "redacted", lambda payload: seen.append(len(payload)))
    await _capture(tent.room, 10)
    payload = b'{"a": 1}'.ljust(MAX_MESSAGE_BYTES + spaces)
    await tent.send(payload)
    (row,) = await _quarantine(tent.room)
    assert (row["bytes"], "content" in row, seen) == (len(payload), kept, [len(payload)] * kept)


# Bounds


async def test_flood_is_bounded_in_memory(tent: RoomDevice) -> None:
    """Between two writes only so much is kept; the rest is counted."""
    room = tent.room
    journal = room.hub.staging
    for number in range(1_200):
        journal.async_rejected("tent-1", "malformed", b"%d" % number, room.now)
    for number in range(20_300):
        journal.async_accepted(_reading(number, room))
    assert journal.left_out == 500
    assert await _counts(journal) == (20_000, 1_000)
    journal.async_rejected("tent-1", "malformed", b"after", room.now)
    journal.async_accepted(_reading(0, room))
    assert await _counts(journal) == (20_001, 1_001)
    assert journal.left_out == 500


async def test_flood_is_bounded_while_the_disk_fails_slowly(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while a write fails counts with what could not be written: the oldest stay, the rest is counted."""
    monkeypatch.setattr(staging, "_MAX_READINGS", 100)
    monkeypatch.setattr(staging, "_MAX_REJECTED", 10)
    journal = room.hub.staging

    def come(number: int) -> None:
        for _ in range(80):
            journal.async_accepted(_reading(number, room))
        for _ in range(8):
            journal.async_rejected(None, f"{number}", b"", room.now)

    def fail(_journal: JournalFile, _rows: Any, _now: float) -> None:
        room.hass.loop.call_soon_threadsafe(come, 1)
        raise OSError

    come(0)
    with monkeypatch.context() as patch:
        patch.setattr(JournalFile, "append", fail)
        for _ in range(3):
            await journal.async_flush()
            await room.settle()
    telemetry, quarantine = await journal.async_telemetry(0.0, inf, 1000, None), await _quarantine(room)
    values = [row["values"]["temp_c"] for row in telemetry[0]]
    assert values == [0] * 80 + [1] * 20
    assert [row["reason"] for row in quarantine] == ["0"] * 8 + ["1"] * 2
    assert journal.left_out == 7 * 80 + 7 * 8 - len(values) - len(quarantine)


async def test_flood_is_bounded_on_the_disk(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood that goes on for hours does not fill the disk, within one day."""
    monkeypatch.setattr(staging, "_QUARANTINE_BYTES", 20_000)
    await room.reload()
    for _ in range(40):
        for _ in range(50):
            room.hub.staging.async_rejected(None, "malformed", os.urandom(8), room.now)
        await room.let_pass(10)
        assert await room.hub.staging.async_size() < 50_000


async def test_old_days_are_deleted(tent: RoomDevice) -> None:
    """What is older than seven days is deleted, and the trail tells so."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await tent.send(b"nonsense")
    await room.let_pass(10)
    names = list(_files(room))
    await room.let_pass(7 * DAY)
    assert list(_files(room)) == names
    assert await room.audit("staging_purged") == []
    await tent.send(b"nonsense")
    await room.let_pass(10)
    await room.let_pass(DAY)
    assert list(_files(room)) == ["quarantine-2026-11-30.journal"]
    purged = await room.audit("staging_purged")
    assert sorted(entry["file"] for entry in purged) == names
    await room.let_pass(10)
    assert await room.audit("staging_purged") == purged


# A disk that fails


async def test_disk_fails(tent: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written waits, is told of once, and is written when the disk is there again."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await room.let_pass(10)
    _break(room)
    await tent.report({"temp_c": 22.5})
    await tent.send(b"nonsense")
    for _ in range(2):
        await room.let_pass(10)
    assert not _healthy(room)
    assert caplog.text.count("What was accepted and rejected cannot be staged") == 1
    await tent.report({"temp_c": 23.5})
    _repair(room)
    await room.let_pass(10)
    assert _healthy(room)
    assert [row["values"]["temp_c"] for row in await _telemetry(room)] == [21.5, 22.5, 23.5]
    assert [row["reason"] for row in await _quarantine(room)] == ["malformed"]


@pytest.mark.parametrize("service", ["export_telemetry", "get_quarantine"])
async def test_disk_cannot_be_read(tent: RoomDevice, service: str) -> None:
    """An administrator is told that the journal cannot be read, instead of being shown an empty one."""
    room = tent.room
    _break(room)
    with pytest.raises(HomeAssistantError) as failed:
        await _call(room, service)
    assert failed.value.translation_key == "staging_not_read"
    assert "staging" in str(failed.value)
    assert await room.audit("telemetry_exported", "quarantine_read") == []


async def test_old_days_cannot_be_deleted(tent: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that does not delete either is told of, and deletes later."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await room.let_pass(10)
    _break(room)
    await room.let_pass(9 * DAY)
    assert caplog.text.count("What is too old could not be deleted") == 2
    _repair(room)
    await room.let_pass(10)
    await room.let_pass(DAY)
    assert list(_files(room)) == []


@pytest.mark.parametrize("stopping", [False, True])
async def test_caller_is_cancelled(tent: RoomDevice, monkeypatch: pytest.MonkeyPatch, *, stopping: bool) -> None:
    """A thread goes on when its caller is cancelled: nothing is lost, and no frame gets the place of another one."""
    room = tent.room
    reached, opened, real = Event(), Event(), JournalFile.append

    def slowly(journal: JournalFile, rows: Any, now: float) -> None:
        reached.set()
        assert opened.wait(10)
        real(journal, rows, now)

    monkeypatch.setattr(JournalFile, "append", slowly)
    await tent.report({"temp_c": 21.5})
    await tent.send(b"nonsense")
    caller = room.hass.async_create_background_task(room.hub.staging.async_flush(), "caller")
    assert await room.hass.async_add_executor_job(reached.wait, 10)
    for task in list(room.hass._background_tasks) if stopping else [caller]:
        task.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    room.hub.staging.async_accepted(_reading(22, room))
    flushing = room.hass.async_create_task(room.hub.staging.async_flush())
    await asyncio.sleep(0)
    opened.set()
    await flushing
    assert [row["values"]["temp_c"] for row in await _telemetry(room)] == [21.5, 22]
    assert [row["reason"] for row in await _quarantine(room)] == ["malformed"]


# The key


async def test_rotates_the_key(tent: RoomDevice) -> None:
    """A new key seals everything, is in the trail without being told, and devices notice nothing."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    before = room.hub.store.kek.key
    await _call(room, "rotate_kek")
    after = room.hub.store.kek.key
    assert after != before
    assert await room.audit("kek_rotated") == [
        {"event": "kek_rotated", "caller": "person", "identity": room.admin.user_id}
    ]
    for key in (before, after):
        assert key.hex() not in json.dumps(room.audit_on_disk())
    await room.reload()
    await tent.report({"temp_c": 22.5})
    assert room.state("tent-1/temp_c").state == "22.5"
