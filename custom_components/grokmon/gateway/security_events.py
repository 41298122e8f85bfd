"""Security events: the kinds that a person or a log server knows, and how serious they are."""

from enum import StrEnum
from typing import Final

from .errors import Code


class Category(StrEnum):
    """The kind of a security event."""

    AUTH_FAILURE = "auth_failure"
    RATE_LIMIT = "rate_limit"
    INVALID_INPUT = "invalid_input"
    REPLAY = "replay"
    UNAUTHORIZED_ACCESS = "unauthorized_access"
    SUSPICIOUS_ACTIVITY = "suspicious_activity"
    INTERLOCK = "interlock"
    CREDENTIAL = "credential"
    POSTURE = "posture"


class Severity(StrEnum):
    """How serious a security event is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


_CATEGORIES: Final = {
    Category.AUTH_FAILURE: (
        Code.UNSIGNED,
        Code.ALGORITHM_NOT_ALLOWED,
        Code.HEADER_NOT_ALLOWED,
        Code.SIGNATURE_INVALID,
        Code.ISSUER_MISMATCH,
        Code.AUDIENCE_MISMATCH,
        Code.EXPIRED,
        Code.NOT_YET_VALID,
        Code.SESSION_REQUIRED,
        Code.TOKEN_INVALID,
        Code.CREDENTIAL_EXPIRED,
        Code.CREDENTIAL_NOT_YET_VALID,
        Code.CREDENTIAL_REVOKED,
        Code.CLAIM_INVALID,
    ),
    Category.RATE_LIMIT: (Code.RATE_LIMITED, Code.FLOOD),
    Category.REPLAY: (Code.REPLAYED, Code.RETAINED),
    Category.UNAUTHORIZED_ACCESS: (
        Code.UNKNOWN_DEVICE,
        Code.DEVICE_DISABLED,
        Code.DEVICE_REVOKED,
        Code.UNKNOWN_CHANNEL,
        Code.CHANNEL_NOT_ALLOWED,
        Code.METRIC_NOT_GRANTED,
        Code.ACTUATOR_NOT_GRANTED,
    ),
    Category.POSTURE: (Code.BROKER_NOT_ENFORCED, Code.TLS_REQUIRED),
    Category.INTERLOCK: (Code.INTERLOCK, Code.OUTPUT_FAULT),
}
_BY_CODE: Final = {code: category for category, codes in _CATEGORIES.items() for code in codes}


def category_of(code: Code) -> Category:
    """Return the kind of event that a code stands for; whatever has no other is bad input."""
    return _BY_CODE.get(code, Category.INVALID_INPUT)
