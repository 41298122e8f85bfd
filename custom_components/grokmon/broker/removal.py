"""What is left at the broker when the integration is removed: nothing of ours."""

import asyncio
import logging
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError

from custom_components.grokmon.at_rest import async_open_store
from custom_components.grokmon.const import CONF_BROKER

from .accounts import CONF_MODE, AccountMode
from .address import CONF_ADMIN, async_address
from .connection import BrokerError, Login
from .work import bring_in_step

_LOGGER = logging.getLogger(__name__)

_WITHIN_S: Final = 20.0


async def async_remove_accounts(hass: HomeAssistant, entry: ConfigEntry[Any]) -> None:
    """Delete all of our accounts and roles at the broker: from here on nobody looks after them."""
    chosen = entry.options.get(CONF_BROKER, {})
    if chosen.get(CONF_MODE) != AccountMode.DYNAMIC_SECURITY:
        return
    try:
        async with asyncio.timeout(_WITHIN_S):
            store = await async_open_store(hass)
            admin = Login(chosen.get(CONF_ADMIN, ""), store.state.broker.admin_password)
            address = await async_address(hass, chosen)
            work = await hass.async_add_executor_job(bring_in_step, address.endpoint, admin, (), (), {})
        problem = work.problem
    except TimeoutError:
        problem = "no answer in time"
    except (BrokerError, HomeAssistantError) as error:
        problem = str(error)
    if problem is not None:
        _LOGGER.warning(
            "Accounts of devices stay at the broker: %s. Delete the accounts and roles there that begin with the "
            "identifiers of your devices and with grokmon-",
            problem,
        )
