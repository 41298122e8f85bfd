"""The checklist: what is counted, what is told."""

import pytest

from custom_components.grokmon.gateway.checklist import Item, score, to_raise
from custom_components.grokmon.gateway.posture import Check, Finding


def _findings(passed: int, failed: int, unknown: int) -> dict[Check | Item, Finding]:
    findings = [Finding.PASSED] * passed + [Finding.FAILED] * failed + [Finding.UNKNOWN] * unknown
    return dict(zip((*Check, *Item), findings, strict=False))


def test_names_are_those_of_nothing_else() -> None:
    """A check and an item are never called alike: what is acknowledged has no other name than this."""
    names = [each.value for each in (*Check, *Item)]
    assert len(set(names)) == len(names) == 20


@pytest.mark.parametrize(
    ("counts", "per_cent"),
    [
        ((4, 0, 0), 100),
        ((0, 4, 0), 0),
        ((0, 0, 4), 0),
        ((1, 1, 1), 33),
        ((2, 1, 0), 67),
        ((18, 1, 0), 95),
        ((0, 0, 0), 100),
    ],
)
def test_score(counts: tuple[int, int, int], per_cent: int) -> None:
    """Only what is in order counts for it: what is not known does not."""
    assert score(_findings(*counts), ()) == per_cent


def test_what_was_acknowledged_does_not_count() -> None:
    """It counts neither for nor against, whatever was found; names that are nothing change nothing."""
    findings: dict[Check | Item, Finding] = {
        Check.ANONYMOUS: Finding.FAILED,
        Check.OWN_TOPIC: Finding.PASSED,
        Item.HTTPS: Finding.FAILED,
        Item.KEK: Finding.PASSED,
    }
    assert score(findings, ()) == 50
    assert score(findings, {"https"}) == 67
    assert score(findings, {"https", "anonymous"}) == 100
    assert score(findings, {"kek", "nothing"}) == 33
    assert score(findings, {each.value for each in findings}) == 100


def test_only_what_failed_is_told() -> None:
    """What is not known is no reason to bother somebody, nor is what somebody knows of."""
    findings: dict[Check | Item, Finding] = {
        Check.ANONYMOUS: Finding.FAILED,
        Check.PLAINTEXT: Finding.UNKNOWN,
        Check.OWN_TOPIC: Finding.PASSED,
        Item.HTTPS: Finding.FAILED,
    }
    assert to_raise(findings, ()) == {"anonymous", "https"}
    assert to_raise(findings, {"https": "a VPN"}) == {"anonymous"}
    assert to_raise(findings, {"https", "anonymous"}) == set()
    assert to_raise({}, ()) == set()
