"""The brokers of the stack let in whom they should, over the TLS that they should."""

from collections.abc import Callable
from pathlib import Path
import ssl
import warnings

import pytest

from tests.stack.brokers import Account, AmqttBroker, Broker, MosquittoBroker
from tests.stack.certificates import ensure_certificates

from .mqtt_handshake import ACCEPTED, REFUSED, connect_code


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Return each broker in turn."""
    running: Broker = request.getfixturevalue(request.param)
    return running


def _only(broker: Broker, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = broker.client_context()
    # OpenSSL would not even offer the old versions: the refusal must be the broker's.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


async def test_known_account_is_let_in(broker: Broker) -> None:
    """A device with its own password is accepted; without this the refusals below would show nothing."""
    assert await connect_code(broker, broker.client_context(), broker.accounts["tent-1"]) == ACCEPTED


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param(lambda _: None, id="anonymous"),
        pytest.param(lambda _: Account("nobody"), id="unknown"),
        pytest.param(lambda _: Account("tent-1"), id="wrong password"),
        pytest.param(
            lambda broker: Account("tent-1", broker.accounts["homeassistant"].password), id="another's password"
        ),
    ],
)
async def test_stranger_is_refused(broker: Broker, stranger: Callable[[Broker], Account | None]) -> None:
    """Nobody comes in without the right password."""
    assert await connect_code(broker, broker.client_context(), stranger(broker)) in REFUSED


async def test_plaintext_is_refused(broker: Broker) -> None:
    """A correct password without TLS gets no answer."""
    assert await connect_code(broker, None, broker.accounts["tent-1"]) is None


async def test_tls_1_1_is_refused(broker: Broker) -> None:
    """Nobody gets past the handshake with a version before TLS 1.2."""
    # aMQTT hangs up before its alert is out.
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await connect_code(broker, _only(broker, ssl.TLSVersion.TLSv1_1), broker.accounts["tent-1"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2], ids=lambda version: version.name)
async def test_mosquitto_speaks_tls_1_3_only(mosquitto: MosquittoBroker, version: ssl.TLSVersion) -> None:
    """A client that does not go up to TLS 1.3 is told that its version is too old."""
    with pytest.raises(ssl.SSLError) as refusal:
        await connect_code(mosquitto, _only(mosquitto, version), mosquitto.accounts["tent-1"])
    assert refusal.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


async def test_amqtt_speaks_tls_1_2(amqtt: AmqttBroker) -> None:
    """The oldest version that is allowed works: what refuses TLS 1.1 is its version, not the ciphers offered."""
    assert await connect_code(amqtt, _only(amqtt, ssl.TLSVersion.TLSv1_2), amqtt.accounts["tent-1"]) == ACCEPTED


async def test_foreign_authority_is_noticed(mosquitto: MosquittoBroker, tmp_path: Path) -> None:
    """A client that trusts another authority does not send its password."""
    foreign = ssl.create_default_context(cafile=str(ensure_certificates(tmp_path).ca))
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect_code(mosquitto, foreign, mosquitto.accounts["tent-1"])


async def test_broker_comes_back_on_its_port(amqtt: AmqttBroker) -> None:
    """After a kill the same accounts are let in at the same place."""
    await amqtt.kill()
    await amqtt.start()
    assert await connect_code(amqtt, amqtt.client_context(), amqtt.accounts["tent-1"]) == ACCEPTED


async def test_no_secret_is_left_readable(broker: Broker) -> None:
    """The files of a broker hold no password in the clear, and others cannot read the hashes."""
    files = [path for path in broker.folder.rglob("*") if path.is_file()]
    for account in broker.accounts.values():
        assert not [path for path in files if account.password in path.read_text(encoding="utf-8")]
    assert (broker.folder / "passwords").stat().st_mode & 0o077 == 0
