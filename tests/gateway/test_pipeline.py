"""Tests of the whole way in: from what a transport hands over to a reading, and all the ways not to get there."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
import gc
import hashlib
import hmac
import json
from typing import Any

from hypothesis import given, settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
import jwt
import pytest

from custom_components.grokmon.gateway import lifecycle
from custom_components.grokmon.gateway.errors import Code, GatewayError, RegistryError, SessionUnknownError
from custom_components.grokmon.gateway.models import (
    Algorithm,
    Credential,
    CredentialState,
    Device,
    DeviceStatus,
    Greeting,
    Hello,
    Message,
    OfflineHint,
    Outbound,
    Range,
    Reading,
)
from custom_components.grokmon.gateway.pipeline import Gateway
from custom_components.grokmon.gateway.sessions import Sessions

from .wire import (
    BOOT,
    NOW,
    PREFIX,
    Sender,
    accepted,
    attempt,
    b64,
    boot_of,
    brief,
    claims_in,
    device_of,
    gateway_with,
    greeted,
    hs256,
    malleate,
    outcome,
    public_pem,
    to_json,
    unb64,
)

SENDERS = {algorithm: Sender.new("tent-1", algorithm) for algorithm in Algorithm}
SENDER = SENDERS[Algorithm.HS256]
STRANGER = Sender.new("tent-2")
DEVICE = device_of(SENDER)


@pytest.fixture
def gateway() -> Gateway:
    """Return a gateway that knows one HS256 device."""
    return gateway_with(DEVICE)


@pytest.fixture
def sid(gateway: Gateway) -> str:
    """Return the session that the device was given."""
    return greeted(gateway, SENDER.hello())


# --- The honest way


@pytest.mark.parametrize("algorithm", Algorithm)
def test_hello_is_answered(algorithm: Algorithm) -> None:
    """Answer a hello with the session, signed for this device and its topic."""
    sender = SENDERS[algorithm]
    gateway = gateway_with(device_of(sender))
    greeting = gateway.ingest(sender.hello(firmware="v1", model="ESP32", capabilities=["temp_c"]), NOW + 0.9)
    assert isinstance(greeting, Greeting)
    assert greeting.answer.topic == "grokmon/v1/tent-1/down/session"
    answer = verified(gateway, sender, greeting.answer)
    assert len(answer.pop("sid")) == 16
    assert answer == {"iss": "grokmon", "aud": "grokmon/v1/tent-1/down/session", "boot": BOOT, "time": int(NOW)}


def verified(gateway: Gateway, sender: Sender, message: Outbound) -> dict[str, Any]:
    """Return the claims of a message to a device, as the device verifies it: by its own half of the keys."""
    site_key = gateway.site_keys.get(sender.algorithm)
    key = sender.down_key if site_key is None else public_pem(site_key)
    claims: dict[str, Any] = jwt.decode(message.payload, key, algorithms=[sender.algorithm], audience=message.topic)
    return claims


def test_devices_are_told_another_time_than_the_one_they_are_judged_by(gateway: Gateway) -> None:
    """Tell what the hub says that they are to be told, in each message that tells of the time."""
    gateway.told = lambda now: now + 3600
    greeting = gateway.ingest(SENDER.hello(), NOW)
    assert isinstance(greeting, Greeting)
    (request,) = gateway.hello_requests("tent-1", NOW)
    assert [verified(gateway, SENDER, each)["time"] for each in (greeting.answer, request)] == [int(NOW) + 3600] * 2
    assert [outcome(gateway, SENDER.clocked(NOW + after)) for after in (3600, 0)] == ["clock_skew", "accepted"]


@pytest.mark.parametrize("algorithm", Algorithm)
def test_reading(algorithm: Algorithm) -> None:
    """Make a reading of a signed message under a session."""
    sender = SENDERS[algorithm]
    gateway = gateway_with(device_of(sender))
    sid = greeted(gateway, sender.hello(firmware="v1"))
    message = sender.telemetry(sid, 1, {"temp_c": 21.5}, ts=NOW - 5, meta={"firmware": "v1"})
    assert accepted(gateway, message, NOW + 2) == Reading(
        device_id="tent-1",
        received_at=NOW + 2,
        measured_at=NOW - 5,
        values={"temp_c": 21.5},
        flags=(),
        late=False,
        meta={"firmware": "v1"},
        hello=Hello(boot=BOOT, firmware="v1"),
    )
    assert accepted(gateway, sender.telemetry(sid, 2), NOW + 3) == Reading(
        device_id="tent-1",
        received_at=NOW + 3,
        measured_at=NOW + 3,
        values={"temp_c": 21.5},
        flags=(),
        late=False,
        meta={},
        hello=None,
    )
    assert gateway.accepted == {"tent-1": 2}
    assert gateway.refused == {}


def test_reading_by_the_clock(gateway: Gateway) -> None:
    """Make a reading of a message that is fresh by its time, without a session."""
    reading = accepted(gateway, SENDER.clocked(NOW + 1), NOW + 2)
    assert (reading.values, reading.hello) == ({"temp_c": 21.5}, None)
    assert outcome(gateway, SENDER.clocked(NOW + 1), NOW + 2) == "duplicate"
    assert outcome(gateway, SENDER.clocked(NOW), NOW + 2) == "replayed"
    assert outcome(gateway, SENDER.clocked(NOW + 303), NOW + 2) == "clock_skew"
    assert outcome(gateway, SENDER.clocked(NOW + 302), NOW + 2) == "accepted"


def test_slow_clock_is_told_the_time(gateway: Gateway, sid: str) -> None:
    """Ask a device whose readings are old to say hello, once in five minutes; one that is fast is not asked."""

    def asked(seq: int, ts: float, now: float) -> int:
        reading = gateway.ingest(SENDER.telemetry(sid, seq, ts=ts), now)
        assert isinstance(reading, Reading)
        return len(gateway.time_requests(reading))

    assert [asked(1, NOW, NOW), asked(2, NOW + 3600, NOW)] == [0, 0]
    assert [asked(3, NOW - 3600, NOW), asked(4, NOW - 3600, NOW + 299)] == [1, 0]
    assert asked(5, NOW - 3600, NOW + 301) == 1


@pytest.mark.parametrize(
    ("ts", "late"),
    [(NOW - 300, False), (NOW + 300, False), (NOW - 300.001, True), (NOW + 300.001, True), (12, True), (2e11, True)],
)
def test_late_reading(gateway: Gateway, sid: str, ts: float, late: bool) -> None:
    """Flag a reading whose time is more than five minutes off, and take it."""
    reading = accepted(gateway, SENDER.telemetry(sid, 1, ts=ts))
    assert (reading.late, reading.measured_at) == (late, ts)
    assert gateway.late.total() == late


def test_last_will(gateway: Gateway) -> None:
    """Take the broker's word that a device is gone for a hint, and nothing else from that channel."""
    assert gateway.ingest(Message("tent-1", "status", b"offline"), NOW) == OfflineHint("tent-1")
    for payload in (b"", b"online", b"OFFLINE", b"offline\n", b"offline\x00", SENDER.sign({}, "status")):
        assert outcome(gateway, Message("tent-1", "status", payload)) == "field_invalid"


def test_hello_comes_with_the_first_reading(gateway: Gateway, sid: str) -> None:
    """Keep what the hello said until a reading carries it, also when the first message of the session is refused."""
    assert outcome(gateway, SENDER.telemetry(sid, 1, {"ph": 6.1})) == "metric_not_granted"
    assert accepted(gateway, SENDER.telemetry(sid, 2)).hello == Hello(boot=BOOT)
    assert accepted(gateway, SENDER.telemetry(sid, 3)).hello is None


# --- Derived deficit and ranges


CLIMATE = frozenset({"temp_c", "temp_f", "leaf_temp_c", "humidity_percent"})


@pytest.mark.parametrize(
    ("values", "vpd", "flags"),
    [
        ({"temp_c": 25.0, "humidity_percent": 60.0}, 1.267, ()),
        ({"temp_c": 35.0, "humidity_percent": 40.0}, 3.374, ("vpd_kpa",)),
        ({"temp_c": 36.0, "humidity_percent": 95.0}, 0.297, ("temp_c", "humidity_percent")),
        ({"temp_c": 25.0, "humidity_percent": 100.0, "leaf_temp_c": 24.0}, 0.0, ("humidity_percent", "vpd_kpa")),
        ({"temp_c": 85.0, "humidity_percent": 100.0, "leaf_temp_c": -40.0}, 0.0, (*CLIMATE - {"temp_f"}, "vpd_kpa")),
        ({"temp_c": 85.0, "humidity_percent": 0.0}, 58.068, ("temp_c", "humidity_percent", "vpd_kpa")),
        ({"temp_f": 77, "humidity_percent": 60}, 1.267, ()),
    ],
)
def test_derived_deficit(values: Mapping[str, float], vpd: float, flags: tuple[str, ...]) -> None:
    """Add the deficit to a reading; a leaf below the dew point is wet, however far below."""
    gateway = gateway_with(device_of(SENDER, CLIMATE))
    reading = accepted(gateway, SENDER.telemetry(greeted(gateway, SENDER.hello()), 1, values))
    assert reading.values == {**values, "vpd_kpa": vpd}
    assert sorted(reading.flags) == sorted(flags)
    assert gateway.flagged == {("tent-1", name): 1 for name in flags}


def test_no_deficit_without_humidity(gateway: Gateway, sid: str) -> None:
    """Add nothing to a reading of part of the climate."""
    assert accepted(gateway, SENDER.telemetry(sid, 1, {"temp_c": 20.0})).values == {"temp_c": 20.0}


def test_reported_deficit() -> None:
    """Take the deficit that a device was granted to report, and derive none."""
    gateway = gateway_with(device_of(SENDER, CLIMATE | {"vpd_kpa"}))
    sid = greeted(gateway, SENDER.hello())
    values = {"temp_c": 25.0, "humidity_percent": 60.0}
    assert accepted(gateway, SENDER.telemetry(sid, 1, values)).values == values
    assert accepted(gateway, SENDER.telemetry(sid, 2, values | {"vpd_kpa": -0.4})).values == values | {"vpd_kpa": 0.0}
    assert outcome(gateway, SENDER.telemetry(sid, 3, values | {"vpd_kpa": -0.6})) == "metric_impossible"


@pytest.mark.parametrize("air", [-40.01, 85.01, -127.0, -237.3, -237.300001, -240.0, -(2**53), 2**53])
@pytest.mark.parametrize("name", ["temp_c", "leaf_temp_c"])
def test_impossible_temperature(name: str, air: float) -> None:
    """Refuse an impossible temperature, also where the formula of the deficit has its pole or overflows."""
    gateway = gateway_with(device_of(SENDER, CLIMATE))
    values = {"temp_c": 20.0, "humidity_percent": 50.0} | {name: air}
    message = SENDER.telemetry(greeted(gateway, SENDER.hello()), 1, values)
    with pytest.raises(GatewayError) as caught:
        gateway.ingest(message, NOW)
    assert (caught.value.code, caught.value.detail) == (Code.METRIC_IMPOSSIBLE, f"{name} -40 to 85")


def test_ranges_of_the_device() -> None:
    """Flag by the user's ranges, and count by metric."""
    gateway = gateway_with(device_of(SENDER, ranges={"temp_c": Range(20.0, 21.0), "vpd_kpa": Range(0.8, 1.2)}))
    sid = greeted(gateway, SENDER.hello())
    values = {"temp_c": 25.0, "humidity_percent": 60.0}
    assert accepted(gateway, SENDER.telemetry(sid, 1, values)).flags == ("temp_c", "vpd_kpa")
    assert accepted(gateway, SENDER.telemetry(sid, 2, {"temp_c": 25})).flags == ("temp_c",)
    assert gateway.flagged == {("tent-1", "temp_c"): 2, ("tent-1", "vpd_kpa"): 1}


def test_refused_value_uses_up_the_counter(gateway: Gateway, sid: str) -> None:
    """Take a counter once, whatever the message under it said."""
    assert outcome(gateway, SENDER.telemetry(sid, 1, {"temp_c": 999.0})) == "metric_impossible"
    assert outcome(gateway, SENDER.telemetry(sid, 1)) == "replayed"
    assert outcome(gateway, SENDER.telemetry(sid, 2)) == "accepted"
    assert gateway.accepted == {"tent-1": 1}


# --- The entrance


BIG = b"x" * 16_384


@pytest.mark.parametrize(
    ("message", "code", "known"),
    [
        (Message("tent-1", "telemetry", b"", retained=True), "retained", "tent-1"),
        (Message("tent-1", "status", b"offline", retained=True), "retained", "tent-1"),
        (Message("nobody", "nothing", BIG + b"x", retained=True), "retained", None),
        (replace(SENDER.hello(), retained=True), "retained", "tent-1"),
        (Message("tent-1", "telemetry", BIG + b"x"), "oversized", "tent-1"),
        (Message("tent-1", "status", b"offline" * 9999), "oversized", "tent-1"),
        (Message("nobody", "nothing", BIG + b"x"), "oversized", None),
        (Message("tent-1", "telemetry", BIG), "malformed", "tent-1"),
        (Message("nobody", "telemetry", b""), "unknown_device", None),
        (Message("", "telemetry", b""), "unknown_device", None),
        (Message("TENT-1", "telemetry", b""), "unknown_device", None),
        (Message("tent-1\x00", "telemetry", b""), "unknown_device", None),
        (Message("../tent-1", "telemetry", b""), "unknown_device", None),
        (Message("nobody", "nothing", b""), "unknown_device", None),
        (Message("tent-1", "", b""), "unknown_channel", "tent-1"),
        (Message("tent-1", "Telemetry", b""), "unknown_channel", "tent-1"),
        (Message("tent-1", "telemetry ", b""), "unknown_channel", "tent-1"),
        (Message("tent-1", "session", b""), "unknown_channel", "tent-1"),
        (Message("tent-1", "command", b""), "unknown_channel", "tent-1"),
        (Message("tent-1", "x" * 1000, b""), "unknown_channel", "tent-1"),
        (Message("tent-1", "state", b""), "channel_not_allowed", "tent-1"),
        (Message("tent-1", "ack", SENDER.sign({}, "ack")), "channel_not_allowed", "tent-1"),
        (Message("tent-1", "telemetry", b""), "malformed", "tent-1"),
        (Message("tent-1", "hello", b"offline"), "malformed", "tent-1"),
        (Message("tent-1", "telemetry", to_json({"device_id": "tent-1", "metrics": {}})), "malformed", "tent-1"),
    ],
    ids=brief,
)
def test_entrance(gateway: Gateway, message: Message, code: str, known: str | None) -> None:
    """Refuse what can be refused before a signature is looked at, in this order, and count it."""
    assert outcome(gateway, message) == code
    assert gateway.refused == {(known, Code(code)): 1}
    assert gateway.accepted == {}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (Message("tent-1", "telemetry", BIG + b"x"), "oversized: at most 16384 bytes"),
        (Message("tent-1", "state", b""), "channel_not_allowed: the device has no actuators"),
        (Message("tent-1", "status", b"online"), "field_invalid: status"),
        (Message("nobody", "telemetry", b""), "unknown_device"),
        (SENDER.hello(boot_of(99)), "rate_limited: 12 hellos per minute"),
    ],
    ids=brief,
)
def test_what_a_refusal_says(gateway: Gateway, message: Message, said: str) -> None:
    """Tell the one who sets up a device what to look at."""
    for number in range(12):
        greeted(gateway, SENDER.hello(boot_of(number)))
    with pytest.raises(GatewayError) as caught:
        gateway.ingest(message, NOW)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("status", "code"), [(DeviceStatus.DISABLED, "device_disabled"), (DeviceStatus.REVOKED, "device_revoked")]
)
def test_device_that_may_not_speak(gateway: Gateway, sid: str, status: DeviceStatus, code: str) -> None:
    """Refuse everything from a device that was disabled or revoked, and say nothing to it."""
    gateway.admit(gateway.registry.set_status("tent-1", status))
    messages = [SENDER.telemetry(sid, 1), SENDER.hello(), Message("tent-1", "status", b"offline")]
    assert [outcome(gateway, message) for message in messages] == [code] * 3
    assert gateway.hello_requests("tent-1", NOW) == ()


def test_enabled_again(gateway: Gateway, sid: str) -> None:
    """Go on in the same session when a device is enabled again, without taking anything twice."""
    assert outcome(gateway, SENDER.telemetry(sid, 1)) == "accepted"
    for status in (DeviceStatus.DISABLED, DeviceStatus.ACTIVE):
        gateway.admit(gateway.registry.set_status("tent-1", status))
    assert [outcome(gateway, SENDER.telemetry(sid, seq)) for seq in (1, 2)] == ["duplicate", "accepted"]


def test_admission_is_not_enrolment(gateway: Gateway) -> None:
    """Let in what was admitted, and not what only stands in the registry."""
    gateway.registry.enrol(device_of(STRANGER))
    assert outcome(gateway, STRANGER.hello()) == "unknown_device"
    gateway.admit(gateway.registry["tent-2"])
    assert outcome(gateway, STRANGER.hello()) == "accepted"


# --- Who signed what for whom


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (lambda sid: hs256(STRANGER.up_key, claims_of(sid)), "signature_invalid"),
        (lambda sid: hs256(SENDER.down_key, claims_of(sid)), "signature_invalid"),
        (lambda sid: hs256(SENDER.credential.secret, claims_of(sid)), "signature_invalid"),
        (lambda sid: hs256(b"", claims_of(sid)), "signature_invalid"),
        (lambda sid: hs256(SENDER.credential.key_id.encode(), claims_of(sid)), "signature_invalid"),
        (lambda sid: b64(b'{"alg":"none","typ":"JWT"}') + b"." + b64(claims_of(sid)) + b".", "unsigned"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid), b'{"alg":"none"}'), "unsigned"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid), b'{"alg":"HS512","typ":"JWT"}'), "algorithm_not_allowed"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid, iss="tent-2")), "issuer_mismatch"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid, device_id="tent-2")), "issuer_mismatch"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid, aud=SENDER.topic("hello"))), "audience_mismatch"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid, aud=STRANGER.topic("telemetry"))), "audience_mismatch"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid, aud="other/v1/tent-1/up/telemetry")), "audience_mismatch"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid, exp=NOW)), "expired"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid, nbf=NOW + 1)), "not_yet_valid"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid, iat="now")), "field_invalid"),
        (lambda _: hs256(SENDER.up_key, claims_of("x" * 16)), "session_unknown"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid, seq=0)), "session_required"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid, seq=None)), "session_required"),
        (lambda _: hs256(SENDER.up_key, claims_of(None)), "session_required"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid).replace(b"21.5", b"NaN")), "number_not_finite"),
        (
            lambda sid: hs256(SENDER.up_key, claims_of(sid).replace(b"21.5", b"18446744073709551616")),
            "number_out_of_range",
        ),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid).replace(b"21.5", b'"21.5"')), "metric_type"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid).replace(b"21.5", b"[[[[]]]]")), "json_too_deep"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid).replace(b"21.5", b'21.5,"temp_c":22')), "json_duplicate_key"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid).replace(b"temp_c", b"\xff")), "not_utf8"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid).replace(b"temp_c", b"tempc")), "metric_unknown"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid).replace(b"temp_c", b"co2_ppm")), "metric_not_granted"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid)[:-1]), "json_invalid"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid, metrics=None)), "field_invalid"),
        (lambda sid: hs256(SENDER.up_key, claims_of(sid, command="stop")), "field_unknown"),
        (lambda sid: hs256(SENDER.up_key, to_json({**json.loads(claims_of(sid)), "metrics": {}})), "field_invalid"),
        (
            lambda _: hs256(SENDER.up_key, to_json({"iss": "tent-1", "aud": SENDER.topic("telemetry")})),
            "session_required",
        ),
    ],
)
def test_forged_telemetry(gateway: Gateway, sid: str, forge: Callable[[str], bytes], code: str) -> None:
    """Refuse with the code of the reason."""
    assert outcome(gateway, Message("tent-1", "telemetry", forge(sid))) == code
    assert gateway.accepted == {}


def claims_of(sid: str | None, **changes: Any) -> bytes:
    """Return the claims of an honest message, with changes."""
    honest = {"iss": "tent-1", "aud": SENDER.topic("telemetry"), "sid": sid, "seq": 1, "metrics": {"temp_c": 21.5}}
    return to_json(honest | changes)


def test_missing_body(gateway: Gateway, sid: str) -> None:
    """Refuse a message without metrics only after its counter was used up."""
    bare = Message("tent-1", "telemetry", SENDER.sign({"sid": sid, "seq": 1}))
    assert [outcome(gateway, bare), outcome(gateway, bare)] == ["field_missing", "duplicate"]


def test_messages_fit_one_device_and_one_channel() -> None:
    """Refuse a good message under another device's name or on another channel."""
    gateway = gateway_with(DEVICE, device_of(STRANGER))
    sid = greeted(gateway, SENDER.hello())
    reading, hello = SENDER.telemetry(sid, 1), SENDER.hello()
    assert outcome(gateway, replace(reading, device_id="tent-2")) == "signature_invalid"
    assert outcome(gateway, replace(reading, channel="hello")) == "audience_mismatch"
    assert outcome(gateway, replace(hello, channel="telemetry")) == "audience_mismatch"
    assert outcome(gateway, replace(hello, device_id="tent-2")) == "signature_invalid"
    assert outcome(gateway, reading) == "accepted"


def test_same_key_pair_for_two_devices() -> None:
    """Keep two devices apart that were enrolled with one key pair."""
    one = Sender.new("tent-1", Algorithm.ES256)
    other = replace(one, device_id="tent-2")
    gateway = gateway_with(device_of(one), device_of(other))
    message = one.telemetry(greeted(gateway, one.hello()), 1)
    assert outcome(gateway, replace(message, device_id="tent-2")) == "issuer_mismatch"
    assert outcome(gateway, message) == "accepted"


@pytest.mark.parametrize("algorithm", Algorithm)
def test_answer_is_not_taken_for_a_message(algorithm: Algorithm) -> None:
    """Refuse what the gateway itself signed when it comes back, on every channel."""
    sender = SENDERS[algorithm]
    gateway = gateway_with(device_of(sender))
    greeting = gateway.ingest(sender.hello(), NOW)
    assert isinstance(greeting, Greeting)
    codes = [
        outcome(gateway, Message("tent-1", channel, greeting.answer.payload)) for channel in ("hello", "telemetry")
    ]
    assert codes == ["signature_invalid"] * 2


def test_device_called_like_the_gateway() -> None:
    """Keep the directions apart for a device of the gateway's own name."""
    sender = Sender.new("grokmon")
    gateway = gateway_with(device_of(sender))
    greeting = gateway.ingest(sender.hello(), NOW)
    assert isinstance(greeting, Greeting)
    assert outcome(gateway, Message("grokmon", "telemetry", greeting.answer.payload)) == "signature_invalid"
    assert outcome(gateway, sender.telemetry(claims_in(greeting.answer.payload)["sid"], 1)) == "accepted"


def test_second_signature_is_a_replay() -> None:
    """Accept one of the two signatures that ECDSA has for a message, and only once."""
    sender = SENDERS[Algorithm.ES256]
    gateway = gateway_with(device_of(sender))
    sid = greeted(gateway, sender.hello())
    one, other = sender.telemetry(sid, 1), malleated(sender.telemetry(sid, 2))
    assert [outcome(gateway, each) for each in (one, malleated(one), one)] == ["accepted", "replayed", "duplicate"]
    assert [outcome(gateway, each) for each in (other, malleated(other), other)] == [
        "accepted",
        "replayed",
        "duplicate",
    ]
    timed = sender.clocked(NOW + 1)
    assert [outcome(gateway, timed), outcome(gateway, malleated(timed))] == ["accepted", "replayed"]


def malleated(message: Message) -> Message:
    """Return the message under its other signature."""
    return replace(message, payload=malleate(message.payload))


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("tail", [b"=", b"==", b"A", b"\n", b".", b"\x00"])
def test_one_signature_has_one_text(algorithm: Algorithm, tail: bytes) -> None:
    """Accept no other spelling of a signature, neither before nor after the right one."""
    sender = SENDERS[algorithm]
    gateway = gateway_with(device_of(sender))
    message = sender.telemetry(greeted(gateway, sender.hello()), 1)
    other = replace(message, payload=message.payload + tail)
    codes = [outcome(gateway, each) for each in (other, message, other, message)]
    assert codes[1::2] == ["accepted", "duplicate"]
    assert set(codes[::2]) <= {"malformed", "signature_invalid"}


# --- Sessions through the pipeline


def test_unknown_session_is_answered(gateway: Gateway, sid: str) -> None:
    """Name the unknown session in the request to say hello again, signed for the device."""
    accepted(gateway, SENDER.telemetry(sid, 1))
    with pytest.raises(SessionUnknownError) as caught:
        gateway.ingest(SENDER.telemetry("s" * 16, 1), NOW)
    (request,) = gateway.hello_requests("tent-1", NOW, caught.value.sid)
    assert request.topic == "grokmon/v1/tent-1/down/session"
    assert verified(gateway, SENDER, request) == {
        "iss": "grokmon",
        "aud": "grokmon/v1/tent-1/down/session",
        "hello": True,
        "sid": "s" * 16,
        "time": int(NOW),
    }


def test_request_for_any_session(gateway: Gateway) -> None:
    """Leave the session out of the request where there is none."""
    (request,) = gateway.hello_requests("tent-1", NOW)
    assert verified(gateway, SENDER, request).keys() == {"iss", "aud", "hello", "time"}


def test_device_without_a_session_is_asked_both_ways(gateway: Gateway, sid: str) -> None:
    """Ask for any session, too, until the device has one here: a hello alone may be a recording."""
    assert sid
    with pytest.raises(SessionUnknownError):
        gateway.ingest(SENDER.telemetry("s" * 16, 1), NOW)
    requests = gateway.hello_requests("tent-1", NOW, "s" * 16)
    assert [verified(gateway, SENDER, request).get("sid") for request in requests] == ["s" * 16, None]


def test_recorded_readings_use_up_no_request(gateway: Gateway, sid: str) -> None:
    """Serve a device after a crash by each request, whatever recorded message of an earlier run it answers."""
    recorded = SENDER.telemetry(sid, 1)
    accepted(gateway, recorded)
    after = gateway_with(device_of(SENDER), started_at=NOW + 10)
    asked = 0
    for second in range(120):
        with pytest.raises(SessionUnknownError) as caught:
            after.ingest(recorded, NOW + 20 + second)
        requests = after.hello_requests("tent-1", NOW + 20 + second, caught.value.sid)
        asked += bool(requests)
        assert [claims_in(request.payload).get("sid") for request in requests] in ([], [sid, None])
    assert asked == 6 + 11


def test_device_is_asked_six_times_a_minute(gateway: Gateway) -> None:
    """Ask at a limited rate, whatever an attacker repeats."""
    asked = [len(gateway.hello_requests("tent-1", NOW)) for _ in range(8)]
    assert asked == [1] * 6 + [0] * 2
    assert len(gateway.hello_requests("tent-1", NOW + 10)) == 1
    assert gateway.hello_requests("tent-1", NOW + 10) == ()


def test_hello_again(gateway: Gateway, sid: str) -> None:
    """Answer a repeated hello with the same session, before and after its first message."""
    assert greeted(gateway, SENDER.hello(firmware="v2")) == sid
    assert accepted(gateway, SENDER.telemetry(sid, 1)).hello == Hello(boot=BOOT)
    assert greeted(gateway, SENDER.hello()) == sid
    assert outcome(gateway, SENDER.telemetry(sid, 1)) == "duplicate"


def test_replayed_hello_changes_nothing(gateway: Gateway, sid: str) -> None:
    """Keep the session, and what the hello said, when the hello of an earlier start comes again."""
    assert outcome(gateway, SENDER.telemetry(sid, 1)) == "accepted"
    new = greeted(gateway, SENDER.hello(boot_of(2)))
    assert outcome(gateway, SENDER.telemetry(sid, 2)) == "accepted"
    assert accepted(gateway, SENDER.telemetry(new, 1)).hello == Hello(boot=boot_of(2))
    assert outcome(gateway, SENDER.hello()) == "replayed"
    assert outcome(gateway, SENDER.telemetry(sid, 3)) == "replayed"
    assert accepted(gateway, SENDER.telemetry(new, 2)).hello is None


def test_hello_of_a_start_that_was_never_used(gateway: Gateway, sid: str) -> None:
    """Change nothing for an old hello whose session nobody used: its answer fits no device that is running."""
    unused = greeted(gateway, SENDER.hello(boot_of(5)))
    assert outcome(gateway, SENDER.telemetry(sid, 1)) == "accepted"
    again = greeted(gateway, SENDER.hello(boot_of(5)))
    assert len({sid, unused, again}) == 3
    assert outcome(gateway, SENDER.telemetry(sid, 2)) == "accepted"
    assert gateway.sessions.active_sid("tent-1") == sid


def test_hello_is_strict(gateway: Gateway) -> None:
    """Refuse a hello with a bad body or with claims of another channel, and open no session for it."""
    assert outcome(gateway, SENDER.hello("short")) == "field_invalid"
    assert outcome(gateway, SENDER.hello(sid="s" * 16)) == "field_unknown"
    assert outcome(gateway, SENDER.hello(exp=NOW)) == "expired"
    assert outcome(gateway, SENDER.hello(iat=[])) == "field_invalid"
    assert gateway.sessions.known("tent-1", BOOT) is None


def test_restart(gateway: Gateway, sid: str) -> None:
    """Accept nothing twice over a graceful restart, and go on in the session."""
    messages = [SENDER.telemetry(sid, seq) for seq in (1, 2)]
    assert [outcome(gateway, message) for message in messages] == ["accepted", "accepted"]
    after = restarted(gateway, NOW + 1)
    assert [outcome(after, message, NOW + 2) for message in messages] == ["replayed", "duplicate"]
    assert accepted(after, SENDER.telemetry(sid, 3), NOW + 2).hello is None


def test_crash(gateway: Gateway, sid: str) -> None:
    """Accept nothing from before a crash, and a new session for the same start of the device."""
    message = SENDER.telemetry(sid, 1)
    assert outcome(gateway, message) == "accepted"
    after = gateway_with(DEVICE, started_at=NOW + 1)
    assert outcome(after, message, NOW + 2) == "session_unknown"
    assert outcome(after, SENDER.clocked(NOW), NOW + 2) == "clock_skew"
    fresh = greeted(after, SENDER.hello(), NOW + 2)
    assert fresh != sid
    assert accepted(after, SENDER.telemetry(fresh, 1), NOW + 2).hello == Hello(boot=BOOT)
    assert outcome(after, message, NOW + 2) == "session_unknown"


def restarted(gateway: Gateway, now: float) -> Gateway:
    """Return what a graceful restart makes of a gateway; the sessions go over a disk."""
    sessions = Sessions(now)
    snapshot = json.loads(json.dumps(gateway.sessions.snapshot()))
    sessions.restore(snapshot, [device.device_id for device in gateway.registry])
    fresh = Gateway(PREFIX, now, gateway.site_keys, sessions)
    for device in gateway.registry:
        fresh.admit(fresh.registry.enrol(device))
    return fresh


# --- Budgets


def test_rate_of_a_device() -> None:
    """Take as many messages a minute as the device may send, and name the limit."""
    gateway = gateway_with(device_of(SENDER, rate_limit=3))
    sid = greeted(gateway, SENDER.hello())
    assert [outcome(gateway, SENDER.telemetry(sid, seq)) for seq in range(1, 6)] == ["accepted"] * 3 + [
        "rate_limited"
    ] * 2
    with pytest.raises(GatewayError, match=r"^rate_limited: 3 messages per minute$"):
        gateway.ingest(SENDER.telemetry(sid, 6), NOW)
    assert outcome(gateway, SENDER.telemetry(sid, 7), NOW + 21) == "accepted"
    assert gateway.refused == {("tent-1", Code.RATE_LIMITED): 3}


@pytest.mark.parametrize(
    "noise",
    [
        lambda _: Message("tent-1", "telemetry", b"garbage"),
        lambda sid: Message("tent-1", "telemetry", hs256(STRANGER.up_key, claims_of(sid))),
        lambda sid: SENDER.telemetry(sid, 1),
        lambda _: SENDER.telemetry("s" * 16, 1),
        lambda _: SENDER.clocked(NOW - 1000),
        lambda _: SENDER.hello(),
        lambda _: Message("tent-1", "status", b"offline"),
    ],
    ids=["garbage", "forged", "duplicate", "unknown session", "old", "hello", "status"],
)
def test_nobody_starves_a_device_by_its_name(noise: Callable[[str], Message]) -> None:
    """Spend the budget of a device only on what it signed and what is new."""
    gateway = gateway_with(device_of(SENDER, rate_limit=3))
    sid = greeted(gateway, SENDER.hello())
    assert outcome(gateway, SENDER.telemetry(sid, 1)) == "accepted"
    message = noise(sid)
    for _ in range(50):
        outcome(gateway, message)
    assert [outcome(gateway, SENDER.telemetry(sid, seq)) for seq in (2, 3, 4)] == [
        "accepted",
        "accepted",
        "rate_limited",
    ]


def test_flood() -> None:
    """Bound the work that anybody can cause in a device's name, and leave other devices alone."""
    gateway = gateway_with(DEVICE, device_of(STRANGER))
    garbage = Message("tent-1", "nothing", b"")
    codes = [outcome(gateway, garbage) for _ in range(60_001)]
    assert codes == ["unknown_channel"] * 60_000 + ["flood"]
    assert outcome(gateway, SENDER.hello()) == "flood"
    assert outcome(gateway, STRANGER.hello()) == "accepted"
    assert outcome(gateway, SENDER.hello(), NOW + 0.01) == "accepted"


def test_twelve_starts_a_minute(gateway: Gateway) -> None:
    """Answer twelve starts at once, and then one in five seconds."""
    codes = [outcome(gateway, SENDER.hello(boot_of(number))) for number in range(14)]
    assert codes == ["accepted"] * 12 + ["rate_limited"] * 2
    assert outcome(gateway, SENDER.hello(boot_of(99)), NOW + 5) == "accepted"


@pytest.mark.parametrize("used", [False, True])
def test_repeated_hellos_do_not_cost_the_next_start(gateway: Gateway, sid: str, used: bool) -> None:
    """Answer a device that starts anew while somebody repeats its last hello without end."""
    outcomes = [outcome(gateway, SENDER.telemetry(sid, 1)) for _ in range(used)]
    outcomes += [outcome(gateway, SENDER.hello()) for _ in range(100)]
    assert outcomes[-1] == "rate_limited"
    new = greeted(gateway, SENDER.hello(boot_of(2)))
    assert outcome(gateway, SENDER.telemetry(new, 1)) == "accepted"
    assert [outcome(gateway, SENDER.hello()) for _ in range(100 * used)] == ["replayed"] * 100 * used
    assert outcome(gateway, SENDER.hello(boot_of(3))) == "accepted"


def test_recorded_hellos_do_not_cost_the_next_start(gateway: Gateway) -> None:
    """Answer a device that starts anew while somebody repeats the hellos of its many earlier starts."""
    recorded = [SENDER.hello(boot_of(number)) for number in range(40)]
    for at, hello in enumerate(recorded):
        greeted(gateway, hello, NOW + 5 * at)
    later = NOW + 3600
    outcomes = [outcome(gateway, hello, later) for hello in recorded]
    assert outcomes == ["accepted"] * 12 + ["rate_limited"] * 27 + ["accepted"]
    new = greeted(gateway, SENDER.hello(boot_of(99)), later)
    assert outcome(gateway, SENDER.telemetry(new, 1), later) == "accepted"


@pytest.mark.parametrize("used", [None, 0, 99])
@pytest.mark.parametrize("restart", [False, True])
def test_recorded_hellos_do_not_cost_the_latest_start(gateway: Gateway, used: int | None, *, restart: bool) -> None:
    """Answer a device that connects again while somebody repeats the hellos of its earlier starts without end."""
    hellos = {number: SENDER.hello(boot_of(number)) for number in (*range(1, 30), 0, 99)}
    assert outcome(gateway, SENDER.clocked(NOW)) == "accepted"
    for at, (number, hello) in enumerate(hellos.items()):
        now = NOW + 5 * at
        sid = greeted(gateway, hello, now)
        if number == used:
            assert outcome(gateway, SENDER.telemetry(sid, 1), now) == "accepted"
    if restart:
        gateway = restarted(gateway, now)
    latest = hellos.pop(99)
    for _ in range(60):
        now += 1
        # One of them often, too: it has a session again after the first time.
        codes = [outcome(gateway, hello, now) for hello in (*hellos.values(), *[hellos[0], hellos[1]] * 9)]
    assert "rate_limited" in codes
    again = greeted(gateway, latest, now)
    assert again == greeted(gateway, latest, now)
    assert outcome(gateway, SENDER.telemetry(again, 2), now) == "accepted"
    assert outcome(gateway, SENDER.hello(boot_of(100)), now) == "accepted"


def test_answer_to_a_repeated_hello_is_the_one_that_the_device_waits_for(gateway: Gateway, sid: str) -> None:
    """Answer every five seconds, whoever it is that repeats the device's last hello: it hears the answer."""
    answers = []
    for at in range(61):
        greetings = [attempt(partial(gateway.ingest, SENDER.hello(), NOW + at)) for _ in range(20)]
        answers.append([verified(gateway, SENDER, each.answer) for each in greetings if isinstance(each, Greeting)])
    assert [len(each) for each in answers] == [12, *[0, 0, 0, 0, 1] * 12]
    answered = [(at, each) for at, several in enumerate(answers) for each in several]
    assert all((each["boot"], each["sid"], each["time"]) == (BOOT, sid, int(NOW) + at) for at, each in answered)


def test_refused_hello_pushes_no_session_out(gateway: Gateway) -> None:
    """Keep a session that waits for its first message when hellos beyond the budget come."""
    for number in range(11):
        greeted(gateway, SENDER.hello(boot_of(number)))
    last = greeted(gateway, SENDER.hello(boot_of(11)))
    assert {outcome(gateway, SENDER.hello(boot_of(number))) for number in range(100, 120)} == {"rate_limited"}
    assert outcome(gateway, SENDER.telemetry(last, 1)) == "accepted"


# --- Changes to a device


def test_new_metrics_take_effect(gateway: Gateway, sid: str) -> None:
    """Judge by the record that was admitted last, in the same session."""
    assert outcome(gateway, SENDER.telemetry(sid, 1, {"ph": 6.1})) == "metric_not_granted"
    gateway.admit(replace(DEVICE, metrics=frozenset({"ph"})))
    assert outcome(gateway, SENDER.telemetry(sid, 2, {"ph": 6.1})) == "accepted"
    assert outcome(gateway, SENDER.telemetry(sid, 3, {"temp_c": 20.0})) == "metric_not_granted"


@pytest.mark.parametrize(("rate_limit", "left"), [(3, 0), (5, 5), (1, 1)])
def test_budget_survives_changes(rate_limit: int, left: int) -> None:
    """Keep what a device has spent when something else about it changes; a new limit begins with a full bucket."""
    device = device_of(SENDER, rate_limit=3)
    gateway = gateway_with(device)
    sid = greeted(gateway, SENDER.hello())
    assert [outcome(gateway, SENDER.telemetry(sid, seq)) for seq in (1, 2, 3)] == ["accepted"] * 3
    gateway.admit(replace(device, name="Renamed", rate_limit=rate_limit))
    codes = [outcome(gateway, SENDER.telemetry(sid, seq)) for seq in range(4, 10)]
    assert codes == ["accepted"] * left + ["rate_limited"] * (6 - left)


def test_rotated_credential() -> None:
    """Refuse the old key at once, and begin anew with sessions under the new one."""
    gateway = gateway_with(DEVICE)
    sid = greeted(gateway, SENDER.hello())
    assert outcome(gateway, SENDER.telemetry(sid, 1)) == "accepted"
    fresh = Sender.new("tent-1")
    gateway.admit(gateway.registry.set_credentials("tent-1", (fresh.credential,)))
    assert outcome(gateway, SENDER.telemetry(sid, 2)) == "signature_invalid"
    assert outcome(gateway, SENDER.hello(boot_of(2))) == "signature_invalid"
    assert outcome(gateway, fresh.telemetry(sid, 2)) == "session_unknown"
    assert outcome(gateway, fresh.telemetry(greeted(gateway, fresh.hello()), 1)) == "accepted"


def test_removed_and_enrolled_with_the_same_key_pair() -> None:
    """Accept nothing again of a device that comes back with the key pair that it had."""
    sender = SENDERS[Algorithm.EDDSA]
    gateway = gateway_with(device_of(sender))
    sid = greeted(gateway, sender.hello())
    messages = [sender.telemetry(sid, 1), sender.clocked(NOW + 1)]
    assert [outcome(gateway, message) for message in messages] == ["accepted"] * 2
    gateway.dismiss("tent-1")
    gateway.dismiss("tent-1")
    assert [outcome(gateway, message) for message in messages] == ["unknown_device"] * 2
    gateway.admit(device_of(sender))
    assert [outcome(gateway, message) for message in messages] == ["session_unknown", "replayed"]
    assert outcome(gateway, sender.clocked(NOW + 2)) == "accepted"


@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.EDDSA])
def test_admission_without_a_site_key(algorithm: Algorithm) -> None:
    """Admit no device that could not be answered, and leave what was admitted before as it was."""
    gateway = Gateway(PREFIX, NOW, {})
    gateway.admit(DEVICE)
    sid = greeted(gateway, SENDER.hello())
    assert outcome(gateway, SENDER.telemetry(sid, 1)) == "accepted"
    with pytest.raises(RegistryError, match=r"^public_key_invalid: the site has no key of this algorithm$"):
        gateway.admit(device_of(SENDERS[algorithm]))
    with pytest.raises(RegistryError, match=r"^field_invalid: secret$"):
        gateway.admit(replace(DEVICE, credentials=(replace(SENDER.credential, key_id="other", secret=b""),)))
    assert outcome(gateway, SENDER.telemetry(sid, 2)) == "accepted"


def test_devices_do_not_share_anything() -> None:
    """Keep sessions, counters and budgets of devices apart."""
    gateway = gateway_with(device_of(SENDER, rate_limit=1), device_of(STRANGER, rate_limit=1))
    sids = [greeted(gateway, sender.hello()) for sender in (SENDER, STRANGER)]
    assert outcome(gateway, SENDER.telemetry(sids[1], 1)) == "session_unknown"
    assert outcome(gateway, SENDER.telemetry(sids[0], 1)) == "accepted"
    assert outcome(gateway, STRANGER.telemetry(sids[1], 1)) == "accepted"
    assert gateway.accepted == {"tent-1": 1, "tent-2": 1}


# --- What a refusal leaves behind


HOSTILE = [
    Message("tent-1", "telemetry", b"\xff" * 100),
    Message("tent-1", "telemetry", b"a.b.c"),
    Message("tent-1", "telemetry", hs256(STRANGER.up_key, b"{}")),
    Message("tent-1", "telemetry", hs256(b"", b"{}", b'{"alg":NaN}')),
    Message("tent-1", "telemetry", hs256(b"", b"{}", b'{"alg":1e999}')),
    Message("tent-1", "telemetry", hs256(b"", b"{}", b'{"alg":' * 2000)),
    Message("tent-1", "telemetry", hs256(b"", b"{}", b'{"alg":1,"alg":2}')),
    Message("tent-1", "telemetry", hs256(SENDER.up_key, b'{"a":1,"a":2}')),
    Message("tent-1", "telemetry", hs256(SENDER.up_key, b'{"a":[[[[[]]]]]}')),
    Message("tent-1", "telemetry", hs256(SENDER.up_key, b"\xff")),
    Message("nobody", "telemetry", b""),
    SENDER.telemetry("s" * 16, 1),
    SENDER.clocked(NOW, {"nope": 1}),
    SENDER.clocked(NOW + 1, {"temp_c": 999}),
    SENDER.hello("short"),
]


@pytest.mark.parametrize("message", HOSTILE, ids=range(len(HOSTILE)))
def test_refusal_leaves_no_cycles(gateway: Gateway, message: Message) -> None:
    """Leave nothing that only the garbage collector could free: its pauses are what a flood would cause."""
    outcome(gateway, message)
    gc.collect()
    gc.disable()
    try:
        codes = {outcome(gateway, message) for _ in range(20)}
        left = gc.collect()
    finally:
        gc.enable()
    assert "accepted" not in codes
    assert left == 0


def test_reading_leaves_no_cycles(gateway: Gateway, sid: str) -> None:
    """Leave nothing for the garbage collector on the way of an honest reading either."""
    messages = [SENDER.telemetry(sid, seq) for seq in range(1, 21)]
    gc.collect()
    gc.disable()
    try:
        codes = {outcome(gateway, message) for message in messages}
        left = gc.collect()
    finally:
        gc.enable()
    assert (codes, left) == ({"accepted"}, 0)


SECRETS = st.text("abcdefghij", min_size=12, max_size=20)


@given(
    SECRETS, st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sid", "seq", "device_id", "ts", "meta", "metrics"])
)
def test_refusal_tells_no_payload(secret: str, field: str) -> None:
    """Name fields, metrics and limits in a refusal, never a value that somebody sent."""
    gateway = gateway_with(DEVICE)
    claims = {"iat": NOW, "metrics": {"temp_c": 20.0}} | {field: secret}
    message = Message("tent-1", "telemetry", SENDER.sign(claims))
    with pytest.raises(GatewayError) as caught:
        gateway.ingest(message, NOW)
    assert secret not in str(caught.value)
    assert secret not in repr(caught.value)


# --- Anything


CHANNELS = st.sampled_from(["telemetry", "hello", "state", "ack", "status", "session", "", "x"])
NAMES = st.sampled_from(["tent-1", "tent-2", "tent-3", "nobody", ""])
CODES = {code.value for code in Code}
EVERYBODY = [Sender.new(f"tent-{number}", algorithm) for number, algorithm in enumerate(Algorithm, 1)]


@given(NAMES, CHANNELS, st.binary(max_size=300), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
def test_any_message(device_id: str, channel: str, payload: bytes, retained: bool, now: float) -> None:
    """Raise nothing but the error tree, at any time."""
    gateway = gateway_with(*map(device_of, EVERYBODY))
    code = outcome(gateway, Message(device_id, channel, payload, retained), now)
    will = device_id.startswith("tent") and channel == "status" and payload == b"offline" and not retained
    assert code in ({"accepted"} if will else CODES)
    assert gateway.accepted == {}


CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "iat": st.just(NOW) | st.floats(-1e15, 1e15) | st.none(),
        "sid": st.text(min_size=16, max_size=16) | st.none() | st.integers(),
        "seq": st.integers(-2, 2**54) | st.none(),
        "ts": st.floats(-1e13, 1e13) | st.none(),
        "exp": st.floats(0, 4e9) | st.text(),
        "boot": st.just(BOOT) | st.text(max_size=30),
        "metrics": st.dictionaries(
            st.sampled_from(["temp_c", "humidity_percent", "leaf_temp_c", "smoke", "nope"]),
            st.floats(-300.0, 300.0) | st.integers(-(2**53), 2**53) | st.booleans() | st.none(),
            max_size=4,
        ),
        "meta": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2) | st.none(),
        "other": st.none(),
    },
)


@settings(max_examples=400)
@given(st.sampled_from(EVERYBODY), st.sampled_from(["telemetry", "hello"]), CLAIMS)
def test_any_signed_claims(sender: Sender, channel: str, claims: dict[str, Any]) -> None:
    """Raise nothing but the error tree for whatever a device itself may sign."""
    gateway = gateway_with(device_of(sender, frozenset({"temp_c", "humidity_percent", "leaf_temp_c"})))
    payload = sender.sign_bytes(
        json.dumps({"iss": sender.device_id, "aud": sender.topic(channel)} | claims).encode(errors="replace")
    )
    assert outcome(gateway, Message(sender.device_id, channel, payload)) in CODES.union({"accepted"})


# --- Any order of events


DEVICE_IDS = st.sampled_from([sender.device_id for sender in EVERYBODY])


class GatewayMachine(RuleBasedStateMachine):
    """Honest devices, a network that keeps and repeats everything, an attacker, and a gateway that restarts.

    Whatever happens: a reading is what its device signed, and each counter of a session counts once.
    """

    captured = Bundle("captured")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.senders = {sender.device_id: sender for sender in EVERYBODY}
        self.devices: dict[str, Device] = {sender.device_id: device_of(sender) for sender in EVERYBODY}
        self.gateway = gateway_with(*self.devices.values())
        self.sids: dict[str, str] = {}
        self.number = 0
        self.signed: dict[tuple[str, str, int], float] = {}
        self.counted: set[tuple[str, str, int]] = set()

    @initialize(target=captured)
    def power(self) -> Any:
        """Start every device."""
        return multiple(*(self._start(device_id) for device_id in self.senders))

    @rule(target=captured, device_id=DEVICE_IDS)
    def start(self, device_id: str) -> Message:
        """Start a device anew."""
        return self._start(device_id)

    @rule(target=captured, device_id=DEVICE_IDS, kept=st.lists(st.booleans(), min_size=1, max_size=4))
    def measure(self, device_id: str, kept: list[bool]) -> Any:
        """Sign readings, one a second; the network delivers each now, or keeps it. Refused, the device starts anew."""
        messages = []
        for keep in kept:
            self.now += 1
            messages.append(self._sign(device_id))
            if not keep and self._deliver(messages[-1]) is None:
                messages.append(self._start(device_id))
        return multiple(*messages)

    @rule(message=captured, times=st.integers(1, 3))
    def replay(self, message: Message, times: int) -> None:
        """Deliver again, or late."""
        for _ in range(times):
            self._deliver(message)

    @rule(target=captured, device_id=DEVICE_IDS, at=st.integers(0, 10**6), bit=st.integers(0, 7))
    def flip(self, device_id: str, at: int, bit: int) -> Message:
        """Change one bit of a fresh message before it arrives."""
        message = self._sign(device_id)
        payload = bytearray(message.payload)
        payload[at % len(payload)] ^= 1 << bit
        assert self._deliver(replace(message, payload=bytes(payload))) is None
        return message

    @rule(message=captured)
    def second_signature(self, message: Message) -> None:
        """Deliver a message of the ES256 device under its other signature."""
        if message.device_id == "tent-2":
            self._deliver(malleated(message))

    @rule(target=captured, device_id=DEVICE_IDS, other=NAMES, channel=CHANNELS)
    def misdirect(self, device_id: str, other: str, channel: str) -> Message:
        """Deliver a fresh message under another name or on another channel."""
        message = self._sign(device_id)
        reading = self._deliver(replace(message, device_id=other, channel=channel))
        assert reading is None or (other, channel) == (device_id, "telemetry")
        return message

    @rule(target=captured, device_id=DEVICE_IDS, secret=st.sampled_from([b"", b"k", b"tent-1"]))
    def forge(self, device_id: str, secret: bytes) -> Message:
        """Change the value in a fresh message, and sign it with what an attacker has: anything but the device's key."""
        message = self._sign(device_id)
        header, body, signature = message.payload.split(b".")
        claims = json.loads(unb64(body)) | {"metrics": {"temp_c": 66.6}}
        forged = header + b"." + b64(to_json(claims))
        mac = b64(hmac.digest(secret, forged, hashlib.sha256))
        for payload in (forged + b"." + signature, forged + b"." + mac, hs256(secret, to_json(claims))):
            assert self._deliver(replace(message, payload=payload)) is None
        return message

    @rule(device_id=DEVICE_IDS, overlap=st.sampled_from([0.0, 10.0, lifecycle.OVERLAP]))
    def rotate(self, device_id: str, overlap: float) -> None:
        """Give a device a new key, which it takes up at once."""
        fresh = Sender.new(device_id, self.senders[device_id].algorithm, state=CredentialState.PENDING, now=self.now)
        known = self.gateway.registry[device_id].credentials
        self.senders[device_id] = fresh
        self._change(device_id, lifecycle.rotate(known, fresh.credential, self.now, overlap))

    @rule(device_id=DEVICE_IDS)
    def remove_and_enrol(self, device_id: str) -> None:
        """Remove a device, and enrol it again with the credential that it has."""
        device = self.gateway.registry.remove(device_id)
        self.gateway.dismiss(device_id)
        self.gateway.admit(self.gateway.registry.enrol(device))

    @rule()
    def restart(self) -> None:
        """Stop and start the gateway."""
        self.gateway = restarted(self.gateway, self.now)

    @rule()
    def crash(self) -> None:
        """Lose everything but the registry."""
        devices = list(self.gateway.registry)
        self.gateway = gateway_with(*devices, started_at=self.now)

    @rule(seconds=st.sampled_from([-3600, -10, 1, 10, 299, 3600]))
    def pass_time(self, seconds: int) -> None:
        """Let time pass, or the clock jump."""
        self.now += seconds

    def _start(self, device_id: str) -> Message:
        self.number += 1
        message = self.senders[device_id].hello(boot_of(self.number))
        self._take_answer(device_id, message)
        return message

    def _sign(self, device_id: str) -> Message:
        self.number += 1
        sid = self.sids.get(device_id, "s" * 16)
        value = 20 + self.number % 1000 / 100
        self.signed[device_id, sid, self.number] = value
        return self.senders[device_id].telemetry(sid, self.number, {"temp_c": value})

    def _take_answer(self, device_id: str, message: Message) -> None:
        greeting = attempt(lambda: self.gateway.ingest(message, self.now))
        if isinstance(greeting, GatewayError):
            # The clock may stand before the day on which the key was issued.
            assert greeting.code in {Code.RATE_LIMITED, Code.CREDENTIAL_NOT_YET_VALID}
            return
        assert isinstance(greeting, Greeting)
        self.sids[device_id] = claims_in(greeting.answer.payload)["sid"]

    def _deliver(self, message: Message) -> Reading | None:
        result = attempt(lambda: self.gateway.ingest(message, self.now))
        if not isinstance(result, Reading):
            return None
        claims = claims_in(message.payload)
        counter = (result.device_id, claims["sid"], claims["seq"])
        assert counter not in self.counted
        self.counted.add(counter)
        assert result.values == {"temp_c": self.signed[counter]}
        if result.first_use:
            known = self.gateway.registry[result.device_id].credentials
            self._change(result.device_id, lifecycle.first_used(known, result.first_use, self.now))
            assert outcome(self.gateway, message, self.now) == "duplicate"
        return result

    def _change(self, device_id: str, credentials: tuple[Credential, ...]) -> None:
        self.gateway.admit(self.gateway.registry.set_credentials(device_id, credentials))

    @invariant()
    def counters_agree(self) -> None:
        """Count as accepted at most what was accepted."""
        assert sum(self.gateway.accepted.values()) <= len(self.counted)


TestGatewayMachine = GatewayMachine.TestCase
TestGatewayMachine.settings = settings(max_examples=120, stateful_step_count=40)
