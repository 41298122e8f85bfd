"""Tests of a device with several keys: which of them opens what, from when to when, and which seals what goes to it."""

from dataclasses import replace
from math import inf, nan
from typing import Any, Final

from hypothesis import given, strategies as st
import jwt
import pytest

from custom_components.grokmon.gateway import lifecycle
from custom_components.grokmon.gateway.actuators import Actuator, Role
from custom_components.grokmon.gateway.errors import Code, PolicyError, TransportError
from custom_components.grokmon.gateway.lifecycle import OVERLAP
from custom_components.grokmon.gateway.models import (
    Ack,
    Algorithm,
    Credential,
    CredentialKind,
    CredentialState,
    Device,
    Greeting,
    Message,
    Outbound,
    Report,
)
from custom_components.grokmon.gateway.pipeline import Gateway
from custom_components.grokmon.gateway.sessions import Sessions

from .wire import (
    NOW,
    PREFIX,
    Sender,
    accepted,
    boot_of,
    claims_in,
    compact,
    device_of,
    gateway_with,
    greeted,
    hmac_sha256,
    hs256,
    outcome,
    public_pem,
    to_json,
)

PENDING, ACTIVE, RETIRING, REVOKED = CredentialState
LATER: Final = NOW + 60
LAMP: Final = Actuator(name="lamp", role=Role.GROW_LIGHT)
OFF: Final = {"lamp": {"on": False}}


class Room:
    """A gateway with one device that is given a second key."""

    def __init__(self, algorithm: Algorithm = Algorithm.HS256, overlap: float = OVERLAP) -> None:
        """Begin with a device in its session, which has sent one reading, and rotate its key."""
        self.old = Sender.new("tent-1", algorithm)
        self.new = Sender.new("tent-1", algorithm, state=PENDING, now=LATER)
        self.gateway = gateway_with(replace(device_of(self.old), actuators=(LAMP,)))
        self.sid = greeted(self.gateway, self.old.hello())
        assert accepted(self.gateway, self.old.telemetry(self.sid, 1)).first_use == ""
        self.rotate(self.new, LATER, overlap)

    @property
    def device(self) -> Device:
        """Return the device as the registry knows it."""
        return self.gateway.registry["tent-1"]

    def change(self, known: tuple[Credential, ...]) -> None:
        """Go by other credentials."""
        self.gateway.admit(self.gateway.registry.set_credentials("tent-1", known))

    def rotate(self, fresh: Sender, now: float, overlap: float = OVERLAP) -> None:
        """Give the device another key."""
        self.change(lifecycle.rotate(self.device.credentials, fresh.credential, now, overlap))

    def use(self, key_id: str, now: float = LATER) -> None:
        """Take note of the first use of a key."""
        self.change(lifecycle.first_used(self.device.credentials, key_id, now))

    def command(self, now: float = LATER, **body: Any) -> Outbound:
        """Return a command to the device: off, where the body does not say otherwise."""
        return self.gateway.command("tent-1", {"cid": "0" * 26} | body, now)

    def reader(self, message: Outbound) -> str:
        """Return which of the two keys of an HS256 device a message is sealed under."""
        for name, sender in (("old", self.old), ("new", self.new)):
            try:
                jwt.decode(message.payload, sender.down_key, algorithms=["HS256"], audience=message.topic)
            except jwt.InvalidSignatureError:
                continue
            return name
        return "neither"


@pytest.fixture
def room() -> Room:
    """Return a device in the overlap of its two keys."""
    return Room()


# --- The overlap


@pytest.mark.parametrize("algorithm", Algorithm)
def test_both_keys_open_during_the_overlap(algorithm: Algorithm) -> None:
    """Accept messages of both keys in one session, each counter once."""
    room = Room(algorithm)
    assert accepted(room.gateway, room.old.telemetry(room.sid, 2), LATER).first_use == ""
    message = room.new.telemetry(room.sid, 3)
    assert accepted(room.gateway, message, LATER).first_use == room.new.credential.key_id
    assert outcome(room.gateway, message, LATER) == "duplicate"
    assert outcome(room.gateway, room.old.telemetry(room.sid, 3), LATER) == "replayed"
    assert outcome(room.gateway, room.new.telemetry(room.sid, 2), LATER) == "replayed"
    assert accepted(room.gateway, room.old.telemetry(room.sid, 4), LATER).first_use == ""


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(
    ("now", "old", "new"),
    [
        (LATER - 0.001, "accepted", "credential_not_yet_valid"),
        (LATER, "accepted", "accepted"),
        (LATER + OVERLAP - 0.001, "accepted", "accepted"),
        (LATER + OVERLAP, "credential_expired", "accepted"),
        (LATER + 365 * 86_400.0 - 0.001, "credential_expired", "accepted"),
        (LATER + 365 * 86_400.0, "credential_expired", "credential_expired"),
    ],
)
def test_from_when_to_when(algorithm: Algorithm, now: float, old: str, new: str) -> None:
    """Accept each key from its first moment to the one before its end."""
    room = Room(algorithm)
    assert outcome(room.gateway, room.old.telemetry(room.sid, 2), now) == old
    assert outcome(room.gateway, room.new.telemetry(room.sid, 3), now) == new
    assert outcome(room.gateway, room.old.hello(boot_of(2)), now) == old
    assert outcome(room.gateway, room.new.hello(boot_of(3)), now) == new


def test_key_out_of_its_time_uses_up_nothing(room: Room) -> None:
    """Leave the counter to who may still use it."""
    now = LATER + OVERLAP
    assert outcome(room.gateway, room.old.telemetry(room.sid, 2**53), now) == "credential_expired"
    assert outcome(room.gateway, room.new.telemetry(room.sid, 2), now) == "accepted"
    assert room.gateway.refused == {("tent-1", Code.CREDENTIAL_EXPIRED): 1}


@pytest.mark.parametrize(
    ("dates", "code"),
    [
        ({"not_after": nan}, "credential_expired"),
        ({"ends": nan}, "credential_expired"),
        ({"not_before": nan}, "credential_not_yet_valid"),
        ({"not_before": -inf, "not_after": inf}, "accepted"),
        ({"not_after": -inf}, "credential_expired"),
        ({"not_before": inf}, "credential_not_yet_valid"),
    ],
    ids=str,
)
def test_date_that_is_not_a_number(dates: dict[str, Any], code: str) -> None:
    """Let nobody in by a date that a damaged store made of nothing."""
    sender = Sender.new()
    gateway = gateway_with(replace(device_of(sender), credentials=(replace(sender.credential, **dates),)))
    assert outcome(gateway, sender.clocked(NOW + 1)) == code


def test_forged_during_the_overlap(room: Room) -> None:
    """Refuse what neither key signed, with the reason of an honest refusal."""
    claims = to_json({"iss": "tent-1", "aud": room.old.topic("telemetry"), "sid": room.sid, "seq": 9})
    stranger = Sender.new()
    for key in (stranger.up_key, room.old.down_key, room.new.down_key, b""):
        assert outcome(room.gateway, Message("tent-1", "telemetry", hs256(key, claims)), LATER) == "signature_invalid"
    for header, code in (
        (b'{"alg":"none","typ":"JWT"}', "unsigned"),
        (b'{"alg":"HS512","typ":"JWT"}', "algorithm_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","kid":"other"}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","kid":null}', "header_not_allowed"),
    ):
        message = Message("tent-1", "telemetry", hs256(room.new.up_key, claims, header))
        assert outcome(room.gateway, message, LATER) == code
    assert outcome(room.gateway, Message("tent-1", "telemetry", b"a.b.c"), LATER) == "malformed"


def kid(sender: Sender, key_id: str) -> bytes:
    """Return a header that names a key."""
    return to_json({"alg": sender.algorithm.value, "typ": "JWT", "kid": key_id})


@pytest.mark.parametrize("order", [("alg", "typ", "kid"), ("kid", "typ", "alg")])
def test_named_keys(room: Room, order: tuple[str, ...]) -> None:
    """Accept a header that names the key which signed, in any order, and none that names the other."""
    for seq, (signing, named) in enumerate(
        [(room.old, room.old), (room.new, room.new), (room.old, room.new), (room.new, room.old)], 2
    ):
        members = {"alg": "HS256", "typ": "JWT", "kid": named.credential.key_id}
        claims = {"iss": "tent-1", "aud": signing.topic("telemetry"), "sid": room.sid, "seq": seq}
        body = to_json(claims | {"metrics": {"temp_c": 20.0}})
        header = to_json({name: members[name] for name in order})
        token = compact(body, header, hmac_sha256(signing.up_key))
        code = outcome(room.gateway, Message("tent-1", "telemetry", token), LATER)
        assert code in ({"accepted"} if signing is named else {"signature_invalid", "header_not_allowed"})


@pytest.mark.parametrize("fresh", [Algorithm.ES256, Algorithm.EDDSA])
def test_key_of_another_algorithm(room: Room, fresh: Algorithm) -> None:
    """Take up a key of another algorithm, and verify with each key by its own algorithm only."""
    other = Sender.new("tent-1", fresh, state=PENDING, now=LATER)
    room.rotate(other, LATER)
    assert accepted(room.gateway, room.old.telemetry(room.sid, 2), LATER).first_use == ""
    assert accepted(room.gateway, other.telemetry(room.sid, 3), LATER).first_use == other.credential.key_id
    # The public key is no secret: as bytes, it must not be one for the other algorithm either.
    claims = to_json({"iss": "tent-1", "aud": other.topic("telemetry"), "sid": room.sid, "seq": 4})
    for key in (other.credential.public_key.encode(), other.credential.public_key.strip().encode()):
        code = outcome(room.gateway, Message("tent-1", "telemetry", hs256(key, claims)), LATER)
        assert code in {"signature_invalid", "algorithm_not_allowed"}


# --- What goes to the device


def test_hello_is_answered_under_the_key_that_was_shown(room: Room) -> None:
    """Answer each key under itself: the device may not have the other one any more, or not yet."""
    for number, name in enumerate(("old", "new"), 2):
        sender = room.old if name == "old" else room.new
        greeting = room.gateway.ingest(sender.hello(boot_of(number)), LATER)
        assert isinstance(greeting, Greeting)
        assert room.reader(greeting.answer) == name


@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.EDDSA])
def test_answers_to_key_pairs(algorithm: Algorithm) -> None:
    """Sign for both public keys with the site's key."""
    room = Room(algorithm)
    site_key = public_pem(room.gateway.site_keys[algorithm])
    greetings = [room.gateway.ingest(sender.hello(boot_of(9)), LATER) for sender in (room.old, room.new)]
    answers = [greeting.answer for greeting in greetings if isinstance(greeting, Greeting)]
    for message in (*answers, *room.gateway.hello_requests("tent-1", LATER), room.command()):
        assert jwt.decode(message.payload, site_key, algorithms=[algorithm.value], audience=message.topic)
    assert len(answers) == 2


def test_hello_proves_no_use(room: Room) -> None:
    """Leave the old key in use for a hello: it may be a repeated one."""
    sid = greeted(room.gateway, room.new.hello(boot_of(2)), LATER)
    assert room.reader(room.command()) == "old"
    assert accepted(room.gateway, room.new.telemetry(sid, 1), LATER).first_use == room.new.credential.key_id


def test_commands_go_under_the_key_in_use(room: Room) -> None:
    """Seal commands under the old key until the new one was used, in one session with one counter."""
    assert room.reader(room.command()) == "old"
    assert outcome(room.gateway, room.new.telemetry(room.sid, 2), LATER) == "accepted"
    assert room.reader(room.command()) == "old"
    room.use(room.new.credential.key_id)
    command = room.command()
    assert room.reader(command) == "new"
    assert [claims_in(command.payload)[name] for name in ("sid", "seq")] == [room.sid, 3]


@pytest.mark.parametrize(
    ("used", "now", "keys"),
    [
        (False, LATER, ["old", "new"]),
        (False, LATER + OVERLAP - 1, ["old", "new"]),
        (False, LATER + OVERLAP, ["new"]),
        (True, LATER, ["new"]),
        (True, LATER - 3600, ["new"]),
        (True, LATER + 365 * 86_400, []),
    ],
)
def test_requests_go_under_every_key_that_may_be_in_use(room: Room, used: bool, now: float, keys: list[str]) -> None:
    """Ask for a hello under the keys that were neither replaced nor have expired, and count that once."""
    if used:
        room.use(room.new.credential.key_id)
    for _ in range(6):
        requests = room.gateway.hello_requests("tent-1", now, "s" * 16)
        assert [room.reader(request) for request in requests] == keys
    assert room.gateway.hello_requests("tent-1", now) == ()


@pytest.mark.parametrize(
    ("used", "now", "code"),
    [
        (False, LATER, None),
        (False, LATER + OVERLAP - 1, None),
        # The new one stands, and may not have come to the device: it is not the one that it has shown.
        (False, LATER + OVERLAP, Code.CREDENTIAL_EXPIRED),
        (True, LATER + OVERLAP, None),
        (True, LATER + 365 * 86_400, Code.CREDENTIAL_EXPIRED),
        (True, LATER - 1, Code.CREDENTIAL_NOT_YET_VALID),
        (True, nan, Code.CREDENTIAL_EXPIRED),
    ],
)
def test_nothing_is_switched_on_that_the_device_could_not_confirm(
    room: Room, used: bool, now: float, code: Code | None
) -> None:
    """Seal nothing that has a lease under a key whose messages are refused; off goes under it all the same."""
    if used:
        room.use(room.new.credential.key_id)
    name = "new" if used else "old"
    assert room.reader(room.command(now)) == name
    if code is None:
        assert room.reader(room.command(now, lease_s=10)) == name
        return
    with pytest.raises(PolicyError, match=rf"^{code.value}: tent-1$"):
        room.command(now, lease_s=10)
    assert room.reader(room.command(now)) == name


# --- First use


def test_first_use_is_told_by_everything_that_is_fresh(room: Room) -> None:
    """Name the pending key in a reading, a report and an answer, every time until somebody took note of it."""
    key_id = room.new.credential.key_id
    for seq in (2, 3):
        report = room.gateway.ingest(room.new.state(room.sid, seq, OFF), LATER)
        ack = room.gateway.ingest(room.new.ack(room.sid, seq), LATER)
        assert isinstance(report, Report)
        assert isinstance(ack, Ack)
        assert [report.first_use, ack.first_use] == [key_id] * 2
        assert accepted(room.gateway, room.new.telemetry(room.sid, seq), LATER).first_use == key_id
    room.use(key_id)
    report = room.gateway.ingest(room.new.state(room.sid, 4, OFF), LATER)
    ack = room.gateway.ingest(room.new.ack(room.sid, 4), LATER)
    assert isinstance(report, Report)
    assert isinstance(ack, Ack)
    assert [report.first_use, ack.first_use] == [""] * 2
    assert accepted(room.gateway, room.new.telemetry(room.sid, 4), LATER).first_use == ""


def test_first_use_of_a_new_device() -> None:
    """Name the only key of a device in its first reading."""
    sender = Sender.new(state=PENDING)
    gateway = gateway_with(device_of(sender))
    sid = greeted(gateway, sender.hello())
    assert accepted(gateway, sender.telemetry(sid, 1)).first_use == sender.credential.key_id
    used = lifecycle.first_used((sender.credential,), sender.credential.key_id, NOW)
    gateway.admit(gateway.registry.set_credentials("tent-1", used))
    assert accepted(gateway, sender.telemetry(sid, 2)).first_use == ""


def test_refused_message_is_no_first_use(room: Room) -> None:
    """Take up nothing by a message that is not new."""
    assert outcome(room.gateway, room.new.telemetry(room.sid, 1), LATER) == "replayed"
    assert outcome(room.gateway, room.new.telemetry("x" * 16, 2), LATER) == "session_unknown"
    assert room.device.key == lifecycle.restorable(room.device.credentials, CredentialKind.KEY, LATER)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_old_key_is_over_after_the_first_use(algorithm: Algorithm) -> None:
    """Refuse the old key within its overlap, also when the clock is set back, and keep the session."""
    room = Room(algorithm)
    assert outcome(room.gateway, room.new.telemetry(room.sid, 2), LATER) == "accepted"
    room.use(room.new.credential.key_id)
    for now in (LATER, LATER - 1, NOW, LATER + 1, LATER + OVERLAP):
        assert outcome(room.gateway, room.old.telemetry(room.sid, 3), now) == "credential_expired"
        assert outcome(room.gateway, room.old.hello(boot_of(7)), now) == "credential_expired"
    assert outcome(room.gateway, room.new.telemetry(room.sid, 3), LATER) == "accepted"
    assert room.gateway.sessions.active_sid("tent-1") == room.sid


def test_replay_across_a_rotation(room: Room) -> None:
    """Accept nothing twice, whichever key it was signed with and whatever became of that key since."""
    first, second = room.old.telemetry(room.sid, 2), room.new.telemetry(room.sid, 3)
    assert [outcome(room.gateway, each, LATER) for each in (first, second)] == ["accepted"] * 2
    room.use(room.new.credential.key_id)
    assert [outcome(room.gateway, each, LATER) for each in (first, second)] == ["credential_expired", "duplicate"]
    room.change(lifecycle.restore(room.device.credentials, LATER))
    assert [outcome(room.gateway, each, LATER) for each in (first, second)] == ["session_unknown", "signature_invalid"]
    sid = greeted(room.gateway, room.old.hello(boot_of(4)), LATER)
    assert outcome(room.gateway, room.old.telemetry(sid, 1), LATER) == "accepted"
    assert [outcome(room.gateway, each, LATER) for each in (first, second)] == ["session_unknown", "signature_invalid"]


def test_clocked_replay_across_a_rotation(room: Room) -> None:
    """Go on from the last time that was accepted, whatever becomes of the keys."""
    message = room.old.clocked(LATER)
    assert outcome(room.gateway, message, LATER) == "accepted"
    fresh = Sender.new(state=PENDING, now=LATER)
    room.rotate(fresh, LATER)
    room.use(fresh.credential.key_id)
    room.change(lifecycle.restore(room.device.credentials, LATER))
    assert outcome(room.gateway, message, LATER) == "replayed"
    assert outcome(room.gateway, room.old.clocked(LATER + 1), LATER) == "accepted"


# --- Without an overlap


@pytest.mark.parametrize("algorithm", Algorithm)
def test_rotated_at_once(algorithm: Algorithm) -> None:
    """Refuse the old key from here on, also when the clock is set back, and forget the session."""
    room = Room(algorithm, overlap=0.0)
    for now in (LATER, LATER - 1, NOW, LATER + 1):
        assert outcome(room.gateway, room.old.telemetry(room.sid, 2), now) == "signature_invalid"
    assert room.gateway.sessions.active_sid("tent-1") is None
    with pytest.raises(PolicyError, match="device_offline"):
        room.command()
    assert outcome(room.gateway, room.new.telemetry(room.sid, 2), LATER) == "session_unknown"
    sid = greeted(room.gateway, room.new.hello(), LATER)
    assert accepted(room.gateway, room.new.telemetry(sid, 1), LATER).first_use == room.new.credential.key_id


def test_messages_after_a_rotation_at_once() -> None:
    """Send nothing under the old key any more, before and after the new one was used."""
    room = Room(overlap=0.0)
    assert [room.reader(request) for request in room.gateway.hello_requests("tent-1", LATER)] == ["new"]
    sid = greeted(room.gateway, room.new.hello(), LATER)
    assert outcome(room.gateway, room.new.telemetry(sid, 1), LATER) == "accepted"
    assert room.reader(room.command()) == "new"
    room.use(room.new.credential.key_id)
    assert room.gateway.sessions.active_sid("tent-1") == sid
    assert room.reader(room.command()) == "new"


def test_rotated_at_once_during_an_overlap(room: Room) -> None:
    """End both the old key and the one that was never used."""
    third = Sender.new(state=PENDING, now=LATER + 1)
    room.rotate(third, LATER + 1, 0.0)
    now = LATER + 2
    assert outcome(room.gateway, room.old.telemetry(room.sid, 2), now) == "signature_invalid"
    assert outcome(room.gateway, room.new.telemetry(room.sid, 2), now) == "signature_invalid"
    assert outcome(room.gateway, third.telemetry(room.sid, 2), now) == "session_unknown"
    assert room.gateway.sessions.active_sid("tent-1") is None


def test_rotated_twice_with_an_overlap(room: Room) -> None:
    """Keep the session as long as the key that it began with is in use."""
    third = Sender.new(state=PENDING, now=LATER)
    room.rotate(third, LATER)
    assert outcome(room.gateway, room.old.telemetry(room.sid, 2), LATER) == "accepted"
    assert outcome(room.gateway, room.new.telemetry(room.sid, 3), LATER) == "signature_invalid"
    assert outcome(room.gateway, third.telemetry(room.sid, 3), LATER) == "accepted"


def test_restored_before_the_new_key_was_used(room: Room) -> None:
    """Go on in the session as if nothing had been."""
    room.change(lifecycle.restore(room.device.credentials, LATER))
    assert outcome(room.gateway, room.old.telemetry(room.sid, 2), LATER + 2 * OVERLAP) == "accepted"
    assert outcome(room.gateway, room.new.telemetry(room.sid, 3), LATER) == "signature_invalid"


# --- Devices without a key


def test_keys_are_all_revoked(room: Room) -> None:
    """Open nothing, send nothing and raise nothing else when no key is left."""
    room.change(lifecycle.revoke_all(room.device.credentials))
    messages = [sender.telemetry(room.sid, 2) for sender in (room.old, room.new)]
    assert [outcome(room.gateway, each, LATER) for each in messages] == ["signature_invalid"] * 2
    assert outcome(room.gateway, Message("tent-1", "telemetry", b"x"), LATER) == "signature_invalid"
    assert room.gateway.hello_requests("tent-1", LATER) == ()
    with pytest.raises(PolicyError, match="device_offline"):
        room.command()


def test_session_of_a_device_that_lost_its_key(room: Room) -> None:
    """Command nothing in a session that was restored for a device which has no key any more."""
    sessions = Sessions(LATER)
    sessions.restore(room.gateway.sessions.snapshot(), ["tent-1"])
    after = Gateway(PREFIX, LATER, room.gateway.site_keys, sessions)
    after.admit(after.registry.enrol(replace(room.device, credentials=())))
    assert after.sessions.active_sid("tent-1") == room.sid
    with pytest.raises(PolicyError, match="device_offline"):
        after.command("tent-1", {}, LATER)
    assert outcome(after, room.old.telemetry(room.sid, 2), LATER) == "signature_invalid"


def test_first_key_after_none(room: Room) -> None:
    """Begin anew when a device that had no key gets one."""
    room.change(())
    room.rotate(room.new, LATER)
    assert outcome(room.gateway, room.new.telemetry(room.sid, 2), LATER) == "session_unknown"
    assert outcome(room.gateway, room.new.hello(), LATER) == "accepted"


# --- Anything


@given(st.binary(max_size=200), st.floats(), st.booleans())
def test_any_payload(payload: bytes, now: float, dotted: bool) -> None:
    """Raise nothing but the error tree for any bytes, at any time."""
    room = Room()
    body = b".".join(payload[at : at + 20] for at in range(0, len(payload), 20)) if dotted else payload
    for channel in ("telemetry", "hello", "state", "ack"):
        assert outcome(room.gateway, Message("tent-1", channel, body), now) in {code.value for code in Code}


def test_what_was_spent_stays_spent(room: Room) -> None:
    """Give a device no second budget with its second key."""
    codes = [outcome(room.gateway, room.old.telemetry(room.sid, seq), LATER) for seq in range(2, 52)]
    codes += [outcome(room.gateway, room.new.telemetry(room.sid, seq), LATER) for seq in range(52, 104)]
    room.use(room.new.credential.key_id)
    codes += [outcome(room.gateway, room.new.telemetry(room.sid, seq), LATER) for seq in range(104, 110)]
    assert codes == ["accepted"] * 100 + ["rate_limited"] * 8


def test_refusal_says_what_expired(room: Room) -> None:
    """Name the kind of the credential, and neither the key nor its time."""
    with pytest.raises(TransportError, match=r"^credential_expired: key$"):
        room.gateway.ingest(room.old.telemetry(room.sid, 2), LATER + OVERLAP)
    with pytest.raises(TransportError, match=r"^credential_not_yet_valid: key$"):
        room.gateway.ingest(room.new.telemetry(room.sid, 2), NOW)
