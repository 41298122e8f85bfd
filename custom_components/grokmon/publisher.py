"""The publisher: the only one that hands messages to Home Assistant's MQTT."""

from collections.abc import Iterable
import logging
from typing import Any, Final

from homeassistant.components import mqtt
from homeassistant.components.mqtt.const import PROTOCOL_5
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import CONF_PROTOCOL
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError

from .gateway.commands import TTL_S
from .gateway.errors import Code, CommandError
from .gateway.models import Outbound

_LOGGER = logging.getLogger(__name__)

QOS: Final = 1


class Publisher:
    """Publish what the gateway sealed."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry[Any]) -> None:
        self._hass = hass
        self._entry = entry

    @callback
    def async_publish(self, *messages: Outbound) -> None:
        """Publish answers to devices, without waiting for it."""
        if messages:
            self._entry.async_create_background_task(self._hass, self._async_publish(messages), "grokmon publish")

    async def async_publish_command(self, message: Outbound) -> None:
        """Publish a command. Nothing waits before the client has it: commands leave in the order of their counters."""
        if not mqtt.is_connected(self._hass):
            raise CommandError(Code.COMMAND_NOT_SENT, "the broker is not connected", variant="broker")
        expiry = TTL_S if self._broker_expires else None
        await mqtt.async_publish(
            self._hass, message.topic, message.payload, QOS, retain=False, message_expiry_interval=expiry
        )

    async def _async_publish(self, messages: Iterable[Outbound]) -> None:
        for message in messages:
            try:
                await mqtt.async_publish(self._hass, message.topic, message.payload, QOS, retain=False)
            except HomeAssistantError as error:
                # The device repeats its hello until it is answered.
                _LOGGER.warning("An answer to a device could not be published: %s", error)

    @property
    def _broker_expires(self) -> bool:
        """Tell whether the broker can drop what it could not deliver in time: MQTT 5 can."""
        entries = self._hass.config_entries.async_loaded_entries(mqtt.DOMAIN)
        return any(entry.data.get(CONF_PROTOCOL) == PROTOCOL_5 for entry in entries)
