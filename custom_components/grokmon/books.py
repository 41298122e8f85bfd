"""The books of the way out: budgets, latches and what is to be on, as the disk has them for the next run."""

import logging
from math import inf
from typing import Any, Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError

from .checked_store import CONTROL, CheckedStore
from .clock import RoomClock
from .gateway.actuators import Kind, Moment
from .gateway.control import Controller
from .gateway.zones import DAY_S

_LOGGER = logging.getLogger(__name__)

# How often they are saved for the leases alone, which are renewed all the time.
_SAVE_EVERY: Final = 60.0
# How long after a failure it is tried again where nobody waits for it.
_AGAIN_S: Final = 60.0
# By how much the wall clock has to be set for that to be saved.
_SET_S: Final = 60.0
# When this was written: no clock that is right tells an earlier time.
_WRITTEN: Final = 1_767_225_600.0


class Books:
    """Keep on the disk what the controller has to remember."""

    def __init__(self, hass: HomeAssistant, controller: Controller, clock: RoomClock) -> None:
        self._controller = controller
        self._clock = clock
        self._store = CheckedStore(hass, CONTROL)
        self._saved_at = float("-inf")
        self._ahead = 0.0
        self._changed = False
        self._saving = 0
        self._not_before = float("-inf")
        self._earlier: dict[str, Any] | None = None
        self._taken_up = False

    async def async_load(self) -> None:
        """Read what an earlier run left, and let its time go on."""
        self._earlier = await self._store.async_load()
        if self._earlier is not None:
            self._clock.resume(self._earlier)
            self._ahead = self._earlier["wall"] - self._earlier["steady"]

    @callback
    def async_restore(self) -> bool:
        """Let the controller, which knows its outputs by now, take up what an earlier run left.

        Return whether there is nothing although there must have been: a first start finds no outputs, and is saved.
        """
        lost = self._earlier is None and bool(self._controller.outputs)
        if self._earlier is not None:
            self._restore(self._earlier)
        else:
            self._changed = True
        if lost:
            # Whether it was blocked is lost, too.
            self._controller.policy.ai_allowed = False
        self._earlier, self._taken_up = None, True
        return lost

    def _restore(self, earlier: dict[str, Any]) -> None:
        now = self._clock.now()
        lamps = [each.actuator for each in self._controller.outputs.values() if each.actuator.kind is Kind.LIGHT]
        longest = max((lamp.lease_s for lamp in lamps), default=0)
        # A lamp that was on when the last run ended without a word may have burned until its last lease was over.
        self._controller.restore(earlier["control"], min(now.steady, earlier["steady"] + _SAVE_EVERY + longest), now)

    @callback
    def async_changed(self) -> None:
        """Note that something is to be saved soon."""
        self._changed = True

    @property
    def is_due(self) -> bool:
        """Tell whether something changed since, leases were renewed for a while, or the clock was set forward.

        By what the disk has, the next run would take the time by which it was set for time that has passed.
        """
        now = self._clock.now()
        if self._saving or now.steady < self._not_before:
            return False
        goes_on = any(output.wish for output in self._controller.outputs.values())
        is_set = now.wall - now.steady - self._ahead > _SET_S
        return self._changed or is_set or (goes_on and now.steady - self._saved_at >= _SAVE_EVERY)

    async def async_save(self) -> None:
        """Save. Raises HomeAssistantError or OSError when the disk cannot."""
        if not self._taken_up:
            # A start that failed, or was ended: what an earlier run left is not in here yet.
            return
        now = self._clock.now()
        self._saved_at, self._ahead, self._changed = now.steady, self._wall(now) - now.steady, False
        self._saving += 1
        try:
            await self._store.async_save(self._snapshot)
        except HomeAssistantError, OSError:
            self._changed, self._not_before = True, self._clock.now().steady + _AGAIN_S
            raise
        finally:
            self._saving -= 1

    @callback
    def async_close(self) -> None:
        """Save nothing more."""
        self._store.async_close()

    async def async_save_quietly(self) -> None:
        """Save where nobody waits for it."""
        try:
            await self.async_save()
        except HomeAssistantError, OSError:
            _LOGGER.exception("The state of the outputs could not be saved")

    def _snapshot(self) -> dict[str, Any]:
        now = self._clock.now()
        return {"steady": now.steady, "wall": self._wall(now), "control": self._controller.snapshot()}

    def _wall(self, now: Moment) -> float:
        """Return the wall time by which the next run reckons what has passed.

        A clock that was set back, or starts in the past, is put right one day, and that is no time that passes, either.
        One that was far ahead once keeps time from passing only for a day.
        """
        most = inf if now.wall < _WRITTEN else now.wall + DAY_S
        return max(now.wall, min(now.steady + self._ahead, most))
