"""Set-up, unloading, reloading and removal of the hub."""

from collections.abc import Callable
from datetime import timedelta
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

from freezegun.api import FrozenDateTimeFactory
from homeassistant.config_entries import ConfigEntryState, ConfigSubentry
from homeassistant.const import EVENT_HOMEASSISTANT_STOP, STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.storage import Store
import pytest
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped] # has no py.typed
    MockConfigEntry,
    async_fire_time_changed,
)

from custom_components.grokmon.audit_file import Opening
from custom_components.grokmon.const import CONF_STALE_AFTER, CONF_TOPIC_PREFIX, DOMAIN, PLATFORMS
from custom_components.grokmon.hub import GrokmonConfigEntry, GrokmonHub

from .common import Room, RoomDevice
from .device_simulator.credentials import DeviceIdentity
from .device_simulator.protocol import DeviceProtocol


async def test_unload_and_set_up_again(tent: RoomDevice) -> None:
    """An unloaded hub hears nothing; set up again, it goes on where it was."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    assert room.entry_is(ConfigEntryState.LOADED)
    missed = tent.sign_reading({"temp_c": 22.0})
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert room.entry_is(ConfigEntryState.NOT_LOADED)
    assert room.state("tent-1/temp_c").state == STATE_UNAVAILABLE
    await tent.send(missed)
    assert room.state("tent-1/temp_c").state == STATE_UNAVAILABLE
    assert room.audit_on_disk()[-1]["event"] == "stopped"
    assert await room.set_up()
    await tent.send(missed)
    assert room.state("tent-1/temp_c").state == "22.0"


async def test_hub_goes_on_when_its_entities_cannot_be_unloaded(tent: RoomDevice) -> None:
    """What could not be unloaded is not half stopped: devices are heard all the same."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    with patch.object(room.hass.config_entries, "async_unload_platforms", return_value=False):
        assert not await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert room.entry_is(ConfigEntryState.FAILED_UNLOAD)
    await tent.report({"temp_c": 22.5})
    assert room.state("tent-1/temp_c").state == "22.5"
    assert await room.hass.config_entries.async_unload_platforms(room.entry, PLATFORMS)
    await room.hub.async_stop()


@pytest.mark.parametrize("options", [{CONF_STALE_AFTER: 60}])
async def test_new_options_reload(tent: RoomDevice) -> None:
    """Options hold from the moment they are changed, without a restart."""
    room = tent.room
    before = room.hub
    assert room.hub.enrolment.coordinators["tent-1"].stale_after == 60
    room.hass.config_entries.async_update_entry(room.entry, options={CONF_STALE_AFTER: 120})
    await room.settle()
    assert room.hub is not before
    assert room.hub.enrolment.coordinators["tent-1"].stale_after == 120


async def test_new_prefix_reloads(tent: RoomDevice) -> None:
    """A device is heard under the new prefix, and no more under the old one."""
    room = tent.room
    room.hass.config_entries.async_update_entry(room.entry, data={CONF_TOPIC_PREFIX: "farm/two"})
    await room.settle()
    assert await tent.hello() == []
    (settings,) = (await room.call("rotate_credentials", {"device_id": "tent-1"}))["devices"]
    key = settings["key"]
    moved = RoomDevice(room, DeviceProtocol(DeviceIdentity.from_root_key("tent-1", key, "farm/two")))
    await moved.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_what_is_no_setting_of_the_hub_does_not_reload(tent: RoomDevice) -> None:
    """Devices and zones come and go, and the hub may be renamed, while it runs."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    before = room.hub
    await room.add_zone("Flower tent")
    await room.enrol("tent-2")
    await room.remove("tent-2")
    room.hass.config_entries.async_update_entry(room.entry, title="My room")
    await room.settle()
    assert room.hub is before
    assert room.state("tent-1/temp_c").state == "21.5"


async def _saved_while_it_starts(room: Room, save: Callable[[], object]) -> None:
    """Start anew; save something when the hub has read what there was, and is not up yet."""
    start = GrokmonHub.async_start

    async def saved(hub: GrokmonHub, opening: Opening) -> None:
        await start(hub, opening)
        save()

    with patch.object(GrokmonHub, "async_start", autospec=True, side_effect=saved):
        await room.reload()


async def test_zone_that_is_saved_while_the_hub_starts(tent: RoomDevice) -> None:
    """It is followed all the same."""
    room = tent.room
    zone = ConfigSubentry(
        data=MappingProxyType({"stage": "flowering"}), subentry_type="zone", title="Late", unique_id=None
    )
    await _saved_while_it_starts(room, lambda: room.hass.config_entries.async_add_subentry(room.entry, zone))
    assert [each.name for each in room.hub.dispatcher.controller.zones.values()] == ["Late"]
    assert room.state(f"{zone.subentry_id}/stage").state == "flowering"
    assert len(await room.audit("zone_added")) == 1


async def test_setting_that_is_saved_while_the_hub_starts(tent: RoomDevice) -> None:
    """The hub starts once more, and knows it."""
    room, save = tent.room, tent.room.hass.config_entries.async_update_entry
    once = iter([{CONF_STALE_AFTER: 120}])
    await _saved_while_it_starts(room, lambda: save(room.entry, options=next(once, room.entry.options)))
    assert room.hub.enrolment.coordinators["tent-1"].stale_after == 120
    assert [entry["names"] for entry in await room.audit("settings_changed")] == [[CONF_STALE_AFTER]]


@pytest.mark.usefixtures("mqtt_client_mock", "mock_hass_config")
async def test_waits_for_mqtt(
    clock: FrozenDateTimeFactory, hass: HomeAssistant, entry: GrokmonConfigEntry, issue_registry: ir.IssueRegistry
) -> None:
    """Without MQTT there is an issue, and the set-up is tried again until there is MQTT."""
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert entry.error_reason_translation_key == "mqtt_missing"
    issue = issue_registry.async_get_issue(DOMAIN, "mqtt_missing")
    assert issue is not None
    assert issue.translation_key == "mqtt_missing"

    mqtt = MockConfigEntry(
        domain="mqtt", data={"broker": "mock-broker", "protocol": "5"}, options={"birth_message": {}}, version=1
    )
    mqtt.add_to_hass(hass)
    assert await hass.config_entries.async_setup(mqtt.entry_id)
    clock.tick(timedelta(minutes=2))
    async_fire_time_changed(hass)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert hass.config_entries.async_loaded_entries(DOMAIN) == [entry]
    assert issue_registry.async_get_issue(DOMAIN, "mqtt_missing") is None


async def test_folder_of_the_audit_trail_cannot_be_made(quiet_room: Room) -> None:
    """Nothing is decided without an audit trail; a disk may come back."""
    quiet_room.audit_path.parents[1].mkdir()
    quiet_room.audit_path.parent.touch()
    assert not await quiet_room.set_up()
    assert quiet_room.entry.state is ConfigEntryState.SETUP_RETRY
    assert quiet_room.entry.error_reason_translation_key == "audit_not_opened"
    assert "grokmon" in (quiet_room.entry.reason or "")


async def test_audit_trail_does_not_end_with_an_entry(quiet_room: Room) -> None:
    """What somebody else appended is not built upon, and does not go away by itself."""
    quiet_room.put_audit_file('{"event":"forged"}\n')
    assert not await quiet_room.set_up()
    assert quiet_room.entry.state is ConfigEntryState.SETUP_ERROR
    assert quiet_room.entry.error_reason_translation_key == "audit_not_opened"
    assert quiet_room.audit_path.read_text() == '{"event":"forged"}\n'


async def test_torn_line_of_the_audit_trail_is_recovered(quiet_room: Room) -> None:
    """What a power cut left half written is set aside, and that is recorded."""
    quiet_room.put_audit_file('{"n":1,"ev')
    assert await quiet_room.set_up()
    assert (await quiet_room.audit())[0] == {"event": "audit_recovered", "reason": "torn", "bytes": 10}


async def test_failed_start_leaves_nothing_behind(quiet_room: Room) -> None:
    """A hub that could not subscribe does not go on ticking, nor wait for Home Assistant to stop."""
    before = quiet_room.hass.bus.async_listeners().get(EVENT_HOMEASSISTANT_STOP)
    with patch("homeassistant.components.mqtt.async_subscribe", side_effect=HomeAssistantError("not now")):
        assert not await quiet_room.set_up()
    assert (quiet_room.entry.state, quiet_room.entry.reason) == (ConfigEntryState.SETUP_RETRY, "not now")
    assert quiet_room.hass.bus.async_listeners().get(EVENT_HOMEASSISTANT_STOP) == before
    assert await quiet_room.hass.config_entries.async_reload(quiet_room.entry.entry_id)
    await quiet_room.let_pass(60)
    assert quiet_room.state("hub/accepted").state == "0"


async def test_removal_deletes_secrets(tent: RoomDevice) -> None:
    """Removing the integration deletes credentials and sessions; the audit trail stays."""
    room = tent.room
    await tent.report({"temp_c": 21.5})
    assert (room.storage / "grokmon.security").exists()
    await room.hass.config_entries.async_remove(room.entry.entry_id)
    await room.settle()
    assert not list(room.storage.glob("grokmon.*"))
    assert [entry["event"] for entry in room.audit_on_disk()][-1] == "stopped"
    assert room.hass.states.async_entity_ids("sensor") == []


async def test_credential_without_a_device_is_forgotten_at_start(tent: RoomDevice) -> None:
    """A secret of which no subentry tells, as after a crash during enrolment, is deleted."""
    room = tent.room
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    room.hass.config_entries.async_remove_subentry(room.entry, room.subentry().subentry_id)
    assert "tent-1" in room.stored()["devices"]
    assert await room.set_up()
    assert room.stored()["devices"] == {}
    assert await room.audit("removed") == [
        {"event": "removed", "device": "tent-1", "caller": "system", "identity": "system"}
    ]


async def test_device_without_a_credential(tent: RoomDevice, issue_registry: ir.IssueRegistry) -> None:
    """After half a restore the device is refused and an issue says so, until the device is removed."""
    room = tent.room
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    (room.storage / "grokmon.security").unlink()
    assert await room.set_up()
    issue = issue_registry.async_get_issue(DOMAIN, "credential_missing_tent-1")
    assert issue is not None
    assert issue.translation_placeholders == {"name": "Tent 1"}
    await tent.hello()
    assert room.hub.refused_by_code(None) == {"unknown_device": 1}
    await room.remove()
    assert issue_registry.async_get_issue(DOMAIN, "credential_missing_tent-1") is None
    again = await room.enrol()
    await again.report({"temp_c": 20.0})
    assert room.state("tent-1/temp_c").state == "20.0"


async def test_credential_that_comes_back(tent: RoomDevice, issue_registry: ir.IssueRegistry) -> None:
    """Restoring the other half of the backup ends the issue."""
    room = tent.room
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    store = room.storage / "grokmon.security"
    backup = store.read_bytes()
    store.unlink()
    assert await room.set_up()
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    store.write_bytes(backup)
    assert await room.set_up()
    assert issue_registry.async_get_issue(DOMAIN, "credential_missing_tent-1") is None
    await tent.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_changes_of_settings_are_recorded(room: Room) -> None:
    """Who looks into the trail sees which settings were changed, and when, and what a zone became."""
    room.hass.config_entries.async_update_entry(room.entry, options={CONF_STALE_AFTER: 60})
    await room.settle()
    assert [entry["names"] for entry in await room.audit("settings_changed")] == [[CONF_STALE_AFTER]]
    subentry = await room.add_zone("Tent")
    zone = subentry.subentry_id
    data = {**subentry.data, "stage": "flowering"}
    room.hass.config_entries.async_update_subentry(room.entry, subentry, data=data)
    await room.settle()
    room.hass.config_entries.async_remove_subentry(room.entry, zone)
    await room.settle()
    told = await room.audit("zone_added", "zone_changed", "zone_removed")
    assert [(entry["event"], entry["zone"]) for entry in told] == [
        ("zone_added", zone),
        ("zone_changed", zone),
        ("zone_removed", zone),
    ]
    assert told[1]["settings"]["stage"] == "flowering"


async def test_disk_that_fails_at_a_start(tent: RoomDevice) -> None:
    """It is tried again by itself, not only once somebody looks."""
    room = tent.room
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    await room.remove()
    room.break_store()
    assert not await room.set_up()
    assert room.entry.state is ConfigEntryState.SETUP_RETRY
    room.repair_store()
    await room.let_pass(60)
    assert room.entry_is(ConfigEntryState.LOADED)


async def test_sessions_that_cannot_be_read(tent: RoomDevice) -> None:
    """What is good for two minutes keeps no room from starting, and is not read later."""
    room, load = tent.room, Store.async_load
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)

    async def refused(store: Store[Any]) -> Any:
        if store.key == "grokmon.sessions":
            raise HomeAssistantError("permission denied")
        return await load(store)

    with patch.object(Store, "async_load", refused):
        assert await room.set_up()
    assert not (room.storage / "grokmon.sessions").exists()
    await tent.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"


async def test_sessions_that_cannot_be_deleted(tent: RoomDevice) -> None:
    """A disk that takes nothing just now is tried again: what was read must not be read twice."""
    room, remove = tent.room, Store.async_remove
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)

    async def refused(store: Store[Any]) -> None:
        if store.key == "grokmon.sessions":
            raise OSError(30, "Read-only file system")
        await remove(store)

    with patch.object(Store, "async_remove", refused):
        assert not await room.set_up()
    assert room.entry.state is ConfigEntryState.SETUP_RETRY
    assert "Read-only" in (room.entry.reason or "")
