"""Public keys that are none: under the points of small order on edwards25519 anybody can sign (RFC 8032)."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# By their y coordinate as it may be encoded; OpenSSL takes them for public keys.
_FIELD: Final = 2**255 - 19
_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7
_SMALL_ORDER: Final = frozenset({0, 1, _FIELD - 1, _FIELD, _FIELD + 1, _ORDER_8, _FIELD - _ORDER_8})


def anybody_can_sign(key: Ed25519PublicKey) -> bool:
    """Tell whether a public key is one that anybody can sign for."""
    return int.from_bytes(key.public_bytes_raw(), "little") % 2**255 in _SMALL_ORDER
