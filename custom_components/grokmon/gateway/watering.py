"""Watering: whether a dose that a pump acknowledged can be seen where the water has to come by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .actuators import Key
from .models import Value

FLOW: Final = "water_flow_l_min"
MOISTURE: Final = "soil_moisture_percent"
# A reading from before the pump was up to speed says nothing.
_SETTLING_S: Final = 2.0
# How long water takes to be seen in the soil, and how much of it can be.
_SOAKING_S: Final = 900.0
_VISIBLE_ML: Final = 100.0
_READINGS: Final = 3
# What is full of water already cannot get wetter.
_SATURATED: Final = 100.0


@dataclass(slots=True)
class _Dose:
    """A dose under watch.

    `before` is the soil moisture by device, where it can rise; `risen` tells of each reading since whether it did.
    """

    key: Key
    zone_id: str
    started: float
    flow_ends: float
    amount_ml: float
    before: dict[str, float]
    flows: list[float] = field(default_factory=list)
    risen: list[bool] = field(default_factory=list)


class WateringWatch:
    """Compare doses with the flow and the soil moisture of their zone, where such sensors exist."""

    def __init__(self) -> None:
        self._doses: list[_Dose] = []
        self._moisture: dict[str, dict[str, float]] = {}

    def begin(self, key: Key, zone_id: str, amount_ml: float, run_s: float, now: float) -> None:
        """Watch a dose that the device says it has begun."""
        measured = self._moisture.get(zone_id, {})
        before = {device_id: value for device_id, value in measured.items() if value < _SATURATED}
        self._doses.append(_Dose(key, zone_id, now, now + max(run_s, _SETTLING_S), amount_ml, before))

    def stopped(self, key: Key, since: float) -> None:
        """Expect nothing of a dose that was ended early."""
        self._doses = [dose for dose in self._doses if dose.key != key or since > dose.flow_ends]

    def observe(self, device_id: str, zone_id: str, values: Mapping[str, Value], now: float) -> None:
        """Take over what a device measured in a zone."""
        for dose in self._doses:
            if dose.zone_id != zone_id:
                continue
            if FLOW in values and dose.started + _SETTLING_S <= now <= dose.flow_ends:
                dose.flows.append(values[FLOW])
            if MOISTURE in values and device_id in dose.before and now > dose.flow_ends:
                dose.risen.append(values[MOISTURE] > dose.before[device_id])
        if MOISTURE in values:
            self._moisture.setdefault(zone_id, {})[device_id] = values[MOISTURE]

    def judge(self, now: float) -> list[tuple[Key, str]]:
        """Return the outputs whose water did not arrive, and what showed it; what is settled is not looked at again."""
        dry: list[tuple[Key, str]] = []
        kept: list[_Dose] = []
        for dose in self._doses:
            if now <= dose.flow_ends:
                kept.append(dose)
            elif dose.flows:
                if max(dose.flows) <= 0.0:
                    dry.append((dose.key, "no_flow"))
            elif any(dose.risen):
                pass
            elif now - dose.started < _SOAKING_S:
                kept.append(dose)
            elif dose.amount_ml >= _VISIBLE_ML and len(dose.risen) >= _READINGS:
                dry.append((dose.key, "no_moisture"))
        self._doses = kept
        return dry
