"""Run Home Assistant as a process and hold its clients."""

import asyncio
from collections.abc import Callable, Mapping
import contextlib
from functools import partial
from pathlib import Path
import secrets
import sys
from typing import Any, Self

import aiohttp

from tests.stack.brokers.base import HOME_ASSISTANT, Account, Broker
from tests.stack.ports import LOOPBACK, free_port
from tests.stack.processes import ManagedProcess

from .configuration import write_configuration
from .flows import Flows
from .onboarding import onboard
from .rest import ApiError, RestClient
from .websocket import WebSocketClient

_REPOSITORY = Path(__file__).resolve().parents[3]
_START_WITHIN = 120
# Home Assistant gives its integrations several stages of time-outs to end; then the journal of the recorder.
_STOP_WITHIN = 60
_RETRY_EVERY = 0.25

type State = dict[str, Any]


class HomeAssistant:
    """Run a real Home Assistant on one port of loopback, onboarded, with REST and WebSocket clients.

    The port, the folder, the owner and the token stay the same over stop, kill and another start.
    """

    session: aiohttp.ClientSession
    rest: RestClient
    websocket: WebSocketClient
    config_flows: Flows
    options_flows: Flows
    subentry_flows: Flows

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        custom_components: Path | None = _REPOSITORY / "custom_components",
        configuration: Mapping[str, Any] | None = None,
        owner: str = "grower",
    ) -> None:
        """Prepare a configuration folder; the extra configuration replaces top-level sections."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.config = self.folder / "config"
        self.port = port or free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.owner = Account(owner)
        self.token: str | None = None
        write_configuration(self.config, port=self.port, custom_components=custom_components, extra=configuration)
        # Uploads and the certificates of MQTT go to fixed names there; two instances would delete each other's.
        temporary = self.folder / "tmp"
        temporary.mkdir(mode=0o700, exist_ok=True)
        self.process = ManagedProcess(
            "hass",
            [sys.executable, "-m", "homeassistant", "-c", self.config, "--skip-pip", "--log-no-color"],
            log=self.folder / "hass.log",
            # The port also for the fall-back of a setting that Home Assistant could not use.
            env={"SETUP_PORT": str(self.port), "TMPDIR": str(temporary)},
            cwd=self.folder,
        )
        self._connections = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Start Home Assistant, onboard at the first start, and return once it runs."""
        await self._connections.aclose()
        session = self.session = await self._connections.enter_async_context(aiohttp.ClientSession())
        try:
            await self.process.start(partial(_answers, session, self.url), deadline=_START_WITHIN)
            if self.token is None:
                self.token = await onboard(session, self.url, self.owner)
            self.rest = RestClient(session, self.url, self.token)
            self.websocket = await WebSocketClient.connect(session, self.url, self.token)
            self._connections.push_async_callback(self.websocket.close)
            self.config_flows = Flows(self.rest, "/api/config/config_entries/flow")
            self.options_flows = Flows(self.rest, "/api/config/config_entries/options/flow")
            self.subentry_flows = Flows(self.rest, "/api/config/config_entries/subentries/flow")
            await self._wait_until_running()
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """End Home Assistant in order, as a supervisor does."""
        await self._connections.aclose()
        await self.process.stop(grace=_STOP_WITHIN)

    async def kill(self) -> None:
        """Kill Home Assistant at once, as a power cut does."""
        await self.process.kill()
        await self._connections.aclose()

    async def __aenter__(self) -> Self:
        """Start Home Assistant."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End Home Assistant."""
        await self.stop()

    async def add_mqtt(self, broker: Broker) -> str:
        """Set up the MQTT integration for this broker through its flow and return the entry's id once connected."""
        account = broker.accounts[HOME_ASSISTANT]
        verification: dict[str, Any] = {"set_ca_cert": "off"}
        if broker.certificates is not None:
            file_id = await self.rest.upload("ca.pem", broker.certificates.ca.read_bytes())
            verification = {"set_ca_cert": "custom", "certificate": file_id}
        answer = {
            "broker": broker.host,
            "port": broker.port,
            "protocol": broker.protocol,
            "username": account.username,
            "password": account.password,
            "other_settings": {"set_client_cert": False, "transport": "tcp", **verification},
        }
        entry = await self.config_flows.walk("mqtt", answer)
        await self.wait_for_mqtt()
        return str(entry["result"]["entry_id"])

    async def wait_for_mqtt(self, timeout: float = 30) -> None:  # noqa: ASYNC109 - a deadline is what callers state
        """Return once a message went from Home Assistant to the broker and back."""
        topic = f"stack/echo/{secrets.token_hex(8)}"
        async with asyncio.timeout(timeout), self.websocket.subscribe("mqtt/subscribe", topic=topic) as echo:
            while True:
                try:
                    await self.rest.call_service("mqtt", "publish", {"topic": topic, "payload": "?"})
                    await echo.next(_RETRY_EVERY)
                except ApiError, TimeoutError:
                    # Not connected yet: nothing tells when it is.
                    await asyncio.sleep(_RETRY_EVERY)
                else:
                    return

    async def wait_for_state(
        self,
        entity_id: str,
        predicate: Callable[[State], bool],
        timeout: float = 30,  # noqa: ASYNC109 - a deadline is what callers state
    ) -> State:
        """Return the entity's state once it fulfils the predicate, which may be now."""
        trigger = {"trigger": "state", "entity_id": entity_id}
        last: State | None = None
        try:
            # Home Assistant filters: under load, a client that takes every change of every entity lags behind.
            async with (
                asyncio.timeout(timeout),
                self.websocket.subscribe("subscribe_trigger", trigger=trigger) as changes,
            ):
                last = await self.rest.state(entity_id)
                while last is None or not predicate(last):
                    last = (await changes.next(timeout))["variables"]["trigger"]["to_state"]
                return last
        except TimeoutError as error:
            raise TimeoutError(f"{entity_id} after {timeout:g} s: {last}") from error

    async def _wait_until_running(self) -> None:
        async with asyncio.timeout(_START_WITHIN), self.websocket.events("homeassistant_started") as started:
            if (await self.websocket.call("get_config"))["state"] != "RUNNING":
                await started.next(_START_WITHIN)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/api/onboarding") as response:
            await response.read()
    except aiohttp.ClientError:
        return False
    return True
