"""The credential keeper: rotate, restore, and tell in time what expires."""

from collections.abc import Callable, Iterable
import logging
from math import inf
from time import time
from typing import Any, Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.util import dt as dt_util

from .const import DOMAIN
from .enrolment import Enrolment
from .gateway import credentials, lifecycle
from .gateway.errors import Code, GatewayError, RegistryError
from .gateway.models import Algorithm, Auth, Credential, CredentialKind, CredentialState, Device, DeviceStatus
from .gateway.registry import DeviceRegistry

_LOGGER = logging.getLogger(__name__)

ISSUE_EXPIRES: Final = "credential_expires"
ISSUE_SILENT: Final = "silent_after_rotation"
_EVERY_S: Final = 3600.0
# For so long a message may be on its way that was sent before its sender was shut out.
_ON_ITS_WAY_S: Final = 30.0


class CredentialKeeper:
    """Keep the credentials of all devices fit for use.

    `has_accounts` tells whether devices get accounts at the broker.
    """

    def __init__(
        self, hass: HomeAssistant, registry: DeviceRegistry, enrolment: Enrolment, has_accounts: Callable[[], bool]
    ) -> None:
        self._hass = hass
        self._registry = registry
        self._enrolment = enrolment
        self._has_accounts = has_accounts
        # Since when the broker lets nobody in with a password that has ended, by its key ID.
        self._shut_at: dict[str, float] = {}
        self._looked_at = 0.0

    async def async_rotate(
        self,
        device_id: str,
        actor: str,
        *,
        kinds: Iterable[CredentialKind] | None = None,
        public_key: str = "",
        overlap: float = lifecycle.OVERLAP,
    ) -> Device:
        """Give a device new credentials of some kinds, or of all that it has; the old ones end after the overlap.

        A password for its account at the broker is among them also where it was enrolled before there were accounts.
        Certificates are not among them: they are signed on request. Raises RegistryError.
        """

        def rotated(device: Device) -> tuple[Credential, ...]:
            has = {each.kind for each in lifecycle.current(device.credentials)} - {CredentialKind.CERTIFICATE}
            if device.auth is not Auth.TOKEN and self._has_accounts():
                has.add(CredentialKind.PASSWORD)
            wanted = has if kinds is None else has.intersection(kinds)
            if not wanted:
                raise RegistryError(Code.CREDENTIAL_UNKNOWN, device_id)
            # One time for all: what is issued together is restored together.
            now, changed = time(), device.credentials
            for kind in sorted(wanted):
                changed = lifecycle.rotate(changed, self._fresh(device, kind, now, public_key), now, overlap)
            return changed

        return await self._async_change(device_id, rotated, "rotated", actor, overlap_s=round(overlap))

    async def async_add(
        self, device_id: str, credential: Credential, actor: str, overlap: float = lifecycle.OVERLAP
    ) -> Device:
        """Give a device a credential of a kind; one of the same kind ends after the overlap. Raises RegistryError."""
        return await self._async_change(
            device_id,
            lambda device: lifecycle.rotate(device.credentials, credential, time(), overlap),
            "issued",
            actor,
            kind=credential.kind.value,
            overlap_s=round(overlap),
        )

    async def async_restore(self, device_id: str, actor: str, *, offered: bool = False) -> Device:
        """Put in use again what was replaced last. Raises RegistryError when there is nothing of that kind left.

        What was `offered` is done only while it still is: the device may have taken up the new ones since, or somebody
        else restored the old ones, and what was replaced before those is nothing that the device has.
        """

        def restored(device: Device) -> tuple[Credential, ...]:
            changed = lifecycle.restore(device.credentials, time())
            if changed == device.credentials or (offered and not self._offers(device_id)):
                raise RegistryError(Code.CREDENTIAL_UNKNOWN, device_id)
            return changed

        device = await self._async_change(device_id, restored, "credential_restored", actor)
        self.async_heard(device_id)
        return device

    def can_restore(self, device: Device) -> bool:
        """Tell whether there is something to restore."""
        return bool(lifecycle.replaced_last(device.credentials, time()))

    def due(self, now: float) -> list[Device]:
        """Return the devices that have something to replace soon."""
        return [device for device in self._registry if lifecycle.due(device.credentials, now)]

    @callback
    def async_first_used(self, device_id: str, key_id: str) -> None:
        """Take note that a device took up a credential: what it replaced is over from here on."""
        changed = lifecycle.first_used(self._registry[device_id].credentials, key_id, time())
        self._enrolment.async_take_credentials(device_id, changed, "first_used", key_id)
        self.async_heard(device_id)

    @callback
    def async_silent(self, device_id: str) -> None:
        """Offer to restore the old credentials of a device that has fallen silent after a rotation."""
        device = self._registry[device_id]
        if device.status is not DeviceStatus.ACTIVE or not self._may_miss_new_credentials(device, time()):
            self.async_heard(device_id)
            return
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            f"{ISSUE_SILENT}_{device_id}",
            data={"issue": ISSUE_SILENT, "device_id": device_id},
            is_fixable=True,
            severity=ir.IssueSeverity.WARNING,
            translation_key=ISSUE_SILENT,
            translation_placeholders={"name": device.name},
        )

    @callback
    def async_shut(self) -> None:
        """Note that the broker was brought in step: what has ended opens nothing there any more."""
        now = time()
        ended = [each.key_id for device in self._registry for each in device.credentials if each.ends <= now]
        self._shut_at = {key_id: self._shut_at.get(key_id, now) for key_id in ended}

    @callback
    def async_heard(self, device_id: str) -> None:
        """Withdraw the offer: the device is heard, or there is nothing to offer any more."""
        ir.async_delete_issue(self._hass, DOMAIN, f"{ISSUE_SILENT}_{device_id}")

    def is_due(self, now: float) -> bool:
        """Tell whether an hour has passed since the last look."""
        return not 0.0 <= now - self._looked_at < _EVERY_S

    async def async_look(self, now: float) -> None:
        """Do to the credentials what time does to them, and tell what expires."""
        first, self._looked_at = not self._looked_at, now
        for device in list(self._registry):
            try:
                await self._enrolment.async_change_credentials(
                    device.device_id, lambda known: lifecycle.settle(known.credentials, now), "settled", "system"
                )
            except GatewayError:
                # It is revoked, or was removed while the disk was waited for.
                continue
            except HomeAssistantError:
                _LOGGER.exception("What time did to the credentials of %s was not kept", device.name)
                break
        for device in self._registry:
            self._tell(device, now)
            # One that was not heard since the start cannot fall silent, but had an hour for a word.
            if not first and not self._enrolment.coordinators[device.device_id].online:
                self.async_silent(device.device_id)

    @callback
    def async_forget(self, device_id: str) -> None:
        """Drop the issues of a device that is no more."""
        self.async_heard(device_id)
        ir.async_delete_issue(self._hass, DOMAIN, f"{ISSUE_EXPIRES}_{device_id}")

    async def _async_change(
        self,
        device_id: str,
        change: Callable[[Device], tuple[Credential, ...]],
        action: str,
        actor: str,
        **details: Any,
    ) -> Device:
        """Change the credentials of a device, and tell anew whether they expire soon. Raises RegistryError."""
        device = await self._enrolment.async_change_credentials(device_id, change, action, actor, **details)
        self._tell(device, time())
        return device

    def _offers(self, device_id: str) -> bool:
        return ir.async_get(self._hass).async_get_issue(DOMAIN, f"{ISSUE_SILENT}_{device_id}") is not None

    @callback
    def _tell(self, device: Device, now: float) -> None:
        issue_id = f"{ISSUE_EXPIRES}_{device.device_id}"
        due = lifecycle.due(device.credentials, now)
        if not due or device.status is DeviceStatus.REVOKED:
            ir.async_delete_issue(self._hass, DOMAIN, issue_id)
            return
        first = min(due, key=lambda each: each.not_after)
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            issue_id,
            is_fixable=False,
            severity=ir.IssueSeverity.WARNING,
            translation_key=f"{ISSUE_EXPIRES}_{first.kind.value}",
            translation_placeholders={
                "name": device.name,
                "date": dt_util.as_local(dt_util.utc_from_timestamp(first.not_after)).date().isoformat(),
            },
        )

    def _fresh(self, device: Device, kind: CredentialKind, now: float, public_key: str) -> Credential:
        match kind:
            case CredentialKind.PASSWORD:
                return credentials.issue_password(now)
            case CredentialKind.TOKEN:
                return credentials.issue_token(now)
            case _:
                algorithm = Algorithm.HS256 if device.key is None else device.key.algorithm
                return self._enrolment.async_issue_key(algorithm, now, public_key)

    def _may_miss_new_credentials(self, device: Device, now: float) -> bool:
        """Tell whether a rotation may be why a device is silent: what it took up is not to be taken away again.

        Who was heard when an old password opened nothing any more has the new one. A certificate may open the broker
        until that has read the list.
        """
        newest = {each.kind: each for each in lifecycle.current(device.credentials)}
        replaced = lifecycle.replaced_last(device.credentials, now)
        telling = [newest[each.kind] for each in replaced if each.kind.tells]
        if telling:
            return any(each.state is CredentialState.PENDING for each in telling)
        heard_at = self._enrolment.coordinators[device.device_id].last_heard
        return any(
            each.kind is not CredentialKind.PASSWORD or heard_at < self._shut_at.get(each.key_id, inf) + _ON_ITS_WAY_S
            for each in replaced
        )
