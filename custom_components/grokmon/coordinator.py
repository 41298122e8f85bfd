"""The device coordinator: what one device last said, and which entities want to know."""

from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, Final

from homeassistant.core import Context, callback
from homeassistant.helpers.device_registry import DeviceEntry

from .gateway import lifecycle
from .gateway.actuators import Actuator, Observed
from .gateway.catalog import VPD
from .gateway.climate import derives_vpd
from .gateway.models import Device, Reading, Value
from .gateway.outputs import Output

type Shown = Value | Observed | str | Mapping[str, Any] | None
type Refresh = Callable[[Context | None], None]

# A pump has a number and a button beside its switch.
DOSE_SUFFIX: Final = "_dose"
DOSE_NOW_SUFFIX: Final = "_dose_now"
ENTITY_SUFFIXES: Final = ("", DOSE_SUFFIX, DOSE_NOW_SUFFIX)
CONNECTIVITY: Final = "connectivity"
LAST_SEEN: Final = "last_seen"
REJECTED: Final = "rejected"
ACCEPTED: Final = "accepted"
AUDIT: Final = "audit"
POSTURE: Final = "posture"
SCORE: Final = "security_score"
AI_CONTROL: Final = "ai_control"
IDENTIFY: Final = "identify"
KEY_AGE: Final = "key_age"
EXPIRES: Final = "credential_expires"
DIAGNOSTICS: Final = frozenset({CONNECTIVITY, LAST_SEEN, REJECTED, KEY_AGE, EXPIRES})

_DAY: Final = 86_400
# "Last seen" is for people; writing it for every reading would cost more than the reading.
_LAST_SEEN_STEP: Final = 60.0
# How long a device may stay silent after the broker said that it went away. Anybody may say so: a hint only shortens
# the patience with a device, it never overrides a reading.
_HINT_PATIENCE: Final = 30.0


def entity_keys(device: Device) -> frozenset[str]:
    """Return the keys of all entities of a device: its metrics, what follows from them, and the diagnostics."""
    metrics = device.metrics | {VPD} if derives_vpd(device.metrics) else device.metrics
    outputs = {make(actuator.name) for actuator in device.actuators for make in (output_key, fault_key)}
    # Only a device that takes commands can be asked to show itself.
    return metrics | DIAGNOSTICS | outputs | ({IDENTIFY} if outputs else set())


def output_key(actuator: str) -> str:
    """Return the key of the entities that show and drive an actuator."""
    return f"output_{actuator}"


def fault_key(actuator: str) -> str:
    """Return the key of the entity that says whether an actuator does what it was told."""
    return f"fault_{actuator}"


class Coordinator:
    """Hold values by the key of their entity, and wake only the entities whose value changed."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._listeners: dict[str, Refresh] = {}

    @callback
    def async_listen(self, key: str, refresh: Refresh) -> None:
        """Call `refresh` when the value of a key changes. A second entity on the same key would silence the first."""
        self._listeners[key] = refresh

    @callback
    def async_unlisten(self, key: str, refresh: Refresh) -> None:
        """Stop calling `refresh`. An entity that is removed late does not take the place of its successor away."""
        if self._listeners.get(key) == refresh:
            del self._listeners[key]

    @callback
    def async_set(self, key: str, value: Shown, context: Context | None = None) -> None:
        """Take over one value."""
        if self.values.get(key) == value:
            return
        self.values[key] = value
        if (refresh := self._listeners.get(key)) is not None:
            refresh(context)

    @callback
    def _refresh_all(self, context: Context | None) -> None:
        for refresh in list(self._listeners.values()):
            refresh(context)


class HubCoordinator(Coordinator):
    """The totals of the hub."""

    @callback
    def async_tick(self, accepted: int, rejected: int, audit: Mapping[str, Any]) -> None:
        """Bring the totals up to date."""
        self.async_set(ACCEPTED, accepted)
        self.async_set(REJECTED, rejected)
        self.async_set(AUDIT, audit)


class DeviceCoordinator(Coordinator):
    """What one device last said: its metrics, and the diagnostics about it.

    Silence is measured by the monotonic clock: whoever sets the wall clock back does not keep a device online.
    """

    def __init__(self, subentry_id: str, device: Device, device_entry: DeviceEntry, stale_after: float) -> None:
        super().__init__()
        self.subentry_id = subentry_id
        self.device = device
        self.device_entry = device_entry
        self.stale_after = stale_after
        self.online = False
        self.values.update({CONNECTIVITY: False, REJECTED: 0})
        self.last_heard = 0.0
        self._heard_at = 0.0
        self._deadline = 0.0

    @property
    def keys(self) -> frozenset[str]:
        """Return the keys of all entities that this device has."""
        return entity_keys(self.device)

    @property
    def actuators(self) -> dict[str, Actuator]:
        """Return the actuators by the key of their entities."""
        return {output_key(actuator.name): actuator for actuator in self.device.actuators}

    @property
    def silence(self) -> float:
        """Return for how many seconds the device has not been heard."""
        return monotonic() - self._heard_at

    @callback
    def async_heard(self, now: float) -> None:
        """Note a message that is no reading: an answer, or what the outputs do."""
        self._hear(now)
        if not self.online:
            self._come_back(now, {})

    @callback
    def async_show_outputs(self, outputs: Iterable[Output]) -> None:
        """Show what the outputs of the device do, as the device itself says."""
        for output in outputs:
            self.async_set(output_key(output.key.actuator), output.observed)
            self.async_set(fault_key(output.key.actuator), not output.in_step)

    @callback
    def async_take(self, reading: Reading) -> None:
        """Take over a reading."""
        self._hear(reading.received_at)
        if not self.online:
            self._come_back(reading.received_at, reading.values)
            return
        # One context for all that a reading changes, and none for a reading that changes nothing.
        context: Context | None = None
        values = self.values
        listeners = self._listeners
        for name, value in reading.values.items():
            if values.get(name) == value:
                continue
            values[name] = value
            if (refresh := listeners.get(name)) is not None:
                context = context or Context()
                refresh(context)

    @callback
    def async_hint_offline(self) -> None:
        """Lose patience sooner: the broker says that the device went away."""
        self._deadline = min(self._deadline, monotonic() + _HINT_PATIENCE)

    @callback
    def async_tick(self, now: float, rejected: int) -> bool:
        """Bring what depends on time up to date; True when the device has just become stale."""
        self.async_set(REJECTED, rejected)
        current = lifecycle.current(self.device.credentials)
        oldest = min((each.created for each in current), default=now)
        self.async_set(KEY_AGE, int(max(0.0, now - oldest) // _DAY) if current else None)
        self.async_set(EXPIRES, min((each.not_after for each in current), default=None))
        if not 0.0 <= self.last_heard - self.values.get(LAST_SEEN, self.last_heard) < _LAST_SEEN_STEP:
            self.async_set(LAST_SEEN, self.last_heard)
        if not self.online or monotonic() < self._deadline:
            return False
        self.async_set_offline()
        return True

    @callback
    def async_set_offline(self) -> None:
        """Make the device's readings unavailable."""
        if self.online:
            self._set_connectivity(False, None)

    @callback
    def async_update_device(self, device: Device) -> None:
        """Take over what the registry says of the device."""
        before, self.device = self.device, device
        self.values = {name: value for name, value in self.values.items() if name in self.keys}
        if device.actuators != before.actuators:
            # What an entity shows may depend on how its output is set.
            self._refresh_all(None)

    @callback
    def _hear(self, now: float) -> None:
        self.last_heard = now
        self._heard_at = monotonic()
        self._deadline = self._heard_at + self.stale_after

    @callback
    def _come_back(self, now: float, values: Mapping[str, Value]) -> None:
        # What was measured before an outage is not current after it; a fault is, until somebody resets it.
        kept = DIAGNOSTICS | {fault_key(actuator.name) for actuator in self.device.actuators}
        self.values = {key: value for key, value in self.values.items() if key in kept} | dict(values)
        self.values[LAST_SEEN] = now
        self._set_connectivity(True, Context())

    @callback
    def _set_connectivity(self, online: bool, context: Context | None) -> None:
        self.online = self.values[CONNECTIVITY] = online
        self._refresh_all(context)
