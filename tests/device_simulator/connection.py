"""One MQTT connection: paho in a thread of its own, its events on the caller's event loop."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
import socket
import ssl
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

CONNECT_TIMEOUT = 10.0
KEEPALIVE = 30

type MessageCallback = Callable[[str, bytes, bool], None]
"""Takes topic, payload and the retain flag."""


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Say where the broker is and how to log in."""

    host: str
    port: int
    ca_file: Path | None = None
    """The authority that signed the broker's certificate; without one the connection is not encrypted."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)


class BrokerRefusedError(ConnectionError):
    """The broker answered, and said no."""


def _send_at_once(_client: mqtt.Client, _data: Any, opened: Any) -> None:
    """Let an answer not wait until the packet before it was acknowledged (Nagle's algorithm, RFC 896)."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Connection:
    """Carry messages from connect to disconnect; it does not reconnect, a new one is opened instead."""

    def __init__(
        self,
        broker: BrokerAddress,
        client_id: str,
        *,
        protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311,
        will: tuple[str, bytes] | None = None,
        on_message: MessageCallback = lambda _topic, _payload, _retain: None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.is_open = False
        self._broker = broker
        self._on_message = on_message
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._waiting: dict[tuple[str, int], asyncio.Future[None]] = {}
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=protocol, reconnect_on_failure=False
        )
        client.connect_timeout = CONNECT_TIMEOUT
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.ca_file is not None:
            client.tls_set_context(ssl.create_default_context(cafile=broker.ca_file))
        if will is not None:
            client.will_set(*will, qos=1)
        client.on_socket_open = _send_at_once
        client.on_connect = self._paho_connect
        client.on_disconnect = self._paho_disconnect
        client.on_message = self._paho_message
        client.on_publish = self._paho_publish
        client.on_subscribe = self._paho_subscribe

    async def open(self) -> None:
        """Connect and wait for the broker's answer; raise OSError when there is none or a refusal."""
        try:
            await asyncio.to_thread(self._client.connect, self._broker.host, self._broker.port, KEEPALIVE)
            self._client.loop_start()
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._opened
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect if still connected, and end the thread."""
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
        self._lost(ConnectionError("closed"))

    async def __aenter__(self) -> Self:
        """Connect."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self.close()

    async def subscribe(self, topic: str, qos: int = 1) -> None:
        """Subscribe and wait for the broker's answer."""
        result, mid = self._client.subscribe(topic, qos)
        await self._answer("subscribe", result, mid)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1 and wait until the broker has the message."""
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        await self._answer("publish", info.rc, info.mid)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 0 and wait for nothing."""
        self._check(self._client.publish(topic, payload, qos=0).rc)

    async def _answer(self, kind: str, result: MQTTErrorCode, mid: int | None) -> None:
        self._check(result)
        if mid is None:
            raise ConnectionError("no packet was sent")
        # The answer is put on this loop by another thread, so it cannot come before this line.
        self._waiting[kind, mid] = answer = self._loop.create_future()
        try:
            await answer
        finally:
            self._waiting.pop((kind, mid), None)

    def _check(self, result: MQTTErrorCode) -> None:
        if not self.is_open or result is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectionError(mqtt.error_string(result))

    def _paho_connect(
        self, _client: mqtt.Client, _data: Any, _flags: mqtt.ConnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        self._loop.call_soon_threadsafe(self._connected, reason)

    def _paho_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: mqtt.DisconnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        self._loop.call_soon_threadsafe(self._lost, ConnectionError(str(reason)))

    def _paho_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._loop.call_soon_threadsafe(self._on_message, message.topic, bytes(message.payload), message.retain)

    def _paho_publish(self, _client: mqtt.Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._loop.call_soon_threadsafe(self._answered, "publish", mid, reason)

    def _paho_subscribe(
        self, _client: mqtt.Client, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        self._loop.call_soon_threadsafe(self._answered, "subscribe", mid, reasons[0])

    def _connected(self, reason: ReasonCode) -> None:
        if self._opened.done():
            return
        if reason.is_failure:
            self._opened.set_exception(BrokerRefusedError(str(reason)))
        else:
            self.is_open = True
            self._opened.set_result(None)

    def _answered(self, kind: str, mid: int, reason: ReasonCode) -> None:
        answer = self._waiting.get((kind, mid))
        if answer is None or answer.done():
            return
        if reason.is_failure:
            answer.set_exception(BrokerRefusedError(str(reason)))
        else:
            answer.set_result(None)

    def _lost(self, error: ConnectionError) -> None:
        for future in (self._opened, *self._waiting.values()):
            if not future.done():
                future.set_exception(error)
                # Who waits is told; where nobody waits any more there is nobody to complain.
                future.exception()
        if self.is_open:
            self.is_open = False
            self._on_close()
