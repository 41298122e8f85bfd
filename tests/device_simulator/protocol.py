"""The device's side of the wire protocol, without a network and without a clock of its own."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Any

from .actuators import Answer, Outputs
from .credentials import DeviceIdentity, DownlinkRefusedError
from .signing import b64encode

KEPT_READINGS = 32
KEPT_SECONDS = 300.0
STATE_EVERY = 30.0
ROUNDING_S = 1

type Metrics = Mapping[str, float | bool]


@dataclass(slots=True, eq=False)
class Reading:
    """Hold one set of values until the device may forget it."""

    taken: float
    """Seconds on the device's own clock, which need not be the time of day."""
    metrics: Metrics
    meta: Mapping[str, str] | None = None
    ts: float | None = None
    delivered: bool = False
    dropped: bool = False
    times_sent: int = 0


@dataclass(slots=True)
class Counts:
    """Count what a device did."""

    taken: int = 0
    sent: int = 0
    acked: int = 0
    resent: int = 0
    dropped: int = 0
    hellos: int = 0
    sessions: int = 0
    downlinks_refused: int = 0
    commands: int = 0
    commands_refused: int = 0


@dataclass(slots=True)
class DeviceProtocol:
    """Decide what a device says next; the caller carries the bytes and tells the time."""

    identity: DeviceIdentity
    firmware: str | None = None
    model: str | None = None
    capabilities: Sequence[str] = ()
    hello_interval: float = 5.0
    outputs: Outputs = field(default_factory=Outputs)
    lose_acks: bool = False
    """Whether commands are carried out and not answered."""
    deaf: bool = False
    """Whether commands are neither carried out nor answered."""
    commands: list[dict[str, Any]] = field(default_factory=list)
    """Claims of the commands that were genuine, new and in time."""
    counts: Counts = field(default_factory=Counts)
    boot: str = field(default_factory=lambda: b64encode(token_bytes(16)).decode())
    sid: str | None = None
    seq: int = 0
    ready: bool = False
    """Whether the hub is believed to know the session."""
    hello_at: float | None = None
    """When the next hello is due."""
    _asked: bool = False
    _last_obeyed: float = float("-inf")
    _last_heard: int = 0
    _clock_offset: float | None = None
    _clock_set_to: int = 0
    _kept: deque[Reading] = field(default_factory=deque)
    _due: deque[Answer | None] = field(default_factory=deque)
    """Answers to commands; None stands for a state, which is made when it goes out."""
    _unconfirmed: bytes | None = None
    """The answer that went out last, until the broker has it."""
    _again: bool = False
    """Whether that answer is to go out again."""
    _sequences: Counter[str] = field(default_factory=Counter)
    _spent: Counter[str] = field(default_factory=Counter)
    """The last command by session: one that is left may be played back later, and its commands with it."""
    _state_at: float = float("-inf")

    def connected(self, now: float) -> None:
        """Ask for the session again: only its answer shows that the hub listens, too."""
        self.ready = False
        self.hello_at = now
        self._again = self._unconfirmed is not None

    def disconnected(self) -> None:
        """Hold everything back until there is a connection."""
        self.ready = False
        self.hello_at = None

    def hello(self, now: float) -> bytes:
        """Give the start announcement, and be due again unless it is answered."""
        self.counts.hellos += 1
        if self._asked:
            self._asked, self._last_obeyed = False, now
        self.hello_at = now + self.hello_interval
        claims: dict[str, Any] = {"iss": self.identity.device_id, "aud": self.identity.up("hello"), "boot": self.boot}
        if self._clock_offset is not None:
            claims["iat"] = int(self._clock_offset + now)
        if self.firmware is not None:
            claims["firmware"] = self.firmware
        if self.model is not None:
            claims["model"] = self.model
        if self.capabilities:
            claims["capabilities"] = list(self.capabilities)
        return self.identity.sign(claims)

    def take(
        self, metrics: Metrics, now: float, *, ts: float | None = None, meta: Mapping[str, str] | None = None
    ) -> Reading:
        """Put a reading in the queue; the oldest goes when the queue is full."""
        reading = Reading(now, metrics, meta, ts)
        self.counts.taken += 1
        self._kept.append(reading)
        self._forget(now)
        return reading

    def next_message(self, now: float) -> tuple[Reading, bytes] | None:
        """Sign the oldest reading that is not delivered under the current session."""
        self._forget(now)
        reading = next(self._undelivered(), None)
        if reading is None or not self.ready or self._clock_offset is None:
            return None
        if reading.ts is None:
            reading.ts = int(self._clock_offset + reading.taken)
        self.counts.sent += 1
        self.counts.resent += reading.times_sent > 0
        reading.times_sent += 1
        body: dict[str, Any] = {"ts": reading.ts, "metrics": dict(reading.metrics)}
        if reading.meta:
            body["meta"] = dict(reading.meta)
        return reading, self.identity.sign(self.telemetry_claims() | body)

    def telemetry_claims(self) -> dict[str, Any]:
        """Give the claims that make the next telemetry message fresh, and spend a counter on them."""
        self.seq += 1
        return {
            "iss": self.identity.device_id,
            "aud": self.identity.up("telemetry"),
            "sid": self.sid,
            "seq": self.seq,
        }

    def expire(self, now: float) -> bool:
        """End the outputs that are due; tell whether any was."""
        ended = self.outputs.expire(now)
        if ended:
            self._owe_state()
        return ended

    def next_answer(self, now: float) -> tuple[str, bytes] | None:
        """Sign the next state or answer to a command; give its channel with it. These go before readings."""
        self.expire(now)
        if not self.ready or not self.outputs.outputs:
            return None
        if self._unconfirmed is not None and self._again:
            # The same bytes, before the state: what the hub has is a duplicate then.
            self._again = False
            return "ack", self._unconfirmed
        if now - self._state_at >= STATE_EVERY:
            self._owe_state()
        if not self._due:
            return None
        answer = self._due.popleft()
        if answer is None:
            self._state_at = now
            return "state", self._sign_counted("state", {"actuators": self.outputs.states(now)})
        body: dict[str, Any] = {"cid": answer.cid, "result": answer.result}
        if answer.reason:
            body["reason"] = answer.reason
        if answer.about:
            body["actuators"] = self.outputs.states(now, answer.about)
        self._unconfirmed = self._sign_counted("ack", body)
        return "ack", self._unconfirmed

    def confirmed(self) -> None:
        """Note that the broker has what `next_answer` gave last."""
        self._unconfirmed = None

    def next_deadline(self) -> float | None:
        """Tell when something is due although nothing arrives."""
        state_at = self._state_at + STATE_EVERY if self.ready and self.outputs.outputs else None
        return min((due for due in (self.hello_at, self.outputs.deadline, state_at) if due is not None), default=None)

    def receive_command(self, payload: bytes, now: float) -> Answer | None:
        """Take a message on the command topic; give the answer, or None for what is not a new command for this run."""
        if self.deaf:
            return None
        try:
            claims = self.identity.verify_down(payload, "command")
        except DownlinkRefusedError:
            claims = {}
        if not self._is_next_command(claims) or self._clock_offset is None:
            self.counts.commands_refused += 1
            return None
        self._spent[claims["sid"]] = claims["seq"]
        self.expire(now)
        if self._clock_offset + now > claims["iat"] + claims["ttl_s"] + ROUNDING_S:
            answer = Answer(claims["cid"], "rejected", "expired", self.outputs.about(claims))
            # The clock of this device may be fast: the answer to a hello puts it right.
            self._say_hello_soon(now)
        else:
            self._set_clock(claims["iat"], now, backwards=False)
            self.counts.commands += 1
            self.commands.append(claims)
            answer = self.outputs.command(claims, now)
        if not self.lose_acks:
            self._due.append(answer)
        return answer

    def by_hand(self, name: str, now: float, *, on: bool, percent: float = 0.0) -> None:
        """Let somebody turn a knob on the device itself."""
        self.outputs.by_hand(name, now, on=on, percent=percent)
        self._owe_state()

    def acknowledged(self, reading: Reading) -> None:
        """Note that the broker took a reading; that counts as delivered only while the session is believed valid."""
        self.counts.acked += 1
        reading.delivered = self.ready
        if reading.dropped and reading.delivered:
            # It was on its way when the queue let go of it.
            reading.dropped = False
            self.counts.dropped -= 1

    def receive(self, payload: bytes, now: float) -> None:
        """Take a message on the session topic: an answer to the hello, or a request to say hello again."""
        try:
            claims = self.identity.verify_down(payload)
        except DownlinkRefusedError:
            self.counts.downlinks_refused += 1
            return
        if claims.get("hello") is True:
            self._asked_for_hello(claims, now)
            return
        awaited = claims.get("boot") == self.boot and self.hello_at is not None
        if awaited and (not self.ready or claims["time"] > self._last_heard):
            self._start_session(claims, now)

    @property
    def pending(self) -> int:
        """Count the readings that still have to go out."""
        return sum(1 for _ in self._undelivered())

    def _asked_for_hello(self, claims: Mapping[str, Any], now: float) -> None:
        # A request without a session is fresh only by its time; replayed, it would make the device resend for ever.
        fresh = claims["sid"] == self.sid if "sid" in claims else claims["time"] > self._last_heard
        if not fresh:
            return
        self._last_heard = max(self._last_heard, claims["time"])
        self._session_lost()
        self._say_hello_soon(now)

    def _say_hello_soon(self, now: float) -> None:
        self._asked = True
        self.hello_at = max(now, self._last_obeyed + self.hello_interval)

    def _start_session(self, claims: Mapping[str, Any], now: float) -> None:
        if claims["sid"] != self.sid:
            self._session_lost()
            self.sid = claims["sid"]
            self._due.clear()
            self._unconfirmed = None
            self.counts.sessions += 1
        if self.outputs.outputs:
            # The first message under a session makes it count; after a disconnection nobody knows what got through.
            self._due = deque([None, *(answer for answer in self._due if answer is not None)])
        self._last_heard = max(self._last_heard, claims["time"])
        self._set_clock(claims["time"], now, backwards=True)
        self.ready = True
        self.hello_at = None

    def _set_clock(self, told: int, now: float, *, backwards: bool) -> None:
        # Only by what is newer than all before: an answer that is played back must not make old commands fresh again.
        offset = told - now
        if self._clock_offset is None or (told > self._clock_set_to and (backwards or offset > self._clock_offset)):
            self._clock_offset = offset
        self._clock_set_to = max(self._clock_set_to, told)

    def _is_next_command(self, claims: Mapping[str, Any]) -> bool:
        numbers = [claims.get(name) for name in ("seq", "iat", "ttl_s")]
        if type(claims.get("cid")) is not str or any(type(number) is not int for number in numbers):
            return False
        return self.sid is not None and claims.get("sid") == self.sid and claims["seq"] > self._spent[self.sid]

    def _owe_state(self) -> None:
        if None not in self._due:
            self._due.append(None)

    def _sign_counted(self, channel: str, body: Mapping[str, Any]) -> bytes:
        self._sequences[channel] += 1
        claims = {"iss": self.identity.device_id, "aud": self.identity.up(channel), "sid": self.sid}
        return self.identity.sign({**claims, "seq": self._sequences[channel], **body})

    def _session_lost(self) -> None:
        # Nobody knows since when the hub has not listened: what is still kept goes out again.
        self.ready = False
        for reading in self._kept:
            reading.delivered = False

    def _undelivered(self) -> Iterator[Reading]:
        return (reading for reading in self._kept if not reading.delivered)

    def _forget(self, now: float) -> None:
        while self._kept and (len(self._kept) > KEPT_READINGS or now - self._kept[0].taken > KEPT_SECONDS):
            reading = self._kept.popleft()
            if not reading.delivered:
                reading.dropped = True
                self.counts.dropped += 1
