"""Constants of the integration."""

from typing import Final

from homeassistant.const import Platform

DOMAIN: Final = "grokmon"
DOCUMENTATION: Final = "https://github.com/grokmon/grokmon"
MANUFACTURER: Final = "Grok & Mon"

PLATFORMS: Final = (
    Platform.BINARY_SENSOR,
    Platform.BUTTON,
    Platform.EVENT,
    Platform.FAN,
    Platform.LIGHT,
    Platform.NUMBER,
    Platform.SELECT,
    Platform.SENSOR,
    Platform.SWITCH,
)

SUBENTRY_DEVICE: Final = "device"
SUBENTRY_ZONE: Final = "zone"

CONF_TOPIC_PREFIX: Final = "topic_prefix"
CONF_STALE_AFTER: Final = "stale_after"
CONF_DEVICE_ID: Final = "device_id"
CONF_ZONE: Final = "zone"
CONF_METRICS: Final = "metrics"
CONF_ACTUATORS: Final = "actuators"
CONF_RANGES: Final = "ranges"
CONF_RATE_LIMIT: Final = "rate_limit"
CONF_AUTH: Final = "auth"
CONF_PUBLIC_KEY: Final = "public_key"
CONF_OVERLAP: Final = "overlap_hours"
CONF_FINGERPRINT: Final = "fingerprint"
CONF_HTTP_INGEST: Final = "http_ingest"
CONF_HTTP_ENROLMENT: Final = "http_enrolment"
CONF_BROKER: Final = "broker"
CONF_STAGE: Final = "stage"

CONF_AI_USERS: Final = "ai_users"
CONF_LIMITS: Final = "limits"
CONF_NOTIFY: Final = "notify"
CONF_RETENTION: Final = "audit_retention_days"

DEFAULT_TOPIC_PREFIX: Final = "grokmon"
DEFAULT_STALE_AFTER: Final = 300
DEFAULT_RETENTION: Final = 365

EVENT_SECURITY: Final = "grokmon_security_event"
EVENT_DECISION: Final = "grokmon_decision"
