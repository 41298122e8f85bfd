"""Freshness: sessions with counters, or the clock.

A hello opens a pending session. It becomes the device's session, and what the hello said takes effect, only when a
message under it has verified, so that a replayed hello changes nothing.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Final

from .errors import Code, FreshnessError, SessionUnknownError
from .models import Channel, Claims, Hello, Start

CLOCK_WINDOW: Final = 300.0
SID_LENGTH: Final = 16
_SID_BYTES: Final = 12
_MAX_PENDING: Final = 16
_MAX_RETIRED: Final = 16
# A device that sleeps starts every few minutes. Beyond these, a recorded hello counts as one of a new start.
MAX_GREETED: Final = 1024
_MAX_SEQ: Final = 2**53


@dataclass(slots=True)
class Session:
    """A run of a device: its boot value and the last counter accepted on each channel.

    `hello` is what the device said at its start, until somebody has taken note of it; `commands` is the last counter
    used on the way to the device. `last` is the last message of each channel, `digests` that of an earlier run of ours.
    """

    sid: str
    boot: str
    hello: Hello | None = None
    commands: int = 0
    counters: dict[Channel, int] = field(default_factory=dict)
    last: dict[Channel, bytes] = field(default_factory=dict)
    digests: dict[Channel, str] = field(default_factory=dict)


@dataclass(slots=True)
class _DeviceSessions:
    active: Session | None = None
    pending: dict[str, Session] = field(default_factory=dict)
    retired: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_MAX_RETIRED))
    greeted: dict[str, None] = field(default_factory=dict)
    last_iat: dict[Channel, float] = field(default_factory=dict)
    last_raw: dict[Channel, bytes] = field(default_factory=dict)


class Sessions:
    """The sessions of all devices. `started_at` is when this gateway started; older clock messages are refused."""

    def __init__(self, started_at: float) -> None:
        self._started_at = started_at
        self._devices: dict[str, _DeviceSessions] = {}

    def greet(self, device_id: str, hello: Hello) -> str:
        """Return the identifier of the session for a hello, which the caller has found not to be `known`."""
        state = self._devices.setdefault(device_id, _DeviceSessions())
        if len(state.pending) == _MAX_PENDING:
            del state.pending[next(iter(state.pending))]
        state.greeted[hello.boot] = None
        if len(state.greeted) > MAX_GREETED:
            del state.greeted[next(iter(state.greeted))]
        sid = token_urlsafe(_SID_BYTES)
        state.pending[sid] = Session(sid, hello.boot, hello)
        return sid

    def known(self, device_id: str, boot: str) -> str | None:
        """Return the identifier of the session that a boot value already has, or None.

        Raises FreshnessError when the boot value belongs to a session that has been replaced.
        """
        state = self._devices.get(device_id)
        if state is None:
            return None
        if any(boot == retired for retired, _ in state.retired):
            raise FreshnessError(Code.REPLAYED, "hello of an earlier start")
        if state.active is not None and state.active.boot == boot:
            return state.active.sid
        return next((session.sid for session in state.pending.values() if session.boot == boot), None)

    def start_of(self, device_id: str, boot: str) -> Start:
        """Return which start of a device a boot value is of, whatever became of its session."""
        state = self._devices.get(device_id)
        if state is None:
            return Start.NEW
        if state.active is not None and boot == state.active.boot:
            return Start.IN_USE
        # In the order in which they were first said: a hello that is said again stays where it is.
        if boot == next(reversed(state.greeted), None):
            return Start.LATEST
        before = boot in state.greeted or any(boot == session.boot for session in state.pending.values())
        return Start.EARLIER if before else Start.NEW

    def check(
        self, device_id: str, channel: Channel, claims: Claims, raw: bytes, now: float, *, clock_allowed: bool
    ) -> None:
        """Use up the freshness of a verified message, or raise FreshnessError.

        `raw` is the whole message: a byte-identical repeat of the last one accepted is a duplicate, which a transport
        may make.
        """
        state = self._devices.setdefault(device_id, _DeviceSessions())
        if "sid" in claims:
            _check_counter(state, channel, claims, raw)
            return
        if not clock_allowed or "seq" in claims:
            raise FreshnessError(Code.SESSION_REQUIRED)
        self._check_clock(state, channel, claims, raw, now)

    def take_hello(self, device_id: str) -> Hello | None:
        """Return what the device said at the start of its session, the first time that this is asked."""
        session = self._devices[device_id].active
        if session is None or session.hello is None:
            return None
        hello, session.hello = session.hello, None
        return hello

    def active_sid(self, device_id: str) -> str | None:
        """Return the identifier of a device's session."""
        state = self._devices.get(device_id)
        return state.active.sid if state is not None and state.active is not None else None

    def next_command(self, device_id: str) -> tuple[str, int] | None:
        """Use up a counter for a command; return the session and the counter, or None where there is no session."""
        state = self._devices.get(device_id)
        if state is None or state.active is None:
            return None
        state.active.commands += 1
        return state.active.sid, state.active.commands

    def forget(self, device_id: str) -> None:
        """Drop a device's sessions. The last times stay: the device may come back with the same key pair."""
        state = self._devices.pop(device_id, None)
        if state is not None and state.last_iat:
            self._devices[device_id] = _DeviceSessions(last_iat=state.last_iat)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return what has been accepted, as plain data: the established sessions, and the last times."""
        return {
            device_id: _session_data(state.active)
            | {
                "retired": [list(pair) for pair in state.retired],
                "greeted": list(state.greeted),
                "last_iat": {channel.value: issued for channel, issued in state.last_iat.items()},
            }
            for device_id, state in self._devices.items()
            if state.active is not None or state.last_iat
        }

    def restore(self, snapshot: Mapping[str, Mapping[str, Any]], device_ids: Iterable[str]) -> None:
        """Take up the sessions of these devices from a snapshot."""
        for device_id in device_ids:
            if (data := snapshot.get(device_id)) is None:
                continue
            active = None
            if "sid" in data:
                active = Session(
                    data["sid"],
                    data["boot"],
                    commands=data["commands"],
                    counters={Channel(channel): seq for channel, seq in data["counters"].items()},
                    digests={Channel(channel): digest for channel, digest in data.get("digests", {}).items()},
                )
            self._devices[device_id] = _DeviceSessions(
                active,
                retired=deque(((boot, sid) for boot, sid in data["retired"]), _MAX_RETIRED),
                greeted=dict.fromkeys(data.get("greeted", ())),
                last_iat={Channel(channel): issued for channel, issued in data["last_iat"].items()},
            )

    def _check_clock(self, state: _DeviceSessions, channel: Channel, claims: Claims, raw: bytes, now: float) -> None:
        issued = claims.get("iat")
        if type(issued) is not int and type(issued) is not float:
            raise FreshnessError(Code.SESSION_REQUIRED)
        if state.last_raw.get(channel) == raw:
            raise FreshnessError(Code.DUPLICATE)
        if issued <= state.last_iat.get(channel, 0.0):
            raise FreshnessError(Code.REPLAYED)
        if abs(issued - now) > CLOCK_WINDOW or issued < self._started_at:
            raise FreshnessError(Code.CLOCK_SKEW)
        state.last_iat[channel] = issued
        state.last_raw[channel] = raw


def _session_data(session: Session | None) -> dict[str, Any]:
    if session is None:
        return {}
    digests = session.digests | {channel: _digest(raw) for channel, raw in session.last.items()}
    return {
        "sid": session.sid,
        "boot": session.boot,
        "commands": session.commands,
        "counters": {channel.value: seq for channel, seq in session.counters.items()},
        "digests": {channel.value: digest for channel, digest in digests.items()},
    }


def _digest(raw: bytes) -> str:
    return sha256(raw).hexdigest()


def _is_last(session: Session, channel: Channel, raw: bytes) -> bool:
    """Tell whether a message is the last one of its channel, byte for byte."""
    if (last := session.last.get(channel)) is not None:
        return last == raw
    return session.digests.get(channel) == _digest(raw)


def _check_counter(state: _DeviceSessions, channel: Channel, claims: Claims, raw: bytes) -> None:
    sid = claims["sid"]
    seq = claims.get("seq")
    if type(sid) is not str or len(sid) != SID_LENGTH or type(seq) is not int or not 0 < seq <= _MAX_SEQ:
        raise FreshnessError(Code.SESSION_REQUIRED, "sid and seq")
    session = state.active
    if session is None or session.sid != sid:
        session = _activate(state, sid)
    elif seq <= session.counters.get(channel, 0):
        raise FreshnessError(Code.DUPLICATE if _is_last(session, channel, raw) else Code.REPLAYED)
    session.counters[channel] = seq
    session.last[channel] = raw


def _activate(state: _DeviceSessions, sid: str) -> Session:
    session = state.pending.get(sid)
    if session is None:
        if any(sid == retired for _, retired in state.retired):
            raise FreshnessError(Code.REPLAYED, "a session that has been replaced")
        raise SessionUnknownError(sid)
    if state.active is not None:
        state.retired.append((state.active.boot, state.active.sid))
    state.active = session
    state.pending.clear()
    return session
