"""Callers: who stands behind a Context of Home Assistant.

A context says which user it belongs to and which context it came from, not what kind of caller it is. Automations and
scripts tell when they start; a language model is known by the context for which tools were made, and by the task in
which they were; a spoken or typed sentence by the chat that is open while it is carried out.

Home Assistant also carries out sentences later, in contexts that belong to nobody. What is begun in a task goes on
with the context variables of that task: by these it is known whose login, or which model, set off such a sentence.

An automation that its trigger set off is its owner's rule, whoever was behind the trigger. One that a model or a user
of an AI runs past its triggers and conditions is theirs, and so is what a model does that an automation has asked.
"""

from collections import OrderedDict
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from homeassistant.auth.models import User
from homeassistant.auth.permissions.const import POLICY_CONTROL
from homeassistant.components.automation import ATTR_SOURCE, EVENT_AUTOMATION_TRIGGERED
from homeassistant.components.conversation.chat_log import current_chat_log
from homeassistant.components.http.const import KEY_HASS_USER
from homeassistant.components.script.const import EVENT_SCRIPT_STARTED
from homeassistant.components.websocket_api.connection import current_connection
from homeassistant.const import ATTR_ENTITY_ID, EVENT_CALL_SERVICE
from homeassistant.core import CALLBACK_TYPE, Context, Event, HomeAssistant, callback
from homeassistant.exceptions import Unauthorized, UnknownUser
from homeassistant.helpers.http import current_request
from homeassistant.util.hass_dict import HassKey

from .gateway.principals import Caller, Principal


class _Model(NamedTuple):
    """Who acts for an AI in a task, and in which contexts it, and whoever asked it, was asked."""

    identity: str
    contexts: tuple[str, ...]


DATA_AI_CONTEXTS: Final[HassKey[OrderedDict[str, str]]] = HassKey("grokmon_ai_contexts")
_MODEL: Final[ContextVar[_Model | None]] = ContextVar("grokmon_model", default=None)
_REMEMBERED: Final = 1024
_NESTED: Final = 16
_NOBODY: Final = "unknown"


class Callers:
    """Remember which contexts belong to automations, scripts and models, and name the principal of any of them."""

    def __init__(self, hass: HomeAssistant, ai_users: frozenset[str]) -> None:
        self._hass = hass
        self._ai_users = ai_users
        self._automations: OrderedDict[str, str] = OrderedDict()
        self._scripts: OrderedDict[str, str] = OrderedDict()

    @callback
    def async_listen(self) -> list[CALLBACK_TYPE]:
        """Take note of automations and scripts as they start, and of what is called; return how to stop that."""
        return [
            self._hass.bus.async_listen(EVENT_CALL_SERVICE, self._service_called),
            self._hass.bus.async_listen(EVENT_AUTOMATION_TRIGGERED, self._automation_started),
            self._hass.bus.async_listen(EVENT_SCRIPT_STARTED, self._script_started),
        ]

    async def async_identify(self, context: Context | None, *, reason: str = "") -> Principal:
        """Return the principal behind a context. One that cannot be told counts as an automation."""
        if context is None:
            return Principal(caller=Caller.AUTOMATION, identity=_NOBODY)
        via = self._scripts.get(context.id)
        automation = self._automations.get(context.id)
        if automation is not None and self._is_rule(context.id):
            return Principal(caller=Caller.AUTOMATION, identity=automation, via=via)
        administrator = await self._is_administrator(context.user_id)
        behind = login()
        caller, identity = self._class(context, behind)
        if caller is Caller.VOICE and context.user_id is None and behind is not None:
            via = behind.id
        return Principal(
            caller=caller,
            identity=identity,
            via=via or automation,
            administrator=administrator and caller is Caller.PERSON,
            reason=reason,
        )

    async def async_check(self, context: Context | None, entity_id: str | None) -> None:
        """Raise Unauthorized for who may not control an entity: the user of a context, or whose login set it off.

        None is an entity that there is no more: no user has a right to it.
        """
        user_id = context.user_id if context is not None else None
        user = login() if user_id is None else await self._hass.auth.async_get_user(user_id)
        if user is None:
            if user_id is not None:
                raise UnknownUser(context=context)
        elif entity_id is None or not user.permissions.check_entity(entity_id, POLICY_CONTROL):
            raise Unauthorized(context=context, entity_id=entity_id, permission=POLICY_CONTROL)

    def _class(self, context: Context, behind: User | None) -> tuple[Caller, str]:
        user_id = context.user_id
        models = self._hass.data.get(DATA_AI_CONTEXTS)
        here = _MODEL.get()
        model = (models.get(context.id) if models is not None else None) or (here.identity if here else None)
        acts_for = user_id if user_id is not None or behind is None else behind.id
        if model is not None or acts_for in self._ai_users:
            return Caller.AI, model or acts_for or _NOBODY
        chat = current_chat_log.get()
        if chat is not None:
            return (Caller.AI if chat.llm_api is not None else Caller.VOICE), user_id or chat.conversation_id
        if user_id is not None:
            return Caller.PERSON, user_id
        return Caller.AUTOMATION, self._scripts.get(context.id, _NOBODY)

    def _is_rule(self, context_id: str | None) -> bool:
        """Tell whether it is an automation that acts in a context, and not a model that it asked in this task.

        What an automation calls runs in a task of its own: the next step is the automation's again.
        """
        here = _MODEL.get()
        return context_id in self._automations and (here is None or context_id not in here.contexts)

    async def _is_administrator(self, user_id: str | None) -> bool:
        user = await self._hass.auth.async_get_user(user_id) if user_id is not None else None
        return user is not None and user.is_active and user.is_admin

    @callback
    def _service_called(self, event: Event[dict[str, Any]]) -> None:
        if (user_id := event.context.user_id) in self._ai_users:
            # What it begins may have other contexts, and its call need not have come with a login.
            async_note_model(self._hass, event.context, user_id)

    @callback
    def _automation_started(self, event: Event[dict[str, Any]]) -> None:
        context = event.context
        if context.user_id is not None:
            # A user has sent that: an automation's own context belongs to none.
            return
        if ATTR_SOURCE not in event.data and context.parent_id is not None and not self._is_rule(context.parent_id):
            # Run, and not triggered: past its conditions, and with variables of who ran it.
            caller, identity = self._class(Context(id=context.parent_id), login())
            if caller is Caller.AI:
                async_note_model(self._hass, context, identity)
                _remember(self._scripts, context.id, event.data[ATTR_ENTITY_ID])
                return
        _remember(self._automations, event.context.id, event.data[ATTR_ENTITY_ID])

    @callback
    def _script_started(self, event: Event[dict[str, Any]]) -> None:
        _remember(self._scripts, event.context.id, event.data[ATTR_ENTITY_ID])


@callback
def async_note_model(hass: HomeAssistant, context: Context | None, platform: str) -> None:
    """Take note that a language model acts in a context: whatever it calls, tools of ours or others, is the AI's."""
    here = _MODEL.get()
    # A model that asks another one in its task is still one.
    contexts = here.contexts if here is not None else ()
    if context is not None and context.id not in contexts and len(contexts) < _NESTED:
        contexts = (*contexts, context.id)
    _MODEL.set(_Model(platform, contexts))
    if context is not None:
        _remember(hass.data.setdefault(DATA_AI_CONTEXTS, OrderedDict()), context.id, platform)


def login() -> User | None:
    """Return whose connection or request set off what is going on, however long ago."""
    if (connection := current_connection.get()) is not None:
        return connection.user
    request = current_request.get()
    user: User | None = request.get(KEY_HASS_USER) if request is not None else None
    return user


def _remember(memory: OrderedDict[str, str], context_id: str, what: str) -> None:
    memory[context_id] = what
    memory.move_to_end(context_id)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)
