"""Rehearsal: what a changed policy would have made of the commands and readings of the past days."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .actuators import Command, Moment, Observed, Principal
from .control import Controller
from .errors import PolicyError
from .models import Ack, Device, Reading, Result
from .policy import Policy
from .zones import Zone


@dataclass(frozen=True, slots=True)
class Happened:
    """One thing that happened: a command that somebody gave, or a reading. Steady time is the wall's in a rehearsal."""

    at: Moment
    what: tuple[Command, Principal] | Reading


@dataclass(slots=True)
class Rehearsal:
    """What came of it. `refused` holds the commands that would have been refused, with rule and explanation."""

    commands: int = 0
    readings: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)


def rehearse(
    zones: Iterable[Zone], devices: Iterable[Device], policy: Mapping[str, Any], events: Iterable[Happened]
) -> Rehearsal:
    """Play events in their order against zones, devices and limits of classes, and tell what would have been refused.

    Every allowed command is taken to have been carried out at once. `policy` holds `limits` and `ai_allowed`.
    """
    outcome = Rehearsal()
    controller = Controller()
    known_zones, known_devices = list(zones), list(devices)
    configured = False
    for number, event in enumerate(sorted(events, key=lambda each: each.at.steady)):
        if not configured:
            controller.configure(known_zones, known_devices, event.at)
            _set(controller.policy, policy)
            configured = True
        controller.tick(event.at)
        if isinstance(event.what, Reading):
            outcome.readings += 1
            controller.observe(event.what, event.at)
            continue
        outcome.commands += 1
        command, who = event.what
        try:
            order, _ = controller.accept(command, who, f"{number:026d}", event.at)
        except PolicyError as error:
            outcome.refused.append(
                {
                    "at": event.at.wall,
                    "output": str(command.key),
                    "params": command.params(),
                    "caller": who.caller.value,
                    "code": error.code.value,
                    "detail": error.detail,
                }
            )
            continue
        _carry_out(controller, order.cid, order.command, event.at)
    return outcome


def _set(policy: Policy, wanted: Mapping[str, Any]) -> None:
    policy.with_limits(wanted["limits"])
    policy.ai_allowed = wanted["ai_allowed"]


def _carry_out(controller: Controller, cid: str, command: Command, now: Moment) -> None:
    """Let the device do it at once; a dose is over before anything else happens."""
    key = command.key
    once = command.amount_ml is not None or command.seconds is not None
    observed = Observed(on=command.energises and not once, percent=command.percent, reason="done" if once else "")
    ack = Ack(
        device_id=key.device_id,
        received_at=now.wall,
        cid=cid,
        result=Result.DONE,
        reason="",
        states={key.actuator: observed},
        hello=None,
    )
    controller.acknowledge(ack, now)
