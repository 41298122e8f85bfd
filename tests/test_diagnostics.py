"""The diagnostics of the hub and of a device."""

from base64 import urlsafe_b64encode
import json

from homeassistant.helpers.json import ExtendedJSONEncoder
from syrupy.assertion import SnapshotAssertion

from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.diagnostics import (
    async_get_config_entry_diagnostics,
    async_get_device_diagnostics,
)
from custom_components.grokmon.gateway.credentials import private_pem

from .common import RoomDevice
from .device_simulator.credentials import generate_key_pair, public_pem

OPTIONS = {
    "stale_after": 120,
    "notify": "phone_of_ann",
    "anchor_url": "https://grower:hunter2@logs.example/path-of-mine?token=sesame",
    "anchor_ca_file": "/ssl/of-mine.crt",
    "broker": {"mode": "none", "host": "broker.example", "admin_username": "boss", "plaintext_port": 1883},
}


async def _make_something_of_everything(tent: RoomDevice) -> None:
    room = tent.room
    key = generate_key_pair("eddsa")
    await room.enrol("tent-2", "ph", "smoke", auth="eddsa", public_key=public_pem(key), private_key=key, rate_limit=9)
    menu = await room.start_flow("device", room.subentry().subentry_id)
    form = await room.submit(await room.submit(menu, {"next_step_id": "ranges"}), {"metric": "temp_c"})
    await room.submit(form, {"low": 20, "high": 25})
    await tent.report({"temp_c": 26.0, "humidity_percent": 50.0})
    await tent.send(b"nonsense")
    await room.receive("grokmon/v1/nobody/up/telemetry", b"x")
    room.hass.config_entries.async_update_entry(room.entry, options=OPTIONS)
    await room.settle()
    await tent.report({"temp_c": 26.0, "humidity_percent": 50.0})
    await tent.send(b"nonsense")
    await room.receive("grokmon/v1/nobody/up/telemetry", b"x")
    await room.let_pass(10)


async def test_hub(tent: RoomDevice, snapshot: SnapshotAssertion) -> None:
    """The diagnostics are what is on the list, as JSON."""
    await _make_something_of_everything(tent)
    await tent.room.hub.audit.async_flush()
    diagnostics = await async_get_config_entry_diagnostics(tent.room.hass, tent.room.entry)
    assert diagnostics == snapshot
    assert json.loads(json.dumps(diagnostics, cls=ExtendedJSONEncoder)) == diagnostics


async def test_device(tent: RoomDevice) -> None:
    """The diagnostics of a device are its part of the hub's."""
    await _make_something_of_everything(tent)
    room = tent.room
    whole = await async_get_config_entry_diagnostics(room.hass, room.entry)
    for part in whole["devices"]:
        assert await async_get_device_diagnostics(room.hass, room.entry, room.device(part["device_id"])) == part


async def test_device_that_is_none_of_the_room(tent: RoomDevice) -> None:
    """The hub itself has no diagnostics as a device."""
    room = tent.room
    assert await async_get_device_diagnostics(room.hass, room.entry, room.device(DOMAIN)) == {}


async def test_no_secret(tent: RoomDevice) -> None:
    """No key gets out, no session that somebody could go on with, nor who the user is and where the servers are."""
    await _make_something_of_everything(tent)
    room = tent.room
    text = json.dumps(await async_get_config_entry_diagnostics(room.hass, room.entry))
    stored = room.stored()
    sealed = [each["secret"] for each in stored["devices"]["tent-1"]["credentials"]]
    (raw,) = [each.secret for each in room.hub.store.state.devices["tent-1"].credentials]
    private = [line for key in room.hub.store.state.site_keys.values() for line in private_pem(key).splitlines()]
    assert tent.protocol.sid is not None
    hidden = [*sealed, urlsafe_b64encode(raw).decode().rstrip("="), raw.hex(), tent.protocol.sid, *private]
    chosen = ["ann", "grower", "hunter2", "example", "of-mine", "sesame", "boss"]
    assert [form for form in [*hidden, *chosen, str(room.admin.user_id)] if form in text] == []
