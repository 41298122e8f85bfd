"""Run Eclipse Mosquitto with its dynamic security plugin."""

import base64
from collections.abc import Iterable, Sequence
import hashlib
import json
from pathlib import Path
import secrets
from typing import Any, Final, override

from tests.stack.certificates import Certificates
from tests.stack.components import ComponentMissingError

from .base import Account, write_private
from .mosquitto import MosquittoBroker

ADMIN: Final = "admin"
_PLUGIN: Final = "mosquitto_dynamic_security.so"
_ADMIN_ROLE: Final = "admin"
_BROAD_ROLE: Final = "everything"
# As in the password file: random passwords gain nothing by more rounds.
_ROUNDS: Final = 101
_SALT_BYTES: Final = 12


class DynamicMosquittoBroker(MosquittoBroker):
    """Run the system's Mosquitto with TLS 1.2 or newer and accounts that an administrator changes while it runs.

    `admin` may speak with the plugin and do nothing else, `homeassistant` may publish and subscribe everything, and so
    may the accounts that are given. `persistence` keeps durable sessions and what is queued for them over a restart;
    `settings` are more lines for the listener.
    """

    name = "dynamic-mosquitto"

    def __init__(
        self,
        folder: Path,
        certificates: Certificates | None,
        *,
        accounts: Iterable[str] = (),
        port: int | None = None,
        persistence: bool = False,
        settings: Sequence[str] = (),
    ) -> None:
        """Take the certificates for TLS, or ``None`` for a broker without TLS."""
        self._persistence = persistence
        self._more_settings = tuple(settings)
        super().__init__(folder, certificates, accounts=(ADMIN, *accounts), port=port)

    @classmethod
    def find_plugin(cls) -> Path | None:
        """Return where the plugin is installed, or nothing."""
        program = cls.find()
        if program is None:
            return None
        prefixes = dict.fromkeys(
            (program.parent.parent, program.resolve().parent.parent, Path("/usr"), Path("/usr/local"))
        )
        patterns = [f"{folder}/{_PLUGIN}" for folder in ("lib", "lib64", "lib/*", "lib/*/mosquitto")]
        found = (path for prefix in prefixes for pattern in patterns for path in sorted(prefix.glob(pattern)))
        return next(found, None)

    @property
    def security(self) -> Path:
        """Return the file in which the plugin keeps the accounts."""
        return self.folder / "dynamic-security.json"

    @override
    def _write_files(self) -> None:
        plugin = self.find_plugin()
        if plugin is None:
            raise ComponentMissingError("mosquitto's dynamic security plugin is not installed")
        super()._write_files()
        (self.folder / "passwords").unlink()
        # Mosquitto 2.1 reads no limit of messages in flight as a quota of none, and complains of every publish.
        dropped = ("password_file ", "tls_version ", "persistence ", "max_inflight_messages ")
        lines = [
            line for line in self._settings.read_text(encoding="utf-8").splitlines() if not line.startswith(dropped)
        ]
        listener = next(number for number, line in enumerate(lines) if line.startswith("listener "))
        # Before the listener: the plugin is the whole broker's, as per_listener_settings, left out, is false.
        lines[listener:listener] = [
            f"plugin {plugin}",
            f"plugin_opt_config_file {self.security}",
            *self._persistence_lines(),
        ]
        if self.certificates is not None:
            lines.append("tls_version tlsv1.2")
        self._settings.write_text("\n".join([*lines, *self._more_settings]) + "\n", encoding="utf-8")
        write_private(self.security, json.dumps(self._initial(), indent=1))

    def _persistence_lines(self) -> list[str]:
        if not self._persistence:
            return ["persistence false"]
        return [
            "persistence true",
            f"persistence_location {self.folder}/",
            "persistence_file dynamic.db",
            # A kill must find on the disk what was acknowledged.
            "autosave_on_changes true",
            "autosave_interval 1",
        ]

    def _initial(self) -> dict[str, Any]:
        """Return the accounts that the broker begins with."""
        control = "$CONTROL/dynamic-security/#"
        kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
        return {
            "defaultACLAccess": {
                "publishClientSend": False,
                "publishClientReceive": False,
                "subscribe": False,
                "unsubscribe": True,
            },
            "roles": [
                {
                    "rolename": name,
                    "acls": [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind in kinds],
                }
                for name, topic in ((_ADMIN_ROLE, control), (_BROAD_ROLE, "#"))
            ],
            "clients": [
                _client(account, _ADMIN_ROLE if account.username == ADMIN else _BROAD_ROLE)
                for account in self.accounts.values()
            ],
            "groups": [],
        }


def _client(account: Account, role: str) -> dict[str, Any]:
    """Return an account as the plugin keeps it: PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", account.password.encode(), salt, _ROUNDS)
    return {
        "username": account.username,
        "roles": [{"rolename": role}],
        "password": base64.b64encode(digest).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": _ROUNDS,
    }
