"""Tests of accounts at the broker: the commands, what the broker is understood to have, and what differs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway import broker_accounts as accounts
from custom_components.grokmon.gateway.broker_accounts import (
    Account,
    Acl,
    AclType,
    Command,
    Drift,
    DriftKind,
    Found,
    FoundAccount,
    difference,
    parse_account,
    parse_found,
    parse_role,
    role_of,
)

ROLE = role_of("grokmon", "tent-1", ["telemetry", "ack"], ["command"])
OTHER = role_of("grokmon", "tent-2", ["telemetry"], [])
PASSWORD = "correct horse battery"
ACCOUNT = Account(username="tent-1.k1", device_id="tent-1", client_id="tent-1.k1", password=PASSWORD)
CERTIFICATE = Account(username="tent-1", device_id="tent-1", client_id="tent-1")
THERE = FoundAccount(
    username="tent-1.k1", client_id="tent-1.k1", label="grokmon-tent-1", enabled=True, roles=(ROLE.name,), groups=()
)
HUB = FoundAccount(username="hub", client_id="", label="", enabled=True, roles=("everything",), groups=("people",))
EVERYTHING = Acl(AclType.PUBLISH, "#")


def has(*found: FoundAccount, groups: dict[str, tuple[str, ...]] | None = None, **roles: Sequence[Acl]) -> Found:
    """Return a broker with the hub, these accounts, the device's role and more roles."""
    rules = {ROLE.name: ROLE.acls, "everything": (EVERYTHING,)} | {
        name.replace("_", "-"): rules for name, rules in roles.items()
    }
    return Found(
        accounts={account.username: account for account in (HUB, *found)},
        roles={name: frozenset(each) for name, each in rules.items()},
        groups=groups or {},
    )


def kinds(drifts: Sequence[Drift]) -> list[tuple[DriftKind, str, str]]:
    """Return what a test states of drifts."""
    return [(drift.kind, drift.name, drift.detail) for drift in drifts]


def repairs(drifts: Sequence[Drift]) -> list[Command]:
    """Return the commands that repair."""
    return [command for drift in drifts for command in drift.commands]


def test_role_holds_exactly_the_channels() -> None:
    """Allow the device's own topics, one by one, and its own wildcard down; nothing else."""
    assert set(ROLE.acls) == {
        Acl(AclType.PUBLISH, "grokmon/v1/tent-1/up/telemetry"),
        Acl(AclType.PUBLISH, "grokmon/v1/tent-1/up/ack"),
        Acl(AclType.SUBSCRIBE_LITERAL, "grokmon/v1/tent-1/down/command"),
        Acl(AclType.RECEIVE, "grokmon/v1/tent-1/down/command"),
        Acl(AclType.SUBSCRIBE_PATTERN, "grokmon/v1/tent-1/down/#"),
    }
    assert ROLE.publishes == ("grokmon/v1/tent-1/up/ack", "grokmon/v1/tent-1/up/telemetry")
    assert ROLE.receives == ("grokmon/v1/tent-1/down/command",)
    assert ROLE.name == accounts.role_name("tent-1") == "grokmon-tent-1"


@pytest.mark.parametrize(
    ("prefix", "device_id", "up", "down"),
    [
        ("grokmon/#", "tent-1", [], []),
        ("", "tent-1", [], []),
        ("grokmon", "+", [], []),
        ("grokmon", "tent-1/up/telemetry", [], []),
        ("grokmon", "Tent", [], []),
        ("grokmon", "tent-1", ["#"], []),
        ("grokmon", "tent-1", ["command"], []),
        ("grokmon", "tent-1", [], ["telemetry"]),
        ("grokmon", "tent-1", [], ["+"]),
    ],
)
def test_role_of_nonsense(prefix: str, device_id: str, up: list[str], down: list[str]) -> None:
    """Refuse whatever could grant more than a device's own channels."""
    with pytest.raises(ValueError, match=r"not a|is not a valid"):
        role_of(prefix, device_id, up, down)


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "tent-2"},
        {"username": "tent-1.a.b"},
        {"username": "tent-1."},
        {"username": "tent-1.k1:x"},
        {"username": "tent-1\n"},
        {"client_id": ""},
        {"client_id": "a/b"},
        {"client_id": "a\n"},
        {"password": ""},
    ],
)
def test_account_of_nonsense(fields: dict[str, Any]) -> None:
    """Refuse names that are not the device's, or that a broker could misread, without telling the password."""
    with pytest.raises(ValueError, match=r"user name|client id|password is empty") as refusal:
        replace(ACCOUNT, **fields)
    assert PASSWORD not in str(refusal.value)


@pytest.mark.parametrize(
    ("username", "device_id"),
    [("tent-1", "tent-1"), ("tent-1.K_-1", "tent-1"), ("admin", "admin"), (".k1", None), ("Tent", None), ("", None)],
)
def test_device_of_a_user_name(username: str, device_id: str | None) -> None:
    """Tell whose user name it is."""
    assert accounts.device_of(username) == device_id


def test_first_account_of_a_device() -> None:
    """Make the role, then the account, then link them by a command of its own."""
    role, client, link = accounts.create(ACCOUNT, ROLE)
    assert (role["command"], role["rolename"], len(role["acls"])) == ("createRole", "grokmon-tent-1", 5)
    assert role["acls"][0] == {
        "acltype": "publishClientReceive",
        "topic": "grokmon/v1/tent-1/down/command",
        "priority": 0,
        "allow": True,
    }
    assert client == {
        "command": "createClient",
        "username": "tent-1.k1",
        "password": PASSWORD,
        "clientid": "tent-1.k1",
        "textname": "grokmon-tent-1",
    }
    assert link == {"command": "addClientRole", "username": "tent-1.k1", "rolename": "grokmon-tent-1"}


def test_certificate_account_gets_a_password_nobody_knows() -> None:
    """Give an account without a password a random one, another each time."""
    first, second = (accounts.create_account(CERTIFICATE)[0]["password"] for _ in range(2))
    assert len(first) >= 43
    assert first != second


def test_disabled_account_is_made_shut() -> None:
    """Do not link an account that is disabled: its certificate would be let in."""
    made = accounts.create_account(replace(CERTIFICATE, enabled=False))
    assert [command["command"] for command in made] == ["createClient", "disableClient"]
    assert made[1] == accounts.disable("tent-1")


def test_rules_are_replaced_so_that_it_kicks() -> None:
    """Set all rules but one, then add that one, which is what kicks; both together are the role."""
    modify, add = accounts.replace_role(ROLE)
    assert (modify["command"], add["command"]) == ("modifyRole", "addRoleACL")
    assert modify["rolename"] == add["rolename"] == ROLE.name
    last = {key: value for key, value in add.items() if key not in {"command", "rolename"}}
    assert [*modify["acls"], last] == [acl.fields for acl in ROLE.acls]


def test_single_commands() -> None:
    """State the fields of what is one command."""
    assert accounts.remove("a") == {"command": "deleteClient", "username": "a"}
    assert accounts.disable("a") == {"command": "disableClient", "username": "a"}
    assert accounts.enable("a") == {"command": "enableClient", "username": "a"}
    assert accounts.set_password("a", "b") == {"command": "setClientPassword", "username": "a", "password": "b"}
    assert accounts.delete_role("r") == {"command": "deleteRole", "rolename": "r"}
    unlink = {"command": "removeClientRole", "username": "tent-1", "rolename": ROLE.name}
    assert accounts.suspend(CERTIFICATE) == (unlink, accounts.disable("tent-1"))
    assert accounts.resume(CERTIFICATE) == (accounts.link("tent-1", ROLE.name), accounts.enable("tent-1"))


def test_no_password_is_shown() -> None:
    """Keep passwords out of what is printed."""
    (drift,) = difference([ACCOUNT], [ROLE], has())
    assert any(command.get("password") == PASSWORD for command in drift.commands)
    assert PASSWORD not in repr(ACCOUNT) + repr(drift) + str(drift)


CLIENTS: dict[str, Any] = {
    "totalCount": 2,
    "clients": [
        {
            "username": "tent-1.k1",
            "clientid": "tent-1.k1",
            "textname": "grokmon-tent-1",
            "roles": [{"rolename": "grokmon-tent-1"}],
            "groups": [],
            "connections": [{"address": "127.0.0.1"}],
        },
        {
            "username": "b",
            "disabled": True,
            "roles": [{"rolename": "r", "priority": 1}],
            "groups": [{"groupname": "g"}],
        },
    ],
}
ROLES: dict[str, Any] = {
    "totalCount": 1,
    "roles": [
        {"rolename": "r", "acls": [{"acltype": "publishClientSend", "topic": "#", "priority": 2, "allow": False}]}
    ],
}
GROUPS: dict[str, Any] = {
    "totalCount": 1,
    "groups": [{"groupname": "g", "roles": [{"rolename": "r"}], "clients": [{"username": "b"}]}],
}


def test_what_the_broker_has() -> None:
    """Read the three lists as Mosquitto writes them, with and without what 2.1 adds."""
    found = parse_found(CLIENTS, ROLES, GROUPS)
    assert found.accounts["tent-1.k1"] == replace(THERE, connected=True)
    assert found.accounts["b"] == FoundAccount(
        username="b", client_id="", label="", enabled=False, roles=("r",), groups=("g",), connected=None
    )
    assert found.roles == {"r": {Acl(AclType.PUBLISH, "#", allow=False, priority=2)}}
    assert found.groups == {"g": ("r",)}
    assert parse_account({**CLIENTS["clients"][0], "connections": []}).connected is False


@pytest.mark.parametrize(
    ("clients", "roles", "groups"),
    [
        (None, ROLES, GROUPS),
        ([], ROLES, GROUPS),
        ({"totalCount": 3, "clients": CLIENTS["clients"]}, ROLES, GROUPS),
        ({"clients": CLIENTS["clients"]}, ROLES, GROUPS),
        ({"totalCount": True, "clients": CLIENTS["clients"][:1]}, ROLES, GROUPS),
        ({"totalCount": 1, "clients": ["tent-1"]}, ROLES, GROUPS),
        (CLIENTS, {"totalCount": 1, "roles": ["r"]}, GROUPS),
        (CLIENTS, {"totalCount": 0, "roles": {}}, GROUPS),
        (CLIENTS, ROLES, {"totalCount": 1, "groups": [{"groupname": "g"}]}),
    ],
)
def test_lists_of_another_form(clients: object, roles: object, groups: object) -> None:
    """Refuse a list that is cut, not verbose or something else, rather than repair what is not broken."""
    with pytest.raises(ValueError, match="the broker's"):
        parse_found(clients, roles, groups)


@pytest.mark.parametrize(
    "fields",
    [
        {"username": 1},
        {"username": None},
        {"clientid": 1},
        {"clientid": None},
        {"textname": []},
        {"disabled": 0},
        {"disabled": "false"},
        {"roles": None},
        {"roles": [{}]},
        {"groups": [None]},
        {"connections": 1},
        {"connections": None},
    ],
)
def test_account_of_another_form(fields: dict[str, Any]) -> None:
    """Refuse an account with a field of another type."""
    with pytest.raises(ValueError, match="the broker's answer"):
        parse_account({**CLIENTS["clients"][0], **fields})


@pytest.mark.parametrize(
    "fields", [{"acltype": "fly"}, {"acltype": 1}, {"topic": None}, {"allow": 1}, {"allow": None}, {"priority": True}]
)
def test_rule_of_another_form(fields: dict[str, Any]) -> None:
    """Refuse a rule with a field of another type, or of a kind that is not known."""
    rule = {"acltype": "publishClientSend", "topic": "#", "allow": True}
    assert parse_role({"rolename": "r", "acls": [rule]}) == ("r", frozenset({EVERYTHING}))
    with pytest.raises(ValueError, match=r"the broker's answer|not a valid"):
        parse_role({"rolename": "r", "acls": [{**rule, **fields}]})


def test_nothing_differs() -> None:
    """Find nothing where all is as wanted; what is not ours is not looked at."""
    shut = replace(THERE, username="tent-1", client_id="tent-1", enabled=False, roles=())
    assert difference([ACCOUNT, replace(CERTIFICATE, enabled=False)], [ROLE], has(THERE, shut)) == ()
    assert (
        difference([], [], Found(accounts={"hub": HUB}, roles={"everything": frozenset({EVERYTHING})}, groups={})) == ()
    )


@pytest.mark.parametrize(
    ("found", "drift", "repair"),
    [
        (has(), (DriftKind.MISSING_ACCOUNT, "tent-1.k1", ""), [*accounts.create_account(ACCOUNT)]),
        (
            has(THERE, grokmon_tent_1=ROLE.acls[1:]),
            (DriftKind.OTHER_ACLS, "grokmon-tent-1", ""),
            [*accounts.replace_role(ROLE)],
        ),
        (
            has(THERE, grokmon_tent_1=(*ROLE.acls, EVERYTHING)),
            (DriftKind.OTHER_ACLS, "grokmon-tent-1", ""),
            [*accounts.replace_role(ROLE)],
        ),
        (
            has(THERE, grokmon_tent_1=(replace(ROLE.acls[0], priority=5), *ROLE.acls[1:])),
            (DriftKind.OTHER_ACLS, "grokmon-tent-1", ""),
            [*accounts.replace_role(ROLE)],
        ),
        (
            has(replace(THERE, client_id="")),
            (DriftKind.OTHER_CLIENT_ID, "tent-1.k1", ""),
            [{"command": "setClientId", "username": "tent-1.k1", "clientid": "tent-1.k1"}],
        ),
        (
            has(replace(THERE, roles=())),
            (DriftKind.NOT_LINKED, "tent-1.k1", ""),
            [accounts.link("tent-1.k1", ROLE.name)],
        ),
        (has(replace(THERE, enabled=False)), (DriftKind.DISABLED, "tent-1.k1", ""), [accounts.enable("tent-1.k1")]),
        (
            has(replace(THERE, roles=(ROLE.name, "everything"))),
            (DriftKind.FOREIGN_ROLE, "tent-1.k1", "everything"),
            [accounts.unlink("tent-1.k1", "everything")],
        ),
        (
            has(replace(THERE, groups=("people",))),
            (DriftKind.FOREIGN_GROUP, "tent-1.k1", "people"),
            [{"command": "removeGroupClient", "groupname": "people", "username": "tent-1.k1"}],
        ),
        (
            has(THERE, groups={"people": ("everything", ROLE.name)}),
            (DriftKind.ROLE_IN_GROUP, ROLE.name, "people"),
            [{"command": "removeGroupRole", "groupname": "people", "rolename": ROLE.name}],
        ),
        (
            has(THERE, replace(THERE, username="tent-1.old")),
            (DriftKind.STRAY_ACCOUNT, "tent-1.old", ""),
            [accounts.remove("tent-1.old")],
        ),
        (
            has(THERE, replace(THERE, username="tent-9", label="grokmon-tent-9", roles=())),
            (DriftKind.STRAY_ACCOUNT, "tent-9", ""),
            [accounts.remove("tent-9")],
        ),
        (
            has(THERE, replace(HUB, username="eve", roles=("everything", ROLE.name))),
            (DriftKind.STRAY_ACCOUNT, "eve", ROLE.name),
            [accounts.unlink("eve", ROLE.name)],
        ),
        (
            has(THERE, grokmon_tent_9=()),
            (DriftKind.STRAY_ROLE, "grokmon-tent-9", ""),
            [accounts.delete_role("grokmon-tent-9")],
        ),
        (
            has(replace(THERE, label="", roles=("everything",))),
            (DriftKind.NAME_TAKEN, "tent-1.k1", ""),
            [],
        ),
    ],
)
def test_drift(found: Found, drift: tuple[DriftKind, str, str], repair: list[Command]) -> None:
    """Find one difference, and what repairs it."""
    drifts = difference([ACCOUNT], [ROLE], found)
    assert kinds(drifts) == [drift]
    assert repairs(drifts) == repair


def test_missing_role_comes_before_its_accounts() -> None:
    """Make a role before what needs it; the roles that a deleted one was linked to have forgotten it."""
    drifts = difference([ACCOUNT], [ROLE], replace(has(replace(THERE, roles=())), roles={}))
    assert kinds(drifts) == [(DriftKind.MISSING_ROLE, ROLE.name, ""), (DriftKind.NOT_LINKED, "tent-1.k1", "")]
    assert repairs(drifts) == [accounts.create_role(ROLE), accounts.link("tent-1.k1", ROLE.name)]


@pytest.mark.parametrize(
    ("there", "repair"),
    [
        (THERE, [*accounts.suspend(ACCOUNT)]),
        (replace(THERE, enabled=False), [*accounts.suspend(ACCOUNT)]),
        (replace(THERE, roles=()), [accounts.disable("tent-1.k1")]),
    ],
)
def test_open_though_disabled(there: FoundAccount, repair: list[Command]) -> None:
    """Shut an account that is open by password or, with the role, by certificate."""
    drifts = difference([replace(ACCOUNT, enabled=False)], [ROLE], has(there))
    assert kinds(drifts) == [(DriftKind.OPEN_THOUGH_DISABLED, "tent-1.k1", "")]
    assert repairs(drifts) == repair


def test_administrator_is_never_touched() -> None:
    """Leave an account alone that has the name of a device and is not ours."""
    admin = replace(HUB, username="admin", roles=("admin",), groups=())
    role = role_of("grokmon", "admin", [], [])
    wanted = Account(username="admin", device_id="admin", client_id="admin")
    (drift,) = difference([wanted], [role, ROLE], has(admin, grokmon_admin=role.acls))
    assert (drift.kind, drift.name, drift.commands) == (DriftKind.NAME_TAKEN, "admin", ())


def test_account_made_by_hand_is_ours() -> None:
    """Take over an account without a label that has the name and the role of the device."""
    assert difference([ACCOUNT], [ROLE], has(replace(THERE, label=""))) == ()


def test_account_without_role_is_a_mistake() -> None:
    """Refuse to plan an account whose device has no role."""
    with pytest.raises(ValueError, match="no role"):
        difference([ACCOUNT], [OTHER], has())


@given(
    st.sampled_from(["", "tent-1.k1", "x"]),
    st.booleans(),
    st.sets(st.sampled_from([ROLE.name, "everything", "grokmon-tent-9"])),
    st.sets(st.sampled_from(["people", "others"])),
    st.booleans(),
)
def test_whatever_differs_is_named(
    client_id: str, enabled: bool, roles: set[str], groups: set[str], wanted: bool
) -> None:
    """Find something exactly where an account of ours is not as wanted."""
    there = replace(
        THERE, client_id=client_id, enabled=enabled, roles=tuple(sorted(roles)), groups=tuple(sorted(groups))
    )
    right = {ROLE.name} if wanted else set()
    same = (client_id, enabled, roles, groups) == ("tent-1.k1", wanted, right, set())
    drifts = difference([replace(ACCOUNT, enabled=wanted)], [ROLE], has(there))
    assert (drifts == ()) is same
    assert all(drift.commands for drift in drifts)
