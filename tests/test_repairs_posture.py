"""Repairs of the posture: measure again, or leave it with a reason; and the files that the broker has to read."""

from typing import Any

from homeassistant.components.repairs import DOMAIN as REPAIRS, repairs_flow_manager
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest

from custom_components.grokmon.const import DOMAIN
from custom_components.grokmon.gateway.checklist import Item
from custom_components.grokmon.gateway.posture import Check, Finding

from .common import Room

type Findings = dict[Check | Item, Finding]

ANONYMOUS = "posture_anonymous"


async def _begin(room: Room, issue_id: str, option: str | None = None) -> tuple[Any, Any]:
    """Open a repair as a person does, and choose; return the manager of such flows, and the form."""
    assert await async_setup_component(room.hass, REPAIRS, {})
    manager: Any = repairs_flow_manager(room.hass)
    form = await manager.async_init(DOMAIN, data={"issue_id": issue_id})
    if option is not None:
        assert form["menu_options"] == ["again", "acknowledge"]
        form = await manager.async_configure(form["flow_id"], {"next_step_id": option})
    return manager, form


def _issues(room: Room) -> set[str]:
    return {key for domain, key in ir.async_get(room.hass).issues if domain == DOMAIN}


async def _break(room: Room, findings: Findings) -> None:
    """Let one check fail, and measure."""
    findings |= dict.fromkeys(Check, Finding.PASSED)
    findings[Check.ANONYMOUS] = Finding.FAILED
    await room.hub.trust.posture.async_measure()
    assert ANONYMOUS in _issues(room)


async def test_measured_again(room: Room, findings: Findings) -> None:
    """Measuring again ends the issue where it is in order now, and says so where it is not."""
    await _break(room, findings)
    _, done = await _begin(room, ANONYMOUS, "again")
    assert (done["type"], done["reason"]) == ("abort", "not_in_order")
    assert ANONYMOUS in _issues(room)
    findings[Check.ANONYMOUS] = Finding.PASSED
    _, done = await _begin(room, ANONYMOUS, "again")
    assert done["type"] == "create_entry"
    assert ANONYMOUS not in _issues(room)
    assert room.hub.gateway.broker_enforced


async def test_acknowledged_with_a_reason(room: Room, findings: Findings) -> None:
    """It needs a reason, which the trail keeps; the issue goes, the score forgets it, and so it is after a restart."""
    await _break(room, findings)
    assert room.hub.trust.posture.score == 95
    manager, form = await _begin(room, ANONYMOUS, "acknowledge")
    assert (form["type"], form["step_id"], form["errors"]) == ("form", "acknowledge", {})
    form = await manager.async_configure(form["flow_id"], {"reason": "  "})
    assert form["errors"] == {"reason": "reason_missing"}
    assert await room.audit("posture_acknowledged") == []
    done = await manager.async_configure(form["flow_id"], {"reason": f" {'a lab ' * 50}"})
    assert done["type"] == "create_entry"
    await room.settle()
    (entry,) = await room.audit("posture_acknowledged")
    assert (entry["identity"], entry["item"]) == ("administrator", "anonymous")
    assert entry["why"] == f"{'a lab ' * 50}"[:200]
    for _ in range(2):
        assert ANONYMOUS not in _issues(room)
        assert room.hub.trust.posture.score == 100
        assert room.state("hub/security_score").state == "100"
        assert room.state("hub/posture").attributes["acknowledged"] == ["anonymous"]
        assert not room.hub.gateway.broker_enforced
        await room.reload()
    assert room.hub.trust.posture.acknowledged.keys() == {"anonymous"}


async def test_strangers_are_named(room: Room, findings: Findings) -> None:
    """Who may publish in the name of devices is named in the issue, in its repair, and in the state."""
    findings[Item.STRANGERS] = Finding.FAILED
    room.hub.trust.accounts.strangers = ("homeassistant", "zigbee2mqtt")
    await room.hub.trust.posture.async_measure()
    _, form = await _begin(room, "posture_strangers")
    assert form["description_placeholders"]["accounts"] == "homeassistant, zigbee2mqtt"
    assert form["description_placeholders"]["prefix"] == "grokmon"
    assert room.hub.trust.posture.as_shown()["stranger_accounts"] == ["homeassistant", "zigbee2mqtt"]


@pytest.mark.parametrize("option", ["again", "acknowledge"])
async def test_without_a_running_hub(room: Room, findings: Findings, option: str) -> None:
    """Nothing is measured or acknowledged while nobody could take note of it."""
    await _break(room, findings)
    manager, form = await _begin(room, ANONYMOUS)
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    done = await manager.async_configure(form["flow_id"], {"next_step_id": option})
    assert (done["type"], done["reason"]) == ("abort", "not_loaded")
    assert ANONYMOUS in _issues(room)


async def test_disk_fails_while_the_reason_is_kept(room: Room, findings: Findings) -> None:
    """The form says so and can be sent again."""
    await _break(room, findings)
    manager, form = await _begin(room, ANONYMOUS, "acknowledge")
    room.break_store()
    form = await manager.async_configure(form["flow_id"], {"reason": "a lab"})
    assert (form["type"], form["errors"]) == ("form", {"base": "store_not_written"})
    room.repair_store()
    done = await manager.async_configure(form["flow_id"], {"reason": "a lab"})
    assert done["type"] == "create_entry"


async def test_disk_fails_while_it_is_measured_again(room: Room, findings: Findings) -> None:
    """What was acknowledged and is mended cannot be forgotten then: the flow says so."""
    await _break(room, findings)
    _, form = await _begin(room, ANONYMOUS)
    await room.hub.trust.posture.async_acknowledge("anonymous", "a lab", "administrator")
    findings[Check.ANONYMOUS] = Finding.PASSED
    manager: Any = repairs_flow_manager(room.hass)
    room.break_store()
    done = await manager.async_configure(form["flow_id"], {"next_step_id": "again"})
    room.repair_store()
    assert (done["type"], done["reason"]) == ("abort", "store_not_written")


async def test_hub_ends_while_the_reason_is_typed(room: Room, findings: Findings) -> None:
    """A reason that comes too late is not lost without a word."""
    await _break(room, findings)
    manager, form = await _begin(room, ANONYMOUS, "acknowledge")
    assert await room.hass.config_entries.async_unload(room.entry.entry_id)
    done = await manager.async_configure(form["flow_id"], {"reason": "a lab"})
    assert (done["type"], done["reason"]) == ("abort", "not_loaded")


@pytest.mark.parametrize("options", [{"broker": {"mode": "files", "plaintext_port": 1883}}])
async def test_files_were_read(room: Room, findings: Findings) -> None:
    """Who says that the broker has read its files is believed once the probe has looked."""
    assert "broker_files_changed" in _issues(room)
    findings |= dict.fromkeys(Check, Finding.PASSED)
    assert not room.hub.gateway.broker_enforced
    manager, form = await _begin(room, "broker_files_changed")
    assert form["step_id"] == "confirm"
    done = await manager.async_configure(form["flow_id"], {})
    await room.settle()
    assert done["type"] == "create_entry"
    assert "broker_files_changed" not in _issues(room)
    assert room.hub.gateway.broker_enforced


@pytest.mark.parametrize("options", [{"broker": {"mode": "files", "plaintext_port": 1883}}])
async def test_files_were_read_and_the_disk_is_full(room: Room) -> None:
    """What would be asked again after a restart is not taken for settled; what is settled is not asked again."""
    room.break_store()
    manager, form = await _begin(room, "broker_files_changed")
    done = await manager.async_configure(form["flow_id"], {})
    assert (done["type"], done["reason"]) == ("abort", "store_not_written")
    assert "broker_files_changed" in _issues(room)
    room.repair_store()
    manager, form = await _begin(room, "broker_files_changed")
    assert (await manager.async_configure(form["flow_id"], {}))["type"] == "create_entry"
    await room.reload()
    assert "broker_files_changed" not in _issues(room)
