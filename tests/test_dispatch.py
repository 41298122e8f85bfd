"""Tests of commands: from a service call to an output and back."""

from homeassistant.exceptions import ServiceValidationError
import pytest

from .common import Room

LIGHT = {"role": "grow_light"}
PUMP = {"role": "irrigation"}


async def test_light_is_set_and_shown_as_reported(room: Room) -> None:
    """Turn a lamp on by its entity: the device is told, and what it reports is the state."""
    device = await room.enrol("lamp", actuators=[LIGHT])
    await device.act()
    assert room.state("lamp_output_grow_light").state == "off"
    await room.act("light", "turn_on", "lamp_output_grow_light", brightness_pct=60)
    assert device.protocol.outputs.outputs["grow_light"].percent == 60
    state = room.state("lamp_output_grow_light")
    assert (state.state, state.attributes["brightness"]) == ("on", 153)
    await room.act("light", "turn_off", "lamp_output_grow_light")
    assert room.state("lamp_output_grow_light").state == "off"
    assert [entry["event"] for entry in await room.audit("command", "command_done")] == ["command", "command_done"] * 2


async def test_minus_500_ml_is_refused(room: Room) -> None:
    """Refuse a negative dose, which neither moves nor refunds anything."""
    zone = await room.add_zone("Tent")
    device = await room.enrol("pump", actuators=[PUMP], zone="Tent")
    await device.act()
    left = room.state(f"{zone.subentry_id}_water_left").state
    with pytest.raises(ServiceValidationError) as refused:
        await room.call("irrigate", {"device_id": "pump", "amount_ml": -500})
    assert refused.value.translation_key == "parameter_invalid"
    assert room.state(f"{zone.subentry_id}_water_left").state == left
