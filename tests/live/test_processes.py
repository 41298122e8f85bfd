"""Servers that the stack started never outlive it."""

import asyncio
import os
from pathlib import Path
import signal
import sys

import pytest

from tests.stack.processes import ManagedProcess, ProcessFailedError

_REPOSITORY = Path(__file__).resolve().parents[2]
_WAITS = [sys.executable, "-c", "import signal; signal.pause()"]
_STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w'); signal.pause()"
_PARENT = """
import asyncio, signal, sys
from pathlib import Path
from tests.stack.processes import ManagedProcess

# A test runner that a shell started in the background ignores Ctrl-C, and so would this.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    async def tied():
        return b"sleep" in Path(f"/proc/{child.pid}/cmdline").read_bytes().split(b"\\0")[0]

    child = ManagedProcess("child", ["sleep", "600"], log=Path(sys.argv[1]))
    await child.start(tied)
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


async def _ended(pid: int) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        loop.add_reader(descriptor, ended.set)
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's tie between parent and child is Linux's")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
async def test_child_ends_with_its_parent(tmp_path: Path, end: signal.Signals) -> None:
    """However the parent goes, the child goes too."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, tmp_path / "log", cwd=_REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    parent.send_signal(end)
    await parent.wait()
    await _ended(child)


async def test_failed_start_shows_the_log(tmp_path: Path) -> None:
    """A server that ends at once is reported with what it printed."""
    process = ManagedProcess("broken", [sys.executable, "-c", "exit('no such setting')"], log=tmp_path / "log")
    with pytest.raises(ProcessFailedError, match="no such setting"):
        await process.start(_never)
    assert not process.running


async def test_late_start_is_ended(tmp_path: Path) -> None:
    """A server that is not ready in time does not stay."""
    process = ManagedProcess("late", _WAITS, log=tmp_path / "log")
    with pytest.raises(ProcessFailedError, match="not ready"):
        await process.start(_never, deadline=0.2)
    assert process.returncode == -signal.SIGKILL


async def test_stubborn_server_is_killed(tmp_path: Path) -> None:
    """A server that ignores the request to end is killed after the grace time."""
    ready = tmp_path / "ready"

    async def is_ready() -> bool:
        return ready.exists()

    process = ManagedProcess("stubborn", [sys.executable, "-c", _STUBBORN, ready], log=tmp_path / "log")
    await process.start(is_ready)
    await process.stop(grace=0.2)
    assert process.returncode == -signal.SIGKILL


async def _never() -> bool:
    return False
