"""The room's clock: wall time for people and lights, and a steady time that budgets and leases can rely on."""

from collections.abc import Mapping
from time import monotonic, time

from homeassistant.util import dt as dt_util

from .gateway.actuators import Moment


class RoomClock:
    """Tell the time. The steady time never jumps with the wall clock, and goes on over a restart.

    While this process runs it is the monotonic clock. Over a restart it is moved on by what the wall clock says has
    passed, and never backwards.
    """

    def __init__(self) -> None:
        self._offset = -monotonic()
        self._told, self._told_at = 0.0, monotonic()

    def resume(self, saved: Mapping[str, float]) -> None:
        """Go on from what an earlier process saved."""
        self._offset = saved["steady"] + max(0.0, time() - saved["wall"]) - monotonic()

    def now(self) -> Moment:
        """Return the time."""
        local = dt_util.now()
        day_s = local.hour * 3600.0 + local.minute * 60.0 + local.second
        return Moment(wall=time(), steady=monotonic() + self._offset, day_s=day_s)

    def told(self, wall: float) -> float:
        """Return what devices are told as the time; it goes on where the wall clock is set back.

        They believe nothing that is older than what they were told before, not even a command that ends something.
        """
        now = monotonic()
        self._told, self._told_at = max(wall, self._told + (now - self._told_at)), now
        return self._told
