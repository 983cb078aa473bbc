# Needs make and Python 3.11 or newer, nothing else:
#   make demo    serve the page on port 7860
#   make test    run the test suite
#   make check   formatting, lint, types, layers
# The virtual environment in .venv is made once; stamp files remember what it holds.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
# Two processes, each with one thread for the models: tests wait for servers, browsers and other processes much of the
# time. PYTEST_ARGS= runs all tests in one process.
PYTEST_ARGS ?= --numprocesses=2 --dist=worksteal

.PHONY: demo test lint check format clean

demo: $(RUN_STAMP)
	MAGICMIRROR_PORT=$${MAGICMIRROR_PORT:-7860} $(BIN)/python app.py

test: $(DEV_STAMP)
	.ci/chromium
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

check: $(DEV_STAMP)
	BIN=$(BIN) .ci/check

format: $(DEV_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer (with venv) is needed and was not found."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet -r requirements.txt
	BIN=$(BIN) .ci/opencv
	$(PIP) install --quiet --no-deps --editable .
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(RUN_STAMP)
	$(PIP) install --quiet -r requirements-dev.txt
	@touch $@
