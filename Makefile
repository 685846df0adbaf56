# Needs Python 3.11 or later, make and git; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
LOCK := requirements.lock
TESTS := tests
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 19

$(READY): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "modelhub needs Python 3.11 or later; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes --no-deps -r $(LOCK)
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

setup: $(READY) ## set up the virtual environment

run: $(READY) ## ask the chain `primary` of models.yaml
	@$(BIN)/modelhub chat primary "$${PROMPT:-Why is the sky blue?}"

lint: $(READY) ## ruff, mypy, and what type checkers say of the snippets and the examples
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(if $(wildcard .mypy_cache),,-n 2)  # without a cache it has half a minute's work, for two
	@$(BIN)/python tests/check_types.py

test: lint pytest ## lint, types and tests

pytest: $(READY) ## the tests alone; on another Python: make pytest PYTHON=python3.13 VENV=.venv-3.13
	@$(BIN)/python -m pytest -q -n auto --dist worksteal $(TESTS)

test-system: ## the tests with PostgreSQL, Redis and Valkey, and with processes that end, fork or are killed
	@$(MAKE) --no-print-directory pytest TESTS=tests/system

test-hosts: ## the tests in web servers, task queues and notebooks, which need many more packages
	@$(MAKE) --no-print-directory pytest VENV=$(VENV)-hosts LOCK=requirements-hosts.lock TESTS="tests/hosts tests/test_docs.py"

$(VENV)-docs/.ready: requirements-docs.lock
	@$(PYTHON) -m venv --clear $(VENV)-docs
	@$(VENV)-docs/bin/pip install -qq --disable-pip-version-check --require-hashes --no-deps -r requirements-docs.lock
	@touch $@

environments: environment-hosts environment-integrations ## what test-hosts and test-integrations run in; with -j2 both at once

environment-hosts environment-integrations: environment-%:
	@$(MAKE) --no-print-directory setup VENV=$(VENV)-$* LOCK=requirements-$*.lock

test-ray: ## the tests under Ray, which CI leaves out: two workers, one limit, a killed actor
	@$(MAKE) --no-print-directory pytest VENV=$(VENV)-ray LOCK=requirements-ray.lock TESTS="tests/ray -n 0"

docs: $(VENV)-docs/.ready ## build the documentation into site/; to read it while writing: .venv-docs/bin/mkdocs serve
	@NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict --quiet

dist: $(READY) ## build the distribution into dist/, and try the wheel
	@$(BIN)/python tests/check_wheel.py

test-integrations: ## the tests in the frameworks that a chain can be plugged into
	@$(MAKE) --no-print-directory pytest VENV=$(VENV)-integrations LOCK=requirements-integrations.lock TESTS="tests/integrations tests/test_docs.py"
	@$(MAKE) --no-print-directory pytest VENV=$(VENV)-agentscope1 LOCK=requirements-agentscope1.lock TESTS=tests/agentscope1

bench: $(READY) ## what a call costs beside the bare SDKs, in eight minutes
	@$(BIN)/python -W ignore -m benchmarks

fix: $(READY) ## format, and write again what is generated
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .
	@$(BIN)/modelhub schema --write schemas/models.schema.json
	@$(BIN)/python tests/generate.py

COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-annotate --no-header --quiet
EXTRAS := $(addprefix --extra ,all otel redis postgres watch serve parquet)
FRAMEWORKS := $(addprefix --extra ,pydantic-ai langchain llamaindex openai-agents agentscope)

lock: $(READY) ## bring the files requirements*.lock up to date
	@$(BIN)/pip install --quiet uv
	@$(COMPILE) $(EXTRAS) --group dev -o requirements.lock
	@$(COMPILE) $(EXTRAS) --group hosts --constraint requirements.lock -o requirements-hosts.lock
	@$(COMPILE) $(EXTRAS) $(FRAMEWORKS) --group integrations -o requirements-integrations.lock
	@$(COMPILE) --extra all --group agentscope1 --constraint requirements.lock -o requirements-agentscope1.lock
	@$(COMPILE) $(EXTRAS) --extra ray --group ray --constraint requirements.lock -o requirements-ray.lock
	@$(COMPILE) --group docs -o requirements-docs.lock

clean: ## remove the virtual environments and caches
	rm -rf $(VENV) $(VENV)-* .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: environments environment-hosts environment-integrations help setup run lint test pytest test-system test-hosts test-integrations test-ray docs dist bench fix lock clean
