"""Honest devices that number their readings, so that each of them can be found again."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
import contextlib
from dataclasses import dataclass, field
import time
from typing import NoReturn, Self

from tests.demo.fleet import device_of
from tests.demo.installation import Enrolled, Installation
from tests.demo.plan import Node
from tests.device_simulator.device import HonestDevice
from tests.device_simulator.protocol import Metrics

from .observation import WITHIN, History

NUMBER = "power_w"
# The most that the gateway lets any device send: what is counted here is not to be limited.
UNLIMITED = 6000


@dataclass(slots=True)
class Numbering:
    """Hold a device that numbers its readings from 1."""

    device: HonestDevice
    entity_id: str
    also: Metrics = field(default_factory=dict)
    """What goes with every number."""
    taken_at: list[float] = field(default_factory=list)

    @property
    def device_id(self) -> str:
        """Return the device's id."""
        return self.device.identity.device_id

    @property
    def taken(self) -> int:
        """Return how many readings there were so far."""
        return len(self.taken_at)

    @property
    def numbers(self) -> list[float]:
        """Return the numbers of all readings so far."""
        return [float(number + 1) for number in range(self.taken)]

    def shown(self, seen: History) -> float:
        """Return the newest number that was seen, 0 for none."""
        states = seen[self.entity_id]
        return float(states[-1]["state"]) if states else 0.0

    def take(self, count: int = 1) -> None:
        """Take readings."""
        for _ in range(count):
            self.taken_at.append(time.time())
            self.device.take({NUMBER: self.taken, **self.also})

    async def until_taken(self, count: int) -> None:
        """Return once there were so many readings."""
        await self.device.until(lambda: self.taken >= count)


class Traffic:
    """Let devices take readings in turn, each once in a time, from start to stop."""

    def __init__(self, devices: Sequence[Numbering], every: float) -> None:
        self._devices = devices
        self._every = every
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start."""
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    def start(self) -> None:
        """Begin, or go on."""
        self._task = asyncio.create_task(self._send(), name="traffic")

    async def stop(self) -> None:
        """Take no more readings and return once the broker has all of them."""
        await self.pause()
        await drained(device.device for device in self._devices)

    async def pause(self) -> None:
        """Take no more readings."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _send(self) -> NoReturn:
        while True:
            for device in self._devices:
                device.take()
                await asyncio.sleep(self._every / len(self._devices))


async def enrol_numbering(installation: Installation, node: Node) -> Numbering:
    """Enrol a device that numbers its readings; it is not started."""
    enrolled = await installation.enrol(node, rate_limit=UNLIMITED)
    return await numbering(installation, enrolled)


async def numbering(installation: Installation, enrolled: Enrolled) -> Numbering:
    """Return an enrolled device that numbers its readings."""
    entity_ids = await installation.entity_ids()
    device_id = enrolled.node.device_id
    return Numbering(device_of(enrolled, installation.address(device_id)), entity_ids[f"{device_id}/{NUMBER}"])


@contextlib.asynccontextmanager
async def started(devices: Sequence[HonestDevice]) -> AsyncGenerator[None]:
    """Run devices, each of which has a session at the beginning."""
    async with contextlib.AsyncExitStack() as stack:
        for device in devices:
            await stack.enter_async_context(device)
        await in_session(devices)
        yield


async def in_session(devices: Iterable[HonestDevice]) -> None:
    """Wait until every device has a session."""
    async with asyncio.timeout(WITHIN):
        for device in devices:
            await device.session_ready.wait()


async def drained(devices: Iterable[HonestDevice]) -> None:
    """Wait until no device has anything left to deliver."""
    async with asyncio.timeout(WITHIN):
        for device in devices:
            await device.drain()
