"""Tests of the error tree: its codes are an interface."""

from typing import Any

import pytest

from custom_components.grokmon.gateway import errors
from custom_components.grokmon.gateway.errors import Code, GatewayError, SessionUnknownError

WIRE_CODES = [
    "retained",
    "oversized",
    "unknown_channel",
    "unknown_device",
    "device_disabled",
    "device_revoked",
    "flood",
    "broker_not_enforced",
    "tls_required",
    "content_type_invalid",
    "token_invalid",
    "credential_expired",
    "credential_not_yet_valid",
    "credential_revoked",
    "claim_invalid",
    "malformed",
    "unsigned",
    "algorithm_not_allowed",
    "header_not_allowed",
    "signature_invalid",
    "json_invalid",
    "json_duplicate_key",
    "json_too_deep",
    "number_not_finite",
    "number_out_of_range",
    "not_utf8",
    "issuer_mismatch",
    "audience_mismatch",
    "expired",
    "not_yet_valid",
    "session_required",
    "session_unknown",
    "replayed",
    "duplicate",
    "clock_skew",
    "rate_limited",
    "field_missing",
    "field_unknown",
    "field_invalid",
    "metric_unknown",
    "metric_not_granted",
    "metric_type",
    "metric_impossible",
]
OTHER_CODES = [
    "channel_not_allowed",
    "metric_implausible",
    "device_id_invalid",
    "device_exists",
    "public_key_invalid",
    "credential_unknown",
    "authority_in_use",
    "request_invalid",
    "range_invalid",
    "rate_limit_invalid",
    "actuator_not_granted",
    "actuator_invalid",
    "zone_invalid",
    "actuator_unknown",
    "parameter_invalid",
    "limit_exceeded",
    "device_offline",
    "interlocked",
    "sensor_stale",
    "output_fault",
    "dark_period",
    "budget_exceeded",
    "dose_too_soon",
    "minimum_off_time",
    "held",
    "control_rate",
    "ai_blocked",
    "ai_limit",
    "approval_required",
    "not_administrator",
    "audit_unavailable",
    "command_not_sent",
    "command_timeout",
    "command_rejected",
    "command_failed",
    "command_superseded",
    "ack_unexpected",
    "interlock",
]
ORDINARY = ["clock_skew", "duplicate", "session_unknown"]

TREE = [
    errors.TransportError,
    errors.EnvelopeError,
    errors.FreshnessError,
    errors.RateError,
    errors.SchemaError,
    errors.RangeError,
    errors.RegistryError,
    errors.PolicyError,
    errors.CommandError,
]


def test_codes_are_stable() -> None:
    """Keep every code that translations, audit trails and metrics refer to, and add none unseen."""
    assert sorted(code.value for code in Code) == sorted(WIRE_CODES + OTHER_CODES)


@pytest.mark.parametrize("code", Code)
def test_code_is_fit_for_a_key(code: Code) -> None:
    """Name codes so that they are translation keys and metric labels as they are."""
    assert code.value == code.name.lower()
    assert code.value.replace("_", "").replace("8", "").isalpha()
    assert str(code) == code.value


def test_ordinary_refusals_are_no_security_events() -> None:
    """Alarm nobody for what an honest device in a bad network causes."""
    quiet = sorted(code.value for code in Code if not GatewayError(code).is_security_event)
    assert quiet == ORDINARY


@pytest.mark.parametrize("kind", TREE)
def test_error_carries_its_code(kind: type[GatewayError]) -> None:
    """Tell the code and the detail apart, and show both."""
    plain = kind(Code.MALFORMED)
    detailed = kind(Code.MALFORMED, "why")
    assert isinstance(plain, GatewayError)
    assert (plain.code, plain.detail, str(plain)) == (Code.MALFORMED, "", "malformed")
    assert (detailed.code, detailed.detail, str(detailed)) == (Code.MALFORMED, "why", "malformed: why")


@pytest.mark.parametrize("kind", TREE)
def test_error_is_shown_whole(kind: type[GatewayError]) -> None:
    """Show code and detail where an error is logged as an object."""
    assert kind(Code.MALFORMED, "why").args == (Code.MALFORMED, "why")


def test_access_token_of_a_known_device() -> None:
    """Say whose it was, beside what is wrong with it."""
    error = errors.PeerError(Code.CREDENTIAL_REVOKED, "why", "tent-1")
    assert (str(error), error.device_id, error.args) == (
        "credential_revoked: why",
        "tent-1",
        (Code.CREDENTIAL_REVOKED, "why"),
    )


@pytest.mark.parametrize(
    ("figures", "facts"),
    [
        ({}, {}),
        ({"limit": 100}, {"limit": 100}),
        ({"limit": 5, "left": 0.0, "frees_in_s": 12}, {"limit": 5, "left": 0, "frees_in_s": 12}),
        ({"left": 0.26, "frees_in_s": 59.96}, {"left": 0.3, "frees_in_s": 60}),
    ],
)
def test_figures_of_a_refusal(figures: dict[str, Any], facts: dict[str, float]) -> None:
    """Tell the figures that are known, to a tenth."""
    assert errors.PolicyError(Code.BUDGET_EXCEEDED, **figures).facts() == facts


def test_unknown_session_is_named_but_not_shown() -> None:
    """Keep the identifier for the answer and out of the text that may be logged."""
    error = SessionUnknownError("s" * 16)
    assert isinstance(error, errors.FreshnessError)
    assert error.code is Code.SESSION_UNKNOWN
    assert error.sid == "s" * 16
    assert str(error) == "session_unknown"


def test_sentence_of_an_error() -> None:
    """Say it by the code; by its variant, where it has one."""
    assert [each(Code.HELD).sentence for each in (errors.PolicyError, errors.CommandError)] == ["held", "held"]
    assert errors.PolicyError(Code.HELD, variant="pending").sentence == "held_pending"
    assert errors.CommandError(Code.COMMAND_NOT_SENT, variant="broker").sentence == "command_not_sent_broker"
