"""The archive of a release installs into a bare Home Assistant, as HACS does it, and works."""

from collections.abc import AsyncGenerator
import json
from pathlib import Path
import subprocess
import sys
import zipfile

import pytest
import pytest_asyncio

from tests.demo.fleet import device_of
from tests.demo.installation import Installation
from tests.demo.plan import Node
from tests.stack.brokers import MosquittoBroker
from tests.stack.home_assistant import HomeAssistant

from .observation import WITHIN
from .traffic import started

pytestmark = pytest.mark.timeout(120)

REPOSITORY = Path(__file__).parents[2]
INTEGRATION = REPOSITORY / "custom_components" / "grokmon"
BUILD = REPOSITORY / "scripts" / "lib" / "build_archive.py"
NODE = Node("tent-1", "Tent 1", ("temp_c", "smoke"), firmware="1.0.7")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the archive."""
    target = tmp_path_factory.mktemp("release") / "grokmon.zip"
    subprocess.run([sys.executable, BUILD, target], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    return target


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def installed(stack_folder: Path, archive: Path) -> AsyncGenerator[Installation]:
    """Run a Home Assistant with nothing but what is in the archive."""
    if MosquittoBroker.find() is None:
        pytest.skip("mosquitto is not installed")
    installation = Installation(stack_folder / "installed", MosquittoBroker, [NODE.device_id])
    hass = installation.hass = HomeAssistant(stack_folder / "bare", custom_components=None)
    with zipfile.ZipFile(archive) as release:
        release.extractall(hass.config / "custom_components" / "grokmon")
    async with installation:
        yield installation


def test_archive_has_what_runs_and_nothing_else(archive: Path) -> None:
    """No caches, no tests; the manifest is at the top, where HACS looks for it."""
    with zipfile.ZipFile(archive) as release:
        names = set(release.namelist())
        version = json.loads(release.read("manifest.json"))["version"]
    assert {"__init__.py", "gateway/audit.py", "translations/en.json", "brand/icon.png"} <= names
    assert [name for name in names if "__pycache__" in name or "test" in name] == []
    assert version == json.loads((INTEGRATION / "manifest.json").read_bytes())["version"]


async def test_installed_archive_makes_readings_into_states(installed: Installation) -> None:
    """Set up through the flow, enrol, send: from the unpacked files alone."""
    await installed.add_gateway([])
    hass = installed.hass
    manifest = await hass.websocket.call("manifest/get", integration="grokmon")
    assert (manifest["is_built_in"], manifest["domain"]) == (False, "grokmon")
    enrolled = await installed.enrol(NODE)
    entity_ids = await installed.entity_ids()
    device = device_of(enrolled, installed.address(NODE.device_id))
    async with started([device]):
        await device.publish({"temp_c": 21.5, "smoke": False})
        await hass.wait_for_state(entity_ids["tent-1/temp_c"], lambda state: state["state"] == "21.5", WITHIN)
        await hass.wait_for_state(entity_ids["tent-1/smoke"], lambda state: state["state"] == "off", WITHIN)
    assert (await installed.device_entry(NODE.device_id))["sw_version"] == NODE.firmware
    log = hass.process.log.read_text(encoding="utf-8")
    assert [line for line in log.splitlines() if "grokmon" in line and "ERROR" in line] == []


async def test_texts_and_icons_come_with_it(installed: Installation) -> None:
    """The frontend gets names of entities and icons."""
    websocket = installed.hass.websocket
    texts = await websocket.call(
        "frontend/get_translations", language="en", category="entity", integration=["grokmon"], config_flow=False
    )
    assert texts["resources"]["component.grokmon.entity.sensor.co2_ppm.name"]
    icons = await websocket.call("frontend/get_icons", category="entity", integration=["grokmon"])
    assert icons["resources"]["grokmon"]["sensor"]
