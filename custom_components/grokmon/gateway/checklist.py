"""The security checklist: what else than the broker is measured, and the score of it all."""

from collections.abc import Collection, Mapping
from enum import StrEnum

from .posture import Check, Finding


class Item(StrEnum):
    """What the site as a whole has to have in order ("IoT Security Best Practices for Grok & Mon", section 10)."""

    HTTPS = "https"
    MFA = "mfa"
    SECRETS_PRIVATE = "secrets_private"
    KEK = "kek"
    ROTATION = "rotation"
    BACKUP = "backup"
    AUDIT_VERIFIED = "audit_verified"
    RATE_LIMITS = "rate_limits"
    STRANGERS = "strangers"
    """Accounts at the broker, other than its own, that may publish in the name of a device."""


type Findings = Mapping[Check | Item, Finding]


def score(findings: Findings, acknowledged: Collection[str]) -> int:
    """Return how much of what is measured is in order, in per cent; what was acknowledged does not count."""
    counted = [finding for item, finding in findings.items() if item.value not in acknowledged]
    if not counted:
        return 100
    return round(100 * sum(finding is Finding.PASSED for finding in counted) / len(counted))


def to_raise(findings: Findings, acknowledged: Collection[str]) -> set[str]:
    """Return what a person has to be told of."""
    return {
        item.value for item, finding in findings.items() if finding is Finding.FAILED and item.value not in acknowledged
    }
