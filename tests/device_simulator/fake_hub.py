"""A stand-in for the integration: just enough of a hub to try devices against a real broker."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from secrets import randbits, token_urlsafe
import time
from types import TracebackType
from typing import Any, Self

import jwt

from .connection import BrokerAddress, Connection
from .credentials import ALGORITHMS, Auth, PrivateKey, public_pem
from .signing import derive_keys

DEADLINE = 20.0
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class HubKeys:
    """Hold what the hub knows of one device's credential."""

    algorithm: str
    verify_key: bytes | str = field(repr=False)
    sign_key: bytes | PrivateKey = field(repr=False)

    @classmethod
    def of_root_key(cls, root: str) -> Self:
        """Derive the hub's keys for an HS256 device."""
        return cls("HS256", *derive_keys(root))

    @classmethod
    def of_key_pair(cls, auth: Auth, device_key: PrivateKey, site_key: PrivateKey) -> Self:
        """Take the public half of the device's key, and the site's own key."""
        return cls(ALGORITHMS[auth], public_pem(device_key), site_key)


@dataclass(slots=True)
class FakeHub:
    """Answer hellos, verify what devices say, remember it, and give commands."""

    broker: BrokerAddress
    keys: dict[str, HubKeys]
    prefix: str = "grokmon"
    answers: bool = True
    """Whether a hello is answered."""
    hellos: list[dict[str, Any]] = field(default_factory=list)
    readings: list[dict[str, Any]] = field(default_factory=list)
    """Claims of accepted telemetry, in the order in which it came."""
    states: list[dict[str, Any]] = field(default_factory=list)
    acks: list[dict[str, Any]] = field(default_factory=list)
    arrivals: list[str] = field(default_factory=list)
    """The channels of all accepted messages, in the order in which they came."""
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    """Topics and payloads of all that was published, to be played back."""
    statuses: list[tuple[str, bytes]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Topic and reason of everything that was not accepted."""
    sessions: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Boot nonce and session by device."""
    counters: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The last counter by session and channel, commands included."""
    last: dict[str, bytes] = field(default_factory=dict)
    """The last accepted message by topic: the same bytes again are a repeat by the transport, and dropped."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _link: Connection | None = None
    _sending: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        """Connect and subscribe."""
        self._link = Connection(self.broker, "fake-hub", on_message=self._received)
        await self._link.open()
        await self._link.subscribe(f"{self.prefix}/v1/+/up/+")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        await asyncio.gather(*self._sending, return_exceptions=True)
        if self._link is not None:
            await self._link.close()

    def again(self) -> Self:
        """Make a hub that remembers what this one knew of its devices, as after a restart."""
        return type(self)(
            self.broker, self.keys, self.prefix, sessions=self.sessions, counters=self.counters, last=self.last
        )

    async def until(self, condition: Callable[[], bool], deadline: float = DEADLINE) -> None:
        """Wait until what was received fulfils a condition."""
        async with asyncio.timeout(deadline):
            while not condition():
                await self._changed.wait()

    async def ask_for_hello(self, device_id: str, *, sid: str | None = None, at: int | None = None) -> None:
        """Ask a device to say hello again, as the hub does at its start or, with `sid`, for an unknown session."""
        body: dict[str, Any] = {"hello": True, "time": int(time.time()) if at is None else at}
        if sid is not None:
            body["sid"] = sid
        await self.say(device_id, body)

    def forget(self, device_id: str) -> str:
        """Lose a device's session, as after a crash; give the session that was lost."""
        return self.sessions.pop(device_id)[1]

    def values(self, device_id: str, metric: str) -> list[Any]:
        """Give the accepted values of a metric in the order in which they came."""
        return [claims["metrics"][metric] for claims in self.readings if claims["iss"] == device_id]

    async def command(
        self,
        device_id: str,
        action: str,
        actuator: str | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        lease_s: int | None = None,
        **overrides: Any,
    ) -> str:
        """Command a device in its session; `overrides` may replace every claim. Return the command's identifier."""
        _, sid = self.sessions[device_id]
        self.counters[sid, "command"] += 1
        body: dict[str, Any] = {
            "iat": int(time.time()),
            "sid": sid,
            "seq": self.counters[sid, "command"],
            "cid": ulid(),
            "ttl_s": 10,
            "action": action,
            "params": dict(params or {}),
        }
        if actuator is not None:
            body["actuator"] = actuator
        if lease_s is not None:
            body["lease_s"] = lease_s
        body |= overrides
        await self.say(device_id, body, "command")
        return str(body["cid"])

    async def ack(self, cid: str, deadline: float = DEADLINE) -> dict[str, Any]:
        """Wait for the answer to a command and return its claims."""
        await self.until(lambda: any(claims["cid"] == cid for claims in self.acks), deadline)
        return next(claims for claims in self.acks if claims["cid"] == cid)

    async def state(self, condition: Callable[[dict[str, Any]], bool], deadline: float = DEADLINE) -> dict[str, Any]:
        """Wait until the outputs in the latest state of any device fulfil a condition; return them."""
        await self.until(lambda: bool(self.states) and condition(self.states[-1]["actuators"]), deadline)
        latest: dict[str, Any] = self.states[-1]["actuators"]
        return latest

    async def say(self, device_id: str, body: Mapping[str, Any], channel: str = "session") -> None:
        """Send a signed message on a topic of a device; `body` may override every claim."""
        keys = self.keys[device_id]
        topic = f"{self.prefix}/v1/{device_id}/down/{channel}"
        claims = {"iss": "grokmon", "aud": topic, **body}
        await self.publish(topic, jwt.encode(claims, keys.sign_key, algorithm=keys.algorithm).encode())

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish any bytes, be it what was sent before."""
        if self._link is None:
            raise RuntimeError("the hub is not started")
        self.sent.append((topic, payload))
        await self._link.publish(topic, payload)

    def _received(self, topic: str, payload: bytes, _retain: bool) -> None:
        _, _, device_id, _, channel = topic.removeprefix(self.prefix).split("/")
        if channel == "status":
            self.statuses.append((device_id, payload))
        elif channel == "hello" or self.last.get(topic) != payload:
            try:
                self._accept(device_id, channel, self._verify(device_id, topic, payload))
                self.last[topic] = payload
                self.arrivals.append(channel)
            except (jwt.InvalidTokenError, KeyError, ValueError) as err:
                self.refused.append((topic, repr(err)))
        self._changed.set()
        self._changed.clear()

    def _verify(self, device_id: str, topic: str, payload: bytes) -> dict[str, Any]:
        keys = self.keys[device_id]
        claims: dict[str, Any] = jwt.decode(
            payload, keys.verify_key, algorithms=[keys.algorithm], audience=topic, issuer=device_id
        )
        return claims

    def _accept(self, device_id: str, channel: str, claims: dict[str, Any]) -> None:
        if channel == "hello":
            self.hellos.append(claims)
            if self.answers:
                self._answer(device_id, claims["boot"])
            return
        boot, sid = self.sessions[device_id]
        if claims["sid"] != sid:
            raise ValueError(f"session unknown for {boot}")
        if claims["seq"] <= self.counters[sid, channel]:
            raise ValueError("replayed")
        self.counters[sid, channel] = claims["seq"]
        {"telemetry": self.readings, "state": self.states, "ack": self.acks}[channel].append(claims)

    def _answer(self, device_id: str, boot: str) -> None:
        known = self.sessions.get(device_id)
        sid = known[1] if known is not None and known[0] == boot else token_urlsafe(12)
        self.sessions[device_id] = boot, sid
        task = asyncio.create_task(self.say(device_id, {"boot": boot, "sid": sid, "time": int(time.time())}))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


def ulid() -> str:
    """Make an identifier of a command."""
    number = int(time.time() * 1000) << 80 | randbits(80)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
