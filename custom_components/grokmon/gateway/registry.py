"""The device registry: who may speak, about what, and how it proves itself."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from .actuators import MAX_ACTUATORS, Actuator, check as check_actuator
from .catalog import CATALOG
from .errors import Code, RegistryError
from .models import Auth, Credential, Device, DeviceStatus, Range
from .topics import DEVICE_ID_PATTERN

MAX_RATE_LIMIT: Final = 6000


class DeviceRegistry:
    """Devices by identifier. Every change replaces a record; a record never changes."""

    def __init__(self) -> None:
        self._devices: dict[str, Device] = {}

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def __contains__(self, device_id: object) -> bool:
        return device_id in self._devices

    def get(self, device_id: str) -> Device | None:
        """Return a device, or None."""
        return self._devices.get(device_id)

    def __getitem__(self, device_id: str) -> Device:
        """Return a device; raise RegistryError when there is none."""
        if (device := self._devices.get(device_id)) is None:
            raise RegistryError(Code.UNKNOWN_DEVICE, device_id)
        return device

    def enrol(self, device: Device) -> Device:
        """Add a device."""
        if device.device_id in self._devices:
            raise RegistryError(Code.DEVICE_EXISTS, device.device_id)
        check(device)
        self._devices[device.device_id] = device
        return device

    def update(
        self,
        device_id: str,
        *,
        name: str,
        zone: str | None,
        metrics: frozenset[str],
        actuators: tuple[Actuator, ...],
        ranges: Mapping[str, Range],
        rate_limit: int,
    ) -> Device:
        """Change what the user chose for a device."""
        changed = replace(
            self[device_id],
            name=name,
            zone=zone,
            metrics=metrics,
            actuators=actuators,
            ranges=dict(ranges),
            rate_limit=rate_limit,
        )
        check(changed)
        self._devices[device_id] = changed
        return changed

    def set_credentials(self, device_id: str, credentials: tuple[Credential, ...]) -> Device:
        """Replace the credentials of a device; a revoked device gets none."""
        self._refuse_revoked(device_id)
        return self._replace(device_id, credentials=credentials)

    def set_status(self, device_id: str, status: DeviceStatus) -> Device:
        """Enable, disable or revoke a device. A revoked device stays so until it is enrolled anew."""
        self._refuse_revoked(device_id)
        return self._replace(device_id, status=status)

    def remove(self, device_id: str) -> Device:
        """Forget a device."""
        device = self[device_id]
        del self._devices[device_id]
        return device

    def _refuse_revoked(self, device_id: str) -> None:
        if self[device_id].status is DeviceStatus.REVOKED:
            raise RegistryError(Code.DEVICE_REVOKED, device_id)

    def _replace(self, device_id: str, **changes: Any) -> Device:
        changed = replace(self[device_id], **changes)
        self._devices[device_id] = changed
        return changed


def check(device: Device) -> None:
    """Refuse a device that the gateway could not serve.

    Plausible ranges must be of a number in the catalogue, the right way up, and within what is possible.
    """
    if DEVICE_ID_PATTERN.fullmatch(device.device_id) is None:
        raise RegistryError(Code.DEVICE_ID_INVALID, device.device_id)
    if unknown := device.metrics - CATALOG.keys():
        raise RegistryError(Code.METRIC_UNKNOWN, min(unknown))
    if not device.metrics and not device.actuators:
        raise RegistryError(Code.FIELD_MISSING, "metrics")
    if device.actuators and device.auth is not Auth.SIGNED:
        raise RegistryError(Code.ACTUATOR_INVALID, "only a device that signs may drive outputs")
    names = [actuator.name for actuator in device.actuators]
    if len(names) > MAX_ACTUATORS or len(set(names)) != len(names):
        raise RegistryError(Code.ACTUATOR_INVALID, f"at most {MAX_ACTUATORS}, each with a name of its own")
    for actuator in device.actuators:
        check_actuator(actuator)
    if not 1 <= device.rate_limit <= MAX_RATE_LIMIT:
        raise RegistryError(Code.RATE_LIMIT_INVALID, f"1 to {MAX_RATE_LIMIT}")
    for name, chosen in device.ranges.items():
        hard = CATALOG[name].hard if name in CATALOG else None
        if hard is None or not hard.low <= chosen.low < chosen.high <= hard.high:
            raise RegistryError(Code.RANGE_INVALID, name)
