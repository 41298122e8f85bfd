"""Who asks: the classes of callers, and the one who stands behind a command."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Caller(StrEnum):
    """Classes of callers, from the one that comes first to the one that comes last."""

    SYSTEM = "system"
    PERSON = "person"
    AUTOMATION = "automation"
    VOICE = "voice"
    AI = "ai"

    @property
    def rank(self) -> int:
        """Return the place in the order of priorities; 0 comes first."""
        return _RANKS[self]


_RANKS: Final = {caller: rank for rank, caller in enumerate(Caller)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks. `identity` is a user's id, an entity's id or a rule's name, never a person's name.

    `via` is the script that a caller used, `reason` what an AI gave as one, `approved_by` the administrator's user id.
    """

    caller: Caller
    identity: str
    via: str | None = None
    administrator: bool = False
    reason: str = ""
    approved_by: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the principal for the audit trail, without what is empty."""
        data: dict[str, Any] = {"caller": self.caller.value, "identity": self.identity}
        for name in ("via", "reason", "approved_by"):
            if value := getattr(self, name):
                data[name] = value
        return data


def system(rule: str) -> Principal:
    """Return the hub itself, acting for a rule."""
    return Principal(caller=Caller.SYSTEM, identity=rule)
