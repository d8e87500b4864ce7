# Two images of one package: `service` (gateway, certifier) without torch, `worker` with it. What they hold is in
# requirements/, by hash; only torch, whose builds differ by index and device, is by version.
FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 holdfast
WORKDIR /home/holdfast

FROM base AS wheel
COPY requirements/build.txt /requirements/
RUN pip install --no-deps --require-hashes --requirement /requirements/build.txt
COPY pyproject.toml README.md LICENSE /src/
COPY holdfast /src/holdfast
COPY service /src/service
COPY workers /src/workers
COPY clients /src/clients
COPY lab /src/lab
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /src

FROM base AS service
COPY requirements/service.txt /requirements/
RUN pip install --no-deps --require-hashes --requirement /requirements/service.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps /wheels/*.whl
USER holdfast
EXPOSE 8420

FROM base AS worker
COPY requirements/worker.txt requirements/torch.txt /requirements/
RUN pip install --no-deps --require-hashes --requirement /requirements/worker.txt
RUN pip install --requirement /requirements/torch.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps /wheels/*.whl
USER holdfast
