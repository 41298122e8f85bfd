"""The mark of a backup in the store: who starts with one that this Home Assistant has not made was restored.

Apart from `backup.py`, which Home Assistant calls, since the hub has to know of it.
"""

from dataclasses import dataclass
from time import monotonic
from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN


@dataclass(slots=True)
class _Backup:
    at: float
    # By a clock that nobody sets.
    since: float
    running: bool = True


_LONGEST_S: Final = 6 * 3600.0
_LAST: HassKey[_Backup] = HassKey(f"{DOMAIN}_backup")


@callback
def async_begin(hass: HomeAssistant, at: float) -> None:
    """Remember that a backup is being made; the hub may end and start meanwhile."""
    hass.data[_LAST] = _Backup(at, monotonic())


@callback
def async_end(hass: HomeAssistant) -> None:
    """Remember that it is made."""
    if (backup := hass.data.get(_LAST)) is not None:
        backup.running = False


@callback
def async_is_own(hass: HomeAssistant, at: float) -> bool:
    """Tell whether a mark is of the last backup that this Home Assistant has made."""
    backup = hass.data.get(_LAST)
    return backup is not None and backup.at == at


@callback
def async_is_running(hass: HomeAssistant) -> bool:
    """Tell whether a backup is being made."""
    backup = hass.data.get(_LAST)
    return backup is not None and backup.running and monotonic() - backup.since < _LONGEST_S
