"""The simulated devices on real brokers: connection, session, loss of the broker, floods."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
import time
from typing import Any

from paho.mqtt.enums import MQTTProtocolVersion
import pytest
import pytest_asyncio

from tests.device_simulator.actuators import ActuatorSpec
from tests.device_simulator.attacker import HostileDevice
from tests.device_simulator.attacks import ATTACKS, Scene
from tests.device_simulator.connection import BrokerAddress, BrokerRefusedError, Connection
from tests.device_simulator.credentials import Auth, DeviceIdentity, generate_key_pair, generate_root_key, public_pem
from tests.device_simulator.device import HonestDevice
from tests.device_simulator.fake_hub import FakeHub, HubKeys
from tests.device_simulator.protocol import DeviceProtocol
from tests.device_simulator.signing import derive_keys
from tests.stack.brokers import AmqttBroker, MosquittoBroker
from tests.stack.brokers.base import Broker

DEVICES = tuple(f"tent-{number}" for number in range(1, 31))
HUB, HOSTILE = "homeassistant", "hostile"
DEADLINE = 30.0
ACTUATORS = {
    "lamp": ActuatorSpec(kind="light"),
    "exhaust": ActuatorSpec(kind="fan", safe_percent=20),
    "pump": ActuatorSpec(kind="pump"),
}

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
        async with hub.again() as renewed:
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


@pytest_asyncio.fixture(loop_scope="session")
async def acting(mosquitto: MosquittoBroker, hub: FakeHub, roots: dict[str, str]) -> AsyncGenerator[HonestDevice]:
    """Run a device with outputs that has said what they do."""
    identity = DeviceIdentity.from_root_key("tent-1", roots["tent-1"])
    device = HonestDevice(identity, address(mosquitto, "tent-1"), actuators=ACTUATORS, hello_interval=0.5)
    async with device:
        await hub.until(lambda: bool(hub.states))
        yield device


async def _lamp(hub: FakeHub, *, lease_s: int = 60, **overrides: Any) -> str:
    return await hub.command(
        "tent-1", "set_light_intensity", "lamp", {"intensity_percent": 60}, lease_s=lease_s, **overrides
    )


async def test_carries_out_commands(acting: HonestDevice, hub: FakeHub) -> None:
    """A state first, an answer to each command, and a state when an output ends by itself."""
    driven: list[tuple[str, bool, float | None]] = []
    acting.outputs.on_output = lambda *move: driven.append(move)
    lamp = await hub.ack(await _lamp(hub, lease_s=1))
    dose = await hub.command("tent-1", "trigger_irrigation", "pump", {"amount_ml": 5}, lease_s=60)
    assert (await hub.ack(dose))["actuators"]["pump"]["on"] is True
    assert lamp["actuators"]["lamp"]["lease_left_s"] == 1
    ended = await hub.state(lambda outputs: outputs["lamp"]["reason"] == "lease")
    assert ended["pump"] == {"on": False, "reason": "done"}
    assert driven == [("lamp", True, 60), ("pump", True, None), ("pump", False, None), ("lamp", False, 0)]
    assert hub.arrivals[:2] == ["hello", "state"]
    assert [claims["seq"] for claims in hub.states] == [1, 2, 3]
    assert [claims["seq"] for claims in hub.acks] == [1, 2]
    assert not hub.refused


async def test_says_what_was_done_by_hand(acting: HonestDevice, hub: FakeHub) -> None:
    """At once, and without a lease."""
    acting.by_hand("exhaust", on=True, percent=70)
    outputs = await hub.state(lambda outputs: outputs["exhaust"]["on"])
    assert outputs["exhaust"] == {"on": True, "percent": 70, "reason": "local"}


async def test_states_come_first_after_a_reconnection(acting: HonestDevice, hub: FakeHub) -> None:
    """In the same session, with what is still on; readings follow."""
    cid = await _lamp(hub)
    await hub.ack(cid)
    before = len(hub.arrivals)
    await acting.kick()
    acting.take({"temp_c": 21.0})
    await hub.until(lambda: bool(hub.readings))
    assert hub.arrivals[before:] == ["hello", "state", "telemetry"]
    assert hub.states[-1]["actuators"]["lamp"]["cid"] == cid
    assert (await hub.ack(await hub.command("tent-1", "stop")))["result"] == "done"


async def test_leases_end_without_a_broker(mosquitto: MosquittoBroker, acting: HonestDevice, hub: FakeHub) -> None:
    """And the first thing that a hub hears afterwards is that they did."""
    await hub.ack(await _lamp(hub, lease_s=1))
    ended = asyncio.Event()
    acting.outputs.on_output = lambda _name, on, _percent: None if on else ended.set()
    await mosquitto.kill()
    async with asyncio.timeout(DEADLINE):
        await ended.wait()
        assert not acting.session_ready.is_set()
        await mosquitto.start()
        async with hub.again() as renewed:
            await renewed.until(lambda: bool(renewed.states))
            assert renewed.states[0]["actuators"]["lamp"] == {"on": False, "percent": 0, "reason": "lease"}
            assert not renewed.refused


async def test_a_new_session_switches_nothing(acting: HonestDevice, hub: FakeHub) -> None:
    """The hub sees what is on, and by which command, and stops it."""
    cid = await _lamp(hub)
    await hub.ack(cid)
    await hub.ask_for_hello("tent-1", sid=hub.forget("tent-1"))
    await hub.state(lambda _outputs: hub.states[-1]["sid"] != hub.states[0]["sid"])
    assert hub.states[-1]["actuators"]["lamp"]["cid"] == cid
    assert (await hub.ack(await hub.command("tent-1", "stop")))["actuators"]["lamp"]["on"] is False
    assert acting.counts.sessions == 2


type Ambush = Callable[[HonestDevice, FakeHub, str], Coroutine[Any, Any, Any]]
"""Does something hostile between a device and its hub; takes the device's root key."""


async def _play_back(_acting: HonestDevice, hub: FakeHub, _root: str) -> None:
    topic, payload = next(sent for sent in hub.sent if sent[0].endswith("/command"))
    await hub.publish(topic, payload)


async def _forge(_acting: HonestDevice, hub: FakeHub, _root: str) -> None:
    genuine, hub.keys["tent-1"] = hub.keys["tent-1"], HubKeys.of_root_key(generate_root_key())
    await _lamp(hub)
    hub.keys["tent-1"] = genuine


async def _turn_round(_acting: HonestDevice, hub: FakeHub, root: str) -> None:
    genuine = hub.keys["tent-1"]
    hub.keys["tent-1"] = replace(genuine, sign_key=derive_keys(root)[0])
    await _lamp(hub)
    hub.keys["tent-1"] = genuine


async def _from_an_older_session(_acting: HonestDevice, hub: FakeHub, _root: str) -> None:
    await hub.ask_for_hello("tent-1", sid=(old := hub.forget("tent-1")))
    await hub.until(lambda: hub.states[-1]["sid"] != old)
    await _lamp(hub, sid=old, seq=1000)


async def _in_an_older_session(acting: HonestDevice, hub: FakeHub, _root: str) -> None:
    """Move the device back into its first session by what the hub said then, and play back what it was told in it."""
    answered = next(sent for sent in hub.sent if sent[0].endswith("/session"))
    old = hub.forget("tent-1")
    await hub.ask_for_hello("tent-1", sid=old)
    await hub.until(lambda: hub.states[-1]["sid"] != old)
    hub.answers, hellos = False, len(hub.hellos)
    await acting.kick()
    await hub.until(lambda: len(hub.hellos) > hellos)
    await hub.publish(*answered)
    await acting.until(lambda: acting.protocol.sid == old)
    await _play_back(acting, hub, _root)
    await acting.until(lambda: acting.counts.commands_refused == 1)
    hub.answers = True
    hub.forget("tent-1")
    await hub.ask_for_hello("tent-1", sid=old)
    await hub.until(lambda: "tent-1" in hub.sessions and hub.states[-1]["sid"] == hub.sessions["tent-1"][1])


def _with(**overrides: Any) -> Ambush:
    async def ambush(_acting: HonestDevice, hub: FakeHub, _root: str) -> None:
        await _lamp(hub, **overrides)

    return ambush


@pytest.mark.parametrize(
    "ambush",
    [
        pytest.param(_play_back, id="played_back"),
        pytest.param(_forge, id="forged"),
        pytest.param(_turn_round, id="signed_with_the_key_of_the_other_direction"),
        pytest.param(_with(aud="grokmon/v1/tent-2/down/command"), id="of_another_device"),
        pytest.param(_with(aud="grokmon/v1/tent-1/down/session"), id="of_another_topic"),
        pytest.param(_with(iss="tent-1"), id="of_another_issuer"),
        pytest.param(_with(sid="A" * 16), id="of_no_session"),
        pytest.param(_with(seq=1), id="of_an_old_counter"),
        pytest.param(_from_an_older_session, id="from_an_older_session"),
        pytest.param(_in_an_older_session, id="in_an_older_session"),
    ],
)
async def test_attacks_on_the_way_down_switch_nothing(
    acting: HonestDevice, hub: FakeHub, roots: dict[str, str], ambush: Ambush
) -> None:
    """Whoever can publish on the device's topics gets no answer and moves no output."""
    await hub.ack(await _lamp(hub))
    await hub.ack(await hub.command("tent-1", "stop", "lamp"))
    moves = list(acting.outputs.log)
    async with asyncio.timeout(DEADLINE):
        await ambush(acting, hub, roots["tent-1"])
    # Messages on one topic arrive in order: when this one is answered, all before it were judged.
    answer = await hub.ack(await hub.command("tent-1", "identify"))
    assert answer["result"] == "done"
    assert acting.outputs.log == moves
    assert acting.counts.commands_refused == 1
    assert len(hub.acks) == 3


async def test_a_command_that_comes_too_late_is_rejected(acting: HonestDevice, hub: FakeHub) -> None:
    """It is genuine, and answered; the device asks for the time."""
    await hub.until(lambda: len(hub.hellos) == 1)
    answer = await hub.ack(await _lamp(hub, iat=int(time.time()) - 12))
    assert (answer["result"], answer["reason"]) == ("rejected", "expired")
    await hub.until(lambda: len(hub.hellos) == 2)
    assert acting.outputs.log == []
    assert (await hub.ack(await _lamp(hub)))["result"] == "done"


async def _without_session(device: HonestDevice) -> None:
    await device.until(lambda: not device.session_ready.is_set())


def _keys(roots: dict[str, str]) -> dict[str, HubKeys]:
    return {device_id: HubKeys.of_root_key(root) for device_id, root in roots.items()}
