"""Services for administrators: the device registry."""

from datetime import UTC, datetime
from math import inf
from time import time
from typing import Any, Final

from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import config_validation as cv
from homeassistant.util.json import JsonValueType
import probatio

from .access import async_administrator, zone_named
from .audit_services import async_setup_audit_services
from .choices import METHODS, Choices, method_of
from .const import (
    CONF_ACTUATORS,
    CONF_AUTH,
    CONF_DEVICE_ID,
    CONF_METRICS,
    CONF_OVERLAP,
    CONF_PUBLIC_KEY,
    CONF_RATE_LIMIT,
    CONF_ZONE,
    DOMAIN,
)
from .control_services import async_setup_control_services
from .errors import translate_errors
from .gateway import lifecycle
from .gateway.actuators import Actuator
from .gateway.errors import GatewayError
from .gateway.models import DEFAULT_RATE_LIMIT, CredentialKind, Device, DeviceStatus
from .hub import GrokmonHub
from .onboarding import settings_of
from .staging_services import async_setup_staging_services
from .trust_services import OVERLAP_HOURS, async_setup_trust_services

CONF_NAME: Final = "name"
CONF_KINDS: Final = "kinds"

_DEVICE: Final = {probatio.Required(CONF_DEVICE_ID): cv.string}
_ENROL: Final = probatio.Schema(
    {
        **_DEVICE,
        probatio.Required(CONF_NAME): probatio.All(cv.string, probatio.Strip, probatio.Length(min=1, max=64)),
        probatio.Optional(CONF_METRICS, default=[]): probatio.All(cv.ensure_list, [cv.string]),
        probatio.Optional(CONF_ACTUATORS, default=[]): probatio.All(cv.ensure_list, [dict]),
        probatio.Optional(CONF_ZONE): cv.string,
        probatio.Optional(CONF_AUTH, default="hs256"): probatio.In(METHODS),
        probatio.Optional(CONF_PUBLIC_KEY, default=""): cv.string,
        probatio.Optional(CONF_RATE_LIMIT, default=DEFAULT_RATE_LIMIT): probatio.Coerce(int),
    }
)
_ROTATION: Final = {
    probatio.Optional(CONF_KINDS): probatio.All(cv.ensure_list, [probatio.Coerce(CredentialKind)]),
    **OVERLAP_HOURS,
}
_ROTATE: Final = probatio.Schema(
    {
        probatio.Exclusive(CONF_DEVICE_ID, "which"): cv.string,
        probatio.Exclusive(CONF_ZONE, "which"): cv.string,
        probatio.Optional(CONF_PUBLIC_KEY, default=""): cv.string,
        **_ROTATION,
    }
)


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the services."""
    only = SupportsResponse.ONLY
    hass.services.async_register(DOMAIN, "enroll_device", _async_enroll, _ENROL, only)
    hass.services.async_register(DOMAIN, "rotate_credentials", _async_rotate, _ROTATE, only)
    hass.services.async_register(DOMAIN, "rotate_due", _async_rotate_due, probatio.Schema(_ROTATION), only)
    hass.services.async_register(
        DOMAIN, "restore_credentials", _async_restore, probatio.Schema(_DEVICE), SupportsResponse.OPTIONAL
    )
    hass.services.async_register(
        DOMAIN, "revoke_device", _async_revoke, probatio.Schema(_DEVICE), SupportsResponse.OPTIONAL
    )
    hass.services.async_register(DOMAIN, "list_devices", _async_list, probatio.Schema({}), only)
    async_setup_control_services(hass)
    async_setup_audit_services(hass)
    async_setup_staging_services(hass)
    async_setup_trust_services(hass)


@translate_errors
async def _async_enroll(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    zone_name = call.data.get(CONF_ZONE)
    zone = zone_named(hub, zone_name) if zone_name is not None else None
    choices = Choices(
        device_id=call.data[CONF_DEVICE_ID],
        name=call.data[CONF_NAME],
        zone=zone,
        metrics=frozenset(call.data[CONF_METRICS]),
        ranges={},
        actuators=tuple(Actuator.from_dict(each) for each in call.data[CONF_ACTUATORS]),
        rate_limit=call.data[CONF_RATE_LIMIT],
    )
    method = METHODS[call.data[CONF_AUTH]]
    device = await hub.enrolment.async_enrol(choices, method, call.data[CONF_PUBLIC_KEY], actor)
    return settings_of(device, hub.trust.site)


@translate_errors
async def _async_rotate(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    if (device_id := call.data.get(CONF_DEVICE_ID)) is not None:
        found = [hub.gateway.registry[device_id]]
    elif (zone_name := call.data.get(CONF_ZONE)) is not None:
        zone = zone_named(hub, zone_name)
        found = [device for device in hub.gateway.registry if device.zone == zone]
    else:
        found = list(hub.gateway.registry)
    kinds = call.data.get(CONF_KINDS, list(CredentialKind))
    return await _async_rotate_all(call, hub, {device.device_id: set(kinds) for device in found}, actor)


@translate_errors
async def _async_rotate_due(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    now, kinds = time(), call.data.get(CONF_KINDS, list(CredentialKind))
    wanted = {
        device.device_id: {each.kind for each in lifecycle.due(device.credentials, now)}.intersection(kinds)
        for device in hub.trust.credentials.due(now)
    }
    return await _async_rotate_all(call, hub, {name: due for name, due in wanted.items() if due}, actor)


async def _async_rotate_all(
    call: ServiceCall, hub: GrokmonHub, wanted: dict[str, set[CredentialKind]], actor: str
) -> ServiceResponse:
    """Rotate credentials of devices. One that cannot be is left out and named; one asked for by name raises."""
    rotated: list[JsonValueType] = []
    left_out: list[JsonValueType] = []
    for device_id, kinds in wanted.items():
        try:
            fresh = await hub.trust.credentials.async_rotate(
                device_id,
                actor,
                kinds=kinds,
                public_key=call.data.get(CONF_PUBLIC_KEY, ""),
                overlap=call.data[CONF_OVERLAP] * 3600.0,
            )
        except GatewayError as error:
            if CONF_DEVICE_ID in call.data:
                raise
            left_out.append({"device_id": device_id, "code": error.code.value})
        except HomeAssistantError:
            # What others got by now must reach who asked: it is shown once.
            if CONF_DEVICE_ID in call.data:
                raise
            left_out.append({"device_id": device_id, "code": "store_not_written"})
        else:
            rotated.append(settings_of(fresh, hub.trust.site))
    return {"devices": rotated, "left_out": left_out}


@translate_errors
async def _async_restore(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    device = await hub.trust.credentials.async_restore(call.data[CONF_DEVICE_ID], actor)
    return _credentials_of(device)


@translate_errors
async def _async_revoke(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    device = await hub.enrolment.async_set_status(call.data[CONF_DEVICE_ID], DeviceStatus.REVOKED, actor)
    return {"device_id": device.device_id, "status": device.status.value}


def _credentials_of(device: Device) -> dict[str, Any]:
    return {
        "device_id": device.device_id,
        "credentials": [
            {
                "kind": each.kind.value,
                "key_id": each.key_id,
                "state": each.state.value,
                "not_before": _date(each.not_before),
                "not_after": _date(each.until),
            }
            for each in device.credentials
        ],
    }


def _date(moment: float) -> str | None:
    return None if moment == inf else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


async def _async_list(call: ServiceCall) -> ServiceResponse:
    hub, _ = await async_administrator(call)
    return {"devices": [_listed(hub, device_id) for device_id in sorted(hub.enrolment.coordinators)]}


def _listed(hub: GrokmonHub, device_id: str) -> dict[str, Any]:
    coordinator = hub.enrolment.coordinators[device_id]
    device = coordinator.device
    return {
        "device_id": device_id,
        "name": device.name,
        "zone": hub.enrolment.zone_name(device.zone),
        "status": device.status.value,
        "auth": method_of(device),
        "credentials": _credentials_of(device)["credentials"],
        "metrics": sorted(device.metrics),
        "actuators": [actuator.as_dict() for actuator in device.actuators],
        "rate_limit": device.rate_limit,
        "online": coordinator.online,
        "accepted": hub.gateway.accepted[device_id],
        "refused": hub.refused_by_code(device_id),
    }
