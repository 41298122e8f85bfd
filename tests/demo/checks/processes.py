"""What the servers leave behind: no process, and no complaint in the log."""

from collections.abc import Iterable
import os
from pathlib import Path
import re

from tests.demo.report import Report

_LEVEL_ERROR = re.compile(r"^\S+ \S+ (ERROR|CRITICAL) ")
_OURS = re.compile(r"\[(custom_components\.grokmon|homeassistant\.(util\.loop|helpers\.frame)|asyncio)")


def check_ended(processes: Iterable[tuple[str, int]], report: Report) -> None:
    """See that the servers are no more."""
    left = [f"{name} ({pid}) still runs" for name, pid in processes if _exists(pid)]
    report.add("the servers have ended", left)


def check_log(log: Path, report: Report) -> None:
    """See that Home Assistant had nothing to complain about, least of all about the integration."""
    lines = log.read_text(encoding="utf-8").splitlines()
    bad = [line for line in lines if _LEVEL_ERROR.search(line) or (" WARNING " in line and _OURS.search(line))]
    report.add("Home Assistant's log has no errors, and no warnings about the integration", bad)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
