"""Tests of what the broker is understood to have, and what differs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway import broker_accounts as accounts
from custom_components.grokmon.gateway.broker_accounts import Account, Acl, AclType, Command, role_of
from custom_components.grokmon.gateway.broker_drift import (
    Drift,
    DriftKind,
    Found,
    FoundAccount,
    difference,
    parse_account,
    parse_found,
    parse_role,
    strangers,
)

from .test_broker_accounts import ACCOUNT, CERTIFICATE, PASSWORD, ROLE

OTHER = role_of("grokmon", "tent-2", ["telemetry"], [])
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


DEFAULTS: dict[str, Any] = {
    "acls": [{"acltype": "publishClientReceive", "allow": True}, {"acltype": "publishClientSend", "allow": False}]
}


def test_what_the_broker_has() -> None:
    """Read the lists as Mosquitto writes them, with and without what 2.1 adds."""
    found = parse_found(CLIENTS, ROLES, GROUPS, DEFAULTS)
    assert found.accounts["tent-1.k1"] == THERE
    assert found.accounts["b"] == FoundAccount(
        username="b", client_id="", label="", enabled=False, roles=("r",), groups=("g",)
    )
    assert found.roles == {"r": {Acl(AclType.PUBLISH, "#", allow=False, priority=2)}}
    assert found.groups == {"g": ("r",)}
    assert not found.may_publish


@pytest.mark.parametrize(
    ("clients", "roles", "groups", "defaults"),
    [
        (None, ROLES, GROUPS, DEFAULTS),
        ([], ROLES, GROUPS, DEFAULTS),
        ({"totalCount": 3, "clients": CLIENTS["clients"]}, ROLES, GROUPS, DEFAULTS),
        ({"clients": CLIENTS["clients"]}, ROLES, GROUPS, DEFAULTS),
        ({"totalCount": True, "clients": CLIENTS["clients"][:1]}, ROLES, GROUPS, DEFAULTS),
        ({"totalCount": 1, "clients": ["tent-1"]}, ROLES, GROUPS, DEFAULTS),
        (CLIENTS, {"totalCount": 1, "roles": ["r"]}, GROUPS, DEFAULTS),
        (CLIENTS, {"totalCount": 0, "roles": {}}, GROUPS, DEFAULTS),
        (CLIENTS, ROLES, {"totalCount": 1, "groups": [{"groupname": "g"}]}, DEFAULTS),
        (CLIENTS, ROLES, GROUPS, None),
        (CLIENTS, ROLES, GROUPS, {"acls": [{"acltype": "publishClientSend", "allow": "true"}]}),
        (CLIENTS, ROLES, GROUPS, {"acls": ["publishClientSend"]}),
    ],
)
def test_lists_of_another_form(clients: object, roles: object, groups: object, defaults: object) -> None:
    """Refuse a list that is cut, not verbose or something else, rather than repair what is not broken."""
    with pytest.raises(ValueError, match="the broker's"):
        parse_found(clients, roles, groups, defaults)


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


TOPIC = "grokmon/v1/tent-1/up/telemetry"
DENY = Acl(AclType.PUBLISH, "grokmon/v1/+/up/#", allow=False)


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ([EVERYTHING], ("hub",)),
        ([Acl(AclType.PUBLISH, "grokmon/v1/+/up/telemetry")], ("hub",)),
        ([Acl(AclType.PUBLISH, "grokmon/#")], ("hub",)),
        ([Acl(AclType.PUBLISH, TOPIC)], ("hub",)),
        ([Acl(AclType.PUBLISH, "grokmon/v1/%c/up/#")], ("hub",)),
        ([Acl(AclType.PUBLISH, "grokmon/v1/%u/up/#")], ()),
        ([Acl(AclType.PUBLISH, "zigbee2mqtt/#")], ()),
        ([Acl(AclType.PUBLISH, "grokmon/v1/+")], ()),
        ([Acl(AclType.PUBLISH, "grokmon/v1/tent.1/up/telemetry")], ()),
        ([Acl(AclType.SUBSCRIBE_PATTERN, "#"), Acl(AclType.RECEIVE, "#")], ()),
        ([EVERYTHING, replace(DENY, priority=1)], ()),
        ([EVERYTHING, DENY], ("hub",)),
        ([replace(EVERYTHING, priority=1), DENY], ("hub",)),
        ([EVERYTHING, replace(DENY, topic="grokmon/v1/tent-2/up/#", priority=1)], ("hub",)),
        ([], ()),
    ],
)
def test_strangers(rules: list[Acl], found: tuple[str, ...]) -> None:
    """Name who else may publish in the name of a device: the first rule that fits decides."""
    assert strangers([TOPIC], has(THERE, everything=rules)) == found
    assert strangers([], has(THERE, everything=rules)) == ()


def test_strangers_by_the_default() -> None:
    """Name who is denied by no rule where the broker allows what no rule is about."""
    allowed = {"acls": [{"acltype": "publishClientSend", "allow": True}]}
    assert parse_found(CLIENTS, ROLES, GROUPS, allowed).may_publish
    for rules, found in (([], ("hub",)), ([DENY], ()), ([replace(DENY, topic="other/#")], ("hub",))):
        assert strangers([TOPIC], replace(has(THERE, everything=rules), may_publish=True)) == found


def test_stranger_who_is_called_like_a_device() -> None:
    """A rule with the name of who publishes lets this one speak for that device."""
    there = has(THERE, everything=[Acl(AclType.PUBLISH, "grokmon/v1/%u/up/#")])
    account = replace(there.accounts["hub"], username="tent-1")
    assert strangers([TOPIC], replace(there, accounts={account.username: account})) == ("tent-1",)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, ("hub",)),
        ({"roles": ("careful", "everything")}, ()),
        ({"roles": ("everything", "careful")}, ("hub",)),
        ({"roles": (), "groups": ("people",)}, ("hub",)),
        ({"roles": ("careful",), "groups": ("people",)}, ()),
        ({"roles": ("gone",), "groups": ("gone",)}, ()),
        ({"enabled": False}, ("hub",)),
        ({"label": ROLE.name, "username": "tent-1"}, ()),
    ],
)
def test_strangers_by_role_and_group(change: dict[str, Any], found: tuple[str, ...]) -> None:
    """Go by an account's roles in their order, then by those of its groups; a device's own account is no stranger."""
    account = replace(HUB, **{"groups": ()} | change)
    there = has(groups={"people": ("everything",)}, careful=[DENY])
    assert strangers([TOPIC], replace(there, accounts={account.username: account})) == found
