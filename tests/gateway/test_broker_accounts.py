"""Tests of accounts at the broker, as commands."""

from dataclasses import replace
from typing import Any

import pytest

from custom_components.grokmon.gateway import broker_accounts as accounts
from custom_components.grokmon.gateway.broker_accounts import Account, Acl, AclType, role_of

ROLE = role_of("grokmon", "tent-1", ["telemetry", "ack"], ["command"])
PASSWORD = "correct horse battery"
ACCOUNT = Account(username="tent-1.k1", device_id="tent-1", client_id="tent-1.k1", password=PASSWORD)
CERTIFICATE = Account(username="tent-1", device_id="tent-1", client_id="tent-1")


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
    role = accounts.create_role(ROLE)
    client, link = accounts.create_account(ACCOUNT)
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
    assert accounts.delete_role("r") == {"command": "deleteRole", "rolename": "r"}
    unlink = {"command": "removeClientRole", "username": "tent-1", "rolename": ROLE.name}
    assert accounts.suspend(CERTIFICATE) == (unlink, accounts.disable("tent-1"))
