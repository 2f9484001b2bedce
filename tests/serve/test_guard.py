"""Who may ask, what every answer carries, what is logged, and that nothing is written to a file."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from dermdistill.inference.predictor import Predictor
from dermdistill.serve import server
from dermdistill.serve.app import PAGE, make_app
from dermdistill.serve.json_logs import LOGGER, JsonFormatter
from dermdistill.serve.limits import Limits
from dermdistill.serve.middleware import SECURITY_HEADERS
from standins import CARD, darkness, encoded, picture

PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "192.168.1.7", "clinic.lan"]
)
def test_addresses_and_named_hosts_are_answered(open_client: Callable[..., TestClient], host: str) -> None:
    assert open_client(hosts=["Clinic.lan"]).get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::1"]
)
def test_other_hosts_are_refused(client: TestClient, host: str) -> None:
    """DNS rebinding: a page of evil.example, whose name now points to this computer."""
    response = client.get("/v1/model", headers={"Host": host})
    assert (response.status_code, response.json()["code"]) == (400, "bad_host")


def test_pages_of_other_sites_cannot_send(client: TestClient) -> None:
    data = encoded(picture())
    for origin in (
        *("https://evil.example", "http://127.0.0.1:9000", "null", "", "http://[", "http://127.0.0.1:x"),
        *("https://127.0.0.1:8000", "http://127.0.0.1"),  # another scheme or port is another origin
    ):
        response = client.post("/v1/segment", content=data, headers=PNG | {"Origin": origin})
        assert (response.status_code, response.json()["code"]) == (403, "cross_origin")
        assert "access-control-allow-origin" not in response.headers
    own = PNG | {"Origin": "http://127.0.0.1:8000"}
    assert client.post("/v1/segment", content=data, headers=own).status_code == 200


@pytest.mark.parametrize(
    ("trusted", "told", "origin", "status"),
    [
        ([], "https", "http://clinic.lan", 200),  # anybody can write the header
        ([], "https", "https://clinic.lan", 403),
        (["10.0.0.0/8"], "https", "https://clinic.lan", 403),
        (["10.0.0.0/8", "127.0.0.1"], "https", "https://clinic.lan", 200),
        (["127.0.0.1"], "https", "https://clinic.lan:443", 200),
        (["127.0.0.1"], "https", "http://clinic.lan", 403),
        (["127.0.0.1"], "http", "https://clinic.lan", 403),
        (["127.0.0.1"], "gopher", "http://clinic.lan", 200),
    ],
)
def test_the_scheme_before_a_proxy_is_believed_where_it_is_trusted(
    trusted: list[str], told: str, origin: str, status: int
) -> None:
    app = make_app(Predictor.from_backend(CARD, darkness), hosts=["clinic.lan"])
    config = server.make_server(app, Limits(), proxies=trusted).config
    config.load()
    client = TestClient(config.loaded_app, base_url="http://clinic.lan", client=("127.0.0.1", 5))
    headers = PNG | {"Origin": origin, "X-Forwarded-Proto": told}
    assert client.post("/v1/segment", content=encoded(picture()), headers=headers).status_code == status


def test_cors_is_only_for_those_who_are_named(open_client: Callable[..., TestClient]) -> None:
    client = open_client(origins=["https://clinic.example"])
    data = encoded(picture())
    answer = client.post("/v1/segment", content=data, headers=PNG | {"Origin": "https://clinic.example"})
    assert answer.headers["access-control-allow-origin"] == "https://clinic.example"
    other = client.get("/v1/model", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_every_answer_has_the_security_headers(open_client: Callable[..., TestClient]) -> None:
    calm = True

    def moody(batch: np.ndarray) -> np.ndarray:
        if calm:
            return darkness(batch)
        raise RuntimeError("secret detail")

    client = open_client(moody)
    calm = False
    answers = [client.get(path) for path in ("/", "/app.js", "/page.css", "/healthz", "/metrics", "/nothing")]
    answers.append(client.get("/", headers={"Host": "evil.example"}))
    fault = client.post("/v1/segment", content=encoded(picture()), headers=PNG)
    assert (fault.status_code, fault.json()["code"]) == (500, "fault")
    assert "secret" not in fault.text
    for answer in [*answers, fault]:
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value, answer.url
        assert answer.headers["X-Request-ID"]
        assert "server" not in answer.headers
    assert "default-src 'self'" in SECURITY_HEADERS["Content-Security-Policy"]
    assert client.get("/app.js").headers["cache-control"] == "no-cache"
    assert client.get("/healthz").headers["cache-control"] == "no-store"


def test_the_page_asks_for_nothing_elsewhere(client: TestClient) -> None:
    page = client.get("/").text
    assert "Not a medical device" in page
    assert "Images stay on this computer" in page
    names = sorted(path.name for path in PAGE.iterdir())
    assert "index.html" in names
    for name in names:
        text = client.get(f"/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert text
        assert 'src="//' not in text, name
        assert "import(" not in text, name
        assert "http:" not in text, name
        assert "https:" not in text, name
        assert "style=" not in text, f"{name}: refused by the policy"


def test_a_request_id_is_kept_or_made(client: TestClient) -> None:
    assert (
        client.get("/healthz", headers={"X-Request-ID": "case-7.a_B"}).headers["X-Request-ID"] == "case-7.a_B"
    )
    made = [client.get("/healthz", headers={"X-Request-ID": bad}) for bad in ("", "a b", "x" * 65, 'a"b')]
    assert len({each.headers["X-Request-ID"] for each in made}) == 4
    assert all(len(each.headers["X-Request-ID"]) == 32 for each in made)


def test_log_lines_are_json_with_the_request_and_without_the_patient(
    open_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = JsonFormatter().format(record)
            assert "\n" not in text
            lines.append(json.loads(text))

    logger = logging.getLogger(LOGGER)
    monkeypatch.setattr(logger, "handlers", [Keep(logging.INFO)])
    monkeypatch.setattr(logger, "propagate", False)
    level = logger.level
    logger.setLevel(logging.INFO)
    request.addfinalizer(lambda: logger.setLevel(level))
    broken = False

    def moody(batch: np.ndarray) -> np.ndarray:
        if broken:
            raise RuntimeError("a fault of the network")
        return darkness(batch)

    client = open_client(moody)
    data = encoded(picture())
    files = {"image": ("Jane Doe 1970-01-01.png", data, "image/png")}
    client.post("/v1/segment?output=mask", files=files, headers={"X-Request-ID": "first"})
    client.post("/v1/segment", content=b"?", headers=PNG | {"X-Request-ID": "second"})
    broken = True
    client.post("/v1/segment", content=data, headers=PNG | {"X-Request-ID": "third"})
    ready, first, second, fault, third = lines
    assert (ready["event"], ready["recipe"]) == ("ready", "r")
    assert first["request_id"] == "first"
    assert (first["method"], first["route"], first["status"]) == ("POST", "/v1/segment", 200)
    assert first["output"] == "mask"
    assert len(data) < first["bytes_in"] < len(data) + 500  # the form around it
    assert first["seconds"] > 0
    assert first["bytes_out"] > 50
    assert first["time"].endswith("Z")
    assert (second["request_id"], second["status"], second["code"]) == ("second", 422, "unreadable_image")
    assert fault["request_id"] == third["request_id"] == "third"
    assert fault["level"] == "error"
    assert "a fault of the network" in fault["traceback"]
    assert third["status"] == 500
    assert "Jane" not in json.dumps(lines)


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_written: list[str] = []
_watching: list[bool] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "open":
        path, mode, flags = arguments
        if (isinstance(flags, int) and flags & _WRITES) or (
            isinstance(mode, str) and set(mode) & set("wax+")
        ):
            _written.append(str(path))
    elif event in ("tempfile.mkstemp", "tempfile.mkdtemp"):
        _written.append(event)


def test_no_file_is_written(open_client: Callable[..., TestClient]) -> None:
    """Starlette's own parser would spool what is above 1 MB to a temporary file: the control shows it."""
    from starlette.formparsers import MultiPartParser

    from dermdistill.serve import forms

    sys.addaudithook(_watch)  # cannot be taken off again; hence the flag
    client = open_client(limits=Limits(max_upload_bytes=2**24))
    noise = np.random.default_rng(0).integers(200, 256, (1000, 1000, 3), np.uint8)
    data = encoded(noise)
    assert len(data) > 2 * 2**20
    _watching.append(True)
    try:
        for output in ("json", "overlay"):
            for options in ({"files": {"image": ("a.png", data)}}, {"content": data, "headers": PNG}):
                response = client.post("/v1/segment", params={"output": output}, **options)
                assert response.status_code == 200
        assert _written == []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forms._InMemoryParser, "spool_max_size", MultiPartParser.spool_max_size)
            assert client.post("/v1/segment", files={"image": ("a.png", data)}).status_code == 200
        assert _written != []
    finally:
        _watching.clear()
        _written.clear()
