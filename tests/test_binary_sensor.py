"""The binary sensors of devices."""

from homeassistant.components.binary_sensor.const import DOMAIN as BINARY_SENSOR
from homeassistant.const import STATE_OFF, STATE_ON, STATE_UNAVAILABLE, STATE_UNKNOWN
from syrupy.assertion import SnapshotAssertion

from custom_components.grokmon.gateway.catalog import CATALOG

from .common import Room

BOOLEANS = sorted(metric.name for metric in CATALOG.values() if metric.is_boolean)


async def test_every_boolean_is_an_entity(room: Room, snapshot: SnapshotAssertion) -> None:
    """Every boolean of the catalogue has a binary sensor of its class, and so has the connection."""
    node = await room.enrol("node", *BOOLEANS)
    await node.report({name: number % 2 == 0 for number, name in enumerate(BOOLEANS)})
    entities = room.entities(BINARY_SENSOR)
    assert {entity.unique_id for entity in entities} == {f"node/{name}" for name in (*BOOLEANS, "connectivity")}
    assert {entity.device_id for entity in entities} == {room.device("node").id}
    for entity in entities:
        assert entity == snapshot(name=f"{entity.entity_id}-entry")
        assert room.hass.states.get(entity.entity_id) == snapshot(name=f"{entity.entity_id}-state")


async def test_true_is_on(room: Room) -> None:
    """Every boolean follows its value."""
    node = await room.enrol("node", *BOOLEANS)
    for value, state in ((True, STATE_ON), (False, STATE_OFF), (True, STATE_ON)):
        await node.report(dict.fromkeys(BOOLEANS, value))
        assert {room.state(f"node/{name}").state for name in BOOLEANS} == {state}


async def test_silence_is_not_off(room: Room) -> None:
    """A smoke detector that is silent, or did not say, does not say that there is no smoke."""
    node = await room.enrol("node", "smoke", "leak")
    assert room.state("node/smoke").state == STATE_UNAVAILABLE
    await node.report({"smoke": False})
    assert room.state("node/smoke").state == STATE_OFF
    assert room.state("node/leak").state == STATE_UNKNOWN
    await room.let_pass(300)
    assert room.state("node/smoke").state == STATE_UNAVAILABLE


async def test_connection_is_always_known(room: Room) -> None:
    """Whether a device is heard is known before it was, while it is and after."""
    node = await room.enrol("node", "smoke")
    assert room.state("node/connectivity").state == STATE_OFF
    await node.report({"smoke": False})
    assert room.state("node/connectivity").state == STATE_ON
    await room.let_pass(300)
    assert room.state("node/connectivity").state == STATE_OFF
    await node.report({"smoke": False})
    assert room.state("node/connectivity").state == STATE_ON


async def test_number_is_not_a_boolean(room: Room) -> None:
    """What is no boolean is refused, so that 1 is not smoke."""
    node = await room.enrol("node", "smoke")
    await node.report({"smoke": False})
    await node.report({"smoke": 1.0})
    assert room.hub.refused_by_code("node") == {"metric_type": 1}
    assert room.state("node/smoke").state == STATE_OFF
