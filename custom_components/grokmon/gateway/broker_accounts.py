"""Accounts of devices at the broker, as commands for Mosquitto's dynamic security plugin, and what differs from them.

A device has one role; its accounts, one for each credential that the broker judges, all have that role. The label of an
account (the plugin calls it `textname`) says who made it: the name of the device's role. Without it an account that was
made half would be nobody's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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


class Outcome(StrEnum):
    """What became of a command: only an answer of the broker tells."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


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


def create(account: Account, role: Role) -> tuple[Command, ...]:
    """Return what makes a device's first account, with its role."""
    return (create_role(role), *create_account(account))


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


def resume(account: Account) -> tuple[Command, ...]:
    """Return what undoes `suspend`."""
    return (link(account.username, role_name(account.device_id)), enable(account.username))


def set_password(username: str, password: str) -> Command:
    """Return the command that changes a password, and kicks."""
    return {"command": "setClientPassword", "username": username, "password": password}


def link(username: str, role: str) -> Command:
    """Return the command that gives an account a role. Mosquitto answers *Internal error* where it has it already."""
    return {"command": "addClientRole", "username": username, "rolename": role}


def unlink(username: str, role: str) -> Command:
    """Return the command that takes a role from an account, and kicks."""
    return {"command": "removeClientRole", "username": username, "rolename": role}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAccount:
    """An account as the broker has it, unbound where the client id is empty.

    `connected` is None where the broker does not say: Mosquitto does since 2.1.
    """

    username: str
    client_id: str
    label: str
    enabled: bool
    roles: tuple[str, ...]
    groups: tuple[str, ...]
    connected: bool | None = None

    @property
    def is_ours(self) -> bool:
        """Tell whether we made it, or whoever made it by hand did it as we do."""
        device_id = device_of(self.username)
        return device_id is not None and role_name(device_id) in (self.label, *self.roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the broker has: accounts, the rules of roles, and the roles of groups, by name."""

    accounts: Mapping[str, FoundAccount]
    roles: Mapping[str, frozenset[Acl]]
    groups: Mapping[str, tuple[str, ...]]


def parse_found(clients: object, roles: object, groups: object) -> Found:
    """Return what the answers to listClients, listRoles and listGroups say, all verbose and not cut into pages.

    Raises ValueError when they are not of that form.
    """
    accounts = [parse_account(each) for each in _listed(clients, "clients")]
    return Found(
        accounts={account.username: account for account in accounts},
        roles=dict(parse_role(each) for each in _listed(roles, "roles")),
        groups={_get(each, "groupname", str): _names(each, "roles", "rolename") for each in _listed(groups, "groups")},
    )


def parse_account(raw: object) -> FoundAccount:
    """Return an account from an entry of listClients, or from getClient. Raises ValueError."""
    says_connections = isinstance(raw, dict) and "connections" in raw
    return FoundAccount(
        username=_get(raw, "username", str),
        client_id=_get(raw, "clientid", str, ""),
        label=_get(raw, "textname", str, ""),
        enabled=not _get(raw, "disabled", bool, False),
        roles=_names(raw, "roles", "rolename"),
        groups=_names(raw, "groups", "groupname"),
        connected=bool(_get(raw, "connections", list)) if says_connections else None,
    )


def parse_role(raw: object) -> tuple[str, frozenset[Acl]]:
    """Return name and rules from an entry of listRoles, or from getRole. Raises ValueError."""
    return _get(raw, "rolename", str), frozenset(_acl(each) for each in _get(raw, "acls", list))


def _acl(raw: object) -> Acl:
    kind = AclType(_get(raw, "acltype", str))
    return Acl(kind, _get(raw, "topic", str), _get(raw, "allow", bool), _get(raw, "priority", int, 0))


def _listed(raw: object, name: str) -> list[Any]:
    entries = _get(raw, name, list)
    if _get(raw, "totalCount", int) != len(entries):
        raise ValueError(f"the broker's list of {name} is not whole")
    return entries


def _names(raw: object, name: str, key: str) -> tuple[str, ...]:
    return tuple(_get(each, key, str) for each in _get(raw, name, list))


def _get[T](raw: object, name: str, kind: type[T], default: T | None = None) -> T:
    value = raw.get(name, default) if isinstance(raw, dict) else None
    # Not isinstance: a boolean is not a number.
    if type(value) is not kind:
        raise ValueError(f"the broker's answer has no {name} of the right form")
    return value


class DriftKind(StrEnum):
    """How the broker differs from what is wanted."""

    MISSING_ROLE = "missing_role"
    OTHER_ACLS = "other_acls"
    ROLE_IN_GROUP = "role_in_group"
    MISSING_ACCOUNT = "missing_account"
    NAME_TAKEN = "name_taken"
    FOREIGN_ROLE = "foreign_role"
    FOREIGN_GROUP = "foreign_group"
    OTHER_CLIENT_ID = "other_client_id"
    NOT_LINKED = "not_linked"
    DISABLED = "disabled"
    OPEN_THOUGH_DISABLED = "open_though_disabled"
    STRAY_ACCOUNT = "stray_account"
    STRAY_ROLE = "stray_role"


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference: on which account or role, with which other name, and what repairs it.

    NAME_TAKEN has no commands: somebody else's account has the user name, and a person has to decide.
    """

    kind: DriftKind
    name: str
    detail: str = ""
    commands: tuple[Command, ...] = field(repr=False, default=())


def difference(wanted: Sequence[Account], roles: Sequence[Role], found: Found) -> tuple[Drift, ...]:
    """Return how the broker differs, in the order in which to repair it. A password that differs cannot be seen.

    What is not ours stays as it is: it loses at most a role of ours. Raises ValueError for an account without its role.
    """
    if not {account.device_id for account in wanted} <= {role.device_id for role in roles}:
        raise ValueError("an account is wanted whose device has no role")
    drifts = [*_roles(roles, found)]
    for account in wanted:
        there = found.accounts.get(account.username)
        if there is None:
            drifts.append(Drift(DriftKind.MISSING_ACCOUNT, account.username, commands=create_account(account)))
        elif there.is_ours:
            drifts += _account(account, there)
        else:
            drifts.append(Drift(DriftKind.NAME_TAKEN, account.username))
    drifts += _strays({account.username for account in wanted}, {role.name for role in roles}, found)
    return tuple(drifts)


def _roles(roles: Sequence[Role], found: Found) -> Iterator[Drift]:
    for group, names in found.groups.items():
        for name in filter(_is_ours, names):
            freed = {"command": "removeGroupRole", "groupname": group, "rolename": name}
            yield Drift(DriftKind.ROLE_IN_GROUP, name, group, (freed,))
    for role in roles:
        rules = found.roles.get(role.name)
        if rules is None:
            yield Drift(DriftKind.MISSING_ROLE, role.name, commands=(create_role(role),))
        elif rules != set(role.acls):
            yield Drift(DriftKind.OTHER_ACLS, role.name, commands=replace_role(role))


def _account(account: Account, found: FoundAccount) -> Iterator[Drift]:
    name, role = account.username, role_name(account.device_id)
    for group in found.groups:
        left = {"command": "removeGroupClient", "groupname": group, "username": name}
        yield Drift(DriftKind.FOREIGN_GROUP, name, group, (left,))
    for other in found.roles:
        if other != role:
            yield Drift(DriftKind.FOREIGN_ROLE, name, other, (unlink(name, other),))
    if found.client_id != account.client_id:
        bound = {"command": "setClientId", "username": name, "clientid": account.client_id}
        yield Drift(DriftKind.OTHER_CLIENT_ID, name, commands=(bound,))
    linked = role in found.roles
    if account.enabled and not linked:
        yield Drift(DriftKind.NOT_LINKED, name, commands=(link(name, role),))
    if account.enabled and not found.enabled:
        yield Drift(DriftKind.DISABLED, name, commands=(enable(name),))
    if not account.enabled and (linked or found.enabled):
        shut = suspend(account) if linked else (disable(name),)
        yield Drift(DriftKind.OPEN_THOUGH_DISABLED, name, commands=shut)


def _strays(usernames: set[str], roles: set[str], found: Found) -> Iterator[Drift]:
    for name, account in found.accounts.items():
        if name in usernames:
            continue
        if account.is_ours:
            yield Drift(DriftKind.STRAY_ACCOUNT, name, commands=(remove(name),))
        else:
            for role in filter(_is_ours, account.roles):
                yield Drift(DriftKind.STRAY_ACCOUNT, name, role, (unlink(name, role),))
    for name in filter(_is_ours, found.roles):
        if name not in roles:
            yield Drift(DriftKind.STRAY_ROLE, name, commands=(delete_role(name),))


def _is_ours(role: str) -> bool:
    return role.startswith(ROLE_PREFIX)
