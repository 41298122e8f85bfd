"""A server on loopback that stands between a client and a broker, or in its place."""

from abc import ABC, abstractmethod
import asyncio
import contextlib
import ssl
from typing import Self

from tests.stack.ports import LOOPBACK, free_port


class LoopbackServer(ABC):
    """Listen on a port of loopback for as long as the context lasts."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self._context = context
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port, ssl=self._context)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
            self._end_clients(self._server)
            await self._server.wait_closed()

    def _end_clients(self, server: asyncio.Server) -> None:
        server.close_clients()

    @abstractmethod
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until there are no more."""
    with contextlib.suppress(OSError):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    writer.close()
