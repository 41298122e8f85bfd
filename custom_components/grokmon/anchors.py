"""Anchors: checkpoints of the audit trail, kept off this computer, so that a cut or rewritten trail is found."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
import re
import ssl
from time import time
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp
from homeassistant.components import persistent_notification
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN
from .disk import append_to
from .gateway.audit import Position, checkpoints
from .issues import async_delete_issues

CONF_ANCHOR_URL: Final = "anchor_url"
CONF_ANCHOR_SYSLOG: Final = "anchor_syslog"
CONF_ANCHOR_FILE: Final = "anchor_file"
CONF_ANCHOR_NOTIFICATION: Final = "anchor_notification"
CONF_ANCHOR_CA_FILE: Final = "anchor_ca_file"

ISSUE_FAILED: Final = "anchor_failed"
TIMEOUT_S: Final = 10.0
_SYSLOG_PORT: Final = 6514
# Facility 13 (log audit), severity 5 (notice): RFC 5424, section 6.2.1.
_PRIORITY: Final = 109
_BOM: Final = b"\xef\xbb\xbf"
_SUCCESS: Final = range(200, 300)
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:]+)\]|([A-Za-z0-9.-]+))(?::([0-9]{1,5}))?")
_HIGHEST_PORT: Final = 65_535
_LOCKS: Final[HassKey[defaultdict[Path, asyncio.Lock]]] = HassKey(f"{DOMAIN}_anchor_locks")


class AnchorError(Exception):
    """A checkpoint could not be put where it is kept."""


class Anchor(Protocol):
    """A place where checkpoints are kept."""

    kind: str

    async def async_send(self, note: str) -> None:
        """Put a checkpoint there. Raises AnchorError."""


class HttpsAnchor:
    """Post checkpoints to a server."""

    kind = "https"

    def __init__(self, hass: HomeAssistant, url: str, ca_file: str | None) -> None:
        self._hass = hass
        self._url = url
        self._ca_file = ca_file

    async def async_send(self, note: str) -> None:
        """Post a checkpoint. Raises AnchorError for every answer but a success."""
        context = await _async_context(self._hass, self._ca_file)
        try:
            async with async_get_clientsession(self._hass).post(
                self._url,
                data=note.encode(),
                headers={"Content-Type": "text/plain; charset=utf-8"},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                allow_redirects=False,
                ssl=context,
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            # The text of the error may hold the address, and that a password.
            raise AnchorError(type(error).__name__) from error
        if status not in _SUCCESS:
            raise AnchorError(f"HTTP status {status}")


class SyslogAnchor:
    """Send checkpoints to a log server: RFC 5424 over TLS (RFC 5425)."""

    kind = "syslog"

    def __init__(self, hass: HomeAssistant, address: str, ca_file: str | None) -> None:
        self._hass = hass
        self._host, self._port = _address(address)
        self._ca_file = ca_file

    async def async_send(self, note: str) -> None:
        """Send a checkpoint as one message. Raises AnchorError."""
        context = await _async_context(self._hass, self._ca_file)
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        header = f"<{_PRIORITY}>1 {at} homeassistant {DOMAIN} - checkpoint - "
        message = b"".join((header.encode(), _BOM, note.encode()))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, writer = await asyncio.open_connection(self._host, self._port, ssl=context)
                try:
                    writer.write(b"%d %s" % (len(message), message))
                    await writer.drain()
                finally:
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError, ValueError) as error:
            # A name that no resolver and no certificate can have is a ValueError.
            raise AnchorError(type(error).__name__) from error


class FileAnchor:
    """Append checkpoints to a file on another mount."""

    kind = "file"

    def __init__(self, hass: HomeAssistant, path: str) -> None:
        self._hass = hass
        self._path = Path(path)
        # One for all runs: a thread of the one before may still hang on the mount.
        self._lock = hass.data.setdefault(_LOCKS, defaultdict(asyncio.Lock))[self._path]

    async def async_send(self, note: str) -> None:
        """Append a checkpoint. Raises AnchorError, also when the mount is not there."""
        try:
            # All or none: half a checkpoint would make all of them unreadable.
            await self._async_work(lambda: append_to(self._path, f"{note}\n".encode()))
        except OSError as error:
            raise AnchorError(error.strerror or type(error).__name__) from error
        except ValueError as error:
            raise AnchorError(type(error).__name__) from error

    async def async_kept(self) -> list[Position]:
        """Return the checkpoints that are in the file. Raises OSError or ValueError when they cannot be read."""
        return await self._async_work(
            lambda: [each.position for each in checkpoints(self._path.read_text(encoding="utf-8"))]
        )

    async def _async_work[T](self, work: Callable[[], T]) -> T:
        """Work with the file in a thread. Raises TimeoutError when that, or the one before, hangs on the mount."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._lock.acquire()
            # Nothing ends a thread: the file is free when its thread is over, not when nobody waits for it any more.
            # Home Assistant does not know of it, or would take it for ended, too, when it stops.
            thread = self._hass.loop.run_in_executor(None, work)
            thread.add_done_callback(self._over)
            await asyncio.wait([thread])
            return thread.result()

    @callback
    def _over(self, thread: asyncio.Future[Any]) -> None:
        self._lock.release()
        # Taken note of: whoever waited may have been told of the time-out already.
        thread.exception()


class NotificationAnchor:
    """Show the last checkpoint to whoever looks at Home Assistant, and to the mail program behind it."""

    kind = "notification"

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass

    async def async_send(self, note: str) -> None:
        """Show a checkpoint in place of the one before."""
        persistent_notification.async_create(
            self._hass, f"```\n{note}```", title="Grok & Mon", notification_id=f"{DOMAIN}_audit_checkpoint"
        )


class Anchors:
    """Send checkpoints to all places; what fails is an issue until it works again."""

    def __init__(self, hass: HomeAssistant, anchors: Sequence[Anchor], record: Callable[..., None]) -> None:
        self._hass = hass
        self._anchors = anchors
        self._record = record
        self._failing: set[str] = set()
        self.last_sent: dict[str, float] = {}

    @callback
    def async_start(self) -> None:
        """Delete the issues of places that are not chosen any more."""
        async_delete_issues(self._hass, ISSUE_FAILED, but={_issue(anchor.kind) for anchor in self._anchors})

    async def async_send(self, note: str) -> None:
        """Send a checkpoint everywhere."""
        await asyncio.gather(*(self._async_send(anchor, note) for anchor in self._anchors))

    async def async_kept(self) -> list[Position]:
        """Return the checkpoints that can be read back. Raises OSError or ValueError when they cannot."""
        return [
            kept for anchor in self._anchors if isinstance(anchor, FileAnchor) for kept in await anchor.async_kept()
        ]

    async def _async_send(self, anchor: Anchor, note: str) -> None:
        kind = anchor.kind
        try:
            await anchor.async_send(note)
        except AnchorError as error:
            self._failed(kind, str(error))
            return
        self.last_sent[kind] = time()
        ir.async_delete_issue(self._hass, DOMAIN, _issue(kind))
        if kind in self._failing:
            self._failing.discard(kind)
            self._record("anchor_restored", anchor=kind)

    def _failed(self, kind: str, reason: str) -> None:
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            _issue(kind),
            is_fixable=False,
            severity=ir.IssueSeverity.WARNING,
            translation_key=ISSUE_FAILED,
            translation_placeholders={"kind": kind, "reason": reason},
        )
        if kind not in self._failing:
            self._failing.add(kind)
            self._record("anchor_failed", outcome="failed", reason="anchor_failed", anchor=kind, detail=reason)


def anchors_from(hass: HomeAssistant, options: Mapping[str, Any]) -> list[Anchor]:
    """Return the places that the options name."""
    ca_file = options.get(CONF_ANCHOR_CA_FILE)
    anchors: list[Anchor] = []
    if url := options.get(CONF_ANCHOR_URL):
        anchors.append(HttpsAnchor(hass, url, ca_file))
    if address := options.get(CONF_ANCHOR_SYSLOG):
        anchors.append(SyslogAnchor(hass, address, ca_file))
    if path := options.get(CONF_ANCHOR_FILE):
        anchors.append(FileAnchor(hass, path))
    if options.get(CONF_ANCHOR_NOTIFICATION):
        anchors.append(NotificationAnchor(hass))
    return anchors


def problems(options: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with the options, by field."""
    found: dict[str, str] = {}
    if url := options.get(CONF_ANCHOR_URL):
        try:
            parts = urlsplit(url)
            good = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
            secret = bool(parts.username or parts.password)
        except ValueError:
            good = secret = False
        if not good:
            found[CONF_ANCHOR_URL] = "invalid_url"
        elif secret:
            # Config entries are stored readable by everybody.
            found[CONF_ANCHOR_URL] = "password_in_url"
    if address := options.get(CONF_ANCHOR_SYSLOG):
        try:
            _address(address)
        except ValueError:
            found[CONF_ANCHOR_SYSLOG] = "invalid_host"
    for name in (CONF_ANCHOR_FILE, CONF_ANCHOR_CA_FILE):
        if (path := options.get(name)) and ("\0" in path or not Path(path).is_absolute()):
            found[name] = "invalid_path"
    return found


def _issue(kind: str) -> str:
    return f"{ISSUE_FAILED}_{kind}"


def _address(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    port = int(found[3] or _SYSLOG_PORT) if found is not None else 0
    if found is None or not 0 < port <= _HIGHEST_PORT:
        raise ValueError(text)
    return found[1] or found[2], port


async def _async_context(hass: HomeAssistant, ca_file: str | None) -> ssl.SSLContext:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await hass.async_add_executor_job(lambda: ssl.create_default_context(cafile=ca_file))
    except (OSError, ValueError) as error:
        raise AnchorError("the file of the certificate authority cannot be read") from error
