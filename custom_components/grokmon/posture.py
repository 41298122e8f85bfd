"""The posture keeper: probe the broker, measure the checklist, and tell about whatever is not in order."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from time import time
from typing import Any, Final

from homeassistant.components import mqtt
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.util import dt as dt_util

from .audit_log import AuditLog
from .broker.accounts import BrokerAccounts
from .broker.connection import BrokerError
from .broker.probe import Target, probe
from .checklist import Checklist
from .const import CONF_BROKER, DOMAIN
from .gateway.checklist import Item, score, to_raise
from .gateway.posture import Check, Finding, Posture, PostureReport
from .gateway.security_events import Category, Severity
from .gateway.topics import PROBE_IDS
from .security import SecurityMonitor
from .store import SecurityStore
from .turns import Turns

CONF_PLAINTEXT_PORT: Final = "plaintext_port"
DEFAULT_PLAINTEXT_PORT: Final = 1883
ISSUE_POSTURE: Final = "posture"
_DAY: Final = timedelta(days=1)
_WORSE: Final = frozenset({Posture.OPEN, Posture.PARTIAL})
_NOTHING: Final = PostureReport(results=(), at=0.0)


class PostureKeeper:
    """Know whether the broker keeps devices apart, and what else is in order.

    `changed` is called whenever something new is known; until the first probe of a start nothing is.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry[Any],
        prefix: str,
        store: SecurityStore,
        *,
        audit: AuditLog,
        monitor: SecurityMonitor,
        accounts: BrokerAccounts,
        checklist: Checklist,
        changed: Callable[[], None],
    ) -> None:
        self._hass = hass
        self._entry = entry
        self._prefix = prefix
        self._store = store
        self._audit = audit
        self._monitor = monitor
        self._accounts = accounts
        self._checklist = checklist
        self._changed = changed
        self._turns = Turns(self._async_measure)
        self._items: Mapping[Item, Finding] = {}
        self._outages = 0
        self.report = _NOTHING

    @callback
    def async_start(self) -> list[CALLBACK_TYPE]:
        """Measure now, daily, and whenever the broker is there again; return how to end that."""
        self.async_request()
        return [
            async_track_time_interval(self._hass, self._daily, _DAY, cancel_on_shutdown=True),
            mqtt.async_subscribe_connection_status(self._hass, self._connected),
        ]

    @property
    def posture(self) -> Posture:
        """Return what is known of the broker since this start."""
        return self.report.posture

    @property
    def findings(self) -> dict[Check | Item, Finding]:
        """Return everything that is measured."""
        checks: dict[Check | Item, Finding] = {check: self.report.finding(check) for check in Check}
        return {**checks, **{item: self._items.get(item, Finding.UNKNOWN) for item in Item}}

    @property
    def score(self) -> int:
        """Return how much is in order, in per cent."""
        return score(self.findings, self._store.state.acknowledged)

    @property
    def acknowledged(self) -> Mapping[str, str]:
        """Return what is known not to be in order, and why."""
        return self._store.state.acknowledged

    def as_shown(self) -> dict[str, Any]:
        """Return the verdict, and what it is made of, for the entity."""
        expires, probed_at = self.report.certificate_expires, self.report.at if self.report.results else None
        return {
            "posture": self.posture.value,
            **{item.value: finding.value for item, finding in self.findings.items()},
            "acknowledged": sorted(self.acknowledged),
            "revocations_pending": self._accounts.revoking,
            "stranger_accounts": list(self._accounts.strangers),
            "certificate_expires": _shown(expires),
            "probed_at": _shown(probed_at),
        }

    def is_failed(self, item: str) -> bool:
        """Tell whether something was found not to be in order."""
        return item in to_raise(self.findings, ())

    @callback
    def async_request(self) -> None:
        """Measure soon."""
        self._entry.async_create_background_task(self._hass, self.async_measure(), "grokmon posture")

    async def async_measure(self) -> None:
        """Measure everything, and tell about it; whoever asks meanwhile shares one more measurement."""
        await self._turns.async_run()

    async def async_stop(self) -> None:
        """Measure no more, and wait a while for what is being measured."""
        await self._turns.async_end()

    async def async_acknowledge(self, item: str, reason: str, actor: str) -> None:
        """Take note that an administrator knows of something, and why it stays. Raises HomeAssistantError."""
        before = dict(self._store.state.acknowledged)
        self._store.state.acknowledged[item] = reason
        try:
            await self._store.async_save()
        except BaseException:
            self._store.state.acknowledged = before
            raise
        self._audit.record("posture_acknowledged", actor=actor, item=item, why=reason)
        self._raise_issues()
        self._changed()

    async def _async_measure(self) -> None:
        before, outages = self.posture, self._outages
        report = await self._async_probe()
        # Who answers after an outage may be another broker: what was found before says nothing about that one.
        self.report = report if outages == self._outages else _NOTHING
        try:
            self._items = await self._checklist.async_measure()
        finally:
            # What was found out about the broker counts, whatever becomes of the rest.
            self._tell(before, self.report)
            self._changed()
        await self._async_forget_mended()

    async def _async_forget_mended(self) -> None:
        """Let what was acknowledged, and is in order now, be told when it fails again. Raises HomeAssistantError."""
        passed = {each.value for each, finding in self.findings.items() if finding is Finding.PASSED}
        if mended := passed & self.acknowledged.keys():
            kept = {item: why for item, why in self.acknowledged.items() if item not in mended}
            self._store.state.acknowledged = kept
            self._audit.record("posture_mended", items=sorted(mended))
            self._changed()
            await self._store.async_save()

    async def _async_probe(self) -> PostureReport:
        now = time()
        try:
            address = await self._accounts.async_address()
        except BrokerError:
            return PostureReport(results=(), at=now)
        first, second = self._accounts.probe_logins
        target = Target(
            endpoint=address.endpoint,
            prefix=self._prefix,
            probe=first,
            device_id=PROBE_IDS[0],
            client_id=PROBE_IDS[0],
            other=second,
            other_id=PROBE_IDS[1],
            other_client_id=PROBE_IDS[1],
            observer=address.hub,
            plaintext_port=int(
                self._entry.options.get(CONF_BROKER, {}).get(CONF_PLAINTEXT_PORT, DEFAULT_PLAINTEXT_PORT)
            ),
        )
        return await self._hass.async_add_executor_job(probe, target, now)

    def _tell(self, before: Posture, report: PostureReport) -> None:
        failed = sorted(check.value for check in Check if report.finding(check) is Finding.FAILED)
        self._audit.record("probed", outcome="found", reason=report.posture.value, failed=failed, score=self.score)
        if report.posture in _WORSE and report.posture is not before:
            severity = Severity.CRITICAL if report.posture is Posture.OPEN else Severity.WARNING
            self._monitor.async_tell(Category.POSTURE, report.posture.value, None, ", ".join(failed), severity)
        self._raise_issues()

    def _raise_issues(self) -> None:
        wanted = to_raise(self.findings, self.acknowledged)
        for each in (*Check, *Item):
            issue_id = f"{ISSUE_POSTURE}_{each.value}"
            if each.value not in wanted:
                ir.async_delete_issue(self._hass, DOMAIN, issue_id)
                continue
            facts = self._facts(each)
            ir.async_create_issue(
                self._hass,
                DOMAIN,
                issue_id,
                data={"issue": ISSUE_POSTURE, "item": each.value, **facts},
                is_fixable=True,
                severity=ir.IssueSeverity.WARNING,
                translation_key=issue_id,
                translation_placeholders=facts,
            )

    def _facts(self, item: Check | Item) -> dict[str, str]:
        """Return what has to be told of something beside what it is."""
        if item is not Item.STRANGERS:
            return {}
        return {"accounts": ", ".join(self._accounts.strangers), "prefix": self._prefix}

    @callback
    def _daily(self, _moment: datetime) -> None:
        self.async_request()

    @callback
    def _connected(self, connected: bool) -> None:
        if connected:
            self.async_request()
        else:
            # Who answers next may be another broker, or the same with other settings.
            self._outages += 1
            self.report = _NOTHING
            self._changed()


def _shown(moment: float | None) -> str | None:
    return None if moment is None else dt_util.utc_from_timestamp(moment).isoformat()
