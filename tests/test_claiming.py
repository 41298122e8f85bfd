"""Claiming: how devices come by their credentials themselves, and how nobody else does."""

import asyncio
from hashlib import sha256
import json
import logging
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from homeassistant.config_entries import SOURCE_IGNORE, SOURCE_USER, ConfigEntryState, ConfigFlowResult
from homeassistant.data_entry_flow import FlowResultType
import pytest

from custom_components.grokmon.choices import Choices
from custom_components.grokmon.claiming import request_id
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.claim_codes import MAX_REQUESTS, TRIES, VALID_S
from custom_components.grokmon.gateway.errors import Code, GatewayError, PeerError, RegistryError, TransportError
from custom_components.grokmon.gateway.models import DeviceStatus
from custom_components.grokmon.gateway.topics import RESERVED_IDS

from .common import Room, RoomDevice
from .device_simulator.credentials import Auth, DeviceIdentity, PrivateKey, generate_key_pair, proof_of, public_pem
from .device_simulator.protocol import DeviceProtocol
from .live.needles import Needles, of_bytes, of_root_key
from .test_credential_keeper import leaks

ADDRESS = "192.0.2.7"
HOUR = 3600.0
WITH_ACCOUNTS: dict[str, Any] = {"broker": {"mode": "files"}}

type Settings = dict[str, Any]


@pytest.fixture
def options() -> dict[str, Any]:
    """Let devices fetch what is theirs."""
    return {"http_enrolment": True}


async def _code(room: Room, device_id: str = "tent-1") -> str:
    """Have a claim code issued for a device."""
    issued = await room.call("issue_claim_code", {"device_id": device_id})
    assert issued == {"device_id": device_id, "code": issued["code"], "path": "/api/grokmon/v1/claim"}
    return str(issued["code"])


async def _claim(room: Room, code: str, device_id: str = "tent-1") -> Settings:
    return await room.hub.trust.claiming.async_claim(device_id, code, ADDRESS, room.now)


async def _refused_claim(room: Room, code: str, device_id: str = "tent-1") -> None:
    """Be refused a claim, with nothing said about why."""
    with pytest.raises(TransportError) as refused:
        await _claim(room, code, device_id)
    assert (refused.value.code, refused.value.detail) == (Code.CLAIM_INVALID, "")


async def _refused_code(room: Room, reason: str) -> None:
    """Be refused a claim code, with a reason that an administrator understands."""
    refused = await room.refusal("issue_claim_code", {"device_id": "tent-1"})
    assert refused.translation_key == reason


def _claimed(room: Room, settings: Settings, key: PrivateKey | None = None) -> RoomDevice:
    """Return the device that goes by the settings it fetched."""
    return RoomDevice(room, DeviceProtocol(DeviceIdentity.from_enrolment(settings, key)))


# Claim codes


async def test_device_fetches_its_credentials_once(tent: RoomDevice) -> None:
    """The settings are those of the enrolment, the device speaks with them, and nobody gets them again."""
    room = tent.room
    code = await _code(room)
    settings = await _claim(room, code)
    assert settings["device_id"] == "tent-1"
    device = _claimed(room, settings)
    assert device.identity == tent.identity
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
    await _refused_claim(room, code)
    assert [(entry["device"], entry["address"]) for entry in await room.audit("claimed")] == [("tent-1", ADDRESS)]
    assert [entry["identity"] for entry in await room.audit("claim_issued")] == [room.admin.user_id]


async def test_claim_is_on_record_before_it_is_answered(tent: RoomDevice) -> None:
    """Whoever has fetched credentials stands in the trail, whatever happens to Home Assistant next."""
    await _claim(tent.room, await _code(tent.room))
    assert [entry["event"] for entry in tent.room.audit_on_disk()][-1] == "claimed"


async def test_two_at_once(tent: RoomDevice) -> None:
    """Of two who show the right code at the same time, one gets the credentials."""
    code = await _code(tent.room)
    got = await asyncio.gather(*(_claim(tent.room, code) for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in got if isinstance(each, Exception)] == [PeerError]
    assert [each["device_id"] for each in got if isinstance(each, dict)] == ["tent-1"]
    assert len(await tent.room.audit("claimed")) == 1


async def test_five_wrong_codes_void_the_right_one(tent: RoomDevice) -> None:
    """Each try is on record with where it came from; what comes after is only counted."""
    room = tent.room
    code = await _code(room)
    for number in range(TRIES):
        await _refused_claim(room, f"wrong-{number}")
    await _refused_claim(room, code)
    tries = await room.audit("claim_refused")
    assert [(each["device"], each["reason"], each["address"]) for each in tries] == [
        ("tent-1", "claim_invalid", ADDRESS)
    ] * TRIES
    assert await room.audit("claimed") == []


async def test_guessing_does_not_fill_the_trail(tent: RoomDevice) -> None:
    """Where there is no code there is nothing to record a thousand times."""
    room = tent.room
    for number in range(100):
        await _refused_claim(room, "wrong")
        await _refused_claim(room, "wrong", f"nobody-{number}")
    assert await room.audit("claim_refused", "refused") == []


async def test_code_ends_after_fifteen_minutes(tent: RoomDevice) -> None:
    """A code that somebody finds later is worth nothing."""
    code = await _code(tent.room)
    await tent.room.let_pass(VALID_S)
    await _refused_claim(tent.room, code)


async def test_code_is_void_after_a_restart(tent: RoomDevice) -> None:
    """No code outlives the run that showed it."""
    code = await _code(tent.room)
    await tent.room.reload()
    await _refused_claim(tent.room, code)
    assert await _claim(tent.room, await _code(tent.room))


async def test_used_credentials_stay_with_their_device(tent: RoomDevice) -> None:
    """What a device uses is never handed to whoever comes second, not even for the right code."""
    room = tent.room
    early = await _code(room)
    await tent.report({"temp_c": 21.5})
    await _refused_claim(room, early)
    await _refused_code(room, "claim_too_late")
    await tent.report({"temp_c": 22.5})
    assert room.state("tent-1/temp_c").state == "22.5"


async def test_rotated_device_fetches_the_new_key(tent: RoomDevice) -> None:
    """After a rotation the new key may be fetched, and the one in use is not in what is handed over."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    rotated = await room.call("rotate_credentials", {"device_id": "tent-1"})
    settings = await _claim(room, await _code(room))
    assert settings == rotated["devices"][0]
    device = _claimed(room, settings)
    assert device.identity.up_key != tent.identity.up_key
    await device.report({"temp_c": 22.5})
    await _refused_code(room, "claim_too_late")


@pytest.mark.parametrize("status", [DeviceStatus.DISABLED, DeviceStatus.REVOKED])
async def test_device_that_may_not_speak_fetches_nothing(tent: RoomDevice, status: DeviceStatus) -> None:
    """A code from before is worth nothing after."""
    room = tent.room
    code = await _code(room)
    await room.hub.enrolment.async_set_status("tent-1", status, "somebody")
    await _refused_claim(room, code)


@pytest.mark.parametrize(
    ("status", "reason"), [(DeviceStatus.DISABLED, "claim_too_late"), (DeviceStatus.REVOKED, "device_revoked")]
)
async def test_device_that_may_not_speak_gets_no_code(tent: RoomDevice, status: DeviceStatus, reason: str) -> None:
    """Nobody waits in vain for it."""
    await tent.room.hub.enrolment.async_set_status("tent-1", status, "somebody")
    await _refused_code(tent.room, reason)
    assert await tent.room.audit("claim_issued") == []


@pytest.mark.parametrize("options", [{"http_enrolment": False}])
async def test_no_code_where_nothing_can_be_fetched(tent: RoomDevice) -> None:
    """Who forgot to let devices fetch their credentials is told so before a device is refused."""
    await _refused_code(tent.room, "http_enrolment_off")
    assert await tent.room.audit("claim_issued") == []


async def test_code_of_a_removed_device(tent: RoomDevice) -> None:
    """A device that is no more has no code."""
    code = await _code(tent.room)
    await tent.room.remove()
    await _refused_claim(tent.room, code)


async def test_old_code_does_not_open_a_new_device(tent: RoomDevice) -> None:
    """Who kept the code of a device that was removed does not get the key of another one of its name."""
    room = tent.room
    code = await _code(room)
    await room.remove()
    await room.enrol()
    await _refused_claim(room, code)
    assert await _claim(room, await _code(room))


async def test_later_code_voids_the_earlier(tent: RoomDevice) -> None:
    """A code that was shown to the wrong person is replaced by issuing another."""
    first, second = await _code(tent.room), await _code(tent.room)
    await _refused_claim(tent.room, first)
    assert await _claim(tent.room, second)


@pytest.mark.parametrize("auth", ["es256", "eddsa"])
async def test_device_with_its_own_key_fetches_no_secret(room: Room, auth: Auth) -> None:
    """A device whose public key was typed in fetches what else it needs."""
    key = generate_key_pair(auth)
    await room.enrol(auth=auth, public_key=public_pem(key), private_key=key)
    settings = await _claim(room, await _code(room))
    assert settings.keys() == {"device_id", "auth", "prefix", "topics", "site_public_key"}
    await _claimed(room, settings, key).report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_secrets_of_a_claim_are_nowhere(tent: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the code nor what it opens is in a log, a state, the trail, the diagnostics or a file."""
    caplog.set_level(logging.DEBUG)
    room = tent.room
    void, code = await _code(room), await _code(room)
    await _refused_claim(room, "a-guess-that-is-nobodys-business")
    settings = await _claim(room, code)
    await _claimed(room, settings).report({"temp_c": 21.5})
    needles: Needles = of_root_key("tent-1", settings["key"]) | of_bytes("guess", b"a-guess-that-is-nobodys-business")
    for each in (void, code):
        needles |= of_bytes("code", each.encode()) | of_bytes("hash of a code", sha256(each.encode()).digest())
    assert await leaks(room, caplog, needles) == []


# Requests


def _ask(
    room: Room, key: PrivateKey, device_id: str = "tent-1", auth: str = "eddsa", address: str = ADDRESS
) -> Settings:
    """Let a device ask to be enrolled under its own key."""
    return room.hub.trust.claiming.async_ask(
        device_id, auth, public_pem(key), proof_of(key, device_id), now=room.now, address=address
    )


def _refused_ask(
    room: Room, code: Code, key: PrivateKey, device_id: str = "tent-1", auth: str = "eddsa", *, address: str = ADDRESS
) -> None:
    with pytest.raises(GatewayError) as refused:
        _ask(room, key, device_id, auth, address)
    assert refused.value.code is code


def _fingerprint(key: PrivateKey) -> str:
    """Return what a device shows of its key, worked out as the protocol says."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = sha256(der).hexdigest()
    return " ".join(digest[at : at + 4] for at in range(0, 32, 4))


async def _discovered(room: Room) -> list[ConfigFlowResult]:
    """Return the devices that Home Assistant shows as discovered."""
    await room.settle()
    return room.hass.config_entries.flow.async_progress_by_handler(DOMAIN)


async def _open(room: Room) -> ConfigFlowResult:
    """Return the form of the one discovered device, as an administrator opens it."""
    (flow,) = await _discovered(room)
    form = await room.hass.config_entries.flow.async_configure(flow["flow_id"])
    assert (form["type"], form["step_id"]) == (FlowResultType.FORM, "approve")
    return form


async def _approve(room: Room, form: ConfigFlowResult, **answers: Any) -> ConfigFlowResult:
    data = {"name": "Tent 1", "metrics": ["temp_c"]} | answers
    result = await room.hass.config_entries.flow.async_configure(form["flow_id"], data)
    await room.settle()
    return result


@pytest.fixture
def key() -> PrivateKey:
    """Return the key pair of a device that asks."""
    return generate_key_pair("eddsa")


@pytest.mark.parametrize("auth", ["es256", "eddsa"])
async def test_device_with_its_own_key_is_approved(room: Room, auth: Auth) -> None:
    """An administrator compares the fingerprint; the device is enrolled under its key, and fetches its settings."""
    key = generate_key_pair(auth)
    answer = _ask(room, key, auth=auth)
    assert answer == {"status": "pending", "fingerprint": _fingerprint(key)}
    form = await _open(room)
    assert form["description_placeholders"] == {"device_id": "tent-1", "fingerprint": _fingerprint(key)}
    assert "tent-1" not in room.hub.gateway.registry
    assert _ask(room, key, auth=auth) == answer
    done = await _approve(room, form)
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "device_enrolled")
    assert room.subentry().title == "Tent 1"
    settings = _ask(room, key, auth=auth)
    device = _claimed(room, settings, key)
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
    assert await _discovered(room) == []
    asked = await room.audit("enrolment_asked")
    assert [(each["device_id"], each["fingerprint"]) for each in asked] == [("tent-1", _fingerprint(key))]
    assert [each["identity"] for each in await room.audit("enrolled")] == ["administrator"]
    await room.reload()
    await device.send(device.sign_reading({"temp_c": 22.5}))
    assert room.state("tent-1/temp_c").state == "22.5"


async def test_shown_once_however_often_it_asks(room: Room, key: PrivateKey) -> None:
    """A device that polls is one discovered device, before and after somebody opened its dialog."""
    for _ in range(3):
        _ask(room, key)
        assert len(await _discovered(room)) == 1
    form = await _open(room)
    for _ in range(3):
        _ask(room, key)
    assert [flow["flow_id"] for flow in await _discovered(room)] == [form["flow_id"]]
    assert len(await room.audit("enrolment_asked")) == 1


async def test_name_is_suggested(room: Room, key: PrivateKey) -> None:
    """The list of discovered devices and the form name the device by its identifier; an empty name is that, too."""
    _ask(room, key)
    form = await _open(room)
    (flow,) = await _discovered(room)
    assert flow["context"]["title_placeholders"] == {"name": "tent-1"}
    await _approve(room, form, name="  ")
    assert room.subentry().title == "tent-1"


async def test_nobody_replaces_what_is_looked_at(room: Room, key: PrivateKey) -> None:
    """While an administrator compares, another key in the name of the device is refused and never enrolled."""
    attacker = generate_key_pair("eddsa")
    _ask(room, key)
    form = await _open(room)
    _refused_ask(room, Code.DEVICE_EXISTS, attacker)
    _refused_ask(room, Code.DEVICE_EXISTS, generate_key_pair("es256"), auth="es256")
    assert len(await _discovered(room)) == 1
    await _approve(room, form)
    _refused_ask(room, Code.DEVICE_EXISTS, attacker)
    assert room.hub.gateway.registry["tent-1"].credentials[0].public_key == public_pem(key)


async def test_old_dialog_does_not_approve_a_new_key(room: Room, key: PrivateKey) -> None:
    """Who waits for a request to end, and asks with another key, is not let in by the dialog that is still open."""
    attacker = generate_key_pair("eddsa")
    _ask(room, key)
    form = await _open(room)
    await room.let_pass(VALID_S)
    _ask(room, attacker)
    done = await _approve(room, form)
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "request_expired")
    assert "tent-1" not in room.hub.gateway.registry
    # The other one is shown under its own fingerprint, and waits for somebody to compare it.
    other = await _open(room)
    assert other["description_placeholders"] == {"device_id": "tent-1", "fingerprint": _fingerprint(attacker)}
    await _approve(room, other)
    assert "tent-1" in room.hub.gateway.registry


async def test_approved_too_late(room: Room, key: PrivateKey) -> None:
    """A dialog that was left open over lunch enrols nobody; the device asks again, and is shown again."""
    _ask(room, key)
    form = await _open(room)
    await room.let_pass(VALID_S)
    done = await _approve(room, form)
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "request_expired")
    _ask(room, key)
    await _approve(room, await _open(room))
    assert room.subentry().title == "Tent 1"


async def test_approved_after_a_restart(room: Room, key: PrivateKey) -> None:
    """No request outlives a restart of the integration."""
    _ask(room, key)
    form = await _open(room)
    await room.reload()
    done = await _approve(room, form)
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "request_expired")


async def test_approved_while_the_hub_does_not_run(room: Room, key: PrivateKey) -> None:
    """Without a hub there is nobody to enrol a device."""
    _ask(room, key)
    form = await _open(room)
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    done = await _approve(room, form)
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "not_loaded")


async def test_asked_again_without_metrics(room: Room, key: PrivateKey) -> None:
    """What is missing in the form can be put right: the request waits on."""
    _ask(room, key)
    again = await _approve(room, await _open(room), metrics=[])
    assert again["errors"] == {"metrics": "field_missing"}
    done = await _approve(room, again)
    assert done["reason"] == "device_enrolled"


async def test_disk_fails_while_a_request_is_approved(room: Room, key: PrivateKey) -> None:
    """Nothing is half enrolled, and the administrator tries again without the device asking again."""
    _ask(room, key)
    form = await _open(room)
    room.break_store()
    again = await _approve(room, form)
    assert again["errors"] == {"base": "store_not_written"}
    assert not room.entry.subentries
    assert room.hub.store.state.devices == {}
    room.repair_store()
    done = await _approve(room, again)
    assert done["reason"] == "device_enrolled"
    assert _ask(room, key)["device_id"] == "tent-1"


async def test_trail_fails_while_a_request_is_approved(room: Room, key: PrivateKey) -> None:
    """What cannot be recorded is not approved, and the administrator tries again."""
    _ask(room, key)
    form = await _open(room)
    with room.broken_trail():
        again = await _approve(room, form)
    assert again["errors"] == {"base": "audit_unavailable"}
    assert room.stored()["devices"] == room.hub.store.state.devices == {}
    done = await _approve(room, again)
    assert done["reason"] == "device_enrolled"
    assert _ask(room, key)["device_id"] == "tent-1"


async def test_name_was_taken_meanwhile(room: Room, key: PrivateKey) -> None:
    """A device that was enrolled otherwise in the meantime stays as it is."""
    _ask(room, key)
    form = await _open(room)
    tent = await room.enrol()
    again = await _approve(room, form)
    assert again["errors"] == {"base": "device_exists"}
    _refused_ask(room, Code.DEVICE_EXISTS, key)
    await tent.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_two_administrators_approve_at_once(room: Room, key: PrivateKey) -> None:
    """Of two who approve at the same time one enrols the device, once."""
    _ask(room, key)
    await _discovered(room)
    flow = await _open(room)
    claiming = room.hub.trust.claiming
    choices = Choices(device_id="tent-1", name="T", zone=None, metrics=frozenset({"temp_c"}), ranges={})
    results = await asyncio.gather(
        *(claiming.async_approve(choices, _fingerprint(key), "somebody") for _ in range(2)), return_exceptions=True
    )
    await room.settle()
    assert [type(each) for each in results if isinstance(each, Exception)] == [RegistryError]
    assert len(room.entry.subentries) == 1
    assert (await _approve(room, flow))["reason"] == "request_expired"


async def test_ignored_device_stays_ignored(room: Room, key: PrivateKey) -> None:
    """A device that an administrator ignores is not shown again, asks as it may; and the hub does not mind."""
    _ask(room, key)
    (flow,) = await _discovered(room)
    unique_id = flow["context"]["unique_id"]
    assert unique_id == request_id("tent-1", _fingerprint(key))
    await room.hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_IGNORE}, data={"unique_id": unique_id, "title": "tent-1"}
    )
    assert await _discovered(room) == []
    for _ in range(2):
        _ask(room, key)
        assert await _discovered(room) == []
        await room.let_pass(VALID_S)
    # Another key is another device.
    _ask(room, generate_key_pair("eddsa"))
    assert len(await _discovered(room)) == 1
    await room.reload()
    assert room.entry_is(ConfigEntryState.LOADED)
    assert (await room.call("list_devices"))["devices"] == []
    again = await room.hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    assert again["reason"] == "single_instance_allowed"


async def test_ignored_device_does_not_keep_the_hub_out(room: Room, key: PrivateKey) -> None:
    """The hub can be added anew while only an ignored device is left."""
    _ask(room, key)
    (flow,) = await _discovered(room)
    data = {"unique_id": flow["context"]["unique_id"], "title": "tent-1"}
    await room.hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_IGNORE}, data=data)
    await room.hass.config_entries.async_remove(room.entry.entry_id)
    form = await room.hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    assert form["type"] is FlowResultType.FORM


async def test_closed_dialog(room: Room, key: PrivateKey) -> None:
    """Who closes the dialog decides nothing: while the device asks on, it is shown again."""
    _ask(room, key)
    form = await _open(room)
    room.hass.config_entries.flow.async_abort(form["flow_id"])
    assert await _discovered(room) == []
    assert "tent-1" not in room.hub.gateway.registry
    _ask(room, key)
    await _approve(room, await _open(room))
    assert "tent-1" in room.hub.gateway.registry


async def test_eight_at_most(room: Room, key: PrivateKey) -> None:
    """Whoever makes up devices shows eight at most, until these end."""
    for number in range(MAX_REQUESTS):
        _ask(room, generate_key_pair("eddsa"), f"made-up-{number}", address=f"192.0.2.{number}")
    for number in range(20):
        _refused_ask(room, Code.RATE_LIMITED, key, f"more-{number}", address=f"192.0.2.{100 + number}")
    assert len(await _discovered(room)) == MAX_REQUESTS
    assert len(await room.audit("enrolment_asked")) == MAX_REQUESTS
    await room.let_pass(VALID_S)
    assert _ask(room, key)["status"] == "pending"


async def test_stranger_leaves_room_for_others(room: Room, key: PrivateKey) -> None:
    """One host, whatever its addresses, does not keep another from being shown."""
    for number in range(2):
        _ask(room, generate_key_pair("eddsa"), f"made-up-{number}", address=f"2001:db8::{number}")
    _refused_ask(room, Code.RATE_LIMITED, key, address="2001:db8::ff")
    assert _ask(room, key)["status"] == "pending"


@pytest.mark.parametrize("device_id", ["Tent-1", "tent/1", "#", "", *RESERVED_IDS])
async def test_identifier_that_cannot_be_enrolled(room: Room, key: PrivateKey, device_id: str) -> None:
    """Nobody is asked about a device that could not be enrolled."""
    _refused_ask(room, Code.DEVICE_ID_INVALID, key, device_id)
    assert await _discovered(room) == []


@pytest.mark.parametrize("auth", ["hs256", "broker", "token", "none", "", "es256"])
async def test_only_a_key_of_its_own(room: Room, key: PrivateKey, auth: str) -> None:
    """What else proves a device is not asked for by the device itself."""
    _refused_ask(room, Code.PUBLIC_KEY_INVALID, key, auth=auth)
    assert await _discovered(room) == []


async def test_enrolled_device_is_not_asked_about(tent: RoomDevice, key: PrivateKey) -> None:
    """The name of an enrolled device cannot be asked for."""
    _refused_ask(tent.room, Code.DEVICE_EXISTS, key)
    assert await _discovered(tent.room) == []


async def test_nobody_wants_to_see_what_is_over(room: Room, key: PrivateKey) -> None:
    """A request that has waited too long is discovered no more, some minutes later; one that waits still is."""
    _ask(room, key)
    await room.let_pass(VALID_S)
    _ask(room, generate_key_pair("eddsa"), "tent-2")
    await room.settle()
    assert len(await _discovered(room)) == 2
    await room.let_pass(300)
    (left,) = await _discovered(room)
    assert left["context"]["title_placeholders"] == {"name": "tent-2"}


async def test_request_whose_name_was_taken_is_hidden_too(room: Room, key: PrivateKey) -> None:
    """A discovered device goes away some minutes after its request is over, though another key has its name by then."""
    _ask(room, key)
    await room.let_pass(VALID_S)
    other = generate_key_pair("eddsa")
    _ask(room, other)
    assert len(await _discovered(room)) == 2
    await room.let_pass(300)
    (left,) = await _discovered(room)
    assert left["context"]["unique_id"] == request_id("tent-1", _fingerprint(other))


# What an approved device may fetch


async def _approved(room: Room, key: PrivateKey) -> None:
    _ask(room, key)
    await _approve(room, await _open(room))


async def test_settings_are_for_the_same_key(room: Room, key: PrivateKey) -> None:
    """After the approval nobody fetches the settings with another key, or in another way."""
    await _approved(room, key)
    _refused_ask(room, Code.DEVICE_EXISTS, generate_key_pair("eddsa"))
    _refused_ask(room, Code.DEVICE_EXISTS, generate_key_pair("es256"), auth="es256")
    for auth in ("es256", "hs256", "broker", "token", "none"):
        _refused_ask(room, Code.PUBLIC_KEY_INVALID, key, auth=auth)
    # An answer may be lost: the device asks again.
    assert _ask(room, key) == _ask(room, key)
    assert [each["address"] for each in await room.audit("claimed")] == [ADDRESS] * 2


async def test_approved_in_the_last_second(room: Room, key: PrivateKey) -> None:
    """A device that asks again some seconds after it was approved finds its settings."""
    _ask(room, key)
    form = await _open(room)
    room.freezer.tick(VALID_S - 1)
    await _approve(room, form)
    room.freezer.tick(5)
    assert _ask(room, key)["device_id"] == "tent-1"


async def test_settings_end_with_the_request(room: Room, key: PrivateKey) -> None:
    """They are handed over for fifteen minutes after the device was approved."""
    await _approved(room, key)
    await room.let_pass(VALID_S)
    _refused_ask(room, Code.DEVICE_EXISTS, key)


async def test_settings_end_with_a_restart(room: Room, key: PrivateKey) -> None:
    """What was approved is enrolled, and what was not fetched by then is fetched with a claim code."""
    await _approved(room, key)
    await room.reload()
    _refused_ask(room, Code.DEVICE_EXISTS, key)
    settings = await _claim(room, await _code(room))
    await _claimed(room, settings, key).report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
async def test_settings_end_with_the_first_use(room: Room, key: PrivateKey) -> None:
    """A public key is no secret: who knows it does not fetch the password of a device that has it already."""
    await _approved(room, key)
    settings = _ask(room, key)
    assert settings["password"]
    await _claimed(room, settings, key).report({"temp_c": 21.5})
    _refused_ask(room, Code.DEVICE_EXISTS, key)


@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
async def test_settings_outlive_the_look_at_what_expires(room: Room, key: PrivateKey) -> None:
    """What the broker checks does not count as used while the device has fetched nothing."""
    await room.let_pass(HOUR - 5)
    await _approved(room, key)
    await room.let_pass(10)
    assert _ask(room, key)["password"]


@pytest.mark.parametrize("options", [WITH_ACCOUNTS | {"http_enrolment": True}])
async def test_code_for_a_device_that_was_enrolled_long_ago(tent: RoomDevice) -> None:
    """A device with an account at the broker may fetch until it is first heard, and not afterwards."""
    room = tent.room
    await room.let_pass(HOUR + 60)
    settings = await _claim(room, await _code(room))
    assert settings["password"]
    await _claimed(room, settings).report({"temp_c": 21.5})
    await room.let_pass(HOUR + 60)
    await _refused_code(room, "claim_too_late")


@pytest.mark.parametrize("status", [DeviceStatus.DISABLED, DeviceStatus.REVOKED])
async def test_settings_end_with_the_device(room: Room, key: PrivateKey, status: DeviceStatus) -> None:
    """A device that may not speak fetches nothing either."""
    await _approved(room, key)
    await room.hub.enrolment.async_set_status("tent-1", status, "somebody")
    _refused_ask(room, Code.DEVICE_EXISTS, key)


async def test_approved_key_does_not_open_a_new_device(room: Room, key: PrivateKey) -> None:
    """Who was approved, removed and replaced does not get the key of the device that has the name now."""
    await _approved(room, key)
    await room.remove()
    await room.enrol()
    _refused_ask(room, Code.DEVICE_EXISTS, key)


@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
async def test_approved_key_that_was_replaced(room: Room, key: PrivateKey) -> None:
    """Who has the old key does not get the new password."""
    await _approved(room, key)
    fresh = public_pem(generate_key_pair("eddsa"))
    rotated = await room.call("rotate_credentials", {"device_id": "tent-1", "public_key": fresh})
    assert rotated["devices"][0]["password"]
    _refused_ask(room, Code.DEVICE_EXISTS, key)


@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
async def test_secrets_of_a_request_are_nowhere(room: Room, key: PrivateKey, caplog: pytest.LogCaptureFixture) -> None:
    """The password that an approved device fetches is nowhere but where it is kept."""
    caplog.set_level(logging.DEBUG)
    await _approved(room, key)
    settings = _ask(room, key)
    assert json.dumps(settings)
    assert await leaks(room, caplog, of_bytes("password", settings["password"].encode())) == []
