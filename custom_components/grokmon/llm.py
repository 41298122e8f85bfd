"""Tools for language models: run the room as the class *AI*, within its bounds.

What a tool answers is made of names of the registry, enumerations and numbers. Nothing that a device wrote as text
reaches a model, so that no sensor can talk to it.
"""

from abc import abstractmethod
from collections.abc import Callable
import re
from typing import Any, Final, override

from homeassistant.components import persistent_notification
from homeassistant.components.llm import LLMTools
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.llm import LLM_API_ASSIST, LLMContext, Tool, ToolAnnotations, ToolInput, ToolResult
from homeassistant.util.json import JsonObjectType
import probatio

from .access import async_admit, hub_of, running_hub, zone_named
from .callers import async_note_model
from .const import DOMAIN
from .gateway.actuators import Command, Key, Kind, Role
from .gateway.errors import Code, CommandError, GatewayError, PolicyError
from .gateway.outputs import Output
from .gateway.principals import Caller, Principal
from .gateway.zones import DAY_S, HOUR_S, TARGET_METRICS, Stage, Zone
from .hub import GrokmonHub
from .unique_ids import output_entity, registered
from .zone_coordinator import STAGE, readings_in

_MAX_REASON: Final = 200
_MARKUP: Final = frozenset("[]()<>`*_#|:/@")
_WWW: Final = re.compile(r"www\.", re.IGNORECASE)
_REASON: Final = {
    probatio.Required("reason", description="Why, in one sentence. It is kept in the audit trail."): probatio.All(
        cv.string, probatio.Length(min=3, max=_MAX_REASON)
    )
}
# Nothing here reaches outside of Home Assistant. Changes can be undone by the opposite one; water and CO2 cannot.
_READS: Final = ToolAnnotations(read_only=True, destructive=False, idempotent=True, open_world=False)
_SETS: Final = ToolAnnotations(destructive=False, idempotent=True, open_world=False)
_GIVES: Final = ToolAnnotations(destructive=True, open_world=False)
_WRITES: Final = ToolAnnotations(destructive=False, open_world=False)

_PROMPT: Final = (
    "Grok & Mon runs a grow room. Read a zone with grokmon__read_zone before you change anything. Every change is "
    "checked against limits, budgets and interlocks and may be refused with an explanation: respect it, do not try "
    "again in another way. Some changes need a person's approval. Always give an honest reason."
)


@callback
def async_get_tools(hass: HomeAssistant, llm_context: LLMContext, api_id: str) -> LLMTools | None:
    """Return the tools of the room, and take note that a model acts in this context."""
    async_note_model(hass, llm_context.context, llm_context.platform)
    hub = running_hub(hass)
    if api_id != LLM_API_ASSIST or hub is None or not hub.dispatcher.controller.zones:
        return None
    return LLMTools(tools=[tool for make in _TOOLS if (tool := make(hub)).usable], prompt=_PROMPT)


class _Tool(Tool):
    """A tool that acts as the AI, and answers a refusal with its explanation."""

    integration = DOMAIN
    usable = True

    def __init__(self, hub: GrokmonHub) -> None:
        self.parameters = probatio.Schema(self._fields(hub))

    def _fields(self, hub: GrokmonHub) -> dict[Any, Any]:
        """Return the parameters: a zone unless a tool says otherwise."""
        return {
            probatio.Required("zone"): probatio.In([zone.name for zone in hub.dispatcher.controller.zones.values()])
        }

    @override
    async def async_call(self, hass: HomeAssistant, tool_input: ToolInput, llm_context: LLMContext) -> ToolResult:
        """Call the tool. Raises Unauthorized where a model acts for who may not control what the tool does."""
        data = self.parameters(tool_input.tool_args)
        who = _principal(llm_context, data.get("reason", ""))
        try:
            # The one that runs now: a conversation may outlive a new start of the hub.
            hub = hub_of(hass)
            for entity_id in self._controls(hub, data):
                await async_admit(hub, llm_context.context, entity_id, who)
            return ToolResult(data=await self._async_do(hub, data, who))
        except GatewayError as error:
            refusal: JsonObjectType = {"refused": error.code.value}
            if not isinstance(error, CommandError):
                # Those may have a device's own words.
                refusal["explanation"] = error.detail
            if isinstance(error, PolicyError):
                refusal |= error.facts()
            return ToolResult(data=refusal, error=True)

    def _controls(self, _hub: GrokmonHub, _data: dict[str, Any]) -> tuple[str | None, ...]:
        """Return the entities that it controls."""
        return ()

    @abstractmethod
    async def _async_do(self, hub: GrokmonHub, data: dict[str, Any], who: Principal) -> JsonObjectType:
        """Do what the tool is for. Raises GatewayError for what is refused, ServiceValidationError for no such zone."""


class ReadZone(_Tool):
    """Readings, targets, budgets left, interlocks and the last decisions."""

    name = "grokmon__read_zone"
    title = "Read a zone"
    description = "Read what a zone measures, its targets, outputs, interlocks, and what is left of its budgets."
    annotations = _READS

    @override
    async def _async_do(self, hub: GrokmonHub, data: dict[str, Any], who: Principal) -> JsonObjectType:
        controller = hub.dispatcher.controller
        zone = controller.zones[zone_named(hub, data["zone"])]
        now = hub.dispatcher.clock.now()
        outputs = controller.outputs_in(zone.zone_id)
        pumps = [each.key for each in outputs if each.actuator.role is Role.IRRIGATION]
        valves = [each.key for each in outputs if each.actuator.role is Role.CO2_VALVE]
        ledger = controller.ledger
        limits = controller.policy.limits[Caller.AI]
        given = ledger.given(now.steady, DAY_S, keys=pumps, caller=Caller.AI)
        devices = hub.enrolment.coordinators.values()
        return {
            "zone": zone.name,
            "stage": zone.stage.value,
            "readings": {name: round(value, 2) for name, value in readings_in(zone.zone_id, devices).items()},
            "targets": _targets(zone),
            "dark": zone.is_dark(now.day_s),
            "seconds_until_light_change": zone.until_light_change(now.day_s),
            "interlocks": [each.value for each in controller.interlocks.active(zone.zone_id)],
            "outputs": [_output(output) for output in outputs],
            "water_left_ml": round(controller.policy.water_left(zone, pumps, now.steady)),
            "water_left_for_the_ai_ml": None if limits.day_ml is None else round(max(0.0, limits.day_ml - given)),
            "co2_left_s": round(max(0.0, zone.co2_hour_s - ledger.given(now.steady, HOUR_S, keys=valves))),
            "ai_allowed": controller.policy.ai_allowed,
            "last_decisions": list(hub.dispatcher.log.decisions),
        }


class _Drive(_Tool):
    """A tool that drives one output."""

    kinds: frozenset[Kind] = frozenset()
    annotations = _SETS

    @override
    def _fields(self, hub: GrokmonHub) -> dict[Any, Any]:
        outputs = [str(output.key) for output in hub.dispatcher.controller.outputs.values() if self._fits(output)]
        self.usable = bool(outputs)
        return {probatio.Required("output"): probatio.In(outputs), **self._amount(), **_REASON}

    def _fits(self, output: Output) -> bool:
        return output.actuator.kind in self.kinds and output.actuator.role is not Role.CO2_VALVE

    @abstractmethod
    def _amount(self) -> dict[Any, Any]:
        """Return the parameter that says how much."""

    @abstractmethod
    def _wanted(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return what is wanted, as the fields of a command."""

    @override
    def _controls(self, hub: GrokmonHub, data: dict[str, Any]) -> tuple[str | None, ...]:
        return (output_entity(hub.hass, _output_named(hub, data["output"]).key),)

    @override
    async def _async_do(self, hub: GrokmonHub, data: dict[str, Any], who: Principal) -> JsonObjectType:
        output = _output_named(hub, data["output"])
        try:
            await hub.async_command(Command(key=output.key, **self._wanted(data)), who)
        except PolicyError as error:
            if error.code is Code.APPROVAL_REQUIRED:
                return {"waits_for": "approval", "explanation": error.detail}
            raise
        return {"done": True, **_output(output)}


class _DrivePercent(_Drive):
    """A tool that sets percent."""

    @override
    def _amount(self) -> dict[Any, Any]:
        return {probatio.Required("percent", description="0 is off."): probatio.Coerce(float)}

    @override
    def _wanted(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"percent": data["percent"]}


class SetLight(_DrivePercent):
    """Dim a lamp."""

    name = "grokmon__set_light"
    title = "Set a light"
    description = "Set a lamp to a percentage; 0 turns it off."
    kinds = frozenset({Kind.LIGHT})


class SetFan(_DrivePercent):
    """Set a fan's speed."""

    name = "grokmon__set_fan"
    title = "Set a fan"
    description = "Set a fan to a percentage; 0 turns it off."
    kinds = frozenset({Kind.FAN})


class SetSwitch(_Drive):
    """Switch something on or off."""

    name = "grokmon__set_switch"
    title = "Set a switch"
    description = "Turn a humidifier, dehumidifier, heat mat or outlet on or off."
    kinds = frozenset({Kind.SWITCH})

    @override
    def _amount(self) -> dict[Any, Any]:
        return {probatio.Required("on"): cv.boolean}

    @override
    def _wanted(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"on": data["on"]}


class Irrigate(_Drive):
    """Give water."""

    name = "grokmon__irrigate"
    title = "Irrigate"
    description = "Give one dose of water in millilitres. It cannot be taken back."
    kinds = frozenset({Kind.PUMP})
    annotations = _GIVES

    @override
    def _amount(self) -> dict[Any, Any]:
        return {probatio.Required("amount_ml"): probatio.Coerce(float)}

    @override
    def _wanted(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"amount_ml": data["amount_ml"]}


class InjectCo2(_Drive):
    """Open a CO2 valve for some seconds."""

    name = "grokmon__inject_co2"
    title = "Inject CO2"
    description = "Open a CO2 valve for some seconds. What is beyond the limits is refused, with the limits."
    annotations = _GIVES

    @override
    def _fits(self, output: Output) -> bool:
        return output.actuator.role is Role.CO2_VALVE

    @override
    def _amount(self) -> dict[Any, Any]:
        return {probatio.Required("seconds"): probatio.Coerce(float)}

    @override
    def _wanted(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"seconds": data["seconds"]}


class SetStage(_Tool):
    """Change the growth stage."""

    name = "grokmon__set_stage"
    title = "Set the growth stage"
    description = "Move a zone forward to a growth stage, by which targets, light hours and budgets go."
    annotations = _SETS

    @override
    def _fields(self, hub: GrokmonHub) -> dict[Any, Any]:
        stages = probatio.In([stage.value for stage in Stage])
        return {**super()._fields(hub), probatio.Required("stage"): stages, **_REASON}

    @override
    def _controls(self, hub: GrokmonHub, data: dict[str, Any]) -> tuple[str | None, ...]:
        return (registered(hub.hass, Platform.SELECT, zone_named(hub, data["zone"]), STAGE),)

    @override
    async def _async_do(self, hub: GrokmonHub, data: dict[str, Any], who: Principal) -> JsonObjectType:
        hub.zones.async_set_stage(zone_named(hub, data["zone"]), Stage(data["stage"]), who)
        return {"done": True, "stage": data["stage"]}


class _Note(_Tool):
    """A tool that writes down what a model says, and moves nothing."""

    annotations = _WRITES
    event = ""

    @override
    def _fields(self, hub: GrokmonHub) -> dict[Any, Any]:
        return {**super()._fields(hub), **_REASON}

    @override
    async def _async_do(self, hub: GrokmonHub, data: dict[str, Any], who: Principal) -> JsonObjectType:
        dispatcher, zone_id = hub.dispatcher, zone_named(hub, data["zone"])
        now = dispatcher.clock.now()
        try:
            dispatcher.controller.policy.judge_note(who, now)
        except PolicyError as error:
            dispatcher.log.denied("note_refused", who, error.code.value, now, {"zone": zone_id}, detail=error.detail)
            raise
        hub.audit.record(self.event, who=who, zone=zone_id)
        self._show(hub, data["zone"], zone_id, who.reason)
        return {"done": True}

    def _show(self, hub: GrokmonHub, zone: str, zone_id: str, words: str) -> None:
        """Show it to people, too, where the tool is for that."""


class LogObservation(_Note):
    """Write something into the audit trail."""

    name = "grokmon__log_observation"
    title = "Log an observation"
    description = "Write an observation about a zone into the audit trail. It moves nothing."
    event = "observation"


class AskHuman(_Note):
    """Ask a person."""

    name = "grokmon__ask_human"
    title = "Ask a person"
    description = "Show a question or a concern about a zone to the people who run the room."
    event = "human_asked"

    @override
    def _show(self, hub: GrokmonHub, zone: str, zone_id: str, words: str) -> None:
        persistent_notification.async_create(
            hub.hass, words, title=f"Grok & Mon: {zone}", notification_id=f"{DOMAIN}_question_{zone_id}"
        )


_TOOLS: Final[tuple[Callable[[GrokmonHub], _Tool], ...]] = (
    ReadZone,
    SetLight,
    SetFan,
    SetSwitch,
    Irrigate,
    InjectCo2,
    SetStage,
    LogObservation,
    AskHuman,
)


def _output_named(hub: GrokmonHub, name: str) -> Output:
    return hub.dispatcher.controller.output(Key(*name.split("/", 1)))


def _targets(zone: Zone) -> JsonObjectType:
    targets = zone.targets
    named: JsonObjectType = {name: [getattr(targets, name).low, getattr(targets, name).high] for name in TARGET_METRICS}
    return named | {"light_hours": targets.light_hours, "water_ml_day": targets.water_ml_day}


def _output(output: Output) -> dict[str, Any]:
    observed = output.observed
    return {
        "output": str(output.key),
        "role": output.actuator.role.value,
        "on": None if observed is None else observed.on,
        "percent": None if observed is None else observed.percent,
        "fault": output.fault,
        "needs_approval": output.actuator.needs_approval,
    }


def _principal(llm_context: LLMContext, reason: str) -> Principal:
    context = llm_context.context
    user_id = context.user_id if context is not None else None
    return Principal(caller=Caller.AI, identity=user_id or llm_context.platform, reason=_printable(reason))


def _printable(text: str) -> str:
    """Return a model's words on one line, without markup or addresses that a reader could follow."""
    plain = "".join(each if each.isprintable() and each not in _MARKUP else " " for each in text)
    return _WWW.sub("www ", plain)[:_MAX_REASON]
