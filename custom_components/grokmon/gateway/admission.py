"""What the gateway keeps ready for a device: its keys, its topics, and what it may still spend."""

from dataclasses import dataclass
from typing import Final

from . import climate, credentials, envelope, ranges, topics
from .catalog import CATALOG, VPD
from .errors import Code, EnvelopeError, TransportError
from .models import (
    Algorithm,
    Channel,
    Claims,
    Credential,
    CredentialKind,
    CredentialState,
    Device,
    DeviceStatus,
    Downlink,
    Outbound,
    PrivateKey,
    SigningKey,
    Start,
    VerifyingKey,
)
from .ratelimit import TokenBucket

PERIOD: Final = 60.0
# What anybody can spend in a device's name before a signature is looked at: a bound on work, far above any device.
FLOOD_CAPACITY: Final = 60_000.0
HELLOS: Final = 12.0
HELLO_REQUESTS: Final = 6.0
# A device whose clock seems slow is told the time once in so many seconds.
CORRECTION: Final = 300.0
# States and answers of a device; a renewal for each of its outputs every few seconds is answered, too.
ANSWERS: Final = 600.0
HTTP_REQUESTS: Final = 10.0
_REFUSALS: Final = {
    DeviceStatus.DISABLED: Code.DEVICE_DISABLED,
    DeviceStatus.REVOKED: Code.DEVICE_REVOKED,
}
# What says that another key of the device may be the one.
_OTHER_KEY: Final = frozenset({Code.SIGNATURE_INVALID, Code.HEADER_NOT_ALLOWED, Code.ALGORITHM_NOT_ALLOWED})


class Budgets:
    """The token buckets of one device."""

    def __init__(self, rate_limit: int) -> None:
        self.flood = TokenBucket(FLOOD_CAPACITY, PERIOD)
        self.messages = TokenBucket(rate_limit, PERIOD)
        self.hellos = {start: TokenBucket(HELLOS, PERIOD) for start in Start}
        self.requests = TokenBucket(HELLO_REQUESTS, PERIOD)
        self.times = TokenBucket(1.0, CORRECTION)
        self.answers = TokenBucket(ANSWERS, PERIOD)
        self.http = TokenBucket(HTTP_REQUESTS, PERIOD)


@dataclass(frozen=True, slots=True)
class Door:
    """A key of a device: what verifies with it, what is signed with it, and from when to when."""

    credential: Credential
    verifying_key: VerifyingKey
    signing_key: SigningKey

    @property
    def first_use(self) -> str:
        """Return the name of a key that was never used before, or nothing."""
        return self.credential.key_id if self.credential.state is CredentialState.PENDING else ""


@dataclass(frozen=True, slots=True)
class Admission:
    """What the gateway keeps ready for one device. `doors` are its keys, the one in use first."""

    device: Device
    doors: tuple[Door, ...]
    topics: dict[str, str]
    granted: dict[str, bool]
    actuators: frozenset[str]
    limits: dict[str, ranges.Limits]
    derives_vpd: bool
    budgets: Budgets

    @property
    def is_active(self) -> bool:
        """Tell whether the device may speak, and be spoken to."""
        return self.device.status is DeviceStatus.ACTIVE

    def open(self, channel: Channel, payload: bytes, now: float) -> tuple[Claims, Door]:
        """Return the claims of a message, and the key of the device that verified it. Raises GatewayError."""
        device_id, topic = self.device.device_id, self.topics[channel]
        # Not the error itself: with its traceback it would be a cycle that only the garbage collector could free.
        refusal = Code.SIGNATURE_INVALID
        for door in self.doors:
            try:
                claims = envelope.open_envelope(payload, door.verifying_key, device_id, topic, now)
            except EnvelopeError as error:
                if error.code not in _OTHER_KEY:
                    raise
                refusal = error.code
            else:
                check_dates(door.credential, self.doors[0].credential, now)
                return claims, door
        raise EnvelopeError(refusal)

    def standing(self, now: float) -> list[Door]:
        """Return the keys that were neither replaced nor have expired."""
        return [door for door in self.doors if not _is_over(door.credential, self.doors[0].credential, now)]

    def outbound(self, door: Door, channel: Downlink, body: Claims) -> Outbound:
        """Return a message to the device, sealed under one of its keys."""
        topic = self.topics[channel]
        claims: Claims = {"iss": envelope.SITE, "aud": topic} | body
        return Outbound(topic=topic, payload=envelope.seal(claims, door.signing_key))

    def continues(self, before: Admission) -> bool:
        """Tell whether the device's session holds: its key is the same, or the one that it was expected to take up."""
        if not before.doors or not self.doors:
            return False
        was, now = before.doors[0].credential, self.doors[0].credential
        expected = {door.credential.key_id for door in before.doors if door.first_use}
        return was.key_id == now.key_id or now.key_id in expected


def admission_of(
    device: Device, prefix: str, site_keys: dict[Algorithm, PrivateKey], before: Admission | None
) -> Admission:
    """Return what to keep ready for a device. What it has spent `before` stays spent."""
    derives_vpd = climate.derives_vpd(device.metrics)
    budgets = before.budgets if before is not None else Budgets(device.rate_limit)
    if budgets.messages.capacity != device.rate_limit:
        budgets.messages = TokenBucket(device.rate_limit, PERIOD)
    keys = [key for key in device.of_kind(CredentialKind.KEY) if key.state is not CredentialState.REVOKED]
    return Admission(
        device=device,
        doors=tuple(_door(key, site_keys) for key in keys),
        topics=topics.all_topics(prefix, device.device_id),
        actuators=frozenset(actuator.name for actuator in device.actuators),
        granted={name: CATALOG[name].is_boolean for name in device.metrics},
        limits=ranges.limits_of(device, device.metrics | {VPD}),
        derives_vpd=derives_vpd,
        budgets=budgets,
    )


def check_dates(credential: Credential, in_use: Credential, now: float) -> None:
    """Refuse a credential that is not valid now, or was replaced. `in_use` is the first of its kind.

    Raises TransportError.
    """
    if (code := refusal_by_date(credential, in_use, now)) is not None:
        raise TransportError(code, credential.kind.value)


def refusal_by_date(credential: Credential, in_use: Credential, now: float) -> Code | None:
    """Return why a credential is not valid now, or None."""
    if _is_over(credential, in_use, now):
        return Code.CREDENTIAL_EXPIRED
    return None if now >= credential.not_before else Code.CREDENTIAL_NOT_YET_VALID


def check_status(device: Device) -> None:
    """Refuse a device that an administrator disabled or revoked. Raises TransportError."""
    if (code := refusal_of(device)) is not None:
        raise TransportError(code)


def refusal_of(device: Device) -> Code | None:
    """Return why a device may neither speak nor be spoken to, or None."""
    return _REFUSALS.get(device.status)


def _is_over(credential: Credential, in_use: Credential, now: float) -> bool:
    # A clock that is set back must not bring back what went before the one in use.
    replaced = credential.state is CredentialState.RETIRING and credential is not in_use
    # Written so that a date which is not a number lets nobody in.
    return replaced or not (now < credential.not_after and now < credential.ends)


def _door(key: Credential, site_keys: dict[Algorithm, PrivateKey]) -> Door:
    return Door(
        key,
        credentials.verifying_key(key, envelope.headers_of(key.algorithm, key.key_id)),
        credentials.signing_key(key, site_keys.get(key.algorithm)),
    )
