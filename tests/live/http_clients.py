"""Clients that speak HTTP as they should not, and what they do to a server's memory."""

import asyncio
from collections.abc import AsyncIterator, Iterable
import contextlib
from dataclasses import dataclass
from pathlib import Path
import re
import time
from typing import Final, Self
import zlib

LOOPBACK: Final = "127.0.0.1"
_END_OF_HEAD: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (?=\d{3} )")
_LONGEST: Final = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and after how long; status 0 is no answer at all."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @classmethod
    def of(cls, received: bytes, seconds: float) -> Self:
        """Take the last answer of what was received: a server may have told to go on before."""
        head, _, body = _STATUS.split(received)[-1].partition(_END_OF_HEAD)
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if ": " in line)
        lower = {name.lower(): value for name, value in headers.items()}
        return cls(int(status.split(" ")[0] or 0), lower, body, seconds)


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    """Return the head of a request with these lines."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: grow.example", *headers, "", "")).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return a chunk of a chunked body; of nothing it is the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def talk(port: int, parts: Iterable[bytes] | AsyncIterator[bytes], *, half_close: bool = False) -> Answer:
    """Send the parts, for as long as the server takes them, and return what came back until it hung up."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    sending = asyncio.create_task(_send(writer, parts, half_close=half_close))
    received = bytearray()
    try:
        async with asyncio.timeout(_LONGEST):
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(65_536):
                    received += piece
                    if _is_complete(received):
                        break
    finally:
        sending.cancel()
        writer.close()
        await asyncio.gather(sending, return_exceptions=True)
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return Answer.of(bytes(received), time.monotonic() - began)


async def _send(
    writer: asyncio.StreamWriter, parts: Iterable[bytes] | AsyncIterator[bytes], *, half_close: bool
) -> None:
    with contextlib.suppress(ConnectionError):
        async for part in _each(parts):
            writer.write(part)
            await writer.drain()
        if half_close:
            writer.write_eof()


async def _each(parts: Iterable[bytes] | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(parts, AsyncIterator):
        async for part in parts:
            yield part
    else:
        for part in parts:
            yield part


def _is_complete(received: bytearray) -> bool:
    lines, end, body = _STATUS.split(bytes(received))[-1].partition(_END_OF_HEAD)
    length = lines.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
    return bool(end) and length.isdigit() and len(body) >= int(length)


def gzip_of_zeros(gibibytes: int = 1) -> bytes:
    """Return what unpacks to so much of nothing, made without ever holding it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    return b"".join(packer.compress(zeros) for _ in range(gibibytes * 1024)) + packer.flush()


class Memory:
    """The memory of a process, in MiB."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    def now(self) -> float:
        """Return what is resident."""
        return self._read("VmRSS:")

    def forget_peak(self) -> None:
        """Begin anew to look for the highest."""
        (self._folder / "clear_refs").write_text("5")

    def peak(self) -> float:
        """Return the highest since then."""
        return self._read("VmHWM:")

    def _read(self, name: str) -> float:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024
