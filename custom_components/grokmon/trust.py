"""Trust: who the devices are, and whether the broker keeps them apart."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback

from .audit_keeper import AuditKeeper
from .audit_log import AuditLog
from .broker.accounts import CONF_ADMIN_PASSWORD, CONF_PROBE_PASSWORD, AccountMode, BrokerAccounts
from .broker.certificates import Certificates
from .checklist import Checklist
from .claiming import Claiming
from .coordinator import POSTURE, SCORE, HubCoordinator
from .credential_keeper import CredentialKeeper
from .enrolment import Enrolment
from .gateway.models import Device, DeviceStatus
from .gateway.posture import Posture
from .gateway.registry import DeviceRegistry
from .gateway.topics import PROBE_IDS
from .onboarding import Site, settings_of
from .posture import PostureKeeper
from .security import SecurityMonitor
from .store import SecurityStore


class Trust:
    """Credentials of devices, their accounts at the broker and certificates, how they are claimed, and the posture.

    `enforced` is told whether the broker was measured to keep devices apart, whenever that is measured.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry[Any],
        prefix: str,
        enrolment: Enrolment,
        store: SecurityStore,
        *,
        audit: AuditLog,
        keeper: AuditKeeper,
        monitor: SecurityMonitor,
        registry: DeviceRegistry,
        coordinator: HubCoordinator,
        enforced: Callable[[bool], None],
    ) -> None:
        self._hass = hass
        self._entry = entry
        self._enforced = enforced
        self._store = store
        self._coordinator = coordinator
        self._tasks: set[asyncio.Task[None]] = set()
        self.site = Site(prefix, store.state.site_keys, store.state.token_key)
        self.credentials = CredentialKeeper(hass, registry, enrolment, lambda: self.has_accounts)
        self.accounts = BrokerAccounts(
            hass, entry, prefix, registry, store, audit=audit, settled=self._accounts_settled
        )
        self.certificates = Certificates(hass, store, audit, self.credentials, self._run)
        self.claiming = Claiming(hass, registry, enrolment, audit, lambda device: settings_of(device, self.site))
        checklist = Checklist(hass, registry, store, self.credentials, audit=keeper, accounts=self.accounts)
        self.posture = PostureKeeper(
            hass,
            entry,
            prefix,
            store,
            audit=audit,
            monitor=monitor,
            accounts=self.accounts,
            checklist=checklist,
            changed=self._measured,
        )

    @property
    def has_accounts(self) -> bool:
        """Tell whether devices get accounts at the broker."""
        return self.accounts.mode is not AccountMode.NONE

    def offers(self, option: str) -> bool:
        """Tell whether something that is off by default was switched on."""
        return bool(self._entry.options.get(option, False))

    @callback
    def async_start(self) -> list[CALLBACK_TYPE]:
        """Begin to look after it all; return how to end that."""
        return [*self.accounts.async_start(), *self.certificates.async_start(), *self.posture.async_start()]

    async def async_keep_passwords(self, passwords: Mapping[str, str]) -> None:
        """Keep passwords of the broker that a person typed in; what is left out stays. Raises HomeAssistantError."""
        broker = self._store.state.broker
        before, waiting = (broker.admin_password, broker.probe_password), set(broker.revoking)
        broker.admin_password = passwords.get(CONF_ADMIN_PASSWORD, before[0])
        broker.probe_password = passwords.get(CONF_PROBE_PASSWORD, before[1])
        if broker.probe_password != before[1]:
            self.accounts.async_renew_probe()
        try:
            await self._store.async_save()
        except BaseException:
            broker.admin_password, broker.probe_password = before
            # Of what is to be revoked only this: devices may have been meanwhile.
            for name in set(PROBE_IDS) - waiting:
                broker.revoking.pop(name, None)
            raise
        self.accounts.async_request()

    async def async_stop(self) -> None:
        """Begin nothing more, and wait a while for what is under way: the trail is about to be closed."""
        # Together: what hangs, hangs at the same broker, and Home Assistant gives a stop 100 s.
        await asyncio.gather(self.accounts.async_stop(), self.certificates.async_stop(), self.posture.async_stop())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @callback
    def async_device_changed(self, before: Device | None, after: Device | None) -> None:
        """Follow a change of a device: to the broker first, then to the list of revoked certificates."""
        self.accounts.async_device_changed(before, after)
        self.certificates.async_device_changed(before, after)
        if before is not None and (after is None or after.status is DeviceStatus.REVOKED):
            self.claiming.async_forget(before.device_id)
            self.credentials.async_forget(before.device_id)

    @callback
    def async_tick(self, now: float) -> None:
        """Do what is due."""
        self.claiming.async_tick(now)
        if self._store.behind:
            self._run(self._store.async_catch_up(), "grokmon store")
        if self.credentials.is_due(now):
            self._run(self.credentials.async_look(now), "grokmon credentials")

    @callback
    def _accounts_settled(self) -> None:
        """See whether the broker goes by what it was told."""
        if self.accounts.mode is AccountMode.DYNAMIC_SECURITY:
            # Files it has yet to read.
            self.credentials.async_shut()
        self.posture.async_request()

    @callback
    def _measured(self) -> None:
        self._enforced(self.posture.posture is Posture.ENFORCED)
        self._coordinator.async_set(POSTURE, self.posture.as_shown())
        self._coordinator.async_set(SCORE, self.posture.score)

    @callback
    def _run(self, job: Coroutine[Any, Any, None], name: str) -> None:
        task = self._entry.async_create_background_task(self._hass, job, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
