"""Exhaust fans: an interlock drives them to full speed, and gives them back when it has no reason to any more."""

from typing import Final

from .actions import Action, Drive, Stop
from .actuators import Command, Role
from .outputs import GIVEN_BACK, Output
from .principals import Caller, system
from .zones import Interlock

# So often it is tried to bring a fan back to where it was, then to where it rests, before it is switched off.
_TRIES: Final = 3


def drive(output: Output, interlock: Interlock | None, now: float, *, ai_allowed: bool) -> list[Action]:
    """Return what an interlock wants of an output, or what is due because none wants anything any more.

    Whatever does not come about is asked for again after a while.
    """
    if output.actuator.role is not Role.EXHAUST or output.fault is not None:
        return []
    # Whatever became of the books, what an interlock asked for is given back.
    output.forced |= output.is_driven
    if interlock is None:
        return _let_go(output, now, ai_allowed=ai_allowed)
    again = output.forced and not output.returns
    if output.let_be or (again and (output.is_driven or not output.may_be_driven(now))):
        return []
    if not output.forced:
        if output.wish is None:
            output.resume = None
        elif output.wish.order.principal.identity != GIVEN_BACK:
            output.resume = output.wish.order
    output.forced, output.returns, output.driven_at = True, 0, now
    return [Drive(Command(key=output.key, percent=output.actuator.max_percent), system(interlock.value))]


def _let_go(output: Output, now: float, *, ai_allowed: bool) -> list[Action]:
    output.let_be = False
    if not output.forced or (output.returns and not output.may_be_driven(now)):
        return []
    if not output.returns and not output.lets_go.take(now):
        # What flutters stays on in between.
        return []
    back = _give_back(output, ai_allowed=ai_allowed)
    output.returns, output.driven_at = output.returns + 1, now
    # Its lease ends what could not be switched off.
    output.forced = isinstance(back, Drive)
    return [back]


def _give_back(output: Output, *, ai_allowed: bool) -> Action:
    """Return what a fan does that is not driven any more: as before, or as it does when nobody asks."""
    resume = output.resume
    if resume is not None and ((resume.principal.caller is Caller.AI and not ai_allowed) or output.returns >= _TRIES):
        resume = output.resume = None
    command = output.rest if resume is None else resume.command
    if output.kept_off or not command.energises or output.returns >= 2 * _TRIES:
        return Stop(output.key, GIVEN_BACK)
    return Drive(command, system(GIVEN_BACK))
