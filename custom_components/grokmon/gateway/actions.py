"""What comes of the way out: the fate of orders, and the actions that are left to the hub."""

from dataclasses import dataclass
from enum import StrEnum

from .actuators import Command, Key
from .orders import Order
from .principals import Principal
from .zones import Interlock


class Fate(StrEnum):
    """What became of an order."""

    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"
    TIMEOUT = "timeout"
    SUPERSEDED = "superseded"
    LATE = "late"
    RENEWED = "renewed"


@dataclass(frozen=True, slots=True)
class Settled:
    """An order, and what became of it. `reason` is what the device gave as one; `order` is None for a renewal."""

    fate: Fate
    order: Order | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Switch an output off: an action for the hub."""

    key: Key
    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Renew:
    """Prolong the lease of an output: an action for the hub."""

    key: Key


@dataclass(frozen=True, slots=True)
class Drive:
    """Set an output for an interlock, or back to what stood before: an action for the hub."""

    command: Command
    principal: Principal


@dataclass(frozen=True, slots=True)
class Tripped:
    """An interlock tripped, or ended."""

    zone_id: str
    interlock: Interlock
    active: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """An output is off without having been told so, for a reason that its device gave, or because it was lost."""

    key: Key
    reason: str


@dataclass(frozen=True, slots=True)
class Faulted:
    """An output does not do what it was told: it stays off until an administrator resets it."""

    key: Key
    fault: str


type Action = Stop | Renew | Drive | Tripped | Ended | Faulted
