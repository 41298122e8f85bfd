"""Domain errors to Home Assistant's, in words that a person understands."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers.translation import async_get_translations

from .const import DOMAIN
from .gateway.errors import CommandError, GatewayError


def translate_errors[**P, R](function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Raise a translated error where the wrapped function raises a GatewayError.

    What was asked for in vain is a HomeAssistantError; what should not have been asked for, a ServiceValidationError.
    """

    @wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await function(*args, **kwargs)
        except GatewayError as error:
            kind = HomeAssistantError if isinstance(error, CommandError) else ServiceValidationError
            raise kind(
                translation_domain=DOMAIN,
                translation_key=error.sentence,
                translation_placeholders=error.placeholders,
            ) from error

    return wrapper


async def async_explain(hass: HomeAssistant, error: GatewayError) -> str:
    """Return what an error says in the language of this Home Assistant, for where none is raised."""
    texts = await async_get_translations(hass, hass.config.language, "exceptions", {DOMAIN})
    return texts[f"component.{DOMAIN}.exceptions.{error.sentence}.message"].format_map(error.placeholders)
