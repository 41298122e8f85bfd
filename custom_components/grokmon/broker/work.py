"""What is done at the broker in one go. Blocking."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
import secrets
from typing import Final

from custom_components.grokmon.gateway.broker_accounts import Account, Role
from custom_components.grokmon.gateway.broker_drift import Drift, DriftKind, difference, strangers
from custom_components.grokmon.gateway.topics import VERSION

from .address import Address
from .connection import REFUSED, BrokerError, Connection, Endpoint, Login, RefusedError
from .dynamic_security import DynamicSecurity, Outcome, clear_retained, overall

_QUIET_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class Work:
    """What was done: the devices whose accounts are gone, and what was repaired. `problem` is what is left, if any."""

    revoked: tuple[str, ...] = ()
    repaired: tuple[Drift, ...] = ()
    problem: str | None = None


def bring_in_step(
    endpoint: Endpoint,
    admin: Login,
    accounts: Sequence[Account],
    roles: Sequence[Role],
    revoking: Mapping[str, Sequence[str]],
) -> Work:
    """Revoke what is to be revoked, then repair what differs. Raises BrokerError when nothing can be told."""
    driver = DynamicSecurity(endpoint, admin)
    revoked = tuple(
        device_id
        for device_id, names in revoking.items()
        if overall(driver.revoke(device_id, names, [device_id])) is Outcome.DONE
    )
    repaired = difference(accounts, roles, driver.fetch())
    try:
        for drift in repaired:
            if overall(driver.execute(drift.commands)) is Outcome.UNKNOWN:
                # Whoever answers no more makes each of a thousand others wait, too.
                break
        # An answer may have been lost: what the broker has now is what counts.
        left = difference(accounts, roles, driver.fetch()) if repaired else ()
    except BrokerError as error:
        # What was found is told, though not all of it is repaired.
        return Work(revoked, repaired, str(error))
    problem = None
    if len(revoked) < len(revoking):
        problem = "not every account could be removed"
    elif left:
        taken = any(drift.kind is DriftKind.NAME_TAKEN for drift in left)
        problem = f"{left[0].kind}: {left[0].name}" if taken else "not every account could be brought in step"
    return Work(revoked, repaired, problem)


def find_strangers(endpoint: Endpoint, admin: Login, topics: Collection[str]) -> tuple[str, ...]:
    """Return the accounts of others that may publish on one of these topics. Raises BrokerError."""
    return strangers(topics, DynamicSecurity(endpoint, admin).fetch())


def confirm_revoked(address: Address, prefix: str, device_id: str, logins: Iterable[Login]) -> bool:
    """Clear what is retained of a device, and see that its old accounts do not get in. Raises BrokerError."""
    if address.hub is not None:
        topic_filter = f"{prefix}/{VERSION}/{device_id}/#"
        if retained := retained_topics(address.endpoint, address.hub, topic_filter):
            clear_retained(address.endpoint, address.hub, retained)
            # Under MQTT 3.1.1 a denial looks like success: what the broker keeps now is what counts.
            if retained_topics(address.endpoint, address.hub, topic_filter):
                return False
    return not any(_gets_in(address.endpoint, device_id, login) for login in logins)


def retained_topics(endpoint: Endpoint, login: Login, topic_filter: str) -> list[str]:
    """Return the topics under a filter on which the broker keeps a message. Raises BrokerError."""
    found: list[str] = []
    with Connection(endpoint, f"grokmon-{secrets.token_hex(8)}", login) as connection:
        if connection.subscribe(topic_filter) >= REFUSED:
            raise BrokerError("the account of Home Assistant may not see what is retained")
        while (message := connection.receive(_QUIET_S, lambda each: each.retained)) is not None:
            found.append(message.topic)
    return found


def _gets_in(endpoint: Endpoint, client_id: str, login: Login) -> bool:
    try:
        with Connection(endpoint, client_id, login):
            return True
    except RefusedError:
        return False
