"""Errors of the gateway, each with a stable code."""

from collections.abc import Mapping
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
    BROKER_NOT_ENFORCED = "broker_not_enforced"
    TLS_REQUIRED = "tls_required"
    CONTENT_TYPE_INVALID = "content_type_invalid"
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - a name
    CREDENTIAL_EXPIRED = "credential_expired"
    CREDENTIAL_NOT_YET_VALID = "credential_not_yet_valid"
    CREDENTIAL_REVOKED = "credential_revoked"
    CLAIM_INVALID = "claim_invalid"
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
    ACTUATOR_NOT_GRANTED = "actuator_not_granted"
    # Accepted, and flagged: never raised
    METRIC_IMPLAUSIBLE = "metric_implausible"
    # The registry
    DEVICE_ID_INVALID = "device_id_invalid"
    DEVICE_EXISTS = "device_exists"
    PUBLIC_KEY_INVALID = "public_key_invalid"
    CREDENTIAL_UNKNOWN = "credential_unknown"
    AUTHORITY_IN_USE = "authority_in_use"
    REQUEST_INVALID = "request_invalid"
    RANGE_INVALID = "range_invalid"
    RATE_LIMIT_INVALID = "rate_limit_invalid"
    ACTUATOR_INVALID = "actuator_invalid"
    ZONE_INVALID = "zone_invalid"
    # The way out: why a command is refused
    ACTUATOR_UNKNOWN = "actuator_unknown"
    PARAMETER_INVALID = "parameter_invalid"
    LIMIT_EXCEEDED = "limit_exceeded"
    DEVICE_OFFLINE = "device_offline"
    INTERLOCKED = "interlocked"
    SENSOR_STALE = "sensor_stale"
    OUTPUT_FAULT = "output_fault"
    DARK_PERIOD = "dark_period"
    BUDGET_EXCEEDED = "budget_exceeded"
    DOSE_TOO_SOON = "dose_too_soon"
    MINIMUM_OFF_TIME = "minimum_off_time"
    HELD = "held"
    CONTROL_RATE = "control_rate"
    AI_BLOCKED = "ai_blocked"
    AI_LIMIT = "ai_limit"
    APPROVAL_REQUIRED = "approval_required"
    NOT_ADMINISTRATOR = "not_administrator"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    # The way out: what became of a command
    COMMAND_NOT_SENT = "command_not_sent"
    COMMAND_TIMEOUT = "command_timeout"
    COMMAND_REJECTED = "command_rejected"
    COMMAND_FAILED = "command_failed"
    COMMAND_SUPERSEDED = "command_superseded"
    # An answer to nothing that was asked
    ACK_UNEXPECTED = "ack_unexpected"
    # Security events of the way out: never raised
    INTERLOCK = "interlock"


# What an honest device runs into: a repeat by the transport, a session that was forgotten, a clock that is off.
ORDINARY_CODES: Final = frozenset({Code.DUPLICATE, Code.SESSION_UNKNOWN, Code.CLOCK_SKEW})
_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3600.0


class GatewayError(Exception):
    """Say that the gateway refused something.

    `detail` names a field, a metric or a limit. It never carries a payload or a secret. `told` says that it stands in
    the audit trail already. A code that stands for several things has a `variant` for each but the first of them, and
    `values` are what a person is told in the sentence of their own language.
    """

    told = False

    def __init__(
        self, code: Code, detail: str = "", *, variant: str = "", values: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.variant = variant
        self.values = values or {}

    @property
    def sentence(self) -> str:
        """Return the key of the sentence that says it to a person."""
        return f"{self.code}_{self.variant}" if self.variant else self.code.value

    @property
    def placeholders(self) -> dict[str, str]:
        """Return what the sentence may have in it."""
        return {"detail": self.detail, **self.values}

    @override
    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code.value

    @property
    def is_security_event(self) -> bool:
        """Tell whether somebody should be told, beyond the count and the audit entry."""
        return self.code not in ORDINARY_CODES


class TransportError(GatewayError):
    """The message may not come in this way: channel, size, device or flood."""


class PeerError(TransportError):
    """An access token of the site that opens nothing any more; `device_id` is whose it is."""

    def __init__(self, code: Code, detail: str, device_id: str) -> None:
        super().__init__(code, detail)
        self.device_id = device_id


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
    """The registry cannot hold what was asked of it; `field` is what does not fit together with another."""

    def __init__(self, code: Code, detail: str = "", *, field: str = "") -> None:
        super().__init__(code, detail)
        self.field = field


class PolicyError(GatewayError):
    """The command may not be carried out.

    `detail` is the explanation that the caller, the audit trail and the AI get alike. `limit` and `left` are in the
    unit of the rule, `frees_in_s` says in how many seconds the same command may be allowed; None is *not known*.
    """

    def __init__(
        self,
        code: Code,
        detail: str = "",
        *,
        variant: str = "",
        values: Mapping[str, str] | None = None,
        limit: float | None = None,
        left: float | None = None,
        frees_in_s: float | None = None,
    ) -> None:
        super().__init__(code, detail, variant=variant, values=values)
        self.limit = limit
        self.left = left
        self.frees_in_s = frees_in_s

    def facts(self) -> dict[str, float]:
        """Return the figures that are known."""
        named = {"limit": self.limit, "left": self.left, "frees_in_s": self.frees_in_s}
        return {name: round(value, 1) for name, value in named.items() if value is not None}

    @property
    @override
    def placeholders(self) -> dict[str, str]:
        """Return what the sentence may have in it: the figures that are known, too."""
        placeholders = super().placeholders
        for name, figure in (("limit", self.limit), ("left", self.left)):
            if figure is not None:
                placeholders[name] = f"{figure:g}"
        if self.frees_in_s is not None:
            placeholders["wait"] = in_units(self.frees_in_s)
        return placeholders


class CommandError(GatewayError):
    """The command was allowed, and did not come about."""


def in_units(seconds: float) -> str:
    """Return how long something takes, in the unit that a person would say."""
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / _HOUR_S:.1f} h"
