"""The sensors of devices and of the hub, and how they come and go."""

from errno import ENOSPC
from unittest.mock import patch

from homeassistant.components.sensor import DOMAIN as SENSOR, SensorDeviceClass
from homeassistant.components.sensor.const import DEVICE_CLASS_STATE_CLASSES, DEVICE_CLASS_UNITS
from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.util.unit_system import METRIC_SYSTEM, US_CUSTOMARY_SYSTEM, UnitSystem
import pytest
from pytest_homeassistant_custom_component.common import async_capture_events  # type: ignore[import-untyped]
from syrupy.assertion import SnapshotAssertion

from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.catalog import CATALOG, Metric

from .common import Room, RoomDevice

NUMBERS = {metric.name: metric for metric in CATALOG.values() if not metric.is_boolean}


def _middle(metric: Metric) -> float:
    chosen = metric.plausible or metric.hard
    assert chosen is not None
    return round((chosen.low + chosen.high) / 2, 2)


async def _change(room: Room, *metrics: str, name: str = "Tent 1", zone: str | None = None) -> None:
    """Change the settings of tent-1 as a user does."""
    menu = await room.start_flow("device", room.subentry().subentry_id)
    form = await room.submit(menu, {"next_step_id": "settings"})
    answer = {"name": name, "metrics": list(metrics), "rate_limit": 100}
    await room.submit(form, answer if zone is None else answer | {"zone": zone})


async def test_every_metric_is_an_entity(room: Room, snapshot: SnapshotAssertion) -> None:
    """Every number of the catalogue has a sensor, in its unit and class, and so have the diagnostics."""
    node = await room.enrol("node", *CATALOG)
    await room.enable_everything()
    await node.report({name: _middle(metric) for name, metric in NUMBERS.items()})
    # The trail is written when a second has really passed, which it may or may not have by now.
    await room.hub.audit.async_flush()
    await room.let_pass(10)
    entities = room.entities(SENSOR)
    assert {entity.unique_id for entity in entities} >= {f"node/{name}" for name in NUMBERS}
    assert {entity.device_id for entity in entities if entity.unique_id.startswith("node")} == {room.device("node").id}
    assert {entity.device_id for entity in entities if entity.unique_id.startswith("hub")} == {room.device(DOMAIN).id}
    for entity in entities:
        assert entity == snapshot(name=f"{entity.entity_id}-entry")
        assert room.hass.states.get(entity.entity_id) == snapshot(name=f"{entity.entity_id}-state")


@pytest.mark.parametrize(
    ("units", "names"),
    [
        (METRIC_SYSTEM, {name for name in NUMBERS if not name.endswith("_f")}),
        (US_CUSTOMARY_SYSTEM, {name for name in NUMBERS if name.endswith("_f")}),
    ],
    ids=["metric", "us_customary"],
)
async def test_state_is_what_was_measured(room: Room, units: UnitSystem, names: set[str]) -> None:
    """No number is changed on its way, at both ends of what is possible as well."""
    room.hass.config.units = units
    node = await room.enrol("node", *names)
    await room.enable_everything()
    hard = {name: limits for name in names if (limits := NUMBERS[name].hard) is not None}
    lowest = {name: limits.low for name, limits in hard.items()}
    if "vpd_kpa" in lowest:
        lowest["vpd_kpa"] = 0.0
    for values in (lowest, {name: limits.high for name, limits in hard.items()}):
        await node.report(values)
        assert {name: float(room.state(f"node/{name}").state) for name in names} == pytest.approx(values)


async def test_what_is_off_until_a_user_wants_it(room: Room) -> None:
    """What changes all the time and tells little about the room is not recorded unasked."""
    await room.enrol("node", *CATALOG)
    off = {entity.unique_id for entity in room.entities(SENSOR) if entity.disabled}
    assert off == {"node/rssi_dbm", "node/uptime_s", "node/last_seen", "node/key_age"}


async def test_dew_is_shown_as_no_deficit(room: Room) -> None:
    """A deficit slightly below zero is dew on a leaf."""
    node = await room.enrol("node", "vpd_kpa")
    await node.report({"vpd_kpa": -0.3})
    assert room.state("node/vpd_kpa").state == "0.0"


async def test_sensors_without_a_reading(tent: RoomDevice) -> None:
    """A device that was never heard has no values; what the hub knows about it is known."""
    room = tent.room
    await room.enable_everything()
    assert room.state("tent-1/temp_c").state == STATE_UNAVAILABLE
    assert room.state("tent-1/last_seen").state == STATE_UNKNOWN
    assert room.state("tent-1/rejected").state == "0"
    await room.let_pass(86_400)
    assert room.state("tent-1/key_age").state == "1"


async def test_metric_that_was_not_in_the_reading(tent: RoomDevice) -> None:
    """A metric that the device left out is unknown, not unavailable: the device is there."""
    await tent.report({"temp_c": 21.5})
    assert tent.room.state("tent-1/humidity_percent").state == STATE_UNKNOWN
    assert tent.room.state("tent-1/vpd_kpa").state == STATE_UNKNOWN


async def test_values_do_not_survive_an_outage(tent: RoomDevice) -> None:
    """What was measured before an outage is not shown as current after it."""
    await tent.report({"temp_c": 21.5, "humidity_percent": 60.0})
    await tent.room.let_pass(600)
    await tent.report({"temp_c": 22.5})
    assert tent.room.state("tent-1/temp_c").state == "22.5"
    assert tent.room.state("tent-1/humidity_percent").state == STATE_UNKNOWN


async def test_last_seen(tent: RoomDevice) -> None:
    """Last seen is a time, and outlives the device's silence."""
    room = tent.room
    await room.enable_everything()
    await tent.report({"temp_c": 21.5})
    assert room.state("tent-1/last_seen").state == "2026-11-23T12:00:00+00:00"
    await room.let_pass(70)
    await tent.report({"temp_c": 21.5})
    await room.let_pass(10)
    assert room.state("tent-1/last_seen").state == "2026-11-23T12:01:10+00:00"
    await room.let_pass(600)
    assert room.state("tent-1/temp_c").state == STATE_UNAVAILABLE
    assert room.state("tent-1/last_seen").state == "2026-11-23T12:01:10+00:00"


async def test_only_what_changed_is_written(tent: RoomDevice) -> None:
    """A reading writes the states of the values that changed, once each, and no others."""
    room = tent.room
    await tent.report({"temp_c": 21.5, "humidity_percent": 60.0})
    written = room.listen_to_states("tent-1")
    await room.let_pass(5)
    await tent.report({"temp_c": 21.5, "humidity_percent": 61.0})
    states = {state.entity_id: state.state for state in written if state is not None}
    assert len(written) == 2
    assert states.keys() == {room.entity_id("tent-1/humidity_percent"), room.entity_id("tent-1/vpd_kpa")}
    written.clear()
    await tent.report({"temp_c": 21.5, "humidity_percent": 61.0})
    assert written == []


async def test_one_context_per_reading(tent: RoomDevice) -> None:
    """What one message set off belongs together, and apart from the next one."""
    room = tent.room
    await tent.report({"temp_c": 21.5, "humidity_percent": 60.0})
    first = {room.state(f"tent-1/{key}").context.id for key in ("temp_c", "humidity_percent", "vpd_kpa")}
    await tent.report({"temp_c": 22.5, "humidity_percent": 61.0})
    second = {room.state(f"tent-1/{key}").context.id for key in ("temp_c", "humidity_percent", "vpd_kpa")}
    assert len(first) == len(second) == 1
    assert first != second
    assert room.state("tent-1/temp_c").context.user_id is None


async def test_device_registry(room: Room, snapshot: SnapshotAssertion) -> None:
    """A device shows what it is, where it is and through what it is connected."""
    zone = await room.add_zone("Flower tent")
    tent = await room.enrol(zone="Flower tent")
    tent.protocol.firmware, tent.protocol.model = "v1.2.3", "ESP32-C6"
    await tent.report({"temp_c": 21.5})
    device, hub = room.device(), room.device(DOMAIN)
    assert device == snapshot(name="device")
    assert hub == snapshot(name="hub")
    assert device.via_device_id == hub.id
    assert device.config_subentry_id == room.subentry().subentry_id
    assert device.area_id == "flower_tent"
    assert zone.subentry_id != room.subentry().subentry_id
    assert device.serial_number == "tent-1"


async def test_user_s_name_and_area_stay(room: Room) -> None:
    """What the user chose in Home Assistant for a device is not overwritten by its settings."""
    tent = await room.enrol()
    registry = dr.async_get(room.hass)
    registry.async_update_device(room.device().id, name_by_user="My tent", area_id=None)
    await _change(room, "temp_c", name="Renamed")
    await tent.report({"temp_c": 21.5})
    assert (room.device().name, room.device().name_by_user) == ("Renamed", "My tent")
    await room.reload()
    assert (room.device().name, room.device().name_by_user) == ("Renamed", "My tent")


async def test_metric_is_added_alone(tent: RoomDevice) -> None:
    """A new metric gets its entity; those that are there are not touched."""
    room = tent.room
    await tent.report({"temp_c": 21.5, "humidity_percent": 60.0})
    before = {entity.entity_id: entity for entity in room.entities(SENSOR)}
    written = room.listen_to_states("tent-1")
    await _change(room, "temp_c", "humidity_percent", "ph")
    after = {entity.entity_id: entity for entity in room.entities(SENSOR)}
    (added,) = after.keys() - before.keys()
    assert before.items() <= after.items()
    assert {state.entity_id for state in written if state is not None} == {added}
    assert room.state("tent-1/ph").state == STATE_UNKNOWN
    await tent.report({"ph": 6.1})
    assert room.state("tent-1/ph").state == "6.1"
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_metric_is_removed_alone(tent: RoomDevice) -> None:
    """A metric that is taken away takes its entity along, and what followed from it."""
    room = tent.room
    await tent.report({"temp_c": 21.5, "humidity_percent": 60.0})
    gone = {room.entity_id("tent-1/humidity_percent"), room.entity_id("tent-1/vpd_kpa")}
    before = {entity.entity_id: entity for entity in room.entities(SENSOR)}
    kept = room.state("tent-1/temp_c")
    await _change(room, "temp_c")
    after = {entity.entity_id: entity for entity in room.entities(SENSOR)}
    assert before.keys() - after.keys() == gone
    assert after.items() <= before.items()
    assert [room.hass.states.get(entity_id) for entity_id in gone] == [None, None]
    assert room.state("tent-1/temp_c") is kept
    await tent.report({"temp_c": 22.5})
    assert room.state("tent-1/temp_c").state == "22.5"


async def test_metric_comes_back(tent: RoomDevice) -> None:
    """A metric that is taken away and given back has its entity again, without its old value."""
    room = tent.room
    await tent.report({"temp_c": 21.5, "humidity_percent": 60.0})
    await _change(room, "temp_c")
    await _change(room, "temp_c", "humidity_percent")
    assert room.state("tent-1/humidity_percent").state == STATE_UNKNOWN
    await tent.report({"humidity_percent": 61.0})
    assert room.state("tent-1/humidity_percent").state == "61.0"


async def test_entity_that_the_user_disabled_is_removed_as_well(tent: RoomDevice) -> None:
    """No entity of a metric stays behind that the device may not report."""
    room = tent.room
    er.async_get(room.hass).async_update_entity(
        room.entity_id("tent-1/humidity_percent"), disabled_by=er.RegistryEntryDisabler.USER
    )
    await room.settle()
    await _change(room, "temp_c")
    assert "tent-1/humidity_percent" not in room.unique_ids()


async def test_identifiers_that_begin_alike(room: Room) -> None:
    """What one device reports is not taken for what another does whose identifier begins the same way."""
    await room.enrol("tent-1", "temp_c", "leaf_temp_c")
    leaf = await room.enrol("tent-1_leaf", "temp_c", "ph")
    await leaf.report({"temp_c": 20.5, "ph": 6.0})
    assert room.state("tent-1_leaf/temp_c").state == "20.5"
    await _change(room, "temp_c")
    assert "tent-1/leaf_temp_c" not in room.unique_ids()
    assert {"tent-1_leaf/ph", "tent-1_leaf/temp_c"} <= room.unique_ids()


async def test_new_device_leaves_others_alone(tent: RoomDevice) -> None:
    """Enrolling and removing a device writes no state of another."""
    room = tent.room
    await tent.report({"temp_c": 21.5, "humidity_percent": 60.0})
    coordinator = room.hub.enrolment.coordinators["tent-1"]
    written = room.listen_to_states("tent-1")
    other = await room.enrol("tent-2")
    await other.report({"temp_c": 19.5})
    await room.remove("tent-2")
    assert [state for state in written if state is not None and "tent_1" in state.entity_id] == []
    assert room.hub.enrolment.coordinators["tent-1"] is coordinator


async def test_entities_are_there_after_a_restart(tent: RoomDevice) -> None:
    """A restart changes no entity."""
    before = {entity.unique_id: entity.entity_id for entity in tent.room.entities(SENSOR)}
    await tent.room.reload()
    assert {entity.unique_id: entity.entity_id for entity in tent.room.entities(SENSOR)} == before


async def test_silent_sensor_is_named(room: Room) -> None:
    """Whoever reads of a sensor fault reads which sensor, and of which device; the recorder does not keep it."""
    zone = await room.add_zone("Tent")
    tent = await room.enrol("tent-1", "temp_c", "co2_ppm", zone="Tent")
    events = async_capture_events(room.hass, "grokmon_security_event")
    await tent.report({"temp_c": 21.5})
    interlock = f"{zone.subentry_id}/interlock"
    assert "silent" not in room.state(interlock).attributes
    await room.let_pass(290)
    await tent.report({"temp_c": 21.5})
    await room.let_pass(15)
    assert room.state(interlock).state == "sensor_fault"
    assert room.state(interlock).attributes["silent"] == ["Tent 1 Carbon dioxide"]
    info = room.state(interlock).state_info
    assert info is not None
    assert "silent" in info["unrecorded_attributes"]
    details = [event.data["detail"] for event in events]
    assert details == ["sensor_fault in Tent, co2_ppm of Tent 1"]


async def test_audit_state(tent: RoomDevice) -> None:
    """An audit trail that cannot be written shows as a fault, and its recovery as well."""
    room = tent.room
    await room.let_pass(10)
    assert room.state("hub/audit").state == "ok"
    with patch("os.write", side_effect=OSError(ENOSPC, "No space left on device")):
        await tent.report({"temp_c": 21.5})
        await room.let_pass(1)
        await room.let_pass(10)
        assert room.state("hub/audit").state == "fault"
    await room.let_pass(30)
    await room.let_pass(10)
    assert room.state("hub/audit").state == "ok"
    assert (await room.call("verify_audit"))["result"] == "good"
    await room.let_pass(10)
    attributes = room.state("hub/audit").attributes
    assert (attributes["last_result"], attributes["last_checkpoint"]) == ("good", room.hub.audit.checkpoint)


@pytest.mark.parametrize("name", [name for name, metric in NUMBERS.items() if metric.device_class])
def test_class_fits_the_unit(name: str) -> None:
    """Home Assistant knows the unit for the class."""
    metric = NUMBERS[name]
    device_class = SensorDeviceClass(metric.device_class or "")
    assert metric.unit in DEVICE_CLASS_UNITS[device_class]
    assert metric.state_class in DEVICE_CLASS_STATE_CLASSES[device_class]
