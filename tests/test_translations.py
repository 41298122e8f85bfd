"""Whatever a person may see has words: flows, services, errors, entities, issues; and no words are left over."""

import ast
from collections.abc import Iterator
import inspect
import json
from pathlib import Path
import re
from string import Formatter
from typing import Any

from homeassistant.config_entries import ConfigFlow, ConfigSubentryFlow, OptionsFlow
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers.selector import SelectSelector
from homeassistant.util.yaml import load_yaml_dict
import probatio
import pytest

from custom_components.grokmon import binary_sensor, config_flow, credential_keeper, enrolment, event, sensor
from custom_components.grokmon.actuator_form import PROBLEMS
from custom_components.grokmon.broker import accounts
from custom_components.grokmon.choices import METHODS
from custom_components.grokmon.config_flow import GrokmonConfigFlow
from custom_components.grokmon.const import CONF_HTTP_ENROLMENT, DOMAIN
from custom_components.grokmon.device_flow import TEMPLATES, DeviceFlow
from custom_components.grokmon.gateway import credentials, lifecycle, models, registry
from custom_components.grokmon.gateway.actuators import KIND_OF, Kind, Role
from custom_components.grokmon.gateway.audit_export import FORMATS
from custom_components.grokmon.gateway.audit_record import OUTCOMES
from custom_components.grokmon.gateway.catalog import CATALOG
from custom_components.grokmon.gateway.checklist import Item
from custom_components.grokmon.gateway.errors import Code
from custom_components.grokmon.gateway.interlocks import RULES
from custom_components.grokmon.gateway.policy import LIMITS
from custom_components.grokmon.gateway.posture import Check
from custom_components.grokmon.gateway.security_events import Severity
from custom_components.grokmon.gateway.zones import Interlock, Stage
from custom_components.grokmon.options_flow import GrokmonOptionsFlow
from custom_components.grokmon.posture import ISSUE_POSTURE
from custom_components.grokmon.zone_flow import ZoneFlow

from .common import Room, RoomDevice
from .device_simulator.credentials import generate_key_pair, public_pem

FOLDER = Path(config_flow.__file__).parent
TEXTS: dict[str, Any] = json.loads((FOLDER / "translations" / "en.json").read_text())
ICONS: dict[str, Any] = json.loads((FOLDER / "icons.json").read_text())
SERVICES: dict[str, Any] = load_yaml_dict(FOLDER / "services.yaml")
MODULES = {
    path.relative_to(FOLDER).with_suffix("").as_posix(): ast.parse(path.read_text())
    for path in (*FOLDER.glob("*.py"), *FOLDER.glob("broker/*.py"))
}
# Each flow with the modules that have a part in it.
FLOWS: dict[str, tuple[type, tuple[str, ...], dict[str, Any]]] = {
    "config": (GrokmonConfigFlow, ("config_flow",), TEXTS["config"]),
    "options": (GrokmonOptionsFlow, ("options_flow", "broker_form", "anchors"), TEXTS["options"]),
    "device": (
        DeviceFlow,
        ("device_flow", "credential_steps", "output_steps"),
        TEXTS["config_subentries"]["device"],
    ),
    "zone": (ZoneFlow, ("zone_flow",), TEXTS["config_subentries"]["zone"]),
}
# What only hands on to another step has no form, and no words.
HANDS_ON = {"integration_discovery"}
HUB_SENSORS = (*sensor.HUB_SENSORS, sensor.AUDIT_SENSOR, sensor.POSTURE_SENSOR)
FAULTS = {"mismatch", "no_flow", "no_moisture"}
INTERLOCKS_THAT_KEEP_OFF = {each.value for each, rule in RULES.items() if rule.covers}
SENSORS = sensor.DEVICE_SENSORS | {each.key: each for each in HUB_SENSORS}


def _strings(node: ast.AST) -> list[str]:
    """Return the string constants among the values that an expression may have."""
    if isinstance(node, ast.IfExp):
        return _strings(node.body) + _strings(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def _calls(module: str) -> Iterator[tuple[str, dict[str, ast.expr]]]:
    """Yield the name and the keyword arguments of every call in a module."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}


def _placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def _leaves(texts: Any) -> Iterator[str]:
    if isinstance(texts, str):
        yield texts
        return
    for value in texts.values():
        yield from _leaves(value)


def test_texts_are_texts() -> None:
    """No text is empty, has spaces around it, or braces that do not close."""
    for text in _leaves(TEXTS):
        assert text == text.strip() != ""
        _placeholders(text)


# Flows


@pytest.mark.parametrize("flow", FLOWS)
def test_every_step_has_words(flow: str) -> None:
    """The steps of a flow are the ones that are described; a step that only hands on is none."""
    kind, _, texts = FLOWS[flow]
    inherited = {name for base in (ConfigFlow, OptionsFlow, ConfigSubentryFlow) for name in dir(base)}
    methods = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if name.startswith("async_step_")}
    own = {name.removeprefix("async_step_") for name in methods if name not in inherited or name in vars(kind)}
    assert own - HANDS_ON == texts["step"].keys()
    for step in texts["step"].values():
        assert step["title"]


def _described(texts: dict[str, Any], step: str, schema: probatio.Schema | None, given: set[str]) -> None:
    """Hold the words of one step against its form: its fields, and what is filled into its texts."""
    words = texts["step"][step]
    fields = {key.schema for key in schema.schema} if schema is not None else set()
    described = words.get("data", {}).keys()
    assert described == words.get("data_description", {}).keys()
    assert fields <= described
    for selector in schema.schema.values() if schema is not None else ():
        if isinstance(selector, SelectSelector) and (key := selector.config.get("translation_key")) is not None:
            assert set(selector.config["options"]) <= TEXTS["selector"][key]["options"].keys()
    needed = {name for text in _leaves(words) for name in _placeholders(text)}
    assert needed <= given


class Forms:
    """Walk through flows and hold every form against its words."""

    def __init__(self, room: Room) -> None:
        """Begin with no step seen."""
        self.room = room
        self.seen: dict[str, dict[str, set[str]]] = {}

    def look(self, flow: str, result: Any) -> Any:
        """Hold a form against its words; return it."""
        if result["type"] in {FlowResultType.FORM, FlowResultType.MENU}:
            schema = result["data_schema"] if result["type"] is FlowResultType.FORM else None
            given = set(result["description_placeholders"] or {})
            _described(FLOWS[flow][2], result["step_id"], schema, given)
            fields = {key.schema for key in schema.schema} if schema is not None else set()
            self.seen.setdefault(flow, {}).setdefault(result["step_id"], set()).update(fields)
        if result["type"] is FlowResultType.MENU:
            words = FLOWS[flow][2]["step"][result["step_id"]]
            assert set(result["menu_options"]) <= words["menu_options"].keys()
            assert words["menu_options"].keys() == words["menu_option_descriptions"].keys()
        return result

    async def subentry(self, flow: str, subentry_id: str | None, *answers: dict[str, Any]) -> Any:
        """Go through a flow of a subentry."""
        result = self.look(flow, await self.room.start_flow(flow, subentry_id))
        for answer in answers:
            result = self.look(flow, await self.room.submit(result, answer))
        return result


@pytest.mark.parametrize("options", [{CONF_HTTP_ENROLMENT: True}])
async def test_every_field_has_words(tent: RoomDevice) -> None:
    """Every field of every form has a name and a description, and every placeholder of a text is given."""
    room = tent.room
    forms = Forms(room)
    # What was used can be restored later on.
    await tent.report({"temp_c": 24.0})
    zone = await forms.subentry("zone", None, {"name": "Flower tent", "stage": "flowering"})
    assert zone["type"] is FlowResultType.CREATE_ENTRY
    zone_id = next(sub.subentry_id for sub in room.entry.subentries.values() if sub.subentry_type == "zone")
    for step in ("settings", "budgets", "interlocks"):
        await forms.subentry("zone", zone_id, {"next_step_id": step})
    await forms.subentry("zone", zone_id, {"next_step_id": "targets"}, {"stage": "flowering"})
    await forms.subentry(
        "device",
        None,
        {"name": "Tent 2"},
        {"device_id": "tent-2", "template": "climate"},
        {"metrics": ["ph"], "actuators": [role.value for role in Role]},
        {"auth": "eddsa", "public_key": public_pem(generate_key_pair("eddsa"))},
        {},
    )
    for device_id, auth in (("tent-3", "broker"), ("tent-4", "token"), ("tent-5", "hs256")):
        await forms.subentry(
            "device",
            None,
            {"name": device_id},
            {"device_id": device_id, "template": "custom"},
            {"metrics": ["temp_c"]},
            {"auth": auth, "handover": "claim" if device_id == "tent-5" else "show"},
            {},
        )
    tent_1, tent_2 = room.subentry("tent-1").subentry_id, room.subentry("tent-2").subentry_id
    await forms.subentry("device", tent_1, {"next_step_id": "settings"})
    await forms.subentry("device", tent_1, {"next_step_id": "ranges"}, {"metric": "temp_c"})
    await forms.subentry("device", tent_2, {"next_step_id": "rotate"})
    await forms.subentry("device", tent_2, {"next_step_id": "outputs"})
    for role in Role:
        await forms.subentry("device", tent_2, {"next_step_id": "output"}, {"actuator": role.value})
    await forms.subentry("device", tent_1, {"next_step_id": "rotate"}, {})
    await forms.subentry("device", tent_1, {"next_step_id": "restore"})
    await forms.subentry("device", room.subentry("tent-4").subentry_id, {"next_step_id": "rotate"}, {})
    await forms.subentry("device", tent_1, {"next_step_id": "disable"}, {})
    await forms.subentry("device", tent_1, {"next_step_id": "enable"})
    await forms.subentry("device", tent_1, {"next_step_id": "revoke"})
    options = room.hass.config_entries.options
    for step in ("general", "ai_users", "limits", "broker", "http", "audit", "audit_key"):
        menu = forms.look("options", await options.async_init(room.entry.entry_id))
        form = forms.look("options", await options.async_configure(menu["flow_id"], {"next_step_id": step}))
        if step == "limits":
            forms.look("options", await options.async_configure(form["flow_id"], {"caller": "ai"}))
        if step == "audit_key":
            forms.look("options", await options.async_configure(form["flow_id"], {}))
    context: Any = {"source": "integration_discovery"}
    request = {"device_id": "tent-6", "fingerprint": "SHA256:0000"}
    forms.look("config", await room.hass.config_entries.flow.async_init(DOMAIN, context=context, data=request))
    context = {"source": "reconfigure", "entry_id": room.entry.entry_id}
    forms.look("config", await room.hass.config_entries.flow.async_init(DOMAIN, context=context))
    await room.hass.config_entries.async_remove(room.entry.entry_id)
    context = {"source": "user"}
    forms.look("config", await room.hass.config_entries.flow.async_init(DOMAIN, context=context))
    for flow, (_, _, texts) in FLOWS.items():
        assert forms.seen[flow] == {step: set(words.get("data", {})) for step, words in texts["step"].items()}


async def _offered(room: Room) -> set[str]:
    menu: Any = await room.start_flow("device", room.subentry().subentry_id)
    return set(menu["menu_options"])


async def test_menu_has_words(tent: RoomDevice) -> None:
    """Every entry of the menu is named and described, and every one that is described is offered some time."""
    room = tent.room
    words = FLOWS["device"][2]["step"]["reconfigure"]
    await tent.report({"temp_c": 24.0})
    await room.call("rotate_credentials", {"device_id": "tent-1"})
    await Forms(room).subentry(
        "device", room.subentry().subentry_id, {"next_step_id": "outputs"}, {"actuators": ["exhaust"]}
    )
    offered = await _offered(room)
    await Forms(room).subentry("device", room.subentry().subentry_id, {"next_step_id": "disable"}, {})
    offered |= await _offered(room)
    assert offered == words["menu_options"].keys() == words["menu_option_descriptions"].keys()
    menu: Any = await room.hass.config_entries.options.async_init(room.entry.entry_id)
    assert set(menu["menu_options"]) == TEXTS["options"]["step"]["init"]["menu_options"].keys()


def _abort_reasons(module: str) -> set[str]:
    constant = {
        reason
        for name, keywords in _calls(module)
        if name in {"async_abort", "async_update_and_abort"} and "reason" in keywords
        for reason in _strings(keywords["reason"])
    }
    if any(name == "hub_of_flow" for name, _ in _calls(module)):
        constant |= {"not_loaded"}
    return constant | ({"disabled", "active", "revoked"} if module == "credential_steps" else set())


# Reasons that Home Assistant gives, with its own words or with ours.
GIVEN_BY_HOME_ASSISTANT = {"single_instance_allowed", "already_configured"}


@pytest.mark.parametrize("flow", ["config", "options", "device", "zone"])
def test_every_reason_has_words(flow: str) -> None:
    """Every reason to end a flow has words, and there are no words for others."""
    _, modules, texts = FLOWS[flow]
    reasons = {reason for module in modules for reason in _abort_reasons(module)}
    assert reasons <= texts["abort"].keys()
    assert texts["abort"].keys() - reasons <= GIVEN_BY_HOME_ASSISTANT


def _error_keys(module: str) -> set[str]:
    """Return the constants that a flow shows as errors: assigned to what holds them, or the values of short dicts."""
    found: set[str] = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            target = node.targets[0].value
            if isinstance(target, ast.Name) and target.id in {"errors", "problems", "found"}:
                found.update(_strings(node.value))
        elif isinstance(node, ast.Dict) and len(node.keys) == 1 and isinstance(node.keys[0], ast.expr):
            key = node.keys[0]
            if isinstance(key, ast.Name | ast.JoinedStr) or (isinstance(key, ast.Constant) and key.value == "base"):
                found.update(_strings(node.values[0]))
    return found


def _codes_raised_in(module: Any) -> set[str]:
    tree = ast.parse(Path(module.__file__).read_text())
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in Code.__members__}
    return {Code[name].value for name in names}


# A device that is not there has no form, and a key that was just made is not empty.
NEVER_IN_A_FORM = {Code.UNKNOWN_DEVICE.value, Code.FIELD_INVALID.value}
# A request was looked at when it was made, metrics are chosen from the catalogue, and nothing else is asked for.
NEVER_OF_A_REQUEST = {
    Code.DEVICE_REVOKED.value,
    Code.DEVICE_ID_INVALID.value,
    Code.PUBLIC_KEY_INVALID.value,
    Code.METRIC_UNKNOWN.value,
    Code.ACTUATOR_INVALID.value,
    Code.RATE_LIMIT_INVALID.value,
    Code.RANGE_INVALID.value,
}


@pytest.mark.parametrize("flow", FLOWS)
def test_every_error_has_words(flow: str) -> None:
    """Every error that a form can show has words, and there are no words for others."""
    _, modules, texts = FLOWS[flow]
    keys = {key for module in modules for key in _error_keys(module)}
    enrolled = _codes_raised_in(registry) | _codes_raised_in(credentials) | _codes_raised_in(enrolment)
    if flow == "zone":
        keys.add(Code.ZONE_INVALID.value)
    if flow == "config":
        keys |= enrolled - NEVER_IN_A_FORM - NEVER_OF_A_REQUEST
    if flow == "device":
        changed = _codes_raised_in(lifecycle) | _codes_raised_in(credential_keeper)
        keys |= (enrolled | changed | set(PROBLEMS.values())) - NEVER_IN_A_FORM
    assert sorted(keys) == sorted(texts["error"])


# Errors and issues


def _translation_keys(call: str) -> set[str]:
    """Return the translation keys that calls of this name are given, with module constants looked up."""
    found: set[str] = set()
    for module, tree in MODULES.items():
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        for name, keywords in _calls(module):
            if name == call and (value := keywords.get("translation_key")) is not None:
                found.update(_strings(constants.get(value.id, value) if isinstance(value, ast.Name) else value))
    return found


def test_every_exception_has_words() -> None:
    """Every code of the gateway and every error of the integration has words, and there are no words for others."""
    raised = {
        key
        for error in ("HomeAssistantError", "ServiceValidationError", "ConfigEntryError", "ConfigEntryNotReady")
        for key in _translation_keys(error)
    }
    assert raised
    # What an interlock has to do with it is told by which one it is.
    codes = {code.value for code in Code if code is not Code.INTERLOCKED}
    assert TEXTS["exceptions"].keys() == raised | codes | {sentence for sentence, _ in _sentences()}


def _sentences() -> Iterator[tuple[str, set[str]]]:
    """Yield the key of every sentence that an error of the gateway may have, and what can be filled into it."""
    gateway = (ast.parse(path.read_text()) for path in FOLDER.glob("gateway/*.py"))
    figures = {"limit": "limit", "left": "left", "frees_in_s": "wait"}
    for tree in (*gateway, *MODULES.values()):
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id="PolicyError" | "CommandError"), args=[said, *_], keywords=keywords):
                    given = {keyword.arg: keyword.value for keyword in keywords if keyword.arg is not None}
                case _:
                    continue
            placeholders = {"detail"} | {name for keyword, name in figures.items() if keyword in given}
            if isinstance(values := given.get("values"), ast.Dict):
                placeholders |= {name for key in values.keys if key is not None for name in _strings(key)}
            # One that is not written down is the interlock that says no.
            variants = {""} if "variant" not in given else _strings(given["variant"]) or INTERLOCKS_THAT_KEEP_OFF
            for code in _codes(said):
                for variant in variants:
                    yield f"{code}{'_' if variant else ''}{variant}", placeholders


def _codes(node: ast.expr) -> list[Code]:
    """Return the codes among the values that an expression may have."""
    match node:
        case ast.IfExp():
            return _codes(node.body) + _codes(node.orelse)
        case ast.Attribute(value=ast.Name(id="Code"), attr=name):
            return [Code[name]]
        case _:
            return []


def test_sentences_are_filled_in() -> None:
    """A sentence has in it at most what every error of its kind brings along."""
    found = dict[str, set[str]]()
    for sentence, placeholders in _sentences():
        found[sentence] = found.get(sentence, placeholders) & placeholders
    assert {f"interlocked_{interlock}" for interlock in INTERLOCKS_THAT_KEEP_OFF} <= found.keys()
    assert {"dark_period", "dark_period_always", "held_pending", "command_not_sent_broker"} <= found.keys()
    for code in TEXTS["exceptions"].keys() & {code.value for code in Code}:
        found.setdefault(code, {"detail"})
    for sentence, placeholders in found.items():
        assert _placeholders(TEXTS["exceptions"][sentence]["message"]) <= placeholders, sentence


def test_every_issue_has_words() -> None:
    """Every repair issue has a title and a description, and there are no words for others."""
    latching = {f"interlock_latched_{each}" for each, rule in RULES.items() if rule.latches}
    faults = {f"output_fault_{fault}" for fault in FAULTS}
    asked = {"approval", "security_alert", "restored", "books_lost", "audit_key_unseen"}
    posture = {f"{ISSUE_POSTURE}_{each.value}" for each in (*Check, *Item)}
    fixable = latching | faults | asked | posture | {credential_keeper.ISSUE_SILENT, accounts.ISSUE_FILES}
    expiring = {f"{credential_keeper.ISSUE_EXPIRES}_{kind.value}" for kind in models.CredentialKind}
    assert TEXTS["issues"].keys() == _translation_keys("async_create_issue") | fixable | expiring | {
        "audit_finding",
        "audit_unreadable",
        accounts.ISSUE_MISSING,
        accounts.ISSUE_REVOKING,
        accounts.ISSUE_UNREACHABLE,
    }
    for issue, words in TEXTS["issues"].items():
        assert words.keys() == {"title", "fix_flow" if issue in fixable else "description"}


def test_every_repair_says_that_the_disk_failed() -> None:
    """A repair that is kept on the disk has words for a disk that refuses it."""
    kept = ("interlock_latched", "output_fault", ISSUE_POSTURE, credential_keeper.ISSUE_SILENT)
    repairs = [issue for issue in TEXTS["issues"] if issue.startswith(kept)]
    assert repairs
    assert [each for each in repairs if "store_not_written" not in TEXTS["issues"][each]["fix_flow"]["abort"]] == []


# Entities


def test_every_sensor_has_a_name() -> None:
    """Every sensor is named, and no other; a sensor with states names each of them."""
    zones = {str(description.translation_key): description for description in sensor.ZONE_SENSORS}
    assert TEXTS["entity"]["sensor"].keys() == SENSORS.keys() | zones.keys()
    for key, of_zone in zones.items():
        words = TEXTS["entity"]["sensor"][key]
        assert words["name"]
        assert words.get("state", {}).keys() == set(of_zone.options or ())
    for description in SENSORS.values():
        words = TEXTS["entity"]["sensor"][description.key]
        assert description.translation_key == description.key
        assert words["name"]
        assert words.get("state", {}).keys() == set(description.options or ())


def test_every_binary_sensor_has_a_name() -> None:
    """Every binary sensor is named by us, or by its class."""
    named = {key for key, description in binary_sensor.DEVICE_SENSORS.items() if description.translation_key}
    zones = {str(description.translation_key) for description in binary_sensor.ZONE_SENSORS}
    faults = {f"{role}_fault" for role in Role}
    assert TEXTS["entity"]["binary_sensor"].keys() == named | zones | faults
    assert all("{number}" in TEXTS["entity"]["binary_sensor"][fault]["name"] for fault in faults)
    assert binary_sensor.DEVICE_SENSORS.keys() - named == {"connectivity"}


def test_event_has_words_for_every_type() -> None:
    """Every security event is named."""
    words = TEXTS["entity"]["event"]
    assert words.keys() == {event.SECURITY_EVENT.key}
    types = words["security_event"]["state_attributes"]["event_type"]["state"]
    assert types.keys() == set(event.SECURITY_EVENT.event_types or ())
    assert words["security_event"]["state_attributes"]["category"]["state"] == types
    severities = words["security_event"]["state_attributes"]["severity"]["state"]
    assert severities.keys() == {severity.value for severity in Severity}


def test_every_output_has_a_name() -> None:
    """Every role is named in the platform of its kind, with a place for the name of a second one."""
    platforms = {Kind.LIGHT: "light", Kind.FAN: "fan", Kind.SWITCH: "switch", Kind.PUMP: "switch"}
    for role, kind in KIND_OF.items():
        assert "{number}" in TEXTS["entity"][platforms[kind]][role.value]["name"]
    for platform, key in (("number", "irrigation_dose"), ("button", "irrigation_dose_now")):
        assert "{number}" in TEXTS["entity"][platform][key]["name"]


def test_device_has_a_name() -> None:
    """The hub's device is named."""
    assert TEXTS["device"].keys() == {"hub"}


@pytest.mark.parametrize("domain", sorted(ICONS["entity"]))
def test_every_icon_belongs_to_an_entity(domain: str) -> None:
    """An icon is of an entity that there is, and of a state that it can have."""
    for key, icon in ICONS["entity"][domain].items():
        assert key in TEXTS["entity"][domain]
        for name in [icon["default"], *icon.get("state", {}).values()]:
            assert re.fullmatch(r"mdi:[a-z0-9-]+", name)


def test_every_entity_has_an_icon() -> None:
    """What has no class, which would bring one, has an icon of ours."""
    without = {key for key, description in SENSORS.items() if description.device_class is None}
    assert without <= ICONS["entity"]["sensor"].keys()


# Choices


def test_every_choice_has_words() -> None:
    """The choices of every list are named, and no others."""
    choices = {
        "metric": CATALOG.keys(),
        "template": TEMPLATES.keys(),
        "auth": METHODS.keys(),
        "stage": {stage.value for stage in Stage},
        "actuator": {role.value for role in Role},
        "interlock": {interlock.value for interlock in Interlock},
        "caller": {caller.value for caller in LIMITS},
        "status": {status.value for status in models.DeviceStatus},
        "audit_format": FORMATS.keys(),
        "outcome": set(OUTCOMES),
        "fault": FAULTS,
        "handover": {"show", "claim"},
        "account_mode": {mode.value for mode in accounts.AccountMode},
        "credential_kind": {kind.value for kind in models.CredentialKind} - {models.CredentialKind.CERTIFICATE.value},
    }
    assert {name: words["options"].keys() for name, words in TEXTS["selector"].items()} == choices
    used = {
        key
        for module in ("options_flow", "broker_form", "device_flow", "credential_steps", "output_steps", "zone_flow")
        for name, keywords in _calls(module)
        if name == "SelectSelectorConfig" and "translation_key" in keywords
        for key in _strings(keywords["translation_key"])
    }
    # The others are choices of services, or filled into sentences only.
    assert used == choices.keys() - {"audit_format", "outcome", "credential_kind", "fault", "status"}


def test_metrics_of_one_quantity_are_told_apart() -> None:
    """In a list of metrics no two have the same name."""
    names = list(TEXTS["selector"]["metric"]["options"].values())
    assert len(names) == len(set(names)) == len(CATALOG)


# Services


async def test_services_are_described(room: Room) -> None:
    """What is registered is what is described: services, fields, which are required, words and icons."""
    registered = room.hass.services.async_services_for_domain(DOMAIN)
    assert registered.keys() == SERVICES.keys() == TEXTS["services"].keys() == ICONS["services"].keys()
    for name, service in registered.items():
        schema = service.schema
        assert isinstance(schema, probatio.Schema)
        fields = (SERVICES[name] or {}).get("fields", {})
        assert {key.schema for key in schema.schema} == fields.keys()
        assert {key.schema for key in schema.schema if isinstance(key, probatio.Required)} == {
            field for field, about in fields.items() if about.get("required")
        }
        words = TEXTS["services"][name]
        assert words["name"]
        assert words["description"]
        assert words.get("fields", {}).keys() == fields.keys()
        for field in words.get("fields", {}).values():
            assert field.keys() == {"name", "description"}


def test_service_offers_the_catalogue() -> None:
    """The list in the user interface is the catalogue."""
    fields = SERVICES["enroll_device"]["fields"]
    assert fields["metrics"]["selector"]["select"]["options"] == list(CATALOG)
    assert fields["auth"]["selector"]["select"]["options"] == list(METHODS)
    assert fields["rate_limit"]["default"] == models.DEFAULT_RATE_LIMIT
    assert fields["rate_limit"]["selector"]["number"]["max"] == registry.MAX_RATE_LIMIT
    # As many as there may be, unless somebody says otherwise.
    limit = SERVICES["export_audit_log"]["fields"]["limit"]
    assert limit["default"] == limit["selector"]["number"]["max"] == 10_000
    for service in ("rotate_credentials", "rotate_due"):
        kinds = SERVICES[service]["fields"]["kinds"]["selector"]["select"]
        assert kinds["translation_key"] == "credential_kind"
        assert set(kinds["options"]) == TEXTS["selector"]["credential_kind"]["options"].keys()
