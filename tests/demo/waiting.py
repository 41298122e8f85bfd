"""Wait for what nothing announces: somebody is asked, again and again, until a deadline."""

import asyncio
from collections.abc import Awaitable, Callable

_LOOK_EVERY = 0.05


async def settled[T](look: Callable[[], Awaitable[T]], done: Callable[[T], bool], within: float) -> T:
    """Look until it is done or the time is over, and return what was seen last."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        seen = await look()
        if done(seen) or loop.time() > deadline:
            return seen
        await asyncio.sleep(_LOOK_EVERY)
