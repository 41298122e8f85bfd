"""The journal on a real disk: what comes back, what does not pass, what a failing disk and time leave of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import ENOSPC
import os
from pathlib import Path
import stat
from typing import Any

from hypothesis import given, settings, strategies as st
import pytest

from custom_components.grokmon.gateway.vault import Vault
from custom_components.grokmon.journal_file import JournalFile, Row

DAY = 86_400.0
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
EVER = 253_402_300_799.0
TODAY = "telemetry-2026-11-23.journal"
KEY = bytes(range(32))
FRAMES = 5


def _journal(
    folder: Path, key: bytes = KEY, *, name: str = "telemetry", keep_days: int = 7, max_bytes: int = 10**9
) -> JournalFile:
    return JournalFile(folder, name, Vault(key), keep_days=keep_days, max_bytes=max_bytes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where the journal is to be."""
    return tmp_path / "grokmon" / "staging"


@pytest.fixture
def journal(folder: Path) -> JournalFile:
    """Return a journal with nothing in it."""
    return _journal(folder)


def _row(number: int, at: float = NOON) -> Row:
    return {"at": at + number, "device": f"tent-{number % 2}", "number": number}


def _read(journal: JournalFile, start: float = 0.0, end: float = EVER, limit: int = 10**9) -> tuple[list[int], int]:
    rows, damaged = journal.read(start, end, limit, lambda _row: True)
    return [row["number"] for row in rows], damaged


def _fill(journal: JournalFile) -> None:
    for number in range(FRAMES):
        journal.append([_row(number)], NOON)


def _frames(data: bytes) -> Iterator[bytes]:
    while data:
        length = 4 + int.from_bytes(data[:4])
        yield data[:length]
        data = data[length:]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@dataclass(frozen=True)
class Fault:
    """A function of `os` that fails; `partly` is how many bytes it writes before."""

    function: str
    partly: int = 0

    def inject(self, patch: pytest.MonkeyPatch) -> None:
        """Put the fault in place."""
        real = getattr(os, self.function)

        def fail(*arguments: Any) -> Any:
            if self.partly:
                real(arguments[0], arguments[1][: self.partly])
            raise OSError(ENOSPC, "No space left on device")

        patch.setattr(os, self.function, fail)


# What comes back


def test_no_journal(journal: JournalFile, folder: Path) -> None:
    """Read nothing, and delete nothing, where there is nothing; make no folder for it."""
    assert _read(journal) == ([], 0)
    assert journal.purge(NOON) == []
    assert journal.size == 0
    assert not folder.exists()


def test_rows_come_back(journal: JournalFile, folder: Path) -> None:
    """Read the rows of all frames in their order, in this process and in the next one."""
    rows: list[Row] = [
        {"at": NOON, "text": "Blüte\n", "list": [1, None, True, 2.5], "inner": {"a": {}}},
        {"at": NOON + 1},
    ]
    journal.append(rows, NOON)
    journal.append([{"at": NOON + 2}], NOON)
    again = _journal(folder)
    again.append([{"at": NOON + 3}], NOON)
    expected = [*rows, {"at": NOON + 2}, {"at": NOON + 3}]
    assert journal.read(0, EVER, 10, lambda _row: True) == again.read(0, EVER, 10, lambda _row: True) == (expected, 0)
    assert journal.size == again.size == (folder / TODAY).stat().st_size


@given(
    batches=st.lists(
        st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(-9, 9)), min_size=1),
        max_size=5,
    )
)
@settings(deadline=None, max_examples=30)
def test_any_rows_come_back(tmp_path_factory: pytest.TempPathFactory, batches: list[list[dict[str, Any]]]) -> None:
    """Read back whatever was appended, over several starts."""
    folder = tmp_path_factory.mktemp("journal")
    for batch in batches:
        _journal(folder).append([{**row, "at": 5.0} for row in batch], NOON)
    rows, damaged = _journal(folder).read(0, EVER, 10**9, lambda _row: True)
    assert (rows, damaged) == ([{**row, "at": 5.0} for batch in batches for row in batch], 0)


def test_rows_are_chosen(journal: JournalFile) -> None:
    """Read from `start`, before `end`, what is to be kept, and no more than asked for."""
    journal.append([_row(number) for number in range(10)], NOON)
    assert _read(journal, NOON + 3, NOON + 6) == ([3, 4, 5], 0)
    assert _read(journal, NOON + 3, NOON + 3) == ([], 0)
    assert _read(journal, limit=4) == ([0, 1, 2, 3], 0)
    assert _read(journal, limit=10) == (list(range(10)), 0)
    odd, _ = journal.read(0, EVER, 3, lambda row: row["device"] == "tent-1")
    assert [row["number"] for row in odd] == [1, 3, 5]


def test_days_are_files(journal: JournalFile, folder: Path) -> None:
    """Write a file per day in UTC, and read over all of them."""
    for day in range(3):
        journal.append([_row(day, NOON + day * DAY)], NOON + day * DAY)
    assert sorted(path.name for path in folder.iterdir()) == [
        f"telemetry-2026-11-{day}.journal" for day in (23, 24, 25)
    ]
    assert _read(journal) == ([0, 1, 2], 0)
    assert _read(journal, NOON + DAY) == ([1, 2], 0)
    assert _read(journal, end=NOON + DAY) == ([0], 0)
    assert _read(journal, -1e12, 1e12) == ([0, 1, 2], 0)


def test_days_that_do_not_matter_are_not_read(journal: JournalFile, folder: Path) -> None:
    """Leave the days before the period alone."""
    journal.append([_row(0)], NOON)
    journal.append([_row(1, NOON + DAY)], NOON + DAY)
    (folder / TODAY).write_bytes(b"\x00\x00\x00\x01x")
    assert _read(journal, NOON + DAY) == ([1], 0)
    assert _read(journal) == ([1], 1)


@pytest.mark.parametrize("late", [5.0, 10.0, 3 * 3600.0])
def test_row_is_found_that_was_written_on_the_next_day(journal: JournalFile, late: float) -> None:
    """Find what came before midnight and was written after it."""
    midnight = NOON + DAY / 2
    journal.append([_row(0, midnight - 5)], midnight - 5 + late)
    assert _read(journal, midnight - 3600, midnight - 1) == ([0], 0)


def test_journals_do_not_mix(folder: Path) -> None:
    """Keep two journals of one folder apart."""
    telemetry, quarantine = _journal(folder), _journal(folder, name="quarantine")
    telemetry.append([_row(1)], NOON)
    quarantine.append([_row(2)], NOON)
    (folder / "telemetry-2026-11-23.journal.old").write_bytes(b"not ours")
    (folder / "telemetry-of-somebody").write_bytes(b"not ours")
    assert (_read(telemetry), _read(quarantine)) == (([1], 0), ([2], 0))
    assert quarantine.purge(NOON + 100 * DAY) == ["quarantine-2026-11-23.journal"]
    assert _read(telemetry) == ([1], 0)


# What is on the disk


def test_files_are_private(journal: JournalFile, folder: Path) -> None:
    """Keep journals for Home Assistant alone."""
    _fill(journal)
    assert (_mode(folder), _mode(folder / TODAY)) == (0o700, 0o600)


def test_disk_holds_no_plain_text(journal: JournalFile, folder: Path) -> None:
    """Write nothing that can be read without the key, not even twice the same."""
    rows = [{"at": NOON, "device": "tent-1", "text": "a secret harvest"}]
    for _ in range(2):
        journal.append(rows, NOON)
    data = (folder / TODAY).read_bytes()
    for plain in (b"tent-1", b"secret", b"harvest", b"device"):
        assert plain not in data
    first, second = _frames(data)
    assert first != second
    assert _journal(folder, bytes(32)).read(0, EVER, 10, lambda _row: True) == ([], 2)


def test_rows_are_compressed(journal: JournalFile) -> None:
    """Take much less room than the rows as JSON."""
    rows = [
        {"at": NOON + index, "device": "tent-1", "measured_at": NOON + index, "values": {"temp_c": 21.5 + index % 7}}
        for index in range(1000)
    ]
    journal.append(rows, NOON)
    assert journal.size < sum(len(str(row)) for row in rows) / 5


# What does not pass


@pytest.mark.parametrize("victim", range(FRAMES))
def test_altered_frame_is_counted(journal: JournalFile, folder: Path, victim: int) -> None:
    """Count a frame of which any byte was altered, and read the others."""
    _fill(journal)
    frames = list(_frames((folder / TODAY).read_bytes()))
    rest = [number for number in range(FRAMES) if number != victim]
    for position in range(4, len(frames[victim])):
        altered = bytearray(frames[victim])
        altered[position] ^= 1
        (folder / TODAY).write_bytes(b"".join([*frames[:victim], altered, *frames[victim + 1 :]]))
        assert _read(journal) == (rest, 1)


@pytest.mark.parametrize("victim", range(FRAMES))
def test_altered_length_is_counted(journal: JournalFile, folder: Path, victim: int) -> None:
    """Count as damage that the length of a frame was altered, and read at least what is before it."""
    _fill(journal)
    frames = list(_frames((folder / TODAY).read_bytes()))
    for bit in range(32):
        length = (int.from_bytes(frames[victim][:4]) ^ 1 << bit).to_bytes(4)
        altered = [*frames[:victim], length + frames[victim][4:], *frames[victim + 1 :]]
        (folder / TODAY).write_bytes(b"".join(altered))
        numbers, damaged = _read(journal)
        assert numbers[:victim] == list(range(victim))
        assert victim not in numbers
        assert damaged


@pytest.mark.parametrize(
    ("change", "numbers", "damaged"),
    [
        (lambda frames: [frames[1], frames[0], *frames[2:]], [2, 3, 4], 2),
        (lambda frames: [*frames[:4], frames[0]], [0, 1, 2, 3], 1),
        (lambda frames: [*frames, frames[0]], [0, 1, 2, 3, 4], 1),
        (lambda frames: frames[1:], [], 4),
        (lambda frames: [*frames[:2], *frames[3:]], [0, 1], 2),
        (lambda frames: [*frames[:2], b"\x00\x00\x00\x00", *frames[2:]], [0, 1], 4),
        (lambda frames: frames[::-1], [2], 4),
    ],
    ids=["swapped", "replaced by another", "repeated", "first removed", "one removed", "one put in", "turned round"],
)
def test_moved_frames_are_counted(
    journal: JournalFile,
    folder: Path,
    change: Callable[[list[bytes]], list[bytes]],
    numbers: list[int],
    damaged: int,
) -> None:
    """Count every frame that is not where it was written, and read the others."""
    _fill(journal)
    frames = list(_frames((folder / TODAY).read_bytes()))
    (folder / TODAY).write_bytes(b"".join(change(frames)))
    assert _read(journal) == (numbers, damaged)


def test_frames_of_another_day_or_journal_are_counted(journal: JournalFile, folder: Path) -> None:
    """Refuse a file that takes the place of another one."""
    _fill(journal)
    data = (folder / TODAY).read_bytes()
    (folder / "telemetry-2026-11-22.journal").write_bytes(data)
    assert _read(journal) == (list(range(FRAMES)), FRAMES)
    (folder / "quarantine-2026-11-23.journal").write_bytes(data)
    assert _read(_journal(folder, name="quarantine")) == ([], FRAMES)


def test_sealed_garbage_is_counted(journal: JournalFile, folder: Path) -> None:
    """Count what was sealed for this place and cannot be decompressed."""
    journal.append([_row(0)], NOON)
    sealed = Vault(KEY).seal_bytes(b"not compressed", "telemetry/2026-11-23/1")
    with (folder / TODAY).open("ab") as file:
        file.write(len(sealed).to_bytes(4) + sealed)
    journal = _journal(folder)
    journal.append([_row(2)], NOON)
    assert _read(journal) == ([0, 2], 1)


# What a power cut leaves


def test_torn_tail_at_every_position(folder: Path) -> None:
    """Read what was complete, cut off the rest, and go on, wherever the power was cut."""
    _fill(_journal(folder))
    data = (folder / TODAY).read_bytes()
    ends = [0]
    for frame in _frames(data):
        ends.append(ends[-1] + len(frame))
    for cut in range(len(data) + 1):
        (folder / TODAY).write_bytes(data[:cut])
        complete = sum(1 for end in ends if end <= cut) - 1
        journal = _journal(folder)
        assert _read(journal)[0] == list(range(complete))
        journal.append([_row(77)], NOON)
        journal.append([_row(78)], NOON)
        assert _read(journal) == ([*range(complete), 77, 78], 0)


def test_large_file_is_taken_up(folder: Path) -> None:
    """Count the frames of a file that is longer than what is read at once."""
    journal = _journal(folder)
    for number in range(3):
        journal.append([{**_row(number), "text": os.urandom(500_000).hex()}], NOON)
    assert journal.size > 1 << 20
    again = _journal(folder)
    again.append([_row(3)], NOON)
    assert _read(again) == ([0, 1, 2, 3], 0)


def test_large_file_is_not_read_to_take_it_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the lengths of the frames alone, however long these are."""
    for number in range(FRAMES):
        _journal(folder).append([{**_row(number), "text": os.urandom(50_000).hex()}], NOON)
    real, read = os.pread, []

    def pread(descriptor: int, length: int, at: int) -> bytes:
        read.append(length)
        return real(descriptor, length, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", pread)
        patch.delattr(os, "read")
        again = _journal(folder)
        again.append([_row(FRAMES)], NOON)
    assert read == [4] * FRAMES
    assert _read(again) == (list(range(FRAMES + 1)), 0)


# A disk that fails


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("write"), id="nothing-written"),
        pytest.param(Fault("write", 2), id="half-a-length"),
        pytest.param(Fault("write", 30), id="short-write"),
        pytest.param(Fault("fdatasync"), id="not-synced"),
        pytest.param(Fault("open"), id="not-opened"),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_failed_write_leaves_no_trace(
    journal: JournalFile, folder: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, before: int
) -> None:
    """Append all or nothing: what failed is undone, and appears once when it is tried again."""
    for number in range(before):
        journal.append([_row(number)], NOON)
    size = journal.size
    with monkeypatch.context() as patch:
        fault.inject(patch)
        with pytest.raises(OSError, match="No space left"):
            journal.append([_row(8), _row(9)], NOON)
    assert journal.size == size
    journal.append([_row(8), _row(9)], NOON)
    assert _read(journal) == _read(_journal(folder)) == ([*range(before), 8, 9], 0)


def test_failed_write_that_cannot_be_undone(
    journal: JournalFile, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off later what a disk that failed altogether kept of a frame."""
    journal.append([_row(0)], NOON)
    with monkeypatch.context() as patch:
        Fault("write", 30).inject(patch)
        Fault("ftruncate").inject(patch)
        with pytest.raises(OSError, match="No space left"):
            journal.append([_row(1)], NOON)
    journal.append([_row(2)], NOON)
    assert _read(journal) == _read(_journal(folder)) == ([0, 2], 0)


def test_write_in_pieces(journal: JournalFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write everything to a system that takes a few bytes at a time."""
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
        _fill(journal)
    assert _read(journal) == (list(range(FRAMES)), 0)


def test_folder_cannot_be_made(tmp_path: Path) -> None:
    """Raise what the disk says."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        _journal(tmp_path / "file" / "staging").append([_row(0)], NOON)


# What is too old or too much


def test_old_days_are_deleted(journal: JournalFile, folder: Path) -> None:
    """Keep as many days as asked for, and today."""
    for day in range(10):
        journal.append([_row(day, NOON + day * DAY)], NOON + day * DAY)
    assert journal.purge(NOON + 7 * DAY) == []
    assert journal.purge(NOON + 9 * DAY) == ["telemetry-2026-11-23.journal", "telemetry-2026-11-24.journal"]
    assert _read(journal) == (list(range(2, 10)), 0)
    assert len(journal.purge(NOON + 100 * DAY)) == 8
    assert list(folder.iterdir()) == []
    assert (_read(journal), journal.size) == (([], 0), 0)


def test_oldest_days_are_deleted_while_there_is_too_much(folder: Path) -> None:
    """Delete the oldest days until the rest fits."""
    for day in range(5):
        _journal(folder).append([{**_row(day), "text": os.urandom(500).hex()}], NOON + day * DAY)
    each = (folder / TODAY).stat().st_size
    journal = _journal(folder, max_bytes=3 * each + each // 2)
    assert journal.purge(NOON + 4 * DAY) == ["telemetry-2026-11-23.journal", "telemetry-2026-11-24.journal"]
    assert _read(journal) == ([2, 3, 4], 0)
    assert journal.purge(NOON + 4 * DAY) == []


def test_today_may_be_twice_too_much(folder: Path) -> None:
    """Keep the day that is written to until it alone is twice too much, and begin it anew then."""
    journal = _journal(folder)
    journal.append([{**_row(0), "text": os.urandom(500).hex()}], NOON)
    size = journal.size
    tolerant, strict = _journal(folder, max_bytes=size // 2 + 1), _journal(folder, max_bytes=size // 2 - 1)
    assert tolerant.purge(NOON) == []
    assert strict.purge(NOON) == [TODAY]
    strict.append([_row(1)], NOON)
    assert _read(strict) == ([1], 0)


def test_journal_goes_on_after_a_purge(journal: JournalFile) -> None:
    """Go on with the file of the day after older ones were deleted."""
    journal.append([_row(0)], NOON - 30 * DAY)
    journal.append([_row(1)], NOON)
    assert journal.purge(NOON) == ["telemetry-2026-10-24.journal"]
    journal.append([_row(2)], NOON)
    assert _read(journal) == ([1, 2], 0)


def test_clock_that_went_back(journal: JournalFile) -> None:
    """Go on with the file of a day that was left already."""
    for at in (NOON, NOON + DAY, NOON):
        journal.append([_row(int(at == NOON), at)], at)
    assert _read(journal) == ([1, 1, 0], 0)
