"""Where the broker is, as Home Assistant's MQTT integration and the options say."""

from collections.abc import Mapping
from pathlib import Path
import ssl
from time import time
from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
import pytest

from custom_components.grokmon.broker.address import async_address, others_accounts, place_for_devices
from custom_components.grokmon.broker.connection import Login, Protocol, UnreachableError
from custom_components.grokmon.gateway.authority import new_authority
from tests.common import Room

# Made before any clock stands still: cryptography keeps for good the class of dates that it meets first.
AUTHORITY = new_authority(time()).certificate


def mqtt_entry(hass: HomeAssistant) -> ConfigEntry[Any]:
    """Return the entry of Home Assistant's MQTT."""
    (entry,) = hass.config_entries.async_loaded_entries("mqtt")
    return entry


def set_mqtt(room: Room, data: Mapping[str, Any]) -> None:
    """Let Home Assistant's MQTT have other settings, without a reload."""
    entry = mqtt_entry(room.hass)
    object.__setattr__(entry, "data", {"broker": "mqtt.local", **data})


def names(context: ssl.SSLContext | None) -> list[str]:
    """Return the authorities that are trusted."""
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    return [str(each["subject"]) for each in context.get_ca_certs()]


async def test_as_home_assistant_reaches_it(quiet_room: Room) -> None:
    """Without options everything is as in Home Assistant's MQTT."""
    account = {"username": "hass", "password": "secret-password"}
    set_mqtt(quiet_room, {"port": 8883, "certificate": AUTHORITY, "protocol": "5", **account})
    address = await async_address(quiet_room.hass, {})
    assert (address.endpoint.host, address.endpoint.port) == ("mqtt.local", 8883)
    assert address.endpoint.protocol is Protocol.V5
    assert address.hub == Login("hass", "secret-password")
    (subject,) = names(address.endpoint.tls)
    assert "grokmon authority" in subject
    assert "secret-password" not in repr(address)


async def test_accounts_of_others(quiet_room: Room) -> None:
    """Home Assistant and the administrator have names of their own, where they have any."""
    set_mqtt(quiet_room, {"username": "hass"})
    assert others_accounts(quiet_room.hass, {"admin_username": "admin"}) == {"hass", "admin"}
    set_mqtt(quiet_room, {})
    assert "hass" not in others_accounts(quiet_room.hass, {})


async def test_defaults(quiet_room: Room) -> None:
    """The least that Home Assistant's MQTT can say: no TLS, no account."""
    set_mqtt(quiet_room, {})
    address = await async_address(quiet_room.hass, {})
    assert (address.endpoint.host, address.endpoint.port, address.endpoint.tls) == ("mqtt.local", 1883, None)
    assert address.endpoint.protocol is Protocol.V311
    assert address.hub is None


async def test_as_devices_reach_it(quiet_room: Room) -> None:
    """The options say where devices reach it; what they leave out is as Home Assistant has it."""
    set_mqtt(quiet_room, {"port": 1883, "username": "hass", "password": "p"})
    chosen = {"host": "broker.example", "port": 8883, "ca_certificate": AUTHORITY}
    address = await async_address(quiet_room.hass, chosen)
    assert (address.endpoint.host, address.endpoint.port) == ("broker.example", 8883)
    assert len(names(address.endpoint.tls)) == 1
    assert address.hub == Login("hass", "p")
    address = await async_address(quiet_room.hass, {"host": "", "port": 8884})
    assert (address.endpoint.host, address.endpoint.port, address.endpoint.tls) == ("mqtt.local", 8884, None)


async def test_authorities_of_the_system(quiet_room: Room, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where Home Assistant trusts those of the system, so do we; whatever it was told to overlook is looked at."""
    trusted = tmp_path / "authorities.pem"
    trusted.write_text(AUTHORITY, encoding="utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    set_mqtt(quiet_room, {"certificate": "auto", "tls_insecure": True})
    address = await async_address(quiet_room.hass, {})
    assert any("grokmon authority" in each for each in names(address.endpoint.tls))


@pytest.mark.parametrize(
    "certificate",
    ["garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "für unsere Anlage"],
    ids=["garbage", "empty", "not ASCII"],
)
async def test_authority_that_cannot_be_read(quiet_room: Room, certificate: str) -> None:
    """What is no certificate is an error of the broker, wherever it stands."""
    set_mqtt(quiet_room, {"certificate": certificate})
    with pytest.raises(UnreachableError, match="cannot be read"):
        await async_address(quiet_room.hass, {})
    set_mqtt(quiet_room, {})
    with pytest.raises(UnreachableError, match="cannot be read"):
        await async_address(quiet_room.hass, {"ca_certificate": certificate})


async def test_websockets(quiet_room: Room) -> None:
    """Where Home Assistant uses websockets the options have to say where devices go."""
    set_mqtt(quiet_room, {"transport": "websockets", "port": 9001})
    for chosen in ({}, {"host": ""}):
        with pytest.raises(UnreachableError, match="websockets"):
            await async_address(quiet_room.hass, chosen)
    address = await async_address(quiet_room.hass, {"host": "broker.example", "port": 8883})
    assert (address.endpoint.host, address.endpoint.port) == ("broker.example", 8883)


async def test_without_mqtt(hass: HomeAssistant) -> None:
    """Without Home Assistant's MQTT nobody knows."""
    with pytest.raises(UnreachableError, match="not loaded"):
        await async_address(hass, {})


@pytest.mark.parametrize(
    ("data", "chosen", "place"),
    [
        ({"port": 8884, "certificate": "auto"}, {}, ("mqtt.local", 8884)),
        ({"port": 1883}, {}, ("mqtt.local", 8883)),
        ({"port": 443, "certificate": "auto", "transport": "websockets"}, {}, ("mqtt.local", 8883)),
        ({"port": 1883}, {"host": "192.168.1.5", "port": 1883}, ("192.168.1.5", 1883)),
        ({"broker": "core-mosquitto", "port": 1883}, {}, ("", 8883)),
        ({"broker": "127.0.0.1", "port": 8883, "certificate": "auto"}, {}, ("", 8883)),
        ({"broker": "::1"}, {"host": ""}, ("", 8883)),
    ],
)
async def test_place_for_devices(
    quiet_room: Room, data: Mapping[str, Any], chosen: Mapping[str, Any], place: tuple[str, int]
) -> None:
    """A device is sent to no place that is known to this machine alone, and to no port without TLS unasked."""
    set_mqtt(quiet_room, data)
    assert place_for_devices(quiet_room.hass, chosen) == place


async def test_place_without_mqtt(hass: HomeAssistant) -> None:
    """Without Home Assistant's MQTT only the options tell."""
    assert place_for_devices(hass, {}) == ("", 8883)
    assert place_for_devices(hass, {"host": "broker.example"}) == ("broker.example", 8883)
