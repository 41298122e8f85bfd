"""What may be kept of a rejected message: enough to find a fault, and nothing that opens a door."""

from base64 import urlsafe_b64decode
from hashlib import sha256
import json
import re
from typing import Any, Final

import orjson

from .envelope import MAX_MESSAGE_BYTES

_MAX_TEXT: Final = 1024
_MAX_DEPTH: Final = 8
_SECRET: Final = re.compile(r"secret|passw|token|key|auth|cookie|credential|signature|private", re.IGNORECASE)
_REMOVED: Final = "removed"
_JWS: Final = re.compile(rb"[\w-]*\.[\w-]*\.[\w-]*")
# A signed message inside of another one. It begins where a word does: to try at each letter of a long one would take
# the square of its length.
_INNER_JWS: Final = re.compile(r"(?<![\w-])[\w-]{8,}\.[\w-]{8,}\.[\w-]{16,}", re.ASCII)


def digest(payload: bytes) -> str:
    """Return the SHA-256 of a message; of one that is too long, which may be of any length, that of its beginning."""
    return sha256(payload[:MAX_MESSAGE_BYTES]).hexdigest()


def redacted(payload: bytes) -> dict[str, Any]:
    """Return the content of a message without what may be secret.

    Of a signed one the signature is left out, so that what is kept can never be sent again; what cannot be read as JSON
    is left out as a whole, since nobody can tell what it holds.
    """
    text = payload.strip()
    if _JWS.fullmatch(text):
        parts = text.split(b".")
        return {"header": _part(parts[0]), "claims": _part(parts[1])}
    return {"json": _json(payload)}


def _part(text: bytes) -> Any:
    try:
        return _json(urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
    except ValueError:
        return _REMOVED


def _json(text: bytes) -> Any:
    try:
        value = json.loads(text)
    except ValueError, RecursionError:
        return _REMOVED
    clean = _clean(value, _MAX_DEPTH)
    try:
        orjson.dumps(clean)
    except TypeError:
        # The journal could not write it: half a character, or a number beyond 64 bits.
        return _REMOVED
    return clean if len(json.dumps(clean)) <= _MAX_TEXT else _REMOVED


def _clean(value: Any, depth: int) -> Any:
    if depth == 0:
        return _REMOVED
    if isinstance(value, dict):
        return {
            _INNER_JWS.sub(_REMOVED, name): _REMOVED if _SECRET.search(name) else _clean(each, depth - 1)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [_clean(each, depth - 1) for each in value]
    return _INNER_JWS.sub(_REMOVED, value) if isinstance(value, str) else value
