"""The posture: when it is measured, what follows from it, and who is told."""

import asyncio
from collections.abc import Iterator
import json
import threading
from typing import Any
from unittest.mock import patch

from homeassistant.components.mqtt.const import MQTT_CONNECTION_STATE
from homeassistant.config_entries import ConfigEntryState
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.dispatcher import async_dispatcher_send
import pytest
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped] # has no py.typed
    async_capture_events,
    async_fire_mqtt_message,
)

from custom_components.grokmon import posture, turns
from custom_components.grokmon.broker.connection import Login, UnreachableError
from custom_components.grokmon.broker.probe import Target
from custom_components.grokmon.checklist import Checklist
from custom_components.grokmon.gateway.checklist import Item
from custom_components.grokmon.gateway.posture import Check, CheckResult, Finding, Posture, PostureReport
from custom_components.grokmon.turns import Turns

from .common import Room

DAY = 86_400.0
READING = json.dumps({"metrics": {"temp_c": 21.5}}).encode()

type Findings = dict[Check | Item, Finding]


def enforce(findings: Findings) -> None:
    """Let everything be in order."""
    findings |= dict.fromkeys(Check, Finding.PASSED)


def enforced(room: Room) -> bool:
    """Tell whether the gateway believes the broker now, whatever it did before."""
    return room.hub.gateway.broker_enforced


def posture_issues(room: Room) -> set[str]:
    """Return what there are issues of."""
    names = {key for domain, key in ir.async_get(room.hass).issues if domain == "grokmon"}
    return {name.removeprefix("posture_") for name in names if name.startswith("posture_")}


async def probed(room: Room) -> list[dict[str, Any]]:
    """Return what the trail tells of probes."""
    return await room.audit("probed")


class Slow:
    """A probe that lasts until it is let go, and counts."""

    def __init__(self) -> None:
        self.begun = 0
        self.go_on = threading.Event()
        self.targets: list[Target] = []

    def __call__(self, target: Target, now: float) -> PostureReport:
        """Wait, and find everything in order."""
        self.begun += 1
        self.targets.append(target)
        assert self.go_on.wait(10)
        return PostureReport(
            results=tuple(CheckResult(check=each, finding=Finding.PASSED) for each in Check),
            at=now,
            certificate_expires=now + DAY,
        )


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Put a slow probe in the place of the quick one."""
    instance = Slow()
    with patch.object(posture, "probe", instance):
        yield instance
        instance.go_on.set()


# When


async def test_measured_at_a_start(room: Room) -> None:
    """A start measures once."""
    assert len(await probed(room)) == 1
    await room.reload()
    assert len(await probed(room)) == 2


async def test_measured_when_the_broker_is_there_again(room: Room) -> None:
    """A connection that comes back measures, one that is lost does not."""
    async_dispatcher_send(room.hass, MQTT_CONNECTION_STATE, False)
    await room.settle()
    assert len(await probed(room)) == 1
    async_dispatcher_send(room.hass, MQTT_CONNECTION_STATE, True)
    await room.settle()
    assert len(await probed(room)) == 2


async def test_measured_daily(room: Room) -> None:
    """A day later it is measured again, and not before."""
    await room.let_pass(DAY - 60)
    assert len(await probed(room)) == 1
    await room.let_pass(61)
    assert len(await probed(room)) == 2


async def test_measured_on_demand(room: Room, findings: Findings) -> None:
    """The service measures now, and tells what it found."""
    enforce(findings)
    findings[Item.MFA] = Finding.FAILED
    response = await room.call("probe_broker")
    assert (response["posture"], response["score"], response["mfa"]) == ("enforced", 95, "failed")
    assert len(await probed(room)) == 2


async def test_requests_do_not_pile_up(quiet_room: Room, slow: Slow) -> None:
    """Whoever asks while a probe runs shares the one that follows."""
    room = quiet_room
    assert await room.hass.config_entries.async_setup(room.entry.entry_id)
    await room.until(lambda: slow.begun == 1)
    for _ in range(10):
        room.hub.trust.posture.async_request()
    waiting = [room.hass.async_create_task(room.hub.trust.posture.async_measure()) for _ in range(10)]
    await asyncio.sleep(0)
    slow.go_on.set()
    await asyncio.gather(*waiting)
    await room.settle()
    assert slow.begun == 2


async def test_unload_waits_for_the_probe(quiet_room: Room, slow: Slow) -> None:
    """An unloaded hub probes no more, and the probe that ran is over."""
    room = quiet_room
    assert await room.hass.config_entries.async_setup(room.entry.entry_id)
    await room.until(lambda: slow.begun == 1)
    keeper = room.hub.trust.posture
    keeper.async_request()
    unloading = room.hass.async_create_task(room.hass.config_entries.async_unload(room.entry.entry_id))
    await room.until(lambda: room.entry_is(ConfigEntryState.UNLOAD_IN_PROGRESS))
    await room.hass.async_add_executor_job(threading.Event().wait, 0.05)
    assert not unloading.done()
    slow.go_on.set()
    assert await unloading
    await keeper.async_measure()
    async_dispatcher_send(room.hass, MQTT_CONNECTION_STATE, True)
    await room.hass.async_block_till_done(wait_background_tasks=True)
    assert slow.begun == 1


async def test_connection_is_lost_during_a_probe(quiet_room: Room, slow: Slow) -> None:
    """What was found before an outage is not believed after it."""
    room = quiet_room
    assert await room.hass.config_entries.async_setup(room.entry.entry_id)
    await room.until(lambda: slow.begun == 1)
    async_dispatcher_send(room.hass, MQTT_CONNECTION_STATE, False)
    slow.go_on.set()
    await room.settle()
    assert room.hub.trust.posture.posture is Posture.UNKNOWN
    assert not room.hub.gateway.broker_enforced
    async_dispatcher_send(room.hass, MQTT_CONNECTION_STATE, True)
    await room.settle()
    assert room.hub.gateway.broker_enforced


async def test_failed_turn_is_nobody_elses() -> None:
    """Who shares a run that failed gets one that did not."""
    runs: list[int] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def job() -> None:
        runs.append(len(runs))
        begun.set()
        await go_on.wait()
        if len(runs) == 2:
            raise OSError("once")

    shared = Turns(job)
    first = asyncio.create_task(shared.async_run())
    await begun.wait()
    others = [asyncio.create_task(shared.async_run()) for _ in range(3)]
    await asyncio.sleep(0)
    go_on.set()
    await first
    outcome = await asyncio.gather(*others, return_exceptions=True)
    assert [type(each) for each in outcome] == [OSError, type(None), type(None)]
    assert len(runs) == 3
    await shared.async_end()
    await shared.async_run()
    assert len(runs) == 3


async def test_unload_waits_some_seconds_for_a_probe_that_hangs(
    quiet_room: Room, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that does not let go of a probe does not keep the hub from ending, and nothing is told of it then."""
    room = quiet_room
    assert await room.hass.config_entries.async_setup(room.entry.entry_id)
    await room.until(lambda: slow.begun == 1)
    monkeypatch.setattr(turns, "_LAST_RUN_SECONDS", 0.0)
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    assert not slow.go_on.is_set()
    slow.go_on.set()
    await room.settle()
    assert "probed" not in {entry["event"] for entry in room.audit_on_disk()}


# With whom


@pytest.mark.parametrize("options", [{"broker": {"plaintext_port": 1884, "host": "broker.example", "port": 8883}}])
async def test_who_takes_part(quiet_room: Room, slow: Slow) -> None:
    """The probe goes where devices go, with two accounts of its own."""
    slow.go_on.set()
    assert await quiet_room.set_up()
    (target,) = slow.targets
    password = quiet_room.hub.store.state.broker.probe_password
    assert (target.endpoint.host, target.endpoint.port, target.plaintext_port) == ("broker.example", 8883, 1884)
    assert (target.probe, target.other) == (Login("grokmon-probe-1", password), Login("grokmon-probe-2", password))
    assert (target.device_id, target.client_id) == ("grokmon-probe-1", "grokmon-probe-1")
    assert (target.other_id, target.other_client_id) == ("grokmon-probe-2", "grokmon-probe-2")
    assert (target.prefix, target.observer) == ("grokmon", None)
    shown = quiet_room.state("hub/posture").attributes
    assert shown["certificate_expires"] == "2026-11-24T12:00:00+00:00"
    assert shown["probed_at"] == "2026-11-23T12:00:00+00:00"


async def test_nobody_knows_where_the_broker_is(room: Room, findings: Findings) -> None:
    """Without an address nothing is known, and nothing is said against it."""
    enforce(findings)
    await room.hub.trust.posture.async_measure()
    assert enforced(room)
    missing = UnreachableError("the MQTT integration is not loaded")
    with patch("custom_components.grokmon.broker.accounts.async_address", side_effect=missing):
        await room.hub.trust.posture.async_measure()
    assert room.hub.trust.posture.posture is Posture.UNKNOWN
    assert not enforced(room)
    assert posture_issues(room) == set()
    assert room.hub.trust.posture.as_shown()["probed_at"] is None


# What follows


@pytest.mark.parametrize(
    ("changed", "verdict", "score"),
    [
        ({}, "enforced", 100),
        ({Check.PLAINTEXT: Finding.FAILED}, "partial", 95),
        ({Check.TLS_VERSION: Finding.UNKNOWN}, "partial", 95),
        ({Check.ANONYMOUS: Finding.FAILED}, "open", 95),
        ({Check.FOREIGN_PUBLISH: Finding.FAILED, Check.FOREIGN_SUBSCRIBE: Finding.FAILED}, "open", 90),
        ({Check.OWN_TOPIC: Finding.FAILED}, "unknown", 95),
        (dict.fromkeys(Check, Finding.UNKNOWN), "unknown", 45),
        ({Item.HTTPS: Finding.FAILED, Item.BACKUP: Finding.UNKNOWN}, "enforced", 90),
    ],
)
async def test_what_is_shown(room: Room, findings: Findings, changed: Findings, verdict: str, score: int) -> None:
    """The entities say the verdict, every finding and the score; there is an issue for each that failed."""
    enforce(findings)
    findings |= changed
    await room.hub.trust.posture.async_measure()
    await room.settle()
    state = room.state("hub/posture")
    assert state.state == verdict
    assert {each.value: state.attributes[each.value] for each in (*Check, *Item)} == {
        each.value: findings[each].value for each in (*Check, *Item)
    }
    assert room.state("hub/security_score").state == str(score)
    failed = {each.value for each, finding in findings.items() if finding is Finding.FAILED}
    assert posture_issues(room) == failed
    entry = (await probed(room))[-1]
    assert (entry["reason"], entry["score"]) == (verdict, score)
    assert entry["failed"] == sorted(failed & {each.value for each in Check})
    assert enforced(room) is (verdict == "enforced")
    enforce(findings)
    findings |= dict.fromkeys(Item, Finding.PASSED)
    await room.hub.trust.posture.async_measure()
    assert posture_issues(room) == set()


@pytest.mark.parametrize("each", [*Check, *Item])
async def test_issue_of_each_item(room: Room, findings: Findings, each: Check | Item) -> None:
    """Whatever is broken has an issue that can be handled, and none once it is mended."""
    enforce(findings)
    findings[each] = Finding.FAILED
    await room.hub.trust.posture.async_measure()
    issue = ir.async_get(room.hass).async_get_issue("grokmon", f"posture_{each.value}")
    assert issue is not None
    assert (issue.is_fixable, issue.severity) == (True, ir.IssueSeverity.WARNING)
    assert issue.data == {"issue": "posture", "item": each.value} | (issue.translation_placeholders or {})
    assert posture_issues(room) == {each.value}
    findings[each] = Finding.PASSED
    await room.hub.trust.posture.async_measure()
    assert posture_issues(room) == set()


async def test_events(room: Room, findings: Findings) -> None:
    """It is told when the broker got worse: open is critical, partial a warning, and the same is not told twice."""
    events = async_capture_events(room.hass, "grokmon_security_event")
    steps: list[Findings] = [
        {},
        {Check.PLAINTEXT: Finding.FAILED},
        {Check.PLAINTEXT: Finding.FAILED},
        {Check.ANONYMOUS: Finding.FAILED},
        {Check.OWN_TOPIC: Finding.UNKNOWN},
        {Check.ANONYMOUS: Finding.FAILED, Check.WRONG_PASSWORD: Finding.FAILED},
        {},
    ]
    for step in steps:
        enforce(findings)
        findings |= step
        await room.hub.trust.posture.async_measure()
        await room.settle()
    assert [event.data for event in events] == [
        {"category": "posture", "severity": "warning", "code": "partial", "detail": "plaintext"},
        {"category": "posture", "severity": "critical", "code": "open", "detail": "anonymous"},
        {"category": "posture", "severity": "critical", "code": "open", "detail": "anonymous, wrong_password"},
    ]


async def test_checklist_that_fails(room: Room, findings: Findings) -> None:
    """A broker that was found open is not trusted any more, though the rest could not be measured."""
    enforce(findings)
    await room.hub.trust.posture.async_measure()
    assert enforced(room)
    findings[Check.ANONYMOUS] = Finding.FAILED
    with (
        patch.object(Checklist, "async_measure", side_effect=OSError("disk")),
        pytest.raises(OSError, match="disk"),
    ):
        await room.hub.trust.posture.async_measure()
    assert not enforced(room)
    assert posture_issues(room) == {"anonymous"}


# Devices that the broker vouches for


async def enrol_plain(room: Room) -> None:
    """Enrol a device that signs nothing."""
    await room.call("enroll_device", {"device_id": "plain-1", "name": "Plain", "metrics": ["temp_c"], "auth": "broker"})


async def heard(room: Room) -> bool:
    """Tell whether the gateway takes what such a device says; if not, that it says why."""
    before = room.hub.gateway.accepted["plain-1"], room.hub.refused_by_code("plain-1").get("broker_not_enforced", 0)
    await room.receive("grokmon/v1/plain-1/up/telemetry", READING)
    accepted = room.hub.gateway.accepted["plain-1"] - before[0]
    refused = room.hub.refused_by_code("plain-1").get("broker_not_enforced", 0) - before[1]
    assert accepted + refused == 1
    return accepted == 1


async def test_only_while_the_broker_keeps_them_apart(room: Room, findings: Findings) -> None:
    """A device that signs nothing is heard while the posture is enforced, and refused with that reason otherwise."""
    await enrol_plain(room)
    assert not await heard(room)
    (refused,) = await room.audit("refused")
    assert (refused["device"], refused["reason"]) == ("plain-1", "broker_not_enforced")
    enforce(findings)
    await room.hub.trust.posture.async_measure()
    assert await heard(room)
    assert room.state("plain-1/temp_c").state == "21.5"
    breaks: list[tuple[Check, Finding]] = [
        (Check.FOREIGN_PUBLISH, Finding.FAILED),
        (Check.CLIENT_ID_THEFT, Finding.UNKNOWN),
        (Check.OWN_TOPIC, Finding.FAILED),
    ]
    for check, finding in breaks:
        enforce(findings)
        findings[check] = finding
        await room.hub.trust.posture.async_measure()
        assert not await heard(room)
        enforce(findings)
        await room.hub.trust.posture.async_measure()
        assert await heard(room)


async def test_not_before_the_first_probe(room: Room, findings: Findings, slow: Slow) -> None:
    """After a start nothing is believed until the probe is over, whatever was found before."""
    enforce(findings)
    await enrol_plain(room)
    slow.go_on.set()
    await room.hub.trust.posture.async_measure()
    assert await heard(room)
    slow.go_on.clear()
    before = slow.begun
    assert await room.hass.config_entries.async_reload(room.entry.entry_id)
    await room.until(lambda: slow.begun == before + 1)
    assert room.hub.trust.posture.posture is Posture.UNKNOWN
    assert room.hub.trust.posture.score < 50
    message = "grokmon/v1/plain-1/up/telemetry"
    async_fire_mqtt_message(room.hass, message, READING, 1, False)
    await room.until(lambda: room.hub.refused_by_code("plain-1") == {"broker_not_enforced": 1})
    slow.go_on.set()
    await room.settle()
    assert await heard(room)


async def test_what_is_acknowledged_is_not_in_order(room: Room, findings: Findings) -> None:
    """An administrator who knows of anonymous access does not make the broker one that keeps devices apart."""
    await enrol_plain(room)
    enforce(findings)
    findings[Check.ANONYMOUS] = Finding.FAILED
    await room.hub.trust.posture.async_measure()
    await room.hub.trust.posture.async_acknowledge("anonymous", "a lab", "administrator")
    await room.hub.trust.posture.async_measure()
    assert room.hub.trust.posture.score == 100
    assert room.state("hub/posture").state == "open"
    assert not await heard(room)


async def test_acknowledgement_that_the_disk_refuses(room: Room, findings: Findings) -> None:
    """What the disk does not keep is not acknowledged."""
    enforce(findings)
    findings[Check.PLAINTEXT] = Finding.FAILED
    keeper = room.hub.trust.posture
    await keeper.async_measure()
    room.break_store()
    with pytest.raises(HomeAssistantError):
        await keeper.async_acknowledge("plaintext", "a lab", "administrator")
    room.repair_store()
    assert keeper.acknowledged == {}
    assert posture_issues(room) == {"plaintext"}
    assert await room.audit("posture_acknowledged") == []


async def test_acknowledged_and_mended(room: Room, findings: Findings) -> None:
    """What was acknowledged is told again when it was in order meanwhile."""
    enforce(findings)
    keeper = room.hub.trust.posture
    findings[Check.PLAINTEXT] = Finding.FAILED
    await keeper.async_measure()
    await keeper.async_acknowledge("plaintext", "a lab", "administrator")
    await keeper.async_measure()
    assert keeper.acknowledged == {"plaintext": "a lab"}
    findings[Check.PLAINTEXT] = Finding.PASSED
    await keeper.async_measure()
    assert keeper.acknowledged == {}
    assert room.stored()["acknowledged"] == {}
    assert room.state("hub/posture").attributes["acknowledged"] == []
    assert [entry["items"] for entry in await room.audit("posture_mended")] == [["plaintext"]]
    findings[Check.PLAINTEXT] = Finding.FAILED
    await keeper.async_measure()
    assert posture_issues(room) == {"plaintext"}


async def test_verdict_ends_with_the_connection(room: Room, findings: Findings) -> None:
    """Who answers after a connection was lost may be another broker: nothing is believed until it was probed."""
    await enrol_plain(room)
    enforce(findings)
    await room.hub.trust.posture.async_measure()
    assert await heard(room)
    async_dispatcher_send(room.hass, MQTT_CONNECTION_STATE, False)
    assert not room.hub.gateway.broker_enforced
    assert room.state("hub/posture").state == "unknown"
    async_dispatcher_send(room.hass, MQTT_CONNECTION_STATE, True)
    await room.settle()
    assert room.hub.gateway.broker_enforced
