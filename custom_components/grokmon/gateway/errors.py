"""Errors of the gateway, each with a stable code."""

from enum import StrEnum
from typing import Final, override


class Code(StrEnum):
    """Name why something was refused: the translation key, the audit reason and the metric label."""

    # The way in
    RETAINED = "retained"
    OVERSIZED = "oversized"
    UNKNOWN_CHANNEL = "unknown_channel"
    CHANNEL_NOT_ALLOWED = "channel_not_allowed"
    UNKNOWN_DEVICE = "unknown_device"
    DEVICE_DISABLED = "device_disabled"
    DEVICE_REVOKED = "device_revoked"
    FLOOD = "flood"
    # The envelope
    MALFORMED = "malformed"
    UNSIGNED = "unsigned"
    ALGORITHM_NOT_ALLOWED = "algorithm_not_allowed"
    HEADER_NOT_ALLOWED = "header_not_allowed"
    SIGNATURE_INVALID = "signature_invalid"
    NOT_UTF8 = "not_utf8"
    JSON_INVALID = "json_invalid"
    JSON_DUPLICATE_KEY = "json_duplicate_key"
    JSON_TOO_DEEP = "json_too_deep"
    NUMBER_NOT_FINITE = "number_not_finite"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    ISSUER_MISMATCH = "issuer_mismatch"
    AUDIENCE_MISMATCH = "audience_mismatch"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    # Freshness
    SESSION_REQUIRED = "session_required"
    SESSION_UNKNOWN = "session_unknown"
    REPLAYED = "replayed"
    DUPLICATE = "duplicate"
    CLOCK_SKEW = "clock_skew"
    RATE_LIMITED = "rate_limited"
    # The body
    FIELD_MISSING = "field_missing"
    FIELD_UNKNOWN = "field_unknown"
    FIELD_INVALID = "field_invalid"
    METRIC_UNKNOWN = "metric_unknown"
    METRIC_NOT_GRANTED = "metric_not_granted"
    METRIC_TYPE = "metric_type"
    METRIC_IMPOSSIBLE = "metric_impossible"
    # Accepted, and flagged: never raised
    METRIC_IMPLAUSIBLE = "metric_implausible"
    # The registry
    DEVICE_ID_INVALID = "device_id_invalid"
    DEVICE_EXISTS = "device_exists"
    PUBLIC_KEY_INVALID = "public_key_invalid"
    RANGE_INVALID = "range_invalid"
    RATE_LIMIT_INVALID = "rate_limit_invalid"


# A repeat that the transport is allowed to make, and a counter that nobody but the device can have used up.
ORDINARY_CODES: Final = frozenset({Code.DUPLICATE, Code.SESSION_UNKNOWN, Code.CLOCK_SKEW})


class GatewayError(Exception):
    """Say that the gateway refused something.

    `detail` names a field, a metric or a limit. It never carries a payload or a secret.
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    @override
    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code.value

    @property
    def is_security_event(self) -> bool:
        """Tell whether somebody should be told, beyond the count and the audit entry."""
        return self.code not in ORDINARY_CODES


class TransportError(GatewayError):
    """The message may not come in this way: channel, size, device or flood."""


class EnvelopeError(GatewayError):
    """The message does not prove that this device wrote it for this channel."""


class FreshnessError(GatewayError):
    """The message is not new."""


class SessionUnknownError(FreshnessError):
    """The message names a session that the gateway does not have; `sid` is that session's identifier."""

    def __init__(self, sid: str) -> None:
        super().__init__(Code.SESSION_UNKNOWN)
        self.sid = sid


class RateError(GatewayError):
    """The device sends more than its budget."""


class SchemaError(GatewayError):
    """The body is not what the channel carries."""


class RangeError(GatewayError):
    """A value is physically impossible."""


class RegistryError(GatewayError):
    """The registry cannot hold what was asked of it."""
