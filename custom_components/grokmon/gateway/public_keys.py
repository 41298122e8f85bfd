"""Public keys that a device may have, and those for which anybody can sign: points of small order (RFC 8032)."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .models import Algorithm, PublicKey

# Of edwards25519, by their y coordinate as it may be encoded; OpenSSL takes them for public keys.
_FIELD: Final = 2**255 - 19
_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7
_SMALL_ORDER: Final = frozenset({0, 1, _FIELD - 1, _FIELD, _FIELD + 1, _ORDER_8, _FIELD - _ORDER_8})


def key_for(algorithm: Algorithm, key: object) -> PublicKey | None:
    """Return a public key if it is one of this algorithm."""
    match key:
        case EllipticCurvePublicKey(curve=SECP256R1()) if algorithm is Algorithm.ES256:
            return key
        case Ed25519PublicKey() if algorithm is Algorithm.EDDSA:
            return key
        case _:
            return None


def anybody_can_sign(key: PublicKey) -> bool:
    """Tell whether a public key is one that anybody can sign for."""
    if not isinstance(key, Ed25519PublicKey):
        return False
    return int.from_bytes(key.public_bytes_raw(), "little") % 2**255 in _SMALL_ORDER
