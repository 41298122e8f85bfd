"""Options of the broker and of HTTP: what is asked, what is kept where, and what is never shown again."""

from collections.abc import Iterator
from time import time
from typing import Any
from unittest.mock import patch

from homeassistant.config_entries import ConfigFlowResult
from homeassistant.data_entry_flow import InvalidData
import pytest

from custom_components.grokmon.broker import accounts
from custom_components.grokmon.broker.connection import UnreachableError
from custom_components.grokmon.gateway.authority import new_authority
from custom_components.grokmon.gateway.topics import PROBE_IDS

from .common import Room

PASSWORDS = {"admin_password": "the-admins-password", "probe_password": "the-probes-password"}
# Made before any clock stands still: cryptography keeps for good the class of dates that it meets first.
AUTHORITY = new_authority(time()).certificate
DYNAMIC = {"mode": "dynamic_security", "admin_username": "admin", "plaintext_port": 1883}


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    """Let there be no broker whose accounts could be changed."""
    with patch.object(accounts, "bring_in_step", side_effect=UnreachableError("nobody")):
        yield


async def _begin(room: Room, step: str) -> ConfigFlowResult:
    menu = await room.hass.config_entries.options.async_init(room.entry.entry_id)
    return await room.hass.config_entries.options.async_configure(menu["flow_id"], {"next_step_id": step})


async def _submit(room: Room, form: ConfigFlowResult, answers: dict[str, Any]) -> ConfigFlowResult:
    done = await room.hass.config_entries.options.async_configure(form["flow_id"], answers)
    await room.settle()
    return done


def _shown(form: ConfigFlowResult) -> dict[str, Any]:
    """Return what the fields of a form hold before anybody types."""
    assert form["data_schema"] is not None
    return {
        str(key): key.description["suggested_value"]
        for key in form["data_schema"].schema
        if key.description and "suggested_value" in key.description
    }


async def test_passwords_are_not_kept_with_the_entry(room: Room) -> None:
    """They go to the sealed store, and neither the entry nor the trail nor a later form has them."""
    done = await _submit(room, await _begin(room, "broker"), {**DYNAMIC, **PASSWORDS})
    assert done["type"] == "create_entry"
    assert room.entry.options == {"broker": DYNAMIC}
    state = room.hub.store.state.broker
    assert (state.admin_password, state.probe_password) == tuple(PASSWORDS.values())
    form = await _begin(room, "broker")
    assert _shown(form) == DYNAMIC
    everything = [str(room.entry.as_dict()), str(form), str(room.stored()), room.audit_path.read_text()]
    assert not [text for text in everything for password in PASSWORDS.values() if password in text]
    changed = (await room.audit("settings_changed"))[-1]
    assert changed["names"] == ["broker"]


@pytest.mark.parametrize("given", [{}, {"admin_password": ""}, {"admin_password": "", "probe_password": ""}])
async def test_empty_password_keeps_the_one_before(room: Room, given: dict[str, str]) -> None:
    """Who leaves a password empty changes everything else."""
    await _submit(room, await _begin(room, "broker"), {**DYNAMIC, **PASSWORDS})
    await _submit(room, await _begin(room, "broker"), {**DYNAMIC, "admin_username": "other", **given})
    assert room.entry.options["broker"]["admin_username"] == "other"
    state = room.hub.store.state.broker
    assert (state.admin_password, state.probe_password) == tuple(PASSWORDS.values())


async def test_one_password_alone(room: Room) -> None:
    """A password changes without the other, and without a restart."""
    await _submit(room, await _begin(room, "broker"), {**DYNAMIC, **PASSWORDS})
    hub = room.hub
    await _submit(room, await _begin(room, "broker"), {**DYNAMIC, "admin_password": "another"})
    assert room.hub is hub
    state = room.hub.store.state.broker
    assert (state.admin_password, state.probe_password) == ("another", "the-probes-password")
    assert state.revoking == {}
    await _submit(room, await _begin(room, "broker"), {**DYNAMIC, "probe_password": "another"})
    assert room.hub.store.state.broker.revoking.keys() == set(PROBE_IDS)


@pytest.mark.parametrize(
    ("wrong", "errors"),
    [
        ({"admin_username": ""}, {"admin_username": "admin_missing"}),
        ({"ca_certificate": "garbage"}, {"ca_certificate": "certificate_invalid"}),
        (
            {"ca_certificate": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"},
            {"ca_certificate": "certificate_invalid"},
        ),
        ({"ca_certificate": "für uns"}, {"ca_certificate": "certificate_invalid"}),
        (
            {"admin_username": "", "ca_certificate": "garbage"},
            {"admin_username": "admin_missing", "ca_certificate": "certificate_invalid"},
        ),
    ],
)
async def test_form_that_comes_back(room: Room, wrong: dict[str, str], errors: dict[str, str]) -> None:
    """A form with an error keeps what was typed, shows no password, and stores nothing until it is mended."""
    answers = {**DYNAMIC, "host": "broker.example", **wrong}
    form = await _submit(room, await _begin(room, "broker"), {**answers, **PASSWORDS})
    assert (form["type"], form["errors"]) == ("form", errors)
    assert _shown(form) == answers
    assert not [each for each in PASSWORDS.values() if each in str(form["data_schema"])]
    assert room.entry.options == {}
    assert room.hub.store.state.broker.admin_password == ""
    mended = {**DYNAMIC, "ca_certificate": AUTHORITY}
    assert (await _submit(room, form, mended))["type"] == "create_entry"
    assert room.entry.options == {"broker": mended}
    state = room.hub.store.state.broker
    assert (state.admin_password, state.probe_password) == tuple(PASSWORDS.values())


async def test_no_administrator_where_none_is_needed(room: Room) -> None:
    """Only dynamic security has one."""
    for mode in ("none", "files"):
        done = await _submit(room, await _begin(room, "broker"), {"mode": mode})
        assert done["type"] == "create_entry"
        assert room.entry.options == {"broker": {"mode": mode, "plaintext_port": 1883}}


@pytest.mark.parametrize("wrong", [{"mode": "else"}, {"port": 0}, {"port": 65_536}, {"plaintext_port": "x"}])
async def test_what_makes_no_sense(room: Room, wrong: dict[str, Any]) -> None:
    """The form refuses what it could not have offered."""
    form = await _begin(room, "broker")
    with pytest.raises(InvalidData):
        await _submit(room, form, {"mode": "none", **wrong})


async def test_fields_that_are_left_empty(room: Room) -> None:
    """What is taken out of the form is as Home Assistant's MQTT has it."""
    address = {"host": "broker.example", "port": 8883}
    await _submit(room, await _begin(room, "broker"), {"mode": "none", **address})
    assert room.entry.options["broker"] == {"mode": "none", "plaintext_port": 1883, **address}
    await _submit(room, await _begin(room, "broker"), {"mode": "none"})
    assert room.entry.options["broker"] == {"mode": "none", "plaintext_port": 1883}


async def test_disk_that_refuses(room: Room) -> None:
    """A password that the disk does not keep is not taken, and the form says so without showing it."""
    form = await _begin(room, "broker")
    room.break_store()
    form = await _submit(room, form, {**DYNAMIC, **PASSWORDS})
    assert (form["type"], form["errors"]) == ("form", {"base": "store_not_written"})
    assert _shown(form) == DYNAMIC
    assert room.hub.store.state.broker.admin_password == ""
    room.repair_store()
    assert (await _submit(room, form, {**DYNAMIC, **PASSWORDS}))["type"] == "create_entry"


async def test_without_a_running_hub(room: Room) -> None:
    """What is chosen then would not be on record, not even in a form that was open before."""
    form = await _begin(room, "general")
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    late = await _submit(room, form, {"stale_after": 120})
    begun = await room.hass.config_entries.options.async_init(room.entry.entry_id)
    for done in (late, begun):
        assert (done["type"], done["reason"]) == ("abort", "not_loaded")
    assert room.entry.options == {}


async def test_http(room: Room) -> None:
    """Both ways in are closed until somebody opens them; the rest of the options stays."""
    await _submit(room, await _begin(room, "general"), {"stale_after": 120})
    assert not room.hub.trust.offers("http_ingest")
    form = await _begin(room, "http")
    assert _shown(form) == {}
    done = await _submit(room, form, {"http_ingest": True})
    assert done["type"] == "create_entry"
    assert room.entry.options == {"stale_after": 120, "http_ingest": True, "http_enrolment": False}
    assert room.hub.trust.offers("http_ingest")
    assert not room.hub.trust.offers("http_enrolment")
    form = await _begin(room, "http")
    assert _shown(form) == {"http_ingest": True, "http_enrolment": False}
    await _submit(room, form, {"http_ingest": False, "http_enrolment": True})
    assert not room.hub.trust.offers("http_ingest")
    assert room.hub.trust.offers("http_enrolment")


async def test_administrator_is_called_like_a_device(room: Room) -> None:
    """Whoever has the certificate of a device must not be the broker's administrator by it."""
    await room.enrol("tent-1")
    form = await _begin(room, "broker")
    form = await _submit(room, form, {**DYNAMIC, **PASSWORDS, "admin_username": "tent-1"})
    assert (form["type"], form["errors"]) == ("form", {"admin_username": "admin_is_device"})
    assert (await _submit(room, form, {**DYNAMIC, **PASSWORDS}))["type"] == "create_entry"
