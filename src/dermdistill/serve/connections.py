"""Connections that a slow or silent client cannot keep: uvicorn itself waits for ever."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from dermdistill.serve.limits import Limits


class TimedConnection(H11Protocol):
    """One connection of uvicorn's, with three bounds of `Limits`.

    Headers have to arrive in time after the connection was made or its last response sent (what is left of
    that request's body too); a response has to be fetched in time; and where there are too many connections,
    the one that has waited longest for the rest of a request gives way.
    """

    def __init__(self, *arguments: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._since = math.inf
        self._header_timer: asyncio.TimerHandle | None = None
        self._response_timer: asyncio.TimerHandle | None = None

    @property
    def _is_waiting(self) -> bool:
        """Whether the client is to send something: headers, or the rest of a body."""
        asked = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        return not asked and not self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for headers; make room where there are too many connections."""
        super().connection_made(transport)
        open_ones = [each for each in self.connections if not each.transport.is_closing()]
        if len(open_ones) > self._limits.max_connections:
            waiting = [each for each in open_ones if isinstance(each, TimedConnection) and each._is_waiting]
            min(waiting, key=lambda each: each._since).transport.abort()
        self._wait_for_headers()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request's headers."""
        self._wait_for_headers()
        super().on_response_complete()

    def _wait_for_headers(self) -> None:
        self._since = self.loop.time()
        _cancel(self._header_timer)
        self._header_timer = self.loop.call_later(self._limits.header_timeout_s, self._close_if_unasked)

    def _close_if_unasked(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()  # once all that was written is sent

    def pause_writing(self) -> None:
        """Begin to wait for the client to fetch what has been written."""
        super().pause_writing()
        self._response_timer = self.loop.call_later(self._limits.response_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It has."""
        super().resume_writing()
        _cancel(self._response_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        _cancel(self._header_timer)
        _cancel(self._response_timer)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
