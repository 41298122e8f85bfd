"""Exhaust fans: an interlock drives them to full speed, and gives them back when it has no reason to any more."""

from typing import Final

from .actions import Action, Drive, Stop
from .actuators import Command, Role
from .outputs import Output
from .principals import Caller, system
from .zones import Interlock

_GIVEN_BACK: Final = "interlock_ended"


def drive(output: Output, interlock: Interlock | None, now: float, *, ai_allowed: bool) -> list[Action]:
    """Return what an interlock wants of an output, or what is due because none wants anything any more.

    Whatever does not come about is asked for again after a while.
    """
    if output.actuator.role is not Role.EXHAUST or output.pending is not None or output.fault is not None:
        return []
    if interlock is None:
        return _let_go(output, now, ai_allowed=ai_allowed)
    if output.let_be or (output.forced and (output.wish is not None or not output.may_be_driven(now))):
        return []
    if not output.forced and not _is_driven(output):
        output.resume = output.wish.order if output.wish is not None else None
        output.was_off = output.is_kept_off
    output.forced, output.driven_at = True, now
    return [Drive(Command(key=output.key, percent=output.actuator.max_percent), system(interlock.value))]


def _let_go(output: Output, now: float, *, ai_allowed: bool) -> list[Action]:
    output.let_be = False
    if not output.forced and not (_is_driven(output) and output.may_be_driven(now)):
        return []
    output.forced, output.driven_at = False, now
    return [_give_back(output, ai_allowed=ai_allowed)]


def _is_driven(output: Output) -> bool:
    """Tell whether what an interlock asked for stands."""
    if output.wish is None:
        return False
    principal = output.wish.order.principal
    return principal.caller is Caller.SYSTEM and principal.identity != _GIVEN_BACK


def _give_back(output: Output, *, ai_allowed: bool) -> Action:
    """Return what a fan does that is not driven any more: as before, or as it does when nobody asks."""
    resume = output.resume
    if resume is not None and resume.principal.caller is Caller.AI and not ai_allowed:
        resume = None
    command = output.rest if resume is None else resume.command
    if output.was_off or not command.energises:
        return Stop(output.key, _GIVEN_BACK)
    return Drive(command, system(_GIVEN_BACK))
