"""Services for administrators: tokens, certificates, claims, keys, the posture, and the registry as a whole."""

from time import time
from typing import Any, Final

from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import config_validation as cv
import probatio

from .access import async_administrator
from .at_rest import async_rotate_kek
from .broker.certificates import MAX_DAYS
from .const import CONF_DEVICE_ID, CONF_HTTP_ENROLMENT, CONF_OVERLAP, DOMAIN
from .errors import translate_errors
from .gateway import credentials, lifecycle
from .gateway.errors import Code, RegistryError
from .onboarding import CLAIM_PATH, settings_of
from .registry_csv import async_import, export

CONF_REQUEST: Final = "request"
CONF_DAYS: Final = "days"
CONF_CSV: Final = "csv"

OVERLAP_HOURS: Final = {
    probatio.Optional(CONF_OVERLAP, default=lifecycle.OVERLAP / 3600): probatio.All(
        probatio.Coerce(float), probatio.Range(min=0, max=168)
    )
}
_DEVICE: Final = {probatio.Required(CONF_DEVICE_ID): cv.string}
_SIGN: Final = probatio.Schema(
    {
        **_DEVICE,
        probatio.Optional(CONF_REQUEST): cv.string,
        probatio.Optional(CONF_DAYS, default=365): probatio.All(
            probatio.Coerce(int), probatio.Range(min=1, max=MAX_DAYS)
        ),
        **OVERLAP_HOURS,
    }
)


@callback
def async_setup_trust_services(hass: HomeAssistant) -> None:
    """Register the services."""
    only = SupportsResponse.ONLY
    device, nothing = probatio.Schema(_DEVICE), probatio.Schema({})
    hass.services.async_register(DOMAIN, "issue_access_token", _async_issue_token, device, only)
    hass.services.async_register(DOMAIN, "issue_claim_code", _async_issue_claim, device, only)
    hass.services.async_register(DOMAIN, "sign_certificate", _async_sign, _SIGN, only)
    hass.services.async_register(DOMAIN, "rotate_authority", _async_rotate_authority, nothing, only)
    hass.services.async_register(DOMAIN, "rotate_kek", _async_rotate_kek, nothing)
    hass.services.async_register(DOMAIN, "probe_broker", _async_probe, nothing, only)
    hass.services.async_register(DOMAIN, "export_registry", _async_export, nothing, only)
    hass.services.async_register(
        DOMAIN, "import_registry", _async_import, probatio.Schema({probatio.Required(CONF_CSV): cv.string}), only
    )


@translate_errors
async def _async_issue_token(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    device = await hub.trust.credentials.async_add(call.data[CONF_DEVICE_ID], credentials.issue_token(time()), actor)
    settings = settings_of(device, hub.trust.site)
    return {"device_id": device.device_id, "token": settings["token"], "path": settings["path"]}


@translate_errors
async def _async_issue_claim(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    device = hub.gateway.registry[call.data[CONF_DEVICE_ID]]
    if not hub.trust.offers(CONF_HTTP_ENROLMENT):
        raise ServiceValidationError(translation_domain=DOMAIN, translation_key="http_enrolment_off")
    code = hub.trust.claiming.async_issue(device.device_id, actor)
    return {"device_id": device.device_id, "code": code, "path": CLAIM_PATH}


@translate_errors
async def _async_sign(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    device = hub.gateway.registry[call.data[CONF_DEVICE_ID]]
    if hub.enrolment.is_reserved(device.device_id):
        # It was free when the device was enrolled; the broker would take the certificate for the other's.
        raise RegistryError(Code.DEVICE_ID_INVALID, device.device_id)
    signed = await hub.trust.certificates.async_sign(
        device.device_id,
        call.data.get(CONF_REQUEST),
        call.data[CONF_DAYS],
        actor,
        overlap=call.data[CONF_OVERLAP] * 3600.0,
    )
    return {"device_id": device.device_id, **signed}


@translate_errors
async def _async_rotate_authority(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    certificates = hub.trust.certificates
    await certificates.async_rotate(actor)
    return {"ca_certificate": certificates.bundle()}


async def _async_rotate_kek(call: ServiceCall) -> None:
    hub, actor = await async_administrator(call)
    await async_rotate_kek(call.hass, hub.store)
    hub.audit.record("kek_rotated", actor=actor)


async def _async_probe(call: ServiceCall) -> ServiceResponse:
    hub, _ = await async_administrator(call)
    posture = hub.trust.posture
    await posture.async_measure()
    shown: dict[str, Any] = {**posture.as_shown(), "score": posture.score}
    return shown


async def _async_export(call: ServiceCall) -> ServiceResponse:
    hub, _ = await async_administrator(call)
    return {CONF_CSV: export(hub)}


@translate_errors
async def _async_import(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    return await async_import(hub, call.data[CONF_CSV], actor)
