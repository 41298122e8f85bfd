"""The dashboard shows what there is, and the example to paste is the dashboard."""

from collections.abc import Iterator
from typing import Any

from .dashboard import dashboard
from .example import EXAMPLE, example
from .plan import NODES, ZONES, Node, Zone


def _entities(config: object) -> Iterator[str]:
    """Find every entity in a configuration."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key in {"entity", "entity_id"}:
                yield from value if isinstance(value, list) else [value]
            else:
                yield from _entities(value)
    elif isinstance(config, list):
        for item in config:
            yield from _entities(item)


def _sections(config: dict[str, Any]) -> list[dict[str, Any]]:
    view, _ = config["views"]
    sections: list[dict[str, Any]] = view["sections"]
    return sections


def test_example_is_the_dashboard() -> None:
    """Run `python -m tests.demo.example` again when this fails."""
    assert EXAMPLE.read_text(encoding="utf-8") == example()


def test_every_device_and_the_gateway_are_shown() -> None:
    """A section for each zone, and one with the health of all devices and the gateway's decisions."""
    config = dashboard(ZONES, NODES, str)
    assert [section["cards"][0]["heading"] for section in _sections(config)] == ["Flower tent", "Veg tent", "Gateway"]
    shown = set(_entities(config))
    assert {f"{node.device_id}/connectivity" for node in NODES} <= shown
    assert {"hub/accepted", "hub/rejected", "hub/audit", "hub/security_event"} <= shown
    assert {"flower-climate/temp_c", "flower-climate/vpd_kpa", "veg-soil/soil_moisture_percent"} <= shown


def test_only_what_a_device_measures_is_shown() -> None:
    """A zone with one sensor has one gauge and its graph, and no VPD, which needs the humidity."""
    config = dashboard([Zone("Box", "seedling", "mdi:sprout")], [Node("box", "Box", ("temp_c",), "Box")], str)
    box = _sections(config)[0]
    assert set(_entities(box)) == {"box/temp_c"}
    assert [card["type"] for card in box["cards"]] == ["heading", "gauge", "history-graph"]


def test_zone_without_climate_has_no_graph() -> None:
    """There would be nothing in it."""
    config = dashboard([Zone("Box", "seedling", "mdi:sprout")], [Node("box", "Box", ("ph",), "Box")], str)
    assert [card["type"] for card in _sections(config)[0]["cards"]] == ["heading", "tile"]
