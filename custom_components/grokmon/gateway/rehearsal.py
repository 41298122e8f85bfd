"""Rehearsal: what a changed policy would have made of the commands and readings of the past days."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from typing import Any, Final

from .actions import Action, Drive, Stop
from .actuators import Command, Moment, Observed
from .control import Controller
from .errors import PolicyError
from .models import Ack, Device, Reading, Result
from .principals import Principal, system
from .zones import DAY_S, Interlock, Zone

# How often the room is looked at when nothing happens, and how soon after lights change: the hub does each second.
_LOOK_S: Final = 60.0
_SOON_S: Final = 1.0


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

    Every allowed command is taken to have been carried out at once, and so is what the hub would have done by itself.
    What silent sensors mean is left out: whoever keeps readings keeps those that differ from the one before. `policy`
    holds `limits` and `ai_allowed`.
    """
    room = _Room([_without_silence(zone) for zone in zones], list(devices), policy)
    for event in sorted(events, key=lambda each: each.at.steady):
        room.pass_time(event.at)
        if isinstance(event.what, Reading):
            room.read(event.what, event.at)
        else:
            room.ask(*event.what, event.at)
    return room.outcome


class _Room:
    """The room of a rehearsal: a controller, and devices that do what they are told."""

    def __init__(self, zones: list[Zone], devices: list[Device], policy: Mapping[str, Any]) -> None:
        self.outcome = Rehearsal()
        self._zones = zones
        self._devices = devices
        self._controller = Controller()
        self._controller.policy.with_limits(policy["limits"])
        self._controller.policy.ai_allowed = policy["ai_allowed"]
        self._cids = map("{:026d}".format, count())
        self._now: Moment | None = None

    def pass_time(self, until: Moment) -> None:
        """Do what the hub does by itself, from the last event to the next."""
        if self._now is None:
            self._controller.configure(self._zones, self._devices, until)
        for now in _moments(self._zones, self._now or until, until):
            self._act(self._controller.tick(now), now)
        self._now = until

    def read(self, reading: Reading, now: Moment) -> None:
        """Take over a reading."""
        self.outcome.readings += 1
        self._act(self._controller.observe(reading, now), now)

    def ask(self, command: Command, who: Principal, now: Moment) -> None:
        """Have a command carried out, or note why it is refused."""
        self.outcome.commands += 1
        try:
            self._carry_out(command, who, now)
        except PolicyError as error:
            self.outcome.refused.append(
                {
                    "at": now.wall,
                    "output": str(command.key),
                    "params": command.params(),
                    "caller": who.caller.value,
                    "code": error.code.value,
                    "detail": error.detail,
                }
            )

    def _act(self, actions: Iterable[Action], now: Moment) -> None:
        for action in actions:
            if isinstance(action, Stop):
                self._carry_out(Command(key=action.key, on=False), system(action.code), now)
            elif isinstance(action, Drive):
                # One that comes first may keep it off.
                with suppress(PolicyError):
                    self._carry_out(action.command, action.principal, now)

    def _carry_out(self, command: Command, who: Principal, now: Moment) -> None:
        """Let the device do it at once; a dose is over before anything else happens, and no lease runs out."""
        order, _ = self._controller.accept(command, who, next(self._cids), now)
        key, wanted = order.key, order.command
        once = wanted.amount_ml is not None or wanted.seconds is not None
        observed = Observed(on=wanted.energises and not once, percent=wanted.percent, reason="done" if once else "")
        ack = Ack(
            device_id=key.device_id,
            cid=order.cid,
            result=Result.DONE,
            reason="",
            states={key.actuator: observed},
            hello=None,
        )
        self._controller.acknowledge(ack, now)
        if (wish := self._controller.outputs[key].wish) is not None:
            wish.lease_until = wish.confirmed_at = inf


def _without_silence(zone: Zone) -> Zone:
    return replace(
        zone, interlocks=replace(zone.interlocks, enabled=zone.interlocks.enabled - {Interlock.SENSOR_FAULT})
    )


def _moments(zones: Iterable[Zone], start: Moment, end: Moment) -> Iterator[Moment]:
    """Yield when the room is looked at between two moments, and the second one."""
    now = start
    while True:
        changes = [each for zone in zones if (each := zone.until_light_change(now.day_s)) is not None]
        step = min([_LOOK_S, *(max(_SOON_S, each) for each in changes)])
        if now.steady + step >= end.steady:
            yield end
            return
        now = Moment(wall=now.wall + step, steady=now.steady + step, day_s=(now.day_s + step) % DAY_S)
        yield now
