"""Tests of rehearsals: what a changed policy would have made of the past."""

from dataclasses import replace
from typing import Any

import pytest

from custom_components.grokmon.gateway.actuators import Actuator, Command, Key, Moment, Role
from custom_components.grokmon.gateway.models import Reading, Value
from custom_components.grokmon.gateway.policy import LIMITS, limits_from
from custom_components.grokmon.gateway.principals import Principal
from custom_components.grokmon.gateway.rehearsal import Happened, Rehearsal, rehearse
from custom_components.grokmon.gateway.zones import DAY_S, InterlockSettings, Stage, Zone

from .control_room import AI, EXHAUST, LAMP, NOON, PERSON, PUMP, node_of, sensors_of, zone_of

AS_IT_IS = {"limits": LIMITS, "ai_allowed": True}


def moment(at: float) -> Moment:
    """Return a second after a noon."""
    return Moment(wall=at, steady=at, day_s=(NOON + at) % DAY_S)


def asked(at: float, key: Key, who: Principal = PERSON, **wanted: Any) -> Happened:
    """Return a command of the past, at a second after a noon."""
    return Happened(moment(at), (Command(key=key, **wanted), who))


def measured(at: float, **values: Value) -> Happened:
    """Return a reading of the past."""
    reading = Reading(
        device_id="sensors",
        received_at=at,
        measured_at=at,
        values=dict(values),
        flags=(),
        late=False,
        meta={},
        hello=None,
    )
    return Happened(moment(at), reading)


PAST = [
    asked(10, PUMP, amount_ml=500),
    asked(100, PUMP, AI, amount_ml=400),
    asked(300, LAMP, percent=60),
    measured(200, temp_c=30.0, smoke=False),
    asked(400, EXHAUST, AI, percent=50),
]


def played(zone: Zone | None = None, policy: dict[str, Any] | None = None) -> Rehearsal:
    """Play the past."""
    return rehearse([zone or zone_of()], [node_of(), sensors_of("temp_c", "smoke")], policy or AS_IT_IS, PAST)


def test_nothing_happened() -> None:
    """An empty past refuses nothing."""
    assert rehearse([zone_of()], [node_of()], AS_IT_IS, []) == Rehearsal()


def test_past_is_allowed_as_it_was() -> None:
    """Under the policy of then, nothing would have been refused."""
    assert played() == Rehearsal(commands=4, readings=1, refused=[])


def test_less_water_would_have_refused_the_second_dose() -> None:
    """The answer says what, of whom, when, and by which rule."""
    outcome = played(zone_of(water_ml_day=800))
    (refused,) = outcome.refused
    assert (refused["output"], refused["caller"], refused["code"], refused["at"]) == (
        "node/irrigation",
        "ai",
        "budget_exceeded",
        100,
    )
    assert refused["params"] == {"amount_ml": 400}


def test_other_limits_of_temperature_and_of_the_ai() -> None:
    """Readings trip interlocks again, and classes have other limits."""
    strict = zone_of()
    strict = replace(strict, interlocks=replace(strict.interlocks, over_temperature_c=29.0))
    assert [refused["code"] for refused in played(strict).refused] == ["interlocked", "interlocked"]
    limits = {"limits": limits_from({"ai": {"max_dose_ml": 300}}), "ai_allowed": True}
    assert [refused["code"] for refused in played(policy=limits).refused] == ["ai_limit"]
    blocked = {"limits": LIMITS, "ai_allowed": False}
    assert [refused["code"] for refused in played(policy=blocked).refused] == ["ai_blocked", "ai_blocked"]


@pytest.mark.parametrize("dawn", [6.0, 6.51, 7.123])
def test_lamp_goes_off_when_it_gets_dark(dawn: float) -> None:
    """A lamp burns until the dark period, as the hub would have it, and again the next day."""
    zone = zone_of(lights_on_s=dawn * 3600)
    sunrise = zone.lights_on_s - NOON
    past = [asked(sunrise + day * (DAY_S + 1), LAMP, percent=60) for day in (1, 2, 3)]
    assert rehearse([zone], [node_of()], AS_IT_IS, past).refused == []
    strict = replace(zone, lamp_hours=17.0)
    assert rehearse([strict], [node_of()], AS_IT_IS, past).refused == []
    longer = [*past, asked(sunrise + DAY_S + 17.1 * 3600, LAMP, percent=70)]
    (refused,) = rehearse([strict], [node_of()], AS_IT_IS, longer).refused
    assert refused["code"] == "budget_exceeded"


def test_doses_add_up() -> None:
    """Every dose counts for the next, and what is refused is explained; readings are counted."""
    past = [asked(at, PUMP, amount_ml=300) for at in (0, 100, 200)]
    past += [measured(at, temp_c=25.0) for at in (50, 150)]
    outcome = rehearse([zone_of(water_ml_day=800)], [node_of(), sensors_of("temp_c")], AS_IT_IS, past)
    (refused,) = outcome.refused
    said = "the water of Tent: at most 800 mL in 24 hours, 200 mL left; frees up in 23.9 h"
    assert (refused["at"], refused["detail"]) == (200, said)
    assert (outcome.commands, outcome.readings) == (3, 2)


def test_nothing_happens_after_the_end() -> None:
    """A lamp that is set just before the dark is on until then."""
    lamp = Actuator(name="grow_light", role=Role.GROW_LIGHT, min_off_s=600)
    dusk = DAY_S - NOON
    past = [asked(dusk - 30, LAMP, percent=60), asked(dusk - 10, LAMP, percent=70)]
    assert rehearse([zone_of()], [node_of(lamp)], AS_IT_IS, past).refused == []


def test_zone_in_which_it_is_always_dark() -> None:
    """There is no change to wait for."""
    past = [asked(0, EXHAUST, percent=50), asked(100, LAMP, percent=60)]
    (refused,) = rehearse([zone_of(stage=Stage.HARVEST)], [node_of()], AS_IT_IS, past).refused
    assert refused["code"] == "dark_period"


def test_fan_is_driven_and_left_again() -> None:
    """What an interlock does is done in a rehearsal, too, and what stood before it is set again."""
    fan = Actuator(name="exhaust", role=Role.EXHAUST, min_off_s=3600)
    hot = [asked(0, EXHAUST, percent=50), measured(1000, temp_c=36.0)]
    past = [*hot, asked(1010, EXHAUST, percent=60), measured(1060, temp_c=30.0), asked(2000, EXHAUST, percent=60)]
    sensors = sensors_of("temp_c", "smoke")
    (refused,) = rehearse([zone_of()], [node_of(fan), sensors], AS_IT_IS, past).refused
    assert (refused["code"], refused["at"]) == ("interlocked", 1010)
    smoke = [*hot, measured(1020, smoke=True), asked(2000, EXHAUST, percent=60)]
    (refused,) = rehearse([zone_of()], [node_of(fan), sensors], AS_IT_IS, smoke).refused
    assert (refused["code"], refused["at"]) == ("interlocked", 2000)


def test_silence_is_not_judged() -> None:
    """A value that is kept once is one that stayed the same, not one of a sensor that fell silent."""
    past = [measured(0, temp_c=25.0), asked(5000, LAMP, percent=60)]
    zone = zone_of(interlocks=InterlockSettings())
    assert rehearse([zone], [node_of(), sensors_of("temp_c")], AS_IT_IS, past).refused == []
