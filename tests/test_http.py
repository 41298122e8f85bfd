"""What devices reach over HTTP: who is let in, what is refused and how, and that nothing else changes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from ipaddress import ip_address
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import Mock, patch

from aiohttp import ClientResponse, StreamReader, web
from aiohttp.test_utils import TestClient, make_mocked_request
from homeassistant.auth.models import User
from homeassistant.components.http.ban import KEY_BAN_MANAGER
from homeassistant.core import HomeAssistant
from homeassistant.helpers.http import KEY_HASS
from homeassistant.setup import async_setup_component
from hypothesis import given, settings as hypothesis_settings, strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
import pytest

from custom_components.grokmon import http
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway import access_tokens, credentials
from custom_components.grokmon.gateway.claim_codes import MAX_OF_A_HOST, TRIES
from custom_components.grokmon.gateway.models import Auth, Device, DeviceStatus
from custom_components.grokmon.gateway.pipeline import Gateway
from custom_components.grokmon.gateway.ratelimit import HostLimit
from custom_components.grokmon.gateway.topics import RESERVED_IDS
from custom_components.grokmon.http import BODY_SECONDS, TelemetryView

from .common import Room, RoomDevice
from .device_simulator.credentials import generate_key_pair, proof_of, public_pem
from .stack.home_assistant.configuration import _http_settings, _store

TELEMETRY: Final = "/api/grokmon/v1/telemetry"
CLAIM: Final = "/api/grokmon/v1/claim"
REQUEST: Final = "/api/grokmon/v1/enrolment_request"
PATHS: Final = (TELEMETRY, CLAIM, REQUEST)
ON: Final = {"http_ingest": True, "http_enrolment": True}
ORIGIN: Final = "https://dashboard.example"
STATUSES: Final = {202, 400, 401, 413, 415, 429}
READING: Final = {"metrics": {"temp_c": 21.5}}
FAR: Final = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
"""What the trusted proxy says of somebody else, who came over TLS."""
SECURITY: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}

type Client = TestClient[web.Request, web.Application]
type ClientFactory = Callable[[], Any]


@pytest.fixture
def options() -> dict[str, Any]:
    """Switch everything on."""
    return dict(ON)


@pytest.fixture
def hass_config_dir(hass_config_dir: str) -> str:
    """Let Home Assistant ban whoever fails once, share with an origin, and believe a proxy on this machine."""
    settings = _http_settings(0)
    settings["stable"] |= {
        "cors_allowed_origins": [ORIGIN],
        "login_attempts_threshold": 1,
        "use_x_forwarded_for": True,
        "trusted_proxies": ["127.0.0.1"],
    }
    storage = Path(hass_config_dir, ".storage")
    storage.mkdir()
    _store(storage, "http", 2, 2, settings)
    return hass_config_dir


@pytest.fixture(autouse=True)
def no_access_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the log of requests, which cannot do with a clock that stands still."""
    monkeypatch.setattr(logging.getLogger("aiohttp.access"), "disabled", True)


@pytest.fixture
async def client(room: Room, hass_client_no_auth: ClientFactory) -> Client:
    """Return a client of a Home Assistant in which the integration runs."""
    assert await async_setup_component(room.hass, "api", {})
    made: Client = await hass_client_no_auth()
    return made


async def enrol_token(room: Room, device_id: str = "logger", **choices: Any) -> str:
    """Enrol a device that sends over HTTP; return its access token."""
    data = {"device_id": device_id, "name": device_id.title(), "metrics": ["temp_c", "vbat"], "auth": "token"}
    response = await room.call("enroll_device", data | choices)
    assert response["path"] == TELEMETRY
    return str(response["token"])


@pytest.fixture
async def token(room: Room) -> str:
    """Return the access token of an enrolled device."""
    return await enrol_token(room)


async def send(
    client: Client, token: str | None, body: Any = READING, headers: Mapping[str, str] | None = None
) -> ClientResponse:
    """Post telemetry, as JSON unless it is bytes or comes bit by bit."""
    shown = {} if token is None else {"Authorization": f"Bearer {token}"}
    data = body if isinstance(body, bytes | AsyncIterator) else json.dumps(body).encode()
    return await client.post(
        TELEMETRY, data=data, headers={"Content-Type": "application/json", **shown, **(headers or {})}
    )


async def refusal(response: ClientResponse) -> tuple[int, str]:
    """Return status and code of an answer, which must be a proper refusal."""
    body = await response.json()
    assert body.keys() == {"error", "detail"}
    assert type(body["detail"]) is str
    assert_secured(response)
    assert ("Retry-After" in response.headers) == (response.status == HTTPStatus.TOO_MANY_REQUESTS)
    assert response.headers.get("WWW-Authenticate") == ("Bearer" if response.status == 401 else None)
    return response.status, body["error"]


def assert_secured(response: ClientResponse) -> None:
    """Check what stands in the head of every answer, and what must not."""
    assert {name: response.headers.get(name) for name in SECURITY} == SECURITY
    assert not [name for name in response.headers if name.lower().startswith("access-control")]
    assert "Set-Cookie" not in response.headers


def comparable(response: ClientResponse, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return what one can tell answers apart by."""
    return response.status, {name: value for name, value in response.headers.items() if name != "Date"}, body


# --- Off


async def assert_not_there(client: Client, path: str) -> None:
    """Check that a path answers like one that does not exist, whatever it is asked."""
    for method in ("POST", "GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
        for headers in ({}, {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}):
            there = await client.request(method, path, headers=headers)
            nowhere = await client.request(method, "/api/grokmon/v1/nothing", headers=headers)
            assert there.status == HTTPStatus.NOT_FOUND
            assert comparable(there, await there.read()) == comparable(nowhere, await nowhere.read())


@pytest.mark.parametrize("options", [{}])
@pytest.mark.parametrize("path", PATHS)
async def test_off_by_default(client: Client, path: str) -> None:
    """Nothing is there until somebody switches it on."""
    await assert_not_there(client, path)


@pytest.mark.parametrize("path", PATHS)
async def test_not_loaded(room: Room, client: Client, path: str) -> None:
    """Nothing is there while the hub is not."""
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    await assert_not_there(client, path)


@pytest.mark.parametrize(
    ("options", "off"), [({"http_ingest": True}, (CLAIM, REQUEST)), ({"http_enrolment": True}, (TELEMETRY,))]
)
async def test_each_for_itself(client: Client, off: tuple[str, ...]) -> None:
    """To switch the one on leaves the other off."""
    for path in PATHS:
        assert ((await client.post(path)).status == HTTPStatus.NOT_FOUND) == (path in off)


@pytest.mark.parametrize("options", [{}])
async def test_switched_on_and_off(room: Room, client: Client, token: str) -> None:
    """The options switch it on and off, and a device's token outlasts that."""
    statuses = []
    for wanted in (True, False):
        flow = await room.hass.config_entries.options.async_init(room.entry.entry_id)
        await room.hass.config_entries.options.async_configure(flow["flow_id"], {"next_step_id": "http"})
        await room.hass.config_entries.options.async_configure(flow["flow_id"], dict.fromkeys(ON, wanted))
        await room.settle()
        statuses.append((await send(client, token)).status)
    assert statuses == [HTTPStatus.ACCEPTED, HTTPStatus.NOT_FOUND]


# --- Let in


async def test_accepted(room: Room, client: Client, token: str) -> None:
    """A reading is taken: counted in the answer, and seen in the states."""
    response = await send(client, token, {"device_id": "logger", "metrics": {"temp_c": 22.5, "vbat": 3.7}})
    await room.settle()
    assert response.status == HTTPStatus.ACCEPTED
    assert await response.json() == {"accepted": 1}
    assert_secured(response)
    assert room.state("logger/temp_c").state == "22.5"
    assert room.hub.coordinator.values is not None
    assert room.hub.gateway.accepted == {"logger": 1}


@pytest.mark.parametrize("count", [1, 100])
async def test_batch(room: Room, client: Client, token: str, count: int) -> None:
    """A batch counts each of its readings, and the last of them is the state."""
    readings = [{"metrics": {"temp_c": 20 + number / 10}} for number in range(count)]
    response = await send(client, token, {"readings": readings})
    await room.settle()
    assert (response.status, await response.json()) == (HTTPStatus.ACCEPTED, {"accepted": count})
    assert float(room.state("logger/temp_c").state) == readings[-1]["metrics"]["temp_c"]


async def test_batch_is_all_or_nothing(room: Room, client: Client, token: str) -> None:
    """One reading that is wrong, or one too many, and none is taken."""
    hot: Any = {"metrics": {"temp_c": "hot"}}
    batches: list[Any] = [[], [READING] * 101, [READING, hot], [READING, READING | {"seq": 1}], {}, [READING, []]]
    for readings in batches:
        answer = await send(client, token, {"readings": readings})
        assert (await refusal(answer))[0] == HTTPStatus.BAD_REQUEST
    await room.settle()
    assert room.hub.gateway.accepted.total() == 0
    assert room.state("logger/temp_c").state == "unavailable"


async def test_written_otherwise(client: Client, token: str) -> None:
    """The name of the scheme has no case, and neither has that of JSON (RFC 9110)."""
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await send(client, None, headers={"Authorization": f"{scheme} {token}"})
        assert answer.status == HTTPStatus.ACCEPTED
    for kind in ("application/json", "Application/JSON", 'application/json; charset="utf-8"'):
        assert (await send(client, token, headers={"Content-Type": kind})).status == HTTPStatus.ACCEPTED


@pytest.mark.parametrize("auth", ["hs256", "es256", "eddsa"])
async def test_signed(room: Room, client: Client, auth: str) -> None:
    """A device that signs may send the same token over HTTP, once, and nothing that is not signed."""
    key = generate_key_pair(auth) if auth != "hs256" else None  # type: ignore[arg-type] # checked by what it is given
    public = {} if key is None else {"public_key": public_pem(key)}
    device = await room.enrol("tent-1", "temp_c", private_key=key, auth=auth, **public)
    issued = await room.call("issue_access_token", {"device_id": "tent-1"})
    signed = device.identity.sign({"iss": "tent-1", "aud": device.identity.up("telemetry"), "iat": room.now, **READING})
    jwt = {"Content-Type": "application/jwt"}
    accepted = await send(client, issued["token"], signed, jwt)
    assert (accepted.status, await accepted.json()) == (HTTPStatus.ACCEPTED, {"accepted": 1})
    assert (await refusal(await send(client, issued["token"], signed, jwt)))[1] in {"replayed", "duplicate"}
    other = device.identity.sign({"iss": "tent-1", "aud": TELEMETRY, "iat": room.now + 1, **READING})
    assert await refusal(await send(client, issued["token"], other, jwt)) == (400, "audience_mismatch")
    assert await refusal(await send(client, issued["token"])) == (400, "unsigned")
    assert (await refusal(await send(client, issued["token"], b"a.b.c", jwt)))[0] == HTTPStatus.BAD_REQUEST
    assert room.hub.gateway.accepted == {"tent-1": 1}


async def test_signed_needs_a_token(room: Room, client: Client, tent: RoomDevice) -> None:
    """A signature alone does not open the door."""
    signed = tent.identity.sign({"iss": "tent-1", "aud": tent.identity.up("telemetry"), "iat": room.now, **READING})
    answer = await send(client, None, signed, {"Content-Type": "application/jwt"})
    assert await refusal(answer) == (401, "token_invalid")


async def test_nothing_is_taken_after_a_stop(room: Room, client: Client) -> None:
    """What comes once the sessions are put away is not taken: the next start would take it a second time."""
    device = await room.enrol("tent-1", "temp_c")
    token = (await room.call("issue_access_token", {"device_id": "tent-1"}))["token"]
    await device.report({"temp_c": 20.0})
    await room.hub.async_stop()
    signed, jwt = device.sign_reading({"temp_c": 21.5}), {"Content-Type": "application/jwt"}
    assert (await send(client, token, signed, jwt)).status == HTTPStatus.NOT_FOUND
    await room.reload()
    assert (await send(client, token, signed, jwt)).status == HTTPStatus.ACCEPTED
    assert await refusal(await send(client, token, signed, jwt)) == (400, "duplicate")


# --- Refused: how it is asked


async def test_other_methods(client: Client) -> None:
    """There is POST and nothing else."""
    for path in PATHS:
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND"):
            response = await client.request(method, path, headers={"Origin": ORIGIN})
            assert (response.status, response.headers["Allow"]) == (HTTPStatus.METHOD_NOT_ALLOWED, "POST")
            assert_secured(response)


async def test_nothing_is_shared_with_other_origins(client: Client, token: str) -> None:
    """An origin that Home Assistant shares with gets nothing of this: neither an answer nor leave to ask."""
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Headers": "authorization"}
    shared = await client.options("/api/", headers=preflight | {"Access-Control-Request-Method": "GET"})
    assert shared.headers["Access-Control-Allow-Origin"] == ORIGIN
    for path in PATHS:
        assert_secured(await client.options(path, headers=preflight | {"Access-Control-Request-Method": "POST"}))
        assert_secured(await client.post(path, json={}, headers={"Origin": ORIGIN}))
    assert_secured(await send(client, token, headers={"Origin": ORIGIN}))


async def test_content_type_is_wrong(room: Room, client: Client, token: str) -> None:
    """Anything but the two content types is refused, and so is none at all."""
    for kind in (
        *("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jwt2"),
        *("application/octet-stream", "application/json/x", "application/*", "*/*", ";", "application/ld+json", "é"),
    ):
        answer = await send(client, token, headers={"Content-Type": kind})
        assert await refusal(answer) == (415, "content_type_invalid")
    for path in (CLAIM, REQUEST):
        answer = await client.post(path, data=b"a.b.c", headers={"Content-Type": "application/jwt"})
        assert await refusal(answer) == (415, "content_type_invalid")
    assert room.hub.gateway.accepted.total() == 0


async def test_content_encoding(client: Client, token: str) -> None:
    """No content encoding is taken, not even the one that changes nothing."""
    shown = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    for path in PATHS:
        for encoding in ("gzip", "deflate", "identity", "", "gzip, gzip", "rot13"):
            answer = await client.post(path, data=b"", headers={"Content-Encoding": encoding, **shown})
            assert await refusal(answer) == (415, "content_type_invalid")


async def test_too_large(client: Client, token: str) -> None:
    """A body of one byte too many is refused, whether or not it said so before."""
    body = b" " * 16_385

    async def bit_by_bit() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 1000):
            yield body[at : at + 1000]

    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    for path in PATHS:
        for data in (body, bit_by_bit()):
            answer = await client.post(path, data=data, headers=headers)
            assert await refusal(answer) == (413, "oversized")
            assert answer.headers["Connection"] == "close"


async def test_as_large_as_may_be(client: Client, token: str) -> None:
    """A body of the largest size is taken."""
    body = json.dumps(READING).encode()
    assert (await send(client, token, body.ljust(16_384))).status == HTTPStatus.ACCEPTED


# --- Refused: where it comes from


async def test_plain_http_from_elsewhere(room: Room, client: Client, token: str) -> None:
    """Without TLS nobody is answered but this machine itself, and what a client adds does not help."""
    count = 0
    for headers in (
        {"X-Forwarded-For": "192.0.2.7"},
        {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "http"},
        {"X-Forwarded-For": "127.0.0.1, 192.0.2.7", "X-Forwarded-Proto": "https, http"},
        {"X-Forwarded-For": "::1, 192.0.2.7"},
        {"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=127.0.0.1;proto=https"},
        {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Host": "127.0.0.1", "X-Forwarded-Scheme": "https"},
        {"X-Forwarded-For": "192.0.2.7", "X-Real-IP": "127.0.0.1", "X-Forwarded-Ssl": "on"},
        {"X-Forwarded-For": "::ffff:192.0.2.7"},
        {"X-Forwarded-For": "2001:db8::7"},
    ):
        for path in PATHS:
            shown = {"Authorization": f"Bearer {token}", **headers}
            assert await refusal(await client.post(path, json=READING, headers=shown)) == (400, "tls_required")
            count += 1
    assert room.hub.gateway.accepted.total() == 0
    assert [each["reason"] for each in await room.audit("refused")] == ["tls_required"]
    assert room.hub.refused_by_code(None) == {"tls_required": count}


async def test_somebody_who_is_no_proxy(client: Client, token: str) -> None:
    """Who connects by himself cannot say of himself that he came over TLS or from this machine."""
    for remote, private in (("192.0.2.7", False), ("::1", True), ("127.8.8.8", True), ("", False), (None, False)):
        with patch("aiohttp.web.BaseRequest.remote", remote):
            answer = await send(client, token, headers={"X-Forwarded-Proto": "https", "Forwarded": "for=127.0.0.1"})
        assert answer.status == (HTTPStatus.ACCEPTED if private else HTTPStatus.BAD_REQUEST)


async def test_behind_a_proxy(client: Client, token: str) -> None:
    """Over TLS as far as the trusted proxy is over TLS."""
    assert (await send(client, token, headers=FAR)).status == HTTPStatus.ACCEPTED


# --- Refused: who it is


async def test_no_access_token(room: Room, client: Client, token: str) -> None:
    """Whatever is no access token is answered alike, counted, and told once."""
    strange = [
        *("", "Bearer", "Bearer ", "Bearer\t{token}", "Bearer  {token}", "Bearer\t {token}", "Bearer {token}="),
        *("Bearer {token}.", "Bearer {token} {token}", "Bearer {token},Bearer {token}", "Token {token}"),
        *("Basic {token}", "{token}", "Bearer grün{token}", 'Bearer "{token}"', "Bearer " + "a" * 20_000, "Bearer .."),
        "Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.e30.",
    ]
    headers = [{}, *({"Authorization": each.replace("{token}", token)} for each in strange)]
    for shown in headers:
        assert await refusal(await send(client, None, headers=shown)) == (401, "token_invalid")
    assert room.hub.gateway.accepted.total() == 0
    assert room.hub.refused_by_code(None) == {"token_invalid": len(headers)}
    assert [each["reason"] for each in await room.audit("refused")] == ["token_invalid"]


async def test_two_headers_of_authorization(client: Client, token: str) -> None:
    """Of two headers neither counts: who stands before us might have looked at the other."""
    for pair in ((token, token), (token, "x"), ("x", token)):
        headers = [("Content-Type", "application/json"), *(("Authorization", f"Bearer {each}") for each in pair)]
        answer = await client.post(TELEMETRY, json=READING, headers=headers)
        assert answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.BAD_REQUEST}


async def test_token_elsewhere(client: Client, token: str) -> None:
    """A token in the address or in the body, where logs would have it, opens nothing."""
    in_query = await client.post(TELEMETRY, params={"token": token, "access_token": token}, json=READING)
    in_cookie = await client.post(TELEMETRY, cookies={"Authorization": f"Bearer {token}"}, json=READING)
    in_body = await client.post(TELEMETRY, json=READING | {"token": token})
    for answer in (in_query, in_cookie, in_body):
        assert await refusal(answer) == (401, "token_invalid")


async def test_tokens_of_two_kinds(hass: HomeAssistant, client: Client, token: str, hass_admin_user: User) -> None:
    """A token of Home Assistant sends no readings, and a device's opens nothing of Home Assistant."""
    refresh = await hass.auth.async_create_refresh_token(
        hass_admin_user, client_name="script", token_type="long_lived_access_token"
    )
    ours = hass.auth.async_create_access_token(refresh)
    hello = await client.get("/api/", headers={"Authorization": f"Bearer {ours}"})
    assert hello.status == HTTPStatus.OK
    assert await refusal(await send(client, ours)) == (401, "token_invalid")
    # Last: Home Assistant bans whoever tries that.
    assert (await client.get("/api/states", headers={"Authorization": f"Bearer {token}"})).status == 401


async def test_body_of_another_device(room: Room, client: Client, token: str) -> None:
    """A token stands for one device, and a body in the name of another is refused."""
    await enrol_token(room, "other")
    answer = await send(client, token, READING | {"device_id": "other"})
    assert await refusal(answer) == (400, "issuer_mismatch")
    batch = await send(client, token, {"readings": [READING, READING | {"device_id": "other"}]})
    assert await refusal(batch) == (400, "issuer_mismatch")
    assert room.hub.gateway.accepted.total() == 0
    assert room.hub.refused_by_code("logger") == {"issuer_mismatch": 2}


async def rotate(room: Room) -> str:
    """Return a new token for the device."""
    (rotated,) = (await room.call("rotate_credentials", {"device_id": "logger"}))["devices"]
    return str(rotated["token"])


async def test_rotation(room: Room, client: Client, token: str) -> None:
    """After a rotation both tokens open, until the new one is used."""
    assert (await send(client, token)).status == HTTPStatus.ACCEPTED
    fresh = await rotate(room)
    assert (await send(client, token)).status == HTTPStatus.ACCEPTED
    assert (await send(client, fresh)).status == HTTPStatus.ACCEPTED
    assert await refusal(await send(client, token)) == (401, "credential_expired")
    assert (await send(client, fresh)).status == HTTPStatus.ACCEPTED


async def test_refused_body_is_no_first_use(room: Room, client: Client, token: str) -> None:
    """A new token that was shown with a bad body has not ended the old one."""
    assert (await send(client, token)).status == HTTPStatus.ACCEPTED
    fresh = await rotate(room)
    assert (await refusal(await send(client, fresh, b"{")))[0] == HTTPStatus.BAD_REQUEST
    assert (await send(client, token)).status == HTTPStatus.ACCEPTED


async def test_token_replaced_before_use(room: Room, client: Client, token: str) -> None:
    """A token that was never used is revoked when another takes its place."""
    fresh = (await room.call("issue_access_token", {"device_id": "logger"}))["token"]
    assert await refusal(await send(client, token)) == (401, "credential_revoked")
    assert (await send(client, fresh)).status == HTTPStatus.ACCEPTED


async def test_expired(room: Room, client: Client, token: str) -> None:
    """A token ends by itself after 90 days."""
    room.freezer.tick(90 * 86_400 - 1)
    assert (await send(client, token)).status == HTTPStatus.ACCEPTED
    room.freezer.tick(1)
    assert await refusal(await send(client, token)) == (401, "credential_expired")


async def test_before_its_time(room: Room, client: Client, token: str) -> None:
    """A clock that is far behind lets nobody in."""
    room.freezer.tick(-86_400)
    assert (await refusal(await send(client, token)))[0] == HTTPStatus.UNAUTHORIZED


async def test_revoked(room: Room, client: Client, token: str) -> None:
    """The token of a revoked device opens nothing."""
    await room.call("revoke_device", {"device_id": "logger"})
    assert await refusal(await send(client, token)) == (401, "device_revoked")


async def test_removed(room: Room, client: Client, token: str) -> None:
    """The token of a removed device opens nothing, and nothing of a new one of its name."""
    await room.remove("logger")
    assert await refusal(await send(client, token)) == (401, "unknown_device")
    fresh = await enrol_token(room)
    assert await refusal(await send(client, token)) == (401, "credential_revoked")
    assert (await send(client, fresh)).status == HTTPStatus.ACCEPTED


async def test_disabled(room: Room, client: Client, token: str) -> None:
    """The token of a disabled device opens nothing until the device is enabled again."""
    await room.hub.enrolment.async_set_status("logger", DeviceStatus.DISABLED, "somebody")
    assert await refusal(await send(client, token)) == (401, "device_disabled")
    await room.hub.enrolment.async_set_status("logger", DeviceStatus.ACTIVE, "somebody")
    assert (await send(client, token)).status == HTTPStatus.ACCEPTED


async def test_token_is_not_in_the_log(client: Client, token: str, caplog: pytest.LogCaptureFixture) -> None:
    """A token is not logged, good or bad."""
    caplog.set_level(logging.DEBUG)
    await send(client, token)
    await send(client, token + "x")
    _, claims, signature = token.split(".")
    assert claims not in caplog.text
    assert signature not in caplog.text


# --- Limits


async def test_home_assistant_bans_nobody(
    room: Room, client: Client, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is refused here is no failed login: one of these, and everybody behind the address would be locked out."""
    for path in PATHS:
        for _ in range(5):
            await client.post(path, json={"device_id": "logger", "code": "x"}, headers={"Authorization": "Bearer x"})
    assert (await send(client, token)).status == HTTPStatus.ACCEPTED
    assert "ogin attempt" not in caplog.text
    assert not room.hass.http.app[KEY_BAN_MANAGER].ip_bans_lookup
    # The control: this one does count.
    assert (await client.get("/api/states")).status == HTTPStatus.UNAUTHORIZED
    assert "Login attempt" in caplog.text
    assert (await send(client, token)).status == HTTPStatus.FORBIDDEN


async def test_budget_of_a_device(room: Room, client: Client, token: str) -> None:
    """Ten requests in a minute, then 429 until there is one again; other devices go on."""
    other = await enrol_token(room, "other")
    statuses = [(await send(client, token)).status for _ in range(10)]
    assert statuses == [HTTPStatus.ACCEPTED] * 10
    assert await refusal(await send(client, token)) == (429, "rate_limited")
    assert (await send(client, other)).status == HTTPStatus.ACCEPTED
    room.freezer.tick(5)
    assert (await send(client, token)).status == HTTPStatus.TOO_MANY_REQUESTS
    room.freezer.tick(2)
    assert (await send(client, token)).status == HTTPStatus.ACCEPTED
    assert (await send(client, token)).status == HTTPStatus.TOO_MANY_REQUESTS


async def test_bad_bodies_cost_as_much(client: Client, token: str) -> None:
    """A device that sends rubbish has no other budget."""
    statuses = [(await send(client, token, b"{")).status for _ in range(11)]
    assert statuses == [HTTPStatus.BAD_REQUEST] * 10 + [HTTPStatus.TOO_MANY_REQUESTS]


async def test_slow_bodies_do_not_refill_the_budget(room: Room, client: Client, token: str) -> None:
    """A body that was long on its way is taken at the time of its end: no device gets a second for free."""
    accepted = 0

    async def nine_seconds() -> None:
        nonlocal accepted
        room.freezer.tick(9)
        accepted += [(await send(client, token)).status for _ in range(3)].count(HTTPStatus.ACCEPTED)

    for _ in range(10):
        accepted += (await during_a_body(client, token, nine_seconds)).status == HTTPStatus.ACCEPTED
    # Ten at once, and 90 seconds of ten in 60.
    assert accepted <= 10 + 15


async def test_limit_of_an_address(room: Room, client: Client, token: str) -> None:
    """An address hears 30 refusals in a minute, then it is told to wait; a valid token is let in all the same."""
    statuses = [(await send(client, "bad")).status for _ in range(40)]
    assert statuses == [HTTPStatus.UNAUTHORIZED] * 30 + [HTTPStatus.TOO_MANY_REQUESTS] * 10
    answer = await send(client, "bad")
    assert await refusal(answer) == (429, "rate_limited")
    assert answer.headers["Retry-After"] == "60"
    assert (await send(client, token)).status == HTTPStatus.ACCEPTED
    assert (await send(client, "bad", headers=FAR)).status == HTTPStatus.UNAUTHORIZED
    room.freezer.tick(3)
    assert (await send(client, "bad")).status == HTTPStatus.UNAUTHORIZED
    assert (await send(client, "bad")).status == HTTPStatus.TOO_MANY_REQUESTS


async def test_flood_is_summed_up(room: Room, client: Client, token: str) -> None:
    """Of a flood the audit trail has the first, and a number once a minute."""
    for number in range(300):
        await send(client, f"{token}{number}", headers={**FAR, "X-Forwarded-For": f"198.51.100.{number % 250}"})
    await room.let_pass(61)
    entries = await room.audit("refused", "refused_again")
    assert [(each["event"], each["reason"], each.get("count")) for each in entries] == [
        ("refused", "token_invalid", None),
        ("refused_again", "token_invalid", 299),
    ]


def test_table_of_hosts_is_bounded() -> None:
    """Many hosts do not fill the memory, and those that come often are not forgotten for them."""
    limit = HostLimit(30, 60)
    while limit.take("192.0.2.1", 0.0):
        pass
    for number in range(20_000):
        assert limit.take(str(ip_address(0x0A000000 + number)), 0.0)
        assert not limit.take("192.0.2.1", 0.0)
    assert len(limit._buckets) <= 1024


def test_network_counts_as_one_host() -> None:
    """With IPv6 everybody has a network of addresses to choose from."""
    hosts = [http._host(Mock(remote=f"2001:db8:{net}::{number:x}")) for net in range(2) for number in range(40)]
    assert len(set(hosts)) == 2
    assert len({*hosts, *(http._host(Mock(remote=f"192.0.2.{number}")) for number in range(40))}) == 42
    assert http._host(Mock(remote=None)) == http._host(Mock(remote="::1"))


def test_mapped_address_is_a_host_of_its_own() -> None:
    """A server that listens on IPv6 writes every IPv4 address so; it is the same host either way."""
    mapped = [http._host(Mock(remote=f"::ffff:192.0.2.{number}")) for number in range(40)]
    assert mapped == [http._host(Mock(remote=f"192.0.2.{number}")) for number in range(40)]


# --- Bodies


DEEP: Final = b'{"metrics":' + b"[" * 8000 + b"]" * 8000 + b"}"
BODIES: Final = {
    "list": (b"[1,2,3]", 400),
    "string": (b'"hello"', 400),
    "number": (b"7", 400),
    "null": (b"null", 400),
    "nothing": (b"", 400),
    "empty object": (b"{}", 400),
    "no json": (b"{metrics}", 400),
    "cut off": (b'{"metrics":{"temp_c":21', 400),
    "two values": (b"{}{}", 400),
    "meta is text": (b'{"metrics":{"temp_c":21.5},"meta":"firmware"}', 400),
    "metrics are a list": (b'{"metrics":[21.5]}', 400),
    "a number as text": (b'{"metrics":{"temp_c":"21.5"}}', 400),
    "a truth": (b'{"metrics":{"temp_c":true}}', 400),
    "NaN": (b'{"metrics":{"temp_c":NaN}}', 400),
    "Infinity": (b'{"metrics":{"temp_c":-Infinity}}', 400),
    "too large a number": (b'{"metrics":{"temp_c":1e999}}', 400),
    "a very long number": (b'{"metrics":{"temp_c":' + b"9" * 5000 + b"}}", 400),
    "duplicate keys": (b'{"metrics":{"temp_c":21.5,"temp_c":21.5}}', 400),
    "duplicate metrics": (b'{"metrics":{"temp_c":21.5},"metrics":{"temp_c":21.5}}', 400),
    "duplicate by escape": (b'{"metrics":{"temp_c":21.5},"m\\u0065trics":{"temp_c":21.5}}', 400),
    "a field more": (b'{"metrics":{"temp_c":21.5},"admin":true}', 400),
    "prototype": (b'{"metrics":{"temp_c":21.5},"__proto__":{}}', 400),
    "unknown metric": (b'{"metrics":{"rm -rf /":1}}', 400),
    "foreign metric": (b'{"metrics":{"co2_ppm":900}}', 400),
    "impossible": (b'{"metrics":{"temp_c":-400}}', 400),
    "NUL": (b'{"metrics":{"temp_c":21.5},"meta":{"a":"\\u0000"}}', 400),
    "lone surrogate": (b'{"metrics":{"temp_c":21.5},"meta":{"a":"\\ud800"}}', 400),
    "a name of surrogates": (b'{"metrics":{"\\ud800":1}}', 400),
    "BOM": (b'\xef\xbb\xbf{"metrics":{"temp_c":21.5}}', 400),
    "UTF-16": ('{"metrics":{"temp_c":21.5}}'.encode("utf-16"), 400),
    "no UTF-8": (b'{"metrics":{"temp_c":21.5},"meta":{"a":"\xff"}}', 400),
    "nested as deep as fits": (DEEP, 400),
    "nested 100,000 deep": (b"[" * 100_000, 413),
    "nested objects": (b'{"a":' * 3000, 400),
    "1 MB": (b'{"metrics":{"temp_c":21.5},"meta":{"a":"' + b"x" * 1_000_000 + b'"}}', 413),
}


async def test_bad_bodies(room: Room, client: Client, token: str, caplog: pytest.LogCaptureFixture) -> None:
    """A body that is not what it should be is refused, and nothing of it is kept."""
    answers = {}
    for case, (body, _) in BODIES.items():
        answers[case] = (await refusal(await send(client, token, body)))[0]
        # A new budget.
        room.freezer.tick(60)
    await room.settle()
    assert answers == {case: expected for case, (_, expected) in BODIES.items()}
    assert room.hub.gateway.accepted.total() == 0
    assert room.state("logger/temp_c").state == "unavailable"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_bad_bodies_of_strangers(room: Room, client: Client) -> None:
    """A stranger's body is looked at as strictly."""
    for path in (CLAIM, REQUEST):
        answers = {}
        for case, (body, _) in BODIES.items():
            response = await client.post(path, data=body, headers={"Content-Type": "application/json"})
            answers[case] = (await refusal(response))[0]
            room.freezer.tick(60)
        assert answers == {case: expected for case, (_, expected) in BODIES.items()}


async def test_other_charset(room: Room, client: Client, token: str) -> None:
    """JSON is UTF-8, whatever a charset says (RFC 8259)."""
    for charset in ("utf-16", "latin-1", "none", "x" * 100):
        kind = {"Content-Type": f"application/json; charset={charset}"}
        assert (await send(client, token, headers=kind)).status == HTTPStatus.ACCEPTED
        other = json.dumps(READING).encode("utf-16")
        assert (await refusal(await send(client, token, other, kind)))[0] == HTTPStatus.BAD_REQUEST
    assert room.hub.gateway.accepted.total() == 4


async def test_metrics_alone(room: Room, client: Client, token: str) -> None:
    """A body that names no device is that of the token's."""
    assert (await send(client, token, {"metrics": {"temp_c": 19.5}})).status == HTTPStatus.ACCEPTED
    await room.settle()
    assert room.state("logger/temp_c").state == "19.5"


def answer_to(
    payload: bytes,
    content_type: str = "application/json",
    show: bytes | None = None,
    *,
    broken: Exception | None = None,
    ended: bool = True,
) -> tuple[int, Any]:
    """Return what the view and the gateway answer to a body, or to something in place of a token."""
    now, key = 1_763_850_000.0, bytes(32)
    credential = credentials.issue_token(now)
    gateway = Gateway("grokmon", now, {}, token_key=key)
    gateway.admit(
        gateway.registry.enrol(
            Device(
                device_id="logger",
                name="Logger",
                zone=None,
                metrics=frozenset({"temp_c"}),
                credentials=(credential,),
                auth=Auth.TOKEN,
            )
        )
    )
    hub = SimpleNamespace(
        trust=SimpleNamespace(offers=lambda _option: True),
        gateway=gateway,
        async_refused_http=Mock(),
        async_authenticate=gateway.authenticate,
        async_receive_http=lambda *rest: len(gateway.ingest_http(*rest)),
    )
    shown = show if show is not None else access_tokens.seal("logger", credential, key).encode()

    async def ask() -> tuple[int, Any]:
        content = StreamReader(Mock(_reading_paused=False), 2**16, loop=asyncio.get_running_loop())
        content.feed_data(payload)
        if broken is not None:
            content.set_exception(broken)
        if ended:
            content.feed_eof()
        app: Any = {KEY_HASS: None}
        headers = {"Content-Type": content_type, "Authorization": "Bearer " + shown.decode(errors="surrogateescape")}
        request = make_mocked_request("POST", TELEMETRY, payload=content, app=app)
        # As they come from the wire: the mock takes no bytes that are not UTF-8.
        request._headers = CIMultiDictProxy(CIMultiDict(headers))
        with (
            patch.object(http, "running_hub", return_value=hub),
            patch.object(http, "time", return_value=now),
            patch.object(http, "is_private", return_value=True),
        ):
            response = await TelemetryView(HostLimit(30, 60)).handle(request)
        assert isinstance(response.body, bytes)
        return response.status, json.loads(response.body)

    return asyncio.run(ask())


_NUMBERS: Final = st.integers() | st.floats() | st.booleans() | st.none()
_VALUES: Final = st.recursive(
    _NUMBERS | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["metrics", "readings", "temp_c", "ts", "meta"]) | st.text(), inner, max_size=4
        )
    ),
    max_leaves=12,
)
_BODIES: Final = st.dictionaries(
    st.sampled_from(["device_id", "metrics", "readings", "ts", "meta", "iss", "sid"]), _VALUES, max_size=4
)


def test_honest_body_is_taken_by_what_follows() -> None:
    """The fixture of the next tests does let an honest reading in."""
    assert answer_to(b'{"metrics":{"temp_c":21.5}}') == (202, {"accepted": 1})


@given(body=_BODIES | _VALUES, content_type=st.sampled_from(["application/json", "application/jwt"]))
@hypothesis_settings(deadline=None)
def test_any_json_is_answered(body: Any, content_type: str) -> None:
    """Whatever JSON comes, the answer is one of those that are documented."""
    status, answer = answer_to(json.dumps(body).encode(), content_type)
    assert status in STATUSES
    assert (answer.keys() == {"accepted"}) == (status == HTTPStatus.ACCEPTED)


@given(payload=st.binary(max_size=300), content_type=st.sampled_from(["application/json", "application/jwt"]))
@hypothesis_settings(deadline=None)
def test_any_bytes_are_answered(payload: bytes, content_type: str) -> None:
    """Whatever bytes come, they are refused as documented, unless they happen to be a reading."""
    status = answer_to(payload, content_type)[0]
    assert status in STATUSES - {401}
    if status == HTTPStatus.ACCEPTED:
        # Such bytes stand in this file, where hypothesis finds what may be of interest.
        assert json.loads(payload).keys() & {"metrics", "readings"}


@given(shown=st.binary(max_size=200) | st.text().map(lambda text: text.encode(errors="surrogatepass")))
@hypothesis_settings(deadline=None)
def test_any_token_is_answered(shown: bytes) -> None:
    """Whatever is shown in place of a token opens nothing."""
    assert answer_to(b"{}", show=shown)[0] == HTTPStatus.UNAUTHORIZED


# --- While a body is on its way


async def during_a_body(
    client: Client, token: str, meanwhile: Callable[[], Any], path: str = TELEMETRY
) -> ClientResponse:
    """Do something while half of a body is there; return the answer."""
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b'{"metrics":'
        halfway.set()
        await go_on.wait()
        yield b'{"temp_c":21.5}}'

    read = http._async_body
    begun = asyncio.Event()

    async def body(request: web.Request) -> bytes:
        begun.set()
        return await read(request)

    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    with patch.object(http, "_async_body", body):
        pending = asyncio.create_task(client.post(path, data=slow(), headers=headers))
        await halfway.wait()
        await begun.wait()
        await meanwhile()
        go_on.set()
        return await pending


async def test_revoked_meanwhile(room: Room, client: Client, token: str) -> None:
    """A device that is revoked while it sends is refused."""
    answer = await during_a_body(client, token, lambda: room.call("revoke_device", {"device_id": "logger"}))
    assert await refusal(answer) == (401, "device_revoked")
    assert room.hub.gateway.accepted.total() == 0


async def test_set_up_anew_meanwhile(room: Room, client: Client, token: str) -> None:
    """What ends after a restart of the hub goes to the hub that runs, not to the one that ran."""
    answer = await during_a_body(client, token, room.reload)
    assert answer.status == HTTPStatus.ACCEPTED
    assert room.hub.gateway.accepted == {"logger": 1}


@pytest.mark.parametrize("path", PATHS)
async def test_unloaded_meanwhile(room: Room, client: Client, token: str, path: str) -> None:
    """What ends after the hub is gone is not taken."""

    async def unload() -> None:
        assert await room.hass.config_entries.async_unload(room.entry.entry_id)

    with patch.object(
        http, "_texts", return_value=dict.fromkeys(("device_id", "code", "auth", "public_key", "proof"), "")
    ):
        answer = await during_a_body(client, token, unload, path)
    assert answer.status == HTTPStatus.NOT_FOUND


def test_slow_body() -> None:
    """A body that does not come to its end is not waited for."""
    with patch.object(http, "BODY_SECONDS", 0.05):
        status, answer = answer_to(b'{"metrics":', ended=False)
    assert (status, answer["error"]) == (HTTPStatus.BAD_REQUEST, "malformed")
    assert BODY_SECONDS == 10


def test_broken_body() -> None:
    """A body that the server cannot make out is a refusal, and no error."""
    status, answer = answer_to(b"", broken=web.RequestPayloadError("a chunk of no size"))
    assert (status, answer["error"]) == (HTTPStatus.BAD_REQUEST, "malformed")


# --- Claim codes


async def claim(client: Client, code: str, device_id: str = "tent-1", **headers: str) -> ClientResponse:
    """Show a claim code."""
    return await client.post(CLAIM, json={"device_id": device_id, "code": code}, headers=FAR | headers)


async def issue(room: Room, device_id: str = "tent-1") -> str:
    """Return a new claim code for a device."""
    return str((await room.call("issue_claim_code", {"device_id": device_id}))["code"])


@pytest.mark.usefixtures("tent")
async def test_claim(room: Room, client: Client, tent: RoomDevice, caplog: pytest.LogCaptureFixture) -> None:
    """A claim code gives the settings of a device, once; the trail says to whom, and nothing else has a secret."""
    caplog.set_level(logging.DEBUG)
    code = await issue(room)
    answer = await claim(client, code)
    assert answer.status == HTTPStatus.OK
    assert_secured(answer)
    settings = await answer.json()
    assert (settings["device_id"], settings["auth"], settings["prefix"]) == ("tent-1", "hs256", "grokmon")
    again = await claim(client, code)
    assert await refusal(again) == (401, "claim_invalid")
    trail = json.dumps(await room.audit())
    for secret in (settings["key"], code):
        assert secret not in caplog.text
        assert secret not in trail
        assert secret not in await again.text()
    (claimed,) = await room.audit("claimed")
    assert (claimed["device"], claimed["address"]) == ("tent-1", "192.0.2.7")
    await tent.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_claim_of_a_token(room: Room, client: Client, token: str) -> None:
    """A device that sends over HTTP fetches its token, and sends with it."""
    settings = await (await claim(client, await issue(room, "logger"), "logger")).json()
    assert settings["token"] == token
    assert (await send(client, settings["token"])).status == HTTPStatus.ACCEPTED


@pytest.mark.usefixtures("tent")
async def test_five_tries(room: Room, client: Client) -> None:
    """Five wrong codes, and the right one is void. Every try is on record with where it came from."""
    code = await issue(room)
    for number in range(TRIES):
        assert await refusal(await claim(client, f"wrong{number}")) == (401, "claim_invalid")
    assert await refusal(await claim(client, code)) == (401, "claim_invalid")
    entries = await room.audit("claim_refused")
    assert [(each["device"], each["address"], each["reason"]) for each in entries] == [
        ("tent-1", "192.0.2.7", "claim_invalid")
    ] * TRIES
    assert not await room.audit("claimed")


@pytest.mark.usefixtures("tent")
async def test_four_wrong_and_one_right(room: Room, client: Client) -> None:
    """The fifth try may be the right one."""
    code = await issue(room)
    for _ in range(TRIES - 1):
        await claim(client, "wrong")
    assert (await claim(client, code)).status == HTTPStatus.OK


@pytest.mark.usefixtures("tent")
async def test_brute_force(room: Room, client: Client) -> None:
    """Guessing ends at the limit of the address, is told, and does not fill the trail."""
    statuses = [(await claim(client, f"guess-{number}")).status for number in range(200)]
    assert statuses == [HTTPStatus.UNAUTHORIZED] * 30 + [HTTPStatus.TOO_MANY_REQUESTS] * 170
    await room.let_pass(61)
    assert not await room.audit("claim_refused")
    (first, *_) = entries = await room.audit("refused", "refused_again")
    assert (first["reason"], first["device"], first["detail"]) == ("claim_invalid", "tent-1", "192.0.2.7")
    assert [each.get("count") for each in entries] == [None, 199]
    assert [each["device"] for each in await room.audit("suspicious_activity")] == ["tent-1"]


@pytest.mark.usefixtures("tent")
async def test_right_code_amid_guesses(room: Room, client: Client) -> None:
    """Guesses about one device from an address do not keep another behind it from its settings."""
    await room.enrol("tent-2")
    code = await issue(room, "tent-2")
    for number in range(40):
        await claim(client, f"guess-{number}")
    assert (await claim(client, code, "tent-2")).status == HTTPStatus.OK


@pytest.mark.usefixtures("tent")
@pytest.mark.parametrize("device_id", ["nobody", "", "TENT-1", "../tent-1", "tent-1\n", "é"])
async def test_code_of_another(room: Room, client: Client, device_id: str) -> None:
    """A code is one device's, and a stranger is answered as everybody."""
    code = await issue(room)
    assert await refusal(await claim(client, code, device_id)) == (401, "claim_invalid")
    assert (await claim(client, code)).status == HTTPStatus.OK


@pytest.mark.usefixtures("tent")
async def test_code_ends(room: Room, client: Client) -> None:
    """A code ends after 15 minutes, with the next one, with the device, and with the credentials' first use."""
    first = await issue(room)
    second = await issue(room)
    assert (await claim(client, first)).status == HTTPStatus.UNAUTHORIZED
    room.freezer.tick(900)
    assert (await claim(client, second)).status == HTTPStatus.UNAUTHORIZED
    third = await issue(room)
    await room.call("revoke_device", {"device_id": "tent-1"})
    assert (await claim(client, third)).status == HTTPStatus.UNAUTHORIZED


async def test_used_credentials_are_not_handed_over(room: Room, client: Client, tent: RoomDevice) -> None:
    """What a device uses already is not given to whoever comes with a code."""
    code = await issue(room)
    await tent.report({"temp_c": 21.5})
    assert await refusal(await claim(client, code)) == (401, "claim_invalid")


STRANGE: Final[list[Any]] = [
    {},
    [],
    "x",
    None,
    {"device_id": "tent-1"},
    {"device_id": "tent-1", "code": 5},
    {"device_id": ["tent-1"], "code": "x"},
    {"device_id": "tent-1", "code": {"$ne": ""}},
    {"device_id": "tent-1", "code": "x", "auth": "hs256", "public_key": "x", "admin": "yes"},
    {"device_id": None, "auth": None, "public_key": None, "proof": None},
    {"device_id": "new-1", "auth": "eddsa", "public_key": 7, "proof": "x"},
    {"device_id": "new-1", "auth": "eddsa", "public_key": "x"},
]


@pytest.mark.usefixtures("tent")
async def test_strange_claims(room: Room, client: Client) -> None:
    """What is no claim is refused before anything is looked up."""
    kind = FAR | {"Content-Type": "application/json"}
    for path in (CLAIM, REQUEST):
        for body in STRANGE:
            answer = await client.post(path, data=json.dumps(body), headers=kind)
            assert (await refusal(answer))[0] == HTTPStatus.BAD_REQUEST
    assert not await room.audit("claim_refused", "claimed", "enrolment_asked")


# --- A key of its own


def request_of(device_id: str = "new-1", auth: str = "eddsa") -> dict[str, str]:
    """Return the request of a device with a new key."""
    key = generate_key_pair("es256" if auth == "es256" else "eddsa")
    return {
        "device_id": device_id,
        "auth": auth,
        "public_key": public_pem(key),
        "proof": proof_of(key, device_id),
    }


async def ask(client: Client, body: Any) -> ClientResponse:
    """Ask to be enrolled."""
    return await client.post(REQUEST, json=body, headers=FAR)


async def approve(room: Room) -> Mapping[str, Any]:
    """Approve the device that was discovered."""
    (flow,) = room.hass.config_entries.flow.async_progress_by_handler(DOMAIN)
    choices = {"name": "New one", "metrics": ["temp_c"]}
    result: Mapping[str, Any] = await room.hass.config_entries.flow.async_configure(flow["flow_id"], choices)
    await room.settle()
    return result


@pytest.mark.parametrize("auth", ["eddsa", "es256"])
async def test_request(room: Room, client: Client, auth: str, caplog: pytest.LogCaptureFixture) -> None:
    """A device asks, waits, is approved and fetches its settings; the trail has both, with where it came from."""
    caplog.set_level(logging.DEBUG)
    body = request_of(auth=auth)
    for _ in range(3):
        waiting = await ask(client, body)
        await room.settle()
        assert waiting.status == HTTPStatus.ACCEPTED
        assert_secured(waiting)
    answer = await waiting.json()
    assert answer["status"] == "pending"
    assert (await approve(room))["reason"] == "device_enrolled"
    fetched = await ask(client, body)
    settings = await fetched.json()
    assert fetched.status == HTTPStatus.OK
    assert_secured(fetched)
    assert settings["site_public_key"].startswith("-----BEGIN PUBLIC KEY-----")
    assert "PRIVATE" not in caplog.text
    (asked,) = await room.audit("enrolment_asked")
    assert (asked["device_id"], asked["fingerprint"], asked["address"]) == (
        "new-1",
        answer["fingerprint"],
        "192.0.2.7",
    )
    (claimed,) = await room.audit("claimed")
    assert (claimed["device"], claimed["address"]) == ("new-1", "192.0.2.7")


async def test_settings_are_for_the_key_only(room: Room, client: Client) -> None:
    """Another key, or another algorithm, gets nothing under an approved name; nor does the right one for ever."""
    body = request_of()
    await ask(client, body)
    await room.settle()
    assert await refusal(await ask(client, request_of())) == (400, "device_exists")
    await approve(room)
    assert await refusal(await ask(client, request_of())) == (400, "device_exists")
    for change in ({"auth": "es256"}, {"auth": "hs256"}, {"public_key": ""}):
        assert await refusal(await ask(client, body | change)) == (400, "public_key_invalid")
    # The public half alone, which anybody may know, fetches nothing.
    for proof in (request_of()["proof"], request_of("new-2")["proof"]):
        assert await refusal(await ask(client, body | {"proof": proof})) == (400, "signature_invalid")
    assert await refusal(await ask(client, body | {"proof": ""})) == (400, "malformed")
    room.freezer.tick(900)
    assert await refusal(await ask(client, body)) == (400, "device_exists")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"device_id": "NEW"}, "device_id_invalid"),
        ({"device_id": ""}, "device_id_invalid"),
        ({"device_id": "a" * 33}, "device_id_invalid"),
        ({"device_id": "tent-1"}, "device_exists"),
        ({"auth": "hs256"}, "public_key_invalid"),
        ({"auth": "none"}, "public_key_invalid"),
        ({"auth": "token"}, "public_key_invalid"),
        ({"auth": "broker"}, "public_key_invalid"),
        ({"auth": "es256"}, "public_key_invalid"),
        ({"public_key": ""}, "public_key_invalid"),
        ({"public_key": "-----BEGIN PUBLIC KEY-----"}, "public_key_invalid"),
        ({"public_key": "A" * 16_000}, "public_key_invalid"),
        ({"proof": ""}, "malformed"),
        ({"proof": "a.b.c"}, "malformed"),
        ({"proof": request_of()["proof"]}, "signature_invalid"),
    ],
)
@pytest.mark.usefixtures("tent")
async def test_request_is_refused(room: Room, client: Client, change: dict[str, str], code: str) -> None:
    """What could not be enrolled is not shown to an administrator."""
    assert await refusal(await ask(client, request_of(change.get("device_id", "new-1")) | change)) == (400, code)
    await room.settle()
    assert not room.hass.config_entries.flow.async_progress_by_handler(DOMAIN)
    assert not await room.audit("enrolment_asked")


async def test_flood_of_requests(room: Room, client: Client) -> None:
    """A stranger can ask for two devices, and 30 times in a minute."""
    answers = [await refusal_or_status(await ask(client, request_of(f"new-{n}"))) for n in range(40)]
    waiting, full, told = answers[:MAX_OF_A_HOST], answers[MAX_OF_A_HOST:30], answers[30:]
    assert set(waiting) == {(202, "")}
    assert set(full) == set(told) == {(429, "rate_limited")}
    await room.settle()
    assert len(room.hass.config_entries.flow.async_progress_by_handler(DOMAIN)) == MAX_OF_A_HOST
    assert len(await room.audit("enrolment_asked")) == MAX_OF_A_HOST


def malformed_claim(client: Client) -> Any:
    """Send what is no claim."""
    return client.post(CLAIM, data=b"{", headers=FAR | {"Content-Type": "application/json"})


@pytest.mark.usefixtures("tent")
@pytest.mark.parametrize(
    ("send_it", "code"),
    [
        (lambda client: ask(client, request_of("waits")), "device_exists"),
        (lambda client: ask(client, request_of("tent-1")), "device_exists"),
        (lambda client: ask(client, request_of(RESERVED_IDS[0])), "device_id_invalid"),
        (lambda client: ask(client, request_of() | {"auth": "hs256"}), "public_key_invalid"),
        (lambda client: ask(client, request_of() | {"proof": request_of()["proof"]}), "signature_invalid"),
        (lambda client: ask(client, {"device_id": "new-1"}), "field_invalid"),
        (lambda client: claim(client, "wrong", "nobody"), "claim_invalid"),
        (malformed_claim, "json_invalid"),
    ],
)
async def test_refusals_of_strangers_are_on_record(
    room: Room, client: Client, send_it: Callable[[Client], Any], code: str
) -> None:
    """Each is counted and told, with where it came from and without the name that it used; many are summed up."""
    await ask(client, request_of("waits"))
    for _ in range(3):
        assert (await refusal(await send_it(client)))[1] == code
    assert room.hub.refused_by_code(None) == {code: 3}
    assert room.hub.refused_by_code("tent-1") == {}
    await room.let_pass(61)
    first, again = await room.audit("refused", "refused_again")
    assert (first["reason"], again["reason"], again["count"]) == (code, code, 2)
    assert "device" not in first
    assert first["detail"]


async def test_unfit_body_is_its_devices(room: Room, client: Client, token: str) -> None:
    """A body that is too long, of a device that showed its token, is on record under its name, once."""

    async def bit_by_bit() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 1000

    assert await refusal(await send(client, token, bit_by_bit())) == (413, "oversized")
    assert (await refusal(await send(client, token, b"{")))[0] == HTTPStatus.BAD_REQUEST
    assert room.hub.refused_by_code("logger") == {"oversized": 1, "json_invalid": 1}
    assert [(each["device"], each["reason"]) for each in await room.audit("refused", "refused_again")] == [
        ("logger", "oversized"),
        ("logger", "json_invalid"),
    ]


async def refusal_or_status(response: ClientResponse) -> tuple[int, str]:
    """Return status and code of an answer, without a code when it is none."""
    if response.status < HTTPStatus.BAD_REQUEST:
        return response.status, ""
    return await refusal(response)
