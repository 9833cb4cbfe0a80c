"""Where an OpenAI-compatible endpoint is and with which key it is asked: from the environment alone."""

import ipaddress
import os
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from helpers.errors import StudyError

URL, KEY, ALLOW_HTTP = "OPENAI_BASE_URL", "OPENAI_API_KEY", "SUBSPACES_ALLOW_HTTP"
EXAMPLE = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Endpoint:
    """An endpoint that was checked; its text never shows the key."""

    url: str
    host: str
    loopback: bool
    key: str = field(repr=False)

    @classmethod
    def from_environment(cls) -> "Endpoint":
        """The endpoint that OPENAI_BASE_URL and OPENAI_API_KEY name. Raises StudyError, without either's value."""
        url, key = os.environ.get(URL, "").strip(), os.environ.get(KEY, "").strip()
        if not url:
            raise StudyError(
                f"the judge is an endpoint but {URL} is not set: export {URL}={EXAMPLE}, or your own server's"
            )
        parts = _split(url)
        loopback = _is_loopback(parts.hostname)
        if parts.scheme == "http" and not loopback and os.environ.get(ALLOW_HTTP) != "1":
            raise StudyError(
                f"{URL} is plain http to another machine, which anyone between can read: use https, "
                f"or set {ALLOW_HTTP}=1 if you trust the network"
            )
        if not key:
            raise StudyError(
                f"the judge is an endpoint but {KEY} is not set: export it (any word for a server without keys)"
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise StudyError(f"{KEY} holds a space or a character that no key has: export it again")
        return cls(url.rstrip("/"), parts.hostname, loopback, key)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        raise StudyError(f"{URL} is not a URL: it must look like {EXAMPLE}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or any(c.isspace() or ord(c) < 33 for c in url):
        raise StudyError(f"{URL} must be an http or https URL with a host, such as {EXAMPLE}")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise StudyError(f"{URL} must hold no user, password, query or fragment: the key belongs in {KEY}")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
