"""A small web server of files in memory, with the faults that real ones have."""

from __future__ import annotations

import http.server
import re
import threading
from dataclasses import dataclass, field
from types import TracebackType


@dataclass
class Rule:
    """How one file is served. Lists are used up from the front, one entry per request."""

    ignore_range: bool = False
    break_after: list[int] = field(default_factory=list)
    """Close the connection after so many bytes of the body."""
    status: list[int] = field(default_factory=list)
    """Answer with this status instead (0: the file)."""
    etag: str = '"one"'
    hide_length: bool = False


class FileServer:
    """Serves ``files`` (path → bytes) on a free local port; ``requests`` keeps (path, headers)."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.rules = dict(files), {path: Rule() for path in files}
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def base(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Serve one request by the file's rule."""
        rule = self.rules.get(handler.path, Rule())
        status = rule.status.pop(0) if rule.status else 0
        if status or handler.path not in self.files:
            handler.send_error(status or 404)
            return
        body = self.files[handler.path]
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = handler.headers.get("If-Range", rule.etag) == rule.etag
        if asked and same and not rule.ignore_range:
            start = int(asked[1])
            if start >= len(body):
                handler.send_error(416)
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        if not rule.hide_length:
            handler.send_header("Content-Length", str(len(body) - start))
        handler.send_header("ETag", rule.etag)
        handler.end_headers()
        rest = body[start:]
        handler.wfile.write(rest[: rule.break_after.pop(0)] if rule.break_after else rest)
        handler.close_connection = True

    def __enter__(self) -> FileServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
