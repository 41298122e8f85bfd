"""Subentry flow of a zone: a tent, a bed, a room."""

from collections.abc import Mapping
from typing import Any, Final

from homeassistant.config_entries import ConfigSubentryFlow, SubentryFlowResult
from homeassistant.const import CONF_NAME
from homeassistant.helpers.selector import SelectSelector, SelectSelectorConfig, TextSelector
import probatio

from .const import CONF_STAGE, STAGES, SUBENTRY_ZONE

_ZONE: Final = probatio.Schema(
    {
        probatio.Required(CONF_NAME): TextSelector(),
        probatio.Required(CONF_STAGE, default=STAGES[0]): SelectSelector(
            SelectSelectorConfig(options=list(STAGES), translation_key="stage")
        ),
    }
)


class ZoneFlow(ConfigSubentryFlow):
    """Add or change a zone."""

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for the name and the growth stage."""
        errors = self._errors(user_input)
        if user_input is None or errors:
            return self._form("user", user_input or {}, errors)
        return self.async_create_entry(title=user_input[CONF_NAME].strip(), data={CONF_STAGE: user_input[CONF_STAGE]})

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change the name or the growth stage."""
        subentry = self._get_reconfigure_subentry()
        errors = self._errors(user_input, subentry.subentry_id)
        if user_input is None or errors:
            return self._form("reconfigure", user_input or {CONF_NAME: subentry.title, **subentry.data}, errors)
        data = {CONF_STAGE: user_input[CONF_STAGE]}
        return self.async_update_and_abort(self._get_entry(), subentry, title=user_input[CONF_NAME].strip(), data=data)

    def _errors(self, user_input: dict[str, Any] | None, own_id: str | None = None) -> dict[str, str]:
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

    def _form(self, step_id: str, values: Mapping[str, Any], errors: dict[str, str]) -> SubentryFlowResult:
        return self.async_show_form(
            step_id=step_id, data_schema=self.add_suggested_values_to_schema(_ZONE, values), errors=errors
        )
