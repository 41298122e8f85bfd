"""Tests of security events: every code is of one kind, and the kinds are those that a log server knows."""

import pytest

from custom_components.grokmon.gateway import security_events
from custom_components.grokmon.gateway.errors import Code
from custom_components.grokmon.gateway.security_events import Category, Severity, category_of

KINDS = {
    "auth_failure": {
        "unsigned",
        "algorithm_not_allowed",
        "header_not_allowed",
        "signature_invalid",
        "issuer_mismatch",
        "audience_mismatch",
        "expired",
        "not_yet_valid",
        "session_required",
        "token_invalid",
        "credential_expired",
        "credential_not_yet_valid",
        "credential_revoked",
        "claim_invalid",
    },
    "rate_limit": {"rate_limited", "flood"},
    "replay": {"replayed", "retained"},
    "unauthorized_access": {
        "unknown_device",
        "device_disabled",
        "device_revoked",
        "unknown_channel",
        "channel_not_allowed",
        "metric_not_granted",
        "actuator_not_granted",
    },
    "posture": {"broker_not_enforced", "tls_required"},
    "interlock": {"interlock", "output_fault"},
}
NAMED = {code: kind for kind, codes in KINDS.items() for code in codes}


def test_kinds() -> None:
    """Name every kind of event: the names are an interface."""
    assert [category.value for category in Category] == [
        "auth_failure",
        "rate_limit",
        "invalid_input",
        "replay",
        "unauthorized_access",
        "suspicious_activity",
        "interlock",
        "credential",
        "posture",
    ]
    assert [severity.value for severity in Severity] == ["info", "warning", "critical"]


@pytest.mark.parametrize("code", Code)
def test_every_code_is_of_a_kind(code: Code) -> None:
    """Take whatever is not named for bad input."""
    assert category_of(code) is Category(NAMED.get(code.value, "invalid_input"))


def test_no_code_is_of_two_kinds() -> None:
    """Name a code once, and only codes that there are."""
    named = [code for codes in security_events._CATEGORIES.values() for code in codes]
    assert len(named) == len(set(named))
    assert {code.value for code in Code} >= NAMED.keys()
    assert {code.value for code in named} == NAMED.keys()
