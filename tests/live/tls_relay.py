"""A TLS server of yesterday, to try devices whose TLS library is older than the broker's."""

import asyncio
import contextlib
import ssl
from typing import Self

from tests.stack.certificates import Certificates
from tests.stack.ports import LOOPBACK, free_port


class Tls12Relay:
    """Put TLS 1.2, and nothing newer, in front of a broker without TLS."""

    def __init__(self, target: int, certificates: Certificates) -> None:
        self.port = free_port()
        self.versions: set[str] = set()
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.maximum_version = ssl.TLSVersion.TLSv1_2
        self._context.load_cert_chain(certificates.certificate, certificates.key)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port, ssl=self._context)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
            self._server.close_clients()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.versions.add(writer.get_extra_info("ssl_object").version())
        inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, self._target)
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    writer.close()
