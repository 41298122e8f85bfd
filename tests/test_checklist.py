"""The checklist of the site, measured on real objects of Home Assistant: broken on purpose, and mended."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from unittest.mock import AsyncMock, patch

from homeassistant.auth import auth_manager_from_config
from homeassistant.auth.const import GROUP_ID_ADMIN, GROUP_ID_USER
from homeassistant.auth.models import Credentials, User
from homeassistant.components import backup
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest

from custom_components.grokmon.broker.accounts import AccountMode
from custom_components.grokmon.broker.connection import BrokerError
from custom_components.grokmon.checklist import Checklist
from custom_components.grokmon.gateway.checklist import Item
from custom_components.grokmon.gateway.posture import Finding
from custom_components.grokmon.kek import ENV_KEY

from .common import Room, RoomDevice

DAY = 86_400.0
PASSED, FAILED, UNKNOWN = Finding.PASSED, Finding.FAILED, Finding.UNKNOWN
# Before the fixture of all tests replaces it.
MEASURE = Checklist.async_measure
BUILT_ON = "insecure_example"


@pytest.fixture(autouse=True)
def measured(findings: object) -> Iterator[None]:  # noqa: ARG001 - the order
    """Measure for real."""
    with patch.object(Checklist, "async_measure", MEASURE):
        yield


async def look(room: Room, item: Item) -> Finding:
    """Measure, and return what was found of an item; there is an issue exactly where it failed."""
    await room.hub.trust.posture.async_measure()
    found = room.hub.trust.posture.findings[item]
    issue = ir.async_get(room.hass).async_get_issue("grokmon", f"posture_{item.value}")
    assert (issue is not None) is (found is FAILED)
    return found


async def test_everything_is_measured(room: Room) -> None:
    """No item is left out."""
    await room.hub.trust.posture.async_measure()
    assert room.hub.trust.posture.findings.keys() >= set(Item)


async def test_https(room: Room) -> None:
    """One address with TLS is enough, inside or outside."""
    steps: list[tuple[dict[str, str | None], Finding]] = [
        ({}, FAILED),
        ({"internal_url": "http://192.0.2.1:8123"}, FAILED),
        ({"external_url": "https://home.example"}, PASSED),
        ({"external_url": None}, FAILED),
        ({"internal_url": "https://home.example:8123"}, PASSED),
    ]
    for settings, found in steps:
        await room.hass.config.async_update(**settings)
        assert await look(room, Item.HTTPS) is found, settings


async def test_second_factor(room: Room) -> None:
    """Every administrator who can log in needs one; whoever else there is does not."""
    hass = room.hass
    hass.auth = await auth_manager_from_config(hass, [], [{"type": BUILT_ON, "data": []}])

    async def person(name: str, group: str = GROUP_ID_ADMIN) -> User:
        user = await hass.auth.async_create_user(name, group_ids=[group])
        login = Credentials(auth_provider_type="homeassistant", auth_provider_id=None, data={"username": name})
        await hass.auth.async_link_user(user, login)
        return user

    assert await look(room, Item.MFA) is PASSED, "nobody can log in"
    owner = await person("owner")
    assert await look(room, Item.MFA) is FAILED
    await hass.auth.async_enable_user_mfa(owner, BUILT_ON, {"pin": "123456"})
    assert await look(room, Item.MFA) is PASSED
    await person("guest", GROUP_ID_USER)
    await hass.auth.async_create_user("no login", group_ids=[GROUP_ID_ADMIN])
    await hass.auth.async_create_system_user("machine", group_ids=[GROUP_ID_ADMIN])
    assert await look(room, Item.MFA) is PASSED
    second = await person("second")
    assert await look(room, Item.MFA) is FAILED
    await hass.auth.async_deactivate_user(second)
    assert await look(room, Item.MFA) is PASSED


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o666])
async def test_secrets_are_private(tent: RoomDevice, mode: int) -> None:
    """Neither the store nor the key-encryption key may be for others, whatever they may do with it."""
    room = tent.room
    assert await look(room, Item.SECRETS_PRIVATE) is PASSED
    for path in (room.storage / "grokmon.security", Path(room.hass.config.path("grokmon", "kek"))):
        path.chmod(mode)
        assert await look(room, Item.SECRETS_PRIVATE) is FAILED
        path.chmod(0o600)
        assert await look(room, Item.SECRETS_PRIVATE) is PASSED


async def test_generated_kek(room: Room) -> None:
    """A key beside what it encrypts protects nothing from who copies both."""
    assert await look(room, Item.KEK) is FAILED


async def test_kek_from_elsewhere(quiet_room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key from the environment is elsewhere; the private file that is not there is no finding."""
    monkeypatch.setenv(ENV_KEY, bytes(range(32)).hex())
    assert await quiet_room.set_up()
    assert await look(quiet_room, Item.KEK) is PASSED
    assert await look(quiet_room, Item.SECRETS_PRIVATE) is PASSED


async def test_rotation(tent: RoomDevice) -> None:
    """What expires within two weeks is found until it is rotated; a revoked device has nothing to rotate."""
    room = tent.room
    await room.enrol("tent-2")
    assert await look(room, Item.ROTATION) is PASSED
    room.freezer.tick(timedelta(days=352))
    assert await look(room, Item.ROTATION) is FAILED
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    assert await look(room, Item.ROTATION) is FAILED
    await room.call("revoke_device", {"device_id": "tent-2"})
    assert await look(room, Item.ROTATION) is PASSED


async def test_backup(room: Room) -> None:
    """An automatic backup within eight days; without backups of Home Assistant nothing is known."""
    assert await look(room, Item.BACKUP) is UNKNOWN
    assert await async_setup_component(room.hass, "backup", {})
    await room.settle()
    data = backup.async_get_manager(room.hass).config.data
    steps: list[tuple[timedelta | None, Finding]] = [
        (None, FAILED),
        (timedelta(0), PASSED),
        (timedelta(days=7, hours=23), PASSED),
        (timedelta(days=8), FAILED),
    ]
    for age, found in steps:
        data.last_completed_automatic_backup = None if age is None else dt_util.utcnow() - age
        assert await look(room, Item.BACKUP) is found, age


async def test_audit_trail(room: Room) -> None:
    """The last verification counts for two days; a trail that was changed is found, and stays found."""
    assert await look(room, Item.AUDIT_VERIFIED) is UNKNOWN
    await room.call("verify_audit")
    assert await look(room, Item.AUDIT_VERIFIED) is PASSED
    room.freezer.tick(timedelta(days=2))
    assert await look(room, Item.AUDIT_VERIFIED) is PASSED
    room.freezer.tick(1)
    assert await look(room, Item.AUDIT_VERIFIED) is UNKNOWN
    before = room.audit_path.read_bytes()
    room.audit_path.write_bytes(before.replace(b'"started"', b'"stopped"', 1))
    await room.call("verify_audit")
    assert await look(room, Item.AUDIT_VERIFIED) is FAILED
    after = room.audit_path.read_bytes()
    room.audit_path.write_bytes(before + after[len(before) :])
    await room.call("verify_audit")
    assert await look(room, Item.AUDIT_VERIFIED) is PASSED


async def test_rate_limits(tent: RoomDevice) -> None:
    """A limit that no device could reach is none."""
    room = tent.room
    device = room.hub.gateway.registry["tent-1"]
    same = {name: getattr(device, name) for name in ("name", "zone", "metrics", "actuators", "ranges")}
    for limit, found in ((1200, PASSED), (1201, FAILED), (60, PASSED)):
        room.hub.gateway.registry.update("tent-1", rate_limit=limit, **same)
        assert await look(room, Item.RATE_LIMITS) is found


async def test_strangers_without_lists(room: Room) -> None:
    """Where the broker does not say who may what, nothing is known."""
    assert await look(room, Item.STRANGERS) is UNKNOWN


async def test_strangers(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who else may publish in the name of a device is looked for anew at each measurement."""
    trust = room.hub.trust
    monkeypatch.setattr(trust.accounts, "mode", AccountMode.DYNAMIC_SECURITY)
    with patch.object(trust.accounts, "async_find_strangers", AsyncMock()) as look_for:
        trust.accounts.strangers = ("hub", "bridge")
        assert await look(room, Item.STRANGERS) is FAILED
        trust.accounts.strangers = ()
        assert await look(room, Item.STRANGERS) is PASSED
        look_for.side_effect = BrokerError("away")
        assert await look(room, Item.STRANGERS) is UNKNOWN


async def test_score(hass: HomeAssistant, room: Room) -> None:
    """The score counts what is in order, and nothing else."""
    await hass.config.async_update(external_url="https://home.example")
    await room.hub.trust.posture.async_measure()
    first = room.hub.trust.posture.score
    await hass.config.async_update(external_url=None)
    await room.hub.trust.posture.async_measure()
    assert room.hub.trust.posture.score == first - 5
