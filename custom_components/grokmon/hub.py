"""The hub: the subscription, the clock, and the way of a message between Home Assistant's MQTT and the gateway."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
import logging
from time import time
from typing import Final, cast

from homeassistant.components import mqtt
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.util import dt as dt_util

from .audit_log import AuditLog
from .const import CONF_TOPIC_PREFIX
from .coordinator import HubCoordinator
from .enrolment import Enrolment
from .gateway import topics
from .gateway.errors import GatewayError, SessionUnknownError
from .gateway.models import Greeting, Hello, Message, OfflineHint, Outbound, Reading
from .gateway.pipeline import Gateway
from .security import SecurityMonitor
from .store import SecurityStore, SessionStore

_LOGGER = logging.getLogger(__name__)

_TICK: Final = timedelta(seconds=10)
_QOS: Final = 1

type GrokmonConfigEntry = ConfigEntry[GrokmonHub]


class GrokmonHub:
    """Everything of one grow room that runs."""

    def __init__(
        self, hass: HomeAssistant, entry: GrokmonConfigEntry, store: SecurityStore, audit: AuditLog, device_id: str
    ) -> None:
        self._hass = hass
        self._entry = entry
        self._sessions = SessionStore(hass)
        self.audit = audit
        self.prefix: str = entry.data[CONF_TOPIC_PREFIX]
        self.gateway = Gateway(self.prefix, time(), store.state.site_keys)
        self.enrolment = Enrolment(hass, entry, self.gateway, store, audit, hub_device_id=device_id)
        self.monitor = SecurityMonitor(hass, audit, self._name_of)
        self.coordinator = HubCoordinator()
        self._asked = False
        self._cleanups: list[CALLBACK_TYPE] = []

    async def async_start(self) -> None:
        """Take up devices and sessions, listen, and ask the devices to say hello once the broker lets us hear it."""
        await self.enrolment.async_start()
        devices = list(self.gateway.registry)
        now = time()
        self.gateway.sessions.restore(await self._sessions.async_take(now), [device.device_id for device in devices])
        self.audit.record("started", devices=len(devices))
        subscription = topics.subscription(self.prefix)
        self._cleanups = [
            self._hass.bus.async_listen(EVENT_HOMEASSISTANT_STOP, self._async_home_assistant_stops),
            async_track_time_interval(self._hass, self._tick, _TICK, cancel_on_shutdown=True),
        ]
        self._cleanups.append(await mqtt.async_subscribe(self._hass, subscription, self._receive, _QOS, encoding=None))
        # An answer that comes before the broker has the subscription would be lost.
        self._cleanups.append(mqtt.async_on_subscribe_done(self._hass, subscription, _QOS, self._ask_for_hellos))
        self._tick(dt_util.utcnow())

    async def async_stop(self) -> None:
        """Take no more messages, keep the sessions for the next start, and close the audit trail."""
        if self._cleanups:
            # First: a message from here on must not use up a counter that the sessions on the disk do not know of.
            for cleanup in self._cleanups:
                cleanup()
            self._cleanups = []
            now = time()
            await self._sessions.async_put(self.gateway.sessions.snapshot(), now)
            self.monitor.async_tick(now, self.gateway.accepted, closing=True)
            self.audit.record("stopped")
        await self.audit.async_close()

    async def async_follow(self) -> None:
        """Follow a change of the subentries."""
        for device_id in await self.enrolment.async_follow():
            self.monitor.async_forget(device_id)

    async def _async_home_assistant_stops(self, _event: Event) -> None:
        await self.async_stop()

    def refused_by_code(self, device_id: str | None) -> dict[str, int]:
        """Return how many messages of a device were refused, by code; None is every device that is not enrolled."""
        return {code.value: count for (known, code), count in self.gateway.refused.items() if known == device_id}

    @callback
    def _ask_for_hellos(self) -> None:
        """Ask devices to say hello: all of them once, for what they sent meanwhile; then those without a session."""
        now = time()
        everybody, self._asked = not self._asked, True
        self._publish(
            *(
                request
                for device in self.gateway.registry
                if (everybody or self.gateway.sessions.active_sid(device.device_id) is None)
                and (request := self.gateway.hello_request(device.device_id, now)) is not None
            )
        )

    @callback
    def _receive(self, message: mqtt.ReceiveMessage) -> None:
        now = time()
        device_id, channel = topics.split(self.prefix, message.topic)
        payload = cast("bytes", message.payload)
        try:
            result = self.gateway.ingest(Message(device_id, channel, payload, message.retain), now)
        except GatewayError as error:
            self._refused(device_id, error, payload, now)
            return
        match result:
            case Reading():
                self._take(result, now)
            case Greeting():
                self._publish(result.answer)
            case OfflineHint():  # pragma: no branch - there is nothing else
                self.enrolment.coordinators[device_id].async_hint_offline(now)

    @callback
    def _take(self, reading: Reading, now: float) -> None:
        coordinator = self.enrolment.coordinators[reading.device_id]
        if not coordinator.online:
            _LOGGER.info("%s is heard", coordinator.device.name)
        coordinator.async_take(reading)
        if reading.flags:
            self.monitor.async_implausible(reading.device_id, reading.flags, now)
        if reading.hello is not None:
            self._begin_session(reading.device_id, reading.hello)

    @callback
    def _refused(self, claimed_id: str, error: GatewayError, payload: bytes, now: float) -> None:
        device_id = claimed_id if claimed_id in self.gateway.registry else None
        self.monitor.async_refused(device_id, error, payload, now)
        if isinstance(error, SessionUnknownError):
            request = self.gateway.hello_request(claimed_id, now, error.sid)
            if request is not None:
                self._publish(request)

    @callback
    def _begin_session(self, device_id: str, hello: Hello) -> None:
        self.audit.record("session", device=device_id, firmware=hello.firmware)
        device = self.enrolment.coordinators[device_id].device_entry
        dr.async_get(self._hass).async_update_device(device.id, sw_version=hello.firmware, model=hello.model)

    @callback
    def _tick(self, moment: datetime) -> None:
        now = moment.timestamp()
        rejected: Counter[str | None] = Counter()
        for (device_id, _), count in self.gateway.refused.items():
            rejected[device_id] += count
        for device_id, coordinator in self.enrolment.coordinators.items():
            if coordinator.async_tick(now, rejected[device_id]):
                _LOGGER.warning("%s has not been heard for %d s", coordinator.device.name, coordinator.stale_after)
                self.audit.record("silent", device=device_id)
        self.monitor.async_tick(now, self.gateway.accepted)
        self.coordinator.async_tick(self.gateway.accepted.total(), rejected.total(), audit_healthy=self.audit.healthy)

    @callback
    def _publish(self, *messages: Outbound) -> None:
        self._entry.async_create_background_task(self._hass, self._async_publish(messages), "grokmon publish")

    async def _async_publish(self, messages: Iterable[Outbound]) -> None:
        for message in messages:
            try:
                await mqtt.async_publish(self._hass, message.topic, message.payload, _QOS, retain=False)
            except HomeAssistantError as error:
                # The device repeats its hello until it is answered.
                _LOGGER.warning("An answer to a device could not be published: %s", error)

    def _name_of(self, device_id: str) -> str:
        return self.gateway.registry[device_id].name
