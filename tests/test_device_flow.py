"""The subentry flow of a device: enrolment step by step, and every change."""

from base64 import b64encode, urlsafe_b64decode
from collections.abc import Mapping
import json
import logging
from typing import Any

from homeassistant.config_entries import ConfigEntryState, SubentryFlowResult
from homeassistant.const import MATCH_ALL
from homeassistant.core import Event, callback
from homeassistant.data_entry_flow import FlowResultType, InvalidData
from homeassistant.helpers import area_registry as ar, device_registry as dr, entity_registry as er
from homeassistant.util.unit_system import METRIC_SYSTEM, US_CUSTOMARY_SYSTEM, UnitSystem
import pytest

from custom_components.grokmon.device_flow import TEMPLATES
from custom_components.grokmon.diagnostics import async_get_config_entry_diagnostics
from custom_components.grokmon.gateway.actuators import Role
from custom_components.grokmon.gateway.catalog import CATALOG
from custom_components.grokmon.gateway.vault import Vault

from .common import Room, RoomDevice, fields_of, settings_on
from .device_simulator.credentials import Auth, DeviceIdentity, PrivateKey, generate_key_pair, public_pem
from .device_simulator.protocol import DeviceProtocol

ANSWERS: dict[str, dict[str, Any]] = {
    "user": {"name": "Tent 1"},
    "identity": {"device_id": "tent-1", "template": "climate"},
    "metrics": {"metrics": ["temp_c", "humidity_percent"]},
    "auth": {"auth": "hs256"},
    "credentials": {},
}


async def _walk(room: Room, until: str, **answers: Mapping[str, Any]) -> SubentryFlowResult:
    """Enrol a device as far as a step; return that step."""
    result = await room.start_flow("device")
    while result["step_id"] != until:
        step = result["step_id"]
        result = await room.submit(result, answers.get(step, ANSWERS[step]))
        assert not result.get("errors"), result["errors"]
    return result


def _suggested(result: SubentryFlowResult) -> dict[str, Any]:
    """Return what the fields of a form are filled with."""
    schema = result["data_schema"]
    assert schema is not None
    return {key.schema: key.description["suggested_value"] for key in schema.schema if key.description is not None}


def _identity(
    settings: Mapping[str, Any], private_key: PrivateKey | None = None, auth: Auth = "hs256"
) -> DeviceIdentity:
    if private_key is None:
        return DeviceIdentity.from_root_key(settings["device_id"], settings["key"], settings["prefix"])
    return DeviceIdentity(settings["device_id"], auth, settings["prefix"], private_key, settings["site_public_key"])


async def _reconfigure(room: Room, step: str) -> SubentryFlowResult:
    """Open the menu of changes of tent-1; return the form of one of them."""
    menu = await room.start_flow("device", room.subentry().subentry_id)
    assert menu["type"] is FlowResultType.MENU
    return await room.submit(menu, {"next_step_id": step})


# Enrolment


async def test_enrols_a_device(room: Room) -> None:
    """A device is enrolled when its credentials have been seen, and can speak at once."""
    page = await _walk(room, "credentials")
    assert "tent-1" not in room.hub.gateway.registry
    assert "devices" not in str(list(room.storage.glob("grokmon.*")))
    done = await room.submit(page)
    assert done["type"] is FlowResultType.CREATE_ENTRY
    subentry = room.subentry()
    assert subentry.title == "Tent 1"
    assert subentry.unique_id == "tent-1"
    assert subentry.subentry_type == "device"
    assert dict(subentry.data) == {
        "device_id": "tent-1",
        "zone": None,
        "metrics": ["humidity_percent", "temp_c"],
        "ranges": {},
        "rate_limit": 100,
    }
    device = RoomDevice(room, DeviceProtocol(_identity(settings_on(page))))
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
    key_ids = [each.key_id for each in room.hub.gateway.registry["tent-1"].credentials]
    enrolled = await room.audit("enrolled")
    assert [(entry["device"], entry["auth"], entry["key_ids"], entry["identity"]) for entry in enrolled] == [
        ("tent-1", "signed", key_ids, "administrator")
    ]


async def test_zone_is_offered_when_there_is_one(room: Room) -> None:
    """A device may be put in a zone; its device starts in the area of that name."""
    assert fields_of(await room.start_flow("device")) == ["name"]
    zone = await room.add_zone("Flower tent")
    assert fields_of(await room.start_flow("device")) == ["name", "zone"]
    page = await _walk(room, "credentials", user={"name": " Tent 1 ", "zone": zone.subentry_id})
    await room.submit(page)
    assert room.subentry().data["zone"] == zone.subentry_id
    assert room.subentry().title == "Tent 1"
    area = ar.async_get(room.hass).async_get_area_by_name("Flower tent")
    assert area is not None
    assert room.device().area_id == area.id


async def test_zone_can_be_taken_away(room: Room) -> None:
    """A device leaves its zone through a list that can be emptied, unlike one of radio buttons."""
    zone = await room.add_zone("Flower tent")
    await room.enrol(zone="Flower tent")
    form = await _reconfigure(room, "settings")
    assert form["data_schema"] is not None
    assert form["data_schema"].schema["zone"].config["mode"] == "dropdown"
    assert room.subentry().data["zone"] == zone.subentry_id
    await room.submit(form, {"name": "Tent 1", "metrics": ["temp_c"], "rate_limit": 100})
    assert room.subentry().data["zone"] is None


async def test_zone_that_is_no_more_is_not_suggested(room: Room) -> None:
    """A device whose zone was deleted can be changed while there are other zones."""
    zone = await room.add_zone("Flower tent")
    await room.add_zone("Clone tent")
    await room.enrol(zone="Flower tent")
    room.hass.config_entries.async_remove_subentry(room.entry, zone.subentry_id)
    await room.settle()
    form = await _reconfigure(room, "settings")
    assert form["data_schema"] is not None
    suggested = {str(key): (key.description or {}).get("suggested_value") for key in form["data_schema"].schema}
    assert suggested["zone"] is None
    await room.submit(form, {name: value for name, value in suggested.items() if value is not None} | {"name": "Bed"})
    assert (room.subentry().title, room.subentry().data["zone"]) == ("Bed", None)


async def test_zone_may_be_left_out(room: Room) -> None:
    """A device need not be in a zone."""
    await room.add_zone("Flower tent")
    await room.submit(await _walk(room, "credentials"))
    assert room.subentry().data["zone"] is None
    assert room.device().area_id is None


@pytest.mark.parametrize("name", ["", "   "])
async def test_name_is_asked_for_again(room: Room, name: str) -> None:
    """A device has a name."""
    form = await room.start_flow("device")
    again = await room.submit(form, {"name": name})
    assert again["step_id"] == "user"
    assert again["errors"] == {"name": "name_missing"}
    assert (await room.submit(again, {"name": "Tent 1"}))["step_id"] == "identity"


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("Tent 1", "tent-1"),
        ("Blüten/Zelt Nº 2!", "bluten-zelt-no-2"),
        ("A very long name that goes on and on", "a-very-long-name-that-goes-on-an"),
        ("ends at the hyphen, number 32 - x", "ends-at-the-hyphen-number-32-x"),
        ("0123456789 123456789 123456789 tail", "0123456789-123456789-123456789-t"),
        ("0123456789 123456789 1234567890 tail", "0123456789-123456789-1234567890"),
        ("!!!", "unknown"),
    ],
)
async def test_identifier_is_suggested_from_the_name(room: Room, name: str, suggestion: str) -> None:
    """What is suggested is accepted as it is."""
    form = await _walk(room, "identity", user={"name": name})
    assert _suggested(form) == {"device_id": suggestion}
    following = await room.submit(form, {"device_id": suggestion, "template": "climate"})
    assert following["step_id"] == "metrics"


@pytest.mark.parametrize("device_id", ["", "Tent-1", "-tent", "_tent", "tent 1", "tent/1", "#", "+", "ä", "x" * 33])
async def test_identifier_must_fit_a_topic(room: Room, device_id: str) -> None:
    """What could not be one level of a topic is asked for again, and kept in the field."""
    form = await _walk(room, "identity")
    again = await room.submit(form, {"device_id": device_id, "template": "soil"})
    assert again["step_id"] == "identity"
    assert again["errors"] == {"device_id": "device_id_invalid"}
    assert _suggested(again) == {"device_id": device_id, "template": "soil"}
    assert (await room.submit(again, {"device_id": "tent-1", "template": "soil"}))["step_id"] == "metrics"


async def test_identifier_must_be_free(tent: RoomDevice) -> None:
    """An identifier belongs to one device."""
    form = await _walk(tent.room, "identity")
    again = await tent.room.submit(form, {"device_id": "tent-1", "template": "climate"})
    assert again["errors"] == {"device_id": "device_exists"}
    assert (await tent.room.submit(again, {"device_id": "tent-2", "template": "climate"}))["step_id"] == "metrics"


@pytest.mark.parametrize(("units", "letter"), [(METRIC_SYSTEM, "c"), (US_CUSTOMARY_SYSTEM, "f")])
@pytest.mark.parametrize("template", TEMPLATES)
async def test_template_suggests_metrics_in_the_unit_of_the_house(
    room: Room, template: str, units: UnitSystem, letter: str
) -> None:
    """A house that measures in °F gets nodes that do, but for the one that the examples are: they send °C."""
    room.hass.config.units = units
    form = await _walk(room, "metrics", identity={"device_id": "tent-1", "template": template})
    suggested = _suggested(form)["metrics"]
    assert suggested == [name.replace("{t}", letter) for name in TEMPLATES[template]]
    assert set(suggested) <= CATALOG.keys()
    other = {"c": "_f", "f": "_c"}[letter]
    wrong = [name for name in suggested if name.endswith(other)]
    assert wrong == (["temp_c"] if (template, letter) == ("climate", "f") else [])


async def test_a_metric_is_needed(room: Room) -> None:
    """A device that reports nothing is of no use."""
    form = await _walk(room, "metrics")
    again = await room.submit(form, {"metrics": []})
    assert again["step_id"] == "metrics"
    assert again["errors"] == {"metrics": "field_missing"}
    assert (await room.submit(again, {"metrics": ["ph"]}))["step_id"] == "auth"


async def test_metric_must_be_in_the_catalogue(room: Room) -> None:
    """The list is the catalogue."""
    form = await _walk(room, "metrics")
    with pytest.raises(InvalidData):
        await room.submit(form, {"metrics": ["plasma_flux"]})
    assert form["data_schema"] is not None
    lists = {str(name): field.config["options"] for name, field in form["data_schema"].schema.items()}
    assert lists == {"metrics": list(CATALOG), "actuators": [role.value for role in Role]}


@pytest.mark.parametrize("auth", ["es256", "eddsa"])
async def test_enrols_a_key_pair(room: Room, auth: Auth) -> None:
    """A device with its own key pair gives its public key, and gets that of the site instead of a secret."""
    key = generate_key_pair(auth)
    page = await _walk(room, "credentials", auth={"auth": auth, "public_key": public_pem(key)})
    settings = settings_on(page)
    assert "key" not in settings
    await room.submit(page)
    device = RoomDevice(room, DeviceProtocol(_identity(settings, key, auth)))
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
    await room.reload()
    await device.send(device.sign_reading({"temp_c": 22.5}))
    assert room.state("tent-1/temp_c").state == "22.5"


def _bad_public_keys() -> list[Any]:
    p256, ed25519 = public_pem(generate_key_pair("es256")), public_pem(generate_key_pair("eddsa"))
    return [
        pytest.param("es256", None, id="es256-none"),
        pytest.param("eddsa", "", id="eddsa-empty"),
        pytest.param("es256", "no PEM", id="es256-text"),
        pytest.param("es256", ed25519, id="es256-other-algorithm"),
        pytest.param("eddsa", p256, id="eddsa-other-algorithm"),
        pytest.param("eddsa", ed25519.replace("MCow", "MCox"), id="eddsa-damaged"),
        pytest.param("es256", p256[: len(p256) // 2], id="es256-cut"),
    ]


@pytest.mark.parametrize(("auth", "public_key"), _bad_public_keys())
async def test_public_key_must_fit(room: Room, auth: str, public_key: str | None) -> None:
    """A public key that cannot be used is asked for again."""
    form = await _walk(room, "auth")
    answer = {"auth": auth} if public_key is None else {"auth": auth, "public_key": public_key}
    again = await room.submit(form, answer)
    assert again["step_id"] == "auth"
    assert again["errors"] == {"public_key": "public_key_invalid"}
    assert (await room.submit(again, {"auth": "hs256"}))["step_id"] == "credentials"


async def test_enrolled_by_somebody_else_before_the_credentials_are_made(room: Room) -> None:
    """Two people who choose the same identifier do not get each other's device."""
    form = await _walk(room, "auth")
    await room.enrol("tent-1")
    again = await room.submit(form, {"auth": "hs256"})
    assert again["step_id"] == "auth"
    assert again["errors"] == {"base": "device_exists"}


async def test_enrolled_by_somebody_else_while_the_credentials_are_shown(room: Room) -> None:
    """The device that was enrolled first keeps its credential, on the disk as well."""
    page = await _walk(room, "credentials")
    first = await room.enrol("tent-1")
    stored = room.stored()
    done = await room.submit(page)
    assert done["type"] is FlowResultType.ABORT
    assert done["reason"] == "already_configured"
    assert room.stored() == stored
    assert len(room.entry.subentries) == 1
    await room.reload()
    await first.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_disk_fails_while_the_credentials_are_kept(room: Room) -> None:
    """The page stays, says why, and works once the disk does; until then nothing is enrolled."""
    page = await _walk(room, "credentials")
    shown = settings_on(page)
    room.break_store()
    again = await room.submit(page)
    assert again["step_id"] == "credentials"
    assert again["errors"] == {"base": "store_not_written"}
    assert settings_on(again) == shown
    assert not room.entry.subentries
    assert "tent-1" not in room.hub.gateway.registry
    room.repair_store()
    done = await room.submit(again)
    assert done["type"] is FlowResultType.CREATE_ENTRY
    device = RoomDevice(room, DeviceProtocol(_identity(shown)))
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_pressing_twice_enrols_once(room: Room) -> None:
    """A second click while the first is being worked on changes nothing."""
    page = await _walk(room, "credentials")
    flow = room.hass.config_entries.subentries
    first = room.hass.async_create_task(flow.async_configure(page["flow_id"], {}))
    second = await flow.async_configure(page["flow_id"], {})
    done = await first
    await room.settle()
    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert second["type"] is FlowResultType.FORM
    assert list(room.hub.enrolment.coordinators) == ["tent-1"]
    assert list(room.stored()["devices"]) == ["tent-1"]


async def test_abandoned_flow_leaves_nothing(room: Room) -> None:
    """A device whose credentials nobody took does not exist, neither does its credential."""
    page = await _walk(room, "credentials")
    room.hass.config_entries.subentries.async_abort(page["flow_id"])
    await room.enrol("tent-2")
    assert list(room.stored()["devices"]) == ["tent-2"]
    assert (await room.enrol("tent-1")).identity.device_id == "tent-1"


@pytest.mark.parametrize("kind", ["user", "reconfigure"])
async def test_needs_a_running_hub(tent: RoomDevice, kind: str) -> None:
    """While the hub does not run there is nothing to enrol with."""
    room = tent.room
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert room.entry_is(ConfigEntryState.NOT_LOADED)
    result = await room.start_flow("device", None if kind == "user" else room.subentry().subentry_id)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "not_loaded"


# What is shown once


def _forms_of(key: str) -> list[str]:
    """Return what a root key could look like where it should not be."""
    raw = urlsafe_b64decode(key + "=")
    return [key, b64encode(raw).decode(), raw.hex(), repr(raw)]


def _everything_but_the_store(room: Room, diagnostics: Mapping[str, Any], events: list[Event[Any]], log: str) -> str:
    files = [path for path in room.storage.parent.rglob("*") if path.is_file() and path.name != "grokmon.security"]
    registries = [
        *dr.async_get(room.hass).devices,
        *er.async_get(room.hass).entities.values(),
        *room.hass.config_entries.async_entries(),
    ]
    return "\n".join(
        [
            log,
            str(room.hass.config_entries.subentries.async_progress(include_uninitialized=True)),
            str(room.entry.as_dict()),
            *(str(dict(subentry.data)) for subentry in room.entry.subentries.values()),
            *(repr(entry) for entry in registries),
            *(str(state.as_dict()) for state in room.hass.states.async_all()),
            *(str(event.as_dict()) for event in events),
            *(path.read_bytes().decode("latin-1") for path in files),
            repr(room.hub.enrolment.coordinators["tent-1"].device),
            json.dumps(diagnostics),
        ]
    )


@pytest.mark.parametrize("by", ["enrolment", "rotation"])
async def test_key_is_shown_once_and_kept_in_one_place(room: Room, caplog: pytest.LogCaptureFixture, by: str) -> None:
    """The page shows the key that the store keeps; after it, nothing else in Home Assistant holds it."""
    caplog.set_level(logging.DEBUG)
    events: list[Event[Any]] = []

    @callback
    def hear(event: Event[Any]) -> None:
        events.append(event)

    room.hass.bus.async_listen(MATCH_ALL, hear)
    page = await _walk(room, "credentials")
    if by == "rotation":
        await room.submit(page)
        page = await room.submit(await _reconfigure(room, "rotate"))
    key = settings_on(page)["key"]
    during = str(room.hass.config_entries.subentries.async_progress(include_uninitialized=True))
    await room.submit(page)
    *ended, credential = room.hub.enrolment.coordinators["tent-1"].device.credentials
    assert urlsafe_b64decode(key + "=") == credential.secret
    assert [each.secret for each in ended] == ([b""] if by == "rotation" else [])
    *stored, newest = room.stored()["devices"]["tent-1"]["credentials"]
    owner = f"device/tent-1/{credential.key_id}"
    assert Vault(room.hub.store.kek.key).unseal(newest["secret"], owner) == urlsafe_b64decode(key + "=")
    assert [each["secret"] for each in stored] == ["" for _ in ended]
    device = RoomDevice(room, DeviceProtocol(_identity(settings_on(page))))
    await device.report({"temp_c": 21.5})
    await device.send(b"nonsense")
    await room.let_pass(61)
    await room.call("list_devices")
    diagnostics = await async_get_config_entry_diagnostics(room.hass, room.entry)
    await room.reload()
    await room.hass.async_block_till_done()
    everything = during + _everything_but_the_store(room, diagnostics, events, caplog.text)
    assert "tent-1" in everything
    assert [form for form in _forms_of(key) if form in everything] == []


@pytest.mark.parametrize("step", ["credentials", "rotated"])
async def test_flow_forgets_what_it_showed(room: Room, step: str) -> None:
    """A flow that is done holds no key any more, whoever still holds the flow."""
    flows = room.hass.config_entries.subentries
    page = await _walk(room, "credentials")
    if step == "rotated":
        await room.submit(page)
        page = await room.submit(await _reconfigure(room, "rotate"))
    flow = flows._progress[page["flow_id"]]
    key = settings_on(page)["key"]
    assert key in str(vars(flow))
    await room.submit(page)
    assert flows.async_progress(include_uninitialized=True) == []
    own = {name: value for name, value in vars(flow).items() if name.startswith("_")}
    assert key not in str(own)
    assert own["_record"] is None


# Changes


@pytest.mark.parametrize(
    ("step", "offered"),
    [
        (None, ["settings", "ranges", "outputs", "rotate", "disable", "revoke"]),
        ("disable", ["settings", "ranges", "outputs", "rotate", "enable", "revoke"]),
        ("revoke", ["settings", "ranges", "outputs"]),
    ],
)
async def test_menu_offers_what_is_possible(tent: RoomDevice, step: str | None, offered: list[str]) -> None:
    """What can be done depends on whether the device is active, disabled or revoked."""
    room = tent.room
    if step is not None:
        await room.submit(await _reconfigure(room, step))
    menu = await room.start_flow("device", room.subentry().subentry_id)
    assert menu["step_id"] == "reconfigure"
    assert menu["menu_options"] == offered
    status = {None: "Active", "disable": "Disabled", "revoke": "Revoked"}[step]
    assert menu["description_placeholders"] == {"name": "Tent 1", "status": status}


async def test_forms_speak_the_language_of_the_house(tent: RoomDevice) -> None:
    """What is filled into a sentence is named as in the lists."""
    room = tent.room
    room.hass.config.language = "de"
    menu = await room.start_flow("device", room.subentry().subentry_id)
    assert menu["description_placeholders"] == {"name": "Tent 1", "status": "Aktiv"}
    form = await room.submit(await _reconfigure(room, "ranges"), {"metric": "temp_c"})
    assert form["description_placeholders"] is not None
    assert form["description_placeholders"]["metric"] == "Lufttemperatur (°C)"


async def test_device_without_a_credential_cannot_be_changed(tent: RoomDevice) -> None:
    """A device whose credential was lost can only be removed."""
    room = tent.room
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    (room.storage / "grokmon.security").unlink()
    assert await room.set_up()
    result = await room.start_flow("device", room.subentry().subentry_id)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "credential_missing"


async def test_changes_settings(tent: RoomDevice) -> None:
    """Name, zone, metrics and rate limit change while the device speaks."""
    room = tent.room
    zone = await room.add_zone("Flower tent")
    await tent.report({"temp_c": 21.5})
    form = await _reconfigure(room, "settings")
    assert fields_of(form) == ["name", "zone", "metrics", "rate_limit"]
    assert _suggested(form) == {
        "name": "Tent 1",
        "zone": None,
        "metrics": ["humidity_percent", "temp_c"],
        "rate_limit": 100,
    }
    answer = {"name": " Bloom ", "zone": zone.subentry_id, "metrics": ["temp_c", "ph"], "rate_limit": 7}
    done = await room.submit(form, answer)
    assert done["type"] is FlowResultType.ABORT
    assert done["reason"] == "reconfigure_successful"
    assert room.subentry().title == "Bloom"
    assert room.device().name == "Bloom"
    device = room.hub.gateway.registry["tent-1"]
    assert (device.name, device.zone, device.rate_limit) == ("Bloom", zone.subentry_id, 7)
    assert device.metrics == {"temp_c", "ph"}
    assert isinstance(room.subentry().data["rate_limit"], int)
    await tent.report({"temp_c": 22.5, "ph": 6.1})
    assert room.state("tent-1/ph").state == "6.1"
    await tent.report({"humidity_percent": 50.0})
    assert room.hub.refused_by_code("tent-1") == {"metric_not_granted": 1}
    assert [entry["device"] for entry in await room.audit("changed")] == ["tent-1"]


@pytest.mark.parametrize(
    ("wrong", "errors"),
    [({"name": " "}, {"name": "name_missing"}), ({"metrics": []}, {"metrics": "field_missing"})],
)
async def test_settings_must_be_complete(tent: RoomDevice, wrong: dict[str, Any], errors: dict[str, str]) -> None:
    """What is missing is asked for again; nothing has changed by then."""
    right = {"name": "Tent 1", "metrics": ["ph"], "rate_limit": 50}
    form = await _reconfigure(tent.room, "settings")
    again = await tent.room.submit(form, right | wrong)
    assert again["step_id"] == "settings"
    assert again["errors"] == errors
    assert tent.room.hub.gateway.registry["tent-1"].rate_limit == 100
    await tent.room.submit(again, right)
    assert tent.room.hub.gateway.registry["tent-1"].rate_limit == 50


@pytest.mark.parametrize("rate_limit", [0, 6001])
async def test_rate_limit_has_bounds(tent: RoomDevice, rate_limit: int) -> None:
    """A limit that is none, or that no device needs, is refused by the form."""
    form = await _reconfigure(tent.room, "settings")
    with pytest.raises(InvalidData):
        await tent.room.submit(form, {"name": "Tent 1", "metrics": ["ph"], "rate_limit": rate_limit})


async def _set_range(room: Room, metric: str, low: float, high: float) -> SubentryFlowResult:
    form = await _reconfigure(room, "ranges")
    return await room.submit(await room.submit(form, {"metric": metric}), {"low": low, "high": high})


async def test_changes_a_plausible_range(tent: RoomDevice) -> None:
    """The form begins with the range that holds, says what is possible, and the new range holds at once."""
    room = tent.room
    form = await _reconfigure(room, "ranges")
    form = await room.submit(form, {"metric": "temp_c"})
    assert form["step_id"] == "range"
    assert _suggested(form) == {"low": 12.8, "high": 35.0}
    assert form["description_placeholders"] == {
        "metric": "Air temperature (°C)",
        "unit": "°C",
        "low": "-40",
        "high": "85",
    }
    assert form["data_schema"] is not None
    assert {field.config["unit_of_measurement"] for field in form["data_schema"].schema.values()} == {"°C"}
    done = await room.submit(form, {"low": 20, "high": 22.5})
    assert done["reason"] == "reconfigure_successful"
    assert room.subentry().data["ranges"] == {"temp_c": [20, 22.5]}
    await tent.report({"temp_c": 22.5})
    await tent.report({"temp_c": 22.6})
    assert room.hub.gateway.flagged == {("tent-1", "temp_c"): 1}
    form = await room.submit(await _reconfigure(room, "ranges"), {"metric": "temp_c"})
    assert _suggested(form) == {"low": 20, "high": 22.5}


async def test_range_of_a_metric_without_plausible_values(room: Room) -> None:
    """Where the catalogue has no plausible range, the form begins with what is possible."""
    await room.enrol("tent-1", "ph")
    form = await room.submit(await _reconfigure(room, "ranges"), {"metric": "ph"})
    assert _suggested(form) == {"low": 0.0, "high": 14.0}
    assert form["description_placeholders"] == {"metric": "pH", "unit": "", "low": "0", "high": "14"}


@pytest.mark.parametrize(("low", "high"), [(30, 20), (20, 20), (-41, 20), (20, 86)])
async def test_range_must_be_possible(tent: RoomDevice, low: float, high: float) -> None:
    """A range that is upside down, empty or beyond what is possible is asked for again."""
    again = await _set_range(tent.room, "temp_c", low, high)
    assert again["step_id"] == "range"
    assert again["errors"] == {"base": "range_invalid"}
    assert _suggested(again) == {"low": low, "high": high}
    assert tent.room.subentry().data["ranges"] == {}
    done = await tent.room.submit(again, {"low": 20, "high": 25})
    assert done["reason"] == "reconfigure_successful"


async def test_ranges_go_with_their_metrics(tent: RoomDevice) -> None:
    """The range of a metric that the device loses does not come back with the metric."""
    room = tent.room
    await _set_range(room, "temp_c", 20, 25)
    await _set_range(room, "humidity_percent", 40, 60)
    assert set(room.subentry().data["ranges"]) == {"temp_c", "humidity_percent"}
    answer = {"name": "Tent 1", "metrics": ["humidity_percent"], "rate_limit": 100}
    await room.submit(await _reconfigure(room, "settings"), answer)
    assert room.subentry().data["ranges"] == {"humidity_percent": [40, 60]}


async def test_only_numbers_have_ranges(room: Room) -> None:
    """A device of booleans has no ranges to change; among others only its numbers are offered."""
    await room.enrol("tent-1", "smoke", "leak")
    result = await _reconfigure(room, "ranges")
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "no_ranges"
    await room.remove()
    await room.enrol("tent-1", "smoke", "ph", "ec_ms_cm")
    form = await _reconfigure(room, "ranges")
    assert form["data_schema"] is not None
    assert [field.config["options"] for field in form["data_schema"].schema.values()] == [["ec_ms_cm", "ph"]]


async def test_rotates_the_key(tent: RoomDevice) -> None:
    """The new key is shown once; the old one holds until the new one is used."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    form = await _reconfigure(room, "rotate")
    assert fields_of(form) == ["overlap_hours"]
    page = await room.submit(form)
    assert page["step_id"] == "rotated"
    await tent.report({"temp_c": 22.0})
    assert room.state("tent-1/temp_c").state == "22.0"
    done = await room.submit(page)
    assert done["type"] is FlowResultType.ABORT
    assert done["reason"] == "rotated"
    device = RoomDevice(room, DeviceProtocol(_identity(settings_on(page))))
    await device.report({"temp_c": 23.0})
    assert room.state("tent-1/temp_c").state == "23.0"
    await tent.report({"temp_c": 24.0})
    assert room.hub.refused_by_code("tent-1") == {"credential_expired": 1}
    assert room.state("tent-1/temp_c").state == "23.0"
    rotated = await room.audit("rotated")
    assert [(entry["identity"], entry["overlap_s"]) for entry in rotated] == [("administrator", 86_400)]
    key_ids = [each.key_id for each in room.hub.gateway.registry["tent-1"].credentials]
    assert [entry["key_ids"] for entry in rotated] == [key_ids]
    assert len(set(key_ids)) == 2


async def test_rotates_the_key_without_an_overlap(tent: RoomDevice) -> None:
    """The old key ends at once where somebody else may have it."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    page = await room.submit(await _reconfigure(room, "rotate"), {"overlap_hours": 0})
    await tent.report({"temp_c": 22.0})
    assert room.hub.refused_by_code("tent-1") == {"signature_invalid": 1}
    assert room.state("tent-1/temp_c").state == "21.5"
    device = RoomDevice(room, DeviceProtocol(_identity(settings_on(page))))
    await device.report({"temp_c": 23.0})
    assert room.state("tent-1/temp_c").state == "23.0"


async def test_restores_the_key(tent: RoomDevice) -> None:
    """The old key is used again where the device did not take up the new one, which is worth nothing any more."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    page = await room.submit(await _reconfigure(room, "rotate"), {"overlap_hours": 1})
    await room.submit(page)
    menu = await room.start_flow("device", room.subentry().subentry_id)
    options = menu["menu_options"]
    assert options == ["settings", "ranges", "outputs", "rotate", "restore", "disable", "revoke"]
    form = await room.submit(menu, {"next_step_id": "restore"})
    assert form["step_id"] == "restore"
    assert form["description_placeholders"] == {"name": "Tent 1"}
    done = await room.submit(form)
    assert done["type"] is FlowResultType.ABORT
    assert done["reason"] == "restored"
    tent.protocol.connected(room.now)
    await tent.hello()
    await tent.report({"temp_c": 22.0})
    assert room.state("tent-1/temp_c").state == "22.0"
    device = RoomDevice(room, DeviceProtocol(_identity(settings_on(page))))
    assert await device.hello() == []
    assert room.hub.refused_by_code("tent-1") == {"signature_invalid": 1}
    assert [entry["identity"] for entry in await room.audit("credential_restored")] == ["administrator"]


async def test_nothing_to_restore(tent: RoomDevice) -> None:
    """Somebody else restored the key while this form was open."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    form = await _reconfigure(room, "restore")
    await room.call("restore_credentials", {"device_id": "tent-1"})
    again = await room.submit(form)
    assert again["step_id"] == "restore"
    assert again["errors"] == {"base": "credential_unknown"}


@pytest.mark.parametrize("auth", ["broker", "token"])
async def test_only_a_device_that_signs_has_outputs(room: Room, auth: str) -> None:
    """A device that could not be sent a command is not offered outputs, neither now nor later."""
    both = {"metrics": ["temp_c"], "actuators": ["exhaust"]}
    form = await _walk(room, "auth", metrics=both)
    again = await room.submit(form, {"auth": auth})
    assert again["step_id"] == "auth"
    assert again["errors"] == {"auth": "outputs_unsigned"}
    page = await room.submit(await _walk(room, "auth"), {"auth": auth})
    assert page["step_id"] == f"credentials_{auth}"
    await room.submit(page)
    menu = await room.start_flow("device", room.subentry().subentry_id)
    assert menu["menu_options"] == ["settings", "ranges", "rotate", "disable", "revoke"]


@pytest.mark.parametrize("auth", ["es256", "eddsa"])
async def test_rotates_a_key_pair(room: Room, auth: Auth) -> None:
    """A device with its own key pair brings the new public key; a wrong one leaves the old one in force."""
    old, new = generate_key_pair(auth), generate_key_pair(auth)
    device = await room.enrol(auth=auth, public_key=public_pem(old), private_key=old)
    again = await room.submit(await _reconfigure(room, "rotate"), {"public_key": "no PEM"})
    assert again["step_id"] == "rotate"
    assert again["errors"] == {"public_key": "public_key_invalid"}
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
    page = await room.submit(again, {"public_key": public_pem(new)})
    assert page["step_id"] == "rotated"
    await room.submit(page)
    device = RoomDevice(room, DeviceProtocol(_identity(settings_on(page), new, auth)))
    await device.report({"temp_c": 23.0})
    assert room.state("tent-1/temp_c").state == "23.0"


async def test_disk_fails_while_a_key_is_rotated(tent: RoomDevice) -> None:
    """The old key goes on where the new one could not be kept."""
    room = tent.room
    form = await _reconfigure(room, "rotate")
    room.break_store()
    again = await room.submit(form)
    assert again["step_id"] == "rotate"
    assert again["errors"] == {"base": "store_not_written"}
    await tent.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
    room.repair_store()
    page = await room.submit(again)
    assert page["step_id"] == "rotated"


async def test_disables_and_enables(tent: RoomDevice) -> None:
    """A disabled device is refused and shown as unavailable, until it is enabled and speaks again."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    form = await _reconfigure(room, "disable")
    assert form["step_id"] == "disable"
    assert form["description_placeholders"] == {"name": "Tent 1"}
    done = await room.submit(form)
    assert done["reason"] == "disabled"
    assert room.state("tent-1/temp_c").state == "unavailable"
    await tent.report({"temp_c": 22.0})
    assert room.hub.refused_by_code("tent-1") == {"device_disabled": 1}
    await room.reload()
    await tent.report({"temp_c": 22.1})
    assert room.hub.refused_by_code("tent-1") == {"device_disabled": 1}
    done = await room.submit(await _reconfigure(room, "enable"))
    assert done["reason"] == "active"
    assert room.state("tent-1/temp_c").state == "unavailable"
    await tent.report({"temp_c": 22.2})
    assert room.state("tent-1/temp_c").state == "22.2"
    assert [entry["event"] for entry in await room.audit("disabled", "enabled")] == ["disabled", "enabled"]


async def test_revokes(tent: RoomDevice) -> None:
    """A revoked device is refused for good, and its key is nowhere any more."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    secret = room.stored()["devices"]["tent-1"]["credentials"][0]["secret"]
    assert secret
    done = await room.submit(await _reconfigure(room, "revoke"))
    assert done["reason"] == "revoked"
    assert room.state("tent-1/temp_c").state == "unavailable"
    assert secret not in (room.storage / "grokmon.security").read_text()
    await tent.report({"temp_c": 22.0})
    assert room.hub.refused_by_code("tent-1") == {"device_revoked": 1}
    await room.reload()
    await tent.report({"temp_c": 22.0})
    assert room.hub.refused_by_code("tent-1") == {"device_revoked": 1}
    await room.remove()
    again = await room.enrol()
    await again.report({"temp_c": 23.0})
    assert room.state("tent-1/temp_c").state == "23.0"


async def test_status_changes_between_menu_and_form(tent: RoomDevice) -> None:
    """Somebody else revoked the device while this form was open."""
    room = tent.room
    disable, rotate = await _reconfigure(room, "disable"), await _reconfigure(room, "rotate")
    await room.call("revoke_device", {"device_id": "tent-1"})
    for form in (disable, rotate):
        again = await room.submit(form)
        assert again["type"] is FlowResultType.FORM
        assert again["errors"] == {"base": "device_revoked"}


async def test_disk_fails_while_a_device_is_revoked(tent: RoomDevice) -> None:
    """The device is refused all the same, and stays revoked once the disk takes anything again."""
    room = tent.room
    await tent.hello()
    form = await _reconfigure(room, "revoke")
    room.break_store()
    again = await room.submit(form)
    assert again["step_id"] == "revoke"
    assert again["errors"] == {"base": "store_not_written"}
    await tent.report({"temp_c": 21.5})
    assert room.hub.refused_by_code("tent-1") == {"device_revoked": 1}
    room.repair_store()
    await room.enrol("tent-2")
    assert room.stored()["devices"]["tent-1"]["status"] == "revoked"
    await room.reload()
    await tent.report({"temp_c": 21.5})
    assert room.hub.refused_by_code("tent-1") == {"device_revoked": 1}


async def test_removes_a_device(tent: RoomDevice) -> None:
    """Removing the subentry removes device, entities and secrets, and nobody else's."""
    room = tent.room
    other = await room.enrol("tent-2")
    await tent.report({"temp_c": 21.5})
    await other.report({"temp_c": 19.5})
    await room.remove()
    assert list(room.stored()["devices"]) == ["tent-2"]
    assert not [unique_id for unique_id in room.unique_ids() if unique_id.startswith("tent-1")]
    assert dr.async_get(room.hass).async_get_device_by_identifier(("grokmon", "tent-1"), room.entry.entry_id) is None
    assert room.state("tent-2/temp_c").state == "19.5"
    await tent.send(tent.sign_reading({"temp_c": 22.0}))
    assert room.hub.refused_by_code(None) == {"unknown_device": 1}
    assert await room.audit("removed") == [
        {"event": "removed", "device": "tent-1", "caller": "person", "identity": "user"}
    ]
