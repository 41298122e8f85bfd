"""Read a recording of a real room: a CSV file with a header, one row for a moment, one column for a metric.

A column is used when its name is that of a metric, or one of the aliases of the climate file of the Autonomous
Greenhouse Challenge. The time is in a column `Date`, `time`, `timestamp` and so on: seconds since the epoch, ISO 8601,
or month/day/year; without a zone it is UTC.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
import csv
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from .sensors import METRICS

type Value = float | bool

ALIASES = {
    "Tair": "temp_c",
    "Rhair": "humidity_percent",
    "CO2air": "co2_ppm",
    "PARin": "ppfd_umol",
    "Tleaf_ridder": "leaf_temp_c",
}
_KNOWN = METRICS | {"uptime_s"}
BOOLEANS = {"smoke", "tamper", "leak", "door", "mains_power", "float_switch"}
_TIME_NAMES = {"timestamp", "time", "date", "datetime", "ts"}
_TIME_FORMATS = ("%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S")
_WORDS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


class RecordingError(ValueError):
    """Say why a file is not a recording that can be read."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Say which column of a recording is used for what."""

    time: str
    metrics: Mapping[str, str]
    """Column → metric."""
    unused: tuple[str, ...]


def read_columns(path: Path) -> Columns:
    """Return what the header of a recording says; of two columns for one metric the first is used."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return _columns(next(csv.reader(file), []))


def read_recording(path: Path) -> Iterator[tuple[float, dict[str, Value]]]:
    """Yield the time of each row, in seconds since the epoch, and its values.

    An empty cell is left out, so that a row may have no values at all. Everything else comes as it is, a text where a
    number should be or `nan` too: what a broken sensor reports is for the gateway to judge.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        columns = _columns(rows.fieldnames or [])
        for row in rows:
            try:
                moment = _time(row[columns.time] or "")
            except ValueError as error:
                raise RecordingError(f"{path.name}, line {rows.line_num}: no time in {row[columns.time]!r}") from error
            cells = ((metric, (row[column] or "").strip()) for column, metric in columns.metrics.items())
            yield moment, {metric: _value(metric, text) for metric, text in cells if text}


def _columns(header: Sequence[str]) -> Columns:
    time = next((name for name in header if name.strip().lower() in _TIME_NAMES), None)
    if time is None:
        raise RecordingError(f"no column is called {', '.join(sorted(_TIME_NAMES))}, so there is no time")
    metrics: dict[str, str] = {}
    for name in header:
        metric = ALIASES.get(name.strip(), name.strip())
        if metric in _KNOWN and metric not in metrics.values():
            metrics[name] = metric
    if not metrics:
        raise RecordingError("no column has the name of a metric")
    return Columns(time, metrics, tuple(name for name in header if name != time and name not in metrics))


def _time(text: str) -> float:
    with suppress(ValueError):
        return float(text)
    for time_format in _TIME_FORMATS:
        with suppress(ValueError):
            return datetime.strptime(text, time_format).replace(tzinfo=UTC).timestamp()
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _value(metric: str, text: str) -> Value:
    if metric in BOOLEANS:
        return _WORDS.get(text.lower(), cast("bool", text))
    try:
        return float(text)
    except ValueError:
        return cast("float", text)
