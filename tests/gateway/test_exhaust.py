"""Tests of exhaust fans: driven by interlocks, let be, and given back."""

import pytest

from custom_components.grokmon.gateway.actions import Action, Drive, Ended, Faulted, Stop
from custom_components.grokmon.gateway.actuators import Actuator, Command, Observed, Role
from custom_components.grokmon.gateway.errors import Code
from custom_components.grokmon.gateway.models import Result
from custom_components.grokmon.gateway.outputs import Output
from custom_components.grokmon.gateway.principals import Principal, system
from custom_components.grokmon.gateway.zones import InterlockSettings

from .control_room import (
    AI,
    AUTOMATION,
    EXHAUST,
    GUEST,
    LAMP,
    NO_SENSORS,
    PERSON,
    ControlRoom,
    node_of,
    only,
    zone_of,
)


@pytest.fixture
def room() -> ControlRoom:
    """Return a room in which everything is off."""
    return ControlRoom()


def test_heat_switches_lights_off_and_the_exhaust_on(room: ControlRoom) -> None:
    """Over-temperature drives the fan to full speed and gives it back afterwards."""
    room.set(LAMP, percent=50)
    room.set(EXHAUST, percent=30)
    actions = room.measure(temp_c=36.0)
    assert [stop.key for stop in only(actions, Stop)] == [LAMP]
    (drive,) = only(actions, Drive)
    assert (drive.command.percent, drive.principal.identity) == (100, "over_temperature")
    room.set(EXHAUST, drive.principal, percent=100)
    assert room.refused(EXHAUST, PERSON, percent=20).code is Code.INTERLOCKED
    assert only(room.pass_time(1), Drive) == []
    (back,) = only(room.measure(temp_c=22.0), Drive)
    assert (back.command.percent, back.principal.identity) == (30, "interlock_ended")


def test_fan_that_was_off_goes_off_again(room: ControlRoom) -> None:
    """What an interlock switched on it switches off."""
    (drive,) = only(room.measure(co2_ppm=1900.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    assert drive.command.key == EXHAUST
    assert only(room.measure(co2_ppm=900.0), Stop) == [Stop(EXHAUST, "interlock_ended")]
    assert only(room.pass_time(1), Stop) == []


def test_fan_goes_to_its_safe_state_again() -> None:
    """Where nobody asked for anything before, it goes where it does when nobody asks."""
    fan = Actuator(name="exhaust", role=Role.EXHAUST, safe_percent=30)
    room = ControlRoom(node=node_of(fan))
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    actions = room.measure(temp_c=22.0)
    back = Drive(Command(key=EXHAUST, percent=30), system("interlock_ended"))
    assert (only(actions, Drive), only(actions, Stop)) == ([back], [])
    room.set(EXHAUST, back.principal, percent=30)
    assert room.pass_time(1) == []


def test_fan_that_was_kept_off_is_off_again() -> None:
    """What somebody switched off stays off after an interlock, in the next run, too."""
    room = ControlRoom(node=node_of(Actuator(name="exhaust", role=Role.EXHAUST, safe_percent=30)))
    room.set(EXHAUST, PERSON, percent=60)
    room.set(EXHAUST, PERSON, on=False)
    room.report(exhaust=Observed(on=False, reason="command"))
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    saved = room.controller.outputs[EXHAUST].as_dict()
    again = Output(EXHAUST, room.controller.outputs[EXHAUST].actuator)
    again.take_up(saved, room.now)
    assert (again.forced, again.kept_off) == (True, True)
    assert only(room.measure(temp_c=22.0), Stop) == [Stop(EXHAUST, "interlock_ended")]


@pytest.mark.parametrize("safe", [0, 30])
@pytest.mark.parametrize("allowed", [True, False])
def test_blocked_ai_does_not_get_its_fan_back(safe: float, allowed: bool) -> None:
    """What an AI set before an interlock goes on afterwards only while the AI is allowed to act."""
    room = ControlRoom(node=node_of(Actuator(name="exhaust", role=Role.EXHAUST, safe_percent=safe)))
    room.set(EXHAUST, AI, percent=60)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    room.controller.policy.ai_allowed = allowed
    actions = room.measure(temp_c=22.0)
    percent = [drive.command.percent for drive in only(actions, Drive)]
    assert percent == ([60] if allowed else [30] if safe else [])
    assert only(actions, Stop) == ([] if percent else [Stop(EXHAUST, "interlock_ended")])


def test_blocked_ai_takes_nobody_elses_fan(room: ControlRoom) -> None:
    """What a person set comes back, whether the AI is allowed to act or not."""
    room.set(EXHAUST, PERSON, percent=60)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    room.controller.policy.ai_allowed = False
    assert [drive.command.percent for drive in only(room.measure(temp_c=22.0), Drive)] == [60]


def test_administrator_may_switch_a_driven_fan_off(room: ControlRoom) -> None:
    """An administrator's off stays off until the condition is over; an AI's and a guest's do not."""
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    room.set(EXHAUST, AI, on=False)
    (again,) = only(room.pass_time(1), Drive)
    room.set(EXHAUST, again.principal, percent=100)
    room.set(EXHAUST, GUEST, on=False)
    (again,) = only(room.pass_time(1), Drive)
    room.set(EXHAUST, again.principal, percent=100)
    room.set(EXHAUST, PERSON, on=False)
    assert only(room.pass_time(1), Drive) == []
    room.measure(temp_c=22.0)
    assert len(only(room.measure(temp_c=36.0), Drive)) == 1


def test_drive_that_did_not_come_about_is_tried_again(room: ControlRoom) -> None:
    """A fan that is needed is asked again while it is there, whether the first was never sent, refused or lost."""
    room.set(EXHAUST, percent=30)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    assert only(room.pass_time(1), Drive) == []
    room.set(EXHAUST, drive.principal, on=False)
    assert only(room.pass_time(8), Drive) == []
    assert only(room.pass_time(1), Drive) == [drive]
    order = room.accept(EXHAUST, drive.principal, percent=100).order
    room.answer(order, Result.REJECTED)
    assert only(room.pass_time(10), Drive) == [drive]
    room.controller.absent("node")
    assert only(room.pass_time(60), Drive) == []
    room.report(exhaust=Observed(on=False))
    assert only(room.pass_time(1), Drive) == [drive]
    room.set(EXHAUST, drive.principal, percent=100)
    assert only(room.measure(temp_c=22.0), Drive)[0].command.percent == 30


@pytest.mark.parametrize("failure", ["withdrawn", "rejected", "failed", "lost"])
def test_fan_that_could_not_be_given_back_is_so_again(room: ControlRoom, failure: str) -> None:
    """A fan at full speed that nobody wants there is given back until it is, not only once."""
    room.set(EXHAUST, percent=30)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    (back,) = only(room.measure(temp_c=22.0), Drive)
    order = room.accept(EXHAUST, back.principal, percent=30).order
    if failure == "withdrawn":
        room.controller.withdraw(order)
    elif failure == "lost":
        room.controller.lose(order)
        room.set(EXHAUST, system("command_timeout"), on=False)
    else:
        room.answer(order, Result(failure))
    assert only(room.pass_time(9), Drive) == []
    room.controller.absent("node")
    assert only(room.pass_time(1), Drive) == []
    room.report(exhaust=Observed(on=True, percent=100))
    assert only(room.pass_time(1), Drive) == [back]
    room.set(EXHAUST, back.principal, percent=30)
    assert only(room.pass_time(60), Drive) == []


def test_fan_that_is_needed_again_before_it_was_given_back(room: ControlRoom) -> None:
    """What stood before the first interlock comes back after the second one."""
    room.set(EXHAUST, percent=30)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    (back,) = only(room.measure(temp_c=22.0), Drive)
    room.controller.withdraw(room.accept(EXHAUST, back.principal, percent=30).order)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    assert only(room.measure(temp_c=22.0), Drive) == [back]


def test_fan_that_could_not_be_given_back_is_anybodys(room: ControlRoom) -> None:
    """What somebody sets meanwhile stands, and nothing is given back over it."""
    room.set(EXHAUST, percent=30)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    (back,) = only(room.measure(temp_c=22.0), Drive)
    room.controller.withdraw(room.accept(EXHAUST, back.principal, percent=30).order)
    room.set(EXHAUST, PERSON, percent=70)
    assert only(room.pass_time(60), Drive) == []


def test_fan_that_was_switched_off_before_is_driven(room: ControlRoom) -> None:
    """Only who switches it off while it is needed has a reason for that."""
    room.set(EXHAUST, PERSON, percent=30)
    room.set(EXHAUST, PERSON, on=False)
    assert len(only(room.measure(temp_c=36.0), Drive)) == 1


def test_fan_with_a_fault_is_not_driven(room: ControlRoom) -> None:
    """A fan that cannot be relied on is left alone."""
    room.report(exhaust=Observed(on=True, percent=5))
    room.now += 5
    room.report(exhaust=Observed(on=True, percent=5))
    assert only(room.measure(temp_c=36.0), Drive) == []


def test_abandoned_fan_is_not_driven_for_ever(room: ControlRoom) -> None:
    """It is asked once, and then again when it is heard."""
    room.set(EXHAUST, percent=30)
    room.controller.abandon("node")
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.controller.withdraw(room.accept(EXHAUST, drive.principal, percent=100).order)
    assert [room.pass_time(10) for _ in range(6)] == [[]] * 6
    room.report(exhaust=Observed(on=False, reason="lease"))
    assert only(room.pass_time(1), Drive) == [drive]


@pytest.mark.parametrize("failure", [None, Result.REJECTED, Result.FAILED])
def test_fan_that_runs_is_driven_until_it_is_at_full_speed(room: ControlRoom, failure: Result | None) -> None:
    """What somebody asked for before does not stand for what an interlock asks for."""
    room.set(EXHAUST, percent=30)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    order = room.accept(EXHAUST, drive.principal, percent=100).order
    if failure is None:
        room.controller.withdraw(order)
    else:
        room.answer(order, failure)
    assert only(room.pass_time(9), Drive) == []
    assert only(room.pass_time(1), Drive) == [drive]
    room.set(EXHAUST, drive.principal, percent=100)
    assert only(room.pass_time(60), Drive) == []
    assert [each.command.percent for each in only(room.measure(temp_c=22.0), Drive)] == [30]


def test_fan_that_cannot_be_given_back(room: ControlRoom) -> None:
    """What stood before may not be possible any more: it goes to its rest, and if that does not help, off."""
    fan = Actuator(name="exhaust", role=Role.EXHAUST, safe_percent=20)
    room = ControlRoom(node=node_of(fan))
    room.set(EXHAUST, percent=30)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    actions = room.measure(temp_c=22.0)
    tried: list[float | str | None] = []
    for _ in range(7):
        for stop in only(actions, Stop):
            tried.append(stop.code)
            room.set(EXHAUST, system(stop.code), on=False)
        for drive in only(actions, Drive):
            tried.append(drive.command.percent)
            room.answer(room.accept(EXHAUST, drive.principal, percent=20).order, Result.REJECTED)
        actions = room.pass_time(10)
    assert tried == [30, 30, 30, 20, 20, 20, "interlock_ended"]
    assert [each for _ in range(9) for each in room.pass_time(10)] == []


def test_fan_that_is_needed_again_is_given_back_anew(room: ControlRoom) -> None:
    """The tries of the time before do not count."""
    room.set(EXHAUST, percent=30)
    for _ in range(2):
        (drive,) = only(room.measure(temp_c=36.0), Drive)
        room.set(EXHAUST, drive.principal, percent=100)
        (back,) = only(room.measure(temp_c=22.0), Drive)
        for _ in range(2):
            room.controller.withdraw(room.accept(EXHAUST, back.principal, percent=30).order)
            assert only(room.pass_time(10), Drive) == [back]
    room.set(EXHAUST, back.principal, percent=30)
    assert only(room.pass_time(10), Drive) == []


def test_fan_whose_device_starts_anew_while_it_is_driven(room: ControlRoom) -> None:
    """It is driven again, and what stood before comes back."""
    room.set(EXHAUST, percent=30)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    room.pass_time(20)
    room.report(exhaust=Observed(on=False, reason="boot"))
    assert only(room.pass_time(1), Drive) == [drive]
    room.set(EXHAUST, drive.principal, percent=100)
    assert [each.command.percent for each in only(room.measure(temp_c=22.0), Drive)] == [30]


@pytest.mark.parametrize("who", [AI, PERSON])
def test_blocked_ai_loses_what_was_given_back_to_it(room: ControlRoom, who: Principal) -> None:
    """A fan that an interlock gave back is wanted by who had wanted it before."""
    room.set(EXHAUST, who, percent=60)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    room.controller.policy.ai_allowed = False
    assert only(room.pass_time(1), Stop) == []
    room.controller.policy.ai_allowed = True
    (back,) = only(room.measure(temp_c=22.0), Drive)
    room.set(EXHAUST, back.principal, percent=60)
    assert only(room.pass_time(1), Stop) == []
    room.controller.policy.ai_allowed = False
    assert [stop.code for stop in only(room.pass_time(1), Stop)] == (["ai_blocked"] if who is AI else [])


def test_fan_whose_interlock_ended_before_it_was_driven(room: ControlRoom) -> None:
    """Whoever sets it then is told that a command is on its way, not that an interlock drives it."""
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    order = room.accept(EXHAUST, drive.principal, percent=100).order
    room.measure(temp_c=22.0)
    assert room.refused(EXHAUST, percent=20).code is Code.HELD
    room.answer(order, Result.REJECTED)
    room.set(EXHAUST, percent=20)
    assert only(room.pass_time(20), Drive) == []


def test_broker_that_is_away_uses_up_no_try(room: ControlRoom) -> None:
    """What nobody could be told says nothing about the fan: it is given back once somebody can."""
    room.set(EXHAUST, percent=30)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    (back,) = only(room.measure(temp_c=22.0), Drive)
    for _ in range(10):
        room.controller.withdraw(room.book(EXHAUST, back.principal, percent=30).order)
        assert only(room.pass_time(9), Drive) == []
        assert only(room.pass_time(1), Drive) == [back]


@pytest.mark.parametrize("again", [True, False])
def test_command_that_fails_while_a_fan_is_given_back(room: ControlRoom, again: bool) -> None:
    """It takes nothing from anybody: the fan is still given back, also when it is needed once more before."""
    room.set(EXHAUST, percent=30)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    (back,) = only(room.measure(temp_c=22.0), Drive)
    room.controller.withdraw(room.book(EXHAUST, back.principal, percent=30).order)
    room.controller.withdraw(room.book(EXHAUST, PERSON, percent=40).order)
    if again:
        (drive,) = only(room.measure(temp_c=36.0), Drive)
        room.set(EXHAUST, drive.principal, percent=100)
        assert only(room.measure(temp_c=22.0), Drive) == [back]
    else:
        assert only(room.pass_time(10), Drive) == [back]


def test_wish_that_is_lost_as_an_interlock_trips(room: ControlRoom) -> None:
    """What the interlock asked for in the same moment is given back all the same."""
    room.set(EXHAUST, percent=30)
    room.now += 300
    actions = room.measure(temp_c=36.0)
    (drive,) = only(actions, Drive)
    assert only(actions, Ended)
    room.set(EXHAUST, drive.principal, percent=100)
    assert only(room.measure(temp_c=22.0), Stop) == [Stop(EXHAUST, "interlock_ended")]


@pytest.mark.parametrize("driven", [True, False])
def test_blocked_ai_is_not_forgotten_at_the_second_time(room: ControlRoom, driven: bool) -> None:
    """What was given back is still whose it was, however often an interlock trips."""
    room.set(EXHAUST, AI, percent=60)
    for _ in range(2):
        (drive,) = only(room.measure(temp_c=36.0), Drive)
        room.set(EXHAUST, drive.principal, percent=100)
        (back,) = only(room.measure(temp_c=22.0), Drive)
        room.set(EXHAUST, back.principal, percent=60)
    if driven:
        (drive,) = only(room.measure(temp_c=36.0), Drive)
        room.set(EXHAUST, drive.principal, percent=100)
        room.controller.policy.ai_allowed = False
        assert only(room.measure(temp_c=22.0), Stop) == [Stop(EXHAUST, "interlock_ended")]
    else:
        room.controller.policy.ai_allowed = False
        assert [stop.code for stop in only(room.pass_time(1), Stop)] == ["ai_blocked"]


def test_fan_that_is_let_be_and_set_again_is_driven(room: ControlRoom) -> None:
    """An administrator's off is respected for as long as it lasts."""
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    room.set(EXHAUST, PERSON, on=False)
    room.now += 301
    room.set(EXHAUST, AUTOMATION, percent=20)
    assert only(room.pass_time(1), Drive) == [drive]


def test_sensor_that_flutters_does_not_wear_a_fan_out(room: ControlRoom) -> None:
    """What is hot and cool in turn is given back at once, and then no more than every quarter of a minute."""
    starts = 0
    for second in range(60):
        room.now += 1
        for drive in only(room.measure(temp_c=22.0 if second % 2 else 36.0), Drive):
            room.set(EXHAUST, drive.principal, percent=100)
            starts += 1
    # Let go four times at once, and four times a minute.
    assert starts == 8


def test_nobody_but_an_administrator_keeps_a_driven_fan_off(room: ControlRoom) -> None:
    """However often an AI switches off what an interlock needs, it is on again a second later."""
    drives, on = only(room.measure(temp_c=36.0), Drive), 0
    for second in range(60):
        for drive in drives:
            room.set(EXHAUST, drive.principal, percent=100)
        if second % 3 == 2:
            room.set(EXHAUST, AI, on=False)
        else:
            on += 1
        assert room.controller.outputs[EXHAUST].is_on is (second % 3 != 2)
        drives = only(room.pass_time(1), Drive)
    assert on == 40


def test_heat_that_lasts_is_acted_upon_however_a_sensor_fluttered(room: ControlRoom) -> None:
    """What flutters leaves the fan on, not off."""
    for second in range(20):
        room.now += 1
        for drive in only(room.measure(temp_c=22.0 if second % 2 else 36.0), Drive):
            room.set(EXHAUST, drive.principal, percent=100)
    actions = room.measure(temp_c=36.0)
    assert room.controller.outputs[EXHAUST].is_driven or only(actions, Drive)


def test_command_that_never_went_out_does_not_end_an_off() -> None:
    """Kept off is what somebody switched off until something is on, not until somebody tries."""
    room = ControlRoom(node=node_of(Actuator(name="exhaust", role=Role.EXHAUST, safe_percent=30)))
    room.set(EXHAUST, PERSON, percent=60)
    room.set(EXHAUST, PERSON, on=False)
    room.now += 400
    room.controller.withdraw(room.book(EXHAUST, AUTOMATION, percent=40).order)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    assert only(room.measure(temp_c=22.0), Stop) == [Stop(EXHAUST, "interlock_ended")]


def test_fan_that_was_kept_off_while_its_device_is_away() -> None:
    """It is off again after the interlock, also where its device was not heard when it tripped."""
    room = ControlRoom(node=node_of(Actuator(name="exhaust", role=Role.EXHAUST, safe_percent=30)))
    room.set(EXHAUST, PERSON, percent=60)
    room.set(EXHAUST, PERSON, on=False)
    room.controller.absent("node")
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.controller.withdraw(room.book(EXHAUST, drive.principal, percent=100).order)
    room.report(exhaust=Observed(on=False))
    (drive,) = only(room.pass_time(20), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    actions = room.measure(temp_c=22.0)
    assert (only(actions, Stop), only(actions, Drive)) == ([Stop(EXHAUST, "interlock_ended")], [])


def test_fan_whose_device_started_anew_is_not_kept_off() -> None:
    """Who switched it on last did not keep it off, though it is off: it goes to its safe state."""
    room = ControlRoom(node=node_of(Actuator(name="exhaust", role=Role.EXHAUST, safe_percent=30)))
    room.set(EXHAUST, PERSON, percent=60)
    room.report(exhaust=Observed(on=False, reason="boot"))
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    (back,) = only(room.measure(temp_c=22.0), Drive)
    assert back.command.percent == 30


def carried(room: ControlRoom, actions: list[Action], on: list[bool]) -> None:
    """Let the device do what is wanted, and its answers be lost; note whether the fan is on."""
    for action in actions:
        match action:
            case Drive(command, who):
                room.accept(EXHAUST, who, percent=command.percent)
            case Stop(key, code):
                room.accept(key, system(code), on=False)
            case _:
                continue
        on.append(isinstance(action, Drive))


def test_lost_answers_do_not_stop_a_driven_fan(room: ControlRoom) -> None:
    """What an interlock wants is asked for again, and never told to stop; what nobody wants any more is."""
    on: list[bool] = []
    carried(room, room.measure(temp_c=36.0), on)
    for second in range(60):
        room.now += 1
        room.controller.expire(room.moment)
        if second % 10 == 7:
            carried(room, room.report(exhaust=Observed(on=True, percent=100, reason="command")), on)
        carried(room, room.controller.tick(room.moment), on)
    assert on == [True] * 7
    room.now += 6
    room.controller.expire(room.moment)
    carried(room, room.measure(temp_c=22.0), on)
    assert on == [True] * 7 + [False]
    room.now += 6
    room.controller.expire(room.moment)
    assert only(room.report(exhaust=Observed(on=True, percent=100)), Stop) == [Stop(EXHAUST, "unasked")]


def test_driven_fan_that_stays_on_in_smoke_is_a_fault(room: ControlRoom) -> None:
    """What no interlock may drive any more is judged like everything that is on unasked, and is not given back."""
    room.set(EXHAUST, percent=30)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    (stop,) = only(room.measure(smoke=True), Stop)
    room.set(EXHAUST, system(stop.code), on=False)
    assert only(room.report(exhaust=Observed(on=True, percent=100)), Faulted) == []
    room.now += 5
    assert only(room.report(exhaust=Observed(on=True, percent=100)), Faulted) == [Faulted(EXHAUST, "mismatch")]


def test_fan_that_smoke_stopped_is_not_given_back(room: ControlRoom) -> None:
    """Neither while there is smoke nor when it was reset: what had stood before the heat is over."""
    room.set(EXHAUST, percent=30)
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    (stop,) = only(room.measure(smoke=True), Stop)
    room.set(EXHAUST, system(stop.code), on=False)
    room.report(exhaust=Observed(on=False, reason="command"))
    assert [action for _ in range(9) for action in room.pass_time(10)] == []
    room.measure(smoke=False)
    room.controller.interlocks.reset("zone-1")
    assert only(room.pass_time(1), Drive) == [drive]
    room.set(EXHAUST, drive.principal, percent=100)
    assert only(room.measure(temp_c=22.0), Stop) == [Stop(EXHAUST, "interlock_ended")]


@pytest.mark.parametrize("heat_first", [True, False])
def test_fan_that_may_run_in_smoke_is_driven_by_heat(heat_first: bool) -> None:
    """Smoke by itself drives nothing; heat drives the fan before, in and after it."""
    settings = InterlockSettings(enabled=NO_SENSORS, exhaust_on_smoke=True)
    room = ControlRoom(zone=zone_of(interlocks=settings))
    room.set(EXHAUST, percent=30)
    if heat_first:
        actions = room.measure(temp_c=36.0)
    else:
        assert only(room.measure(smoke=True), Drive) == []
        actions = room.measure(temp_c=36.0)
    (drive,) = only(actions, Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    for actions in (room.measure(smoke=True), room.pass_time(1), room.measure(smoke=False), room.pass_time(60)):
        assert (only(actions, Stop), only(actions, Drive)) == ([], [])
    room.measure(smoke=True)
    assert [each.command.percent for each in only(room.measure(temp_c=22.0), Drive)] == [30]


def test_smoke_that_ends_is_no_reason_to_wait(room: ControlRoom) -> None:
    """Where fans stop in smoke, heat drives them as soon as it is reset."""
    room.measure(smoke=True)
    assert only(room.measure(temp_c=36.0), Drive) == []
    room.measure(smoke=False)
    room.controller.interlocks.reset("zone-1")
    assert len(only(room.pass_time(1), Drive)) == 1


def test_heat_does_not_wait_for_what_waits_for_a_disk(room: ControlRoom) -> None:
    """What was not published yet, perhaps never, makes room; what was is answered first."""
    waits = room.book(EXHAUST, AI, percent=30).order
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    assert room.accept(EXHAUST, drive.principal, percent=100).replaced is waits
    assert only(room.pass_time(1), Drive) == []
    room = ControlRoom()
    room.accept(EXHAUST, AI, percent=30)
    assert only(room.measure(temp_c=36.0), Drive) == []
    room = ControlRoom()
    (drive,) = only(room.measure(temp_c=36.0), Drive)
    room.set(EXHAUST, drive.principal, percent=100)
    room.report(exhaust=Observed(on=True, percent=100))
    room.book(EXHAUST, PERSON, on=False)
    # Who cools down is in no hurry.
    assert only(room.measure(temp_c=22.0), Stop) == []


def test_output_that_is_no_exhaust_any_more_is_not_driven(room: ControlRoom) -> None:
    """What an interlock wanted ends with the role: on without a command, it is stopped like anything else."""
    only(room.measure(temp_c=36.0), Drive)
    assert room.controller.output(EXHAUST).forced
    room.configure(node=node_of(Actuator(name="exhaust", role=Role.CIRCULATION)))
    assert not room.controller.output(EXHAUST).forced
    room.report(exhaust=Observed(on=True, percent=100.0))
    assert {stop.key for _ in range(30) for stop in only(room.pass_time(1), Stop)} == {EXHAUST}
