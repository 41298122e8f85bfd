"""The simulated devices keep to the protocol, so that what they prove about the integration is worth something."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest

from tests.device_simulator.actuators import ActuatorSpec, Outputs
from tests.device_simulator.attacker import HostileDevice
from tests.device_simulator.attacks import ATTACKS, Attack, Scene
from tests.device_simulator.connection import BrokerAddress
from tests.device_simulator.credentials import (
    Auth,
    DeviceIdentity,
    DownlinkRefusedError,
    PrivateKey,
    generate_key_pair,
    generate_root_key,
    public_pem,
)
from tests.device_simulator.fake_hub import ulid
from tests.device_simulator.protocol import KEPT_READINGS, STATE_EVERY, DeviceProtocol
from tests.device_simulator.signing import b64decode

NOW = 1_763_850_000
TOPIC = "grokmon/v1/tent-1/down/session"
COMMANDS = "grokmon/v1/tent-1/down/command"
LAMP = {"lamp": ActuatorSpec(kind="light")}


class Hub:
    """The other end of one device's messages, in memory."""

    def __init__(self, auth: Auth = "hs256") -> None:
        self.root = generate_root_key()
        self.identity = DeviceIdentity.from_root_key("tent-1", self.root)
        self.sign_key: bytes | PrivateKey = hmac.digest(b64decode(self.root), b"grokmon/v1/down", hashlib.sha256)
        self.verify_key: bytes | str = hmac.digest(b64decode(self.root), b"grokmon/v1/up", hashlib.sha256)
        if auth != "hs256":
            device_key, self.sign_key = generate_key_pair(auth), generate_key_pair(auth)
            self.verify_key = public_pem(device_key)
            response = {
                "device_id": "tent-1",
                "auth": auth,
                "site_public_key": public_pem(self.sign_key),
                "topics": {"telemetry": "grokmon/v1/tent-1/up/telemetry"},
            }
            self.identity = DeviceIdentity.from_enrolment(response, device_key)
        self.commands = 0
        self.protocol = DeviceProtocol(self.identity, firmware="v1", model="test", capabilities=["temp_c"])

    def says(self, **body: Any) -> bytes:
        """Sign a message to the device."""
        claims = {"iss": "grokmon", "aud": TOPIC, "time": NOW} | body
        return jwt.encode(claims, self.sign_key, algorithm=self.identity.algorithm).encode()

    def commands_lamp(self, **changes: Any) -> bytes:
        """Sign the next command to turn a lamp on for a minute."""
        self.commands += 1
        claims = {
            "iss": "grokmon",
            "aud": COMMANDS,
            "sid": self.protocol.sid,
            "seq": self.commands,
            "iat": NOW,
            "ttl_s": 10,
            "cid": ulid(),
            "action": "set_light_intensity",
            "actuator": "lamp",
            "params": {"intensity_percent": 60},
            "lease_s": 60,
        }
        return jwt.encode(claims | changes, self.sign_key, algorithm=self.identity.algorithm).encode()

    def hears(self, payload: bytes, channel: str = "telemetry") -> dict[str, Any]:
        """Verify a message of the device."""
        claims: dict[str, Any] = jwt.decode(
            payload,
            self.verify_key,
            algorithms=[self.identity.algorithm],
            audience=f"grokmon/v1/tent-1/up/{channel}",
            issuer="tent-1",
            options={"verify_iat": False},
        )
        return claims

    def opens(self, sid: str = "s" * 16, now: float = 100.0, time: int = NOW) -> None:
        """Give the device a session."""
        self.protocol.receive(self.says(boot=self.protocol.boot, sid=sid, time=time), now)

    def hello_due(self) -> float | None:
        """Tell when the device will say hello again."""
        return self.protocol.hello_at

    def says_of_outputs(self, now: float) -> list[str]:
        """Take everything that the device has to say of its outputs; give the channels."""
        channels = []
        while answer := self.protocol.next_answer(now):
            channel, payload = answer
            self.hears(payload, channel)
            self.protocol.confirmed()
            channels.append(channel)
        return channels

    def takes_all(self, now: float) -> list[dict[str, Any]]:
        """Take everything that the device has to say, and acknowledge it."""
        taken = []
        while message := self.protocol.next_message(now):
            reading, payload = message
            self.protocol.acknowledged(reading)
            taken.append(self.hears(payload))
        return taken


@pytest.fixture
def hub() -> Hub:
    """Return a hub whose device is connected and has said hello."""
    hub = Hub()
    hub.protocol.connected(99.0)
    hub.protocol.hello(99.0)
    return hub


@pytest.fixture
def lamp(hub: Hub) -> Hub:
    """Return a hub whose device has a lamp, a session, and has said what the lamp does."""
    hub.protocol.outputs = Outputs(LAMP)
    hub.opens()
    assert hub.says_of_outputs(100.0) == ["state"]
    return hub


@pytest.mark.parametrize("auth", ["hs256", "es256", "eddsa"])
def test_talks_with_every_kind_of_credential(auth: Auth) -> None:
    """Hello, session and a reading verify on both sides."""
    hub = Hub(auth)
    hub.protocol.connected(99.0)
    assert hub.hello_due() == 99.0
    hello = hub.hears(hub.protocol.hello(99.0), "hello")
    assert hello.keys() == {"iss", "aud", "boot", "firmware", "model", "capabilities"}
    assert len(b64decode(hello["boot"])) == 16
    hub.opens()
    hub.protocol.take({"temp_c": 21.5, "smoke": False}, 101.0, meta={"firmware": "v1"})
    assert hub.takes_all(102.0) == [
        {
            "iss": "tent-1",
            "aud": "grokmon/v1/tent-1/up/telemetry",
            "sid": "s" * 16,
            "seq": 1,
            "ts": NOW + 1,
            "metrics": {"temp_c": 21.5, "smoke": False},
            "meta": {"firmware": "v1"},
        }
    ]


def test_derives_the_keys_of_the_protocol() -> None:
    """The derivation is HMAC-SHA256 of the root key and the name of the direction."""
    root = base64.urlsafe_b64encode(bytes(range(32))).rstrip(b"=").decode()
    identity = DeviceIdentity.from_root_key("tent-1", root)
    assert identity.up_key == hmac.new(bytes(range(32)), b"grokmon/v1/up", hashlib.sha256).digest()
    assert identity.down_key == hmac.new(bytes(range(32)), b"grokmon/v1/down", hashlib.sha256).digest()


def test_takes_the_prefix_from_the_topics_of_the_enrolment() -> None:
    """A prefix of several levels comes through."""
    response = {
        "device_id": "tent-1",
        "auth": "hs256",
        "key": generate_root_key(),
        "topics": {"telemetry": "farm/house-2/v1/tent-1/up/telemetry"},
    }
    assert DeviceIdentity.from_enrolment(response).down("session") == "farm/house-2/v1/tent-1/down/session"


def test_needs_the_private_key_that_enrolment_never_sees() -> None:
    """The answer to an enrolment with a public key is not enough to be that device."""
    response = {
        "device_id": "t",
        "auth": "es256",
        "site_public_key": "",
        "topics": {"telemetry": "g/v1/t/up/telemetry"},
    }
    with pytest.raises(ValueError, match="private key"):
        DeviceIdentity.from_enrolment(response)


def test_shows_no_secret() -> None:
    """Neither identity nor broker address give their secrets away when they are printed."""
    root = generate_root_key()
    address = BrokerAddress("127.0.0.1", 8883, username="tent-1", password="hunter2")
    assert root not in repr(DeviceIdentity.from_root_key("tent-1", root))
    assert "bytes" not in repr(DeviceIdentity.from_root_key("tent-1", root))
    assert "hunter2" not in repr(address)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"iss": "somebody"}, "issuer"),
        ({"aud": "grokmon/v1/tent-2/down/session"}, "audience"),
        ({"aud": "grokmon/v1/tent-1/down/command"}, "audience"),
        ({"aud": [TOPIC, "grokmon/v1/tent-2/down/session"]}, "audience"),
        ({"exp": 1}, "expired"),
    ],
)
def test_refuses_a_message_that_is_not_for_it(hub: Hub, change: dict[str, Any], why: str) -> None:
    """Issuer and audience of a message from the hub are checked."""
    with pytest.raises(DownlinkRefusedError, match=f"(?i){why}"):
        hub.identity.verify_down(hub.says(**change))


@pytest.mark.parametrize("token", [b"", b"a.b.c", b"\xff" * 40])
def test_counts_what_is_not_a_message(hub: Hub, token: bytes) -> None:
    """Rubbish on the session topic is counted and changes nothing."""
    hub.protocol.receive(token, 100.0)
    assert hub.protocol.counts.downlinks_refused == 1
    assert not hub.protocol.ready


def test_refuses_the_key_of_the_other_direction(hub: Hub) -> None:
    """A device's own messages cannot be turned round against it."""
    turned = jwt.encode({"iss": "grokmon", "aud": TOPIC, "hello": True}, hub.verify_key, algorithm="HS256").encode()
    with pytest.raises(DownlinkRefusedError):
        hub.identity.verify_down(turned)


def test_takes_only_the_answer_to_its_own_start(hub: Hub) -> None:
    """A session for another boot nonce is not this device's."""
    hub.protocol.receive(hub.says(boot="x" * 22, sid="x" * 16), 100.0)
    assert not hub.protocol.ready
    hub.opens()
    assert hub.protocol.ready


def test_takes_no_session_that_it_did_not_ask_for(hub: Hub) -> None:
    """The replay of an earlier answer does not move a device out of its session."""
    hub.opens("s" * 16)
    hub.opens("t" * 16)
    assert hub.protocol.sid == "s" * 16


def test_sends_nothing_without_a_session(hub: Hub) -> None:
    """Readings wait until the hub has answered."""
    hub.protocol.take({"temp_c": 1.0}, 99.5)
    assert hub.protocol.next_message(100.0) is None
    hub.opens()
    assert hub.takes_all(101.0)[0]["ts"] == NOW - 1


def test_repeats_the_hello_until_it_is_answered(hub: Hub) -> None:
    """The next hello is due five seconds later, and no more once there is a session."""
    assert hub.hello_due() == 104.0
    hub.opens()
    assert hub.hello_due() is None


def test_counts_on_in_the_same_session(hub: Hub) -> None:
    """Saying hello again repeats the boot nonce, and the counter goes on where the hub still has the session."""
    hub.opens()
    hub.protocol.take({"temp_c": 1.0}, 101.0)
    hub.takes_all(102.0)
    hub.protocol.disconnected()
    hub.protocol.connected(110.0)
    assert hub.hears(hub.protocol.hello(110.0), "hello")["boot"] == hub.protocol.boot
    hub.opens(now=111.0)
    hub.protocol.take({"temp_c": 2.0}, 112.0)
    assert [(claims["seq"], claims["metrics"]) for claims in hub.takes_all(113.0)] == [(2, {"temp_c": 2.0})]
    assert hub.protocol.counts.sessions == 1


def test_resends_everything_under_a_new_session(hub: Hub) -> None:
    """What was sent to a hub that had forgotten the session goes out again with its time; the counter goes on."""
    hub.opens()
    for value in (1.0, 2.0):
        hub.protocol.take({"temp_c": value}, 101.0)
    first = hub.takes_all(102.0)
    hub.protocol.receive(hub.says(hello=True, sid="s" * 16), 103.0)
    assert hub.hello_due() == 103.0
    assert hub.protocol.next_message(103.0) is None
    hub.protocol.hello(103.0)
    hub.opens("t" * 16, now=104.0)
    second = hub.takes_all(105.0)
    assert [(c["ts"], c["metrics"]) for c in second] == [(c["ts"], c["metrics"]) for c in first]
    assert [claims["seq"] for claims in first + second] == [1, 2, 3, 4]
    assert {claims["sid"] for claims in second} == {"t" * 16}
    assert hub.protocol.counts.resent == 2


def test_obeys_at_most_once_in_five_seconds(hub: Hub) -> None:
    """A second request is answered, but not at once."""
    hub.opens()
    hub.protocol.receive(hub.says(hello=True, sid="s" * 16), 103.0)
    hub.protocol.hello(103.0)
    hub.opens("t" * 16, now=103.5)
    hub.protocol.receive(hub.says(hello=True, sid="t" * 16), 104.0)
    assert hub.hello_due() == 108.0


def test_ignores_a_request_about_another_session(hub: Hub) -> None:
    """The answer to a message that somebody else made up does not concern this device."""
    hub.opens()
    hub.protocol.receive(hub.says(hello=True, sid="x" * 16, time=NOW + 1000), 103.0)
    assert hub.protocol.ready


def test_obeys_a_request_at_the_start_of_the_hub_once(hub: Hub) -> None:
    """Without a session a request counts if it is newer than all that was heard; its replay does not."""
    hub.opens()
    hub.protocol.receive(hub.says(hello=True, time=NOW), 103.0)
    assert hub.hello_due() is None
    request = hub.says(hello=True, time=NOW + 30)
    hub.protocol.receive(request, 130.0)
    assert hub.hello_due() == 130.0
    hub.protocol.hello(130.0)
    hub.opens(now=131.0, time=NOW + 30)
    hub.protocol.receive(request, 140.0)
    assert hub.hello_due() is None


def test_keeps_a_bounded_number_of_readings(hub: Hub) -> None:
    """The oldest readings go when there are too many."""
    readings = [hub.protocol.take({"temp_c": float(value)}, 100.0) for value in range(KEPT_READINGS + 3)]
    hub.opens()
    assert [claims["metrics"]["temp_c"] for claims in hub.takes_all(101.0)] == list(range(3, KEPT_READINGS + 3))
    assert [reading.dropped for reading in readings[:4]] == [True, True, True, False]
    assert hub.protocol.counts.dropped == 3


def test_keeps_readings_for_a_bounded_time(hub: Hub) -> None:
    """A reading of more than five minutes ago is not sent any more."""
    hub.opens()
    old, new = hub.protocol.take({"temp_c": 1.0}, 100.0), hub.protocol.take({"temp_c": 2.0}, 250.0)
    assert [claims["metrics"]["temp_c"] for claims in hub.takes_all(401.0)] == [2.0]
    assert (old.dropped, new.delivered) == (True, True)
    assert hub.protocol.pending == 0


def test_delivery_counts_only_while_the_session_is_believed_in(hub: Hub) -> None:
    """The broker's acknowledgement of what the hub could not have known is worth nothing."""
    hub.opens()
    reading = hub.protocol.take({"temp_c": 1.0}, 101.0)
    assert hub.protocol.next_message(102.0)
    hub.protocol.receive(hub.says(hello=True, sid="s" * 16), 102.0)
    hub.protocol.acknowledged(reading)
    assert not reading.delivered


def test_what_was_on_its_way_when_the_queue_was_full_is_not_dropped(hub: Hub) -> None:
    """A reading that left the queue is delivered all the same when its acknowledgement comes."""
    hub.opens()
    reading = hub.protocol.take({"temp_c": 0.0}, 101.0)
    assert hub.protocol.next_message(101.0)
    for value in range(KEPT_READINGS):
        hub.protocol.take({"temp_c": float(value)}, 101.0)
    assert reading.dropped
    hub.protocol.acknowledged(reading)
    assert (reading.delivered, reading.dropped, hub.protocol.counts.dropped) == (True, False, 0)


@pytest.mark.parametrize("auth", ["hs256", "es256", "eddsa"])
def test_carries_out_commands_of_every_kind_of_credential(auth: Auth) -> None:
    """A lamp is turned on, and the answer says so, counted on its own channel."""
    hub = Hub(auth)
    hub.protocol.outputs = Outputs(LAMP)
    hub.protocol.connected(99.0)
    hub.opens()
    hub.says_of_outputs(100.0)
    hub.protocol.receive_command(hub.commands_lamp(cid="A" * 26), 101.0)
    assert (answer := hub.protocol.next_answer(101.5)) is not None
    assert hub.hears(answer[1], "ack") == {
        "iss": "tent-1",
        "aud": "grokmon/v1/tent-1/up/ack",
        "sid": "s" * 16,
        "seq": 1,
        "cid": "A" * 26,
        "result": "done",
        "actuators": {
            "lamp": {"on": True, "percent": 60, "reason": "command", "lease_left_s": 60, "cid": "A" * 26},
        },
    }


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "somebody"},
        {"aud": "grokmon/v1/tent-2/down/command"},
        {"aud": TOPIC},
        {"aud": [COMMANDS]},
        {"exp": 1},
        {"sid": "t" * 16},
        {"seq": 0},
    ],
)
def test_takes_no_command_that_is_not_for_it(lamp: Hub, change: dict[str, Any]) -> None:
    """No answer, only a count."""
    assert lamp.protocol.receive_command(lamp.commands_lamp(**change), 101.0) is None
    assert lamp.says_of_outputs(101.0) == []
    assert (lamp.protocol.counts.commands_refused, lamp.protocol.outputs.log) == (1, [])


@pytest.mark.parametrize("token", [b"", b"a.b.c", b"\xff" * 40])
def test_counts_what_is_not_a_command(lamp: Hub, token: bytes) -> None:
    """Rubbish on the command topic changes nothing, nor does a message of the other direction."""
    turned = jwt.encode({"iss": "grokmon", "aud": COMMANDS}, lamp.verify_key, algorithm="HS256").encode()
    for payload in (token, turned):
        assert lamp.protocol.receive_command(payload, 101.0) is None
    assert lamp.protocol.counts.commands_refused == 2


def test_takes_no_command_before_there_is_a_session(hub: Hub) -> None:
    """A message without one is not of the session that a device without one has."""
    hub.protocol.outputs = Outputs(LAMP)
    assert hub.protocol.receive_command(hub.commands_lamp(), 100.0) is None
    assert hub.protocol.outputs.log == []


def test_asks_for_the_time_when_a_command_is_late(lamp: Hub) -> None:
    """At a limited rate; the session goes on meanwhile, and the answer moves the clock back."""
    assert lamp.protocol.receive_command(lamp.commands_lamp(iat=NOW - 11), 101.0)
    assert lamp.hello_due() == 101.0
    assert lamp.protocol.ready
    lamp.protocol.hello(101.0)
    lamp.opens(now=102.0, time=NOW - 30)
    assert lamp.hello_due() == 106.0
    assert lamp.protocol.receive_command(lamp.commands_lamp(iat=NOW - 11), 102.0)
    assert lamp.hello_due() == 106.0
    lamp.protocol.hello(106.0)
    lamp.opens(now=106.0, time=NOW + 1)
    assert lamp.hello_due() is None
    answer = lamp.protocol.receive_command(lamp.commands_lamp(iat=NOW - 10), 106.0)
    assert answer is not None
    assert answer.result == "done"


def test_takes_no_answer_to_a_hello_that_it_did_not_say(lamp: Hub) -> None:
    """Even a newer one: nobody asked."""
    lamp.opens("t" * 16, now=110.0, time=NOW + 60)
    assert lamp.protocol.sid == "s" * 16


def test_wakes_up_for_what_is_due_next(lamp: Hub) -> None:
    """The end of a lease, the next state, and nothing at all without a connection."""
    assert lamp.protocol.next_deadline() == 100.0 + STATE_EVERY
    lamp.protocol.receive_command(lamp.commands_lamp(lease_s=5), 101.0)
    assert lamp.protocol.next_deadline() == 106.0
    assert lamp.protocol.expire(106.0)
    assert not lamp.protocol.expire(106.0)
    lamp.protocol.disconnected()
    assert lamp.protocol.next_deadline() is None
    assert lamp.says_of_outputs(200.0) == []


@pytest.mark.parametrize(("sid", "again"), [("s", ["ack", "state"]), ("t", ["state"])])
def test_an_answer_that_the_broker_did_not_confirm_goes_out_again(lamp: Hub, sid: str, again: list[str]) -> None:
    """As the same bytes, before the state, and in the same session only."""
    lamp.protocol.receive_command(lamp.commands_lamp(), 101.0)
    lost = lamp.protocol.next_answer(101.0)
    said = []
    for now in (110.0, 120.0):
        lamp.protocol.disconnected()
        lamp.protocol.connected(now)
        lamp.opens(sid * 16, now, time=NOW + int(now))
        said.append(lamp.protocol.next_answer(now))
    assert (said == [lost] * 2) is (sid == "s")
    lamp.protocol.connected(130.0)
    lamp.opens(sid * 16, 130.0, time=NOW + 130)
    assert lamp.says_of_outputs(130.0) == again
    lamp.protocol.connected(140.0)
    lamp.opens(sid * 16, 140.0, time=NOW + 140)
    assert lamp.says_of_outputs(140.0) == ["state"]


def test_a_device_without_outputs_says_nothing_of_them(hub: Hub) -> None:
    """Sensors are not asked what they do."""
    hub.opens()
    assert hub.says_of_outputs(1000.0) == []
    assert hub.protocol.next_deadline() is None


def test_faults_can_be_injected(lamp: Hub) -> None:
    """A device that does not answer, and one that does not even listen."""
    lamp.protocol.lose_acks = True
    lamp.protocol.receive_command(lamp.commands_lamp(), 101.0)
    assert lamp.says_of_outputs(101.0) == []
    assert lamp.protocol.outputs["lamp"].on
    lamp.protocol.lose_acks, lamp.protocol.deaf = False, True
    stop = lamp.commands_lamp(action="stop", params={})
    assert lamp.protocol.receive_command(stop, 102.0) is None
    assert lamp.protocol.outputs["lamp"].on
    assert [claims["action"] for claims in lamp.protocol.commands] == ["set_light_intensity"]
    assert lamp.protocol.counts.commands_refused == 0


def _scene(auth: Auth) -> Scene:
    insider, key_pair = Hub(auth), generate_key_pair("eddsa")
    insider.protocol.connected(0.0)
    insider.opens()
    victim = DeviceIdentity("tent-2", auth)
    return Scene(
        insider.protocol,
        victim,
        captured=[b"captured"],
        key_pair_victim=DeviceIdentity("tent-3", "eddsa"),
        public_pem=public_pem(key_pair),
    )


@pytest.mark.parametrize("auth", ["hs256", "es256", "eddsa"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attacks_can_be_made_with_every_kind_of_credential(attack: Attack, auth: Auth) -> None:
    """Every attack of the catalogue comes out as one message on a topic of a device."""
    forgery = attack.build(_scene(auth))
    assert forgery.topic.startswith("grokmon/v1/")
    assert forgery.topic.split("/")[3] == "up"
    assert forgery.retain == (attack.expected == "retained")
    assert (len(forgery.payload) > 16_384) == (attack.expected == "oversized")


def test_catalogue_names_are_unique() -> None:
    """A name tells one attack."""
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


def test_attacks_need_their_scene() -> None:
    """What the scene lacks is left out rather than made up."""
    scene = _scene("hs256")
    scene.captured, scene.key_pair_victim = (), None
    impossible = {attack.name for attack in ATTACKS if not attack.possible(scene)}
    assert impossible == {
        "replay_of_another_device",
        "algorithm_confusion_with_pem",
        "algorithm_confusion_with_raw_key",
    }
    with pytest.raises(ValueError, match="no device with a public key"):
        next(attack for attack in ATTACKS if attack.needs == "key_pair_victim").build(scene)


# The codes of content: what is wrong must be the content alone, so the signature has to be good.
_CONTENT = {
    "json_invalid", "json_duplicate_key", "json_too_deep", "number_not_finite", "number_out_of_range", "not_utf8",
    "field_missing", "field_unknown", "field_invalid", "metric_unknown", "metric_not_granted", "metric_type",
    "metric_impossible", "session_required", "session_unknown", "clock_skew", "expired", "not_yet_valid",
    "issuer_mismatch", "audience_mismatch",
}  # fmt: skip


@pytest.mark.parametrize(
    "attack", [attack for attack in ATTACKS if attack.expected in _CONTENT], ids=lambda attack: attack.name
)
def test_attacks_on_the_content_are_signed_by_the_insider(attack: Attack) -> None:
    """Nothing but the check of the content can refuse them."""
    scene = _scene("hs256")
    forgery = attack.build(scene)
    key = scene.insider.identity.up_key
    assert isinstance(key, bytes)
    assert jwt.PyJWS().decode(forgery.payload, key, algorithms=["HS256"])
    assert forgery.topic == scene.topic


@pytest.mark.parametrize(
    "attack",
    [attack for attack in ATTACKS if attack.expected in {"malformed", "signature_invalid"}],
    ids=lambda attack: attack.name,
)
def test_attacks_on_the_signature_do_not_verify(attack: Attack) -> None:
    """A strict reader refuses them: wrong bytes, or not the one text that stands for the right bytes."""
    scene = _scene("hs256")
    forgery = attack.build(scene)
    key = scene.insider.identity.up_key
    assert isinstance(key, bytes)
    signed, _, signature = forgery.payload.rpartition(b".")
    expected = base64.urlsafe_b64encode(hmac.digest(key, signed, hashlib.sha256)).rstrip(b"=")
    assert signature != expected or forgery.topic != scene.topic


def test_preludes_are_genuine() -> None:
    """What has to be accepted first is signed and counts up."""
    scene = _scene("hs256")
    for attack in ATTACKS:
        counters = [json.loads(b64decode(token.split(b".")[1]))["seq"] for token in attack.build(scene).prelude]
        assert counters == sorted(set(counters))


def test_attacks_this_machine_only() -> None:
    """A hostile device cannot be pointed at anybody else."""
    with pytest.raises(ValueError, match="not this machine"):
        HostileDevice(BrokerAddress("192.0.2.1", 8883))


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (10_000, 1), (100, 0), (100, 3600)])
async def test_floods_are_bounded(rate: float, seconds: float) -> None:
    """A flood without bounds is a mistake of the caller."""
    hostile = HostileDevice(BrokerAddress("127.0.0.1", 1))
    with pytest.raises(ValueError, match="bounds"):
        await hostile.flood(DeviceIdentity("tent-1"), rate, seconds)
