"""Unique IDs: by what Home Assistant tells entities of devices, zones and the hub apart."""

from typing import Final

from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er

from .const import DOMAIN

# Whose the entities of the hub are, where those of a device and a zone belong to their identifiers.
HUB: Final = "hub"


def unique_id(owner: str, key: str) -> str:
    """Return the unique ID of an entity of a device, a zone or the hub: no identifier has the sign between the two."""
    return f"{owner}/{key}"


def registered(hass: HomeAssistant, platform: Platform, owner: str, key: str) -> str | None:
    """Return the entity of a device, a zone or the hub with a key, as it is called now."""
    return er.async_get(hass).async_get_entity_id(platform, DOMAIN, unique_id(owner, key))
