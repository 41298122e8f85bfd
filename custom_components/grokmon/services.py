"""Services for administrators: the device registry."""

from typing import Any, Final

from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.helpers import config_validation as cv
import probatio

from .access import async_administrator, hub_of, zone_named
from .audit_services import async_setup_audit_services
from .const import (
    CONF_ACTUATORS,
    CONF_AUTH,
    CONF_DEVICE_ID,
    CONF_METRICS,
    CONF_PUBLIC_KEY,
    CONF_RATE_LIMIT,
    CONF_ZONE,
    DOMAIN,
)
from .control_services import async_setup_control_services
from .enrolment import Choices
from .errors import translate_errors
from .gateway.actuators import Actuator
from .gateway.models import Algorithm, DeviceStatus
from .gateway.registry import DEFAULT_RATE_LIMIT
from .hub import GrokmonHub
from .onboarding import settings_of
from .staging_services import async_setup_staging_services

CONF_NAME: Final = "name"

ALGORITHMS: Final = {algorithm.name.lower(): algorithm for algorithm in Algorithm}

_DEVICE: Final = {probatio.Required(CONF_DEVICE_ID): cv.string}
_ENROL: Final = probatio.Schema(
    {
        **_DEVICE,
        probatio.Required(CONF_NAME): probatio.All(cv.string, probatio.Strip, probatio.Length(min=1, max=64)),
        probatio.Optional(CONF_METRICS, default=[]): probatio.All(cv.ensure_list, [cv.string]),
        probatio.Optional(CONF_ACTUATORS, default=[]): probatio.All(cv.ensure_list, [dict]),
        probatio.Optional(CONF_ZONE): cv.string,
        probatio.Optional(CONF_AUTH, default="hs256"): probatio.In(ALGORITHMS),
        probatio.Optional(CONF_PUBLIC_KEY, default=""): cv.string,
        probatio.Optional(CONF_RATE_LIMIT, default=DEFAULT_RATE_LIMIT): probatio.Coerce(int),
    }
)
_ROTATE: Final = probatio.Schema({**_DEVICE, probatio.Optional(CONF_PUBLIC_KEY, default=""): cv.string})


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the services."""
    only = SupportsResponse.ONLY
    hass.services.async_register(DOMAIN, "enroll_device", _async_enroll, _ENROL, only)
    hass.services.async_register(DOMAIN, "rotate_credentials", _async_rotate, _ROTATE, only)
    hass.services.async_register(
        DOMAIN, "revoke_device", _async_revoke, probatio.Schema(_DEVICE), SupportsResponse.OPTIONAL
    )
    hass.services.async_register(DOMAIN, "list_devices", _async_list, probatio.Schema({}), only)
    async_setup_control_services(hass)
    async_setup_audit_services(hass)
    async_setup_staging_services(hass)


@translate_errors
async def _async_enroll(call: ServiceCall) -> ServiceResponse:
    actor = await async_administrator(call)
    hub = hub_of(call.hass)
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
    algorithm = ALGORITHMS[call.data[CONF_AUTH]]
    device = await hub.enrolment.async_enrol(choices, algorithm, call.data[CONF_PUBLIC_KEY], actor)
    return settings_of(device, hub.prefix, hub.gateway.site_keys)


@translate_errors
async def _async_rotate(call: ServiceCall) -> ServiceResponse:
    actor = await async_administrator(call)
    hub = hub_of(call.hass)
    device = await hub.enrolment.async_rotate(call.data[CONF_DEVICE_ID], call.data[CONF_PUBLIC_KEY], actor)
    return settings_of(device, hub.prefix, hub.gateway.site_keys)


@translate_errors
async def _async_revoke(call: ServiceCall) -> ServiceResponse:
    actor = await async_administrator(call)
    device = await hub_of(call.hass).enrolment.async_set_status(call.data[CONF_DEVICE_ID], DeviceStatus.REVOKED, actor)
    return {"device_id": device.device_id, "status": device.status.value}


async def _async_list(call: ServiceCall) -> ServiceResponse:
    await async_administrator(call)
    hub = hub_of(call.hass)
    return {"devices": [_listed(hub, device_id) for device_id in sorted(hub.enrolment.coordinators)]}


def _listed(hub: GrokmonHub, device_id: str) -> dict[str, Any]:
    coordinator = hub.enrolment.coordinators[device_id]
    device = coordinator.device
    return {
        "device_id": device_id,
        "name": device.name,
        "zone": hub.enrolment.zone_name(device.zone),
        "status": device.status.value,
        "auth": device.credential.algorithm.name.lower(),
        "key_id": device.credential.key_id,
        "metrics": sorted(device.metrics),
        "actuators": [actuator.as_dict() for actuator in device.actuators],
        "rate_limit": device.rate_limit,
        "online": coordinator.online,
        "accepted": hub.gateway.accepted[device_id],
        "refused": hub.refused_by_code(device_id),
    }
