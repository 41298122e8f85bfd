"""The device's side by hand, so that the gateway's code is not judged by itself: JWS, keys, an enrolled device."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
import hashlib
import hmac
import json
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from custom_components.grokmon.gateway import credentials
from custom_components.grokmon.gateway.errors import Code, GatewayError
from custom_components.grokmon.gateway.models import (
    Algorithm,
    Auth,
    Credential,
    CredentialState,
    Device,
    Greeting,
    Message,
    PrivateKey,
    Range,
    Reading,
)
from custom_components.grokmon.gateway.pipeline import Gateway
from custom_components.grokmon.gateway.sessions import Sessions

NOW: Final = 1_763_850_000.0
BOOT: Final = "AAAAAAAAAAAAAAAAAAAAAA"
PREFIX: Final = "grokmon"
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def b64(data: bytes) -> bytes:
    """Encode as unpadded base64url."""
    return urlsafe_b64encode(data).rstrip(b"=")


def unb64(text: bytes) -> bytes:
    """Decode unpadded base64url."""
    return urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def to_json(value: Any) -> bytes:
    """Serialise compactly, as a small device does."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def boot_of(number: int) -> str:
    """Return a boot value of its own for every number."""
    return b64(number.to_bytes(16)).decode()


type Sign = Callable[[bytes], bytes]


def compact(payload: bytes, header: bytes, sign: Sign) -> bytes:
    """Join any header and any payload, and sign them, whether or not the header says so."""
    covered = b64(header) + b"." + b64(payload)
    return covered + b"." + b64(sign(covered))


def hmac_sha256(key: bytes) -> Sign:
    """Return what signs bytes with HMAC-SHA256."""
    return lambda covered: hmac.digest(key, covered, hashlib.sha256)


def ecdsa_p256(key: EllipticCurvePrivateKey) -> Sign:
    """Return what signs bytes with ECDSA on P-256, in the form of a JWS (RFC 7518, section 3.4)."""

    def sign(covered: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(covered, ECDSA(SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    return sign


def hs256(key: bytes, payload: bytes, header: bytes = b'{"alg":"HS256","typ":"JWT"}') -> bytes:
    """Return a JWS with HMAC-SHA256 under any header."""
    return compact(payload, header, hmac_sha256(key))


def malleate(token: bytes) -> bytes:
    """Return the other signature (r, n - s) that ECDSA accepts for the same message."""
    covered, _, signature = token.rpartition(b".")
    raw = unb64(signature)
    other = P256_ORDER - int.from_bytes(raw[32:])
    return covered + b"." + b64(raw[:32] + other.to_bytes(32))


def public_pem(key: PrivateKey) -> str:
    """Return the public half of a key as enrolment takes it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def claims_in(token: bytes) -> dict[str, Any]:
    """Return the claims of a token, unverified."""
    claims: dict[str, Any] = json.loads(unb64(token.split(b".")[1]))
    return claims


def brief(value: object) -> str:
    """Return a short name for a value that tests are made with."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:50]}… {len(text)}"


def code_of(error: GatewayError) -> str:
    """Return the plain text of an error's code."""
    return Code(error.code).value


@dataclass(slots=True, kw_only=True)
class Sender:
    """An honest device: it keeps its keys and signs what it is told to."""

    device_id: str = "tent-1"
    algorithm: Algorithm = Algorithm.HS256
    credential: Credential
    private_key: PrivateKey | None = field(default=None, repr=False)

    @classmethod
    def new(
        cls,
        device_id: str = "tent-1",
        algorithm: Algorithm = Algorithm.HS256,
        *,
        state: CredentialState = CredentialState.ACTIVE,
        now: float = NOW,
    ) -> Sender:
        """Make a device with a new key of an algorithm, in use already."""
        private: dict[Algorithm, PrivateKey | None] = {
            Algorithm.HS256: None,
            Algorithm.ES256: generate_private_key(SECP256R1()),
            Algorithm.EDDSA: Ed25519PrivateKey.generate(),
        }
        key = private[algorithm]
        pem = "" if key is None else public_pem(key)
        credential = replace(credentials.issue(algorithm, now, pem), state=state)
        return cls(device_id=device_id, algorithm=algorithm, credential=credential, private_key=key)

    @property
    def up_key(self) -> bytes:
        """Derive the key of an HS256 device as the protocol says."""
        return hmac.digest(self.credential.secret, b"grokmon/v1/up", hashlib.sha256)

    @property
    def down_key(self) -> bytes:
        """Derive the key of messages to an HS256 device as the protocol says."""
        return hmac.digest(self.credential.secret, b"grokmon/v1/down", hashlib.sha256)

    def topic(self, channel: str) -> str:
        """Return the topic of a channel from this device."""
        return f"{PREFIX}/v1/{self.device_id}/up/{channel}"

    def sign_bytes(self, payload: bytes) -> bytes:
        """Sign bytes that need not be claims."""
        return compact(payload, b'{"alg":"%s","typ":"JWT"}' % self.algorithm.encode(), self._signature())

    def _signature(self) -> Sign:
        match self.private_key:
            case EllipticCurvePrivateKey():
                return ecdsa_p256(self.private_key)
            case Ed25519PrivateKey():
                return self.private_key.sign
            case _:
                return hmac_sha256(self.up_key)

    def sign(self, claims: Mapping[str, Any], channel: str = "telemetry") -> bytes:
        """Sign claims for a channel; issuer and audience are added where they are not given."""
        return self.sign_bytes(to_json({"iss": self.device_id, "aud": self.topic(channel)} | dict(claims)))

    def hello(self, boot: str = BOOT, **body: Any) -> Message:
        """Return a start announcement."""
        return Message(self.device_id, "hello", self.sign({"boot": boot} | body, "hello"))

    def state(self, sid: str, seq: int, actuators: Any, **body: Any) -> Message:
        """Return what the outputs do, under a session."""
        claims = {"sid": sid, "seq": seq, "actuators": actuators, **body}
        return Message(self.device_id, "state", self.sign(claims, "state"))

    def ack(self, sid: str, seq: int, cid: Any = "0" * 26, result: Any = "done", **body: Any) -> Message:
        """Return an answer to a command, under a session."""
        claims = {"sid": sid, "seq": seq, "cid": cid, "result": result, **body}
        return Message(self.device_id, "ack", self.sign(claims, "ack"))

    def telemetry(self, sid: str, seq: int, metrics: Mapping[str, Any] | None = None, **body: Any) -> Message:
        """Return a reading under a session."""
        return self.message({"sid": sid, "seq": seq}, metrics, **body)

    def clocked(self, iat: float, metrics: Mapping[str, Any] | None = None, **body: Any) -> Message:
        """Return a reading that is fresh by its time."""
        return self.message({"iat": iat}, metrics, **body)

    def message(self, freshness: Mapping[str, Any], metrics: Mapping[str, Any] | None = None, **body: Any) -> Message:
        """Return a reading with these claims for its freshness."""
        values = {"temp_c": 21.5} if metrics is None else metrics
        return Message(self.device_id, "telemetry", self.sign({**freshness, "metrics": values, **body}))


def device_of(
    sender: Sender,
    metrics: frozenset[str] = frozenset({"temp_c", "humidity_percent"}),
    *,
    ranges: Mapping[str, Range] | None = None,
    rate_limit: int = 100,
    auth: Auth = Auth.SIGNED,
    others: tuple[Credential, ...] = (),
) -> Device:
    """Return the registry's record of a device: its key, where it signs, and its other credentials."""
    return Device(
        device_id=sender.device_id,
        name="Tent",
        metrics=metrics,
        credentials=(sender.credential, *others) if auth is Auth.SIGNED else others,
        auth=auth,
        ranges={} if ranges is None else ranges,
        rate_limit=rate_limit,
    )


def gateway_with(
    *devices: Device, started_at: float = NOW, sessions: Sessions | None = None, token_key: bytes = b""
) -> Gateway:
    """Return a gateway that knows these devices and has site keys of both kinds."""
    site_keys = {algorithm: credentials.new_site_key(algorithm) for algorithm in (Algorithm.ES256, Algorithm.EDDSA)}
    gateway = Gateway(PREFIX, started_at, site_keys, sessions, token_key)
    for device in devices:
        gateway.admit(gateway.registry.enrol(device))
    return gateway


def greeted(gateway: Gateway, hello: Message, now: float = NOW) -> str:
    """Say hello; return the session that the gateway answers with."""
    greeting = gateway.ingest(hello, now)
    assert isinstance(greeting, Greeting)
    sid: str = claims_in(greeting.answer.payload)["sid"]
    return sid


def accepted(gateway: Gateway, message: Message, now: float = NOW) -> Reading:
    """Ingest a message that must be a reading."""
    reading = gateway.ingest(message, now)
    assert isinstance(reading, Reading)
    return reading


def outcome(gateway: Gateway, message: Message, now: float = NOW) -> str:
    """Ingest a message; return its code, or `accepted`. Anything but a GatewayError is the test's failure."""
    try:
        gateway.ingest(message, now)
    except GatewayError as error:
        return code_of(error)
    return "accepted"


def attempt[T](act: Callable[[], T]) -> T | GatewayError:
    """Return what an act returns, or the error of the gateway's tree that it raises."""
    try:
        return act()
    except GatewayError as error:
        return error
