"""The device registry as a table: what a spreadsheet makes of it, and that an import is all or nothing."""

import asyncio
import csv
import io
import logging
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from hypothesis import given, settings, strategies as st
import probatio
import pytest

from custom_components.grokmon.choices import METHODS, Choices
from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.coordinator import DeviceCoordinator
from custom_components.grokmon.gateway.actuators import Actuator, Role
from custom_components.grokmon.gateway.catalog import CATALOG
from custom_components.grokmon.gateway.models import Auth, Device
from custom_components.grokmon.gateway.registry import MAX_RATE_LIMIT, DeviceRegistry
from custom_components.grokmon.gateway.topics import RESERVED_IDS
from custom_components.grokmon.registry_csv import COLUMNS, MAX_ROWS, _choices, _rows, export
from custom_components.grokmon.store import SecurityRecord, SecurityStore

from .common import Room, RoomDevice
from .device_simulator.credentials import DeviceIdentity, generate_key_pair, public_pem
from .device_simulator.protocol import DeviceProtocol
from .live.needles import Needles, of_bytes, of_root_key
from .test_credential_keeper import leaks

HEADER = "device_id,name,auth,metrics"
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", "\r=1", "'=1", "''+1"]
HARMLESS = ["'", "''", "it's", "a=b"]
WITH_ACCOUNTS = {"broker": {"mode": "files"}}


async def _import(room: Room, *lines: str) -> list[dict[str, Any]]:
    """Import a table; return the settings of its devices."""
    response = await room.call("import_registry", {"csv": "\n".join(lines)})
    assert response.keys() == {"devices"}
    return list(response["devices"])


async def _refusal(room: Room, *lines: str) -> tuple[str, str]:
    """Import a table that must be refused as a whole; return why."""
    before = (room.stored(), dict(room.entry.subentries))
    with pytest.raises(ServiceValidationError) as refused:
        await room.call("import_registry", {"csv": "\n".join(lines)})
    assert (room.stored(), dict(room.entry.subentries)) == before
    assert await room.audit("enrolled") == []
    assert refused.value.translation_domain == DOMAIN
    placeholders = refused.value.translation_placeholders or {}
    return str(refused.value.translation_key), placeholders.get("detail", "")


async def _export(room: Room) -> str:
    return str((await room.call("export_registry"))["csv"])


def _cells(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _chosen(device: Device) -> tuple[Any, ...]:
    """Return what a table keeps of a device."""
    key = device.key
    return (
        device.name,
        device.zone,
        device.auth,
        device.metrics,
        [(actuator.name, actuator.role) for actuator in device.actuators],
        device.rate_limit,
        None if key is None else (key.algorithm, key.public_key),
    )


# Import


async def test_imports_devices(room: Room) -> None:
    """The response has the settings of every device, and each of them speaks."""
    found = await _import(room, HEADER, "tent-1,Tent 1,hs256,temp_c humidity_percent", "tent-2,Tent 2,hs256,ph")
    assert [each["device_id"] for each in found] == ["tent-1", "tent-2"]
    device = RoomDevice(room, DeviceProtocol(DeviceIdentity.from_enrolment(found[0])))
    await device.report({"temp_c": 21.5})
    assert room.state("tent-1/temp_c").state == "21.5"
    assert room.subentry("tent-2").title == "Tent 2"
    enrolled = await room.audit("enrolled")
    assert [(each["device"], each["identity"]) for each in enrolled] == [
        ("tent-1", room.admin.user_id),
        ("tent-2", room.admin.user_id),
    ]
    await room.reload()
    await device.send(device.sign_reading({"temp_c": 22.5}))
    assert room.state("tent-1/temp_c").state == "22.5"


async def test_others_have_their_turn_meanwhile(room: Room) -> None:
    """Between any two devices of a long table, Home Assistant does what else there is to do."""
    importing = asyncio.ensure_future(_import(room, HEADER, *(f"d{number},D,hs256,ph" for number in range(20))))
    seen = {0}
    while not importing.done():
        await asyncio.sleep(0)
        seen.add(len(list(room.hub.gateway.registry)))
    assert seen == set(range(21))


async def test_who_goes_meanwhile_leaves_no_half(room: Room) -> None:
    """An import of which some devices are there goes on to the last, whoever does not wait for it any more."""
    importing = asyncio.ensure_future(_import(room, HEADER, *(f"d{number},D,hs256,ph" for number in range(20))))

    def go(_coordinator: DeviceCoordinator, _keys: frozenset[str]) -> None:
        importing.cancel()

    room.hub.enrolment.async_add_platform(go)
    await asyncio.wait([importing])
    assert importing.cancelled()
    assert 0 < len(list(room.hub.gateway.registry)) < 20
    await room.settle()
    assert len(room.stored()["devices"]) == len(room.entry.subentries) == len(list(room.hub.gateway.registry)) == 20


async def test_imports_every_way_of_proof(room: Room) -> None:
    """A public key, line breaks and all, stands in one cell."""
    pems = {"es256": public_pem(generate_key_pair("es256")), "eddsa": public_pem(generate_key_pair("eddsa"))}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    for name in METHODS:
        row = {"device_id": name, "name": name, "auth": name, "metrics": "temp_c", "public_key": pems.get(name, "")}
        writer.writerow(row)
    found = await _import(room, text.getvalue())
    assert {each["device_id"]: each["auth"] for each in found} == {name: name for name in METHODS}
    assert {name: room.hub.gateway.registry[name].credentials[0].public_key for name in pems} == pems


async def test_zone_by_name(room: Room) -> None:
    """A zone is named as people name it, and may be left out."""
    zone = await room.add_zone("Flower tent")
    await _import(room, "device_id,name,auth,metrics,zone", "a,A,hs256,ph,flower TENT", "b,B,hs256,ph,")
    assert (room.subentry("a").data["zone"], room.subentry("b").data["zone"]) == (zone.subentry_id, None)
    with pytest.raises(ServiceValidationError) as refused:
        await room.call("import_registry", {"csv": "device_id,name,auth,metrics,zone\nc,C,hs256,ph,Nowhere"})
    assert refused.value.translation_key == "zone_invalid"
    assert refused.value.translation_placeholders == {"detail": "row 2: Nowhere"}


async def test_outputs(room: Room) -> None:
    """An output is a role, or a name and a role."""
    found = await _import(room, "device_id,name,auth,actuators", "node,Node,hs256,grow_light left:grow_light exhaust")
    assert found[0]["actuators"].keys() == {"grow_light", "left", "exhaust"}


async def test_status_is_not_read(room: Room) -> None:
    """What is imported begins anew: its old credentials are not in the table, whatever became of them."""
    await _import(room, f"{HEADER},status", "a,A,hs256,ph,revoked", "b,B,hs256,ph,nonsense")
    assert {device.status.value for device in room.hub.gateway.registry} == {"active"}


@pytest.mark.parametrize(
    ("row", "code", "detail"),
    [
        ("Tent 2,B,hs256,ph", "device_id_invalid", "Tent 2"),
        (",B,hs256,ph", "device_id_invalid", ""),
        ("tent-2,,hs256,ph", "field_missing", "name"),
        ("tent-2,'  ,hs256,", "field_missing", "metrics"),
        ("tent-2,B,hs512,ph", "field_invalid", "auth"),
        ("tent-2,B,HS256,ph", "field_invalid", "auth"),
        ("tent-2,B,,ph", "field_invalid", "auth"),
        ("tent-2,B,hs256,", "field_missing", "metrics"),
        ("tent-2,B,hs256,plasma_flux", "metric_unknown", "plasma_flux"),
        ("tent-2,B,es256,ph", "public_key_invalid", "not a public key in PEM"),
        ("tent-1,B,hs256,ph", "device_exists", "tent-1"),
        ("there,B,hs256,ph", "device_exists", "there"),
        ("grokmon-probe-1,B,hs256,ph", "device_id_invalid", "grokmon-probe-1"),
        ("grokmon-probe-2,B,hs256,ph", "device_id_invalid", "grokmon-probe-2"),
    ],
)
async def test_one_wrong_row_refuses_all(room: Room, row: str, code: str, detail: str) -> None:
    """The row is named as a spreadsheet numbers it, and none of the others is enrolled."""
    await room.enrol("there")
    with pytest.raises(ServiceValidationError) as refused:
        await room.call("import_registry", {"csv": f"{HEADER}\ntent-1,A,hs256,ph\n{row}\ntent-3,C,hs256,ph"})
    assert (refused.value.translation_key, refused.value.translation_placeholders) == (
        code,
        {"detail": f"row 3: {detail}"},
    )
    assert list(room.hub.enrolment.coordinators) == ["there"]
    assert room.stored()["devices"].keys() == {"there"}
    assert len(await _import(room, HEADER, "tent-1,A,hs256,ph")) == 1


@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "many", "6001", "1e3", "\uff19", "9" * 5000])
async def test_rate_limit_that_is_not_possible(room: Room, limit: str) -> None:
    """What is no number, or none that is possible, is refused in words; so is one that takes minutes to read."""
    code, detail = await _refusal(room, f"{HEADER},rate_limit", f"a,A,hs256,ph,{limit}")
    assert code == "rate_limit_invalid"
    assert detail.startswith("row 2: ")


async def test_rate_limit_may_be_left_out(room: Room) -> None:
    """An empty cell is the usual limit."""
    await _import(room, f"{HEADER},rate_limit", "a,A,hs256,ph,", f"b,B,hs256,ph,{MAX_RATE_LIMIT}")
    limits = {device.device_id: device.rate_limit for device in room.hub.gateway.registry}
    assert limits == {"a": 100, "b": MAX_RATE_LIMIT}


@pytest.mark.parametrize("actuator", ["laser", "light:laser", "Light:grow_light", ":", "grow_light grow_light"])
async def test_output_that_is_not_possible(room: Room, actuator: str) -> None:
    """An output needs a name and a role."""
    code, detail = await _refusal(room, "device_id,name,auth,actuators", f"a,A,hs256,{actuator}")
    assert (code, detail[:7]) == ("actuator_invalid", "row 2: ")


@pytest.mark.parametrize("auth", ["broker", "token"])
async def test_output_of_a_device_that_does_not_sign(room: Room, auth: str) -> None:
    """The table is no way around the rule that only what signs drives outputs."""
    code, _ = await _refusal(room, "device_id,name,auth,actuators", f"a,A,{auth},outlet")
    assert code == "actuator_invalid"


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("",),
        ("tent-1,A,hs256,ph",),
        ("device_id,name,metrics", "a,A,ph"),
        (f"{HEADER},secret", "a,A,hs256,ph,x"),
        (f"{HEADER},key", "a,A,hs256,ph,x"),
        (f"{HEADER},name", "a,A,hs256,ph,B"),
        ("Device_ID,Name,Auth,Metrics", "a,A,hs256,ph"),
        ("device_id\tname\tauth\tmetrics", "a\tA\ths256\tph"),
    ],
)
async def test_columns_that_are_not_those_of_the_export(room: Room, lines: tuple[str, ...]) -> None:
    """A column that nobody knows could be a secret or a wish that is not fulfilled: it is refused, not overlooked."""
    code, detail = await _refusal(room, *lines)
    assert code == "field_invalid"
    assert detail == f"columns: {', '.join(COLUMNS)}"


@pytest.mark.parametrize(
    ("lines", "detail"),
    [
        ((HEADER,), f"1 to {MAX_ROWS} rows"),
        ((HEADER, "a,A,hs256"), "row 2: as many cells as columns"),
        ((HEADER, "a,A,hs256,ph", "b,B,hs256,ph,,"), "row 3: as many cells as columns"),
        ((HEADER, 'a,"A"B,hs256,ph'), "',' expected after '\"'"),
        ((HEADER, 'a,"A,hs256,ph'), "unexpected end of data"),
    ],
)
async def test_table_that_is_not_well_formed(room: Room, lines: tuple[str, ...], detail: str) -> None:
    """A cell too many shifts all the others: nothing of such a table is taken."""
    assert await _refusal(room, *lines) == ("field_invalid", detail)


async def test_cell_of_any_size(room: Room) -> None:
    """A cell that fills the memory is refused by the reader itself."""
    code, _ = await _refusal(room, HEADER, f"a,{'A' * 200_000},hs256,ph")
    assert code == "field_invalid"


async def test_duplicate_identifiers(room: Room) -> None:
    """The second of two rows for one device is named."""
    assert await _refusal(room, HEADER, "a,A,hs256,ph", "b,B,hs256,ph", "a,C,hs256,ph") == (
        "device_exists",
        "row 4: a",
    )


async def test_row_numbers_count_rows_and_not_lines(room: Room) -> None:
    """A cell may have line breaks: the number is that of the row in a spreadsheet."""
    assert await _refusal(room, HEADER, 'a,"A', "with", 'lines",hs256,ph', "B,B,hs256,ph") == (
        "device_id_invalid",
        "row 3: B",
    )


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";"])
async def test_as_spreadsheets_write_it(room: Room, ending: str, mark: str, delimiter: str) -> None:
    """A byte order mark, semicolons, quotes everywhere and either line ending are all the same table."""
    rows = [
        ("device_id", "name", "auth", "metrics"),
        ("a", 'Tent; "A", one', "hs256", "ph temp_c"),
        ("b", "B", "hs256", "ph"),
    ]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=ending).writerows(rows)
    await _import(room, mark + text.getvalue())
    assert room.subentry("a").title == 'Tent; "A", one'
    assert room.hub.gateway.registry["a"].metrics == {"ph", "temp_c"}


async def test_thousand_rows_at_most(room: Room) -> None:
    """A table has an end: one row more is refused before a single device is looked at."""
    rows = [f"d{number},D,hs256,ph" for number in range(MAX_ROWS + 1)]
    assert await _refusal(room, HEADER, *rows) == ("field_invalid", f"1 to {MAX_ROWS} rows")
    assert len(_rows("\n".join((HEADER, *rows[:-1])))) == MAX_ROWS


async def test_many_rows_are_one_write(room: Room) -> None:
    """A whole room is kept by one write: there is no moment at which half of it is enrolled."""
    with patch.object(SecurityStore, "async_save", autospec=True, side_effect=SecurityStore.async_save) as saves:
        found = await _import(room, HEADER, *(f"d{number},D,hs256,ph" for number in range(40)))
    assert (len(found), len(room.hub.enrolment.coordinators), saves.call_count) == (40, 40, 1)
    assert len(room.stored()["devices"]) == 40


async def test_disk_fails_while_a_table_is_imported(room: Room) -> None:
    """Not one of the devices is enrolled, and the next try enrols them all."""
    lines = (HEADER, "a,A,hs256,ph", "b,B,hs256,ph")
    room.break_store()
    with pytest.raises(HomeAssistantError) as failed:
        await _import(room, *lines)
    assert failed.value.translation_key == "store_not_written"
    assert (dict(room.entry.subentries), room.hub.store.state.devices) == ({}, {})
    assert await room.audit("enrolled") == []
    room.repair_store()
    assert len(await _import(room, *lines)) == 2


async def test_two_tables_at_once(room: Room) -> None:
    """Of two tables that share a device one is taken, and of the other nothing."""
    results = await asyncio.gather(
        _import(room, HEADER, "a,A,hs256,ph", "b,B,hs256,ph"),
        _import(room, HEADER, "c,C,hs256,ph", "b,B,hs256,ph"),
        return_exceptions=True,
    )
    assert [type(each) for each in results if isinstance(each, Exception)] == [ServiceValidationError]
    assert len(room.entry.subentries) == 2
    assert room.stored()["devices"].keys() == room.hub.enrolment.coordinators.keys()


@pytest.mark.parametrize("data", [{}, {"csv": None}, {"csv": [HEADER]}, {"csv": HEADER, "dry_run": True}])
async def test_refuses_what_is_out_of_form(room: Room, data: dict[str, Any]) -> None:
    """The form of a call is checked before anything else."""
    with pytest.raises(probatio.Invalid):
        await room.call("import_registry", data)


# Export


async def _room_with_everything(room: Room) -> dict[str, Any]:
    """Enrol one device of each kind; return them as tables see them."""
    await room.add_zone("Flower tent")
    await room.add_zone("=Veg tent")
    es256, eddsa = generate_key_pair("es256"), generate_key_pair("eddsa")
    await room.enrol("a-shared", zone="Flower tent", rate_limit=7)
    await room.enrol("b-es256", auth="es256", public_key=public_pem(es256), private_key=es256, zone="=Veg tent")
    await room.enrol("c-eddsa", auth="eddsa", public_key=public_pem(eddsa), private_key=eddsa)
    await room.enrol("d-node", "ph", actuators=[{"role": "outlet"}, {"name": "left", "role": "grow_light"}])
    for auth in ("broker", "token"):
        data = {"device_id": f"e-{auth}", "name": "=1+1", "metrics": ["ph"], "auth": auth}
        await room.call("enroll_device", data)
    return {device.device_id: _chosen(device) for device in room.hub.gateway.registry}


@pytest.mark.parametrize("options", [{}, WITH_ACCOUNTS])
async def test_import_of_an_export_is_the_same_room(room: Room) -> None:
    """What was exported is imported again, in an empty room, with credentials of its own."""
    before = await _room_with_everything(room)
    secrets = {device.device_id: [each.secret for each in device.credentials] for device in room.hub.gateway.registry}
    table = await _export(room)
    for device_id in before:
        await room.remove(device_id)
    found = await _import(room, table)
    assert [each["device_id"] for each in found] == sorted(before)
    assert {device.device_id: _chosen(device) for device in room.hub.gateway.registry} == before
    for device in room.hub.gateway.registry:
        assert not {each.secret for each in device.credentials if each.secret} & set(secrets[device.device_id])
    assert await _export(room) == table


@pytest.mark.parametrize("options", [WITH_ACCOUNTS])
async def test_no_secret_is_exported(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a key nor a password nor a token is in the table; nor in a log, when devices are imported."""
    caplog.set_level(logging.DEBUG)
    found = await _import(room, HEADER, "a,A,hs256,ph", "b,B,broker,ph", "c,C,token,ph")
    needles: Needles = of_root_key("a", found[0]["key"])
    needles |= of_bytes("token", found[2]["token"].rpartition(".")[2].encode())
    for each in found[:2]:
        needles |= of_bytes("password", each["password"].encode())
    assert await leaks(room, caplog, needles) == []
    table = (await _export(room)).encode()
    assert [what for needle, what in needles.items() if needle in table] == []
    assert table.splitlines()[0].decode() == ",".join(COLUMNS)
    for device in room.hub.gateway.registry:
        assert not any(each.key_id.encode() in table for each in device.credentials)


async def test_export_says_how_devices_are(room: Room) -> None:
    """The table is sorted, and says who is revoked or disabled; an empty room is a header."""
    assert await _export(room) == ",".join(COLUMNS) + "\r\n"
    await room.enrol("b")
    await room.enrol("a", "ph", "temp_c")
    await room.call("revoke_device", {"device_id": "b"})
    first, second = _cells(await _export(room))
    assert first == {
        "device_id": "a",
        "name": "A",
        "zone": "",
        "auth": "hs256",
        "metrics": "ph temp_c",
        "actuators": "",
        "rate_limit": "100",
        "public_key": "",
        "status": "active",
    }
    assert (second["device_id"], second["status"]) == ("b", "revoked")


@pytest.mark.parametrize("name", FORMULAS + HARMLESS)
async def test_no_cell_is_a_formula(room: Room, name: str) -> None:
    """A spreadsheet calculates nothing that somebody gave as a name, and the name comes back as it was."""
    await room.enrol("a", "ph", name=name)
    # As a user renames a device, white space and all.
    room.hass.config_entries.async_update_subentry(room.entry, room.subentry("a"), title=name)
    await room.settle()
    table = await _export(room)
    for row in _cells(table):
        assert not [cell for cell in row.values() if cell[:1] in set("=+-@\t\r")]
    await room.remove("a")
    await _import(room, table)
    assert room.subentry("a").title == name.strip()


# Round trip

_IDS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True).filter(lambda text: text not in RESERVED_IDS)
_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=64).filter(
    str.strip
)
_OUTPUTS = st.lists(
    st.builds(Actuator, name=st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True), role=st.sampled_from(Role)),
    max_size=8,
)
_DEVICES = st.lists(
    st.builds(
        Device,
        device_id=_IDS,
        name=_NAMES.map(str.strip),
        zone=st.none() | _NAMES,
        metrics=st.frozensets(st.sampled_from(sorted(CATALOG)), max_size=5),
        actuators=_OUTPUTS.map(tuple),
        rate_limit=st.integers(1, MAX_RATE_LIMIT),
        credentials=st.just(()),
        auth=st.sampled_from([Auth.BROKER, Auth.TOKEN]),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda device: device.device_id,
)


@given(devices=_DEVICES, mark=st.sampled_from(["", "\ufeff"]))
@settings(max_examples=200, deadline=None)
def test_round_trip(devices: list[Device], mark: str) -> None:
    """Whatever people call their devices and zones, the table gives back what went into it."""
    registry = DeviceRegistry()
    for device in devices:
        registry._devices[device.device_id] = device
    # A zone is known by its name here.
    enrolment = SimpleNamespace(zone_name=lambda zone: zone, zone_named=lambda name: name)
    hub: Any = SimpleNamespace(gateway=SimpleNamespace(registry=registry), enrolment=enrolment)
    table = mark + export(hub)
    for row in _cells(table.removeprefix("\ufeff")):
        assert not [cell for cell in row.values() if cell[:1] in set("=+-@\t\r")]
    found = {}
    for _, row in _rows(table):
        choices, method, public_key = _choices(hub, row)
        assert public_key == ""
        found[choices.device_id] = (choices, method)
    assert found == {
        device.device_id: (
            Choices(
                device_id=device.device_id,
                name=device.name,
                zone=device.zone,
                metrics=device.metrics,
                ranges={},
                actuators=device.actuators,
                rate_limit=device.rate_limit,
            ),
            device.auth.value,
        )
        for device in devices
    }


def test_choices_make_the_device() -> None:
    """What a table says of a device is what its subentry and its record make."""
    choices = Choices(device_id="a", name="A", zone=None, metrics=frozenset({"ph"}), ranges={})
    assert _chosen(choices.device(SecurityRecord(auth=Auth.TOKEN)))[2:4] == (Auth.TOKEN, {"ph"})
