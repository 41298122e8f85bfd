"""Tests of approvals and of the repairs that an administrator confirms."""

import asyncio
from collections.abc import Generator
from typing import Any
from unittest.mock import Mock, patch

from homeassistant.auth.models import User
from homeassistant.components.http.const import KEY_HASS_USER
from homeassistant.components.repairs import RepairsFlow
from homeassistant.core import Context, ServiceCall
from homeassistant.data_entry_flow import AbortFlow
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.http import current_request
from homeassistant.setup import async_setup_component
import probatio
import pytest

from custom_components.grokmon.checked_store import CheckedStore
from custom_components.grokmon.const import CONF_AI_USERS, DOMAIN
from custom_components.grokmon.gateway.actuators import Command, Key
from custom_components.grokmon.gateway.errors import PolicyError
from custom_components.grokmon.gateway.principals import Caller, Principal
from custom_components.grokmon.repairs import async_create_fix_flow

from .common import Room, RoomDevice

AI = Principal(caller=Caller.AI, identity="agent", reason="dry soil")
DOSE = Command(key=Key("node", "irrigation"), amount_ml=200)


@pytest.fixture
async def node(room: Room) -> RoomDevice:
    """Return a device in a zone with a pump that needs approval, and a smoke sensor."""
    await room.add_zone("Tent")
    pump = {"role": "irrigation", "needs_approval": True}
    device = await room.enrol("node", "smoke", actuators=[pump, {"role": "outlet"}], zone="Tent")
    await device.act()
    await device.report({"smoke": False})
    return device


@pytest.fixture
def as_admin(room: Room) -> Generator[str]:
    """Let what is done come from a request of the administrator; return the administrator's id."""
    user_id = str(room.admin.user_id)
    request: Any = {KEY_HASS_USER: room.hass.auth._store._users[user_id]}
    token = current_request.set(request)
    yield user_id
    current_request.reset(token)


async def asked(node: RoomDevice, command: Command = DOSE) -> str:
    """Let the AI want something that needs approval; return the question."""
    with pytest.raises(PolicyError, match="approval_required"):
        await node.room.hub.async_command(command, AI)
    return next(iter(node.room.hub.approvals.open))


async def fix(room: Room, issue_id: str) -> RepairsFlow:
    """Return the flow that fixes an issue."""
    issue = ir.async_get(room.hass).async_get_issue(DOMAIN, issue_id)
    assert issue is not None
    flow = await async_create_fix_flow(room.hass, issue_id, issue.data)
    flow.hass, flow.handler, flow.flow_id = room.hass, DOMAIN, "flow"
    return flow


def issues(room: Room) -> set[str]:
    """Return what there are issues of."""
    return {issue_id for domain, issue_id in ir.async_get(room.hass).issues if domain == DOMAIN}


def pumping(node: RoomDevice) -> bool:
    """Tell whether the pump runs."""
    return node.protocol.outputs.outputs["irrigation"].on


async def test_approved_in_the_repairs(node: RoomDevice) -> None:
    """An administrator approves, and the dose is given and recorded so."""
    question = await asked(node)
    assert await asked(node) == question
    flow: Any = await fix(node.room, f"approval_{question}")
    menu = await flow.async_step_init()
    assert menu["menu_options"] == ["approve", "decline"]
    assert (await flow.async_step_approve())["type"] == "create_entry"
    assert pumping(node)
    (entry,) = await node.room.audit("command")
    assert (entry["caller"], entry["approved_by"]) == ("ai", "administrator")
    assert (await flow.async_step_approve())["reason"] == "approval_expired"


async def test_ai_with_a_login_does_not_approve_itself(node: RoomDevice, as_admin: str) -> None:
    """Whose dialog it is stands in the trail; a user of an AI may decline what the AI asks, and not approve it."""
    room = node.room
    room.hass.config_entries.async_update_entry(room.entry, options={CONF_AI_USERS: [as_admin]})
    await room.let_pass(30)
    await node.answer()
    await node.report({"smoke": False})
    question = await asked(node)
    flow: Any = await fix(room, f"approval_{question}")
    assert (await flow.async_step_approve())["reason"] == "not_carried_out"
    assert not pumping(node)
    assert (await flow.async_step_decline())["type"] == "create_entry"
    refused, declined = await room.audit("approval_refused", "approval_declined")
    assert (refused["identity"], declined["identity"]) == (as_admin, as_admin)


@pytest.mark.parametrize(("wanted", "words"), [({"amount_ml": 200}, ": 200 mL"), ({"on": True}, "")])
async def test_question_in_words(node: RoomDevice, wanted: dict[str, Any], words: str) -> None:
    """An administrator reads what is wanted of what, and why."""
    question = await asked(node, Command(key=DOSE.key, **wanted))
    issue = ir.async_get(node.room.hass).async_get_issue(DOMAIN, f"approval_{question}")
    assert issue is not None
    assert issue.translation_placeholders == {
        "name": "Node",
        "actuator": "Irrigation pump",
        "params": words,
        "reason": '\n\n"dry soil"',
    }


@pytest.mark.parametrize(
    ("language", "title", "message", "answers"),
    [
        (
            "en",
            "The AI asks for approval",
            "The AI wants to turn on Irrigation pump of Node: 200 mL.\n\n",
            "Approve",
        ),
        (
            "de",
            "Die KI bittet um Genehmigung",
            "Die KI möchte Bewässerungspumpe von Node einschalten: 200 mL.\n\n",
            "Genehmigen",
        ),
    ],
)
async def test_question_without_a_reason(
    node: RoomDevice, language: str, title: str, message: str, answers: str
) -> None:
    """Where the AI gives no reason none is shown, in the repairs nor, in the language of the house, on the phone."""
    room = node.room
    room.hass.config.language = language
    sent: list[ServiceCall] = []
    room.hass.services.async_register("notify", "phone", sent.append)
    room.hass.config_entries.async_update_entry(room.entry, options={"notify": "phone"})
    await room.let_pass(30)
    await node.act()
    await node.report({"smoke": False})
    with pytest.raises(PolicyError, match="approval_required"):
        await room.hub.async_command(DOSE, Principal(caller=Caller.AI, identity="agent"))
    await room.settle()
    (question,) = room.hub.approvals.open
    issue = ir.async_get(room.hass).async_get_issue(DOMAIN, f"approval_{question}")
    assert issue is not None
    assert issue.translation_placeholders is not None
    assert issue.translation_placeholders["reason"] == ""
    assert sent[0].data["title"] == title
    assert sent[0].data["message"].startswith(message)
    assert sent[0].data["data"]["actions"][0]["title"] == answers


async def test_declined(node: RoomDevice) -> None:
    """What is declined is not done."""
    question = await asked(node)
    flow: Any = await fix(node.room, f"approval_{question}")
    assert (await flow.async_step_decline())["type"] == "create_entry"
    assert not pumping(node)
    assert [entry["event"] for entry in await node.room.audit("approval_requested", "approval_declined")] == [
        "approval_requested",
        "approval_declined",
    ]


async def test_approved_and_refused_all_the_same(node: RoomDevice) -> None:
    """An approval is no way around the interlocks."""
    question = await asked(node)
    flow: Any = await fix(node.room, f"approval_{question}")
    await node.report({"smoke": True})
    result = await flow.async_step_approve()
    assert result["reason"] == "not_carried_out"
    assert result["description_placeholders"]["detail"].startswith("Refused for safety: there is smoke.")


async def test_expires(node: RoomDevice) -> None:
    """A question that nobody answers is closed after a quarter of an hour, and with the hub."""
    question = await asked(node)
    await node.room.let_pass(901)
    assert ir.async_get(node.room.hass).async_get_issue(DOMAIN, f"approval_{question}") is None
    with pytest.raises(ServiceValidationError):
        await node.room.hub.approvals.async_decide(question, approved=True, administrator="x")
    await node.answer()
    await node.report({"smoke": False})
    await asked(node)
    await node.room.reload()
    assert not node.room.hub.approvals.open


async def test_no_end_of_questions(node: RoomDevice) -> None:
    """More questions than a person answers are refused."""
    for amount in range(100, 108):
        await asked(node, Command(key=DOSE.key, amount_ml=amount))
        await node.room.let_pass(13)
    with pytest.raises(PolicyError, match="control_rate"):
        await node.room.hub.async_command(Command(key=DOSE.key, amount_ml=300), AI)


@pytest.mark.parametrize("options", [{"notify": "phone"}])
@pytest.mark.parametrize("answer", ["APPROVE", "DECLINE"])
async def test_answered_on_the_phone(node: RoomDevice, options: dict[str, Any], answer: str) -> None:
    """An administrator answers by the notification; others do not."""
    room = node.room
    sent: list[ServiceCall] = []
    room.hass.services.async_register("notify", options["notify"], sent.append)
    question = await asked(node)
    await room.settle()
    actions = [action["action"] for action in sent[0].data["data"]["actions"]]
    assert actions == [f"GROKMON_APPROVE_{question}", f"GROKMON_DECLINE_{question}"]
    event = {"action": f"GROKMON_{answer}_{question}"}
    for context in (Context(), Context(user_id="nobody"), Context(user_id="nobody")):
        room.hass.bus.async_fire("mobile_app_notification_action", event, context=context)
        await room.settle()
    room.hass.bus.async_fire("mobile_app_notification_action", {"action": "OTHER"}, context=room.admin)
    await room.settle()
    assert question in room.hub.approvals.open
    room.hass.bus.async_fire("mobile_app_notification_action", event, context=room.admin)
    await room.settle()
    assert pumping(node) is (answer == "APPROVE")
    # An app that sends it again and again does not fill the disk.
    (refused,) = await room.audit("approval_refused")
    assert (refused["identity"], refused["reason"]) == ("nobody", "not_administrator")
    assert (refused["approval"], refused["caller"]) == (question, "person")


@pytest.mark.parametrize("options", [{"notify": "phone"}])
@pytest.mark.parametrize("away", [True, False])
async def test_phone_that_is_away_and_an_approval_that_comes_to_nothing(
    node: RoomDevice, caplog: pytest.LogCaptureFixture, options: dict[str, Any], away: bool
) -> None:
    """A notification that cannot be sent, or is not taken as it is, and an approval that is refused, are in the log."""
    if not away:
        schema = probatio.Schema({probatio.Required("message"): str})
        node.room.hass.services.async_register("notify", options["notify"], Mock(), schema)
    question = await asked(node)
    assert "could not be sent" in caplog.text
    await node.report({"smoke": True})
    event = {"action": f"GROKMON_APPROVE_{question}"}
    node.room.hass.bus.async_fire("mobile_app_notification_action", event, context=node.room.admin)
    await node.room.settle()
    assert "could not be carried out" in caplog.text


@pytest.mark.parametrize("options", [{"notify": "phone"}])
async def test_phone_that_does_not_answer_keeps_nobody_waiting(node: RoomDevice, options: dict[str, Any]) -> None:
    """Whoever asked is told at once that an administrator is needed."""
    called, release = asyncio.Event(), asyncio.Event()

    async def slow(_call: ServiceCall) -> None:
        called.set()
        await release.wait()

    node.room.hass.services.async_register("notify", options["notify"], slow)
    assert await asked(node) in node.room.hub.approvals.open
    await called.wait()
    release.set()


async def test_smoke_is_latched_until_an_administrator_resets_it(node: RoomDevice) -> None:
    """Smoke in the middle of irrigation: everything off, an issue, and no reset while it smokes."""
    room = node.room
    zone = next(iter(room.hub.zones.coordinators))
    await room.act("switch", "turn_on", "node/output_irrigation")
    await node.report({"smoke": True})
    await room.settle()
    assert not pumping(node)
    assert room.state(f"{zone}/interlock").state == "smoke"
    assert room.state(f"{zone}/interlock_active").state == "on"
    assert room.state("hub/security_event").attributes["event_type"] == "interlock"
    flow: Any = await fix(room, f"interlock_latched_{zone}_smoke")
    assert (await flow.async_step_init())["step_id"] == "confirm"
    assert (await flow.async_step_confirm({}))["reason"] == "condition_holds"
    await node.report({"smoke": False})
    await room.reload()
    await node.answer()
    assert ir.async_get(room.hass).async_get_issue(DOMAIN, f"interlock_latched_{zone}_smoke") is not None
    assert room.state(f"{zone}/interlock").state == "smoke"
    assert (await flow.async_step_confirm({}))["type"] == "create_entry"
    assert room.state(f"{zone}/interlock").state == "none"
    states = [entry["state"] for entry in await room.audit("interlock")]
    assert states == ["tripped", "reset"]


async def test_fault_is_reset_in_the_repairs(node: RoomDevice) -> None:
    """An output that had a fault can be used again once somebody looked at it."""
    room = node.room
    node.protocol.outputs.stuck.add("outlet")
    await room.act("switch", "turn_on", "node/output_outlet")
    await room.let_pass(6)
    await room.reload()
    flow: Any = await fix(room, "output_fault_node_outlet")
    assert (await flow.async_step_init())["step_id"] == "confirm"
    assert (await flow.async_step_confirm({}))["type"] == "create_entry"
    await room.remove("node")
    assert (await flow.async_step_confirm({}))["reason"] == "actuator_unknown"


async def test_issues_go_with_what_they_are_about(node: RoomDevice) -> None:
    """Nobody is asked to reset what is no more."""
    room = node.room
    zone = next(iter(room.hub.zones.coordinators))
    node.protocol.outputs.stuck.add("outlet")
    await room.act("switch", "turn_on", "node/output_outlet")
    await room.let_pass(6)
    await node.report({"smoke": True})
    assert {"output_fault_node_outlet", f"interlock_latched_{zone}_smoke"} <= issues(room)
    await room.remove("node")
    assert "output_fault_node_outlet" not in issues(room)
    assert f"interlock_latched_{zone}_smoke" in issues(room)
    room.hass.config_entries.async_remove_subentry(room.entry, zone)
    await room.settle()
    assert f"interlock_latched_{zone}_smoke" not in issues(room)


async def test_another_latch_holds(room: Room) -> None:
    """Who resets what is over is not told that something else is not."""
    await room.add_zone("Tent")
    sensor = await room.enrol("node", "smoke", "leak", zone="Tent")
    zone = next(iter(room.hub.zones.coordinators))
    await sensor.report({"smoke": True, "leak": True})
    await sensor.report({"smoke": False, "leak": True})
    smoke: Any = await fix(room, f"interlock_latched_{zone}_smoke")
    leak: Any = await fix(room, f"interlock_latched_{zone}_leak")
    assert (await smoke.async_step_confirm({}))["type"] == "create_entry"
    assert (await leak.async_step_confirm({}))["reason"] == "condition_holds"


async def test_disk_fails_during_a_repair(node: RoomDevice) -> None:
    """What was reset and is not kept is said to be so."""
    room = node.room
    zone = next(iter(room.hub.zones.coordinators))
    await node.report({"smoke": True})
    await node.report({"smoke": False})
    flow: Any = await fix(room, f"interlock_latched_{zone}_smoke")
    failed = HomeAssistantError(translation_domain=DOMAIN, translation_key="store_not_written")
    with patch.object(CheckedStore, "async_save", side_effect=failed):
        assert (await flow.async_step_confirm({}))["reason"] == "store_not_written"


async def test_repairs_need_a_running_hub(node: RoomDevice) -> None:
    """A flow that outlives the hub says so."""
    question = await asked(node)
    approval: Any = await fix(node.room, f"approval_{question}")
    confirm: Any = await async_create_fix_flow(node.room.hass, "x", {"issue": "interlock_latched", "zone_id": "z"})
    confirm.hass, confirm.handler, confirm.flow_id = node.room.hass, DOMAIN, "flow"
    await node.room.hass.config_entries.async_unload(node.room.entry.entry_id)
    with pytest.raises(AbortFlow, match="not_loaded"):
        await approval.async_step_approve()
    with pytest.raises(AbortFlow, match="not_loaded"):
        await confirm.async_step_confirm({})


async def test_only_administrators_decide(node: RoomDevice, hass_read_only_user: User) -> None:
    """Overrides, resets and letting the AI act are for administrators; blocking it is for everybody."""
    room = node.room
    zone = next(iter(room.hub.zones.coordinators))
    other = Context(user_id=hass_read_only_user.id)
    hass_read_only_user.groups[:] = []
    hass_read_only_user.is_owner = False
    assert await async_setup_component(room.hass, "repairs", {})
    who = await room.hub.callers.async_identify(other)
    await room.hub.async_allow_ai(allowed=False, who=who)
    assert not who.administrator
    for unique_id, service in (("hub/ai_control", "turn_on"), (f"{zone}/reset_interlocks", "press")):
        domain = "switch" if service == "turn_on" else "button"
        with pytest.raises(ServiceValidationError) as refused:
            await room.act(domain, service, unique_id, context=Context())
        assert refused.value.translation_key == "not_administrator"
    await room.act("switch", "turn_on", "hub/ai_control")
    assert room.state("hub/ai_control").state == "on"
    await node.report({"smoke": True})
    with pytest.raises(ServiceValidationError) as holds:
        await room.act("button", "press", f"{zone}/reset_interlocks")
    assert holds.value.translation_key == "interlocked_holds"
    await node.report({"smoke": False})
    assert await room.call("reset_interlocks", {"zone": "Tent"}) == {"reset": ["smoke"], "still_active": []}
    await room.act("button", "press", f"{zone}/reset_interlocks")
