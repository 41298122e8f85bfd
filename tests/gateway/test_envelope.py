"""Tests of the envelope: what is not exactly a message that this device signed does not come out of it."""

from collections.abc import Callable
from dataclasses import dataclass
import hashlib
import hmac
import json
from math import nextafter
from threading import Thread, stack_size
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings, strategies as st
import jwt
import pytest

from custom_components.grokmon.gateway import envelope
from custom_components.grokmon.gateway.errors import Code, EnvelopeError
from custom_components.grokmon.gateway.models import Algorithm, PrivateKey, PublicKey, SigningKey, VerifyingKey

from .wire import (
    NOW,
    Sign,
    attempt,
    b64,
    brief,
    code_of,
    compact,
    ecdsa_p256,
    hmac_sha256,
    hs256,
    malleate,
    to_json,
    unb64,
)

KEY = bytes(range(32))
KEY_ID = "0a0b0c0d"
ISSUER = "tent-1"
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
PUBLIC_FORMS = [
    (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    (Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
]
AUDIENCE = "grokmon/v1/tent-1/up/telemetry"
CLAIMS = {"iss": ISSUER, "aud": AUDIENCE}
EC_KEY = generate_private_key(SECP256R1())
ED_KEY = Ed25519PrivateKey.generate()


def verifying(algorithm: Algorithm, key: bytes | PublicKey) -> VerifyingKey:
    """Return the key of a device, with its usual headers."""
    return VerifyingKey(key_id=KEY_ID, algorithm=algorithm, headers=envelope.headers_of(algorithm, KEY_ID), key=key)


@dataclass(frozen=True, slots=True)
class Party:
    """A device of one algorithm: the key that verifies it, and what it signs with."""

    key: VerifyingKey
    sign: Sign
    token: bytes

    @classmethod
    def new(cls, algorithm: Algorithm, key: bytes | PublicKey, sign: Sign) -> Party:
        """Make a device and an honest message of it."""
        header = b'{"alg":"%s","typ":"JWT"}' % algorithm.encode()
        return cls(verifying(algorithm, key), sign, compact(to_json(CLAIMS), header, sign))

    def __str__(self) -> str:
        return self.key.algorithm.value


HMAC_PARTY = Party.new(Algorithm.HS256, KEY, hmac_sha256(KEY))
ECDSA_PARTY = Party.new(Algorithm.ES256, EC_KEY.public_key(), ecdsa_p256(EC_KEY))
EDDSA_PARTY = Party.new(Algorithm.EDDSA, ED_KEY.public_key(), ED_KEY.sign)
PARTIES = [HMAC_PARTY, ECDSA_PARTY, EDDSA_PARTY]
PUBLIC_KEY_PARTIES = [ECDSA_PARTY, EDDSA_PARTY]
HS = HMAC_PARTY.key


def opened(raw: bytes, key: VerifyingKey = HS, now: float = NOW) -> str:
    """Open an envelope; return the code of the refusal, or `accepted`. Any other exception is the test's failure."""
    try:
        envelope.open_envelope(raw, key, ISSUER, AUDIENCE, now)
    except EnvelopeError as error:
        return code_of(error)
    return "accepted"


def parsed(text: bytes) -> str:
    """Parse a JSON text; return the code of the refusal, or `accepted`."""
    try:
        envelope.parse(text)
    except EnvelopeError as error:
        return code_of(error)
    return "accepted"


def decoded(text: bytes) -> bytes | str:
    """Decode base64url; return the code of the refusal, or the bytes."""
    try:
        return envelope.decode_base64url(text)
    except EnvelopeError as error:
        return code_of(error)


# --- Published vectors


RFC7515_A1_KEY = unb64(b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
RFC7515_A1 = (
    b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
    b"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
    b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)
RFC7515_A3_HEADER = b"eyJhbGciOiJFUzI1NiJ9"
RFC7515_A3 = (
    RFC7515_A3_HEADER + b".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl"
    b"fQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)
RFC8037_A4_HEADER = b"eyJhbGciOiJFZERTQSJ9"
RFC8037_A4 = (
    RFC8037_A4_HEADER + b".RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
    b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)


def test_rfc7515_a1() -> None:
    """Verify the HS256 example of RFC 7515, appendix A.1, and read its claims."""
    key = VerifyingKey(key_id="", algorithm=Algorithm.HS256, headers=frozenset(), key=RFC7515_A1_KEY)
    payload = envelope.verify(RFC7515_A1, key)
    assert payload == b'{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}'
    assert envelope.parse(payload) == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
    assert opened(RFC7515_A1, key) == "issuer_mismatch"


def test_rfc7515_a3() -> None:
    """Verify the ES256 example of RFC 7515, appendix A.3, once its header without a type is one to expect."""
    x = int.from_bytes(unb64(b"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"))
    y = int.from_bytes(unb64(b"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"))
    public = EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
    key = VerifyingKey(key_id="", algorithm=Algorithm.ES256, headers=frozenset({RFC7515_A3_HEADER}), key=public)
    assert envelope.verify(RFC7515_A3, key).startswith(b'{"iss":"joe"')
    assert opened(RFC7515_A3, verifying(Algorithm.ES256, public)) == "header_not_allowed"


def test_rfc8037_a4() -> None:
    """Verify the Ed25519 example of RFC 8037, appendix A.4, once its header without a type is one to expect."""
    public = Ed25519PublicKey.from_public_bytes(unb64(b"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))
    key = VerifyingKey(key_id="", algorithm=Algorithm.EDDSA, headers=frozenset({RFC8037_A4_HEADER}), key=public)
    assert envelope.verify(RFC8037_A4, key) == b"Example of Ed25519 signing"
    assert opened(RFC8037_A4, verifying(Algorithm.EDDSA, public)) == "header_not_allowed"


# --- Signatures


@pytest.mark.parametrize("party", PARTIES, ids=str)
def test_honest_message(party: Party) -> None:
    """Return the claims of a message that the device signed."""
    assert envelope.open_envelope(party.token, party.key, ISSUER, AUDIENCE, NOW) == CLAIMS


@pytest.mark.parametrize("party", PARTIES, ids=str)
def test_every_changed_byte_is_refused(party: Party) -> None:
    """Refuse a message in which any one byte was changed to anything from the alphabet, or had any one bit flipped."""
    token = party.token
    others = {
        token[:at] + bytes([other]) + token[at + 1 :]
        for at, byte in enumerate(token)
        for other in [*(byte ^ 1 << bit for bit in range(8)), *b"AQ_-+/=."]
        if other != byte
    }
    assert len(others) > 8 * len(token)
    assert [other for other in others if opened(other, party.key) == "accepted"] == []


@pytest.mark.parametrize("party", PARTIES, ids=str)
def test_every_cut_is_refused(party: Party) -> None:
    """Refuse every beginning and every end of a message, a message with a byte too many, and two messages."""
    token = party.token
    cut = [token[:at] for at in range(len(token))] + [token[at:] for at in range(1, len(token))]
    longer = [token + tail for tail in (b"A", b"=", b"==", b"\n", b" ", b".", b".A", b"\x00", token, b"." + token)]
    assert [raw for raw in cut + longer if opened(raw, party.key) == "accepted"] == []


@pytest.mark.parametrize("kid", [KEY_ID, None])
@pytest.mark.parametrize("spelling", ['{"alg":"HS256","typ":"JWT"%s}', ' { "typ" : "JWT", "alg" : "HS256" %s} '])
def test_header_may_be_spelled_freely(spelling: str, kid: str | None) -> None:
    """Take any JSON spelling of a header with the right members."""
    members = "" if kid is None else f',"kid":"{kid}"'
    assert opened(hs256(KEY, to_json(CLAIMS), (spelling % members).encode())) == "accepted"


def test_usual_headers() -> None:
    """Know the orders of the members that JWT libraries write."""
    assert {unb64(header) for header in envelope.headers_of(Algorithm.EDDSA, "k1")} == {
        b'{"alg":"EdDSA","typ":"JWT"}',
        b'{"typ":"JWT","alg":"EdDSA"}',
        b'{"alg":"EdDSA","typ":"JWT","kid":"k1"}',
        b'{"alg":"EdDSA","kid":"k1","typ":"JWT"}',
    }


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b'{"alg":"none","typ":"JWT"}', "unsigned"),
        (b'{"alg":"NONE","typ":"JWT"}', "unsigned"),
        (b'{"alg":"nOnE"}', "unsigned"),
        (b'{"alg":"HS384","typ":"JWT"}', "algorithm_not_allowed"),
        (b'{"alg":"HS512","typ":"JWT"}', "algorithm_not_allowed"),
        (b'{"alg":"hs256","typ":"JWT"}', "algorithm_not_allowed"),
        (b'{"alg":"ES256","typ":"JWT"}', "algorithm_not_allowed"),
        (b'{"alg":"EdDSA","typ":"JWT"}', "algorithm_not_allowed"),
        (b'{"alg":"RS256","typ":"JWT"}', "algorithm_not_allowed"),
        (b'{"alg":"","typ":"JWT"}', "algorithm_not_allowed"),
        (b'{"alg":null,"typ":"JWT"}', "algorithm_not_allowed"),
        (b'{"alg":["HS256"],"typ":"JWT"}', "algorithm_not_allowed"),
        (b'{"alg":{"HS256":1},"typ":"JWT"}', "algorithm_not_allowed"),
        (b'{"alg":256,"typ":"JWT"}', "algorithm_not_allowed"),
        (b'{"typ":"JWT"}', "algorithm_not_allowed"),
        (b"{}", "algorithm_not_allowed"),
        (b'{"alg":"HS256"}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"jwt"}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JOSE"}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":null}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":["JWT"]}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","kid":"other"}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","kid":null}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","kid":["0a0b0c0d"]}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","kid":"../../etc/passwd"}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","crit":["exp"],"exp":1}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","b64":false,"crit":["b64"]}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","jku":"https://evil.example/keys"}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","jwk":{"kty":"oct","k":"AAAA"}}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","x5u":"https://evil.example/"}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","x5c":["AAAA"]}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","zip":"DEF"}', "header_not_allowed"),
        (b'{"alg":"HS256","typ":"JWT","cty":"JWT"}', "header_not_allowed"),
        (b'{"alg":"none","alg":"HS256","typ":"JWT"}', "json_duplicate_key"),
        (b'{"alg":"HS256","typ":"JWT","typ":"JWT"}', "json_duplicate_key"),
        (b'{"alg":"HS256","\\u0061lg":"none","typ":"JWT"}', "json_duplicate_key"),
        (b'["HS256"]', "json_invalid"),
        (b'"HS256"', "json_invalid"),
        (b"null", "json_invalid"),
        (b"HS256", "json_invalid"),
        (b'{"alg":"HS256","typ":"JWT"', "json_invalid"),
        (b'{"alg":"HS256","typ":"JWT"}}', "json_invalid"),
        (b'{"alg":"HS256","typ":"JWT\\u0000"}', "json_invalid"),
        (b'{"alg":"HS256","typ":"JWT","kid":"\\ud800"}', "json_invalid"),
        (b'\xef\xbb\xbf{"alg":"HS256","typ":"JWT"}', "json_invalid"),
        (b'{"alg":"HS256","typ":"\xff"}', "not_utf8"),
        (b'{"alg":"HS256","typ":"JWT","kid":NaN}', "number_not_finite"),
        (b'{"alg":"HS256","typ":"JWT","kid":18446744073709551616}', "number_out_of_range"),
        (b'{"alg":[[[[[]]]]],"typ":"JWT"}', "json_too_deep"),
    ],
    ids=brief,
)
def test_hostile_header(header: bytes, code: str) -> None:
    """Refuse a header that asks for anything but this device's one algorithm, though the signature is right."""
    assert opened(hs256(KEY, to_json(CLAIMS), header)) == code


@pytest.mark.parametrize("party", PUBLIC_KEY_PARTIES, ids=str)
def test_public_key_is_no_secret(party: Party) -> None:
    """Refuse a message whose HMAC was made with the public key, under either header (RFC 8725, section 3.1)."""
    key = party.key.key
    assert not isinstance(key, bytes)
    own = b'{"alg":"%s","typ":"JWT"}' % party.key.algorithm.encode()
    for encoding, form in PUBLIC_FORMS:
        secret = key.public_bytes(encoding, form)
        assert opened(hs256(secret, to_json(CLAIMS)), party.key) == "algorithm_not_allowed"
        assert opened(hs256(secret, to_json(CLAIMS), own), party.key) == "signature_invalid"


def _other_hmac(token: bytes) -> bytes:
    covered = token.rpartition(b".")[0]
    return covered + b"." + b64(hmac.digest(bytes(32), covered, hashlib.sha256))


@pytest.mark.parametrize("party", PARTIES, ids=str)
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_other_hmac, "signature_invalid"),
        (lambda token: token.rpartition(b".")[0] + b".", "signature_invalid"),
        (lambda token: token.rpartition(b".")[0] + b"." + b64(bytes(64)), "signature_invalid"),
        (lambda token: token.rpartition(b".")[0] + b"." + b64(bytes(32)), "signature_invalid"),
        (lambda token: token.rpartition(b".")[0] + b"." + b64(b"\xff" * 64), "signature_invalid"),
        (lambda token: token.rpartition(b".")[0] + b"." + b64(bytes(4096)), "signature_invalid"),
        (lambda token: token.rpartition(b".")[0] + b".A", "malformed"),
        (lambda token: token.rpartition(b".")[0] + b".AB", "malformed"),
        (lambda token: token + b"=", "malformed"),
        (lambda token: token + b"\n", "malformed"),
        (lambda token: b" " + token, "malformed"),
        (lambda token: token.rpartition(b".")[0], "malformed"),
        (lambda token: b"." + token, "malformed"),
        (lambda token: b"." + token.partition(b".")[2], "malformed"),
        (lambda token: token.partition(b".")[0] + b".." + token.rpartition(b".")[2], "malformed"),
        (lambda _: b"", "malformed"),
        (lambda _: b".", "malformed"),
        (lambda _: b"..", "malformed"),
        (lambda _: b"...", "malformed"),
        (lambda _: b"\x00\xff.\x00\xff.\x00\xff", "malformed"),
        (lambda _: to_json(CLAIMS), "malformed"),
        (lambda _: b'{"payload":"e30","protected":"e30","signature":""}', "malformed"),
        (lambda _: "\uff45\uff59\uff2a.e30.e30".encode(), "malformed"),
    ],
)
def test_hostile_form(party: Party, change: Callable[[bytes], bytes], code: str) -> None:
    """Refuse what is no compact JWS, and a JWS whose signature is another."""
    assert opened(change(party.token), party.key) == code


@pytest.mark.parametrize(
    ("party", "code"),
    [(HMAC_PARTY, "signature_invalid"), (ECDSA_PARTY, "malformed"), (EDDSA_PARTY, "malformed")],
    ids=str,
)
def test_four_segments(party: Party, code: str) -> None:
    """Refuse a segment too many: for its signature where that is the cheaper look, else for its form."""
    assert opened(party.token + b".", party.key) == code
    assert opened(party.token.replace(b".", b"..", 1), party.key) == code


@pytest.mark.parametrize("party", PARTIES, ids=str)
def test_signed_payload_must_be_canonical(party: Party) -> None:
    """Refuse a payload with bits that decode to nothing, though the device itself signed it so."""
    honest = party.token.partition(b".")[0] + b".e30"
    loose = party.token.partition(b".")[0] + b".e31"
    assert opened(honest + b"." + b64(party.sign(honest)), party.key) == "issuer_mismatch"
    assert opened(loose + b"." + b64(party.sign(loose)), party.key) == "malformed"


def test_second_signature_of_ecdsa() -> None:
    """Verify (r, n - s) as well, as ECDSA does: that it is not accepted *twice* is the counters' business."""
    other = malleate(ECDSA_PARTY.token)
    assert other != ECDSA_PARTY.token
    assert opened(other, ECDSA_PARTY.key) == "accepted"
    assert malleate(other) == ECDSA_PARTY.token


def test_second_signature_of_eddsa() -> None:
    """Refuse the signature whose second half is larger by the order of the group (RFC 8032, section 8.4)."""
    covered, _, signature = EDDSA_PARTY.token.rpartition(b".")
    raw = unb64(signature)
    larger = int.from_bytes(raw[32:], "little") + ED25519_ORDER
    assert (
        opened(covered + b"." + b64(raw[:32] + larger.to_bytes(32, "little")), EDDSA_PARTY.key) == "signature_invalid"
    )


@given(st.binary(max_size=600))
def test_any_bytes(raw: bytes) -> None:
    """Raise nothing but the error tree, and accept nothing."""
    assert {opened(raw, party.key) for party in PARTIES} <= {code.value for code in Code}


SEGMENTS = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=40).map(b64),
    st.sampled_from([part for party in PARTIES for part in party.token.split(b".")]),
)


@given(st.lists(SEGMENTS, max_size=5).map(b".".join))
def test_any_segments(raw: bytes) -> None:
    """Accept nothing that is pieced together but the messages themselves."""
    assert [opened(raw, party.key) == "accepted" for party in PARTIES] == [raw == party.token for party in PARTIES]


@given(st.binary(max_size=200))
def test_any_signed_bytes(payload: bytes) -> None:
    """Raise nothing but the error tree for what a device signs, and accept no bytes that are not its claims."""
    assert opened(hs256(KEY, payload)) in {code.value for code in Code}


# Constants of the code are tried, too, and the right header is one of them.
@given(st.binary(max_size=200).filter(lambda header: b"HS256" not in header))
def test_any_header(header: bytes) -> None:
    """Raise nothing but the error tree for a header that nobody has vouched for."""
    assert opened(hs256(KEY, to_json(CLAIMS), header)) in {code.value for code in Code}


# --- The direct HS256 verification against PyJWT


MUTATIONS = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(["flip", "drop", "double", "put"]), st.integers(0, 255)),
    max_size=3,
)
DIFFERENTIAL_HEADERS = st.sampled_from(
    [
        b'{"alg":"HS256","typ":"JWT"}',
        b'{"typ":"JWT","alg":"HS256"}',
        b'{"alg":"HS256","typ":"JWT","kid":"0a0b0c0d"}',
        b'{"alg":"HS256","typ":"JWT","kid":"other"}',
        b'{"alg":"HS256"}',
        b'{"alg":"HS512","typ":"JWT"}',
        b'{"alg":"none","typ":"JWT"}',
        b'{"alg":"HS256","typ":"JWT","alg":"HS256"}',
        b'{"alg":"HS256","typ":"JWT","crit":[]}',
        b"{}",
    ]
)


def mutated(token: bytes, mutations: list[tuple[int, str, int]]) -> bytes:
    """Return a token after some changes of single bytes."""
    text = bytearray(token)
    for where, what, value in mutations:
        at = where % (len(text) + 1)
        old = text[at : at + 1]
        text[at : at + 1] = {
            "flip": bytes(byte ^ 1 << value % 8 for byte in old),
            "drop": b"",
            "double": old + old,
            "put": bytes([value]) + old,
        }[what]
    return bytes(text)


def ours(token: bytes) -> tuple[bytes | None, str]:
    """Return the payload that the direct way verifies, or None and the code."""
    try:
        return envelope.verify(token, HS), ""
    except EnvelopeError as error:
        return None, code_of(error)


def theirs(token: bytes) -> bytes | None:
    """Return the payload that PyJWT verifies, or None."""
    try:
        payload: bytes = jwt.PyJWS().decode(token, KEY, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        return None
    return payload


# Where PyJWT is laxer, and the code with which the gateway refuses: `=` after a segment, a header with other members,
# without `typ`, with another `kid`, with a member twice, and a payload of no bytes.
STRICTER = {"malformed", "header_not_allowed", "json_duplicate_key"}


@settings(max_examples=400)
@given(DIFFERENTIAL_HEADERS, st.binary(max_size=30), MUTATIONS)
def test_direct_verification_agrees_with_pyjwt(
    header: bytes, payload: bytes, changes: list[tuple[int, str, int]]
) -> None:
    """Accept nothing that PyJWT refuses, return what it returns, and refuse more only where that is documented."""
    token = mutated(hs256(KEY, payload, header), changes)
    mine, code = ours(token)
    reference = theirs(token)
    assert mine is None or mine == reference
    assert mine == reference or code in STRICTER


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (hs256(KEY, b"{}") + b"=", "malformed"),
        (hs256(KEY, b""), "malformed"),
        (hs256(KEY, b"{}", b'{"alg":"HS256"}'), "header_not_allowed"),
        (hs256(KEY, b"{}", b'{"alg":"HS256","typ":"JWT","kid":"other"}'), "header_not_allowed"),
        (hs256(KEY, b"{}", b'{"alg":"HS256","typ":"JWT","x":1}'), "header_not_allowed"),
        (hs256(KEY, b"{}", b'{"alg":"HS256","typ":"JWT","typ":"JWT"}'), "json_duplicate_key"),
    ],
)
def test_where_the_direct_verification_is_stricter(token: bytes, code: str) -> None:
    """Refuse what PyJWT still accepts: this is the whole list of differences."""
    assert theirs(token) is not None
    assert ours(token) == (None, code)


@pytest.mark.parametrize("party", PUBLIC_KEY_PARTIES, ids=str)
def test_public_keys_refuse_padding_too(party: Party) -> None:
    """Refuse the `=` that PyJWT takes after the signature, so that one signature has one text."""
    padded = party.token + b"=="
    assert jwt.PyJWS().decode(padded, party.key.key, algorithms=[party.key.algorithm.value]) == to_json(CLAIMS)
    assert opened(padded, party.key) == "malformed"


# --- base64url


def test_two_characters_exhaustively() -> None:
    """Accept for every byte exactly one text of two characters."""
    texts = [bytes([one, other]) for one in range(256) for other in range(256)]
    good = {text: data for text in texts if isinstance(data := decoded(text), bytes)}
    assert good == {b64(bytes([byte])): bytes([byte]) for byte in range(256)}


@example(b"\x00\x00\x17")  # AAAX: no letter is padding
@given(st.binary(max_size=60))
def test_base64url_there_and_back(data: bytes) -> None:
    """Decode what is encoded, and encode as RFC 4648 does."""
    assert envelope.encode_base64url(data) == b64(data)
    assert envelope.decode_base64url(b64(data)) == data


@given(st.binary(max_size=60) | st.text("ABCDQgw-_+/=089\n ", max_size=20).map(str.encode))
def test_base64url_is_canonical(text: bytes) -> None:
    """Accept no text but the one that its bytes encode to."""
    data = decoded(text)
    assert data == "malformed" or (isinstance(data, bytes) and b64(data) == text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"A",
            b"AAAAA",
            b"AB",
            b"AAB",
            b"AA==",
            b"AA=",
            b"AAA=",
            b"A===",
            b"====",
            b"=",
            b"+A",
            b"/w",
            b"-A\n",
            b" AA",
        ),
        *(b"AA\n", b"A\nA", b"A A", b"\xffAAA", b"AA.A", b"AAAA=AAA", b"AA!A", b"AAAA====", "\uff21\uff21".encode()),
    ],
)
def test_base64url_refused(text: bytes) -> None:
    """Refuse padding, white space, the other alphabet, left-over bits and impossible lengths."""
    assert decoded(text) == "malformed"


# --- JSON


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "json_invalid"),
        (b" ", "json_invalid"),
        (b"null", "json_invalid"),
        (b"1", "json_invalid"),
        (b'"a"', "json_invalid"),
        (b"[]", "json_invalid"),
        (b'[{"a":1}]', "json_invalid"),
        (b"{", "json_invalid"),
        (b"{}{}", "json_invalid"),
        (b"{},", "json_invalid"),
        (b"{a:1}", "json_invalid"),
        (b"{'a':1}", "json_invalid"),
        (b'{"a":1,}', "json_invalid"),
        (b'{"a":01}', "json_invalid"),
        (b'{"a":+1}', "json_invalid"),
        (b'{"a":.5}', "json_invalid"),
        (b'{"a":1.}', "json_invalid"),
        (b'{"a":0x10}', "json_invalid"),
        (b'{"a":1_000}', "json_invalid"),
        (b'{"a":True}', "json_invalid"),
        (b'{"a":undefined}', "json_invalid"),
        (b'{"a":1}// comment', "json_invalid"),
        (b'{"a":/**/1}', "json_invalid"),
        (b'{"a":"\n"}', "json_invalid"),
        (b'{"a":"\x00"}', "json_invalid"),
        (b'{"a":1}\x00', "json_invalid"),
        (b'\x00{"a":1}', "json_invalid"),
        (b'{"a":"\\u0000"}', "json_invalid"),
        (b'{"\\u0000":1}', "json_invalid"),
        # A backslash and u0000 in plain text is refused with it: the price of a search instead of a second parse.
        (b'{"a":"\\\\u0000"}', "json_invalid"),
        (b'{"a":"\\ud800"}', "json_invalid"),
        (b'"\\ud800"', "json_invalid"),
        (b'{"a":[[["\\ud800"]]]}', "json_invalid"),
        (b'{"a":"\\udc00\\ud800"}', "json_invalid"),
        (b'{"a":"\\x41"}', "json_invalid"),
        (b"\xef\xbb\xbf{}", "json_invalid"),
        ('{"a":1}'.encode("utf-16"), "not_utf8"),
        ('{"a":1}'.encode("utf-16-le"), "json_invalid"),
        ('{"a":1}'.encode("utf-32-be"), "json_invalid"),
        (b'{"a":"\xff"}', "not_utf8"),
        (b'{"a":"\xc0\x80"}', "not_utf8"),
        (b'{"a":"\xed\xa0\x80"}', "not_utf8"),
        (b'{"a":"\xf4\x90\x80\x80"}', "not_utf8"),
        (b'{"a":"\xe2\x82"}', "not_utf8"),
        (b'{"a":1,"a":2}', "json_duplicate_key"),
        (b'{"a":1,"a":1}', "json_duplicate_key"),
        (b'{"a":1,"b":2,"a":3}', "json_duplicate_key"),
        (b'{"a":1,"\\u0061":2}', "json_duplicate_key"),
        (b'{"a":{"b":1,"b":2}}', "json_duplicate_key"),
        (b'{"a":[{"b":1,"b":2}]}', "json_duplicate_key"),
        (b'{"a":{"b":1},"a":{"c":1}}', "json_duplicate_key"),
        (b'{"":1,"":2}', "json_duplicate_key"),
        (b'{"a":"::::","a":2}', "json_duplicate_key"),
        (b'{"a":1e999,"a":2}', "number_not_finite"),
        (b'{"a":%s,"a":1}' % (b"9" * 300), "json_duplicate_key"),
        (b'{"a":{"b":{"c":{"d":{}}}}}', "json_too_deep"),
        (b'{"a":[[[[]]]]}', "json_too_deep"),
        (b'{"a":[{"b":[{}]}]}', "json_too_deep"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "json_too_deep"),
        (b'{"a":%s%s}' % (b"[" * 5000, b"]" * 5000), "json_too_deep"),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, "json_too_deep"),
        (b"[" * 5000 + b"]" * 5000, "json_too_deep"),
        (b'{"a":NaN}', "number_not_finite"),
        (b'{"a":Infinity}', "number_not_finite"),
        (b'{"a":-Infinity}', "number_not_finite"),
        (b'{"a":1e400}', "number_not_finite"),
        (b'{"a":-1e400}', "number_not_finite"),
        (b'{"a":[1e999999999]}', "number_not_finite"),
        (b'{"a":%s.0}' % (b"9" * 400), "number_not_finite"),
        (b'{"a":9007199254740993}', "number_out_of_range"),
        (b'{"a":-9007199254740993}', "number_out_of_range"),
        (b'{"a":9223372036854775808}', "number_out_of_range"),
        (b'{"a":18446744073709551615}', "number_out_of_range"),
        (b'{"a":18446744073709551616}', "number_out_of_range"),
        (b'{"a":-9223372036854775809}', "number_out_of_range"),
        (b'{"a":1e16}', "number_out_of_range"),
        (b'{"a":1.7976931348623157e308}', "number_out_of_range"),
        (b'{"a":[{"b":1e300}]}', "number_out_of_range"),
        (b'{"a":%s}' % (b"9" * 400), "number_out_of_range"),
        (b'{"a":%s}' % (b"9" * 5000), "number_out_of_range"),
        (b'{"a":12345678901234567890,"b":1e999}', "number_not_finite"),
        (b'{"a":1.5,"b":1e999}', "number_not_finite"),
    ],
    ids=brief,
)
def test_hostile_json(text: bytes, code: str) -> None:
    """Refuse what two parsers could read differently, with the code of the reason."""
    assert parsed(text) == code


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        (b"{}", {}),
        (b' {"a" : 1 } \r\n\t', {"a": 1}),
        (b'{"a:b":"c:d"}', {"a:b": "c:d"}),
        (b'{"":0}', {"": 0}),
        (b'{"a":9007199254740992,"b":-9007199254740992}', {"a": 2**53, "b": -(2**53)}),
        (b'{"a":9007199254740992.0}', {"a": 2.0**53}),
        (b'{"a":1e-400}', {"a": 0.0}),
        (b'{"a":5e-324}', {"a": 5e-324}),
        (b'{"a":true,"b":null}', {"a": True, "b": None}),
        (b'{"a":[{"b":[1]}]}', {"a": [{"b": [1]}]}),
        (b'{"a":{"b":{"c":1}}}', {"a": {"b": {"c": 1}}}),
        ('{"a":"\u2028é😀"}'.encode(), {"a": "\u2028é😀"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"a":{"x":1},"b":{"x":1}}', {"a": {"x": 1}, "b": {"x": 1}}),
    ],
)
def test_unusual_json(text: bytes, claims: dict[str, Any]) -> None:
    """Take what every parser reads the same."""
    assert repr(envelope.parse(text)) == repr(claims)


@pytest.mark.parametrize(
    "text",
    [b'{"a":%s%s,"a":1}' % (b"[" * 1000, b"]" * 1000), b"[" * 16_000, b'{"a":' * 3000, b"[" * 8000 + b"]" * 8000],
    ids=["behind a duplicate key", "never closed", "objects", "closed"],
)
def test_depth_is_refused_in_a_small_thread(text: bytes) -> None:
    """Refuse deep nesting also where the stack is as small as musl makes it for a thread."""
    said: list[str] = []
    before = stack_size(131_072)
    thread = Thread(target=lambda: said.append(str(attempt(lambda: envelope.parse(text)))))
    thread.start()
    stack_size(before)
    thread.join()
    assert said == ["json_too_deep: at most 4"]


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError(pairs)
    return dict(pairs)


def standard(text: bytes) -> Any:
    """Parse with the standard library, as strictly as it can be told to."""
    return json.loads(text.decode(), parse_constant=_refuse_constant, object_pairs_hook=_pairs)


NUMBERS = st.integers(-(2**54), 2**54) | st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1e3, 1e3)
NAMES = st.text(max_size=4) | st.sampled_from(["a", "b", "iss", "metrics", ":", "\\", '"'])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)
TEXTS = st.builds(
    lambda document, ascii_only, indent: json.dumps(document, ensure_ascii=ascii_only, indent=indent),
    DOCUMENTS,
    st.booleans(),
    st.sampled_from([None, 1, "\t"]),
).map(lambda text: text.encode(errors="surrogatepass"))
FRAGMENTS = st.lists(
    st.sampled_from(
        [
            *(
                b"{",
                b"}",
                b"[",
                b"]",
                b":",
                b",",
                b'"',
                b'"a"',
                b'"a":',
                b'"b":',
                b"1",
                b"-0",
                b"-0.0",
                b"1e5",
                b"1E400",
            ),
            *(b"9007199254740993", b"0.1", b"true", b"null", b"NaN", b" ", b"\\", b"\\u0000", b"\\ud800", b"\xc3\xa9"),
            *(b"\xff", b"\x00", b"\xef\xbb\xbf", b'{"a":1}', b'{"a":1,"a":2}', b"1" * 25, b"1.0e-1"),
        ]
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=600)
@given(TEXTS | FRAGMENTS | FRAGMENTS.map(lambda inner: b'{"a":' + inner + b"}") | st.binary(max_size=40))
def test_json_is_read_as_the_standard_parser_reads_it(text: bytes) -> None:
    """Raise nothing but the error tree; read what is accepted, types and all, as the standard parser does."""
    code = parsed(text)
    assert code in {value.value for value in Code}.union({"accepted"})
    assert code != "accepted" or repr(envelope.parse(text)) == repr(standard(text))


@settings(max_examples=300)
@given(DOCUMENTS)
def test_well_formed_json_is_refused_for_a_reason(document: dict[str, Any]) -> None:
    """Refuse a well-formed document for its depth, its numbers or NUL only."""
    text = json.dumps(document)
    code = parsed(text.encode())
    assert code in {"accepted", "json_too_deep", "number_out_of_range", "json_invalid"}
    assert code != "json_invalid" or "\\u0000" in text


# --- What a refusal says


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"..", "malformed: not a compact JWS"),
        (b"A.AA.", "malformed: base64url of an impossible length"),
        (b"A+AA.AA.", "malformed: not base64url"),
        (b"A++++AAA.AA.", "malformed: not base64url"),
        (b"AB.AA.", "malformed: base64url is not canonical"),
        (hs256(b"", b"{}"), "signature_invalid"),
        (hs256(KEY, b"[]"), "json_invalid: not an object"),
        (hs256(KEY, b'{"a":"\\u0000"}'), "json_invalid: NUL"),
        (hs256(KEY, b'{"a":[[[[]]]]}'), "json_too_deep: at most 4"),
        (hs256(KEY, b"[" * 3000 + b"]" * 3000), "json_too_deep: at most 4"),
        (hs256(KEY, b'{"a":1e16}'), "number_out_of_range: beyond 2^53"),
        (hs256(KEY, b'{"a":%s}' % (b"9" * 400)), "number_out_of_range: beyond 2^53"),
        (hs256(KEY, to_json(CLAIMS | {"exp": "x"})), "field_invalid: exp"),
        (hs256(KEY, to_json(CLAIMS | {"iat": "x"})), "field_invalid: iat"),
    ],
    ids=brief,
)
def test_what_a_refusal_says(raw: bytes, said: str) -> None:
    """Tell the one who writes a device what to look at."""
    with pytest.raises(EnvelopeError) as caught:
        envelope.open_envelope(raw, HS, ISSUER, AUDIENCE, NOW)
    assert str(caught.value) == said


# --- Claims


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        (CLAIMS, "accepted"),
        (CLAIMS | {"device_id": ISSUER}, "accepted"),
        (CLAIMS | {"device_id": "tent-2"}, "issuer_mismatch"),
        (CLAIMS | {"device_id": None}, "issuer_mismatch"),
        (CLAIMS | {"device_id": ""}, "issuer_mismatch"),
        (CLAIMS | {"device_id": ["tent-1"]}, "issuer_mismatch"),
        (CLAIMS | {"iss": "tent-2"}, "issuer_mismatch"),
        (CLAIMS | {"iss": "Tent-1"}, "issuer_mismatch"),
        (CLAIMS | {"iss": "tent-1 "}, "issuer_mismatch"),
        (CLAIMS | {"iss": ["tent-1"]}, "issuer_mismatch"),
        (CLAIMS | {"iss": None}, "issuer_mismatch"),
        (CLAIMS | {"iss": "grokmon"}, "issuer_mismatch"),
        ({"aud": AUDIENCE}, "issuer_mismatch"),
        ({"iss": ISSUER}, "audience_mismatch"),
        (CLAIMS | {"aud": "grokmon/v1/tent-2/up/telemetry"}, "audience_mismatch"),
        (CLAIMS | {"aud": "grokmon/v1/tent-1/up/hello"}, "audience_mismatch"),
        (CLAIMS | {"aud": "grokmon/v1/tent-1/down/session"}, "audience_mismatch"),
        (CLAIMS | {"aud": "grokmon/v1/+/up/telemetry"}, "audience_mismatch"),
        (CLAIMS | {"aud": [AUDIENCE]}, "audience_mismatch"),
        (CLAIMS | {"aud": [AUDIENCE, "other"]}, "audience_mismatch"),
        (CLAIMS | {"aud": None}, "audience_mismatch"),
        (CLAIMS | {"aud": ""}, "audience_mismatch"),
        (CLAIMS | {"exp": NOW + 1}, "accepted"),
        (CLAIMS | {"exp": NOW}, "expired"),
        (CLAIMS | {"exp": nextafter(NOW, 2e9)}, "accepted"),
        (CLAIMS | {"exp": nextafter(NOW, 0)}, "expired"),
        (CLAIMS | {"exp": 0}, "expired"),
        (CLAIMS | {"exp": -1}, "expired"),
        (CLAIMS | {"exp": 2**53}, "accepted"),
        (CLAIMS | {"exp": str(NOW + 1)}, "field_invalid"),
        (CLAIMS | {"exp": None}, "field_invalid"),
        (CLAIMS | {"exp": True}, "field_invalid"),
        (CLAIMS | {"exp": []}, "field_invalid"),
        (CLAIMS | {"nbf": NOW}, "accepted"),
        (CLAIMS | {"nbf": nextafter(NOW, 2e9)}, "not_yet_valid"),
        (CLAIMS | {"nbf": 0}, "accepted"),
        (CLAIMS | {"nbf": "0"}, "field_invalid"),
        (CLAIMS | {"nbf": False}, "field_invalid"),
        (CLAIMS | {"nbf": None}, "field_invalid"),
        (CLAIMS | {"nbf": {}}, "field_invalid"),
        (CLAIMS | {"iat": NOW}, "accepted"),
        (CLAIMS | {"iat": 0.5}, "accepted"),
        (CLAIMS | {"iat": "yesterday"}, "field_invalid"),
        (CLAIMS | {"iat": True}, "field_invalid"),
        (CLAIMS | {"iat": None}, "field_invalid"),
        (CLAIMS | {"iat": {"a": 1}}, "field_invalid"),
        (CLAIMS | {"exp": NOW - 1, "iss": "tent-2"}, "issuer_mismatch"),
        (CLAIMS | {"exp": NOW - 1, "nbf": NOW + 1}, "expired"),
    ],
)
def test_claims(claims: dict[str, Any], code: str) -> None:
    """Accept what this device wrote for this topic and this time."""
    assert opened(hs256(KEY, to_json(claims))) == code


@given(st.dictionaries(st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "device_id"]), VALUES))
def test_any_claims(claims: dict[str, Any]) -> None:
    """Raise nothing but the error tree for any claims, and accept none without issuer and audience."""
    assert opened(hs256(KEY, json.dumps(CLAIMS | claims).encode())) in {code.value for code in Code}.union({"accepted"})
    assert opened(hs256(KEY, json.dumps(claims).encode())) in {code.value for code in Code}


# --- Sealing


@pytest.mark.parametrize(("party", "key"), [(HMAC_PARTY, KEY), (ECDSA_PARTY, EC_KEY), (EDDSA_PARTY, ED_KEY)], ids=str)
def test_sealed_claims_open(party: Party, key: bytes | PrivateKey) -> None:
    """Seal what the same algorithm opens, and what PyJWT reads."""
    reader = party.key
    sealed = envelope.seal(CLAIMS, SigningKey(algorithm=reader.algorithm, key=key))
    assert sealed.partition(b".")[0] in reader.headers
    assert envelope.open_envelope(sealed, reader, ISSUER, AUDIENCE, NOW) == CLAIMS
    assert jwt.decode(sealed, reader.key, algorithms=[reader.algorithm.value], audience=AUDIENCE) == CLAIMS
