"""Tests of those who wait for orders: each is told once, and nobody waits for ever."""

import asyncio
import socket
import time
from unittest.mock import patch

import pytest

from custom_components.grokmon.gateway.actuators import Command, Key
from custom_components.grokmon.gateway.errors import Code, CommandError
from custom_components.grokmon.gateway.orders import Order
from custom_components.grokmon.gateway.principals import system
from custom_components.grokmon.waiters import Waiters

FAILED = CommandError(Code.COMMAND_FAILED, "node/outlet")


def wait(waiters: Waiters, cid: str) -> asyncio.Task[None]:
    """Wait for an order that switches off."""
    order = Order(cid=cid, command=Command(key=Key("node", "outlet"), on=False), principal=system("test"), at=0.0)
    return asyncio.ensure_future(waiters.async_wait(waiters.async_add(cid), order))


async def test_everybody_is_told_what_became_of_his_order() -> None:
    """However many wait for it, and of no other one."""
    waiters = Waiters()
    calls = [wait(waiters, cid) for cid in ("one", "one", "two")]
    waiters.async_tell("one", FAILED)
    waiters.async_tell("one", None)
    waiters.async_tell("two", None)
    waiters.async_tell("nobody's", FAILED)
    assert await asyncio.gather(*calls, return_exceptions=True) == [FAILED, FAILED, None]


async def test_order_that_takes_the_place_of_another() -> None:
    """Who waited for the first one learns what becomes of the second; who is gone is not handed over."""
    waiters = Waiters()
    first, gone = wait(waiters, "one"), wait(waiters, "one")
    gone.cancel()
    await asyncio.wait([gone])
    waiters.async_hand_over("one", to="two")
    second = wait(waiters, "two")
    waiters.async_tell("one", FAILED)
    waiters.async_tell("two", None)
    await asyncio.gather(first, second)


async def test_nobody_waits_for_ever() -> None:
    """Though others hand over again and again; what is told later reaches nobody."""
    waiters = Waiters()
    with patch("custom_components.grokmon.waiters.ACK_TIMEOUT_S", 0.0):
        call = wait(waiters, "one")
        waiters.async_hand_over("one", to="two")
        with pytest.raises(CommandError) as error:
            await call
    assert error.value.code is Code.COMMAND_TIMEOUT
    waiters.async_tell("two", None)


async def test_answer_of_the_last_moment_counts() -> None:
    """The loop was held up, and finds the answer and the end of patience in one look."""
    waiters, loop = Waiters(), asyncio.get_running_loop()
    ears, mouth = socket.socketpair()
    loop.add_reader(ears, waiters.async_tell, "one", None)
    with patch("custom_components.grokmon.waiters.ACK_TIMEOUT_S", 0.01), ears, mouth:
        call = wait(waiters, "one")
        await asyncio.sleep(0)
        mouth.send(b"!")
        time.sleep(0.05)  # noqa: ASYNC251 - this is what holds the loop up
        await call
        loop.remove_reader(ears)


async def test_nothing_goes_on() -> None:
    """At the end everybody is told."""
    waiters = Waiters()
    calls = [wait(waiters, cid) for cid in ("one", "two")]
    waiters.async_tell_all(FAILED)
    assert await asyncio.gather(*calls, return_exceptions=True) == [FAILED, FAILED]
