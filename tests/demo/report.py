"""What a check found, as a table for people and as JSON for programs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
import json
import shutil
import textwrap

_WIDEST = 120


@dataclass(frozen=True, slots=True)
class Finding:
    """State one thing that was looked at, and whether it was as it should be."""

    what: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """Count the messages of one device: its own, and those refused in its name."""

    name: str
    sent: int
    accepted: int
    refused: int


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """Count the messages that had to be refused with one code, and say what they were."""

    code: str
    sent: int
    refused: int
    what: str


@dataclass(slots=True)
class Report:
    """Collect what was found."""

    findings: list[Finding] = field(default_factory=list)
    devices: list[DeviceRow] = field(default_factory=list)
    refusals: list[RefusalRow] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Tell whether everything was as it should be."""
        return bool(self.findings) and all(finding.ok for finding in self.findings)

    def add(self, what: str, problems: Sequence[str], detail: str = "") -> None:
        """Enter a finding, which is good when there are no problems."""
        self.findings.append(Finding(what, ok=not problems, detail="; ".join(problems) or detail))

    def as_json(self) -> str:
        """Return the report as one line of JSON."""
        return json.dumps({"ok": self.ok, **asdict(self)})

    def as_text(self) -> str:
        """Return the report as tables."""
        width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
        failed = sum(not finding.ok for finding in self.findings)
        verdict = f"{failed} of {len(self.findings)} failed" if failed else f"all {len(self.findings)} passed"
        return "\n".join(
            (
                "Device                  sent  accepted   refused in its name",
                *(f"{row.name:<20}{row.sent:>8}{row.accepted:>10}{row.refused:>10}" for row in self.devices),
                "",
                "Refused as              sent   refused   what it was",
                *(line for row in self.refusals for line in _refusal(row, width)),
                "",
                *(line for finding in self.findings for line in _finding(finding, width)),
                "",
                f"{verdict} in {self.seconds:.0f} s",
            )
        )


def refusal_rows(log: Counter[tuple[str, str]], refused: Counter[str]) -> list[RefusalRow]:
    """Return one row for each code, from what was sent, by code and what it was, and what was refused, by code."""
    codes = sorted({code for code, _ in log} | set(refused))
    return [_row(code, log, refused[code]) for code in codes]


def _row(code: str, log: Counter[tuple[str, str]], refused: int) -> RefusalRow:
    sent = {what: count for (known, what), count in log.items() if known == code}
    shown = (f"{what} ({count})" if count > 1 else what for what, count in sent.items())
    return RefusalRow(code, sum(sent.values()), refused, ", ".join(shown))


def _refusal(row: RefusalRow, width: int) -> list[str]:
    start = f"{row.code:<20}{row.sent:>8}{row.refused:>10}   "
    return textwrap.wrap(row.what, width, initial_indent=start, subsequent_indent=" " * len(start)) or [start]


def _finding(finding: Finding, width: int) -> list[str]:
    start = f"{'ok' if finding.ok else 'FAIL':<6}"
    text = f"{finding.what}: {finding.detail}" if finding.detail else finding.what
    return textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start))
