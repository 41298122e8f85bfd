"""The security monitor: what was refused, to the audit trail, the event bus and the repairs."""

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .audit_log import AuditLog
from .const import DOMAIN, EVENT_SECURITY
from .gateway.aggregation import Aggregator
from .gateway.errors import Code, GatewayError

type SecurityListener = Callable[[Code, dict[str, str]], None]

# A device that is refused this often without a quiet time is worth a repair issue.
_REPEATED: Final = 20
# What an administrator decided needs no repair.
_WANTED: Final = frozenset({Code.DEVICE_DISABLED, Code.DEVICE_REVOKED})
_QUIET_SECONDS: Final = 600.0
_SUMMARY_SECONDS: Final = 3600.0


class SecurityMonitor:
    """Tell about refusals and implausible values: the first at once, the rest once a minute."""

    def __init__(self, hass: HomeAssistant, audit: AuditLog, name_of: Callable[[str], str]) -> None:
        self._hass = hass
        self._audit = audit
        self._name_of = name_of
        self._refusals: Aggregator[tuple[str | None, Code]] = Aggregator()
        self._implausible: Aggregator[tuple[str, str]] = Aggregator()
        self._repeated: Counter[str] = Counter()
        self._last_refusal: dict[str, float] = {}
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
        """Take note of a refused message. `device_id` is None for a device that the registry does not know."""
        if self._refusals.add((device_id, error.code), now):
            self._audit.record(
                "refused",
                device=device_id,
                reason=error.code.value,
                detail=error.detail,
                bytes=len(payload),
                sha256=sha256(payload).hexdigest(),
            )
            if error.is_security_event:
                self.async_fire(error.code, device_id, error.detail)
        if device_id is not None and error.is_security_event and error.code not in _WANTED:
            self._note_repeated(device_id, error.code, now)

    @callback
    def async_implausible(self, device_id: str, metrics: tuple[str, ...], now: float) -> None:
        """Take note of accepted values outside their plausible range."""
        for metric in metrics:
            if self._implausible.add((device_id, metric), now):
                self._audit.record("implausible", device=device_id, metric=metric)
                self.async_fire(Code.METRIC_IMPLAUSIBLE, device_id, metric)

    @callback
    def async_tick(self, now: float, accepted: Counter[str], *, closing: bool = False) -> None:
        """Record what came together since the last summaries."""
        for refusal in self._refusals.close(now, everything=closing):
            device_id, code = refusal.key
            self._audit.record("refused_again", device=device_id, reason=code.value, count=refusal.count)
        for repeat in self._implausible.close(now, everything=closing):
            device_id, metric = repeat.key
            self._audit.record("implausible_again", device=device_id, metric=metric, count=repeat.count)
        if self._reported_at is None:
            self._reported_at = now
        if closing or now - self._reported_at >= _SUMMARY_SECONDS:
            self._report_accepted(accepted)
            self._reported_at = now
        for device_id, last in list(self._last_refusal.items()):
            # Who starts after this one does not know of the issue.
            if closing or now - last >= _QUIET_SECONDS:
                self.async_forget(device_id)

    @callback
    def async_forget(self, device_id: str) -> None:
        """Drop what is held against a device."""
        self._last_refusal.pop(device_id, None)
        if self._repeated.pop(device_id, 0) >= _REPEATED:
            ir.async_delete_issue(self._hass, DOMAIN, f"device_refused_{device_id}")

    @callback
    def async_fire(self, code: Code, device_id: str | None, detail: str) -> None:
        """Tell everybody who listens of a security event."""
        data = {"code": code.value}
        if device_id is not None:
            data |= {"device_id": device_id, "name": self._name_of(device_id)}
        if detail:
            data["detail"] = detail
        self._hass.bus.async_fire(EVENT_SECURITY, data)
        for listener in self._listeners:
            listener(code, data)

    def _report_accepted(self, accepted: Counter[str]) -> None:
        for device_id, total in accepted.items():
            if total > self._reported[device_id]:
                self._audit.record("accepted", device=device_id, count=total - self._reported[device_id])
                self._reported[device_id] = total

    def _note_repeated(self, device_id: str, code: Code, now: float) -> None:
        self._last_refusal[device_id] = now
        self._repeated[device_id] += 1
        if self._repeated[device_id] == _REPEATED:
            ir.async_create_issue(
                self._hass,
                DOMAIN,
                f"device_refused_{device_id}",
                is_fixable=False,
                severity=ir.IssueSeverity.WARNING,
                translation_key="device_refused",
                translation_placeholders={"name": self._name_of(device_id), "code": code.value},
            )
