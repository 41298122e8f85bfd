"""A short-lived MQTT connection of its own, for what Home Assistant's client does not tell. Blocking.

Home Assistant's client drops the broker's reasons and writes payloads, passwords included, to its debug log.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
import socket
import ssl
from time import monotonic
from typing import Any, Final, Self

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

_KEEPALIVE_S: Final = 60
_STEP_S: Final = 0.05
REFUSED: Final = 0x80
"""Reason codes from here on are refusals (MQTT 5, section 2.4)."""
# Of MQTT 3.1.1, and of 5.
_LOGIN: Final = frozenset({4, 5, 134, 135})


class Protocol(IntEnum):
    """The versions of MQTT."""

    V311 = 4
    V5 = 5


class BrokerError(Exception):
    """The broker did not do what was asked of it. The message names neither a password nor a payload."""


class UnreachableError(BrokerError):
    """There is no broker at that address, or it does not answer."""


class CertificateError(BrokerError):
    """The broker's certificate is not one that we trust for its name, or it is not valid now."""


class RefusedError(BrokerError):
    """The broker refuses the connection; `code` is its reason."""

    def __init__(self, code: int) -> None:
        why = " (wrong user name or password)" if code in _LOGIN else ""
        super().__init__(f"the broker refuses the connection: {code}{why}")
        self.code = code


class ClosedError(BrokerError):
    """The broker closed the connection."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects."""

    username: str
    password: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the broker listens. `tls` is None for a listener without TLS."""

    host: str
    port: int
    tls: ssl.SSLContext | None = field(repr=False, default=None)
    protocol: Protocol = Protocol.V5


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the broker."""

    topic: str
    payload: bytes = field(repr=False)
    retained: bool


class _Client(mqtt.Client):
    """paho, with TLS that waits no longer than the connection, and leaves what is verified to the context."""

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        # paho would wait as long as the keep-alive for a server that says nothing, and fail on a context that does not
        # check names: it calls a function that Python no longer has. The socket brings the time-out of connecting.
        if self._ssl_context is None:
            raise ValueError("no TLS context")
        return self._ssl_context.wrap_socket(tcp_sock, server_hostname=self._host)

    def free(self) -> None:
        """Free every socket: paho leaves two that it wakes itself with to the garbage collector."""
        self._reset_sockets()


class Connection:
    """One MQTT connection, from `with` to the end of the block; the calling thread does all the work.

    Raises UnreachableError, CertificateError, RefusedError or ClosedError.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        client_id: str,
        login: Login | None = None,
        *,
        timeout: float = 5.0,
        clean: bool = True,
    ) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._clean = clean
        self._connected: int | None = None
        self._closed: int | None = None
        self._answers: dict[int, int] = {}
        self._inbox: deque[Received] = deque()
        v5 = endpoint.protocol is Protocol.V5
        self._client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if v5 else clean,
            protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        if endpoint.tls is not None:
            self._client.tls_set_context(endpoint.tls)
        if login is not None:
            self._client.username_pw_set(login.username, login.password)
        self._client.connect_timeout = timeout
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        """Connect, and wait for the broker's answer."""
        try:
            if self._endpoint.protocol is Protocol.V5:
                self._client.connect(self._endpoint.host, self._endpoint.port, _KEEPALIVE_S, clean_start=self._clean)
            else:
                self._client.connect(self._endpoint.host, self._endpoint.port, _KEEPALIVE_S)
        except ssl.SSLCertVerificationError as error:
            raise CertificateError(error.verify_message) from error
        except (OSError, ValueError) as error:
            raise UnreachableError(type(error).__name__) from error
        try:
            self._wait(lambda: self._connected is not None)
        except BrokerError:
            self.close()
            if self._connected is None:
                raise
        if self._connected:
            self.close()
            raise RefusedError(self._connected)
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Disconnect, and free the socket."""
        self._client.disconnect()
        deadline = monotonic() + self._timeout
        while self._closed is None and monotonic() < deadline:
            if not self._loop():
                break
        if self._closed is None:
            self._closed = 0
        self._client.free()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Publish with QoS 1; return the broker's reason code, which under MQTT 3.1.1 is always 0."""
        sent = self._client.publish(topic, payload, 1, retain)
        return self._answer_to(sent.mid)

    def subscribe(self, topic_filter: str) -> int:
        """Subscribe with QoS 1; return the broker's reason code: 1 is granted, REFUSED and above is not."""
        _, mid = self._client.subscribe(topic_filter, 1)
        if mid is None:
            raise ClosedError("the broker closed the connection")
        return self._answer_to(mid)

    def receive(self, seconds: float, wanted: Callable[[Received], bool] = lambda _: True) -> Received | None:
        """Return the next message that is wanted, dropping others, or None when there is none within some seconds."""
        deadline = monotonic() + seconds
        while True:
            while self._inbox:
                if wanted(message := self._inbox.popleft()):
                    return message
            if monotonic() >= deadline:
                return None
            try:
                self._step()
            except ClosedError:
                # What came before the end counts.
                if not self._inbox:
                    raise

    def _answer_to(self, mid: int) -> int:
        self._wait(lambda: mid in self._answers)
        return self._answers.pop(mid)

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline = monotonic() + self._timeout
        while not done():
            if monotonic() >= deadline:
                raise UnreachableError("no answer in time")
            try:
                self._step()
            except ClosedError:
                # Mosquitto 2.0 closes the connection right after it has denied a publish.
                if not done():
                    raise

    def _step(self) -> None:
        if self._closed is not None or not self._loop():
            raise ClosedError("the broker closed the connection")

    def _loop(self) -> bool:
        """Do what there is to do; tell whether the connection is fit for more."""
        try:
            return self._client.loop(_STEP_S) is MQTTErrorCode.MQTT_ERR_SUCCESS
        except Exception:  # noqa: BLE001 - paho raises whatever its parser stumbles over
            return False

    # The callbacks of paho

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._connected = reason.value

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._closed = reason.value

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self._answers[mid] = reason.value

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, reasons: list[Any], _properties: Any) -> None:
        self._answers[mid] = reasons[0].value

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._inbox.append(Received(message.topic, message.payload, message.retain))
