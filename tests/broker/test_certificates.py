"""The authority in Home Assistant: certificates, the list of those that are revoked, and the files of the broker."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
import threading
from time import time
from typing import Any
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import issue_registry as ir
import pytest

from custom_components.grokmon import posture
from custom_components.grokmon.broker import certificates
from custom_components.grokmon.broker.accounts import BrokerAccounts
from custom_components.grokmon.checklist import Checklist
from custom_components.grokmon.gateway import authority
from custom_components.grokmon.gateway.checklist import Item
from custom_components.grokmon.gateway.models import CredentialKind, CredentialState, DeviceStatus
from custom_components.grokmon.gateway.posture import Finding, PostureReport
from tests.common import Room, RoomDevice

DAY = 86_400.0
HOUR = 3600.0
ISSUE = "revocation_list_expires"
# Made before any clock stands still: cryptography keeps for good the class of dates that it meets first.
STRANGER = authority.new_authority(time())


@pytest.fixture(autouse=True)
def nothing_measured() -> Iterator[None]:
    """Measure nothing of a broker that is not there."""

    async def measure(_checklist: Checklist) -> dict[Item, Finding]:
        return dict.fromkeys(Item, Finding.PASSED)

    with (
        patch.object(posture, "probe", lambda _target, now: PostureReport(results=(), at=now)),
        patch.object(Checklist, "async_measure", measure),
    ):
        yield


async def sign(room: Room, device_id: str = "tent-1", **more: Any) -> dict[str, Any]:
    """Sign a certificate through the service."""
    return await room.call("sign_certificate", {"device_id": device_id, **more})


def request() -> str:
    """Return a request of a device that keeps its key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(generate_private_key(SECP256R1()), SHA256()).public_bytes(Encoding.PEM).decode()


def verify(made: authority.Authority, signed: dict[str, Any]) -> None:
    """Raise ValueError or InvalidSignature for a certificate that this authority did not sign."""
    issuer = x509.load_pem_x509_certificate(made.certificate.encode())
    x509.load_pem_x509_certificate(signed["certificate"].encode()).verify_directly_issued_by(issuer)


def serial(signed: dict[str, Any]) -> int:
    """Return the serial number of a certificate."""
    return x509.load_pem_x509_certificate(signed["certificate"].encode()).serial_number


def folder(room: Room) -> Path:
    """Return the folder of what the broker reads."""
    return Path(room.hass.config.path("grokmon", "broker"))


def lists(room: Room) -> list[x509.CertificateRevocationList]:
    """Return the lists that the broker reads."""
    text = (folder(room) / "crl.pem").read_text(encoding="utf-8")
    end = "-----END X509 CRL-----\n"
    return [x509.load_pem_x509_crl((part + end).encode()) for part in text.split(end)[:-1]]


def revoked(room: Room) -> set[int]:
    """Return the serial numbers that every list of the broker holds."""
    found = [{entry.serial_number for entry in each} for each in lists(room)]
    assert found
    assert all(each == found[0] for each in found)
    return found[0]


def number(room: Room) -> int:
    """Return the number of the list that the broker reads."""
    return lists(room)[0].extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def issue(room: Room) -> ir.IssueEntry | None:
    """Return the issue of a list that expires."""
    return ir.async_get(room.hass).async_get_issue("grokmon", ISSUE)


async def test_nothing_without_a_need(room: Room) -> None:
    """Where no certificate was ever signed there is no authority, no list and no file."""
    await room.let_pass(HOUR)
    assert not room.hub.trust.certificates.in_use
    assert not folder(room).exists()
    await room.enrol()
    await room.hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "administrator")
    await room.settle()
    assert not folder(room).exists()


@pytest.mark.parametrize("own_key", [True, False], ids=["its own key", "a key made for it"])
async def test_signed_certificate_is_a_credential(tent: RoomDevice, own_key: bool) -> None:
    """The device has it beside its key, the trail tells it, and the key that was made is nowhere kept."""
    room = tent.room
    signed = await sign(room, **({"request": request()} if own_key else {}))
    certificate = x509.load_pem_x509_certificate(signed["certificate"].encode())
    assert certificate.subject.rfc4514_string() == "CN=tent-1"
    state = room.hub.store.state.authority
    verify(state.authorities[0], signed)
    with pytest.raises(ValueError, match="issuer"):
        verify(STRANGER, signed)
    assert signed["ca_certificate"] == state.authorities[0].certificate == (folder(room) / "ca.crt").read_text()
    (record,) = room.hub.gateway.registry["tent-1"].of_kind(CredentialKind.CERTIFICATE)
    assert int(record.key_id, 16) == certificate.serial_number
    assert record.not_after == certificate.not_valid_after_utc.timestamp()
    assert "private_key" not in signed if own_key else load_pem_private_key(signed["private_key"].encode(), None)
    (issued,) = await room.audit("issued")
    assert (issued["kind"], issued["key_ids"]) == ("certificate", [record.key_id])
    assert revoked(room) == set()
    for file in (*folder(room).iterdir(), room.storage / "grokmon.security", room.audit_path):
        assert file.stat().st_mode & 0o777 == 0o600
        assert "PRIVATE KEY" not in file.read_text(encoding="utf-8")
    assert folder(room).stat().st_mode & 0o777 == 0o700


async def test_days(tent: RoomDevice) -> None:
    """A certificate holds as long as was asked for; more than two years nobody gets."""
    signed = await sign(tent.room, days=30)
    ends = x509.load_pem_x509_certificate(signed["certificate"].encode()).not_valid_after_utc.timestamp()
    assert ends == tent.room.now + 30 * DAY
    with pytest.raises(Exception, match="days"):
        await sign(tent.room, days=731)


async def test_no_certificate_for_a_revoked_device(tent: RoomDevice) -> None:
    """A revoked device gets none, nor does one that nobody knows, nor what is no request."""
    room = tent.room
    with pytest.raises(ServiceValidationError):
        await sign(room, "nobody")
    with pytest.raises(ServiceValidationError):
        await sign(room, request="garbage")
    await room.hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "administrator")
    with pytest.raises(ServiceValidationError):
        await sign(room)


async def test_certificate_opens_an_account(tent: RoomDevice) -> None:
    """The account of certificates is called as the device, has no password, and is one for all of them."""
    wanted = BrokerAccounts._wanted
    await sign(tent.room)
    await sign(tent.room)
    accounts, _ = wanted(tent.room.hub.trust.accounts)
    (account,) = [each for each in accounts if each.device_id == "tent-1"]
    assert (account.username, account.client_id, account.password, account.enabled) == ("tent-1", "tent-1", None, True)
    await tent.room.hub.enrolment.async_set_status("tent-1", DeviceStatus.DISABLED, "administrator")
    accounts, _ = wanted(tent.room.hub.trust.accounts)
    assert [each.enabled for each in accounts if each.device_id == "tent-1"] == [False]


@pytest.mark.parametrize("how", ["revoke", "remove"])
async def test_revoked_certificates_are_on_the_list(room: Room, how: str) -> None:
    """All certificates of a device that is no more are on the list at once, and no other's."""
    for name in ("tent-1", "tent-2"):
        await room.enrol(name)
    own = [await sign(room), await sign(room)]
    await sign(room, "tent-2")
    before = number(room)
    if how == "revoke":
        await room.hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "administrator")
        await room.settle()
    else:
        await room.remove()
    assert revoked(room) == {serial(signed) for signed in own}
    assert number(room) > before
    entry = (await room.audit("revocation_list"))[-1]
    assert (entry["number"], entry["revoked"]) == (number(room), 2)
    assert (folder(room) / "crl.pem").read_text() == room.hub.store.state.authority.revocation_list
    (made,) = lists(room)
    assert made.next_update_utc == datetime.fromtimestamp(room.now + authority.CRL_DAYS * DAY, UTC)


async def test_disabled_device_is_not_on_the_list(tent: RoomDevice) -> None:
    """Who may come back is kept out by the account alone."""
    await sign(tent.room)
    await tent.room.hub.enrolment.async_set_status("tent-1", DeviceStatus.DISABLED, "administrator")
    await tent.room.settle()
    assert revoked(tent.room) == set()


async def test_replaced_certificate_ends(tent: RoomDevice) -> None:
    """The certificate before is accepted for the overlap and on the list within an hour after it, for good."""
    room = tent.room
    first = await sign(room)
    await sign(room)
    await room.let_pass(DAY - HOUR)
    assert revoked(room) == set()
    await room.let_pass(2 * HOUR)
    assert revoked(room) == {serial(first)}
    states = {each.state for each in room.hub.gateway.registry["tent-1"].of_kind(CredentialKind.CERTIFICATE)}
    assert CredentialState.RETIRING in states
    before = number(room)
    await room.let_pass(2 * HOUR)
    assert number(room) == before
    await room.let_pass(8 * DAY)
    await room.let_pass(HOUR)
    assert revoked(room) == {serial(first)}


async def test_restored_certificate_is_taken_off_the_list(tent: RoomDevice) -> None:
    """What was replaced holds again once it is restored, and what replaced it does not."""
    room = tent.room
    first, second = await sign(room), await sign(room)
    await room.let_pass(DAY + HOUR)
    assert revoked(room) == {serial(first)}
    await room.call("restore_credentials", {"device_id": "tent-1"})
    await room.settle()
    assert revoked(room) == {serial(second)}
    await room.reload()
    assert revoked(room) == {serial(second)}


async def test_replaced_certificate_that_expired_is_not_listed(tent: RoomDevice) -> None:
    """The list holds what would be good otherwise."""
    room = tent.room
    await sign(room, days=2)
    await sign(room)
    await room.let_pass(DAY + HOUR)
    assert len(revoked(room)) == 1
    await room.let_pass(DAY)
    assert revoked(room) == set()


async def test_certificate_is_ended_at_once(tent: RoomDevice) -> None:
    """Without an overlap the certificate before is on the list as soon as there is another, and cannot be restored."""
    room = tent.room
    first = await sign(room)
    second = await sign(room, overlap_hours=0)
    await room.settle()
    assert revoked(room) == {serial(first)}
    with pytest.raises(ServiceValidationError):
        await room.call("restore_credentials", {"device_id": "tent-1"})
    await sign(room, overlap_hours=2)
    await room.let_pass(4 * HOUR)
    assert revoked(room) == {serial(first), serial(second)}


async def test_revoked_two_at_once(room: Room) -> None:
    """However the disk and the signing take their time, the last list has everybody."""
    names = [f"node-{each}" for each in range(4)]
    for name in names:
        await room.enrol(name)
    signed = {serial(await sign(room, name)) for name in names}
    revocation_list, slow = authority.revocation_list, threading.Event()

    def late(issuer: authority.Authority, ended: dict[str, float], count: int, now: float) -> str:
        if len(ended) == 1:
            assert slow.wait(10)
        return revocation_list(issuer, ended, count, now)

    with patch.object(authority, "revocation_list", late):
        for name in names:
            await room.hub.enrolment.async_set_status(name, DeviceStatus.REVOKED, "administrator")
        slow.set()
        await room.settle()
    assert revoked(room) == signed


async def test_two_that_need_an_authority_at_once(room: Room) -> None:
    """The first certificates of a site are all of one authority."""
    names = [f"node-{each}" for each in range(4)]
    for name in names:
        await room.enrol(name)
    call = room.hass.services.async_call
    answers = await asyncio.gather(
        *(call("grokmon", "sign_certificate", {"device_id": name}, True, room.admin, None, True) for name in names)
    )
    signed: list[Any] = list(answers)
    assert len({each["ca_certificate"] for each in signed}) == 1
    (made,) = room.hub.store.state.authority.authorities
    for each in signed:
        verify(made, each)


async def test_list_is_renewed_weekly(tent: RoomDevice) -> None:
    """The list is signed anew after a week, and not every hour."""
    room = tent.room
    await sign(room)
    first = number(room)
    await room.let_pass(6 * DAY)
    assert number(room) == first
    await room.let_pass(DAY + HOUR)
    assert number(room) == first + 1
    assert issue(room) is None


async def test_list_that_expires(tent: RoomDevice) -> None:
    """While the list cannot be written there is an issue in time, that counts the days, and goes when it works."""
    room = tent.room
    await sign(room)
    with patch.object(certificates, "_write", side_effect=OSError("disk full")):
        await room.let_pass(10 * DAY)
        assert issue(room) is None
        await room.let_pass(10 * DAY)
        raised = issue(room)
        assert raised is not None
        assert (raised.severity, raised.translation_placeholders) == (ir.IssueSeverity.ERROR, {"days": "10"})
        await room.let_pass(40 * DAY)
        raised = issue(room)
        assert raised is not None
        assert raised.translation_placeholders == {"days": "0"}
    await room.let_pass(HOUR)
    assert issue(room) is None
    assert lists(room)[0].next_update_utc is not None


@pytest.mark.parametrize("broken", ["file", "store"])
async def test_list_that_could_not_be_kept(tent: RoomDevice, broken: str) -> None:
    """What failed is tried again within the hour, not within the week."""
    room = tent.room
    signed = await sign(room)
    target: Any = (
        patch.object(certificates, "_write", side_effect=OSError("disk full"))
        if broken == "file"
        else patch.object(authority, "revocation_list", side_effect=OSError("disk full"))
    )
    with target:
        await room.hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "administrator")
        await room.settle()
        assert revoked(room) == set()
        failed = await room.audit("revocation_list")
        assert failed[-1]["reason"] == "OSError"
    await room.let_pass(HOUR)
    assert revoked(room) == {serial(signed)}


async def test_device_removed_while_the_hub_does_not_run(tent: RoomDevice) -> None:
    """The next start lists the certificates of a device whose record it forgets."""
    room = tent.room
    signed = await sign(room)
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    await room.remove()
    assert await room.set_up()
    assert revoked(room) == {serial(signed)}
    assert list(room.stored()["authority"]["revoked"]) == [f"{serial(signed):x}"]


async def test_crash_before_a_certificate_was_listed(tent: RoomDevice) -> None:
    """A start lists what is revoked by its record, and lists it once."""
    room = tent.room
    await sign(room)
    second = await sign(room)
    with patch.object(certificates.Certificates, "async_device_changed"):
        await room.call("restore_credentials", {"device_id": "tent-1"})
    assert revoked(room) == set()
    await room.reload()
    assert revoked(room) == {serial(second)}
    listed = dict(room.hub.store.state.authority.revoked)
    await room.let_pass(HOUR)
    await room.reload()
    assert room.hub.store.state.authority.revoked == listed


async def test_restart_before_the_list_was_written(tent: RoomDevice) -> None:
    """A start finishes what a crash between the store and the file has left."""
    room = tent.room
    signed = await sign(room)
    before = {path.name: path.read_bytes() for path in folder(room).iterdir()}
    await room.hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "administrator")
    await room.settle()
    for name, content in before.items():
        (folder(room) / name).write_bytes(content)
    assert revoked(room) == set()
    await room.reload()
    assert revoked(room) == {serial(signed)}
    (folder(room) / "crl.pem").unlink()
    (folder(room) / "ca.crt").unlink()
    await room.reload()
    assert revoked(room) == {serial(signed)}
    assert (folder(room) / "ca.crt").read_text() == room.hub.trust.certificates.bundle()


async def test_authority_survives_a_restart(tent: RoomDevice) -> None:
    """After a restart the same authority signs, from a key that is sealed on the disk."""
    room = tent.room
    before = await sign(room)
    sealed = room.stored()["authority"]["authorities"][0]["key"]
    key = authority.key_pem(room.hub.store.state.authority.authorities[0])
    assert key.splitlines()[1] not in sealed
    await room.reload()
    after = await sign(room)
    assert after["ca_certificate"] == before["ca_certificate"]
    verify(room.hub.store.state.authority.authorities[0], after)


async def test_rotation_of_the_authority(tent: RoomDevice) -> None:
    """Two authorities count while one takes over, each with its list; a third drives the first out."""
    room = tent.room
    signed = await sign(room)
    old = signed["ca_certificate"]
    response = await room.call("rotate_authority")
    new = room.hub.store.state.authority.authorities[0].certificate
    assert response["ca_certificate"] == new + old == (folder(room) / "ca.crt").read_text()
    issuers = [each.issuer for each in lists(room)]
    assert issuers == [x509.load_pem_x509_certificate(each.encode()).subject for each in (new, old)]
    verify(room.hub.store.state.authority.authorities[0], await sign(room))
    # Of the first one until the overlap is over.
    assert (await room.refusal("rotate_authority", {})).translation_key == "authority_in_use"
    await room.hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "administrator")
    await room.settle()
    assert serial(signed) in revoked(room)
    assert len(await room.audit("authority_rotated")) == 2
    await room.call("rotate_authority")
    assert old not in (folder(room) / "ca.crt").read_text()
    assert len(lists(room)) == 2


async def test_authority_whose_certificates_hold(room: Room) -> None:
    """An authority stays while one of its certificates holds: the broker would shut that device out."""
    for device_id in ("signed-anew", "expired", "revoked", "has-none", "in-its-overlap", "disabled"):
        await room.enrol(device_id)
    for device_id, days in (("signed-anew", 365), ("expired", 1), ("revoked", 365), ("in-its-overlap", 365)):
        await sign(room, device_id, days=days)
    await sign(room, "disabled")
    await room.call("rotate_authority")
    before = room.hub.trust.certificates.bundle()
    await room.let_pass(DAY)
    await room.hub.enrolment.async_set_status("revoked", DeviceStatus.REVOKED, "administrator")
    await room.hub.enrolment.async_set_status("disabled", DeviceStatus.DISABLED, "administrator")
    await sign(room, "signed-anew", overlap_hours=0)
    await sign(room, "in-its-overlap", overlap_hours=1)
    refused = await room.refusal("rotate_authority", {})
    assert refused.translation_key == "authority_in_use"
    assert refused.translation_placeholders == {"detail": "disabled, in-its-overlap"}
    assert room.hub.trust.certificates.bundle() == before
    await sign(room, "disabled", overlap_hours=0)
    await room.let_pass(3600)
    await room.call("rotate_authority")
    assert room.hub.trust.certificates.bundle() != before


async def test_rotation_that_the_disk_refuses(tent: RoomDevice) -> None:
    """Without the disk there is no other authority."""
    room = tent.room
    await sign(room)
    before = room.hub.trust.certificates.bundle()
    room.break_store()
    with pytest.raises(HomeAssistantError):
        await room.call("rotate_authority")
    room.repair_store()
    assert room.hub.trust.certificates.bundle() == before
    assert len(await room.audit("authority_rotated")) == 1


async def test_long_certificate_stays_on_the_list(tent: RoomDevice) -> None:
    """A serial number is listed as long as a certificate may hold, and forgotten afterwards."""
    room = tent.room
    signed = await sign(room, days=730)
    await room.hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "administrator")
    await room.settle()
    await room.let_pass(729 * DAY)
    assert revoked(room) == {serial(signed)}
    await room.let_pass(10 * DAY)
    assert revoked(room) == set()
    await room.reload()
    assert room.hub.store.state.authority.revoked == {}


async def test_nothing_is_signed_after_an_unload(tent: RoomDevice) -> None:
    """An unloaded hub writes no list."""
    room = tent.room
    await sign(room)
    keeper, before = room.hub.trust.certificates, number(room)
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    await keeper._async_reissue()
    assert number(room) == before
