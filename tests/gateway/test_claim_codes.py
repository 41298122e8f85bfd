"""Claim codes and requests: what a guesser gets to know, and what ends them."""

from base64 import urlsafe_b64decode
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, strategies as st
import jwt
import pytest

from custom_components.grokmon.gateway.claim_codes import (
    AUDIENCE,
    MAX_REQUESTS,
    TRIES,
    VALID_S,
    ClaimCodes,
    EnrolmentRequest,
    EnrolmentRequests,
    check_possession,
)
from custom_components.grokmon.gateway.credentials import fingerprint, new_site_key, private_pem, public_pem
from custom_components.grokmon.gateway.errors import Code, GatewayError, RegistryError, TransportError
from custom_components.grokmon.gateway.models import Algorithm, PrivateKey
from custom_components.grokmon.gateway.topics import RESERVED_IDS

from .wire import NOW

JUST_BEFORE = NOW + VALID_S - 0.001
PEMS = {algorithm: public_pem(new_site_key(algorithm)) for algorithm in (Algorithm.ES256, Algorithm.EDDSA)}
OTHER_PEM = public_pem(new_site_key(Algorithm.EDDSA))


@pytest.fixture
def codes() -> ClaimCodes:
    """Return codes of which none was issued."""
    return ClaimCodes()


@pytest.fixture
def requests() -> EnrolmentRequests:
    """Return requests of which none was made."""
    return EnrolmentRequests()


def _ask(
    requests: EnrolmentRequests,
    device_id: str = "tent-1",
    public_key: str = PEMS[Algorithm.EDDSA],
    now: float = NOW,
    host: str = "",
) -> EnrolmentRequest:
    """Let a device ask, from a host of its own unless told otherwise."""
    return requests.add(device_id, Algorithm.EDDSA, public_key, host or device_id, now)


def _refuses(codes: ClaimCodes, device_id: str, code: str, now: float = NOW) -> None:
    """Be refused, with nothing said about why."""
    with pytest.raises(TransportError) as refused:
        codes.redeem(device_id, code, now)
    assert (refused.value.code, refused.value.detail) == (Code.CLAIM_INVALID, "")


# Codes


def test_code_has_128_bits(codes: ClaimCodes) -> None:
    """A code is 16 random bytes, and never the same."""
    issued = {codes.issue("tent-1", NOW) for _ in range(100)}
    assert len(issued) == 100
    assert {len(urlsafe_b64decode(f"{code}==")) for code in issued} == {16}


def test_code_works_once(codes: ClaimCodes) -> None:
    """What was redeemed is used up."""
    code = codes.issue("tent-1", NOW)
    codes.redeem("tent-1", code, NOW)
    _refuses(codes, "tent-1", code)
    assert not codes.waits("tent-1", NOW)


def test_code_is_kept_as_a_hash(codes: ClaimCodes) -> None:
    """Nobody who looks into the memory of the codes, or at their repr, finds one."""
    code = codes.issue("tent-1", NOW)
    assert code not in repr(codes._claims)
    assert code.encode() not in b"".join(claim.digest for claim in codes._claims.values())


def test_right_code_at_the_last_try(codes: ClaimCodes) -> None:
    """Four wrong tries are forgiven."""
    code = codes.issue("tent-1", NOW)
    for _ in range(TRIES - 1):
        _refuses(codes, "tent-1", "wrong")
    codes.redeem("tent-1", code, NOW)


def test_five_wrong_tries_void_a_code(codes: ClaimCodes) -> None:
    """After the fifth wrong one not even the right one counts."""
    code = codes.issue("tent-1", NOW)
    for _ in range(TRIES):
        assert codes.waits("tent-1", NOW)
        _refuses(codes, "tent-1", "wrong")
    assert not codes.waits("tent-1", NOW)
    _refuses(codes, "tent-1", code)


def test_new_code_has_all_its_tries(codes: ClaimCodes) -> None:
    """What was guessed at before does not count against the next code."""
    codes.issue("tent-1", NOW)
    for _ in range(TRIES - 1):
        _refuses(codes, "tent-1", "wrong")
    code = codes.issue("tent-1", NOW)
    for _ in range(TRIES - 1):
        _refuses(codes, "tent-1", "wrong")
    codes.redeem("tent-1", code, NOW)


def test_wrong_tries_cost_nobody_else(codes: ClaimCodes) -> None:
    """Who guesses in the name of one device does not end the code of another."""
    codes.issue("tent-1", NOW)
    code = codes.issue("tent-2", NOW)
    for _ in range(TRIES + 1):
        _refuses(codes, "tent-1", "wrong")
        _refuses(codes, "nobody", "wrong")
    codes.redeem("tent-2", code, NOW)


def test_code_is_for_one_device(codes: ClaimCodes) -> None:
    """The right code of another device is a wrong code."""
    code = codes.issue("tent-1", NOW)
    codes.issue("tent-2", NOW)
    _refuses(codes, "tent-2", code)
    _refuses(codes, "tent-3", code)
    codes.redeem("tent-1", code, NOW)


def test_code_lasts_fifteen_minutes(codes: ClaimCodes) -> None:
    """A moment before the end it works, at the end it does not."""
    code = codes.issue("tent-1", NOW)
    assert (codes.waits("tent-1", JUST_BEFORE), codes.waits("tent-1", NOW + VALID_S)) == (True, False)
    _refuses(codes, "tent-1", code, NOW + VALID_S)
    # It is gone: not even a clock that is set back brings it into use.
    _refuses(codes, "tent-1", code, NOW)
    codes.redeem("tent-1", codes.issue("tent-1", NOW), JUST_BEFORE)


def test_later_code_voids_the_earlier(codes: ClaimCodes) -> None:
    """A device has one code at a time."""
    first, second = codes.issue("tent-1", NOW), codes.issue("tent-1", NOW)
    _refuses(codes, "tent-1", first)
    codes.redeem("tent-1", second, NOW)


def test_withdrawn_code(codes: ClaimCodes) -> None:
    """A withdrawn code is void; to withdraw one that is not there is no error."""
    code = codes.issue("tent-1", NOW)
    codes.withdraw("tent-1")
    codes.withdraw("tent-1")
    _refuses(codes, "tent-1", code)


@given(wrong=st.text())
def test_nothing_but_the_code(wrong: str) -> None:
    """No text but the code itself is taken for it: no part of it, no other case, no padding, nothing empty."""
    codes = ClaimCodes()
    code = codes.issue("tent-1", NOW)
    for guess in (wrong, code[:-1], f"{code}=", f" {code}"):
        _refuses(codes, "tent-1", guess)
    codes.redeem("tent-1", code, NOW)


# Requests


@pytest.mark.parametrize("algorithm", PEMS)
def test_request(requests: EnrolmentRequests, algorithm: Algorithm) -> None:
    """A request holds what an administrator compares, and does not show its key in a log."""
    request = requests.add("tent-1", algorithm, PEMS[algorithm], "192.0.2.7", NOW)
    assert request == EnrolmentRequest(
        device_id="tent-1",
        algorithm=algorithm,
        public_key=PEMS[algorithm],
        fingerprint=fingerprint(algorithm, PEMS[algorithm]),
        host="192.0.2.7",
        ends=NOW + VALID_S,
    )
    assert PEMS[algorithm] not in repr(request)


def test_asking_again_changes_nothing(requests: EnrolmentRequests) -> None:
    """A device that polls is the same request, which ends when it would have ended."""
    first = _ask(requests)
    assert not requests.waits("tent-2", NOW)
    assert requests.waits("tent-1", NOW)
    assert _ask(requests, now=JUST_BEFORE) is first
    assert not requests.waits("tent-1", NOW + VALID_S)


@pytest.mark.parametrize(
    "device_id", ["", "Tent-1", "tent 1", "../tent", "#", "a/b", "x" * 33, "tent-1\n", "ä", *RESERVED_IDS]
)
def test_identifier_that_cannot_be_enrolled(requests: EnrolmentRequests, device_id: str) -> None:
    """What could not be enrolled is not shown to anybody; neither are the names of the probe."""
    with pytest.raises(RegistryError) as refused:
        _ask(requests, device_id)
    assert refused.value.code is Code.DEVICE_ID_INVALID


def _pem(key: EllipticCurvePublicKey | RSAPublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


NO_KEYS = {
    "empty": "",
    "no PEM": "tent",
    "another algorithm": PEMS[Algorithm.ES256],
    "private": private_pem(new_site_key(Algorithm.EDDSA)),
    "P-384": _pem(generate_private_key(SECP384R1()).public_key()),
    "RSA": _pem(generate_rsa_key(public_exponent=65537, key_size=2048).public_key()),
}


@pytest.mark.parametrize("kind", NO_KEYS)
def test_key_that_cannot_be_used(requests: EnrolmentRequests, kind: str) -> None:
    """A key that the device could not be enrolled with does not take a place among those who wait."""
    with pytest.raises(RegistryError) as refused:
        _ask(requests, public_key=NO_KEYS[kind])
    assert refused.value.code is Code.PUBLIC_KEY_INVALID
    assert not requests.waits("tent-1", NOW)


@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.EDDSA])
def test_possession(algorithm: Algorithm) -> None:
    """Whoever has the private half shows it by a signature, for this device and this purpose."""
    key = new_site_key(algorithm)
    claims = {"iss": "tent-1", "aud": AUDIENCE}

    def proof(key: PrivateKey = key, **changes: Any) -> bytes:
        return jwt.encode({**claims, **changes}, key, algorithm=algorithm.value).encode()

    check_possession("tent-1", algorithm, public_pem(key), proof(), NOW)
    refused = {
        proof(new_site_key(algorithm)): Code.SIGNATURE_INVALID,
        proof(iss="tent-2"): Code.ISSUER_MISMATCH,
        proof(aud="grokmon/http"): Code.AUDIENCE_MISMATCH,
        proof(exp=int(NOW)): Code.EXPIRED,
        b"": Code.MALFORMED,
        proof()[:-1]: Code.MALFORMED,
    }
    for each, code in refused.items():
        with pytest.raises(GatewayError) as error:
            check_possession("tent-1", algorithm, public_pem(key), each, NOW)
        assert error.value.code is code


def test_shared_key_is_not_brought() -> None:
    """A root key does not travel to Home Assistant."""
    with pytest.raises(RegistryError) as refused:
        check_possession("tent-1", Algorithm.HS256, "secret", b"", NOW)
    assert refused.value.code is Code.PUBLIC_KEY_INVALID
    assert "claim code" in refused.value.detail


def test_nobody_changes_what_is_looked_at(requests: EnrolmentRequests) -> None:
    """While a device waits, another key under its name is refused, and the request stays as it was."""
    first = _ask(requests)
    with pytest.raises(RegistryError) as refused:
        _ask(requests, public_key=OTHER_PEM, now=JUST_BEFORE)
    assert refused.value.code is Code.DEVICE_EXISTS
    with pytest.raises(RegistryError):
        requests.add("tent-1", Algorithm.ES256, PEMS[Algorithm.ES256], "192.0.2.7", NOW)
    assert requests.find("tent-1", first.fingerprint, JUST_BEFORE) is first


def test_another_key_after_the_end_is_another_request(requests: EnrolmentRequests) -> None:
    """An old dialog does not approve what came after it."""
    old = _ask(requests)
    other = _ask(requests, public_key=OTHER_PEM, now=NOW + VALID_S)
    assert other.fingerprint != old.fingerprint
    with pytest.raises(TransportError):
        requests.find("tent-1", old.fingerprint, NOW + VALID_S)
    assert requests.find("tent-1", other.fingerprint, NOW + VALID_S) is other


def test_eight_at_most(requests: EnrolmentRequests) -> None:
    """Whoever makes up devices fills no more than eight places; those who wait already may ask on."""
    for number in range(MAX_REQUESTS):
        first = _ask(requests, f"tent-{MAX_REQUESTS - 1 - number}")
    with pytest.raises(TransportError) as refused:
        _ask(requests, "one-more")
    assert str(refused.value).startswith("rate_limited: 8 requests")
    assert _ask(requests, "tent-7", now=JUST_BEFORE).device_id == "tent-7"
    requests.withdraw("tent-0", first.fingerprint)
    _ask(requests, "one-more")


def test_two_of_a_host_at_most(requests: EnrolmentRequests) -> None:
    """One host holds no more than two places, for no longer than they wait, and may ask on for these."""
    first, _ = (_ask(requests, f"tent-{number}", host="a") for number in range(2))
    with pytest.raises(TransportError) as refused:
        _ask(requests, "one-more", host="a")
    assert str(refused.value) == "rate_limited: 2 requests of this address wait for an administrator"
    assert _ask(requests, "tent-1", host="a").device_id == "tent-1"
    assert _ask(requests, "of-another", host="b").host == "b"
    requests.withdraw("tent-0", first.fingerprint)
    _ask(requests, "one-more", host="a")
    assert _ask(requests, "later", host="a", now=NOW + VALID_S).device_id == "later"


def test_places_are_free_again_when_requests_end(requests: EnrolmentRequests) -> None:
    """Nobody holds a place for longer than fifteen minutes."""
    for number in range(MAX_REQUESTS):
        _ask(requests, f"tent-{number}")
    assert _ask(requests, "one-more", now=NOW + VALID_S).device_id == "one-more"


def test_request_is_found_until_it_ends(requests: EnrolmentRequests) -> None:
    """It is found by name and fingerprint, as often as it takes, and not after its end."""
    request = _ask(requests)
    for _ in range(2):
        assert requests.find("tent-1", request.fingerprint, JUST_BEFORE) is request
    for device_id, print_, now in (
        ("tent-1", request.fingerprint, NOW + VALID_S),
        ("tent-1", "", NOW),
        ("tent-2", request.fingerprint, NOW),
    ):
        with pytest.raises(GatewayError) as refused:
            requests.find(device_id, print_, now)
        assert refused.value.code is Code.CLAIM_INVALID


def test_withdrawn_request(requests: EnrolmentRequests) -> None:
    """What was withdrawn is not found; to withdraw it again is no error."""
    request = _ask(requests)
    for _ in range(2):
        requests.withdraw("tent-1", request.fingerprint)
    assert not requests.waits("tent-1", NOW)
    with pytest.raises(TransportError):
        requests.find("tent-1", request.fingerprint, NOW)


def test_requests_are_forgotten(requests: EnrolmentRequests) -> None:
    """What was over some minutes ago is returned once, and no longer in the way of anybody meanwhile."""
    first = _ask(requests)
    assert requests.expire(NOW + VALID_S) == []
    second = _ask(requests, "tent-2")
    assert _ask(requests, now=NOW + VALID_S) != first
    assert requests.expire(NOW + VALID_S + 300) == [second]
    assert requests.expire(NOW + VALID_S + 300) == []


def test_request_whose_name_was_taken_is_forgotten_too(requests: EnrolmentRequests) -> None:
    """What is over is returned though another key asks under its name; one that was approved does not hide it."""
    first = _ask(requests)
    other = _ask(requests, public_key=OTHER_PEM, now=NOW + VALID_S)
    assert requests.waits("tent-1", NOW + VALID_S)
    requests.withdraw("tent-1", other.fingerprint)
    assert requests.expire(NOW + VALID_S + 300) == [first]
    assert requests.expire(NOW + 3 * VALID_S) == []


def test_request_that_is_made_anew_is_not_forgotten(requests: EnrolmentRequests) -> None:
    """A device that asks again while another's request is over under its name is shown on."""
    _ask(requests)
    other = _ask(requests, public_key=OTHER_PEM, now=NOW + VALID_S)
    again = _ask(requests, now=NOW + 2 * VALID_S)
    assert requests.expire(NOW + 2 * VALID_S + 300) == [other]
    assert requests.find("tent-1", again.fingerprint, NOW + 2 * VALID_S + 300) is again
