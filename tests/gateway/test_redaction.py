"""What is kept of a rejected message: nothing that is secret, and nothing that can be sent again."""

from base64 import urlsafe_b64encode
from hashlib import sha256
import json
from time import process_time
from typing import Any

from hypothesis import given, strategies as st
import orjson
import pytest

from custom_components.grokmon.gateway.envelope import MAX_MESSAGE_BYTES
from custom_components.grokmon.gateway.redaction import digest, redacted

NAMES = [
    "secret",
    "clientSecret",
    "password",
    "PASSWD",
    "mqtt_passwd",
    "token",
    "access_token",
    "key",
    "apiKey",
    "Authorization",
    "auth",
    "cookie",
    "Set-Cookie",
    "credentials",
    "signature",
    "private_pem",
]
KEPT = "hunter2-very-secret"
SIGNATURE = "c2lnbmF0dXJlLXRoYXQtb3BlbnMtYS1kb29y"
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10)


def _base64(text: bytes) -> str:
    return urlsafe_b64encode(text).decode().rstrip("=")


def _jws(claims: Any, header: Any = None) -> bytes:
    first = _base64(json.dumps(header or {"alg": "HS256", "typ": "JWT"}).encode())
    return f"{first}.{_base64(json.dumps(claims).encode())}.{SIGNATURE}".encode()


def _nested(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = {"a": inner}
    return inner


def test_claims_are_kept() -> None:
    """Keep header and claims of a signed message, and leave out the signature."""
    claims = {"iss": "tent-1", "metrics": {"temp_c": 21.5}, "list": [1, True, None, "x"]}
    assert redacted(_jws(claims)) == {"header": {"alg": "HS256", "typ": "JWT"}, "claims": claims}


@pytest.mark.parametrize(
    "payload",
    [
        b'{"temp_c": 215}',
        b'{"temp_c": 21.5}',
        b'{"temp_c": 21.5, "humidity_percent": 55.5}',
        b'{"a": 1.5, "b": 2.5, "c": 3.5}',
    ],
    ids=range(4),
)
def test_json_is_kept(payload: bytes) -> None:
    """Keep what a device sent unsigned, however many points its numbers have."""
    assert redacted(payload) == {"json": json.loads(payload)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [KEPT, [KEPT], {"x": KEPT}, 5], ids=["text", "list", "object", "number"])
def test_secret_is_removed_by_its_name(name: str, value: Any) -> None:
    """Remove what a name makes secret, of whatever kind, in a header, in claims and in plain JSON."""
    hidden = {name: "removed"}
    assert redacted(json.dumps({name: value}).encode()) == {"json": hidden}
    assert redacted(_jws({name: value}, {name: value})) == {"header": hidden, "claims": hidden}


@given(
    name=st.sampled_from(NAMES),
    path=st.lists(st.sampled_from(["list", "object"]), max_size=12),
    beside=st.dictionaries(st.text(max_size=5), SCALARS, max_size=3),
)
def test_secret_is_removed_at_any_depth(name: str, path: list[str], beside: dict[str, Any]) -> None:
    """Remove a secret wherever it is."""
    value: Any = {**beside, name: KEPT}
    for step in path:
        value = [value] if step == "list" else {"inner": value}
    for payload in (json.dumps(value).encode(), _jws(value)):
        assert KEPT not in json.dumps(redacted(payload))


@given(
    value=st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    )
)
def test_signature_is_never_kept(value: Any) -> None:
    """Leave the signature out, whatever was signed."""
    assert SIGNATURE not in json.dumps(redacted(_jws(value)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda jws: jws,
        lambda jws: jws + b"\n",
        lambda jws: b" " + jws,
        lambda jws: jws + b".more",
        lambda jws: b'"' + jws + b'"',
        lambda jws: b'{"message": "' + jws + b'"}',
        lambda jws: b'{"message": "' + jws + b'", "qos": 1.0}',
        lambda jws: b'["' + jws + b'", 1.5]',
        lambda jws: b'{"log": "sent ' + jws + b' twice", "qos": 1.0}',
        lambda jws: b'{"' + jws + b'": 1.5}',
        lambda jws: _jws({"message": jws.decode()}),
    ],
    ids=range(11),
)
def test_signature_in_wrapping_is_not_kept(wrap: Any) -> None:
    """Leave the signature out of a signed message that comes inside of another one, too."""
    assert SIGNATURE not in json.dumps(redacted(wrap(_jws({"iss": "tent-1"}))))


def test_deep_nesting_is_cut() -> None:
    """Keep eight levels, and nothing of what is deeper."""
    assert redacted(json.dumps(_nested(7, 1)).encode()) == {"json": _nested(7, 1)}
    assert redacted(json.dumps(_nested(8, 1)).encode()) == {"json": _nested(8, "removed")}
    assert redacted(json.dumps(_nested(50, {"a": KEPT})).encode()) == {"json": _nested(8, "removed")}


def test_nesting_beyond_all_measure() -> None:
    """Survive what no parser takes."""
    assert redacted(b"[" * 200_000) == {"json": "removed"}
    assert redacted(b"[" * 5_000 + b"]" * 5_000)["json"] in ("removed", [[[[[[[["removed"]]]]]]]])


@pytest.mark.parametrize(
    "payload",
    [b"", b"hello", b"\xff\xfe\x00", b"{", b'{"password": "hunter2-very-secret"', b"1" * 5000, b"a.b", b"a.b.c.d"],
    ids=range(8),
)
def test_garbage_is_removed_as_a_whole(payload: bytes) -> None:
    """Keep nothing of what cannot be read: nobody can tell what it holds."""
    assert redacted(payload) == {"json": "removed"}


@pytest.mark.parametrize("payload", [b"..", b"a.b.c", b"!.?.", b"\xff.\xff.\xff", b"AAAAA.AAAAA.x"], ids=range(5))
def test_garbage_in_parts(payload: bytes) -> None:
    """Keep nothing of what has the form of a signed message and is none."""
    assert "removed" in redacted(payload).values()
    assert set(redacted(payload).values()) == {"removed"}


def test_too_long_is_removed() -> None:
    """Keep a kilobyte of each part at most."""
    fits, long = {"x": "y" * 1015}, {"x": "y" * 1016}
    assert redacted(json.dumps(fits).encode()) == {"json": fits}
    assert redacted(json.dumps(long).encode()) == {"json": "removed"}
    assert redacted(_jws(long)) == {"header": {"alg": "HS256", "typ": "JWT"}, "claims": "removed"}


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a": 123456789012345678901234567890}',
        b'{"a": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"a": NaN, "b": Infinity, "c": 1e999}',
    ],
    ids=["long integer", "half a character", "half a character in a name", "no numbers"],
)
def test_what_is_kept_can_be_written(payload: bytes) -> None:
    """Return only what the journal can write: a device must not stop it with what Python's JSON alone knows."""
    assert orjson.dumps(redacted(payload))


@given(payload=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_anything_can_be_redacted(payload: bytes) -> None:
    """Raise nothing, whatever comes, and keep little."""
    assert len(orjson.dumps(redacted(payload))) < 5_000


@pytest.mark.parametrize("text", ["a" * 200_000, f"{'a' * 100_000}.{'a' * 100_000}"], ids=["one", "two"])
def test_long_word_is_read_once(text: str) -> None:
    """Look through a long word in no time: a device must not keep the gateway busy with what is refused anyway."""
    begun = process_time()
    assert redacted(json.dumps({"a": text}).encode()) == {"json": "removed"}
    assert process_time() - begun < 2


def test_digest_is_of_no_more_than_a_message() -> None:
    """Tell messages apart by their SHA-256, and look at no more of one than may be sent."""
    whole = bytes(MAX_MESSAGE_BYTES - 1) + b"x"
    assert digest(b"hello") == sha256(b"hello").hexdigest()
    assert digest(whole) == sha256(whole).hexdigest() != digest(whole[:-1])
    assert digest(whole + b"more") == digest(whole)
