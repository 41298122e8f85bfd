"""Bodies of the channels: claims to models."""

from collections.abc import Mapping
import re
from typing import Any, Final

from .catalog import CATALOG
from .errors import Code, SchemaError
from .models import Claims, Hello, Telemetry, Value

MAX_METRICS: Final = 64
MAX_META: Final = 16
MAX_TEXT: Final = 64
# 16 bytes in canonical base64url: the last character has four bits to spare.
BOOT_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")
# What a date can hold, up to the year 9999.
MAX_TIME: Final = 253_402_300_799

_ENVELOPE: Final = frozenset({"iss", "aud", "iat", "exp", "nbf", "sid", "seq", "device_id"})
_TELEMETRY: Final = _ENVELOPE | {"metrics", "ts", "meta"}
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
    return Hello(
        boot=boot,
        firmware=_optional_text(claims, "firmware"),
        model=_optional_text(claims, "model"),
        capabilities=tuple(capabilities),
    )


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
