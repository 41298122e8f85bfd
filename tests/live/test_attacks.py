"""Every attack is refused with its own code, counted, told and audited, while honest devices lose nothing."""

from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from statistics import quantiles
import time
from typing import Any

import pytest
import pytest_asyncio

from custom_components.grokmon.gateway.aggregation import MAX_WINDOWS
from tests.demo.fleet import device_of
from tests.demo.installation import Installation, Refusal
from tests.demo.intruder import LIVE_ATTACKS, RETAINED
from tests.demo.plan import Node
from tests.demo.waiting import settled
from tests.device_simulator.attacks import Attack, Forgery
from tests.device_simulator.connection import Connection
from tests.device_simulator.credentials import Auth
from tests.trail import by_code, is_refusal

from .battle import ACCOUNTS, AUTHS, GENUINE_TEMPERATURE, HONEST_TEMPERATURE, HOSTILE, Battle, battle
from .drip import Drip
from .observation import WITHIN, Marker, StateLog, audit_entries, numbers_on_record, verify_alone
from .traffic import Numbering

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("drip")]

CHATTY = Node("chatty", "Chatty", ("temp_c",))
DRIPPED = Node("dripped", "Dripped", ("temp_c",))
DRIPS: Refusal = (DRIPPED.device_id, "malformed")
# What the transport or a crash may cause by itself is counted and audited, and no reason to call somebody.
ORDINARY = {"duplicate", "session_unknown", "clock_skew"}
FLOOD_RATE, FLOOD_SECONDS = 500, 10
SAMPLES = 60
OVERHEARD = 20
# A summary comes once a minute; the clock is looked at every ten seconds.
MINUTE = 59.0


@pytest.fixture(scope="module")
def broker_accounts() -> tuple[str, ...]:
    """Return the accounts of this module."""
    return (*ACCOUNTS, CHATTY.device_id)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def field(installation: Installation) -> AsyncGenerator[Battle]:
    """Let honest devices send while the tests attack."""
    async with battle(installation) as fight:
        yield fight


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def drip(field: Battle) -> AsyncGenerator[Drip]:
    """Let rubbish come in all the time."""
    installation = field.installation
    enrolled = await installation.enrol(DRIPPED)
    async with Connection(installation.address(HOSTILE), "drip") as connection:
        dripping = Drip(connection, enrolled.identity.up("telemetry"), every=0.5)
        yield dripping
        await dripping.stop()


@pytest.mark.parametrize("attack", LIVE_ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("auth", AUTHS)
async def test_attack_is_refused_with_its_code(field: Battle, auth: Auth, attack: Attack) -> None:
    """One attack, one refusal with the right code in the right name, and nothing else."""
    scene = field.scenes[auth]
    insider = scene.insider.identity.device_id
    refused, accepted = await _counts(field)
    refusal = await field.attack(attack, scene)
    refused_then, accepted_then = await _counts(field)
    new = refused_then - refused
    del new[DRIPS]
    assert new == Counter({refusal: 1})
    assert accepted_then[insider] == field.genuine[insider] >= accepted[insider]


async def test_flood_costs_honest_devices_nothing(field: Battle, measured: Callable[[str], None]) -> None:
    """Forged messages in the name of one device, 500 a second: every reading arrives in time, that device's too."""
    victim = field.victims[0]
    async with StateLog.of(field.installation.hass, [device.entity_id for device in field.victims]) as log:
        calm_from = _taken(field)
        await _all_shown(log, field.victims, {device_id: taken + SAMPLES for device_id, taken in calm_from.items()})
        flood_from = _taken(field)
        report = await field.flood(victim, FLOOD_RATE, FLOOD_SECONDS)
        flood_to = _taken(field)
        seen = await _all_shown(log, field.victims, flood_to)
    numbers = {
        device.device_id: [float(state["state"]) for state in seen[device.entity_id]] for device in field.victims
    }
    assert all(shown == [float(n) for n in range(int(shown[0]), int(shown[-1]) + 1)] for shown in numbers.values())
    delays = [_delays(field.victims, seen, *span) for span in ((calm_from, flood_from), (flood_from, flood_to))]
    for name, seconds in zip(("without", "with"), delays, strict=True):
        half, most = _percentiles(seconds)
        measured(
            f"publish to state {name} a flood: p50 {half * 1000:.1f} ms, p95 {most * 1000:.1f} ms,"
            f" most {max(seconds) * 1000:.0f} ms, {len(seconds)} readings"
        )
        assert most < 1.0
    measured(f"flood: {report.sent} messages, {report.rate:.0f}/s")
    assert report.rate > FLOOD_RATE / 2
    assert len(delays[1]) >= len(field.victims) * FLOOD_SECONDS
    issues = (await field.installation.hass.websocket.call("repairs/list_issues"))["issues"]
    assert f"security_alert_{victim.device_id}" in {issue["issue_id"] for issue in issues}


async def test_budget_ends_and_a_revoked_key_opens_nothing(field: Battle) -> None:
    """More messages than granted are refused as such; a revoked device is unavailable at once and refused."""
    installation = field.installation
    enrolled = await installation.enrol(CHATTY, rate_limit=10)
    entity_id = (await installation.entity_ids())[f"{CHATTY.device_id}/temp_c"]
    async with device_of(enrolled, installation.address(CHATTY.device_id)) as device:
        for number in range(15):
            await device.publish({"temp_c": 20.0 + number})
        await field.marker.passed()
        listed = (await installation.listed())[CHATTY.device_id]
        assert listed["accepted"] >= 10
        assert listed["refused"] == {"rate_limited": 15 - listed["accepted"]}
        await installation.hass.rest.call_service("grokmon", "revoke_device", {"device_id": CHATTY.device_id})
        state = await installation.hass.rest.state(entity_id)
        assert state is not None
        assert state["state"] == "unavailable"
        await device.publish({"temp_c": 20.0})
        await field.marker.passed()
        listed = (await installation.listed())[CHATTY.device_id]
        assert (listed["refused"]["device_revoked"], listed["online"]) == (1, False)
    await field.marker.passed()
    field.expected.update(
        {(CHATTY.device_id, code): count for code, count in (await _refused_of(field, CHATTY.device_id)).items()}
    )


async def test_refusals_that_do_not_end_are_told_once_a_minute(field: Battle, drip: Drip) -> None:
    """The first of them at once, all that came in the minute after it in one line."""

    async def lines() -> list[dict[str, Any]]:
        entries = audit_entries(field.installation.audit_file)
        refused = [entry for entry in entries if entry["event"].startswith("refused")]
        return [entry for entry in refused if (entry.get("device"), entry["reason"]) == DRIPS]

    told = await settled(lines, lambda found: len(found) > 1, 2 * WITHIN)
    assert [entry["event"] for entry in told[:2]] == ["refused", "refused_again"]
    first, summary = (datetime.fromisoformat(entry["at"]) for entry in told[:2])
    assert (first - drip.began).total_seconds() < 5
    assert (summary - first).total_seconds() >= MINUTE
    assert 1 < told[1]["count"] < drip.count


async def test_every_message_is_accounted_for(field: Battle, drip: Drip) -> None:
    """After all that: honest devices lost nothing, and exactly what was forged was refused, as the hub shows, too."""
    field.expected[DRIPS] = await drip.stop()
    await field.traffic.stop()
    await _refused_completely(field)
    await field.marker.passed()
    refused, accepted = await _counts(field)
    assert refused == field.expected
    for device in field.victims:
        assert device.device.counts.sent == device.taken == accepted[device.device_id]
        assert (device.device.counts.sessions, device.device.counts.dropped) == (1, 0)
    entity_ids = await field.installation.entity_ids()
    total = str(field.expected.total())
    await field.installation.hass.wait_for_state(entity_ids["hub/rejected"], lambda state: state["state"] == total)


async def test_security_events_are_told(field: Battle) -> None:
    """Each kind of refusal that is a security event is on the bus, at most once a minute; sixty kinds with a name."""
    await field.marker.passed()
    events = [event["data"] for event in field.events.taken()]
    told = [data for data in events if is_refusal(data)]
    counts = Counter((data.get("device_id"), data["code"]) for data in told)
    _fits(counts.keys(), {refusal for refusal in field.expected if refusal[1] not in ORDINARY})
    minutes = (time.monotonic() - field.began) / MINUTE
    assert max(counts.values()) <= 1 + minutes
    assert all(data.keys() <= {"category", "severity", "code", "device_id", "name", "detail"} for data in told)
    entity_ids = await field.installation.entity_ids()
    state = await field.installation.hass.rest.state(entity_ids["hub/security_event"])
    assert state is not None
    assert state["attributes"]["event_type"] == events[-1]["category"]


async def test_states_are_those_of_honest_devices(field: Battle) -> None:
    """On record are the numbers that the honest devices sent, in order, and no value that was forged."""
    hass, since = field.installation.hass, field.since
    entity_ids = await field.installation.entity_ids()
    for device in field.victims:
        numbers = await numbers_on_record(hass, device.entity_id, since, device.numbers.__eq__)
        assert numbers == device.numbers
        shown = await numbers_on_record(hass, entity_ids[f"{device.device_id}/temp_c"], since, bool)
        assert set(shown) == {HONEST_TEMPERATURE}
    for insider in field.insiders:
        shown = await numbers_on_record(hass, entity_ids[f"{insider.identity.device_id}/temp_c"], since, bool)
        assert set(shown) == {GENUINE_TEMPERATURE}
    ghosts = [state["entity_id"] for state in await hass.rest.states() if "ghost" in state["entity_id"]]
    assert ghosts == []


async def test_restart_forgets_neither_sessions_nor_refusals(field: Battle) -> None:
    """Across an orderly restart: the trail is complete, what was overheard is a replay, the retained is told."""
    installation, hass = field.installation, field.installation.hass
    overheard = await _overheard(field)
    for scene in field.scenes.values():
        # Live it is a forgery like any other; the flag comes to who subscribes later.
        await field.attack(replace(RETAINED, expected="signature_invalid"), scene)
    resent = {device.device_id: device.device.counts.resent for device in field.victims}
    await hass.stop()
    entries = audit_entries(installation.audit_file)
    assert by_code(_audited(entries)) == by_code(field.expected)
    assert await verify_alone(installation.audit_file) == 0
    await hass.start()
    await hass.wait_for_mqtt(WITHIN)
    async with (
        Marker.of(hass, installation.address(HOSTILE)) as marker,
        Connection(installation.address(HOSTILE), "replay") as replay,
    ):
        await marker.passed()
        retained = Counter({(device.device_id, "retained"): 1 for device in field.victims})
        assert await installation.refused() == retained
        for forgery in overheard:
            await replay.publish(forgery.topic, forgery.payload)
        await marker.passed()
        replays = Counter({(device.device_id, "replayed"): OVERHEARD for device in field.victims})
        assert await installation.refused() == retained + replays
        await field.hostile.clear_retained()
        before = {device.device_id: device.device.counts.acked for device in field.victims}
        for device in field.victims:
            device.take()
        await field.traffic.stop()
        await marker.passed()
        cleared = Counter({(device.device_id, "malformed"): 1 for device in field.victims})
        refused, accepted = await _counts(field)
        assert refused == retained + replays + cleared
    for device in field.victims:
        counts = device.device.counts
        assert counts.acked - before[device.device_id] == 1
        # Asked for a hello at the start, it also sent what it had kept, under new counters.
        assert accepted[device.device_id] == 1 + counts.resent - resent[device.device_id] > 1
        assert device.device.counts.sessions == 1


def test_audit_tells_the_first_at_once_and_the_rest_once_a_minute(field: Battle) -> None:
    """A line for the first of a kind, with the message's hash and without the message, then at most one a minute."""
    entries = audit_entries(field.installation.audit_file)
    lines: dict[Refusal, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        if entry["event"] == "stopped":
            break
        if entry["event"] in {"refused", "refused_again"}:
            lines[entry.get("device"), entry["reason"]].append(entry)
    _fits(lines.keys(), field.expected.keys())
    for refusal, told in lines.items():
        assert told[0]["event"] == "refused"
        # Of a kind that was told with others, the first may stand there without its name.
        if refusal in field.first and _audited(told)[refusal] == field.expected[refusal]:
            assert told[0]["sha256"] == field.first[refusal]
        moments = [datetime.fromisoformat(entry["at"]) for entry in told]
        gaps = [(then - now).total_seconds() for now, then in pairwise(moments)]
        # What is still open at the end is told at the end.
        assert all(gap >= MINUTE for gap in gaps[:-1])
    written = sum(len(told) for told in lines.values())
    assert written <= 2 * len(lines) + len(lines) * (time.monotonic() - field.began) / MINUTE
    assert b"eyJ" not in field.installation.audit_file.read_bytes()


def test_log_has_no_errors(field: Battle) -> None:
    """No attack came through to where nobody expected it."""
    log = field.installation.hass.process.log.read_text(encoding="utf-8")
    assert [line for line in log.splitlines() if "ERROR" in line or "Traceback" in line] == []


async def _counts(field: Battle) -> tuple[Counter[Refusal], dict[str, int]]:
    """Return what was refused, by device and code, and how much was accepted, by device."""
    listed = await field.installation.listed()
    return await field.installation.refused(), {id_: device["accepted"] for id_, device in listed.items()}


async def _overheard(field: Battle) -> list[Forgery]:
    """Return the last readings of every victim, as the enemy heard them while it was quiet itself."""
    await field.traffic.stop()
    for payloads in field.captured.values():
        payloads.clear()
    for device in field.victims:
        device.take(OVERHEARD)
    await field.traffic.stop()

    async def heard() -> list[Forgery]:
        return [Forgery(topic, payload) for topic, payloads in field.captured.items() for payload in payloads]

    complete = OVERHEARD * len(field.victims)
    found = await settled(heard, lambda forgeries: len(forgeries) == complete, WITHIN)
    assert len(found) == complete
    return found


async def _refused_of(field: Battle, device_id: str) -> dict[str, int]:
    refused: dict[str, int] = (await field.installation.listed())[device_id]["refused"]
    return refused


async def _refused_completely(field: Battle) -> None:
    """Wait until as much was refused as was forged: a flood is not acknowledged."""
    total = field.expected.total()

    async def refused() -> int:
        return (await field.installation.refused()).total()

    assert await settled(refused, lambda count: count >= total, WITHIN) == total


def _taken(field: Battle) -> dict[str, int]:
    return {device.device_id: device.taken for device in field.victims}


async def _all_shown(log: StateLog, devices: list[Numbering], numbers: dict[str, int]) -> dict[str, Any]:
    return await log.until(lambda seen: all(device.shown(seen) >= numbers[device.device_id] for device in devices))


def _delays(
    devices: list[Numbering], seen: dict[str, list[dict[str, Any]]], begin: dict[str, int], end: dict[str, int]
) -> list[float]:
    """Return the seconds from when readings were taken to when their states were written."""
    return [
        datetime.fromisoformat(state["last_updated"]).timestamp() - device.taken_at[number - 1]
        for device in devices
        for state in seen[device.entity_id]
        if begin[device.device_id] < (number := round(float(state["state"]))) <= end[device.device_id]
    ]


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    hundredths = quantiles(seconds, n=100)
    return hundredths[49], hundredths[94]


def _fits(told: AbstractSet[Refusal], expected: AbstractSet[Refusal]) -> None:
    """Check that every code was told and none invented, the first kinds with the name of their device."""
    named = {refusal for refusal in told if refusal[0] is not None}
    assert named <= expected
    assert len(named) > MAX_WINDOWS / 2
    assert {code for _, code in told} == {code for _, code in expected}


def _audited(entries: list[dict[str, Any]]) -> Counter[Refusal]:
    """Return what was refused, by device and code, as an audit trail has it."""
    audited: Counter[Refusal] = Counter()
    for entry in entries:
        if entry["event"] in {"refused", "refused_again"}:
            audited[entry.get("device"), entry["reason"]] += entry.get("count", 1)
    return audited
