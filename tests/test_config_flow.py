"""The config flow of the hub, its reconfiguration and its options."""

from pathlib import Path
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from homeassistant.config_entries import SOURCE_USER, ConfigFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, InvalidData
from homeassistant.setup import async_setup_component
import pytest

from custom_components.grokmon.const import CONF_STALE_AFTER, CONF_TOPIC_PREFIX, DOMAIN

from .common import Room, RoomDevice
from .stack.certificates import ensure_certificates

PREFIXES_REFUSED = ["", "/grokmon", "grokmon/", "a/b/c/d/e", "grok mon", "grokmon/#", "+", "$SYS", "ä", "x" * 33]


async def _start(hass: HomeAssistant) -> ConfigFlowResult:
    return await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})


@pytest.fixture
async def room_without_hub(quiet_room: Room) -> Room:
    """Return a room in which the integration is still to be added."""
    await quiet_room.hass.config_entries.async_remove(quiet_room.entry.entry_id)
    return quiet_room


@pytest.mark.parametrize("prefix", ["grokmon", "farm-2/tent_1/a/B"])
async def test_adds_the_hub(room_without_hub: Room, prefix: str) -> None:
    """The hub is set up with the prefix that was asked for."""
    hass = room_without_hub.hass
    form = await _start(hass)
    assert form["type"] is FlowResultType.FORM
    assert form["step_id"] == "user"
    assert form["errors"] == {}
    created = await hass.config_entries.flow.async_configure(form["flow_id"], {CONF_TOPIC_PREFIX: prefix})
    await hass.async_block_till_done(wait_background_tasks=True)
    assert created["type"] is FlowResultType.CREATE_ENTRY
    assert created["title"] == "Grok & Mon"
    assert created["data"] == {CONF_TOPIC_PREFIX: prefix}
    assert hass.config_entries.async_loaded_entries(DOMAIN) == [created["result"]]
    subscribed = [call.args[0] for call in room_without_hub.mqtt.async_subscribe.mock_calls]
    assert f"{prefix}/v1/+/up/+" in subscribed


async def test_prefix_defaults_to_the_name(room_without_hub: Room) -> None:
    """Who has no reason to choose need not choose."""
    form = await _start(room_without_hub.hass)
    created = await room_without_hub.hass.config_entries.flow.async_configure(form["flow_id"], {})
    await room_without_hub.settle()
    assert created["data"] == {CONF_TOPIC_PREFIX: "grokmon"}


@pytest.mark.parametrize("prefix", PREFIXES_REFUSED)
async def test_invalid_prefix_and_recovery(room_without_hub: Room, prefix: str) -> None:
    """A prefix that could not be subscribed to, or would take in more than it says, is asked for again."""
    hass = room_without_hub.hass
    form = await _start(hass)
    again = await hass.config_entries.flow.async_configure(form["flow_id"], {CONF_TOPIC_PREFIX: prefix})
    assert again["type"] is FlowResultType.FORM
    assert again["errors"] == {CONF_TOPIC_PREFIX: "invalid_prefix"}
    created = await hass.config_entries.flow.async_configure(form["flow_id"], {CONF_TOPIC_PREFIX: "grokmon"})
    await room_without_hub.settle()
    assert created["type"] is FlowResultType.CREATE_ENTRY


@pytest.mark.usefixtures("clock", "enable_custom_integrations")
async def test_needs_mqtt(hass: HomeAssistant, clock: FrozenDateTimeFactory) -> None:  # noqa: ARG001 - before hass
    """Without the MQTT integration the flow says what to do first."""
    assert await async_setup_component(hass, "homeassistant", {})
    result = await _start(hass)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "mqtt_missing"


async def test_needs_a_connection_to_the_broker(room_without_hub: Room) -> None:
    """With MQTT set up but not connected the flow says so, and works once it is."""
    room_without_hub.mqtt.connected = False
    result = await _start(room_without_hub.hass)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "mqtt_not_connected"
    room_without_hub.mqtt.connected = True
    assert (await _start(room_without_hub.hass))["type"] is FlowResultType.FORM


async def test_connection_lost_while_the_form_is_open(room_without_hub: Room) -> None:
    """The connection counts at the moment the form is sent."""
    form = await _start(room_without_hub.hass)
    room_without_hub.mqtt.connected = False
    result = await room_without_hub.hass.config_entries.flow.async_configure(form["flow_id"], {})
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "mqtt_not_connected"


async def test_there_is_one_hub(room: Room) -> None:
    """A second hub is refused."""
    result = await _start(room.hass)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "single_instance_allowed"


async def _reconfigure(room: Room) -> ConfigFlowResult:
    context: Any = {"source": "reconfigure", "entry_id": room.entry.entry_id}
    return await room.hass.config_entries.flow.async_init(DOMAIN, context=context)


async def test_changes_the_prefix(tent: RoomDevice) -> None:
    """The form shows the prefix as it is, refuses a wrong one, and the devices get the new topics."""
    room = tent.room
    flow = room.hass.config_entries.flow
    form = await _reconfigure(room)
    assert form["step_id"] == "reconfigure"
    assert form["data_schema"] is not None
    assert [key.description for key in form["data_schema"].schema] == [{"suggested_value": "grokmon"}]
    again = await flow.async_configure(form["flow_id"], {CONF_TOPIC_PREFIX: "farm/#"})
    assert again["errors"] == {CONF_TOPIC_PREFIX: "invalid_prefix"}
    assert room.entry.data == {CONF_TOPIC_PREFIX: "grokmon"}
    done = await flow.async_configure(form["flow_id"], {CONF_TOPIC_PREFIX: "farm"})
    await room.settle()
    assert done["type"] is FlowResultType.ABORT
    assert done["reason"] == "reconfigure_successful"
    # The words are ours.
    assert "translation_domain" not in done
    assert room.entry.data == {CONF_TOPIC_PREFIX: "farm"}
    assert room.hub.prefix == "farm"
    assert "tent-1" in room.hub.gateway.registry


async def _general(room: Room) -> ConfigFlowResult:
    flow = room.hass.config_entries.options
    menu = await flow.async_init(room.entry.entry_id)
    assert menu["menu_options"] == ["general", "ai_users", "limits", "broker", "http", "audit", "audit_key"]
    return await flow.async_configure(menu["flow_id"], {"next_step_id": "general"})


async def test_options(room: Room) -> None:
    """Options begin with what holds now, refuse what makes no sense, and are whole seconds."""
    flow = room.hass.config_entries.options
    form = await _general(room)
    assert form["step_id"] == "general"
    with pytest.raises(InvalidData):
        await flow.async_configure(form["flow_id"], {CONF_STALE_AFTER: 29})
    done = await flow.async_configure(form["flow_id"], {CONF_STALE_AFTER: 90.0})
    await room.settle()
    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert room.entry.options == {CONF_STALE_AFTER: 90}
    assert isinstance(room.entry.options[CONF_STALE_AFTER], int)
    again = await _general(room)
    assert again["data_schema"] is not None
    assert [key.description for key in again["data_schema"].schema] == [{"suggested_value": 90}, None]


async def test_options_default(room: Room) -> None:
    """Five minutes of silence are allowed unless the user says otherwise."""
    flow = room.hass.config_entries.options
    form = await _general(room)
    await flow.async_configure(form["flow_id"], {})
    await room.settle()
    assert room.entry.options == {CONF_STALE_AFTER: 300}


async def _options(room: Room, step: str) -> ConfigFlowResult:
    flow = room.hass.config_entries.options
    menu = await flow.async_init(room.entry.entry_id)
    return await flow.async_configure(menu["flow_id"], {"next_step_id": step})


async def test_passwords_of_the_broker_are_sealed(room: Room) -> None:
    """A password goes to the store, is never shown again, and stays as it is when the field is left empty."""
    flow = room.hass.config_entries.options
    form = await _options(room, "broker")
    chosen = {"mode": "none", "host": "broker.example", "plaintext_port": 1884}
    await flow.async_configure(form["flow_id"], {**chosen, "admin_password": "open sesame"})
    await room.settle()
    assert room.entry.options == {"broker": chosen}
    assert room.hub.store.state.broker.admin_password == "open sesame"
    assert "open sesame" not in str(room.stored())
    form = await _options(room, "broker")
    assert form["data_schema"] is not None
    assert "open sesame" not in str([key.description for key in form["data_schema"].schema])
    await flow.async_configure(form["flow_id"], {"mode": "none"})
    await room.settle()
    assert room.entry.options == {"broker": {"mode": "none", "plaintext_port": 1883}}
    assert room.hub.store.state.broker.admin_password == "open sesame"


@pytest.mark.parametrize(
    ("wrong", "errors"),
    [
        ({"mode": "dynamic_security"}, {"admin_username": "admin_missing"}),
        ({"ca_certificate": "no PEM"}, {"ca_certificate": "certificate_invalid"}),
        ({"ca_certificate": "\u00e4"}, {"ca_certificate": "certificate_invalid"}),
    ],
)
async def test_broker_must_be_possible(room: Room, wrong: dict[str, Any], errors: dict[str, str]) -> None:
    """What cannot work is asked for again; nothing is kept by then, a password neither."""
    flow = room.hass.config_entries.options
    form = await _options(room, "broker")
    again = await flow.async_configure(form["flow_id"], {"mode": "none", "admin_password": "open sesame", **wrong})
    assert again["type"] is FlowResultType.FORM
    assert again["errors"] == errors
    assert room.entry.options == {}
    assert room.hub.store.state.broker.admin_password == ""


async def test_certificate_of_the_broker(room: Room, tmp_path: Path) -> None:
    """A certificate authority in PEM is taken."""
    flow = room.hass.config_entries.options
    authority = ensure_certificates(tmp_path).ca.read_text()
    form = await _options(room, "broker")
    done = await flow.async_configure(form["flow_id"], {"mode": "none", "ca_certificate": authority})
    await room.settle()
    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert room.entry.options["broker"]["ca_certificate"].strip() == authority.strip()


async def test_http_is_off_until_it_is_switched_on(room: Room) -> None:
    """Both are switched on each for itself."""
    flow = room.hass.config_entries.options
    form = await _options(room, "http")
    await flow.async_configure(form["flow_id"], {"http_ingest": True})
    await room.settle()
    assert room.entry.options == {"http_ingest": True, "http_enrolment": False}
    form = await _options(room, "http")
    assert form["data_schema"] is not None
    shown = {str(key): key.description["suggested_value"] for key in form["data_schema"].schema}
    assert shown == room.entry.options
