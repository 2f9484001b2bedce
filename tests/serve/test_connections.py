"""Slow, silent and lying clients on real sockets: they are let go, and nobody waits for them."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx2
import numpy as np
import pytest

from dermdistill.inference.predictor import Predictor
from dermdistill.serve import server
from dermdistill.serve.app import make_app
from dermdistill.serve.limits import Limits
from standins import CARD, darkness, encoded, picture

HEADERS = b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


@contextmanager
def running(limits: Limits, backend: Any = darkness) -> Iterator[int]:
    """The server in a thread: its port."""
    bound = server.bind("127.0.0.1", 0)
    port = bound.getsockname()[1]
    ready = threading.Event()
    app = make_app(Predictor.from_backend(CARD, backend), limits)
    served = server.make_server(app, limits, ready.set)
    thread = threading.Thread(target=served.run, args=([bound],))
    thread.start()
    try:
        assert ready.wait(20)
        yield port
    finally:
        served.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def ask(port: int, **query: Any) -> httpx2.Response:
    return httpx2.post(
        f"http://localhost:{port}/v1/segment",
        params=query, content=encoded(picture()), headers={"Content-Type": "image/png"}, timeout=20,
    )  # fmt: skip


@contextmanager
def connected(port: int, *begin: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        for part in begin:
            client.sendall(part)
        yield client


def rest(client: socket.socket) -> bytes:
    """What the server sends until it closes."""
    got = b""
    with suppress(ConnectionResetError):
        while part := client.recv(2**16):
            got += part
    return got


def test_fifty_slow_clients_take_no_slot() -> None:
    """The server has one slot: each of them would have held it for as long as it liked."""
    limits = Limits(workers=1, queue=0, header_timeout_s=1.5, idle_timeout_s=1.5, upload_timeout_s=3)
    with running(limits) as port, ExitStack() as stack:
        begun = [b"", b"POST /v1/seg", HEADERS, HEADERS + b"Content-Length: 999\r\n\r\n", HEADERS + b"X: y"]
        slow = [stack.enter_context(connected(port, begun[index % 5])) for index in range(50)]
        began = time.monotonic()
        while time.monotonic() < began + 2.5:
            assert ask(port).status_code == 200
            for index in range(3, 50, 5):  # these give a byte from time to time
                with suppress(OSError):
                    slow[index].sendall(b"\0")
            time.sleep(0.2)
        answers = [rest(client) for client in slow]
        assert time.monotonic() < began + 10
        for index, answer in enumerate(answers):
            assert (answer[:12] == b"HTTP/1.1 408") == (index % 5 == 3), answer
        health = httpx2.get(f"http://localhost:{port}/healthz").json()
        assert health["slots_taken"] == 0


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"idle_timeout_s": 0.3}, "Nothing arrived for 0.3"), ({"upload_timeout_s": 0.3}, "within 0.3 seconds")],
)
def test_408_closes_the_connection(limits: dict[str, float], said: str) -> None:
    begin = HEADERS + b"Transfer-Encoding: chunked\r\n\r\n"
    with running(Limits(workers=1, **limits)) as port, connected(port, begin) as client:  # type: ignore[arg-type]
        answer = rest(client)
        assert b"connection: close" in answer.lower()
        problem = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert (problem["status"], problem["code"]) == (408, "upload_timeout")
        assert said in problem["detail"]


def test_a_kept_connection_is_closed_when_the_next_headers_do_not_come() -> None:
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with running(Limits(header_timeout_s=0.4)) as port, connected(port, get) as client:
        assert b"200 OK" in client.recv(2**16)
        client.sendall(get + b"GET /hea")  # one more is answered, of the third there is half
        assert rest(client).count(b"200 OK") == 1


def test_a_body_that_is_refused_is_not_read_for_ever() -> None:
    with running(Limits(workers=1, max_upload_bytes=1000, header_timeout_s=0.5)) as port:
        chunk = b"400\r\n" + bytes(1024) + b"\r\n"
        with connected(port, HEADERS + b"Transfer-Encoding: chunked\r\n\r\n") as client:
            end = time.monotonic() + 10
            with pytest.raises(OSError):  # noqa: PT012 (reset, or a broken pipe)
                while time.monotonic() < end:
                    client.sendall(chunk)
                    time.sleep(0.01)
        assert ask(port).status_code == 200


@pytest.mark.parametrize(
    ("framing", "body", "status"),
    [
        (b"Content-Length: 5000", b"\x89PNG\r\n\x1a\n", b"408"),  # longer than what comes
        (b"Content-Length: 4", b"\x89PNG\r\n\x1a\n junk", b"422"),  # shorter: the rest is no request
        (b"Content-Length: -4", b"", b"400"),
        (b"Content-Length: " + b"9" * 5000, b"", b"400"),
        (b"Content-Length: 99999999999999999", b"", b"413"),
        (b"Content-Length: 3\r\nContent-Length: 4", b"1234", b"400"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 4", b"0\r\n\r\n", b"422"),
        (b"Transfer-Encoding: chunked", b"zz\r\n", b"400"),
        (b"Transfer-Encoding: chunked", b"f" * 25 + b"\r\n", b"400"),
        (b"X: " + b"y" * 2_000_000, b"", b"400"),
        (b"X: \0", b"", b"400"),
    ],
)
def test_a_wrong_length_is_refused_and_harms_nobody(framing: bytes, body: bytes, status: bytes) -> None:
    limits = Limits(workers=1, queue=0, idle_timeout_s=0.3, header_timeout_s=1)
    with running(limits) as port:
        with connected(port) as client:
            with suppress(OSError):
                client.sendall(HEADERS + framing + b"\r\n\r\n" + body)
            got = rest(client)[9:12]
            assert got == status or (len(framing) > 10**6 and not got)  # reset while it was still sent
        assert ask(port).status_code == 200


def test_the_connection_that_waits_longest_gives_way() -> None:
    with running(Limits(max_connections=10)) as port, ExitStack() as stack:
        silent = [stack.enter_context(connected(port, b"GET /")) for _ in range(13)]
        assert ask(port).status_code == 200
        assert [rest(each) for each in silent[:4]] == [b""] * 4
        for each in silent[4:]:
            each.setblocking(False)
            with pytest.raises(BlockingIOError):
                each.recv(1)


def test_a_response_that_is_not_fetched_is_cut() -> None:
    body = encoded(np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8), "JPEG", quality=50)
    request = HEADERS.replace(b"segment", b"segment?output=overlay")
    with running(Limits(workers=1, response_timeout_s=0.5)) as port, connected(port) as client:
        client.sendall(request + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        first = client.recv(1000)
        assert first.startswith(b"HTTP/1.1 200")
        length = int(first.lower().partition(b"content-length: ")[2].split()[0])
        time.sleep(1.5)
        assert len(first + rest(client)) < length


def test_memory_for_uploads_is_bounded_in_all() -> None:
    limits = Limits(workers=1, queue=0, max_upload_bytes=50_000)  # and the framing of one form
    begin = HEADERS + b"Content-Length: 49000\r\n\r\n" + bytes(48_000)
    with running(limits) as port, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connected(port, begin))
        time.sleep(0.3)
        with connected(port, begin) as client:
            answer = client.recv(2**16)
        assert answer.startswith(b"HTTP/1.1 429")
        assert b"retry-after" in answer.lower()
        stack.close()
        assert ask(port).status_code == 200
