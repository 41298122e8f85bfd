"""Tests of what a broker shows to strangers, as far as it needs no broker."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
import pytest

from custom_components.grokmon.broker.knock import expiry_of
from custom_components.grokmon.gateway import authority

NOW = 1_763_850_000.0


def shown() -> bytes:
    """Return a certificate as a server shows it."""
    return x509.load_pem_x509_certificate(authority.new_authority(NOW).certificate.encode()).public_bytes(Encoding.DER)


def test_expiry() -> None:
    """Read the date of a certificate."""
    assert datetime.fromtimestamp(expiry_of(shown()), UTC).year == datetime.fromtimestamp(NOW, UTC).year + 10


@pytest.mark.parametrize(
    ("part", "instead"),
    [(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"), (b"\x17\x0d", b"\x17\x0c"), (b"\x30\x82", b"\x31\x82")],
    ids=["version", "time", "sequence"],
)
def test_odd_certificate(part: bytes, instead: bytes) -> None:
    """Say that a certificate cannot be read in the one way that the probe knows."""
    der = shown()
    assert part in der
    with pytest.raises(ValueError, match=r".+"):
        expiry_of(der.replace(part, instead, 1))


def test_no_certificate() -> None:
    """Say so where a server shows none."""
    with pytest.raises(ValueError, match="no certificate"):
        expiry_of(None)
