"""Tests of what a zone shows of itself."""

from datetime import UTC, datetime
from unittest.mock import Mock

from homeassistant.core import HomeAssistant
import pytest

from custom_components.grokmon.gateway.actuators import Moment
from custom_components.grokmon.gateway.control import Controller
from custom_components.grokmon.gateway.zones import Stage, Zone
from custom_components.grokmon.zone_coordinator import NEXT_LIGHT_CHANGE, ZoneCoordinator

HOUR_S = 3600.0


@pytest.mark.parametrize(
    ("local", "begins"),
    [
        # Forward at two o'clock, back at three, and a night like others.
        ("2027-03-28T00:30:00+01:00", "2027-03-28T06:00:00+02:00"),
        ("2026-10-25T00:30:00+02:00", "2026-10-25T06:00:00+01:00"),
        ("2026-11-25T00:30:00+01:00", "2026-11-25T06:00:00+01:00"),
    ],
)
async def test_light_changes_when_the_clocks_on_the_wall_say_so(hass: HomeAssistant, local: str, begins: str) -> None:
    """A night in which clocks are changed has an hour more or less."""
    await hass.config.async_set_time_zone("Europe/Berlin")
    zone = Zone(zone_id="zone-1", name="Tent", stage=Stage.VEGETATIVE)
    coordinator = ZoneCoordinator("zone-1", zone, Mock())
    now = Moment(wall=datetime.fromisoformat(local).timestamp(), steady=1000.0, day_s=HOUR_S / 2)
    coordinator.async_refresh(Controller(), [], now)
    change = datetime.fromtimestamp(coordinator.values[NEXT_LIGHT_CHANGE], UTC)
    assert change == datetime.fromisoformat(begins)
