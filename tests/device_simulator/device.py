"""An honest device: what the protocol asks of one, over a real broker, for as long as it is started."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from paho.mqtt.enums import MQTTProtocolVersion

from .actuators import ActuatorSpec, Outputs
from .connection import BrokerAddress, Connection
from .credentials import DeviceIdentity
from .protocol import Counts, DeviceProtocol, Metrics, Reading


class HonestDevice:
    """Say hello, send signed readings, reconnect, resend; with actuators, carry out commands and say what they do."""

    def __init__(
        self,
        identity: DeviceIdentity,
        broker: BrokerAddress,
        *,
        firmware: str | None = None,
        model: str | None = None,
        capabilities: Sequence[str] = (),
        actuators: Mapping[str, ActuatorSpec] | None = None,
        mqtt_version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311,
        hello_interval: float = 5.0,
        backoff: tuple[float, float] = (0.2, 2.0),
    ) -> None:
        self.identity = identity
        self.session_ready = asyncio.Event()
        self.outputs = Outputs(actuators or {})
        self.protocol = DeviceProtocol(identity, firmware, model, capabilities, hello_interval, self.outputs)
        self.last_error: OSError | None = None
        self._broker = broker
        self._mqtt_version = mqtt_version
        self._backoff = backoff
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._link: Connection | None = None

    @property
    def counts(self) -> Counts:
        """Tell what the device has done so far."""
        return self.protocol.counts

    async def start(self) -> None:
        """Begin to connect; `session_ready` tells when the hub knows the device."""
        if not self._tasks:
            name = self.identity.device_id
            self._tasks = [
                asyncio.create_task(self._run(), name=f"device {name}"),
                asyncio.create_task(self._end_outputs(), name=f"outputs of {name}"),
            ]

    async def stop(self) -> None:
        """Disconnect; what was not delivered stays in the queue for the next start. Outputs stay as they are."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def kick(self) -> None:
        """Lose the connection; the device connects again by itself."""
        if self._link is not None:
            await self._link.close()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    def take(self, metrics: Metrics, ts: float | None = None, meta: Mapping[str, str] | None = None) -> Reading:
        """Queue a reading and go on, as a device that samples at its own pace does."""
        reading = self.protocol.take(metrics, self._now(), ts=ts, meta=meta)
        self._pulse()
        return reading

    async def publish(
        self, metrics: Metrics, ts: float | None = None, meta: Mapping[str, str] | None = None
    ) -> Reading:
        """Queue a reading and wait until it is delivered or, too old by then, dropped."""
        reading = self.take(metrics, ts, meta)
        await self.until(lambda: reading.delivered or reading.dropped)
        return reading

    async def drain(self) -> None:
        """Wait until nothing is left to deliver."""
        await self.until(lambda: not self.protocol.pending)

    def by_hand(self, name: str, *, on: bool, percent: float = 0.0) -> None:
        """Let somebody turn a knob on the device itself."""
        self.protocol.by_hand(name, self._now(), on=on, percent=percent)
        self._pulse()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something about this device to become true."""
        while not condition():
            await self._changed.wait()

    async def _run(self) -> None:
        shortest, longest = self._backoff
        delay = shortest
        while True:
            self._link = link = Connection(
                self._broker,
                self.identity.device_id,
                protocol=self._mqtt_version,
                will=(self.identity.up("status"), b"offline"),
                on_message=self._received,
                on_close=self._pulse,
            )
            try:
                async with link:
                    delay = shortest
                    if self.outputs.specs:
                        await link.subscribe(self.identity.down("command"))
                    await link.subscribe(self.identity.down("session"))
                    await self._serve(link)
            except OSError as err:
                self.last_error = err
            finally:
                self.protocol.disconnected()
                self._pulse()
            await asyncio.sleep(delay)
            delay = min(delay * 2, longest)

    async def _serve(self, link: Connection) -> None:
        self.protocol.connected(self._now())
        while link.is_open:
            hello_at = self.protocol.hello_at
            if hello_at is not None and self._now() >= hello_at:
                await link.publish(self.identity.up("hello"), self.protocol.hello(self._now()))
            elif answer := self.protocol.next_answer(self._now()):
                channel, payload = answer
                await link.publish(self.identity.up(channel), payload)
                self.protocol.confirmed()
            elif message := self.protocol.next_message(self._now()):
                reading, payload = message
                # One at a time: a repeat by the transport is then always one of the last message.
                await link.publish(self.identity.up("telemetry"), payload)
                self.protocol.acknowledged(reading)
                self._pulse()
            else:
                await self._wait(self.protocol.next_deadline())

    async def _end_outputs(self) -> None:
        """End outputs in time, whether or not there is a connection."""
        while True:
            if self.protocol.expire(self._now()):
                self._pulse()
            await self._wait(self.outputs.deadline)

    async def _wait(self, deadline: float | None) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._changed.wait()
        except TimeoutError:
            return

    def _received(self, topic: str, payload: bytes, _retain: bool) -> None:
        if topic == self.identity.down("command"):
            self.protocol.receive_command(payload, self._now())
        else:
            self.protocol.receive(payload, self._now())
        self._pulse()

    def _pulse(self) -> None:
        if self.protocol.ready:
            self.session_ready.set()
        else:
            self.session_ready.clear()
        self._changed.set()
        self._changed.clear()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
