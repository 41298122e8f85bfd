"""A controller under test, with a zone, devices and a clock, and a device that carries out what it is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from custom_components.grokmon.gateway.actions import Action, Drive, Ended, Fate, Faulted, Renew, Stop, Tripped
from custom_components.grokmon.gateway.actuators import Actuator, Command, Key, Moment, Observed, Role
from custom_components.grokmon.gateway.control import Controller
from custom_components.grokmon.gateway.errors import PolicyError
from custom_components.grokmon.gateway.models import Ack, Device, Reading, Result, Value
from custom_components.grokmon.gateway.orders import Order
from custom_components.grokmon.gateway.pipeline import LATE_AFTER
from custom_components.grokmon.gateway.principals import Caller, Principal
from custom_components.grokmon.gateway.zones import Interlock, InterlockSettings, Stage, Zone

from .wire import Sender, device_of

ZONE: Final = "zone-1"
NOON: Final = 12 * 3600.0
LAMP: Final = Key("node", "grow_light")
EXHAUST: Final = Key("node", "exhaust")
PUMP: Final = Key("node", "irrigation")
VALVE: Final = Key("node", "co2_valve")
OUTLET: Final = Key("node", "outlet")
type States = Mapping[str, Observed]
MAT: Final = Key("node", "heat_mat")
KEYS: Final = (LAMP, EXHAUST, PUMP, VALVE, OUTLET, MAT)
PERSON: Final = Principal(caller=Caller.PERSON, identity="user-1", administrator=True)
GUEST: Final = Principal(caller=Caller.PERSON, identity="user-3")
AUTOMATION: Final = Principal(caller=Caller.AUTOMATION, identity="automation.water")
VOICE: Final = Principal(caller=Caller.VOICE, identity="user-1")
AI: Final = Principal(caller=Caller.AI, identity="user-2")
_SENDER: Final = Sender.new("node")
_SENSORS: Final = Sender.new("sensors")
# No rule needs a sensor unless a test gives it one.
NO_SENSORS: Final = frozenset(Interlock) - {Interlock.SENSOR_FAULT}


def zone_of(**changes: Any) -> Zone:
    """Return the zone: vegetative, lights from six to midnight."""
    interlocks = changes.pop("interlocks", InterlockSettings(enabled=NO_SENSORS))
    settings: dict[str, Any] = {"stage": Stage.VEGETATIVE, "interlocks": interlocks}
    return Zone(zone_id=ZONE, name="Tent", **(settings | changes))


def node_of(*actuators: Actuator, zone: str | None = ZONE) -> Device:
    """Return the device that drives outputs: one of each of the usual roles unless told otherwise."""
    usual = tuple(Actuator(name=key.actuator, role=Role(key.actuator)) for key in KEYS)
    return replace(device_of(_SENDER, frozenset()), actuators=actuators or usual, zone=zone)


def sensors_of(*metrics: str) -> Device:
    """Return the device that measures."""
    return replace(device_of(_SENSORS, frozenset(metrics)), zone=ZONE)


@dataclass(slots=True)
class Given:
    """What became of a command that was accepted: its order, and what the device would say."""

    order: Order
    replaced: Order | None


@dataclass(slots=True)
class ControlRoom:
    """A controller with a zone and two devices, and a clock."""

    zone: Zone = field(default_factory=zone_of)
    node: Device = field(default_factory=node_of)
    sensors: Device = field(default_factory=lambda: sensors_of("smoke", "leak", "temp_c", "co2_ppm"))
    now: float = 1000.0
    day_s: float = NOON
    controller: Controller = field(default_factory=Controller)
    count: int = 0

    def __post_init__(self) -> None:
        """Configure the controller, and let the device say that everything is off."""
        self.configure()
        self.everything_is_off()

    @property
    def moment(self) -> Moment:
        """Return the time."""
        return Moment(wall=1_795_000_000 + self.now, steady=self.now, day_s=self.day_s)

    def configure(self, *, zone: Zone | None = None, node: Device | None = None) -> list[Order]:
        """Configure zones and devices, as they are or with changes."""
        self.zone, self.node = zone or self.zone, node or self.node
        return self.controller.configure([self.zone], [self.node, self.sensors], self.moment)

    def everything_is_off(self, reason: str = "boot") -> list[Action]:
        """Let the device say that everything is off."""
        return self.report(**{actuator.name: Observed(on=False, reason=reason) for actuator in self.node.actuators})

    def report(self, **states: Observed) -> list[Action]:
        """Let the device say what its outputs do."""
        return self.controller.report("node", states, self.moment)

    def measure(self, device_id: str = "sensors", *, age: float = 0.0, **values: Value) -> list[Action]:
        """Let the sensors measure something, or hand in what they measured some seconds ago."""
        reading = Reading(
            device_id=device_id,
            received_at=self.moment.wall,
            measured_at=self.moment.wall - age,
            values=dict(values),
            flags=(),
            late=abs(age) > LATE_AFTER,
            meta={},
            hello=None,
        )
        return self.controller.observe(reading, self.moment)

    def book(self, key: Key, who: Principal = PERSON, **wanted: Any) -> Given:
        """Have a command accepted that is not published yet."""
        self.count += 1
        return Given(*self.controller.accept(Command(key=key, **wanted), who, f"{self.count:026d}", self.moment))

    def accept(self, key: Key, who: Principal = PERSON, **wanted: Any) -> Given:
        """Have a command accepted and published."""
        given = self.book(key, who, **wanted)
        self.controller.published(given.order, self.moment)
        return given

    def refused(self, key: Key, who: Principal = PERSON, **wanted: Any) -> PolicyError:
        """Have a command refused, which changes nothing; return why."""
        before = self.controller.snapshot()
        try:
            self.accept(key, who, **wanted)
        except PolicyError as error:
            assert self.controller.snapshot() == before
            return error
        raise AssertionError(f"{key} was allowed")

    def answer(
        self,
        order: Order,
        result: Result = Result.DONE,
        *,
        device_id: str = "node",
        states: Mapping[str, Observed] = {},
    ) -> tuple[Fate, list[Action]]:
        """Let the device answer an order; return what became of it and what is to be done."""
        ack = Ack(
            device_id=device_id,
            cid=order.cid,
            result=result,
            reason="",
            states=dict(states),
            hello=None,
        )
        settled, actions = self.controller.acknowledge(ack, self.moment)
        return settled.fate, actions

    def set(self, key: Key, who: Principal = PERSON, **wanted: Any) -> Order:
        """Have a command accepted and carried out."""
        order = self.accept(key, who, **wanted).order
        command = order.command
        observed = Observed(on=command.energises, percent=command.percent, reason="command", cid=order.cid)
        fate, _ = self.answer(order, states={key.actuator: observed})
        assert fate is Fate.DONE
        return order

    def pass_time(self, seconds: float) -> list[Action]:
        """Let time pass in one go; return what is due then."""
        self.now += seconds
        self.day_s = (self.day_s + seconds) % 86_400
        return self.controller.tick(self.moment)

    def keep_on(self, key: Key, seconds: float, every: float = 5.0) -> None:
        """Let time pass while the device is renewed, confirms, and says what it does."""
        end = self.now + seconds
        while self.now < end:
            actions = self.pass_time(min(every, end - self.now))
            for action in actions:
                assert isinstance(action, Renew), action
                self.count += 1
                order, lease_s = self.controller.renewing(action.key, f"{self.count:026d}", self.moment)
                assert lease_s > 0
                self.controller.outputs[action.key].renewed(self.now)
                self.report(**{key.actuator: Observed(on=True, percent=order.command.percent, cid=order.cid)})


def only[T: (Stop, Renew, Drive, Tripped, Ended, Faulted)](actions: list[Action], kind: type[T]) -> list[T]:
    """Return the actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]
