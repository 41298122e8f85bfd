"""The security monitor: what was refused, to the audit trail, the event bus and the repairs."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .audit_log import AuditLog
from .const import DOCUMENTATION, DOMAIN, EVENT_SECURITY
from .gateway.aggregation import Aggregator
from .gateway.errors import Code, GatewayError
from .gateway.redaction import digest
from .gateway.security_events import Category, Severity, category_of

type SecurityListener = Callable[[Category, dict[str, str]], None]

ISSUE_ALERT: Final = "security_alert"
_LEARN_MORE: Final = f"{DOCUMENTATION}#when-it-refuses-something"
# More than so many failures of one device in a minute are suspicious ("IoT Security Best Practices for Grok & Mon").
_FAILURES: Final = 5
_WITHIN: Final = 60.0
# What an administrator decided is no reason for an alert.
_WANTED: Final = frozenset({Code.DEVICE_DISABLED, Code.DEVICE_REVOKED})
_SUMMARY_SECONDS: Final = 3600.0
# A sensor that is broken stays so: it is told of after ten minutes, and then once an hour.
_LASTING: Final = (600.0, 3600.0)


class SecurityMonitor:
    """Tell about refusals and implausible values: the first at once, the rest in numbers now and then."""

    def __init__(self, hass: HomeAssistant, audit: AuditLog, name_of: Callable[[str], str]) -> None:
        self._hass = hass
        self._audit = audit
        self._name_of = name_of
        self._refusals = Aggregator[tuple[str | None, Code]](merge=lambda key: (None, key[1]))
        self._implausible = Aggregator[tuple[str | None, str]](merge=lambda key: (None, key[1]), windows=_LASTING)
        self._sessions: Aggregator[str] = Aggregator()
        self._failures: dict[str, deque[float]] = {}
        self._reported: Counter[str] = Counter()
        self._reported_at: float | None = None
        self._listeners: list[SecurityListener] = []

    @callback
    def async_listen(self, listener: SecurityListener) -> CALLBACK_TYPE:
        """Call a listener for every security event; return how to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @callback
    def async_refused(self, device_id: str | None, error: GatewayError, payload: bytes, now: float) -> None:
        """Take note of a refused message. `device_id` is None for a device that the registry does not know.

        Of very many devices at once, only how many they are is on record, by reason.
        """
        error.told = True
        key = (device_id, error.code)
        merges = self._refusals.merges(key)
        named = None if merges else device_id
        if self._refusals.add(key, now):
            self._audit.record(
                "refused",
                outcome="refused",
                reason=error.code.value,
                device=named,
                detail=error.detail,
                bytes=len(payload),
                sha256=digest(payload),
                **_devices(int(merges and device_id is not None)),
            )
            if error.is_security_event:
                self.async_fire(error.code, named, error.detail)
        if device_id is not None and error.is_security_event and error.code not in _WANTED:
            self._note_failure(device_id, error.code, now)

    @callback
    def async_implausible(self, device_id: str, metrics: tuple[str, ...], now: float) -> None:
        """Take note of accepted values outside their plausible range; of very many devices, as of refusals."""
        for metric in metrics:
            key = (device_id, metric)
            merges = self._implausible.merges(key)
            named = None if merges else device_id
            if self._implausible.add(key, now):
                self._audit.record("implausible", outcome="found", device=named, metric=metric, **_devices(int(merges)))
                self.async_fire(Code.METRIC_IMPLAUSIBLE, named, metric)

    @callback
    def async_session(self, device_id: str, firmware: str | None, now: float) -> None:
        """Take note of a new session of a device."""
        if self._sessions.add(device_id, now):
            self._audit.record("session", device=device_id, firmware=firmware)

    @callback
    def async_tick(self, now: float, accepted: Counter[str], *, closing: bool = False) -> None:
        """Record what came together since the last summaries."""
        for refusal in self._refusals.close(now, everything=closing):
            device_id, code = refusal.key
            self._audit.record(
                "refused_again",
                outcome="refused",
                reason=code.value,
                device=device_id,
                count=refusal.count,
                **_devices(refusal.merged),
            )
        for repeat in self._implausible.close(now, everything=closing):
            device_id, metric = repeat.key
            self._audit.record(
                "implausible_again",
                outcome="found",
                device=device_id,
                metric=metric,
                count=repeat.count,
                **_devices(repeat.merged),
            )
        for start in self._sessions.close(now, everything=closing):
            self._audit.record("session_again", device=start.key, count=start.count)
        if self._reported_at is None:
            self._reported_at = now
        # A clock that was set back must not keep it from being told.
        if closing or not 0.0 <= now - self._reported_at < _SUMMARY_SECONDS:
            self._report_accepted(accepted)
            self._reported_at = now

    @callback
    def async_forget(self, device_id: str) -> None:
        """Drop what is held against a device that is no more."""
        self._failures.pop(device_id, None)
        ir.async_delete_issue(self._hass, DOMAIN, f"{ISSUE_ALERT}_{device_id}")

    @callback
    def async_acknowledge(self, device_id: str, actor: str) -> None:
        """Take note that an administrator knows of an alert."""
        self._failures.pop(device_id, None)
        self._audit.record("alert_acknowledged", actor=actor, device=device_id)
        ir.async_delete_issue(self._hass, DOMAIN, f"{ISSUE_ALERT}_{device_id}")

    @callback
    def async_fire(self, code: Code, device_id: str | None, detail: str, severity: Severity = Severity.WARNING) -> None:
        """Tell everybody who listens of a security event."""
        self.async_tell(category_of(code), code.value, device_id, detail, severity)

    @callback
    def async_tell(self, category: Category, code: str, device_id: str | None, detail: str, severity: Severity) -> None:
        """Tell everybody who listens of a security event of a kind."""
        data = {"category": category.value, "severity": severity.value, "code": code}
        if device_id is not None:
            data |= {"device_id": device_id, "name": self._name_of(device_id)}
        if detail:
            data["detail"] = detail
        self._hass.bus.async_fire(EVENT_SECURITY, data)
        for listener in self._listeners:
            listener(category, data)

    def _report_accepted(self, accepted: Counter[str]) -> None:
        for device_id, total in accepted.items():
            if total > self._reported[device_id]:
                self._audit.record("accepted", device=device_id, count=total - self._reported[device_id])
                self._reported[device_id] = total

    def _note_failure(self, device_id: str, code: Code, now: float) -> None:
        recent = self._failures.setdefault(device_id, deque(maxlen=_FAILURES + 1))
        recent.append(now)
        if len(recent) <= _FAILURES or now - recent[0] > _WITHIN:
            return
        recent.clear()
        issue_id = f"{ISSUE_ALERT}_{device_id}"
        if ir.async_get(self._hass).async_get_issue(DOMAIN, issue_id) is not None:
            # Told once, until an administrator says that it is known.
            return
        self._audit.record(
            Category.SUSPICIOUS_ACTIVITY.value, outcome="found", reason=code.value, device=device_id, within_s=_WITHIN
        )
        self.async_tell(
            Category.SUSPICIOUS_ACTIVITY, code.value, device_id, f"more than {_FAILURES} failures", Severity.CRITICAL
        )
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            issue_id,
            data={"issue": ISSUE_ALERT, "device_id": device_id},
            is_fixable=True,
            is_persistent=True,
            # The frontend shows it for issues only that nothing fixes; so it stands in the words, too.
            learn_more_url=_LEARN_MORE,
            severity=ir.IssueSeverity.ERROR,
            translation_key=ISSUE_ALERT,
            translation_placeholders={"name": self._name_of(device_id), "code": code.value, "url": _LEARN_MORE},
        )


def _devices(number: int) -> dict[str, Any]:
    """Return how many devices a line without a name stands for, where it stands for any."""
    return {"devices": number} if number else {}
