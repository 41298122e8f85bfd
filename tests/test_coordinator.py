"""The coordinators: what a device last said, and who is told about it."""

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import Context
from homeassistant.helpers.device_registry import DeviceEntry
import pytest

from custom_components.grokmon.coordinator import (
    CONNECTIVITY,
    DIAGNOSTICS,
    EXPIRES,
    KEY_AGE,
    LAST_SEEN,
    REJECTED,
    Coordinator,
    DeviceCoordinator,
    HubCoordinator,
    entity_keys,
)
from custom_components.grokmon.gateway import credentials
from custom_components.grokmon.gateway.models import Algorithm, CredentialKind, Device, Reading, Value

NOW = 1_763_850_000.0


class Listener:
    """Note with which contexts it was called."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.contexts: list[Context | None] = []

    def __call__(self, context: Context | None) -> None:
        """Take note."""
        self.contexts.append(context)


def _device(*metrics: str, created: float = NOW) -> Device:
    credential = credentials.issue(Algorithm.HS256, created)
    return Device(
        device_id="tent-1", name="Tent 1", metrics=frozenset(metrics or {"temp_c"}), credentials=(credential,)
    )


def _reading(values: dict[str, Value], now: float = NOW) -> Reading:
    return Reading(
        device_id="tent-1",
        received_at=now,
        measured_at=now,
        values=values,
        flags=(),
        late=False,
        meta={},
        hello=None,
    )


@pytest.fixture
def device() -> DeviceCoordinator:
    """Return the coordinator of a device that was not heard yet."""
    entry = DeviceEntry(config_entry_id="entry", config_subentry_id="subentry")
    return DeviceCoordinator("subentry", _device("temp_c", "humidity_percent"), entry, 300.0)


@pytest.fixture
def listeners(device: DeviceCoordinator) -> dict[str, Listener]:
    """Listen for every key of the device."""
    made = {key: Listener() for key in device.keys}
    for key, listener in made.items():
        device.async_listen(key, listener)
    return made


def test_keys_of_a_device() -> None:
    """A device has an entity for each metric, for what follows from them, and for the diagnostics."""
    assert entity_keys(_device("ph")) == {"ph"} | DIAGNOSTICS
    assert entity_keys(_device("temp_c", "humidity_percent")) >= {"vpd_kpa"}
    assert "vpd_kpa" not in entity_keys(_device("temp_c"))


def test_listener_is_told_of_a_change_only() -> None:
    """The same value again is no news."""
    coordinator, listener = Coordinator(), Listener()
    coordinator.async_listen("a", listener)
    context = Context()
    coordinator.async_set("a", 1.0, context)
    coordinator.async_set("a", 1.0, Context())
    coordinator.async_set("b", 2.0)
    assert listener.contexts == [context]
    assert coordinator.values == {"a": 1.0, "b": 2.0}


def test_listener_that_stopped_is_not_told() -> None:
    """An entity that was removed hears nothing more; stopping twice does no harm."""
    coordinator, listener = Coordinator(), Listener()
    coordinator.async_listen("a", listener)
    coordinator.async_unlisten("a", listener)
    coordinator.async_unlisten("a", listener)
    coordinator.async_set("a", 1.0)
    assert listener.contexts == []


def test_successor_is_not_stopped_by_its_predecessor() -> None:
    """An entity that is removed late does not take away what the one in its place hears."""
    coordinator, first, second = Coordinator(), Listener(), Listener()
    coordinator.async_listen("a", first)
    coordinator.async_listen("a", second)
    coordinator.async_unlisten("a", first)
    coordinator.async_set("a", 1.0)
    assert (len(first.contexts), len(second.contexts)) == (0, 1)


def test_totals() -> None:
    """The hub's totals are set together."""
    coordinator = HubCoordinator()
    coordinator.async_tick(3, 2, {"healthy": False})
    assert coordinator.values == {"accepted": 3, "rejected": 2, "audit": {"healthy": False}}


def test_first_reading_refreshes_everything(device: DeviceCoordinator, listeners: dict[str, Listener]) -> None:
    """A device that is heard again makes all of its entities available, in one context."""
    device.async_take(_reading({"temp_c": 21.5}))
    assert device.online
    contexts = [listener.contexts for listener in listeners.values()]
    assert isinstance(contexts[0][0], Context)
    assert contexts == [contexts[0]] * len(listeners)
    assert device.values[LAST_SEEN] == NOW


def test_later_readings_refresh_what_changed(device: DeviceCoordinator, listeners: dict[str, Listener]) -> None:
    """Only entities whose value changed are told, in one context per reading."""
    device.async_take(_reading({"temp_c": 21.5, "humidity_percent": 50.0, "vpd_kpa": 1.0}))
    for listener in listeners.values():
        listener.contexts.clear()
    device.async_take(_reading({"temp_c": 21.5, "humidity_percent": 51.0, "vpd_kpa": 0.9}, NOW + 1))
    told = {key: listener.contexts for key, listener in listeners.items() if listener.contexts}
    assert told.keys() == {"humidity_percent", "vpd_kpa"}
    assert told["humidity_percent"] == told["vpd_kpa"]
    assert len(told["vpd_kpa"]) == 1


def test_reading_before_the_entities(device: DeviceCoordinator) -> None:
    """A reading may come before its entities do."""
    device.async_take(_reading({"temp_c": 21.5}))
    device.async_take(_reading({"temp_c": 21.6}, NOW + 1))
    assert device.values["temp_c"] == 21.6


def test_reading_of_some_metrics(device: DeviceCoordinator) -> None:
    """A reading without a metric leaves it as it was."""
    device.async_take(_reading({"temp_c": 21.5, "humidity_percent": 50.0}))
    device.async_take(_reading({"temp_c": 22.5}, NOW + 1))
    assert device.values["humidity_percent"] == 50.0


def test_outage_ends_old_values(device: DeviceCoordinator, freezer: FrozenDateTimeFactory) -> None:
    """What a device said before an outage is not current after it."""
    device.async_take(_reading({"temp_c": 21.5, "humidity_percent": 50.0}))
    freezer.tick(300)
    assert device.async_tick(NOW + 300, 0)
    device.async_take(_reading({"temp_c": 30.0}, NOW + 3600))
    assert device.values["temp_c"] == 30.0
    assert "humidity_percent" not in device.values


def test_silence(device: DeviceCoordinator, listeners: dict[str, Listener], freezer: FrozenDateTimeFactory) -> None:
    """Silence is told once, to everybody."""
    device.async_take(_reading({"temp_c": 21.5}))
    for listener in listeners.values():
        listener.contexts.clear()
    freezer.tick(299.9)
    assert not device.async_tick(NOW + 299.9, 0)
    freezer.tick(0.1)
    assert device.async_tick(NOW + 300, 0)
    assert device.silence == pytest.approx(300.0)
    assert not device.online
    assert listeners["temp_c"].contexts == [None]
    freezer.tick(10)
    assert not device.async_tick(NOW + 310, 0)
    device.async_set_offline()
    assert listeners["temp_c"].contexts == [None]


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_silence_does_not_go_by_the_wall_clock(
    device: DeviceCoordinator, freezer: FrozenDateTimeFactory, jump: float
) -> None:
    """A wall clock that is set keeps no silent device online, and takes no other one away."""
    device.async_take(_reading({"temp_c": 21.5}))
    freezer.tick(299)
    assert not device.async_tick(NOW + jump + 299, 0)
    freezer.tick(1)
    assert device.async_tick(NOW + jump + 300, 0)


def test_last_will(device: DeviceCoordinator, freezer: FrozenDateTimeFactory) -> None:
    """A hint shortens the patience to 30 seconds, and never lengthens it."""
    device.async_take(_reading({"temp_c": 21.5}))
    freezer.tick(290)
    device.async_hint_offline()
    freezer.tick(10)
    assert device.async_tick(NOW + 300, 0)
    device.async_take(_reading({"temp_c": 21.5}, NOW + 400))
    device.async_hint_offline()
    freezer.tick(29)
    assert not device.async_tick(NOW + 429, 0)
    freezer.tick(1)
    assert device.async_tick(NOW + 430, 0)


def test_diagnostics(device: DeviceCoordinator) -> None:
    """Rejected messages and the age of the key follow the clock; "last seen" once a minute."""
    device.async_tick(NOW, 4)
    expires = NOW + credentials.LIFETIMES[CredentialKind.KEY]
    assert device.values == {CONNECTIVITY: False, REJECTED: 4, KEY_AGE: 0, EXPIRES: expires}
    device.async_tick(NOW + 86_400 * 3 - 1, 4)
    assert device.values[KEY_AGE] == 2
    device.async_tick(NOW - 5, 4)
    assert device.values[KEY_AGE] == 0
    device.async_take(_reading({"temp_c": 21.5}))
    device.async_take(_reading({"temp_c": 21.5}, NOW + 59))
    device.async_tick(NOW + 59, 4)
    assert device.values[LAST_SEEN] == NOW
    device.async_take(_reading({"temp_c": 21.5}, NOW + 60))
    device.async_tick(NOW + 60, 4)
    assert device.values[LAST_SEEN] == NOW + 60
    device.async_take(_reading({"temp_c": 21.5}, NOW - 86_400))
    device.async_tick(NOW - 86_400, 4)
    assert device.values[LAST_SEEN] == NOW - 86_400


def test_change_of_metrics(device: DeviceCoordinator) -> None:
    """Values of metrics that a device no longer has are forgotten."""
    device.async_take(_reading({"temp_c": 21.5, "humidity_percent": 50.0, "vpd_kpa": 1.0}))
    device.async_update_device(_device("humidity_percent", "ph"))
    assert device.values.keys() == {CONNECTIVITY, REJECTED, LAST_SEEN, "humidity_percent"}
    assert device.online
