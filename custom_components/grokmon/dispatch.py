"""The dispatcher: commands on their way to devices, and what is done when devices, sensors or time call for it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
import logging
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.util.ulid import ulid_now

from .alarms import Alarms
from .audit_log import AuditLog
from .books import Books
from .clock import RoomClock
from .command_log import CommandLog
from .gateway import commands
from .gateway.actions import Action, Drive, Ended, Fate, Faulted, Renew, Settled, Stop, Tripped
from .gateway.actuators import Command, Key, Kind
from .gateway.control import Controller
from .gateway.errors import Code, CommandError, GatewayError, PolicyError
from .gateway.models import Ack, Outbound, Reading, Report
from .gateway.orders import Order
from .gateway.outputs import Output, is_driving
from .gateway.pipeline import Gateway
from .gateway.principals import Caller, Principal, system
from .gateway.zones import Zone
from .load_queue import LoadQueue
from .waiters import Waiters

_LOGGER = logging.getLogger(__name__)

_TICK: Final = timedelta(seconds=1)
# What a caller is told for each fate that is not the one wanted.
_ERRORS: Final = {
    Fate.REJECTED: Code.COMMAND_REJECTED,
    Fate.FAILED: Code.COMMAND_FAILED,
    Fate.TIMEOUT: Code.COMMAND_TIMEOUT,
    Fate.SUPERSEDED: Code.COMMAND_SUPERSEDED,
}

# Raises CommandError for what was certainly not sent, HomeAssistantError where nobody knows.
type Publish = Callable[[Outbound], Awaitable[None]]


class Dispatcher:
    """Carry out commands: authorised in one place, audited, signed, awaited, and kept up by leases.

    `changed` is called with a device's identifier whenever something about its outputs has changed.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry[Any],
        gateway: Gateway,
        audit: AuditLog,
        alarms: Alarms,
        *,
        publish: Publish,
        changed: Callable[[str], None],
    ) -> None:
        self._hass = hass
        self._entry = entry
        self._gateway = gateway
        self._audit = audit
        self._alarms = alarms
        self._publish = publish
        self._changed = changed
        self._waiters = Waiters()
        self._queue = LoadQueue(hass)
        self._cancel: CALLBACK_TYPE | None = None
        self._stopped = False
        self.log = CommandLog(audit)
        self.clock = RoomClock()
        gateway.told = self.clock.told
        self.controller = Controller()
        self._books = Books(hass, self.controller, self.clock)

    async def async_start(self, zones: Iterable[Zone]) -> None:
        """Take up what an earlier run left: budgets, latches, and what was to be on."""
        await self._books.async_load()
        # By the time that goes on, or every sensor would seem to have been silent for all of it.
        self.async_configure(zones)
        self._alarms.async_restore(self.controller, lost=self._books.async_restore())
        for device_id in {key.device_id for key in self.controller.outputs}:
            self._changed(device_id)
        self._cancel = async_track_time_interval(self._hass, self._async_tick, _TICK, cancel_on_shutdown=True)

    async def async_stop(self) -> None:
        """Command nothing more, and save. What is on goes on until its lease ends, or the next run takes it up."""
        for order in self.controller.unpublished():
            self._take_back(order, Code.COMMAND_NOT_SENT)
        self._stopped = True
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        self._waiters.async_tell_all(_stopping())
        try:
            self.log.summarise(self.clock.now(), closing=True)
            self._alarms.async_summarise(self.controller, self.clock.now(), closing=True)
        except ValueError:
            # No line is worth the books, nor what else has to be put away.
            _LOGGER.exception("What was decided again could not be recorded")
        await self._books.async_save_quietly()
        self._books.async_close()

    async def async_send(self, command: Command, who: Principal) -> None:
        """Carry out a command and return when the device has. Raises PolicyError or CommandError.

        Whatever energises is durable in books and trail before it is published, but for fans that the hub itself sets:
        heat waits for no disk. Nor does turning off, and what still waits for its turn is not carried out after it.
        """
        if command.energises:
            await self._async_turn(command, who)
        order = self._accept(command, who)
        if order.command.energises and who.caller is not Caller.SYSTEM:
            await self._async_book(order)
        await self._async_carry_out(order)

    async def async_stop_outputs(self, keys: Iterable[Key], who: Principal) -> list[GatewayError]:
        """Switch outputs off at once; return why it is not known of some that they are."""

        async def stop(key: Key) -> GatewayError | None:
            try:
                await self.async_send(Command(key=key, on=False), who)
            except GatewayError as error:
                return error
            return None

        return [error for error in await asyncio.gather(*map(stop, keys)) if error is not None]

    @callback
    def async_take_report(self, report: Report) -> None:
        """Take over what a device says of its outputs."""
        self._act(self.controller.report(report.device_id, report.states, self.clock.now()))
        self._changed(report.device_id)

    @callback
    def async_take_ack(self, ack: Ack) -> None:
        """Take over a device's answer. Raises CommandError for one that nobody waits for."""
        settled, actions = self.controller.acknowledge(ack, self.clock.now())
        self._settle(settled)
        self._act(actions)
        self._changed(ack.device_id)

    @callback
    def async_take_reading(self, reading: Reading) -> None:
        """Take over what a device measured: an interlock acts at once."""
        self._act(self.controller.observe(reading, self.clock.now()))

    @callback
    def async_restarted(self, device_id: str) -> None:
        """Give up what was on its way to a device that has started anew."""
        for settled in self.controller.restarted(device_id):
            self._settle(settled)

    @callback
    def async_abandon(self, device_id: str) -> None:
        """Let go of a device that may not be spoken to any more."""
        self._give_up(self.controller.abandon(device_id))

    @callback
    def async_absent(self, device_id: str) -> None:
        """Note that a device is not heard any more."""
        self.controller.absent(device_id)
        self._changed(device_id)

    @callback
    def async_configure(self, zones: Iterable[Zone]) -> None:
        """Follow a change of zones and devices."""
        self._give_up(self.controller.configure(zones, list(self._gateway.registry), self.clock.now()))
        self._alarms.async_follow(self.controller)

    async def async_identify(self, device_id: str, who: Principal) -> None:
        """Let a device show where it is. Raises GatewayError or HomeAssistantError when it cannot be told."""
        cid = ulid_now()
        now = self.clock.now()
        message = self._gateway.command(device_id, commands.identify(cid, self.clock.told(now.wall)), now.wall)
        self.controller.identify(device_id, cid)
        self.log.done("identify", who, now, {"device": device_id}, cid=cid)
        await self._publish(message)

    async def async_changed_by_hand(self) -> None:
        """Save at once what an administrator changed: latches, faults, overrides, the AI."""
        await self._books.async_save()

    async def _async_turn(self, command: Command, who: Principal) -> None:
        """Wait for the turn of a load. Raises PolicyError when it was turned off meanwhile."""
        try:
            delay = self.controller.policy.start_delay(self.controller.output(command.key), self.clock.now().steady)
            await self._queue.async_wait(command.key, delay)
        except PolicyError as error:
            self.log.refused(command, who, error, self.clock.now())
            raise

    @callback
    def _accept(self, command: Command, who: Principal) -> Order:
        """Return the order for a command. From here on it is in the books: no two callers get the last dose."""
        self._refuse_when_stopped()
        if not command.energises and who.caller is not Caller.SYSTEM:
            self._queue.async_turned_off(command.key)
        try:
            output = self.controller.output(command.key)
            self._present(output, command, who)
            repeated = output.is_repeated(command, who)
            before = output.kept_off, output.forced, output.let_be
            order, replaced = self.controller.accept(command, who, ulid_now(), self.clock.now())
            if before != (output.kept_off, output.forced, output.let_be):
                self._books.async_changed()
        except PolicyError as error:
            self.log.refused(command, who, error, self.clock.now())
            raise
        if replaced is not None:
            if not (order.command.energises or replaced.command.energises):
                # Both want the same: whoever waits for the first learns what becomes of the second.
                self._waiters.async_hand_over(replaced.cid, to=order.cid)
            self._settle(Settled(Fate.SUPERSEDED, replaced))
        self.log.accepted(order, self.clock.now(), repeated=repeated)
        return order

    def _refuse_when_stopped(self) -> None:
        """Refuse what waited for its turn or for the disk until the hub was gone: another one may run the room."""
        if self._stopped:
            raise _stopping()

    def _present(self, output: Output, command: Command, who: Principal) -> None:
        """Refuse to energise what is not heard, since nothing is kept for it; the hub itself may try."""
        if command.energises and output.observed is None and who.caller is not Caller.SYSTEM:
            device = self._gateway.registry.get(output.key.device_id)
            raise PolicyError(
                Code.DEVICE_OFFLINE,
                f"{output.key.device_id} is not heard",
                values={"device": output.key.device_id if device is None else device.name},
            )

    async def _async_book(self, order: Order) -> None:
        """Return when disk and audit trail have the order; take it back when they cannot."""
        try:
            if self._counts(order):
                await asyncio.gather(self._audit.async_flush(mark=False), self._books.async_save())
            else:
                await self._audit.async_flush(mark=False)
        except (HomeAssistantError, OSError) as error:
            self._take_back(order, Code.AUDIT_UNAVAILABLE)
            raise PolicyError(Code.AUDIT_UNAVAILABLE, "the books cannot be written") from error
        except BaseException:
            self._take_back(order, Code.COMMAND_NOT_SENT)
            raise
        if not self._audit.healthy:
            self._take_back(order, Code.AUDIT_UNAVAILABLE)
            raise PolicyError(Code.AUDIT_UNAVAILABLE, "the audit trail cannot be written")

    def _counts(self, order: Order) -> bool:
        """Tell whether a budget is to be on the disk before anything moves."""
        doses = order.command.amount_ml is not None or order.command.seconds is not None
        return doses or self.controller.outputs[order.key].actuator.kind is Kind.LIGHT

    async def _async_carry_out(self, order: Order) -> None:
        self._refuse_when_stopped()
        if not self.controller.is_current(order):
            self._take_back(order, Code.COMMAND_SUPERSEDED)
            raise CommandError(Code.COMMAND_SUPERSEDED, str(order.key))
        actuator = self.controller.outputs[order.key].actuator
        now = self.clock.now().wall
        try:
            body = commands.command(order, actuator, self.clock.told(now))
            message = self._gateway.command(order.key.device_id, body, now)
        except PolicyError as error:
            self._take_back(order, error.code)
            self._waiters.async_tell(order.cid, error)
            raise
        waiter = self._waiters.async_add(order.cid)
        self.controller.published(order, self.clock.now())
        self._spawn(self._async_publish(message, order))
        await self._waiters.async_wait(waiter, order)

    async def _async_publish(self, message: Outbound, order: Order) -> None:
        try:
            await self._publish(message)
        except (CommandError, HomeAssistantError) as error:
            if not self.controller.is_current(order):
                return
            if isinstance(error, CommandError):
                self._take_back(order, error.code)
            else:
                # The client may have kept it, and send it once it is connected again.
                self.controller.lose(order)
                self.log.lost(order, Code.COMMAND_NOT_SENT.value, self.clock.now())
                self._note_change(order)
                error = CommandError(Code.COMMAND_NOT_SENT, str(error))
            self._waiters.async_tell(order.cid, error)

    @callback
    def _take_back(self, order: Order, code: Code) -> None:
        if self._stopped:
            # What had not gone out was taken back then.
            return
        self.controller.withdraw(order)
        self.log.withdrawn(order, code.value, self.clock.now())
        self._note_change(order)

    @callback
    def _settle(self, settled: Settled) -> None:
        """Note what became of an order, and tell who waits for it."""
        order = settled.order
        if order is None:
            return
        self.log.settled(order, settled, self.clock.now())
        self._note_change(order)
        code, reason = _ERRORS.get(settled.fate), f": {settled.reason}" if settled.reason else ""
        self._waiters.async_tell(order.cid, None if code is None else CommandError(code, f"{order.key}{reason}"))

    @callback
    def _note_change(self, order: Order) -> None:
        """Have saved what an order left, also where it did not go out: an *off* ended what stood."""
        if order.command.energises or not self.log.is_unrecorded(order):
            self._books.async_changed()

    @callback
    def _give_up(self, orders: Iterable[Order]) -> None:
        for order in orders:
            self._settle(Settled(Fate.FAILED, order, "abandoned"))
            self._changed(order.key.device_id)

    @callback
    def _async_tick(self, _moment: datetime) -> None:
        now = self.clock.now()
        for settled in self.controller.expire(now):
            self._settle(settled)
            if (order := settled.order) is not None and order.command.energises and not is_driving(order.principal):
                # It may be on, and whoever asked is told that it is not, or has gone; an interlock asks again.
                self._spawn(self._async_switch_off(Stop(order.key, Code.COMMAND_TIMEOUT.value)))
        self._act(self.controller.tick(now))
        self.log.summarise(now, closing=False)
        self._alarms.async_summarise(self.controller, now, closing=False)
        if self._books.is_due:
            self._spawn(self._books.async_save_quietly())

    @callback
    def _act(self, actions: Iterable[Action]) -> None:
        """Carry out what the controller found to be due."""
        for action in actions:
            match action:
                case Renew(key):
                    self._spawn(self._async_renew(key))
                case Stop():
                    self._spawn(self._async_switch_off(action))
                case Drive(command, principal):
                    self._spawn(self._async_quietly(command, principal))
                case Tripped():
                    self._alarms.async_tripped(action, self.controller, self.clock.now())
                    self._spawn(self._books.async_save_quietly())
                case Faulted(key, fault):
                    self._alarms.async_faulted(key, fault)
                    self._changed(key.device_id)
                    self._spawn(self._books.async_save_quietly())
                case Ended(key, reason):  # pragma: no branch - there is nothing else
                    self._audit.record("output_ended", reason=reason, device=key.device_id, actuator=key.actuator)
                    self._changed(key.device_id)

    async def _async_switch_off(self, stop: Stop) -> None:
        await self._async_quietly(Command(key=stop.key, on=False), system(stop.code))

    async def _async_quietly(self, command: Command, who: Principal) -> None:
        """Carry out what nobody waits for; what becomes of it stands in the audit trail."""
        try:
            await self.async_send(command, who)
        except GatewayError as error:
            _LOGGER.debug("%s for %s: %s", command.key, who.identity, error)

    async def _async_renew(self, key: Key) -> None:
        now = self.clock.now()
        cid = ulid_now()
        try:
            order, lease_s = self.controller.renewing(key, cid, now)
            body = commands.renewal(cid, order, lease_s, self.clock.told(now.wall))
            await self._publish(self._gateway.command(key.device_id, body, now.wall))
        except (GatewayError, HomeAssistantError) as error:
            # The device ends it when its lease is over.
            _LOGGER.debug("The lease of %s could not be renewed: %s", key, error)
            self.controller.renewed(key, now, sent=False)
            return
        self.controller.renewed(key, now, sent=True)

    def _spawn(self, work: Any) -> None:
        self._entry.async_create_background_task(self._hass, work, "grokmon command")


def _stopping() -> CommandError:
    return CommandError(Code.COMMAND_NOT_SENT, "the hub is stopping", variant="stopping")
