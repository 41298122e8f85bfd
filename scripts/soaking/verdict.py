"""What the soak found, as a table, and what Home Assistant's log says about it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
import re
from statistics import median

_LINE = re.compile(r"^\d{4}-\d\d-\d\d \S+ (?P<level>[A-Z]+) \([^)]*\) \[(?P<logger>[^\]]+)\] (?P<text>.*)$")
_BAD_LEVELS = frozenset({"ERROR", "CRITICAL"})
_BLOCKING = "Detected blocking call"
_SLOW = re.compile(r"took too long|is taking over|longer than|took \d+\.\d+ seconds")
# Who says what of a broker that was ended on purpose: the MQTT client, and the answer to the lamp's commands, which are
# judged by themselves.
_MQTT = ("homeassistant.components.mqtt", "paho.mqtt.client")
_CONNECTION = re.compile(r"connect|failed to receive on socket")
_COMMAND = "homeassistant.components.api"
_LAMP = "Error during service call to light."
_OURS = "custom_components.grokmon"
_SHOWN = 5
_GROWTH = 0.01


@dataclass(slots=True)
class Verdict:
    """Collect what was looked at: what, the figure, what is wanted, and whether it is so; None is not judged."""

    rows: list[tuple[str, str, str, bool | None]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Tell whether nothing was found wrong."""
        return all(ok is not False for *_, ok in self.rows)

    def add(self, what: str, figure: object, wanted: str = "", ok: bool | None = None) -> None:
        """Enter a row."""
        self.rows.append((what, str(figure), wanted, ok))

    def none(self, what: str, problems: Sequence[str]) -> None:
        """Enter a row of what there should be none of."""
        shown = "; ".join(problems[:_SHOWN]) + ("; …" if len(problems) > _SHOWN else "")
        self.add(what, f"{len(problems)}: {shown}" if problems else "none", "none", not problems)

    def text(self) -> str:
        """Return the table."""
        said = {True: "holds", False: "**missed**", None: ""}
        return "\n".join(
            (
                "| what | found | wanted | |",
                "| --- | --- | --- | --- |",
                *(f"| {what} | {figure} | {wanted} | {said[ok]} |" for what, figure, wanted, ok in self.rows),
            )
        )


def judge_log(lines: Iterable[str], verdict: Verdict) -> Counter[str]:
    """Judge a log of Home Assistant; return how many warnings and errors each logger gave."""
    errors: list[str] = []
    blocking: list[str] = []
    slow: list[str] = []
    warnings: list[str] = []
    loggers: Counter[str] = Counter()
    for line in lines:
        if (match := _LINE.match(line)) is None:
            continue
        level, logger, text = match["level"], match["logger"], match["text"]
        if level not in {"DEBUG", "INFO"}:
            loggers[f"{level} {logger}"] += 1
        if _BLOCKING in text:
            blocking.append(text)
        elif _SLOW.search(text):
            slow.append(text)
        elif level in _BAD_LEVELS and not _of_a_broker_that_ended(logger, text):
            errors.append(f"{logger}: {text}")
        elif level == "WARNING" and logger.startswith(_OURS):
            warnings.append(text)
    verdict.none("errors in the log, but for those about a broker that was ended", errors)
    verdict.none("warnings of the integration in the log", warnings)
    verdict.none("blocking calls detected", blocking)
    verdict.none("slow callbacks, and what took too long", slow)
    return loggers


def judge_loop(lines: Iterable[str], verdict: Verdict, *, judged: bool) -> None:
    """Judge what the event loop of Home Assistant wrote down: kind, seconds, what, each with a tab in between."""
    steps: list[str] = []
    passes: list[float] = []
    blocks: list[int] = []
    for line in lines:
        kind, took, what = line.split("\t")
        if kind == "collection":
            passes.append(float(took))
            blocks.append(int(what))
        else:
            steps.append(f"{took} s: {what}")
    verdict.none("steps of the event loop of 0.1 s and more", steps)
    third = len(blocks) // 3
    if not third:
        verdict.add("passes of the garbage collector over all objects", len(passes))
        return
    verdict.add("passes of the garbage collector over all objects", f"{len(passes)}, the longest {max(passes):.2f} s")
    middle, last = median(blocks[third : 2 * third]), median(blocks[-third:])
    verdict.add(
        "objects of Python, in blocks: median of the second and the last third",
        f"{middle:.0f}, {last:.0f}",
        f"within {_GROWTH:.0%}" if judged else "",
        last <= middle * (1 + _GROWTH) if judged else None,
    )


def _of_a_broker_that_ended(logger: str, text: str) -> bool:
    if logger == _COMMAND:
        return text.startswith(_LAMP)
    return logger.startswith(_MQTT) and _CONNECTION.search(text) is not None
