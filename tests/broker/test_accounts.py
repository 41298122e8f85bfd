"""Accounts at the broker follow the registry: when, in which order, and what is told of it.

The broker here remembers what it was told and nothing else; `test_work.py` and the live tests have a real one.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
import json
import logging
from pathlib import Path
import threading
from typing import Any
from unittest.mock import patch

from homeassistant.components.repairs import DOMAIN as REPAIRS, repairs_flow_manager
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest

from custom_components.grokmon import posture
from custom_components.grokmon.broker import accounts, files_keeper, removal
from custom_components.grokmon.broker.address import Address
from custom_components.grokmon.broker.connection import (
    BrokerError,
    ClosedError,
    Endpoint,
    Login,
    RefusedError,
    UnreachableError,
)
from custom_components.grokmon.broker.files import write_files
from custom_components.grokmon.broker.work import Work
from custom_components.grokmon.checklist import Checklist
from custom_components.grokmon.gateway.broker_accounts import Account, Role
from custom_components.grokmon.gateway.broker_drift import DriftKind, Found, FoundAccount, difference
from custom_components.grokmon.gateway.checklist import Item
from custom_components.grokmon.gateway.models import DeviceStatus
from custom_components.grokmon.gateway.posture import Finding, PostureReport
from custom_components.grokmon.gateway.topics import PROBE_IDS
from custom_components.grokmon.kek import KekRefusedError
from tests.common import Room, RoomDevice
from tests.test_credential_keeper import slow_disk

DAY = 86_400.0
RETRY = 31
AWAY = UnreachableError("ConnectionRefusedError")
DYNAMIC = {"broker": {"mode": "dynamic_security", "admin_username": "admin", "plaintext_port": 1883}}
FILES = {"broker": {"mode": "files", "plaintext_port": 1883}}
dynamic = pytest.mark.parametrize("options", [DYNAMIC])
files = pytest.mark.parametrize("options", [FILES])


@dataclass(slots=True)
class FakeBroker:
    """A broker that has what it was told to have, with hooks for what can go wrong."""

    accounts: dict[str, Account] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    looks: int = 0
    probes: int = 0
    admins: list[Login] = field(default_factory=list)
    confirmed: list[tuple[str, tuple[Login, ...]]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    away: BrokerError | None = None
    taken: set[str] = field(default_factory=set)
    foreign: dict[str, str] = field(default_factory=dict)
    confirms: Callable[[str], bool] = lambda _device: True
    strangers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    before: Callable[[], object] = lambda: None
    threads: set[int] = field(default_factory=set)

    def bring_in_step(
        self,
        _endpoint: Endpoint,
        admin: Login,
        wanted: Sequence[Account],
        roles: Sequence[Role],
        revoking: Mapping[str, Sequence[str]],
    ) -> Work:
        """Do as the real one, at once."""
        self.threads.add(threading.get_ident())
        self.looks += 1
        self.admins.append(admin)
        self.before()
        if self.away is not None:
            raise self.away
        for device_id, names in revoking.items():
            self.order.append(f"removed {device_id}")
            self.roles.pop(f"grokmon-{device_id}", None)
            for name in names:
                self.accounts.pop(name, None)
        repaired = difference(wanted, roles, self._found())
        left = [drift for drift in repaired if drift.kind is DriftKind.NAME_TAKEN]
        self.foreign.clear()
        self.accounts = {account.username: account for account in wanted if account.username not in self.taken}
        self.roles = {role.name: role for role in roles}
        return Work(tuple(revoking), repaired, f"{left[0].kind}: {left[0].name}" if left else None)

    def confirm_revoked(self, _address: Address, prefix: str, device_id: str, logins: Sequence[Login]) -> bool:
        """Take note of who was asked for."""
        self.threads.add(threading.get_ident())
        assert prefix == "grokmon"
        self.confirmed.append((device_id, tuple(logins)))
        self.order.append(f"confirmed {device_id}")
        return self.confirms(device_id)

    def find_strangers(self, _endpoint: Endpoint, admin: Login, topics: Sequence[str]) -> tuple[str, ...]:
        """Return who may publish on topics."""
        self.admins.append(admin)
        if self.away is not None:
            raise self.away
        return tuple(name for topic, names in self.strangers.items() if topic in topics for name in names)

    def probe(self, _target: object, now: float) -> PostureReport:
        """Find out nothing."""
        self.probes += 1
        self.order.append("probed")
        return PostureReport(results=(), at=now)

    def of(self, device_id: str) -> list[Account]:
        """Return the accounts of a device."""
        return [account for account in self.accounts.values() if account.device_id == device_id]

    def _found(self) -> Found:
        found = {
            name: FoundAccount(
                username=name,
                client_id=account.client_id,
                label=f"grokmon-{account.device_id}",
                enabled=account.enabled,
                roles=(
                    *([f"grokmon-{account.device_id}"] if account.enabled else []),
                    *([self.foreign[name]] if name in self.foreign else []),
                ),
                groups=(),
            )
            for name, account in self.accounts.items()
        }
        for name in self.taken:
            found[name] = FoundAccount(username=name, client_id="", label="", enabled=True, roles=(), groups=())
        return Found(accounts=found, roles={name: frozenset(role.acls) for name, role in self.roles.items()}, groups={})


@pytest.fixture(autouse=True)
def broker() -> Iterator[FakeBroker]:
    """Put a broker in the place of the real one, and measure nothing."""
    fake = FakeBroker()

    async def measure(_checklist: Checklist) -> dict[Item, Finding]:
        return dict.fromkeys(Item, Finding.PASSED)

    with (
        patch.object(accounts, "bring_in_step", fake.bring_in_step),
        patch.object(removal, "bring_in_step", fake.bring_in_step),
        patch.object(accounts, "confirm_revoked", fake.confirm_revoked),
        patch.object(accounts, "find_strangers", fake.find_strangers),
        patch.object(posture, "probe", fake.probe),
        patch.object(Checklist, "async_measure", measure),
    ):
        yield fake


def issues(room: Room) -> set[str]:
    """Return the issues of the broker's accounts."""
    names = ("broker_", "revocation_")
    return {key for _, key in ir.async_get(room.hass).issues if key.startswith(names)}


async def told(room: Room, event: str) -> set[tuple[str, str]]:
    """Return what was told of accounts and roles."""
    return {(entry["reason"], entry["account"]) for entry in await room.audit(event)}


async def set_status(room: Room, status: DeviceStatus, device_id: str = "tent-1") -> None:
    """Change the status of a device as its button does, and let everything happen."""
    await room.hub.enrolment.async_set_status(device_id, status, "administrator")
    await room.settle()


# A life of an account


@dynamic
async def test_enrolment_makes_an_account(room: Room, broker: FakeBroker) -> None:
    """The account of a new device has the password that is shown once, its client id, and its own topics."""
    room.hub.store.state.broker.admin_password = "admins-own"
    response = await room.call("enroll_device", {"device_id": "tent-1", "name": "Tent 1", "metrics": ["temp_c"]})
    (account,) = broker.of("tent-1")
    assert (account.username, account.password) == (response["username"], response["password"])
    assert account.client_id == response["client_id"] == "tent-1"
    assert set(broker.roles["grokmon-tent-1"].publishes) == {
        f"grokmon/v1/tent-1/up/{channel}" for channel in ("hello", "telemetry", "status")
    }
    assert broker.roles["grokmon-tent-1"].receives == ("grokmon/v1/tent-1/down/session",)
    assert broker.admins[-1] == Login("admin", "admins-own")
    assert await told(room, "broker_changed") == {
        ("missing_role", "grokmon-tent-1"),
        ("missing_account", account.username),
    }
    assert threading.get_ident() not in broker.threads
    assert account.password is not None
    assert account.password not in room.audit_path.read_text()


@dynamic
async def test_outputs_open_topics(room: Room, broker: FakeBroker) -> None:
    """A device with outputs may answer, and hears commands; without them it may not."""
    await room.enrol("act-1", actuators=[{"role": "outlet"}])
    role = broker.roles["grokmon-act-1"]
    assert set(role.publishes) >= {"grokmon/v1/act-1/up/state", "grokmon/v1/act-1/up/ack"}
    assert "grokmon/v1/act-1/down/command" in role.receives


async def test_without_accounts_nothing_is_asked(room: Room, broker: FakeBroker) -> None:
    """Where the broker is left as it is nobody talks to its administration."""
    response = await room.call("enroll_device", {"device_id": "tent-1", "name": "Tent 1", "metrics": ["temp_c"]})
    assert "password" not in response
    await set_status(room, DeviceStatus.REVOKED)
    await room.hub.trust.accounts.async_bring_in_step()
    room.hub.trust.accounts.async_renew_probe()
    assert broker.looks == 0
    assert room.hub.trust.accounts.revoking == []
    assert room.hub.store.state.broker.revoking == {}


@dynamic
async def test_disabled_and_enabled(tent: RoomDevice, broker: FakeBroker) -> None:
    """A disabled device's account is shut, and opened again with the same password."""
    (before,) = broker.of("tent-1")
    await set_status(tent.room, DeviceStatus.DISABLED)
    assert broker.of("tent-1") == [replace(before, enabled=False)]
    assert ("open_though_disabled", before.username) in await told(tent.room, "broker_changed")
    await set_status(tent.room, DeviceStatus.ACTIVE)
    assert broker.of("tent-1") == [before]
    assert ("disabled", before.username) in await told(tent.room, "broker_changed")
    assert broker.confirmed == []


@dynamic
async def test_rotation(tent: RoomDevice, broker: FakeBroker) -> None:
    """There are two accounts during the overlap, and one after it; that is no drift."""
    room = tent.room
    (first,) = broker.of("tent-1")
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    both = broker.of("tent-1")
    assert first in both
    assert len({account.password for account in both}) == 2
    drifts = await room.audit("broker_drift")
    await room.let_pass(DAY - 60)
    assert len(broker.of("tent-1")) == 2
    await room.let_pass(60 + RETRY)
    (second,) = broker.of("tent-1")
    assert second in both
    assert second != first
    assert ("stray_account", first.username) in await told(room, "broker_changed")
    assert await room.audit("broker_drift") == drifts


@dynamic
async def test_removed_device(tent: RoomDevice, broker: FakeBroker) -> None:
    """A device that a user removes loses its account as a revoked one does."""
    room = tent.room
    (account,) = broker.of("tent-1")
    await room.remove()
    assert broker.of("tent-1") == []
    assert "grokmon-tent-1" not in broker.roles
    assert broker.confirmed == [("tent-1", (Login(account.username, account.password),))]
    assert room.hub.trust.accounts.revoking == []


@dynamic
async def test_device_removed_while_the_hub_does_not_run(tent: RoomDevice, broker: FakeBroker) -> None:
    """The next start takes the account away, and sees that it is gone."""
    room = tent.room
    (account,) = broker.of("tent-1")
    await room.hass.config_entries.async_unload(room.entry.entry_id)
    await room.remove()
    broker.away = AWAY
    assert await room.set_up()
    assert room.stored()["broker"]["revoking"] == {"tent-1": [account.username]}
    assert room.stored()["devices"] == {}
    broker.away = None
    await room.let_pass(RETRY)
    assert broker.of("tent-1") == []
    assert broker.confirmed == [("tent-1", (Login(account.username, account.password),))]
    assert room.hub.trust.accounts.revoking == []


@dynamic
async def test_change_that_is_none_of_the_brokers(tent: RoomDevice, broker: FakeBroker) -> None:
    """What changes neither accounts nor topics is not worth a look."""
    looks = broker.looks
    device = tent.room.hub.gateway.registry["tent-1"]
    tent.room.hub.trust.accounts.async_device_changed(device, replace(device, name="Another"))
    tent.room.hub.trust.accounts.async_device_changed(None, None)
    await tent.room.settle()
    assert broker.looks == looks


@dynamic
async def test_many_at_once(room: Room, broker: FakeBroker) -> None:
    """Twenty devices enrolled at once all have accounts; they share one look after the first, and a probe each."""
    looks, probes, go_on = broker.looks, broker.probes, threading.Event()
    broker.before = lambda: go_on.wait(10)
    names = [f"node-{number}" for number in range(20)]
    requests = [{"device_id": name, "name": name, "metrics": ["temp_c"]} for name in names]
    enrol = room.hass.services.async_call
    await asyncio.gather(*(enrol("grokmon", "enroll_device", each, True, room.admin, None, True) for each in requests))
    go_on.set()
    await room.settle()
    assert [len(broker.of(name)) for name in names] == [1] * 20
    assert broker.looks - looks == 2
    assert broker.probes - probes <= 2
    assert issues(room) == set()


# Revocation


@dynamic
async def test_revocation_in_order(tent: RoomDevice, broker: FakeBroker) -> None:
    """The registry denies first, then the account goes, then somebody knocks, then the broker is probed."""
    room = tent.room
    (account,) = broker.of("tent-1")
    broker.order.clear()
    broker.before = lambda: broker.order.append(f"registry {room.hub.gateway.registry['tent-1'].status}")
    await set_status(room, DeviceStatus.REVOKED)
    assert broker.order == ["registry revoked", "removed tent-1", "confirmed tent-1", "probed"]
    assert broker.confirmed == [("tent-1", (Login(account.username, account.password),))]
    events = [entry["event"] for entry in await room.audit("revoked", "revocation_confirmed", "probed")]
    assert events[-3:] == ["revoked", "revocation_confirmed", "probed"]
    assert room.stored()["broker"]["revoking"] == {}
    assert issues(room) == set()
    room.hub.trust.accounts.async_device_changed(None, room.hub.gateway.registry["tent-1"])
    await room.settle()
    assert len(broker.confirmed) == 1


@dynamic
async def test_broker_is_away(tent: RoomDevice, broker: FakeBroker) -> None:
    """The registry denies at once; what is left at the broker is on the disk, told, retried and confirmed."""
    room = tent.room
    (account,) = broker.of("tent-1")
    broker.away = AWAY
    await set_status(room, DeviceStatus.REVOKED)
    assert room.hub.gateway.registry["tent-1"].status is DeviceStatus.REVOKED
    assert issues(room) == {"broker_accounts_pending", "revocation_pending_tent-1"}
    assert room.stored()["broker"]["revoking"] == {"tent-1": [account.username]}
    await room.hub.trust.posture.async_measure()
    assert room.hub.trust.posture.as_shown()["revocations_pending"] == ["tent-1"]
    for _ in range(3):
        looks = broker.looks
        await room.let_pass(RETRY)
        assert broker.looks == looks + 1
    (pending,) = await room.audit("broker_accounts_pending")
    assert (pending["reason"], pending["detail"]) == ("broker_accounts_pending", "ConnectionRefusedError")
    broker.away = None
    await room.let_pass(RETRY)
    assert issues(room) == set()
    assert broker.confirmed == [("tent-1", (Login(account.username, account.password),))]
    assert [entry["device"] for entry in await room.audit("revocation_confirmed")] == ["tent-1"]
    assert room.stored()["broker"]["revoking"] == {}


@dynamic
async def test_restart_in_the_middle(tent: RoomDevice, broker: FakeBroker) -> None:
    """After a restart what was begun is ended, though the old password is not known any more."""
    room = tent.room
    broker.away = AWAY
    await set_status(room, DeviceStatus.REVOKED)
    await room.reload()
    assert issues(room) == {"broker_accounts_pending", "revocation_pending_tent-1"}
    assert room.hub.trust.accounts.revoking == ["tent-1"]
    broker.away = None
    await room.let_pass(RETRY)
    assert broker.confirmed == [("tent-1", ())]
    assert issues(room) == set()
    assert broker.of("tent-1") == []


@dynamic
async def test_who_still_gets_in(room: Room, broker: FakeBroker) -> None:
    """Whoever still gets in is not confirmed; the others are, though the broker went away after them."""
    for name in ("tent-1", "tent-2", "tent-3"):
        await room.enrol(name)
    broker.away = AWAY
    for name in ("tent-1", "tent-2", "tent-3"):
        await set_status(room, DeviceStatus.REVOKED, name)

    def confirms(device_id: str) -> bool:
        if device_id == "tent-3":
            raise AWAY
        return device_id == "tent-1"

    broker.away, broker.confirms = None, confirms
    await room.let_pass(RETRY)
    assert room.hub.trust.accounts.revoking == ["tent-2", "tent-3"]
    assert issues(room) == {"broker_accounts_pending", "revocation_pending_tent-2", "revocation_pending_tent-3"}
    broker.confirms = lambda device_id: device_id != "tent-2"
    await room.let_pass(RETRY)
    assert issues(room) == {"revocation_pending_tent-2"}
    broker.confirms = lambda _: True
    await room.let_pass(RETRY)
    assert issues(room) == set()
    confirmed = [entry["device"] for entry in await room.audit("revocation_confirmed")]
    assert confirmed == ["tent-1", "tent-3", "tent-2"]


@dynamic
async def test_one_that_cannot_be_looked_at_holds_up_nobody(room: Room, broker: FakeBroker) -> None:
    """Who cannot be confirmed is last in line the next time."""
    for name in ("tent-1", "tent-2", "tent-3"):
        await room.enrol(name)
    broker.away = AWAY
    for name in ("tent-1", "tent-2", "tent-3"):
        await set_status(room, DeviceStatus.REVOKED, name)

    def confirms(device_id: str) -> bool:
        if device_id == "tent-1":
            raise ClosedError("the broker closed the connection")
        return True

    broker.away, broker.confirms = None, confirms
    await room.let_pass(RETRY)
    assert room.hub.trust.accounts.revoking == ["tent-1", "tent-2", "tent-3"]
    await room.let_pass(RETRY)
    assert room.hub.trust.accounts.revoking == ["tent-1"]
    assert issues(room) == {"broker_accounts_pending", "revocation_pending_tent-1"}
    assert room.hub.trust.accounts.problem == "the broker closed the connection"


@dynamic
async def test_disk_fails_while_revocations_are_confirmed(room: Room, broker: FakeBroker) -> None:
    """What the disk refuses is told, holds up nothing for good, and is on the disk when that takes it again."""
    for name in ("tent-1", "tent-2"):
        await room.enrol(name)
    broker.away = AWAY
    for name in ("tent-1", "tent-2"):
        await set_status(room, DeviceStatus.REVOKED, name)
    broker.away = None
    room.break_store()
    await room.let_pass(RETRY)
    assert issues(room) == {"broker_accounts_pending", "revocation_pending_tent-2"}
    room.repair_store()
    await room.let_pass(RETRY)
    assert issues(room) == set()
    assert room.stored()["broker"]["revoking"] == {}
    assert [entry["device"] for entry in await room.audit("revocation_confirmed")] == ["tent-1", "tent-2"]


@dynamic
async def test_revoked_for_good_though_the_disk_failed(tent: RoomDevice, broker: FakeBroker) -> None:
    """A device whose revocation the disk refused gets no account again after a restart."""
    room = tent.room
    room.break_store()
    with pytest.raises(HomeAssistantError):
        await room.call("revoke_device", {"device_id": "tent-1"})
    await room.settle()
    assert broker.of("tent-1") == []
    room.repair_store()
    await room.reload()
    assert room.hub.gateway.registry["tent-1"].status is DeviceStatus.REVOKED
    assert broker.of("tent-1") == []
    assert issues(room) == set()


@dynamic
async def test_enrolled_again_while_the_broker_is_away(tent: RoomDevice, broker: FakeBroker) -> None:
    """A device that is removed and enrolled again has its new account, and not the old one."""
    room = tent.room
    (old,) = broker.of("tent-1")
    broker.away = AWAY
    await room.remove()
    await room.enrol()
    broker.away = None
    await room.let_pass(RETRY)
    (new,) = broker.of("tent-1")
    assert new.username != old.username
    assert broker.confirmed == [("tent-1", (Login(old.username, old.password),))]
    assert issues(room) == set()


# What is found


@dynamic
async def test_drift_at_a_start_and_daily(tent: RoomDevice, broker: FakeBroker) -> None:
    """What somebody changed is found at the next start and on the daily look, told, and put right."""
    room = tent.room
    (account,) = broker.of("tent-1")
    before = await told(room, "broker_drift")
    del broker.roles["grokmon-tent-1"]
    await room.reload()
    assert await told(room, "broker_drift") - before == {("missing_role", "grokmon-tent-1")}
    broker.foreign[account.username] = "everything"
    looks = broker.looks
    await room.let_pass(DAY / 2)
    assert broker.looks == looks
    await room.let_pass(DAY / 2 + RETRY)
    assert broker.looks > looks
    drift = next(entry for entry in await room.audit("broker_drift") if entry["reason"] == "foreign_role")
    assert (drift["account"], drift["detail"]) == (account.username, "everything")
    assert "grokmon-tent-1" in broker.roles


@dynamic
async def test_drift_beside_a_change_of_ours(tent: RoomDevice, broker: FakeBroker) -> None:
    """What no change of ours brings about is drift, also when the device is changed just then."""
    room = tent.room
    (account,) = broker.of("tent-1")
    broker.foreign[account.username] = "everything"
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    assert ("foreign_role", account.username) in await told(room, "broker_drift")
    assert ("foreign_role", account.username) not in await told(room, "broker_changed")


@dynamic
async def test_name_that_is_taken(room: Room, broker: FakeBroker) -> None:
    """Somebody else's account of that name is told once, though it is found again every time."""
    with patch("custom_components.grokmon.gateway.credentials.token_hex", return_value="00000001"):
        broker.taken.add("tent-1.00000001")
        await room.enrol("tent-1")
    assert issues(room) == {"broker_accounts_pending"}
    for _ in range(3):
        looks = broker.looks
        await room.let_pass(RETRY)
        assert broker.looks == looks + 1
    taken = [entry for entry in await room.audit("broker_drift") if entry["reason"] == "name_taken"]
    assert [entry["account"] for entry in taken] == ["tent-1.00000001"]
    issue = ir.async_get(room.hass).async_get_issue("grokmon", "broker_accounts_pending")
    assert issue is not None
    assert issue.translation_placeholders == {"problem": "name_taken: tent-1.00000001"}
    broker.taken.clear()
    await room.let_pass(RETRY)
    assert issues(room) == set()
    assert len(broker.of("tent-1")) == 1


@dynamic
async def test_wrong_administrator(quiet_room: Room, broker: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password is an issue, goes into no log and no trail, and a right one helps without a restart."""
    caplog.set_level(logging.DEBUG)
    broker.away = RefusedError(135)
    room = quiet_room
    assert await room.set_up()
    await room.hub.trust.async_keep_passwords({"admin_password": "not-the-right-one"})
    await room.settle()
    assert broker.admins[-1].password == "not-the-right-one"
    assert issues(room) == {"broker_accounts_pending"}
    (pending,) = await room.audit("broker_accounts_pending")
    assert pending["detail"] == "the broker refuses the connection: 135 (wrong user name or password)"
    assert "not-the-right-one" not in caplog.text
    assert "not-the-right-one" not in room.audit_path.read_text()
    assert "not-the-right-one" not in json.dumps(room.stored())
    broker.away = None
    await room.hub.trust.async_keep_passwords({"admin_password": "the-right-one"})
    await room.settle()
    assert issues(room) == set()


@dynamic
async def test_password_of_the_probe(room: Room, broker: FakeBroker) -> None:
    """With another password the accounts of the probe are made anew: the broker does not show that it differs."""
    assert {broker.accounts[name].password for name in PROBE_IDS} == {room.hub.store.state.broker.probe_password}
    broker.away = AWAY
    await room.hub.trust.async_keep_passwords({"probe_password": "another"})
    await room.settle()
    assert issues(room) == {"broker_accounts_pending"}
    assert room.stored()["broker"]["revoking"].keys() == set(PROBE_IDS)
    broker.away = None
    await room.let_pass(RETRY)
    assert {broker.accounts[name].password for name in PROBE_IDS} == {"another"}
    assert room.hub.store.state.broker.revoking == {}
    room.break_store()
    with pytest.raises(Exception, match="disk"):
        await room.hub.trust.async_keep_passwords({"probe_password": "a third", "admin_password": "x"})
    room.repair_store()
    state = room.hub.store.state.broker
    assert (state.probe_password, state.admin_password, state.revoking) == ("another", "", {})


@dynamic
@pytest.mark.parametrize("earlier", [set(), set(PROBE_IDS)], ids=["nothing before", "renewed before"])
async def test_revoked_while_passwords_are_not_saved(tent: RoomDevice, broker: FakeBroker, earlier: set[str]) -> None:
    """Passwords that the disk refuses take back what is theirs, and nobody's revocation."""
    room = tent.room
    broker.away = AWAY
    state = room.hub.store.state.broker
    state.revoking |= {name: [name] for name in earlier}
    with slow_disk(fails=True) as (waits, go_on):
        keeping = asyncio.ensure_future(room.hub.trust.async_keep_passwords({"probe_password": "another"}))
        await waits.wait()
        revoking = asyncio.ensure_future(room.hub.enrolment.async_set_status("tent-1", DeviceStatus.REVOKED, "x"))
        await room.until(lambda: "tent-1" in state.revoking)
        go_on.set()
        with pytest.raises(HomeAssistantError):
            await keeping
        await revoking
    await room.settle()
    assert state.revoking.keys() == room.stored()["broker"]["revoking"].keys() == {"tent-1"} | earlier
    assert state.probe_password != "another"


@dynamic
async def test_mqtt_is_not_there(room: Room) -> None:
    """Without Home Assistant's MQTT nobody knows where the broker is."""
    with patch.object(accounts, "async_address", side_effect=UnreachableError("the MQTT integration is not loaded")):
        await room.hub.trust.accounts.async_bring_in_step()
    assert room.hub.trust.accounts.problem == "the MQTT integration is not loaded"
    assert issues(room) == {"broker_accounts_pending"}


@dynamic
async def test_unload_waits_for_what_is_under_way(tent: RoomDevice, broker: FakeBroker) -> None:
    """An unloaded hub changes nothing more at the broker, and what it had begun is over."""
    room = tent.room
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go_on.wait(10)

    broker.before = wait
    keeper = room.hub.trust.accounts
    keeper.async_request()
    await room.until(begun.is_set)
    keeper.async_request()
    looks = broker.looks
    unloading = room.hass.async_create_task(room.hass.config_entries.async_unload(room.entry.entry_id))
    await asyncio.sleep(0)
    await room.hass.async_add_executor_job(threading.Event().wait, 0.05)
    assert not unloading.done()
    go_on.set()
    assert await unloading
    await keeper.async_bring_in_step()
    assert broker.looks == looks
    assert not room.entry._background_tasks


# Another way to come by accounts


async def test_device_from_before(tent: RoomDevice, broker: FakeBroker) -> None:
    """A device without an account is told of when accounts come up, and a rotation gives it one of its own."""
    room = tent.room
    data = {"device_id": "http-1", "name": "HTTP 1", "metrics": ["temp_c"], "auth": "token"}
    await room.call("enroll_device", data)
    room.hass.config_entries.async_update_entry(room.entry, options=DYNAMIC)
    await room.settle()
    issue = ir.async_get(room.hass).async_get_issue("grokmon", "broker_account_missing")
    assert issue is not None
    assert issue.translation_placeholders == {"names": "Tent 1"}
    response = await room.call("rotate_credentials", {"device_id": "tent-1", "kinds": ["password"]})
    (account,) = broker.of("tent-1")
    (settings,) = response["devices"]
    assert (settings["username"], settings["password"]) == (account.username, account.password)
    assert issues(room) == set()
    await room.call("rotate_credentials")
    assert broker.of("http-1") == []


async def test_device_from_before_that_goes(tent: RoomDevice) -> None:
    """Who is revoked needs no account, and who keeps no accounts misses none."""
    room = tent.room
    await room.enrol("tent-2")
    room.hass.config_entries.async_update_entry(room.entry, options=FILES)
    await set_status(room, DeviceStatus.REVOKED, "tent-2")
    issue = ir.async_get(room.hass).async_get_issue("grokmon", "broker_account_missing")
    assert issue is not None
    assert issue.translation_placeholders == {"names": "Tent 1"}
    room.hass.config_entries.async_update_entry(room.entry, options={})
    await room.settle()
    assert "broker_account_missing" not in issues(room)


async def test_first_accounts_are_no_drift(tent: RoomDevice, broker: FakeBroker) -> None:
    """What a broker was never given nobody has changed; with another password the probe's is made anew by us."""
    room = tent.room
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    room.hass.config_entries.async_update_entry(room.entry, options=DYNAMIC)
    await room.settle()
    await room.hub.trust.async_keep_passwords({"probe_password": "another"})
    await room.settle()
    assert broker.accounts.keys() >= set(PROBE_IDS)
    assert await told(room, "broker_changed") >= {("missing_account", name) for name in PROBE_IDS}
    assert await room.audit("broker_drift") == []


# Removal of the integration


@dynamic
async def test_removal_leaves_no_accounts(tent: RoomDevice, broker: FakeBroker) -> None:
    """Who removes the integration leaves nobody an account at the broker."""
    room = tent.room
    room.hub.store.state.broker.admin_password = "admins-own"
    assert broker.of("tent-1")
    await room.hass.config_entries.async_remove(room.entry.entry_id)
    await room.settle()
    assert (broker.accounts, broker.roles) == ({}, {})
    assert not list(room.storage.glob("grokmon.*"))


@dynamic
async def test_removal_while_the_broker_is_away(
    tent: RoomDevice, broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """What stays at the broker is said, and nothing else is kept for it."""
    room = tent.room
    broker.away = AWAY
    await room.hass.config_entries.async_remove(room.entry.entry_id)
    await room.settle()
    assert "Accounts of devices stay at the broker: ConnectionRefusedError" in caplog.text
    assert not list(room.storage.glob("grokmon.*"))


@dynamic
async def test_removal_waits_no_longer_than_it_may(
    tent: RoomDevice, broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that does not answer holds up no removal."""
    room, go_on = tent.room, threading.Event()
    broker.before = lambda: go_on.wait(10)
    with patch.object(removal, "_WITHIN_S", 0.0):
        await room.hass.config_entries.async_remove(room.entry.entry_id)
    go_on.set()
    await room.settle()
    assert "Accounts of devices stay at the broker: no answer in time" in caplog.text


@dynamic
async def test_removal_while_vault_refuses(tent: RoomDevice) -> None:
    """What cannot be done for want of the key leaves no issue of an integration that is gone."""
    room = tent.room
    with patch("custom_components.grokmon.at_rest.load_kek", side_effect=KekRefusedError("Vault: Forbidden")):
        await room.hass.config_entries.async_remove(room.entry.entry_id)
    await room.settle()
    assert not [key for domain, key in ir.async_get(room.hass).issues if domain == "grokmon"]


@files
async def test_removal_leaves_files(tent: RoomDevice, broker: FakeBroker) -> None:
    """A broker that goes by files is not talked to."""
    await tent.room.hass.config_entries.async_remove(tent.room.entry.entry_id)
    await tent.room.settle()
    assert broker.looks == 0


@dynamic
async def test_issues_end_with_the_accounts(tent: RoomDevice, broker: FakeBroker) -> None:
    """Nobody is told of accounts that nobody keeps any more."""
    room = tent.room
    broker.away = AWAY
    await set_status(room, DeviceStatus.REVOKED)
    assert issues(room) == {"broker_accounts_pending", "revocation_pending_tent-1"}
    room.hass.config_entries.async_update_entry(room.entry, options={})
    await room.settle()
    assert issues(room) == set()


@dynamic
async def test_issues_end_with_the_files(tent: RoomDevice, broker: FakeBroker) -> None:
    """Who writes files has revoked with that; who writes none has nobody read them."""
    room = tent.room
    broker.away = AWAY
    await set_status(room, DeviceStatus.REVOKED)
    room.hass.config_entries.async_update_entry(room.entry, options=FILES)
    await room.settle()
    assert issues(room) == {"broker_files_changed"}
    room.hass.config_entries.async_update_entry(room.entry, options=DYNAMIC)
    await room.settle()
    assert "broker_files_changed" not in issues(room)


# Files


def folder(room: Room) -> Path:
    """Return the folder of the broker's files."""
    return Path(room.hass.config.path("grokmon", "broker"))


async def read_files(room: Room) -> None:
    """Tell that the broker has read its files, as the repair does, which ends the issue then."""
    files = room.hub.trust.accounts.files
    assert await files.async_read(files.version)
    ir.async_delete_issue(room.hass, "grokmon", "broker_files_changed")


@files
async def test_files_are_written(tent: RoomDevice, broker: FakeBroker) -> None:
    """Files follow the registry; there is an issue when they changed, and none when they did not."""
    room = tent.room
    assert issues(room) == {"broker_files_changed"}
    written = (folder(room) / "passwd").read_text()
    assert "tent-1." in written
    assert "grokmon-probe-1:" in written
    assert (folder(room) / "passwd").stat().st_mode & 0o777 == 0o600
    # A restart finds the files as they are, and the broker may not have read them.
    await room.reload()
    assert issues(room) == {"broker_files_changed"}
    await read_files(room)
    count, probes = len(await room.audit("broker_files_written")), broker.probes
    for _ in range(3):
        await room.let_pass(RETRY)
    await room.reload()
    assert issues(room) == set()
    assert len(await room.audit("broker_files_written")) == count
    # Those of the start.
    assert broker.probes - probes <= 2
    await set_status(room, DeviceStatus.REVOKED)
    assert issues(room) == {"broker_files_changed"}
    assert "tent-1." not in (folder(room) / "passwd").read_text()
    assert room.hub.trust.accounts.revoking == []
    assert broker.looks == 0


@files
async def test_files_that_cannot_be_written(room: Room) -> None:
    """A disk that refuses is an issue, and is tried again."""
    passwords = folder(room) / "passwd"
    passwords.unlink()
    passwords.mkdir()
    await room.hub.trust.accounts.async_bring_in_step()
    assert "broker_accounts_pending" in issues(room)
    passwords.rmdir()
    await room.let_pass(RETRY)
    assert "broker_accounts_pending" not in issues(room)
    assert passwords.is_file()


@files
async def test_killed_before_the_files_were_told_of(tent: RoomDevice) -> None:
    """Whoever is killed as soon as the files are written tells of them at the next start."""
    room = tent.room
    await read_files(room)
    with patch.object(accounts.BrokerAccounts, "_tell_files"):
        await set_status(room, DeviceStatus.REVOKED)
    assert issues(room) == set()
    await room.reload()
    assert issues(room) == {"broker_files_changed"}
    await read_files(room)
    await room.reload()
    assert issues(room) == set()


@files
async def test_files_wait_for_the_disk(tent: RoomDevice) -> None:
    """Nothing is written of which nobody would be told after a crash; it is tried again."""
    room = tent.room
    await read_files(room)
    before = (folder(room) / "passwd").read_text()
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    await read_files(room)
    room.break_store()
    await room.let_pass(DAY + RETRY)
    assert "broker_accounts_pending" in issues(room)
    assert (folder(room) / "passwd").read_text().count("tent-1.") == 2
    room.repair_store()
    await room.let_pass(RETRY)
    assert issues(room) == {"broker_files_changed"}
    assert (folder(room) / "passwd").read_text().count("tent-1.") == before.count("tent-1.") == 1


@files
async def test_name_of_home_assistant_that_the_files_cannot_hold(room: Room) -> None:
    """An odd user name of Home Assistant is told as what keeps the files from being written."""

    async def address(*_: object) -> Address:
        return Address(Endpoint("127.0.0.1", 1), Login("home assistant", "secret-password"))

    with patch.object(accounts, "async_address", address):
        await room.hub.trust.accounts.async_bring_in_step()
    raised = ir.async_get(room.hass).issues["grokmon", "broker_accounts_pending"]
    assert "user name of Home Assistant" in str(raised.translation_placeholders)


@files
async def test_files_after_a_day_and_an_overlap(tent: RoomDevice) -> None:
    """Who is no longer to get in is taken out of the file when the time has come."""
    room = tent.room
    before = (folder(room) / "passwd").read_text().count("tent-1.")
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    assert (folder(room) / "passwd").read_text().count("tent-1.") == before + 1
    await read_files(room)
    await room.let_pass(DAY + RETRY)
    assert (folder(room) / "passwd").read_text().count("tent-1.") == before
    assert issues(room) == {"broker_files_changed"}


def test_nothing_secret_is_shown() -> None:
    """What may end in a log shows no password."""
    shown: Any = Account(username="a.1", device_id="a", client_id="a", password="secret-password")
    assert "secret-password" not in f"{shown!r} {Login('a', 'secret-password')!r}"


@dynamic
async def test_strangers(room: Room, broker: FakeBroker) -> None:
    """Who else may publish as one of the devices is asked for as the administrator, and not known while it is away."""
    await room.enrol()
    found = room.hub.trust.accounts
    broker.strangers = {"grokmon/v1/tent-1/up/telemetry": ("hub",), "grokmon/v1/tent-2/up/telemetry": ("bridge",)}
    await found.async_find_strangers()
    assert found.strangers == ("hub",)
    assert broker.admins[-1].username == "admin"
    broker.away = AWAY
    with pytest.raises(BrokerError):
        await found.async_find_strangers()
    assert room.hub.trust.posture.as_shown()["stranger_accounts"] == []


async def begin_repair(room: Room) -> tuple[Any, Any]:
    """Open the repair that confirms that the broker has read its files; return the manager of such, and the form."""
    assert await async_setup_component(room.hass, REPAIRS, {})
    manager: Any = repairs_flow_manager(room.hass)
    form = await manager.async_init("grokmon", data={"issue_id": "broker_files_changed"})
    assert (form["type"], form["step_id"]) == ("form", "confirm")
    return manager, form


@files
async def test_files_are_confirmed(tent: RoomDevice) -> None:
    """Who confirms that the broker has read the files has said so of these."""
    room = tent.room
    manager, form = await begin_repair(room)
    assert (await manager.async_configure(form["flow_id"], {}))["type"] == "create_entry"
    assert issues(room) == set()
    await room.reload()
    assert issues(room) == set()


@files
async def test_files_changed_while_somebody_is_about_to_confirm(tent: RoomDevice) -> None:
    """Who confirms what the broker read a while ago has not confirmed that somebody is revoked since."""
    room = tent.room
    manager, form = await begin_repair(room)
    await set_status(room, DeviceStatus.REVOKED)
    done = await manager.async_configure(form["flow_id"], {})
    assert (done["type"], done["reason"]) == ("abort", "files_changed")
    assert issues(room) == {"broker_files_changed"}
    await room.reload()
    assert issues(room) == {"broker_files_changed"}
    manager, form = await begin_repair(room)
    assert (await manager.async_configure(form["flow_id"], {}))["type"] == "create_entry"


@files
async def test_files_confirmed_while_they_are_written(tent: RoomDevice) -> None:
    """Who confirms what was written before has not confirmed what is being written."""
    room, loop = tent.room, asyncio.get_running_loop()
    keeper = room.hub.trust.accounts.files
    shown, confirmed = keeper.version, list[bool]()

    def write(changed: Mapping[Path, str]) -> None:
        confirmed.append(asyncio.run_coroutine_threadsafe(keeper.async_read(shown), loop).result(10))
        write_files(changed)
        confirmed.append(asyncio.run_coroutine_threadsafe(keeper.async_read(shown), loop).result(10))

    with patch.object(files_keeper, "write_files", write):
        await room.call("rotate_credentials", {"device_id": "tent-1"})
    assert (confirmed, keeper.unread) == ([False, False], True)
    await room.reload()
    assert issues(room) == {"broker_files_changed"}


@files
async def test_confirmation_that_the_disk_does_not_take(tent: RoomDevice) -> None:
    """Whoever is told that it was not saved is asked again."""
    keeper = tent.room.hub.trust.accounts.files
    assert keeper.unread
    tent.room.break_store()
    with pytest.raises(HomeAssistantError):
        await keeper.async_read(keeper.version)
    assert keeper.unread
    tent.room.repair_store()


@files
async def test_files_are_written_while_a_confirmation_is_saved(tent: RoomDevice) -> None:
    """What is written after somebody confirmed is unread, whatever the disk takes first."""
    room = tent.room
    keeper = room.hub.trust.accounts.files
    shown = keeper.version
    with slow_disk() as (waits, go_on):
        reading = asyncio.ensure_future(keeper.async_read(shown))
        await waits.wait()
        disabling = asyncio.ensure_future(room.hub.enrolment.async_set_status("tent-1", DeviceStatus.DISABLED, "x"))
        await room.until(lambda: keeper.version != shown)
        go_on.set()
        await asyncio.gather(reading, disabling)
    await room.settle()
    assert keeper.unread
    assert room.stored()["broker"]["files_unread"]


# Silence after a rotation


async def hear_plain(room: Room) -> None:
    """Let a device that the broker vouches for report."""
    room.hub.gateway.broker_enforced = True
    await room.receive("grokmon/v1/tent-1/up/telemetry", json.dumps({"metrics": {"temp_c": 21.0}}).encode())


async def is_offered(room: Room) -> bool:
    """Let the device fall silent; tell whether its old credentials are offered."""
    await room.let_pass(1000)
    assert room.state("tent-1/temp_c").state == "unavailable"
    return ("grokmon", "silent_after_rotation_tent-1") in ir.async_get(room.hass).issues


@dynamic
async def test_silent_long_after_the_old_password_ended(room: Room, broker: FakeBroker) -> None:  # noqa: ARG001
    """Who was heard when the broker let nobody in any more with the old password would be cut off by it."""
    data = {"device_id": "tent-1", "name": "Tent 1", "metrics": ["temp_c"], "auth": "broker"}
    await room.call("enroll_device", data)
    await hear_plain(room)
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    await room.let_pass(DAY - 700)
    await hear_plain(room)
    # It was heard under the old one, for all that anybody knows.
    assert await is_offered(room)
    # And what was on its way when it was shut out may be so still.
    await hear_plain(room)
    assert await is_offered(room)
    await hear_plain(room)
    assert not await is_offered(room)
    await room.let_pass(3700)
    assert not await is_offered(room)
    # After a restart, before it was heard, nobody knows.
    await room.reload()
    await room.let_pass(3700)
    assert ("grokmon", "silent_after_rotation_tent-1") in ir.async_get(room.hass).issues


@dynamic
async def test_silent_after_the_broker_was_brought_in_step_late(room: Room, broker: FakeBroker) -> None:
    """Who was heard before the broker was told that the old password is over may have come in with it."""
    data = {"device_id": "tent-1", "name": "Tent 1", "metrics": ["temp_c"], "auth": "broker"}
    await room.call("enroll_device", data)
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    broker.away = AWAY
    await room.let_pass(DAY + 3600)
    await hear_plain(room)
    broker.away = None
    await room.let_pass(61)
    assert await is_offered(room)


@dynamic
async def test_silent_after_the_broker_was_away_for_a_moment(room: Room, broker: FakeBroker) -> None:
    """Who was heard since the old password was shut out has the new one, whatever became of the broker later."""
    data = {"device_id": "tent-1", "name": "Tent 1", "metrics": ["temp_c"], "auth": "broker"}
    await room.call("enroll_device", data)
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    for seconds in (DAY + 3600, 30):
        await room.let_pass(seconds)
    await hear_plain(room)
    broker.away = AWAY
    room.hub.trust.accounts.async_request()
    await room.let_pass(61)
    broker.away = None
    await room.let_pass(61)
    assert room.hub.trust.accounts.problem is None
    assert not await is_offered(room)


@files
async def test_silent_before_the_broker_has_read_its_files(room: Room, broker: FakeBroker) -> None:  # noqa: ARG001
    """Who is heard until somebody has the broker read them may have come in with the old password."""
    data = {"device_id": "tent-1", "name": "Tent 1", "metrics": ["temp_c"], "auth": "broker"}
    await room.call("enroll_device", data)
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    await room.let_pass(DAY + 3600)
    assert room.hub.trust.accounts.files.unread
    await hear_plain(room)
    assert await is_offered(room)


@dynamic
async def test_silent_long_after_the_old_certificate_ended(room: Room) -> None:
    """Who has the old certificate may be heard until the broker has read the list, and is offered it when it is not."""
    data = {"device_id": "tent-1", "name": "Tent 1", "metrics": ["temp_c"], "auth": "broker"}
    await room.call("enroll_device", data)
    for _ in range(2):
        await room.let_pass(60)
        await room.call("sign_certificate", {"device_id": "tent-1", "overlap_hours": 1})
    await room.let_pass(DAY)
    await hear_plain(room)
    assert await is_offered(room)
