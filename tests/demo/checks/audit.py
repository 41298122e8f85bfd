"""The audit trail holds what was decided, and shows when somebody changed it."""

import asyncio
from collections import Counter
import json
from pathlib import Path
import shutil
import sys
import tempfile

from tests.demo.grow_room import GrowRoom
from tests.demo.installation import Refusal
from tests.demo.report import Report
from tests.trail import by_code, flat

_REPOSITORY = Path(__file__).resolve().parents[3]
_VERIFIER = _REPOSITORY / "custom_components" / "grokmon" / "gateway" / "audit.py"
_GOOD, _ALTERED, _CUT = 0, 1, 2


async def check_service(room: GrowRoom, report: Report) -> None:
    """Have the gateway verify its trail."""
    answer = await room.installation.verify_audit()
    report.add(
        f"the gateway finds its {answer['entries']} audit entries unaltered",
        [] if answer["ok"] and answer["result"] == "good" else [json.dumps(answer)],
    )


async def check_file(file: Path, expected: Counter[Refusal], report: Report) -> None:
    """Verify the file once Home Assistant has ended, with nothing but Python, and copies of it that were spoilt."""
    lines = _lines(file)
    middle = len(lines) // 2
    edited = lines[middle].replace(b'"at":"2', b'"at":"3', 1)
    spoilt = {
        "edited": ([*lines[:middle], edited, *lines[middle + 1 :]], _ALTERED),
        "shortened": ([*lines[:middle], *lines[middle + 1 :]], _CUT),
        "cut": (lines[:-1], _CUT),
    }
    results = {"as it is": (await _verify(file), _GOOD)}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (content, wanted) in spoilt.items():
            results[name] = await _verify(_copy(file, Path(scratch) / name, content)), wanted
    report.add(
        "audit.py, run by itself, finds the trail good, an edited line altered, a missing line and a missing end cut",
        [f"{name}: exit code {code}, not {wanted}" for name, (code, wanted) in results.items() if code != wanted],
    )
    _check_counts(lines, expected, report)


def _check_counts(lines: list[bytes], expected: Counter[Refusal], report: Report) -> None:
    audited: Counter[Refusal] = Counter()
    entries = [flat(json.loads(line)) for line in lines]
    for entry in entries:
        if entry["event"] in {"refused", "refused_again"}:
            audited[entry.get("device"), entry["reason"]] += entry.get("count", 1)
    written = sum(entry["event"] in {"refused", "refused_again"} for entry in entries)
    found, wanted = by_code(audited), by_code(expected)
    problems = [
        f"{code}: {found[code]} audited, {wanted[code]} expected"
        for code in found | wanted
        if found[code] != wanted[code]
    ]
    report.add(f"{audited.total()} refusals are in the audit trail, in {written} of its {len(lines)} lines", problems)


def _lines(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines(keepends=True)


def _copy(file: Path, folder: Path, lines: list[bytes]) -> Path:
    """Write other lines beside a copy of the checkpoints."""
    shutil.copytree(file.parent, folder)
    copy = folder / file.name
    copy.write_bytes(b"".join(lines))
    return copy


async def _verify(file: Path) -> int:
    # Isolated and without site packages: there is no Home Assistant to import.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", _VERIFIER, "verify", file.parent, stdout=asyncio.subprocess.DEVNULL
    )
    return await process.wait()
