"""The audit log: from decisions in the event loop to the audit file, in batches of at most one second."""

from collections.abc import Callable, Iterable
from datetime import datetime
import logging
from pathlib import Path
from secrets import token_hex
from time import monotonic, time
from typing import Any, Final

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

from .audit_file import AuditFile, Extent, Opening, Segment
from .backup_mark import async_is_running
from .const import DOMAIN
from .gateway.audit import KEY_CHANGED, SEGMENT_DELETED, Key, Position, Verification
from .gateway.audit_record import Record, Search, make, search
from .gateway.checkpoints import Signer
from .gateway.principals import Caller, Principal
from .turns import Queue

_LOGGER = logging.getLogger(__name__)

_BATCH_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 30.0
_MAX_WAITING: Final = 10_000

type Heard = Callable[[Record], None]


class AuditLog:
    """Record decisions in the order in which they were made.

    What cannot be written waits, up to a limit; how many were lost beyond it is recorded once writing works again.
    `on_checkpoint` is called with every checkpoint, `listeners` with every record.
    """

    def __init__(self, hass: HomeAssistant, signer: Signer) -> None:
        self._hass = hass
        self.signer = signer
        self._file = AuditFile(Path(hass.config.path(DOMAIN, "audit")), signer)
        self._waiting: list[Record] = []
        self._lost = 0
        self._marked = True
        self._closed = False
        self._queue = Queue(hass, "grokmon audit")
        self._cancel_flush: CALLBACK_TYPE | None = None
        self._boot = token_hex(8)
        self.healthy = True
        self.on_checkpoint: Callable[[str], None] | None = None
        self.listeners: list[Heard] = []

    @property
    def path(self) -> Path:
        """Return the folder of the trail."""
        return self._file.folder

    @property
    def entries(self) -> int:
        """Return the number of the last line on the disk."""
        return self._file.end.count

    @property
    def checkpoint(self) -> int:
        """Return the number of the line that the last checkpoint of this run counts to."""
        return self._file.checkpoint.count

    async def async_open(self) -> Opening:
        """Take up the trail where it ends. Raises OSError or ValueError when that is not possible."""
        opening = await self._hass.async_add_executor_job(self._file.open, time())
        if opening.torn:
            self.record("audit_recovered", outcome="found", reason="torn", bytes=opening.torn)
        if opening.lagged:
            self.record("audit_recovered", outcome="found", reason="key_lagged", lines=opening.lagged)
        if opening.missing:
            _LOGGER.error("%d lines of the audit trail were removed while nobody was looking", opening.missing)
            self.record("audit_finding", outcome="found", reason="cut", lines=opening.missing)
        if opening.forged is not None:
            _LOGGER.error("Line %d of the audit trail was not written by this integration", opening.forged)
            self.record("audit_finding", outcome="found", reason="altered", line=opening.forged)
        if opening.new_key and self.entries:
            _LOGGER.error("The key of the audit trail is lost; a new one is used from here on")
            self.record("audit_finding", outcome="found", reason="key_lost")
        return opening

    @callback
    def record(
        self,
        action: str,
        *,
        outcome: str = "done",
        reason: str = "",
        who: Principal | None = None,
        actor: str | None = None,
        cid: str | None = None,
        device: str | None = None,
        actuator: str | None = None,
        zone: str | None = None,
        **details: Any,
    ) -> None:
        """Record what was decided; details are JSON and hold neither secrets nor raw payloads.

        `actor` is the id of a person, for what only persons do, or *system*.
        """
        if self._closed:
            # Another run may have taken up the trail, and two that write would tear it.
            _LOGGER.warning("%s came too late for the audit trail", action)
            return
        if len(self._waiting) >= _MAX_WAITING:
            self._lost += 1
            return
        if actor is not None:
            who = Principal(caller=Caller.SYSTEM if actor == Caller.SYSTEM else Caller.PERSON, identity=actor)
        named = {"device": device, "actuator": actuator, "zone": zone}
        made = make(
            action,
            wall=time(),
            mono=monotonic(),
            boot=self._boot,
            principal=who,
            target={name: value for name, value in named.items() if value is not None},
            outcome=outcome,
            reason=reason,
            cid=cid,
            details=details,
        )
        self._waiting.append(made)
        if self._cancel_flush is None:
            self._schedule(_BATCH_SECONDS)
        for listener in self.listeners:
            listener(made)

    async def async_flush(self, *, mark: bool = True, checkpoint: bool = False) -> None:
        """Write what waits; return when the disk has it, or when it turned out that it cannot be written.

        Without `mark` the key on the disk follows within a second: a command does not wait for it.
        """
        await self._queue.async_do(self._async_write(mark=mark, checkpoint=checkpoint))

    async def async_verify(self, anchors: Iterable[Position] = ()) -> Verification:
        """Check the whole trail, against checkpoints too. Raises OSError or ValueError when it cannot be read."""
        extent = await self._queue.async_do(self._async_extent())
        # A long trail takes seconds, and no command is to wait for these.
        return await self._hass.async_add_executor_job(self._file.verify, anchors, extent)

    async def async_new_key(self, actor: str) -> Key:
        """Go on with a new key and return it, for an administrator to keep elsewhere. Raises OSError."""
        return await self._queue.async_do(self._async_change_key(actor))

    async def async_search(self, wanted: Search, limit: int) -> list[Record]:
        """Return the newest records that match, the oldest of them first. Raises OSError."""
        await self.async_flush()

        def find() -> list[Record]:
            return list(search(self._file.lines(newest_first=True), wanted, limit))[::-1]

        return await self._hass.async_add_executor_job(find)

    async def async_purge(self, before: float) -> None:
        """Delete the segments whose lines are all older; that it was done is recorded first.

        Raises OSError, or ValueError where checkpoints cannot be read.
        """
        while (segment := await self._hass.async_add_executor_job(self._file.expired, before)) is not None:
            if self._closed or len(self._waiting) >= _MAX_WAITING:
                return
            last: Position = segment.last
            self.record(SEGMENT_DELETED, first=segment.first, through=last.count, head=last.head)
            await self.async_flush()
            if not self.healthy:
                return
            await self._queue.async_do(self._async_delete(segment))

    async def async_close(self) -> None:
        """Write what waits and stop; when this returns, nobody writes any more."""
        await self._queue.async_do(self._async_close())

    async def _async_delete(self, segment: Segment) -> None:
        if self._closed:
            # Another run has the trail now, and writes to the checkpoints beside it.
            return
        await self._hass.async_add_executor_job(self._file.delete, segment)

    async def _async_extent(self) -> Extent:
        await self._async_write(mark=True)
        return await self._hass.async_add_executor_job(self._file.extent)

    async def _async_change_key(self, actor: str) -> Key:
        if async_is_running(self._hass):
            # A backup would have lines of the old key and, copied later, the new one.
            raise OSError("a backup is being made")
        await self._async_write(mark=True)
        self.record(KEY_CHANGED, actor=actor)
        await self._async_write(mark=False)
        if self._closed or not self.healthy:
            # It did not come about, and must not stand in the trail later.
            self._waiting = [record for record in self._waiting if record["action"] != KEY_CHANGED]
            raise OSError
        return await self._hass.async_add_executor_job(self._file.new_key)

    async def _async_close(self) -> None:
        await self._async_write(mark=True)
        # Twice: a write that works again has something to record itself.
        await self._async_write(mark=True, checkpoint=True)
        if self._cancel_flush is not None:
            self._cancel_flush()
            self._cancel_flush = None
        self._closed = True
        await self._hass.async_add_executor_job(self._file.close)

    async def _async_write(self, *, mark: bool, checkpoint: bool = False) -> None:
        # What a backup copies one after the other has to fit: a key that lags is caught up with, one ahead is a gap.
        waits = async_is_running(self._hass)
        mark, checkpoint = mark and not waits, checkpoint and not waits
        if self._closed or (not self._waiting and (self._marked or not mark) and not checkpoint):
            return
        batch, self._waiting = self._waiting, []
        written = 0

        now = time()

        def write() -> str | None:
            nonlocal written
            if batch:
                self._file.append(batch, now)
                written = len(batch)
            if not mark:
                return None
            self._file.mark()
            return self._file.write_checkpoint(now, at_once=checkpoint)

        try:
            note = await self._hass.async_add_executor_job(write)
        except OSError:
            if self.healthy:
                _LOGGER.exception("The audit trail cannot be written")
            self.healthy = self._marked = False
            self._waiting[:0] = batch[written:]
            self._schedule(_RETRY_SECONDS)
            return
        self._marked = mark
        self._succeeded(mark=mark)
        if note is not None and self.on_checkpoint is not None:
            self.on_checkpoint(note)

    @callback
    def _succeeded(self, *, mark: bool) -> None:
        if mark:
            self._unschedule()
        elif self._cancel_flush is None:
            self._schedule(_BATCH_SECONDS)
        if self.healthy and not self._lost:
            return
        _LOGGER.info("The audit trail is written again")
        self.healthy = True
        lost, self._lost = self._lost, 0
        self.record("audit_fault_ended", outcome="found", lost=lost)

    @callback
    def _unschedule(self) -> None:
        if self._cancel_flush is not None:
            self._cancel_flush()
            self._cancel_flush = None
        if self._waiting:
            self._schedule(_BATCH_SECONDS)

    @callback
    def _schedule(self, delay: float) -> None:
        async def flush(_now: datetime) -> None:
            self._cancel_flush = None
            await self.async_flush()

        if self._cancel_flush is not None:
            self._cancel_flush()
        self._cancel_flush = async_call_later(self._hass, delay, flush)
