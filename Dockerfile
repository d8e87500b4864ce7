# Two images of one package: `service` (gateway, certifier) without torch, `worker` with it.
FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 holdfast
WORKDIR /home/holdfast
COPY pyproject.toml README.md LICENSE /src/
COPY holdfast /src/holdfast
COPY service /src/service
COPY workers /src/workers
COPY clients /src/clients
COPY lab /src/lab

FROM base AS service
RUN pip install '/src[service]'
USER holdfast
EXPOSE 8420

FROM base AS worker
RUN pip install '/src[worker]'
USER holdfast
