"""Speak Home Assistant's WebSocket interface."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
import contextlib
import itertools
from typing import Any, Self

import aiohttp

_ANSWER_WITHIN = 30


class CommandFailedError(Exception):
    """Say that Home Assistant refused a command, with its error code."""

    def __init__(self, command: str, code: str, message: str) -> None:
        super().__init__(f"{command}: {code}: {message}")
        self.code = code


class ConnectionEndedError(Exception):
    """Say that the connection is gone."""


class Subscription:
    """Hold the events of one subscription until somebody takes them."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def put(self, event: dict[str, Any] | None) -> None:
        """Add an event, or ``None`` for the end of the connection."""
        self._events.put_nowait(event)

    async def next(self, timeout: float = 30) -> dict[str, Any]:  # noqa: ASYNC109 - a deadline is what callers state
        """Return the next event within the time."""
        async with asyncio.timeout(timeout):
            event = await self._events.get()
        if event is None:
            raise ConnectionEndedError
        return event

    async def first(self, matches: Callable[[dict[str, Any]], bool], timeout: float = 30) -> dict[str, Any]:  # noqa: ASYNC109
        """Return the next event that matches within the time."""
        async with asyncio.timeout(timeout):
            while not matches(event := await self.next(timeout)):
                pass
        return event

    def taken(self) -> list[dict[str, Any]]:
        """Return what has arrived and was not taken yet, without waiting."""
        events = []
        while not self._events.empty():
            event = self._events.get_nowait()
            if event is None:
                raise ConnectionEndedError
            events.append(event)
        return events

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """Yield events until the connection ends."""
        while (event := await self._events.get()) is not None:
            yield event


class WebSocketClient:
    """Send commands and receive events over one connection."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self._connection = connection
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, session: aiohttp.ClientSession, url: str, token: str) -> Self:
        """Connect and authenticate with a token."""
        connection = await session.ws_connect(f"{url}/api/websocket", max_msg_size=0)
        await connection.receive_json()
        await connection.send_json({"type": "auth", "access_token": token})
        answer = await connection.receive_json()
        if answer["type"] != "auth_ok":
            await connection.close()
            raise CommandFailedError("auth", answer["type"], answer.get("message", ""))
        return cls(connection)

    @property
    def connected(self) -> bool:
        """Tell whether the connection stands."""
        return not self._reader.done()

    async def call(self, command: str, **arguments: Any) -> Any:
        """Send a command and return its result."""
        return await self._send(next(self._ids), command, arguments)

    @contextlib.asynccontextmanager
    async def subscribe(self, command: str, **arguments: Any) -> AsyncGenerator[Subscription]:
        """Subscribe with a command and hold its events for the time of the context."""
        number = next(self._ids)
        subscription = self._subscriptions[number] = Subscription()
        try:
            await self._send(number, command, arguments)
            yield subscription
        finally:
            del self._subscriptions[number]
            if self.connected:
                await self.call("unsubscribe_events", subscription=number)

    def events(self, event_type: str) -> contextlib.AbstractAsyncContextManager[Subscription]:
        """Subscribe to events of one type."""
        return self.subscribe("subscribe_events", event_type=event_type)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()
        await self._reader

    async def _send(self, number: int, command: str, arguments: dict[str, Any]) -> Any:
        if not self.connected:
            raise ConnectionEndedError
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            await self._connection.send_json({"id": number, "type": command, **arguments})
            async with asyncio.timeout(_ANSWER_WITHIN):
                message = await answer
        finally:
            del self._answers[number]
        if not message["success"]:
            raise CommandFailedError(command, message["error"]["code"], message["error"]["message"])
        return message["result"]

    async def _read(self) -> None:
        try:
            async for received in self._connection:
                if received.type is aiohttp.WSMsgType.TEXT:
                    self._take(received.json())
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionEndedError())
            for subscription in self._subscriptions.values():
                subscription.put(None)

    def _take(self, message: dict[str, Any]) -> None:
        number = message["id"]
        if message["type"] == "event":
            if (subscription := self._subscriptions.get(number)) is not None:
                subscription.put(message["event"])
        elif message["type"] == "result" and (answer := self._answers.get(number)) is not None and not answer.done():
            answer.set_result(message)
