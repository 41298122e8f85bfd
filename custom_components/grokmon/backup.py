"""Backups: what goes to the disk before one, and what is checked after."""

from time import time

from homeassistant.core import HomeAssistant

from .access import running_hub
from .backup_mark import async_begin, async_end


async def async_pre_backup(hass: HomeAssistant) -> None:
    """Bring to the disk what a backup should hold, and mark it: who starts with the mark was restored."""
    if (hub := running_hub(hass)) is None:
        return
    await hub.staging.async_flush()
    hub.audit.record("backup_begun")
    await hub.audit.async_flush(checkpoint=True)
    async_begin(hass, at := time())
    try:
        await hub.store.async_mark_backup(at)
    except BaseException:
        async_end(hass)
        raise


async def async_post_backup(hass: HomeAssistant) -> None:
    """Take the mark away again, and verify the trail. A hub that is not running now takes it away at its start."""
    async_end(hass)
    if (hub := running_hub(hass)) is None:
        return
    await hub.store.async_mark_backup(None)
    hub.audit.record("backup_ended")
    await hub.keeper.async_check()
