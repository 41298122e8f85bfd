"""Run the example devices as a person would, against a real Mosquitto with TLS 1.3 and a stand-in for the hub."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
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
from tests.device_simulator.fake_hub import FakeHub, HubKeys
from tests.live.tls_relay import Tls12Relay
from tests.stack.brokers import MosquittoBroker
from tests.stack.certificates import Certificates, ensure_certificates
from tests.stack.home_assistant import HomeAssistant
from tests.stack.processes import ManagedProcess

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "devices"
DEVICE = "tent-1"
DEADLINE = 20.0

pytestmark = pytest.mark.timeout(90)


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
    async with asyncio.timeout(DEADLINE):
        while text not in process.log_tail():  # noqa: ASYNC110 # a file does not tell that it grew
            await asyncio.sleep(0.05)


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
    prepared = Example(*command, tmp_path, settings)
    yield prepared
    for process in prepared.processes:
        await process.kill()


@pytest_asyncio.fixture(loop_scope="session")
async def hub(mosquitto: MosquittoBroker, certificates: Certificates, root_key: str) -> AsyncGenerator[FakeHub]:
    """Run the stand-in for the hub."""
    async with FakeHub(_hub_address(mosquitto, certificates), {DEVICE: HubKeys.of_root_key(root_key)}) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(home_assistant: HomeAssistant) -> HomeAssistant:
    """Run the integration itself, in a Home Assistant."""
    await home_assistant.config_flows.walk("grokmon", {})
    return home_assistant


def _hub_address(mosquitto: MosquittoBroker, certificates: Certificates) -> BrokerAddress:
    account = mosquitto.accounts["homeassistant"]
    return BrokerAddress(mosquitto.host, mosquitto.port, certificates.ca, account.username, account.password)


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
    assert [claims["seq"] for claims in second] == list(range(1, len(second) + 1))
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
    example: Example, hub: FakeHub, mosquitto: MosquittoBroker, certificates: Certificates
) -> None:
    """Nothing that was measured while the broker was away is lost."""
    process = await example.start()
    await hub.until(lambda: len(hub.readings) >= 3)
    await mosquitto.kill()
    await until_logged(process, "no connection")
    await mosquitto.start()
    address = _hub_address(mosquitto, certificates)
    async with FakeHub(address, hub.keys, sessions=hub.sessions, counters=hub.counters) as renewed:
        await renewed.until(lambda: len(renewed.readings) > 5)
        counters = [claims["seq"] for claims in hub.readings + renewed.readings]
    assert counters == sorted(set(counters))


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


async def test_readings_become_states_of_home_assistant(example: Example, gateway: HomeAssistant) -> None:
    """With the key of its enrolment the example talks to the integration itself."""
    device_id = f"example-{Path(example.command[-1]).parent.name}"
    request = {"device_id": device_id, "name": device_id, "metrics": ["temp_c", "humidity_percent"]}
    enrolled = await gateway.rest.call_service("grokmon", "enroll_device", request, return_response=True)
    await example.start(device_id=device_id, key=enrolled["key"])
    entity_id = f"sensor.{device_id.replace('-', '_')}_air_temperature"
    state = await gateway.wait_for_state(entity_id, lambda found: found["state"] not in {"unknown", "unavailable"}, 20)
    assert 20 < float(state["state"]) < 30


def _under(hub: FakeHub, sid: str) -> list[dict[str, Any]]:
    return [claims for claims in hub.readings if claims["sid"] == sid]


def _what(claims: dict[str, Any]) -> tuple[Any, ...]:
    return claims["ts"], claims["metrics"]
