"""The demo as a program uses it: what it prints works, and when it ends nothing is left."""

import asyncio
from collections.abc import AsyncGenerator
import contextlib
import json
import os
from pathlib import Path
import signal
import sys
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped]
import pytest

from tests.demo.example import default_entity_id
from tests.stack.home_assistant import RestClient

_REPOSITORY = Path(__file__).resolve().parents[2]
_WITHIN = 240
_RECORDING = """\
Date,Tair,Rhair,CO2air,HumDef,smoke
2/1/2022 0:00,21.5,55,800,2.4,false
2/1/2022 0:05,21.6,,810,2.4,true
2/1/2022 0:10,,,,,
2/1/2022 0:15,broken,55,800,2.4,false
2/1/2022 0:20,500,55,800,2.4,false
2/1/2022 0:25,nan,55,800,2.4,false
2/1/2022 0:30,40,55,800,2.4,false
"""


@contextlib.asynccontextmanager
async def _demo(*arguments: str | Path, temporary: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run the demo with a folder for temporary files of its own."""
    demo = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.demo",
        *arguments,
        cwd=_REPOSITORY,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_WITHIN):
            yield demo
    finally:
        if demo.returncode is None:
            demo.kill()
            await demo.wait()


async def _read_line(demo: asyncio.subprocess.Process) -> dict[str, Any]:
    assert demo.stdout is not None
    line: dict[str, Any] = json.loads(await demo.stdout.readline())
    return line


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.timeout(2 * _WITHIN)
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
async def test_opens_and_ends(tmp_path: Path, end: signal.Signals) -> None:
    """The token opens Home Assistant, whose devices are live; a signal ends servers and removes their files."""
    async with _demo("--json", temporary=tmp_path) as demo:
        access = await _read_line(demo)
        async with aiohttp.ClientSession() as session:
            rest = RestClient(session, access["url"], access["token"])
            state = await rest.state(default_entity_id("flower-climate/temp_c"))
            diagnostics = await rest.get(f"/api/diagnostics/config_entry/{access['entry_id']}")
        assert state is not None
        assert 12 < float(state["state"]) < 35
        assert len(diagnostics["data"]["devices"]) == 8
        started = psutil.Process(demo.pid).children(recursive=True)
        assert len(started) >= 2
        demo.send_signal(end)
        assert await demo.wait() == 0
    assert [process for process in started if process.is_running()] == []
    assert _names(tmp_path) == []


async def test_replays_a_recording(tmp_path: Path) -> None:
    """Every row of a recording is accounted for: accepted, refused with a code, or empty."""
    recording = tmp_path / "room.csv"
    recording.write_text(_RECORDING, encoding="utf-8")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    async with _demo("--json", "--replay", recording, "--speed", "1e6", temporary=temporary) as demo:
        outcome = await _read_line(demo)
        assert await demo.wait() == 0
    assert outcome == {
        "rows": 7,
        "empty": 1,
        "sent": 6,
        "accepted": 3,
        "refused": {"metric_type": 1, "metric_impossible": 1, "number_not_finite": 1},
        "flagged": {"temp_c": 1, "vpd_kpa": 1},
    }
