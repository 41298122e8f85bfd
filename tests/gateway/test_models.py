"""Tests of the records: immutable, without a dictionary of their own, and silent about secrets."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from custom_components.grokmon.gateway.models import (
    Algorithm,
    Channel,
    Credential,
    Device,
    DeviceStatus,
    Downlink,
    Greeting,
    Hello,
    Message,
    OfflineHint,
    Outbound,
    Range,
    Reading,
    SigningKey,
    Telemetry,
    VerifyingKey,
)

SECRET = b"never to be seen in any log line"
CREDENTIAL = Credential(key_id="0a0b0c0d", algorithm=Algorithm.HS256, created=1.0, secret=SECRET)
DEVICE = Device(device_id="tent-1", name="Tent", metrics=frozenset({"ph"}), credential=CREDENTIAL)
VERIFYING_KEY = VerifyingKey(key_id="0a0b0c0d", algorithm=Algorithm.HS256, headers=frozenset(), key=SECRET)
SIGNING_KEY = SigningKey(algorithm=Algorithm.HS256, key=SECRET)
HELLO = Hello(boot="b")
OUTBOUND = Outbound(topic="t", payload=b"p")
FROZEN = [
    CREDENTIAL,
    DEVICE,
    VERIFYING_KEY,
    SIGNING_KEY,
    HELLO,
    OUTBOUND,
    Range(0.0, 1.0),
    Message("tent-1", "hello", b""),
    Telemetry(metrics={}, ts=None, meta={}),
    Greeting(device_id="tent-1", hello=HELLO, answer=OUTBOUND),
    OfflineHint("tent-1"),
]
READING = Reading(
    device_id="tent-1", received_at=1.0, measured_at=1.0, values={}, flags=(), late=False, meta={}, hello=None
)


@pytest.mark.parametrize("record", FROZEN, ids=lambda record: type(record).__name__)
def test_record_is_frozen(record: Any) -> None:
    """Refuse to change a record."""
    name = fields(record)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(record, name, None)


@pytest.mark.parametrize("record", [*FROZEN, READING], ids=lambda record: type(record).__name__)
def test_record_has_slots(record: Any) -> None:
    """Take no attribute that was not declared."""
    assert not hasattr(record, "__dict__")


@pytest.mark.parametrize("record", [CREDENTIAL, DEVICE, VERIFYING_KEY, SIGNING_KEY], ids=lambda r: type(r).__name__)
def test_secret_is_not_shown(record: Any) -> None:
    """Leave secrets out of what a log or a traceback would show."""
    assert SECRET.decode() not in repr(record)
    assert SECRET.decode() not in str(record)


def test_names_on_the_wire() -> None:
    """Spell what travels as the protocol does."""
    assert [algorithm.value for algorithm in Algorithm] == ["HS256", "ES256", "EdDSA"]
    assert [channel.value for channel in Channel] == ["hello", "telemetry", "state", "ack", "status"]
    assert [channel.value for channel in Downlink] == ["session", "command"]
    assert [status.value for status in DeviceStatus] == ["active", "disabled", "revoked"]


def test_defaults() -> None:
    """Let a device in with 100 messages a minute, and take a message for not retained."""
    assert (DEVICE.status, DEVICE.rate_limit, DEVICE.zone, DEVICE.ranges) == (DeviceStatus.ACTIVE, 100, None, {})
    assert Message("tent-1", "hello", b"").retained is False
