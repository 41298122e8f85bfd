"""What a person gets to set up a device."""

from ast import literal_eval
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

import pytest

from custom_components.grokmon.gateway import credentials, ranges, schema
from custom_components.grokmon.gateway.catalog import CATALOG
from custom_components.grokmon.gateway.models import Algorithm, Device
from custom_components.grokmon.onboarding import Site, instructions, settings_of
from examples.devices.python.grokmon_device import GrokmonDevice

from .device_simulator.credentials import DeviceIdentity, generate_key_pair, public_pem
from .device_simulator.signing import b64decode
from .stack.certificates import ensure_certificates

SITE_KEYS = {name: credentials.new_site_key(name) for name in (Algorithm.ES256, Algorithm.EDDSA)}
PREFIX = "farm/two"
SITE = Site(PREFIX, SITE_KEYS, bytes(32))


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
    texts = instructions(device, settings_of(device, SITE))
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


def test_settings_file_of_a_key_pair() -> None:
    """The site's public key survives being a line of JSON."""
    settings = _settings_file(_device(Algorithm.ES256))
    assert settings["site_public_key"] == public_pem(SITE_KEYS[Algorithm.ES256])
    assert "key" not in settings


def test_instructions() -> None:
    """The page names the device, all of its topics, and programs that report one of its metrics."""
    device = _device()
    texts = instructions(device, settings_of(device, SITE))
    assert (texts["name"], texts["device_id"]) == ("Tent 1", "tent-1")
    lines = texts["topics"].splitlines()
    assert len(lines) == 7
    assert "hello: farm/two/v1/tent-1/up/hello" in lines
    for program in (texts["python"], texts["micropython"]):
        compile(program, "program", "exec")


def test_programs_hold_no_secret() -> None:
    """The key is in the settings file only."""
    device = _device()
    settings = settings_of(device, SITE)
    texts = instructions(device, settings)
    assert [name for name, text in texts.items() if settings["key"] in text] == ["settings"]


@pytest.mark.parametrize("name", CATALOG)
@pytest.mark.parametrize("language", ["python", "micropython"])
def test_programs_report_what_is_accepted(name: str, language: str) -> None:
    """Whatever the device measures, the program on the page reports a value that is neither refused nor flagged."""
    device = replace(_device(), metrics=frozenset({name}))
    program = instructions(device, settings_of(device, SITE))[language]
    reported = literal_eval(program.partition("device.report(")[2].partition(")\n")[0])
    claims = {"metrics": reported}
    body = schema.telemetry(claims, {name: CATALOG[name].is_boolean})
    values = dict(body.metrics)
    assert ranges.apply(values, ranges.limits_of(device, device.metrics)) == ()
    assert values.keys() == {name}
