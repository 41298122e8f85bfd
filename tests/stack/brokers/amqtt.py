"""Run aMQTT, a broker in pure Python, in a process of its own."""

from collections.abc import Sequence
import json
from pathlib import Path
import sys
from typing import override

from pwdlib.hashers.argon2 import Argon2Hasher

from .base import Broker, write_private

_REPOSITORY = Path(__file__).resolve().parents[3]


class AmqttBroker(Broker):
    """Run aMQTT with TLS (1.2 or newer), a password file and no anonymous access; it speaks MQTT 3.1.1."""

    protocol = "3.1.1"
    name = "amqtt"

    @override
    def _command(self) -> Sequence[str | Path]:
        return [sys.executable, "-m", "tests.stack.brokers.amqtt_server", self._settings]

    @override
    def _working_folder(self) -> Path:
        return _REPOSITORY

    @property
    def _settings(self) -> Path:
        return self.folder / "amqtt.json"

    @override
    def _write_files(self) -> None:
        # The broker verifies a password in its event loop; they are random, a costly hash would only stop the traffic.
        hasher = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)
        passwords = self.folder / "passwords"
        entries = [f"{account.username}:{hasher.hash(account.password)}\n" for account in self.accounts.values()]
        write_private(passwords, "".join(entries))
        listener: dict[str, object] = {"type": "tcp", "bind": f"{self.host}:{self.port}"}
        if self.certificates is not None:
            listener |= {
                "ssl": True,
                "certfile": str(self.certificates.certificate.resolve()),
                "keyfile": str(self.certificates.key.resolve()),
            }
        settings = {
            "listeners": {"default": listener},
            "plugins": {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(passwords)}},
        }
        self._settings.write_text(json.dumps(settings, indent=2), encoding="utf-8")
