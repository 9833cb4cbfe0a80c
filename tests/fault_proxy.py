"""A proxy on loopback that counts the requests to a server behind it, and fails as it is told."""

import hashlib
import json
import random
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HANG = 30.0  # seconds that a request may hang at most; ends with the proxy


class FaultProxy:
    """Answers one request after another by ``faults``, and passes on those that come after.

    A fault is ``hang``, ``cut`` (half of the true reply), ``html``, ``large`` (two megabytes), ``drip`` (a byte at a
    time) or a status with the headers to send, and perhaps an error code: ``(429, {"Retry-After": "1"}, "too_fast")``.
    """

    def __init__(self, upstream: str):
        self.faults: list[str | tuple] = []
        self.forever: str | tuple | None = None  # the fault of all requests beyond these
        self.share = 0.0  # of the requests beyond these that fail with HTTP 503, at random
        self.delay = 0.0  # seconds before a reply
        self.asked: Counter[str] = Counter()  # requests by hash of their body
        self.passed_on = 0
        self.times: list[float] = []
        self.keys: set[str] = set()
        self.most_at_once = self._open = 0
        self._address = urlsplit(upstream)
        self._lock = threading.Lock()
        self._dice = random.Random(0)
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        """Stop; hanging requests end."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                proxy._count(self, body)
                try:
                    proxy._answer(self, body)
                except OSError:  # the client went away
                    self.close_connection = True
                finally:
                    with proxy._lock:
                        proxy._open -= 1

            def log_message(self, *_):
                pass

        return Handler

    def _count(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        with self._lock:
            self.asked[hashlib.sha256(body).hexdigest()] += 1
            self.times.append(time.monotonic())
            self.keys.add(request.headers.get("Authorization", ""))
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)

    def _answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self._closing.wait(self.delay)
        with self._lock:
            fault = self.faults.pop(0) if self.faults else self.forever or self._chance()
        if fault == "hang":
            self._closing.wait(HANG)
            request.close_connection = True
        elif fault in ("html", "large"):
            body = b"<html>welcome to this network</html>" if fault == "html" else b"[" * (1 << 21)
            self._send(request, 200, {"Content-Type": "text/html"}, body)
        elif isinstance(fault, tuple):
            repeated = request.headers.get("Authorization", "").encode()  # some servers repeat the key
            code = json.dumps(fault[2] if len(fault) > 2 else None).encode()
            body = b'{"error": {"message": "bad key: ' + repeated + b'", "code": ' + code + b"}}"
            self._send(request, fault[0], fault[1], body)
        else:
            self._pass_on(request, body, fault)

    def _chance(self) -> tuple[int, dict[str, str]] | None:
        return (503, {}) if self._dice.random() < self.share else None

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes, fault: str | None) -> None:
        upstream = HTTPConnection(self._address.hostname, self._address.port, timeout=120)
        upstream.request(
            "POST", self._address.path + request.path.removeprefix("/v1"), body, {"Content-Type": "application/json"}
        )
        response = upstream.getresponse()
        content = response.read()
        with self._lock:
            self.passed_on += 1
        self._send(request, response.status, {"Content-Type": "application/json"}, content, fault)

    def _send(self, request, status: int, headers: dict[str, str], content: bytes, fault: str | None = None) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        if fault == "cut":
            request.wfile.write(content[: len(content) // 2])
            request.close_connection = True
        elif fault == "drip":
            for i in range(len(content)):
                if self._closing.wait(0.2):
                    break
                request.wfile.write(content[i : i + 1])
        else:
            request.wfile.write(content)
