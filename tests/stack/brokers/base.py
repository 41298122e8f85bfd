"""What a broker of the stack offers, whichever program it is."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
import os
from pathlib import Path
import secrets
import ssl
from typing import Literal, Self

from tests.stack.certificates import Certificates
from tests.stack.ports import LOOPBACK, free_port
from tests.stack.processes import ManagedProcess, accepts_connections

HOME_ASSISTANT = "homeassistant"
_START_WITHIN = 20

type Protocol = Literal["5", "3.1.1"]


@dataclass(frozen=True, slots=True)
class Account:
    """Name somebody and hold the password, which is made up at run time."""

    username: str
    password: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(24))


class Broker(ABC):
    """Run a broker on one port of loopback, with an account for Home Assistant and one for each name given.

    The port and the accounts stay the same over stop, kill and another start.
    """

    host = LOOPBACK
    #: The newest protocol that the broker speaks, as Home Assistant's MQTT settings call it.
    protocol: Protocol
    name: str

    def __init__(
        self,
        folder: Path,
        certificates: Certificates | None,
        *,
        accounts: Iterable[str] = (),
        port: int | None = None,
    ) -> None:
        """Take the certificates for TLS, or ``None`` for a broker without TLS."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.certificates = certificates
        self.port = port or free_port()
        self.accounts = {name: Account(name) for name in (HOME_ASSISTANT, *accounts)}
        self._write_files()
        self._process = ManagedProcess(
            self.name, self._command(), log=self.folder / f"{self.name}.log", cwd=self._working_folder()
        )

    @property
    def tls(self) -> bool:
        """Tell whether the broker listens with TLS."""
        return self.certificates is not None

    @property
    def process(self) -> ManagedProcess:
        """Return the broker's process."""
        return self._process

    def client_context(self) -> ssl.SSLContext:
        """Return a client's TLS settings that trust this broker's authority only."""
        if self.certificates is None:
            raise ValueError("this broker has no TLS")
        return ssl.create_default_context(cafile=str(self.certificates.ca))

    async def start(self) -> None:
        """Start the broker and return once it accepts connections."""
        await self._process.start(partial(accepts_connections, self.host, self.port), deadline=_START_WITHIN)

    async def stop(self) -> None:
        """End the broker in order."""
        await self._process.stop()

    async def kill(self) -> None:
        """Kill the broker at once."""
        await self._process.kill()

    async def __aenter__(self) -> Self:
        """Start the broker."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the broker."""
        await self.stop()

    @abstractmethod
    def _write_files(self) -> None:
        """Write the broker's settings and its password file."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """Return the command that runs the broker."""

    def _working_folder(self) -> Path:
        return self.folder


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
