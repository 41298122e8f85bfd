"""Repairs: what an administrator confirms. Home Assistant opens these flows to administrators only."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, override

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.selector import TextSelector
import probatio

from .access import actor, hub_of_flow
from .alarms import ISSUE_BOOKS, ISSUE_FAULT, ISSUE_INTERLOCK
from .approvals import ISSUE_APPROVAL
from .audit_form import async_new_key_form
from .audit_keeper import ISSUE_KEY_UNSEEN, ISSUE_RESTORED
from .broker.accounts import ISSUE_FILES
from .credential_keeper import ISSUE_SILENT
from .errors import async_explain
from .gateway.actuators import Key
from .gateway.errors import GatewayError
from .hub import GrokmonHub
from .posture import ISSUE_POSTURE
from .security import ISSUE_ALERT

CONF_REASON: Final = "reason"
_REASON: Final = 200

type Data = dict[str, str | int | float | None]


async def async_create_fix_flow(_hass: HomeAssistant, _issue_id: str, data: Data | None) -> RepairsFlow:
    """Return the flow that fixes an issue."""
    facts = data or {}
    return _FLOWS[str(facts["issue"])](facts)


class _Flow(RepairsFlow):
    """A flow on the hub's business, with what the issue is about."""

    def __init__(self, facts: Data) -> None:
        super().__init__()
        self._facts = facts

    def _fact(self, name: str) -> str:
        return str(self._facts[name])


class _ConfirmFlow(_Flow):
    """A flow that asks once, and then fixes."""

    async def async_step_init(self, _user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Handle the first step."""
        return await self.async_step_confirm()

    async def async_step_confirm(self, user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Ask, then fix."""
        if user_input is None:
            return self.async_show_form(step_id="confirm", data_schema=probatio.Schema({}))
        hub = hub_of_flow(self.hass)
        try:
            obstacle = await self._async_fix(hub)
        except GatewayError as error:
            obstacle = error.code.value
        except HomeAssistantError:
            obstacle = "store_not_written"
        if obstacle is not None:
            return self.async_abort(reason=obstacle)
        return self.async_create_entry(data={})

    @abstractmethod
    async def _async_fix(self, hub: GrokmonHub) -> str | None:
        """Fix the issue; return what stands in the way, or None. Raises GatewayError or HomeAssistantError."""


class InterlockFlow(_ConfirmFlow):
    """Reset a latched interlock once its condition is over."""

    @override
    async def _async_fix(self, hub: GrokmonHub) -> str | None:
        _, kept = await hub.async_reset_interlocks(self._fact("zone_id"), actor())
        return "condition_holds" if self._fact("interlock") in kept else None


class FaultFlow(_ConfirmFlow):
    """Reset an output that had a fault."""

    @override
    async def _async_fix(self, hub: GrokmonHub) -> str | None:
        await hub.async_reset_fault(Key(self._fact("device_id"), self._fact("actuator")), actor())
        return None


class ApprovalFlow(_Flow):
    """Approve or decline what the AI wants to do."""

    async def async_step_init(self, _user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Ask."""
        return self.async_show_menu(step_id="init", menu_options=["approve", "decline"])

    async def async_step_approve(self, _user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Let the AI have its way."""
        return await self._async_decide(approved=True)

    async def async_step_decline(self, _user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Refuse."""
        return await self._async_decide(approved=False)

    async def _async_decide(self, *, approved: bool) -> RepairsFlowResult:
        hub = hub_of_flow(self.hass)
        try:
            await hub.approvals.async_decide(self._fact("approval_id"), approved=approved, administrator=actor())
        except GatewayError as error:
            explanation = await async_explain(self.hass, error)
            return self.async_abort(reason="not_carried_out", description_placeholders={"detail": explanation})
        except HomeAssistantError:
            return self.async_abort(reason="approval_expired")
        return self.async_create_entry(data={})


class AlertFlow(_ConfirmFlow):
    """Acknowledge a security alert."""

    @override
    async def _async_fix(self, hub: GrokmonHub) -> str | None:
        hub.monitor.async_acknowledge(self._fact("device_id"), actor())
        return None


class RestoredFlow(_ConfirmFlow):
    """Confirm that the devices were looked through after a restore."""

    @override
    async def _async_fix(self, hub: GrokmonHub) -> str | None:
        hub.audit.record("restore_confirmed", actor=actor())
        return None


class BooksFlow(_ConfirmFlow):
    """Confirm that the room was looked through after budgets and latches were lost."""

    @override
    async def _async_fix(self, hub: GrokmonHub) -> str | None:
        hub.audit.record("books_confirmed", actor=actor())
        return None


class AuditKeyFlow(_Flow):
    """Show the key of the audit trail, once."""

    async def async_step_init(self, _user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Go on with a new key, and show it."""
        hub = hub_of_flow(self.hass)
        try:
            form = await async_new_key_form(hub.audit)
        except OSError:
            return self.async_abort(reason="not_written")
        return self.async_show_form(step_id="key", **form)

    async def async_step_key(self, _user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """End: it is not shown again."""
        return self.async_create_entry(data={})


class SilentFlow(_ConfirmFlow):
    """Restore the credentials of a device that has fallen silent after a rotation."""

    @override
    async def _async_fix(self, hub: GrokmonHub) -> str | None:
        await hub.trust.credentials.async_restore(self._fact("device_id"), actor(), offered=True)
        return None


class FilesFlow(_ConfirmFlow):
    """Confirm that the broker has read its files again, and look whether it goes by them."""

    @override
    async def _async_fix(self, hub: GrokmonHub) -> str | None:
        if not await hub.trust.accounts.files.async_read(self._fact("version")):
            return "files_changed"
        hub.trust.posture.async_request()
        return None


class PostureFlow(_Flow):
    """Acknowledge what is not in order, with a reason, or measure it again."""

    async def async_step_init(self, _user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Ask which."""
        return self.async_show_menu(
            step_id="init",
            menu_options=["again", "acknowledge"],
            description_placeholders={name: str(fact) for name, fact in self._facts.items()},
        )

    async def async_step_again(self, _user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Measure again: what is in order now is no issue any more."""
        hub = hub_of_flow(self.hass)
        try:
            await hub.trust.posture.async_measure()
        except HomeAssistantError:
            return self.async_abort(reason="store_not_written")
        if hub.trust.posture.is_failed(self._fact("item")):
            return self.async_abort(reason="not_in_order")
        return self.async_create_entry(data={})

    async def async_step_acknowledge(self, user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Ask for the reason."""
        hub = hub_of_flow(self.hass)
        errors: dict[str, str] = {}
        if user_input is not None:
            reason = user_input[CONF_REASON].strip()[:_REASON]
            try:
                if reason:
                    await hub.trust.posture.async_acknowledge(self._fact("item"), reason, actor())
                    return self.async_create_entry(data={})
                errors[CONF_REASON] = "reason_missing"
            except HomeAssistantError:
                errors["base"] = "store_not_written"
        schema = probatio.Schema({probatio.Required(CONF_REASON): TextSelector()})
        return self.async_show_form(step_id="acknowledge", data_schema=schema, errors=errors)


_FLOWS: Final[Mapping[str, Callable[[Data], RepairsFlow]]] = {
    ISSUE_INTERLOCK: InterlockFlow,
    ISSUE_FAULT: FaultFlow,
    ISSUE_APPROVAL: ApprovalFlow,
    ISSUE_ALERT: AlertFlow,
    ISSUE_RESTORED: RestoredFlow,
    ISSUE_BOOKS: BooksFlow,
    ISSUE_KEY_UNSEEN: AuditKeyFlow,
    ISSUE_SILENT: SilentFlow,
    ISSUE_FILES: FilesFlow,
    ISSUE_POSTURE: PostureFlow,
}
