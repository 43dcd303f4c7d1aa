# Holdfast: `make run` and `make test` are all a newcomer needs; both work twice in a row.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null || echo $(VENV)/uv/bin/uv)
PORT ?= 8001
# Tests mostly wait: there may be more processes than cores.
TESTERS ?= 4
PEERS := mlflow phoenix dbos

# Who names apps of their own gets those alone.
ifndef HOLDFAST_APPS
export HOLDFAST_AGENTS ?= examples/assistant/helpdesk.yaml
endif
export HOLDFAST_APPS ?= examples.support_triage.app
BARE := env -u HOLDFAST_APPS -u HOLDFAST_AGENTS

.DEFAULT_GOAL := help
.PHONY: help run run_agent stop_agent test check fmt bench soak bench-peers chaos migrate makemigrations pins clean smoke-providers

help: ## what can be made
	@grep -hE '^[a-z_-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

run: $(VENV)/.run migrate ## start the hub with the examples on http://127.0.0.1:8001
	@$(BIN)/holdfast up

run_agent: $(VENV)/.run ## start an agent of the running hub: make run_agent AGENT_ID=helpdesk
	@test -n "$(AGENT_ID)" || { echo 'usage: make run_agent AGENT_ID=name-or-id'; exit 2; }
	@$(BARE) $(BIN)/holdfast agents start "$(AGENT_ID)"

stop_agent: $(VENV)/.run ## stop one; its messages wait: make stop_agent AGENT_ID=helpdesk
	@test -n "$(AGENT_ID)" || { echo 'usage: make stop_agent AGENT_ID=name-or-id'; exit 2; }
	@$(BARE) $(BIN)/holdfast agents stop "$(AGENT_ID)"

test: $(VENV)/.dev ## run every test
	@$(BARE) $(BIN)/python -m pytest --numprocesses $(TESTERS) --dist worksteal

check: $(VENV)/.dev ## format, lint, types, borders between rooms
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/pyright

fmt: $(VENV)/.dev ## format and mend what can be mended
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

chaos: $(VENV)/.dev ## kill processes at every commit boundary and in a storm, and check the promises
	@kept=0; for part in chaos chaos.agents; do \
	  $(BARE) $(BIN)/python -m $$part || kept=1; done; exit $$kept

smoke-providers: $(VENV)/.dev ## one real call per provider whose key or URL is set: what was recorded
	@$(BARE) $(BIN)/holdfast dev smoke

bench: $(VENV)/.dev ## measure: ratios within one run
	@$(BARE) $(BIN)/python -m bench

soak: $(VENV)/.dev ## work ten minutes at 70 % of the peak and look at what grows: make soak ARGS="--place postgresql --snapshot"
	@$(BARE) $(BIN)/python -m bench.soak $(ARGS)

bench-peers: $(VENV)/.dev $(PEERS:%=$(VENV)/peers/%/.ready) ## measure beside MLflow, Phoenix and DBOS
	@$(BARE) $(BIN)/python -m bench.peers

migrate: $(VENV)/.run ## bring the database to the present schema
	@$(BIN)/holdfast db upgrade

makemigrations: $(VENV)/.dev ## write a migration from the tables: make makemigrations m="add …"
	@test -n "$(m)" || { echo 'usage: make makemigrations m="what it does"'; exit 2; }
	@$(BIN)/python -m holdfast.store.migrations "$(m)"

pins: $(UV) ## pin every version and hash anew
	@$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --python-version 3.11 --all-extras pyproject.toml -o requirements.txt
	@$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --python-version 3.11 --all-extras --group dev pyproject.toml \
	  -o requirements-dev.txt
	@for peer in $(PEERS); do $(UV) pip compile --quiet --universal --generate-hashes --no-header \
	  --no-annotate --no-emit-index-url --python-version 3.11 bench/peers/$$peer.in \
	  -o bench/peers/$$peer.txt || exit; done

clean: ## remove the environment and caches, never data
	@rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# -- the environment ---------------------------------------------------------------------------

$(VENV)/uv/bin/uv:
	@echo "getting uv"
	@$(PYTHON) scripts/get_uv.py $(VENV)/uv

$(BIN)/python: | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Holdfast needs Python 3.11 or newer, this is " + sys.version)'
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)

$(VENV)/.run: requirements.txt pyproject.toml | $(BIN)/python
	@echo "installing what Holdfast needs"
	@$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.txt
	@$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --no-deps --editable .
	@$(BIN)/python -m compileall -q src examples
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	@echo "installing what the tests need"
	@$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/peers/%/.ready: bench/peers/%.txt | $(BIN)/python
	@echo "installing $* into an environment of its own"
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python $(VENV)/peers/$*
	@$(UV) pip install --quiet --python $(VENV)/peers/$*/bin/python --require-hashes -r $<
	@touch $@
