"""A person who logs in sees the live values of a device, and the dashboard."""

from pathlib import Path

from playwright.async_api import Error as BrowserError

from tests.demo.dashboard import URL_PATH, dashboard
from tests.demo.example import EXAMPLE, default_entity_id
from tests.demo.grow_room import VICTIM, GrowRoom
from tests.demo.plan import NODES, ZONES
from tests.demo.report import Report
from tests.stack.browser import Browser

_WINDOW = (1600, 1200)
# Far enough from what the tent does for nobody to take it for a measured value.
_STEP = 0.7


async def check_frontend(room: GrowRoom, artifacts: Path, report: Report) -> None:
    """Log in as a person, look at a device and at the dashboard while a value changes, and take pictures."""
    if Browser.find() is None:
        report.add("the frontend shows live values", ["chromium is not installed, so nobody looked"])
        return
    async with Browser() as browser:
        await browser.page.set_viewport_size({"width": _WINDOW[0], "height": _WINDOW[1]})
        try:
            await browser.log_in(room.installation.hass.url, room.installation.hass.owner)
            await _look_at_device(room, browser)
            await browser.screenshot(artifacts / "device.png")
            report.add("a person logs in and sees a device's values change on its page", [], "device.png")
            await _look_at_dashboard(room, browser)
            await browser.screenshot(artifacts / "dashboard.png")
            report.add("the dashboard shows the zones, live", [], "dashboard.png")
        except (BrowserError, TimeoutError) as error:
            await browser.screenshot(artifacts / "failed.png")
            report.add("the frontend shows live values", [f"{error} (see failed.png)"])


def check_example(room: GrowRoom, report: Report) -> None:
    """Compare the entities of the example to paste with those that there are."""
    fits = dashboard(ZONES, NODES, default_entity_id) == dashboard(ZONES, NODES, room.entity_ids.__getitem__)
    problems = [] if fits else ["its entities have other names by now"]
    report.add(f"the example {EXAMPLE.name} names the entities that there are", problems)


async def _look_at_device(room: GrowRoom, browser: Browser) -> None:
    entry = await room.installation.device_entry(VICTIM)
    await browser.open(f"/config/devices/device/{entry['id']}")
    await browser.wait_for_text("Air temperature")
    await browser.wait_for_text(f"Firmware: {entry['sw_version']}")
    await browser.wait_for_text(f"{await _change(room):.1f} °C")


async def _look_at_dashboard(room: GrowRoom, browser: Browser) -> None:
    await browser.open(f"/{URL_PATH}/overview")
    for zone in ZONES:
        await browser.wait_for_text(zone.name)
    await browser.wait_for_text(f"{await _change(room):.1f} °C")
    await browser.wait_for_text("Security events")
    errors = await browser.page.locator("hui-error-card, hui-warning").count()
    if errors:
        raise BrowserError(f"{errors} cards of the dashboard show an error")


async def _change(room: GrowRoom) -> float:
    """Have a device report a warmer air than before and return it."""
    member = next(member for member in room.fleet.members if member.node.device_id == VICTIM)
    warmer = round(member.last["temp_c"] + _STEP, 1)
    member.send({**member.last, "temp_c": warmer})
    await member.device.drain()
    return warmer
