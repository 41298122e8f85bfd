"""Tests of the device registry."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from custom_components.grokmon.gateway import credentials
from custom_components.grokmon.gateway.actuators import Actuator, Role
from custom_components.grokmon.gateway.errors import Code, RegistryError
from custom_components.grokmon.gateway.models import DEFAULT_RATE_LIMIT, Algorithm, Auth, Device, DeviceStatus, Range
from custom_components.grokmon.gateway.registry import DeviceRegistry

from .wire import NOW, Sender, device_of

TENT = device_of(Sender.new("tent-1"), ranges={"temp_c": Range(20.0, 25.0)})
OTHER = device_of(Sender.new("tent-2"))
LAMP = Actuator(name="lamp", role=Role.GROW_LIGHT)
UNSIGNED = "only a device that signs may drive outputs"
CHOICES: Mapping[str, Any] = {
    "name": "Other name",
    "zone": "zone-1",
    "metrics": frozenset({"ph"}),
    "actuators": (Actuator(name="lamp", role=Role.GROW_LIGHT),),
    "ranges": {"ph": Range(5.5, 6.5)},
    "rate_limit": 6000,
}


@pytest.fixture
def registry() -> DeviceRegistry:
    """Return a registry with two devices."""
    registry = DeviceRegistry()
    assert registry.enrol(TENT) is TENT
    registry.enrol(OTHER)
    return registry


def test_enrolled_devices_are_found(registry: DeviceRegistry) -> None:
    """Find what was enrolled, and nothing else."""
    assert list(registry) == [TENT, OTHER]
    assert registry["tent-1"] is TENT
    assert registry.get("tent-2") is OTHER
    assert registry.get("tent-3") is None
    assert "tent-1" in registry
    assert "tent-3" not in registry
    assert None not in registry


@pytest.mark.parametrize(
    "act",
    [
        lambda registry: registry["nobody"],
        lambda registry: registry.remove("nobody"),
        lambda registry: registry.update("nobody", **CHOICES),
        lambda registry: registry.set_status("nobody", DeviceStatus.ACTIVE),
        lambda registry: registry.set_credentials("nobody", TENT.credentials),
    ],
)
def test_unknown_device(registry: DeviceRegistry, act: Any) -> None:
    """Refuse to act on a device that is not there."""
    with pytest.raises(RegistryError, match="unknown_device: nobody"):
        act(registry)
    assert list(registry) == [TENT, OTHER]


def test_device_is_enrolled_once(registry: DeviceRegistry) -> None:
    """Never let an enrolment replace a device."""
    with pytest.raises(RegistryError, match="device_exists: tent-1"):
        registry.enrol(replace(OTHER, device_id="tent-1"))
    assert registry["tent-1"] is TENT


def test_update_replaces_choices_only(registry: DeviceRegistry) -> None:
    """Change what the user chose, keep credential and status, and leave the old record as it was."""
    before = replace(TENT)
    changed = registry.update("tent-1", **CHOICES)
    assert changed == replace(TENT, **CHOICES)
    assert registry["tent-1"] is changed
    assert before == TENT


def test_refused_update_changes_nothing(registry: DeviceRegistry) -> None:
    """Keep the device as it was when the change is refused."""
    with pytest.raises(RegistryError, match="rate_limit_invalid"):
        registry.update("tent-1", **{**CHOICES, "rate_limit": 0})
    assert registry["tent-1"] is TENT


def test_new_credential(registry: DeviceRegistry) -> None:
    """Put a new credential in place of the old one."""
    fresh = credentials.issue(Algorithm.HS256, NOW)
    assert registry.set_credentials("tent-1", (fresh,)) == replace(TENT, credentials=(fresh,))
    assert registry["tent-1"].key is fresh


def test_status(registry: DeviceRegistry) -> None:
    """Disable a device and enable it again."""
    assert registry.set_status("tent-1", DeviceStatus.DISABLED).status is DeviceStatus.DISABLED
    assert registry["tent-1"].status is DeviceStatus.DISABLED
    assert registry.set_status("tent-1", DeviceStatus.ACTIVE) == TENT


@pytest.mark.parametrize("status", DeviceStatus)
def test_revoked_is_for_ever(registry: DeviceRegistry, status: DeviceStatus) -> None:
    """Give a revoked device neither another status nor a credential."""
    registry.set_status("tent-1", DeviceStatus.REVOKED)
    with pytest.raises(RegistryError, match="device_revoked: tent-1"):
        registry.set_status("tent-1", status)
    with pytest.raises(RegistryError, match="device_revoked: tent-1"):
        registry.set_credentials("tent-1", OTHER.credentials)
    assert registry["tent-1"] == replace(TENT, status=DeviceStatus.REVOKED)


def test_revoked_device_can_be_removed_and_enrolled_anew(registry: DeviceRegistry) -> None:
    """Take a new enrolment once the revoked device is removed."""
    registry.set_status("tent-1", DeviceStatus.REVOKED)
    assert registry.remove("tent-1").status is DeviceStatus.REVOKED
    assert "tent-1" not in registry
    assert registry.enrol(TENT) is TENT


def test_records_of_a_device_are_not_shared(registry: DeviceRegistry) -> None:
    """Keep a record as it is when the caller changes the ranges that it handed in."""
    chosen = {"ph": Range(5.5, 6.5)}
    registry.update("tent-1", **{**CHOICES, "ranges": chosen})
    chosen["ph"] = Range(99.0, -99.0)
    assert registry["tent-1"].ranges == {"ph": Range(5.5, 6.5)}


@pytest.mark.parametrize(
    ("change", "code", "detail"),
    [
        ({"device_id": ""}, Code.DEVICE_ID_INVALID, ""),
        ({"device_id": "Tent"}, Code.DEVICE_ID_INVALID, "Tent"),
        ({"device_id": "tent-1\n"}, Code.DEVICE_ID_INVALID, "tent-1\n"),
        ({"device_id": "a/b"}, Code.DEVICE_ID_INVALID, "a/b"),
        ({"device_id": "+"}, Code.DEVICE_ID_INVALID, "+"),
        ({"device_id": "a" * 33}, Code.DEVICE_ID_INVALID, "a" * 33),
        ({"metrics": frozenset()}, Code.FIELD_MISSING, "metrics"),
        ({"metrics": frozenset({"temp_c", "z", "a"})}, Code.METRIC_UNKNOWN, "a"),
        ({"rate_limit": 0}, Code.RATE_LIMIT_INVALID, "1 to 6000"),
        ({"rate_limit": -1}, Code.RATE_LIMIT_INVALID, "1 to 6000"),
        ({"rate_limit": 6001}, Code.RATE_LIMIT_INVALID, "1 to 6000"),
        ({"rate_limit": float("nan")}, Code.RATE_LIMIT_INVALID, "1 to 6000"),
        ({"ranges": {"nope": Range(0.0, 1.0)}}, Code.RANGE_INVALID, "nope"),
        ({"ranges": {"smoke": Range(0.0, 1.0)}}, Code.RANGE_INVALID, "smoke"),
        ({"ranges": {"ph": Range(7.0, 7.0)}}, Code.RANGE_INVALID, "ph"),
        ({"ranges": {"ph": Range(8.0, 7.0)}}, Code.RANGE_INVALID, "ph"),
        ({"ranges": {"ph": Range(-0.1, 7.0)}}, Code.RANGE_INVALID, "ph"),
        ({"ranges": {"ph": Range(0.0, 14.1)}}, Code.RANGE_INVALID, "ph"),
        ({"ranges": {"ph": Range(float("nan"), 7.0)}}, Code.RANGE_INVALID, "ph"),
        ({"ranges": {"ph": Range(0.0, float("nan"))}}, Code.RANGE_INVALID, "ph"),
        ({"ranges": {"ph": Range(float("-inf"), float("inf"))}}, Code.RANGE_INVALID, "ph"),
        ({"ranges": {"temp_c": Range(20.0, 25.0), "ph": Range(7.0, 6.0)}}, Code.RANGE_INVALID, "ph"),
        ({"auth": Auth.BROKER, "actuators": (LAMP,)}, Code.ACTUATOR_INVALID, UNSIGNED),
        ({"auth": Auth.TOKEN, "actuators": (LAMP,)}, Code.ACTUATOR_INVALID, UNSIGNED),
    ],
)
def test_device_that_cannot_be_served(change: Mapping[str, Any], code: Code, detail: str) -> None:
    """Refuse a device with a name, metrics, ranges or a rate that the gateway cannot hold."""
    registry = DeviceRegistry()
    with pytest.raises(RegistryError) as caught:
        registry.enrol(replace(TENT, **change))
    assert (caught.value.code, caught.value.detail) == (code, detail)
    assert list(registry) == []


def test_usual_rate() -> None:
    """Take the protocol's rate where the user chose none."""
    assert TENT.rate_limit == DEFAULT_RATE_LIMIT == 100


@pytest.mark.parametrize(
    "change",
    [
        {"device_id": "a" * 32},
        {"rate_limit": 1},
        {"rate_limit": 6000},
        {"ranges": {"ph": Range(0.0, 14.0)}},
        {"ranges": {"co2_ppm": Range(300.0, 400.0)}},
        {"metrics": frozenset({"smoke"}), "ranges": {}},
        {"actuators": (LAMP,)},
        {"auth": Auth.BROKER, "credentials": ()},
        {"auth": Auth.TOKEN, "credentials": ()},
    ],
)
def test_device_on_the_edge(change: Mapping[str, Any]) -> None:
    """Take a device on the edge of what can be served."""
    device: Device = replace(TENT, **change)
    assert DeviceRegistry().enrol(device) == device
