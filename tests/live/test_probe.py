"""The probe finds out what a broker enforces: real brokers, one verdict each."""

import asyncio
from collections.abc import Callable
from pathlib import Path
import ssl
import threading
import time
from typing import Any

import pytest

from custom_components.grokmon.broker.connection import REFUSED, Connection, Endpoint, Login, Protocol
from custom_components.grokmon.broker.probe import Target, probe, probe_topics
from custom_components.grokmon.gateway.posture import Check, Finding, Posture, PostureReport
from tests.stack.brokers import HOME_ASSISTANT, MosquittoBroker
from tests.stack.brokers.dynamic import DynamicMosquittoBroker
from tests.stack.certificates import Certificates, ensure_certificates
from tests.stack.ports import LOOPBACK, free_port

from .probed_brokers import (
    CONTROL,
    FIRST,
    PREFIX,
    SECOND,
    Doorkeeper,
    FileBroker,
    Listener,
    ProbedBroker,
    RuledAmqttBroker,
    login,
    reissued,
    target,
)
from .silent_relay import SilentRelay

# Offering an old version is what the probe does.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")

CONNACK, CONNACK_5 = b"\x20\x02\x00\x00", b"\x20\x03\x00\x00\x00"
STRANGERS = {Check.ANONYMOUS, Check.WRONG_PASSWORD}
TRANSPORT = {Check.PLAINTEXT, Check.TLS_VERSION, Check.CERTIFICATE}


@pytest.fixture(autouse=True)
def installed() -> None:
    """Leave these tests out where there is no Mosquitto with its plugin."""
    if MosquittoBroker.find() is None or DynamicMosquittoBroker.find_plugin() is None:
        pytest.skip("mosquitto is not installed")


async def probed(what: Target) -> PostureReport:
    """Return what the probe reports."""
    return await asyncio.to_thread(probe, what, time.time())


def found(report: PostureReport, finding: Finding) -> set[Check]:
    """Return the checks that ended so."""
    return {result.check for result in report.results if result.finding is finding}


def details(report: PostureReport) -> dict[Check, str]:
    """Return what the report says about each check."""
    return {result.check: result.detail for result in report.results}


async def test_everything_is_right(tmp_path: Path, certificates: Certificates, measured: Callable[[str], None]) -> None:
    """Call a broker enforced that has an account and a client id for each device and nothing without TLS."""
    async with ProbedBroker(tmp_path, certificates) as broker:
        began = time.monotonic()
        report = await probed(target(broker, quiet=2.0))
        measured(
            f"probe of a broker that is as it should be, 2 s of silence included: {time.monotonic() - began:.2f} s"
        )
    assert found(report, Finding.PASSED) == set(Check), details(report)
    assert report.posture is Posture.ENFORCED
    assert report.certificate_expires is not None
    assert 396 < (report.certificate_expires - report.at) / 86_400 < 397


@pytest.mark.parametrize("protocol", Protocol)
async def test_broker_that_hangs_up(tmp_path: Path, certificates: Certificates, protocol: Protocol) -> None:
    """Take for a refusal that the broker hangs up, and try the next thing on a connection of its own."""
    async with ProbedBroker(tmp_path / "right", certificates, hangs_up=True, observed=["#", CONTROL]) as broker:
        right = await probed(target(broker, protocol=protocol))
    wide = ["homeassistant/#", "grokmon/v1/+/up/telemetry"]
    async with ProbedBroker(tmp_path / "wide", certificates, hangs_up=True, more=wide) as broker:
        wrong = await probed(target(broker, protocol=protocol))
    assert found(right, Finding.PASSED) == set(Check), details(right)
    assert found(wrong, Finding.FAILED) == {Check.FOREIGN_PUBLISH, Check.DISCOVERY_PUBLISH}, details(wrong)


async def test_strangers_get_no_answer(tmp_path: Path) -> None:
    """Take for a refusal that a stranger gets no answer, once who has the password got one."""
    async with ProbedBroker(tmp_path, None) as broker, Doorkeeper(broker) as door:
        endpoint = Endpoint(LOOPBACK, door.port)
        right = await probed(target(broker, endpoint=endpoint))
        nobody = await probed(_foreign(endpoint, ("first-secret", "second-secret", "observer-secret")))
        mistaken = await probed(target(broker, endpoint=endpoint, probe=Login(FIRST, login(broker, SECOND).password)))
    assert found(right, Finding.PASSED) == set(Check) - TRANSPORT, details(right)
    assert found(nobody, Finding.PASSED) == found(mistaken, Finding.PASSED) == set()


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        *((code, Finding.PASSED) for code in (0x86, 0x87, 0x8C)),
        *((code, Finding.UNKNOWN) for code in (0x80, 0x84, 0x85, 0x88, 0x89, 0x97)),
    ],
)
async def test_reason_of_a_refusal(code: int, finding: Finding) -> None:
    """Take no refusal for one of strangers that speaks of something else, such as a broker that is busy."""
    async with Listener(bytes([0x20, 3, 0, code, 0])) as server:
        what = _foreign(Endpoint(LOOPBACK, server.port), ("first-secret", "second-secret", "observer-secret"))
        report = await probed(what)
    assert {report.finding(check) for check in STRANGERS} == {finding}
    assert report.posture is Posture.UNKNOWN


async def test_nothing_is_left_behind(tmp_path: Path, certificates: Certificates) -> None:
    """Leave no retained message in a broker that would have taken one."""
    async with ProbedBroker(tmp_path, certificates, more=["#"]) as broker:
        what = target(broker)
        await probed(what)
        first = await asyncio.to_thread(_first_message, what)
    assert first == "end"


def _first_message(what: Target) -> str | None:
    """Return the topic of the first message that a broker has for who subscribes to everything."""
    with Connection(what.endpoint, "after", what.observer) as connection:
        connection.subscribe("#")
        connection.publish("end", b"")
        message = connection.receive(5)
    return message.topic if message is not None else None


@pytest.mark.parametrize("protocol", Protocol)
async def test_anonymous_is_let_in(tmp_path: Path, certificates: Certificates, protocol: Protocol) -> None:
    """Call a broker open that asks nobody who he is."""
    async with FileBroker(tmp_path, certificates, settings=["allow_anonymous true"]) as broker:
        report = await probed(target(broker, protocol=protocol))
    assert report.posture is Posture.OPEN
    assert found(report, Finding.FAILED) == {Check.ANONYMOUS, Check.CLIENT_ID_THEFT}, details(report)


@pytest.mark.parametrize("protocol", Protocol)
async def test_rules_that_are_not_enforced(tmp_path: Path, certificates: Certificates, protocol: Protocol) -> None:
    """Call a broker open whose accounts may do everything, with the plugin loaded and everything else right."""
    async with ProbedBroker(tmp_path, certificates, more=["#"]) as broker:
        report = await probed(target(broker, protocol=protocol))
    assert report.posture is Posture.OPEN
    assert found(report, Finding.FAILED) == {
        Check.FOREIGN_PUBLISH,
        Check.FOREIGN_SUBSCRIBE,
        Check.DISCOVERY_PUBLISH,
    }, details(report)


async def test_no_rules_at_all(tmp_path: Path, certificates: Certificates) -> None:
    """Call a broker open that asks for passwords and for nothing else."""
    async with FileBroker(tmp_path, certificates, rules=False) as broker:
        report = await probed(target(broker))
    assert report.posture is Posture.OPEN
    assert found(report, Finding.FAILED) >= {Check.FOREIGN_PUBLISH, Check.FOREIGN_SUBSCRIBE, Check.CLIENT_ID_THEFT}


@pytest.mark.parametrize(
    ("more", "failed"),
    [
        ("grokmon/v1/+/probe/up", {Check.FOREIGN_PUBLISH}),
        ("grokmon/v1/+/up/telemetry", {Check.FOREIGN_PUBLISH}),
        ("grokmon/v1/+/down/#", {Check.FOREIGN_SUBSCRIBE}),
        ("homeassistant/#", {Check.DISCOVERY_PUBLISH}),
        ("$CONTROL/#", {Check.CONTROL_PUBLISH}),
    ],
)
@pytest.mark.parametrize("protocol", Protocol)
async def test_one_rule_too_wide(
    tmp_path: Path, certificates: Certificates, protocol: Protocol, more: str, failed: set[Check]
) -> None:
    """Name the one thing that is allowed and must not be."""
    async with ProbedBroker(tmp_path, certificates, more=[more], observed=["#", CONTROL]) as broker:
        report = await probed(target(broker, protocol=protocol))
    assert found(report, Finding.FAILED) == failed, details(report)
    apart = failed.isdisjoint({Check.FOREIGN_PUBLISH, Check.FOREIGN_SUBSCRIBE})
    assert report.posture is (Posture.PARTIAL if apart else Posture.OPEN)


@pytest.mark.parametrize(
    ("more", "check", "finding"),
    [
        ("homeassistant/#", Check.DISCOVERY_PUBLISH, Finding.FAILED),
        ("grokmon/v1/+/up/telemetry", Check.FOREIGN_PUBLISH, Finding.UNKNOWN),
    ],
)
async def test_accepted_and_not_seen(
    tmp_path: Path, certificates: Certificates, more: str, check: Check, finding: Finding
) -> None:
    """Believe a broker that says that it took what it must not take, though nobody saw it arrive."""
    observed = ["grokmon/v1/+/probe/up", "grokmon/v1/+/down/#"]
    async with ProbedBroker(tmp_path, certificates, more=[more], observed=observed) as broker:
        report = await probed(target(broker))
    assert report.finding(check) is finding
    assert details(report)[check].startswith("accepted: ")
    assert report.posture is Posture.PARTIAL


async def test_client_ids_are_not_bound(tmp_path: Path, certificates: Certificates) -> None:
    """Call a broker partly enforced where one account can drive another out."""
    async with ProbedBroker(tmp_path, certificates, bound=False) as broker:
        report = await probed(target(broker))
    assert report.posture is Posture.PARTIAL
    assert found(report, Finding.FAILED) == {Check.CLIENT_ID_THEFT}, details(report)


async def test_rules_in_a_file(tmp_path: Path, certificates: Certificates) -> None:
    """Find rules in a file enforced, which leaves the client ids."""
    async with FileBroker(tmp_path, certificates) as broker:
        report = await probed(target(broker))
    assert report.posture is Posture.PARTIAL
    assert set(Check) - found(report, Finding.PASSED) == {Check.CLIENT_ID_THEFT}, details(report)


async def test_no_tls(tmp_path: Path) -> None:
    """Call a broker without TLS not enforced, though it keeps its devices apart."""
    async with ProbedBroker(tmp_path, None) as broker:
        report = await probed(target(broker))
    assert report.posture is Posture.PARTIAL
    assert found(report, Finding.FAILED) == TRANSPORT, details(report)
    assert found(report, Finding.PASSED) == set(Check) - TRANSPORT
    assert report.certificate_expires is None


async def test_plaintext_beside_tls(tmp_path: Path, certificates: Certificates) -> None:
    """Notice a second listener without TLS, which asks for passwords."""
    port = free_port()
    async with ProbedBroker(tmp_path, certificates, settings=[f"listener {port} {LOOPBACK}"]) as broker:
        report = await probed(target(broker, plaintext_port=port))
    assert report.posture is Posture.PARTIAL
    assert found(report, Finding.FAILED) == {Check.PLAINTEXT}, details(report)


async def test_anonymous_plaintext_beside_tls(tmp_path: Path, certificates: Certificates) -> None:
    """Call a broker open that lets anybody in by the back door."""
    async with ProbedBroker(tmp_path, certificates) as broker, Listener(CONNACK) as door:
        report = await probed(target(broker, plaintext_port=door.port))
    assert report.posture is Posture.OPEN
    assert found(report, Finding.FAILED) == {Check.PLAINTEXT, Check.ANONYMOUS}, details(report)


async def test_something_else_without_tls(tmp_path: Path, certificates: Certificates) -> None:
    """Accept a server on that port which does not speak MQTT."""
    async with ProbedBroker(tmp_path, certificates) as broker, Listener(b"HTTP/1.1 400 Bad Request\r\n") as web:
        report = await probed(target(broker, plaintext_port=web.port))
    assert report.posture is Posture.ENFORCED
    assert details(report)[Check.PLAINTEXT] == "open, but no MQTT"


async def test_port_that_was_not_looked_at(tmp_path: Path, certificates: Certificates) -> None:
    """Prove nothing about a port that nobody named."""
    async with ProbedBroker(tmp_path, certificates) as broker:
        report = await probed(target(broker, plaintext_port=None))
    assert found(report, Finding.UNKNOWN) == {Check.PLAINTEXT}
    assert report.posture is Posture.PARTIAL


async def test_old_tls(tmp_path: Path, certificates: Certificates) -> None:
    """Notice a broker that still speaks TLS 1.1."""
    old = [("tls_version tlsv1.2", "tls_version tlsv1.1\nciphers ALL:@SECLEVEL=0")]
    async with ProbedBroker(tmp_path, certificates, replaced=old) as broker:
        report = await probed(target(broker))
    assert report.posture is Posture.PARTIAL
    assert found(report, Finding.FAILED) == {Check.TLS_VERSION}, details(report)


async def test_certificate_has_expired(tmp_path: Path, certificates: Certificates) -> None:
    """Say of a broker with an expired certificate what can be said without a password."""
    async with ProbedBroker(tmp_path / "broker", reissued(certificates, tmp_path, -3)) as broker:
        report = await probed(target(broker))
    assert found(report, Finding.FAILED) == {Check.CERTIFICATE}
    assert found(report, Finding.PASSED) == STRANGERS | {Check.PLAINTEXT, Check.TLS_VERSION}, details(report)
    assert details(report)[Check.CERTIFICATE] == "expired"
    assert report.certificate_expires is not None
    assert -3.1 < (report.certificate_expires - report.at) / 86_400 < -2.9
    assert report.posture is Posture.UNKNOWN


async def test_expired_and_open(tmp_path: Path, certificates: Certificates) -> None:
    """See without a password that a broker lets anybody in, whatever its certificate."""
    expired = reissued(certificates, tmp_path, -3)
    async with FileBroker(tmp_path / "broker", expired, settings=["allow_anonymous true"]) as broker:
        report = await probed(target(broker))
    assert report.posture is Posture.OPEN
    assert found(report, Finding.FAILED) == {Check.CERTIFICATE, Check.ANONYMOUS}


@pytest.mark.parametrize(("days", "finding"), [(13.5, Finding.FAILED), (14.5, Finding.PASSED)])
async def test_certificate_ends_soon(tmp_path: Path, certificates: Certificates, days: float, finding: Finding) -> None:
    """Warn two weeks ahead, and go on believing what is valid now."""
    async with ProbedBroker(tmp_path / "broker", reissued(certificates, tmp_path, days)) as broker:
        report = await probed(target(broker))
    assert report.finding(Check.CERTIFICATE) is finding
    assert details(report)[Check.CERTIFICATE] == f"{int(days)} days left"
    assert found(report, Finding.PASSED) >= set(Check) - {Check.CERTIFICATE}
    assert report.posture is Posture.ENFORCED


def _of_another_authority(_certificates: Certificates, folder: Path) -> tuple[Certificates, ssl.SSLContext]:
    context = ssl.create_default_context(cafile=str(ensure_certificates(folder / "ours").ca))
    return ensure_certificates(folder / "theirs"), context


def _of_another_host(_certificates: Certificates, folder: Path) -> tuple[Certificates, ssl.SSLContext]:
    theirs = ensure_certificates(folder, ["elsewhere.example"])
    return theirs, ssl.create_default_context(cafile=str(theirs.ca))


def _expired(certificates: Certificates, folder: Path) -> tuple[Certificates, ssl.SSLContext]:
    return reissued(certificates, folder, -1), ssl.create_default_context(cafile=str(certificates.ca))


def _name_not_checked(certificates: Certificates, _folder: Path) -> tuple[Certificates, ssl.SSLContext]:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.check_hostname = False
    return certificates, context


def _nothing_checked(certificates: Certificates, _folder: Path) -> tuple[Certificates, ssl.SSLContext]:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return certificates, context


@pytest.mark.parametrize(
    ("setting", "detail"),
    [
        (_of_another_authority, "not trusted"),
        (_of_another_host, "of another name"),
        (_expired, "expired"),
        (_name_not_checked, "not verified"),
        (_nothing_checked, "not verified"),
    ],
)
async def test_no_password_for_a_stranger(
    tmp_path: Path,
    certificates: Certificates,
    setting: Callable[[Certificates, Path], tuple[Certificates, ssl.SSLContext]],
    detail: str,
) -> None:
    """Send no password to a server that lets everybody in and whose certificate is not worth anything."""
    shown, context = setting(certificates, tmp_path)
    secrets = ("first-secret", "second-secret", "observer-secret")
    async with Listener(CONNACK_5, shown) as server, Listener(b"") as plain:
        what = _foreign(Endpoint(LOOPBACK, server.port, context), secrets, plaintext_port=plain.port)
        report = await probed(what)
    said = b"".join(server.received + plain.received)
    assert not [secret for secret in secrets if secret.encode() in said]
    # It was tempted: somebody without a password was let in, and the name of the account was said with a wrong one.
    assert said.count(b"MQTT") >= 3
    assert FIRST.encode() in said
    assert details(report)[Check.CERTIFICATE] == detail
    assert found(report, Finding.UNKNOWN) >= {Check.OWN_TOPIC, Check.CLIENT_ID_THEFT, Check.FOREIGN_PUBLISH}
    assert found(report, Finding.FAILED) == {Check.CERTIFICATE, *STRANGERS}


async def test_password_reaches_who_is_trusted(certificates: Certificates) -> None:
    """See the password at a server whose certificate is right: else the test above would show nothing."""
    secrets = ("first-secret", "second-secret", "observer-secret")
    async with Listener(CONNACK_5, certificates) as server:
        context = ssl.create_default_context(cafile=str(certificates.ca))
        await probed(_foreign(Endpoint(LOOPBACK, server.port, context), secrets))
    assert b"observer-secret" in b"".join(server.received)


def _foreign(endpoint: Endpoint, secrets: tuple[str, str, str], **changes: Any) -> Target:
    """Return a target that no broker of ours is behind."""
    first, second, observer = secrets
    settings: dict[str, Any] = {
        "endpoint": endpoint,
        "prefix": PREFIX,
        "probe": Login(FIRST, first),
        "device_id": FIRST,
        "client_id": FIRST,
        "other": Login(SECOND, second),
        "other_id": SECOND,
        "other_client_id": SECOND,
        "observer": Login(HOME_ASSISTANT, observer),
        "plaintext_port": free_port(),
        "quiet": 0.2,
        "timeout": 0.5,
    }
    return Target(**(settings | changes))


# Under MQTT 3.1.1 a broker gives no reasons


async def test_silent_broker(tmp_path: Path, certificates: Certificates) -> None:
    """Find out by silence alone what a broker enforces, where the observer hears everything."""
    async with ProbedBroker(tmp_path, certificates, observed=["#", CONTROL]) as broker:
        report = await probed(target(broker, protocol=Protocol.V311))
    assert found(report, Finding.PASSED) == set(Check), details(report)
    assert details(report)[Check.FOREIGN_PUBLISH] == "did not arrive"
    assert report.posture is Posture.ENFORCED


async def test_silence_where_nobody_listens(tmp_path: Path, certificates: Certificates) -> None:
    """Prove nothing by a silence at somebody who may not listen there."""
    async with ProbedBroker(tmp_path, certificates, observed=["grokmon/#"]) as broker:
        silent = await probed(target(broker, protocol=Protocol.V311))
        spoken = await probed(target(broker))
    assert found(silent, Finding.UNKNOWN) == {Check.CONTROL_PUBLISH, Check.DISCOVERY_PUBLISH}, details(silent)
    assert found(spoken, Finding.UNKNOWN) == {Check.DISCOVERY_PUBLISH}, details(spoken)
    assert silent.posture is spoken.posture is Posture.PARTIAL


async def test_amqtt(tmp_path: Path, certificates: Certificates, measured: Callable[[str], None]) -> None:
    """Find the rules of aMQTT enforced, which cannot bind client ids, and takes no notice of a topic with a dollar."""
    async with RuledAmqttBroker(tmp_path, certificates) as broker:
        began = time.monotonic()
        report = await probed(target(broker, protocol=Protocol.V311, quiet=2.0))
        measured(f"probe of aMQTT, 2 s of silence included: {time.monotonic() - began:.2f} s")
    assert found(report, Finding.FAILED) == {Check.CLIENT_ID_THEFT}, details(report)
    assert found(report, Finding.UNKNOWN) == {Check.CONTROL_PUBLISH}, details(report)
    assert report.posture is Posture.PARTIAL


@pytest.mark.parametrize(
    ("hears", "unknown"),
    [
        ((), set[Check]()),
        (("subscribePattern",), {Check.FOREIGN_SUBSCRIBE, Check.CLIENT_ID_THEFT}),
    ],
)
async def test_device_that_is_deaf(
    tmp_path: Path, certificates: Certificates, hears: tuple[str, ...], unknown: set[Check]
) -> None:
    """Prove nothing by what a device does not receive that was promised its own messages and does not get them."""
    async with ProbedBroker(tmp_path, certificates, hears=hears) as broker:
        report = await probed(target(broker))
    assert found(report, Finding.FAILED) == set()
    assert found(report, Finding.UNKNOWN) == unknown, details(report)


# Somebody is missing


async def test_no_observer(tmp_path: Path, certificates: Certificates) -> None:
    """Prove no silence without anybody who would have heard."""
    async with ProbedBroker(tmp_path, certificates) as broker:
        report = await probed(target(broker, observer=None))
    assert found(report, Finding.FAILED) == set()
    passed = STRANGERS | TRANSPORT | {Check.OWN_TOPIC, Check.CLIENT_ID_THEFT}
    assert found(report, Finding.PASSED) == passed, details(report)
    assert report.posture is Posture.PARTIAL


async def test_no_observer_of_an_open_broker(tmp_path: Path, certificates: Certificates) -> None:
    """See without an observer that a device may listen to everything: it hears itself."""
    async with ProbedBroker(tmp_path, certificates, more=["#"]) as broker:
        report = await probed(target(broker, observer=None))
    assert report.posture is Posture.OPEN


async def test_no_second_device(tmp_path: Path, certificates: Certificates) -> None:
    """Leave the theft of a client id open where there is nobody to steal from."""
    async with ProbedBroker(tmp_path, certificates) as broker:
        report = await probed(target(broker, other=None))
    assert found(report, Finding.UNKNOWN) == {Check.CLIENT_ID_THEFT}
    assert report.posture is Posture.PARTIAL


@pytest.mark.parametrize("missing", ["probe", "other", "observer"])
async def test_account_is_not_let_in(tmp_path: Path, certificates: Certificates, missing: str) -> None:
    """Never call a broker enforced on which one of the accounts does not exist."""
    changes: dict[str, Any] = {missing: Login(FIRST, "wrong")}
    async with ProbedBroker(tmp_path, certificates) as broker:
        report = await probed(target(broker, **changes))
    assert found(report, Finding.FAILED) == ({Check.OWN_TOPIC} if missing == "probe" else set())
    assert report.posture is (Posture.UNKNOWN if missing == "probe" else Posture.PARTIAL)


# The broker is ill


async def test_broker_is_down(tmp_path: Path, certificates: Certificates) -> None:
    """Know nothing about a broker that does not run."""
    broker = ProbedBroker(tmp_path, certificates)
    for tls in (broker.client_context(), None):
        report = await probed(target(broker, endpoint=Endpoint(broker.host, broker.port, tls)))
        assert found(report, Finding.UNKNOWN) == set(Check)
        assert report.posture is Posture.UNKNOWN


async def test_broker_dies_in_the_middle(tmp_path: Path, certificates: Certificates) -> None:
    """Take for no silence that a broker which died while it was listened to brings nothing more."""
    async with ProbedBroker(tmp_path, certificates) as broker:
        what = target(broker, quiet=5.0)
        seen = asyncio.Event()
        loop = asyncio.get_running_loop()
        watching = asyncio.create_task(asyncio.to_thread(_watch, what, lambda: loop.call_soon_threadsafe(seen.set)))
        await seen.wait()
        probing = asyncio.create_task(probed(what))
        assert await watching
        await broker.kill()
        report = await probing
    assert found(report, Finding.PASSED) >= STRANGERS
    assert found(report, Finding.FAILED) <= {Check.OWN_TOPIC}
    silences = {Check.FOREIGN_PUBLISH, Check.DISCOVERY_PUBLISH, Check.CONTROL_PUBLISH, Check.FOREIGN_SUBSCRIBE}
    assert found(report, Finding.UNKNOWN) >= silences | {Check.CLIENT_ID_THEFT}, details(report)
    assert report.posture is not Posture.ENFORCED


def _watch(what: Target, ready: Callable[[], object]) -> bool:
    """Tell when all that must not arrive was sent: then the device hears on its own topic from the observer."""
    with Connection(what.endpoint, "watch", what.observer) as connection:
        connection.subscribe(*probe_topics(what.prefix, what.device_id))
        ready()
        return all(connection.receive(20) is not None for _ in range(3))


async def test_mark_that_is_repeated_without_end(tmp_path: Path, certificates: Certificates) -> None:
    """Come to an end though somebody who hears a mark floods the probe with it, and tell that it was heard."""
    async with ProbedBroker(tmp_path, certificates, more=["grokmon/v1/+/probe/up"]) as broker:
        what, stopped = target(broker, quiet=1.0), threading.Event()
        flooding = asyncio.create_task(asyncio.to_thread(_flood, what, stopped))
        try:
            async with asyncio.timeout(40):
                report = await probed(what)
        finally:
            stopped.set()
        assert await flooding > len(Check)
    assert report.finding(Check.FOREIGN_PUBLISH) is Finding.FAILED, details(report)


def _flood(what: Target, stopped: threading.Event) -> int:
    """Repeat the first mark of the observer's on a topic of the probe's until it is enough; return how often."""
    times = 0
    with Connection(what.endpoint, "flood", what.observer) as connection:
        for name in (FIRST, SECOND):
            connection.subscribe(*probe_topics(what.prefix, name))
        heard = connection.receive(20)
        while heard is not None and not stopped.is_set():
            times += connection.publish(heard.topic, heard.payload) < REFUSED
    return times


async def test_broker_falls_silent(tmp_path: Path, certificates: Certificates) -> None:
    """Give up on a network in which nothing comes through."""
    async with ProbedBroker(tmp_path, certificates) as broker, SilentRelay(broker.port) as relay:
        relay.drop()
        began = time.monotonic()
        report = await probed(target(broker, endpoint=Endpoint(LOOPBACK, relay.port, broker.client_context())))
        assert time.monotonic() - began < 10
    assert found(report, Finding.UNKNOWN) == set(Check)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="HTTP"),
        pytest.param(CONNACK_5, id="welcome, again and again"),
        pytest.param(CONNACK_5 + b"\x90\x03\x00\x01\x00", id="no reason in a SUBACK"),
        pytest.param(CONNACK_5 + b"\x30\x04\x00\x02\xff\xff", id="a topic that is no UTF-8"),
        pytest.param(CONNACK_5 + b"\x30\x03\x00\xff\x00", id="a topic longer than its message"),
        pytest.param(CONNACK_5 + b"\xff\xff\xff\xff\xff", id="an endless length"),
        pytest.param(b"\x20\x03\x00\xee\x00", id="a reason that there is not"),
        pytest.param(b"\x20\x06\x00\x00\x03\xff\xff\xff", id="properties that there are not"),
    ],
)
async def test_no_broker_at_all(answer: bytes) -> None:
    """Survive whatever a server says, and believe none of it."""
    async with Listener(answer) as server:
        what = _foreign(Endpoint(LOOPBACK, server.port), ("first-secret", "second-secret", "observer-secret"))
        report = await probed(what)
    assert Finding.PASSED not in {result.finding for result in report.results}, details(report)
    assert report.posture in {Posture.UNKNOWN, Posture.OPEN}
