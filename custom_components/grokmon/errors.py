"""Domain errors to Home Assistant's, in words that a person understands."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any

from homeassistant.exceptions import ServiceValidationError

from .const import DOMAIN
from .gateway.errors import GatewayError


def translate_errors[**P, R](function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Raise a translated ServiceValidationError where the wrapped function raises a GatewayError.

    The translation key is the error's code.
    """

    @wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await function(*args, **kwargs)
        except GatewayError as error:
            raise ServiceValidationError(
                translation_domain=DOMAIN,
                translation_key=error.code.value,
                translation_placeholders={"detail": error.detail},
            ) from error

    return wrapper
