"""Staging: what was accepted and what was rejected, kept encrypted for some days."""

from collections.abc import Mapping
from datetime import datetime, timedelta
import logging
from time import time
from typing import Any, Final

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.event import async_track_time_interval

from .at_rest import folder_of
from .audit_log import AuditLog
from .gateway.envelope import MAX_MESSAGE_BYTES
from .gateway.models import Reading
from .gateway.redaction import digest, redacted
from .gateway.vault import Vault
from .journal_file import JournalFile, Row
from .turns import Queue

_LOGGER = logging.getLogger(__name__)

KEEP_DAYS: Final = 7
_TELEMETRY_BYTES: Final = 200_000_000
_QUARANTINE_BYTES: Final = 20_000_000
_FLUSH: Final = timedelta(seconds=10)
# Beyond these, nothing is kept until the next flush: a flood must not fill memory or disk.
_MAX_READINGS: Final = 20_000
_MAX_REJECTED: Final = 1_000
_UNKNOWN: Final = "unknown"


class Staging:
    """Keep accepted telemetry and rejected messages, each in a journal of its own."""

    def __init__(self, hass: HomeAssistant, audit: AuditLog, vault: Vault) -> None:
        folder = folder_of(hass) / "staging"
        self._hass = hass
        self._audit = audit
        self._telemetry = JournalFile(folder, "telemetry", vault, keep_days=KEEP_DAYS, max_bytes=_TELEMETRY_BYTES)
        self._quarantine = JournalFile(folder, "quarantine", vault, keep_days=KEEP_DAYS, max_bytes=_QUARANTINE_BYTES)
        self._readings: list[Reading] = []
        self._rejected: list[Row] = []
        self._capturing: dict[str, float] = {}
        self._queue = Queue(hass, "grokmon staging")
        self.healthy = True
        self.left_out = 0

    @callback
    def async_start(self) -> CALLBACK_TYPE:
        """Begin to write; return how to end that."""
        return async_track_time_interval(self._hass, self._async_tick, _FLUSH, cancel_on_shutdown=True)

    @callback
    def async_accepted(self, reading: Reading) -> None:
        """Keep a reading."""
        if len(self._readings) < _MAX_READINGS:
            self._readings.append(reading)
        else:
            self.left_out += 1

    @callback
    def async_rejected(self, device_id: str | None, code: str, payload: bytes, now: float) -> None:
        """Keep what is known of a rejected message; its content only while that is switched on for the device."""
        if len(self._rejected) >= _MAX_REJECTED:
            self.left_out += 1
            return
        row = {
            "at": now,
            "device": device_id or _UNKNOWN,
            "reason": code,
            "bytes": len(payload),
            "sha256": digest(payload),
        }
        captured = device_id is not None and now < self._capturing.get(device_id, 0.0)
        # What is longer needs no key to be sent, and would keep everybody waiting while it is looked through.
        if captured and len(payload) <= MAX_MESSAGE_BYTES:
            row["content"] = redacted(payload)
        self._rejected.append(row)

    @callback
    def async_capture(self, device_id: str, seconds: float, now: float) -> None:
        """Keep the content of what is rejected in a device's name, redacted, for so long; 0 ends it."""
        self._capturing[device_id] = now + seconds

    async def async_flush(self) -> None:
        """Write what waits. What cannot be written waits on, up to the limit."""
        await self._queue.async_do(self._async_write())

    async def async_telemetry(
        self, start: float, end: float, limit: int, device_id: str | None
    ) -> tuple[list[Row], int]:
        """Return readings, and how many frames of the journal are damaged. Raises OSError."""
        return await self._async_read(self._telemetry, start, end, limit, device_id)

    async def async_quarantine(
        self, start: float, end: float, limit: int, device_id: str | None
    ) -> tuple[list[Row], int]:
        """Return what is known of rejected messages, and how many frames are damaged. Raises OSError."""
        return await self._async_read(self._quarantine, start, end, limit, device_id)

    async def async_size(self) -> int:
        """Return how many bytes are on the disk."""
        return await self._hass.async_add_executor_job(lambda: self._telemetry.size + self._quarantine.size)

    async def _async_read(
        self, journal: JournalFile, start: float, end: float, limit: int, device_id: str | None
    ) -> tuple[list[Row], int]:
        await self.async_flush()

        async def read() -> tuple[list[Row], int]:
            return await self._hass.async_add_executor_job(
                journal.read, start, end, limit, lambda row: device_id is None or row["device"] == device_id
            )

        return await self._queue.async_do(read())

    async def _async_write(self) -> None:
        readings, self._readings = self._readings, []
        rejected, self._rejected = self._rejected, []
        now = time()
        if readings and not await self._async_append(self._telemetry, list(map(_row, readings)), now):
            self._readings = self._bounded(readings + self._readings, _MAX_READINGS)
        if rejected and not await self._async_append(self._quarantine, rejected, now):
            self._rejected = self._bounded(rejected + self._rejected, _MAX_REJECTED)

    def _bounded[T](self, waiting: list[T], most: int) -> list[T]:
        """Return what waits on: while it could not be written, more may have come than there is room for."""
        self.left_out += max(0, len(waiting) - most)
        return waiting[:most]

    async def _async_append(self, journal: JournalFile, rows: list[Row], now: float) -> bool:
        try:
            await self._hass.async_add_executor_job(journal.append, rows, now)
        except OSError:
            if self.healthy:
                _LOGGER.exception("What was accepted and rejected cannot be staged")
            self.healthy = False
            return False
        self.healthy = True
        return True

    async def _async_purge(self, now: float) -> None:
        for journal in (self._telemetry, self._quarantine):
            try:
                gone = await self._hass.async_add_executor_job(journal.purge, now)
            except OSError:
                _LOGGER.exception("What is too old could not be deleted")
                continue
            for name in gone:
                self._audit.record("staging_purged", file=name)

    async def _async_tick(self, moment: datetime) -> None:
        await self.async_flush()
        await self._queue.async_do(self._async_purge(moment.timestamp()))


def _row(reading: Reading) -> Mapping[str, Any]:
    return {
        "at": reading.received_at,
        "device": reading.device_id,
        "measured_at": reading.measured_at,
        "values": reading.values,
        "late": reading.late,
        "flags": reading.flags,
    }
