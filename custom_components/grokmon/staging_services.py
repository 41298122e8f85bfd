"""Services for what is staged: accepted telemetry, and rejected messages."""

from collections.abc import Awaitable, Callable
from time import time
from typing import Final, cast

from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import config_validation as cv
from homeassistant.util.json import JsonValueType
import probatio

from .access import async_administrator
from .const import CONF_DEVICE_ID, DOMAIN
from .errors import translate_errors
from .journal_file import Row
from .period import ATTR_END, ATTR_START, PERIOD, seconds_of
from .staging import Staging

type Read = Callable[[Staging, float, float, int, str | None], Awaitable[tuple[list[Row], int]]]

_LIMIT: Final = "limit"
_MINUTES: Final = "minutes"
# Home Assistant writes the answer as JSON in its event loop, which stands still meanwhile.
_MOST: Final = 10_000
_LONGEST_CAPTURE: Final = 60
_PERIOD: Final = probatio.Schema(
    {
        **PERIOD,
        probatio.Optional(CONF_DEVICE_ID): cv.string,
        probatio.Optional(_LIMIT, default=1000): probatio.All(probatio.Coerce(int), probatio.Range(min=1, max=_MOST)),
    }
)
_CAPTURE: Final = probatio.Schema(
    {
        probatio.Required(CONF_DEVICE_ID): cv.string,
        probatio.Required(_MINUTES): probatio.All(probatio.Coerce(int), probatio.Range(min=0, max=_LONGEST_CAPTURE)),
    }
)


@callback
def async_setup_staging_services(hass: HomeAssistant) -> None:
    """Register the services."""
    only = SupportsResponse.ONLY
    hass.services.async_register(DOMAIN, "export_telemetry", _async_export, _PERIOD, only)
    hass.services.async_register(DOMAIN, "get_quarantine", _async_quarantine, _PERIOD, only)
    hass.services.async_register(DOMAIN, "capture_rejected", _async_capture, _CAPTURE)


async def _async_export(call: ServiceCall) -> ServiceResponse:
    return await _async_read(call, Staging.async_telemetry, "telemetry_exported")


async def _async_quarantine(call: ServiceCall) -> ServiceResponse:
    return await _async_read(call, Staging.async_quarantine, "quarantine_read")


async def _async_read(call: ServiceCall, read: Read, action: str) -> ServiceResponse:
    """Return the rows of a journal, and record that they were read."""
    hub, actor = await async_administrator(call)
    start, end = seconds_of(call.data.get(ATTR_START)), seconds_of(call.data.get(ATTR_END))
    device_id: str | None = call.data.get(CONF_DEVICE_ID)
    limit: int = call.data[_LIMIT]
    try:
        rows, damaged = await read(hub.staging, start or 0.0, time() + 1.0 if end is None else end, limit, device_id)
    except OSError as error:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="staging_not_read",
            translation_placeholders={"error": str(error)},
        ) from error
    hub.audit.record(action, actor=actor, device=device_id, rows=len(rows))
    # As they were read: to go over them would hold up everybody else.
    return {"rows": cast("list[JsonValueType]", rows), "damaged": damaged}


@translate_errors
async def _async_capture(call: ServiceCall) -> None:
    hub, actor = await async_administrator(call)
    device = hub.gateway.registry[call.data[CONF_DEVICE_ID]]
    minutes: int = call.data[_MINUTES]
    hub.audit.record("capture", actor=actor, device=device.device_id, minutes=minutes)
    hub.staging.async_capture(device.device_id, minutes * 60.0, time())
