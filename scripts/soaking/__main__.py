"""Run the soak and print what it found."""

import argparse
import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
import contextlib
from dataclasses import dataclass, field
from functools import partial
import gc
from pathlib import Path
from statistics import mean, median, quantiles
import sys
import tempfile
import time
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.demo.installation import Installation
from tests.demo.intruder import ACCOUNT
from tests.demo.plan import STOLEN, ZONES
from tests.live.observation import verify_alone
from tests.stack.brokers import DynamicMosquittoBroker
from tests.stack.home_assistant import ApiError, CommandFailedError

from .crowd import LAMP, METRICS, RATE_LIMIT, Crowd, enrol_crowd
from .incidents import Forger, Incidents, Lamp
from .ledger import ORDINARY, REVOKED, WATCHER, Ledger
from .verdict import Verdict, judge_log, judge_loop
from .watch import Inventory, Watch, allocate_as_the_image, slope, stale, watch_loops

_SAMPLE_EVERY_S = 10.0
_STALE_S = 15.0
_TELL_EVERY = 6
_TURNS = 5
_MB = 1e6
# Too short a run shows how everything warms up.
_JUDGED_FROM_MIN = 20
_GROWTH_MB = 1.0
_STAGING_MB = 220.0
_AUDIT_MB_PER_HOUR = 10.0
# Every value of every sensor on the disk would measure the disk.
_CONFIGURATION = {"recorder": {"commit_interval": 1, "exclude": {"entity_globs": ["sensor.*_soak_*"]}}}

type Job = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Size:
    """How long, how many, how fast."""

    seconds: float
    devices: int
    rate: float


@dataclass(slots=True)
class Soak:
    """Everything that runs."""

    installation: Installation
    size: Size
    crowd: Crowd
    ledger: Ledger
    incidents: Incidents
    lamp: Lamp
    forger: Forger
    watch: Watch
    problems: list[str] = field(default_factory=list)
    answers_ms: list[float] = field(default_factory=list)
    """How long Home Assistant took to tell a state."""

    async def run(self) -> None:
        """Send, and let things happen, for the time."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.crowd.send_for_ever(), name="crowd"),
                group.create_task(self.lamp.switch_for_ever(), name="lamp"),
                group.create_task(self.forger.forge_for_ever(), name="forger"),
                group.create_task(self._sample_for_ever(), name="watch"),
            ]
            await self.ledger.balance()
            loop = asyncio.get_running_loop()
            begun = loop.time()
            for due, name, job in schedule(self):
                await asyncio.sleep(max(0.0, begun + due - loop.time()))
                try:
                    await job()
                except (TimeoutError, OSError, ApiError, CommandFailedError) as error:
                    self.problems.append(f"{name}: {error!r}")
                    _say(f"{name}: {error!r}")
            await asyncio.sleep(max(0.0, begun + self.size.seconds - loop.time()))
            for task in tasks[1:]:
                task.cancel()
            await self.ledger.balance()
            tasks[0].cancel()

    async def _sample_for_ever(self) -> None:
        entities = await self.installation.entity_ids()
        sensors = [entities[f"{member.device_id}/{METRICS[0]}"] for member in self.crowd.members]
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += _SAMPLE_EVERY_S
            await asyncio.sleep(max(0.0, due - loop.time()))
            excused = self.incidents.excused
            # Some at a time: to ask for all states at once would be the largest load of all.
            turn = len(self.watch.samples) % _TURNS
            states = []
            for sensor in sensors[turn::_TURNS]:
                asked = loop.time()
                states.append(await self.installation.hass.rest.state(sensor))
                self.answers_ms.append(1000 * (loop.time() - asked))
            old = 0 if excused or self.incidents.excused else stale(states, _STALE_S)
            backlog = await self._backlog()
            self.crowd.pace(backlog)
            # Closed connections of the devices hold on to their files until then.
            gc.collect()
            sample = self.watch.look(old)
            if len(self.watch.samples) % _TELL_EVERY == 0 or old:
                _say(
                    f"minute {sample.at / 60:.1f}: {sample.memory_mb:.1f} MB, {sample.threads} threads, "
                    f"{sample.files} files, {sample.cpu_percent:.0f} % of a processor, {old} old states, "
                    f"{self.crowd.taken} readings, {self.crowd.rate:.0f} a second, {backlog} behind, "
                    f"machine {psutil.cpu_percent():.0f} %"
                )

    async def _backlog(self) -> int:
        """Return how many messages the broker has taken and the gateway has not, since they last were quits."""
        if self.ledger.last is None:
            return 0
        acknowledged = self.crowd.acknowledged
        now = self.ledger.moment(await self.installation.diagnostics())
        return (acknowledged - now.taken) - (self.ledger.last.acknowledged - self.ledger.last.taken)


def schedule(soak: Soak) -> list[tuple[float, str, Job]]:
    """Return what happens when, in seconds from the beginning."""
    total, incidents, members = soak.size.seconds, soak.incidents, soak.crowd.members
    broker_every, credentials_every = min(240.0, total / 4), total / 6
    jobs: list[tuple[float, str, Job]] = []

    def every(seconds: float, first: float, name: str, make: Callable[[int], Job]) -> None:
        due, number = first, 0
        while due < total - seconds / 3:
            jobs.append((due, name, make(number)))
            due, number = due + seconds, number + 1

    every(
        broker_every,
        broker_every,
        "broker",
        lambda number: partial(incidents.end_broker, ("stop", "kill")[number % 2]),
    )
    every(30.0, 20.0, "restart", lambda _: incidents.restart_device)
    every(credentials_every, credentials_every * 0.7, "rotation", lambda _: partial(incidents.rotate, members[1]))
    every(credentials_every, credentials_every * 0.4, "revocation", lambda _: partial(incidents.revoke, members[2]))
    return sorted(jobs, key=lambda job: job[0])


async def soak(size: Size, folder: Path, verdict: Verdict) -> None:
    """Set everything up, let it run, take it down, and judge what was found."""
    steps = watch_loops(folder)
    verdict.add("memory is given out by", allocate_as_the_image())
    installation = Installation(folder, DynamicMosquittoBroker, [ACCOUNT, WATCHER], _CONFIGURATION)
    hass = installation.hass
    async with installation:
        empty = Inventory.of(hass.process.pid, installation.broker.port)
        await installation.add_gateway(ZONES)
        await installation.let_it_be_day()
        for change in (_lift_the_rate(installation), installation.add_accounts()):
            await change
            # It starts anew by itself; this returns when it has.
            await hass.rest.post(f"/api/config/config_entries/entry/{installation.entry_id}/reload")
        _say(f"enrolling {size.devices} devices")
        crowd = await enrol_crowd(installation, size.devices, size.rate)
        stolen = await installation.enrol(STOLEN, rate_limit=RATE_LIMIT)
        await crowd.start()
        _say("everybody has a session")
        ledger = Ledger(installation, crowd)
        incidents = Incidents(installation, crowd, ledger, _say)
        light = (await installation.entity_ids())[f"{LAMP.device_id}/output_grow_light"]
        forger = Forger(installation, stolen, crowd.members[0], crowd.members[4], _say)
        lamp = Lamp(hass, light, incidents)
        watch = Watch(hass.process.pid, hass.config / "grokmon")
        running = Soak(installation, size, crowd, ledger, incidents, lamp, forger, watch)
        try:
            await running.run()
        finally:
            await crowd.stop()
        watch.write(folder / "samples.csv")
        await _judge(running, verdict)
        await hass.websocket.call("config_entries/disable", entry_id=installation.entry_id, disabled_by="user")
        await _judge_unloaded(installation, empty, verdict)
    code = await verify_alone(installation.audit_file)
    verdict.add("audit trail, verified by audit.py alone", f"exit code {code}", "0", code == 0)
    lines = hass.process.log.read_text(encoding="utf-8").splitlines()
    for logger, count in judge_log(lines, verdict).items():
        _say(f"log: {count} times {logger}")
    lines = steps.read_text(encoding="utf-8").splitlines()
    judge_loop(lines, verdict, judged=size.seconds >= 60 * _JUDGED_FROM_MIN)


async def _judge(running: Soak, verdict: Verdict) -> None:
    crowd, ledger, forger, lamp = running.crowd, running.ledger, running.forger, running.lamp
    samples, size, last = running.watch.samples, running.size, running.ledger.last
    if last is None:
        raise RuntimeError("there was no balance")
    rate = crowd.taken / crowd.busy_s
    totals = [member.totals for member in crowd.members]
    sent, acked = sum(each.sent for each in totals), sum(each.acked for each in totals)
    verdict.add("time", f"{size.seconds / 60:.0f} min, {len(crowd.members)} devices")
    # Slower is the machine, not the gateway: whoever wants the full rate keeps it free.
    verdict.add("readings a second while devices send", f"{rate:.0f}", f"{size.rate:.0f} on an idle machine")
    for what, count in sorted(running.incidents.counts.items()):
        verdict.add(what, count)
    verdict.none("incidents that did not end as they should", running.problems)
    accepted = sum(last.accepted[member.device_id] for member in crowd.members)
    verdict.add("messages sent, acknowledged, accepted", f"{sent}, {acked}, {accepted}")
    verdict.add("of these, sent again", sum(each.resent for each in totals))
    verdict.add("dropped by devices whose memory was full", sum(each.dropped for each in totals))
    verdict.add("lost when a device restarted", sum(member.left for member in crowd.members))
    missing = [f"{count} of {name}" for name, count in ledger.lost.items() if count]
    verdict.none(f"acknowledged and lost, between {ledger.moments} balances", missing)
    verdict.add("accepted more often than sent", ledger.surplus, "0", ledger.surplus == 0)
    for how, lost in ledger.with_broker.items():
        verdict.add(f"acknowledged, and gone with a broker at its {how}", f"{sum(lost)} in {len(lost)}: {lost}")
    back = [f"{seconds:.0f}" for seconds in running.incidents.back_s]
    verdict.add("seconds until every device was in session again", ", ".join(back))
    _judge_refused(running, verdict)
    verdict.add("forged messages", forger.expected.total(), "some", forger.expected.total() > 0)
    verdict.add(
        "lamp switched, of these in vain around a restart",
        f"{lamp.switched + lamp.excused + len(lamp.failures)}, {lamp.excused}",
    )
    verdict.none("lamp not switched otherwise", lamp.failures)
    old = [f"{sample.stale} at minute {sample.at / 60:.1f}" for sample in samples if sample.stale]
    verdict.none(f"states older than {_STALE_S:.0f} s outside restarts", old)
    _judge_samples(running, verdict)
    audit = await running.installation.verify_audit()
    verdict.add(
        "audit trail, verified by the service", f"{audit['result']}, {audit['entries']} lines", "good", audit["ok"]
    )


def _judge_refused(running: Soak, verdict: Verdict) -> None:
    forger, last = running.forger, running.ledger.last
    revoked = running.crowd.members[2].device_id
    honest: Counter[str] = Counter()
    bad = []
    for (name, code), count in last.refused.items() if last else ():
        left = count - forger.expected[name, code]
        if left <= 0 or name == STOLEN.device_id:
            continue
        honest[code] += left
        allowed = code in ORDINARY or (name == revoked and code in REVOKED) or left <= forger.unsure[code]
        if not allowed:
            bad.append(f"{left} of {name}: {code}")
    verdict.add("refused of honest devices, by code", dict(honest) or "none")
    verdict.none("of these, for another reason than a restart or a revocation", bad)
    missing = [
        f"{expected - last.refused[name, code]} of {name}: {code}"
        for (name, code), expected in forger.expected.items()
        if last and name is not None and last.refused[name, code] < expected
    ]
    verdict.add("forged and not seen, at restarts of the broker", "; ".join(missing) or "none")


def _judge_samples(running: Soak, verdict: Verdict) -> None:
    samples, hours = running.watch.samples, running.size.seconds / 3600
    third = max(1, len(samples) // 3)
    long = running.size.seconds >= 60 * _JUDGED_FROM_MIN
    first, last = samples[:third], samples[-third:]
    memory = [sample.memory_mb for sample in samples]
    growth = slope(samples)
    verdict.add("memory: first, highest, last", f"{memory[0]:.1f}, {max(memory):.1f}, {memory[-1]:.1f} MB")
    verdict.add(
        "its growth over the last two thirds, in 10 min",
        f"{growth:+.2f} MB",
        f"< {_GROWTH_MB:g} MB",
        growth < _GROWTH_MB if long else None,
    )
    for what, name in (("threads", "threads"), ("open files", "files")):
        early, late = (median(getattr(sample, name) for sample in part) for part in (first, last))
        most = max(getattr(sample, name) for sample in samples)
        verdict.add(
            f"{what}: median of the first and the last third, most",
            f"{early:g}, {late:g}, {most}",
            "no growth",
            late <= early + 2,
        )
    cpu = [sample.cpu_percent for sample in samples]
    verdict.add("processor time of Home Assistant: mean, most in 10 s", f"{mean(cpu):.0f}, {max(cpu):.0f} %")
    answers = quantiles(running.answers_ms, n=100)
    verdict.add(
        "Home Assistant tells a state: median, one in a hundred, longest",
        f"{answers[49]:.0f}, {answers[98]:.0f}, {max(running.answers_ms):.0f} ms",
    )
    staging, audit = samples[-1].staging_bytes / _MB, samples[-1].audit_bytes / _MB
    most = _AUDIT_MB_PER_HOUR * max(hours, 0.1)
    verdict.add("staging on the disk", f"{staging:.1f} MB", f"≤ {_STAGING_MB:g} MB", staging <= _STAGING_MB)
    verdict.add("audit trail on the disk", f"{audit:.2f} MB", f"≤ {most:.1f} MB", audit <= most)


async def _judge_unloaded(installation: Installation, empty: Inventory, verdict: Verdict) -> None:
    """See what is left once the integration is unloaded, a moment later: connections take a moment to end."""
    deadline = time.monotonic() + 10
    while True:
        now = Inventory.of(installation.hass.process.pid, installation.broker.port)
        threads = now.threads - empty.threads
        if (not now.ours and now.connections <= empty.connections and not threads) or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    verdict.none("unloaded: tasks of the integration left", now.ours)
    verdict.none("unloaded: threads left, but for Home Assistant's pool", list(threads.elements()))
    verdict.add(
        "unloaded: connections to the broker, before and after",
        f"{empty.connections}, {now.connections}",
        "the same",
        now.connections == empty.connections,
    )
    _say(f"tasks that were not there before: {dict(now.tasks - empty.tasks)}")


async def _lift_the_rate(installation: Installation) -> None:
    """Let a person switch more often than people do."""
    flows = installation.hass.options_flows
    flow = await flows.start(installation.entry_id)
    await flows.submit(flow["flow_id"], {"next_step_id": "limits"})
    await flows.submit(flow["flow_id"], {"caller": "person"})
    limits: dict[str, Any] = {"rate": 60, "hold_s": 0, "max_percent": 100, "min_dose_ml": 0, "max_dose_ml": 1000}
    await flows.submit(flow["flow_id"], {**limits, "min_inject_s": 1, "max_inject_s": 120})


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Print the table; the exit code says whether everything holds."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="how long (default %(default)g; 2 for a short look)"
    )
    parser.add_argument("--devices", type=int, default=100, help="how many devices (default %(default)d)")
    parser.add_argument(
        "--rate", type=float, default=200.0, help="readings a second of all together (default %(default)g)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="use this new folder, and keep it")
    arguments = parser.parse_args()
    if DynamicMosquittoBroker.find_plugin() is None:
        _say("the soak needs Mosquitto with its dynamic security plugin")
        return 1
    size = Size(arguments.minutes * 60.0, arguments.devices, arguments.rate)
    verdict = Verdict()
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="grokmon-soak-")))
        asyncio.run(soak(size, folder, verdict), debug=False)
    print(verdict.text())
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
