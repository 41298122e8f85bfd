"""Knock on a broker's door with a bare CONNECT packet."""

import asyncio
import contextlib
import ssl

from tests.stack.brokers import Account, Broker

ACCEPTED = 0
#: MQTT 3.1.1 has one code for a bad user name or password, and one for not being authorised.
REFUSED = frozenset({4, 5})

_CONNACK_LENGTH = 4
_ANSWER_WITHIN = 10


async def connect_code(broker: Broker, context: ssl.SSLContext | None, account: Account | None) -> int | None:
    """Return the code that the broker answers with, or nothing where it hangs up."""
    name = broker.host if context is not None else None
    reader, writer = await asyncio.open_connection(broker.host, broker.port, ssl=context, server_hostname=name)
    try:
        writer.write(_connect(account))
        async with asyncio.timeout(_ANSWER_WITHIN):
            answer = await reader.readexactly(_CONNACK_LENGTH)
    except asyncio.IncompleteReadError, ConnectionError:
        return None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return answer[-1]


def _connect(account: Account | None) -> bytes:
    clean_session, has_user, has_password = 0x02, 0x80, 0x40
    flags = clean_session | (has_user | has_password if account else 0)
    body = _text("MQTT") + bytes([4, flags, 0, 60]) + _text("knock")
    if account:
        body += _text(account.username) + _text(account.password)
    # One length byte is enough for what stays below 128 bytes.
    return bytes([0x10, len(body)]) + body


def _text(value: str) -> bytes:
    return len(value).to_bytes(2) + value.encode()
