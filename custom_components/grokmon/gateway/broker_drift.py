"""What the broker has: its answers, and how that differs from the accounts and roles that are wanted."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
import re
from typing import Any

from .broker_accounts import (
    ROLE_PREFIX,
    Account,
    Acl,
    AclType,
    Command,
    Role,
    create_account,
    create_role,
    delete_role,
    device_of,
    disable,
    enable,
    link,
    remove,
    replace_role,
    role_name,
    suspend,
    unlink,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAccount:
    """An account as the broker has it, unbound where the client id is empty."""

    username: str
    client_id: str
    label: str
    enabled: bool
    roles: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def is_ours(self) -> bool:
        """Tell whether we made it, or whoever made it by hand did it as we do."""
        device_id = device_of(self.username)
        return device_id is not None and role_name(device_id) in (self.label, *self.roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the broker has: accounts, the rules of roles, and the roles of groups, by name.

    `may_publish` tells what holds for a topic that no rule is about; an installation denies it.
    """

    accounts: Mapping[str, FoundAccount]
    roles: Mapping[str, frozenset[Acl]]
    groups: Mapping[str, tuple[str, ...]]
    may_publish: bool = False


def parse_found(clients: object, roles: object, groups: object, defaults: object) -> Found:
    """Return what the answers to listClients, listRoles, listGroups and getDefaultACLAccess say.

    The lists are verbose, and not cut into pages.

    Raises ValueError when they are not of that form.
    """
    accounts = [parse_account(each) for each in _listed(clients, "clients")]
    return Found(
        accounts={account.username: account for account in accounts},
        roles=dict(parse_role(each) for each in _listed(roles, "roles")),
        groups={_get(each, "groupname", str): _names(each, "roles", "rolename") for each in _listed(groups, "groups")},
        may_publish=any(
            _get(each, "allow", bool)
            for each in _get(defaults, "acls", list)
            if _get(each, "acltype", str) == AclType.PUBLISH
        ),
    )


def parse_account(raw: object) -> FoundAccount:
    """Return an account from an entry of listClients, or from getClient. Raises ValueError."""
    return FoundAccount(
        username=_get(raw, "username", str),
        client_id=_get(raw, "clientid", str, ""),
        label=_get(raw, "textname", str, ""),
        enabled=not _get(raw, "disabled", bool, False),
        roles=_names(raw, "roles", "rolename"),
        groups=_names(raw, "groups", "groupname"),
    )


def parse_role(raw: object) -> tuple[str, frozenset[Acl]]:
    """Return name and rules from an entry of listRoles. Raises ValueError."""
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


def strangers(topics: Collection[str], found: Found) -> tuple[str, ...]:
    """Return the accounts that are not ours, and may publish on one of these topics.

    As the plugin decides it: by the first rule that fits, of an account's roles, then of those of its groups, in their
    order; where no rule fits, by the broker's default. Of two rules of a role with the same priority, one that allows
    counts. A disabled account is one, too: Mosquitto lets it in by certificate.
    """
    others = [account for account in found.accounts.values() if not account.is_ours]
    return tuple(sorted(account.username for account in others if _may_publish(account, topics, found)))


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


def _may_publish(account: FoundAccount, topics: Collection[str], found: Found) -> bool:
    names = [*account.roles, *(name for group in account.groups for name in found.groups.get(group, ()))]
    rules = [
        (_pattern(acl.topic, account), acl.allow)
        for name in names
        for acl in sorted(found.roles.get(name, ()), key=lambda each: (-each.priority, not each.allow))
        if acl.kind is AclType.PUBLISH
    ]
    return any(
        next((allow for pattern, allow in rules if pattern.fullmatch(topic)), found.may_publish) for topic in topics
    )


def _pattern(topic: str, account: FoundAccount) -> re.Pattern[str]:
    """Return what fits the topics of a rule; `%u` and `%c` stand for who publishes."""
    topic = topic.replace("%u", account.username).replace("%c", account.client_id or "+")
    levels = re.escape(topic).replace(r"\+", "[^/]*")
    return re.compile(levels.removesuffix(r"\#") + ".*" if topic.endswith("#") else levels)


def _is_ours(role: str) -> bool:
    return role.startswith(ROLE_PREFIX)
