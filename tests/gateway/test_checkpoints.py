"""Tests of the signer: what it signs, anybody can check."""

from base64 import b64decode
import hashlib
from time import process_time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway.audit import Position, checkpoints, whole_checkpoints
from custom_components.grokmon.gateway.checkpoints import Signer

from .wire import NOW

PRIVATE = bytes(range(32))
PUBLIC = Ed25519PrivateKey.from_private_bytes(PRIVATE).public_key().public_bytes_raw()
SIGNER = Signer(PRIVATE)


def test_name_of_a_key() -> None:
    """Name the trail by its public key, so that two trails are never taken for one."""
    assert SIGNER.public_key == PUBLIC
    assert SIGNER.origin == f"grokmon/audit/{PUBLIC.hex()[:16]}"
    assert Signer(bytes(32)).origin != SIGNER.origin


def test_signature_as_anybody_checks_it() -> None:
    """Sign the text up to the empty line; name the key in the four bytes before the signature (C2SP signed-note)."""
    head = hashlib.sha256(b"line").hexdigest()
    signed = SIGNER(Position(42, head), NOW)
    text, empty, last = signed.partition("\n\n")
    text += "\n"
    assert empty
    dash, name, encoded = last.removesuffix("\n").split(" ")
    assert (dash, name) == ("\u2014", SIGNER.origin)
    raw = b64decode(encoded, validate=True)
    assert raw[:4] == hashlib.sha256(SIGNER.origin.encode() + b"\n\x01" + PUBLIC).digest()[:4]
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(raw[4:], text.encode())
    origin, count, digest, at = text.splitlines()
    assert (origin, count, at) == (SIGNER.origin, "42", "2025-11-22T22:20:00+00:00")
    assert b64decode(digest, validate=True).hex() == head


@given(st.integers(0, 10**18 - 1), st.binary(min_size=32, max_size=32), st.floats(0, 4e9))
def test_any_checkpoint(count: int, head: bytes, now: float) -> None:
    """Read every checkpoint that was signed, and find its signature good; no other key signed it."""
    position = Position(count, head.hex())
    (read,) = checkpoints(SIGNER(position, now))
    assert (read.position, read.origin) == (position, SIGNER.origin)
    assert read.signed_by(SIGNER.public_key) is True
    assert read.signed_by(Signer(bytes(32)).public_key) is False


@given(st.integers(0, 3), st.integers(0, 400))
def test_torn_checkpoint(whole: int, cut: int) -> None:
    """Count the bytes of whole checkpoints, wherever a power cut ended the one after them."""
    note = SIGNER(Position(1, "00" * 32), NOW).encode()
    torn = note[: cut % len(note)]
    assert whole_checkpoints(note * whole + torn) == len(note) * whole


def test_torn_character() -> None:
    """Count what is whole, also when the cut went through a character."""
    note = SIGNER(Position(1, "00" * 32), NOW).encode()
    assert whole_checkpoints(note + "\u2014".encode()[:2]) == len(note)


@pytest.mark.parametrize(
    "text",
    ["a" * 100_000, f"{SIGNER(Position(1, '00' * 32), NOW).partition('\n\n')[0]}\n" * 10_000],
    ids=["word", "beginnings"],
)
def test_what_has_no_end_is_read_once(text: str) -> None:
    """Find in no time that a text is no checkpoint: whoever writes to the anchor stops no verification."""
    begun = process_time()
    assert whole_checkpoints(text.encode()) == 0
    with pytest.raises(ValueError, match="not a checkpoint"):
        list(checkpoints(text))
    assert process_time() - begun < 2
