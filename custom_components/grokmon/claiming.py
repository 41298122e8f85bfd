"""Claiming: new devices fetch their credentials with a claim code, or ask for them with a key of their own."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from time import time
from typing import Any

from homeassistant.config_entries import SOURCE_INTEGRATION_DISCOVERY
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import discovery_flow

from .audit_log import AuditLog
from .choices import METHODS, Choices
from .const import CONF_DEVICE_ID, CONF_FINGERPRINT, DOMAIN
from .enrolment import Enrolment
from .gateway.claim_codes import VALID_S, ClaimCodes, EnrolmentRequest, EnrolmentRequests, check_possession
from .gateway.credentials import fingerprint as fingerprint_of
from .gateway.errors import Code, GatewayError, PeerError, RegistryError, TransportError
from .gateway.lifecycle import current
from .gateway.models import Auth, CredentialKind, CredentialState, Device, DeviceStatus
from .gateway.ratelimit import host_of
from .gateway.registry import DeviceRegistry


class Claiming:
    """Hand credentials over to the devices themselves."""

    def __init__(
        self,
        hass: HomeAssistant,
        registry: DeviceRegistry,
        enrolment: Enrolment,
        audit: AuditLog,
        settings_of: Callable[[Device], dict[str, Any]],
    ) -> None:
        self._hass = hass
        self._registry = registry
        self._enrolment = enrolment
        self._audit = audit
        self._settings_of = settings_of
        self._codes = ClaimCodes()
        self._requests = EnrolmentRequests()
        self._approved: dict[str, EnrolmentRequest] = {}

    @callback
    def async_issue(self, device_id: str, actor: str) -> str:
        """Return a claim code for an enrolled device, to be shown once.

        Raises RegistryError for a revoked device, and ServiceValidationError for one that could fetch nothing with it.
        """
        device = self._registry[device_id]
        if device.status is DeviceStatus.REVOKED:
            raise RegistryError(Code.DEVICE_REVOKED, device_id)
        if not _may_fetch(device):
            raise ServiceValidationError(
                translation_domain=DOMAIN,
                translation_key="claim_too_late",
                translation_placeholders={"name": device.name},
            )
        self._audit.record("claim_issued", device=device_id, actor=actor)
        return self._codes.issue(device_id, time())

    async def async_claim(self, device_id: str, code: str, address: str, now: float) -> dict[str, Any]:
        """Return the settings of a device for its claim code, secrets included. Raises TransportError."""
        waits = self._codes.waits(device_id, now)
        try:
            self._codes.redeem(device_id, code, now)
            device = self._registry.get(device_id)
            if device is None or not _may_fetch(device):
                raise TransportError(Code.CLAIM_INVALID)
        except GatewayError as error:
            known = device_id if device_id in self._registry else None
            # A code has its tries, and each of them is on record. Where there is nothing to guess there is no end to
            # guessing: that is only counted.
            if waits:
                self._audit.record(
                    "claim_refused", outcome="refused", reason=error.code.value, device=known, address=address
                )
            if known is None:
                raise
            raise PeerError(error.code, "", known) from error
        self._audit.record("claimed", device=device_id, address=address)
        await self._audit.async_flush(mark=False)
        return self._settings_of(device)

    @callback
    def async_ask(
        self, device_id: str, auth: str, public_key: str, proof: str, *, now: float, address: str
    ) -> dict[str, Any]:
        """Return what a device that brings its own key has to know, or that it has to wait. Raises GatewayError."""
        method = METHODS.get(auth)
        if method is None or method.auth is not Auth.SIGNED:
            raise RegistryError(Code.PUBLIC_KEY_INVALID)
        check_possession(device_id, method.algorithm, public_key, proof.encode(), now)
        approved = self._approved.get(device_id)
        device = self._registry.get(device_id)
        if approved is not None and device is not None and now < approved.ends and _is_under(device, approved):
            if method.algorithm is not approved.algorithm or public_key != approved.public_key:
                raise RegistryError(Code.DEVICE_EXISTS)
            self._audit.record("claimed", device=device_id, address=address)
            return self._settings_of(device)
        if device is not None:
            raise RegistryError(Code.DEVICE_EXISTS)
        waits = self._requests.waits(device_id, now)
        request = self._requests.add(device_id, method.algorithm, public_key, host_of(address), now)
        if not waits:
            self._audit.record("enrolment_asked", device_id=device_id, fingerprint=request.fingerprint, address=address)
        self._discover(request)
        return {"status": "pending", "fingerprint": request.fingerprint}

    async def async_approve(self, choices: Choices, fingerprint: str, actor: str) -> Device:
        """Enrol a device that asked, whose fingerprint an administrator found to be right. Raises GatewayError."""
        request = self._requests.find(choices.device_id, fingerprint, time())
        method = METHODS[request.algorithm.name.lower()]
        device = await self._enrolment.async_enrol(choices, method, request.public_key, actor)
        # Not before: where the disk fails, the administrator tries again.
        self._requests.withdraw(choices.device_id, fingerprint)
        # From now on: who was approved in the last second asks again in five.
        self._approved[choices.device_id] = replace(request, ends=time() + VALID_S)
        return device

    @callback
    def async_forget(self, device_id: str) -> None:
        """Hand nothing over any more to a device that is revoked or gone: one of its name may be another."""
        self._codes.withdraw(device_id)
        self._approved.pop(device_id, None)

    @callback
    def async_tick(self, now: float) -> None:
        """Show no more what has waited too long."""
        for request in self._requests.expire(now):
            self._hide(request)

    @callback
    def _hide(self, request: EnrolmentRequest) -> None:
        manager = self._hass.config_entries.flow
        for flow in manager.async_progress_by_handler(DOMAIN):
            if flow["context"].get("unique_id") == request_id(request.device_id, request.fingerprint):
                manager.async_abort(flow["flow_id"])

    @callback
    def _discover(self, request: EnrolmentRequest) -> None:
        discovery_flow.async_create_flow(
            self._hass,
            DOMAIN,
            context={"source": SOURCE_INTEGRATION_DISCOVERY},
            data={CONF_DEVICE_ID: request.device_id, CONF_FINGERPRINT: request.fingerprint},
        )


def _may_fetch(device: Device) -> bool:
    # What was used already is not handed over a second time.
    unused = all(each.state is CredentialState.PENDING for each in current(device.credentials))
    return unused and device.status is DeviceStatus.ACTIVE


def _is_under(device: Device, request: EnrolmentRequest) -> bool:
    """Tell whether a device still has the key that it asked with, and may fetch its settings."""
    key = next((each for each in current(device.credentials) if each.kind is CredentialKind.KEY), None)
    asked_with = key is not None and fingerprint_of(key.algorithm, key.public_key) == request.fingerprint
    return asked_with and _may_fetch(device)


def request_id(device_id: str, fingerprint: str) -> str:
    """Return what a discovered device is known by: another key is another device."""
    return f"{device_id}_{sha256(fingerprint.encode()).hexdigest()[:16]}"
