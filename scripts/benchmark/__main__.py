"""Run the bench and print its ratios."""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import platform
from statistics import median
import sys

from homeassistant.const import __version__ as home_assistant_version

from tests.stack.brokers import MosquittoBroker

from .commands import p99, round_trips
from .measure import Stand
from .modes import Grokmon, MqttDiscovery, MqttSensors
from .payloads import Metrics, changed_share, changing, recorded
from .trail import costs

_RECORDING = Path("tests/data/agc2022_reference_climate.csv")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    runs: int
    devices: int
    messages: int
    start_devices: int
    commands: int
    lines: int


FULL = Size(runs=3, devices=200, messages=20_000, start_devices=1000, commands=400, lines=100_000)
SHORT = Size(runs=1, devices=50, messages=4000, start_devices=100, commands=40, lines=10_000)


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one comparison, run by run, and the ratio that is wanted at most."""

    title: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float]
    wanted: float

    @property
    def ratio(self) -> float:
        """Return the ratio of the medians."""
        return median(self.ours) / median(self.theirs)

    def line(self) -> str:
        """Return the comparison as a line of a table."""
        verdict = "holds" if self.ratio <= self.wanted else f"missed by {self.ratio / self.wanted - 1:.0%}"
        return (
            f"| {self.title} | {_spread(self.ours)} {self.unit} | {_spread(self.theirs)} {self.unit} "
            f"| **{self.ratio:.2f}** | {self.wanted:.2f} | {verdict} |"
        )


async def per_message(size: Size) -> list[Result]:
    """Compare the processor time per message, run by run in turn."""
    changes = [changing(index // size.devices) for index in range(size.messages)]
    wanted = {"all six values change": 0.62, "forged, refused": 0.20}
    reports = {"all six values change": changes, "forged, refused": changes}
    for every, reports_per_row in (("minute", 5), ("row", 1)):
        rows = recorded(_RECORDING, reports_per_row=reports_per_row)
        title = f"greenhouse rows, a report a {every}, {changed_share(rows):.0%} of the values change"
        reports[title], wanted[title] = _dealt(rows, size), 0.35
    own, peer = Grokmon(size.devices), MqttSensors(size.devices)
    ours: dict[str, list[float]] = {title: [] for title in reports}
    theirs: dict[str, list[float]] = {title: [] for title in reports}
    async with Stand.open(own) as own_stand, Stand.open(peer) as peer_stand:
        for _ in range(size.runs):
            for stand, figures in ((own_stand, ours), (peer_stand, theirs)):
                costs = await stand.costs_per_message(
                    {
                        title: (own.forge if stand is own_stand and "forged" in title else stand.mode.report, sent)
                        for title, sent in reports.items()
                    }
                )
                for title, cost in costs.items():
                    figures[title].append(cost)
                    _say(f"{stand.mode.name}, {title}: {cost:.0f} µs")
    return [Result(f"per message, {title}", "µs", ours[title], theirs[title], wanted[title]) for title in reports]


async def starts(size: Size) -> list[Result]:
    """Compare what a start with many devices costs beyond a start with none."""
    cpu: dict[str, list[float]] = {"ours": [], "theirs": []}
    memory: dict[str, list[float]] = {"ours": [], "theirs": []}
    devices = size.start_devices
    async with (
        Stand.open(MqttSensors(0)) as empty,
        Stand.open(Grokmon(devices)) as own,
        Stand.open(MqttDiscovery(devices)) as peer,
    ):
        await peer.announce()
        # The first start fills the registries and the caches of compiled code.
        for stand in (empty, own, peer):
            await stand.start()
        for _ in range(size.runs):
            nothing = await empty.start()
            for key, stand in (("ours", own), ("theirs", peer)):
                start = await stand.start()
                cpu[key].append(start.cpu - nothing.cpu)
                memory[key].append((start.memory - nothing.memory) / (start.states - nothing.states) / 1024)
                _say(
                    f"start, {stand.mode.name}: {cpu[key][-1]:.2f} s, {memory[key][-1]:.1f} KiB, {start.states} states"
                )
    return [
        Result(f"start of {devices} devices with 6 metrics, processor time", "s", cpu["ours"], cpu["theirs"], 0.40),
        Result("memory per entity", "KiB", memory["ours"], memory["theirs"], 0.50),
    ]


async def commands(size: Size) -> list[Result]:
    """Compare the round trip of a command; the slowest in a hundred is told, not judged."""
    ours, theirs = await round_trips(size.commands)
    _say(f"command, one in a hundred takes longer than: {p99(ours):.1f} ms, MQTT switch {p99(theirs):.1f} ms")
    # On and off take turns: only what energises waits until the disk has the audit trail.
    return [
        Result("command, from the call to the reported state", "ms", ours, theirs, 1.5),
        Result("of these, on: after the audit trail is on the disk", "ms", ours[::2], theirs[::2], 1.5),
        Result("of these, off", "ms", ours[1::2], theirs[1::2], 1.5),
    ]


def trail(size: Size) -> list[Result]:
    """Compare the audit trail with plain JSON lines; an inspector wants 50,000 lines a second, 20 µs each."""
    found = costs(size.lines, size.runs)
    _say(f"audit trail, verified: {1e6 / median(found['verify'][0]):,.0f} lines/s")
    return [
        Result("audit trail, writing a line, against a line of JSON", "µs", *found["write"], 3.0),
        Result("audit trail, verifying a line with its key, against reading JSON", "µs", *found["verify"], 3.0),
    ]


async def _run(size: Size) -> list[Result]:
    # First: nothing else runs yet.
    return [*trail(size), *await per_message(size), *await starts(size), *await commands(size)]


def _dealt(rows: Sequence[Metrics], size: Size) -> list[Metrics]:
    """Return the reports in the order of sending: every device plays the recording from a place of its own."""
    return [
        rows[(index % size.devices * len(rows) // size.devices + index // size.devices) % len(rows)]
        for index in range(size.messages)
    ]


def _spread(figures: Sequence[float]) -> str:
    return f"{median(figures):.3g} ({min(figures):.3g} to {max(figures):.3g})"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = f"Python {platform.python_version()}, Home Assistant {home_assistant_version}"
    return f"{os.cpu_count()} processors, {model}, {versions}"


def main() -> int:
    """Print the table; the exit code says whether every ratio holds, unless only a short run was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="a small run: it shows that the bench works, not the ratios"
    )
    arguments = parser.parse_args()
    if MosquittoBroker.find() is None:
        _say("the bench needs Mosquitto")
        return 1
    size = SHORT if arguments.short else FULL
    results = asyncio.run(_run(size))
    print(f"Machine: {_machine()}. Medians (lowest to highest) of {size.runs}.\n")
    print("| what | grokmon | the peer | ratio | at most | |")
    print("| --- | --- | --- | --- | --- | --- |")
    for result in results:
        print(result.line())
    if arguments.short:
        print("\nA short run shows that the bench works; its figures are too small to compare.")
    return 0 if arguments.short or all(result.ratio <= result.wanted for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
