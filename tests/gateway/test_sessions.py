"""Tests of freshness: no message counts twice, whatever is replayed, reordered, restarted or reset."""

from collections.abc import Callable
from hashlib import sha256
import json
from typing import Any

from hypothesis import given, settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
import pytest

from custom_components.grokmon.gateway.errors import Code, FreshnessError, SessionUnknownError
from custom_components.grokmon.gateway.models import Channel, Claims, Hello
from custom_components.grokmon.gateway.sessions import CLOCK_WINDOW, MAX_GREETED, Sessions

from .wire import NOW, attempt, boot_of, code_of

DEVICE = "tent-1"
TELEMETRY = Channel.TELEMETRY


def hello_of(number: int) -> Hello:
    """Return the hello of a start."""
    return Hello(boot=boot_of(number), firmware=f"v{number}")


def check(sessions: Sessions, claims: Claims, raw: bytes | None = None, **options: Any) -> str:
    """Check a message; return the code of the refusal, or `accepted`. Any other exception is the test's failure."""
    now = options.get("now", NOW)
    channel = options.get("channel", TELEMETRY)
    text = json.dumps(claims).encode() if raw is None else raw
    try:
        sessions.check(
            options.get("device_id", DEVICE),
            channel,
            claims,
            text,
            now,
            clock_allowed=options.get("clock_allowed", True),
        )
    except FreshnessError as error:
        return code_of(error)
    return "accepted"


def greet(sessions: Sessions, device_id: str, hello: Hello) -> str:
    """Greet as the pipeline does; return the session."""
    return sessions.known(device_id, hello.boot) or sessions.greet(device_id, hello)


def restarted(sessions: Sessions, started_at: float = NOW) -> Sessions:
    """Return what a graceful restart makes of the sessions; the snapshot goes over a disk."""
    fresh = Sessions(started_at)
    fresh.restore(json.loads(json.dumps(sessions.snapshot())), [DEVICE])
    return fresh


@pytest.fixture
def sessions() -> Sessions:
    """Return no sessions yet."""
    return Sessions(NOW)


# --- Sessions


def test_session_begins_with_its_first_message(sessions: Sessions) -> None:
    """Hand out what the hello said after the first message of the session, and only once."""
    sid = greet(sessions, DEVICE, hello_of(1))
    assert sessions.active_sid(DEVICE) is None
    assert sessions.take_hello(DEVICE) is None
    assert check(sessions, {"sid": sid, "seq": 1}) == "accepted"
    assert sessions.active_sid(DEVICE) == sid
    assert [sessions.take_hello(DEVICE), sessions.take_hello(DEVICE)] == [hello_of(1), None]
    assert check(sessions, {"sid": sid, "seq": 2}) == "accepted"
    assert sessions.take_hello(DEVICE) is None


def test_sid_is_random_and_of_the_length_of_the_protocol(sessions: Sessions) -> None:
    """Give 16 characters of base64url, other ones for every session."""
    sids = {greet(sessions, f"d-{number}", hello_of(1)) for number in range(200)}
    assert len(sids) == 200
    assert {len(sid) for sid in sids} == {16}
    assert all(sid.replace("-", "a").replace("_", "a").isalnum() for sid in sids)


def test_same_boot_same_session(sessions: Sessions) -> None:
    """Answer a repeated hello with the session that it already has, pending or established."""
    sid = greet(sessions, DEVICE, hello_of(1))
    assert greet(sessions, DEVICE, hello_of(1)) == sid
    assert sessions.known(DEVICE, boot_of(1)) == sid
    assert check(sessions, {"sid": sid, "seq": 1}) == "accepted"
    assert greet(sessions, DEVICE, hello_of(1)) == sid
    assert sessions.known(DEVICE, boot_of(1)) == sid


def test_unknown_boot_has_no_session(sessions: Sessions) -> None:
    """Know no session of a boot value that was never said, nor of a device that never spoke."""
    assert sessions.known(DEVICE, boot_of(1)) is None
    greet(sessions, DEVICE, hello_of(1))
    assert sessions.known(DEVICE, boot_of(2)) is None


def test_replayed_hello_changes_nothing(sessions: Sessions) -> None:
    """Keep the established session when an old hello comes again, and tell that it is old."""
    old = greet(sessions, DEVICE, hello_of(1))
    assert check(sessions, {"sid": old, "seq": 1}) == "accepted"
    new = greet(sessions, DEVICE, hello_of(2))
    assert check(sessions, {"sid": old, "seq": 2}) == "accepted"
    assert check(sessions, {"sid": new, "seq": 1}) == "accepted"
    with pytest.raises(FreshnessError, match=r"^replayed: hello of an earlier start$"):
        greet(sessions, DEVICE, hello_of(1))
    with pytest.raises(FreshnessError, match=r"^replayed: a session that has been replaced$"):
        sessions.check(DEVICE, TELEMETRY, {"sid": old, "seq": 3}, b"", NOW, clock_allowed=True)
    assert check(sessions, {"sid": new, "seq": 2}) == "accepted"


def test_replay_of_a_hello_after_a_restart(sessions: Sessions) -> None:
    """Remember over a restart which starts and which sessions of a device are over."""
    sids = [greet(sessions, DEVICE, hello_of(1))]
    assert check(sessions, {"sid": sids[0], "seq": 1}) == "accepted"
    sids.append(greet(sessions, DEVICE, hello_of(2)))
    assert check(sessions, {"sid": sids[1], "seq": 1}) == "accepted"
    after = restarted(sessions)
    assert check(after, {"sid": sids[0], "seq": 2}) == "replayed"
    assert after.take_hello(DEVICE) is None
    with pytest.raises(FreshnessError, match="replayed"):
        greet(after, DEVICE, hello_of(1))


def test_what_a_session_needs_is_named(sessions: Sessions) -> None:
    """Name the claims that a session needs."""
    with pytest.raises(FreshnessError, match=r"^session_required: sid and seq$"):
        sessions.check(DEVICE, TELEMETRY, {"sid": "x" * 16}, b"", NOW, clock_allowed=True)


def test_unknown_session_is_named(sessions: Sessions) -> None:
    """Name the session that the device believes in, so that it can be told."""
    with pytest.raises(SessionUnknownError) as caught:
        sessions.check(DEVICE, TELEMETRY, {"sid": "x" * 16, "seq": 1}, b"", NOW, clock_allowed=True)
    assert caught.value.sid == "x" * 16


def test_session_of_another_device_is_unknown(sessions: Sessions) -> None:
    """Keep the sessions of devices apart."""
    sid = greet(sessions, "tent-2", hello_of(1))
    assert check(sessions, {"sid": sid, "seq": 1}) == "session_unknown"
    assert check(sessions, {"sid": sid, "seq": 1}, device_id="tent-2") == "accepted"


def test_sixteen_pending_sessions(sessions: Sessions) -> None:
    """Keep the last sixteen sessions that nobody has used, and give the oldest up for one more."""
    sids = [greet(sessions, DEVICE, hello_of(number)) for number in range(17)]
    assert len(set(sids)) == 17
    assert check(sessions, {"sid": sids[0], "seq": 1}) == "session_unknown"
    assert check(sessions, {"sid": sids[1], "seq": 1}) == "accepted"
    assert [check(sessions, {"sid": sid, "seq": 1}) for sid in sids[2:]] == ["session_unknown"] * 15


@pytest.mark.parametrize("between", [lambda sessions: sessions, restarted], ids=["running", "restarted"])
def test_sixteen_retired_starts(sessions: Sessions, between: Callable[[Sessions], Sessions]) -> None:
    """Remember sixteen starts; an older hello opens a session that nobody can use."""
    for number in range(18):
        sessions = between(sessions)
        assert check(sessions, {"sid": greet(sessions, DEVICE, hello_of(number)), "seq": 1}) == "accepted"
    active = sessions.active_sid(DEVICE)
    assert greet(sessions, DEVICE, hello_of(0)) != active
    with pytest.raises(FreshnessError, match="replayed"):
        greet(sessions, DEVICE, hello_of(1))
    assert sessions.active_sid(DEVICE) == active


def starts(sessions: Sessions, *numbers: int) -> list[str]:
    """Return which starts hellos are of."""
    return [sessions.start_of(DEVICE, boot_of(number)).value for number in numbers]


def test_starts_are_told_apart(sessions: Sessions) -> None:
    """Take a hello that comes again for that of no later start than it is, whatever session it is given anew."""
    assert starts(sessions, 1) == ["new"]
    old = greet(sessions, DEVICE, hello_of(1))
    assert starts(sessions, 1, 2) == ["latest", "new"]
    greet(sessions, DEVICE, hello_of(2))
    assert starts(sessions, 1, 2) == ["earlier", "latest"]
    assert check(sessions, {"sid": old, "seq": 1}) == "accepted"
    assert starts(sessions, 1, 2) == ["in_use", "latest"]
    for number in (3, 4):
        new = greet(sessions, DEVICE, hello_of(number))
    greet(sessions, DEVICE, hello_of(3))
    assert starts(sessions, 1, 2, 3, 4) == ["in_use", "earlier", "earlier", "latest"]
    assert check(sessions, {"sid": new, "seq": 1}) == "accepted"
    greet(sessions, DEVICE, hello_of(3))
    assert starts(sessions, 2, 3, 4, 5) == ["earlier", "earlier", "in_use", "new"]


def test_latest_start_without_its_session(sessions: Sessions) -> None:
    """Know the start that was greeted last over a restart, which ends the sessions that nobody has used."""
    assert check(sessions, {"sid": greet(sessions, DEVICE, hello_of(1)), "seq": 1}) == "accepted"
    greet(sessions, DEVICE, hello_of(2))
    greet(sessions, DEVICE, hello_of(3))
    after = restarted(sessions)
    assert after.known(DEVICE, boot_of(3)) is None
    assert starts(after, 1, 2, 3, 4) == ["in_use", "earlier", "latest", "new"]


def test_earlier_start_that_has_a_session_again(sessions: Sessions) -> None:
    """Take the hello of a start that is just being forgotten for no new one while it has a session."""
    for number in range(MAX_GREETED):
        greet(sessions, DEVICE, hello_of(number))
    greet(sessions, DEVICE, hello_of(0))
    greet(sessions, DEVICE, hello_of(MAX_GREETED))
    assert starts(sessions, 0, 1, MAX_GREETED) == ["earlier", "earlier", "latest"]


@pytest.mark.parametrize("between", [lambda sessions: sessions, restarted], ids=["running", "restarted"])
def test_greeted_starts_are_remembered(sessions: Sessions, between: Callable[[Sessions], Sessions]) -> None:
    """Tell a hello that was said before from one of a new start, long after its session is gone."""
    assert starts(sessions, 0) == ["new"]
    assert check(sessions, {"sid": greet(sessions, DEVICE, hello_of(0)), "seq": 1}) == "accepted"
    for number in range(1, MAX_GREETED):
        greet(sessions, DEVICE, hello_of(number))
    after = between(sessions)
    assert starts(after, 0, 1, MAX_GREETED - 1, MAX_GREETED) == ["in_use", "earlier", "latest", "new"]
    assert after.known(DEVICE, boot_of(1)) is None
    last = greet(after, DEVICE, hello_of(MAX_GREETED))
    assert check(after, {"sid": last, "seq": 1}) == "accepted"
    assert starts(after, 0, 1, MAX_GREETED - 1, MAX_GREETED) == ["new", "earlier", "earlier", "in_use"]


def test_snapshot_of_an_earlier_version(sessions: Sessions) -> None:
    """Take up sessions from a snapshot that remembers neither greeted starts nor the last messages."""
    sid = greet(sessions, DEVICE, hello_of(1))
    assert check(sessions, {"sid": sid, "seq": 1}) == "accepted"
    snapshot = sessions.snapshot()
    del snapshot[DEVICE]["greeted"], snapshot[DEVICE]["digests"]
    after = Sessions(NOW)
    after.restore(snapshot, [DEVICE])
    assert (after.active_sid(DEVICE), starts(after, 1, 2)) == (sid, ["in_use", "new"])


# --- Counters


def test_counters_only_rise(sessions: Sessions) -> None:
    """Accept a counter once; gaps are allowed, going back is not."""
    sid = greet(sessions, DEVICE, hello_of(1))
    codes = [check(sessions, {"sid": sid, "seq": seq}, bytes([at])) for at, seq in enumerate([3, 3, 2, 4, 9, 8, 9, 10])]
    assert codes == ["accepted", "replayed", "replayed", "accepted", "accepted", "replayed", "replayed", "accepted"]


def test_channels_count_apart(sessions: Sessions) -> None:
    """Let topics overtake each other."""
    sid = greet(sessions, DEVICE, hello_of(1))
    assert [check(sessions, {"sid": sid, "seq": 1}, channel=channel) for channel in Channel] == ["accepted"] * 5
    assert check(sessions, {"sid": sid, "seq": 1}, b"other", channel=Channel.STATE) == "replayed"


def test_duplicate_is_the_last_message_again(sessions: Sessions) -> None:
    """Tell a repeat that the transport may make from a replay."""
    sid = greet(sessions, DEVICE, hello_of(1))
    assert [check(sessions, {"sid": sid, "seq": 1}, b"one") for _ in range(3)] == ["accepted", "duplicate", "duplicate"]
    assert check(sessions, {"sid": sid, "seq": 2}, b"two") == "accepted"
    assert check(sessions, {"sid": sid, "seq": 1}, b"one") == "replayed"
    assert check(sessions, {"sid": sid, "seq": 2}, b"two, signed again") == "replayed"
    assert check(sessions, {"sid": sid, "seq": 2}, b"two") == "duplicate"


@pytest.mark.parametrize(
    "claims",
    [
        {"sid": "S", "seq": 0},
        {"sid": "S", "seq": -1},
        {"sid": "S", "seq": 2**53 + 1},
        {"sid": "S", "seq": True},
        {"sid": "S", "seq": 1.0},
        {"sid": "S", "seq": "1"},
        {"sid": "S", "seq": None},
        {"sid": "S", "seq": [1]},
        {"sid": "S"},
        {"sid": None, "seq": 1},
        {"sid": 1, "seq": 1},
        {"sid": ["S"], "seq": 1},
        {"sid": {"S": 1}, "seq": 1},
        {"sid": "", "seq": 1},
        {"sid": "short", "seq": 1},
        {"sid": "x" * 17, "seq": 1},
        {"sid": None, "iat": NOW},
        {"sid": "S", "iat": NOW},
        {"seq": 1},
        {"seq": 1, "iat": NOW},
        {"seq": None, "iat": NOW},
        {"iat": None},
        {"iat": True},
        {"iat": str(NOW)},
        {"iat": [NOW]},
        {},
    ],
)
@pytest.mark.parametrize("clock_allowed", [True, False])
def test_hostile_freshness(sessions: Sessions, claims: Claims, clock_allowed: bool) -> None:
    """Refuse what is neither a session with a counter nor a time."""
    sid = greet(sessions, DEVICE, hello_of(1))
    here = claims | ({"sid": sid} if claims.get("sid") == "S" else {})
    assert check(sessions, here, clock_allowed=clock_allowed) == "session_required"
    assert sessions.active_sid(DEVICE) is None


@pytest.mark.parametrize("seq", [1, 2**31, 2**53])
def test_counter_may_begin_anywhere(sessions: Sessions, seq: int) -> None:
    """Take any counter up to 2^53 as the first."""
    sid = greet(sessions, DEVICE, hello_of(1))
    assert check(sessions, {"sid": sid, "seq": seq}) == "accepted"
    assert check(sessions, {"sid": sid, "seq": seq}, b"again") == "replayed"


# --- The clock


@pytest.mark.parametrize(
    ("iat", "code"),
    [
        (NOW + 1000, "accepted"),
        (NOW + 1000.5, "accepted"),
        (NOW + 1000 - CLOCK_WINDOW, "accepted"),
        (NOW + 1000 + CLOCK_WINDOW, "accepted"),
        (NOW + 1000 - CLOCK_WINDOW - 0.001, "clock_skew"),
        (NOW + 1000 + CLOCK_WINDOW + 0.001, "clock_skew"),
        (2**53, "clock_skew"),
        (0.5, "clock_skew"),
        (0, "replayed"),
        (-1, "replayed"),
    ],
)
def test_clock_window(sessions: Sessions, iat: float, code: str) -> None:
    """Accept five minutes either way."""
    assert check(sessions, {"iat": iat}, now=NOW + 1000) == code


def test_clock_message_needs_leave(sessions: Sessions) -> None:
    """Ask for a session where a clock is not enough."""
    assert check(sessions, {"iat": NOW}, clock_allowed=False) == "session_required"


def test_clock_only_rises(sessions: Sessions) -> None:
    """Accept a time once, in order, and tell a repeat from a replay."""
    times = [NOW + 10, NOW + 10, NOW + 9, NOW + 11]
    assert [check(sessions, {"iat": iat}) for iat in times] == ["accepted", "duplicate", "replayed", "accepted"]
    assert check(sessions, {"iat": NOW + 11}, b"other") == "replayed"
    assert check(sessions, {"iat": NOW + 10}) == "replayed"


def test_nothing_older_than_the_start() -> None:
    """Refuse after a start what may have been accepted before it."""
    sessions = Sessions(NOW)
    assert [check(sessions, {"iat": iat}) for iat in (NOW - 0.001, NOW)] == ["clock_skew", "accepted"]


def test_time_ahead_is_not_accepted_again_after_a_restart() -> None:
    """Refuse after a restart the message of a device whose clock runs ahead, though it is younger than the start."""
    before = Sessions(NOW)
    assert check(before, {"iat": NOW + 250}) == "accepted"
    after = restarted(before, NOW + 10)
    assert check(after, {"iat": NOW + 250}, now=NOW + 20) == "replayed"
    assert check(restarted(after, NOW + 30), {"iat": NOW + 250}, now=NOW + 40) == "replayed"
    assert check(after, {"iat": NOW + 251}, now=NOW + 20) == "accepted"


def test_time_is_not_accepted_again_after_forgetting(sessions: Sessions) -> None:
    """Keep the last time of a device that is forgotten: it may come back with the same key pair."""
    assert check(sessions, {"iat": NOW + 5}) == "accepted"
    sessions.forget(DEVICE)
    assert check(sessions, {"iat": NOW + 5}) == "replayed"
    assert check(sessions, {"iat": NOW + 6}) == "accepted"


# --- Memory


def test_forget_drops_sessions(sessions: Sessions) -> None:
    """Know no session of a device that was forgotten, and forget what was never known."""
    sid = greet(sessions, DEVICE, hello_of(1))
    assert check(sessions, {"sid": sid, "seq": 1}) == "accepted"
    waiting = greet(sessions, DEVICE, hello_of(2))
    sessions.forget(DEVICE)
    sessions.forget("nobody")
    assert sessions.active_sid(DEVICE) is None
    assert [check(sessions, {"sid": known, "seq": 2}) for known in (sid, waiting)] == ["session_unknown"] * 2
    assert greet(sessions, DEVICE, hello_of(1)) not in {sid, waiting}


def test_snapshot_is_plain_data(sessions: Sessions) -> None:
    """Return what JSON can hold, of established sessions and of clocks only."""
    sid = greet(sessions, DEVICE, hello_of(1))
    greet(sessions, "pending", hello_of(1))
    assert check(sessions, {"sid": sid, "seq": 7}) == "accepted"
    assert check(sessions, {"iat": NOW + 1}, device_id="clock") == "accepted"
    assert sessions.snapshot() == {
        DEVICE: {
            "sid": sid,
            "boot": boot_of(1),
            "commands": 0,
            "counters": {"telemetry": 7},
            "digests": {"telemetry": sha256(json.dumps({"sid": sid, "seq": 7}).encode()).hexdigest()},
            "retired": [],
            "greeted": [boot_of(1)],
            "last_iat": {},
        },
        "clock": {"retired": [], "greeted": [], "last_iat": {"telemetry": NOW + 1}},
    }


def test_restart_keeps_sessions_and_counters(sessions: Sessions) -> None:
    """Go on after a restart where the counters were."""
    sid = greet(sessions, DEVICE, hello_of(1))
    assert check(sessions, {"sid": sid, "seq": 7}) == "accepted"
    after = restarted(sessions)
    assert after.active_sid(DEVICE) == sid
    assert greet(after, DEVICE, hello_of(1)) == sid
    assert [check(after, {"sid": sid, "seq": seq}) for seq in (6, 8)] == ["replayed", "accepted"]
    assert after.snapshot()[DEVICE]["counters"] == {"telemetry": 8}


def test_same_bytes_after_a_restart(sessions: Sessions) -> None:
    """Know the last message of a channel again, as a device sends it that was not told that it had come through."""
    sid = greet(sessions, DEVICE, hello_of(1))
    for channel, raw in ((TELEMETRY, b"reading"), (Channel.ACK, b"answer")):
        assert check(sessions, {"sid": sid, "seq": 1}, raw, channel=channel) == "accepted"
    after = restarted(restarted(sessions))
    assert check(after, {"sid": sid, "seq": 1}, b"answer", channel=Channel.ACK) == "duplicate"
    assert check(after, {"sid": sid, "seq": 1}, b"answer") == "replayed"
    assert check(after, {"sid": sid, "seq": 2}, b"later") == "accepted"
    assert check(after, {"sid": sid, "seq": 1}, b"reading") == "replayed"
    assert [check(restarted(after), {"sid": sid, "seq": 2}, raw) for raw in (b"later", b"other")] == [
        "duplicate",
        "replayed",
    ]


def test_restore_takes_only_what_is_asked_for(sessions: Sessions) -> None:
    """Leave the sessions of removed devices behind, and expect none of new ones."""
    for device_id in ("kept", "removed"):
        sid = greet(sessions, device_id, hello_of(1))
        assert check(sessions, {"sid": sid, "seq": 1}, device_id=device_id) == "accepted"
    after = Sessions(NOW)
    after.restore(sessions.snapshot(), ["new", "kept"])
    assert [after.active_sid(device_id) is None for device_id in ("kept", "removed", "new")] == [False, True, True]


@given(
    st.dictionaries(
        st.sampled_from(["sid", "seq", "iat", "iss"]),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=16) | st.just([]),
    ),
    st.sampled_from(Channel),
    st.booleans(),
)
def test_any_claims(claims: Claims, channel: Channel, clock_allowed: bool) -> None:
    """Raise nothing but FreshnessError for any claims."""
    code = check(Sessions(NOW), claims, channel=channel, clock_allowed=clock_allowed)
    assert code in {"accepted", "session_required", "session_unknown", "clock_skew", "replayed"}
    assert code != "accepted" or (clock_allowed and abs(claims["iat"] - NOW) <= CLOCK_WINDOW)


# --- Any order of events


class SessionsMachine(RuleBasedStateMachine):
    """A device, an attacker who keeps every message, and a gateway that restarts; the clock jumps.

    The device's own view is the reference: a message counts at most once, in the order in which it was signed, and
    never under a session that another has replaced.
    """

    messages = Bundle("messages")
    hellos = Bundle("hellos")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.started_at = NOW
        self.sessions = Sessions(NOW)
        self.boots = 0
        self.sids: list[str] = []
        self.seq = 0
        self.order: list[str] = []
        self.counted: set[tuple[Any, ...]] = set()
        self.highest: dict[tuple[str, Channel], int] = {}
        self.latest: dict[tuple[Channel, bool], bytes] = {}
        self.clocked: set[float] = set()

    @rule(target=hellos)
    def start(self) -> Hello:
        """Start the device; the gateway hears its hello."""
        self.boots += 1
        hello = hello_of(self.boots)
        self.sids.append(greet(self.sessions, DEVICE, hello))
        self.seq = 0
        return hello

    @rule(hello=hellos)
    def replay_hello(self, hello: Hello) -> None:
        """Say an old hello again: the established session stays."""
        before = self.sessions.active_sid(DEVICE)
        result = attempt(lambda: greet(self.sessions, DEVICE, hello))
        assert result not in self.order[:-1]
        assert isinstance(result, str) or result.code is Code.REPLAYED
        assert self.sessions.active_sid(DEVICE) == before

    @rule()
    def hello_again(self) -> None:
        """Ask for the session of this start again, as a device does that reconnects."""
        if self.boots:
            sid = greet(self.sessions, DEVICE, hello_of(self.boots))
            new = sid != self.sids[-1]
            self.seq *= not new
            self.sids += [sid] * new

    @rule(target=messages, channel=st.sampled_from([Channel.TELEMETRY, Channel.STATE]), count=st.integers(1, 3))
    def sign(self, channel: Channel, count: int) -> Any:
        """Sign messages under the session that the device believes in; the network holds them."""
        signed = []
        for _ in range(count if self.sids else 0):
            self.seq += 1
            signed.append((channel, {"sid": self.sids[-1], "seq": self.seq}))
        return multiple(*signed)

    @rule(target=messages, ahead=st.integers(-320, 320))
    def sign_by_clock(self, ahead: int) -> Any:
        """Sign a message that is fresh by its time."""
        return TELEMETRY, {"iat": self.now + ahead}

    @rule(message=messages)
    def deliver(self, message: tuple[Channel, Claims]) -> None:
        """Deliver any message, for the first time or again, in any order."""
        self._deliver(*message)

    @rule(message=consumes(messages))
    def deliver_twice(self, message: tuple[Channel, Claims]) -> None:
        """Deliver a message twice in a row, as QoS 1 may."""
        first = self._deliver(*message)
        again = self._deliver(*message)
        assert again == {"accepted": "duplicate"}.get(first, again)
        assert again != "accepted"

    @rule(seconds=st.sampled_from([1, 30, 299, 301, 3600, -1, -100, -3600]))
    def pass_time(self, seconds: int) -> None:
        """Let time pass, or set the gateway's clock back."""
        self.now += seconds

    @rule(event=st.sampled_from(["restart", "forget", "crash"]))
    def disturb(self, event: str) -> None:
        """Stop and start the gateway, give the device a new credential, or lose the sessions."""
        match event:
            case "restart":
                self.started_at = self.now
                self.sessions = restarted(self.sessions, self.now)
            case "forget":
                self.sessions.forget(DEVICE)
            case _:
                self.started_at = self.now
                self.sessions = Sessions(self.now)
                # Where clocks run ahead, or back, what was said by the clock is open again after a crash.
                self.clocked.clear()
        # The last message of a session is known over a restart, that of a clock is too old by then.
        kept = self.latest.items() if event == "restart" else ()
        self.latest = {(channel, by_clock): raw for (channel, by_clock), raw in kept if not by_clock}

    def _deliver(self, channel: Channel, claims: Claims) -> str:
        raw = json.dumps([channel, claims]).encode()
        last = (channel, "iat" in claims)
        known = {raw} if self.latest.get(last) == raw or claims.get("iat") in self.clocked else set[bytes]()
        result = attempt(lambda: self.sessions.check(DEVICE, channel, claims, raw, self.now, clock_allowed=True))
        if result is not None:
            assert isinstance(result, FreshnessError)
            assert result.code is not Code.DUPLICATE or raw in known
            return code_of(result)
        self.latest[last] = raw
        hello = self.sessions.take_hello(DEVICE)
        if "iat" in claims:
            assert hello is None
            self._counts_by_clock(claims["iat"])
        else:
            self._counts(channel, claims["sid"], claims["seq"], hello)
        return "accepted"

    def _counts_by_clock(self, iat: float) -> None:
        assert iat not in self.clocked
        assert iat > max(self.clocked, default=0.0)
        assert iat >= self.started_at
        assert abs(iat - self.now) <= CLOCK_WINDOW
        self.clocked.add(iat)

    def _counts(self, channel: Channel, sid: str, seq: int, hello: Hello | None) -> None:
        assert (sid, channel, seq) not in self.counted
        self.counted.add((sid, channel, seq))
        assert seq > self.highest.get((sid, channel), 0)
        self.highest[sid, channel] = seq
        assert (hello is not None) == (sid not in self.order)
        assert sid not in self.order[:-1]
        assert not set(self.order) & set(self.sids[self.sids.index(sid) + 1 :])
        self.order += [sid] if hello is not None else []
        assert self.sessions.active_sid(DEVICE) == sid

    @invariant()
    def memory_is_bounded(self) -> None:
        """Keep no more than the protocol needs."""
        for state in self.sessions._devices.values():
            assert len(state.pending) <= 16
            assert len(state.retired) <= 16
            assert len(state.greeted) <= MAX_GREETED


TestSessionsMachine = SessionsMachine.TestCase
TestSessionsMachine.settings = settings(max_examples=250, stateful_step_count=50)
