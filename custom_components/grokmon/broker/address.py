"""Where the broker is: as Home Assistant's MQTT integration reaches it, unless the options say where devices do."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
import ssl
from typing import Any, Final

from homeassistant.components import mqtt
from homeassistant.components.mqtt.const import (
    CONF_BROKER,
    CONF_CERTIFICATE,
    CONF_TRANSPORT,
    DEFAULT_PORT,
    DEFAULT_TRANSPORT,
    PROTOCOL_5,
)
from homeassistant.const import CONF_HOST, CONF_PASSWORD, CONF_PORT, CONF_PROTOCOL, CONF_USERNAME
from homeassistant.core import HomeAssistant, callback

from .connection import Endpoint, Login, Protocol, UnreachableError

CONF_ADMIN: Final = "admin_username"
CONF_CA: Final = "ca_certificate"
_AUTO: Final = "auto"
_TLS_PORT: Final = 8883


@dataclass(frozen=True, slots=True)
class Address:
    """How devices reach the broker, and as whom Home Assistant does."""

    endpoint: Endpoint
    hub: Login | None


async def async_address(hass: HomeAssistant, chosen: Mapping[str, Any]) -> Address:
    """Return where the broker is. Raises UnreachableError where that cannot be told."""
    entries = hass.config_entries.async_loaded_entries(mqtt.DOMAIN)
    if not entries:
        raise UnreachableError("the MQTT integration is not loaded")
    data = entries[0].data
    if not chosen.get(CONF_HOST) and data.get(CONF_TRANSPORT, DEFAULT_TRANSPORT) != DEFAULT_TRANSPORT:
        raise UnreachableError("the MQTT integration uses websockets")
    certificate = chosen.get(CONF_CA) or data.get(CONF_CERTIFICATE)
    try:
        tls = await hass.async_add_executor_job(_context, certificate) if certificate else None
    except (ssl.SSLError, TypeError, ValueError) as error:
        raise UnreachableError("the certificate of the authority cannot be read") from error
    endpoint = Endpoint(
        chosen.get(CONF_HOST) or data[CONF_BROKER],
        int(chosen.get(CONF_PORT) or data.get(CONF_PORT, DEFAULT_PORT)),
        tls,
        Protocol.V5 if data.get(CONF_PROTOCOL) == PROTOCOL_5 else Protocol.V311,
    )
    username = data.get(CONF_USERNAME)
    return Address(endpoint, Login(username, data.get(CONF_PASSWORD)) if username else None)


@callback
def others_accounts(hass: HomeAssistant, chosen: Mapping[str, Any]) -> set[str | None]:
    """Return the names of the accounts of Home Assistant and of the administrator: a device has to have another."""
    entries = hass.config_entries.async_entries(mqtt.DOMAIN)
    return {chosen.get(CONF_ADMIN), *(entry.data.get(CONF_USERNAME) for entry in entries)}


@callback
def place_for_devices(hass: HomeAssistant, chosen: Mapping[str, Any]) -> tuple[str, int]:
    """Return host and port of the broker as a device has to know them; no host where only this machine can tell."""
    entries = hass.config_entries.async_loaded_entries(mqtt.DOMAIN)
    data: Mapping[str, Any] = entries[0].data if entries else {}
    host = chosen.get(CONF_HOST) or data.get(CONF_BROKER, "")
    # Home Assistant may reach it without TLS, or by websockets; a device should not.
    secured = data.get(CONF_CERTIFICATE) and data.get(CONF_TRANSPORT, DEFAULT_TRANSPORT) == DEFAULT_TRANSPORT
    port = chosen.get(CONF_PORT) or (secured and data.get(CONF_PORT)) or _TLS_PORT
    return "" if _is_local(host) else host, int(port)


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        # A name without a dot is one of this machine or of its containers.
        return "." not in host


def _context(certificate: str) -> ssl.SSLContext:
    """Return TLS settings that verify certificate and name, whatever the MQTT integration was told to overlook."""
    if certificate == _AUTO:
        return ssl.create_default_context()
    return ssl.create_default_context(cadata=certificate)
