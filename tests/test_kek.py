"""The key-encryption key: every place that it may come from, for real, and what is said where it is not to be had."""

from base64 import standard_b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from errno import ENOSPC
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import os
from pathlib import Path
import stat
import sys
import threading
import traceback
from typing import Any

import pytest

from custom_components.grokmon.kek import (
    Kek,
    KekAwayError,
    KekError,
    KekRefusedError,
    KekSource,
    forget_previous,
    load_kek,
    replace_generated,
)

KEY = bytes(range(200, 232))
OTHER = bytes(range(32))
TOKEN = "hvs.CAESIJ-a-token-of-this-test"
FORMS: dict[str, Callable[[bytes], str]] = {
    "hex": bytes.hex,
    "capital hex": lambda key: key.hex().upper(),
    "base64": lambda key: standard_b64encode(key).decode(),
    "base64 without padding": lambda key: standard_b64encode(key).decode().rstrip("="),
    "base64url": lambda key: urlsafe_b64encode(key).decode(),
    "base64url without padding": lambda key: urlsafe_b64encode(key).decode().rstrip("="),
    "with white space around": lambda key: f" \n{key.hex()}\r\n",
}
BAD: dict[str, str] = {
    "empty": "",
    "blank": " \n",
    "too short": KEY[:31].hex(),
    "too long": KEY.hex() + "00",
    "31 bytes in base64": urlsafe_b64encode(KEY[:31]).decode(),
    "33 bytes in base64": urlsafe_b64encode(KEY + b"x").decode(),
    "passphrase": "a passphrase of no particular length",
    "passphrase as long as a key": "correct horse battery staple, and some more words that",
    "key with junk in it": f"{urlsafe_b64encode(KEY).decode()[:20]}!\n{urlsafe_b64encode(KEY).decode()[20:]}",
    "one letter": "A",
    "not ASCII": "schlüssel" * 5,
}
NOT_A_KEY = "not a key of 32 bytes in hex or base64"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the integration's folder, which is not there yet."""
    return tmp_path / "config" / "grokmon"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with a key, as a Docker secret is one."""
    path = tmp_path / "secret"
    path.write_text(KEY.hex() + "\n")
    return path


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


def _is_silent_about(text: str, *secrets: str) -> bool:
    return not any(len(secret) > 1 and secret in text for secret in secrets)


# A file


@pytest.mark.parametrize("form", FORMS)
def test_file(folder: Path, file: Path, form: str) -> None:
    """Read a key from the file that is named, in any form, and leave the integration's folder alone."""
    file.write_text(FORMS[form](KEY))
    assert load_kek(folder, {"GROKMON_KEK_FILE": str(file)}) == Kek(KEY, KekSource.FILE)
    assert not folder.exists()


@pytest.mark.parametrize("form", FORMS)
def test_odd_bytes_in_every_form(folder: Path, form: str) -> None:
    """Read keys whose base64 has the two characters in which its alphabets differ."""
    for key in (b"\xfb\xff\xfe" * 10 + b"\xff\xff", b"\x00" * 32, b"\xff" * 32):
        assert load_kek(folder, {"GROKMON_KEK": FORMS[form](key)}).key == key


@pytest.mark.parametrize("bad", BAD)
def test_file_without_a_key(folder: Path, file: Path, bad: str) -> None:
    """Name the variable, and nothing of what the file holds."""
    file.write_text(BAD[bad], encoding="utf-8")
    with pytest.raises(KekError) as refused:
        load_kek(folder, {"GROKMON_KEK_FILE": str(file)})
    assert str(refused.value) in (f"GROKMON_KEK_FILE: {NOT_A_KEY}", "GROKMON_KEK_FILE: not a key")
    assert _is_silent_about(_told(refused.value), BAD[bad].strip())


def test_binary_file(folder: Path, file: Path) -> None:
    """Refuse a file of raw bytes."""
    file.write_bytes(KEY)
    with pytest.raises(KekError, match=r"^GROKMON_KEK_FILE: not a key$") as refused:
        load_kek(folder, {"GROKMON_KEK_FILE": str(file)})
    assert _is_silent_about(_told(refused.value), repr(KEY), KEY.hex())


def test_file_cannot_be_read(folder: Path, file: Path) -> None:
    """Say why a file cannot be read."""
    with pytest.raises(KekError, match=r"^GROKMON_KEK_FILE: Is a directory$"):
        load_kek(folder, {"GROKMON_KEK_FILE": str(file.parent)})
    file.unlink()
    with pytest.raises(KekError, match=r"^GROKMON_KEK_FILE: No such file or directory$"):
        load_kek(folder, {"GROKMON_KEK_FILE": str(file)})


# The environment


@pytest.mark.parametrize("form", FORMS)
def test_environment(folder: Path, form: str) -> None:
    """Read a key from the environment, in any form."""
    assert load_kek(folder, {"GROKMON_KEK": FORMS[form](KEY)}) == Kek(KEY, KekSource.ENVIRONMENT)
    assert not folder.exists()


@pytest.mark.parametrize("variable", ["GROKMON_KEK", "GROKMON_KEK_PREVIOUS"])
@pytest.mark.parametrize("bad", BAD)
def test_environment_without_a_key(folder: Path, bad: str, variable: str) -> None:
    """Name the variable, and nothing of its value."""
    with pytest.raises(KekError) as refused:
        load_kek(folder, {"GROKMON_KEK": KEY.hex(), variable: BAD[bad]})
    assert str(refused.value) == f"{variable}: {NOT_A_KEY}"
    assert _is_silent_about(_told(refused.value), BAD[bad].strip(), KEY.hex())
    assert not folder.exists()


# Precedence


def test_first_source_that_is_named_counts(folder: Path, file: Path) -> None:
    """Take the file before the variable before Vault before what is generated."""
    replaced = load_kek(folder, {})
    environ = {"GROKMON_VAULT_ADDR": "http://127.0.0.1:1", "GROKMON_KEK": OTHER.hex(), "GROKMON_KEK_FILE": str(file)}
    assert load_kek(folder, environ) == Kek(KEY, KekSource.FILE)
    del environ["GROKMON_KEK_FILE"]
    assert load_kek(folder, environ) == Kek(OTHER, KekSource.ENVIRONMENT)
    del environ["GROKMON_KEK"]
    with pytest.raises(KekError, match=r"^GROKMON_VAULT_TOKEN_FILE: "):
        load_kek(folder, environ)
    assert load_kek(folder, {}) == replaced
    assert replaced.source is KekSource.GENERATED


@pytest.mark.parametrize(
    "environ",
    [
        {"GROKMON_KEK_FILE": "/nowhere/at/all", "GROKMON_KEK": KEY.hex()},
        {"GROKMON_KEK_FILE": "", "GROKMON_KEK": KEY.hex()},
        {"GROKMON_KEK": ""},
        {"GROKMON_KEK": "bad", "GROKMON_VAULT_ADDR": "http://127.0.0.1:1"},
        {"GROKMON_VAULT_ADDR": ""},
        {"GROKMON_VAULT_ADDR": "http://127.0.0.1:1", "GROKMON_VAULT_TOKEN_FILE": "/nowhere/at/all"},
    ],
    ids=range(6),
)
def test_named_source_never_falls_through(folder: Path, environ: dict[str, str]) -> None:
    """Fail where the source that is named fails: another key would seem to be a loss of everything."""
    with pytest.raises(KekError) as refused:
        load_kek(folder, environ)
    assert not folder.exists()
    assert _is_silent_about(_told(refused.value), KEY.hex())


def test_previous_key(folder: Path, file: Path) -> None:
    """Give the key before this one along, whatever the source."""
    before = {"GROKMON_KEK_PREVIOUS": OTHER.hex()}
    assert load_kek(folder, before | {"GROKMON_KEK_FILE": str(file)}) == Kek(KEY, KekSource.FILE, OTHER)
    assert load_kek(folder, before | {"GROKMON_KEK": KEY.hex()}) == Kek(KEY, KekSource.ENVIRONMENT, OTHER)
    assert load_kek(folder, before).previous == OTHER


def test_key_is_not_in_its_representation() -> None:
    """Hide the keys where the record gets into a log."""
    text = repr(Kek(KEY, KekSource.FILE, OTHER))
    assert text == "Kek(source=<KekSource.FILE: 'file'>)"


# Generated


def test_generated(folder: Path) -> None:
    """Generate a key once, for Home Assistant alone, and find it again."""
    first = load_kek(folder, {})
    assert (first.source, first.previous, len(first.key)) == (KekSource.GENERATED, None, 32)
    assert (_mode(folder), _mode(folder / "kek")) == (0o700, 0o600)
    assert [path.name for path in folder.iterdir()] == ["kek"]
    assert (folder / "kek").read_text() == first.key.hex()
    assert load_kek(folder, {}) == first
    assert load_kek(folder.with_name("another"), {}).key != first.key


def test_generated_is_made_private_again(folder: Path) -> None:
    """Take back what a copy let others read."""
    first = load_kek(folder, {})
    (folder / "kek").chmod(0o644)
    assert load_kek(folder, {}) == first
    assert _mode(folder / "kek") == 0o600


@pytest.mark.parametrize("bad", BAD)
def test_generated_that_was_damaged(folder: Path, bad: str) -> None:
    """Refuse to replace a key that cannot be read any more: what it sealed would be lost for good."""
    load_kek(folder, {})
    (folder / "kek").write_text(BAD[bad], encoding="utf-8")
    with pytest.raises(KekError) as refused:
        load_kek(folder, {})
    assert str(refused.value).startswith(f"{folder / 'kek'}: not a key")
    assert (folder / "kek").read_text(encoding="utf-8") == BAD[bad]


def test_what_a_crash_left_is_overwritten(folder: Path) -> None:
    """Begin anew where a crash left a key that was not in place yet."""
    folder.mkdir(parents=True)
    (folder / "kek.new").write_text("torn")
    first = load_kek(folder, {})
    assert [path.name for path in folder.iterdir()] == ["kek"]
    assert load_kek(folder, {}) == first


def test_folder_cannot_be_made(folder: Path) -> None:
    """Raise what the disk says."""
    folder.parent.mkdir()
    folder.touch()
    with pytest.raises(FileExistsError):
        load_kek(folder, {})


@pytest.mark.parametrize("function", ["write", "fsync"])
def test_disk_fails_while_a_key_is_generated(folder: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """Leave no half of a key in place."""

    def fail(*_arguments: Any) -> int:
        raise OSError(ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(OSError, match="No space left"):
            load_kek(folder, {})
    assert not (folder / "kek").exists()
    assert len(load_kek(folder, {}).key) == 32


# Rotation of a generated one


def test_replaced_key_is_kept_until_it_is_forgotten(folder: Path) -> None:
    """Keep the key before the new one, privately, until nothing needs it."""
    first = load_kek(folder, {})
    second = replace_generated(folder)
    assert second.key != first.key
    assert (second.source, second.previous) == (KekSource.GENERATED, first.key)
    assert load_kek(folder, {}) == second
    assert load_kek(folder, {"GROKMON_KEK_PREVIOUS": OTHER.hex()}).previous == first.key
    assert sorted((path.name, _mode(path)) for path in folder.iterdir()) == [("kek", 0o600), ("kek.previous", 0o600)]
    for _ in range(2):
        forget_previous(folder)
        assert load_kek(folder, {}) == Kek(second.key, KekSource.GENERATED)
    assert [path.name for path in folder.iterdir()] == ["kek"]


def test_previous_that_was_damaged(folder: Path) -> None:
    """Name the file of the key before this one."""
    load_kek(folder, {})
    (folder / "kek.previous").write_text("junk")
    with pytest.raises(KekError) as refused:
        load_kek(folder, {})
    assert str(refused.value) == f"{folder / 'kek.previous'}: {NOT_A_KEY}"


@pytest.mark.parametrize("calls", range(2))
@pytest.mark.parametrize("function", ["write", "fsync"])
def test_disk_fails_while_a_key_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, function: str, calls: int
) -> None:
    """Leave the key in place that everything is sealed with, wherever it fails."""
    first = load_kek(folder, {})
    real, good = getattr(os, function), iter(range(calls))

    def fail(*arguments: Any) -> Any:
        if next(good, None) is not None:
            return real(*arguments)
        raise OSError(ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(OSError, match="No space left"):
            replace_generated(folder)
    assert load_kek(folder, {}).key == first.key


# Vault


@dataclass
class FakeVault:
    """A server that speaks as much of Vault's KV version 2 as is read from it."""

    url: str = ""
    path: str = "/v1/secret/data/grokmon"
    status: int = 200
    secret: Any = field(default_factory=lambda: {"kek": KEY.hex()})
    body: bytes | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, path: str, token: str | None) -> tuple[int, bytes]:
        """Answer as Vault does."""
        self.asked.append((path, token))
        if token != TOKEN:
            return 403, json.dumps({"errors": ["permission denied"]}).encode()
        if path != self.path:
            return 404, json.dumps({"errors": []}).encode()
        if self.body is not None:
            return self.status, self.body
        if self.status != 200:
            return self.status, json.dumps({"errors": [f"no, and the key is not {KEY.hex()}"]}).encode()
        metadata = {"created_time": "2026-11-23T12:00:00Z", "deletion_time": "", "destroyed": False, "version": 1}
        lease = {"lease_id": "", "renewable": False, "lease_duration": 0}
        return 200, json.dumps(lease | {"data": {"data": self.secret, "metadata": metadata}}).encode()


@pytest.fixture
def vault(socket_enabled: None) -> Iterator[FakeVault]:  # noqa: ARG001 - what it does is wanted
    """Return a Vault on this machine."""
    fake = FakeVault()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = fake.answer(self.path, self.headers.get("X-Vault-Token"))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


def _environ(vault: FakeVault, **more: str) -> dict[str, str]:
    return {"GROKMON_VAULT_ADDR": vault.url, "GROKMON_VAULT_TOKEN": TOKEN, **more}


@pytest.mark.parametrize("form", FORMS)
def test_vault(folder: Path, vault: FakeVault, form: str) -> None:
    """Read a key from Vault, with the token that is given."""
    vault.secret = {"kek": FORMS[form](KEY), "other": "field"}
    assert load_kek(folder, _environ(vault)) == Kek(KEY, KekSource.VAULT)
    assert vault.asked == [("/v1/secret/data/grokmon", TOKEN)]
    assert not folder.exists()


def test_vault_with_a_token_file_mount_and_path(folder: Path, vault: FakeVault, file: Path) -> None:
    """Read the token from a file, and the key from wherever it is."""
    file.write_text(f"{TOKEN}\n")
    vault.path = "/v1/kv/home/data/rooms/grok"
    environ = {
        "GROKMON_VAULT_ADDR": vault.url,
        "GROKMON_VAULT_TOKEN_FILE": str(file),
        "GROKMON_VAULT_MOUNT": "kv/home",
        "GROKMON_VAULT_PATH": "rooms/grok",
        "GROKMON_KEK_PREVIOUS": OTHER.hex(),
    }
    assert load_kek(folder, environ) == Kek(KEY, KekSource.VAULT, OTHER)
    assert vault.asked == [("/v1/kv/home/data/rooms/grok", TOKEN)]


def test_vault_refuses_the_token(folder: Path, vault: FakeVault) -> None:
    """Say that Vault forbids it, and not with which token."""
    wrong = TOKEN[::-1]
    with pytest.raises(KekRefusedError, match=r"^Vault: Forbidden$") as refused:
        load_kek(folder, _environ(vault, GROKMON_VAULT_TOKEN=wrong))
    assert vault.asked == [("/v1/secret/data/grokmon", wrong)]
    assert wrong not in _told(refused.value)


@pytest.mark.parametrize("more", [{}, {"GROKMON_VAULT_TOKEN_FILE": "/nowhere/at/all"}], ids=["not named", "not there"])
def test_vault_without_a_token(folder: Path, vault: FakeVault, more: dict[str, str]) -> None:
    """Ask for nothing without a token."""
    with pytest.raises(KekError, match=r"^GROKMON_VAULT_TOKEN_FILE: "):
        load_kek(folder, {"GROKMON_VAULT_ADDR": vault.url, **more})
    assert vault.asked == []


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "InvalidRequest", KekAwayError),
        (401, "Unauthorized", KekRefusedError),
        (404, "InvalidPath", KekRefusedError),
        (429, "RateLimitExceeded", KekAwayError),
        (500, "InternalServerError", KekAwayError),
        (503, "VaultDown", KekAwayError),
        (418, "UnexpectedError", KekAwayError),
    ],
)
def test_vault_fails(folder: Path, vault: FakeVault, status: int, name: str, kind: type[KekError]) -> None:
    """Name what went wrong, and nothing of what Vault said; tell what somebody has to see to there."""
    vault.status = status
    with pytest.raises(KekError) as refused:
        load_kek(folder, _environ(vault))
    assert (str(refused.value), type(refused.value)) == (f"Vault: {name}", kind)
    assert KEY.hex() not in str(refused.value)


@pytest.mark.parametrize("secret", [{}, {"key": KEY.hex()}], ids=["empty", "other field"])
def test_vault_has_no_such_field(folder: Path, vault: FakeVault, secret: dict[str, str]) -> None:
    """Name the field that is missing."""
    vault.secret = secret
    with pytest.raises(KekError, match=r"^Vault: the secret has no field kek$"):
        load_kek(folder, _environ(vault))


@pytest.mark.parametrize("bad", [*BAD.values(), None, 5, [KEY.hex()]], ids=[*BAD, "null", "number", "list"])
def test_vault_has_no_key(folder: Path, vault: FakeVault, bad: Any) -> None:
    """Say that it is no key, and nothing of what it is."""
    vault.secret = {"kek": bad}
    with pytest.raises(KekError) as refused:
        load_kek(folder, _environ(vault))
    assert str(refused.value) == f"Vault: {NOT_A_KEY}"
    assert _is_silent_about(_told(refused.value), KEY.hex(), TOKEN)


@pytest.mark.parametrize(
    "body",
    [b"<html>a proxy</html>", b"", b"[]", b'"text"', b'{"data": null}', b'{"data": {"data": null}}'],
    ids=["page", "empty", "list", "text", "no data", "deleted"],
)
def test_vault_answers_with_something_else(folder: Path, vault: FakeVault, body: bytes) -> None:
    """Refuse what is not the answer of a Vault, as any other source without a key."""
    vault.body = body
    with pytest.raises(KekError, match=r"^Vault: "):
        load_kek(folder, _environ(vault))


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1", "no address", "ftp://127.0.0.1", "http://", "http://[::1", ""], ids=range(6)
)
@pytest.mark.usefixtures("socket_enabled")
def test_vault_is_not_there(folder: Path, address: str) -> None:
    """Fail where nobody answers."""
    with pytest.raises(KekError, match=r"^Vault: [A-Za-z]+$") as refused:
        load_kek(folder, {"GROKMON_VAULT_ADDR": address, "GROKMON_VAULT_TOKEN": TOKEN})
    assert TOKEN not in _told(refused.value)
    assert not folder.exists()


def test_vault_without_its_package(folder: Path, vault: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Say which package whoever has a Vault has to install."""
    monkeypatch.setitem(sys.modules, "hvac", None)
    with pytest.raises(KekError, match=r"^Vault needs the Python package hvac$"):
        load_kek(folder, _environ(vault))
    assert vault.asked == []
