"""Tests of access tokens: what the site signed for this purpose, and nothing else, and only while it is valid."""

from collections.abc import Callable
from dataclasses import replace
import hashlib
import hmac
from math import inf
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given, settings, strategies as st
import jwt
import pytest

from custom_components.grokmon.gateway import access_tokens, credentials
from custom_components.grokmon.gateway.access_tokens import KEY_BYTES, MAX_TOKEN_BYTES, AccessToken
from custom_components.grokmon.gateway.errors import GatewayError, RegistryError, TransportError
from custom_components.grokmon.gateway.models import Message

from .wire import NOW, Sender, attempt, b64, brief, claims_in, compact, device_of, gateway_with, hs256, outcome, to_json

KEY: Final = bytes(range(32))
RECORD: Final = credentials.issue_token(NOW)
TOKEN: Final = access_tokens.seal("tent-1", RECORD, KEY).encode()
DAY: Final = 86_400
CLAIMS: Final = {
    "iss": "grokmon",
    "aud": "grokmon/http",
    "sub": "tent-1",
    "jti": RECORD.key_id,
    "scope": "telemetry",
    "iat": int(NOW),
    "nbf": int(NOW),
    "exp": int(NOW) + 90 * DAY,
}


def read(token: bytes, now: float = NOW, key: bytes = KEY) -> str:
    """Read a token; return all that a refusal says, or `accepted`. Any other exception is a failure."""
    try:
        access_tokens.read(token, key, now)
    except TransportError as error:
        return str(error)
    return "accepted"


def without(name: str) -> dict[str, Any]:
    """Return the claims of a good token but one."""
    return {key: value for key, value in CLAIMS.items() if key != name}


def by_pyjwt(token: bytes, key: bytes = KEY) -> dict[str, Any] | None:
    """Return the claims that PyJWT reads at any time, or None."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["HS256"],
            audience="grokmon/http",
            issuer="grokmon",
            options={
                "require": ["exp", "jti", "sub"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except jwt.InvalidTokenError:
        return None
    return claims


# --- The honest way


def test_round_trip() -> None:
    """Read whose a token is, and which, from the first to the last moment of its record."""
    assert claims_in(access_tokens.seal("tent-1", RECORD, KEY).encode()) == CLAIMS
    assert access_tokens.read(TOKEN, KEY, NOW) == AccessToken("tent-1", RECORD.key_id)
    assert [read(TOKEN, now) for now in (NOW, RECORD.not_after - 0.001)] == ["accepted"] * 2


@given(
    st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True),
    st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES),
    st.floats(0, 4e9),
)
def test_any_round_trip(device_id: str, key: bytes, now: float) -> None:
    """Read what was sealed, whatever the device is called and whenever that was; and PyJWT reads the same."""
    record = credentials.issue_token(now)
    token = access_tokens.seal(device_id, record, key).encode()
    assert len(token) < MAX_TOKEN_BYTES
    assert access_tokens.read(token, key, now) == AccessToken(device_id, record.key_id)
    assert by_pyjwt(token, key) == claims_in(token)
    assert claims_in(token)["exp"] <= record.not_after


def test_token_of_pyjwt_is_read() -> None:
    """Read what PyJWT signs with the same claims: it is the same text."""
    assert jwt.encode(CLAIMS, KEY, algorithm="HS256").encode() == TOKEN


SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)
NAMES = st.sampled_from(sorted(CLAIMS))


@settings(max_examples=400)
@given(st.dictionaries(NAMES | st.text(max_size=5), VALUES, max_size=3), st.sets(NAMES, max_size=2))
def test_any_claims_against_pyjwt(changes: dict[str, Any], missing: set[str]) -> None:
    """Accept no claims that PyJWT refuses, under the right key, and understand them as PyJWT does."""
    claims = {name: value for name, value in (CLAIMS | changes).items() if name not in missing}
    token = hs256(KEY, to_json(claims))
    found = attempt(lambda: access_tokens.read(token, KEY, NOW))
    if isinstance(found, AccessToken):
        reference = by_pyjwt(token)
        assert reference is not None
        assert (reference["sub"], reference["jti"]) == (found.device_id, found.token_id)
        assert reference["exp"] > NOW


# --- Forged


def unsigned(header: bytes, signature: bytes = b"") -> bytes:
    """Return the claims under a header, with any signature."""
    return b".".join((b64(header), b64(to_json(CLAIMS)), signature))


def hs512(covered: bytes) -> bytes:
    """Sign with the right key and the wrong hash."""
    return hmac.digest(KEY, covered, hashlib.sha512)


OTHER_KEYS: dict[str, Any] = {
    "HS384": KEY + bytes(16),
    "HS512": KEY + bytes(32),
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "PS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": generate_private_key(SECP256R1()),
    "EdDSA": Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b".",
        b"..",
        b"a.b.c",
        b"\xff" * 40,
        unsigned(b'{"alg":"none","typ":"JWT"}'),
        unsigned(b'{"alg":"None","typ":"JWT"}'),
        unsigned(b'{"alg":"none","typ":"JWT"}', TOKEN.rpartition(b".")[2]),
        unsigned(b'{"alg":"HS256","typ":"JWT"}'),
        unsigned(b"[" * 300, b"AAAA"),
        hs256(KEY, to_json(CLAIMS), b'{"alg":"none","typ":"JWT"}'),
        hs256(KEY, to_json(CLAIMS), b'{"alg":"HS512","typ":"JWT"}'),
        hs256(KEY, to_json(CLAIMS), b'{"alg":"HS256","typ":"at+jwt"}'),
        hs256(KEY, to_json(CLAIMS), b'{"alg":"HS256","typ":"JWT","kid":"x"}'),
        hs256(KEY, to_json(CLAIMS), b'{"alg":"HS256","typ":"JWT","crit":["exp"],"exp":9}'),
        hs256(KEY, to_json(CLAIMS), b'{"alg":"HS256","typ":"JWT","b64":false}'),
        compact(to_json(CLAIMS), b'{"alg":"HS512","typ":"JWT"}', hs512),
        compact(to_json(CLAIMS), b'{"alg":"HS256","typ":"JWT"}', hs512),
        *(jwt.encode(CLAIMS, key, algorithm=name).encode() for name, key in OTHER_KEYS.items()),
        TOKEN + b"=",
        TOKEN + b"==",
        TOKEN + b"A",
        TOKEN + b".",
        TOKEN + b"\n",
        b" " + TOKEN,
        TOKEN[:-1],
        TOKEN.rpartition(b".")[0] + b".",
        TOKEN.rpartition(b".")[0],
        TOKEN.replace(b".", b"..", 1),
        TOKEN.replace(b".", b"=.", 1),
        hs256(KEY[::-1], to_json(CLAIMS)),
        hs256(KEY[:-1], to_json(CLAIMS)),
        hs256(b"", to_json(CLAIMS)),
        hs256(b"grokmon", to_json(CLAIMS)),
    ],
    ids=brief,
)
def test_forged(token: bytes) -> None:
    """Refuse what the site did not sign, in this one spelling, and do not say why."""
    assert read(token) == "token_invalid"


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 2000), st.sampled_from("rid"), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_mutation(mutations: list[tuple[int, str, int]]) -> None:
    """Let no changed token through: bytes replaced, inserted or deleted, anywhere."""
    token = bytearray(TOKEN)
    for where, what, value in mutations:
        at = where % len(token)
        token[at : at + (what != "i")] = b"" if what == "d" else bytes([value])
    assume(bytes(token) != TOKEN)
    assert read(bytes(token)) == "token_invalid"


@given(st.binary(max_size=1100))
def test_any_bytes(token: bytes) -> None:
    """Raise nothing but the error tree."""
    assert read(token) == "token_invalid"


@pytest.mark.parametrize("key", [b"", b"\x00", bytes(31), bytes(33), KEY + b"\x00"])
def test_key_of_another_length(key: bytes) -> None:
    """Read nothing and sign nothing under a key that was lost: everybody knows the key of no bytes."""
    assert read(hs256(key, to_json(CLAIMS)), key=key) == "token_invalid"
    with pytest.raises(RegistryError, match="field_invalid: token_key"):
        access_tokens.seal("tent-1", RECORD, key)


def test_length() -> None:
    """Hash nothing that is longer than any token of ours."""
    padding = MAX_TOKEN_BYTES - len(TOKEN)
    longest = next(
        token
        for size in range(padding, 0, -1)
        if len(token := hs256(KEY, to_json(CLAIMS | {"pad": "x" * size}))) <= MAX_TOKEN_BYTES
    )
    assert len(longest) > MAX_TOKEN_BYTES - 2
    assert read(longest) == "accepted"
    assert read(hs256(KEY, to_json(CLAIMS | {"pad": "x" * padding}))) == "token_invalid"


# --- Signed by the site, and still not good


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        *((without(name), "accepted") for name in ("iat", "nbf")),
        *((without(name), "token_invalid") for name in ("iss", "aud", "sub", "jti", "scope", "exp")),
        *((CLAIMS | {name: None}, "token_invalid") for name in CLAIMS),
        *((CLAIMS | {name: []}, "token_invalid") for name in CLAIMS),
        *((CLAIMS | {name: True}, "token_invalid") for name in CLAIMS),
        *((CLAIMS | {name: 1}, "token_invalid") for name in ("iss", "aud", "sub", "jti", "scope")),
        *((CLAIMS | {name: "x"}, "token_invalid") for name in CLAIMS if name not in {"sub", "jti"}),
        (CLAIMS | {"sub": {"tent-1": 1}}, "token_invalid"),
        (CLAIMS | {"aud": ["grokmon/http"]}, "token_invalid"),
        (CLAIMS | {"aud": "grokmon/v1/tent-1/up/telemetry"}, "token_invalid"),
        (CLAIMS | {"iss": "tent-1"}, "token_invalid"),
        (CLAIMS | {"scope": "telemetry admin"}, "token_invalid"),
        (CLAIMS | {"scope": ["telemetry"]}, "token_invalid"),
        (CLAIMS | {"exp": str(int(NOW) + 60)}, "token_invalid"),
        (CLAIMS | {"exp": 2**53 + 1}, "token_invalid"),
        (CLAIMS | {"exp": NOW + 0.5}, "accepted"),
        (CLAIMS | {"exp": NOW}, "credential_expired"),
        (CLAIMS | {"exp": 0}, "credential_expired"),
        (CLAIMS | {"exp": -1.5}, "credential_expired"),
        (CLAIMS | {"nbf": NOW}, "accepted"),
        (CLAIMS | {"nbf": NOW + 1}, "token_invalid"),
        (CLAIMS | {"iat": NOW + 9999}, "accepted"),
        (CLAIMS | {"device_id": "tent-2"}, "token_invalid"),
        (CLAIMS | {"exp": 0, "nbf": NOW + 1}, "credential_expired"),
        (CLAIMS | {"exp": 0, "aud": "x"}, "token_invalid"),
    ],
    ids=brief,
)
def test_claims(claims: dict[str, Any], code: str) -> None:
    """Ask for every claim, of its one type, and for the present time."""
    assert read(hs256(KEY, to_json(claims))) == code


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (NOW - 0.001, "token_invalid"),
        (NOW, "accepted"),
        (NOW + 90 * DAY - 0.001, "accepted"),
        (NOW + 90 * DAY, "credential_expired"),
        (inf, "credential_expired"),
        (-inf, "token_invalid"),
    ],
)
def test_validity(now: float, code: str) -> None:
    """Accept a token from its first moment to the one before it expires."""
    assert read(TOKEN, now) == code


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"sub":"tent-1"', b'"sub":"tent-1","sub":"tent-2"'),
        (b'"sub":"tent-1"', b'"sub":"tent-2","sub":"tent-1"'),
        (b'"exp":', b'"exp":0,"exp":'),
        (b'"jti":', b'"jti":"x","jti":'),
        (b'"sub":"tent-1"', b'"s\\u0075b":"tent-2","sub":"tent-1"'),
        (b"tent-1", b"tent-1\\u0000"),
        (b"tent-1", b"tent-1\xff"),
        (b'"exp":', b'"exp":NaN,"x":'),
        (b'"exp":', b'"exp":Infinity,"x":'),
        (b'"exp":', b'"exp":1e999,"x":'),
        (b'"exp":', b'"x":[[[[1]]]],"exp":'),
        (b"{", b"[{"),
        (b"}", b"}}"),
    ],
    ids=brief,
)
def test_payload_is_strict(old: bytes, new: bytes) -> None:
    """Refuse a payload that two parties could read in two ways."""
    payload = to_json(CLAIMS)
    assert payload.count(old) == 1
    assert read(hs256(KEY, payload.replace(old, new))) == "token_invalid"


# --- Two kinds of signature


@pytest.mark.parametrize(
    "key",
    [lambda sender: sender.up_key, lambda sender: sender.down_key, lambda sender: sender.credential.secret],
    ids=["up", "down", "root"],
)
def test_device_signs_no_access_token(key: Callable[[Sender], bytes]) -> None:
    """Refuse the claims of a token under any key that a device has."""
    assert read(hs256(key(Sender.new()), to_json(CLAIMS))) == "token_invalid"


def test_message_of_a_device_is_no_access_token() -> None:
    """Refuse a message of a device, even if the site signed with that device's key."""
    sender = Sender.new()
    message = sender.sign({"iat": NOW, "exp": NOW + 60, "sub": "tent-1", "jti": "x", "scope": "telemetry"})
    assert read(message, key=sender.up_key) == "token_invalid"


def test_access_token_is_no_message() -> None:
    """Refuse an access token as a message, even if the site signed with that device's key."""
    sender = Sender.new()
    gateway = gateway_with(device_of(sender))
    assert outcome(gateway, Message("tent-1", "telemetry", TOKEN)) == "signature_invalid"
    assert outcome(gateway, Message("tent-1", "hello", TOKEN)) == "signature_invalid"
    ours = access_tokens.seal("tent-1", RECORD, sender.up_key).encode()
    assert outcome(gateway, Message("tent-1", "telemetry", ours)) == "issuer_mismatch"


def test_refusal_tells_no_token() -> None:
    """Name neither the token nor what is wrong with it."""
    secret = replace(RECORD, key_id="very-secret-name")
    token = access_tokens.seal("tent-1", secret, KEY[::-1]).encode()
    with pytest.raises(GatewayError) as caught:
        access_tokens.read(token, KEY, NOW)
    assert str(caught.value) == "token_invalid"
    assert "very-secret-name" not in repr(caught.value)
