"""Range policy: what is impossible refuses a message, what is implausible is flagged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .catalog import CATALOG, VPD
from .errors import Code, RangeError
from .models import Device, Range, Value

_EVERYTHING: Final = Range(float("-inf"), float("inf"))


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one metric of one device."""

    hard: Range
    plausible: Range


def limits_of(device: Device, names: frozenset[str]) -> dict[str, Limits]:
    """Return the limits of the numbers among these metrics: the device's plausible ranges, else the catalogue's."""
    return {
        name: Limits(metric.hard, device.ranges.get(name) or metric.plausible or _EVERYTHING)
        for name in names
        if (metric := CATALOG[name]).hard is not None
    }


def apply(values: dict[str, Value], limits: Mapping[str, Limits]) -> tuple[str, ...]:
    """Return the names of the values to flag; raise RangeError where one is impossible.

    A vapour pressure deficit slightly below zero is dew on the leaf: it becomes 0, and is flagged.
    """
    flagged: list[str] = []
    for name, value in values.items():
        limit = limits.get(name)
        if limit is None:
            continue
        if not limit.hard.low <= value <= limit.hard.high:
            raise RangeError(Code.METRIC_IMPOSSIBLE, f"{name} {limit.hard.low:g} to {limit.hard.high:g}")
        if not limit.plausible.low <= value <= limit.plausible.high:
            flagged.append(name)
    if values.get(VPD, 0.0) < 0.0:
        values[VPD] = 0.0
        if VPD not in flagged:
            flagged.append(VPD)
    return tuple(flagged)
