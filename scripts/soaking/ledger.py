"""The ledger: what devices sent against what the gateway took, from one quiet moment to the next."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.demo.installation import Installation
from tests.live.observation import Marker

from .crowd import Crowd, Sent

WATCHER = "watcher"
# What a restart brings about, and what becomes of the last words of a device that was just revoked.
ORDINARY = frozenset({"session_unknown", "duplicate"})
REVOKED = frozenset({"device_revoked", "unknown_device"})

type Refused = Counter[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Moment:
    """What every device has sent, and the gateway has taken, when nothing is on its way."""

    sent: dict[str, Sent]
    accepted: Counter[str]
    refused: Refused

    @property
    def acknowledged(self) -> int:
        """Return how many messages of the devices the broker has taken."""
        return sum(sent.acked for sent in self.sent.values())

    @property
    def taken(self) -> int:
        """Return how many messages of the devices the gateway has accepted."""
        return sum(self.accepted[name] for name in self.sent)


@dataclass(slots=True)
class Ledger:
    """Compare at quiet moments. What the broker has acknowledged has to be accepted, or refused for a known reason."""

    installation: Installation
    crowd: Crowd
    lost: Counter[str] = field(default_factory=Counter)
    """Acknowledged and never seen, by device, while the broker ran all the time."""
    surplus: int = 0
    """Accepted more often than sent."""
    with_broker: dict[str, list[int]] = field(default_factory=lambda: {"stop": [], "kill": []})
    """Acknowledged by a broker that ended before it handed them on, by how it ended."""
    moments: int = 0
    last: Moment | None = None

    async def balance(self, broker_ended: str | None = None) -> Moment:
        """Come to a quiet moment, compare with the one before, and go on sending."""
        try:
            await self.crowd.pause()
            async with Marker.of(self.installation.hass, self.installation.address(WATCHER)) as marker:
                await marker.passed()
            now = self.moment(await self.installation.diagnostics())
        finally:
            self.crowd.resume()
        if self.last is not None:
            self._compare(self.last, now, broker_ended)
        self.last, self.moments = now, self.moments + 1
        return now

    def moment(self, diagnostics: dict[str, Any]) -> Moment:
        """Return how things stand; only at a quiet moment is nothing on its way."""
        devices = {device["device_id"]: device for device in diagnostics["devices"]}
        return Moment(
            sent={member.device_id: member.totals for member in self.crowd.members},
            accepted=Counter({name: device["accepted"] for name, device in devices.items()}),
            refused=Counter(
                {(name, code): n for name, device in devices.items() for code, n in device["refused"].items()}
            ),
        )

    def _compare(self, before: Moment, now: Moment, broker_ended: str | None) -> None:
        lost: Counter[str] = Counter()
        for name, sent in now.sent.items():
            was = before.sent[name]
            taken = now.accepted[name] - before.accepted[name]
            known = sum(now.refused[name, code] - before.refused[name, code] for code in ("session_unknown", *REVOKED))
            lost[name] += max(0, sent.acked - was.acked - taken - known)
            self.surplus += max(0, taken - (sent.sent - was.sent))
        if broker_ended is None:
            self.lost += lost
        else:
            self.with_broker[broker_ended].append(lost.total())
