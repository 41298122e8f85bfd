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
import signal, sys
import grokmon_device

moment, hangup, ended_by = sys.argv[2:]
del sys.argv[2:]
# A test runner that a shell started in the background ignores Ctrl-C and Ctrl-\\, and so would this.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, getattr(signal, hangup))
moves, sent = [], []
ignore = grokmon_device.ignore_signals

def send(*names):
    # To this thread, not to the program: with a second thread nobody knows when the first one would hear of it.
    for name in names:
        signal.raise_signal(getattr(signal, name))

def end(now):
    if now == moment and not sent:
        sent.append(now)
        send(ended_by)

def apply(*move):
    moves.append(move)
    if len(moves) == 2:
        send("SIGHUP", "SIGTERM", "SIGINT", "SIGQUIT", "SIGTSTP")
        print("at rest")

def run(device, seconds):
    end("running")
    raise OSError("it goes on")

def ignore_signals():
    end("ending")
    ignore()

grokmon_device.apply, grokmon_device.GrokmonDevice.run = apply, run
grokmon_device.ignore_signals = ignore_signals
grokmon_device.main()
"""


# The certificate goes away, as when a disk is taken out, and comes back.
RECONNECTS = """
import json, os, sys
import grokmon_device

settings = json.loads(open(sys.argv[1]).read())
device = grokmon_device.GrokmonDevice(settings)
os.rename(settings["ca_file"], settings["ca_file"] + ".away")
device.run(0.1)
os.rename(settings["ca_file"] + ".away", settings["ca_file"])
device.run(1.5)
"""


def _run(program: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = folder / "settings.json"
    settings.write_text(
        json.dumps(
            {
                "host": "127.0.0.1",
                "port": 1,
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
        [sys.executable, "-c", program, settings, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(DEVICES), str(DEVICES / "python")])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("moment", ["running", "ending"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP"])
def test_signals_leave_nothing_on(name: str, moment: str, tmp_path: Path) -> None:
    """Keys, systemd and a closed terminal end it, also when it just ends; what else they send changes nothing."""
    ended = _run(PROGRAM, tmp_path, moment, "SIG_DFL", name)
    assert ended.stdout == "at rest\n", ended.stderr
    assert ended.returncode == (-signal.SIGINT if name == "SIGINT" else 0), ended.stderr


def test_nohup_outlives_the_terminal(tmp_path: Path) -> None:
    """A signal that whoever started it wants to be ignored is ignored."""
    ended = _run(PROGRAM, tmp_path, "running", "SIG_IGN", "SIGHUP")
    assert ended.stdout == "at rest\n", ended.stderr
    assert "it goes on" in ended.stderr


def test_goes_on_while_the_certificate_cannot_be_read(tmp_path: Path) -> None:
    """What is not there when it connects anew may be there the next time."""
    ended = _run(RECONNECTS, tmp_path)
    first, second = [line for line in ended.stdout.splitlines() if line.startswith("no connection")]
    assert ("No such file" in first, "refused" in second) == (True, True), ended.stderr
