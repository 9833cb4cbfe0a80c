"""Outputs of notebooks made harmless before they enter the report: text a model wrote may hold HTML, scripts, links.

Plain text is escaped by the page builder. HTML and Markdown are not, so of HTML only what tables and figures need is
kept, and everything else is shown as the text that it is.
"""

import html
import re
from html.parser import HTMLParser

KEPT_TYPES = ("text/html", "image/png", "image/jpeg", "text/markdown", "text/plain")  # no scripts, widgets, SVG, LaTeX
TAGS = (
    {"a", "b", "br", "code", "details", "div", "em", "figcaption", "figure", "h3", "h4", "hr", "i", "img", "li", "ol"}
    | {"p", "pre", "small", "span", "strong", "sub", "summary", "sup", "ul", "wbr"}
    | {"caption", "col", "colgroup", "table", "tbody", "td", "tfoot", "th", "thead", "tr"}
)
VOID = {"br", "col", "hr", "img", "wbr"}
ATTRIBUTES = {"alt", "aria-label", "border", "class", "colspan", "height", "id", "loading", "role", "rowspan", "scope"}
ATTRIBUTES |= {"title", "width"}  # src and href are kept if what they point to is harmless
IMAGE = re.compile(r"data:image/(png|jpeg|svg\+xml);base64,[\w+/=\s]+", re.ASCII)
LINK = re.compile(r"(?:https?://|[\w.#-])[^\s\"'<>\\]*", re.ASCII)
SCHEME = re.compile(r"\s*[\w+.-]+:", re.ASCII)


def clean_output(output: dict) -> dict:
    """A notebook output with only inert representations of its data; streams pass, as they are shown as text."""
    if "data" not in output:
        return output
    data = {kind: _text(output["data"][kind]) for kind in KEPT_TYPES if kind in output["data"]}
    if "text/html" in data:
        data["text/html"] = clean_html(data["text/html"])
    if "text/markdown" in data:
        data["text/markdown"] = clean_markdown(data["text/markdown"])
    return {**output, "data": data or {"text/plain": "(an output of a type that the report does not show)"}}


def clean_html(source: str) -> str:
    """HTML of tables and figures as it was; style sheets dropped; other tags escaped and other attributes dropped."""
    cleaner = _Cleaner()
    cleaner.feed(source)
    cleaner.close()
    return cleaner.result()


def clean_markdown(source: str) -> str:
    """Markdown without raw HTML and without images, which could be fetched from elsewhere."""
    return source.replace("<", "&lt;").replace("![", r"!\[")


def _text(value: str | list[str]) -> str:
    return "".join(value) if isinstance(value, list) else value


class _Cleaner(HTMLParser):
    """Copies allowed tags and attributes, escapes the rest, and leaves every tag closed in its place."""

    def __init__(self):
        super().__init__(convert_charrefs=False)
        self.parts: list[str] = []
        self.open: list[str] = []

    def result(self) -> str:
        """The cleaned HTML, with tags that were left open closed."""
        return "".join([*self.parts, *(f"</{tag}>" for tag in reversed(self.open))])

    def handle_starttag(self, tag, attrs):
        """Copy an allowed tag; show any other, unless it is a style sheet."""
        if tag == "style":
            return
        if tag not in TAGS or (tag == "img" and not IMAGE.fullmatch(dict(attrs).get("src") or "")):
            self.parts.append(html.escape(self.get_starttag_text() or ""))
            return
        kept = "".join(f' {name}="{html.escape(value or "")}"' for name, value in attrs if _allowed(name, value or ""))
        self.parts.append(f"<{tag}{kept}>")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Treat ``<tag/>`` as an opened and closed tag."""
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        """Close an open tag and those inside it; ignore one that closes nothing."""
        if tag not in self.open:
            return
        while True:
            last = self.open.pop()
            self.parts.append(f"</{last}>")
            if last == tag:
                return

    def handle_data(self, data):
        """Escape text; drop the contents of style sheets."""
        if self.cdata_elem != "style":
            self.parts.append(html.escape(data, quote=False))

    def handle_entityref(self, name):
        """Keep an entity such as ``&lt;``."""
        self.parts.append(f"&{name};")

    def handle_charref(self, name):
        """Keep a character reference such as ``&#60;``."""
        self.parts.append(f"&#{name};")


def _allowed(name: str, value: str) -> bool:
    if name == "src":
        return IMAGE.fullmatch(value) is not None
    if name == "href":
        local = SCHEME.match(value) is None
        return LINK.fullmatch(value) is not None and (local or value.startswith(("http://", "https://")))
    return name in ATTRIBUTES
