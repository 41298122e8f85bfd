"""The gateway: the order of the steps from a message to a reading."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from . import climate, credentials, envelope, ranges, schema, topics
from .catalog import CATALOG, VPD
from .errors import Code, GatewayError, PolicyError, RateError, SchemaError, TransportError
from .models import (
    Ack,
    Algorithm,
    Channel,
    Claims,
    Device,
    DeviceStatus,
    Downlink,
    Greeting,
    Message,
    OfflineHint,
    Outbound,
    PrivateKey,
    Reading,
    Report,
    SigningKey,
    Value,
    VerifyingKey,
)
from .ratelimit import TokenBucket
from .registry import DeviceRegistry
from .sessions import Sessions

LATE_AFTER: Final = 300.0
_PERIOD: Final = 60.0
# What anybody can spend in a device's name before a signature is looked at: a bound on work, far above any device.
_FLOOD_CAPACITY: Final = 60_000.0
_HELLOS: Final = 12.0
_REQUESTS: Final = 6.0
# States and answers of a device; a renewal for each of its outputs every few seconds is answered, too.
_ANSWERS: Final = 600.0
_OFFLINE: Final = b"offline"
# A leaf far below the dew point is as wet as one slightly below it; only a device's own figure can be impossible.
_DEW: Final = -0.5


type Incoming = Reading | Report | Ack | Greeting | OfflineHint


class _Budgets:
    """The token buckets of one device."""

    def __init__(self, rate_limit: int) -> None:
        self.flood = TokenBucket(_FLOOD_CAPACITY, _PERIOD)
        self.messages = TokenBucket(rate_limit, _PERIOD)
        self.hellos = TokenBucket(_HELLOS, _PERIOD)
        self.repeats = TokenBucket(_HELLOS, _PERIOD)
        self.requests = TokenBucket(_REQUESTS, _PERIOD)
        self.answers = TokenBucket(_ANSWERS, _PERIOD)


@dataclass(frozen=True, slots=True)
class _Admission:
    """What the gateway keeps ready for one device."""

    device: Device
    verifying_key: VerifyingKey
    signing_key: SigningKey
    topics: dict[str, str]
    granted: dict[str, bool]
    actuators: frozenset[str]
    limits: dict[str, ranges.Limits]
    derives_vpd: bool
    budgets: _Budgets


class Gateway:
    """Decide about every message, and count the decisions.

    `accepted` counts readings by device, `refused` messages by device and code, with None for every device that the
    registry does not know, `flagged` implausible values by device and metric, and `late` readings by device.
    """

    def __init__(
        self, prefix: str, started_at: float, site_keys: dict[Algorithm, PrivateKey], sessions: Sessions | None = None
    ) -> None:
        self.prefix = prefix
        self.site_keys = site_keys
        self.registry = DeviceRegistry()
        self.sessions = Sessions(started_at) if sessions is None else sessions
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[tuple[str | None, Code]] = Counter()
        self.flagged: Counter[tuple[str, str]] = Counter()
        self.late: Counter[str] = Counter()
        self._admissions: dict[str, _Admission] = {}

    def admit(self, device: Device) -> None:
        """Get ready for a device of the registry, or for what changed about it."""
        known = self._admissions.get(device.device_id)
        credential = device.credential
        derives_vpd = climate.derives_vpd(device.metrics)
        budgets = known.budgets if known is not None else _Budgets(device.rate_limit)
        if budgets.messages.capacity != device.rate_limit:
            budgets.messages = TokenBucket(device.rate_limit, _PERIOD)
        self._admissions[device.device_id] = _Admission(
            device=device,
            verifying_key=credentials.verifying_key(
                credential, envelope.headers_of(credential.algorithm, credential.key_id)
            ),
            signing_key=credentials.signing_key(credential, self.site_keys.get(credential.algorithm)),
            topics=topics.all_topics(self.prefix, device.device_id),
            actuators=frozenset(actuator.name for actuator in device.actuators),
            granted={name: CATALOG[name].is_boolean for name in device.metrics},
            limits=ranges.limits_of(device, device.metrics | {VPD} if derives_vpd else device.metrics),
            derives_vpd=derives_vpd,
            budgets=budgets,
        )
        if known is not None and known.device.credential.key_id != credential.key_id:
            self.sessions.forget(device.device_id)

    def dismiss(self, device_id: str) -> None:
        """Forget a device that left the registry."""
        self._admissions.pop(device_id, None)
        self.sessions.forget(device_id)

    def ingest(self, message: Message, now: float) -> Incoming:
        """Return what a message means, or raise GatewayError. `now` is in seconds since the epoch."""
        try:
            return self._ingest(message, now)
        except GatewayError as error:
            self.count_refusal(message.device_id, error)
            raise

    def count_refusal(self, device_id: str, error: GatewayError) -> None:
        """Count what was refused in the name of a device."""
        self.refused[device_id if device_id in self._admissions else None, error.code] += 1

    def hello_request(self, device_id: str, now: float, sid: str | None = None) -> Outbound | None:
        """Return the request to say hello again, or None when the device was asked often enough or may not speak.

        `sid` is the unknown session that the device used; without it the request is for any session.
        """
        admission = self._admissions[device_id]
        if admission.device.status is not DeviceStatus.ACTIVE or not admission.budgets.requests.take(now):
            return None
        claims: Claims = {"hello": True, "time": int(now)}
        if sid is not None:
            claims["sid"] = sid
        return _outbound(admission, Downlink.SESSION, claims)

    def command(self, device_id: str, body: Claims) -> Outbound:
        """Return a command, sealed under the device's session. Raises PolicyError when it may not be spoken to."""
        admission = self._admissions[device_id]
        if admission.device.status is not DeviceStatus.ACTIVE:
            revoked = admission.device.status is DeviceStatus.REVOKED
            raise PolicyError(Code.DEVICE_REVOKED if revoked else Code.DEVICE_DISABLED, device_id)
        counted = self.sessions.next_command(device_id)
        if counted is None:
            raise PolicyError(Code.DEVICE_OFFLINE, f"{device_id} has not said hello since the start")
        sid, seq = counted
        return _outbound(admission, Downlink.COMMAND, {"sid": sid, "seq": seq} | body)

    def _ingest(self, message: Message, now: float) -> Incoming:
        admission = self._entrance(message, now)
        match message.channel:
            case Channel.TELEMETRY:
                return self._telemetry(admission, message.payload, now)
            case Channel.HELLO:
                return self._hello(admission, message.payload, now)
            case Channel.STATUS:
                if message.payload != _OFFLINE:
                    raise SchemaError(Code.FIELD_INVALID, "status")
                return OfflineHint(message.device_id)
            case Channel.STATE | Channel.ACK:
                return self._answer(admission, message, now)
            case _:
                raise TransportError(Code.UNKNOWN_CHANNEL)

    def _entrance(self, message: Message, now: float) -> _Admission:
        """Check all that can be known before a signature is looked at."""
        if message.retained:
            raise TransportError(Code.RETAINED)
        if len(message.payload) > envelope.MAX_MESSAGE_BYTES:
            raise TransportError(Code.OVERSIZED, f"at most {envelope.MAX_MESSAGE_BYTES} bytes")
        admission = self._admissions.get(message.device_id)
        if admission is None:
            raise TransportError(Code.UNKNOWN_DEVICE)
        if admission.device.status is not DeviceStatus.ACTIVE:
            revoked = admission.device.status is DeviceStatus.REVOKED
            raise TransportError(Code.DEVICE_REVOKED if revoked else Code.DEVICE_DISABLED)
        if not admission.budgets.flood.take(now):
            raise TransportError(Code.FLOOD)
        return admission

    def _telemetry(self, admission: _Admission, payload: bytes, now: float) -> Reading:
        device = admission.device
        claims = _open(admission, Channel.TELEMETRY, payload, now)
        self.sessions.check(device.device_id, Channel.TELEMETRY, claims, payload, now, clock_allowed=True)
        if not admission.budgets.messages.take(now):
            raise RateError(Code.RATE_LIMITED, f"{device.rate_limit} messages per minute")
        body = schema.telemetry(claims, admission.granted)
        values: dict[str, Value] = dict(body.metrics)
        if admission.derives_vpd and (vpd := climate.vpd_of(values)) is not None:
            values[VPD] = max(vpd, _DEW)
        flags = ranges.apply(values, admission.limits)
        self.accepted[device.device_id] += 1
        for name in flags:
            self.flagged[device.device_id, name] += 1
        measured_at = now if body.ts is None else body.ts
        late = abs(measured_at - now) > LATE_AFTER
        if late:
            self.late[device.device_id] += 1
        return Reading(
            device_id=device.device_id,
            received_at=now,
            measured_at=measured_at,
            values=values,
            flags=flags,
            late=late,
            meta=body.meta,
            hello=self.sessions.take_hello(device.device_id),
        )

    def _answer(self, admission: _Admission, message: Message, now: float) -> Report | Ack:
        """Return what a device says of its outputs. Only a session makes that fresh: a clock can be set."""
        device_id = admission.device.device_id
        if not admission.actuators:
            raise TransportError(Code.CHANNEL_NOT_ALLOWED, "the device has no actuators")
        channel = Channel(message.channel)
        claims = _open(admission, channel, message.payload, now)
        self.sessions.check(device_id, channel, claims, message.payload, now, clock_allowed=False)
        if not admission.budgets.answers.take(now):
            raise RateError(Code.RATE_LIMITED, f"{_ANSWERS:.0f} states and answers per minute")
        if channel is Channel.STATE:
            states = schema.state(claims, admission.actuators)
            return Report(
                device_id=device_id, received_at=now, states=states, hello=self.sessions.take_hello(device_id)
            )
        cid, result, reason, states = schema.ack(claims, admission.actuators)
        return Ack(
            device_id=device_id,
            received_at=now,
            cid=cid,
            result=result,
            reason=reason,
            states=states,
            hello=self.sessions.take_hello(device_id),
        )

    def _hello(self, admission: _Admission, payload: bytes, now: float) -> Greeting:
        device_id = admission.device.device_id
        hello = schema.hello(_open(admission, Channel.HELLO, payload, now))
        sid = self.sessions.known(device_id, hello.boot)
        # A hello proves who made it, not when: repeats have a budget of their own, so that they cost neither readings
        # nor the start of the device.
        if not (admission.budgets.hellos if sid is None else admission.budgets.repeats).take(now):
            raise RateError(Code.RATE_LIMITED, f"{_HELLOS:.0f} hellos per minute")
        if sid is None:
            sid = self.sessions.greet(device_id, hello)
        answer = _outbound(admission, Downlink.SESSION, {"boot": hello.boot, "sid": sid, "time": int(now)})
        return Greeting(device_id=device_id, hello=hello, answer=answer)


def _open(admission: _Admission, channel: Channel, payload: bytes, now: float) -> Claims:
    return envelope.open_envelope(
        payload, admission.verifying_key, admission.device.device_id, admission.topics[channel], now
    )


def _outbound(admission: _Admission, channel: Downlink, body: Claims) -> Outbound:
    topic = admission.topics[channel]
    claims: Claims = {"iss": "grokmon", "aud": topic} | body
    return Outbound(topic=topic, payload=envelope.seal(claims, admission.signing_key))
