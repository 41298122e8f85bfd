"""The round trip of a command: from the call of an entity's service to the state that the device reported.

Against Home Assistant's own MQTT switch with a state topic on the same broker. Both devices live in this process and
answer at once, so that the difference is Home Assistant's.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
import contextlib
import hmac
import json
from pathlib import Path
from statistics import quantiles
import tempfile
import time
from typing import Any, override

from tests.device_simulator.actuators import specs_from
from tests.device_simulator.connection import BrokerAddress, Connection
from tests.device_simulator.credentials import DeviceIdentity, DownlinkRefusedError
from tests.device_simulator.device import HonestDevice
from tests.device_simulator.signing import b64decode, b64encode, compact_hs256, to_json
from tests.stack.brokers import MosquittoBroker
from tests.stack.home_assistant import HomeAssistant

from .measure import BARE

_ACCOUNTS = ("bench", "plug")
_MQTT = "switch.plug"
_SWITCH = {"name": "Plug", "command_topic": "plug/set", "state_topic": "plug/state", "qos": 1}
_UNLIMITED = {
    "rate": 600,
    "hold_s": 0,
    "max_percent": 100,
    "min_dose_ml": 0,
    "max_dose_ml": 1000,
    "min_inject_s": 1,
    "max_inject_s": 120,
}
_WARM_UP = 10
_WITHIN = 10.0
_PAUSE = 0.1


class _Identity(DeviceIdentity):
    """Sign and verify as a small device does: with a hash function and no library, so that its time is not ours."""

    @override
    def sign(self, claims: Mapping[str, Any], headers: Mapping[str, Any] | None = None) -> bytes:
        return compact_hs256(to_json(claims), self._key(self.up_key))

    @override
    def verify_down(self, token: bytes, channel: str = "session") -> dict[str, Any]:
        covered, _, signature = token.rpartition(b".")
        expected = b64encode(hmac.digest(self._key(self.down_key), covered, "sha256"))
        claims: dict[str, Any] = json.loads(b64decode(covered.rpartition(b".")[2]))
        if not hmac.compare_digest(signature, expected) or claims["aud"] != self.down(channel):
            raise DownlinkRefusedError(channel)
        return claims

    @staticmethod
    def _key(key: object) -> bytes:
        if not isinstance(key, bytes):
            raise TypeError("a device with a shared key")
        return key


class _Device(HonestDevice):
    """Verify a command, say that it is done, and nothing else: an outlet's timers are not what is measured."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._answers: set[asyncio.Task[None]] = set()

    @override
    def _received(self, topic: str, payload: bytes, retain: bool) -> None:
        if topic != self.identity.down("command") or self._link is None:
            super()._received(topic, payload, retain)
            return
        claims = self.identity.verify_down(payload, "command")
        # Which it also tells every half minute, by itself.
        outlet = self.outputs[claims["actuator"]]
        outlet.on, outlet.cid = claims["params"].get("on", outlet.on), claims["cid"]
        state = {"on": outlet.on, "cid": outlet.cid}
        body = {"cid": outlet.cid, "result": "done", "actuators": {claims["actuator"]: state}}
        signed = self.protocol._sign_counted("ack", body)  # noqa: SLF001 - the counter of the session is there
        task = asyncio.ensure_future(self._link.publish(self.identity.up("ack"), signed))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)


async def round_trips(count: int) -> tuple[list[float], list[float]]:
    """Return the times of so many commands in ms, ours and those of the MQTT switch, taken in turn."""
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory(prefix="grokmon-bench-") as folder:
        broker = MosquittoBroker(Path(folder) / "broker", None, accounts=_ACCOUNTS)
        hass = HomeAssistant(Path(folder) / "hass", configuration={**BARE, "mqtt": {"switch": [_SWITCH]}})
        async with broker, hass:
            await hass.add_mqtt(broker)
            await hass.config_flows.walk("grokmon", {"topic_prefix": "grokmon"})
            async with _grokmon(hass, broker) as entity_id, _plain(broker):
                for number in range(count + _WARM_UP):
                    service = "turn_off" if number % 2 else "turn_on"
                    for entity, times in ((entity_id, ours), (_MQTT, theirs)):
                        # People do not command twice at once; the answer to the last packet would hold up this one.
                        await asyncio.sleep(_PAUSE)
                        times.append(await _command(hass, entity, service))
    return ours[_WARM_UP:], theirs[_WARM_UP:]


def p99(times: Sequence[float]) -> float:
    """Return the time that one in a hundred takes longer than."""
    return quantiles(times, n=100)[-1]


async def _command(hass: HomeAssistant, entity_id: str, service: str) -> float:
    """Return how long it takes from the call until the state is there, in ms."""
    wanted = "on" if service == "turn_on" else "off"
    trigger = {"trigger": "state", "entity_id": entity_id, "to": wanted}

    async def seen() -> float:
        await states.next(_WITHIN)
        return time.perf_counter()

    # Together: a command that is refused says why, rather than that no state came.
    async with (
        hass.websocket.subscribe("subscribe_trigger", trigger=trigger) as states,
        asyncio.TaskGroup() as both,
    ):
        began = time.perf_counter()
        both.create_task(
            hass.websocket.call("call_service", domain="switch", service=service, target={"entity_id": entity_id})
        )
        there = both.create_task(seen())
    return (there.result() - began) * 1000


@contextlib.asynccontextmanager
async def _grokmon(hass: HomeAssistant, broker: MosquittoBroker) -> AsyncIterator[str]:
    """Run a device with an outlet; yield its entity."""
    await _lift_the_rate(hass)
    enrolled = await hass.rest.call_service(
        "grokmon",
        "enroll_device",
        {"device_id": "bench", "name": "Bench", "actuators": [{"role": "outlet"}]},
        return_response=True,
    )
    account = broker.accounts["bench"]
    address = BrokerAddress(broker.host, broker.port, None, account.username, account.password)
    identity = _Identity.from_enrolment(enrolled)
    async with _Device(identity, address, actuators=specs_from(enrolled["actuators"])) as device:
        async with asyncio.timeout(_WITHIN):
            await device.session_ready.wait()
        entities = await hass.websocket.call("config/entity_registry/list")
        entity_id = next(each["entity_id"] for each in entities if each["unique_id"] == "bench/output_outlet")
        await hass.wait_for_state(entity_id, lambda state: state["state"] == "off")
        yield entity_id


async def _lift_the_rate(hass: HomeAssistant) -> None:
    """Let a person give as many commands as are measured, and nobody wait for it."""
    entry_id = (await hass.websocket.call("config_entries/get", domain="grokmon"))[0]["entry_id"]
    flow = await hass.options_flows.start(entry_id)
    await hass.options_flows.submit(flow["flow_id"], {"next_step_id": "limits"})
    await hass.options_flows.submit(flow["flow_id"], {"caller": "person"})
    await hass.options_flows.submit(flow["flow_id"], _UNLIMITED)
    # It starts anew by itself; this returns when it has.
    await hass.rest.post(f"/api/config/config_entries/entry/{entry_id}/reload")


@contextlib.asynccontextmanager
async def _plain(broker: MosquittoBroker) -> AsyncIterator[None]:
    """Run a device that does what it is told without any proof, and says so."""
    account = broker.accounts["plug"]
    address = BrokerAddress(broker.host, broker.port, None, account.username, account.password)
    tasks: set[asyncio.Task[None]] = set()

    def obey(_topic: str, payload: bytes, _retain: bool) -> None:
        task = asyncio.ensure_future(connection.publish("plug/state", payload))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    connection = Connection(address, "plug", on_message=obey)
    async with connection:
        await connection.subscribe("plug/set")
        yield
