"""Credentials of devices: issue, derive, load."""

from dataclasses import replace
from hashlib import sha256
import hmac
from secrets import token_bytes, token_hex, token_urlsafe
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from .errors import Code, RegistryError
from .models import Algorithm, Credential, CredentialKind, PrivateKey, PublicKey, SigningKey, VerifyingKey
from .public_keys import anybody_can_sign, key_for

ROOT_KEY_BYTES: Final = 32
# A key of P-256 has some 180 characters in PEM. Any other is checked, too: a Diffie-Hellman group of 10,000 bits takes
# seconds, in which nothing else runs.
MAX_PUBLIC_KEY_LENGTH: Final = 1024
PASSWORD_BYTES: Final = 24
TOKEN_ID_BYTES: Final = 16
# 128 bits: as many as a person may be asked to compare.
_FINGERPRINT_DIGITS: Final = 32
_DAY: Final = 86_400.0
LIFETIMES: Final = {
    CredentialKind.KEY: 365 * _DAY,
    CredentialKind.PASSWORD: 180 * _DAY,
    CredentialKind.TOKEN: 90 * _DAY,
    CredentialKind.CERTIFICATE: 365 * _DAY,
}
_UP: Final = b"grokmon/v1/up"
_DOWN: Final = b"grokmon/v1/down"


def issue(algorithm: Algorithm, now: float, public_key: str = "") -> Credential:
    """Return a new key: with a fresh root key for HS256, with the device's public key (PEM) otherwise.

    Raises RegistryError when the public key is not one of that algorithm.
    """
    secret, pem = b"", ""
    if algorithm is Algorithm.HS256:
        secret = token_bytes(ROOT_KEY_BYTES)
    else:
        key = _load_public_key(algorithm, public_key)
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return _issued(CredentialKind.KEY, now, token_hex(4), algorithm=algorithm, secret=secret, public_key=pem)


def issue_password(now: float) -> Credential:
    """Return a new password for an account at the broker."""
    return _issued(CredentialKind.PASSWORD, now, token_hex(4), secret=token_urlsafe(PASSWORD_BYTES).encode())


def issue_token(now: float) -> Credential:
    """Return the record of a new access token; its `key_id` is the token's identifier."""
    return _issued(CredentialKind.TOKEN, now, token_hex(TOKEN_ID_BYTES))


def account_name(device_id: str, password: Credential) -> str:
    """Return the user name of a password's account: each password has an account of its own, so that two may hold."""
    return f"{device_id}.{password.key_id}"


def record_certificate(serial: str, pem: str, now: float, not_after: float) -> Credential:
    """Return the record of a certificate that the authority signed."""
    return replace(_issued(CredentialKind.CERTIFICATE, now, serial, public_key=pem), not_after=not_after)


def fingerprint(algorithm: Algorithm, public_key: str) -> str:
    """Return what a person compares to know a public key again: SHA-256 of its DER, in groups of four.

    Raises RegistryError when it is not a public key of that algorithm.
    """
    der = _load_public_key(algorithm, public_key).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = sha256(der).hexdigest()[:_FINGERPRINT_DIGITS]
    return " ".join(digest[at : at + 4] for at in range(0, _FINGERPRINT_DIGITS, 4))


def verifying_key(credential: Credential, headers: frozenset[bytes]) -> VerifyingKey:
    """Return the key that verifies a device's messages. `headers` are the encoded headers known to be right for it."""
    if credential.algorithm is Algorithm.HS256:
        key: bytes | PublicKey = _derive(credential, _UP)
    else:
        key = _load_public_key(credential.algorithm, credential.public_key)
    return VerifyingKey(key_id=credential.key_id, algorithm=credential.algorithm, headers=headers, key=key)


def signing_key(credential: Credential, site_key: PrivateKey | None) -> SigningKey:
    """Return the key that signs messages to a device: derived from its root key, or the site's key of its algorithm."""
    if credential.algorithm is Algorithm.HS256:
        return SigningKey(algorithm=credential.algorithm, key=_derive(credential, _DOWN))
    if site_key is None:
        raise RegistryError(Code.PUBLIC_KEY_INVALID, "the site has no key of this algorithm")
    return SigningKey(algorithm=credential.algorithm, key=site_key)


def new_site_key(algorithm: Algorithm) -> PrivateKey:
    """Return a new private key for messages to devices of this algorithm."""
    return generate_private_key(SECP256R1()) if algorithm is Algorithm.ES256 else Ed25519PrivateKey.generate()


def private_pem(key: PrivateKey) -> str:
    """Return a private key in PEM, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: PrivateKey) -> str:
    """Return the public half of a private key in PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def load_site_key(pem: str) -> PrivateKey:
    """Return a private key that `private_pem` wrote."""
    key: PrivateKey = load_pem_private_key(pem.encode(), password=None)  # type: ignore[assignment] # made by new_site_key
    return key


def _issued(kind: CredentialKind, now: float, key_id: str, **material: Any) -> Credential:
    return Credential(
        key_id=key_id, kind=kind, created=now, not_before=now, not_after=now + LIFETIMES[kind], **material
    )


def _derive(credential: Credential, direction: bytes) -> bytes:
    # What derives from a key that was lost, everybody can derive.
    if len(credential.secret) != ROOT_KEY_BYTES:
        raise RegistryError(Code.FIELD_INVALID, "secret")
    return hmac.digest(credential.secret, direction, "sha256")


def _load_public_key(algorithm: Algorithm, pem: str) -> PublicKey:
    if len(pem) > MAX_PUBLIC_KEY_LENGTH:
        too_long = f"longer than {MAX_PUBLIC_KEY_LENGTH} characters, paste it from BEGIN to END PUBLIC KEY"
        raise RegistryError(Code.PUBLIC_KEY_INVALID, too_long)
    try:
        key = key_for(algorithm, load_pem_public_key(pem.encode()))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RegistryError(Code.PUBLIC_KEY_INVALID, "not a public key in PEM") from error
    if key is None:
        raise RegistryError(Code.PUBLIC_KEY_INVALID, f"not a key for {algorithm}")
    if anybody_can_sign(key):
        raise RegistryError(Code.PUBLIC_KEY_INVALID, "a key that anybody can sign for")
    return key
