"""The servers of the demo: a broker with TLS, and a Home Assistant with the gateway set up."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from tests.device_simulator.actuators import ActuatorSpec, specs_from
from tests.device_simulator.connection import BrokerAddress
from tests.device_simulator.credentials import DeviceIdentity, generate_key_pair, public_pem
from tests.stack.brokers import Account, Broker, DynamicMosquittoBroker
from tests.stack.brokers.dynamic import ADMIN
from tests.stack.certificates import ensure_certificates
from tests.stack.home_assistant import HomeAssistant
from tests.stack.ports import free_port

from .plan import Node, Zone

PREFIX = "grokmon"

type Refusal = tuple[str | None, str]
"""A device, or nothing for those that are not enrolled, and the code."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Hold what a device got when it was enrolled."""

    node: Node
    identity: DeviceIdentity = field(repr=False)
    public_pem: str = ""
    actuators: Mapping[str, ActuatorSpec] = field(default_factory=dict)
    account: Account | None = None
    """At the broker, where it gives devices accounts of their own."""


class Installation:
    """Run the servers for as long as the context lasts."""

    def __init__(
        self,
        folder: Path,
        broker: type[Broker],
        accounts: Iterable[str],
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare the folder; nobody but the accounts can log in to the broker."""
        certificates = ensure_certificates(folder / "certificates")
        self.folder = folder
        self.broker = broker(folder / "broker", certificates, accounts=accounts)
        self.hass = HomeAssistant(folder / "home_assistant", configuration=configuration)
        self.entry_id = ""
        self._running = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start the servers and connect them."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.broker)
            await stack.enter_async_context(self.hass)
            await self.hass.add_mqtt(self.broker)
            self._running = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the servers."""
        await self._running.aclose()

    @property
    def audit_file(self) -> Path:
        """Return where the audit trail is."""
        return self.hass.config / "grokmon" / "audit" / "audit-000000000001.jsonl"

    @property
    def processes(self) -> list[tuple[str, int]]:
        """Return name and process id of the servers."""
        return [(process.name, process.pid) for process in (self.broker.process, self.hass.process)]

    def address(self, account: str) -> BrokerAddress:
        """Return how to reach the broker with an account of its own."""
        return self._address(self.broker.accounts[account])

    def _address(self, login: Account) -> BrokerAddress:
        authority = self.broker.certificates.ca if self.broker.certificates else None
        return BrokerAddress(self.broker.host, self.broker.port, authority, login.username, login.password)

    async def add_gateway(self, zones: Iterable[Zone]) -> None:
        """Set up the integration and its zones, through the flows that a person uses."""
        entry = await self.hass.config_flows.walk("grokmon", {"topic_prefix": PREFIX})
        self.entry_id = entry["result"]["entry_id"]
        for zone in zones:
            await self.hass.subentry_flows.walk([self.entry_id, "zone"], {"name": zone.name, "stage": zone.stage})

    async def add_accounts(self) -> None:
        """Let devices have accounts of their own at the broker, where it has the plugin for that."""
        if not isinstance(self.broker, DynamicMosquittoBroker):
            return
        menu = await self.hass.options_flows.start(self.entry_id)
        await self.hass.options_flows.submit(menu["flow_id"], {"next_step_id": "broker"})
        admin = self.broker.accounts[ADMIN]
        answers = {"mode": "dynamic_security", "admin_username": admin.username, "admin_password": admin.password}
        # The port without TLS is one where nobody listens: on a machine with other brokers there may be one of them.
        await self.hass.options_flows.submit(menu["flow_id"], {**answers, "plaintext_port": free_port()})

    @contextlib.asynccontextmanager
    async def gateway_off(self) -> AsyncGenerator[None]:
        """Have the integration disabled while the context lasts."""
        call = self.hass.websocket.call
        await call("config_entries/disable", entry_id=self.entry_id, disabled_by="user")
        yield
        await call("config_entries/disable", entry_id=self.entry_id, disabled_by=None)

    async def let_it_be_day(self) -> None:
        """Let the light day of every zone have begun an hour ago."""
        subentries = await self.hass.websocket.call("config_entries/subentries/list", entry_id=self.entry_id)
        begun = datetime.now(UTC) - timedelta(hours=1)
        for zone in (each for each in subentries if each["subentry_type"] == "zone"):
            flows = self.hass.subentry_flows
            menu = await flows.start([self.entry_id, "zone"], subentry_id=zone["subentry_id"])
            await flows.submit(menu["flow_id"], {"next_step_id": "budgets"})
            await flows.submit(menu["flow_id"], {"lights_on": f"{begun:%H:%M:%S}", "co2_hour_s": 240})

    async def enrol(self, node: Node, **settings: Any) -> Enrolled:
        """Enrol a device through the administrator's service."""
        request: dict[str, Any] = {
            "device_id": node.device_id,
            "name": node.name,
            "metrics": list(node.metrics),
            "auth": node.auth,
            "actuators": [dict(actuator) for actuator in node.actuators],
            **settings,
        }
        if node.zone is not None:
            request["zone"] = node.zone
        private_key = None if node.auth == "hs256" else generate_key_pair(node.auth)
        public = "" if private_key is None else public_pem(private_key)
        if private_key is not None:
            request["public_key"] = public
        response = await self._service("enroll_device", request)
        actuators = specs_from(response.get("actuators", {}))
        account = Account(response["username"], response["password"]) if "username" in response else None
        return Enrolled(node, DeviceIdentity.from_enrolment(response, private_key), public, actuators, account)

    def address_of(self, enrolled: Enrolled) -> BrokerAddress:
        """Return how a device reaches the broker: with the account that it got, or else with one of its name."""
        return self._address(enrolled.account or self.broker.accounts[enrolled.node.device_id])

    async def listed(self) -> dict[str, dict[str, Any]]:
        """Return what the gateway says of its devices."""
        devices: list[dict[str, Any]] = (await self._service("list_devices"))["devices"]
        return {device["device_id"]: device for device in devices}

    async def verify_audit(self) -> dict[str, Any]:
        """Return what the gateway says of its audit trail."""
        return await self._service("verify_audit")

    async def diagnostics(self) -> dict[str, Any]:
        """Return the gateway's diagnostics."""
        answer = await self.hass.rest.get(f"/api/diagnostics/config_entry/{self.entry_id}")
        data: dict[str, Any] = answer["data"]
        return data

    async def refused(self) -> Counter[Refusal]:
        """Return how many messages were refused, by device and code."""
        diagnostics = await self.diagnostics()
        by_device = {device["device_id"]: device["refused"] for device in diagnostics["devices"]}
        by_device[None] = diagnostics["refused_unknown_device"]
        return Counter({(device, code): n for device, codes in by_device.items() for code, n in codes.items()})

    async def entity_ids(self) -> dict[str, str]:
        """Return the entities by their unique ids: `<device_id>_<metric>`, `hub_<total>`."""
        entities = await self.hass.websocket.call("config/entity_registry/list")
        return {entity["unique_id"]: entity["entity_id"] for entity in entities if entity["platform"] == "grokmon"}

    async def device_entry(self, device_id: str) -> dict[str, Any]:
        """Return the entry of a device in Home Assistant's device registry."""
        entries = await self.hass.websocket.call("config/device_registry/list")
        found: dict[str, Any] = next(entry for entry in entries if ["grokmon", device_id] in entry["identifiers"])
        return found

    async def _service(self, name: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
        return await self.hass.rest.call_service("grokmon", name, data, return_response=True)
