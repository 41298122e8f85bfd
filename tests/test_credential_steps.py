"""The steps of a device's flow that are about its credentials: show, hand over, rotate, restore, disable, revoke."""

import asyncio
from collections.abc import Mapping
import json
import logging
from typing import Any

from homeassistant.config_entries import ConfigEntryState, SubentryFlowResult
from homeassistant.data_entry_flow import FlowResultType, InvalidData, UnknownFlow
from homeassistant.helpers.selector import QrCodeSelector
import pytest

from custom_components.grokmon.choices import METHODS
from custom_components.grokmon.gateway.claim_codes import TRIES
from custom_components.grokmon.gateway.errors import Code, TransportError
from custom_components.grokmon.gateway.lifecycle import OVERLAP
from custom_components.grokmon.gateway.models import CredentialKind, CredentialState
from custom_components.grokmon.gateway.topics import RESERVED_IDS

from .common import Room, RoomDevice, fields_of, settings_on
from .device_simulator.credentials import Auth, DeviceIdentity, generate_key_pair, public_pem
from .device_simulator.protocol import DeviceProtocol
from .live.needles import Needles, of_bytes, of_root_key
from .test_credential_keeper import leaks, slow_disk

ANSWERS: dict[str, dict[str, Any]] = {
    "user": {"name": "Tent 1"},
    "identity": {"device_id": "tent-1", "template": "climate"},
    "metrics": {"metrics": ["temp_c"]},
    "auth": {"auth": "hs256"},
}
WITH_CLAIMS = {"http_enrolment": True}
WITH_ACCOUNTS = {"broker": {"mode": "files"}}


async def _walk(room: Room, until: str, **answers: Mapping[str, Any]) -> SubentryFlowResult:
    """Enrol a device as far as a step; return that step."""
    result = await room.start_flow("device")
    while result["step_id"] != until:
        step = result["step_id"]
        result = await room.submit(result, answers.get(step, ANSWERS[step]))
        assert not result.get("errors"), result["errors"]
    return result


def _claim_of(result: SubentryFlowResult) -> dict[str, str]:
    """Return what the QR code of a page holds, which is what its text says, too."""
    schema, placeholders = result["data_schema"], result["description_placeholders"]
    assert schema is not None
    assert placeholders is not None
    (selector,) = schema.schema.values()
    assert isinstance(selector, QrCodeSelector)
    claim: dict[str, str] = json.loads(selector.config["data"])
    assert json.loads(placeholders["claim"]) == claim
    assert placeholders["name"] == "Tent 1"
    return claim


def _device(room: Room, settings: Mapping[str, Any]) -> RoomDevice:
    return RoomDevice(room, DeviceProtocol(DeviceIdentity.from_root_key(settings["device_id"], settings["key"])))


async def _change(room: Room, step: str) -> SubentryFlowResult:
    """Open the menu of changes of tent-1; return the form of one of them."""
    menu = await room.start_flow("device", room.subentry().subentry_id)
    assert menu["type"] is FlowResultType.MENU
    return await room.submit(menu, {"next_step_id": step})


async def _menu(room: Room) -> list[str]:
    """Return what the menu of changes offers for tent-1."""
    menu = await room.start_flow("device", room.subentry().subentry_id)
    options: list[str] = menu["menu_options"]  # type: ignore[assignment] # ours are lists
    return options


async def _claim(room: Room, claim: Mapping[str, str]) -> dict[str, Any]:
    return await room.hub.trust.claiming.async_claim(claim["device_id"], claim["code"], "192.0.2.7", room.now)


# Showing credentials


@pytest.mark.parametrize(
    ("auth", "page"), [("hs256", "credentials"), ("broker", "credentials_broker"), ("token", "credentials_token")]
)
@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
async def test_shows_credentials_once(room: Room, auth: str, page: str) -> None:
    """The page shows what the device needs; the device is enrolled once it was seen, with exactly that."""
    form = await _walk(room, page, auth={"auth": auth})
    settings = settings_on(form)
    assert room.hub.store.state.devices == {}
    done = await room.submit(form)
    assert done["type"] is FlowResultType.CREATE_ENTRY
    (enrolled,) = await room.audit("enrolled")
    assert enrolled["auth"] == room.hub.gateway.registry["tent-1"].auth.value
    secrets = {each.secret.decode() for each in room.hub.gateway.registry["tent-1"].of_kind(CredentialKind.PASSWORD)}
    if auth == "token":
        assert room.hub.async_authenticate(settings["token"].encode(), room.now).device_id == "tent-1"
    else:
        assert settings["password"] in secrets
    assert await _menu(room)


async def test_handover_is_offered_with_http_enrolment_only(room: Room) -> None:
    """Without the way over HTTP a code would lead nowhere; and is not taken from a form that was made up."""
    form = await _walk(room, "auth")
    assert fields_of(form) == ["auth", "public_key"]
    with pytest.raises(InvalidData):
        await room.submit(form, {"auth": "hs256", "handover": "claim"})


async def test_identifiers_of_the_gateway_itself(room: Room) -> None:
    """The names under which the broker is probed, and those of the hub's own device, are asked for again."""
    form = await _walk(room, "identity")
    for device_id in RESERVED_IDS:
        form = await room.submit(form, {"device_id": device_id, "template": "climate"})
        assert form["errors"] == {"device_id": "device_id_invalid"}


@pytest.mark.parametrize("method", ["hs256", "es256", "eddsa"])
async def test_start_while_credentials_are_shown(room: Room, method: Auth) -> None:
    """What was shown may not hold after a new start, so that the device gets others; and the next start works."""
    answer = {"auth": method} | ({"public_key": public_pem(generate_key_pair(method))} if method != "hs256" else {})
    page = await _walk(room, "credentials", auth=answer)
    await room.reload()
    form = await room.submit(page)
    assert form["step_id"] == "auth"
    assert "tent-1" not in room.hub.gateway.registry
    page = await room.submit(form, answer)
    await room.submit(page)
    assert "tent-1" in room.hub.gateway.registry
    await room.reload()
    assert room.entry.state is ConfigEntryState.LOADED


async def test_unload_in_the_middle_of_a_flow(room: Room) -> None:
    """Without a hub there is nothing to go on with, which is said."""
    pages = [await _walk(room, step) for step in ("identity", "auth", "credentials")]
    await room.enrol("tent-2")
    flow = await room.start_flow("device", room.subentry("tent-2").subentry_id)
    menus = [await room.submit(flow, {"next_step_id": "revoke"})]
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    for page, answer in zip([*pages, *menus], [ANSWERS["identity"], ANSWERS["auth"], None, {}], strict=True):
        result = await room.submit(page, answer)
        assert (result["type"], result["reason"]) == ("abort", "not_loaded")
    await room.set_up()


async def test_outputs_need_a_signature(room: Room) -> None:
    """Only a device that signs may drive outputs; another way of proof can still be chosen."""
    metrics = {"metrics": ["temp_c"], "actuators": ["outlet"]}
    form = await _walk(room, "auth", metrics=metrics)
    for auth in ("broker", "token"):
        form = await room.submit(form, {"auth": auth})
        assert form["errors"] == {"auth": "outputs_unsigned"}
    assert (await room.submit(form, {"auth": "hs256"}))["step_id"] == "credentials"


@pytest.mark.parametrize("auth", ["es256", "eddsa"])
async def test_public_key_that_cannot_be_used(room: Room, auth: Auth) -> None:
    """The error stands at the field, and the next try succeeds."""
    form = await _walk(room, "auth")
    for answer in ({"auth": auth}, {"auth": auth, "public_key": "no PEM"}):
        form = await room.submit(form, answer)
        assert form["errors"] == {"public_key": "public_key_invalid"}
    form = await room.submit(form, {"auth": auth, "public_key": public_pem(generate_key_pair(auth))})
    assert form["step_id"] == "credentials"
    assert settings_on(form)["site_public_key"].startswith("-----BEGIN PUBLIC KEY-----")


async def test_disk_fails_before_the_device_is_enrolled(room: Room) -> None:
    """The page stays with the same credentials, and the next try enrols them."""
    form = await _walk(room, "credentials")
    room.break_store()
    again = await room.submit(form)
    assert (again["step_id"], again["errors"]) == ("credentials", {"base": "store_not_written"})
    assert settings_on(again) == settings_on(form)
    assert not room.entry.subentries
    room.repair_store()
    await room.submit(again)
    await _device(room, settings_on(form)).report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_trail_fails_before_the_device_is_enrolled(room: Room) -> None:
    """The page stays with the same credentials, says that they cannot be recorded, and the next try enrols them."""
    form = await _walk(room, "credentials")
    with room.broken_trail():
        again = await room.submit(form)
        assert (again["step_id"], again["errors"]) == ("credentials", {"base": "audit_unavailable"})
    assert settings_on(again) == settings_on(form)
    assert not room.entry.subentries
    await room.submit(again)
    await _device(room, settings_on(form)).report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_closed_while_the_device_is_enrolled(room: Room) -> None:
    """A dialog that is closed before the disk has the device leaves nothing behind, and the name is free."""
    form = await _walk(room, "credentials")
    flows = room.hass.config_entries.subentries
    with slow_disk() as (waits, go_on):
        enrolling = asyncio.ensure_future(flows.async_configure(form["flow_id"], {}))
        await waits.wait()
        flows.async_abort(form["flow_id"])
        go_on.set()
        with pytest.raises(UnknownFlow):
            await enrolling
    await room.settle()
    assert room.stored()["devices"] == room.hub.store.state.devices == {}
    assert [entry["event"] for entry in await room.audit("enrolled", "removed")] == ["enrolled", "removed"]
    await (await room.enrol()).report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_somebody_was_faster(room: Room) -> None:
    """The credentials that were shown belong to nobody, if another device took the name meanwhile."""
    form = await _walk(room, "credentials")
    tent = await room.enrol()
    done = await room.submit(form)
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "already_configured")
    await tent.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_clicked_twice(room: Room) -> None:
    """While the disk takes the device, a second click finds nothing to enrol again."""
    form = await _walk(room, "credentials")
    flows = room.hass.config_entries.subentries
    results = await asyncio.gather(
        *(flows.async_configure(form["flow_id"], {}) for _ in range(2)), return_exceptions=True
    )
    await room.settle()
    assert [each["type"] for each in results if isinstance(each, dict)].count(FlowResultType.CREATE_ENTRY) == 1
    assert len(await room.audit("enrolled")) == 1
    await _device(room, settings_on(form)).report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


# Handing over with a claim code


@pytest.mark.parametrize("options", [WITH_CLAIMS])
async def test_hands_over_with_a_claim_code(room: Room) -> None:
    """The device is enrolled at once, its credentials are shown to nobody, and it fetches them with the QR code."""
    form = await _walk(room, "auth")
    assert fields_of(form) == ["auth", "public_key", "handover"]
    form = await room.submit(form, {"auth": "hs256", "handover": "claim"})
    assert (form["type"], form["step_id"]) == (FlowResultType.FORM, "claim")
    claim = _claim_of(form)
    assert claim == {"device_id": "tent-1", "code": claim["code"], "path": "/api/grokmon/v1/claim"}
    assert room.subentry().title == "Tent 1"
    settings = await _claim(room, claim)
    assert settings["key"] not in str(form)
    device = _device(room, settings)
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
    done = await room.submit(form)
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "claim_shown")
    assert len(room.entry.subentries) == 1
    with pytest.raises(TransportError):
        await _claim(room, claim)
    assert [each["identity"] for each in await room.audit("enrolled", "claim_issued")] == ["administrator"] * 2


@pytest.mark.parametrize("options", [WITH_CLAIMS])
async def test_claim_outlives_its_dialog(room: Room) -> None:
    """Who closes the dialog after the device has read the code has enrolled it."""
    form = await _walk(room, "auth")
    form = await room.submit(form, {"auth": "token", "handover": "claim"})
    room.hass.config_entries.subentries.async_abort(form["flow_id"])
    settings = await _claim(room, _claim_of(form))
    assert room.hub.async_authenticate(settings["token"].encode(), room.now).device_id == "tent-1"


@pytest.mark.parametrize("options", [WITH_CLAIMS])
async def test_five_wrong_tries(room: Room) -> None:
    """Who guesses ends the code; an administrator issues another."""
    form = await _walk(room, "auth")
    claim = _claim_of(await room.submit(form, {"auth": "hs256", "handover": "claim"}))
    for _ in range(TRIES):
        with pytest.raises(TransportError):
            await _claim(room, {**claim, "code": "guess"})
    with pytest.raises(TransportError) as refused:
        await _claim(room, claim)
    assert refused.value.code is Code.CLAIM_INVALID
    assert await _claim(room, await room.call("issue_claim_code", {"device_id": "tent-1"}))


@pytest.mark.parametrize("options", [WITH_CLAIMS])
async def test_credentials_may_be_shown_all_the_same(room: Room) -> None:
    """With the choice there, showing them is still what happens unless something else is chosen."""
    form = await _walk(room, "auth")
    assert (await room.submit(form, {"auth": "hs256"}))["step_id"] == "credentials"


@pytest.mark.parametrize("options", [WITH_CLAIMS])
@pytest.mark.parametrize("auth", METHODS)
async def test_every_way_of_proof_can_be_handed_over(room: Room, auth: str) -> None:
    """A device with its own key fetches no secret, any other its own."""
    answer = {"auth": auth, "handover": "claim"}
    if auth in {"es256", "eddsa"}:
        form = await room.submit(await _walk(room, "auth"), answer)
        assert form["errors"] == {"public_key": "public_key_invalid"}
        assert not room.entry.subentries
        answer["public_key"] = public_pem(generate_key_pair("es256" if auth == "es256" else "eddsa"))
    form = await room.submit(await _walk(room, "auth"), answer)
    settings = await _claim(room, _claim_of(form))
    assert (settings["device_id"], settings["auth"]) == ("tent-1", auth)


@pytest.mark.parametrize("options", [WITH_CLAIMS])
async def test_disk_fails_while_a_device_is_handed_over(room: Room) -> None:
    """No code is shown for a device that was not kept, and the next try succeeds."""
    form = await _walk(room, "auth")
    room.break_store()
    again = await room.submit(form, {"auth": "hs256", "handover": "claim"})
    assert (again["step_id"], again["errors"]) == ("auth", {"base": "store_not_written"})
    assert await room.audit("claim_issued", "enrolled") == []
    assert not room.entry.subentries
    room.repair_store()
    form = await room.submit(again, {"auth": "hs256", "handover": "claim"})
    assert await _claim(room, _claim_of(form))


@pytest.mark.parametrize("options", [WITH_CLAIMS])
async def test_name_taken_before_the_handover(room: Room) -> None:
    """A device that was enrolled meanwhile is neither replaced nor claimed."""
    form = await _walk(room, "auth")
    await room.enrol()
    again = await room.submit(form, {"auth": "hs256", "handover": "claim"})
    assert again["errors"] == {"base": "device_exists"}
    assert await room.audit("claim_issued") == []


@pytest.mark.parametrize("options", [{**WITH_CLAIMS, **WITH_ACCOUNTS}])
async def test_secrets_of_a_handover_are_nowhere(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the code nor what it opens is in a log at debug, the trail, a state, the diagnostics or a file."""
    caplog.set_level(logging.DEBUG)
    form = await room.submit(await _walk(room, "auth"), {"auth": "hs256", "handover": "claim"})
    claim = _claim_of(form)
    settings = await _claim(room, claim)
    await room.submit(form)
    needles: Needles = of_root_key("tent-1", settings["key"])
    needles |= of_bytes("code", claim["code"].encode()) | of_bytes("password", settings["password"].encode())
    assert await leaks(room, caplog, needles) == []


# Rotating


@pytest.mark.parametrize("hours", [0.5, 168])
async def test_rotates_with_an_overlap(tent: RoomDevice, hours: float) -> None:
    """The page shows the new settings; the old key holds for as long as was chosen."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    form = await _change(room, "rotate")
    assert fields_of(form) == ["overlap_hours"]
    page = await room.submit(form, {"overlap_hours": hours})
    assert page["step_id"] == "rotated"
    old, new = room.hub.gateway.registry["tent-1"].credentials
    assert (old.state, old.ends) == (CredentialState.RETIRING, room.now + hours * 3600)
    assert new.state is CredentialState.PENDING
    await _device(room, settings_on(page)).hello()
    done = await room.submit(page)
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "rotated")


async def test_rotates_for_good(tent: RoomDevice) -> None:
    """Without an overlap the old key is destroyed, and nobody is offered to restore it."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await room.submit(await _change(room, "rotate"), {"overlap_hours": 0})
    old, new = room.hub.gateway.registry["tent-1"].credentials
    assert (old.state, old.secret) == (CredentialState.REVOKED, b"")
    assert new.state is CredentialState.PENDING
    assert "restore" not in await _menu(room)


async def test_overlap_is_a_day_unless_chosen(tent: RoomDevice) -> None:
    """Nobody has to think about the overlap."""
    await tent.report({"temp_c": 21.5})
    await tent.room.submit(await _change(tent.room, "rotate"))
    assert tent.room.hub.gateway.registry["tent-1"].credentials[0].ends == tent.room.now + OVERLAP


@pytest.mark.parametrize("hours", [-1, 168.1, "long"])
async def test_overlap_that_is_not_possible(tent: RoomDevice, hours: Any) -> None:
    """The form does not take it, and nothing is rotated."""
    with pytest.raises(InvalidData):
        await tent.room.submit(await _change(tent.room, "rotate"), {"overlap_hours": hours})
    assert len(tent.room.hub.gateway.registry["tent-1"].credentials) == 1


async def test_rotates_a_key_pair(room: Room) -> None:
    """A device with its own key pair is asked for the new public key."""
    old, new = generate_key_pair("eddsa"), generate_key_pair("eddsa")
    await room.enrol(auth="eddsa", public_key=public_pem(old), private_key=old)
    form = await _change(room, "rotate")
    assert fields_of(form) == ["overlap_hours", "public_key"]
    for answer in ({}, {"public_key": public_pem(old)}):
        form = await room.submit(form, {"overlap_hours": 1, **answer})
        assert form["errors"] == {"public_key": "public_key_invalid"}
    page = await room.submit(form, {"overlap_hours": 1, "public_key": public_pem(new)})
    assert page["step_id"] == "rotated"
    assert room.hub.gateway.registry["tent-1"].credentials[-1].public_key == public_pem(new)


@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
@pytest.mark.parametrize(("auth", "secret"), [("broker", "password"), ("token", "token")])
async def test_rotates_a_device_that_signs_nothing(room: Room, auth: str, secret: str) -> None:
    """The page is that of its kind, with its new password or token."""
    data = {"device_id": "tent-1", "name": "Tent 1", "metrics": ["temp_c"], "auth": auth}
    enrolled = await room.call("enroll_device", data)
    form = await _change(room, "rotate")
    assert fields_of(form) == ["overlap_hours"]
    page = await room.submit(form)
    assert page["step_id"] == "rotated_plain"
    assert settings_on(page)[secret] != enrolled[secret]
    done = await room.submit(page)
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "rotated")


async def test_disk_fails_while_a_key_is_rotated(tent: RoomDevice) -> None:
    """Nothing is rotated and nothing shown, and the next try succeeds."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    form = await _change(room, "rotate")
    room.break_store()
    again = await room.submit(form, {"overlap_hours": 0})
    assert (again["step_id"], again["errors"]) == ("rotate", {"base": "store_not_written"})
    await tent.report({"temp_c": 22.5})
    assert room.state("tent-1/temp_c").state == "22.5"
    room.repair_store()
    assert (await room.submit(again, {"overlap_hours": 0}))["step_id"] == "rotated"


async def test_rotates_where_there_is_nothing(room: Room) -> None:
    """A device that the broker vouches for, without an account of ours, has nothing to rotate."""
    data = {"device_id": "tent-1", "name": "Tent 1", "metrics": ["temp_c"], "auth": "broker"}
    await room.call("enroll_device", data)
    form = await room.submit(await _change(room, "rotate"))
    assert form["errors"] == {"base": "credential_unknown"}


# Restoring


async def test_restores(tent: RoomDevice) -> None:
    """The menu offers it while there is something to restore, and the old key is in use again."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    assert "restore" not in await _menu(room)
    await room.call("rotate_credentials", {"device_id": "tent-1", "overlap_hours": 1})
    assert "restore" in await _menu(room)
    form = await _change(room, "restore")
    assert (form["step_id"], form["description_placeholders"]) == ("restore", {"name": "Tent 1"})
    done = await room.submit(form)
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "restored")
    again = RoomDevice(room, DeviceProtocol(tent.identity))
    await again.report({"temp_c": 22.5})
    assert room.state("tent-1/temp_c").state == "22.5"
    assert "restore" not in await _menu(room)
    assert [each["identity"] for each in await room.audit("credential_restored")] == ["administrator"]


async def test_restores_too_late(tent: RoomDevice) -> None:
    """Somebody else restored, or revoked, while this form was open."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    form = await _change(room, "restore")
    await room.call("restore_credentials", {"device_id": "tent-1"})
    form = await room.submit(form)
    assert form["errors"] == {"base": "credential_unknown"}
    await room.call("revoke_device", {"device_id": "tent-1"})
    form = await room.submit(form)
    assert form["errors"] == {"base": "device_revoked"}


async def test_disk_fails_while_credentials_are_restored(tent: RoomDevice) -> None:
    """Nothing is restored, and the next try succeeds."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    form = await _change(room, "restore")
    room.break_store()
    again = await room.submit(form)
    assert (again["step_id"], again["errors"]) == ("restore", {"base": "store_not_written"})
    assert [each.state.value for each in room.hub.gateway.registry["tent-1"].credentials] == ["retiring", "pending"]
    room.repair_store()
    assert (await room.submit(again))["reason"] == "restored"


# Disabling and revoking


async def test_disables_enables_and_revokes(tent: RoomDevice) -> None:
    """A disabled device may be rotated and restored, a revoked one may not: the menu offers what is possible."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    assert (await room.submit(await _change(room, "disable")))["reason"] == "disabled"
    assert {"rotate", "restore", "enable", "revoke"} < set(await _menu(room))
    assert (await room.submit(await _change(room, "enable")))["reason"] == "active"
    assert (await room.submit(await _change(room, "revoke")))["reason"] == "revoked"
    assert not {"rotate", "restore", "enable", "disable", "revoke"} & set(await _menu(room))


@pytest.mark.parametrize("step", ["disable", "revoke"])
async def test_disk_fails_while_a_device_is_kept_out(tent: RoomDevice, step: str) -> None:
    """It is kept out all the same; who did it is told that the disk has to be seen to."""
    room = tent.room
    form = await _change(room, step)
    assert form["description_placeholders"] == {"name": "Tent 1"}
    room.break_store()
    again = await room.submit(form)
    assert (again["step_id"], again["errors"]) == (step, {"base": "store_not_written"})
    await tent.send(b"anything")
    assert room.hub.refused_by_code("tent-1") == {f"device_{step}d": 1}
    room.repair_store()


async def test_kept_out_meanwhile(tent: RoomDevice) -> None:
    """A device that somebody else revoked while the form was open is not let in again."""
    room = tent.room
    await room.submit(await _change(room, "disable"))
    form = await _change(room, "enable")
    await room.call("revoke_device", {"device_id": "tent-1"})
    assert (await room.submit(form))["errors"] == {"base": "device_revoked"}
