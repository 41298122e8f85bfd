"""Signed readings of ten devices become states, over TLS, on each broker."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.demo.installation import Installation
from tests.demo.plan import Node
from tests.demo.waiting import settled
from tests.device_simulator.credentials import Auth
from tests.device_simulator.device import HonestDevice
from tests.device_simulator.protocol import Metrics
from tests.device_simulator.room import Controls, Room, saturation_vapour_pressure_kpa
from tests.device_simulator.sensors import METRICS, Sensors
from tests.stack.brokers import AmqttBroker, Broker, MosquittoBroker

from .observation import WITHIN, StateLog
from .traffic import NUMBER, UNLIMITED, Numbering, Traffic, drained, enrol_numbering, numbering, started

pytestmark = pytest.mark.timeout(240)

# Metric → unit and device class in Home Assistant.
SHOWN: dict[str, tuple[str | None, str | None]] = {
    **dict.fromkeys(["temp_c", "leaf_temp_c", "root_temp_c", "soil_temp_c"], ("°C", "temperature")),
    # A Home Assistant with metric units shows degrees Celsius.
    **dict.fromkeys(["temp_f", "leaf_temp_f", "root_temp_f", "soil_temp_f"], ("°C", "temperature")),
    "humidity_percent": ("%", "humidity"),
    "vpd_kpa": ("kPa", None),
    "co2_ppm": ("ppm", "carbon_dioxide"),
    "soil_moisture_percent": ("%", "moisture"),
    "ec_ms_cm": ("mS/cm", "conductivity"),
    "ph": (None, "ph"),
    "ppfd_umol": ("μmol/m²/s", None),
    "dli_mol": ("mol/m²", None),
    "lux": ("lx", "illuminance"),
    "tank_level_percent": ("%", None),
    "water_flow_l_min": ("L/min", "volume_flow_rate"),
    "pressure_hpa": ("hPa", "atmospheric_pressure"),
    "power_w": ("W", "power"),
    "vbat": ("V", "voltage"),
    "battery_percent": ("%", "battery"),
    "rssi_dbm": ("dBm", "signal_strength"),
    "uptime_s": ("s", "duration"),
    "smoke": (None, "smoke"),
    "tamper": (None, "tamper"),
    "leak": (None, "moisture"),
    "door": (None, "door"),
    "mains_power": (None, "plug"),
    "float_switch": (None, "problem"),
}
BOUGHT = (
    ("temp_c", "humidity_percent", "leaf_temp_c", "co2_ppm", "ppfd_umol", NUMBER),
    ("temp_c", "humidity_percent", "dli_mol", "lux", NUMBER),
    ("temp_f", "humidity_percent", "pressure_hpa", NUMBER),
    ("soil_temp_c", "soil_moisture_percent", "ec_ms_cm", "ph", NUMBER),
    ("smoke", "leak", "door", "mains_power", NUMBER),
    ("root_temp_c", "tank_level_percent", "water_flow_l_min", "float_switch", NUMBER),
    ("vpd_kpa", "temp_c", "humidity_percent", "uptime_s", NUMBER),
    ("leaf_temp_f", "root_temp_f", "soil_temp_f", NUMBER),
    ("tamper", "vbat", "battery_percent", "rssi_dbm", NUMBER),
    ("temp_c", "humidity_percent", "smoke", NUMBER),
)
AUTHS: cycle[Auth] = cycle(("hs256", "es256", "eddsa"))
NODES = tuple(
    Node(f"slice-{number}", f"Slice {number}", metrics, auth=auth, firmware=f"2.{number}.0", model=f"Model {number}")
    for number, (metrics, auth) in enumerate(zip(BOUGHT, AUTHS, strict=False), 1)
)
NEWCOMER = Node("newcomer", "Newcomer", (NUMBER, "door"))
# What is off until a user wants it.
UNSHOWN = frozenset({"rssi_dbm", "uptime_s"})
# Gateway and simulator have different formulas for saturation.
VPD_TOLERANCE_KPA = 0.02


@dataclass(slots=True)
class Slice:
    """Hold the devices that run, and what each of them last sent."""

    installation: Installation
    nodes: tuple[Node, ...]
    devices: list[Numbering]
    sent: dict[str, Metrics]

    @property
    def honest(self) -> list[HonestDevice]:
        """Return the devices without their numbers."""
        return [device.device for device in self.devices]


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="session",
    params=[
        pytest.param((MosquittoBroker, NODES), id="mosquitto"),
        # Less of them, with every way to sign and with booleans: this one is there to show that brokers do not differ.
        pytest.param((AmqttBroker, NODES[1:5]), id="amqtt"),
    ],
)
async def room(request: pytest.FixtureRequest, stack_folder: Path) -> AsyncGenerator[Slice]:
    """Run a broker, a Home Assistant and devices that have sent one reading of everything that they measure."""
    kind: type[Broker]
    nodes: tuple[Node, ...]
    kind, nodes = request.param
    if kind is MosquittoBroker and MosquittoBroker.find() is None:
        pytest.skip("mosquitto is not installed")
    accounts = [node.device_id for node in (*nodes, NEWCOMER)]
    async with Installation(stack_folder / kind.name, kind, accounts) as installation:
        await installation.add_gateway([])
        devices = [await enrol_numbering(installation, node) for node in nodes]
        sent: dict[str, Metrics] = {node.device_id: _measured(node, seed) for seed, node in enumerate(nodes)}
        async with started([device.device for device in devices]):
            for device in devices:
                device.device.take(sent[device.device_id])
            await drained(device.device for device in devices)
            yield Slice(installation, nodes, devices, sent)


def test_every_metric_is_among_them() -> None:
    """The ten devices have all that can be measured, in each of the ways to sign, booleans among them."""
    measured = {metric for node in NODES for metric in node.metrics}
    assert measured == SHOWN.keys()
    assert measured >= METRICS
    assert {node.auth for node in NODES} == {"hs256", "es256", "eddsa"}


async def test_states_are_what_was_sent(room: Slice) -> None:
    """Value, unit and device class of every metric that is on, of every device, as anybody gets them over HTTP."""
    installation = room.installation
    entity_ids = await installation.entity_ids()

    async def differences() -> list[str]:
        states = {state["entity_id"]: state for state in await installation.hass.rest.states()}
        return [
            f"{device_id} {metric}: sent {value}, shown {state['state']} {state['attributes']}"
            for device_id, metrics in room.sent.items()
            for metric, value in metrics.items()
            if metric not in UNSHOWN
            and not _is_shown(metric, value, state := states[entity_ids[f"{device_id}/{metric}"]])
        ]

    assert await settled(differences, lambda lines: not lines, WITHIN) == []


async def test_nothing_is_refused(room: Slice) -> None:
    """What was sent is what was accepted."""
    await _settled_counts(room)
    assert not await room.installation.refused()


async def test_vapour_pressure_deficit_is_derived(room: Slice) -> None:
    """It follows from temperature and humidity, at the leaf where its temperature is known."""
    await _settled_counts(room)
    entity_ids = await room.installation.entity_ids()
    derived = 0
    for device_id, sent in room.sent.items():
        air = sent.get("temp_c", (sent["temp_f"] - 32) / 1.8 if "temp_f" in sent else None)
        if air is None or "humidity_percent" not in sent or "vpd_kpa" in sent:
            assert ("vpd_kpa" in sent) == (f"{device_id}/vpd_kpa" in entity_ids)
            continue
        state = await room.installation.hass.rest.state(entity_ids[f"{device_id}/vpd_kpa"])
        assert state is not None
        vapour = saturation_vapour_pressure_kpa(air) * sent["humidity_percent"] / 100
        expected = max(0.0, saturation_vapour_pressure_kpa(sent.get("leaf_temp_c", air)) - vapour)
        assert float(state["state"]) == pytest.approx(expected, abs=VPD_TOLERANCE_KPA)
        assert state["attributes"]["unit_of_measurement"] == "kPa"
        derived += 1
    assert derived


async def test_device_registry_knows_firmware_and_model(room: Slice) -> None:
    """What a device says of itself in its hello stands in the device registry once it has proved to be alive."""
    for node in room.nodes:
        entry = await room.installation.device_entry(node.device_id)
        assert (entry["sw_version"], entry["model"], entry["name"]) == (node.firmware, node.model, node.name)


async def test_newcomer_disturbs_nobody(room: Slice) -> None:
    """A device is enrolled while the others send: they lose nothing, and nothing of them becomes unavailable."""
    installation = room.installation
    entity_ids = await installation.entity_ids()
    others = {id_ for key, id_ in entity_ids.items() if not key.startswith("hub_")}
    async with StateLog.of(installation.hass, others) as log:
        async with Traffic(room.devices, every=0.5):
            await log.until(lambda seen: all(len(seen[device.entity_id]) > 1 for device in room.devices))
            enrolled = await installation.enrol(NEWCOMER, rate_limit=UNLIMITED)
            newcomer = await numbering(installation, enrolled)
            async with started([newcomer.device]), StateLog.of(installation.hass, [newcomer.entity_id]) as arrivals:
                newcomer.take()
                await arrivals.until(lambda seen: newcomer.shown(seen) == 1)
                before = {device.device_id: device.taken for device in room.devices}
                await log.until(lambda seen: all(d.shown(seen) > before[d.device_id] for d in room.devices))
        seen = await log.until(lambda seen: all(device.shown(seen) == device.taken for device in room.devices))
    for device in room.devices:
        assert [float(state["state"]) for state in seen[device.entity_id]] == device.numbers
    assert {state["state"] for states in seen.values() for state in states}.isdisjoint({"unavailable", "unknown"})
    await _settled_counts(room)
    assert all(device.device.counts.sessions == 1 for device in room.devices)
    assert not await installation.refused()


def _measured(node: Node, seed: int) -> dict[str, float | bool]:
    grown = Room().step(Controls(light_percent=80, fan_percent=40, pump_on=True), 600)
    metrics = Sensors([metric for metric in node.metrics if metric not in {NUMBER, "uptime_s"}], seed).read(grown)
    # Numbers begin at 1: the first reading is none of those.
    return metrics | {NUMBER: 0.5} | ({"uptime_s": 86_400} if "uptime_s" in node.metrics else {})


def _is_shown(metric: str, value: float | bool, state: dict[str, Any]) -> bool:
    attributes = state["attributes"]
    if (attributes.get("unit_of_measurement"), attributes.get("device_class")) != SHOWN[metric]:
        return False
    if isinstance(value, bool):
        return bool(state["state"] == ("on" if value else "off"))
    try:
        shown = float(state["state"])
    except ValueError:
        return False
    # Home Assistant rounds what it converts.
    return abs(shown - (value - 32) / 1.8) < 0.06 if metric.endswith("_f") else shown == value


async def _settled_counts(room: Slice) -> None:
    """Wait until every device's messages have been accepted, and no more than those."""
    sent = {device.device_id: device.device.counts.sent for device in room.devices}

    async def accepted() -> dict[str, int]:
        listed = await room.installation.listed()
        return {device_id: listed[device_id]["accepted"] for device_id in sent}

    assert await settled(accepted, lambda counts: counts == sent, WITHIN) == sent
