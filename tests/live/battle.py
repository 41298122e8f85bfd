"""Honest devices that send all the time, and a hostile one beside them that keeps count of what it did."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
import time

from custom_components.grokmon.gateway.envelope import MAX_MESSAGE_BYTES
from tests.demo.fleet import device_of
from tests.demo.installation import Enrolled, Installation, Refusal
from tests.demo.plan import Node
from tests.device_simulator.attacker import FloodReport, HostileDevice
from tests.device_simulator.attacks import Attack, Forgery, Scene
from tests.device_simulator.connection import Connection
from tests.device_simulator.credentials import Auth
from tests.device_simulator.device import HonestDevice
from tests.stack.home_assistant import Subscription

from .observation import WITHIN, Marker
from .traffic import NUMBER, UNLIMITED, Numbering, Traffic, numbering, started

HOSTILE, EAR = "hostile", "ear"
AUTHS: tuple[Auth, ...] = ("hs256", "es256", "eddsa")
VICTIMS = {
    auth: Node(f"victim-{auth}", f"Victim {auth}", (NUMBER, "temp_c", "humidity_percent"), auth=auth) for auth in AUTHS
}
# Taken over by the enemy: what they sign is genuine.
INSIDERS = {auth: Node(f"insider-{auth}", f"Insider {auth}", ("temp_c",), auth=auth) for auth in AUTHS}
# Whose public key the enemy takes for a secret.
KEY_PAIR_VICTIMS: dict[Auth, Auth] = {"hs256": "es256", "es256": "eddsa", "eddsa": "es256"}
ACCOUNTS = (*(node.device_id for node in (*VICTIMS.values(), *INSIDERS.values())), HOSTILE, EAR)
# What the attacks say is 21.5 in the insider's name and 55.5 in the victim's.
HONEST_TEMPERATURE, GENUINE_TEMPERATURE = 20.25, 21.5
_EVERY = 0.1
_HEARD = 3


@dataclass(slots=True)
class Battle:
    """Hold both sides."""

    installation: Installation
    victims: list[Numbering]
    insiders: list[HonestDevice]
    traffic: Traffic
    hostile: HostileDevice
    captured: dict[str, list[bytes]]
    """What was overheard of each victim, by topic."""
    scenes: dict[Auth, Scene]
    marker: Marker
    events: Subscription
    since: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(minutes=1))
    began: float = field(default_factory=time.monotonic)
    expected: Counter[Refusal] = field(default_factory=Counter)
    """How many messages had to be refused so far, by device and code."""
    genuine: Counter[str] = field(default_factory=Counter)
    """How many messages of insiders had to be accepted."""
    first: dict[Refusal, str] = field(default_factory=dict)
    """The hash of the first message of each kind."""

    async def attack(self, attack: Attack, scene: Scene) -> Refusal:
        """Make one attack; return in whose name and with which code it has to be refused, once it was processed."""
        forgery = await self.hostile.attack(attack, scene)
        self.genuine[scene.insider.identity.device_id] += len(forgery.prelude)
        await self.marker.passed()
        return self.note(forgery, attack.expected)

    async def flood(self, victim: Numbering, rate: float, seconds: float) -> FloodReport:
        """Send forged messages in the victim's name as fast as that; they may not have been processed yet."""
        report = await self.hostile.flood(victim.device.identity, rate, seconds)
        self.expected[victim.device_id, "signature_invalid"] += report.sent
        return report

    def note(self, forgery: Forgery, code: str) -> Refusal:
        """Count a message that has to be refused."""
        device_id = forgery.topic.split("/")[-3]
        known = {node.device_id for node in (*VICTIMS.values(), *INSIDERS.values())}
        refusal = (device_id if device_id in known else None, code)
        self.expected[refusal] += 1
        self.first.setdefault(refusal, sha256(forgery.payload[:MAX_MESSAGE_BYTES]).hexdigest())
        return refusal


@contextlib.asynccontextmanager
async def battle(installation: Installation) -> AsyncGenerator[Battle]:
    """Enrol both sides, let the honest devices send, and listen to them."""
    hass = installation.hass
    enrolled = {node.device_id: await installation.enrol(node, rate_limit=UNLIMITED) for node in VICTIMS.values()}
    victims = [await numbering(installation, enrolled[node.device_id]) for node in VICTIMS.values()]
    for victim in victims:
        victim.also = {"temp_c": HONEST_TEMPERATURE}
    insiders = {
        auth: device_of(await installation.enrol(node, rate_limit=UNLIMITED), installation.address(node.device_id))
        for auth, node in INSIDERS.items()
    }
    captured: dict[str, list[bytes]] = {victim.device.identity.up("telemetry"): [] for victim in victims}
    traffic = Traffic(victims, _EVERY)
    ear = Connection(
        installation.address(EAR), EAR, on_message=lambda topic, payload, _retain: captured[topic].append(payload)
    )
    async with (
        hass.websocket.events("grokmon_security_event") as events,
        HostileDevice(installation.address(HOSTILE), client_id=HOSTILE) as hostile,
        Marker.of(hass, installation.address(HOSTILE)) as marker,
        ear,
        started([victim.device for victim in victims] + list(insiders.values())),
    ):
        for topic in captured:
            await ear.subscribe(topic)
        for insider in insiders.values():
            await insider.publish({"temp_c": GENUINE_TEMPERATURE})
        async with traffic:
            for victim in victims:
                await _heard_of(victim.device)
            scenes = {auth: _scene(auth, insiders[auth], enrolled, captured) for auth in AUTHS}
            fight = Battle(
                installation, victims, list(insiders.values()), traffic, hostile, captured, scenes, marker, events
            )
            fight.genuine.update(insider.identity.device_id for insider in insiders.values())
            yield fight


async def _heard_of(device: HonestDevice) -> None:
    async with asyncio.timeout(WITHIN):
        await device.until(lambda: device.counts.acked > _HEARD)


def _scene(auth: Auth, insider: HonestDevice, enrolled: dict[str, Enrolled], captured: dict[str, list[bytes]]) -> Scene:
    victim = enrolled[VICTIMS[auth].device_id].identity
    key_pair_victim = enrolled[VICTIMS[KEY_PAIR_VICTIMS[auth]].device_id]
    return Scene(
        insider.protocol,
        victim,
        captured=captured[victim.up("telemetry")],
        key_pair_victim=key_pair_victim.identity,
        public_pem=key_pair_victim.public_pem,
    )
