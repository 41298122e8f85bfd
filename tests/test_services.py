"""The services for administrators."""

import asyncio
from typing import Any

from homeassistant.auth.const import GROUP_ID_ADMIN
from homeassistant.auth.models import User
from homeassistant.core import Context
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import probatio
import pytest

from custom_components.grokmon.callers import async_note_model
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.models import DeviceStatus

from .common import Room, RoomDevice
from .device_simulator.credentials import Auth, DeviceIdentity, generate_key_pair, public_pem
from .device_simulator.protocol import DeviceProtocol

ENROL: dict[str, Any] = {"device_id": "tent-1", "name": "Tent 1", "metrics": ["temp_c"]}
CALLS: dict[str, dict[str, Any]] = {
    "enroll_device": {**ENROL, "device_id": "tent-2"},
    "rotate_credentials": {"device_id": "tent-1"},
    "rotate_due": {},
    "restore_credentials": {"device_id": "tent-1"},
    "revoke_device": {"device_id": "tent-1"},
    "list_devices": {},
    "verify_audit": {},
}
TOPICS = {
    "hello": "grokmon/v1/tent-1/up/hello",
    "telemetry": "grokmon/v1/tent-1/up/telemetry",
    "state": "grokmon/v1/tent-1/up/state",
    "ack": "grokmon/v1/tent-1/up/ack",
    "status": "grokmon/v1/tent-1/up/status",
    "session": "grokmon/v1/tent-1/down/session",
    "command": "grokmon/v1/tent-1/down/command",
}


# Who may call


@pytest.mark.parametrize("service", CALLS)
async def test_automation_may_not(tent: RoomDevice, service: str) -> None:
    """A call without a user, as from an automation or a script, is refused."""
    with pytest.raises(Unauthorized):
        await tent.room.call(service, CALLS[service], Context())
    assert list(tent.room.hub.enrolment.coordinators) == ["tent-1"]
    assert await tent.room.audit("rotated", "revoked", "verified") == []


async def test_script_of_an_administrator_may_not(tent: RoomDevice) -> None:
    """A script keeps what it is answered in its trace, in clear: whoever runs it, it gets no credentials."""
    room = tent.room
    rotation = {"action": "grokmon.rotate_credentials", "data": {"device_id": "tent-1"}, "response_variable": "got"}
    assert await async_setup_component(room.hass, "script", {"script": {"rotate": {"sequence": [rotation]}}})
    before = room.hub.gateway.registry["tent-1"]
    with pytest.raises(ServiceValidationError) as refused:
        await room.hass.services.async_call("script", "rotate", blocking=True, context=room.admin)
    assert refused.value.translation_key == "not_by_hand"
    assert room.hub.gateway.registry["tent-1"] == before
    (entry,) = await room.audit("service_refused")
    assert (entry["service"], entry["via"], entry["reason"]) == ("rotate_credentials", "script.rotate", "not_by_hand")


async def test_refused_calls_are_counted(tent: RoomDevice, hass_read_only_user: User) -> None:
    """Who calls again and again stands in the trail once, and then as a number."""
    room = tent.room
    for _ in range(3):
        with pytest.raises(Unauthorized):
            await room.call("list_devices", {}, Context(user_id=hass_read_only_user.id))
    await room.let_pass(61)
    (again,) = await room.audit("service_refused_again")
    assert (again["service"], again["identity"], again["count"]) == ("list_devices", hass_read_only_user.id, 2)


@pytest.mark.parametrize("service", CALLS)
async def test_user_who_is_no_administrator_may_not(tent: RoomDevice, hass_read_only_user: User, service: str) -> None:
    """A user of the household does not manage credentials."""
    with pytest.raises(Unauthorized):
        await tent.room.call(service, CALLS[service], Context(user_id=hass_read_only_user.id))
    (refused,) = await tent.room.audit("service_refused")
    assert (refused["identity"], refused["reason"]) == (hass_read_only_user.id, "not_administrator")
    assert list(tent.room.hub.enrolment.coordinators) == ["tent-1"]


@pytest.mark.parametrize("service", CALLS)
async def test_unknown_user_may_not(tent: RoomDevice, service: str) -> None:
    """A user who was deleted since is nobody."""
    with pytest.raises(Unauthorized):
        await tent.room.call(service, CALLS[service], Context(user_id="deleted"))


@pytest.mark.parametrize("service", CALLS)
async def test_model_in_the_name_of_an_administrator_may_not(tent: RoomDevice, service: str) -> None:
    """Whatever a model calls with a person's login, scripts included, is the model's."""
    room = tent.room

    async def act() -> None:
        async_note_model(room.hass, room.admin, "agent")
        await room.call(service, CALLS[service])

    with pytest.raises(ServiceValidationError) as refused:
        await room.hass.async_create_task(act())
    assert refused.value.translation_key == "not_by_hand"
    assert await room.audit("rotated", "revoked", "verified") == []


async def test_administrator_who_was_deactivated_may_not(tent: RoomDevice) -> None:
    """An administrator's token outlives the administrator by a moment; the right does not."""
    user = await tent.room.hass.auth.async_create_user("Former grower", group_ids=[GROUP_ID_ADMIN])
    assert await tent.room.call("list_devices", context=Context(user_id=user.id))
    await tent.room.hass.auth.async_deactivate_user(user)
    with pytest.raises(Unauthorized):
        await tent.room.call("list_devices", context=Context(user_id=user.id))


@pytest.mark.parametrize("service", CALLS)
async def test_needs_a_running_hub(tent: RoomDevice, service: str) -> None:
    """While the hub does not run, the services say so."""
    assert await tent.room.hass.config_entries.async_unload(tent.room.entry.entry_id)
    assert (await tent.room.refusal(service, CALLS[service])).translation_key == "not_loaded"


# Enrolling


async def test_enrols(room: Room) -> None:
    """The response holds everything that a device needs, and the device speaks with it."""
    response = await room.call("enroll_device", ENROL)
    assert response == {
        "device_id": "tent-1",
        "auth": "hs256",
        "prefix": "grokmon",
        "topics": TOPICS,
        "key": response["key"],
    }
    assert len(response["key"]) == 43
    subentry = room.subentry()
    assert (subentry.title, subentry.unique_id) == ("Tent 1", "tent-1")
    device = RoomDevice(room, DeviceProtocol(DeviceIdentity.from_enrolment(response)))
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
    assert [entry["identity"] for entry in await room.audit("enrolled")] == [room.admin.user_id]


@pytest.mark.parametrize("auth", ["es256", "eddsa"])
async def test_enrols_a_key_pair(room: Room, auth: Auth) -> None:
    """A device with its own key pair gets the site's public key, and no secret."""
    key = generate_key_pair(auth)
    response = await room.call("enroll_device", ENROL | {"auth": auth, "public_key": public_pem(key)})
    assert response.keys() == {"device_id", "auth", "prefix", "topics", "site_public_key"}
    assert response["site_public_key"].startswith("-----BEGIN PUBLIC KEY-----")
    device = RoomDevice(room, DeviceProtocol(DeviceIdentity.from_enrolment(response, key)))
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
    other = await room.call("enroll_device", ENROL | {"device_id": "b", "auth": auth, "public_key": public_pem(key)})
    assert other["site_public_key"] == response["site_public_key"]


async def test_enrols_with_zone_and_rate_limit(room: Room) -> None:
    """A zone is named as the user names it."""
    await room.add_zone("Veg tent")
    zone = await room.add_zone("Flower tent")
    await room.call("enroll_device", ENROL | {"name": " Tent 1 ", "zone": "flower TENT", "rate_limit": 12})
    assert room.subentry().title == "Tent 1"
    assert dict(room.subentry().data) == {
        "device_id": "tent-1",
        "zone": zone.subentry_id,
        "metrics": ["temp_c"],
        "ranges": {},
        "rate_limit": 12,
    }


@pytest.mark.parametrize(
    ("changed", "key", "placeholders"),
    [
        ({"device_id": "Tent 1"}, "device_id_invalid", {"detail": "Tent 1"}),
        ({"metrics": ["temp_c", "plasma_flux"]}, "metric_unknown", {"detail": "plasma_flux"}),
        ({"rate_limit": 0}, "rate_limit_invalid", {"detail": "1 to 6000"}),
        ({"rate_limit": 6001}, "rate_limit_invalid", {"detail": "1 to 6000"}),
        ({"zone": "Nowhere"}, "unknown_zone", {"zone": "Nowhere"}),
        ({"auth": "es256"}, "public_key_invalid", {"detail": "not a public key in PEM"}),
        ({"auth": "eddsa", "public_key": "no PEM"}, "public_key_invalid", {"detail": "not a public key in PEM"}),
    ],
)
async def test_refuses_to_enrol(room: Room, changed: dict[str, Any], key: str, placeholders: dict[str, str]) -> None:
    """What cannot be enrolled is refused in words, and leaves nothing behind."""
    error = await room.refusal("enroll_device", ENROL | changed)
    assert error.translation_key == key
    assert error.translation_placeholders == placeholders
    assert not room.entry.subentries
    assert room.stored()["devices"] == {}
    await room.call("enroll_device", ENROL)


@pytest.mark.parametrize(
    "changed", [{"actuators": ["light"]}, {"name": ""}, {"name": "   "}, {"name": "x" * 65}, {"auth": "none"}]
)
async def test_refuses_what_is_out_of_form(room: Room, changed: dict[str, Any]) -> None:
    """The form of a call is checked before anything else."""
    with pytest.raises(probatio.Invalid):
        await room.call("enroll_device", ENROL | changed)
    assert not room.entry.subentries


async def test_identifier_belongs_to_one_device(tent: RoomDevice) -> None:
    """Enrolling a second device under the same identifier changes nothing for the first."""
    before = tent.room.stored()
    error = await tent.room.refusal("enroll_device", ENROL)
    assert (error.translation_key, error.translation_placeholders) == ("device_exists", {"detail": "tent-1"})
    assert tent.room.stored() == before
    await tent.report({"temp_c": 21.5})
    assert tent.room.state("tent-1/temp_c").state == "21.5"


async def test_identifier_of_a_device_without_a_credential_is_taken(tent: RoomDevice) -> None:
    """A device that lost its credential must be removed first; otherwise it would come back with a key nobody saw."""
    room = tent.room
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    (room.storage / "grokmon.security").unlink()
    assert await room.set_up()
    assert (await room.refusal("enroll_device", ENROL)).translation_key == "device_exists"
    assert room.stored()["devices"] == {}
    assert room.hub.enrolment.coordinators == {}


async def test_enrols_many_at_once(room: Room) -> None:
    """A program may enrol a whole room in parallel; every device is kept, on the disk as well."""
    device_ids = [f"tent-{number}" for number in range(20)]
    responses = await asyncio.gather(
        *(room.call("enroll_device", ENROL | {"device_id": device_id}) for device_id in device_ids)
    )
    assert [response["device_id"] for response in responses] == device_ids
    assert room.stored()["devices"].keys() == set(device_ids)
    assert room.hub.enrolment.coordinators.keys() == set(device_ids)


async def test_same_identifier_at_once(room: Room) -> None:
    """Of two calls at the same time one enrols the device and the other is refused."""
    calls = [room.call("enroll_device", ENROL) for _ in range(2)]
    first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(second, ServiceValidationError)
    assert second.translation_key == "device_exists"
    assert isinstance(first, dict)
    device = RoomDevice(room, DeviceProtocol(DeviceIdentity.from_enrolment(first)))
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_disk_fails_while_a_device_is_enrolled(room: Room) -> None:
    """A device whose credential could not be kept is not enrolled."""
    room.break_store()
    with pytest.raises(HomeAssistantError) as failed:
        await room.call("enroll_device", ENROL)
    assert failed.value.translation_key == "store_not_written"
    assert not room.entry.subentries
    assert room.hub.enrolment.coordinators == {}
    assert await room.audit("enrolled") == []
    room.repair_store()
    assert (await room.call("enroll_device", ENROL))["device_id"] == "tent-1"


# Rotating and revoking


async def test_rotates(tent: RoomDevice) -> None:
    """The response is that of an enrolment with a new key; the old one holds until the new one is used."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    response = await room.call("rotate_credentials", {"device_id": "tent-1"})
    assert response.keys() == {"devices", "left_out"}
    assert response["left_out"] == []
    (settings,) = response["devices"]
    assert settings.keys() == {"device_id", "auth", "prefix", "topics", "key"}
    assert settings["topics"] == TOPICS
    await tent.report({"temp_c": 22.0})
    assert room.state("tent-1/temp_c").state == "22.0"
    rotated = RoomDevice(room, DeviceProtocol(DeviceIdentity.from_enrolment(settings)))
    await rotated.report({"temp_c": 23.0})
    assert room.state("tent-1/temp_c").state == "23.0"
    await tent.report({"temp_c": 22.0})
    assert room.hub.refused_by_code("tent-1") == {"credential_expired": 1}
    assert [entry["identity"] for entry in await room.audit("rotated")] == [room.admin.user_id]
    used = [each.key_id for each in room.hub.gateway.registry["tent-1"].credentials]
    assert [entry["key_id"] for entry in await room.audit("first_used")] == used
    await room.reload()
    await rotated.send(rotated.sign_reading({"temp_c": 24.0}))
    assert room.state("tent-1/temp_c").state == "24.0"


async def test_rotates_a_key_pair(room: Room) -> None:
    """A device with its own key pair brings the new public key."""
    old, new = generate_key_pair("eddsa"), generate_key_pair("eddsa")
    await room.enrol(auth="eddsa", public_key=public_pem(old), private_key=old)
    error = await room.refusal("rotate_credentials", {"device_id": "tent-1"})
    assert error.translation_key == "public_key_invalid"
    response = await room.call("rotate_credentials", {"device_id": "tent-1", "public_key": public_pem(new)})
    (settings,) = response["devices"]
    device = RoomDevice(room, DeviceProtocol(DeviceIdentity.from_enrolment(settings, new)))
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_rotates_without_an_overlap(tent: RoomDevice) -> None:
    """The old key ends at once where that was asked for, and stays so after a restart."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await room.call("rotate_credentials", {"device_id": "tent-1", "overlap_hours": 0})
    await tent.report({"temp_c": 22.0})
    assert room.hub.refused_by_code("tent-1") == {"signature_invalid": 1}
    await room.reload()
    await tent.report({"temp_c": 22.0})
    assert room.hub.refused_by_code("tent-1") == {"signature_invalid": 1}


async def test_rotated_device_stays_disabled(tent: RoomDevice) -> None:
    """A new key does not let a disabled device in."""
    room = tent.room
    menu = await room.start_flow("device", room.subentry().subentry_id)
    await room.submit(await room.submit(menu, {"next_step_id": "disable"}))
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    assert room.stored()["devices"]["tent-1"]["status"] == "disabled"
    assert (await room.call("list_devices"))["devices"][0]["status"] == "disabled"


async def test_disk_fails_while_a_key_is_rotated(tent: RoomDevice) -> None:
    """The old key goes on where the new one could not be kept."""
    room = tent.room
    room.break_store()
    with pytest.raises(HomeAssistantError) as failed:
        await room.call("rotate_credentials", {"device_id": "tent-1"})
    assert failed.value.translation_key == "store_not_written"
    await tent.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
    room.repair_store()
    await room.enrol("tent-2")
    await room.reload()
    await tent.report({"temp_c": 22.5})
    assert room.state("tent-1/temp_c").state == "22.5"


async def test_revokes(tent: RoomDevice) -> None:
    """A revoked device is refused, now and after a restart."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    response = await room.call("revoke_device", {"device_id": "tent-1"})
    assert response == {"device_id": "tent-1", "status": "revoked"}
    await tent.report({"temp_c": 22.0})
    assert room.hub.refused_by_code("tent-1") == {"device_revoked": 1}
    assert room.stored()["devices"]["tent-1"]["status"] == "revoked"
    assert [entry["identity"] for entry in await room.audit("revoked")] == [room.admin.user_id]


async def test_revokes_without_a_response(tent: RoomDevice) -> None:
    """Who revokes need not ask for the response."""
    await tent.room.hass.services.async_call(
        DOMAIN, "revoke_device", {"device_id": "tent-1"}, blocking=True, context=tent.room.admin
    )
    assert tent.room.stored()["devices"]["tent-1"]["status"] == "revoked"


@pytest.mark.parametrize("service", ["rotate_credentials", "revoke_device"])
async def test_revoked_device_stays_revoked(tent: RoomDevice, service: str) -> None:
    """Nothing but a new enrolment brings a revoked device back."""
    await tent.room.call("revoke_device", {"device_id": "tent-1"})
    error = await tent.room.refusal(service, {"device_id": "tent-1"})
    assert (error.translation_key, error.translation_placeholders) == ("device_revoked", {"detail": "tent-1"})


@pytest.mark.parametrize("service", ["rotate_credentials", "revoke_device"])
async def test_unknown_device(room: Room, service: str) -> None:
    """A device must be enrolled."""
    error = await room.refusal(service, {"device_id": "tent-9"})
    assert (error.translation_key, error.translation_placeholders) == ("unknown_device", {"detail": "tent-9"})


# Looking


async def test_lists_devices_without_secrets(tent: RoomDevice) -> None:
    """The list says how every device is doing, and holds no key."""
    room = tent.room
    await room.enrol("a-first", "ph")
    await tent.report({"temp_c": 21.5})
    await tent.send(b"nonsense")
    await room.call("revoke_device", {"device_id": "a-first"})
    devices = (await room.call("list_devices"))["devices"]
    key_ids = {
        name: [each["key_id"] for each in record["credentials"]] for name, record in room.stored()["devices"].items()
    }
    dates = {"not_before": "2026-11-23T12:00:00+00:00", "not_after": "2027-11-23T12:00:00+00:00"}
    assert devices == [
        {
            "device_id": "a-first",
            "name": "A First",
            "zone": None,
            "status": "revoked",
            "auth": "hs256",
            "credentials": [
                {"kind": "key", "key_id": key_id, "state": "revoked", **dates} for key_id in key_ids["a-first"]
            ],
            "metrics": ["ph"],
            "actuators": [],
            "rate_limit": 100,
            "online": False,
            "accepted": 0,
            "refused": {},
        },
        {
            "device_id": "tent-1",
            "name": "Tent 1",
            "zone": None,
            "status": "active",
            "auth": "hs256",
            "credentials": [
                {"kind": "key", "key_id": key_id, "state": "active", **dates} for key_id in key_ids["tent-1"]
            ],
            "metrics": ["humidity_percent", "temp_c"],
            "actuators": [],
            "rate_limit": 100,
            "online": True,
            "accepted": 1,
            "refused": {"malformed": 1},
        },
    ]


async def test_verifies_the_audit_trail(tent: RoomDevice) -> None:
    """A trail that nobody touched is good, and its verification is in it."""
    room = tent.room
    first = await room.call("verify_audit")
    assert first == {"ok": True, "result": "good", "entries": 3, "checkpoints_to_line": 3}
    (verified,) = await room.audit("verified")
    assert (verified["reason"], verified["lines"], verified["identity"]) == ("good", 3, room.admin.user_id)
    assert (await room.call("verify_audit"))["entries"] == 4


async def test_finds_an_altered_line(tent: RoomDevice) -> None:
    """An entry that was changed afterwards is found, with its line, and is an issue until the trail is good again."""
    room = tent.room
    await room.hub.audit.async_flush()
    room.audit_path.write_bytes(room.audit_path.read_bytes().replace(b'"tent-1"', b'"tent-9"'))
    response = await room.call("verify_audit")
    assert (response["ok"], response["result"], response["entries"], response["line"]) == (False, "altered", 3, 3)
    assert response["reason"]
    issues = ir.async_get(room.hass)
    assert issues.async_get_issue(DOMAIN, "audit_finding") is not None
    await room.let_pass(10)
    assert room.state("hub/audit").state == "altered"
    room.audit_path.write_bytes(room.audit_path.read_bytes().replace(b'"tent-9"', b'"tent-1"'))
    assert (await room.call("verify_audit"))["result"] == "good"
    assert issues.async_get_issue(DOMAIN, "audit_finding") is None


async def test_finds_a_cut_end(tent: RoomDevice) -> None:
    """Entries that are gone from the end are found, because the running hub knows how many there were."""
    room = tent.room
    await room.hub.audit.async_flush()
    room.audit_path.write_text(room.audit_path.read_text().splitlines(keepends=True)[0])
    response = await room.call("verify_audit")
    assert (response["ok"], response["result"], response["entries"], response["line"]) == (False, "cut", 1, 2)


async def test_audit_trail_is_gone(tent: RoomDevice) -> None:
    """A trail that is gone is not a good one."""
    room = tent.room
    await room.hub.audit.async_flush()
    room.audit_path.unlink()
    response = await room.call("verify_audit")
    assert (response["ok"], response["result"], response["entries"]) == (False, "cut", 0)


async def test_audit_trail_cannot_be_read(tent: RoomDevice) -> None:
    """What cannot be read is not called good."""
    room = tent.room
    await room.hub.audit.async_flush()
    room.audit_path.rename(room.audit_path.with_suffix(".aside"))
    room.audit_path.mkdir()
    with pytest.raises(HomeAssistantError) as failed:
        await room.call("verify_audit")
    assert failed.value.translation_key == "audit_not_read"
    assert room.audit_path.name in str(failed.value)


async def test_rotated_and_disabled_at_once(tent: RoomDevice) -> None:
    """Two administrators at the same time: both changes hold, now and after a restart."""
    room = tent.room
    rotated, _ = await asyncio.gather(
        room.call("rotate_credentials", {"device_id": "tent-1"}),
        room.hub.enrolment.async_set_status("tent-1", DeviceStatus.DISABLED, "somebody"),
    )
    await room.reload()
    await room.hub.enrolment.async_set_status("tent-1", DeviceStatus.ACTIVE, "somebody")
    (settings,) = rotated["devices"]
    device = RoomDevice(room, DeviceProtocol(DeviceIdentity.from_enrolment(settings)))
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
