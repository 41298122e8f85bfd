"""The honest devices of the demo: they measure their tents and report."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
import contextlib
from dataclasses import dataclass, field
from typing import NoReturn, Self

from tests.device_simulator.connection import BrokerAddress
from tests.device_simulator.device import HonestDevice
from tests.device_simulator.protocol import Metrics
from tests.device_simulator.sensors import Sensors

from .installation import Enrolled
from .plan import Node
from .tents import Tent

_WITHIN = 30


@dataclass(slots=True)
class Member:
    """Hold one device with its sensors and what it last reported."""

    node: Node
    device: HonestDevice
    sensors: Sensors
    tent: Tent
    last: Metrics = field(default_factory=dict)

    def report(self) -> None:
        """Measure the tent and report."""
        self.send(self.sensors.read(self.tent.room))

    def send(self, metrics: Metrics) -> None:
        """Report certain values."""
        self.last = metrics
        self.device.take(metrics)


def device_of(enrolled: Enrolled, address: BrokerAddress) -> HonestDevice:
    """Return the device that was enrolled, not yet started."""
    node = enrolled.node
    return HonestDevice(
        enrolled.identity,
        address,
        firmware=node.firmware,
        model=node.model,
        capabilities=node.metrics,
        actuators=enrolled.actuators,
        mqtt_version=node.mqtt_version,
    )


class Fleet:
    """Let tents live and their devices report, in turn."""

    def __init__(self, devices: Iterable[tuple[Node, HonestDevice]], tents: Mapping[str, Tent], every: float) -> None:
        """Take the devices, the tents by the name of their zone, and the seconds between two reports of a device."""
        self.members = [
            Member(node, device, Sensors(node.metrics, seed), tents[node.zone])
            for seed, (node, device) in enumerate(devices)
            if node.zone is not None
        ]
        self._tents = tents
        self._every = every

    async def __aenter__(self) -> Self:
        """Start the devices and return once each of them has a session."""
        try:
            async with asyncio.timeout(_WITHIN):
                for member in self.members:
                    await member.device.start()
                for member in self.members:
                    await member.device.session_ready.wait()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the devices."""
        await self._stop()

    def member(self, device_id: str) -> Member:
        """Return a device."""
        return next(member for member in self.members if member.node.device_id == device_id)

    @contextlib.asynccontextmanager
    async def reporting(self) -> AsyncGenerator[None]:
        """Report all the time while the context lasts; afterwards everything has been delivered."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.report_for_ever(), name="fleet")
            yield
            task.cancel()
        await self.drain()

    async def report_once(self) -> None:
        """Let each device report, and return when the broker has everything."""
        self._live()
        for member in self.members:
            member.report()
        await self.drain()

    async def report_for_ever(self) -> NoReturn:
        """Let each device report in turn."""
        while True:
            self._live()
            for member in self.members:
                member.report()
                await asyncio.sleep(self._every / len(self.members))

    async def drain(self) -> None:
        """Wait until the broker has everything."""
        async with asyncio.timeout(_WITHIN):
            for member in self.members:
                await member.device.drain()

    def _live(self) -> None:
        for tent in self._tents.values():
            tent.live(self._every)

    async def _stop(self) -> None:
        for member in self.members:
            await member.device.stop()
