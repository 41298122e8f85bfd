"""What a person or a program needs to set up a device: shown once, to an administrator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import json
from typing import Any, Final

from .choices import method_of
from .gateway import access_tokens, credentials, lifecycle, topics
from .gateway.catalog import CATALOG
from .gateway.credentials import account_name
from .gateway.envelope import encode_base64url
from .gateway.models import Algorithm, Auth, CredentialKind, Device, PrivateKey, Value

TELEMETRY_PATH: Final = "/api/grokmon/v1/telemetry"
CLAIM_PATH: Final = "/api/grokmon/v1/claim"

# What a healthy room shows where no plausible range tells.
_TYPICAL: Final[Mapping[str, Value]] = {
    "ec_ms_cm": 1.8,
    "ph": 6.0,
    "lux": 20_000.0,
    "tank_level_percent": 80.0,
    "water_flow_l_min": 1.5,
    "pressure_hpa": 1013.0,
    "vbat": 3.7,
    "battery_percent": 90.0,
    "rssi_dbm": -60.0,
    "power_w": 120.0,
    "uptime_s": 3600.0,
    "mains_power": True,
}
_EXAMPLE: Final = """\
import json
from grokmon_device import GrokmonDevice  # examples/devices/FOLDER

device = GrokmonDevice(json.load(open("settings.json")))
while True:
    REPORTdevice.run(10)"""
_ACTING: Final = """\
import json
from grokmon_device import GrokmonDevice  # examples/devices/FOLDER
from grokmon_outputs import Outputs  # examples/devices

def apply(name, on, percent):
    ...  # drive the pin of this output

settings = json.load(open("settings.json"))
outputs = Outputs(settings["actuators"], apply)
device = GrokmonDevice(settings, outputs)
try:
    while True:
        REPORTdevice.run(1)
finally:
    outputs.rest()"""


@dataclass(frozen=True, slots=True)
class Site:
    """What the site is to its devices: where it listens, and what it signs with."""

    prefix: str
    keys: Mapping[Algorithm, PrivateKey]
    token_key: bytes = field(default=b"", repr=False)


def settings_of(device: Device, site: Site) -> dict[str, Any]:
    """Return the identity, the topics and the newest credentials of a device, their secrets included."""
    newest = {each.kind: each for each in lifecycle.current(device.credentials)}
    settings: dict[str, Any] = {"device_id": device.device_id, "auth": method_of(device), "prefix": site.prefix}
    if device.auth is not Auth.TOKEN:
        settings["topics"] = topics.all_topics(site.prefix, device.device_id)
    if device.actuators:
        settings["actuators"] = {actuator.name: actuator.for_device() for actuator in device.actuators}
    if (key := newest.get(CredentialKind.KEY)) is not None:
        if key.algorithm is Algorithm.HS256:
            settings["key"] = encode_base64url(key.secret).decode()
        else:
            settings["site_public_key"] = credentials.public_pem(site.keys[key.algorithm])
    if (password := newest.get(CredentialKind.PASSWORD)) is not None:
        settings["username"] = account_name(device.device_id, password)
        settings["password"] = password.secret.decode()
        settings["client_id"] = device.device_id
    if (token := newest.get(CredentialKind.TOKEN)) is not None:
        settings["token"] = access_tokens.seal(device.device_id, token, site.token_key)
        settings["path"] = TELEMETRY_PATH
    return settings


def instructions(device: Device, settings: Mapping[str, Any], place: tuple[str, int]) -> dict[str, str]:
    """Return the texts of the page that shows the credentials: settings file, topics, and examples.

    `place` is host and port of the broker, the host empty where it is not known.
    """
    sample = {metric: _typical_value(metric) for metric in sorted(device.metrics)}
    if device.auth is not Auth.SIGNED:
        return {
            "name": device.name,
            "device_id": device.device_id,
            "settings": json.dumps(settings, indent=2),
            "body": json.dumps({"metrics": sample}),
        }
    example, indent = (_ACTING, 8) if device.actuators else (_EXAMPLE, 4)
    report = ""
    if sample:
        values = ", ".join(f'"{metric}": {value}' for metric, value in sample.items())
        report = f"device.report({{{values}}})\n{' ' * indent}"
    example = example.replace("REPORT", report)
    return {
        "name": device.name,
        "device_id": device.device_id,
        "settings": _settings_file(settings, place),
        "topics": "\n".join(f"{channel}: {topic}" for channel, topic in settings["topics"].items()),
        "python": example.replace("FOLDER", "python"),
        "micropython": example.replace("FOLDER", "micropython"),
    }


def _typical_value(metric: str) -> Value:
    """Return a value that a healthy room shows."""
    plausible = CATALOG[metric].plausible
    if plausible is None:
        return _TYPICAL.get(metric, False)
    return round((plausible.low + plausible.high) / 2, 1)


def _settings_file(settings: Mapping[str, Any], place: tuple[str, int]) -> str:
    """Return the settings file of the example devices, with places for what only the user knows."""
    chosen = {
        name: settings[name]
        for name in ("device_id", "prefix", "key", "site_public_key", "actuators")
        if name in settings
    }
    account = {"username": settings.get("username", "USER"), "password": settings.get("password", "PASSWORD")}
    host, port = place
    broker = {"host": host or "BROKER", "port": port, **account, "ca_file": "ca.crt"}
    return json.dumps(chosen | broker, indent=2)
