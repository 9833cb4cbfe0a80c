"""A real headless Chromium for the tests: found on the system, or among Playwright's own, or got on request.

``python tests/browser.py`` names the one that would be used; ``--install`` tries to get one where there is none.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
FLAGS += ["--no-first-run"]
MISSING = "no Chromium or Chrome found: install one, or run `python tests/browser.py --install`"


def find() -> str | None:
    """Path of a Chromium or Chrome: ``$BROWSER_PATH``, the system's, or one that Playwright downloaded."""
    named = [os.environ.get("BROWSER_PATH"), *map(shutil.which, NAMES)]
    found = next((path for path in named if path and Path(path).exists()), None)
    return found or _of_playwright()


def _of_playwright() -> str | None:
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> str | None:
    """Find a browser, or get one: by Playwright's download, else as root by the system's package manager."""
    attempts = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        attempts += [["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]]
    for command in attempts:
        if found := find():
            return found
        print("trying", " ".join(command), flush=True)
        try:
            subprocess.run(command, check=False, timeout=600, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(error)
    return find()


@contextmanager
def launched(path: str) -> Iterator[Browser]:
    """The browser at ``path``, headless, with a fresh profile; closed at the end."""
    with sync_playwright() as playwright:
        browser = _launch(playwright, path)
        try:
            yield browser
        finally:
            browser.close()


def _launch(playwright: Playwright, path: str) -> Browser:
    sandbox = [] if hasattr(os, "geteuid") and os.geteuid() else ["--no-sandbox"]  # root cannot have a sandbox
    return playwright.chromium.launch(executable_path=path, headless=True, args=[*FLAGS, *sandbox])


if __name__ == "__main__":
    browser = install() if "--install" in sys.argv[1:] else find()
    print(browser or MISSING)
