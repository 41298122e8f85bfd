"""What stands in the demo's grow room."""

from dataclasses import dataclass

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

    @property
    def unique_ids(self) -> tuple[str, ...]:
        """Return the unique ids of what it measures, as the integration makes them."""
        return tuple(f"{self.device_id}_{metric}" for metric in self.metrics)


FLOWER = Zone("Flower tent", "flowering", "mdi:flower")
VEG = Zone("Veg tent", "vegetative", "mdi:sprout")
ZONES = (FLOWER, VEG)

_CLIMATE = ("temp_c", "humidity_percent", "co2_ppm", "ppfd_umol", "dli_mol", "leaf_temp_c", "rssi_dbm")
_SOIL = ("soil_moisture_percent", "soil_temp_c", "ec_ms_cm", "ph", "vbat")
_SAFETY = ("smoke", "leak", "door", "mains_power", "float_switch", "power_w", "tank_level_percent")

NODES = (
    Node("flower-climate", "Flower climate", _CLIMATE, FLOWER.name),
    Node("flower-soil", "Flower soil", _SOIL, FLOWER.name, auth="es256", model="ESP32-C6", firmware="2.0.1"),
    Node("flower-safety", "Flower safety", _SAFETY, FLOWER.name, model="Pico 2 W", firmware="1.0.9"),
    Node("veg-climate", "Veg climate", _CLIMATE, VEG.name),
    Node("veg-soil", "Veg soil", _SOIL, VEG.name, auth="eddsa", model="Raspberry Pi Zero 2 W", firmware="2.1.0"),
    Node("veg-safety", "Veg safety", _SAFETY, VEG.name, model="Pico 2 W", firmware="1.0.9"),
)

# Its key was stolen: what it signs is genuine, so only the check of the content stands in the intruder's way.
STOLEN = Node("spare-node", "Spare node", ("temp_c",), firmware="0.9.0")
