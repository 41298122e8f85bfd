"""Development certificates are made once and renewed when they must."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from cryptography import x509

from tests.stack import certificates
from tests.stack.certificates import ensure_certificates


def _names(path: Path) -> set[str]:
    loaded = x509.load_pem_x509_certificate(path.read_bytes())
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def test_names_this_machine(tmp_path: Path) -> None:
    """The server certificate is for every name of this machine."""
    made = ensure_certificates(tmp_path)
    assert {"localhost", "127.0.0.1", "::1"} <= _names(made.certificate)


def test_keys_are_private(tmp_path: Path) -> None:
    """Only the owner can read the keys."""
    ensure_certificates(tmp_path)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("*.key")} == {
        "ca.key": 0o600,
        "server.key": 0o600,
    }


def test_second_time_changes_nothing(tmp_path: Path) -> None:
    """What still holds is left alone."""
    ensure_certificates(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    ensure_certificates(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_hosts_renew_the_server_only(tmp_path: Path) -> None:
    """Devices that trust the authority go on working."""
    first = ensure_certificates(tmp_path, ["localhost"])
    authority = first.ca.read_bytes()
    second = ensure_certificates(tmp_path, ["localhost", "grow.example"])
    assert _names(second.certificate) == {"localhost", "grow.example"}
    assert second.ca.read_bytes() == authority


def test_soon_to_expire_is_renewed(tmp_path: Path) -> None:
    """A certificate with less than 30 days left is made again."""
    with patch.object(certificates, "_SERVER_LIFE", timedelta(days=29)):
        ensure_certificates(tmp_path)
    made = ensure_certificates(tmp_path)
    left = x509.load_pem_x509_certificate(made.certificate.read_bytes()).not_valid_after_utc - datetime.now(UTC)
    assert left > timedelta(days=300)


def test_damaged_authority_is_made_again(tmp_path: Path) -> None:
    """A server certificate of a lost authority goes with it."""
    made = ensure_certificates(tmp_path)
    server = made.certificate.read_bytes()
    (tmp_path / "ca.key").write_text("damaged")
    ensure_certificates(tmp_path)
    assert made.certificate.read_bytes() != server
