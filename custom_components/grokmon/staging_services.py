"""Services for what is staged: accepted telemetry, rejected messages, and the key that all of it is sealed with."""

from datetime import datetime
from time import time
from typing import Any, Final

from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import config_validation as cv
from homeassistant.util import dt as dt_util
import probatio

from .access import async_administrator, hub_of
from .at_rest import async_rotate_kek
from .const import CONF_DEVICE_ID, DOMAIN

_START: Final = "start"
_END: Final = "end"
_LIMIT: Final = "limit"
_MINUTES: Final = "minutes"
_MOST: Final = 50_000
_LONGEST_CAPTURE: Final = 60
_PERIOD: Final = probatio.Schema(
    {
        probatio.Optional(_START): cv.datetime,
        probatio.Optional(_END): cv.datetime,
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
    hass.services.async_register(DOMAIN, "rotate_kek", _async_rotate, probatio.Schema({}))


async def _async_export(call: ServiceCall) -> ServiceResponse:
    actor = await async_administrator(call)
    hub = hub_of(call.hass)
    period = _period(call.data)
    rows, damaged = await _async_read(hub.staging.async_telemetry(**period))
    hub.audit.record("telemetry_exported", actor=actor, device=period["device_id"], rows=len(rows))
    return {"rows": rows, "damaged": damaged}


async def _async_quarantine(call: ServiceCall) -> ServiceResponse:
    actor = await async_administrator(call)
    hub = hub_of(call.hass)
    period = _period(call.data)
    rows, damaged = await _async_read(hub.staging.async_quarantine(**period))
    hub.audit.record("quarantine_read", actor=actor, device=period["device_id"], rows=len(rows))
    return {"rows": rows, "damaged": damaged}


async def _async_capture(call: ServiceCall) -> None:
    actor = await async_administrator(call)
    hub = hub_of(call.hass)
    device_id = call.data[CONF_DEVICE_ID]
    if device_id not in hub.gateway.registry:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="unknown_device", translation_placeholders={"detail": device_id}
        )
    minutes: int = call.data[_MINUTES]
    hub.audit.record("capture", actor=actor, device=device_id, minutes=minutes)
    hub.staging.async_capture(device_id, minutes * 60.0, time())


async def _async_rotate(call: ServiceCall) -> None:
    actor = await async_administrator(call)
    hub = hub_of(call.hass)
    await async_rotate_kek(call.hass, hub.store)
    hub.audit.record("kek_rotated", actor=actor)


def _period(data: dict[str, Any]) -> dict[str, Any]:
    start: datetime | None = data.get(_START)
    end: datetime | None = data.get(_END)
    return {
        "start": 0.0 if start is None else dt_util.as_utc(start).timestamp(),
        "end": time() + 1.0 if end is None else dt_util.as_utc(end).timestamp(),
        "limit": data[_LIMIT],
        "device_id": data.get(CONF_DEVICE_ID),
    }


async def _async_read(reading: Any) -> tuple[list[Any], int]:
    try:
        rows, damaged = await reading
    except OSError as error:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="staging_not_read",
            translation_placeholders={"error": str(error)},
        ) from error
    return rows, damaged
