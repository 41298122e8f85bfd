"""The audit log: batches, order, and what happens while the disk does not take them."""

import asyncio
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

from custom_components.grokmon import audit_file, audit_log
from custom_components.grokmon.audit_file import AuditFile, Opening
from custom_components.grokmon.audit_log import AuditLog
from custom_components.grokmon.gateway import audit
from custom_components.grokmon.gateway.audit import Key, Verdict, Verification, checkpoints
from custom_components.grokmon.gateway.audit_record import Search
from custom_components.grokmon.gateway.checkpoints import Signer
from custom_components.grokmon.gateway.principals import Caller, Principal

from .common import START

MOST = 10_000
SIGNER = Signer(bytes(32))


class Trail:
    """An audit log, the clock, and its folder."""

    def __init__(self, hass: HomeAssistant, clock: FrozenDateTimeFactory, patch: pytest.MonkeyPatch) -> None:
        """Begin with a log that is not open."""
        self.hass = hass
        self.clock = clock
        self.log = AuditLog(hass, SIGNER)
        self.folder = Path(hass.config.path("grokmon", "audit"))
        self.segment = self.folder / audit.segment_name(1)
        self._patch = patch
        self._real = os.write, os.open

    async def let_pass(self, seconds: float) -> None:
        """Move the clock, and let happen what was due until then."""
        self.clock.tick(seconds)
        async_fire_time_changed(self.hass)
        await self.hass.async_block_till_done()

    def break_disk(self, function: str = "write", only: str = "") -> None:
        """Let nothing more fit on the disk; of `open` only for paths with `only` in their names."""
        write, opener = self._real

        def fail(descriptor: Any, *rest: Any) -> Any:
            if function == "write":
                if not Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(self.folder):
                    return write(descriptor, *rest)
            elif only not in str(descriptor) or not str(descriptor).startswith(str(self.folder)):
                return opener(descriptor, *rest)
            raise OSError(ENOSPC, os.strerror(ENOSPC))

        self._patch.setattr(os, function, fail)

    def repair_disk(self) -> None:
        """Make room again."""
        self._patch.setattr(os, "write", self._real[0])
        self._patch.setattr(os, "open", self._real[1])

    def written(self) -> list[dict[str, Any]]:
        """Return the records on the disk."""
        return [json.loads(line) for path in audit.segments(self.folder) for line in path.read_bytes().splitlines()]

    def actions(self) -> list[str]:
        """Return the actions on the disk."""
        return [record["action"] for record in self.written()]

    def healthy(self) -> bool:
        """Tell whether the log says that it can be written."""
        return self.log.healthy

    def marked(self) -> int:
        """Return the number of the line whose key is on the disk."""
        return int((self.folder / "next.key").read_text()[:18])

    async def again(self) -> tuple[AuditLog, Opening]:
        """Open another log, as a restart does."""
        self.log = AuditLog(self.hass, SIGNER)
        return self.log, await self.log.async_open()


class Gate:
    """A disk that is done when it is told to be, and fails if it is told so."""

    def __init__(self, fdatasync: Callable[[int], None]) -> None:
        """Begin closed."""
        self.reached = Event()
        self.opened = Event()
        self.error: OSError | None = None
        self._fdatasync = fdatasync

    def fdatasync(self, descriptor: int) -> None:
        """Wait for the gate, then do what the disk does."""
        self.reached.set()
        assert self.opened.wait(10)
        if self.error is not None:
            raise self.error
        self._fdatasync(descriptor)

    async def async_reached(self, hass: HomeAssistant) -> None:
        """Return when somebody waits for the disk."""
        assert await hass.async_add_executor_job(self.reached.wait, 10)


@pytest.fixture
async def trail(
    clock: FrozenDateTimeFactory, hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Trail]:
    """Return an open audit log."""
    opened = Trail(hass, clock, monkeypatch)
    assert await opened.log.async_open() == Opening(new_key=True)
    yield opened
    opened.repair_disk()
    await opened.log.async_close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Generator[Gate]:
    """Let the disk take its time."""
    made = Gate(os.fdatasync)
    monkeypatch.setattr(os, "fdatasync", made.fdatasync)
    yield made
    made.opened.set()


# --- What is recorded


async def test_record_in_full(trail: Trail) -> None:
    """Record who, what, of what, with which outcome and why, and when, within which run."""
    who = Principal(caller=Caller.AI, identity="user-1", reason="dry")
    trail.log.record(
        "command_refused",
        outcome="refused",
        reason="range",
        who=who,
        cid="cid-1",
        device="tent-1",
        actuator="pump",
        zone="z1",
        value=1.5,
    )
    trail.log.record("zone_created", actor="user-2")
    trail.log.record("tick")
    await trail.log.async_flush()
    first, second, third = trail.written()
    boot, mono = first.pop("boot"), first.pop("mono")
    assert (len(boot), second["boot"], third["boot"]) == (16, boot, boot)
    assert mono <= second["mono"] <= third["mono"]
    assert {name: value for name, value in first.items() if name not in {"prev", "mac"}} == {
        "n": 1,
        "at": "2026-11-23T12:00:00.000Z",
        "principal": {"caller": "ai", "identity": "user-1", "reason": "dry"},
        "action": "command_refused",
        "object": {"device": "tent-1", "actuator": "pump", "zone": "z1"},
        "outcome": "refused",
        "reason": "range",
        "cid": "cid-1",
        "details": {"value": 1.5},
    }
    assert second["principal"] == {"caller": "person", "identity": "user-2"}
    assert (third["principal"], third["object"], third["outcome"], third["reason"]) == (None, {}, "done", "")
    assert (trail.log.path, trail.log.entries) == (trail.folder, 3)
    assert START.startswith(first["at"][:19])


async def test_listeners_hear_every_record(trail: Trail) -> None:
    """Tell listeners of a record as it is made."""
    heard: list[str] = []
    trail.log.listeners.append(lambda record: heard.append(record["action"]))
    trail.log.record("one")
    trail.log.record("two")
    assert heard == ["one", "two"]
    await trail.log.async_flush()
    assert trail.actions() == ["one", "two"]


async def test_details_that_are_not_json(trail: Trail) -> None:
    """Refuse them at once, and keep what stands beside them."""
    trail.log.record("one")
    with pytest.raises(ValueError, match="JSON"):
        trail.log.record("two", value=float("nan"))
    trail.log.record("three")
    await trail.log.async_flush()
    assert trail.actions() == ["one", "three"]


async def test_record_that_is_too_long_for_a_line(trail: Trail) -> None:
    """Never lose what stands beside a record that cannot be written, and never lose it silently."""
    trail.log.record("one")
    trail.log.record("two", cid="c" * 5000)
    trail.log.record("three")
    await trail.log.async_flush()
    assert [action for action in trail.actions() if action != "two"][:2] == ["one", "three"]


# --- Batches


async def test_records_are_written_together(trail: Trail) -> None:
    """What is recorded within a second is one write, in the order in which it was recorded."""
    for number in range(3):
        trail.log.record("tick", number=number)
        trail.clock.tick(0.25)
    assert trail.actions() == []
    await trail.let_pass(0.25)
    assert [(record["details"], record["at"]) for record in trail.written()] == [
        ({"number": 0}, "2026-11-23T12:00:00.000Z"),
        ({"number": 1}, "2026-11-23T12:00:00.250Z"),
        ({"number": 2}, "2026-11-23T12:00:00.500Z"),
    ]
    assert trail.log.entries == 3
    trail.log.record("next")
    await trail.let_pass(1)
    assert trail.actions() == ["tick", "tick", "tick", "next"]
    assert trail.marked() == 5


async def test_flush_does_not_wait_for_the_second(trail: Trail) -> None:
    """Who needs a record on the disk asks for it; the timer is done with then."""
    trail.log.record("one")
    await trail.log.async_flush()
    assert trail.actions() == ["one"]
    assert trail.marked() == 2
    await trail.let_pass(1)
    assert trail.actions() == ["one"]


async def test_flush_without_mark(trail: Trail) -> None:
    """A record is durable before the key follows it, within a second."""
    trail.log.record("one")
    await trail.log.async_flush(mark=False)
    assert (trail.actions(), trail.marked()) == (["one"], 1)
    await trail.log.async_flush(mark=False)
    assert trail.marked() == 1
    trail.log.record("two")
    await trail.log.async_flush(mark=False)
    assert (trail.actions(), trail.marked()) == (["one", "two"], 1)
    await trail.let_pass(1)
    assert (trail.actions(), trail.marked()) == (["one", "two"], 3)


async def test_mark_follows_without_a_timer(trail: Trail, gate: Gate) -> None:
    """The key follows also when the timer of the batch ran out while it was written."""
    trail.log.record("one")
    flushing = trail.hass.async_create_task(trail.log.async_flush(mark=False))
    await gate.async_reached(trail.hass)
    trail.clock.tick(1)
    async_fire_time_changed(trail.hass)
    gate.opened.set()
    await flushing
    await trail.hass.async_block_till_done()
    await trail.let_pass(1)
    assert (trail.actions(), trail.marked()) == (["one"], 2)


async def test_mark_is_scheduled_after_a_late_flush(trail: Trail) -> None:
    """A durable record without a timer gets one for its key."""
    trail.log.record("one")
    await trail.log.async_flush()
    trail.log._waiting.append({"at": "2026-11-23T12:00:00.000Z", "action": "two"})
    await trail.log.async_flush(mark=False)
    assert trail.marked() == 2
    await trail.let_pass(1)
    assert trail.marked() == 3


async def test_flush_of_nothing(trail: Trail) -> None:
    """There may be nothing to write."""
    await trail.log.async_flush()
    await trail.log.async_flush(mark=False)
    assert trail.actions() == []
    assert trail.marked() == 1


async def test_record_while_the_disk_is_written(trail: Trail, gate: Gate) -> None:
    """What is recorded during a write is in the next one."""
    trail.log.record("first")
    flushing = trail.hass.async_create_task(trail.log.async_flush())
    await gate.async_reached(trail.hass)
    trail.log.record("second")
    assert not flushing.done()
    gate.opened.set()
    await flushing
    assert trail.actions() == ["first"]
    await trail.let_pass(1)
    assert trail.actions() == ["first", "second"]


async def test_flushes_wait_for_each_other(trail: Trail, gate: Gate) -> None:
    """Two who flush at the same time write one after the other, in order."""
    trail.log.record("first")
    one = trail.hass.async_create_task(trail.log.async_flush())
    await gate.async_reached(trail.hass)
    trail.log.record("second")
    other = trail.hass.async_create_task(trail.log.async_flush(mark=False))
    assert not one.done()
    assert not other.done()
    gate.opened.set()
    await one
    await other
    assert trail.actions() == ["first", "second"]
    assert (await trail.log.async_verify()).result is Verdict.GOOD


async def test_close_writes_what_waits(trail: Trail) -> None:
    """Closing leaves neither a record nor a timer behind, and ends with a checkpoint."""
    trail.log.record("one")
    await trail.log.async_close()
    assert (trail.actions(), trail.marked(), trail.log.checkpoint) == (["one"], 2, 1)
    await trail.log.async_close()
    assert len(list(checkpoints((trail.folder / "checkpoints").read_text()))) == 1


async def test_verification_includes_what_waits(trail: Trail) -> None:
    """What was decided before the question is part of the answer."""
    trail.log.record("one")
    report = await trail.log.async_verify()
    assert (report.result, report.end.count) == (Verdict.GOOD, 1)
    end = report.end
    trail.log.record("two")
    assert await trail.log.async_verify([end]) == Verification(trail.log._file.end, (), 2, 0, anchored=2)
    other = audit.Position(1, "0" * 64)
    assert (await trail.log.async_verify([other])).result is Verdict.ALTERED


async def test_verification_holds_nothing_up(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command does not wait for a long verification, and what is written meanwhile is not taken for damage."""
    real, go = AuditFile.verify, Event()

    def slowly(*arguments: Any) -> Verification:
        assert go.wait(10)
        return real(*arguments)

    monkeypatch.setattr(AuditFile, "verify", slowly)
    trail.log.record("one")
    verifying = trail.hass.async_create_task(trail.log.async_verify())
    while not trail.actions():
        await trail.log.async_flush()
    trail.log.record("two")
    await trail.log.async_flush(mark=False)
    assert trail.actions() == ["one", "two"]
    assert not verifying.done()
    go.set()
    report = await verifying
    assert (report.result, report.lines) == (Verdict.GOOD, 1)


# --- Callers that are cancelled


async def _cancelled(trail: Trail, gate: Gate, work: Callable[[], Any], *, stopping: bool = False) -> None:
    """Let a caller be cancelled while it waits for the disk, or by Home Assistant that stops."""
    caller = trail.hass.async_create_background_task(work(), "caller")
    await gate.async_reached(trail.hass)
    for task in list(trail.hass._background_tasks) if stopping else [caller]:
        task.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()


@pytest.mark.parametrize("stopping", [False, True])
async def test_caller_is_cancelled(trail: Trail, gate: Gate, *, stopping: bool) -> None:
    """A thread goes on when its caller is cancelled: no line is lost, and none gets the number of another one."""
    trail.log.record("first")
    await _cancelled(trail, gate, trail.log.async_flush, stopping=stopping)
    trail.log.record("second")
    flushing = trail.hass.async_create_task(trail.log.async_flush())
    await asyncio.sleep(0)
    gate.opened.set()
    await flushing
    assert [(record["n"], record["action"]) for record in trail.written()] == [(1, "first"), (2, "second")]
    assert (trail.log.entries, trail.marked()) == (2, 3)
    assert (await trail.log.async_verify()).result is Verdict.GOOD


async def test_caller_is_cancelled_before_the_disk_is_reached(trail: Trail) -> None:
    """What was recorded by others is not lost with who was to write it."""
    trail.log.record("of others")
    caller = trail.hass.async_create_task(trail.log.async_flush())
    caller.cancel()
    await asyncio.wait([caller])
    await trail.log.async_flush()
    assert trail.actions() == ["of others"]


async def test_caller_is_cancelled_while_the_disk_fails(trail: Trail, gate: Gate) -> None:
    """What a write took that failed waits on, also when nobody waits for it."""
    trail.log.record("first")
    await _cancelled(trail, gate, trail.log.async_flush)
    gate.error = OSError(ENOSPC, "No space left on device")
    gate.opened.set()
    await trail.hass.async_block_till_done()
    assert not trail.healthy()
    gate.error = None
    await trail.log.async_flush()
    assert trail.actions() == ["first"]


async def test_close_waits_for_a_write_whose_caller_was_cancelled(trail: Trail, gate: Gate) -> None:
    """When the trail is closed, nobody writes to it any more: the next run may take it up."""
    trail.log.record("first")
    await _cancelled(trail, gate, trail.log.async_flush)
    closing = trail.hass.async_create_task(trail.log.async_close())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.opened.set()
    await closing
    assert trail.actions() == ["first"]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "grokmon audit"]
    _, opening = await trail.again()
    assert opening == Opening()


async def test_caller_is_cancelled_while_the_key_changes(trail: Trail, gate: Gate) -> None:
    """A key changes as a whole: what the trail says of it is what is so."""
    await _cancelled(trail, gate, lambda: trail.log.async_new_key("user-1"))
    gate.opened.set()
    await trail.log.async_flush()
    trail.log.record("one")
    await trail.log.async_close()
    assert trail.actions() == ["audit_key_changed", "one"]
    _, opening = await trail.again()
    assert opening == Opening()


async def test_no_new_key_after_the_end(trail: Trail) -> None:
    """The key on the disk is the next run's then."""
    trail.log.record("one")
    await trail.log.async_close()
    before = (trail.folder / "next.key").read_bytes()
    with pytest.raises(OSError, match=r".*"):
        await trail.log.async_new_key("user-1")
    assert (trail.folder / "next.key").read_bytes() == before


# --- Taking it up


async def test_goes_on_where_the_last_one_ended(trail: Trail) -> None:
    """A second log continues the chain; a torn line is recorded."""
    trail.log.record("one")
    await trail.log.async_close()
    with trail.segment.open("ab") as file:
        file.write(b'{"n":2')
    log, opening = await trail.again()
    assert opening == Opening(torn=6)
    assert log.entries == 1
    await log.async_close()
    assert trail.actions() == ["one", "audit_recovered"]
    recovered = trail.written()[1]
    assert (recovered["outcome"], recovered["reason"], recovered["details"]) == ("found", "torn", {"bytes": 6})
    assert (await log.async_verify()).result is Verdict.GOOD


async def test_key_that_lagged(trail: Trail, caplog: pytest.LogCaptureFixture) -> None:
    """A crash before the key followed is recorded, and is no finding."""
    first = await trail.log.async_new_key("user-1")
    trail.log.record("one")
    trail.log.record("two")
    before = (trail.folder / "next.key").read_bytes()
    await trail.log.async_close()
    (trail.folder / "next.key").write_bytes(before)
    log, opening = await trail.again()
    assert opening == Opening(lagged=2)
    await log.async_close()
    assert trail.actions() == ["audit_key_changed", "one", "two", "audit_recovered"]
    assert (trail.written()[3]["reason"], trail.written()[3]["details"]) == ("key_lagged", {"lines": 2})
    assert audit.verify(trail.folder, [first]).keyed == 3
    assert "ERROR" not in caplog.text


async def test_end_cut_off_meanwhile(trail: Trail, caplog: pytest.LogCaptureFixture) -> None:
    """An end that was cut off between two starts is recorded, and told."""
    trail.log.record("one")
    trail.log.record("two")
    trail.log.record("three")
    await trail.log.async_close()
    trail.segment.write_bytes(trail.segment.read_bytes().splitlines(keepends=True)[0])
    log, opening = await trail.again()
    assert opening == Opening(missing=2)
    await log.async_close()
    assert trail.actions() == ["one", "audit_finding"]
    found = trail.written()[1]
    assert (found["n"], found["outcome"], found["reason"], found["details"]) == (4, "found", "cut", {"lines": 2})
    assert "2 lines of the audit trail were removed" in caplog.text
    assert (await log.async_verify()).result is Verdict.CUT


async def test_forged_line_meanwhile(trail: Trail, caplog: pytest.LogCaptureFixture) -> None:
    """A line that somebody appended between two starts is recorded, and told."""
    trail.log.record("one")
    await trail.log.async_close()
    line, _ = audit.append(trail.log._file.end, bytes(32), {"at": "2026-11-23T12:00:00.000Z", "action": "forged"})
    with trail.segment.open("ab") as file:
        file.write(line)
    log, opening = await trail.again()
    assert opening == Opening(lagged=1, forged=2)
    await log.async_close()
    assert trail.actions() == ["one", "forged", "audit_recovered", "audit_finding"]
    assert (trail.written()[3]["reason"], trail.written()[3]["details"]) == ("altered", {"line": 2})
    assert "Line 2 of the audit trail was not written by this integration" in caplog.text


async def test_key_lost_meanwhile(trail: Trail, caplog: pytest.LogCaptureFixture) -> None:
    """A key that is gone is recorded, and told; a new trail has none to lose."""
    assert "key of the audit trail" not in caplog.text
    trail.log.record("one")
    await trail.log.async_close()
    (trail.folder / "next.key").unlink()
    log, opening = await trail.again()
    assert opening == Opening(new_key=True)
    await log.async_close()
    assert trail.actions() == ["one", "audit_finding"]
    assert trail.written()[1]["reason"] == "key_lost"
    assert "The key of the audit trail is lost" in caplog.text


async def test_trail_that_cannot_be_opened(
    clock: FrozenDateTimeFactory, hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening fails aloud."""
    trail = Trail(hass, clock, monkeypatch)
    trail.folder.parent.touch()
    with pytest.raises(OSError, match="grokmon"):
        await trail.log.async_open()


# --- A disk that fails


@pytest.mark.parametrize("function", ["write", "open"])
async def test_disk_that_fails(trail: Trail, caplog: pytest.LogCaptureFixture, function: str) -> None:
    """Nothing is lost while the disk fails; it is logged once, tried again every 30 seconds, and the end recorded."""
    first = await trail.log.async_new_key("user-1")
    trail.log.record("before")
    await trail.log.async_flush()
    trail.break_disk(function)
    trail.log._file.close()
    trail.log.record("during-1")
    await trail.let_pass(1)
    assert not trail.healthy()
    trail.log.record("during-2")
    await trail.let_pass(30)
    assert caplog.text.count("The audit trail cannot be written") == 1
    trail.repair_disk()
    before = ["audit_key_changed", "before"]
    await trail.let_pass(29)
    assert trail.actions() == before
    await trail.let_pass(1)
    assert trail.healthy()
    assert trail.actions() == [*before, "during-1", "during-2"]
    await trail.let_pass(1)
    assert trail.actions() == [*before, "during-1", "during-2", "audit_fault_ended"]
    assert trail.log.entries == 5
    assert trail.written()[-1]["details"] == {"lost": 0}
    assert trail.marked() == 6
    report = audit.verify(trail.folder, [first])
    assert (report.findings, report.keyed) == ((), 4)


@pytest.mark.parametrize("only", ["next.key", "checkpoints"])
async def test_written_but_not_marked(trail: Trail, only: str) -> None:
    """What is on the disk is not written twice because its key or a checkpoint could not be."""
    trail.break_disk("open", only)
    trail.log.record("one")
    await trail.log.async_flush(checkpoint=True)
    assert not trail.healthy()
    assert (trail.actions(), trail.log.entries) == (["one"], 1)
    trail.repair_disk()
    await trail.let_pass(30)
    assert trail.healthy()
    await trail.let_pass(1)
    assert trail.actions() == ["one", "audit_fault_ended"]
    assert trail.marked() == 3
    assert (await trail.log.async_verify()).result is Verdict.GOOD


async def test_second_fault_is_logged_again(trail: Trail, caplog: pytest.LogCaptureFixture) -> None:
    """A fault after a recovery is a new one."""
    for _ in range(2):
        trail.break_disk()
        trail.log.record("during")
        await trail.log.async_flush()
        trail.repair_disk()
        await trail.log.async_flush()
    assert caplog.text.count("The audit trail cannot be written") == 2


async def test_close_after_a_fault(trail: Trail) -> None:
    """A trail that is written again only as it is closed ends with the end of the fault, and a checkpoint of it."""
    trail.break_disk()
    trail.log.record("one")
    await trail.log.async_flush()
    trail.repair_disk()
    await trail.log.async_close()
    assert trail.actions() == ["one", "audit_fault_ended"]
    assert trail.log.checkpoint == 2


async def test_close_during_a_fault(trail: Trail) -> None:
    """Closing gives up on a disk that still fails, and leaves no timer behind."""
    trail.break_disk()
    trail.log.record("one")
    await trail.log.async_close()
    trail.repair_disk()
    await trail.let_pass(60)
    assert trail.actions() == []


async def test_record_while_the_disk_is_failing(trail: Trail, gate: Gate) -> None:
    """What is recorded while a write fails waits in its turn, for one timer."""
    trail.log.record("first")
    flushing = trail.hass.async_create_task(trail.log.async_flush())
    await gate.async_reached(trail.hass)
    assert not flushing.done()
    trail.log.record("second")
    gate.error = OSError(ENOSPC, "No space left on device")
    gate.opened.set()
    await flushing
    assert not trail.healthy()
    assert trail.actions() == []
    gate.error = None
    await trail.log.async_flush()
    assert trail.actions() == ["first", "second"]


async def test_nothing_is_written_after_the_end(trail: Trail, caplog: pytest.LogCaptureFixture) -> None:
    """Two that write would tear the trail: what comes too late is told in the log, and no timer is left."""
    trail.break_disk()
    trail.log.record("first")
    await trail.log.async_flush()
    await trail.log.async_close()
    trail.repair_disk()
    trail.log.record("late")
    await trail.let_pass(60)
    await trail.log.async_flush(checkpoint=True)
    assert trail.actions() == []
    assert "late came too late" in caplog.text


async def test_memory_is_bounded(trail: Trail) -> None:
    """While the disk fails a limited number of records waits; how many were lost is recorded afterwards."""
    heard: list[str] = []
    trail.break_disk()
    for number in range(MOST + 7):
        trail.log.record("tick", number=number)
    await trail.log.async_flush()
    trail.log.listeners.append(lambda record: heard.append(record["action"]))
    trail.log.record("too late")
    assert heard == []
    trail.repair_disk()
    await trail.log.async_flush()
    assert trail.log.entries == MOST
    await trail.log.async_flush()
    last = trail.written()[-2:]
    assert last[0]["details"] == {"number": MOST - 1}
    assert (last[1]["action"], last[1]["details"]) == ("audit_fault_ended", {"lost": 8})
    trail.break_disk()
    trail.log.record("again")
    await trail.log.async_flush()
    trail.repair_disk()
    await trail.log.async_flush()
    await trail.log.async_flush()
    assert trail.written()[-1]["details"] == {"lost": 0}


async def test_loss_without_a_fault_is_recorded(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that came too fast for a disk that works are counted as well."""
    monkeypatch.setattr(audit_log, "_MAX_WAITING", 10)
    for number in range(13):
        trail.log.record("tick", number=number)
    assert trail.healthy()
    await trail.log.async_flush()
    await trail.log.async_flush()
    assert trail.log.entries == 11
    assert trail.written()[-1]["details"] == {"lost": 3}


# --- Keys, searching, deleting, checkpoints


async def test_new_key(trail: Trail) -> None:
    """An administrator gets the key of the next line; the line that says so is the last of the old one."""
    first = await trail.log.async_new_key("user-1")
    trail.log.record("one")
    second = await trail.log.async_new_key("user-2")
    trail.log.record("two")
    await trail.log.async_flush()
    assert (first.start, second.start) == (2, 4)
    assert trail.actions() == ["audit_key_changed", "one", "audit_key_changed", "two"]
    assert trail.written()[2]["principal"] == {"caller": "person", "identity": "user-2"}
    assert audit.verify(trail.folder, [first, second]).keyed == 3
    assert audit.verify(trail.folder, [first, second]).result is Verdict.GOOD
    assert audit.verify(trail.folder, [first]).keyed == 2
    assert audit.verify(trail.folder, [first, Key(4, bytes(32))]).result is Verdict.ALTERED


async def test_new_key_while_something_is_recorded(trail: Trail, gate: Gate) -> None:
    """What is recorded while the key changes has the new one."""
    trail.log.record("before")
    changing = trail.hass.async_create_task(trail.log.async_new_key("user-1"))
    trail.log.record("meanwhile")
    gate.opened.set()
    key = await changing
    await trail.log.async_flush()
    changed = trail.actions().index("audit_key_changed")
    assert key.start == changed + 2
    assert sorted(trail.actions()) == ["audit_key_changed", "before", "meanwhile"]
    assert audit.verify(trail.folder, [key]).keyed == len(trail.actions()) - changed - 1


async def test_no_new_key_while_the_disk_fails(trail: Trail) -> None:
    """There is no key that could not be put on the disk."""
    trail.break_disk()
    with pytest.raises(OSError, match=r".*"):
        await trail.log.async_new_key("user-1")
    trail.repair_disk()
    assert trail.actions() == []


async def test_key_that_did_not_change(trail: Trail) -> None:
    """A change that failed is not recorded later as one: the verification would take the old key for ended."""
    first = await trail.log.async_new_key("user-1")
    trail.break_disk()
    with pytest.raises(OSError, match=r".*"):
        await trail.log.async_new_key("user-1")
    trail.repair_disk()
    await trail.log.async_flush()
    trail.log.record("one")
    await trail.log.async_flush()
    report = audit.verify(trail.folder, [first])
    assert (report.findings, report.keyed) == ((), trail.log.entries - 1)


async def test_search(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Find the newest that match, over all segments, with what waits; the oldest of them first."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 700)
    for number in range(9):
        trail.log.record("even" if number % 2 == 0 else "odd", number=number)
        await trail.log.async_flush()
    trail.log.record("even", number=10)
    found = await trail.log.async_search(Search(actions=frozenset({"even"})), 3)
    assert [record["details"]["number"] for record in found] == [6, 8, 10]
    assert [record["n"] for record in await trail.log.async_search(Search(), 100)] == list(range(1, 11))
    assert await trail.log.async_search(Search(device="none"), 3) == []
    assert len(audit.segments(trail.folder)) > 2


async def test_purge(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete what is older than wanted, segment by segment; the trail says so and still verifies with its key."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    first = await trail.log.async_new_key("user-1")
    start = trail.clock().timestamp()
    for number in range(4):
        await trail.let_pass(3600)
        trail.log.record("tick", number=number)
        await trail.log.async_flush()
    await trail.log.async_purge(start)
    assert len(trail.actions()) == 5
    await trail.log.async_purge(start + 2 * 3600 + 1)
    assert trail.actions() == ["tick", "tick", "tick", "audit_segment_deleted", "audit_segment_deleted"]
    details = [record["details"] for record in trail.written()[-2:]]
    assert [(each["first"], each["through"]) for each in details] == [(1, 1), (2, 2)]
    report = audit.verify(trail.folder, [first])
    assert (report.findings, report.lines, report.keyed) == ((), 5, 5)


async def test_purge_takes_checkpoints_along(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """What vouches for lines that are gone does not pile up beside the trail."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    for number in range(5):
        trail.log.record("tick", number=number)
        await trail.log.async_flush(checkpoint=True)
    later = trail.clock().timestamp() + 1
    await trail.let_pass(60)
    await trail.log.async_purge(later)
    start = audit.start_of(audit.segments(trail.folder)[0].read_bytes())
    assert start is not None
    kept = [each.position.count for each in checkpoints((trail.folder / "checkpoints").read_text())]
    assert (start.count, kept) == (4, [4, 5])
    assert (await trail.log.async_verify()).result is Verdict.GOOD


async def test_trail_is_bounded(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete the oldest segment of a trail that is too large, however young; the trail says so and verifies."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 2000)
    first = await trail.log.async_new_key("user-1")
    for number in range(30):
        trail.log.record("tick", number=number)
        await trail.log.async_flush()
    before = audit.segments(trail.folder)
    size = sum(path.stat().st_size for path in before)
    monkeypatch.setattr(audit_file, "TRAIL_BYTES", size)
    await trail.log.async_purge(0.0)
    assert audit.segments(trail.folder) == before
    monkeypatch.setattr(audit_file, "TRAIL_BYTES", size - 1)
    await trail.log.async_purge(0.0)
    assert audit.segments(trail.folder)[: len(before) - 1] == before[1:]
    assert trail.actions().count("audit_segment_deleted") == 1
    assert audit.verify(trail.folder, [first]).findings == ()


async def test_purge_records_before_it_deletes(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete nothing as long as the record of it is not on the disk."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    trail.log.record("one")
    await trail.log.async_flush()
    trail.log.record("two")
    await trail.log.async_flush()
    later = trail.clock().timestamp() + 1
    await trail.let_pass(60)
    trail.break_disk()
    await trail.log.async_purge(later)
    assert trail.actions() == ["one", "two"]
    trail.repair_disk()
    await trail.let_pass(30)
    await trail.let_pass(1)
    await trail.log.async_purge(later)
    assert "one" not in trail.actions()
    assert trail.actions()[:2] == ["two", "audit_segment_deleted"]
    assert (await trail.log.async_verify()).result is Verdict.GOOD


async def test_purge_of_a_full_log(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete nothing when the record of it was lost because too much was waiting."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    monkeypatch.setattr(audit_log, "_MAX_WAITING", 3)
    for action in ("one", "two"):
        trail.log.record(action)
        await trail.log.async_flush()
    later = trail.clock().timestamp() + 1
    await trail.let_pass(60)
    for _ in range(3):
        trail.log.record("tick")
    await trail.log.async_purge(later)
    assert (await trail.log.async_verify()).result is Verdict.GOOD


async def _old_segments(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Path], float]:
    """Let the trail be of several segments; return them, and a time from which they are old."""
    monkeypatch.setattr(audit_file, "SEGMENT_BYTES", 1)
    for action in ("one", "two", "three"):
        trail.log.record(action)
        await trail.log.async_flush()
    return audit.segments(trail.folder), trail.clock().timestamp() + 1


async def test_purge_after_the_end(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete nothing without a line that says so: the daily check may go on while the integration is reloaded."""
    segments, later = await _old_segments(trail, monkeypatch)
    await trail.let_pass(60)
    await trail.log.async_close()
    await trail.log.async_purge(later)
    assert audit.segments(trail.folder) == segments
    assert audit.verify(trail.folder).result is Verdict.GOOD


async def test_end_in_the_middle_of_a_purge(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete nothing once another run has the trail, though the line is written: that run finds it old as well."""
    segments, later = await _old_segments(trail, monkeypatch)
    await trail.let_pass(60)
    flush = trail.log.async_flush

    async def flush_and_close() -> None:
        await flush()
        await trail.log.async_close()

    monkeypatch.setattr(trail.log, "async_flush", flush_and_close)
    await trail.log.async_purge(later)
    assert audit.segments(trail.folder)[: len(segments)] == segments
    assert trail.actions()[-1] == "audit_segment_deleted"
    assert audit.verify(trail.folder).result is Verdict.GOOD


async def test_checkpoints_are_told(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell of every checkpoint when it is on the disk: after a hundred lines, an hour, or at once."""
    told: list[str] = []
    trail.log.on_checkpoint = told.append
    for number in range(100):
        trail.log.record("tick", number=number)
    await trail.log.async_flush(mark=False)
    assert told == []
    await trail.log.async_flush()
    assert trail.log.checkpoint == 100
    trail.log.record("one")
    await trail.log.async_flush()
    assert len(told) == 1
    trail.log.record("two")
    await trail.log.async_flush(checkpoint=True)
    await trail.log.async_flush(checkpoint=True)
    monkeypatch.setattr(audit_file, "CHECKPOINT_SECONDS", 0.0)
    trail.log.record("three")
    await trail.let_pass(1)
    assert "".join(told) == (trail.folder / "checkpoints").read_text()
    read = list(checkpoints("".join(told)))
    assert [each.position.count for each in read] == [100, 102, 103]
    assert all(each.signed_by(SIGNER.public_key) for each in read)
    assert (await trail.log.async_verify([each.position for each in read])).anchored == 103


async def test_checkpoint_that_nobody_waits_for(trail: Trail) -> None:
    """Write checkpoints also when nobody is told of them."""
    trail.log.record("one")
    await trail.log.async_flush(checkpoint=True)
    assert trail.log.checkpoint == 1
