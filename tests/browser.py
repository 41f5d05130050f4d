"""A real Chromium, by Playwright, that notes every error and every request."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")


@dataclass
class Watched:
    """A page, what it complained of, and whom it asked."""

    page: Page
    problems: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    def watch(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.asked.add("{0.scheme}://{0.netloc}".format(urlsplit(request.url))))

    def _hear(self, message: Any) -> None:
        # A refused file is an answer of status 422, which Chromium logs by itself
        if message.type in ("error", "warning") and "status of 4" not in message.text:
            self.problems.append(message.text)

    def choose(self, name: str, content: bytes) -> None:
        self.page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": content})

    def drop(self, name: str, content: bytes) -> None:
        """Drop a file on the page, as a mouse does."""
        transfer = self.page.evaluate_handle(
            "([name, content]) => { const moved = new DataTransfer();"
            "moved.items.add(new File([Uint8Array.from(content)], name)); return moved; }",
            [name, list(content)],
        )
        self.page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})

    def wait_for_map(self) -> None:
        self.page.wait_for_selector("#answer:not([hidden]) #map[src]", timeout=60_000)

    def complaint(self) -> str:
        self.page.wait_for_selector("#error:not([hidden])", timeout=60_000)
        return self.page.inner_text("#error")

    def serious_findings(self) -> list[str]:
        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched(browser: Browser, address: str, **options: Any) -> Iterator[Watched]:
    """Open an address; what is written to a disk would be seen in the address's folder."""
    context = browser.new_context(**options)
    try:
        one = Watched(context.new_page())
        one.watch()
        one.page.goto(address)
        one.page.wait_for_selector("#asking:not([hidden]), #admission:not([hidden])", timeout=60_000)
        yield one
    finally:
        context.close()
