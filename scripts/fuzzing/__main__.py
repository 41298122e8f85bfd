"""Fuzz the targets one after the other, and tell what came of it."""

import argparse
from dataclasses import dataclass
import os
from pathlib import Path
import re
import sys
import tempfile
from typing import Final

from . import run

_FOLDER: Final = Path("artifacts/fuzz")
_SECONDS: Final = 600
_COVERED: Final = re.compile(r"\bcov: ([0-9]+) ft: ([0-9]+) corp: ([0-9]+)")
_EXECUTED: Final = re.compile(r"number_of_executed_units: ([0-9]+)")
_FAILURE: Final = re.compile(r"^(?:\w[\w.]*(?:Error|Exception)\b.*|.*ERROR: libFuzzer: .*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a target: how often it ran, what it reached, and how it broke."""

    name: str
    executed: int
    reached: str
    failure: str

    @classmethod
    def of(cls, name: str, code: int, log: str) -> Outcome:
        """Return the outcome that the log of a run tells."""
        executed = _EXECUTED.findall(log)
        reached = _COVERED.findall(log)
        found = _FAILURE.search(log)
        failure = "" if code == 0 else (found[0].strip() if found else f"exit code {code}")
        edges = "{} edges, {} features, {} inputs".format(*reached[-1]) if reached else "nothing"
        return cls(name, int(executed[-1]) if executed else 0, edges, failure)


def fuzz(name: str, seconds: int, kept: Path | None, given: Path | None) -> Outcome:
    """Fuzz one target in a process of its own: to import everything again would take longer than some targets."""
    log = _FOLDER / f"{name}.log"
    with tempfile.TemporaryDirectory() as scratch, log.open("wb") as file:
        corpus = (kept or Path(scratch)) / name
        corpus.mkdir(parents=True, exist_ok=True)
        child = os.fork()
        if child == 0:
            os.dup2(file.fileno(), sys.stdout.fileno())
            os.dup2(file.fileno(), sys.stderr.fileno())
            run.fuzz(name, corpus, f"{_FOLDER}/{name}-", seconds, given)
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return Outcome.of(name, code, log.read_text(encoding="utf-8", errors="replace"))


def main() -> int:
    """Return 1 when a target broke."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=_SECONDS, help=f"for each target, by default {_SECONDS}")
    parser.add_argument("--corpus", type=Path, help="a folder for the inputs that reached something, to go on from")
    parser.add_argument("--input", type=Path, help="run one target with this file, and nothing else")
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(run.NAMES))
    options = parser.parse_args()
    names: list[str] = options.targets or list(run.NAMES)
    if unknown := set(names) - set(run.NAMES):
        parser.error(f"no target {min(unknown)}")
    if options.input is not None and len(names) != 1:
        parser.error("--input goes with one target")
    _FOLDER.mkdir(parents=True, exist_ok=True)
    broken = 0
    for name in names:
        outcome = fuzz(name, options.seconds, options.corpus, options.input)
        broken += bool(outcome.failure)
        verdict = f"BROKEN: {outcome.failure}" if outcome.failure else "good"
        print(f"{name}: {outcome.executed} runs, {outcome.reached}: {verdict}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
