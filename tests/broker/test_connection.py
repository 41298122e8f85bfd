"""The short-lived connection, with a real Mosquitto and with servers that are none."""

from collections.abc import Generator
import contextlib
import os
from pathlib import Path
import signal
import socket
import ssl
import struct
import threading
from time import monotonic
from unittest.mock import patch

import pytest

from custom_components.grokmon.broker.connection import (
    REFUSED,
    BrokerError,
    CertificateError,
    ClosedError,
    Connection,
    Endpoint,
    Login,
    Protocol,
    Received,
    RefusedError,
    UnreachableError,
)
from custom_components.grokmon.broker.dynamic_security import DynamicSecurity
from custom_components.grokmon.gateway.broker_accounts import disable
from tests.stack.brokers import ADMIN, HOME_ASSISTANT, DynamicMosquittoBroker
from tests.stack.certificates import ensure_certificates
from tests.stack.connections import NOT_AUTHORIZED, is_open
from tests.stack.ports import LOOPBACK, free_port

pytestmark = pytest.mark.usefixtures("socket_enabled")

TOPIC = "grokmon/v1/tent-1/up/telemetry"
BOTH = pytest.mark.parametrize("protocol", list(Protocol), ids=["3.1.1", "5"])
SOON = 0.3
WITHIN = 5.0


@contextlib.contextmanager
def answering(answer: bytes | None) -> Generator[int]:
    """Run a server that says the same to everybody and hangs up, or says nothing at all; yield its port."""
    with socket.create_server((LOOPBACK, 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        client.recv(1024)
                        client.sendall(answer or b"")

        thread = threading.Thread(target=serve, daemon=True)
        if answer is not None:
            thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    if answer is not None:
        thread.join()


def endpoint(broker: DynamicMosquittoBroker, protocol: Protocol = Protocol.V5) -> Endpoint:
    """Return where a broker listens."""
    return Endpoint(broker.host, broker.port, broker.client_context(), protocol)


def connection(
    broker: DynamicMosquittoBroker,
    name: str = HOME_ASSISTANT,
    protocol: Protocol = Protocol.V5,
    *,
    client_id: str | None = None,
    clean: bool = True,
) -> Connection:
    """Return the connection of an account that the broker began with."""
    login = Login(name, broker.accounts[name].password)
    return Connection(endpoint(broker, protocol), client_id or name, login, timeout=WITHIN, clean=clean)


def kick(broker: DynamicMosquittoBroker, name: str) -> None:
    """End the session of an account, as its administrator."""
    DynamicSecurity(endpoint(broker), Login(ADMIN, broker.accounts[ADMIN].password)).execute([disable(name)])


def open_files() -> int:
    """Return how many files and sockets this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@BOTH
async def test_message_goes_round(broker: DynamicMosquittoBroker, protocol: Protocol) -> None:
    """What is published arrives as it was, and everything is closed afterwards."""
    before = open_files()
    with connection(broker, protocol=protocol) as hub, connection(broker, "other", protocol) as device:
        assert hub.subscribe("grokmon/#") < REFUSED
        assert device.publish(TOPIC, b"21.5") < REFUSED
        assert hub.receive(WITHIN) == Received(TOPIC, b"21.5", retained=False)
        assert hub.receive(0) is None
        assert is_open(hub)
        assert is_open(device)
    assert not is_open(hub)
    assert open_files() == before


@BOTH
async def test_retained_message(broker: DynamicMosquittoBroker, protocol: Protocol) -> None:
    """What the broker keeps is told from what arrives just now, and an empty message clears it."""
    with connection(broker, protocol=protocol) as hub:
        assert hub.publish(TOPIC, b"kept", retain=True) < REFUSED
        assert hub.subscribe(TOPIC) < REFUSED
        assert hub.receive(WITHIN) == Received(TOPIC, b"kept", retained=True)
        assert hub.publish(TOPIC, b"", retain=True) < REFUSED
        assert hub.receive(WITHIN) == Received(TOPIC, b"", retained=False)
    with connection(broker, protocol=protocol) as hub:
        assert hub.subscribe(TOPIC) < REFUSED
        assert hub.receive(SOON) is None


async def test_only_what_is_wanted(broker: DynamicMosquittoBroker) -> None:
    """Other messages are dropped, and the wait ends on time."""
    with connection(broker) as hub:
        hub.subscribe("#")
        for payload in (b"one", b"two", b"three"):
            hub.publish(TOPIC, payload)
        found = hub.receive(WITHIN, lambda message: message.payload == b"two")
        assert found == Received(TOPIC, b"two", retained=False)
        began = monotonic()
        assert hub.receive(SOON, lambda message: message.payload == b"one") is None
        assert SOON <= monotonic() - began < WITHIN


@pytest.mark.parametrize(
    "login", [None, Login(HOME_ASSISTANT, "wrong-password"), Login("nobody", "wrong-password")], ids=str
)
@pytest.mark.parametrize(
    ("protocol", "codes"), [(Protocol.V311, {0x86, 0x87}), (Protocol.V5, {0x86, 0x87})], ids=["3.1.1", "5"]
)
async def test_refused(
    broker: DynamicMosquittoBroker, login: Login | None, protocol: Protocol, codes: set[int]
) -> None:
    """A refusal has its reason, names no password, and leaves nothing open."""
    before = open_files()
    with pytest.raises(RefusedError) as refused, Connection(endpoint(broker, protocol), "stranger", login):
        pass
    assert refused.value.code in codes
    assert "wrong-password" not in f"{refused.value} {login!r}"
    assert open_files() == before


@pytest.mark.parametrize("protocol", list(Protocol), ids=["3.1.1", "5"])
async def test_nobody_listens(protocol: Protocol) -> None:
    """Where nobody listens nobody is reached."""
    with (
        pytest.raises(UnreachableError, match="ConnectionRefusedError"),
        Connection(Endpoint(LOOPBACK, free_port(), None, protocol), "x"),
    ):
        pass


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_silent_server(tls: bool) -> None:
    """A server that says nothing is given up in time, and its socket is freed."""
    before = open_files()
    context = ssl.create_default_context() if tls else None
    with answering(None) as port:
        began = monotonic()
        with pytest.raises(UnreachableError), Connection(Endpoint(LOOPBACK, port, context), "x", timeout=SOON):
            pass
        assert monotonic() - began < WITHIN
    assert open_files() == before


@pytest.mark.parametrize(
    "answer", [b"", b"\xff" * 8, b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["hangs up", "nonsense", "HTTP"]
)
async def test_no_broker(answer: bytes) -> None:
    """What is no broker is an error of the broker and no other."""
    before = open_files()
    with (
        answering(answer) as port,
        pytest.raises(BrokerError),
        Connection(Endpoint(LOOPBACK, port), "x", timeout=SOON),
    ):
        pass
    assert open_files() == before


async def test_refused_and_hung_up() -> None:
    """A reason that came right before the end counts."""
    with (
        answering(b"\x20\x03\x00\x87\x00") as port,
        pytest.raises(RefusedError) as refused,
        Connection(Endpoint(LOOPBACK, port), "x", timeout=WITHIN),
    ):
        pass
    assert refused.value.code == NOT_AUTHORIZED


async def test_certificate_of_somebody_else(broker: DynamicMosquittoBroker, tmp_path: Path) -> None:
    """No password goes to a server whose authority is not ours, or that is called otherwise."""
    before = open_files()
    stranger = Endpoint(broker.host, broker.port, ssl.create_default_context())
    with pytest.raises(CertificateError), Connection(stranger, "x", Login("x", "secret")):
        pass
    made = ensure_certificates(tmp_path / "other", ["broker.example"])
    async with DynamicMosquittoBroker(tmp_path / "renamed", made) as renamed:
        with pytest.raises(CertificateError, match="not valid for"), connection(renamed):
            pass
    assert open_files() == before


async def test_session_that_was_ended(broker: DynamicMosquittoBroker) -> None:
    """What came before the end counts; afterwards everything says that it is over."""
    with connection(broker, "other") as device, connection(broker) as hub:
        device.subscribe(TOPIC)
        assert hub.publish(TOPIC, b"the last") < REFUSED
        kick(broker, "other")
        assert device.receive(WITHIN) == Received(TOPIC, b"the last", retained=False)
        with pytest.raises(ClosedError):
            device.receive(WITHIN)
        assert not is_open(device)
        with pytest.raises(ClosedError):
            device.publish(TOPIC, b"too late")
        with pytest.raises(ClosedError):
            device.subscribe(TOPIC)


@pytest.mark.parametrize(("protocol", "code"), [(Protocol.V5, NOT_AUTHORIZED), (Protocol.V311, 0)], ids=["5", "3.1.1"])
async def test_denied_publish(broker: DynamicMosquittoBroker, protocol: Protocol, code: int) -> None:
    """MQTT 5 tells a denial, though the broker hangs up with it; 3.1.1 does not."""
    with connection(broker, ADMIN, protocol) as device:
        assert device.publish(TOPIC, b"denied") == code
    with connection(broker, ADMIN, protocol) as device:
        assert device.subscribe("grokmon/#") >= REFUSED


async def test_session_that_is_kept(broker: DynamicMosquittoBroker) -> None:
    """What waits for a session is there when it is taken up again, and is not when it begins anew."""
    for clean, waiting in ((False, b"queued"), (True, None)):
        with connection(broker, "other", Protocol.V311, clean=False) as device:
            assert device.subscribe(TOPIC) < REFUSED
        with connection(broker) as hub:
            hub.publish(TOPIC, b"queued")
        with connection(broker, "other", Protocol.V311, clean=clean) as device:
            message = device.receive(WITHIN if waiting else SOON)
            assert (message.payload if message else None) == waiting


async def test_no_answer_in_time(broker: DynamicMosquittoBroker) -> None:
    """A broker that stops answering is given up in time."""
    login = Login(HOME_ASSISTANT, broker.accounts[HOME_ASSISTANT].password)
    with Connection(endpoint(broker), "hub", login, timeout=SOON) as hub, broker_asleep(broker):
        began = monotonic()
        with pytest.raises(UnreachableError, match="no answer in time"):
            hub.publish(TOPIC, b"anybody there")
        assert monotonic() - began < WITHIN


@contextlib.contextmanager
def broker_asleep(broker: DynamicMosquittoBroker) -> Generator[None]:
    """Let a broker do nothing for the time of the context."""
    os.kill(broker.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)


async def test_client_that_stumbles(broker: DynamicMosquittoBroker) -> None:
    """Whatever paho makes of what it reads, the connection is over, and its sockets are freed."""
    before = open_files()
    hub = connection(broker)
    with (
        hub,
        patch.object(hub._client, "loop", side_effect=struct.error),
        patch.object(hub._client, "disconnect"),
    ):
        assert not is_open(hub)
        with pytest.raises(ClosedError):
            hub.subscribe(TOPIC)
        hub.close()
        assert open_files() == before
        assert not is_open(hub)
