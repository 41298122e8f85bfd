"""Tests of the clock: what devices are told as the time, whatever becomes of the wall clock."""

from itertools import pairwise
from unittest.mock import patch

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.clock import RoomClock

from .common import Room, RoomDevice

WALL = 1_795_386_000.0
STEPS = st.tuples(st.floats(0, 1e5), st.floats(-1e5, 1e5))


class Walls:
    """A clock at hand: time that passes, and a wall clock that somebody sets."""

    def __init__(self) -> None:
        """Begin anywhere."""
        self.steady = 5000.25
        self.ahead = WALL - self.steady
        with patch("custom_components.grokmon.clock.monotonic", self.monotonic):
            self.clock = RoomClock()

    def monotonic(self) -> float:
        """Return the time that nobody can set."""
        return self.steady

    def told(self, passed: float = 0.0, step: float = 0.0) -> float:
        """Let time pass and set the wall clock; return what devices are told then."""
        self.steady += passed
        self.ahead += step
        with patch("custom_components.grokmon.clock.monotonic", self.monotonic):
            return self.clock.told(self.steady + self.ahead)


def test_told_time_is_that_of_the_wall_clock() -> None:
    """Follow the wall clock while it only goes forward, in steps too."""
    walls = Walls()
    assert [walls.told() - WALL, walls.told(10) - WALL, walls.told(10, 3600) - WALL] == [0, 10, 3620]


def test_told_time_goes_on_when_the_wall_clock_is_set_back() -> None:
    """Go on by the time that passes, until the wall clock is set beyond that."""
    walls = Walls()
    walls.told(0, 3600)
    assert [walls.told(10, -3600) - WALL, walls.told(20) - WALL, walls.told(20, 3000) - WALL] == [3610, 3630, 3650]
    assert walls.told(10, 700) - WALL == 60 + 3700


@given(st.lists(STEPS, max_size=20))
def test_told_time_never_goes_back(steps: list[tuple[float, float]]) -> None:
    """Let at least as much time pass for devices as there does, and never be behind the wall clock."""
    walls = Walls()
    told = [(walls.told(), walls.steady)]
    for passed, step in steps:
        told.append((walls.told(passed, step), walls.steady))
        assert told[-1][0] >= walls.steady + walls.ahead
    for (before, then), (after, now) in pairwise(told):
        assert after >= before
        assert after - before == pytest.approx(now - then, abs=1e-5) or after > before + now - then


async def test_devices_obey_after_the_clock_was_set_back(room: Room) -> None:
    """Have renewals and off carried out, and hellos answered, by a device that was told a time an hour ahead."""
    ahead = 3600.0

    def wall() -> float:
        return room.now + ahead

    def is_on() -> bool:
        return device.protocol.outputs.outputs["outlet"].on

    await room.hass.config.async_set_time_zone("UTC")
    await room.add_zone("Tent")
    device = await room.enrol("node", actuators=[{"role": "outlet"}], zone="Tent")
    with patch("custom_components.grokmon.hub.time", wall), patch("custom_components.grokmon.clock.time", wall):
        await device.act()
        await room.act("homeassistant", "turn_on", "node/output_outlet")
        ahead = 0.0
        for _ in range(4):
            await room.let_pass(100)
        assert not device.protocol.expire(room.now)
        assert is_on()
        await room.act("homeassistant", "turn_off", "node/output_outlet")
        assert not is_on()
        assert (await device.hello())[-1]["time"] == int(room.now) + 3600
        assert [each["action"] for each in device.protocol.commands][::5] == ["set_switch"] * 2
        await room.act("button", "press", "node/identify")
    assert device.protocol.commands[-1]["iat"] == int(room.now) + 3600
    assert room.hub.refused_by_code("node") == {}


def _asked(device: RoomDevice) -> list[int]:
    """Return what time a device was told when it was asked to say hello."""
    topic = device.identity.down("session")
    told = [device.identity.verify_down(each.payload) for each in device.room.published if each.topic == topic]
    return [each["time"] for each in told if "hello" in each]


async def test_device_whose_clock_is_slow_is_told_the_time(room: Room) -> None:
    """Ask it to say hello, once in five minutes, since its readings count as old until it knows the time."""
    device = await room.enrol("tent-1", "temp_c")
    await device.report({"temp_c": 21.0})
    # The broker confirms the subscription, and everybody is asked.
    await room.let_pass(1)
    before, first = len(_asked(device)), int(room.now)
    for _ in range(3):
        await device.send(device.sign_reading({"temp_c": 22.0}, ts=room.now - 3600))
    assert _asked(device)[before:] == [first]
    await room.let_pass(301)
    await device.send(device.sign_reading({"temp_c": 23.0}, ts=room.now + 3600))
    assert _asked(device)[before:] == [first]
    await device.send(device.sign_reading({"temp_c": 24.0}, ts=room.now - 3600))
    assert _asked(device)[before:] == [first, first + 301]
