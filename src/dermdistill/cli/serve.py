"""``dermdistill serve``."""

from __future__ import annotations

import importlib.util
import ipaddress
from pathlib import Path

from dermdistill.core.errors import MissingExtraError, UsageError


def serve(
    model: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int | None = None,
    threads: int | None = None,
    tta: bool = False,
    queue: int = 16,
    timeout: float = 30.0,
    grace: int = 30,
    max_upload_mb: float = 32.0,
    max_megapixels: float = 50.0,
    allow_host: tuple[str, ...] = (),
    allow_origin: tuple[str, ...] = (),
    trust_proxy: tuple[str, ...] = (),
    open: bool = False,
) -> int:
    """A local web page and an HTTP API: images are held in memory only, and stay on this computer.

    Logs are JSON lines on standard error; /metrics is for Prometheus, /openapi.json describes the API.
    There is no password and no TLS: on another --host than 127.0.0.1, all of the network can use it.

    Args:
        model: An ONNX file, or a run folder where dermdistill[train] is installed (default: the student
            that is shipped).
        host: Address to listen on; 0.0.0.0 for phones and other computers of the network.
        port: Port to listen on; 0 takes any that is free.
        workers: Images at the same time, each in a process of its own (default: the cores).
        threads: Of the network, per image (default: the cores over the workers).
        tta: Mean over the image and its three mirror images, at four times the cost.
        queue: Requests that may wait beyond those; one more is answered 429.
        timeout: Seconds for waiting and computing; then 504.
        grace: Seconds for what has begun when the server is told to end (SIGTERM, Ctrl-C); then it is cut.
        max_upload_mb: Largest file in MiB; 413 beyond.
        max_megapixels: Largest image in millions of pixels; 422 beyond.
        allow_host: Names by which the server may be called, beside localhost and any address.
        allow_origin: Other sites whose pages may use the API (CORS), such as https://clinic.example.
        trust_proxy: Addresses or networks of proxies whose X-Forwarded-Proto is believed, such as 10.0.0.7:
            with TLS in front, the page's own origin is https.
        open: Open the page in the browser.
    """
    _need_serve_extra()
    _check_proxies(trust_proxy)
    import logging
    import os

    from dermdistill.inference.predictor import Predictor
    from dermdistill.serve import server
    from dermdistill.serve.app import make_app
    from dermdistill.serve.json_logs import LOGGER, set_up_logging
    from dermdistill.serve.limits import Limits

    cores = os.cpu_count() or 1
    limits = Limits(
        max_upload_bytes=int(max_upload_mb * 2**20),
        max_pixels=int(max_megapixels * 1e6),
        workers=cores if workers is None else workers,
        queue=queue,
        timeout_s=timeout,
        grace_s=grace,
    )
    share = max(1, cores // limits.workers)
    predictor = Predictor(model, threads=share if threads is None else threads, tta=tta)
    bound = server.bind(host, port)
    url = server.address(bound)

    def ready() -> None:
        print(f"dermdistill serves {url}  (Ctrl-C ends it)", flush=True)
        if open:
            import webbrowser

            webbrowser.open(url)

    set_up_logging()
    if not _is_loopback(host):
        logging.getLogger(LOGGER).warning(f"{host} can be reached from the network: no password, no TLS")
    app = make_app(predictor, limits, hosts=allow_host, origins=allow_origin)
    server.serve(app, bound, limits, ready, trust_proxy)
    return 0


def _check_proxies(proxies: tuple[str, ...]) -> None:
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise UsageError(
                f"--trust-proxy {proxy!r} is no address.",
                "an address or a network, such as 10.0.0.7 or 10.0.0.0/24",
                "Name the address that the proxy connects from.",
            ) from None


def _need_serve_extra() -> None:
    names = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"dermdistill serve needs {', '.join(missing)}, which is not installed.",
            "the web part of dermdistill",
            "pip install 'dermdistill[serve]'",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
