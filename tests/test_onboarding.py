"""What a person gets to set up a device."""

from ast import literal_eval
from dataclasses import replace
import json
from pathlib import Path
import runpy
import sys
from typing import Any
from unittest.mock import Mock

import pytest

from custom_components.grokmon.gateway import credentials, ranges, schema
from custom_components.grokmon.gateway.actuators import Actuator, Role
from custom_components.grokmon.gateway.catalog import CATALOG
from custom_components.grokmon.gateway.interlocks import Interlocks
from custom_components.grokmon.gateway.models import Algorithm, Auth, Device
from custom_components.grokmon.gateway.zones import InterlockSettings, Zone
from custom_components.grokmon.onboarding import Site, instructions, settings_of
from examples.devices.python import claim
from examples.devices.python.grokmon_device import GrokmonDevice

from .device_simulator.credentials import DeviceIdentity, generate_key_pair, public_pem
from .device_simulator.signing import b64decode
from .stack.certificates import ensure_certificates

SITE_KEYS = {name: credentials.new_site_key(name) for name in (Algorithm.ES256, Algorithm.EDDSA)}
PREFIX = "farm/two"
SITE = Site(PREFIX, SITE_KEYS, bytes(32))
NOWHERE = ("", 8883)
LAMP = Actuator(name="lamp", role=Role.GROW_LIGHT)


def _device(algorithm: Algorithm = Algorithm.HS256) -> Device:
    pem = {
        Algorithm.HS256: "",
        Algorithm.ES256: public_pem(generate_key_pair("es256")),
        Algorithm.EDDSA: public_pem(generate_key_pair("eddsa")),
    }
    return Device(
        device_id="tent-1",
        name="Tent 1",
        metrics=frozenset({"temp_c", "humidity_percent"}),
        credentials=(credentials.issue(algorithm, 0.0, pem[algorithm]),),
    )


def _settings_file(device: Device) -> dict[str, Any]:
    texts = instructions(device, settings_of(device, SITE), NOWHERE)
    settings: dict[str, Any] = json.loads(texts["settings"])
    return settings


def test_settings_of_a_shared_key() -> None:
    """The key is the device's root key, as text."""
    device = _device()
    settings = settings_of(device, SITE)
    assert settings.keys() == {"device_id", "auth", "prefix", "topics", "key"}
    assert (settings["device_id"], settings["auth"], settings["prefix"]) == ("tent-1", "hs256", PREFIX)
    (key,) = device.credentials
    assert b64decode(settings["key"]) == key.secret
    assert len(settings["key"]) == 43
    assert settings["topics"]["telemetry"] == "farm/two/v1/tent-1/up/telemetry"
    assert settings["topics"]["session"] == "farm/two/v1/tent-1/down/session"
    assert DeviceIdentity.from_enrolment(settings).prefix == PREFIX


@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.EDDSA])
def test_settings_of_a_key_pair(algorithm: Algorithm) -> None:
    """A device with its own key pair gets the site's public key of its algorithm, and no private one."""
    settings = settings_of(_device(algorithm), SITE)
    assert settings.keys() == {"device_id", "auth", "prefix", "topics", "site_public_key"}
    assert settings["auth"] == algorithm.name.lower()
    assert settings["site_public_key"] == public_pem(SITE_KEYS[algorithm])
    assert "PRIVATE" not in json.dumps(settings)


def test_settings_file_is_what_the_examples_read(tmp_path: Path) -> None:
    """The page's settings file is complete but for where the broker is; the reference device takes it."""
    settings = _settings_file(_device())
    assert settings.keys() == {
        "device_id",
        "prefix",
        "key",
        "host",
        "port",
        "username",
        "password",
        "ca_file",
    }
    authority = ensure_certificates(tmp_path).ca
    assert GrokmonDevice(settings | {"ca_file": str(authority)}).ready is False


@pytest.mark.parametrize(
    ("place", "shown"), [(NOWHERE, ("BROKER", 8883)), (("mqtt.local", 8884), ("mqtt.local", 8884))]
)
def test_settings_file_says_where_the_broker_is(place: tuple[str, int], shown: tuple[str, int]) -> None:
    """Nobody has to type in what is known."""
    device = _device()
    settings = json.loads(instructions(device, settings_of(device, SITE), place)["settings"])
    assert (settings["host"], settings["port"]) == shown


def test_settings_file_of_a_key_pair() -> None:
    """The site's public key survives being a line of JSON."""
    settings = _settings_file(_device(Algorithm.ES256))
    assert settings["site_public_key"] == public_pem(SITE_KEYS[Algorithm.ES256])
    assert "key" not in settings


def _claimed(device: Device) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(claim.written(settings_of(device, SITE)))
    return settings


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_claim_gives_what_the_page_shows(algorithm: Algorithm) -> None:
    """Whoever fetches the settings has the same file as whoever copies them, the account's places included."""
    device = replace(_device(algorithm), actuators=(LAMP,))
    assert _claimed(device) == _settings_file(device)
    assert (_claimed(device)["username"], _claimed(device)["password"]) == ("USER", "PASSWORD")


@pytest.mark.parametrize("auth", [Auth.SIGNED, Auth.BROKER])
def test_a_claim_keeps_the_account(auth: Auth) -> None:
    """The code works once: name, password and client of the account are kept, with and without a key."""
    password = credentials.issue_password(0.0)
    key = _device().credentials if auth is Auth.SIGNED else ()
    device = replace(_device(), auth=auth, credentials=(*key, password))
    settings = settings_of(device, SITE)
    account = {name: settings[name] for name in ("username", "password", "client_id")}
    assert account["password"] == password.secret.decode()
    assert _claimed(device).items() >= (account | {"host": "BROKER", "port": 8883, "ca_file": "ca.crt"}).items()


def test_a_claim_keeps_the_token_beside_a_key() -> None:
    """A device that signs may show a token, too, and still speaks at the broker."""
    device = _device()
    device = replace(device, credentials=(*device.credentials, credentials.issue_token(0.0)))
    settings = settings_of(device, SITE)
    assert _claimed(device) == _settings_file(device) | {"token": settings["token"], "path": settings["path"]}


def test_a_claim_of_a_token_alone() -> None:
    """Without a broker there is nothing to fill in."""
    device = replace(_device(), auth=Auth.TOKEN, credentials=(credentials.issue_token(0.0),))
    settings = settings_of(device, SITE)
    del settings["auth"]
    assert settings.keys() == {"device_id", "prefix", "token", "path"}
    assert _claimed(device) == settings


@pytest.mark.parametrize("actuators", [(), (LAMP,)], ids=["sensors", "outputs"])
@pytest.mark.parametrize("metrics", [frozenset[str](), frozenset({"temp_c"})], ids=["silent", "reporting"])
def test_instructions(metrics: frozenset[str], actuators: tuple[Actuator, ...]) -> None:
    """The page names the device, all of its topics, and programs that report one of its metrics."""
    device = replace(_device(), metrics=metrics, actuators=actuators)
    texts = instructions(device, settings_of(device, SITE), NOWHERE)
    assert (texts["name"], texts["device_id"]) == ("Tent 1", "tent-1")
    lines = texts["topics"].splitlines()
    assert len(lines) == 7
    assert "hello: farm/two/v1/tent-1/up/hello" in lines
    for program in (texts["python"], texts["micropython"]):
        compile(program, "program", "exec")


@pytest.mark.parametrize("raising", ["report", "run"])
@pytest.mark.parametrize("language", ["python", "micropython"])
def test_programs_leave_nothing_on(
    language: str, raising: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sensor that raises ends the program, and with it the thread that ends leases: outputs are at rest before."""
    device = replace(_device(), actuators=(LAMP,))
    texts = instructions(device, settings_of(device, SITE), NOWHERE)
    (tmp_path / "settings.json").write_text(texts["settings"], encoding="utf-8")
    (tmp_path / "program.py").write_text(texts[language], encoding="utf-8")
    devices, outputs = Mock(), Mock()
    getattr(devices.GrokmonDevice.return_value, raising).side_effect = [None, OSError("no sensor")]
    monkeypatch.setitem(sys.modules, "grokmon_device", devices)
    monkeypatch.setitem(sys.modules, "grokmon_outputs", outputs)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="no sensor"):
        runpy.run_path("program.py")
    assert devices.GrokmonDevice.call_args.args == (json.loads(texts["settings"]), outputs.Outputs.return_value)
    outputs.Outputs.return_value.rest.assert_called_once_with()


def test_programs_hold_no_secret() -> None:
    """The key is in the settings file only."""
    device = _device()
    settings = settings_of(device, SITE)
    texts = instructions(device, settings, NOWHERE)
    assert [name for name, text in texts.items() if settings["key"] in text] == ["settings"]


def _reported(program: str) -> dict[str, Any]:
    reported: dict[str, Any] = literal_eval(program.partition("device.report(")[2].partition(")\n")[0])
    return reported


@pytest.mark.parametrize("language", ["python", "micropython"])
def test_programs_report_what_is_accepted(language: str) -> None:
    """The program on the page reports all that the device measures, by values that are neither refused nor flagged."""
    device = replace(_device(), metrics=frozenset(CATALOG))
    program = instructions(device, settings_of(device, SITE), NOWHERE)[language]
    claims = {"metrics": _reported(program)}
    body = schema.telemetry(claims, {name: metric.is_boolean for name, metric in CATALOG.items()})
    values = dict(body.metrics)
    assert ranges.apply(values, ranges.limits_of(device, device.metrics)) == ()
    assert values.keys() == CATALOG.keys()


def test_programs_report_what_a_healthy_room_shows() -> None:
    """Whoever runs the sample as it is trips no interlock, and wonders at no value."""
    device = replace(_device(), metrics=frozenset(CATALOG))
    reported = _reported(instructions(device, settings_of(device, SITE), NOWHERE)["python"])
    interlocks = Interlocks()
    interlocks.set_zone(Zone(zone_id="z", name="Tent", interlocks=InterlockSettings()), {"tent-1": CATALOG}, 0)
    interlocks.observe("tent-1", "z", reported, (), 1)
    assert interlocks.judge(1) == []
    assert reported["power_w"] == 120.0
