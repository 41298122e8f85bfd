"""Find secrets where they must not be: every form in which somebody could have written them."""

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from custom_components.grokmon.gateway.vault import Vault
from tests.device_simulator.credentials import PrivateKey
from tests.device_simulator.signing import b64decode, b64encode as b64url, derive_keys

type Needles = dict[bytes, str]
"""Bytes to look for, and what they are; never the bytes in a report."""


def of_bytes(name: str, secret: bytes) -> Needles:
    """Return the forms of a key: raw, hexadecimal, base64 in both alphabets, as Python and as JSON show bytes."""
    forms = {
        "raw": secret,
        "hex": secret.hex().encode(),
        "HEX": secret.hex().upper().encode(),
        "base64": b64encode(secret).rstrip(b"="),
        "base64url": urlsafe_b64encode(secret).rstrip(b"="),
        "repr": repr(secret)[2:-1].encode(),
        "list": str(list(secret))[1:-1].encode(),
    }
    return {form: f"{name}, {kind}" for kind, form in forms.items()}


def of_root_key(name: str, root: str) -> Needles:
    """Return the forms of a root key and of what is derived from it."""
    up_key, down_key = derive_keys(root)
    return (
        of_bytes(f"root key of {name}", b64decode(root))
        | of_bytes(f"key of {name} to the hub", up_key)
        | of_bytes(f"key of {name} from the hub", down_key)
    )


def of_private_key(name: str, key: PrivateKey) -> Needles:
    """Return the forms of a private key."""
    if isinstance(key, EllipticCurvePrivateKey):
        number = key.private_numbers().private_value
        return of_bytes(f"private key of {name}", number.to_bytes(32)) | {str(number).encode(): f"{name}, decimal"}
    return of_bytes(f"private key of {name}", key.private_bytes_raw())


def of_security_store(config: Path) -> Needles:
    """Return the forms of everything secret that the gateway keeps sealed, and of the key that it is sealed with."""
    kek = bytes.fromhex((config / "grokmon" / "kek").read_text())
    vault = Vault(kek)
    data: dict[str, Any] = json.loads((config / ".storage" / "grokmon.security").read_bytes())["data"]
    needles = of_bytes("key-encryption key", kek)
    for device_id, record in data["devices"].items():
        for credential in record["credentials"]:
            if not credential["secret"]:
                continue
            secret = vault.unseal(credential["secret"], f"device/{device_id}/{credential['key_id']}")
            if credential["kind"] == "key":
                needles |= of_root_key(device_id, b64url(secret).decode())
            else:
                needles |= of_bytes(f"{credential['kind']} of {device_id}", secret)
    for algorithm, sealed in data["site_keys"].items():
        needles |= _of_private_pem(f"the site, {algorithm}", vault.unseal(sealed, f"site/{algorithm}"))
    for authority in data["authority"]["authorities"]:
        needles |= _of_private_pem("the authority", vault.unseal(authority["key"], "authority"))
    for name in ("audit", "journal", "token"):
        needles |= of_bytes(f"{name} key", vault.unseal(data[f"{name}_key"], name))
    for name in ("admin", "probe"):
        # No password is nowhere to be found.
        if password := vault.unseal(data["broker"][f"{name}_password"], f"broker/{name}"):
            needles |= of_bytes(f"{name} password", password)
    return needles


def _of_private_pem(name: str, pem: bytes) -> Needles:
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, EllipticCurvePrivateKey | Ed25519PrivateKey):
        raise TypeError(name)
    return of_private_key(name, key)


def found(haystack: bytes, needles: Needles) -> list[str]:
    """Return which of them are there, by what they are."""
    return [what for needle, what in needles.items() if needle in haystack]


def found_in_files(folder: Path, needles: Needles, *, but: Iterable[Path] = ()) -> list[str]:
    """Return what is in the files under a folder, except in some of them."""
    kept = {path.resolve() for path in but}
    return [
        f"{path.relative_to(folder)}: {what}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.resolve() not in kept
        for what in found(path.read_bytes(), needles)
    ]
