"""Tests of the token bucket."""

from itertools import pairwise

from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
import pytest

from custom_components.grokmon.gateway.ratelimit import HostLimit, TokenBucket

TIMES = st.floats(-(2.0**40), 2.0**40)


def taken(bucket: TokenBucket, times: list[float]) -> list[bool]:
    """Take a token at each of these times."""
    return [bucket.take(now) for now in times]


def test_burst_then_rate() -> None:
    """Allow the capacity at once, and then as many per period."""
    bucket = TokenBucket(3, 60)
    assert taken(bucket, [0.0] * 4) == [True, True, True, False]
    assert taken(bucket, [19.0, 20.0, 21.0]) == [False, True, False]
    assert taken(bucket, [3600.0] * 4) == [True, True, True, False]


def test_first_use_may_be_at_any_time() -> None:
    """Start full, whatever the clock shows."""
    assert taken(TokenBucket(1, 60), [-5.0, -5.0]) == [True, False]


@pytest.mark.parametrize("jump", [0.0, 1.0, 1e9])
def test_clock_that_jumps_back(jump: float) -> None:
    """Neither add nor take tokens when the clock jumps back, and go on from there."""
    bucket = TokenBucket(2, 2)
    assert taken(bucket, [100.0, 100.0 - jump, 100.0 - jump]) == [True, True, False]
    assert taken(bucket, [101.0 - jump, 101.0 - jump]) == [True, False]


def test_capacity_is_known() -> None:
    """Tell the capacity."""
    assert TokenBucket(100, 60).capacity == 100


@given(st.integers(1, 50), st.floats(0.5, 3600.0), st.lists(TIMES, max_size=80))
def test_never_more_than_capacity_and_rate(capacity: int, period: float, times: list[float]) -> None:
    """Allow at most the capacity plus the rate times the time that has passed forwards."""
    bucket = TokenBucket(capacity, period)
    forwards = sum(max(0.0, after - before) for before, after in pairwise(times))
    allowed = sum(taken(bucket, times))
    assert allowed <= capacity + forwards * capacity / period + 1e-6 * (1 + forwards)
    assert allowed >= min(capacity, len(times))


class BucketMachine(RuleBasedStateMachine):
    """Compare the bucket with whole eighths of tokens, over clock jumps and restarts.

    Capacity, rate and times are dyadic, so that floating point is exact.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.eighths = 32
        self.last: int | None = None
        self.bucket = TokenBucket(4, 32)

    @rule()
    def restart(self) -> None:
        """Begin with a full bucket."""
        self.bucket = TokenBucket(4, 32)
        self.eighths = 32
        self.last = None

    @rule(seconds=st.integers(0, 20))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds

    @rule(seconds=st.integers(-(10**9), 10**9))
    def jump(self, seconds: int) -> None:
        """Set the clock."""
        self.now += seconds

    @rule()
    def take(self) -> None:
        """Spend one token here and there."""
        passed = 0 if self.last is None else max(0, self.now - self.last)
        self.last = self.now
        self.eighths = min(32, self.eighths + passed)
        allowed = self.eighths >= 8
        self.eighths -= 8 * allowed
        assert self.bucket.take(float(self.now)) is allowed

    @invariant()
    def tokens_agree(self) -> None:
        """Hold as many tokens as the model."""
        assert self.bucket._tokens * 8 == self.eighths


TestBucket = BucketMachine.TestCase
TestBucket.settings = settings(max_examples=80, stateful_step_count=40)


def test_each_host_has_a_bucket() -> None:
    """Let no host spend what is another's, and give each the time that has passed."""
    limit = HostLimit(2, 60)
    assert [limit.take("a", 0.0) for _ in range(3)] == [True, True, False]
    assert limit.take("b", 0.0)
    assert [limit.take("a", 30.0) for _ in range(2)] == [True, False]


def test_forgotten_host() -> None:
    """Remember 1024 hosts, and forget the one that was not heard of for longest."""
    limit = HostLimit(1, 60)
    for number in range(1024):
        assert limit.take(f"{number}", 0.0)
    assert not limit.take("0", 0.0)
    assert limit.take("one more", 0.0)
    assert not limit.take("0", 0.0)
    assert limit.take("1", 0.0)
