"""See what Home Assistant makes of messages: states as they change, states on record, the audit trail."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable
import contextlib
from datetime import UTC, datetime
import json
from pathlib import Path
import secrets
import sys
from typing import Any, Self
from urllib.parse import quote

from tests.demo.waiting import settled
from tests.device_simulator.connection import BrokerAddress, Connection
from tests.stack.home_assistant import HomeAssistant, Subscription
from tests.trail import flat

WITHIN = 60.0
_RETRY_EVERY = 0.25
_VERIFIER = Path(__file__).parents[2] / "custom_components" / "grokmon" / "gateway" / "audit.py"

type State = dict[str, Any]
type History = dict[str, list[State]]


class StateLog:
    """Hold every state that some entities take for as long as the context lasts."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._history: History = defaultdict(list)

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, hass: HomeAssistant, entity_ids: Iterable[str]) -> AsyncGenerator[Self]:
        """Watch entities, which need not exist yet."""
        trigger = {"trigger": "state", "entity_id": list(entity_ids)}
        async with hass.websocket.subscribe("subscribe_trigger", trigger=trigger) as subscription:
            yield cls(subscription)

    def seen(self) -> History:
        """Return the states so far, by entity."""
        for event in self._subscription.taken():
            self._note(event)
        return self._history

    async def until(self, condition: Callable[[History], bool]) -> History:
        """Return the states once they fulfil the condition."""
        async with asyncio.timeout(WITHIN):
            while not condition(self.seen()):
                self._note(await self._subscription.next(WITHIN))
        return self._history

    def _note(self, event: dict[str, Any]) -> None:
        trigger = event["variables"]["trigger"]
        if trigger["to_state"] is not None:
            self._history[trigger["entity_id"]].append(trigger["to_state"])


class Marker:
    """Know that Home Assistant has processed all that the broker has acknowledged so far.

    A broker hands messages on before it acknowledges them, and to one subscriber in one order.
    """

    def __init__(self, subscription: Subscription, connection: Connection, topic: str) -> None:
        self._subscription = subscription
        self._connection = connection
        self._topic = topic

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, hass: HomeAssistant, address: BrokerAddress) -> AsyncGenerator[Self]:
        """Have Home Assistant listen to a topic of its own for the time of the context."""
        topic = f"live/marker/{secrets.token_hex(8)}"
        async with (
            hass.websocket.subscribe("mqtt/subscribe", topic=topic, qos=1) as subscription,
            Connection(address, f"marker-{secrets.token_hex(4)}") as connection,
        ):
            marker = cls(subscription, connection, topic)
            async with asyncio.timeout(WITHIN):
                # Home Assistant answers before it has subscribed.
                while not await marker._returns(_RETRY_EVERY):
                    pass
            yield marker

    async def passed(self) -> None:
        """Return once Home Assistant has come to this point."""
        if not await self._returns(WITHIN):
            raise TimeoutError("the marker was not seen")

    async def _returns(self, within: float) -> bool:
        mark = secrets.token_hex(8)
        await self._connection.publish(self._topic, mark.encode())
        try:
            await self._subscription.first(lambda event: event["payload"] == mark, within)
        except TimeoutError:
            return False
        return True


async def recorded(hass: HomeAssistant, entity_id: str, since: datetime) -> list[str]:
    """Return the states that an entity took since then, oldest first, as Home Assistant has them on record."""
    now = quote(datetime.now(UTC).isoformat())
    options = f"end_time={now}&filter_entity_id={entity_id}&significant_changes_only=0&no_attributes"
    rows = await hass.rest.get(f"/api/history/period/{quote(since.isoformat())}?{options}")
    return [row["state"] for row in rows[0]] if rows else []


async def numbers_on_record(
    hass: HomeAssistant, entity_id: str, since: datetime, complete: Callable[[list[float]], bool]
) -> list[float]:
    """Return the numbers that an entity showed since then, once they are complete: the recorder lags behind."""

    async def look() -> list[float]:
        return [float(state) for state in await recorded(hass, entity_id, since) if _is_number(state)]

    return await settled(look, complete, WITHIN)


def audit_entries(file: Path) -> list[dict[str, Any]]:
    """Return the complete lines of an audit trail."""
    lines = file.read_bytes().splitlines(keepends=True)
    return [flat(json.loads(line)) for line in lines if line.endswith(b"\n")]


async def verify_alone(file: Path) -> int:
    """Verify an audit trail with nothing but Python: no Home Assistant, no packages; return the exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", _VERIFIER, "verify", file.parent, stdout=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


def _is_number(state: str) -> bool:
    return state not in {"unknown", "unavailable"}
