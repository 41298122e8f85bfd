"""Security state on disk: credentials, the site's keys, and the sessions of a graceful stop.

Config entries are stored readable by everybody; these files are private, and what is secret in them is sealed. A write
is read back before it counts.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
import logging
from math import inf
from secrets import token_bytes, token_urlsafe
from typing import Any, Final

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError

from .checked_store import SECURITY, CheckedStore
from .gateway import credentials
from .gateway.access_tokens import KEY_BYTES
from .gateway.authority import Authority, key_pem, load_authority
from .gateway.models import (
    Algorithm,
    Auth,
    Credential,
    CredentialKind,
    CredentialState,
    Device,
    DeviceStatus,
    PrivateKey,
)
from .gateway.vault import KEK_BYTES, Vault, VaultError
from .kek import Kek

_LOGGER = logging.getLogger(__name__)

_AUDIT: Final = "audit"
_JOURNAL: Final = "journal"
_TOKEN: Final = "token"  # noqa: S105 - an owner
_ADMIN: Final = "broker/admin"
_PROBE: Final = "broker/probe"
_AUTHORITY: Final = "authority"


@dataclass(frozen=True, slots=True)
class SecurityRecord:
    """What is secret or decided about one device."""

    credentials: tuple[Credential, ...] = ()
    auth: Auth = Auth.SIGNED
    status: DeviceStatus = DeviceStatus.ACTIVE

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], unseal: Callable[[str, str], bytes], owner: str) -> SecurityRecord:
        """Return the record that `as_dict` wrote. Raises VaultError when a secret of it cannot be unsealed."""
        return cls(
            tuple(_credential_from(each, unseal, owner) for each in data["credentials"]),
            Auth(data["auth"]),
            DeviceStatus(data["status"]),
        )

    @classmethod
    def of(cls, device: Device) -> SecurityRecord:
        """Return the record of a device."""
        return cls(device.credentials, device.auth, device.status)

    def as_dict(self, vault: Vault, owner: str) -> dict[str, Any]:
        """Return the record as JSON, its secrets sealed for their owner."""
        return {
            "credentials": [_credential_data(each, vault, owner) for each in self.credentials],
            "auth": self.auth.value,
            "status": self.status.value,
        }


@dataclass(slots=True)
class BrokerState:
    """What is secret or decided about the broker.

    `admin_password` is that of its administration, `probe_password` that of the probe's two accounts. `revoking` holds
    the accounts of revoked devices that the broker may still have, by device. `files_unread` is set before files are
    written for it, until an administrator has confirmed that it has read them.
    """

    admin_password: str = field(default="", repr=False)
    probe_password: str = field(default_factory=lambda: token_urlsafe(KEK_BYTES), repr=False)
    revoking: dict[str, list[str]] = field(default_factory=dict)
    files_unread: bool = False


@dataclass(slots=True)
class AuthorityState:
    """The certificate authority in use, then the one before it; and when a serial number was revoked."""

    authorities: list[Authority] = field(default_factory=list)
    revoked: dict[str, float] = field(default_factory=dict)
    revocation_list: str = ""
    number: int = 0


@dataclass(slots=True)
class SecurityState:
    """Everything that the security store holds.

    `audit_key` signs checkpoints, `journal_key` encrypts what is staged, `token_key` signs access tokens.
    `acknowledged` holds what an administrator knows not to be in order, and why. `backup_at` is set while a backup is
    made: who starts with it was restored from one.
    """

    devices: dict[str, SecurityRecord] = field(default_factory=dict)
    site_keys: dict[Algorithm, PrivateKey] = field(default_factory=dict)
    audit_key: bytes = field(default_factory=lambda: token_bytes(KEK_BYTES), repr=False)
    journal_key: bytes = field(default_factory=lambda: token_bytes(KEK_BYTES), repr=False)
    token_key: bytes = field(default_factory=lambda: token_bytes(KEY_BYTES), repr=False)
    broker: BrokerState = field(default_factory=BrokerState)
    authority: AuthorityState = field(default_factory=AuthorityState)
    acknowledged: dict[str, str] = field(default_factory=dict)
    backup_at: float | None = None


class SecurityStore:
    """The private store of credentials and keys."""

    def __init__(self, hass: HomeAssistant, kek: Kek) -> None:
        self.kek = kek
        self._vault = Vault(kek.key)
        self._previous = Vault(kek.previous) if kek.previous is not None else None
        self._known: dict[str, tuple[SecurityRecord, dict[str, Any]]] = {}
        self._store = CheckedStore(hass, SECURITY)
        self._catching_up = asyncio.Lock()
        self.state = SecurityState()
        # Whether the disk refused what may hold here all the same, as that a device is revoked.
        self.behind = False

    @property
    def path(self) -> str:
        """Return where the store is on the disk."""
        return self._store.path

    async def async_load(self) -> None:
        """Read the store, or begin one. Raises VaultError when the key-encryption key is not the one it needs."""
        data = await self._store.async_load()
        if data is None:
            await self.async_save()
            return
        self.state = SecurityState(
            {
                device_id: SecurityRecord.from_dict(record, self._unseal, _owner(device_id))
                for device_id, record in data["devices"].items()
            },
            {
                Algorithm(name): credentials.load_site_key(self._unseal(sealed, f"site/{name}").decode())
                for name, sealed in data["site_keys"].items()
            },
            self._unseal(data["audit_key"], _AUDIT),
            self._unseal(data["journal_key"], _JOURNAL),
            self._unseal(data["token_key"], _TOKEN),
            BrokerState(
                self._unseal(data["broker"]["admin_password"], _ADMIN).decode(),
                self._unseal(data["broker"]["probe_password"], _PROBE).decode(),
                data["broker"]["revoking"],
                data["broker"].get("files_unread", True),
            ),
            AuthorityState(
                [
                    load_authority(each["certificate"], self._unseal(each["key"], _AUTHORITY).decode())
                    for each in data["authority"]["authorities"]
                ],
                data["authority"]["revoked"],
                data["authority"]["revocation_list"],
                data["authority"]["number"],
            ),
            data["acknowledged"],
            data["backup_at"],
        )
        if self._previous is not None:
            # From here on nothing needs the key before this one.
            await self.async_save()

    async def async_reseal(self, kek: Kek) -> None:
        """Seal everything with another key-encryption key. Raises HomeAssistantError when the disk does not hold it."""
        before = (self.kek, self._vault, self._known)
        self.kek, self._vault, self._known = kek, Vault(kek.key), {}
        try:
            await self.async_save()
        except BaseException:
            self.kek, self._vault, self._known = before
            raise

    async def async_save(self) -> None:
        """Write the store, and read it back. Raises HomeAssistantError when the disk does not hold what was written."""
        try:
            await self._store.async_save(self._sealed)
        except HomeAssistantError as error:
            if not self.behind:
                _LOGGER.warning("What was decided about devices is not on the disk, and will be tried again: %s", error)
            self.behind = True
            raise
        if self.behind:
            _LOGGER.info("What was decided about devices is on the disk")
        self.behind = False

    async def async_keep(self, changed: Mapping[str, SecurityRecord]) -> None:
        """Keep the records of devices; the disk has them when this returns. Raises HomeAssistantError."""
        devices = self.state.devices
        before = {device_id: devices.get(device_id) for device_id in changed}
        devices.update(changed)
        try:
            await self.async_save()
        except BaseException:
            for device_id, record in before.items():
                # Unless the device was removed meanwhile.
                if devices.get(device_id) is changed[device_id]:
                    if record is None:
                        del devices[device_id]
                    else:
                        devices[device_id] = record
            raise

    async def async_catch_up(self) -> None:
        """Save what the disk refused before, if it takes it now."""
        async with self._catching_up:
            if self.behind:
                # It was told when that began.
                with suppress(HomeAssistantError):
                    await self.async_save()

    async def async_close(self) -> None:
        """Save what the disk refused before, or who was revoked would be back after the next start; then no more."""
        await self.async_catch_up()
        self._store.async_close()

    async def async_mark_backup(self, at: float | None) -> None:
        """Note that a backup is being made since `at`, or none. Raises HomeAssistantError."""
        self.state.backup_at = at
        try:
            await self.async_save()
        except BaseException:
            # Whatever is written next takes it away: nobody was restored who goes on.
            self.state.backup_at = None
            raise

    def _sealed(self) -> dict[str, Any]:
        state, vault = self.state, self._vault
        return {
            "devices": self._sealed_devices(),
            "site_keys": {
                name.value: vault.seal(credentials.private_pem(key).encode(), f"site/{name.value}")
                for name, key in state.site_keys.items()
            },
            "audit_key": vault.seal(state.audit_key, _AUDIT),
            "journal_key": vault.seal(state.journal_key, _JOURNAL),
            "token_key": vault.seal(state.token_key, _TOKEN),
            "broker": {
                "admin_password": vault.seal(state.broker.admin_password.encode(), _ADMIN),
                "probe_password": vault.seal(state.broker.probe_password.encode(), _PROBE),
                "revoking": {device_id: list(accounts) for device_id, accounts in state.broker.revoking.items()},
                "files_unread": state.broker.files_unread,
            },
            "authority": {
                "authorities": [
                    {"certificate": each.certificate, "key": vault.seal(key_pem(each).encode(), _AUTHORITY)}
                    for each in state.authority.authorities
                ],
                "revoked": dict(state.authority.revoked),
                "revocation_list": state.authority.revocation_list,
                "number": state.authority.number,
            },
            "acknowledged": dict(state.acknowledged),
            "backup_at": state.backup_at,
        }

    def _sealed_devices(self) -> dict[str, dict[str, Any]]:
        """Return the records of devices as JSON. What did not change is not sealed again: there may be a thousand."""
        known, self._known = self._known, {}
        for device_id, record in self.state.devices.items():
            before = known.get(device_id)
            if before is None or before[0] is not record:
                before = record, record.as_dict(self._vault, _owner(device_id))
            self._known[device_id] = before
        return {device_id: data for device_id, (_, data) in self._known.items()}

    def _unseal(self, sealed: str, owner: str) -> bytes:
        try:
            return self._vault.unseal(sealed, owner)
        except VaultError:
            if self._previous is None:
                raise
            return self._previous.unseal(sealed, owner)


def _owner(device_id: str) -> str:
    return f"device/{device_id}"


def _credential_from(data: Mapping[str, Any], unseal: Callable[[str, str], bytes], owner: str) -> Credential:
    return Credential(
        key_id=data["key_id"],
        kind=CredentialKind(data["kind"]),
        algorithm=Algorithm(data["algorithm"]),
        created=data["created"],
        secret=unseal(data["secret"], f"{owner}/{data['key_id']}") if data["secret"] else b"",
        public_key=data["public_key"],
        state=CredentialState(data["state"]),
        not_before=data["not_before"],
        not_after=_endless(data["not_after"]),
        ends=_endless(data["ends"]),
    )


def _credential_data(credential: Credential, vault: Vault, owner: str) -> dict[str, Any]:
    return {
        "key_id": credential.key_id,
        "kind": credential.kind.value,
        "algorithm": credential.algorithm.value,
        "created": credential.created,
        "secret": vault.seal(credential.secret, f"{owner}/{credential.key_id}") if credential.secret else "",
        "public_key": credential.public_key,
        "state": credential.state.value,
        "not_before": credential.not_before,
        # JSON has no infinity.
        "not_after": credential.not_after if credential.not_after != inf else None,
        "ends": credential.ends if credential.ends != inf else None,
    }


def _endless(value: float | None) -> float:
    return inf if value is None else value
