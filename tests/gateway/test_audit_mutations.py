"""A thousand changes to a trail of several segments: what finds which of them, and what does not.

The trail is a real one: its first segment was deleted, which a line tells of, and its key was changed once. Each change
is judged four times: with nothing, with the keys, with a checkpoint that was kept elsewhere, and with both.
"""

from collections.abc import Callable
from dataclasses import dataclass
import itertools
import json
from pathlib import Path
import random
from typing import Any, Final

import pytest

from custom_components.grokmon.gateway import audit
from custom_components.grokmon.gateway.audit import (
    Finding,
    Key,
    Position,
    Verdict,
    Verification,
    append,
    evolve,
    segment_name,
)
from custom_components.grokmon.gateway.audit_record import make

from .wire import NOW

FIRST: Final = 41
"""The number of the first line that is still there."""
CHANGED: Final = 170
"""The number of the line with which the key changes."""
LAST: Final = 340
KEYS: Final = (Key(1, b"one".ljust(32)), Key(CHANGED + 1, b"two".ljust(32)))
SEGMENTS: Final = (FIRST, 120, 200, 281)
MAC: Final = 64

type Lines = list[bytes]
type Change = Callable[[random.Random], tuple[Lines, frozenset[str]]]

NEITHER: Final = frozenset({"nothing"})
NOTHING: Final = frozenset[str]()


def _record(number: int, generator: random.Random, deleted: Position | None) -> dict[str, Any]:
    action, details = generator.choice(["command_allowed", "command_refused", "reading_refused", "tick"]), {}
    if number == CHANGED:
        action = audit.KEY_CHANGED
    elif number == 205 and deleted is not None:
        action, details = audit.SEGMENT_DELETED, {"first": 1, "through": deleted.count, "head": deleted.head}
    else:
        details = {"value": generator.random(), "text": generator.choice(["", "Blüte", 'a "quoted" one', "\u2028"])}
    return make(
        action,
        wall=NOW + number,
        mono=float(number),
        boot="boot",
        principal=None,
        target={"device": f"tent-{generator.randrange(9)}"},
        outcome="done",
        reason="",
        cid=None,
        details=details,
    )


@dataclass(frozen=True)
class Written:
    """The lines that are left, and the key of each line and the place after it, from number 0 on."""

    lines: Lines
    secrets: list[bytes]
    places: list[Position]


def _write() -> Written:
    generator = random.Random(20261123)  # noqa: S311 - repeatable
    fresh = {key.start: key.secret for key in KEYS}
    secret = b""
    secrets, places, lines = [b""], [Position()], [b""]
    for number in range(1, LAST + 1):
        secret = fresh.get(number, secret)
        deleted = places[FIRST - 1] if number >= FIRST else None
        line, place = append(places[-1], secret, _record(number, generator, deleted))
        secrets.append(secret)
        places.append(place)
        lines.append(line)
        secret = evolve(secret)
    return Written(lines[FIRST:], secrets, places)


TRAIL: Final = _write()
LINES: Final = TRAIL.lines
COUNT: Final = len(LINES)
ANCHOR: Final = TRAIL.places[LAST]
PREFIX: Final = LINES[-1].index(b'"at"')


def _follow(lines: Lines, end: Position, secret_of: Callable[[int], bytes]) -> Lines:
    """Return lines with these records, chained and with MACs anew."""
    again: Lines = []
    for line in lines:
        record = {name: value for name, value in _loads(line).items() if name not in {"n", "prev", "mac"}}
        fresh, end = append(end, secret_of(end.count + 1), record)
        again.append(fresh)
    return again


def _loads(line: bytes) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(line)
    return record


def _no_secret(_number: int) -> bytes:
    return b"guessed".ljust(32)


def _edited(line: bytes) -> bytes:
    return line.replace(b'"outcome":"done"', b'"outcome":"failed"')


# --- The changes. Each returns the lines, and which of the four verifications finds nothing wrong with them.


def flip_a_bit(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Flip one bit anywhere."""
    index = generator.randrange(COUNT)
    line = bytearray(LINES[index])
    at = generator.randrange(len(line))
    line[at] ^= 1 << generator.randrange(8)
    parts = [part + b"\n" for part in bytes(line).split(b"\n")]
    parts[-1] = parts[-1][:-1]
    lines = [*LINES[:index], *filter(None, parts), *LINES[index + 1 :]]
    if at == len(line) - 1 and index < COUNT - 1:
        lines[index : index + 2] = [lines[index] + lines[index + 1]]
    frame = at < PREFIX or at in range(len(line) - 3 - MAC - 8, len(line) - 3 - MAC) or at >= len(line) - 3
    content = index == COUNT - 1 and not frame and len(parts) == 2
    return lines, NEITHER if content else NOTHING


def edit_a_line(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Say something else in a line."""
    index = generator.randrange(COUNT)
    lines = [*LINES[:index], _edited(LINES[index]), *LINES[index + 1 :]]
    return lines, NEITHER if index == COUNT - 1 else NOTHING


def edit_the_last_line(_generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Say something else in the last line: no line after it holds its hash."""
    return [*LINES[:-1], _edited(LINES[-1])], NEITHER


def inject_a_member(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Put in a member that is there already, before or after it: some parsers read the one, some the other."""
    index = generator.randrange(COUNT)
    name = generator.choice([b'"action":"x"', b'"n":1', b'"outcome":"failed"', b'"mac":"%s"' % (b"0" * MAC)])
    line = LINES[index]
    at = generator.choice([PREFIX, len(line) - 3 - MAC - 7])
    line = line[:at] + name + b"," + line[at:]
    lines = [*LINES[:index], line, *LINES[index + 1 :]]
    return lines, NEITHER if index == COUNT - 1 else NOTHING


def swap_two_lines(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Put two lines in each other's place."""
    one, other = sorted(generator.sample(range(COUNT), 2))
    lines = [*LINES[:one], LINES[other], *LINES[one + 1 : other], LINES[one], *LINES[other + 1 :]]
    return lines, NOTHING


def repeat_a_line(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Put in a line a second time, somewhere."""
    lines = LINES.copy()
    lines.insert(generator.randrange(COUNT + 1), generator.choice(LINES))
    return lines, NOTHING


def delete_lines(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Take out one line or several, but the last one stays."""
    first = generator.randrange(COUNT - 1)
    after = min(first + generator.choice([1, 1, 2, 30]), COUNT - 1)
    return [*LINES[:first], *LINES[after:]], NOTHING


def cut_between_lines(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Take off the end: only a checkpoint knows that there was more. What told of the deleted segment may go, too."""
    left = generator.randrange(205 - FIRST + 1, COUNT)
    return LINES[:left], frozenset({"nothing", "keys"})


def cut_with_the_record_of_the_deletion(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Take off so much that no line tells any more why the first ones are missing."""
    return LINES[: generator.randrange(1, 205 - FIRST + 1)], NOTHING


def cut_within_a_line(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Leave a piece of a line at the end."""
    left = generator.randrange(COUNT)
    return [*LINES[:left], LINES[left][: generator.randrange(1, len(LINES[left]))]], NOTHING


def rewrite_the_end(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Change a line and compute all hashes after it anew, with MACs of a guessed key."""
    index = generator.randrange(COUNT)
    changed = [_edited(LINES[index]), *LINES[index + 1 :]]
    again = _follow(changed, TRAIL.places[FIRST + index - 1], _no_secret)
    return [*LINES[:index], *again], NEITHER


def rewrite_before_the_stolen_key(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Change a line from before the key that was stolen; from that key's line on every MAC is right again."""
    index, m = sorted(generator.sample(range(COUNT), 2))
    changed = [_edited(LINES[index]), *LINES[index + 1 :]]

    def secret_of(number: int) -> bytes:
        return TRAIL.secrets[number] if number >= FIRST + m else _no_secret(number)

    again = _follow(changed, TRAIL.places[FIRST + index - 1], secret_of)
    return [*LINES[:index], *again], NEITHER


def rewrite_from_the_stolen_key_on(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Change what was written after the theft, as whoever has the key of that line can."""
    index = generator.randrange(COUNT)
    changed = [_edited(LINES[index]), *LINES[index + 1 :]]
    again = _follow(changed, TRAIL.places[FIRST + index - 1], TRAIL.secrets.__getitem__)
    return [*LINES[:index], *again], frozenset({"nothing", "keys"})


def forge_the_record_of_a_deletion(generator: random.Random) -> tuple[Lines, frozenset[str]]:
    """Delete the beginning, and add a line that says that this was right."""
    left = generator.randrange(1, COUNT)
    place = TRAIL.places[FIRST + left - 1]
    details = {"first": FIRST, "through": place.count, "head": place.head}
    forged = {"at": "x", "action": audit.SEGMENT_DELETED, "details": details}
    return [*LINES[left:], append(ANCHOR, _no_secret(0), forged)[0]], frozenset({"nothing", "anchor"})


CHANGES: Final[dict[Change, int]] = {
    flip_a_bit: 250,
    edit_a_line: 100,
    edit_the_last_line: 1,
    inject_a_member: 100,
    swap_two_lines: 90,
    repeat_a_line: 90,
    delete_lines: 90,
    cut_between_lines: 60,
    cut_with_the_record_of_the_deletion: 20,
    cut_within_a_line: 60,
    rewrite_the_end: 40,
    rewrite_before_the_stolen_key: 40,
    rewrite_from_the_stolen_key_on: 40,
    forge_the_record_of_a_deletion: 19,
}
WITH: Final[dict[str, tuple[tuple[Key, ...], tuple[Position, ...]]]] = {
    "nothing": ((), ()),
    "keys": (KEYS, ()),
    "anchor": ((), (ANCHOR,)),
    "both": (KEYS, (ANCHOR,)),
}


def _save(folder: Path, lines: Lines) -> None:
    """Write lines as segments that begin where the real ones do."""
    starts = [start - FIRST for start in SEGMENTS]
    for start, stop in itertools.pairwise([*starts, None]):
        path = folder / segment_name(FIRST + (start or 0))
        path.unlink(missing_ok=True)
        if data := b"".join(lines[start:stop]):
            path.write_bytes(data)


def _judged(folder: Path, lines: Lines) -> dict[str, Verification]:
    _save(folder, lines)
    return {name: audit.verify(folder, keys, anchors) for name, (keys, anchors) in WITH.items()}


def test_trail_as_it_was_written(tmp_path: Path) -> None:
    """Find nothing wrong with the trail itself, whatever is at hand."""
    assert (COUNT, sum(CHANGES.values())) == (300, 1000)
    for name, report in _judged(tmp_path, LINES).items():
        keyed = COUNT if WITH[name][0] else 0
        assert report == Verification(ANCHOR, (), COUNT, keyed, anchored=LAST if WITH[name][1] else 0)
    assert len(audit.segments(tmp_path)) == 4


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes(tmp_path: Path, change: Change) -> None:
    """Find every change with keys and a checkpoint together; without, exactly those that each alone can find."""
    generator = random.Random(change.__name__)  # noqa: S311 - repeatable
    for number in range(CHANGES[change]):
        lines, unseen = change(generator)
        assert lines != LINES
        reports = _judged(tmp_path, lines)
        good = {name for name, report in reports.items() if report.result is Verdict.GOOD}
        assert (number, good) == (number, set(unseen))


def test_stolen_key_and_older_checkpoint(tmp_path: Path) -> None:
    """Find a rewriting with a stolen key by a checkpoint beyond its first line, by none from before."""
    m = 250
    lines = LINES.copy()
    changed = [_edited(LINES[m - FIRST]), *LINES[m - FIRST + 1 :]]
    lines[m - FIRST :] = _follow(changed, TRAIL.places[m - 1], TRAIL.secrets.__getitem__)
    _save(tmp_path, lines)
    for count in (FIRST, 100, m - 1):
        assert audit.verify(tmp_path, KEYS, [TRAIL.places[count]]).findings == ()
    for count in (m, m + 1, LAST):
        report = audit.verify(tmp_path, KEYS, [TRAIL.places[count]])
        assert report.findings == (Finding(count, Verdict.ALTERED, "the line is not the one of a checkpoint"),)


def test_where_a_rewriting_before_the_stolen_key_is_found(tmp_path: Path) -> None:
    """Name every line whose MAC the thief could not make, and no other."""
    m = 250
    changed = [_edited(LINES[m - 10 - FIRST]), *LINES[m - 9 - FIRST :]]

    def secret_of(number: int) -> bytes:
        return TRAIL.secrets[number] if number >= m else _no_secret(number)

    again = _follow(changed, TRAIL.places[m - 11], secret_of)
    _save(tmp_path, [*LINES[: m - 10 - FIRST], *again])
    report = audit.verify(tmp_path, KEYS)
    assert [finding.line for finding in report.findings] == list(range(m - 10, m))
    assert audit.verify(tmp_path, [Key(m, TRAIL.secrets[m])]).result is Verdict.GOOD
