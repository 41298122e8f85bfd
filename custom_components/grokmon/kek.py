"""The key-encryption key: where it comes from. Blocking: not for the event loop."""

from base64 import b64decode
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
import re
from secrets import token_bytes
from typing import Any, Final

from .disk import PRIVATE, replace_file
from .gateway.vault import KEK_BYTES

ENV_FILE: Final = "GROKMON_KEK_FILE"
ENV_KEY: Final = "GROKMON_KEK"
ENV_PREVIOUS: Final = "GROKMON_KEK_PREVIOUS"
ENV_VAULT_ADDR: Final = "GROKMON_VAULT_ADDR"
ENV_VAULT_TOKEN: Final = "GROKMON_VAULT_TOKEN"  # noqa: S105 - a name
ENV_VAULT_TOKEN_FILE: Final = "GROKMON_VAULT_TOKEN_FILE"  # noqa: S105 - a name
ENV_VAULT_MOUNT: Final = "GROKMON_VAULT_MOUNT"
ENV_VAULT_PATH: Final = "GROKMON_VAULT_PATH"
FILE_NAME: Final = "kek"
_PREVIOUS_NAME: Final = "kek.previous"
_FIELD: Final = "kek"
_VAULT_SECONDS: Final = 10
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")


class KekSource(StrEnum):
    """Where a key-encryption key comes from."""

    FILE = "file"
    ENVIRONMENT = "environment"
    VAULT = "vault"
    GENERATED = "generated"


class KekError(Exception):
    """The source that was named does not give a key. The message names the source, never the content."""


class KekAwayError(KekError):
    """The source that was named cannot be reached, and perhaps will be."""


class KekRefusedError(KekAwayError):
    """The source that was named is there and gives nothing: somebody has to see to it there, and it is tried again."""


@dataclass(frozen=True, slots=True)
class Kek:
    """The key-encryption key, and the one before it while what it sealed is not sealed anew yet."""

    key: bytes = field(repr=False)
    source: KekSource
    previous: bytes | None = field(default=None, repr=False)


def load_kek(folder: Path, environ: Mapping[str, str]) -> Kek:
    """Return the key-encryption key: from a file, the environment, Vault, or one that is generated in `folder`.

    Raises KekError when the first source that is named does not give one: it never falls through to the next.
    """
    before = environ.get(ENV_PREVIOUS)
    previous = _parse(before, ENV_PREVIOUS) if before is not None else None
    if (path := environ.get(ENV_FILE)) is not None:
        return Kek(_parse(_read(Path(path), ENV_FILE), ENV_FILE), KekSource.FILE, previous)
    if (text := environ.get(ENV_KEY)) is not None:
        return Kek(_parse(text, ENV_KEY), KekSource.ENVIRONMENT, previous)
    if ENV_VAULT_ADDR in environ:
        return Kek(_parse(_from_vault(environ), "Vault"), KekSource.VAULT, previous)
    return _generated(folder, previous)


def replace_generated(folder: Path) -> Kek:
    """Generate another key, and keep the one before it until `forget_previous`. Raises OSError."""
    path, before = folder / FILE_NAME, folder / _PREVIOUS_NAME
    current = path.read_bytes()
    # Where a rotation failed before, it is carried on: the store may need either of the two keys.
    if not before.exists() or before.read_bytes() == current:
        replace_file(before, current)
        replace_file(path, token_bytes(KEK_BYTES).hex().encode())
    return _generated(folder, None)


def forget_previous(folder: Path) -> None:
    """Delete the key that nothing is sealed with any more."""
    (folder / _PREVIOUS_NAME).unlink(missing_ok=True)


def _generated(folder: Path, previous: bytes | None) -> Kek:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE_NAME
    if not path.exists():
        replace_file(path, token_bytes(KEK_BYTES).hex().encode())
    path.chmod(PRIVATE)
    before = folder / _PREVIOUS_NAME
    if before.exists():
        previous = _parse(_read(before, str(before)), str(before))
    return Kek(_parse(_read(path, str(path)), str(path)), KekSource.GENERATED, previous)


def _from_vault(environ: Mapping[str, str]) -> str:
    try:
        import hvac  # type: ignore[import-untyped,import-not-found,unused-ignore] # noqa: PLC0415 - optional: only whoever has a Vault needs it
    except ImportError as error:
        raise KekError("Vault needs the Python package hvac") from error
    token = environ.get(ENV_VAULT_TOKEN)
    if token is None:
        token = _read(Path(environ.get(ENV_VAULT_TOKEN_FILE, "")), ENV_VAULT_TOKEN_FILE).strip()
    client = hvac.Client(url=environ[ENV_VAULT_ADDR], token=token, timeout=_VAULT_SECONDS)
    try:
        answer: Any = client.secrets.kv.v2.read_secret_version(
            path=environ.get(ENV_VAULT_PATH, "grokmon"),
            mount_point=environ.get(ENV_VAULT_MOUNT, "secret"),
            raise_on_deleted_version=True,
        )
        return str(answer["data"]["data"][_FIELD])
    except (KeyError, TypeError) as error:
        raise KekError(f"Vault: the secret has no field {_FIELD}") from error
    except (hvac.exceptions.Unauthorized, hvac.exceptions.Forbidden, hvac.exceptions.InvalidPath) as error:
        raise KekRefusedError(f"Vault: {type(error).__name__}") from error
    except (hvac.exceptions.VaultError, OSError) as error:
        raise KekAwayError(f"Vault: {type(error).__name__}") from error


def _read(path: Path, source: str) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise KekAwayError(f"{source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KekError(f"{source}: not a key") from error


def _parse(text: str, source: str) -> bytes:
    text = text.strip()
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    try:
        key = b64decode(text.rstrip("=").replace("-", "+").replace("_", "/") + "=", validate=True)
    except (binascii.Error, ValueError) as error:
        raise KekError(f"{source}: not a key of {KEK_BYTES} bytes in hex or base64") from error
    if len(key) != KEK_BYTES:
        raise KekError(f"{source}: not a key of {KEK_BYTES} bytes in hex or base64")
    return key
