"""The hub: the subscription, the clock, and the way of a message between Home Assistant's MQTT and the gateway."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
import logging
from time import time
from typing import Final, cast

from homeassistant.components import mqtt
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import CALLBACK_TYPE, Context, Event, HomeAssistant, callback
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.util import dt as dt_util

from .alarms import Alarms, Reset
from .approvals import Approvals
from .audit_file import Opening
from .audit_keeper import audit_keeper_of
from .audit_log import AuditLog
from .backup_mark import async_is_own, async_is_running
from .callers import Callers
from .const import CONF_AI_USERS, CONF_LIMITS, CONF_TOPIC_PREFIX
from .coordinator import AI_CONTROL, HubCoordinator
from .decisions import Decisions
from .dispatch import Dispatcher
from .enrolment import Enrolment
from .gateway import topics
from .gateway.actuators import Command, Key
from .gateway.errors import Code, GatewayError, PeerError, PolicyError, SessionUnknownError, TransportError
from .gateway.models import Ack, Auth, Device, Greeting, Hello, Message, OfflineHint, Reading, Report
from .gateway.pipeline import Gateway, Incoming, Peer
from .gateway.policy import limits_from
from .gateway.principals import Principal
from .gateway.vault import Vault
from .publisher import QOS, Publisher
from .security import SecurityMonitor
from .session_store import SessionStore
from .staging import Staging
from .store import SecurityStore
from .trust import Trust
from .zones import Zones, zones_of

_LOGGER = logging.getLogger(__name__)

_TICK: Final = timedelta(seconds=10)

type GrokmonConfigEntry = ConfigEntry[GrokmonHub]


class GrokmonHub:
    """Everything of one grow room that runs."""

    def __init__(
        self, hass: HomeAssistant, entry: GrokmonConfigEntry, store: SecurityStore, audit: AuditLog, device_id: str
    ) -> None:
        self.hass = hass
        self._entry = entry
        self._sessions = SessionStore(hass)
        self.coordinator = HubCoordinator()
        self.store = store
        self.audit = audit
        self.staging = Staging(hass, audit, Vault(store.state.journal_key))
        self.keeper = audit_keeper_of(hass, entry.options, audit)
        self.prefix: str = entry.data[CONF_TOPIC_PREFIX]
        self.gateway = Gateway(self.prefix, time(), store.state.site_keys, token_key=store.state.token_key)
        self.monitor = SecurityMonitor(hass, audit, self._name_of)
        self.alarms = Alarms(hass, audit, self.monitor, self._name_of)
        self._publisher = Publisher(hass, entry)
        self.dispatcher = Dispatcher(
            hass,
            entry,
            self.gateway,
            audit,
            self.alarms,
            publish=self._publisher.async_publish_command,
            changed=self._async_outputs_changed,
        )
        self.dispatcher.controller.policy.with_limits(limits_from(entry.options.get(CONF_LIMITS, {})))
        self.enrolment = Enrolment(
            hass,
            entry,
            self.gateway,
            store,
            audit,
            hub_device_id=device_id,
            silenced=self.dispatcher.async_abandon,
            changed=self._async_device_changed,
            has_accounts=lambda: self.trust.has_accounts,
        )
        self.trust = Trust(
            hass,
            entry,
            self.prefix,
            self.enrolment,
            store,
            audit=audit,
            registry=self.gateway.registry,
            enforced=self._broker_enforced,
            keeper=self.keeper,
            monitor=self.monitor,
            coordinator=self.coordinator,
        )
        self._decisions = Decisions(hass, audit, self.monitor, self._name_of)
        self.callers = Callers(hass, frozenset(entry.options.get(CONF_AI_USERS, ())))
        self.zones = Zones(hass, entry, self.dispatcher, audit, self.enrolment.coordinators)
        self.approvals = Approvals(hass, entry, self.dispatcher, audit, self._name_of)
        self.doses: dict[Key, float] = {}
        self._asked = self.stopped = False
        self._ending = asyncio.Lock()
        self._cleanups: list[CALLBACK_TYPE] = []

    async def async_start(self, opening: Opening) -> None:
        """Take up devices and sessions, listen, and ask the devices to say hello once the broker lets us hear it."""
        await self._async_note_restored()
        await self.enrolment.async_start()
        devices = list(self.gateway.registry)
        self.gateway.sessions.restore(await self._sessions.async_take(time()), [each.device_id for each in devices])
        # From here on there is something to end, whatever else goes wrong.
        self._cleanups.append(self.hass.bus.async_listen(EVENT_HOMEASSISTANT_STOP, self.async_stop))
        await self.dispatcher.async_start(zones_of(self._entry))
        self.zones.async_sync()
        self.coordinator.values[AI_CONTROL] = self.dispatcher.controller.policy.ai_allowed
        self.audit.record("started", devices=len(devices))
        self._cleanups.append(async_track_time_interval(self.hass, self._tick, _TICK, cancel_on_shutdown=True))
        self._cleanups += [*self.callers.async_listen(), *self.approvals.async_listen()]
        self._cleanups += self.keeper.async_start(opening)
        self._cleanups += [self.staging.async_start(), self._decisions.async_listen()]
        self._cleanups += self.trust.async_start()
        subscription = topics.subscription(self.prefix)
        self._cleanups.append(await mqtt.async_subscribe(self.hass, subscription, self._receive, QOS, encoding=None))
        # An answer that comes before the broker has the subscription would be lost.
        self._cleanups.append(mqtt.async_on_subscribe_done(self.hass, subscription, QOS, self._ask_for_hellos))
        self._tick(dt_util.utcnow())

    async def async_stop(self, _event: Event | None = None) -> None:
        """Take no more messages, keep the sessions for the next start, and close the audit trail and the store."""
        async with self._ending:
            try:
                if self._cleanups:
                    await self._async_put_away()
            finally:
                await self.audit.async_flush(checkpoint=True)
                # Before the trail is closed: what becomes of the last checkpoint is on record, too.
                await self.keeper.async_finish()
                await self.audit.async_close()
                await self.store.async_close()

    async def _async_put_away(self) -> None:
        # First: a message from here on must not use up a counter that the sessions on the disk do not know of.
        self.stopped = True
        while self._cleanups:
            self._cleanups.pop(0)()
        try:
            await self.dispatcher.async_stop()
            await self.trust.async_stop()
            await self.enrolment.async_stop()
            await self._sessions.async_put(self.gateway.sessions.snapshot(), time())
            await self.staging.async_flush()
        finally:
            self.monitor.async_tick(time(), self.gateway.accepted, closing=True)
            self.audit.record("stopped")

    async def _async_note_restored(self) -> None:
        """Tell that this start is one from a backup: what was revoked or used up since then is not known here."""
        at = self.store.state.backup_at
        if at is None or async_is_running(self.hass):
            return
        if not async_is_own(self.hass, at):
            self.audit.record("restored", outcome="found", backup_at=round(at))
            await self._sessions.async_remove()
            self.keeper.async_restored(at)
        await self.store.async_mark_backup(None)

    async def async_follow(self) -> None:
        """Follow a change of the subentries."""
        before = dict(self.dispatcher.controller.zones)
        gone = self.enrolment.async_sync()
        self.dispatcher.async_configure(zones_of(self._entry))
        self.zones.async_sync()
        self.zones.async_record_changes(before)
        # Last: nothing above is to wait for the disk, or to be left out when it fails.
        if gone:
            await self.enrolment.async_forget(gone, "user")

    async def async_command(self, command: Command, who: Principal) -> None:
        """Carry out a command for somebody; what needs approval is put to the administrators, and still refused now.

        Raises PolicyError or CommandError.
        """
        try:
            await self.dispatcher.async_send(command, who)
        except PolicyError as error:
            if error.code is Code.APPROVAL_REQUIRED:
                self.approvals.async_request(command, who)
            raise

    async def async_reset_interlocks(self, zone_id: str, actor: str) -> Reset:
        """Reset what is latched in a zone; return what was reset, and what stays since its condition holds."""
        result = self.alarms.async_reset_zone(self.dispatcher.controller, zone_id, actor)
        await self._async_settings_changed()
        return result

    async def async_reset_fault(self, key: Key, actor: str) -> None:
        """Let an output be used again after a fault. Raises PolicyError for an unknown one."""
        self.alarms.async_reset_fault(self.dispatcher.controller, key, actor)
        self._async_outputs_changed(key.device_id)
        await self._async_settings_changed()

    async def async_stop_all(self, keys: list[Key], context: Context | None) -> None:
        """Switch outputs off for whoever asks. Raises GatewayError when one of them is not known to be off."""
        who = await self.callers.async_identify(context)
        for error in await self.dispatcher.async_stop_outputs(keys, who):
            raise error

    async def async_allow_ai(self, allowed: bool, who: Principal) -> None:
        """Let the AI act, or not: at once, and for what it has switched on already, too."""
        if self.dispatcher.controller.policy.ai_allowed is not allowed:
            self.dispatcher.controller.policy.ai_allowed = allowed
            self.audit.record("ai_allowed" if allowed else "ai_blocked", who=who)
            self.coordinator.async_set(AI_CONTROL, allowed)
        await self._async_settings_changed()

    async def async_override_photoperiod(self, zone_id: str, minutes: float, actor: str) -> None:
        """Let lights burn in the dark period of a zone for some time; 0 ends that."""
        until = self.dispatcher.clock.now().steady + minutes * 60.0
        self.dispatcher.controller.policy.overrides[zone_id] = until
        self.audit.record("photoperiod_override", zone=zone_id, minutes=minutes, actor=actor)
        await self._async_settings_changed()

    async def _async_settings_changed(self) -> None:
        self.zones.async_refresh()
        await self.dispatcher.async_changed_by_hand()

    def refused_by_code(self, device_id: str | None) -> dict[str, int]:
        """Return how many messages of a device were refused, by code; None is every device that is not enrolled."""
        return {code.value: count for (known, code), count in self.gateway.refused.items() if known == device_id}

    @callback
    def _ask_for_hellos(self) -> None:
        """Ask devices to say hello: all of them once, for what they sent meanwhile; then those without a session."""
        now = time()
        everybody, self._asked = not self._asked, True
        self._publisher.async_publish(
            *(
                request
                for device in self.gateway.registry
                if everybody or self.gateway.sessions.active_sid(device.device_id) is None
                for request in self.gateway.hello_requests(device.device_id, now)
            )
        )

    @callback
    def _receive(self, message: mqtt.ReceiveMessage) -> None:
        now = time()
        device_id, channel = topics.split(self.prefix, message.topic)
        payload = cast("bytes", message.payload)
        try:
            result = self.gateway.ingest(Message(device_id, channel, payload, message.retain), now)
            self._take(result, now)
        except GatewayError as error:
            self._refused(device_id, error, payload, now)

    @callback
    def async_authenticate(self, token: bytes, now: float) -> Peer:
        """Return who an access token stands for. Raises GatewayError."""
        try:
            return self.gateway.authenticate(token, now)
        except GatewayError as error:
            self.monitor.async_refused(self._peer_of(error), error, b"", now)
            raise

    @callback
    def async_receive_http(self, peer: Peer, content_type: str, payload: bytes, now: float) -> int:
        """Take over what an authenticated device sends over HTTP; return how many readings. Raises GatewayError."""
        try:
            readings = self.gateway.ingest_http(peer, content_type, payload, now)
        except GatewayError as error:
            self.monitor.async_refused(peer.device_id, error, payload, now)
            self.staging.async_rejected(peer.device_id, error.code.value, payload, now)
            raise
        for reading in readings:
            self._hear(reading, now)
        return len(readings)

    @callback
    def async_refused_http(self, error: GatewayError, address: str, now: float) -> None:
        """Count and record what was refused over HTTP, unless that was done where it was refused."""
        if error.told:
            return
        device_id = self._peer_of(error)
        self.gateway.count_refusal(device_id or "", error)
        self.monitor.async_refused(device_id, TransportError(error.code, error.detail or address), b"", now)

    def _peer_of(self, error: GatewayError) -> str | None:
        """Return the device that a refusal is about, where it is one of the registry."""
        named = error.device_id if isinstance(error, PeerError) else None
        return named if named in self.gateway.registry else None

    @callback
    def _take(self, result: Incoming, now: float) -> None:
        match result:
            case Greeting():
                self._publisher.async_publish(result.answer)
            case OfflineHint(device_id):
                self.enrolment.coordinators[device_id].async_hint_offline()
            case Reading() | Report() | Ack():  # pragma: no branch - there is nothing else
                self._hear(result, now)

    @callback
    def _hear(self, said: Reading | Report | Ack, now: float) -> None:
        """Take over what a device has proved to say."""
        coordinator = self.enrolment.coordinators[said.device_id]
        if not coordinator.online:
            _LOGGER.info("%s is heard", coordinator.device.name)
            self.trust.credentials.async_heard(said.device_id)
        if said.hello is not None:
            self._begin_session(said.device_id, said.hello, now)
        if said.first_use:
            self.trust.credentials.async_first_used(said.device_id, said.first_use)
        match said:
            case Reading():
                coordinator.async_take(said)
                if coordinator.device.auth is not Auth.SIGNED and (firmware := said.meta.get("firmware")) is not None:
                    self.enrolment.async_show(said.device_id, firmware)
                self.staging.async_accepted(said)
                if said.flags:
                    self.monitor.async_implausible(said.device_id, said.flags, now)
                self.dispatcher.async_take_reading(said)
                self._publisher.async_publish(*self.gateway.time_requests(said))
            case Report():
                coordinator.async_heard(now)
                self.dispatcher.async_take_report(said)
            case Ack():  # pragma: no branch - there is nothing else
                coordinator.async_heard(now)
                self._acknowledged(said)

    @callback
    def _acknowledged(self, ack: Ack) -> None:
        try:
            self.dispatcher.async_take_ack(ack)
        except GatewayError as error:
            self.gateway.count_refusal(ack.device_id, error)
            raise

    @callback
    def _refused(self, claimed_id: str, error: GatewayError, payload: bytes, now: float) -> None:
        device_id = claimed_id if claimed_id in self.gateway.registry else None
        self.monitor.async_refused(device_id, error, payload, now)
        self.staging.async_rejected(device_id, error.code.value, payload, now)
        if isinstance(error, SessionUnknownError):
            self._publisher.async_publish(*self.gateway.hello_requests(claimed_id, now, error.sid))

    @callback
    def _begin_session(self, device_id: str, hello: Hello, now: float) -> None:
        self.monitor.async_session(device_id, hello.firmware, now)
        self.dispatcher.async_restarted(device_id)
        self.enrolment.async_show(device_id, hello.firmware, hello.model)

    @callback
    def _tick(self, moment: datetime) -> None:
        now = moment.timestamp()
        rejected: Counter[str | None] = Counter()
        for (device_id, _), count in self.gateway.refused.items():
            rejected[device_id] += count
        for device_id, coordinator in self.enrolment.coordinators.items():
            if coordinator.async_tick(now, rejected[device_id]):
                _LOGGER.info("%s has not been heard for %.0f s", coordinator.device.name, coordinator.silence)
                self.audit.record("silent", outcome="found", device=device_id)
                self.trust.credentials.async_silent(device_id)
                self.dispatcher.async_absent(device_id)
        self.monitor.async_tick(now, self.gateway.accepted)
        self.zones.async_refresh()
        self.trust.async_tick(now)
        self.coordinator.async_tick(self.gateway.accepted.total(), rejected.total(), self.keeper.state())

    @callback
    def _broker_enforced(self, enforced: bool) -> None:
        self.gateway.broker_enforced = enforced

    @callback
    def _async_device_changed(self, before: Device | None, after: Device | None) -> None:
        self.trust.async_device_changed(before, after)
        if before is not None and after is None:
            self.monitor.async_forget(before.device_id)
            self.staging.async_capture(before.device_id, 0.0, time())

    @callback
    def _async_outputs_changed(self, device_id: str) -> None:
        if (coordinator := self.enrolment.coordinators.get(device_id)) is not None:
            coordinator.async_show_outputs(self.dispatcher.controller.outputs_of(device_id))
            if coordinator.device.zone in self.zones.coordinators:
                self.zones.async_refresh_zone(coordinator.device.zone)

    def _name_of(self, identifier: str) -> str:
        """Return the name of a device or of a zone."""
        device = self.gateway.registry.get(identifier)
        return device.name if device is not None else self.enrolment.zone_name(identifier) or identifier
