"""Who takes part in a probe: how long it listens, whatever comes."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import MagicMock

import pytest

from custom_components.grokmon.broker import party
from custom_components.grokmon.broker.connection import Connection, Received

RUN = "0123"


@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_repeated_mark_does_not_hold_it(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever repeats a mark without end is listened to for the time that was given, and heard once."""
    clock = 100.0

    def receive(left: float, wanted: Callable[[Received], bool]) -> Received | None:
        nonlocal clock
        clock += 0.01
        message = Received("grokmon/v1/x/probe/up", f"{RUN}01".encode(), retained=False)
        assert wanted(message)
        return message if left > 0 else None

    monkeypatch.setattr(party, "monotonic", lambda: clock)
    connection: Any = MagicMock(spec=Connection, receive=receive)
    connection.__enter__.return_value = connection
    with ExitStack() as stack:
        listener = party.Party(stack, lambda: connection, RUN)
        listener.listen(seconds)
    assert 100.0 + seconds <= clock < 100.1 + seconds
    assert listener.heard(f"{RUN}01") is (seconds > 0)
    assert not listener.heard(f"{RUN}02")
