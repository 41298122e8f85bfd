"""The tents of the demo: rooms whose days pass quickly, with a lamp, a fan and a pump that keep them in order."""

from collections.abc import Mapping
from dataclasses import replace

from tests.device_simulator.actuators import Output
from tests.device_simulator.coupling import controls_of
from tests.device_simulator.room import TANK_ML, Controls, Room

from .plan import FLOWER, VEG

ROOM_SECONDS_PER_SECOND = 60.0
# Controls change at least this often in the room's time.
_CONTROL_EVERY_S = 60.0
_HOUR_S = 3600.0
_DIMMED_HOURS = 0.5
_TARGET_C = 24.0
_TARGET_HUMIDITY = 62.0
_IDLE_FAN = 15.0
_FAN_PER_DEGREE = 20.0
_FAN_PER_PERCENT = 4.0
_WATERING = 0.06
_REFILL_BELOW = 0.15


class Tent:
    """Let one room live, from its grower's settings."""

    def __init__(self, room: Room, *, lights_on: float, lights_off: float, light_percent: float, dry: float) -> None:
        """Take the hours at which the lamp goes on and off, its brightness, and the soil water that starts the pump."""
        self.room = room
        self._day = (lights_on, lights_off)
        self._light_percent = light_percent
        self._dry = dry
        self._pump_on = False
        self.outputs: Mapping[str, Output] | None = None
        """What drives the tent in place of the grower's settings: the outputs of a device."""

    def live(self, seconds: float) -> Room:
        """Let time pass outside the room, and a lot more of it inside."""
        left = seconds * ROOM_SECONDS_PER_SECOND
        while left > 0:
            step = min(left, _CONTROL_EVERY_S)
            self.room = self.room.step(self._controls(), step)
            left -= step
        if self.room.tank_ml < _REFILL_BELOW * TANK_ML:
            self.room = replace(self.room, tank_ml=TANK_ML)
        return self.room

    def _controls(self) -> Controls:
        if self.outputs is not None:
            return controls_of(self.outputs)
        room = self.room
        hour = room.time_of_day_s / _HOUR_S
        dimmer = min(1.0, (hour - self._day[0]) / _DIMMED_HOURS, (self._day[1] - hour) / _DIMMED_HOURS)
        too_warm = max(0.0, room.temp_c - _TARGET_C)
        too_humid = max(0.0, room.humidity_percent - _TARGET_HUMIDITY)
        fan = _IDLE_FAN + _FAN_PER_DEGREE * too_warm + _FAN_PER_PERCENT * too_humid
        if room.soil_water < self._dry:
            self._pump_on = True
        elif room.soil_water > self._dry + _WATERING:
            self._pump_on = False
        return Controls(self._light_percent * max(0.0, dimmer), min(100.0, fan), self._pump_on)


def grow_tents() -> dict[str, Tent]:
    """Return the tents by the name of their zone."""
    flower = Room(time_of_day_s=8 * _HOUR_S, temp_c=23.6, soil_water=0.31, soil_c=21.0, dli_mol=3.9)
    veg = Room(time_of_day_s=8 * _HOUR_S, temp_c=22.8, soil_water=0.37, soil_c=20.5, dli_mol=4.2, tank_ml=0.7 * TANK_ML)
    return {
        FLOWER.name: Tent(flower, lights_on=6, lights_off=18, light_percent=75, dry=0.30),
        VEG.name: Tent(veg, lights_on=5, lights_off=23, light_percent=50, dry=0.33),
    }
