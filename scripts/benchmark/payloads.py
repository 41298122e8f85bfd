"""What the simulated devices of the bench send."""

import csv
from itertools import pairwise
from math import exp
from pathlib import Path

METRICS = ("temp_c", "humidity_percent", "co2_ppm", "ppfd_umol", "leaf_temp_c", "vpd_kpa")
_COLUMNS = {
    "Tair": "temp_c",
    "Rhair": "humidity_percent",
    "CO2air": "co2_ppm",
    "PARin": "ppfd_umol",
    "Tleaf_ridder": "leaf_temp_c",
}

type Metrics = dict[str, float]


def changing(step: int) -> Metrics:
    """Return six values that all differ from those of the step before."""
    return {
        "temp_c": 20.0 + step % 97 / 10,
        "humidity_percent": 50.0 + step % 89 / 10,
        "co2_ppm": float(600 + step % 83),
        "ppfd_umol": float(300 + step % 79),
        "leaf_temp_c": 19.0 + step % 73 / 10,
        "vpd_kpa": 1.0 + step % 71 / 100,
    }


def recorded(path: Path, *, reports_per_row: int) -> list[Metrics]:
    """Return what a device would have reported in the greenhouse of a recording.

    A row stands for five minutes; `reports_per_row` is how often the device reports meanwhile. Rows with a missing cell
    are left out.
    """
    reports: list[Metrics] = []
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if all(row[column] for column in _COLUMNS):
                metrics = {metric: float(row[column]) for column, metric in _COLUMNS.items()}
                metrics["vpd_kpa"] = round(_vpd(metrics), 2)
                reports += [metrics] * reports_per_row
    return reports


def changed_share(reports: list[Metrics]) -> float:
    """Return the share of values that differ from those of the report before."""
    changes = [sum(before[name] != after[name] for name in after) for before, after in pairwise(reports)]
    return sum(changes) / (len(changes) * len(METRICS))


def _vpd(metrics: Metrics) -> float:
    def saturation(celsius: float) -> float:
        return 0.6108 * exp(17.27 * celsius / (celsius + 237.3))

    return max(
        0.0, saturation(metrics["leaf_temp_c"]) - saturation(metrics["temp_c"]) * metrics["humidity_percent"] / 100
    )
