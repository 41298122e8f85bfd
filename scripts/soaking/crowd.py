"""The honest devices of the soak: together they send at one rate, restart, and take up other credentials."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import cycle
from random import Random
from typing import NoReturn

from paho.mqtt.enums import MQTTProtocolVersion

from tests.demo.fleet import device_of
from tests.demo.installation import Enrolled, Installation
from tests.demo.plan import ZONES, Node
from tests.device_simulator.device import HonestDevice

METRICS = ("temp_c", "humidity_percent", "co2_ppm")
RATE_LIMIT = 600
WITHIN = 120.0
LAMP = Node("soak-lamp", "Soak lamp", METRICS, ZONES[0].name, actuators=({"role": "grow_light"},))
_TOGETHER = 10
_BATCH_S = 0.02
# Of messages that the broker has, and Home Assistant has not come to yet.
_BEHIND_S = 2.0
_SLOWEST = 0.1


def nodes(count: int) -> list[Node]:
    """Return so many devices in both tents, some of which sign with a key pair; the last one has a lamp.

    Every other one speaks MQTT 5, which tells it what the broker refuses; MQTT 3.1.1 acknowledges that like anything.
    """
    sensing = [
        Node(
            f"soak-{number}",
            f"Soak {number}",
            METRICS,
            ZONES[number % len(ZONES)].name,
            auth=("es256" if number % 10 == 4 else "eddsa" if number % 10 == 5 else "hs256"),  # noqa: PLR2004
            mqtt_version=(MQTTProtocolVersion.MQTTv311 if number % 2 else MQTTProtocolVersion.MQTTv5),
        )
        for number in range(count - 1)
    ]
    return [*sensing, LAMP]


@dataclass(frozen=True, slots=True)
class Sent:
    """What a device has sent, over all its runs."""

    sent: int = 0
    acked: int = 0
    resent: int = 0
    dropped: int = 0

    def plus(self, other: Sent) -> Sent:
        """Return the sum."""
        return Sent(
            self.sent + other.sent,
            self.acked + other.acked,
            self.resent + other.resent,
            self.dropped + other.dropped,
        )


@dataclass(slots=True)
class Member:
    """One enrolled device: its present run, and what the runs before it have sent."""

    enrolled: Enrolled
    device: HonestDevice
    before: Sent = field(default_factory=Sent)
    left: int = 0
    """Readings that were in its memory when it restarted."""

    @property
    def device_id(self) -> str:
        """Return the device's identifier."""
        return self.enrolled.node.device_id

    @property
    def totals(self) -> Sent:
        """Return what the device has sent so far."""
        counts = self.device.counts
        return self.before.plus(Sent(counts.sent, counts.acked, counts.resent, counts.dropped))

    async def restart_as(self, installation: Installation, enrolled: Enrolled) -> None:
        """Let the device lose its memory and start anew, with these credentials."""
        await self.device.stop()
        self.before, self.left = self.totals, self.left + self.device.protocol.pending
        self.enrolled = enrolled
        self.device = device_of(enrolled, installation.address_of(enrolled))
        await self.device.start()
        async with asyncio.timeout(WITHIN):
            await self.device.session_ready.wait()


class Crowd:
    """Let devices take readings in turn, at one rate for all of them."""

    def __init__(self, installation: Installation, members: Iterable[Member], rate: float) -> None:
        self.installation = installation
        self.members = list(members)
        self.taken = 0
        self.busy_s = 0.0
        self.rate = self.wanted_rate = rate
        self._flowing = asyncio.Event()
        self._random = Random(1)  # noqa: S311 - values of sensors are no secret

    async def send_for_ever(self) -> NoReturn:
        """Take readings whenever the crowd is not paused."""
        loop, turn = asyncio.get_running_loop(), cycle(self.members)
        while True:
            await self._flowing.wait()
            owed, last = 0.0, loop.time()
            while self._flowing.is_set():
                await asyncio.sleep(_BATCH_S)
                now = loop.time()
                self.busy_s += now - last
                # After a stall of this machine nobody catches up: a device would have to keep more than it can.
                owed, last = min(owed + (now - last) * self.rate, len(self.members)), now
                for _ in range(int(owed)):
                    next(turn).device.take(self._measure())
                self.taken += int(owed)
                owed %= 1

    @property
    def acknowledged(self) -> int:
        """Return how many messages the broker has taken so far."""
        return sum(member.totals.acked for member in self.members)

    def pace(self, backlog: int) -> None:
        """Send more slowly while the gateway is behind on a busy machine, and as wanted again when it is not."""
        if backlog > _BEHIND_S * self.rate:
            self.rate = max(self.rate * 0.7, self.wanted_rate * _SLOWEST)
        elif backlog < self.rate:
            self.rate = min(self.rate * 1.2, self.wanted_rate)

    def resume(self) -> None:
        """Take readings from now on."""
        self._flowing.set()

    async def pause(self) -> None:
        """Take none, and return once the broker has all that were taken."""
        self._flowing.clear()
        async with asyncio.timeout(WITHIN):
            for member in self.members:
                await member.device.drain()

    async def in_session(self) -> None:
        """Return once every device has a session."""
        async with asyncio.timeout(WITHIN):
            for member in self.members:
                await member.device.session_ready.wait()

    async def start(self) -> None:
        """Start the devices, some at a time."""
        for first in range(0, len(self.members), _TOGETHER):
            some = self.members[first : first + _TOGETHER]
            for member in some:
                await member.device.start()
            async with asyncio.timeout(WITHIN):
                for member in some:
                    await member.device.session_ready.wait()

    async def stop(self) -> None:
        """Stop the devices."""
        for member in self.members:
            await member.device.stop()

    def _measure(self) -> dict[str, float]:
        return {
            "temp_c": round(self._random.uniform(23.0, 25.0), 2),
            "humidity_percent": round(self._random.uniform(52.0, 58.0), 1),
            "co2_ppm": round(self._random.uniform(700.0, 900.0)),
        }


async def enrol_crowd(installation: Installation, count: int, rate: float) -> Crowd:
    """Enrol so many devices; they are not started."""
    members = []
    for node in nodes(count):
        enrolled = await installation.enrol(node, rate_limit=RATE_LIMIT)
        members.append(Member(enrolled, device_of(enrolled, installation.address_of(enrolled))))
    return Crowd(installation, members, rate)
