"""Every attack is refused with its own code, counted, and told."""

from collections import Counter

from tests.demo.grow_room import GrowRoom
from tests.demo.installation import Refusal
from tests.demo.intruder import LIVE_ATTACKS
from tests.demo.report import Report, refusal_rows
from tests.demo.waiting import settled
from tests.device_simulator.attacks import Attack
from tests.trail import is_refusal

_ANSWER_WITHIN = 5
_FLOOD_WITHIN = 30
# A transport may repeat a message, and a device may have a wrong clock or a session that is no more.
_NOT_WORTH_AN_EVENT = {"duplicate", "session_unknown", "clock_skew"}


async def check_attacks(room: GrowRoom, report: Report) -> None:
    """Make the attacks one by one and see that each adds one refusal with its code, and nothing else."""
    attacks = [attack for attack in LIVE_ATTACKS if attack.possible(room.scene)]
    problems = [problem for attack in attacks if (problem := await _attack(room, attack)) is not None]
    if missing := len(LIVE_ATTACKS) - len(attacks):
        problems.append(f"{missing} attacks could not be made")
    report.add(f"{len(attacks)} attacks, each refused with its own code", problems)


async def check_flood(room: GrowRoom, report: Report) -> None:
    """Flood the gateway and see that every message is refused."""
    before = await room.installation.refused()
    flood = await room.intruder.flood(room.scene)
    wanted = before + Counter({(room.scene.victim.device_id, "signature_invalid"): flood.sent})
    seen = await settled(room.installation.refused, lambda refused: refused == wanted, _FLOOD_WITHIN)
    report.add(
        f"a flood of {flood.sent} forged messages in {flood.seconds:.1f} s was refused", _differences(wanted, seen)
    )


async def check_counts(room: GrowRoom, report: Report) -> None:
    """Compare all that was refused since the start with all that had to be."""
    expected = room.intruder.expected
    seen = await room.installation.refused()
    by_code: Counter[str] = Counter()
    for (_, code), count in seen.items():
        by_code[code] += count
    report.refusals = refusal_rows(room.intruder.log, by_code)
    report.add(
        f"{seen.total()} messages refused, by device and code as many as were sent", _differences(expected, seen)
    )


async def check_events(room: GrowRoom, report: Report) -> None:
    """See that every kind of refusal was told on the event bus, and the last of them by the event entity."""
    events = [event["data"] for event in room.events.taken()]
    told = {(data.get("device_id"), data["code"]) for data in events if is_refusal(data)}
    wanted = {refusal for refusal in room.intruder.expected if refusal[1] not in _NOT_WORTH_AN_EVENT}
    problems = [f"nothing was told of {_name(refusal)}" for refusal in wanted - told]
    problems += [f"{_name(refusal)} was told, but nobody did it" for refusal in told - set(room.intruder.expected)]
    entity = await room.installation.hass.rest.state(room.entity_ids["hub/security_event"])
    shown = entity["attributes"].get("event_type") if entity else None
    if shown not in {data["category"] for data in events}:
        problems.append(f"the event entity shows {shown}")
    report.add(f"{len(told)} kinds of refusal were security events", problems)


async def _attack(room: GrowRoom, attack: Attack) -> str | None:
    before = await room.installation.refused()
    refusal = await room.intruder.attack(attack, room.scene)
    after = await settled(room.installation.refused, lambda refused: refused != before, _ANSWER_WITHIN)
    found = after - before
    if found == Counter([refusal]):
        return None
    return f"{attack.name}: expected {_name(refusal)}, found {', '.join(map(_name, found)) or 'nothing'}"


def _differences(expected: Counter[Refusal], seen: Counter[Refusal]) -> list[str]:
    return [
        f"{_name(refusal)}: expected {expected[refusal]}, refused {seen[refusal]}"
        for refusal in seen | expected
        if seen[refusal] != expected[refusal]
    ]


def _name(refusal: Refusal) -> str:
    device_id, code = refusal
    return f"{code} of {device_id or 'an unknown device'}"
