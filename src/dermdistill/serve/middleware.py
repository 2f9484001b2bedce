"""What happens to every request, before and after its route: id, Host, Origin, headers, log, metrics.

The server listens on this computer, where every web page that the user visits can reach it. Hence two checks
beside the browser's own rules: the Host header (DNS rebinding makes a foreign name point here; an address or
`localhost` cannot be rebound), and the Origin of what is sent (a foreign page cannot read responses, since
there is no CORS, but it could keep the processor busy).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import time
import uuid
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dermdistill.serve.json_logs import LOGGER, request_id
from dermdistill.serve.observability import Metrics
from dermdistill.serve.problems import ClientGone, Refusal

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_NOTED = "dermdistill.noted"
_FAULT = Refusal(500, "fault", "The server met a fault; its log has the details.")
_ENDING = Refusal(
    503,
    "ending",
    "The server ends, and cannot finish this request.",
    fix="Try again in some seconds.",
    headers={"Retry-After": "5", "Connection": "close"},
)
_GONE = 499  # the log's word for a client that has hung up (as nginx has it); it is never sent


class Guard:
    """ASGI middleware, the outermost one.

    Args:
        app: The application behind it.
        metrics: Where requests are counted.
        hosts: Names that the Host header may have, beside localhost and any address.
        origins: Whose pages may send images (CORS), beside our own.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, hosts: Collection[str] = (), origins: Collection[str] = ()
    ) -> None:
        self.app, self.metrics = app, metrics
        self.hosts = {"localhost", *(host.lower() for host in hosts)}
        self.origins = set(origins)
        self.log = logging.getLogger(LOGGER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request, pass it to the application, and write its log line and metrics."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        identity = given if _ID.fullmatch(given) else uuid.uuid4().hex
        token = request_id.set(identity)
        seen = {"status": 0, "bytes_out": 0}
        began = time.perf_counter()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                self._add_headers(MutableHeaders(scope=message), identity)
            elif message["type"] == "http.response.body":
                seen["bytes_out"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._refuse_or_pass(scope, receive, watched, headers)
        except ClientGone:
            seen["status"] = _GONE
        except asyncio.CancelledError:  # the server is to end, and its grace is over
            await self._refuse_late(scope, receive, watched, seen, _ENDING)
        except Exception:
            self.log.exception("fault")
            await self._refuse_late(scope, receive, watched, seen, _FAULT)
        finally:
            self._note(scope, seen, time.perf_counter() - began)
            request_id.reset(token)

    async def _refuse_or_pass(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        refusal = self._bad_host(headers) or self._bad_origin(scope, headers)
        if refusal:
            await self._refuse(scope, receive, send, refusal)
        else:
            await self.app(scope, receive, send)

    async def _refuse_late(
        self, scope: Scope, receive: Receive, send: Send, seen: dict[str, int], refusal: Refusal
    ) -> None:
        if not seen["status"]:  # where the response has begun, the connection is all that can be cut
            await self._refuse(scope, receive, send, refusal)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
        self.metrics.refused.labels(code=refusal.code).inc()
        note(scope, code=refusal.code)
        await refusal.response(request_id.get())(scope, receive, send)

    def _bad_host(self, headers: Headers) -> Refusal | None:
        name = _hostname(headers.get("host", ""))
        if name in self.hosts or _is_address(name):
            return None
        return Refusal(
            400,
            "bad_host",
            "The Host header names another computer.",
            "an address, localhost, or a name given with --allow-host",
        )

    def _bad_origin(self, scope: Scope, headers: Headers) -> Refusal | None:
        origin = headers.get("origin")
        if scope["method"] in ("GET", "HEAD", "OPTIONS") or origin is None or origin in self.origins:
            return None
        if _origin(origin) == _origin(f"{scope['scheme']}://{headers.get('host', '')}"):
            return None
        return Refusal(
            403,
            "cross_origin",
            "The request comes from a page of another site.",
            "this server's own page, or an origin given with --allow-origin",
            "Behind a proxy with TLS, name its address with --trust-proxy.",
        )

    def _add_headers(self, headers: MutableHeaders, identity: str) -> None:
        headers["X-Request-ID"] = identity
        for name, value in SECURITY_HEADERS.items():
            headers[name] = value
        headers.setdefault("Cache-Control", "no-store")

    def _note(self, scope: Scope, seen: dict[str, int], seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "other"  # few values: each is a time series
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(route=route, method=method, status=str(seen["status"])).inc()
        self.metrics.seconds.labels(route=route).observe(seconds)
        fields: dict[str, Any] = {"method": method, "route": route, **seen, "seconds": round(seconds, 4)}
        self.log.info("request", extra={"fields": fields | scope.get(_NOTED, {})})


def note(scope: Scope, **fields: Any) -> None:
    """Add fields to the request's log line."""
    scope.setdefault(_NOTED, {}).update(fields)


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port; None where it has none of them, as ``null`` has."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
