"""Look at the frontend as a person does, in a real browser."""

import contextlib
from pathlib import Path
import shutil
import tempfile
from typing import Self

from playwright.async_api import BrowserContext, Locator, Page, async_playwright

from .brokers.base import Account
from .components import ComponentMissingError

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The frontend asks for pictures and fonts outside; nothing leaves this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)
_WINDOW = (1280, 900)
_SECOND = 1000


class Browser:
    """Run a headless Chromium with a profile of its own and hold one page."""

    page: Page

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()
        self._url = ""

    @staticmethod
    def find() -> Path | None:
        """Return where a Chromium is installed, or nothing."""
        found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
        return Path(found) if found else None

    async def start(self) -> None:
        """Start the browser with an empty page."""
        program = self.find()
        if program is None:
            raise ComponentMissingError("chromium is not installed")
        async with contextlib.AsyncExitStack() as stack:
            playwright = await stack.enter_async_context(async_playwright())
            profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            context: BrowserContext = await playwright.chromium.launch_persistent_context(
                profile,
                executable_path=program,
                headless=True,
                args=list(_FLAGS),
                viewport={"width": _WINDOW[0], "height": _WINDOW[1]},
                # Ending the browser is the caller's; a Ctrl-C is handled there.
                handle_sigint=False,
                handle_sigterm=False,
                handle_sighup=False,
            )
            stack.push_async_callback(context.close)
            self.page = context.pages[0]
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """End the browser and remove its profile."""
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        """Start the browser."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the browser."""
        await self.stop()

    async def log_in(self, url: str, account: Account, *, timeout: float = 60) -> None:  # noqa: ASYNC109 - Playwright's
        """Log in through the form of the frontend and return once the first page shows."""
        self._url = url
        await self.page.goto(url, timeout=timeout * _SECOND)
        await self.page.locator("input[name=username]").fill(account.username, timeout=timeout * _SECOND)
        await self.page.locator("input[name=password]").fill(account.password)
        await self.page.keyboard.press("Enter")
        await self._wait_until_shown(timeout)

    async def open(self, path: str, *, timeout: float = 30) -> None:  # noqa: ASYNC109 - Playwright's
        """Open a page of the frontend by its path and return once it shows."""
        await self.page.goto(self._url + path, timeout=timeout * _SECOND)
        await self._wait_until_shown(timeout)

    async def wait_for_text(self, text: str, *, exact: bool = False, timeout: float = 30) -> Locator:  # noqa: ASYNC109
        """Return the first visible element with this text once there is one, in shadow trees too."""
        found = self.page.get_by_text(text, exact=exact).locator("visible=true").first
        await found.wait_for(timeout=timeout * _SECOND)
        return found

    async def screenshot(self, path: Path) -> None:
        """Save a picture of the page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=path)

    async def _wait_until_shown(self, timeout: float) -> None:  # noqa: ASYNC109 - Playwright's
        await self.page.locator("ha-sidebar").wait_for(timeout=timeout * _SECOND)
        # It fades out above the page, which a picture would show.
        await self.page.locator("#ha-launch-screen").wait_for(state="detached", timeout=timeout * _SECOND)
