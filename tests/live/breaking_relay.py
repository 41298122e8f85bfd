"""A network that breaks in the worst moment: when a device has just said something."""

import asyncio
from collections.abc import Iterator
import contextlib
import ssl
from typing import override

from tests.stack.certificates import Certificates
from tests.stack.ports import LOOPBACK

from .relay import LoopbackServer, carry

_PUBLISH = 0x30


class BreakingRelay(LoopbackServer):
    """Carry MQTT from devices with TLS to a broker without, and lose connections on what it was told to.

    `said` has, for each connection, when and on which channel something was published, and what it was.
    """

    def __init__(self, target: int, certificates: Certificates) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate, certificates.key)
        super().__init__(context)
        self.said: list[list[tuple[float, str, bytes]]] = []
        self._target = target
        self._breaks: Iterator[tuple[str, bool]] = iter(())
        self._next: tuple[str, bool] | None = None

    def break_on(self, channel: str, *, times: int = 1, arrives: bool) -> None:
        """Lose the connection on the next messages of a channel; the broker gets them or not, and confirms none."""
        self._breaks = iter([(channel, arrives)] * times)
        self._next = next(self._breaks)

    @override
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, self._target)
        back = asyncio.create_task(carry(inner_reader, writer))
        said: list[tuple[float, str, bytes]] = []
        self.said.append(said)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                packet, channel, payload = await _packet(reader)
                if channel:
                    said.append((asyncio.get_running_loop().time(), channel, payload))
                if self._next is not None and channel == self._next[0]:
                    arrives = self._next[1]
                    self._next = next(self._breaks, None)
                    back.cancel()
                    if arrives:
                        inner_writer.write(packet)
                    break
                inner_writer.write(packet)
        writer.transport.abort()
        inner_writer.close()
        await asyncio.gather(back, return_exceptions=True)


async def _packet(reader: asyncio.StreamReader) -> tuple[bytes, str, bytes]:
    """Return a packet as it came, and, of what is published with QoS 1, the last level of the topic and the payload."""
    head = await reader.readexactly(2)
    while head[-1] & 0x80:
        head += await reader.readexactly(1)
    size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[1:]))
    body = await reader.readexactly(size)
    if head[0] & 0xF0 != _PUBLISH:
        return head + body, "", b""
    end = 2 + int.from_bytes(body[:2])
    return head + body, body[2:end].decode().rpartition("/")[2], body[end + 2 :]
