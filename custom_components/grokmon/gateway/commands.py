"""Commands on the wire: the bodies of the messages that move something."""

from typing import Any, Final

from .actuators import Actuator, Kind
from .models import Claims
from .orders import Order

# How long a command may be on its way. A device refuses it afterwards, and so does a broker that speaks MQTT 5.
TTL_S: Final = 10
ACK_TIMEOUT_S: Final = 5.0


def command(order: Order, actuator: Actuator, wall: float) -> Claims:
    """Return the body of the message for an order."""
    asked = order.command
    match actuator.kind:
        case Kind.LIGHT:
            action, params = "set_light_intensity", {"intensity_percent": asked.percent}
        case Kind.FAN:
            action, params = "set_fan_speed", {"speed_percent": asked.percent}
        case Kind.PUMP if asked.energises:
            action, params = "trigger_irrigation", {"amount_ml": asked.amount_ml}
        case Kind.PUMP:
            action, params = "stop", {}
        case Kind.SWITCH:  # pragma: no branch - there is nothing else
            action, params = "set_switch", {"on": bool(asked.on)}
    body = _body(order.cid, action, params, wall) | {"actuator": asked.key.actuator}
    return body | {"lease_s": order.lease_s} if asked.energises else body


def renewal(cid: str, order: Order, lease_s: int, wall: float) -> Claims:
    """Return the body of the message that prolongs the lease of what an order switched on, and can do nothing else."""
    body = _body(cid, "renew", {"of": order.cid}, wall)
    return body | {"actuator": order.key.actuator, "lease_s": lease_s}


def identify(cid: str, wall: float) -> Claims:
    """Return the body of the message that makes a device show where it is."""
    return _body(cid, "identify", {}, wall)


def _body(cid: str, action: str, params: dict[str, Any], wall: float) -> Claims:
    return {"cid": cid, "iat": int(wall), "ttl_s": TTL_S, "action": action, "params": params}
