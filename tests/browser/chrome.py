"""A real Chromium, driven as a person would: it clicks, types, presses keys, and tells what went wrong."""

import base64
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # where it is not installed the tests are skipped, and say so: they must be found for that
    from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 20.0  # seconds
WIDE, NARROW = (1280, 900), (390, 844)
# What chromium itself says where the daemon is away on purpose, and not the page.
OF_THE_NETWORK = ("net::ERR_CONNECTION_REFUSED", "net::ERR_CONNECTION_RESET", "net::ERR_EMPTY_RESPONSE",
                  "net::ERR_INCOMPLETE_CHUNKED_ENCODING")  # fmt: skip


def missing() -> str:
    """Say why there is no browser here; "": there is one."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return (
        f"no {' and no '.join(absent)} on this machine (Debian: apt install chromium chromium-driver)"
        if absent
        else ""
    )


# Nor is this: crewd is asked for what a run of another program does not have, and answers that there is none.
NOT_THERE = re.compile(r"/api/v1/\S+ - Failed to load resource: .* status of 404")


class Chrome:
    """One browser with a profile of its own. `close` ends it, by its own handle."""

    def __init__(self, folder: Path, *more: str) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for word in (
            "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
            f"--user-data-dir={folder}", f"--window-size={WIDE[0]},{WIDE[1]}", *more,
        ):  # fmt: skip
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.driver.set_script_timeout(PATIENCE)
        self._complaints: list[str] = []
        # Seen before any script of the page runs: what it may not load, what it fails at, and what must never happen.
        self.run_first(
            "window.__wrongs = [];"
            "addEventListener('securitypolicyviolation', e =>"
            " __wrongs.push('csp: ' + e.violatedDirective + ' ' + e.blockedURI));"
            "addEventListener('error', e => __wrongs.push('error: ' + e.message));"
            "addEventListener('unhandledrejection', e => __wrongs.push('rejected: ' + e.reason));"
            "window.alert = word => __wrongs.push('alert: ' + word);"
        )

    def run_first(self, script: str) -> None:
        """Have a script run before those of every page that is loaded from now on."""
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})

    def close(self) -> None:
        self.driver.quit()

    def open(self, url: str) -> None:
        """Load a page afresh, also where only what stands behind # is another."""
        self.wrongs()
        self.driver.get("about:blank")
        self.driver.get(url)

    def go(self, hash: str) -> None:
        """Go to another view without loading anything anew."""
        self.js("location.hash = arguments[0]", hash)

    def look(self, *, dark: bool = False, size: tuple[int, int] = WIDE) -> None:
        """Have it look in dark or light, wide or narrow."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self) -> str:
        """All that a person reads now."""
        return str(self.js("return document.body.innerText"))

    def wait(self, condition: Callable[[], Any], what: str = "", patience: float = PATIENCE) -> Any:
        """Wait until something is so; elements that are drawn anew meanwhile do not matter."""
        from selenium.common.exceptions import WebDriverException

        deadline = time.monotonic() + patience
        while True:
            try:
                if found := condition():
                    return found
            except WebDriverException:
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {patience:g} s: {what}\n{self.text()[:3000]}")
            time.sleep(0.05)

    def wait_for(self, words: str, patience: float = PATIENCE) -> None:
        """Wait until a person reads these words."""
        self.wait(lambda: words in self.text(), repr(words), patience)

    def all(self, selector: str) -> "list[WebElement]":
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> "WebElement":
        """The first that is there; waits for it."""
        found: WebElement = self.wait(lambda: next(iter(self.all(selector)), None), selector)
        return found

    def button(self, name: str, within: str = "") -> "WebElement":
        """The button or link with this accessible name."""
        script = """
            const [name, within] = arguments;
            const named = each => (each.getAttribute("aria-label") || each.textContent).trim();
            return [...document.querySelectorAll(`${within} :is(button, a, summary)`)].find(
                each => named(each) === name && each.offsetParent !== null
            ) || null"""
        found: WebElement = self.wait(lambda: self.js(script, name, within), f"button {name!r}")
        return found

    def press(self, name: str, within: str = "") -> None:
        """Press a button; where it is drawn anew at that moment, once more."""

        def pressed() -> bool:
            self.button(name, within).click()
            return True

        self.wait(pressed, f"press {name!r}")

    def fill(self, name: str, value: str) -> None:
        """Put a value in the field of the dialog that is open."""
        field = self.one(f"dialog[open] [name={name}]")
        field.clear()
        field.send_keys(value)

    def keys(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def focused(self) -> dict[str, Any]:
        """Who has the focus: its tag, its name, and whether one sees that it has it."""
        return dict(
            self.js(
                """
                const e = document.activeElement, style = getComputedStyle(e);
                return {
                    tag: e.tagName.toLowerCase(), href: e.getAttribute("href"),
                    name: (e.getAttribute("aria-label") || e.textContent || "").trim(),
                    seen: e.matches("svg a") || (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0),
                }"""
            )
        )

    def wrongs(self, *, without_daemon: bool = False) -> list[str]:
        """Everything that the page complained of since it was asked last."""
        found = list(self.js("const all = window.__wrongs || []; window.__wrongs = []; return all"))
        for entry in self.driver.get_log("browser"):  # type: ignore[no-untyped-call]  # selenium leaves it so
            away = without_daemon and any(each in entry["message"] for each in OF_THE_NETWORK)
            if entry["level"] == "SEVERE" and not away and not NOT_THERE.search(entry["message"]):
                found.append(f"console: {entry['message']}")
        return found

    def shoot(self, path: Path, *, whole: bool = True) -> None:
        """Save a picture, of the whole page if it is longer than the window."""
        self.js("scrollTo(0, 0)")  # what sticks to the upper edge stands where it belongs
        if whole:
            size = self.js("return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
            clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], 6000), "scale": 1}
            taken = self.driver.execute_cdp_cmd(
                "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
            )
        else:
            taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {})
        path.write_bytes(base64.b64decode(taken["data"]))
