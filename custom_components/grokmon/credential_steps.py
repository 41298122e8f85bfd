"""Steps of a device's flow that are about its credentials: show, hand over, rotate, restore, disable, revoke."""

from collections.abc import Mapping
import json
from typing import Any, Final

from homeassistant.config_entries import SubentryFlowResult
from homeassistant.const import CONF_NAME, UnitOfTime
from homeassistant.data_entry_flow import UnknownFlow
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.selector import (
    SelectSelector,
    SelectSelectorConfig,
    TextSelector,
    TextSelectorConfig,
)
import probatio

from .access import actor, hub_of_flow
from .broker.address import place_for_devices
from .choices import METHODS, Choices, Method
from .const import (
    CONF_ACTUATORS,
    CONF_AUTH,
    CONF_BROKER,
    CONF_DEVICE_ID,
    CONF_HTTP_ENROLMENT,
    CONF_METRICS,
    CONF_OVERLAP,
    CONF_PUBLIC_KEY,
    CONF_ZONE,
)
from .forms import number, qr_code
from .gateway.actuators import Actuator, Role
from .gateway.errors import Code, RegistryError
from .gateway.lifecycle import OVERLAP
from .gateway.models import Algorithm, Auth, Device, DeviceStatus
from .hub import GrokmonHub
from .onboarding import CLAIM_PATH, instructions, settings_of
from .output_steps import OutputSteps
from .store import SecurityRecord

CONF_HANDOVER: Final = "handover"

_OVERLAP: Final = probatio.Schema(
    {
        probatio.Required(CONF_OVERLAP, default=OVERLAP / 3600): number(0, 168, UnitOfTime.HOURS),
    }
)
_PUBLIC_KEY: Final = probatio.Schema(
    {probatio.Optional(CONF_PUBLIC_KEY): TextSelector(TextSelectorConfig(multiline=True))}
)
_AUTH: Final = probatio.Schema(
    {
        probatio.Required(CONF_AUTH, default="hs256"): SelectSelector(
            SelectSelectorConfig(options=list(METHODS), translation_key="auth")
        ),
    }
).extend(_PUBLIC_KEY.schema)
_HANDOVER: Final = probatio.Schema(
    {
        probatio.Required(CONF_HANDOVER, default="show"): SelectSelector(
            SelectSelectorConfig(options=["show", "claim"], translation_key="handover")
        ),
    }
)
_CREDENTIALS: Final[Mapping[Auth, str]] = {
    Auth.SIGNED: "credentials",
    Auth.BROKER: "credentials_broker",
    Auth.TOKEN: "credentials_token",
}


class CredentialSteps(OutputSteps):
    """Hand credentials to a person or to the device, and change them."""

    def __init__(self) -> None:
        super().__init__()
        self._choices: dict[str, Any] = {}
        self._record: SecurityRecord | None = None
        self._prepared_by: GrokmonHub | None = None
        self._instructions: dict[str, str] = {}

    async def async_step_auth(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask how the device authenticates, and prepare its credential."""
        hub, errors = self._hub, dict[str, str]()
        if user_input is not None:
            choices = self._enrolled_choices()
            method = METHODS[user_input[CONF_AUTH]]
            public_key = user_input.get(CONF_PUBLIC_KEY, "")
            try:
                if user_input.get(CONF_HANDOVER) == "claim":
                    return await self._hand_over(choices, method, public_key)
                self._record, self._prepared_by = hub.enrolment.prepare(choices, method, public_key), hub
            except RegistryError as error:
                if error.code is Code.ACTUATOR_INVALID:
                    errors[CONF_AUTH] = "outputs_unsigned"
                else:
                    errors[_field_of(error)] = error.code.value
            except HomeAssistantError:
                errors["base"] = "store_not_written"
            else:
                self._show(choices.device(self._record))
                return self._shown(_CREDENTIALS[method.auth])
        schema = _AUTH.extend(_HANDOVER.schema) if hub.trust.offers(CONF_HTTP_ENROLMENT) else _AUTH
        return self._form("auth", schema, user_input, errors)

    async def async_step_credentials(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Enrol a device that signs, once the user has taken its credentials."""
        return await self._taken("credentials")

    async def async_step_credentials_broker(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Enrol a device that the broker vouches for, once the user has taken its credentials."""
        return await self._taken("credentials_broker")

    async def async_step_credentials_token(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Enrol a device with an access token, once the user has taken it."""
        return await self._taken("credentials_token")

    async def async_step_claim(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """End after the claim code was shown: the device is enrolled, and fetches the rest."""
        return self.async_abort(reason="claim_shown")

    async def _hand_over(self, choices: Choices, method: Method, public_key: str) -> SubentryFlowResult:
        """Enrol a device that fetches its credentials itself, and show its claim code. Raises RegistryError."""
        await self._hub.enrolment.async_enrol(choices, method, public_key, actor())
        code = self._hub.trust.claiming.async_issue(choices.device_id, actor())
        claim = {"device_id": choices.device_id, "code": code, "path": CLAIM_PATH}
        schema = probatio.Schema({probatio.Optional("qr"): qr_code(json.dumps(claim))})
        return self._form("claim", schema, None, {}, {"name": choices.name, "claim": json.dumps(claim, indent=2)})

    async def _taken(self, step_id: str) -> SubentryFlowResult:
        hub = self._hub
        if self._record is None:
            return self._shown(step_id)
        if hub is not self._prepared_by:
            # It was set up anew meanwhile: what was shown may not hold any more.
            self._forget()
            return await self.async_step_auth()
        # Taken away before the wait for the disk: a second click must not find it.
        record, self._record = self._record, None
        choices = self._enrolled_choices()
        try:
            await hub.enrolment.async_admit({choices.device_id: record}, actor())
        except RegistryError as error:
            if error.code is Code.DEVICE_EXISTS:
                self._forget()
                return self.async_abort(reason="already_configured")
            self._record = record
            return self._shown(step_id, {"base": error.code.value})
        except HomeAssistantError:
            self._record = record
            return self._shown(step_id, {"base": "store_not_written"})
        self._forget()
        try:
            self.hass.config_entries.subentries.async_get(self.flow_id)
        except UnknownFlow:
            # Closed while the disk was waited for: Home Assistant takes no subentry of it any more.
            await hub.enrolment.async_forget([choices.device_id], actor())
            raise
        return self.async_create_entry(title=choices.name, data=choices.as_data(), unique_id=choices.device_id)

    async def async_step_rotate(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Give the device a new credential."""
        hub, errors = self._hub, dict[str, str]()
        device = hub.gateway.registry[self._device_id]
        if user_input is not None:
            try:
                rotated = await hub.trust.credentials.async_rotate(
                    self._device_id,
                    actor(),
                    public_key=user_input.get(CONF_PUBLIC_KEY, ""),
                    overlap=user_input[CONF_OVERLAP] * 3600.0,
                )
            except RegistryError as error:
                errors[_field_of(error)] = error.code.value
            except HomeAssistantError:
                errors["base"] = "store_not_written"
            else:
                self._show(rotated)
                return self._shown("rotated" if rotated.auth is Auth.SIGNED else "rotated_plain")
        shared = device.key is None or device.key.algorithm is Algorithm.HS256
        schema = _OVERLAP if shared else _OVERLAP.extend(_PUBLIC_KEY.schema)
        return self._form("rotate", schema, user_input, errors, {"name": device.name})

    async def async_step_rotated(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """End after the new credentials were shown."""
        self._forget()
        return self.async_abort(reason="rotated")

    async def async_step_rotated_plain(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """End after the new credentials of a device that signs nothing were shown."""
        return await self.async_step_rotated()

    async def async_step_restore(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Put the credentials in use again that were replaced last."""
        hub, errors = self._hub, dict[str, str]()
        if user_input is not None:
            try:
                await hub.trust.credentials.async_restore(self._device_id, actor())
            except RegistryError as error:
                errors["base"] = error.code.value
            except HomeAssistantError:
                errors["base"] = "store_not_written"
            else:
                return self.async_abort(reason="restored")
        name = self._subentry_choices().name
        return self._form("restore", probatio.Schema({}), None, errors, {"name": name})

    async def async_step_disable(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Refuse the device for now."""
        return await self._set_status("disable", DeviceStatus.DISABLED, user_input)

    async def async_step_enable(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Let the device in again."""
        return await self._set_status("enable", DeviceStatus.ACTIVE, user_input)

    async def async_step_revoke(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Refuse the device for good, and destroy its key."""
        return await self._set_status("revoke", DeviceStatus.REVOKED, user_input)

    @property
    def _hub(self) -> GrokmonHub:
        """Return the hub that runs now; without one there is nothing to go on with."""
        return hub_of_flow(self.hass)

    @property
    def _device_id(self) -> str:
        device_id: str = self._get_reconfigure_subentry().data[CONF_DEVICE_ID]
        return device_id

    def _enrolled_choices(self) -> Choices:
        return Choices(
            device_id=self._choices[CONF_DEVICE_ID],
            name=self._choices[CONF_NAME].strip(),
            zone=self._choices.get(CONF_ZONE),
            metrics=frozenset(self._choices[CONF_METRICS]),
            ranges={},
            actuators=tuple(Actuator(name=role, role=Role(role)) for role in self._choices[CONF_ACTUATORS]),
        )

    async def _set_status(
        self, step_id: str, status: DeviceStatus, user_input: dict[str, Any] | None
    ) -> SubentryFlowResult:
        hub, errors = self._hub, dict[str, str]()
        if user_input is not None:
            try:
                await hub.enrolment.async_set_status(self._device_id, status, actor())
            except RegistryError as error:
                errors["base"] = error.code.value
            except HomeAssistantError:
                errors["base"] = "store_not_written"
            else:
                return self.async_abort(reason=status.value)
        return self._form(step_id, probatio.Schema({}), None, errors, {"name": self._subentry_choices().name})

    def _show(self, device: Device) -> None:
        settings = settings_of(device, self._hub.trust.site)
        place = place_for_devices(self.hass, self._get_entry().options.get(CONF_BROKER, {}))
        self._instructions = instructions(device, settings, place)

    def _shown(self, step_id: str, errors: dict[str, str] | None = None) -> SubentryFlowResult:
        return self.async_show_form(
            step_id=step_id,
            data_schema=probatio.Schema({}),
            errors=errors,
            description_placeholders=self._instructions,
        )

    def _forget(self) -> None:
        self._record = self._prepared_by = None
        self._instructions = {}


def _field_of(error: RegistryError) -> str:
    return CONF_PUBLIC_KEY if error.code is Code.PUBLIC_KEY_INVALID else "base"
