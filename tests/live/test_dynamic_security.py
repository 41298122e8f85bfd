"""Accounts at a real Mosquitto: what devices may do, what kicks them, and what becomes of a change that went wrong."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
import json
import os
from pathlib import Path
import secrets
import signal
import socket
import threading
from time import monotonic
from typing import Any, override

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
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
    UnreachableError,
)
from custom_components.grokmon.broker.dynamic_security import (
    CONTROL,
    NOT_ALLOWED,
    NOT_SENT,
    RESPONSES,
    DynamicSecurity,
    Outcome,
    clear_retained,
    overall,
)
from custom_components.grokmon.gateway import broker_accounts as accounts
from custom_components.grokmon.gateway.broker_accounts import Account, Command, Role, role_of
from custom_components.grokmon.gateway.broker_drift import Drift, DriftKind, difference
from custom_components.grokmon.gateway.broker_files import acl_file, password_line
from tests.stack.brokers import ADMIN, HOME_ASSISTANT, DynamicMosquittoBroker, MosquittoBroker
from tests.stack.certificates import Certificates
from tests.stack.connections import NOT_AUTHORIZED, is_open

PREFIX = "grokmon"
GROUP = "people"
KICKED_WITHIN = 5.0
ANSWERED_WITHIN = 5.0
STRAY = frozenset({DriftKind.STRAY_ACCOUNT, DriftKind.STRAY_ROLE})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def broker(stack_folder: Path, certificates: Certificates) -> AsyncGenerator[DynamicMosquittoBroker]:
    """Run a Mosquitto with the plugin for this module."""
    if DynamicMosquittoBroker.find_plugin() is None:
        pytest.skip("mosquitto's dynamic security plugin is not installed")
    async with DynamicMosquittoBroker(stack_folder / "dynamic", certificates, accounts=["extra"]) as instance:
        yield instance


@pytest_asyncio.fixture(loop_scope="session")
async def security(broker: DynamicMosquittoBroker) -> AsyncGenerator[DynamicSecurity]:
    """Return the administrator, and leave no account of a test behind."""
    instance = DynamicSecurity(endpoint(broker), login(broker, ADMIN))
    yield instance
    if not broker.process.running:
        await broker.start()
    repair(instance, [], [])
    instance.execute([{"command": "deleteGroup", "groupname": GROUP}])


def endpoint(broker: MosquittoBroker, protocol: Protocol = Protocol.V5) -> Endpoint:
    """Return where a broker listens."""
    return Endpoint(broker.host, broker.port, broker.client_context(), protocol)


def login(broker: MosquittoBroker, name: str) -> Login:
    """Return the login of an account that the broker began with."""
    return Login(name, broker.accounts[name].password)


def role(device_id: str, *up: str) -> Role:
    """Return a device's role, by default that of a device with outputs that sends no hello."""
    return role_of(PREFIX, device_id, up or ("telemetry", "status"), ("command",))


def account(device_id: str, key_id: str = "k1") -> Account:
    """Return an account with a new password."""
    name = f"{device_id}.{key_id}"
    return Account(username=name, device_id=device_id, client_id=name, password=secrets.token_urlsafe(24))


def created(who: Account) -> tuple[Command, ...]:
    """Return what makes a device's first account, with its role."""
    return (accounts.create_role(role(who.device_id)), *accounts.create_account(who))


def password_changed(who: Account, password: str) -> Command:
    """Return what a person does at the broker."""
    return {"command": "setClientPassword", "username": who.username, "password": password}


def provision(security: DynamicSecurity, wanted: Role, *made: Account) -> None:
    """Bring a role and accounts in step, and leave whatever else there is."""
    differing = [drift for drift in drifts(security, made, [wanted]) if drift.kind not in STRAY]
    commands = [command for drift in differing for command in drift.commands]
    assert overall(security.execute(commands)) is Outcome.DONE


def enrol(security: DynamicSecurity, device_id: str) -> Account:
    """Make a device at the broker."""
    made = account(device_id)
    provision(security, role(device_id), made)
    return made


def connect(
    broker: MosquittoBroker, who: Account, protocol: Protocol = Protocol.V5, *, clean: bool = True
) -> Connection:
    """Return a device's connection."""
    return Connection(endpoint(broker, protocol), who.client_id, Login(who.username, who.password), clean=clean)


def hub(broker: MosquittoBroker) -> Connection:
    """Return Home Assistant's connection."""
    return Connection(endpoint(broker), "hub", login(broker, HOME_ASSISTANT))


def up(device_id: str, channel: str = "telemetry") -> str:
    """Return a device's topic up."""
    return f"{PREFIX}/v1/{device_id}/up/{channel}"


def down(device_id: str, channel: str = "command") -> str:
    """Return a device's topic down."""
    return f"{PREFIX}/v1/{device_id}/down/{channel}"


def until(connection: Connection, marker: bytes) -> list[tuple[str, bytes]]:
    """Return what arrives up to a marker, which was sent last and therefore arrives last."""
    arrived: list[tuple[str, bytes]] = []
    while True:
        message = connection.receive(ANSWERED_WITHIN)
        assert message is not None, "the marker did not arrive"
        if message.payload == marker:
            return arrived
        arrived.append((message.topic, message.payload))


def drifts(security: DynamicSecurity, wanted: Sequence[Account], roles: Sequence[Role]) -> tuple[Drift, ...]:
    """Return how the broker differs."""
    return difference(wanted, roles, security.fetch())


def repair(security: DynamicSecurity, wanted: Sequence[Account], roles: Sequence[Role]) -> None:
    """Repair what differs, and find nothing more to do."""
    commands = [command for drift in drifts(security, wanted, roles) for command in drift.commands]
    assert overall(security.execute(commands)) is Outcome.DONE
    assert drifts(security, wanted, roles) == ()


# What devices may do


async def test_each_device_publishes_only_its_own(broker: DynamicMosquittoBroker, security: DynamicSecurity) -> None:
    """A device's own readings arrive; whatever else it publishes is refused and absent."""
    devices = [enrol(security, "tent-1"), enrol(security, "tent-2")]
    with hub(broker) as listener:
        assert listener.subscribe("#") < REFUSED
        for device, other in (devices, devices[::-1]):
            for topic in (
                up(other.device_id),
                up(device.device_id, "hello"),
                down(device.device_id),
                down(other.device_id),
                "homeassistant/sensor/x/config",
                f"{PREFIX}/v1/{device.device_id}/up",
                CONTROL,
            ):
                with connect(broker, device) as connection:
                    assert connection.publish(topic, b"forbidden") == NOT_AUTHORIZED, topic
            with connect(broker, device) as connection:
                assert connection.publish(up(device.device_id), b"own") == 0
                assert connection.publish(up(device.device_id, "status"), b"marker") == 0
            assert until(listener, b"marker") == [(up(device.device_id), b"own")]


async def test_each_device_hears_only_its_own(broker: DynamicMosquittoBroker, security: DynamicSecurity) -> None:
    """A device is spoken to, and does not overhear the other however it asks."""
    first, second = enrol(security, "tent-1"), enrol(security, "tent-2")
    with hub(broker) as speaker, connect(broker, first) as device:
        for refused in (f"{PREFIX}/v1/tent-2/down/#", down("tent-2"), f"{PREFIX}/v1/+/down/#", "#", up("tent-2")):
            assert device.subscribe(refused) >= REFUSED, refused
        assert device.subscribe(f"{PREFIX}/v1/tent-1/down/#") < REFUSED
        assert speaker.publish(down(second.device_id), b"for the other") < REFUSED
        assert speaker.publish(down("tent-1", "session"), b"of a channel that it has not") < REFUSED
        assert speaker.publish(down("tent-1"), b"marker") < REFUSED
        assert until(device, b"marker") == []


async def test_client_id_cannot_be_stolen(broker: DynamicMosquittoBroker, security: DynamicSecurity) -> None:
    """Another device's client id is refused, and the session of its owner goes on."""
    first, second = enrol(security, "tent-1"), enrol(security, "tent-2")
    with connect(broker, first) as owner:
        thief = Connection(endpoint(broker), first.client_id, Login(second.username, second.password))
        with pytest.raises(RefusedError), thief:
            pass
        assert is_open(owner)
        assert owner.publish(up("tent-1"), b"still here") < REFUSED


async def test_accounts_that_the_broker_began_with(broker: DynamicMosquittoBroker, security: DynamicSecurity) -> None:
    """The hub and the extra account may do everything, but for the control topics; the administrator nothing else."""
    assert security.fetch().accounts.keys() == {ADMIN, HOME_ASSISTANT, "extra"}
    with hub(broker) as listener, Connection(endpoint(broker), "extra", login(broker, "extra")) as extra:
        assert listener.subscribe("#") < REFUSED
        assert extra.publish("anything", b"marker") == 0
        assert until(listener, b"marker") == []
    with Connection(endpoint(broker), "x", login(broker, ADMIN)) as admin:
        assert admin.subscribe("#") >= REFUSED
        assert admin.publish("anything", b"") == NOT_AUTHORIZED
    commands = [{"command": "listClients"}, {"command": "listRoles"}]
    try:
        refused = DynamicSecurity(endpoint(broker), login(broker, HOME_ASSISTANT)).execute(commands)
    except RefusedError:
        # Mosquitto 2.1 does not let it ask for the answers either.
        return
    assert [(answer.outcome, answer.error) for answer in refused] == [
        (Outcome.FAILED, NOT_ALLOWED),
        (Outcome.FAILED, NOT_SENT),
    ]


# What kicks


@pytest.mark.parametrize(
    ("change", "comes_back"),
    [
        pytest.param(lambda who: [password_changed(who, "another")], False, id="password"),
        pytest.param(lambda who: [accounts.disable(who.username)], False, id="disabled"),
        pytest.param(accounts.suspend, False, id="suspended"),
        pytest.param(lambda who: [accounts.remove(who.username)], False, id="removed"),
        pytest.param(lambda who: accounts.replace_role(role(who.device_id, "status")), True, id="rules"),
        pytest.param(
            lambda who: [{"command": "setClientId", "username": who.username, "clientid": "x"}], False, id="client id"
        ),
        pytest.param(lambda who: [accounts.unlink(who.username, accounts.role_name("tent-1"))], True, id="unlinked"),
    ],
)
async def test_change_kicks(
    broker: DynamicMosquittoBroker,
    security: DynamicSecurity,
    change: Callable[[Account], Sequence[Command]],
    comes_back: bool,
    measured: Callable[[str], None],
) -> None:
    """A live session ends within a second, and only who may still come in comes back."""
    device = enrol(security, "tent-1")
    with connect(broker, device) as connection:
        assert connection.publish(up("tent-1"), b"own") < REFUSED
        assert is_open(connection)
        began = monotonic()
        assert overall(security.execute(change(device))) is Outcome.DONE
        with pytest.raises(ClosedError):
            connection.receive(KICKED_WITHIN)
        assert monotonic() - began < KICKED_WITHIN
        measured(f"kicked after {1000 * (monotonic() - began):.0f} ms, with the connection of the administrator")
    if comes_back:
        with connect(broker, device) as connection:
            assert connection.publish(up("tent-1"), b"not any more") == NOT_AUTHORIZED
    else:
        with pytest.raises(RefusedError), connect(broker, device):
            pass


async def test_second_account_kicks_nobody(broker: DynamicMosquittoBroker, security: DynamicSecurity) -> None:
    """A new password beside the old one leaves the live session alone, and both work."""
    first, second = enrol(security, "tent-1"), account("tent-1", "k2")
    with connect(broker, first) as connection:
        provision(security, role("tent-1"), second)
        with connect(broker, second) as other:
            assert other.publish(up("tent-1"), b"new") < REFUSED
        assert connection.publish(up("tent-1"), b"old") < REFUSED
        provision(security, role("tent-1", "status"))
        with pytest.raises(ClosedError):
            connection.receive(KICKED_WITHIN)


async def test_account_of_somebody_else_is_not_touched(
    broker: DynamicMosquittoBroker, security: DynamicSecurity
) -> None:
    """A device that is called as the hub does not get the hub's account, and the hub keeps it."""
    mine = Account(username=HOME_ASSISTANT, device_id=HOME_ASSISTANT, client_id="c", password="p")
    answers = security.execute(created(mine))
    assert [answer.outcome for answer in answers] == [Outcome.DONE, Outcome.FAILED, Outcome.FAILED]
    assert answers[1].error.endswith("already exists")
    assert answers[2].error == NOT_SENT
    assert [drift.kind for drift in drifts(security, [mine], [role(HOME_ASSISTANT)])] == [DriftKind.NAME_TAKEN]
    with hub(broker) as connection:
        assert connection.subscribe("#") < REFUSED


async def test_queued_command_dies_with_its_device(broker: DynamicMosquittoBroker, security: DynamicSecurity) -> None:
    """What waited for a removed device is not handed to the one that comes after it under the same client id."""
    devices = [enrol(security, "tent-1"), enrol(security, "tent-2")]
    for device in devices:
        with connect(broker, device, Protocol.V311, clean=False) as connection:
            assert connection.subscribe(down(device.device_id)) < REFUSED
    with hub(broker) as speaker:
        for device in devices:
            assert speaker.publish(down(device.device_id), b"queued") == 0
    removed, kept = devices
    assert overall(security.revoke("tent-1", [removed.username])) is Outcome.DONE
    provision(security, role("tent-1"), removed)
    for device, waiting in ((kept, [(down("tent-2"), b"queued")]), (removed, [])):
        with connect(broker, device, Protocol.V311, clean=False) as connection, hub(broker) as speaker:
            assert connection.subscribe(down(device.device_id)) < REFUSED
            assert speaker.publish(down(device.device_id), b"marker") == 0
            assert until(connection, b"marker") == waiting


async def test_revoked_device_is_gone(broker: DynamicMosquittoBroker, security: DynamicSecurity) -> None:
    """Accounts and role are deleted, out of a group, too; revoking again is done again."""
    device, certificate = enrol(security, "tent-1"), Account(username="tent-1", device_id="tent-1", client_id="tent-1")
    provision(security, role("tent-1"), certificate)
    in_a_group: list[Command] = [
        {"command": "createGroup", "groupname": GROUP, "roles": [{"rolename": role("tent-1").name}]},
        {"command": "addGroupClient", "groupname": GROUP, "username": device.username},
    ]
    assert overall(security.execute(in_a_group)) is Outcome.DONE
    for _ in range(2):
        answers = security.revoke("tent-1", [device.username, "tent-1"], [device.client_id])
        assert overall(answers) is Outcome.DONE
        found = security.fetch()
        assert found.accounts.keys() == {ADMIN, HOME_ASSISTANT, "extra"}
        assert not [name for name in found.roles if name.startswith(accounts.ROLE_PREFIX)]
    with pytest.raises(RefusedError), connect(broker, device):
        pass


async def test_retained_messages_are_cleared(broker: DynamicMosquittoBroker, security: DynamicSecurity) -> None:
    """What a device left retained is cleared by who may publish there, which the administrator may not."""
    device = enrol(security, "tent-1")
    with connect(broker, device) as connection:
        assert connection.publish(up("tent-1"), b"left", retain=True) < REFUSED
    assert clear_retained(endpoint(broker), login(broker, ADMIN), [up("tent-1")]) == {up("tent-1"): Outcome.FAILED}
    for left in ([(up("tent-1"), b"left")], []):
        with hub(broker) as connection:
            assert connection.subscribe(up("tent-1")) < REFUSED
            assert connection.publish(up("tent-1"), b"marker") < REFUSED
            assert until(connection, b"marker") == left
        topics = [up("tent-1"), up("tent-1", "status")]
        cleared = clear_retained(endpoint(broker), login(broker, HOME_ASSISTANT), topics)
        assert cleared == dict.fromkeys(topics, Outcome.DONE)


async def test_queue_outlives_the_broker(stack_folder: Path, certificates: Certificates) -> None:
    """With persistence, what is queued for a device outlives a restart; what was queued for a removed one does not."""
    async with DynamicMosquittoBroker(stack_folder / "persistent", certificates, persistence=True) as broker:
        security = DynamicSecurity(endpoint(broker), login(broker, ADMIN))
        devices = [enrol(security, "tent-1"), enrol(security, "tent-2")]
        for device in devices:
            with connect(broker, device, Protocol.V311, clean=False) as connection:
                assert connection.subscribe(down(device.device_id)) < REFUSED
            with hub(broker) as speaker:
                assert speaker.publish(down(device.device_id), b"queued") == 0
        assert overall(security.revoke("tent-1", ["tent-1.k1"])) is Outcome.DONE
        await broker.stop()
        await broker.start()
        provision(security, role("tent-1"), devices[0])
        for device, waiting in zip(devices, ([], [(down("tent-2"), b"queued")]), strict=True):
            with connect(broker, device, Protocol.V311, clean=False) as connection, hub(broker) as speaker:
                assert connection.subscribe(down(device.device_id)) < REFUSED
                assert speaker.publish(down(device.device_id), b"marker") == 0
                assert until(connection, b"marker") == waiting


# Certificates


def _by_certificate(broker: MosquittoBroker, certificates: Certificates, folder: Path, who: Account) -> Connection:
    """Return the connection of a device with a certificate in its name, and no password."""
    authority = x509.load_pem_x509_certificate(certificates.ca.read_bytes())
    signer = load_pem_private_key(certificates.ca.with_suffix(".key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who.username)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .sign(signer, hashes.SHA256())
    )
    chain = folder / f"{who.username}.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    context = broker.client_context()
    context.load_cert_chain(chain)
    return Connection(Endpoint(broker.host, broker.port, context), who.client_id)


async def test_certificate_is_worth_what_its_account_is(
    stack_folder: Path, certificates: Certificates, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    """A certificate opens what its account may do, until the account is suspended; `disable` alone may not end it."""
    if DynamicMosquittoBroker.find_plugin() is None:
        pytest.skip("mosquitto's dynamic security plugin is not installed")
    settings = [f"cafile {certificates.ca}", "require_certificate true", "use_identity_as_username true"]
    device = Account(username="tent-1", device_id="tent-1", client_id="tent-1.c")
    admin = Account(username=ADMIN, device_id=ADMIN, client_id=ADMIN)
    async with DynamicMosquittoBroker(stack_folder / "mtls", certificates, settings=settings) as broker:
        with _by_certificate(broker, certificates, tmp_path, admin):
            context = broker.client_context()
            context.load_cert_chain(tmp_path / "admin.pem")
        security = DynamicSecurity(Endpoint(broker.host, broker.port, context), login(broker, ADMIN))
        provision(security, role("tent-1"), device)

        def may_publish() -> bool:
            try:
                with _by_certificate(broker, certificates, tmp_path, device) as connection:
                    return connection.publish(up("tent-1"), b"own") < REFUSED
            except RefusedError:
                return False

        assert may_publish()
        assert overall(security.execute([accounts.disable("tent-1")])) is Outcome.DONE
        measured(f"a certificate of a disabled account {'still publishes' if may_publish() else 'is refused'}")
        assert overall(security.execute([accounts.enable("tent-1"), *accounts.suspend(device)])) is Outcome.DONE
        assert not may_publish()
        provision(security, role("tent-1"), device)
        assert may_publish()
        assert overall(security.revoke("tent-1", ["tent-1"])) is Outcome.DONE
        assert not may_publish()


async def test_certificate_is_bound_to_its_own_client_id(
    stack_folder: Path, certificates: Certificates, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    """With `use_username_as_clientid` a certificate throws out nobody else, revoked or not; without it, who knows."""
    if DynamicMosquittoBroker.find_plugin() is None:
        pytest.skip("mosquitto's dynamic security plugin is not installed")
    settings = [f"cafile {certificates.ca}", "require_certificate true", "use_identity_as_username true"]
    devices = [Account(username=name, device_id=name, client_id=name) for name in ("tent-1", "tent-2")]
    thief = replace(devices[0], client_id="tent-2")
    for bound in (False, True):
        more = ["use_username_as_clientid true"] if bound else []
        folder = stack_folder / f"bound-{bound}"
        async with DynamicMosquittoBroker(folder, certificates, settings=[*settings, *more]) as broker:
            admin = Account(username=ADMIN, device_id=ADMIN, client_id=ADMIN)
            with _by_certificate(broker, certificates, tmp_path, admin):
                context = broker.client_context()
                context.load_cert_chain(tmp_path / "admin.pem")
            security = DynamicSecurity(Endpoint(broker.host, broker.port, context), login(broker, ADMIN))
            for device in devices:
                provision(security, role(device.device_id), device)

            def stays_open(broker: DynamicMosquittoBroker = broker) -> bool:
                with _by_certificate(broker, certificates, tmp_path, devices[1]) as victim:
                    with suppress(BrokerError), _by_certificate(broker, certificates, tmp_path, thief):
                        pass
                    return is_open(victim)

            before = stays_open()
            assert overall(security.revoke("tent-1", ["tent-1"])) is Outcome.DONE
            after = stays_open()
        if bound:
            assert (before, after) == (True, True)
        measured(f"client ids bound to certificates: {bound}; nobody is thrown out: {before}, by who is gone: {after}")


# Without the plugin


class FilesMosquittoBroker(MosquittoBroker):
    """Run Mosquitto with a password file and an access list as the gateway writes them."""

    name = "files-mosquitto"
    devices = (account("tent-1"), account("tent-2"), replace(account("tent-3"), enabled=False))

    @override
    def _write_files(self) -> None:
        super()._write_files()
        passwords, rules = self.folder / "passwords", self.folder / "acl"
        owner = self.accounts[HOME_ASSISTANT]
        names = {owner.username: owner.password}
        names |= {each.username: each.password for each in self.devices if each.enabled and each.password}
        lines = [password_line(name, password) for name, password in names.items()]
        passwords.write_text("".join(lines), encoding="utf-8")
        roles = [role(device.device_id) for device in self.devices]
        rules.write_text(
            acl_file(PREFIX, roles, HOME_ASSISTANT, accounts=self.devices, hub_topics=()), encoding="utf-8"
        )
        rules.chmod(0o600)
        with self._settings.open("a", encoding="utf-8") as settings:
            settings.write(f"acl_file {rules}\n")


async def test_files_are_enforced(stack_folder: Path, certificates: Certificates) -> None:
    """Mosquitto enforces the files: the own topic arrives, a foreign one is refused and absent, in both directions."""
    if MosquittoBroker.find() is None:
        pytest.skip("mosquitto is not installed")
    async with FilesMosquittoBroker(stack_folder / "files", certificates) as broker:
        first, second, shut = broker.devices
        for stranger in (shut, replace(first, password="wrong")):
            with pytest.raises(RefusedError), connect(broker, stranger):
                pass
        with hub(broker) as listener:
            assert listener.subscribe(f"{PREFIX}/v1/+/up/+") < REFUSED
            for topic in (up("tent-2"), up("tent-1", "hello"), down("tent-1"), "homeassistant/x"):
                with connect(broker, first) as device:
                    assert device.publish(topic, b"forbidden") == NOT_AUTHORIZED, topic
            with connect(broker, first) as device:
                assert device.publish(up("tent-1"), b"own") == 0
                assert device.publish(up("tent-1", "status"), b"marker") == 0
            assert until(listener, b"marker") == [(up("tent-1"), b"own")]
        with hub(broker) as speaker, connect(broker, second) as device:
            assert device.subscribe("#") < REFUSED
            assert speaker.publish(down("tent-1"), b"for the other") < REFUSED
            assert speaker.publish(down("tent-2"), b"marker") < REFUSED
            assert until(device, b"marker") == []
        with hub(broker) as speaker:
            assert speaker.publish("homeassistant/x", b"") == NOT_AUTHORIZED


# What goes wrong


class Pausing(list[Command]):
    """Commands of which the second is not handed out before somebody allows it."""

    def __init__(self, commands: Sequence[Command]) -> None:
        super().__init__(commands)
        self.reached = threading.Event()
        self.go_on = threading.Event()

    @override
    def __iter__(self) -> Iterator[Command]:
        for number, command in enumerate(super().__iter__()):
            if number == 1:
                self.reached.set()
                assert self.go_on.wait(20)
            yield command


async def test_restart_between_two_commands(broker: DynamicMosquittoBroker, security: DynamicSecurity) -> None:
    """The command that meets a dead connection is unknown, the rest not sent; what is missing is then made."""
    device = account("tent-1")
    commands = Pausing(created(device))
    running = asyncio.create_task(asyncio.to_thread(security.execute, commands))
    assert await asyncio.to_thread(commands.reached.wait, 20)
    await broker.kill()
    await broker.start()
    commands.go_on.set()
    answers = await running
    assert [answer.outcome for answer in answers] == [Outcome.DONE, Outcome.UNKNOWN, Outcome.FAILED]
    assert answers[2].error == NOT_SENT
    missing = [drift.kind for drift in drifts(security, [device], [role("tent-1")])]
    assert missing == [DriftKind.MISSING_ACCOUNT]
    repair(security, [device], [role("tent-1")])
    with connect(broker, device) as connection:
        assert connection.publish(up("tent-1"), b"own") < REFUSED


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "late"])
async def test_command_on_its_way(broker: DynamicMosquittoBroker, security: DynamicSecurity, killed: bool) -> None:
    """A command that the broker has and does not answer is unknown, whether it dies of it or comes to it later."""
    device = account("tent-1")
    hasty = DynamicSecurity(endpoint(broker), login(broker, ADMIN), timeout=1)
    commands = Pausing(created(device))
    running = asyncio.create_task(asyncio.to_thread(hasty.execute, commands))
    assert await asyncio.to_thread(commands.reached.wait, 20)
    os.kill(broker.process.pid, signal.SIGSTOP)
    try:
        commands.go_on.set()
        answers = await running
        assert [answer.outcome for answer in answers] == [Outcome.DONE, Outcome.UNKNOWN, Outcome.FAILED]
        if killed:
            await broker.kill()
            await broker.start()
    finally:
        if not killed:
            os.kill(broker.process.pid, signal.SIGCONT)
    kinds = [drift.kind for drift in drifts(security, [device], [role("tent-1")])]
    assert kinds == [DriftKind.MISSING_ACCOUNT if killed else DriftKind.NOT_LINKED]
    repair(security, [device], [role("tent-1")])
    with connect(broker, device) as connection:
        assert connection.publish(up("tent-1"), b"own") < REFUSED


class Impostor:
    """Answer one administrator as a broker would, with what a test makes of the correlation data of a command."""

    def __init__(self, answers: Callable[[str], Sequence[tuple[str, bytes]]]) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint("127.0.0.1", self._listener.getsockname()[1], protocol=Protocol.V311)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with self._listener, self._listener.accept()[0] as client, client.makefile("rwb") as stream:
            while head := stream.read(1):
                length = shift = 0
                while True:
                    byte = stream.read(1)[0]
                    length, shift = length | (byte & 0x7F) << shift, shift + 7
                    if byte < 0x80:
                        break
                stream.write(self._answer(head[0] >> 4, stream.read(length)))
                stream.flush()

    def _answer(self, kind: int, body: bytes) -> bytes:
        match kind:
            case 1:  # CONNECT
                return b"\x20\x02\x00\x00"
            case 8:  # SUBSCRIBE
                return b"\x90\x03" + body[:2] + b"\x01"
            case 3:  # PUBLISH, with QoS 1
                end = 2 + int.from_bytes(body[:2])
                correlation = json.loads(body[end + 2 :])["commands"][0]["correlationData"]
                said = (_published(topic, payload) for topic, payload in self._answers(correlation))
                return b"\x40\x02" + body[end : end + 2] + b"".join(said)
            case _:
                return b""


def _published(topic: str, payload: bytes) -> bytes:
    body = len(topic).to_bytes(2) + topic.encode() + payload
    length = bytes([len(body) & 0x7F | 0x80, len(body) >> 7])
    return b"\x30" + length + body


def _said(correlation: str, command: str = "deleteClient", **more: Any) -> dict[str, Any]:
    return {"command": command, "correlationData": correlation, **more}


def _responses(*responses: Any) -> tuple[str, bytes]:
    return RESPONSES, json.dumps({"responses": responses}).encode()


FOREIGN = "0" * 32


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        pytest.param(lambda own: [_responses(_said(own))], Outcome.DONE, id="own"),
        pytest.param(lambda own: [_responses(_said(own, error="Client not found"))], Outcome.FAILED, id="own error"),
        pytest.param(lambda own: [_responses(_said(own, error=None))], Outcome.FAILED, id="unreadable error"),
        pytest.param(lambda _: [_responses(_said(FOREIGN))], Outcome.UNKNOWN, id="foreign"),
        pytest.param(
            lambda own: [_responses(_said(FOREIGN)), _responses(_said(own, error="No"))],
            Outcome.FAILED,
            id="foreign first",
        ),
        pytest.param(
            lambda own: [_responses(_said(FOREIGN), _said(own, error="No"))], Outcome.FAILED, id="both in one"
        ),
        pytest.param(lambda own: [_responses(_said(own, "listClients"))], Outcome.UNKNOWN, id="another command"),
        pytest.param(lambda own: [_responses(_said(own), _said(own, error="No"))], Outcome.UNKNOWN, id="contradiction"),
        pytest.param(lambda own: [(CONTROL, _responses(_said(own))[1])], Outcome.UNKNOWN, id="another topic"),
        pytest.param(lambda own: [(RESPONSES, own.encode())], Outcome.UNKNOWN, id="no JSON"),
        pytest.param(lambda _: [(RESPONSES, b"[" * 10000)], Outcome.UNKNOWN, id="deep"),
        pytest.param(lambda own: [_responses(own)], Outcome.UNKNOWN, id="text"),
        pytest.param(lambda _: [(RESPONSES, b"\xff")], Outcome.UNKNOWN, id="no UTF-8"),
        pytest.param(lambda _: [], Outcome.UNKNOWN, id="nothing"),
    ],
)
async def test_only_the_own_answer_counts(
    answers: Callable[[str], Sequence[tuple[str, bytes]]], outcome: Outcome
) -> None:
    """A command is done when its own answer says so, and not for what anybody else was told."""
    security = DynamicSecurity(Impostor(answers).endpoint, Login(ADMIN, "secret"), timeout=0.5)
    (answer,) = await asyncio.to_thread(security.execute, [accounts.remove("tent-1")])
    assert answer.outcome is outcome


async def test_broker_without_the_plugin(mosquitto: MosquittoBroker) -> None:
    """A broker without the plugin answers nothing, which is not taken for success."""
    security = DynamicSecurity(endpoint(mosquitto), login(mosquitto, HOME_ASSISTANT), timeout=1)
    answers = security.execute(created(account("tent-1")))
    assert [answer.outcome for answer in answers] == [Outcome.UNKNOWN, Outcome.FAILED, Outcome.FAILED]
    assert {answer.error for answer in answers[1:]} == {NOT_SENT}
    with pytest.raises(BrokerError, match="does not list"):
        security.fetch()


async def test_nothing_sent_is_raised(broker: DynamicMosquittoBroker, security: DynamicSecurity) -> None:
    """Whoever could not even connect, or would not hear the answer, is told that nothing happened; no secret is."""
    device = enrol(security, "tent-1")
    commands = [password_changed(device, "changed")]
    wrong = DynamicSecurity(endpoint(broker), Login(ADMIN, "wrong password"))
    with pytest.raises(RefusedError) as refused:
        wrong.execute(commands)
    assert "wrong password" not in str(refused.value) + repr(refused.value) + repr(vars(wrong))
    # A device is bound to its client id, which the driver does not use.
    with pytest.raises(RefusedError):
        DynamicSecurity(endpoint(broker), Login(device.username, device.password)).execute(commands)
    nowhere = Endpoint(broker.host, 1, broker.client_context())
    with pytest.raises(UnreachableError):
        DynamicSecurity(nowhere, login(broker, ADMIN)).execute(commands)
    with connect(broker, device) as connection:
        assert is_open(connection)


async def test_reader_of_nothing_is_refused(broker: DynamicMosquittoBroker, security: DynamicSecurity) -> None:
    """An account that may not hear the answers sends no command."""
    made: list[Command] = [{"command": "createClient", "username": "mute", "password": "p"}]
    assert overall(security.execute(made)) is Outcome.DONE
    with pytest.raises(BrokerError, match="may not administer"):
        DynamicSecurity(endpoint(broker), Login("mute", "p")).execute(made)
    assert overall(security.execute([accounts.remove("mute")])) is Outcome.DONE


async def test_no_password_is_written_down(broker: DynamicMosquittoBroker, security: DynamicSecurity) -> None:
    """Neither the answers nor the broker's log and files hold a password."""
    device = account("tent-1")
    answers = security.execute([*created(device), password_changed(device, new := secrets.token_urlsafe(24))])
    assert overall(answers) is Outcome.DONE
    written = "".join(path.read_text(encoding="utf-8") for path in broker.folder.iterdir() if path.is_file())
    assert device.username in written
    for password in (device.password, new, broker.accounts[ADMIN].password):
        assert password is not None
        assert password not in written
        assert password not in repr(answers) + repr(security.fetch())
    assert broker.security.stat().st_mode & 0o077 == 0


# What differs

UNLINKED = accounts.unlink("tent-1.k1", "grokmon-tent-1")
FOREIGN_RULE = {"acltype": "publishClientSend", "topic": "#", "priority": 0, "allow": True}


@pytest.mark.parametrize(
    ("enabled", "disturbed", "kinds"),
    [
        (True, [accounts.delete_role("grokmon-tent-1")], [DriftKind.MISSING_ROLE, DriftKind.NOT_LINKED]),
        (
            True,
            [{"command": "addRoleACL", "rolename": "grokmon-tent-1", **FOREIGN_RULE}],
            [DriftKind.OTHER_ACLS],
        ),
        (
            True,
            [{"command": "modifyRole", "rolename": "grokmon-tent-1", "acls": []}],
            [DriftKind.OTHER_ACLS],
        ),
        (
            True,
            [{"command": "createGroup", "groupname": GROUP, "roles": [{"rolename": "grokmon-tent-1"}]}],
            [DriftKind.ROLE_IN_GROUP],
        ),
        (True, [accounts.remove("tent-1.k1")], [DriftKind.MISSING_ACCOUNT]),
        (True, [accounts.link("tent-1.k1", "everything")], [DriftKind.FOREIGN_ROLE]),
        (
            True,
            [
                {"command": "createGroup", "groupname": GROUP},
                {"command": "addGroupClient", "groupname": GROUP, "username": "tent-1.k1"},
            ],
            [DriftKind.FOREIGN_GROUP],
        ),
        (
            True,
            [{"command": "setClientId", "username": "tent-1.k1", "clientid": "x"}],
            [DriftKind.OTHER_CLIENT_ID],
        ),
        (True, [UNLINKED], [DriftKind.NOT_LINKED]),
        (True, [accounts.disable("tent-1.k1")], [DriftKind.DISABLED]),
        (False, [], [DriftKind.OPEN_THOUGH_DISABLED]),
        (False, [accounts.disable("tent-1.k1")], [DriftKind.OPEN_THOUGH_DISABLED]),
        (False, [UNLINKED], [DriftKind.OPEN_THOUGH_DISABLED]),
        (
            True,
            created(account("tent-2")),
            [DriftKind.STRAY_ACCOUNT, DriftKind.STRAY_ROLE],
        ),
        (True, accounts.create_account(account("tent-1", "old")), [DriftKind.STRAY_ACCOUNT]),
        (True, created(account("tent-2"))[:2], [DriftKind.STRAY_ACCOUNT, DriftKind.STRAY_ROLE]),
        (True, [accounts.link("extra", "grokmon-tent-1")], [DriftKind.STRAY_ACCOUNT]),
    ],
)
async def test_drift_is_found_and_repaired(
    security: DynamicSecurity, enabled: bool, disturbed: Sequence[Command], kinds: list[DriftKind]
) -> None:
    """Whatever somebody changes is found, and repaired once; what is not ours stays."""
    made = enrol(security, "tent-1")
    assert overall(security.execute(disturbed)) is Outcome.DONE
    wanted = [replace(made, enabled=enabled)]
    assert [drift.kind for drift in drifts(security, wanted, [role("tent-1")])] == kinds
    repair(security, wanted, [role("tent-1")])
    found = security.fetch()
    assert found.accounts.keys() == {ADMIN, HOME_ASSISTANT, "extra", "tent-1.k1"}
    assert found.accounts["extra"].roles == ("everything",)
    assert found.accounts["tent-1.k1"].enabled is enabled
