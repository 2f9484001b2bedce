"""Refusals and errors in one form: Problem Details for HTTP APIs (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """Why a request was not answered (RFC 9457); `code` is for programs, `detail` for people."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field("about:blank", description="Always about:blank; `code` tells the problems apart.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(description="A stable name, such as too_large, unreadable_image or busy.")
    detail: str = Field(description="What was found, as a sentence.")
    expected: str = Field("", description="What was expected instead.")
    fix: str = Field("", description="What can be done now.")
    request_id: str = Field(description="As in the header X-Request-ID and in the server's log.")


class Refusal(Exception):  # noqa: N818 (it is an answer, not a fault)
    """A request that is not answered as asked.

    Args:
        status: HTTP status.
        code: Stable name.
        detail: What was found, as a sentence.
        expected: What was expected instead.
        fix: What can be done now.
        headers: Of the answer, such as Retry-After.
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

    def response(self, request_id: str) -> Response:
        """As an HTTP answer."""
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
    """The client has closed its connection: nobody waits for the answer."""


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The same form for each of these statuses, as OpenAPI responses."""
    told = {
        400: "The Host header or the multipart body is not valid",
        403: "Sent by a page of another site",
        406: "None of the types in Accept can be answered",
        408: "The body did not arrive in time",
        413: "The file is larger than this server takes",
        415: "The body is neither multipart/form-data nor an image",
        422: "No readable image, too many pixels, or a parameter out of its range",
        429: "The queue is full; Retry-After says when to try again",
        500: "A fault of the server; its log has the request id",
        504: "The answer took longer than the server's time limit",
    }
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    answers: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        answers[status] = {"description": told[status], "content": {MEDIA_TYPE: schema}}
    if 429 in answers:
        seconds = {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds to wait"}
        answers[429]["headers"] = {"Retry-After": seconds}
    return answers
