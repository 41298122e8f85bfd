"""The security checklist, measured: what Home Assistant and this integration have in order."""

from pathlib import Path
from time import time
from typing import Final

from homeassistant.components import backup
from homeassistant.components.backup.const import DOMAIN as BACKUP
from homeassistant.core import HomeAssistant
from homeassistant.helpers.network import NoURLAvailableError, get_url

from .at_rest import folder_of
from .audit_keeper import AuditKeeper
from .broker.accounts import AccountMode, BrokerAccounts
from .broker.connection import BrokerError
from .credential_keeper import CredentialKeeper
from .gateway.audit import Verdict
from .gateway.checklist import Item
from .gateway.posture import Finding
from .gateway.registry import DeviceRegistry
from .kek import FILE_NAME, KekSource
from .store import SecurityStore

_BACKUP_S: Final = 8 * 86_400.0
_VERIFIED_S: Final = 2 * 86_400.0
# More messages a minute than this is no limit for a sensor.
_MOST_MESSAGES: Final = 1200
_OTHERS: Final = 0o077


class Checklist:
    """Measure every item."""

    def __init__(
        self,
        hass: HomeAssistant,
        registry: DeviceRegistry,
        store: SecurityStore,
        credentials: CredentialKeeper,
        *,
        audit: AuditKeeper,
        accounts: BrokerAccounts,
    ) -> None:
        self._hass = hass
        self._registry = registry
        self._store = store
        self._credentials = credentials
        self._audit = audit
        self._accounts = accounts

    async def async_measure(self) -> dict[Item, Finding]:
        """Return what is in order, what is not, and what cannot be told."""
        generated = self._store.kek.source is KekSource.GENERATED
        return {
            Item.HTTPS: _passed(self._has_https()),
            Item.MFA: _passed(await self._async_has_mfa()),
            Item.SECRETS_PRIVATE: _passed(await self._hass.async_add_executor_job(self._are_private)),
            Item.KEK: _passed(not generated),
            Item.ROTATION: _passed(not self._credentials.due(time())),
            Item.BACKUP: self._backup(),
            Item.AUDIT_VERIFIED: self._verified(),
            Item.RATE_LIMITS: _passed(all(device.rate_limit <= _MOST_MESSAGES for device in self._registry)),
            Item.STRANGERS: await self._async_strangers(),
        }

    def _has_https(self) -> bool:
        try:
            return get_url(self._hass, require_ssl=True).startswith("https://")
        except NoURLAvailableError:
            return False

    async def _async_has_mfa(self) -> bool:
        """Tell whether every administrator who logs in needs more than a password."""
        auth = self._hass.auth
        administrators = [
            user
            for user in await auth.async_get_users()
            if user.is_admin and user.is_active and not user.system_generated and user.credentials
        ]
        return all([await auth.async_get_enabled_mfa(user) for user in administrators])

    def _are_private(self) -> bool:
        paths = [Path(self._store.path), folder_of(self._hass) / FILE_NAME]
        return all(path.stat().st_mode & _OTHERS == 0 for path in paths if path.exists())

    async def _async_strangers(self) -> Finding:
        """Tell whether nobody but a device may publish in its name; only dynamic security says who may what."""
        if self._accounts.mode is not AccountMode.DYNAMIC_SECURITY:
            return Finding.UNKNOWN
        try:
            await self._accounts.async_find_strangers()
        except BrokerError:
            return Finding.UNKNOWN
        return _passed(not self._accounts.strangers)

    def _backup(self) -> Finding:
        if BACKUP not in self._hass.config.components:
            return Finding.UNKNOWN
        last = backup.async_get_manager(self._hass).config.data.last_completed_automatic_backup
        return _passed(last is not None and time() - last.timestamp() < _BACKUP_S)

    def _verified(self) -> Finding:
        report = self._audit.verified
        if report is None or self._audit.verified_at is None or time() - self._audit.verified_at > _VERIFIED_S:
            return Finding.UNKNOWN
        return _passed(report.result is Verdict.GOOD)


def _passed(passed: bool) -> Finding:
    return Finding.PASSED if passed else Finding.FAILED
