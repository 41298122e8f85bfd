"""The material of a rehearsal: commands from the audit trail, readings from Home Assistant's recorder."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from homeassistant.components.recorder import history
from homeassistant.components.sensor.const import UNIT_CONVERTERS
from homeassistant.const import ATTR_UNIT_OF_MEASUREMENT, STATE_OFF, STATE_ON
from homeassistant.core import HomeAssistant, State
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.recorder import get_instance
from homeassistant.util import dt as dt_util

from .access import zone_named
from .gateway.actuators import Command, Key, Moment
from .gateway.audit_record import Record, Search
from .gateway.catalog import CATALOG
from .gateway.interlocks import JUDGED
from .gateway.models import Reading
from .gateway.policy import limits_from
from .gateway.principals import Caller, Principal
from .gateway.rehearsal import Happened, Rehearsal, rehearse
from .gateway.zones import Zone
from .hub import GrokmonHub
from .unique_ids import metric_entity

_ACTIONS: Final = frozenset({"command", "command_refused"})
_MOST: Final = 1_000_000

# A device and its metric.
type Source = tuple[str, str]


async def async_rehearse(
    hass: HomeAssistant, hub: GrokmonHub, days: float, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a changed policy would have refused in the past days.

    `changes` holds `zones` (name → changed settings), `limits` (class → changed limits) and `ai_allowed`; what is not
    changed is as it is set now. Raises RegistryError for settings that make no sense, ServiceValidationError for a zone
    that there is none of.
    """
    since = dt_util.utcnow() - timedelta(days=days)
    controller = hub.dispatcher.controller
    changed = {zone_named(hub, name): settings for name, settings in changes.get("zones", {}).items()}
    zones = [
        Zone.from_dict(zone_id, zone.name, {**hub.zones.settings(zone_id), **changed.get(zone_id, {})})
        for zone_id, zone in controller.zones.items()
    ]
    policy = {
        "limits": limits_from(changes.get("limits", {}), controller.policy.limits),
        "ai_allowed": changes.get("ai_allowed", controller.policy.ai_allowed),
    }
    records = await hub.audit.async_search(Search(start=since.timestamp(), actions=_ACTIONS), _MOST)
    sources = _sources(hass, hub)
    states = await _async_states(hass, since, list(sources))
    devices = list(hub.gateway.registry)

    def run() -> Rehearsal:
        commands = [command for record in records if (command := _command(record)) is not None]
        readings = [each for entity_id, known in states.items() for each in _readings(known, *sources[entity_id])]
        return rehearse(zones, devices, policy, [*commands, *readings])

    outcome = await hass.async_add_executor_job(run)
    return {"commands": outcome.commands, "readings": outcome.readings, "refused": outcome.refused}


def _command(record: Record) -> Happened | None:
    """Return the command that a record tells of; None where it tells of none, or was altered."""
    try:
        asked = record["principal"]
        if record["action"] not in _ACTIONS or asked["caller"] == Caller.SYSTEM.value:
            return None
        params = record["details"]["params"]
        # What could not be told apart from a number was written as text: it was refused for that, and would be again.
        if any(isinstance(value, str) for value in params.values()):
            return None
        principal = Principal(
            caller=Caller(asked["caller"]), identity=asked["identity"], approved_by=asked.get("approved_by")
        )
        command = Command(key=Key(record["object"]["device"], record["object"]["actuator"]), **params)
        return Happened(_moment(dt_util.parse_datetime(record["at"], raise_on_error=True)), (command, principal))
    except AttributeError, KeyError, OverflowError, TypeError, ValueError:
        return None


def _sources(hass: HomeAssistant, hub: GrokmonHub) -> dict[str, Source]:
    """Return whose readings interlocks go by, by entity."""
    return {
        entity_id: (device.device_id, metric)
        for device in hub.gateway.registry
        for metric in device.metrics & JUDGED.keys()
        if (entity_id := metric_entity(hass, device.device_id, metric))
    }


async def _async_states(hass: HomeAssistant, since: datetime, entity_ids: list[str]) -> Mapping[str, list[Any]]:
    """Return the states that the recorder has."""
    if not entity_ids or "recorder" not in hass.config.components:
        return {}
    return await get_instance(hass).async_add_executor_job(
        lambda: history.get_significant_states(hass, since, entity_ids=entity_ids, significant_changes_only=False)
    )


def _readings(states: list[State], device_id: str, metric: str) -> Iterator[Happened]:
    for state in states:
        value = _value(state, metric)
        if value is None:
            continue
        at = _moment(state.last_changed)
        reading = Reading(
            device_id=device_id,
            received_at=at.wall,
            measured_at=at.wall,
            values={metric: value},
            flags=(),
            late=False,
            meta={},
            hello=None,
        )
        yield Happened(at, reading)


def _value(state: State, metric: str) -> float | bool | None:
    """Return what a state says in the unit of its metric; None where it says nothing."""
    known = CATALOG[metric]
    if known.is_boolean:
        return {STATE_ON: True, STATE_OFF: False}.get(state.state)
    unit = state.attributes.get(ATTR_UNIT_OF_MEASUREMENT)
    try:
        value = float(state.state)
        if unit in {None, known.unit}:
            return value
        return UNIT_CONVERTERS[known.device_class].convert(value, unit, known.unit)
    except HomeAssistantError, KeyError, ValueError:
        return None


def _moment(at: datetime) -> Moment:
    local = dt_util.as_local(at)
    wall = at.timestamp()
    return replace(Moment(wall=wall, steady=wall), day_s=local.hour * 3600.0 + local.minute * 60.0 + local.second)
