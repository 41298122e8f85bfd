"""The simulated devices on real brokers: connection, session, loss of the broker, floods."""

import asyncio
from collections.abc import AsyncGenerator
import time

from paho.mqtt.enums import MQTTProtocolVersion
import pytest
import pytest_asyncio

from tests.device_simulator.attacker import HostileDevice
from tests.device_simulator.attacks import ATTACKS, Scene
from tests.device_simulator.connection import BrokerAddress, BrokerRefusedError, Connection
from tests.device_simulator.credentials import Auth, DeviceIdentity, generate_key_pair, generate_root_key, public_pem
from tests.device_simulator.device import HonestDevice
from tests.device_simulator.fake_hub import FakeHub, HubKeys
from tests.device_simulator.protocol import DeviceProtocol
from tests.stack.brokers import AmqttBroker, MosquittoBroker
from tests.stack.brokers.base import Broker

DEVICES = tuple(f"tent-{number}" for number in range(1, 31))
HUB, HOSTILE = "homeassistant", "hostile"
DEADLINE = 30.0

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def broker_accounts() -> tuple[str, ...]:
    """Return the accounts of this module's devices."""
    return (*DEVICES, HOSTILE)


@pytest.fixture
def roots() -> dict[str, str]:
    """Return a root key for every device."""
    return {device_id: generate_root_key() for device_id in DEVICES}


@pytest_asyncio.fixture(loop_scope="session")
async def hub(mosquitto: MosquittoBroker, roots: dict[str, str]) -> AsyncGenerator[FakeHub]:
    """Run a stand-in for the hub on Mosquitto."""
    async with FakeHub(address(mosquitto, HUB), _keys(roots)) as running:
        yield running


def address(broker: Broker, name: str) -> BrokerAddress:
    """Return how somebody logs in."""
    account, certificates = broker.accounts[name], broker.certificates
    ca_file = certificates.ca if certificates is not None else None
    return BrokerAddress(broker.host, broker.port, ca_file, account.username, account.password)


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
async def test_delivers_with_both_versions_of_mqtt(
    mosquitto: MosquittoBroker, hub: FakeHub, roots: dict[str, str], version: MQTTProtocolVersion
) -> None:
    """Readings arrive in order, and are counted."""
    identity = DeviceIdentity.from_root_key("tent-1", roots["tent-1"])
    async with (
        asyncio.timeout(DEADLINE),
        HonestDevice(identity, address(mosquitto, "tent-1"), mqtt_version=version) as device,
    ):
        for value in range(20):
            assert (await device.publish({"temp_c": float(value)})).delivered
    await hub.until(lambda: len(hub.readings) == 20)
    assert hub.values("tent-1", "temp_c") == list(range(20))
    assert (device.counts.sent, device.counts.acked, device.counts.resent, device.counts.sessions) == (20, 20, 0, 1)


@pytest.mark.parametrize("auth", ["es256", "eddsa"])
async def test_delivers_with_a_key_pair(mosquitto: MosquittoBroker, auth: Auth) -> None:
    """A device with a private key of its own, and a hub with the site's."""
    device_key, site_key = generate_key_pair(auth), generate_key_pair(auth)
    identity = DeviceIdentity("tent-2", auth, up_key=device_key, down_key=public_pem(site_key))
    keys = {"tent-2": HubKeys.of_key_pair(auth, device_key, site_key)}
    async with (
        asyncio.timeout(DEADLINE),
        FakeHub(address(mosquitto, HUB), keys) as hub,
        HonestDevice(identity, address(mosquitto, "tent-2")) as device,
    ):
        await device.publish({"temp_c": 21.0}, meta={"firmware": "v1"})
        await hub.until(lambda: bool(hub.readings))
    assert not hub.refused


async def test_delivers_over_amqtt(amqtt: AmqttBroker, roots: dict[str, str]) -> None:
    """The embedded broker carries the same."""
    identity = DeviceIdentity.from_root_key("tent-1", roots["tent-1"])
    async with (
        asyncio.timeout(DEADLINE),
        FakeHub(address(amqtt, HUB), _keys(roots)) as hub,
        HonestDevice(identity, address(amqtt, "tent-1")) as device,
    ):
        await device.publish({"temp_c": 21.0})
        await hub.until(lambda: bool(hub.readings))
    assert not hub.refused


async def test_loses_nothing_when_the_broker_goes_away(
    mosquitto: MosquittoBroker, hub: FakeHub, roots: dict[str, str]
) -> None:
    """Thirty devices in one process go on measuring while there is no broker, and deliver afterwards."""
    devices = [
        HonestDevice(DeviceIdentity.from_root_key(name, roots[name]), address(mosquitto, name), hello_interval=0.5)
        for name in DEVICES
    ]
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*(device.start() for device in devices))
        await asyncio.gather(*(device.publish({"temp_c": 1.0}) for device in devices))
        await hub.until(lambda: len(hub.readings) == len(devices))
        await mosquitto.kill()
        await asyncio.gather(*(_without_session(device) for device in devices))
        for device in devices:
            device.take({"temp_c": 2.0})
            device.take({"temp_c": 3.0})
        await mosquitto.start()
        async with FakeHub(address(mosquitto, HUB), hub.keys, sessions=hub.sessions, counters=hub.counters) as renewed:
            await asyncio.gather(*(device.drain() for device in devices))
            await renewed.until(lambda: len(renewed.readings) >= 2 * len(devices))
            await asyncio.gather(*(device.stop() for device in devices))
    assert not renewed.refused
    assert all(renewed.values(name, "temp_c") == [2.0, 3.0] for name in DEVICES)
    assert all(device.counts.dropped == 0 and device.counts.sessions == 1 for device in devices)


async def test_tells_why_the_broker_refuses_it(mosquitto: MosquittoBroker) -> None:
    """A wrong password is not silence."""
    account = mosquitto.accounts["tent-1"]
    wrong = BrokerAddress(mosquitto.host, mosquitto.port, address(mosquitto, HUB).ca_file, account.username, "wrong")
    async with asyncio.timeout(DEADLINE), HonestDevice(DeviceIdentity("tent-1", up_key=b"k" * 32), wrong) as device:
        await device.until(lambda: device.last_error is not None)
    assert isinstance(device.last_error, BrokerRefusedError)


async def test_attacks_arrive_as_they_were_built(mosquitto: MosquittoBroker, roots: dict[str, str]) -> None:
    """The broker carries every attack byte by byte; a retained one comes as such to who subscribes later."""
    received: list[tuple[str, bytes, bool]] = []
    insider = DeviceProtocol(DeviceIdentity.from_root_key("tent-1", roots["tent-1"]))
    insider.sid = "A" * 16
    scene = Scene(insider, DeviceIdentity("tent-2"))
    async with asyncio.timeout(DEADLINE), HostileDevice(address(mosquitto, HOSTILE)) as hostile:
        everything = asyncio.Event()

        def note(topic: str, payload: bytes, retain: bool) -> None:
            received.append((topic, payload, retain))
            everything.set()

        async with Connection(address(mosquitto, HUB), "ear", on_message=note) as ear:
            await ear.subscribe("grokmon/v1/+/up/+")
            made = await hostile.attack_all(scene)
            expected = [
                (forgery.topic, payload, False)
                for forgery in made.values()
                for payload in (*forgery.prelude, forgery.payload)
            ]
            while len(received) < len(expected):
                everything.clear()
                await everything.wait()
        assert received == expected
        received.clear()
        everything.clear()
        async with Connection(address(mosquitto, HUB), "late ear", on_message=note) as ear:
            await ear.subscribe("grokmon/v1/+/up/+")
            await everything.wait()
        retained = [(forgery.topic, forgery.payload, True) for forgery in made.values() if forgery.retain]
        assert received == retained
        await hostile.clear_retained()
    assert len(made) == sum(attack.possible(scene) for attack in ATTACKS)


async def test_floods_at_the_rate_that_was_asked_for(
    mosquitto: MosquittoBroker, hub: FakeHub, roots: dict[str, str]
) -> None:
    """A flood is as fast and as long as it says, arrives, and does not verify."""
    async with asyncio.timeout(DEADLINE), HostileDevice(address(mosquitto, HOSTILE)) as hostile:
        began = time.monotonic()
        report = await hostile.flood(DeviceIdentity.from_root_key("tent-1", roots["tent-1"]), rate=500, seconds=1)
        elapsed = time.monotonic() - began
        await hub.until(lambda: len(hub.refused) == report.sent)
    assert not hub.readings
    # A busy machine may not reach the rate, but it is never exceeded.
    assert 100 < report.rate <= 500
    assert report.seconds <= elapsed


async def _without_session(device: HonestDevice) -> None:
    await device.until(lambda: not device.session_ready.is_set())


def _keys(roots: dict[str, str]) -> dict[str, HubKeys]:
    return {device_id: HubKeys.of_root_key(root) for device_id, root in roots.items()}
