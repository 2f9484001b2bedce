"""Log lines as JSON: ours, uvicorn's, asyncio's, warnings, and what nobody has caught.

No line holds a file name, an image or a result: names of photographs often name a patient.
"""

from __future__ import annotations

import contextvars
import datetime
import json
import logging
import sys
import threading
from typing import Any

LOGGER = "dermdistill.serve"

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
"""The id of the request that is being handled; empty outside one."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, event, request_id, and ``extra["fields"]``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if identity := request_id.get():
            line["request_id"] = identity
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up_logging(level: int = logging.INFO) -> None:
    """Send every line that this process logs to standard error as JSON.

    Our own and uvicorn's from ``level`` on, those of other libraries from warnings on; Python's own warnings
    and the tracebacks of what nobody has caught, in any thread, are lines too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("dermdistill", LOGGER, "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(level)
    logging.raiseExceptions = False  # a line that cannot be written is lost, without a traceback beside it
    logging.captureWarnings(True)
    log = logging.getLogger(LOGGER)
    sys.excepthook = lambda *error: log.critical("uncaught", exc_info=error)
    threading.excepthook = lambda caught: log.critical(
        "uncaught",
        exc_info=caught.exc_value,
        extra={"fields": {"thread": getattr(caught.thread, "name", "")}},
    )
    sys.unraisablehook = lambda caught: log.error("uncaught", exc_info=caught.exc_value)
