"""Services for the audit trail: verify, read and export it."""

from typing import Any, Final

from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import config_validation as cv
import probatio

from .access import async_administrator, hub_of, zone_named
from .const import CONF_DEVICE_ID, CONF_ZONE, DOMAIN
from .gateway.audit import Verification
from .gateway.audit_export import FORMATS
from .gateway.audit_record import OUTCOMES, Search
from .gateway.principals import Caller
from .hub import GrokmonHub
from .period import ATTR_END, ATTR_START, PERIOD, seconds_of

_CALLER: Final = "caller"
_IDENTITY: Final = "identity"
_ACTION: Final = "action"
_OUTCOME: Final = "outcome"
_LIMIT: Final = "limit"
_FORMAT: Final = "format"
_MOST: Final = 10_000

_SEARCH: Final = {
    **PERIOD,
    probatio.Optional(CONF_DEVICE_ID): cv.string,
    probatio.Optional(CONF_ZONE): cv.string,
    probatio.Optional(_CALLER): probatio.In([caller.value for caller in Caller]),
    probatio.Optional(_IDENTITY): cv.string,
    probatio.Optional(_ACTION): cv.string,
    probatio.Optional(_OUTCOME): probatio.In(OUTCOMES),
}


def _limit(default: int) -> dict[Any, Any]:
    bounded = probatio.All(probatio.Coerce(int), probatio.Range(min=1, max=_MOST))
    return {probatio.Optional(_LIMIT, default=default): bounded}


@callback
def async_setup_audit_services(hass: HomeAssistant) -> None:
    """Register the services."""
    only = SupportsResponse.ONLY
    hass.services.async_register(DOMAIN, "verify_audit", _async_verify, probatio.Schema({}), only)
    hass.services.async_register(DOMAIN, "get_audit_log", _async_get, probatio.Schema({**_SEARCH, **_limit(100)}), only)
    fields = {**_SEARCH, **_limit(_MOST), probatio.Optional(_FORMAT, default="jsonl"): probatio.In(list(FORMATS))}
    hass.services.async_register(DOMAIN, "export_audit_log", _async_export, probatio.Schema(fields), only)


async def _async_verify(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    try:
        report = await hub.keeper.async_verify(actor)
    except (OSError, ValueError) as error:
        raise _unreadable(error) from error
    return _told(report)


async def _async_get(call: ServiceCall) -> ServiceResponse:
    await async_administrator(call)
    return {"records": await _async_found(call)}


async def _async_export(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    records = await _async_found(call)
    form = call.data[_FORMAT]
    hub.audit.record("audit_exported", actor=actor, format=form, records=len(records))
    content = await call.hass.async_add_executor_job(FORMATS[form], records)
    return {"format": form, "records": len(records), "content": content}


async def _async_found(call: ServiceCall) -> list[Any]:
    hub = hub_of(call.hass)
    try:
        return await hub.audit.async_search(_search(hub, call.data), call.data[_LIMIT])
    except OSError as error:
        raise _unreadable(error) from error


def _search(hub: GrokmonHub, data: dict[str, Any]) -> Search:
    zone = data.get(CONF_ZONE)
    return Search(
        start=seconds_of(data.get(ATTR_START)),
        end=seconds_of(data.get(ATTR_END)),
        device=data.get(CONF_DEVICE_ID),
        zone=None if zone is None else zone_named(hub, zone),
        identity=data.get(_IDENTITY),
        caller=data.get(_CALLER),
        actions=frozenset({data[_ACTION]} if _ACTION in data else ()),
        outcome=data.get(_OUTCOME),
    )


def _told(report: Verification) -> dict[str, Any]:
    result = report.result.name.lower()
    told: dict[str, Any] = {
        "ok": result == "good",
        "result": result,
        "entries": report.lines,
        "checkpoints_to_line": report.anchored,
    }
    if report.findings:
        told |= {"line": report.findings[0].line, "reason": report.findings[0].reason}
    return told


def _unreadable(error: Exception) -> HomeAssistantError:
    return HomeAssistantError(
        translation_domain=DOMAIN, translation_key="audit_not_read", translation_placeholders={"error": str(error)}
    )
