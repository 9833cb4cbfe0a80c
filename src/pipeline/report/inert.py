"""Outputs of notebooks made harmless before they enter the report: text a model wrote may hold HTML, scripts, links.

Plain text is escaped by the page builder. HTML and Markdown are not: of HTML only what tables and figures need is kept,
by nh3, a maintained sanitiser. It would drop other tags without a word; they are escaped before, and so seen as text.
"""

import re

import nh3

KEPT_TYPES = ("text/html", "image/png", "image/jpeg", "text/markdown", "text/plain")  # no scripts, widgets, SVG, LaTeX
TAGS = {"a", "abbr", "b", "br", "code", "details", "div", "em", "figcaption", "figure", "h3", "h4", "hr", "i", "img"}
TAGS |= {"li", "ol", "p", "picture", "pre", "small", "source", "span", "strong", "sub", "summary", "sup", "ul", "wbr"}
TAGS |= {"caption", "col", "colgroup", "table", "tbody", "td", "tfoot", "th", "thead", "tr"}
ATTRIBUTES = {"alt", "aria-label", "border", "class", "colspan", "height", "id", "loading", "role", "rowspan"}
ATTRIBUTES |= {"scope", "title", "width"}
POINTING = {"a": {"href"}, "img": {"src"}, "source": {"media", "srcset"}}  # kept if what they point to is harmless
INLINE = r"data:image/(?:png|jpeg|svg\+xml);base64,"
IMAGE = re.compile(rf"{INLINE}[\w+/=\s]+", re.ASCII)
LINK = re.compile(r"(?:https?://|(?!\s*[\w+.-]+:)[\w.#-])[^\s\"'<>\\]*", re.ASCII)
OTHER_TAG = re.compile(rf"<(?!/?(?:{'|'.join(sorted(TAGS | {'style'}))})[\s/>])", re.IGNORECASE)
OTHER_IMAGE = re.compile(rf"<(?=img[\s/>])(?![^<>]*\ssrc=[\"']{INLINE})", re.IGNORECASE)


def clean_output(output: dict) -> dict:
    """A notebook output with only inert representations of its data; streams pass, as they are shown as text."""
    if "data" not in output:
        return output
    data = {kind: output["data"][kind] for kind in KEPT_TYPES if kind in output["data"]}
    if "text/html" in data:
        data["text/html"] = clean_html(data["text/html"])
    if "text/markdown" in data:  # no raw HTML, and no image, which could be fetched from elsewhere
        data["text/markdown"] = data["text/markdown"].replace("<", "&lt;").replace("![", r"!\[")
    return {**output, "data": data or {"text/plain": "(an output of a type that the report does not show)"}}


def clean_html(source: str) -> str:
    """HTML of tables and figures as it was; style sheets dropped; other tags escaped and other attributes dropped."""
    shown = OTHER_IMAGE.sub("&lt;", OTHER_TAG.sub("&lt;", source))
    return nh3.clean(
        shown,
        tags=TAGS,
        clean_content_tags={"style"},
        attributes={"*": ATTRIBUTES} | POINTING,
        attribute_filter=_kept,
        url_schemes={"http", "https", "data"},
        link_rel=None,
    )


def _kept(tag: str, name: str, value: str) -> str | None:
    """The value of an attribute, or None for a link or an image that points to anything but a page or its own data."""
    allowed = {"href": LINK, "src": IMAGE, "srcset": IMAGE}.get(name)
    return value if allowed is None or allowed.fullmatch(value) else None
