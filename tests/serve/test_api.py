"""The HTTP API: its answers, its refusals in one form, and a document that tells the truth about both."""

from __future__ import annotations

import base64
import json
import re
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from fastapi.testclient import TestClient
from openapi_spec_validator import validate
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from dermdistill import imaging
from dermdistill.inference.predictor import Predictor
from dermdistill.inference.writers import draw_overlay
from dermdistill.serve.limits import Limits
from standins import decoded, encoded, picture

PNG = {"Content-Type": "image/png"}
BYTES = {"Content-Type": "application/octet-stream"}


def segment(client: TestClient, data: bytes, headers: dict[str, str] = PNG, **query: Any) -> Any:
    return client.post("/v1/segment", params=query, content=data, headers=headers)


def test_a_form_and_a_body_get_the_predictors_answer(client: TestClient, predictor: Predictor) -> None:
    data = encoded(picture())
    expected = json.loads(json.dumps(predictor(data).to_json()))
    by_form = client.post("/v1/segment", files={"image": ("a.png", data, "image/png")})
    for response in (by_form, segment(client, data), segment(client, data, BYTES)):
        assert response.status_code == 200
        answer = response.json()
        assert answer["request_id"] == response.headers["X-Request-ID"]
        assert {key: answer[key] for key in expected} == expected
        assert answer["threshold"] == 0.5
        assert answer["probability_map"] is None


def test_outlines_measures_and_millimetres(client: TestClient, predictor: Predictor) -> None:
    data = encoded(picture())
    found = predictor(data)
    answer = segment(client, data, mm_per_pixel=0.1).json()
    assert answer["measures"] == json.loads(json.dumps(found.to_json(0.1)["measures"]))
    assert answer["measures"]["area_mm2"] == pytest.approx(answer["measures"]["area_px"] / 100)
    (rings,) = answer["outline"]
    np.testing.assert_allclose(rings[0], found.polygons[0].exterior, atol=0.005)
    assert rings[0][0] == rings[0][-1]
    collection = segment(client, data, PNG | {"Accept": "application/geo+json"})
    assert collection.headers["content-type"] == "application/geo+json"
    assert collection.json()["features"][0]["geometry"]["coordinates"] == [rings[0]]
    for impossible in (0, -1, 1e-300, 1e300, 11, "inf", "nan", "9" * 5000):
        assert segment(client, data, mm_per_pixel=impossible).status_code == 422


def test_warnings_are_told_and_counted(client: TestClient, predictor: Predictor) -> None:
    empty = encoded(np.full((50, 50, 3), 255, np.uint8))
    answer = segment(client, empty).json()
    told = [warning["code"] for warning in answer["warnings"]]
    assert told == [warning.code for warning in predictor(empty).warnings]
    assert "no_lesion" in told
    assert answer["not_checked"] == ["not_dermoscopy"]
    assert 'dermdistill_warnings_total{code="no_lesion"} 1.0' in client.get("/metrics").text


def test_masks_and_overlays_are_png_at_native_size(client: TestClient, predictor: Predictor) -> None:
    data = encoded(picture())
    expected = predictor(data)
    by_accept = segment(client, data, PNG | {"Accept": "image/png"})
    for response in (segment(client, data, output="mask"), by_accept):
        assert response.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(decoded(response.content), expected.mask * 255)
    overlay = decoded(segment(client, data, output="overlay").content)
    drawn = Image.fromarray(picture())
    draw_overlay(drawn, expected)
    np.testing.assert_array_equal(overlay, np.asarray(drawn))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("image/png;q=0.5, application/json", "application/json"),
        ("application/json;q=0.1, image/*", "image/png"),
        ("text/html, */*;q=0.1", "application/json"),
    ],
)
def test_accept_is_weighed(client: TestClient, accept: str, kind: str) -> None:
    assert segment(client, encoded(picture()), PNG | {"Accept": accept}).headers["content-type"] == kind


def test_another_threshold_gives_another_mask(client: TestClient, predictor: Predictor) -> None:
    data = encoded(picture())
    prob = predictor(data).prob
    areas = []
    for threshold in (0.15, 0.5, 0.9):
        mask = decoded(segment(client, data, output="mask", threshold=threshold).content)
        np.testing.assert_array_equal(mask, imaging.to_mask(prob, threshold) * 255)
        answer = segment(client, data, threshold=threshold).json()
        assert answer["threshold"] == threshold
        assert answer["area_fraction"] == pytest.approx((mask > 0).mean(), abs=1e-6)
        areas.append(answer["area_fraction"])
    assert areas == sorted(areas, reverse=True)
    assert len(set(areas)) == 3


@pytest.mark.parametrize(("height", "width"), [(60, 90), (700, 1300)])
def test_the_probability_map_is_the_probability(
    client: TestClient, predictor: Predictor, height: int, width: int
) -> None:
    data = encoded(picture(height, width))
    found = segment(client, data, probability_map=True).json()["probability_map"]
    grey = decoded(base64.b64decode(found["png"]))
    assert grey.shape == (found["height"], found["width"])
    assert max(grey.shape) == min(640, width)
    prob = predictor(data).prob
    if grey.shape != prob.shape:
        prob = np.asarray(Image.fromarray(prob).resize(grey.shape[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_allclose(grey / 255, prob, atol=0.5 / 255 + 1e-6)


def test_photographs_are_answered_upright(client: TestClient) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data, kind = encoded(picture(60, 90), "TIFF", exif=exif), {"Content-Type": "image/tiff"}
    answer = segment(client, data, kind).json()
    assert (answer["width"], answer["height"]) == (60, 90)
    assert decoded(segment(client, data, kind, output="image").content).shape == (90, 60, 3)
    large = decoded(segment(client, encoded(picture(300, 2000)), output="image").content)
    assert large.shape == (240, 1600, 3)


def test_every_refusal_has_one_form(client: TestClient) -> None:
    small, file = encoded(picture()), ("a.png", encoded(picture()), "image/png")
    noise = encoded(np.random.default_rng(0).integers(0, 256, (800, 800, 3), np.uint8))

    def pieces() -> Iterator[bytes]:  # without a Content-Length
        for _ in range(40):
            yield bytes(2**16)

    def post(**options: Any) -> Any:
        return client.post("/v1/segment", **options)

    asked = [
        (413, "too_large", post(content=noise, headers=PNG)),
        (413, "too_large", post(content=pieces(), headers=PNG)),
        (413, "too_large", post(files={"image": ("a.png", noise)})),
        (422, "too_many_pixels", post(content=encoded(picture(2000, 1000)), headers=PNG)),
        (422, "unreadable_image", post(content=b"GIF89a, no image of ours", headers=PNG)),
        (422, "unreadable_image", post(content=small[:100], headers=PNG)),
        (422, "no_image", post(content=b"", headers=PNG)),
        (422, "no_image", post(files={"picture": file})),
        (422, "no_image", post(files={"image": (None, "text")})),
        (422, "bad_parameter", post(content=small, headers=PNG, params={"threshold": 1})),
        (422, "bad_parameter", post(content=small, headers=PNG, params={"output": "gif"})),
        (415, "unsupported_type", post(content=small, headers={"Content-Type": "text/plain"})),
        (415, "unsupported_type", post()),
        (400, "bad_form", post(content=small, headers={"Content-Type": "multipart/form-data"})),
        (400, "bad_form", post(files=[("image", file), ("image", file)])),
        (406, "not_acceptable", post(content=small, headers=PNG | {"Accept": "text/html"})),
        (404, "not_found", client.get("/nothing")),
        (404, "not_found", client.get("/%2e%2e/app.py")),
        (405, "bad_method", client.put("/v1/model")),
    ]
    document = client.get("/openapi.json").json()
    for status, code, response in asked:
        assert (response.status_code, response.json()["code"]) == (status, code), response.text
        assert response.headers["content-type"] == "application/problem+json"
        check(document, "Problem", response.json())
        assert response.json()["request_id"] == response.headers["X-Request-ID"]
        assert response.json()["status"] == status
        if response.request.url.path == "/v1/segment":
            assert str(status) in document["paths"]["/v1/segment"]["post"]["responses"]


def part(name: bytes, data: bytes = b"1", more: bytes = b"") -> bytes:
    return (
        b'--X\r\nContent-Disposition: form-data; name="' + name + b'"' + more + b"\r\n\r\n" + data + b"\r\n"
    )


SMALL = encoded(picture())
IMAGE, END = part(b"image", SMALL, b'; filename="a.png"'), b"--X--\r\n"


@pytest.mark.parametrize(
    ("boundary", "body", "status"),
    [
        ("; boundary=X", IMAGE + END, 200),
        ("; boundary=X", b"a preamble\r\n" + IMAGE + END, 400),
        ("; boundary=X", IMAGE, 400),  # not ended
        ("; boundary=X", IMAGE[:-40] + END, 400),
        ("; boundary=Y", IMAGE + END, 400),
        ("; boundary=", IMAGE + END, 400),
        ("; boundary=" + "b" * 5000, IMAGE + END, 400),
        ("", IMAGE + END, 400),
        ("; boundary=X", END, 422),
        ("; boundary=X", b"", 400),
        ("; boundary=X", b"".join(part(b"%d" % i) for i in range(5000)) + IMAGE + END, 400),
        ("; boundary=X", (IMAGE * 2) + END, 400),
        ("; boundary=X", part(b"n" * 100_000) + IMAGE + END, 400),
        ("; boundary=X", part(b"image\nX-Evil: 1", SMALL, b"; filename=a") + END, 422),
        ("; boundary=X", part(b"image\r\nX-Evil: 1", SMALL, b"; filename=a") + END, 422),
        ("; boundary=X", part(b"\xff\xfe\0", SMALL, b"; filename=a") + END, 422),
        ("; boundary=X", part(b"image", SMALL, b'; filename="' + b"../" * 300 + b'\xf0\x9f"') + END, 200),
        ("; boundary=X", part(b"text", b"t" * 200_000) + IMAGE + END, 400),
        ("; boundary=X", IMAGE.replace(b"\r\n\r\n", b"\r\n" + b"A: b\r\n" * 3000 + b"\r\n") + END, 400),
        ("; boundary=X", b"--X\r\n\r\n" + SMALL + b"\r\n" + END, 400),  # without a name
        ("; boundary=X; charset=no-such", IMAGE + END, 200),
        ("; boundary=X; charset=utf-16", IMAGE + END, 200),
        ("; boundary=X", b"\r\n" * 100_000, 400),
    ],
)
def test_a_hostile_form_is_refused_in_the_same_form(
    client: TestClient, boundary: str, body: bytes, status: int
) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    response = segment(client, body, headers)
    assert response.status_code == status, response.text
    if status != 200:
        assert response.json()["code"] in ("bad_form", "no_image", "unreadable_image")
        assert len(response.content) < 2000
    assert segment(client, SMALL).status_code == 200


@pytest.mark.parametrize(
    ("width", "height", "status"),
    [(1, 60_000, 200), (60_000, 1, 200), (1, 50_000_000, 422), (70_000, 10, 422), (100_000, 100_000, 422)],
)
def test_thin_and_huge_images_take_little(
    open_client: Callable[..., TestClient], width: int, height: int, status: int
) -> None:
    """Beyond 65,535 a side nothing is decoded: half of these would need gigabytes, or hours."""
    data = png_of_zeros(width, height)
    client = open_client(limits=Limits(workers=1))
    for output in ("json", "mask", "overlay", "geojson", "image"):
        began = time.perf_counter()
        assert segment(client, data, output=output).status_code == status
        assert time.perf_counter() - began < 5


def png_of_zeros(width: int, height: int) -> bytes:
    """A grey PNG, black; where it would be long, its first megabyte of rows only."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(min(10**6, (width + 1) * height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def check(document: dict[str, Any], name: str, value: Any) -> None:
    jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", "components": document["components"]})


def test_the_document_is_valid_and_tells_the_truth(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    validate(document)
    assert set(document["paths"]) == {"/v1/segment", "/v1/model", "/healthz", "/metrics"}
    data = encoded(picture())
    check(document, "Segmentation", segment(client, data, probability_map=True).json())
    check(document, "Segmentation", segment(client, encoded(np.full((9, 9, 3), 255, np.uint8))).json())
    check(document, "Service", client.get("/v1/model").json())
    check(document, "Health", client.get("/healthz").json())
    with pytest.raises(jsonschema.ValidationError):
        check(document, "Health", {"status": "ok"})


def test_every_code_is_explained() -> None:
    """In docs/serve.md."""
    root = Path(__file__).parents[2]
    source = "".join(path.read_text("utf-8") for path in (root / "src/dermdistill/serve").glob("*.py"))
    used = set(re.findall(r'\b(?:4|5)\d\d,\s+"([a-z_]+)"', source))
    told = set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", (root / "docs/serve.md").read_text("utf-8")))
    assert len(used) > 10
    assert used <= told


def test_the_model_and_the_limits_are_told(client: TestClient) -> None:
    service = client.get("/v1/model").json()
    assert service["card"]["recipe"] == "r"
    assert (service["max_upload_bytes"], service["max_pixels"]) == (2**20, 1_000_000)
    assert "Not a medical device" in service["notice"]
    health = client.get("/healthz").json()
    assert (health["status"], health["slots_taken"]) == ("ok", 0)


def test_metrics_count_requests_refusals_and_slots(open_client: Callable[..., TestClient]) -> None:
    client = open_client(limits=Limits(workers=2, queue=3))
    data = encoded(picture())
    for _ in range(3):
        segment(client, data)
    segment(client, b"no image at all")
    for name in ("a", "b", "c"):
        client.get(f"/{name}")
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    asked = {("method", "POST"), ("route", "/v1/segment")}
    assert samples["dermdistill_requests_total", *sorted(asked | {("status", "200")})] == 3
    assert samples["dermdistill_requests_total", *sorted(asked | {("status", "422")})] == 1
    assert samples["dermdistill_refused_total", ("code", "unreadable_image")] == 1
    assert samples["dermdistill_refused_total", ("code", "not_found")] == 3
    assert samples["dermdistill_upload_bytes_total",] == 3 * len(data) + 15
    assert samples["dermdistill_slots",] == 5
    assert samples["dermdistill_slots_taken",] == 0
    assert samples["dermdistill_compute_seconds_count",] == 4
    # Unknown paths are one series, not as many as a scanner can think of.
    routes = {label[1] for name in samples for label in name[1:] if label[0] == "route"}
    assert routes == {"other", "/v1/segment"}
    assert samples["process_resident_memory_bytes",] > 0


def test_a_model_that_cannot_answer_does_not_start(open_client: Callable[..., TestClient]) -> None:
    def broken(batch: np.ndarray) -> np.ndarray:
        raise RuntimeError("the network is broken")

    with pytest.raises(RuntimeError, match="the network is broken"):
        open_client(broken)


def test_serving_does_not_import_torch() -> None:
    code = "import sys, dermdistill.serve.app, dermdistill.serve.server; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
