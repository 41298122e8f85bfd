"""What a person or a program needs to set up a device: shown once, to an administrator."""

from collections.abc import Mapping
import json
from typing import Any, Final

from .gateway import credentials, topics
from .gateway.catalog import CATALOG
from .gateway.envelope import encode_base64url
from .gateway.models import Algorithm, Device, PrivateKey

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
device = GrokmonDevice(settings, Outputs(settings["actuators"], apply))
while True:
    REPORTdevice.run(1)"""


def settings_of(device: Device, prefix: str, site_keys: Mapping[Algorithm, PrivateKey]) -> dict[str, Any]:
    """Return the identity, the topics and the key material of a device, its secret included."""
    algorithm = device.credential.algorithm
    settings: dict[str, Any] = {
        "device_id": device.device_id,
        "auth": algorithm.name.lower(),
        "prefix": prefix,
        "topics": topics.all_topics(prefix, device.device_id),
    }
    if device.actuators:
        settings["actuators"] = {actuator.name: actuator.for_device() for actuator in device.actuators}
    if algorithm is Algorithm.HS256:
        return settings | {"key": encode_base64url(device.credential.secret).decode()}
    return settings | {"site_public_key": credentials.public_pem(site_keys[algorithm])}


def instructions(device: Device, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of the page that shows the credentials: settings file, topics, and the two examples."""
    example = _ACTING if device.actuators else _EXAMPLE
    report = ""
    if device.metrics:
        metric = min(device.metrics)
        report = f'device.report({{"{metric}": {_plausible_value(metric)}}})\n    '
    example = example.replace("REPORT", report)
    return {
        "name": device.name,
        "device_id": device.device_id,
        "settings": _settings_file(settings),
        "topics": "\n".join(f"{channel}: {topic}" for channel, topic in settings["topics"].items()),
        "python": example.replace("FOLDER", "python"),
        "micropython": example.replace("FOLDER", "micropython"),
    }


def _plausible_value(metric: str) -> str:
    """Return a value that a healthy room shows, as a literal of Python."""
    known = CATALOG[metric]
    if (limits := known.plausible or known.hard) is None:
        return "False"
    return str(round((limits.low + limits.high) / 2, 1))


def _settings_file(settings: Mapping[str, Any]) -> str:
    """Return the settings file of the example devices, with places for what only the user knows."""
    chosen = {
        name: settings[name]
        for name in ("device_id", "prefix", "key", "site_public_key", "actuators")
        if name in settings
    }
    broker = {"host": "BROKER", "port": 8883, "username": "USER", "password": "PASSWORD", "ca_file": "ca.crt"}
    return json.dumps(chosen | broker, indent=2)
