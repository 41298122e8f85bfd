"""The example device in Python leaves nothing on, whatever ends it."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys

import pytest

from .device_simulator.credentials import generate_root_key
from .stack.certificates import ensure_certificates

DEVICES = Path(__file__).parents[1] / "examples" / "devices"
# The lamp is driven at the start, and again when it is brought to rest: then whoever ends the program loses patience.
PROGRAM = """
import os, signal, sys
import grokmon_device

ended_by = sys.argv.pop()
# A test runner that a shell started in the background ignores Ctrl-C, and so would this.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, getattr(signal, sys.argv.pop()))
moves = []

def send(*names):
    for name in names:
        os.kill(os.getpid(), getattr(signal, name))

def apply(*move):
    moves.append(move)
    if len(moves) == 2:
        send("SIGHUP", "SIGTERM", "SIGINT")
        print("at rest")

def run(device, seconds):
    send(ended_by)
    raise OSError("it goes on")

grokmon_device.apply, grokmon_device.GrokmonDevice.run = apply, run
grokmon_device.main()
"""


def _ended_by(name: str, folder: Path, hangup: str = "SIG_DFL") -> subprocess.CompletedProcess[str]:
    settings = folder / "settings.json"
    settings.write_text(
        json.dumps(
            {
                "device_id": "tent-1",
                "key": generate_root_key(),
                "username": "tent-1",
                "password": "secret",
                "ca_file": str(ensure_certificates(folder).ca),
                "actuators": {"lamp": {"kind": "light"}},
            }
        ),
        encoding="utf-8",
    )
    return subprocess.run(  # noqa: S603 - our own example
        [sys.executable, "-c", PROGRAM, settings, hangup, name],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(DEVICES), str(DEVICES / "python")])},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_leave_nothing_on(name: str, tmp_path: Path) -> None:
    """Ctrl-C, systemd and a closed terminal end it, and what they send while it ends changes nothing."""
    ended = _ended_by(name, tmp_path)
    assert ended.stdout == "at rest\n"
    assert "it goes on" not in ended.stderr
    assert ended.returncode == (-signal.SIGINT if name == "SIGINT" else 0)


def test_nohup_outlives_the_terminal(tmp_path: Path) -> None:
    """A signal that whoever started it wants to be ignored is ignored."""
    ended = _ended_by("SIGHUP", tmp_path, hangup="SIG_IGN")
    assert ended.stdout == "at rest\n"
    assert "it goes on" in ended.stderr
