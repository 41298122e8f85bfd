"""Decisions: what of the audit trail Home Assistant's logbook tells, and which of it is a security event, too."""

from collections.abc import Callable
from typing import Final

from homeassistant.const import ATTR_ENTITY_ID, Platform
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import entity_registry as er

from .audit_log import AuditLog
from .const import DOMAIN, EVENT_DECISION
from .coordinator import AUDIT
from .gateway.audit_record import Record
from .gateway.security_events import Category, Severity
from .security import SecurityMonitor

_CREDENTIALS: Final = frozenset({"enrolled", "rotated", "disabled", "enabled", "revoked", "removed", "kek_rotated"})
TOLD: Final = _CREDENTIALS | {
    "command",
    "command_refused",
    "command_failed",
    "command_rejected",
    "command_timeout",
    "interlock",
    "output_fault",
    "output_fault_reset",
    "stage",
    "photoperiod_override",
    "ai_allowed",
    "ai_blocked",
    "approval_requested",
    "approval_approved",
    "approval_declined",
    "approval_expired",
    "suspicious_activity",
    "alert_acknowledged",
    "audit_finding",
    "audit_key_changed",
    "restored",
}


class Decisions:
    """Tell the logbook of decisions, in the name of the audit sensor."""

    def __init__(
        self, hass: HomeAssistant, audit: AuditLog, monitor: SecurityMonitor, name_of: Callable[[str], str]
    ) -> None:
        self._hass = hass
        self._audit = audit
        self._monitor = monitor
        self._name_of = name_of

    @callback
    def async_listen(self) -> CALLBACK_TYPE:
        """Follow the audit log; return how to end that."""
        self._audit.listeners.append(self._heard)
        return lambda: self._audit.listeners.remove(self._heard)

    @callback
    def _heard(self, record: Record) -> None:
        action = record["action"]
        if action not in TOLD:
            return
        device_id = record["object"].get("device")
        named = record["object"].get("zone") or device_id
        principal = record["principal"] or {}
        told = {
            "action": action,
            "outcome": record["outcome"],
            "reason": record["reason"],
            "caller": principal.get("caller"),
            "identity": principal.get("identity"),
            "said": principal.get("reason"),
            "name": self._name_of(named) if named is not None else None,
            "actuator": record["object"].get("actuator"),
            "detail": record["details"].get("detail") or record["details"].get("state"),
            "params": record["details"].get("params"),
            ATTR_ENTITY_ID: er.async_get(self._hass).async_get_entity_id(Platform.SENSOR, DOMAIN, f"hub_{AUDIT}"),
        }
        self._hass.bus.async_fire(EVENT_DECISION, {name: value for name, value in told.items() if value})
        if action in _CREDENTIALS:
            self._monitor.async_tell(Category.CREDENTIAL, action, device_id, "", Severity.INFO)
