"""Tests of what devices say of their outputs, and of commands that are sealed for them."""

from dataclasses import replace
from typing import Any

import pytest

from custom_components.grokmon.gateway import commands
from custom_components.grokmon.gateway.actuators import Actuator, Command, Key, Observed, Role
from custom_components.grokmon.gateway.errors import Code, CommandError, PolicyError, RateError, RegistryError
from custom_components.grokmon.gateway.models import Ack, Device, DeviceStatus, Report, Result
from custom_components.grokmon.gateway.orders import Order
from custom_components.grokmon.gateway.pipeline import Gateway
from custom_components.grokmon.gateway.registry import check
from custom_components.grokmon.gateway.sessions import Sessions

from .control_room import PERSON
from .wire import NOW, Sender, attempt, claims_in, device_of, gateway_with, greeted, outcome

LAMP = Actuator(name="lamp", role=Role.GROW_LIGHT)
CID = "01M844DZG07X9CDS65NDYPPESA"
OFF = {"lamp": {"on": False}}
SENDER = Sender.new()


def acting(*actuators: Actuator) -> Device:
    """Return a device with outputs and nothing to measure."""
    return replace(device_of(SENDER, frozenset()), actuators=actuators or (LAMP,))


@pytest.fixture
def gateway() -> Gateway:
    """Return a gateway that knows a device with a lamp."""
    return gateway_with(acting())


@pytest.fixture
def sid(gateway: Gateway) -> str:
    """Return the session of the device, which has said nothing under it yet."""
    return greeted(gateway, SENDER.hello())


def test_state_is_the_first_word_under_a_session(gateway: Gateway, sid: str) -> None:
    """A state makes the session count, and brings what the hello said."""
    assert gateway.sessions.next_command("tent-1") is None
    states = {"lamp": {"on": True, "percent": 60, "lease_left_s": 12, "reason": "command", "cid": CID}}
    report = gateway.ingest(SENDER.state(sid, 1, states), NOW)
    assert isinstance(report, Report)
    assert report.states == {"lamp": Observed(on=True, percent=60, reason="command", cid=CID)}
    assert report.states["lamp"].lease_left_s == 12
    assert report.device_id == "tent-1"
    assert report.hello is not None
    again = gateway.ingest(SENDER.state(sid, 2, OFF), NOW)
    assert isinstance(again, Report)
    assert (again.hello, again.states) == (None, {"lamp": Observed(on=False)})
    assert gateway.sessions.next_command("tent-1") == (sid, 1)


def test_answer(gateway: Gateway, sid: str) -> None:
    """An answer has a name, a result and a reason, and perhaps states."""
    ack = gateway.ingest(SENDER.ack(sid, 1, CID, "rejected", reason="limit", actuators=OFF), NOW)
    assert isinstance(ack, Ack)
    assert ack.device_id == "tent-1"
    assert ack.hello is not None
    assert (ack.cid, ack.result, ack.reason, ack.states) == (
        CID,
        Result.REJECTED,
        "limit",
        {"lamp": Observed(on=False)},
    )
    plain = gateway.ingest(SENDER.ack(sid, 2, CID), NOW)
    assert isinstance(plain, Ack)
    assert (plain.result, plain.reason, plain.states) == (Result.DONE, "", {})


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (None, "field_invalid: actuators"),
        ([], "field_invalid: actuators"),
        ({"pump": {"on": False}}, "actuator_not_granted: pump"),
        ({"lamp": True}, "field_invalid: lamp.on"),
        ({"lamp": {}}, "field_invalid: lamp.on"),
        ({"lamp": {"on": 1}}, "field_invalid: lamp.on"),
        ({"lamp": {"on": True, "colour": "red"}}, "field_unknown: colour"),
        ({"lamp": {"on": True, "percent": 101}}, "field_invalid: percent"),
        ({"lamp": {"on": True, "percent": True}}, "field_invalid: percent"),
        ({"lamp": {"on": True, "lease_left_s": 1.5}}, "field_invalid: lease_left_s"),
        ({"lamp": {"on": True, "lease_left_s": -1}}, "field_invalid: lease_left_s"),
        ({"lamp": {"on": True, "lease_left_s": 86_401}}, "field_invalid: lease_left_s"),
        ({"lamp": {"on": True, "reason": "Do what I say"}}, "field_invalid: reason"),
        ({"lamp": {"on": True, "cid": "x"}}, "field_invalid: cid"),
    ],
)
def test_states_that_are_refused(gateway: Gateway, sid: str, states: Any, said: str) -> None:
    """A state is of known outputs and of known fields; it carries no sentences."""
    assert str(attempt(lambda: gateway.ingest(SENDER.state(sid, 1, states), NOW))) == said


@pytest.mark.parametrize(
    "numbers", [{"percent": 0, "lease_left_s": 0}, {"percent": 12.5}, {"percent": 100, "lease_left_s": 86_400}]
)
def test_edges_of_states(gateway: Gateway, sid: str, numbers: dict[str, Any]) -> None:
    """Take the least and the most that a state can say."""
    report = gateway.ingest(SENDER.state(sid, 1, {"lamp": {"on": True, **numbers}}), NOW)
    assert isinstance(report, Report)
    assert report.states == {"lamp": Observed(on=True, **numbers)}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"cid": 7}, "field_invalid: cid"),
        ({"cid": "0" * 25 + "I"}, "field_invalid: cid"),
        ({"result": "maybe"}, "field_invalid: result"),
        ({"result": 1}, "field_invalid: result"),
        ({"reason": "A B"}, "field_invalid: reason"),
        ({"reason": 5}, "field_invalid: reason"),
        ({"actuators": []}, "field_invalid: actuators"),
        ({"metrics": {}}, "field_unknown: metrics"),
    ],
)
def test_answers_that_are_refused(gateway: Gateway, sid: str, body: dict[str, Any], said: str) -> None:
    """An answer is of the form of the protocol, or none."""
    assert str(attempt(lambda: gateway.ingest(SENDER.ack(sid, 1, **body), NOW))) == said


def test_missing_fields(gateway: Gateway, sid: str) -> None:
    """A state has outputs."""
    claims = {"sid": sid, "seq": 1}
    message = replace(SENDER.state(sid, 1, OFF), payload=SENDER.sign(claims, "state"))
    assert outcome(gateway, message) == "field_missing"


def test_only_a_session_makes_a_state_fresh(gateway: Gateway) -> None:
    """A clock can be set; it is not enough for what moves something."""
    message = replace(SENDER.state("s" * 16, 1, OFF), payload=SENDER.sign({"iat": NOW, "actuators": OFF}, "state"))
    assert outcome(gateway, message) == "session_required"


def test_counters_are_by_channel(gateway: Gateway, sid: str) -> None:
    """States and answers count on their own; an old one is a replay."""
    assert outcome(gateway, SENDER.state(sid, 5, OFF)) == "accepted"
    assert outcome(gateway, SENDER.ack(sid, 1)) == "accepted"
    assert outcome(gateway, SENDER.state(sid, 4, OFF)) == "replayed"


def test_states_have_a_budget_of_their_own(gateway: Gateway, sid: str) -> None:
    """A device that answers all the time is refused, and its readings are not."""
    for seq in range(1, 601):
        assert outcome(gateway, SENDER.state(sid, seq, OFF)) == "accepted"
    with pytest.raises(RateError, match=r"^rate_limited: 600 states and answers per minute$"):
        gateway.ingest(SENDER.state(sid, 601, OFF), NOW)
    assert [outcome(gateway, SENDER.state(sid, seq, OFF), NOW + 0.15) for seq in (602, 603)] == [
        "accepted",
        "rate_limited",
    ]


def test_device_without_outputs_says_nothing_of_them() -> None:
    """A sensor has no states."""
    sender = Sender.new()
    gateway = gateway_with(device_of(sender))
    sid = greeted(gateway, sender.hello())
    assert outcome(gateway, sender.state(sid, 1, {})) == "channel_not_allowed"


def test_refusals_of_the_way_out_are_counted(gateway: Gateway) -> None:
    """An answer that nobody waits for counts as what it is, under the device or under nobody."""
    gateway.count_refusal("tent-1", CommandError(Code.ACK_UNEXPECTED))
    gateway.count_refusal("nobody", CommandError(Code.ACK_UNEXPECTED))
    assert gateway.refused == {("tent-1", Code.ACK_UNEXPECTED): 1, (None, Code.ACK_UNEXPECTED): 1}


# Commands


def order_of(actuator: Actuator, **wanted: Any) -> Order:
    """Return an order for an actuator."""
    command = Command(key=Key("tent-1", actuator.name), **wanted)
    return Order(cid=CID, command=command, principal=PERSON, at=0, lease_s=30)


@pytest.mark.parametrize(
    ("role", "wanted", "action", "params"),
    [
        ("grow_light", {"on": True, "percent": 60.0}, "set_light_intensity", {"intensity_percent": 60}),
        ("exhaust", {"on": True, "percent": 60.0}, "set_fan_speed", {"speed_percent": 60}),
        ("exhaust", {"on": False, "percent": 0.0}, "set_fan_speed", {"speed_percent": 0}),
        ("irrigation", {"on": True, "amount_ml": 50.0}, "trigger_irrigation", {"amount_ml": 50}),
        ("irrigation", {"on": False}, "stop", {}),
        ("humidifier", {"on": True}, "set_switch", {"on": True}),
        ("co2_valve", {"on": True, "seconds": 20.0}, "set_switch", {"on": True}),
        ("outlet", {"on": False}, "set_switch", {"on": False}),
    ],
)
def test_command_on_the_wire(role: str, wanted: dict[str, Any], action: str, params: dict[str, Any]) -> None:
    """Each kind has its action; what energises has a lease, and off has none."""
    actuator = Actuator(name=role, role=Role(role))
    body = commands.command(order_of(actuator, **wanted), actuator, 1000.9)
    assert (body["action"], body["params"], body["actuator"]) == (action, params, role)
    assert (body["cid"], body["iat"], body["ttl_s"]) == (CID, 1000, commands.TTL_S)
    assert body.get("lease_s") == (30 if wanted["on"] else None)


def test_renewal_and_identify_on_the_wire() -> None:
    """A renewal names what it prolongs and can switch nothing on; to identify is about the whole device."""
    renewal = commands.renewal("R" * 26, order_of(LAMP, percent=60.0), 12, 1000)
    assert (renewal["action"], renewal["params"], renewal["lease_s"]) == ("renew", {"of": CID}, 12)
    assert renewal["actuator"] == "lamp"
    identify = commands.identify(CID, 1)
    assert identify["action"] == "identify"
    assert "actuator" not in identify


def test_commands_are_sealed_under_the_session(gateway: Gateway, sid: str) -> None:
    """A command counts up under the session, on the topic of the device."""
    gateway.ingest(SENDER.state(sid, 1, OFF), NOW)
    for seq in (1, 2):
        sealed = gateway.command("tent-1", {"cid": CID}, NOW)
        assert sealed.topic == "grokmon/v1/tent-1/down/command"
        assert claims_in(sealed.payload) == {
            "iss": "grokmon",
            "aud": sealed.topic,
            "sid": sid,
            "seq": seq,
            "cid": CID,
        }


def test_nothing_is_sealed_for_who_may_not_be_spoken_to(gateway: Gateway, sid: str) -> None:
    """A device without a session, or that was disabled or revoked, gets no commands."""
    with pytest.raises(PolicyError, match=r"^device_offline: tent-1 has not said hello since the start$") as error:
        gateway.command("tent-1", {}, NOW)
    assert error.value.placeholders["device"] == "tent-1"
    gateway.ingest(SENDER.state(sid, 1, OFF), NOW)
    for status, code in ((DeviceStatus.DISABLED, Code.DEVICE_DISABLED), (DeviceStatus.REVOKED, Code.DEVICE_REVOKED)):
        gateway.admit(gateway.registry.set_status("tent-1", status))
        with pytest.raises(PolicyError, match=rf"^{code.value}: tent-1$"):
            gateway.command("tent-1", {}, NOW)


def test_counter_of_commands_goes_on_over_a_restart(gateway: Gateway, sid: str) -> None:
    """A session that is taken up again goes on counting: the device would refuse what it has seen."""
    gateway.ingest(SENDER.state(sid, 1, OFF), NOW)
    gateway.sessions.next_command("tent-1")
    sessions = Sessions(NOW)
    sessions.restore(gateway.sessions.snapshot(), ["tent-1"])
    assert sessions.next_command("tent-1") == (sid, 2)
    assert sessions.next_command("nobody") is None


# The registry


def test_device_has_metrics_or_outputs() -> None:
    """A device that neither measures nor switches is none."""
    check(acting())
    with pytest.raises(RegistryError) as nothing:
        check(device_of(SENDER, frozenset()))
    assert nothing.value.code is Code.FIELD_MISSING


@pytest.mark.parametrize("actuators", [(LAMP, LAMP), tuple(replace(LAMP, name=f"lamp_{n}") for n in range(33))])
def test_outputs_have_names_of_their_own(actuators: tuple[Actuator, ...]) -> None:
    """Two outputs of one name cannot be told apart, and a device has no end of pins."""
    with pytest.raises(RegistryError, match=r"^actuator_invalid: at most 32, each with a name of its own$"):
        check(acting(*actuators))


def test_most_outputs() -> None:
    """Take as many outputs as a device may have."""
    check(acting(*(replace(LAMP, name=f"lamp_{number}") for number in range(32))))


def test_outputs_are_checked() -> None:
    """The registry takes no output that could not be driven."""
    with pytest.raises(RegistryError):
        check(acting(replace(LAMP, max_percent=200)))
