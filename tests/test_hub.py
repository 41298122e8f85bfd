"""The way of a message from Home Assistant's MQTT to a state, and of an answer back; stops and starts."""

import asyncio
from dataclasses import replace
import json
import logging
from typing import Any
from unittest.mock import patch

from homeassistant.components.mqtt.const import MQTT_PROCESSED_SUBSCRIPTIONS
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import (
    EVENT_HOMEASSISTANT_FINAL_WRITE,
    EVENT_HOMEASSISTANT_STOP,
    STATE_OFF,
    STATE_ON,
    STATE_UNAVAILABLE,
)
from homeassistant.core import CoreState
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.dispatcher import async_dispatcher_send
import pytest

from custom_components.grokmon.const import CONF_STALE_AFTER
from custom_components.grokmon.gateway.models import DeviceStatus
from custom_components.grokmon.session_store import SessionStore

from .common import Room, RoomDevice
from .device_simulator.credentials import DeviceIdentity, generate_root_key
from .device_simulator.protocol import DeviceProtocol
from .device_simulator.signing import b64encode

TEMPERATURE = {"temp_c": 21.5}


async def test_hello_is_answered_with_a_session(tent: RoomDevice) -> None:
    """The answer is signed, names the start of the device, and is published once, QoS 1, not retained."""
    answers = await tent.hello()
    assert [answer.keys() for answer in answers] == [{"iss", "aud", "boot", "sid", "time"}]
    assert answers[0]["boot"] == tent.protocol.boot
    assert answers[0]["time"] == int(tent.room.now)
    assert len(answers[0]["sid"]) == 16
    (message,) = tent.room.published
    assert (message.topic, message.qos, message.retain) == ("grokmon/v1/tent-1/down/session", 1, False)


async def test_hello_of_the_same_start_gets_the_same_session(tent: RoomDevice) -> None:
    """A device that did not hear the answer says hello again."""
    (first,) = await tent.hello()
    (second,) = await tent.hello()
    assert first["sid"] == second["sid"]
    await tent.report(TEMPERATURE)
    (third,) = await tent.hello()
    assert third["sid"] == first["sid"]


async def test_reading_becomes_states(tent: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """A signed reading becomes a state per metric, and a derived one."""
    assert tent.room.state("tent-1/temp_c").state == STATE_UNAVAILABLE
    assert tent.room.state("tent-1/connectivity").state == STATE_OFF
    caplog.set_level(logging.INFO)
    await tent.report({"temp_c": 25.0, "humidity_percent": 60.0})
    await tent.report({"temp_c": 25.0, "humidity_percent": 60.0})
    assert tent.room.state("tent-1/temp_c").state == "25.0"
    assert tent.room.state("tent-1/humidity_percent").state == "60.0"
    assert float(tent.room.state("tent-1/vpd_kpa").state) == pytest.approx(1.267, abs=0.001)
    assert tent.room.state("tent-1/connectivity").state == STATE_ON
    assert caplog.messages.count("Tent 1 is heard") == 1


async def test_sensor_with_a_clock_needs_no_session(tent: RoomDevice) -> None:
    """A device that knows the time may do without saying hello."""
    claims = {"iss": "tent-1", "aud": tent.identity.up("telemetry"), "iat": tent.room.now, "metrics": TEMPERATURE}
    await tent.send(tent.identity.sign(claims))
    assert tent.room.state("tent-1/temp_c").state == "21.5"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "malformed"),
        (b"21.5", "malformed"),
        (b'{"device_id":"tent-1","metrics":{"temp_c":21.5}}', "malformed"),
        (b"\xff\xfe\x00", "malformed"),
        (b"x" * 16_385, "oversized"),
    ],
)
async def test_what_is_not_signed_is_refused(tent: RoomDevice, payload: bytes, code: str) -> None:
    """Bytes of any kind reach the gateway, and none of them becomes a state."""
    await tent.hello()
    await tent.send(payload)
    assert tent.room.hub.refused_by_code("tent-1") == {code: 1}
    assert tent.room.state("tent-1/temp_c").state == STATE_UNAVAILABLE
    (refused,) = await tent.room.audit("refused")
    assert (refused["device"], refused["reason"], refused["bytes"]) == ("tent-1", code, len(payload))
    assert payload.decode("latin-1") not in str(refused) or not payload


async def test_stranger_is_refused(tent: RoomDevice) -> None:
    """A device that is not enrolled gets neither an answer nor a name in the registry."""
    stranger = RoomDevice(tent.room, DeviceProtocol(DeviceIdentity.from_root_key("tent-9", generate_root_key())))
    assert await stranger.hello() == []
    assert tent.room.published == []
    assert tent.room.hub.refused_by_code(None) == {"unknown_device": 1}
    assert tent.room.hub.refused_by_code("tent-9") == {}


async def test_another_device_is_not_believed(tent: RoomDevice) -> None:
    """A device that is enrolled speaks for itself only."""
    other = await tent.room.enrol("tent-2")
    await other.hello()
    await tent.send(other.sign_reading(TEMPERATURE))
    assert tent.room.hub.refused_by_code("tent-1") == {"signature_invalid": 1}
    assert tent.room.state("tent-1/temp_c").state == STATE_UNAVAILABLE
    assert tent.room.state("tent-2/temp_c").state == STATE_UNAVAILABLE


async def test_retained_message_is_refused(tent: RoomDevice) -> None:
    """What the broker kept is not fresh, however well it is signed; the same message live is."""
    await tent.hello()
    reading = tent.sign_reading(TEMPERATURE)
    await tent.send(reading, retain=True)
    assert tent.room.hub.refused_by_code("tent-1") == {"retained": 1}
    assert tent.room.state("tent-1/temp_c").state == STATE_UNAVAILABLE
    await tent.send(reading)
    assert tent.room.state("tent-1/temp_c").state == "21.5"


async def test_repeated_message_is_refused(tent: RoomDevice) -> None:
    """A byte-identical repeat is a duplicate, anything older a replay; neither changes a state."""
    await tent.hello()
    first, second = tent.sign_reading({"temp_c": 21.0}), tent.sign_reading({"temp_c": 22.0})
    for payload in (first, second, second, first):
        await tent.send(payload)
    assert tent.room.hub.refused_by_code("tent-1") == {"duplicate": 1, "replayed": 1}
    assert tent.room.state("tent-1/temp_c").state == "22.0"


# Sessions that the hub does not know


async def test_unknown_session_is_asked_to_say_hello(tent: RoomDevice) -> None:
    """The request echoes the session, is signed, and the device comes back with what it could not deliver."""
    await tent.report(TEMPERATURE)
    tent.protocol.sid = "unknown-session-"
    await tent.send(tent.sign_reading(TEMPERATURE))
    requests = list(tent.downlinks())
    assert requests == [
        {
            "iss": "grokmon",
            "aud": "grokmon/v1/tent-1/down/session",
            "hello": True,
            "sid": "unknown-session-",
            "time": int(tent.room.now),
        }
    ]
    assert tent.room.published[-1].qos == 1
    assert tent.room.published[-1].retain is False
    assert tent.room.hub.refused_by_code("tent-1") == {"session_unknown": 1}
    await tent.hello()
    assert tent.protocol.counts.sessions == 2
    await tent.send(tent.sign_reading(TEMPERATURE))
    assert tent.room.state("tent-1/temp_c").state == "21.5"


async def test_requests_are_rate_limited(tent: RoomDevice) -> None:
    """However often a session is unknown, a device is asked six times in a minute."""
    await tent.report(TEMPERATURE)
    before = len(tent.room.published)
    tent.protocol.sid = "unknown-session-"
    for _ in range(9):
        await tent.send(tent.sign_reading(TEMPERATURE))
    assert len(tent.room.published) - before == 6
    await tent.room.let_pass(10)
    for _ in range(3):
        await tent.send(tent.sign_reading(TEMPERATURE))
    assert len(tent.room.published) - before == 7
    assert tent.room.hub.refused_by_code("tent-1") == {"session_unknown": 12}


async def test_request_needs_a_signature(tent: RoomDevice) -> None:
    """Nobody who cannot sign makes the hub speak."""
    claims = {"iss": "tent-1", "aud": tent.identity.up("telemetry"), "sid": "unknown-session-", "seq": 1}
    await tent.send(b".".join((b64encode(b'{"alg":"HS256","typ":"JWT"}'), b64encode(str(claims).encode()), b"c2ln")))
    assert tent.room.published == []


async def test_answer_that_cannot_be_published(tent: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """A failure of MQTT is logged, and the next hello is answered."""
    tent.room.mqtt.async_publish.side_effect = HomeAssistantError("no connection")
    await tent.send(tent.protocol.hello(tent.room.now), "hello")
    assert "An answer to a device could not be published: no connection" in caplog.messages
    tent.room.mqtt.async_publish.side_effect = None
    connected_again = RoomDevice(tent.room, tent.protocol)
    assert len(await connected_again.hello()) == 1
    assert tent.protocol.ready


# Stops and starts


async def _stop(room: Room) -> None:
    """Stop as Home Assistant does, without unloading."""
    room.hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
    await room.settle()


async def _start_again(room: Room) -> None:
    """Set the integration up anew, as after a start of Home Assistant."""
    await room.reload()
    await _subscription_done(room)


async def _subscription_done(room: Room) -> None:
    """Let Home Assistant's MQTT collect subscriptions for as long as it does, and the broker confirm them."""
    await room.let_pass(1)


async def test_graceful_stop_keeps_sessions(tent: RoomDevice) -> None:
    """After a stop and a start, a device goes on under its session, and what was accepted before counts no more."""
    room = tent.room
    await tent.hello()
    earlier, accepted = tent.sign_reading(TEMPERATURE), tent.sign_reading(TEMPERATURE)
    for message in (earlier, accepted):
        await tent.send(message)
    await _stop(room)
    missed = tent.sign_reading({"temp_c": 30.0})
    await tent.send(missed)
    assert room.state("tent-1/temp_c").state == "21.5"
    await _start_again(room)
    # For what it sent meanwhile, it is asked for a hello, which its session outlives.
    assert [claims.get("hello") for claims in tent.downlinks()] == [True]
    for message in (earlier, accepted):
        await tent.send(message)
    assert room.hub.refused_by_code("tent-1") == {"replayed": 1, "duplicate": 1}
    await tent.send(missed)
    assert room.state("tent-1/temp_c").state == "30.0"


async def test_stop_while_home_assistant_writes_late(tent: RoomDevice) -> None:
    """While Home Assistant stops, stores are written at the very end; the sessions are among them."""
    room = tent.room
    await tent.report(TEMPERATURE)
    room.hass.set_state(CoreState.stopping)
    await _stop(room)
    sessions = room.storage / "grokmon.sessions"
    assert not sessions.exists()
    room.hass.set_state(CoreState.final_write)
    room.hass.bus.async_fire(EVENT_HOMEASSISTANT_FINAL_WRITE)
    await room.settle()
    assert list(room.stored("sessions")["sessions"]) == ["tent-1"]
    assert room.audit_on_disk()[-1] == {"event": "stopped"}
    room.hass.set_state(CoreState.running)


async def test_stop_is_done_once(tent: RoomDevice) -> None:
    """Unloading after a stop does not overwrite what the stop kept."""
    room = tent.room
    await tent.report(TEMPERATURE)
    await _stop(room)
    kept = room.stored("sessions")
    await room.let_pass(5)
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert room.stored("sessions") == kept
    assert [entry["event"] for entry in room.audit_on_disk()].count("stopped") == 1


async def test_nothing_is_done_after_a_stop(tent: RoomDevice) -> None:
    """Nobody is served any more: nothing of it would be in the trail, or known to the next start."""
    room = tent.room
    await _stop(room)
    assert room.entry_is(ConfigEntryState.LOADED)
    assert (await room.refusal("revoke_device", {"device_id": "tent-1"})).translation_key == "not_loaded"
    await _start_again(room)
    assert room.hub.gateway.registry["tent-1"].status is DeviceStatus.ACTIVE


async def test_stop_with_a_disk_that_fails(tent: RoomDevice) -> None:
    """The trail is closed all the same, and says that the hub stopped."""
    room = tent.room
    with (
        patch.object(SessionStore, "async_put", side_effect=HomeAssistantError("no space left")),
        pytest.raises(HomeAssistantError),
    ):
        await room.hub.async_stop()
    assert room.audit_on_disk()[-1] == {"event": "stopped"}


async def test_credential_that_changes_is_no_change_by_the_user(tent: RoomDevice) -> None:
    """What is set is compared with what was set; credentials may be on their way to the disk meanwhile."""
    room = tent.room
    record = room.hub.store.state.devices["tent-1"]
    room.hub.store.state.devices["tent-1"] = replace(record, credentials=record.credentials * 2)
    await room.hub.async_follow()
    assert await room.audit("changed") == []


async def _crash(room: Room) -> None:
    """Set the integration up from the disk as it was while it ran."""
    files = {path: path.read_bytes() for path in room.storage.glob("grokmon.*")}
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    for path in room.storage.glob("grokmon.*"):
        path.unlink()
    for path, content in files.items():
        path.write_bytes(content)
    assert await room.set_up()


async def test_crash_drops_sessions(tent: RoomDevice) -> None:
    """After a crash nobody knows which counters were used: the device is asked for a hello, and starts a session."""
    room = tent.room
    await tent.hello()
    accepted = tent.sign_reading(TEMPERATURE)
    await tent.send(accepted)
    before = tent.protocol.sid
    await room.let_pass(5)
    assert [claims.get("hello") for claims in tent.downlinks()] == [True]
    await _crash(room)
    assert list(tent.downlinks()) == []
    await _subscription_done(room)
    assert list(tent.downlinks()) == [
        {"iss": "grokmon", "aud": "grokmon/v1/tent-1/down/session", "hello": True, "time": int(room.now)}
    ]
    assert not tent.protocol.ready
    await tent.send(accepted)
    assert room.hub.refused_by_code("tent-1") == {"session_unknown": 1}
    await tent.hello()
    assert tent.protocol.sid != before
    await tent.send(tent.sign_reading({"temp_c": 22.0}))
    assert room.state("tent-1/temp_c").state == "22.0"


async def test_sessions_are_good_for_one_start(tent: RoomDevice) -> None:
    """What a stop kept is deleted as it is taken up: a crash after the start must not find it again."""
    room = tent.room
    await tent.report(TEMPERATURE)
    await room.reload()
    assert not (room.storage / "grokmon.sessions").exists()
    await tent.send(tent.sign_reading({"temp_c": 22.0}))
    await _crash(room)
    assert room.hub.gateway.sessions.active_sid("tent-1") is None


@pytest.mark.parametrize(("seconds", "kept"), [(120, True), (121, False), (-1, False)])
async def test_sessions_grow_old(tent: RoomDevice, seconds: int, *, kept: bool) -> None:
    """A stop and a start belong together within two minutes; a clock that jumped back counts as too long."""
    room = tent.room
    await tent.report(TEMPERATURE)
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    room.freezer.tick(seconds)
    assert await room.set_up()
    assert (room.hub.gateway.sessions.active_sid("tent-1") == tent.protocol.sid) is kept
    assert not (room.storage / "grokmon.sessions").exists()


async def test_who_is_asked_to_say_hello(tent: RoomDevice) -> None:
    """At a start everybody who may speak is asked once; when the broker comes back, who has no session."""
    room = tent.room
    other, disabled, revoked = [await room.enrol(name) for name in ("tent-2", "tent-3", "tent-4")]
    await tent.report(TEMPERATURE)
    menu = await room.start_flow("device", room.subentry("tent-3").subentry_id)
    await room.submit(await room.submit(menu, {"next_step_id": "disable"}))
    await room.call("revoke_device", {"device_id": "tent-4"})
    before = len(room.published)
    await room.reload()
    await _subscription_done(room)
    topics = [device.identity.down("session") for device in (tent, other)]
    assert [message.topic for message in room.published[before:]] == topics
    async_dispatcher_send(room.hass, MQTT_PROCESSED_SUBSCRIPTIONS, [("grokmon/v1/+/up/+", 1)])
    await room.settle()
    assert [message.topic for message in room.published[before:]] == [*topics, topics[1]]
    assert len(list(other.downlinks())) == 2
    assert list(disabled.downlinks()) == list(revoked.downlinks()) == []


async def test_removed_device_takes_its_session_along(tent: RoomDevice) -> None:
    """A device that is enrolled anew under an old name has no session yet."""
    room = tent.room
    await tent.report(TEMPERATURE)
    await room.remove()
    again = await room.enrol()
    assert room.hub.gateway.sessions.active_sid("tent-1") is None
    again.protocol.sid = tent.protocol.sid
    await again.send(again.sign_reading(TEMPERATURE))
    assert room.hub.refused_by_code("tent-1") == {"session_unknown": 1}


# Silence


async def test_silent_device_becomes_unavailable(tent: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """After five minutes of silence the readings are unavailable; that is logged and recorded once, as is the end."""
    room = tent.room
    await tent.report(TEMPERATURE)
    await room.let_pass(290)
    assert room.state("tent-1/temp_c").state == "21.5"
    await room.let_pass(10)
    assert room.state("tent-1/temp_c").state == STATE_UNAVAILABLE
    assert room.state("tent-1/connectivity").state == STATE_OFF
    await room.let_pass(300)
    assert caplog.messages.count("Tent 1 has not been heard for 300 s") == 1
    assert await room.audit("silent") == [{"event": "silent", "device": "tent-1"}]
    await tent.report({"temp_c": 22.0})
    assert room.state("tent-1/temp_c").state == "22.0"
    assert caplog.messages.count("Tent 1 is heard") == 2


@pytest.mark.parametrize("options", [{CONF_STALE_AFTER: 60}])
async def test_patience_is_an_option(tent: RoomDevice) -> None:
    """How long a device may be silent is the user's choice."""
    await tent.report(TEMPERATURE)
    await tent.room.let_pass(50)
    assert tent.room.state("tent-1/temp_c").state == "21.5"
    await tent.room.let_pass(10)
    assert tent.room.state("tent-1/temp_c").state == STATE_UNAVAILABLE


async def test_refused_messages_do_not_keep_a_device_alive(tent: RoomDevice) -> None:
    """Only what the device itself said counts as hearing it."""
    room = tent.room
    await tent.report(TEMPERATURE)
    for _ in range(30):
        await room.let_pass(10)
        await tent.send(b"nonsense")
    assert room.state("tent-1/temp_c").state == STATE_UNAVAILABLE


async def test_last_will_shortens_the_patience(tent: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """The broker's word that a device went away is a hint: 30 seconds instead of five minutes, as the log says."""
    room = tent.room
    await tent.report(TEMPERATURE)
    await tent.send(b"offline", "status")
    assert room.state("tent-1/temp_c").state == "21.5"
    await room.let_pass(20)
    assert room.state("tent-1/temp_c").state == "21.5"
    await room.let_pass(10)
    assert room.state("tent-1/temp_c").state == STATE_UNAVAILABLE
    assert caplog.messages.count("Tent 1 has not been heard for 30 s") == 1


async def test_reading_overrides_the_last_will(tent: RoomDevice) -> None:
    """Anybody can publish a last will; the device that goes on speaking is heard."""
    room = tent.room
    await tent.report(TEMPERATURE)
    await tent.send(b"offline", "status")
    await room.let_pass(20)
    await tent.report({"temp_c": 22.0})
    await room.let_pass(280)
    assert room.state("tent-1/temp_c").state == "22.0"


async def test_last_will_of_a_silent_device(tent: RoomDevice) -> None:
    """A hint about a device that was never heard changes nothing."""
    await tent.send(b"offline", "status")
    await tent.room.let_pass(60)
    assert tent.room.state("tent-1/connectivity").state == STATE_OFF
    assert await tent.room.audit("silent") == []


# Other channels


@pytest.mark.parametrize(
    ("channel", "payload", "code"),
    [
        ("status", b"online", "field_invalid"),
        ("state", b"x", "channel_not_allowed"),
        ("ack", b"x", "channel_not_allowed"),
        ("bogus", b"x", "unknown_channel"),
    ],
)
async def test_other_channels(tent: RoomDevice, channel: str, payload: bytes, code: str) -> None:
    """What a sensor has no business to say is refused."""
    await tent.send(payload, channel)
    assert tent.room.hub.refused_by_code("tent-1") == {code: 1}


async def test_one_subscription_for_all(tent: RoomDevice) -> None:
    """However many devices there are, there is one subscription, of bytes."""
    await tent.room.enrol("tent-2")
    calls = [call for call in tent.room.mqtt.async_subscribe.mock_calls if "grokmon" in str(call.args[0])]
    assert [call.args[0] for call in calls] == ["grokmon/v1/+/up/+"]


async def test_hello_says_what_the_device_is(tent: RoomDevice) -> None:
    """Firmware and model reach the device registry with the first reading of a session, not with the hello alone."""
    tent.protocol.firmware, tent.protocol.model = "v1.2.3", "ESP32-C6"
    await tent.hello()
    assert tent.room.device().sw_version is None
    await tent.report(TEMPERATURE)
    device = tent.room.device()
    assert (device.sw_version, device.model) == ("v1.2.3", "ESP32-C6")
    assert await tent.room.audit("session") == [{"event": "session", "device": "tent-1", "firmware": "v1.2.3"}]
    await tent.room.reload()
    await tent.send(tent.sign_reading({"temp_c": 22.0}))
    assert tent.room.device().sw_version == "v1.2.3"


async def test_plain_reading_says_what_the_firmware_is(room: Room) -> None:
    """The firmware of a device that says no hello is what its readings say; a signed one says it in its hello."""
    chosen = {"device_id": "tent-1", "name": "Tent 1", "metrics": ["temp_c"], "auth": "broker"}
    await room.call("enroll_device", chosen)
    room.hub.gateway.broker_enforced = True
    for firmware in ("v1", "v2", "v2"):
        body = {"metrics": {"temp_c": 21.0}, "meta": {"firmware": firmware, "mood": "good"}}
        await room.receive("grokmon/v1/tent-1/up/telemetry", json.dumps(body).encode())
        assert room.device().sw_version == firmware
    dr.async_get(room.hass).async_remove_device(room.device().id)
    await room.receive("grokmon/v1/tent-1/up/telemetry", json.dumps(body).encode())
    assert room.hub.gateway.accepted == {"tent-1": 4}


async def test_session_of_a_device_that_the_user_deleted_from_the_registry(tent: RoomDevice) -> None:
    """A device whose entry in the device registry is gone is still heard."""
    dr.async_get(tent.room.hass).async_remove_device(tent.room.device().id)
    await tent.room.settle()
    await tent.report(TEMPERATURE)
    assert tent.room.hub.gateway.accepted == {"tent-1": 1}


async def test_totals(tent: RoomDevice) -> None:
    """The hub's totals follow within ten seconds."""
    room = tent.room
    await tent.report(TEMPERATURE)
    await tent.report(TEMPERATURE)
    await tent.send(b"nonsense")
    stranger: dict[str, Any] = {"topic": "grokmon/v1/nobody/up/telemetry", "payload": b"x"}
    await room.receive(**stranger)
    await room.let_pass(10)
    assert room.state("hub/accepted").state == "2"
    assert room.state("hub/rejected").state == "2"
    assert room.state("tent-1/rejected").state == "1"
    assert room.state("hub/audit").state == "ok"


async def test_second_stop_waits_for_the_first(room: Room) -> None:
    """Who unloads while Home Assistant stops closes neither the trail nor the store before everything is in them."""
    trust, waits, go_on = room.hub.trust, asyncio.Event(), asyncio.Event()
    stop = trust.async_stop

    async def slow() -> None:
        waits.set()
        await go_on.wait()
        await stop()

    with patch.object(trust, "async_stop", slow):
        stops = [asyncio.ensure_future(room.hub.async_stop()) for _ in range(2)]
        await waits.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not any(each.done() for each in stops)
        await room.hub.store.async_save()
        go_on.set()
        await asyncio.gather(*stops)
    assert [entry["event"] for entry in room.audit_on_disk()].count("stopped") == 1
