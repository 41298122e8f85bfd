"""Subentry flow of a zone: a tent, a bed, a room."""

from collections.abc import Mapping
from typing import Any, Final

from homeassistant.config_entries import ConfigSubentry, SubentryFlowResult
from homeassistant.const import CONF_NAME, UnitOfTemperature, UnitOfTime, UnitOfVolume
from homeassistant.helpers.selector import (
    BooleanSelector,
    SelectSelector,
    SelectSelectorConfig,
    TextSelector,
    TimeSelector,
)
from homeassistant.util import dt as dt_util
import probatio

from .access import hub_of_flow
from .const import CONF_STAGE, SUBENTRY_ZONE
from .forms import Forms, label, number
from .gateway.errors import RegistryError
from .gateway.zones import TARGET_METRICS, Interlock, Stage, Zone

CONF_LIGHTS_ON: Final = "lights_on"
CONF_LAMP_HOURS: Final = "lamp_hours"
CONF_WATER: Final = "water_ml_day"
CONF_CO2: Final = "co2_hour_s"
CONF_STAGES: Final = "stages"
CONF_INTERLOCKS: Final = "interlocks"
CONF_ENABLED: Final = "enabled"
_LOW: Final = "_low"
_HIGH: Final = "_high"
_DAILY: Final = ("light_hours", "water_ml_day")


def _stages() -> SelectSelector:
    return SelectSelector(SelectSelectorConfig(options=[stage.value for stage in Stage], translation_key="stage"))


_UNITS: Final = {
    "temp_c": UnitOfTemperature.CELSIUS,
    "humidity_percent": "%",
    "vpd_kpa": "kPa",
    "ppfd_umol": "\u03bcmol/m²/s",
    "co2_ppm": "ppm",
}
_ZONE: Final = probatio.Schema(
    {
        probatio.Required(CONF_NAME): TextSelector(),
        probatio.Required(CONF_STAGE, default=Stage.SEEDLING.value): _stages(),
    }
)
_BUDGETS: Final = probatio.Schema(
    {
        probatio.Required(CONF_LIGHTS_ON): TimeSelector(),
        probatio.Optional(CONF_LAMP_HOURS): number(0, 24, UnitOfTime.HOURS),
        probatio.Optional(CONF_WATER): number(0, 1_000_000, UnitOfVolume.MILLILITERS),
        probatio.Required(CONF_CO2): number(0, 3600, UnitOfTime.SECONDS),
    }
)
_TARGETS: Final = probatio.Schema(
    {
        **{
            probatio.Required(f"{name}{end}"): number(-40, 4000, unit)
            for name, unit in _UNITS.items()
            for end in (_LOW, _HIGH)
        },
        probatio.Required("light_hours"): number(0, 24, UnitOfTime.HOURS),
        probatio.Required("water_ml_day"): number(0, 1_000_000, UnitOfVolume.MILLILITERS),
    }
)
_INTERLOCKS: Final = probatio.Schema(
    {
        probatio.Required(CONF_ENABLED): SelectSelector(
            SelectSelectorConfig(options=[each.value for each in Interlock], multiple=True, translation_key="interlock")
        ),
        probatio.Required("over_temperature_c"): number(20, 60, UnitOfTemperature.CELSIUS),
        probatio.Required("high_co2_ppm"): number(600, 10_000, "ppm"),
        probatio.Required("tank_low_percent"): number(0, 90, "%"),
        probatio.Required("stale_s"): number(10, 86_400, UnitOfTime.SECONDS),
        probatio.Required("exhaust_on_smoke"): BooleanSelector(),
    }
)


class ZoneFlow(Forms):
    """Add or change a zone."""

    def __init__(self) -> None:
        super().__init__()
        self._stage = Stage.SEEDLING

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for the name and the growth stage."""
        hub_of_flow(self.hass)
        errors = self._name_errors(user_input)
        if user_input is None or errors:
            return self._form("user", _ZONE, user_input or {}, errors)
        return self.async_create_entry(title=user_input[CONF_NAME].strip(), data={CONF_STAGE: user_input[CONF_STAGE]})

    async def async_step_reconfigure(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask what to change."""
        hub_of_flow(self.hass)
        return self.async_show_menu(
            step_id="reconfigure",
            menu_options=["settings", "budgets", "targets", "interlocks"],
            description_placeholders={"name": self._subentry.title},
        )

    async def async_step_settings(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change the name or the growth stage."""
        subentry = self._subentry
        errors = self._name_errors(user_input, subentry.subentry_id)
        if user_input is None or errors:
            shown = user_input or {CONF_NAME: subentry.title, CONF_STAGE: self._zone.stage.value}
            return self._form("settings", _ZONE, shown, errors)
        return self._save(title=user_input[CONF_NAME].strip(), changes={CONF_STAGE: user_input[CONF_STAGE]})

    async def async_step_budgets(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change when the light day begins, and what may be given in a day or an hour."""
        zone = self._zone
        if user_input is None:
            shown = {CONF_LIGHTS_ON: _clock(zone.lights_on_s), CONF_CO2: zone.co2_hour_s}
            optional = {CONF_LAMP_HOURS: zone.lamp_hours, CONF_WATER: zone.water_ml_day}
            shown |= {name: value for name, value in optional.items() if value is not None}
            return self._form("budgets", _BUDGETS, shown, {})
        changes = {
            "lights_on_s": _seconds(user_input[CONF_LIGHTS_ON]),
            CONF_LAMP_HOURS: user_input.get(CONF_LAMP_HOURS),
            CONF_WATER: user_input.get(CONF_WATER),
            CONF_CO2: user_input[CONF_CO2],
        }
        return self._checked("budgets", _BUDGETS, user_input, changes)

    async def async_step_targets(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask which stage's targets to change."""
        if user_input is not None:
            self._stage = Stage(user_input[CONF_STAGE])
            return await self.async_step_stage()
        schema = probatio.Schema({probatio.Required(CONF_STAGE, default=self._zone.stage.value): _stages()})
        return self._form("targets", schema, {}, {})

    async def async_step_stage(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change what a stage wants."""
        named = {"stage": await label(self.hass, CONF_STAGE, self._stage)}
        if user_input is None:
            zone = Zone.from_dict(
                self._subentry.subentry_id, "", {**self._subentry.data, CONF_STAGE: self._stage.value}
            )
            shown = {name: getattr(zone.targets, name) for name in _DAILY}
            for name in TARGET_METRICS:
                wanted = getattr(zone.targets, name)
                shown |= {f"{name}{_LOW}": wanted.low, f"{name}{_HIGH}": wanted.high}
            return self._form("stage", _TARGETS, shown, {}, named)
        targets: dict[str, Any] = {name: user_input[name] for name in _DAILY}
        targets |= {name: [user_input[f"{name}{_LOW}"], user_input[f"{name}{_HIGH}"]] for name in TARGET_METRICS}
        stages = {**self._subentry.data.get(CONF_STAGES, {}), self._stage.value: targets}
        return self._checked("stage", _TARGETS, user_input, {CONF_STAGES: stages}, named)

    async def async_step_interlocks(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change which interlocks there are, and when they trip."""
        if user_input is None:
            settings = self._zone.interlocks
            names = [str(each) for each in _INTERLOCKS.schema if str(each) != CONF_ENABLED]
            shown = {name: getattr(settings, name) for name in names}
            shown[CONF_ENABLED] = [each.value for each in Interlock if each in settings.enabled]
            return self._form("interlocks", _INTERLOCKS, shown, {})
        return self._checked("interlocks", _INTERLOCKS, user_input, {CONF_INTERLOCKS: user_input})

    @property
    def _subentry(self) -> ConfigSubentry:
        return self._get_reconfigure_subentry()

    @property
    def _zone(self) -> Zone:
        return Zone.from_dict(self._subentry.subentry_id, self._subentry.title, self._subentry.data)

    def _checked(
        self,
        step_id: str,
        schema: probatio.Schema,
        answers: Mapping[str, Any],
        changes: Mapping[str, Any],
        placeholders: Mapping[str, str] | None = None,
    ) -> SubentryFlowResult:
        """Save changes that make sense, or show the form again with what does not."""
        try:
            Zone.from_dict(self._subentry.subentry_id, self._subentry.title, {**self._subentry.data, **changes})
        except RegistryError as error:
            errors = {f"{error.field}{_LOW}": "lowest_above_highest"} if error.field else {"base": error.code.value}
            return self._form(step_id, schema, answers, errors, placeholders)
        return self._save(title=self._subentry.title, changes=changes)

    def _save(self, *, title: str, changes: Mapping[str, Any]) -> SubentryFlowResult:
        hub_of_flow(self.hass)
        data = {**self._subentry.data, **changes}
        return self.async_update_and_abort(
            self._get_entry(), self._subentry, title=title, data=data, reason="reconfigure_successful"
        )

    def _name_errors(self, user_input: dict[str, Any] | None, own_id: str | None = None) -> dict[str, str]:
        if user_input is None:
            return {}
        name = user_input[CONF_NAME].strip().casefold()
        if not name:
            return {CONF_NAME: "name_missing"}
        taken = {
            subentry.title.casefold()
            for subentry in self._get_entry().subentries.values()
            if subentry.subentry_type == SUBENTRY_ZONE and subentry.subentry_id != own_id
        }
        return {CONF_NAME: "zone_exists"} if name in taken else {}


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"


def _seconds(clock: str) -> float:
    time = dt_util.parse_time(clock)
    if time is None:
        return -1.0
    return time.hour * 3600.0 + time.minute * 60.0 + time.second
