# The web page and API of `dermdistill serve`, on a CPU, with the student that comes with the package.
#
#   docker build -t dermdistill .
#   docker run --rm --read-only --cap-drop ALL --security-opt no-new-privileges -p 127.0.0.1:8000:8000 dermdistill
#
# Words after the image's name are options of the verb: --tta, --allow-host NAME, --model /models/student.onnx …
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY recipes recipes
COPY src src
# The environment is made without pip, so that the image has none.
RUN pip wheel --no-cache-dir --no-deps --wheel-dir dist . \
    && python -m venv --without-pip /opt/dermdistill \
    && pip --python /opt/dermdistill/bin/python install --no-cache-dir -c constraints.txt "$(echo dist/*.whl)[serve]"

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="dermdistill" \
      org.opencontainers.image.description="Outlines of skin lesions: web page and HTTP API. Not a medical device." \
      org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin dermdistill
COPY --from=build /opt/dermdistill /opt/dermdistill
ENV PATH=/opt/dermdistill/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /tmp
# By number, so that Kubernetes' runAsNonRoot can see that it is not root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["dermdistill", "serve", "--host", "0.0.0.0", "--port", "8000"]
