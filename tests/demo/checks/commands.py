"""Lamp, fan and pump obey within limits: the dark period, a budget that runs out, smoke, and an AI that is refused."""

from typing import Any

from tests.demo.fleet import Member
from tests.demo.grow_room import GrowRoom
from tests.demo.plan import CONTROL, FLOWER
from tests.demo.report import Report
from tests.demo.waiting import settled
from tests.stack.home_assistant.mcp import call_tool
from tests.stack.home_assistant.rest import ApiError

_WITHIN = 15
_SAFETY = "flower-safety"
_DOSE_ML = 1000
_SMALL_ML = 200
# The stage's water of a day is five litres.
_DOSES = 4


async def check_commands(room: GrowRoom, report: Report) -> None:
    """Command the flower tent, within its limits and beyond them."""
    tent = _Tent(room)
    await tent.zone_is_judged()
    report.add("the lamp, the fan and the pump do what the dashboard says, and show it", await _obey(tent))
    report.add("no light in the dark period, for an administrator either", await _dark(tent))
    report.add("water is given until the budget is spent, and then refused", await _budget(tent))
    report.add("the AI is refused what is beyond its bounds, and told why", await _model(tent))
    report.add("smoke switches everything off at once, and it stays off", await _smoke(tent))


class _Tent:
    """Hold what is needed to command the flower tent."""

    def __init__(self, room: GrowRoom) -> None:
        self.room = room
        self.hass = room.installation.hass
        self.control: Member = room.fleet.member(CONTROL.device_id)

    def entity(self, role: str) -> str:
        """Return the entity of an output."""
        return self.room.entity_ids[f"{CONTROL.device_id}/output_{role}"]

    def of_zone(self, key: str) -> str:
        """Return an entity of the zone."""
        ends = f"/{key}"
        found = [each for unique_id, each in self.room.entity_ids.items() if unique_id.endswith(ends)]
        return next(each for each in found if FLOWER.name.lower().replace(" ", "_") in each)

    async def zone_is_judged(self) -> None:
        """Let every sensor speak, so that no rule of safety lacks its own."""
        await self.room.fleet.report_once()

    async def state(self, entity_id: str) -> str:
        """Return a state."""
        state = await self.hass.rest.state(entity_id)
        return "" if state is None else str(state["state"])

    async def call(self, domain: str, service: str, **data: Any) -> str:
        """Call a service; return what went wrong, or nothing."""
        try:
            await self.hass.rest.call_service(domain, service, data)
        except ApiError as error:
            return str(error)
        return ""

    async def shows(self, entity_id: str, wanted: str) -> list[str]:
        """Return a problem unless an entity comes to a state."""
        seen = await settled(lambda: self.state(entity_id), lambda state: state == wanted, _WITHIN)
        return [] if seen == wanted else [f"{entity_id} is {seen}, not {wanted}"]


async def _obey(tent: _Tent) -> list[str]:
    outputs = tent.control.device.outputs
    problems = [
        await tent.call("light", "turn_on", entity_id=tent.entity("grow_light"), brightness_pct=60),
        await tent.call("fan", "set_percentage", entity_id=tent.entity("exhaust"), percentage=40),
    ]
    if (outputs["grow_light"].percent, outputs["exhaust"].percent) != (60, 40):
        problems.append("the device has other settings")
    before = float(await tent.state(tent.of_zone("water_left")))
    problems.append(await tent.call("grokmon", "irrigate", device_id=CONTROL.device_id, amount_ml=_SMALL_ML))
    problems += await tent.shows(tent.of_zone("water_left"), f"{before - _SMALL_ML:.0f}")
    for role, wanted in (("grow_light", "on"), ("exhaust", "on"), ("irrigation", "off")):
        problems += await tent.shows(tent.entity(role), wanted)
    return [problem for problem in problems if problem]


async def _dark(tent: _Tent) -> list[str]:
    stage = tent.of_zone("stage")
    # After the harvest there is no light day at all.
    await tent.call("select", "select_option", entity_id=stage, option="harvest")
    problems = await tent.shows(tent.entity("grow_light"), "off")
    if not await tent.call("light", "turn_on", entity_id=tent.entity("grow_light")):
        problems.append("the light went on")
    await tent.call("select", "select_option", entity_id=stage, option=FLOWER.stage)
    return problems


async def _budget(tent: _Tent) -> list[str]:
    problems: list[str] = []
    for _ in range(_DOSES):
        problems += await tent.shows(tent.entity("irrigation"), "off")
        problems.append(await tent.call("grokmon", "irrigate", device_id=CONTROL.device_id, amount_ml=_DOSE_ML))
    problems += await tent.shows(tent.entity("irrigation"), "off")
    if not await tent.call("grokmon", "irrigate", device_id=CONTROL.device_id, amount_ml=_DOSE_ML):
        problems.append("the budget was exceeded")
    return [problem for problem in problems if problem]


async def _model(tent: _Tent) -> list[str]:
    await tent.hass.config_flows.walk("mcp_server", {})
    arguments = {"output": f"{CONTROL.device_id}/grow_light", "percent": 100, "reason": "more light, more flowers"}
    answer = await call_tool(tent.hass, "grokmon__set_light", arguments)
    problems = [] if answer.get("refused") == "ai_limit" else [f"the AI got {answer}"]
    off = await call_tool(
        tent.hass, "grokmon__set_fan", {**arguments, "output": f"{CONTROL.device_id}/exhaust", "percent": 0}
    )
    return problems if off.get("done") is True else [*problems, f"the AI could not turn off: {off}"]


async def _smoke(tent: _Tent) -> list[str]:
    problems = [await tent.call("fan", "set_percentage", entity_id=tent.entity("exhaust"), percentage=40)]
    safety = tent.room.fleet.member(_SAFETY)
    safety.sensors.switches["smoke"] = True
    safety.report()
    await safety.device.drain()
    problems += await tent.shows(tent.entity("exhaust"), "off")
    safety.sensors.switches["smoke"] = False
    safety.report()
    await safety.device.drain()
    problems += await tent.shows(tent.room.entity_ids[f"{_SAFETY}/smoke"], "off")
    problems += await tent.shows(tent.of_zone("interlock"), "smoke")
    if not await tent.call("fan", "turn_on", entity_id=tent.entity("exhaust")):
        problems.append("the fan went on while smoke is latched")
    problems.append(await tent.call("grokmon", "reset_interlocks", zone=FLOWER.name))
    problems += await tent.shows(tent.of_zone("interlock"), "none")
    return [problem for problem in problems if problem]
