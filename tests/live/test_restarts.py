"""Broker and Home Assistant stop, are killed, come back and are restored: nothing is lost, nothing counts twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
import json
from pathlib import Path
import shutil

import pytest
import pytest_asyncio

from tests.demo.installation import Installation
from tests.demo.plan import Node
from tests.device_simulator.connection import Connection
from tests.device_simulator.credentials import Auth
from tests.device_simulator.device import HonestDevice

from .observation import WITHIN, Marker, audit_entries, numbers_on_record, verify_alone
from .traffic import NUMBER, Numbering, Traffic, drained, enrol_numbering, in_session, started

pytestmark = pytest.mark.timeout(240)

HOSTILE = "hostile"
AUTHS: tuple[Auth, ...] = ("hs256", "es256", "eddsa")
NODES = tuple(Node(f"node-{auth}", f"Node {auth}", (NUMBER,), auth=auth) for auth in AUTHS)
# Together less than a device keeps for a gateway that does not answer.
BATCH = 10
EVERY = 0.2
TORN = b'{"n":9,"at":"2026-'

# Within two minutes a start takes up the sessions of an orderly stop.
LONG_AGO = 121

type Overheard = list[tuple[str, bytes]]


@dataclass(slots=True)
class Room:
    """Hold devices that run through all of it."""

    installation: Installation
    devices: list[Numbering]

    @property
    def honest(self) -> list[HonestDevice]:
        """Return the devices without their numbers."""
        return [device.device for device in self.devices]

    async def deliver(self, count: int = BATCH) -> None:
        """Let every device take readings and deliver them."""
        for device in self.devices:
            device.take(count)
        await drained(self.honest)

    async def outcome(self) -> tuple[Counter[str], Counter[str]]:
        """Return what was accepted, by device, and what was refused, by code, since Home Assistant started."""
        accepted = Counter({id_: device["accepted"] for id_, device in (await self.installation.listed()).items()})
        refused: Counter[str] = Counter()
        for (_, code), count in (await self.installation.refused()).items():
            refused[code] += count
        return accepted, refused

    async def processed(self) -> None:
        """Return once Home Assistant has processed what the broker has acknowledged."""
        async with Marker.of(self.installation.hass, self.installation.address(HOSTILE)) as marker:
            await marker.passed()

    async def replay(self, overheard: Sequence[tuple[str, bytes]]) -> None:
        """Publish again what was overheard, and return once it was processed."""
        async with Connection(self.installation.address(HOSTILE), "replay") as connection:
            for topic, payload in overheard:
                await connection.publish(topic, payload)
        await self.processed()


@dataclass(slots=True)
class Record:
    """Hold what the devices had done when a test began, to find on record what they do in it."""

    room: Room
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    taken: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.taken = {device.device_id: device.taken for device in self.room.devices}

    async def of(self, device: Numbering) -> tuple[list[float], list[float]]:
        """Return the numbers that a device has sent since then, and those on record, each as often as it came."""
        sent = device.numbers[self.taken[device.device_id] :]
        hass = self.room.installation.hass
        seen = await numbers_on_record(hass, device.entity_id, self.since, lambda seen: set(sent) <= set(seen))
        return sent, [number for number in seen if number in sent]


@pytest.fixture(scope="module")
def broker_accounts() -> tuple[str, ...]:
    """Return the accounts of this module."""
    return (*(node.device_id for node in NODES), HOSTILE)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def room(installation: Installation) -> AsyncGenerator[Room]:
    """Enrol devices and run them."""
    devices = [await enrol_numbering(installation, node) for node in NODES]
    async with started([device.device for device in devices]):
        yield Room(installation, devices)


@pytest_asyncio.fixture(loop_scope="session")
async def overheard(room: Room) -> AsyncGenerator[Overheard]:
    """Listen to the readings of all devices, as this broker lets anybody do."""
    heard: Overheard = []

    def hear(topic: str, payload: bytes, _retain: bool) -> None:
        heard.append((topic, payload))

    async with Connection(room.installation.address(HOSTILE), "ear", on_message=hear) as ear:
        for device in room.honest:
            await ear.subscribe(device.identity.up("telemetry"))
        yield heard


async def test_orderly_restart_keeps_sessions(room: Room, overheard: Overheard) -> None:
    """Devices go on in the sessions that they have, resend what they kept, and what was overheard counts no more."""
    hass, record = room.installation.hass, Record(room)
    await room.deliver()
    await room.processed()
    before = tuple(overheard)
    sessions = {device.device_id: device.device.protocol.sid for device in room.devices}
    hellos = {device.device_id: device.device.counts.hellos for device in room.devices}
    await hass.stop()
    assert await verify_alone(room.installation.audit_file) == 0
    await hass.start()
    await hass.wait_for_mqtt(WITHIN)
    await _asked_again(room, hellos)
    accepted, refused = await room.outcome()
    assert refused == Counter()
    await room.replay(before)
    accepted_then, refused = await room.outcome()
    assert accepted_then == accepted
    # The last message of a device is known as such over the restart.
    assert refused.keys() <= {"replayed", "duplicate"}
    assert (refused.total(), refused["duplicate"] <= len(room.devices)) == (len(before), True)
    await room.deliver()
    await room.processed()
    assert await room.outcome() == (accepted + _each(room, BATCH), refused)
    for device in room.devices:
        assert device.device.protocol.sid == sessions[device.device_id]
        sent, seen = await record.of(device)
        assert set(seen) == set(sent)
    assert (await room.installation.verify_audit())["ok"]


async def test_readings_during_an_orderly_restart_arrive(room: Room) -> None:
    """What devices sent while Home Assistant was not there comes afterwards: the broker had nobody to give it to."""
    hass, record = room.installation.hass, Record(room)
    # A session that has carried nothing yet is not kept over the stop.
    await room.deliver()
    await room.processed()
    hellos = {device.device_id: device.device.counts.hellos for device in room.devices}
    await hass.stop()
    await room.deliver()
    await hass.start()
    await hass.wait_for_mqtt(WITHIN)
    await _asked_again(room, hellos)
    accepted, _ = await room.outcome()
    assert all(count >= 2 * BATCH for count in accepted.values())
    for device in room.devices:
        sent, seen = await record.of(device)
        assert set(seen) == set(sent)


async def test_broker_is_killed(room: Room) -> None:
    """Devices and Home Assistant come back to a broker that was killed, and what was measured meanwhile, in order."""
    installation, record = room.installation, Record(room)
    _, refused = await room.outcome()
    traffic = Traffic(room.devices, EVERY)
    traffic.start()
    await _taken_each(room, BATCH)
    await installation.broker.kill()
    await _taken_each(room, BATCH)
    await traffic.pause()
    await installation.broker.start()
    await installation.hass.wait_for_mqtt(WITHIN)
    await in_session(room.honest)
    await room.deliver()
    await room.processed()
    for device in room.devices:
        sent, seen = await record.of(device)
        assert seen == sent
        assert device.device.counts.dropped == 0
    assert (await room.outcome())[1] == refused


async def test_home_assistant_is_killed(room: Room, overheard: Overheard) -> None:
    """After SIGKILL devices are asked for a hello and resend; replays are refused; the trail is mended and verifies."""
    installation, hass, record = room.installation, room.installation.hass, Record(room)
    sessions = {device.device_id: device.device.counts.sessions for device in room.devices}
    async with Traffic(room.devices, EVERY):
        await _taken_each(room, BATCH)
        await hass.kill()
    before = tuple(overheard)
    await room.deliver(5)
    # As after a power cut in the middle of a line.
    entries = len(audit_entries(installation.audit_file))
    with installation.audit_file.open("ab") as file:
        file.write(TORN)
    assert await verify_alone(installation.audit_file) == 2
    await hass.start()
    await hass.wait_for_mqtt(WITHIN)
    for device in room.devices:
        await _in_session_number(device.device, sessions[device.device_id] + 1)
    await drained(room.honest)
    await room.processed()
    accepted, refused = await room.outcome()
    await room.replay(before)
    accepted_then, refused_then = await room.outcome()
    assert accepted_then == accepted
    assert (refused_then - refused).keys() <= {"session_unknown", "replayed"}
    assert (refused_then - refused).total() == len(before) >= BATCH * len(room.devices)
    for device in room.devices:
        sent, seen = await record.of(device)
        assert set(seen) == set(sent)
        # Once from before, and once more what was resent.
        assert sum(then <= now for now, then in pairwise(seen)) <= 1
        assert device.device.counts.sessions == sessions[device.device_id] + 1
    assert (await installation.verify_audit())["ok"]
    assert await verify_alone(installation.audit_file) == 0
    recovered = audit_entries(installation.audit_file)[entries]
    assert (recovered["event"], recovered["bytes"]) == ("audit_recovered", len(TORN))
    assert [file.read_bytes() for file in installation.audit_file.parent.glob("*.torn-*")] == [TORN]


@pytest.mark.parametrize("running", [True, False], ids=["made while it ran", "made while it was stopped"])
async def test_restored_copy_accepts_no_replay(
    room: Room, overheard: Overheard, tmp_path: Path, *, running: bool
) -> None:
    """The configuration folder of earlier knows older counters; what was sent since is refused all the same."""
    hass, copy = room.installation.hass, tmp_path / "copy"
    await room.deliver()
    await room.processed()
    if not running:
        await hass.stop()
    shutil.copytree(hass.config, copy, symlinks=True, ignore=shutil.ignore_patterns("home-assistant*"))
    if not running:
        await hass.start()
        await hass.wait_for_mqtt(WITHIN)
    await room.deliver()
    await room.processed()
    before = tuple(overheard)
    async with _silence(room):
        await hass.stop()
        shutil.rmtree(hass.config)
        shutil.copytree(copy, hass.config, symlinks=True)
        _make_older(hass.config / ".storage" / "grokmon.sessions")
        await hass.start()
        await hass.wait_for_mqtt(WITHIN)
        await room.replay(before)
        accepted, refused = await room.outcome()
    assert accepted == _each(room, 0)
    assert refused.keys() <= {"session_unknown", "replayed"}
    assert refused.total() == len(before) >= 2 * BATCH * len(room.devices)
    await room.deliver()
    await room.processed()
    assert (await room.outcome())[1] == refused
    assert (await room.installation.verify_audit())["ok"]


def _make_older(sessions: Path) -> None:
    """Let the sessions of an orderly stop be those of a stop some time ago."""
    if sessions.exists():
        content = json.loads(sessions.read_text(encoding="utf-8"))
        content["data"]["saved_at"] -= LONG_AGO
        sessions.write_text(json.dumps(content), encoding="utf-8")


async def _asked_again(room: Room, hellos: Mapping[str, int]) -> None:
    """Return once every device was asked for a hello, and what it then sent is processed."""
    async with asyncio.timeout(WITHIN):
        for device in room.honest:
            await _said_hello(device, hellos[device.identity.device_id] + 1)
    await in_session(room.honest)
    await drained(room.honest)
    await room.processed()


@contextlib.asynccontextmanager
async def _silence(room: Room) -> AsyncGenerator[None]:
    """Let the devices be away for the time of the context."""
    for device in room.honest:
        await device.stop()
    try:
        yield
    finally:
        for device in room.honest:
            await device.start()
        await in_session(room.honest)


async def _taken_each(room: Room, count: int) -> None:
    """Return once every device has taken some more readings."""
    targets = [device.taken + count for device in room.devices]

    async with asyncio.timeout(WITHIN):
        for device, target in zip(room.devices, targets, strict=True):
            await device.until_taken(target)


async def _said_hello(device: HonestDevice, number: int) -> None:
    await device.until(lambda: device.counts.hellos >= number)


async def _in_session_number(device: HonestDevice, number: int) -> None:
    async with asyncio.timeout(WITHIN):
        await device.until(lambda: device.counts.sessions == number)


def _each(room: Room, count: int) -> Counter[str]:
    return Counter({device.device_id: count for device in room.devices})
