"""A network that can go dead: connections are accepted, and nothing comes through."""

import asyncio
import contextlib
from typing import Self

from tests.stack.ports import LOOPBACK, free_port


class SilentRelay:
    """Carry bytes to a broker until told to swallow them."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []
        self._silent = False
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close everything."""
        self.drop()
        if self._server is not None:
            self._server.close()
            self._server.abort_clients()
            await self._server.wait_closed()

    def drop(self) -> None:
        """Lose all connections; who connects from now on waits for an answer that never comes."""
        self._silent = True
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._silent:
            # Nothing is read, so nothing is answered; closing the server ends it.
            return
        inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, self._target)
        self._writers += [writer, inner_writer]
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    writer.close()
