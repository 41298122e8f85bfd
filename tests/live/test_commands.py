"""The way out on real servers: Home Assistant, Mosquitto with TLS, and a device that drives outputs."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
import time
from typing import Any

import pytest
import pytest_asyncio

from tests.demo.installation import Installation
from tests.demo.waiting import settled
from tests.device_simulator.actuators import specs_from
from tests.device_simulator.connection import Connection
from tests.device_simulator.credentials import DeviceIdentity
from tests.device_simulator.device import HonestDevice
from tests.stack.home_assistant.mcp import call_tool

from .observation import WITHIN, audit_entries, verify_alone

pytestmark = pytest.mark.timeout(180)

NODE = "node"
HOSTILE = "hostile"
ZONE = "Tent"
ACTUATORS: list[dict[str, Any]] = [
    {"role": "grow_light"},
    {"role": "exhaust", "lease_s": 6},
    {"role": "irrigation", "interval_s": 0, "lease_s": 3, "ml_per_s": 20},
    {"role": "outlet", "lease_s": 6},
    # What people have not just set: it would be theirs for a while.
    {"role": "circulation", "lease_s": 6},
    {"role": "intake", "lease_s": 6},
    {"role": "humidifier", "lease_s": 6},
]


@dataclass(slots=True)
class Room:
    """Hold the servers, the device and its entities."""

    installation: Installation
    device: HonestDevice
    entities: dict[str, str]

    def on(self, name: str) -> bool:
        """Tell whether an output is on, on the device itself."""
        return self.device.outputs[name].on

    async def call(self, domain: str, service: str, name: str = "", **data: Any) -> Any:
        """Call a service, of an output's entity where one is named."""
        target = {"entity_id": self.entities[f"{NODE}/output_{name}"]} if name else {}
        return await self.installation.hass.rest.call_service(domain, service, {**target, **data})

    async def state(self, name: str) -> str:
        """Return the state of an output's entity."""
        state = await self.installation.hass.rest.state(self.entities[f"{NODE}/output_{name}"])
        return "" if state is None else str(state["state"])

    async def until(self, name: str, state: str) -> None:
        """Wait until Home Assistant shows a state."""
        assert await settled(lambda: self.state(name), lambda seen: seen == state, WITHIN) == state

    async def smokes(self, state: str) -> None:
        """Wait until Home Assistant has heard of smoke, or of none: without that nothing is switched on."""
        hass = self.installation.hass
        await hass.wait_for_state(self.entities[f"{NODE}/smoke"], lambda found: found["state"] == state)

    async def device_is(self, name: str, *, on: bool) -> None:
        """Wait until an output of the device is on or off."""
        async with asyncio.timeout(WITHIN):
            await self.device.until(lambda: self.on(name) is on)

    async def audit(self, *events: str) -> list[dict[str, Any]]:
        """Return entries of the audit trail, once it is written."""
        await self.installation.verify_audit()
        return [entry for entry in audit_entries(self.installation.audit_file) if entry["event"] in events]


@pytest.fixture(scope="module")
def broker_accounts() -> tuple[str, ...]:
    """Return the accounts of this module."""
    return (NODE, HOSTILE)


@pytest.fixture(scope="module")
def configuration() -> dict[str, Any]:
    """Return an automation that switches on what an event names."""
    action = {"action": "switch.turn_on", "target": {"entity_id": "{{ trigger.event.data.entity_id }}"}}
    trigger = {"trigger": "event", "event_type": "breeze"}
    return {"automation": [{"id": "breeze", "alias": "Breeze", "triggers": [trigger], "actions": [action]}]}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def room(installation: Installation) -> AsyncGenerator[Room]:
    """Enrol a device with outputs and a smoke sensor, and run it."""
    zone = {"name": ZONE, "stage": "vegetative"}
    await installation.hass.subentry_flows.walk([installation.entry_id, "zone"], zone)
    enrolled = await installation.hass.rest.call_service(
        "grokmon",
        "enroll_device",
        {
            "device_id": NODE,
            "name": "Node",
            "metrics": ["smoke"],
            "actuators": ACTUATORS,
            "zone": ZONE,
            "rate_limit": 6000,
        },
        return_response=True,
    )
    device = HonestDevice(
        DeviceIdentity.from_enrolment(enrolled),
        installation.address(NODE),
        actuators=specs_from(enrolled["actuators"]),
    )
    async with device:
        room = Room(installation, device, await installation.entity_ids())
        await room.until("outlet", "off")
        await device.publish({"smoke": False})
        await room.smokes("off")
        yield room


async def test_full_circle(room: Room) -> None:
    """A command goes to the device, is answered, and what the device reports is the state."""
    await room.call("fan", "set_percentage", "exhaust", percentage=40)
    assert room.device.outputs["exhaust"].percent == 40
    await room.until("exhaust", "on")
    await room.call("fan", "turn_off", "exhaust")
    assert not room.on("exhaust")
    await room.until("exhaust", "off")
    events = [entry["event"] for entry in await room.audit("command", "command_done")]
    assert events.count("command") == events.count("command_done") == 2


async def test_lease_is_renewed(room: Room) -> None:
    """A lease of six seconds carries an output for as long as it is wanted."""
    await room.call("switch", "turn_on", "outlet")
    cid = room.device.outputs["outlet"].cid
    ends = [room.device.outputs["outlet"].lease_ends]
    async with asyncio.timeout(WITHIN):
        await room.device.until(lambda: room.device.outputs["outlet"].lease_ends not in {*ends, None})
        ends.append(room.device.outputs["outlet"].lease_ends)
        await room.device.until(lambda: room.device.outputs["outlet"].lease_ends not in {*ends, None})
    assert room.device.outputs["outlet"].cid == cid
    await room.call("switch", "turn_off", "outlet")


async def test_replayed_and_forged_commands_move_nothing(room: Room) -> None:
    """What was overheard, and what others sign, is refused by the device."""
    heard: list[bytes] = []
    topic = room.device.identity.down("command")
    address = room.installation.address(HOSTILE)
    async with Connection(address, "ear", on_message=lambda _topic, payload, _retain: heard.append(payload)) as ear:
        await ear.subscribe(topic)
        await room.call("switch", "turn_on", "outlet")
        await room.call("switch", "turn_off", "outlet")
        refused, carried = room.device.counts.commands_refused, room.device.counts.commands
        recorded = list(heard)
        assert len(recorded) >= 2
        for payload in recorded:
            await ear.publish(topic, payload)
            await ear.publish(topic, payload[:-4] + b"AAAA")
    async with asyncio.timeout(WITHIN):
        await room.device.until(lambda: room.device.counts.commands_refused >= refused + 2 * len(recorded))
    assert room.device.counts.commands == carried
    assert not room.on("outlet")


async def test_two_callers_at_once(room: Room) -> None:
    """Both are answered, one of them perhaps by the news of the other; the device has what the later one wanted."""
    results = await asyncio.gather(
        room.call("fan", "set_percentage", "exhaust", percentage=30),
        room.call("fan", "set_percentage", "exhaust", percentage=70),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Exception) for result in results) <= 1
    assert room.device.outputs["exhaust"].percent in {30, 70}
    await room.call("fan", "turn_off", "exhaust")


async def test_lost_answer(room: Room) -> None:
    """Who asked is told that it timed out, and what may be on is switched off."""
    room.device.protocol.lose_acks = True
    try:
        with pytest.raises(Exception, match=r"500|400"):
            await room.call("switch", "turn_on", "outlet")
    finally:
        room.device.protocol.lose_acks = False
    await room.device_is("outlet", on=False)
    assert (await room.audit("command_timeout"))[-1]["actuator"] == "outlet"


async def test_principals_in_the_audit(room: Room) -> None:
    """A person, a sentence to Assist, an automation and a model each stand under their own name."""
    hass = room.installation.hass
    await hass.websocket.call(
        "homeassistant/expose_entity",
        assistants=["conversation"],
        entity_ids=[room.entities[f"{NODE}/output_circulation"]],
        should_expose=True,
    )
    await hass.rest.post("/api/events/breeze", {"entity_id": room.entities[f"{NODE}/output_humidifier"]})
    await room.device_is("humidifier", on=True)
    said = await hass.rest.post(
        "/api/conversation/process", {"text": "turn on the Node Circulation fan", "language": "en"}
    )
    assert said["response"]["response_type"] == "action_done", said
    await room.device_is("circulation", on=True)
    await hass.config_flows.walk("mcp_server", {})
    arguments: dict[str, Any] = {"output": f"{NODE}/intake", "percent": 40, "reason": "the air stands still"}
    answer = await call_tool(hass, "grokmon__set_fan", arguments)
    assert answer["percent"] == 40
    assert room.on("intake")
    refused = await call_tool(hass, "grokmon__set_fan", arguments | {"percent": 100})
    assert refused["refused"] == "ai_limit"
    commands = await room.audit("command")
    callers = {entry["actuator"]: entry["caller"] for entry in commands if entry["caller"] != "system"}
    assert callers["humidifier"] == "automation"
    assert callers["circulation"] == "voice"
    assert callers["intake"] == "ai"
    assert callers["exhaust"] == "person"
    assert commands[-1]["reason"] == "the air stands still"
    await room.call("grokmon", "stop")
    assert not any(room.on(each["role"]) for each in ACTUATORS)


async def test_smoke_in_the_middle_of_irrigation(room: Room) -> None:
    """Everything goes off with the reading itself, and stays off until an administrator resets it."""
    await room.call("grokmon", "irrigate", device_id=NODE, amount_ml=500)
    assert room.on("irrigation")
    began = time.monotonic()
    await room.device.publish({"smoke": True})
    await room.device_is("irrigation", on=False)
    assert time.monotonic() - began < 5
    await room.device.publish({"smoke": False})
    await room.smokes("off")
    with pytest.raises(Exception, match=r"500|400"):
        await room.call("switch", "turn_on", "outlet")
    answer = await room.installation.hass.rest.call_service(
        "grokmon", "reset_interlocks", {"zone": ZONE}, return_response=True
    )
    assert answer == {"reset": ["smoke"], "still_active": []}


async def test_rehearsal_of_what_happened(room: Room) -> None:
    """The commands of the audit trail and the readings of the recorder, under a policy with less water."""

    async def rehearse() -> dict[str, Any]:
        answer: dict[str, Any] = await room.installation.hass.rest.call_service(
            "grokmon", "rehearse", {"days": 1, "zones": {ZONE: {"water_ml_day": 100}}}, return_response=True
        )
        return answer

    # The recorder lags behind.
    outcome = await settled(rehearse, lambda answer: answer["readings"] >= 2, WITHIN)
    assert outcome["readings"] >= 2
    codes = {refused["code"] for refused in outcome["refused"]}
    assert {"budget_exceeded", "interlocked"} <= codes


async def test_broker_that_dies(room: Room) -> None:
    """Outputs end by their leases while there is no broker, and everything works again with it."""
    await room.call("fan", "set_percentage", "exhaust", percentage=50)
    await room.installation.broker.kill()
    began = time.monotonic()
    await room.device_is("exhaust", on=False)
    assert time.monotonic() - began < 8
    await room.installation.broker.start()
    async with asyncio.timeout(WITHIN):
        await room.device.session_ready.wait()
    await room.installation.hass.wait_for_mqtt()
    await room.until("exhaust", "off")


async def test_home_assistant_that_is_killed_while_a_pump_runs(room: Room) -> None:
    """The device ends the pump; after the start the water is still spent, and nothing comes back by itself."""
    hass = room.installation.hass
    await room.call("grokmon", "irrigate", device_id=NODE, amount_ml=600)
    await room.call("fan", "set_percentage", "exhaust", percentage=50)
    assert room.on("irrigation")
    began = time.monotonic()
    await hass.kill()
    await room.device_is("irrigation", on=False)
    await room.device_is("exhaust", on=False)
    assert time.monotonic() - began < 8
    assert room.device.outputs["irrigation"].reason == "lease"
    await hass.start()
    await hass.wait_for_mqtt()
    await room.until("irrigation", "off")
    entities = await room.installation.entity_ids()
    water = next(entity for unique_id, entity in entities.items() if unique_id.endswith("/water_left"))
    left = await hass.rest.state(water)
    assert left is not None
    assert float(left["state"]) == 3000 - 500 - 600
    assert await verify_alone(room.installation.audit_file) == 0
