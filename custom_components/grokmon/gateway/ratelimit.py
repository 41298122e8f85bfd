"""Token bucket."""


class TokenBucket:
    """Allow `capacity` events at once and as many per `period` seconds in the long run."""

    __slots__ = ("_rate", "_tokens", "_updated", "capacity")

    def __init__(self, capacity: float, period: float) -> None:
        self.capacity = capacity
        self._rate = capacity / period
        self._tokens = capacity
        self._updated: float | None = None

    def take(self, now: float) -> bool:
        """Spend one token; False when there is none. A clock that jumps back neither adds nor takes tokens."""
        if self._updated is not None and now > self._updated:
            self._tokens = min(self.capacity, self._tokens + (now - self._updated) * self._rate)
        self._updated = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
