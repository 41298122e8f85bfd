"""The simulated room obeys what everybody knows about rooms."""

from dataclasses import replace

from hypothesis import given, settings, strategies as st
import pytest

from tests.device_simulator.actuators import ActuatorSpec, Outputs
from tests.device_simulator.coupling import controls_of
from tests.device_simulator.room import (
    FIELD_CAPACITY,
    SATURATION,
    TANK_ML,
    Controls,
    Room,
    saturated_vapour_kg_m3,
    saturation_vapour_pressure_kpa,
)
from tests.device_simulator.sensors import METRICS, Sensors

percents = st.floats(0, 100)
controls = st.builds(Controls, percents, percents, *[st.booleans()] * 5)
durations = st.floats(0, 3600)
programmes = st.lists(st.tuples(controls, durations), min_size=1, max_size=12)
rooms = st.builds(
    Room,
    time_of_day_s=st.floats(0, 86_399),
    temp_c=st.floats(5, 40),
    vapour_kg_m3=st.floats(0.002, 0.006),
    co2_ppm=st.floats(300, 3000),
    soil_c=st.floats(5, 35),
    soil_water=st.floats(0.05, SATURATION),
    tank_ml=st.floats(0, TANK_ML),
)
HOUR = 3600.0


@settings(deadline=None)
@given(rooms, programmes)
def test_stays_within_what_is_possible(room: Room, programme: list[tuple[Controls, float]]) -> None:
    """Whatever the actuators do, no quantity leaves its physical bounds."""
    for setting, duration in programme:
        room = room.step(setting, duration)
        assert 5 <= room.temp_c <= 110
        assert 0 <= room.vapour_kg_m3 <= saturated_vapour_kg_m3(room.temp_c) * (1 + 1e-9)
        assert 0 <= room.humidity_percent <= 100 + 1e-6
        assert 60 <= room.co2_ppm <= 5_000
        assert 0 <= room.soil_water <= SATURATION
        assert 0 <= room.tank_ml <= TANK_ML
        assert 0 <= room.time_of_day_s < 86_400
        assert room.vpd_kpa >= -1e-6
        assert 0 <= room.dli_mol <= 78


@settings(deadline=None)
@given(rooms, controls, durations)
def test_is_a_function_of_its_past(room: Room, setting: Controls, duration: float) -> None:
    """The same step from the same state gives the same state, and leaves the old one alone."""
    before = replace(room)
    assert room.step(setting, duration) == room.step(setting, duration)
    assert room == before


@settings(deadline=None)
@given(rooms, st.floats(10, 100), percents)
def test_light_heats_and_feeds(room: Room, light: float, fan: float) -> None:
    """With the lamp on it is warmer, leaves take up CO2, and light adds up."""
    lit, dark = room.step(Controls(light, fan), HOUR), room.step(Controls(0, fan), HOUR)
    assert lit.temp_c > dark.temp_c
    assert lit.co2_ppm < dark.co2_ppm
    assert lit.ppfd_umol > dark.ppfd_umol == 0
    assert lit.power_w > dark.power_w


@settings(deadline=None)
@given(rooms, percents, st.floats(0, 40), st.floats(60, 100))
def test_fan_pulls_towards_the_outside(room: Room, light: float, slow: float, fast: float) -> None:
    """More exchange of air brings the room nearer to the air around it."""
    calm, windy = room.step(Controls(light, slow), 12 * HOUR), room.step(Controls(light, fast), 12 * HOUR)
    assert abs(windy.temp_c - windy.outside_c) <= abs(calm.temp_c - calm.outside_c) + 0.5
    assert abs(windy.co2_ppm - 430) <= abs(calm.co2_ppm - 430) + 1


@settings(deadline=None)
@given(rooms, percents, st.floats(1, 60))
def test_pump_moves_water_from_the_tank_to_the_soil(room: Room, light: float, seconds: float) -> None:
    """Irrigation raises the moisture by what the tank loses, as long as there is water and room for it."""
    wet, dry = room.step(Controls(light, 50, pump_on=True), seconds), room.step(Controls(light, 50), seconds)
    assert dry.tank_ml == room.tank_ml
    if room.tank_ml > 1 and room.soil_water < FIELD_CAPACITY - 0.05:
        assert wet.soil_water > dry.soil_water
    assert wet.soil_water >= dry.soil_water
    assert wet.tank_ml <= room.tank_ml


@settings(deadline=None)
@given(rooms.filter(lambda room: 0.15 < room.soil_water < FIELD_CAPACITY), percents)
def test_plants_dry_the_soil_and_wet_the_air(room: Room, light: float) -> None:
    """Without irrigation the soil only gets drier."""
    assert room.step(Controls(light, 50), HOUR).soil_water <= room.soil_water


@settings(deadline=None)
@given(rooms, percents, st.floats(10, 60))
def test_co2_valve_enriches_the_air(room: Room, light: float, seconds: float) -> None:
    """A dose raises the concentration by about 3 ppm each second."""
    enriched, plain = (room.step(Controls(light, 0, co2_valve_on=on), seconds) for on in (True, False))
    assert enriched.co2_ppm - plain.co2_ppm == pytest.approx(3.1 * seconds, rel=0.1)


@settings(deadline=None)
@given(rooms.filter(lambda room: room.temp_c > 15))
def test_humidifier_and_dehumidifier_work_against_each_other(room: Room) -> None:
    """One makes the air damper, the other warmer and drier."""
    wet, plain, dry = (
        room.step(Controls(0, 20, humidifier_on=humid, dehumidifier_on=dehumid), HOUR / 4)
        for humid, dehumid in ((True, False), (False, False), (False, True))
    )
    assert wet.humidity_percent > plain.humidity_percent > dry.humidity_percent
    assert dry.temp_c > plain.temp_c
    assert wet.power_w > plain.power_w < dry.power_w


@settings(deadline=None)
@given(rooms)
def test_heat_mat_warms_the_soil(room: Room) -> None:
    """Soil and air get warmer, for the power of the mat."""
    warm, plain = (room.step(Controls(0, 20, heat_mat_on=on), HOUR) for on in (True, False))
    assert warm.soil_c > plain.soil_c + 2
    assert warm.temp_c > plain.temp_c
    assert warm.power_w == pytest.approx(plain.power_w + 60)


def test_time_of_day_makes_the_room_warm_and_cold() -> None:
    """The afternoon is warmer than the night, without any actuator."""
    afternoon = Room(time_of_day_s=0).step(Controls(), 15 * HOUR)
    night = afternoon.step(Controls(), 13 * HOUR)
    assert afternoon.temp_c > night.temp_c + 2
    assert night.time_of_day_s == pytest.approx(4 * HOUR)


def test_daily_light_starts_again_at_midnight() -> None:
    """The light of a day is summed up to midnight."""
    evening = Room(time_of_day_s=12 * HOUR).step(Controls(100, 60), 11 * HOUR)
    assert evening.dli_mol == pytest.approx(900e-6 * 11 * 3600)
    assert evening.step(Controls(0, 60), 2 * HOUR).dli_mol < 0.1


def test_time_does_not_run_backwards() -> None:
    """A negative step is a mistake of the caller."""
    with pytest.raises(ValueError, match="backwards"):
        Room().step(Controls(), -1)


# Values of the International Association for the Properties of Water and Steam, rounded.
@pytest.mark.parametrize(("temp_c", "kpa"), [(0, 0.6112), (10, 1.2282), (20, 2.3393), (30, 4.2470), (40, 7.3849)])
def test_saturation_vapour_pressure(temp_c: float, kpa: float) -> None:
    """The formula agrees with the steam tables."""
    assert saturation_vapour_pressure_kpa(temp_c) == pytest.approx(kpa, rel=0.004)


def test_sensors_measure_with_seeded_noise() -> None:
    """Equal seeds give equal readings, others different ones, all near the truth."""
    room = Room().step(Controls(80, 40), HOUR)
    first, again, other = (Sensors(sorted(METRICS), seed).read(room) for seed in (1, 1, 2))
    assert first == again != other
    assert set(first) == METRICS
    assert first["temp_c"] == pytest.approx(room.temp_c, abs=0.5)
    assert first["temp_f"] == pytest.approx(room.temp_c * 9 / 5 + 32, abs=1)
    assert first["smoke"] is False
    assert first["float_switch"] is False


def test_float_switch_tells_an_empty_tank() -> None:
    """The float switch closes when the tank is nearly empty."""
    assert Sensors(["float_switch"], 1).read(Room(tank_ml=100)) == {"float_switch": True}


def test_alarms_can_be_raised() -> None:
    """A boolean that nothing in the room moves is set by hand, for one device at a time."""
    sensors, other = Sensors(["smoke", "mains_power"], 1), Sensors(["smoke"], 1)
    sensors.switches["smoke"] = True
    assert sensors.read(Room()) == {"smoke": True, "mains_power": True}
    assert other.read(Room()) == {"smoke": False}


def test_outputs_of_devices_move_the_room() -> None:
    """An output does what its role says, or its own name; of two fans the stronger counts, and what is off is still."""
    specs = {
        "lamp": ActuatorSpec(kind="light"),
        "exhaust": ActuatorSpec(kind="fan"),
        "circulation": ActuatorSpec(kind="fan"),
        "co2_valve": ActuatorSpec(kind="switch"),
        "heat_mat": ActuatorSpec(kind="switch"),
    }
    climate, water = Outputs(specs), Outputs({"irrigation": ActuatorSpec(kind="pump")})
    for name, percent in (("lamp", 70), ("exhaust", 30), ("circulation", 90), ("co2_valve", 0)):
        climate.by_hand(name, 0, on=True, percent=percent)
    water.by_hand("irrigation", 0, on=True)
    climate.by_hand("heat_mat", 0, on=False)
    assert controls_of(climate.outputs, water.outputs, roles={"lamp": "grow_light"}) == Controls(
        light_percent=70, fan_percent=30, pump_on=True, co2_valve_on=True
    )
    assert controls_of({}) == Controls()


def test_sensors_of_what_is_not_there() -> None:
    """A sensor that the room has nothing for is a mistake of the caller."""
    with pytest.raises(ValueError, match="no sensor for moon_phase"):
        Sensors(["temp_c", "moon_phase"], 1)
