"""The demo for a person: the room stays open, everything goes on, and what happens is told."""

import asyncio
from collections.abc import Mapping
import json
from pathlib import Path
import time
from typing import Any

from tests.stack.brokers import Broker
from tests.trail import is_refusal

from .dashboard import URL_PATH
from .grow_room import GrowRoom, Say, grow_room
from .installation import Installation

_SUMMARY_EVERY = 60.0
_REPORT_EVERY = 2.0
# In which a room's day passes, about.
_HISTORY_HOURS = 0.25


async def live(folder: Path, broker: type[Broker], say: Say, *, as_json: bool) -> None:
    """Open the room and let it live until the caller is cancelled."""
    opened = grow_room(folder, broker, say, history_hours=_HISTORY_HOURS, report_every=_REPORT_EVERY)
    async with opened as room:
        say(f"first states after {room.first_states_s:.1f} s")
        show(room.installation, as_json=as_json)
        async with asyncio.TaskGroup() as group:
            group.create_task(room.fleet.report_for_ever(), name="fleet")
            group.create_task(room.intruder.attack_for_ever(room.scene), name="intruder")
            group.create_task(_tell_events(room, say), name="events")
            group.create_task(_tell_summaries(room, say), name="summaries")


def show(installation: Installation, *, as_json: bool, **more: Any) -> None:
    """Print how to get in."""
    hass, broker = installation.hass, installation.broker
    access = {
        "url": hass.url,
        "dashboard": f"{hass.url}/{URL_PATH}",
        "username": hass.owner.username,
        "password": hass.owner.password,
        "token": hass.token,
        "broker": broker.name,
        "broker_host": broker.host,
        "broker_port": broker.port,
        "ca_file": str(broker.certificates.ca) if broker.certificates else None,
        "folder": str(installation.folder),
        "entry_id": installation.entry_id,
        **more,
    }
    print(json.dumps(access) if as_json else _card(access), flush=True)  # noqa: T201 - what the demo is asked for


def _card(access: Mapping[str, Any]) -> str:
    lines = {
        "Address": access["dashboard"],
        "User": access["username"],
        "Password": access["password"],
        "Token": access["token"],
        "Broker": f"{access['broker']}, TLS on {access['broker_host']} port {access['broker_port']}",
        "Authority": access["ca_file"],
    }
    return "\n".join(
        ("", *(f"  {name:<11}{value}" for name, value in lines.items()), "", "  Ctrl-C ends everything.", "")
    )


async def _tell_events(room: GrowRoom, say: Say) -> None:
    async for event in room.events:
        data = event["data"]
        whose = data.get("name", "an unknown device")
        detail = f" ({data['detail']})" if "detail" in data else ""
        if not is_refusal(data):
            say(f"{_clock()} {data['category'].replace('_', ' ')}: {data['code']} {data.get('name', '')}{detail}")
            continue
        verb = "flagged" if data["code"] == "metric_implausible" else "refused"
        say(f"{_clock()} {verb} {data['code']}, in the name of {whose}{detail}")


async def _tell_summaries(room: GrowRoom, say: Say) -> None:
    while True:
        await asyncio.sleep(_SUMMARY_EVERY)
        diagnostics = await room.installation.diagnostics()
        refused = await room.installation.refused()
        say(f"{_clock()} so far {diagnostics['accepted']} readings accepted, {refused.total()} messages refused")


def _clock() -> str:
    return time.strftime("%H:%M:%S")
