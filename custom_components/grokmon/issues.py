"""Repair issues: the end of those that nobody else clears."""

from collections.abc import Collection

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .const import DOMAIN


@callback
def async_delete_issues(hass: HomeAssistant, *beginnings: str, but: Collection[str] = ()) -> None:
    """Delete the issues whose identifiers begin so, but for some: what they are about is no more."""
    for domain, issue_id in list(ir.async_get(hass).issues):
        if domain == DOMAIN and issue_id.startswith(beginnings) and issue_id not in but:
            ir.async_delete_issue(hass, domain, issue_id)
