"""Tests of zones: stages, photoperiod, and settings that make no sense."""

from typing import Any

from hypothesis import given, strategies as st
import pytest

from custom_components.grokmon.gateway.errors import Code, RegistryError
from custom_components.grokmon.gateway.models import Range
from custom_components.grokmon.gateway.zones import DAY_S, STAGES, TARGET_METRICS, Interlock, Stage, Zone

HOUR = 3600.0


def zone(**data: Any) -> Zone:
    """Return a zone from the data of a subentry."""
    return Zone.from_dict("z", "Tent", data)


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_has_targets(stage: Stage) -> None:
    """Each stage has figures the right way up, and they are found by the whole name."""
    targets = STAGES[stage]
    assert zone(stage=stage.value).targets is targets
    for name in TARGET_METRICS:
        wanted: Range = getattr(targets, name)
        assert wanted.low < wanted.high
    assert 0 <= targets.light_hours <= 24


@pytest.mark.parametrize("name", ["flower", "late", "flowering ", "Flowering", "late_flower_2", ""])
def test_stage_is_not_found_by_a_part_of_its_name(name: str) -> None:
    """Refuse what is no stage: elsewhere `flower` was found in `late_flower` and got its limits."""
    with pytest.raises(RegistryError) as refused:
        zone(stage=name)
    assert refused.value.code is Code.ZONE_INVALID


def test_changed_targets_are_of_their_stage_only() -> None:
    """A stage keeps what was not changed, and the others keep everything."""
    changed = {"late_flower": {"temp_c": [16, 22], "light_hours": 11}}
    late = zone(stage="late_flower", stages=changed)
    assert (late.targets.temp_c, late.targets.light_hours) == (Range(16, 22), 11)
    assert late.targets.co2_ppm == STAGES[Stage.LATE_FLOWER].co2_ppm
    assert zone(stage="flowering", stages=changed).targets is STAGES[Stage.FLOWERING]


@pytest.mark.parametrize(
    "data",
    [
        {"lights_on_s": -1},
        {"lights_on_s": DAY_S},
        {"lights_on_s": "6:00"},
        {"lamp_hours": 25},
        {"water_ml_day": -1},
        {"co2_hour_s": 3601},
        {"interlocks": {"over_temperature_c": 61}},
        {"interlocks": {"high_co2_ppm": True}},
        {"interlocks": {"enabled": ["fire"]}},
        {"interlocks": {"colour": 1}},
        {"stages": {"flowering": {"temp_c": [25, 20]}}},
        {"stages": {"flowering": {"light_hours": 25}}},
        {"stages": {"flowering": {"water_ml_day": -1}}},
        {"stages": {"flowering": {"temp_c": 20}}},
        {"stages": {"flowering": {"temp_c": "az"}}},
        {"stages": {"flowering": {"light_hours": "12"}}},
        {"stages": {"flowering": {"colour": 1}}},
        {"stages": {"flowering": 12}},
        {"stages": ["flowering"]},
        {"interlocks": {"exhaust_on_smoke": "off"}},
    ],
)
def test_refuses_settings_that_make_no_sense(data: dict[str, Any]) -> None:
    """Refuse what cannot be, and say what."""
    with pytest.raises(RegistryError) as refused:
        zone(**data)
    assert refused.value.code is Code.ZONE_INVALID


def test_names_are_kept() -> None:
    """Take identifier and name from the subentry, and the rest from what is usual."""
    assert zone() == Zone(zone_id="z", name="Tent")


@pytest.mark.parametrize(
    ("part", "name", "low", "high"),
    [
        ("", "lights_on_s", 0, DAY_S - 1),
        ("", "lamp_hours", 0, 24),
        ("", "water_ml_day", 0, 1_000_000),
        ("", "co2_hour_s", 0, 3600),
        ("interlocks", "over_temperature_c", 20, 60),
        ("interlocks", "high_co2_ppm", 600, 10_000),
        ("interlocks", "tank_low_percent", 0, 90),
        ("interlocks", "stale_s", 10, DAY_S),
        ("flowering", "light_hours", 0, 24),
        ("flowering", "water_ml_day", 0, 1_000_000),
    ],
)
def test_bounds_of_settings(part: str, name: str, low: float, high: float) -> None:
    """Take a number from the least to the most that makes sense, and say where a worse one should be."""

    def chosen(value: float) -> dict[str, Any]:
        within = {part: {name: value}} if part else {name: value}
        return {"stages": within} if part in Stage else within

    assert zone(**chosen(low)) != zone(**chosen(high))
    said = f"zone_invalid: {part}: {name}" if part in Stage else f"zone_invalid: {name}"
    for value in (low - 0.1, high + 0.1):
        with pytest.raises(RegistryError) as refused:
            zone(**chosen(value))
        assert str(refused.value) == f"{said}: {low:g} to {high:g}"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"interlocks": {"exhaust_on_smoke": 1}}, "exhaust_on_smoke"),
        ({"stages": {"flowering": {"temp_c": [20, 20]}}}, "flowering: temp_c is upside down, or out of bounds"),
        ({"stages": {"flowering": {"temp_c": [20, 1e6]}}}, "flowering: temp_c is upside down, or out of bounds"),
        ({"lumens": 12}, "Zone.__init__() got an unexpected keyword argument 'lumens'"),
        ({"stage": "late"}, "'late' is not a valid Stage"),
    ],
)
def test_what_makes_no_sense_is_said(data: dict[str, Any], said: str) -> None:
    """Name the setting, and its stage."""
    with pytest.raises(RegistryError) as refused:
        zone(**data)
    assert str(refused.value) == f"zone_invalid: {said}"
    assert refused.value.field == ("temp_c" if "temp_c" in said else "")


def test_interlocks_are_chosen() -> None:
    """All are there unless somebody chose."""
    assert zone().interlocks.enabled == frozenset(Interlock)
    assert zone(interlocks={"enabled": ["smoke"]}).interlocks.enabled == {Interlock.SMOKE}


def test_budgets_are_the_stages_unless_chosen() -> None:
    """Water and lamp hours follow the stage, or what was set."""
    assert (zone(stage="flowering").water_budget, zone(stage="flowering").lamp_budget_s) == (5000, 12 * HOUR)
    assert (zone(water_ml_day=7).water_budget, zone(lamp_hours=2).lamp_budget_s) == (7, 2 * HOUR)


@pytest.mark.parametrize(
    ("lights_on", "time", "dark", "left"),
    [
        (6, 6, False, 12),
        (6, 17.99, False, 0.01),
        (6, 18, True, 12),
        (6, 5.5, True, 0.5),
        (20, 7.5, False, 0.5),
        (20, 8, True, 12),
        (20, 23, False, 9),
    ],
)
def test_dark_period(lights_on: float, time: float, dark: bool, left: float) -> None:
    """The light day begins on the second and ends on the second, over midnight, too."""
    tent = zone(stage="flowering", lights_on_s=lights_on * HOUR)
    assert tent.is_dark(time * HOUR) is dark
    assert tent.until_light_change(time * HOUR) == pytest.approx(left * HOUR)


def test_day_without_change() -> None:
    """Harvest is dark all day; a day of 24 hours never ends."""
    assert zone(stage="harvest").is_dark(0)
    assert zone(stage="harvest").until_light_change(0) is None
    endless = zone(stages={"seedling": {"light_hours": 24}})
    assert not endless.is_dark(3)
    assert endless.until_light_change(3) is None
    shortest = zone(stages={"seedling": {"light_hours": 0.0001}})
    assert shortest.until_light_change(5 * HOUR) == HOUR


@given(st.floats(0, DAY_S - 1), st.floats(0, DAY_S - 1))
def test_change_is_where_it_is_said_to_be(lights_on: float, time: float) -> None:
    """What was dark is light after the change, and the reverse."""
    tent = zone(stage="flowering", lights_on_s=lights_on)
    left = tent.until_light_change(time)
    assert left is not None
    assert tent.is_dark((time + left + 1) % DAY_S) is not tent.is_dark(time) or left < 1
