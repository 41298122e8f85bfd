"""Tests of what only administrators do by entities: others are refused, and it stands in the audit trail."""

from homeassistant.auth.const import GROUP_ID_USER
from homeassistant.core import Context
from homeassistant.exceptions import ServiceValidationError
from homeassistant.setup import async_setup_component
import pytest

from custom_components.grokmon.callers import async_note_model
from custom_components.grokmon.gateway.zones import Interlock

from .common import Room


@pytest.fixture
async def deeds(room: Room) -> dict[str, tuple[str, str]]:
    """Return what only an administrator does in a room with a zone, by unique id."""
    await room.add_zone("Tent")
    await room.act("switch", "turn_off", "hub/ai_control")
    zone = next(iter(room.hub.zones.coordinators))
    return {"hub/ai_control": ("switch", "turn_on"), f"{zone}/reset_interlocks": ("button", "press")}


async def test_user_is_refused_and_counted(room: Room, deeds: dict[str, tuple[str, str]]) -> None:
    """The first time stands in the trail at once, the rest as a number."""
    user = await room.hass.auth.async_create_user("Grower", group_ids=[GROUP_ID_USER])
    for unique_id, service in deeds.items():
        for _ in range(3):
            with pytest.raises(ServiceValidationError) as refused:
                await room.act(*service, unique_id, context=Context(user_id=user.id))
            assert refused.value.translation_key == "not_administrator"
    entities = [room.entity_id(unique_id) for unique_id in deeds]
    entries = await room.audit("entity_refused")
    assert [(each["entity"], each["caller"], each["identity"], each["reason"]) for each in entries] == [
        (entity_id, "person", user.id, "not_administrator") for entity_id in entities
    ]
    await room.let_pass(61)
    again = await room.audit("entity_refused_again")
    assert [(each["entity"], each["identity"], each["count"]) for each in again] == [
        (entity_id, user.id, 2) for entity_id in entities
    ]
    assert not room.hub.dispatcher.controller.policy.ai_allowed


async def test_model_is_told_from_the_administrator_in_whose_name_it_acts(
    room: Room, deeds: dict[str, tuple[str, str]]
) -> None:
    """A model that would let itself act is the one that is on record, not the administrator."""
    async_note_model(room.hass, room.admin, "agent")
    for unique_id, service in deeds.items():
        with pytest.raises(ServiceValidationError):
            await room.act(*service, unique_id, context=room.admin)
    entries = await room.audit("entity_refused")
    assert [(each["caller"], each["identity"]) for each in entries] == [("ai", "agent")] * len(deeds)


async def test_script_of_an_administrator(room: Room, deeds: dict[str, tuple[str, str]]) -> None:
    """By entities an administrator acts through a script, too: an entity answers nothing that a trace would keep."""
    zone = next(iter(room.hub.zones.coordinators))
    room.hub.dispatcher.controller.interlocks.restore({zone: [Interlock.SMOKE.value]}, {})
    actions = [
        {"action": ".".join(service), "target": {"entity_id": room.entity_id(unique_id)}}
        for unique_id, service in deeds.items()
    ]
    assert await async_setup_component(room.hass, "script", {"script": {"morning": {"sequence": actions}}})
    await room.hass.services.async_call("script", "morning", blocking=True, context=room.admin)
    await room.settle()
    assert room.hub.dispatcher.controller.policy.ai_allowed
    assert await room.audit("entity_refused") == []
