"""What stands in the demo's grow room."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paho.mqtt.enums import MQTTProtocolVersion

from tests.device_simulator.credentials import Auth


@dataclass(frozen=True, slots=True)
class Zone:
    """Describe a tent."""

    name: str
    stage: str
    icon: str


@dataclass(frozen=True, slots=True)
class Node:
    """Describe a device and what it measures."""

    device_id: str
    name: str
    metrics: tuple[str, ...]
    zone: str | None = None
    auth: Auth = "hs256"
    model: str = "ESP32-S3"
    firmware: str = "1.4.2"
    actuators: tuple[Mapping[str, Any], ...] = ()
    """What it drives, as `enroll_device` takes it: one of a role, which is its name."""
    mqtt_version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311

    @property
    def unique_ids(self) -> tuple[str, ...]:
        """Return the unique ids of what it measures, as the integration makes them."""
        return tuple(f"{self.device_id}/{metric}" for metric in self.metrics)


FLOWER = Zone("Flower tent", "flowering", "mdi:flower")
VEG = Zone("Veg tent", "vegetative", "mdi:sprout")
ZONES = (FLOWER, VEG)

_CLIMATE = ("temp_c", "humidity_percent", "co2_ppm", "ppfd_umol", "dli_mol", "leaf_temp_c")
_SOIL = ("soil_moisture_percent", "soil_temp_c", "ec_ms_cm", "ph", "vbat")
_SAFETY = ("smoke", "leak", "door", "mains_power", "float_switch", "power_w", "tank_level_percent")

_SENSING = (
    Node("flower-climate", "Flower climate", _CLIMATE, FLOWER.name),
    Node("flower-soil", "Flower soil", _SOIL, FLOWER.name, auth="es256", model="ESP32-C6", firmware="2.0.1"),
    Node("flower-safety", "Flower safety", _SAFETY, FLOWER.name, model="Pico 2 W", firmware="1.0.9"),
    Node("veg-climate", "Veg climate", _CLIMATE, VEG.name),
    Node("veg-soil", "Veg soil", _SOIL, VEG.name, auth="eddsa", model="Raspberry Pi Zero 2 W", firmware="2.1.0"),
    Node("veg-safety", "Veg safety", _SAFETY, VEG.name, model="Pico 2 W", firmware="1.0.9"),
)

# Doses follow each other quickly here, so that a budget can be seen running out.
CONTROL = Node(
    "flower-control",
    "Flower control",
    ("power_w",),
    FLOWER.name,
    model="ESP32-P4",
    firmware="3.0.0",
    actuators=(
        {"role": "grow_light"},
        {"role": "exhaust"},
        {"role": "irrigation", "ml_per_s": 500, "interval_s": 0},
    ),
)
NODES = (*_SENSING, CONTROL)

# Its key was stolen: what it signs is genuine, so only the check of the content stands in the intruder's way.
STOLEN = Node("spare-node", "Spare node", ("temp_c",), firmware="0.9.0")
