"""Accounts of devices at the broker, as commands for Mosquitto's dynamic security plugin.

A device has one role; its accounts, one for each credential that the broker judges, all have that role. The label of an
account (the plugin calls it `textname`) says who made it: the name of the device's role. Without it an account that was
made half would be nobody's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
import re
import secrets
from typing import Any, Final

from .models import Channel, Downlink
from .topics import DEVICE_ID_PATTERN, PREFIX_PATTERN, VERSION, downlink, uplink

ROLE_PREFIX: Final = "grokmon-"
_USERNAME_PATTERN: Final = re.compile(rf"({DEVICE_ID_PATTERN.pattern})(\.[A-Za-z0-9_-]{{1,64}})?")
_CLIENT_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PASSWORD_BYTES: Final = 32

type Command = dict[str, Any]  # What takes several is a tuple, to be executed in that order.


class AclType(StrEnum):
    """What a rule of a role is about, as the plugin calls it."""

    PUBLISH = "publishClientSend"
    RECEIVE = "publishClientReceive"
    SUBSCRIBE_LITERAL = "subscribeLiteral"
    SUBSCRIBE_PATTERN = "subscribePattern"
    UNSUBSCRIBE_LITERAL = "unsubscribeLiteral"
    UNSUBSCRIBE_PATTERN = "unsubscribePattern"


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One rule of a role."""

    kind: AclType
    topic: str
    allow: bool = True
    priority: int = 0

    @property
    def fields(self) -> dict[str, Any]:
        """Return the rule in the plugin's words."""
        return {"acltype": self.kind.value, "topic": self.topic, "priority": self.priority, "allow": self.allow}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user name at the broker: `<device_id>` for a certificate, `<device_id>.<key_id>` for a password.

    Without a password only a certificate opens it. Raises ValueError for names that the broker could misread.
    """

    username: str
    device_id: str
    client_id: str
    password: str | None = field(repr=False, default=None)
    enabled: bool = True

    def __post_init__(self) -> None:
        if device_of(self.username) != self.device_id:
            raise ValueError("the user name is not one of the device")
        if _CLIENT_ID_PATTERN.fullmatch(self.client_id) is None:
            raise ValueError("the client id is not one that the broker can bind")
        if self.password == "":
            raise ValueError("the password is empty")


@dataclass(frozen=True, slots=True)
class Role:
    """What a device may do at the broker."""

    device_id: str
    acls: tuple[Acl, ...]

    @property
    def name(self) -> str:
        """Return the role's name at the broker."""
        return role_name(self.device_id)

    @property
    def publishes(self) -> tuple[str, ...]:
        """Return the topics that the device may publish on."""
        return tuple(acl.topic for acl in self.acls if acl.kind is AclType.PUBLISH)

    @property
    def receives(self) -> tuple[str, ...]:
        """Return the topics that reach the device."""
        return tuple(acl.topic for acl in self.acls if acl.kind is AclType.RECEIVE)


def role_name(device_id: str) -> str:
    """Return the name of a device's role, which is the label of its accounts, too."""
    return f"{ROLE_PREFIX}{device_id}"


def device_of(username: str) -> str | None:
    """Return the device that a user name is of, or None where it is not of that form."""
    match = _USERNAME_PATTERN.fullmatch(username)
    return match[1] if match else None


def role_of(prefix: str, device_id: str, up: Iterable[str], down: Iterable[str]) -> Role:
    """Return the role of a device with these channels up and down. Raises ValueError for what is not one."""
    if PREFIX_PATTERN.fullmatch(prefix) is None or DEVICE_ID_PATTERN.fullmatch(device_id) is None:
        raise ValueError("not a topic prefix, or not a device id")
    rules = {Acl(AclType.PUBLISH, uplink(prefix, device_id, Channel(channel))) for channel in up}
    for channel in down:
        topic = downlink(prefix, device_id, Downlink(channel))
        rules |= {Acl(AclType.SUBSCRIBE_LITERAL, topic), Acl(AclType.RECEIVE, topic)}
    rules.add(Acl(AclType.SUBSCRIBE_PATTERN, f"{prefix}/{VERSION}/{device_id}/down/#"))
    return Role(device_id, tuple(sorted(rules)))


def create_role(role: Role) -> Command:
    """Return the command that makes a role."""
    return {"command": "createRole", "rolename": role.name, "acls": [acl.fields for acl in role.acls]}


def replace_role(role: Role) -> tuple[Command, ...]:
    """Return what gives a role other rules and kicks whoever has it.

    Mosquitto 2.0 does not kick for modifyRole, but for addRoleACL: the last rule is added by itself. In between the
    device may do less, never more.
    """
    *first, last = role.acls
    return (
        {"command": "modifyRole", "rolename": role.name, "acls": [acl.fields for acl in first]},
        {"command": "addRoleACL", "rolename": role.name, **last.fields},
    )


def delete_role(name: str) -> Command:
    """Return the command that deletes a role. Mosquitto 2.0 crashes when a group has it: take it from there first."""
    return {"command": "deleteRole", "rolename": name}


def create_account(account: Account) -> tuple[Command, ...]:
    """Return what makes an account. The role has to be there.

    The role is linked by a command of its own: linked by createClient, a change of its rules would not kick. A disabled
    account is not linked, since Mosquitto lets a disabled account in by certificate.
    """
    password = secrets.token_urlsafe(_PASSWORD_BYTES) if account.password is None else account.password
    username, role = account.username, role_name(account.device_id)
    names = {"username": username, "clientid": account.client_id, "textname": role}
    made = {"command": "createClient", "password": password, **names}
    return (made, link(username, role) if account.enabled else disable(username))


def remove(username: str) -> Command:
    """Return the command that deletes an account and kicks it."""
    return {"command": "deleteClient", "username": username}


def disable(username: str) -> Command:
    """Return the command that refuses an account its password, and kicks it. A certificate still gets in: `suspend`."""
    return {"command": "disableClient", "username": username}


def enable(username: str) -> Command:
    """Return the command that undoes `disable`."""
    return {"command": "enableClient", "username": username}


def suspend(account: Account) -> tuple[Command, ...]:
    """Return what takes an account's role and shuts it: afterwards neither password nor certificate is worth anything.

    The role goes first, so that who comes back by certificate after the kick finds nothing that it may do.
    """
    return (unlink(account.username, role_name(account.device_id)), disable(account.username))


def link(username: str, role: str) -> Command:
    """Return the command that gives an account a role. Mosquitto answers *Internal error* where it has it already."""
    return {"command": "addClientRole", "username": username, "rolename": role}


def unlink(username: str, role: str) -> Command:
    """Return the command that takes a role from an account, and kicks."""
    return {"command": "removeClientRole", "username": username, "rolename": role}
