"""Run Eclipse Mosquitto."""

import base64
from collections.abc import Sequence
import hashlib
import os
from pathlib import Path
import secrets
import shutil
from typing import override

from tests.stack.components import ComponentMissingError

from .base import Broker, write_private

# What mosquitto_passwd writes by default. The passwords are 24 random bytes: more rounds would add nothing.
_ROUNDS = 101
_SALT_BYTES = 12


class MosquittoBroker(Broker):
    """Run the system's Mosquitto: TLS 1.3 and nothing else (or plain TCP, for the bench), no anonymous access."""

    protocol = "5"
    name = "mosquitto"

    @staticmethod
    def find() -> Path | None:
        """Return where Mosquitto is installed, or nothing."""
        # Debian puts it where only the administrator looks.
        found = shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
        return Path(found) if found else None

    @override
    def _command(self) -> Sequence[str | Path]:
        program = self.find()
        if program is None:
            raise ComponentMissingError("mosquitto is not installed")
        return [program, "-c", self._settings]

    @property
    def _settings(self) -> Path:
        return self.folder / "mosquitto.conf"

    @override
    def _write_files(self) -> None:
        passwords = self.folder / "passwords"
        entries = [f"{account.username}:{_hashed(account.password)}\n" for account in self.accounts.values()]
        write_private(passwords, "".join(entries))
        lines = [
            "allow_anonymous false",
            f"password_file {passwords}",
            "persistence false",
            # A flood must reach the subscriber, not end in the broker's queue limits.
            "max_queued_messages 0",
            "max_inflight_messages 0",
            "set_tcp_nodelay true",
            "log_dest stdout",
            "log_type error",
            "log_type warning",
            "log_type notice",
            f"listener {self.port} {self.host}",
        ]
        if self.certificates is not None:
            lines += [
                f"certfile {self.certificates.certificate.resolve()}",
                f"keyfile {self.certificates.key.resolve()}",
                "tls_version tlsv1.3",
            ]
        if os.geteuid() == 0:
            # Started by root it would become another user, who can read neither the key nor the passwords.
            lines.append("user root")
        self._settings.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _hashed(password: str) -> str:
    """Return the password in the format of mosquitto_passwd (PBKDF2 with SHA-512)."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"$7${_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
