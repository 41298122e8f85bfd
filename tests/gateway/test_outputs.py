"""Tests of outputs: what stands, until when, and what the word of a device means for it."""

from dataclasses import replace
from typing import Any

import pytest

from custom_components.grokmon.gateway.actuators import Actuator, Command, Observed, Role
from custom_components.grokmon.gateway.models import Ack, Result
from custom_components.grokmon.gateway.orders import Order, Wish
from custom_components.grokmon.gateway.outputs import GIVEN_BACK, Output, Step
from custom_components.grokmon.gateway.principals import Caller, Principal, system

from .control_room import AUTOMATION, EXHAUST, GUEST, PERSON

FAN = Actuator(name="exhaust", role=Role.EXHAUST)
ORDER = Order(cid="1", command=Command(key=EXHAUST, on=True, percent=50.0), principal=AUTOMATION, at=9, lease_s=300)
OFF = replace(ORDER, cid="2", command=Command(key=EXHAUST, on=False, percent=0.0), lease_s=0)


@pytest.fixture
def output() -> Output:
    """Return a fan at half speed since second 10."""
    output = Output(EXHAUST, FAN)
    output.confirm(ORDER, 10)
    return output


@pytest.mark.parametrize(("run_s", "until"), [(None, None), (20.0, 30.0)])
def test_what_was_confirmed_stands(output: Output, run_s: float | None, until: float | None) -> None:
    """Begin a lease with the answer, also after a difference."""
    output.mismatch_since = 9
    order = replace(ORDER, run_s=run_s)
    output.confirm(order, 10)
    assert output.wish == Wish(order, until, renewed_at=10, lease_until=310, confirmed_at=10)
    assert output.in_step


def test_nothing_stands_after_off(output: Output) -> None:
    """End what stands with the answer, and every difference from it."""
    output.mismatch_since = 9
    output.confirm(OFF, 11)
    assert output.wish is None
    assert output.in_step


def test_off_ends_what_stands_before_it_is_answered(output: Output) -> None:
    """Renew nothing that is to go off, whatever becomes of the order; what is set again stands until it is."""
    assert output.send(ORDER) is None
    assert output.wish is not None
    assert output.send(OFF) is ORDER
    assert output.wish is None


def test_renewal_is_no_confirmation(output: Output) -> None:
    """Prolong the lease from the time of the renewal; the device has yet to say that it goes on."""
    output.renewed(110)
    assert output.wish == Wish(ORDER, None, renewed_at=110, lease_until=410, confirmed_at=10)


def test_last_renewal_is_for_what_is_left(output: Output) -> None:
    """Give no lease that is longer than what is still to run, and none of less than a second."""
    output.confirm(replace(ORDER, run_s=320), 10)
    assert [output.lease_of(now) for now in (10, 30, 30.5, 31, 329, 329.5, 400)] == [300, 300, 300, 299, 1, 1, 1]
    output.renewed(200)
    assert output.wish is not None
    assert output.wish.lease_until == 330


@pytest.mark.parametrize("reason", ["boot", "lease", "done", "stopped", "safe", "local"])
@pytest.mark.parametrize("cid", [None, "1"])
def test_end_without_a_command(output: Output, reason: str, cid: str | None) -> None:
    """Believe a device that tells why it ended what stands."""
    output.forced, output.returns, output.mismatch_since = True, 1, 19
    assert output.report(Observed(on=False, reason=reason, cid=cid), 20) is Step.ENDED
    assert (output.wish, output.in_step, output.forced) == (None, True, False)


def test_end_of_what_an_interlock_drives(output: Output) -> None:
    """It is still needed."""
    output.forced = True
    output.report(Observed(on=False, reason="boot"), 20)
    assert (output.wish, output.forced) == (None, True)


@pytest.mark.parametrize(
    "observed",
    [
        Observed(on=False, reason="lease", cid="0"),
        Observed(on=False, reason="command"),
        Observed(on=False),
        Observed(on=True, percent=52, reason="lease"),
    ],
)
def test_end_of_something_else(output: Output, observed: Observed) -> None:
    """Take what does not end the wish that stands for a difference."""
    assert output.report(observed, 20) is Step.SAME
    assert output.wish is not None
    assert output.mismatch_since == 20


def test_difference_is_a_fault_after_its_time(output: Output) -> None:
    """Count the time from the first report that differs; one that does not begins it anew."""
    wrong, right = Observed(on=True, percent=20), Observed(on=True, percent=50)
    reports = [(11, wrong), (15.9, wrong), (15.9, right), (16, wrong), (20.9, wrong), (21, wrong)]
    assert [output.report(observed, now) for now, observed in reports] == [*[Step.SAME] * 5, Step.FAULT]
    assert output.wish is not None
    assert output.wish.confirmed_at == 15.9


@pytest.mark.parametrize(
    ("safe", "percent", "step"),
    [
        (0, 0, Step.UNWANTED),
        (0, 1, Step.UNWANTED),
        (0, None, Step.UNWANTED),
        (0.5, 0.5, Step.SAME),
        (1, 0, Step.SAME),
        (1, 2, Step.SAME),
        (1, 2.1, Step.UNWANTED),
        (30, 28.9, Step.UNWANTED),
        (30, None, Step.SAME),
    ],
)
def test_rest_of_a_fan(safe: float, percent: float | None, step: Step) -> None:
    """Leave a fan alone where nobody wants anything of it, as long as it is off or at its safe state."""
    output = Output(EXHAUST, replace(FAN, safe_percent=safe))
    assert output.report(Observed(on=True, percent=percent), 1) is step
    assert output.report(Observed(on=False), 2) is Step.SAME
    assert output.in_step


@pytest.mark.parametrize(("speeds", "most"), [(None, 51), (1, 101), (2, 76), (25, 53)])
def test_device_is_near_enough(output: Output, speeds: int | None, most: float) -> None:
    """Take no difference for one that is half a step of a fan with few speeds, and rounded."""
    output.actuator = replace(FAN, speeds=speeds)
    for percent, near in ((most, True), (most + 0.1, False), (100 - most, True), (99.9 - most, False)):
        output.report(Observed(on=True, percent=percent), 20)
        assert output.in_step is near


def test_unwanted_is_a_fault_after_its_time() -> None:
    """Give a device the same time to stop what nobody wants, and tell it so once."""
    output = Output(EXHAUST, FAN)
    steps = [output.report(Observed(on=True, percent=50), now) for now in (1, 5.9, 6)]
    assert steps == [Step.UNWANTED, Step.SAME, Step.FAULT]
    assert not output.in_step
    output.fault = "mismatch"
    steps = [output.report(Observed(on=True, percent=50), now) for now in (7, 10.9, 11, 20.9, 21)]
    assert steps == [Step.SAME, Step.SAME, Step.UNWANTED, Step.SAME, Step.UNWANTED]
    output.fault = None
    assert output.report(Observed(on=False), 22) is Step.SAME
    steps = [output.report(Observed(on=True, percent=50), now) for now in (23, 27.9, 28)]
    assert steps == [Step.UNWANTED, Step.SAME, Step.FAULT]


def test_device_that_says_done_and_stays_on() -> None:
    """No answer gives it more time; only that it was asked for, off, or let go of, does."""
    output, order = Output(EXHAUST, FAN), replace(ORDER, command=Command(key=EXHAUST, on=False))
    on = Observed(on=True, percent=50)
    assert output.report(on, 1) is Step.UNWANTED
    for now in (4, 7, 10):
        output.send(order)
        output.pending = None
        output.confirm(order, now)
        assert output.report(on, now) is Step.SAME
    assert output.report(on, 11) is Step.FAULT
    output.drop()
    assert output.report(on, 12) is Step.UNWANTED
    output.confirm(ORDER, 13)
    output.report(on, 14)
    output.drop()
    assert output.report(on, 25) is Step.UNWANTED
    assert output.report(on, 29.9) is Step.SAME


@pytest.mark.parametrize("on", [True, False])
def test_what_was_unasked_is_over(on: bool) -> None:
    """What is at rest, or was asked for, begins anew, also where that was said while a command was on its way."""
    output = Output(EXHAUST, FAN)
    assert output.report(Observed(on=True, percent=50), 1) is Step.UNWANTED
    order = ORDER if on else replace(ORDER, command=Command(key=EXHAUST, on=False))
    output.send(order)
    output.report(Observed(on=on, percent=50), 2)
    output.pending = None
    output.confirm(order, 2)
    if on:
        assert output.report(Observed(on=False, reason="local"), 3) is Step.ENDED
    assert output.report(Observed(on=True, percent=50), 12) is Step.UNWANTED
    assert output.report(Observed(on=True, percent=50), 16.9) is Step.SAME


@pytest.mark.parametrize(
    ("observed", "stands"),
    [
        (Observed(on=True, percent=50, reason="command", cid="2"), True),
        (Observed(on=True, percent=50, reason="command"), True),
        (Observed(on=True, percent=80, reason="command", cid="1"), True),
        (Observed(on=True, percent=80, reason="fault"), True),
        (Observed(on=True, percent=80, reason="command"), False),
        (Observed(on=True, percent=80, reason="command", cid="2"), False),
        (Observed(on=False, reason="command", cid="2"), False),
        (Observed(on=False, reason="command"), False),
        (Observed(on=False, reason="command", cid="1"), True),
    ],
)
def test_wish_of_an_earlier_run(output: Output, observed: Observed, stands: bool) -> None:
    """A device knows better than the disk what it was told last, but only the first time that it speaks."""
    again = Output(EXHAUST, FAN)
    again.take_up(output.as_dict(), 12)
    again.report(observed, 13)
    assert (again.wish is not None) is stands
    spoken = Output(EXHAUST, FAN)
    spoken.take_up(output.as_dict(), 12)
    spoken.report(Observed(on=True, percent=50, cid="1"), 13)
    spoken.report(observed, 14)
    assert spoken.wish is not None


def test_wish_of_an_earlier_run_that_is_replaced(output: Output) -> None:
    """What was carried out since is of this run."""
    again = Output(EXHAUST, FAN)
    again.take_up(output.as_dict(), 12)
    again.confirm(replace(ORDER, cid="2"), 13)
    again.report(Observed(on=False, reason="command"), 14)
    assert again.wish is not None


def test_wish_of_an_earlier_run_takes_the_name_of_what_goes_on(output: Output) -> None:
    """A device renews only the command that it goes by."""
    again = Output(EXHAUST, FAN)
    again.take_up(output.as_dict(), 12)
    for cid, known in ((None, "1"), ("2", "2"), ("3", "2")):
        again.report(Observed(on=True, percent=50, reason="command", cid=cid), 13)
        assert again.wish is not None
        again.taken_up = again.wish.order.cid == "1"
        assert again.wish.order.cid == known


def test_short_lease_is_renewed_again_before_it_ends(output: Output) -> None:
    """It is tried as often as it would have been."""
    assert output.wish is not None
    output.wish.order = replace(output.wish.order, lease_s=6)
    output.not_renewed(200)
    assert output.wish.renewed_at == 200


def test_renewal_that_was_not_sent(output: Output) -> None:
    """It is due again in five seconds, whatever the lease."""
    output.not_renewed(200)
    assert output.wish is not None
    assert (output.wish.renewed_at, output.wish.lease_until) == (105, 310)
    output.wish = None
    output.not_renewed(200)
    assert output.wish is None


def test_times_of_the_last_start_and_stop() -> None:
    """Note when a device first says that it is on, and that it is off."""
    output, times = Output(EXHAUST, FAN), []
    for now, on in ((1, False), (2, True), (3, True), (4, False), (5, False), (6, True)):
        output.report(Observed(on=on, percent=50, reason="local"), now)
        times.append((output.started_at, output.stopped_at))
    assert times == [(None, None), (2, None), (2, None), (2, 4), (2, 4), (6, 4)]


def test_what_is_dropped_leaves_nothing(output: Output) -> None:
    """Give up what is on its way and what stands, and return the one on its way."""
    output.send(ORDER)
    output.forced, output.resume, output.mismatch_since = True, ORDER, 9
    assert output.drop() is ORDER
    assert output == Output(EXHAUST, FAN, started_at=10)
    assert output.drop() is None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fault": "mismatch", "started_at": 1.0, "stopped_at": 2.0},
        {
            "wish": Wish(replace(ORDER, run_s=20.0), 30.0, renewed_at=10, lease_until=310, confirmed_at=12),
            "taken_up": True,
        },
        {"forced": True},
        {"forced": True, "resume": ORDER},
        {"let_be": True, "held_by": Caller.PERSON, "commanded_at": 11.0},
    ],
)
def test_output_over_a_restart(changes: dict[str, Any]) -> None:
    """Save what has to survive a restart, and take it up again as it was."""
    before, after = Output(EXHAUST, FAN, **changes), Output(EXHAUST, FAN)
    after.take_up(before.as_dict(), 12)
    assert after == before


def test_output_of_an_earlier_release() -> None:
    """Take up what does not say who holds it, nor that it is to be let be."""
    data = Output(EXHAUST, FAN, let_be=True, held_by=Caller.PERSON, commanded_at=11.0, stopped_at=2.0).as_dict()
    for name in ("forced", "resume", "kept_off", "let_be", "held_by", "commanded_at"):
        del data[name]
    after = Output(EXHAUST, FAN)
    after.take_up(data, 12)
    assert after == Output(EXHAUST, FAN, stopped_at=2.0)


@pytest.mark.parametrize(
    ("limits", "percent"),
    [
        ({}, 0),
        ({"min_percent": 20}, 0),
        ({"safe_percent": 30}, 30),
        ({"safe_percent": 10, "min_percent": 20}, 20),
        ({"safe_percent": 90, "max_percent": 80}, 80),
    ],
)
def test_rest_is_where_a_fan_goes_when_nobody_asks(limits: dict[str, Any], percent: float) -> None:
    """Ask for the safe state, as near as the fan may be set."""
    assert Output(EXHAUST, replace(FAN, **limits)).rest == Command(key=EXHAUST, percent=percent)


def test_wish_over_a_restart(output: Output) -> None:
    """Take up a wish while its lease runs, as one that the device has yet to confirm."""
    data = output.as_dict()
    for now, stands in ((309.9, True), (310, False)):
        after = Output(EXHAUST, FAN)
        after.take_up(data, now)
        assert (after.wish is not None) is stands


@pytest.mark.parametrize("who", [PERSON, GUEST, system("over_temperature")])
def test_what_is_said_of_a_driven_fan_again_and_again(who: Principal) -> None:
    """Anybody's off and the interlock's on are on record once a minute; an administrator's off is a decision."""
    output = Output(EXHAUST, FAN, forced=True)
    assert output.is_repeated(Command(key=EXHAUST, on=False), who) is not who.administrator
    assert output.is_repeated(Command(key=EXHAUST, percent=100), who) is (who.caller is Caller.SYSTEM)


OFF_COMMAND = Command(key=EXHAUST, on=False)
ON = Observed(on=True, percent=50)


@pytest.mark.parametrize(
    ("output", "who", "repeated"),
    [
        (Output(EXHAUST, FAN), AUTOMATION, True),
        (Output(EXHAUST, FAN, observed=ON), AUTOMATION, True),
        (Output(EXHAUST, FAN, started_at=1.0), AUTOMATION, True),
        (Output(EXHAUST, FAN, pending=ORDER), AUTOMATION, False),
        (Output(EXHAUST, FAN), system("unasked"), True),
        (Output(EXHAUST, FAN, observed=ON), system("unasked"), False),
        (Output(EXHAUST, FAN, started_at=1.0), system("unasked"), False),
    ],
)
def test_off_that_is_said_again_and_again(output: Output, who: Principal, repeated: bool) -> None:
    """Off is on record once a minute where nobody wants it on; the hub has a reason where it is, or may be."""
    assert output.is_repeated(OFF_COMMAND, who) is repeated
    assert not output.is_repeated(ORDER.command, who)


@pytest.mark.parametrize(("observed", "stands"), [(None, False), (ON, False), (Observed(on=False), True)])
def test_renewal_that_is_refused_without_a_state(output: Output, observed: Observed | None, stands: bool) -> None:
    """What was last heard counts: an end that was told, or is about to be, is not told otherwise."""
    output.observed = observed
    ack = Ack(device_id="node", cid="9", result=Result.REJECTED, reason="not_running", states={}, hello=None)
    output.answered(ORDER, ack, 11.0)
    assert (output.wish is not None) is stands


@pytest.mark.parametrize(("tried", "counted"), [(1, 1), (2, 1), (3, 2)])
def test_giving_back_that_nobody_could_be_told_of(output: Output, tried: int, counted: int) -> None:
    """A broker that is away uses up no try, and what was tried once is still to be given back."""
    output.returns = tried
    output.send(replace(ORDER, principal=system(GIVEN_BACK)))
    output.take_back()
    assert (output.returns, output.pending) == (counted, None)


@pytest.mark.parametrize("reason", ["lease", "boot", "safe"])
def test_fan_that_rests_at_its_safe_speed_has_ended(reason: str) -> None:
    """A lease that ran out because a renewal was lost is no fault of a fan that rests at a speed of its own."""
    output = Output(EXHAUST, replace(FAN, safe_percent=30.0))
    output.confirm(ORDER, 10)
    rests = Observed(on=True, percent=30, reason=reason)
    ack = Ack(
        device_id="node", cid="9", result=Result.REJECTED, reason="not_running", states={"exhaust": rests}, hello=None
    )
    output.answered(ORDER, ack, 11.0)
    assert output.wish is not None
    assert [output.report(rests, now) for now in (11.0, 20.0)] == [Step.ENDED, Step.SAME]
    assert output.in_step
