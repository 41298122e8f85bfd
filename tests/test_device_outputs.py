"""Outputs do what commands say, and end by themselves: on the simulated device and on the examples alike."""

from io import BytesIO, TextIOWrapper
import json
from pathlib import Path
import re
from typing import Any
from unittest.mock import Mock, patch

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
import pytest

from examples.devices.grokmon_outputs import Outputs as ExampleOutputs
from tests.device_simulator.actuators import ActuatorSpec, Change, Outputs
from tests.device_twins import SETTINGS, Twins

LIGHT, FAN, SWITCH, DOSE = "set_light_intensity", "set_fan_speed", "set_switch", "trigger_irrigation"


@pytest.fixture
def twins() -> Twins:
    """Return devices with a session whose first state was heard."""
    twins = Twins()
    twins.open("s" * 16)
    twins.hear()
    return twins


def test_everything_is_off_at_start() -> None:
    """The first message under a session says what every output does: nothing."""
    twins = Twins()
    assert twins.hear() == []
    twins.open("s" * 16)
    ((channel, body),) = twins.hear()
    assert (channel, body["sid"], body["seq"]) == ("state", "s" * 16, 1)
    assert body["actuators"] == {
        "lamp": {"on": False, "percent": 0, "reason": "boot"},
        "exhaust": {"on": False, "percent": 0, "reason": "boot"},
        "humidifier": {"on": False, "reason": "boot"},
        "pump": {"on": False, "reason": "boot"},
    }


def test_the_example_turns_everything_off_at_start() -> None:
    """The pins of a board are driven, not just believed to be low."""
    moves: list[tuple[str, bool, float | None]] = []
    ExampleOutputs(SETTINGS, lambda *move: moves.append(move))
    assert moves == [("lamp", False, 0), ("exhaust", False, 0), ("humidifier", False, None), ("pump", False, None)]


@pytest.mark.parametrize(
    ("action", "actuator", "params", "percent"),
    [
        (LIGHT, "lamp", {"intensity_percent": 60}, 60),
        (LIGHT, "lamp", {"intensity_percent": 12.5}, 12.5),
        (FAN, "exhaust", {"speed_percent": 100}, 100),
        (SWITCH, "humidifier", {"on": True}, None),
        (DOSE, "pump", {"amount_ml": 750}, None),
    ],
)
def test_energises_with_a_lease(twins: Twins, action: str, actuator: str, params: Any, percent: float | None) -> None:
    """The answer says what is on, by which command, and for how long."""
    answer = twins.command(action, actuator, params, lease_s=40)
    expected = {"on": True, "reason": "command", "cid": answer["cid"], "lease_left_s": 40}
    if percent is not None:
        expected["percent"] = percent
    assert answer["result"] == "done"
    assert answer["actuators"] == {actuator: expected}
    assert twins.moves == [(actuator, True, percent)]


@pytest.mark.parametrize(
    ("action", "actuator", "params"),
    [
        (LIGHT, "lamp", {"intensity_percent": 0}),
        (LIGHT, "lamp", {"intensity_percent": -0.0}),
        (FAN, "exhaust", {"speed_percent": 0}),
        (SWITCH, "humidifier", {"on": False}),
        ("stop", "lamp", {}),
    ],
)
def test_off_needs_no_lease(twins: Twins, action: str, actuator: str, params: Any) -> None:
    """Zero is off, also below the least that an output can do."""
    on = {"lamp": (LIGHT, {"intensity_percent": 50}), "exhaust": (FAN, {"speed_percent": 50})}
    energise, with_params = on.get(actuator, (SWITCH, {"on": True}))
    twins.command(energise, actuator, with_params, lease_s=60)
    answer = twins.command(action, actuator, params)
    assert answer["result"] == "done"
    assert answer["actuators"][actuator]["on"] is False
    assert "cid" not in answer["actuators"][actuator]


_ON: dict[str, Any] = {"intensity_percent": 50}


@pytest.mark.parametrize(
    ("command", "lease_s", "reason"),
    [
        ((LIGHT, "lamp", _ON), None, "invalid"),
        ((LIGHT, "lamp", _ON), 0, "invalid"),
        ((LIGHT, "lamp", _ON), 3601, "invalid"),
        ((LIGHT, "lamp", _ON), True, "invalid"),
        ((LIGHT, "lamp", _ON), 60.0, "invalid"),
        ((LIGHT, "lamp", {"intensity_percent": True}), 60, "invalid"),
        ((LIGHT, "lamp", {"intensity_percent": "50"}), 60, "invalid"),
        ((LIGHT, "lamp", {"intensity_percent": None}), 60, "invalid"),
        ((LIGHT, "lamp", {"intensity_percent": float("nan")}), 60, "invalid"),
        ((LIGHT, "lamp", {"intensity_percent": float("inf")}), 60, "invalid"),
        ((LIGHT, "lamp", {"intensity_percent": 10**400}), 60, "invalid"),
        ((LIGHT, "lamp", {"intensity_percent": -1}), 60, "invalid"),
        ((LIGHT, "lamp", {"intensity_percent": 101}), 60, "invalid"),
        ((LIGHT, "lamp", {}), 60, "invalid"),
        ((LIGHT, "lamp", [50]), 60, "invalid"),
        ((LIGHT, "lamp", {"intensity_percent": 50, "ramp_s": 5}), 60, "invalid"),
        ((LIGHT, "lamp", {"speed_percent": 50}), 60, "invalid"),
        ((LIGHT, "lamp", {"intensity_percent": 9}), 60, "limit"),
        ((LIGHT, "lamp", {"intensity_percent": 81}), 60, "limit"),
        ((SWITCH, "humidifier", {"on": 1}), 60, "invalid"),
        ((DOSE, "pump", {"amount_ml": 0}), 60, "invalid"),
        ((DOSE, "pump", {"amount_ml": -500}), 60, "invalid"),
        ((DOSE, "pump", {"amount_ml": 1001}), 60, "invalid"),
        ((DOSE, "pump", {"amount_ml": 775}), 60, "limit"),
        ((LIGHT, "exhaust", _ON), 60, "unknown_action"),
        ((SWITCH, "pump", {"on": True}), 60, "unknown_action"),
        (("update_firmware", "lamp", {}), None, "unknown_action"),
        ((["stop"], None, {}), None, "unknown_action"),
        ((LIGHT, "moon", _ON), 60, "unknown_actuator"),
        ((LIGHT, None, _ON), 60, "unknown_actuator"),
        ((LIGHT, ["lamp"], _ON), 60, "unknown_actuator"),
        (("stop", "moon", {}), None, "unknown_actuator"),
        (("stop", None, {"hard": True}), None, "invalid"),
        (("stop", "lamp", {"hard": True}), None, "invalid"),
        (("identify", "lamp", {}), None, "invalid"),
        (("identify", None, {"seconds": 5}), None, "invalid"),
        (("renew", "lamp", {"of": "nobody"}), 60, "not_running"),
        (("renew", "lamp", {"of": None}), 60, "invalid"),
        (("renew", "lamp", {}), 60, "invalid"),
        (("renew", "lamp", {"of": "nobody"}), None, "invalid"),
        (("renew", None, {"of": "nobody"}), 60, "unknown_actuator"),
    ],
)
def test_rejects_what_it_should_not_do(twins: Twins, command: tuple[Any, ...], lease_s: Any, reason: str) -> None:
    """Nothing is clamped or guessed, and nothing moves."""
    answer = twins.command(*command, lease_s=lease_s)
    assert (answer["result"], answer["reason"]) == ("rejected", reason)
    assert twins.moves == []


def test_a_rejection_leaves_what_is_on_alone(twins: Twins) -> None:
    """The older command stands, with its lease, and the answer says so."""
    first = twins.command(LIGHT, "lamp", _ON, lease_s=60)
    twins.tick(10_000)
    answer = twins.command(LIGHT, "lamp", {"intensity_percent": 99}, lease_s=300)
    assert answer["actuators"]["lamp"] == first["actuators"]["lamp"] | {"lease_left_s": 50}


def test_a_lease_ends_in_the_safe_state(twins: Twins) -> None:
    """Off, or where a fan has its safe state; the state says why, at once."""
    twins.command(LIGHT, "lamp", _ON, lease_s=5)
    twins.command(FAN, "exhaust", {"speed_percent": 90}, lease_s=5)
    twins.tick(4_999)
    assert twins.hear() == []
    twins.tick(1)
    ((channel, body),) = twins.hear()
    assert channel == "state"
    assert body["actuators"]["lamp"] == {"on": False, "percent": 0, "reason": "lease"}
    assert body["actuators"]["exhaust"] == {"on": True, "percent": 20, "reason": "lease"}
    twins.tick(3_600_000)
    assert twins.moves[2:] == [("lamp", False, 0), ("exhaust", True, 20)]


@pytest.mark.parametrize(
    ("lease_s", "ends_ms", "reason"), [(60, 8_000, "done"), (8, 8_000, "done"), (3, 3_000, "lease")]
)
def test_a_dose_ends_by_its_own_timer(twins: Twins, lease_s: int, ends_ms: int, reason: str) -> None:
    """Or by its lease, if that is earlier; both ends may be noticed late."""
    twins.command(DOSE, "pump", {"amount_ml": 200}, lease_s=lease_s)
    twins.tick(ends_ms - 1)
    assert twins.observe()["pump"][0]
    twins.tick(60_000)
    assert twins.observe()["pump"] == (False, 0, reason, None)


def test_a_newer_dose_replaces_the_older_one(twins: Twins) -> None:
    """With its timer and its lease."""
    twins.command(DOSE, "pump", {"amount_ml": 25}, lease_s=60)
    twins.tick(500)
    newer = twins.command(DOSE, "pump", {"amount_ml": 50}, lease_s=60)
    twins.tick(1_999)
    assert twins.observe()["pump"] == (True, 0, "command", newer["cid"])
    twins.tick(1)
    assert twins.observe()["pump"][0] is False


def test_a_renewal_prolongs_the_lease_and_nothing_else(twins: Twins) -> None:
    """From now on, under the identifier of the command in force; a pump's timer stays."""
    lamp = twins.command(LIGHT, "lamp", _ON, lease_s=10)
    pump = twins.command(DOSE, "pump", {"amount_ml": 250}, lease_s=10)
    twins.tick(9_000)
    for actuator, cid in (("lamp", lamp["cid"]), ("pump", pump["cid"])):
        answer = twins.command("renew", actuator, {"of": cid}, lease_s=20)
        assert answer["result"] == "done"
        assert answer["cid"] != cid == answer["actuators"][actuator]["cid"]
        assert answer["actuators"][actuator]["lease_left_s"] == 20
    twins.tick(19_999)
    assert (twins.observe()["lamp"][0], twins.observe()["pump"][:3]) == (True, (False, 0, "done"))
    twins.tick(1)
    assert twins.observe()["lamp"][0] is False
    assert len(twins.moves) == 4


def test_a_renewal_energises_nothing(twins: Twins) -> None:
    """Neither after the end, nor after a newer command, nor at the very end of the lease."""
    first = twins.command(LIGHT, "lamp", _ON, lease_s=10)
    second = twins.command(LIGHT, "lamp", {"intensity_percent": 20}, lease_s=10)
    assert twins.command("renew", "lamp", {"of": first["cid"]}, lease_s=20)["reason"] == "not_running"
    twins.now_ms += 10_000
    twins.take(twins.claims("renew", "lamp", {"of": second["cid"]}, lease_s=20))
    (_, state), (_, answer) = twins.hear()
    assert answer["reason"] == "not_running"
    assert state["actuators"]["lamp"]["reason"] == answer["actuators"]["lamp"]["reason"] == "lease"


def test_stop_brings_everything_to_its_safe_state(twins: Twins) -> None:
    """Without a name it is about all outputs, and all are in the answer."""
    twins.command(LIGHT, "lamp", _ON, lease_s=60)
    twins.command(DOSE, "pump", {"amount_ml": 100}, lease_s=60)
    answer = twins.command("stop")
    assert answer["actuators"] == {
        "lamp": {"on": False, "percent": 0, "reason": "stopped"},
        "exhaust": {"on": True, "percent": 20, "reason": "stopped"},
        "humidifier": {"on": False, "reason": "stopped"},
        "pump": {"on": False, "reason": "stopped"},
    }


def test_identify_moves_nothing(twins: Twins) -> None:
    """It is answered, and about no output."""
    answer = twins.command("identify")
    assert answer["result"] == "done"
    assert "actuators" not in answer
    assert twins.moves == []


def test_the_example_shows_where_it_is() -> None:
    """Only when the command was good."""
    shown: list[str] = []
    twins = Twins()
    twins.example = ExampleOutputs(SETTINGS, lambda *_move: None, lambda: shown.append("here"), lambda: twins.now_ms)
    twins.open("s" * 16)
    twins.take(twins.claims("identify", params={"loud": True}))
    assert shown == []
    twins.take(twins.claims("identify"))
    assert shown == ["here"]


def test_a_lamp_that_cannot_blink_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The command was good; what went wrong is told at the device."""
    twins = Twins()
    twins.example = ExampleOutputs(SETTINGS, lambda *_move: None, Mock(side_effect=OSError("no pin")), lambda: 0)
    twins.open("s" * 16)
    assert twins.command("identify")["result"] == "done"
    assert capsys.readouterr().out == "cannot identify no pin\n"


def test_says_what_it_does_every_thirty_seconds(twins: Twins) -> None:
    """Counted on a channel of its own."""
    twins.command(LIGHT, "lamp", _ON, lease_s=100)
    twins.tick(29_999)
    assert twins.hear() == []
    twins.tick(1)
    ((channel, body),) = twins.hear()
    assert (channel, body["seq"], body["actuators"]["lamp"]["lease_left_s"]) == ("state", 2, 70)


def test_the_first_message_of_a_session_is_a_state(twins: Twins) -> None:
    """A new session switches nothing, and the answers of the old one are of no use in it."""
    twins.take(twins.claims(LIGHT, "lamp", _ON, lease_s=60))
    twins.tick(1_000)
    twins.open("t" * 16)
    ((channel, body),) = twins.hear()
    assert (channel, body["sid"]) == ("state", "t" * 16)
    assert body["actuators"]["lamp"]["on"] is True


def test_counters_go_on_whatever_the_session() -> None:
    """A device that is talked back into an older session says nothing there that counts as said before."""
    twins = Twins()
    counters: dict[str, list[int]] = {"state": [], "ack": []}
    for sid in ("s", "t", "s", "t"):
        twins.open(sid * 16)
        twins.take(twins.claims("identify", seq=100 + len(counters["ack"])))
        for channel, body in twins.hear():
            counters[channel].append(body["seq"])
    assert counters == {"state": [1, 2, 3, 4], "ack": [1, 2, 3, 4]}


def test_answers_are_kept_over_a_reconnection(twins: Twins) -> None:
    """In the same session the state comes first, then what was not said."""
    twins.take(twins.claims(LIGHT, "lamp", _ON, lease_s=60))
    twins.open("s" * 16)
    assert [channel for channel, _ in twins.hear()] == ["state", "ack"]


@pytest.mark.parametrize(
    "change",
    [
        {"sid": "t" * 16},
        {"sid": None},
        {"seq": 1},
        {"seq": 0},
        {"seq": 5.0},
        {"seq": True},
        {"seq": None},
        {"cid": 7},
        {"iat": "now"},
        {"ttl_s": None},
    ],
)
def test_takes_new_commands_of_its_session_only(twins: Twins, change: dict[str, Any]) -> None:
    """Anything else gets no answer."""
    twins.command("identify")
    twins.take(twins.claims(LIGHT, "lamp", _ON, lease_s=60, **change))
    assert twins.hear() == []
    assert twins.moves == []
    assert twins.protocol.counts.commands_refused == 1


def test_a_repeat_is_dropped(twins: Twins) -> None:
    """The same message twice, as QoS 1 may bring it, or played back after the lamp was switched off."""
    claims = twins.claims(LIGHT, "lamp", _ON, lease_s=60)
    twins.take(claims)
    twins.take(claims)
    twins.command("stop")
    twins.take(claims)
    assert twins.hear() == []
    assert twins.observe()["lamp"][0] is False


@pytest.mark.parametrize(("age_s", "late"), [(0, False), (11, False), (12, True), (600, True), (-600, False)])
def test_what_is_too_old_is_rejected(twins: Twins, age_s: int, late: bool) -> None:
    """More than its time to live and a second for rounding after it was signed."""
    claims = twins.claims(LIGHT, "lamp", _ON, lease_s=60, iat=twins.hub_time - age_s)
    assert twins.take(claims) is late
    (_, answer) = twins.hear()[-1]
    assert (answer.get("reason") == "expired") is late
    # Its counter is spent all the same.
    twins.take(claims)
    assert twins.hear() == []


def test_a_command_moves_the_clock_forward_only(twins: Twins) -> None:
    """One that was signed in what seems to be the future shows that the device's clock is slow."""
    assert not twins.take(twins.claims("identify", iat=twins.hub_time + 60))
    assert not twins.take(twins.claims("identify", iat=twins.hub_time + 50))
    assert twins.take(twins.claims("identify", iat=twins.hub_time))


def test_a_fast_clock_is_put_right_by_the_next_answer(twins: Twins) -> None:
    """The answer to a hello moves it back, if it is newer than all that was heard."""
    twins.now_ms += 60_000
    behind = twins.hub_time - 40
    assert twins.take(twins.claims("identify", iat=behind))
    twins.open("s" * 16, behind)
    assert not twins.take(twins.claims("identify", iat=behind))


def test_an_answer_that_is_played_back_does_not_set_the_clock(twins: Twins) -> None:
    """Otherwise the commands of that time would be fresh again."""
    began = twins.hub_time
    twins.now_ms += 60_000
    twins.command("identify")
    twins.open("s" * 16, began)
    assert twins.take(twins.claims(LIGHT, "lamp", _ON, lease_s=60, iat=began))
    assert twins.moves == []


def test_an_older_session_that_is_played_back_brings_no_command_back(twins: Twins) -> None:
    """The counter of a session outlives the session, as long as the device runs."""
    spent = twins.claims(LIGHT, "lamp", _ON, lease_s=60)
    twins.take(spent)
    twins.command("stop")
    moves = len(twins.moves)
    twins.open("t" * 16)
    twins.command("identify")
    twins.open("s" * 16)
    twins.take(spent)
    assert len(twins.moves) == moves
    assert twins.hear()[0][1]["actuators"]["lamp"]["on"] is False


def test_an_output_that_is_set_by_hand_has_no_lease(twins: Twins) -> None:
    """But a pump has its timer; a command takes it over again."""
    twins.command(LIGHT, "lamp", _ON, lease_s=5)
    twins.by_hand("lamp", on=True, percent=70)
    twins.by_hand("pump", on=True)
    twins.tick(29_999)
    assert twins.observe()["lamp"] == (True, 70, "local", None)
    assert twins.observe()["pump"] == (True, 0, "local", None)
    twins.tick(1)
    assert twins.observe()["pump"] == (False, 0, "done", None)
    twins.command("stop", "lamp")
    assert twins.observe()["lamp"] == (False, 0, "stopped", None)


@pytest.mark.parametrize("safe", [0, 35])
def test_only_a_fan_has_a_safe_speed(safe: int) -> None:
    """A lamp that is configured with one goes off all the same."""
    spec = ActuatorSpec(kind="light", safe_percent=safe)
    outputs = Outputs({"lamp": spec})
    outputs.command({"cid": "c", "action": "stop", "params": {}}, 0)
    example = ExampleOutputs({"lamp": {"kind": "light", "safe_percent": safe}}, lambda *_move: None, clock=lambda: 0)
    example.session("s", 1)
    example.command(
        {"cid": "c", "sid": "s", "seq": 1, "iat": 1, "ttl_s": 10, "action": "stop", "params": {}},
    )
    assert outputs["lamp"].on is False
    messages = [example.next_message(), example.next_message()]
    assert [message[1]["actuators"]["lamp"]["on"] for message in messages if message] == [False, False]


def test_an_unknown_kind_is_a_mistake_of_the_settings() -> None:
    """It is told at start rather than found out later."""
    with pytest.raises(ValueError, match="laser"):
        ExampleOutputs({"beam": {"kind": "laser"}}, lambda *_move: None)


def test_outputs_of_a_device_without_any() -> None:
    """A device that only measures says nothing of outputs."""
    example = ExampleOutputs({}, lambda *_move: None)
    example.session("s", 1)
    assert not example
    assert example.next_message() is None


class Bus:
    """Drive outputs over a bus that may be broken."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.error = "no answer on the bus"
        self.on: dict[str, bool] = {}
        self.percent: dict[str, float | None] = {}

    def apply(self, name: str, on: bool, percent: float | None) -> None:
        """Drive an output, or fail as a driver does."""
        if name in self.broken:
            raise OSError(self.error)
        self.on[name], self.percent[name] = on, percent


@pytest.fixture
def bus() -> Bus:
    """Return a bus that works."""
    return Bus()


def test_a_driver_that_fails_is_told_and_tried_again(twins: Twins, bus: Bus) -> None:
    """The command fails; what cannot be ended is tried every second, and the other outputs end in time."""
    example = twins.example = ExampleOutputs(SETTINGS, bus.apply, clock=lambda: twins.now_ms)
    example.session("s" * 16, twins.hub_time)
    example.next_message()

    def command(*args: Any, **kwargs: Any) -> dict[str, Any]:
        assert example.command(twins.claims(*args, **kwargs)) is False
        messages = list(iter(example.next_message, None))
        return messages[-1][1]

    bus.broken = {"lamp"}
    failed = command(LIGHT, "lamp", _ON, lease_s=5)
    assert (failed["result"], failed["reason"]) == ("failed", "broken")
    assert failed["actuators"]["lamp"]["on"] is False

    bus.broken = set()
    lamp = command(LIGHT, "lamp", _ON, lease_s=5)
    command(SWITCH, "humidifier", {"on": True}, lease_s=5)
    bus.broken = {"lamp"}
    assert command("stop")["result"] == "failed"
    assert bus.on == {"lamp": True, "exhaust": True, "humidifier": False, "pump": False}
    twins.now_ms += 5_000
    example.tick()
    assert command("renew", "lamp", {"of": lamp["cid"]}, lease_s=60)["reason"] == "not_running"
    bus.broken = set()
    twins.now_ms += 999
    example.tick()
    assert bus.on["lamp"] is True
    twins.now_ms += 1
    example.tick()
    assert bus.on["lamp"] is False


def test_what_cannot_be_driven_is_brought_to_rest_until_it_is(twins: Twins, bus: Bus) -> None:
    """At the start, after a command, and by hand: nobody knows what a driver has done that failed."""
    bus.broken, bus.on = {"lamp"}, {"lamp": True}
    example = ExampleOutputs(SETTINGS, bus.apply, clock=lambda: twins.now_ms)
    bus.broken = set()
    twins.now_ms += 1_000
    example.tick()
    assert bus.on["lamp"] is False

    example.session("s" * 16, twins.hub_time)
    bus.broken = {"lamp"}
    assert example.command(twins.claims(LIGHT, "lamp", _ON, lease_s=60)) is False
    # The relay moved, and then the bus broke.
    bus.broken, bus.on["lamp"] = set(), True
    twins.now_ms += 1_000
    example.tick()
    assert bus.on["lamp"] is False

    example.by_hand("lamp", on=True, percent=50)
    bus.broken = {"lamp"}
    example.by_hand("lamp", on=False)
    bus.broken = set()
    twins.now_ms += 1_000
    example.tick()
    assert bus.on["lamp"] is False


def test_a_fan_that_cannot_be_stopped_is_tried_again(twins: Twins, bus: Bus) -> None:
    """It goes to its safe speed, which is not off, and not only when its lease is over."""
    example = ExampleOutputs(SETTINGS, bus.apply, clock=lambda: twins.now_ms)
    example.session("s" * 16, twins.hub_time)
    example.command(twins.claims(FAN, "exhaust", {"speed_percent": 90}, lease_s=3600))
    bus.broken = {"exhaust"}
    example.command(twins.claims("stop"))
    bus.broken = set()
    twins.now_ms += 999
    example.tick()
    assert bus.percent["exhaust"] == 90
    twins.now_ms += 1
    example.tick()
    assert bus.percent["exhaust"] == 20


def test_guard_goes_on_after_an_error(twins: Twins, bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    """What goes wrong once does not leave an output on; while nothing works the watchdog is not fed."""
    example = ExampleOutputs(SETTINGS, bus.apply, clock=lambda: twins.now_ms)
    assert example.is_guarded()
    twins.now_ms += 1_000
    assert not example.is_guarded()
    turns = iter([MemoryError("no room"), None])

    def tick(_now: int) -> None:
        turn = next(turns)
        if turn is not None:
            raise turn

    with (
        patch.object(example, "_tick", tick),
        pytest.raises(StopIteration),
        patch(f"{ExampleOutputs.__module__}.time.sleep", side_effect=[None, StopIteration]),
    ):
        example._guard()
    assert example.is_guarded()
    assert "no room" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["no answer", "k\u00fchl"])
def test_ends_what_is_due_though_nobody_can_be_told(
    twins: Twins, bus: Bus, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """A console that is closed, or that knows no umlauts, keeps nothing on."""
    console = TextIOWrapper(BytesIO(), encoding="ascii")
    if word.isascii():
        console.close()
    monkeypatch.setattr("sys.stdout", console)
    example = ExampleOutputs(SETTINGS, bus.apply, clock=lambda: twins.now_ms)
    example.session("s" * 16, twins.hub_time)
    for name, on in (("exhaust", {"speed_percent": 90}), ("humidifier", {"on": True})):
        example.command(twins.claims(FAN if name == "exhaust" else SWITCH, name, on, lease_s=5))
    bus.broken, bus.error = {"exhaust"}, word
    twins.now_ms += 5_000
    example.tick()
    assert bus.on["humidifier"] is False


def test_program_that_ends_leaves_nothing_on(twins: Twins, bus: Bus) -> None:
    """Everything goes where it goes when nobody asks."""
    example = ExampleOutputs(SETTINGS, bus.apply, clock=lambda: twins.now_ms)
    example.session("s" * 16, twins.hub_time)
    example.command(twins.claims(LIGHT, "lamp", _ON, lease_s=60))
    assert bus.on["lamp"] is True
    example.rest()
    assert bus.on == {"lamp": False, "exhaust": True, "humidifier": False, "pump": False}


def test_program_that_ends_leaves_nothing_on_though_it_was_interrupted(twins: Twins, bus: Bus) -> None:
    """A signal in the wrong moment leaves the lock taken, and there is nobody left to let it go."""
    example = ExampleOutputs(SETTINGS, bus.apply, clock=lambda: twins.now_ms)
    example.by_hand("lamp", on=True, percent=50)
    example._lock.acquire()
    with patch(f"{ExampleOutputs.__module__}.RETRY_MS", 0):
        example.rest()
    assert bus.on["lamp"] is False


def test_program_that_ends_is_patient_with_a_driver(twins: Twins, bus: Bus) -> None:
    """What cannot be driven just then is tried again, a second apart, and what can be is not kept waiting."""
    example = ExampleOutputs(SETTINGS, bus.apply, clock=lambda: twins.now_ms)
    example.by_hand("lamp", on=True, percent=50)
    example.by_hand("humidifier", on=True)
    bus.broken = {"lamp"}
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        assert bus.on["humidifier"] is False
        waited.append(seconds)
        if len(waited) == 4:
            bus.broken = set()

    with patch(f"{ExampleOutputs.__module__}.time.sleep", sleep):
        example.rest()
        assert (bus.on["lamp"], waited) == (False, [1, 1, 1, 1])
        # But not for ever.
        bus.broken = {"pump"}
        example.rest()
    assert len(waited) == 9


def test_largest_dose_is_within_its_time() -> None:
    """A rounding error is no reason to refuse what the settings allow."""
    moves: list[tuple[str, bool, float | None]] = []
    spec = {"kind": "pump", "ml_per_s": 200, "max_run_s": 201 / 200}
    example = ExampleOutputs({"pump": spec}, lambda *move: moves.append(move), clock=lambda: 0)
    example.session("s" * 16, 1)
    claims = {"sid": "s" * 16, "seq": 1, "iat": 1, "ttl_s": 10, "cid": "c", "lease_s": 9, "actuator": "pump"}
    example.command({**claims, "action": "trigger_irrigation", "params": {"amount_ml": 201}})
    assert moves[-1] == ("pump", True, None)


def test_largest_dose_is_within_its_time_by_half_as_many_bits() -> None:
    """A board that reckons with 24 bits gives what the settings allow, and nothing beyond that it could tell."""
    moves: list[tuple[str, bool, float | None]] = []
    spec = {"kind": "pump", "ml_per_s": 0.7, "max_run_s": 1428.5706}
    example = ExampleOutputs({"pump": spec}, lambda *move: moves.append(move), clock=lambda: 0)
    example.session("s" * 16, 1)
    claims = {"sid": "s" * 16, "iat": 1, "ttl_s": 10, "cid": "c", "lease_s": 9, "actuator": "pump"}
    for seq, amount, given in ((1, 1000, True), (2, 1000.1, False)):
        example.command({**claims, "seq": seq, "action": "trigger_irrigation", "params": {"amount_ml": amount}})
        assert bool(moves[1:]) is given
        moves = [("pump", False, None)]


def test_clock_is_looked_at_by_one_at_a_time() -> None:
    """It counts on from the last look: a second one in between would let it leap by twelve days."""
    outputs: list[ExampleOutputs] = []
    looks = 0

    def clock() -> int:
        nonlocal looks
        looks += 1
        # At the very beginning there is one thread only.
        assert not outputs or outputs[0]._lock.locked()
        return looks

    outputs.append(ExampleOutputs(SETTINGS, lambda *_: None, clock=clock))
    before = looks
    outputs[0].tick()
    outputs[0].session("s" * 16, 1)
    assert outputs[0].is_guarded()
    outputs[0].next_message()
    outputs[0].by_hand("lamp", on=False)
    assert looks > before + 3


def test_no_session_is_forgotten() -> None:
    """A device that is talked back into its first session obeys no command of it again."""
    example = ExampleOutputs(SETTINGS, lambda *_: None, clock=lambda: 0)
    sids = [f"{number:016d}" for number in range(12)]
    claims = {"iat": 1, "ttl_s": 10, "cid": "c", "action": "stop", "params": {}, "seq": 1}
    for sid in sids:
        example.session(sid, 1)
        example.command({**claims, "sid": sid})
    example.session(sids[0], 1)
    assert not example._is_next({**claims, "sid": sids[0]})


def test_faults_of_the_simulated_device() -> None:
    """One output is stuck and is said to have moved; another is broken, and that is said, too."""
    twins = Twins()
    outputs = twins.protocol.outputs
    outputs.stuck, outputs.broken = {"lamp"}, {"humidifier"}
    command = {"cid": "c", "action": LIGHT, "actuator": "lamp", "params": _ON, "lease_s": 5}
    assert outputs.command(command, 10).result == "done"
    state = {"on": False, "percent": 0, "reason": "command", "cid": "c", "lease_left_s": 5}
    assert outputs.states(10, ("lamp",)) == {"lamp": state}
    broken = outputs.command({"cid": "d", "action": "stop", "actuator": "humidifier", "params": {}}, 10)
    assert (broken.result, broken.reason, broken.about) == ("failed", "broken", ("humidifier",))
    assert outputs.expire(15)
    assert outputs.log == []
    outputs.by_hand("pump", 16, on=True)
    assert outputs.log == [Change(16, "pump", on=True, percent=0.0, reason="local")]


_ACTUATORS = st.sampled_from([*SETTINGS, "moon", None])
_PERCENTS = st.sampled_from([0, -1, 5, 10, 50, 62.5, 80, 100, 101, True, "50", None])
_AMOUNTS = st.sampled_from([0, -500, 3.125, 25, 200, 750, 1000, 1500])
_PARAMS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"intensity_percent": _PERCENTS}),
    st.fixed_dictionaries({"speed_percent": _PERCENTS}),
    st.fixed_dictionaries({"on": st.sampled_from([True, False, 1])}),
    st.fixed_dictionaries({"amount_ml": _AMOUNTS}),
    st.just({}),
)
_LEASES = st.sampled_from([None, 1, 2, 5, 30, 300, 0, 3601])
_AGES = st.sampled_from([0, 0, 0, 3, 11, 12, 60, -30])
# Eighths of a second, which floating-point seconds hold exactly.
_STEPS = st.integers(0, 800).map(lambda eighths: eighths * 125)
_GOOD = st.one_of(
    st.tuples(st.just(LIGHT), st.just("lamp"), st.just({"intensity_percent": 50})),
    st.tuples(st.just(FAN), st.just("exhaust"), st.just({"speed_percent": 50})),
    st.tuples(st.just(SWITCH), st.just("humidifier"), st.just({"on": True})),
    st.tuples(st.just(DOSE), st.just("pump"), st.just({"amount_ml": 200})),
)
_ANY = st.tuples(st.sampled_from([LIGHT, FAN, SWITCH, DOSE, "stop", "renew", "identify", "open"]), _ACTUATORS, _PARAMS)


class DeviceMachine(RuleBasedStateMachine):
    """Let anything happen to the twins; keep books of what may be on until when."""

    @initialize()
    def start(self) -> None:
        """Begin with a session."""
        self.twins = Twins()
        self.taken: list[dict[str, Any]] = []
        self.cids = ["0" * 26]
        self.lease_until: dict[str, float] = {}
        self.dose_until = 0.0
        self.sessions = 0
        self.told: list[int] = []
        self.new_session()

    @rule()
    def new_session(self) -> None:
        """Say hello to a hub that has forgotten the session."""
        on = self._on()
        self.sessions += 1
        self.told.append(self.twins.hub_time)
        self.twins.open(f"{self.sessions:016}")
        assert self._on() == on

    @rule()
    def same_session(self) -> None:
        """Come back to a hub that knows the session."""
        on = self._on()
        self.told.append(self.twins.hub_time)
        self.twins.open(self.twins.sid)
        assert self._on() == on

    @rule(data=st.data())
    def played_back_session(self, data: st.DataObject) -> None:
        """Come back, and hear what the hub said earlier, in this session or another."""
        on = self._on()
        number = data.draw(st.integers(1, self.sessions))
        self.twins.open(f"{number:016}", data.draw(st.sampled_from(self.told)))
        assert self._on() == on

    @rule(command=st.one_of(_GOOD, _ANY), lease=_LEASES, age=_AGES, after_ms=_STEPS)
    def command(self, command: tuple[str, str | None, dict[str, Any]], lease: Any, age: int, after_ms: int) -> None:
        """Give a command of any kind, to outputs that may be due for their end."""
        self.twins.now_ms += after_ms
        action, actuator, params = command
        self._take(self.twins.claims(action, actuator, params, lease_s=lease, iat=self.twins.hub_time - age))

    @rule(data=st.data(), actuator=_ACTUATORS, lease=_LEASES, after_ms=_STEPS)
    def renew(self, data: st.DataObject, actuator: str | None, lease: Any, after_ms: int) -> None:
        """Renew any command there ever was, on any output."""
        self.twins.now_ms += after_ms
        on = self._on()
        of = data.draw(st.sampled_from(self.cids[-4:]))
        self._take(self.twins.claims("renew", actuator, {"of": of}, lease_s=lease))
        assert self._on() <= on

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), after_ms=_STEPS)
    def play_back(self, data: st.DataObject, after_ms: int) -> None:
        """Repeat any message there ever was."""
        self.twins.tick(after_ms)
        before = self.twins.observe(), self.twins.leases()
        self.twins.take(data.draw(st.sampled_from(self.taken)))
        assert (self.twins.observe(), self.twins.leases()) == before

    @rule(name=st.sampled_from(sorted(SETTINGS)), on=st.booleans())
    def by_hand(self, name: str, on: bool) -> None:
        """Turn a knob."""
        self.twins.by_hand(name, on=on, percent=40.0 if on else 0.0)
        if name == "pump":
            self.dose_until = self.twins.now_ms + SETTINGS["pump"]["max_run_s"] * 1000

    @rule(after_ms=_STEPS)
    def wait(self, after_ms: int) -> None:
        """Let time pass."""
        self.twins.now_ms += after_ms

    @rule()
    def hear(self) -> None:
        """Take what both have to say."""
        self.twins.hear()

    @invariant()
    def ends_in_time(self) -> None:
        """Nothing is on by a command whose lease is over, and no pump beyond its dose."""
        self.twins.tick()
        leases = self.twins.leases()
        for name, (on, _, reason, cid) in self.twins.observe().items():
            lease_ends = leases[name]
            assert (lease_ends is not None) == (cid is not None) == (on and reason == "command")
            assert lease_ends is None or self.twins.now_ms < lease_ends * 1000 <= self.lease_until[name]
        assert not self.twins.observe()["pump"][0] or self.twins.now_ms < self.dose_until

    def _on(self) -> set[str]:
        return {name for name, (on, *_) in self.twins.observe().items() if on}

    def _take(self, claims: dict[str, Any]) -> None:
        self.taken.append(claims)
        self.cids.append(claims["cid"])
        self.twins.tick()
        before = self.twins.observe()
        self.twins.take(claims)
        name, lease_s = claims.get("actuator"), claims.get("lease_s", 0)
        if name not in before or not 1 <= lease_s <= 3600:
            return
        energised = self.twins.observe()[name][3] == claims["cid"]
        renewed = claims["action"] == "renew" and before[name][3] == claims["params"].get("of", "")
        if energised or renewed:
            self.lease_until[name] = self.twins.now_ms + lease_s * 1000
        if energised and name == "pump":
            self.dose_until = self.twins.now_ms + claims["params"]["amount_ml"] * 1000 / SETTINGS["pump"]["ml_per_s"]


TestDeviceMachine = DeviceMachine.TestCase
TestDeviceMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_does_what_the_page_about_the_protocol_shows() -> None:
    """The settings, the command and the answer on the page belong together."""
    page = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text(encoding="utf-8")
    section = page.partition("### state")[2].partition("### Devices that cannot sign")[0]
    state, command, ack, actuators = map(json.loads, re.findall(r"```json\n(.+)\n```", section))
    outputs = ExampleOutputs({"irrigation": actuators["irrigation"]}, lambda *_move: None, clock=lambda: 0)
    outputs.session(command["sid"], command["iat"] - 20)
    assert outputs.next_message() == ("state", _body(state))
    assert not outputs.command(command)
    assert outputs.next_message() == ("ack", _body(ack))


def _body(claims: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if name not in {"iss", "aud"}}


@pytest.mark.parametrize("module", ["examples/devices/grokmon_outputs.py", "tests/device_simulator/actuators.py"])
def test_gives_the_reasons_on_the_page_about_the_protocol(module: str) -> None:
    """A reason that nobody has heard of helps nobody."""
    root = Path(__file__).parents[1]
    page = (root / "docs" / "protocol.md").read_text(encoding="utf-8")
    table = page.partition("| reason of a rejection |")[2].partition("\n\n")[0]
    given = re.findall(r'RejectedError\("(\w+)"\)', (root / module).read_text(encoding="utf-8"))
    assert {*given, "expired"} == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
