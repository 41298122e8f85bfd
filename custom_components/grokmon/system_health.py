"""System health: the state of the gateway at a glance."""

from typing import Any

from homeassistant.components import mqtt, system_health
from homeassistant.core import HomeAssistant, callback

from .access import running_hub


@callback
def async_register(_hass: HomeAssistant, register: system_health.SystemHealthRegistration) -> None:
    """Register what is told."""
    register.async_register_info(system_health_info)


async def system_health_info(hass: HomeAssistant) -> dict[str, Any]:
    """Return facts without secrets."""
    if (hub := running_hub(hass)) is None:
        return {"running": False}
    verified = hub.keeper.state()
    return {
        "running": True,
        "broker_connected": mqtt.is_connected(hass),
        "devices": len(list(hub.gateway.registry)),
        "audit_lines": hub.audit.entries,
        "audit_writable": hub.audit.healthy,
        "audit_verified": verified["last_verification"] or "not yet",
        "audit_result": verified["last_result"] or "not yet",
        "checkpoints_sent_to": ", ".join(sorted(hub.keeper.anchored_at)) or "nowhere",
        "key_encryption_key": hub.store.kek.source.value,
        "staged_bytes": await hub.staging.async_size(),
    }
