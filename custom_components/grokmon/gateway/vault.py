"""The vault: what is secret, encrypted with the key-encryption key, bound to its owner and version."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
import hashlib
from secrets import token_bytes
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEK_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_PARTS: Final = 3
_VERSION: Final = "1"


class VaultError(Exception):
    """What was sealed cannot be opened: another key, another owner, or altered."""


class Vault:
    """Seal and unseal with AES-256-GCM (NIST SP 800-38D); the associated data is the owner and the version."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEK_BYTES:
            raise ValueError(f"the key must have {KEK_BYTES} bytes")
        self.key_id = hashlib.sha256(b"grokmon key-encryption key" + key).hexdigest()[:16]
        self._seal = AESGCM(HKDF(SHA256(), KEK_BYTES, None, b"grokmon seal").derive(key))
        self._frames = AESGCM(HKDF(SHA256(), KEK_BYTES, None, b"grokmon journal").derive(key))

    def seal(self, data: bytes, owner: str) -> str:
        """Return the data encrypted, as text that names version and key."""
        nonce = token_bytes(_NONCE_BYTES)
        sealed = self._seal.encrypt(nonce, data, _bound(owner))
        return f"{_VERSION}.{self.key_id}.{urlsafe_b64encode(nonce + sealed).decode()}"

    def unseal(self, text: str, owner: str) -> bytes:
        """Return what `seal` encrypted for this owner. Raises VaultError."""
        parts = text.split(".")
        if len(parts) != _PARTS or parts[0] != _VERSION:
            raise VaultError(f"{owner}: not sealed")
        if parts[1] != self.key_id:
            raise VaultError(f"{owner}: sealed with key {parts[1]}, and this is key {self.key_id}")
        try:
            raw = _decoded(parts[2])
            return self._seal.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound(owner))
        except (InvalidTag, ValueError) as error:
            raise VaultError(f"{owner}: altered, or somebody else's") from error

    def seal_bytes(self, data: bytes, owner: str) -> bytes:
        """Return a frame of a journal encrypted."""
        nonce = token_bytes(_NONCE_BYTES)
        return nonce + self._frames.encrypt(nonce, data, owner.encode())

    def unseal_bytes(self, data: bytes, owner: str) -> bytes:
        """Return what `seal_bytes` encrypted for this owner. Raises VaultError."""
        try:
            return self._frames.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], owner.encode())
        except (InvalidTag, ValueError) as error:
            raise VaultError(f"{owner}: altered, or somebody else's") from error


def _bound(owner: str) -> bytes:
    return f"{owner}:{_VERSION}".encode()


def _decoded(text: str) -> bytes:
    """Return what this is the one right text of: Python overlooks what is not base64, and bits at its end."""
    raw = urlsafe_b64decode(text)
    if urlsafe_b64encode(raw).decode() != text:
        raise ValueError
    return raw
