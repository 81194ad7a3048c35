SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-all test-rest check lint bench chaos lock release

VENV := .venv
PYTHON_IN := $(VENV)/bin/python
CORE := .venv-core
LOCKS := requirements.lock requirements-dev.lock requirements-core.lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## simulators, Airflow and the demo flows; ONCE=1 ends after the runs and tells by its exit code
	@exec $(PYTHON_IN) -m include.demo $(if $(filter-out 0,$(ONCE)),--once)

# The tests wait for a third of their time.
WORKERS := $(shell echo $$(($$(nproc) + 1)))
# The tests of the tier `unit` run where Airflow is not installed, all others where it is.
define share
@$(CORE)/bin/python -m pytest tests/unit --share $(1) --numprocesses $(WORKERS); unit=$$?; \
$(PYTHON_IN) -m pytest --ignore=tests/unit --share $(1) --numprocesses $(WORKERS); exit $$((unit | $$?))
endef

test: $(VENV)/.dev $(CORE)/.ready ## a share of every tier's tests, in minutes; T=... passes arguments to pytest, which runs once then
ifdef T
	@exec $(PYTHON_IN) -m pytest $(T)
else
	$(call share,quick)
endif

test-all: test test-rest ## all tests that this machine can run: those of `make test`, then what it leaves

test-rest: $(VENV)/.dev $(CORE)/.ready
	$(call share,rest)

check: lint $(CORE)/.ready ## format, lint, types, import contracts, unit tests
	@exec $(CORE)/bin/python -m pytest tests/unit --quiet --numprocesses $(WORKERS)

lint: $(VENV)/.dev
	@$(VENV)/bin/ruff format --check --quiet . || { echo "mend with: $(VENV)/bin/ruff format ."; exit 1; }
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

bench: $(VENV)/.dev ## the benchmarks
	@exec $(PYTHON_IN) -m tests.bench $(T)

chaos: $(VENV)/.dev ## seeded histories in which processes die at every boundary; SEEDS=300 says how many
	@exec $(PYTHON_IN) -m tests.chaos.simulation --seeds $(or $(SEEDS),300) $(T)

lock: $(LOCKS) ## the lock files, after a change of requirements.txt or an .in file (pins stay where they fit)

release: $(VENV)/.dev ## whether this commit can be released, and how; it changes and sends nothing
	@exec $(PYTHON_IN) -m docs.release

# The development set contains the run set, in the same versions: whoever has it needs no second installation.
$(VENV)/.run: requirements.lock .ci/install
	@.ci/install $(VENV) $<
	@touch $@

$(VENV)/.dev: requirements-dev.lock .ci/install
	@.ci/install $(VENV) $<
	@touch $(VENV)/.run $@

$(CORE)/.ready: requirements-core.lock .ci/install
	@.ci/install $(CORE) $<
	@touch $@

# Held to one another, so that a version is the same in every set. A touched .in file alone changes no file
# in a clone, where all are of one age: this runs on purpose only, by `make lock`.
ifneq ($(filter lock,$(MAKECMDGOALS)),)
TOOLS := .venv-tools
UV := $(TOOLS)/bin/uv
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url

$(UV):
	@python3 -m venv $(TOOLS) && $(TOOLS)/bin/python -m pip install --quiet uv

requirements-dev.lock: requirements-dev.in requirements.txt | $(UV)
	@$(COMPILE) $< -o $@

requirements.lock: requirements.txt requirements-dev.lock | $(UV)
	@$(COMPILE) $< -c requirements-dev.lock -o $@

requirements-core.lock: requirements-core.in requirements-dev.lock | $(UV)
	@$(COMPILE) $< -c requirements-dev.lock -o $@
endif
