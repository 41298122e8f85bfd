"""Password and ACL files, for a broker that has no dynamic security. Blocking."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from custom_components.grokmon.disk import replace_file
from custom_components.grokmon.gateway.broker_accounts import Account, Role
from custom_components.grokmon.gateway.broker_files import acl_file, password_line, salt_of

from .connection import Login

PASSWORDS: Final = "passwd"
RULES: Final = "acl"
# Home Assistant has more to do with the broker than this integration.
_HUB_TOPICS: Final = ("#",)


def write_files(
    folder: str, accounts: Sequence[Account], roles: Sequence[Role], prefix: str, hub: Login | None
) -> bool:
    """Write both files; return whether one of them changed, and the broker has to read them again. Raises OSError."""
    path = Path(folder)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    rules = acl_file(prefix, roles, hub.username, accounts=accounts, hub_topics=_HUB_TOPICS) if hub else ""
    # A hash that holds is kept with its salt: salted anew, the file would never be the same.
    kept = _lines(path / PASSWORDS)
    wanted = {account.username: account.password for account in accounts if account.enabled and account.password}
    if hub is not None and hub.password:
        wanted[hub.username] = hub.password
    lines = {name: password_line(name, password, salt_of(kept.get(name, ""))) for name, password in wanted.items()}
    passwords = _replace(path / PASSWORDS, "".join(lines[name] for name in sorted(lines)))
    return _replace(path / RULES, rules) or passwords


def _lines(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    return {line.partition(":")[0]: line for line in text.splitlines(keepends=True)}


def _replace(path: Path, text: str) -> bool:
    if path.exists() and path.read_bytes() == text.encode():
        return False
    replace_file(path, text.encode())
    return True
