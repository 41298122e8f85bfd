"""Three and a half months of a real greenhouse through the broker: every row is accounted for."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
import time
from typing import Any

import pytest

from tests.demo.fleet import device_of
from tests.demo.installation import Installation
from tests.demo.plan import Node
from tests.device_simulator.credentials import Auth
from tests.device_simulator.device import HonestDevice
from tests.device_simulator.protocol import Metrics
from tests.device_simulator.recording import read_recording

from .observation import Marker
from .traffic import UNLIMITED, started

pytestmark = pytest.mark.timeout(300)

RECORDING = Path(__file__).parents[1] / "data" / "agc2022_reference_climate.csv"
ROWS = 12_384
METRICS = ("temp_c", "humidity_percent", "co2_ppm", "ppfd_umol", "leaf_temp_c")
# What a healthy room shows, as the catalogue has it.
PLAUSIBLE = {
    "temp_c": (12.8, 35.0),
    "humidity_percent": (20.0, 90.0),
    "co2_ppm": (300.0, 2000.0),
    "ppfd_umol": (0.0, 2500.0),
    "leaf_temp_c": (12.8, 35.0),
}
AUTHS: cycle[Auth] = cycle(("hs256", "hs256", "es256", "eddsa"))
NODES = tuple(
    Node(f"recorded-{number}", f"Recorded {number}", METRICS, auth=auth)
    for number, auth in enumerate(islice(AUTHS, 8), 1)
)
MONITOR = "monitor"


@dataclass(slots=True)
class Share:
    """Hold the rows that one device reports, every so many of the recording."""

    device: HonestDevice
    rows: list[Metrics]

    async def report(self) -> None:
        """Report all rows in their order, those without a value, too."""
        for row in self.rows:
            reading = await self.device.publish(row)
            assert reading.delivered


@pytest.fixture(scope="module")
def broker_accounts() -> tuple[str, ...]:
    """Return the accounts of this module."""
    return (*(node.device_id for node in NODES), MONITOR)


async def test_every_row_is_accounted_for(installation: Installation, measured: Callable[[str], None]) -> None:
    """Sent is accepted and refused; what was refused has the code for its reason, what is odd is flagged."""
    rows: list[Metrics] = [values for _, values in read_recording(RECORDING)]
    assert len(rows) == ROWS
    shares: list[Share] = []
    for number, node in enumerate(NODES):
        enrolled = await installation.enrol(node, rate_limit=UNLIMITED)
        device = device_of(enrolled, installation.address(node.device_id))
        shares.append(Share(device, rows[number :: len(NODES)]))
    async with (
        Marker.of(installation.hass, installation.address(MONITOR)) as marker,
        started([share.device for share in shares]),
    ):
        began = time.monotonic()
        await asyncio.gather(*(share.report() for share in shares))
        await marker.passed()
        seconds = time.monotonic() - began
    listed = {device["device_id"]: device for device in (await installation.diagnostics())["devices"]}
    accepted = sum(device["accepted"] for device in listed.values())
    refused = _sum(device["refused"] for device in listed.values())
    flagged = _sum(device["flagged"] for device in listed.values())
    sent = sum(share.device.counts.sent for share in shares)
    measured(f"recording: {sent} sent in {seconds:.1f} s by {len(shares)} devices, {accepted} accepted,")
    measured(f"  refused: {_table(refused)}; implausible: {_table(flagged)}")

    assert sent == ROWS == accepted + refused.total()
    # A row without a single value: the greenhouse's computer was off.
    assert refused == Counter(field_invalid=sum(not row for row in rows))
    # The deficit that is derived stays within its range the whole time.
    assert flagged == Counter(
        metric for row in rows for metric, value in row.items() if not _is_plausible(metric, value)
    )
    for share in shares:
        device = listed[share.device.identity.device_id]
        assert device["accepted"] == sum(bool(row) for row in share.rows)
        assert _newest(share.rows).items() <= device["values"].items()


def _is_plausible(metric: str, value: float) -> bool:
    low, high = PLAUSIBLE[metric]
    return low <= value <= high


def _sum(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total


def _table(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _newest(rows: list[Metrics]) -> dict[str, Any]:
    """Return the last value of every metric."""
    newest: dict[str, Any] = {}
    for row in rows:
        newest |= row
    return newest
