"""What a broker shows to whoever has no account: its TLS, its certificate, its port without TLS. Blocking."""

from contextlib import suppress
from dataclasses import dataclass
import socket
import ssl
from typing import Final

from cryptography import x509

from custom_components.grokmon.gateway.posture import Finding

_DAY_S: Final = 86_400
_RENEW_DAYS: Final = 14
LET_IN: Final = "anonymous is let in"

# A CONNECT of MQTT 3.1.1 with neither user name nor password, and the beginning of an answer to it.
_CONNECT: Final = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
_CONNACK: Final = 0x20
_CONNACK_LENGTH: Final = 4
_DISCONNECT: Final = b"\xe0\x00"

# RFC 4346: the header of a record, that of a handshake message, and the version in it.
_HANDSHAKE: Final = 22
_SERVER_HELLO: Final = 2
_ALERT: Final = 21
_HELLO_LENGTH: Final = 11
_TLS_1_1: Final = b"\x03\x02"

# X509_V_ERR_… of OpenSSL.
_EXPIRED: Final = 10
_REASONS: Final = {9: "not valid yet", _EXPIRED: "expired", 62: "of another name", 64: "of another name"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where to knock, and how long to wait for somebody to open."""

    host: str
    port: int
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a certificate is worth."""

    trusted: bool
    finding: Finding
    detail: str
    expires: float | None = None


def reach(door: Door) -> None:
    """Raise OSError where nobody listens."""
    _open(door).close()


def unverified() -> ssl.SSLContext:
    """Return a context that believes every certificate, for what may be known to anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def certificate(door: Door, context: ssl.SSLContext, now: float) -> Seen:
    """Look at the certificate; raises OSError or ValueError where there is no TLS."""
    try:
        expires = _expiry(door, context)
    except ssl.SSLCertVerificationError as error:
        # The only one whose date says something: the rest of it may well have been right.
        ended = _expiry(door, unverified()) if error.verify_code == _EXPIRED else None
        detail = _REASONS.get(error.verify_code, "not trusted")
        return Seen(trusted=False, finding=Finding.FAILED, detail=detail, expires=ended)
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        return Seen(trusted=False, finding=Finding.FAILED, detail="not verified")
    days = int((expires - now) // _DAY_S)
    finding = Finding.PASSED if days >= _RENEW_DAYS else Finding.FAILED
    return Seen(trusted=True, finding=finding, detail=f"{days} days left", expires=expires)


def old_tls(door: Door) -> tuple[Finding, str]:
    """Offer TLS 1.1 and nothing newer, and look at what the server says first."""
    try:
        hello = _old_hello(door.host)
    except OSError, ValueError:
        return Finding.UNKNOWN, "TLS 1.1 cannot be offered from here"
    try:
        answer = _ask(door, hello, _HELLO_LENGTH)
    except OSError:
        return Finding.UNKNOWN, "no answer"
    if not answer or answer[0] == _ALERT:
        return Finding.PASSED, "TLS 1.1 is refused"
    is_hello = len(answer) == _HELLO_LENGTH and (answer[0], answer[5]) == (_HANDSHAKE, _SERVER_HELLO)
    if is_hello and answer[9:] <= _TLS_1_1:
        return Finding.FAILED, "TLS 1.1 is accepted"
    return Finding.UNKNOWN, "no TLS"


def plaintext(door: Door) -> tuple[Finding, str]:
    """Say CONNECT without TLS, and look whether that is understood."""
    try:
        answer = _ask(door, _CONNECT, _CONNACK_LENGTH, _DISCONNECT)
    except socket.gaierror:
        return Finding.UNKNOWN, "no such host"
    except ConnectionRefusedError:
        return Finding.PASSED, "closed"
    except OSError:
        return Finding.PASSED, "no answer"
    if answer[:1] != bytes([_CONNACK]):
        return Finding.PASSED, "open, but no MQTT"
    return Finding.FAILED, LET_IN if answer[3:4] == b"\x00" else "MQTT without TLS"


def _open(door: Door) -> socket.socket:
    return socket.create_connection((door.host, door.port), door.timeout)


def _expiry(door: Door, context: ssl.SSLContext) -> float:
    with _open(door) as plain, context.wrap_socket(plain, server_hostname=door.host) as tls:
        return expiry_of(tls.getpeercert(binary_form=True))


def expiry_of(certificate: bytes | None) -> float:
    """Return when the certificate that a server showed (DER) expires. Raises ValueError for what is none."""
    if certificate is None:
        raise ValueError("no certificate")
    try:
        return x509.load_der_x509_certificate(certificate).not_valid_after_utc.timestamp()
    except x509.InvalidVersion as error:
        # Which is no ValueError, and which OpenSSL lets through where it verifies nothing.
        raise ValueError("a certificate of no known version") from error


def _old_hello(host: str) -> bytes:
    """Return a ClientHello of TLS 1.1; raises where the library does not know it any more."""
    context = unverified()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    outgoing = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def _ask(door: Door, question: bytes, length: int, farewell: bytes = b"") -> bytes:
    """Return the beginning of an answer, which is shorter where the server hangs up."""
    answer = b""
    with _open(door) as connection:
        connection.sendall(question)
        with suppress(ConnectionError):
            while len(answer) < length and (more := connection.recv(length - len(answer))):
                answer += more
            connection.sendall(farewell)
    return answer
