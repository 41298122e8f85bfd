"""Keys, requests for certificates, and what the broker answers: what administrators and brokers hand in."""

from base64 import encodebytes
from collections.abc import Iterator
import json
from math import isfinite
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from custom_components.grokmon.broker import dynamic_security, knock
from custom_components.grokmon.gateway import authority, broker_accounts, broker_drift, credentials
from custom_components.grokmon.gateway.errors import RegistryError
from custom_components.grokmon.gateway.models import Algorithm
from tests.gateway.wire import NOW, PREFIX

from .target import Target, hold, refused

# An input that begins like this is DER, to be put into a PEM: a change of base64 hardly ever changes what it holds.
_DER: Final = b"\0"
_PUBLIC: Final = "PUBLIC KEY"
_REQUEST: Final = "CERTIFICATE REQUEST"
_PRIVATE: Final = (
    ec.generate_private_key(ec.SECP256R1()),
    ed25519.Ed25519PrivateKey.generate(),
    ec.generate_private_key(ec.SECP384R1()),
    ed448.Ed448PrivateKey.generate(),
    rsa.generate_private_key(65537, 2048),
)
_AUTHORITY: Final = authority.new_authority(NOW)


def _pem(data: bytes, label: str) -> str:
    if not data.startswith(_DER):
        return data.decode(errors="ignore")
    return f"-----BEGIN {label}-----\n{encodebytes(data[1:]).decode()}-----END {label}-----\n"


def _public_key(data: bytes) -> None:
    """Enrol a public key under each algorithm that has one."""
    pem = _pem(data, _PUBLIC)
    for algorithm in (Algorithm.ES256, Algorithm.EDDSA):
        print_ = refused(lambda: credentials.fingerprint(algorithm, pem), RegistryError)  # noqa: B023 - called now
        issued = refused(lambda: credentials.issue(algorithm, NOW, pem), RegistryError)  # noqa: B023 - called now
        hold("one is taken as the other", kept=(print_ is None) == (issued is None))
        if issued is not None:
            hold("the same key", kept=credentials.fingerprint(algorithm, issued.public_key) == print_)
            credentials.verifying_key(issued, frozenset())


def _public_keys() -> Iterator[bytes]:
    points = [key.public_key() for key in (*_PRIVATE, x25519.X25519PrivateKey.generate())]
    for point in points:
        yield point.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        yield _DER + point.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    yield _PRIVATE[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    yield _AUTHORITY.certificate.encode()
    # The neutral element of edwards25519, under which anybody can sign.
    yield _DER + bytes.fromhex("302a300506032b6570032100" + "01" + "00" * 31)


def _request(data: bytes) -> None:
    """Sign a request for a certificate."""
    issued = authority.sign_request(_AUTHORITY, _pem(data, _REQUEST), "tent-1", NOW)
    made = x509.load_pem_x509_certificate(issued.certificate.encode())
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(_AUTHORITY.certificate.encode()))
    hold("of the device, whatever the request says", kept=made.subject.rfc4514_string() == "CN=tent-1")


def _requests() -> Iterator[bytes]:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another")])
    for key in _PRIVATE:
        builder = x509.CertificateSigningRequestBuilder().subject_name(name)
        extended = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        edwards = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        for each in (builder, extended):
            signed = each.sign(key, None if edwards else SHA256())
            yield signed.public_bytes(Encoding.PEM)
            yield _DER + signed.public_bytes(Encoding.DER)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    yield _DER + builder.sign(_PRIVATE[0], SHA384()).public_bytes(Encoding.DER)


def _shown(data: bytes) -> None:
    """Read the certificate that a server shows which nobody trusts."""
    hold("a date", kept=isfinite(knock.expiry_of(data)))


def _ders() -> Iterator[bytes]:
    issued, _ = authority.issue_for(_AUTHORITY, "tent-1", NOW)
    for pem in (issued.certificate, _AUTHORITY.certificate):
        yield x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def _broker(data: bytes) -> None:
    """Read what a broker lists, and compare it with what is wanted."""
    answer = refused(lambda: json.loads(data), ValueError, RecursionError)
    dynamic_security._response(data, "listClients", "1")  # noqa: SLF001 - what is fuzzed
    refused(lambda: broker_drift.parse_account(answer), ValueError)
    refused(lambda: broker_drift.parse_role(answer), ValueError)
    found = refused(lambda: broker_drift.parse_found(answer, answer, answer, answer), ValueError)
    if found is not None:
        role = broker_accounts.role_of(PREFIX, "tent-1", ["telemetry"], ["session"])
        account = broker_accounts.Account(username="tent-1.a", device_id="tent-1", client_id="tent-1")
        json.dumps([each.commands for each in broker_drift.difference([account], [role], found)])


def _answers() -> Iterator[bytes]:
    client = {
        "username": "tent-1.a",
        "clientid": "tent-1",
        "textname": "grokmon-tent-1",
        "disabled": True,
        "roles": [{"rolename": "grokmon-tent-1", "priority": -1}],
        "groups": [{"groupname": "all"}],
        "connections": [{"address": "::1"}],
    }
    rule = {"acltype": "publishClientSend", "topic": "grokmon/v1/tent-1/up/telemetry", "priority": 0, "allow": True}
    role = {"rolename": "grokmon-tent-1", "acls": [rule]}
    group = {"groupname": "all", "roles": [{"rolename": "grokmon-tent-1"}]}
    response = {"command": "listClients", "correlationData": "1", "data": {}}
    listed: dict[str, Any] = {"totalCount": 1, "clients": [client], "roles": [role], "groups": [group]}
    for answer in (client, role, {"responses": [response]}, listed):
        yield json.dumps(answer).encode()


_MQTT_WORDS: Final = (
    *("totalCount", "clients", "roles", "groups", "username", "clientid", "textname", "disabled", "rolename"),
    *("groupname", "connections", "acls", "acltype", "topic", "priority", "allow", "responses", "correlationData"),
    *("command", "data", "error", "listClients", "tent-1", "grokmon-tent-1", "subscribePattern"),
)
_PEM_WORDS: Final = ("-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE REQUEST-----", "-----END")
TARGETS: Final = (
    Target(name="public_key", run=_public_key, seeds=_public_keys, words=_PEM_WORDS),
    Target(name="request", run=_request, seeds=_requests, refusals=(RegistryError,), words=_PEM_WORDS),
    Target(name="shown", run=_shown, seeds=_ders, refusals=(ValueError,)),
    Target(name="broker", run=_broker, seeds=_answers, refusals=(), words=_MQTT_WORDS, tree=True),
)
