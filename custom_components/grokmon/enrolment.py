"""Enrolment: the device registry in step with the subentries and the security store."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
import logging
from time import time
from types import MappingProxyType
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry, ConfigSubentry
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr, issue_registry as ir
from homeassistant.helpers.typing import UNDEFINED, UndefinedType

from .audit_log import AuditLog
from .broker.address import others_accounts
from .choices import Choices, Method
from .const import (
    CONF_BROKER,
    CONF_DEVICE_ID,
    CONF_STALE_AFTER,
    DEFAULT_STALE_AFTER,
    DOMAIN,
    MANUFACTURER,
    SUBENTRY_DEVICE,
    SUBENTRY_ZONE,
)
from .coordinator import DeviceCoordinator
from .gateway import credentials, lifecycle
from .gateway.errors import Code, RegistryError
from .gateway.models import Algorithm, Auth, Credential, Device, DeviceStatus
from .gateway.pipeline import Gateway
from .gateway.principals import Caller
from .gateway.registry import check
from .gateway.topics import RESERVED_IDS
from .store import SecurityRecord, SecurityStore
from .turns import Changes
from .unique_ids import async_remove_entities

_LOGGER = logging.getLogger(__name__)

_STATUS_EVENTS: Final = {
    DeviceStatus.ACTIVE: "enabled",
    DeviceStatus.DISABLED: "disabled",
    DeviceStatus.REVOKED: "revoked",
}

type AddEntities = Callable[[DeviceCoordinator, frozenset[str]], None]


class Enrolment:
    """Enrol, change, disable, revoke and remove devices.

    Subentries hold what the user chose, the store what is secret or decided; the registry is made from both. `silenced`
    is called with a device that may not be spoken to any more, `changed` with a device before and after a change that
    the broker has to know of; `has_accounts` tells whether devices get accounts there.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry[Any],
        gateway: Gateway,
        store: SecurityStore,
        audit: AuditLog,
        *,
        hub_device_id: str,
        silenced: Callable[[str], None],
        changed: Callable[[Device | None, Device | None], None],
        has_accounts: Callable[[], bool],
    ) -> None:
        self._hass = hass
        self._entry = entry
        self._gateway = gateway
        self._store = store
        self._audit = audit
        self._hub_device_id = hub_device_id
        self._silenced = silenced
        self._changed = changed
        self._has_accounts = has_accounts
        self._adders: list[AddEntities] = []
        self._without_credential: set[str] = set()
        # Credential and status of a device are in one record: whoever changes one must not undo the other.
        self._changing = Changes()
        self.coordinators: dict[str, DeviceCoordinator] = {}

    @callback
    def async_add_platform(self, add: AddEntities) -> None:
        """Let a platform add its entities for every device, now and later, by their keys."""
        for coordinator in self.coordinators.values():
            add(coordinator, coordinator.keys)
        self._adders.append(add)

    def zone_name(self, zone: str | None) -> str | None:
        """Return the name of a zone by the identifier of its subentry."""
        subentry = self._entry.subentries.get(zone) if zone is not None else None
        return subentry.title if subentry is not None else None

    def zone_named(self, name: str) -> str | None:
        """Return the identifier of the zone with this name."""
        zones = (each for each in self._entry.subentries.values() if each.subentry_type == SUBENTRY_ZONE)
        return next((each.subentry_id for each in zones if each.title.casefold() == name.casefold()), None)

    def check(self, choices: Choices) -> None:
        """Refuse choices that the registry would not take. Raises RegistryError."""
        check(choices.device(self._store.state.devices[choices.device_id]))

    def is_reserved(self, device_id: str) -> bool:
        """Tell whether an identifier is kept for the gateway itself, or is the name of another's account."""
        return device_id in (*RESERVED_IDS, *others_accounts(self._hass, self._entry.options.get(CONF_BROKER, {})))

    def prepare(self, choices: Choices, method: Method, public_key: str = "") -> SecurityRecord:
        """Return the security record for a new device, not yet kept. Raises RegistryError."""
        self._refuse_known(choices.device_id)
        if self.is_reserved(choices.device_id):
            raise RegistryError(Code.DEVICE_ID_INVALID, choices.device_id)
        now, fresh = time(), list[Credential]()
        if method.auth is Auth.SIGNED:
            fresh.append(self.async_issue_key(method.algorithm, now, public_key))
        if method.auth is Auth.TOKEN:
            fresh.append(credentials.issue_token(now))
        elif self._has_accounts():
            fresh.append(credentials.issue_password(now))
        record = SecurityRecord(tuple(fresh), method.auth)
        check(choices.device(record))
        return record

    async def async_admit(self, fresh: Mapping[str, SecurityRecord], actor: str) -> None:
        """Keep the records of new devices, all or none; their subentries follow.

        Raises RegistryError when somebody was faster.
        """
        async with self._changing:
            for device_id in fresh:
                self._refuse_known(device_id)
            await self._store.async_keep(fresh)
            facts = {
                device_id: {"auth": record.auth.value, "key_ids": [each.key_id for each in record.credentials]}
                for device_id, record in fresh.items()
            }
            await self._async_put_on_record("enrolled", actor, facts)

    async def async_enrol(self, choices: Choices, method: Method, public_key: str, actor: str) -> Device:
        """Enrol a device, with its subentry."""
        (device,) = await self.async_enrol_all([(choices, self.prepare(choices, method, public_key))], actor)
        return device

    async def async_enrol_all(self, prepared: Sequence[tuple[Choices, SecurityRecord]], actor: str) -> list[Device]:
        """Enrol devices, with their subentries: all of them, or none. Raises RegistryError."""
        await self.async_admit({choices.device_id: record for choices, record in prepared}, actor)
        # A task that goes on without whoever asked, and that a reload waits for: all of them.
        chosen = [choices for choices, _ in prepared]
        await asyncio.shield(
            self._entry.async_create_task(self._hass, self._async_add_subentries(chosen), "grokmon enrol")
        )
        return [self._gateway.registry[choices.device_id] for choices in chosen]

    async def _async_add_subentries(self, chosen: Iterable[Choices]) -> None:
        for choices in chosen:
            subentry = ConfigSubentry(
                data=MappingProxyType(choices.as_data()),
                subentry_type=SUBENTRY_DEVICE,
                title=choices.name,
                unique_id=choices.device_id,
            )
            self._hass.config_entries.async_add_subentry(self._entry, subentry)
            self.async_sync()
            # Each takes milliseconds, and there may be a thousand.
            await asyncio.sleep(0)

    async def async_change_credentials(
        self, device_id: str, change: Callable[[Device], lifecycle.Credentials], action: str, actor: str, **details: Any
    ) -> Device:
        """Keep what a change makes of a device's credentials, and go by it. Raises RegistryError for a revoked one."""
        async with self._changing:
            while True:
                before = self._gateway.registry[device_id]
                if before.status is DeviceStatus.REVOKED:
                    raise RegistryError(Code.DEVICE_REVOKED, device_id)
                changed = change(before)
                if changed == before.credentials:
                    return before
                await self._store.async_keep({device_id: replace(SecurityRecord.of(before), credentials=changed)})
                key_ids = [each.key_id for each in changed if each not in before.credentials]
                await self._async_put_on_record(action, actor, {device_id: {"key_ids": key_ids, **details}})
                # First uses do not wait for the disk: after one, and there is one for each credential, what is to be
                # changed is another.
                if self._gateway.registry[device_id].credentials == before.credentials:
                    return self._take(before, changed)

    @callback
    def async_take_credentials(self, device_id: str, changed: tuple[Credential, ...], action: str, key_id: str) -> None:
        """Go by other credentials of a device at once, and keep them as soon as can be."""
        self._take(self._gateway.registry[device_id], changed)
        self._audit.record(action, device=device_id, key_id=key_id)
        # A task that a reload waits for: what was forgotten would be accepted again.
        self._entry.async_create_task(self._hass, self._async_keep_changed(device_id), "grokmon keep credentials")

    @callback
    def async_issue_key(self, algorithm: Algorithm, now: float, public_key: str) -> Credential:
        """Return a new key, and see that the site has one of its algorithm. Raises RegistryError."""
        credential = credentials.issue(algorithm, now, public_key)
        if algorithm is not Algorithm.HS256 and algorithm not in self._store.state.site_keys:
            self._store.state.site_keys[algorithm] = credentials.new_site_key(algorithm)
        return credential

    async def async_set_status(self, device_id: str, status: DeviceStatus, actor: str) -> Device:
        """Enable, disable or revoke a device. The secrets of a revoked device are destroyed."""
        async with self._changing:
            registry = self._gateway.registry
            before = registry[device_id]
            if status is DeviceStatus.REVOKED:
                registry.set_credentials(device_id, lifecycle.revoke_all(before.credentials))
            changed = self._apply(registry.set_status(device_id, status))
            if status is not DeviceStatus.ACTIVE:
                self.coordinators[device_id].async_set_offline()
                self._silenced(device_id)
            key_ids = [each.key_id for each in before.credentials]
            self._audit.record(_STATUS_EVENTS[status], device=device_id, key_ids=key_ids, actor=actor)
            # Not taken back when the disk fails: the device is refused all the same, and a later write keeps it so.
            self._store.state.devices[device_id] = SecurityRecord.of(changed)
            # The broker need not wait for the disk.
            self._changed(before, changed)
            await self._store.async_save()
            await self._audit.async_flush(mark=False)
            return changed

    @callback
    def async_show(self, device_id: str, firmware: str | None, model: str | UndefinedType | None = UNDEFINED) -> None:
        """Show which firmware, and which model, a device says that it is."""
        entry = self.coordinators[device_id].device_entry
        dr.async_get(self._hass).async_update_device(entry.id, sw_version=firmware, model=model)

    async def async_start(self) -> None:
        """Take up every enrolled device, and forget the credentials of those that are no more."""
        self.async_sync()
        records = self._store.state.devices
        if orphans := records.keys() - self._subentries().keys():
            # They were removed while nobody was there to follow.
            for each in orphans:
                chosen = Choices(device_id=each, name=each, zone=None, metrics=frozenset(), ranges={})
                self._changed(chosen.device(records[each]), None)
            await self.async_forget(orphans, "system")

    async def async_stop(self) -> None:
        """Change nothing more, and wait for what is under way: the trail is about to be closed."""
        await self._changing.async_end()

    @callback
    def async_sync(self) -> frozenset[str]:
        """Bring registry, coordinators and entities in step with the subentries; return the devices that are gone."""
        wanted = self._subentries()
        for subentry in wanted.values():
            self._sync_device(subentry)
        for device_id in self._without_credential - wanted.keys():
            self._without_credential.remove(device_id)
            ir.async_delete_issue(self._hass, DOMAIN, _issue_id(device_id))
        gone = frozenset(self.coordinators.keys() - wanted.keys())
        for device_id in gone:
            del self.coordinators[device_id]
            self._changed(self._gateway.registry.remove(device_id), None)
            self._gateway.dismiss(device_id)
        return gone

    def _refuse_known(self, device_id: str) -> None:
        if device_id in self._store.state.devices or device_id in self._subentries():
            raise RegistryError(Code.DEVICE_EXISTS, device_id)

    def _subentries(self) -> dict[str, ConfigSubentry]:
        return {
            subentry.data[CONF_DEVICE_ID]: subentry
            for subentry in self._entry.subentries.values()
            if subentry.subentry_type == SUBENTRY_DEVICE
        }

    async def async_forget(self, device_ids: Iterable[str], actor: str) -> None:
        """Forget what is kept of devices that were removed. Raises HomeAssistantError when the disk does not follow."""
        for device_id in device_ids:
            self._store.state.devices.pop(device_id, None)
            self._audit.record("removed", device=device_id, actor=actor)
        await self._store.async_save()

    async def _async_put_on_record(self, action: str, actor: str, kept: Mapping[str, Mapping[str, Any]]) -> None:
        """Have the trail hold what was kept of devices, before it takes effect.

        Raises RegistryError where it cannot: nothing comes of it then, which is on record, too. What time does only
        takes away, and does not wait.
        """
        for device_id, facts in kept.items():
            self._audit.record(action, device=device_id, actor=actor, **facts)
        await self._audit.async_flush(mark=False)
        if self._audit.healthy or actor == Caller.SYSTEM:
            return
        code, devices = Code.AUDIT_UNAVAILABLE, self._store.state.devices
        for device_id, facts in kept.items():
            self._audit.record(action, outcome="failed", reason=code.value, device=device_id, actor=actor, **facts)
            # As it is now: a first use did not wait for the disk.
            if (device := self._gateway.registry.get(device_id)) is not None:
                devices[device_id] = SecurityRecord.of(device)
            else:
                devices.pop(device_id, None)
        await self._store.async_save()
        raise RegistryError(code)

    def _sync_device(self, subentry: ConfigSubentry) -> None:
        choices = Choices.from_subentry(subentry)
        record = self._store.state.devices.get(choices.device_id)
        if record is None:
            self._without_credential.add(choices.device_id)
            ir.async_create_issue(
                self._hass,
                DOMAIN,
                _issue_id(choices.device_id),
                is_fixable=False,
                severity=ir.IssueSeverity.ERROR,
                translation_key="credential_missing",
                translation_placeholders={"name": choices.name},
            )
            return
        ir.async_delete_issue(self._hass, DOMAIN, _issue_id(choices.device_id))
        device = choices.device(record)
        coordinator = self.coordinators.get(choices.device_id)
        if coordinator is None:
            self._add(subentry.subentry_id, device)
        elif not choices.hold_for(coordinator.device):
            self._change(coordinator, choices)

    def _add(self, subentry_id: str, device: Device) -> None:
        self._gateway.admit(self._gateway.registry.enrol(device))
        stale_after = self._entry.options.get(CONF_STALE_AFTER, DEFAULT_STALE_AFTER)
        coordinator = DeviceCoordinator(subentry_id, device, self._register(subentry_id, device), stale_after)
        self.coordinators[device.device_id] = coordinator
        self._changed(None, device)
        for add in self._adders:
            add(coordinator, coordinator.keys)

    def _change(self, coordinator: DeviceCoordinator, choices: Choices) -> None:
        before = coordinator.keys
        was = coordinator.device
        device = self._apply(
            self._gateway.registry.update(
                choices.device_id,
                name=choices.name,
                zone=choices.zone,
                metrics=choices.metrics,
                actuators=choices.actuators,
                ranges=choices.ranges,
                rate_limit=choices.rate_limit,
            )
        )
        self._audit.record("changed", actor="user", device=device.device_id)
        self._changed(was, device)
        async_remove_entities(self._hass, self._entry.entry_id, device.device_id, before - coordinator.keys)
        if fresh := coordinator.keys - before:
            for add in self._adders:
                add(coordinator, fresh)
        self._register(coordinator.subentry_id, device)

    def _register(self, subentry_id: str, device: Device) -> dr.DeviceEntry:
        """Bring Home Assistant's device up to date: once for all of its entities, which is a third of a start."""
        return dr.async_get(self._hass).async_get_or_create(
            config_entry_id=self._entry.entry_id,
            config_subentry_id=subentry_id,
            identifiers={(DOMAIN, device.device_id)},
            manufacturer=MANUFACTURER,
            name=device.name,
            serial_number=device.device_id,
            suggested_area=self.zone_name(device.zone),
            via_device_id=self._hub_device_id,
        )

    def _apply(self, device: Device) -> Device:
        self._gateway.admit(device)
        self.coordinators[device.device_id].async_update_device(device)
        return device

    def _take(self, before: Device, changed: tuple[Credential, ...]) -> Device:
        after = self._apply(self._gateway.registry.set_credentials(before.device_id, changed))
        self._changed(before, after)
        return after

    async def _async_keep_changed(self, device_id: str) -> None:
        try:
            async with self._changing:
                if (device := self._gateway.registry.get(device_id)) is None:
                    return
                # Not taken back when the disk fails: it is so all the same, and a later write keeps it.
                self._store.state.devices[device_id] = SecurityRecord.of(device)
                await self._store.async_save()
        except HomeAssistantError:
            _LOGGER.exception("The first use of new credentials of %s was not kept", device_id)


def _issue_id(device_id: str) -> str:
    return f"credential_missing_{device_id}"
