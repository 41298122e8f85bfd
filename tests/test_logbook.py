"""Decisions in Home Assistant's logbook: who, what, why; and which of them are security events."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from homeassistant.components.automation.const import DOMAIN as AUTOMATION
from homeassistant.core import Event, ServiceCall
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import load_yaml_dict
import pytest
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped] # has no py.typed
    async_capture_events,
)

from custom_components.grokmon.const import EVENT_DECISION
from custom_components.grokmon.decisions import WORDS
from custom_components.grokmon.gateway.principals import Caller, Principal
from custom_components.grokmon.logbook import async_describe_events
from custom_components.grokmon.system_health import async_register, system_health_info

from .common import Room, RoomDevice

TOLD = {
    "enrolled",
    "rotated",
    "issued",
    "credential_restored",
    "claimed",
    "claim_refused",
    "revocation_confirmed",
    "broker_drift",
    "authority_rotated",
    "posture_acknowledged",
    "disabled",
    "enabled",
    "revoked",
    "removed",
    "kek_rotated",
    "command",
    "command_refused",
    "entity_refused",
    "service_refused",
    "stage_refused",
    "dose_set",
    "dose_refused",
    "note_refused",
    "command_failed",
    "command_rejected",
    "command_timeout",
    "interlock",
    "output_fault",
    "output_fault_reset",
    "stage",
    "photoperiod_override",
    "ai_allowed",
    "ai_blocked",
    "approval_requested",
    "approval_approved",
    "approval_declined",
    "approval_expired",
    "suspicious_activity",
    "alert_acknowledged",
    "audit_finding",
    "audit_key_changed",
    "restored",
}
BLUEPRINT = Path(__file__).parents[1] / "examples" / "blueprints" / "critical-event.yaml"

type Describe = Callable[[Event], dict[str, Any]]


@pytest.fixture
def decisions(room: Room) -> list[Event]:
    """Return the decisions as they are told."""
    events: list[Event] = async_capture_events(room.hass, EVENT_DECISION)
    return events


def _described(room: Room, event: Event) -> str:
    found: dict[str, Describe] = {}
    async_describe_events(room.hass, lambda _domain, name, describe: found.update({name: describe}))
    entry = found[EVENT_DECISION](event)
    assert entry["name"] == "Audit trail"
    assert entry["entity_id"] == room.entity_id("hub/audit")
    message: str = entry["message"]
    return message


def test_every_decision_has_words() -> None:
    """What is told has words, and there are no words for what is not."""
    assert WORDS.keys() == TOLD


@pytest.mark.parametrize(
    ("action", "record", "words"),
    [
        (
            "command",
            {"device": "tent-1", "actuator": "grow_light", "params": {"percent": 75}},
            "Somebody set tent-1 grow light: 75 %",
        ),
        (
            "command",
            {"device": "tent-1", "actuator": "outlet", "params": {"on": True}},
            "Somebody set tent-1 outlet: turn on",
        ),
        (
            "command",
            {"device": "tent-1", "actuator": "outlet", "params": {"on": False}},
            "Somebody set tent-1 outlet: turn off",
        ),
        (
            "command_refused",
            {"device": "tent-1", "actuator": "irrigation", "reason": "budget_exceeded", "params": {"amount_ml": 200.0}},
            "Somebody was not allowed to have tent-1 irrigation 200 mL: budget exceeded",
        ),
        (
            "command_refused",
            {
                "device": "tent-1",
                "actuator": "irrigation",
                "reason": "parameter_invalid",
                "params": {"amount_ml": "nan"},
            },
            "Somebody was not allowed to have tent-1 irrigation nan mL: parameter invalid",
        ),
        (
            "dose_set",
            {"device": "tent-1", "actuator": "irrigation", "params": {"amount_ml": 200.0}},
            "Somebody set the next dose of tent-1 irrigation: 200 mL",
        ),
        (
            "dose_refused",
            {"device": "tent-1", "actuator": "irrigation", "reason": "ai_limit", "params": {"amount_ml": 800.0}},
            "Somebody was not allowed to set the next dose of tent-1 irrigation, 800 mL: ai limit",
        ),
        (
            "entity_refused",
            {"reason": "unauthorized", "entity": "light.tent"},
            "Somebody was not allowed to control this: light.tent",
        ),
        (
            "service_refused",
            {"reason": "not_by_hand", "service": "revoke_device"},
            "Somebody was not allowed to call this: revoke device",
        ),
        (
            "stage_refused",
            {"zone": "nowhere", "reason": "ai_limit", "detail": "forward only"},
            "Somebody was not allowed to change the growth stage of nowhere: forward only",
        ),
        ("ai_blocked", {}, "Somebody blocked the AI"),
    ],
)
async def test_words(room: Room, decisions: list[Event], action: str, record: dict[str, Any], words: str) -> None:
    """Say in plain words who wanted what, and why not."""
    room.hub.audit.record(action, who=Principal(caller=Caller.PERSON, identity="nobody"), **record)
    await room.settle()
    assert _described(room, decisions[-1]) == words


async def test_who(room: Room, decisions: list[Event]) -> None:
    """Name the person, the automation, or the kind of caller; what was found has nobody."""
    room.hass.states.async_set("person.ann", "home", {"user_id": "user-1", "friendly_name": "Ann"})
    room.hass.states.async_set("automation.evening", "on", {"friendly_name": "Evening"})
    callers = {
        "Ann": Principal(caller=Caller.PERSON, identity="user-1"),
        "Evening": Principal(caller=Caller.AUTOMATION, identity="automation.evening"),
        "An automation": Principal(caller=Caller.AUTOMATION, identity="unknown"),
        "The AI": Principal(caller=Caller.AI, identity="x", reason="The tent is dry."),
        "A voice": Principal(caller=Caller.VOICE, identity="x"),
        "Grok & Mon": Principal(caller=Caller.SYSTEM, identity="smoke"),
    }
    for name, who in callers.items():
        room.hub.audit.record("ai_blocked", who=who)
        await room.settle()
        said = " (The tent is dry.)" if who.reason else ""
        assert _described(room, decisions[-1]) == f"{name} blocked the AI{said}"
    room.hub.audit.record("interlock", outcome="found", reason="smoke", zone="nowhere", state="tripped")
    await room.settle()
    assert _described(room, decisions[-1]) == "smoke in nowhere: tripped"


def test_what_an_app_made_up(room: Room) -> None:
    """An event that a user's app has sent is no decision, whatever it says."""
    found: dict[str, Describe] = {}
    async_describe_events(room.hass, lambda _domain, name, describe: found.update({name: describe}))
    forged: Any = SimpleNamespace(data={"action": "approval_approved", "caller": "person"}, context_user_id="user-1")
    assert found[EVENT_DECISION](forged) == {"name": "Audit trail", "message": "knows nothing of what an app told here"}


async def test_what_is_not_worth_telling(room: Room, decisions: list[Event]) -> None:
    """Leave out of the logbook what is only for inspectors."""
    room.hub.audit.record("verified")
    await room.settle()
    assert decisions == []


async def test_credentials_are_security_events(tent: RoomDevice) -> None:
    """Tell of new and revoked credentials as a security event of no alarm."""
    events = async_capture_events(tent.room.hass, "grokmon_security_event")
    await tent.room.call("revoke_device", {"device_id": "tent-1"})
    told = [event.data for event in events]
    assert [(data["category"], data["code"], data["severity"], data["name"]) for data in told] == [
        ("credential", "revoked", "info", "Tent 1")
    ]


async def test_system_health(tent: RoomDevice) -> None:
    """Tell the state of the gateway at a glance, and that it is not there."""
    room = tent.room
    registered: list[Any] = []

    class Registration:
        """Take what is registered."""

        @staticmethod
        def async_register_info(info: Any) -> None:
            """Take the function."""
            registered.append(info)

    registration: Any = Registration()
    async_register(room.hass, registration)
    assert registered == [system_health_info]
    await room.hub.audit.async_flush()
    assert await system_health_info(room.hass) == {
        "running": True,
        "broker_connected": True,
        "devices": 1,
        "audit_lines": 3,
        "audit_writable": True,
        "audit_verified": "not yet",
        "audit_result": "not yet",
        "checkpoints_sent_to": "nowhere",
        "key_encryption_key": "generated",
        "staged_bytes": 0,
    }
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert await system_health_info(room.hass) == {"running": False}


async def test_blueprint_notifies_on_critical_events(tent: RoomDevice) -> None:
    """The example blueprint tells of what is critical, and of nothing else."""
    room = tent.room
    told: list[ServiceCall] = []
    room.hass.services.async_register("notify", "phone", told.append)
    folder = Path(room.hass.config.path("blueprints", AUTOMATION, "grokmon"))
    await room.hass.async_add_executor_job(lambda: folder.mkdir(parents=True))
    (folder / BLUEPRINT.name).write_text(BLUEPRINT.read_text())
    assert load_yaml_dict(BLUEPRINT)["blueprint"]["domain"] == AUTOMATION
    use = {
        "path": f"grokmon/{BLUEPRINT.name}",
        "input": {"notify": [{"action": "notify.phone", "data": {"title": "{{ title }}", "message": "{{ message }}"}}]},
    }
    assert await async_setup_component(room.hass, AUTOMATION, {AUTOMATION: {"use_blueprint": use}})
    for _ in range(6):
        await tent.send(b"nonsense")
    await room.settle()
    assert [call.data for call in told] == [
        {
            "title": "Grok & Mon: suspicious activity",
            "message": "Tent 1: more than 5 failures: malformed",
        }
    ]
