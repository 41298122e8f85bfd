"""A TLS server of yesterday, to try devices whose TLS library is older than the broker's."""

import asyncio
import ssl
from typing import override

from tests.stack.certificates import Certificates
from tests.stack.ports import LOOPBACK

from .relay import LoopbackServer, carry


class Tls12Relay(LoopbackServer):
    """Put TLS 1.2, and nothing newer, in front of a broker without TLS."""

    def __init__(self, target: int, certificates: Certificates) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificates.certificate, certificates.key)
        super().__init__(context)
        self.versions: set[str] = set()
        self._target = target

    @override
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.versions.add(writer.get_extra_info("ssl_object").version())
        inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, self._target)
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))
