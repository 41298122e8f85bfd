"""Tests of actuators, commands and who gives them."""

from dataclasses import replace
from math import inf, nan
from typing import Any

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway.actuators import (
    KIND_OF,
    MAX_PERCENT,
    Actuator,
    Command,
    Key,
    Kind,
    Role,
    normalise,
)
from custom_components.grokmon.gateway.errors import Code, GatewayError, PolicyError, RegistryError

from .wire import attempt

LAMP = Actuator(name="lamp", role=Role.GROW_LIGHT, min_percent=10, max_percent=80)
PUMP = Actuator(name="pump", role=Role.IRRIGATION)
VALVE = Actuator(name="valve", role=Role.CO2_VALVE)
OUTLET = Actuator(name="outlet", role=Role.OUTLET)
KEY = Key("node", "x")


def code_of(command: Command, actuator: Actuator) -> Code:
    """Return why a command cannot be brought into its normal form."""
    with pytest.raises(PolicyError) as refused:
        normalise(command, actuator)
    return refused.value.code


@pytest.mark.parametrize("role", Role)
def test_plain_data_and_back(role: Role) -> None:
    """Keep what was changed, leave out what was not, and tell the device what it has to know."""
    plain = Actuator.from_dict({"role": role.value})
    assert plain.name == role.value
    assert plain.as_dict() == {"name": role.value, "role": role.value}
    changed = replace(plain, name="second", lease_s=77, needs_approval=True)
    assert Actuator.from_dict(changed.as_dict()) == changed
    assert plain.for_device()["kind"] == plain.kind.value == KIND_OF[role].value
    assert ("ml_per_s" in plain.for_device()) == (plain.kind is Kind.PUMP)
    assert ("safe_percent" in plain.for_device()) == (plain.kind is Kind.FAN)
    assert plain.ends_by_itself == (role in {Role.IRRIGATION, Role.CO2_VALVE})


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "laser"},
        {"role": None},
        {"role": ["grow_light"]},
        {"name": "Lamp"},
        {"name": 7},
        {"colour": "red"},
        {"lease_s": 0.5},
        {"lease_s": 3601},
        {"lease_s": True},
        {"min_percent": 90, "max_percent": 80},
        {"max_percent": 101},
        {"min_percent": nan},
        {"safe_percent": 20},
        {"speeds": 0},
        {"hours_day": 25},
        {"needs_approval": 1},
        {"dose_ml": 300, "max_dose_ml": 200},
        {"max_dose_ml": 1001},
        {"ml_per_s": 0},
        {"day_ml": "5000"},
        {"interval_s": -1},
        {"interval_s": 10**400},
        {"hours_day": -(10**400)},
        {1: 2, "colour": "red"},
    ],
)
def test_refuses_what_could_not_be_driven(changes: dict[Any, Any]) -> None:
    """Refuse limits that make no sense, with the name of the field."""
    with pytest.raises(RegistryError) as refused:
        Actuator.from_dict({"role": "grow_light", **changes})
    assert refused.value.code is Code.ACTUATOR_INVALID
    assert refused.value.detail


@pytest.mark.parametrize(
    ("role", "name", "low", "high"),
    [
        ("grow_light", "min_percent", 0, 100),
        ("grow_light", "max_percent", 1, 100),
        ("exhaust", "safe_percent", 0, 100),
        ("grow_light", "safe_percent", 0, 0),
        ("grow_light", "min_on_s", 0, 3600),
        ("grow_light", "min_off_s", 0, 3600),
        ("irrigation", "ml_per_s", 0.1, 1000),
        ("irrigation", "max_dose_ml", 1, 1000),
        ("irrigation", "dose_ml", 1, 1000),
        ("irrigation", "day_ml", 0, 1_000_000),
        ("irrigation", "interval_s", 0, 86_400),
        ("co2_valve", "inject_s", 1, 120),
        ("co2_valve", "hour_s", 0, 3600),
        ("grow_light", "hours_day", 0, 24),
        ("grow_light", "lease_s", 1, 3600),
        ("exhaust", "speeds", 1, 100),
    ],
)
def test_bounds(role: str, name: str, low: float, high: float) -> None:
    """Take a number from the least to the most that can be driven, and say where a worse one should be."""

    def said(value: float) -> str:
        return str(attempt(lambda: Actuator.from_dict({"role": role, name: value})))

    refusal = f"actuator_invalid: {name}: {low:g} to {high:g}"
    assert [said(low - 0.05), said(high + 0.05)] == [refusal] * 2
    assert refusal not in {said(low), said(high)}


def test_dose_may_be_the_largest() -> None:
    """Take a usual dose that is all that may be given at once."""
    assert Actuator.from_dict({"role": "irrigation", "dose_ml": 300, "max_dose_ml": 300}).dose_ml == 300


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"role": "laser"}, "role"),
        ({"name": "Lamp"}, "name"),
        ({"needs_approval": 1}, "needs_approval"),
        ({"speeds": 0}, "speeds: 1 to 100"),
        ({"lease_s": 3601}, "lease_s: 1 to 3600"),
    ],
)
def test_what_could_not_be_driven_is_said(changes: dict[str, Any], said: str) -> None:
    """Name the field."""
    assert str(attempt(lambda: Actuator.from_dict({"role": "grow_light", **changes}))) == f"actuator_invalid: {said}"


@pytest.mark.parametrize(
    ("limits", "name", "said"),
    [
        ({"min_percent": 80, "max_percent": 80}, "min_percent", "min_percent is not below max_percent"),
        ({"dose_ml": 300, "max_dose_ml": 200}, "dose_ml", "dose_ml is above max_dose_ml"),
        ({"role": "co2_valve", "inject_s": 60, "hour_s": 59}, "inject_s", "inject_s is above hour_s"),
    ],
)
def test_limits_that_do_not_fit_together(limits: dict[str, Any], name: str, said: str) -> None:
    """Name the field to change."""
    with pytest.raises(RegistryError) as refused:
        Actuator.from_dict({"role": "grow_light", **limits})
    assert (refused.value.field, refused.value.detail) == (name, said)


def test_injection_may_be_all_of_an_hour() -> None:
    """Take a usual injection that is all that may be given in an hour; nothing else injects."""
    assert Actuator.from_dict({"role": "co2_valve", "inject_s": 60, "hour_s": 60}).hour_s == 60
    assert Actuator.from_dict({"role": "outlet", "hour_s": 0}).hour_s == 0


@pytest.mark.parametrize(
    ("role", "lease"),
    [("co2_valve", 30), ("irrigation", 15), ("heat_mat", 120), ("humidifier", 120), ("grow_light", 300)],
)
def test_lease_of_a_role(role: str, lease: int) -> None:
    """End what floods or suffocates within seconds, and let the others bridge a restart."""
    assert Actuator.from_dict({"role": role}).lease_s == lease
    assert Actuator.from_dict({"role": role, "lease_s": 1}).lease_s == 1


@pytest.mark.parametrize(
    ("actuator", "told"),
    [
        (LAMP, {"kind": "light", "min_percent": 10, "max_percent": 80}),
        (
            Actuator(name="fan", role=Role.INTAKE, safe_percent=30),
            {"kind": "fan", "min_percent": 0, "max_percent": 100, "safe_percent": 30},
        ),
        (PUMP, {"kind": "pump", "ml_per_s": 25, "max_run_s": 40}),
        (OUTLET, {"kind": "switch"}),
    ],
)
def test_what_a_device_has_to_know(actuator: Actuator, told: dict[str, Any]) -> None:
    """Tell it the kind of its output and the limits that it keeps by itself."""
    assert actuator.for_device() == told


@pytest.mark.parametrize(
    ("actuator", "wanted", "said"),
    [
        (OUTLET, {"on": 1}, "parameter_invalid: on is not a boolean"),
        (LAMP, {"amount_ml": 10}, "parameter_invalid: lamp takes no amount_ml"),
        (OUTLET, {"percent": 1, "seconds": 2}, "parameter_invalid: outlet takes no percent"),
        (LAMP, {"percent": True}, "parameter_invalid: percent is not a finite number"),
        (PUMP, {"amount_ml": -inf}, "parameter_invalid: amount_ml is not a finite number"),
        (PUMP, {"amount_ml": -1}, "parameter_invalid: amount_ml is negative"),
        (LAMP, {"percent": 81}, "limit_exceeded: percent of lamp: 10 to 80"),
        (PUMP, {"amount_ml": 1001}, "limit_exceeded: amount_ml of pump: 0 to 1000"),
        (VALVE, {"seconds": 121}, "limit_exceeded: seconds of valve: 1 to 120"),
    ],
)
def test_what_is_wrong_with_a_command_is_said(actuator: Actuator, wanted: dict[str, Any], said: str) -> None:
    """Name the value, the output and the bounds."""
    assert str(attempt(lambda: normalise(Command(key=KEY, **wanted), actuator))) == said


def test_minus_500_ml_is_no_dose() -> None:
    """Refuse a negative dose: elsewhere it was accepted and refunded the budget."""
    assert code_of(Command(key=KEY, amount_ml=-500), PUMP) is Code.PARAMETER_INVALID


@pytest.mark.parametrize("value", [10**400, -(10**400)])
@pytest.mark.parametrize(("actuator", "name"), [(LAMP, "percent"), (PUMP, "amount_ml"), (VALVE, "seconds")])
def test_number_beyond_every_float_passes_no_limit(actuator: Actuator, name: str, value: int) -> None:
    """Refuse a whole number that no float can hold, rather than fail over it."""
    refused = code_of(Command(key=KEY, **{name: value}), actuator)  # type: ignore[arg-type]
    assert refused is (Code.PARAMETER_INVALID if value < 0 else Code.LIMIT_EXCEEDED)


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize(("actuator", "name"), [(LAMP, "percent"), (PUMP, "amount_ml"), (VALVE, "seconds")])
def test_nan_passes_no_limit(actuator: Actuator, name: str, value: float) -> None:
    """Refuse what compares as neither too small nor too large."""
    assert code_of(Command(key=KEY, **{name: value}), actuator) is Code.PARAMETER_INVALID  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("actuator", "wanted"),
    [(LAMP, {"percent": 81}), (LAMP, {"percent": 9}), (PUMP, {"amount_ml": 99_999}), (VALVE, {"seconds": 99_999})],
)
def test_nothing_is_clamped_in_silence(actuator: Actuator, wanted: dict[str, Any]) -> None:
    """Refuse 99,999 s rather than make something else of it."""
    with pytest.raises(PolicyError) as refused:
        normalise(Command(key=KEY, **wanted), actuator)
    assert refused.value.code is Code.LIMIT_EXCEEDED
    assert refused.value.limit is not None


@pytest.mark.parametrize(
    ("actuator", "wanted"),
    [
        (LAMP, {"percent": True}),
        (LAMP, {"percent": "60"}),
        (LAMP, {"amount_ml": 10}),
        (OUTLET, {"percent": 10}),
        (OUTLET, {"on": 1}),
        (OUTLET, {"on": "yes"}),
        (VALVE, {"seconds": 0.5}),
    ],
)
def test_wrong_kinds_are_refused(actuator: Actuator, wanted: dict[str, Any]) -> None:
    """Refuse values of a type or kind that the output does not take."""
    assert code_of(Command(key=KEY, **wanted), actuator) in {Code.PARAMETER_INVALID, Code.LIMIT_EXCEEDED}


@pytest.mark.parametrize(
    ("actuator", "wanted", "normal"),
    [
        (LAMP, {"on": True}, {"on": True, "percent": 80}),
        (LAMP, {"percent": 10}, {"on": True, "percent": 10}),
        (LAMP, {"percent": 80}, {"on": True, "percent": 80}),
        (LAMP, {"percent": 0}, {"on": False, "percent": 0}),
        (LAMP, {"on": False}, {"on": False, "percent": 0}),
        (PUMP, {"on": True}, {"on": True, "amount_ml": 200}),
        (PUMP, {"amount_ml": 0}, {"on": False}),
        (PUMP, {"on": False}, {"on": False}),
        (VALVE, {"on": True}, {"on": True, "seconds": 60}),
        (VALVE, {"seconds": 0}, {"on": False}),
        (LAMP, {"on": False, "percent": 50}, {"on": False, "percent": 0}),
        (PUMP, {"on": False, "amount_ml": 50}, {"on": False}),
        (OUTLET, {"on": True}, {"on": True}),
        (OUTLET, {}, {"on": True}),
        (OUTLET, {"on": False}, {"on": False}),
    ],
)
def test_normal_form(actuator: Actuator, wanted: dict[str, Any], normal: dict[str, Any]) -> None:
    """Fill in what is missing; 0 is off."""
    assert normalise(Command(key=KEY, **wanted), actuator).params() == normal


ODD = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]))


@given(st.sampled_from([LAMP, PUMP, VALVE, OUTLET]), ODD, ODD, ODD, ODD)
def test_odd_values_are_refused_or_within_bounds(
    actuator: Actuator, on: Any, percent: Any, amount: Any, seconds: Any
) -> None:
    """Whatever is asked for, what comes out is within the bounds, and off is off."""
    command = Command(key=KEY, on=on, percent=percent, amount_ml=amount, seconds=seconds)
    normal = attempt(lambda: normalise(command, actuator))
    if isinstance(normal, GatewayError):
        assert normal.code in {Code.PARAMETER_INVALID, Code.LIMIT_EXCEEDED}
        return
    assert normal.on is normal.energises
    assert 0 <= (normal.percent or 0) <= min(actuator.max_percent, MAX_PERCENT)
    assert 0 <= (normal.amount_ml or 0) <= actuator.max_dose_ml
    assert 0 <= (normal.seconds or 0) <= 120


def test_key_in_words() -> None:
    """Name the device and the output."""
    assert str(KEY) == "node/x"
