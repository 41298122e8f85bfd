"""Subentry flow of a device: enrol, change, rotate, disable, revoke."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from homeassistant.config_entries import ConfigEntryState, SubentryFlowResult
from homeassistant.const import CONF_NAME, UnitOfTemperature
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
    TextSelectorConfig,
)
from homeassistant.util import slugify
import probatio

from .const import (
    CONF_ACTUATORS,
    CONF_AUTH,
    CONF_DEVICE_ID,
    CONF_METRICS,
    CONF_PUBLIC_KEY,
    CONF_RATE_LIMIT,
    CONF_ZONE,
    SUBENTRY_ZONE,
)
from .enrolment import Choices
from .gateway.actuators import Actuator, Role
from .gateway.catalog import CATALOG, Metric
from .gateway.errors import Code, RegistryError
from .gateway.models import Algorithm, Device, DeviceStatus, Range
from .gateway.registry import DEFAULT_RATE_LIMIT, MAX_RATE_LIMIT
from .gateway.topics import DEVICE_ID_PATTERN
from .hub import GrokmonHub
from .onboarding import instructions, settings_of
from .output_steps import OutputSteps, actuator_selector
from .store import SecurityRecord

CONF_TEMPLATE: Final = "template"
CONF_METRIC: Final = "metric"
CONF_LOW: Final = "low"
CONF_HIGH: Final = "high"

# A node's temperatures are in the unit of the house.
TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "climate": ("temp_{t}", "humidity_percent", "co2_ppm", "rssi_dbm"),
    "soil": ("soil_moisture_percent", "soil_temp_{t}", "ec_ms_cm", "vbat", "rssi_dbm"),
    "safety": ("smoke", "leak", "tamper", "mains_power", "rssi_dbm"),
    "actuators": ("power_w", "rssi_dbm"),
    "custom": (),
}
# The outputs that a kind of node usually drives.
ROLES_OF: Final[Mapping[str, list[str]]] = {"actuators": [Role.GROW_LIGHT.value, Role.EXHAUST.value]}

# Flows are open to administrators only; Home Assistant does not tell a flow which one it is.
_ACTOR: Final = "administrator"


def _metric_selector(names: list[str], *, multiple: bool) -> SelectSelector:
    return SelectSelector(
        SelectSelectorConfig(
            options=names, multiple=multiple, mode=SelectSelectorMode.DROPDOWN, translation_key="metric"
        )
    )


def _number() -> NumberSelector:
    return NumberSelector(NumberSelectorConfig(step="any", mode=NumberSelectorMode.BOX))


_IDENTITY: Final = probatio.Schema(
    {
        probatio.Required(CONF_DEVICE_ID): TextSelector(),
        probatio.Required(CONF_TEMPLATE, default="climate"): SelectSelector(
            SelectSelectorConfig(options=list(TEMPLATES), translation_key="template")
        ),
    }
)
_METRICS: Final = probatio.Schema({probatio.Required(CONF_METRICS): _metric_selector(list(CATALOG), multiple=True)})
_ACTUATORS: Final = probatio.Schema(
    {probatio.Optional(CONF_ACTUATORS, default=[]): actuator_selector([role.value for role in Role], multiple=True)}
)
_PUBLIC_KEY: Final = probatio.Schema(
    {probatio.Optional(CONF_PUBLIC_KEY): TextSelector(TextSelectorConfig(multiline=True))}
)
_AUTH: Final = probatio.Schema(
    {
        probatio.Required(CONF_AUTH, default="hs256"): SelectSelector(
            SelectSelectorConfig(options=[algorithm.name.lower() for algorithm in Algorithm], translation_key="auth")
        ),
    }
).extend(_PUBLIC_KEY.schema)
_RANGE: Final = probatio.Schema({probatio.Required(CONF_LOW): _number(), probatio.Required(CONF_HIGH): _number()})
_RATE_LIMIT: Final = probatio.Schema(
    {
        probatio.Required(CONF_RATE_LIMIT, default=DEFAULT_RATE_LIMIT): probatio.All(
            NumberSelector(NumberSelectorConfig(min=1, max=MAX_RATE_LIMIT, step=1, mode=NumberSelectorMode.BOX)),
            probatio.Coerce(int),
        )
    }
)


class DeviceFlow(OutputSteps):
    """Enrol a device, or change one."""

    def __init__(self) -> None:
        super().__init__()
        self._choices: dict[str, Any] = {}
        self._metric = ""
        self._record: SecurityRecord | None = None
        self._instructions: dict[str, str] = {}

    # Enrolment, step by step

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for the name and the zone."""
        if self._get_entry().state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="not_loaded")
        errors: dict[str, str] = {}
        if user_input is not None:
            if user_input[CONF_NAME].strip():
                self._choices = user_input
                return await self.async_step_identity()
            errors[CONF_NAME] = "name_missing"
        return self._form("user", self._name_and_zone(), user_input, errors)

    async def async_step_identity(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for the identifier and for what the device is."""
        errors: dict[str, str] = {}
        if user_input is not None:
            device_id = user_input[CONF_DEVICE_ID]
            if DEVICE_ID_PATTERN.fullmatch(device_id) is None:
                errors[CONF_DEVICE_ID] = "device_id_invalid"
            elif device_id in self._hub.gateway.registry:
                errors[CONF_DEVICE_ID] = "device_exists"
            else:
                self._choices |= user_input
                return await self.async_step_metrics()
        suggested = {CONF_DEVICE_ID: slugify(self._choices[CONF_NAME], separator="-")[:32].strip("-")}
        return self._form("identity", _IDENTITY, user_input or suggested, errors)

    async def async_step_metrics(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for the metrics that the device may report, and the outputs that it drives."""
        errors: dict[str, str] = {}
        if user_input is not None:
            if user_input[CONF_METRICS] or user_input[CONF_ACTUATORS]:
                self._choices |= user_input
                return await self.async_step_auth()
            errors[CONF_METRICS] = "field_missing"
        unit = "c" if self.hass.config.units.temperature_unit == UnitOfTemperature.CELSIUS else "f"
        template = [name.format(t=unit) for name in TEMPLATES[self._choices[CONF_TEMPLATE]]]
        usual = {CONF_METRICS: template, CONF_ACTUATORS: ROLES_OF.get(self._choices[CONF_TEMPLATE], [])}
        return self._form("metrics", _METRICS.extend(_ACTUATORS.schema), user_input or usual, errors)

    async def async_step_auth(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask how the device authenticates, and prepare its credential."""
        errors: dict[str, str] = {}
        if user_input is not None:
            choices = self._enrolled_choices()
            algorithm = Algorithm[user_input[CONF_AUTH].upper()]
            try:
                self._record = self._hub.enrolment.prepare(choices, algorithm, user_input.get(CONF_PUBLIC_KEY, ""))
            except RegistryError as error:
                errors[CONF_PUBLIC_KEY if error.code is Code.PUBLIC_KEY_INVALID else "base"] = error.code.value
            else:
                self._show(choices.device(self._record))
                return await self.async_step_credentials()
        return self._form("auth", _AUTH, user_input, errors)

    async def async_step_credentials(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Show the credentials; the device is enrolled when the user has taken them."""
        if user_input is None or self._record is None:
            return self._shown("credentials")
        # Taken away before the wait for the disk: a second click must not find it.
        record, self._record = self._record, None
        choices = self._enrolled_choices()
        try:
            await self._hub.enrolment.async_admit(choices, record, _ACTOR)
        except RegistryError:
            self._forget()
            return self.async_abort(reason="already_configured")
        except HomeAssistantError:
            self._record = record
            return self._shown("credentials", {"base": "store_not_written"})
        self._forget()
        return self.async_create_entry(title=choices.name, data=choices.as_data(), unique_id=choices.device_id)

    # Changes

    async def async_step_reconfigure(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask what to change."""
        if self._get_entry().state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="not_loaded")
        if self._device_id not in self._hub.gateway.registry:
            return self.async_abort(reason="credential_missing")
        status = self._hub.gateway.registry[self._device_id].status
        options = ["settings", "ranges", "outputs"]
        if self._subentry_choices().actuators:
            options.append("output")
        if status is DeviceStatus.ACTIVE:
            options += ["rotate", "disable", "revoke"]
        elif status is DeviceStatus.DISABLED:
            options += ["rotate", "enable", "revoke"]
        return self.async_show_menu(
            step_id="reconfigure",
            menu_options=options,
            description_placeholders={"name": self._subentry_choices().name, "status": status.value},
        )

    async def async_step_settings(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change name, zone, metrics and rate limit."""
        choices = self._subentry_choices()
        errors: dict[str, str] = {}
        if user_input is not None:
            if not user_input[CONF_NAME].strip():
                errors[CONF_NAME] = "name_missing"
            elif not user_input[CONF_METRICS] and not choices.actuators:
                errors[CONF_METRICS] = "field_missing"
            else:
                metrics = frozenset(user_input[CONF_METRICS])
                return self._change(
                    replace(
                        choices,
                        name=user_input[CONF_NAME].strip(),
                        zone=user_input.get(CONF_ZONE),
                        metrics=metrics,
                        ranges={name: chosen for name, chosen in choices.ranges.items() if name in metrics},
                        rate_limit=user_input[CONF_RATE_LIMIT],
                    )
                )
        schema = self._name_and_zone().extend(_METRICS.schema).extend(_RATE_LIMIT.schema)
        current = {CONF_NAME: choices.name, **choices.as_data()}
        return self._form("settings", schema, user_input or current, errors)

    async def async_step_ranges(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask which metric's plausible range to change."""
        if user_input is not None:
            self._metric = user_input[CONF_METRIC]
            return await self.async_step_range()
        numbers = sorted(name for name in self._subentry_choices().metrics if not CATALOG[name].is_boolean)
        if not numbers:
            return self.async_abort(reason="no_ranges")
        schema = probatio.Schema(
            {probatio.Required(CONF_METRIC, default=numbers[0]): _metric_selector(numbers, multiple=False)}
        )
        return self._form("ranges", schema, None, {})

    async def async_step_range(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change the plausible range of a metric."""
        choices = self._subentry_choices()
        metric = CATALOG[self._metric]
        errors: dict[str, str] = {}
        if user_input is not None:
            chosen = Range(user_input[CONF_LOW], user_input[CONF_HIGH])
            changed = replace(choices, ranges={**choices.ranges, metric.name: chosen})
            try:
                self._hub.enrolment.check(changed)
            except RegistryError as error:
                errors["base"] = error.code.value
            else:
                return self._change(changed)
        current = choices.ranges.get(metric.name) or metric.plausible or metric.hard
        suggested = {CONF_LOW: current.low, CONF_HIGH: current.high} if current is not None else {}
        return self._form("range", _RANGE, user_input or suggested, errors, _range_placeholders(metric))

    async def async_step_rotate(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Give the device a new credential."""
        device = self._hub.gateway.registry[self._device_id]
        errors: dict[str, str] = {}
        if user_input is not None:
            public_key = user_input.get(CONF_PUBLIC_KEY, "")
            try:
                rotated = await self._hub.enrolment.async_rotate(self._device_id, public_key, _ACTOR)
            except RegistryError as error:
                errors["base"] = error.code.value
            except HomeAssistantError:
                errors["base"] = "store_not_written"
            else:
                self._show(rotated)
                return self._shown("rotated")
        schema = probatio.Schema({}) if device.credential.algorithm is Algorithm.HS256 else _PUBLIC_KEY
        return self._form("rotate", schema, user_input, errors, {"name": device.name})

    async def async_step_rotated(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """End after the new credentials were shown."""
        self._forget()
        return self.async_abort(reason="rotated")

    async def async_step_disable(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Refuse the device for now."""
        return await self._set_status("disable", DeviceStatus.DISABLED, user_input)

    async def async_step_enable(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Let the device in again."""
        return await self._set_status("enable", DeviceStatus.ACTIVE, user_input)

    async def async_step_revoke(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Refuse the device for good, and destroy its key."""
        return await self._set_status("revoke", DeviceStatus.REVOKED, user_input)

    @property
    def _hub(self) -> GrokmonHub:
        hub: GrokmonHub = self._get_entry().runtime_data
        return hub

    @property
    def _device_id(self) -> str:
        device_id: str = self._get_reconfigure_subentry().data[CONF_DEVICE_ID]
        return device_id

    def _enrolled_choices(self) -> Choices:
        return Choices(
            device_id=self._choices[CONF_DEVICE_ID],
            name=self._choices[CONF_NAME].strip(),
            zone=self._choices.get(CONF_ZONE),
            metrics=frozenset(self._choices[CONF_METRICS]),
            ranges={},
            actuators=tuple(Actuator(name=role, role=Role(role)) for role in self._choices[CONF_ACTUATORS]),
        )

    def _name_and_zone(self) -> probatio.Schema:
        zones = [
            SelectOptionDict(value=subentry.subentry_id, label=subentry.title)
            for subentry in self._get_entry().subentries.values()
            if subentry.subentry_type == SUBENTRY_ZONE
        ]
        fields: dict[probatio.Marker, Any] = {probatio.Required(CONF_NAME): TextSelector()}
        if zones:
            fields[probatio.Optional(CONF_ZONE)] = SelectSelector(SelectSelectorConfig(options=zones))
        return probatio.Schema(fields)

    async def _set_status(
        self, step_id: str, status: DeviceStatus, user_input: dict[str, Any] | None
    ) -> SubentryFlowResult:
        errors: dict[str, str] = {}
        if user_input is not None:
            try:
                await self._hub.enrolment.async_set_status(self._device_id, status, _ACTOR)
            except RegistryError as error:
                errors["base"] = error.code.value
            except HomeAssistantError:
                errors["base"] = "store_not_written"
            else:
                return self.async_abort(reason=status.value)
        return self._form(step_id, probatio.Schema({}), None, errors, {"name": self._subentry_choices().name})

    def _show(self, device: Device) -> None:
        settings = settings_of(device, self._hub.prefix, self._hub.gateway.site_keys)
        self._instructions = instructions(device, settings)

    def _shown(self, step_id: str, errors: dict[str, str] | None = None) -> SubentryFlowResult:
        return self.async_show_form(
            step_id=step_id,
            data_schema=probatio.Schema({}),
            errors=errors,
            description_placeholders=self._instructions,
        )

    def _forget(self) -> None:
        self._record = None
        self._instructions = {}


def _range_placeholders(metric: Metric) -> dict[str, str]:
    hard = metric.hard
    return {
        "metric": metric.name,
        "unit": metric.unit or "",
        "low": f"{hard.low:g}" if hard else "",
        "high": f"{hard.high:g}" if hard else "",
    }
