"""What the repository ships besides code: archive, images, workflows, hacs.json, the quality scale."""

import json
import os
from pathlib import Path
import re
import struct
import subprocess
import sys
from zipfile import ZipFile

import homeassistant.components
from homeassistant.util.yaml import load_yaml_dict
import pytest

from custom_components.grokmon.const import PLATFORMS

ROOT = Path(__file__).parents[1]
INTEGRATION = ROOT / "custom_components" / "grokmon"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# What HACS accepts; it refuses every other key.
HACS_KEYS = {
    "content_in_root",
    "country",
    "filename",
    "hacs",
    "hide_default_branch",
    "homeassistant",
    "name",
    "persistent_directory",
    "zip_release",
}


def _version() -> str:
    version: str = json.loads((INTEGRATION / "manifest.json").read_text())["version"]
    return version


def _build(target: Path, tag: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "lib" / "build_archive.py"), "--tag", tag, str(target)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1795386000"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own


def test_archive_is_what_hacs_unpacks(tmp_path: Path) -> None:
    """The integration's files are at the top of the archive, in order and without leftovers of a run."""
    target = tmp_path / "grokmon.zip"
    assert _build(target, f"v{_version()}").returncode == 0
    with ZipFile(target) as archive:
        names = archive.namelist()
    assert {"manifest.json", "gateway/pipeline.py", "brand/icon.png"} <= set(names)
    assert names == sorted(names)
    assert not [name for name in names if "__pycache__" in name]


def test_archive_is_reproducible(tmp_path: Path) -> None:
    """Two runs make the same bytes."""
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    assert _build(first, _version()).returncode == _build(second, _version()).returncode == 0
    assert first.read_bytes() == second.read_bytes()


def test_archive_needs_the_tag_of_its_version(tmp_path: Path) -> None:
    """A tag that is not the manifest's version builds nothing."""
    target = tmp_path / "grokmon.zip"
    assert _build(target, "v0.0.0").returncode == 1
    assert not target.exists()


def test_hacs_knows_every_key() -> None:
    """HACS accepts hacs.json, and the release workflow builds the file it names."""
    data = json.loads((ROOT / "hacs.json").read_text())
    assert data.keys() <= HACS_KEYS
    assert data["zip_release"] is True
    assert f'gh release upload "$TAG" {data["filename"]}' in (ROOT / ".github/workflows/release.yml").read_text()


@pytest.mark.parametrize(("name", "size"), [("icon.png", (256, 256)), ("icon@2x.png", (512, 512))])
def test_icons_have_the_sizes_home_assistant_asks_for(name: str, size: tuple[int, int]) -> None:
    """The icon is a square PNG of the size that its name promises."""
    start = (INTEGRATION / "brand" / name).read_bytes()[:24]
    assert start.startswith(b"\x89PNG")
    assert struct.unpack(">II", start[16:24]) == size


@pytest.mark.parametrize(("name", "height"), [("logo.png", 256), ("logo@2x.png", 512)])
def test_logos_have_the_sizes_home_assistant_asks_for(name: str, height: int) -> None:
    """The logo is a wide PNG whose height is what its name promises."""
    start = (INTEGRATION / "brand" / name).read_bytes()[:24]
    assert start.startswith(b"\x89PNG")
    width, found = struct.unpack(">II", start[16:24])
    assert width > found == height


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_no_rights_they_do_not_name(path: Path) -> None:
    """Nothing is allowed to all jobs, each job states its rights and its limit, and credentials do not stay."""
    workflow = load_yaml_dict(path)
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow
    for job in workflow["jobs"].values():
        assert "permissions" in job
        assert "timeout-minutes" in job
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    """Every action is a full commit, with the version that it stands for."""
    uses = [line.partition("uses:")[2].strip() for line in path.read_text().splitlines() if "uses:" in line]
    assert [use for use in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # \S.*", use)] == []


def test_quality_scale_has_every_rule() -> None:
    """Every rule of Home Assistant's scale has a status, and an exemption has a reason."""
    scale = load_yaml_dict(Path(homeassistant.components.__path__[0]) / "ntfy" / "quality_scale.yaml")["rules"]
    rules = load_yaml_dict(INTEGRATION / "quality_scale.yaml")["rules"]
    assert rules.keys() == scale.keys()
    for rule, entry in rules.items():
        assert entry["status"] in {"done", "exempt"}, rule
        assert entry["comment"], rule


def test_evidence_of_the_quality_scale_is_there() -> None:
    """Every file and every section of the README that the scale refers to exists."""
    text = (INTEGRATION / "quality_scale.yaml").read_text(encoding="utf-8")
    for name in re.findall(r"[\w/]+\.(?:py|json)", text):
        folders = (ROOT, ROOT / "tests", INTEGRATION)
        assert any((folder / name).exists() for folder in folders), name
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for section in re.findall(r"README, ([A-Z][\w ]+?)\.", text):
        assert re.search(rf"^#+ .*{section}|\*\*{section}", readme, re.MULTILINE), section


def test_every_platform_says_how_many_at_once() -> None:
    """Each platform states its parallel updates."""
    platforms = [INTEGRATION / f"{platform}.py" for platform in PLATFORMS]
    assert [path.name for path in platforms if "\nPARALLEL_UPDATES = " not in path.read_text(encoding="utf-8")] == []
