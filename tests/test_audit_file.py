"""The audit file on a real disk: what is appended, what is undone, what is set aside."""

from dataclasses import dataclass
from errno import ENOSPC
import json
import os
from pathlib import Path
import stat
from typing import Any

import pytest

from custom_components.grokmon.audit_file import AuditFile, Opening
from custom_components.grokmon.gateway.audit import Checkpoint, Result, main

ENTRIES: list[dict[str, Any]] = [{"event": "one", "text": "Blüte"}, {"event": "two"}, {"event": "three", "count": 3}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where the audit file is to be."""
    return tmp_path / "grokmon" / "audit"


@pytest.fixture
def file(folder: Path) -> AuditFile:
    """Return an audit file that was just opened."""
    opened = AuditFile(folder)
    assert opened.open() == Opening(torn=0, contradicted=False)
    return opened


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint.from_json((folder / "audit.jsonl.checkpoint").read_text())


def _events(folder: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (folder / "audit.jsonl").read_text().splitlines()]


@dataclass(frozen=True)
class Fault:
    """A function of `os` that fails after some calls; `partly` is how many bytes it writes before."""

    function: str
    calls: int
    partly: int = 0

    def inject(self, patch: pytest.MonkeyPatch) -> None:
        """Put the fault in place."""
        real = getattr(os, self.function)
        good = iter(range(self.calls))

        def fail(*arguments: Any) -> Any:
            if next(good, None) is not None:
                return real(*arguments)
            if self.partly:
                real(arguments[0], arguments[1][: self.partly])
            raise OSError(ENOSPC, "No space left on device")

        patch.setattr(os, self.function, fail)


def test_new_file_is_private(file: AuditFile, folder: Path) -> None:
    """Trail and checkpoint are for Home Assistant alone, in a folder of their own."""
    file.write(ENTRIES)
    assert _mode(folder) == 0o700
    assert _mode(folder / "audit.jsonl") == 0o600
    assert _mode(folder / "audit.jsonl.checkpoint") == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["audit.jsonl", "audit.jsonl.checkpoint"]


def test_entries_are_a_chain(file: AuditFile, folder: Path) -> None:
    """What was written verifies, here and with the script, up to the checkpoint."""
    file.write(ENTRIES[:2])
    file.write(ENTRIES[2:])
    report = file.verify()
    assert (report.result, report.end.count) == (Result.GOOD, 3)
    assert _checkpoint(folder) == report.end == file.end
    assert main(["verify", str(folder / "audit.jsonl")]) is Result.GOOD
    assert _events(folder) == ["one", "two", "three"]


def test_chain_is_taken_up(file: AuditFile, folder: Path) -> None:
    """A second process goes on where the first one ended."""
    file.write(ENTRIES)
    again = AuditFile(folder)
    assert again.open() == Opening(torn=0, contradicted=False)
    assert again.end == file.end
    again.write(ENTRIES)
    assert again.verify().end.count == 6


def test_long_last_line(file: AuditFile, folder: Path) -> None:
    """A last line longer than what is read at once is found as well."""
    file.write([{"event": "short"}, {"event": "long", "text": "x" * 200_000}])
    again = AuditFile(folder)
    again.open()
    assert again.end == file.end


@pytest.mark.parametrize("torn", [b"{", b'{"n":4,"event":"fo', b"\x00" * 100, b"x" * 200_000])
def test_torn_last_line_is_set_aside(file: AuditFile, folder: Path, torn: bytes) -> None:
    """What a power cut left of a line is kept beside the trail, which goes on."""
    file.write(ENTRIES)
    size = (folder / "audit.jsonl").stat().st_size
    with (folder / "audit.jsonl").open("ab") as audit:
        audit.write(torn)
    again = AuditFile(folder)
    assert again.open() == Opening(torn=len(torn), contradicted=False)
    assert again.end == file.end
    aside = folder / f"audit.jsonl.torn-{size}"
    assert aside.read_bytes() == torn
    assert _mode(aside) == 0o600
    again.write([{"event": "recovered"}])
    assert again.verify().result is Result.GOOD
    assert _events(folder) == ["one", "two", "three", "recovered"]


def test_torn_first_line_is_set_aside(folder: Path) -> None:
    """A trail that ended before its first line was complete begins anew."""
    folder.mkdir(parents=True)
    (folder / "audit.jsonl").write_bytes(b'{"n":1')
    file = AuditFile(folder)
    assert file.open() == Opening(torn=6, contradicted=False)
    file.write(ENTRIES)
    assert file.verify().end.count == 3


@pytest.mark.parametrize(
    "checkpoint",
    [None, "garbage", '{"count":3,"head":"' + "1" * 64 + '"}'],
    ids=["cut end", "unreadable", "other head"],
)
def test_contradicting_checkpoint_is_kept(file: AuditFile, folder: Path, checkpoint: str | None) -> None:
    """What shows that the trail was touched while nobody was looking is set aside, and the trail goes on."""
    file.write(ENTRIES)
    kept = folder / "audit.jsonl.checkpoint"
    if checkpoint is None:
        lines = (folder / "audit.jsonl").read_bytes().splitlines(keepends=True)
        (folder / "audit.jsonl").write_bytes(b"".join(lines[:-1]))
    else:
        kept.write_text(checkpoint)
    evidence = kept.read_text()
    again = AuditFile(folder)
    assert again.open() == Opening(torn=0, contradicted=True)
    assert (folder / f"audit.jsonl.checkpoint.contradicted-{again.end.count}").read_text() == evidence
    again.write(ENTRIES)
    assert again.verify().result is Result.GOOD
    assert AuditFile(folder).open() == Opening(torn=0, contradicted=False)


@pytest.mark.parametrize("lines", [0, 2])
def test_older_checkpoint_is_no_contradiction(file: AuditFile, folder: Path, lines: int) -> None:
    """A crash between the entries and their checkpoint leaves one that counts less."""
    kept = folder / "audit.jsonl.checkpoint"
    for entry in ENTRIES[:lines]:
        file.write([entry])
    before = kept.read_text() if lines else None
    file.write(ENTRIES[lines:])
    kept.unlink() if before is None else kept.write_text(before)
    assert AuditFile(folder).open() == Opening(torn=0, contradicted=False)


@pytest.mark.parametrize("last", [b"\n", b"{}\n", b'{"event":"x","hash":"' + b"0" * 64 + b'"}\n', b"text\n"])
def test_file_that_is_no_trail(folder: Path, last: bytes) -> None:
    """A file that does not end with an entry is neither continued nor touched."""
    folder.mkdir(parents=True)
    (folder / "audit.jsonl").write_bytes(last)
    with pytest.raises(ValueError, match=r"audit\.jsonl"):
        AuditFile(folder).open()
    assert (folder / "audit.jsonl").read_bytes() == last


def test_folder_cannot_be_made(tmp_path: Path) -> None:
    """Where there is no folder there is no trail."""
    (tmp_path / "grokmon").touch()
    with pytest.raises(OSError, match="grokmon"):
        AuditFile(tmp_path / "grokmon" / "audit").open()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("write", 0, 0), id="nothing-written"),
        pytest.param(Fault("write", 0, 30), id="short-write"),
        pytest.param(Fault("fdatasync", 0), id="not-synced"),
        pytest.param(Fault("write", 1, 0), id="no-checkpoint"),
        pytest.param(Fault("write", 1, 10), id="short-checkpoint"),
        pytest.param(Fault("replace", 0), id="checkpoint-not-in-place"),
    ],
)
def test_failed_write_leaves_no_trace(
    file: AuditFile, folder: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """Entries are appended all or none: what failed is undone, and appears once when it is tried again."""
    file.write(ENTRIES[:1])
    before = (folder / "audit.jsonl").read_bytes(), file.end, _checkpoint(folder)
    with monkeypatch.context() as patch:
        fault.inject(patch)
        with pytest.raises(OSError, match="No space left"):
            file.write(ENTRIES[1:])
    assert ((folder / "audit.jsonl").read_bytes(), file.end, _checkpoint(folder)) == before
    file.write(ENTRIES[1:])
    assert _events(folder) == ["one", "two", "three"]
    assert file.verify().result is Result.GOOD
    assert _checkpoint(folder) == file.end


def test_write_in_pieces(file: AuditFile, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes a few bytes at a time gets them all."""
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
        file.write(ENTRIES)
    assert file.verify().result is Result.GOOD
    assert _checkpoint(folder) == file.end


def test_file_that_vanished(file: AuditFile, folder: Path) -> None:
    """A trail that somebody deletes under a running hub does not pass for a new one."""
    file.write(ENTRIES)
    (folder / "audit.jsonl").unlink()
    file.write(ENTRIES)
    assert file.verify().result is Result.ALTERED


def test_end_that_was_cut(file: AuditFile, folder: Path) -> None:
    """Entries that are gone from the end are found, by the running hub and with the checkpoint."""
    file.write(ENTRIES)
    lines = (folder / "audit.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "audit.jsonl").write_bytes(b"".join(lines[:2]))
    assert file.verify().result is Result.CUT
    assert main(["verify", str(folder / "audit.jsonl")]) is Result.CUT


def test_no_entries(file: AuditFile, folder: Path) -> None:
    """Writing nothing changes nothing."""
    file.write([])
    assert (folder / "audit.jsonl").read_bytes() == b""
    assert file.verify().end == Checkpoint()
