"""Rubbish in the name of one device, again and again: a refusal that does not end."""

import asyncio
import contextlib
from datetime import UTC, datetime

from tests.device_simulator.connection import Connection


class Drip:
    """Publish until it is stopped, and count."""

    def __init__(self, connection: Connection, topic: str, every: float) -> None:
        self.count = 0
        self.began = datetime.now(UTC)
        self._connection = connection
        self._topic = topic
        self._every = every
        self._ended = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="drip")

    async def stop(self) -> int:
        """Stop, and return how many messages the broker got in all."""
        self._ended.set()
        await self._task
        return self.count

    async def _run(self) -> None:
        while not self._ended.is_set():
            await self._connection.publish(self._topic, b"drip")
            self.count += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), self._every)
