"""HTTP against a real Home Assistant: curl, and clients that curl would not be."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
import contextlib
from dataclasses import dataclass, field
import json
from pathlib import Path
import shutil
import sys
import time
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.demo.installation import Installation
from tests.demo.waiting import settled
from tests.stack.brokers import MosquittoBroker

from .http_clients import Answer, Memory, chunk, gzip_of_zeros, head, talk

TELEMETRY: Final = "/api/grokmon/v1/telemetry"
CLAIM: Final = "/api/grokmon/v1/claim"
REQUEST: Final = "/api/grokmon/v1/enrolment_request"
EXAMPLE: Final = Path(__file__).resolve().parents[2] / "examples" / "devices" / "python" / "claim.py"
JSON: Final = "Content-Type: application/json"
READING: Final = b'{"metrics":{"temp_c":21.5}}'
ORIGIN: Final = "https://cast.home-assistant.io"
SECURITY: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
}
MB: Final = 1_000_000
BODY_SECONDS: Final = 10.0
LINGERING: Final = 10.0
"""How long aiohttp goes on to read, and to forget, what was not wanted."""
PROMPT: Final = 2.0
FEW_MIB: Final = 24.0
# So many that none is ever out of its budget.
HONEST: Final = 40

pytestmark = pytest.mark.timeout(240)


@dataclass(slots=True)
class Site:
    """A Home Assistant that bans whoever fails once, and devices that send to it."""

    installation: Installation
    tokens: list[str]
    memory: Memory
    _turn: int = field(default=0)

    @property
    def port(self) -> int:
        """Return the port of Home Assistant."""
        return self.installation.hass.port

    @property
    def log(self) -> str:
        """Return what Home Assistant logged."""
        return self.installation.hass.process.log.read_text(encoding="utf-8", errors="replace")

    @property
    def bans(self) -> Path:
        """Return where Home Assistant writes whom it has banned."""
        return self.installation.hass.config / "ip_bans.yaml"

    @property
    def trail(self) -> list[str]:
        """Return the lines of the audit trail."""
        return self.installation.audit_file.read_text(encoding="utf-8").splitlines()

    def token(self) -> str:
        """Return an access token, each time that of another device, so that none is out of its budget."""
        self._turn += 1
        return self.tokens[self._turn % len(self.tokens)]

    def bearer(self) -> str:
        """Return the header with an access token."""
        return f"Authorization: Bearer {self.token()}"

    async def honest(self) -> Answer:
        """Return what an honest device is answered."""
        lines = (JSON, self.bearer(), f"Content-Length: {len(READING)}")
        return await talk(self.port, [head(TELEMETRY, *lines), READING])

    async def slowest_honest(self, meanwhile: asyncio.Task[Any]) -> tuple[int, float]:
        """Let honest devices send, one after the other, until something has ended: how often, and the longest wait."""
        answers = []
        while not meanwhile.done():
            answer = await self.honest()
            assert answer.status == 202
            answers.append(answer.seconds)
            await asyncio.wait([meanwhile], timeout=0.25)
        return len(answers), max(answers)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Site]:
    """Run a Home Assistant with HTTP switched on."""
    if MosquittoBroker.find() is None or shutil.which("curl") is None:
        pytest.skip("mosquitto and curl are not both installed")
    installation = Installation(tmp_path_factory.mktemp("http"), MosquittoBroker, [])
    store = installation.hass.config / ".storage" / "http"
    settings = json.loads(store.read_text())
    settings["data"]["stable"] |= {
        "login_attempts_threshold": 1,
        "use_x_forwarded_for": True,
        "trusted_proxies": ["127.0.0.2"],
    }
    store.write_text(json.dumps(settings))
    async with installation:
        await installation.add_gateway([])
        hass = installation.hass
        tokens = []
        for number in range(HONEST):
            device = {"device_id": f"logger-{number}", "name": f"Logger {number}", "metrics": ["temp_c"]}
            tokens.append((await _service(installation, "enroll_device", {**device, "auth": "token"}))["token"])
        made = Site(installation, tokens, Memory(hass.process.pid))
        menu = await hass.options_flows.start(installation.entry_id)
        await hass.options_flows.submit(menu["flow_id"], {"next_step_id": "http"})
        await hass.options_flows.submit(menu["flow_id"], {"http_ingest": True, "http_enrolment": True})
        # The options take effect with a reload, of which nothing tells the end.
        await settled(made.honest, lambda answer: answer.status != 404, within=30)
        yield made


async def _service(installation: Installation, name: str, data: dict[str, Any]) -> dict[str, Any]:
    return await installation.hass.rest.call_service("grokmon", name, data, return_response=True)


async def curl(site: Site, path: str, *options: str, body: bytes | None = READING) -> tuple[Answer, dict[str, Any]]:
    """Let curl post; return the answer and what curl says about it."""
    data = [] if body is None else ["--data-binary", "@-"]
    process = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--http1.1", "--include", "--max-time", "60", "--noproxy", "*"),
        *("--write-out", "%{stderr}%{json}", *data, *options, f"http://127.0.0.1:{site.port}{path}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    received, said = await process.communicate(body)
    about: dict[str, Any] = json.loads(said)
    return Answer.of(received, about["time_total"]), about


def code_of(answer: Answer) -> tuple[int, str]:
    """Return status and code of a refusal, whose head must be in order."""
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "set-cookie"]
    return answer.status, json.loads(answer.body)["error"]


# --- curl


async def test_curl(site: Site) -> None:
    """An honest device sends with curl, and the state is there."""
    answer, _ = await curl(site, TELEMETRY, "-H", JSON, "-H", f"Authorization: Bearer {site.tokens[0]}")
    assert (answer.status, json.loads(answer.body)) == (202, {"accepted": 1})
    entities = await site.installation.entity_ids()
    state = await site.installation.hass.wait_for_state(
        entities["logger-0/temp_c"], lambda state: state["state"] == "21.5"
    )
    assert state["attributes"]["unit_of_measurement"] == "°C"


async def test_curl_is_refused(site: Site) -> None:
    """What curl sends by itself, and without what it should have, is refused."""
    assert code_of((await curl(site, TELEMETRY))[0]) == (415, "content_type_invalid")
    assert code_of((await curl(site, TELEMETRY, "-H", JSON))[0]) == (401, "token_invalid")
    assert code_of((await curl(site, TELEMETRY, "-H", JSON, "-H", "Authorization: Bearer"))[0]) == (
        401,
        "token_invalid",
    )
    assert code_of((await curl(site, f"{TELEMETRY}?token={site.token()}", "-H", JSON))[0]) == (401, "token_invalid")
    assert code_of((await curl(site, TELEMETRY, "-H", JSON, "-u", f"x:{site.token()}"))[0]) == (401, "token_invalid")
    answer, _ = await curl(site, TELEMETRY, "-X", "PUT", "-H", JSON, "-H", site.bearer())
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    preflight = ["-X", "OPTIONS", "-H", f"Origin: {ORIGIN}", "-H", "Access-Control-Request-Method: POST"]
    answer, _ = await curl(site, TELEMETRY, *preflight, body=None)
    assert answer.status == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
    shared, _ = await curl(site, "/api/states", *preflight[:-1], "Access-Control-Request-Method: GET", body=None)
    assert shared.headers["access-control-allow-origin"] == ORIGIN


async def test_forwarded_by_nobody(site: Site) -> None:
    """Home Assistant believes its proxies only, and refuses the rest."""
    for said in ("X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 192.0.2.7"):
        answer, _ = await curl(site, TELEMETRY, "-H", JSON, "-H", site.bearer(), "-H", said)
        assert answer.status == 400
    proxy = ("--interface", "127.0.0.2", "-H", JSON, "-H", site.bearer(), "-H")
    answer, _ = await curl(site, TELEMETRY, *proxy, "X-Forwarded-For: 192.0.2.7")
    assert code_of(answer) == (400, "tls_required")
    answer, _ = await curl(site, TELEMETRY, *proxy, "X-Forwarded-For: 192.0.2.7", "-H", "X-Forwarded-Proto: https")
    assert answer.status == 202


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[1,2]", 400),
        (b'"text"', 400),
        (b'{"metrics":{"temp_c":21.5},"meta":"text"}', 400),
        (b'{"metrics":{"temp_c":NaN}}', 400),
        (b'{"metrics":{"temp_c":1,"temp_c":2}}', 400),
        (b'{"device_id":"logger-x","metrics":{"temp_c":21.5}}', 400),
        (b"[" * 100_000, 413),
        (b"[" * 16_000, 400),
        (b"{" + b" " * MB + b"}", 413),
    ],
    ids=["list", "string", "meta", "NaN", "duplicate", "other device", "100,000 deep", "16,000 deep", "1 MB"],
)
async def test_cases_of_the_collector(site: Site, body: bytes, status: int) -> None:
    """What another collector is tested with is refused here, and none of it is an error of the server."""
    answer, _ = await curl(site, TELEMETRY, "-H", JSON, "-H", site.bearer(), body=body)
    assert code_of(answer)[0] == status


# --- Large bodies


async def test_asks_before_it_sends(site: Site) -> None:
    """A client that asks first is told no before it has sent 17 MB, and yes where it may."""
    expect = ("-H", "Expect: 100-continue", "--expect100-timeout", "20", "-H", JSON)
    answer, about = await curl(site, TELEMETRY, *expect, "-H", site.bearer(), body=b" " * 17 * MB)
    assert code_of(answer) == (413, "oversized")
    assert about["size_upload"] == 0
    assert answer.seconds < PROMPT
    answer, about = await curl(site, TELEMETRY, *expect, "-H", "Authorization: Bearer x")
    assert code_of(answer) == (401, "token_invalid")
    assert about["size_upload"] == 0
    answer, about = await curl(site, TELEMETRY, *expect, "-H", site.bearer())
    assert (answer.status, about["size_upload"]) == (202, len(READING))
    assert answer.seconds < PROMPT
    answer, _ = await curl(site, TELEMETRY, "-H", "Expect: a-miracle", "-H", JSON, "-H", site.bearer())
    assert answer.status == 202


@pytest.mark.parametrize("chunked", [False, True], ids=["said", "chunked"])
@pytest.mark.parametrize("path", [TELEMETRY, CLAIM])
async def test_17_megabytes(site: Site, path: str, chunked: bool, measured: Callable[[str], None]) -> None:
    """A body of 17 MB is refused at its head or after 16 KB, and kept nowhere."""
    site.memory.forget_peak()
    before = site.memory.now()
    extra = ["-H", "Transfer-Encoding: chunked"] if chunked else []
    answer, _ = await curl(site, path, "-H", JSON, "-H", "Expect:", "-H", site.bearer(), *extra, body=b" " * 17 * MB)
    grown = site.memory.peak() - before
    measured(f"17 MB {'in chunks' if chunked else 'said before'}: {answer.seconds:.2f} s, {grown:.1f} MiB more at most")
    assert code_of(answer) == (413, "oversized")
    assert grown < FEW_MIB


@pytest.mark.parametrize(("method", "status"), [("POST", 415), ("PUT", 405)])
async def test_gzip_bomb(site: Site, method: str, status: int, measured: Callable[[str], None]) -> None:
    """A gibibyte of nothing, packed into a megabyte, costs neither memory nor anybody's turn."""
    bomb = gzip_of_zeros()
    lines = (JSON, site.bearer(), "Content-Encoding: gzip", f"Content-Length: {len(bomb)}")
    site.memory.forget_peak()
    before = site.memory.now()
    began = time.monotonic()
    attack = asyncio.create_task(_until_hung_up(site.port, head(TELEMETRY, *lines, method=method), bomb))
    count, slowest = await site.slowest_honest(attack)
    answer = await attack
    grown = site.memory.peak() - before
    measured(
        f"gzip bomb, 1 GiB in {len(bomb)} bytes: refused after {answer.seconds:.2f} s, gone after "
        f"{time.monotonic() - began:.1f} s, {grown:.1f} MiB more at most; of {count} honest requests meanwhile the "
        f"slowest took {slowest:.2f} s"
    )
    assert answer.status == status
    assert answer.seconds < PROMPT
    assert grown < FEW_MIB
    assert slowest < PROMPT


async def _until_hung_up(port: int, *parts: bytes) -> Answer:
    """Send all of it, heard or not, and wait until the server hangs up; return the answer with the time it took."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered, received = 0.0, bytearray()

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()

    sending = asyncio.create_task(send())
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65_536):
            answered = answered or time.monotonic() - began
            received += piece
    sending.cancel()
    writer.close()
    await asyncio.gather(sending, return_exceptions=True)
    return Answer.of(bytes(received), answered)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity"])
async def test_content_encodings(site: Site, encoding: str) -> None:
    """Nothing packed is taken; what the web server cannot even name it refuses by itself."""
    answer, _ = await curl(site, TELEMETRY, "-H", JSON, "-H", site.bearer(), "-H", f"Content-Encoding: {encoding}")
    assert answer.status == 415 or (encoding == "br" and answer.status == 400)


# --- Bodies that do not end


async def test_dribble(site: Site, measured: Callable[[str], None]) -> None:
    """A body that comes drop by drop is given up after ten seconds, a hundred of them at once, and nobody waits."""

    async def drops(lines: bytes) -> AsyncIterator[bytes]:
        yield lines
        while True:
            yield b" "
            await asyncio.sleep(0.5)

    known = head(TELEMETRY, JSON, site.bearer(), "Content-Length: 16000")
    stranger = head(CLAIM, JSON, "Content-Length: 16000")
    before = site.memory.now()
    attack = asyncio.ensure_future(
        asyncio.gather(*(talk(site.port, drops(lines)) for lines in [known] * 8 + [stranger] * 92))
    )
    count, slowest = await site.slowest_honest(asyncio.create_task(_wait_for(attack)))
    answers = attack.result()
    measured(
        f"100 dribbling bodies: given up after {min(each.seconds for each in answers):.1f} to "
        f"{max(each.seconds for each in answers):.1f} s, {site.memory.now() - before:.1f} MiB more; of {count} honest "
        f"requests meanwhile the slowest took {slowest:.2f} s"
    )
    assert {code_of(each) for each in answers} == {(400, "malformed")}
    assert all(BODY_SECONDS - 0.5 < each.seconds < BODY_SECONDS + 3 for each in answers)
    assert slowest < PROMPT


async def _wait_for(future: asyncio.Future[Any]) -> None:
    await asyncio.wait([future])


async def test_endless_chunks(site: Site, measured: Callable[[str], None]) -> None:
    """A body without an end is refused after 16 KB, and the connection ends whatever still comes."""
    piece = chunk(bytes(65_536))
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield head(TELEMETRY, JSON, site.bearer(), "Transfer-Encoding: chunked")
        while True:
            yield piece
            sent += len(piece)

    site.memory.forget_peak()
    before = site.memory.now()
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    refused = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            async for part in endless():
                writer.write(part)
                await writer.drain()

    sending = asyncio.create_task(send())
    count, slowest = await site.slowest_honest(sending)
    took = time.monotonic() - began
    writer.close()
    grown = site.memory.peak() - before
    measured(
        f"endless chunks: hung up after {took:.1f} s and {sent / MB:.0f} MB, {grown:.1f} MiB more at most; of {count} "
        f"honest requests meanwhile the slowest took {slowest:.2f} s"
    )
    assert b" 413 " in await refused
    assert took < LINGERING + 5
    assert grown < FEW_MIB
    assert slowest < PROMPT


async def test_slow_heads(site: Site) -> None:
    """Two hundred requests whose heads do not come to an end keep nobody waiting."""
    connections = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(200)]
    try:
        for _, writer in connections:
            writer.write(head(TELEMETRY, JSON)[:-2] + b"X-Slow: ")
            await writer.drain()
        answer = await site.honest()
        assert answer.status == 202
        assert answer.seconds < PROMPT
    finally:
        for _, writer in connections:
            writer.close()


# --- What is not quite HTTP


async def test_more_than_was_said(site: Site) -> None:
    """What follows the body is another request: none that the first one's token opens anything for."""
    lines = head(TELEMETRY, JSON, site.bearer(), f"Content-Length: {len(READING)}")
    hidden = head(TELEMETRY, JSON, f"Content-Length: {len(READING)}") + READING
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(lines + READING + hidden)
    received = b""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while received.count(b"HTTP/1.1 ") < 2 or not received.endswith(b"}"):
            received += await reader.readexactly(1)
    writer.close()
    first, second = received.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"202 ")
    assert second.startswith(b"401 ")


async def test_less_than_was_said(site: Site) -> None:
    """A body that breaks off is not taken."""
    before = await _accepted(site)
    lines = head(TELEMETRY, JSON, site.bearer(), "Content-Length: 500")
    answer = await talk(site.port, [lines, READING], half_close=True)
    assert answer.status in {0, 400}
    assert await _accepted(site) == before


async def _accepted(site: Site) -> int:
    diagnostics = await site.installation.diagnostics()
    return sum(device["accepted"] for device in diagnostics["devices"])


STRANGE: Final = {
    "packed and chunked": (["Transfer-Encoding: gzip, chunked"], chunk(READING) + chunk(b"")),
    "chunked twice": (["Transfer-Encoding: chunked, chunked"], chunk(READING) + chunk(b"")),
    "chunked and a length": (["Transfer-Encoding: chunked", "Content-Length: 3"], chunk(READING) + chunk(b"")),
    "two lengths": (["Content-Length: 27", "Content-Length: 3"], READING),
    "a negative length": (["Content-Length: -1"], READING),
    "a length of letters": (["Content-Length: 0x1b"], READING),
    "no chunk": (["Transfer-Encoding: chunked"], b"zz\r\n" + READING),
    "a broken chunk later": (["Transfer-Encoding: chunked"], chunk(READING) + b"5\r\nab"),
    "a chunk that runs over": (["Transfer-Encoding: chunked"], chunk(READING)[:-2] + b"}}}}"),
    "a huge chunk": (["Transfer-Encoding: chunked"], b"ffffffffffffffffff\r\n"),
    "a long extension": (["Transfer-Encoding: chunked"], b"1;" + b"x" * 100_000 + b"\r\n"),
    "many trailers": (["Transfer-Encoding: chunked"], chunk(READING) + b"0\r\n" + b"X-T: 1\r\n" * 500 + b"\r\n"),
    "NUL in a header": (["X-Odd: a\0b", "Content-Length: 27"], READING),
    "a folded header": (["X-Odd: a\r\n b", "Content-Length: 27"], READING),
    "a bare line feed": (["X-Odd: a\nContent-Length: 3", "Content-Length: 27"], READING),
    "a space before the colon": (["Content-Length : 27"], READING),
    "many headers": ([*(f"X-{number}: y" for number in range(5000)), "Content-Length: 27"], READING),
    "an upgrade": (["Connection: Upgrade", "Upgrade: websocket", "Content-Length: 27"], READING),
}


@pytest.mark.parametrize("case", STRANGE)
async def test_strange_framing(site: Site, case: str) -> None:
    """However a body is framed, the server does not stumble; what has two readings is not read."""
    lines, body = STRANGE[case]
    answer = await talk(site.port, [head(TELEMETRY, JSON, site.bearer(), *lines), body], half_close=True)
    harmless = {202} if case in {"an upgrade", "many trailers", "a folded header"} else set()
    assert answer.status in {0, 400, 413, 415} | harmless


@pytest.mark.parametrize("rest", [b"zz\r\n", b"\r\n\r\n", b"-5\r\n", b"f" * 40 + b"\r\n", b"1;" + b"x" * 100_000])
async def test_breaks_midway(site: Site, rest: bytes) -> None:
    """Chunks that turn out to be none, while somebody reads them, are a refusal and no error."""

    async def parts() -> AsyncIterator[bytes]:
        yield head(TELEMETRY, JSON, site.bearer(), "Transfer-Encoding: chunked") + chunk(READING[:5])
        # So that the rest comes alone.
        await asyncio.sleep(0.2)
        yield rest

    answer = await talk(site.port, parts())
    assert code_of(answer) == (400, "malformed")


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        (b"Bearer " + b"x" * 100_000, 400),
        (b"Bearer " + b"x" * 20_000, 401),
        (b"Bearer \xc3\xbc", 401),
        (b"\xe2\x82\xac", 401),
        (b"bearer", 401),
        (b"Bearer\t\t", 401),
    ],
    ids=["100 KB", "20 KB", "umlaut", "euro", "lower case", "tabs"],
)
async def test_strange_tokens(site: Site, shown: bytes, status: int) -> None:
    """Whatever bytes are shown, they open nothing and break nothing."""
    assert (await talk(site.port, [_showing(TELEMETRY, shown), READING])).status == status


async def test_bytes_that_are_no_text(site: Site) -> None:
    """Home Assistant's own look at the header stumbles over such bytes wherever they go, before anybody is asked."""
    for shown in (b"Bearer \xff\xfe", b"Bearer gr\xfcn"):
        here = await talk(site.port, [_showing(TELEMETRY, shown), READING])
        elsewhere = await talk(site.port, [_showing("/api/nothing", shown), READING])
        assert (here.status == 401) or (here.status, here.body) == (elsewhere.status, elsewhere.body)


def _showing(path: str, shown: bytes) -> bytes:
    return head(path, JSON, f"Content-Length: {len(READING)}")[:-2] + b"Authorization: " + shown + b"\r\n\r\n"


# --- Last, since the address has heard enough afterwards


async def test_claim_example(site: Site, tmp_path: Path) -> None:
    """The example fetches the settings of a new device, once, into a file that nobody else can read."""
    device = {"device_id": "claimer", "name": "Claimer", "metrics": ["temp_c"]}
    enrolled = await _service(site.installation, "enroll_device", device)
    claim = json.dumps(await _service(site.installation, "issue_claim_code", {"device_id": "claimer"}))
    command = (sys.executable, EXAMPLE, site.installation.hass.url, claim)
    for code in (0, 1):
        process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stderr=asyncio.subprocess.DEVNULL)
        assert await process.wait() == code
    file = tmp_path / "settings.json"
    assert file.stat().st_mode & 0o777 == 0o600
    settings = json.loads(file.read_text(encoding="utf-8"))
    assert (settings["device_id"], settings["key"]) == ("claimer", enrolled["key"])
    elsewhere = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLE, "http://192.0.2.1:8123", claim, cwd=tmp_path, stderr=asyncio.subprocess.DEVNULL
    )
    assert await elsewhere.wait() == 1


async def test_ten_thousand_bad_tokens(site: Site, measured: Callable[[str], None]) -> None:
    """Of 10,000 bad tokens 30 hear no, the rest hear wait; honest devices behind the same address go on."""
    site.memory.forget_peak()
    before, lines = site.memory.now(), len(site.trail)
    began = time.monotonic()
    statuses: Counter[int] = Counter()
    good = site.tokens[0]

    async def attack(part: int) -> None:
        for number in range(500):
            bad = f"Authorization: Bearer {good[:-8]}{part:04}{number:04}"
            answer = await talk(site.port, [head(TELEMETRY, JSON, bad, "Content-Length: 27"), READING])
            statuses[answer.status] += 1

    attacks = asyncio.ensure_future(asyncio.gather(*map(attack, range(20))))
    count, slowest = await site.slowest_honest(asyncio.create_task(_wait_for(attacks)))
    took = time.monotonic() - began
    await attacks
    grown = site.memory.peak() - before
    measured(
        f"10,000 bad tokens in {took:.1f} s: {dict(statuses)}, {grown:.1f} MiB more at most, "
        f"{len(site.trail) - lines} lines in the audit trail; of {count} honest requests meanwhile the slowest took "
        f"{slowest:.2f} s"
    )
    assert statuses.keys() == {401, 429}
    assert statuses.total() == 10_000
    assert statuses[401] <= 30 + took / 2 + 1
    assert grown < FEW_MIB
    assert len(site.trail) - lines < 20 + took / 10
    assert (await site.honest()).status == 202


async def test_guessed_claims(site: Site, measured: Callable[[str], None]) -> None:
    """A thousand guesses at a device's settings get nothing, and leave no more than a few lines."""
    lines = len(site.trail)
    statuses: Counter[int] = Counter()
    for number in range(1000):
        body = json.dumps({"device_id": "logger-0", "code": f"{number:022}"}).encode()
        answer = await talk(site.port, [head(CLAIM, JSON, f"Content-Length: {len(body)}"), body])
        statuses[answer.status] += 1
    measured(f"1,000 guessed claim codes: {dict(statuses)}, {len(site.trail) - lines} lines in the audit trail")
    assert statuses.keys() <= {401, 429}
    assert len(site.trail) - lines < 20


async def test_nothing_was_banned_or_broken(site: Site) -> None:
    """After all that nobody is banned, and the log has neither an error of ours nor a token."""
    log = site.log
    assert "ogin attempt" not in log
    assert not site.bans.exists()
    for trouble in ("custom_components/grokmon", "ERROR (MainThread) [custom_components.grokmon"):
        assert trouble not in log
    for token in site.tokens:
        assert token not in log
        assert token.split(".")[2] not in log
    report = await site.installation.verify_audit()
    assert report["ok"]
    assert (await site.honest()).status == 202


async def test_tokens_of_two_kinds(site: Site) -> None:
    """Last of all, since it bans: a token of Home Assistant opens nothing here, and a device's nothing there."""
    ours = f"Authorization: Bearer {site.installation.hass.token}"
    answer, _ = await curl(site, TELEMETRY, "-H", JSON, "-H", ours)
    assert answer.status in {401, 429}
    states, _ = await curl(site, "/api/states", "-H", site.bearer(), body=None)
    assert states.status == 401
    assert (await curl(site, TELEMETRY, "-H", JSON, "-H", site.bearer()))[0].status == 403
