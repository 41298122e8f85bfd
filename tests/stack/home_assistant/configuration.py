"""Write the configuration folder of a small Home Assistant that talks to nobody outside."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from tests.stack.ports import LOOPBACK

_MINIMAL: dict[str, Any] = {
    "homeassistant": {
        "name": "Grow room",
        "latitude": 51.97,
        "longitude": 5.67,
        "elevation": 10,
        "unit_system": "metric",
        "time_zone": "UTC",
        "country": "NL",
        "currency": "EUR",
        "language": "en",
    },
    "frontend": {},
    "config": {},
    "history": {},
    "logbook": {},
    # Short enough that history has what was just seen.
    "recorder": {"commit_interval": 1},
    "logger": {
        # Not debug: Home Assistant's MQTT prints passwords then.
        "default": "warning",
        "logs": {
            "custom_components": "info",
            # Programs for cameras and speech that a test machine lacks.
            "haffmpeg": "critical",
            "homeassistant.components.camera.img_util": "critical",
        },
    },
}


def write_configuration(
    folder: Path, *, port: int, custom_components: Path | None, extra: Mapping[str, Any] | None = None
) -> None:
    """Write the settings, replacing top-level sections by the extra ones, and link the custom components.

    An extra section that is None leaves the section out.
    """
    storage = folder / ".storage"
    storage.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    sections = {name: section for name, section in {**_MINIMAL, **(extra or {})}.items() if section is not None}
    settings = json.dumps(sections, indent=2)
    (folder / "configuration.yaml").write_text(settings + "\n", encoding="utf-8")
    if custom_components is not None:
        link = folder / "custom_components"
        link.unlink(missing_ok=True)
        link.symlink_to(custom_components.resolve(), target_is_directory=True)
    _store(storage, "http", 2, 2, _http_settings(port))
    # Otherwise it joins the multicast groups of every network that the machine is on.
    _store(storage, "core.network", 1, 1, {"configured_adapters": ["lo"]})
    # This step of the onboarding adds integrations that look up the weather and the radio outside.
    _store(storage, "onboarding", 4, 1, {"done": ["core_config"]})


def _http_settings(port: int) -> dict[str, Any]:
    """Return settings that count as confirmed: those from YAML are a trial that ends after five minutes."""
    stable = {
        "server_host": [LOOPBACK],
        "server_port": port,
        "cors_allowed_origins": ["https://cast.home-assistant.io"],
        "login_attempts_threshold": -1,
        "ip_ban_enabled": True,
        "ssl_profile": "modern",
        "use_x_frame_options": True,
        "created_at": "2026-01-01T00:00:00+00:00",
        "error": None,
        "error_message": None,
    }
    return {"stable": stable, "pending": None, "yaml_migration_done": True}


def _store(storage: Path, key: str, version: int, minor_version: int, data: dict[str, Any]) -> None:
    content = {"version": version, "minor_version": minor_version, "key": key, "data": data}
    (storage / key).write_text(json.dumps(content), encoding="utf-8")
