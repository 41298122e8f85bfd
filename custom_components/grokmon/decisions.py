"""Decisions: what of the audit trail Home Assistant's logbook tells, and which of it is a security event, too."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from homeassistant.const import ATTR_ENTITY_ID, Platform
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback

from .audit_log import AuditLog
from .const import EVENT_DECISION
from .coordinator import AUDIT
from .gateway.actuators import UNITS
from .gateway.audit_record import Record
from .gateway.security_events import Category, Severity
from .security import SecurityMonitor
from .unique_ids import HUB, registered

_CREDENTIALS: Final = frozenset(
    {
        *("enrolled", "rotated", "issued", "credential_restored", "claimed"),
        *("disabled", "enabled", "revoked", "revocation_confirmed", "removed"),
        *("kek_rotated", "authority_rotated"),
    }
)
# What is told, and how: who did it stands before these words.
WORDS: Final = {
    "command": "set {what}: {params}",
    "command_refused": "was not allowed to have {what} {params}: {why}",
    "entity_refused": "was not allowed to control this: {why}",
    "service_refused": "was not allowed to call this: {why}",
    "stage_refused": "was not allowed to change the growth stage of {name}: {why}",
    "dose_set": "set the next dose of {what}: {params}",
    "dose_refused": "was not allowed to set the next dose of {what}, {params}: {why}",
    "note_refused": "was not allowed to write more about {name}: {why}",
    "command_failed": "{what} could not do it: {why}",
    "command_rejected": "{what} refused: {why}",
    "command_timeout": "{what} did not answer",
    "interlock": "{reason} in {name}: {detail}",
    "output_fault": "{what} has a fault: {why}",
    "output_fault_reset": "reset the fault of {what}",
    "stage": "changed the growth stage of {name}",
    "photoperiod_override": "let lights burn in the dark period of {name}",
    "ai_allowed": "lets the AI act",
    "ai_blocked": "blocked the AI",
    "approval_requested": "asks for approval: {what} {params}",
    "approval_approved": "approved what the AI asked for",
    "approval_declined": "declined what the AI asked for",
    "approval_expired": "nobody answered what the AI asked for",
    "enrolled": "enrolled {name}",
    "rotated": "rotated the credentials of {name}",
    "issued": "issued another credential for {name}",
    "credential_restored": "restored the old credentials of {name}",
    "claimed": "{name} fetched its credentials",
    "claim_refused": "refused to hand over credentials: {why}",
    "revocation_confirmed": "{name} has no account at the broker any more",
    "broker_drift": "repaired accounts at the broker that somebody had changed: {why}",
    "authority_rotated": "began with a new certificate authority",
    "posture_acknowledged": "acknowledged what is not in order",
    "disabled": "disabled {name}",
    "enabled": "enabled {name}",
    "revoked": "revoked {name}",
    "removed": "removed {name}",
    "kek_rotated": "rotated the key-encryption key",
    "suspicious_activity": "messages in the name of {name} are refused again and again: {why}",
    "alert_acknowledged": "acknowledged the alert of {name}",
    "audit_finding": "the audit trail was changed: {why}",
    "audit_key_changed": "gave the audit trail a new key",
    "restored": "was restored from a backup",
}
# What of the details is told, the first that there is.
_DETAILS: Final = ("detail", "state", "entity", "service")


def in_words(params: Mapping[str, Any]) -> str:
    """Return what a command wants."""
    return "turn off" if params.get("on") is False else figures_of(params) or "turn on"


def figures_of(params: Mapping[str, Any]) -> str:
    """Return how much a command wants; a number that was none stands in the trail as text."""
    wanted = [(params[name], unit) for name, unit in UNITS.items() if name in params]
    return ", ".join(f"{value if isinstance(value, str) else f'{value:g}'} {unit}" for value, unit in wanted)


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
        if action not in WORDS:
            return
        device_id = record["object"].get("device")
        named = record["object"].get("zone") or device_id
        principal = record["principal"] or {}
        details = record["details"]
        told = {
            "action": action,
            "outcome": record["outcome"],
            "reason": record["reason"],
            "caller": principal.get("caller"),
            "identity": principal.get("identity"),
            "said": principal.get("reason"),
            "name": self._name_of(named) if named is not None else None,
            "actuator": record["object"].get("actuator"),
            "detail": next((details[name] for name in _DETAILS if name in details), None),
            "params": details.get("params"),
            ATTR_ENTITY_ID: registered(self._hass, Platform.SENSOR, HUB, AUDIT),
        }
        self._hass.bus.async_fire(EVENT_DECISION, {name: value for name, value in told.items() if value})
        if action in _CREDENTIALS:
            self._monitor.async_tell(Category.CREDENTIAL, action, device_id, "", Severity.INFO)
