"""The local web app and its HTTP API (``dermdistill[serve]``).

::

    page/          what the browser gets: HTML, CSS and JavaScript, no build step, nothing remote
    server         binds, starts and ends uvicorn
    app            puts the parts together
    api            the routes: /v1/segment, /v1/model, /healthz, /metrics
    middleware     every request: its id, Host and Origin, security headers, one log line
    connections    closed where a client is too slow
    uploads        bodies, received into memory and within limits
    forms          the image in a body
    worker_pool    a few workers behind a bounded queue
    worker_process one worker: a process that can be ended
    responses      a prediction as JSON or PNG
    observability  metrics (Prometheus)
    json_logs      log lines as JSON
    problems       refusals and errors, in one form (RFC 9457)
    limits         what one server takes

Images are held in memory for as long as their request lasts, and are never written to a file. It stands on
`dermdistill.inference.predictor` and never imports torch.
"""
