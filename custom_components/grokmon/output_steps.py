"""Steps of the device flow that are about outputs: which there are, and their limits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from homeassistant.config_entries import SubentryFlowResult
from homeassistant.helpers.selector import SelectSelector, SelectSelectorConfig, SelectSelectorMode
import probatio

from .access import hub_of_flow
from .actuator_form import PROBLEMS, changed_actuator, limits_of, limits_schema
from .choices import Choices
from .const import CONF_ACTUATORS
from .forms import Forms, label
from .gateway.actuators import Actuator, Role
from .gateway.errors import RegistryError

CONF_ACTUATOR: Final = "actuator"


def actuator_selector(names: list[str], *, multiple: bool) -> SelectSelector:
    """Return a selector of outputs."""
    return SelectSelector(
        SelectSelectorConfig(
            options=names, multiple=multiple, mode=SelectSelectorMode.DROPDOWN, translation_key="actuator"
        )
    )


class OutputSteps(Forms):
    """Change the outputs of a device."""

    def __init__(self) -> None:
        super().__init__()
        self._actuator = ""

    async def async_step_outputs(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change which outputs the device drives; those that stay keep their limits."""
        choices = self._subentry_choices()
        known = {actuator.name: actuator for actuator in choices.actuators}
        if user_input is not None:
            names: list[str] = user_input[CONF_ACTUATORS]
            if not names and not choices.metrics:
                return self._form("outputs", self._outputs_schema(known), user_input, {CONF_ACTUATORS: "field_missing"})
            actuators = [known.get(name) or Actuator(name=name, role=Role(name)) for name in names]
            return self._change(replace(choices, actuators=tuple(actuators)))
        return self._form("outputs", self._outputs_schema(known), {CONF_ACTUATORS: list(known)}, {})

    async def async_step_output(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask which output's limits to change."""
        if user_input is not None:
            self._actuator = user_input[CONF_ACTUATOR]
            return await self.async_step_limits()
        names = [actuator.name for actuator in self._subentry_choices().actuators]
        schema = probatio.Schema(
            {probatio.Required(CONF_ACTUATOR, default=names[0]): actuator_selector(names, multiple=False)}
        )
        return self._form("output", schema, None, {})

    async def async_step_limits(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change the limits of an output."""
        choices = self._subentry_choices()
        actuator = next(each for each in choices.actuators if each.name == self._actuator)
        errors: dict[str, str] = {}
        if user_input is not None:
            try:
                changed = changed_actuator(actuator, user_input)
            except RegistryError as error:
                errors[error.field or "base"] = PROBLEMS.get(error.field, error.code.value)
            else:
                actuators = tuple(changed if each.name == changed.name else each for each in choices.actuators)
                return self._change(replace(choices, actuators=actuators))
        schema = limits_schema(actuator)
        placeholders = {"actuator": await label(self.hass, "actuator", actuator.name)}
        return self._form("limits", schema, user_input or limits_of(actuator), errors, placeholders)

    @staticmethod
    def _outputs_schema(known: Mapping[str, Actuator]) -> probatio.Schema:
        names = [*known, *(role.value for role in Role if role.value not in known)]
        return probatio.Schema({probatio.Required(CONF_ACTUATORS): actuator_selector(names, multiple=True)})

    def _subentry_choices(self) -> Choices:
        return Choices.from_subentry(self._get_reconfigure_subentry())

    def _change(self, choices: Choices) -> SubentryFlowResult:
        hub_of_flow(self.hass)
        return self.async_update_and_abort(
            self._get_entry(),
            self._get_reconfigure_subentry(),
            title=choices.name,
            data=choices.as_data(),
            reason="reconfigure_successful",
        )
