# Every target says what it does: `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODE := crewd tests bench deploy docs
READY := $(VENV)/.ready
AGENT_CLIS ?= $(CURDIR)/.agents
GRAFANA_TYPES ?= $(CURDIR)/.grafana
# Most tests wait for real processes: so many at one time leave two cores still half idle.
WORKERS ?= 4
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help run test check agents grafana grafana-types systemd chain container deb bench docs man lock clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

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
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(PYTEST)

agents: $(READY) ## Install the real agent command lines (needs npm), and run them under crewd against a mock model
	sh tests/real_agents/install.sh $(AGENT_CLIS)
	CREWD_AGENT_CLIS=$(AGENT_CLIS) $(BIN)/pytest -m agents tests/real_agents

grafana: $(READY) ## Write the dashboards from their source
	$(BIN)/python -m deploy.grafana.source

grafana-types: $(READY) ## Check the dashboards with Grafana's own types and code (needs npm)
	npm install --prefix $(GRAFANA_TYPES) --silent --no-audit --no-fund --ignore-scripts --legacy-peer-deps \
		@grafana/data@13.2.3 @grafana/schema@13.2.3 jsdom@26 react@18 react-dom@18 typescript@7
	CREWD_GRAFANA_TYPES=$(GRAFANA_TYPES) $(BIN)/pytest -m grafana tests/deploy/grafana

systemd: $(READY) ## Boot a real systemd in a container, and try the units (needs root and systemd-nspawn)
	$(BIN)/pytest -m systemd tests/deploy/systemd

chain: $(READY) ## Measure the way from a worker's death to the pager, with real parts (a quarter of an hour)
	$(BIN)/python -m tests.deploy.chain

container: $(READY) ## Build the image, and run it for real (needs root, podman, runc and debootstrap)
	CREWD_CONTAINER=1 $(BIN)/pytest -m container tests/deploy/container

deb: $(READY) ## Build the Debian package, and try it in a clean Debian 12 (needs root, uv, debootstrap, systemd-container)
	/usr/bin/python3 deploy/deb/build.py --output dist
	sh tests/deploy/deb.sh dist/crewd_*.deb .debian
	sh tests/deploy/deb_booted.sh dist/crewd_*.deb .debian

bench: $(READY) ## Print the comparisons of docs/performance.md
	$(BIN)/python -m bench

docs: $(READY) ## Write the generated parts of the reference pages, and check pages and code against each other
	$(BIN)/python docs/generate.py
	$(BIN)/pytest tests/promises tests/docs

man: $(READY) ## Write the manual pages to man/
	$(BIN)/crewd man --write man

lock: $(READY) ## Renew the hash locks from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --all-extras pyproject.toml -o requirements-dev.lock

clean: ## Remove the environment and everything that was generated
	rm -rf $(VENV) .agents .grafana .debian dist man .mypy_cache .ruff_cache .pytest_cache .hypothesis
