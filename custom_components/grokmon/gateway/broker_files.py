"""Password file and access list for a Mosquitto without the dynamic security plugin."""

import base64
from collections.abc import Iterable, Sequence
import hashlib
import re
import secrets
from typing import Final

from .broker_accounts import Account, Role
from .topics import PREFIX_PATTERN, VERSION

# As mosquitto_passwd does it: PBKDF2 with SHA-512, in as many rounds. Passwords of devices are random: more would add
# nothing. That of Home Assistant may be a person's, and is no worse off here than in a file of that tool.
_ROUNDS: Final = 101
_SALT_BYTES: Final = 12
# No colon, which ends the name in the password file, no space and no control character, which ends it in the other.
_USERNAME_PATTERN: Final = re.compile(r"[!-9;-~]{1,128}")
_LINE_PATTERN: Final = re.compile(rf"[^:]+:\$7\${_ROUNDS}\$([A-Za-z0-9+/]{{16}})\$[A-Za-z0-9+/]{{86}}==\n")
_TOPIC_PATTERN: Final = re.compile(r"[ -~]{1,1024}")


def fits(username: str) -> bool:
    """Tell whether the files can hold a user name that is not ours."""
    return _USERNAME_PATTERN.fullmatch(username) is not None


def password_line(username: str, password: str, salt: bytes | None = None) -> str:
    """Return one line of a password file, with a new salt unless one is given.

    Raises ValueError for a name that would end it early.
    """
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"{_checked(username)}:$7${_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def salt_of(line: str) -> bytes | None:
    """Return the salt of a line that `password_line` wrote, or None where it is not one."""
    match = _LINE_PATTERN.fullmatch(line)
    return base64.b64decode(match[1]) if match else None


def acl_file(
    prefix: str, roles: Iterable[Role], hub_username: str, *, accounts: Sequence[Account], hub_topics: Iterable[str]
) -> str:
    """Return the access list: what is not in it is denied to everybody.

    A device gets a block for each of its accounts that is open. The hub reads what devices send and writes what they
    are told; `hub_topics` are filters that it needs for something else, which would be denied otherwise. Raises
    ValueError for what the broker would misread.
    """
    if PREFIX_PATTERN.fullmatch(prefix) is None:
        raise ValueError("not a topic prefix")
    lines = [
        f"read {prefix}/{VERSION}/+/up/+",
        f"write {prefix}/{VERSION}/+/down/+",
        *(f"readwrite {topic}" for topic in hub_topics),
    ]
    blocks = [_block(hub_username, lines)]
    for role in roles:
        lines = [*(f"write {topic}" for topic in role.publishes), *(f"read {topic}" for topic in role.receives)]
        own = (account for account in accounts if account.device_id == role.device_id and account.enabled)
        blocks += [_block(account.username, lines) for account in own]
    return "\n".join(blocks)


def _block(username: str, rules: Iterable[str]) -> str:
    return "".join([f"user {_checked(username)}\n", *(f"topic {_checked(rule, _TOPIC_PATTERN)}\n" for rule in rules)])


def _checked(text: str, pattern: re.Pattern[str] = _USERNAME_PATTERN) -> str:
    if pattern.fullmatch(text) is None:
        raise ValueError("a user name or a topic that the broker would misread")
    return text
