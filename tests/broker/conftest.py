"""A real Mosquitto with its dynamic security plugin, for each test its own."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.stack.brokers import DynamicMosquittoBroker
from tests.stack.certificates import Certificates, ensure_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return certificates for the broker of this module."""
    return ensure_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def broker(tmp_path: Path, certificates: Certificates) -> AsyncGenerator[DynamicMosquittoBroker]:
    """Run a Mosquitto with the plugin."""
    if DynamicMosquittoBroker.find_plugin() is None:
        pytest.skip("mosquitto's dynamic security plugin is not installed")
    async with DynamicMosquittoBroker(tmp_path / "broker", certificates, accounts=["other"]) as instance:
        yield instance
