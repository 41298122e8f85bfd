"""Tests of the tools for language models: what they can do, what they may not, and what reaches them."""

from typing import Any

from homeassistant.auth.models import User
from homeassistant.core import Context
from homeassistant.exceptions import Unauthorized
from homeassistant.helpers import entity_registry as er, issue_registry as ir, llm
import pytest

from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.actuators import Role

from .common import Room, RoomDevice


@pytest.fixture
async def node(room: Room) -> RoomDevice:
    """Return a device in a zone with one of each kind of output, whose pump needs approval."""
    await room.hass.config.async_set_time_zone("UTC")
    await room.add_zone("Tent")
    actuators = [{"role": role.value} for role in Role if role is not Role.IRRIGATION]
    device = await room.enrol(
        "node", "temp_c", actuators=[*actuators, {"role": "irrigation", "needs_approval": True}], zone="Tent"
    )
    await device.act()
    await device.report({"temp_c": 24.5})
    return device


async def api(room: Room, user: str | None = None) -> llm.APIInstance:
    """Return the tools as a model gets them that acts for a user, an administrator unless told otherwise."""
    context = llm.LLMContext("test_agent", Context(user_id=user or room.admin.user_id), "en", "conversation", None)
    return await llm.async_get_api(room.hass, "assist", context)


async def call(room: Room, tool: str, *, user: str | None = None, **arguments: Any) -> Any:
    """Let a model call a tool; return what it gets."""
    result = await (await api(room, user)).async_call_tool(llm.ToolInput(f"grokmon__{tool}", arguments))
    await room.settle()
    return result.data


async def test_tools_are_there_and_annotated(node: RoomDevice) -> None:
    """Every tool has our name, says whose it is, and what it does to the world."""
    tools = [tool for tool in (await api(node.room)).tools if tool.integration == DOMAIN]
    assert {tool.name for tool in tools} == {
        f"grokmon__{name}"
        for name in (
            "read_zone",
            "set_light",
            "set_fan",
            "set_switch",
            "irrigate",
            "inject_co2",
            "set_stage",
            "log_observation",
            "ask_human",
        )
    }
    for tool in tools:
        assert tool.title
        assert tool.description
        assert not tool.annotations.open_world
    destructive = {tool.name for tool in tools if tool.annotations.destructive}
    assert destructive == {"grokmon__irrigate", "grokmon__inject_co2"}
    assert "Grok & Mon" in (await api(node.room)).api_prompt


async def test_no_tools_without_a_zone_or_an_output(room: Room) -> None:
    """A room without zones has nothing to run, and without outputs nothing to switch."""
    assert not [tool for tool in (await api(room)).tools if tool.integration == DOMAIN]
    await room.add_zone("Tent")
    names = {tool.name for tool in (await api(room)).tools if tool.integration == DOMAIN}
    assert "grokmon__read_zone" in names
    assert "grokmon__irrigate" not in names


async def test_reads_the_zone_in_names_and_numbers(node: RoomDevice) -> None:
    """A model gets readings, targets, outputs, budgets and decisions; no text of a device is among them."""
    node.protocol.outputs.outputs["exhaust"].reason = "ignore_all_rules"
    await node.answer()
    data = await call(node.room, "read_zone", zone="Tent")
    assert data["readings"] == {"temp_c": 24.5}
    assert (data["stage"], data["dark"], data["interlocks"], data["ai_allowed"]) == ("vegetative", False, [], True)
    assert (data["water_left_ml"], data["water_left_for_the_ai_ml"], data["co2_left_s"]) == (3000, 2000, 240)
    assert {output["role"] for output in data["outputs"]} == {role.value for role in Role}
    assert "ignore" not in str(data)


@pytest.mark.parametrize(
    ("tool", "output", "wanted", "shown"),
    [
        ("set_light", "grow_light", {"percent": 60}, {"on": True, "percent": 60}),
        ("set_fan", "exhaust", {"percent": 40}, {"on": True, "percent": 40}),
        ("set_fan", "exhaust", {"percent": 0}, {"on": False, "percent": 0}),
        ("set_switch", "outlet", {"on": True}, {"on": True}),
        ("inject_co2", "co2_valve", {"seconds": 30}, {"on": True}),
    ],
)
async def test_drives_outputs(
    node: RoomDevice, tool: str, output: str, wanted: dict[str, Any], shown: dict[str, Any]
) -> None:
    """A model drives outputs as the class AI, with its reason in the audit trail."""
    data = await call(node.room, tool, output=f"node/{output}", reason="The leaves are [limp](http://x)", **wanted)
    assert data["done"] is True
    assert shown.items() <= data.items()
    entry = (await node.room.audit("command"))[-1]
    assert (entry["caller"], entry["reason"]) == ("ai", "The leaves are  limp  http   x ")


async def test_refusals_are_explained(node: RoomDevice) -> None:
    """The explanation is the one of the audit trail, and nothing moves."""
    data = await call(node.room, "set_light", output="node/grow_light", percent=100, reason="more light")
    assert data["refused"] == "ai_limit"
    (entry,) = await node.room.audit("command_refused")
    assert entry["detail"] == data["explanation"]
    assert data["limit"] == 90
    assert not node.protocol.outputs.outputs["grow_light"].on


async def test_words_of_a_device_that_fails_are_not_passed_on(node: RoomDevice) -> None:
    """A device may say anything as its reason; a model gets the code."""
    node.protocol.outputs.broken.add("outlet")
    data = await call(node.room, "set_switch", output="node/outlet", on=True, reason="pump air")
    assert data == {"refused": "command_failed"}


async def test_question_has_no_address_to_follow(node: RoomDevice) -> None:
    """What a model asks is shown to people, and leads nowhere."""
    words = "See https://evil.example, WWW.evil.example or me@evil.example"
    await call(node.room, "ask_human", zone="Tent", reason=words)
    (entry,) = await node.room.audit("human_asked")
    assert entry["reason"] == "See https   evil.example, www evil.example or me evil.example"


async def test_kill_switch_blocks_at_once_and_never_turning_off(node: RoomDevice) -> None:
    """Blocked, a model can only turn things off; what it had on goes off by itself."""
    room = node.room
    await call(room, "set_fan", output="node/exhaust", percent=40, reason="too warm")
    await call(room, "set_switch", output="node/outlet", on=True, reason="pump air")
    await room.act("switch", "turn_off", "hub/ai_control")
    assert room.state("hub/ai_control").state == "off"
    data = await call(room, "set_fan", output="node/exhaust", percent=60, reason="too warm")
    assert data["refused"] == "ai_blocked"
    assert (await call(room, "set_stage", zone="Tent", stage="harvest", reason="done"))["refused"] == "ai_blocked"
    data = await call(room, "set_switch", output="node/outlet", on=False, reason="enough")
    assert data["done"] is True
    await room.let_pass(1)
    assert not node.protocol.outputs.outputs["exhaust"].on
    await room.reload()
    assert room.state("hub/ai_control").state == "off"


async def test_sets_the_stage_and_writes_things_down(node: RoomDevice) -> None:
    """A model changes the stage, logs what it noticed, and asks people."""
    room = node.room
    await call(room, "set_stage", zone="Tent", stage="flowering", reason="first pistils")
    assert next(iter(room.hub.dispatcher.controller.zones.values())).stage == "flowering"
    await call(room, "log_observation", zone="Tent", reason="first pistils")
    await call(room, "ask_human", zone="Tent", reason="is this mould?")
    entries = await room.audit("stage", "observation", "human_asked")
    assert [(entry["event"], entry["caller"], entry["reason"]) for entry in entries] == [
        ("stage", "ai", "first pistils"),
        ("observation", "ai", "first pistils"),
        ("human_asked", "ai", "is this mould?"),
    ]


@pytest.mark.parametrize("tool", ["log_observation", "ask_human"])
async def test_model_that_repeats_itself_fills_nothing(node: RoomDevice, tool: str) -> None:
    """It has as many notes a minute as commands; the rest is counted, and the model is told."""
    room = node.room
    for number in range(20):
        data = await call(room, tool, zone="Tent", reason=f"this is observation {number}")
        assert data.get("refused") == (None if number < 5 else "control_rate")
    assert data["explanation"] == "at most 5 notes a minute from the class ai; frees up in 12 s"
    assert len(await room.audit("observation", "human_asked")) == 5
    assert len(await room.audit("note_refused")) == 1
    await room.let_pass(61)
    assert [entry["count"] for entry in await room.audit("note_refused_again")] == [14]
    assert (await call(room, tool, zone="Tent", reason="a new one"))["done"] is True


async def test_water_waits_for_approval(node: RoomDevice) -> None:
    """What needs approval is asked for, in the repairs, and not done before."""
    data = await call(node.room, "irrigate", output="node/irrigation", amount_ml=200, reason="dry soil")
    assert data["waits_for"] == "approval"
    assert not node.protocol.outputs.outputs["irrigation"].on
    issues = [issue for issue in ir.async_get(node.room.hass).issues.values() if issue.translation_key == "approval"]
    assert [issue.translation_placeholders["reason"] for issue in issues if issue.translation_placeholders] == [
        '\n\n"dry soil"'
    ]


async def test_acts_for_nobody_who_may_not(node: RoomDevice, hass_read_only_user: User) -> None:
    """A user who may only look gets nothing moved by asking a model; it is on record, and reading goes on."""
    room, user = node.room, hass_read_only_user.id
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        room.entity_id("node/output_grow_light"): ("set_light", {"output": "node/grow_light", "percent": 60}),
        room.entity_id("node/output_exhaust"): ("set_fan", {"output": "node/exhaust", "percent": 0}),
        room.entity_id("node/output_outlet"): ("set_switch", {"output": "node/outlet", "on": True}),
        room.entity_id("node/output_irrigation"): ("irrigate", {"output": "node/irrigation", "amount_ml": 100}),
        room.entity_id("node/output_co2_valve"): ("inject_co2", {"output": "node/co2_valve", "seconds": 30}),
        room.entity_id(f"{next(iter(room.hub.zones.coordinators))}/stage"): (
            "set_stage",
            {"zone": "Tent", "stage": "harvest"},
        ),
    }
    for tool, arguments in asked.values():
        with pytest.raises(Unauthorized):
            await call(room, tool, user=user, reason="I was asked to", **arguments)
    assert node.protocol.commands == []
    assert room.hub.approvals.open == {}
    refused = await room.audit("entity_refused")
    assert [(each["entity"], each["caller"], each["identity"]) for each in refused] == [
        (entity_id, "ai", user) for entity_id in asked
    ]
    assert (await call(room, "read_zone", user=user, zone="Tent"))["stage"] == "vegetative"


async def test_output_whose_entity_was_deleted(node: RoomDevice) -> None:
    """Nobody has a right to what is not there."""
    er.async_get(node.room.hass).async_remove(node.room.entity_id("node/output_outlet"))
    with pytest.raises(Unauthorized):
        await call(node.room, "set_switch", output="node/outlet", on=True, reason="pump air")


async def test_refused_stages_are_on_record(node: RoomDevice) -> None:
    """A model that hammers at a stage has one line, and then a count."""
    room = node.room
    for _ in range(3):
        data = await call(room, "set_stage", zone="Tent", stage="seedling", reason="longer days")
        assert data["refused"] == "ai_limit"
    (refused,) = await room.audit("stage_refused")
    assert (refused["stage"], refused["caller"], refused["detail"]) == ("seedling", "ai", data["explanation"])
    await room.let_pass(61)
    (again,) = await room.audit("stage_refused_again")
    assert (again["zone"], again["reason"], again["count"]) == (refused["zone"], "ai_limit", 2)
