"""The way out: the order of the steps from a command to an output, and from what a device says back to the hub.

The controller decides and keeps books; it publishes nothing. The hub asks it with `accept` before a command goes out,
tells it what came back, and carries out the actions that it returns.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any, Final

from . import exhaust, leases
from .actions import Action, Ended, Fate, Faulted, Settled, Stop, Tripped
from .actuators import Command, Key, Kind, Moment, Observed
from .commands import ACK_TIMEOUT_S
from .errors import Code, CommandError, GatewayError, PolicyError
from .interlocks import Interlocks
from .ledger import Dose, Ledger
from .models import Ack, Device, Reading, Result
from .orders import Order
from .outputs import Output, Step
from .policy import Policy, Site
from .principals import Principal
from .watering import WateringWatch
from .zones import Zone

_REMEMBERED: Final = 256


class Controller:
    """Everything in the room that can be switched."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.interlocks = Interlocks()
        self.policy = Policy(self.ledger, self.interlocks)
        self.zones: dict[str, Zone] = {}
        self.outputs: dict[Key, Output] = {}
        self._of_device: dict[str, list[Output]] = {}
        self._in_zone: dict[str | None, list[Output]] = {}
        self._devices: dict[str, Device] = {}
        self._orders: dict[str, Order] = {}
        self._sent: dict[str, float] = {}
        self._late: OrderedDict[str, Order] = OrderedDict()
        self._renewals: OrderedDict[str, Order] = OrderedDict()
        self._identified: OrderedDict[str, str] = OrderedDict()
        self._watering = WateringWatch()

    # What is in the room

    def configure(self, zones: Iterable[Zone], devices: Iterable[Device], now: Moment) -> list[Order]:
        """Take over zones and devices; return the orders of outputs that are no more."""
        self.zones = {zone.zone_id: zone for zone in zones}
        self._devices = {device.device_id: device for device in devices}
        for zone in self.zones.values():
            metrics = {each.device_id: each.metrics for each in self._devices.values() if each.zone == zone.zone_id}
            self.interlocks.set_zone(zone, metrics, now.steady)
        for removed in self.interlocks.zone_ids - self.zones.keys():
            self.interlocks.remove_zone(removed)
        wanted = {
            Key(device.device_id, actuator.name): (actuator, device.zone)
            for device in self._devices.values()
            for actuator in device.actuators
        }
        for key, (actuator, zone_id) in wanted.items():
            output = self.outputs.setdefault(key, Output(key, actuator))
            if output.actuator.role is not actuator.role:
                output.forced, output.resume = False, None
            output.actuator = actuator
            output.zone_id = zone_id if zone_id in self.zones else None
        gone = [self.outputs.pop(key) for key in self.outputs.keys() - wanted.keys()]
        for output in gone:
            self.ledger.end(output.key, now.steady + output.actuator.lease_s)
        self._of_device, self._in_zone = {}, {}
        for key, output in self.outputs.items():
            self._of_device.setdefault(key.device_id, []).append(output)
            self._in_zone.setdefault(output.zone_id, []).append(output)
        return [order for output in gone if (order := self._abandon(output)) is not None]

    def outputs_of(self, device_id: str) -> Sequence[Output]:
        """Return the outputs of a device."""
        return self._of_device.get(device_id, [])

    def outputs_in(self, zone_id: str) -> Sequence[Output]:
        """Return the outputs of a zone."""
        return self._in_zone.get(zone_id, [])

    def output(self, key: Key) -> Output:
        """Return an output. Raises PolicyError (`actuator_unknown`)."""
        if (output := self.outputs.get(key)) is None:
            raise PolicyError(Code.ACTUATOR_UNKNOWN, str(key))
        return output

    def site(self, output: Output) -> Site:
        """Return an output in its place."""
        zone = self.zones.get(output.zone_id) if output.zone_id is not None else None
        return Site(output, zone, [output] if zone is None else self.outputs_in(zone.zone_id))

    # A command, from the wish to the answer

    def accept(self, command: Command, who: Principal, cid: str, now: Moment) -> tuple[Order, Order | None]:
        """Return the order to publish, entered in all books, and the one on its way that it takes the place of.

        Raises PolicyError; *off* is never refused but for an output that does not exist.
        """
        output = self.output(command.key)
        wanted = self.policy.judge(command, self.site(output), who, now)
        run_s = output.run_s(wanted)
        lease_s = output.actuator.lease_s if wanted.energises else 0
        if run_s is not None:
            lease_s = min(lease_s, ceil(run_s))
        order = Order(cid=cid, command=wanted, principal=who, at=now.steady, lease_s=lease_s, run_s=run_s)
        amount = wanted.seconds if wanted.amount_ml is None else wanted.amount_ml
        if amount is not None:
            self.ledger.enter(Dose(cid, order.key, who.caller, amount, now.steady))
        if output.pending is not None:
            if output.pending.cid in self._sent:
                # It may have been carried out: what stood before it does not any more.
                output.wish = None
            self._retire(output.pending)
        replaced = output.send(order)
        self._orders[cid] = order
        output.note_caller(order)
        return order, replaced

    def withdraw(self, order: Order) -> None:
        """Take back an order that was not published."""
        self._orders.pop(order.cid, None)
        self._sent.pop(order.cid, None)
        self.ledger.release(order.cid)
        if self.is_current(order):
            self.outputs[order.key].take_back()

    def is_current(self, order: Order) -> bool:
        """Tell whether an order is still the latest word about its output."""
        output = self.outputs.get(order.key)
        return output is not None and output.pending is order

    def published(self, order: Order, now: Moment) -> None:
        """Note that an order goes out: from here on it may have been carried out, and is to be answered."""
        self._sent[order.cid] = now.steady

    def unpublished(self) -> list[Order]:
        """Return the orders that were accepted and did not go out yet."""
        return [order for cid, order in self._orders.items() if cid not in self._sent]

    def acknowledge(self, ack: Ack, now: Moment) -> tuple[Settled, list[Action]]:
        """Take over a device's answer. Raises CommandError (`ack_unexpected`) for one that nobody waits for."""
        settled = self._settle(ack, now)
        return settled, self.report(ack.device_id, ack.states, now)

    def expire(self, now: Moment) -> list[Settled]:
        """Give up the orders that were not answered in time. Their doses stay in the books: they may have come."""
        overdue = [self._orders[cid] for cid, at in self._sent.items() if now.steady - at >= ACK_TIMEOUT_S]
        for order in overdue:
            self.lose(order)
        return [Settled(Fate.TIMEOUT, order) for order in overdue]

    def lose(self, order: Order) -> None:
        """Give up an order that may or may not have arrived: what it gave stays in the books."""
        self._retire(order)
        output = self.outputs.get(order.key)
        if output is not None and output.pending is order:
            # What may be on all the same is wanted by nobody.
            output.pending = output.wish = None

    def identify(self, device_id: str, cid: str) -> None:
        """Expect the answer of a device that is asked to show where it is."""
        self._remember(self._identified, cid, device_id)

    def restarted(self, device_id: str) -> list[Settled]:
        """Give up what was on its way to a device that has started anew."""
        lost = [order for order in self._orders.values() if order.key.device_id == device_id]
        for order in lost:
            self._retire(order)
            if (output := self.outputs.get(order.key)) is not None:
                output.pending = None
        return [Settled(Fate.FAILED, order, "boot") for order in lost]

    def absent(self, device_id: str) -> None:
        """Note that a device is not heard any more: nobody knows what its outputs do."""
        for output in self.outputs_of(device_id):
            output.observed = None

    def abandon(self, device_id: str) -> list[Order]:
        """Let go of a device that may no longer be spoken to: its outputs end by their leases."""
        self.absent(device_id)
        return [order for output in self.outputs_of(device_id) if (order := self._abandon(output)) is not None]

    def renewing(self, key: Key, cid: str, now: Moment) -> tuple[Order, int]:
        """Return the order whose lease is to be prolonged, and by how many seconds."""
        output = self.output(key)
        if output.wish is None:
            raise PolicyError(Code.COMMAND_SUPERSEDED, str(key))
        lease_s = output.lease_of(now.steady)
        self._remember(self._renewals, cid, output.wish.order)
        output.wish.renewed_at = now.steady
        return output.wish.order, lease_s

    def renewed(self, key: Key, now: Moment, *, sent: bool) -> None:
        """Note whether a device could be told to go on."""
        if (output := self.outputs.get(key)) is not None:
            (output.renewed if sent else output.not_renewed)(now.steady)

    # What devices say, and what time brings

    def report(self, device_id: str, states: Mapping[str, Observed], now: Moment) -> list[Action]:
        """Take over what the outputs of a device do."""
        actions: list[Action] = []
        for name, observed in states.items():
            if (output := self.outputs.get(Key(device_id, name))) is None:
                continue
            started = output.started_at
            match output.report(observed, now.steady):
                case Step.ENDED:
                    if observed.reason != "done":
                        self._watering.stopped(output.key, now.steady if started is None else started)
                    actions.append(Ended(output.key, observed.reason))
                case Step.UNWANTED:
                    actions.append(Stop(output.key, "unasked"))
                case Step.FAULT:
                    actions += self._fault(output, "mismatch")
                case Step.SAME:  # pragma: no branch - there is nothing else
                    pass
            self._count_burning(output, now)
        return actions

    def observe(self, reading: Reading, now: Moment) -> list[Action]:
        """Take over what a device measured; return what it sets off at once."""
        device = self._devices.get(reading.device_id)
        if device is None or device.zone not in self.zones:
            return []
        where, values = (device.device_id, device.zone), reading.values
        news = self.interlocks.observe(*where, values, reading.flags, now.steady, old=reading.is_old)
        if not reading.is_old:
            self._watering.observe(*where, values, now.steady)
        # Most readings change nothing that a rule looks at; what silence means is judged each second.
        tripped = self._judge_interlocks(now) if news else []
        # Nothing waits for the next second where somebody could come to harm.
        return [*tripped, *self._sustain(now)] if tripped else []

    def tick(self, now: Moment) -> list[Action]:
        """Return what is due: renewals, ends, faults, and what interlocks and the dark period want."""
        actions = self._judge_interlocks(now)
        for key, fault in self._watering.judge(now.steady):
            if (output := self.outputs.get(key)) is not None:
                actions += self._fault(output, fault)
        for output in self.outputs.values():
            if output.overdue(now.steady):
                actions += self._fault(output, "mismatch")
        # What has a fault is not renewed.
        actions += self._sustain(now)
        for output in self.outputs.values():
            self._count_burning(output, now)
        return actions

    def reset_fault(self, key: Key) -> str | None:
        """Let an output be used again after a fault; return the fault."""
        output = self.output(key)
        fault, output.fault, output.mismatch_since = output.fault, None, None
        return fault

    # Over a restart

    def snapshot(self) -> dict[str, Any]:
        """Return what has to survive a restart, as plain data."""
        return {
            "ledger": self.ledger.snapshot(),
            **self.interlocks.snapshot(),
            "ai_allowed": self.policy.ai_allowed,
            "overrides": dict(self.policy.overrides),
            "outputs": [output.as_dict() for output in self.outputs.values()],
        }

    def restore(self, snapshot: Mapping[str, Any], open_until: float, now: Moment) -> None:
        """Take up a snapshot, after `configure`. What was on counts as on until `open_until`.

        A wish stands again only if its device says within the lease that it is still carried out.
        """
        self.ledger.restore(snapshot["ledger"], open_until)
        # Earlier releases did not save what was tripped.
        self.interlocks.restore(snapshot["latched"], snapshot.get("tripped", {}))
        self.policy.ai_allowed = snapshot["ai_allowed"]
        self.policy.overrides = dict(snapshot["overrides"])
        for data in snapshot["outputs"]:
            if (output := self.outputs.get(Key(data["device_id"], data["actuator"]))) is not None:
                output.take_up(data, now.steady)

    def _settle(self, ack: Ack, now: Moment) -> Settled:
        if (order := self._orders.get(ack.cid)) is not None and order.key.device_id == ack.device_id:
            del self._orders[ack.cid]
            self._conclude(order, ack.result, self._sent.pop(ack.cid, now.steady), now)
            return Settled(Fate(ack.result.value), order, ack.reason)
        if (order := self._renewals.get(ack.cid)) is not None and order.key.device_id == ack.device_id:
            del self._renewals[ack.cid]
            if (output := self.outputs.get(order.key)) is not None:
                output.answered(order, ack, now.steady)
            return Settled(Fate.RENEWED, None, ack.reason)
        if self._identified.get(ack.cid) == ack.device_id:
            del self._identified[ack.cid]
            return Settled(Fate(ack.result.value), None, ack.reason)
        late = self._late.get(ack.cid)
        if late is not None and late.key.device_id == ack.device_id:
            del self._late[ack.cid]
            if ack.result is Result.REJECTED:
                self.ledger.release(ack.cid)
            return Settled(Fate.LATE, late, ack.reason)
        raise CommandError(Code.ACK_UNEXPECTED)

    def _conclude(self, order: Order, result: Result, sent_at: float, now: Moment) -> None:
        output = self.outputs.get(order.key)
        if result is Result.REJECTED:
            self.ledger.release(order.cid)
        if output is None or output.pending is not order:
            # A fault came in between: what was ordered is not wanted any more.
            return
        output.pending = None
        if result is not Result.DONE:
            return
        output.confirm(order, now.steady)
        if not order.command.energises:
            self._watering.stopped(order.key, sent_at)
        elif order.command.amount_ml is not None and output.zone_id is not None:
            run_s = order.command.amount_ml / output.actuator.ml_per_s
            self._watering.begin(order.key, output.zone_id, order.command.amount_ml, run_s, now.steady)
        self._count_burning(output, now)

    def _sustain(self, now: Moment) -> list[Action]:
        actions: list[Action] = []
        for output in self.outputs.values():
            interlock = self.interlocks.exhausting(output.zone_id)
            if output.is_on and (refusal := self._may_not_go_on(output, now)) is not None:
                # What none may drive has to stop like everything else, and is not given back.
                output.forced &= interlock is not None
                if output.needs_a_stop(now.steady):
                    output.told_at = now.steady
                    actions.append(Stop(output.key, refusal.code.value, refusal.detail))
                continue
            output.told_at = None
            if self._is_free(output, urgent=interlock is not None):
                actions += exhaust.drive(output, interlock, now.steady, ai_allowed=self.policy.ai_allowed)
            actions += leases.keep(output, now.steady)
        return actions

    def _is_free(self, output: Output, *, urgent: bool) -> bool:
        """Tell whether nothing is on its way; what is urgent does not wait for what has yet to be on the disk."""
        return output.pending is None or (urgent and output.pending.cid not in self._sent)

    def _may_not_go_on(self, output: Output, now: Moment) -> GatewayError | None:
        if output.fault is not None:
            # It was told to stop when the fault was found.
            return None
        try:
            self.policy.sustain(self.site(output), now)
        except PolicyError as error:
            return error
        return None

    def _fault(self, output: Output, fault: str) -> list[Action]:
        if output.fault is not None:
            return []
        output.drop()
        output.fault = fault
        return [Faulted(output.key, fault), Stop(output.key, Code.OUTPUT_FAULT.value, fault)]

    def _judge_interlocks(self, now: Moment) -> list[Action]:
        return [Tripped(zone_id, each, active) for zone_id, each, active in self.interlocks.judge(now.steady)]

    def _count_burning(self, output: Output, now: Moment) -> None:
        if output.actuator.kind is Kind.LIGHT:
            if output.is_on:
                self.ledger.begin(output.key, now.steady)
            else:
                # One that is not heard may burn until its lease is over.
                left = output.actuator.lease_s if output.observed is None else 0
                self.ledger.end(output.key, now.steady + left)

    def _abandon(self, output: Output) -> Order | None:
        if output.pending is not None:
            self._retire(output.pending)
        return output.drop()

    def _retire(self, order: Order) -> None:
        """Wait for an answer no longer, but know it when it comes. What went out may have been carried out."""
        if self._orders.pop(order.cid, None) is None:
            return
        if (sent_at := self._sent.pop(order.cid, None)) is None:
            self.ledger.release(order.cid)
            return
        if (output := self.outputs.get(order.key)) is not None:
            output.turned(sent_at, on=order.command.energises)
        self._remember(self._late, order.cid, order)

    def _remember[T](self, memory: OrderedDict[str, T], cid: str, what: T) -> None:
        memory[cid] = what
        # Very many leases may be renewed in the same second.
        if len(memory) > max(_REMEMBERED, 2 * len(self.outputs)):
            memory.popitem(last=False)
