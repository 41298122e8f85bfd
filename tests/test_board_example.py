"""The program of a board feeds its watchdog as often as any board wants it, and only when it should."""

from itertools import pairwise
from pathlib import Path
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

MAIN = Path(__file__).parents[1] / "examples" / "devices" / "micropython" / "main.py"
# A Pico's watchdog has eight seconds, and connecting takes some of them.
OFTEN_S = 2


class EndedError(Exception):
    """The board is switched off, or starts anew."""


class Board:
    """Stand in for a board, and for what main.py builds on; its time passes when the program waits."""

    def __init__(self, *, joins_at: float = 0, runs_s: float = 100) -> None:
        self.now = 0.0
        self.joins_at = joins_at
        self.runs_s = runs_s
        self.guarded = True
        self.fed: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        if self.now > self.runs_s:
            raise EndedError("switched off")

    def reset(self) -> None:
        """Start anew."""
        raise EndedError("anew")

    def run(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
        """Run the program with one output; return how it ended."""
        watchdog = SimpleNamespace(feed=lambda: self.fed.append(self.now))
        wifi = Mock(isconnected=lambda: self.now >= self.joins_at)
        stubs: dict[str, Any] = {
            "machine": Mock(WDT=lambda **_: watchdog, reset=self.reset),
            "network": Mock(WLAN=lambda _: wifi),
            "time": Mock(sleep=self.sleep, sleep_ms=lambda ms: self.sleep(ms / 1000)),
            "grokmon_device": Mock(GrokmonDevice=lambda *_: Mock(run=self.sleep)),
            "grokmon_outputs": Mock(Outputs=lambda *_: Mock(is_guarded=lambda: self.guarded)),
        }
        for name, stub in stubs.items():
            monkeypatch.setitem(sys.modules, name, stub)
        monkeypatch.chdir(folder)
        (folder / "settings.json").write_text('{"actuators": {"lamp": {"kind": "light"}}}')
        program = MAIN.read_text(encoding="utf-8").replace("PINS = {}", 'PINS = {"lamp": 25}')
        with pytest.raises(EndedError) as ended:
            exec(compile(program, MAIN, "exec"), {})  # noqa: S102 - our own example, as a board would run it
        return str(ended.value)


def test_watchdog_is_fed_often_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While the board waits for the network, too."""
    board = Board(joins_at=30)
    assert board.run(monkeypatch, tmp_path) == "switched off"
    assert all(later - earlier <= OFTEN_S for earlier, later in pairwise([0, *board.fed, board.runs_s]))


def test_watchdog_is_not_fed_when_nobody_ends_what_is_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither before the network is there, nor after."""
    board = Board(joins_at=30)
    board.guarded = False
    board.run(monkeypatch, tmp_path)
    assert board.fed == []


def test_board_starts_anew_when_there_is_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Some radios try once only."""
    board = Board(joins_at=1000)
    assert board.run(monkeypatch, tmp_path) == "anew"
    assert board.now == 60
