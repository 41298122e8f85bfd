"""Tests of the policy: what is refused, by which rule, what is left, and when it frees up."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from custom_components.grokmon.gateway.actions import Ended, Stop
from custom_components.grokmon.gateway.actuators import Actuator, Command, Key, Observed, Role
from custom_components.grokmon.gateway.control import Controller
from custom_components.grokmon.gateway.errors import Code, PolicyError, RegistryError
from custom_components.grokmon.gateway.models import Result
from custom_components.grokmon.gateway.policy import LIMITS, limits_from
from custom_components.grokmon.gateway.principals import Caller, Principal
from custom_components.grokmon.gateway.zones import InterlockSettings, Stage

from .control_room import (
    AI,
    AUTOMATION,
    EXHAUST,
    LAMP,
    MAT,
    NOON,
    OUTLET,
    PERSON,
    PUMP,
    VALVE,
    VOICE,
    ControlRoom,
    node_of,
    only,
    zone_of,
)

DAY_S = 86_400.0
NIGHT = 2 * 3600.0


@pytest.fixture
def room() -> ControlRoom:
    """Return a room in which everything is off."""
    return ControlRoom()


def dose(room: ControlRoom, amount: float, **more: Any) -> None:
    """Give water, and let the pump's interval pass."""
    room.set(PUMP, amount_ml=amount, **more)
    room.report(irrigation=Observed(on=False, reason="done"))
    room.now += 61


def test_dark_period_is_for_every_caller(room: ControlRoom) -> None:
    """No light in the dark period, whoever asks, and the answer says when it ends."""
    room.day_s = NIGHT
    assert ControlRoom(day_s=NIGHT, now=0.5).refused(LAMP, percent=50).code is Code.DARK_PERIOD
    for who in (PERSON, AUTOMATION, VOICE, AI):
        error = room.refused(LAMP, who, percent=50)
        assert error.code is Code.DARK_PERIOD
        assert error.frees_in_s == 4 * 3600
        assert error.detail == "it is the dark period of Tent, stage vegetative; frees up in 4.0 h"
    room.set(EXHAUST, percent=50)


def test_override_lets_light_burn_for_its_time(room: ControlRoom) -> None:
    """An administrator's override ends by itself, and what is on with it."""
    room.day_s = NIGHT
    room.controller.policy.overrides["zone-1"] = room.now + 60
    room.set(LAMP, percent=50)
    room.controller.policy.sustain(room.controller.site(room.controller.output(LAMP)), room.moment)
    room.now += 60
    assert room.refused(LAMP, percent=60).code is Code.DARK_PERIOD


def test_water_of_the_zone_runs_out() -> None:
    """All pumps of a zone share its water; the answer says what is left and when more is."""
    room = ControlRoom(zone=zone_of(water_ml_day=1000))
    dose(room, 600)
    error = room.refused(PUMP, amount_ml=500)
    assert (error.code, error.limit, error.left) == (Code.BUDGET_EXCEEDED, 1000, 400)
    assert error.frees_in_s == DAY_S - 61
    assert error.facts() == {"limit": 1000, "left": 400, "frees_in_s": DAY_S - 61}
    dose(room, 400)
    assert room.refused(PUMP, amount_ml=1).left == 0
    room.now += DAY_S
    dose(room, 500)


@pytest.mark.parametrize(
    ("key", "role", "wanted"), [(PUMP, Role.IRRIGATION, "amount_ml"), (VALVE, Role.CO2_VALVE, "seconds")]
)
def test_outputs_of_a_zone_share_its_budget(key: Key, role: Role, wanted: str) -> None:
    """What one of two gave, the other one cannot give again; outside the zone it can."""
    second = replace(key, actuator="second")
    node = node_of(Actuator(name=key.actuator, role=role), Actuator(name="second", role=role))
    room = ControlRoom(zone=zone_of(water_ml_day=100, co2_hour_s=100), node=node)
    given: dict[str, Any] = {wanted: 60}
    room.set(key, **given)
    assert room.refused(second, **given).left == 40
    room.configure(node=replace(node, zone=None))
    room.set(second, **given)


def test_no_water_is_left() -> None:
    """Where more was given than the zone has now, nothing is left, not less than nothing."""
    room = ControlRoom(zone=zone_of(water_ml_day=500))
    dose(room, 400)
    less = zone_of(water_ml_day=300)
    left = room.controller.policy.water_left
    assert [left(zone, [PUMP], room.now) for zone in (room.zone, less)] == [100, 0]


def test_what_never_fits_never_frees_up() -> None:
    """A dose above the whole budget has no time at which it is allowed."""
    room = ControlRoom(zone=zone_of(water_ml_day=100))
    assert room.refused(PUMP, amount_ml=500).frees_in_s is None
    room.configure(zone=zone_of(water_ml_day=600))
    dose(room, 600)
    room.configure(zone=zone_of(water_ml_day=100))
    assert room.refused(PUMP, amount_ml=500).frees_in_s is None


def test_water_of_the_pump_runs_out() -> None:
    """A pump has a budget of its own, in a zone or without one."""
    pump = Actuator(name="irrigation", role=Role.IRRIGATION, day_ml=300)
    room = ControlRoom(node=node_of(pump, zone=None))
    dose(room, 200)
    assert room.refused(PUMP, amount_ml=200).left == 100


def test_doses_have_an_interval(room: ControlRoom) -> None:
    """A second dose has to wait."""
    room.set(PUMP, amount_ml=100)
    room.report(irrigation=Observed(on=False, reason="done"))
    room.now += 50
    error = room.refused(PUMP, amount_ml=100)
    assert (error.code, error.frees_in_s) == (Code.DOSE_TOO_SOON, 10)


@pytest.mark.parametrize(
    ("passed", "when"),
    [(0, "2.0 h"), (1, "120 min"), (7080, "2 min"), (7081, "119 s"), (7199.5, "0 s")],
)
def test_refusal_says_when_it_frees_up(passed: float, when: str) -> None:
    """Say it in words that need no clock: in seconds, minutes or hours."""
    pump = Actuator(name="irrigation", role=Role.IRRIGATION, interval_s=7200)
    room = ControlRoom(node=node_of(pump))
    room.set(PUMP, amount_ml=100)
    room.report(irrigation=Observed(on=False, reason="done"))
    room.now += passed
    error = room.refused(PUMP, amount_ml=100)
    assert (error.limit, error.frees_in_s) == (7200, 7200 - passed)
    assert error.detail == f"node/irrigation gives one dose in 7200 s; frees up in {when}"
    room.now += 7200 - passed
    room.set(PUMP, amount_ml=100)


def test_refusal_says_what_is_left(room: ControlRoom) -> None:
    """Name the budget, its length, and what is left of it; nothing of a time that never comes."""
    water = ControlRoom(zone=zone_of(water_ml_day=300))
    assert water.refused(PUMP, amount_ml=500).detail.endswith(": at most 300 mL in 24 hours, 300 mL left")
    dose(water, 100)
    whole = water.refused(PUMP, amount_ml=300)
    assert whole.frees_in_s == DAY_S - 61
    assert whole.detail.endswith(": at most 300 mL in 24 hours, 200 mL left; frees up in 24.0 h")
    for _ in range(2):
        room.set(VALVE, seconds=120)
        room.report(co2_valve=Observed(on=False, reason="done"))
        room.now += 61
    assert " in an hour, 0 " in room.refused(VALVE, seconds=60).detail


def test_only_a_refusal_by_the_device_refunds(room: ControlRoom) -> None:
    """A dose that failed, or was never answered, stays spent."""
    ledger = room.controller.ledger
    for result, spent in ((Result.REJECTED, 0), (Result.FAILED, 100)):
        order = room.accept(PUMP, amount_ml=100).order
        assert ledger.given(room.now, DAY_S, keys=[PUMP]) == 100
        room.answer(order, result)
        assert ledger.given(room.now, DAY_S, keys=[PUMP]) == spent
        room.now += 61


@pytest.mark.parametrize("zone", ["zone-1", None])
def test_co2_of_an_hour_runs_out(zone: str | None) -> None:
    """A valve may be open for 240 s in an hour."""
    valve = Actuator(name="co2_valve", role=Role.CO2_VALVE, interval_s=0, hour_s=240 if zone is None else 3600)
    room = ControlRoom(node=node_of(valve, zone=zone))
    for _ in range(2):
        room.set(VALVE, seconds=120)
        room.report(co2_valve=Observed(on=False, reason="command"))
        room.now += 121
    error = room.refused(VALVE, on=True)
    assert (error.code, error.left) == (Code.BUDGET_EXCEEDED, 0)
    assert "an hour" in error.detail


@pytest.mark.parametrize("actuator", [None, Actuator(name="grow_light", role=Role.GROW_LIGHT, hours_day=0.1)])
def test_lamp_hours_run_out(actuator: Actuator | None) -> None:
    """A lamp burns for no more than its hours, and then goes off."""
    node = node_of() if actuator is None else node_of(actuator)
    room = ControlRoom(zone=zone_of(lamp_hours=0.1 if actuator is None else None), node=node)
    room.set(LAMP, percent=50)
    room.keep_on(LAMP, 350)
    room.now += 11
    stops = [action for action in room.controller.tick(room.moment) if action.__class__.__name__ == "Stop"]
    assert [stop.code for stop in stops] == [Code.BUDGET_EXCEEDED.value]  # type: ignore[union-attr] # by its name
    error = room.refused(LAMP, percent=40)
    assert (error.limit, error.left) == (0.1, 0)


def burn(room: ControlRoom, seconds: float) -> None:
    """Let the lamp have burned for so long from now, and a day pass."""
    room.controller.ledger.begin(LAMP, room.now)
    room.controller.ledger.end(LAMP, room.now + seconds)
    room.now += DAY_S


@pytest.mark.parametrize("late", [1.0, 400.0, 4400.0])
def test_lamp_is_not_refused_for_having_gone_off_late(room: ControlRoom, late: float) -> None:
    """What the end of the last light day took, or a crash added, does not cost the next one."""
    burn(room, 18 * 3600 + late)
    room.set(LAMP, percent=50)
    assert only(room.pass_time(60), Stop) == []


def test_lamp_that_burned_far_too_long_is_refused(room: ControlRoom) -> None:
    """A day of a lamp is an hour and a quarter short, and no more; who is refused is told when it may burn."""
    burn(room, 18 * 3600 + 4600)
    refused = room.refused(LAMP, percent=50)
    assert (refused.code, refused.frees_in_s) == (Code.BUDGET_EXCEEDED, 100)
    room.now += 101
    room.set(LAMP, percent=50)


def test_lamp_burns_on_the_day_on_which_the_clocks_go_forward(room: ControlRoom) -> None:
    """The light day begins 23 hours after the last one: it is neither refused nor ended."""
    burn(room, 18 * 3600 + 1)
    room.now -= 3600
    room.set(LAMP, percent=50)
    room.keep_on(LAMP, 4 * 3600, every=60)


def test_lamp_of_which_nearly_all_day_is_asked_has_no_hours(room: ControlRoom) -> None:
    """Hours beyond the day of a lamp bind nothing."""
    room.configure(
        node=node_of(Actuator(name="grow_light", role=Role.GROW_LIGHT, hours_day=23)), zone=zone_of(lamp_hours=24)
    )
    room.controller.ledger.begin(LAMP, room.now)
    room.now += DAY_S
    room.set(LAMP, percent=50)


def test_lamp_hours_and_an_override() -> None:
    """Whoever has to see something may, beyond the hours of the zone; those of the lamp itself are a limit for all."""
    lamp = Actuator(name="grow_light", role=Role.GROW_LIGHT)
    room = ControlRoom(zone=zone_of(lamp_hours=0), node=node_of(lamp))
    assert room.refused(LAMP, percent=50).code is Code.BUDGET_EXCEEDED
    room.controller.policy.overrides["zone-1"] = room.now + 60
    room.set(LAMP, percent=50)
    room.configure(node=node_of(replace(lamp, hours_day=0)))
    assert room.refused(LAMP, percent=50).code is Code.BUDGET_EXCEEDED


def test_lamp_outside_every_zone() -> None:
    """Without a zone there is neither a dark period nor a budget, but for the lamp's own."""
    room = ControlRoom(node=node_of(zone=None), day_s=NIGHT)
    room.set(LAMP, percent=50)


def test_rate_is_by_output_and_class(room: ControlRoom) -> None:
    """Five commands a minute; off does not count, and another class has its own."""
    for percent in (10, 20, 30, 40, 50):
        room.set(EXHAUST, AUTOMATION, percent=percent)
        room.set(EXHAUST, AUTOMATION, percent=0)
    error = room.refused(EXHAUST, AUTOMATION, percent=60)
    assert (error.code, error.limit, error.left, error.frees_in_s) == (Code.CONTROL_RATE, 5, 0, 12)
    said = "at most 5 commands a minute for node/exhaust from the class automation; frees up in 12 s"
    assert error.detail == said
    room.set(LAMP, AUTOMATION, percent=60)
    room.now += 12
    room.set(EXHAUST, AUTOMATION, percent=60)
    room.set(EXHAUST, AUTOMATION, percent=0)
    room.set(EXHAUST, PERSON, percent=60)
    room.controller.policy.with_limits(limits_from({"automation": {"rate": 10}, "person": {"hold_s": 0}}))
    room.set(EXHAUST, AUTOMATION, percent=70)


def test_people_come_before_automations_and_those_before_the_ai(room: ControlRoom) -> None:
    """What a person set is not changed by others for a while; off always is."""
    room.set(EXHAUST, PERSON, percent=30)
    for who in (AUTOMATION, VOICE, AI):
        error = room.refused(EXHAUST, who, percent=90)
        assert (error.code, error.frees_in_s) == (Code.HELD, 300)
        assert error.detail == "the class person set node/exhaust and comes first; frees up in 5 min"
    room.set(EXHAUST, AI, percent=0)
    # Nor does anybody get it by having switched it off first.
    assert room.refused(EXHAUST, AI, percent=90).code is Code.HELD
    room.now += 301
    room.set(EXHAUST, AI, percent=60)
    room.set(EXHAUST, PERSON, percent=40)


def test_hold_ends_with_its_time(room: ControlRoom) -> None:
    """Others may change what a person set from the second on that they were told."""
    room.set(EXHAUST, PERSON, percent=30)
    room.now += 299.5
    assert room.refused(EXHAUST, AUTOMATION, percent=90).frees_in_s == 0.5
    room.now += 0.5
    room.set(EXHAUST, AUTOMATION, percent=90)


def test_two_callers_at_once(room: ControlRoom) -> None:
    """Whoever comes first in the order has the output; a higher one takes it from a lower one on its way."""
    room.accept(EXHAUST, PERSON, percent=30)
    assert str(room.refused(EXHAUST, AI, percent=90)) == "held: a command of the class person is on its way"
    other = ControlRoom()
    first = other.accept(EXHAUST, AI, percent=90).order
    assert other.accept(EXHAUST, PERSON, percent=30).replaced is first


@pytest.mark.parametrize(
    ("key", "wanted", "limit"),
    [
        (EXHAUST, {"percent": 91}, 90),
        (PUMP, {"amount_ml": 49}, 500),
        (PUMP, {"amount_ml": 501}, 500),
        (VALVE, {"seconds": 14}, 120),
    ],
)
def test_ai_has_tighter_bounds(room: ControlRoom, key: Key, wanted: dict[str, Any], limit: float) -> None:
    """What a person may, the AI may not."""
    error = room.refused(key, AI, **wanted)
    assert (error.code, error.limit) == (Code.AI_LIMIT, limit)
    room.set(key, PERSON, **wanted)


@pytest.mark.parametrize(
    ("key", "name", "least", "most"),
    [(EXHAUST, "percent", 0.1, 90), (PUMP, "amount_ml", 50, 500), (VALVE, "seconds", 15, 120)],
)
def test_ai_may_go_to_its_bounds(room: ControlRoom, key: Key, name: str, least: float, most: float) -> None:
    """The least and the most are allowed."""
    room.set(key, AI, **{name: least})
    room.report(**{key.actuator: Observed(on=False, reason="done")})
    room.now += 61
    room.set(key, AI, **{name: most})


def test_bounds_of_other_classes(room: ControlRoom) -> None:
    """Every class can be bounded."""
    room.controller.policy.with_limits(limits_from({"voice": {"max_percent": 40}}))
    assert room.refused(EXHAUST, VOICE, percent=50).code is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize(
    "changed",
    [
        {"colour": 1},
        {"rate": 0},
        {"rate": 0.5},
        {"rate": None},
        {"rate": "5"},
        {"rate": True},
        {"hold_s": -1},
        {"hold_s": nan},
        {"day_ml": inf},
        {"max_percent": 10**400},
        {"day_ml": []},
        {"hold_s": 1_000_001},
        {"rate": 5, "hold_s": -1},
    ],
)
def test_limits_that_make_no_sense(changed: dict[str, Any]) -> None:
    """Refuse what no command could be judged by, before one is."""
    with pytest.raises(RegistryError) as refused:
        limits_from({"ai": changed})
    assert refused.value.code is Code.FIELD_INVALID


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ai": {"hold_s": 1_000_001}}, "limits.ai.hold_s"),
        ({"voice": {"max_percent": 50}, "ai": {"colour": 1}}, "limits.ai.colour"),
        ({"robot": {}}, "limits.robot"),
        ({"system": {"rate": 1}}, "limits.system"),
    ],
)
def test_what_makes_no_sense_is_said(changed: dict[str, Any], said: str) -> None:
    """Name the limit, or the class that there is none of."""
    with pytest.raises(RegistryError) as refused:
        limits_from(changed)
    assert (refused.value.code, refused.value.detail) == (Code.FIELD_INVALID, said)


def test_limits_are_changed_one_after_the_other() -> None:
    """What was changed before stays."""
    before = limits_from({"ai": {"max_dose_ml": 300}, "voice": {"rate": 2}})
    limits = limits_from({"ai": {"rate": 1}}, before)
    assert (limits[Caller.AI].max_dose_ml, limits[Caller.AI].rate, limits[Caller.VOICE].rate) == (300, 1, 2)


def test_limit_that_is_none() -> None:
    """The water of a day may have no limit."""
    assert limits_from({"ai": {"day_ml": None, "rate": 1}})[Caller.AI].day_ml is None


def test_limit_that_the_form_allows() -> None:
    """The most that a person can type in is taken."""
    assert limits_from({"ai": {"day_ml": 1_000_000}})[Caller.AI].day_ml == 1_000_000


def test_ai_has_its_own_water() -> None:
    """The AI's share of a day runs out before the zone's."""
    room = ControlRoom()
    room.controller.policy.with_limits(limits_from({"ai": {"day_ml": 600}}))
    dose(room, 300, who=AUTOMATION)
    dose(room, 500, who=AI)
    error = room.refused(PUMP, AI, amount_ml=200)
    assert (error.code, error.limit, error.left) == (Code.BUDGET_EXCEEDED, 600, 100)
    assert error.detail == "the water of the class ai: at most 600 mL in 24 hours, 100 mL left"
    room.set(PUMP, AI, amount_ml=100)
    room.now += 61
    assert room.refused(PUMP, AI, amount_ml=50).left == 0
    dose(room, 200)


def test_pumps_of_a_zone_share_the_water_of_the_ai() -> None:
    """What one pump gave for the AI, the other one does not give it again; others may have more."""
    second = replace(PUMP, actuator="second")
    pumps = [Actuator(name=key.actuator, role=Role.IRRIGATION) for key in (PUMP, second)]
    room = ControlRoom(node=node_of(*pumps))
    room.controller.policy.with_limits(limits_from({"ai": {"day_ml": 600}}))
    room.set(PUMP, AI, amount_ml=500)
    assert room.refused(second, AI, amount_ml=200).left == 100
    room.set(second, PERSON, amount_ml=200)


def test_ai_needs_approval_where_it_is_set_so() -> None:
    """What needs approval is not done without, and everything else still holds with it."""
    pump = Actuator(name="irrigation", role=Role.IRRIGATION, needs_approval=True)
    room = ControlRoom(node=node_of(pump))
    assert room.refused(PUMP, AI, amount_ml=100).code is Code.APPROVAL_REQUIRED
    approved = replace(AI, approved_by="user-1")
    assert room.refused(PUMP, approved, amount_ml=501).code is Code.AI_LIMIT
    room.set(PUMP, approved, amount_ml=100)


def test_kill_switch_never_blocks_turning_off(room: ControlRoom) -> None:
    """The AI that is blocked can switch nothing on, and everything off: elsewhere it could not."""
    room.set(EXHAUST, AI, percent=50)
    room.set(OUTLET, PERSON, on=True)
    assert room.pass_time(1) == []
    room.controller.policy.ai_allowed = False
    assert str(room.refused(EXHAUST, AI, percent=60)) == (
        "ai_blocked: the AI is switched off; it may only turn things off"
    )
    with pytest.raises(PolicyError, match=r"^ai_blocked: the AI is switched off$"):
        room.controller.policy.sustain(room.controller.site(room.controller.output(EXHAUST)), room.moment)
    assert [action.key for action in room.pass_time(1) if hasattr(action, "key")] == [EXHAUST]
    room.set(EXHAUST, AI, on=False)


def test_ai_moves_a_zone_forward_only(room: ControlRoom) -> None:
    """An earlier stage has a longer light day: that would be a way out of the dark period."""
    policy, zone = room.controller.policy, zone_of(stage=Stage.FLOWERING)
    for stage in Stage:
        policy.judge_stage(zone, stage, PERSON)
    policy.judge_stage(zone, Stage.FLOWERING, AI)
    policy.judge_stage(zone, Stage.HARVEST, AI)
    with pytest.raises(PolicyError, match=r"^ai_limit: the AI moves .* only, not from flowering to vegetative$"):
        policy.judge_stage(zone, Stage.VEGETATIVE, AI)
    policy.ai_allowed = False
    with pytest.raises(PolicyError, match=r"^ai_blocked: the AI is switched off; it may only turn things off$"):
        policy.judge_stage(zone, Stage.HARVEST, AI)


def test_ai_sets_no_dose_that_it_may_not_give() -> None:
    """Whoever gives it then has other limits. Anybody else may set what the pump can give."""
    policy = ControlRoom().controller.policy
    small, large = (Command(key=PUMP, amount_ml=amount) for amount in (500.0, 501.0))
    policy.judge_dose(small, AI)
    policy.judge_dose(large, PERSON)
    with pytest.raises(PolicyError, match=r"^ai_limit: dose for the class ai: 50 to 500 mL$"):
        policy.judge_dose(large, AI)
    policy.ai_allowed = False
    policy.judge_dose(large, PERSON)
    with pytest.raises(PolicyError, match=r"^ai_blocked: the AI is switched off; it may only turn things off$"):
        policy.judge_dose(small, AI)


def test_compressor_rests() -> None:
    """A load stays off for its minimum time, and for what was missing of its time on."""
    mat = Actuator(name="heat_mat", role=Role.HEAT_MAT, min_on_s=100, min_off_s=50)
    room = ControlRoom(node=node_of(mat))
    room.set(MAT, on=True)
    room.now += 10
    room.set(MAT, on=False)
    error = room.refused(MAT, on=True)
    assert (error.code, error.frees_in_s) == (Code.MINIMUM_OFF_TIME, 140)
    assert error.detail == "node/heat_mat has to stay off for a while; frees up in 2 min"
    room.now += 139.5
    assert room.refused(MAT, on=True).frees_in_s == 0.5
    room.now += 0.5
    room.set(MAT, on=True)
    room.now += 200
    room.set(MAT, AI, on=False)
    assert room.refused(MAT, on=True).frees_in_s == 50


@pytest.fixture
def compressor() -> ControlRoom:
    """Return a room whose compressor, which rests for 50 s, has been on for a while."""
    room = ControlRoom(node=node_of(Actuator(name="heat_mat", role=Role.HEAT_MAT, min_off_s=50)))
    room.set(MAT, on=True)
    room.now += 100
    return room


@pytest.mark.parametrize("restart", [True, False])
def test_compressor_that_stopped_unseen_rests(compressor: ControlRoom, restart: bool) -> None:
    """One that ended by its lease while nobody heard it may have done so just now."""
    room = compressor
    if restart:
        snapshot = room.controller.snapshot()
        room.controller = Controller()
        room.configure()
        room.now += 120
        room.controller.restore(snapshot, room.now, room.moment)
    else:
        room.controller.absent("node")
        room.pass_time(120)
    assert room.refused(MAT, on=True).code is Code.MINIMUM_OFF_TIME
    room.report(heat_mat=Observed(on=False, reason="lease"))
    assert room.refused(MAT, on=True).frees_in_s == 50
    room.now += 49
    room.report(heat_mat=Observed(on=False, reason="lease"))
    assert room.refused(MAT, on=True).frees_in_s == 1
    room.now += 1
    room.set(MAT, on=True)


def test_compressor_that_is_about_to_stop_rests(compressor: ControlRoom) -> None:
    """From *off* until it may start again it is refused, whatever the device says of it and when."""
    room = compressor
    off = room.accept(MAT, on=False).order
    assert room.refused(MAT, on=True).frees_in_s == 50
    room.now += 1
    room.answer(off)
    assert room.refused(MAT, on=True).frees_in_s == 50
    room.now += 30
    room.report(heat_mat=Observed(on=False, reason="command"))
    assert room.refused(MAT, on=True).frees_in_s == 20
    room.now += 20
    room.set(MAT, on=True)
    room.set(MAT, on=True)


def test_compressor_whose_end_is_not_answered_rests(compressor: ControlRoom) -> None:
    """An *off* that was lost may have been carried out, and one that was not sent was not."""
    room = compressor
    room.controller.withdraw(room.accept(MAT, on=False).order)
    room.set(MAT, on=True)
    room.accept(MAT, on=False)
    room.now += 5
    room.controller.expire(room.moment)
    assert room.refused(MAT, on=True).frees_in_s == 45
    room.report(heat_mat=Observed(on=True))
    room.accept(MAT, on=True)


def test_compressor_whose_lease_was_lost_rests(compressor: ControlRoom) -> None:
    """It has stopped when its lease must have been over, and says so later."""
    room = compressor
    assert only(room.pass_time(20), Ended) == [Ended(MAT, "lost")]
    room.now += 30
    room.report(heat_mat=Observed(on=False, reason="lease"))
    assert room.refused(MAT, on=True).frees_in_s == 20


@pytest.mark.parametrize("answered", [True, False])
def test_compressor_that_is_switched_on_and_off_at_once_rests(answered: bool) -> None:
    """It started, although nobody waited for the answer, or none says so."""
    room = ControlRoom(node=node_of(Actuator(name="heat_mat", role=Role.HEAT_MAT, min_off_s=50)))
    order = room.accept(MAT, on=True).order
    if answered:
        room.answer(order)
    room.now += 1
    room.set(MAT, on=False)
    assert room.refused(MAT, on=True).frees_in_s == 50


def test_compressor_of_which_only_the_end_is_known() -> None:
    """What was never seen to start began, at the latest, when it stopped."""
    room = ControlRoom(node=node_of(Actuator(name="heat_mat", role=Role.HEAT_MAT, min_on_s=100, min_off_s=50)))
    room.controller.outputs[MAT].stopped_at = room.now
    assert room.refused(MAT, on=True).frees_in_s == 150


def test_loads_start_one_after_the_other(room: ControlRoom) -> None:
    """Lamps and heaters have a turn each; fans have not, and what is on needs none."""
    policy, outputs = room.controller.policy, room.controller.outputs
    assert [policy.start_delay(outputs[key], 10) for key in (LAMP, MAT, EXHAUST)] == [0, 2, 0]
    assert policy.start_delay(outputs[LAMP], 11) == 3
    assert policy.start_delay(outputs[LAMP], 100) == 0
    room.set(MAT, on=True)
    assert policy.start_delay(outputs[MAT], 101) == 0


def test_who_asks_in_vain_does_not_push_others_back(room: ControlRoom) -> None:
    """A load has one place in the queue, however often it is asked for."""
    policy, outputs = room.controller.policy, room.controller.outputs
    assert [policy.start_delay(outputs[LAMP], 10) for _ in range(100)] == [0, *(2 for _ in range(99))]
    assert policy.start_delay(outputs[MAT], 10) == 4


def test_interlock_and_stale_sensor_refuse(room: ControlRoom) -> None:
    """Safety comes before everything, and needs its sensors."""
    room.measure(smoke=True)
    assert str(room.refused(EXHAUST, percent=50)) == "interlocked: the interlock smoke keeps node/exhaust off"
    strict = ControlRoom(zone=zone_of(interlocks=InterlockSettings()))
    refused = strict.refused(LAMP, percent=50)
    assert str(refused) == "sensor_stale: no sensor says lately and plausibly what smoke is"
    strict.measure(smoke=False, temp_c=22.0)
    strict.set(LAMP, percent=50)


def test_fault_and_driving_interlock_refuse(room: ControlRoom) -> None:
    """Name the fault, and the interlock that has a use for the fan."""
    for _ in range(2):
        room.report(outlet=Observed(on=True))
        room.now += 5
    assert str(room.refused(OUTLET, on=True)) == (
        "output_fault: node/outlet has a fault (mismatch) that an administrator has to reset"
    )
    room.measure(temp_c=36.0)
    assert str(room.refused(EXHAUST, percent=50)) == "interlocked: the interlock over_temperature drives node/exhaust"


@pytest.mark.parametrize(
    ("actuator", "who", "wanted", "said"),
    [
        (
            Actuator(name="pump", role=Role.IRRIGATION, day_ml=100),
            PERSON,
            {"amount_ml": 150},
            "budget_exceeded: the water of node/pump: at most 100 mL in 24 hours, 100 mL left",
        ),
        (
            Actuator(name="pump", role=Role.IRRIGATION),
            PERSON,
            {"amount_ml": 250},
            "budget_exceeded: the water of Tent: at most 200 mL in 24 hours, 200 mL left",
        ),
        (
            Actuator(name="valve", role=Role.CO2_VALVE, hour_s=40),
            PERSON,
            {"seconds": 45},
            "budget_exceeded: the CO2 of node/valve: at most 40 s in an hour, 40 s left",
        ),
        (
            Actuator(name="valve", role=Role.CO2_VALVE),
            PERSON,
            {"seconds": 60},
            "budget_exceeded: the CO2 of Tent: at most 50 s in an hour, 50 s left",
        ),
        (
            Actuator(name="lamp", role=Role.GROW_LIGHT, hours_day=0),
            PERSON,
            {"percent": 10},
            "budget_exceeded: the light of node/lamp: at most 0 h in 24 hours, 0 h left",
        ),
        (
            Actuator(name="fan", role=Role.EXHAUST),
            AI,
            {"percent": 91},
            "ai_limit: percent for the class ai: 0 to 90 %",
        ),
        (
            Actuator(name="pump", role=Role.IRRIGATION),
            AI,
            {"amount_ml": 49},
            "ai_limit: dose for the class ai: 50 to 500 mL",
        ),
        (
            Actuator(name="valve", role=Role.CO2_VALVE),
            AI,
            {"seconds": 14},
            "ai_limit: injection for the class ai: 15 to 120 s",
        ),
        (
            Actuator(name="fan", role=Role.EXHAUST, needs_approval=True),
            AI,
            {"percent": 50},
            "approval_required: an administrator has to approve what the AI does to node/fan",
        ),
    ],
)
def test_refusal_says_why(actuator: Actuator, who: Principal, wanted: dict[str, Any], said: str) -> None:
    """Name the rule, the output or the zone, and the figures, in words for people and the AI alike."""
    room = ControlRoom(zone=zone_of(water_ml_day=200, co2_hour_s=50), node=node_of(actuator))
    assert str(room.refused(Key("node", actuator.name), who, **wanted)) == said


@pytest.mark.parametrize(
    ("stage", "sentence", "placeholders"),
    [
        (Stage.VEGETATIVE, "dark_period", {"zone": "Tent", "wait": "4.0 h"}),
        (Stage.HARVEST, "dark_period_always", {"zone": "Tent"}),
    ],
)
def test_sentence_of_the_dark(stage: Stage, sentence: str, placeholders: dict[str, str]) -> None:
    """Say when it ends, or that it does not."""
    error = ControlRoom(zone=zone_of(stage=stage), day_s=NIGHT, now=0.5).refused(LAMP, percent=50)
    assert error.sentence == sentence
    assert error.placeholders == {"detail": error.detail} | placeholders


def test_notes_have_a_rate_of_their_own(room: ControlRoom) -> None:
    """Who writes much may still command, and the other way round."""
    policy = room.controller.policy
    for _ in range(5):
        policy.judge_note(AI, room.moment)
    with pytest.raises(PolicyError, match=r"^control_rate: at most 5 notes a minute from the class ai; .* 12 s$"):
        policy.judge_note(AI, room.moment)
    room.set(EXHAUST, AI, percent=50)
    policy.judge_note(PERSON, room.moment)


def says(error: PolicyError, sentence: str, **placeholders: str) -> bool:
    """Tell whether a refusal is said to a person by a sentence, with what stands in it beside the detail."""
    return (error.sentence, error.placeholders) == (sentence, {"detail": error.detail} | placeholders)


def test_sentences_of_interlocks_sensors_and_faults(room: ControlRoom) -> None:
    """Say what keeps it off, what drives it, what nobody measures, and what is wrong with it."""
    strict = ControlRoom(zone=zone_of(interlocks=InterlockSettings()))
    assert says(strict.refused(LAMP, percent=50), "sensor_stale", metric="smoke")
    for _ in range(2):
        room.report(outlet=Observed(on=True))
        room.now += 5
    assert says(room.refused(OUTLET, on=True), "output_fault", fault="mismatch")
    room.measure(temp_c=36.0)
    assert says(room.refused(EXHAUST, percent=50), "interlocked_driven")
    room.measure(smoke=True)
    assert says(room.refused(EXHAUST, percent=50), "interlocked_smoke")


def test_sentences_of_classes(room: ControlRoom) -> None:
    """Say within which bounds a class is, who was there before, and what the AI may not."""
    figures = {"low": "50", "high": "500", "unit": "mL", "limit": "500"}
    assert says(room.refused(PUMP, AI, amount_ml=501), "ai_limit", **figures)
    policy = room.controller.policy
    with pytest.raises(PolicyError) as error:
        policy.judge_stage(zone_of(stage=Stage.FLOWERING), Stage.VEGETATIVE, AI)
    assert says(error.value, "ai_limit_stage", zone="Tent")
    room.accept(EXHAUST, PERSON, percent=50)
    assert says(room.refused(EXHAUST, AI, percent=60), "held_pending")
    policy.with_limits(limits_from({"ai": {"day_ml": 100}}))
    spent = room.refused(PUMP, AI, amount_ml=150)
    assert says(spent, "budget_exceeded_class", limit="100", left="100")


def test_sentence_of_a_lamp() -> None:
    """Say that it is light that is used up."""
    lamp = Actuator(name="grow_light", role=Role.GROW_LIGHT, hours_day=0)
    assert ControlRoom(node=node_of(lamp)).refused(LAMP, percent=50).sentence == "budget_exceeded_light"


def test_sentence_of_a_budget() -> None:
    """Say when something frees up, or that it is too much in any case."""
    room = ControlRoom(zone=zone_of(water_ml_day=200))
    figures = {"whose": "Tent", "unit": "mL", "hours": "24", "limit": "200"}
    error = room.refused(PUMP, amount_ml=250)
    assert error.sentence == "budget_exceeded_too_much"
    assert error.placeholders == {"detail": error.detail, "left": "200", **figures}
    dose(room, 150)
    error = room.refused(PUMP, amount_ml=100)
    assert error.sentence == "budget_exceeded"
    assert error.placeholders == {"detail": error.detail, "left": "50", "wait": "24.0 h", **figures}


def test_water_left_of_a_zone() -> None:
    """What is left is the stage's water less what was given."""
    room = ControlRoom(zone=zone_of(stage=Stage.SEEDLING))
    dose(room, 300)
    assert room.controller.policy.water_left(room.zone, [PUMP], room.now) == 700


def test_limits_of_classes_from_plain_data() -> None:
    """What was not changed is at its default."""
    limits = limits_from({"ai": {"max_dose_ml": 300}})
    assert (limits[Caller.AI].max_dose_ml, limits[Caller.AI].min_dose_ml) == (300, 50)
    assert limits[Caller.PERSON] == LIMITS[Caller.PERSON]


@pytest.mark.parametrize(("hour", "words"), [(5.99, "36 s"), (5.5, "30 min"), (3, "3.0 h")])
def test_when_is_said_in_words(room: ControlRoom, hour: float, words: str) -> None:
    """Seconds, minutes and hours, each where a person would use them."""
    room.day_s = hour * 3600
    assert words in room.refused(LAMP, percent=50).detail
    room.day_s = NOON
    room.set(OUTLET, on=True)
