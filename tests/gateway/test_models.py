"""Tests of the records: immutable, without a dictionary of their own, and silent about secrets."""

from dataclasses import FrozenInstanceError, fields, replace
from itertools import permutations
from math import inf
from typing import Any

import pytest

from custom_components.grokmon.gateway.models import (
    Algorithm,
    Auth,
    Channel,
    Credential,
    CredentialKind,
    CredentialState,
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
DEVICE = Device(device_id="tent-1", name="Tent", metrics=frozenset({"ph"}), credentials=(CREDENTIAL,))
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
    Greeting(answer=OUTBOUND),
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
    assert [auth.value for auth in Auth] == ["signed", "broker", "token"]
    assert [kind.value for kind in CredentialKind] == ["key", "password", "token", "certificate"]
    assert [state.value for state in CredentialState] == ["pending", "active", "retiring", "revoked"]


def test_defaults() -> None:
    """Let a signing device in with 100 messages a minute, and take a message for not retained."""
    assert DEVICE.auth is Auth.SIGNED
    assert (DEVICE.status, DEVICE.rate_limit, DEVICE.zone, DEVICE.ranges) == (DeviceStatus.ACTIVE, 100, None, {})
    assert Message("tent-1", "hello", b"").retained is False


@pytest.mark.parametrize(
    ("not_after", "ends", "until"), [(inf, inf, inf), (5.0, inf, 5.0), (inf, 4.0, 4.0), (5.0, 6.0, 5.0)]
)
def test_end_of_a_credential(not_after: float, ends: float, until: float) -> None:
    """Let a credential end when it expires or was replaced, whichever comes first."""
    assert replace(CREDENTIAL, not_after=not_after, ends=ends).until == until


def credential(key_id: str, state: CredentialState, **changes: Any) -> Credential:
    """Return a key by name and state."""
    return replace(CREDENTIAL, key_id=key_id, state=state, **changes)


LIVES = (
    credential("active", CredentialState.ACTIVE),
    credential("retiring", CredentialState.RETIRING, ends=9.0),
    credential("pending", CredentialState.PENDING, not_before=5.0),
    credential("replaced", CredentialState.RETIRING, ends=5.0),
    credential("revoked", CredentialState.REVOKED),
)


@pytest.mark.parametrize(
    "order", list(permutations(LIVES)), ids=lambda order: "-".join(each.key_id[:3] for each in order)
)
def test_key_in_use_comes_first(order: tuple[Credential, ...]) -> None:
    """Put the key in use first, then what it replaced; what was over when its successor began comes after that one."""
    other = replace(CREDENTIAL, kind=CredentialKind.TOKEN)
    device = replace(DEVICE, credentials=(other, *order, other))
    assert device.of_kind(CredentialKind.KEY) == LIVES
    assert device.key is LIVES[0]
    assert device.of_kind(CredentialKind.TOKEN) == (other, other)


def test_newest_comes_first() -> None:
    """Go by the order of issue among equals, whatever the clock said."""
    old = credential("old", CredentialState.RETIRING, created=9.0, ends=9.0)
    new = credential("new", CredentialState.RETIRING, created=1.0, ends=1.0)
    assert replace(DEVICE, credentials=(old, new)).of_kind(CredentialKind.KEY) == (new, old)


def test_device_that_signs_nothing() -> None:
    """Find no key where there is none."""
    assert replace(DEVICE, credentials=(replace(CREDENTIAL, kind=CredentialKind.PASSWORD),)).key is None
