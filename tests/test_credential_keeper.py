"""The life of credentials in a running room: rotation, first use, restoring, expiry, and what the disk does to them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
import json
import logging
from pathlib import Path
import threading
from typing import Any
from unittest.mock import patch

from homeassistant.auth.models import User
from homeassistant.components.repairs import DOMAIN as REPAIRS, repairs_flow_manager
from homeassistant.core import Context
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.json import ExtendedJSONEncoder
from homeassistant.setup import async_setup_component
import probatio
import pytest
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped] # has no py.typed
    async_fire_mqtt_message,
)

from custom_components.grokmon import credential_keeper, enrolment, turns
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.diagnostics import async_get_config_entry_diagnostics
from custom_components.grokmon.gateway import credentials
from custom_components.grokmon.gateway.credentials import LIFETIMES
from custom_components.grokmon.gateway.errors import Code, GatewayError, RegistryError
from custom_components.grokmon.gateway.lifecycle import OVERLAP, RESTORABLE, WARN_BEFORE
from custom_components.grokmon.gateway.models import CredentialKind, CredentialState, DeviceStatus
from custom_components.grokmon.store import SecurityStore

from .common import Room, RoomDevice
from .device_simulator.actuators import Outputs, specs_from
from .device_simulator.credentials import Auth, DeviceIdentity, PrivateKey, generate_key_pair, public_pem
from .device_simulator.protocol import DeviceProtocol
from .live.needles import Needles, found, found_in_files, of_bytes, of_root_key

HOUR = 3600.0
DAY = 86_400.0
SILENT = "silent_after_rotation_tent-1"
EXPIRES = "credential_expires_tent-1"
WITH_ACCOUNTS = {"broker": {"mode": "files"}}

type Settings = dict[str, Any]


async def leaks(room: Room, caplog: pytest.LogCaptureFixture, needles: Needles) -> list[str]:
    """Return which secrets are in the log, the states, the diagnostics, the issues or the files, by what they are."""
    await room.audit()
    diagnostics = await async_get_config_entry_diagnostics(room.hass, room.entry)
    told = [
        caplog.text,
        json.dumps([state.as_dict() for state in room.hass.states.async_all()], cls=ExtendedJSONEncoder),
        json.dumps(diagnostics, cls=ExtendedJSONEncoder),
        *(repr(issue) for issue in ir.async_get(room.hass).issues.values()),
    ]
    folder = Path(room.hass.config.config_dir)
    but = [folder / DOMAIN / "kek"]
    files = await room.hass.async_add_executor_job(lambda: found_in_files(folder, needles, but=but))
    return found("\n".join(told).encode(), needles) + files


async def _rotate(room: Room, device_id: str = "tent-1", **data: Any) -> Settings:
    """Rotate the credentials of a device; return its new settings."""
    response = await room.call("rotate_credentials", {"device_id": device_id, **data})
    assert response["left_out"] == []
    (settings,) = response["devices"]
    return dict(settings)


async def _restore(room: Room, device_id: str = "tent-1") -> dict[str, Any]:
    return await room.call("restore_credentials", {"device_id": device_id})


def _renewed(room: Room, settings: Settings, key: PrivateKey | None = None) -> RoomDevice:
    """Return the device as it starts with new settings."""
    outputs = Outputs(specs_from(settings.get("actuators", {})))
    return RoomDevice(room, DeviceProtocol(DeviceIdentity.from_enrolment(settings, key), outputs=outputs))


async def _hello(device: RoomDevice) -> None:
    """Let a device connect and say hello."""
    device.protocol.connected(device.room.now)
    await _say(device, "hello", device.protocol.hello(device.room.now))


async def _report(device: RoomDevice, value: float) -> None:
    """Let a device report a temperature; where it has no session, or is told so, it says hello first."""
    if device.protocol.sid is None:
        await _hello(device)
    await _say(device, "telemetry", device.sign_reading({"temp_c": value}))
    if device.protocol._asked:
        await _hello(device)
        await _say(device, "telemetry", device.sign_reading({"temp_c": value}))


async def _say(device: RoomDevice, channel: str, payload: bytes) -> None:
    """Send a message, and hear what comes back; what is meant for another key of the device passes it by."""
    room, heard = device.room, len(device.room.published)
    await room.receive(device.identity.up(channel), payload)
    for message in room.published[heard:]:
        if message.topic == device.identity.down("session"):
            device.protocol.receive(message.payload, room.now)


async def _enrol_plain(room: Room, auth: str, device_id: str = "tent-1") -> Settings:
    """Enrol a device that signs nothing; return its settings."""
    data = {"device_id": device_id, "name": device_id.replace("-", " ").title(), "metrics": ["temp_c"], "auth": auth}
    return await room.call("enroll_device", data)


def _post(room: Room, token: str, value: float) -> None:
    """Let a device report a temperature over HTTP, as its view does."""
    peer = room.hub.async_authenticate(token.encode(), room.now)
    body = json.dumps({"metrics": {"temp_c": value}}).encode()
    assert room.hub.async_receive_http(peer, "application/json", body, room.now) == 1


def _life(room: Room, kind: CredentialKind = CredentialKind.KEY, device_id: str = "tent-1") -> list[str]:
    """Return the states of a device's credentials of a kind, the oldest first."""
    return [each.state.value for each in room.hub.gateway.registry[device_id].credentials if each.kind is kind]


def _stored_life(room: Room, device_id: str = "tent-1") -> list[str]:
    """Return the same as the disk has it."""
    return [each["state"] for each in room.stored()["devices"][device_id]["credentials"]]


def _shows(room: Room, value: float) -> bool:
    return room.state("tent-1/temp_c").state == str(value)


def _refused(room: Room) -> dict[str, int]:
    return room.hub.refused_by_code("tent-1")


def _issue(room: Room, issue_id: str) -> ir.IssueEntry | None:
    return ir.async_get(room.hass).async_get_issue(DOMAIN, issue_id)


async def _refusal(room: Room, service: str, data: dict[str, Any]) -> str:
    """Call a service that refuses; return why."""
    with pytest.raises(ServiceValidationError) as refused:
        await room.call(service, data)
    assert refused.value.translation_domain == DOMAIN
    return str(refused.value.translation_key)


@pytest.fixture
async def tent(tent: RoomDevice) -> RoomDevice:
    """Return a device that was heard: a key that was never used is not worth an overlap."""
    await _report(tent, 20.0)
    return tent


@contextmanager
def slow_disk(*, fails: bool = False) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Let writes of the security store wait; yield what says that one waits, and what lets them go on.

    The first one fails if that is wanted.
    """
    waits, go_on = asyncio.Event(), asyncio.Event()
    save = SecurityStore.async_save

    async def slow(store: SecurityStore) -> None:
        nonlocal fails
        waits.set()
        failed, fails = fails, False
        await go_on.wait()
        if failed:
            raise HomeAssistantError(translation_domain=DOMAIN, translation_key="store_not_written")
        await save(store)

    with patch.object(SecurityStore, "async_save", slow):
        try:
            yield waits, go_on
        finally:
            go_on.set()


async def _begin_unload(room: Room) -> asyncio.Task[bool]:
    """Unload as far as it goes while a change is under way."""
    hub = room.hub
    unloading = room.hass.async_create_task(room.hass.config_entries.async_unload(room.entry.entry_id))
    await room.until(lambda: hub.stopped)
    await room.hass.async_add_executor_job(threading.Event().wait, 0.1)
    return unloading


# Rotation in a running room


@pytest.mark.parametrize("auth", ["hs256", "es256", "eddsa"])
async def test_no_reading_is_lost_in_a_rotation(room: Room, auth: Auth) -> None:
    """The device goes on under its old key, takes up the new one, and from that moment the old one is over."""
    old, new = (None, None) if auth == "hs256" else (generate_key_pair(auth), generate_key_pair(auth))
    choices = {} if old is None else {"public_key": public_pem(old)}
    tent = await room.enrol(private_key=old, auth=auth, **choices)
    await _report(tent, 21.0)
    session = tent.protocol.sid
    settings = await _rotate(room, **({} if new is None else {"public_key": public_pem(new)}))
    assert _life(room) == ["retiring", "pending"]
    await _report(tent, 22.0)
    assert tent.protocol.sid == session
    renewed = _renewed(room, settings, new)
    # The answer to its hello is signed under the new key, or the device would not have a session.
    await _hello(renewed)
    assert renewed.protocol.sid is not None
    await _hello(tent)
    await _report(tent, 23.0)
    await _hello(renewed)
    await _report(renewed, 24.0)
    assert _shows(room, 24.0)
    assert _life(room) == _stored_life(room) == ["retiring", "active"]
    assert (room.hub.gateway.accepted["tent-1"], _refused(room)) == (4, {})
    await _report(tent, 25.0)
    await _hello(tent)
    assert _refused(room) == {"credential_expired": 2}
    await _report(renewed, 26.0)
    assert _shows(room, 26.0)


async def test_rotation_is_on_record(tent: RoomDevice) -> None:
    """The trail names the keys, the administrator and the overlap, and when the new one was first used."""
    room = tent.room
    settings = await _rotate(room, overlap_hours=1.5)
    _, fresh = (each.key_id for each in room.hub.gateway.registry["tent-1"].credentials)
    (rotated,) = await room.audit("rotated")
    assert (rotated["identity"], rotated["overlap_s"]) == (room.admin.user_id, 5400)
    assert fresh in rotated["key_ids"]
    renewed = _renewed(room, settings)
    for _ in range(3):
        await _report(renewed, 21.0)
    _, used = await room.audit("first_used")
    assert (used["device"], used["key_id"]) == ("tent-1", fresh)


async def test_hello_ends_nothing(tent: RoomDevice) -> None:
    """Anybody may play back a hello: it takes a reading to end the old key."""
    renewed = _renewed(tent.room, await _rotate(tent.room))
    await _hello(renewed)
    await _report(tent, 21.0)
    assert (_shows(tent.room, 21.0), _life(tent.room)) == (True, ["retiring", "pending"])


async def test_refused_reading_ends_nothing(tent: RoomDevice) -> None:
    """A reading that is refused is no use of the key that it was signed with."""
    room = tent.room
    renewed = _renewed(room, await _rotate(room))
    await _hello(renewed)
    await renewed.send(renewed.sign_reading({"ph": 6.0}))
    await _report(renewed, 5000.0)
    assert _refused(room) == {"metric_not_granted": 1, "metric_impossible": 1}
    assert _life(room) == ["retiring", "pending"]
    await _report(RoomDevice(room, DeviceProtocol(tent.identity)), 21.0)
    assert _shows(room, 21.0)


async def test_old_reading_held_back(tent: RoomDevice) -> None:
    """A genuine reading under the old key that somebody held back is refused once the new one was used."""
    room = tent.room
    await _report(tent, 21.0)
    held_back = tent.sign_reading({"temp_c": 30.0})
    await _report(_renewed(room, await _rotate(room)), 22.0)
    await tent.send(held_back)
    assert (_shows(room, 22.0), _refused(room)) == (True, {"credential_expired": 1})


async def test_commands_follow_the_key_in_use(room: Room) -> None:
    """Commands go under the old key until the new one is used, and under the new one from then on."""
    node = await room.enrol(actuators=[{"role": "outlet"}])
    await node.act()
    settings = await _rotate(room)
    await room.act("switch", "turn_on", "tent-1/output_outlet")
    assert len(node.protocol.commands) == 1
    renewed = _renewed(room, settings)
    await renewed.act()
    assert _life(room) == ["retiring", "active"]
    await room.act("switch", "turn_off", "tent-1/output_outlet")
    assert (len(node.protocol.commands), len(renewed.protocol.commands)) == (1, 1)
    assert node.protocol.counts.commands_refused == 1


async def test_overlap_ends_by_the_clock(tent: RoomDevice) -> None:
    """Unless the new key is used before, the old one ends when the overlap is over, to the second."""
    room = tent.room
    settings = await _rotate(room, overlap_hours=1)
    await room.let_pass(HOUR - 1)
    await _report(tent, 21.0)
    assert _shows(room, 21.0)
    await room.let_pass(1)
    await _report(tent, 22.0)
    assert (_shows(room, 21.0), _refused(room)) == (True, {"credential_expired": 1})
    await _report(_renewed(room, settings), 23.0)
    assert _shows(room, 23.0)


async def test_overlap_is_a_day_unless_chosen(tent: RoomDevice) -> None:
    """Nobody has to think about the overlap."""
    await _rotate(tent.room)
    old, fresh = tent.room.hub.gateway.registry["tent-1"].credentials
    assert (old.ends, fresh.not_after) == (tent.room.now + OVERLAP, tent.room.now + LIFETIMES[CredentialKind.KEY])


async def test_no_overlap(tent: RoomDevice) -> None:
    """Where somebody else may have the old key it ends at once, also for a clock that is set back."""
    room = tent.room
    await _report(tent, 21.0)
    settings = await _rotate(room, overlap_hours=0)
    await _report(tent, 22.0)
    await _hello(tent)
    assert _refused(room) == {"signature_invalid": 2}
    room.freezer.tick(-60)
    await _report(tent, 22.0)
    assert _refused(room) == {"signature_invalid": 3}
    room.freezer.tick(60)
    await _report(_renewed(room, settings), 23.0)
    assert _shows(room, 23.0)


async def test_several_rotations_in_a_row(tent: RoomDevice) -> None:
    """Settings that were thrown away open nothing; the device goes on under the key it has, and takes up the last."""
    room = tent.room
    thrown_away = [_renewed(room, await _rotate(room)) for _ in range(3)]
    last = _renewed(room, await _rotate(room))
    assert _life(room) == ["retiring", "revoked", "revoked", "revoked", "pending"]
    for device in thrown_away:
        await device.send(device.identity.sign({"iss": "tent-1"}))
    assert _refused(room) == {"signature_invalid": 3}
    await _report(tent, 21.0)
    await _report(last, 22.0)
    assert _shows(room, 22.0)
    await _report(tent, 23.0)
    assert _shows(room, 22.0)
    # And on from there: each key in its turn.
    after = _renewed(room, await _rotate(room))
    await _report(last, 24.0)
    await _report(after, 25.0)
    await _report(last, 26.0)
    assert _shows(room, 25.0)


async def test_second_rotation_does_not_prolong_the_first(tent: RoomDevice) -> None:
    """A key that ends in an hour ends in an hour, however often the device is rotated."""
    room = tent.room
    await _rotate(room, overlap_hours=1)
    await _rotate(room, overlap_hours=168)
    await room.let_pass(HOUR)
    await _report(tent, 21.0)
    assert _refused(room) == {"credential_expired": 1}


async def test_key_pair_needs_a_new_key(room: Room) -> None:
    """A device with its own key brings a new one: not none, not one it has or had, none of another kind."""
    first, second = generate_key_pair("eddsa"), generate_key_pair("eddsa")
    await _report(await room.enrol(auth="eddsa", public_key=public_pem(first), private_key=first), 21.0)
    await _rotate(room, public_key=public_pem(second))
    for public_key in ("", "no PEM", public_pem(first), public_pem(second), public_pem(generate_key_pair("es256"))):
        wanted = {"device_id": "tent-1", "public_key": public_key}
        assert await _refusal(room, "rotate_credentials", wanted) == "public_key_invalid"
    assert _life(room) == ["retiring", "pending"]
    assert len(await room.audit("rotated")) == 1


async def test_disabled_device_is_rotated_and_stays_disabled(tent: RoomDevice) -> None:
    """A new key lets nobody in whom an administrator keeps out."""
    room = tent.room
    await room.hub.enrolment.async_set_status("tent-1", DeviceStatus.DISABLED, "somebody")
    await _report(_renewed(room, await _rotate(room)), 21.0)
    assert _life(room) == ["retiring", "pending"]
    assert room.stored()["devices"]["tent-1"]["status"] == "disabled"


async def test_revoked_device_has_nothing_to_change(tent: RoomDevice) -> None:
    """Nothing but a new enrolment brings a revoked device back, and nothing secret is left of it."""
    room = tent.room
    await _rotate(room)
    await room.hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "somebody")
    before = room.stored()
    for service in ("rotate_credentials", "restore_credentials", "issue_access_token", "sign_certificate"):
        assert await _refusal(room, service, {"device_id": "tent-1"}) == "device_revoked"
    assert not room.hub.trust.credentials.can_restore(room.hub.gateway.registry["tent-1"])
    assert room.stored()["devices"] == before["devices"]
    assert [each["secret"] for each in before["devices"]["tent-1"]["credentials"]] == ["", ""]
    await room.let_pass(400 * DAY)
    assert _issue(room, EXPIRES) is None


@pytest.mark.parametrize("service", ["rotate_credentials", "restore_credentials"])
async def test_unknown_device(tent: RoomDevice, service: str) -> None:
    """There has to be a device."""
    assert await _refusal(tent.room, service, {"device_id": "tent-9"}) == "unknown_device"


# A restart in every phase


@pytest.mark.parametrize("phase", range(5))
async def test_restart_in_every_phase(tent: RoomDevice, phase: int) -> None:
    """Wherever a restart falls, the device reports on, and what was over stays over."""
    room = tent.room

    async def come_to(number: int) -> None:
        if number == phase:
            await room.reload()

    await _report(tent, 21.0)
    settings = await _rotate(room)
    await come_to(0)
    await _report(tent, 22.0)
    renewed = _renewed(room, settings)
    await _hello(renewed)
    await come_to(1)
    await _report(renewed, 23.0)
    assert _shows(room, 23.0)
    await come_to(2)
    await _report(tent, 24.0)
    assert _refused(room)["credential_expired"] == 1
    await _report(renewed, 25.0)
    assert _shows(room, 25.0)
    await _restore(room)
    await come_to(3)
    await _hello(renewed)
    await _hello(tent)
    await _report(tent, 26.0)
    assert _shows(room, 26.0)
    await come_to(4)
    await renewed.send(renewed.sign_reading({"temp_c": 27.0}))
    assert "signature_invalid" in _refused(room)
    assert _shows(room, 26.0) == (phase != 4)
    assert _life(room) == ["active", "revoked"]


async def test_restart_right_after_the_first_use(tent: RoomDevice) -> None:
    """A restart does not outrun the disk: the old key does not come back with it."""
    room = tent.room
    renewed = _renewed(room, await _rotate(room))
    await _hello(renewed)
    with slow_disk() as (waits, go_on):
        async_fire_mqtt_message(room.hass, renewed.identity.up("telemetry"), renewed.sign_reading({"temp_c": 21.0}), 1)
        await waits.wait()
        unloading = await _begin_unload(room)
        assert not unloading.done()
        go_on.set()
        assert await unloading
    assert await room.set_up()
    assert _life(room) == ["retiring", "active"]
    await _hello(tent)
    assert _refused(room) == {"credential_expired": 1}


# A disk that fails


async def _fails(room: Room, service: str, data: dict[str, Any]) -> None:
    with pytest.raises(HomeAssistantError) as failed:
        await room.call(service, data)
    assert failed.value.translation_key == "store_not_written"


async def test_disk_fails_while_a_key_is_rotated(tent: RoomDevice) -> None:
    """Nothing is half changed, nothing on record that did not come about, and the next try succeeds."""
    room = tent.room
    await _report(tent, 21.0)
    before = room.hub.gateway.registry["tent-1"]
    room.break_store()
    await _fails(room, "rotate_credentials", {"device_id": "tent-1"})
    assert room.hub.gateway.registry["tent-1"] is before
    assert room.hub.store.state.devices["tent-1"].credentials == before.credentials
    assert await room.audit("rotated") == []
    await _report(tent, 22.0)
    assert _shows(room, 22.0)
    room.repair_store()
    renewed = _renewed(room, await _rotate(room))
    await _report(tent, 23.0)
    await _report(renewed, 24.0)
    assert _shows(room, 24.0)


async def test_disk_fails_at_the_first_use(tent: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """The old key is over all the same, and any later write keeps it so."""
    room = tent.room
    renewed = _renewed(room, await _rotate(room))
    room.break_store()
    await _report(renewed, 21.0)
    assert _shows(room, 21.0)
    assert "The first use of new credentials of tent-1 was not kept" in caplog.text
    await _report(tent, 22.0)
    assert _refused(room) == {"credential_expired": 1}
    room.repair_store()
    assert _stored_life(room) == ["retiring", "pending"]
    await room.enrol("tent-2")
    assert _stored_life(room) == ["retiring", "active"]
    await room.reload()
    await _hello(tent)
    await _report(renewed, 23.0)
    assert (_shows(room, 23.0), _refused(room)) == (True, {"credential_expired": 1})


async def test_disk_fails_while_credentials_are_restored(tent: RoomDevice) -> None:
    """What is in use stays in use, and the next try succeeds."""
    room = tent.room
    renewed = _renewed(room, await _rotate(room))
    await _report(renewed, 21.0)
    room.break_store()
    await _fails(room, "restore_credentials", {"device_id": "tent-1"})
    assert await room.audit("credential_restored") == []
    await _report(renewed, 22.0)
    assert (_shows(room, 22.0), _life(room)) == (True, ["retiring", "active"])
    room.repair_store()
    await _restore(room)
    await _report(tent, 23.0)
    assert _shows(room, 23.0)


async def test_disk_fails_while_a_token_is_issued(tent: RoomDevice) -> None:
    """A token that was not kept is not handed out."""
    room = tent.room
    room.break_store()
    await _fails(room, "issue_access_token", {"device_id": "tent-1"})
    assert _life(room, CredentialKind.TOKEN) == []
    assert await room.audit("issued") == []
    room.repair_store()
    assert (await room.call("issue_access_token", {"device_id": "tent-1"}))["token"]


async def test_disk_fails_while_a_device_is_revoked(tent: RoomDevice) -> None:
    """It is refused at once, whatever the disk says."""
    room = tent.room
    await _report(tent, 21.0)
    room.break_store()
    await _fails(room, "revoke_device", {"device_id": "tent-1"})
    await _report(tent, 22.0)
    assert _refused(room) == {"device_revoked": 1}
    room.repair_store()
    await room.enrol("tent-2")
    await room.reload()
    await _hello(tent)
    assert _refused(room) == {"device_revoked": 1}


@pytest.mark.parametrize("seconds", [0, 10], ids=["stopped at once", "a moment later"])
async def test_revoked_for_good_though_the_disk_failed(tent: RoomDevice, seconds: float) -> None:
    """A revocation that the disk refused is saved as soon as it takes it, and is so after a restart."""
    room = tent.room
    room.break_store()
    await _fails(room, "revoke_device", {"device_id": "tent-1"})
    room.repair_store()
    assert await _refusal(room, "revoke_device", {"device_id": "tent-1"}) == "device_revoked"
    await room.let_pass(seconds)
    await room.reload()
    assert room.hub.gateway.registry["tent-1"].status is DeviceStatus.REVOKED
    await _hello(tent)
    assert _refused(room) == {"device_revoked": 1}


async def test_disk_is_tried_again_where_nobody_asks(tent: RoomDevice) -> None:
    """Nobody need do anything for a revocation to be on the disk, should Home Assistant crash."""
    room = tent.room
    room.break_store()
    await _fails(room, "revoke_device", {"device_id": "tent-1"})
    await room.let_pass(10)
    room.repair_store()
    await room.let_pass(10)
    assert room.stored()["devices"]["tent-1"]["status"] == "revoked"


async def test_disk_fails_at_the_hourly_look(tent: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """What time did is not half kept; what expires is told all the same, and the next look makes up for it."""
    room = tent.room
    await _report(await room.enrol("tent-2"), 20.0)
    await _enrol_plain(room, "token", "old")
    await _report(_renewed(room, await _rotate(room)), 21.0)
    await _report(_renewed(room, await _rotate(room, "tent-2")), 21.0)
    room.break_store()
    await room.let_pass(LIFETIMES[CredentialKind.TOKEN] - WARN_BEFORE)
    assert "What time did to the credentials of Tent 1 was not kept" in caplog.text
    assert _life(room) == _life(room, device_id="tent-2") == ["retiring", "active"]
    assert _issue(room, "credential_expires_old") is not None
    room.repair_store()
    await room.let_pass(HOUR)
    assert _life(room) == _life(room, device_id="tent-2") == ["revoked", "active"]


async def test_disk_fails_in_the_middle_of_many(room: Room) -> None:
    """Who asked for all gets to know who has new credentials: they are shown only once."""
    first, second = await room.enrol("a"), await room.enrol("b")
    await _report(first, 20.0)
    await _report(second, 20.0)
    save, saves = SecurityStore.async_save, 0

    async def fails_later(store: SecurityStore) -> None:
        nonlocal saves
        saves += 1
        if saves > 1:
            raise HomeAssistantError(translation_domain=DOMAIN, translation_key="store_not_written")
        await save(store)

    with patch.object(SecurityStore, "async_save", fails_later):
        response = await room.call("rotate_credentials")
    assert [each["device_id"] for each in response["devices"]] == ["a"]
    assert response["left_out"] == [{"device_id": "b", "code": "store_not_written"}]
    assert (_life(room, device_id="a"), _life(room, device_id="b")) == (["retiring", "pending"], ["active"])
    assert first.identity != _renewed(room, response["devices"][0]).identity


# A trail that cannot be written


async def _is_not_recorded(room: Room, service: str, data: dict[str, Any]) -> None:
    with pytest.raises(HomeAssistantError) as failed:
        await room.call(service, data)
    assert failed.value.translation_key == "audit_unavailable"


async def test_trail_fails_while_a_key_is_rotated(tent: RoomDevice) -> None:
    """A key that is not on record opens nothing, now or after a restart; that nothing came of it is told later."""
    room = tent.room
    before = room.hub.gateway.registry["tent-1"]
    with room.broken_trail():
        await _is_not_recorded(room, "rotate_credentials", {"device_id": "tent-1"})
        assert room.hub.gateway.registry["tent-1"] is before
        assert _stored_life(room) == ["active"]
        await _report(tent, 22.0)
        assert _shows(room, 22.0)
    begun, failed = await room.audit("rotated")
    assert failed == begun | {"reason": "audit_unavailable"}
    await _report(_renewed(room, await _rotate(room)), 23.0)
    assert _shows(room, 23.0)


async def test_trail_fails_while_devices_are_enrolled(tent: RoomDevice) -> None:
    """A device that is not on record is none, and can be enrolled later."""
    room = tent.room
    table = {"csv": "device_id,name,auth,metrics\ntent-2,Two,hs256,ph\ntent-3,Three,token,ph"}
    with room.broken_trail():
        await _is_not_recorded(room, "import_registry", table)
    assert room.stored()["devices"].keys() == room.hub.store.state.devices.keys() == {"tent-1"}
    _, *enrolled = await room.audit("enrolled")
    assert enrolled[2:] == [each | {"reason": "audit_unavailable"} for each in enrolled[:2]]
    assert len((await room.call("import_registry", table))["devices"]) == 2


async def test_trail_fails_beside_a_first_use(tent: RoomDevice) -> None:
    """What is taken back is what was asked for, and not what the device did meanwhile."""
    room = tent.room
    renewed = _renewed(room, await _rotate(room))
    await _hello(renewed)
    with room.broken_trail(), slow_disk() as (waits, go_on):
        rotating = asyncio.ensure_future(room.hub.trust.credentials.async_rotate("tent-1", "somebody"))
        await waits.wait()
        async_fire_mqtt_message(room.hass, renewed.identity.up("telemetry"), renewed.sign_reading({"temp_c": 21.0}), 1)
        go_on.set()
        with pytest.raises(RegistryError) as refused:
            await rotating
        assert refused.value.code is Code.AUDIT_UNAVAILABLE
        await room.settle()
    assert _life(room) == _stored_life(room) == ["retiring", "active"]


async def test_trail_fails_and_then_the_store(tent: RoomDevice) -> None:
    """A key that is not on record is not kept by a later write, though the disk refused to take it back at first."""
    room = tent.room
    disk = room.hub.store._store
    save, saves = disk.async_save, 0

    async def fails_second(make: Callable[[], dict[str, Any]]) -> None:
        nonlocal saves
        saves += 1
        if saves == 2:
            raise HomeAssistantError(translation_domain=DOMAIN, translation_key="store_not_written")
        await save(make)

    with room.broken_trail(), patch.object(disk, "async_save", fails_second):
        await _fails(room, "rotate_credentials", {"device_id": "tent-1"})
        assert _life(room) == ["active"]
        await room.let_pass(10)
    assert _stored_life(room) == ["active"]


async def test_what_takes_away_does_not_wait_for_the_trail(tent: RoomDevice) -> None:
    """What time ends is over, and who is revoked is out, whether the trail can be written or not."""
    room = tent.room
    await _report(_renewed(room, await _rotate(room)), 21.0)
    with room.broken_trail():
        await room.let_pass(RESTORABLE + HOUR)
        assert _life(room) == _stored_life(room) == ["revoked", "active"]
        await room.call("revoke_device", {"device_id": "tent-1"})
        assert _stored_life(room) == ["revoked", "revoked"]
    assert {each.get("reason") for each in await room.audit("settled", "revoked")} == {None}


# Several things at once


async def test_first_use_while_the_disk_is_waited_for(tent: RoomDevice) -> None:
    """A change that takes its time does not bring back the key that the device has left behind meanwhile."""
    room = tent.room
    renewed = _renewed(room, await _rotate(room))
    await _hello(renewed)
    with slow_disk() as (waits, go_on):
        adding = asyncio.ensure_future(
            room.hub.trust.credentials.async_add("tent-1", credentials.issue_token(room.now), "somebody")
        )
        await waits.wait()
        async_fire_mqtt_message(room.hass, renewed.identity.up("telemetry"), renewed.sign_reading({"temp_c": 21.0}), 1)
        assert _life(room) == ["retiring", "active"]
        go_on.set()
        device = await adding
    await room.settle()
    assert device == room.hub.gateway.registry["tent-1"]
    assert _life(room) == ["retiring", "active"]
    assert _stored_life(room) == ["retiring", "active", "pending"]
    await _hello(tent)
    assert _refused(room) == {"credential_expired": 1}
    assert len(await room.audit("first_used")) == 2


async def test_first_use_beside_a_rotation(tent: RoomDevice) -> None:
    """A key that is taken up while the next one is written has its overlap as any other in use."""
    room = tent.room
    renewed = _renewed(room, await _rotate(room))
    await _hello(renewed)
    with slow_disk() as (waits, go_on):
        rotating = asyncio.ensure_future(room.hub.trust.credentials.async_rotate("tent-1", "somebody"))
        await waits.wait()
        async_fire_mqtt_message(room.hass, renewed.identity.up("telemetry"), renewed.sign_reading({"temp_c": 21.0}), 1)
        go_on.set()
        device = await rotating
    await room.settle()
    assert device == room.hub.gateway.registry["tent-1"]
    assert _life(room) == _stored_life(room) == ["retiring", "retiring", "pending"]
    await _report(renewed, 22.0)
    assert _shows(room, 22.0)


async def test_removed_while_the_disk_is_waited_for(tent: RoomDevice) -> None:
    """A device that is removed meanwhile leaves nothing behind, whether the disk takes the change or not."""
    room = tent.room
    with slow_disk(fails=True) as (waits, go_on):
        rotating = asyncio.ensure_future(room.hub.trust.credentials.async_rotate("tent-1", "somebody"))
        await waits.wait()
        room.hass.config_entries.async_remove_subentry(room.entry, room.subentry().subentry_id)
        await room.until(lambda: "tent-1" not in room.hub.store.state.devices)
        go_on.set()
        with pytest.raises(HomeAssistantError):
            await rotating
    await room.settle()
    assert room.stored()["devices"] == room.hub.store.state.devices == {}
    await _report(await room.enrol(), 21.0)
    assert _shows(room, 21.0)


async def test_removed_while_it_is_rotated(tent: RoomDevice) -> None:
    """Who rotates a device that is removed meanwhile is told so, and gets no key."""
    room = tent.room
    with slow_disk() as (waits, go_on):
        rotating = asyncio.ensure_future(room.hub.trust.credentials.async_rotate("tent-1", "somebody"))
        await waits.wait()
        room.hass.config_entries.async_remove_subentry(room.entry, room.subentry().subentry_id)
        await room.until(lambda: "tent-1" not in room.hub.gateway.registry)
        go_on.set()
        with pytest.raises(RegistryError) as refused:
            await rotating
    assert refused.value.code is Code.UNKNOWN_DEVICE
    await room.settle()
    assert room.stored()["devices"] == {}


async def test_removed_right_after_the_first_use(tent: RoomDevice) -> None:
    """What is kept late is not kept for a device that is no more."""
    room = tent.room
    renewed = _renewed(room, await _rotate(room))
    await _hello(renewed)
    with slow_disk() as (waits, go_on):
        adding = asyncio.ensure_future(
            room.hub.trust.credentials.async_add("tent-1", credentials.issue_token(room.now), "somebody")
        )
        await waits.wait()
        async_fire_mqtt_message(room.hass, renewed.identity.up("telemetry"), renewed.sign_reading({"temp_c": 21.0}), 1)
        room.hass.config_entries.async_remove_subentry(room.entry, room.subentry().subentry_id)
        await room.until(lambda: "tent-1" not in room.hub.gateway.registry)
        go_on.set()
        with pytest.raises(RegistryError):
            await adding
    await room.settle()
    assert room.stored()["devices"] == {}


async def test_revoked_while_it_is_rotated(tent: RoomDevice) -> None:
    """Two administrators at once: whoever revokes has the last word."""
    room = tent.room
    settings, _ = await asyncio.gather(
        _rotate(room), room.hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "somebody")
    )
    await _hello(_renewed(room, settings))
    await _hello(tent)
    assert _refused(room) == {"device_revoked": 2}
    assert _stored_life(room) == ["revoked", "revoked"]
    await room.reload()
    assert room.hub.gateway.registry["tent-1"].status is DeviceStatus.REVOKED


async def test_two_rotate_at_once(tent: RoomDevice) -> None:
    """Of two keys that two administrators ask for at the same time, one counts, and the device is not cut off."""
    room = tent.room
    first, second = await asyncio.gather(_rotate(room), _rotate(room))
    assert _life(room) == ["retiring", "revoked", "pending"]
    await _report(tent, 21.0)
    assert first["key"] != second["key"]
    await _report(_renewed(room, second), 22.0)
    assert _shows(room, 22.0)


async def test_device_revoked_while_the_look_waits(room: Room) -> None:
    """The hourly look goes on to the next when a device is revoked under its hands."""
    names = ("a", "b", "c")
    for name in names:
        await _report(await room.enrol(name), 20.0)
        await _report(_renewed(room, await _rotate(room, name)), 21.0)
    now = room.now + RESTORABLE
    with slow_disk() as (waits, go_on):
        looking = asyncio.ensure_future(room.hub.trust.credentials.async_look(now))
        await waits.wait()
        revoking = asyncio.ensure_future(room.hub.enrolment.async_set_status("b", DeviceStatus.REVOKED, "somebody"))
        go_on.set()
        await asyncio.gather(looking, revoking)
    await room.settle()
    lives = {name: _life(room, device_id=name) for name in names}
    assert lives == {"a": ["revoked", "active"], "b": ["revoked", "revoked"], "c": ["revoked", "active"]}
    assert [entry["device"] for entry in await room.audit("settled")] == ["a", "c"]


async def test_hub_stops_while_the_look_waits(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """What time did to the credentials is kept and on record, or neither: the next start looks again."""
    await _report(await room.enrol("a"), 20.0)
    await _report(_renewed(room, await _rotate(room, "a")), 21.0)
    hub, past = room.hub, room.now + RESTORABLE
    with slow_disk() as (waits, _):
        hub.trust.async_tick(past)
        await waits.wait()
        assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert "too late" not in caplog.text
    assert [each["event"] for each in room.audit_on_disk()].count("settled") == 0
    assert [each["state"] for each in room.stored()["devices"]["a"]["credentials"]] == ["retiring", "active"]
    assert await room.set_up()
    room.hub.trust.async_tick(past)
    await room.settle()
    assert _stored_life(room, device_id="a") == ["revoked", "active"]
    assert len(await room.audit("settled")) == 1


async def test_unload_waits_for_changes_that_are_under_way(tent: RoomDevice) -> None:
    """What is answered to be done is so after a reload, and on record: also what still waited for its turn."""
    room = tent.room
    with slow_disk() as (waits, go_on):
        rotating = asyncio.ensure_future(room.hub.trust.credentials.async_rotate("tent-1", "somebody"))
        await waits.wait()
        revoking = asyncio.ensure_future(
            room.hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "somebody")
        )
        unloading = await _begin_unload(room)
        assert not unloading.done()
        go_on.set()
        await asyncio.gather(rotating, revoking)
        assert await unloading
    assert await room.set_up()
    assert [entry["event"] for entry in await room.audit("rotated", "revoked", "stopped")] == [
        "rotated",
        "revoked",
        "stopped",
    ]
    assert room.hub.gateway.registry["tent-1"].status is DeviceStatus.REVOKED
    assert _stored_life(room) == ["revoked", "revoked"]


async def test_nothing_is_changed_after_an_unload(tent: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """Who comes too late is told so: there is no trail any more, and another run may have the store."""
    room = tent.room
    hub, before = room.hub, room.hub.gateway.registry["tent-1"]
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    stored = room.stored()
    for late in (
        hub.trust.credentials.async_rotate("tent-1", "somebody"),
        hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "somebody"),
        hub.enrolment.async_admit({"tent-2": hub.store.state.devices["tent-1"]}, "somebody"),
    ):
        with pytest.raises(HomeAssistantError) as refused:
            await late
        assert refused.value.translation_key == "not_loaded"
    assert hub.gateway.registry["tent-1"] == before
    assert (list(hub.store.state.devices), room.stored()) == (["tent-1"], stored)
    assert "too late" not in caplog.text


async def test_unload_waits_some_seconds_for_a_disk_that_hangs(
    tent: RoomDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose change was not waited for is not told that it is done."""
    room = tent.room
    monkeypatch.setattr(turns, "_LAST_SECONDS", 0.0)
    with slow_disk() as (waits, go_on):
        rotating = asyncio.ensure_future(room.hub.trust.credentials.async_rotate("tent-1", "somebody"))
        await waits.wait()
        assert await (await _begin_unload(room))
        go_on.set()
        with pytest.raises(HomeAssistantError) as refused:
            await rotating
    assert refused.value.translation_key == "not_loaded"


async def test_change_that_changes_nothing(tent: RoomDevice) -> None:
    """What somebody else did a moment before is neither written nor recorded again."""
    room = tent.room
    device = room.hub.gateway.registry["tent-1"]
    room.break_store()
    same = await room.hub.enrolment.async_change_credentials("tent-1", lambda each: each.credentials, "nothing", "x")
    assert same is device
    assert await room.audit("nothing") == []


# Silence after a rotation


async def _fall_silent(room: Room) -> None:
    """Let the devices be silent for so long that somebody is told."""
    await room.let_pass(1000)


async def _begin_repair(room: Room) -> tuple[Any, Any]:
    """Open the repair of a device that is silent; return the manager of such flows, and the form."""
    assert await async_setup_component(room.hass, REPAIRS, {})
    manager: Any = repairs_flow_manager(room.hass)
    form = await manager.async_init(DOMAIN, data={"issue_id": SILENT})
    assert (form["type"], form["step_id"]) == ("form", "confirm")
    return manager, form


async def test_silent_after_a_rotation(tent: RoomDevice) -> None:
    """A device that does not take up its new key falls silent, is offered its old one, and is heard again."""
    room = tent.room
    await _report(tent, 21.0)
    settings = await _rotate(room, overlap_hours=0.01)
    await room.let_pass(36)
    await _report(tent, 22.0)
    assert _issue(room, SILENT) is None
    await _fall_silent(room)
    assert room.state("tent-1/temp_c").state == "unavailable"
    issue = _issue(room, SILENT)
    assert issue is not None
    assert (issue.is_fixable, issue.severity) == (True, ir.IssueSeverity.WARNING)
    assert (issue.translation_key, issue.translation_placeholders) == ("silent_after_rotation", {"name": "Tent 1"})
    manager, form = await _begin_repair(room)
    assert (await manager.async_configure(form["flow_id"], {}))["type"] == "create_entry"
    assert _issue(room, SILENT) is None
    await _hello(tent)
    await _report(tent, 23.0)
    assert _shows(room, 23.0)
    assert _life(room) == ["active", "revoked"]
    (restored,) = await room.audit("credential_restored")
    assert (restored["device"], restored["identity"]) == ("tent-1", "administrator")
    late = _renewed(room, settings)
    await _hello(late)
    assert late.protocol.sid is None
    await room.reload()
    await tent.send(tent.sign_reading({"temp_c": 24.0}))
    assert _shows(room, 24.0)


async def test_silent_after_a_rotation_and_a_restart(tent: RoomDevice) -> None:
    """A device that was never heard since the start is offered its old key, too, unless it is to be silent."""
    room = tent.room
    await _report(tent, 21.0)
    await _rotate(room)
    await room.reload()
    assert _issue(room, SILENT) is None
    await room.let_pass(3700)
    assert _issue(room, SILENT) is not None
    ir.async_delete_issue(room.hass, DOMAIN, SILENT)
    await room.hub.enrolment.async_set_status("tent-1", DeviceStatus.DISABLED, "x")
    await room.let_pass(3700)
    assert _issue(room, SILENT) is None


async def test_silent_for_another_reason(tent: RoomDevice) -> None:
    """Where nothing was rotated, nothing is offered."""
    await _report(tent, 21.0)
    await _fall_silent(tent.room)
    assert tent.room.state("tent-1/temp_c").state == "unavailable"
    assert _issue(tent.room, SILENT) is None


async def test_silent_after_it_took_up_the_new_key(tent: RoomDevice) -> None:
    """A device that is silent days after it took up its new key would be cut off by its old one: it is not offered."""
    room = tent.room
    await _report(_renewed(room, await _rotate(room)), 21.0)
    await _fall_silent(room)
    assert room.state("tent-1/temp_c").state == "unavailable"
    assert _issue(room, SILENT) is None
    # Who knows better may restore it all the same.
    await _restore(room)
    await _hello(tent)
    await _report(tent, 22.0)
    assert _shows(room, 22.0)


async def test_silent_device_takes_up_the_new_key(tent: RoomDevice) -> None:
    """The offer is withdrawn when the device turns out to have only been late."""
    room = tent.room
    await _report(tent, 21.0)
    settings = await _rotate(room)
    await _fall_silent(room)
    assert _issue(room, SILENT) is not None
    await _report(_renewed(room, settings), 22.0)
    assert _issue(room, SILENT) is None


@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
async def test_silent_device_that_the_broker_vouches_for(
    room: Room, findings: dict[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody tells of the first use of a password: it is offered as long as it can be restored."""
    del findings
    caplog.set_level(logging.DEBUG)
    settings = await _enrol_plain(room, "broker")
    room.hub.gateway.broker_enforced = True
    reading = json.dumps({"metrics": {"temp_c": 21.0}}).encode()
    await room.receive("grokmon/v1/tent-1/up/telemetry", reading)
    rotated = await _rotate(room, overlap_hours=0.5)
    assert rotated["username"] != settings["username"]
    await room.let_pass(HOUR)
    assert _life(room, CredentialKind.PASSWORD) == ["retiring", "active"]
    assert _issue(room, SILENT) is not None
    await _restore(room)
    assert _issue(room, SILENT) is None
    assert _life(room, CredentialKind.PASSWORD) == ["active", "revoked"]
    needles = of_bytes("old", settings["password"].encode()) | of_bytes("new", rotated["password"].encode())
    assert await leaks(room, caplog, needles) == []


@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
@pytest.mark.parametrize("end", ["heard", "revoked", "too late"])
async def test_offer_ends_where_there_is_nothing_to_offer(room: Room, findings: dict[Any, Any], end: str) -> None:
    """A device that is heard with its new password is not to be cut off; nor is there an offer that cannot be taken."""
    del findings
    await _enrol_plain(room, "broker")
    room.hub.gateway.broker_enforced = True
    reading = json.dumps({"metrics": {"temp_c": 21.0}}).encode()
    await room.receive("grokmon/v1/tent-1/up/telemetry", reading)
    await _rotate(room, overlap_hours=0.5)
    await room.let_pass(HOUR)
    assert _issue(room, SILENT) is not None
    if end == "heard":
        room.hub.gateway.broker_enforced = True
        await room.receive("grokmon/v1/tent-1/up/telemetry", reading)
    elif end == "revoked":
        await room.hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "x")
    else:
        await room.let_pass(8 * 24 * HOUR)
        await room.let_pass(HOUR)
    assert _issue(room, SILENT) is None


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [("removed", "unknown_device"), ("revoked", "device_revoked"), ("restored", "credential_unknown")],
)
async def test_repair_comes_too_late(tent: RoomDevice, obstacle: str, reason: str) -> None:
    """Somebody was faster, in one way or another."""
    room = tent.room
    await _report(tent, 21.0)
    await _rotate(room)
    await _fall_silent(room)
    manager, form = await _begin_repair(room)
    if obstacle == "removed":
        await room.remove()
        assert _issue(room, SILENT) is None
    elif obstacle == "revoked":
        await room.call("revoke_device", {"device_id": "tent-1"})
    else:
        await _restore(room)
    done = await manager.async_configure(form["flow_id"], {})
    assert (done["type"], done["reason"]) == ("abort", reason)


async def test_repair_after_the_device_came_back(tent: RoomDevice) -> None:
    """A dialog that was left open takes nothing away from a device that took up its new key meanwhile."""
    room = tent.room
    renewed = _renewed(room, await _rotate(room))
    await _fall_silent(room)
    manager, form = await _begin_repair(room)
    await _report(renewed, 21.0)
    done = await manager.async_configure(form["flow_id"], {})
    assert (done["type"], done["reason"]) == ("abort", "credential_unknown")
    assert _life(room) == ["retiring", "active"]


async def test_two_repair_at_once(tent: RoomDevice) -> None:
    """Of two administrators who confirm the same, the second does not go one further back."""
    room = tent.room
    second = _renewed(room, await _rotate(room))
    await _report(second, 21.0)
    await _rotate(room)
    await _fall_silent(room)
    manager, form = await _begin_repair(room)
    _, other = await _begin_repair(room)
    done = await asyncio.gather(*(manager.async_configure(each["flow_id"], {}) for each in (form, other)))
    assert [each["type"] for each in done] == ["create_entry", "abort"]
    assert _life(room) == ["retiring", "active", "revoked"]
    await _hello(second)
    await _report(second, 22.0)
    assert _shows(room, 22.0)


async def test_repair_while_the_trail_fails(tent: RoomDevice) -> None:
    """Who repairs is told that it cannot be recorded, and the offer stays."""
    room = tent.room
    await _rotate(room)
    await _fall_silent(room)
    manager, form = await _begin_repair(room)
    with room.broken_trail():
        done = await manager.async_configure(form["flow_id"], {})
    assert (done["type"], done["reason"]) == ("abort", "audit_unavailable")
    assert (_life(room), _issue(room, SILENT) is not None) == (["retiring", "pending"], True)


async def test_repair_while_the_disk_fails(tent: RoomDevice) -> None:
    """Who repairs is told so, the offer stays, and the next try succeeds."""
    room = tent.room
    await _report(tent, 21.0)
    await _rotate(room)
    await _fall_silent(room)
    room.break_store()
    manager, form = await _begin_repair(room)
    done = await manager.async_configure(form["flow_id"], {})
    assert (done["type"], done["reason"]) == ("abort", "store_not_written")
    assert _issue(room, SILENT) is not None
    room.repair_store()
    manager, form = await _begin_repair(room)
    assert (await manager.async_configure(form["flow_id"], {}))["type"] == "create_entry"


# Restoring


async def test_restores_by_the_service(tent: RoomDevice) -> None:
    """The response says how the credentials stand now, without a secret."""
    room = tent.room
    await _rotate(room)
    response = await _restore(room)
    assert response["device_id"] == "tent-1"
    assert [(each["kind"], each["state"]) for each in response["credentials"]] == [
        ("key", "active"),
        ("key", "revoked"),
    ]
    assert all(
        each.keys() == {"kind", "key_id", "state", "not_before", "not_after"} for each in response["credentials"]
    )
    assert [entry["identity"] for entry in await room.audit("credential_restored")] == [room.admin.user_id]


async def test_nothing_to_restore(tent: RoomDevice) -> None:
    """Where nothing was replaced, or what was is in use again, there is nothing to restore."""
    room = tent.room
    assert await _refusal(room, "restore_credentials", {"device_id": "tent-1"}) == "credential_unknown"
    await _rotate(room)
    await _restore(room)
    assert await _refusal(room, "restore_credentials", {"device_id": "tent-1"}) == "credential_unknown"
    assert len(await room.audit("credential_restored")) == 1


async def test_restorable_for_seven_days(tent: RoomDevice) -> None:
    """What is over for a week is gone; a moment before it can be restored."""
    room = tent.room
    await _report(_renewed(room, await _rotate(room)), 21.0)
    room.freezer.tick(RESTORABLE - 1)
    assert room.hub.trust.credentials.can_restore(room.hub.gateway.registry["tent-1"])
    room.freezer.tick(1)
    assert await _refusal(room, "restore_credentials", {"device_id": "tent-1"}) == "credential_unknown"


async def test_expired_key_is_not_restored(tent: RoomDevice) -> None:
    """What has expired does not come back."""
    room = tent.room
    room.freezer.tick(LIFETIMES[CredentialKind.KEY] - HOUR)
    await _rotate(room)
    room.freezer.tick(HOUR)
    assert await _refusal(room, "restore_credentials", {"device_id": "tent-1"}) == "credential_unknown"


async def test_only_the_last_is_restored(tent: RoomDevice) -> None:
    """After two rotations the one before the last comes back, and the one before that stays over."""
    room = tent.room
    second = _renewed(room, await _rotate(room))
    await _report(second, 21.0)
    await _rotate(room)
    await _restore(room)
    assert _life(room) == ["retiring", "active", "revoked"]
    await _hello(tent)
    await _report(second, 22.0)
    assert (_shows(room, 22.0), _refused(room)) == (True, {"credential_expired": 1})


@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
async def test_what_was_taken_up_stays(tent: RoomDevice) -> None:
    """To restore a password that was rotated alone takes no key away that the device took up days before."""
    room = tent.room
    renewed = _renewed(room, await _rotate(room))
    await _report(renewed, 21.0)
    await room.let_pass(2 * DAY)
    await _rotate(room, kinds=["password"])
    await _restore(room)
    assert _life(room) == ["retiring", "active"]
    assert _life(room, CredentialKind.PASSWORD) == ["retiring", "active", "revoked"]
    await _hello(renewed)
    await _report(renewed, 22.0)
    assert (_shows(room, 22.0), _refused(room)) == (True, {})


@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
async def test_issued_together_at_one_time(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes to make keys, what is issued together is known by that it bears the same time."""
    clock = count(room.now)
    for module in (enrolment, credential_keeper):
        monkeypatch.setattr(module, "time", lambda: next(clock))
    await room.enrol()
    await _rotate(room)
    issued = [each.created for each in room.hub.gateway.registry["tent-1"].credentials]
    assert (len(issued), len(set(issued))) == (4, 2)


@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
async def test_restored_is_what_was_handed_out_together(tent: RoomDevice) -> None:
    """After two rotations that the device took no part in, its key and its password come back, after a restart too."""
    room = tent.room
    await room.let_pass(60)
    await _rotate(room)
    await room.let_pass(60)
    await _rotate(room)
    await room.reload()
    await _restore(room)
    assert _life(room) == _life(room, CredentialKind.PASSWORD) == ["active", "revoked", "revoked"]
    await _report(tent, 22.0)
    assert _shows(room, 22.0)


# Expiry


async def test_sensor_says_when(room: Room) -> None:
    """The sensor shows the first of what expires; after a rotation it shows the end of the new one."""
    await room.enrol()
    await room.enable_everything()
    await room.let_pass(10)

    def shown() -> float:
        return datetime.fromisoformat(room.state("tent-1/credential_expires").state).timestamp()

    assert shown() == room.hub.gateway.registry["tent-1"].credentials[0].not_after
    await room.call("issue_access_token", {"device_id": "tent-1"})
    token_until = room.now + LIFETIMES[CredentialKind.TOKEN]
    await room.let_pass(10)
    assert shown() == token_until
    await room.let_pass(HOUR)
    await _rotate(room)
    await room.let_pass(10)
    assert shown() == room.now - 10 + LIFETIMES[CredentialKind.TOKEN]


@pytest.mark.parametrize(
    ("options", "auth", "kind"),
    [
        ({}, "hs256", CredentialKind.KEY),
        (WITH_ACCOUNTS, "broker", CredentialKind.PASSWORD),
        ({}, "token", CredentialKind.TOKEN),
    ],
)
async def test_issue_two_weeks_before(room: Room, auth: str, kind: CredentialKind) -> None:
    """Two weeks before something expires an issue says what it is, until it was rotated."""
    enrolled = await _enrol_plain(room, auth)
    if kind is CredentialKind.KEY:
        await _report(_renewed(room, enrolled), 21.0)
    if kind is CredentialKind.TOKEN:
        _post(room, enrolled["token"], 21.0)
    await room.let_pass(LIFETIMES[kind] - WARN_BEFORE - 1)
    assert _issue(room, EXPIRES) is None
    await room.let_pass(HOUR)
    issue = _issue(room, EXPIRES)
    assert issue is not None
    assert issue.translation_key == f"credential_expires_{kind.value}"
    assert issue.translation_placeholders is not None
    assert issue.translation_placeholders["name"] == "Tent 1"
    datetime.fromisoformat(issue.translation_placeholders["date"])
    await _rotate(room)
    assert _issue(room, EXPIRES) is None
    await _restore(room)
    assert _issue(room, EXPIRES) is not None


async def test_issue_of_a_certificate(tent: RoomDevice) -> None:
    """A certificate is not rotated: a new one is signed, and the issue is gone."""
    room = tent.room
    await room.call("sign_certificate", {"device_id": "tent-1", "days": 15})
    await room.let_pass(DAY - 60)
    assert _issue(room, EXPIRES) is None
    await room.let_pass(HOUR)
    issue = _issue(room, EXPIRES)
    assert issue is not None
    assert issue.translation_key == "credential_expires_certificate"
    await room.call("sign_certificate", {"device_id": "tent-1"})
    assert _issue(room, EXPIRES) is None


async def test_issue_goes_with_the_device(tent: RoomDevice) -> None:
    """Nobody is told of the key of a device that is no more."""
    room = tent.room
    await room.let_pass(LIFETIMES[CredentialKind.KEY])
    assert _issue(room, EXPIRES) is not None
    await room.remove()
    assert _issue(room, EXPIRES) is None


async def test_expired_key_is_refused(tent: RoomDevice) -> None:
    """At the end of its year a key opens nothing, not even a session, until it was rotated."""
    room = tent.room
    await _report(tent, 21.0)
    await room.let_pass(LIFETIMES[CredentialKind.KEY])
    await _report(tent, 22.0)
    await _hello(tent)
    assert _refused(room) == {"credential_expired": 2}
    await _report(_renewed(room, await _rotate(room)), 23.0)
    assert _shows(room, 23.0)
    await _report(tent, 24.0)
    assert _refused(room) == {"credential_expired": 3}


async def test_week_old_credentials_are_revoked_and_then_forgotten(tent: RoomDevice) -> None:
    """A week after its end the secret of an old key is destroyed; its record stays until it would have expired."""
    room = tent.room
    await _report(_renewed(room, await _rotate(room)), 21.0)
    await room.let_pass(RESTORABLE - 60)
    assert _life(room) == ["retiring", "active"]
    await room.let_pass(HOUR)
    assert _life(room) == _stored_life(room) == ["revoked", "active"]
    old, _ = room.stored()["devices"]["tent-1"]["credentials"]
    assert old["secret"] == ""
    (settled,) = await room.audit("settled")
    assert (settled["device"], settled["key_ids"]) == ("tent-1", [old["key_id"]])
    await _hello(tent)
    assert _refused(room) == {"signature_invalid": 1}
    await room.let_pass(LIFETIMES[CredentialKind.KEY] - RESTORABLE)
    assert _life(room) == ["active"]


async def test_looks_once_an_hour(tent: RoomDevice) -> None:
    """Looking at all credentials is not worth doing every ten seconds."""
    room = tent.room
    keeper = room.hub.trust.credentials
    assert not keeper.is_due(room.now + HOUR - 1)
    assert keeper.is_due(room.now + HOUR)
    # By a clock that was set back, too.
    assert keeper.is_due(room.now - HOUR)
    looked = []

    async def look(now: float) -> None:
        looked.append(now)
        keeper._looked_at = now

    with patch.object(keeper, "async_look", look):
        for _ in range(12):
            await room.let_pass(600)
    assert len(looked) == 2


# One, a zone, all, or what is due


async def test_rotates_a_zone(room: Room) -> None:
    """Only the devices of the zone get new credentials."""
    await room.add_zone("Flower tent")
    await room.add_zone("Veg tent")
    for name, zone in (("a", "Flower tent"), ("b", "Flower tent"), ("c", "Veg tent")):
        await room.enrol(name, zone=zone)
    await room.enrol("d")
    response = await room.call("rotate_credentials", {"zone": "flower TENT"})
    assert [each["device_id"] for each in response["devices"]] == ["a", "b"]
    assert response["left_out"] == []
    assert {name: len(_life(room, device_id=name)) for name in "abcd"} == {"a": 2, "b": 2, "c": 1, "d": 1}
    assert await _refusal(room, "rotate_credentials", {"zone": "Nowhere"}) == "unknown_zone"


async def test_rotates_all(room: Room) -> None:
    """What cannot be rotated without a person is left out, and says why; nothing of the rest waits for it."""
    key = generate_key_pair("eddsa")
    shared = await room.enrol("a-shared")
    await _report(shared, 20.0)
    await room.enrol("b-own-key", auth="eddsa", public_key=public_pem(key), private_key=key)
    await room.enrol("c-revoked")
    await room.call("revoke_device", {"device_id": "c-revoked"})
    response = await room.call("rotate_credentials")
    assert [each["device_id"] for each in response["devices"]] == ["a-shared"]
    assert response["left_out"] == [
        {"device_id": "b-own-key", "code": "public_key_invalid"},
        {"device_id": "c-revoked", "code": "device_revoked"},
    ]
    await _report(_renewed(room, response["devices"][0]), 21.0)
    await _report(shared, 22.0)
    assert room.hub.refused_by_code("a-shared") == {"credential_expired": 1}


@pytest.mark.parametrize(
    "data",
    [
        {"device_id": "tent-1", "zone": "Flower tent"},
        {"kinds": ["secret"]},
        {"overlap_hours": -1},
        {"overlap_hours": 169},
        {"overlap_hours": "nan"},
        {"everything": True},
    ],
)
async def test_refuses_what_is_out_of_form(tent: RoomDevice, data: dict[str, Any]) -> None:
    """The form of a call is checked before anything is rotated."""
    with pytest.raises(probatio.Invalid):
        await tent.room.call("rotate_credentials", data)
    assert _life(tent.room) == ["active"]


async def test_rotates_chosen_kinds(tent: RoomDevice) -> None:
    """What was not asked for stays; a kind that the device does not have, or that is signed, is refused by name."""
    room = tent.room
    await room.call("issue_access_token", {"device_id": "tent-1"})
    await room.call("sign_certificate", {"device_id": "tent-1"})
    settings = await _rotate(room, kinds=["token", "password"])
    assert (_life(room), _life(room, CredentialKind.TOKEN), _life(room, CredentialKind.CERTIFICATE)) == (
        ["active"],
        ["revoked", "pending"],
        ["pending"],
    )
    assert settings["token"]
    for kinds in ([], ["password"], ["certificate"]):
        wanted = {"device_id": "tent-1", "kinds": kinds}
        assert await _refusal(room, "rotate_credentials", wanted) == "credential_unknown"


async def test_token_is_rotated_over_http(room: Room) -> None:
    """An access token holds until the next one is used, and not a request longer."""
    enrolled = await _enrol_plain(room, "token")
    _post(room, enrolled["token"], 21.0)
    rotated = await _rotate(room)
    _post(room, enrolled["token"], 22.0)
    # To show a token is no use of it: only what is accepted under it is.
    room.hub.async_authenticate(rotated["token"].encode(), room.now)
    _post(room, enrolled["token"], 23.0)
    _post(room, rotated["token"], 24.0)
    with pytest.raises(GatewayError) as refused:
        _post(room, enrolled["token"], 25.0)
    assert refused.value.code is Code.CREDENTIAL_EXPIRED
    await room.settle()
    assert _life(room, CredentialKind.TOKEN) == _stored_life(room) == ["retiring", "active"]


async def test_rotates_what_is_due(room: Room) -> None:
    """Exactly what expires within two weeks is rotated, and nothing else of the same device."""
    await room.enrol("fresh-later")
    await room.enrol("with-token")
    await room.call("issue_access_token", {"device_id": "with-token"})
    _post(room, (await _enrol_plain(room, "token", "logger"))["token"], 21.0)
    await _enrol_plain(room, "token", "revoked")
    await room.call("revoke_device", {"device_id": "revoked"})
    assert await room.call("rotate_due") == {"devices": [], "left_out": []}
    room.freezer.tick(LIFETIMES[CredentialKind.TOKEN] - WARN_BEFORE - 1)
    assert await room.call("rotate_due") == {"devices": [], "left_out": []}
    room.freezer.tick(1)
    assert await room.call("rotate_due", {"kinds": ["key"]}) == {"devices": [], "left_out": []}
    response = await room.call("rotate_due", {"overlap_hours": 2})
    assert [each["device_id"] for each in response["devices"]] == ["with-token", "logger"]
    assert (_life(room, CredentialKind.TOKEN, "with-token"), _life(room, CredentialKind.KEY, "with-token")) == (
        ["revoked", "pending"],
        ["pending"],
    )
    old, _ = room.hub.gateway.registry["logger"].credentials
    assert (old.state, old.ends) == (CredentialState.RETIRING, room.now + 2 * HOUR)
    assert await room.call("rotate_due") == {"devices": [], "left_out": []}


async def test_due_certificate_is_named(tent: RoomDevice) -> None:
    """A certificate that is due has to be signed: its device is left out and named, and its key not touched."""
    room = tent.room
    await room.call("sign_certificate", {"device_id": "tent-1", "days": 10})
    response = await room.call("rotate_due")
    assert response == {"devices": [], "left_out": [{"device_id": "tent-1", "code": "credential_unknown"}]}
    assert _life(room) == ["active"]


SERVICES = {
    "rotate_credentials": {"device_id": "tent-1"},
    "rotate_due": {},
    "restore_credentials": {"device_id": "tent-1"},
}


@pytest.mark.parametrize("service", SERVICES)
async def test_administrators_only(tent: RoomDevice, hass_read_only_user: User, service: str) -> None:
    """Neither a user of the household nor an automation changes credentials."""
    room = tent.room
    await _rotate(room)
    before = room.hub.gateway.registry["tent-1"]
    for context in (Context(), Context(user_id=hass_read_only_user.id), Context(user_id="deleted")):
        with pytest.raises(Unauthorized):
            await room.call(service, SERVICES[service], context)
    assert room.hub.gateway.registry["tent-1"] is before


# Secrets


@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
async def test_secrets_of_a_rotation_are_nowhere(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """Through a whole life of credentials no secret is in the log at debug, the trail, the states or a file."""
    caplog.set_level(logging.DEBUG)
    enrolled = await room.call("enroll_device", {"device_id": "tent-1", "name": "Tent 1", "metrics": ["temp_c"]})
    tent = _renewed(room, enrolled)
    await _report(tent, 21.0)
    token = await room.call("issue_access_token", {"device_id": "tent-1"})
    certificate = await room.call("sign_certificate", {"device_id": "tent-1"})
    rotations = [enrolled, await _rotate(room), await _rotate(room)]
    await _report(_renewed(room, rotations[-1]), 22.0)
    await _report(tent, 23.0)
    room.break_store()
    await _fails(room, "rotate_credentials", {"device_id": "tent-1"})
    room.repair_store()
    await _restore(room)
    await room.let_pass(RESTORABLE + HOUR)
    needles: Needles = of_bytes("token", token["token"].rpartition(".")[2].encode())
    private = [line for line in certificate["private_key"].splitlines() if not line.startswith("-")]
    needles |= {line.encode(): "private key" for line in private}
    for number, settings in enumerate(rotations):
        needles |= of_root_key(f"key {number}", settings["key"])
        needles |= of_bytes(f"password {number}", settings["password"].encode())
    assert await leaks(room, caplog, needles) == []
    # And what is there is found.
    assert any("log" not in each for each in await leaks(room, caplog, {b"first_used": "event"}))


async def test_credential_states_are_all_seen(room: Room) -> None:
    """A key goes through every state of the list, in order."""
    tent = await room.enrol()
    seen = [_life(room)[0]]
    await _report(tent, 21.0)
    seen.append(_life(room)[0])
    await _rotate(room)
    seen.append(_life(room)[0])
    await room.let_pass(OVERLAP + RESTORABLE + HOUR)
    seen.append(_life(room)[0])
    assert seen == [state.value for state in CredentialState]
