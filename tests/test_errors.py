"""Domain errors as Home Assistant knows them."""

from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
import pytest

from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.errors import async_explain, translate_errors
from custom_components.grokmon.gateway.errors import Code, CommandError, GatewayError, PolicyError, RegistryError

from .common import Room

BUDGET = {"unit": "mL", "hours": "24", "limit": "1", "left": "0", "wait": "1 h"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CommandError(Code.COMMAND_TIMEOUT, "node/outlet"), HomeAssistantError),
        (PolicyError(Code.LIMIT_EXCEEDED, "node/outlet"), ServiceValidationError),
        (PolicyError(Code.AUDIT_UNAVAILABLE, "node/outlet"), HomeAssistantError),
        (PolicyError(Code.DEVICE_OFFLINE, "node/outlet"), HomeAssistantError),
        (RegistryError(Code.UNKNOWN_DEVICE, "node/outlet"), ServiceValidationError),
    ],
)
@pytest.mark.usefixtures("room")
async def test_kind(error: GatewayError, kind: type[HomeAssistantError]) -> None:
    """Who asked for nonsense is told so; who asked in vain is told that it failed."""

    @translate_errors
    async def fail() -> None:
        raise error

    with pytest.raises(HomeAssistantError) as raised:
        await fail()
    assert type(raised.value) is kind
    assert (raised.value.translation_domain, raised.value.translation_key) == (DOMAIN, error.code.value)
    assert raised.value.translation_placeholders == {"detail": "node/outlet"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PolicyError(Code.SENSOR_STALE, values={"metric": "temp_c"}), "Air temperature (°C)"),
        (PolicyError(Code.OUTPUT_FAULT, values={"fault": "no_flow"}), "no water flows"),
        (PolicyError(Code.BUDGET_EXCEEDED, values=BUDGET | {"whose": "node/grow_light"}), "Node Grow light"),
        (PolicyError(Code.BUDGET_EXCEEDED, values=BUDGET | {"whose": "Tent/grow_light"}), "Tent/grow_light"),
        (PolicyError(Code.BUDGET_EXCEEDED, values=BUDGET | {"whose": "Tent"}), "Tent"),
        (CommandError(Code.COMMAND_TIMEOUT, "node/outlet"), "Node Outlet"),
        (CommandError(Code.COMMAND_FAILED, "node/outlet: overheated"), "Node Outlet: overheated"),
        (CommandError(Code.COMMAND_SUPERSEDED, "node/gone"), "node/gone"),
    ],
)
async def test_names_are_those_of_home_assistant(room: Room, error: GatewayError, said: str) -> None:
    """A person reads what outputs and metrics are called where they are shown, not what the protocol calls them."""
    node = await room.enrol("node", actuators=[{"role": "grow_light"}, {"role": "outlet"}])
    await node.act()

    @translate_errors
    async def fail() -> None:
        raise error

    with pytest.raises(HomeAssistantError) as raised:
        await fail()
    assert said in (raised.value.translation_placeholders or {}).values()
    assert said in await async_explain(room.hass, error)
