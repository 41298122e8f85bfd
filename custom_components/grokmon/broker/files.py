"""Password and ACL files, for a broker that has no dynamic security. Blocking."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from custom_components.grokmon.disk import replace_file
from custom_components.grokmon.gateway.broker_accounts import Account, Role
from custom_components.grokmon.gateway.broker_files import acl_file, fits, password_line, salt_of

from .connection import BrokerError, Login

PASSWORDS: Final = "passwd"
RULES: Final = "acl"
# Home Assistant has more to do with the broker than this integration.
_HUB_TOPICS: Final = ("#",)


def changed_files(
    folder: str, accounts: Sequence[Account], roles: Sequence[Role], prefix: str, hub: Login | None
) -> dict[Path, str]:
    """Return what has to be written, so that the files hold what is wanted. Raises OSError or BrokerError."""
    if hub is not None and not fits(hub.username):
        raise BrokerError(
            "the files cannot hold the user name of Home Assistant: only letters, digits and signs of ASCII, no colon"
        )
    path = Path(folder)
    rules = acl_file(prefix, roles, hub.username, accounts=accounts, hub_topics=_HUB_TOPICS) if hub else ""
    # A hash that holds is kept with its salt: salted anew, the file would never be the same.
    kept = _lines(path / PASSWORDS)
    wanted = {account.username: account.password for account in accounts if account.enabled and account.password}
    if hub is not None and hub.password:
        wanted[hub.username] = hub.password
    lines = {name: password_line(name, password, salt_of(kept.get(name, ""))) for name, password in wanted.items()}
    wanted_files = {path / PASSWORDS: "".join(lines[name] for name in sorted(lines)), path / RULES: rules}
    return {file: text for file, text in wanted_files.items() if not _has(file, text)}


def write_files(changed: Mapping[Path, str]) -> None:
    """Write files; the broker has to read them then. Raises OSError."""
    for path, text in changed.items():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, text.encode())


def _lines(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    return {line.partition(":")[0]: line for line in text.splitlines(keepends=True)}


def _has(path: Path, text: str) -> bool:
    return path.exists() and path.read_bytes() == text.encode()
