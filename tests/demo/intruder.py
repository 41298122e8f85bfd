"""The intruder of the demo: has an account at the broker and the stolen key of one device, and tries everything."""

import asyncio
from collections import Counter
from collections.abc import Iterable
import contextlib
from random import Random
from typing import NoReturn, Self

from tests.device_simulator.attacker import FloodReport, HostileDevice
from tests.device_simulator.attacks import ATTACKS, Attack, Forgery, Scene
from tests.device_simulator.connection import BrokerAddress, Connection
from tests.device_simulator.credentials import DeviceIdentity, generate_root_key
from tests.device_simulator.device import HonestDevice
from tests.device_simulator.protocol import DeviceProtocol

from .installation import PREFIX, Enrolled, Refusal

ACCOUNT = "intruder"
# A broker hands a retained message over as such only to who subscribes later: it is planted before the gateway listens.
RETAINED = next(attack for attack in ATTACKS if attack.expected == "retained")
LIVE_ATTACKS = tuple(attack for attack in ATTACKS if attack is not RETAINED)

_FLOOD_RATE = 300.0
_FLOOD_SECONDS = 3.0
_PAUSE_S = 15.0
_HANDFUL = 6
_FLOOD_EVERY = 8
_WITHIN = 30


class Intruder:
    """Attack, and keep count of how each message has to be answered."""

    def __init__(self, address: BrokerAddress, victim: str) -> None:
        self.expected: Counter[Refusal] = Counter()
        """How many messages must have been refused, by device and code."""
        self.log: Counter[tuple[str, str]] = Counter()
        """What was sent, by code and what it was."""
        self.genuine = 0
        """How many messages were signed with the stolen key and are to be accepted."""
        self._victim = DeviceIdentity.from_root_key(victim, generate_root_key(), PREFIX)
        self._hostile = HostileDevice(address, client_id=ACCOUNT)
        self._ear = Connection(address, f"{ACCOUNT}-ear", on_message=self._overhear)
        self._captured: list[bytes] = []
        self._heard_enough = asyncio.Event()
        self._known: set[str] = set()
        self._connections = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._hostile)
            await stack.enter_async_context(self._ear)
            self._connections = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._connections.aclose()

    async def plant(self) -> None:
        """Leave a retained message for when the gateway begins to listen."""
        nobody = DeviceProtocol(DeviceIdentity.from_root_key("nobody", generate_root_key(), PREFIX))
        self._note(await self._hostile.attack(RETAINED, Scene(nobody, self._victim)), RETAINED.expected, RETAINED.name)

    async def clear(self) -> None:
        """Take the retained message back, which to the gateway is an empty message of a device nobody has enrolled."""
        for topic in self._hostile.retained_topics:
            self._note(Forgery(topic, b""), "unknown_device", "removal of the retained message")
        await self._hostile.clear_retained()

    async def listen(self) -> None:
        """Listen to the victim, which this broker lets anybody do."""
        await self._ear.subscribe(self._victim.up("telemetry"))

    async def scene(self, stolen: HonestDevice, victim: Enrolled, key_pair_victim: Enrolled) -> Scene:
        """Return what the attacks need, once something was overheard that can be replayed."""
        self._known = {stolen.identity.device_id, victim.identity.device_id, key_pair_victim.identity.device_id}
        async with asyncio.timeout(_WITHIN):
            await self._heard_enough.wait()
        return Scene(
            stolen.protocol,
            victim.identity,
            captured=self._captured,
            key_pair_victim=key_pair_victim.identity,
            public_pem=key_pair_victim.public_pem,
        )

    async def attack(self, attack: Attack, scene: Scene) -> Refusal:
        """Make one attack and return in whose name and with which code it has to be refused."""
        forgery = await self._hostile.attack(attack, scene)
        self.genuine += len(forgery.prelude)
        return self._note(forgery, attack.expected, attack.name)

    async def flood(self, scene: Scene) -> FloodReport:
        """Publish forged messages in the victim's name, faster than any device, for a short time."""
        report = await self._hostile.flood(scene.victim, _FLOOD_RATE, _FLOOD_SECONDS)
        self._note(Forgery(scene.victim_topic, b""), "signature_invalid", "flood", report.sent)
        return report

    async def attack_for_ever(self, scene: Scene) -> NoReturn:
        """Try everything once, then a handful of attacks again and again, and now and then a short flood."""
        await self._attack_all(LIVE_ATTACKS, scene)
        choice = Random()  # noqa: S311 - which attack comes next is no secret
        turn = 0
        while True:
            await asyncio.sleep(_PAUSE_S)
            await self._attack_all(choice.sample(LIVE_ATTACKS, _HANDFUL), scene)
            turn += 1
            if turn % _FLOOD_EVERY == 0:
                await self.flood(scene)

    async def _attack_all(self, attacks: Iterable[Attack], scene: Scene) -> None:
        for attack in attacks:
            await self.attack(attack, scene)

    def _note(self, forgery: Forgery, code: str, what: str, count: int = 1) -> Refusal:
        device_id = forgery.topic.split("/")[-3]
        refusal = (device_id if device_id in self._known else None, code)
        self.expected[refusal] += count
        self.log[code, what.replace("_", " ")] += count
        return refusal

    def _overhear(self, _topic: str, payload: bytes, _retain: bool) -> None:
        # Until it attacks itself, nobody but the victim speaks on that topic.
        if not self._heard_enough.is_set():
            self._captured.append(payload)
            if len(self._captured) > 1:
                self._heard_enough.set()
