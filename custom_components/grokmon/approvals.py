"""Approvals: what the AI may do only when an administrator agrees."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
import logging
from secrets import token_hex
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.translation import async_get_translations
import probatio

from .audit_log import AuditLog
from .const import CONF_AI_USERS, CONF_NOTIFY, DOMAIN
from .decisions import figures_of
from .dispatch import Dispatcher
from .gateway.actuators import Command
from .gateway.errors import Code, GatewayError, PolicyError
from .gateway.principals import Caller, Principal
from .unique_ids import output_name

_LOGGER = logging.getLogger(__name__)

EVENT_NOTIFICATION_ACTION: Final = "mobile_app_notification_action"
ISSUE_APPROVAL: Final = "approval"
EXPIRES_S: Final = 900.0
_APPROVE: Final = "GROKMON_APPROVE_"
_DECLINE: Final = "GROKMON_DECLINE_"
# More questions than a person answers are not asked.
_MAX_OPEN: Final = 8


@dataclass(frozen=True, slots=True)
class Approval:
    """A command that waits for an administrator."""

    approval_id: str
    command: Command
    principal: Principal
    cancel: CALLBACK_TYPE


class Approvals:
    """Ask administrators, in the repairs and by a notification with actions; what nobody answers expires."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry[Any],
        dispatcher: Dispatcher,
        audit: AuditLog,
        name_of: Callable[[str], str],
    ) -> None:
        self._hass = hass
        self._entry = entry
        self._dispatcher = dispatcher
        self._audit = audit
        self._name_of = name_of
        self.open: dict[str, Approval] = {}

    @callback
    def async_listen(self) -> list[CALLBACK_TYPE]:
        """Listen to answers from the mobile app; return how to stop that, and how to close what is open."""
        return [self._hass.bus.async_listen(EVENT_NOTIFICATION_ACTION, self._async_answered), self._close_all]

    @callback
    def async_request(self, command: Command, who: Principal) -> None:
        """Ask for approval of a command; the same question is asked once. Raises PolicyError for too many of them."""
        if any(known.command == command for known in self.open.values()):
            return
        if len(self.open) >= _MAX_OPEN:
            raise PolicyError(
                Code.CONTROL_RATE, f"{_MAX_OPEN} questions are open already", variant="questions", limit=_MAX_OPEN
            )
        approval_id = token_hex(4)

        @callback
        def expire(_now: datetime) -> None:
            self._close(approval_id, "expired", None)

        approval = Approval(approval_id, command, who, async_call_later(self._hass, EXPIRES_S, expire))
        self.open[approval_id] = approval
        self._audit.record("approval_requested", who=who, approval=approval_id, **_facts(command))
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            f"{ISSUE_APPROVAL}_{approval_id}",
            data={"issue": ISSUE_APPROVAL, "approval_id": approval_id},
            is_fixable=True,
            severity=ir.IssueSeverity.WARNING,
            translation_key=ISSUE_APPROVAL,
            translation_placeholders=self._words(approval),
        )
        # Whoever asked is told at once that an administrator is needed, however long a phone takes.
        self._entry.async_create_background_task(self._hass, self._async_notify(approval), "grokmon notification")

    async def async_decide(self, approval_id: str, *, approved: bool, administrator: str) -> None:
        """Carry out what was approved, or let go of it. Raises the errors of the command, which is judged anew.

        Raises PolicyError (`not_administrator`) for an AI that has a login of its own: it does not approve itself.
        """
        if approved and administrator in self._entry.options.get(CONF_AI_USERS, ()):
            self._refuse(approval_id, administrator)
            raise PolicyError(Code.NOT_ADMINISTRATOR, "an AI does not approve what it asks for", variant="ai")
        approval = self._close(approval_id, "approved" if approved else "declined", administrator)
        if approval is None:
            raise ServiceValidationError(translation_domain=DOMAIN, translation_key="approval_expired")
        if approved:
            who = replace(approval.principal, approved_by=administrator)
            await self._dispatcher.async_send(approval.command, who)

    async def _async_answered(self, event: Event[dict[str, Any]]) -> None:
        action = str(event.data.get("action", ""))
        approved = action.startswith(_APPROVE)
        approval_id = action.removeprefix(_APPROVE if approved else _DECLINE)
        user_id = event.context.user_id
        if approval_id == action or approval_id not in self.open or user_id is None:
            return
        user = await self._hass.auth.async_get_user(user_id)
        if user is None or not user.is_active or not user.is_admin:
            self._refuse(approval_id, user_id)
            return
        try:
            await self.async_decide(approval_id, approved=approved, administrator=user_id)
        except (GatewayError, HomeAssistantError) as error:
            _LOGGER.warning("What was approved could not be carried out: %s", error)

    def _refuse(self, approval_id: str, user_id: str) -> None:
        who = Principal(caller=Caller.PERSON, identity=user_id)
        reason, now = Code.NOT_ADMINISTRATOR.value, self._dispatcher.clock.now()
        self._dispatcher.log.denied("approval_refused", who, reason, now, {"approval": approval_id})

    async def _async_notify(self, approval: Approval) -> None:
        if not (service := self._entry.options.get(CONF_NOTIFY)):
            return
        # The words of the repair, which asks the same.
        texts = await async_get_translations(self._hass, self._hass.config.language, "issues", {DOMAIN})
        form = f"component.{DOMAIN}.issues.{ISSUE_APPROVAL}.fix_flow.step.init"
        actions = [
            {"action": f"{action}{approval.approval_id}", "title": texts[f"{form}.menu_options.{option}"]}
            for action, option in ((_APPROVE, "approve"), (_DECLINE, "decline"))
        ]
        data = {
            "title": texts[f"{form}.title"],
            "message": texts[f"{form}.description"].format_map(self._words(approval)),
            "data": {"actions": actions, "tag": approval.approval_id},
        }
        try:
            await self._hass.services.async_call("notify", service, data, blocking=True)
        except (HomeAssistantError, probatio.Invalid) as error:
            _LOGGER.warning("The notification could not be sent: %s", error)

    def _words(self, approval: Approval) -> dict[str, str]:
        figures = figures_of(approval.command.params())
        return {
            "name": self._name_of(approval.command.key.device_id),
            "actuator": output_name(self._hass, approval.command.key),
            "params": f": {figures}" if figures else "",
            # Its own words are a quotation.
            "reason": f'\n\n"{approval.principal.reason}"' if approval.principal.reason else "",
        }

    @callback
    def _close_all(self) -> None:
        for approval_id in list(self.open):
            self._close(approval_id, "expired", None)

    @callback
    def _close(self, approval_id: str, outcome: str, actor: str | None) -> Approval | None:
        approval = self.open.pop(approval_id, None)
        if approval is None:
            return None
        approval.cancel()
        self._audit.record(f"approval_{outcome}", approval=approval_id, actor=actor)
        ir.async_delete_issue(self._hass, DOMAIN, f"{ISSUE_APPROVAL}_{approval_id}")
        return approval


def _facts(command: Command) -> dict[str, Any]:
    return {"device": command.key.device_id, "actuator": command.key.actuator, "params": command.params()}
