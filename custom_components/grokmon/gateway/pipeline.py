"""The gateway: the order of the steps from a message to a reading."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from . import access_tokens, climate, envelope, ranges, schema
from .admission import (
    ANSWERS,
    HELLOS,
    HTTP_REQUESTS,
    Admission,
    admission_of,
    check_dates,
    check_status,
    refusal_by_date,
    refusal_of,
)
from .catalog import VPD
from .errors import Code, EnvelopeError, GatewayError, PeerError, PolicyError, RateError, SchemaError, TransportError
from .models import (
    Ack,
    Algorithm,
    Auth,
    Channel,
    Claims,
    CredentialKind,
    CredentialState,
    Device,
    Downlink,
    Greeting,
    Message,
    OfflineHint,
    Outbound,
    PrivateKey,
    Reading,
    Report,
    Value,
)
from .registry import DeviceRegistry
from .sessions import Sessions

LATE_AFTER: Final = 300.0
_OFFLINE: Final = b"offline"
MAX_BATCH: Final = 100
# A leaf far below the dew point is as wet as one slightly below it; only a device's own figure can be impossible.
_DEW: Final = -0.5


type Incoming = Reading | Report | Ack | Greeting | OfflineHint


@dataclass(frozen=True, slots=True)
class Peer:
    """A device that a transport authenticated by a token; `first_use` names it where it had never been used before."""

    device_id: str
    token_id: str
    first_use: str = ""


class Gateway:
    """Decide about every message, and count the decisions.

    `accepted` counts readings by device, `refused` messages by device and code, with None for every device that the
    registry does not know, `flagged` implausible values by device and metric, and `late` readings by device.
    `broker_enforced` says whether the broker was measured to keep devices apart, `told` what devices are told as the
    time when it is `now`.
    """

    def __init__(
        self,
        prefix: str,
        started_at: float,
        site_keys: dict[Algorithm, PrivateKey],
        sessions: Sessions | None = None,
        token_key: bytes = b"",
    ) -> None:
        self.prefix = prefix
        self._token_key = token_key
        self.site_keys = site_keys
        self.broker_enforced = False
        self.told: Callable[[float], float] = float
        self.registry = DeviceRegistry()
        self.sessions = Sessions(started_at) if sessions is None else sessions
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[tuple[str | None, Code]] = Counter()
        self.flagged: Counter[tuple[str, str]] = Counter()
        self.late: Counter[str] = Counter()
        self._admissions: dict[str, Admission] = {}

    def admit(self, device: Device) -> None:
        """Get ready for a device of the registry, or for what changed about it."""
        before = self._admissions.get(device.device_id)
        admission = admission_of(device, self.prefix, self.site_keys, before)
        self._admissions[device.device_id] = admission
        if before is not None and not admission.continues(before):
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

    def authenticate(self, token: bytes, now: float) -> Peer:
        """Return who an access token stands for. Raises GatewayError, for one of ours with the device that it names."""
        try:
            named = access_tokens.read(token, self._token_key, now)
        except GatewayError as error:
            self.refused[None, error.code] += 1
            raise
        try:
            return self._peer(named.device_id, named.token_id, now)
        except GatewayError as error:
            self.count_refusal(named.device_id, error)
            raise PeerError(error.code, error.detail, named.device_id) from error

    def ingest_http(self, peer: Peer, content_type: str, payload: bytes, now: float) -> list[Reading]:
        """Return what an authenticated device reports over HTTP, all of it or nothing. Raises GatewayError."""
        try:
            # A body may be long on its way, and the device or its token over in the meantime.
            peer = self._peer(peer.device_id, peer.token_id, now)
            admission = self._admissions[peer.device_id]
            if not admission.budgets.http.take(now):
                raise RateError(Code.RATE_LIMITED, f"{HTTP_REQUESTS:.0f} requests per minute")
            _check_size(payload)
            if content_type == envelope.JWT_CONTENT:
                readings = [self._telemetry(admission, payload, now)]
            else:
                readings = self._batch(admission, payload, now)
        except GatewayError as error:
            self.count_refusal(peer.device_id, error)
            raise
        readings[0].first_use = readings[0].first_use or peer.first_use
        return readings

    def hello_requests(self, device_id: str, now: float, sid: str | None = None) -> tuple[Outbound, ...]:
        """Return the request to say hello again, under each key that the device may have.

        There is none when the device was asked often enough or may not speak. `sid` is the unknown session that the
        device used; without it the request is for any session. While the device has none here, it is asked both ways:
        the unknown one may be of a recording, and what is for any session is not obeyed where a clock was set back.
        """
        admission = self._admissions[device_id]
        if not admission.is_active or not admission.budgets.requests.take(now):
            return ()
        any_session: Claims = {"hello": True, "time": int(self.told(now))}
        requests = [] if sid is None else [any_session | {"sid": sid}]
        if self.sessions.active_sid(device_id) is None or sid is None:
            requests.append(any_session)
        return tuple(
            admission.outbound(door, Downlink.SESSION, claims)
            for claims in requests
            for door in admission.standing(now)
        )

    def time_requests(self, reading: Reading) -> tuple[Outbound, ...]:
        """Return the request to say hello to a device whose reading is old: its clock may be slow, the answer sets it.

        There is one in five minutes only, since what the device has kept comes again with it.
        """
        device_id, now = reading.device_id, reading.received_at
        if not reading.is_old or not self._admissions[device_id].budgets.times.take(now):
            return ()
        return self.hello_requests(device_id, now)

    def command(self, device_id: str, body: Claims, now: float) -> Outbound:
        """Return a command, sealed under the device's session. Raises PolicyError when it may not be spoken to.

        What has a lease needs a key that is valid now: the device could not confirm it otherwise.
        """
        admission = self._admissions[device_id]
        if (code := refusal_of(admission.device)) is not None:
            raise PolicyError(code, device_id)
        counted = self.sessions.next_command(device_id) if admission.doors else None
        if counted is None:
            raise PolicyError(
                Code.DEVICE_OFFLINE, f"{device_id} has not said hello since the start", values={"device": device_id}
            )
        sid, seq = counted
        door = admission.doors[0]
        if "lease_s" in body and (code := refusal_by_date(door.credential, door.credential, now)) is not None:
            raise PolicyError(code, device_id)
        return admission.outbound(door, Downlink.COMMAND, {"sid": sid, "seq": seq} | body)

    def _peer(self, device_id: str, token_id: str, now: float) -> Peer:
        admission = self._admissions.get(device_id)
        if admission is None:
            raise TransportError(Code.UNKNOWN_DEVICE)
        check_status(admission.device)
        tokens = admission.device.of_kind(CredentialKind.TOKEN)
        known = next((each for each in tokens if each.key_id == token_id), None)
        if known is None or known.state is CredentialState.REVOKED:
            raise TransportError(Code.CREDENTIAL_REVOKED, CredentialKind.TOKEN.value)
        check_dates(known, tokens[0], now)
        return Peer(device_id, token_id, token_id if known.state is CredentialState.PENDING else "")

    def _ingest(self, message: Message, now: float) -> Incoming:
        admission = self._entrance(message, now)
        match message.channel:
            case Channel.TELEMETRY if admission.device.auth is Auth.BROKER:
                if not self.broker_enforced:
                    raise TransportError(Code.BROKER_NOT_ENFORCED, "the broker was not found to keep devices apart")
                _spend(admission, now)
                claims = envelope.parse(message.payload)
                return self._accepted(admission, self._judge(admission, claims, now, signed=False))
            case Channel.TELEMETRY:
                return self._telemetry(admission, message.payload, now)
            case Channel.HELLO if admission.device.auth is not Auth.SIGNED:
                raise TransportError(Code.CHANNEL_NOT_ALLOWED, "the device signs nothing")
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

    def _entrance(self, message: Message, now: float) -> Admission:
        """Check all that can be known before a signature is looked at."""
        if message.retained:
            raise TransportError(Code.RETAINED)
        _check_size(message.payload)
        admission = self._admissions.get(message.device_id)
        if admission is None:
            raise TransportError(Code.UNKNOWN_DEVICE)
        check_status(admission.device)
        if admission.device.auth is Auth.TOKEN:
            raise TransportError(Code.CHANNEL_NOT_ALLOWED, "the device sends over HTTP")
        if not admission.budgets.flood.take(now):
            raise TransportError(Code.FLOOD)
        return admission

    def _telemetry(self, admission: Admission, payload: bytes, now: float) -> Reading:
        device = admission.device
        claims, door = admission.open(Channel.TELEMETRY, payload, now)
        self.sessions.check(device.device_id, Channel.TELEMETRY, claims, payload, now, clock_allowed=True)
        _spend(admission, now)
        reading = self._accepted(admission, self._judge(admission, claims, now))
        reading.hello = self.sessions.take_hello(device.device_id)
        reading.first_use = door.first_use
        return reading

    def _batch(self, admission: Admission, payload: bytes, now: float) -> list[Reading]:
        """Return the readings of a plain body, or of a list of them: one that is wrong refuses them all."""
        if admission.device.auth is not Auth.TOKEN:
            raise EnvelopeError(Code.UNSIGNED)
        _spend(admission, now)
        body = envelope.parse(payload)
        bodies = [body]
        if "readings" in body:
            bodies = schema.batch(body, MAX_BATCH)
        judged = [self._judge(admission, each, now, signed=False) for each in bodies]
        return [self._accepted(admission, reading) for reading in judged]

    def _judge(self, admission: Admission, claims: Claims, now: float, *, signed: bool = True) -> Reading:
        """Return what a body says; it is not counted yet."""
        device = admission.device
        if not signed:
            schema.check_plain(claims, device.device_id)
        body = schema.telemetry(claims, admission.granted)
        values: dict[str, Value] = dict(body.metrics)
        if admission.derives_vpd and (vpd := climate.vpd_of(values)) is not None:
            values[VPD] = max(vpd, _DEW)
        flags = ranges.apply(values, admission.limits)
        measured_at = now if body.ts is None else body.ts
        return Reading(
            device_id=device.device_id,
            received_at=now,
            measured_at=measured_at,
            values=values,
            flags=flags,
            late=abs(measured_at - now) > LATE_AFTER,
            meta=body.meta,
            hello=None,
        )

    def _accepted(self, admission: Admission, reading: Reading) -> Reading:
        device_id = admission.device.device_id
        self.accepted[device_id] += 1
        for name in reading.flags:
            self.flagged[device_id, name] += 1
        if reading.late:
            self.late[device_id] += 1
        return reading

    def _answer(self, admission: Admission, message: Message, now: float) -> Report | Ack:
        """Return what a device says of its outputs. Only a session makes that fresh: a clock can be set."""
        device_id = admission.device.device_id
        if not admission.actuators:
            raise TransportError(Code.CHANNEL_NOT_ALLOWED, "the device has no actuators")
        channel = Channel(message.channel)
        claims, door = admission.open(channel, message.payload, now)
        self.sessions.check(device_id, channel, claims, message.payload, now, clock_allowed=False)
        if not admission.budgets.answers.take(now):
            raise RateError(Code.RATE_LIMITED, f"{ANSWERS:.0f} states and answers per minute")
        if channel is Channel.STATE:
            states = schema.state(claims, admission.actuators)
            return Report(
                device_id=device_id,
                states=states,
                hello=self.sessions.take_hello(device_id),
                first_use=door.first_use,
            )
        cid, result, reason, states = schema.ack(claims, admission.actuators)
        return Ack(
            device_id=device_id,
            cid=cid,
            result=result,
            reason=reason,
            states=states,
            hello=self.sessions.take_hello(device_id),
            first_use=door.first_use,
        )

    def _hello(self, admission: Admission, payload: bytes, now: float) -> Greeting:
        device_id = admission.device.device_id
        claims, door = admission.open(Channel.HELLO, payload, now)
        hello = schema.hello(claims)
        sid = self.sessions.known(device_id, hello.boot)
        # A hello proves who made it, not when. Recorded ones cost neither readings nor the next start, and the two that
        # a device may repeat itself have a budget each: whoever spends that has the device answered.
        if not admission.budgets.hellos[self.sessions.start_of(device_id, hello.boot)].take(now):
            raise RateError(Code.RATE_LIMITED, f"{HELLOS:.0f} hellos per minute")
        if sid is None:
            sid = self.sessions.greet(device_id, hello)
        # Under the key that the device showed: it may not have the other one any more, or not yet.
        session: Claims = {"boot": hello.boot, "sid": sid, "time": int(self.told(now))}
        return Greeting(answer=admission.outbound(door, Downlink.SESSION, session))


def _check_size(payload: bytes) -> None:
    if len(payload) > envelope.MAX_MESSAGE_BYTES:
        raise TransportError(Code.OVERSIZED, f"at most {envelope.MAX_MESSAGE_BYTES} bytes")


def _spend(admission: Admission, now: float) -> None:
    if not admission.budgets.messages.take(now):
        raise RateError(Code.RATE_LIMITED, f"{admission.device.rate_limit} messages per minute")
