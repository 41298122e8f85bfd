"""The audit trail where processes are killed, the disk is really full and the file system really read-only."""

from collections.abc import Generator
from errno import EROFS
import json
import os
from pathlib import Path
import random
import shutil
import subprocess
import sys
from typing import Any, Final

import pytest

from custom_components import grokmon
from custom_components.grokmon.audit_file import KEY_FILE, AuditFile, Opening
from custom_components.grokmon.gateway import audit
from custom_components.grokmon.gateway.audit import Key, Verdict
from custom_components.grokmon.gateway.checkpoints import Signer

_KILLS: Final = 200
_EARLY: Final = 0.15
_LONGEST: Final = 0.04
_SIGNER: Final = Signer(bytes(32))
_AT: Final = "2026-11-23T18:00:00.000Z"

# The package without Home Assistant, which would take a second to load.
_LOAD: Final = """
import json, sys, time, types
package = types.ModuleType("grokmon")
package.__path__ = [sys.argv[1]]
sys.modules["grokmon"] = package
from pathlib import Path
from grokmon import audit_file
from grokmon.gateway.checkpoints import Signer

audit_file.SEGMENT_BYTES = 20_000
audit_file.CHECKPOINT_LINES = 7
file = audit_file.AuditFile(Path(sys.argv[2]), Signer(bytes(32)))

def record(number):
    return {"at": sys.argv[4], "action": "tick", "details": {"run": sys.argv[3], "number": number, "text": "x" * 100}}
"""
_LOOP: Final = """
opening = file.open(time.time())
print(json.dumps([opening.torn, opening.missing, opening.lagged, opening.forged, opening.new_key]), flush=True)
number = 0
while True:
    batch = [record(number + more) for more in range(1 + number % 3)]
    file.append(batch, time.time())
    for count, each in enumerate(batch, file.end.count - len(batch) + 1):
        print(json.dumps([count, each["details"]["number"]]), flush=True)
    number += len(batch)
    if number % 2:
        file.mark()
        file.write_checkpoint(time.time())
"""
_LIMITED: Final = """
import resource
file.open(time.time())
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
number = 0
try:
    while True:
        file.append([record(number), record(number + 1)], time.time())
        file.mark()
        number += 2
except OSError as error:
    failed = error.errno
before = file.end.count
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
file.append([record(number), record(number + 1)], time.time())
file.mark()
print(json.dumps([failed, before, file.end.count]))
"""


def _start(program: str, folder: Path, run: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _LOAD + program, str(Path(grokmon.__file__).parent), str(folder), str(run), _AT]
    return subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own program


def _begin(folder: Path) -> tuple[AuditFile, Key]:
    file = AuditFile(folder, _SIGNER)
    assert file.open(0) == Opening(new_key=True)
    return file, file.new_key()


def _records(folder: Path) -> dict[int, dict[str, Any]]:
    lines = [line for path in audit.segments(folder) for line in path.read_bytes().split(b"\n")[:-1]]
    return {record["n"]: record for record in map(json.loads, lines)}


def _set_aside(folder: Path) -> int:
    """Return how many bytes of incomplete lines stand beside the trail."""
    return sum(path.stat().st_size for path in folder.glob("*.torn-*"))


def _append(file: AuditFile, number: int) -> None:
    file.append([{"at": _AT, "action": "tick", "details": {"number": number, "text": "x" * 700}}], 0)


def test_killed_two_hundred_times(tmp_path: Path) -> None:
    """Lose no record of which `append` said that it is on the disk, whenever the process dies.

    A kill can end a write between two pages, as a power cut can: what it left of a line that nobody was told of is set
    aside.
    """
    folder = tmp_path / "audit"
    _, first = _begin(folder)
    generator = random.Random(20261123)  # noqa: S311 - repeatable
    said: dict[int, tuple[str, int]] = {}
    lagged = 0
    for run in range(_KILLS):
        before = _set_aside(folder)
        process = _start(_LOOP, folder, run)
        assert process.stdout is not None
        early = run % 8 == 7
        began = b"" if early else process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(generator.uniform(0, _EARLY if early else _LONGEST))
        process.kill()
        lines = (began + process.communicate()[0]).split(b"\n")[:-1]
        if not lines:
            continue
        torn, missing, behind, forged, new_key = json.loads(lines[0])
        assert (run, missing, forged, new_key) == (run, 0, None, False)
        assert (run, torn) == (run, _set_aside(folder) - before)
        lagged += behind > 0
        for count, number in map(json.loads, lines[1:]):
            assert count not in said
            said[count] = (str(run), number)
    file = AuditFile(folder, _SIGNER)
    opening = file.open(0)
    assert (opening.missing, opening.forged, opening.new_key) == (0, None, False)
    report = audit.verify(folder, [first])
    assert (report.findings, report.lines, report.keyed) == ((), file.end.count, file.end.count)
    assert file.verify().result is Verdict.GOOD
    assert audit.main(["verify", str(folder), "--key", first.to_text()]) is Verdict.GOOD
    records = _records(folder)
    there = {count: records[count]["details"] for count in said}
    assert {count: (each["run"], each["number"]) for count, each in there.items()} == said
    assert len(said) > _KILLS / 8
    assert lagged
    assert len(audit.segments(folder)) > 1


def test_file_that_may_not_grow(tmp_path: Path) -> None:
    """Undo what the system wrote of a batch before it refused the rest, and write it once when it may."""
    folder = tmp_path / "audit"
    _, first = _begin(folder)
    out, _ = _start(_LIMITED, folder, 0).communicate(timeout=30)
    failed, before, after = json.loads(out)
    assert (os.strerror(failed), after) == ("File too large", before + 2)
    assert before % 2 == 0
    numbers = [record["details"]["number"] for record in _records(folder).values()]
    assert numbers == list(range(after))
    report = audit.verify(folder, [first])
    assert (report.findings, report.lines, report.keyed) == ((), after, after)


def _as_root(*command: str) -> subprocess.CompletedProcess[str]:
    before = [] if os.geteuid() == 0 else ["sudo", "-n"]
    return subprocess.run([*before, *command], capture_output=True, text=True, check=False)  # noqa: S603 - fixed commands


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """Mount a file system that is soon full."""
    if os.geteuid() != 0 and shutil.which("sudo") is None:
        pytest.skip("mounting a small file system needs root or sudo")
    path = tmp_path / "disk"
    path.mkdir()
    options = f"size=64k,mode=0700,uid={os.getuid()},gid={os.getgid()}"
    mounted = _as_root("mount", "-t", "tmpfs", "-o", options, "grokmon-test", str(path))
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield path
    assert _as_root("umount", str(path)).returncode == 0


def _fill(file: AuditFile, number: int) -> int:
    """Append until there is no more room; return the number of the record that did not fit."""
    with pytest.raises(OSError, match="No space left on device"):  # noqa: PT012 - one of them does not fit
        while True:
            _append(file, number)
            file.mark()
            number += 1
    return number


def test_full_disk(small_disk: Path) -> None:
    """Write whole lines or nothing on a disk that is full, keep the key right, and go on when there is room again."""
    folder = small_disk / "audit"
    file, first = _begin(folder)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(16_384))
    number = _fill(file, 0)
    assert (number > 1, file.end.count) == (True, number)
    assert _fill(file, number) == number
    file.mark()
    with pytest.raises(OSError, match="No space left on device"):
        file.write_checkpoint(0, at_once=True)
    assert audit.verify(folder, [first]).findings == ()
    again = AuditFile(folder, _SIGNER)
    assert again.open(0) == Opening()
    ballast.unlink()
    assert again.write_checkpoint(0, at_once=True) is not None
    more = _fill(again, number)
    assert more > number
    report = audit.verify(folder, [first])
    assert (report.findings, report.lines, report.keyed) == ((), more, more)
    assert [record["details"]["number"] for record in _records(folder).values()] == list(range(more))
    assert again.verify().result is Verdict.GOOD
    again.close()
    file.close()


def test_read_only_file_system(small_disk: Path) -> None:
    """Neither append, mark nor open a trail that cannot be written; read it, and go on when it can be."""
    folder = small_disk / "audit"
    file, first = _begin(folder)
    _append(file, 0)
    file.mark()
    file.close()
    assert _as_root("mount", "-o", "remount,ro", str(small_disk)).returncode == 0
    attempts = (
        lambda: _append(file, 1),
        file.mark,
        lambda: file.write_checkpoint(0, at_once=True),
        lambda: AuditFile(folder, _SIGNER).open(0),
    )
    for attempt in attempts:
        with pytest.raises(OSError, match=os.strerror(EROFS)):
            attempt()
    assert file.verify().result is Verdict.GOOD
    assert len(list(file.lines())) == 1
    assert _as_root("mount", "-o", "remount,rw", str(small_disk)).returncode == 0
    _append(file, 1)
    file.mark()
    file.close()
    report = audit.verify(folder, [first])
    assert (report.findings, report.lines, report.keyed) == ((), 2, 2)
    assert sorted(path.name for path in folder.iterdir()) == [audit.segment_name(1), KEY_FILE]
