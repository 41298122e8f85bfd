"""What services, flows and repairs ask first: whether the hub is there, and who is calling."""

from time import time

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.exceptions import ServiceValidationError, Unauthorized

from .callers import login
from .const import DOMAIN
from .gateway.actuators import Caller
from .hub import GrokmonConfigEntry, GrokmonHub


def actor() -> str:
    """Return the id of the administrator whose dialog this is. Home Assistant lets nobody else have one."""
    user = login()
    return "administrator" if user is None else user.id


async def async_administrator(call: ServiceCall) -> str:
    """Return the id of the administrator who calls, by hand: no automation, script, voice or AI in a person's name.

    Raises Unauthorized for who is none, ServiceValidationError for what is not by hand.
    """
    user_id = call.context.user_id
    user = await call.hass.auth.async_get_user(user_id) if user_id is not None else None
    if user is None or not user.is_active or not user.is_admin:
        if (hub := running_hub(call.hass)) is not None:
            hub.monitor.async_service_refused(call.service, user_id, time())
        raise Unauthorized(context=call.context)
    hub = hub_of(call.hass)
    who = await hub.callers.async_identify(call.context)
    if who.caller is not Caller.PERSON or who.via is not None:
        hub.monitor.async_service_refused(call.service, user_id, time())
        # A script also keeps what it was answered in its trace, in clear.
        raise ServiceValidationError(translation_domain=DOMAIN, translation_key="not_by_hand")
    return user.id


def hub_of(hass: HomeAssistant) -> GrokmonHub:
    """Return the hub. Raises ServiceValidationError when it is not set up."""
    if (hub := running_hub(hass)) is None:
        raise ServiceValidationError(translation_domain=DOMAIN, translation_key="not_loaded")
    return hub


def running_hub(hass: HomeAssistant) -> GrokmonHub | None:
    """Return the hub, or None when it is not set up."""
    entries: list[GrokmonConfigEntry] = hass.config_entries.async_entries(DOMAIN)
    return next((entry.runtime_data for entry in entries if entry.state is ConfigEntryState.LOADED), None)


def zone_named(hub: GrokmonHub, name: str) -> str:
    """Return the identifier of the zone with this name. Raises ServiceValidationError when there is none."""
    if (zone_id := hub.enrolment.zone_named(name)) is None:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="unknown_zone", translation_placeholders={"zone": name}
        )
    return zone_id
