"""What axe-core finds on a page of the report: rules of WCAG's levels A and AA, and some of good practice.

Contrast takes axe ten times as long as all other rules together, so it looks at the first rows of a table alone, in
both schemes; ``contrast.js`` looks at every row.
"""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

AXE = Axe()
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FAST = {"resultTypes": ["violations"], "preload": False, "iframes": False}
RULES = FAST | {"runOnly": LEVELS} | {
    "rules": {"color-contrast": {"enabled": False}, "label-content-name-mismatch": {"enabled": True}}
}  # fmt: skip
CONTRAST = FAST | {"runOnly": ["color-contrast", "link-in-text-block"]}
FEW_ROWS = {"exclude": [["tbody tr:nth-child(n+4)"], ["mjx-container"], ["pre span span"]]}
WIDE, NARROW = {"width": 1300, "height": 800}, {"width": 400, "height": 800}
SETTLED = "() => new Promise((done) => setTimeout(done, 150))"  # milliseconds: longer than any transition of the theme


def violations(page: Page, mode: str) -> list[str]:
    """Rules that an open page breaks in one colour scheme, each with the first place where it does.

    What does not depend on the scheme is looked at in the light one, at both widths; the page is wide again afterwards.
    """
    page.evaluate(SETTLED)
    found = _found(page, CONTRAST, FEW_ROWS)
    for size in (WIDE, NARROW) if mode == "light" else ():
        page.set_viewport_size(size)
        page.evaluate(SETTLED)
        found += [f"{size['width']} px: {one}" for one in _found(page, RULES)]
    page.set_viewport_size(WIDE)
    return found


def _found(page: Page, options: dict, context: dict | None = None) -> list[str]:
    broken = AXE.run(page, context, options).response["violations"]
    return [f"{one['id']} ({len(one['nodes'])}): {one['nodes'][0]['html'][:200]}" for one in broken]
