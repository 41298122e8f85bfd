"""Anchors: checkpoints on the way to servers with TLS, to a file and to a person, and what becomes of failures."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
import os
from pathlib import Path
from queue import Queue
import re
import ssl
from threading import Event, get_ident
from typing import Any
from unittest.mock import AsyncMock, Mock, call

from aiohttp import web
from homeassistant.components.persistent_notification import _async_get_or_create_notifications
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
import pytest

from custom_components.grokmon import anchors
from custom_components.grokmon.anchors import (
    Anchor,
    AnchorError,
    Anchors,
    FileAnchor,
    HttpsAnchor,
    NotificationAnchor,
    SyslogAnchor,
    anchors_from,
    problems,
)
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.disk import append_to
from custom_components.grokmon.gateway.audit import Position
from custom_components.grokmon.gateway.checkpoints import Signer

from .stack.certificates import Certificates, ensure_certificates

SIGNER = Signer(bytes(range(32)))
POSITIONS = [Position(7, "07" * 32), Position(12, "0c" * 32)]
NOTES = [SIGNER(position, 1_795_000_000.0) for position in POSITIONS]
NOTE = NOTES[0]
FRAME = re.compile(rb"([1-9][0-9]*) (.*)", re.DOTALL)
MESSAGE = re.compile(
    rb"<109>1 ([0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z) homeassistant grokmon - checkpoint - \xef\xbb\xbf(.*)", re.DOTALL
)

pytestmark = pytest.mark.usefixtures("socket_enabled")

type Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
type Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return the certificates of a server on this machine."""
    return ensure_certificates(tmp_path_factory.mktemp("tls"), ("localhost", "127.0.0.1"))


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an authority that did not issue the server's certificate."""
    return str(ensure_certificates(tmp_path_factory.mktemp("other"), ("localhost", "127.0.0.1")).ca)


def _context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    return context


def _let_clients_hang_up() -> None:
    """Take a client that ends TLS before it began for what it is: no fault of the server's."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    assert before is not None

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), ConnectionResetError):
            before(loop, context)

    loop.set_exception_handler(handle)


@asynccontextmanager
async def _web_server(certificates: Certificates, answer: Answer) -> AsyncGenerator[int]:
    """Run a web server; yield its port."""
    _let_clients_hang_up()
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=_context(certificates)).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _server(talk: Talk, context: ssl.SSLContext | None) -> AsyncGenerator[int]:
    """Run a server that talks anything; yield its port."""
    _let_clients_hang_up()
    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        server.close_clients()
        await server.wait_closed()


class Heard:
    """What a web server heard, and what it answers."""

    def __init__(self, status: int = 200, **headers: str) -> None:
        """Begin with nothing heard."""
        self.requests: list[tuple[str, str, str | None, bytes]] = []
        self.status = status
        self.headers = headers

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Take note of a request and answer it."""
        kind = request.headers.get("Content-Type")
        self.requests.append((request.method, request.path, kind, await request.read()))
        return web.Response(status=self.status, headers=self.headers)


# Web servers


@pytest.mark.parametrize("status", [200, 204, 299])
async def test_note_is_posted(hass: HomeAssistant, certificates: Certificates, status: int) -> None:
    """Post the note byte for byte."""
    heard = Heard(status)
    async with _web_server(certificates, heard.answer) as port:
        await HttpsAnchor(hass, f"https://127.0.0.1:{port}/log", str(certificates.ca)).async_send(NOTE)
    assert heard.requests == [("POST", "/log", "text/plain; charset=utf-8", NOTE.encode())]


async def test_web_server_of_another_authority(hass: HomeAssistant, certificates: Certificates, other_ca: str) -> None:
    """Say nothing to a server that somebody else vouches for, be it the system or the file that is named."""
    heard = Heard()
    async with _web_server(certificates, heard.answer) as port:
        for ca_file in (other_ca, None):
            with pytest.raises(AnchorError, match=r"^ClientConnectorCertificateError$"):
                await HttpsAnchor(hass, f"https://127.0.0.1:{port}/", ca_file).async_send(NOTE)
    assert heard.requests == []


@pytest.mark.parametrize("status", [300, 400, 403, 500, 503])
async def test_answer_that_is_no_success(hass: HomeAssistant, certificates: Certificates, status: int) -> None:
    """Take a note for kept only when the server says so."""
    heard = Heard(status)
    async with _web_server(certificates, heard.answer) as port:
        with pytest.raises(AnchorError, match=f"^HTTP status {status}$"):
            await HttpsAnchor(hass, f"https://127.0.0.1:{port}/", str(certificates.ca)).async_send(NOTE)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(hass: HomeAssistant, certificates: Certificates, status: int) -> None:
    """Post to the address that an administrator chose, and to no other."""
    elsewhere = Heard()
    async with _web_server(certificates, elsewhere.answer) as other:
        heard = Heard(status, Location=f"https://127.0.0.1:{other}/")
        async with _web_server(certificates, heard.answer) as port:
            with pytest.raises(AnchorError, match=f"^HTTP status {status}$"):
                await HttpsAnchor(hass, f"https://127.0.0.1:{port}/", str(certificates.ca)).async_send(NOTE)
    assert len(heard.requests) == 1
    assert elsewhere.requests == []


async def test_web_server_that_does_not_answer(
    hass: HomeAssistant, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give a server so much time, and no more."""
    monkeypatch.setattr(anchors, "TIMEOUT_S", 0.2)
    never = asyncio.Event()

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with _web_server(certificates, answer) as port:
        with pytest.raises(AnchorError, match="Timeout"):
            await HttpsAnchor(hass, f"https://127.0.0.1:{port}/", str(certificates.ca)).async_send(NOTE)
        never.set()


# Log servers


async def _frames(certificates: Certificates, send: Callable[[int], Awaitable[None]], times: int) -> list[bytes]:
    """Return what a log server receives, by connection."""
    received: list[bytes] = []
    done = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        writer.close()
        if len(received) == times:
            done.set()

    async with _server(talk, _context(certificates)) as port:
        for _ in range(times):
            await send(port)
        await asyncio.wait_for(done.wait(), 10)
    return received


async def test_frame_of_a_log_server(hass: HomeAssistant, certificates: Certificates) -> None:
    """Send one message of RFC 5424 in the frame of RFC 5425, with the note as it is."""

    async def send(port: int) -> None:
        await SyslogAnchor(hass, f"localhost:{port}", str(certificates.ca)).async_send(NOTE)

    before = datetime.now(UTC)
    (received,) = await _frames(certificates, send, 1)
    frame = FRAME.fullmatch(received)
    assert frame is not None
    assert int(frame[1]) == len(frame[2])
    message = MESSAGE.fullmatch(frame[2])
    assert message is not None
    at = datetime.fromisoformat(message[1].decode())
    assert before.replace(microsecond=before.microsecond // 1000 * 1000) <= at <= datetime.now(UTC)
    assert message[2] == NOTE.encode()
    assert "\u2014".encode() in message[2]


async def test_every_message_has_a_connection(hass: HomeAssistant, certificates: Certificates) -> None:
    """Send each note by itself, to an address too."""

    async def send(port: int) -> None:
        await SyslogAnchor(hass, f"127.0.0.1:{port}", str(certificates.ca)).async_send(NOTE)

    received = await _frames(certificates, send, 2)
    assert all(each.endswith(NOTE.encode()) and each.count(b"<109>1 ") == 1 for each in received)


async def test_log_server_of_another_authority(hass: HomeAssistant, certificates: Certificates, other_ca: str) -> None:
    """Say nothing to a log server that somebody else vouches for."""
    talk = Mock()
    async with _server(talk, _context(certificates)) as port:
        for ca_file in (other_ca, None):
            with pytest.raises(AnchorError, match=r"^SSLCertVerificationError$"):
                await SyslogAnchor(hass, f"localhost:{port}", ca_file).async_send(NOTE)
    talk.assert_not_called()


async def test_log_server_that_does_not_answer(
    hass: HomeAssistant, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give a log server so much time for the beginning of TLS, and no more."""
    monkeypatch.setattr(anchors, "TIMEOUT_S", 0.2)
    never = asyncio.Event()

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()
        writer.close()

    async with _server(talk, None) as port:
        with pytest.raises(AnchorError, match=r"^TimeoutError$"):
            await SyslogAnchor(hass, f"localhost:{port}", str(certificates.ca)).async_send(NOTE)
        never.set()


async def test_servers_that_are_not_there(hass: HomeAssistant, certificates: Certificates) -> None:
    """Say what is wrong when nobody listens."""
    async with _server(Mock(), None) as port:
        pass
    with pytest.raises(AnchorError, match=r"^ClientConnectorError$"):
        await HttpsAnchor(hass, f"https://127.0.0.1:{port}/", str(certificates.ca)).async_send(NOTE)
    with pytest.raises(AnchorError, match=r"^ConnectionRefusedError$"):
        await SyslogAnchor(hass, f"127.0.0.1:{port}", str(certificates.ca)).async_send(NOTE)


@pytest.mark.parametrize("content", [None, b"no certificate"])
async def test_authority_that_cannot_be_read(hass: HomeAssistant, tmp_path: Path, content: bytes | None) -> None:
    """Fail, rather than trust somebody else, without the file that says whom to trust."""
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_bytes(content)
    for anchor in (HttpsAnchor(hass, "https://localhost/", str(path)), SyslogAnchor(hass, "localhost", str(path))):
        with pytest.raises(AnchorError, match="the file of the certificate authority cannot be read"):
            await anchor.async_send(NOTE)


async def test_reason_holds_neither_address_nor_password(
    hass: HomeAssistant, certificates: Certificates, other_ca: str
) -> None:
    """Keep what the address holds out of the issue and out of the trail, whatever goes wrong."""
    record = Mock()
    heard = Heard(500)
    async with _web_server(certificates, heard.answer) as port, _server(Mock(), None) as gone:
        addresses = [(port, str(certificates.ca)), (port, other_ca), (99_999, str(certificates.ca))]
        for at, ca_file in [*addresses, (gone, other_ca)]:
            url = f"https://grower:hunter2@127.0.0.1:{at}/path-of-mine?token=sesame"
            record.reset_mock()
            await Anchors(hass, [HttpsAnchor(hass, url, ca_file)], record).async_send(NOTE)
            issue = ir.async_get(hass).async_get_issue(DOMAIN, "anchor_failed_https")
            assert issue is not None
            told = f"{issue.translation_placeholders} {record.mock_calls}"
            assert "anchor_failed" in told
            for secret in ("hunter2", "grower", "sesame", "path-of-mine", "127.0.0.1"):
                assert secret not in told
    assert [request[1] for request in heard.requests] == ["/path-of-mine"]


# A file


async def test_file_is_appended_to(hass: HomeAssistant, tmp_path: Path) -> None:
    """Append notes to a file that nobody else may read, and read them back."""
    anchor = FileAnchor(hass, str(tmp_path / "checkpoints"))
    for note in NOTES:
        await anchor.async_send(note)
    path = tmp_path / "checkpoints"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text(encoding="utf-8") == f"{NOTES[0]}\n{NOTES[1]}\n"
    assert await anchor.async_kept() == POSITIONS


async def test_file_on_a_mount_that_is_away(hass: HomeAssistant, tmp_path: Path) -> None:
    """Fail without the folder, rather than make one that is on this computer."""
    anchor = FileAnchor(hass, str(tmp_path / "mount" / "checkpoints"))
    with pytest.raises(AnchorError, match=r"^No such file or directory$"):
        await anchor.async_send(NOTE)
    assert not (tmp_path / "mount").exists()
    with pytest.raises(FileNotFoundError):
        await anchor.async_kept()


async def test_error_without_a_text(hass: HomeAssistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name an error by its kind where it has no text."""
    monkeypatch.setattr(os, "fdatasync", Mock(side_effect=OSError))
    with pytest.raises(AnchorError, match=r"^OSError$"):
        await FileAnchor(hass, str(tmp_path / "checkpoints")).async_send(NOTE)


async def test_name_that_nobody_can_have(hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail as with any other server that is not there where a name cannot even be looked up."""
    monkeypatch.setattr(asyncio, "open_connection", AsyncMock(side_effect=UnicodeError("label empty or too long")))
    with pytest.raises(AnchorError, match=r"^UnicodeError$"):
        await SyslogAnchor(hass, "a..b", None).async_send(NOTE)


async def test_path_that_nobody_can_have(hass: HomeAssistant) -> None:
    """Fail as with any other file that is not there."""
    with pytest.raises(AnchorError, match=r"^ValueError$"):
        await FileAnchor(hass, "/a\0b").async_send(NOTE)
    with pytest.raises(AnchorError, match="the file of the certificate authority cannot be read"):
        await SyslogAnchor(hass, "localhost", "/a\0b").async_send(NOTE)


async def test_disk_that_takes_half_a_note(
    hass: HomeAssistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write the rest; leave nothing of a note that does not fit, so that the others can be read."""
    anchor = FileAnchor(hass, str(tmp_path / "checkpoints"))
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:50]))
    await anchor.async_send(NOTES[0])
    answers = iter([50])

    def fill(descriptor: int, data: bytes) -> int:
        try:
            return write(descriptor, data[: next(answers)])
        except StopIteration:
            raise OSError(28, "No space left on device") from None

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(AnchorError, match="No space left on device"):
        await anchor.async_send(NOTES[1])
    monkeypatch.undo()
    assert await anchor.async_kept() == POSITIONS[:1]


async def test_file_with_something_else(hass: HomeAssistant, tmp_path: Path) -> None:
    """Take nothing for a checkpoint that is none."""
    (tmp_path / "checkpoints").write_text(f"{NOTE}\nsomething else\n")
    with pytest.raises(ValueError, match="not a checkpoint"):
        await FileAnchor(hass, str(tmp_path / "checkpoints")).async_kept()


async def test_file_is_not_parsed_in_the_event_loop(
    hass: HomeAssistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep nobody waiting while many checkpoints are read."""
    threads = []

    def parse(_text: str) -> list[Any]:
        threads.append(get_ident())
        return []

    monkeypatch.setattr(anchors, "checkpoints", parse)
    (tmp_path / "checkpoints").write_text(NOTE)
    assert await FileAnchor(hass, str(tmp_path / "checkpoints")).async_kept() == []
    assert threads != [get_ident()]
    assert len(threads) == 1


# A mount that hangs


class Mount:
    """A mount that holds whoever looks at it, until it is told to let go."""

    def __init__(self) -> None:
        """Begin with nobody held."""
        self.back = Event()
        self.held: Queue[None] = Queue()

    def hang[**P, T](self, work: Callable[P, T]) -> Callable[P, T]:
        """Return what hangs before it works."""

        def hung(*arguments: P.args, **named: P.kwargs) -> T:
            self.held.put(None)
            assert self.back.wait(10)
            return work(*arguments, **named)

        return hung


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch) -> Generator[Mount]:
    """Return a mount that hangs, for whose time-out nobody has to wait."""
    made = Mount()
    monkeypatch.setattr(anchors, "TIMEOUT_S", 0)
    monkeypatch.setattr(anchors, "append_to", made.hang(append_to))
    monkeypatch.setattr(Path, "read_text", made.hang(Path.read_text))
    yield made
    made.back.set()


async def test_mount_that_hangs(hass: HomeAssistant, tmp_path: Path, mount: Mount) -> None:
    """Give a file so much time, too, be it to write or to read."""
    with pytest.raises(AnchorError, match=r"^TimeoutError$"):
        await FileAnchor(hass, str(tmp_path / "written")).async_send(NOTE)
    with pytest.raises(TimeoutError):
        await FileAnchor(hass, str(tmp_path / "read")).async_kept()
    for _ in range(2):
        await hass.async_add_executor_job(mount.held.get, True, 10)


async def test_one_thread_hangs_at_most(
    hass: HomeAssistant, tmp_path: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let nobody at a file at which a thread still hangs, after a reload neither; all goes on once it is through."""
    path = str(tmp_path / "checkpoints")
    for _ in range(3):
        anchor = FileAnchor(hass, path)
        with pytest.raises(AnchorError, match=r"^TimeoutError$"):
            await anchor.async_send(NOTES[0])
        with pytest.raises(TimeoutError):
            await anchor.async_kept()
    await hass.async_add_executor_job(mount.held.get, True, 10)
    assert mount.held.empty()
    monkeypatch.setattr(anchors, "TIMEOUT_S", 10)
    sending = hass.async_create_task(anchor.async_send(NOTES[1]))
    mount.back.set()
    await sending
    assert await anchor.async_kept() == POSITIONS


async def test_caller_is_cancelled_while_a_mount_hangs(
    hass: HomeAssistant, tmp_path: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread goes on when its caller is cancelled, and when Home Assistant stops: the next one waits for it."""
    monkeypatch.setattr(anchors, "TIMEOUT_S", 10)
    anchor = FileAnchor(hass, str(tmp_path / "checkpoints"))
    sending = hass.async_create_background_task(anchor.async_send(NOTES[0]), "sending")
    for task in list(hass._background_tasks):
        task.cancel()
    await asyncio.wait([sending])
    assert sending.cancelled()
    following = hass.async_create_task(anchor.async_send(NOTES[1]))
    await asyncio.sleep(0)
    mount.back.set()
    await following
    assert await anchor.async_kept() == POSITIONS


async def test_authority_on_a_mount_that_hangs(
    hass: HomeAssistant, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give the file of the authority so much time as well."""
    monkeypatch.setattr(ssl, "create_default_context", mount.hang(ssl.create_default_context))
    for anchor in (HttpsAnchor(hass, "https://localhost/", "/ca.crt"), SyslogAnchor(hass, "localhost", "/ca.crt")):
        with pytest.raises(AnchorError, match="the file of the certificate authority cannot be read"):
            await anchor.async_send(NOTE)


# A person


async def test_notification_shows_the_last_one(hass: HomeAssistant) -> None:
    """Show one notification, with the last note word for word."""
    for note in NOTES:
        await NotificationAnchor(hass).async_send(note)
    (shown,) = _async_get_or_create_notifications(hass).values()
    assert shown["notification_id"] == "grokmon_audit_checkpoint"
    assert shown["message"] == f"```\n{NOTES[1]}```"


# All together


class Place:
    """A place that works, or does not."""

    def __init__(self, kind: str, error: AnchorError | None = None) -> None:
        """Begin with nothing kept."""
        self.kind = kind
        self.error = error
        self.kept: list[str] = []

    async def async_send(self, note: str) -> None:
        """Keep a note, or not."""
        if self.error is not None:
            raise self.error
        self.kept.append(note)


def _issue(hass: HomeAssistant, kind: str) -> ir.IssueEntry | None:
    return ir.async_get(hass).async_get_issue(DOMAIN, f"anchor_failed_{kind}")


async def test_failure_is_an_issue_until_it_works_again(hass: HomeAssistant) -> None:
    """Raise one issue and record one failure, and end both with the first success; others are not held up."""
    record = Mock()
    good, bad = Place("file"), Place("syslog", AnchorError("TimeoutError"))
    everywhere = Anchors(hass, [bad, good], record)
    for note in NOTES:
        await everywhere.async_send(note)
    issue = _issue(hass, "syslog")
    assert issue is not None
    assert (issue.severity, issue.is_fixable, issue.is_persistent) == (ir.IssueSeverity.WARNING, False, False)
    assert (issue.translation_key, issue.translation_placeholders) == (
        "anchor_failed",
        {"kind": "syslog", "reason": "TimeoutError"},
    )
    failed = call("anchor_failed", outcome="failed", reason="anchor_failed", anchor="syslog", detail="TimeoutError")
    assert record.mock_calls == [failed]
    assert everywhere.last_sent.keys() == {"file"}
    bad.error = None
    for note in NOTES:
        await everywhere.async_send(note)
    assert _issue(hass, "syslog") is None
    assert record.mock_calls == [failed, call("anchor_restored", anchor="syslog")]
    assert everywhere.last_sent.keys() == {"file", "syslog"}
    assert (good.kept, bad.kept) == (NOTES * 2, NOTES)
    bad.error = AnchorError("HTTP status 500")
    await everywhere.async_send(NOTE)
    assert [each.args[0] for each in record.mock_calls] == ["anchor_failed", "anchor_restored", "anchor_failed"]
    assert _issue(hass, "syslog") is not None


async def test_issue_of_a_place_that_is_not_chosen_any_more(hass: HomeAssistant) -> None:
    """Clear what nobody sends to any more; what is still chosen is an issue until it works."""
    failing = [Place(kind, AnchorError("TimeoutError")) for kind in ("https", "file")]
    await Anchors(hass, failing, Mock()).async_send(NOTE)
    Anchors(hass, [Place("file")], Mock()).async_start()
    assert _issue(hass, "https") is None
    assert _issue(hass, "file") is not None


async def test_issue_of_an_earlier_run_goes_with_the_first_success(hass: HomeAssistant) -> None:
    """Clear what another instance raised before a start, without recording an end of what this one did not see."""
    await Anchors(hass, [Place("https", AnchorError("TimeoutError"))], Mock()).async_send(NOTE)
    record = Mock()
    await Anchors(hass, [Place("https")], record).async_send(NOTE)
    assert _issue(hass, "https") is None
    record.assert_not_called()


async def test_what_was_kept_is_read_from_files_only(hass: HomeAssistant, tmp_path: Path) -> None:
    """Read back what can be read back."""
    kept = FileAnchor(hass, str(tmp_path / "checkpoints"))
    everywhere = Anchors(hass, [Place("https"), kept, NotificationAnchor(hass)], Mock())
    await everywhere.async_send(NOTE)
    assert await everywhere.async_kept() == POSITIONS[:1]
    assert await Anchors(hass, [], Mock()).async_kept() == []
    (tmp_path / "checkpoints").unlink()
    with pytest.raises(FileNotFoundError):
        await everywhere.async_kept()


# Options


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, []),
        ({"anchor_notification": False, "anchor_ca_file": "/ca.crt"}, []),
        ({"anchor_url": "", "anchor_syslog": "", "anchor_file": ""}, []),
        ({"anchor_url": "https://a/"}, ["https"]),
        ({"anchor_syslog": "a"}, ["syslog"]),
        ({"anchor_file": "/a"}, ["file"]),
        ({"anchor_notification": True}, ["notification"]),
        (
            {"anchor_url": "https://a/", "anchor_syslog": "a", "anchor_file": "/a", "anchor_notification": True},
            ["https", "syslog", "file", "notification"],
        ),
    ],
)
async def test_places_that_options_name(hass: HomeAssistant, options: dict[str, Any], kinds: list[str]) -> None:
    """Make the places that are named, and no other."""
    made: list[Anchor] = anchors_from(hass, options)
    assert [anchor.kind for anchor in made] == kinds


async def test_file_of_the_authority_holds_for_both_servers(hass: HomeAssistant) -> None:
    """Trust the same authority for both servers."""
    made: list[Any] = anchors_from(
        hass, {"anchor_url": "https://a/", "anchor_syslog": "a", "anchor_ca_file": "/ca.crt"}
    )
    assert [anchor._ca_file for anchor in made] == ["/ca.crt", "/ca.crt"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"anchor_url": "https://logs.example/checkpoint?token=x"},
        {"anchor_url": "https://[::1]:8443/"},
        {"anchor_syslog": "logs.example"},
        {"anchor_syslog": "10.0.0.7:1"},
        {"anchor_syslog": "[fd00::1]"},
        {"anchor_syslog": "[::1]:65535"},
        {"anchor_file": "/media/usb/checkpoints", "anchor_ca_file": "/ssl/ca.crt"},
        {"anchor_url": "", "anchor_syslog": "", "anchor_file": "", "anchor_ca_file": ""},
    ],
)
def test_options_without_a_problem(options: dict[str, Any]) -> None:
    """Take what can be used."""
    assert problems(options) == {}


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"anchor_url": "http://logs.example/"}, {"anchor_url": "invalid_url"}),
        ({"anchor_url": "logs.example"}, {"anchor_url": "invalid_url"}),
        ({"anchor_url": "https:///checkpoint"}, {"anchor_url": "invalid_url"}),
        ({"anchor_url": "file:///etc/passwd"}, {"anchor_url": "invalid_url"}),
        ({"anchor_url": "https://[::1"}, {"anchor_url": "invalid_url"}),
        ({"anchor_url": "https://logs.example:65536/"}, {"anchor_url": "invalid_url"}),
        ({"anchor_url": "https://logs.example:0/"}, {"anchor_url": "invalid_url"}),
        ({"anchor_url": "https://user:password@[::1]:8443/"}, {"anchor_url": "password_in_url"}),
        ({"anchor_url": "https://user@logs.example/"}, {"anchor_url": "password_in_url"}),
        ({"anchor_url": "https://:password@logs.example/"}, {"anchor_url": "password_in_url"}),
        ({"anchor_file": "/a\0b"}, {"anchor_file": "invalid_path"}),
        ({"anchor_syslog": "logs.example:0"}, {"anchor_syslog": "invalid_host"}),
        ({"anchor_syslog": "logs.example:65536"}, {"anchor_syslog": "invalid_host"}),
        ({"anchor_syslog": "logs.example:"}, {"anchor_syslog": "invalid_host"}),
        ({"anchor_syslog": "::1"}, {"anchor_syslog": "invalid_host"}),
        ({"anchor_syslog": "[::1]6514"}, {"anchor_syslog": "invalid_host"}),
        ({"anchor_syslog": "tls://logs.example"}, {"anchor_syslog": "invalid_host"}),
        ({"anchor_syslog": "logs example"}, {"anchor_syslog": "invalid_host"}),
        ({"anchor_file": "checkpoints"}, {"anchor_file": "invalid_path"}),
        ({"anchor_ca_file": "./ca.crt"}, {"anchor_ca_file": "invalid_path"}),
        (
            {"anchor_url": "ftp://a", "anchor_syslog": "a b", "anchor_file": "a", "anchor_ca_file": "b"},
            {
                "anchor_url": "invalid_url",
                "anchor_syslog": "invalid_host",
                "anchor_file": "invalid_path",
                "anchor_ca_file": "invalid_path",
            },
        ),
    ],
)
def test_options_with_problems(options: dict[str, Any], found: dict[str, str]) -> None:
    """Say what is wrong with which field."""
    assert problems(options) == found


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("logs.example", "logs.example", 6514),
        ("logs.example:601", "logs.example", 601),
        ("10.0.0.7", "10.0.0.7", 6514),
        ("[fd00::1]", "fd00::1", 6514),
        ("[FD00::1]:601", "FD00::1", 601),
    ],
)
async def test_address_of_a_log_server(hass: HomeAssistant, address: str, host: str, port: int) -> None:
    """Take names and both kinds of addresses, with and without a port."""
    anchor = SyslogAnchor(hass, address, None)
    assert (anchor._host, anchor._port) == (host, port)


async def test_address_that_is_none(hass: HomeAssistant) -> None:
    """Refuse what the options flow would not have let in."""
    with pytest.raises(ValueError, match="no host"):
        SyslogAnchor(hass, "no host", None)
