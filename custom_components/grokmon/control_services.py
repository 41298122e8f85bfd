"""Services that move something, or decide about what may move."""

from typing import Final

from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.helpers import config_validation as cv
import probatio

from .access import async_administrator, async_admit, hub_of, zone_named
from .const import CONF_DEVICE_ID, CONF_ZONE, DOMAIN
from .errors import translate_errors
from .gateway.actuators import Command, Key, Kind
from .gateway.errors import Code, PolicyError
from .hub import GrokmonHub
from .rehearse import async_rehearse
from .unique_ids import output_entity

CONF_ACTUATOR: Final = "actuator"
CONF_AMOUNT: Final = "amount_ml"
CONF_MINUTES: Final = "minutes"
CONF_DAYS: Final = "days"
_MAX_MINUTES: Final = 120

_IRRIGATE: Final = probatio.Schema(
    {
        probatio.Required(CONF_DEVICE_ID): cv.string,
        probatio.Optional(CONF_ACTUATOR): cv.string,
        # Judged by the policy, which says what is wrong with it; here it is only a number.
        probatio.Required(CONF_AMOUNT): probatio.Coerce(float),
    }
)
_STOP: Final = probatio.Schema(
    {probatio.Exclusive(CONF_DEVICE_ID, "which"): cv.string, probatio.Exclusive(CONF_ZONE, "which"): cv.string}
)
_OVERRIDE: Final = probatio.Schema(
    {
        probatio.Required(CONF_ZONE): cv.string,
        probatio.Required(CONF_MINUTES): probatio.All(probatio.Coerce(int), probatio.Range(min=0, max=_MAX_MINUTES)),
    }
)
_RESET: Final = probatio.Schema({probatio.Required(CONF_ZONE): cv.string})
_REHEARSE: Final = probatio.Schema(
    {
        probatio.Optional(CONF_DAYS, default=7): probatio.All(probatio.Coerce(int), probatio.Range(min=0, max=30)),
        probatio.Optional("zones", default={}): {cv.string: dict},
        probatio.Optional("limits", default={}): {cv.string: dict},
        probatio.Optional("ai_allowed"): cv.boolean,
    }
)


@callback
def async_setup_control_services(hass: HomeAssistant) -> None:
    """Register the services."""
    optional, only = SupportsResponse.OPTIONAL, SupportsResponse.ONLY
    hass.services.async_register(DOMAIN, "irrigate", _async_irrigate, _IRRIGATE, optional)
    hass.services.async_register(DOMAIN, "stop", _async_stop, _STOP, optional)
    hass.services.async_register(DOMAIN, "override_photoperiod", _async_override, _OVERRIDE, optional)
    hass.services.async_register(DOMAIN, "reset_interlocks", _async_reset, _RESET, optional)
    hass.services.async_register(DOMAIN, "rehearse", _async_rehearse, _REHEARSE, only)


@translate_errors
async def _async_irrigate(call: ServiceCall) -> ServiceResponse:
    hub = hub_of(call.hass)
    output = _pump(hub, call.data[CONF_DEVICE_ID], call.data.get(CONF_ACTUATOR))
    entity_id = output_entity(call.hass, hub.dispatcher.controller.output(output).key)
    who = await async_admit(hub, call.context, entity_id)
    await hub.async_command(Command(key=output, amount_ml=call.data[CONF_AMOUNT]), who)
    return {"device_id": output.device_id, "actuator": output.actuator, "amount_ml": call.data[CONF_AMOUNT]}


@translate_errors
async def _async_stop(call: ServiceCall) -> ServiceResponse:
    """Switch off a device, a zone or, without either, everything."""
    hub = hub_of(call.hass)
    controller = hub.dispatcher.controller
    if (device_id := call.data.get(CONF_DEVICE_ID)) is not None:
        outputs = [output.key for output in controller.outputs_of(hub.gateway.registry[device_id].device_id)]
    elif (zone := call.data.get(CONF_ZONE)) is not None:
        outputs = [output.key for output in controller.outputs_in(zone_named(hub, zone))]
    else:
        outputs = list(controller.outputs)
    # Nobody needs a permission to make the room safe.
    await hub.async_stop_all(outputs, call.context)
    return {"stopped": [str(key) for key in outputs]}


@translate_errors
async def _async_override(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    await hub.async_override_photoperiod(zone_named(hub, call.data[CONF_ZONE]), call.data[CONF_MINUTES], actor)
    return {"zone": call.data[CONF_ZONE], "minutes": call.data[CONF_MINUTES]}


@translate_errors
async def _async_reset(call: ServiceCall) -> ServiceResponse:
    hub, actor = await async_administrator(call)
    freed, kept = await hub.async_reset_interlocks(zone_named(hub, call.data[CONF_ZONE]), actor)
    return {"reset": [each.value for each in freed], "still_active": [each.value for each in kept]}


@translate_errors
async def _async_rehearse(call: ServiceCall) -> ServiceResponse:
    hub, _ = await async_administrator(call)
    return await async_rehearse(call.hass, hub, call.data[CONF_DAYS], call.data)


def _pump(hub: GrokmonHub, device_id: str, name: str | None) -> Key:
    """Return the pump of a device: the one that is named, or the only one."""
    device = hub.gateway.registry[device_id]
    pumps = [each for each in device.actuators if each.kind is Kind.PUMP and name in {None, each.name}]
    if len(pumps) != 1:
        raise PolicyError(Code.ACTUATOR_UNKNOWN, f"{device_id} has {len(pumps)} pumps of that name", variant="pump")
    return Key(device_id, pumps[0].name)
