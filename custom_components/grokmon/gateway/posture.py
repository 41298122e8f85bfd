"""What was measured about a broker: whether it really keeps devices apart."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Check(StrEnum):
    """What is tried on a broker. Everything but OWN_TOPIC ought to be refused."""

    ANONYMOUS = "anonymous"
    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - the name of a check
    OWN_TOPIC = "own_topic"
    """The positive control: a device's own message arrives. Without it the silence of the others shows nothing."""
    FOREIGN_PUBLISH = "foreign_publish"
    DISCOVERY_PUBLISH = "discovery_publish"
    CONTROL_PUBLISH = "control_publish"
    FOREIGN_SUBSCRIBE = "foreign_subscribe"
    CLIENT_ID_THEFT = "client_id_theft"
    PLAINTEXT = "plaintext"
    TLS_VERSION = "tls_version"
    CERTIFICATE = "certificate"


class Finding(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Posture(StrEnum):
    """What all checks together say. Only ENFORCED is good enough to believe a broker who sent a message."""

    ENFORCED = "enforced"
    PARTIAL = "partial"
    OPEN = "open"
    UNKNOWN = "unknown"


_KEEP_APART: Final = (Check.ANONYMOUS, Check.WRONG_PASSWORD, Check.FOREIGN_PUBLISH, Check.FOREIGN_SUBSCRIBE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How one check ended. `detail` is a short fixed phrase or a number."""

    check: Check
    finding: Finding
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostureReport:
    """What a probe found at a time. `certificate_expires` is None where the certificate is not trusted.

    The first line that fits is the verdict:

    | posture  | when                                                                                    |
    | -------- | --------------------------------------------------------------------------------------- |
    | OPEN     | ANONYMOUS, WRONG_PASSWORD, FOREIGN_PUBLISH or FOREIGN_SUBSCRIBE failed                  |
    | UNKNOWN  | OWN_TOPIC did not pass (a broker that is not reachable included): nothing was proved    |
    | ENFORCED | every check passed; a certificate that ends soon but is valid at the time counts as such |
    | PARTIAL  | anything else: something failed, is not known, or was not tried                         |
    """

    results: tuple[CheckResult, ...]
    at: float
    certificate_expires: float | None = None

    @property
    def posture(self) -> Posture:
        """Return the verdict."""
        if any(self.finding(check) is Finding.FAILED for check in _KEEP_APART):
            return Posture.OPEN
        if self.finding(Check.OWN_TOPIC) is not Finding.PASSED:
            return Posture.UNKNOWN
        if all(self._passed(check) for check in Check):
            return Posture.ENFORCED
        return Posture.PARTIAL

    def finding(self, check: Check) -> Finding:
        """Return how a check ended; UNKNOWN where it was not made."""
        return next((result.finding for result in self.results if result.check is check), Finding.UNKNOWN)

    def _passed(self, check: Check) -> bool:
        if check is Check.CERTIFICATE and self.certificate_expires is not None:
            return self.certificate_expires > self.at
        return self.finding(check) is Finding.PASSED
