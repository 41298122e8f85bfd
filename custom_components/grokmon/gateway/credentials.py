"""Credentials of devices: issue, derive, load."""

from dataclasses import replace
import hmac
from secrets import token_bytes, token_hex
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from .errors import Code, RegistryError
from .models import Algorithm, Credential, PrivateKey, PublicKey, SigningKey, VerifyingKey

ROOT_KEY_BYTES: Final = 32
_UP: Final = b"grokmon/v1/up"
_DOWN: Final = b"grokmon/v1/down"

# The points of small order on edwards25519, by their y coordinate as it may be encoded. OpenSSL takes them for public
# keys; under most of them anybody can sign any message.
_FIELD: Final = 2**255 - 19
_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7
_SMALL_ORDER: Final = frozenset({0, 1, _FIELD - 1, _FIELD, _FIELD + 1, _ORDER_8, _FIELD - _ORDER_8})


def issue(algorithm: Algorithm, now: float, public_key: str = "") -> Credential:
    """Return a new credential: with a fresh root key for HS256, with the device's public key (PEM) otherwise.

    Raises RegistryError when the public key is not one of that algorithm.
    """
    if algorithm is Algorithm.HS256:
        return Credential(key_id=token_hex(4), algorithm=algorithm, created=now, secret=token_bytes(ROOT_KEY_BYTES))
    key = _load_public_key(algorithm, public_key)
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return Credential(key_id=token_hex(4), algorithm=algorithm, created=now, public_key=pem)


def destroy(credential: Credential) -> Credential:
    """Return a credential that nobody holds the secret of, in place of one that must never verify again."""
    return replace(credential, secret=token_bytes(ROOT_KEY_BYTES)) if credential.secret else credential


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


def _derive(credential: Credential, direction: bytes) -> bytes:
    # What derives from a key that was lost, everybody can derive.
    if len(credential.secret) != ROOT_KEY_BYTES:
        raise RegistryError(Code.FIELD_INVALID, "secret")
    return hmac.digest(credential.secret, direction, "sha256")


def _load_public_key(algorithm: Algorithm, pem: str) -> PublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RegistryError(Code.PUBLIC_KEY_INVALID, "not a public key in PEM") from error
    if algorithm is Algorithm.ES256 and isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key
    if algorithm is Algorithm.EDDSA and isinstance(key, Ed25519PublicKey):
        if int.from_bytes(key.public_bytes_raw(), "little") % 2**255 in _SMALL_ORDER:
            raise RegistryError(Code.PUBLIC_KEY_INVALID, "a key that anybody can sign for")
        return key
    raise RegistryError(Code.PUBLIC_KEY_INVALID, f"not a key for {algorithm}")
