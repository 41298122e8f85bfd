"""Tests of commands on the wire: a device reads the names, the numbers and nothing else."""

from typing import Any

import pytest

from custom_components.grokmon.gateway.actuators import Actuator, Command, Key, Role
from custom_components.grokmon.gateway.commands import command, identify, renewal
from custom_components.grokmon.gateway.orders import Order

from .control_room import PERSON

KEY = Key("node", "x")


def order_of(**wanted: Any) -> Order:
    """Return an order with a lease of 30 s."""
    return Order(cid="1", command=Command(key=KEY, **wanted), principal=PERSON, at=5.0, lease_s=30)


@pytest.mark.parametrize(
    ("role", "wanted", "action", "params"),
    [
        (Role.GROW_LIGHT, {"on": True, "percent": 60.0}, "set_light_intensity", {"intensity_percent": 60.0}),
        (Role.EXHAUST, {"on": True, "percent": 40.0}, "set_fan_speed", {"speed_percent": 40.0}),
        (Role.IRRIGATION, {"on": True, "amount_ml": 200.0}, "trigger_irrigation", {"amount_ml": 200.0}),
        (Role.OUTLET, {"on": True}, "set_switch", {"on": True}),
        (Role.CO2_VALVE, {"on": True, "seconds": 20.0}, "set_switch", {"on": True}),
    ],
)
def test_on(role: Role, wanted: dict[str, Any], action: str, params: dict[str, Any]) -> None:
    """Say what to set, for how long, and until when the command may be carried out."""
    assert command(order_of(**wanted), Actuator(name="x", role=role), 1_795_000_000.9) == {
        "cid": "1",
        "iat": 1_795_000_000,
        "ttl_s": 10,
        "action": action,
        "params": params,
        "actuator": "x",
        "lease_s": 30,
    }


@pytest.mark.parametrize(
    ("role", "wanted", "action", "params"),
    [
        (Role.GROW_LIGHT, {"on": False, "percent": 0.0}, "set_light_intensity", {"intensity_percent": 0.0}),
        (Role.EXHAUST, {"on": False, "percent": 0.0}, "set_fan_speed", {"speed_percent": 0.0}),
        (Role.IRRIGATION, {"on": False}, "stop", {}),
        (Role.OUTLET, {"on": False}, "set_switch", {"on": False}),
    ],
)
def test_off(role: Role, wanted: dict[str, Any], action: str, params: dict[str, Any]) -> None:
    """Say what to end; that has no lease."""
    body = command(order_of(**wanted), Actuator(name="x", role=role), 1_795_000_000)
    assert body == {
        "cid": "1",
        "iat": 1_795_000_000,
        "ttl_s": 10,
        "action": action,
        "params": params,
        "actuator": "x",
    }


def test_renewal() -> None:
    """Prolong what an order switched on, by its name."""
    assert renewal("2", order_of(on=True), 16, 1_795_000_000) == {
        "cid": "2",
        "iat": 1_795_000_000,
        "ttl_s": 10,
        "action": "renew",
        "params": {"of": "1"},
        "actuator": "x",
        "lease_s": 16,
    }


def test_identify() -> None:
    """Ask a device to show itself, and nothing of its outputs."""
    assert identify("3", 1_795_000_000) == {
        "cid": "3",
        "iat": 1_795_000_000,
        "ttl_s": 10,
        "action": "identify",
        "params": {},
    }
