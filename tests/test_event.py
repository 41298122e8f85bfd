"""The event entity of the hub."""

from homeassistant.components.event import DOMAIN as EVENT
from homeassistant.const import STATE_UNAVAILABLE
from syrupy.assertion import SnapshotAssertion

from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.security_events import Category

from .common import RoomDevice


async def test_security_event(tent: RoomDevice, snapshot: SnapshotAssertion) -> None:
    """What was refused last, and in whose name, is an event."""
    room = tent.room
    (entity,) = room.entities(EVENT)
    assert room.state("hub/security_event").attributes["code"] == "enrolled"
    assert entity.device_id == room.device(DOMAIN).id
    await tent.send(b"nonsense")
    assert entity == snapshot(name="entry")
    assert room.hass.states.get(entity.entity_id) == snapshot(name="state")


async def test_every_event_has_a_type(tent: RoomDevice) -> None:
    """Every kind of event can be told apart."""
    types = tent.room.state("hub/security_event").attributes["event_types"]
    assert set(types) == {category.value for category in Category}


async def test_ordinary_refusals_are_no_events(tent: RoomDevice) -> None:
    """A message that the transport delivered twice, and a session from before a start, are nobody's fault."""
    room = tent.room
    await tent.hello()
    reading = tent.sign_reading({"temp_c": 21.5})
    await tent.send(reading)
    await tent.send(reading)
    tent.protocol.sid = "unknown-session-"
    await tent.send(tent.sign_reading({"temp_c": 21.5}))
    assert room.hub.refused_by_code("tent-1") == {"duplicate": 1, "session_unknown": 1}
    assert room.state("hub/security_event").attributes["code"] == "enrolled"


async def test_implausible_value_is_an_event(tent: RoomDevice) -> None:
    """A value that is accepted and flagged is worth a look."""
    room = tent.room
    await tent.report({"temp_c": 50.0})
    attributes = room.state("hub/security_event").attributes
    assert (attributes["event_type"], attributes["code"], attributes["detail"]) == (
        "invalid_input",
        "metric_implausible",
        "temp_c",
    )
    assert room.state("tent-1/temp_c").state == "50.0"


async def test_entity_follows_the_hub(tent: RoomDevice) -> None:
    """Without the hub there are no events, and after a reload there is one listener."""
    room = tent.room
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert room.state("hub/security_event").state == STATE_UNAVAILABLE
    assert await room.set_up()
    await tent.send(b"nonsense")
    assert room.state("hub/security_event").attributes["event_type"] == "invalid_input"
