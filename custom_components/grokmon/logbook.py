"""The logbook: decisions in plain words: who, what, why."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from homeassistant.components.logbook.const import (
    LOGBOOK_ENTRY_ENTITY_ID,
    LOGBOOK_ENTRY_MESSAGE,
    LOGBOOK_ENTRY_NAME,
)
from homeassistant.const import ATTR_ENTITY_ID
from homeassistant.core import Event, HomeAssistant, callback

from .const import DOMAIN, EVENT_DECISION
from .decisions import WORDS, in_words

_NAME: Final = "Audit trail"
_CALLERS: Final = {"ai": "The AI", "voice": "A voice", "system": "Grok & Mon", "automation": "An automation"}


@callback
def async_describe_events(
    hass: HomeAssistant,
    async_describe_event: Callable[[str, str, Callable[[Event], dict[str, Any]]], None],
) -> None:
    """Describe decisions."""

    @callback
    def describe(event: Event) -> dict[str, Any]:
        data = event.data
        # The hub tells in nobody's name. An app on a phone may send any event, in the name of its user.
        if getattr(event, "context_user_id", None) is not None:
            return {LOGBOOK_ENTRY_NAME: _NAME, LOGBOOK_ENTRY_MESSAGE: "knows nothing of what an app told here"}
        words = WORDS.get(data["action"], data["action"])
        facts = {
            "name": data.get("name", ""),
            "what": " ".join(part for part in (data.get("name"), data.get("actuator")) if part).replace("_", " "),
            "params": in_words(data.get("params", {})),
            "why": str(data.get("detail") or data.get("reason", "")).replace("_", " "),
            "reason": data.get("reason", "").replace("_", " "),
            "detail": data.get("detail", ""),
        }
        message = " ".join(part for part in (_who(hass, data), words.format_map(facts)) if part)
        if said := data.get("said"):
            message = f"{message} ({said})"
        return {
            LOGBOOK_ENTRY_NAME: _NAME,
            LOGBOOK_ENTRY_MESSAGE: message,
            LOGBOOK_ENTRY_ENTITY_ID: data.get(ATTR_ENTITY_ID),
        }

    async_describe_event(DOMAIN, EVENT_DECISION, describe)


def _who(hass: HomeAssistant, data: Mapping[str, Any]) -> str:
    """Return who decided, or nothing for what was found."""
    caller, identity = data.get("caller"), data.get("identity")
    if caller == "person":
        # The trail holds no name; who it is, is looked up when somebody reads it.
        names = (state.name for state in hass.states.async_all("person") if state.attributes.get("user_id") == identity)
        return next(names, "Somebody")
    if caller == "automation" and identity and (state := hass.states.get(identity)) is not None:
        return state.name
    return _CALLERS.get(caller or "", "")
