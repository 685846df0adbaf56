# Needs Python 3.11 or later, make and git; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "modelhub needs Python 3.11 or later; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

setup: $(READY) ## set up the virtual environment

run: $(READY) ## ask the chain `primary` of models.yaml
	@$(BIN)/modelhub chat primary "$${PROMPT:-Why is the sky blue?}"

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(if $(wildcard .mypy_cache),,-n 2)  # without a cache it has half a minute's work, for two

test: lint ## lint, types and all tests
	@$(BIN)/python -m pytest -q -n auto --dist worksteal

bench: $(READY) ## what a call costs beside the bare SDKs, in eight minutes
	@$(BIN)/python -W ignore -m benchmarks

fix: $(READY) ## format, and write again what is generated
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .
	@$(BIN)/modelhub schema --write schemas/models.schema.json
	@$(BIN)/python tests/generate.py

lock: $(READY) ## bring requirements.lock up to date
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --generate-hashes --no-annotate --no-header --quiet -o requirements.lock

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help setup run lint test bench fix lock clean
