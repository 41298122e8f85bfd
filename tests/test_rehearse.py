"""Tests of the material of a rehearsal: what the audit trail tells of commands, and the recorder of readings."""

from typing import Any
from unittest.mock import patch

from homeassistant.components.recorder.core import Recorder
from homeassistant.core import HomeAssistant, State
from homeassistant.util.unit_system import US_CUSTOMARY_SYSTEM
import pytest
from pytest_homeassistant_custom_component.components.recorder.common import (  # type: ignore[import-untyped] # has no py.typed
    async_wait_recording_done,
)

from custom_components.grokmon.gateway.actuators import Command, Key
from custom_components.grokmon.gateway.principals import Caller, Principal
from custom_components.grokmon.rehearse import _command, _value

from .common import Room

RECORD: dict[str, Any] = {
    "at": "2026-11-24T12:00:00.000Z",
    "action": "command",
    "principal": {"caller": "ai", "identity": "user-1", "approved_by": "user-2"},
    "object": {"device": "node", "actuator": "exhaust"},
    "details": {"params": {"percent": 60}},
}


def test_command() -> None:
    """A line of a command tells what was asked, by whom, and when."""
    happened = _command(RECORD)
    assert happened is not None
    principal = Principal(caller=Caller.AI, identity="user-1", approved_by="user-2")
    assert happened.what == (Command(key=Key("node", "exhaust"), percent=60), principal)
    assert happened.at.wall == 1795521600


@pytest.mark.parametrize(
    "altered",
    [
        {"action": "stage"},
        {"principal": None},
        {"principal": {"caller": "system", "identity": "done"}},
        {"principal": {"caller": "robot", "identity": "user-1"}},
        {"principal": {"caller": "ai"}},
        {"object": {"device": "node"}},
        {"details": {}},
        {"details": {"params": None}},
        {"details": {"params": [60]}},
        {"details": {"params": {"percent": "nan"}}},
        {"details": {"params": {"speed": 60}}},
        {"at": "noon"},
        {"at": "9999-12-31T23:59:59Z"},
    ],
)
async def test_line_that_is_no_command(hass: HomeAssistant, altered: dict[str, Any]) -> None:
    """Pass over what is not about a command, or was altered so that it cannot be one: verify tells of it."""
    await hass.config.async_set_time_zone("Asia/Tokyo")
    assert _command(RECORD | altered) is None


@pytest.mark.parametrize(
    ("metric", "state", "unit", "value"),
    [
        ("temp_c", "25.0", "°C", 25.0),
        ("temp_c", "77.0", "°F", 25.0),
        ("temp_f", "25.0", "°C", 77.0),
        ("temp_c", "25.0", None, 25.0),
        ("temp_c", "25.0", "mL", None),
        ("co2_ppm", "900", "ppm", 900.0),
        ("temp_c", "unavailable", "°C", None),
        ("smoke", "on", None, True),
        ("smoke", "off", None, False),
        ("smoke", "unknown", None, None),
    ],
)
def test_value(metric: str, state: str, unit: str | None, value: float | bool | None) -> None:
    """What the recorder has in the unit of the house is read in the unit of the metric."""
    attributes = {} if unit is None else {"unit_of_measurement": unit}
    assert _value(State("sensor.of_a_device", state, attributes), metric) == (
        pytest.approx(value) if isinstance(value, float) else value
    )


async def test_only_commands_are_loaded(room: Room) -> None:
    """Of a trail that may have a million lines, those that tell of commands are taken, and no others."""
    with patch.object(type(room.hub.audit), "async_search", autospec=True, return_value=[]) as search:
        await room.call("rehearse", {"days": 1})
    assert search.call_args.args[1].actions == {"command", "command_refused"}


async def test_readings_of_a_house_in_fahrenheit(recorder_mock: Recorder, room: Room) -> None:
    """A warm room is not too hot: nothing is refused for what was recorded in another unit."""
    room.hass.config.units = US_CUSTOMARY_SYSTEM
    await room.add_zone("Tent")
    device = await room.enrol("node", "temp_c", "smoke", actuators=[{"role": "heat_mat"}], zone="Tent")
    await device.act()
    for celsius in (25.0, 26.0):
        await device.report({"temp_c": celsius, "smoke": False})
        await room.let_pass(60)
    assert room.state("node/temp_c").attributes["unit_of_measurement"] == "°F"
    await room.act("switch", "turn_on", "node/output_heat_mat")
    await room.hub.audit.async_flush()
    await async_wait_recording_done(room.hass)
    answer = await room.call("rehearse", {"days": 1})
    assert recorder_mock.hass is room.hass
    assert answer == {"commands": 1, "readings": 3, "refused": []}
