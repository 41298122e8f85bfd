"""The security gateway of a grow room."""

from homeassistant.components import mqtt
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ConfigEntryError, ConfigEntryNotReady, HomeAssistantError
from homeassistant.helpers import config_validation as cv, device_registry as dr, issue_registry as ir
from homeassistant.helpers.typing import ConfigType

from .at_rest import async_forget, async_open_store
from .audit_log import AuditLog
from .broker.removal import async_remove_accounts
from .checked_store import async_remove_stores
from .const import DOMAIN, PLATFORMS
from .entity import hub_device_info
from .gateway.checkpoints import Signer
from .http import async_setup_views
from .hub import GrokmonConfigEntry, GrokmonHub
from .issues import async_delete_issues
from .services import async_setup_services

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)
ISSUE_MQTT_MISSING = "mqtt_missing"


async def async_setup(hass: HomeAssistant, _config: ConfigType) -> bool:
    """Set up the services, and what devices reach over HTTP."""
    async_setup_services(hass)
    async_setup_views(hass)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: GrokmonConfigEntry) -> bool:
    """Set up the hub."""
    try:
        await _async_start(hass, entry)
    except ConfigEntryError, ConfigEntryNotReady:
        raise
    except OSError as error:
        raise ConfigEntryNotReady(str(error)) from error
    except HomeAssistantError as error:
        # A disk that fails, or a broker that goes away just now, may be back in a moment.
        raise ConfigEntryNotReady(
            *error.args,
            translation_domain=error.translation_domain,
            translation_key=error.translation_key,
            translation_placeholders=error.translation_placeholders,
        ) from error
    return True


async def _async_start(hass: HomeAssistant, entry: GrokmonConfigEntry) -> None:
    if not await mqtt.async_wait_for_mqtt_client(hass):
        ir.async_create_issue(
            hass,
            DOMAIN,
            ISSUE_MQTT_MISSING,
            is_fixable=False,
            severity=ir.IssueSeverity.ERROR,
            translation_key=ISSUE_MQTT_MISSING,
        )
        raise ConfigEntryNotReady(translation_domain=DOMAIN, translation_key="mqtt_missing")
    ir.async_delete_issue(hass, DOMAIN, ISSUE_MQTT_MISSING)
    store = await async_open_store(hass)
    audit = AuditLog(hass, Signer(store.state.audit_key))
    try:
        opening = await audit.async_open()
    except OSError as error:
        raise ConfigEntryNotReady(
            translation_domain=DOMAIN,
            translation_key="audit_not_opened",
            translation_placeholders={"error": str(error)},
        ) from error
    except ValueError as error:
        # Unlike a disk, a trail that somebody altered does not come back by itself.
        raise ConfigEntryError(
            translation_domain=DOMAIN,
            translation_key="audit_not_opened",
            translation_placeholders={"error": str(error)},
        ) from error
    device = dr.async_get(hass).async_get_or_create(config_entry_id=entry.entry_id, **hub_device_info())
    settings = (entry.data, entry.options)
    hub = GrokmonHub(hass, entry, store, audit, device.id)
    entry.runtime_data = hub
    try:
        await hub.async_start(opening)
        await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    except BaseException:
        await hub.async_stop()
        raise

    async def follow(hass: HomeAssistant, changed: GrokmonConfigEntry) -> None:
        # Only what concerns the hub as a whole is worth a new start; a device that is added, changed or removed is not.
        if (changed.data, changed.options) == settings:
            await hub.async_follow()
        else:
            was, now = {**settings[0], **settings[1]}, {**changed.data, **changed.options}
            names = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
            audit.record("settings_changed", actor="user", names=names)
            hass.config_entries.async_schedule_reload(changed.entry_id)

    entry.async_on_unload(entry.add_update_listener(follow))
    # What somebody saved while the hub started.
    entry.async_create_task(hass, follow(hass, entry))


async def async_unload_entry(hass: HomeAssistant, entry: GrokmonConfigEntry) -> bool:
    """Unload the hub."""
    unloaded = await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
    if unloaded:
        await entry.runtime_data.async_stop()
    return unloaded


async def async_remove_entry(hass: HomeAssistant, entry: GrokmonConfigEntry) -> None:
    """Delete the credentials, here and at the broker, what nobody can decrypt without them, and all issues.

    The audit trail stays.
    """
    await async_remove_accounts(hass, entry)
    async_delete_issues(hass, "")
    await async_remove_stores(hass)
    await async_forget(hass)
