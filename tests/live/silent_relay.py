"""A network that can go dead: connections are accepted, and nothing comes through."""

import asyncio
from typing import override

from tests.stack.ports import LOOPBACK

from .relay import LoopbackServer, carry


class SilentRelay(LoopbackServer):
    """Carry bytes to a broker until told to swallow them."""

    def __init__(self, target: int) -> None:
        super().__init__()
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []
        self._silent = False

    def drop(self) -> None:
        """Lose all connections; who connects from now on waits for an answer that never comes."""
        self._silent = True
        for writer in self._writers:
            writer.transport.abort()

    @override
    def _end_clients(self, server: asyncio.Server) -> None:
        self.drop()
        server.abort_clients()

    @override
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._silent:
            # Nothing is read, so nothing is answered; closing the server ends it.
            return
        inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, self._target)
        self._writers += [writer, inner_writer]
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))
