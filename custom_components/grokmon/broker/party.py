"""Who takes part in a probe of the broker. Blocking."""

from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic
from typing import Final

from .connection import REFUSED, ClosedError, Connection

HUNG_UP: Final = 0x100
"""No reason code: the broker closed the connection instead of giving one."""


class Party:
    """Somebody who takes part, and the marks that were heard. Comes back when the broker hangs up on an attempt."""

    def __init__(self, stack: ExitStack, new: Callable[[], Connection], run: str) -> None:
        self._stack = stack
        self._new = new
        self._run = run.encode()
        self._granted: list[str] = []
        self._heard: list[bytes] = []
        self.open = True
        self.connection = stack.enter_context(self._new())

    def subscribe(self, topic_filter: str) -> int:
        """Subscribe; return the reason code."""
        code = self._attempt(lambda: self.connection.subscribe(topic_filter))
        if code < REFUSED:
            self._granted.append(topic_filter)
        return code

    def publish(self, topic: str, text: str) -> int:
        """Publish; return the reason code."""
        return self._attempt(lambda: self.connection.publish(topic, text.encode()))

    def listen(self, seconds: float) -> None:
        """Take in what arrives within some seconds, and no more: whoever hears a mark may repeat it without end."""
        ends = monotonic() + seconds
        try:
            while self.open and (
                message := self.connection.receive(ends - monotonic(), lambda each: self._run in each.payload)
            ):
                self._heard.append(message.payload)
        except ClosedError:
            self.open = False

    def heard(self, mark: str | None) -> bool:
        """Tell whether a mark has arrived."""
        return mark is not None and any(mark.encode() in payload for payload in self._heard)

    def _attempt(self, attempt: Callable[[], int]) -> int:
        # Twice: it may have been the attempt before for which the broker hung up.
        for _ in range(2):
            try:
                return attempt()
            except ClosedError:
                self._come_back()
        return HUNG_UP

    def _come_back(self) -> None:
        self.listen(0)
        self.connection = self._stack.enter_context(self._new())
        self.open = True
        for topic_filter in self._granted:
            self.connection.subscribe(topic_filter)
