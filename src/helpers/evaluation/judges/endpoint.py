"""A judge behind an OpenAI-compatible endpoint: a few requests at a time, patient with failures, paid for once.

Where it is and with which key it is asked comes from the environment alone. No error shows the key or what the
endpoint wrote, which may repeat it.
"""

import ipaddress
import json
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx2
import openai

from helpers.errors import StudyError
from helpers.evaluation.judges import Judgement, judge
from helpers.evaluation.judges.kept import KeptJudge, Pair, parse, question, rubric, rubric_of
from helpers.studies.settings import Study

URL, KEY, ALLOW_HTTP = "OPENAI_BASE_URL", "OPENAI_API_KEY", "SUBSPACES_ALLOW_HTTP"
EXAMPLE = "https://api.openai.com/v1"
SEED = 0
LARGEST_REPLY = 1 << 20  # bytes
TRIES = "x-stainless-retry-count"  # the client's header: how often it asked before
REMEDIES = {
    401: f"it does not accept the key in {KEY}: export a valid one",
    402: "it asks for payment: see to your account there",
    403: f"the key in {KEY} may not use it: export one that may",
    404: f"it knows no such address or model: check {URL} (it often ends in /v1) and evaluation.judge.name",
}


@judge("endpoint", needs=("name",))
class EndpointJudge(KeptJudge):
    """A model at an OpenAI-compatible endpoint, asked by the rubric at temperature 0."""

    def __init__(self, study: Study):
        self._settings = s = study.evaluation.judge
        self._url, self._rubric, _ = address(), rubric_of(s), _key()
        self._sampling = {"temperature": 0, "seed": SEED, "max_tokens": s.max_tokens}
        facts = {"endpoint": self._url.host, "rubric": rubric(self._rubric)}
        super().__init__(judge="endpoint", model=s.name, **facts, **self._sampling)

    def ask(self, pairs: list[Pair]) -> None:
        """Ask about all pairs; after a failure, or an interruption, only requests under way still end."""
        s, stop = self._settings, threading.Event()
        http = _Connections(timeout=s.timeout, trust_env=not _is_loopback(self._url.host))  # no proxy to oneself
        asking = {"max_retries": s.retries, "timeout": s.timeout, "http_client": http}

        def ask_one(pair: Pair) -> None:
            """Ask about one pair, unless another request has failed."""
            if not stop.is_set():
                try:
                    self.keep(pair, self._verdict(client, pair))
                except BaseException:
                    stop.set()
                    raise

        try:
            with (
                openai.OpenAI(base_url=str(self._url), api_key=_key(), **asking) as client,
                ThreadPoolExecutor(s.concurrency) as pool,
            ):
                list(pool.map(ask_one, pairs))
        except (openai.APIError, StudyError) as error:
            sentence = _explained(error, self._url.host, s.retries) if isinstance(error, openai.APIError) else error
            kept = f"the {len(self)} verdicts in {self.path} are kept and will not be asked again"
            raise StudyError(f"{sentence}; {kept}") from None

    def _verdict(self, client: openai.OpenAI, pair: Pair) -> Judgement:
        """The verdict on one pair, with the client's own retries; unparsable where a content filter holds it."""
        messages = [{"role": "user", "content": question(*pair, self._rubric)}]
        try:
            reply = client.chat.completions.create(model=self._settings.name, messages=messages, **self._sampling)
            content = reply.choices[0].message.content
        except openai.BadRequestError as error:
            if error.code != "content_filter":
                raise
            content = None
        return parse(content) if isinstance(content, str) else Judgement(None, False)


def _explained(error: openai.APIError, host: str, retries: int) -> str:
    """What went wrong and what to do: about a status that does not pass, a pause too long to wait, or many failures."""
    tries, cause = 1 + int(error.request.headers.get(TRIES, 0)), error.__cause__
    reason = str(cause) if isinstance(cause, _Failed) else f"the connection failed, {type(cause).__name__}"
    if isinstance(error, openai.APIStatusError):
        status, pause = error.status_code, error.response.headers.get("retry-after")
        reason = f"HTTP {status}"
        code = error.code if re.fullmatch(r"[a-z_]{1,40}", str(error.code)) else ""
        if (status not in (408, 409, 429) and status < 500) or code == "insufficient_quota":
            default = f"check {URL} and evaluation.judge in the study's settings"
            remedy = REMEDIES.get(402 if code == "insufficient_quota" else status, default)
            return f"the judge's endpoint answers {f'{reason} {code}'.rstrip()}: {remedy}"
        if pause and tries <= retries:
            length = f"{pause} seconds" if re.fullmatch(r"[0-9]{1,9}", pause) else "some minutes or more"
            return (
                f"the judge's endpoint asks to be left alone for {length} ({reason}): run again after that, "
                "or raise the limit of your account"
            )
    return (
        f"the judge at {host} failed {tries} times in a row ({reason}): "
        f"check the server, the network and {URL}, then run again"
    )


class _Failed(httpx2.RequestError):
    """A reply that is none, in words that hold nothing of it; the client asks again."""


class _Connections(httpx2.Client):
    """Connections whose replies are bounded in time and size; redirects, which could carry the key off, end there."""

    def send(self, request: httpx2.Request, *, stream: bool = False, **options) -> httpx2.Response:
        """The whole reply, with the headers that the client's retries look at."""
        body, end = b"", time.monotonic() + self.timeout.read
        with closing(super().send(request, stream=True, **options)) as response:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > LARGEST_REPLY:
                    raise _Failed(f"a reply of more than {LARGEST_REPLY} bytes")
                if time.monotonic() > end:  # httpx's own limit is of the pause between two pieces
                    raise httpx2.ReadTimeout("")
        if response.status_code == 200 and not _is_completion(body):
            raise _Failed("a reply that is not a chat completion, or is cut short")
        headers = {"content-type": "application/json", "retry-after": response.headers.get("retry-after", "")}
        if b'"insufficient_quota"' in body:
            headers["x-should-retry"] = "false"
        return httpx2.Response(response.status_code, headers=headers, content=body, request=request)


def _is_completion(body: bytes) -> bool:
    try:
        return "content" in json.loads(body)["choices"][0]["message"]
    except (ValueError, KeyError, IndexError, TypeError):
        return False


def address() -> httpx2.URL:
    """The endpoint that OPENAI_BASE_URL names. Raises StudyError, without its value."""
    text = _exported(URL, f"export {URL}={EXAMPLE}, or your own server's")
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host or (url.port or 0) >= 1 << 16 or " " in text:
        raise StudyError(f"{URL} must be an http or https URL with a host, such as {EXAMPLE}")
    if url.userinfo or url.query or url.fragment:
        raise StudyError(f"{URL} must hold no user, password, query or fragment: the key belongs in {KEY}")
    if url.scheme == "http" and not _is_loopback(url.host) and os.environ.get(ALLOW_HTTP) != "1":
        raise StudyError(
            f"{URL} is plain http to another machine, which anyone between can read: use https, "
            f"or set {ALLOW_HTTP}=1 if you trust the network"
        )
    return url


def _key() -> str:
    """The key in OPENAI_API_KEY. Raises StudyError, without its value."""
    key = _exported(KEY, "export it (any word for a server without keys)")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise StudyError(f"{KEY} holds a space or a character that no key has: export it again")
    return key


def _exported(name: str, remedy: str) -> str:
    if value := os.environ.get(name, "").strip():
        return value
    raise StudyError(f"the judge is an endpoint but {name} is not set: {remedy}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
