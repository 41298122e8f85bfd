"""Write the dashboard as an example to paste: ``python -m tests.demo.example > examples/dashboards/grow-room.yaml``."""

import json
from pathlib import Path
import sys
from typing import Any, override

from homeassistant.util import slugify
import yaml  # type: ignore[import-untyped] # no stubs among the pins

from tests.device_simulator.recording import BOOLEANS

from .dashboard import dashboard
from .plan import NODES, ZONES

_REPOSITORY = Path(__file__).resolve().parents[2]
_TRANSLATIONS = _REPOSITORY / "custom_components" / "grokmon" / "translations" / "en.json"
EXAMPLE = _REPOSITORY / "examples" / "dashboards" / "grow-room.yaml"

_HEADER = """\
---
# The dashboard of scripts/demo: two tents, the devices, and what the gateway refused.
#
# Settings > Dashboards > Add dashboard > New dashboard from scratch; open it, Edit, three dots, Raw configuration
# editor; paste this in place of what is there. Then exchange the entities for your own: their names begin with those of
# the zone and the device, here "Flower tent" with the devices "Flower climate", "Flower soil" and "Flower safety".
"""
_HUB = "Grok & Mon gateway"
_WIDTH = 120
# Unique ids and roles that are no sensors.
_DOMAINS = {
    "security_event": "event",
    "ai_control": "switch",
    "stop": "button",
    "grow_light": "light",
    "exhaust": "fan",
    "irrigation": "switch",
}


class _Dumper(yaml.SafeDumper):  # type: ignore[misc] # no stubs
    """Indent lists, as people do."""

    @override
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)


def default_entity_id(unique_id: str) -> str:
    """Return the entity that Home Assistant makes of a unique id when nobody renames it."""
    names = json.loads(_TRANSLATIONS.read_text(encoding="utf-8"))["entity"]
    owner, key = _split(unique_id)
    if key == "connectivity":
        return f"binary_sensor.{slugify(f'{owner} connectivity')}"
    if key.startswith("output_"):
        role = key.removeprefix("output_")
        domain = _DOMAINS[role]
        return f"{domain}.{slugify(f'{owner} {names[domain][role]["name"].format(number="")}')}"
    domain = _DOMAINS.get(key) or ("binary_sensor" if key in BOOLEANS else "sensor")
    return f"{domain}.{slugify(f'{owner} {names[domain][key]["name"]}')}"


def example() -> str:
    """Return the example as YAML."""
    config: dict[str, Any] = dashboard(ZONES, NODES, default_entity_id)
    body = yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return _HEADER + str(body)


def _split(unique_id: str) -> tuple[str, str]:
    device_id, _, key = unique_id.partition("/")
    return next((f"{node.zone} {node.name}" for node in NODES if node.device_id == device_id), _HUB), key


if __name__ == "__main__":
    sys.stdout.write(example())
