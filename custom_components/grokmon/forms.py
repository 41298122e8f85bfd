"""What more than one form has."""

from collections.abc import Mapping
from typing import Any

from homeassistant.config_entries import ConfigSubentryFlow, SubentryFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    QrCodeSelector,
    QrCodeSelectorConfig,
    QrErrorCorrectionLevel,
)
from homeassistant.helpers.translation import async_get_translations
import probatio

from .const import DOMAIN


class Forms(ConfigSubentryFlow):
    """A flow of a subentry, whose forms begin with what was answered before, or with what holds."""

    def _form(
        self,
        step_id: str,
        schema: probatio.Schema,
        values: Mapping[str, Any] | None,
        errors: dict[str, str],
        placeholders: Mapping[str, str] | None = None,
    ) -> SubentryFlowResult:
        return self.async_show_form(
            step_id=step_id,
            data_schema=self.add_suggested_values_to_schema(schema, values),
            errors=errors,
            description_placeholders=placeholders,
        )


def number(low: float, high: float, unit: str | None = None, *, whole: bool = False) -> NumberSelector:
    """Return a field for a number."""
    config = NumberSelectorConfig(min=low, max=high, step=1 if whole else "any", mode=NumberSelectorMode.BOX)
    if unit is not None:
        # A selector takes no None for it.
        config["unit_of_measurement"] = unit
    return NumberSelector(config)


async def label(hass: HomeAssistant, selector: str, value: str) -> str:
    """Return what a selector calls a choice, in the language of the house; what has no name there is as it is."""
    labels = await async_get_translations(hass, hass.config.language, "selector", [DOMAIN])
    return labels.get(f"component.{DOMAIN}.selector.{selector}.options.{value}", value)


def qr_code(text: str) -> QrCodeSelector:
    """Return a field that shows a text as a QR code: what a camera reads instead of a person."""
    return QrCodeSelector(
        QrCodeSelectorConfig(data=text, scale=5, error_correction_level=QrErrorCorrectionLevel.MEDIUM)
    )
