"""Bodies of the channels: claims to models."""

from collections.abc import Mapping
import re
from typing import Any, Final

from .actuators import MAX_PERCENT, Observed
from .catalog import CATALOG
from .errors import Code, EnvelopeError, SchemaError
from .models import Claims, Hello, Result, Telemetry, Value

MAX_METRICS: Final = 64
MAX_META: Final = 16
MAX_TEXT: Final = 64
# 16 bytes in canonical base64url: the last character has four bits to spare.
BOOT_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")
# What a date can hold, up to the year 9999.
MAX_TIME: Final = 253_402_300_799

_ENVELOPE: Final = frozenset({"iss", "aud", "iat", "exp", "nbf", "sid", "seq", "device_id"})
_TELEMETRY: Final = _ENVELOPE | {"metrics", "ts", "meta"}
_PLAIN: Final = frozenset({"device_id", "metrics", "ts", "meta"})
_BATCH: Final = frozenset({"readings"})
_STATE: Final = _ENVELOPE | {"actuators"}
_ACK: Final = _STATE | {"cid", "result", "reason"}
_OUTPUT: Final = frozenset({"on", "percent", "lease_left_s", "reason", "cid"})
# Crockford's base 32, as ULIDs are written.
_CID_PATTERN: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_REASON_PATTERN: Final = re.compile(r"[a-z0-9_]{1,32}")
_RESULTS: Final = frozenset(result.value for result in Result)
_MAX_LEASE_LEFT: Final = 86_400
_HELLO: Final = _ENVELOPE - {"sid", "seq"} | {"boot", "firmware", "model", "capabilities"}


def telemetry(claims: Claims, granted: Mapping[str, bool]) -> Telemetry:
    """Return the body of a telemetry message.

    `granted` holds the metrics that the registry allows this device, with True for a boolean.
    """
    _only(claims, _TELEMETRY)
    metrics = _required(claims, "metrics", dict)
    if not 1 <= len(metrics) <= MAX_METRICS:
        raise SchemaError(Code.FIELD_INVALID, f"metrics: 1 to {MAX_METRICS}")
    for name, value in metrics.items():
        boolean = granted.get(name)
        if boolean is None:
            code = Code.METRIC_NOT_GRANTED if name in CATALOG else Code.METRIC_UNKNOWN
            raise SchemaError(code, _shown(name))
        kind = type(value)
        if kind is not bool if boolean else kind is not float and kind is not int:
            raise SchemaError(Code.METRIC_TYPE, name)
    return Telemetry(metrics=metrics, ts=_optional_time(claims, "ts"), meta=_meta(claims))


def check_plain(body: Claims, device_id: str) -> None:
    """Refuse a plain body that claims what only a signature could prove, or another device."""
    _only(body, _PLAIN)
    if body.get("device_id", device_id) != device_id:
        raise EnvelopeError(Code.ISSUER_MISMATCH)


def batch(body: Claims, limit: int) -> list[Claims]:
    """Return the plain bodies of a batch."""
    _only(body, _BATCH)
    readings = _required(body, "readings", list)
    if not 1 <= len(readings) <= limit or not all(type(each) is dict for each in readings):
        raise SchemaError(Code.FIELD_INVALID, f"readings: 1 to {limit}")
    return list(readings)


def hello(claims: Claims) -> Hello:
    """Return the body of a hello."""
    _only(claims, _HELLO)
    boot = _required(claims, "boot", str)
    if BOOT_PATTERN.fullmatch(boot) is None:
        raise SchemaError(Code.FIELD_INVALID, "boot")
    capabilities = claims.get("capabilities", [])
    if type(capabilities) is not list or len(capabilities) > MAX_METRICS:
        raise SchemaError(Code.FIELD_INVALID, "capabilities")
    for name in capabilities:
        _text(name, "capabilities")
    return Hello(boot=boot, firmware=_optional_text(claims, "firmware"), model=_optional_text(claims, "model"))


def state(claims: Claims, actuators: frozenset[str]) -> dict[str, Observed]:
    """Return the body of a state message: what each output does. `actuators` are the names that the device has."""
    _only(claims, _STATE)
    return _outputs(_required(claims, "actuators", dict), actuators)


def ack(claims: Claims, actuators: frozenset[str]) -> tuple[str, Result, str, dict[str, Observed]]:
    """Return the body of an answer to a command: its identifier, the result, the reason, and what outputs do."""
    _only(claims, _ACK)
    result = _required(claims, "result", str)
    if result not in _RESULTS:
        raise SchemaError(Code.FIELD_INVALID, "result")
    cid = _matching(_required(claims, "cid", str), _CID_PATTERN, "cid")
    reason = _matching(claims["reason"], _REASON_PATTERN, "reason") if "reason" in claims else ""
    return cid, Result(result), reason, _outputs(claims.get("actuators", {}), actuators)


def _outputs(states: Any, actuators: frozenset[str]) -> dict[str, Observed]:
    if type(states) is not dict:
        raise SchemaError(Code.FIELD_INVALID, "actuators")
    observed: dict[str, Observed] = {}
    for name, body in states.items():
        if name not in actuators:
            raise SchemaError(Code.ACTUATOR_NOT_GRANTED, _shown(name))
        if type(body) is not dict or type(body.get("on")) is not bool:
            raise SchemaError(Code.FIELD_INVALID, f"{name}.on")
        _only(body, _OUTPUT)
        observed[name] = Observed(
            on=body["on"],
            percent=_optional_number(body, "percent", MAX_PERCENT, integer=False),
            lease_left_s=_optional_number(body, "lease_left_s", _MAX_LEASE_LEFT, integer=True),
            reason=_matching(body["reason"], _REASON_PATTERN, "reason") if "reason" in body else "",
            cid=_matching(body["cid"], _CID_PATTERN, "cid") if "cid" in body else None,
        )
    return observed


def _optional_number(body: Claims, name: str, high: float, *, integer: bool) -> Any:
    if name not in body:
        return None
    value = body[name]
    kind = type(value)
    if (kind is not int and (integer or kind is not float)) or not 0 <= value <= high:
        raise SchemaError(Code.FIELD_INVALID, name)
    return value


def _matching(value: Any, pattern: re.Pattern[str], field: str) -> str:
    if type(value) is not str or pattern.fullmatch(value) is None:
        raise SchemaError(Code.FIELD_INVALID, field)
    return value


def _meta(claims: Claims) -> Mapping[str, str]:
    meta = claims.get("meta")
    if meta is None and "meta" not in claims:
        return {}
    if type(meta) is not dict or len(meta) > MAX_META:
        raise SchemaError(Code.FIELD_INVALID, "meta")
    for key, value in meta.items():
        _text(key, "meta")
        _text(value, "meta")
    return meta


def _only(claims: Claims, allowed: frozenset[str]) -> None:
    if not claims.keys() <= allowed:
        raise SchemaError(Code.FIELD_UNKNOWN, _shown(min(claims.keys() - allowed)))


def _required[T](claims: Claims, name: str, kind: type[T]) -> T:
    value = claims.get(name)
    if name not in claims:
        raise SchemaError(Code.FIELD_MISSING, name)
    if type(value) is not kind:
        raise SchemaError(Code.FIELD_INVALID, name)
    return value


def _optional_time(claims: Claims, name: str) -> float | None:
    if name not in claims:
        return None
    value: Value = claims[name]
    if (type(value) is not int and type(value) is not float) or not 0 <= value <= MAX_TIME:
        raise SchemaError(Code.FIELD_INVALID, name)
    return value


def _optional_text(claims: Claims, name: str) -> str | None:
    return _text(claims[name], name) if name in claims else None


def _text(value: Any, field: str) -> str:
    if type(value) is not str or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise SchemaError(Code.FIELD_INVALID, field)
    return value


def _shown(name: str) -> str:
    """Return a name that a device chose, fit for logs and user interface."""
    return ascii(name[:MAX_TEXT])[1:-1]
