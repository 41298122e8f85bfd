"""The audit log: from decisions in the event loop to the audit file, in batches of at most one second."""

import asyncio
from datetime import UTC, datetime
from functools import partial
import logging
from pathlib import Path
from typing import Any, Final

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

from .audit_file import AuditFile
from .const import DOMAIN
from .gateway.audit import Report

_LOGGER = logging.getLogger(__name__)

_BATCH_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 30.0
_MAX_WAITING: Final = 10_000


class AuditLog:
    """Record decisions in the order in which they were made.

    What cannot be written waits, up to a limit; how many were lost beyond it is recorded once writing works again.
    """

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self._file = AuditFile(Path(hass.config.path(DOMAIN, "audit")))
        self._waiting: list[dict[str, Any]] = []
        self._lost = 0
        self._marked = True
        self._lock = asyncio.Lock()
        self._cancel_flush: CALLBACK_TYPE | None = None
        self.healthy = True

    @property
    def path(self) -> Path:
        """Return where the trail is."""
        return self._file.path

    @property
    def entries(self) -> int:
        """Return how many entries the file holds."""
        return self._file.end.count

    async def async_open(self) -> None:
        """Take up the trail where it ends. Raises OSError or ValueError when that is not possible."""
        opening = await self._hass.async_add_executor_job(self._file.open)
        if opening.torn:
            self.record("recovered", bytes=opening.torn)
        if opening.contradicted:
            _LOGGER.error("The audit trail ends before its checkpoint: entries were removed while nobody was looking")
            self.record("cut_found", entries=self.entries)

    @callback
    def record(self, event: str, **details: Any) -> None:
        """Record an event; details are JSON, bounded, and hold neither secrets nor raw payloads."""
        if len(self._waiting) >= _MAX_WAITING:
            self._lost += 1
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._waiting.append({"at": at, "event": event, **details})
        if self._cancel_flush is None:
            self._schedule(_BATCH_SECONDS)

    async def async_flush(self, *, mark: bool = True) -> None:
        """Write what waits; return when the disk has it, or when it turned out that it cannot be written.

        Without `mark` the checkpoint follows within a second: a command does not wait for it.
        """
        async with self._lock:
            if self._cancel_flush is not None:
                self._cancel_flush()
                self._cancel_flush = None
            batch = self._waiting
            if not batch and (self._marked or not mark):
                return
            self._waiting = []
            try:
                await self._hass.async_add_executor_job(partial(self._file.write, batch, mark=mark))
            except OSError:
                self._waiting[:0] = batch
                self._schedule(_RETRY_SECONDS)
                if self.healthy:
                    _LOGGER.exception("The audit trail cannot be written")
                self.healthy = False
                return
            self._marked = mark
            if not mark:
                self._schedule(_BATCH_SECONDS)
        if self.healthy and not self._lost:
            return
        if not self.healthy:
            _LOGGER.info("The audit trail is written again")
            self.healthy = True
        self.record("audit_fault_ended", lost=self._lost)
        self._lost = 0

    async def async_verify(self) -> Report:
        """Check the whole file. Raises OSError when it cannot be read."""
        await self.async_flush()
        async with self._lock:
            return await self._hass.async_add_executor_job(self._file.verify)

    async def async_close(self) -> None:
        """Write what waits and stop."""
        await self.async_flush()
        # Twice: a write that works again has something to record itself.
        await self.async_flush()
        if self._cancel_flush is not None:
            self._cancel_flush()
            self._cancel_flush = None

    @callback
    def _schedule(self, delay: float) -> None:
        async def flush(_now: datetime) -> None:
            self._cancel_flush = None
            await self.async_flush()

        if self._cancel_flush is not None:
            self._cancel_flush()
        self._cancel_flush = async_call_later(self._hass, delay, flush)
