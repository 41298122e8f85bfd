"""No key and no token is anywhere but where it is kept, not even with the log at debug."""

from collections.abc import AsyncGenerator
import contextlib
from dataclasses import dataclass, field
import json
from pathlib import Path
import stat
from typing import Any

import pytest
import pytest_asyncio

from tests.demo.installation import Installation
from tests.demo.intruder import LIVE_ATTACKS
from tests.demo.waiting import settled
from tests.device_simulator.connection import BrokerAddress, Connection
from tests.device_simulator.credentials import DeviceIdentity
from tests.device_simulator.device import HonestDevice
from tests.stack.brokers import MosquittoBroker
from tests.stack.home_assistant import ApiError, HomeAssistant

from .battle import ACCOUNTS, HOSTILE, VICTIMS, Battle, battle
from .needles import Needles, found, found_in_files, of_root_key, of_security_store
from .observation import WITHIN
from .traffic import drained

pytestmark = pytest.mark.timeout(180)

DEBUG = {"logger": {"default": "warning", "logs": {"custom_components.grokmon": "debug"}}}
GUIDED = "guided"
PRIVATE = 0o600


@dataclass(slots=True)
class Search:
    """Hold what to look for, and where else than in files to look for it."""

    installation: Installation
    keys: Needles = field(default_factory=dict)
    tokens: Needles = field(default_factory=dict)
    """Sessions and signatures: no keys, and nothing for a log either."""
    shown: list[Any] = field(default_factory=list)
    """What Home Assistant told its clients."""
    written_while_stopped: list[str] = field(default_factory=list)
    sessions_mode_while_stopped: int = 0

    @property
    def security(self) -> Path:
        """Return where the sealed keys are kept."""
        return self.installation.hass.config / ".storage" / "grokmon.security"

    @property
    def kek(self) -> Path:
        """Return where the key is that seals them, when nobody gives one from outside."""
        return self.installation.hass.config / "grokmon" / "kek"

    @property
    def sessions(self) -> Path:
        """Return where the sessions are kept between an orderly stop and the next start."""
        return self.installation.hass.config / ".storage" / "grokmon.sessions"

    def learn_keys(self) -> None:
        """Take up what is in the store now; what was there earlier stays on the list."""
        self.keys |= of_security_store(self.installation.hass.config)

    def overhear(self, topic: str, payload: bytes, _retain: bool) -> None:
        """Take up the signature of a message."""
        signature = payload.rpartition(b".")[2]
        if len(signature) >= 43:
            self.tokens[signature] = f"signature of a message on {topic}"

    async def look_around(self) -> None:
        """Note what Home Assistant tells everybody who may ask."""
        hass, entry_id = self.installation.hass, self.installation.entry_id
        self.shown += [
            await hass.rest.states(),
            await hass.rest.get(f"/api/diagnostics/config_entry/{entry_id}"),
            await hass.websocket.call("config/device_registry/list"),
            await hass.websocket.call("config/entity_registry/list"),
            await hass.websocket.call("config_entries/get"),
            await hass.websocket.call("config_entries/subentries/list", entry_id=entry_id),
            await hass.websocket.call("repairs/list_issues"),
            await hass.websocket.call("system_log/list"),
            await self.installation.listed(),
            await self.installation.verify_audit(),
        ]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def search(stack_folder: Path) -> AsyncGenerator[Search]:
    """Do everything that has to do with keys, and listen to it all, with the log at debug."""
    if MosquittoBroker.find() is None:
        pytest.skip("mosquitto is not installed")
    installation = Installation(stack_folder / "installation", MosquittoBroker, [*ACCOUNTS, GUIDED])
    hass = installation.hass = HomeAssistant(stack_folder / "debug", configuration=DEBUG)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(installation)
        seen = Search(installation)
        events = await stack.enter_async_context(hass.websocket.subscribe("subscribe_events"))
        await installation.add_gateway([])
        ear = Connection(installation.address(HOSTILE), "all-ears", on_message=seen.overhear)
        await stack.enter_async_context(ear)
        await ear.subscribe("grokmon/#")
        guided = await _enrol_guided(seen)
        fight = await stack.enter_async_context(battle(installation))
        await stack.enter_async_context(guided)
        await guided.publish({"temp_c": 21.5})
        for scene in fight.scenes.values():
            for attack in LIVE_ATTACKS:
                await fight.attack(attack, scene)
        seen.learn_keys()
        await _change_credentials(seen, guided)
        seen.learn_keys()
        await fight.traffic.stop()
        _learn_sessions(seen, fight, guided)
        await fight.marker.passed()
        await seen.look_around()
        seen.shown += events.taken()
        await hass.stop()
        seen.written_while_stopped = found_in_files(hass.folder, seen.tokens, but=[seen.security, seen.sessions])
        seen.sessions_mode_while_stopped = stat.S_IMODE(seen.sessions.stat().st_mode)
        await hass.start()
        await hass.wait_for_mqtt(WITHIN)
        for victim in fight.victims:
            victim.take()
        await drained([victim.device for victim in fight.victims])
        await seen.look_around()
        yield seen


async def test_search_finds_what_is_there(search: Search) -> None:
    """The one key that is not sealed is found where it is kept, and the log was really at debug."""
    assert len(search.keys) > 7 * 3 * 4
    assert len(search.tokens) > 100
    assert found(search.kek.read_bytes(), search.keys)
    assert b"victim-hs256" in search.security.read_bytes()
    assert "custom_components.grokmon" in search.installation.hass.process.log.read_text(encoding="utf-8")


async def test_no_secret_in_any_file(search: Search) -> None:
    """The log, the stores, the database, the audit trail: nothing but the one file has a key, in any form."""
    assert found_in_files(search.installation.hass.folder, search.keys, but=[search.kek]) == []


async def test_no_token_in_any_file(search: Search) -> None:
    """Sessions are on the disk between stop and start only, and signatures never."""
    assert search.written_while_stopped == []
    assert not search.sessions.exists()
    assert found_in_files(search.installation.hass.folder, search.tokens) == []


async def test_nothing_in_what_home_assistant_tells(search: Search) -> None:
    """States, events, registries, diagnostics, issues, log messages: no key, no token."""
    told = json.dumps(search.shown, ensure_ascii=False).encode()
    assert b"victim-hs256" in told
    assert found(told, search.keys | search.tokens) == []


async def test_files_are_private(search: Search) -> None:
    """Nobody but the owner reads keys, sessions and the audit trail."""
    assert stat.S_IMODE(search.security.stat().st_mode) == stat.S_IMODE(search.kek.stat().st_mode) == PRIVATE
    assert search.sessions_mode_while_stopped == PRIVATE
    trail = search.installation.audit_file
    assert {stat.S_IMODE(file.stat().st_mode) for file in trail.parent.iterdir()} == {PRIVATE}
    assert stat.S_IMODE(trail.parent.stat().st_mode) == 0o700


async def _enrol_guided(search: Search) -> HonestDevice:
    """Enrol a device through the pages that a person sees, the last of which shows the key."""
    installation = search.installation
    flows = installation.hass.subentry_flows
    page = await flows.start([installation.entry_id, "device"])
    answers: dict[str, dict[str, Any]] = {
        "user": {"name": "Guided"},
        "identity": {"device_id": GUIDED, "template": "climate"},
        "metrics": {"metrics": ["temp_c"]},
        "auth": {"auth": "hs256"},
    }
    while page["step_id"] in answers:
        page = await flows.submit(page["flow_id"], answers[page["step_id"]])
    settings = json.loads(page["description_placeholders"]["settings"])
    search.keys |= of_root_key("guided", settings["key"])
    assert (await flows.submit(page["flow_id"]))["type"] == "create_entry"
    identity = DeviceIdentity.from_root_key(GUIDED, settings["key"])
    address: BrokerAddress = installation.address(GUIDED)

    async def accepted() -> bool:
        return GUIDED in await installation.listed()

    assert await settled(accepted, bool, WITHIN)
    return HonestDevice(identity, address, firmware="1.0.0")


async def _change_credentials(search: Search, guided: HonestDevice) -> None:
    """Rotate a key, be refused, revoke a device."""
    service = search.installation.hass.rest.call_service
    device = {"device_id": guided.identity.device_id}
    rotated = await service("grokmon", "rotate_credentials", device | {"overlap_hours": 0}, return_response=True)
    search.keys |= of_root_key("guided, rotated", rotated["devices"][0]["key"])
    # Signed with the old key.
    await guided.publish({"temp_c": 22.5})
    with pytest.raises(ApiError) as refusal:
        await service(
            "grokmon", "enroll_device", device | {"name": "Again", "metrics": ["temp_c"]}, return_response=True
        )
    search.shown.append(refusal.value.body)
    search.shown.append(await service("grokmon", "revoke_device", device, return_response=True))


def _learn_sessions(search: Search, fight: Battle, guided: HonestDevice) -> None:
    for device in (*(victim.device for victim in fight.victims), *fight.insiders, guided):
        sid = device.protocol.sid
        assert sid is not None
        search.tokens[sid.encode()] = f"session of {device.identity.device_id}"
    assert len(fight.victims) == len(VICTIMS)
