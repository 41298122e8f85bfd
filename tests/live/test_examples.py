"""Run the example devices as a person would, against a real Mosquitto with TLS 1.3 and a stand-in for the hub."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
import json
import os
from pathlib import Path
from random import Random
import shutil
import subprocess
import sys
import time
from typing import Any

import jwt
import pytest
import pytest_asyncio

from tests.device_simulator.connection import BrokerAddress
from tests.device_simulator.credentials import generate_root_key
from tests.device_simulator.fake_hub import FakeHub, HubKeys, ulid
from tests.device_simulator.signing import derive_keys
from tests.live.breaking_relay import BreakingRelay
from tests.live.silent_relay import SilentRelay
from tests.live.tls_relay import Tls12Relay
from tests.stack.brokers import MosquittoBroker
from tests.stack.certificates import Certificates, ensure_certificates
from tests.stack.home_assistant import HomeAssistant
from tests.stack.processes import ManagedProcess

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "devices"
DEVICE = "tent-1"
DEADLINE = 20.0
ACTUATORS: dict[str, dict[str, Any]] = {
    "lamp": {"kind": "light", "min_percent": 10, "max_percent": 80},
    "exhaust": {"kind": "fan", "safe_percent": 20},
    "humidifier": {"kind": "switch"},
    "pump": {"kind": "pump", "ml_per_s": 25.0, "max_run_s": 60},
}

pytestmark = pytest.mark.timeout(240)


type Command = tuple[list[str | Path], tuple[str, str]]
"""The program, and how it takes interval and count."""


def _python() -> Command:
    program: list[str | Path] = [sys.executable, "-u", EXAMPLES / "python" / "grokmon_device.py"]
    return program, ("--interval={interval}", "--count={count}")


def _micropython() -> Command:
    bundled = ROOT / ".cache" / "micropython" / "bin" / "micropython"
    program = bundled if bundled.exists() else shutil.which("micropython")
    if program is None:
        pytest.skip("micropython is not installed: scripts/setup brings it")
    return [program, EXAMPLES / "micropython" / "grokmon_device.py"], ("{interval}", "{count}")


@dataclass
class Example:
    """One example device that can be started with settings of its own."""

    command: list[str | Path]
    options: tuple[str, str]
    folder: Path
    settings: dict[str, Any]
    processes: list[ManagedProcess] = field(default_factory=list)

    async def start(self, interval: float = 0.2, count: int = 10_000, **changes: Any) -> ManagedProcess:
        """Start the device; the console goes to the log of the process."""
        file = self.folder / "settings.json"
        file.write_text(json.dumps(self.settings | changes))
        numbers = [text.format(interval=interval, count=count) for text in self.options]
        process = ManagedProcess("device", [*self.command, file, *numbers], log=self.folder / "console.log")
        self.processes.append(process)
        await process.start()
        return process


async def until_logged(process: ManagedProcess, text: str) -> None:
    """Wait until the device has printed something."""
    await until(lambda: text in process.log_tail())


async def until_driven(process: ManagedProcess, *expected: str) -> None:
    """Wait until the device has driven its outputs like this since it turned everything off at start."""
    await until(lambda: driven(process)[: len(expected)] == list(expected))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that a file tells."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 # a file does not tell that it grew
            await asyncio.sleep(0.05)


def driven(process: ManagedProcess) -> list[str]:
    """Give how the device has driven its outputs since it turned everything off at start."""
    lines = process.log.read_text().splitlines()
    return [line.removeprefix("output ").strip() for line in lines if line.startswith("output ")][len(ACTUATORS) :]


@pytest.fixture(params=[_python, _micropython], ids=["python", "micropython"])
def command(request: pytest.FixtureRequest) -> Command:
    """Give the command that runs an example."""
    make: Callable[[], Command] = request.param
    return make()


@pytest.fixture
def root_key() -> str:
    """Make the device's key."""
    return generate_root_key()


@pytest_asyncio.fixture(loop_scope="session")
async def example(
    command: Command, root_key: str, mosquitto: MosquittoBroker, certificates: Certificates, tmp_path: Path
) -> AsyncGenerator[Example]:
    """Prepare the example with the settings that enrolment would show."""
    account = mosquitto.accounts[DEVICE]
    *runs, program = command[0]
    settings = {
        "device_id": DEVICE,
        "prefix": "grokmon",
        "key": root_key,
        "host": "localhost",
        "port": mosquitto.port,
        "username": account.username,
        "password": account.password,
        "ca_file": str(certificates.ca),
    }
    # As on a board: the program, and nothing beside it that is not needed.
    prepared = Example([*runs, shutil.copy(program, tmp_path)], command[1], tmp_path, settings)
    yield prepared
    for process in prepared.processes:
        await process.kill()


@pytest.fixture
def acting(example: Example) -> Example:
    """Give the example outputs, and the file that they need."""
    shutil.copy(EXAMPLES / "grokmon_outputs.py", example.folder)
    example.settings["actuators"] = ACTUATORS
    return example


@pytest_asyncio.fixture(loop_scope="session")
async def hub(mosquitto: MosquittoBroker, certificates: Certificates, root_key: str) -> AsyncGenerator[FakeHub]:
    """Run the stand-in for the hub."""
    async with FakeHub(_hub_address(mosquitto, certificates), {DEVICE: HubKeys.of_root_key(root_key)}) as running:
        yield running


@dataclass
class Breaking:
    """A hub that an example is connected to by a network that breaks when it is told to."""

    hub: FakeHub
    relay: BreakingRelay

    def said(self, *channels: str) -> list[bytes]:
        """Give what the device has published on these channels, through all connections."""
        return [payload for said in self.relay.said for _, channel, payload in said if channel in channels]


@pytest_asyncio.fixture(loop_scope="session")
async def breaking(
    example: Example, certificates: Certificates, root_key: str, tmp_path: Path
) -> AsyncGenerator[Breaking]:
    """Put a network that breaks between the example and its broker."""
    async with MosquittoBroker(tmp_path / "broker", None, accounts=[DEVICE]) as plain:
        relay, keys = BreakingRelay(plain.port, certificates), {DEVICE: HubKeys.of_root_key(root_key)}
        async with relay, FakeHub(_hub_address(plain, None), keys) as hub:
            device = plain.accounts[DEVICE]
            example.settings |= {"port": relay.port, "username": device.username, "password": device.password}
            yield Breaking(hub, relay)
            # Not the other way round: a device that comes back would keep the relay open.
            for process in example.processes:
                await process.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(home_assistant: HomeAssistant) -> HomeAssistant:
    """Run the integration itself, in a Home Assistant."""
    await home_assistant.config_flows.walk("grokmon", {})
    return home_assistant


def _hub_address(mosquitto: MosquittoBroker, certificates: Certificates | None) -> BrokerAddress:
    account, authority = mosquitto.accounts["homeassistant"], certificates.ca if certificates else None
    return BrokerAddress(mosquitto.host, mosquitto.port, authority, account.username, account.password)


_CHECK = """
import json, sys
from grokmon_device import sign, verify
key, token = bytes(range(32)), sys.argv[1].encode()
altered = token[:-1] + (b"A" if token[-1:] != b"A" else b"B")
print(json.dumps([
    sign({"metrics": {"temp_c": 21.5}, "note": "\u00e9"}, key).decode(),
    verify(token, key, "topic"),
    verify(token, key, "another topic"),
    verify(token, bytes(32), "topic"),
    verify(altered, key, "topic"),
    verify(token + b"=", key, "topic"),
    verify(b"", key, "topic"),
    verify(token.replace(b".", b"", 1), key, "topic"),
]))
"""


def test_signs_and_verifies_as_a_jwt_library_does(command: Command, tmp_path: Path) -> None:
    """The few lines of the examples agree with PyJWT, and take nothing that it would not."""
    program, example = command[0][0], Path(command[0][-1])
    key, claims = bytes(range(32)), {"iss": "grokmon", "aud": "topic", "time": 1_763_850_000}
    check = tmp_path / "check.py"
    check.write_text(_CHECK)
    search = {"PYTHONPATH": str(example.parent), "MICROPYPATH": str(example.parent)}
    ran = subprocess.run(  # noqa: S603 - our own example
        [program, check, jwt.encode(claims, key, algorithm="HS256")],
        env=os.environ | search,
        capture_output=True,
        check=True,
        timeout=DEADLINE,
    )
    token, genuine, *others = json.loads(ran.stdout)
    assert jwt.decode(token, key, algorithms=["HS256"]) == {"metrics": {"temp_c": 21.5}, "note": "\u00e9"}
    assert genuine == claims
    assert others == [None] * 6


async def test_hello_session_and_signed_readings(example: Example, hub: FakeHub) -> None:
    """A device says hello, and every reading is signed, counted and complete; its end is announced by the broker."""
    process = await example.start(interval=0.05, count=5)
    assert await process.wait() == 0

    await hub.until(lambda: bool(hub.statuses))
    assert [claims["seq"] for claims in hub.readings] == [1, 2, 3, 4, 5]
    assert {frozenset(claims["metrics"]) for claims in hub.readings} == {frozenset({"temp_c", "humidity_percent"})}
    assert len(hub.hellos) == 1
    assert hub.hellos[0]["firmware"] == "v1.0.0"
    assert len(hub.hellos[0]["boot"]) == 22
    assert not hub.refused
    assert hub.statuses == [(DEVICE, b"offline")]


async def test_resends_after_the_hub_lost_the_session(example: Example, hub: FakeHub) -> None:
    """What went to a hub that had forgotten the session comes again in order, with its time, under the new session."""
    await example.start()
    await hub.until(lambda: len(hub.readings) >= 5)
    lost = hub.forget(DEVICE)
    await hub.until(lambda: len(hub.refused) >= 5)
    await hub.ask_for_hello(DEVICE, sid=lost)
    await hub.until(lambda: DEVICE in hub.sessions)
    renewed = hub.sessions[DEVICE][1]
    await hub.until(lambda: len(_under(hub, renewed)) > 15)

    first, second = _under(hub, lost), _under(hub, renewed)
    assert renewed != lost
    assert hub.hellos[0]["boot"] == hub.hellos[1]["boot"]
    counters = [claims["seq"] for claims in first + second]
    assert counters == sorted(set(counters))
    assert [_what(claims) for claims in second[: len(first)]] == [_what(claims) for claims in first]
    assert [claims["ts"] for claims in second] == sorted(claims["ts"] for claims in second)


async def test_goes_on_in_the_session_that_the_hub_still_has(example: Example, hub: FakeHub) -> None:
    """At its start the hub asks everybody; a device whose session it kept goes on counting."""
    await example.start()
    await hub.until(lambda: len(hub.readings) >= 3)
    await hub.ask_for_hello(DEVICE, at=int(time.time()) + 2)
    await hub.until(lambda: len(hub.hellos) == 2)
    before = len(hub.readings)
    await hub.until(lambda: len(hub.readings) > before + 3)
    assert [claims["seq"] for claims in hub.readings] == list(range(1, len(hub.readings) + 1))
    assert not hub.refused


async def test_ignores_what_the_hub_did_not_say(example: Example, hub: FakeHub) -> None:
    """Forged, misdirected and old requests change nothing."""
    process = await example.start()
    await hub.until(lambda: len(hub.readings) >= 2)
    boot, sid = hub.sessions[DEVICE]
    now, far = int(time.time()), int(time.time()) + 1000
    genuine = hub.keys[DEVICE]
    hub.keys[DEVICE] = HubKeys.of_root_key(generate_root_key())
    await hub.ask_for_hello(DEVICE, sid=sid)
    await until_logged(process, "not Home Assistant's")
    hub.keys[DEVICE] = genuine
    await hub.say(DEVICE, {"hello": True, "time": far, "iss": "somebody"})
    await hub.say(DEVICE, {"hello": True, "time": far, "aud": "grokmon/v1/tent-2/down/session"})
    await hub.ask_for_hello(DEVICE, sid="A" * 16)
    await hub.ask_for_hello(DEVICE, at=now - 60)
    await hub.say(DEVICE, {"boot": boot, "sid": "B" * 16, "time": far})

    before = len(hub.readings)
    await hub.until(lambda: len(hub.readings) > before + 5)
    assert {claims["sid"] for claims in hub.readings} == {sid}
    assert len(hub.hellos) == 1
    assert process.log_tail().count("not Home Assistant's") == 3


async def test_waits_for_an_answer_of_its_own_start(example: Example, hub: FakeHub) -> None:
    """Without an answer a device repeats the hello, takes none for another start, and then sends what it kept."""
    hub.answers = False
    await example.start()
    await hub.until(lambda: len(hub.hellos) == 1)
    await hub.say(DEVICE, {"boot": "C" * 22, "sid": "C" * 16, "time": int(time.time())})
    hub.answers = True
    await hub.until(lambda: len(hub.readings) > 20)
    assert not hub.refused
    assert Counter(claims["boot"] for claims in hub.hellos) == {hub.sessions[DEVICE][0]: 2}
    assert [claims["seq"] for claims in hub.readings] == list(range(1, len(hub.readings) + 1))


async def test_reconnects_when_the_broker_comes_back(
    example: Example, hub: FakeHub, mosquitto: MosquittoBroker
) -> None:
    """Nothing that was measured while the broker was away is lost."""
    process = await example.start()
    await hub.until(lambda: len(hub.readings) >= 3)
    await mosquitto.kill()
    await until_logged(process, "no connection")
    await mosquitto.start()
    async with hub.again() as renewed:
        await renewed.until(lambda: len(renewed.readings) > 5)
        counters = [claims["seq"] for claims in hub.readings + renewed.readings]
    assert counters == sorted(set(counters))


async def test_says_hello_once_for_each_connection(example: Example, breaking: Breaking) -> None:
    """Whatever became of the earlier ones, and no sooner than it may: a broker that lets go is not flooded."""
    breaking.relay.break_on("hello", times=2, arrives=False)
    await example.start()
    await breaking.hub.until(lambda: len(breaking.hub.readings) > 3)
    times = [[at for at, channel, _ in said if channel == "hello"] for said in breaking.relay.said]
    assert [len(each) for each in times] == [1, 1, 1]
    assert all(later - earlier > 3 for (earlier,), (later,) in pairwise(times))
    assert len(breaking.hub.hellos) == 1


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_reading_counts_once_however_the_connection_broke(
    example: Example, breaking: Breaking, arrives: bool
) -> None:
    """What the broker did not confirm is sent again as the same bytes."""
    breaking.relay.break_on("telemetry", arrives=arrives)
    await example.start()
    await breaking.hub.until(lambda: len(breaking.hub.readings) > 5)
    first, again, *others = breaking.said("telemetry")
    assert again == first not in others
    counters = [claims["seq"] for claims in breaking.hub.readings]
    assert counters == list(range(1, len(counters) + 1))
    assert not breaking.hub.refused


async def test_refuses_a_broker_of_another_authority(example: Example, hub: FakeHub, tmp_path: Path) -> None:
    """A device that was given another authority's certificate does not say a word to this broker."""
    other = ensure_certificates(tmp_path / "other")
    process = await example.start(ca_file=str(other.ca))
    await until_logged(process, "no connection")
    assert "certificate" in process.log_tail().lower()
    assert not hub.hellos


async def test_refuses_a_broker_of_another_name(example: Example, tmp_path: Path) -> None:
    """A certificate of the right authority for another host is not enough."""
    named = ensure_certificates(tmp_path / "named", ["elsewhere.example"])
    async with MosquittoBroker(tmp_path / "broker", named, accounts=[DEVICE]) as broker:
        process = await example.start(port=broker.port, ca_file=str(named.ca))
        await until_logged(process, "no connection")
        assert "match" in process.log_tail()


async def test_takes_an_address_instead_of_a_name(example: Example, hub: FakeHub) -> None:
    """The address is checked against the certificate as a name would be."""
    await example.start(host="127.0.0.1")
    await hub.until(lambda: bool(hub.readings))


async def test_speaks_tls_1_2_where_the_other_side_has_nothing_newer(
    example: Example, certificates: Certificates, root_key: str, tmp_path: Path
) -> None:
    """A board's TLS library may end at 1.2: the example does not depend on what came later."""
    async with MosquittoBroker(tmp_path / "broker", None, accounts=[DEVICE]) as plain:
        relay = Tls12Relay(plain.port, certificates)
        account, device = plain.accounts["homeassistant"], plain.accounts[DEVICE]
        address = BrokerAddress(plain.host, plain.port, None, account.username, account.password)
        async with relay, FakeHub(address, {DEVICE: HubKeys.of_root_key(root_key)}) as hub:
            await example.start(port=relay.port, username=device.username, password=device.password)
            await hub.until(lambda: bool(hub.readings))
        assert relay.versions == {"TLSv1.2"}


async def test_tells_that_the_broker_refuses_the_password(example: Example, hub: FakeHub) -> None:
    """A wrong password is told on the console."""
    process = await example.start(password="wrong")
    await until_logged(process, "the broker refuses")
    assert not hub.hellos


async def test_readings_become_states_of_home_assistant(
    example: Example, gateway: HomeAssistant, request: pytest.FixtureRequest
) -> None:
    """With the key of its enrolment the example talks to the integration itself."""
    device_id = f"example-{request.node.callspec.id}"
    choices = {"device_id": device_id, "name": device_id, "metrics": ["temp_c", "humidity_percent"]}
    enrolled = await gateway.rest.call_service("grokmon", "enroll_device", choices, return_response=True)
    await example.start(device_id=device_id, key=enrolled["key"])
    entity_id = f"sensor.{device_id.replace('-', '_')}_air_temperature"
    state = await gateway.wait_for_state(entity_id, lambda found: found["state"] not in {"unknown", "unavailable"}, 20)
    assert 20 < float(state["state"]) < 30


async def test_commands_of_home_assistant_are_carried_out(
    acting: Example, gateway: HomeAssistant, request: pytest.FixtureRequest
) -> None:
    """The full circle with the integration itself: service, command, output, answer, state, and off again."""
    device_id = f"acting-{request.node.callspec.id}"
    choices = {"device_id": device_id, "name": device_id, "actuators": [{"role": "exhaust"}, {"role": "irrigation"}]}
    enrolled = await gateway.rest.call_service("grokmon", "enroll_device", choices, return_response=True)
    settings = {"device_id": device_id, "key": enrolled["key"], "actuators": enrolled["actuators"]}
    process = await acting.start(**settings)
    fan = f"fan.{device_id.replace('-', '_')}_exhaust_fan"
    await gateway.wait_for_state(fan, lambda found: found["state"] == "off", 20)
    await gateway.rest.call_service("fan", "set_percentage", {"entity_id": fan, "percentage": 40})
    state = await gateway.wait_for_state(fan, lambda found: found["state"] == "on", 20)
    assert state["attributes"]["percentage"] == 40
    await until_logged(process, "output exhaust on 40")
    await gateway.rest.call_service("grokmon", "irrigate", {"device_id": device_id, "amount_ml": 25})
    await until_logged(process, "output irrigation on")
    pump = f"switch.{device_id.replace('-', '_')}_irrigation_pump"
    await gateway.wait_for_state(pump, lambda found: found["state"] == "off", 20)
    await gateway.rest.call_service("grokmon", "stop", {"device_id": device_id})
    await gateway.wait_for_state(fan, lambda found: found["state"] == "off", 20)
    assert "exhaust off 0" in driven(process)[-2:]


async def test_says_what_its_outputs_do_before_anything_else(acting: Example, hub: FakeHub) -> None:
    """A state is the first message of the session, and everything is off."""
    await acting.start(interval=0.05)
    await hub.until(lambda: bool(hub.readings))
    assert hub.arrivals[:2] == ["hello", "state"]
    assert hub.states[0]["seq"] == 1
    assert {name: state["on"] for name, state in hub.states[0]["actuators"].items()} == dict.fromkeys(ACTUATORS, False)
    assert not hub.refused


async def test_carries_out_commands_and_answers(acting: Example, hub: FakeHub) -> None:
    """Command, output, answer; and when the lease runs out, the output's end and a state that says why."""
    process = await acting.start()
    await hub.until(lambda: bool(hub.states))
    lamp = await hub.ack(await _lamp(hub, lease_s=1))
    fan = await hub.ack(await hub.command(DEVICE, "set_fan_speed", "exhaust", {"speed_percent": 90}, lease_s=60))
    assert (lamp["seq"], lamp["result"], fan["seq"], fan["result"]) == (1, "done", 2, "done")
    assert lamp["actuators"]["lamp"] == {
        "on": True, "percent": 50, "reason": "command", "lease_left_s": 1, "cid": lamp["cid"]
    }  # fmt: skip
    ended = await hub.state(lambda outputs: outputs["lamp"]["reason"] == "lease")
    assert ended["lamp"] == {"on": False, "percent": 0, "reason": "lease"}
    assert ended["exhaust"]["cid"] == fan["cid"]
    stopped = await hub.ack(await hub.command(DEVICE, "stop"))
    assert stopped["actuators"]["exhaust"] == {"on": True, "percent": 20, "reason": "stopped"}
    moves = driven(process)
    assert sorted(moves[:3]) == ["exhaust on 90", "lamp off 0", "lamp on 50"]
    # A dictionary of MicroPython has no order.
    assert sorted(moves[3:]) == ["exhaust on 20", "humidifier off", "lamp off 0", "pump off"]
    assert not hub.refused


async def test_rejects_what_it_should_not_do(acting: Example, hub: FakeHub) -> None:
    """The answer has the reason, and no output moves."""
    process = await acting.start()
    await hub.until(lambda: bool(hub.states))
    wrong: list[tuple[str, str, dict[str, Any], int | None, str]] = [
        ("set_light_intensity", "lamp", {"intensity_percent": 50}, None, "invalid"),
        ("set_light_intensity", "lamp", {"intensity_percent": 90}, 60, "limit"),
        ("trigger_irrigation", "pump", {"amount_ml": -500}, 60, "invalid"),
        ("set_switch", "humidifier", {"on": 1}, 60, "invalid"),
        ("set_switch", "moon", {"on": True}, 60, "unknown_actuator"),
        ("open", "lamp", {}, 60, "unknown_action"),
        ("renew", "lamp", {"of": ulid()}, 60, "not_running"),
    ]
    for action, actuator, params, lease_s, reason in wrong:
        answer = await hub.ack(await hub.command(DEVICE, action, actuator, params, lease_s=lease_s))
        assert (answer["result"], answer["reason"]) == ("rejected", reason)
    assert driven(process) == []


async def test_a_renewal_keeps_it_on(acting: Example, hub: FakeHub) -> None:
    """As long as it comes, under the identifier of the command in force."""
    process = await acting.start()
    await hub.until(lambda: bool(hub.states))
    cid = await _lamp(hub, lease_s=1)
    answer = await hub.ack(await hub.command(DEVICE, "renew", "lamp", {"of": cid}, lease_s=300))
    assert answer["actuators"]["lamp"]["cid"] == cid
    assert answer["actuators"]["lamp"]["lease_left_s"] == 300
    assert driven(process) == ["lamp on 50"]


async def test_a_dose_ends_by_the_pump_s_own_timer(acting: Example, hub: FakeHub) -> None:
    """Long before its lease, with nobody's help."""
    process = await acting.start()
    await hub.until(lambda: bool(hub.states))
    command = await hub.command(DEVICE, "trigger_irrigation", "pump", {"amount_ml": 25}, lease_s=60)
    assert (await hub.ack(command))["actuators"]["pump"]["on"] is True
    began = time.monotonic()
    await until_driven(process, "pump on", "pump off")
    assert time.monotonic() - began < 3
    assert (await hub.state(lambda outputs: outputs["pump"]["reason"] == "done"))["pump"]["on"] is False


async def test_leases_end_when_the_broker_is_gone(acting: Example, hub: FakeHub, mosquitto: MosquittoBroker) -> None:
    """Nobody has to tell a device to turn off; afterwards it says what happened, and switches nothing on again."""
    process = await acting.start()
    await hub.until(lambda: bool(hub.states))
    await hub.ack(await _lamp(hub, lease_s=3))
    await hub.ack(await hub.command(DEVICE, "trigger_irrigation", "pump", {"amount_ml": 25}, lease_s=60))
    await mosquitto.kill()
    began = time.monotonic()
    await until_driven(process, "lamp on 50", "pump on", "pump off", "lamp off 0")
    assert 1 < time.monotonic() - began < 6
    await mosquitto.start()
    async with hub.again() as renewed:
        await renewed.until(lambda: bool(renewed.states))
        assert renewed.states[0]["actuators"]["lamp"] == {"on": False, "percent": 0, "reason": "lease"}
        assert renewed.states[0]["actuators"]["pump"] == {"on": False, "reason": "done"}
        assert renewed.states[0]["sid"] == hub.states[0]["sid"]
        assert (await renewed.ack(await _lamp(renewed, lease_s=60)))["result"] == "done"
    assert not renewed.refused


@pytest.mark.parametrize("arrives", [True, False])
async def test_an_answer_counts_once_however_the_connection_broke(
    acting: Example, breaking: Breaking, arrives: bool
) -> None:
    """It is sent again as the same bytes, and before the state, which is true by then."""
    hub, relay = breaking.hub, breaking.relay
    await acting.start(interval=60)
    await hub.until(lambda: bool(hub.readings))
    relay.break_on("ack", arrives=arrives)
    cid = await _lamp(hub, lease_s=1)
    ended = await hub.state(lambda outputs: outputs["lamp"]["reason"] == "lease")
    assert (await hub.ack(cid))["actuators"]["lamp"]["on"] is True
    assert ended["lamp"]["on"] is False
    first, again = breaking.said("ack")
    assert again == first
    assert [channel for _, channel, _ in relay.said[1]][:3] == ["hello", "ack", "state"]
    assert len(hub.acks) == 1
    assert not hub.refused


async def test_a_state_is_made_anew_however_the_connection_broke(acting: Example, breaking: Breaking) -> None:
    """What was true then need not be true now."""
    hub, relay = breaking.hub, breaking.relay
    relay.break_on("state", arrives=False)
    await acting.start(interval=60)
    await hub.until(lambda: bool(hub.readings))
    await hub.ack(await _lamp(hub, lease_s=60))
    assert [channel for _, channel, _ in relay.said[1]] == ["hello", "state", "telemetry", "ack"]
    assert [claims["seq"] for claims in hub.states] == [2]
    assert not hub.refused


async def test_an_answer_is_of_no_use_in_another_session(acting: Example, breaking: Breaking) -> None:
    """It was given to a command of a session that is no more."""
    hub, relay = breaking.hub, breaking.relay
    await acting.start(interval=60)
    await hub.until(lambda: bool(hub.readings))
    relay.break_on("ack", arrives=False)
    hub.answers = False
    await _lamp(hub, lease_s=60)
    await hub.until(lambda: bool(hub.statuses))
    hub.forget(DEVICE)
    hub.answers = True
    await hub.until(lambda: len(hub.states) > 1)
    await hub.ack(await hub.command(DEVICE, "stop"))
    assert len(breaking.said("ack")) == 2
    assert [claims["seq"] for claims in hub.acks] == [2]
    assert not hub.refused


async def test_leases_end_when_the_network_swallows_everything(acting: Example, hub: FakeHub) -> None:
    """Also while the program waits for a broker whose machine does not answer any more."""
    relay = SilentRelay(acting.settings["port"])
    async with relay:
        process = await acting.start(port=relay.port)
        await hub.until(lambda: bool(hub.states))
        await hub.ack(await _lamp(hub, lease_s=2))
        await hub.ack(await hub.command(DEVICE, "trigger_irrigation", "pump", {"amount_ml": 25}, lease_s=60))
        began = time.monotonic()
        relay.drop()
        await until_driven(process, "lamp on 50", "pump on", "pump off", "lamp off 0")
        assert time.monotonic() - began < 4


async def test_a_hub_that_forgot_the_session_switches_nothing(acting: Example, hub: FakeHub) -> None:
    """What is on stays on until its lease ends: the hub sees the state and stops what nobody asked for."""
    process = await acting.start()
    await hub.until(lambda: bool(hub.states))
    cid = await _lamp(hub, lease_s=60)
    await hub.ack(cid)
    await hub.ask_for_hello(DEVICE, sid=hub.forget(DEVICE))
    await hub.until(lambda: DEVICE in hub.sessions and hub.states[-1]["sid"] == hub.sessions[DEVICE][1])
    assert hub.states[-1]["seq"] > hub.states[0]["seq"]
    assert hub.states[-1]["actuators"]["lamp"]["cid"] == cid
    assert (await hub.ack(await hub.command(DEVICE, "stop", "lamp")))["result"] == "done"
    assert driven(process) == ["lamp on 50", "lamp off 0"]


async def test_commands_that_are_not_new_and_genuine_change_nothing(
    acting: Example, hub: FakeHub, root_key: str
) -> None:
    """Played back, forged, for another topic, of another session: no output moves, and there is no answer."""
    process = await acting.start()
    await hub.until(lambda: bool(hub.states))
    await hub.ack(await _lamp(hub, lease_s=60))
    topic, recorded = hub.sent[-1]
    await hub.ack(await hub.command(DEVICE, "stop", "lamp"))

    await hub.publish(topic, recorded)
    genuine = hub.keys[DEVICE]
    hub.keys[DEVICE] = HubKeys.of_root_key(generate_root_key())
    await _lamp(hub, lease_s=60)
    # A device's own key signs the other direction.
    hub.keys[DEVICE] = replace(genuine, sign_key=derive_keys(root_key)[0])
    await _lamp(hub, lease_s=60)
    hub.keys[DEVICE] = genuine
    await _lamp(hub, lease_s=60, aud=topic.replace(DEVICE, "tent-2"))
    await _lamp(hub, lease_s=60, aud=topic.replace("command", "session"))
    await _lamp(hub, lease_s=60, iss="somebody")
    await _lamp(hub, lease_s=60, sid="A" * 16)
    await _lamp(hub, lease_s=60, seq=1)

    # Commands are taken in order: when this one is answered, the others have been judged.
    assert (await hub.ack(await hub.command(DEVICE, "identify")))["result"] == "done"
    assert [claims["seq"] for claims in hub.acks] == [1, 2, 3]
    assert driven(process) == ["lamp on 50", "lamp off 0"]
    assert process.log_tail().count("not Home Assistant's") == 5


async def test_a_command_that_comes_too_late_is_rejected(acting: Example, hub: FakeHub) -> None:
    """The device asks what time it is, in case that its own clock is wrong."""
    process = await acting.start()
    await hub.until(lambda: bool(hub.states))
    answer = await hub.ack(await _lamp(hub, lease_s=60, iat=int(time.time()) - 12))
    assert (answer["result"], answer["reason"]) == ("rejected", "expired")
    await hub.until(lambda: len(hub.hellos) == 2)
    assert hub.hellos[0]["boot"] == hub.hellos[1]["boot"]
    assert driven(process) == []
    assert (await hub.ack(await _lamp(hub, lease_s=60)))["result"] == "done"


# The same steps on any Python, told by what comes out. Dictionaries of MicroPython have no order: moves are sorted.
_REPLAY = """
import json, sys
from grokmon_outputs import Outputs
with open(sys.argv[1]) as file:
    script = json.load(file)
now, moves = [0], []
def note(*move):
    moves.append(move)
outputs = Outputs(script["actuators"], note, lambda: note("here"), lambda: now[0])
for wait, method, arguments in script["steps"]:
    now[0] += wait
    moves.clear()
    print(json.dumps([getattr(outputs, method)(*arguments), sorted(moves, key=str)]))
"""
_GOOD: list[tuple[str, str | None, dict[str, Any]]] = [
    ("set_light_intensity", "lamp", {"intensity_percent": 33.5}),
    ("set_light_intensity", "lamp", {"intensity_percent": 0}),
    ("set_fan_speed", "exhaust", {"speed_percent": 100}),
    ("set_switch", "humidifier", {"on": True}),
    ("trigger_irrigation", "pump", {"amount_ml": 12.5}),
    ("trigger_irrigation", "pump", {"amount_ml": 1000}),
    ("stop", None, {}),
    ("identify", None, {}),
]
_BAD: list[tuple[str, str | None, dict[str, Any]]] = [
    ("set_light_intensity", "lamp", {"intensity_percent": 81}),
    ("set_light_intensity", "lamp", {"intensity_percent": True}),
    ("set_light_intensity", "exhaust", {"intensity_percent": 50}),
    ("set_fan_speed", "exhaust", {"speed_percent": 50, "ramp_s": 1}),
    ("set_switch", "humidifier", {"on": 1}),
    ("set_switch", "moon", {"on": True}),
    ("trigger_irrigation", "pump", {"amount_ml": 0}),
    ("stop", "moon", {}),
    ("open", None, {}),
]


def _steps(random: Random) -> list[tuple[int, str, list[Any]]]:
    steps: list[tuple[int, str, list[Any]]] = [(0, "session", ["s", 1_000])]
    cids, now_ms = ["0"], 0
    for seq in range(1, 2_000):
        wait = random.choice([0, 50, 333, 1_000, 7_777, 40_000])
        now_ms += wait
        renewal = ("renew", random.choice(list(ACTUATORS)), {"of": random.choice(cids[-3:])})
        action, actuator, params = random.choice([*_GOOD, *_GOOD, *_BAD, renewal, renewal, renewal])
        cids.append(f"{seq:026}")
        claims = {
            "cid": cids[-1],
            "sid": random.choice(["s", "s", "s", "s", "t"]),
            "seq": seq - random.choice([0, 0, 0, 1]),
            "iat": 1_000 + now_ms // 1000 - random.choice([0, 0, 0, 11, 12]),
            "ttl_s": 10,
            "action": action,
            "actuator": actuator,
            "params": params,
            "lease_s": random.choice([1, 20, 20, 3600, 3601, None]),
        }
        steps += [(wait, "command", [claims]), (0, "next_message", []), (0, "next_message", [])]
    return steps


def test_outputs_are_the_same_on_every_python(command: Command, tmp_path: Path) -> None:
    """A long random day gives the same moves and messages on MicroPython as on the Python that runs the tests."""
    random = Random(20261125)  # noqa: S311 # a script, not a secret
    script, replay = tmp_path / "script.json", tmp_path / "replay.py"
    script.write_text(json.dumps({"actuators": ACTUATORS, "steps": _steps(random)}))
    replay.write_text(_REPLAY)
    search = {"PYTHONPATH": str(EXAMPLES), "MICROPYPATH": str(EXAMPLES)}

    def run(program: str | Path) -> list[Any]:
        ran = subprocess.run(  # noqa: S603 - our own example
            [program, replay, script], env=os.environ | search, capture_output=True, check=True, timeout=DEADLINE
        )
        return [json.loads(line) for line in ran.stdout.splitlines()]

    reference = run(sys.executable)
    assert set(ACTUATORS) < {name for _, moves in reference for name, *_ in moves}
    assert run(command[0][0]) == reference


async def _lamp(hub: FakeHub, *, lease_s: int, **overrides: Any) -> str:
    return await hub.command(
        DEVICE, "set_light_intensity", "lamp", {"intensity_percent": 50}, lease_s=lease_s, **overrides
    )


def _under(hub: FakeHub, sid: str) -> list[dict[str, Any]]:
    return [claims for claims in hub.readings if claims["sid"] == sid]


def _what(claims: dict[str, Any]) -> tuple[Any, ...]:
    return claims["ts"], claims["metrics"]
