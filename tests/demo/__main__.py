"""Run the demo: ``python -m tests.demo --help``."""

import asyncio
import contextlib
from pathlib import Path
import signal
import sys
import tempfile

from tests.device_simulator.recording import RecordingError
from tests.stack.components import ComponentMissingError
from tests.stack.processes import ProcessFailedError

from .check import check
from .grow_room import RoomNotReadyError
from .live import live
from .options import Options, parse
from .replay import replay
from .signals import until_signalled

_ARTIFACTS = Path(__file__).resolve().parents[2] / "artifacts"


async def run(options: Options) -> int:
    """Do what the options ask for and return the exit code."""
    with contextlib.ExitStack() as stack:
        if options.keep is None:
            prefix = "grokmon-demo-"
            temporary = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(temporary))
        else:
            folder = options.keep
        if options.check:
            return await _check(folder, options)
        if options.replay is not None:
            return await replay(folder, options, _say)
        await live(folder, options.broker, _say, as_json=options.json)
        return 0


async def _check(folder: Path, options: Options) -> int:
    report = await check(folder, options.broker, _ARTIFACTS, _say)
    _ARTIFACTS.mkdir(exist_ok=True)
    (_ARTIFACTS / "check.txt").write_text(report.as_text() + "\n", encoding="utf-8")
    print(report.as_json() if options.json else report.as_text())  # noqa: T201 - what the check is asked for
    return 0 if report.ok else 1


def _say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)  # noqa: T201 - what goes on, beside the result


def main() -> int:
    """Run the demo from the command line and return its exit code."""
    try:
        options = parse()
        result = asyncio.run(until_signalled(run(options)))
    except (ComponentMissingError, ProcessFailedError, RecordingError, RoomNotReadyError) as error:
        _say(str(error))
        return 1
    if isinstance(result, signal.Signals):
        _say("ended")
        # To end it is how a person leaves the demo, but a check or a replay was not finished.
        return 128 + result if options.check or options.replay is not None else 0
    return result


if __name__ == "__main__":
    sys.exit(main())
