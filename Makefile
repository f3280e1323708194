# Every target says what it does: `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AGENT_CLIS ?= $(CURDIR)/.agents
# Most tests wait for real processes: so many at one time leave two cores still half idle.
WORKERS ?= 4
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help run test check agents bench docs man lock clean

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml requirements-dev.lock
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "crewd needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(READY)

run: $(READY) ## Set up, and watch a small live demo crew for two minutes
	$(BIN)/crewd demo

test: $(READY) ## Set up, and run the quick tests
	$(PYTEST) -m "not slow"

check: $(READY) ## Format, lint, types, all tests, architecture contracts, promises: what every commit passes
	$(BIN)/ruff format --check crewd tests bench
	$(BIN)/ruff check crewd tests bench
	$(BIN)/mypy
	$(PYTEST)

agents: $(READY) ## Install the real agent command lines (needs npm), and run them under crewd against a mock model
	sh tests/real_agents/install.sh $(AGENT_CLIS)
	CREWD_AGENT_CLIS=$(AGENT_CLIS) $(BIN)/pytest -m agents tests/real_agents

bench: $(READY) ## Print the comparisons of docs/performance.md
	$(BIN)/python -m bench

docs: $(READY) ## Check that the reference pages and the code agree
	$(BIN)/pytest tests/promises

man: $(READY) ## Write the manual pages to man/
	$(BIN)/crewd man --write man

lock: $(READY) ## Renew the hash locks from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --all-extras pyproject.toml -o requirements-dev.lock

clean: ## Remove the environment and everything that was generated
	rm -rf $(VENV) .agents man .mypy_cache .ruff_cache .pytest_cache .hypothesis
