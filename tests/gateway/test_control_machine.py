"""The way out as a state machine: whatever happens in whatever order, the promises hold.

A device that behaves as the protocol says is driven over a network that loses messages, by callers of every class with
sensible and odd wishes, while Home Assistant restarts and crashes, clocks jump, sensors trip interlocks and people
reset them.
"""

import contextlib
from copy import deepcopy
from math import nan
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from custom_components.grokmon.gateway import commands
from custom_components.grokmon.gateway.actions import Action, Drive, Renew, Stop
from custom_components.grokmon.gateway.actuators import Actuator, Command, Key, Observed, Role
from custom_components.grokmon.gateway.control import Controller
from custom_components.grokmon.gateway.errors import CommandError, PolicyError
from custom_components.grokmon.gateway.models import Ack, Result
from custom_components.grokmon.gateway.outputs import is_driving
from custom_components.grokmon.gateway.principals import Principal, system
from custom_components.grokmon.gateway.zones import InterlockSettings, Stage
from tests.device_simulator.actuators import Outputs, specs_from

from .control_room import (
    AI,
    AUTOMATION,
    EXHAUST,
    KEYS,
    LAMP,
    NO_SENSORS,
    PERSON,
    PUMP,
    VALVE,
    VOICE,
    ControlRoom,
    node_of,
    zone_of,
)

DAY_S = 86_400.0
LAMP_DAY_S = DAY_S - 4500
HOUR_S = 3600.0
WATER_ML = 700.0
CO2_S = 150.0
LAMP_H = 0.05
CALLERS = st.sampled_from([PERSON, AUTOMATION, VOICE, AI])
VALUES = st.sampled_from([0, 1, 15, 50, 60, 100, 200, 500, 1000, -500, 99_999, nan, True, "60", None])
MOSTLY = st.sampled_from([True, True, False])


class WayOut(RuleBasedStateMachine):
    """Home Assistant, a network and a device."""

    def __init__(self) -> None:
        super().__init__()
        actuators = [Actuator(name=key.actuator, role=Role(key.actuator), interval_s=30, lease_s=20) for key in KEYS]
        zone = zone_of(
            stage=Stage.VEGETATIVE,
            water_ml_day=WATER_ML,
            co2_hour_s=CO2_S,
            lamp_hours=LAMP_H,
            interlocks=InterlockSettings(enabled=NO_SENSORS),
        )
        self.room = ControlRoom(zone=zone, node=node_of(*actuators))
        self.device = Outputs(specs_from({each.name: each.for_device() for each in actuators}))
        self.down: list[dict[str, Any]] = []
        self.up: list[tuple[str, dict[str, Any]]] = []
        self.saved = deepcopy(self.room.controller.snapshot())
        self.saved_at = self.room.now
        self.doses: list[tuple[float, str, float]] = []
        self.lit: list[tuple[float, float]] = []
        self.lit_since: float | None = None

    @property
    def now(self) -> float:
        """Return the time."""
        return self.room.now

    # Home Assistant

    def save(self) -> None:
        """Save, as the hub does before it publishes."""
        self.saved = deepcopy(self.room.controller.snapshot())
        self.saved_at = self.now

    def send(self, command: Command, who: Principal) -> None:
        """Have a command accepted, booked, and published."""
        self.room.count += 1
        order, _ = self.room.controller.accept(command, who, f"{self.room.count:026d}", self.room.moment)
        if order.command.energises:
            self.save()
        self.room.controller.published(order, self.room.moment)
        actuator = self.room.controller.outputs[command.key].actuator
        self.down.append(commands.command(order, actuator, self.room.moment.wall))

    def act(self, actions: list[Action]) -> None:
        """Do what the controller wants done."""
        for action in actions:
            match action:
                case Stop(key):
                    self.send(Command(key=key, on=False), system("stop"))
                case Drive(command, who):
                    # Something worse may have tripped meanwhile; the hub, too, leaves it at that.
                    with contextlib.suppress(PolicyError):
                        self.send(command, who)
                case Renew(key):
                    # What was given back in the same moment is renewed no more.
                    with contextlib.suppress(PolicyError):
                        self.renew(key)
                case _:
                    pass

    def renew(self, key: Key) -> None:
        """Have a lease prolonged, and publish that."""
        self.room.count += 1
        order, lease = self.room.controller.renewing(key, f"{self.room.count:026d}", self.room.moment)
        self.room.controller.outputs[key].renewed(self.now)
        self.down.append(commands.renewal(f"{self.room.count:026d}", order, lease, self.room.moment.wall))

    @rule(key=st.sampled_from(KEYS), who=CALLERS, value=VALUES, carried=st.booleans())
    def odd_command(self, key: Key, who: Principal, value: Any, carried: bool) -> None:
        """Let somebody want something odd."""
        self.want(key, who, value, carried=carried)

    @rule(
        who=CALLERS, amount=st.sampled_from([50, 200, 300, 400, 500, 700]), carried=st.sampled_from([True, True, False])
    )
    def irrigate(self, who: Principal, amount: float, carried: bool) -> None:
        """Let somebody want water."""
        self.want(PUMP, who, amount, carried=carried)

    @rule(who=CALLERS, seconds=st.sampled_from([15, 60, 100, 120]), carried=MOSTLY)
    def inject(self, who: Principal, seconds: float, carried: bool) -> None:
        """Let somebody want CO2."""
        self.want(VALVE, who, seconds, carried=carried)

    @rule(who=CALLERS, key=st.sampled_from([LAMP, EXHAUST]), carried=MOSTLY)
    def drive(self, who: Principal, key: Key, carried: bool) -> None:
        """Let somebody want light or air."""
        self.want(key, who, 60, carried=carried)

    def want(self, key: Key, who: Principal, value: Any, *, carried: bool) -> None:
        """Let somebody want something, and carry it or not."""
        name = {PUMP: "amount_ml", VALVE: "seconds", LAMP: "percent", EXHAUST: "percent"}.get(key)
        wanted = Command(key=key, **({name: value} if name else {"on": value if type(value) is bool else True}))
        before = deepcopy(self.room.controller.snapshot())
        try:
            self.send(wanted, who)
        except PolicyError:
            assert self.room.controller.snapshot() == before
        if carried:
            self.deliver()

    @rule(key=st.sampled_from(KEYS), who=CALLERS)
    def switch_off(self, key: Key, who: Principal) -> None:
        """Turn off, which is never refused."""
        self.send(Command(key=key, on=False), who)

    @rule(seconds=st.sampled_from([1, 3, 6, 20, 40]))
    def wait(self, seconds: int) -> None:
        """Let time pass in seconds, as the hub looks at the clock, and carry nothing."""
        for _ in range(seconds):
            self.one_second()

    @rule(seconds=st.sampled_from([35, 35, 120, 300]))
    def live(self, seconds: int) -> None:
        """Let time pass with a network that works."""
        for second in range(seconds):
            self.one_second()
            if second % 30 == 0:
                self.say_states()
            self.deliver()

    def one_second(self) -> None:
        """Let a second pass."""
        self.room.now += 1
        self.room.day_s = (self.room.day_s + 1) % DAY_S
        if self.device.expire(self.now):
            self.say_states()
        self.watch()
        for settled in self.room.controller.expire(self.room.moment):
            order = settled.order
            if order is not None and order.command.energises and not is_driving(order.principal):
                self.act([Stop(order.key, "timeout")])
        self.act(self.room.controller.tick(self.room.moment))

    @rule(hours=st.sampled_from([1, 6, 23, 25]))
    def much_later(self, hours: float) -> None:
        """Let a long time pass in which nobody says anything."""
        self.down.clear()
        self.up.clear()
        self.wait(70)
        self.down.clear()
        self.room.now += hours * HOUR_S
        self.device.expire(self.now)
        self.watch()

    @rule(hours=st.sampled_from([1, 5, 12]))
    def wall_clock_jumps(self, hours: float) -> None:
        """Let the time of the day jump; the steady time does not."""
        self.room.day_s = (self.room.day_s + hours * HOUR_S) % DAY_S

    @rule()
    def home_assistant_restarts(self) -> None:
        """Stop in good order and start again."""
        self.save()
        self.home_assistant_crashes()

    @rule()
    def home_assistant_crashes(self) -> None:
        """Die and start again with what was saved last."""
        self.room.controller = Controller()
        self.room.configure()
        open_until = min(self.now, self.saved_at + 60 + 20)
        self.room.controller.restore(self.saved, open_until, self.room.moment)
        self.up.clear()
        self.say_states()

    @rule(allowed=st.booleans())
    def kill_switch(self, allowed: bool) -> None:
        """Block the AI, or let it act."""
        self.room.controller.policy.ai_allowed = allowed

    @rule(smoke=st.booleans(), temp=st.sampled_from([22.0, 36.0]))
    def sensors(self, smoke: bool, temp: float) -> None:
        """Let the sensors say something."""
        self.act(self.room.measure(smoke=smoke, temp_c=temp))

    @rule()
    def reset(self) -> None:
        """Let an administrator reset what can be reset."""
        self.room.controller.interlocks.reset("zone-1")
        for key in KEYS:
            self.room.controller.reset_fault(key)

    # The network and the device

    @rule()
    def deliver(self) -> None:
        """Carry everything that is on its way."""
        self.deliver_commands_only()
        while self.up:
            kind, body = self.up.pop(0)
            states = {name: observed(state) for name, state in body["states"].items()}
            if kind == "state":
                self.act(self.room.controller.report("node", states, self.room.moment))
                continue
            ack = Ack(
                device_id="node",
                cid=body["cid"],
                result=Result(body["result"]),
                reason="",
                states=states,
                hello=None,
            )
            try:
                _, actions = self.room.controller.acknowledge(ack, self.room.moment)
            except CommandError:
                continue
            self.act(actions)

    @rule()
    def lose_commands(self) -> None:
        """Lose what is on its way to the device."""
        self.down.clear()

    @rule()
    def lose_answers(self) -> None:
        """Carry the commands, and lose what the device says."""
        kept, self.up = self.up, []
        self.deliver_commands_only()
        self.up = kept

    @rule()
    def repeat_an_answer(self) -> None:
        """Let an answer come twice, or from somebody else."""
        for kind, body in list(self.up):
            if kind == "ack":
                self.up.append((kind, body))

    @rule()
    def device_says_that_it_failed(self) -> None:
        """Let the device say of what it did that something went wrong."""
        self.deliver_commands_only()
        for kind, body in self.up:
            if kind == "ack" and body["result"] == "done":
                body["result"] = "failed"

    @rule()
    def device_restarts(self) -> None:
        """Let the device lose power and come back with everything off."""
        self.device = Outputs(self.device.specs)
        self.down.clear()
        self.watch()
        self.room.controller.restarted("node")
        self.say_states()

    def deliver_commands_only(self) -> None:
        """Let the device carry out what is on its way."""
        while self.down:
            body = self.down.pop(0)
            was_on = {name: output.on for name, output in self.device.outputs.items()}
            self.device.expire(self.now)
            answer = self.device.command(body, self.now)
            self.note_dose(body, answer.result, was_on)
            states = self.device.states(self.now, answer.about)
            self.up.append(("ack", {"cid": answer.cid, "result": answer.result, "states": states}))
            self.watch()

    def say_states(self) -> None:
        """Let the device say what its outputs do."""
        self.up.append(("state", {"states": self.device.states(self.now)}))

    def note_dose(self, body: dict[str, Any], result: str, was_on: dict[str, bool]) -> None:
        """Write down what was really given."""
        if result != "done":
            return
        if body["action"] == "trigger_irrigation":
            self.doses.append((self.now, "water", body["params"]["amount_ml"]))
        elif body["action"] == "set_switch" and body["actuator"] == VALVE.actuator and body["params"]["on"]:
            assert not was_on[VALVE.actuator] or body["lease_s"] <= 20
            self.doses.append((self.now, "co2", float(body["lease_s"])))

    def watch(self) -> None:
        """Write down for how long the lamp really burned."""
        on = self.device.outputs[LAMP.actuator].on
        if on and self.lit_since is None:
            self.lit_since = self.now
        elif not on and self.lit_since is not None:
            self.lit.append((self.lit_since, self.now))
            self.lit_since = None

    # The promises

    @invariant()
    def budgets_hold(self) -> None:
        """No day and no hour has more than its budget, by what the device really gave."""
        for end, _, _ in self.doses:
            day = sum(amount for at, what, amount in self.doses if what == "water" and end - DAY_S < at <= end)
            assert day <= WATER_ML
            hour = sum(amount for at, what, amount in self.doses if what == "co2" and end - HOUR_S < at <= end)
            assert hour <= CO2_S

    @invariant()
    def lamps_burn_no_longer_than_they_may(self) -> None:
        """Burn no longer than a lamp may in a day, but for the time that messages and leases take."""
        burned = sum(
            min(end, self.now) - max(start, self.now - DAY_S) for start, end in self.lit if end > self.now - DAY_S
        )
        if self.lit_since is not None:
            burned += self.now - max(self.lit_since, self.now - DAY_S)
        assert burned <= LAMP_H * HOUR_S + (DAY_S - LAMP_DAY_S) + 60

    @invariant()
    def nothing_is_on_without_a_lease(self) -> None:
        """Whatever is on ends by itself, within its lease."""
        for output in self.device.outputs.values():
            if output.on:
                assert output.lease_ends is not None
                assert output.lease_ends - self.now <= 20

    @invariant()
    def interlocks_and_kill_switch_hold(self) -> None:
        """Nothing that is covered by an active interlock is accepted, and nothing from an AI that is blocked."""
        controller = self.room.controller
        for key, output in controller.outputs.items():
            if controller.interlocks.blocking(output.actuator, "zone-1") is not None:
                assert refuses(controller, key, PERSON, self.room)
            if not controller.policy.ai_allowed:
                assert refuses(controller, key, AI, self.room)

    @rule()
    def quiet_room_is_safe(self) -> None:
        """Once the network works for some seconds, nothing runs that an interlock covers or nobody wants."""
        for _ in range(8):
            self.deliver()
            self.one_second()
        self.deliver()
        self.say_states()
        self.deliver()
        self.deliver()
        for key, output in self.room.controller.outputs.items():
            on = self.device.outputs[key.actuator].on
            if self.room.controller.interlocks.blocking(output.actuator, "zone-1") is not None:
                assert not on
            if on:
                # What an interlock wants is asked for again until its device has answered.
                assert output.wish is not None or output.pending is not None or output.forced

    @initialize()
    def begin(self) -> None:
        """Let the device say what it does."""
        self.say_states()

    def teardown(self) -> None:
        """Hub silent for good: everything ends within its lease."""
        self.down.clear()
        self.room.now += 21
        self.device.expire(self.now)
        assert not any(output.on for output in self.device.outputs.values())


def observed(state: dict[str, Any]) -> Observed:
    """Return what a device says of one output."""
    return Observed(**state)


def refuses(controller: Controller, key: Key, who: Principal, room: ControlRoom) -> bool:
    """Tell whether an output cannot be switched on."""
    try:
        controller.policy.judge(Command(key=key, on=True), controller.site(controller.output(key)), who, room.moment)
    except PolicyError:
        return True
    return False


WayOut.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestWayOut = WayOut.TestCase
