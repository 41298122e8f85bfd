"""Options: what holds for all devices, for classes of callers, and for the audit trail."""

from typing import Any, Final

from homeassistant.config_entries import (
    ConfigFlowResult,
    OptionsFlow,
)
from homeassistant.const import UnitOfTime, UnitOfVolume
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.selector import (
    BooleanSelector,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
)
import probatio

from .access import hub_of_flow
from .anchors import problems
from .audit_form import AUDIT_FIELDS, AUDIT_OPTIONS, async_new_key_form
from .broker.address import CONF_ADMIN
from .broker_form import BROKER_OPTIONS, problems_of, split_secrets
from .const import (
    CONF_AI_USERS,
    CONF_BROKER,
    CONF_HTTP_ENROLMENT,
    CONF_HTTP_INGEST,
    CONF_LIMITS,
    CONF_NOTIFY,
    CONF_STALE_AFTER,
    DEFAULT_STALE_AFTER,
)
from .forms import label, number
from .gateway.policy import LIMITS, limits_from
from .gateway.principals import Caller

CONF_CALLER: Final = "caller"
_NOT_TO_A_PHONE: Final = frozenset({"notify", "persistent_notification", "send_message"})

_GENERAL: Final = probatio.Schema(
    {
        probatio.Required(CONF_STALE_AFTER, default=DEFAULT_STALE_AFTER): probatio.All(
            number(30, 86_400, UnitOfTime.SECONDS, whole=True), probatio.Coerce(int)
        ),
    }
)
_HTTP: Final = probatio.Schema(
    {
        probatio.Required(CONF_HTTP_INGEST, default=False): BooleanSelector(),
        probatio.Required(CONF_HTTP_ENROLMENT, default=False): BooleanSelector(),
    }
)
_CLASSES: Final = tuple(caller.value for caller in LIMITS)
_OPTIONAL: Final = frozenset({"day_ml"})

_LIMIT_FIELDS: Final = {
    "rate": probatio.All(number(1, 600, whole=True), probatio.Coerce(int)),
    "hold_s": number(0, 86_400, UnitOfTime.SECONDS),
    "max_percent": number(0, 100, "%"),
    "min_dose_ml": number(0, 1000, UnitOfVolume.MILLILITERS),
    "max_dose_ml": number(0, 1000, UnitOfVolume.MILLILITERS),
    "day_ml": number(0, 1_000_000, UnitOfVolume.MILLILITERS),
    "min_inject_s": number(0, 120, UnitOfTime.SECONDS),
    "max_inject_s": number(0, 120, UnitOfTime.SECONDS),
}
_LIMITS: Final = probatio.Schema(
    {
        (probatio.Optional if name in _OPTIONAL else probatio.Required)(name): selector
        for name, selector in _LIMIT_FIELDS.items()
    }
)


class GrokmonOptionsFlow(OptionsFlow):
    """Change what holds for all devices, and for classes of callers."""

    def __init__(self) -> None:
        super().__init__()
        self._caller = Caller.AI
        self._secrets: dict[str, str] = {}

    async def async_step_init(self, _user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask what to change."""
        hub_of_flow(self.hass)
        return self.async_show_menu(
            step_id="init", menu_options=["general", "ai_users", "limits", "broker", "http", "audit", "audit_key"]
        )

    async def async_step_general(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for what holds for the room as a whole."""
        if user_input is not None:
            kept = {name: value for name, value in self.config_entry.options.items() if name != CONF_NOTIFY}
            return self._save(kept | user_input)
        # One that is away just now stays chosen.
        chosen = {self.config_entry.options[CONF_NOTIFY]} if CONF_NOTIFY in self.config_entry.options else set()
        actions = self.hass.services.async_services_for_domain("notify").keys() - _NOT_TO_A_PHONE
        config = SelectSelectorConfig(options=sorted(actions | chosen), mode=SelectSelectorMode.DROPDOWN)
        general = _GENERAL.extend({probatio.Optional(CONF_NOTIFY): SelectSelector(config)})
        schema = self.add_suggested_values_to_schema(general, self.config_entry.options)
        return self.async_show_form(step_id="general", data_schema=schema)

    async def async_step_ai_users(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask which users act for an AI."""
        if user_input is not None:
            return self._save({**self.config_entry.options, **user_input})
        users = [
            SelectOptionDict(value=user.id, label=user.name or user.id)
            for user in await self.hass.auth.async_get_users()
            if not user.system_generated
        ]
        fields = {
            probatio.Required(CONF_AI_USERS, default=[]): SelectSelector(
                SelectSelectorConfig(options=users, multiple=True)
            )
        }
        there = {user["value"] for user in users}
        chosen = [each for each in self.config_entry.options.get(CONF_AI_USERS, ()) if each in there]
        schema = self.add_suggested_values_to_schema(probatio.Schema(fields), {CONF_AI_USERS: chosen})
        return self.async_show_form(step_id="ai_users", data_schema=schema)

    async def async_step_audit(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask how long the audit trail is kept, and where its checkpoints go."""
        errors = problems(user_input or {})
        if user_input is not None and not errors:
            kept = {name: value for name, value in self.config_entry.options.items() if name not in AUDIT_FIELDS}
            return self._save(kept | user_input)
        schema = self.add_suggested_values_to_schema(AUDIT_OPTIONS, user_input or self.config_entry.options)
        return self.async_show_form(step_id="audit", data_schema=schema, errors=errors)

    async def async_step_audit_key(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask before the audit trail gets a new key."""
        if user_input is None:
            return self.async_show_form(step_id="audit_key", data_schema=probatio.Schema({}))
        hub = hub_of_flow(self.hass)
        try:
            form = await async_new_key_form(hub.audit)
        except OSError:
            return self.async_abort(reason="not_written")
        return self.async_show_form(step_id="key", **form)

    async def async_step_key(self, _user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """End: the key is not shown again."""
        hub_of_flow(self.hass).keeper.async_key_seen()
        return self._save(dict(self.config_entry.options))

    async def async_step_broker(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask how devices come by accounts at the broker, and where it is."""
        hub = hub_of_flow(self.hass)
        errors = problems_of(user_input or {})
        chosen, secrets = split_secrets(user_input or {})
        if chosen.get(CONF_ADMIN) in hub.gateway.registry:
            # Whoever has the certificate of that device would be the administrator.
            errors[CONF_ADMIN] = "admin_is_device"
        # A password does not come back in a form, and counts all the same.
        self._secrets |= secrets
        if user_input is not None and not errors:
            try:
                await hub.trust.async_keep_passwords(self._secrets)
            except HomeAssistantError:
                errors["base"] = "store_not_written"
            else:
                return self._save({**self.config_entry.options, CONF_BROKER: chosen})
        shown = chosen or self.config_entry.options.get(CONF_BROKER, {})
        schema = self.add_suggested_values_to_schema(BROKER_OPTIONS, shown)
        return self.async_show_form(step_id="broker", data_schema=schema, errors=errors)

    async def async_step_http(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask what devices may reach over HTTP."""
        if user_input is not None:
            return self._save({**self.config_entry.options, **user_input})
        schema = self.add_suggested_values_to_schema(_HTTP, self.config_entry.options)
        return self.async_show_form(step_id="http", data_schema=schema)

    async def async_step_limits(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask which class of callers to limit."""
        if user_input is not None:
            self._caller = Caller(user_input[CONF_CALLER])
            return await self.async_step_caller()
        selector = SelectSelector(SelectSelectorConfig(options=list(_CLASSES), translation_key="caller"))
        schema = probatio.Schema({probatio.Required(CONF_CALLER, default=Caller.AI.value): selector})
        return self.async_show_form(step_id="limits", data_schema=schema)

    async def async_step_caller(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change the limits of a class of callers."""
        limits = self.config_entry.options.get(CONF_LIMITS, {})
        errors: dict[str, str] = {}
        if user_input is not None:
            answers = {name: user_input.get(name) for name in _LIMIT_FIELDS}
            for what in ("dose_ml", "inject_s"):
                if user_input[f"min_{what}"] > user_input[f"max_{what}"]:
                    errors[f"min_{what}"] = "lowest_above_highest"
            if not errors:
                changed = {**limits, self._caller.value: answers}
                return self._save({**self.config_entry.options, CONF_LIMITS: changed})
        current = limits_from(limits)[self._caller]
        shown = {name: value for name in _LIMIT_FIELDS if (value := getattr(current, name)) is not None}
        return self.async_show_form(
            step_id="caller",
            data_schema=self.add_suggested_values_to_schema(_LIMITS, user_input or shown),
            errors=errors,
            description_placeholders={"caller": await label(self.hass, "caller", self._caller)},
        )

    def _save(self, options: dict[str, Any]) -> ConfigFlowResult:
        hub_of_flow(self.hass)
        return self.async_create_entry(data=options)
