"""Alarms: interlocks and faults, to the audit trail, the event bus and the repairs, and their reset."""

from collections.abc import Callable
from typing import Any, Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .audit_log import AuditLog
from .const import DOMAIN
from .gateway.actions import Tripped
from .gateway.actuators import Key, Moment
from .gateway.aggregation import Aggregator
from .gateway.control import Controller
from .gateway.errors import Code
from .gateway.interlocks import RULES
from .gateway.security_events import Severity
from .gateway.zones import Interlock
from .issues import async_delete_issues
from .security import SecurityMonitor
from .unique_ids import output_name

ISSUE_INTERLOCK: Final = "interlock_latched"
ISSUE_FAULT: Final = "output_fault"
ISSUE_BOOKS: Final = "books_lost"


# What of the latched interlocks of a zone was reset, and what stays.
type Reset = tuple[frozenset[Interlock], frozenset[Interlock]]


class Alarms:
    """Tell people what the interlocks and the feedback of outputs found."""

    def __init__(
        self, hass: HomeAssistant, audit: AuditLog, monitor: SecurityMonitor, name_of: Callable[[str], str]
    ) -> None:
        self._hass = hass
        self._audit = audit
        self._monitor = monitor
        self._name_of = name_of
        self._often: Aggregator[Tripped] = Aggregator()

    @callback
    def async_restore(self, controller: Controller, *, lost: bool) -> None:
        """Raise the issues of what was latched before this start, or tell that this is lost."""
        if lost:
            self._raise_books()
        for zone_id in controller.zones:
            for interlock in controller.interlocks.latched(zone_id):
                self._raise_interlock(zone_id, interlock)
        for key, output in controller.outputs.items():
            if output.fault is not None:
                self._raise_fault(key, output.fault)

    @callback
    def async_follow(self, controller: Controller) -> None:
        """Delete the issues of zones and outputs that are no more."""
        latches = {_interlock_issue(zone_id, interlock) for zone_id in controller.zones for interlock in RULES}
        faults = {_fault_issue(key) for key in controller.outputs}
        async_delete_issues(self._hass, ISSUE_INTERLOCK, ISSUE_FAULT, but=latches | faults)

    @callback
    def async_tripped(self, change: Tripped, controller: Controller, now: Moment) -> None:
        """Tell that an interlock tripped or ended; of a sensor fault, which sensors are silent."""
        # What flutters around its limit is counted; what latches cannot.
        if RULES[change.interlock].latches or self._often.add(change, now.steady):
            self._tell(change, controller, now)

    def _tell(self, change: Tripped, controller: Controller, now: Moment) -> None:
        self._record("interlock", change)
        if not change.active:
            return
        latches = RULES[change.interlock].latches
        severity = Severity.CRITICAL if latches else Severity.WARNING
        detail = f"{change.interlock} in {self._name_of(change.zone_id)}"
        if change.interlock is Interlock.SENSOR_FAULT:
            silent = controller.interlocks.silent(change.zone_id, now.steady)
            detail += "".join(f", {metric} of {self._name_of(device_id)}" for device_id, metric in silent)
        self._monitor.async_fire(Code.INTERLOCK, None, detail, severity)
        if latches:
            self._raise_interlock(change.zone_id, change.interlock)

    @callback
    def async_summarise(self, controller: Controller, now: Moment, *, closing: bool) -> None:
        """Record how often interlocks tripped and ended again."""
        again = self._often.close(now.steady, everything=closing)
        for summary in again:
            self._record("interlock_again", summary.key, count=summary.count)
        # What lasts is the last that is told.
        for change in (summary.key for summary in again):
            if change.active and change.interlock in controller.interlocks.tripped(change.zone_id):
                self._tell(change, controller, now)

    def _record(self, event: str, change: Tripped, **facts: Any) -> None:
        state = "tripped" if change.active else "ended"
        reason, zone_id = change.interlock.value, change.zone_id
        self._audit.record(event, outcome="found", reason=reason, zone=zone_id, state=state, **facts)

    @callback
    def async_faulted(self, key: Key, fault: str) -> None:
        """Tell that an output does not do what it was told."""
        self._audit.record("output_fault", outcome="found", reason=fault, device=key.device_id, actuator=key.actuator)
        self._monitor.async_fire(Code.OUTPUT_FAULT, key.device_id, f"{key.actuator}: {fault}")
        self._raise_fault(key, fault)

    @callback
    def async_reset_zone(self, controller: Controller, zone_id: str, actor: str) -> Reset:
        """Let go of what is latched in a zone; return what was let go, and what stays since its condition holds."""
        freed, kept = controller.interlocks.reset(zone_id)
        for interlock in freed:
            ir.async_delete_issue(self._hass, DOMAIN, _interlock_issue(zone_id, interlock))
            self._audit.record("interlock", reason=interlock.value, zone=zone_id, actor=actor, state="reset")
        return freed, kept

    @callback
    def async_reset_fault(self, controller: Controller, key: Key, actor: str) -> None:
        """Let an output be used again after a fault."""
        if (fault := controller.reset_fault(key)) is None:
            return
        ir.async_delete_issue(self._hass, DOMAIN, _fault_issue(key))
        self._audit.record("output_fault_reset", reason=fault, actor=actor, device=key.device_id, actuator=key.actuator)

    def _raise_books(self) -> None:
        self._audit.record("books_lost", outcome="found")
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            ISSUE_BOOKS,
            data={"issue": ISSUE_BOOKS},
            is_fixable=True,
            # This is the only start that finds it.
            is_persistent=True,
            severity=ir.IssueSeverity.WARNING,
            translation_key=ISSUE_BOOKS,
        )

    def _raise_interlock(self, zone_id: str, interlock: Interlock) -> None:
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            _interlock_issue(zone_id, interlock),
            data={"issue": ISSUE_INTERLOCK, "zone_id": zone_id, "interlock": interlock.value},
            is_fixable=True,
            severity=ir.IssueSeverity.CRITICAL,
            translation_key=f"{ISSUE_INTERLOCK}_{interlock}",
            translation_placeholders={"zone": self._name_of(zone_id)},
        )

    def _raise_fault(self, key: Key, fault: str) -> None:
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            _fault_issue(key),
            data={"issue": ISSUE_FAULT, "device_id": key.device_id, "actuator": key.actuator},
            is_fixable=True,
            severity=ir.IssueSeverity.ERROR,
            translation_key=f"{ISSUE_FAULT}_{fault}",
            translation_placeholders={"name": self._name_of(key.device_id), "actuator": output_name(self._hass, key)},
        )


def _interlock_issue(zone_id: str, interlock: Interlock) -> str:
    return f"{ISSUE_INTERLOCK}_{zone_id}_{interlock}"


def _fault_issue(key: Key) -> str:
    return f"{ISSUE_FAULT}_{key.device_id}_{key.actuator}"
