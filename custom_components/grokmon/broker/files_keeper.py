"""The broker's files on the disk, and whether the broker has read them as far as anybody knows."""

from collections.abc import Sequence
from secrets import token_hex

from homeassistant.core import HomeAssistant

from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.broker_accounts import Account, Role
from custom_components.grokmon.store import SecurityStore

from .connection import Login
from .files import changed_files, write_files


class FilesKeeper:
    """Write the files, and remember that the broker has to read them until an administrator says that it has."""

    def __init__(self, hass: HomeAssistant, store: SecurityStore) -> None:
        self._hass = hass
        self._store = store
        # What the files are known by: another one each time that they are written.
        self.version = token_hex(8)

    @property
    def unread(self) -> bool:
        """Tell whether the broker has to read them."""
        return self._store.state.broker.files_unread

    async def async_write(
        self, accounts: Sequence[Account], roles: Sequence[Role], prefix: str, hub: Login | None
    ) -> bool:
        """Write what changed; return whether anything did. Raises BrokerError, OSError or HomeAssistantError."""
        folder = self._hass.config.path(DOMAIN, "broker")
        changed = await self._hass.async_add_executor_job(changed_files, folder, accounts, roles, prefix, hub)
        if not changed:
            return False
        # Before: what is confirmed meanwhile is what was written before.
        self.version = token_hex(8)
        # And whoever is killed in between tells it at the next start.
        await self._async_note(unread=True)
        await self._hass.async_add_executor_job(write_files, changed)
        return True

    async def async_read(self, version: str) -> bool:
        """Take note that the broker has read them, unless others were written since. Raises HomeAssistantError."""
        if version != self.version:
            return False
        await self._async_note(unread=False)
        return True

    async def _async_note(self, *, unread: bool) -> None:
        broker = self._store.state.broker
        before, broker.files_unread = broker.files_unread, unread
        try:
            await self._store.async_save()
        except BaseException:
            broker.files_unread = before
            raise
