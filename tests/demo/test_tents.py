"""The tents of the demo live as tents do: days and nights, and nothing that the gateway would flag."""

import itertools

import pytest

from tests.device_simulator.room import TANK_ML, Room

from .tents import ROOM_SECONDS_PER_SECOND, Tent, grow_tents

_MINUTES_PER_DAY = 24 * 60
_DAY_S = 86_400 / ROOM_SECONDS_PER_SECOND


def _days(tent: Tent, days: int) -> list[Room]:
    return [tent.live(_DAY_S / _MINUTES_PER_DAY) for _ in range(days * _MINUTES_PER_DAY)]


@pytest.mark.parametrize("zone", grow_tents())
def test_days_are_plausible(zone: str) -> None:
    """Three days and nights within the ranges that the first document calls plausible."""
    rooms = _days(grow_tents()[zone], 3)
    assert all(12.8 <= room.temp_c <= 35 for room in rooms)
    assert all(12.8 <= room.leaf_c <= 35 for room in rooms)
    assert all(20 <= room.humidity_percent <= 90 for room in rooms)
    assert all(0 <= room.vpd_kpa <= 3 for room in rooms)
    assert all(300 <= room.co2_ppm <= 2000 for room in rooms)


@pytest.mark.parametrize("zone", grow_tents())
def test_lights_pump_and_fan_work(zone: str) -> None:
    """There is day and night, the plants are watered before they are dry, and the tank is filled again."""
    rooms = _days(grow_tents()[zone], 12)
    assert {room.ppfd_umol > 0 for room in rooms} == {True, False}
    assert {room.controls.pump_on for room in rooms} == {True, False}
    assert len({round(room.controls.fan_percent) for room in rooms}) > 2
    assert all(room.soil_water > 0.25 for room in rooms)
    levels = [room.tank_ml for room in rooms]
    assert min(levels) > 0.05 * TANK_ML
    assert any(after > before for before, after in itertools.pairwise(levels))
