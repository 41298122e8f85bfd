"""Watch a running Home Assistant: memory, threads, files, tasks, and how old its states are."""

from asyncio import tools
from collections import Counter
from collections.abc import Sequence
import contextlib
import csv
from ctypes.util import find_library
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
import os
from pathlib import Path
import time
from typing import Any

import psutil  # type: ignore[import-untyped]

_LOOP_WATCH = Path(__file__).with_name("loop_watch")
_WORKER = "SyncWorker"
# What Home Assistant's container image runs with, and how it sets it.
_ALLOCATOR = "jemalloc"
_ALLOCATOR_SETTINGS = "background_thread:true,metadata_thp:auto,dirty_decay_ms:20000,muzzy_decay_ms:20000"
_MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at Home Assistant's process."""

    at: float
    memory_mb: float
    threads: int
    files: int
    cpu_percent: float
    audit_bytes: int
    staging_bytes: int
    stale: int
    """Entities without a new state although their device sends."""


def watch_loops(folder: Path) -> Path:
    """Let every Home Assistant that starts from now on write down its long steps; return where."""
    os.environ["PYTHONPATH"] = os.pathsep.join((str(_LOOP_WATCH), os.environ["PYTHONPATH"]))
    os.environ["GROKMON_LOOP_WATCH"] = str(path := folder / "loop.tsv")
    return path


def allocate_as_the_image() -> str:
    """Let every process that starts from now on use the allocator of Home Assistant's container image.

    Returns its name, or that it is not there.
    """
    if (library := find_library(_ALLOCATOR)) is None:
        return f"the C library's, {_ALLOCATOR} is not installed"
    os.environ["LD_PRELOAD"], os.environ["MALLOC_CONF"] = library, _ALLOCATOR_SETTINGS
    return library


class Watch:
    """Look at a process again and again."""

    def __init__(self, pid: int, data: Path) -> None:
        self._process = psutil.Process(pid)
        self._process.cpu_percent()
        self._data = data
        self._began = time.monotonic()
        self.samples: list[Sample] = []

    def look(self, stale: int) -> Sample:
        """Take a sample."""
        sample = Sample(
            at=time.monotonic() - self._began,
            memory_mb=self._process.memory_info().rss / _MEGABYTE,
            threads=self._process.num_threads(),
            files=self._process.num_fds(),
            cpu_percent=self._process.cpu_percent(),
            audit_bytes=_size(self._data / "audit"),
            staging_bytes=_size(self._data / "staging"),
            stale=stale,
        )
        self.samples.append(sample)
        return sample

    def write(self, path: Path) -> None:
        """Write the samples, for whoever wants a picture of them."""
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(field.name for field in fields(Sample))
            table.writerows(astuple(sample) for sample in self.samples)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a process holds: its threads, its connections to the broker, and its tasks, by name."""

    threads: Counter[str]
    connections: int
    tasks: Counter[str]
    ours: tuple[str, ...]
    """The tasks in which code of the integration stands, or that are named after it."""

    @classmethod
    def of(cls, pid: int, broker_port: int) -> Inventory:
        """Look at a process, which has to be a child of this one."""
        process = psutil.Process(pid)
        names = (_thread_name(pid, thread.id) for thread in process.threads())
        sockets = process.net_connections("tcp")
        tasks = _tasks(pid)
        return cls(
            threads=Counter(name for name in names if not name.startswith(_WORKER)),
            connections=sum(
                each.status == psutil.CONN_ESTABLISHED and each.raddr.port == broker_port for each in sockets
            ),
            tasks=Counter(name for name, _ in tasks),
            ours=tuple(name for name, where in tasks if "grokmon" in f"{name} {where}"),
        )


def slope(samples: Sequence[Sample]) -> float:
    """Return how fast the memory grows over the last two thirds, in MB per 10 minutes: the line of least squares."""
    tail = samples[len(samples) // 3 :]
    if len(tail) < 2:  # noqa: PLR2004 - no line through one point
        return 0.0
    middle = sum(each.at for each in tail) / len(tail)
    mean = sum(each.memory_mb for each in tail) / len(tail)
    rise = sum((each.at - middle) * (each.memory_mb - mean) for each in tail)
    return 600.0 * rise / sum((each.at - middle) ** 2 for each in tail)


def stale(states: Sequence[dict[str, Any] | None], limit_s: float) -> int:
    """Count the states that are not there, have no value, or are not new."""
    now = datetime.now(UTC)
    fresh = sum(
        state is not None
        and state["state"] not in {"unknown", "unavailable"}
        and (now - datetime.fromisoformat(state["last_reported"])).total_seconds() <= limit_s
        for state in states
    )
    return len(states) - fresh


def _size(folder: Path) -> int:
    total = 0
    for path in folder.glob("**/*"):
        # A file may be purged between the two looks.
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _thread_name(pid: int, thread_id: int) -> str:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/task/{thread_id}/comm").read_text(encoding="utf-8").strip()
    return ""


def _tasks(pid: int, attempts: int = 20) -> list[tuple[str, str]]:
    """Return the asyncio tasks of a process: name, and the files and functions that they stand in."""
    while True:
        try:
            found = tools.get_all_awaited_by(pid)
        except RuntimeError, OSError, UnicodeDecodeError, MemoryError:
            # The process went on while it was read.
            attempts -= 1
            if not attempts:
                raise
            continue
        return [
            (
                task.task_name,
                " ".join(
                    f"{frame.filename}:{frame.funcname}"
                    for coroutine in task.coroutine_stack
                    for frame in coroutine.call_stack
                ),
            )
            for thread in found
            for task in thread.awaited_by
        ]
