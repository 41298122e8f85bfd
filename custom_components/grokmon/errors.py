"""Domain errors to Home Assistant's, in words that a person understands."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Final

from homeassistant.core import HomeAssistant, async_get_hass
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers.translation import async_get_translations

from .const import DOMAIN
from .forms import label
from .gateway.actuators import Key
from .gateway.errors import Code, CommandError, GatewayError
from .unique_ids import full_name, output_entity

# What was asked for was right, and did not come about.
_IN_VAIN: Final = frozenset({Code.AUDIT_UNAVAILABLE, Code.COMMAND_SUPERSEDED, Code.DEVICE_OFFLINE})


def translate_errors[**P, R](function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Raise a translated error where the wrapped function raises a GatewayError.

    What was asked for in vain is a HomeAssistantError; what should not have been asked for, a ServiceValidationError.
    """

    @wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await function(*args, **kwargs)
        except GatewayError as error:
            in_vain = isinstance(error, CommandError) or error.code in _IN_VAIN
            kind = HomeAssistantError if in_vain else ServiceValidationError
            raise kind(
                translation_domain=DOMAIN,
                translation_key=error.sentence,
                translation_placeholders=await _async_words(async_get_hass(), error),
            ) from error

    return wrapper


async def async_explain(hass: HomeAssistant, error: GatewayError) -> str:
    """Return what an error says in the language of this Home Assistant, for where none is raised."""
    texts = await async_get_translations(hass, hass.config.language, "exceptions", {DOMAIN})
    return texts[f"component.{DOMAIN}.exceptions.{error.sentence}.message"].format_map(await _async_words(hass, error))


async def _async_words(hass: HomeAssistant, error: GatewayError) -> dict[str, str]:
    """Return what is filled into the sentence of an error, as Home Assistant calls it."""
    words = {name: await label(hass, name, said) for name, said in error.placeholders.items()}
    return words | {name: _called(hass, words[name]) for name in ("detail", "whose") if name in words}


def _called(hass: HomeAssistant, said: str) -> str:
    """Return the name of an output, and what is said of it; whatever else is said stays as it is."""
    output, colon, reason = said.partition(": ")
    device_id, _, actuator = output.partition("/")
    name = full_name(hass, output_entity(hass, Key(device_id, actuator)))
    return said if name is None else f"{name}{colon}{reason}"
