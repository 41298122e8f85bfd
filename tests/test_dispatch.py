"""Tests of commands: from a service call to an output and back, and everything that can come in between."""

import asyncio
from collections.abc import Awaitable, Coroutine
import contextlib
from typing import Any
from unittest.mock import AsyncMock, Mock, patch

from homeassistant.auth.models import User
from homeassistant.core import Context
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
import probatio
import pytest
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped] # has no py.typed
    async_capture_events,
    async_fire_mqtt_message,
)

from custom_components.grokmon.books import Books
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.actuators import Command, Key
from custom_components.grokmon.gateway.audit import Verdict
from custom_components.grokmon.gateway.errors import Code, CommandError, PolicyError
from custom_components.grokmon.gateway.models import Outbound
from custom_components.grokmon.gateway.principals import Caller, Principal

from .common import Room, RoomDevice

LIGHT = {"role": "grow_light"}
FAN = {"role": "exhaust"}
PUMP = {"role": "irrigation"}
OUTLET = {"role": "outlet"}
NODE = [LIGHT, FAN, PUMP, OUTLET]


@pytest.fixture
async def node(room: Room) -> RoomDevice:
    """Return a device in a zone that drives a lamp, a fan, a pump and an outlet, and carries out what it is told."""
    # The clock stands at noon there, and lights may burn.
    await room.hass.config.async_set_time_zone("UTC")
    await room.add_zone("Tent")
    device = await room.enrol("node", actuators=NODE, zone="Tent")
    await device.act()
    return device


def outputs(device: RoomDevice) -> dict[str, bool]:
    """Return which outputs are on."""
    return {name: output.on for name, output in device.protocol.outputs.outputs.items()}


def turn_on(room: Room, unique_id: str, **data: Any) -> Coroutine[Any, Any, None]:
    """Turn something on."""
    return room.act("homeassistant", "turn_on", unique_id, **data)


async def refused(act: Awaitable[Any]) -> str:
    """Return the translation key of what an act raises."""
    with pytest.raises(HomeAssistantError) as error:
        await act
    assert error.value.translation_domain == DOMAIN
    return str(error.value.translation_key)


async def test_light_is_set_and_shown_as_reported(node: RoomDevice) -> None:
    """Turn a lamp on by its entity: the device is told, and what it reports is the state."""
    room = node.room
    assert room.state("node/output_grow_light").state == "off"
    await room.act("light", "turn_on", "node/output_grow_light", brightness_pct=60)
    assert node.protocol.outputs.outputs["grow_light"].percent == 60
    state = room.state("node/output_grow_light")
    assert (state.state, state.attributes["brightness"]) == ("on", 153)
    await room.act("light", "turn_off", "node/output_grow_light")
    assert room.state("node/output_grow_light").state == "off"
    entries = await room.audit("command", "command_done")
    assert sorted(entry["event"] for entry in entries) == ["command", "command", "command_done", "command_done"]
    assert (entries[0]["caller"], entries[0]["identity"]) == ("person", room.admin.user_id)
    assert entries[0]["cid"] == entries[1]["cid"]


async def test_commands_are_not_retained_and_of_qos_1(node: RoomDevice) -> None:
    """A command is for now and for this device, and expires on a broker that can let it."""
    await turn_on(node.room, "node/output_outlet")
    (command,) = [each for each in node.room.published if each.topic.endswith("/down/command")]
    assert (command.qos, command.retain) == (1, False)
    claims = node.identity.verify_down(command.payload, "command")
    assert (claims["seq"], claims["action"], claims["lease_s"]) == (1, "set_switch", 300)


async def test_commands_expire_on_a_broker_that_can_let_them(node: RoomDevice) -> None:
    """On MQTT 5 the broker drops a command that it could not deliver in time; before that it has no way to."""
    room = node.room
    for protocol, expires in (("5", 10), ("3.1.1", None)):
        entries = [Mock(data={"protocol": protocol})]
        with patch.object(room.hass.config_entries, "async_loaded_entries", return_value=entries):
            await room.act("switch", "turn_off", "node/output_outlet")
        assert room.mqtt.async_publish.mock_calls[-1].kwargs == {"message_expiry_interval": expires}


async def test_fan_and_pump_and_number(node: RoomDevice) -> None:
    """Drive a fan in percent, and a pump by its switch, its number and its button; a dose ends by itself."""
    room = node.room
    await room.act("fan", "set_percentage", "node/output_exhaust", percentage=40)
    assert room.state("node/output_exhaust").attributes["percentage"] == 40
    await room.act("fan", "turn_on", "node/output_exhaust", percentage=70)
    await room.act("fan", "turn_off", "node/output_exhaust")
    assert room.state("node/output_exhaust").attributes["percentage"] == 0
    await turn_on(room, "node/output_irrigation")
    assert room.state("node/output_irrigation").state == "on"
    await room.let_pass(8)
    await node.answer()
    await room.settle()
    assert room.state("node/output_irrigation").state == "off"
    await room.let_pass(60)
    number = next(each.entity_id for each in room.entities("number"))
    await room.hass.services.async_call("number", "set_value", {"entity_id": number, "value": 100}, blocking=True)
    button = next(each.entity_id for each in room.entities("button") if each.unique_id.endswith("_dose_now"))
    await room.hass.services.async_call("button", "press", {"entity_id": button}, blocking=True, context=room.admin)
    assert (await room.audit("command"))[-1]["params"] == {"on": True, "amount_ml": 100.0}


async def test_minus_500_ml_is_refused(node: RoomDevice) -> None:
    """Refuse a negative dose, which neither moves nor refunds anything."""
    room = node.room
    zone = next(iter(room.hub.zones.coordinators))
    left = room.state(f"{zone}/water_left").state
    for amount, key in ((-500, "parameter_invalid"), (float("nan"), "parameter_invalid"), (99_999, "limit_exceeded")):
        assert await refused(room.call("irrigate", {"device_id": "node", "amount_ml": amount})) == key
    assert room.state(f"{zone}/water_left").state == left
    assert not any(outputs(node).values())
    entries = await room.audit("command_refused")
    assert [(entry["code"], entry["params"]) for entry in entries] == [
        ("parameter_invalid", {"amount_ml": -500.0}),
        ("limit_exceeded", {"amount_ml": 99_999.0}),
    ]


async def test_refusals_are_summed_up(node: RoomDevice) -> None:
    """An automation that hammers at a limit does not fill the disk."""
    room = node.room
    for _ in range(20):
        assert await refused(room.call("irrigate", {"device_id": "node", "amount_ml": -1})) == "parameter_invalid"
    assert len(await room.audit("command_refused")) == 1
    await room.let_pass(61)
    (again,) = await room.audit("command_refused_again")
    assert again["count"] == 19


async def test_absent_device_gets_nothing(room: Room) -> None:
    """Nothing is queued for a device that has not been heard; turning it off is tried."""
    await room.enrol("node", actuators=NODE)
    await refused_offline(room)
    assert not [each for each in room.published if each.topic.endswith("/down/command")]


@pytest.mark.parametrize("gone", ["silent", "restarted"])
async def test_device_that_is_not_heard_any_more_gets_nothing(node: RoomDevice, gone: str) -> None:
    """It costs no water until it says again what its outputs do: a reading is not enough, *off* is always tried."""
    room = node.room
    if gone == "silent":
        await room.let_pass(310)
    else:
        await room.reload()
    before = len(node.protocol.commands)
    for _ in range(3):
        assert await refused(room.call("irrigate", {"device_id": "node", "amount_ml": 1000})) == "device_offline"
    await node.report({})
    await refused_offline(room)
    assert len(node.protocol.commands) == before
    zone = next(iter(room.hub.zones.coordinators))
    assert room.state(f"{zone}/water_left").state == "3000"
    # Its answer says what they do.
    await room.call("stop", {"device_id": "node"})
    await turn_on(room, "node/output_outlet")
    assert outputs(node)["outlet"]


async def test_interlock_tries_a_fan_that_is_not_heard(room: Room) -> None:
    """It may still hear, and air costs nothing."""
    await room.add_zone("Tent")
    node = await room.enrol("node", actuators=[FAN], zone="Tent")
    await node.act()
    sensors = await room.enrol("sensors", "temp_c", zone="Tent")
    await room.let_pass(310)
    await sensors.report({"temp_c": 40.0})
    assert outputs(node)["exhaust"]


async def refused_offline(room: Room) -> None:
    """Have a command refused since the device is not there."""
    command = Command(key=Key("node", "outlet"), on=True)
    who = await room.hub.callers.async_identify(room.admin)
    with pytest.raises(PolicyError, match="device_offline"):
        await room.hub.async_command(command, who)


async def test_lost_answer_times_out_and_the_output_is_switched_off(node: RoomDevice) -> None:
    """Who asked is told; what may be on is told to stop; and the late answer is only noted."""
    room = node.room
    node.protocol.lose_acks = True
    call = asyncio.ensure_future(turn_on(room, "node/output_outlet"))
    await room.until(lambda: outputs(node)["outlet"])
    node.protocol.lose_acks = False
    room.tick(6)
    with pytest.raises(HomeAssistantError) as error:
        await call
    assert error.value.translation_key == "command_timeout"
    await room.settle()
    assert not outputs(node)["outlet"]
    assert [entry["event"] for entry in await room.audit("command_timeout")] == ["command_timeout"]


async def test_newer_command_takes_the_place_of_the_older(node: RoomDevice) -> None:
    """The first caller is told that somebody else came."""
    room = node.room
    node.protocol.lose_acks = True
    first = asyncio.ensure_future(room.act("fan", "set_percentage", "node/output_exhaust", percentage=40))
    await room.until(lambda: outputs(node)["exhaust"])
    node.protocol.lose_acks = False
    await room.act("fan", "set_percentage", "node/output_exhaust", percentage=60)
    with pytest.raises(HomeAssistantError) as error:
        await first
    assert error.value.translation_key == "command_superseded"
    assert node.protocol.outputs.outputs["exhaust"].percent == 60


@pytest.mark.parametrize("became", ["done", "timeout", "not sent", "offline", "stopped"])
@pytest.mark.parametrize("gone", [None, 0, 1])
async def test_two_who_switch_off_at_once(node: RoomDevice, became: str, gone: int | None) -> None:
    """Both want the same and learn the same, what becomes of the second *off*, also where the other one has gone."""
    room, dispatcher, off = node.room, node.room.hub.dispatcher, Command(key=Key("node", "outlet"), on=False)
    await turn_on(room, "node/output_outlet")
    who = await room.hub.callers.async_identify(room.admin)
    node.protocol.lose_acks = True
    calls = [asyncio.ensure_future(dispatcher.async_send(off, who))]
    await room.until(lambda: not outputs(node)["outlet"])
    errors = {"not sent": CommandError(Code.COMMAND_NOT_SENT, "away"), "offline": PolicyError(Code.DEVICE_OFFLINE, "x")}
    node.protocol.lose_acks = became != "done"
    with (
        patch.object(dispatcher, "_publish", side_effect=errors["not sent"])
        if became == "not sent"
        else patch.object(room.hub.gateway, "command", side_effect=errors["offline"])
        if became == "offline"
        else contextlib.nullcontext()
    ):
        calls.append(asyncio.ensure_future(dispatcher.async_send(off, who)))
        await asyncio.sleep(0)
        if gone is not None:
            calls[gone].cancel()
        if became == "timeout":
            room.tick(6)
        elif became == "stopped":
            await room.hass.config_entries.async_unload(room.entry.entry_id)
        told = await asyncio.gather(*calls, return_exceptions=True)
    code = {"timeout": "command_timeout", "offline": "device_offline", "done": None}.get(became, "command_not_sent")
    for each, error in enumerate(told):
        if each == gone and isinstance(error, asyncio.CancelledError):
            continue
        assert getattr(error, "code", None) == code
    assert dispatcher._waiters._waiting == {}
    node.protocol.lose_acks = False


async def test_device_that_refuses(node: RoomDevice) -> None:
    """A device may know better; the caller is told what it said."""
    node.protocol.outputs.specs["exhaust"]
    object.__setattr__(node.protocol.outputs.outputs["exhaust"].spec, "max_percent", 30.0)
    assert await refused(node.room.act("fan", "set_percentage", "node/output_exhaust", percentage=60)) == (
        "command_rejected"
    )
    assert node.room.state("node/output_exhaust").state == "off"


async def test_broker_that_is_away(node: RoomDevice) -> None:
    """A command that cannot be sent is an error, and costs no water."""
    room = node.room
    room.mqtt.connected = False
    assert await refused(turn_on(room, "node/output_irrigation")) == "command_not_sent_broker"
    assert room.hub.dispatcher.controller.ledger.given(room.steady, 86_400, keys=[Key("node", "irrigation")]) == 0
    assert not room.hub.dispatcher.controller.outputs[Key("node", "irrigation")].is_on


async def test_command_that_the_client_may_have_kept(node: RoomDevice) -> None:
    """Where nobody knows whether a dose was sent, it stays spent, and the caller is told."""
    room = node.room
    before = room.mqtt.async_publish.side_effect

    def fail(topic: str, payload: bytes, *rest: Any, **more: Any) -> Any:
        if topic.endswith("/down/command"):
            raise HomeAssistantError("the connection was lost")
        return before(topic, payload, *rest, **more)

    room.mqtt.async_publish.side_effect = fail
    assert await refused(turn_on(room, "node/output_irrigation")) == "command_not_sent"
    assert room.hub.dispatcher.controller.ledger.given(room.steady, 86_400, keys=[Key("node", "irrigation")]) == 200
    assert not room.hub.dispatcher.controller.outputs[Key("node", "irrigation")].is_on
    assert [entry["event"] for entry in await room.audit("command_lost", "command_withdrawn")] == ["command_lost"]


async def test_nothing_is_switched_on_that_cannot_be_recorded(
    node: RoomDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the audit trail nothing more is energised, and turning off works."""
    room = node.room
    await turn_on(room, "node/output_outlet")

    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room.hub.audit._file, "append", fail)
    assert await refused(turn_on(room, "node/output_irrigation")) == "audit_unavailable"
    assert not outputs(node)["irrigation"]
    await room.act("homeassistant", "turn_off", "node/output_outlet")
    assert not outputs(node)["outlet"]
    monkeypatch.undo()
    await turn_on(room, "node/output_irrigation")
    assert outputs(node)["irrigation"]


async def test_books_that_cannot_be_written(node: RoomDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dose that would be forgotten is not given."""
    room = node.room

    async def fail(_make: object) -> None:
        raise HomeAssistantError(translation_domain=DOMAIN, translation_key="store_not_written")

    monkeypatch.setattr(room.hub.dispatcher._books._store, "async_save", fail)
    assert await refused(turn_on(room, "node/output_irrigation")) == "audit_unavailable"
    assert not outputs(node)["irrigation"]
    await turn_on(room, "node/output_outlet")
    await room.let_pass(61)
    await room.hub.dispatcher.async_stop()


async def test_stop_overtakes_what_waits_for_the_disk(node: RoomDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command whose line is being written is never sent once somebody has switched off; nor is a cancelled one."""
    room = node.room
    flush, written = room.hub.audit.async_flush, asyncio.Event()

    async def slow(**options: bool) -> None:
        await written.wait()
        await flush(**options)

    monkeypatch.setattr(room.hub.audit, "async_flush", slow)
    call = asyncio.ensure_future(turn_on(room, "node/output_irrigation"))
    await room.until(lambda: room.hub.dispatcher.controller.outputs[Key("node", "irrigation")].is_on)
    who = await room.hub.callers.async_identify(room.admin)
    await room.hub.dispatcher.async_send(Command(key=Key("node", "irrigation"), on=False), who)
    written.set()
    assert await refused(call) == "command_superseded"
    written.clear()
    dose = Command(key=Key("node", "irrigation"), amount_ml=100)
    cancelled = asyncio.ensure_future(room.hub.dispatcher.async_send(dose, who))
    await room.until(lambda: room.hub.dispatcher.controller.outputs[Key("node", "irrigation")].is_on)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    written.set()
    await room.settle()
    assert not any(change.on for change in node.protocol.outputs.log)
    assert room.hub.dispatcher.controller.ledger.given(room.steady, 86_400, keys=[dose.key]) == 0


async def test_leases_are_renewed_and_nothing_else(node: RoomDevice) -> None:
    """What is to stay on is renewed every third of its lease, by messages that can switch nothing on."""
    room = node.room
    await turn_on(room, "node/output_outlet")
    for _ in range(7):
        await room.let_pass(100)
    actions = [
        node.identity.verify_down(each.payload, "command")["action"]
        for each in room.published
        if each.topic.endswith("/down/command")
    ]
    assert actions == ["set_switch", *["renew"] * 7]
    assert outputs(node)["outlet"]
    await room.act("homeassistant", "turn_off", "node/output_outlet")
    await room.let_pass(400)
    assert len([each for each in room.published if each.topic.endswith("/down/command")]) == 9


async def test_renewals_stop_when_the_broker_is_away(node: RoomDevice) -> None:
    """The device ends it by its lease, and Home Assistant knows."""
    room = node.room
    await turn_on(room, "node/output_outlet")
    room.mqtt.connected = False
    for _ in range(4):
        await room.let_pass(100)
    assert node.protocol.expire(room.now)
    assert not outputs(node)["outlet"]
    (ended,) = await room.audit("output_ended")
    assert (ended["actuator"], ended["reason"]) == ("outlet", "lost")


async def test_what_nobody_asked_for_is_stopped_after_a_start(node: RoomDevice) -> None:
    """On start what is on by a standing wish goes on, and what nobody asked for is stopped."""
    room = node.room
    await turn_on(room, "node/output_outlet")
    node.protocol.by_hand("exhaust", room.now, on=True, percent=30)
    await room.reload()
    await node.answer()
    await room.settle()
    assert outputs(node) == {"grow_light": False, "exhaust": False, "irrigation": False, "outlet": True}
    await room.let_pass(101)
    assert room.state("node/output_outlet").state == "on"


async def test_budget_survives_a_restart(node: RoomDevice) -> None:
    """Water that was given stays given."""
    room = node.room
    await room.call("irrigate", {"device_id": "node", "amount_ml": 1000})
    zone = next(iter(room.hub.zones.coordinators))
    assert room.state(f"{zone}/water_left").state == "2000"
    await room.reload()
    assert room.state(f"{zone}/water_left").state == "2000"


async def test_wrong_state_is_a_fault_that_an_administrator_resets(node: RoomDevice) -> None:
    """Commanded and observed differ for five seconds: latched, told, and refused until it is reset."""
    room = node.room
    node.protocol.outputs.stuck.add("outlet")
    await turn_on(room, "node/output_outlet")
    await room.let_pass(6)
    assert room.state("node/fault_outlet").state == "on"
    issue = ir.async_get(room.hass).async_get_issue(DOMAIN, "output_fault_node_outlet")
    assert issue is not None
    assert issue.is_fixable
    assert await refused(turn_on(room, "node/output_outlet")) == "output_fault"
    node.protocol.outputs.stuck.clear()
    await room.hub.async_reset_fault(Key("node", "outlet"), "user-1")
    await room.hub.async_reset_fault(Key("node", "outlet"), "user-1")
    assert ir.async_get(room.hass).async_get_issue(DOMAIN, "output_fault_node_outlet") is None
    await turn_on(room, "node/output_outlet")
    assert room.state("node/fault_outlet").state == "off"
    assert [entry["identity"] for entry in await room.audit("output_fault_reset")] == ["user-1"]


async def test_silent_device_is_unavailable(node: RoomDevice) -> None:
    """What is not heard is not shown; what it did is not taken for granted."""
    room = node.room
    await room.let_pass(310)
    assert room.state("node/output_outlet").state == "unavailable"
    (number,) = room.entities("number")
    state = room.hass.states.get(number.entity_id)
    assert state is not None
    assert state.state == "200.0"


async def test_device_that_starts_anew_fails_what_was_on_its_way(node: RoomDevice) -> None:
    """A caller is told when the device has lost its command."""
    room = node.room
    node.protocol.lose_acks = True
    call = asyncio.ensure_future(turn_on(room, "node/output_outlet"))
    await room.until(lambda: outputs(node)["outlet"])
    fresh = type(node.protocol)(node.identity, outputs=type(node.protocol.outputs)(node.protocol.outputs.specs))
    node.protocol = fresh
    async_fire_mqtt_message(room.hass, node.identity.up("hello"), fresh.hello(room.now), 1, False)
    await room.until(lambda: bool(list(node.downlinks())))
    await node.answer()
    with pytest.raises(HomeAssistantError) as error:
        await call
    assert error.value.translation_key == "command_failed"


async def test_revoked_device_is_left_to_its_lease(node: RoomDevice) -> None:
    """Nothing is renewed for a device that was revoked."""
    room = node.room
    await turn_on(room, "node/output_outlet")
    await room.call("revoke_device", {"device_id": "node"})
    before = len(room.published)
    await room.let_pass(200)
    assert len(room.published) == before


async def test_unexpected_answer_is_a_security_event(node: RoomDevice) -> None:
    """An answer that nobody waits for counts, and somebody is told."""
    room = node.room
    claims = {"iss": "node", "aud": node.identity.up("ack"), "sid": node.protocol.sid, "seq": 99}
    await node.send(node.identity.sign({**claims, "cid": "0" * 26, "result": "done"}), "ack")
    assert room.hub.refused_by_code("node") == {"ack_unexpected": 1}
    assert room.state("hub/security_event").attributes["code"] == "ack_unexpected"


async def test_loads_start_one_after_the_other(node: RoomDevice) -> None:
    """The second load waits for its turn."""
    room = node.room
    controller = room.hub.dispatcher.controller
    lamp = controller.outputs[Key("node", "grow_light")]
    controller.policy.start_delay(lamp, room.steady)
    call = asyncio.ensure_future(turn_on(room, "node/output_grow_light"))
    await room.until(lambda: controller.policy._starts[lamp.key] > room.steady)
    assert not outputs(node)["grow_light"]
    room.tick(2)
    await call
    assert outputs(node)["grow_light"]


async def test_lamp_burns_on_over_a_restart(room: Room) -> None:
    """A thermometer that did not speak yet is no reason to switch off what it guards."""
    await room.hass.config.async_set_time_zone("UTC")
    await room.add_zone("Tent")
    node = await room.enrol("node", "temp_c", actuators=[LIGHT], zone="Tent")
    await node.act()
    for _ in range(8):
        await node.report({"temp_c": 22.0})
        await room.let_pass(60)
    await node.report({"temp_c": 22.0})
    await room.act("light", "turn_on", "node/output_grow_light", brightness_pct=60)
    await room.let_pass(5)
    await room.reload()
    for _ in range(3):
        await room.let_pass(1)
    assert outputs(node)["grow_light"]
    assert await room.audit("interlock", "output_ended") == []


async def test_exhaust_is_driven_once_the_broker_is_back(room: Room) -> None:
    """Heat that nobody could answer is answered later."""
    await room.add_zone("Tent")
    node = await room.enrol("node", "temp_c", actuators=[FAN], zone="Tent")
    await node.act()
    await node.report({"temp_c": 22.0})
    with patch.object(room.hub.dispatcher, "_publish", side_effect=CommandError(Code.COMMAND_NOT_SENT, "away")):
        await node.report({"temp_c": 40.0})
        await room.let_pass(2)
    assert not outputs(node)["exhaust"]
    for _ in range(10):
        await room.let_pass(1)
    assert outputs(node)["exhaust"]


async def test_heat_does_not_wait_for_a_disk_that_is_full(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fan is driven and given back though nothing can be recorded; the trail has it once it can, in order."""
    await room.add_zone("Tent")
    node = await room.enrol("node", "temp_c", actuators=[FAN], zone="Tent")
    await node.act()
    await node.report({"temp_c": 22.0})
    await room.act("fan", "set_percentage", "node/output_exhaust", percentage=30)

    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room.hub.audit._file, "append", fail)
    fan = node.protocol.outputs.outputs["exhaust"]
    await node.report({"temp_c": 36.0})
    assert (fan.on, fan.percent) == (True, 100)
    await room.let_pass(2)
    await node.report({"temp_c": 22.0})
    assert (fan.on, fan.percent) == (True, 30)
    assert not room.hub.audit.healthy
    monkeypatch.undo()
    # A sensor whose values are not plausible is a fault besides.
    lines = [line for line in await room.audit("command", "interlock") if line.get("reason") != "sensor_fault"]
    told = [line["params"]["percent"] if "params" in line else line["state"] for line in lines]
    assert told == [30, "tripped", 100, "ended", 30]


async def test_lost_answers_do_not_stop_a_driven_fan(room: Room) -> None:
    """What was not answered is told to stop, but for what an interlock wants."""
    await room.add_zone("Tent")
    node = await room.enrol("node", "temp_c", actuators=[FAN], zone="Tent")
    await node.act()
    node.protocol.lose_acks = True
    hot = node.sign_reading({"temp_c": 40.0})
    async_fire_mqtt_message(room.hass, node.identity.up("telemetry"), hot, 1, False)

    async def sent(count: int) -> None:
        await room.until(lambda: len(node.protocol.commands) == count)

    for times in range(1, 4):
        await sent(times)
        node.protocol.lose_acks = times < 3
        # Given up after five seconds, and asked for again after ten.
        for _ in range(11):
            room.tick(1)
            await asyncio.sleep(0)
    await room.settle()
    assert [each["params"] for each in node.protocol.commands] == [{"speed_percent": 100.0}] * 4
    await node.report({"temp_c": 22.0})
    assert not outputs(node)["exhaust"]


async def test_exhaust_that_runs_is_driven_once_the_broker_is_back(room: Room) -> None:
    """Its low speed does not stand for the full one."""
    await room.add_zone("Tent")
    node = await room.enrol("node", "temp_c", actuators=[FAN], zone="Tent")
    await node.act()
    await node.report({"temp_c": 22.0})
    await room.act("fan", "set_percentage", "node/output_exhaust", percentage=30)
    with patch.object(room.hub.dispatcher, "_publish", side_effect=CommandError(Code.COMMAND_NOT_SENT, "away")):
        await node.report({"temp_c": 40.0})
        await room.let_pass(2)
    assert node.protocol.outputs.outputs["exhaust"].percent == 30
    for _ in range(10):
        await room.let_pass(1)
    assert node.protocol.outputs.outputs["exhaust"].percent == 100


@pytest.mark.parametrize("how", ["broken", "stuck"])
async def test_relay_that_is_welded_is_no_flood(node: RoomDevice, how: str) -> None:
    """A device that answers at once that it is still on is not commanded at the speed of the network."""
    room = node.room
    await turn_on(room, "node/output_outlet")
    getattr(node.protocol.outputs, how).add("outlet")
    before = len(await room.audit("command"))
    with contextlib.suppress(HomeAssistantError):
        await room.act("homeassistant", "turn_off", "node/output_outlet")
    await room.settle()
    assert len(await room.audit("command")) - before <= 2
    for _ in range(8):
        await room.let_pass(1)
        await node.answer()
    assert room.hub.dispatcher.controller.outputs[Key("node", "outlet")].fault == "mismatch"
    assert len(await room.audit("command")) - before <= 4


@pytest.mark.parametrize("sent", [True, False])
async def test_caller_that_is_gone(node: RoomDevice, sent: bool) -> None:
    """What an automation that was started anew had asked for is told to stop, or costs nothing."""
    room = node.room
    who = await room.hub.callers.async_identify(room.admin)
    node.protocol.lose_acks = True
    pump, release = Key("node", "irrigation"), asyncio.Event()
    publish = room.hub.dispatcher._publish

    async def slow(message: Outbound) -> None:
        if not sent:
            await release.wait()
            raise CommandError(Code.COMMAND_NOT_SENT, "away")
        await publish(message)

    with patch.object(room.hub.dispatcher, "_publish", slow):
        call = asyncio.ensure_future(room.hub.dispatcher.async_send(Command(key=pump, amount_ml=100), who))
        controller = room.hub.dispatcher.controller
        await room.until(lambda: controller.outputs[pump].pending is not None and not controller.unpublished())
        if sent:
            await room.until(lambda: outputs(node)["irrigation"])
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        node.protocol.lose_acks = False
        release.set()
        for _ in range(7):
            await room.let_pass(1)
    assert not outputs(node)["irrigation"]
    given = room.hub.dispatcher.controller.ledger.given(room.steady, 86_400, keys=[pump])
    told = await room.audit("command_timeout", "command_withdrawn")
    assert ([entry["event"] for entry in told], given) == (
        (["command_timeout"], 100) if sent else (["command_withdrawn"], 0)
    )


async def test_command_to_an_output_that_is_no_more_is_on_record(node: RoomDevice) -> None:
    """On or off, who asked for it is told, and the trail has it."""
    who = await node.room.hub.callers.async_identify(node.room.admin)
    for on in (True, False):
        with pytest.raises(PolicyError, match="actuator_unknown"):
            await node.room.hub.dispatcher.async_send(Command(key=Key(f"node-{on}", "gone"), on=on), who)
    lines = await node.room.audit("command_refused")
    assert [line["params"] for line in lines] == [{"on": True}, {"on": False}]


@pytest.mark.parametrize("fails", [False, True])
async def test_order_that_waits_for_the_disk_when_the_hub_stops(
    node: RoomDevice, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """A dose that was never sent is free for the next run, and the trail says what became of it."""
    room, pump = node.room, Key("node", "irrigation")
    old, flush, written = room.hub, room.hub.audit.async_flush, asyncio.Event()

    async def slow(**options: Any) -> None:
        if options.get("mark") is False:
            await written.wait()
            if fails:
                raise OSError
        await flush(**options)

    monkeypatch.setattr(old.audit, "async_flush", slow)
    call = asyncio.ensure_future(refused(turn_on(room, "node/output_irrigation")))
    await room.until(lambda: old.dispatcher.controller.outputs[pump].is_on)
    reload = asyncio.ensure_future(room.hass.config_entries.async_reload(room.entry.entry_id))
    await room.until(lambda: old.dispatcher._stopped)
    written.set()
    assert await reload
    assert await call == ("audit_unavailable" if fails else "command_not_sent_stopping")
    await room.settle()
    assert [entry["event"] for entry in await room.audit() if entry.get("cid")] == ["command", "command_withdrawn"]
    assert room.hub.dispatcher.controller.ledger.given(room.steady, 86_400, keys=[pump]) == 0


async def test_switching_off_what_is_off_fills_nothing(node: RoomDevice, hass_read_only_user: Any) -> None:
    """Everybody may, as often as they like; it is on record once, and then once a minute."""
    room, context = node.room, Context(user_id=hass_read_only_user.id)
    for _ in range(20):
        await room.call("stop", {}, context=context)
    count = len(outputs(node))
    assert len(await room.audit("command")) == count
    assert len(await room.audit("command_done")) == count
    await room.let_pass(61)
    again = await room.audit("command_again")
    assert [entry["count"] for entry in again] == [19] * count
    await turn_on(room, "node/output_outlet")
    await room.call("stop", {}, context=context)
    assert len(await room.audit("command")) == count + 2


async def test_switching_off_in_vain_fills_nothing(node: RoomDevice) -> None:
    """What cannot be told to a device is on record once a minute, too."""
    room = node.room
    who = await room.hub.callers.async_identify(room.admin)
    before = len(await room.audit())
    with patch.object(room.hub.dispatcher, "_publish", side_effect=CommandError(Code.COMMAND_NOT_SENT, "away")):
        for _ in range(20):
            with pytest.raises(CommandError):
                await room.hub.dispatcher.async_send(Command(key=Key("node", "outlet"), on=False), who)
    lines = [entry["event"] for entry in (await room.audit())[before:]]
    assert lines == ["command", "command_withdrawn", "command_withdrawn"]
    await room.let_pass(61)
    assert [entry["count"] for entry in await room.audit("command_withdrawn_again")] == [18]


async def test_what_ended_an_unanswered_command_is_on_record(node: RoomDevice) -> None:
    """A stop of what may be on is no repetition, however often."""
    room = node.room
    node.protocol.lose_acks = True
    for _ in range(2):
        call = asyncio.ensure_future(turn_on(room, "node/output_outlet"))
        await room.until(lambda: outputs(node)["outlet"])
        room.tick(6)
        await room.until(lambda: not outputs(node)["outlet"])
        room.tick(6)
        assert await refused(call) == "command_timeout"
    offs = [entry for entry in await room.audit("command") if entry["params"] == {"on": False}]
    assert len(offs) == 2


async def test_output_that_is_removed_while_its_renewal_goes_out(node: RoomDevice) -> None:
    """Nothing is left to be renewed, and nothing breaks."""
    await turn_on(node.room, "node/output_outlet")
    dispatcher = node.room.hub.dispatcher
    with patch.object(dispatcher, "_publish", AsyncMock(side_effect=lambda _: dispatcher.controller.outputs.clear())):
        await node.room.let_pass(101)
    assert dispatcher.controller.outputs == {}


async def test_stop_ends_everything(node: RoomDevice) -> None:
    """Stop a device, a zone or everything; what cannot be reached is said to end by its lease."""
    room = node.room
    for target in ({"device_id": "node"}, {"zone": "Tent"}, {}):
        await turn_on(room, "node/output_outlet")
        await room.call("stop", target)
        assert not any(outputs(node).values())
        await room.let_pass(61)
    for unique_id in ("hub/stop", f"{next(iter(room.hub.zones.coordinators))}/stop"):
        await turn_on(room, "node/output_outlet")
        await room.act("button", "press", unique_id)
        assert not any(outputs(node).values())
        await room.let_pass(61)
    await turn_on(room, "node/output_outlet")
    room.mqtt.connected = False
    assert await refused(room.call("stop")) == "command_not_sent_broker"
    assert await refused(room.call("stop", {"device_id": "nobody"})) == "unknown_device"
    with pytest.raises(probatio.Invalid):
        await room.call("stop", {"device_id": "node", "zone": "Tent"})


async def test_irrigation_needs_the_right_to_control_the_pump(node: RoomDevice, hass_read_only_user: Any) -> None:
    """A user who may only look gives no water; one who is no more gives none either."""
    room = node.room
    with pytest.raises(HomeAssistantError):
        await room.call("irrigate", {"device_id": "node", "amount_ml": 100}, Context(user_id=hass_read_only_user.id))
    with pytest.raises(HomeAssistantError):
        await room.call("irrigate", {"device_id": "node", "amount_ml": 100}, Context(user_id="nobody"))
    assert not outputs(node)["irrigation"]
    response = await room.call("irrigate", {"device_id": "node", "actuator": "irrigation", "amount_ml": 100})
    assert response == {"device_id": "node", "actuator": "irrigation", "amount_ml": 100}
    assert await refused(room.call("irrigate", {"device_id": "node", "actuator": "x", "amount_ml": 1})) == (
        "actuator_unknown_pump"
    )


async def test_identify(node: RoomDevice) -> None:
    """A device can be asked to show where it is."""
    for _ in range(7):
        await node.room.act("button", "press", "node/identify")
        assert node.protocol.commands[-1]["action"] == "identify"
        await node.answer()
    assert node.room.hub.refused_by_code("node") == {}
    assert {each["identity"] for each in await node.room.audit("identify")} == {node.room.admin.user_id}


async def _lamp_that_waits(node: RoomDevice) -> asyncio.Future[None]:
    """Return a command to switch on the lamp, which waits for its turn among the loads."""
    room = node.room
    dispatcher = room.hub.dispatcher
    lamp = dispatcher.controller.outputs[Key("node", "grow_light")]
    dispatcher.controller.policy.start_delay(lamp, room.steady)
    who = await room.hub.callers.async_identify(room.admin)
    call = asyncio.ensure_future(dispatcher.async_send(Command(key=lamp.key, on=True), who))
    await room.until(lambda: dispatcher.controller.policy._starts[lamp.key] > room.steady)
    return call


async def test_what_waited_for_its_turn_when_the_hub_stopped(node: RoomDevice) -> None:
    """Another run may have the room by then: a load is not switched on, and whoever asked is told."""
    room = node.room
    call = await _lamp_that_waits(node)
    assert await room.hass.config_entries.async_reload(room.entry.entry_id)
    room.tick(3)
    with pytest.raises(CommandError, match="command_not_sent"):
        await call
    assert not outputs(node)["grow_light"]
    assert (await room.hub.keeper.async_verify()).result is Verdict.GOOD


@pytest.mark.parametrize("stopped", [True, False])
async def test_what_is_turned_off_while_it_waits_for_its_turn(node: RoomDevice, stopped: bool) -> None:
    """The last word counts: a load that was turned off does not come on afterwards."""
    room = node.room
    call = await _lamp_that_waits(node)
    who = await room.hub.callers.async_identify(room.admin)
    key = Key("node", "grow_light" if stopped else "outlet")
    await room.hub.dispatcher.async_send(Command(key=key, on=False), who)
    room.tick(3)
    if stopped:
        with pytest.raises(PolicyError, match="command_superseded"):
            await call
        assert len(await room.audit("command_refused")) == 1
    else:
        await call
    assert outputs(node)["grow_light"] is not stopped


async def test_fault_is_shown_after_a_restart_and_an_outage(node: RoomDevice) -> None:
    """It stays until somebody resets it, and so does what tells of it."""
    room = node.room
    node.protocol.outputs.stuck.add("outlet")
    await turn_on(room, "node/output_outlet")
    await room.let_pass(6)
    await room.reload()
    assert room.state("node/fault_outlet").state == "on"
    await room.let_pass(400)
    await node.answer()
    await room.let_pass(30)
    assert room.state("node/fault_outlet").state == "on"


async def test_stopping_hub_leaves_nobody_waiting(node: RoomDevice) -> None:
    """A caller whose answer can no longer come is told."""
    room = node.room
    node.protocol.lose_acks = True
    await room.settle()
    who = await room.hub.callers.async_identify(room.admin)
    call = asyncio.ensure_future(room.hub.dispatcher.async_send(Command(key=Key("node", "outlet"), on=True), who))
    await room.until(lambda: outputs(node)["outlet"])
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    with pytest.raises(CommandError, match="command_not_sent"):
        await call


async def test_device_that_flutters_is_no_flood(node: RoomDevice) -> None:
    """A device that is off in its answer and on a moment later neither fills the trail nor commands the hub."""
    room = node.room
    before = len(await room.audit())
    for _ in range(100):
        node.protocol.by_hand("outlet", room.now, on=True)
        await node.answer()
        await room.settle()
        room.freezer.tick(0.2)
    assert len(await room.audit()) - before <= 12


@pytest.mark.parametrize("error", [CommandError(Code.COMMAND_NOT_SENT, "away"), HomeAssistantError("timeout")])
async def test_off_that_could_not_be_sent_is_not_forgotten_by_a_crash(node: RoomDevice, error: Exception) -> None:
    """Whatever becomes of an *off*, nothing is renewed after it, not by the run after a crash either."""
    room, fan = node.room, Key("node", "exhaust")
    await turn_on(room, "node/output_exhaust")
    await room.let_pass(1)
    with patch.object(room.hub.dispatcher, "_publish", side_effect=error), contextlib.suppress(HomeAssistantError):
        await room.act("homeassistant", "turn_off", "node/output_exhaust")
    await room.let_pass(1)
    with patch.object(Books, "async_save_quietly"):
        await room.reload()
    assert room.hub.dispatcher.controller.outputs[fan].wish is None
    await node.act()
    for _ in range(40):
        await room.let_pass(10)
        await node.answer()
    assert not outputs(node)["exhaust"]


@pytest.mark.parametrize("how", ["away", "revoked"])
async def test_stopping_in_vain_fills_nothing(node: RoomDevice, hass_read_only_user: User, how: str) -> None:
    """What cannot be told to stop is on record once, and then once a minute, however often somebody asks."""
    room = node.room
    await turn_on(room, "node/output_outlet")
    if how == "revoked":
        await room.call("revoke_device", {"device_id": "node"})
    before = len(await room.audit())
    away = CommandError(Code.COMMAND_NOT_SENT, "away")
    with patch.object(room.hub.dispatcher, "_publish", side_effect=away):
        for _ in range(50):
            with contextlib.suppress(HomeAssistantError):
                await room.call("stop", {}, Context(user_id=hass_read_only_user.id))
    assert len(await room.audit()) - before <= 15


async def test_what_changes_nothing_does_not_fill_the_trail(node: RoomDevice) -> None:
    """To set the stage that there is, to block what is blocked and to identify again is on record once, if at all."""
    room = node.room
    zone = next(iter(room.hub.zones.coordinators))
    await room.act("homeassistant", "turn_off", "hub/ai_control")
    before = len(await room.audit())
    for _ in range(30):
        await room.act("select", "select_option", f"{zone}/stage", option=room.state(f"{zone}/stage").state)
        await room.act("homeassistant", "turn_off", "hub/ai_control")
        await room.act("button", "press", "node/identify")
        await node.answer()
    assert [entry["event"] for entry in (await room.audit())[before:]] == ["identify"]
    for _ in range(6):
        await room.let_pass(10)
    (again,) = await room.audit("identify_again")
    assert (again["count"], again["device"], again["caller"]) == (29, "node", "person")


async def test_interlock_that_flutters_does_not_fill_the_trail(node: RoomDevice) -> None:
    """That it tripped and ended is told at once; how often it did so again, once a minute."""
    room = node.room
    probe = await room.enrol("probe", "temp_c", zone="Tent")
    events = async_capture_events(room.hass, "grokmon_security_event")
    for second in range(30):
        await probe.report({"temp_c": 22.0 if second % 2 else 40.0})
        await node.answer()
    for _ in range(6):
        await room.let_pass(10)
    told = await room.audit("interlock", "interlock_again")
    heat = [entry for entry in told if entry["reason"] == "over_temperature"]
    assert [(entry["event"], entry["state"], entry.get("count")) for entry in heat] == [
        ("interlock", "tripped", None),
        ("interlock", "ended", None),
        ("interlock_again", "tripped", 14),
        ("interlock_again", "ended", 14),
    ]
    assert [event.data["code"] for event in events if "over_temperature" in event.data["detail"]] == ["interlock"]


async def test_interlock_that_lasts_is_the_last_that_is_told(node: RoomDevice) -> None:
    """What tripped again within a minute and lasts is told once more, not only that it ended."""
    room = node.room
    probe = await room.enrol("probe", "temp_c", zone="Tent")
    events = async_capture_events(room.hass, "grokmon_security_event")
    decided = async_capture_events(room.hass, "grokmon_decision")
    for degrees in (40.0, 22.0, 40.0):
        await probe.report({"temp_c": degrees})
        await node.answer()
    for _ in range(30):
        await probe.report({"temp_c": 40.0})
        await node.answer()
        await room.let_pass(10)
    told = [event.data["code"] for event in events if "over_temperature" in event.data["detail"]]
    last = [event.data["detail"] for event in decided if event.data.get("reason") == "over_temperature"][-1]
    assert (told, last) == (["interlock", "interlock"], "tripped")


async def test_latch_is_in_the_trail_each_time_and_in_no_sum(node: RoomDevice) -> None:
    """An administrator stands between the two."""
    room = node.room
    probe = await room.enrol("probe", "leak", zone="Tent")
    zone = next(iter(room.hub.zones.coordinators))
    for _ in range(2):
        await probe.report({"leak": True})
        await probe.report({"leak": False})
        await room.hub.async_reset_interlocks(zone, "user")
    for _ in range(7):
        await room.let_pass(10)
    tripped = [entry for entry in await room.audit("interlock") if entry["state"] == "tripped"]
    assert (len(tripped), await room.audit("interlock_again")) == (2, [])


async def test_guest_who_switches_a_driven_fan_off_fills_nothing(node: RoomDevice) -> None:
    """The fan is on again each time, and both are on record once a minute."""
    room = node.room
    probe = await room.enrol("probe", "temp_c", zone="Tent")
    await probe.report({"temp_c": 40.0})
    await room.let_pass(1)
    before, guest = len(await room.audit()), Principal(caller=Caller.PERSON, identity="guest")
    for _ in range(30):
        await room.hub.async_command(Command(key=Key("node", "exhaust"), on=False), guest)
        assert not outputs(node)["exhaust"]
        await room.let_pass(1)
        assert outputs(node)["exhaust"]
    assert len(await room.audit()) - before <= 8
