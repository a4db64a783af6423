# Needs Python >= 3.10, pip, git and make; no root. Everything goes into .venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
# Give paths or options to pytest: make test ARGS="tests/unit -x"
ARGS   ?=
# Tests wait more than they work: several processes share them. One, as a debugger needs it: make test WORKERS=0
WORKERS ?= 2

DECLARED := pyproject.toml mock_server/pyproject.toml constraints.txt
EXAMPLE  := docs/examples/minibatch
RUNTIME  := $(VENV)/.runtime-installed
ALL      := $(VENV)/.all-installed
TAPIPY   := $(VENV)/tapipy/.installed

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint docs notebooks bench picture pictures pins clean

help:  ## what can be made
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(ALL) $(TAPIPY)  ## install both packages, editable, with everything to work on them

demo: $(RUNTIME)  ## start a service and run real jobs through it; about a minute
	@$(BIN)/hpcjobs demo $(ARGS)

test: $(ALL) $(TAPIPY)  ## all tests, on a real service with a real Postgres
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(ALL)  ## style, types and the arrows between the modules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: $(ALL)  ## the documentation, without a warning, and its examples as tests
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -b html docs docs/_build/html
	$(BIN)/python -m pytest --quiet tests/integration/test_docs.py
	@echo "see docs/_build/html/index.html"

notebooks: $(ALL)  ## run the notebooks anew and keep what they show
	$(BIN)/python .ci/notebooks.py $(ARGS)

bench: $(ALL)  ## measure, and write the figures to docs/benchmarks.md
	$(BIN)/python -m tests.benchmarks $(ARGS)

picture: $(RUNTIME)  ## take the README's picture of the demo anew
	PATH="$(abspath $(BIN)):$$PATH" script -qec "stty cols 100 rows 45; hpcjobs demo --svg docs/_static/demo.svg" /dev/null

pictures: $(ALL)  ## take the pictures of cards, tables and the job page anew; needs Chromium
	$(BIN)/python -m tests.browser.pictures
	$(BIN)/python -m tests.browser.page_pictures

# Needs every supported interpreter: make pins PYTHONS="python3.10 python3.11 python3.12 python3.13"
PYTHONS ?= python3.10 python3.11 python3.12 python3.13
pins:  ## resolve the dependencies anew for all supported Pythons, into constraints.txt
	$(PYTHON) .ci/pins.py $(PYTHONS)

clean:  ## remove what was made, but not .venv
	rm -rf build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./.git -prune -o -path ./$(VENV) -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf

# Where Python came without ensurepip (Debian's python3 without python3-venv), the pip beside it fills the environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); Python 3.10 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	  $(PYTHON) -m venv --clear $(VENV); \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --quiet --python $(BIN)/python install pip; \
	else \
	  echo "$(PYTHON) has neither ensurepip nor pip; on Debian: apt-get install python3-venv" >&2; exit 1; \
	fi

$(RUNTIME): $(DECLARED) | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install -c constraints.txt -e '.[demo]' -e ./mock_server
	@touch $@

# An environment of its own: tapipy needs an old jsonschema, which breaks Jupyter.
$(TAPIPY): tests/conformance/tapipy.txt | $(BIN)/python
	@echo "installing tapipy into $(VENV)/tapipy ..."
	@$(PYTHON) -m venv $(VENV)/tapipy
	@$(VENV)/tapipy/bin/python -m pip --disable-pip-version-check --quiet --quiet install -r $<
	@touch $@

$(ALL): $(DECLARED) $(EXAMPLE)/pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install -c constraints.txt -e '.[demo,docs,dev]' -e ./mock_server -e ./$(EXAMPLE)
	@touch $(RUNTIME) $@
