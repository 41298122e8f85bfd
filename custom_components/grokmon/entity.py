"""Base entities: one coordinator, one key."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, override

from homeassistant.core import Context, callback
from homeassistant.helpers.device_registry import DeviceEntryType, DeviceInfo
from homeassistant.helpers.entity import Entity, ToggleEntity
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .access import async_admit
from .const import DOMAIN, MANUFACTURER
from .coordinator import Coordinator, DeviceCoordinator, output_key
from .errors import translate_errors
from .gateway.actuators import Actuator, Command, Key, Kind, Observed
from .hub import GrokmonConfigEntry, GrokmonHub
from .unique_ids import HUB, unique_id
from .zone_coordinator import ZoneCoordinator


class GrokmonEntity(Entity):
    """An entity that shows one value of a coordinator."""

    _attr_has_entity_name = True
    _attr_should_poll = False

    def __init__(self, coordinator: Coordinator, key: str) -> None:
        self._coordinator = coordinator
        self._key = key

    @override
    async def async_added_to_hass(self) -> None:
        """Follow the value."""
        self._coordinator.async_listen(self._key, self._refresh)

    @override
    async def async_will_remove_from_hass(self) -> None:
        """Follow the value no longer."""
        self._coordinator.async_unlisten(self._key, self._refresh)

    @callback
    def _refresh(self, context: Context | None) -> None:
        if context is not None:
            self.async_set_context(context)
        self.async_write_ha_state()


class DeviceEntity(GrokmonEntity):
    """An entity of a device of the room."""

    _coordinator: DeviceCoordinator

    def __init__(self, coordinator: DeviceCoordinator, key: str, *, measured: bool) -> None:
        super().__init__(coordinator, key)
        self._measured = measured
        self._attr_unique_id = unique_id(coordinator.device.device_id, key)
        self.device_entry = coordinator.device_entry

    @property
    @override
    def available(self) -> bool:
        """Return whether the value is current: a measured one is only while the device is heard."""
        return self._coordinator.online or not self._measured


class OutputEntity(DeviceEntity):
    """An entity that drives one actuator: what it shows is what the device reported."""

    def __init__(self, hub: GrokmonHub, coordinator: DeviceCoordinator, actuator: Actuator, suffix: str = "") -> None:
        # A key of its own, since one entity follows one key: a pump has a number and a button beside its switch.
        super().__init__(coordinator, output_key(actuator.name) + suffix, measured=True)
        self._hub = hub
        self._shown = output_key(actuator.name)
        self._actuator = actuator
        self._attr_translation_key = f"{actuator.role}{suffix}"
        self._attr_translation_placeholders = placeholders_of(actuator)
        self.output = Key(coordinator.device.device_id, actuator.name)

    @property
    def actuator(self) -> Actuator:
        """Return the actuator as it is set now."""
        return self._coordinator.actuators.get(self._shown, self._actuator)

    @property
    def observed(self) -> Observed | None:
        """Return what the device said last."""
        observed: Observed | None = self._coordinator.values.get(self._shown)
        return observed

    @property
    @override
    def available(self) -> bool:
        """Return whether the device is heard, and, for an entity that shows it, has said what the output does."""
        return super().available and (self._key != self._shown or self.observed is not None)

    @property
    def dose_ml(self) -> float:
        """Return what the next dose of a pump is: what was set for it, as far as it may give that at once."""
        return min(self._hub.doses.get(self.output, self.actuator.dose_ml), self.actuator.max_dose_ml)

    @translate_errors
    async def _async_command(self, **wanted: Any) -> None:
        """Carry out a command for whoever stands behind the context of this call."""
        who = await async_admit(self._hub, self._context, self.entity_id)
        await self._hub.async_command(Command(key=self.output, **wanted), who)


class SwitchedEntity(OutputEntity, ToggleEntity):
    """An entity that is on or off."""

    @property
    @override
    def is_on(self) -> bool | None:
        """Return whether the device says that it is on."""
        return None if self.observed is None else self.observed.on

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        """Turn off."""
        await self._async_command(on=False)


def placeholders_of(actuator: Actuator) -> dict[str, str]:
    """Return what the name of an entity of an actuator has beside its role: one that is not the first has a name."""
    number = actuator.name.removeprefix(actuator.role).strip("_").replace("_", " ")
    return {"number": f" {number}" if number else ""}


class ZoneEntity(GrokmonEntity):
    """An entity of a zone."""

    _coordinator: ZoneCoordinator

    def __init__(self, coordinator: ZoneCoordinator, key: str) -> None:
        super().__init__(coordinator, key)
        self._attr_unique_id = unique_id(coordinator.zone.zone_id, key)
        self._attr_translation_key = f"zone_{key}"
        self.device_entry = coordinator.device_entry


class HubEntity(GrokmonEntity):
    """An entity of the hub itself."""

    def __init__(self, entry: GrokmonConfigEntry, key: str) -> None:
        super().__init__(entry.runtime_data.coordinator, key)
        self._attr_unique_id = unique_id(HUB, key)
        self._attr_device_info = hub_device_info()


def follow_devices[D](
    entry: GrokmonConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
    descriptions: Mapping[str, D],
    create: Callable[[DeviceCoordinator, D], Entity],
) -> None:
    """Add the described entities of every device, now and as devices are enrolled or get more metrics."""

    @callback
    def add(coordinator: DeviceCoordinator, keys: frozenset[str]) -> None:
        async_add_entities(
            [create(coordinator, descriptions[key]) for key in sorted(keys) if key in descriptions],
            config_subentry_id=coordinator.subentry_id,
        )

    entry.runtime_data.enrolment.async_add_platform(add)


def follow_outputs(
    entry: GrokmonConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
    create: Callable[[GrokmonHub, DeviceCoordinator, Actuator], Entity],
    *kinds: Kind,
) -> None:
    """Add the entity of every actuator of some kinds, now and as devices are enrolled or get more of them."""
    hub = entry.runtime_data

    @callback
    def add(coordinator: DeviceCoordinator, keys: frozenset[str]) -> None:
        async_add_entities(
            [
                create(hub, coordinator, actuator)
                for key, actuator in coordinator.actuators.items()
                if key in keys and actuator.kind in kinds
            ],
            config_subentry_id=coordinator.subentry_id,
        )

    hub.enrolment.async_add_platform(add)


def follow_zones(
    entry: GrokmonConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
    create: Callable[[ZoneCoordinator], Iterable[Entity]],
) -> None:
    """Add the entities of every zone, now and later."""

    @callback
    def add(coordinator: ZoneCoordinator) -> None:
        async_add_entities(list(create(coordinator)), config_subentry_id=coordinator.subentry_id)

    entry.runtime_data.zones.async_add_platform(add)


def hub_device_info() -> DeviceInfo:
    """Return the device of the hub."""
    return DeviceInfo(
        identifiers={(DOMAIN, DOMAIN)},
        entry_type=DeviceEntryType.SERVICE,
        manufacturer=MANUFACTURER,
        translation_key="hub",
    )
