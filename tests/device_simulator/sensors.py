"""Sensors in the simulated room: what a device would measure there, with noise, by the names of the protocol."""

from collections.abc import Callable, Iterable
from random import Random

from .room import LUX_PER_PPFD_WHITE_LED, TANK_ML, Room

type Value = float | bool


def _fahrenheit(celsius: float) -> float:
    return celsius * 9 / 5 + 32


# Metric → true value, standard deviation of the noise, decimals.
_SENSORS: dict[str, tuple[Callable[[Room], float], float, int]] = {
    "temp_c": (lambda room: room.temp_c, 0.08, 2),
    "temp_f": (lambda room: _fahrenheit(room.temp_c), 0.15, 2),
    "leaf_temp_c": (lambda room: room.leaf_c, 0.2, 2),
    "leaf_temp_f": (lambda room: _fahrenheit(room.leaf_c), 0.36, 2),
    "root_temp_c": (lambda room: room.soil_c, 0.05, 2),
    "root_temp_f": (lambda room: _fahrenheit(room.soil_c), 0.09, 2),
    "soil_temp_c": (lambda room: room.soil_c, 0.05, 2),
    "soil_temp_f": (lambda room: _fahrenheit(room.soil_c), 0.09, 2),
    "humidity_percent": (lambda room: room.humidity_percent, 0.5, 1),
    "vpd_kpa": (lambda room: room.vpd_kpa, 0.02, 3),
    "co2_ppm": (lambda room: room.co2_ppm, 8.0, 0),
    "soil_moisture_percent": (lambda room: room.soil_water * 100, 0.3, 1),
    "ec_ms_cm": (lambda room: 0.6 / max(room.soil_water, 0.15), 0.02, 2),
    "ph": (lambda _room: 6.1, 0.02, 2),
    "ppfd_umol": (lambda room: room.ppfd_umol, 2.0, 0),
    "dli_mol": (lambda room: room.dli_mol, 0.0, 3),
    "lux": (lambda room: room.ppfd_umol * LUX_PER_PPFD_WHITE_LED, 100.0, 0),
    "tank_level_percent": (lambda room: 100 * room.tank_ml / TANK_ML, 0.2, 1),
    "water_flow_l_min": (lambda room: room.water_flow_l_min, 0.0, 2),
    "pressure_hpa": (lambda _room: 1013.2, 0.2, 1),
    "power_w": (lambda room: room.power_w, 0.5, 1),
    "vbat": (lambda _room: 3.9, 0.01, 2),
    "battery_percent": (lambda _room: 82.0, 0.0, 0),
    "rssi_dbm": (lambda _room: -61.0, 2.0, 0),
}
_LIMITS: dict[str, tuple[float, float]] = {
    "humidity_percent": (0.0, 100.0),
    "soil_moisture_percent": (0.0, 100.0),
    "tank_level_percent": (0.0, 100.0),
    "vpd_kpa": (0.0, 60.0),
    "ppfd_umol": (0.0, 4000.0),
    "lux": (0.0, 200_000.0),
}
_SWITCHES: dict[str, bool] = {
    "smoke": False,
    "tamper": False,
    "leak": False,
    "door": False,
    "mains_power": True,
}


class Sensors:
    """Measure a room; the same seed and the same rooms give the same readings.

    `switches` are the booleans that the room knows nothing of; set one to raise an alarm.
    """

    def __init__(self, metrics: Iterable[str], seed: int) -> None:
        self.switches = dict(_SWITCHES)
        self._metrics = tuple(metrics)
        self._random = Random(seed)  # noqa: S311 # noise, not secrets
        unknown = [name for name in self._metrics if name not in METRICS]
        if unknown:
            raise ValueError(f"no sensor for {', '.join(unknown)}")

    def read(self, room: Room) -> dict[str, Value]:
        """Give one value for each metric."""
        return {name: self._measure(name, room) for name in self._metrics}

    def _measure(self, name: str, room: Room) -> Value:
        if name in self.switches:
            return self.switches[name]
        if name == "float_switch":
            return room.tank_ml < 0.1 * TANK_ML
        true_value, noise, decimals = _SENSORS[name]
        low, high = _LIMITS.get(name, (float("-inf"), float("inf")))
        return round(min(high, max(low, true_value(room) + self._random.gauss(0.0, noise))), decimals)


METRICS = frozenset({*_SENSORS, *_SWITCHES, "float_switch"})
"""The metrics that can be measured in the room."""
