"""Leases: what is on is renewed for as long as it is wanted, and ends with the wish for it."""

from .actions import Action, Ended, Renew, Stop
from .outputs import Output


def keep(output: Output, now: float) -> list[Action]:
    """Return what the wish that stands for an output needs: nothing, a renewal, or its end."""
    wish = output.wish
    if wish is None or output.pending is not None:
        return []
    if wish.until is not None and now >= wish.until:
        return [Stop(output.key, "done")]
    if now >= wish.lease_until or now - wish.confirmed_at >= 2 * wish.order.lease_s:
        output.drop()
        output.turned(now, on=False)
        return [Ended(output.key, "lost")]
    return [Renew(output.key)] if now - wish.renewed_at >= output.longest(wish) / 3 else []
