"""The audit file on a real disk: what is appended, what is undone, what is set aside."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import EIO, ENOSPC, EROFS
import json
import os
from pathlib import Path
import re
import shutil
import stat
from typing import Any

import pytest

from custom_components.grokmon import audit_file
from custom_components.grokmon.audit_file import CHECKPOINT_LINES, CHECKPOINT_SECONDS, KEY_FILE, AuditFile, Opening
from custom_components.grokmon.gateway import audit
from custom_components.grokmon.gateway.audit import Key, Position, Verdict, Verification
from custom_components.grokmon.gateway.checkpoints import Signer

NOW = 1_795_456_800.0
SIGNER = Signer(bytes(32))
FIRST_SEGMENT = "audit-000000000001.jsonl"
DAY = 86_400.0


def records(*actions: str, at: float = NOW) -> list[dict[str, Any]]:
    """Return records."""
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [{"at": time, "action": action, "details": {"text": "Blüte"}} for action in actions]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where the audit trail is to be."""
    return tmp_path / "grokmon" / "audit"


@pytest.fixture
def file(folder: Path) -> AuditFile:
    """Return a trail that was just begun."""
    opened = AuditFile(folder, SIGNER)
    assert opened.open(NOW) == Opening(new_key=True)
    return opened


@pytest.fixture
def first(file: AuditFile) -> Key:
    """Return the first key of the trail, which somebody keeps elsewhere."""
    return file.new_key()


def write(file: AuditFile, *actions: str, at: float = NOW) -> None:
    """Append records and move the key on, as the log does."""
    file.append(records(*actions, at=at), at)
    file.mark()


def opened(folder: Path) -> tuple[AuditFile, Opening]:
    """Take up the trail in another process."""
    file = AuditFile(folder, SIGNER)
    return file, file.open(NOW)


def actions(folder: Path) -> list[str]:
    """Return what stands in the trail, segment by segment."""
    return [
        json.loads(line)["action"] for path in audit.segments(folder) for line in path.read_bytes().split(b"\n")[:-1]
    ]


def names(folder: Path) -> list[str]:
    """Return the names of the files."""
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def descriptors_open() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def good(folder: Path, first: Key, lines: int) -> bool:
    """Tell whether so many lines are there and every one of them was checked with the first key."""
    report = audit.verify(folder, [first])
    return (report.findings, report.lines, report.keyed) == ((), lines, lines)


@dataclass(frozen=True)
class Fault:
    """A function of `os` that fails after some calls; `partly` is how many bytes it writes before."""

    function: str
    calls: int = 0
    partly: int = 0
    number: int = ENOSPC

    def inject(self, patch: pytest.MonkeyPatch) -> None:
        """Put the fault in place."""
        real = getattr(os, self.function)
        fine = iter(range(self.calls))

        def fail(*arguments: Any) -> Any:
            if next(fine, None) is not None:
                return real(*arguments)
            if self.partly:
                real(arguments[0], arguments[1][: self.partly])
            raise OSError(self.number, os.strerror(self.number))

        patch.setattr(os, self.function, fail)


# --- What is on the disk


def test_new_trail_is_private(file: AuditFile, folder: Path) -> None:
    """Trail, key and checkpoints are for Home Assistant alone, in a folder of their own."""
    umask = os.umask(0)
    try:
        write(file, "one")
        assert file.write_checkpoint(NOW, at_once=True)
    finally:
        os.umask(umask)
    assert mode(folder) == 0o700
    assert names(folder) == [FIRST_SEGMENT, "checkpoints", KEY_FILE]
    assert {mode(path) for path in folder.iterdir()} == {0o600}


def test_lines_are_a_chain(file: AuditFile, folder: Path, first: Key) -> None:
    """What was appended verifies with the first key, here and with the script."""
    write(file, "one", "two")
    file.append(records("three"), NOW)
    assert file.verify() == Verification(file.end, (), 3, 0, anchored=3)
    assert audit.main(["verify", str(folder), "--key", first.to_text()]) is Verdict.GOOD
    assert actions(folder) == ["one", "two", "three"]
    assert [json.loads(line)["action"] for line in file.lines()] == ["one", "two", "three"]
    assert [json.loads(line)["action"] for line in file.lines(newest_first=True)] == ["three", "two", "one"]


def test_trail_is_taken_up(file: AuditFile, folder: Path, first: Key) -> None:
    """A second process goes on where the first one ended, with its key."""
    write(file, "one", "two")
    file.close()
    file.close()
    again, opening = opened(folder)
    assert opening == Opening()
    assert again.end == file.end
    write(again, "three")
    assert good(folder, first, 3)


def test_empty_trail_is_taken_up(file: AuditFile, folder: Path, first: Key) -> None:
    """A second process may begin before the first one wrote anything; a segment without lines is none."""
    (folder / FIRST_SEGMENT).touch()
    again, opening = opened(folder)
    assert (opening, again.end, file.end) == (Opening(), Position(), Position())
    assert not (folder / FIRST_SEGMENT).exists()
    assert again.verify() == Verification(Position())
    write(again, "one")
    assert good(folder, first, 1)


def test_opening_again_lets_go(file: AuditFile, folder: Path, first: Key) -> None:
    """The same object may open its trail again."""
    write(file, "one")
    descriptors = descriptors_open()
    assert file.open(NOW) == Opening()
    assert descriptors_open() == descriptors - 1
    write(file, "two")
    assert good(folder, first, 2)


def test_key_on_the_disk(file: AuditFile, folder: Path, first: Key) -> None:
    """Only the key of the next line is on the disk, always in the same place of one size; what was before is gone."""
    path = folder / KEY_FILE
    seen = set()
    key = first
    inode = path.stat().st_ino
    for number in range(1, 4):
        text = path.read_text()
        assert text.split()[:2] == [f"{number:018}", key.secret.hex()]
        seen.add((len(text), path.stat().st_ino))
        write(file, "x")
        key = Key(number + 1, audit.evolve(key.secret))
        assert first.secret.hex() not in path.read_text()
    assert seen == {(18 + 1 + 64 + 1 + 16 + 1, inode)}


def test_key_stays_behind_until_it_is_marked(file: AuditFile, folder: Path, first: Key) -> None:
    """Appending moves the key in memory only."""
    before = (folder / KEY_FILE).read_bytes()
    file.append(records("one"), NOW)
    assert (folder / KEY_FILE).read_bytes() == before
    file.mark()
    assert (folder / KEY_FILE).read_text().split()[:2] == [f"{2:018}", audit.evolve(first.secret).hex()]


def test_new_key(file: AuditFile, folder: Path, first: Key) -> None:
    """A new key begins with the next line, follows from no old one, and needs both to verify everything."""
    write(file, "one", audit.KEY_CHANGED)
    second = file.new_key()
    assert second.start == 3
    assert second.secret != audit.evolve(audit.evolve(first.secret))
    write(file, "two")
    again, opening = opened(folder)
    assert opening == Opening()
    write(again, "three")
    assert audit.verify(folder, [first, second]) == Verification(again.end, (), 4, 4)
    assert audit.verify(folder, [first]).keyed == 2


def test_nothing_to_append(file: AuditFile, folder: Path) -> None:
    """Appending nothing changes nothing."""
    write(file)
    assert actions(folder) == []
    assert file.end == Position()


def test_record_that_cannot_be_a_line(file: AuditFile, folder: Path, first: Key) -> None:
    """A record that is refused takes those beside it along: all or none."""
    with pytest.raises(ValueError, match="too long"):
        file.append([*records("one"), {"at": "", "text": "x" * audit.MAX_LINE}], NOW)
    assert file.end == Position()
    write(file, "two")
    assert good(folder, first, 1)


# --- Segments


def test_rotation_by_size(file: AuditFile, folder: Path, first: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment takes lines until it is full; the next one is named by its first line."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 600)
    for number in range(1, 8):
        write(file, f"{number}")
    assert [path.name for path in audit.segments(folder)] == [audit.segment_name(first) for first in (1, 4, 7)]
    assert all(path.stat().st_size >= 600 for path in audit.segments(folder)[:-1])
    assert {mode(path) for path in audit.segments(folder)} == {0o600}
    assert actions(folder) == list("1234567")
    assert [json.loads(line)["action"] for line in file.lines(newest_first=True)] == list("7654321")
    again, opening = opened(folder)
    assert opening == Opening()
    write(again, "8")
    assert good(folder, first, 8)


def test_rotation_by_age(file: AuditFile, folder: Path, first: Key) -> None:
    """A segment takes lines for thirty days, also over a restart."""
    write(file, "1")
    write(file, "2", at=NOW + 29 * DAY)
    again, _ = opened(folder)
    write(again, "3", at=NOW + 30 * DAY - 1)
    write(again, "4", at=NOW + 30 * DAY)
    write(again, "5", at=NOW + 59 * DAY)
    write(again, "6", at=NOW + 60 * DAY)
    assert [path.name for path in audit.segments(folder)] == [audit.segment_name(first) for first in (1, 4, 6)]
    assert good(folder, first, 6)


def test_rotation_that_fails(file: AuditFile, folder: Path, first: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that could not be begun is begun by the next write."""
    write(file, "1")
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    for fault in (Fault("open"), Fault("fsync", number=EIO)):
        with monkeypatch.context() as patch:
            fault.inject(patch)
            with pytest.raises(OSError, match=os.strerror(fault.number)):
                file.append(records("2"), NOW)
        assert file.end.count == 1
    write(file, "2")
    assert [path.name for path in audit.segments(folder)] == [audit.segment_name(first) for first in (1, 2)]
    assert good(folder, first, 2)


def test_empty_segment_after_a_crash(file: AuditFile, folder: Path, first: Key) -> None:
    """A segment that was begun and got no line is none; the one before it goes on."""
    write(file, "1")
    (folder / audit.segment_name(2)).touch()
    again, opening = opened(folder)
    assert opening == Opening()
    write(again, "2")
    assert names(folder) == [FIRST_SEGMENT, KEY_FILE]
    assert good(folder, first, 2)


def test_expired(file: AuditFile, folder: Path, first: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest segment has expired when the first line of the next one is old enough; the last one never does."""
    assert file.expired(NOW) is None
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    write(file, "1", "2", at=NOW)
    last = file.end
    assert file.expired(NOW + 1e9) is None
    write(file, "3", at=NOW + DAY)
    write(file, "4", at=NOW + 2 * DAY)
    assert file.expired(NOW + DAY) is None
    expired = file.expired(NOW + DAY + 1)
    assert expired is not None
    assert (expired.path, expired.first, expired.last) == (folder / FIRST_SEGMENT, 1, last)
    details = {"through": expired.last.count, "head": expired.last.head}
    file.append([{**records(audit.SEGMENT_DELETED)[0], "details": details}], NOW)
    expired.path.unlink()
    assert good(folder, first, 3)
    assert file.expired(NOW + DAY + 1) is None
    assert (file.expired(NOW + 1e9) or expired).first == 3


def test_deleted_segment_takes_its_checkpoints_along(
    file: AuditFile, folder: Path, first: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No checkpoint of a line stays that is gone, but of the last one; those that stay are whole, and private."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    notes = []
    for number in range(1, 5):
        write(file, f"{number}")
        notes.append(file.write_checkpoint(NOW, at_once=True))
    for _ in range(2):
        expired = file.expired(NOW + 1e9)
        assert expired is not None
        details = {"through": expired.last.count, "head": expired.last.head}
        file.append([{**records(audit.SEGMENT_DELETED)[0], "details": details}], NOW)
        file.delete(expired)
    path = folder / audit.CHECKPOINTS
    assert path.read_text(encoding="utf-8") == "".join(map(str, notes[1:]))
    assert mode(path) == 0o600
    assert names(folder)[:2] == [audit.segment_name(3), audit.segment_name(4)]
    assert good(folder, first, 4)
    assert file.verify().anchored == 6


def test_segment_is_deleted_before_there_is_a_checkpoint(
    file: AuditFile, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trail without checkpoints loses its oldest segment, and gets none by that."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    write(file, "1")
    write(file, "2")
    expired = file.expired(NOW + 1e9)
    assert expired is not None
    file.delete(expired)
    assert names(folder) == [audit.segment_name(2), KEY_FILE]


def test_extent_is_not_what_checkpoints_say(file: AuditFile, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is parsed while writers wait; a trail that goes on meanwhile is judged by what there was."""
    write(file, "1")
    file.write_checkpoint(NOW, at_once=True)
    with monkeypatch.context() as patch:
        patch.delattr(audit, "checkpoints")
        extent = file.extent()
    write(file, "2")
    file.write_checkpoint(NOW, at_once=True)
    report = file.verify(extent=extent)
    assert (report.result, report.lines, report.anchored) == (Verdict.GOOD, 1, 1)
    (folder / audit.CHECKPOINTS).write_text("something else")
    with pytest.raises(ValueError, match="not a checkpoint"):
        file.verify()


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("content", [b"", b"text\n", b"{}\n"])
def test_segment_that_is_none_does_not_expire(
    file: AuditFile, folder: Path, monkeypatch: pytest.MonkeyPatch, which: int, content: bytes
) -> None:
    """What is not a line of the trail is nothing to delete: it is evidence."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    write(file, "1")
    write(file, "2")
    audit.segments(folder)[which].write_bytes(content)
    assert file.expired(NOW + 1e9) is None


@pytest.mark.parametrize("old", [b'"at":"2', b'"at":"'], ids=["no time", "no name"])
def test_damaged_first_line(
    file: AuditFile, folder: Path, first: Key, monkeypatch: pytest.MonkeyPatch, old: bytes
) -> None:
    """A damaged first line of a segment neither keeps the trail from being opened nor raises when segments expire."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    write(file, "1")
    write(file, "2")
    write(file, "3")
    for path in audit.segments(folder)[1:]:
        lines = path.read_bytes()
        path.write_bytes(lines.replace(old, old.replace(b"at", b"bt") if old.endswith(b'"') else b'"at":"x'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_file, "SEGMENT_BYTES", 10**6)
        again, _ = opened(folder)
    assert again.end.count == 3
    assert file.expired(0) is None
    assert audit.verify(folder, [first]).result is Verdict.ALTERED


# --- What a crash or somebody else left


@pytest.mark.parametrize("torn", [b"{", b'{"n":3,"prev":"00', b"\x00" * 100, b"x" * 200_000])
def test_torn_last_line_is_set_aside(file: AuditFile, folder: Path, first: Key, torn: bytes) -> None:
    """What a power cut left of a line is kept beside the trail, which goes on."""
    write(file, "one", "two")
    path = folder / FIRST_SEGMENT
    size = path.stat().st_size
    with path.open("ab") as trail:
        trail.write(torn)
    again, opening = opened(folder)
    assert opening == Opening(torn=len(torn))
    assert again.end == file.end
    aside = folder / f"{FIRST_SEGMENT}.torn-{size}"
    assert aside.read_bytes() == torn
    assert mode(aside) == 0o600
    write(again, "three")
    assert good(folder, first, 3)


def test_torn_only_line_of_a_segment(
    file: AuditFile, folder: Path, first: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that has no complete line goes away, its piece stays, and the one before it goes on."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    write(file, "1")
    second = folder / audit.segment_name(2)
    second.write_bytes(b'{"n":2')
    again, opening = opened(folder)
    assert opening == Opening(torn=6)
    assert again.end == file.end
    assert (folder / f"{second.name}.torn-0").read_bytes() == b'{"n":2'
    assert not second.exists()
    write(again, "2")
    assert good(folder, first, 2)


def test_torn_first_line(file: AuditFile, folder: Path, first: Key) -> None:
    """A trail that ended before its first line was complete begins anew, with the same key."""
    (folder / FIRST_SEGMENT).write_bytes(b'{"n":1')
    again, opening = opened(folder)
    assert (opening, again.end, file.end) == (Opening(torn=6), Position(), Position())
    write(again, "one")
    assert good(folder, first, 1)


def test_long_last_line(file: AuditFile, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last line longer than what is read at once is found as well, also when it is the only one."""
    monkeypatch.setattr(audit_file, "_BLOCK", 64)
    for action in ("one", "two"):
        write(file, action)
        again, opening = opened(folder)
        assert (opening, again.end) == (Opening(), file.end)


@pytest.mark.parametrize("last", [b"\n", b"{}\n", b"text\n", b'{"n":2,"prev":"' + b"0" * 64 + b'","x\n'])
def test_file_that_is_no_trail(file: AuditFile, folder: Path, last: bytes) -> None:
    """A segment that does not end with a line of a trail is neither continued nor touched."""
    write(file, "one")
    path = folder / FIRST_SEGMENT
    with path.open("ab") as trail:
        trail.write(last)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=re.escape(str(path))):
        opened(folder)
    assert path.read_bytes() == before


def test_folder_cannot_be_made(tmp_path: Path) -> None:
    """Where there is no folder there is no trail."""
    (tmp_path / "grokmon").touch()
    with pytest.raises(OSError, match="grokmon"):
        opened(tmp_path / "grokmon" / "audit")


@pytest.mark.parametrize("left", [0, 1, 2])
def test_missing_lines(file: AuditFile, folder: Path, first: Key, left: int) -> None:
    """The key knows of lines that are gone; the numbers go on, so that the gap stays where everybody finds it."""
    write(file, "one", "two", "three")
    path = folder / FIRST_SEGMENT
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:left]))
    again, opening = opened(folder)
    assert opening == Opening(missing=3 - left)
    write(again, "four")
    (finding,) = audit.verify(folder, [first]).findings
    assert (finding.result, finding.line) == (Verdict.CUT, left + 1)
    assert audit.verify(folder, [first]).end.count == 4
    assert opened(folder)[1] == Opening()


def test_all_files_but_the_key_are_gone(file: AuditFile, folder: Path, first: Key) -> None:
    """Deleting the segments does not pass for a new trail."""
    write(file, "one", "two")
    (folder / FIRST_SEGMENT).unlink()
    again, opening = opened(folder)
    assert opening == Opening(missing=2)
    write(again, "three")
    assert names(folder) == [audit.segment_name(3), KEY_FILE]
    assert audit.verify(folder, [first]).findings[0].reason == "lines 1 to 2 are missing, and no line says why"


@pytest.mark.parametrize("segment_bytes", [1, 10**6])
def test_lagging_key(
    file: AuditFile, folder: Path, first: Key, monkeypatch: pytest.MonkeyPatch, segment_bytes: int
) -> None:
    """A crash before the key was moved on leaves lines that it does not know; it catches up over segments."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", segment_bytes)
    write(file, "one", "two")
    file.append(records("three"), NOW)
    file.append(records("four"), NOW)
    again, opening = opened(folder)
    assert opening == Opening(lagged=2)
    write(again, "five")
    assert good(folder, first, 5)
    assert opened(folder)[1] == Opening()


def test_lagging_key_reads_no_more_than_it_must(file: AuditFile, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key catches up from the segment that holds the first line it does not know: a trail may be 500 MB."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    write(file, "one", "two")
    write(file, "three")
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 10**6)
    write(file, "four")
    file.append(records("five"), NOW)
    assert [path.name for path in audit.segments(folder)] == [audit.segment_name(number) for number in (1, 3)]
    read: list[str] = []
    whole = Path.read_bytes

    def observed(path: Path) -> bytes:
        read.append(path.name)
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", observed)
    assert opened(folder)[1] == Opening(lagged=1)
    assert [name for name in read if name != KEY_FILE] == [audit.segment_name(3)]


@pytest.mark.parametrize(("spoilt", "forged"), [(0, None), (1, None), (2, 3), (3, 4), (4, 5)])
def test_forged_lines_behind_the_key(file: AuditFile, folder: Path, first: Key, spoilt: int, forged: int) -> None:
    """Whoever appended lines without the key is found when it catches up; what the key left behind is not read."""
    write(file, "line", "line")
    file.append(records("line", "line", "line"), NOW)
    path = folder / FIRST_SEGMENT
    lines = path.read_bytes().splitlines(keepends=True)
    lines[spoilt] = lines[spoilt].replace(b'"line"', b'"lime"')
    path.write_bytes(b"".join(lines))
    again, opening = opened(folder)
    assert opening == Opening(lagged=3, forged=forged)
    write(again, "six")
    findings = audit.verify(folder, [first]).findings
    assert findings[0].line == spoilt + 1
    assert {finding.line for finding in findings} <= {spoilt + 1, spoilt + 2}


def test_lines_that_are_none_behind_the_key(file: AuditFile, folder: Path, first: Key) -> None:
    """What is no line at all is passed over while the key catches up; the verification tells of it."""
    write(file, "one")
    file.append(records("two", "three"), NOW)
    path = folder / FIRST_SEGMENT
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"{}\n", lines[2]]))
    again, opening = opened(folder)
    assert opening == Opening(lagged=2)
    assert again.end == file.end
    assert audit.verify(folder, [first]).result is Verdict.ALTERED


def test_appended_lines_with_another_key(file: AuditFile, folder: Path) -> None:
    """Lines that follow on the hashes but have no right MAC are forged."""
    write(file, "one")
    line, end = audit.append(file.end, bytes(32), records("forged")[0])
    other, _ = audit.append(end, bytes(32), records("forged")[0])
    with (folder / FIRST_SEGMENT).open("ab") as trail:
        trail.write(line + other)
    assert opened(folder)[1] == Opening(lagged=2, forged=2)


def _key_file(spoil: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        path.write_bytes(spoil(path.read_bytes()))

    return apply


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        _key_file(lambda _: b""),
        _key_file(lambda data: data[:50]),
        _key_file(lambda data: data[:-1]),
        _key_file(lambda data: b"\x00" * len(data)),
        _key_file(lambda data: data[:17] + b"9" + data[18:]),
        _key_file(lambda data: data[:30] + (b"0" if data[30:31] != b"0" else b"1") + data[31:]),
        _key_file(lambda data: data[:-2] + (b"0" if data[-2:-1] != b"0" else b"1") + b"\n"),
    ],
)
def test_lost_key(file: AuditFile, folder: Path, first: Key, spoil: Callable[[Path], None]) -> None:
    """Without a key that is whole the trail goes on with a new one, which can be taken over by somebody from then."""
    write(file, "one", "two")
    spoil(folder / KEY_FILE)
    again, opening = opened(folder)
    assert opening == Opening(new_key=True)
    assert again.end == file.end
    write(again, "three", audit.KEY_CHANGED)
    second = again.new_key()
    write(again, "five")
    assert audit.verify(folder).result is Verdict.GOOD
    assert {finding.line for finding in audit.verify(folder, [first, second]).findings} == {3, 4}
    assert opened(folder)[1] == Opening()


def test_key_file_that_was_longer(file: AuditFile, folder: Path) -> None:
    """A key file that was filled with anything is whole again after the next mark."""
    write(file, "one")
    (folder / KEY_FILE).write_bytes(b"x" * 500)
    again, opening = opened(folder)
    assert opening == Opening(new_key=True)
    write(again, "two")
    assert opened(folder)[1] == Opening()


def test_key_file_that_cannot_be_read(file: AuditFile, folder: Path) -> None:
    """A key file in the way of which something stands is an error, not a lost key."""
    write(file, "one")
    (folder / KEY_FILE).unlink()
    (folder / KEY_FILE).mkdir()
    with pytest.raises(OSError, match=KEY_FILE):
        opened(folder)


# --- Writes that fail


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("write"), id="nothing-written"),
        pytest.param(Fault("write", partly=30), id="short-write"),
        pytest.param(Fault("write", partly=300), id="one-line-written"),
        pytest.param(Fault("fdatasync", number=EIO), id="not-synced"),
    ],
)
@pytest.mark.parametrize("before", [0, 1])
def test_failed_append_leaves_no_trace(
    file: AuditFile, folder: Path, first: Key, monkeypatch: pytest.MonkeyPatch, *, fault: Fault, before: int
) -> None:
    """Records are appended all or none: what failed is undone, and appears once when it is tried again."""
    write(file, *["one"] * before)
    known = file.end, actions(folder), (folder / KEY_FILE).read_bytes()
    for _ in range(2):
        with monkeypatch.context() as patch:
            fault.inject(patch)
            with pytest.raises(OSError, match=os.strerror(fault.number)):
                file.append(records("two", "three"), NOW)
        assert (file.end, actions(folder), (folder / KEY_FILE).read_bytes()) == known
        assert all(path.read_bytes()[-1:] in {b"", b"\n"} for path in audit.segments(folder))
    write(file, "two", "three")
    assert actions(folder) == ["one"] * before + ["two", "three"]
    assert good(folder, first, before + 2)


def _fail(file: AuditFile, attempt: Callable[[], object], fault: Fault) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fault.inject(patch)
        with pytest.raises(OSError, match=os.strerror(fault.number)):
            attempt()
    assert file.end.count


@pytest.mark.parametrize(
    "fault",
    [Fault("open"), Fault("write"), Fault("write", partly=20), Fault("fdatasync", number=EIO)],
    ids=["open", "write", "short", "sync"],
)
def test_failed_mark(file: AuditFile, folder: Path, first: Key, fault: Fault) -> None:
    """A key that could not be moved on is moved on by the next mark; lines are neither lost nor written twice."""
    write(file, "one")
    file.append(records("two"), NOW)
    descriptors = descriptors_open()
    _fail(file, file.mark, fault)
    assert descriptors_open() == descriptors
    write(file, "three")
    assert actions(folder) == ["one", "two", "three"]
    assert opened(folder)[1] == Opening()
    assert good(folder, first, 3)


@pytest.mark.parametrize(
    "fault",
    [Fault("open"), Fault("write"), Fault("write", partly=20), Fault("fdatasync", number=EIO)],
    ids=["open", "write", "short", "sync"],
)
@pytest.mark.parametrize("before", [0, 1])
def test_failed_checkpoint_leaves_no_trace(file: AuditFile, folder: Path, *, fault: Fault, before: int) -> None:
    """A checkpoint that could not be written is written whole by the next attempt."""
    kept = folder / audit.CHECKPOINTS
    for _ in range(before):
        write(file, "one")
        file.write_checkpoint(NOW, at_once=True)
    known = kept.read_bytes() if before else b""
    write(file, "two")
    _fail(file, lambda: file.write_checkpoint(NOW, at_once=True), fault)
    assert (kept.read_bytes() if kept.exists() else b"") == known
    assert file.checkpoint.count == before
    note = file.write_checkpoint(NOW, at_once=True)
    assert note is not None
    assert kept.read_bytes() == known + note.encode()
    assert file.verify().result is Verdict.GOOD


def test_write_in_pieces(file: AuditFile, folder: Path, first: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes a few bytes at a time gets them all."""
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
        write(file, "one", "two")
        file.write_checkpoint(NOW, at_once=True)
    assert opened(folder)[1] == Opening()
    assert file.verify() == Verification(file.end, (), 2, 0, anchored=2)
    assert good(folder, first, 2)


def test_segment_that_vanished(file: AuditFile, folder: Path, first: Key) -> None:
    """Lines never go into a file that somebody deleted; a trail without its beginning does not pass for a new one."""
    write(file, "one", "two")
    (folder / FIRST_SEGMENT).unlink()
    write(file, "three")
    assert names(folder) == [audit.segment_name(3), KEY_FILE]
    assert actions(folder) == ["three"]
    assert file.verify().result is Verdict.CUT
    assert audit.verify(folder, [first]).findings[0].reason == "lines 1 to 2 are missing, and no line says why"


def test_folder_that_vanished(file: AuditFile, folder: Path) -> None:
    """Without its folder a trail cannot be written, until there is one again."""
    write(file, "one")
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError):
        file.append(records("two"), NOW)
    folder.mkdir()
    write(file, "two")
    assert actions(folder) == ["two"]
    assert file.verify().result is Verdict.CUT


def test_end_that_was_cut(file: AuditFile, folder: Path, first: Key) -> None:
    """The running process knows of lines that are gone from the end; so does whoever has a checkpoint."""
    write(file, "one", "two", "three")
    end = file.end
    path = folder / FIRST_SEGMENT
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert file.verify().result is Verdict.CUT
    assert audit.verify(folder, [first]).result is Verdict.GOOD
    assert audit.verify(folder, [first], [end]).result is Verdict.CUT


def test_last_line_that_was_edited(file: AuditFile, folder: Path) -> None:
    """The running process knows what it wrote last."""
    write(file, "one", "two")
    path = folder / FIRST_SEGMENT
    path.write_bytes(path.read_bytes().replace(b'"two"', b'"tow"'))
    assert file.verify().result is Verdict.ALTERED


# --- Checkpoints


def _positions(folder: Path) -> Iterable[int]:
    notes = audit.checkpoints((folder / audit.CHECKPOINTS).read_text())
    return [each.position.count for each in notes if each.signed_by(SIGNER.public_key)]


def test_checkpoint_when_it_is_due(file: AuditFile, folder: Path) -> None:
    """A checkpoint is written after a hundred lines or an hour, when there are new lines at all."""
    assert file.write_checkpoint(NOW + CHECKPOINT_SECONDS) is None
    assert file.write_checkpoint(NOW, at_once=True) is None
    write(file, *["x"] * (CHECKPOINT_LINES - 1))
    assert file.write_checkpoint(NOW + CHECKPOINT_SECONDS - 1) is None
    write(file, "x")
    note = file.write_checkpoint(NOW + 1)
    assert note == SIGNER(file.end, NOW + 1)
    assert file.checkpoint == file.end
    write(file, "x")
    assert file.write_checkpoint(NOW + CHECKPOINT_SECONDS) is None
    assert file.write_checkpoint(NOW + 1 + CHECKPOINT_SECONDS) is not None
    assert file.write_checkpoint(NOW + 1e6) is None
    write(file, "x")
    assert file.write_checkpoint(NOW + 2 + CHECKPOINT_SECONDS) is None
    assert file.write_checkpoint(NOW + 2 + CHECKPOINT_SECONDS, at_once=True) is not None
    assert _positions(folder) == [100, 101, 102]
    assert file.verify() == Verification(file.end, (), 102, 0, anchored=102)


def test_checkpoints_show_what_was_altered(file: AuditFile, folder: Path) -> None:
    """A line that a checkpoint beside the trail, or one kept elsewhere, counts is found when it is another one."""
    write(file, "one")
    elsewhere = file.end
    write(file, "two")
    file.write_checkpoint(NOW, at_once=True)
    write(file, "three")
    forged, end = [], Position()
    for action in ("forged", "two", "three"):
        line, end = audit.append(end, bytes(32), records(action)[0])
        forged.append(line)
    (folder / FIRST_SEGMENT).write_bytes(b"".join(forged))
    assert [finding.line for finding in file.verify([elsewhere]).findings] == [1, 2, 3]
    assert [finding.line for finding in file.verify().findings] == [2, 3]
    (folder / audit.CHECKPOINTS).unlink()
    assert [finding.line for finding in file.verify().findings] == [3]
    assert [finding.line for finding in audit.verify(folder).findings] == []


@pytest.mark.parametrize("torn", [1, 40, 150])
def test_torn_checkpoint(file: AuditFile, folder: Path, torn: int) -> None:
    """What a power cut left of a checkpoint does not keep the trail from being verified for ever."""
    write(file, "one")
    note = file.write_checkpoint(NOW, at_once=True)
    write(file, "two")
    other = file.write_checkpoint(NOW, at_once=True)
    assert note is not None
    assert other is not None
    (folder / audit.CHECKPOINTS).write_text(note + other[:torn])
    again, _ = opened(folder)
    write(again, "three")
    again.write_checkpoint(NOW, at_once=True)
    assert again.verify().result is Verdict.GOOD
    assert list(_positions(folder)) == [1, 3]


def _fail_for_good(file: AuditFile, *actions: str, fault: Fault) -> None:
    """Let the disk fail, and not give back what it took either."""
    with pytest.MonkeyPatch.context() as patch:
        Fault("ftruncate", number=EROFS).inject(patch)
        with pytest.MonkeyPatch.context() as failing:
            fault.inject(failing)
            with pytest.raises(OSError, match=os.strerror(fault.number)):
                file.append(records(*actions), NOW)
        with pytest.raises(OSError, match=os.strerror(EROFS)):
            file.append(records(*actions), NOW)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("write", partly=10), id="half-a-line"),
        pytest.param(Fault("write", partly=300), id="a-line-and-a-half"),
        pytest.param(Fault("fdatasync", number=EIO), id="whole-lines"),
    ],
)
@pytest.mark.parametrize("before", [0, 1])
def test_what_could_not_be_undone_is_undone_later(
    file: AuditFile, folder: Path, first: Key, *, fault: Fault, before: int
) -> None:
    """What a disk took and did not give back goes before the next line follows, which never has the same number."""
    write(file, *["one"] * before)
    known = file.end
    _fail_for_good(file, "two", "three", fault=fault)
    assert file.end == known
    write(file, "two", "three")
    assert actions(folder) == ["one"] * before + ["two", "three"]
    assert good(folder, first, before + 2)
    assert opened(folder)[1] == Opening()


def test_other_lines_after_those_that_could_not_be_undone(file: AuditFile, folder: Path, first: Key) -> None:
    """What was given up meanwhile is not in the trail, whatever follows."""
    write(file, "one")
    _fail_for_good(file, "two", "three", fault=Fault("fdatasync", number=EIO))
    write(file, "four")
    assert actions(folder) == ["one", "four"]
    assert good(folder, first, 2)


def test_segment_that_vanished_before_it_was_undone(file: AuditFile, folder: Path) -> None:
    """A segment that somebody deleted holds up nothing."""
    write(file, "one")
    _fail_for_good(file, "two", fault=Fault("fdatasync", number=EIO))
    (folder / FIRST_SEGMENT).unlink()
    write(file, "two")
    assert actions(folder) == ["two"]
    assert names(folder) == [audit.segment_name(2), KEY_FILE]


def test_opening_again_instead_of_undoing(file: AuditFile, folder: Path, first: Key) -> None:
    """Whole lines that were left count as lines whose key lagged once the trail is taken up anew."""
    write(file, "one")
    _fail_for_good(file, "two", fault=Fault("fdatasync", number=EIO))
    assert file.open(NOW) == Opening(lagged=1)
    write(file, "three")
    assert actions(folder) == ["one", "two", "three"]
    assert good(folder, first, 3)
