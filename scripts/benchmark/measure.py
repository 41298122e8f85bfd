"""The measurements: cost per message, cost of a start, memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
import contextlib
from dataclasses import dataclass
from pathlib import Path
import tempfile
import time
from typing import Any

from tests.device_simulator.connection import BrokerAddress, Connection
from tests.stack.brokers import MosquittoBroker
from tests.stack.home_assistant import HomeAssistant

from .modes import Mode, Wire
from .payloads import Metrics
from .process import cpu_seconds, idle_share, resident_bytes, until_quiet

_WARM_UP = 400
_BREATH = 50
# Everything that is not about MQTT is left out, on both sides, but for what every installation has loaded anyway.
BARE: dict[str, Any] = {
    **dict.fromkeys(("recorder", "history", "logbook", "frontend", "config")),
    "conversation": {},
}


type Scenario = tuple[Callable[[int, Metrics], Wire], Sequence[Metrics]]


@dataclass(frozen=True, slots=True)
class Start:
    """What a start cost: processor seconds and bytes, for so many states."""

    cpu: float
    memory: int
    states: int


class Stand:
    """A Home Assistant and a broker, set up for one mode, to be measured again and again."""

    def __init__(self, mode: Mode, hass: HomeAssistant, broker: MosquittoBroker) -> None:
        self.mode = mode
        self._hass = hass
        self._broker = broker

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, mode: Mode) -> AsyncIterator[Stand]:
        """Set up a mode, and stop Home Assistant again."""
        with tempfile.TemporaryDirectory(prefix="grokmon-bench-") as folder:
            broker = MosquittoBroker(Path(folder) / "broker", None, accounts=["bench"])
            hass = HomeAssistant(Path(folder) / "hass", configuration={**BARE, **mode.configuration()})
            async with broker:
                async with hass:
                    await hass.add_mqtt(broker)
                    await mode.configure(hass)
                yield cls(mode, hass, broker)

    async def costs_per_message(self, scenarios: Mapping[str, Scenario]) -> dict[str, float]:
        """Return the processor time of one message in µs for each scenario, all in one process.

        The messages come as fast as they are taken, dealt to the devices in turn.
        """
        async with self._hass, self._connected() as connection:
            await self._hass.wait_for_mqtt()
            await self.mode.connect(connection)
            costs: dict[str, float] = {}
            for title, (make, reports) in scenarios.items():
                wires = [make(index % self.mode.devices, metrics) for index, metrics in enumerate(reports)]
                await self._cost(connection, wires[:_WARM_UP])
                costs[title] = await self._cost(connection, wires[_WARM_UP:])
            return costs

    async def start(self) -> Start:
        """Return what a start costs, until Home Assistant has nothing left to do."""
        async with self._hass:
            await until_quiet(self._hass.process.pid)
            used = cpu_seconds(self._hass.process.pid)
            memory = resident_bytes(self._hass.process.pid)
            states = len(await self._hass.rest.states())
        return Start(used, memory, states)

    async def announce(self) -> None:
        """Let the devices say before a start what they say at theirs."""
        async with self._connected() as connection:
            await self.mode.connect(connection)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        account = self._broker.accounts["bench"]
        address = BrokerAddress(self._broker.host, self._broker.port, None, account.username, account.password)
        async with Connection(address, "bench", on_message=self.mode.take) as connection:
            yield connection

    async def _cost(self, connection: Connection, wires: Sequence[Wire]) -> float:
        pid = self._hass.process.pid
        await until_quiet(pid)
        idle = await idle_share(pid)
        began, before = time.perf_counter(), cpu_seconds(pid)
        for number, (topic, payload) in enumerate(wires):
            connection.send(topic, payload)
            if number % _BREATH == 0:
                await asyncio.sleep(0)
        await until_quiet(pid)
        used = cpu_seconds(pid) - before - idle * (time.perf_counter() - began)
        return used / len(wires) * 1e6
