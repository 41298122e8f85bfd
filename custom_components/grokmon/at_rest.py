"""Data at rest: the key-encryption key of this start, its rotation, and what is said about it."""

import os
from pathlib import Path
from shutil import rmtree
from typing import Final

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ConfigEntryError, ConfigEntryNotReady, HomeAssistantError, ServiceValidationError
from homeassistant.helpers import issue_registry as ir

from .checked_store import lock_of
from .const import DOMAIN
from .gateway.vault import VaultError
from .kek import (
    FILE_NAME,
    Kek,
    KekAwayError,
    KekError,
    KekRefusedError,
    KekSource,
    forget_previous,
    load_kek,
    replace_generated,
)
from .store import SecurityStore

ISSUE_REFUSED: Final = "kek_refused"
_KEK: Final = "kek"


def folder_of(hass: HomeAssistant) -> Path:
    """Return the folder of what is not in Home Assistant's own storage."""
    return Path(hass.config.path(DOMAIN))


async def async_open_store(hass: HomeAssistant) -> SecurityStore:
    """Return the security store, unsealed.

    Raises ConfigEntryError when its key is not to be had, ConfigEntryNotReady when a disk does not give it just now.
    """
    try:
        # The run before may be rotating the key still: one of the two is the only one that opens the store.
        async with lock_of(hass, _KEK):
            store = await _async_open(hass, folder_of(hass))
    except (KekAwayError, OSError) as error:
        _tell_refused(hass, error)
        raise ConfigEntryNotReady(
            translation_domain=DOMAIN, translation_key="kek_away", translation_placeholders={"error": str(error)}
        ) from error
    except (KekError, VaultError) as error:
        _tell_refused(hass, error)
        raise ConfigEntryError(
            translation_domain=DOMAIN, translation_key="kek_unavailable", translation_placeholders={"error": str(error)}
        ) from error
    _tell_refused(hass, None)
    return store


def _tell_refused(hass: HomeAssistant, error: Exception | None) -> None:
    """Raise the issue that somebody has to see to it where the key comes from, or withdraw it."""
    if not isinstance(error, KekRefusedError):
        ir.async_delete_issue(hass, DOMAIN, ISSUE_REFUSED)
        return
    ir.async_create_issue(
        hass,
        DOMAIN,
        ISSUE_REFUSED,
        is_fixable=False,
        severity=ir.IssueSeverity.ERROR,
        translation_key=ISSUE_REFUSED,
        translation_placeholders={"error": str(error)},
    )


async def _async_open(hass: HomeAssistant, folder: Path) -> SecurityStore:
    kek = await hass.async_add_executor_job(_open, folder)
    store = SecurityStore(hass, kek)
    await store.async_load()
    if kek.source is KekSource.GENERATED:
        await hass.async_add_executor_job(forget_previous, folder)
    return store


def _open(folder: Path) -> Kek:
    kek = load_kek(folder, dict(os.environ))
    # Before anything makes it as the parent of its own folder, for everybody to read.
    folder.mkdir(mode=0o700, exist_ok=True)
    return kek


async def async_rotate_kek(hass: HomeAssistant, store: SecurityStore) -> None:
    """Seal everything with a new key-encryption key.

    Raises ServiceValidationError for one that comes from elsewhere: whoever keeps it there replaces it there.
    """
    source = store.kek.source
    if source is not KekSource.GENERATED:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="kek_elsewhere", translation_placeholders={"source": source}
        )
    folder = folder_of(hass)
    # In this order, a crash at any moment leaves a key on the disk that opens the store.
    async with lock_of(hass, _KEK):
        try:
            await store.async_reseal(await hass.async_add_executor_job(replace_generated, folder))
            await hass.async_add_executor_job(forget_previous, folder)
        except (KekError, OSError) as error:
            raise HomeAssistantError(translation_domain=DOMAIN, translation_key="store_not_written") from error


async def async_forget(hass: HomeAssistant) -> None:
    """Delete the generated key-encryption key, and what is staged: no key opens it any more."""
    folder = folder_of(hass)

    def delete() -> None:
        forget_previous(folder)
        (folder / FILE_NAME).unlink(missing_ok=True)
        rmtree(folder / "staging", ignore_errors=True)

    await hass.async_add_executor_job(delete)
