"""The device registry as a table: everything but secrets."""

import csv
import io
from typing import Any, Final

from .choices import METHODS, Choices, method_of
from .gateway.actuators import Actuator, Role
from .gateway.errors import Code, GatewayError, RegistryError
from .gateway.models import DEFAULT_RATE_LIMIT, Device
from .hub import GrokmonHub
from .onboarding import settings_of
from .store import SecurityRecord

COLUMNS: Final = ("device_id", "name", "zone", "auth", "metrics", "actuators", "rate_limit", "public_key", "status")
MAX_ROWS: Final = 1000
_LIST: Final = " "
_DIGITS: Final = 9
# What a spreadsheet would take for a formula.
_FORMULA: Final = frozenset("=+-@\t\r")


def export(hub: GrokmonHub) -> str:
    """Return the registry as CSV (RFC 4180); no secret is in it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for device in sorted(hub.gateway.registry, key=lambda each: each.device_id):
        writer.writerow([_safe(cell) for cell in _row(hub, device)])
    return text.getvalue()


async def async_import(hub: GrokmonHub, text: str, actor: str) -> dict[str, Any]:
    """Enrol the devices of a table, or none when one row of it is wrong; return their settings, secrets included.

    Raises RegistryError, which names the row. `status` is not read: what is imported begins anew.
    """
    prepared: dict[str, tuple[Choices, SecurityRecord]] = {}
    for number, row in _rows(text):
        try:
            choices, method, public_key = _choices(hub, row)
            record = hub.enrolment.prepare(choices, METHODS[method], public_key)
        except GatewayError as error:
            raise RegistryError(error.code, f"row {number}: {error.detail or row.get('device_id', '')}") from error
        if choices.device_id in prepared:
            raise RegistryError(Code.DEVICE_EXISTS, f"row {number}: {choices.device_id}")
        prepared[choices.device_id] = choices, record
    enrolled = await hub.enrolment.async_enrol_all(list(prepared.values()), actor)
    return {"devices": [settings_of(device, hub.trust.site) for device in enrolled]}


def _row(hub: GrokmonHub, device: Device) -> list[str]:
    key = device.key
    return [
        device.device_id,
        device.name,
        hub.enrolment.zone_name(device.zone) or "",
        method_of(device),
        _LIST.join(sorted(device.metrics)),
        _LIST.join(
            actuator.name if actuator.name == actuator.role else f"{actuator.name}:{actuator.role}"
            for actuator in device.actuators
        ),
        str(device.rate_limit),
        "" if key is None else key.public_key,
        device.status.value,
    ]


def _rows(text: str) -> list[tuple[int, dict[str, str]]]:
    # Spreadsheets write a byte order mark, and semicolons where the comma is for decimals.
    text = text.removeprefix("\ufeff")
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    reader = csv.DictReader(io.StringIO(text), strict=True, delimiter=delimiter)
    try:
        named = reader.fieldnames or ()
        if not {"device_id", "name", "auth"} <= set(named) <= set(COLUMNS) or len(set(named)) != len(named):
            raise RegistryError(Code.FIELD_INVALID, f"columns: {', '.join(COLUMNS)}")
        rows = [(number, row) for number, row in enumerate(reader, start=2)]
    except csv.Error as error:
        raise RegistryError(Code.FIELD_INVALID, str(error)) from error
    if not 1 <= len(rows) <= MAX_ROWS:
        raise RegistryError(Code.FIELD_INVALID, f"1 to {MAX_ROWS} rows")
    for number, row in rows:
        if None in row or None in row.values():
            raise RegistryError(Code.FIELD_INVALID, f"row {number}: as many cells as columns")
    return [(number, {name: _unsafe(cell) for name, cell in row.items()}) for number, row in rows]


def _choices(hub: GrokmonHub, row: dict[str, str]) -> tuple[Choices, str, str]:
    zone_name, method = row.get("zone", ""), row["auth"]
    zone = hub.enrolment.zone_named(zone_name) if zone_name else None
    if zone_name and zone is None:
        raise RegistryError(Code.ZONE_INVALID, zone_name)
    if method not in METHODS:
        raise RegistryError(Code.FIELD_INVALID, "auth")
    limit = row.get("rate_limit") or str(DEFAULT_RATE_LIMIT)
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= _DIGITS):
        raise RegistryError(Code.RATE_LIMIT_INVALID)
    if not row["name"].strip():
        raise RegistryError(Code.FIELD_MISSING, "name")
    choices = Choices(
        device_id=row["device_id"],
        name=row["name"].strip(),
        zone=zone,
        metrics=frozenset(row.get("metrics", "").split()),
        ranges={},
        actuators=tuple(_actuator(each) for each in row.get("actuators", "").split()),
        rate_limit=int(limit),
    )
    return choices, method, row.get("public_key", "")


def _actuator(text: str) -> Actuator:
    name, _, role = text.partition(":")
    try:
        return Actuator(name=name, role=Role(role or name))
    except ValueError as error:
        raise RegistryError(Code.ACTUATOR_INVALID, text) from error


def _safe(cell: str) -> str:
    return f"'{cell}" if _is_formula(cell) else cell


def _unsafe(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and _is_formula(cell) else cell


def _is_formula(cell: str) -> bool:
    # With the apostrophes before it: one more is put there, and exactly one is taken away.
    return cell.lstrip("'")[:1] in _FORMULA
