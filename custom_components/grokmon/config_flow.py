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
from homeassistant.const import CONF_NAME
from homeassistant.core import callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.selector import (
    TextSelector,
)
import probatio

from .access import actor, hub_of_flow
from .choices import Choices
from .claiming import request_id
from .const import (
    CONF_DEVICE_ID,
    CONF_FINGERPRINT,
    CONF_METRICS,
    CONF_TOPIC_PREFIX,
    DEFAULT_TOPIC_PREFIX,
    DOMAIN,
    SUBENTRY_DEVICE,
    SUBENTRY_ZONE,
)
from .device_flow import DeviceFlow, metric_selector
from .gateway.catalog import CATALOG
from .gateway.errors import Code, GatewayError
from .gateway.topics import PREFIX_PATTERN
from .options_flow import GrokmonOptionsFlow
from .zone_flow import ZoneFlow

_APPROVE: Final = probatio.Schema(
    {
        probatio.Required(CONF_NAME): TextSelector(),
        probatio.Required(CONF_METRICS, default=[]): metric_selector(list(CATALOG), multiple=True),
    }
)
_HUB: Final = probatio.Schema({probatio.Required(CONF_TOPIC_PREFIX, default=DEFAULT_TOPIC_PREFIX): TextSelector()})


class GrokmonConfigFlow(ConfigFlow, domain=DOMAIN):
    """Set up the one hub, and take up the devices that ask for it."""

    def __init__(self) -> None:
        super().__init__()
        self._device_id = ""
        self._fingerprint = ""

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
        # Not by the manifest: that would turn away devices that ask to be enrolled, too.
        if self._async_current_entries():
            return self.async_abort(reason="single_instance_allowed")
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

    async def async_step_integration_discovery(self, discovery_info: dict[str, Any]) -> ConfigFlowResult:
        """Take up a device that asked to be enrolled under its own public key."""
        self._device_id = discovery_info[CONF_DEVICE_ID]
        self._fingerprint = discovery_info[CONF_FINGERPRINT]
        await self.async_set_unique_id(request_id(self._device_id, self._fingerprint))
        # Somebody chose to ignore it.
        self._abort_if_unique_id_configured()
        self.context["title_placeholders"] = {"name": self._device_id}
        return await self.async_step_approve()

    async def async_step_approve(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask whether the fingerprint is the one that the device shows, and what the device is."""
        hub = hub_of_flow(self.hass)
        errors: dict[str, str] = {}
        if user_input is not None:
            choices = Choices(
                device_id=self._device_id,
                name=user_input[CONF_NAME].strip() or self._device_id,
                zone=None,
                metrics=frozenset(user_input[CONF_METRICS]),
                ranges={},
            )
            try:
                await hub.trust.claiming.async_approve(choices, self._fingerprint, actor())
            except GatewayError as error:
                if error.code is Code.CLAIM_INVALID:
                    return self.async_abort(reason="request_expired")
                errors[CONF_METRICS if error.code is Code.FIELD_MISSING else "base"] = error.code.value
            except HomeAssistantError:
                errors["base"] = "store_not_written"
            else:
                return self.async_abort(reason="device_enrolled")
        return self.async_show_form(
            step_id="approve",
            data_schema=self.add_suggested_values_to_schema(_APPROVE, user_input or {CONF_NAME: self._device_id}),
            errors=errors,
            description_placeholders={"device_id": self._device_id, "fingerprint": self._fingerprint},
        )

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change the topic prefix."""
        hub_of_flow(self.hass)
        entry = self._get_reconfigure_entry()
        errors = _errors(user_input)
        if user_input is not None and not errors:
            return self.async_update_and_abort(entry, data=user_input, reason="reconfigure_successful")
        return self.async_show_form(
            step_id="reconfigure",
            data_schema=self.add_suggested_values_to_schema(_HUB, user_input or entry.data),
            errors=errors,
        )


def _errors(user_input: dict[str, Any] | None) -> dict[str, str]:
    if user_input is None or PREFIX_PATTERN.fullmatch(user_input[CONF_TOPIC_PREFIX]) is not None:
        return {}
    return {CONF_TOPIC_PREFIX: "invalid_prefix"}
