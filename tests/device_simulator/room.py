"""A grow room with plausible physics: one well-mixed volume of air, one bed of soil, one canopy.

The balances are the usual ones of greenhouse climate models (heat, water vapour and CO2 of the air, water of the soil;
see G.P.A. Bot, "Greenhouse climate: from physical processes to a dynamic model", 1983), with coefficients for a tent of
1.2 by 1.2 by 2 m. The room is a value: a step gives a new one, and the same steps give the same room.
"""

from dataclasses import dataclass, replace
import math

DAY_S = 86_400.0

VOLUME_M3 = 2.88
FLOOR_M2 = 1.44
# Air, walls, pots and water: what has to be warmed up.
HEAT_CAPACITY_J_K = 60_000.0
WALL_LOSS_W_K = 9.0
AIR_HEAT_J_M3_K = 1_210.0
EVAPORATION_J_KG = 2.45e6
VAPOUR_GAS_CONSTANT_J_KG_K = 461.5
KELVIN = 273.15

LAMP_W = 480.0
LAMP_PPFD_UMOL = 900.0
LUX_PER_PPFD_WHITE_LED = 65.0
FAN_W = 35.0
FAN_M3_S = 0.055
# Gaps and the passive inlet.
LEAK_M3_S = 0.002
PUMP_W = 12.0
PUMP_ML_S = 25.0
TANK_ML = 40_000.0

SOIL_ML = 50_000.0
# Water that the soil can hold, and what the plants can no longer get at, as shares of its volume.
FIELD_CAPACITY = 0.42
WILTING_POINT = 0.10
SATURATION = 0.55
DRAINAGE_PER_S = 1.0 / 1_800.0

OUTSIDE_CO2_PPM = 430.0
# Respiration of canopy and soil, and net fixation at full light, for 1.44 m2 of canopy.
RESPIRATION_PPM_S = 0.05
FIXATION_PPM_S = 0.55
LONGEST_SUBSTEP_S = 10.0

# A regulator that lets 1 g of CO2 a minute into the tent.
CO2_VALVE_PPM_S = 3.1
# One that boils water: what it takes from the mains goes into the vapour, not into warmth.
HUMIDIFIER_KG_S = 4.0e-5
HUMIDIFIER_W = 100.0
# A compressor: full output from 60 % relative humidity, none at 30 %.
DEHUMIDIFIER_KG_S = 6.0e-5
DEHUMIDIFIER_W = 150.0
HEAT_MAT_W = 60.0
HEAT_MAT_K = 8.0


@dataclass(frozen=True, slots=True)
class Controls:
    """Say what the actuators do."""

    light_percent: float = 0.0
    fan_percent: float = 0.0
    pump_on: bool = False
    co2_valve_on: bool = False
    humidifier_on: bool = False
    dehumidifier_on: bool = False
    heat_mat_on: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """Hold the state of the room at one moment."""

    time_of_day_s: float = 8 * 3600.0
    temp_c: float = 21.0
    vapour_kg_m3: float = 0.0110
    co2_ppm: float = 450.0
    soil_c: float = 20.0
    soil_water: float = 0.35
    """Share of the soil's volume."""
    tank_ml: float = TANK_ML
    dli_mol: float = 0.0
    controls: Controls = Controls()

    def step(self, controls: Controls, dt: float) -> Room:
        """Let time pass with the actuators as they are set."""
        if dt < 0:
            raise ValueError("time does not run backwards")
        count = max(1, math.ceil(dt / LONGEST_SUBSTEP_S))
        room = replace(self, controls=controls)
        for _ in range(count):
            room = room._substep(dt / count)
        return room

    @property
    def outside_c(self) -> float:
        """Give the temperature around the tent, warmest at three in the afternoon."""
        return 19.0 + 3.0 * math.cos(2 * math.pi * (self.time_of_day_s / DAY_S - 15 / 24))

    @property
    def humidity_percent(self) -> float:
        """Give the relative humidity."""
        return 100.0 * self.vapour_kg_m3 / saturated_vapour_kg_m3(self.temp_c)

    @property
    def ppfd_umol(self) -> float:
        """Give the photosynthetic photon flux density at the canopy."""
        return LAMP_PPFD_UMOL * self.controls.light_percent / 100.0

    @property
    def leaf_c(self) -> float:
        """Give the leaf temperature: lamps warm a leaf, transpiration into dry air cools it."""
        return self.temp_c + 2.0 * self.controls.light_percent / 100.0 - 1.2 * self.vpd_kpa * self._water_stress

    @property
    def vpd_kpa(self) -> float:
        """Give the vapour pressure deficit of the air."""
        return saturation_vapour_pressure_kpa(self.temp_c) * (1.0 - self.humidity_percent / 100.0)

    @property
    def power_w(self) -> float:
        """Give the electrical power that the room takes."""
        c = self.controls
        driven = LAMP_W * c.light_percent / 100 + FAN_W * (c.fan_percent / 100) ** 3 + PUMP_W * self._pumping
        plugged = HUMIDIFIER_W * c.humidifier_on + DEHUMIDIFIER_W * c.dehumidifier_on + HEAT_MAT_W * c.heat_mat_on
        return 4.0 + driven + plugged

    @property
    def water_flow_l_min(self) -> float:
        """Give the flow of irrigation water."""
        return PUMP_ML_S * 60 / 1000 if self._pumping else 0.0

    @property
    def _pumping(self) -> bool:
        return self.controls.pump_on and self.tank_ml > 0

    @property
    def _water_stress(self) -> float:
        # 1 with water at will, 0 at the wilting point.
        return min(1.0, max(0.0, (self.soil_water - WILTING_POINT) / (0.6 * (FIELD_CAPACITY - WILTING_POINT))))

    @property
    def _evapotranspiration_kg_s(self) -> float:
        opening = 0.15 + 0.85 * self.controls.light_percent / 100.0
        return 6.0e-5 * FLOOR_M2 * opening * self.vpd_kpa * self._water_stress

    @property
    def _dried_kg_s(self) -> float:
        grip = min(1.0, max(0.0, (self.humidity_percent - 30.0) / 30.0))
        return DEHUMIDIFIER_KG_S * grip if self.controls.dehumidifier_on else 0.0

    @property
    def _heat_w(self) -> float:
        c = self.controls
        compressor = DEHUMIDIFIER_W * c.dehumidifier_on + EVAPORATION_J_KG * self._dried_kg_s
        lamp = LAMP_W * c.light_percent / 100.0
        return lamp + compressor + HEAT_MAT_W * c.heat_mat_on - EVAPORATION_J_KG * self._evapotranspiration_kg_s

    def _substep(self, dt: float) -> Room:
        outside = self.outside_c
        outside_vapour = 0.5 * saturated_vapour_kg_m3(outside)
        exchange = LEAK_M3_S + FAN_M3_S * self.controls.fan_percent / 100.0
        evaporated = self._evapotranspiration_kg_s
        pumped_ml = min(PUMP_ML_S * dt, self.tank_ml) if self.controls.pump_on else 0.0
        light = self.controls.light_percent / 100.0

        loss = WALL_LOSS_W_K + AIR_HEAT_J_M3_K * exchange
        temp = _relax(self.temp_c, outside + self._heat_w / loss, loss / HEAT_CAPACITY_J_K, dt)

        moistened = evaporated + HUMIDIFIER_KG_S * self.controls.humidifier_on - self._dried_kg_s
        vapour = _relax(self.vapour_kg_m3, outside_vapour + moistened / exchange, exchange / VOLUME_M3, dt)
        # What the air cannot hold condenses on the walls and runs off.
        vapour = min(vapour, saturated_vapour_kg_m3(temp))

        # Fixation follows light and stops at the compensation point.
        fixed = FIXATION_PPM_S * light * max(0.0, (self.co2_ppm - 60.0) / (self.co2_ppm + 300.0))
        renewal = exchange / VOLUME_M3
        source = RESPIRATION_PPM_S + CO2_VALVE_PPM_S * self.controls.co2_valve_on - fixed
        co2 = _relax(self.co2_ppm, OUTSIDE_CO2_PPM + source / renewal, renewal, dt)

        water = self.soil_water + (pumped_ml - evaporated * 1e3 * dt) / SOIL_ML
        if water > FIELD_CAPACITY:
            water = _relax(water, FIELD_CAPACITY, DRAINAGE_PER_S, dt)

        clock = self.time_of_day_s + dt
        dli = (0.0 if clock >= DAY_S else self.dli_mol) + self.ppfd_umol * dt / 1e6
        return replace(
            self,
            time_of_day_s=clock % DAY_S,
            temp_c=temp,
            vapour_kg_m3=vapour,
            co2_ppm=max(60.0, co2),
            soil_c=_relax(self.soil_c, temp + HEAT_MAT_K * self.controls.heat_mat_on, 1 / 7_200.0, dt),
            soil_water=min(SATURATION, max(0.0, water)),
            tank_ml=self.tank_ml - pumped_ml,
            dli_mol=dli,
        )


def saturation_vapour_pressure_kpa(temp_c: float) -> float:
    """Give the saturation vapour pressure over water by the Magnus form.

    Coefficients: O.A. Alduchov and R.E. Eskridge, "Improved Magnus Form Approximation of Saturation Vapor Pressure",
    Journal of Applied Meteorology 35 (1996), 601-609; within 0.4 % from -40 to 50 °C.
    """
    return 0.61094 * math.exp(17.625 * temp_c / (temp_c + 243.04))


def saturated_vapour_kg_m3(temp_c: float) -> float:
    """Give the most water vapour that air can hold, by the ideal gas law."""
    return saturation_vapour_pressure_kpa(temp_c) * 1e3 / (VAPOUR_GAS_CONSTANT_J_KG_K * (temp_c + KELVIN))


def _relax(value: float, target: float, rate: float, dt: float) -> float:
    """Move exponentially towards a target; unlike an Euler step this never overshoots."""
    return target + (value - target) * math.exp(-rate * dt)
