"""The metrics that a device can be granted, their units and their limits.

The hard range is what a sensor of that kind can output at all; a value outside it refuses the message. The plausible
range is what a healthy room shows; a value outside it is flagged. Plausible ranges are those of "IoT Security Best
Practices for Grok & Mon", section 4, where it has one. Device classes, state classes and units are Home Assistant's,
as plain strings.
"""

from dataclasses import dataclass
from typing import Final

from .models import Range

VPD: Final = "vpd_kpa"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A quantity that a device can report. `hard` is None for a boolean."""

    name: str
    unit: str | None = None
    hard: Range | None = None
    plausible: Range | None = None
    device_class: str | None = None
    state_class: str | None = "measurement"
    precision: int | None = None
    diagnostic: bool = False

    @property
    def is_boolean(self) -> bool:
        """Tell whether the values are true and false."""
        return self.hard is None


def _boolean(name: str, device_class: str) -> Metric:
    return Metric(name=name, device_class=device_class, state_class=None)


def _temperature(name: str) -> tuple[Metric, Metric]:
    # 55 to 95 °F is the plausible range there; sensors of this field end at -40 and 85 °C.
    celsius = Metric(
        name=f"{name}_c",
        unit="°C",
        hard=Range(-40.0, 85.0),
        plausible=Range(12.8, 35.0),
        device_class="temperature",
        precision=1,
    )
    fahrenheit = Metric(
        name=f"{name}_f",
        unit="°F",
        hard=Range(-40.0, 185.0),
        plausible=Range(55.0, 95.0),
        device_class="temperature",
        precision=1,
    )
    return celsius, fahrenheit


def _percent(name: str, device_class: str | None, plausible: Range | None, *, diagnostic: bool = False) -> Metric:
    return Metric(
        name=name,
        unit="%",
        hard=Range(0.0, 100.0),
        plausible=plausible,
        device_class=device_class,
        precision=0 if diagnostic else 1,
        diagnostic=diagnostic,
    )


_METRICS: Final = (
    *_temperature("temp"),
    *_temperature("leaf_temp"),
    *_temperature("root_temp"),
    *_temperature("soil_temp"),
    _percent("humidity_percent", "humidity", Range(20.0, 90.0)),
    # Slightly below zero is dew on a leaf, see `ranges`; 60 kPa is dry air at 85 °C.
    Metric(name=VPD, unit="kPa", hard=Range(-0.5, 60.0), plausible=Range(0.0, 3.0), precision=2),
    Metric(
        name="co2_ppm",
        unit="ppm",
        hard=Range(0.0, 40_000.0),
        plausible=Range(300.0, 2000.0),
        device_class="carbon_dioxide",
        precision=0,
    ),
    _percent("soil_moisture_percent", "moisture", Range(0.0, 100.0)),
    Metric(name="ec_ms_cm", unit="mS/cm", hard=Range(0.0, 20.0), device_class="conductivity", precision=2),
    Metric(name="ph", hard=Range(0.0, 14.0), device_class="ph", precision=2),
    # The Greek letter, as in Home Assistant's own units. Quantum sensors read slightly below zero in the dark.
    Metric(
        name="ppfd_umol", unit="\u03bcmol/m²/s", hard=Range(-10.0, 4000.0), plausible=Range(0.0, 2500.0), precision=0
    ),
    Metric(name="dli_mol", unit="mol/m²", hard=Range(0.0, 100.0), plausible=Range(0.0, 70.0), precision=1),
    Metric(name="lux", unit="lx", hard=Range(0.0, 200_000.0), device_class="illuminance", precision=0),
    _percent("tank_level_percent", None, None),
    Metric(
        name="water_flow_l_min",
        unit="L/min",
        hard=Range(0.0, 200.0),
        device_class="volume_flow_rate",
        precision=2,
    ),
    Metric(
        name="pressure_hpa",
        unit="hPa",
        hard=Range(300.0, 1100.0),
        device_class="atmospheric_pressure",
        precision=1,
    ),
    Metric(name="vbat", unit="V", hard=Range(0.0, 60.0), device_class="voltage", precision=2, diagnostic=True),
    _percent("battery_percent", "battery", None, diagnostic=True),
    Metric(
        name="rssi_dbm",
        unit="dBm",
        hard=Range(-130.0, 20.0),
        device_class="signal_strength",
        precision=0,
        diagnostic=True,
    ),
    Metric(name="power_w", unit="W", hard=Range(0.0, 50_000.0), device_class="power", precision=1),
    Metric(
        name="uptime_s",
        unit="s",
        hard=Range(0.0, 4.0e9),
        device_class="duration",
        state_class="total_increasing",
        precision=0,
        diagnostic=True,
    ),
    _boolean("smoke", "smoke"),
    _boolean("tamper", "tamper"),
    _boolean("leak", "moisture"),
    _boolean("door", "door"),
    _boolean("mains_power", "plug"),
    # A float switch closes when the tank is low: on is the problem.
    _boolean("float_switch", "problem"),
)

CATALOG: Final[dict[str, Metric]] = {metric.name: metric for metric in _METRICS}
