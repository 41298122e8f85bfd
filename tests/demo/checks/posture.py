"""The broker keeps devices apart, and the integration has measured it."""

import asyncio
import contextlib

from paho.mqtt.enums import MQTTProtocolVersion

from tests.demo.grow_room import VICTIM, GrowRoom
from tests.demo.installation import PREFIX
from tests.demo.plan import Node
from tests.demo.report import Report
from tests.demo.waiting import settled
from tests.device_simulator.connection import BrokerAddress, BrokerRefusedError, Connection
from tests.stack.brokers import DynamicMosquittoBroker

_WITHIN = 30
_AGAIN = 0.1
_STRANGER = Node("stranger", "Stranger", ("temp_c",))


async def check_posture(room: GrowRoom, report: Report) -> None:
    """See what was measured; where the broker has the means, it has to be enforced, item by item."""
    rest = room.installation.hass.rest
    entity_id = room.entity_ids["hub/posture"]
    enforcing = isinstance(room.installation.broker, DynamicMosquittoBroker)
    wanted = "enforced" if enforcing else "unknown"

    async def shown() -> str:
        state = await rest.state(entity_id)
        return "nothing" if state is None else str(state["state"])

    found = await settled(shown, lambda state: state == wanted, _WITHIN)
    score = await rest.state(room.entity_ids["hub/security_score"])
    problems = [] if found == wanted else [f"posture {found}, not {wanted}: {await rest.state(entity_id)}"]
    report.add(f"broker posture {wanted}, security score {score and score['state']} %", problems)
    if enforcing:
        await _check_account(room, report)


async def _check_account(room: GrowRoom, report: Report) -> None:
    """Have a device that knows only its own account publish in the name of another one."""
    installation = room.installation
    stranger = await installation.enrol(_STRANGER)
    before = await installation.refused()
    problems: list[str] = []
    with contextlib.suppress(BrokerRefusedError, ConnectionError):
        link = await _connected(installation.address_of(stranger))
        try:
            await link.publish(f"{PREFIX}/v1/{VICTIM}/up/telemetry", b"in your name")
            problems.append("the broker took a message in the name of another device")
        finally:
            await link.close()
    after = await installation.refused()
    if after != before:
        problems.append(f"the gateway got to see {dict(after - before)}")
    report.add("the broker refuses a device that speaks in the name of another one", problems)


async def _connected(address: BrokerAddress) -> Connection:
    """Return a connection with the account of a device just enrolled, of which the broker hears a little later."""
    async with asyncio.timeout(_WITHIN):
        while True:
            link = Connection(address, _STRANGER.device_id, protocol=MQTTProtocolVersion.MQTTv5)
            try:
                await link.open()
            except BrokerRefusedError:
                await asyncio.sleep(_AGAIN)
            else:
                return link
