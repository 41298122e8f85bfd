"""Envelopes, tokens and bodies: what a stranger can send before and after its signature was looked at."""

from collections.abc import Callable, Iterator
from functools import partial
import json
from math import isfinite
from secrets import token_bytes
from typing import Any, Final, Never

import jwt

from custom_components.grokmon.gateway import access_tokens, envelope, schema
from custom_components.grokmon.gateway.catalog import CATALOG
from custom_components.grokmon.gateway.credentials import issue_token, verifying_key
from custom_components.grokmon.gateway.errors import EnvelopeError, TransportError
from custom_components.grokmon.gateway.models import Algorithm, Telemetry, VerifyingKey
from tests.gateway.wire import BOOT, NOW, Sender, b64, compact, hs256, to_json, unb64

from .target import Target, hold, refused

SENDERS: Final = {algorithm: Sender.new(algorithm=algorithm) for algorithm in Algorithm}
TOPIC: Final = SENDERS[Algorithm.HS256].topic("telemetry")
# Another one each time: what was signed in an earlier run must not count as forged.
TOKEN_KEY: Final = token_bytes(access_tokens.KEY_BYTES)
OUTPUTS: Final = frozenset({"lamp", "fan", "pump"})
GRANTED: Final = {"temp_c": False, "humidity_percent": False, "leak": True}
SID: Final = "A" * envelope.MAX_DEPTH * 4
CID: Final = "0" * 26
# What stands between the header, the payload and the changes of a token that is to be signed.
CUT: Final = b"\0"
_SIGNED: Final = set[bytes]()
WORDS: Final = (
    *("iss", "aud", "iat", "exp", "nbf", "sid", "seq", "device_id", "metrics", "ts", "meta", "boot", "firmware"),
    *("model", "capabilities", "actuators", "cid", "result", "reason", "on", "percent", "lease_left_s", "readings"),
    *("done", "rejected", "failed", "alg", "typ", "kid", "JWT", "HS256", "ES256", "EdDSA", "none", "crit", "b64"),
    *("sub", "jti", "scope", "telemetry", "grokmon", "grokmon/http", "tent-1", BOOT, CID, SID, TOPIC),
    *CATALOG,
    *OUTPUTS,
)
_BODIES: Final[tuple[dict[str, Any], ...]] = (
    {"sid": SID, "seq": 1, "metrics": {"temp_c": 21.5, "leak": True}, "ts": NOW, "meta": {"fw": "1.2"}},
    {"iat": NOW, "exp": NOW + 60, "nbf": NOW - 60, "metrics": {"humidity_percent": 55}},
    {"boot": BOOT, "firmware": "1.2", "model": "esp", "capabilities": ["temp_c"]},
    {"sid": SID, "seq": 1, "actuators": {"lamp": {"on": True, "percent": 50, "lease_left_s": 30, "cid": CID}}},
    {"sid": SID, "seq": 1, "cid": CID, "result": "done", "reason": "ok", "actuators": {"fan": {"on": False}}},
    {"readings": [{"metrics": {"temp_c": 20}, "ts": NOW}, {"metrics": {"leak": False}}]},
)


def bodies() -> Iterator[bytes]:
    """Return valid claims of every kind."""
    for body in _BODIES:
        yield to_json(body)
        yield to_json({"iss": "tent-1", "aud": TOPIC, "device_id": "tent-1", **body})


def _parse(data: bytes) -> None:
    """Compare the parser with one that is made of the standard library alone."""
    ours = refused(lambda: envelope.parse(data), EnvelopeError)
    theirs = refused(lambda: _reference(data), ValueError, RecursionError)
    hold("parse and the reference agree", kept=repr(ours) == repr(theirs))


def _reference(data: bytes) -> Any:
    value = json.loads(
        data.decode(),
        object_pairs_hook=_unique,
        parse_constant=_constant,
        parse_int=partial(_bounded, int),
        parse_float=partial(_bounded, float),
    )
    json.dumps(value, ensure_ascii=False).encode()
    if type(value) is not dict or _depth(value) > envelope.MAX_DEPTH or b"\\u0000" in data:
        raise ValueError
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError
    return dict(pairs)


def _constant(name: str) -> Never:
    raise ValueError(name)


def _bounded[T: (int, float)](kind: Callable[[str], T], text: str) -> T:
    value = kind(text)
    if not -(2**53) <= value <= 2**53:
        raise ValueError
    return value


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _verify(data: bytes) -> None:
    """Compare the verification of HS256 with PyJWT's, which is laxer: about encodings and unknown fields."""
    sender = SENDERS[Algorithm.HS256]
    token = _token(sender, data)
    key = _key(sender)
    ours = refused(lambda: envelope.verify(token, key), EnvelopeError)
    theirs = refused(lambda: jwt.PyJWS().decode(token, key.key, algorithms=["HS256"]), jwt.InvalidTokenError)
    hold("what is verified PyJWT verifies", kept=ours is None or ours == theirs)
    if theirs and token.startswith(envelope.HS256_HEADER + b".") and _is_canonical(token):
        hold("what is canonical is verified", kept=ours is not None)


def _open(algorithm: Algorithm, data: bytes) -> None:
    sender = SENDERS[algorithm]
    token = _token(sender, data)
    claims = envelope.open_envelope(token, _key(sender), "tent-1", TOPIC, NOW)
    hold("only what was signed is opened", kept=CUT in data or data in _SIGNED)
    hold("issuer and audience", kept=(claims["iss"], claims["aud"]) == ("tent-1", TOPIC))
    hold("times", kept=claims.get("nbf", 0) <= NOW < claims.get("exp", NOW + 1))


def _key(sender: Sender) -> VerifyingKey:
    return _KEYS[sender.algorithm]


_KEYS: Final = {
    algorithm: verifying_key(sender.credential, envelope.headers_of(algorithm, sender.credential.key_id))
    for algorithm, sender in SENDERS.items()
}


def _token(sender: Sender, data: bytes) -> bytes:
    """Return a token of a header and a payload, with bytes of it changed; or the data itself."""
    header, cut, rest = data.partition(CUT)
    if not cut:
        return data
    payload, _, changes = rest.partition(CUT)
    token = bytearray(compact(payload, header, sender._signature()))  # noqa: SLF001 - any header is to be signed
    for high, low, byte in zip(changes[::3], changes[1::3], changes[2::3], strict=False):
        token[(high * 256 + low) % len(token)] = byte
    return bytes(token)


def _kept(token: bytes) -> bytes:
    """Return a token, and remember that it was signed."""
    _SIGNED.add(token)
    return token


def _is_canonical(token: bytes) -> bool:
    parts = token.split(b".")
    return all(parts) and all(refused(partial(_again, part), ValueError) == part for part in parts)


def _again(part: bytes) -> bytes:
    return b64(unb64(part))


def _tokens(algorithm: Algorithm) -> Iterator[bytes]:
    name, key_id = algorithm.value, SENDERS[algorithm].credential.key_id
    headers = (
        {"alg": name, "typ": "JWT"},
        {"typ": "JWT", "kid": key_id, "alg": name},
        {"alg": "none"},
        {"alg": "none", "typ": "JWT"},
        {"alg": name, "typ": "JWT", "crit": ["b64"], "b64": False},
    )
    for body in bodies():
        yield to_json(headers[0]) + CUT + body
        yield _kept(SENDERS[algorithm].sign_bytes(body))
    for header in headers:
        yield to_json(header) + CUT + to_json({"iss": "tent-1", "aud": TOPIC, **_BODIES[1]}) + CUT + b"\0\x40A"


def _schema(data: bytes) -> None:
    """Look at what was signed as every kind of body."""
    claims = envelope.parse(data)
    told = refused(lambda: schema.telemetry(claims, GRANTED))
    if told is not None:
        _check_telemetry(told)
    refused(lambda: schema.hello(claims))
    refused(lambda: schema.state(claims, OUTPUTS))
    refused(lambda: schema.ack(claims, OUTPUTS))
    refused(lambda: schema.check_plain(claims, "tent-1"))
    for each in refused(lambda: schema.batch(claims, 3)) or ():
        refused(lambda each=each: schema.telemetry(each, GRANTED))  # type: ignore[misc] # bound now


def _check_telemetry(told: Telemetry) -> None:
    hold("only what is granted", kept=told.metrics.keys() <= GRANTED.keys())
    hold("numbers that are some", kept=all(isfinite(value) for value in told.metrics.values()))
    hold("texts that can be shown", kept=all(f"{key}{text}".isprintable() for key, text in told.meta.items()))


def _access_token(data: bytes) -> None:
    token = hs256(TOKEN_KEY, data[1:]) if data.startswith(CUT) else data
    named = access_tokens.read(token, TOKEN_KEY, NOW)
    hold("only what was signed is read", kept=data.startswith(CUT) or data in _SIGNED)
    hold("names", kept=type(named.device_id) is str and type(named.token_id) is str)


def _access_tokens() -> Iterator[bytes]:
    token = access_tokens.seal("tent-1", issue_token(NOW), TOKEN_KEY).encode()
    yield _kept(token)
    yield CUT + unb64(token.split(b".")[1])


TARGETS: Final = (
    Target(name="parse", run=_parse, seeds=bodies, words=(*WORDS, "\\u0000", ":"), tree=True),
    Target(name="verify", run=_verify, seeds=lambda: _tokens(Algorithm.HS256), words=WORDS),
    *(
        Target(
            name=f"open_{algorithm.name.lower()}",
            run=partial(_open, algorithm),
            seeds=partial(_tokens, algorithm),
            refusals=(EnvelopeError,),
            words=WORDS,
        )
        for algorithm in Algorithm
    ),
    Target(name="schema", run=_schema, seeds=bodies, refusals=(EnvelopeError,), words=WORDS, tree=True),
    Target(name="access_token", run=_access_token, seeds=_access_tokens, refusals=(TransportError,), words=WORDS),
)
