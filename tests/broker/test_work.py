"""What is done at a real Mosquitto in one go: provision, repair, revoke, and see that it is so."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any
from unittest.mock import patch

import pytest

from custom_components.grokmon.broker.address import Address
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
from custom_components.grokmon.broker.dynamic_security import Answer, DynamicSecurity, Outcome
from custom_components.grokmon.broker.work import (
    Work,
    bring_in_step,
    confirm_revoked,
    find_strangers,
    retained_topics,
)
from custom_components.grokmon.gateway.broker_accounts import (
    Account,
    Command,
    Role,
    delete_role,
    enable,
    link,
    role_of,
    unlink,
)
from custom_components.grokmon.gateway.broker_drift import DriftKind
from tests.stack.brokers import ADMIN, HOME_ASSISTANT, DynamicMosquittoBroker
from tests.stack.connections import NOT_AUTHORIZED
from tests.stack.ports import LOOPBACK, free_port

pytestmark = pytest.mark.usefixtures("socket_enabled")

PREFIX = "grokmon"
FIRST = Account(username="tent-1.k1", device_id="tent-1", client_id="tent-1", password="one")
SECOND = Account(username="tent-2.k1", device_id="tent-2", client_id="tent-2", password="two")
SHUT = Account(username="tent-2.k1", device_id="tent-2", client_id="tent-2", password="two", enabled=False)
ROLES = [role_of(PREFIX, name, ("telemetry",), ("command",)) for name in ("tent-1", "tent-2")]
REVOKED_WITHIN = 5.0
WITHIN = 5.0


def endpoint(broker: DynamicMosquittoBroker, protocol: Protocol = Protocol.V5) -> Endpoint:
    """Return where a broker listens."""
    return Endpoint(broker.host, broker.port, broker.client_context(), protocol)


def login(broker: DynamicMosquittoBroker, name: str) -> Login:
    """Return the login of an account that the broker began with."""
    return Login(name, broker.accounts[name].password)


def work(
    broker: DynamicMosquittoBroker,
    accounts: Sequence[Account] = (FIRST, SECOND),
    roles: Sequence[Role] | None = None,
    **revoking: Sequence[str],
) -> Work:
    """Bring the broker in step; devices to be revoked are named with underscores."""
    named = {name.replace("_", "-"): names for name, names in revoking.items()}
    return bring_in_step(endpoint(broker), login(broker, ADMIN), accounts, ROLES if roles is None else roles, named)


def meddle(broker: DynamicMosquittoBroker, *commands: Command) -> None:
    """Change accounts as somebody else who may."""
    answers = DynamicSecurity(endpoint(broker), login(broker, ADMIN)).execute(commands)
    assert {answer.outcome for answer in answers} == {Outcome.DONE}


def connect(broker: DynamicMosquittoBroker, who: Account, protocol: Protocol = Protocol.V5, **how: Any) -> Connection:
    """Return a device's connection."""
    return Connection(endpoint(broker, protocol), who.client_id, Login(who.username, who.password), **how)


def hub(broker: DynamicMosquittoBroker) -> Connection:
    """Return Home Assistant's connection."""
    return Connection(endpoint(broker), "hub", login(broker, HOME_ASSISTANT))


def up(device_id: str) -> str:
    """Return a device's topic up."""
    return f"{PREFIX}/v1/{device_id}/up/telemetry"


def down(device_id: str) -> str:
    """Return a device's topic down."""
    return f"{PREFIX}/v1/{device_id}/down/command"


# In step


async def test_what_is_missing_is_made(broker: DynamicMosquittoBroker) -> None:
    """Accounts and roles are there after the first time, work, and nothing is left to do."""
    done = work(broker)
    assert (done.revoked, done.problem) == ((), None)
    assert {(drift.kind, drift.name) for drift in done.repaired} == {
        (DriftKind.MISSING_ROLE, "grokmon-tent-1"),
        (DriftKind.MISSING_ROLE, "grokmon-tent-2"),
        (DriftKind.MISSING_ACCOUNT, FIRST.username),
        (DriftKind.MISSING_ACCOUNT, SECOND.username),
    }
    assert work(broker) == Work()
    with connect(broker, FIRST) as device:
        assert device.publish(up("tent-1"), b"own") < REFUSED
        assert device.publish(up("tent-2"), b"another's") == NOT_AUTHORIZED
    with pytest.raises(RefusedError), Connection(endpoint(broker), "x", Login(FIRST.username, FIRST.password)):
        pass


async def test_strangers_are_found_until_they_are_denied(broker: DynamicMosquittoBroker) -> None:
    """An account that may publish everywhere is named, and kept out by the rule that the documents advise."""
    work(broker)
    who = endpoint(broker), login(broker, ADMIN), [up("tent-1")]
    assert find_strangers(*who) == (HOME_ASSISTANT, "other")
    with hub(broker) as there:
        assert there.publish(up("tent-1"), b"in its name") < REFUSED
    rule = {"acltype": "publishClientSend", "topic": f"{PREFIX}/v1/+/up/#", "priority": 10, "allow": False}
    meddle(broker, {"command": "addRoleACL", "rolename": "everything", **rule})
    assert find_strangers(*who) == ()
    with hub(broker) as there:
        assert there.publish(down("tent-1"), b"as ever") < REFUSED
        assert there.publish(up("tent-1"), b"in its name") == NOT_AUTHORIZED


async def test_strangers_by_the_default(broker: DynamicMosquittoBroker) -> None:
    """Where the broker allows what no rule is about, whoever is not denied is named, without any role, too."""
    work(broker)
    who = endpoint(broker), login(broker, ADMIN), [up("tent-1")]
    rule = {"acltype": "publishClientSend", "topic": f"{PREFIX}/v1/+/up/#", "priority": 10, "allow": False}
    nobody = {"command": "createClient", "username": "nobody", "password": "n"}
    meddle(broker, {"command": "addRoleACL", "rolename": "everything", **rule}, nobody)
    assert find_strangers(*who) == ()
    for allow, found in ((True, (ADMIN, "nobody")), (False, ())):
        default = {"acltype": "publishClientSend", "allow": allow}
        meddle(broker, {"command": "setDefaultACLAccess", "acls": [default]})
        assert find_strangers(*who) == found
        with Connection(endpoint(broker), "x", Login("nobody", "n")) as there:
            assert (there.publish(up("tent-1"), b"in its name") < REFUSED) is allow


@pytest.mark.parametrize(
    ("commands", "found"),
    [
        ([delete_role("grokmon-tent-1")], {DriftKind.MISSING_ROLE, DriftKind.NOT_LINKED}),
        ([link(FIRST.username, "everything")], {DriftKind.FOREIGN_ROLE}),
        ([enable(SHUT.username)], {DriftKind.OPEN_THOUGH_DISABLED}),
        ([{"command": "deleteClient", "username": FIRST.username}], {DriftKind.MISSING_ACCOUNT}),
        ([{"command": "disableClient", "username": FIRST.username}], {DriftKind.DISABLED}),
        ([unlink(FIRST.username, "grokmon-tent-1")], {DriftKind.NOT_LINKED}),
        ([{"command": "setClientId", "username": FIRST.username, "clientid": "x"}], {DriftKind.OTHER_CLIENT_ID}),
        (
            [
                {"command": "createGroup", "groupname": "people"},
                {"command": "addGroupRole", "groupname": "people", "rolename": "grokmon-tent-1"},
                {"command": "addGroupClient", "groupname": "people", "username": FIRST.username},
            ],
            {DriftKind.ROLE_IN_GROUP, DriftKind.FOREIGN_GROUP},
        ),
        ([link("other", "grokmon-tent-1")], {DriftKind.STRAY_ACCOUNT}),
        (
            [
                {
                    "command": "addRoleACL",
                    "rolename": "grokmon-tent-1",
                    "acltype": "publishClientSend",
                    "topic": "#",
                    "allow": True,
                    "priority": 0,
                }
            ],
            {DriftKind.OTHER_ACLS},
        ),
        ([{"command": "createRole", "rolename": "grokmon-tent-3", "acls": []}], {DriftKind.STRAY_ROLE}),
    ],
    ids=lambda value: next(iter(sorted(value))) if isinstance(value, set) else "",
)
async def test_drift_is_found_and_repaired(
    broker: DynamicMosquittoBroker, commands: Sequence[Command], found: set[DriftKind]
) -> None:
    """Whatever somebody changes is found, told, and as it was afterwards."""
    accounts = (FIRST, SHUT)
    assert work(broker, accounts).problem is None
    meddle(broker, *commands)
    done = work(broker, accounts)
    assert ({drift.kind for drift in done.repaired}, done.problem) == (found, None)
    assert work(broker, accounts) == Work()
    with connect(broker, FIRST) as device:
        assert device.publish(up("tent-1"), b"own") < REFUSED
        assert device.publish(up("tent-2"), b"another's") == NOT_AUTHORIZED
    with pytest.raises(RefusedError), connect(broker, SHUT):
        pass


async def test_nothing_is_wanted(broker: DynamicMosquittoBroker) -> None:
    """Where no account is wanted any more none of ours is left, and nobody else's is touched."""
    before = DynamicSecurity(endpoint(broker), login(broker, ADMIN)).fetch()
    work(broker)
    with connect(broker, FIRST) as device:
        assert bring_in_step(endpoint(broker), login(broker, ADMIN), (), (), {}).problem is None
        with pytest.raises(ClosedError):
            device.receive(5, lambda _: False)
    assert DynamicSecurity(endpoint(broker), login(broker, ADMIN)).fetch() == before


async def test_name_that_is_taken(broker: DynamicMosquittoBroker) -> None:
    """Somebody else's account stays as it is, a person is told, and the other devices get theirs."""
    meddle(broker, {"command": "createClient", "username": FIRST.username, "password": "theirs"})
    for _ in range(2):
        done = work(broker)
        assert done.problem == f"name_taken: {FIRST.username}"
    with Connection(endpoint(broker), "theirs", Login(FIRST.username, "theirs")) as theirs:
        assert theirs.publish(up("tent-1"), b"not theirs") == NOT_AUTHORIZED
    with connect(broker, SECOND) as device:
        assert device.publish(up("tent-2"), b"own") < REFUSED


async def test_wrong_administrator(broker: DynamicMosquittoBroker) -> None:
    """Nothing happens for who is not the administrator, and no password is in what is told."""
    wrong = Login(ADMIN, "wrong-password")
    with pytest.raises(RefusedError) as refused:
        bring_in_step(endpoint(broker), wrong, [FIRST], ROLES, {})
    assert "wrong-password" not in f"{refused.value!r} {wrong!r}"
    with pytest.raises(RefusedError), connect(broker, FIRST):
        pass


async def test_broker_is_away() -> None:
    """Nothing can be told of a broker that is not there."""
    nobody = Endpoint(LOOPBACK, free_port())
    with pytest.raises(UnreachableError):
        bring_in_step(nobody, Login(ADMIN, ""), [FIRST], ROLES, {"tent-2": ["tent-2.k1"]})


async def test_broker_goes_away_in_the_middle(broker: DynamicMosquittoBroker) -> None:
    """What was found is told though not all of it is repaired, and the next time does the rest."""
    execute, calls = DynamicSecurity.execute, 0

    def breaking(self: DynamicSecurity, commands: Sequence[Command], **more: Any) -> list[Answer]:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise UnreachableError("ConnectionRefusedError")
        return execute(self, commands, **more)

    with patch.object(DynamicSecurity, "execute", breaking):
        done = work(broker)
    assert len(done.repaired) == 4
    assert done.problem == "ConnectionRefusedError"
    rest = work(broker)
    assert len(rest.repaired) == 3
    assert rest.problem is None


async def test_broker_that_answers_no_more(broker: DynamicMosquittoBroker) -> None:
    """Whoever leaves one change without an answer is not asked for the next, and the next time does the rest."""
    asked: list[str] = []
    original: Callable[..., Answer] = DynamicSecurity._ask

    def ask(self: DynamicSecurity, connection: Connection, command: Command) -> Answer:
        if command["command"].startswith(("list", "get")):
            return original(self, connection, command)
        asked.append(command["command"])
        return Answer(command["command"], Outcome.UNKNOWN)

    with patch.object(DynamicSecurity, "_ask", ask):
        assert work(broker).problem == "not every account could be brought in step"
    assert asked == ["createRole"]
    assert work(broker).problem is None


async def test_repair_that_does_not_help(broker: DynamicMosquittoBroker) -> None:
    """What the broker has afterwards counts, not what it was told."""
    execute = DynamicSecurity.execute

    def idle(self: DynamicSecurity, commands: Sequence[Command], **more: Any) -> list[Answer]:
        reads = all(str(command["command"]).startswith(("list", "get")) for command in commands)
        return execute(self, commands, **more) if reads else [Answer("createRole", Outcome.DONE)]

    with patch.object(DynamicSecurity, "execute", idle):
        assert work(broker).problem == "not every account could be brought in step"


# Revoked


async def test_revoked_within_seconds(broker: DynamicMosquittoBroker) -> None:
    """The session ends, account, role and what is retained go, and nobody gets in; all of it in time."""
    work(broker)
    with hub(broker) as speaker:
        assert speaker.publish(up("tent-1"), b"kept", retain=True) < REFUSED
        assert speaker.publish(up("tent-2"), b"kept", retain=True) < REFUSED
    address = Address(endpoint(broker), login(broker, HOME_ASSISTANT))
    logins = [Login(FIRST.username, FIRST.password)]
    with connect(broker, FIRST) as device:
        began = monotonic()
        assert not confirm_revoked(address, PREFIX, "tent-1", logins), "it gets in as yet"
    with connect(broker, FIRST) as device:
        began = monotonic()
        done = work(broker, [SECOND], ROLES[1:], tent_1=[FIRST.username])
        with pytest.raises(ClosedError):
            device.receive(WITHIN)
        assert (done.revoked, done.problem) == (("tent-1",), None)
        assert confirm_revoked(address, PREFIX, "tent-1", logins)
        assert monotonic() - began < REVOKED_WITHIN
    assert retained_topics(address.endpoint, login(broker, HOME_ASSISTANT), "#") == [up("tent-2")]
    found = DynamicSecurity(endpoint(broker), login(broker, ADMIN)).fetch()
    assert FIRST.username not in found.accounts
    assert "grokmon-tent-1" not in found.roles
    assert work(broker, [SECOND], ROLES[1:], tent_1=[FIRST.username]).revoked == ("tent-1",), "twice is done twice"


async def test_queued_commands_die_with_the_device(broker: DynamicMosquittoBroker) -> None:
    """What waited for a revoked device is not handed to the next of its name."""
    work(broker)
    with connect(broker, FIRST, Protocol.V311, clean=False) as device:
        assert device.subscribe(down("tent-1")) < REFUSED
    with hub(broker) as speaker:
        assert speaker.publish(down("tent-1"), b"queued") < REFUSED
    again = Account(username="tent-1.k2", device_id="tent-1", client_id="tent-1", password="again")
    assert work(broker, [again], ROLES[:1], tent_1=[FIRST.username]).problem is None
    with connect(broker, again, Protocol.V311, clean=False) as device, hub(broker) as speaker:
        assert device.subscribe(down("tent-1")) < REFUSED
        assert speaker.publish(down("tent-1"), b"marker") < REFUSED
        message = device.receive(WITHIN)
        assert message is not None
        assert message.payload == b"marker"


async def test_revocation_that_is_not_known_to_be_done(broker: DynamicMosquittoBroker) -> None:
    """A lost answer is not taken for a yes."""
    work(broker)
    with patch.object(DynamicSecurity, "revoke", return_value=[Answer("deleteClient", Outcome.UNKNOWN)]):
        done = work(broker, [SECOND], ROLES[1:], tent_1=[FIRST.username])
    assert (done.revoked, done.problem) == ((), "not every account could be removed")


@pytest.mark.parametrize("protocol", list(Protocol), ids=["3.1.1", "5"])
@pytest.mark.parametrize("may_clear", [False, True])
async def test_retained_messages_that_stay(broker: DynamicMosquittoBroker, protocol: Protocol, may_clear: bool) -> None:
    """A hub that may not clear what is retained does not make it look as if it were gone."""
    reads: list[Command] = [
        {"acltype": kind, "topic": "grokmon/#", "allow": True, "priority": 0}
        for kind in ("subscribePattern", "publishClientReceive", *(["publishClientSend"] if may_clear else []))
    ]
    meddle(
        broker,
        {"command": "createRole", "rolename": "reader", "acls": reads},
        {"command": "createClient", "username": "narrow", "password": "n", "roles": [{"rolename": "reader"}]},
    )
    with hub(broker) as speaker:
        assert speaker.publish(up("tent-1"), b"kept", retain=True) < REFUSED
    address = Address(endpoint(broker, protocol), Login("narrow", "n"))
    assert confirm_revoked(address, PREFIX, "tent-1", ()) is may_clear
    left = retained_topics(endpoint(broker), login(broker, HOME_ASSISTANT), "#")
    assert left == ([] if may_clear else [up("tent-1")])


@pytest.mark.parametrize("protocol", list(Protocol), ids=["3.1.1", "5"])
async def test_retained_messages_that_cannot_be_seen(broker: DynamicMosquittoBroker, protocol: Protocol) -> None:
    """A hub that may subscribe no more than it needs does not take for gone what it is not shown."""
    needs: list[Command] = [
        {"acltype": kind, "topic": f"grokmon/v1/+/{way}/+", "allow": True, "priority": 0}
        for kind, way in (
            ("subscribePattern", "up"),
            ("publishClientReceive", "up"),
            ("publishClientSend", "down"),
        )
    ]
    meddle(
        broker,
        {"command": "createRole", "rolename": "needs", "acls": needs},
        {"command": "createClient", "username": "narrow", "password": "n", "roles": [{"rolename": "needs"}]},
    )
    with pytest.raises(BrokerError, match="may not see what is retained"):
        confirm_revoked(Address(endpoint(broker, protocol), Login("narrow", "n")), PREFIX, "tent-1", ())


async def test_without_an_account_of_the_hub(broker: DynamicMosquittoBroker) -> None:
    """Where the hub has no account only the old logins are tried."""
    address = Address(endpoint(broker), None)
    known = login(broker, "other")
    checks: list[tuple[tuple[Login, ...], bool]] = [((), True), ((Login("gone", "x"),), True), ((known,), False)]
    for logins, confirmed in checks:
        assert confirm_revoked(address, PREFIX, "tent-1", logins) is confirmed
    await broker.stop()
    with pytest.raises(UnreachableError):
        confirm_revoked(address, PREFIX, "tent-1", (known,))


async def test_what_arrives_just_now_is_not_retained(broker: DynamicMosquittoBroker) -> None:
    """Messages that are under way are told from those that the broker keeps."""
    original: Callable[..., int] = Connection.subscribe

    def subscribe(self: Connection, topic_filter: str) -> int:
        code = original(self, topic_filter)
        with hub(broker) as speaker:
            speaker.publish(up("tent-1"), b"live")
        return code

    with patch.object(Connection, "subscribe", subscribe):
        assert retained_topics(endpoint(broker), login(broker, "other"), "grokmon/#") == []
