"""Tests of devices that do not sign: the broker or an access token proves who they are, and the rest is as strict."""

from dataclasses import replace
from math import nan
from typing import Any, Final

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway import access_tokens, credentials, lifecycle
from custom_components.grokmon.gateway.envelope import JWT_CONTENT
from custom_components.grokmon.gateway.errors import Code, GatewayError, PeerError, PolicyError
from custom_components.grokmon.gateway.models import (
    Auth,
    Credential,
    CredentialState,
    Device,
    DeviceStatus,
    Hello,
    Message,
    OfflineHint,
    Reading,
)
from custom_components.grokmon.gateway.pipeline import Gateway, Peer

from .wire import (
    BOOT,
    NOW,
    Sender,
    accepted,
    boot_of,
    brief,
    code_of,
    device_of,
    gateway_with,
    greeted,
    hs256,
    outcome,
    to_json,
)

PENDING, ACTIVE, RETIRING, REVOKED = CredentialState
KEY: Final = bytes(range(32))
JSON: Final = "application/json"
TEMP: Final = {"metrics": {"temp_c": 21.5}}
SENDER: Final = Sender.new("tent-1")
CODES: Final = {code.value for code in Code}


def plain(body: Any, channel: str = "telemetry") -> Message:
    """Return a message that nobody signed."""
    return Message("tent-1", channel, body if isinstance(body, bytes) else to_json(body))


# --- Strict bodies, whoever vouches for them


REFUSED: Final = [
    ({"metrics": {}}, "field_invalid"),
    ({}, "field_missing"),
    ({"metrics": None}, "field_invalid"),
    (TEMP | {"sid": "s" * 16}, "field_unknown"),
    (TEMP | {"seq": 1}, "field_unknown"),
    (TEMP | {"sid": "s" * 16, "seq": 1}, "field_unknown"),
    (TEMP | {"iss": "tent-1"}, "field_unknown"),
    (TEMP | {"aud": "grokmon/v1/tent-1/up/telemetry"}, "field_unknown"),
    (TEMP | {"iat": NOW}, "field_unknown"),
    (TEMP | {"exp": NOW + 60}, "field_unknown"),
    (TEMP | {"nbf": NOW}, "field_unknown"),
    (TEMP | {"command": "stop"}, "field_unknown"),
    (TEMP | {"actuators": {"lamp": True}}, "field_unknown"),
    (TEMP | {"device_id": "tent-2"}, "issuer_mismatch"),
    (TEMP | {"device_id": "TENT-1"}, "issuer_mismatch"),
    (TEMP | {"device_id": ""}, "issuer_mismatch"),
    (TEMP | {"device_id": None}, "issuer_mismatch"),
    (TEMP | {"device_id": ["tent-1"]}, "issuer_mismatch"),
    (TEMP | {"ts": "now"}, "field_invalid"),
    (TEMP | {"ts": -1}, "field_invalid"),
    (TEMP | {"ts": 1e15}, "field_invalid"),
    (TEMP | {"ts": None}, "field_invalid"),
    (TEMP | {"meta": {"firmware": 1}}, "field_invalid"),
    ({"metrics": {"ph": 6.1}}, "metric_not_granted"),
    ({"metrics": {"nope": 1}}, "metric_unknown"),
    ({"metrics": {"temp_c": True}}, "metric_type"),
    ({"metrics": {"temp_c": "21"}}, "metric_type"),
    ({"metrics": {"temp_c": 999}}, "metric_impossible"),
    ({"metrics": {"temp_c": {"a": {"b": {"c": 1}}}}}, "json_too_deep"),
    (b"", "json_invalid"),
    (b"null", "json_invalid"),
    (b"[]", "json_invalid"),
    (b"21.5", "json_invalid"),
    (b"a.b.c", "json_invalid"),
    (b"\xef\xbb\xbf" + to_json(TEMP), "json_invalid"),
    (to_json(TEMP) + b"{}", "json_invalid"),
    (b'{"metrics":{"temp_c":21.5},"metrics":{"temp_c":21.5}}', "json_duplicate_key"),
    (b'{"metrics":{"temp_c":21.5,"temp_c":21.5}}', "json_duplicate_key"),
    (b'{"device_id":"tent-2","device_id":"tent-1","metrics":{"temp_c":21.5}}', "json_duplicate_key"),
    (b'{"metrics":{"temp_c":NaN}}', "number_not_finite"),
    (b'{"metrics":{"temp_c":-Infinity}}', "number_not_finite"),
    (b'{"metrics":{"temp_c":1e999}}', "number_not_finite"),
    (b'{"metrics":{"temp_c":9007199254740993}}', "number_out_of_range"),
    (b'{"metrics":{"temp_c":21.5},"meta":{"a":"\\u0000"}}', "json_invalid"),
    (b'{"metrics":{"temp_c":21.5},"meta":{"a":"\xff"}}', "not_utf8"),
    (b'{"a":' * 2700 + b"1" + b"}" * 2700, "json_too_deep"),
]
ACCEPTED: Final = [
    TEMP,
    TEMP | {"device_id": "tent-1"},
    TEMP | {"ts": NOW - 5, "meta": {"firmware": "v1"}},
    {"metrics": {"temp_c": 20, "humidity_percent": 50}},
]


# --- Devices that the broker vouches for


BROKER: Final = device_of(SENDER, auth=Auth.BROKER, others=(credentials.issue_password(NOW),))


@pytest.fixture
def gateway() -> Gateway:
    """Return a gateway that knows a device of the broker's, which keeps devices apart."""
    gateway = gateway_with(BROKER)
    gateway.broker_enforced = True
    return gateway


def test_reading_of_the_broker(gateway: Gateway) -> None:
    """Make a reading of a plain body."""
    body = TEMP | {"device_id": "tent-1", "ts": NOW - 301, "meta": {"firmware": "v1"}}
    assert accepted(gateway, plain(body)) == Reading(
        device_id="tent-1",
        received_at=NOW,
        measured_at=NOW - 301,
        values={"temp_c": 21.5},
        flags=(),
        late=True,
        meta={"firmware": "v1"},
        hello=None,
    )
    assert (gateway.accepted, gateway.late, gateway.refused) == ({"tent-1": 1}, {"tent-1": 1}, {})


@pytest.mark.parametrize("body", ACCEPTED, ids=brief)
def test_plain_bodies_of_the_broker(gateway: Gateway, body: Any) -> None:
    """Take what the protocol names."""
    assert outcome(gateway, plain(body)) == "accepted"


@pytest.mark.parametrize(("body", "code"), [*REFUSED, ({"readings": [TEMP]}, "field_unknown")], ids=brief)
def test_strict_bodies_of_the_broker(gateway: Gateway, body: Any, code: str) -> None:
    """Refuse everything else, and count it once."""
    assert outcome(gateway, plain(body)) == code
    assert gateway.refused == {("tent-1", Code(code)): 1}
    assert gateway.accepted == {}


def test_broker_that_does_not_keep_devices_apart(gateway: Gateway) -> None:
    """Refuse what only the broker vouches for until it was measured to, and again when it no longer does."""
    before = gateway_with(BROKER)
    with pytest.raises(GatewayError, match=r"^broker_not_enforced: the broker was not found to keep devices apart$"):
        before.ingest(plain(TEMP), NOW)
    codes = []
    for enforced in (True, False, True):
        gateway.broker_enforced = enforced
        codes.append(outcome(gateway, plain(TEMP)))
    assert codes == ["accepted", "broker_not_enforced", "accepted"]


@pytest.mark.parametrize("channel", ["hello", "state", "ack"])
@pytest.mark.parametrize("enforced", [False, True])
def test_other_channels_of_the_broker(gateway: Gateway, channel: str, enforced: bool) -> None:
    """Refuse every channel that only a signature opens, signed or not."""
    gateway.broker_enforced = enforced
    assert outcome(gateway, plain({"boot": BOOT}, channel)) == "channel_not_allowed"
    assert outcome(gateway, Message("tent-1", channel, SENDER.sign({"boot": BOOT}, channel))) == "channel_not_allowed"


def test_refusal_says_how_the_device_speaks(gateway: Gateway, site: Site) -> None:
    """Tell the one who sets up a device that it was enrolled to speak in another way."""
    with pytest.raises(GatewayError, match=r"^channel_not_allowed: the device signs nothing$"):
        gateway.ingest(plain({"boot": BOOT}, "hello"), NOW)
    with pytest.raises(GatewayError, match=r"^channel_not_allowed: the device sends over HTTP$"):
        site.gateway.ingest(plain(TEMP), NOW)


def test_entrance_of_the_broker(gateway: Gateway) -> None:
    """Refuse at the door what is refused of every device."""
    assert outcome(gateway, replace(plain(TEMP), retained=True)) == "retained"
    assert outcome(gateway, plain(b" " * 16_385)) == "oversized"
    assert outcome(gateway, plain(TEMP, "other")) == "unknown_channel"
    assert outcome(gateway, SENDER.clocked(NOW)) == "json_invalid"
    assert gateway.ingest(plain(b"offline", "status"), NOW) == OfflineHint("tent-1")
    gateway.admit(gateway.registry.set_status("tent-1", DeviceStatus.DISABLED))
    assert outcome(gateway, plain(TEMP)) == "device_disabled"


def test_rate_of_the_broker() -> None:
    """Take as many messages a minute as the device may send."""
    gateway = gateway_with(replace(BROKER, rate_limit=3))
    gateway.broker_enforced = True
    codes = [outcome(gateway, plain(TEMP)) for _ in range(5)]
    assert codes == ["accepted"] * 3 + ["rate_limited"] * 2
    with pytest.raises(GatewayError, match=r"^rate_limited: 3 messages per minute$"):
        gateway.ingest(plain(TEMP), NOW)
    assert outcome(gateway, plain(TEMP), NOW + 20) == "accepted"


def test_signed_device_says_nothing_unsigned(gateway: Gateway) -> None:
    """Ask a device that signs for its signature, also where the broker keeps devices apart."""
    gateway = gateway_with(device_of(SENDER))
    gateway.broker_enforced = True
    assert outcome(gateway, plain(TEMP)) == "malformed"


@pytest.mark.parametrize("auth", [Auth.BROKER, Auth.TOKEN])
def test_nothing_is_said_to_plain_devices(auth: Auth) -> None:
    """Ask and command nothing of a device that could not verify it."""
    gateway = gateway_with(replace(BROKER, auth=auth))
    assert gateway.hello_requests("tent-1", NOW) == ()
    with pytest.raises(PolicyError, match="device_offline"):
        gateway.command("tent-1", {}, NOW)


# --- Devices with an access token


TOKEN: Final = replace(credentials.issue_token(NOW), state=ACTIVE)
OTHER_TOKEN: Final = replace(credentials.issue_token(NOW), state=ACTIVE)


class Site:
    """A gateway with a token device, a signing device, and what they send over HTTP."""

    def __init__(self, token: Credential = TOKEN, **changes: Any) -> None:
        """Begin with two devices, each with a token of its own."""
        self.signer = Sender.new("tent-2")
        tent = replace(device_of(SENDER, auth=Auth.TOKEN, others=(token,)), **changes)
        self.gateway = gateway_with(tent, device_of(self.signer, others=(OTHER_TOKEN,)), token_key=KEY)

    @property
    def device(self) -> Device:
        """Return the token device as the registry knows it."""
        return self.gateway.registry["tent-1"]

    def change(self, known: tuple[Credential, ...], device_id: str = "tent-1") -> None:
        """Go by other credentials."""
        self.gateway.admit(self.gateway.registry.set_credentials(device_id, known))

    def peer(self, token: Credential = TOKEN, device_id: str = "tent-1", now: float = NOW) -> Peer:
        """Show a token."""
        return self.gateway.authenticate(access_tokens.seal(device_id, token, KEY).encode(), now)

    def refusal(self, token: Credential = TOKEN, device_id: str = "tent-1", now: float = NOW) -> str:
        """Show a token; return the code of the refusal, or `accepted`."""
        try:
            self.peer(token, device_id, now)
        except GatewayError as error:
            return code_of(error)
        return "accepted"

    def send(self, body: Any, now: float = NOW, *, content_type: str = JSON, peer: Peer | None = None) -> list[Reading]:
        """Send a body under a token."""
        payload = body if isinstance(body, bytes) else to_json(body)
        return self.gateway.ingest_http(peer or self.peer(), content_type, payload, now)

    def outcome(self, body: Any, now: float = NOW, *, content_type: str = JSON, peer: Peer | None = None) -> str:
        """Send a body; return the code of the refusal, or how many readings were accepted."""
        try:
            return str(len(self.send(body, now, content_type=content_type, peer=peer)))
        except GatewayError as error:
            return code_of(error)

    def sign(self, claims: dict[str, Any]) -> bytes:
        """Return telemetry of the signing device."""
        return self.signer.sign(claims | TEMP)

    def signing(self) -> Peer:
        """Show the token of the signing device."""
        return self.peer(OTHER_TOKEN, "tent-2")


@pytest.fixture
def site() -> Site:
    """Return a site with two devices that send over HTTP."""
    return Site()


def test_token_device_is_known(site: Site) -> None:
    """Name the device and its token."""
    assert site.peer() == Peer("tent-1", TOKEN.key_id)
    assert site.signing() == Peer("tent-2", OTHER_TOKEN.key_id)
    assert site.gateway.refused == {}


@pytest.mark.parametrize("channel", ["telemetry", "hello", "state", "ack", "status", "other"])
def test_token_device_over_mqtt(site: Site, channel: str) -> None:
    """Refuse everything that claims to be a token device's over MQTT, also where the broker keeps devices apart."""
    site.gateway.broker_enforced = True
    for payload in (to_json(TEMP), b"offline", SENDER.sign(TEMP | {"iat": NOW}, channel)):
        assert outcome(site.gateway, Message("tent-1", channel, payload)) == "channel_not_allowed"


def test_reading_over_http(site: Site) -> None:
    """Make a reading of a plain body."""
    (reading,) = site.send(TEMP | {"ts": NOW - 5, "meta": {"firmware": "v1"}})
    assert reading == Reading(
        device_id="tent-1",
        received_at=NOW,
        measured_at=NOW - 5,
        values={"temp_c": 21.5},
        flags=(),
        late=False,
        meta={"firmware": "v1"},
        hello=None,
    )
    assert (site.gateway.accepted, site.gateway.refused) == ({"tent-1": 1}, {})


@pytest.mark.parametrize("body", ACCEPTED, ids=brief)
def test_plain_bodies_over_http(site: Site, body: Any) -> None:
    """Take what the protocol names, alone and in a batch."""
    assert [site.outcome(body), site.outcome({"readings": [body, body]})] == ["1", "2"]


@pytest.mark.parametrize(("body", "code"), REFUSED, ids=brief)
def test_strict_bodies_over_http(site: Site, body: Any, code: str) -> None:
    """Refuse everything else, and count it once."""
    assert site.outcome(body) == code
    assert site.gateway.refused == {("tent-1", Code(code)): 1}
    assert site.gateway.accepted == {}


@pytest.mark.parametrize(("body", "code"), [each for each in REFUSED if isinstance(each[0], dict)], ids=brief)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_wrong_reading_refuses_all(site: Site, place: int, body: dict[str, Any], code: str) -> None:
    """Count one refusal and no reading, wherever the wrong one stands."""
    bodies: list[Any] = [TEMP | {"ts": 1}, {"metrics": {"temp_c": 80}}]
    bodies.insert(place, body)
    assert site.outcome({"readings": bodies}) == code
    assert site.gateway.refused == {("tent-1", Code(code)): 1}
    assert (site.gateway.accepted, site.gateway.flagged, site.gateway.late) == ({}, {}, {})


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ({"readings": [TEMP]}, "1"),
        ({"readings": [TEMP] * 100}, "100"),
        ({"readings": [TEMP] * 101}, "field_invalid"),
        ({"readings": []}, "field_invalid"),
        ({"readings": None}, "field_invalid"),
        ({"readings": {"0": TEMP}}, "field_invalid"),
        ({"readings": "x"}, "field_invalid"),
        ({"readings": [[TEMP]]}, "json_too_deep"),
        ({"readings": [[]]}, "field_invalid"),
        ({"readings": [TEMP, None]}, "field_invalid"),
        ({"readings": [TEMP, {"readings": []}]}, "field_unknown"),
        ({"readings": [TEMP], "metrics": {"temp_c": 20}}, "field_unknown"),
        ({"readings": [TEMP], "device_id": "tent-1"}, "field_unknown"),
        (b'{"readings":[{"metrics":{"temp_c":1}}],"readings":[{"metrics":{"temp_c":2}}]}', "json_duplicate_key"),
        (b'{"readings":[{"metrics":{"temp_c":1},"metrics":{"temp_c":2}}]}', "json_duplicate_key"),
    ],
    ids=brief,
)
def test_batch(site: Site, body: Any, result: str) -> None:
    """Take 1 to 100 plain bodies at once."""
    assert site.outcome(body) == result
    assert site.gateway.accepted.total() == (int(result) if result.isdigit() else 0)
    assert site.gateway.refused.total() == (not result.isdigit())


def test_refusal_says_how_many_readings(site: Site) -> None:
    """Tell the one who writes a device how long a batch may be."""
    with pytest.raises(GatewayError, match=r"^field_invalid: readings: 1 to 100$"):
        site.send({"readings": []})


def test_readings_of_a_batch_are_told_apart(site: Site) -> None:
    """Keep the order, the times and the flags of a batch, and count each reading."""
    bodies = [{"metrics": {"temp_c": temp}, "ts": NOW - 400 * at} for at, temp in enumerate((20.0, 80.0, 21.0))]
    readings = site.send({"readings": bodies})
    assert [(each.values["temp_c"], each.measured_at, each.flags, each.late) for each in readings] == [
        (20.0, NOW, (), False),
        (80.0, NOW - 400, ("temp_c",), True),
        (21.0, NOW - 800, (), True),
    ]
    assert site.gateway.accepted == {"tent-1": 3}
    assert site.gateway.flagged == {("tent-1", "temp_c"): 1}
    assert site.gateway.late == {"tent-1": 2}


def test_size_over_http(site: Site) -> None:
    """Read no more than a message may be long, of whatever kind."""
    body = to_json(TEMP)
    assert site.outcome(body + b" " * (16_384 - len(body))) == "1"
    assert site.outcome(body + b" " * (16_385 - len(body))) == "oversized"
    assert site.outcome(b"x" * 16_385, content_type=JWT_CONTENT, peer=site.signing()) == "oversized"


# --- Budgets


def test_ten_requests_a_minute(site: Site) -> None:
    """Take ten requests at once, good or bad, and then one in six seconds; other devices are not concerned."""
    codes = [site.outcome({"readings": [TEMP] * 3} if at % 2 else b"x") for at in range(12)]
    assert codes == ["json_invalid", "3"] * 5 + ["rate_limited"] * 2
    with pytest.raises(GatewayError, match=r"^rate_limited: 10 requests per minute$"):
        site.send(TEMP)
    assert [site.outcome(TEMP, NOW + 6) for _ in range(2)] == ["1", "rate_limited"]
    assert site.outcome(site.sign({"iat": NOW}), content_type=JWT_CONTENT, peer=site.signing()) == "1"
    assert site.gateway.refused["tent-1", Code.RATE_LIMITED] == 4


def test_rate_of_the_device_over_http() -> None:
    """Count a request as a message: a device that may send less than others may so over HTTP, too."""
    site = Site(rate_limit=2)
    assert [site.outcome({"readings": [TEMP] * 5}) for _ in range(3)] == ["5", "5", "rate_limited"]
    assert [site.outcome(TEMP, NOW + 31) for _ in range(2)] == ["1", "rate_limited"]


def test_budget_survives_another_token(site: Site) -> None:
    """Give a device no second budget with its second token."""
    assert [site.outcome(TEMP) for _ in range(10)] == ["1"] * 10
    fresh = credentials.issue_token(NOW)
    site.change(lifecycle.rotate(site.device.credentials, fresh, NOW))
    assert site.outcome(TEMP, peer=site.peer(fresh)) == "rate_limited"


# --- Signed devices over HTTP


def test_signed_message_over_http(site: Site) -> None:
    """Take a signed message of a device that has a token, as fresh as over MQTT."""
    message = site.sign({"iat": NOW})
    (reading,) = site.send(message, content_type=JWT_CONTENT, peer=site.signing())
    assert (reading.device_id, reading.values, reading.first_use) == ("tent-2", {"temp_c": 21.5}, "")
    assert site.outcome(message, content_type=JWT_CONTENT, peer=site.signing()) == "duplicate"
    assert outcome(site.gateway, Message("tent-2", "telemetry", message)) == "duplicate"
    over_mqtt = site.sign({"iat": NOW + 1})
    assert outcome(site.gateway, Message("tent-2", "telemetry", over_mqtt)) == "accepted"
    assert site.outcome(over_mqtt, content_type=JWT_CONTENT, peer=site.signing()) == "duplicate"


def test_session_over_http(site: Site) -> None:
    """Go on in the session that began over MQTT."""
    sid = greeted(site.gateway, site.signer.hello(firmware="v1"))
    message = site.sign({"sid": sid, "seq": 1})
    (reading,) = site.send(message, content_type=JWT_CONTENT, peer=site.signing())
    assert reading.hello == Hello(boot=BOOT, firmware="v1")
    assert outcome(site.gateway, Message("tent-2", "telemetry", message)) == "duplicate"


@pytest.mark.parametrize("body", [TEMP, {"readings": [TEMP]}, b"", b"x"], ids=brief)
@pytest.mark.parametrize("content_type", [JSON, "", "text/plain", "application/jwt; charset=utf-8"])
def test_plain_body_of_a_signed_device(site: Site, body: Any, content_type: str) -> None:
    """Ask a device that signs for its signature: a token alone is less."""
    assert site.outcome(body, content_type=content_type, peer=site.signing()) == "unsigned"


def test_signed_message_under_another_token(site: Site) -> None:
    """Refuse a message of one device under the token of another, in either direction."""
    message = site.sign({"iat": NOW})
    assert site.outcome(message, content_type=JWT_CONTENT) == "signature_invalid"
    assert site.outcome(message) == "json_invalid"
    assert site.outcome(SENDER.clocked(NOW).payload, content_type=JWT_CONTENT, peer=site.signing()) == (
        "signature_invalid"
    )
    twin = replace(site.signer, device_id="tent-1")
    foreign = twin.sign({"iat": NOW} | TEMP)
    assert site.outcome(foreign, content_type=JWT_CONTENT, peer=site.signing()) == "issuer_mismatch"
    assert site.gateway.accepted == {}


def test_other_channels_over_http(site: Site) -> None:
    """Take telemetry only."""
    for channel in ("hello", "state", "ack"):
        message = site.signer.sign({"iat": NOW, "boot": boot_of(1)}, channel)
        assert site.outcome(message, content_type=JWT_CONTENT, peer=site.signing()) == "audience_mismatch"


def test_device_of_the_broker_over_http() -> None:
    """Take nothing plain over HTTP of a device that the broker vouches for."""
    site = Site(auth=Auth.BROKER)
    site.gateway.broker_enforced = True
    assert [site.outcome(TEMP), site.outcome({"readings": [TEMP]})] == ["unsigned"] * 2
    assert site.outcome(to_json(TEMP), content_type=JWT_CONTENT) == "signature_invalid"


# --- Which token


@pytest.mark.parametrize(
    ("shown", "device_id", "code", "counted"),
    [
        (OTHER_TOKEN, "tent-1", "credential_revoked", "tent-1"),
        (TOKEN, "tent-2", "credential_revoked", "tent-2"),
        (replace(TOKEN, key_id=""), "tent-1", "credential_revoked", "tent-1"),
        (replace(TOKEN, key_id=TOKEN.key_id.upper() + "X"), "tent-1", "credential_revoked", "tent-1"),
        (TOKEN, "nobody", "unknown_device", None),
        (TOKEN, "", "unknown_device", None),
        (replace(TOKEN, not_after=NOW), "tent-1", "credential_expired", None),
        (replace(TOKEN, not_before=NOW + 1), "tent-1", "token_invalid", None),
    ],
)
def test_token_of_nobody(site: Site, shown: Credential, device_id: str, code: str, counted: str | None) -> None:
    """Let a token speak for its own device only, and count under the name that the site itself wrote."""
    assert site.refusal(shown, device_id) == code
    assert site.gateway.refused == {(counted, Code(code)): 1}


def test_refused_token_names_its_device(site: Site) -> None:
    """Tell the audit trail whose token opens nothing any more, and why."""
    site.change(())
    with pytest.raises(PeerError, match=r"^credential_revoked: token$") as refused:
        site.peer()
    assert refused.value.device_id == "tent-1"


@pytest.mark.parametrize("token", [b"", b"x", b"\xff", hs256(b"", b"{}"), hs256(KEY, b"[]")])
def test_no_token(site: Site, token: bytes) -> None:
    """Count what the site did not sign under nobody."""
    for count in (1, 2):
        with pytest.raises(GatewayError, match=r"^token_invalid$"):
            site.gateway.authenticate(token, NOW)
        assert site.gateway.refused == {(None, Code.TOKEN_INVALID): count}


def test_gateway_without_a_key() -> None:
    """Let nobody in where the key of the tokens is not there."""
    gateway = gateway_with(device_of(SENDER, auth=Auth.TOKEN, others=(TOKEN,)))
    sealed = access_tokens.seal("tent-1", TOKEN, KEY).encode()
    claims = sealed.split(b".")[1]
    for token in (sealed, hs256(b"", claims), hs256(b"", to_json({"sub": "tent-1", "jti": TOKEN.key_id}))):
        with pytest.raises(GatewayError, match=r"^token_invalid$"):
            gateway.authenticate(token, NOW)


@pytest.mark.parametrize(
    ("changes", "now", "code"),
    [
        ({}, NOW - 0.5, "token_invalid"),
        ({"state": REVOKED}, NOW, "credential_revoked"),
        ({"state": RETIRING, "ends": NOW + 60}, NOW + 59, "accepted"),
        ({"state": RETIRING, "ends": NOW + 60}, NOW + 60, "credential_expired"),
        ({"not_after": NOW + 60}, NOW + 60, "credential_expired"),
        ({"not_after": nan}, NOW, "credential_expired"),
        ({"not_before": NOW + 60}, NOW, "credential_not_yet_valid"),
    ],
)
def test_record_of_a_token(changes: dict[str, Any], now: float, code: str) -> None:
    """Go by the record, whatever the token itself says."""
    assert Site(replace(TOKEN, **changes)).refusal(now=now) == code


@pytest.mark.parametrize(
    ("status", "code"), [(DeviceStatus.DISABLED, "device_disabled"), (DeviceStatus.REVOKED, "device_revoked")]
)
def test_token_of_a_device_that_may_not_speak(site: Site, status: DeviceStatus, code: str) -> None:
    """Refuse a good token of a device that was disabled or revoked."""
    site.gateway.admit(site.gateway.registry.set_status("tent-1", status))
    assert site.refusal() == code
    assert site.gateway.refused == {("tent-1", Code(code)): 1}


def test_revoked_token_stays_revoked(site: Site) -> None:
    """Refuse a revoked token after its record was forgotten, and after a new token was issued."""
    site.change(lifecycle.revoke_all(site.device.credentials))
    assert site.refusal() == "credential_revoked"
    site.change(lifecycle.rotate(site.device.credentials, credentials.issue_token(NOW), NOW))
    assert site.refusal() == "credential_revoked"
    site.change(())
    assert site.refusal() == "credential_revoked"


@pytest.mark.parametrize(
    ("happens", "code"),
    [
        (lambda site: site.gateway.dismiss("tent-1"), "unknown_device"),
        (lambda site: site.change(lifecycle.revoke_all(site.device.credentials)), "credential_revoked"),
        (lambda site: site.change((replace(TOKEN, state=RETIRING, ends=NOW),)), "credential_expired"),
        (lambda site: site.gateway.admit(replace(site.device, status=DeviceStatus.DISABLED)), "device_disabled"),
        (lambda site: site.gateway.admit(replace(site.device, status=DeviceStatus.REVOKED)), "device_revoked"),
    ],
)
def test_what_happens_while_a_body_is_on_its_way(site: Site, happens: Any, code: str) -> None:
    """Go by what holds when the body is there: it may have taken its time."""
    peer = site.peer()
    happens(site)
    assert site.outcome(TEMP, peer=peer) == code
    assert site.gateway.refused.total() == 1
    assert site.gateway.accepted == {}


# --- First use of a token


def test_first_use_of_a_token() -> None:
    """Name a token that was never used before in the first reading of a request, until somebody took note of it."""
    site = Site(replace(TOKEN, state=PENDING))
    assert site.peer() == Peer("tent-1", TOKEN.key_id, TOKEN.key_id)
    for _ in range(2):
        readings = site.send({"readings": [TEMP] * 3})
        assert [each.first_use for each in readings] == [TOKEN.key_id, "", ""]
    assert site.outcome(b"x") == "json_invalid"
    peer = site.peer()
    site.change(lifecycle.first_used(site.device.credentials, TOKEN.key_id, NOW))
    assert [each.first_use for each in site.send(TEMP, peer=peer)] == [""]


def test_two_tokens(site: Site) -> None:
    """Accept both tokens during the overlap, and only the new one after its first use, whatever the clock does."""
    fresh = credentials.issue_token(NOW)
    site.change(lifecycle.rotate(site.device.credentials, fresh, NOW))
    assert [site.refusal(each, now=NOW + 60) for each in (TOKEN, fresh)] == ["accepted"] * 2
    assert site.send(TEMP)[0].first_use == ""
    assert site.send(TEMP, peer=site.peer(fresh))[0].first_use == fresh.key_id
    site.change(lifecycle.first_used(site.device.credentials, fresh.key_id, NOW + 60))
    assert {site.refusal(now=NOW + seconds) for seconds in (0, 1, 59, 60, 61)} == {"credential_expired"}
    assert site.refusal(fresh, now=NOW + 61) == "accepted"


def test_token_replaced_at_once(site: Site) -> None:
    """Refuse the old token from here on, also when the clock is set back."""
    fresh = credentials.issue_token(NOW + 60)
    site.change(lifecycle.rotate(site.device.credentials, fresh, NOW + 60, 0.0))
    assert {site.refusal(now=NOW + seconds) for seconds in (0, 59, 60, 61)} == {"credential_revoked"}
    assert site.refusal(fresh, now=NOW + 60) == "accepted"


def test_first_use_of_key_and_token() -> None:
    """Name the key first: the token is named as soon as the key was taken note of."""
    sender = Sender.new("tent-1", state=PENDING)
    fresh = credentials.issue_token(NOW)
    gateway = gateway_with(device_of(sender, others=(fresh,)), token_key=KEY)
    token = access_tokens.seal("tent-1", fresh, KEY).encode()
    named = []
    for second in (1, 2, 3):
        peer = gateway.authenticate(token, NOW)
        message = sender.clocked(NOW + second).payload
        (reading,) = gateway.ingest_http(peer, JWT_CONTENT, message, NOW)
        named.append(reading.first_use)
        known = lifecycle.first_used(gateway.registry["tent-1"].credentials, reading.first_use, NOW)
        gateway.admit(gateway.registry.set_credentials("tent-1", known))
    assert named == [sender.credential.key_id, fresh.key_id, ""]


# --- Anything


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["readings", "metrics", "device_id", "ts", "meta", "temp_c"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=300) | JSON_VALUES.map(to_json), st.sampled_from([JSON, JWT_CONTENT]), st.booleans())
def test_any_body(payload: bytes, content_type: str, signs: bool) -> None:
    """Raise nothing but the error tree for any body, and count each once."""
    site = Site()
    result = site.outcome(payload, content_type=content_type, peer=site.signing() if signs else None)
    assert result.isdigit() or result in CODES
    assert site.gateway.refused.total() == (not result.isdigit())
    assert site.gateway.accepted.total() == (int(result) if result.isdigit() else 0)


@given(st.binary(max_size=300), st.floats())
def test_any_token(token: bytes, now: float) -> None:
    """Let nobody in by any bytes, at any time."""
    site = Site()
    with pytest.raises(GatewayError):
        site.gateway.authenticate(token, now)


@given(st.binary(max_size=200) | JSON_VALUES.map(to_json))
def test_any_body_of_the_broker(payload: bytes) -> None:
    """Raise nothing but the error tree for any body."""
    gateway = gateway_with(BROKER)
    gateway.broker_enforced = True
    assert outcome(gateway, plain(payload)) in CODES | {"accepted"}
