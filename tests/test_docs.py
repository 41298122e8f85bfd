"""The documentation says what the code does: vectors, tables and links are checked against it."""

from base64 import urlsafe_b64decode
import hashlib
import hmac
import json
from pathlib import Path
import re
import subprocess
from typing import Any

import jwt
import pytest

from custom_components.grokmon.gateway.catalog import CATALOG
from custom_components.grokmon.gateway.errors import Code
from custom_components.grokmon.gateway.models import Channel, Downlink, Range

ROOT = Path(__file__).parents[1]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
EXAMPLE = PROTOCOL.partition("## A worked example")[2]
HEADER = b'{"alg":"HS256","typ":"JWT"}'
MESSAGES = re.findall(r"```json\n(.+)\n```\n\n```text\n(.+)\n```", EXAMPLE)
PAGES = sorted(path for folder in (ROOT, ROOT / "docs", ROOT / "docs" / "adr") for path in folder.glob("*.md"))


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _value(label: str) -> str:
    """Return the value beside a label in the table of keys."""
    found = re.search(rf"^\| {re.escape(label)} \| `([^`]+)` \|$", EXAMPLE, re.MULTILINE)
    assert found is not None, label
    return found[1]


def _codes(table: str) -> list[str]:
    return re.findall(r"^\| `([a-z0-9_]+)` \|", table, re.MULTILINE)


def _number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-").replace(",", ""))


def _range(text: str) -> Range:
    low, _, high = text.partition(" to ")
    return Range(_number(low), _number(high))


def test_keys_follow_from_the_root_key() -> None:
    """The derivation on the page gives the keys on the page."""
    root = _decode(_value("root, base64url"))
    assert root == bytes(range(32)) == bytes.fromhex(_value("root, hex"))
    for name, label in ((b"grokmon/v1/up", "K_up, hex"), (b"grokmon/v1/down", "K_down, hex")):
        assert hmac.new(root, name, hashlib.sha256).hexdigest() == _value(label)
        assert f'message = "{name.decode()}"' in PROTOCOL


def test_the_example_has_every_message() -> None:
    """A hello, the answer to it, and a reading are shown."""
    audiences = [json.loads(claims)["aud"].rpartition("/")[2] for claims, _ in MESSAGES]
    assert audiences == ["hello", "session", "telemetry"]


@pytest.mark.parametrize(("claims", "token"), MESSAGES, ids=["hello", "session", "telemetry"])
def test_tokens_are_the_signed_claims(claims: str, token: str) -> None:
    """The token's header, claims and signature are those of the page, and PyJWT verifies it."""
    body: dict[str, Any] = json.loads(claims)
    key = bytes.fromhex(_value("K_down, hex" if body["iss"] == "grokmon" else "K_up, hex"))
    header, payload, signature = token.split(".")
    assert _decode(header) == HEADER
    assert _decode(payload) == claims.encode()
    assert _decode(signature) == hmac.digest(key, f"{header}.{payload}".encode(), "sha256")
    assert jwt.decode(token, key, algorithms=["HS256"], audience=body["aud"], issuer=body["iss"]) == body


def test_the_program_on_the_page_makes_the_token_on_the_page() -> None:
    """The Python example runs and signs the reading."""
    program = re.search(r"```python\n(.+?)```", EXAMPLE, re.DOTALL)
    assert program is not None
    names: dict[str, Any] = {}
    exec(compile(program[1], "docs/protocol.md", "exec"), names)  # noqa: S102 - our own page, as a reader would run it
    assert names["token"].decode() == MESSAGES[-1][1]


def test_every_code_is_explained_once() -> None:
    """The tables of codes are those of the gateway."""
    section = PROTOCOL.partition("## When something is refused")[2].partition("## A worked example")[0]
    assert sorted(_codes(section)) == sorted(Code)


def test_every_topic_is_listed() -> None:
    """The table of topics has each channel in its direction."""
    listed = set(re.findall(r"^\| `<prefix>/v1/<id>/(\w+/\w+)` \|", PROTOCOL, re.MULTILINE))
    assert listed == {f"up/{channel}" for channel in Channel} | {f"down/{channel}" for channel in Downlink}


def test_metrics_are_those_of_the_catalogue() -> None:
    """Units and ranges in the table are the catalogue's."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (\S+ to \S+) \| (\S+ to \S+|the same) \|$", PROTOCOL, re.MULTILINE)
    written = {
        name: (unit or None, _range(hard), None if plausible == "the same" else _range(plausible))
        for name, unit, hard, plausible in rows
    }
    numbers = [metric for metric in CATALOG.values() if not metric.is_boolean]
    assert written == {metric.name: (metric.unit, metric.hard, metric.plausible) for metric in numbers}


def test_booleans_are_those_of_the_catalogue() -> None:
    """The sentence about booleans names each of them."""
    sentence = re.search(r"^Booleans: (.+?)\.", PROTOCOL, re.MULTILINE | re.DOTALL)
    assert sentence is not None
    assert re.findall(r"`(\w+)`", sentence[1]) == [metric.name for metric in CATALOG.values() if metric.is_boolean]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Links between files of the repository have a target, and its heading exists."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


def test_every_decision_is_in_the_index() -> None:
    """The index of decisions lists each record."""
    folder = ROOT / "docs" / "adr"
    listed = re.findall(r"^\| \[\d+\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text(), re.MULTILINE)
    assert listed == sorted(path.name for path in folder.glob("[0-9]*.md"))


DEVICES = ROOT / "examples" / "devices"


@pytest.mark.parametrize("port", ["python", "micropython"])
def test_what_an_example_prints_is_explained(port: str) -> None:
    """The table of its page has each line of the console."""
    sources = [*(DEVICES / port).glob("*.py"), DEVICES / "grokmon_outputs.py"]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    printed = re.findall(r'(?:print|_say)\("([^"]+)"', "".join(texts))
    page = (DEVICES / port / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (`.+?) \|", page, re.MULTILINE)
    assert "hello" in printed
    assert not [text for text in printed if not any(f"`{text}" in line for line in lines)]


@pytest.mark.parametrize("port", ["python", "micropython"])
def test_settings_of_a_device_are_kept_to_oneself(port: str) -> None:
    """Where the pages say to put them they are not committed with everything else, and nobody else reads them."""
    command = ["git", "check-ignore", "--quiet", f"examples/devices/{port}/settings.json"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0  # noqa: S603 - asks our own repository
    assert "`chmod 600 settings.json`" in (DEVICES / port / "README.md").read_text(encoding="utf-8")


INTEGRATION = ROOT / "custom_components" / "grokmon"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
DIAGRAM = ARCHITECTURE.partition("```mermaid\n")[2].partition("```")[0]
NODES: dict[str, str] = dict(re.findall(r"^ +(\w+)\[\"([\w., ]+)\"\]$", DIAGRAM, re.MULTILINE))
ARROWS = re.findall(r"^  (\w+)(?:\(\[\w+\]\))? --(?: .+? --)?> (\w+)$", DIAGRAM, re.MULTILINE)


def _modules(node: str) -> list[str]:
    return NODES[node].split(", ")


def _source(name: str) -> str:
    return next(INTEGRATION.rglob(name)).read_text(encoding="utf-8")


def test_modules_of_the_architecture_exist() -> None:
    """Every module that the page names, in the text or in the diagram, is in the tree."""
    named = set(re.findall(r"`([\w/]+\.py)`", ARCHITECTURE)) | {name for node in NODES for name in _modules(node)}
    assert len(named) > 20
    assert [name for name in sorted(named) if not list(INTEGRATION.rglob(name))] == []


def _imports(importer: str, imported: str) -> bool:
    """Tell whether a module imports another one by its name."""
    name = imported.removesuffix(".py")
    pattern = rf"^from [\w.]*\b{name} import|^from [\w.]+ import .*\b{name}\b"
    return re.search(pattern, _source(importer), re.MULTILINE) is not None


def test_arrows_of_the_architecture_are_imports() -> None:
    """Two modules between which something goes know each other, in one direction; those outside have none."""
    pairs = [
        (one, other)
        for start, end in ARROWS
        if start in NODES and end in NODES
        for one in _modules(start)
        for other in _modules(end)
    ]
    assert len(pairs) > 10
    assert [pair for pair in pairs if not _imports(*pair) and not _imports(*reversed(pair))] == []


def test_tests_of_the_threat_model_exist() -> None:
    """Every test that the threat model refers to is there."""
    page = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
