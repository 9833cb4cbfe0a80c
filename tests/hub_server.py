"""A small model hub on the loopback interface: it serves the data sets in a folder as the real one does.

Run as ``python tests/hub_server.py FOLDER``; it prints its address and serves until its input ends. ``FOLDER`` holds
``<owner>/<name>`` with the files of each data set; names that begin with ``gated`` refuse everyone.
"""

import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """Answers the two questions that a download asks: which files there are, and what is in one."""

    folder: Path

    def do_GET(self) -> None:
        """A listing of files, or the content of one."""
        parts = self.path.split("?")[0].strip("/").split("/")
        api = parts[0] == "api"
        repository = self.folder.joinpath(*parts[2:4] if api else parts[1:3])
        if repository.name.startswith("gated"):
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        if not repository.is_dir():
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        if parts[-1] != COMMIT and COMMIT not in parts:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if api:
            return self._send(200, json.dumps(self._tree(repository)).encode(), {"Content-Type": "application/json"})
        content = repository.joinpath(*parts[5:]).read_bytes()
        self._send(200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _tree(self, repository: Path) -> list[dict]:
        files = [file for file in sorted(repository.rglob("*")) if file.is_file()]
        return [
            {
                "type": "file",
                "path": file.relative_to(repository).as_posix(),
                "size": file.stat().st_size,
                "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
            }
            for file in files
        ]

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


if __name__ == "__main__":
    Hub.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
