"""A real browser: Debian's Chromium, driven by selenium, with an empty profile and no way to any network of its own."""

from __future__ import annotations

import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
PATIENCE = 60.0


class Browser:
    """A page in Chromium."""

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver

    def get(self, address: str) -> None:
        """Open a page."""
        self._driver.get(address)

    def script(self, code: str, *arguments: Any) -> Any:
        """What a script returns; a promise is waited for."""
        return self._driver.execute_script(code, *arguments)

    def until(self, condition: str) -> Any:
        """Wait for an expression of JavaScript to be true, and return its value."""
        ended = time.monotonic() + PATIENCE
        while not (value := self.script(f"return {condition}")):
            assert time.monotonic() < ended, f"never true: {condition}"
            time.sleep(0.02)
        return value

    def press(self, *keys: str) -> None:
        """Type keys, as a person would, where the focus is."""
        for key in keys:
            chord = ActionChains(self._driver)
            if key[0] == Keys.CONTROL and len(key) > 1:
                chord.key_down(Keys.CONTROL).send_keys(key[1:]).key_up(Keys.CONTROL)
            else:
                chord.send_keys(key)
            chord.perform()

    def look(self, *, width: int = 1280, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Give the window a size and a colour scheme; `media` may be `print`."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": scheme})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A screenshot of the page, all of it or the window."""
        shot = self._driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": whole})
        path.write_bytes(b64decode(shot["data"]))

    def print(self) -> str:
        """The page as a PDF, in base64."""
        return str(self._driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])

    def said(self) -> list[str]:
        """What the page has told the console since last asked: errors, refusals of its policy."""
        return [entry["message"] for entry in self._driver.get_log("browser")]


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser of its own for as long as it lasts."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = Chrome(options=options, service=Service(DRIVER))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
