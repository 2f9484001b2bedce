"""Bind, serve, end."""

from __future__ import annotations

import functools
import os
import signal
import socket
from collections.abc import Callable, Collection

import uvicorn
from fastapi import FastAPI

from dermdistill.core.errors import DermDistillError, UsageError
from dermdistill.serve.connections import TimedConnection
from dermdistill.serve.limits import Limits


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket to an address of this computer; it does not listen yet.

    Args:
        host: Name or address.
        port: 0: any that is free.

    Returns:
        The bound socket, which the caller closes.

    Raises:
        UsageError: The address is taken, or is none of this computer's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(
            f"{host} is no address: {error.strerror}.",
            "such as 127.0.0.1",
            "Choose another --host; 127.0.0.1 is this computer alone.",
        ) from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise UsageError(
            f"Cannot listen on {host}, port {port}: {error.strerror}.",
            "a free port of this computer",
            "Choose another with --port (0: any that is free).",
        ) from None
    return bound


def address(bound: socket.socket) -> str:
    """Return the URL at which a browser on this computer opens the server of a bound socket."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(
    app: FastAPI,
    bound: socket.socket,
    limits: Limits,
    ready: Callable[[], None] = lambda: None,
    proxies: Collection[str] = (),
) -> None:
    """Handle requests until SIGINT or SIGTERM; what has begun by then is finished, within ``limits.grace_s``.

    Args:
        app: The application, as `make_app` returns it.
        bound: The socket of `bind`; closed at the end.
        limits: Of the application.
        ready: Called once requests are taken.
        proxies: As for `make_server`.

    Raises:
        DermDistillError: The application did not start.
    """
    # uvicorn handles both signals, then raises them again for whoever handled them before: a request to end
    # is the normal end of a server, so here nobody does.
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        make_server(app, limits, ready, proxies).run([bound])
    except SystemExit:
        raise DermDistillError(
            "The server did not start.",
            "a model that segments a first image",
            "The last line of the log, above, has the cause.",
        ) from None
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        bound.close()
    if app.state.pool.computing:  # in threads, which would be waited for
        os._exit(0)


def make_server(
    app: FastAPI, limits: Limits, ready: Callable[[], None] = lambda: None, proxies: Collection[str] = ()
) -> uvicorn.Server:
    """Make the server, for `serve` or for a thread.

    Args:
        app: The application, as `make_app` returns it.
        limits: Of the application.
        ready: Called once requests are taken.
        proxies: Addresses or networks whose X-Forwarded-Proto is believed.
    """
    config = uvicorn.Config(
        app,
        http=functools.partial(TimedConnection, limits=limits),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        access_log=False,  # the guard writes one line for each request
        log_config=None,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        timeout_graceful_shutdown=limits.grace_s,
    )
    return _Server(config, ready)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
