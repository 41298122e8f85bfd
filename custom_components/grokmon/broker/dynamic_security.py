"""Drive Mosquitto's dynamic security plugin. Blocking: run it outside the event loop.

Measured on 2.0.11 and 2.1.2: a publish that the broker denies is answered with 135, after which 2.0.11 closes the
connection; an administrator is bound to no client id, and so can end another's session.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
import json
import secrets
from typing import Any, Final

from custom_components.grokmon.gateway.broker_accounts import Command, delete_role, disable, remove, role_name
from custom_components.grokmon.gateway.broker_drift import Found, parse_account, parse_found

from .connection import REFUSED, BrokerError, Connection, Endpoint, Login, Received

CONTROL: Final = "$CONTROL/dynamic-security/v1"
RESPONSES: Final = f"{CONTROL}/response"
NOT_SENT: Final = "not sent"
NOT_ALLOWED: Final = "not allowed"
CLEAR_SESSION: Final = "clearSession"
_ERROR_CHARACTERS: Final = 100
_EVERYTHING: Final = {"verbose": True, "count": -1, "offset": 0}
_LISTS: Final = tuple({"command": name, **_EVERYTHING} for name in ("listClients", "listRoles", "listGroups"))


class Outcome(StrEnum):
    """What became of a command: only an answer of the broker tells."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one command. `error` is the broker's text, or NOT_SENT or NOT_ALLOWED."""

    command: str
    outcome: Outcome
    error: str = ""
    data: Mapping[str, Any] = field(repr=False, default_factory=dict)

    @property
    def not_found(self) -> bool:
        """Tell whether the broker has no account, role or group of that name."""
        return self.error.endswith(("not found", "does not exist"))


def overall(answers: Iterable[Answer]) -> Outcome:
    """Return what became of several commands: unknown if one is, and done only if all are."""
    outcomes = {answer.outcome for answer in answers}
    for outcome in (Outcome.UNKNOWN, Outcome.FAILED):
        if outcome in outcomes:
            return outcome
    return Outcome.DONE


class DynamicSecurity:
    """Change the accounts of a broker as its administrator.

    Whatever connects raises BrokerError when nothing was sent: nothing has happened then. Once a command is on its way
    nothing is raised: its answer says what became of it, and UNKNOWN where none came. Passwords are in no answer, no
    exception and no text of this object.
    """

    def __init__(self, endpoint: Endpoint, admin: Login, *, timeout: float = 5.0) -> None:
        self._endpoint = endpoint
        self._admin = admin
        self._timeout = timeout

    def execute(
        self, commands: Sequence[Command], *, go_on: Callable[[Answer], bool] = lambda _: False
    ) -> list[Answer]:
        """Execute commands over one connection, each once the one before was answered; return an answer for each.

        The first that is not done ends it, unless `go_on` allows its failure; the rest is FAILED as NOT_SENT.
        """
        answers: list[Answer] = []
        if not commands:
            return answers
        with self._connect(f"grokmon-{secrets.token_hex(8)}") as connection:
            if connection.subscribe(RESPONSES) >= REFUSED:
                raise BrokerError("the account may not administer the broker")
            for command in commands:
                answer = self._ask(connection, command)
                answers.append(answer)
                if answer.outcome is Outcome.UNKNOWN or answer.error == NOT_ALLOWED:
                    break
                if answer.outcome is Outcome.FAILED and not go_on(answer):
                    break
        rest = commands[len(answers) :]
        return answers + [Answer(_name(command), Outcome.FAILED, NOT_SENT) for command in rest]

    def fetch(self) -> Found:
        """Return what the broker has. Raises BrokerError when it does not say, or says it in another form."""
        answers = self.execute([*_LISTS, {"command": "getDefaultACLAccess"}])
        if overall(answers) is not Outcome.DONE:
            raise BrokerError("the broker does not list its accounts")
        try:
            return parse_found(*(answer.data for answer in answers))
        except ValueError as error:
            raise BrokerError(f"the broker lists its accounts in another form: {error}") from error

    def revoke(self, device_id: str, usernames: Sequence[str], client_ids: Collection[str] = ()) -> list[Answer]:
        """Shut and kick a device's accounts, delete them, then delete its role, then clear its sessions at the broker.

        What is not there any more is no failure: revoking twice is done twice. `client_ids` are those of accounts that
        may be gone already; those of accounts that are there are read first. A session that is not cleared would hand
        its queued commands to whoever enrols with the same client id.
        """
        asked = self.execute([{"command": "getClient", "username": name} for name in usernames], go_on=_is_gone)
        sessions = dict.fromkeys([*client_ids, *filter(None, map(_client_id, asked))])
        commands = [disable(name) for name in usernames] + [remove(name) for name in usernames]
        answers = [_gone_is_done(answer) for answer in self.execute(commands, go_on=_is_gone)]
        if overall(answers) is not Outcome.DONE:
            return answers
        answers += self._delete_role(role_name(device_id))
        return answers + [self._clear_session(client_id) for client_id in sessions]

    def _connect(self, client_id: str) -> Connection:
        return Connection(self._endpoint, client_id, self._admin, timeout=self._timeout)

    def _ask(self, connection: Connection, command: Command) -> Answer:
        """Send one command and wait for its own answer; others' are passed over."""
        correlation = secrets.token_hex(16)
        payload = json.dumps({"commands": [{**command, "correlationData": correlation}]}).encode()
        name = _name(command)

        def answers_it(message: Received) -> bool:
            return message.topic == RESPONSES and _response(message.payload, name, correlation) is not None

        try:
            if connection.publish(CONTROL, payload) >= REFUSED:
                return Answer(name, Outcome.FAILED, NOT_ALLOWED)
            message = connection.receive(self._timeout, answers_it)
        except BrokerError:
            return Answer(name, Outcome.UNKNOWN)
        response = _response(message.payload, name, correlation) if message else None
        if response is None:
            return Answer(name, Outcome.UNKNOWN)
        if "error" in response:
            return Answer(name, Outcome.FAILED, str(response["error"])[:_ERROR_CHARACTERS])
        data = response.get("data")
        return Answer(name, Outcome.DONE, data=data if isinstance(data, dict) else {})

    def _delete_role(self, role: str) -> list[Answer]:
        """Delete a role, out of every group first: Mosquitto 2.0 crashes otherwise."""
        try:
            groups = self.fetch().groups
            freed: list[Command] = [
                {"command": "removeGroupRole", "groupname": group, "rolename": role}
                for group, roles in groups.items()
                if role in roles
            ]
            return [_gone_is_done(answer) for answer in self.execute([*freed, delete_role(role)], go_on=_is_gone)]
        except BrokerError:
            return [Answer("deleteRole", Outcome.FAILED, NOT_SENT)]

    def _clear_session(self, client_id: str) -> Answer:
        """End a session with all that is queued for it, by taking its client id with a clean start."""
        try:
            with self._connect(client_id):
                return Answer(CLEAR_SESSION, Outcome.DONE)
        except BrokerError:
            return Answer(CLEAR_SESSION, Outcome.UNKNOWN)


def clear_retained(
    endpoint: Endpoint,
    login: Login,
    topics: Iterable[str],
    *,
    timeout: float = 5.0,
) -> dict[str, Outcome]:
    """Clear what is retained on topics, as somebody who may publish there; the administrator of the plugin may not.

    The hub's account may, when it may publish `#`; one whose role holds only what the hub needs may not on a device's
    topics up. Under MQTT 3.1.1 a denial looks like success: use 5. Raises BrokerError when nothing was sent.
    """
    outcomes: dict[str, Outcome] = {}
    for topic in topics:
        try:
            # One connection each: Mosquitto 2.0 closes it after a denial.
            with Connection(endpoint, f"grokmon-{secrets.token_hex(8)}", login, timeout=timeout) as connection:
                outcomes[topic] = Outcome.UNKNOWN
                refused = connection.publish(topic, b"", retain=True) >= REFUSED
                outcomes[topic] = Outcome.FAILED if refused else Outcome.DONE
        except BrokerError:
            if not outcomes:
                raise
            outcomes.setdefault(topic, Outcome.FAILED)
    return outcomes


def _response(payload: bytes, name: str, correlation: str) -> dict[str, Any] | None:
    """Return the response to one command, or None where there is none."""
    try:
        responses = json.loads(payload)["responses"]
        matching = [each for each in responses if each["correlationData"] == correlation and each["command"] == name]
    except ValueError, TypeError, LookupError, RecursionError:
        return None
    return matching[0] if len(matching) == 1 and isinstance(matching[0], dict) else None


def _name(command: Command) -> str:
    return str(command["command"])


def _client_id(answer: Answer) -> str:
    try:
        return parse_account(answer.data.get("client")).client_id
    except ValueError:
        return ""


def _is_gone(answer: Answer) -> bool:
    return answer.not_found


def _gone_is_done(answer: Answer) -> Answer:
    return Answer(answer.command, Outcome.DONE, answer.error) if answer.not_found else answer
