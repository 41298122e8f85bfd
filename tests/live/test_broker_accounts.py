"""Accounts of devices, from Home Assistant to a real Mosquitto: given, changed, revoked, and kept in step."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
import json
import os
from pathlib import Path
import re
import secrets
import signal
import ssl
import time
from typing import Any, Final

import pytest
import pytest_asyncio

from custom_components.grokmon.broker.connection import (
    REFUSED,
    BrokerError,
    ClosedError,
    Connection,
    Endpoint,
    Login,
    Protocol,
    RefusedError,
)
from custom_components.grokmon.broker.dynamic_security import DynamicSecurity, Outcome
from custom_components.grokmon.broker.work import retained_topics
from custom_components.grokmon.gateway import authority
from custom_components.grokmon.gateway.broker_accounts import Command, delete_role, link
from custom_components.grokmon.gateway.broker_drift import Found
from tests.demo.installation import Installation
from tests.demo.plan import Node
from tests.demo.waiting import settled
from tests.device_simulator.device import HonestDevice
from tests.stack.brokers import ADMIN, HOME_ASSISTANT, DynamicMosquittoBroker
from tests.stack.brokers.base import write_private
from tests.stack.certificates import Certificates
from tests.stack.connections import NOT_AUTHORIZED, is_open
from tests.stack.ports import LOOPBACK, free_port

from .observation import WITHIN, audit_entries, verify_alone

pytestmark = pytest.mark.timeout(240)

REVOKED_WITHIN: Final = 5.0
MANY: Final = 20
# The accounts are tried again every half minute.
AGAIN_WITHIN: Final = 45.0
PROBES: Final = {"grokmon-probe-1", "grokmon-probe-2"}


class TwoDoors(DynamicMosquittoBroker):
    """Run a Mosquitto with a second listener, for devices with certificates."""

    def __init__(self, folder: Path, certificates: Certificates, *, accounts: Iterable[str] = ()) -> None:
        """Let nobody in there until the site has an authority."""
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate_port = free_port()
        stranger = authority.new_authority(time.time())
        self.trust(folder, stranger.certificate, authority.revocation_list(stranger, {}, 1, time.time()))
        door = [
            f"listener {self.certificate_port} {LOOPBACK}",
            f"certfile {certificates.certificate.resolve()}",
            f"keyfile {certificates.key.resolve()}",
            f"cafile {folder.resolve() / 'devices.crt'}",
            f"crlfile {folder.resolve() / 'revoked.crl'}",
            "require_certificate true",
            "use_identity_as_username true",
            "use_username_as_clientid true",
        ]
        super().__init__(folder, certificates, accounts=accounts, persistence=True, settings=door)

    @staticmethod
    def trust(folder: Path, bundle: str, lists: str) -> None:
        """Put in place what the second listener goes by."""
        write_private(folder / "devices.crt", bundle)
        write_private(folder / "revoked.crl", lists)


@dataclass(slots=True)
class Account:
    """What a device got when it was enrolled."""

    device_id: str
    username: str
    password: str

    @classmethod
    def of(cls, response: Mapping[str, Any]) -> Account:
        """Return what a response holds."""
        assert response["client_id"] == response["device_id"]
        return cls(response["device_id"], response["username"], response["password"])


@dataclass(slots=True)
class Site:
    """A Home Assistant, a Mosquitto, and what an administrator and a device do there."""

    installation: Installation

    @property
    def broker(self) -> TwoDoors:
        """Return the broker."""
        broker = self.installation.broker
        assert isinstance(broker, TwoDoors)
        return broker

    def endpoint(self, protocol: Protocol = Protocol.V5) -> Endpoint:
        """Return where devices with a password connect."""
        return Endpoint(self.broker.host, self.broker.port, self.broker.client_context(), protocol)

    def login(self, name: str) -> Login:
        """Return an account that the broker began with."""
        return Login(name, self.broker.accounts[name].password)

    def hub(self) -> Connection:
        """Return a connection that may do everything."""
        return Connection(self.endpoint(), f"hub-{secrets.token_hex(4)}", self.login(HOME_ASSISTANT))

    def connect(self, who: Account, protocol: Protocol = Protocol.V5, *, clean: bool = True) -> Connection:
        """Return a device's connection."""
        return Connection(self.endpoint(protocol), who.device_id, Login(who.username, who.password), clean=clean)

    def gets_in(self, who: Account) -> bool:
        """Tell whether a device gets in."""
        try:
            with self.connect(who):
                return True
        except RefusedError:
            return False

    @property
    def security(self) -> DynamicSecurity:
        """Return the broker's administration."""
        return DynamicSecurity(self.endpoint(), self.login(ADMIN))

    def found(self) -> Found:
        """Return what the broker has."""
        return self.security.fetch()

    def meddle(self, *commands: Command) -> None:
        """Change accounts as somebody else who may."""
        assert {answer.outcome for answer in self.security.execute(commands)} == {Outcome.DONE}

    async def service(self, service: str, /, **data: Any) -> dict[str, Any]:
        """Call a service as an administrator."""
        return await self.installation.hass.rest.call_service("grokmon", service, data, return_response=True)

    async def enrol(self, device_id: str, **more: Any) -> Account:
        """Enrol a device; return its account, which the broker has by then."""
        data = {"device_id": device_id, "name": device_id, "metrics": ["temp_c"], **more}
        account = Account.of(await self.service("enroll_device", **data))
        await self.until(lambda: account.username in self.found().accounts)
        return account

    async def subentry(self, device_id: str) -> str:
        """Return the subentry of a device."""
        call = self.installation.hass.websocket.call
        subentries = await call("config_entries/subentries/list", entry_id=self.installation.entry_id)
        return next(str(each["subentry_id"]) for each in subentries if each["title"] == device_id)

    async def choose(self, device_id: str, step: str) -> None:
        """Go to a step of a device's flow, and confirm it."""
        flows = self.installation.hass.subentry_flows
        menu = await flows.start([self.installation.entry_id, "device"], subentry_id=await self.subentry(device_id))
        await flows.submit(menu["flow_id"], {"next_step_id": step})
        await flows.submit(menu["flow_id"], {})

    async def revoke(self, device_id: str) -> None:
        """Revoke a device."""
        await self.service("revoke_device", device_id=device_id)

    async def until(self, condition: Callable[[], bool], within: float = WITHIN) -> None:
        """Return once something is so at the broker."""

        async def look() -> bool:
            try:
                return await asyncio.to_thread(condition)
            except BrokerError:
                return False

        assert await settled(look, bool, within)

    def told(self, event: str, **details: str) -> list[dict[str, Any]]:
        """Return what the trail tells."""
        return [
            entry
            for entry in audit_entries(self.installation.audit_file)
            if entry["event"] == event and details.items() <= entry.items()
        ]

    async def confirmed(self, device_id: str, within: float = WITHIN) -> dict[str, Any]:
        """Return the entry that tells that nothing of a device is left."""
        await self.until(lambda: bool(self.told("revocation_confirmed", device=device_id)), within)
        return self.told("revocation_confirmed", device=device_id)[-1]

    async def issues(self) -> set[str]:
        """Return the issues of the integration."""
        issues = (await self.installation.hass.websocket.call("repairs/list_issues"))["issues"]
        return {issue["issue_id"] for issue in issues if issue["domain"] == "grokmon"}

    async def restart(self) -> None:
        """Start Home Assistant again."""
        await self.installation.hass.start()
        await self.installation.hass.wait_for_mqtt(WITHIN)


@pytest.fixture(scope="module")
def configuration() -> dict[str, Any]:
    """Log everything that the integration has to say."""
    return {"logger": {"default": "warning", "logs": {"custom_components.grokmon": "debug"}}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(stack_folder: Path, configuration: dict[str, Any]) -> AsyncGenerator[Site]:
    """Run the servers, with accounts for devices."""
    if DynamicMosquittoBroker.find_plugin() is None:
        pytest.skip("mosquitto's dynamic security plugin is not installed")
    async with Installation(stack_folder / "accounts", TwoDoors, (), configuration) as installation:
        await installation.add_gateway([])
        await installation.add_accounts()
        made = Site(installation)
        await made.until(lambda: made.found().accounts.keys() >= PROBES)
        yield made


def up(device_id: str) -> str:
    """Return a device's topic up."""
    return f"grokmon/v1/{device_id}/up/telemetry"


def at(entry: Mapping[str, Any]) -> float:
    """Return when something was told."""
    return datetime.fromisoformat(entry["at"]).timestamp()


# Given


async def test_enrolled_device_has_its_account(site: Site) -> None:
    """A real device comes in with the account it was given, and its readings arrive; it publishes its own only."""
    node = Node("own-1", "Own", ("temp_c",))
    enrolled = await site.installation.enrol(node)
    assert enrolled.account is not None
    account = Account(node.device_id, enrolled.account.username, enrolled.account.password)
    other = await site.enrol("own-2")
    await site.until(lambda: account.username in site.found().accounts)
    device = HonestDevice(enrolled.identity, site.installation.address_of(enrolled))
    await device.start()
    try:
        async with asyncio.timeout(WITHIN):
            await device.session_ready.wait()
        device.take({"temp_c": 21.5})
        entity = (await site.installation.entity_ids())["own-1/temp_c"]
        await site.installation.hass.wait_for_state(entity, lambda state: state["state"] == "21.5")
    finally:
        await device.stop()
    with site.hub() as hub:
        hub.subscribe("#")
        for topic in (up("own-2"), "homeassistant/sensor/x/config", "grokmon/v1/own-1/down/command"):
            with site.connect(account) as connection:
                assert connection.publish(topic, b"forged") == NOT_AUTHORIZED
        with site.connect(account) as connection:
            assert connection.publish(up("own-1"), b"genuine") < REFUSED
        message = hub.receive(WITHIN, lambda each: each.payload in (b"forged", b"genuine"))
        assert message is not None
        assert message.payload == b"genuine"
    thief = Connection(site.endpoint(), "own-1", Login(other.username, other.password))
    with pytest.raises(RefusedError), thief:
        pass
    assert await site.issues() >= {"posture_https"}
    assert not [each for each in await site.issues() if each.startswith(("broker_", "revocation_"))]


async def test_posture_is_enforced(site: Site) -> None:
    """The probe finds that this broker keeps devices apart."""
    response = await site.service("probe_broker")
    assert response["posture"] == "enforced", response


async def test_many_at_once(site: Site, measured: Callable[[str], None]) -> None:
    """Twenty devices enrolled at once all get in."""
    names = [f"many-{number}" for number in range(MANY)]
    began = time.monotonic()
    responses = await asyncio.gather(
        *(site.service("enroll_device", device_id=name, name=name, metrics=["temp_c"]) for name in names)
    )
    accounts = [Account.of(response) for response in responses]
    await site.until(lambda: {each.username for each in accounts} <= site.found().accounts.keys())
    measured(f"{MANY} devices enrolled at once have their accounts after {time.monotonic() - began:.1f} s")
    for account in accounts:
        with site.connect(account) as connection:
            assert connection.publish(up(account.device_id), b"own") < REFUSED
    assert not [each for each in await site.issues() if each.startswith("broker_")]


# Changed


async def test_disabled_and_enabled(site: Site) -> None:
    """A disabled device is thrown out and stays out; enabled, it comes in as before."""
    account = await site.enrol("shut-1")
    with site.connect(account) as connection:
        began = time.monotonic()
        await site.choose("shut-1", "disable")
        with pytest.raises(ClosedError):
            await asyncio.to_thread(connection.receive, WITHIN, lambda _: False)
        assert time.monotonic() - began < REVOKED_WITHIN
    # Its role is taken first, which kicks; a moment later it is shut.
    await site.until(lambda: not site.gets_in(account))
    await site.choose("shut-1", "enable")
    await site.until(lambda: site.gets_in(account))
    with site.connect(account) as connection:
        assert connection.publish(up("shut-1"), b"again") < REFUSED


async def test_rotation(site: Site) -> None:
    """The new account stands beside the old one, and nobody is thrown out; a revocation ends both."""
    first = await site.enrol("turn-1")
    with site.connect(first) as connection:
        response = await site.service("rotate_credentials", device_id="turn-1")
        second = Account.of(_settings(response, "turn-1"))
        assert second.username != first.username
        await site.until(lambda: second.username in site.found().accounts)
        assert is_open(connection)
        assert connection.publish(up("turn-1"), b"old") < REFUSED
    assert site.gets_in(second)
    assert site.gets_in(first)
    await site.revoke("turn-1")
    await site.confirmed("turn-1")
    assert not site.gets_in(first)
    assert not site.gets_in(second)
    assert not [name for name in site.found().accounts if name.startswith("turn-1")]


def _settings(response: Mapping[str, Any], device_id: str) -> Mapping[str, Any]:
    """Return the settings of a device, wherever a response has them."""
    if response.get("device_id") == device_id:
        return response
    devices = response["devices"]
    found: Mapping[str, Any] = next(each for each in devices if each["device_id"] == device_id)
    return found


# Revoked


async def test_revoked_within_seconds(site: Site, measured: Callable[[str], None]) -> None:
    """Everything that a device had is gone within seconds, in order, and the trail confirms it."""
    account = await site.enrol("gone-1", actuators=[{"role": "outlet"}])
    command = "grokmon/v1/gone-1/down/command"
    with site.connect(account, Protocol.V311, clean=False) as connection:
        assert connection.subscribe(command) < REFUSED
    with site.hub() as hub:
        assert hub.publish(command, b"queued") < REFUSED
        assert hub.publish(up("gone-1"), b"kept", retain=True) < REFUSED
    with site.connect(account, clean=False) as connection:
        began = time.time()
        await site.revoke("gone-1")
        answered = time.time()
        with pytest.raises(ClosedError):
            await asyncio.to_thread(connection.receive, WITHIN, lambda _: False)
        kicked = time.time()
    confirmed = at(await site.confirmed("gone-1"))

    async def probed_since() -> bool:
        state = await site.installation.hass.rest.state((await site.installation.entity_ids())["hub/posture"])
        assert state is not None
        told = state["attributes"].get("probed_at")
        return told is not None and datetime.fromisoformat(told).timestamp() >= confirmed

    assert await settled(probed_since, bool, WITHIN)
    probed = time.time()
    measured(
        f"revoked: answered after {answered - began:.2f} s, kicked {kicked - began:.2f} s, confirmed "
        f"{confirmed - began:.2f} s, broker probed {probed - began:.2f} s"
    )
    assert confirmed - began < REVOKED_WITHIN
    assert kicked - began < REVOKED_WITHIN
    events = ("revoked", "revocation_confirmed")
    order = [each["event"] for each in audit_entries(site.installation.audit_file) if each.get("device") == "gone-1"]
    assert [event for event in order if event in events] == list(events)
    assert not site.gets_in(account)
    found = site.found()
    assert account.username not in found.accounts
    assert "grokmon-gone-1" not in found.roles
    assert retained_topics(site.endpoint(), site.login(HOME_ASSISTANT), "grokmon/v1/gone-1/#") == []
    assert "revocation_pending_gone-1" not in await site.issues()
    await _enrol_again(site, command)


async def _enrol_again(site: Site, command: str) -> None:
    """See that the next device of that name hears nothing of what waited for the one before it."""
    await site.installation.hass.websocket.call(
        "config_entries/subentries/delete",
        entry_id=site.installation.entry_id,
        subentry_id=await site.subentry("gone-1"),
    )
    again = await site.enrol("gone-1", actuators=[{"role": "outlet"}])
    with site.connect(again, Protocol.V311, clean=False) as connection, site.hub() as hub:
        assert connection.subscribe(command) < REFUSED
        assert hub.publish(command, b"marker") < REFUSED
        message = connection.receive(WITHIN)
        assert message is not None
        assert message.payload == b"marker"


async def test_broker_is_away_while_a_device_is_revoked(site: Site) -> None:
    """The registry denies at once, an issue says what is left, and all is confirmed once the broker is there again."""
    account = await site.enrol("away-1")
    await site.broker.kill()
    await site.revoke("away-1")
    assert (await site.installation.listed())["away-1"]["status"] == "revoked"

    async def issues() -> set[str]:
        return await site.issues()

    pending = {"broker_accounts_pending", "revocation_pending_away-1"}
    assert pending <= await settled(issues, pending.issubset, WITHIN)
    await site.broker.start()
    assert site.gets_in(account), "the broker knows nothing of it as yet"
    await site.confirmed("away-1", AGAIN_WITHIN)
    assert not site.gets_in(account)
    assert not pending & await settled(issues, pending.isdisjoint, WITHIN)
    await site.installation.hass.wait_for_mqtt(WITHIN)


async def test_killed_in_the_middle(site: Site) -> None:
    """After both were killed in the middle of changes a start ends what was begun, and finds drift."""
    gone, kept, lost = [await site.enrol(name) for name in ("kill-1", "kill-2", "kill-3")]
    site.meddle(link(kept.username, "everything"), delete_role("grokmon-kill-3"))
    await site.broker.kill()
    await site.revoke("kill-1")
    late = await site.service("enroll_device", device_id="kill-4", name="kill-4", metrics=["temp_c"])
    # Home Assistant writes what people chose a moment later; before that the device would be none.
    chosen = site.installation.hass.config / ".storage" / "core.config_entries"
    await site.until(lambda: '"kill-4"' in chosen.read_text(encoding="utf-8"))
    await site.installation.hass.kill()
    await site.broker.start()
    assert site.gets_in(gone)
    await site.restart()
    await site.confirmed("kill-1")
    assert not site.gets_in(gone)
    await site.until(lambda: site.gets_in(Account.of(late)))
    await site.until(lambda: bool(site.told("broker_drift", reason="foreign_role", account=kept.username)))
    assert site.told("broker_drift", reason="missing_role", account="grokmon-kill-3")
    for account in (kept, lost):
        with site.connect(account) as connection:
            assert connection.publish(up(account.device_id), b"own") < REFUSED
            assert connection.publish(up("kill-4"), b"another's") == NOT_AUTHORIZED
    assert not [each for each in await site.issues() if each.startswith(("broker_", "revocation_"))]
    assert await verify_alone(site.installation.audit_file) == 0


# Certificates


async def test_certificate_from_end_to_end(site: Site, tmp_path: Path) -> None:
    """A signed certificate opens the account; revoked, it is worth nothing before the broker has read the list."""
    await site.enrol("cert-1")
    signed = await site.service("sign_certificate", device_id="cert-1")
    await site.until(lambda: "cert-1" in site.found().accounts)
    files = site.installation.hass.config / "grokmon" / "broker"
    bundle = (files / "ca.crt").read_text(encoding="utf-8")
    assert bundle == signed["ca_certificate"]
    site.broker.trust(site.broker.folder, bundle, (files / "crl.pem").read_text(encoding="utf-8"))
    os.kill(site.broker.process.pid, signal.SIGHUP)
    chain = tmp_path / "device.pem"
    write_private(chain, signed["certificate"] + signed["private_key"])
    context = ssl.create_default_context(cafile=str(site.broker.certificates.ca if site.broker.certificates else ""))
    context.load_cert_chain(chain)
    door = Endpoint(site.broker.host, site.broker.certificate_port, context)

    other = await site.enrol("cert-2")

    def throws_out() -> bool:
        with site.connect(other) as victim:
            with suppress(BrokerError), Connection(door, "cert-2"):
                pass
            return not is_open(victim)

    def publishes() -> bool:
        with Connection(door, "cert-1") as device:
            assert device.publish(up("cert-2"), b"forged") == NOT_AUTHORIZED
        with Connection(door, "cert-1") as device:
            return device.publish(up("cert-1"), b"own") < REFUSED

    def is_worthless() -> bool:
        try:
            with Connection(door, "cert-1") as device:
                return device.publish(up("cert-1"), b"not any more") >= REFUSED
        except RefusedError:
            return True

    await site.until(publishes)
    assert not is_worthless()
    assert not throws_out(), "it is its own client, whatever it says"
    with Connection(door, "cert-1") as device:
        await site.revoke("cert-1")
        with pytest.raises(ClosedError):
            await asyncio.to_thread(device.receive, WITHIN, lambda _: False)
    await site.confirmed("cert-1")
    assert "cert-1" not in site.found().accounts
    assert is_worthless(), "the broker has not read the list as yet"
    assert not throws_out()
    listed = (files / "crl.pem").read_text(encoding="utf-8")
    assert site.told("revocation_list")[-1]["revoked"] == 1
    site.broker.trust(site.broker.folder, bundle, listed)
    os.kill(site.broker.process.pid, signal.SIGHUP)

    def is_kept_out() -> bool:
        try:
            with Connection(door, "cert-1"):
                return False
        except RefusedError:
            return False
        except BrokerError:
            return True

    await site.until(is_kept_out)


# At last


async def test_wrong_administrator(site: Site) -> None:
    """A wrong password of the administrator is an issue; the right one ends it."""
    hass, entry_id = site.installation.hass, site.installation.entry_id
    right, port = site.broker.accounts[ADMIN], free_port()

    async def set_password(password: str) -> None:
        menu = await hass.options_flows.start(entry_id)
        await hass.options_flows.submit(menu["flow_id"], {"next_step_id": "broker"})
        answers = {"mode": "dynamic_security", "admin_username": right.username, "admin_password": password}
        await hass.options_flows.submit(menu["flow_id"], {**answers, "plaintext_port": port})

    async def states() -> list[str]:
        entries = await hass.websocket.call("config_entries/get", domain="grokmon")
        return [entry["state"] for entry in entries]

    async def issues() -> set[str]:
        return await site.issues()

    # The other port is a new start, the other password is none.
    await set_password(right.password)
    assert await settled(states, ["loaded"].__eq__, WITHIN) == ["loaded"]
    await set_password("wrong-admin-password")
    assert "broker_accounts_pending" in await settled(issues, {"broker_accounts_pending"}.issubset, WITHIN)
    await set_password(right.password)
    assert "broker_accounts_pending" not in await settled(issues, {"broker_accounts_pending"}.isdisjoint, WITHIN)


async def test_nothing_was_blocked_or_told(site: Site) -> None:
    """After all of this the log tells of no blocking call, no error of ours, and neither log nor trail of a secret."""
    log = site.installation.hass.process.log.read_text(encoding="utf-8")
    assert "Detected blocking call" not in log
    assert not re.findall(r"^.* ERROR .*grokmon.*$", log, re.MULTILINE)
    assert "custom_components/grokmon/" not in "".join(re.findall(r'^ *File ".*$', log, re.MULTILINE))
    trail = site.installation.audit_file.read_text(encoding="utf-8")
    known = [account.password for account in site.broker.accounts.values()] + ["wrong-admin-password"]
    stored = json.dumps(json.loads((site.installation.hass.config / ".storage" / "grokmon.security").read_text()))
    for password in known:
        assert password not in log
        assert password not in trail
        assert password not in stored
