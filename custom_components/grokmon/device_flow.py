"""Subentry flow of a device: enrol, change, rotate, disable, revoke."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from homeassistant.config_entries import SubentryFlowResult
from homeassistant.const import CONF_NAME, UnitOfTemperature
from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)
from homeassistant.util import slugify
import probatio

from .access import hub_of_flow
from .const import (
    CONF_ACTUATORS,
    CONF_DEVICE_ID,
    CONF_METRICS,
    CONF_RATE_LIMIT,
    CONF_ZONE,
    SUBENTRY_ZONE,
)
from .credential_steps import CredentialSteps
from .forms import label, number
from .gateway.actuators import Role
from .gateway.catalog import CATALOG, Metric
from .gateway.errors import RegistryError
from .gateway.models import DEFAULT_RATE_LIMIT, Auth, DeviceStatus, Range
from .gateway.registry import MAX_RATE_LIMIT
from .gateway.topics import DEVICE_ID_PATTERN
from .output_steps import actuator_selector

CONF_TEMPLATE: Final = "template"
CONF_METRIC: Final = "metric"
CONF_LOW: Final = "low"
CONF_HIGH: Final = "high"

# A node's temperatures are in the unit of the house; but what the examples send is the same everywhere.
TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "climate": ("temp_c", "humidity_percent"),
    "soil": ("soil_moisture_percent", "soil_temp_{t}", "ec_ms_cm", "vbat", "rssi_dbm"),
    "safety": ("smoke", "leak", "tamper", "mains_power", "rssi_dbm"),
    "actuators": ("power_w", "rssi_dbm"),
    "custom": (),
}
# The outputs that a kind of node usually drives.
ROLES_OF: Final[Mapping[str, list[str]]] = {"actuators": [Role.GROW_LIGHT.value, Role.EXHAUST.value]}


def metric_selector(names: list[str], *, multiple: bool) -> SelectSelector:
    """Return a selector of metrics."""
    return SelectSelector(
        SelectSelectorConfig(
            options=names, multiple=multiple, mode=SelectSelectorMode.DROPDOWN, translation_key="metric"
        )
    )


_IDENTITY: Final = probatio.Schema(
    {
        probatio.Required(CONF_DEVICE_ID): TextSelector(),
        probatio.Required(CONF_TEMPLATE, default="climate"): SelectSelector(
            SelectSelectorConfig(options=list(TEMPLATES), translation_key="template")
        ),
    }
)
_METRICS: Final = probatio.Schema({probatio.Required(CONF_METRICS): metric_selector(list(CATALOG), multiple=True)})
_ACTUATORS: Final = probatio.Schema(
    {probatio.Optional(CONF_ACTUATORS, default=[]): actuator_selector([role.value for role in Role], multiple=True)}
)
_RATE_LIMIT: Final = probatio.Schema(
    {
        probatio.Required(CONF_RATE_LIMIT, default=DEFAULT_RATE_LIMIT): probatio.All(
            number(1, MAX_RATE_LIMIT, whole=True), probatio.Coerce(int)
        )
    }
)


class DeviceFlow(CredentialSteps):
    """Enrol a device, or change one."""

    def __init__(self) -> None:
        super().__init__()
        self._metric = ""

    # Enrolment, step by step

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for the name and the zone."""
        hub_of_flow(self.hass)
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
            if DEVICE_ID_PATTERN.fullmatch(device_id) is None or self._hub.enrolment.is_reserved(device_id):
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

    # Changes

    async def async_step_reconfigure(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask what to change."""
        if self._device_id not in self._hub.gateway.registry:
            return self.async_abort(reason="credential_missing")
        device = self._hub.gateway.registry[self._device_id]
        status = device.status
        options = ["settings", "ranges"]
        # Nobody else can be sent a command.
        if device.auth is Auth.SIGNED:
            options.append("outputs")
        if self._subentry_choices().actuators:
            options.append("output")
        if status is not DeviceStatus.REVOKED:
            options.append("rotate")
            if self._hub.trust.credentials.can_restore(device):
                options.append("restore")
            options += ["disable" if status is DeviceStatus.ACTIVE else "enable", "revoke"]
        return self.async_show_menu(
            step_id="reconfigure",
            menu_options=options,
            description_placeholders={
                "name": self._subentry_choices().name,
                "status": await label(self.hass, "status", status),
            },
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
        if choices.zone not in self._get_entry().subentries:
            # It was deleted: to suggest it would be to refuse the form.
            current[CONF_ZONE] = None
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
            {probatio.Required(CONF_METRIC, default=numbers[0]): metric_selector(numbers, multiple=False)}
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
        placeholders = _range_placeholders(metric, await label(self.hass, CONF_METRIC, metric.name))
        return self._form("range", _range_schema(metric), user_input or suggested, errors, placeholders)

    def _name_and_zone(self) -> probatio.Schema:
        zones = [
            SelectOptionDict(value=subentry.subentry_id, label=subentry.title)
            for subentry in self._get_entry().subentries.values()
            if subentry.subentry_type == SUBENTRY_ZONE
        ]
        fields: dict[probatio.Marker, Any] = {probatio.Required(CONF_NAME): TextSelector()}
        if zones:
            fields[probatio.Optional(CONF_ZONE)] = SelectSelector(
                # Radio buttons could not be emptied again.
                SelectSelectorConfig(options=zones, mode=SelectSelectorMode.DROPDOWN)
            )
        return probatio.Schema(fields)


def _range_schema(metric: Metric) -> probatio.Schema:
    """Return the form for a range. What is possible is not held by its fields: an error says more."""
    config = NumberSelectorConfig(step="any", mode=NumberSelectorMode.BOX)
    if metric.unit is not None:
        # A selector takes no None for it.
        config["unit_of_measurement"] = metric.unit
    field = NumberSelector(config)
    return probatio.Schema({probatio.Required(CONF_LOW): field, probatio.Required(CONF_HIGH): field})


def _range_placeholders(metric: Metric, name: str) -> dict[str, str]:
    hard = metric.hard
    return {
        "metric": name,
        "unit": metric.unit or "",
        "low": f"{hard.low:g}" if hard else "",
        "high": f"{hard.high:g}" if hard else "",
    }
