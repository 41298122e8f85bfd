"""End in order when a person or a supervisor asks for it."""

import asyncio
from collections.abc import Coroutine
import signal
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def until_signalled(work: Coroutine[Any, Any, int]) -> int | signal.Signals:
    """Do the work; on SIGINT or SIGTERM cancel it, let it clean up, and return the signal."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work, name="demo")
    received: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        # A second Ctrl-C must not interrupt the cleaning up, or something would be left.
        if not received:
            task.cancel()
        received.append(number)

    for number in _SIGNALS:
        loop.add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        return received[0]
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
