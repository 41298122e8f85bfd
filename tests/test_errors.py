"""Domain errors as Home Assistant knows them."""

from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
import pytest

from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.errors import translate_errors
from custom_components.grokmon.gateway.errors import Code, CommandError, GatewayError, PolicyError, RegistryError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CommandError(Code.COMMAND_TIMEOUT, "node/outlet"), HomeAssistantError),
        (PolicyError(Code.LIMIT_EXCEEDED, "node/outlet"), ServiceValidationError),
        (RegistryError(Code.UNKNOWN_DEVICE, "node/outlet"), ServiceValidationError),
    ],
)
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
