"""The certificate authority of the site: certificates of devices and the list of revoked ones (RFC 5280)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import randbits, token_hex
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .credentials import LIFETIMES, private_pem
from .errors import Code, RegistryError
from .models import Algorithm, CredentialKind, PublicKey
from .public_keys import anybody_can_sign, key_for
from .topics import DEVICE_ID_PATTERN

AUTHORITY_DAYS: Final = 3650
CRL_DAYS: Final = 30
CRL_REISSUE_DAYS: Final = 7
# One for a key of P-256 has some 700 characters, with all that openssl writes before it some 2,100. Any other key is
# checked, too, for seconds where it is long enough, in which nothing else runs.
MAX_REQUEST_LENGTH: Final = 4096
_DAY_S: Final = 86_400
_CERTIFICATE_DAYS: Final = round(LIFETIMES[CredentialKind.CERTIFICATE] / _DAY_S)
# The clock of who verifies may be a little behind.
_BACKDATED_S: Final = 3600
_SERIAL_BITS: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """What signs certificates: its own certificate in PEM, and its key."""

    certificate: str
    key: EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate of a device in PEM, and what is kept of it: the serial number in hexadecimal, and when it ends."""

    serial: str
    certificate: str
    not_after: float


def new_authority(now: float) -> Authority:
    """Return an authority with a new key, valid for ten years, that signs certificates of devices and no other."""
    key = generate_private_key(SECP256R1())
    # A name of its own: a revocation list is looked up by the name of its issuer, and two authorities overlap.
    name = _common_name(f"grokmon authority {token_hex(4)}")
    certificate = (
        _builder(name, name, key.public_key(), now, int(now) + AUTHORITY_DAYS * _DAY_S)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, SHA256())
    )
    return Authority(certificate=_pem(certificate), key=key)


def load_authority(certificate_pem: str, key_pem: str) -> Authority:
    """Return an authority from its certificate and what `key_pem` wrote. Raises ValueError when they are not a pair."""
    key = load_pem_private_key(key_pem.encode(), password=None)
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    if not isinstance(key, EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        raise ValueError("the key is not that of the authority's certificate")
    return Authority(certificate=_pem(certificate), key=key)


def is_issued_by(certificate_pem: str, authority: Authority) -> bool:
    """Tell whether an authority signed a certificate of a device."""
    return x509.load_pem_x509_certificate(certificate_pem.encode()).issuer == _certificate(authority).subject


def key_pem(authority: Authority) -> str:
    """Return the authority's private key in PEM, not encrypted."""
    return private_pem(authority.key)


def sign_request(
    authority: Authority, request_pem: str, device_id: str, now: float, days: int = _CERTIFICATE_DAYS
) -> Issued:
    """Return a certificate for the public key of a request (PKCS #10); nothing else in the request counts.

    Raises RegistryError.
    """
    return _issue(authority, _requested_key(request_pem), device_id, now, days)


def issue_for(authority: Authority, device_id: str, now: float, days: int = _CERTIFICATE_DAYS) -> tuple[Issued, str]:
    """Return a certificate and its new private key in PEM, for a device that cannot make one. Raises RegistryError."""
    key = generate_private_key(SECP256R1())
    return _issue(authority, key.public_key(), device_id, now, days), private_pem(key)


def revocation_list(authority: Authority, revoked: Mapping[str, float], number: int, now: float) -> str:
    """Return the list of revoked certificates in PEM. `revoked` is the time of revocation by serial number.

    `number` must grow with every list.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(_certificate(authority).subject)
        .last_update(_moment(now - _BACKDATED_S))
        .next_update(_moment(now + CRL_DAYS * _DAY_S))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_identifier(authority), critical=False)
    )
    for serial, when in revoked.items():
        entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(_moment(when))
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, SHA256()).public_bytes(Encoding.PEM).decode()


def crl_due(crl_pem: str, now: float) -> bool:
    """Tell whether a list should be replaced: it is a week old, or from a future that no broker believes in."""
    age = now - (crl_expires(crl_pem) - CRL_DAYS * _DAY_S)
    return not -_BACKDATED_S <= age < CRL_REISSUE_DAYS * _DAY_S


def crl_expires(crl_pem: str) -> float:
    """Return when a list of `revocation_list` expires. From then on nobody gets in."""
    expires = x509.load_pem_x509_crl(crl_pem.encode()).next_update_utc
    if expires is None:
        raise ValueError("not a revocation list that expires")
    return expires.timestamp()


def trust_bundle(*authorities: Authority) -> str:
    """Return the certificates of all authorities that count, in one PEM: two while the authority is rotated."""
    return "".join(authority.certificate for authority in authorities)


def _requested_key(request_pem: str) -> PublicKey:
    """Return the public key of a request whose sender has proved to hold the private one."""
    if len(request_pem) > MAX_REQUEST_LENGTH:
        too_long = f"longer than {MAX_REQUEST_LENGTH} characters, leave out what is before BEGIN CERTIFICATE REQUEST"
        raise RegistryError(Code.REQUEST_INVALID, too_long)
    try:
        request = x509.load_pem_x509_csr(request_pem.encode())
        requested = request.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise RegistryError(Code.REQUEST_INVALID, "not a certificate request in PEM") from error
    key = key_for(Algorithm.ES256, requested) or key_for(Algorithm.EDDSA, requested)
    if key is None:
        raise RegistryError(Code.REQUEST_INVALID, "a key that is neither P-256 nor Ed25519")
    if anybody_can_sign(key):
        raise RegistryError(Code.REQUEST_INVALID, "a key that anybody can sign for")
    if not request.is_signature_valid:
        raise RegistryError(Code.REQUEST_INVALID, "not signed with its own key")
    return key


def _issue(authority: Authority, public_key: PublicKey, device_id: str, now: float, days: int) -> Issued:
    if DEVICE_ID_PATTERN.fullmatch(device_id) is None:
        raise RegistryError(Code.DEVICE_ID_INVALID, device_id)
    if days < 1:
        raise RegistryError(Code.REQUEST_INVALID, "days")
    issuer = _certificate(authority)
    end = min(int(now) + days * _DAY_S, issuer.not_valid_after_utc.timestamp())
    if end <= now:
        raise RegistryError(Code.REQUEST_INVALID, "the authority has expired")
    certificate = (
        _builder(_common_name(device_id), issuer.subject, public_key, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(_authority_identifier(authority), critical=False)
        .sign(authority.key, SHA256())
    )
    return Issued(
        serial=f"{certificate.serial_number:x}",
        certificate=_pem(certificate),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: PublicKey, now: float, end: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        # The highest bit is set: never zero, and always as many digits.
        .serial_number(1 << _SERIAL_BITS - 1 | randbits(_SERIAL_BITS - 1))
        .not_valid_before(_moment(now - _BACKDATED_S))
        .not_valid_after(_moment(end))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_identifier(authority: Authority) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())


def _certificate(authority: Authority) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.certificate.encode())


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _moment(seconds: float) -> datetime:
    # Certificates know whole seconds.
    return datetime.fromtimestamp(int(seconds), UTC)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
