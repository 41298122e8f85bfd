"""Tests of the queue of loads: who waits for the turn of an output, and in which order they go."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from unittest.mock import Mock, patch

from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util
import pytest

from custom_components.grokmon.gateway.actuators import Key
from custom_components.grokmon.gateway.errors import PolicyError
from custom_components.grokmon.load_queue import LoadQueue

LAMP = Key("node", "grow_light")
MAT = Key("node", "heat_mat")
type Timer = Callable[[datetime], None]


@pytest.fixture
def timers() -> Iterator[list[Timer]]:
    """Return the timers that are set from now on; they go off when a test wants them to."""
    found: list[Timer] = []

    def later(_hass: HomeAssistant, _delay: float, action: Timer) -> Callable[[], None]:
        found.append(action)
        return Mock()

    with patch("custom_components.grokmon.load_queue.async_call_later", later):
        yield found


async def begun(queue: LoadQueue, went: list[int], *keys: Key) -> list[asyncio.Task[None]]:
    """Let several wait for their turn, one after the other, and note the order in which they go."""

    async def wait(each: int, key: Key) -> None:
        await queue.async_wait(key, 2.0)
        went.append(each)

    tasks = [asyncio.ensure_future(wait(each, key)) for each, key in enumerate(keys)]
    await asyncio.sleep(0)
    return tasks


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
async def test_who_came_first_goes_first(hass: HomeAssistant, timers: list[Timer], order: tuple[int, ...]) -> None:
    """In whatever order timers of the same moment go off: the last word about an output is the last that was said."""
    went: list[int] = []
    tasks = await begun(LoadQueue(hass), went, LAMP, LAMP, LAMP)
    for each in order:
        timers[each](dt_util.utcnow())
    await asyncio.gather(*tasks)
    assert went == [0, 1, 2]


async def test_outputs_do_not_wait_for_each_other(hass: HomeAssistant, timers: list[Timer]) -> None:
    """The turn of one output is not that of another one."""
    went: list[int] = []
    first, second = await begun(LoadQueue(hass), went, LAMP, MAT)
    timers[1](dt_util.utcnow())
    await second
    assert went == [1]
    timers[0](dt_util.utcnow())
    await first


@pytest.mark.parametrize("gone", [0, 1])
async def test_who_has_gone_keeps_nobody_waiting(hass: HomeAssistant, timers: list[Timer], gone: int) -> None:
    """Whoever is cancelled, before or in the moment of the turn, the others go."""
    went: list[int] = []
    tasks = await begun(LoadQueue(hass), went, LAMP, LAMP, LAMP)
    tasks[gone].cancel()
    for timer in reversed(timers):
        timer(dt_util.utcnow())
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(told[gone], asyncio.CancelledError)
    assert went == [each for each in range(3) if each != gone]


async def test_all_that_waited_when_it_was_turned_off_are_refused(hass: HomeAssistant, timers: list[Timer]) -> None:
    """What was wanted before an *off* is not wanted any more; what is wanted after it is."""
    queue, went = LoadQueue(hass), list[int]()
    before = await begun(queue, went, LAMP, LAMP)
    queue.async_turned_off(LAMP)
    (after,) = await begun(queue, went, LAMP)
    for timer in timers:
        timer(dt_util.utcnow())
    told = await asyncio.gather(*before, after, return_exceptions=True)
    assert [type(error) for error in told] == [PolicyError, PolicyError, type(None)]
