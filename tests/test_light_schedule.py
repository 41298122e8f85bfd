"""The blueprint that switches lamps with the light period of their zone."""

from pathlib import Path

from homeassistant.components.automation.const import DOMAIN as AUTOMATION
from homeassistant.setup import async_setup_component
import pytest

from .common import Room, RoomDevice

BLUEPRINT = Path(__file__).parents[1] / "examples" / "blueprints" / "light-schedule.yaml"


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


async def test_lamp_follows_the_light_period(node: RoomDevice) -> None:
    """The blueprint switches it on and off with the zone, and on when an interlock lets it."""
    room = node.room
    _install(room)
    zone = next(iter(room.hub.zones.coordinators))
    await node.report({"temp_c": 24.0, "humidity_percent": 65.0})
    chosen = {
        "light_period": room.entity_id(f"{zone}_light_period"),
        "interlock": room.entity_id(f"{zone}_interlock_active"),
        "lamps": [room.entity_id("node_output_grow_light")],
        "brightness": 60,
    }
    use = {"path": f"grokmon/{BLUEPRINT.name}", "input": chosen}
    assert await async_setup_component(room.hass, AUTOMATION, {AUTOMATION: {"use_blueprint": use}})
    await room.act("select", "select_option", f"{zone}_stage", option="harvest")
    await room.let_pass(10)
    assert room.state(f"{zone}_light_period").state == "off"
    await room.act("select", "select_option", f"{zone}_stage", option="vegetative")
    await room.let_pass(10)
    assert room.state("node_output_grow_light").attributes["brightness"] == 153
    await node.report({"temp_c": 40.0, "humidity_percent": 65.0})
    await room.let_pass(10)
    assert room.state("node_output_grow_light").state == "off"
    await node.report({"temp_c": 24.0, "humidity_percent": 65.0})
    await room.let_pass(10)
    await room.let_pass(10)
    assert room.state("node_output_grow_light").state == "on"
    await room.act("select", "select_option", f"{zone}_stage", option="harvest")
    await room.let_pass(10)
    assert room.state("node_output_grow_light").state == "off"
