"""One request to the chat completions of an OpenAI-compatible endpoint, and what its outcome means.

A failure that may pass is ``Passing``; one that the user must put right is a StudyError. Neither shows the key or what
the endpoint wrote, which may repeat it.
"""

import json
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from helpers.errors import StudyError
from helpers.evaluation.judges.endpoint import KEY, URL, Endpoint
from helpers.studies.sections import Judge

LARGEST_REPLY = 1 << 20  # bytes
REMEDIES = {
    401: f"it does not accept the key in {KEY}: export a valid one",
    402: "it asks for payment: see to your account there",
    403: f"the key in {KEY} may not use it: export one that may",
    404: f"it knows no such address or model: check {URL} (it often ends in /v1) and evaluation.judge.name",
}


class Passing(Exception):
    """A failure that may be over at the next try; ``retry_after`` is the pause the endpoint asks for, in seconds."""

    def __init__(self, reason: str, retry_after: float = 0.0):
        super().__init__(reason)
        self.retry_after = retry_after


class ChatClient:
    """Connections to an endpoint, at most ``concurrency`` at a time."""

    def __init__(self, endpoint: Endpoint, settings: Judge):
        self.concurrency = settings.concurrency
        self._settings = settings
        self._http = httpx.Client(
            base_url=endpoint.url,
            headers={"Authorization": f"Bearer {endpoint.key}"},
            timeout=settings.timeout,
            limits=httpx.Limits(max_connections=settings.concurrency),
            trust_env=not endpoint.loopback,  # no proxy between this machine and itself
        )  # redirects are not followed: they would carry the key elsewhere

    def __enter__(self) -> "ChatClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def reply(self, text: str, seed: int) -> str | None:
        """What the model answers to ``text`` at temperature 0; None where it is held back by a content filter.

        Raises Passing or StudyError.
        """
        asked = {"model": self._settings.name, "messages": [{"role": "user", "content": text}]}
        asked |= {"temperature": 0, "seed": seed, "max_tokens": self._settings.max_tokens, "stream": False}
        try:
            with self._http.stream("POST", "/chat/completions", json=asked) as response:
                body = self._body(response)
        except httpx.TimeoutException:
            raise self._late() from None
        except httpx.RequestError as error:
            raise Passing(f"the connection failed, {type(error).__name__}") from None
        return self._content(body) if response.status_code == 200 else self._refusal(response, body)

    def _body(self, response: httpx.Response) -> bytes:
        """The whole body; httpx limits the pause between two pieces, this also the time and the size of all."""
        body, end = b"", time.monotonic() + self._settings.timeout
        for piece in response.iter_bytes():
            body += piece
            if len(body) > LARGEST_REPLY:
                raise Passing(f"a reply of more than {LARGEST_REPLY} bytes")
            if time.monotonic() > end:
                raise self._late()
        return body

    def _late(self) -> Passing:
        return Passing(f"no reply within {self._settings.timeout:g} seconds")

    def _content(self, body: bytes) -> str | None:
        try:
            message = json.loads(body)["choices"][0]["message"]
            content = message["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise Passing("a reply that is not a chat completion, or is cut short") from None
        return content if isinstance(content, str) else None

    def _refusal(self, response: httpx.Response, body: bytes) -> None:
        """None for a content filter's refusal; everything else raises."""
        status, code = response.status_code, _code(body)
        if status == 400 and code == "content_filter":
            return
        if (status in (408, 409, 425, 429) or status >= 500) and code != "insufficient_quota":
            raise Passing(f"HTTP {status}", _retry_after(response))
        remedy = REMEDIES.get(status, f"check {URL} and evaluation.judge in the study's settings")
        if code == "insufficient_quota":
            remedy = REMEDIES[402]
        named = f" {code}" if code else ""
        raise StudyError(f"the judge's endpoint answers HTTP {status}{named}: {remedy}")


def _code(body: bytes) -> str:
    """The error's code, if the endpoint gives one that is a plain short word."""
    try:
        code = json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return ""
    return code if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code) else ""


def _retry_after(response: httpx.Response) -> float:
    """The pause that the header asks for, in seconds or as a date; 0 without one."""
    value = response.headers.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
