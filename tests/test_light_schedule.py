"""The blueprint that switches lamps with the light period of their zone."""

from functools import partial
from pathlib import Path

from homeassistant.components.automation.const import DOMAIN as AUTOMATION
from homeassistant.const import EVENT_HOMEASSISTANT_STARTED
from homeassistant.core import CoreState
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped] # has no py.typed
    async_fire_mqtt_message,
)

from .common import Room, RoomDevice

BLUEPRINT = Path(__file__).parents[1] / "examples" / "blueprints" / "light-schedule.yaml"
LAMP = "node/output_grow_light"


@pytest.fixture
async def node(room: Room) -> RoomDevice:
    """Return a device in a zone with a lamp, that measures the air."""
    await room.hass.config.async_set_time_zone("UTC")
    await room.add_zone("Tent")
    device = await room.enrol("node", "temp_c", "humidity_percent", actuators=[{"role": "grow_light"}], zone="Tent")
    await device.act()
    return device


def _install(room: Room) -> None:
    """Put the blueprint where a person puts it."""
    folder = Path(room.hass.config.path("blueprints", AUTOMATION, "grokmon"))
    folder.mkdir(parents=True)
    (folder / BLUEPRINT.name).write_text(BLUEPRINT.read_text())


async def _use(room: Room) -> str:
    """Let an automation use the blueprint; return the zone."""
    _install(room)
    zone = next(iter(room.hub.zones.coordinators))
    chosen = {
        "light_period": room.entity_id(f"{zone}/light_period"),
        "interlock": room.entity_id(f"{zone}/interlock_active"),
        "lamps": [room.entity_id(LAMP)],
        "brightness": 60,
    }
    use = {"path": f"grokmon/{BLUEPRINT.name}", "input": chosen}
    assert await async_setup_component(room.hass, AUTOMATION, {AUTOMATION: {"use_blueprint": use}})
    return zone


def _is_waiting(room: Room) -> bool:
    """Tell whether the automation is at work: while it waits, nothing settles."""
    (automation,) = room.hass.states.async_all(AUTOMATION)
    return bool(automation.attributes["current"])


def _say(node: RoomDevice) -> None:
    """Let the sensor be heard, without waiting for what that sets off."""
    payload = node.sign_reading({"temp_c": 24.0, "humidity_percent": 65.0})
    async_fire_mqtt_message(node.room.hass, node.identity.up("telemetry"), payload, 1, False)


def _tries(room: Room) -> list[str]:
    """Return what was decided so far about what the automation wants."""
    return [each["outcome"] for each in room.hub.dispatcher.log.decisions if each["caller"] == "automation"]


def _has_tried(room: Room, count: int) -> bool:
    return len(_tries(room)) == count


async def test_lamp_follows_the_light_period(node: RoomDevice) -> None:
    """The blueprint switches it on and off with the zone, and on when an interlock lets it."""
    room = node.room
    await node.report({"temp_c": 24.0, "humidity_percent": 65.0})
    zone = await _use(room)
    await room.act("select", "select_option", f"{zone}/stage", option="harvest")
    await room.let_pass(10)
    assert room.state(f"{zone}/light_period").state == "off"
    await room.act("select", "select_option", f"{zone}/stage", option="vegetative")
    await room.let_pass(10)
    assert room.state(LAMP).attributes["brightness"] == 153
    await node.report({"temp_c": 40.0, "humidity_percent": 65.0})
    await room.let_pass(10)
    assert room.state(LAMP).state == "off"
    await node.report({"temp_c": 24.0, "humidity_percent": 65.0})
    await room.let_pass(10)
    await room.let_pass(10)
    assert room.state(LAMP).state == "on"
    await room.act("select", "select_option", f"{zone}/stage", option="harvest")
    await room.let_pass(10)
    assert room.state(LAMP).state == "off"


async def test_lamp_that_is_heard_before_its_sensor_follows(node: RoomDevice) -> None:
    """What is refused while no sensor was heard is tried again each minute, until it is done."""
    room = node.room
    await _use(room)
    await room.reload()
    await room.let_pass(10)
    await node.hello()
    assert room.state(LAMP).state == "unavailable"
    await node.answer()
    await room.until(lambda: _tries(room) == ["sensor_stale"])
    room.tick(60)
    await room.until(lambda: _tries(room) == ["sensor_stale"] * 2)
    _say(node)
    await room.until(lambda: room.state("node/temp_c").state == "24.0")
    assert _is_waiting(room)
    assert room.state(LAMP).state == "off"
    room.tick(60)
    await room.until(lambda: not _is_waiting(room))
    await room.settle()
    assert _tries(room) == ["sensor_stale", "sensor_stale", "allowed"]
    assert room.state(LAMP).attributes["brightness"] == 153


async def test_lamp_that_is_not_let_on_is_given_up(node: RoomDevice) -> None:
    """It is tried eight times, a minute apart."""
    room = node.room
    await _use(room)
    await room.reload()
    await room.let_pass(10)
    await node.hello()
    await node.answer()
    for count in range(1, 8):
        await room.until(partial(_has_tried, room, count))
        # A device that says nothing is taken for gone.
        await node.answer()
        room.tick(60)
    await room.until(lambda: not _is_waiting(room))
    await room.settle()
    assert room.state(LAMP).state == "off"
    await node.answer()
    await room.let_pass(60)
    assert _tries(room) == ["sensor_stale"] * 8


async def test_lamp_follows_when_home_assistant_starts_in_the_light_period(node: RoomDevice) -> None:
    """What came back before automations were armed is not forgotten."""
    room = node.room
    await node.report({"temp_c": 24.0, "humidity_percent": 65.0})
    room.hass.set_state(CoreState.starting)
    await _use(room)
    await room.let_pass(10)
    assert room.state(LAMP).state == "off"
    room.hass.set_state(CoreState.running)
    room.hass.bus.async_fire(EVENT_HOMEASSISTANT_STARTED)
    await room.settle()
    assert room.state(LAMP).attributes["brightness"] == 153


async def test_lamp_that_a_person_has_just_set_follows_later(node: RoomDevice) -> None:
    """A person comes first for five minutes, also when the light period begins meanwhile."""
    room = node.room
    await room.let_pass(17 * 3600 + 57 * 60 - 10)
    await node.hello()
    await node.answer()
    await node.report({"temp_c": 24.0, "humidity_percent": 65.0})
    await room.let_pass(10)
    zone = await _use(room)
    await room.act("light", "turn_off", LAMP)
    assert room.state(f"{zone}/light_period").state == "off"
    room.tick(180)
    await room.until(lambda: _tries(room) == ["held"])
    assert room.state(f"{zone}/light_period").state == "on"
    _say(node)
    room.tick(60)
    await room.until(lambda: _tries(room) == ["held", "held"])
    room.tick(60)
    await room.until(lambda: not _is_waiting(room))
    await room.settle()
    assert _tries(room) == ["held", "held", "allowed"]
    assert room.state(LAMP).attributes["brightness"] == 153
