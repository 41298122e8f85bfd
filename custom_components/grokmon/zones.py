"""The zones of the room in step with their subentries: a device and a coordinator for each."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr

from .audit_log import AuditLog
from .const import CONF_STAGE, DOMAIN, MANUFACTURER, SUBENTRY_ZONE
from .coordinator import DeviceCoordinator
from .dispatch import Dispatcher
from .gateway.errors import PolicyError
from .gateway.principals import Principal
from .gateway.zones import Stage, Zone
from .zone_coordinator import ZoneCoordinator

# Home Assistant does not tell who changed a subentry.
_SOMEBODY: Final = "user"

type AddZone = Callable[[ZoneCoordinator], None]


def zones_of(entry: ConfigEntry[Any]) -> list[Zone]:
    """Return the zones that the subentries hold."""
    return [
        Zone.from_dict(subentry.subentry_id, subentry.title, subentry.data)
        for subentry in entry.subentries.values()
        if subentry.subentry_type == SUBENTRY_ZONE
    ]


class Zones:
    """Hold the coordinators of all zones, and bring them up to date."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry[Any],
        dispatcher: Dispatcher,
        audit: AuditLog,
        devices: Mapping[str, DeviceCoordinator],
    ) -> None:
        self._hass = hass
        self._entry = entry
        self._dispatcher = dispatcher
        self._audit = audit
        self._devices = devices
        self._adders: list[AddZone] = []
        self.coordinators: dict[str, ZoneCoordinator] = {}

    @callback
    def async_add_platform(self, add: AddZone) -> None:
        """Let a platform add its entities for every zone, now and later."""
        for coordinator in self.coordinators.values():
            add(coordinator)
        self._adders.append(add)

    @callback
    def async_sync(self) -> None:
        """Follow the zones that the controller has."""
        zones = self._dispatcher.controller.zones
        for zone_id in self.coordinators.keys() - zones.keys():
            del self.coordinators[zone_id]
        for zone_id, zone in zones.items():
            if (known := self.coordinators.get(zone_id)) is not None:
                known.zone = zone
                self._register(zone_id, zone.name)
                continue
            coordinator = ZoneCoordinator(zone_id, zone, self._register(zone_id, zone.name))
            self.coordinators[zone_id] = coordinator
            for add in self._adders:
                add(coordinator)
        self.async_refresh()

    @callback
    def async_refresh(self) -> None:
        """Bring what the zones show up to date."""
        for zone_id in self.coordinators:
            self.async_refresh_zone(zone_id)

    @callback
    def async_refresh_zone(self, zone_id: str) -> None:
        """Bring what one zone shows up to date."""
        now = self._dispatcher.clock.now()
        self.coordinators[zone_id].async_refresh(self._dispatcher.controller, self._devices.values(), now)

    def settings(self, zone_id: str) -> dict[str, Any]:
        """Return what a person chose for a zone, as its subentry has it."""
        return dict(self._entry.subentries[zone_id].data)

    @callback
    def async_set_stage(self, zone_id: str, stage: Stage, who: Principal) -> None:
        """Change the growth stage of a zone. Raises PolicyError, on record."""
        controller = self._dispatcher.controller
        zone = controller.zones[zone_id]
        try:
            controller.policy.judge_stage(zone, stage, who)
        except PolicyError as error:
            target = {"zone": zone_id, "stage": stage.value}
            now = self._dispatcher.clock.now()
            self._dispatcher.log.denied("stage_refused", who, error.code.value, now, target, detail=error.detail)
            raise
        if stage is zone.stage:
            return
        # Here at once: what follows from the subentry would be told as a change by somebody else.
        controller.zones[zone_id] = replace(zone, stage=stage)
        subentry = self._entry.subentries[zone_id]
        now = self._dispatcher.clock.now()
        self._dispatcher.log.done("stage", who, now, {"zone": zone_id}, stage=stage.value)
        data = {**subentry.data, CONF_STAGE: stage.value}
        self._hass.config_entries.async_update_subentry(self._entry, subentry, data=data)

    @callback
    def async_record_changes(self, before: Mapping[str, Zone]) -> None:
        """Write down which zones were added, changed or removed since `before`."""
        after = self._dispatcher.controller.zones
        for zone_id in before.keys() | after.keys():
            if zone_id not in after:
                self._audit.record("zone_removed", actor=_SOMEBODY, zone=zone_id)
            elif zone_id not in before:
                self._audit.record("zone_added", actor=_SOMEBODY, zone=zone_id, settings=self.settings(zone_id))
            elif before[zone_id] != after[zone_id]:
                self._audit.record("zone_changed", actor=_SOMEBODY, zone=zone_id, settings=self.settings(zone_id))

    def _register(self, zone_id: str, name: str) -> dr.DeviceEntry:
        return dr.async_get(self._hass).async_get_or_create(
            config_entry_id=self._entry.entry_id,
            config_subentry_id=zone_id,
            identifiers={(DOMAIN, zone_id)},
            entry_type=dr.DeviceEntryType.SERVICE,
            manufacturer=MANUFACTURER,
            name=name,
            suggested_area=name,
        )
