"""Unique IDs: by what Home Assistant tells entities of devices, zones and the hub apart, and finds them."""

from collections.abc import Iterable
from typing import Final

from homeassistant.const import Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import entity_registry as er

from .const import DOMAIN
from .coordinator import ENTITY_SUFFIXES, output_key
from .gateway.actuators import Key

# Whose the entities of the hub are, where those of a device and a zone belong to their identifiers.
HUB: Final = "hub"
_OUTPUTS: Final = (Platform.LIGHT, Platform.FAN, Platform.SWITCH)
_METRICS: Final = (Platform.SENSOR, Platform.BINARY_SENSOR)


def unique_id(owner: str, key: str) -> str:
    """Return the unique ID of an entity of a device, a zone or the hub: no identifier has the sign between the two."""
    return f"{owner}/{key}"


def registered(hass: HomeAssistant, platform: Platform, owner: str, key: str) -> str | None:
    """Return the entity of a device, a zone or the hub with a key, as it is called now."""
    return er.async_get(hass).async_get_entity_id(platform, DOMAIN, unique_id(owner, key))


def output_entity(hass: HomeAssistant, output: Key) -> str | None:
    """Return the entity that shows and drives an output."""
    return _first(hass, _OUTPUTS, output.device_id, output_key(output.actuator))


def metric_entity(hass: HomeAssistant, device_id: str, metric: str) -> str | None:
    """Return the entity that shows a metric of a device."""
    return _first(hass, _METRICS, device_id, metric)


def output_name(hass: HomeAssistant, output: Key) -> str:
    """Return what a person calls an output of a device; one without an entity is as the device has it."""
    entity_id = output_entity(hass, output)
    entry = er.async_get(hass).async_get(entity_id) if entity_id is not None else None
    return output.actuator if entry is None else entry.name or entry.original_name or output.actuator


def full_name(hass: HomeAssistant, entity_id: str | None) -> str | None:
    """Return what a person calls an entity, with its device; None for one that is not shown."""
    state = hass.states.get(entity_id) if entity_id is not None else None
    return None if state is None else state.name


@callback
def async_remove_entities(hass: HomeAssistant, entry_id: str, owner: str, keys: Iterable[str]) -> None:
    """Remove the entities of a device that have these keys."""
    entities = er.async_get(hass)
    unique_ids = {unique_id(owner, key + suffix) for key in keys for suffix in ENTITY_SUFFIXES}
    for entity in er.async_entries_for_config_entry(entities, entry_id):
        if entity.unique_id in unique_ids:
            entities.async_remove(entity.entity_id)


def _first(hass: HomeAssistant, platforms: tuple[Platform, ...], owner: str, key: str) -> str | None:
    return next((found for platform in platforms if (found := registered(hass, platform, owner, key))), None)
