"""Make a development certificate authority and a server certificate, again only when needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
import ipaddress
import os
from pathlib import Path
import socket
import sys

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_AUTHORITY_LIFE = timedelta(days=3650)
_SERVER_LIFE = timedelta(days=397)
_RENEW_BEFORE = timedelta(days=30)
# Clocks of devices may be a little behind.
_BACKDATED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Say where the authority's and the server's files are."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def default_hosts() -> tuple[str, ...]:
    """Return the names and addresses that this machine has for itself."""
    return ("localhost", "127.0.0.1", "::1", socket.gethostname())


def ensure_certificates(folder: Path, hosts: Sequence[str] | None = None) -> Certificates:
    """Return certificates for these hosts, renewing what is missing, expires soon or names other hosts."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [_general_name(host) for host in dict.fromkeys(hosts or default_hosts())]
    authority = _load(folder, "ca")
    if authority is None:
        authority = _new_authority()
        _store(folder, "ca", authority)
    server = _load(folder, "server")
    if server is None or not _issued_by(server.certificate, authority.certificate) or _names(server) != set(names):
        _store(folder, "server", _new_server(authority, names))
    return Certificates(ca=folder / "ca.crt", certificate=folder / "server.crt", key=folder / "server.key")


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _names(pair: _Pair) -> set[x509.GeneralName]:
    try:
        return set(pair.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except ValueError, TypeError, InvalidSignature:
        return False
    return True


def _load(folder: Path, stem: str) -> _Pair | None:
    """Return what is stored, or nothing where it is missing, unreadable, unpaired or about to expire."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / f"{stem}.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / f"{stem}.key").read_bytes(), password=None)
    except FileNotFoundError, ValueError:
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    if certificate.not_valid_after_utc - datetime.now(UTC) < _RENEW_BEFORE:
        return None
    return _Pair(certificate, key)


def _store(folder: Path, stem: str, pair: _Pair) -> None:
    key = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(folder / f"{stem}.key", key, mode=0o600)
    _write(folder / f"{stem}.crt", pair.certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Replace a file at once; it never exists with wider permissions than asked for."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    new.replace(path)


def _new_authority() -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "grokmon development authority")])
    certificate = (
        _builder(name, name, key.public_key(), key.public_key(), _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _Pair(certificate, key)


def _new_server(authority: _Pair, names: Sequence[x509.GeneralName]) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "grokmon development server")])
    issuer = authority.certificate.subject
    certificate = (
        _builder(subject, issuer, key.public_key(), authority.key.public_key(), _SERVER_LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return _Pair(certificate, key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    life: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
        # Python's strict verification wants both identifiers.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def main() -> None:
    """Make certificates in the folder that the command line names and print where they are."""
    made = ensure_certificates(Path(sys.argv[1]))
    sys.stdout.write(f"authority    {made.ca}\ncertificate  {made.certificate}\nkey          {made.key}\n")


if __name__ == "__main__":
    main()
