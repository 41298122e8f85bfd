"""The dashboard "Grow room": the climate of each zone, the health of the devices, and what the gateway decided."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tests.stack.home_assistant import HomeAssistant

from .plan import Node, Zone

URL_PATH = "grow-room"
TITLE = "Grow room"

type Config = dict[str, Any]
type EntityId = Callable[[str], str]
"""Gives the entity of a unique id: `<device_id>_<metric>`, `hub_<total>`."""

_HISTORY_HOURS = 24
_GREEN, _YELLOW, _RED = "#2e9e5b", "#e8b004", "#d64545"

# Metric → name, lowest and highest value of the scale, and where a colour begins.
_GAUGES: dict[str, tuple[str, float, float, dict[float, str]]] = {
    "temp_c": ("Air", 10, 40, {10: _RED, 14: _YELLOW, 19: _GREEN, 28: _YELLOW, 32: _RED}),
    "humidity_percent": ("Humidity", 20, 100, {20: _RED, 35: _YELLOW, 45: _GREEN, 70: _YELLOW, 80: _RED}),
    "vpd_kpa": ("VPD", 0, 3, {0: _RED, 0.4: _YELLOW, 0.8: _GREEN, 1.5: _YELLOW, 2: _RED}),
    "co2_ppm": ("CO₂", 300, 2000, {300: _YELLOW, 350: _GREEN, 1500: _YELLOW, 1800: _RED}),
}
# Metric → name and colour.
_TILES = {
    "ppfd_umol": ("Light", "amber"),
    "soil_moisture_percent": ("Soil moisture", "brown"),
    "leaf_temp_c": ("Leaf", "green"),
    "soil_temp_c": ("Soil", "brown"),
    "ec_ms_cm": ("EC", "teal"),
    "ph": ("pH", "purple"),
    "tank_level_percent": ("Water tank", "blue"),
    "power_w": ("Power", "deep-purple"),
}
# Role → name, colour, and how it is set.
_OUTPUTS = {
    "grow_light": ("Lamp", "amber", "light-brightness"),
    "exhaust": ("Exhaust", "cyan", "fan-speed"),
    "irrigation": ("Pump", "blue", "toggle"),
}
_WITH_TREND = {"ppfd_umol", "soil_moisture_percent"}
_GRAPH = {"temp_c": "Air", "leaf_temp_c": "Leaf", "vpd_kpa": "VPD"}
_ALARMS = ("smoke", "leak", "float_switch", "door")


def dashboard(
    zones: Iterable[Zone], nodes: Sequence[Node], entity_id: EntityId, *, hours: float = _HISTORY_HOURS
) -> Config:
    """Return the dashboard's configuration."""
    sections = [_zone(zone, [node for node in nodes if node.zone == zone.name], entity_id, hours) for zone in zones]
    view = {
        "title": TITLE,
        "path": "overview",
        "icon": "mdi:sprout",
        "type": "sections",
        "max_columns": 3,
        "sections": [*sections, _gateway(nodes, entity_id, hours)],
    }
    return {"title": TITLE, "views": [view, _audit(entity_id)]}


async def add_dashboard(hass: HomeAssistant, config: Config) -> None:
    """Put the dashboard into Home Assistant's sidebar."""
    await hass.websocket.call(
        "lovelace/dashboards/create",
        url_path=URL_PATH,
        title=TITLE,
        icon="mdi:sprout",
        mode="storage",
        show_in_sidebar=True,
        require_admin=False,
    )
    await hass.websocket.call("lovelace/config/save", url_path=URL_PATH, config=config)


def _zone(zone: Zone, nodes: Sequence[Node], entity_id: EntityId, hours: float) -> Config:
    entities = {metric: entity_id(f"{node.device_id}/{metric}") for node in nodes for metric in node.metrics}
    climate = next((node for node in nodes if {"temp_c", "humidity_percent"} <= set(node.metrics)), None)
    if climate is not None:
        # The gateway derives it.
        entities.setdefault("vpd_kpa", entity_id(f"{climate.device_id}/vpd_kpa"))
    outputs = [
        _output(entity_id(f"{node.device_id}/output_{actuator['role']}"), str(actuator["role"]))
        for node in nodes
        for actuator in node.actuators
    ]
    cards = [
        _heading(zone.name, zone.icon, [_badge(entities[metric]) for metric in _ALARMS if metric in entities]),
        *(_gauge(entities[metric], *gauge) for metric, gauge in _GAUGES.items() if metric in entities),
        *(_measured(entities[metric], metric, hours) for metric in _TILES if metric in entities),
    ]
    cards += outputs
    if "temp_c" in entities:
        graph = {name: entities[metric] for metric, name in _GRAPH.items() if metric in entities}
        cards.append(_history(graph, hours))
    return {"type": "grid", "cards": cards}


def _gateway(nodes: Sequence[Node], entity_id: EntityId, hours: float) -> Config:
    event = entity_id("hub/security_event")
    cards = [
        _heading("Gateway", "mdi:shield-check", []),
        _trend(entity_id("hub/accepted"), "Accepted", "green", hours),
        _trend(entity_id("hub/rejected"), "Rejected", "red", hours),
        _tile(entity_id("hub/audit"), "Audit trail", "blue"),
        _tile(entity_id("hub/ai_control"), "AI control", "purple"),
        _tile(entity_id("hub/stop"), "Stop everything", "red"),
        _tile(event, "Security event", "orange", state_content="event_type"),
        _heading("Devices", "mdi:access-point", [], style="subtitle"),
        *(_tile(entity_id(f"{node.device_id}/connectivity"), node.name, "green") for node in nodes),
        _heading("Security events", "mdi:shield-alert", [], style="subtitle"),
        {
            "type": "logbook",
            "target": {"entity_id": [event]},
            "hours_to_show": _HISTORY_HOURS,
            "grid_options": {"columns": 12, "rows": 7},
        },
    ]
    return {"type": "grid", "cards": cards}


def _audit(entity_id: EntityId) -> Config:
    audit = entity_id("hub/audit")
    facts = "\n".join(
        f"- {words}: {{{{ state_attr(audit, '{name}') or 'not yet' }}}}"
        for name, words in {
            "lines": "Lines",
            "last_checkpoint": "Last checkpoint at line",
            "last_verification": "Verified",
            "last_result": "Result",
        }.items()
    )
    section = {
        "type": "grid",
        "column_span": 2,
        "cards": [
            _heading("Audit trail", "mdi:file-document-check", []),
            _tile(audit, "Audit trail", "blue"),
            _tile(entity_id("hub/posture"), "Broker posture", "green"),
            _tile(entity_id("hub/security_score"), "Security score", "green"),
            {"type": "markdown", "content": f"{{% set audit = '{audit}' %}}\n{facts}"},
            {
                "type": "logbook",
                "target": {"entity_id": [audit]},
                "hours_to_show": _HISTORY_HOURS,
                "grid_options": {"columns": "full", "rows": 12},
            },
        ],
    }
    return {"title": "Audit", "path": "audit", "type": "sections", "max_columns": 2, "sections": [section]}


def _heading(text: str, icon: str, badges: list[Config], *, style: str = "title") -> Config:
    return {"type": "heading", "heading": text, "heading_style": style, "icon": icon, "badges": badges}


def _badge(entity: str) -> Config:
    return {"type": "entity", "entity": entity, "show_state": False, "show_icon": True, "color": "state"}


def _gauge(entity: str, name: str, low: float, high: float, segments: dict[float, str]) -> Config:
    return {
        "type": "gauge",
        "entity": entity,
        "name": name,
        "min": low,
        "max": high,
        "needle": True,
        "segments": [{"from": start, "color": colour} for start, colour in segments.items()],
        "grid_options": {"columns": 6, "rows": 3},
    }


def _output(entity: str, role: str) -> Config:
    name, colour, feature = _OUTPUTS[role]
    return _tile(entity, name, colour, features=[{"type": feature}], grid_options={"columns": 6, "rows": 2})


def _measured(entity: str, metric: str, hours: float) -> Config:
    name, colour = _TILES[metric]
    return _trend(entity, name, colour, hours) if metric in _WITH_TREND else _tile(entity, name, colour)


def _trend(entity: str, name: str, colour: str, hours: float) -> Config:
    feature = {"type": "trend-graph", "hours_to_show": hours}
    return _tile(entity, name, colour, features=[feature], grid_options={"columns": 6, "rows": 2})


def _tile(entity: str, name: str, colour: str, **more: Any) -> Config:
    size = {"columns": 6, "rows": 1}
    return {"type": "tile", "entity": entity, "name": name, "color": colour, "grid_options": size, **more}


def _history(entities: Mapping[str, str], hours: float) -> Config:
    return {
        "type": "history-graph",
        "hours_to_show": hours,
        "entities": [{"entity": entity, "name": name} for name, entity in entities.items()],
        "grid_options": {"columns": 12, "rows": 6},
    }
