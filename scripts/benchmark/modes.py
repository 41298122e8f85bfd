"""The two ways to get a device's readings into Home Assistant that are compared."""

from abc import ABC, abstractmethod
import asyncio
import json
import time
from typing import Any, override

from tests.device_simulator.connection import Connection
from tests.device_simulator.credentials import DeviceIdentity
from tests.device_simulator.protocol import DeviceProtocol
from tests.stack.home_assistant import HomeAssistant

from .payloads import METRICS, Metrics

type Wire = tuple[str, bytes]

_UNITS = {
    "temp_c": ("temperature", "°C"),
    "humidity_percent": ("humidity", "%"),
    "co2_ppm": ("carbon_dioxide", "ppm"),
    "ppfd_umol": (None, "\u03bcmol/m²/s"),
    "leaf_temp_c": ("temperature", "°C"),
    "vpd_kpa": (None, "kPa"),
}
_HELLO_SECONDS = 60.0


def device_id(number: int) -> str:
    """Return the identifier of a device of the bench."""
    return f"node-{number}"


class Mode(ABC):
    """One way, for a number of devices with six metrics each."""

    name: str

    def __init__(self, devices: int) -> None:
        self.devices = devices

    def configuration(self) -> dict[str, Any]:
        """Return what belongs into Home Assistant's YAML."""
        return {}

    async def configure(self, hass: HomeAssistant) -> None:  # noqa: B027 - most have nothing to do
        """Do once what a user does in the user interface."""

    async def connect(self, connection: Connection) -> None:  # noqa: B027 - as above
        """Do what devices do before their first reading."""

    def take(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: B027 - as above
        """Give a device what Home Assistant says to it."""

    @abstractmethod
    def report(self, number: int, metrics: Metrics) -> Wire:
        """Return a device's next message."""


class MqttSensors(Mode):
    """Home Assistant's own MQTT sensors, one JSON template each, in YAML."""

    name = "MQTT sensors"

    @override
    def configuration(self) -> dict[str, Any]:
        return {
            "mqtt": {"sensor": [self.sensor(number, metric) for number in range(self.devices) for metric in METRICS]}
        }

    @override
    def report(self, number: int, metrics: Metrics) -> Wire:
        body = {"device_id": device_id(number), "ts": int(time.time()), "metrics": metrics}
        return self.topic(number), json.dumps(body, separators=(",", ":")).encode()

    @staticmethod
    def topic(number: int) -> str:
        """Return the topic on which a device publishes."""
        return f"bench/{device_id(number)}/telemetry"

    def sensor(self, number: int, metric: str) -> dict[str, Any]:
        """Return the configuration of one sensor."""
        device_class, unit = _UNITS[metric]
        sensor = {
            "name": f"Node {number} {metric}",
            "unique_id": f"{device_id(number)}_{metric}",
            "state_topic": self.topic(number),
            "value_template": f"{{{{ value_json.metrics.{metric} }}}}",
            "unit_of_measurement": unit,
            "state_class": "measurement",
        }
        return sensor if device_class is None else sensor | {"device_class": device_class}


class MqttDiscovery(MqttSensors):
    """The same sensors through MQTT discovery, as devices announce them."""

    name = "MQTT discovery"

    @override
    def configuration(self) -> dict[str, Any]:
        return {}

    @override
    async def connect(self, connection: Connection) -> None:
        for number in range(self.devices):
            device = {"identifiers": [device_id(number)], "name": f"Node {number}", "manufacturer": "Bench"}
            for metric in METRICS:
                config = self.sensor(number, metric) | {"device": device, "name": metric}
                topic = f"homeassistant/sensor/{device_id(number)}/{metric}/config"
                await connection.publish(topic, json.dumps(config).encode(), retain=True)


class Grokmon(Mode):
    """The integration, with signed readings under a session."""

    name = "grokmon"

    def __init__(self, devices: int) -> None:
        super().__init__(devices)
        self._protocols: list[DeviceProtocol] = []
        self._ready = asyncio.Event()

    @override
    async def configure(self, hass: HomeAssistant) -> None:
        await hass.config_flows.walk("grokmon", {"topic_prefix": "grokmon"})
        for number in range(self.devices):
            enrolled = await hass.rest.call_service(
                "grokmon",
                "enroll_device",
                {
                    "device_id": device_id(number),
                    "name": f"Node {number}",
                    "metrics": list(METRICS),
                    "rate_limit": 6000,
                },
                return_response=True,
            )
            self._protocols.append(DeviceProtocol(DeviceIdentity.from_enrolment(enrolled)))

    @override
    async def connect(self, connection: Connection) -> None:
        await connection.subscribe("grokmon/v1/+/down/session")
        for protocol in self._protocols:
            protocol.connected(time.monotonic())
            await connection.publish(protocol.identity.up("hello"), protocol.hello(time.monotonic()))
        async with asyncio.timeout(_HELLO_SECONDS):
            await self._ready.wait()

    @override
    def take(self, topic: str, payload: bytes, retained: bool) -> None:
        number = int(topic.split("/")[2].removeprefix("node-"))
        self._protocols[number].receive(payload, time.monotonic())
        if all(protocol.ready for protocol in self._protocols):
            self._ready.set()

    @override
    def report(self, number: int, metrics: Metrics) -> Wire:
        protocol = self._protocols[number]
        protocol.seq += 1
        identity = protocol.identity
        topic = identity.up("telemetry")
        claims = {
            "iss": identity.device_id,
            "aud": topic,
            "sid": protocol.sid,
            "seq": protocol.seq,
            "ts": int(time.time()),
            "metrics": metrics,
        }
        return topic, identity.sign(claims)

    def forge(self, number: int, metrics: Metrics) -> Wire:
        """Return what somebody without the key sends in a device's name."""
        topic, genuine = self.report(number, metrics)
        return topic, genuine.rpartition(b".")[0] + b"." + b"A" * 43
