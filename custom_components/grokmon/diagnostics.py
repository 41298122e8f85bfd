"""Diagnostics: an allow-list of what helps to find a fault, and nothing secret."""

from dataclasses import asdict
from typing import Any, Final

from homeassistant.core import HomeAssistant
from homeassistant.helpers.device_registry import DeviceEntry

from .anchors import anchors_from
from .choices import method_of
from .const import CONF_HTTP_ENROLMENT, CONF_HTTP_INGEST, CONF_LIMITS, CONF_RETENTION, CONF_STALE_AFTER, DOMAIN
from .coordinator import DeviceCoordinator
from .gateway.outputs import Output
from .hub import GrokmonConfigEntry, GrokmonHub

# Who is who in the house, and where its servers are, is nobody's business.
_OPTIONS: Final = (CONF_STALE_AFTER, CONF_HTTP_INGEST, CONF_HTTP_ENROLMENT, CONF_LIMITS, CONF_RETENTION)


async def async_get_config_entry_diagnostics(hass: HomeAssistant, entry: GrokmonConfigEntry) -> dict[str, Any]:
    """Return the diagnostics of the hub and its devices."""
    hub = entry.runtime_data
    return {
        "prefix": hub.prefix,
        "options": {name: entry.options[name] for name in _OPTIONS if name in entry.options},
        "anchors": [anchor.kind for anchor in anchors_from(hass, entry.options)],
        "broker_accounts": hub.trust.accounts.mode.value,
        "accepted": hub.gateway.accepted.total(),
        "refused_unknown_device": hub.refused_by_code(None),
        "audit": {"entries": hub.audit.entries, "healthy": hub.audit.healthy},
        "staging": {"healthy": hub.staging.healthy, "left_out": hub.staging.left_out},
        "ai_allowed": hub.dispatcher.controller.policy.ai_allowed,
        "zones": [_zone(hub, zone_id) for zone_id in hub.dispatcher.controller.zones],
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
        "auth": method_of(device),
        "credentials": [
            {"kind": each.kind.value, "state": each.state.value, "created": each.created, "until": each.until}
            for each in device.credentials
        ],
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
        "values": {key: value for key, value in sorted(coordinator.values.items()) if key not in coordinator.actuators},
        "outputs": [_output(output) for output in hub.dispatcher.controller.outputs_of(device.device_id)],
    }


def _output(output: Output) -> dict[str, Any]:
    observed, wish = output.observed, output.wish
    return {
        **output.actuator.as_dict(),
        "observed": None if observed is None else asdict(observed),
        "wish": None if wish is None else wish.order.command.params(),
        "pending": output.pending is not None,
        "fault": output.fault,
    }


def _zone(hub: GrokmonHub, zone_id: str) -> dict[str, Any]:
    controller = hub.dispatcher.controller
    return {
        "settings": hub.zones.settings(zone_id),
        "interlocks": [interlock.value for interlock in controller.interlocks.active(zone_id)],
        "latched": sorted(controller.interlocks.latched(zone_id)),
    }
