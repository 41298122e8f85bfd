"""Orders: commands on their way, and the wishes that stand once their devices have carried them out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .actuators import Command, Key
from .principals import Caller, Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command on its way, or one that was carried out.

    `run_s` is how long it is to stay on, None for as long as nobody says otherwise.
    """

    cid: str
    command: Command
    principal: Principal
    at: float
    lease_s: int = 0
    run_s: float | None = None

    @property
    def key(self) -> Key:
        """Return the output that it is about."""
        return self.command.key

    def as_dict(self) -> dict[str, Any]:
        """Return the order as plain data."""
        return {
            "cid": self.cid,
            "device_id": self.key.device_id,
            "actuator": self.key.actuator,
            "params": self.command.params(),
            "caller": self.principal.caller.value,
            "identity": self.principal.identity,
            "at": self.at,
            "lease_s": self.lease_s,
            "run_s": self.run_s,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the order that `as_dict` wrote."""
        return cls(
            cid=data["cid"],
            command=Command(key=Key(data["device_id"], data["actuator"]), **data["params"]),
            principal=Principal(caller=Caller(data["caller"]), identity=data["identity"]),
            at=data["at"],
            lease_s=data["lease_s"],
            run_s=data["run_s"],
        )


@dataclass(slots=True)
class Wish:
    """What is to be on. `lease_until` is when the device ends it unless it is renewed."""

    order: Order
    until: float | None
    renewed_at: float
    lease_until: float
    confirmed_at: float

    def as_dict(self) -> dict[str, Any]:
        """Return the wish as plain data."""
        return {**self.order.as_dict(), "until": self.until, "lease_until": self.lease_until}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], now: float) -> Self:
        """Return the wish that `as_dict` wrote."""
        lease_until = data["lease_until"]
        return cls(Order.from_dict(data), data["until"], lease_until - data["lease_s"], lease_until, now)
