"""Tests of the amount of a pump's next dose: what the AI may set, and that it is on record."""

from typing import Any

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import Context
from homeassistant.exceptions import ServiceValidationError
import pytest

from custom_components.grokmon.callers import async_note_model

from .common import Room, RoomDevice

DOSE = "node/output_irrigation_dose"


@pytest.fixture
async def node(room: Room) -> RoomDevice:
    """Return a device with a pump."""
    device = await room.enrol("node", actuators=[{"role": "irrigation"}])
    await device.act()
    return device


async def set_dose(room: Room, amount: float, context: Context | None = None) -> None:
    """Set the amount, as an administrator unless told otherwise."""
    await room.act("number", "set_value", DOSE, value=amount, context=context)


async def told(room: Room, event: str) -> list[tuple[str, dict[str, Any]]]:
    """Return who set an amount, and which, as the audit trail has it."""
    return [(each["caller"], each["params"]) for each in await room.audit(event)]


async def test_what_is_set_is_on_record(node: RoomDevice) -> None:
    """Again once a minute, with the amount that it came to."""
    room = node.room
    for amount in (100, 200, 300):
        await set_dose(room, amount)
    assert await told(room, "dose_set") == [("person", {"amount_ml": 100.0})]
    await room.let_pass(61)
    assert await told(room, "dose_set_again") == [("person", {"amount_ml": 300.0})]


@pytest.mark.parametrize("amount", ["nan", "inf"])
async def test_what_is_no_number_is_refused(node: RoomDevice, amount: str) -> None:
    """Home Assistant compares NaN with the bounds of the entity, and finds it within."""
    room = node.room
    for _ in range(3):
        with pytest.raises(ServiceValidationError):
            await set_dose(room, float(amount))
    before = room.state(DOSE).state
    await room.let_pass(61)
    refused = [] if amount == "inf" else [("person", {"amount_ml": "nan"})]
    assert await told(room, "dose_refused") == refused
    assert room.state(DOSE).state == before
    await room.reload()
    assert room.entry.state is ConfigEntryState.LOADED


async def test_ai_sets_no_amount_for_others_that_it_may_not_give(node: RoomDevice) -> None:
    """It keeps to its limits, and sets none while it is blocked."""
    room = node.room
    context = Context(user_id=room.admin.user_id)

    async def as_ai(amount: float) -> None:
        async_note_model(room.hass, context, "agent")
        await set_dose(room, amount, context)

    await room.hass.async_create_task(as_ai(400))
    with pytest.raises(ServiceValidationError) as above:
        await room.hass.async_create_task(as_ai(501))
    room.hub.dispatcher.controller.policy.ai_allowed = False
    with pytest.raises(ServiceValidationError) as blocked:
        await room.hass.async_create_task(as_ai(100))
    assert (above.value.translation_key, blocked.value.translation_key) == ("ai_limit", "ai_blocked")
    assert room.state(DOSE).state == "400.0"
    assert await told(room, "dose_refused") == [("ai", {"amount_ml": 501.0}), ("ai", {"amount_ml": 100.0})]
