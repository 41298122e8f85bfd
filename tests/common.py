"""A room under test: the integration in a Home Assistant, and simulated devices that talk to it without a network."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
import json
from pathlib import Path
import threading
from typing import Any, Final
from unittest.mock import DEFAULT, MagicMock, patch

from freezegun.api import FrozenDateTimeFactory
from homeassistant.config_entries import (
    SOURCE_RECONFIGURE,
    SOURCE_USER,
    ConfigEntryState,
    ConfigSubentry,
    SubentryFlowContext,
    SubentryFlowResult,
)
from homeassistant.const import EVENT_STATE_CHANGED, EVENT_STATE_REPORTED
from homeassistant.core import (
    Context,
    Event,
    EventStateChangedData,
    EventStateReportedData,
    HomeAssistant,
    State,
    callback,
)
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.helpers.translation import async_get_translations
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped] # has no py.typed
    async_fire_mqtt_message,
    async_fire_time_changed,
)

from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.audit import segment_name
from custom_components.grokmon.hub import GrokmonConfigEntry, GrokmonHub

from .device_simulator.actuators import Outputs, specs_from
from .device_simulator.credentials import DeviceIdentity, PrivateKey
from .device_simulator.protocol import DeviceProtocol
from .trail import flat

_LOOKS: Final = 5_000
_LOOK_EVERY: Final = 0.005
START: Final = "2026-11-23T12:00:00+00:00"
"""The time at which every test begins."""


@dataclass(frozen=True, slots=True)
class Published:
    """A message that Home Assistant handed to the broker."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(slots=True)
class Room:
    """A Home Assistant with the integration, an MQTT that leads nowhere, and a clock that stands still."""

    hass: HomeAssistant
    mqtt: MagicMock
    freezer: FrozenDateTimeFactory
    entry: GrokmonConfigEntry
    admin: Context

    @property
    def hub(self) -> GrokmonHub:
        """Return the running hub."""
        return self.entry.runtime_data

    def entry_is(self, state: ConfigEntryState) -> bool:
        """Tell whether the config entry is in a state at this moment."""
        return self.entry.state is state

    @property
    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return dt_util.utcnow().timestamp()

    @property
    def published(self) -> list[Published]:
        """Return what was published so far."""
        return [Published(*call.args[:4]) for call in self.mqtt.async_publish.mock_calls]

    async def set_up(self) -> bool:
        """Set up the integration."""
        done = await self.hass.config_entries.async_setup(self.entry.entry_id)
        await self.settle()
        return done

    async def reload(self) -> None:
        """Unload the integration and set it up again."""
        assert await self.hass.config_entries.async_reload(self.entry.entry_id)
        await self.settle()

    async def settle(self) -> None:
        """Wait until everything that was set off has happened, publishing included."""
        await self.hass.async_block_till_done(wait_background_tasks=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to become true while somebody still waits for an answer, so that nothing is settled."""
        for _ in range(_LOOKS):
            if condition():
                return
            # The disk is part of it, and the clock of the tests stands still.
            await self.hass.async_add_executor_job(threading.Event().wait, _LOOK_EVERY)
        raise TimeoutError

    def tick(self, seconds: float) -> None:
        """Move the clock, and set off what was due until then, without waiting for it."""
        self.freezer.tick(timedelta(seconds=seconds))
        async_fire_time_changed(self.hass)

    @property
    def steady(self) -> float:
        """Return the hub's steady time."""
        return self.hub.dispatcher.clock.now().steady

    async def let_pass(self, seconds: float) -> None:
        """Move the clock, and let happen what was due until then."""
        self.freezer.tick(timedelta(seconds=seconds))
        async_fire_time_changed(self.hass)
        await self.settle()

    async def receive(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Let a message arrive from the broker."""
        async_fire_mqtt_message(self.hass, topic, payload, 1, retain)
        await self.settle()

    async def call(
        self, service: str, data: Mapping[str, Any] | None = None, context: Context | None = None
    ) -> dict[str, Any]:
        """Call a service, as an administrator unless told otherwise; return its response."""
        response = await self.hass.services.async_call(
            DOMAIN, service, dict(data or {}), blocking=True, return_response=True, context=context or self.admin
        )
        await self.settle()
        assert isinstance(response, dict)
        return response

    async def refusal(self, service: str, data: Mapping[str, Any]) -> ServiceValidationError:
        """Call a service that must refuse; return its error, which must be worded in the user's language."""
        with pytest.raises(ServiceValidationError) as refused:
            await self.call(service, data)
        error = refused.value
        assert error.translation_domain == DOMAIN
        texts = await async_get_translations(self.hass, "en", "exceptions", [DOMAIN])
        text = texts[f"component.{DOMAIN}.exceptions.{error.translation_key}.message"]
        assert str(error) == text.format(**(error.translation_placeholders or {})).removesuffix(".")
        return error

    async def act(
        self, domain: str, service: str, unique_id: str, *, context: Context | None = None, **data: Any
    ) -> None:
        """Call a service of an entity, as an administrator unless told otherwise."""
        target = {"entity_id": self.entity_id(unique_id)}
        await self.hass.services.async_call(
            domain, service, {**target, **data}, blocking=True, context=context or Context(user_id=self.admin.user_id)
        )
        await self.settle()

    async def enrol(
        self, device_id: str = "tent-1", *metrics: str, private_key: PrivateKey | None = None, **choices: Any
    ) -> RoomDevice:
        """Enrol a device through the service; return the device, which has not said anything yet."""
        data = {"device_id": device_id, "name": device_id.replace("-", " ").title(), "metrics": list(metrics)}
        if not metrics and "actuators" not in choices:
            data["metrics"] = ["temp_c", "humidity_percent"]
        response = await self.call("enroll_device", data | choices)
        outputs = Outputs(specs_from(response.get("actuators", {})))
        return RoomDevice(self, DeviceProtocol(DeviceIdentity.from_enrolment(response, private_key), outputs=outputs))

    async def add_zone(self, name: str, stage: str = "vegetative") -> ConfigSubentry:
        """Add a zone through its flow; return its subentry."""
        result = await self.start_flow("zone")
        await self.submit(result, {"name": name, "stage": stage})
        zones = [subentry for subentry in self.entry.subentries.values() if subentry.subentry_type == "zone"]
        return next(zone for zone in zones if zone.title == name)

    def subentry(self, device_id: str = "tent-1") -> ConfigSubentry:
        """Return the subentry of a device."""
        return next(sub for sub in self.entry.subentries.values() if sub.data.get("device_id") == device_id)

    async def remove(self, device_id: str = "tent-1") -> None:
        """Remove a device as a user does, by its subentry."""
        self.hass.config_entries.async_remove_subentry(self.entry, self.subentry(device_id).subentry_id)
        await self.settle()

    async def start_flow(self, kind: str, subentry_id: str | None = None) -> SubentryFlowResult:
        """Start the flow that adds a subentry, or the one that changes it."""
        context = SubentryFlowContext(source=SOURCE_USER)
        if subentry_id is not None:
            context = SubentryFlowContext(source=SOURCE_RECONFIGURE, subentry_id=subentry_id)
        return await self.hass.config_entries.subentries.async_init((self.entry.entry_id, kind), context=context)

    async def submit(self, result: SubentryFlowResult, answer: Mapping[str, Any] | None = None) -> SubentryFlowResult:
        """Submit a step of a flow; return the next."""
        following = await self.hass.config_entries.subentries.async_configure(result["flow_id"], dict(answer or {}))
        await self.settle()
        return following

    def entity_id(self, unique_id: str) -> str:
        """Return the entity with a unique id."""
        return next(
            entity.entity_id
            for entity in er.async_entries_for_config_entry(er.async_get(self.hass), self.entry.entry_id)
            if entity.unique_id == unique_id
        )

    def entities(self, domain: str) -> list[er.RegistryEntry]:
        """Return the entities of a domain, in the order of their names."""
        entities = er.async_entries_for_config_entry(er.async_get(self.hass), self.entry.entry_id)
        return sorted((entity for entity in entities if entity.domain == domain), key=lambda each: each.entity_id)

    async def enable_everything(self) -> None:
        """Enable the entities that are disabled unless a user wants them."""
        registry = er.async_get(self.hass)
        for entity in er.async_entries_for_config_entry(registry, self.entry.entry_id):
            registry.async_update_entity(entity.entity_id, disabled_by=None)
        await self.reload()

    def listen_to_states(self, prefix: str) -> list[State | None]:
        """Return a list that grows by every state that is written for entities whose unique id begins so."""
        registry = er.async_get(self.hass)
        written: list[State | None] = []

        @callback
        def hear(event: Event[EventStateChangedData] | Event[EventStateReportedData]) -> None:
            entity = registry.async_get(event.data["entity_id"])
            if entity is None or (entity.platform == DOMAIN and entity.unique_id.startswith(prefix)):
                written.append(event.data["new_state"])

        self.hass.bus.async_listen(EVENT_STATE_CHANGED, hear)
        self.hass.bus.async_listen(EVENT_STATE_REPORTED, hear, event_filter=callback(lambda _data: True))
        return written

    def unique_ids(self) -> set[str]:
        """Return the unique ids of all entities."""
        entities = er.async_entries_for_config_entry(er.async_get(self.hass), self.entry.entry_id)
        return {entity.unique_id for entity in entities}

    def state(self, unique_id: str) -> State:
        """Return the state of the entity with a unique id."""
        state = self.hass.states.get(self.entity_id(unique_id))
        assert state is not None
        return state

    def device(self, identifier: str = "tent-1") -> dr.DeviceEntry:
        """Return a device of the device registry."""
        found = dr.async_get(self.hass).async_get_device_by_identifier((DOMAIN, identifier), self.entry.entry_id)
        assert found is not None
        return found

    async def audit(self, *events: str) -> list[dict[str, Any]]:
        """Return the entries of the audit trail with these events, or all, without what chains them."""
        await self.hub.audit.async_flush()
        return [entry for entry in self.audit_on_disk() if not events or entry["event"] in events]

    @property
    def audit_path(self) -> Path:
        """Return where the audit file is."""
        return Path(self.hass.config.path(DOMAIN, "audit", segment_name(1)))

    def put_audit_file(self, text: str) -> None:
        """Put an audit file in place before the integration is set up."""
        self.audit_path.parent.mkdir(parents=True)
        self.audit_path.write_text(text)

    def audit_on_disk(self) -> list[dict[str, Any]]:
        """Return the entries that the audit file holds now, without what chains them."""
        entries = [flat(json.loads(line)) for line in self.audit_path.read_text().splitlines()]
        return [{name: value for name, value in entry.items() if name != "at"} for entry in entries]

    def stored(self, name: str = "security") -> dict[str, Any]:
        """Return what a store holds on the disk."""
        data: dict[str, Any] = json.loads((self.storage / f"grokmon.{name}").read_bytes())["data"]
        return data

    def break_store(self) -> None:
        """Let the disk refuse what is written to the store of credentials; what it holds is kept aside."""
        store = self.storage / "grokmon.security"
        if store.exists():
            store.rename(store.with_suffix(".aside"))
        store.mkdir(parents=True)

    def repair_store(self) -> None:
        """Let the disk take the store of credentials again, which is as it was."""
        store = self.storage / "grokmon.security"
        store.rmdir()
        if store.with_suffix(".aside").exists():
            store.with_suffix(".aside").rename(store)

    @contextmanager
    def broken_trail(self) -> Iterator[None]:
        """Let the disk refuse what is written to the audit trail."""
        with patch.object(self.hub.audit._file, "append", side_effect=OSError(28, "No space left on device")):
            yield

    @property
    def storage(self) -> Path:
        """Return the folder of Home Assistant's stores."""
        return Path(self.hass.config.path(".storage"))


def fields_of(result: SubentryFlowResult) -> list[str]:
    """Return the names of the fields of a form."""
    schema = result["data_schema"]
    assert schema is not None
    return [key.schema for key in schema.schema]


def settings_on(result: SubentryFlowResult) -> dict[str, Any]:
    """Return the settings file that a page shows."""
    placeholders = result["description_placeholders"]
    assert placeholders is not None
    settings: dict[str, Any] = json.loads(placeholders["settings"])
    return settings


@dataclass(slots=True)
class RoomDevice:
    """A simulated device, carried to and from the room by hand."""

    room: Room
    protocol: DeviceProtocol
    _read: int = field(init=False)

    def __post_init__(self) -> None:
        """Hear nothing of what was said before the device existed."""
        self._read = len(self.room.published)

    @property
    def identity(self) -> DeviceIdentity:
        """Return the identity of the device."""
        return self.protocol.identity

    def downlinks(self) -> Iterator[dict[str, Any]]:
        """Hear what was published for the device since the last time; yield the claims."""
        published = self.room.published
        fresh = published[self._read :]
        self._read = len(published)
        for message in fresh:
            if message.topic == self.identity.down("session"):
                self.protocol.receive(message.payload, self.room.now)
                yield self.identity.verify_down(message.payload)

    def attach(self) -> None:
        """Carry out commands as they are published, and answer them, from now on."""
        before = self.room.mqtt.async_publish.side_effect

        def publish(topic: str, payload: bytes, *rest: Any, **more: Any) -> Any:
            if before is not None:
                before(topic, payload, *rest, **more)
            if topic == self.identity.down("command"):
                self.protocol.receive_command(payload, self.room.now)
                self.room.hass.async_create_task(self.answer(), eager_start=False)
            return DEFAULT

        self.room.mqtt.async_publish.side_effect = publish

    async def answer(self) -> None:
        """Send what the device has to say of its outputs."""
        while (message := self.protocol.next_answer(self.room.now)) is not None:
            channel, payload = message
            async_fire_mqtt_message(self.room.hass, self.identity.up(channel), payload, 1, False)
            self.protocol.confirmed()

    async def act(self) -> None:
        """Say hello, say what the outputs do, and carry out commands from now on."""
        await self.hello()
        self.attach()
        await self.answer()
        await self.room.settle()

    async def hello(self) -> list[dict[str, Any]]:
        """Say hello; return the claims of what came back."""
        await self.room.receive(self.identity.up("hello"), self.protocol.hello(self.room.now))
        return list(self.downlinks())

    def sign_reading(self, metrics: Mapping[str, float | bool], **claims: Any) -> bytes:
        """Sign a reading under the session, and spend a counter on it."""
        return self.identity.sign({**self.protocol.telemetry_claims(), "metrics": dict(metrics), **claims})

    async def report(self, metrics: Mapping[str, float | bool], **claims: Any) -> None:
        """Report a reading; say hello first where that is still to be done."""
        if self.protocol.sid is None:
            await self.hello()
        await self.send(self.sign_reading(metrics, **claims))

    async def send(self, payload: bytes, channel: str = "telemetry", *, retain: bool = False) -> None:
        """Send any bytes on a topic of the device."""
        await self.room.receive(self.identity.up(channel), payload, retain=retain)
