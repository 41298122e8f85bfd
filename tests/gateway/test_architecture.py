"""Tests of the layering: who may import whom, and that the gateway runs where Home Assistant is not."""

import ast
from collections.abc import Iterator
import json
from pathlib import Path
import subprocess
import sys

import pytest

from custom_components.grokmon.gateway import pipeline

GATEWAY = Path(pipeline.__file__).parent
INTEGRATION = GATEWAY.parent
GATEWAY_FILES = sorted(GATEWAY.rglob("*.py"))
OUTER_FILES = sorted(set(INTEGRATION.rglob("*.py")) - set(GATEWAY_FILES))

# What a gateway module may import from outside: nothing that does I/O, waits, or tells the time.
ALLOWED = {
    *(
        "base64",
        "binascii",
        "collections",
        "contextlib",
        "csv",
        "dataclasses",
        "datetime",
        "enum",
        "hashlib",
        "hmac",
        "io",
        "ipaddress",
    ),
    *("itertools", "json", "math", "re", "secrets", "typing"),
    *("cryptography", "jwt", "orjson"),
}
# audit.py is also a script, for older Pythons, too.
ALLOWED_TO_A_SCRIPT = ALLOWED | {"__future__", "argparse", "pathlib", "sys"}
DATA_MODULES = {"errors", "actuators", "models", "catalog", "principals", "topics", "zones"}
# What else a module may know: the books know the outputs, and the policy knows the books that it judges by.
ALSO_KNOWS: dict[str, set[str]] = {
    "access_tokens": {"envelope"},
    "actions": {"orders"},
    "admission": {"climate", "credentials", "envelope", "ranges", "ratelimit"},
    "audit_export": {"audit_record"},
    "authority": {"credentials", "public_keys"},
    "broker_drift": {"broker_accounts"},
    "broker_files": {"broker_accounts"},
    "checkpoints": {"audit"},
    "checklist": {"posture"},
    "claim_codes": {"credentials", "envelope"},
    "commands": {"orders"},
    "exhaust": {"actions", "outputs"},
    "interlocks": {"climate"},
    "leases": {"actions", "outputs"},
    "outputs": {"orders", "ratelimit"},
    "credentials": {"public_keys"},
    "policy": {"interlocks", "ledger", "outputs", "ratelimit"},
    "redaction": {"envelope"},
    "rehearsal": {"actions", "control"},
}
# The way in and the way out: the only ones that know the order of the steps.
ORDERS = {"pipeline.py", "control.py"}
TELL_THE_TIME = {"now", "utcnow", "today", "monotonic", "perf_counter"}
FORBIDDEN_BUILTINS = {"open", "print", "input", "exec", "eval", "compile", "breakpoint", "globals", "__import__"}
# enrolment admits devices to the gateway that the hub owns, dispatch has it seal commands; they hand it no
# message.
KNOW_THE_PIPELINE = {"hub.py", "enrolment.py", "dispatch.py"}
MAY_PUBLISH = {"hub.py": {"self._publisher.async_publish"}, "publisher.py": {"mqtt.async_publish"}}
WAYS_IN = {"ingest", "ingest_http", "authenticate"}


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every module that is imported anywhere in a tree, with how many levels up its name begins."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from ((0, alias.name) for alias in names)
            case ast.ImportFrom(None, names, level):
                yield from ((level or 0, alias.name) for alias in names)
            case ast.ImportFrom(str(module), names, level):
                yield from ((level or 0, f"{module}.{alias.name}") for alias in names)


def called(tree: ast.AST) -> Iterator[str]:
    """Yield the last name of everything that is called, and of every function that is only named."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name):
                yield name.rpartition(".")[2]


def publishing(tree: ast.AST) -> Iterator[str]:
    """Yield everything that publishes, as it is written."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr="async_publish") | ast.Name(id="async_publish") | ast.alias(name="async_publish"):
                yield ast.unparse(node)


def foreign(tree: ast.AST, allowed: set[str]) -> list[str]:
    """Return what a gateway module imports from outside the gateway and may not."""
    return [name for level, name in imports(tree) if level > 1 or (level == 0 and name.split(".")[0] not in allowed)]


def siblings(tree: ast.AST) -> set[str]:
    """Return the modules of the gateway that a gateway module imports."""
    return {name.split(".")[0] for level, name in imports(tree) if level == 1}


def parsed(path: Path) -> ast.Module:
    """Parse a file of the integration."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@pytest.mark.parametrize("path", GATEWAY_FILES, ids=lambda path: path.name)
def test_gateway_imports_nothing_that_acts(path: Path) -> None:
    """Keep Home Assistant, I/O and the clock out of the gateway."""
    allowed = ALLOWED_TO_A_SCRIPT if path.name == "audit.py" else ALLOWED
    assert foreign(parsed(path), allowed) == []


@pytest.mark.parametrize(
    "path", [path for path in GATEWAY_FILES if path.name != "audit.py"], ids=lambda path: path.name
)
def test_gateway_does_no_io(path: Path) -> None:
    """Let no gateway module open, print or run anything."""
    names = {node.id for node in ast.walk(parsed(path)) if isinstance(node, ast.Name)}
    assert names.isdisjoint(FORBIDDEN_BUILTINS)
    told = {node.attr for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)}
    assert told.isdisjoint(TELL_THE_TIME)


@pytest.mark.parametrize(
    "path", [path for path in GATEWAY_FILES if path.name not in ORDERS], ids=lambda path: path.name
)
def test_only_the_two_ways_know_their_siblings(path: Path) -> None:
    """Let a module import records, errors and what it is listed with, so that each order stands in one place."""
    assert siblings(parsed(path)) <= DATA_MODULES | ALSO_KNOWS.get(path.stem, set())


def test_the_two_ways_know_nothing_of_each_other() -> None:
    """Let the way in and the way out meet in the hub only."""
    assert "control" not in siblings(parsed(GATEWAY / "pipeline.py"))
    assert "pipeline" not in siblings(parsed(GATEWAY / "control.py"))


def test_data_modules_hold_data() -> None:
    """Let the modules that everybody imports depend on nothing but each other."""
    assert {name: siblings(parsed(GATEWAY / f"{name}.py")) for name in sorted(DATA_MODULES)} == {
        "actuators": {"errors"},
        "catalog": {"models"},
        "errors": set(),
        "models": {"actuators"},
        "principals": set(),
        "topics": {"models"},
        "zones": {"actuators", "errors", "models"},
    }


def test_audit_is_a_file_by_itself() -> None:
    """Let the audit script import nothing of the gateway: it is run on its own."""
    assert siblings(parsed(GATEWAY / "audit.py")) == set()


@pytest.mark.parametrize("path", OUTER_FILES, ids=lambda path: path.name)
def test_only_the_hub_hands_messages_in(path: Path) -> None:
    """Let nobody but the hub call the pipeline, so that no check can be walked around."""
    tree = parsed(path)
    assert WAYS_IN.isdisjoint(called(tree)) or path.name == "hub.py"
    assert path.name in KNOW_THE_PIPELINE or not [name for _, name in imports(tree) if "pipeline" in name.split(".")]


@pytest.mark.parametrize("path", OUTER_FILES, ids=lambda path: path.name)
def test_only_the_dispatcher_commands(path: Path) -> None:
    """Let nobody but the dispatcher have a command accepted, so that nothing moves without the policy."""
    assert "accept" not in called(parsed(path)) or path.name == "dispatch.py"


@pytest.mark.parametrize("path", OUTER_FILES, ids=lambda path: path.name)
def test_only_the_publisher_publishes(path: Path) -> None:
    """Let nobody but the publisher publish, by function or by service, and nobody but the hub have it do so."""
    tree = parsed(path)
    assert set(publishing(tree)) <= MAY_PUBLISH.get(path.name, set())
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not {"mqtt", "publish"} <= strings


def test_hub_is_there() -> None:
    """Find the hub doing what only it may do, or the tests above would hold for nothing."""
    assert "ingest" in called(parsed(INTEGRATION / "hub.py"))
    assert {name: set(publishing(parsed(INTEGRATION / name))) for name in MAY_PUBLISH} == MAY_PUBLISH
    assert "accept" in called(parsed(INTEGRATION / "dispatch.py"))
    assert len(OUTER_FILES) > 5
    assert len(GATEWAY_FILES) > 10


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time", ["time"]),
        ("import os.path as p", ["os.path"]),
        ("from threading import Thread", ["threading.Thread"]),
        ("from homeassistant.core import callback", ["homeassistant.core.callback"]),
        ("def f():\n    import asyncio", ["asyncio"]),
        ("if 1:\n    from pathlib import Path", ["pathlib.Path"]),
        ("from .. import hub", ["hub"]),
        ("from ..hub import GrokmonHub", ["hub.GrokmonHub"]),
        ("from custom_components.grokmon import hub", ["custom_components.grokmon.hub"]),
        ("import importlib", ["importlib"]),
        ("import jwt, socket", ["socket"]),
        ("from .models import Device\nimport json", []),
    ],
)
def test_foreign_imports_are_seen(source: str, found: list[str]) -> None:
    """See an import wherever it hides."""
    assert foreign(ast.parse(source), ALLOWED) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from . import envelope, models", {"envelope", "models"}),
        ("from .sessions import Sessions", {"sessions"}),
        ("def f():\n    from .pipeline import Gateway", {"pipeline"}),
        ("import json", set()),
        ("from .. import x", set()),
    ],
)
def test_siblings_are_seen(source: str, found: set[str]) -> None:
    """See a sibling however it is imported."""
    assert siblings(ast.parse(source)) == found


@pytest.mark.parametrize(
    "source", ["mqtt.async_publish(x)", "from m import async_publish as p", "f = mqtt.async_publish", "async_publish()"]
)
def test_calls_are_seen(source: str) -> None:
    """See a function that is called, handed on or imported under another name."""
    assert "async_publish" in called(ast.parse(source))


# The whole way of a reading, with the gateway as a package of its own.
SCRIPT = """
import base64, hashlib, hmac, importlib, json, pkgutil, sys
# At the end: a module of the integration may be called like one of the standard library.
sys.path.append(sys.argv[1])
import gateway
names = [module.name for module in pkgutil.iter_modules(gateway.__path__)]
for name in names:
    importlib.import_module(f"gateway.{name}")
from gateway import credentials, models, pipeline

credential = credentials.issue(models.Algorithm.HS256, 1000.0)
device = models.Device(device_id="tent-1", name="Tent", metrics=frozenset({"temp_c"}), credentials=(credential,))
site = pipeline.Gateway("grokmon", 1000.0, {})
site.admit(site.registry.enrol(device))
key = hmac.digest(credential.secret, b"grokmon/v1/up", hashlib.sha256)

def send(channel, **claims):
    claims |= {"iss": "tent-1", "aud": f"grokmon/v1/tent-1/up/{channel}"}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = base64.urlsafe_b64encode(hmac.digest(key, text, hashlib.sha256)).rstrip(b"=")
    return site.ingest(models.Message("tent-1", channel, text + b"." + mac), 1000.0)

answer = send("hello", boot="A" * 22).answer.payload.split(b".")[1]
sid = json.loads(base64.urlsafe_b64decode(answer + b"=="))["sid"]
reading = send("telemetry", sid=sid, seq=1, metrics={"temp_c": 21.5})
print(json.dumps({"names": names, "values": reading.values, "modules": sorted(sys.modules)}))
"""


def test_gateway_runs_without_home_assistant() -> None:
    """Import every module in a fresh interpreter and make a reading there, with no Home Assistant in sight."""
    command = [sys.executable, "-I", "-c", SCRIPT, str(INTEGRATION)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own script
    result = json.loads(done.stdout)
    assert result["values"] == {"temp_c": 21.5}
    assert sorted(result["names"]) == sorted(path.stem for path in GATEWAY_FILES if path.stem != "__init__")
    roots = {module.split(".")[0] for module in result["modules"]}
    assert roots.isdisjoint({"homeassistant", "custom_components", "aiohttp", "voluptuous", "probatio", "paho"})
