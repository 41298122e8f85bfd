"""What a person chooses for a device: the content of its subentry, and how it authenticates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from homeassistant.config_entries import ConfigSubentry

from .const import CONF_ACTUATORS, CONF_DEVICE_ID, CONF_METRICS, CONF_RANGES, CONF_RATE_LIMIT, CONF_ZONE
from .gateway.actuators import Actuator
from .gateway.models import DEFAULT_RATE_LIMIT, Algorithm, Auth, Device, Range
from .store import SecurityRecord


@dataclass(frozen=True, slots=True)
class Method:
    """How a device authenticates. The algorithm counts for one that signs."""

    auth: Auth
    algorithm: Algorithm = Algorithm.HS256


METHODS: Final[Mapping[str, Method]] = {
    **{algorithm.name.lower(): Method(Auth.SIGNED, algorithm) for algorithm in Algorithm},
    "broker": Method(Auth.BROKER),
    "token": Method(Auth.TOKEN),
}


def method_of(device: Device) -> str:
    """Return the name of how a device authenticates."""
    key = device.key
    return key.algorithm.name.lower() if key is not None else device.auth.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the user chose for a device: the content of its subentry."""

    device_id: str
    name: str
    zone: str | None
    metrics: frozenset[str]
    ranges: Mapping[str, Range]
    actuators: tuple[Actuator, ...] = ()
    rate_limit: int = DEFAULT_RATE_LIMIT

    @classmethod
    def from_subentry(cls, subentry: ConfigSubentry) -> Choices:
        """Return the choices that a subentry holds."""
        data = subentry.data
        return cls(
            device_id=data[CONF_DEVICE_ID],
            name=subentry.title,
            zone=data.get(CONF_ZONE),
            metrics=frozenset(data[CONF_METRICS]),
            ranges={name: Range(low, high) for name, (low, high) in data.get(CONF_RANGES, {}).items()},
            actuators=tuple(Actuator.from_dict(each) for each in data.get(CONF_ACTUATORS, ())),
            rate_limit=data.get(CONF_RATE_LIMIT, DEFAULT_RATE_LIMIT),
        )

    def as_data(self) -> dict[str, Any]:
        """Return the data of a subentry with these choices; its title is the name."""
        return {
            CONF_DEVICE_ID: self.device_id,
            CONF_ZONE: self.zone,
            CONF_METRICS: sorted(self.metrics),
            CONF_RANGES: {name: [chosen.low, chosen.high] for name, chosen in self.ranges.items()},
            CONF_RATE_LIMIT: self.rate_limit,
            **({CONF_ACTUATORS: [actuator.as_dict() for actuator in self.actuators]} if self.actuators else {}),
        }

    def hold_for(self, device: Device) -> bool:
        """Tell whether a device is as it was chosen, whatever its credentials are."""
        chosen = ("name", "zone", "metrics", "actuators", "ranges", "rate_limit")
        return all(getattr(self, name) == getattr(device, name) for name in chosen)

    def device(self, record: SecurityRecord) -> Device:
        """Return the device that these choices and a security record make."""
        return Device(
            device_id=self.device_id,
            name=self.name,
            zone=self.zone,
            metrics=self.metrics,
            actuators=self.actuators,
            ranges=self.ranges,
            rate_limit=self.rate_limit,
            credentials=record.credentials,
            auth=record.auth,
            status=record.status,
        )
