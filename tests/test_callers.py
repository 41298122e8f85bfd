"""Tests of who stands behind a command: a person, an automation, a script, a voice, a model, or nobody known."""

from collections.abc import Callable, Coroutine
from typing import Any, Literal, override
from unittest.mock import Mock

from homeassistant.auth.models import User
from homeassistant.components import conversation
from homeassistant.components.automation import EVENT_AUTOMATION_TRIGGERED
from homeassistant.components.conversation.models import AbstractConversationAgent
from homeassistant.components.homeassistant.exposed_entities import async_expose_entity
from homeassistant.components.websocket_api.connection import current_connection
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import Unauthorized
from homeassistant.helpers import intent, llm
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped] # has no py.typed
    MockConfigEntry,
)
from pytest_homeassistant_custom_component.typing import (  # type: ignore[import-untyped] # has no py.typed
    ClientSessionGenerator,
)

from custom_components.grokmon.callers import Callers, async_note_model
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.policy import limits_from

from .common import Room, RoomDevice


@pytest.fixture
async def node(room: Room) -> RoomDevice:
    """Return a device with an outlet that carries out what it is told."""
    device = await room.enrol("node", actuators=[{"role": "outlet"}])
    await device.act()
    return device


async def last(room: Room) -> dict[str, Any]:
    """Return who gave the last command, as the audit trail has it."""
    entry = (await room.audit("command"))[-1]
    return {name: entry[name] for name in ("caller", "identity", "via") if name in entry}


async def test_person(node: RoomDevice) -> None:
    """A call with a user is the user's."""
    await node.room.act("switch", "turn_on", "node/output_outlet")
    assert await last(node.room) == {"caller": "person", "identity": node.room.admin.user_id}


async def test_automation_is_known_by_its_name(node: RoomDevice) -> None:
    """An automation is one whoever set it off, a voice included."""
    room = node.room
    outlet = room.entity_id("node/output_outlet")
    automation = {
        "id": "water",
        "alias": "Water",
        "triggers": [{"trigger": "event", "event_type": "dry"}],
        "actions": [{"action": "switch.turn_on", "target": {"entity_id": outlet}}],
    }
    assert await async_setup_component(room.hass, "automation", {"automation": [automation]})
    room.hass.bus.async_fire("dry", context=room.admin)
    await room.settle()
    assert await last(room) == {"caller": "automation", "identity": "automation.water"}


async def test_script_is_named_beside_who_ran_it(node: RoomDevice) -> None:
    """A script that a person runs is the person's, by way of the script; one that nobody runs is an automation."""
    room = node.room
    actions = [{"action": "switch.turn_on", "target": {"entity_id": room.entity_id("node/output_outlet")}}]
    assert await async_setup_component(room.hass, "script", {"script": {"night": {"sequence": actions}}})
    await room.hass.services.async_call("script", "night", blocking=True, context=room.admin)
    await room.settle()
    assert await last(room) == {"caller": "person", "identity": room.admin.user_id, "via": "script.night"}
    # Nobody is kept away by what the person has just set.
    room.hub.dispatcher.controller.policy.with_limits(limits_from({"person": {"hold_s": 0}}))
    await room.hass.services.async_call("script", "night", blocking=True)
    await room.settle()
    assert await last(room) == {"caller": "automation", "identity": "script.night", "via": "script.night"}


async def test_nobody_known_is_an_automation(node: RoomDevice) -> None:
    """A call without a user, and no context at all, have the rights of an automation."""
    room = node.room
    await room.act("switch", "turn_on", "node/output_outlet", context=Context())
    assert await last(room) == {"caller": "automation", "identity": "unknown"}
    assert (await room.hub.callers.async_identify(None)).caller == "automation"


async def test_voice_is_a_sentence_to_assist(node: RoomDevice) -> None:
    """What is said to the conversation agent of Home Assistant is a voice's, not the person's."""
    room = node.room
    entity_id = room.entity_id("node/output_outlet")
    async_expose_entity(room.hass, "conversation", entity_id, should_expose=True)
    state = room.hass.states.get(entity_id)
    assert state is not None
    result = await conversation.async_converse(
        room.hass, f"turn on {state.name}", None, Context(user_id=room.admin.user_id), language="en"
    )
    await room.settle()
    assert result.response.error_code is None
    assert await last(room) == {"caller": "voice", "identity": room.admin.user_id}


async def test_model_is_known_by_its_context(node: RoomDevice) -> None:
    """Whatever a model calls is the AI's, through tools of ours or of others."""
    room = node.room
    context = Context(user_id=room.admin.user_id)
    await llm.async_get_api(room.hass, "assist", llm.LLMContext("mcp_server", context, "en", "conversation", None))
    await room.act("switch", "turn_on", "node/output_outlet", context=context)
    assert await last(room) == {"caller": "ai", "identity": "mcp_server"}
    async_note_model(room.hass, None, "mcp_server")


@pytest.mark.parametrize("options", [{}])
async def test_user_of_an_ai(hass: HomeAssistant, hass_admin_user: User, options: dict[str, Any]) -> None:
    """A user who acts for an AI is the AI, and no administrator, whatever the user does."""
    assert options == {}
    callers = Callers(hass, frozenset({hass_admin_user.id}))
    who = await callers.async_identify(Context(user_id=hass_admin_user.id), reason="dry")
    assert (who.caller, who.administrator, who.reason) == ("ai", False, "dry")


async def test_memory_is_bounded(hass: HomeAssistant) -> None:
    """Contexts of long ago are forgotten."""
    first = Context()

    async def note() -> None:
        async_note_model(hass, first, "mcp_server")
        for _ in range(1024):
            async_note_model(hass, Context(), "mcp_server")
        # What runs on in the same task is the model's all the same.
        assert (await Callers(hass, frozenset()).async_identify(first)).caller == "ai"

    await hass.async_create_task(note())
    assert (await Callers(hass, frozenset()).async_identify(first)).caller == "automation"


LATER = {"seconds": 1, "conversation_command": "turn on Node Outlet"}


async def _expose(room: Room) -> None:
    for component in ("conversation", "intent", "api"):
        assert await async_setup_component(room.hass, component, {})
    async_expose_entity(room.hass, "conversation", room.entity_id("node/output_outlet"), should_expose=True)


async def test_sentence_that_a_model_has_said_later(node: RoomDevice) -> None:
    """A timer says it in a context of nobody; it is the model's all the same."""
    room = node.room
    await _expose(room)

    async def begin() -> None:
        async_note_model(room.hass, Context(), "agent")
        slots = {name: {"value": value} for name, value in LATER.items()}
        await intent.async_handle(room.hass, "test", intent.INTENT_START_TIMER, slots, assistant="conversation")

    await room.hass.async_create_task(begin())
    room.tick(2)
    await room.until(lambda: bool(node.protocol.commands))
    await room.settle()
    assert await last(room) == {"caller": "ai", "identity": "agent"}


@pytest.mark.parametrize("acts_for_an_ai", [True, False])
async def test_sentence_that_a_user_has_said_later(
    node: RoomDevice, hass_client: ClientSessionGenerator, acts_for_an_ai: bool
) -> None:
    """It is known by whose login it came; a user of an AI stays one."""
    room = node.room
    await _expose(room)
    if acts_for_an_ai:
        room.hub.callers._ai_users = frozenset({user.id for user in await room.hass.auth.async_get_users()})
    client = await hass_client()
    answer = await client.post("/api/intent/handle", json={"name": intent.INTENT_START_TIMER, "data": LATER})
    assert answer.ok
    room.tick(2)
    await room.until(lambda: bool(node.protocol.commands))
    await room.settle()
    who = await last(room)
    assert who["caller"] == ("ai" if acts_for_an_ai else "voice")
    user = who["identity"] if acts_for_an_ai else who["via"]
    assert await room.hass.auth.async_get_user(user) is not None


async def test_who_may_not_control_has_nothing_done_later(
    node: RoomDevice,
    hass_client: ClientSessionGenerator,
    hass_read_only_access_token: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A user without the right to control a thing does not get it by a timer."""
    room = node.room
    await _expose(room)
    client = await hass_client(hass_read_only_access_token)
    assert (await client.post("/api/intent/handle", json={"name": intent.INTENT_START_TIMER, "data": LATER})).ok
    room.tick(2)
    await room.until(lambda: "Delayed command failed" in caplog.text)
    await room.settle()
    assert node.protocol.commands == []
    (refused,) = await room.audit("entity_refused")
    assert (refused["entity"], refused["reason"]) == (room.entity_id("node/output_outlet"), "unauthorized")
    assert refused["caller"] == "voice"
    assert await room.hass.auth.async_get_user(refused["via"]) is not None


async def act_for(room: Room, user: User, domain: str, service: str, data: dict[str, Any]) -> None:
    """Call a service in a context of nobody, as what a user's login set off does."""

    async def act() -> None:
        current_connection.set(Mock(user=user))
        await room.hass.services.async_call(domain, service, data, blocking=True, context=Context())

    await room.hass.async_create_task(act())
    await room.settle()


async def test_login_is_asked_wherever_something_is_controlled(
    room: Room, hass_read_only_user: User, hass_admin_user: User
) -> None:
    """A service of ours, a dose, a stage, a device that shows itself: none for who may only look; one who may, may."""
    await room.add_zone("Tent")
    node = await room.enrol("node", actuators=[{"role": "irrigation"}], zone="Tent")
    await node.act()
    stage_id = f"{next(iter(room.hub.zones.coordinators))}/stage"
    calls: dict[str, tuple[str, str, dict[str, Any]]] = {
        room.entity_id("node/output_irrigation"): (DOMAIN, "irrigate", {"device_id": "node", "amount_ml": 100}),
        (dose := room.entity_id("node/output_irrigation_dose_now")): ("button", "press", {"entity_id": dose}),
        (amount := room.entity_id("node/output_irrigation_dose")): (
            "number",
            "set_value",
            {"entity_id": amount, "value": 100},
        ),
        (identify := room.entity_id("node/identify")): ("button", "press", {"entity_id": identify}),
        (stage := room.entity_id(stage_id)): ("select", "select_option", {"entity_id": stage, "option": "harvest"}),
    }
    for call in calls.values():
        with pytest.raises(Unauthorized):
            await act_for(room, hass_read_only_user, *call)
    assert node.protocol.commands == []
    assert [each["entity"] for each in await room.audit("entity_refused")] == list(calls)
    for call in calls.values():
        await act_for(room, hass_admin_user, *call)
        # Between two doses.
        await room.let_pass(61)
    actions = [each["action"] for each in node.protocol.commands]
    assert (actions.count("trigger_irrigation"), actions.count("identify")) == (2, 1)
    assert room.state(stage_id).state == "harvest"


class Model(AbstractConversationAgent):
    """A language model: whatever it is asked, it uses one of Home Assistant's own tools."""

    def __init__(self, hass: HomeAssistant, name: str) -> None:
        self._hass = hass
        self._name = name

    @property
    @override
    def supported_languages(self) -> Literal["*"]:
        return "*"

    @override
    async def async_process(self, user_input: conversation.ConversationInput) -> conversation.ConversationResult:
        api = await llm.async_get_api(self._hass, "assist", user_input.as_llm_context("model"))
        (turn_on,) = (tool.name for tool in api.tools if tool.name.endswith("HassTurnOn"))
        await api.async_call_tool(llm.ToolInput(turn_on, {"name": self._name}))
        response = intent.IntentResponse(language="en")
        response.async_set_speech("done")
        return conversation.ConversationResult(response=response)


async def automate(room: Room, **rules: list[dict[str, Any]]) -> None:
    """Have automations that an event of their own name sets off, at night only: that is, never, unless it is *dry*."""
    automations = [
        {
            "alias": name,
            "triggers": [{"trigger": "event", "event_type": name}],
            "conditions": [{"condition": "template", "value_template": "{{ trigger.event.event_type == 'dry' }}"}],
            "actions": actions,
        }
        for name, actions in rules.items()
    ]
    assert await async_setup_component(room.hass, "automation", {"automation": automations})


def switch(room: Room, on: bool) -> dict[str, Any]:
    """Return an action that turns the outlet on or off."""
    return {"action": f"switch.turn_{'on' if on else 'off'}", "target": {"entity_id": outlet_of(room)}}


def outlet_of(room: Room) -> str:
    """Return the outlet's entity."""
    return room.entity_id("node/output_outlet")


async def asking(room: Room) -> dict[str, Any]:
    """Return an action that asks a model, which turns the outlet on."""
    await _expose(room)
    entry = MockConfigEntry(domain="test")
    entry.add_to_hass(room.hass)
    state = room.hass.states.get(outlet_of(room))
    assert state is not None
    conversation.async_set_agent(room.hass, entry, Model(room.hass, state.name))
    return {"action": "conversation.process", "data": {"text": "look after it", "agent_id": entry.entry_id}}


async def callers_of(room: Room) -> list[tuple[str, str, str | None]]:
    """Return who gave each command, by way of what."""
    return [(each["caller"], each["identity"], each.get("via")) for each in await room.audit("command")]


async def test_model_that_an_automation_asks(node: RoomDevice) -> None:
    """What it does is the AI's, by tools of others, too; what the automation does next is the automation's."""
    room = node.room
    await automate(room, dry=[await asking(room), switch(room, on=False)])
    room.hass.bus.async_fire("dry")
    await room.settle()
    assert await callers_of(room) == [("ai", "model", "automation.dry"), ("automation", "automation.dry", None)]


async def test_model_that_an_automation_asks_is_blocked(node: RoomDevice) -> None:
    """A model that may not act does not by an automation, either."""
    room = node.room
    room.hub.dispatcher.controller.policy.ai_allowed = False
    await automate(room, dry=[await asking(room)])
    room.hass.bus.async_fire("dry")
    await room.settle()
    assert node.protocol.commands == []
    (refused,) = await room.audit("command_refused")
    assert (refused["caller"], refused["code"]) == ("ai", "ai_blocked")


async def test_model_is_not_forgotten_while_an_automation_asks_it(node: RoomDevice) -> None:
    """However many contexts others have tools made for meanwhile."""
    room = node.room
    context = Context()
    room.hass.bus.async_fire(EVENT_AUTOMATION_TRIGGERED, {"entity_id": "automation.dry"}, context=context)

    async def act() -> None:
        async_note_model(room.hass, context, "model")
        for _ in range(1024):
            room.hass.async_create_task(_note(room.hass))
        await room.act("switch", "turn_on", "node/output_outlet", context=context)

    await room.hass.async_create_task(act())
    assert await last(room) == {"caller": "ai", "identity": "model", "via": "automation.dry"}


async def test_model_that_a_model_asks(node: RoomDevice) -> None:
    """A model stays one whatever else is asked in its task, and the automation that asked it is itself elsewhere."""
    room = node.room
    context = Context()
    room.hass.bus.async_fire(EVENT_AUTOMATION_TRIGGERED, {"entity_id": "automation.dry"}, context=context)
    identify = room.hub.callers.async_identify

    async def ask() -> list[str]:
        async_note_model(room.hass, context, "model")
        async_note_model(room.hass, Context(), "another")
        between = await identify(context)
        async_note_model(room.hass, None, "third")
        return [between.caller.value, (await identify(context)).caller.value]

    assert await room.hass.async_create_task(ask()) == ["ai", "ai"]
    assert (await identify(context)).caller.value == "automation"


async def _note(hass: HomeAssistant) -> None:
    async_note_model(hass, Context(), "mcp_server")


def waits(room: Room, automation: str) -> bool:
    """Tell whether an automation is between two of its actions."""
    state = room.hass.states.get(automation)
    return state is not None and state.attributes["current"] == 1


RUN = ("automation", "trigger", {"entity_id": "automation.wet"})


async def by_context(room: Room) -> None:
    """Run an automation by a call that a user of an AI makes without a login, as by the webhook of an app."""
    await room.hass.async_create_task(room.hass.services.async_call(*RUN, blocking=True, context=room.admin))


async def by_login(room: Room) -> None:
    """Run an automation by what the login of a user of an AI has set off."""
    user = await room.hass.auth.async_get_user(room.admin.user_id or "")
    assert user is not None
    await act_for(room, user, *RUN)


async def by_model(room: Room) -> None:
    """Run an automation as a model that an automation has asked."""
    context = Context()
    room.hass.bus.async_fire(EVENT_AUTOMATION_TRIGGERED, {"entity_id": "automation.dry"}, context=context)

    async def act() -> None:
        async_note_model(room.hass, context, "model")
        await room.hass.services.async_call(*RUN, blocking=True, context=context)

    await room.hass.async_create_task(act())


@pytest.mark.parametrize("run", [by_context, by_login, by_model])
async def test_automation_that_an_ai_runs(node: RoomDevice, run: Callable[[Room], Coroutine[Any, Any, None]]) -> None:
    """Past its conditions, it is the AI's doing: however late, and whatever automation it runs in turn."""
    room = node.room
    room.hub.callers._ai_users = frozenset({room.admin.user_id or ""})
    again = {"action": "automation.trigger", "target": {"entity_id": "automation.wetter"}}
    await automate(room, wet=[switch(room, on=True), again], wetter=[{"delay": 1}, switch(room, on=False)])
    room.hass.async_create_task(run(room))
    await room.until(lambda: waits(room, "automation.wetter"))
    room.tick(2)
    await room.until(lambda: len(node.protocol.commands) == 2)
    await room.settle()
    ai = "model" if run is by_model else room.admin.user_id
    assert await callers_of(room) == [("ai", ai, "automation.wet"), ("ai", ai, "automation.wetter")]


async def test_automation_that_an_ai_sets_off_by_its_trigger(node: RoomDevice, hass_admin_user: User) -> None:
    """It is the owner's rule with the owner's conditions, and so is what it runs in turn."""
    room = node.room
    room.hub.callers._ai_users = frozenset({hass_admin_user.id})
    on = {"action": "automation.trigger", "target": {"entity_id": "automation.wet"}}
    await automate(room, dry=[on, switch(room, on=False)], wet=[switch(room, on=True)])

    async def act() -> None:
        current_connection.set(Mock(user=hass_admin_user))
        async_note_model(room.hass, room.admin, "mcp_server")
        room.hass.bus.async_fire("wet", context=room.admin)
        room.hass.bus.async_fire("dry", context=room.admin)

    await room.hass.async_create_task(act())
    await room.settle()
    assert await callers_of(room) == [
        ("automation", "automation.wet", None),
        ("automation", "automation.dry", None),
    ]


async def test_automation_that_a_person_runs(node: RoomDevice) -> None:
    """It is the automation's, as ever."""
    room = node.room
    await automate(room, wet=[switch(room, on=True)])
    await by_context(room)
    await room.settle()
    assert await callers_of(room) == [("automation", "automation.wet", None)]


async def test_event_that_a_user_has_sent(node: RoomDevice) -> None:
    """Nobody makes an automation of what they call by an event that looks like one's start."""
    room = node.room
    room.hub.callers._ai_users = frozenset({room.admin.user_id or ""})
    for data in ({"entity_id": "automation.dry", "source": "state of x"}, {}):
        room.hass.bus.async_fire(EVENT_AUTOMATION_TRIGGERED, data, context=room.admin)
    assert (await room.hub.callers.async_identify(room.admin)).caller == "ai"
