"""A hostile device: it makes the attacks of the catalogue, and floods, over a broker connection of its own."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
import ipaddress
import itertools
from secrets import token_bytes
import socket
from types import TracebackType
from typing import Self

from .attacks import ATTACKS, Attack, Forgery, Scene
from .connection import BrokerAddress, Connection
from .credentials import DeviceIdentity
from .signing import compact_hs256, to_json

MAX_FLOOD_RATE = 2_000.0
MAX_FLOOD_SECONDS = 120.0
_BATCH_S = 0.02
_DISTINCT = 256


@dataclass(frozen=True, slots=True)
class FloodReport:
    """Tell what a flood really was."""

    sent: int
    seconds: float

    @property
    def rate(self) -> float:
        """Give the messages per second that were reached."""
        return self.sent / self.seconds


class HostileDevice:
    """Publish what should be refused. It attacks brokers on this machine only."""

    def __init__(self, broker: BrokerAddress, client_id: str = "hostile") -> None:
        if not _is_loopback(broker.host):
            raise ValueError(f"{broker.host} is not this machine")
        self.retained_topics: set[str] = set()
        self._broker = broker
        self._client_id = client_id
        self._link: Connection | None = None

    async def start(self) -> None:
        """Connect to the broker."""
        self._link = Connection(self._broker, self._client_id)
        await self._link.open()

    async def stop(self) -> None:
        """Disconnect."""
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def attack(self, attack: Attack, scene: Scene) -> Forgery:
        """Make one attack and return what was published, once the broker has it."""
        forgery = attack.build(scene)
        for genuine in forgery.prelude:
            await self._connection.publish(forgery.topic, genuine)
        await self._connection.publish(forgery.topic, forgery.payload, retain=forgery.retain)
        if forgery.retain:
            self.retained_topics.add(forgery.topic)
        return forgery

    async def attack_all(self, scene: Scene, attacks: Iterable[Attack] = ATTACKS) -> dict[Attack, Forgery]:
        """Make every attack that the scene allows, in the order of the catalogue."""
        return {attack: await self.attack(attack, scene) for attack in attacks if attack.possible(scene)}

    async def clear_retained(self) -> None:
        """Take retained messages back. To who is subscribed this is one more empty message on each topic."""
        while self.retained_topics:
            await self._connection.publish(self.retained_topics.pop(), b"", retain=True)

    async def flood(self, victim: DeviceIdentity, rate: float, seconds: float) -> FloodReport:
        """Publish forged telemetry in the victim's name, at a rate and for a time that are bounded."""
        if not (0 < rate <= MAX_FLOOD_RATE and 0 < seconds <= MAX_FLOOD_SECONDS):
            raise ValueError("a flood has bounds")
        topic = victim.up("telemetry")
        forged = itertools.cycle(_forged(victim, token_bytes(32), count) for count in range(_DISTINCT))
        loop = asyncio.get_running_loop()
        begin, sent = loop.time(), 0
        while (elapsed := loop.time() - begin) < seconds:
            for _ in range(int(elapsed * rate) - sent):
                self._connection.send(topic, next(forged))
                sent += 1
            await asyncio.sleep(_BATCH_S)
        return FloodReport(sent, elapsed)

    @property
    def _connection(self) -> Connection:
        if self._link is None:
            raise RuntimeError("the hostile device is not started")
        return self._link


def _forged(victim: DeviceIdentity, key: bytes, count: int) -> bytes:
    topic = victim.up("telemetry")
    claims = {"iss": victim.device_id, "aud": topic, "sid": "A" * 16, "seq": count + 1, "metrics": {"temp_c": 55.5}}
    return compact_hs256(to_json(claims), key)


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(socket.gethostbyname(host)).is_loopback
