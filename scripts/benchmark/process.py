"""What a process has used, as the kernel counts it."""

import asyncio
import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_QUIET_SECONDS = 3.0
_QUIET_CPU = 0.15


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, of all its threads, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE


async def until_quiet(pid: int) -> None:
    """Return when a process has nothing left to do."""
    before = cpu_seconds(pid)
    while True:
        await asyncio.sleep(_QUIET_SECONDS)
        now = cpu_seconds(pid)
        if now - before < _QUIET_CPU:
            return
        before = now
