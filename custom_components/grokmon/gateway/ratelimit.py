"""Token buckets: one, and one for each host."""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final

_HOSTS: Final = 1024


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


def host_of(address: str) -> str:
    """Return what stands for the host behind an address: with IPv6, everybody has a whole network of them."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or int(ip) >> 64)
    return str(ip)


class HostLimit:
    """Allow each host `capacity` events at once and as many per `period` seconds in the long run.

    Memory is bounded: of very many hosts, the one that was not heard of for longest is forgotten.
    """

    def __init__(self, capacity: float, period: float) -> None:
        self._capacity = capacity
        self._period = period
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, host: str, now: float) -> bool:
        """Spend one token of a host; False when there is none left."""
        bucket = self._buckets.setdefault(host, TokenBucket(self._capacity, self._period))
        self._buckets.move_to_end(host)
        if len(self._buckets) > _HOSTS:
            self._buckets.popitem(last=False)
        return bucket.take(now)
