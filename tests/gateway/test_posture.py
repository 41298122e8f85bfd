"""Tests of the verdict on a broker: only what was proved counts for it."""

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway.posture import Check, CheckResult, Finding, Posture, PostureReport

from .wire import NOW

SOON = NOW + 3600
PASSED, FAILED, UNKNOWN = Finding.PASSED, Finding.FAILED, Finding.UNKNOWN


def report(expires: float | None = None, /, **findings: Finding) -> PostureReport:
    """Return a report in which everything passed but what is named."""
    results = [CheckResult(check=check, finding=findings.get(check.value, PASSED)) for check in Check]
    return PostureReport(results=tuple(results), at=NOW, certificate_expires=expires)


def test_everything_passed() -> None:
    """Call a broker that passed every check enforced."""
    assert report().posture is Posture.ENFORCED


@pytest.mark.parametrize("check", ["anonymous", "wrong_password", "foreign_publish", "foreign_subscribe"])
def test_devices_are_not_kept_apart(check: str) -> None:
    """Call a broker open that lets a stranger in or one device be another, whatever else is the case."""
    assert report(**{check: FAILED}).posture is Posture.OPEN
    assert report(own_topic=UNKNOWN, certificate=FAILED, **{check: FAILED}).posture is Posture.OPEN


@pytest.mark.parametrize("finding", [FAILED, UNKNOWN])
def test_nothing_is_proved_without_the_positive_control(finding: Finding) -> None:
    """Take the silence of a broker through which nothing came for nothing."""
    assert report(own_topic=finding).posture is Posture.UNKNOWN
    assert report(own_topic=finding, plaintext=FAILED).posture is Posture.UNKNOWN


@pytest.mark.parametrize(
    "check", ["discovery_publish", "control_publish", "client_id_theft", "plaintext", "tls_version", "certificate"]
)
@pytest.mark.parametrize("finding", [FAILED, UNKNOWN])
def test_something_is_missing(check: str, finding: Finding) -> None:
    """Call a broker partly enforced when it fails in something else, or something else is not known."""
    assert report(**{check: finding}).posture is Posture.PARTIAL


@pytest.mark.parametrize("check", ["anonymous", "wrong_password", "foreign_publish", "foreign_subscribe"])
def test_unknown_is_not_enforced(check: str) -> None:
    """Want every check to have passed, not only to have not failed."""
    assert report(**{check: UNKNOWN}).posture is Posture.PARTIAL


@pytest.mark.parametrize("check", [check for check in Check if check is not Check.OWN_TOPIC])
def test_check_that_was_not_made(check: Check) -> None:
    """Count a check that a report does not name as not known."""
    whole = report()
    some = PostureReport(results=tuple(result for result in whole.results if result.check is not check), at=NOW)
    assert some.finding(check) is UNKNOWN
    assert some.posture is Posture.PARTIAL


@pytest.mark.parametrize(
    ("expires", "posture"),
    [
        (SOON, Posture.ENFORCED),
        (NOW, Posture.PARTIAL),
        (NOW - 1, Posture.PARTIAL),
        (None, Posture.PARTIAL),
    ],
)
def test_certificate_that_ends_soon(expires: float | None, posture: Posture) -> None:
    """Accept a certificate that is trusted and valid now, though a person has to renew it."""
    ends_soon = report(expires, certificate=FAILED)
    assert ends_soon.finding(Check.CERTIFICATE) is FAILED
    assert ends_soon.posture is posture


def test_expired_certificate_is_not_passed() -> None:
    """Believe the date more than the finding."""
    assert report(NOW - 1).posture is Posture.PARTIAL


@given(st.dictionaries(st.sampled_from([check.value for check in Check]), st.sampled_from(Finding)))
def test_only_one_way_to_enforced(findings: dict[str, Finding]) -> None:
    """Call nothing enforced in which a single check did not pass."""
    whole = report(**findings)
    assert (whole.posture is Posture.ENFORCED) == all(result.finding is PASSED for result in whole.results)
