"""What people, automations and models choose: tables, outputs, zones, limits, and arguments of tools."""

from collections.abc import Iterator
import json
from math import inf
from types import SimpleNamespace
from typing import Any, Final

import probatio

from custom_components.grokmon import llm, registry_csv
from custom_components.grokmon.choices import METHODS
from custom_components.grokmon.gateway.actuators import Actuator, Command, Key, Role, normalise
from custom_components.grokmon.gateway.errors import PolicyError, RegistryError
from custom_components.grokmon.gateway.outputs import Output
from custom_components.grokmon.gateway.policy import limits_from
from custom_components.grokmon.gateway.registry import check
from custom_components.grokmon.gateway.zones import STAGES, TARGET_METRICS, Interlock, Stage, Zone
from custom_components.grokmon.store import SecurityRecord

from .target import Target, hold, refused

_OUTPUTS: Final = {
    Key("tent-1", role.value): Output(Key("tent-1", role.value), Actuator(name=role.value, role=role)) for role in Role
}
_ZONE: Final = Zone(zone_id="z", name="Tent")
# As much of a hub as tables and tools look at.
_HUB: Final[Any] = SimpleNamespace(
    enrolment=SimpleNamespace(zone_named=lambda name: "z" if name.casefold() == "tent" else None),
    dispatcher=SimpleNamespace(controller=SimpleNamespace(zones={"z": _ZONE}, outputs=_OUTPUTS)),
)
_TOOLS: Final[tuple[Any, ...]] = tuple(make(_HUB) for make in llm._TOOLS)  # noqa: SLF001 - what is fuzzed


def _tree(data: bytes) -> Any:
    return refused(lambda: json.loads(data), ValueError, RecursionError)


def _table(data: bytes) -> None:
    """Read a table of devices."""
    for _, row in registry_csv._rows(data.decode(errors="ignore")):  # noqa: SLF001 - what is fuzzed
        choices, method, _ = registry_csv._choices(_HUB, row)  # noqa: SLF001 - what is fuzzed
        check(choices.device(SecurityRecord((), METHODS[method].auth)))
        for cell in row.values():
            hold("no formula", kept=registry_csv._unsafe(registry_csv._safe(cell)) == cell)  # noqa: SLF001 - what is fuzzed


def _tables() -> Iterator[bytes]:
    head = ",".join(registry_csv.COLUMNS)
    rows = (
        "tent-1,Tent 1,Tent,hs256,temp_c leak,lamp:grow_light exhaust,100,,active",
        "tent-2,'=x,,broker,vpd_kpa,,,,",
    )
    for text in (f"{head}\n{rows[0]}\n{rows[1]}\n", 'device_id;name;auth\r\na;"b ""c"\n";token\r\n'):
        yield text.encode()


def _output(data: bytes) -> None:
    """Read an output, and command it."""
    data_of = _tree(data)
    if not isinstance(data_of, dict):
        return
    wanted = data_of.pop("command", {})
    actuator = Actuator.from_dict(_keys(data_of))
    hold("written as it was read", kept=Actuator.from_dict(actuator.as_dict()) == actuator)
    json.dumps([actuator.as_dict(), actuator.for_device()], allow_nan=False)
    command = refused(lambda: Command(key=Key("tent-1", actuator.name), **wanted), TypeError)
    if command is not None:
        json.dumps(normalise(command, actuator).params(), allow_nan=False)


def _outputs() -> Iterator[bytes]:
    for output in _OUTPUTS.values():
        command: dict[str, Any] = {"on": True, "percent": 50, "amount_ml": 100, "seconds": 30}
        plain = {"name": output.actuator.name, "role": output.actuator.role.value, "lease_s": 60, "day_ml": 3000}
        yield json.dumps({**plain, "command": {"on": True}}).encode()
        for name, value in command.items():
            yield json.dumps({**plain, "command": {name: value}}).encode()


def _keys(data: dict[str, Any]) -> dict[Any, Any]:
    """Return an object whose names may be numbers, as those of YAML may."""
    return {int(name) if name.isdecimal() and name.isascii() else name: value for name, value in data.items()}


def _zone(data: bytes) -> None:
    """Read the settings of a zone, and ask it what it asks of the day."""
    chosen = _tree(data)
    if not isinstance(chosen, dict):
        return
    zone = Zone.from_dict("z", "Tent", _keys(chosen))
    zone.is_dark(0.0)
    until = zone.until_light_change(3600.0)
    hold("within a day", kept=until is None or 0 <= until <= 86_400)  # noqa: PLR2004 - a day
    hold("budgets that are some", kept=zone.water_budget >= 0 and zone.lamp_budget_s >= 0)


def _zones() -> Iterator[bytes]:
    interlocks = {"enabled": [each.value for each in Interlock], "stale_s": 60, "over_temperature_c": 30}
    for stage in Stage:
        targets = {
            name: [getattr(STAGES[stage], name).low, getattr(STAGES[stage], name).high] for name in TARGET_METRICS
        }
        stages = {stage.value: {**targets, "light_hours": 12, "water_ml_day": 100}}
        yield json.dumps({"stage": stage.value, "stages": stages, "interlocks": interlocks, "lamp_hours": 12}).encode()


def _limits(data: bytes) -> None:
    """Read changed limits of the classes of callers."""
    chosen = _tree(data)
    # The schema of the service says so much.
    if isinstance(chosen, dict) and all(isinstance(each, dict) for each in chosen.values()):
        for limits in limits_from(chosen).values():
            hold("a rate to divide by", kept=60.0 / limits.rate <= 60.0)  # noqa: PLR2004 - one a minute at least
            hold("times that are some", kept=0 <= limits.hold_s < inf)


def _tool(data: bytes) -> None:
    """Call a tool as a model does, as far as its schema, its words and the bounds of the output."""
    called = _tree(data)
    if not isinstance(called, dict):
        return
    for tool in _TOOLS:
        arguments = refused(lambda: tool.parameters(called), probatio.Invalid)  # noqa: B023 - called now
        if arguments is None:
            continue
        hold("one line", kept=llm._printable(arguments.get("reason", "")).isprintable())  # noqa: SLF001 - what is fuzzed
        if isinstance(tool, llm._Drive):  # noqa: SLF001 - what is fuzzed
            output = next(each for key, each in _OUTPUTS.items() if str(key) == arguments["output"])
            command = Command(key=output.key, **tool._wanted(arguments))  # noqa: SLF001 - what is fuzzed
            refused(lambda: normalise(command, output.actuator), PolicyError)  # noqa: B023 - called now


def _calls() -> Iterator[bytes]:
    for key in _OUTPUTS:
        for amount in ({"percent": 50}, {"on": True}, {"amount_ml": 100}, {"seconds": 30}):
            yield json.dumps({"output": str(key), **amount, "reason": "too dry"}).encode()
    yield json.dumps({"zone": "Tent"}).encode()
    yield json.dumps({"zone": "Tent", "stage": "flowering", "reason": "because [x](y)"}).encode()


_FIELDS: Final = (
    *Actuator.__dataclass_fields__,
    *Zone.__dataclass_fields__,
    *Role,
    *Stage,
    *Interlock,
    *TARGET_METRICS,
)
_WORDS: Final = (*map(str, _FIELDS), "on", "percent", "amount_ml", "seconds", "command", "enabled", "light_hours")
TARGETS: Final = (
    Target(
        name="table", run=_table, seeds=_tables, words=(*registry_csv.COLUMNS, *METHODS, '"', "'", "=", ";", "Tent")
    ),
    Target(name="output", run=_output, seeds=_outputs, refusals=(RegistryError, PolicyError), words=_WORDS, tree=True),
    Target(name="zone", run=_zone, seeds=_zones, refusals=(RegistryError,), words=_WORDS, tree=True),
    Target(
        name="limits",
        run=_limits,
        seeds=lambda: [b'{"ai":{"rate":3,"hold_s":60,"day_ml":1000}}'],
        refusals=(RegistryError,),
        words=("system", "person", "automation", "voice", "ai", "rate", "hold_s", "day_ml"),
        tree=True,
    ),
    Target(
        name="tool",
        run=_tool,
        seeds=_calls,
        refusals=(OverflowError,),
        words=(*_WORDS, "output", "reason", "zone", "stage"),
        tree=True,
    ),
)
