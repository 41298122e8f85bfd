"""The audit log: batches, order, and what happens while the disk does not take them."""

from collections.abc import AsyncGenerator, Callable, Generator
from errno import ENOSPC
import json
import os
from pathlib import Path
from threading import Event
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped] # has no py.typed
    async_fire_time_changed,
)

from custom_components.grokmon.audit_log import AuditLog
from custom_components.grokmon.gateway.audit import Result

MOST = 10_000


class Trail:
    """An audit log, the clock, and its file."""

    def __init__(self, hass: HomeAssistant, clock: FrozenDateTimeFactory) -> None:
        """Begin with a log that is not open."""
        self.hass = hass
        self.clock = clock
        self.log = AuditLog(hass)
        self.path = Path(hass.config.path("grokmon", "audit", "audit.jsonl"))
        self.aside = self.path.with_suffix(".aside")

    async def let_pass(self, seconds: float) -> None:
        """Move the clock, and let happen what was due until then."""
        self.clock.tick(seconds)
        async_fire_time_changed(self.hass)
        await self.hass.async_block_till_done()

    def break_disk(self) -> None:
        """Put something in the way of the file."""
        if self.path.exists():
            self.path.rename(self.aside)
        self.path.mkdir()

    def repair_disk(self) -> None:
        """Take it away again."""
        self.path.rmdir()
        if self.aside.exists():
            self.aside.rename(self.path)

    def written(self) -> list[dict[str, Any]]:
        """Return the entries on the disk."""
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def events(self) -> list[str]:
        """Return the events on the disk."""
        return [entry["event"] for entry in self.written()]


class Gate:
    """A disk that is done when it is told to be, and fails if it is told so."""

    def __init__(self, fdatasync: Callable[[int], None]) -> None:
        """Begin closed."""
        self.opened = Event()
        self.error: OSError | None = None
        self._fdatasync = fdatasync

    def fdatasync(self, descriptor: int) -> None:
        """Wait for the gate, then do what the disk does."""
        assert self.opened.wait(10)
        if self.error is not None:
            raise self.error
        self._fdatasync(descriptor)


@pytest.fixture
async def trail(clock: FrozenDateTimeFactory, hass: HomeAssistant) -> AsyncGenerator[Trail]:
    """Return an open audit log."""
    opened = Trail(hass, clock)
    await opened.log.async_open()
    yield opened
    await opened.log.async_close()


async def test_entries_are_written_together(trail: Trail) -> None:
    """What is recorded within a second is one write, in the order in which it was recorded."""
    for number in range(3):
        trail.log.record("tick", number=number)
        trail.clock.tick(0.25)
    assert trail.events() == []
    await trail.let_pass(0.25)
    assert [(entry["event"], entry["number"], entry["at"]) for entry in trail.written()] == [
        ("tick", 0, "2026-11-23T12:00:00.000+00:00"),
        ("tick", 1, "2026-11-23T12:00:00.250+00:00"),
        ("tick", 2, "2026-11-23T12:00:00.500+00:00"),
    ]
    assert trail.log.entries == 3
    trail.log.record("next")
    await trail.let_pass(1)
    assert trail.events() == ["tick", "tick", "tick", "next"]


async def test_flush_does_not_wait_for_the_second(trail: Trail) -> None:
    """Who needs an entry on the disk asks for it; the timer is done with then."""
    trail.log.record("one")
    await trail.log.async_flush()
    assert trail.events() == ["one"]
    await trail.let_pass(1)
    assert trail.events() == ["one"]


async def test_flush_of_nothing(trail: Trail) -> None:
    """There may be nothing to write."""
    await trail.log.async_flush()
    assert trail.events() == []


async def test_close_writes_what_waits(trail: Trail) -> None:
    """Closing leaves neither an entry nor a timer behind."""
    trail.log.record("one")
    await trail.log.async_close()
    assert trail.events() == ["one"]


async def test_close_after_a_fault(trail: Trail) -> None:
    """A trail that is written again only as it is closed ends with the end of the fault."""
    trail.break_disk()
    trail.log.record("one")
    await trail.log.async_flush()
    trail.repair_disk()
    await trail.log.async_close()
    assert trail.events() == ["one", "audit_fault_ended"]


async def test_verification_includes_what_waits(trail: Trail) -> None:
    """What was decided before the question is part of the answer."""
    trail.log.record("one")
    report = await trail.log.async_verify()
    assert (report.result, report.end.count) == (Result.GOOD, 1)


async def test_goes_on_where_the_last_one_ended(trail: Trail) -> None:
    """A second log continues the chain; a torn line is recorded."""
    trail.log.record("one")
    await trail.log.async_close()
    with trail.path.open("ab") as file:
        file.write(b'{"n":2')
    again = AuditLog(trail.hass)
    await again.async_open()
    assert again.entries == 1
    await again.async_close()
    assert trail.events() == ["one", "recovered"]
    assert trail.written()[1]["bytes"] == 6
    assert (await again.async_verify()).result is Result.GOOD


async def test_end_cut_off_meanwhile(trail: Trail, caplog: pytest.LogCaptureFixture) -> None:
    """An end that was cut off between two starts is recorded, and told."""
    trail.log.record("one")
    trail.log.record("two")
    await trail.log.async_close()
    trail.path.write_bytes(trail.path.read_bytes().splitlines(keepends=True)[0])
    again = AuditLog(trail.hass)
    await again.async_open()
    await again.async_close()
    assert trail.events() == ["one", "cut_found"]
    assert trail.written()[1]["entries"] == 1
    assert "ends before its checkpoint" in caplog.text


async def test_disk_that_fails(trail: Trail, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost while the disk fails; it is logged once, tried again every 30 seconds, and the end recorded."""
    trail.log.record("before")
    await trail.log.async_flush()
    trail.break_disk()
    trail.log.record("during-1")
    await trail.let_pass(1)
    assert not trail.log.healthy
    trail.log.record("during-2")
    await trail.let_pass(30)
    assert caplog.text.count("The audit trail cannot be written") == 1
    trail.repair_disk()
    await trail.let_pass(29)
    assert trail.events() == ["before"]
    await trail.let_pass(1)
    assert trail.events() == ["before", "during-1", "during-2"]
    await trail.let_pass(1)
    assert trail.events() == ["before", "during-1", "during-2", "audit_fault_ended"]
    assert trail.log.entries == 4
    assert trail.written()[-1]["lost"] == 0
    assert (await trail.log.async_verify()).result is Result.GOOD


async def test_second_fault_is_logged_again(trail: Trail, caplog: pytest.LogCaptureFixture) -> None:
    """A fault after a recovery is a new one."""
    for _ in range(2):
        trail.break_disk()
        trail.log.record("during")
        await trail.log.async_flush()
        trail.repair_disk()
        await trail.log.async_flush()
    assert caplog.text.count("The audit trail cannot be written") == 2


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Generator[Gate]:
    """Let the disk take its time."""
    made = Gate(os.fdatasync)
    monkeypatch.setattr(os, "fdatasync", made.fdatasync)
    yield made
    made.opened.set()


async def test_record_while_the_disk_is_failing(trail: Trail, gate: Gate) -> None:
    """What is recorded while a write fails waits in its turn, for one timer, which closing cancels."""
    trail.log.record("first")
    flushing = trail.hass.async_create_task(trail.log.async_flush())
    assert not flushing.done()
    trail.log.record("second")
    gate.error = OSError(ENOSPC, "No space left on device")
    gate.opened.set()
    await flushing
    assert not trail.log.healthy
    await trail.log.async_close()
    gate.error = None
    await trail.let_pass(60)
    assert trail.events() == []
    await trail.log.async_flush()
    assert trail.events() == ["first", "second"]


async def test_record_while_the_disk_is_written(trail: Trail, gate: Gate) -> None:
    """What is recorded during a write is in the next one."""
    trail.log.record("first")
    flushing = trail.hass.async_create_task(trail.log.async_flush())
    trail.log.record("second")
    assert not flushing.done()
    gate.opened.set()
    await flushing
    assert trail.events() == ["first"]
    await trail.let_pass(1)
    assert trail.events() == ["first", "second"]


async def test_flushes_wait_for_each_other(trail: Trail, gate: Gate) -> None:
    """Two who flush at the same time write one after the other, in order."""
    trail.log.record("first")
    one = trail.hass.async_create_task(trail.log.async_flush())
    trail.log.record("second")
    other = trail.hass.async_create_task(trail.log.async_flush())
    assert not one.done()
    assert not other.done()
    gate.opened.set()
    await one
    await other
    assert trail.events() == ["first", "second"]
    assert (await trail.log.async_verify()).result is Result.GOOD


async def test_memory_is_bounded(trail: Trail) -> None:
    """While the disk fails a limited number of entries waits; how many were lost is recorded afterwards."""
    trail.break_disk()
    for number in range(MOST + 7):
        trail.log.record("tick", number=number)
    await trail.log.async_flush()
    trail.log.record("too late")
    trail.repair_disk()
    await trail.log.async_flush()
    assert trail.log.entries == MOST
    await trail.log.async_flush()
    assert trail.written()[-2]["number"] == MOST - 1
    assert (trail.written()[-1]["event"], trail.written()[-1]["lost"]) == ("audit_fault_ended", 8)
    trail.break_disk()
    trail.log.record("again")
    await trail.log.async_flush()
    trail.repair_disk()
    await trail.log.async_flush()
    await trail.log.async_flush()
    assert trail.written()[-1]["lost"] == 0


async def test_loss_without_a_fault_is_recorded(trail: Trail) -> None:
    """Entries that came too fast for a disk that works are counted as well."""
    for number in range(MOST + 3):
        trail.log.record("tick", number=number)
    assert trail.log.healthy
    await trail.log.async_flush()
    await trail.log.async_flush()
    assert trail.log.entries == MOST + 1
    assert trail.written()[-1]["lost"] == 3


async def test_trail_that_cannot_be_opened(clock: FrozenDateTimeFactory, hass: HomeAssistant) -> None:
    """Opening fails aloud."""
    trail = Trail(hass, clock)
    trail.path.parents[1].touch()
    with pytest.raises(OSError, match="grokmon"):
        await trail.log.async_open()
