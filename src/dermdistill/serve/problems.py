"""Refusals and errors in one form: Problem Details for HTTP APIs (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """Why a request was refused or failed (RFC 9457); `code` is for programs, `detail` for people."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field("about:blank", description="Always about:blank; `code` tells the problems apart.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(description="A stable name, such as too_large, unreadable_image or busy.")
    detail: str = Field(description="What was found, as a sentence.")
    expected: str = Field("", description="What was expected instead.")
    fix: str = Field("", description="What can be done now.")
    request_id: str = Field(description="As in the header X-Request-ID and in the server's log.")


class Refusal(Exception):  # noqa: N818 (it is a response, not a fault)
    """A request that is refused.

    Args:
        status: HTTP status.
        code: Stable name.
        detail: What was found, as a sentence.
        expected: What was expected instead.
        fix: What can be done now.
        headers: Of the response, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        expected: str = "",
        fix: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.expected, self.fix, self.headers = expected, fix, headers or {}

    def __reduce__(self) -> tuple[type[Refusal], tuple[int, str, str, str, str, dict[str, str]]]:
        """It comes out of a worker process as it was."""
        return Refusal, (self.status, self.code, self.detail, self.expected, self.fix, self.headers)

    def response(self, request_id: str) -> Response:
        """Return it as an HTTP response in the form of `Problem`; ``request_id`` is written into the body."""
        problem = Problem(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            code=self.code,
            detail=self.detail,
            expected=self.expected,
            fix=self.fix,
            request_id=request_id,
        )
        return Response(problem.model_dump_json(), self.status, self.headers, MEDIA_TYPE)


class ClientGone(Exception):  # noqa: N818
    """The client has closed its connection: nobody waits for the response."""


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe refusals with these statuses as OpenAPI responses, each in the form of `Problem`.

    Args:
        statuses: HTTP statuses that a route may refuse with.

    Returns:
        By status: its description and its body's schema.
    """
    descriptions = {
        400: "The Host header or the multipart body is not valid",
        403: "Sent by a page of another site",
        406: "None of the types in Accept can be sent",
        408: "The body did not arrive in time",
        413: "The file is larger than this server takes",
        415: "The body is neither multipart/form-data nor an image",
        422: "No readable image, too many pixels, or a parameter out of its range",
        429: "The queue is full; Retry-After says when to try again",
        500: "A fault of the server; its log has the request id",
        503: "The server ends; Retry-After says when to try again",
        504: "The response took longer than the server's time limit",
    }
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        responses[status] = {"description": descriptions[status], "content": {MEDIA_TYPE: schema}}
    for status in {429, 503} & set(statuses):
        seconds = {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds to wait"}
        responses[status]["headers"] = {"Retry-After": seconds}
    return responses
