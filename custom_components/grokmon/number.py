"""Numbers: the amount of a pump's next dose."""

from typing import override

from homeassistant.components.number import NumberDeviceClass, NumberMode, RestoreNumber
from homeassistant.const import EntityCategory, UnitOfVolume
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .access import async_admit
from .command_log import bounded
from .coordinator import DOSE_SUFFIX, DeviceCoordinator
from .entity import OutputEntity, follow_outputs
from .errors import translate_errors
from .gateway.actuators import Actuator, Command, Kind, normalise
from .gateway.errors import PolicyError
from .hub import GrokmonConfigEntry, GrokmonHub

PARALLEL_UPDATES = 0


async def async_setup_entry(
    _hass: HomeAssistant, entry: GrokmonConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Set up the amounts of pumps as they are enrolled."""
    follow_outputs(entry, async_add_entities, DoseNumber, Kind.PUMP)


class DoseNumber(OutputEntity, RestoreNumber):
    """How much the button gives. It moves nothing by itself."""

    _attr_device_class = NumberDeviceClass.VOLUME
    _attr_entity_category = EntityCategory.CONFIG
    _attr_mode = NumberMode.BOX
    _attr_native_min_value = 1
    _attr_native_step = 1
    _attr_native_unit_of_measurement = UnitOfVolume.MILLILITERS

    def __init__(self, hub: GrokmonHub, coordinator: DeviceCoordinator, actuator: Actuator) -> None:
        super().__init__(hub, coordinator, actuator, DOSE_SUFFIX)

    @override
    async def async_added_to_hass(self) -> None:
        """Take up the amount of before the restart."""
        await super().async_added_to_hass()
        last = await self.async_get_last_number_data()
        if last is not None and last.native_value is not None:
            self._hub.doses.setdefault(self.output, last.native_value)

    @property
    @override
    def available(self) -> bool:
        """Return True: an amount can be set while the pump is away."""
        return True

    @property
    @override
    def native_max_value(self) -> float:
        """Return the most that the pump may give at once."""
        return self.actuator.max_dose_ml

    @property
    @override
    def native_value(self) -> float:
        """Return the amount in millilitres."""
        return self.dose_ml

    @override
    @translate_errors
    async def async_set_native_value(self, value: float) -> None:
        """Set the amount."""
        who = await async_admit(self._hub, self._context, self.entity_id)
        dispatcher = self._hub.dispatcher
        dose, now = Command(key=self.output, amount_ml=value), dispatcher.clock.now()
        target = {"device": dose.key.device_id, "actuator": dose.key.actuator}
        facts = {"params": bounded({"amount_ml": value})}
        try:
            # Home Assistant lets NaN through, which is neither below nor above anything.
            normalise(dose, self.actuator)
            dispatcher.controller.policy.judge_dose(dose, who)
        except PolicyError as error:
            dispatcher.log.denied("dose_refused", who, error.code.value, now, target, detail=error.detail, **facts)
            raise
        dispatcher.log.done("dose_set", who, now, target, **facts)
        self._hub.doses[self.output] = value
        self.async_write_ha_state()
