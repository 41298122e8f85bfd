"""The check: the whole slice without a person."""

from pathlib import Path
import time

from tests.stack.brokers import Broker

from .checks.audit import check_file, check_service
from .checks.commands import check_commands
from .checks.frontend import check_example, check_frontend
from .checks.posture import check_posture
from .checks.processes import check_ended, check_log
from .checks.readings import check_nothing_lost, check_registered, check_states
from .checks.refusals import check_attacks, check_counts, check_events, check_flood
from .grow_room import GrowRoom, Say, grow_room
from .report import Report

_FIRST_STATES_WITHIN = 60
# As often as the gateway's budget of 100 messages a minute lets a device report, about.
_REPORT_EVERY = 0.75
_HISTORY_HOURS = 0.01


async def check(folder: Path, broker: type[Broker], artifacts: Path, say: Say) -> Report:
    """Open the room, look at everything, close it, and return what was found."""
    begin = time.monotonic()
    report = Report()
    opened = grow_room(folder, broker, say, history_hours=_HISTORY_HOURS, report_every=_REPORT_EVERY)
    async with opened as room:
        await _check_running(room, artifacts, report, say)
        processes = room.installation.processes
    say("Home Assistant and the broker have ended; looking at what they left")
    check_ended(processes, report)
    check_log(room.installation.hass.process.log, report)
    await check_file(room.installation.audit_file, room.intruder.expected, report)
    report.seconds = time.monotonic() - begin
    return report


async def _check_running(room: GrowRoom, artifacts: Path, report: Report, say: Say) -> None:
    late = room.first_states_s > _FIRST_STATES_WITHIN
    report.add(f"first states after {room.first_states_s:.1f} s", ["too late"] if late else [])
    say("attacking while the devices report")
    async with room.fleet.reporting():
        await check_attacks(room, report)
        await check_flood(room, report)
    say("comparing")
    await check_events(room, report)
    await check_states(room, report)
    await check_registered(room, report)
    await check_service(room, report)
    await check_posture(room, report)
    say("looking at the frontend")
    await check_frontend(room, artifacts, report)
    say("commanding lamp, fan and pump")
    await check_commands(room, report)
    check_example(room, report)
    await check_counts(room, report)
    await check_nothing_lost(room, report)
