"""Tests of how refused commands are summed up: by who was refused what, and never without bound."""

from typing import Any
from unittest.mock import Mock

import pytest

from custom_components.grokmon.command_log import CommandLog
from custom_components.grokmon.gateway.actuators import Command, Key, Moment
from custom_components.grokmon.gateway.aggregation import MAX_WINDOWS
from custom_components.grokmon.gateway.errors import Code, PolicyError
from custom_components.grokmon.gateway.principals import Caller, Principal

PUMP = Command(key=Key("node", "irrigation"), amount_ml=2000)
TOO_MUCH = PolicyError(Code.LIMIT_EXCEEDED, "amount_ml of irrigation: 0 to 1000")


class Trail:
    """A command log, and what it records."""

    def __init__(self) -> None:
        self.audit = Mock()
        self.log = CommandLog(self.audit)

    def refuse(self, who: Principal, at: float = 0.0) -> None:
        """Refuse a dose."""
        self.log.refused(PUMP, who, TOO_MUCH, Moment(wall=at, steady=at))

    def sum_up(self, at: float, *, closing: bool = False) -> None:
        """Let the log sum up."""
        self.log.summarise(Moment(wall=at, steady=at), closing=closing)

    def recorded(self, event: str) -> list[dict[str, Any]]:
        """Return what was recorded of an event."""
        return [call.kwargs for call in self.audit.record.mock_calls if call.args == (event,)]


@pytest.fixture
def trail() -> Trail:
    """Return an empty one."""
    return Trail()


def person(identity: str, **more: Any) -> Principal:
    """Return a person."""
    return Principal(caller=Caller.PERSON, identity=identity, **more)


def test_everybody_who_is_refused_stands_in_the_trail(trail: Trail) -> None:
    """The same refusal of somebody else, or by way of a script, is another one; a model's new words are not."""
    everybody = [person("ada"), person("bob"), person("bob", via="script.night")]
    for _ in range(3):
        for who in everybody:
            trail.refuse(who)
    assert [each["who"] for each in trail.recorded("command_refused")] == everybody
    trail.sum_up(61)
    again = trail.recorded("command_refused_again")
    assert [(each["who"], each["count"]) for each in again] == [(who, 2) for who in everybody]
    assert {(each["device"], each["actuator"], each["reason"]) for each in again} == {
        ("node", "irrigation", "limit_exceeded")
    }
    trail.refuse(Principal(caller=Caller.AI, identity="agent", reason="dry"), 61)
    trail.refuse(Principal(caller=Caller.AI, identity="agent", reason="very dry"), 61)
    assert len(trail.recorded("command_refused")) == len(everybody) + 1


def test_very_many_are_counted_together(trail: Trail) -> None:
    """Beyond a number of them at once, only how many they are is on record; the first of these with its name."""
    for _ in range(2):
        for number in range(MAX_WINDOWS + 20):
            trail.refuse(person(f"user-{number}"))
    told = trail.recorded("command_refused")
    assert [each["who"].identity for each in told] == [f"user-{number}" for number in range(MAX_WINDOWS + 1)]
    trail.sum_up(1, closing=True)
    *each_once, together = trail.recorded("command_refused_again")
    assert [summary["count"] for summary in each_once] == [1] * MAX_WINDOWS
    assert (together["who"], together["count"], together["merged"]) == (person("several"), 39, 20)
    assert "device" not in together


def test_what_is_done_again_is_told_with_how_it_was_at_last(trail: Trail) -> None:
    """Whoever sets a thing to and fro fills no trail, and it shows what it came to."""
    ada = person("ada")
    for stage in ("flowering", "vegetative", "flowering", "vegetative"):
        trail.log.done("stage", ada, Moment(wall=0, steady=0), {"zone": "tent"}, stage=stage)
    assert [each["stage"] for each in trail.recorded("stage")] == ["flowering"]
    trail.sum_up(61)
    (again,) = trail.recorded("stage_again")
    assert (again["stage"], again["zone"], again["count"]) == ("vegetative", "tent", 3)
    trail.sum_up(122)
    assert len(trail.recorded("stage_again")) == 1


def test_what_very_many_do_is_not_kept(trail: Trail) -> None:
    """Of whoever is counted together with others, nothing is told at last, nor remembered."""
    for _ in range(2):
        for number in range(MAX_WINDOWS + 20):
            trail.log.done(
                "stage", person(f"user-{number}"), Moment(wall=0, steady=0), {"zone": "tent"}, stage="harvest"
            )
    assert len(trail.log._latest) == MAX_WINDOWS
    trail.sum_up(1, closing=True)
    assert "stage" not in trail.recorded("stage_again")[-1]
    assert trail.log._latest == {}
