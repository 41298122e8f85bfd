"""A period that a service is asked for: its fields, and what they mean."""

from datetime import datetime
from typing import Final

from homeassistant.helpers import config_validation as cv
from homeassistant.util import dt as dt_util
import probatio

ATTR_START: Final = "start"
ATTR_END: Final = "end"
PERIOD: Final = {probatio.Optional(ATTR_START): cv.datetime, probatio.Optional(ATTR_END): cv.datetime}


def seconds_of(moment: datetime | None) -> float | None:
    """Return a time that a person gave, in Home Assistant's time zone where it names none."""
    return None if moment is None else dt_util.as_utc(moment).timestamp()
