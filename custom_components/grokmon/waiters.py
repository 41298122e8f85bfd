"""Who waits for an order: each caller learns what became of it, however it ended."""

import asyncio
from collections import defaultdict

from homeassistant.core import callback

from .gateway.commands import ACK_TIMEOUT_S
from .gateway.errors import Code, CommandError, GatewayError
from .gateway.orders import Order

type Waiter = asyncio.Future[GatewayError | None]


class Waiters:
    """Those who wait for orders, by the order."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, list[Waiter]] = defaultdict(list)

    @callback
    def async_add(self, cid: str) -> Waiter:
        """Return what is told of an order that is about to go out."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiting[cid].append(waiter)
        return waiter

    @callback
    def async_hand_over(self, cid: str, to: str) -> None:
        """Have those who wait for an order learn what becomes of the one that takes its place and wants the same."""
        self._waiting[to] += [waiter for waiter in self._waiting.pop(cid, ()) if not waiter.done()]

    async def async_wait(self, waiter: Waiter, order: Order) -> None:
        """Wait for an order. Raises GatewayError when it came to nothing."""
        timeout = CommandError(Code.COMMAND_TIMEOUT, str(order.key))
        try:
            # Not for ever: whoever switches off again and again takes over who waited before.
            await asyncio.wait([waiter], timeout=2 * ACK_TIMEOUT_S)
            # What came in the last moment counts.
            failure = waiter.result() if waiter.done() else timeout
        finally:
            waiter.cancel()
        if failure is not None:
            raise failure

    @callback
    def async_tell(self, cid: str, failure: GatewayError | None) -> None:
        """Tell whoever waits for an order, and is not gone, why it came to nothing, or that it did not."""
        for waiter in self._waiting.pop(cid, ()):
            if not waiter.done():
                waiter.set_result(failure)

    @callback
    def async_tell_all(self, failure: GatewayError) -> None:
        """Tell everybody that nothing goes on."""
        for cid in list(self._waiting):
            self.async_tell(cid, failure)
