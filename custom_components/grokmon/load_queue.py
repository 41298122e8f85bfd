"""The queue of loads: big ones start one after the other."""

import asyncio
from collections import Counter, defaultdict
from datetime import datetime

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

from .gateway.actuators import Key
from .gateway.errors import Code, PolicyError


class LoadQueue:
    """Let loads wait for their turn, and none of them start that was turned off meanwhile."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self._offs: Counter[Key] = Counter()
        self._order: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)

    @callback
    def async_turned_off(self, key: Key) -> None:
        """Note that somebody turned an output off: what waits for its turn there was wanted before."""
        self._offs[key] += 1

    async def async_wait(self, key: Key, delay: float) -> None:
        """Return after so many seconds. Raises PolicyError when the output was turned off meanwhile."""
        if delay <= 0:
            return
        offs = self._offs[key]
        turn: asyncio.Future[None] = self._hass.loop.create_future()

        @callback
        def begin(_now: datetime) -> None:
            # Whoever waits may be cancelled in the same moment.
            if not turn.done():
                turn.set_result(None)

        cancel = async_call_later(self._hass, delay, begin)
        try:
            # Timers of the same moment go off in any order: of one output, who came first goes first.
            async with self._order[key]:
                await turn
        finally:
            cancel()
        if self._offs[key] != offs:
            raise PolicyError(Code.COMMAND_SUPERSEDED, str(key))
