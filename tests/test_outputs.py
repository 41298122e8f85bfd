"""Snapshots of the entities that drive outputs and show zones, and how they follow what changes."""

from typing import Any

from homeassistant.config_entries import ConfigFlowResult, SubentryFlowResult
from homeassistant.exceptions import ServiceValidationError
import pytest
from syrupy.assertion import SnapshotAssertion

from custom_components.grokmon.gateway.actuators import Command, Key, Role

from .common import Room, RoomDevice

PLATFORMS = ("light", "fan", "switch", "number", "button", "select")


@pytest.fixture
async def node(room: Room) -> RoomDevice:
    """Return a device in a zone with an output of every role, and a second lamp, that measures the air."""
    await room.hass.config.async_set_time_zone("UTC")
    await room.add_zone("Tent")
    actuators = [{"role": role.value} for role in Role]
    second = {"role": "grow_light", "name": "grow_light_left", "min_percent": 10}
    device = await room.enrol("node", "temp_c", "humidity_percent", actuators=[*actuators, second], zone="Tent")
    await device.act()
    return device


@pytest.mark.parametrize("domain", PLATFORMS)
async def test_entities(node: RoomDevice, domain: str, snapshot: SnapshotAssertion) -> None:
    """Entities have names, classes and states that Home Assistant's users expect."""
    entities = node.room.entities(domain)
    assert entities
    for entity in entities:
        stable = entity.unique_id.replace(next(iter(node.room.hub.zones.coordinators)), "zone")
        state = node.room.hass.states.get(entity.entity_id)
        assert state is not None
        shown = {"unique_id": stable, "translation_key": entity.translation_key, "category": entity.entity_category}
        attributes = {key: value for key, value in state.attributes.items() if key != "friendly_name"}
        assert shown | {"name": state.name, "state": state.state, "attributes": attributes} == snapshot(name=stable)


async def test_zone_shows_climate_light_and_water(node: RoomDevice) -> None:
    """The zone says what it measures, whether that is in target, and when the light changes."""
    room = node.room
    zone = next(iter(room.hub.zones.coordinators))
    assert room.state(f"{zone}/vpd_in_target").state == "unknown"
    assert room.state(f"{zone}/light_period").state == "on"
    assert room.state(f"{zone}/next_light_change").state == "2026-11-24T00:00:00+00:00"
    assert room.state(f"{zone}/water_left").state == "3000"
    await node.report({"temp_c": 24.0, "humidity_percent": 65.0})
    await room.let_pass(10)
    assert room.state(f"{zone}/vpd").state == "1.04"
    assert room.state(f"{zone}/vpd_in_target").state == "on"
    assert room.state(f"{zone}/climate_in_target").state == "on"
    await node.report({"temp_c": 29.0, "humidity_percent": 65.0})
    await room.let_pass(10)
    assert room.state(f"{zone}/climate_in_target").state == "off"
    await room.act("select", "select_option", f"{zone}/stage", option="harvest")
    assert room.state(f"{zone}/stage").state == "harvest"
    await room.let_pass(10)
    assert room.state(f"{zone}/next_light_change").state == "unknown"
    (entry,) = await room.audit("stage")
    assert (entry["stage"], entry["caller"]) == ("harvest", "person")


async def test_dark_period_and_its_override(node: RoomDevice) -> None:
    """A light that burns goes off when it gets dark, and an administrator can let it burn for a while."""
    room = node.room
    await node.report({"temp_c": 24.0, "humidity_percent": 65.0})
    await room.act("light", "turn_on", "node/output_grow_light")
    await room.act("select", "select_option", f"{next(iter(room.hub.zones.coordinators))}/stage", option="harvest")
    await room.let_pass(3)
    assert room.state("node/output_grow_light").state == "off"
    with pytest.raises(ServiceValidationError) as refused:
        await room.act("light", "turn_on", "node/output_grow_light")
    assert refused.value.translation_key == "dark_period_always"
    await room.let_pass(3)
    assert await room.call("override_photoperiod", {"zone": "Tent", "minutes": 1}) == {"zone": "Tent", "minutes": 1}
    await room.act("light", "turn_on", "node/output_grow_light")
    await room.let_pass(30)
    assert room.state("node/output_grow_light").state == "on"
    await room.let_pass(31)
    assert room.state("node/output_grow_light").state == "off"
    (entry,) = await room.audit("photoperiod_override")
    assert (entry["minutes"], entry["identity"]) == (1, room.admin.user_id)


async def test_outputs_come_and_go(node: RoomDevice) -> None:
    """Outputs that are added get entities, those that are removed lose theirs, and the rest stays as it is."""
    room = node.room
    menu = await room.start_flow("device", room.subentry("node").subentry_id)
    form = await room.submit(menu, {"next_step_id": "outputs"})
    done = await room.submit(form, {"actuators": ["exhaust", "outlet"]})
    assert done["reason"] == "reconfigure_successful"
    assert {each for each in room.unique_ids() if each.startswith("node/output")} == {
        "node/output_exhaust",
        "node/output_outlet",
    }
    menu = await room.start_flow("device", room.subentry("node").subentry_id)
    form = await room.submit(menu, {"next_step_id": "output"})
    form = await room.submit(form, {"actuator": "exhaust"})
    answers = {"lease_s": 60, "min_percent": 90, "max_percent": 80, "safe_percent": 0, "needs_approval": True}
    again = await room.submit(form, answers)
    assert again["errors"] == {"min_percent": "lowest_above_highest"}
    await room.submit(again, answers | {"min_percent": 20, "speeds": 4})
    actuator = room.hub.gateway.registry["node"].actuators[0]
    assert (actuator.lease_s, actuator.min_percent, actuator.speeds, actuator.needs_approval) == (60, 20, 4, True)
    await room.act("fan", "set_percentage", "node/output_exhaust", percentage=50)
    assert room.state("node/output_exhaust").attributes["percentage_step"] == 25


async def test_device_needs_something_to_do(room: Room) -> None:
    """A device that measures nothing keeps at least one output."""
    await room.enrol("node", actuators=[{"role": "outlet"}])
    menu = await room.start_flow("device", room.subentry("node").subentry_id)
    form = await room.submit(menu, {"next_step_id": "outputs"})
    again = await room.submit(form, {"actuators": []})
    assert again["errors"] == {"actuators": "field_missing"}


def _filled(form: SubentryFlowResult) -> dict[str, Any]:
    """Return what the fields of a form are filled with."""
    assert form["data_schema"] is not None
    return {str(key): key.description["suggested_value"] for key in form["data_schema"].schema if key.description}


@pytest.mark.parametrize(
    ("role", "wrong", "errors"),
    [
        ("irrigation", {"dose_ml": 300, "max_dose_ml": 200}, {"dose_ml": "dose_above_largest"}),
        ("co2_valve", {"inject_s": 60, "hour_s": 59}, {"inject_s": "injection_above_hour"}),
    ],
)
async def test_limits_that_do_not_fit_together(
    room: Room, role: str, wrong: dict[str, Any], errors: dict[str, str]
) -> None:
    """Say what is wrong at the field that is wrong."""
    await room.enrol("node", actuators=[{"role": role}])
    menu = await room.start_flow("device", room.subentry("node").subentry_id)
    form = await room.submit(await room.submit(menu, {"next_step_id": "output"}), {"actuator": role})
    again = await room.submit(form, _filled(form) | wrong)
    assert again["errors"] == errors
    done = await room.submit(again, _filled(form))
    assert done["reason"] == "reconfigure_successful"
    # The words are ours.
    assert "translation_domain" not in done


async def test_forms_speak_the_language_of_the_house(room: Room) -> None:
    """Name outputs, stages and callers as the lists do; an output with a name of its own by that."""
    room.hass.config.language = "de"
    second = {"role": "grow_light", "name": "grow_light_left"}
    await room.enrol("node", actuators=[{"role": "grow_light"}, second])
    for name, label in (("grow_light", "Pflanzenlampe"), ("grow_light_left", "grow_light_left")):
        menu = await room.start_flow("device", room.subentry("node").subentry_id)
        form = await room.submit(await room.submit(menu, {"next_step_id": "output"}), {"actuator": name})
        assert form["description_placeholders"] == {"actuator": label}
    zone = await room.add_zone("Tent", "seedling")
    menu = await room.start_flow("zone", zone.subentry_id)
    form = await room.submit(await room.submit(menu, {"next_step_id": "targets"}), {"stage": "flowering"})
    assert form["description_placeholders"] == {"stage": "Blüte"}
    options = room.hass.config_entries.options
    options_menu = await options.async_init(room.entry.entry_id)
    classes = await options.async_configure(options_menu["flow_id"], {"next_step_id": "limits"})
    limits = await options.async_configure(classes["flow_id"], {"caller": "ai"})
    assert limits["description_placeholders"] == {"caller": "KI"}


@pytest.mark.parametrize(
    ("step", "answers", "data"),
    [
        (
            "budgets",
            {"lights_on": "20:30:00", "lamp_hours": 10, "water_ml_day": 500, "co2_hour_s": 60},
            {"lights_on_s": 73_800.0, "lamp_hours": 10, "water_ml_day": 500, "co2_hour_s": 60},
        ),
        ("settings", {"name": "Bloom", "stage": "flowering"}, {"stage": "flowering"}),
    ],
)
async def test_zone_is_changed(room: Room, step: str, answers: dict[str, Any], data: dict[str, Any]) -> None:
    """What was chosen for a zone takes effect at once."""
    zone = await room.add_zone("Tent", "vegetative")
    menu = await room.start_flow("zone", zone.subentry_id)
    form = await room.submit(menu, {"next_step_id": step})
    done = await room.submit(form, answers)
    assert done["reason"] == "reconfigure_successful"
    assert data.items() <= room.entry.subentries[zone.subentry_id].data.items()
    known = room.hub.dispatcher.controller.zones[zone.subentry_id]
    assert known.stage == data.get("stage", "vegetative")


async def test_targets_and_interlocks_are_changed(room: Room) -> None:
    """Targets are of a stage; what makes no sense is shown again."""
    zone = await room.add_zone("Tent", "flowering")
    menu = await room.start_flow("zone", zone.subentry_id)
    form = await room.submit(await room.submit(menu, {"next_step_id": "targets"}), {"stage": "flowering"})
    assert form["data_schema"] is not None
    answers = {str(key): key.description["suggested_value"] for key in form["data_schema"].schema}
    again = await room.submit(form, answers | {"temp_c_low": 30, "temp_c_high": 20})
    assert again["errors"] == {"temp_c_low": "lowest_above_highest"}
    await room.submit(again, answers | {"temp_c_low": 21})
    assert room.hub.dispatcher.controller.zones[zone.subentry_id].targets.temp_c.low == 21
    menu = await room.start_flow("zone", zone.subentry_id)
    form = await room.submit(menu, {"next_step_id": "interlocks"})
    assert form["data_schema"] is not None
    answers = {str(key): key.description["suggested_value"] for key in form["data_schema"].schema}
    await room.submit(form, answers | {"enabled": ["smoke"], "over_temperature_c": 33})
    settings = room.hub.dispatcher.controller.zones[zone.subentry_id].interlocks
    assert [each.value for each in settings.enabled] == ["smoke"]
    assert settings.over_temperature_c == 33


async def _limits_of_the_ai(room: Room) -> ConfigFlowResult:
    """Open the form of the AI's limits."""
    flow = room.hass.config_entries.options
    menu = await flow.async_init(room.entry.entry_id)
    form = await flow.async_configure(menu["flow_id"], {"next_step_id": "limits"})
    return await flow.async_configure(form["flow_id"], {"caller": "ai"})


def _suggested(form: ConfigFlowResult) -> dict[str, Any]:
    """Return what a form suggests."""
    assert form["data_schema"] is not None
    return {str(key): key.description["suggested_value"] for key in form["data_schema"].schema}


async def test_limits_and_users_of_an_ai_are_changed(room: Room) -> None:
    """Classes of callers have limits of their own, and a user can be an AI's."""
    flow = room.hass.config_entries.options
    form = await _limits_of_the_ai(room)
    answers = _suggested(form)
    assert (answers["min_dose_ml"], answers["max_dose_ml"]) == (50, 500)
    await flow.async_configure(form["flow_id"], {**answers, "max_dose_ml": 300})
    await room.settle()
    assert room.hub.dispatcher.controller.policy.limits["ai"].max_dose_ml == 300  # type: ignore[index] # by its name
    menu = await flow.async_init(room.entry.entry_id)
    form = await flow.async_configure(menu["flow_id"], {"next_step_id": "ai_users"})
    await flow.async_configure(form["flow_id"], {"ai_users": [room.admin.user_id]})
    await room.settle()
    assert (await room.hub.callers.async_identify(room.admin)).caller == "ai"
    assert room.hub.dispatcher.controller.policy.limits["ai"].max_dose_ml == 300  # type: ignore[index] # by its name


@pytest.mark.parametrize("what", ["dose_ml", "inject_s"])
async def test_limits_upside_down(room: Room, what: str) -> None:
    """A class that could ask for nothing at all is asked about again, with what was entered."""
    flow = room.hass.config_entries.options
    form = await _limits_of_the_ai(room)
    answers = _suggested(form)
    wrong = answers | {f"min_{what}": 101, f"max_{what}": 100}
    form = await flow.async_configure(form["flow_id"], wrong)
    assert form["errors"] == {f"min_{what}": "lowest_above_highest"}
    assert _suggested(form) == wrong
    assert "limits" not in room.entry.options
    await flow.async_configure(form["flow_id"], answers | {f"min_{what}": 100, f"max_{what}": 100})
    assert room.entry.options["limits"]["ai"][f"max_{what}"] == 100


async def test_user_of_an_ai_that_is_no_more(room: Room) -> None:
    """A user that was deleted is not suggested, and keeps nobody from choosing others."""
    gone = {**room.entry.options, "ai_users": ["deleted", room.admin.user_id]}
    room.hass.config_entries.async_update_entry(room.entry, options=gone)
    await room.settle()
    flow = room.hass.config_entries.options
    menu = await flow.async_init(room.entry.entry_id)
    form = await flow.async_configure(menu["flow_id"], {"next_step_id": "ai_users"})
    assert form["data_schema"] is not None
    (key,) = form["data_schema"].schema
    assert key.description == {"suggested_value": [room.admin.user_id]}
    await flow.async_configure(form["flow_id"], {"ai_users": key.description["suggested_value"]})
    assert room.entry.options["ai_users"] == [room.admin.user_id]


async def test_rehearsal_under_the_limits_that_are_set(node: RoomDevice) -> None:
    """What is not changed in a rehearsal is as a person set it, and not as it came."""
    room = node.room
    await room.call("irrigate", {"device_id": "node", "amount_ml": 500})
    limits = {"person": {"max_dose_ml": 400}}
    room.hass.config_entries.async_update_entry(room.entry, options={**room.entry.options, "limits": limits})
    await room.settle()
    for changes in ({}, {"limits": {"person": {"rate": 2}, "ai": {"rate": 1}}}):
        assert [each["code"] for each in (await room.call("rehearse", changes))["refused"]] == ["limit_exceeded"]


async def test_rehearsal(node: RoomDevice) -> None:
    """What a changed policy would have refused is told, and nothing moves."""
    room = node.room
    await room.call("irrigate", {"device_id": "node", "amount_ml": 500})
    with pytest.raises(ServiceValidationError):
        await room.call("irrigate", {"device_id": "node", "amount_ml": float("nan")})
    before = len(room.published)
    assert (await room.call("rehearse"))["refused"] == []
    changed = await room.call("rehearse", {"days": 1, "zones": {"tent": {"water_ml_day": 100}}})
    assert [refused["code"] for refused in changed["refused"]] == ["budget_exceeded"]
    assert changed["commands"] == 1
    wrong: dict[str, dict[str, Any]] = {
        "zone_invalid": {"zones": {"Tent": {"stage": "compost"}}},
        "unknown_zone": {"zones": {"Tnet": {"stage": "harvest"}}},
        "field_invalid": {"limits": {"ai": {"colour": 1}}},
    }
    for code, changes in wrong.items():
        with pytest.raises(ServiceValidationError) as refused:
            await room.call("rehearse", changes)
        assert refused.value.translation_key == code
    assert len(room.published) == before


@pytest.mark.parametrize(("brightness", "percent"), [(1, 1), (2, 1), (255, 100)])
async def test_least_brightness_is_not_off(node: RoomDevice, brightness: int, percent: float) -> None:
    """Who turns a lamp on gets light, be it ever so little."""
    await node.report({"temp_c": 24.0, "humidity_percent": 65.0})
    await node.room.act("light", "turn_on", "node/output_grow_light", brightness=brightness)
    lamp = node.protocol.outputs.outputs["grow_light"]
    assert (lamp.on, lamp.percent) == (True, percent)


async def test_fan_that_hardly_turns_is_not_shown_as_standing(node: RoomDevice) -> None:
    """What is on has a speed."""
    room = node.room
    command = Command(key=Key("node", "exhaust"), percent=0.4)
    await room.hub.async_command(command, await room.hub.callers.async_identify(room.admin))
    await room.settle()
    assert room.state("node/output_exhaust").attributes["percentage"] == 1


async def test_dose_that_is_shown_is_the_one_that_is_given(node: RoomDevice) -> None:
    """An amount from before the pump's limit was lowered is asked for no more."""
    room = node.room
    await room.act("number", "set_value", "node/output_irrigation_dose", value=800)
    menu = await room.start_flow("device", room.subentry("node").subentry_id)
    form = await room.submit(await room.submit(menu, {"next_step_id": "output"}), {"actuator": "irrigation"})
    done = await room.submit(form, _filled(form) | {"max_dose_ml": 300})
    assert done["reason"] == "reconfigure_successful"
    assert room.state("node/output_irrigation_dose").state == "300.0"
    await room.act("button", "press", "node/output_irrigation_dose_now")
    assert (await room.audit("command"))[-1]["params"] == {"on": True, "amount_ml": 300.0}
