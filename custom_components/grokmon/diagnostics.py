"""Diagnostics: an allow-list of what helps to find a fault, and nothing secret."""

from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers.device_registry import DeviceEntry

from .const import DOMAIN
from .coordinator import DeviceCoordinator
from .hub import GrokmonConfigEntry, GrokmonHub


async def async_get_config_entry_diagnostics(_hass: HomeAssistant, entry: GrokmonConfigEntry) -> dict[str, Any]:
    """Return the diagnostics of the hub and its devices."""
    hub = entry.runtime_data
    return {
        "prefix": hub.prefix,
        "options": dict(entry.options),
        "accepted": hub.gateway.accepted.total(),
        "refused_unknown_device": hub.refused_by_code(None),
        "audit": {"entries": hub.audit.entries, "healthy": hub.audit.healthy},
        "devices": [_device(hub, coordinator) for coordinator in hub.enrolment.coordinators.values()],
    }


async def async_get_device_diagnostics(
    _hass: HomeAssistant, entry: GrokmonConfigEntry, device: DeviceEntry
) -> dict[str, Any]:
    """Return the diagnostics of one device."""
    hub = entry.runtime_data
    for domain, identifier in device.identifiers:
        if domain == DOMAIN and identifier in hub.enrolment.coordinators:
            return _device(hub, hub.enrolment.coordinators[identifier])
    return {}


def _device(hub: GrokmonHub, coordinator: DeviceCoordinator) -> dict[str, Any]:
    device = coordinator.device
    return {
        "device_id": device.device_id,
        "status": device.status.value,
        "auth": device.credential.algorithm.value,
        "created": device.credential.created,
        "metrics": sorted(device.metrics),
        "ranges": {name: [chosen.low, chosen.high] for name, chosen in device.ranges.items()},
        "rate_limit": device.rate_limit,
        "session": hub.gateway.sessions.active_sid(device.device_id) is not None,
        "accepted": hub.gateway.accepted[device.device_id],
        "late": hub.gateway.late[device.device_id],
        "refused": hub.refused_by_code(device.device_id),
        "flagged": {
            metric: count for (known, metric), count in hub.gateway.flagged.items() if known == device.device_id
        },
        "values": dict(sorted(coordinator.values.items())),
    }
