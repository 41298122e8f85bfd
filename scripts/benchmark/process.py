"""What a process has used, as the kernel counts it."""

import asyncio
import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LOOK_SECONDS = 2.0
_QUIET_WITHIN = 300.0
_QUIET_SHARE = 0.05
_IDLE_SECONDS = 5.0


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, of all its threads, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE


async def until_quiet(pid: int) -> None:
    """Return when a process has nothing left to do. Raises TimeoutError when it goes on and on."""
    before = cpu_seconds(pid)
    async with asyncio.timeout(_QUIET_WITHIN):
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = cpu_seconds(pid)
            if now - before < _QUIET_SHARE * _LOOK_SECONDS:
                return
            before = now


async def idle_share(pid: int) -> float:
    """Return the share of a processor that a process takes with nothing to do."""
    before = cpu_seconds(pid)
    await asyncio.sleep(_IDLE_SECONDS)
    return (cpu_seconds(pid) - before) / _IDLE_SECONDS
