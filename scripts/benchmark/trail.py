"""The audit trail: what it costs to write a line and to verify it, against plain JSON lines.

The peer writes the same records as JSON and reads them back: what anybody does who keeps a log for programs.
"""

from collections.abc import Callable
from functools import partial
import json
from pathlib import Path
from secrets import token_bytes
import tempfile
from time import perf_counter
from typing import Any

from custom_components.grokmon.gateway.audit import KEY_BYTES, Key, Position, append, evolve, segment_name, verify

type Costs = dict[str, tuple[list[float], list[float]]]


def costs(lines: int, runs: int) -> Costs:
    """Return µs for each line, ours and the peer's, run by run in turn. Raises RuntimeError for a bad trail."""
    records = [_record(number) for number in range(lines)]
    write: tuple[list[float], list[float]] = ([], [])
    read: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory(prefix="grokmon-bench-") as scratch:
        folder, plain = Path(scratch), Path(scratch) / "plain.jsonl"
        for _ in range(runs):
            first = Key(1, token_bytes(KEY_BYTES))
            write[0].append(_timed(partial(_write, folder, first, records), lines))
            write[1].append(_timed(partial(_write_plain, plain, records), lines))
            read[0].append(_timed(partial(_verify, folder, first, lines), lines))
            read[1].append(_timed(partial(_read, plain), lines))
    return {"write": write, "verify": read}


def _write(folder: Path, first: Key, records: list[dict[str, Any]]) -> None:
    end, secret = Position(), first.secret
    with (folder / segment_name(1)).open("wb") as file:
        for record in records:
            line, end = append(end, secret, record)
            secret = evolve(secret)
            file.write(line)


def _write_plain(plain: Path, records: list[dict[str, Any]]) -> None:
    with plain.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record) + "\n")


def _verify(folder: Path, first: Key, lines: int) -> None:
    report = verify(folder, [first])
    if report.findings or report.keyed != lines:
        raise RuntimeError(report)


def _read(plain: Path) -> None:
    with plain.open("rb") as lines:
        for line in lines:
            json.loads(line)


def _timed(work: Callable[[], object], lines: int) -> float:
    began = perf_counter()
    work()
    return (perf_counter() - began) / lines * 1e6


def _record(number: int) -> dict[str, Any]:
    return {
        "at": "2026-11-26T02:00:00.000Z",
        "mono": number / 1000,
        "boot": "0123456789abcdef",
        "principal": {"caller": "person", "identity": "0123456789abcdef0123456789abcdef"},
        "action": "command",
        "object": {"device": "flower-control", "actuator": "grow_light"},
        "outcome": "allowed",
        "reason": "",
        "cid": "01JDH0000000000000000000AB",
        "details": {"params": {"percent": number % 100}, "lease_s": 300},
    }
