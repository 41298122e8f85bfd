"""Mosquitto lets devices in by the certificates of the site's authority, and by nothing else.

Measured with Mosquitto 2.0.11: SIGHUP reloads `cafile` and `crlfile` and forgets what they held before, so revoking,
taking a revocation back and ending a rotation need no restart. Sessions that are open stay open. See the tests of the
damaged list and of the bundle for what must be right before the signal is sent.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
import os
from pathlib import Path
import signal
import socket
import ssl
import time
from typing import Any, override

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
import pytest
import pytest_asyncio

from custom_components.grokmon.broker.connection import (
    REFUSED,
    BrokerError,
    Connection,
    Endpoint,
    Login,
)
from custom_components.grokmon.gateway import authority
from custom_components.grokmon.gateway.authority import Authority
from tests.stack.brokers import MosquittoBroker
from tests.stack.brokers.base import write_private
from tests.stack.certificates import Certificates, ensure_certificates
from tests.stack.connections import NOT_AUTHORIZED
from tests.stack.processes import ProcessFailedError

GATEWAY = "homeassistant"
DEVICE = "tent-1"
OTHER = "tent-2"
EVERYTHING = "grokmon/v1/#"
DAY = 86_400
WITHIN = 10
ACL = f"""user {GATEWAY}
topic readwrite {EVERYTHING}

pattern write grokmon/v1/%u/up/+
pattern read grokmon/v1/%u/down/+
"""
# MQTT 3.1.1, a clean session, sixty seconds, a client called "resume"; and the answer that lets it in.
CONNECT = b"\x10\x12\x00\x04MQTT\x04\x02\x00\x3c\x00\x06resume"
CONNACK = b"\x20\x02\x00\x00"


def up(device_id: str) -> str:
    """Return a topic that a device publishes on."""
    return f"grokmon/v1/{device_id}/up/telemetry"


def down(device_id: str) -> str:
    """Return a topic that a device listens on."""
    return f"grokmon/v1/{device_id}/down/command"


class MutualTlsBroker(MosquittoBroker):
    """Run a Mosquitto that knows its clients by the common names of their certificates."""

    @override
    def _write_files(self) -> None:
        super()._write_files()
        (self.folder / "acl").write_text(ACL, encoding="utf-8")
        lines = [
            "require_certificate true",
            "use_identity_as_username true",
            "use_username_as_clientid true",
            f"cafile {self.folder / 'devices.crt'}",
            f"crlfile {self.folder / 'revoked.crl'}",
            f"acl_file {self.folder / 'acl'}",
            # With no limit, 2.0.11 throws out who published what was not allowed, and later refusals are not seen.
            "max_queued_messages 1000",
            # Standard output is buffered, and `reload` waits for a line.
            "log_dest stderr",
            "log_type information",
        ]
        with self._settings.open("a", encoding="utf-8") as settings:
            settings.write("\n".join(lines) + "\n")

    def put(self, name: str, content: str) -> None:
        """Replace a file at once."""
        new = self.folder / f"{name}.new"
        write_private(new, content)
        new.replace(self.folder / name)

    @override
    async def start(self) -> None:
        """Start the broker and return once it runs: it listens before it has read its lists and heeds a signal."""
        before = self._logged(" running\n")

        async def runs() -> bool:
            return self._logged(" running\n") > before

        await self.process.start(runs, deadline=2 * WITHIN)

    async def reload(self) -> None:
        """Have the broker read its files again and return once it has begun to: it does nothing else meanwhile."""
        before = self._logged("Reloading config.")
        os.kill(self.process.pid, signal.SIGHUP)
        async with asyncio.timeout(WITHIN):
            while self._logged("Reloading config.") == before:  # noqa: ASYNC110 # a file does not tell that it grew
                await asyncio.sleep(0.01)

    def _logged(self, text: str) -> int:
        return self.process.log.read_text(encoding="utf-8").count(text) if self.process.log.exists() else 0


@dataclass(frozen=True, slots=True)
class Identity:
    """What a client shows: its certificate, with any that it hangs on, and the key."""

    certificate: str
    key: str = field(repr=False)

    @property
    def serial(self) -> str:
        """Return the serial number as the authority keeps it."""
        return f"{x509.load_pem_x509_certificate(self.certificate.encode()).serial_number:x}"


@dataclass(slots=True)
class Site:
    """Hold a broker, the authority of its devices, and the number of the last list of revoked certificates."""

    broker: MutualTlsBroker
    folder: Path
    authority: Authority = field(default_factory=lambda: authority.new_authority(time.time()))
    number: int = 0

    def issue(self, device_id: str, **how: Any) -> Identity:
        """Issue a certificate with a key."""
        return issue(self.authority, device_id, **how)

    def revoke(self, *identities: Identity, now: float | None = None) -> None:
        """Publish a new list of revoked certificates."""
        self.broker.put("revoked.crl", self.list_of(self.authority, *identities, now=now))

    def list_of(self, issuer: Authority, *identities: Identity, now: float | None = None) -> str:
        """Return a new list of certificates that an authority has revoked."""
        self.number += 1
        now = time.time() if now is None else now
        return authority.revocation_list(issuer, {one.serial: now for one in identities}, self.number, now)

    def endpoint(self, identity: Identity | None) -> Endpoint:
        """Return the broker as a client reaches it that shows this certificate, or none."""
        return Endpoint(self.broker.host, self.broker.port, self.context(identity))

    def context(self, identity: Identity | None) -> ssl.SSLContext:
        """Return a client's TLS settings with this certificate, or none."""
        context = self.broker.client_context()
        if identity is not None:
            file = self.folder / "identity.pem"
            write_private(file, identity.certificate + identity.key)
            context.load_cert_chain(file)
        return context

    async def gets_in(self, identity: Identity | None, login: Login | None = None) -> bool:
        """Tell whether the broker lets somebody in, whichever way it refuses."""

        def try_it() -> bool:
            # With TLS 1.3 the handshake is over for the client before the broker has looked at the certificate.
            try:
                with Connection(self.endpoint(identity), "knock", login):
                    return True
            except BrokerError:
                return False

        return await asyncio.to_thread(try_it)


@pytest_asyncio.fixture(loop_scope="session")
async def site(tmp_path: Path, certificates: Certificates) -> AsyncGenerator[Site]:
    """Run a broker for devices with certificates, none of them revoked."""
    if MosquittoBroker.find() is None:
        pytest.skip("mosquitto is not installed")
    made = Site(MutualTlsBroker(tmp_path / "broker", certificates), tmp_path)
    made.broker.put("devices.crt", made.authority.certificate)
    made.revoke()
    async with made.broker:
        yield made


def pem(key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> str:
    """Return a private key in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def issue(issuer: Authority, device_id: str, *, now: float | None = None, days: int = 365) -> Identity:
    """Issue a certificate with a key."""
    issued, key = authority.issue_for(issuer, device_id, time.time() if now is None else now, days)
    return Identity(issued.certificate, key)


def requested(issuer: Authority, key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> Identity:
    """Return the certificate for a key that the device made itself."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(key, None if isinstance(key, Ed25519PrivateKey) else SHA256())
    issued = authority.sign_request(issuer, request.public_bytes(Encoding.PEM).decode(), DEVICE, time.time())
    return Identity(issued.certificate, pem(key))


# --- Who gets in, and as whom


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda issuer: issue(issuer, DEVICE), id="key made for it"),
        pytest.param(lambda issuer: requested(issuer, generate_private_key(SECP256R1())), id="P-256"),
        pytest.param(lambda issuer: requested(issuer, Ed25519PrivateKey.generate()), id="Ed25519"),
    ],
)
@pytest.mark.parametrize(
    "claim",
    [
        pytest.param(lambda _: None, id="no user name"),
        pytest.param(lambda _: Login(OTHER, None), id="another device's name"),
        pytest.param(lambda broker: Login(GATEWAY, broker.accounts[GATEWAY].password), id="an account, its password"),
    ],
)
async def test_device_is_who_its_certificate_says(
    site: Site, make: Callable[[Authority], Identity], claim: Callable[[MutualTlsBroker], Login | None]
) -> None:
    """A device publishes on its own topics and on no other's, whatever it says that it is called."""

    def publish() -> tuple[list[str], int, int, int]:
        with Connection(site.endpoint(site.issue(GATEWAY)), "gateway") as gateway:
            assert gateway.subscribe(EVERYTHING) < REFUSED
            with Connection(site.endpoint(make(site.authority)), "device", claim(site.broker)) as device:
                codes = (
                    device.publish(up(OTHER), b"forged"),
                    device.publish(down(DEVICE), b"forged"),
                    device.publish(up(DEVICE), b"genuine"),
                )
            # The broker keeps the order: whatever came of the forged ones came before the genuine one.
            received: list[str] = []
            while (message := gateway.receive(WITHIN)) is not None:
                received.append(message.topic)
                if message.payload == b"genuine":
                    break
            return received, *codes

    received, others, backwards, own = await asyncio.to_thread(publish)
    assert received == [up(DEVICE)]
    assert (others, backwards) == (NOT_AUTHORIZED, NOT_AUTHORIZED)
    assert own < REFUSED


async def test_device_hears_what_is_for_it(site: Site) -> None:
    """A device that subscribes to everything hears its own topics."""

    def listen() -> list[tuple[str, bytes]]:
        with (
            Connection(site.endpoint(site.issue(DEVICE)), "device", Login(OTHER, None)) as device,
            Connection(site.endpoint(site.issue(GATEWAY)), "gateway") as gateway,
        ):
            device.subscribe("#")
            assert device.subscribe(down(DEVICE)) < REFUSED
            for topic in (down(OTHER), up(OTHER), down(DEVICE)):
                assert gateway.publish(topic, b"command") < REFUSED
            heard = device.receive(WITHIN)
            return [(heard.topic, heard.payload)] if heard else []

    assert await asyncio.to_thread(listen) == [(down(DEVICE), b"command")]


def mimic(genuine: Authority) -> Identity:
    """Return a certificate of an authority that has the name and the identifiers of the genuine one, not its key."""
    rogue = Authority(certificate=genuine.certificate, key=generate_private_key(SECP256R1()))
    return issue(rogue, DEVICE)


def on_top_of(device: Identity) -> Identity:
    """Return a certificate for another device, issued by a device as if it were an authority."""
    parent = x509.load_pem_x509_certificate(device.certificate.encode())
    parent_key: Any = load_pem_private_key(device.key.encode(), None)
    key = generate_private_key(SECP256R1())
    child = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, OTHER)]))
        .issuer_name(parent.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(parent.not_valid_before_utc)
        .not_valid_after(parent.not_valid_after_utc)
        .sign(parent_key, SHA256())
    )
    return Identity(child.public_bytes(Encoding.PEM).decode() + device.certificate, pem(key))


def of_the_server(folder: Path) -> Identity:
    """Return what a server has of the authority that issued it."""
    made = ensure_certificates(folder)
    return Identity(made.certificate.read_text(encoding="utf-8"), made.key.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param(lambda _: None, id="no certificate"),
        pytest.param(lambda _: issue(authority.new_authority(time.time()), DEVICE), id="another authority"),
        pytest.param(lambda site: mimic(site.authority), id="an authority of the same name"),
        pytest.param(lambda site: site.issue(DEVICE, now=time.time() - 2 * DAY, days=1), id="expired"),
        pytest.param(lambda site: site.issue(DEVICE, now=time.time() + DAY), id="not yet valid"),
        pytest.param(lambda site: on_top_of(site.issue(DEVICE)), id="issued by a device"),
        pytest.param(lambda site: of_the_server(site.broker.certificates.ca.parent), id="the server's own"),
    ],
)
async def test_stranger_is_refused(site: Site, stranger: Callable[[Site], Identity | None]) -> None:
    """Without a certificate that counts nobody gets in, not with the right password either."""
    account = site.broker.accounts[GATEWAY]
    identity = stranger(site)
    assert not await site.gets_in(identity)
    assert not await site.gets_in(identity, Login(account.username, account.password))
    assert await site.gets_in(site.issue(DEVICE))


# --- Revoked certificates


@pytest.mark.parametrize("restart", [False, True], ids=["SIGHUP", "restart"])
async def test_revoked_certificate(site: Site, restart: bool) -> None:
    """A revoked certificate is refused from a SIGHUP on, and the same device's next one is not."""
    revoked, following, other = site.issue(DEVICE), site.issue(DEVICE), site.issue(OTHER)
    assert await site.gets_in(revoked)
    site.revoke(revoked)
    if restart:
        await site.broker.stop()
        await site.broker.start()
    else:
        assert await site.gets_in(revoked), "a list counts once it was read"
        await site.broker.reload()
    assert [await site.gets_in(one) for one in (revoked, following, other)] == [False, True, True]


async def test_list_replaces_the_one_before(site: Site) -> None:
    """The lists do not add up: SIGHUP forgets the one before, though it was made in the same second."""
    first, second = site.issue(DEVICE), site.issue(OTHER)
    now = time.time()
    site.revoke(first, now=now)
    await site.broker.reload()
    assert [await site.gets_in(one) for one in (first, second)] == [False, True]
    site.revoke(second, now=now)
    await site.broker.reload()
    assert [await site.gets_in(one) for one in (first, second)] == [True, False]


async def test_open_session_outlives_the_revocation(site: Site) -> None:
    """A session that is open stays open: whoever revokes must throw the device out as well."""
    identity = site.issue(DEVICE)
    with Connection(site.endpoint(identity), "live") as live:
        site.revoke(identity)
        await site.broker.reload()
        assert not await site.gets_in(identity)
        assert live.publish(up(DEVICE), b"still there") < REFUSED


async def test_resumed_session_is_refused(site: Site) -> None:
    """A TLS session from before the revocation does not open the door, though no certificate is looked at for it."""
    identity = site.issue(DEVICE)
    context = site.context(identity)
    answer, session, _ = await asyncio.to_thread(connect, site, context, None)
    assert answer == CONNACK
    answer, _, resumed = await asyncio.to_thread(connect, site, context, session)
    assert (answer, resumed) == (CONNACK, True)
    site.revoke(identity)
    await site.broker.reload()
    with pytest.raises(OSError, match=r"."):
        await asyncio.to_thread(connect, site, context, session)
    assert await site.gets_in(site.issue(DEVICE))


def connect(
    site: Site, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bytes, ssl.SSLSession | None, bool]:
    """Connect, resuming a TLS session; return the broker's answer, the session, and whether it was resumed."""
    with (
        socket.create_connection((site.broker.host, site.broker.port), WITHIN) as plain,
        context.wrap_socket(plain, server_hostname=site.broker.host, session=session) as secured,
    ):
        secured.sendall(CONNECT)
        answer = secured.recv(len(CONNACK))
        if not answer:
            raise ConnectionResetError("the broker hung up")
        return answer, secured.session, bool(secured.session_reused)


async def test_expired_list_locks_everybody_out(site: Site) -> None:
    """When the list has expired nobody gets in, until there is a new one; a restart does not help."""
    identity = site.issue(DEVICE)
    assert await site.gets_in(identity)
    site.revoke(now=time.time() - (authority.CRL_DAYS + 1) * DAY)
    await site.broker.reload()
    assert not await site.gets_in(identity)
    await site.broker.stop()
    await site.broker.start()
    assert not await site.gets_in(identity)
    site.revoke()
    await site.broker.reload()
    assert await site.gets_in(identity)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda site: site.list_of(authority.new_authority(time.time())), id="another authority's"),
        pytest.param(
            lambda site: site.list_of(
                Authority(certificate=site.authority.certificate, key=generate_private_key(SECP256R1()))
            ),
            id="forged",
        ),
        pytest.param(lambda site: site.list_of(site.authority, now=time.time() + DAY), id="from the future"),
    ],
)
async def test_list_that_does_not_count_locks_everybody_out(site: Site, make: Callable[[Site], str]) -> None:
    """Without a list that is valid and the authority's own nobody gets in: who can write it cannot let anybody in."""
    identity = site.issue(DEVICE)
    site.broker.put("revoked.crl", make(site))
    await site.broker.reload()
    assert not await site.gets_in(identity)
    site.revoke()
    await site.broker.reload()
    assert await site.gets_in(identity)


@pytest.mark.parametrize("damaged", ["", "garbage", None], ids=["empty", "garbage", "missing"])
async def test_damaged_list(site: Site, damaged: str | None, measured: Callable[[str], None]) -> None:
    """A broker does not start with a list that it cannot read, and a good one mends a reload of such a list.

    In between, after SIGHUP, Mosquitto 2.0.11 looks at no list at all: revoked certificates get in. So the file is
    replaced at once, never written in place, and read back before the signal.
    """
    revoked, other = site.issue(DEVICE), site.issue(OTHER)
    site.revoke(revoked)
    await site.broker.reload()
    assert [await site.gets_in(one) for one in (revoked, other)] == [False, True]
    path = site.broker.folder / "revoked.crl"
    good = path.read_text(encoding="utf-8")
    path.unlink()
    if damaged is not None:
        site.broker.put("revoked.crl", damaged)
    await site.broker.reload()
    what = "missing" if damaged is None else damaged or "empty"
    measured(f"revocation list {what} at SIGHUP: a revoked certificate gets in: {await site.gets_in(revoked)}")
    await site.broker.stop()
    with pytest.raises(ProcessFailedError, match="ended with"):
        await site.broker.start()
    site.broker.put("revoked.crl", good)
    await site.broker.start()
    assert [await site.gets_in(one) for one in (revoked, other)] == [False, True]


# --- Another authority takes over


async def test_rotation_of_the_authority(site: Site) -> None:
    """While both authorities count the certificates of both get in, each with its list; afterwards the new one's."""
    old, revoked = site.issue(DEVICE), site.issue(DEVICE)
    successor = authority.new_authority(time.time())
    new, new_revoked = issue(successor, DEVICE), issue(successor, DEVICE)
    everybody = (old, revoked, new, new_revoked)
    site.revoke(revoked)
    await site.broker.reload()
    assert [await site.gets_in(one) for one in everybody] == [True, False, False, False]

    site.broker.put("devices.crt", authority.trust_bundle(site.authority, successor))
    lists = site.list_of(site.authority, revoked) + site.list_of(successor, new_revoked)
    site.broker.put("revoked.crl", lists)
    await site.broker.reload()
    assert [await site.gets_in(one) for one in everybody] == [True, False, True, False]

    site.broker.put("devices.crt", successor.certificate)
    site.broker.put("revoked.crl", site.list_of(successor, new_revoked))
    await site.broker.reload()
    assert [await site.gets_in(one) for one in everybody] == [False, False, True, False]


async def test_every_authority_needs_its_list(site: Site) -> None:
    """An authority in the bundle without a list of its own lets nobody in, and does not hinder the other."""
    successor = authority.new_authority(time.time())
    old, new = site.issue(DEVICE), issue(successor, DEVICE)
    site.broker.put("devices.crt", authority.trust_bundle(site.authority, successor))
    await site.broker.reload()
    assert [await site.gets_in(one) for one in (old, new)] == [True, False]
    site.broker.put("revoked.crl", site.list_of(site.authority) + site.list_of(successor))
    await site.broker.reload()
    assert [await site.gets_in(one) for one in (old, new)] == [True, True]
