"""Feed a recording through the broker: one device that says again what was measured elsewhere."""

import asyncio
from collections.abc import AsyncGenerator
import contextlib
from dataclasses import asdict, dataclass
import json
from pathlib import Path

from tests.device_simulator.device import HonestDevice
from tests.device_simulator.recording import Columns, Value, read_columns, read_recording

from .dashboard import add_dashboard, dashboard
from .fleet import device_of
from .grow_room import Say
from .installation import Installation
from .live import show
from .options import Options
from .plan import Node, Zone
from .waiting import settled

_ZONE = Zone("Recorded room", "vegetative", "mdi:record-rec")
_DEVICE_ID = "recording"
# The most that the gateway lets any device send; the replay stays below it, however fast it is asked to be.
_RATE_LIMIT = 6000
_MESSAGES_PER_SECOND = 90.0
_HISTORY_HOURS = 0.25
_WITHIN = 30
_TELL_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """Count what became of a recording's rows."""

    rows: int
    empty: int
    sent: int
    accepted: int
    refused: dict[str, int]
    flagged: dict[str, int]

    @property
    def complete(self) -> bool:
        """Tell whether every message is accounted for."""
        return self.sent == self.accepted + sum(self.refused.values())

    def as_text(self) -> str:
        """Return the counts as a table."""
        lines = [
            f"{'rows':<24}{self.rows:>8}",
            f"{'  without a value':<24}{self.empty:>8}",
            f"{'sent':<24}{self.sent:>8}",
            f"{'accepted':<24}{self.accepted:>8}",
            *(f"{f'  {metric} implausible':<24}{count:>8}" for metric, count in self.flagged.items()),
            f"{'refused':<24}{sum(self.refused.values()):>8}",
            *(f"{f'  {code}':<24}{count:>8}" for code, count in self.refused.items()),
        ]
        return "\n".join(lines)


async def replay(folder: Path, options: Options, say: Say) -> int:
    """Set up servers and one device, feed the recording, print what became of it and return the exit code."""
    if options.replay is None:
        raise ValueError("there is nothing to replay")
    columns = read_columns(options.replay)
    say(", ".join(f"{column} is {metric}" for column, metric in columns.metrics.items()))
    say(f"not used: {', '.join(columns.unused) or 'nothing'}")
    node = _node(columns)
    say(f"starting {options.broker.name} and Home Assistant")
    async with Installation(folder, options.broker, [node.device_id]) as installation:
        device = await _set_up(installation, node)
        if not options.json:
            show(installation, as_json=False)
        async with device:
            async with asyncio.timeout(_WITHIN):
                await device.session_ready.wait()
            outcome = await _feed(installation, device, options.replay, options.speed, say)
            print(json.dumps(asdict(outcome)) if options.json else outcome.as_text(), flush=True)  # noqa: T201 - asked for
            if options.stay:
                await asyncio.Event().wait()
    return 0 if outcome.complete else 1


def _node(columns: Columns) -> Node:
    return Node(
        _DEVICE_ID, "Recording", tuple(columns.metrics.values()), _ZONE.name, model="CSV file", firmware="1.0.0"
    )


async def _set_up(installation: Installation, node: Node) -> HonestDevice:
    await installation.add_gateway([_ZONE])
    enrolled = await installation.enrol(node, rate_limit=_RATE_LIMIT)
    entity_ids = await installation.entity_ids()
    config = dashboard([_ZONE], [node], entity_ids.__getitem__, hours=_HISTORY_HOURS)
    await add_dashboard(installation.hass, config)
    return device_of(enrolled, installation.address(node.device_id))


async def _feed(installation: Installation, device: HonestDevice, recording: Path, speed: float, say: Say) -> Outcome:
    rows = empty = 0
    async with contextlib.aclosing(_paced(recording, speed)) as paced:
        async for values in paced:
            rows += 1
            if not values:
                empty += 1
                continue
            async with asyncio.timeout(_WITHIN):
                await device.publish(values)
            if rows % _TELL_EVERY == 0:
                say(f"{rows} rows")

    async def look() -> Outcome:
        data = await installation.diagnostics()
        (listed,) = data["devices"]
        return Outcome(rows, empty, device.counts.sent, listed["accepted"], listed["refused"], listed["flagged"])

    return await settled(look, lambda outcome: outcome.complete, _WITHIN)


async def _paced(recording: Path, speed: float) -> AsyncGenerator[dict[str, Value]]:
    """Yield the rows at the recorded pace times the speed, but never faster than the gateway's limit."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    first: float | None = None
    for number, (moment, values) in enumerate(read_recording(recording)):
        first = moment if first is None else first
        due = begin + max((moment - first) / speed, number / _MESSAGES_PER_SECOND)
        await asyncio.sleep(max(0.0, due - loop.time()))
        yield values
