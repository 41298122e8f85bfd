"""Tests of the certificate authority."""

from base64 import b64decode, encodebytes
from datetime import UTC, datetime
import re
from time import tzset
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256K1,
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID
from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway import authority
from custom_components.grokmon.gateway.authority import Issued
from custom_components.grokmon.gateway.errors import Code, RegistryError

from .wire import NOW, brief

DAY = 86_400
HOUR = 3_600
DEVICE = "tent-1"
EC_KEY = generate_private_key(SECP256R1())
ED_KEY = Ed25519PrivateKey.generate()
SITE = authority.new_authority(NOW)

# The encodings of the points of small order on edwards25519: for each of them a signature that fits any message exists.
FIELD = 2**255 - 19
ORDER_EIGHT = int("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd83d3d706a17c7", 16)
SMALL_ORDER = [0, 1, FIELD - 1, FIELD, FIELD + 1, ORDER_EIGHT, FIELD - ORDER_EIGHT]
BASE_POINT = bytes.fromhex("58" + 31 * "66")


def named(name: str) -> x509.Name:
    """Return a distinguished name with nothing but a common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def request(key: Any, *extensions: tuple[x509.ExtensionType, bool], name: str = DEVICE) -> str:
    """Return a request as a device makes it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(named(name))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    algorithm = None if isinstance(key, Ed25519PrivateKey | ed448.Ed448PrivateKey) else SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()


def certificate_of(key: Ed25519PrivateKey) -> str:
    """Return a certificate of a key by itself."""
    begin, end = (datetime.fromtimestamp(NOW + days * DAY, UTC) for days in (0, 1))
    builder = x509.CertificateBuilder(named("self"), named("self"), key.public_key(), 1, begin, end)
    return builder.sign(key, None).public_bytes(Encoding.PEM).decode()


ED_PRIVATE = ED_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
EC_REQUEST = request(EC_KEY)
ED_REQUEST = request(ED_KEY)


def armour(der: bytes, label: str = "CERTIFICATE REQUEST") -> str:
    """Return DER in the armour of PEM."""
    return f"-----BEGIN {label}-----\n{encodebytes(der).decode()}-----END {label}-----\n"


def bare(pem: str) -> bytes:
    """Return the DER in the armour of PEM."""
    return b64decode("".join(pem.splitlines()[1:-1]))


def parsed(pem: str) -> x509.Certificate:
    """Parse a certificate."""
    return x509.load_pem_x509_certificate(pem.encode())


def extension[T: x509.ExtensionType](certificate: x509.Certificate, kind: type[T]) -> tuple[T, bool]:
    """Return an extension of a certificate and whether it is critical."""
    found = certificate.extensions.get_extension_for_class(kind)
    return found.value, found.critical


def usage(certificate: x509.Certificate) -> set[str]:
    """Return what a critical key usage allows."""
    value, critical = extension(certificate, x509.KeyUsage)
    assert critical
    names = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    # The last two mean something, and can be asked for, only with a key agreement.
    return {name for name in [*names, "key_cert_sign", "crl_sign"] if getattr(value, name)}


def refusal(pem: str, device_id: str = DEVICE, **how: Any) -> str:
    """Return as text why a request is refused."""
    with pytest.raises(RegistryError) as caught:
        authority.sign_request(SITE, pem, device_id, how.pop("now", NOW), **how)
    return str(caught.value)


def der(tag: int, *parts: bytes) -> bytes:
    """Encode a value of DER."""
    body = b"".join(parts)
    length = bytes([len(body)]) if len(body) < 128 else b"\x82" + len(body).to_bytes(2)
    return bytes([tag]) + length + body


# --- The authority


def test_profile_of_the_authority() -> None:
    """Make a certificate that signs certificates and lists, none of them another authority's, for ten years."""
    certificate = parsed(SITE.certificate)
    key = SITE.key.public_key()
    assert certificate.public_key() == key
    assert isinstance(key.curve, SECP256R1)
    assert certificate.version is x509.Version.v3
    assert re.fullmatch(r"CN=grokmon authority [0-9a-f]{8}", certificate.subject.rfc4514_string())
    assert certificate.issuer == certificate.subject
    assert extension(certificate, x509.BasicConstraints) == (x509.BasicConstraints(ca=True, path_length=0), True)
    assert usage(certificate) == {"key_cert_sign", "crl_sign"}
    assert extension(certificate, x509.SubjectKeyIdentifier) == (x509.SubjectKeyIdentifier.from_public_key(key), False)
    assert len(list(certificate.extensions)) == 3
    assert certificate.not_valid_before_utc.timestamp() == NOW - HOUR
    assert certificate.not_valid_after_utc.timestamp() == NOW + 3650 * DAY
    assert certificate.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
    certificate.verify_directly_issued_by(certificate)


def test_authorities_differ() -> None:
    """Give every authority a key, a name and a serial number of its own."""
    made = [parsed(authority.new_authority(NOW).certificate) for _ in range(20)]
    assert len({certificate.subject for certificate in made}) == 20
    assert len({certificate.serial_number for certificate in made}) == 20
    assert len({certificate.public_key().public_numbers() for certificate in made}) == 20  # type: ignore[union-attr] # P-256


def test_whose_certificate_it_is() -> None:
    """Tell an authority by what it signed, after it was stored, too."""
    issued, _ = authority.issue_for(SITE, DEVICE, NOW)
    assert authority.is_issued_by(issued.certificate, SITE)
    assert authority.is_issued_by(
        issued.certificate, authority.load_authority(SITE.certificate, authority.key_pem(SITE))
    )
    assert not authority.is_issued_by(issued.certificate, authority.new_authority(NOW))


def test_authority_is_stored_and_loaded() -> None:
    """Load what was written, unencrypted, in PKCS #8."""
    pem = authority.key_pem(SITE)
    assert pem.startswith("-----BEGIN PRIVATE KEY-----\n")
    loaded = authority.load_authority(SITE.certificate, pem)
    assert loaded.certificate == SITE.certificate
    assert loaded.key.private_numbers() == SITE.key.private_numbers()
    issued = authority.sign_request(loaded, EC_REQUEST, DEVICE, NOW)
    parsed(issued.certificate).verify_directly_issued_by(parsed(SITE.certificate))


def test_authority_does_not_show_its_key() -> None:
    """Keep the key out of what may be logged."""
    assert repr(SITE) == f"Authority(certificate={SITE.certificate!r})"


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        (SITE.certificate, authority.key_pem(authority.new_authority(NOW))),
        (SITE.certificate, ED_PRIVATE),
        (certificate_of(ED_KEY), ED_PRIVATE),
        (SITE.certificate, ""),
        ("", authority.key_pem(SITE)),
        (SITE.certificate[:-60], authority.key_pem(SITE)),
        (authority.key_pem(SITE), SITE.certificate),
    ],
    ids=[
        "another's key",
        "another kind of key",
        "another kind of authority",
        "no key",
        "no certificate",
        "torn",
        "swapped",
    ],
)
def test_damaged_authority(certificate: str, key: str) -> None:
    """Refuse a certificate and a key that do not belong together."""
    with pytest.raises(ValueError):  # noqa: PT011 - whatever cryptography says of a damaged file
        authority.load_authority(certificate, key)


# --- Certificates of devices


@pytest.mark.parametrize(("key", "pem"), [(EC_KEY, EC_REQUEST), (ED_KEY, ED_REQUEST)], ids=["P-256", "Ed25519"])
def test_profile_of_a_device(key: Any, pem: str) -> None:
    """Issue a certificate that a client shows to a server, and that does nothing else."""
    issued = authority.sign_request(SITE, pem, DEVICE, NOW + 0.9)
    certificate = parsed(issued.certificate)
    site_key = SITE.key.public_key()
    assert certificate.version is x509.Version.v3
    assert certificate.subject == named(DEVICE)
    assert certificate.issuer == parsed(SITE.certificate).subject
    assert certificate.public_key() == key.public_key()
    assert certificate.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
    assert {found.oid._name: found.critical for found in certificate.extensions} == {
        "basicConstraints": True,
        "keyUsage": True,
        "extendedKeyUsage": False,
        "subjectKeyIdentifier": False,
        "authorityKeyIdentifier": False,
    }
    assert extension(certificate, x509.BasicConstraints)[0] == x509.BasicConstraints(ca=False, path_length=None)
    assert usage(certificate) == {"digital_signature"}
    assert list(extension(certificate, x509.ExtendedKeyUsage)[0]) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert extension(certificate, x509.SubjectKeyIdentifier)[0] == x509.SubjectKeyIdentifier.from_public_key(
        key.public_key()
    )
    assert extension(certificate, x509.AuthorityKeyIdentifier)[0] == x509.AuthorityKeyIdentifier.from_issuer_public_key(
        site_key
    )
    assert certificate.not_valid_before_utc == datetime.fromtimestamp(NOW - HOUR, UTC)
    assert certificate.not_valid_after_utc == datetime.fromtimestamp(NOW + 365 * DAY, UTC)
    assert issued.not_after == NOW + 365 * DAY
    assert issued.serial == f"{certificate.serial_number:x}"
    certificate.verify_directly_issued_by(parsed(SITE.certificate))


def test_serial_numbers() -> None:
    """Number certificates with 128 bits that nobody guesses, never the same."""
    serials = [authority.sign_request(SITE, EC_REQUEST, DEVICE, NOW).serial for _ in range(200)]
    assert len(set(serials)) == 200
    assert all(re.fullmatch(r"[0-9a-f]{32}", serial) for serial in serials)
    # Every bit below the highest, which is set, takes both values.
    numbers = [int(serial, 16) for serial in serials]
    assert {bit for bit in range(128) if len({number >> bit & 1 for number in numbers}) == 1} == {127}
    assert min(numbers) >= 1 << 127


@given(days=st.integers(1, 10_000), age=st.floats(0, 3649 * DAY))
def test_life_of_a_certificate(days: int, age: float) -> None:
    """Let no certificate outlive its authority, nor the days asked for."""
    now = NOW + age
    issued = authority.sign_request(SITE, EC_REQUEST, DEVICE, now, days)
    assert parsed(issued.certificate).not_valid_before_utc.timestamp() == int(now) - HOUR
    assert issued.not_after == min(int(now) + days * DAY, NOW + 3650 * DAY)
    assert issued.not_after > now


def test_life_in_another_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go by the seconds since the epoch, wherever the house stands."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        tzset()
        issued = authority.sign_request(SITE, EC_REQUEST, DEVICE, NOW, 1)
    tzset()
    begins = parsed(issued.certificate).not_valid_before_utc.timestamp()
    assert (begins, issued.not_after) == (NOW - HOUR, NOW + DAY)


@pytest.mark.parametrize("late", [0, 1, 10_000 * DAY])
def test_expired_authority(late: int) -> None:
    """Issue nothing that would be expired from the start."""
    assert refusal(EC_REQUEST, now=NOW + 3650 * DAY + late) == "request_invalid: the authority has expired"


def test_last_second_of_the_authority() -> None:
    """Issue as long as there is something left."""
    end = NOW + 3650 * DAY
    assert authority.sign_request(SITE, EC_REQUEST, DEVICE, end - 1).not_after == end


@pytest.mark.parametrize("days", [0, -1, -365])
def test_no_days(days: int) -> None:
    """Refuse a life of no length."""
    assert refusal(EC_REQUEST, days=days) == "request_invalid: days"


@pytest.mark.parametrize("device_id", ["", "Tent", "tent 1", "a" * 33, "tent-1\n", "+", "#", "a/b", "é", "tent-1\x00"])
def test_name_that_is_no_device(device_id: str) -> None:
    """Put nothing into a common name that no device can be called."""
    assert refusal(EC_REQUEST, device_id) == str(RegistryError(Code.DEVICE_ID_INVALID, device_id))
    with pytest.raises(RegistryError, match="device_id_invalid"):
        authority.issue_for(SITE, device_id, NOW)


GREEDY: list[tuple[x509.ExtensionType, bool]] = [
    (x509.BasicConstraints(ca=True, path_length=None), True),
    (
        x509.KeyUsage(
            digital_signature=True,
            content_commitment=True,
            key_encipherment=True,
            data_encipherment=True,
            key_agreement=True,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        ),
        True,
    ),
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False),
    (x509.SubjectAlternativeName([x509.DNSName("broker.example"), x509.RFC822Name("admin@example.org")]), False),
    (x509.SubjectKeyIdentifier(bytes(20)), False),
    (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True),
]


@given(chosen=st.sets(st.sampled_from(range(len(GREEDY)))), name=st.text(min_size=1, max_size=16))
def test_only_the_key_is_taken(chosen: set[int], name: str) -> None:
    """Ignore the name and whatever extensions a request asks for."""
    pem = request(EC_KEY, *(GREEDY[index] for index in chosen), name=name)
    asked = parsed(authority.sign_request(SITE, pem, DEVICE, NOW).certificate)
    plain = parsed(authority.sign_request(SITE, EC_REQUEST, DEVICE, NOW).certificate)
    assert asked.subject == plain.subject == named(DEVICE)
    assert list(asked.extensions) == list(plain.extensions)
    assert asked.public_key() == plain.public_key()


def test_request_in_other_spellings() -> None:
    """Take a request with remarks around it, foreign line ends, or the older label."""
    for pem in (
        "a remark before it\n" + EC_REQUEST.replace("\n", "\r\n") + "and after\n",
        EC_REQUEST.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
    ):
        certificate = parsed(authority.sign_request(SITE, pem, DEVICE, NOW).certificate)
        assert certificate.public_key() == EC_KEY.public_key()


@pytest.mark.parametrize(
    "key",
    [
        generate_private_key(SECP384R1()),
        generate_private_key(SECP256K1()),
        rsa.generate_private_key(65537, 2048),
        ed448.Ed448PrivateKey.generate(),
    ],
    ids=["P-384", "secp256k1", "RSA", "Ed448"],
)
def test_other_keys(key: Any) -> None:
    """Refuse a key of a kind that devices do not have, properly signed as it is."""
    assert refusal(request(key)) == "request_invalid: a key that is neither P-256 nor Ed25519"


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "\x00",
        "not a request",
        "\ud800",
        armour(b""),
        armour(b"\x30\x00"),
        armour(b"\xff" * 64),
        armour(bytes(1024)),
        "-----BEGIN CERTIFICATE REQUEST-----\n%%%%\n-----END CERTIFICATE REQUEST-----\n",
        EC_REQUEST[:-40],
        EC_REQUEST.replace("REQUEST", "REQUESTED"),
        EC_REQUEST.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        SITE.certificate,
        SITE.certificate.replace("CERTIFICATE", "CERTIFICATE REQUEST"),
        authority.key_pem(SITE),
        # The version is 2: there is none.
        armour(bare(EC_REQUEST).replace(b"\x02\x01\x00", b"\x02\x01\x02", 1)),
    ],
    ids=brief,
)
def test_garbage(pem: str) -> None:
    """Refuse what is no request."""
    assert refusal(pem) == "request_invalid: not a certificate request in PEM"


@pytest.mark.parametrize("length", [authority.MAX_REQUEST_LENGTH + 1, 10_000_000])
def test_huge_request(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse what is too long before anybody reads it, good as it may be."""
    monkeypatch.setattr(x509, "load_pem_x509_csr", pytest.fail)
    assert refusal(EC_REQUEST.rjust(length)) == (
        "request_invalid: longer than 4096 characters, leave out what is before BEGIN CERTIFICATE REQUEST"
    )


def test_longest_request() -> None:
    """Read a request of just the right length."""
    longest = "#" * (authority.MAX_REQUEST_LENGTH - len(EC_REQUEST) - 1) + "\n" + EC_REQUEST
    assert len(longest) == authority.MAX_REQUEST_LENGTH
    assert authority.sign_request(SITE, longest, DEVICE, NOW).serial


@given(text=st.text(max_size=200) | st.binary(max_size=200).map(armour))
def test_no_text_is_a_request(text: str) -> None:
    """Answer anything with a refusal, and never with another error."""
    assert refusal(text).startswith("request_invalid: ")


@pytest.mark.parametrize("pem", [EC_REQUEST, ED_REQUEST], ids=["P-256", "Ed25519"])
def test_tampered_request(pem: str) -> None:
    """Refuse a request whose signed part or whose signature was altered in any byte."""
    original = bare(pem)
    signed = x509.load_pem_x509_csr(pem.encode()).tbs_certrequest_bytes
    start = original.index(signed)
    # The last 60 bytes are of the signature, whichever kind it is.
    for position in [*range(start, start + len(signed)), *range(len(original) - 60, len(original))]:
        altered = bytearray(original)
        altered[position] ^= 1 << position % 8
        assert refusal(armour(bytes(altered))).startswith("request_invalid: "), position


def point(key: EllipticCurvePrivateKey) -> bytes:
    """Return the public key as it stands in a request."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def test_request_for_a_key_of_somebody_else() -> None:
    """Refuse a request for a key that its sender does not hold."""
    raw = bare(EC_REQUEST)
    stolen = raw.replace(point(EC_KEY), point(generate_private_key(SECP256R1())))
    assert stolen != raw
    assert refusal(armour(stolen)) == "request_invalid: not signed with its own key"


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", SMALL_ORDER, ids=hex)
def test_point_of_small_order(y: int, sign: int) -> None:
    """Refuse keys with which a request can be signed without any key."""
    raw = (y | sign << 255).to_bytes(32, "little")
    assert refusal(forged(raw)) == "request_invalid: a key that anybody can sign for"


def test_forged_request_would_pass() -> None:
    """See that it is for a reason that these keys are refused: the signature of the forged request is valid."""
    assert x509.load_pem_x509_csr(forged((1).to_bytes(32, "little")).encode()).is_signature_valid


def forged(public_key: bytes) -> str:
    """Return a request for an Ed25519 key with a signature that is valid for the neutral element."""
    genuine = x509.load_pem_x509_csr(ED_REQUEST.encode())
    # S·B = R + k·A with S = 1, R = B and A the neutral element: whatever was signed, and so whatever k is.
    signature = BASE_POINT + (1).to_bytes(32, "little")
    raw = bare(ED_REQUEST).replace(genuine.signature, signature)
    return armour(raw.replace(ED_KEY.public_key().public_bytes_raw(), public_key))


def test_certificate_with_a_key() -> None:
    """Make the key, too, for a device that cannot."""
    made = [authority.issue_for(SITE, DEVICE, NOW, 90) for _ in range(2)]
    for issued, pem in made:
        key: Any = load_pem_private_key(pem.encode(), None)
        certificate = parsed(issued.certificate)
        assert pem.startswith("-----BEGIN PRIVATE KEY-----\n")
        assert isinstance(key.curve, SECP256R1)
        assert certificate.public_key() == key.public_key()
        assert certificate.subject == named(DEVICE)
        assert issued.not_after == NOW + 90 * DAY
        assert usage(certificate) == {"digital_signature"}
    assert made[0][1] != made[1][1]
    assert made[0][0].serial != made[1][0].serial


def test_bundle() -> None:
    """Trust both authorities while one takes over from the other."""
    new = authority.new_authority(NOW + DAY)
    bundle = authority.trust_bundle(SITE, new)
    loaded = x509.load_pem_x509_certificates(bundle.encode())
    assert loaded == [parsed(SITE.certificate), parsed(new.certificate)]
    assert bundle == SITE.certificate + new.certificate
    assert authority.trust_bundle(SITE) == SITE.certificate
    assert "PRIVATE" not in bundle


# --- The list of revoked certificates


def issue(count: int) -> list[Issued]:
    """Issue some certificates."""
    return [authority.sign_request(SITE, EC_REQUEST, DEVICE, NOW) for _ in range(count)]


def listed(pem: str) -> x509.CertificateRevocationList:
    """Parse a revocation list."""
    return x509.load_pem_x509_crl(pem.encode())


def test_profile_of_the_list() -> None:
    """Sign a numbered list of serial numbers and times, for thirty days."""
    issued = issue(3)
    revoked = {certificate.serial: NOW + index + 0.5 for index, certificate in enumerate(issued[:2])}
    crl = listed(authority.revocation_list(SITE, revoked, 7, NOW + 10.7))
    root = parsed(SITE.certificate)
    assert crl.issuer == root.subject
    assert crl.is_signature_valid(SITE.key.public_key())
    assert crl.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
    assert crl.last_update_utc.timestamp() == NOW + 10 - HOUR
    assert crl.next_update_utc == datetime.fromtimestamp(NOW + 10 + 30 * DAY, UTC)
    assert {found.oid._name: found.critical for found in crl.extensions} == {
        "cRLNumber": False,
        "authorityKeyIdentifier": False,
    }
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 7
    assert crl.extensions.get_extension_for_class(
        x509.AuthorityKeyIdentifier
    ).value == x509.AuthorityKeyIdentifier.from_issuer_public_key(SITE.key.public_key())
    found = {f"{entry.serial_number:x}": entry.revocation_date_utc.timestamp() for entry in crl}
    assert found == {issued[0].serial: NOW, issued[1].serial: NOW + 1}
    assert crl.get_revoked_certificate_by_serial_number(int(issued[2].serial, 16)) is None


@given(
    revoked=st.dictionaries(st.integers(1, 2**159 - 1).map(lambda serial: f"{serial:x}"), st.floats(NOW, NOW + DAY)),
    number=st.integers(0, 2**64),
)
def test_list_holds_what_was_revoked(revoked: dict[str, float], number: int) -> None:
    """List each revoked certificate with its time, and no other."""
    crl = listed(authority.revocation_list(SITE, revoked, number, NOW + DAY))
    assert {f"{entry.serial_number:x}": entry.revocation_date_utc.timestamp() for entry in crl} == {
        serial: int(when) for serial, when in revoked.items()
    }
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == number
    assert crl.is_signature_valid(SITE.key.public_key())


def test_list_of_another_authority() -> None:
    """Sign a list with the key of its authority only."""
    crl = listed(authority.revocation_list(authority.new_authority(NOW), {}, 1, NOW))
    assert not crl.is_signature_valid(SITE.key.public_key())
    assert crl.issuer != parsed(SITE.certificate).subject


def test_constants() -> None:
    """Leave three weeks to hand a new list over."""
    assert (authority.CRL_DAYS, authority.CRL_REISSUE_DAYS) == (30, 7)


@pytest.mark.parametrize(
    ("age", "due"),
    [
        (0, False),
        (6.99 * DAY, False),
        (7 * DAY - 1, False),
        (7 * DAY, True),
        (29 * DAY, True),
        (31 * DAY, True),
        # The clock was set back: a little does not matter, more makes the list one that is not yet valid.
        (-60, False),
        (-HOUR, False),
        (-HOUR - 1, True),
        (-400 * DAY, True),
    ],
)
def test_list_is_due(age: float, due: bool) -> None:
    """Replace a list after a week, and one that was made under a clock that was wrong."""
    crl = authority.revocation_list(SITE, {}, 1, NOW)
    assert authority.crl_due(crl, NOW + age) is due


@given(now=st.floats(NOW, NOW + 3650 * DAY))
def test_list_expires(now: float) -> None:
    """Say when a list must have been replaced."""
    crl = authority.revocation_list(SITE, {}, 1, now)
    assert authority.crl_expires(crl) == int(now + 30 * DAY)
    assert not authority.crl_due(crl, now)


def endless_list() -> str:
    """Return a list that says nothing of a next one, unsigned."""
    algorithm = der(0x30, der(0x06, bytes.fromhex("2a8648ce3d040302")))
    issuer = parsed(SITE.certificate).subject.public_bytes()
    body = der(0x30, der(0x02, b"\x01"), algorithm, issuer, der(0x17, b"251101000000Z"))
    return armour(der(0x30, body, algorithm, der(0x03, b"\x00")), "X509 CRL")


@pytest.mark.parametrize("pem", ["", "nothing", SITE.certificate, endless_list()], ids=brief)
def test_what_is_no_list(pem: str) -> None:
    """Say of no other file when it expires."""
    with pytest.raises(ValueError):  # noqa: PT011 - whatever cryptography says of a damaged file
        authority.crl_expires(pem)
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        authority.crl_due(pem, NOW)


def test_endless_list_is_refused_for_being_endless() -> None:
    """See that the list above is one, but for its end."""
    assert listed(endless_list()).next_update_utc is None
