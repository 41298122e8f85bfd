"""Set-up of the tests that run inside a Home Assistant: a real configuration folder, a clock that stands still."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock, patch

from freezegun.api import FrozenDateTimeFactory
from homeassistant.auth.models import User
from homeassistant.core import Context, HomeAssistant
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry  # type: ignore[import-untyped] # no py.typed
from pytest_homeassistant_custom_component.syrupy import HomeAssistantSnapshotExtension  # type: ignore[import-untyped]
from syrupy.assertion import SnapshotAssertion

from custom_components.grokmon import posture
from custom_components.grokmon.broker.probe import Target
from custom_components.grokmon.checklist import Checklist
from custom_components.grokmon.const import CONF_TOPIC_PREFIX, DOMAIN
from custom_components.grokmon.gateway.authority import new_authority
from custom_components.grokmon.gateway.checklist import Item
from custom_components.grokmon.gateway.posture import Check, CheckResult, Finding, PostureReport
from custom_components.grokmon.hub import GrokmonConfigEntry

from .common import START, Room, RoomDevice

# The library of certificates takes the class of dates that it meets first for the only one: that must not be the one
# of a clock that stands still.
new_authority(0.0)


@pytest.fixture
def hass_config_dir(tmp_path: Path) -> str:
    """Return an empty configuration folder of this test alone."""
    folder = tmp_path / "config"
    folder.mkdir()
    return str(folder)


@pytest.fixture
def hass_storage() -> dict[str, Any]:
    """Leave the stores real: what is read back from a disk must have been on it."""
    return {}


@pytest.fixture
def snapshot(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    """Write snapshots as Home Assistant does: without what is random, in `snapshots/`."""
    return snapshot.use_extension(HomeAssistantSnapshotExtension)


@pytest.fixture
def clock(freezer: FrozenDateTimeFactory) -> FrozenDateTimeFactory:
    """Let the clock stand still at the start."""
    freezer.move_to(START)
    return freezer


@pytest.fixture
def mqtt_client_mock(mqtt_client_mock: MagicMock) -> Generator[MagicMock]:
    """Give up the timer that Home Assistant's MQTT keeps until its socket is closed; the plugin never closes it."""
    yield mqtt_client_mock
    mqtt_client_mock.on_socket_close(mqtt_client_mock, None, Mock(fileno=Mock(return_value=-1)))


@pytest.fixture
def mqtt_config_entry_options() -> dict[str, Any]:
    """Let MQTT subscribe to nothing of its own."""
    return {"birth_message": {}, "discovery": False}


@pytest.fixture
def options() -> dict[str, Any]:
    """Return the options of the hub; a test parametrizes them."""
    return {}


@pytest.fixture
async def entry(
    clock: FrozenDateTimeFactory,  # noqa: ARG001 - before anything else
    hass: HomeAssistant,
    enable_custom_integrations: None,  # noqa: ARG001 - what it does is wanted
    options: dict[str, Any],
) -> GrokmonConfigEntry:
    """Return the hub's config entry, not set up."""
    # Conversation, which the integration depends on, takes this for granted.
    assert await async_setup_component(hass, "homeassistant", {})
    data = {CONF_TOPIC_PREFIX: "grokmon"}
    mock = MockConfigEntry(domain=DOMAIN, title="Grok & Mon", data=data, options=options)
    mock.add_to_hass(hass)
    entry: GrokmonConfigEntry = mock
    return entry


@pytest.fixture(autouse=True)
def findings(request: pytest.FixtureRequest) -> Iterator[dict[Check | Item, Finding]]:
    """Return what is measured of the broker and of the site: nothing of the one, and nothing against the other.

    There is no broker in these tests; where there is one, in `live/`, nothing is replaced.
    """
    found: dict[Check | Item, Finding] = dict.fromkeys(Item, Finding.PASSED)
    if "live" in request.path.parts or "broker" in request.path.parts:
        yield found
        return

    def probe(_target: Target, now: float) -> PostureReport:
        return PostureReport(
            results=tuple(CheckResult(check=each, finding=found[each]) for each in Check if each in found), at=now
        )

    async def measure(_checklist: Checklist) -> dict[Item, Finding]:
        return {item: found[item] for item in Item}

    with patch.object(posture, "probe", probe), patch.object(Checklist, "async_measure", measure):
        yield found


@pytest.fixture
def admin(hass_admin_user: User) -> Context:
    """Return the context of what an administrator does."""
    return Context(user_id=hass_admin_user.id)


@pytest.fixture
def quiet_room(
    clock: FrozenDateTimeFactory, hass: HomeAssistant, entry: GrokmonConfigEntry, mqtt_mock: MagicMock, admin: Context
) -> Room:
    """Return a room whose integration is not set up yet."""
    mqtt_mock.async_publish.reset_mock()
    return Room(hass, mqtt_mock, clock, entry, admin)


@pytest.fixture
async def room(quiet_room: Room) -> Room:
    """Return a room whose integration runs."""
    assert await quiet_room.set_up()
    return quiet_room


@pytest.fixture
async def tent(room: Room) -> RoomDevice:
    """Return an enrolled device that may report air temperature and humidity, and has not said anything yet."""
    return await room.enrol()
