"""The system's Chromium, for tests and benchmarks; it reaches nothing but this machine."""

import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

from ..setup.errors import UserError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HINT = "There is no Chromium. Debian and Ubuntu: sudo apt install chromium"
SWITCHES = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """Chromium's path. Raises `UserError` if there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise UserError(HINT)
    return path


class Page:
    """A page, with what it asked for, and what went wrong in it."""

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
    """A new page, in a browser of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=[*SWITCHES, "--no-sandbox"]
        )
        try:
            yield Page(browser.new_context(**options))
        finally:
            browser.close()
