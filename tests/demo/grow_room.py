"""Open the grow room: servers, gateway, dashboard, honest devices, and an intruder who waits for the sign to begin."""

import asyncio
from collections.abc import AsyncGenerator, Callable
import contextlib
from dataclasses import dataclass
from pathlib import Path
import time

from tests.device_simulator.attacks import Scene
from tests.stack.brokers import Broker
from tests.stack.home_assistant import Subscription

from .dashboard import add_dashboard, dashboard
from .fleet import Fleet, device_of
from .installation import Installation
from .intruder import ACCOUNT, Intruder
from .plan import CONTROL, FLOWER, NODES, STOLEN, ZONES
from .tents import grow_tents
from .waiting import settled

type Say = Callable[[str], None]

VICTIM = "flower-climate"
KEY_PAIR_VICTIM = "flower-soil"
# What the intruder signs with the stolen key must not be stopped by the budget of messages alone.
_STOLEN_RATE = 600
_WITHIN = 30
_NOT_YET = {"unknown", "unavailable"}


class RoomNotReadyError(Exception):
    """Say what did not come about in time."""


@dataclass(frozen=True, slots=True)
class GrowRoom:
    """Hold what is in the room."""

    installation: Installation
    fleet: Fleet
    intruder: Intruder
    scene: Scene
    events: Subscription
    """The security events since the gateway was set up."""
    entity_ids: dict[str, str]
    first_states_s: float
    """How long it took from the start until every metric of every device had a state."""


@contextlib.asynccontextmanager
async def grow_room(
    folder: Path, broker: type[Broker], say: Say, *, history_hours: float, report_every: float
) -> AsyncGenerator[GrowRoom]:
    """Open the room and close it at the end; when it is open the devices have reported and all are waiting."""
    begin = time.monotonic()
    nodes = (*NODES, STOLEN)
    say(f"starting {broker.name} and Home Assistant")
    async with contextlib.AsyncExitStack() as stack:
        accounts = [*(node.device_id for node in nodes), ACCOUNT]
        installation = await stack.enter_async_context(Installation(folder, broker, accounts))
        intruder = await stack.enter_async_context(Intruder(installation.address(ACCOUNT), VICTIM))
        await installation.add_gateway(ZONES)
        await installation.let_it_be_day()
        await installation.add_accounts()
        events = await stack.enter_async_context(installation.hass.websocket.events("grokmon_security_event"))
        async with installation.gateway_off():
            await intruder.plant()
        # This also shows that the gateway listens: no device says hello in vain.
        await _until_refused(installation, intruder)
        await intruder.clear()
        await intruder.listen()
        say(f"enrolling {len(NODES)} devices, and one whose key was stolen")
        enrolled = {node.device_id: await installation.enrol(node) for node in NODES}
        enrolled[STOLEN.device_id] = await installation.enrol(STOLEN, rate_limit=_STOLEN_RATE)
        devices = {name: device_of(device, installation.address_of(device)) for name, device in enrolled.items()}
        stolen = await stack.enter_async_context(devices[STOLEN.device_id])
        members = [(node, devices[node.device_id]) for node in NODES]
        tents = grow_tents()
        tents[FLOWER.name].outputs = devices[CONTROL.device_id].outputs.outputs
        fleet = await stack.enter_async_context(Fleet(members, tents, report_every))
        await fleet.report_once()
        entity_ids = await installation.entity_ids()
        await _until_states(installation, {entity_ids[unique_id] for node in NODES for unique_id in node.unique_ids})
        first_states_s = time.monotonic() - begin
        # Now that every sensor is heard: without them safety could not be judged.
        await _light_up(installation, entity_ids)
        await add_dashboard(installation.hass, dashboard(ZONES, NODES, entity_ids.__getitem__, hours=history_hours))
        async with asyncio.timeout(_WITHIN):
            await stolen.session_ready.wait()
        # What was overheard can be replayed once it is no longer the latest.
        await fleet.report_once()
        scene = await intruder.scene(stolen, enrolled[VICTIM], enrolled[KEY_PAIR_VICTIM])
        yield GrowRoom(installation, fleet, intruder, scene, events, entity_ids, first_states_s)


async def _light_up(installation: Installation, entity_ids: dict[str, str]) -> None:
    """Switch on what a tent in flower needs, as its grower would."""
    lamp, fan = (entity_ids[f"{CONTROL.device_id}/output_{role}"] for role in ("grow_light", "exhaust"))
    call = installation.hass.rest.call_service
    await call("light", "turn_on", {"entity_id": lamp, "brightness_pct": 75})
    await call("fan", "set_percentage", {"entity_id": fan, "percentage": 30})


async def _until_refused(installation: Installation, intruder: Intruder) -> None:
    wanted = intruder.expected
    seen = await settled(installation.refused, lambda refused: refused == wanted, _WITHIN)
    if seen != wanted:
        raise RoomNotReadyError(f"the gateway refused {dict(seen)} in place of {dict(wanted)}")


async def _until_states(installation: Installation, wanted: set[str]) -> None:
    async def missing() -> set[str]:
        states = await installation.hass.rest.states()
        return wanted - {state["entity_id"] for state in states if state["state"] not in _NOT_YET}

    if left := await settled(missing, lambda entities: not entities, _WITHIN):
        raise RoomNotReadyError(f"no states of {', '.join(sorted(left))}")
