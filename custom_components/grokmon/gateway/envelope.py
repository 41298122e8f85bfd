"""JSON Web Signatures of devices and their claims (RFC 7515, 7519, 8725), with strict JSON.

The signature is verified before anything that it covers is parsed. For HS256 the signature's text is compared with the
one expected text, which also rules out every other encoding of the same bytes; the public-key algorithms go through
PyJWT with exactly one algorithm.
"""

from base64 import urlsafe_b64encode
from binascii import Error as BinasciiError, a2b_base64, b2a_base64
import hmac
import json
from math import isinf
from typing import Any, Final, Never

import jwt
import orjson

from .errors import Code, EnvelopeError
from .models import Algorithm, Claims, SigningKey, VerifyingKey

MAX_MESSAGE_BYTES: Final = 16_384
MAX_DEPTH: Final = 4
JWT_CONTENT: Final = "application/jwt"
# Who issues what the site itself signs.
SITE: Final = "grokmon"
MAX_NUMBER: Final = 2**53

HS256_HEADER: Final = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"  # {"alg":"HS256","typ":"JWT"}
_HEADER_FIELDS: Final = frozenset({"alg", "typ", "kid"})
# What standard base64 has and base64url has not must not slip through the translation.
_TO_STANDARD: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
_PADDING: Final = (b"", None, b"==", b"=")
_MAX_INTEGER_DIGITS: Final = 20


def headers_of(algorithm: Algorithm, key_id: str) -> frozenset[bytes]:
    """Return the encoded headers that need no parsing: the usual orders of `alg`, `typ` and `kid`."""
    plain = {"alg": algorithm.value, "typ": "JWT"}
    variants = (
        plain,
        {"typ": "JWT", "alg": algorithm.value},
        plain | {"kid": key_id},
        {"alg": algorithm.value, "kid": key_id, "typ": "JWT"},
    )
    return frozenset(encode_base64url(orjson.dumps(variant)) for variant in variants)


def open_envelope(raw: bytes, key: VerifyingKey, issuer: str, audience: str, now: float) -> Claims:
    """Return the claims of a message that this key signed for this audience.

    Raises EnvelopeError; `raw` is at most MAX_MESSAGE_BYTES long, which the caller has checked.
    """
    claims = parse(verify(raw, key))
    check_claims(claims, issuer, audience, now)
    return claims


def verify(raw: bytes, key: VerifyingKey) -> bytes:
    """Return the payload of a compact JWS whose signature this key verifies."""
    signing_input, _, signature = raw.rpartition(b".")
    header, _, payload = signing_input.partition(b".")
    if not header or not payload:
        raise EnvelopeError(Code.MALFORMED, "not a compact JWS")
    if header not in key.headers:
        _check_header(header, key)
    if isinstance(key.key, bytes):
        expected = encode_base64url(hmac.digest(key.key, signing_input, "sha256"))
        if not hmac.compare_digest(signature, expected):
            decode_base64url(signature)
            raise EnvelopeError(Code.SIGNATURE_INVALID)
        return decode_base64url(payload)
    decode_base64url(signature)
    decode_base64url(payload)
    try:
        verified: bytes = jwt.PyJWS().decode(raw, key.key, algorithms=[key.algorithm.value])
    except jwt.InvalidTokenError:
        raise EnvelopeError(Code.SIGNATURE_INVALID) from None
    return verified


def parse(payload: bytes) -> Claims:
    """Return the object that a JSON text holds.

    Refuses what RFC 8259 leaves to the implementation: duplicate keys, numbers that not every party can hold, NUL, and
    nesting deeper than MAX_DEPTH.
    """
    try:
        claims = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise _explain(payload) from None
    if type(claims) is not dict:
        raise EnvelopeError(Code.JSON_INVALID, "not an object")
    keys = _count_keys(claims, 1)
    # As many colons as keys is the usual case, and then no key can have been there twice.
    if payload.count(b":") != keys:
        _check_keys(payload)
    if b"\\u0000" in payload:
        raise EnvelopeError(Code.JSON_INVALID, "NUL")
    return claims


def check_claims(claims: Claims, issuer: str, audience: str, now: float) -> None:
    """Check who wrote the message, for which topic, and when it is valid (RFC 7519, section 4.1)."""
    if claims.get("iss") != issuer or claims.get("device_id", issuer) != issuer:
        raise EnvelopeError(Code.ISSUER_MISMATCH)
    if claims.get("aud") != audience:
        raise EnvelopeError(Code.AUDIENCE_MISMATCH)
    if "exp" in claims and now >= _numeric_date(claims, "exp"):
        raise EnvelopeError(Code.EXPIRED)
    if "nbf" in claims and now < _numeric_date(claims, "nbf"):
        raise EnvelopeError(Code.NOT_YET_VALID)
    if "iat" in claims:
        _numeric_date(claims, "iat")


def seal(claims: Claims, key: SigningKey) -> bytes:
    """Return the claims as a compact JWS."""
    if not isinstance(key.key, bytes):
        return jwt.PyJWS().encode(orjson.dumps(claims), key.key, algorithm=key.algorithm.value).encode()
    signing_input = b".".join((HS256_HEADER, encode_base64url(orjson.dumps(claims))))
    return b".".join((signing_input, encode_base64url(hmac.digest(key.key, signing_input, "sha256"))))


def encode_base64url(data: bytes) -> bytes:
    """Return base64url without padding (RFC 7515, appendix C)."""
    return urlsafe_b64encode(data).rstrip(b"=")


def decode_base64url(text: bytes) -> bytes:
    """Return what canonical, unpadded base64url stands for; anything else is malformed."""
    padding = _PADDING[len(text) % 4]
    if padding is None:
        raise EnvelopeError(Code.MALFORMED, "base64url of an impossible length")
    standard = text.translate(_TO_STANDARD) + padding
    try:
        data = a2b_base64(standard, strict_mode=True)
    except BinasciiError:
        raise EnvelopeError(Code.MALFORMED, "not base64url") from None
    if b2a_base64(data, newline=False) != standard:
        raise EnvelopeError(Code.MALFORMED, "base64url is not canonical")
    return data


def _check_header(encoded: bytes, key: VerifyingKey) -> None:
    header = parse(decode_base64url(encoded))
    algorithm = header.get("alg")
    if isinstance(algorithm, str) and algorithm.lower() == "none":
        raise EnvelopeError(Code.UNSIGNED)
    if algorithm != key.algorithm.value:
        raise EnvelopeError(Code.ALGORITHM_NOT_ALLOWED)
    if not header.keys() <= _HEADER_FIELDS or header.get("typ") != "JWT" or header.get("kid", key.key_id) != key.key_id:
        raise EnvelopeError(Code.HEADER_NOT_ALLOWED)


def _count_keys(value: Any, depth: int) -> int:
    """Return how many keys the objects in a value have, and check its depth and its numbers."""
    if depth > MAX_DEPTH:
        raise EnvelopeError(Code.JSON_TOO_DEEP, f"at most {MAX_DEPTH}")
    keys = 0
    items = value
    if type(value) is dict:
        keys = len(value)
        items = value.values()
    for item in items:
        kind = type(item)
        if kind is dict or kind is list:
            keys += _count_keys(item, depth + 1)
        elif (kind is float or kind is int) and not -MAX_NUMBER <= item <= MAX_NUMBER:
            raise EnvelopeError(Code.NUMBER_OUT_OF_RANGE, "beyond 2^53")
    return keys


def _check_keys(payload: bytes) -> None:
    """Refuse a duplicate key, and the nesting that only its first value may have."""
    try:
        json.loads(payload, object_pairs_hook=_refuse_duplicates)
    except RecursionError:
        raise EnvelopeError(Code.JSON_TOO_DEEP, f"at most {MAX_DEPTH}") from None


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> Claims:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise EnvelopeError(Code.JSON_DUPLICATE_KEY)
    return found


def _explain(payload: bytes) -> EnvelopeError:
    """Return why a text is not the JSON that the protocol asks for."""
    try:
        value = json.loads(
            payload.decode(), parse_constant=_refuse_constant, parse_float=_refuse_infinite, parse_int=_refuse_long
        )
        if isinstance(value, dict | list):
            _count_keys(value, 1)
    except EnvelopeError as error:
        return error
    except UnicodeDecodeError:
        return EnvelopeError(Code.NOT_UTF8)
    except RecursionError:
        return EnvelopeError(Code.JSON_TOO_DEEP, f"at most {MAX_DEPTH}")
    except ValueError:
        return EnvelopeError(Code.JSON_INVALID)
    # What only the standard parser accepts, such as a lone surrogate.
    return EnvelopeError(Code.JSON_INVALID)


def _refuse_constant(_name: str) -> Never:
    raise EnvelopeError(Code.NUMBER_NOT_FINITE)


def _refuse_infinite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise EnvelopeError(Code.NUMBER_NOT_FINITE)
    return value


def _refuse_long(text: str) -> int:
    if len(text) > _MAX_INTEGER_DIGITS:
        raise EnvelopeError(Code.NUMBER_OUT_OF_RANGE, "beyond 2^53")
    return int(text)


def _numeric_date(claims: Claims, name: str) -> float:
    value = claims[name]
    if type(value) is not int and type(value) is not float:
        raise EnvelopeError(Code.FIELD_INVALID, name)
    return float(value)
