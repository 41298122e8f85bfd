"""What the outputs of devices do to the room they stand in."""

from collections.abc import Iterable, Mapping

from .actuators import Output
from .room import Controls


def controls_of(*devices: Mapping[str, Output], roles: Mapping[str, str] | None = None) -> Controls:
    """Give what the outputs of one or more devices do to a room.

    `roles` tells what an output is for; one that it does not name is for what its own name says, as after an enrolment
    without names. What moves no air, light, heat or water of the room has no effect.
    """
    named = roles or {}
    running = [(named.get(name, name), output) for outputs in devices for name, output in outputs.items() if output.on]
    on = {role for role, _ in running}
    return Controls(
        light_percent=_strongest(output for role, output in running if role == "grow_light"),
        fan_percent=_strongest(output for role, output in running if role in {"exhaust", "intake"}),
        pump_on="irrigation" in on,
        co2_valve_on="co2_valve" in on,
        humidifier_on="humidifier" in on,
        dehumidifier_on="dehumidifier" in on,
        heat_mat_on="heat_mat" in on,
    )


def _strongest(outputs: Iterable[Output]) -> float:
    return max((output.percent for output in outputs), default=0.0)
