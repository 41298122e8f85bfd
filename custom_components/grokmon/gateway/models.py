"""Records that pass between the modules of the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .actuators import Actuator, Observed

# Messages in a minute.
DEFAULT_RATE_LIMIT: Final = 100

type Value = float | bool
type PublicKey = EllipticCurvePublicKey | Ed25519PublicKey
type PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey


class Algorithm(StrEnum):
    """JWS algorithms that a device may sign with (RFC 7518, RFC 8037)."""

    HS256 = "HS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


class Channel(StrEnum):
    """What a message from a device is about: the last level of its topic."""

    HELLO = "hello"
    TELEMETRY = "telemetry"
    STATE = "state"
    ACK = "ack"
    STATUS = "status"


class Downlink(StrEnum):
    """What a message to a device is about: the last level of its topic."""

    SESSION = "session"
    COMMAND = "command"


class DeviceStatus(StrEnum):
    """Whether the registry lets a device in."""

    ACTIVE = "active"
    DISABLED = "disabled"
    REVOKED = "revoked"


class Auth(StrEnum):
    """What proves that a message is a device's own: its signature, the broker, or an access token."""

    SIGNED = "signed"
    BROKER = "broker"
    TOKEN = "token"  # noqa: S105 - a name


class CredentialKind(StrEnum):
    """What a credential is."""

    KEY = "key"
    PASSWORD = "password"  # noqa: S105 - a name
    TOKEN = "token"  # noqa: S105 - a name
    CERTIFICATE = "certificate"

    @property
    def tells(self) -> bool:
        """Tell whether a first use is heard of: the broker checks passwords and certificates, and does not tell."""
        return self in (CredentialKind.KEY, CredentialKind.TOKEN)


class CredentialState(StrEnum):
    """Where a credential is in its life: issued, used, replaced, over."""

    PENDING = "pending"
    ACTIVE = "active"
    RETIRING = "retiring"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Range:
    """An interval of values, both ends included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What proves that a message, or a connection, is a device's own.

    `key_id` is the key's name, the token's `jti` or the certificate's serial number. `secret` is the 32-byte root key
    of an HS256 device or the password of a broker account, `public_key` the PEM of any other key, or the certificate.
    It is valid from `not_before` to `not_after`, in seconds since the epoch; when it was replaced, only until `ends`.
    """

    key_id: str
    created: float
    kind: CredentialKind = CredentialKind.KEY
    algorithm: Algorithm = Algorithm.HS256
    secret: bytes = field(default=b"", repr=False)
    public_key: str = ""
    state: CredentialState = CredentialState.PENDING
    not_before: float = 0.0
    not_after: float = inf
    ends: float = inf

    @property
    def until(self) -> float:
        """Return when it stops being accepted."""
        return min(self.not_after, self.ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyingKey:
    """A credential in the form that verifies messages: one algorithm, and the one key that goes with it.

    `key` is bytes for HS256 and a public key otherwise; `headers` are the encoded headers known to be right.
    """

    key_id: str
    algorithm: Algorithm
    headers: frozenset[bytes]
    key: bytes | PublicKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """What messages to a device are signed with."""

    algorithm: Algorithm
    key: bytes | PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device as the registry knows it."""

    device_id: str
    name: str
    metrics: frozenset[str]
    credentials: tuple[Credential, ...]
    auth: Auth = Auth.SIGNED
    actuators: tuple[Actuator, ...] = ()
    zone: str | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    rate_limit: int = DEFAULT_RATE_LIMIT
    status: DeviceStatus = DeviceStatus.ACTIVE

    def of_kind(self, kind: CredentialKind) -> tuple[Credential, ...]:
        """Return the credentials of a kind, the one in use first, and those that are revoked last.

        Where one was replaced without an overlap, the one that replaced it is in use before it was used.
        """
        found = [each for each in reversed(self.credentials) if each.kind is kind]
        pending = min((each.not_before for each in found if each.state is CredentialState.PENDING), default=-inf)
        return tuple(sorted(found, key=lambda each: _rank(each, pending)))

    @property
    def key(self) -> Credential | None:
        """Return the key in use, or None for a device that signs nothing."""
        keys = self.of_kind(CredentialKind.KEY)
        return keys[0] if keys else None


@dataclass(frozen=True, slots=True)
class Message:
    """What a transport hands in. `channel` and `device_id` are what the topic says and are not trusted."""

    device_id: str
    channel: str
    payload: bytes
    retained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """A message for the hub to publish."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a device says of itself when it starts. `boot` is the random value of that start."""

    boot: str
    firmware: str | None = None
    model: str | None = None


class Start(StrEnum):
    """Which start of a device a hello is of: one never heard of, the one in use, the last heard of, or another."""

    NEW = "new"
    IN_USE = "in_use"
    LATEST = "latest"
    EARLIER = "earlier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """The body of a telemetry message, of the right form but not yet judged."""

    metrics: Mapping[str, Value]
    ts: float | None
    meta: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class Reading:
    """Values that a device has proved to be its own, fresh and possible.

    `flags` names the metrics outside their plausible range, `late` says that `measured_at` is more than 300 s off the
    clock, `hello` is what the device said of itself when this reading is the first of a new session, and `first_use`
    names the credential that this is the first use of.
    """

    device_id: str
    received_at: float
    measured_at: float
    values: dict[str, Value]
    flags: tuple[str, ...]
    late: bool
    meta: Mapping[str, str]
    hello: Hello | None
    first_use: str = ""

    @property
    def is_old(self) -> bool:
        """Tell whether it says nothing of how things are now. A clock that is fast makes it late, but not old."""
        return self.late and self.measured_at < self.received_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a device has proved to say of its outputs. `hello` and `first_use` are as in a reading."""

    device_id: str
    states: Mapping[str, Observed]
    hello: Hello | None
    first_use: str = ""


class Result(StrEnum):
    """What a device made of a command."""

    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """A device's answer to one command. `states` are outputs as they are since then; `hello` is as in a reading."""

    device_id: str
    cid: str
    result: Result
    reason: str
    states: Mapping[str, Observed]
    hello: Hello | None
    first_use: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """A hello that was understood: the answer to publish."""

    answer: Outbound


@dataclass(frozen=True, slots=True)
class OfflineHint:
    """The broker's word that a device went away; nobody signed it."""

    device_id: str


type Claims = dict[str, Any]

_RANKS = {
    CredentialState.ACTIVE: 0,
    CredentialState.RETIRING: 1,
    CredentialState.PENDING: 2,
    CredentialState.REVOKED: 4,
}


def _rank(credential: Credential, pending: float) -> int:
    if credential.state is CredentialState.RETIRING and credential.ends <= pending:
        return 3
    return _RANKS[credential.state]
