"""One target: its corpus, its limits, and libFuzzer, which ends the process."""

from contextlib import redirect_stderr, suppress
from io import StringIO
import json
from pathlib import Path
import resource
import sys
from time import process_time
from typing import Any, Final, Never

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore] # lives beside the project's packages

from .json_mutator import JsonMutator

# It tells of every module.
with redirect_stderr(StringIO()), atheris.instrument_imports(include=["custom_components.grokmon"]):
    from .targets import BY_NAME

NAMES: Final = tuple(BY_NAME)
GROWTH_MB: Final = 300
SLOW_S: Final = 2.0
# By the clock on the wall, which a busy machine makes run fast: only what never ends is ended by it.
_ENDLESS_S: Final = 60
_MAX_LENGTH: Final = 16_384


class SlowError(Exception):
    """A parser took longer than anybody may wait."""


def fuzz(name: str, corpus: Path, prefix: str, seconds: int, given: Path | None) -> Never:
    """Fuzz a target until it breaks or the time is over, or run it once with an input. It ends the process."""
    target = BY_NAME[name]

    def once(data: bytes) -> None:
        begun = process_time()
        with suppress(*target.refusals):
            target.run(data)
        if process_time() - begun > SLOW_S:
            raise SlowError(f"{process_time() - begun:.1f} s for {len(data)} bytes")

    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = corpus.with_suffix(".dict")
    words.write_text("".join(f'"{_escaped(json.dumps(word)[1:-1])}"\n' for word in target.words), encoding="ascii")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    options = [
        f"-artifact_prefix={prefix}",
        # Which must not be empty.
        *([f"-dict={words}"] if target.words else []),
        f"-max_len={_MAX_LENGTH}",
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={used + GROWTH_MB}",
        f"-timeout={_ENDLESS_S}",
        "-print_final_stats=1",
    ]

    def as_bytes(data: bytes, most: int) -> bytes:
        # Looked up when it is called: Fuzz() puts another one in its place.
        changed: bytes = atheris.Mutate(data, most)
        return changed

    mutator: dict[str, Any] = {"custom_mutator": JsonMutator(target.words, as_bytes)} if target.tree else {}
    atheris.Setup([sys.argv[0], *options, str(given or corpus)], once, **mutator)
    atheris.Fuzz()
    raise RuntimeError("libFuzzer ends the process by itself")


def _escaped(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())
