"""The form of the broker: how devices come by accounts there, and where it is."""

from collections.abc import Mapping
import ssl
from typing import Any, Final

from homeassistant.const import CONF_HOST, CONF_PORT
from homeassistant.helpers.selector import (
    SelectSelector,
    SelectSelectorConfig,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)
import probatio

from .broker.accounts import CONF_ADMIN_PASSWORD, CONF_MODE, CONF_PROBE_PASSWORD, AccountMode
from .broker.address import CONF_ADMIN, CONF_CA
from .forms import number
from .posture import CONF_PLAINTEXT_PORT, DEFAULT_PLAINTEXT_PORT

_SECRETS: Final = (CONF_ADMIN_PASSWORD, CONF_PROBE_PASSWORD)


def _password() -> TextSelector:
    return TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD))


def _port() -> Any:
    return probatio.All(number(1, 65_535, whole=True), probatio.Coerce(int))


BROKER_OPTIONS: Final = probatio.Schema(
    {
        probatio.Required(CONF_MODE, default=AccountMode.NONE.value): SelectSelector(
            SelectSelectorConfig(options=[mode.value for mode in AccountMode], translation_key="account_mode")
        ),
        probatio.Optional(CONF_ADMIN): TextSelector(),
        probatio.Optional(CONF_ADMIN_PASSWORD): _password(),
        probatio.Optional(CONF_PROBE_PASSWORD): _password(),
        probatio.Optional(CONF_HOST): TextSelector(),
        probatio.Optional(CONF_PORT): _port(),
        probatio.Optional(CONF_CA): TextSelector(TextSelectorConfig(multiline=True)),
        probatio.Required(CONF_PLAINTEXT_PORT, default=DEFAULT_PLAINTEXT_PORT): _port(),
    }
)


def problems_of(answers: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with the answers, by field."""
    problems: dict[str, str] = {}
    if answers.get(CONF_MODE) == AccountMode.DYNAMIC_SECURITY and not answers.get(CONF_ADMIN):
        problems[CONF_ADMIN] = "admin_missing"
    if certificate := answers.get(CONF_CA):
        try:
            # By this name alone: Home Assistant takes it for a look at the disk otherwise.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate)
        except ssl.SSLError, ValueError, TypeError:
            problems[CONF_CA] = "certificate_invalid"
    return problems


def split_secrets(answers: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what may be stored with the config entry, and the passwords, which may not."""
    chosen = {name: value for name, value in answers.items() if name not in _SECRETS}
    return chosen, {name: answers[name] for name in _SECRETS if answers.get(name)}
