"""Accounts of devices at the broker, in step with the registry.

What is wanted follows from the registry; what differs is looked up and repaired. A change, a start and the daily look
all do the same, so that a lost answer or a restart at any moment leaves nothing that the next look would not mend.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from time import time
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import CONF_HOST
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.util.hass_dict import HassKey

from custom_components.grokmon.audit_log import AuditLog
from custom_components.grokmon.const import CONF_BROKER, DOMAIN
from custom_components.grokmon.gateway.broker_accounts import Account, Acl, AclType, Role, role_name, role_of
from custom_components.grokmon.gateway.broker_drift import DriftKind
from custom_components.grokmon.gateway.credentials import account_name
from custom_components.grokmon.gateway.models import (
    Auth,
    Channel,
    CredentialKind,
    CredentialState,
    Device,
    DeviceStatus,
    Downlink,
)
from custom_components.grokmon.gateway.registry import DeviceRegistry
from custom_components.grokmon.gateway.topics import PROBE_IDS, uplink
from custom_components.grokmon.issues import async_delete_issues
from custom_components.grokmon.store import SecurityStore
from custom_components.grokmon.turns import Turns

from .address import CONF_ADMIN, Address, async_address
from .connection import BrokerError, Login
from .files_keeper import FilesKeeper
from .probe import probe_topics
from .work import Work, bring_in_step, confirm_revoked, find_strangers

CONF_MODE: Final = "mode"
CONF_ADMIN_PASSWORD: Final = "admin_password"  # noqa: S105 - a name
CONF_PROBE_PASSWORD: Final = "probe_password"  # noqa: S105 - a name
ISSUE_UNREACHABLE: Final = "broker_accounts_pending"
ISSUE_REVOKING: Final = "revocation_pending"
ISSUE_FILES: Final = "broker_files_changed"
ISSUE_MISSING: Final = "broker_account_missing"
# Which broker had accounts before this start, and how.
_BEFORE: Final[HassKey[tuple[str, str]]] = HassKey("grokmon_broker_accounts")
_RETRY: Final = timedelta(seconds=30)
_DAY_S: Final = 86_400.0
# What no change of ours brings about.
_FOREIGN: Final = frozenset(
    {
        DriftKind.FOREIGN_GROUP,
        DriftKind.FOREIGN_ROLE,
        DriftKind.NAME_TAKEN,
        DriftKind.OTHER_CLIENT_ID,
        DriftKind.ROLE_IN_GROUP,
    }
)


class AccountMode(StrEnum):
    """How devices come by accounts at the broker."""

    NONE = "none"
    DYNAMIC_SECURITY = "dynamic_security"
    FILES = "files"


class BrokerAccounts:
    """Keep the broker's accounts in step with the registry.

    `settled` is called when the broker has what is wanted.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry[Any],
        prefix: str,
        registry: DeviceRegistry,
        store: SecurityStore,
        *,
        audit: AuditLog,
        settled: Callable[[], None],
    ) -> None:
        self._hass = hass
        self._entry = entry
        self._chosen = entry.options.get(CONF_BROKER, {})
        self._prefix = prefix
        self._registry = registry
        self._store = store
        self._audit = audit
        self._settled = settled
        self._turns = Turns(self._async_bring_in_step)
        self._old_logins: dict[str, tuple[Login, ...]] = {}
        self._expected: set[str] = set()
        self._told: set[tuple[str, ...]] = set()
        self._made: frozenset[tuple[str, str]] = frozenset()
        self._started = False
        self._looked_at = 0.0
        self.files = FilesKeeper(hass, store)
        self.mode = AccountMode(self._chosen.get(CONF_MODE, AccountMode.NONE))
        self.problem: str | None = None
        self.strangers: tuple[str, ...] = ()

    @callback
    def async_start(self) -> list[CALLBACK_TYPE]:
        """Bring the broker in step, now and again; return how to end that."""
        self._started = True
        self._expect_new_broker()
        self._tell_files()
        if self.mode is AccountMode.NONE:
            async_delete_issues(self._hass, ISSUE_UNREACHABLE, ISSUE_REVOKING, ISSUE_MISSING)
            return []
        self.async_request()
        return [async_track_time_interval(self._hass, self._again, _RETRY, cancel_on_shutdown=True)]

    @property
    def probe_logins(self) -> tuple[Login, Login]:
        """Return the two accounts of the probe."""
        first, second = (Login(name, self._store.state.broker.probe_password) for name in PROBE_IDS)
        return first, second

    @property
    def revoking(self) -> list[str]:
        """Return the devices that are revoked here, and perhaps not yet at the broker."""
        return sorted(self._store.state.broker.revoking.keys() - set(PROBE_IDS))

    async def async_address(self) -> Address:
        """Return where the broker is. Raises UnreachableError."""
        return await async_address(self._hass, self._chosen)

    @callback
    def async_device_changed(self, before: Device | None, after: Device | None) -> None:
        """Follow a change of a device. What it may no longer use is noted before anything waits."""
        device = after or before
        if self.mode is AccountMode.NONE or device is None:
            return
        was, now = ([*_accounts(each)] if each is not None else [] for each in (before, after))
        gone = after is None or after.status is DeviceStatus.REVOKED
        if gone and before is not None and was:
            self._store.state.broker.revoking[before.device_id] = [account.username for account in was]
            self._old_logins[before.device_id] = tuple(Login(each.username, each.password) for each in was)
        if not self._started or (
            was == now
            and before is not None
            and after is not None
            and (before.actuators, before.status) == (after.actuators, after.status)
        ):
            return
        self._expected.add(device.device_id)
        self.async_request()

    async def async_bring_in_step(self) -> None:
        """Make the broker have what the registry wants; what cannot be done now is retried."""
        await self._turns.async_run()

    async def async_find_strangers(self) -> None:
        """Look for accounts of others that may publish in the name of a device. Raises BrokerError."""
        self.strangers = ()
        topics = [uplink(self._prefix, device.device_id, channel) for device in self._registry for channel in Channel]
        address = await self.async_address()
        self.strangers = await self._hass.async_add_executor_job(find_strangers, address.endpoint, self._admin, topics)

    async def async_stop(self) -> None:
        """Change nothing more, and wait a while for what is under way: it would undo what the next start does."""
        await self._turns.async_end()

    @callback
    def async_renew_probe(self) -> None:
        """Have the accounts of the probe made anew: a password that differs cannot be seen."""
        if self.mode is AccountMode.DYNAMIC_SECURITY:
            self._store.state.broker.revoking |= {name: [name] for name in PROBE_IDS}

    @callback
    def async_request(self) -> None:
        """Look soon."""
        self._entry.async_create_background_task(self._hass, self.async_bring_in_step(), "grokmon broker accounts")

    @callback
    def _again(self, moment: datetime) -> None:
        due = not 0.0 <= moment.timestamp() - self._looked_at < _DAY_S
        # What time has ended since then has to go, and is no drift.
        ended = {device_id for device_id, _ in self._made - self._names()}
        self._expected |= ended
        if self.problem is not None or self._store.state.broker.revoking or ended or due:
            self.async_request()

    @property
    def _admin(self) -> Login:
        return Login(self._chosen.get(CONF_ADMIN, ""), self._store.state.broker.admin_password)

    def _names(self) -> frozenset[tuple[str, str]]:
        return frozenset((each.device_id, each.username) for device in self._registry for each in _accounts(device))

    def _expect_new_broker(self) -> None:
        """Take what a broker that was chosen just now does not have for what it was never given."""
        chosen = (self.mode, self._chosen.get(CONF_HOST, ""))
        if self._hass.data.get(_BEFORE, chosen) != chosen:
            self._expected |= {*PROBE_IDS, *(device.device_id for device in self._registry)}
        self._hass.data[_BEFORE] = chosen

    async def _async_bring_in_step(self) -> None:
        self._tell_missing()
        if self.mode is AccountMode.FILES:
            await self._async_write_files()
        elif self.mode is AccountMode.DYNAMIC_SECURITY:
            await self._async_drive()

    async def _async_drive(self) -> None:
        expected, self._expected = self._expected, set()
        revoking = {device_id: list(names) for device_id, names in self._store.state.broker.revoking.items()}
        (accounts, roles), made = self._wanted(), self._names()
        try:
            address = await self.async_address()
            work = await self._hass.async_add_executor_job(
                bring_in_step, address.endpoint, self._admin, accounts, roles, revoking
            )
        except BrokerError as error:
            self._expected |= expected
            self._tell_problem(str(error))
            return
        # What was removed to be made anew is missing, too.
        self._record(work, expected | revoking.keys())
        unconfirmed = await self._async_confirm(address, work.revoked)
        problem = work.problem or unconfirmed
        self._tell_problem(problem)
        if problem is not None:
            self._expected |= expected
            return
        self._looked_at = time()
        self._made = made
        self._settled()

    async def _async_confirm(self, address: Address, device_ids: Iterable[str]) -> str | None:
        """See that nobody gets in any more, and that nothing of the devices is retained; return what came between."""
        waiting = self._store.state.broker.revoking
        for device_id in device_ids:
            logins = self._old_logins.get(device_id, ())
            try:
                if await self._hass.async_add_executor_job(confirm_revoked, address, self._prefix, device_id, logins):
                    await self._async_revoked(device_id)
            except (BrokerError, HomeAssistantError) as error:
                if device_id in waiting:
                    # Last in line from now on: it may be this one alone, and must not hold up those behind it.
                    waiting[device_id] = waiting.pop(device_id)
                return str(error)
        return None

    async def _async_revoked(self, device_id: str) -> None:
        self._store.state.broker.revoking.pop(device_id, None)
        self._old_logins.pop(device_id, None)
        self._audit.record("revocation_confirmed", device=device_id)
        ir.async_delete_issue(self._hass, DOMAIN, f"{ISSUE_REVOKING}_{device_id}")
        await self._store.async_save()

    async def _async_write_files(self) -> None:
        (accounts, roles), made = self._wanted(), self._names()
        try:
            hub = (await self.async_address()).hub
            changed = await self.files.async_write(accounts, roles, self._prefix, hub)
        except (BrokerError, OSError, HomeAssistantError) as error:
            self._tell_problem(str(error))
            return
        self._looked_at = time()
        self._made = made
        self._store.state.broker.revoking.clear()
        async_delete_issues(self._hass, ISSUE_REVOKING)
        self._tell_problem(None)
        if changed:
            self._audit.record("broker_files_written", accounts=len(accounts))
        self._tell_files()
        self._settled()

    @callback
    def _tell_files(self) -> None:
        if self.mode is AccountMode.FILES and self.files.unread:
            self._raise(ISSUE_FILES, ISSUE_FILES, facts={"issue": ISSUE_FILES, "version": self.files.version})
        else:
            async_delete_issues(self._hass, ISSUE_FILES)

    def _wanted(self) -> tuple[list[Account], list[Role]]:
        accounts = [account for device in self._registry for account in _accounts(device)]
        named = {account.device_id for account in accounts}
        roles = [_role(self._prefix, device) for device in self._registry if device.device_id in named]
        for login, device_id in zip(self.probe_logins, PROBE_IDS, strict=True):
            accounts.append(
                Account(username=login.username, device_id=device_id, client_id=device_id, password=login.password)
            )
            topics = probe_topics(self._prefix, device_id)
            acls = (*role_of(self._prefix, device_id, (), ()).acls, *(Acl(AclType.PUBLISH, topic) for topic in topics))
            roles.append(Role(device_id, tuple(sorted(acls))))
        return accounts, roles

    def _record(self, work: Work, expected: set[str]) -> None:
        told, self._told = self._told, set()
        for drift in work.repaired:
            key = (drift.kind.value, drift.name, drift.detail)
            if work.problem is not None:
                # What is left is found again every time.
                self._told.add(key)
            if key in told:
                continue
            wanted = drift.kind not in _FOREIGN and any(
                drift.name in (name, role_name(name)) or drift.name.startswith(f"{name}.") for name in expected
            )
            self._audit.record(
                "broker_changed" if wanted else "broker_drift",
                outcome="done" if wanted else "found",
                reason=drift.kind.value,
                account=drift.name,
                detail=drift.detail,
            )

    def _tell_missing(self) -> None:
        """Tell of devices that were enrolled before they got accounts: the broker may shut them out."""
        there = [device for device in self._registry if device.status is not DeviceStatus.REVOKED]
        names = sorted(each.name for each in there if each.auth is not Auth.TOKEN and not any(_accounts(each)))
        if names:
            self._raise(ISSUE_MISSING, ISSUE_MISSING, names=", ".join(names))
        else:
            ir.async_delete_issue(self._hass, DOMAIN, ISSUE_MISSING)

    def _tell_problem(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            self._audit.record(
                "broker_accounts_pending", outcome="failed", reason="broker_accounts_pending", detail=problem
            )

        self.problem = problem
        if problem is None:
            ir.async_delete_issue(self._hass, DOMAIN, ISSUE_UNREACHABLE)
        else:
            self._raise(ISSUE_UNREACHABLE, ISSUE_UNREACHABLE, problem=problem)
        for device_id in self.revoking:
            device = self._registry.get(device_id)
            name = device_id if device is None else device.name
            self._raise(f"{ISSUE_REVOKING}_{device_id}", ISSUE_REVOKING, name=name)

    def _raise(
        self, issue_id: str, key: str, *, facts: dict[str, str | int | float | None] | None = None, **placeholders: str
    ) -> None:
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            issue_id,
            data=facts,
            is_fixable=facts is not None,
            severity=ir.IssueSeverity.WARNING,
            translation_key=key,
            translation_placeholders=placeholders,
        )


def _accounts(device: Device) -> Iterable[Account]:
    """Yield the accounts that a device should have: one for each password, and one for all of its certificates."""
    if device.status is DeviceStatus.REVOKED:
        return
    now = time()
    enabled = device.status is DeviceStatus.ACTIVE
    usable = [each for each in device.credentials if each.state is not CredentialState.REVOKED and now < each.until]
    for each in usable:
        if each.kind is CredentialKind.PASSWORD:
            yield Account(
                username=account_name(device.device_id, each),
                device_id=device.device_id,
                client_id=device.device_id,
                password=each.secret.decode(),
                enabled=enabled,
            )
    if any(each.kind is CredentialKind.CERTIFICATE for each in usable):
        yield Account(
            username=device.device_id, device_id=device.device_id, client_id=device.device_id, enabled=enabled
        )


def _role(prefix: str, device: Device) -> Role:
    up = list(Channel) if device.actuators else [Channel.HELLO, Channel.TELEMETRY, Channel.STATUS]
    down = list(Downlink) if device.actuators else [Downlink.SESSION]
    return role_of(prefix, device.device_id, up, down)
