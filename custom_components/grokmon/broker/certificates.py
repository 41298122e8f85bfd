"""Certificates of devices: the authority, the list of those that are revoked, and the files that the broker reads."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
import logging
from pathlib import Path
from time import time
from typing import Any, Final

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_track_time_interval

from custom_components.grokmon.audit_log import AuditLog
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.credential_keeper import CredentialKeeper
from custom_components.grokmon.disk import replace_file
from custom_components.grokmon.gateway import authority
from custom_components.grokmon.gateway.credentials import record_certificate
from custom_components.grokmon.gateway.errors import Code, RegistryError
from custom_components.grokmon.gateway.models import CredentialKind, CredentialState, Device, DeviceStatus
from custom_components.grokmon.store import SecurityStore
from custom_components.grokmon.turns import Turns

_LOGGER = logging.getLogger(__name__)

ISSUE_LIST: Final = "revocation_list_expires"
_HOUR: Final = timedelta(hours=1)
_DAY_S: Final = 86_400.0
# The broker locks everybody out when the list that it has read expires: told in time for someone to act.
_WARN_S: Final = 14 * _DAY_S
MAX_DAYS: Final = 730
"""The longest that a certificate may hold."""
_KEPT_S: Final = (MAX_DAYS + 1) * _DAY_S


class Certificates:
    """Sign certificates of devices, and say which no longer hold."""

    def __init__(
        self,
        hass: HomeAssistant,
        store: SecurityStore,
        audit: AuditLog,
        keeper: CredentialKeeper,
        run: Callable[[Any, str], object],
    ) -> None:
        self._hass = hass
        self._store = store
        self._audit = audit
        self._keeper = keeper
        self._run = run
        self._turns = Turns(self._async_sign_list)
        self._making = asyncio.Lock()
        # Whether what the broker reads may lag behind what was revoked: at a start nobody knows.
        self._behind = True
        self._listed: frozenset[str] = frozenset()

    @property
    def in_use(self) -> bool:
        """Tell whether there is an authority."""
        return bool(self._store.state.authority.authorities)

    @callback
    def async_start(self) -> list[CALLBACK_TYPE]:
        """Keep the list of revoked certificates fresh; return how to end that."""
        if self.in_use:
            self._run(self._async_keep_fresh(), "grokmon revocation list")
        return [async_track_time_interval(self._hass, self._hourly, _HOUR, cancel_on_shutdown=True)]

    async def async_sign(
        self, device_id: str, request_pem: str | None, days: int, actor: str, *, overlap: float
    ) -> dict[str, str]:
        """Return a certificate for a device, and what it needs beside; without a request with a new key, shown once.

        One that it had ends after the overlap, in seconds. Raises RegistryError.
        """
        issuer = await self._async_authority()
        key = ""
        if request_pem is None:
            issued, key = await self._hass.async_add_executor_job(authority.issue_for, issuer, device_id, time(), days)
        else:
            issued = await self._hass.async_add_executor_job(
                authority.sign_request, issuer, request_pem, device_id, time(), days
            )
        record = record_certificate(issued.serial, issued.certificate, time(), issued.not_after)
        await self._keeper.async_add(device_id, record, actor, overlap)
        signed = {"certificate": issued.certificate, "ca_certificate": self.bundle()}
        return signed | ({"private_key": key} if key else {})

    async def async_rotate(self, actor: str) -> None:
        """Begin with a new authority; the certificates of the one before it hold until they expire.

        Raises RegistryError while one of the authority before that holds: the broker would shut its device out.
        """
        async with self._making:
            if holders := self._holders(self._store.state.authority.authorities[1:]):
                raise RegistryError(Code.AUTHORITY_IN_USE, ", ".join(holders))
            await self._async_rotate(actor)

    async def async_stop(self) -> None:
        """Sign no other list, and wait a while for the one that is under way."""
        await self._turns.async_end()

    async def _async_rotate(self, actor: str) -> None:
        state = self._store.state.authority
        fresh = await self._hass.async_add_executor_job(authority.new_authority, time())
        before, state.authorities = state.authorities, [fresh, *state.authorities[:1]]
        try:
            await self._store.async_save()
        except BaseException:
            state.authorities = before
            raise
        self._audit.record("authority_rotated", actor=actor)
        await self._async_reissue()

    @callback
    def async_device_changed(self, before: Device | None, after: Device | None) -> None:
        """Put certificates on the list that a change has ended, or one before a crash."""
        revoked = self._store.state.authority.revoked
        ended = ((_serials(before) - _serials(after)) | _revoked(after)) - revoked.keys()
        if not ended:
            return
        self._behind = True
        revoked |= dict.fromkeys(ended, time())
        self._run(self._async_reissue(), "grokmon revocation list")

    def bundle(self) -> str:
        """Return the certificates that vouch for devices now: two while the authority is rotated."""
        return authority.trust_bundle(*self._store.state.authority.authorities)

    async def _async_authority(self) -> authority.Authority:
        async with self._making:
            if not self.in_use:
                await self._async_rotate("system")
        return self._store.state.authority.authorities[0]

    @callback
    def _hourly(self, _moment: datetime) -> None:
        if self.in_use:
            self._run(self._async_keep_fresh(), "grokmon revocation list")

    async def _async_keep_fresh(self) -> None:
        now = time()
        lists = self._store.state.authority.revocation_list
        if self._behind or self._ended(now).keys() != self._listed or authority.crl_due(lists, now):
            await self._async_reissue()
        else:
            self._tell(now)

    async def _async_reissue(self) -> None:
        """Sign the list anew, and write what the broker reads."""
        await self._turns.async_run()

    async def _async_sign_list(self) -> None:
        state = self._store.state.authority
        self._behind = False
        state.number += 1
        # A certificate that has expired needs no list to be refused.
        state.revoked = {serial: at for serial, at in state.revoked.items() if time() - at < _KEPT_S}
        number, ended = state.number, self._ended(time())
        self._listed = frozenset(ended)
        authorities = list(state.authorities)

        def sign() -> str:
            return "".join(authority.revocation_list(each, ended, number, time()) for each in authorities)

        try:
            signed = await self._hass.async_add_executor_job(sign)
            folder = Path(self._hass.config.path(DOMAIN, "broker"))
            await self._hass.async_add_executor_job(_write, folder, authority.trust_bundle(*authorities), signed)
            state.revocation_list = signed
            await self._store.async_save()
        except (OSError, HomeAssistantError) as error:
            # Tried again within the hour.
            self._behind = True
            _LOGGER.warning("The list of revoked certificates was not written: %s", error)
            self._audit.record("revocation_list", outcome="failed", reason=type(error).__name__, number=number)
        else:
            self._audit.record("revocation_list", number=number, revoked=len(ended))
        self._tell(time())

    def _holders(self, issuers: Sequence[authority.Authority]) -> list[str]:
        """Return the devices that have a certificate of one of these authorities which holds."""
        now = time()
        return sorted(
            device_id
            for device_id, record in self._store.state.devices.items()
            if any(
                authority.is_issued_by(each.public_key, issuer)
                for each in record.credentials
                for issuer in issuers
                if each.kind is CredentialKind.CERTIFICATE
                and each.state is not CredentialState.REVOKED
                and now < each.until
            )
        )

    def _ended(self, now: float) -> dict[str, float]:
        """Return since when certificates no longer hold: those that are revoked, and those whose overlap is over.

        The latter can be restored, and are on the list only until then.
        """
        known = (each for record in self._store.state.devices.values() for each in record.credentials)
        over = {
            each.key_id: each.ends
            for each in known
            if each.kind is CredentialKind.CERTIFICATE and each.ends <= now < each.not_after
        }
        return over | self._store.state.authority.revoked

    @callback
    def _tell(self, now: float) -> None:
        signed = self._store.state.authority.revocation_list
        ends = authority.crl_expires(signed) if signed else now
        if ends - now > _WARN_S:
            ir.async_delete_issue(self._hass, DOMAIN, ISSUE_LIST)
            return
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            ISSUE_LIST,
            is_fixable=False,
            severity=ir.IssueSeverity.ERROR,
            translation_key=ISSUE_LIST,
            translation_placeholders={"days": str(max(0, int((ends - now) // _DAY_S)))},
        )


def _serials(device: Device | None) -> set[str]:
    if device is None or device.status is DeviceStatus.REVOKED:
        return set()
    return {
        each.key_id for each in device.of_kind(CredentialKind.CERTIFICATE) if each.state is not CredentialState.REVOKED
    }


def _revoked(device: Device | None) -> set[str]:
    """Return the certificates that are revoked, and would be good otherwise."""
    return {
        each.key_id
        for each in (device.credentials if device is not None else ())
        if each.kind is CredentialKind.CERTIFICATE and each.state is CredentialState.REVOKED and time() < each.not_after
    }


def _write(folder: Path, bundle: str, lists: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(folder / "ca.crt", bundle.encode())
    replace_file(folder / "crl.pem", lists.encode())
