"""Brokers to be probed: one that is as it should be, and others that each lack something."""

import asyncio
from collections.abc import Iterable, Sequence
import contextlib
from datetime import UTC, datetime, timedelta
import json
from pathlib import Path
import ssl
from typing import Any, Final, override

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from custom_components.grokmon.broker.connection import Endpoint, Login, Protocol
from custom_components.grokmon.broker.probe import Target, probe_topics
from tests.stack.brokers import HOME_ASSISTANT, AmqttBroker, Broker, MosquittoBroker
from tests.stack.brokers.dynamic import DynamicMosquittoBroker
from tests.stack.certificates import Certificates
from tests.stack.ports import LOOPBACK, free_port

from .relay import LoopbackServer, carry

PREFIX: Final = "grokmon"
FIRST, SECOND = "probe-1", "probe-2"
_HEARS: Final = ("subscribePattern", "publishClientReceive")
_LIMIT: Final = ("max_queued_messages 0\n", "")
CONTROL: Final = "$CONTROL/dynamic-security/v1/#"


def topics(device_id: str) -> list[str]:
    """Return what a device of the probe may publish and subscribe."""
    return list(probe_topics(PREFIX, device_id))


class ProbedBroker(DynamicMosquittoBroker):
    """Run a Mosquitto with dynamic security in which everything is right, but for what is asked for.

    `bound` ties client ids to accounts, `more` lets the devices send and receive these topics as well, `observed` is
    what Home Assistant may do, `hears` how devices get their own topic, `replaced` is put in the place of settings.
    2.0.11 hangs up on whoever publishes what is denied when its queues are unlimited; `hangs_up` lets it.
    """

    def __init__(
        self,
        folder: Path,
        certificates: Certificates | None,
        *,
        bound: bool = True,
        more: Iterable[str] = (),
        observed: Sequence[str] = ("#",),
        hears: Sequence[str] = _HEARS,
        hangs_up: bool = False,
        replaced: Iterable[tuple[str, str]] = (),
        settings: Sequence[str] = (),
    ) -> None:
        """Take the certificates for TLS, or ``None`` for a broker without TLS."""
        self._bound = bound
        self._hears = hears
        self._more = list(more)
        self._observed = observed
        self._replaced = [*replaced, *([] if hangs_up else [_LIMIT])]
        super().__init__(folder, certificates, accounts=(FIRST, SECOND), settings=settings)

    @override
    def _write_files(self) -> None:
        super()._write_files()
        text = self._settings.read_text(encoding="utf-8")
        for old, new in self._replaced:
            assert old in text
            text = text.replace(old, new)
        self._settings.write_text(text, encoding="utf-8")

    @override
    def _initial(self) -> dict[str, Any]:
        initial = super()._initial()
        initial["roles"] += [
            {"rolename": "observer", "acls": _acls(("publishClientSend", *_HEARS), self._observed)},
            *(self._role(name) for name in (FIRST, SECOND)),
        ]
        for client in initial["clients"]:
            name = client["username"]
            if name == HOME_ASSISTANT:
                client["roles"] = [{"rolename": "observer"}]
            elif name in (FIRST, SECOND):
                client["roles"] = [{"rolename": name}]
                if self._bound:
                    client["clientid"] = name
        return initial

    def _role(self, name: str) -> dict[str, Any]:
        own = _acls(("publishClientSend", *self._hears), topics(name))
        return {"rolename": name, "acls": own + _acls(("publishClientSend", *_HEARS), self._more)}


def _acls(kinds: Iterable[str], names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind in kinds for topic in names]


class FileBroker(MosquittoBroker):
    """Run a Mosquitto with a password file and a file of access rules; it cannot bind client ids to accounts."""

    def __init__(
        self, folder: Path, certificates: Certificates, *, rules: bool = True, settings: Sequence[str] = ()
    ) -> None:
        """Leave the rules away to let everybody do everything."""
        self._rules = rules
        self._more_settings = tuple(settings)
        super().__init__(folder, certificates, accounts=(FIRST, SECOND))

    @override
    def _write_files(self) -> None:
        super()._write_files()
        rules = [f"user {HOME_ASSISTANT}", "topic readwrite #"]
        for name in (FIRST, SECOND):
            rules.append(f"user {name}")
            rules += [f"topic readwrite {topic}" for topic in topics(name)]
        path = self.folder / "rules"
        path.write_text("\n".join(rules) + "\n", encoding="utf-8")
        # What is global stands before the listener.
        lines = [*self._more_settings, *([f"acl_file {path}"] if self._rules else [])]
        text = self._settings.read_text(encoding="utf-8").replace(*_LIMIT)
        if "allow_anonymous true" in lines:
            text = text.replace("allow_anonymous false\n", "")
        self._settings.write_text("\n".join(lines) + "\n" + text, encoding="utf-8")


class RuledAmqttBroker(AmqttBroker):
    """Run an aMQTT with rules for topics; it says nothing about what it drops."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        """Take the certificates for TLS."""
        super().__init__(folder, certificates, accounts=(FIRST, SECOND))

    @override
    def _write_files(self) -> None:
        super()._write_files()
        settings = json.loads(self._settings.read_text(encoding="utf-8"))
        rules = {name: topics(name) for name in (FIRST, SECOND)} | {HOME_ASSISTANT: ["#"]}
        settings["plugins"]["amqtt.plugins.topic_checking.TopicAccessControlListPlugin"] = {
            "publish_acl": rules,
            "acl": rules,
        }
        self._settings.write_text(json.dumps(settings), encoding="utf-8")


def login(broker: Broker, name: str) -> Login:
    """Return how an account of a broker logs in."""
    return Login(name, broker.accounts[name].password)


def target(broker: Broker, *, protocol: Protocol = Protocol.V5, **changes: Any) -> Target:
    """Return a broker as the probe wants it; where nothing listens without TLS, but for what is changed."""
    tls = broker.client_context() if broker.tls else None
    settings: dict[str, Any] = {
        "endpoint": Endpoint(broker.host, broker.port, tls, protocol),
        "prefix": PREFIX,
        "probe": login(broker, FIRST),
        "device_id": FIRST,
        "client_id": FIRST,
        "other": login(broker, SECOND),
        "other_id": SECOND,
        "other_client_id": SECOND,
        "observer": login(broker, HOME_ASSISTANT),
        "plaintext_port": free_port(),
        "quiet": 0.5,
        "timeout": 2.0,
    }
    return Target(**(settings | changes))


def reissued(certificates: Certificates, folder: Path, days_left: float) -> Certificates:
    """Return certificates of the same authority and for the same server, which ends in some days or has ended."""
    old = x509.load_pem_x509_certificate(certificates.certificate.read_bytes())
    authority = serialization.load_pem_private_key(certificates.ca.with_suffix(".key").read_bytes(), password=None)
    assert isinstance(authority, ec.EllipticCurvePrivateKey)
    ends = datetime.now(UTC) + timedelta(days=days_left)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=90))
        .not_valid_after(ends)
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    path = folder / "server.crt"
    path.write_bytes(builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return Certificates(ca=certificates.ca, certificate=path, key=certificates.key)


class Listener(LoopbackServer):
    """Accept whoever comes, say the same to everybody, and keep what they say: no broker, but it looks like one."""

    def __init__(self, answer: bytes, certificates: Certificates | None = None) -> None:
        context: ssl.SSLContext | None = None
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.certificate, certificates.key)
        super().__init__(context)
        self.received: list[bytes] = []
        self._answer = answer

    @override
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                self.received.append(data)
                writer.write(self._answer)
                await writer.drain()
        writer.close()


class Doorkeeper(LoopbackServer):
    """Stand before a broker without TLS, and hang up on whoever does not begin with one of its passwords."""

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self._target = broker.port
        self._passwords = [account.password.encode() for account in broker.accounts.values()]

    @override
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(4096)
        if any(password in first for password in self._passwords):
            inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, self._target)
            inner_writer.write(first)
            await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))
        writer.close()
