"""The vault: what it gives back, what it refuses, and what it says about it."""

from base64 import urlsafe_b64encode
import traceback

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway.vault import KEK_BYTES, Vault, VaultError

KEY = bytes(range(KEK_BYTES))
OTHER = bytes(range(1, KEK_BYTES + 1))
VAULT = Vault(KEY)
SECRET = b"the root key of the device tent-1"
OWNERS = st.text(max_size=40)


def _sealed(data: bytes = SECRET) -> str:
    return VAULT.seal(data, "device/tent-1")


def _with_body(body: str) -> str:
    return f"1.{VAULT.key_id}.{body}"


@given(data=st.binary(max_size=300), owner=OWNERS)
def test_sealed_comes_back(data: bytes, owner: str) -> None:
    """Seal anything for anybody, and get it back; the text names version and key."""
    text = VAULT.seal(data, owner)
    assert text.isascii()
    assert text.split(".")[:2] == ["1", VAULT.key_id]
    assert Vault(KEY).unseal(text, owner) == data


@given(data=st.binary(max_size=300), owner=OWNERS)
def test_frame_comes_back(data: bytes, owner: str) -> None:
    """Seal a frame of any content, and get it back."""
    assert Vault(KEY).unseal_bytes(VAULT.seal_bytes(data, owner), owner) == data


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_key_of_another_length(length: int) -> None:
    """Refuse a key that is none, without telling it."""
    with pytest.raises(ValueError, match=r"^the key must have 32 bytes$"):
        Vault(b"k" * length)


def test_sealed_twice_is_not_the_same() -> None:
    """Draw a nonce every time: equal secrets must not look equal."""
    assert len({_sealed() for _ in range(50)}) == 50
    assert len({VAULT.seal_bytes(SECRET, "x")[:12] for _ in range(50)}) == 50


@pytest.mark.parametrize("size", range(6))
def test_every_altered_byte_is_refused(size: int) -> None:
    """Alter any bit of what is sealed, of whatever length: it does not come back."""
    text = _sealed(SECRET[:size])
    for position in range(len(text)):
        for bit in range(7):
            altered = f"{text[:position]}{chr(ord(text[position]) ^ 1 << bit)}{text[position + 1 :]}"
            with pytest.raises(VaultError):
                VAULT.unseal(altered, "device/tent-1")


@given(position=st.integers(0, 200), junk=st.sampled_from(["!", "\n", " ", "=", "~", "\x00"]))
def test_every_inserted_byte_is_refused(position: int, junk: str) -> None:
    """Refuse what was padded with bytes that base64 overlooks."""
    text = _sealed()
    position %= len(text) + 1
    with pytest.raises(VaultError):
        VAULT.unseal(text[:position] + junk + text[position:], "device/tent-1")


@given(cut=st.integers(0, 200))
def test_every_cut_is_refused(cut: int) -> None:
    """Refuse what lacks its end."""
    text = _sealed()
    with pytest.raises(VaultError):
        VAULT.unseal(text[: cut % len(text)], "device/tent-1")


@given(data=st.data())
def test_every_altered_byte_of_a_frame_is_refused(data: st.DataObject) -> None:
    """Alter or cut a frame anywhere: it does not come back."""
    frame = VAULT.seal_bytes(SECRET, "telemetry/2026-11-23/0")
    position = data.draw(st.integers(0, len(frame) - 1))
    flip = data.draw(st.integers(1, 255))
    altered = frame[:position] + bytes([frame[position] ^ flip]) + frame[position + 1 :]
    for wrong in (altered, frame[:position], frame + b"\x00"):
        with pytest.raises(VaultError, match=r"^telemetry/2026-11-23/0: altered, or somebody else's$"):
            VAULT.unseal_bytes(wrong, "telemetry/2026-11-23/0")


@given(owner=OWNERS, thief=OWNERS)
def test_owner_is_bound(owner: str, thief: str) -> None:
    """Refuse to give anybody what was sealed for somebody else."""
    text, frame = VAULT.seal(SECRET, owner), VAULT.seal_bytes(SECRET, owner)
    if owner == thief:
        assert VAULT.unseal(text, thief) == VAULT.unseal_bytes(frame, thief) == SECRET
        return
    with pytest.raises(VaultError, match=r"altered, or somebody else's$"):
        VAULT.unseal(text, thief)
    with pytest.raises(VaultError, match=r"altered, or somebody else's$"):
        VAULT.unseal_bytes(frame, thief)


@pytest.mark.parametrize("claimed", ["0", "2", "01", "+1", "1_", "\u0661", "9" * 5000])
def test_version_is_bound(claimed: str) -> None:
    """Refuse what claims to be of another version, or writes its own in another way."""
    with pytest.raises(VaultError, match=r"^x: not sealed$"):
        VAULT.unseal(claimed + VAULT.seal(SECRET, "x")[1:], "x")


def test_seals_and_frames_do_not_mix() -> None:
    """Use another key for frames: neither passes for the other, even with what it is bound to made equal."""
    frame = VAULT.seal_bytes(SECRET, "x:1")
    with pytest.raises(VaultError):
        VAULT.unseal(_with_body(urlsafe_b64encode(frame).decode()), "x")


def test_other_key_is_named() -> None:
    """Name the key that it was sealed with and the one that is here, so that the right one can be found."""
    other = Vault(OTHER)
    assert other.key_id != VAULT.key_id
    with pytest.raises(VaultError) as refused:
        other.unseal(_sealed(), "device/tent-1")
    assert str(refused.value) == f"device/tent-1: sealed with key {VAULT.key_id}, and this is key {other.key_id}"
    with pytest.raises(VaultError, match="altered"):
        other.unseal_bytes(VAULT.seal_bytes(SECRET, "x"), "x")
    # Even where the identifier of the key is made to match.
    with pytest.raises(VaultError, match="altered"):
        other.unseal(_sealed().replace(VAULT.key_id, other.key_id), "device/tent-1")


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.2", "1.2.3.4", "..", *(f"{version}.{VAULT.key_id}.AAAA" for version in ("", "-1", "x", "\u0661"))],
)
def test_text_that_is_not_sealed(text: str) -> None:
    """Say of what has not even the form that it is not sealed."""
    with pytest.raises(VaultError, match=r"^x: not sealed$"):
        VAULT.unseal(text, "x")


@pytest.mark.parametrize(
    "text",
    [
        _with_body(""),
        _with_body("A"),
        _with_body("AAAA"),
        _with_body("A" * 16),
        _with_body("Blüte"),
    ],
)
def test_text_that_is_malformed(text: str) -> None:
    """Refuse what cannot be decoded as what was altered."""
    with pytest.raises(VaultError, match=r"^x: altered, or somebody else's$"):
        VAULT.unseal(text, "x")


@pytest.mark.parametrize("frame", [b"", b"\x00", b"\x00" * 12, b"\x00" * 27, b"\x00" * 28])
def test_frame_that_is_malformed(frame: bytes) -> None:
    """Refuse a frame that is too short to be one."""
    with pytest.raises(VaultError, match=r"^x: altered"):
        VAULT.unseal_bytes(frame, "x")


@given(key=st.binary(min_size=KEK_BYTES, max_size=KEK_BYTES))
def test_key_is_not_told(key: bytes) -> None:
    """Tell neither the key nor what was sealed: not by the vault, not by the text, not by an error."""
    vault = Vault(key)
    told = [repr(vault), str(vault), vault.key_id, vault.seal(SECRET, "x"), VAULT.seal(SECRET, "x")]
    for wrong in (VAULT.seal(SECRET, "x"), vault.seal(SECRET, "y"), "garbage", vault.seal(SECRET, "x")[:-4]):
        with pytest.raises(VaultError) as refused:
            vault.unseal(wrong, "x")
        told.append("".join(traceback.format_exception(refused.value)))
    for text in told:
        for form in (key.hex(), urlsafe_b64encode(key).decode().rstrip("="), repr(key), SECRET.decode()):
            assert form not in text
