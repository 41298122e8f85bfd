"""Tests of the credentials."""

import base64
from collections.abc import Callable
from dataclasses import replace
import hashlib
import hmac
from math import inf
import re
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
import pytest

from custom_components.grokmon.gateway import credentials
from custom_components.grokmon.gateway.errors import Code, RegistryError
from custom_components.grokmon.gateway.models import Algorithm, Credential, CredentialState, PrivateKey

from .wire import NOW, public_pem

EC_KEY = generate_private_key(SECP256R1())
ED_KEY = Ed25519PrivateKey.generate()
PUBLIC_KEYS = [(Algorithm.ES256, public_pem(EC_KEY)), (Algorithm.EDDSA, public_pem(ED_KEY))]
ROOT = Credential(key_id="0a0b0c0d", algorithm=Algorithm.HS256, created=NOW, secret=bytes(range(32)))
NO_HEADERS = frozenset[bytes]()

# The encodings of the points of small order on edwards25519: for each of them a signature that fits any message exists.
FIELD = 2**255 - 19
ORDER_EIGHT = int("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd83d3d706a17c7", 16)
SMALL_ORDER = [0, 1, FIELD - 1, FIELD, FIELD + 1, ORDER_EIGHT, FIELD - ORDER_EIGHT]


def spki(key: Any) -> str:
    """Return any public key in PEM."""
    pem: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def encoded_point(y: int, sign: int) -> Ed25519PublicKey:
    """Return a public key of these bytes, whatever point they stand for."""
    return Ed25519PublicKey.from_public_bytes((y | sign << 255).to_bytes(32, "little"))


# --- Issue


def test_new_root_keys() -> None:
    """Issue 32 random bytes and a random identifier, other ones each time."""
    issued = [credentials.issue(Algorithm.HS256, NOW) for _ in range(50)]
    assert {len(credential.secret) for credential in issued} == {32}
    assert len({credential.secret for credential in issued}) == 50
    assert len({credential.key_id for credential in issued}) == 50
    assert {len(bytes.fromhex(credential.key_id)) for credential in issued} == {4}
    assert {(credential.created, credential.algorithm, credential.public_key) for credential in issued} == {
        (NOW, Algorithm.HS256, "")
    }


@pytest.mark.parametrize(("algorithm", "pem"), PUBLIC_KEYS)
def test_enrolled_public_key(algorithm: Algorithm, pem: str) -> None:
    """Keep the public key of a device in one spelling, and no secret."""
    credential = credentials.issue(algorithm, NOW, "a remark before it\n" + pem.replace("\n", "\r\n") + "and after\n")
    assert (credential.algorithm, credential.public_key, credential.secret) == (algorithm, pem, b"")
    assert len(bytes.fromhex(credential.key_id)) == 4


def test_compressed_point() -> None:
    """Take a compressed point, and keep it in the usual spelling."""
    point = EC_KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    compressed = ec.EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
    assert credentials.issue(Algorithm.ES256, NOW, spki(compressed)).public_key == public_pem(EC_KEY)


@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.EDDSA])
@pytest.mark.parametrize(
    "pem",
    [
        "",
        "\x00",
        "not a key",
        "\ud800",
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\n%%%%\n-----END PUBLIC KEY-----\n",
        public_pem(EC_KEY)[:-40],
        public_pem(ED_KEY)[:-40],
        public_pem(EC_KEY).replace("PUBLIC", "PRIVATE"),
        EC_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        ED_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        spki(generate_private_key(SECP384R1()).public_key()),
        spki(generate_private_key(SECP256K1()).public_key()),
        spki(rsa.generate_private_key(65537, 2048).public_key()),
        spki(x25519.X25519PrivateKey.generate().public_key()),
        spki(ed448.Ed448PrivateKey.generate().public_key()),
    ],
)
def test_hostile_public_key(algorithm: Algorithm, pem: str) -> None:
    """Refuse what is no public key of the algorithm."""
    with pytest.raises(RegistryError) as caught:
        credentials.issue(algorithm, NOW, pem)
    assert caught.value.code is Code.PUBLIC_KEY_INVALID
    assert caught.value.detail in {"not a public key in PEM", f"not a key for {algorithm}"}


@pytest.mark.parametrize(
    "take",
    [
        lambda pem: credentials.issue(Algorithm.ES256, NOW, pem),
        lambda pem: credentials.fingerprint(Algorithm.ES256, pem),
    ],
    ids=["issue", "fingerprint"],
)
def test_huge_public_key(take: Callable[[str], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse what is too long before OpenSSL checks it, good as it may be, and read what is just not too long."""
    pem = public_pem(EC_KEY)
    take(pem.rjust(credentials.MAX_PUBLIC_KEY_LENGTH))
    monkeypatch.setattr(credentials, "load_pem_public_key", pytest.fail)
    with pytest.raises(RegistryError, match="public_key_invalid: longer than 1024 characters, paste"):
        take(pem.rjust(credentials.MAX_PUBLIC_KEY_LENGTH + 1))


def test_point_beside_the_curve() -> None:
    """Refuse coordinates that are no point of the curve."""
    der = bytearray(EC_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    der[-1] ^= 1
    with pytest.raises(RegistryError, match="public_key_invalid"):
        credentials.issue(Algorithm.ES256, NOW, spki_of_der(bytes(der)))


def spki_of_der(der: bytes) -> str:
    """Return DER in the armour of PEM."""
    return f"-----BEGIN PUBLIC KEY-----\n{base64.encodebytes(der).decode()}-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize(
    ("algorithm", "pem"), [(Algorithm.ES256, PUBLIC_KEYS[1][1]), (Algorithm.EDDSA, PUBLIC_KEYS[0][1])]
)
def test_public_key_of_the_other_algorithm(algorithm: Algorithm, pem: str) -> None:
    """Refuse a good key of the other algorithm, naming the one that is asked for."""
    with pytest.raises(RegistryError, match=f"not a key for {algorithm}"):
        credentials.issue(algorithm, NOW, pem)


def test_why_small_order_matters() -> None:
    """Show that OpenSSL verifies a signature of zeros under the neutral point, for any message."""
    neutral = encoded_point(1, 0)
    forged = neutral.public_bytes_raw() + bytes(32)
    neutral.verify(forged, b"any message")
    with pytest.raises(InvalidSignature):
        ED_KEY.public_key().verify(forged, b"any message")


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", SMALL_ORDER)
def test_public_key_that_everybody_can_sign_for(y: int, sign: int) -> None:
    """Refuse the points of small order, at enrolment and from the store."""
    pem = spki(encoded_point(y, sign))
    with pytest.raises(RegistryError, match=r"^public_key_invalid: a key that anybody can sign for$"):
        credentials.issue(Algorithm.EDDSA, NOW, pem)
    stored = Credential(key_id="k", algorithm=Algorithm.EDDSA, created=NOW, public_key=pem)
    with pytest.raises(RegistryError, match="public_key_invalid"):
        credentials.verifying_key(stored, NO_HEADERS)


# --- Derive and load


def test_derived_keys() -> None:
    """Derive the keys of both directions as the protocol says."""
    up = credentials.verifying_key(ROOT, NO_HEADERS)
    down = credentials.signing_key(ROOT, None)
    assert up.key == hmac.new(bytes(range(32)), b"grokmon/v1/up", hashlib.sha256).digest()
    assert down.key == hmac.new(bytes(range(32)), b"grokmon/v1/down", hashlib.sha256).digest()
    assert (up.key_id, up.algorithm, up.headers) == ("0a0b0c0d", Algorithm.HS256, NO_HEADERS)
    assert down.algorithm is Algorithm.HS256


def test_derived_keys_as_bytes() -> None:
    """Derive what any other implementation derives from the root key 00 01 … 1f."""
    up = credentials.verifying_key(ROOT, NO_HEADERS)
    assert isinstance(up.key, bytes)
    assert up.key.hex() == "e3b37d95df81b60d2f18feb5081d5fb0237204cc4b96dc5fabb759d7b08266d8"


@pytest.mark.parametrize("secret", [b"", b"\x00", bytes(31), bytes(33)])
@pytest.mark.parametrize(
    "derive",
    [
        lambda credential: credentials.verifying_key(credential, NO_HEADERS),
        lambda credential: credentials.signing_key(credential, None),
    ],
)
def test_root_key_of_another_length(secret: bytes, derive: Callable[[Credential], Any]) -> None:
    """Derive nothing from a root key that a damaged store has lost: everybody knows the key of no bytes."""
    with pytest.raises(RegistryError, match="field_invalid: secret"):
        derive(replace(ROOT, secret=secret))


@pytest.mark.parametrize(("algorithm", "pem"), PUBLIC_KEYS)
def test_loaded_public_key(algorithm: Algorithm, pem: str) -> None:
    """Verify with the key that was enrolled."""
    key = credentials.verifying_key(credentials.issue(algorithm, NOW, pem), frozenset({b"header"}))
    assert not isinstance(key.key, bytes)
    assert spki(key.key) == pem
    assert (key.algorithm, key.headers) == (algorithm, frozenset({b"header"}))


@pytest.mark.parametrize(("algorithm", "pem"), PUBLIC_KEYS)
def test_messages_to_a_device_with_its_own_key(algorithm: Algorithm, pem: str) -> None:
    """Sign with the site's key, and refuse to go on without one."""
    credential = credentials.issue(algorithm, NOW, pem)
    site_key = credentials.new_site_key(algorithm)
    assert credentials.signing_key(credential, site_key).key is site_key
    assert credentials.signing_key(credential, site_key).algorithm is algorithm
    with pytest.raises(RegistryError, match="public_key_invalid"):
        credentials.signing_key(credential, None)


# --- What is not a key


DAY = 86_400.0


def test_lifetimes() -> None:
    """Let everything that is issued hold from now on, for as long as its kind may, and be used by nobody yet."""
    issued = [
        credentials.issue(Algorithm.HS256, NOW),
        credentials.issue_password(NOW),
        credentials.issue_token(NOW),
        credentials.record_certificate("0a", "PEM", NOW, NOW + 7 * DAY),
    ]
    assert [(each.kind.value, (each.not_after - NOW) / DAY) for each in issued] == [
        ("key", 365),
        ("password", 180),
        ("token", 90),
        ("certificate", 7),
    ]
    assert {(each.created, each.not_before, each.ends, each.state) for each in issued} == {
        (NOW, NOW, inf, CredentialState.PENDING)
    }


def test_passwords() -> None:
    """Issue 192 random bits in characters that need no escaping, and an account of its own for each."""
    issued = [credentials.issue_password(NOW) for _ in range(50)]
    assert len({each.secret for each in issued}) == 50
    assert all(re.fullmatch(rb"[A-Za-z0-9_-]{32}", each.secret) for each in issued)
    names = [credentials.account_name("tent-1", each) for each in issued]
    assert len(set(names)) == 50
    assert all(re.fullmatch(r"tent-1\.[0-9a-f]{8}", name) for name in names)


def test_token_records() -> None:
    """Keep nothing of a token but 128 random bits of name: whoever reads the records can make none."""
    issued = [credentials.issue_token(NOW) for _ in range(50)]
    assert len({each.key_id for each in issued}) == 50
    assert {len(bytes.fromhex(each.key_id)) for each in issued} == {16}
    assert {(each.secret, each.public_key) for each in issued} == {(b"", "")}


def test_certificate_record() -> None:
    """Keep a certificate under its serial number."""
    record = credentials.record_certificate("0a0b", "PEM", NOW, NOW + 1)
    assert (record.key_id, record.public_key, record.secret) == ("0a0b", "PEM", b"")


@pytest.mark.parametrize(("algorithm", "pem"), PUBLIC_KEYS)
def test_fingerprint(algorithm: Algorithm, pem: str) -> None:
    """Show the first half of the SHA-256 of the key in DER, whatever its PEM looks like."""
    der = b"".join(base64.b64decode(line) for line in pem.splitlines() if "-" not in line)
    shown = credentials.fingerprint(algorithm, "a remark\n" + pem.replace("\n", "\r\n"))
    assert re.fullmatch(r"([0-9a-f]{4} ){7}[0-9a-f]{4}", shown)
    assert shown.replace(" ", "") == hashlib.sha256(der).hexdigest()[:32]


@pytest.mark.parametrize(("algorithm", "pem"), [(Algorithm.ES256, PUBLIC_KEYS[1][1]), (Algorithm.EDDSA, "no key")])
def test_fingerprint_of_no_key(algorithm: Algorithm, pem: str) -> None:
    """Show no fingerprint of what could not be enrolled."""
    with pytest.raises(RegistryError, match="public_key_invalid"):
        credentials.fingerprint(algorithm, pem)


# --- The site's keys


@pytest.mark.parametrize(
    ("algorithm", "kind"), [(Algorithm.ES256, ec.EllipticCurvePrivateKey), (Algorithm.EDDSA, Ed25519PrivateKey)]
)
def test_site_key_on_paper(algorithm: Algorithm, kind: type[PrivateKey]) -> None:
    """Make a key of the algorithm, write it and read it back."""
    key = credentials.new_site_key(algorithm)
    assert isinstance(key, kind)
    written = credentials.private_pem(key)
    assert credentials.private_pem(credentials.load_site_key(written)) == written
    assert credentials.public_pem(credentials.load_site_key(written)) == public_pem(key)
    assert credentials.private_pem(credentials.new_site_key(algorithm)) != written
