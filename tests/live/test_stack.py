"""The stack runs a real Home Assistant that real clients can use."""

import json
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.stack.brokers import AmqttBroker, MosquittoBroker
from tests.stack.browser import Browser
from tests.stack.home_assistant import ApiError, HomeAssistant, RestClient
from tests.stack.ports import LOOPBACK

_ENTITY = "sensor.tent_canopy"
_TOPIC = "stack/canopy"


async def _discover(home_assistant: HomeAssistant) -> None:
    settings = {
        "name": "Canopy",
        "unique_id": "stack_canopy",
        "state_topic": _TOPIC,
        "device": {"identifiers": ["stack"], "name": "Tent"},
    }
    topic = "homeassistant/sensor/stack_canopy/config"
    await home_assistant.rest.call_service("mqtt", "publish", {"topic": topic, "payload": json.dumps(settings)})
    await home_assistant.wait_for_state(_ENTITY, lambda _: True)


async def _measure(home_assistant: HomeAssistant, value: str) -> None:
    """Send a reading until it has arrived: Home Assistant subscribes some time after the discovery."""
    for _ in range(20):
        await home_assistant.rest.call_service("mqtt", "publish", {"topic": _TOPIC, "payload": value})
        try:
            await home_assistant.wait_for_state(_ENTITY, lambda state: state["state"] == value, timeout=0.5)
        except TimeoutError:
            continue
        return
    pytest.fail(f"{value} did not arrive")


async def test_message_becomes_a_state(home_assistant: HomeAssistant) -> None:
    """What goes over the broker is to be had from the REST interface."""
    await _discover(home_assistant)
    await _measure(home_assistant, "21.5")
    state = await home_assistant.rest.state(_ENTITY)
    assert state is not None
    assert state["state"] == "21.5"


async def test_listens_on_loopback_only(home_assistant: HomeAssistant) -> None:
    """Nobody outside this machine can reach the instance, and it has no connection to the outside."""
    connections = psutil.Process(home_assistant.process.pid).net_connections(kind="tcp")
    assert {connection.laddr.ip for connection in connections} == {LOOPBACK}
    assert {connection.raddr.ip for connection in connections if connection.raddr} <= {LOOPBACK}
    assert [connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN] == [
        home_assistant.port
    ]


async def test_a_made_up_token_is_refused(home_assistant: HomeAssistant) -> None:
    """The interfaces are not open."""
    stranger = RestClient(home_assistant.session, home_assistant.url, "made-up")
    with pytest.raises(ApiError) as refusal:
        await stranger.states()
    assert refusal.value.status == 401


async def test_broker_comes_back(home_assistant: HomeAssistant, mosquitto: MosquittoBroker) -> None:
    """Home Assistant connects again by itself after the broker was killed."""
    await mosquitto.kill()
    await mosquitto.start()
    await home_assistant.wait_for_mqtt(60)


async def test_survives_a_power_cut(home_assistant: HomeAssistant) -> None:
    """After SIGKILL the same instance comes back with the same token, port and settings."""
    await home_assistant.kill()
    await home_assistant.start()
    await home_assistant.wait_for_mqtt()
    entries = await home_assistant.rest.get("/api/config/config_entries/entry?domain=mqtt")
    assert [entry["state"] for entry in entries] == ["loaded"]


async def test_ends_in_order(home_assistant: HomeAssistant) -> None:
    """A stop is a graceful end with status 0, and another start works."""
    await home_assistant.stop()
    assert home_assistant.process.returncode == 0
    await home_assistant.start()


async def test_person_logs_in(home_assistant: HomeAssistant, browser: Browser, tmp_path: Path) -> None:
    """The owner's password opens the frontend, which shows the device."""
    await _discover(home_assistant)
    await browser.log_in(home_assistant.url, home_assistant.owner)
    await browser.open("/config/devices/dashboard")
    await browser.wait_for_text("Tent", exact=True)
    picture = tmp_path / "devices.png"
    await browser.screenshot(picture)
    assert picture.stat().st_size > 10_000


async def test_amqtt_serves_home_assistant(stack_folder: Path, amqtt: AmqttBroker) -> None:
    """A second instance beside the first works on aMQTT."""
    async with HomeAssistant(stack_folder / "on_amqtt") as second:
        await second.add_mqtt(amqtt)
        await _discover(second)
        await _measure(second, "18.5")
