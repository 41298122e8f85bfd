"""Compact JWS by hand: what a JWT library would refuse to produce, and the keys that both ways share."""

import base64
from collections.abc import Mapping
import hashlib
import hmac
import json
from typing import Any

HS256_HEADER = b'{"alg":"HS256","typ":"JWT"}'


def b64encode(data: bytes) -> bytes:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def b64decode(text: bytes | str) -> bytes:
    """Decode base64url without padding."""
    raw = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))


def derive_keys(root: str) -> tuple[bytes, bytes]:
    """Derive the keys to the hub and from the hub from the root key that enrolment shows."""
    secret = b64decode(root)
    return (
        hmac.digest(secret, b"grokmon/v1/up", hashlib.sha256),
        hmac.digest(secret, b"grokmon/v1/down", hashlib.sha256),
    )


def to_json(value: Any) -> bytes:
    """Serialise the way a small device does: compact, non-ASCII as it is."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def signing_input(header: bytes | Mapping[str, Any], payload: bytes) -> bytes:
    """Join header and payload to the bytes that a signature covers."""
    head = header if isinstance(header, bytes) else to_json(header)
    return b64encode(head) + b"." + b64encode(payload)


def compact_hs256(payload: bytes, key: bytes, header: bytes | Mapping[str, Any] = HS256_HEADER) -> bytes:
    """Sign any bytes with HMAC-SHA256 under any header, whether or not it says so."""
    covered = signing_input(header, payload)
    return covered + b"." + b64encode(hmac.digest(key, covered, hashlib.sha256))
