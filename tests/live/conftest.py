"""Start the real components for the live tests."""

from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio
import pytest_socket

from tests.demo.installation import Installation
from tests.stack.brokers import AmqttBroker, MosquittoBroker
from tests.stack.browser import Browser
from tests.stack.certificates import Certificates, ensure_certificates
from tests.stack.home_assistant import HomeAssistant

# The plugin for tests inside a Home Assistant closes all sockets, gives every test a loop of its own in debug mode and
# wants no task left behind. Live tests talk to servers that several tests share: one loop for all of them, whose tasks
# go on between tests, and sockets, still to 127.0.0.1 only.
_HERE = Path(__file__).parent
_MEASURED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of live tests."""
    config.addinivalue_line("markers", "live: starts real servers on loopback")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the live tests and give them one event loop."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.live)
            if pytest_asyncio.is_async_test(item):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """Keep sockets open while fixtures are set up and afterwards."""
    pytest_socket.enable_socket()
    with patch.object(pytest_socket, "disable_socket"):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the tests measured."""
    if lines := config.stash.get(_MEASURED, []):
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Return what takes a line for the summary: a number that a person wants to see and no test can judge."""
    return pytestconfig.stash.setdefault(_MEASURED, []).append


@pytest.fixture(autouse=True)
def configure_event_loop() -> None:
    """Leave the loop that all live tests share as it is."""


@pytest.fixture(autouse=True)
def enable_event_loop_debug() -> None:
    """Leave the debug mode off, which would slow the clients down."""


@pytest.fixture(autouse=True)
def verify_cleanup() -> None:
    """Allow the tasks of the shared clients to live on."""


@pytest.fixture(scope="module")
def stack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the servers of one module."""
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return certificates for the servers of this run."""
    return ensure_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker_accounts() -> tuple[str, ...]:
    """Return the accounts of devices that the brokers know; a module overrides it with its own."""
    return ("tent-1",)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mosquitto(
    stack_folder: Path, certificates: Certificates, broker_accounts: tuple[str, ...]
) -> AsyncGenerator[MosquittoBroker]:
    """Run a Mosquitto for one module."""
    if MosquittoBroker.find() is None:
        pytest.skip("mosquitto is not installed")
    async with MosquittoBroker(stack_folder / "mosquitto", certificates, accounts=broker_accounts) as broker:
        yield broker


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def amqtt(
    stack_folder: Path, certificates: Certificates, broker_accounts: tuple[str, ...]
) -> AsyncGenerator[AmqttBroker]:
    """Run an aMQTT for one module."""
    async with AmqttBroker(stack_folder / "amqtt", certificates, accounts=broker_accounts) as broker:
        yield broker


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def home_assistant(stack_folder: Path, mosquitto: MosquittoBroker) -> AsyncGenerator[HomeAssistant]:
    """Run a Home Assistant for one module, connected with Mosquitto."""
    async with HomeAssistant(stack_folder / "home_assistant") as instance:
        await instance.add_mqtt(mosquitto)
        yield instance


@pytest.fixture(scope="module")
def configuration() -> dict[str, Any]:
    """Return what Home Assistant has in its YAML beside the usual; a module overrides it with its own."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def installation(
    stack_folder: Path, broker_accounts: tuple[str, ...], configuration: dict[str, Any]
) -> AsyncGenerator[Installation]:
    """Run a Mosquitto and a Home Assistant with the gateway for one module."""
    if MosquittoBroker.find() is None:
        pytest.skip("mosquitto is not installed")
    async with Installation(stack_folder / "installation", MosquittoBroker, broker_accounts, configuration) as instance:
        await instance.add_gateway([])
        yield instance


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser() -> AsyncGenerator[Browser]:
    """Run a browser for one module."""
    if Browser.find() is None:
        pytest.skip("chromium is not installed")
    async with Browser() as instance:
        yield instance
