"""What becomes of refusals and of implausible values: audit entries, events, repair issues."""

from hashlib import sha256
from typing import Any

from homeassistant.core import Event
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped] # has no py.typed
    async_capture_events,
)

from custom_components.grokmon.gateway.aggregation import MAX_WINDOWS
from custom_components.grokmon.gateway.errors import Code, TransportError
from custom_components.grokmon.gateway.models import DeviceStatus

from .common import Room, RoomDevice
from .device_simulator.credentials import generate_root_key
from .device_simulator.protocol import DeviceProtocol
from .device_simulator.signing import derive_keys

REFUSED = ("refused", "refused_again")


def _events(room: Room) -> list[Event[Any]]:
    events: list[Event[Any]] = async_capture_events(room.hass, "grokmon_security_event")
    return events


def _issue(room: Room) -> ir.IssueEntry | None:
    return ir.async_get(room.hass).async_get_issue("grokmon", "security_alert_tent-1")


async def _refuse(tent: RoomDevice, times: int) -> None:
    for _ in range(times):
        await tent.send(b"nonsense")


# Aggregation


async def test_first_refusal_is_told_at_once(tent: RoomDevice) -> None:
    """An entry and an event say who, why and what, without the payload itself."""
    events = _events(tent.room)
    payload = b"header.payload-with-something-private.signature"
    await tent.send(payload)
    assert await tent.room.audit(*REFUSED) == [
        {
            "event": "refused",
            "device": "tent-1",
            "reason": "malformed",
            "detail": "base64url is not canonical",
            "bytes": len(payload),
            "sha256": sha256(payload).hexdigest(),
        }
    ]
    assert [event.data for event in events] == [
        {
            "category": "invalid_input",
            "severity": "warning",
            "code": "malformed",
            "device_id": "tent-1",
            "name": "Tent 1",
            "detail": "base64url is not canonical",
        }
    ]


async def test_flood_is_summed_up_once_a_minute(tent: RoomDevice) -> None:
    """However many messages are refused, there is one entry at first, one per minute, and one at the end."""
    events = _events(tent.room)
    await _refuse(tent, 100)
    assert len(await tent.room.audit(*REFUSED)) == 1
    await tent.room.let_pass(50)
    assert len(await tent.room.audit(*REFUSED)) == 1
    await tent.room.let_pass(10)
    await _refuse(tent, 5)
    assert (await tent.room.audit(*REFUSED))[1:] == [
        {"event": "refused_again", "device": "tent-1", "reason": "malformed", "count": 99}
    ]
    await tent.room.let_pass(60)
    await tent.room.let_pass(60)
    await tent.room.let_pass(60)
    assert [entry.get("count") for entry in await tent.room.audit(*REFUSED)] == [None, 99, 5]
    await _refuse(tent, 1)
    assert [entry["event"] for entry in await tent.room.audit(*REFUSED)][3:] == ["refused"]
    assert [event.data["category"] for event in events] == ["invalid_input", "suspicious_activity", "invalid_input"]


async def test_reasons_and_devices_are_told_apart(tent: RoomDevice) -> None:
    """A flood of one kind does not hide another kind, nor another device."""
    room = tent.room
    other = await room.enrol("tent-2")
    await _refuse(tent, 3)
    await other.send(b"nonsense")
    await tent.send(b"x" * 16_385)
    for stranger in ("nobody", "somebody"):
        await room.receive(f"grokmon/v1/{stranger}/up/telemetry", b"nonsense")
    assert [(entry.get("device"), entry["reason"]) for entry in await room.audit("refused")] == [
        ("tent-1", "malformed"),
        ("tent-2", "malformed"),
        ("tent-1", "oversized"),
        (None, "unknown_device"),
    ]
    await room.let_pass(60)
    assert [(entry.get("device"), entry["reason"], entry["count"]) for entry in await room.audit("refused_again")] == [
        ("tent-1", "malformed", 2),
        (None, "unknown_device", 1),
    ]


async def test_many_devices_at_once_are_summed_up_by_reason(room: Room) -> None:
    """Whoever uses the names of very many devices fills no disk: beyond sixty lines, reasons and a number remain."""
    events = _events(room)
    for number in range(2 * MAX_WINDOWS):
        room.hub.monitor.async_refused(f"tent-{number}", TransportError(Code.OVERSIZED), b"x", room.now)
    *single, shared = await room.audit("refused")
    assert [entry["device"] for entry in single] == [f"tent-{number}" for number in range(MAX_WINDOWS)]
    assert (shared.get("device"), shared["reason"], shared["devices"]) == (None, "oversized", 1)
    assert [event.data.get("device_id") for event in events][MAX_WINDOWS:] == [None]
    await room.let_pass(60)
    assert await room.audit("refused_again") == [
        {"event": "refused_again", "reason": "oversized", "count": MAX_WINDOWS - 1, "devices": MAX_WINDOWS}
    ]


async def test_implausible_values_of_many_devices_are_summed_up_by_metric(room: Room) -> None:
    """A hundred devices with strange values fill no disk: beyond sixty lines, metrics and numbers remain."""
    events = _events(room)
    for number in range(100):
        for _ in range(2):
            room.hub.monitor.async_implausible(f"tent-{number}", ("temp_c", "ph"), room.now)
    told = await room.audit("implausible")
    assert [(entry.get("device"), entry["metric"]) for entry in told] == [
        *((f"tent-{number // 2}", ("temp_c", "ph")[number % 2]) for number in range(MAX_WINDOWS)),
        (None, "temp_c"),
        (None, "ph"),
    ]
    assert [entry.get("devices") for entry in told[MAX_WINDOWS - 1 :]] == [None, 1, 1]
    assert [event.data.get("device_id") for event in events[MAX_WINDOWS:]] == [None, None]
    await room.let_pass(600)
    again = await room.audit("implausible_again")
    assert again[MAX_WINDOWS:] == [
        {"event": "implausible_again", "metric": metric, "count": 139, "devices": 70} for metric in ("temp_c", "ph")
    ]


async def test_implausible_value_that_lasts_is_told_once_an_hour(tent: RoomDevice) -> None:
    """A broken sensor writes one line at once, one after ten minutes, and then one an hour."""
    room = tent.room
    for _ in range(1 + 10 + 3 * 60):
        await tent.report({"temp_c": 50.0})
        await room.let_pass(60)
    assert [entry.get("count") for entry in await room.audit("implausible", "implausible_again")] == [
        *(None, 9, 60, 60, 60)
    ]


async def test_starts_are_summed_up(tent: RoomDevice) -> None:
    """A device that starts again and again has one line, then a number once a minute; what is the same is not saved."""
    await tent.report({"temp_c": 21.5})
    modified = tent.room.device().modified_at
    for _ in range(4):
        tent.room.freezer.tick(5)
        await RoomDevice(tent.room, DeviceProtocol(tent.identity)).report({"temp_c": 21.5})
    assert len(await tent.room.audit("session")) == 1
    await tent.room.let_pass(60)
    assert await tent.room.audit("session_again") == [{"event": "session_again", "device": "tent-1", "count": 4}]
    assert tent.room.device().modified_at == modified


async def test_name_of_a_stranger_is_not_repeated(tent: RoomDevice) -> None:
    """What anybody can choose does not get into the trail, nor into an event."""
    events = _events(tent.room)
    await tent.room.receive("grokmon/v1/buy-seeds-at-example/up/telemetry", b"x")
    assert [event.data for event in events] == [
        {"category": "unauthorized_access", "severity": "warning", "code": "unknown_device"}
    ]
    assert "buy-seeds" not in str(await tent.room.audit())


async def test_ordinary_refusals_are_recorded_but_not_told(tent: RoomDevice) -> None:
    """A message that the transport delivered twice is counted and recorded, and bothers nobody."""
    events = _events(tent.room)
    await tent.hello()
    reading = tent.sign_reading({"temp_c": 21.5})
    for _ in range(30):
        await tent.send(reading)
    assert [entry["reason"] for entry in await tent.room.audit("refused")] == ["duplicate"]
    assert events == []
    assert _issue(tent.room) is None


async def test_implausible_values(tent: RoomDevice) -> None:
    """A value outside its plausible range is told like a refusal: at once, and then as a number."""
    events = _events(tent.room)
    for _ in range(4):
        await tent.report({"temp_c": 50.0, "humidity_percent": 95.0})
    assert [event.data["detail"] for event in events] == ["temp_c", "humidity_percent"]
    assert {event.data["code"] for event in events} == {"metric_implausible"}
    await tent.room.let_pass(590)
    assert await tent.room.audit("implausible_again") == []
    await tent.room.let_pass(10)
    assert await tent.room.audit("implausible", "implausible_again") == [
        {"event": "implausible", "device": "tent-1", "metric": "temp_c"},
        {"event": "implausible", "device": "tent-1", "metric": "humidity_percent"},
        {"event": "implausible_again", "device": "tent-1", "metric": "temp_c", "count": 3},
        {"event": "implausible_again", "device": "tent-1", "metric": "humidity_percent", "count": 3},
    ]
    assert tent.room.hub.gateway.flagged == {("tent-1", "temp_c"): 4, ("tent-1", "humidity_percent"): 4}
    assert _issue(tent.room) is None


async def test_accepted_readings_are_summed_up_once_an_hour(tent: RoomDevice) -> None:
    """The trail says how much was accepted, without an entry for every reading."""
    room = tent.room
    for _ in range(5):
        await tent.report({"temp_c": 21.5})
    await room.let_pass(3590)
    assert await room.audit("accepted") == []
    await room.let_pass(10)
    assert await room.audit("accepted") == [{"event": "accepted", "device": "tent-1", "count": 5}]
    await room.let_pass(3600)
    assert len(await room.audit("accepted")) == 1
    await tent.report({"temp_c": 22.5})
    await room.let_pass(3600)
    assert (await room.audit("accepted"))[1:] == [{"event": "accepted", "device": "tent-1", "count": 1}]


async def test_stop_records_what_was_not_yet_summed_up(tent: RoomDevice) -> None:
    """Nothing that was counted is lost when the hub stops."""
    room = tent.room
    await _refuse(tent, 4)
    await tent.report({"temp_c": 50.0})
    await tent.report({"temp_c": 50.0})
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert [entry for entry in room.audit_on_disk() if "count" in entry] == [
        {"event": "refused_again", "device": "tent-1", "reason": "malformed", "count": 3},
        {"event": "implausible_again", "device": "tent-1", "metric": "temp_c", "count": 1},
        {"event": "accepted", "device": "tent-1", "count": 2},
    ]


# Alerts


async def test_more_than_five_failures_in_a_minute_are_an_alert(tent: RoomDevice) -> None:
    """The sixth refusal is suspicious: an event, an audit entry, and an issue with the name and the reason."""
    events = _events(tent.room)
    await _refuse(tent, 5)
    assert _issue(tent.room) is None
    await tent.hello()
    claims = {**tent.protocol.telemetry_claims(), "metrics": {"ph": 6.0}}
    await tent.send(tent.identity.sign(claims))
    issue = _issue(tent.room)
    assert issue is not None
    assert issue.translation_key == "security_alert"
    section = "https://github.com/grokmon/grokmon#when-it-refuses-something"
    assert issue.translation_placeholders == {"name": "Tent 1", "code": "metric_not_granted", "url": section}
    assert issue.learn_more_url == section
    assert (issue.severity, issue.is_fixable, issue.is_persistent) == (ir.IssueSeverity.ERROR, True, True)
    told = [event.data for event in events if event.data["severity"] == "critical"]
    assert [(data["category"], data["device_id"]) for data in told] == [("suspicious_activity", "tent-1")]
    assert [entry["reason"] for entry in await tent.room.audit("suspicious_activity")] == ["metric_not_granted"]


async def test_refusals_that_are_wanted_are_no_alert(tent: RoomDevice) -> None:
    """A device that an administrator disabled may go on sending without an issue."""
    await tent.room.hub.enrolment.async_set_status("tent-1", DeviceStatus.DISABLED, "administrator")
    await _refuse(tent, 25)
    assert tent.room.hub.refused_by_code("tent-1") == {"device_disabled": 25}
    assert _issue(tent.room) is None


async def test_alert_stays_until_an_administrator_acknowledges_it(tent: RoomDevice) -> None:
    """Quiet does not end an alert, going on does not repeat it; acknowledged, it comes back when it goes on."""
    room = tent.room
    events = _events(room)
    await _refuse(tent, 20)
    await room.let_pass(600)
    assert _issue(room) is not None
    assert [event.data["severity"] for event in events].count("critical") == 1
    room.hub.monitor.async_acknowledge("tent-1", "admin")
    assert _issue(room) is None
    assert [entry["identity"] for entry in await room.audit("alert_acknowledged")] == ["admin"]
    await _refuse(tent, 6)
    assert _issue(room) is not None


async def test_few_refusals_are_forgotten(tent: RoomDevice) -> None:
    """A refusal now and then never adds up to an alert."""
    for _ in range(25):
        await _refuse(tent, 1)
        await tent.room.let_pass(13)
    assert _issue(tent.room) is None


async def test_strangers_make_no_alert(room: Room) -> None:
    """There is nothing to repair about a device that is not enrolled."""
    for _ in range(25):
        await room.receive("grokmon/v1/tent-1/up/telemetry", b"x")
    assert ir.async_get(room.hass).async_get_issue("grokmon", "security_alert_tent-1") is None


async def test_alert_goes_with_the_device(tent: RoomDevice) -> None:
    """Who removes the device has repaired it."""
    await _refuse(tent, 20)
    await tent.room.remove()
    assert _issue(tent.room) is None


async def test_alert_goes_with_a_device_that_is_removed_meanwhile(tent: RoomDevice) -> None:
    """The next start clears the alert of a device that was removed while the hub did not run."""
    room = tent.room
    await _refuse(tent, 20)
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    await room.remove()
    assert _issue(room) is not None
    assert await room.set_up()
    assert _issue(room) is None


async def test_alert_outlives_a_start(tent: RoomDevice) -> None:
    """What nobody acknowledged is there after a start, too."""
    await _refuse(tent, 20)
    await tent.room.reload()
    assert _issue(tent.room) is not None


async def test_wrong_key_is_what_the_alert_is_for(tent: RoomDevice) -> None:
    """A device that still has its old key after a rotation is refused as such; its new key brings it back."""
    room = tent.room
    up_key, down_key = derive_keys(generate_root_key())
    identity = type(tent.identity)("tent-1", "hs256", "grokmon", up_key, down_key)
    impostor = RoomDevice(room, DeviceProtocol(identity))
    for _ in range(6):
        await impostor.hello()
    issue = _issue(room)
    assert issue is not None
    assert issue.translation_placeholders is not None
    assert issue.translation_placeholders["code"] == "signature_invalid"
    await tent.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
