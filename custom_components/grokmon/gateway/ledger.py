"""The ledger: what has been given and for how long, by which budgets are judged.

Doses are entered before a command is published and stay, whatever becomes of it, unless the device itself said, signed,
that it did nothing: a lost answer never refunds. Lamps are entered by the time that they burn. All times are steady
ones; budgets are over the past 24 hours or the past hour, so that no midnight and no change of the clock frees them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .actuators import Key
from .principals import Caller
from .zones import DAY_S

# So many times of burning are kept of each lamp.
_MOST_BURNS: Final = 100


@dataclass(slots=True)
class Dose:
    """One dose: millilitres of a pump, or seconds of a CO2 valve."""

    cid: str
    key: Key
    caller: Caller
    amount: float
    at: float


@dataclass(slots=True)
class Burn:
    """A time during which an output was on; `end` is None while it is."""

    start: float
    end: float | None = None


class Ledger:
    """Doses and burning times of the past day."""

    def __init__(self) -> None:
        self._doses: dict[str, Dose] = {}
        self._burns: dict[Key, list[Burn]] = {}

    def enter(self, dose: Dose) -> None:
        """Enter a dose that is about to be given."""
        self._forget(dose.at)
        self._doses[dose.cid] = dose

    def release(self, cid: str) -> None:
        """Take back a dose that was never published, or that the device itself refused."""
        self._doses.pop(cid, None)

    def given(self, now: float, window: float, *, keys: Iterable[Key], caller: Caller | None = None) -> float:
        """Return what some outputs gave in the past `window` seconds, for one class of callers or for all."""
        wanted = set(keys)
        return sum(
            dose.amount
            for dose in self._doses.values()
            if dose.key in wanted and dose.at > now - window and (caller is None or dose.caller is caller)
        )

    def frees_in(self, now: float, window: float, keys: Iterable[Key], needed: float) -> float | None:
        """Return in how many seconds `needed` of what these outputs gave will have left the window, or None."""
        wanted = set(keys)
        freed = 0.0
        for dose in sorted(self._doses.values(), key=lambda each: each.at):
            if dose.key in wanted and dose.at > now - window:
                freed += dose.amount
                if freed >= needed:
                    return dose.at + window - now
        return None

    def last_dose(self, key: Key) -> float | None:
        """Return when an output last gave something."""
        return max((dose.at for dose in self._doses.values() if dose.key == key), default=None)

    def begin(self, key: Key, now: float) -> None:
        """Enter that an output is on from now; nothing changes when it was."""
        if self.burning(key):
            return
        self._forget(now)
        burns = self._burns.setdefault(key, [])
        if burns and _lasts(burns[-1], now):
            # It was to end by a lease, and did not.
            burns[-1].end = None
        else:
            burns.append(Burn(now))
        if len(burns) > _MOST_BURNS:
            # What goes on and off all the time counts as on in between.
            at = min(range(1, len(burns)), key=lambda each: burns[each].start - (burns[each - 1].end or 0.0))
            burns[at - 1].end = burns.pop(at).end

    def end(self, key: Key, now: float) -> None:
        """Enter that an output is off from now, which may be in the future; nothing changes when it was."""
        burns = self._burns.get(key)
        if burns and _lasts(burns[-1], now):
            burns[-1].end = max(now, burns[-1].start)

    def burning(self, key: Key) -> bool:
        """Tell whether an output is entered as on."""
        burns = self._burns.get(key)
        return bool(burns) and burns[-1].end is None  # type: ignore[index] # not empty

    def burned(self, key: Key, now: float, window: float) -> float:
        """Return for how many seconds an output was on in the past `window` seconds."""
        since = now - window
        return sum(
            max(0.0, min(now, now if burn.end is None else burn.end) - max(since, burn.start))
            for burn in self._burns.get(key, ())
        )

    def burns_less_in(self, key: Key, now: float, window: float, limit: float) -> float | None:
        """Return in how many seconds an output that is off until then was on for less than it may be, or None."""
        excess = self.burned(key, now, window) - limit
        for burn in self._burns.get(key, ()):
            start, end = max(now - window, burn.start), now if burn.end is None else min(now, burn.end)
            if excess < end - start:
                return start + excess + window - now
            excess -= max(0.0, end - start)
        return None

    def snapshot(self) -> dict[str, Any]:
        """Return the ledger as plain data."""
        return {
            "doses": [
                [dose.cid, dose.key.device_id, dose.key.actuator, dose.caller.value, dose.amount, dose.at]
                for dose in self._doses.values()
            ],
            "burns": [
                [key.device_id, key.actuator, [[burn.start, burn.end] for burn in burns]]
                for key, burns in self._burns.items()
            ],
        }

    def restore(self, snapshot: Mapping[str, Any], open_until: float) -> None:
        """Take up a snapshot. What was on counts as on until `open_until`, when the last lease had ended."""
        # Earlier releases saved the zone, too.
        for cid, device_id, actuator, *_, caller, amount, at in snapshot["doses"]:
            self._doses[cid] = Dose(cid, Key(device_id, actuator), Caller(caller), amount, at)
        for device_id, actuator, burns in snapshot["burns"]:
            self._burns[Key(device_id, actuator)] = [
                Burn(start, max(start, open_until) if end is None else end) for start, end in burns
            ]

    def _forget(self, now: float) -> None:
        """Drop what no budget looks back at any more."""
        since = now - DAY_S
        for cid in [dose.cid for dose in self._doses.values() if dose.at <= since]:
            del self._doses[cid]
        for key, burns in list(self._burns.items()):
            kept = [burn for burn in burns if burn.end is None or burn.end > since]
            if kept:
                self._burns[key] = kept
            else:
                del self._burns[key]


def _lasts(burn: Burn, now: float) -> bool:
    """Tell whether it ends later than now, or nobody knows when."""
    return burn.end is None or burn.end > now
