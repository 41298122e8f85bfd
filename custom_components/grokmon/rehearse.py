"""The material of a rehearsal: commands from the audit trail, readings from Home Assistant's recorder."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from homeassistant.components.recorder import history
from homeassistant.const import STATE_ON
from homeassistant.core import HomeAssistant, State
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.recorder import get_instance
from homeassistant.util import dt as dt_util

from .const import DOMAIN
from .gateway.actuators import Caller, Command, Key, Moment, Principal
from .gateway.audit_record import Record, Search
from .gateway.interlocks import RULES
from .gateway.models import Reading
from .gateway.policy import limits_from
from .gateway.rehearsal import Happened, rehearse
from .gateway.zones import Zone
from .hub import GrokmonHub

_JUDGED: Final = frozenset(metric for rule in RULES.values() for metric in rule.metrics)
_ACTIONS: Final = frozenset({"command", "command_refused"})
_MOST: Final = 1_000_000


async def async_rehearse(
    hass: HomeAssistant, hub: GrokmonHub, days: float, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a changed policy would have refused in the past days.

    `changes` holds `zones` (name → changed settings), `limits` (class → changed limits) and `ai_allowed`. Raises
    RegistryError for settings that make no sense.
    """
    since = dt_util.utcnow() - timedelta(days=days)
    zones = [_changed(zone, hub, changes.get("zones", {})) for zone in hub.dispatcher.controller.zones.values()]
    policy = {
        "limits": limits_from(changes.get("limits", {})),
        "ai_allowed": changes.get("ai_allowed", hub.dispatcher.controller.policy.ai_allowed),
    }
    records = await hub.audit.async_search(Search(start=since.timestamp()), _MOST)
    commands = [command for record in records if (command := _command(record)) is not None]
    readings = await _async_readings(hass, hub, since)
    devices = list(hub.gateway.registry)
    outcome = await hass.async_add_executor_job(rehearse, zones, devices, policy, [*commands, *readings])
    return {"commands": outcome.commands, "readings": outcome.readings, "refused": outcome.refused}


def _changed(zone: Zone, hub: GrokmonHub, changes: Mapping[str, Mapping[str, Any]]) -> Zone:
    wanted = next((each for name, each in changes.items() if name.casefold() == zone.name.casefold()), None)
    if wanted is None:
        return zone
    return Zone.from_dict(zone.zone_id, zone.name, {**hub.zones.settings(zone.zone_id), **wanted})


def _command(record: Record) -> Happened | None:
    asked = record["principal"]
    if record["action"] not in _ACTIONS or asked["caller"] == Caller.SYSTEM.value:
        return None
    params = record["details"].get("params")
    # What could not be told apart from a number was written as text: it was refused for that, and would be again.
    if params is None or any(isinstance(value, str) for value in params.values()):
        return None
    at = dt_util.parse_datetime(record["at"], raise_on_error=True)
    principal = Principal(
        caller=Caller(asked["caller"]), identity=asked["identity"], approved_by=asked.get("approved_by")
    )
    command = Command(key=Key(record["object"]["device"], record["object"]["actuator"]), **params)
    return Happened(_moment(at), (command, principal))


async def _async_readings(hass: HomeAssistant, hub: GrokmonHub, since: datetime) -> list[Happened]:
    """Return the readings that interlocks go by, as the recorder has them."""
    sources = {
        entity.entity_id: (device.device_id, metric)
        for entity in er.async_get(hass).entities.values()
        if entity.platform == DOMAIN
        for device in hub.gateway.registry
        for metric in device.metrics & _JUDGED
        if entity.unique_id == f"{device.device_id}_{metric}"
    }
    if not sources or "recorder" not in hass.config.components:
        return []
    states: dict[str, list[Any]] = await get_instance(hass).async_add_executor_job(
        lambda: history.get_significant_states(
            hass, since, entity_ids=list(sources), significant_changes_only=False, no_attributes=True
        )
    )
    return [each for entity_id, known in states.items() for each in _readings(known, *sources[entity_id])]


def _readings(states: list[Any], device_id: str, metric: str) -> Iterator[Happened]:
    for state in states:
        value = _value(state)
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


def _value(state: State) -> float | bool | None:
    if state.state in {STATE_ON, "off"}:
        return state.state == STATE_ON
    try:
        return float(state.state)
    except ValueError:
        return None


def _moment(at: datetime) -> Moment:
    local = dt_util.as_local(at)
    wall = at.timestamp()
    return replace(Moment(wall=wall, steady=wall), day_s=local.hour * 3600.0 + local.minute * 60.0 + local.second)
