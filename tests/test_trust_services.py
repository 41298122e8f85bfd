"""The services for administrators: tokens, certificates, claim codes, the posture, and the registry as a whole."""

from collections.abc import Mapping
import json
import logging
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from homeassistant.auth.models import User
from homeassistant.core import Context
from homeassistant.exceptions import HomeAssistantError, Unauthorized
import jwt
import probatio
import pytest

from custom_components.grokmon.choices import METHODS, Choices
from custom_components.grokmon.gateway.checklist import Item
from custom_components.grokmon.gateway.credentials import LIFETIMES
from custom_components.grokmon.gateway.errors import Code, GatewayError
from custom_components.grokmon.gateway.lifecycle import OVERLAP
from custom_components.grokmon.gateway.models import CredentialKind, CredentialState, DeviceStatus
from custom_components.grokmon.gateway.posture import Check, Finding

from .broker.test_address import set_mqtt
from .common import Room, RoomDevice
from .live.needles import Needles, of_bytes
from .test_credential_keeper import leaks

DAY = 86_400
CALLS: dict[str, dict[str, Any]] = {
    "issue_access_token": {"device_id": "tent-1"},
    "issue_claim_code": {"device_id": "tent-1"},
    "sign_certificate": {"device_id": "tent-1"},
    "rotate_authority": {},
    "probe_broker": {},
    "export_registry": {},
    "import_registry": {"csv": "device_id,name,auth,metrics\ntent-2,Tent 2,hs256,ph"},
}
WITH_CLAIMS = {"http_enrolment": True}
OF_A_DEVICE = ["issue_access_token", "issue_claim_code", "sign_certificate"]


async def _refusal(room: Room, service: str, data: Mapping[str, Any]) -> tuple[str, Mapping[str, str]]:
    """Call a service that must refuse; return why."""
    error = await room.refusal(service, data)
    return str(error.translation_key), dict(error.translation_placeholders or {})


def _credentials(room: Room, kind: CredentialKind) -> list[tuple[CredentialState, float]]:
    """Return the states of a device's credentials of a kind, and until when each is accepted."""
    return [(each.state, each.until) for each in room.hub.gateway.registry["tent-1"].credentials if each.kind is kind]


def _is_enforced(room: Room) -> bool:
    return room.hub.gateway.broker_enforced


# Who may call


@pytest.mark.parametrize("service", CALLS)
async def test_administrators_only(tent: RoomDevice, hass_read_only_user: User, service: str) -> None:
    """Neither an automation nor a user of the household nor one who is gone gets anything, or changes anything."""
    room = tent.room
    stored, audit = room.stored(), await room.audit()
    for context in (Context(), Context(user_id=hass_read_only_user.id), Context(user_id="deleted")):
        with pytest.raises(Unauthorized):
            await room.call(service, CALLS[service], context)
    assert room.stored() == stored
    refused = await room.audit("service_refused")
    assert {each.get("identity") for each in refused} == {"unknown", hass_read_only_user.id, "deleted"}
    assert [each for each in await room.audit() if each not in refused] == audit
    assert list(room.hub.enrolment.coordinators) == ["tent-1"]


@pytest.mark.parametrize("options", [WITH_CLAIMS])
@pytest.mark.parametrize("service", CALLS)
async def test_administrator_may(tent: RoomDevice, service: str) -> None:
    """Every one of them answers an administrator."""
    assert await tent.room.call(service, CALLS[service])


@pytest.mark.parametrize("service", CALLS)
async def test_needs_a_running_hub(tent: RoomDevice, service: str) -> None:
    """While the hub does not run, the services say so."""
    assert await tent.room.hass.config_entries.async_unload(tent.room.entry.entry_id)
    assert (await _refusal(tent.room, service, CALLS[service]))[0] == "not_loaded"


@pytest.mark.parametrize("service", OF_A_DEVICE)
async def test_unknown_device(tent: RoomDevice, service: str) -> None:
    """A device must be enrolled; asking for another leaves nothing behind, not even an authority."""
    assert await _refusal(tent.room, service, {"device_id": "tent-9"}) == ("unknown_device", {"detail": "tent-9"})
    assert not tent.room.hub.trust.certificates.in_use


@pytest.mark.parametrize(
    ("service", "data"),
    [
        *((service, {}) for service in OF_A_DEVICE),
        *((service, {"device_id": None}) for service in OF_A_DEVICE),
        *((service, {"anything": 1}) for service in ("rotate_authority", "probe_broker", "export_registry")),
        *(("sign_certificate", {"device_id": "tent-1", "days": days}) for days in (0, -1, 731, "many", 1e9)),
        *(("sign_certificate", {"device_id": "tent-1", "overlap_hours": hours}) for hours in (-1, 169, "many")),
    ],
)
async def test_refuses_what_is_out_of_form(tent: RoomDevice, service: str, data: dict[str, Any]) -> None:
    """The form of a call is checked before anything else."""
    with pytest.raises(probatio.Invalid):
        await tent.room.call(service, data)


# Access tokens


async def test_issues_an_access_token(tent: RoomDevice) -> None:
    """A device that signs gets a token for HTTP beside its key, and still has to sign."""
    room = tent.room
    issued = await room.call("issue_access_token", {"device_id": "tent-1"})
    assert issued.keys() == {"device_id", "token", "path"}
    assert (issued["device_id"], issued["path"]) == ("tent-1", "/api/grokmon/v1/telemetry")
    claims = jwt.decode(issued["token"], options={"verify_signature": False})
    assert (claims["sub"], claims["scope"], claims["aud"]) == ("tent-1", "telemetry", "grokmon/http")
    assert claims["exp"] == int(room.now + LIFETIMES[CredentialKind.TOKEN])
    peer = room.hub.async_authenticate(issued["token"].encode(), room.now)
    with pytest.raises(GatewayError) as refused:
        room.hub.async_receive_http(peer, "application/json", b'{"metrics":{"temp_c":21.5}}', room.now)
    assert refused.value.code is Code.UNSIGNED
    await tent.hello()
    reading = tent.sign_reading({"temp_c": 21.5})
    assert room.hub.async_receive_http(peer, "application/jwt", reading, room.now) == 1
    assert room.state("tent-1/temp_c").state == "21.5"
    (record,) = await room.audit("issued")
    assert (record["device"], record["kind"], record["key_ids"]) == ("tent-1", "token", [claims["jti"]])
    assert record["identity"] == room.admin.user_id


async def test_later_token_replaces_the_earlier(tent: RoomDevice) -> None:
    """A token that was never used ends with the next one; one that was used has its overlap."""
    room = tent.room
    await tent.report({"temp_c": 20.5})
    tokens = [(await room.call("issue_access_token", {"device_id": "tent-1"}))["token"].encode() for _ in range(2)]
    with pytest.raises(GatewayError) as refused:
        room.hub.async_authenticate(tokens[0], room.now)
    assert refused.value.code is Code.CREDENTIAL_REVOKED
    peer = room.hub.async_authenticate(tokens[1], room.now)
    room.hub.async_receive_http(peer, "application/jwt", tent.sign_reading({"temp_c": 21.5}), room.now)
    await room.call("issue_access_token", {"device_id": "tent-1"})
    assert _credentials(room, CredentialKind.TOKEN)[1:] == [
        (CredentialState.RETIRING, room.now + OVERLAP),
        (CredentialState.PENDING, room.now + LIFETIMES[CredentialKind.TOKEN]),
    ]
    assert room.hub.async_authenticate(tokens[1], room.now)


async def test_token_of_a_device_that_may_not_speak(tent: RoomDevice) -> None:
    """A token opens nothing while its device is disabled, and never again once it is revoked."""
    room = tent.room
    token = (await room.call("issue_access_token", {"device_id": "tent-1"}))["token"].encode()
    for status, code in (
        (DeviceStatus.DISABLED, Code.DEVICE_DISABLED),
        (DeviceStatus.REVOKED, Code.DEVICE_REVOKED),
    ):
        await room.hub.enrolment.async_set_status("tent-1", status, "somebody")
        with pytest.raises(GatewayError) as refused:
            room.hub.async_authenticate(token, room.now)
        assert refused.value.code is code
    await room.remove()
    await room.enrol()
    with pytest.raises(GatewayError) as refused:
        room.hub.async_authenticate(token, room.now)
    assert refused.value.code is Code.CREDENTIAL_REVOKED


# The names of others


@pytest.mark.parametrize("options", [{"broker": {"mode": "none", "admin_username": "boss"}}])
@pytest.mark.parametrize("name", ["homeassistant", "boss"])
async def test_name_of_anothers_account(room: Room, name: str) -> None:
    """No device is called like Home Assistant or the administrator at the broker: its certificate would open that."""
    set_mqtt(room, {"username": "homeassistant"})
    for service, data in (
        ("enroll_device", {"device_id": name, "name": "Tent 9", "metrics": ["temp_c"]}),
        ("import_registry", {"csv": f"device_id,name,auth,metrics\n{name},Tent 9,hs256,ph"}),
    ):
        assert (await _refusal(room, service, data))[0] == "device_id_invalid"
    choices = Choices(device_id=name, name="T", zone=None, metrics=frozenset(), ranges={})
    with pytest.raises(GatewayError, match="device_id_invalid"):
        room.hub.enrolment.prepare(choices, METHODS["eddsa"])
    assert name not in room.hub.gateway.registry


async def test_name_that_another_took_later(room: Room) -> None:
    """A device that was called so before gets no certificate in that name."""
    set_mqtt(room, {})
    await room.enrol("homeassistant")
    set_mqtt(room, {"username": "homeassistant"})
    refused = await _refusal(room, "sign_certificate", {"device_id": "homeassistant"})
    assert refused == ("device_id_invalid", {"detail": "homeassistant"})
    assert not room.hub.trust.certificates.in_use


# Certificates


def _request(key: EllipticCurvePrivateKey, name: str = "somebody-else") -> str:
    """Return a signing request that asks for more than it gets."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=5), critical=True)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


async def _signed(room: Room, **data: Any) -> tuple[x509.Certificate, dict[str, Any]]:
    """Have a certificate signed; return it, verified against what vouches for it, and the whole response."""
    response = await room.call("sign_certificate", {"device_id": "tent-1", **data})
    certificate = x509.load_pem_x509_certificate(response["certificate"].encode())
    authorities = x509.load_pem_x509_certificates(response["ca_certificate"].encode())
    certificate.verify_directly_issued_by(authorities[0])
    assert certificate.subject == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tent-1")])
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    return certificate, response


def _public(key: Any) -> bytes:
    pem: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


async def test_signs_with_a_new_key(tent: RoomDevice) -> None:
    """Without a request the response has the key, once; it is kept nowhere."""
    room = tent.room
    certificate, response = await _signed(room)
    assert response.keys() == {"device_id", "certificate", "ca_certificate", "private_key"}
    key = load_pem_private_key(response["private_key"].encode(), password=None)
    assert _public(key.public_key()) == _public(certificate.public_key())
    assert _credentials(room, CredentialKind.CERTIFICATE) == [
        (CredentialState.PENDING, certificate.not_valid_after_utc.timestamp())
    ]
    assert certificate.not_valid_after_utc.timestamp() == int(room.now) + 365 * DAY
    again, other = await _signed(room)
    assert other["private_key"] != response["private_key"]
    assert again.serial_number != certificate.serial_number


async def test_signs_a_request(tent: RoomDevice) -> None:
    """Of a request only the key counts: not the name it gives itself, nor what it wants to be allowed."""
    key = generate_private_key(SECP256R1())
    certificate, response = await _signed(tent.room, request=_request(key), days=30)
    assert response.keys() == {"device_id", "certificate", "ca_certificate"}
    assert _public(certificate.public_key()) == _public(key.public_key())
    assert certificate.not_valid_after_utc.timestamp() == int(tent.room.now) + 30 * DAY
    (record,) = await tent.room.audit("issued")
    assert (record["kind"], record["key_ids"]) == ("certificate", [f"{certificate.serial_number:x}"])
    assert record["identity"] == tent.room.admin.user_id


def _bad_requests() -> dict[str, tuple[str, str]]:
    request = _request(generate_private_key(SECP256R1()))
    lines = request.splitlines()
    # The last bits are those of the signature.
    forged = "\n".join([*lines[:-2], lines[-2][:-8] + "A" * 8, lines[-1]])
    return {
        "empty": ("", "not a certificate request in PEM"),
        "no PEM": ("please", "not a certificate request in PEM"),
        "cut": (request[:200], "not a certificate request in PEM"),
        "other curve": (_request(generate_private_key(SECP384R1())), "a key that is neither P-256 nor Ed25519"),
        "forged": (forged, "not signed with its own key"),
        "endless": (request * 100, "longer than 4096 characters, leave out what is before BEGIN CERTIFICATE REQUEST"),
    }


BAD_REQUESTS = _bad_requests()


@pytest.mark.parametrize("kind", BAD_REQUESTS)
async def test_request_that_cannot_be_signed(tent: RoomDevice, kind: str) -> None:
    """A request that proves nothing is refused in words, and the device has no certificate of it."""
    request, detail = BAD_REQUESTS[kind]
    code, placeholders = await _refusal(tent.room, "sign_certificate", {"device_id": "tent-1", "request": request})
    assert code == "request_invalid"
    assert kind == "forged" or placeholders == {"detail": detail}
    assert _credentials(tent.room, CredentialKind.CERTIFICATE) == []
    assert await tent.room.audit("issued") == []


async def test_disk_fails_while_a_certificate_is_signed(tent: RoomDevice) -> None:
    """A certificate that is not on record is not handed out: nobody could revoke it."""
    room = tent.room
    await _signed(room)
    before = _credentials(room, CredentialKind.CERTIFICATE)
    room.break_store()
    with pytest.raises(HomeAssistantError) as failed:
        await room.call("sign_certificate", {"device_id": "tent-1"})
    assert failed.value.translation_key == "store_not_written"
    assert _credentials(room, CredentialKind.CERTIFICATE) == before
    room.repair_store()
    await _signed(room)


async def test_rotates_the_authority(tent: RoomDevice) -> None:
    """Two authorities vouch meanwhile; what is signed from here on is signed by the new one, after a restart too."""
    room = tent.room
    _, first = await _signed(room)
    rotated = await room.call("rotate_authority")
    assert rotated.keys() == {"ca_certificate"}
    new, old = x509.load_pem_x509_certificates(rotated["ca_certificate"].encode())
    assert [old] == x509.load_pem_x509_certificates(first["ca_certificate"].encode())
    certificate, second = await _signed(room)
    certificate.verify_directly_issued_by(new)
    assert second["ca_certificate"] == rotated["ca_certificate"]
    await room.reload()
    assert (await _signed(room))[1]["ca_certificate"] == rotated["ca_certificate"]
    assert [each.get("identity") for each in await room.audit("authority_rotated")][-1] == room.admin.user_id
    # The one before the last goes with the next, once none of its certificates holds.
    await room.let_pass(DAY)
    third = x509.load_pem_x509_certificates((await room.call("rotate_authority"))["ca_certificate"].encode())
    assert len(third) == 2
    assert (third[1], old in third) == (new, False)


async def test_disk_fails_while_the_authority_is_rotated(tent: RoomDevice) -> None:
    """The authority stays as it was, and the next try succeeds."""
    room = tent.room
    await _signed(room)
    before = room.hub.trust.certificates.bundle()
    room.break_store()
    with pytest.raises(HomeAssistantError) as failed:
        await room.call("rotate_authority")
    assert failed.value.translation_key == "store_not_written"
    assert room.hub.trust.certificates.bundle() == before
    room.repair_store()
    assert (await room.call("rotate_authority"))["ca_certificate"].endswith(before)


async def test_keys_of_certificates_are_nowhere(tent: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the key of a device nor that of the authority is in a log at debug, the trail, a state or a file."""
    caplog.set_level(logging.DEBUG)
    room = tent.room
    _, response = await _signed(room)
    await room.call("rotate_authority")
    private = [line for line in response["private_key"].splitlines() if not line.startswith("-")]
    needles: Needles = {line.encode(): "key of the device" for line in private}
    for each in room.hub.store.state.authority.authorities:
        number = each.key.private_numbers().private_value
        needles |= of_bytes("key of an authority", number.to_bytes(32)) | {str(number).encode(): "decimal"}
    assert await leaks(room, caplog, needles) == []


# Claim codes


@pytest.mark.parametrize("options", [WITH_CLAIMS])
async def test_issues_a_claim_code(tent: RoomDevice) -> None:
    """The response has what the QR code of the flow has."""
    issued = await tent.room.call("issue_claim_code", {"device_id": "tent-1"})
    assert issued == {"device_id": "tent-1", "code": issued["code"], "path": "/api/grokmon/v1/claim"}
    assert len(issued["code"]) == 22
    (record,) = await tent.room.audit("claim_issued")
    assert (record["device"], record["identity"]) == ("tent-1", tent.room.admin.user_id)
    assert issued["code"] not in json.dumps(record)


# The posture


async def test_probes_the_broker(tent: RoomDevice, findings: dict[Check | Item, Finding]) -> None:
    """The response is what was found now, not what was found at the last time."""
    room = tent.room
    findings |= dict.fromkeys(Check, Finding.PASSED)
    shown = await room.call("probe_broker")
    assert (shown["posture"], shown["score"], shown["anonymous"], shown["mfa"]) == ("enforced", 100, "passed", "passed")
    assert _is_enforced(room)
    findings[Check.FOREIGN_PUBLISH] = Finding.FAILED
    shown = await room.call("probe_broker")
    assert (shown["posture"], shown["foreign_publish"]) == ("open", "failed")
    assert shown["score"] == round(100 * (len(findings) - 1) / len(findings))
    assert not _is_enforced(room)
    assert json.loads(json.dumps(shown)) == shown
