"""Tests of the growth stage of a zone: who changes it to and fro fills no trail."""

from .common import Room


async def test_stage_to_and_fro(room: Room) -> None:
    """It is on record once, and once a minute with the stage that it came to."""
    await room.add_zone("Tent")
    stage = f"{next(iter(room.hub.zones.coordinators))}/stage"
    for option in ("flowering", "vegetative") * 20:
        await room.act("select", "select_option", stage, option=option)
    assert [each["stage"] for each in await room.audit("stage")] == ["flowering"]
    await room.let_pass(61)
    assert [(each["stage"], each["count"]) for each in await room.audit("stage_again")] == [("vegetative", 39)]
    assert room.state(stage).state == "vegetative"
