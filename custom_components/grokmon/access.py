"""What services, flows and repairs ask first: whether the hub is there, and who is calling."""

from collections.abc import Mapping
from typing import Any, Final

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import Context, HomeAssistant, ServiceCall
from homeassistant.data_entry_flow import AbortFlow
from homeassistant.exceptions import ServiceValidationError, Unauthorized

from .callers import login
from .const import DOMAIN
from .gateway.errors import Code, PolicyError
from .gateway.principals import Caller, Principal
from .hub import GrokmonConfigEntry, GrokmonHub

_UNAUTHORIZED: Final = "unauthorized"


def actor() -> str:
    """Return the id of the administrator whose dialog this is. Home Assistant lets nobody else have one."""
    user = login()
    return "administrator" if user is None else user.id


async def async_administrator(call: ServiceCall) -> tuple[GrokmonHub, str]:
    """Return the hub, and the id of the administrator who calls it, by hand.

    No automation or script does so, no voice, and no AI in a person's name.

    Raises Unauthorized for who is none, ServiceValidationError for what is not by hand.
    """
    user_id = call.context.user_id
    user = await call.hass.auth.async_get_user(user_id) if user_id is not None else None
    if user is None or not user.is_active or not user.is_admin:
        if (hub := running_hub(call.hass)) is not None:
            who = await hub.callers.async_identify(call.context)
            _record(hub, "service_refused", who, Code.NOT_ADMINISTRATOR.value, {"service": call.service})
        raise Unauthorized(context=call.context)
    hub = hub_of(call.hass)
    who = await hub.callers.async_identify(call.context)
    if who.caller is not Caller.PERSON or who.via is not None:
        _record(hub, "service_refused", who, "not_by_hand", {"service": call.service})
        # A script also keeps what it was answered in its trace, in clear.
        raise ServiceValidationError(translation_domain=DOMAIN, translation_key="not_by_hand")
    return hub, user.id


async def async_admit(
    hub: GrokmonHub, context: Context | None, entity_id: str | None, who: Principal | None = None
) -> Principal:
    """Return who stands behind a context, unless that is told, and may control an entity.

    Raises Unauthorized for who may not, on record.
    """
    who = who or await hub.callers.async_identify(context)
    try:
        await hub.callers.async_check(context, entity_id)
    except Unauthorized:
        _record(hub, "entity_refused", who, _UNAUTHORIZED, {"entity": entity_id} if entity_id else {})
        raise
    return who


async def async_admit_administrator(
    hub: GrokmonHub, context: Context | None, entity_id: str, explanation: str
) -> Principal:
    """Return the administrator who acts by an entity. Raises PolicyError for everybody else, on record.

    By a script, too: unlike a service, an entity answers nothing that a trace would keep.
    """
    who = await async_admit(hub, context, entity_id)
    if who.caller is not Caller.PERSON or not who.administrator:
        _record(hub, "entity_refused", who, Code.NOT_ADMINISTRATOR.value, {"entity": entity_id}, detail=explanation)
        raise PolicyError(Code.NOT_ADMINISTRATOR, explanation)
    return who


def hub_of(hass: HomeAssistant) -> GrokmonHub:
    """Return the hub. Raises ServiceValidationError when it is not set up."""
    if (hub := running_hub(hass)) is None:
        raise ServiceValidationError(translation_domain=DOMAIN, translation_key="not_loaded")
    return hub


def hub_of_flow(hass: HomeAssistant) -> GrokmonHub:
    """Return the hub. Raises AbortFlow when it does not run: what a flow changed then would not be on record."""
    if (hub := running_hub(hass)) is None:
        raise AbortFlow("not_loaded")
    return hub


def running_hub(hass: HomeAssistant) -> GrokmonHub | None:
    """Return the hub, or None when it is not set up, or has stopped with Home Assistant."""
    entries: list[GrokmonConfigEntry] = hass.config_entries.async_entries(DOMAIN)
    hubs = (entry.runtime_data for entry in entries if entry.state is ConfigEntryState.LOADED)
    return next((hub for hub in hubs if not hub.stopped), None)


def zone_named(hub: GrokmonHub, name: str) -> str:
    """Return the identifier of the zone with this name. Raises ServiceValidationError when there is none."""
    if (zone_id := hub.enrolment.zone_named(name)) is None:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="unknown_zone", translation_placeholders={"zone": name}
        )
    return zone_id


def _record(hub: GrokmonHub, event: str, who: Principal, reason: str, target: Mapping[str, str], **facts: Any) -> None:
    hub.dispatcher.log.denied(event, who, reason, hub.dispatcher.clock.now(), target, **facts)
