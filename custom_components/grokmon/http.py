"""What devices reach over HTTP: telemetry with an access token, and how a new device comes by its credentials.

What is off is as if it were not there. A refusal is returned and never raised: Home Assistant would count a raised one
towards a ban of the address, and behind one address may be a whole room.
"""

from abc import abstractmethod
import asyncio
from http import HTTPStatus
from ipaddress import ip_address
from time import time
from typing import Any, Final, override

from aiohttp import HttpVersion11, hdrs, web
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.http import KEY_HASS, HomeAssistantView, request_handler_factory
import orjson

from .access import running_hub
from .const import CONF_HTTP_ENROLMENT, CONF_HTTP_INGEST
from .gateway import envelope
from .gateway.errors import Code, GatewayError, PeerError, RegistryError, TransportError
from .gateway.models import Claims
from .gateway.ratelimit import HostLimit, host_of
from .hub import GrokmonHub
from .onboarding import CLAIM_PATH, TELEMETRY_PATH

REQUEST_PATH: Final = "/api/grokmon/v1/enrolment_request"
BODY_SECONDS: Final = 10.0
_JSON: Final = "application/json"
_CHUNK: Final = 4096
_NOWHERE: Final = "::"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# What an address may have refused in a minute; afterwards it is told to wait.
_REFUSALS: Final = 30.0
_PERIOD: Final = 60.0
_HEADERS: Final = {
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATUS: Final = {
    Code.TOKEN_INVALID: HTTPStatus.UNAUTHORIZED,
    Code.CREDENTIAL_EXPIRED: HTTPStatus.UNAUTHORIZED,
    Code.CREDENTIAL_NOT_YET_VALID: HTTPStatus.UNAUTHORIZED,
    Code.CREDENTIAL_REVOKED: HTTPStatus.UNAUTHORIZED,
    Code.UNKNOWN_DEVICE: HTTPStatus.UNAUTHORIZED,
    Code.DEVICE_DISABLED: HTTPStatus.UNAUTHORIZED,
    Code.DEVICE_REVOKED: HTTPStatus.UNAUTHORIZED,
    Code.CLAIM_INVALID: HTTPStatus.UNAUTHORIZED,
    Code.OVERSIZED: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.CONTENT_TYPE_INVALID: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Code.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
}


@callback
def async_setup_views(hass: HomeAssistant) -> None:
    """Register the views."""
    refusals = HostLimit(_REFUSALS, _PERIOD)
    for view in (TelemetryView, ClaimView, RequestView):
        hass.http.register_view(view(refusals))


class _DeviceView(HomeAssistantView):
    """A view for devices: what all of them refuse before they look at anything else."""

    url: str
    requires_auth = False
    option: str
    content_types: tuple[str, ...] = (_JSON,)

    def __init__(self, refusals: HostLimit) -> None:
        self._refusals = refusals

    @override
    def register(self, hass: HomeAssistant, app: web.Application, router: web.UrlDispatcher) -> None:
        """Register one route for every method: Home Assistant would let the origins of its settings for CORS in."""
        handler = request_handler_factory(hass, self, self.handle)
        router.add_route(hdrs.METH_ANY, self.url, handler, expect_handler=_promise_nothing)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a device, or whoever it is."""
        self._hub(request)
        if request.method != hdrs.METH_POST:
            headers = {**_HEADERS, hdrs.ALLOW: hdrs.METH_POST}
            return _last(request, web.Response(status=HTTPStatus.METHOD_NOT_ALLOWED, headers=headers))
        try:
            self._check(request)
            answer, status = await self._async_answer(request)
        except GatewayError as error:
            self._hub(request).async_refused_http(error, request.remote or "", time())
            return self._refuse(request, error)
        return web.json_response(answer, status=status, headers=_HEADERS, dumps=_dumps)

    def _hub(self, request: web.Request) -> GrokmonHub:
        """Return the hub as it is now: while a body is on its way, it may go, or be set up anew."""
        hub = running_hub(request.app[KEY_HASS])
        if hub is None or not hub.trust.offers(self.option):
            raise web.HTTPNotFound
        return hub

    def _check(self, request: web.Request) -> None:
        if not is_private(request):
            raise TransportError(Code.TLS_REQUIRED)
        # Unpacked, a small body may be a large one.
        packed = request.headers.get(hdrs.TRANSFER_ENCODING, "chunked").lower() != "chunked"
        if packed or hdrs.CONTENT_ENCODING in request.headers:
            raise TransportError(Code.CONTENT_TYPE_INVALID, "no content encoding")
        if request.content_type not in self.content_types:
            raise TransportError(Code.CONTENT_TYPE_INVALID, " or ".join(self.content_types))
        if (request.content_length or 0) > envelope.MAX_MESSAGE_BYTES:
            raise TransportError(Code.OVERSIZED, f"at most {envelope.MAX_MESSAGE_BYTES} bytes")

    @abstractmethod
    async def _async_answer(self, request: web.Request) -> tuple[Any, HTTPStatus]:
        """Return what a device is answered. Raises GatewayError."""

    def _refuse(self, request: web.Request, error: GatewayError) -> web.Response:
        status = _STATUS.get(error.code, HTTPStatus.BAD_REQUEST)
        headers = dict(_HEADERS)
        if status is HTTPStatus.UNAUTHORIZED and not self._refusals.take(_host(request), time()):
            status, error = HTTPStatus.TOO_MANY_REQUESTS, TransportError(Code.RATE_LIMITED)
        if status is HTTPStatus.UNAUTHORIZED:
            headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
        if status is HTTPStatus.TOO_MANY_REQUESTS:
            headers[hdrs.RETRY_AFTER] = str(int(_PERIOD))
        body = {"error": error.code.value, "detail": error.detail}
        return _last(request, web.json_response(body, status=status, headers=headers, dumps=_dumps))


class TelemetryView(_DeviceView):
    """Take readings of a device that has an access token."""

    url = TELEMETRY_PATH
    name = "api:grokmon:telemetry"
    option = CONF_HTTP_INGEST
    content_types = (_JSON, envelope.JWT_CONTENT)

    @override
    async def _async_answer(self, request: web.Request) -> tuple[Any, HTTPStatus]:
        peer = self._hub(request).async_authenticate(_bearer(request), time())
        try:
            payload = await _async_body(request)
        except TransportError as error:
            raise PeerError(error.code, error.detail, peer.device_id) from error
        # The time from now: with the time from before, a slow body would set the device's budget back.
        accepted = self._hub(request).async_receive_http(peer, request.content_type, payload, time())
        return {"accepted": accepted}, HTTPStatus.ACCEPTED


class ClaimView(_DeviceView):
    """Give a new device its credentials, once, for its claim code."""

    url = CLAIM_PATH
    name = "api:grokmon:claim"
    option = CONF_HTTP_ENROLMENT

    @override
    async def _async_answer(self, request: web.Request) -> tuple[Any, HTTPStatus]:
        body = _texts(await _async_body(request), "device_id", "code")
        claiming = self._hub(request).trust.claiming
        settings = await claiming.async_claim(body["device_id"], body["code"], request.remote or "", time())
        return settings, HTTPStatus.OK


class RequestView(_DeviceView):
    """Let a device ask to be enrolled under its own public key, and fetch its settings once it is."""

    url = REQUEST_PATH
    name = "api:grokmon:enrolment_request"
    option = CONF_HTTP_ENROLMENT

    @override
    async def _async_answer(self, request: web.Request) -> tuple[Any, HTTPStatus]:
        if not self._refusals.take(_host(request), time()):
            raise TransportError(Code.RATE_LIMITED)
        body = _texts(await _async_body(request), "device_id", "auth", "public_key", "proof")
        settings = self._hub(request).trust.claiming.async_ask(**body, now=time(), address=request.remote or _NOWHERE)
        return settings, HTTPStatus.OK if "prefix" in settings else HTTPStatus.ACCEPTED


def is_private(request: web.Request) -> bool:
    """Tell whether nobody can read along: TLS, here or in a trusted proxy, or a connection within this machine."""
    return request.secure or ip_address(request.remote or _NOWHERE).is_loopback


def _host(request: web.Request) -> str:
    return host_of(request.remote or _NOWHERE)


def _last(request: web.Request, response: web.Response) -> web.Response:
    """Return an answer after which the connection ends."""
    response.force_close()
    # What is left of the body is neither unpacked, which takes seconds of everybody's, nor taken for a request.
    request.protocol.close()
    return response


def _bearer(request: web.Request) -> bytes:
    """Return the access token that a request shows, or nothing; of two, neither counts."""
    shown = request.headers.getall(hdrs.AUTHORIZATION, [])
    scheme, _, token = shown[0].partition(" ") if len(shown) == 1 else ("", "", "")
    return token.encode(errors="surrogateescape") if scheme.lower() == "bearer" else b""


async def _promise_nothing(_request: web.Request) -> None:
    """Let a client wait that asks first (`Expect: 100-continue`), until its body is wanted."""


async def _async_body(request: web.Request) -> bytes:
    """Return the body, as long as it is neither too large nor too slow."""
    body = bytearray()
    if request.version >= HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(_CONTINUE)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await request.content.read(_CHUNK):
                body += chunk
                if len(body) > envelope.MAX_MESSAGE_BYTES:
                    raise TransportError(Code.OVERSIZED, f"at most {envelope.MAX_MESSAGE_BYTES} bytes")
    except web.RequestPayloadError:
        raise TransportError(Code.MALFORMED, "the body breaks off") from None
    except TimeoutError:
        raise TransportError(Code.MALFORMED, f"the body took longer than {BODY_SECONDS:.0f} s") from None
    return bytes(body)


def _texts(payload: bytes, *names: str) -> dict[str, str]:
    body: Claims = envelope.parse(payload)
    if body.keys() != set(names) or not all(type(value) is str for value in body.values()):
        raise RegistryError(Code.FIELD_INVALID, " and ".join(names))
    return body


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()
