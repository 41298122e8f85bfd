"""What honest devices send arrives: every value, every reading, and what they say of themselves."""

from tests.demo.fleet import Member
from tests.demo.grow_room import GrowRoom
from tests.demo.plan import STOLEN
from tests.demo.report import DeviceRow, Report
from tests.demo.waiting import settled
from tests.device_simulator.room import saturation_vapour_pressure_kpa

_WITHIN = 10
# Gateway and simulator have different formulas for saturation.
_VPD_TOLERANCE_KPA = 0.02


async def check_states(room: GrowRoom, report: Report) -> None:
    """Compare the states in Home Assistant's REST interface with what the devices sent."""

    async def differences() -> list[str]:
        states = {state["entity_id"]: state["state"] for state in await room.installation.hass.rest.states()}
        seen = {unique_id: states.get(entity_id, "none") for unique_id, entity_id in room.entity_ids.items()}
        return [line for member in room.fleet.members for line in _differences(member, seen)]

    found = await settled(differences, lambda lines: not lines, _WITHIN)
    count = sum(len(member.last) for member in room.fleet.members)
    report.add(f"{count} states are what {len(room.fleet.members)} devices sent, and VPD follows from them", found)


async def check_nothing_lost(room: GrowRoom, report: Report) -> None:
    """Compare what the devices sent with what was accepted of them."""
    listed = await room.installation.listed()
    sent = [(member.node, member.device.counts.sent) for member in room.fleet.members]
    sent.append((STOLEN, room.intruder.genuine))
    for node, count in sent:
        device = listed[node.device_id]
        report.devices.append(DeviceRow(node.name, count, device["accepted"], sum(device["refused"].values())))
    lost = [
        f"{row.name} sent {row.sent}, accepted {row.accepted}" for row in report.devices if row.sent != row.accepted
    ]
    undelivered = [member.node.name for member in room.fleet.members if member.device.counts.dropped]
    report.add(
        f"honest devices lost nothing: {sum(count for _, count in sent)} readings sent and accepted",
        [*lost, *(f"{name} dropped readings" for name in undelivered)],
    )


async def check_registered(room: GrowRoom, report: Report) -> None:
    """Look for session, firmware and model of every device in the gateway and in Home Assistant's device registry."""
    diagnostics = await room.installation.diagnostics()
    in_session = {device["device_id"] for device in diagnostics["devices"] if device["session"]}
    problems: list[str] = []
    for member in room.fleet.members:
        node = member.node
        entry = await room.installation.device_entry(node.device_id)
        wanted = {"sw_version": node.firmware, "model": node.model, "name": node.name}
        problems += [f"{node.name}: {key} is {entry[key]}" for key, value in wanted.items() if entry[key] != value]
        if node.device_id not in in_session:
            problems.append(f"{node.name} has no session")
    algorithms = ", ".join(sorted({member.node.auth for member in room.fleet.members}))
    report.add(f"sessions, firmware and model are registered ({algorithms})", problems)


def _differences(member: Member, seen: dict[str, str]) -> list[str]:
    wanted = {f"{member.node.device_id}/{metric}": value for metric, value in member.last.items()}
    lines = [f"{key} is {seen[key]}, not {value}" for key, value in wanted.items() if not _is(seen[key], value)]
    last = member.last
    if {"temp_c", "humidity_percent", "leaf_temp_c"} <= last.keys():
        vapour = saturation_vapour_pressure_kpa(last["temp_c"]) * last["humidity_percent"] / 100
        vpd = max(0.0, saturation_vapour_pressure_kpa(last["leaf_temp_c"]) - vapour)
        key = f"{member.node.device_id}/vpd_kpa"
        if not _is(seen[key], vpd, _VPD_TOLERANCE_KPA):
            lines.append(f"{key} is {seen[key]}, not {vpd:.3f}")
    return lines


def _is(state: str, value: float | bool, tolerance: float = 0.0) -> bool:
    if isinstance(value, bool):
        return state == ("on" if value else "off")
    try:
        return abs(float(state) - value) <= tolerance
    except ValueError:
        return False
