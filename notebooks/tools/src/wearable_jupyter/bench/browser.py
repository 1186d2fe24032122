"""Control the system's Chromium for tests and benchmarks. Pages can't reach other machines."""

import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

from ..bootstrap import platform
from ..setup.errors import UserError

SWITCHES = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """Return Chromium's path.

    Raises:
        UserError: Chromium is not installed.
    """
    path = next(filter(None, map(shutil.which, platform.browsers())), None)
    if path is None:
        raise UserError(f"Chromium is not installed. {platform.install_hint('chromium')}")
    return path


class Page:
    """A browser page, and a record of its requests and errors.

    Attributes:
        page: the playwright page.
        requests: URLs of all requests.
        outside: URLs of blocked requests to other machines.
        errors: messages of JavaScript errors and of the console.
    """

    def __init__(self, context) -> None:
        self.page = context.new_page()
        self.outside: list[str] = []
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        context.route("**/*", self._route)

    def _route(self, route) -> None:
        address = urlsplit(route.request.url)
        self.requests.append(route.request.url)
        if address.scheme in ("file", "data", "blob") or address.hostname in (
            "localhost",
            "127.0.0.1",
        ):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()


@contextmanager
def opened(**options):
    """Open a new page in a new browser. `options` are those of playwright's browser context."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=[*SWITCHES, "--no-sandbox"]
        )
        try:
            yield Page(browser.new_context(**options))
        finally:
            browser.close()
