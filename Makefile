# Tidegate. Two commands matter: `make demo` and `make test`. Both do their own set-up in .venv.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKER := .venv.deb
WORKERS ?= 2

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 20

setup: $(READY) ## make .venv (repeatable; picks up where it was interrupted)

# Of both environments: .venv, and .venv.deb with nothing but pip.
define check_python
@command -v $(PYTHON) >/dev/null 2>&1 || { echo "python3 is missing. Try: sudo apt-get install python3 python3-venv" >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11. Try: make PYTHON=python3.11 setup" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "the venv module is incomplete. Try: sudo apt-get install python3-venv" >&2; exit 1; }
endef

# The stamp is written last, so an interrupted set-up is done again from the start.
$(READY): requirements/dev.txt pyproject.toml
	$(check_python)
	@echo "setting up $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: setup ## five simulated gateways, a cloud, a fault, cuts and kills; nothing lost, nothing twice
	@$(BIN)/edge-sim demo $(ARGS)

test: setup ## lint, types, and every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd packaging/deb && ../../$(BIN)/mypy --strict build.py manuals.py
	$(BIN)/pytest -n $(WORKERS) -m "not system and not nightly" -rs
	$(BIN)/pytest -vv -m "system and not nightly" -rs

nightly: setup ## what is long: more seeds, longer fuzzing, all benchmarks (recorded in benchmarks/results)
	$(BIN)/edge-sim lab --trials 5000 --seed 1000000 --workers $(WORKERS)
	$(BIN)/pytest -vv -m nightly -rs --junitxml benchmarks/results/nightly.xml
	$(BIN)/python -m tests.fuzz.segment --seconds 600
	$(BIN)/python -m benchmarks.lab --json benchmarks/results/lab.json
	$(BIN)/python -m benchmarks.detect --data quiet --json benchmarks/results/quiet.json
	$(MAKE) bench
	$(BIN)/python -m benchmarks.flash_agent --json benchmarks/results/flash_agent.json

bench: setup ## every benchmark, one after another, into benchmarks/results (flash, the last, needs root)
	@mkdir -p benchmarks/results
	for name in wire ingest footprint cpu ota drain "detect --data nab" packages flash; do \
	  $(BIN)/python -m benchmarks.$$name --json benchmarks/results/$${name%% *}.json || exit 1; done

deb: ## Debian packages of agent (amd64, arm64) and service (amd64), into dist
	$(check_python)
	@test -x $(PACKER)/bin/pip || $(PYTHON) -m venv --clear $(PACKER)
	$(PACKER)/bin/python packaging/deb/build.py --out dist
	@sh packaging/deb/figures.sh dist

protos: setup ## generate wire/v1 from protos
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --pyi_out=. --grpc_python_out=. protos/wire/v1/*.proto

lock: ## resolve requirements/*.txt anew (needs uv)
	for extra in edge cloud hsm dev; do \
	  uv pip compile pyproject.toml --extra $$extra --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --quiet --upgrade --output-file requirements/$$extra.txt || exit 1; done

clean: ## remove .venv and caches
	rm -rf $(VENV) $(PACKER) .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help setup demo test nightly bench deb protos lock clean
