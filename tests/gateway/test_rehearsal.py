"""Tests of rehearsals: what a changed policy would have made of the past."""

from dataclasses import replace
from typing import Any

from custom_components.grokmon.gateway.actuators import Command, Key, Moment, Principal
from custom_components.grokmon.gateway.models import Reading, Value
from custom_components.grokmon.gateway.policy import LIMITS, limits_from
from custom_components.grokmon.gateway.rehearsal import Happened, Rehearsal, rehearse
from custom_components.grokmon.gateway.zones import Zone

from .control_room import AI, EXHAUST, LAMP, NOON, PERSON, PUMP, node_of, sensors_of, zone_of

AS_IT_IS = {"limits": LIMITS, "ai_allowed": True}


def asked(at: float, key: Key, who: Principal = PERSON, **wanted: Any) -> Happened:
    """Return a command of the past, at a second of a noon."""
    return Happened(Moment(wall=at, steady=at, day_s=NOON), (Command(key=key, **wanted), who))


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
    return Happened(Moment(wall=at, steady=at, day_s=NOON), reading)


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
