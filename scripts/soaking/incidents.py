"""What happens in the soak: the broker ends, devices restart, credentials change, a lamp is switched, forgeries."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, NoReturn

from tests.demo.fleet import device_of
from tests.demo.installation import Enrolled, Installation, Refusal
from tests.demo.intruder import ACCOUNT, LIVE_ATTACKS, Intruder
from tests.demo.waiting import settled
from tests.device_simulator.actuators import specs_from
from tests.device_simulator.attacks import Attack
from tests.device_simulator.connection import BrokerRefusedError
from tests.device_simulator.credentials import DeviceIdentity
from tests.device_simulator.device import HonestDevice
from tests.stack.brokers import Account
from tests.stack.home_assistant import ApiError, HomeAssistant

from .crowd import RATE_LIMIT, WITHIN, Crowd, Member
from .ledger import Ledger

_UNDER_LOAD_S = 5.0
_AWAY_S = 2.0
# For so long after the broker is back a command may still meet a device that is not.
_SETTLE_S = 20.0
_SWITCH_EVERY_S = 10.0
_FORGE_EVERY_S = 2.0

type Say = Callable[[str], None]


@dataclass(slots=True)
class Incidents:
    """Bring about what a house brings about, one thing after the other."""

    installation: Installation
    crowd: Crowd
    ledger: Ledger
    say: Say
    counts: Counter[str] = field(default_factory=Counter)
    excused_until: float = 0.0
    """When states and commands are to be as always again."""
    back_s: list[float] = field(default_factory=list)
    """How long it took after each start of the broker until every device had a session."""
    _random: Random = field(default_factory=lambda: Random(2))  # noqa: S311 - who restarts is no secret

    @property
    def excused(self) -> bool:
        """Tell whether something happens now that excuses a command that fails, or a state that is old."""
        return asyncio.get_running_loop().time() < self.excused_until

    async def end_broker(self, how: str) -> None:
        """Stop or kill the broker while everybody sends, start it again, and see who comes back with what."""
        await self.ledger.balance()
        await asyncio.sleep(_UNDER_LOAD_S)
        self._excuse(WITHIN)
        broker = self.installation.broker
        await (broker.stop() if how == "stop" else broker.kill())
        await asyncio.sleep(_AWAY_S)
        await broker.start()
        begun = asyncio.get_running_loop().time()
        # Only Home Assistant gives them sessions: it is there again, too.
        await self.crowd.in_session()
        self.back_s.append(asyncio.get_running_loop().time() - begun)
        await self.ledger.balance(how)
        self._excuse(_SETTLE_S)
        self.counts[f"broker: {how}"] += 1

    async def restart_device(self) -> None:
        """Let some device start anew."""
        member = self._random.choice(self.crowd.members[:-1])
        await member.restart_as(self.installation, member.enrolled)
        self.counts["devices restarted"] += 1

    async def rotate(self, member: Member) -> None:
        """Give a device new credentials with an overlap, and let it take them up."""
        # A device with a key of its own would bring another one.
        answer = await self._service("rotate_credentials", {"device_id": member.device_id, "overlap_hours": 1})
        fresh = _enrolled(member.enrolled, answer["devices"][0])
        await member.restart_as(self.installation, fresh)
        self.counts["credentials rotated"] += 1

    async def revoke(self, member: Member) -> None:
        """Revoke a device while it sends, see that it does not get in again, remove it, and enrol it anew."""
        await self._service("revoke_device", {"device_id": member.device_id})
        async with asyncio.timeout(WITHIN):
            await member.device.until(lambda: isinstance(member.device.last_error, BrokerRefusedError))
        await self._remove(member.device_id)
        fresh = await self.installation.enrol(member.enrolled.node, rate_limit=RATE_LIMIT)
        await member.restart_as(self.installation, fresh)
        self.counts["devices revoked and enrolled anew"] += 1

    async def _remove(self, device_id: str) -> None:
        """Remove a device as a person does, in the list of the integration's devices."""
        call = self.installation.hass.websocket.call
        entry_id = self.installation.entry_id
        subentries = await call("config_entries/subentries/list", entry_id=entry_id)
        subentry = next(each for each in subentries if each["unique_id"] == device_id)
        await call("config_entries/subentries/delete", entry_id=entry_id, subentry_id=subentry["subentry_id"])
        if device_id in await settled(self.installation.listed, lambda listed: device_id not in listed, WITHIN):
            raise TimeoutError(f"{device_id} is still there")

    def _excuse(self, seconds: float) -> None:
        self.excused_until = asyncio.get_running_loop().time() + seconds

    async def _service(self, name: str, data: dict[str, Any]) -> dict[str, Any]:
        return await self.installation.hass.rest.call_service("grokmon", name, data, return_response=True)


def _enrolled(before: Enrolled, answer: dict[str, Any]) -> Enrolled:
    """Return what a device has after a rotation."""
    return replace(
        before,
        identity=DeviceIdentity.from_enrolment(answer),
        actuators=specs_from(answer.get("actuators", {})),
        account=Account(answer["username"], answer["password"]),
    )


@dataclass(slots=True)
class Lamp:
    """Switch a lamp on and off all the time."""

    hass: HomeAssistant
    entity_id: str
    incidents: Incidents
    switched: int = 0
    excused: int = 0
    failures: list[str] = field(default_factory=list)

    async def switch_for_ever(self) -> NoReturn:
        """Switch, and see that the lamp says so."""
        loop = asyncio.get_running_loop()
        on, due = False, loop.time()
        while True:
            due += _SWITCH_EVERY_S
            await asyncio.sleep(max(0.0, due - loop.time()))
            on = not on
            excused = self.incidents.excused
            try:
                await self._switch(on)
            except (ApiError, TimeoutError) as error:
                if excused or self.incidents.excused:
                    self.excused += 1
                else:
                    self.failures.append(str(error))
                    self.incidents.say(f"the lamp: {error}")
            else:
                self.switched += 1

    async def _switch(self, on: bool) -> None:
        data: dict[str, Any] = {"entity_id": self.entity_id}
        if on:
            data["brightness_pct"] = 60
        await self.hass.rest.call_service("light", "turn_on" if on else "turn_off", data)
        wanted = "on" if on else "off"
        await self.hass.wait_for_state(self.entity_id, lambda state: state["state"] == wanted, 5)


@dataclass(slots=True)
class Forger:
    """Forge messages slowly, whatever becomes of the broker."""

    installation: Installation
    stolen: Enrolled
    victim: Member
    key_pair_victim: Member
    say: Say
    expected: Counter[Refusal] = field(default_factory=Counter)
    """What must have been refused, by device and code."""
    unsure: Counter[str] = field(default_factory=Counter)
    """What may have been, by code: the broker ended before it acknowledged."""
    genuine: int = 0

    async def forge_for_ever(self) -> NoReturn:
        """Attack, and come back when the broker does."""
        choice = Random(3)  # noqa: S311 - which attack comes next is no secret
        device = device_of(self.stolen, self.installation.address_of(self.stolen))
        async with device:
            while True:
                intruder = Intruder(self.installation.address(ACCOUNT), self.victim.device_id)
                try:
                    async with asyncio.timeout(WITHIN):
                        await device.session_ready.wait()
                    async with intruder:
                        await self._forge(intruder, device, choice)
                except (OSError, TimeoutError) as error:
                    self.say(f"the forger lost the broker: {error}")
                finally:
                    self.expected += intruder.expected
                    self.genuine += intruder.genuine
                await asyncio.sleep(_FORGE_EVERY_S)

    async def _forge(self, intruder: Intruder, device: HonestDevice, choice: Random) -> NoReturn:
        await intruder.listen()
        scene = await intruder.scene(device, self.victim.enrolled, self.key_pair_victim.enrolled)
        while True:
            await asyncio.sleep(_FORGE_EVERY_S)
            attack: Attack = choice.choice(LIVE_ATTACKS)
            if not device.session_ready.is_set() or not attack.possible(scene):
                continue
            try:
                await intruder.attack(attack, scene)
            except OSError:
                self.unsure[attack.expected] += 1
                raise
