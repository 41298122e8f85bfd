"""The audit keeper: what is done with the trail day by day: verification, retention, checkpoints off the box."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
import logging
from time import time
from typing import Any, Final

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_call_later, async_track_time_interval
from homeassistant.util import dt as dt_util

from .anchors import Anchors, anchors_from
from .audit_file import Opening
from .audit_log import AuditLog
from .const import CONF_RETENTION, DEFAULT_RETENTION, DOMAIN
from .gateway.audit import Position, Verdict, Verification

_LOGGER = logging.getLogger(__name__)

ISSUE_KEY_UNSEEN: Final = "audit_key_unseen"
ISSUE_RESTORED: Final = "restored"
ISSUE_FINDING: Final = "audit_finding"
ISSUE_UNREADABLE: Final = "audit_unreadable"
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_AFTER_START: Final = 60.0


class AuditKeeper:
    """Keep the trail: verify it daily, delete what is too old, and raise an issue for whatever is found."""

    def __init__(self, hass: HomeAssistant, audit: AuditLog, anchors: Anchors, retention_days: int) -> None:
        self._hass = hass
        self._audit = audit
        self._anchors = anchors
        self._retention_s = retention_days * 86_400.0
        self._sending: set[asyncio.Task[None]] = set()
        self.verified_at: float | None = None
        self.verified: Verification | None = None

    @callback
    def async_start(self, opening: Opening) -> list[CALLBACK_TYPE]:
        """Raise what was found when the trail was opened, and begin; return how to end that."""
        if opening.new_key:
            self._raise(ISSUE_KEY_UNSEEN, ir.IssueSeverity.WARNING, fixable=True)
        self._anchors.async_start()
        self._audit.on_checkpoint = self._send
        return [
            async_call_later(self._hass, _AFTER_START, self._async_daily),
            async_track_time_interval(self._hass, self._async_hourly, _HOUR, cancel_on_shutdown=True),
            async_track_time_interval(self._hass, self._async_daily, _DAY, cancel_on_shutdown=True),
        ]

    @property
    def anchored_at(self) -> Mapping[str, float]:
        """Return when a checkpoint was last put where, by the kind of the place."""
        return self._anchors.last_sent

    async def async_finish(self) -> None:
        """Wait until the last checkpoints are where they are kept; each place has its time-out."""
        self._audit.on_checkpoint = None
        if self._sending:
            await asyncio.wait(self._sending)

    async def async_verify(self, actor: str | None = None) -> Verification:
        """Check the whole trail, record the result, and raise or clear the issue. Raises OSError or ValueError."""
        report = await self._audit.async_verify(await self._async_kept())
        good = report.result is Verdict.GOOD
        first: dict[str, Any] = {} if good else {"line": report.findings[0].line, "findings": len(report.findings)}
        self._audit.record(
            "verified",
            outcome="done" if good else "found",
            reason=report.result.name.lower(),
            actor=actor,
            lines=report.lines,
            **first,
        )
        self.verified_at, self.verified = time(), report
        self._show(report)
        return report

    async def async_check(self, *, purge: bool = False) -> None:
        """Verify the trail, and delete what is too old if wanted; what cannot be read is an issue until it can."""
        try:
            await self.async_verify()
            if purge:
                await self._audit.async_purge(time() - self._retention_s)
        except (OSError, ValueError) as error:
            _LOGGER.exception("The audit trail could not be verified")
            self._raise(ISSUE_UNREADABLE, error=str(error))
            return
        ir.async_delete_issue(self._hass, DOMAIN, ISSUE_UNREADABLE)

    @callback
    def async_key_seen(self) -> None:
        """Take note that somebody has seen the key: a dialog that was closed before does not count."""
        ir.async_delete_issue(self._hass, DOMAIN, ISSUE_KEY_UNSEEN)

    def state(self) -> dict[str, Any]:
        """Return what the audit sensor shows."""
        at = self.verified_at
        return {
            "healthy": self._audit.healthy,
            "lines": self._audit.entries,
            "last_checkpoint": self._audit.checkpoint,
            "last_verification": None if at is None else dt_util.utc_from_timestamp(at).isoformat(timespec="seconds"),
            "last_result": None if self.verified is None else self.verified.result.name.lower(),
        }

    @callback
    def async_restored(self, backup_at: float) -> None:
        """Ask an administrator to look through the devices after a restore."""
        at = dt_util.as_local(dt_util.utc_from_timestamp(backup_at))
        self._raise(ISSUE_RESTORED, fixable=True, at=f"{at:%Y-%m-%d %H:%M}")

    async def _async_kept(self) -> list[Position]:
        try:
            return await self._anchors.async_kept()
        except (OSError, ValueError) as error:
            # A missing mount is told of when the next checkpoint cannot be put there.
            _LOGGER.warning("Checkpoints kept elsewhere could not be read: %r", error)
            return []

    async def _async_hourly(self, _moment: datetime) -> None:
        # A quiet trail has no line that would bring a checkpoint with it.
        await self._audit.async_flush(checkpoint=True)

    async def _async_daily(self, moment: datetime) -> None:
        await self._async_hourly(moment)
        await self.async_check(purge=True)

    @callback
    def _send(self, note: str) -> None:
        task = self._hass.async_create_background_task(self._anchors.async_send(note), "grokmon anchors")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _show(self, report: Verification) -> None:
        if report.result is Verdict.GOOD:
            ir.async_delete_issue(self._hass, DOMAIN, ISSUE_FINDING)
            return
        finding = report.findings[0]
        _LOGGER.error("The audit trail is not what was written, from line %d on: %s", finding.line, finding.reason)
        self._raise(ISSUE_FINDING, line=str(finding.line), reason=finding.reason, count=str(len(report.findings)))

    def _raise(
        self, issue: str, severity: ir.IssueSeverity = ir.IssueSeverity.ERROR, *, fixable: bool = False, **facts: str
    ) -> None:
        """Raise an issue. One that somebody has to answer stays over a start."""
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            issue,
            data={"issue": issue} if fixable else None,
            is_fixable=fixable,
            is_persistent=fixable,
            severity=severity,
            translation_key=issue,
            translation_placeholders=facts or None,
        )


def audit_keeper_of(hass: HomeAssistant, options: Mapping[str, Any], audit: AuditLog) -> AuditKeeper:
    """Return the keeper of a trail, as the options want it."""
    anchors = Anchors(hass, anchors_from(hass, options), audit.record)
    return AuditKeeper(hass, audit, anchors, options.get(CONF_RETENTION, DEFAULT_RETENTION))
