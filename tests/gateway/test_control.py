"""Tests of the way out: orders, answers, leases, feedback, interlocks at work, and restarts."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from custom_components.grokmon.gateway.actions import Action, Drive, Ended, Fate, Faulted, Renew, Settled, Stop, Tripped
from custom_components.grokmon.gateway.actuators import Actuator, Observed, Role
from custom_components.grokmon.gateway.commands import ACK_TIMEOUT_S
from custom_components.grokmon.gateway.control import Controller
from custom_components.grokmon.gateway.errors import Code, CommandError, PolicyError
from custom_components.grokmon.gateway.models import Ack, Result
from custom_components.grokmon.gateway.orders import Order
from custom_components.grokmon.gateway.principals import system
from custom_components.grokmon.gateway.zones import Interlock, InterlockSettings, Stage

from .control_room import (
    AUTOMATION,
    EXHAUST,
    KEYS,
    LAMP,
    NOON,
    OUTLET,
    PERSON,
    PUMP,
    VALVE,
    ControlRoom,
    node_of,
    only,
    sensors_of,
    zone_of,
)

ON = Observed(on=True)
DAY_S = 86_400.0


@pytest.fixture
def room() -> ControlRoom:
    """Return a room in which everything is off."""
    return ControlRoom()


# Answers


@pytest.fixture
def dry() -> ControlRoom:
    """Return a room whose pump can be asked again at once, and in which a flow sensor looks at it."""
    pump = Actuator(name="irrigation", role=Role.IRRIGATION, interval_s=0)
    return ControlRoom(node=node_of(pump), sensors=sensors_of("water_flow_l_min"))


def test_unknown_output(room: ControlRoom) -> None:
    """Refuse what is not there, to switch off, too."""
    key = replace(LAMP, actuator="nothing")
    assert str(room.refused(key, on=False)) == "actuator_unknown: node/nothing"
    assert room.report(nothing=ON, outlet=ON) == [Stop(OUTLET, "unasked")]


def test_answers_of_every_kind(room: ControlRoom) -> None:
    """Tell done, rejected, failed, duplicate, late, superseded and foreign answers apart."""
    order = room.accept(OUTLET, on=True).order
    with pytest.raises(CommandError) as foreign:
        room.answer(order, device_id="sensors")
    assert foreign.value.code is Code.ACK_UNEXPECTED
    assert room.answer(order)[0] is Fate.DONE
    with pytest.raises(CommandError):
        room.answer(order)
    rejected = room.accept(EXHAUST, percent=50).order
    assert room.answer(rejected, Result.REJECTED)[0] is Fate.REJECTED
    assert not room.controller.outputs[EXHAUST].is_on
    first = room.accept(EXHAUST, percent=50).order
    second = room.accept(EXHAUST, percent=60)
    assert second.replaced is first
    assert [room.controller.is_current(order) for order in (first, second.order)] == [False, True]
    assert room.answer(first)[0] is Fate.LATE
    with pytest.raises(CommandError):
        room.answer(first)
    assert room.answer(second.order)[0] is Fate.DONE


def test_what_an_answer_settles(room: ControlRoom) -> None:
    """Tell which order an answer is to, and the reason that the device gives."""

    def settled(cid: str) -> Settled:
        ack = Ack(device_id="node", cid=cid, result=Result.DONE, reason="limit", states={}, hello=None)
        return room.controller.acknowledge(ack, room.moment)[0]

    order = room.accept(EXHAUST, percent=50).order
    assert settled(order.cid) == Settled(Fate.DONE, order, "limit")
    room.controller.renewing(EXHAUST, "R" * 26, room.moment)
    room.now += 5
    assert settled("R" * 26) == Settled(Fate.RENEWED, None, "limit")
    wish = room.controller.outputs[EXHAUST].wish
    assert wish is not None
    assert wish.confirmed_at == room.now
    late = room.accept(OUTLET, on=True).order
    room.accept(OUTLET, on=False)
    assert settled(late.cid) == Settled(Fate.LATE, late, "limit")
    room.controller.identify("node", "I" * 26)
    assert settled("I" * 26) == Settled(Fate.DONE, None, "limit")
    room.controller.identify("sensors", "J" * 26)
    for cid in ("I" * 26, "J" * 26):
        with pytest.raises(CommandError):
            settled(cid)


def test_late_answer_does_not_bring_anything_back(room: ControlRoom) -> None:
    """What came too late is known, and stays given up; only a late refusal gives a dose back."""
    order = room.accept(PUMP, amount_ml=100).order
    room.now += ACK_TIMEOUT_S
    (settled,) = room.controller.expire(room.moment)
    assert (settled.fate, settled.order) == (Fate.TIMEOUT, order)
    assert room.controller.ledger.given(room.now, 86_400, keys=[PUMP]) == 100
    assert room.answer(order, Result.REJECTED)[0] is Fate.LATE
    assert room.controller.ledger.given(room.now, 86_400, keys=[PUMP]) == 0
    assert not room.controller.outputs[PUMP].is_on
    assert room.controller.expire(room.moment) == []


def test_what_timed_out_and_is_on_all_the_same_is_stopped(room: ControlRoom) -> None:
    """A device that switched on and could not say so is told to stop as soon as it is heard."""
    room.accept(EXHAUST, percent=50)
    room.now += ACK_TIMEOUT_S
    room.controller.expire(room.moment)
    assert room.report(exhaust=Observed(on=True, percent=50)) == [Stop(EXHAUST, "unasked")]


def test_answer_that_is_sent_again_is_put_right_by_the_state_after_it(room: ControlRoom) -> None:
    """A device that was away says first what nobody had heard, however old, and then what is true."""
    order = room.accept(EXHAUST, percent=50).order
    room.now += ACK_TIMEOUT_S
    room.controller.expire(room.moment)
    room.controller.absent("node")
    room.now += 3600
    then = Observed(on=True, percent=50, reason="command", cid=order.cid)
    assert room.answer(order, states={"exhaust": then}) == (Fate.LATE, [Stop(EXHAUST, "unasked")])
    assert room.everything_is_off("lease") == []
    assert not room.controller.outputs[EXHAUST].is_on
    assert only(room.pass_time(60), Faulted) == []


def test_withdrawn_order_leaves_no_trace(room: ControlRoom) -> None:
    """What was not published costs nothing, and does not end what came after it."""
    order = room.accept(PUMP, amount_ml=100).order
    room.controller.withdraw(order)
    assert room.controller.ledger.given(room.now, 86_400, keys=[PUMP]) == 0
    assert not room.controller.is_current(order)
    assert room.controller.outputs[PUMP].pending is None
    room.now += ACK_TIMEOUT_S
    assert room.controller.expire(room.moment) == []
    first, second = room.accept(PUMP, amount_ml=100).order, room.accept(PUMP, on=False).order
    room.controller.withdraw(first)
    assert room.controller.outputs[PUMP].pending is second


def test_old_answers_are_forgotten(room: ControlRoom) -> None:
    """The memory of late orders is bounded: it holds 256 of them."""
    first = room.accept(EXHAUST, percent=50).order
    second = room.accept(EXHAUST, on=False).order
    for _ in range(256):
        room.accept(EXHAUST, on=False)
    with pytest.raises(CommandError):
        room.answer(first)
    assert room.answer(second)[0] is Fate.LATE


def test_answers_of_very_many_outputs_are_expected() -> None:
    """However many leases are renewed in the same second, no honest answer is taken for a forged one."""
    room = ControlRoom(node=node_of(*(Actuator(name=f"fan-{each}", role=Role.CIRCULATION) for each in range(300))))
    for key in room.controller.outputs:
        room.set(key, percent=50)
    renewals = only(room.pass_time(100), Renew)
    assert len(renewals) == 300
    for each, renewal in enumerate(renewals):
        room.controller.renewing(renewal.key, f"R{each}", room.moment)
    for each in range(300):
        ack = Ack(device_id="node", cid=f"R{each}", result=Result.DONE, reason="", states={}, hello=None)
        assert room.controller.acknowledge(ack, room.moment)[0].fate is Fate.RENEWED


# Leases


def test_lease_is_renewed_while_the_output_is_to_stay_on(room: ControlRoom) -> None:
    """A third of a lease is a renewal; an answer confirms it, one of another device does not."""
    order = room.set(EXHAUST, percent=50)
    assert room.pass_time(99) == []
    assert room.pass_time(1) == [Renew(EXHAUST)]
    renewed, lease = room.controller.renewing(EXHAUST, "R" * 26, room.moment)
    assert (renewed, lease) == (order, 300)
    assert room.pass_time(0) == []
    room.controller.outputs[EXHAUST].renewed(room.now)
    renewal = replace(order, cid="R" * 26)
    with pytest.raises(CommandError):
        room.answer(renewal, device_id="sensors")
    assert room.answer(renewal)[0] is Fate.RENEWED
    assert room.pass_time(99) == []
    assert room.pass_time(1) == [Renew(EXHAUST)]


def test_rejected_renewal_confirms_nothing(room: ControlRoom) -> None:
    """A device that does not know the command any more will say what its outputs do."""
    order = room.set(EXHAUST, percent=50)
    room.pass_time(100)
    room.controller.renewing(EXHAUST, "R" * 26, room.moment)
    confirmed = room.controller.outputs[EXHAUST].wish
    assert confirmed is not None
    before = confirmed.confirmed_at
    assert room.answer(replace(order, cid="R" * 26), Result.REJECTED)[0] is Fate.RENEWED
    assert confirmed.confirmed_at == before


def test_what_is_off_is_not_renewed(room: ControlRoom) -> None:
    """A renewal that comes after the end is refused."""
    room.set(EXHAUST, percent=50)
    room.set(EXHAUST, on=False)
    with pytest.raises(PolicyError, match=r"^command_superseded: node/exhaust$"):
        room.controller.renewing(EXHAUST, "R" * 26, room.moment)
    room.controller.outputs[EXHAUST].renewed(room.now)
    assert room.controller.outputs[EXHAUST].lease_of(room.now) == 0


def test_lease_that_was_not_renewed_in_time_is_lost(room: ControlRoom) -> None:
    """Once the device must have ended it, nobody asks for it any more."""
    room.set(EXHAUST, percent=50)
    assert only(room.pass_time(300), Ended) == [Ended(EXHAUST, "lost")]
    assert room.controller.outputs[EXHAUST].wish is None


def test_renewals_that_nobody_confirms_are_not_for_ever(room: ControlRoom) -> None:
    """A device that is not heard for two leases is given up, and can be told something new."""
    room.set(EXHAUST, percent=50)
    for _ in range(5):
        room.pass_time(100)
        room.controller.outputs[EXHAUST].renewed(room.now)
    assert only(room.pass_time(100), Ended) == [Ended(EXHAUST, "lost")]
    room.set(EXHAUST, percent=40)


def test_pump_and_valve_end_by_themselves(room: ControlRoom) -> None:
    """A dose has a lease no longer than it takes; the valve is told to close, the pump has its own timer."""
    pump, valve = room.set(PUMP, amount_ml=100), room.set(VALVE, seconds=20)
    assert (pump.lease_s, pump.run_s, valve.lease_s, valve.run_s) == (6, 6, 20, 20)
    room.pass_time(4)
    assert room.report(irrigation=Observed(on=False, reason="done", cid=pump.cid)) == [Ended(PUMP, "done")]
    room.report(co2_valve=Observed(on=True, cid=valve.cid))
    assert room.controller.renewing(VALVE, "R" * 26, room.moment) == (valve, 16)
    room.controller.outputs[VALVE].renewed(room.now)
    leases = [room.controller.outputs[VALVE].lease_of(room.now + later) for later in (0, 0.8, 15.8)]
    assert leases == [16, 16, 1]
    room.now += 8
    room.controller.outputs[VALVE].renewed(room.now)
    room.now += 7.5
    room.report(co2_valve=Observed(on=True, cid=valve.cid))
    assert Stop(VALVE, "done") in room.pass_time(0.5)


# Feedback


def test_device_that_does_something_else_has_a_fault(room: ControlRoom) -> None:
    """Five seconds of another state than was acknowledged latch a fault, until it is reset."""
    order = room.set(EXHAUST, percent=50)
    assert room.report(exhaust=Observed(on=True, percent=20, cid=order.cid)) == []
    assert not room.controller.outputs[EXHAUST].in_step
    room.now += 5
    actions = room.report(exhaust=Observed(on=True, percent=20, cid=order.cid))
    assert actions == [Faulted(EXHAUST, "mismatch"), Stop(EXHAUST, "output_fault", "mismatch")]
    assert room.refused(EXHAUST, percent=50).code is Code.OUTPUT_FAULT
    assert room.report(exhaust=Observed(on=True, percent=20)) == [Stop(EXHAUST, "unasked")]
    assert room.pass_time(1) == []
    room.set(EXHAUST, on=False)
    assert room.controller.reset_fault(EXHAUST) == "mismatch"
    assert room.controller.reset_fault(EXHAUST) is None
    room.set(EXHAUST, percent=50)


def test_fault_without_another_report(room: ControlRoom) -> None:
    """A device that says nothing more after a wrong state has a fault, too."""
    room.set(OUTLET, on=True)
    room.report(outlet=Observed(on=False))
    assert only(room.pass_time(5), Faulted) == [Faulted(OUTLET, "mismatch")]
    assert only(room.pass_time(5), Faulted) == []


def test_rounding_is_no_difference(room: ControlRoom) -> None:
    """A device that shows whole percents is in step."""
    room.set(EXHAUST, percent=50)
    for percent, near in ((51, True), (51.1, False), (49, True), (48.9, False)):
        room.report(exhaust=Observed(on=True, percent=percent))
        assert room.controller.outputs[EXHAUST].in_step is near


def test_faults_at_once(room: ControlRoom) -> None:
    """No fault hides another one, nor what else is due."""
    room.set(OUTLET, on=True)
    room.set(VALVE, seconds=60)
    room.report(outlet=Observed(on=False), co2_valve=Observed(on=False))
    assert set(only(room.pass_time(5), Faulted)) == {Faulted(OUTLET, "mismatch"), Faulted(VALVE, "mismatch")}


def test_fault_beside_something_else(room: ControlRoom) -> None:
    """A report may tell of the end of one output, and that another one has a fault."""
    room.set(OUTLET, on=True)
    room.set(VALVE, seconds=60)
    room.report(outlet=Observed(on=False))
    room.now += 5
    actions = room.report(co2_valve=Observed(on=False, reason="local"), outlet=Observed(on=False))
    assert actions == [
        Ended(VALVE, "local"),
        Faulted(OUTLET, "mismatch"),
        Stop(OUTLET, "output_fault", "mismatch"),
    ]


def test_fault_in_the_middle_of_a_command(dry: ControlRoom) -> None:
    """What was on its way when a fault latched is not wanted any more, whatever the device makes of it."""
    room = dry
    for answered in (True, False):
        order = order_with_a_fault(room)
        assert not room.controller.is_current(order)
        if answered:
            assert room.answer(order)[0] is Fate.DONE
        else:
            room.now += 5
            assert [settled.fate for settled in room.controller.expire(room.moment)] == [Fate.TIMEOUT]
        assert room.controller.outputs[PUMP].wish is None
        room.controller.reset_fault(PUMP)
        room.set(PUMP, on=False)


def order_with_a_fault(room: ControlRoom) -> Order:
    """Return the order for a second dose that is on its way when the first one is found to have given nothing."""
    room.set(PUMP, amount_ml=100)
    room.now += 3
    room.measure(water_flow_l_min=0.0)
    order = room.accept(PUMP, amount_ml=100).order
    assert Faulted(PUMP, "no_flow") in room.pass_time(2)
    return order


def test_output_with_a_fault_that_is_removed(dry: ControlRoom) -> None:
    """What comes of the order after that finds nothing, and breaks nothing."""
    order = order_with_a_fault(dry)
    dry.configure(node=node_of(Actuator(name="outlet", role=Role.OUTLET)))
    assert dry.answer(order)[0] is Fate.DONE
    assert not dry.controller.is_current(order)


def test_device_with_a_fault_that_starts_anew(dry: ControlRoom) -> None:
    """The order is settled, although there is no such output any more."""
    order = order_with_a_fault(dry)
    dry.configure(node=node_of(Actuator(name="outlet", role=Role.OUTLET)))
    assert [settled.order for settled in dry.controller.restarted("node")] == [order]


def test_removed_output_is_not_renewed(room: ControlRoom) -> None:
    """A renewal that was about to go out says that the output is gone."""
    room.set(OUTLET, on=True)
    room.configure(node=node_of(Actuator(name="exhaust", role=Role.EXHAUST)))
    with pytest.raises(PolicyError) as error:
        room.controller.renewing(OUTLET, "0" * 26, room.moment)
    assert error.value.code is Code.ACTUATOR_UNKNOWN


def test_new_order_gives_a_device_its_time_anew(room: ControlRoom) -> None:
    """A fan that is set again while it differs is no fault before it could answer."""
    room.set(EXHAUST, percent=50)
    room.report(exhaust=Observed(on=True, percent=20))
    room.now += 4
    order = room.accept(EXHAUST, percent=80).order
    assert only(room.pass_time(3), Faulted) == []
    room.answer(order, states={"exhaust": Observed(on=True, percent=80, cid=order.cid)})
    assert room.controller.outputs[EXHAUST].in_step


def test_one_fault_at_a_time() -> None:
    """A dry pump that has a fault already gets no second one."""
    room = ControlRoom(sensors=sensors_of("water_flow_l_min"))
    order = room.set(PUMP, amount_ml=500)
    room.now += 5
    room.measure(water_flow_l_min=0.0)
    room.report(irrigation=Observed(on=False, cid=order.cid))
    room.now += 5
    assert only(room.report(irrigation=Observed(on=False, cid=order.cid)), Faulted) == [Faulted(PUMP, "mismatch")]
    assert only(room.pass_time(20), Faulted) == []


def test_steps_of_a_fan_are_near_enough() -> None:
    """A fan with three speeds shows the nearest; one that says no percentage is believed."""
    fan = Actuator(name="exhaust", role=Role.EXHAUST, speeds=3)
    room = ControlRoom(node=node_of(fan))
    room.set(EXHAUST, percent=50)
    for percent, near in ((66.7, True), (33.3, True), (68.7, False), (None, True)):
        room.report(exhaust=Observed(on=True, percent=percent))
        assert room.controller.outputs[EXHAUST].in_step is near


def test_what_nobody_asked_for_is_stopped(room: ControlRoom) -> None:
    """On without a command is told to stop, and is a fault if it goes on."""
    assert room.report(outlet=ON) == [Stop(OUTLET, "unasked")]
    room.now += 5
    assert only(room.report(outlet=ON), Faulted) == [Faulted(OUTLET, "mismatch")]


def test_safe_state_of_a_fan_is_no_fault() -> None:
    """A fan that idles at its safe state is left alone, but not in smoke."""
    fan = Actuator(name="exhaust", role=Role.EXHAUST, safe_percent=30)
    room = ControlRoom(node=node_of(fan))
    assert room.report(exhaust=Observed(on=True, percent=30, reason="lease")) == []
    assert room.report(exhaust=Observed(on=True, percent=35)) == [Stop(EXHAUST, "unasked")]
    assert room.report(exhaust=Observed(on=True, percent=30)) == []
    assert Stop(EXHAUST, "interlocked", "the interlock smoke keeps node/exhaust off") in room.measure(smoke=True)


@pytest.mark.parametrize(("speeds", "percent"), [(None, 31), (4, 25), (4, None), (None, None)])
def test_safe_state_is_near_enough(speeds: int | None, percent: float | None) -> None:
    """A fan is at its safe state as near as it can set it; one that says no percentage is believed."""
    fan = Actuator(name="exhaust", role=Role.EXHAUST, safe_percent=30, speeds=speeds)
    room = ControlRoom(node=node_of(fan))
    for _ in range(2):
        assert room.report(exhaust=Observed(on=True, percent=percent, reason="lease")) == []
        room.now += 6


def test_end_by_hand_is_told(room: ControlRoom) -> None:
    """Somebody who turns the knob on the device ends the wish."""
    room.set(OUTLET, on=True)
    assert room.report(outlet=Observed(on=False, reason="local")) == [Ended(OUTLET, "local")]
    assert room.controller.outputs[OUTLET].stopped_at == room.now


def test_dry_pump_is_a_fault() -> None:
    """A dose that no flow sensor sees stops the pump for good."""
    room = ControlRoom(sensors=sensors_of("water_flow_l_min", "temp_c"))
    order = room.set(PUMP, amount_ml=500)
    room.now += 10
    room.measure(water_flow_l_min=0.0)
    room.now += 11
    room.report(irrigation=Observed(on=False, reason="done", cid=order.cid))
    assert only(room.pass_time(1), Faulted) == [Faulted(PUMP, "no_flow")]


def test_dose_that_ended_early_is_no_fault() -> None:
    """A pump whose lease ran out, or that was removed, gives no reason to look at the flow."""
    room = ControlRoom(sensors=sensors_of("water_flow_l_min"))
    order = room.set(PUMP, amount_ml=500)
    room.now += 5
    room.measure(water_flow_l_min=0.0)
    room.report(irrigation=Observed(on=False, reason="lease", cid=order.cid))
    assert only(room.pass_time(30), Faulted) == []
    room.now += 60
    room.set(PUMP, amount_ml=500)
    room.now += 5
    room.measure(water_flow_l_min=0.0)
    room.configure(node=node_of(Actuator(name="outlet", role=Role.OUTLET)))
    assert only(room.pass_time(30), Faulted) == []


def test_pump_that_is_switched_off_gives_no_reason_to_look() -> None:
    """A dose that somebody ended early is watched no longer, and those of other pumps are."""
    pumps = [replace(PUMP, actuator=name) for name in ("irrigation", "second", "third")]
    actuators = [Actuator(name=pump.actuator, role=Role.IRRIGATION) for pump in pumps]
    room = ControlRoom(node=node_of(*actuators), sensors=sensors_of("water_flow_l_min"))
    for pump in pumps:
        room.set(pump, amount_ml=500)
    room.now += 5
    room.measure(water_flow_l_min=0.0)
    room.set(PUMP, on=False)
    room.report(second=Observed(on=False, reason="done"), third=Observed(on=False, reason="done"))
    assert only(room.pass_time(16), Faulted) == [Faulted(pump, "no_flow") for pump in pumps[1:]]


@pytest.mark.parametrize(("amount", "faults"), [(99, []), (100, [Faulted(PUMP, "no_moisture")])])
def test_soil_that_stays_dry_is_a_fault(amount: float, faults: list[Faulted]) -> None:
    """A dose that is large enough has to be seen in the soil after a quarter of an hour."""
    room = ControlRoom(sensors=sensors_of("soil_moisture_percent"))
    room.measure(soil_moisture_percent=30.0)
    room.set(PUMP, amount_ml=amount)
    room.now += 5
    room.report(irrigation=Observed(on=False, reason="done"))
    for _ in range(3):
        room.measure(soil_moisture_percent=30.0)
    assert room.pass_time(894) == []
    assert only(room.pass_time(1), Faulted) == faults


def test_soil_is_compared_with_what_the_same_sensor_said() -> None:
    """A bed that is wetter than another one is not wetter than before."""
    room = ControlRoom(sensors=sensors_of("soil_moisture_percent"))
    room.controller.configure(
        [room.zone], [room.node, room.sensors, replace(room.sensors, device_id="others")], room.moment
    )
    room.measure("others", soil_moisture_percent=50.0)
    room.measure(soil_moisture_percent=30.0)
    room.set(PUMP, amount_ml=500)
    room.now += 21
    room.report(irrigation=Observed(on=False, reason="done"))
    for _ in range(3):
        room.measure("others", soil_moisture_percent=50.0)
    assert only(room.pass_time(900), Faulted) == [Faulted(PUMP, "no_moisture")]


# Interlocks


def test_smoke_stops_everything_at_once_and_it_stays_off(room: ControlRoom) -> None:
    """In the middle of irrigation: all off with the reading itself, off again once a second, and nothing back on."""
    room.set(PUMP, amount_ml=500)
    room.set(EXHAUST, percent=50)
    room.accept(OUTLET, on=True)
    actions = room.measure(smoke=True)
    assert only(actions, Tripped) == [Tripped("zone-1", Interlock.SMOKE, active=True)]
    assert {stop.key for stop in only(actions, Stop)} == {PUMP, EXHAUST, OUTLET}
    for stop in only(actions, Stop):
        room.set(stop.key, system(stop.code), on=False)
    assert room.measure(smoke=False) == []
    assert room.pass_time(3600) == []
    assert all(room.refused(key, on=True).code is Code.INTERLOCKED for key in KEYS)


def test_stop_that_is_on_its_way_is_not_repeated(room: ControlRoom) -> None:
    """One unanswered stop at a time."""
    room.set(PUMP, amount_ml=500)
    room.measure(smoke=True)
    room.accept(PUMP, system("smoke"), on=False)
    assert only(room.pass_time(1), Stop) == []
    room.now += ACK_TIMEOUT_S
    room.controller.expire(room.moment)
    assert only(room.pass_time(3), Stop) == []
    assert [stop.key for stop in only(room.pass_time(1), Stop)] == [PUMP]


def test_stop_that_cannot_be_sent_is_tried_again_for_ever() -> None:
    """The first one goes out at once, the others every ten seconds; a new reason to stop is a first one again."""
    room = ControlRoom(zone=zone_of(stage=Stage.FLOWERING))
    order = room.set(LAMP, percent=50)
    room.controller.policy.overrides["zone-1"] = room.now + 60
    room.day_s = 0.0
    tried = []
    for second in range(121):
        for stop in only(room.pass_time(0 if second == 0 else 1), Stop):
            tried.append(second)
            room.controller.withdraw(room.accept(stop.key, system(stop.code), on=False).order)
    assert tried == [60, 70, 80, 90, 100, 110, 120]
    room.report(grow_light=Observed(on=False, reason="lease", cid=order.cid))
    assert only(room.pass_time(1), Stop) == []
    room.day_s = NOON
    room.set(LAMP, percent=50)
    room.day_s = 0.0
    assert [stop.code for stop in only(room.pass_time(1), Stop)] == ["dark_period"]


def test_silent_thermometer_ends_the_light(room: ControlRoom) -> None:
    """A lamp does not burn on when nobody can say how hot it is."""
    room = ControlRoom(zone=zone_of(interlocks=InterlockSettings(stale_s=120)))
    room.measure(smoke=False, temp_c=22.0)
    room.set(LAMP, percent=50)
    room.keep_on(LAMP, 115)
    room.now += 6
    assert [stop.code for stop in only(room.controller.tick(room.moment), Stop)] == ["sensor_stale"]


@pytest.mark.parametrize("changes", [{"zone": None}, {"zone": "zone-9"}, {"device_id": "others"}])
def test_readings_of_elsewhere_change_nothing(room: ControlRoom, changes: dict[str, Any]) -> None:
    """A device without a zone, or one that nobody knows, trips nothing."""
    room.sensors = replace(room.sensors, **changes)
    room.configure()
    assert room.measure(smoke=True) == []
    assert room.pass_time(1) == []


def test_reading_that_says_nothing_new(room: ControlRoom) -> None:
    """What is due is looked at each second, silence, too; only what trips something is more urgent."""
    room.zone = zone_of(interlocks=InterlockSettings(stale_s=120))
    room.configure()
    room.measure(smoke=False, leak=False, temp_c=22.0, co2_ppm=900.0)
    room.set(EXHAUST, percent=50)
    room.now += 120
    assert room.measure(humidity_percent=50.0) == []
    assert room.measure(temp_c=22.5) == []
    actions = room.controller.tick(room.moment)
    assert actions == [Tripped("zone-1", Interlock.SENSOR_FAULT, active=True), Renew(EXHAUST)]


def test_new_thermometer_has_its_time_to_speak(room: ControlRoom) -> None:
    """A sensor that is added to a zone in which lamps burn does not end them before it could say anything."""
    room = ControlRoom(zone=zone_of(interlocks=InterlockSettings(stale_s=120)), sensors=sensors_of("humidity_percent"))
    room.set(LAMP, percent=50)
    room.keep_on(LAMP, 300)
    room.sensors = sensors_of("temp_c")
    room.configure()
    room.keep_on(LAMP, 115)
    assert [stop.code for stop in only(room.pass_time(5), Stop)] == ["sensor_stale"]


# Readings of another time


def test_old_reading_keeps_nothing_going() -> None:
    """What was measured an hour ago does not stand for a thermometer that is silent now."""
    room = ControlRoom(zone=zone_of(interlocks=InterlockSettings(stale_s=120)), sensors=sensors_of("temp_c"))
    room.measure(temp_c=22.0, age=3600)
    assert room.refused(LAMP, percent=50).code is Code.SENSOR_STALE
    room.measure(temp_c=22.0, age=300)
    room.set(LAMP, percent=50)
    room.keep_on(LAMP, 115)
    room.measure(temp_c=22.0, age=301)
    room.now += 6
    assert [stop.code for stop in only(room.controller.tick(room.moment), Stop)] == ["sensor_stale"]


def test_clock_that_is_fast_is_no_silence() -> None:
    """A reading from the future is a late one, and yet the latest."""
    room = ControlRoom(zone=zone_of(interlocks=InterlockSettings(stale_s=120)), sensors=sensors_of("temp_c"))
    room.measure(temp_c=22.0, age=-3600)
    room.set(LAMP, percent=50)
    assert only(room.measure(temp_c=36.0, age=-3600), Tripped)
    assert only(room.measure(temp_c=22.0, age=-3600), Tripped)


def test_old_reading_trips_and_frees_nothing(room: ControlRoom) -> None:
    """It may tell that it is too hot, and not that it has cooled down."""
    room.set(LAMP, percent=50)
    actions = room.measure(temp_c=36.0, age=3600)
    assert only(actions, Tripped) == [Tripped("zone-1", Interlock.OVER_TEMPERATURE, active=True)]
    assert [stop.key for stop in only(actions, Stop)] == [LAMP]
    assert only(room.measure(temp_c=22.0, age=3600) + room.pass_time(1), Tripped) == []
    ended = Tripped("zone-1", Interlock.OVER_TEMPERATURE, active=False)
    assert only(room.measure(temp_c=22.0), Tripped) == [ended]


def test_old_reading_says_nothing_of_a_dose(dry: ControlRoom) -> None:
    """That no water flowed an hour ago is no fault of a pump that runs now."""
    dry.set(PUMP, amount_ml=500)
    dry.now += 10
    dry.measure(water_flow_l_min=0.0, age=3600)
    assert only(dry.pass_time(11), Faulted) == []


# What comes and goes


def test_nothing_is_known_of_a_room_that_is_not_configured(room: ControlRoom) -> None:
    """Take a reading, and look at the clock, without a zone or a device."""
    room.controller = Controller()
    assert room.controller.zones == {}
    assert room.measure(smoke=True) == room.pass_time(1) == []


def test_device_that_starts_anew_loses_what_was_on_its_way(room: ControlRoom) -> None:
    """Nothing is queued for a device."""
    order = room.accept(OUTLET, on=True).order
    (settled,) = room.controller.restarted("node")
    assert (settled.fate, settled.order, settled.reason) == (Fate.FAILED, order, "boot")
    assert room.controller.outputs[OUTLET].pending is None
    assert room.everything_is_off() == []


def test_vanished_controller_is_left_to_its_leases(room: ControlRoom) -> None:
    """Nothing is renewed for a device that was revoked; what was on its way is given up."""
    room.set(EXHAUST, percent=50)
    order = room.accept(OUTLET, on=True).order
    assert room.controller.abandon("node") == [order]
    assert only(room.pass_time(100), Renew) == []
    room.controller.absent("node")
    assert room.controller.outputs[EXHAUST].observed is None


def test_abandoned_lamp_is_told_nothing_and_burns_until_its_lease_is_over() -> None:
    """Nobody hears it any more, and nobody can stop it; what it was last seen to do is no reason to try for ever."""
    room = ControlRoom()
    room.set(LAMP, percent=50)
    room.keep_on(LAMP, 60)
    assert room.controller.abandon("node") == []
    assert not room.controller.outputs[LAMP].is_on
    room.measure(temp_c=36.0)
    room.day_s = 0.0
    assert [room.pass_time(1) for _ in range(30)] == [[]] * 30
    room.now += 1000
    assert room.controller.ledger.burned(LAMP, room.now, DAY_S) == pytest.approx(60 + 300, abs=1)


def test_abandoned_lamp_that_comes_back(room: ControlRoom) -> None:
    """What it says counts from then on, and no second twice."""
    room.set(LAMP, percent=50)
    room.controller.abandon("node")
    room.pass_time(100)
    assert room.report(grow_light=Observed(on=True, percent=50)) == [Stop(LAMP, "unasked")]
    room.now += 50
    room.report(grow_light=Observed(on=False, reason="command"))
    room.now += 1000
    assert room.controller.ledger.burned(LAMP, room.now, DAY_S) == 150


def test_order_that_never_went_out_started_nothing(room: ControlRoom) -> None:
    """What was replaced or given up before it was published counts for no minimum time."""
    room.node = node_of(Actuator(name="outlet", role=Role.OUTLET, min_on_s=100, min_off_s=200))
    room.configure()
    room.book(OUTLET, on=True)
    room.set(OUTLET, on=False)
    room.set(OUTLET, on=True)
    room.now += 100
    room.set(OUTLET, on=False)
    room.now += 200
    room.book(OUTLET, on=True)
    room.controller.abandon("node")
    room.set(OUTLET, on=True)
    assert room.controller.outputs[OUTLET].started_at == room.now


def test_stuck_relay_is_a_fault_and_no_flood(room: ControlRoom) -> None:
    """A device that says *done* at once, and that it is still on, is told so twice and then not relied on."""
    room.set(OUTLET, on=True)
    order = room.accept(OUTLET, on=False).order
    found: list[Any] = []
    for _ in range(100):
        room.now += 0.1
        _, actions = room.answer(order, states={"outlet": ON})
        while not (stops := only(actions, Stop)):
            actions = [*room.report(outlet=ON), *room.pass_time(0.1)]
        found += actions
        if only(actions, Faulted):
            break
        order = room.accept(OUTLET, system(stops[0].code), on=False).order
    assert [type(each) for each in found] == [Stop, Faulted, Stop]


def test_slow_books_end_nothing(room: ControlRoom) -> None:
    """An order is to be answered from when it went out; what stands goes on until then."""
    before = room.set(LAMP, percent=50)
    order = room.book(LAMP, percent=60).order
    room.now += 2 * ACK_TIMEOUT_S
    assert room.controller.expire(room.moment) == []
    assert room.controller.unpublished() == [order]
    wish = room.controller.outputs[LAMP].wish
    assert wish is not None
    assert wish.order is before
    room.controller.published(order, room.moment)
    assert room.controller.unpublished() == []
    room.now += ACK_TIMEOUT_S - 0.1
    assert room.controller.expire(room.moment) == []
    room.now += 0.1
    assert [settled.order for settled in room.controller.expire(room.moment)] == [order]


def test_dose_that_never_went_out_is_free_again(room: ControlRoom) -> None:
    """What is replaced before it was published costs nothing."""
    room.book(PUMP, amount_ml=100)
    room.set(PUMP, on=False)
    assert room.controller.ledger.given(room.now, DAY_S, keys=[PUMP]) == 0


def test_replaced_order_that_was_carried_out(room: ControlRoom) -> None:
    """A lamp at what was asked for meanwhile is no fault when the latest order is taken back."""
    room.set(LAMP, percent=50)
    first = room.accept(LAMP, percent=80).order
    second = room.book(LAMP, percent=60).order
    shown = Observed(on=True, percent=80, cid=first.cid)
    room.answer(first, states={"grow_light": shown})
    room.controller.withdraw(second)
    assert room.report(grow_light=shown) == [Stop(LAMP, "unasked")]
    room.set(LAMP, on=False)
    assert only([each for _ in range(9) for each in room.pass_time(1)], Faulted) == []


def test_replaced_order_that_never_went_out_ends_nothing(room: ControlRoom) -> None:
    """What stood before it stands until the next order is carried out."""
    before = room.set(LAMP, percent=50)
    room.book(LAMP, percent=80)
    room.controller.withdraw(room.book(LAMP, percent=60).order)
    wish = room.controller.outputs[LAMP].wish
    assert wish is not None
    assert wish.order is before


def test_renewal_that_was_not_sent_is_tried_again_soon(room: ControlRoom) -> None:
    """A device that comes back within its lease is not lost."""
    room.set(EXHAUST, percent=50)
    assert only(room.pass_time(100), Renew) == [Renew(EXHAUST)]
    room.controller.renewing(EXHAUST, "R" * 26, room.moment)
    room.controller.renewed(EXHAUST, room.moment, sent=False)
    assert only(room.pass_time(4), Renew) == []
    assert only(room.pass_time(1), Renew) == [Renew(EXHAUST)]
    room.controller.renewed(EXHAUST, room.moment, sent=True)
    assert only(room.pass_time(99), Renew) == []
    room.controller.renewed(replace(EXHAUST, actuator="nothing"), room.moment, sent=True)


def test_short_dose_whose_end_is_told_late() -> None:
    """Water that cannot have come, since the pump was stopped or lost its power, is missed by nobody."""
    room = ControlRoom(
        node=node_of(Actuator(name="irrigation", role=Role.IRRIGATION, interval_s=0)),
        sensors=sensors_of("soil_moisture_percent"),
    )
    room.measure(soil_moisture_percent=30.0)
    room.set(PUMP, amount_ml=200)
    room.now += 9
    assert only(room.report(irrigation=Observed(on=False, reason="boot")), Ended)
    room.set(PUMP, amount_ml=100)
    room.now += 0.5
    order = room.accept(PUMP, on=False).order
    room.now += 4
    room.answer(order, states={"irrigation": Observed(on=False, reason="stopped")})
    found = []
    for _ in range(100):
        room.measure(soil_moisture_percent=30.0)
        found += only(room.pass_time(10), Faulted)
    assert found == []


def test_order_that_is_older_than_its_answer_time(room: ControlRoom) -> None:
    """An order that was replaced is not given up a second time."""
    room.accept(OUTLET, on=True)
    room.now += 3
    second = room.accept(OUTLET, on=False).order
    room.now += 3
    assert room.controller.expire(room.moment) == []
    room.now += 3
    assert [settled.order for settled in room.controller.expire(room.moment)] == [second]


def test_removed_outputs_and_zones(room: ControlRoom) -> None:
    """What is removed takes its orders along; a zone that is gone guards nothing."""
    order = room.accept(OUTLET, on=True).order
    assert room.configure(node=node_of(Actuator(name="exhaust", role=Role.EXHAUST))) == [order]
    assert list(room.controller.outputs) == [EXHAUST]
    room.controller.configure([], [room.node], room.moment)
    assert room.controller.outputs[EXHAUST].zone_id is None
    assert list(room.controller.outputs_of("node")) == [room.controller.outputs[EXHAUST]]
    assert room.controller.outputs_in("zone-1") == room.controller.outputs_of("sensors") == []
    assert room.controller.interlocks.zone_ids == frozenset()
    room.set(EXHAUST, percent=50)


def test_late_refusal_of_a_removed_output(room: ControlRoom) -> None:
    """An answer about an output that is no more is known, and a renewal of it confirms nothing."""
    room.set(EXHAUST, percent=50)
    room.pass_time(100)
    order, _ = room.controller.renewing(EXHAUST, "R" * 26, room.moment)
    pending = room.accept(OUTLET, on=True).order
    room.configure(node=node_of(Actuator(name="grow_light", role=Role.GROW_LIGHT)))
    assert room.answer(replace(order, cid="R" * 26))[0] is Fate.RENEWED
    room.controller.lose(pending)
    assert room.answer(pending)[0] is Fate.LATE
    room.controller.withdraw(pending)


def test_dose_is_entered_whole(room: ControlRoom) -> None:
    """Enter what is given, of which output, by whom and when, and nothing that is no dose."""
    room.set(EXHAUST, percent=50)
    room.set(PUMP, on=False)
    order = room.accept(PUMP, AUTOMATION, amount_ml=100).order
    entry = [order.cid, "node", "irrigation", "automation", 100, room.now]
    assert room.controller.ledger.snapshot()["doses"] == [entry]


def test_off_has_no_lease(room: ControlRoom) -> None:
    """What is off stays off by itself."""
    assert [room.accept(key, on=False).order.lease_s for key in KEYS] == [0] * len(KEYS)


def test_lost_order_stays_spent(room: ControlRoom) -> None:
    """What may have arrived is paid for; a newer order for the output is left alone."""
    first, second = room.accept(PUMP, amount_ml=100).order, room.accept(PUMP, on=False).order
    room.controller.lose(first)
    assert room.controller.outputs[PUMP].pending is second
    room.controller.lose(second)
    assert room.controller.outputs[PUMP].pending is None
    assert room.controller.ledger.given(room.now, 86_400, keys=[PUMP]) == 100


# Over a restart


def restarted(room: ControlRoom, after: float) -> None:
    """Start anew with what was saved."""
    snapshot = room.controller.snapshot()
    room.now += after
    room.controller = Controller()
    room.configure()
    room.controller.restore(snapshot, room.now, room.moment)


@pytest.mark.parametrize("wanted", [{"on": False}, {"percent": 80}])
def test_command_that_the_disk_does_not_know_of(room: ControlRoom, wanted: dict[str, Any]) -> None:
    """After a crash, a device that did what it was told last has no fault."""
    room.set(EXHAUST, percent=50)
    snapshot = room.controller.snapshot()
    order = room.set(EXHAUST, **wanted)
    room.controller = Controller()
    room.configure()
    room.controller.restore(snapshot, room.now, room.moment)
    on = order.command.energises
    shown = Observed(on=on, percent=order.command.percent or 0.0, reason="command", cid=order.cid)
    actions = room.report(exhaust=shown)
    assert actions == ([Stop(EXHAUST, "unasked")] if on else [])
    if on:
        room.set(EXHAUST, system("unasked"), on=False)
    assert only([each for _ in range(9) for each in room.pass_time(1)], Faulted) == []


def test_what_is_on_by_a_standing_wish_stays_on(room: ControlRoom) -> None:
    """A restart within the lease goes on with what was asked for; what else is on is stopped."""
    order = room.set(EXHAUST, percent=50)
    room.set(PUMP, amount_ml=100)
    restarted(room, 60)
    actions = room.report(exhaust=Observed(on=True, percent=50, cid=order.cid), outlet=ON)
    assert actions == [Stop(OUTLET, "unasked")]
    room.report(outlet=Observed(on=False, reason="command"))
    assert room.pass_time(40) == [Renew(EXHAUST)]
    assert room.controller.outputs[PUMP].wish is None
    assert room.controller.ledger.given(room.now, 86_400, keys=[PUMP]) == 100


def test_wish_is_saved_whole(room: ControlRoom) -> None:
    """What was asked for, by whom and until when is known after a restart; the device has to confirm it anew."""
    room.set(EXHAUST, AUTOMATION, percent=50)
    room.set(VALVE, AUTOMATION, seconds=60)
    before = [room.controller.outputs[key].wish for key in (EXHAUST, VALVE)]
    restarted(room, 10)
    after = [room.controller.outputs[key].wish for key in (EXHAUST, VALVE)]
    assert after == [replace(wish, confirmed_at=room.now) for wish in before if wish is not None]


def test_lamp_counts_as_on_until_the_last_lease_had_ended(room: ControlRoom) -> None:
    """Nobody knows what a lamp did while there was no hub."""
    room.set(LAMP, percent=50)
    restarted(room, 60)
    assert room.controller.ledger.burned(LAMP, room.now + 1000, DAY_S) == 60


@pytest.mark.parametrize("after", [300, 301])
def test_wish_does_not_outlive_its_lease(room: ControlRoom, after: float) -> None:
    """After the lease nothing comes back by itself."""
    room.set(EXHAUST, percent=50)
    restarted(room, after)
    assert room.controller.outputs[EXHAUST].wish is None


def test_latches_faults_and_the_kill_switch_survive(room: ControlRoom) -> None:
    """What an administrator has to decide is not decided by a restart."""
    room.measure(smoke=True)
    room.measure(smoke=False)
    room.report(outlet=ON)
    room.now += 5
    room.report(outlet=ON)
    room.controller.policy.ai_allowed = False
    room.controller.policy.overrides["zone-1"] = room.now + 500
    restarted(room, 10)
    assert room.controller.interlocks.active("zone-1") == (Interlock.SMOKE,)
    assert room.controller.outputs[OUTLET].fault == "mismatch"
    assert room.controller.policy.ai_allowed is False
    assert room.controller.policy.overrides == {"zone-1": room.now + 490}


def test_driven_fan_is_given_back_after_a_restart(room: ControlRoom) -> None:
    """What an interlock drives goes on until a sensor says that it is over, and then what stood before comes back."""
    room.set(EXHAUST, percent=30)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    order = room.set(EXHAUST, drive.principal, percent=100)
    restarted(room, 10)
    room.report(exhaust=Observed(on=True, percent=100, cid=order.cid))
    assert room.pass_time(1) == []
    assert only(room.measure(temp_c=36.0), Drive) == []
    assert room.refused(EXHAUST, percent=20).code is Code.INTERLOCKED
    (back,) = only(room.measure(temp_c=22.0), Drive)
    assert (back.command.percent, back.principal.identity) == (30, "interlock_ended")


def test_fan_that_is_let_be_is_so_after_a_restart(room: ControlRoom) -> None:
    """An administrator may have a hand in it; when it has cooled down and is hot again, it is driven."""
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    room.set(EXHAUST, PERSON, on=False)
    restarted(room, 10)
    room.everything_is_off()
    assert room.pass_time(1) == []
    assert only(room.measure(temp_c=36.0), Drive) == []
    room.measure(temp_c=22.0)
    assert len(only(room.measure(temp_c=36.0), Drive)) == 1


def test_who_switches_off_what_is_their_own_holds_it(room: ControlRoom) -> None:
    """The time begins anew: whoever had it on does not want it on."""
    room.set(EXHAUST, PERSON, percent=30)
    room.now += 100
    room.set(EXHAUST, PERSON, on=False)
    assert room.refused(EXHAUST, AUTOMATION, percent=50).frees_in_s == 300


def test_output_is_held_over_a_restart(room: ControlRoom) -> None:
    """Who comes first does so after a restart, for as long as before."""
    room.set(EXHAUST, PERSON, percent=30)
    restarted(room, 100)
    error = room.refused(EXHAUST, AUTOMATION, percent=50)
    assert (error.code, error.frees_in_s) == (Code.HELD, 200)


def test_driven_fan_that_was_off_ends_after_a_restart(room: ControlRoom) -> None:
    """It also ends when it has cooled down before the first reading."""
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    order = room.set(EXHAUST, drive.principal, percent=100)
    restarted(room, 10)
    room.report(exhaust=Observed(on=True, percent=100, cid=order.cid))
    assert only(room.measure(temp_c=22.0), Stop) == [Stop(EXHAUST, "interlock_ended")]


def test_snapshot_of_an_earlier_release(room: ControlRoom) -> None:
    """It says nothing of what was tripped or driven."""
    order = room.set(EXHAUST, percent=30)
    snapshot = room.controller.snapshot()
    del snapshot["tripped"]
    for output in snapshot["outputs"]:
        for name in ("forced", "resume", "let_be", "held_by", "commanded_at"):
            del output[name]
    room.controller = Controller()
    room.configure()
    room.controller.restore(snapshot, room.now, room.moment)
    assert room.report(exhaust=Observed(on=True, percent=30, cid=order.cid)) == []
    assert only(room.measure(temp_c=36.0), Drive)


def test_removed_lamp_burns_until_its_lease_is_over(room: ControlRoom) -> None:
    """Nobody can say more of it, and it may come back."""
    room.set(LAMP, percent=50)
    room.now += 60
    room.configure(node=node_of(Actuator(name="exhaust", role=Role.EXHAUST)))
    room.now += 80_000
    room.configure(node=node_of())
    assert room.controller.ledger.burned(LAMP, room.now, DAY_S) == 60 + 300


def test_outputs_that_are_no_more_are_not_restored(room: ControlRoom) -> None:
    """A snapshot may know more than there is."""
    snapshot = room.controller.snapshot()
    room.controller = Controller()
    room.configure(node=node_of(Actuator(name="exhaust", role=Role.EXHAUST)))
    room.controller.restore(snapshot, room.now, room.moment)
    assert list(room.controller.outputs) == [EXHAUST]


def test_books_of_a_lamp_are_closed_when_it_is_off(room: ControlRoom) -> None:
    """Time on is what was asked for, on its way, or seen."""
    room.set(LAMP, percent=50)
    room.keep_on(LAMP, 60)
    room.set(LAMP, on=False)
    room.now += 500
    assert room.controller.ledger.burned(LAMP, room.now, DAY_S) == 60


def test_limit_that_is_lowered_holds_for_what_is_on() -> None:
    """What burns brighter than it may from now on is switched off."""
    lamp = Actuator(name="grow_light", role=Role.GROW_LIGHT)
    room = ControlRoom(node=node_of(lamp))
    room.set(LAMP, percent=100)
    room.configure(node=node_of(replace(lamp, max_percent=50)))
    assert [stop.code for stop in only(room.pass_time(1), Stop)] == ["limit_exceeded"]


def test_lease_that_is_shortened_holds_for_what_is_on() -> None:
    """It is renewed for as long as it may be from now on, and as often as that needs."""
    lamp = Actuator(name="grow_light", role=Role.GROW_LIGHT, lease_s=3600)
    room = ControlRoom(node=node_of(lamp))
    room.set(LAMP, percent=100)
    room.configure(node=node_of(replace(lamp, lease_s=60)))
    leases, ended = set[int](), list[Ended]()
    for second in range(600):
        room.now += 1
        room.report(grow_light=Observed(on=True, percent=100))
        actions = room.controller.tick(room.moment)
        ended += only(actions, Ended)
        for renew in only(actions, Renew):
            leases.add(room.controller.renewing(renew.key, f"{second:026}", room.moment)[1])
            room.controller.renewed(renew.key, room.moment, sent=second % 2 == 0)
    assert (leases, ended) == ({60}, [])


def test_what_is_on_unasked_is_told_every_ten_seconds(room: ControlRoom) -> None:
    """A device that does not stop is told again, also after it was found faulty."""
    told: list[float] = []
    for _ in range(120):
        actions = [*room.report(outlet=Observed(on=True, reason="local")), *room.controller.tick(room.moment)]
        for stop in only(actions, Stop):
            told.append(room.now)
            order = room.accept(OUTLET, system(stop.code), on=False).order
            room.answer(order, states={})
        room.now += 1
    assert max(later - earlier for earlier, later in pairwise(told)) <= 11
    assert len(told) <= 14


def test_output_that_goes_on_and_off_by_itself(room: ControlRoom) -> None:
    """A device whose output comes on again after each answer is not commanded at the speed of the network."""
    on, off = Observed(on=True, reason="local"), Observed(on=False, reason="command")
    stops = 0
    for _ in range(300):
        room.now += 0.2
        for stop in only(room.report(outlet=on), Stop):
            stops += 1
            order = room.accept(OUTLET, system(stop.code), on=False).order
            room.answer(order, states={"outlet": off})
    # Three at once, and three a minute.
    assert stops == 6


def test_fault_before_an_order_went_out(room: ControlRoom) -> None:
    """What was still at the disk when its output failed has not gone out, and costs nothing."""
    order = room.book(PUMP, amount_ml=100).order
    room.controller._fault(room.controller.outputs[PUMP], "mismatch")
    assert room.controller.unpublished() == [order]
    room.now += ACK_TIMEOUT_S
    assert room.controller.expire(room.moment) == []
    room.controller.withdraw(order)
    assert room.controller.ledger.given(room.now, 60, keys=[PUMP]) == 0


def _not_running(room: ControlRoom, **states: Observed) -> list[Action]:
    """Let the device refuse the renewal that was sent last."""
    ack = Ack(device_id="node", cid="9" * 26, result=Result.REJECTED, reason="not_running", states=states, hello=None)
    settled, actions = room.controller.acknowledge(ack, room.moment)
    assert settled.order is None
    return actions


@pytest.mark.parametrize("newer", [False, True])
def test_output_that_is_on_by_hand_has_no_lease(room: ControlRoom, newer: bool) -> None:
    """On by hand instead of by the command is on unasked, and ends; a newer command is not meant by that."""
    room.set(OUTLET, on=True)
    room.controller.renewing(OUTLET, "9" * 26, room.moment)
    if newer:
        room.set(OUTLET, on=True)
    actions = _not_running(room, outlet=Observed(on=True, reason="command" if newer else "local"))
    assert only(actions, Stop) == ([] if newer else [Stop(OUTLET, "unasked")])


@pytest.mark.parametrize("reason", ["lease", "boot", "local"])
def test_renewal_of_what_has_just_ended(reason: str) -> None:
    """A renewal that crosses the end of a dose tells of that end as a state does: no water is expected any more."""
    pump = Actuator(name="irrigation", role=Role.IRRIGATION, interval_s=0)
    room = ControlRoom(node=node_of(pump), sensors=sensors_of("water_flow_l_min"))
    room.set(PUMP, amount_ml=500)
    room.now += 5
    room.controller.renewing(PUMP, "9" * 26, room.moment)
    assert _not_running(room, irrigation=Observed(on=False, reason=reason)) == [Ended(PUMP, reason)]
    room.now += 10
    room.measure(water_flow_l_min=0.0)
    assert only(room.pass_time(30), Faulted) == []


def test_renewal_before_the_first_word_after_a_crash(room: ControlRoom) -> None:
    """A device that was given the same again is believed, whichever of its words comes first."""
    room.set(OUTLET, on=True)
    after = ControlRoom(now=room.now + 5)
    after.controller.absent("node")
    after.controller.restore(room.controller.snapshot(), after.now, after.moment)
    after.controller.renewing(OUTLET, "9" * 26, after.moment)
    assert _not_running(after, outlet=Observed(on=True, reason="command", cid="8" * 26)) == []
    wish = after.controller.outputs[OUTLET].wish
    assert wish is not None
    assert wish.order.cid == "8" * 26


def test_lease_that_is_shortened_below_what_a_device_says_of_itself() -> None:
    """A lamp that is on and in step is not lost because its lease is shortened between two of its states."""
    lamp = Actuator(name="grow_light", role=Role.GROW_LIGHT, lease_s=300)
    room = ControlRoom(node=node_of(lamp))
    order = room.set(LAMP, percent=50)
    room.now += 25
    room.configure(node=node_of(replace(lamp, lease_s=10)))
    assert room.pass_time(0) == [Renew(LAMP)]
    assert room.controller.renewing(LAMP, "9" * 26, room.moment) == (order, 10)
    room.controller.renewed(LAMP, room.moment, sent=True)
    assert room.pass_time(1) == []
    on = Observed(on=True, percent=50, reason="command", cid=order.cid)
    assert only(room.report(grow_light=on), Stop) == []


def test_order_that_is_withdrawn_is_gone(room: ControlRoom) -> None:
    """Nobody is asked about it later."""
    room.controller.withdraw(room.book(OUTLET, on=True).order)
    assert room.controller.unpublished() == []


def test_answer_to_an_order_that_did_not_go_out(room: ControlRoom) -> None:
    """A device that knows of it all the same is believed, and its stop counts from now."""
    room.set(PUMP, amount_ml=100)
    order = room.book(PUMP, on=False).order
    room.answer(order, states={"irrigation": Observed(on=False, reason="command", cid=order.cid)})
    assert only(room.pass_time(60), Faulted) == []
