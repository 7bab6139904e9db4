# Bare `make` prints the commands. Each sets up what it needs in .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard src/qwenvl_prep/_native/*.pyx src/qwenvl_prep/_native/*.c src/qwenvl_prep/_native/*.h)
BUILD_INPUTS := pyproject.toml setup.py $(NATIVE)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CORPUS ?= ../shared/corpora/public
QUESTION := What do these pictures show?

.DEFAULT_GOAL := help
.PHONY: help demo test test-asan test-valgrind reliability fuzz dev check fix bench bench-report encodings readme dist-check clean

help:  ## print these commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## / — /'

demo: $(VENV)/.run  ## prepare the pictures in examples/, and ask about them if there is a key
	@$(BIN)/qwenvl-prep request examples --text "$(QUESTION)" --output out/request.json
	@if [ -n "$$DASHSCOPE_API_KEY" ]; then \
	  $(BIN)/qwenvl-prep send --request out/request.json; \
	else \
	  echo "Stopped before sending: there is no DASHSCOPE_API_KEY. With one, run make demo"; \
	  echo "again, or: $(BIN)/qwenvl-prep send --request out/request.json"; \
	fi

test: $(VENV)/.test  ## run the whole test suite
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-asan: $(VENV)/.test  ## run the native tests under gcc's sanitizers
	@PYTHON=$(BIN)/python sh tests/sanitize.sh $(PYTEST_ARGS)

test-valgrind: $(VENV)/.test  ## run the native functions under valgrind
	@$(BIN)/python tests/valgrind.py

reliability: $(VENV)/.test  ## measure what is promised about broken and hostile files
	@$(BIN)/python tests/reliability.py $(RELIABILITY_ARGS)

fuzz: $(VENV)/.test  ## read mutated headers for ten minutes, in every way there is
	@$(BIN)/python tests/fuzz_headers.py $(FUZZ_ARGS)

dev: $(VENV)/.dev  ## set up everything for working on the code

check: $(VENV)/.dev  ## lint, format and types; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint src/qwenvl_prep/_native
	$(BIN)/mypy

fix: $(VENV)/.dev  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench  ## measure throughput; with BENCH_ARGS=--peers beside the fastest
	@$(BIN)/python -m qwenvl_prep.bench $(BENCH_ARGS)

bench-report: $(VENV)/.bench  ## measure both; write docs/benchmarks.md and README.md
	@$(BIN)/python benches/report.py

encodings: $(VENV)/.test  ## encode CORPUS every way; write docs/encoding.md
	@$(BIN)/python benches/encodings.py $(CORPUS)/photos $(CORPUS)/documents

readme: $(VENV)/.run  ## write the demo's output into README.md
	@$(BIN)/python docs/write_readme.py

dist-check: $(VENV)/.dev  ## build sdist and wheel, test the wheel where there is no compiler
	@PYTHON=$(BIN)/python sh tests/dist_check.sh

clean:  ## remove what was built
	rm -rf $(VENV) build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of packages: what is newer than its stamp is built again.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), sys.version' \
	  || { echo "Python 3.11 or newer is needed; name one with make PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "python3-venv is missing: apt-get install python3-venv python3-dev gcc"; exit 1; }

$(VENV)/.run: $(BIN)/python $(BUILD_INPUTS)
	@echo "Building the native core into $(VENV) ..."
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.test: $(BIN)/python $(BUILD_INPUTS)
	@echo "Building the native core into $(VENV) ..."
	@$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.bench: $(BIN)/python $(BUILD_INPUTS)
	@echo "Building the native core into $(VENV) ..."
	@$(PIP) install --editable '.[bench]'
	@touch $@ $(VENV)/.run

$(VENV)/.dev: $(BIN)/python $(BUILD_INPUTS)
	@$(PIP) install --editable '.[test,dev]'
	@touch $@ $(VENV)/.test $(VENV)/.run
