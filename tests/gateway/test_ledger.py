"""Tests of the ledger: what was given, and for how long something was on."""

from hypothesis import assume, given, strategies as st
import pytest

from custom_components.grokmon.gateway.actuators import Key
from custom_components.grokmon.gateway.ledger import Dose, Ledger
from custom_components.grokmon.gateway.principals import Caller
from custom_components.grokmon.gateway.zones import DAY_S, HOUR_S

PUMP = Key("node", "pump")
OTHER = Key("node", "other")


def dose(cid: str, at: float, amount: float = 100, key: Key = PUMP, caller: Caller = Caller.PERSON) -> Dose:
    """Return a dose."""
    return Dose(cid, key, caller, amount, at)


@pytest.fixture
def ledger() -> Ledger:
    """Return an empty ledger."""
    return Ledger()


def test_doses_add_up_within_the_window(ledger: Ledger) -> None:
    """Count by output, by class and by time."""
    ledger.enter(dose("1", 0))
    ledger.enter(dose("2", 10, 50, caller=Caller.AI))
    ledger.enter(dose("3", 20, 7, key=OTHER))
    assert ledger.given(20, DAY_S, keys=[PUMP]) == 150
    assert ledger.given(20, DAY_S, keys=[PUMP, OTHER]) == 157
    assert ledger.given(20, DAY_S, keys=[PUMP], caller=Caller.AI) == 50
    assert ledger.given(20, DAY_S, keys=[]) == 0
    assert [ledger.given(at + HOUR_S, HOUR_S, keys=[PUMP]) for at in (5, 10)] == [50, 0]
    assert ledger.last_dose(PUMP) == 10
    assert ledger.last_dose(Key("node", "none")) is None


def test_only_a_refusal_by_the_device_gives_back(ledger: Ledger) -> None:
    """A released dose is gone; releasing it again, or another, changes nothing."""
    ledger.enter(dose("1", 0))
    ledger.release("2")
    assert ledger.given(0, DAY_S, keys=[PUMP]) == 100
    ledger.release("1")
    ledger.release("1")
    assert ledger.given(0, DAY_S, keys=[PUMP]) == 0


def test_frees_when_enough_has_left_the_window(ledger: Ledger) -> None:
    """The oldest leave first; what never frees has no time."""
    for number in range(3):
        ledger.enter(dose(str(number), number * 100.0))
    assert ledger.frees_in(250, DAY_S, [PUMP], 100) == DAY_S - 250
    assert ledger.frees_in(250, DAY_S, [PUMP], 150) == DAY_S - 150
    assert ledger.frees_in(250, DAY_S, [PUMP], 301) is None
    assert ledger.frees_in(250, DAY_S, [OTHER], 1) is None
    assert ledger.frees_in(DAY_S, DAY_S, [PUMP], 100) == 100


def test_lamp_hours(ledger: Ledger) -> None:
    """Time on adds up over a day, whatever is repeated."""
    ledger.end(PUMP, 5)
    ledger.begin(PUMP, 10)
    ledger.begin(PUMP, 20)
    assert ledger.burning(PUMP)
    assert ledger.burned(PUMP, 30, DAY_S) == 20
    ledger.end(PUMP, 40)
    ledger.end(PUMP, 50)
    assert not ledger.burning(PUMP)
    assert ledger.burned(PUMP, 60, DAY_S) == 30
    ledger.begin(PUMP, 100)
    assert ledger.burned(PUMP, 110, DAY_S) == 40
    assert ledger.burned(PUMP, DAY_S + 25, DAY_S) == 15 + (DAY_S + 25 - 100)
    assert ledger.burned(OTHER, 60, DAY_S) == 0


def test_what_is_old_is_forgotten(ledger: Ledger) -> None:
    """Nothing is kept that no budget looks back at."""
    ledger.enter(dose("1", 1))
    ledger.begin(PUMP, 0)
    ledger.end(PUMP, 1)
    ledger.begin(OTHER, 0)
    ledger.enter(dose("2", 1 + DAY_S))
    snapshot = ledger.snapshot()
    assert [entry[0] for entry in snapshot["doses"]] == ["2"]
    assert [entry[1] for entry in snapshot["burns"]] == ["other"]


def test_old_burns_are_forgotten_without_a_dose(ledger: Ledger) -> None:
    """Keep no more than a day where there are lamps and no pumps."""
    for day in range(5):
        ledger.begin(PUMP, day * DAY_S)
        ledger.end(PUMP, day * DAY_S + HOUR_S)
    yesterday, today = ([day * DAY_S, day * DAY_S + HOUR_S] for day in (3, 4))
    assert ledger.snapshot()["burns"] == [["node", "pump", [yesterday, today]]]


def test_over_a_restart(ledger: Ledger) -> None:
    """Everything comes back; what was on counts until its last lease was over."""
    ledger.enter(dose("1", 0))
    ledger.begin(PUMP, 10)
    ledger.begin(OTHER, 1)
    ledger.end(OTHER, 2)
    after = Ledger()
    after.restore(ledger.snapshot(), 100)
    assert after.snapshot()["doses"] == ledger.snapshot()["doses"]
    assert after.given(50, DAY_S, keys=[PUMP]) == 100
    assert after.burned(PUMP, 500, DAY_S) == 90
    assert after.burned(OTHER, 500, DAY_S) == 1
    late = Ledger()
    late.restore(ledger.snapshot(), 5)
    assert late.burned(PUMP, 500, DAY_S) == 0


def test_doses_of_an_earlier_release(ledger: Ledger) -> None:
    """They name their zone, too, which nothing goes by."""
    old = ["1", "node", "pump", "zone", "ai", 100, 5]
    ledger.restore({"doses": [old, ["2", *old[1:3], None, *old[4:]]], "burns": []}, 0)
    assert ledger.given(10, DAY_S, keys=[PUMP], caller=Caller.AI) == 200
    assert ledger.snapshot()["doses"] == [[cid, "node", "pump", "ai", 100, 5] for cid in ("1", "2")]


def test_end_that_is_still_to_come(ledger: Ledger) -> None:
    """What is to end by its lease may end earlier, or go on, and no second counts twice."""
    ledger.begin(PUMP, 0)
    ledger.end(PUMP, 300)
    ledger.end(PUMP, 301)
    assert not ledger.burning(PUMP)
    assert [ledger.burned(PUMP, now, DAY_S) for now in (10, 300, 400)] == [10, 300, 300]
    ledger.begin(PUMP, 20)
    assert ledger.burning(PUMP)
    assert ledger.burned(PUMP, 400, DAY_S) == 400
    ledger.end(PUMP, 700)
    ledger.end(PUMP, 450)
    assert ledger.burned(PUMP, 500, DAY_S) == 450
    ledger.begin(PUMP, 450)
    assert ledger.burned(PUMP, 500, DAY_S) == 500
    assert ledger.snapshot()["burns"] == [["node", "pump", [[0, 450], [450, None]]]]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5000)), max_size=30))
def test_burned_is_the_time_on(steps: list[tuple[bool, float]]) -> None:
    """However on and off follow each other, what is counted is the time in between."""
    ledger = Ledger()
    now, on, expected = 0.0, False, 0.0
    for wanted, passing in steps:
        (ledger.begin if wanted else ledger.end)(PUMP, now)
        on = wanted
        now += passing
        expected += passing if on else 0.0
    if now < DAY_S:
        assert ledger.burned(PUMP, now, DAY_S) == pytest.approx(expected)
    assert ledger.burned(PUMP, now, DAY_S) <= DAY_S


def test_what_goes_on_and_off_all_the_time(ledger: Ledger) -> None:
    """A lamp that flutters neither fills the books nor burns for less than it did."""
    for second in range(0, 6000, 2):
        ledger.begin(PUMP, second)
        ledger.end(PUMP, second + 1)
    ((_, _, burns),) = ledger.snapshot()["burns"]
    assert len(burns) == 100
    assert (burns[0][0], burns[-1]) == (0, [5998, 5999])
    assert 3000 <= ledger.burned(PUMP, 6000, DAY_S) <= 5999


def test_flutter_in_the_evening_does_not_count_as_burning_all_day(ledger: Ledger) -> None:
    """What is merged are times with next to nothing in between."""
    ledger.begin(PUMP, 0)
    ledger.end(PUMP, 600)
    for second in range(40_000, 40_400, 2):
        ledger.begin(PUMP, second)
        ledger.end(PUMP, second + 1)
    assert 800 <= ledger.burned(PUMP, 40_400, DAY_S) <= 1000


def test_flutter_at_the_beginning(ledger: Ledger) -> None:
    """The first two are as good to be merged as any."""
    for second in (0, 2, *range(100, 5000, 50)):
        ledger.begin(PUMP, second)
        ledger.end(PUMP, second + 1)
    ledger.begin(PUMP, 5000)
    ((_, _, burns),) = ledger.snapshot()["burns"]
    assert (burns[0], len(burns)) == ([0, 3], 100)


@given(
    st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 9000)), max_size=12), st.integers(0, 20_000), st.booleans()
)
def test_ledger_knows_when_a_lamp_has_burned_for_less(times: list[tuple[int, int]], limit: int, burning: bool) -> None:
    """What is off from now on was on for no more than the limit then, and for less right after, not before."""
    ledger, now = Ledger(), 0
    for off, on in times:
        ledger.begin(PUMP, now + off)
        now += off + on
        if not burning:
            ledger.end(PUMP, now)
    assume(ledger.burned(PUMP, now, 20_000) >= limit)
    left = ledger.burns_less_in(PUMP, now, 20_000, limit)
    ledger.end(PUMP, now)
    assert (left is None) is (limit == 0)
    if left is not None:
        assert left >= 0
        assert ledger.burned(PUMP, now + left, 20_000) == limit
        assert ledger.burned(PUMP, now + left + 1, 20_000) < limit


def test_lamp_that_may_not_burn_at_all_never_may(ledger: Ledger) -> None:
    """Nothing frees hours that there are none of."""
    assert ledger.burns_less_in(PUMP, 0, DAY_S, 0) is None
    ledger.begin(PUMP, 0)
    ledger.end(PUMP, 10)
    assert ledger.burns_less_in(PUMP, 20, DAY_S, 0) is None
    assert ledger.burns_less_in(PUMP, 20, DAY_S, 10) == DAY_S - 20
    assert ledger.burns_less_in(PUMP, 20, DAY_S, 4) == DAY_S - 14
