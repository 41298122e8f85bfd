"""Backups: what goes to the disk before one, and what is checked after."""

from homeassistant.core import HomeAssistant

from .access import running_hub


async def async_pre_backup(hass: HomeAssistant) -> None:
    """Prepare for a backup."""
    if (hub := running_hub(hass)) is not None:
        await hub.async_before_backup()


async def async_post_backup(hass: HomeAssistant) -> None:
    """Go on after a backup."""
    if (hub := running_hub(hass)) is not None:
        await hub.async_after_backup()
