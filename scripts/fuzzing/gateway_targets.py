"""The gateway as a whole: messages over MQTT and HTTP, and what a device without credentials may ask."""

from collections.abc import Iterator
from dataclasses import replace
import json
from math import isfinite
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import load_pem_public_key
import jwt
import orjson

from custom_components.grokmon import http
from custom_components.grokmon.choices import METHODS
from custom_components.grokmon.gateway import access_tokens, credentials, topics
from custom_components.grokmon.gateway.actuators import Actuator, Role
from custom_components.grokmon.gateway.claim_codes import AUDIENCE, ClaimCodes, EnrolmentRequests, check_possession
from custom_components.grokmon.gateway.errors import PeerError
from custom_components.grokmon.gateway.models import (
    Ack,
    Algorithm,
    Auth,
    Channel,
    Device,
    DeviceStatus,
    Greeting,
    Message,
    OfflineHint,
    Reading,
    Report,
)
from custom_components.grokmon.gateway.pipeline import Gateway, Incoming
from custom_components.grokmon.gateway.redaction import redacted
from custom_components.grokmon.gateway.sessions import Sessions
from tests.gateway.wire import BOOT, NOW, PREFIX, Sender, claims_in, device_of, hs256, public_pem, to_json

from .envelope_targets import CID, CUT, TOKEN_KEY, WORDS, bodies
from .target import Target, hold, refused

_METRICS: Final = frozenset({"temp_c", "humidity_percent", "leaf_temp_c"})
_TOKEN: Final = credentials.issue_token(NOW)
_SENDERS: Final = tuple(
    Sender.new(f"tent-{number}", algorithm)
    for number, algorithm in enumerate((*Algorithm, Algorithm.HS256, Algorithm.HS256, Algorithm.HS256))
)
_SIGNING: Final = 3
_BROKER, _TOKENED, _DISABLED = (sender.device_id for sender in _SENDERS[_SIGNING:])
_SESSION: Final = "$sid"
_CHANNELS: Final = (*Channel, "command", "")
_LONGEST_PROGRAM: Final = 12


def _devices() -> Iterator[Device]:
    for sender in _SENDERS[:_SIGNING]:
        outputs = (Actuator(name="lamp", role=Role.GROW_LIGHT), Actuator(name="fan", role=Role.EXHAUST))
        yield replace(device_of(sender, _METRICS), actuators=outputs)
    yield device_of(_SENDERS[3], _METRICS, auth=Auth.BROKER)
    yield device_of(_SENDERS[4], _METRICS, auth=Auth.TOKEN, others=(_TOKEN,))
    yield replace(device_of(_SENDERS[5], _METRICS), status=DeviceStatus.DISABLED)


_TEMPLATE: Final = Gateway(
    PREFIX, NOW, {algorithm: credentials.new_site_key(algorithm) for algorithm in (Algorithm.ES256, Algorithm.EDDSA)}
)
for _device in _devices():
    _TEMPLATE.admit(_TEMPLATE.registry.enrol(_device))


def _gateway() -> Gateway:
    """Return a gateway that has heard nothing yet; to load the keys again each time would take longest."""
    gateway = Gateway(PREFIX, NOW, _TEMPLATE.site_keys, Sessions(NOW), TOKEN_KEY)
    gateway.broker_enforced = True
    gateway.registry = _TEMPLATE.registry
    for device_id, admission in _TEMPLATE._admissions.items():  # noqa: SLF001 - see above
        budgets = type(admission.budgets)(admission.device.rate_limit)
        gateway._admissions[device_id] = replace(admission, budgets=budgets)  # noqa: SLF001 - see above
    return gateway


def _ingest(data: bytes) -> None:
    """Run a program: a list of [who, channel, seconds, body]; what is an object is signed, a text is not."""
    program = refused(lambda: json.loads(data), ValueError, RecursionError)
    if not isinstance(program, list):
        return
    gateway, now, sids = _gateway(), NOW, dict.fromkeys((sender.device_id for sender in _SENDERS), "")
    for step in program[:_LONGEST_PROGRAM]:
        if not isinstance(step, list) or len(step) < 4 or type(step[0]) is not int:  # noqa: PLR2004 - as above
            continue
        sender = _SENDERS[step[0] % len(_SENDERS)]
        channel = str(step[1]).replace("/", "")
        # In this order: what is no number is not less than 400.
        now += max(-400.0, min(400.0, step[2])) if type(step[2]) in {int, float} else 0.0
        payload = refused(lambda: _payload(sender, channel, step[3], sids), ValueError, RecursionError)  # noqa: B023 - called now
        if payload is None:
            continue
        message = Message(sender.device_id, channel, payload, retained=len(step) > 4)  # noqa: PLR2004 - anything more
        result = refused(lambda: gateway.ingest(message, now))  # noqa: B023 - called now
        if result is None:
            _check_redacted(payload)
        else:
            _check(gateway, message, result, now, signed=not isinstance(step[3], str))
        if isinstance(result, Greeting):
            sids[sender.device_id] = claims_in(result.answer.payload)["sid"]
    hold("what is counted stays small", kept=len(gateway.refused) <= len(program) * 2)


def _payload(sender: Sender, channel: str, body: Any, sids: dict[str, str]) -> bytes:
    if isinstance(body, str):
        return body.encode()
    if not isinstance(body, dict):
        return sender.sign_bytes(to_json(body))
    if body.get("sid") == _SESSION:
        body = body | {"sid": sids[sender.device_id]}
    return to_json(body) if sender.device_id == _BROKER else sender.sign(body, channel)


def _check(gateway: Gateway, message: Message, result: Incoming, now: float, *, signed: bool) -> None:
    """Check what was accepted: who may, what came of it, and that it is accepted once."""
    hold("not what is retained", kept=not message.retained)
    hold("not of whom is disabled", kept=message.device_id != _DISABLED)
    hold("not of whom sends over HTTP", kept=message.device_id != _TOKENED)
    if isinstance(result, Greeting):
        hold("the answer is for whom said hello", kept=result.answer.topic.split("/")[2] == message.device_id)
        return
    hold("of its device", kept=result.device_id == message.device_id)
    match result:
        case OfflineHint():
            hold("the word of the broker", kept=message.payload == b"offline")
            return
        case Reading():
            _check_reading(result)
        case Report() | Ack():
            hold("of its own outputs", kept=result.states.keys() <= {"lamp", "fan"})
    if message.device_id != _BROKER:
        hold("only what is signed", kept=signed)
        hold("only once", kept=refused(lambda: gateway.ingest(message, now)) is None)


def _check_reading(reading: Reading) -> None:
    hold("only what is granted", kept=reading.values.keys() <= _METRICS | {"vpd_kpa"})
    hold("numbers that are some", kept=all(isfinite(value) for value in reading.values.values()))
    hold("what is flagged is there", kept=set(reading.flags) <= reading.values.keys())
    hold("times that are some", kept=isfinite(reading.measured_at))


def _programs() -> Iterator[bytes]:
    hello = {"boot": BOOT, "firmware": "1.2", "model": "esp", "capabilities": ["temp_c"]}
    metrics = {"temp_c": 21.5, "humidity_percent": 55, "leaf_temp_c": 20.0}
    lamp = {"lamp": {"on": True, "percent": 50, "lease_left_s": 30, "cid": CID, "reason": "command"}}
    for who in range(_SIGNING):
        session = {"sid": _SESSION, "seq": 1}
        yield to_json(
            [
                [who, "hello", 0, hello],
                [who, "telemetry", 1, {**session, "metrics": metrics, "ts": NOW, "meta": {"fw": "1"}}],
                [who, "state", 1, {**session, "actuators": lamp}],
                [who, "ack", 1, {**session, "cid": CID, "result": "done", "reason": "ok", "actuators": lamp}],
                [who, "hello", 1, hello],
                [who, "status", 1, "offline"],
                [who, "telemetry", 1, {**session, "seq": 2, "metrics": metrics}, True],
            ]
        )
        yield to_json([[who, "telemetry", 1, {"iat": NOW + 1, "exp": NOW + 9, "nbf": NOW, "metrics": metrics}]])
    yield to_json([[3, "telemetry", 1, {"metrics": metrics, "device_id": _BROKER}], [5, "hello", 1, hello]])
    yield to_json([[4, "telemetry", 1, {"metrics": metrics}], [0, "telemetry", 1, "a.b.c"], [0, "", 1, [1]]])


def _ingest_raw(data: bytes) -> None:
    """Hand in any bytes on any topic that the subscription lets through, as the hub does."""
    level, _, rest = data.partition(CUT)
    name, _, payload = rest.partition(CUT)
    device_id, channel = (
        part.decode(errors="ignore").translate(dict.fromkeys(map(ord, "/#+\0"))) for part in (level, name)
    )
    split = topics.split(PREFIX, f"{PREFIX}/{topics.VERSION}/{device_id}/up/{channel}")
    hold("a topic is taken apart", kept=split == (device_id, channel))
    gateway = _gateway()
    _check_redacted(payload)
    result = gateway.ingest(Message(device_id, channel, payload), NOW)
    _check(gateway, Message(device_id, channel, payload), result, NOW, signed=False)


def _raw() -> Iterator[bytes]:
    for sender in _SENDERS:
        for channel in _CHANNELS:
            topic = sender.device_id.encode() + CUT + channel.encode() + CUT
            yield topic + to_json({"metrics": {"temp_c": 21.5}, "ts": NOW, "meta": {"a": "b"}})
            yield topic + b"offline"
    yield b"nobody" + CUT + b"telemetry" + CUT + b"eyJhbGciOiJub25lIn0.e30."


def _check_redacted(payload: bytes) -> None:
    shown = redacted(payload)
    hold("the journal can write it", kept=len(orjson.dumps(shown)) < 16_384)  # noqa: PLR2004 - a row


def _redacted() -> Iterator[bytes]:
    yield from bodies()
    yield hs256(TOKEN_KEY, to_json({"password": "x", "inner": hs256(TOKEN_KEY, b"{}").decode()}))


def _http(data: bytes) -> None:
    """Show a token, with a type and a body."""
    shown, _, rest = data.partition(CUT)
    content_type, _, payload = rest.partition(CUT)
    token = hs256(TOKEN_KEY, shown) if shown.startswith(b"{") else shown or _access_token()
    gateway = _gateway()
    try:
        peer = gateway.authenticate(token, NOW)
    except PeerError as error:
        hold("of a device that has a name", kept=type(error.device_id) is str)
        raise
    readings = gateway.ingest_http(peer, content_type.decode(errors="surrogateescape"), payload, NOW)
    hold("of who shows the token", kept={reading.device_id for reading in readings} == {_TOKENED})
    for reading in readings:
        _check_reading(reading)


def _access_token() -> bytes:
    return access_tokens.seal(_TOKENED, _TOKEN, TOKEN_KEY).encode()


def _requests() -> Iterator[bytes]:
    for body in (*bodies(), to_json({"metrics": {"temp_c": 1}, "device_id": _TOKENED})):
        yield CUT + b"application/json" + CUT + body
        yield CUT + b"application/jwt" + CUT + hs256(TOKEN_KEY, body)
    claims = {"iss": "grokmon", "aud": "grokmon/http", "sub": _TOKENED, "jti": _TOKEN.key_id, "scope": "telemetry"}
    yield to_json({**claims, "exp": NOW + 60}) + CUT + b"application/json" + CUT + b'{"metrics":{"temp_c":1}}'


def _claim(data: bytes) -> None:
    """Ask as a device without credentials does, for those of a claim code and with a key of its own."""
    codes, requests = ClaimCodes(), EnrolmentRequests()
    code = codes.issue("tent-1", NOW)
    claim = refused(lambda: http._texts(data.replace(_CODE, code.encode()), "device_id", "code"))  # noqa: SLF001 - what is fuzzed
    if claim is not None:
        codes.redeem(claim["device_id"], claim["code"], NOW)
        hold("only the code opens", kept=claim == {"device_id": "tent-1", "code": code})
    body = http._texts(data, "device_id", "auth", "public_key", "proof")  # noqa: SLF001 - what is fuzzed
    method = METHODS.get(body["auth"])
    if method is not None and method.auth is Auth.SIGNED:
        asked = requests.add(body["device_id"], method.algorithm, body["public_key"], "192.0.2.7", NOW)
        hold("a fingerprint", kept=len(asked.fingerprint) == 39)  # noqa: PLR2004 - eight groups of four
        hold("a name", kept=topics.DEVICE_ID_PATTERN.fullmatch(asked.device_id) is not None)
        check_possession(body["device_id"], method.algorithm, body["public_key"], body["proof"].encode(), NOW)
        key: Any = load_pem_public_key(body["public_key"].encode())
        jws = jwt.PyJWS()
        proven = refused(lambda: jws.decode(body["proof"], key, [method.algorithm.value]), jwt.InvalidTokenError)
        hold("only who has the key", kept=json.loads(proven or b"{}").get("iss") == body["device_id"])


_CODE: Final = b"$code"


def _claims() -> Iterator[bytes]:
    yield to_json({"device_id": "tent-1", "code": _CODE.decode()})
    for sender in _SENDERS[:_SIGNING]:
        pem = "" if sender.private_key is None else public_pem(sender.private_key)
        asking = replace(sender, device_id=f"tent-2{sender.device_id}")
        proof = asking.sign_bytes(to_json({"iss": asking.device_id, "aud": AUDIENCE}))
        named = {"device_id": asking.device_id, "auth": sender.algorithm.name.lower()}
        yield to_json({**named, "public_key": pem, "proof": proof.decode()})


TARGETS: Final = (
    Target(
        name="ingest", run=_ingest, seeds=_programs, words=(*WORDS, _SESSION, "status", "state", "hello"), tree=True
    ),
    Target(name="ingest_raw", run=_ingest_raw, seeds=_raw, words=(*WORDS, "\0")),
    Target(name="http", run=_http, seeds=_requests, words=(*WORDS, "application/jwt", "application/json", _TOKENED)),
    Target(
        name="claim",
        run=_claim,
        seeds=_claims,
        words=("auth", "public_key", "proof", "code", *METHODS, "$code"),
        tree=True,
    ),
    Target(name="redaction", run=_check_redacted, seeds=_redacted, words=(*WORDS, "password", "."), tree=True),
)
