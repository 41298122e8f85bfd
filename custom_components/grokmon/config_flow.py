"""Config flow of the hub."""

from typing import Any, Final, override

from homeassistant.components import mqtt
from homeassistant.config_entries import (
    ConfigEntry,
    ConfigFlow,
    ConfigFlowResult,
    ConfigSubentryFlow,
    OptionsFlow,
)
from homeassistant.core import callback
from homeassistant.helpers.selector import (
    TextSelector,
)
import probatio

from .const import (
    CONF_TOPIC_PREFIX,
    DEFAULT_TOPIC_PREFIX,
    DOMAIN,
    SUBENTRY_DEVICE,
    SUBENTRY_ZONE,
)
from .device_flow import DeviceFlow
from .gateway.topics import PREFIX_PATTERN
from .options_flow import GrokmonOptionsFlow
from .zone_flow import ZoneFlow

_HUB: Final = probatio.Schema({probatio.Required(CONF_TOPIC_PREFIX, default=DEFAULT_TOPIC_PREFIX): TextSelector()})


class GrokmonConfigFlow(ConfigFlow, domain=DOMAIN):
    """Set up the one hub."""

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: ConfigEntry) -> OptionsFlow:
        """Return the options flow."""
        return GrokmonOptionsFlow()

    @classmethod
    @callback
    @override
    def async_get_supported_subentry_types(cls, config_entry: ConfigEntry) -> dict[str, type[ConfigSubentryFlow]]:
        """Return the flows of devices and zones."""
        return {SUBENTRY_DEVICE: DeviceFlow, SUBENTRY_ZONE: ZoneFlow}

    @override
    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the topic prefix, once MQTT is connected."""
        if not await mqtt.async_wait_for_mqtt_client(self.hass):
            return self.async_abort(reason="mqtt_missing")
        if not mqtt.is_connected(self.hass):
            return self.async_abort(reason="mqtt_not_connected")
        errors = _errors(user_input)
        if user_input is not None and not errors:
            return self.async_create_entry(title="Grok & Mon", data=user_input)
        return self.async_show_form(
            step_id="user", data_schema=self.add_suggested_values_to_schema(_HUB, user_input), errors=errors
        )

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change the topic prefix."""
        entry = self._get_reconfigure_entry()
        errors = _errors(user_input)
        if user_input is not None and not errors:
            return self.async_update_and_abort(entry, data=user_input)
        return self.async_show_form(
            step_id="reconfigure",
            data_schema=self.add_suggested_values_to_schema(_HUB, user_input or entry.data),
            errors=errors,
        )


def _errors(user_input: dict[str, Any] | None) -> dict[str, str]:
    if user_input is None or PREFIX_PATTERN.fullmatch(user_input[CONF_TOPIC_PREFIX]) is not None:
        return {}
    return {CONF_TOPIC_PREFIX: "invalid_prefix"}
