"""A report says what was found, to people and to programs."""

from collections import Counter
import json

from .report import DeviceRow, Report, refusal_rows


def _report(*problems: str) -> Report:
    report = Report(seconds=12.3)
    report.devices.append(DeviceRow("Flower climate", 7, 7, 2))
    log = Counter({("unsigned", "algorithm none"): 1, ("signature_invalid", "flood"): 3})
    report.refusals = refusal_rows(log, Counter({"unsigned": 1, "signature_invalid": 3}))
    report.add("states", problems, "38 of them")
    return report


def test_good_report() -> None:
    """The tables, the findings and the verdict."""
    text = _report().as_text()
    assert text.splitlines() == [
        "Device                  sent  accepted   refused in its name",
        "Flower climate             7         7         2",
        "",
        "Refused as              sent   refused   what it was",
        "signature_invalid          3         3   flood (3)",
        "unsigned                   1         1   algorithm none",
        "",
        "ok    states: 38 of them",
        "",
        "all 1 passed in 12 s",
    ]


def test_failed_report() -> None:
    """A problem takes the place of the detail, and fails the whole."""
    report = _report("one differs", "another, too")
    assert not report.ok
    assert "FAIL  states: one differs; another, too" in report.as_text()
    assert report.as_text().endswith("1 of 1 failed in 12 s")


def test_nothing_found_is_not_good() -> None:
    """A check that looked at nothing has shown nothing."""
    assert not Report().ok


def test_json_is_one_line() -> None:
    """Programs get the same."""
    line = _report().as_json()
    assert "\n" not in line
    read = json.loads(line)
    assert read["ok"] is True
    assert read["devices"] == [{"name": "Flower climate", "sent": 7, "accepted": 7, "refused": 2}]


def test_refusals_that_nobody_expected_are_listed() -> None:
    """A code that came up by itself has a row, too."""
    (row,) = refusal_rows(Counter(), Counter({"oversized": 4}))
    assert (row.code, row.sent, row.refused, row.what) == ("oversized", 0, 4, "")
