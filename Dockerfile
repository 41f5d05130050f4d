# Serves one trained run on a CPU; see docs/serving.md.
FROM python:3.12-slim-bookworm

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# PyTorch's own index has wheels for CPUs alone, a tenth of those with CUDA: name it with --build-arg.
ARG PIP_EXTRA_INDEX_URL
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[serve,volumes]" \
    && useradd --create-home --uid 1000 served

USER 1000
ENV MRISCOPE_TRACK=none
EXPOSE 8000
HEALTHCHECK --interval=30s --start-period=30s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz')"]
# Others than this machine can call a container, so that a token is needed: give MRISCOPE_TOKEN.
ENTRYPOINT ["mriscope", "serve", "/run-to-serve", "--host", "0.0.0.0"]
CMD ["--port", "8000"]
