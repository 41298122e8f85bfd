"""Tests of the aggregation of what happens often."""

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway.aggregation import MAX_WINDOWS, WINDOW, Aggregator, Summary


def test_first_of_a_kind() -> None:
    """Tell the first of each kind at once, and no other."""
    aggregator = Aggregator[str]()
    assert [aggregator.add(key, 0.0) for key in "aabab"] == [True, False, True, False, False]


def test_summary_after_the_window() -> None:
    """Sum up once the window has ended, and not before."""
    aggregator = Aggregator[str]()
    for now in (100.0, 110.0, 120.0):
        aggregator.add("a", now)
    assert [aggregator.close(now) for now in (100.0, 100.5, 120.0, 100.0 + WINDOW - 0.001)] == [[], [], [], []]
    assert aggregator.close(100.0 + WINDOW) == [Summary("a", 2)]


def test_what_goes_on_is_summed_up_again() -> None:
    """Open a new window for what goes on, without telling a first one again."""
    aggregator = Aggregator[str]()
    aggregator.add("a", 0.0)
    aggregator.add("a", 1.0)
    assert aggregator.close(60.0) == [Summary("a", 1)]
    assert aggregator.add("a", 61.0) is False
    assert aggregator.close(119.9) == []
    assert aggregator.close(120.0) == [Summary("a", 1)]
    assert aggregator.close(180.0) == []
    assert aggregator.add("a", 181.0) is True


def test_what_lasts_is_summed_up_less_often() -> None:
    """Take the lengths of the windows one after the other, the last one again and again, until nothing goes on."""
    aggregator = Aggregator[str](windows=(60.0, 600.0))
    told: list[tuple[str | int, int]] = []
    for now in range(0, 2000, 10):
        told += [("first", now)] if aggregator.add("a", now) else []
        told += [(summary.count, now) for summary in aggregator.close(now)]
    assert told == [("first", 0), (6, 60), (60, 660), (60, 1260), (60, 1860)]
    assert [summary.count for summary in aggregator.close(2460)] == [13]
    assert aggregator.close(3060) == []
    assert aggregator.add("a", 3060) is True
    assert aggregator.add("a", 3061) is False
    assert aggregator.close(3120) == [Summary("a", 1)]


def test_nothing_happened_again() -> None:
    """Leave no window behind for what happened once."""
    aggregator = Aggregator[str]()
    aggregator.add("a", 0.0)
    assert aggregator.close(60.0) == []
    assert aggregator.add("a", 61.0) is True


def test_close_everything() -> None:
    """Sum up what has not ended, too, at the end."""
    aggregator = Aggregator[str]()
    for key in "aabb":
        aggregator.add(key, 10.0)
    assert aggregator.close(11.0, everything=True) == [Summary("a", 1), Summary("b", 1)]


def test_each_kind_has_its_own_window() -> None:
    """Sum up what has ended, whatever has not."""
    aggregator = Aggregator[str]()
    for key, now in (("a", 0.0), ("b", 0.0), ("a", 1.0), ("b", 1.0), ("c", 1.0)):
        aggregator.add(key, now)
    assert aggregator.close(60.0) == [Summary("a", 1), Summary("b", 1)]
    aggregator.add("a", 61.0)
    aggregator.add("c", 61.0)
    assert aggregator.close(61.0) == [Summary("c", 1)]


def test_many_kinds_share_windows() -> None:
    """With too many windows open, count further kinds together, and tell how many they were."""
    aggregator = Aggregator[tuple[int, str]](merge=lambda key: (-1, key[1]))
    for number in range(MAX_WINDOWS):
        assert aggregator.merges((number, "a")) is False
        assert aggregator.add((number, "a"), 0.0) is True
    assert [aggregator.merges((number, "a")) for number in (0, MAX_WINDOWS)] == [False, True]
    assert [aggregator.add((100 + number, "ab"[number % 2]), 0.0) for number in range(10)] == [True] * 2 + [False] * 8
    aggregator.add((0, "a"), 0.0)
    aggregator.add((-1, "a"), 0.0)
    assert aggregator.close(WINDOW) == [
        Summary((0, "a"), 1),
        Summary((-1, "a"), 5, merged=5),
        Summary((-1, "b"), 4, merged=5),
    ]
    aggregator.add((-1, "a"), WINDOW)
    assert aggregator.close(2 * WINDOW) == [Summary((-1, "a"), 1)]


def test_kinds_that_nobody_merges() -> None:
    """Give each kind a window of its own where nothing says what they have in common."""
    aggregator = Aggregator[int]()
    assert all(aggregator.add(number, 0.0) for number in range(2 * MAX_WINDOWS))
    assert aggregator.merges(1000) is False


@pytest.mark.parametrize("back", [0.001, 1e9])
def test_clock_that_jumps_back(back: float) -> None:
    """Keep no window open because the clock was set back."""
    aggregator = Aggregator[str]()
    aggregator.add("a", 1000.0)
    aggregator.add("a", 1000.0)
    assert aggregator.close(1000.0 - back) == [Summary("a", 1)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-100.0, 1000.0), st.booleans()), max_size=60))
def test_nothing_is_lost(events: list[tuple[str, float, bool]]) -> None:
    """Tell or sum up each event exactly once, whatever the clock does."""
    aggregator = Aggregator[str]()
    told = dict.fromkeys("abc", 0)
    for key, now, close in events:
        told[key] += aggregator.add(key, now)
        for summary in aggregator.close(now) if close else []:
            told[summary.key] += summary.count
    for summary in aggregator.close(0.0, everything=True):
        told[summary.key] += summary.count
    assert told == {key: sum(event[0] == key for event in events) for key in "abc"}


def test_windows_come_one_after_the_other() -> None:
    """What goes on is told more and more seldom, by each of the lengths in turn."""
    aggregator = Aggregator[str](windows=(10.0, 20.0, 40.0))
    told = []
    for now in range(120):
        aggregator.add("a", now)
        told += [now for _ in aggregator.close(now)]
    assert told == [10, 30, 70, 110]
