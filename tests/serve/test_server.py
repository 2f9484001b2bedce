"""The command as a process of its own: many clients at once, the end, memory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest

from dermdistill import cli
from dermdistill.core.errors import UsageError
from dermdistill.data.prepare.phantom import make_phantom
from dermdistill.inference.predictor import Predictor
from dermdistill.serve import server
from standins import encoded

JPEG = {"Content-Type": "image/jpeg"}


@contextmanager
def serving(*arguments: str, log: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``dermdistill serve`` on a free port: its address and its process."""
    command = [sys.executable, "-m", "dermdistill", "serve", "--port", "0", *arguments]
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert "http://127.0.0.1:" in line, log.read_text(encoding="utf-8")
        yield line.split()[2], process
    finally:
        process.kill()
        process.communicate()


def photographs(count: int, size: int = 96) -> list[bytes]:
    """Different lesions, of different shapes."""
    return [
        encoded(make_phantom(11, index, size).image[: size - index % 7], "JPEG") for index in range(count)
    ]


def test_fifty_requests_at_once_are_not_mixed(tiny_onnx: Path, tmp_path: Path) -> None:
    images = photographs(50)
    predictor = Predictor(tiny_onnx, threads=1)
    with serving("--model", str(tiny_onnx), "--workers", "4", "--queue", "60", log=tmp_path / "log") as (
        url,
        _,
    ):
        limits = httpx2.Limits(max_connections=50)
        with httpx2.Client(base_url=url, timeout=60, limits=limits) as client:

            def ask(index: int) -> tuple[dict[str, object], bytes]:
                headers = JPEG | {"X-Request-ID": f"case-{index}"}
                answer = client.post("v1/segment", content=images[index], headers=headers).json()
                mask = client.post("v1/segment?output=mask", files={"image": images[index]})
                return answer, mask.content

            alone = [ask(index) for index in range(50)]
            with ThreadPoolExecutor(50) as threads:
                together = list(threads.map(ask, range(50)))
    for index, (answer, mask) in enumerate(together):
        assert answer["request_id"] == f"case-{index}"
        assert answer == alone[index][0]
        assert mask == alone[index][1]
        assert answer["area_fraction"] == round(predictor(images[index]).area_fraction, 6)
    assert len({mask for _, mask in together}) > 45  # the test could not tell equal masks apart


def test_what_has_begun_is_finished_before_the_end(tiny_onnx: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    slow = encoded(np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8), "JPEG")
    for sent in (signal.SIGTERM, signal.SIGINT):
        with serving("--model", str(tiny_onnx), log=log) as (url, process), ThreadPoolExecutor(1) as thread:
            asked = thread.submit(
                httpx2.post, f"{url}v1/segment?output=overlay", content=slow, headers=JPEG, timeout=60
            )
            while httpx2.get(f"{url}healthz").json()["slots_taken"] == 0:
                time.sleep(0.01)
            process.send_signal(sent)
            assert asked.result().status_code == 200
            assert process.wait(20) == 0
            with pytest.raises(httpx2.ConnectError):
                httpx2.get(f"{url}healthz")
        lines = read_log(log)
        assert next(line["event"] for line in lines if line["logger"] == "dermdistill.serve") == "ready"
        done = [line for line in lines if line.get("route") == "/v1/segment"]
        assert [line["status"] for line in done] == [200]


def worker_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The process that computes."""
    (worker,) = (
        each for each in psutil.Process(process.pid).children() if "--multiprocessing-fork" in each.cmdline()
    )
    return worker


def read_log(log: Path) -> list[dict[str, object]]:
    """Every line of it is JSON."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def test_the_end_comes_within_its_grace_in_the_middle_of_a_job(tiny_onnx: Path, tmp_path: Path) -> None:
    log, image = tmp_path / "log", photographs(1)[0]
    options = ("--model", str(tiny_onnx), "--workers", "1", "--grace", "1")
    with serving(*options, log=log) as (url, process), ThreadPoolExecutor(2) as threads:
        worker = worker_of(process)
        worker.suspend()  # a job that never ends
        asked = [
            threads.submit(httpx2.post, f"{url}v1/segment", content=image, headers=JPEG, timeout=60)
            for _ in range(2)
        ]
        while httpx2.get(f"{url}healthz").json()["slots_taken"] < 2:
            time.sleep(0.01)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        answers = [each.result() for each in asked]
        assert process.wait(20) == 0
        assert time.monotonic() - began < 6
        assert not worker.is_running()
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "ending")
            assert int(answer.headers["Retry-After"]) > 0
    assert [line["status"] for line in read_log(log) if line["event"] == "request"][-2:] == [503, 503]
    assert not any("traceback" in line for line in read_log(log))


def test_the_end_comes_within_its_grace_in_the_middle_of_a_job_in_a_thread(tmp_path: Path) -> None:
    """As PyTorch's are: a thread cannot be ended, so the process is."""
    code = (
        "import time; from dermdistill.serve import app, json_logs, limits, server;"
        "from dermdistill import Predictor; from standins import CARD, darkness;"
        "asleep = lambda batch: (batch.mean() > 0 and time.sleep(99), darkness(batch))[1];"
        "bounds = limits.Limits(workers=1, grace_s=0); bound = server.bind('127.0.0.1', 0);"
        "made = app.make_app(Predictor.from_backend(CARD, asleep), bounds); json_logs.set_up_logging();"
        "server.serve(made, bound, bounds, lambda: print(server.address(bound), flush=True))"
    )
    log = tmp_path / "log"
    helpers = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), *sys.path])}
    with log.open("w") as stream, ThreadPoolExecutor(1) as thread:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=stream, env=os.environ | helpers
        )
        assert process.stdout
        url = process.stdout.readline().decode().strip()
        asked = thread.submit(
            httpx2.post, f"{url}v1/segment", content=photographs(1)[0], headers=JPEG, timeout=60
        )
        while httpx2.get(f"{url}healthz").json()["slots_taken"] == 0:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert asked.result().status_code == 503
        process.communicate(timeout=10)
        assert process.returncode == 0
    assert "jobs are ended" in {line["event"] for line in read_log(log)}


def test_a_job_that_takes_too_long_is_ended_and_the_next_is_answered(tiny_onnx: Path, tmp_path: Path) -> None:
    log, image = tmp_path / "log", photographs(1)[0]
    options = ("--model", str(tiny_onnx), "--workers", "1", "--queue", "0", "--timeout", "1")
    with serving(*options, log=log) as (url, process), httpx2.Client(base_url=url, timeout=60) as client:

        def ask() -> httpx2.Response:
            return client.post("v1/segment", content=image, headers=JPEG)

        first = worker_of(process)
        first.suspend()
        late = ask()
        assert (late.status_code, late.json()["code"]) == (504, "timeout")
        statuses = {429}
        while statuses <= {429, 504}:  # until the next process has begun
            statuses = {ask().status_code}
            time.sleep(0.1)
        assert statuses == {200}
        second = worker_of(process)
        assert second.pid != first.pid
        with ThreadPoolExecutor(1) as thread:
            second.suspend()
            broken = thread.submit(ask)
            while httpx2.get(f"{url}healthz").json()["slots_taken"] == 0:
                time.sleep(0.01)
            second.kill()  # as the system does where memory is short
            assert (broken.result().status_code, broken.result().json()["code"]) == (500, "fault")
    assert "in the middle of a job" in log.read_text(encoding="utf-8")
    assert read_log(log)


def test_no_worker_outlives_the_server(tiny_onnx: Path, tmp_path: Path) -> None:
    with serving("--model", str(tiny_onnx), "--workers", "2", log=tmp_path / "log") as (_, process):
        children = psutil.Process(process.pid).children()
        process.kill()
        _, alive = psutil.wait_procs(children, 10)
        assert alive == []


def test_a_model_that_does_not_run_does_not_start(tmp_path: Path, tiny_onnx: Path) -> None:
    """And says so in JSON: the file goes between the first look at it and the worker's."""
    log = tmp_path / "log"
    code = (
        "import os, sys; from dermdistill import cli; from dermdistill.serve import app;"
        "make = app.make_app;"
        "app.make_app = lambda *a, **k: (os.remove(sys.argv[1]), make(*a, **k))[1];"
        "sys.exit(cli.main(['serve', '--port', '0', '--model', sys.argv[1]]))"
    )
    model = tmp_path / "student.onnx"
    model.write_bytes(tiny_onnx.read_bytes())
    with log.open("w") as stream:
        done = subprocess.run([sys.executable, "-c", code, str(model)], stderr=stream, check=False)
    assert done.returncode == 1
    told = log.read_text(encoding="utf-8")
    assert "did not start" in told
    assert "Traceback" not in "".join(line for line in told.splitlines() if not line.startswith("{"))


def test_every_line_of_the_log_is_json(tiny_onnx: Path, tmp_path: Path) -> None:
    """Also those of uvicorn, asyncio, warnings, and of what nobody caught in a thread or in a worker."""
    log = tmp_path / "log"
    code = (
        "import logging, sys, threading, warnings; from dermdistill.serve.json_logs import set_up_logging;"
        "set_up_logging(); warnings.warn('old'); logging.getLogger('asyncio').error('two\\nlines %s', 1);"
        "logging.getLogger('uvicorn.error').warning('odd');"
        "logging.getLogger('dermdistill.core').info('ours');"
        "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join();"
        "X = type('X', (), {'__del__': lambda self: 1 / 0}); X();"
        "raise ValueError('the end')"
    )
    with log.open("w") as stream:
        subprocess.run([sys.executable, "-c", code], stderr=stream, check=False)
    lines = read_log(log)
    assert [line["level"] for line in lines] == [
        *("warning", "error", "warning", "info", "critical", "error", "critical")
    ]
    assert "ValueError: the end" in str(lines[-1]["traceback"])
    options = ("--model", str(tiny_onnx), "--host", "0.0.0.0")
    with serving(*options, log=log) as (url, process):
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1].rstrip("/")))) as client:
            client.sendall(b"no HTTP at all\r\n\r\n")
            client.recv(100)
        assert httpx2.get(f"{url}%0a%F0%9F%98%80%ff?x=%0a").status_code == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    events = [str(line["event"]) for line in read_log(log)]
    assert any("no password" in event for event in events)
    assert any("Invalid HTTP" in event for event in events)


def test_an_upload_that_is_too_large_is_told_so_while_it_is_sent(tiny_onnx: Path, tmp_path: Path) -> None:
    with serving("--model", str(tiny_onnx), "--max-upload-mb", "1", log=tmp_path / "log") as (url, _):
        answer = httpx2.post(f"{url}v1/segment", content=bytes(40 * 2**20), headers=JPEG, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert httpx2.get(f"{url}healthz").json()["slots_taken"] == 0


def test_nothing_is_left_in_the_users_folders(tiny_onnx: Path, tmp_path: Path) -> None:
    """Not even by ONNX Runtime, whose telemetry writes a database there by default (1.29 and newer)."""
    home = tmp_path / "home"
    home.mkdir()
    code = "import sys; from dermdistill import Predictor; import numpy as np;"
    code += "Predictor(sys.argv[1])(np.zeros((64, 64, 3), np.uint8))"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "TMPDIR": str(home)}
    subprocess.run([sys.executable, "-c", code, str(tiny_onnx)], check=True, env=environment)
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_a_taken_port_is_told(capsys: pytest.CaptureFixture[str], tiny_onnx: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.main(["serve", "--model", str(tiny_onnx), "--port", port]) == 2
    told = capsys.readouterr().err
    assert f"port {port}" in told
    assert "--port" in told
    with pytest.raises(UsageError, match="no address"):
        server.bind("no such host", 0)


def test_addresses_are_those_that_a_browser_opens() -> None:
    for host, shown in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")):
        try:
            bound = server.bind(host, 0)
        except UsageError:
            assert ":" in host  # a machine without IPv6
            continue
        with bound:
            assert server.address(bound) == f"http://{shown}:{bound.getsockname()[1]}/"


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    assert cli.main(["serve"]) == 1
    assert "pip install 'dermdistill[serve]'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is compared as Linux counts it")
def test_memory_is_flat_over_two_thousand_requests(tiny_onnx: Path, tmp_path: Path) -> None:
    """The slope of resident memory over requests 500 to 2,000, by least squares.

    Eight images in turn, JSON, masks and refusals mixed, four clients. What a leak of one answer (a mask of
    96 × 96, 9 kB) per request would add is 14 MB; the bound is a quarter of that.
    """
    images = [*photographs(8), b"no image"]
    outputs = ("json", "mask", "overlay")
    with serving("--model", str(tiny_onnx), log=tmp_path / "log") as (url, process):
        memory = psutil.Process(process.pid)
        processes = [memory, *memory.children()]
        counts, sizes = [], []
        with httpx2.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(4) as threads:

            def ask(index: int) -> int:
                query = {"output": outputs[index % 3], "probability_map": "true"}
                data = images[index % len(images)]
                return client.post("v1/segment", params=query, content=data, headers=JPEG).status_code

            for begin in range(0, 2000, 50):
                statuses = list(threads.map(ask, range(begin, begin + 50)))
                assert set(statuses) <= {200, 422}
                counts.append(begin + 50)
                sizes.append(sum(each.memory_info().rss for each in processes) / 2**20)
        late = np.array(counts) > 500
        slope = np.polyfit(np.array(counts)[late], np.array(sizes)[late], 1)[0] * 1000
        print(f"resident memory {sizes[0]:.1f} → {sizes[-1]:.1f} MiB, {slope:+.2f} MiB per 1,000 requests")
        assert slope < 2.3, f"{slope:.2f} MiB per 1,000 requests: {np.round(sizes, 1)}"
        # Neither temporary files nor the database that ONNX Runtime's telemetry would keep.
        for each in processes:
            assert {file.path for file in each.open_files()} <= {str(tmp_path / "log")}
        assert memory.num_threads() < 40
