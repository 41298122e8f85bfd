"""Run a server as a child process that never outlives its parent."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
import contextlib
import os
from pathlib import Path
import signal
import sys

# How often a readiness condition is looked at: a server says nothing when it begins to listen.
_LOOK_EVERY = 0.05
_LOG_TAIL = 40

# The kernel ends the child when the parent is gone, however it went (SIGKILL included). The request has to be made
# inside the child; a bare interpreter that replaces itself does it without running Python between fork and exec.
_TIED_TO_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent ended before the child began")
os.execvp(sys.argv[2], sys.argv[2:])
"""

type Condition = Callable[[], Awaitable[bool]]


class ProcessFailedError(Exception):
    """Say that a server did not start, or ended by itself, with the end of its log."""


class ManagedProcess:
    """Hold one server process in a process group of its own, with its output in a log file.

    Start it from the main thread: the kernel ties the child to the life of the thread that forked it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Tell whether the process was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Return the process id of the running process."""
        if self._process is None or self._process.returncode is not None:
            raise ProcessFailedError(f"{self.name} is not running")
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Return the exit status of the last run, or nothing while it runs."""
        return self._process.returncode if self._process else None

    def log_tail(self) -> str:
        """Return the last lines that the process printed."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL:])

    async def start(self, ready: Condition | None = None, *, deadline: float = 30) -> None:
        """Start the process and return once it is ready; end it again if it is not in time."""
        if self.running:
            raise ProcessFailedError(f"{self.name} is already running")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._tied(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                # A Ctrl-C in the terminal is for the parent, which ends its children in order.
                start_new_session=True,
            )
        if ready is None:
            return
        try:
            await self._wait_until(ready, deadline)
        except BaseException:
            await self.kill()
            raise

    async def wait(self) -> int:
        """Wait until the process has ended and return its exit status."""
        if self._process is None:
            raise ProcessFailedError(f"{self.name} was never started")
        return await self._process.wait()

    async def stop(self, *, grace: float = 10) -> None:
        """Ask the process to end, and kill it if it does not within the grace time."""
        if self._process is None or not self.running:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), grace)
        except TimeoutError:
            await self.kill()
        except asyncio.CancelledError:
            await self.kill()
            raise
        # What it started and left behind goes with it.
        self._kill_group(self._process.pid)

    async def kill(self) -> None:
        """Kill the process and whatever it started, at once."""
        if self._process is None or not self.running:
            return
        self._kill_group(self._process.pid)
        await self._process.wait()

    def _tied(self) -> list[str]:
        if sys.platform != "linux":
            return self._command
        return [sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid()), *self._command]

    def _kill_group(self, group: int) -> None:
        # The session was made for this process: the group has its id, and is empty when everybody is gone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)

    async def _wait_until(self, ready: Condition, deadline: float) -> None:
        try:
            async with asyncio.timeout(deadline):
                while not await ready():
                    if not self.running:
                        raise ProcessFailedError(f"{self.name} ended with {self.returncode}:\n{self.log_tail()}")
                    await asyncio.sleep(_LOOK_EVERY)
        except TimeoutError as error:
            raise ProcessFailedError(f"{self.name} was not ready in {deadline:g} s:\n{self.log_tail()}") from error


async def accepts_connections(host: str, port: int) -> bool:
    """Tell whether somebody accepts TCP connections there."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
