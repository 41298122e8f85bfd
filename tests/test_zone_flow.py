"""The subentry flow of a zone."""

from homeassistant.data_entry_flow import FlowResultType, InvalidData
import pytest

from custom_components.grokmon.gateway.zones import Stage

from .common import Room, RoomDevice


async def test_adds_a_zone(room: Room) -> None:
    """A zone is a name and a growth stage."""
    form = await room.start_flow("zone")
    assert form["type"] is FlowResultType.FORM
    assert form["step_id"] == "user"
    done = await room.submit(form, {"name": " Flower tent ", "stage": "flowering"})
    assert done["type"] is FlowResultType.CREATE_ENTRY
    zones = [subentry for subentry in room.entry.subentries.values() if subentry.subentry_type == "zone"]
    assert [(zone.title, dict(zone.data)) for zone in zones] == [("Flower tent", {"stage": "flowering"})]


async def test_stage_begins_with_seedlings(room: Room) -> None:
    """Plants begin as seedlings."""
    form = await room.start_flow("zone")
    await room.submit(form, {"name": "Nursery"})
    (zone,) = room.entry.subentries.values()
    assert dict(zone.data) == {"stage": Stage.SEEDLING}


async def test_stage_must_be_one_of_the_list(room: Room) -> None:
    """What is no growth stage is refused."""
    form = await room.start_flow("zone")
    with pytest.raises(InvalidData):
        await room.submit(form, {"name": "Nursery", "stage": "compost"})
    assert not room.entry.subentries


@pytest.mark.parametrize(
    ("name", "error"),
    [("", "name_missing"), ("  ", "name_missing"), ("flower TENT", "zone_exists"), ("Flower tent ", "zone_exists")],
)
async def test_name_must_be_its_own(room: Room, name: str, error: str) -> None:
    """A zone has a name, and no other zone has it in whatever letters."""
    await room.add_zone("Flower tent")
    form = await room.start_flow("zone")
    again = await room.submit(form, {"name": name, "stage": "flowering"})
    assert again["type"] is FlowResultType.FORM
    assert again["step_id"] == "user"
    assert again["errors"] == {"name": error}
    done = await room.submit(again, {"name": "Veg tent", "stage": "vegetative"})
    assert done["type"] is FlowResultType.CREATE_ENTRY


async def test_name_of_a_device_does_not_count(tent: RoomDevice) -> None:
    """A zone may be called like a device."""
    zone = await tent.room.add_zone("Tent 1")
    assert zone.subentry_type == "zone"


async def test_changes_a_zone(room: Room) -> None:
    """A zone keeps its identity when its name and its stage change."""
    zone = await room.add_zone("Flower tent", "transition")
    await room.add_zone("Veg tent")
    form = await room.submit(await room.start_flow("zone", zone.subentry_id), {"next_step_id": "settings"})
    assert form["step_id"] == "settings"
    assert form["data_schema"] is not None
    suggested = {key.schema: key.description["suggested_value"] for key in form["data_schema"].schema}
    assert suggested == {"name": "Flower tent", "stage": "transition"}
    again = await room.submit(form, {"name": "veg tent", "stage": "flowering"})
    assert again["errors"] == {"name": "zone_exists"}
    assert zone.title == "Flower tent"
    done = await room.submit(again, {"name": "Bloom tent ", "stage": "flowering"})
    assert done["type"] is FlowResultType.ABORT
    assert done["reason"] == "reconfigure_successful"
    # The words are ours.
    assert "translation_domain" not in done
    assert (zone.title, dict(zone.data)) == ("Bloom tent", {"stage": "flowering"})


async def test_stage_changes_under_the_same_name(room: Room) -> None:
    """The name of a zone is not taken by itself."""
    zone = await room.add_zone("Flower tent", "transition")
    form = await room.submit(await room.start_flow("zone", zone.subentry_id), {"next_step_id": "settings"})
    done = await room.submit(form, {"name": "Flower tent", "stage": "harvest"})
    assert done["reason"] == "reconfigure_successful"
    assert dict(zone.data) == {"stage": "harvest"}


async def test_device_follows_its_zone(room: Room) -> None:
    """A device belongs to a zone whatever it is called, and to none when the zone is gone."""
    zone = await room.add_zone("Flower tent")
    await room.enrol(zone="FLOWER TENT")

    async def zone_of_the_device() -> str | None:
        name: str | None = (await room.call("list_devices"))["devices"][0]["zone"]
        return name

    assert await zone_of_the_device() == "Flower tent"
    room.hass.config_entries.async_update_subentry(room.entry, zone, title="Bloom tent")
    await room.settle()
    assert await zone_of_the_device() == "Bloom tent"
    room.hass.config_entries.async_remove_subentry(room.entry, zone.subentry_id)
    await room.settle()
    assert await zone_of_the_device() is None


async def test_nothing_is_changed_while_the_hub_is_away(room: Room) -> None:
    """What the trail cannot tell is not done: no new zone, no change, and not by a form that was open before."""
    zone = await room.add_zone("Tent")
    adding = await room.start_flow("zone")
    changing = await room.submit(await room.start_flow("zone", zone.subentry_id), {"next_step_id": "interlocks"})
    assert changing["data_schema"] is not None
    answers = {str(key): key.description["suggested_value"] for key in changing["data_schema"].schema}
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    late = [
        await room.submit(adding, {"name": "Other", "stage": "flowering"}),
        await room.submit(changing, answers | {"enabled": []}),
        await room.start_flow("zone"),
        await room.start_flow("zone", zone.subentry_id),
    ]
    assert [(done["type"], done["reason"]) for done in late] == [(FlowResultType.ABORT, "not_loaded")] * 4
    assert [dict(each.data) for each in room.entry.subentries.values()] == [dict(zone.data)]
