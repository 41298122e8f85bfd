"""A recording is read by the names of its columns, and whatever stands in it comes out."""

import math
from pathlib import Path

import pytest

from .recording import Columns, RecordingError, read_columns, read_recording

_NEW_YEAR = 1_767_225_600.0


def _write(folder: Path, *lines: str) -> Path:
    path = folder / "recording.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_columns_are_found_by_name_and_alias(tmp_path: Path) -> None:
    """Metrics by their name, those of the greenhouse challenge by its names, the rest is said to be unused."""
    path = _write(tmp_path, "Date,Tair,Rhair,CO2air,HumDef,PARin,Tair_sigrow,Tleaf_ridder,ph,smoke,uptime_s")
    assert read_columns(path) == Columns(
        time="Date",
        metrics={
            "Tair": "temp_c",
            "Rhair": "humidity_percent",
            "CO2air": "co2_ppm",
            "PARin": "ppfd_umol",
            "Tleaf_ridder": "leaf_temp_c",
            "ph": "ph",
            "smoke": "smoke",
            "uptime_s": "uptime_s",
        },
        unused=("HumDef", "Tair_sigrow"),
    )


def test_first_of_two_columns_for_a_metric_is_used(tmp_path: Path) -> None:
    """An alias does not overwrite the metric itself."""
    path = _write(tmp_path, "time,temp_c,Tair", "0,20,30")
    assert read_columns(path).unused == ("Tair",)
    assert list(read_recording(path)) == [(0.0, {"temp_c": 20.0})]


@pytest.mark.parametrize(
    "text",
    [
        "1767225600",
        "1767225600.0",
        "2026-01-01T00:00:00Z",
        "2026-01-01 01:00:00+01:00",
        "2026-01-01 00:00",
        "2026-01-01",
        "1/1/2026 0:00",
        "01/01/2026 00:00:00",
    ],
)
def test_times_are_understood(tmp_path: Path, text: str) -> None:
    """Seconds since the epoch, ISO 8601, and month/day/year; without a zone it is UTC."""
    path = _write(tmp_path, "timestamp,temp_c", f"{text},20")
    assert [moment for moment, _ in read_recording(path)] == [_NEW_YEAR]


def test_month_comes_before_day(tmp_path: Path) -> None:
    """The greenhouse challenge writes American dates."""
    path = _write(tmp_path, "Date,Tair", "2/1/2022 0:04,12.90")
    assert [moment for moment, _ in read_recording(path)] == [1_643_673_840.0]


@pytest.mark.parametrize(
    ("header", "text", "value"),
    [
        ("temp_c", "21.50", 21.5),
        ("temp_c", " 21.5 ", 21.5),
        ("temp_c", "-1e3", -1000.0),
        ("temp_c", "n/a", "n/a"),
        ("smoke", "true", True),
        ("smoke", "Off", False),
        ("smoke", "1", True),
        ("smoke", "2", "2"),
    ],
)
def test_values_come_as_they_are(tmp_path: Path, header: str, text: str, value: object) -> None:
    """Numbers, booleans by the metric's type, and odd texts unchanged."""
    path = _write(tmp_path, f"time,{header}", f"0,{text}")
    ((_, values),) = read_recording(path)
    assert values == {header: value}
    assert type(values[header]) is type(value)


def test_not_a_number_is_not_left_out(tmp_path: Path) -> None:
    """A sensor that says `nan` says something."""
    ((_, values),) = read_recording(_write(tmp_path, "time,temp_c", "0,nan"))
    assert math.isnan(values["temp_c"])


def test_missing_cells_are_left_out(tmp_path: Path) -> None:
    """An empty cell, a short row, and a row with nothing in it."""
    path = _write(tmp_path, "time,temp_c,ph", "0,20,", "1,20", "2,,")
    assert list(read_recording(path)) == [(0.0, {"temp_c": 20.0}), (1.0, {"temp_c": 20.0}), (2.0, {})]


def test_byte_order_mark_and_quotes_do_no_harm(tmp_path: Path) -> None:
    """Spreadsheets write both."""
    path = tmp_path / "recording.csv"
    path.write_bytes(b'\xef\xbb\xbf"time","temp_c"\r\n"0","20"\r\n')
    assert list(read_recording(path)) == [(0.0, {"temp_c": 20.0})]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("temp_c", "20"), "there is no time"),
        (("",), "there is no time"),
        (("time,mystery", "0,1"), "no column has the name of a metric"),
        (("time,temp_c", "0,20", "yesterday,20"), "line 3: no time in 'yesterday'"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    """The error says what is missing, and where."""
    with pytest.raises(RecordingError, match=message):
        list(read_recording(_write(tmp_path, *lines)))
