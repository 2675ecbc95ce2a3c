"""Pages opened in headless Chromium, and what the browser complained of or asked the network for."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Opened:
    """A page in a browser.

    Attributes:
        page: Playwright's page.
        complaints: Errors and warnings of the console, and exceptions that nothing caught.
        requests: What the page asked for after its own file, data: and blob: addresses left out.
        load_s: Seconds from opening the file until its scripts had run and its `load` event came.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    load_s: float = 0.0


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start headless Chromium; skips the test where there is none."""
    if PROGRAM is None:
        pytest.skip("needs Chromium, e.g. 'apt-get install chromium'")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # Without a sandbox, because CI runs as root; the pages are our own.
        browser = driver.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(
    browser: Any, file: Path, *, width: int = 1280, height: int = 900, dark: bool = False, wait: str = "load"
) -> Iterator[Opened]:
    """Open a file in a window of its own.

    Args:
        browser: From `chromium`.
        file: The page.
        width: Of the window, in pixels.
        height: Likewise.
        dark: Whether the reader prefers dark pages.
        wait: Playwright's `wait_until`.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page = context.new_page()
    found = Opened(page)

    def heard(message: Any) -> None:
        if message.type in ("error", "warning"):
            found.complaints.append(message.text)

    own = file.absolute().as_uri()

    def asked(request: Any) -> None:
        if request.url != own and not request.url.startswith(("data:", "blob:")):
            found.requests.append(request.url)

    page.on("console", heard)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("request", asked)
    page.goto(own, wait_until=wait)
    found.load_s = page.evaluate(
        "() => { const t = performance.getEntriesByType('navigation')[0]; return t.loadEventStart / 1000 }"
    )
    try:
        yield found
    finally:
        context.close()
