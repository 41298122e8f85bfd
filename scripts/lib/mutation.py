#!/usr/bin/env python3
"""Run mutmut in the current folder, or print what it found: a table of the modules, and the survivors as diffs.

Run by scripts/mutate, with its Python: `mutation.py run`, then `mutation.py report`, which ends with 1 where a module
has a score below 85 %.
"""

from collections.abc import Iterable
from dataclasses import dataclass
import json
import os
from pathlib import Path
import sys
from typing import Final

# Only the environment of scripts/mutate has mutmut.
from mutmut.__main__ import cli  # type: ignore[import-not-found]
from mutmut.mutation.diff_apply import get_diff_for_mutant  # type: ignore[import-not-found]
from mutmut.runners.harness import BadTestExecutionCommandsException, PytestRunner  # type: ignore[import-not-found]
from mutmut.stats import status_by_exit_code  # type: ignore[import-not-found]
from mutmut.workers import isolation  # type: ignore[import-not-found]

PACKAGE: Final = "custom_components.grokmon.gateway."
# What their functions make, they make when they are imported.
TABLES: Final = {"catalog", "zones"}
LEAST: Final = 0.85
NOTICED: Final = {"killed", "timeout", "segfault"}
FAILED: Final = 1
NOT_COLLECTED: Final = 2


class Runner(PytestRunner):  # type: ignore[misc] # as above
    """Run tests by the names of their functions, and all of the module itself as if they were new.

    The parameters in the identifiers differ between two runs where they hold keys or addresses. A test that pytest
    cannot find is an error, which mutmut takes for a test that noticed the change. And what the tests of a module make
    when they are imported has to be made by the changed code.
    """

    def _pytest_args_regular_run(self, tests: Iterable[str]) -> list[str]:
        names = sorted({test.partition("[")[0] for test in tests})
        return ["-x", "-q", *(names or self._pytest_add_cli_args_test_selection)]

    def run_tests(self, *, mutant_name: str | None, tests: Iterable[str]) -> int:
        """Return pytest's exit code, but that of a failure where changed code keeps tests from being imported."""
        if mutant_name is None:
            return int(super().run_tests(mutant_name=None, tests=tests))
        module, _, _ = mutant_name.removeprefix(PACKAGE).partition(".")
        sys.modules.pop(f"tests.gateway.test_{module}", None)
        if module in TABLES:
            sys.modules.pop(f"{PACKAGE}{module}", None)
        own = f"tests/gateway/test_{module}.py"
        if Path("mutants", own).exists():
            tests = [own, *(test for test in tests if not test.startswith(f"{own}::"))]
        try:
            code = int(super().run_tests(mutant_name=mutant_name, tests=tests))
        except BadTestExecutionCommandsException:
            return FAILED
        return FAILED if code == NOT_COLLECTED else code


@dataclass(frozen=True, kw_only=True)
class Module:
    """What became of the mutants of a module."""

    source: Path
    statuses: dict[str, str]

    @property
    def survivors(self) -> list[str]:
        """Return the mutants that no test noticed."""
        return [name for name, status in self.statuses.items() if status not in NOTICED]

    @property
    def score(self) -> float:
        """Return the share of mutants that a test noticed."""
        return 1 - len(self.survivors) / len(self.statuses)

    def row(self) -> str:
        """Return the line of the table."""
        survived = len(self.survivors)
        late = sum(status == "timeout" for status in self.statuses.values())
        return f"{self.source.stem:<18}{len(self.statuses) - survived:>7}{late:>9}{survived:>10}{self.score:>8.1%}"


def read(root: Path) -> list[Module]:
    """Return the modules that have mutants, in the order of their names."""
    modules = []
    for path in sorted(root.rglob("*.py.meta")):
        codes: dict[str, int | None] = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
        if codes:
            statuses = {name: status_by_exit_code[code] for name, code in codes.items()}
            modules.append(Module(source=path.relative_to(root).with_suffix(""), statuses=statuses))
    return modules


def report() -> int:
    """Print the survivors, then the table."""
    modules = read(Path("mutants"))
    for module in modules:
        for name in module.survivors:
            print(f"# {name.removeprefix(PACKAGE)}: {module.statuses[name]}")
            print(get_diff_for_mutant(name, path=module.source))
    print(f"{'module':<18}{'killed':>7}{'by time':>9}{'survived':>10}{'score':>8}")
    for module in modules:
        print(module.row())
    return int(not modules or any(module.score < LEAST for module in modules))


def run() -> None:
    """Run mutmut. Naming the mutants makes it try the selected tests without a change first."""
    isolation.PytestRunner = Runner
    cli(["run", "--max-children", str(os.cpu_count() or 1), f"{PACKAGE}*"])


if __name__ == "__main__":
    if sys.argv[1:] == ["report"]:
        sys.exit(report())
    run()
