# Two commands matter: `make demo` (the main experiment, embedded data) and `make test` (lint, types, tests).
# Both install what they need into .venv, once, and again when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --disable-pip-version-check
BENCH ?= $(shell grep -l __main__ tests/benchmarks/*.py 2>/dev/null)

.PHONY: help demo test lint bench claims clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    install, then run ablations/remove_layers.py on the embedded digits"
	@echo "make test    install, then ruff, mypy and pytest"
	@echo "make lint    install, then ruff and mypy"
	@echo "make bench   run the scripts of tests/benchmarks, or one: make bench BENCH=FILE"
	@echo "make claims  rewrite the table of claims in README.md"
	@echo "make clean   delete caches and build leftovers; keeps .venv, runs and data"
	@echo "PYTHON=python3.12 after any of them chooses the Python that .venv is made with"

demo: $(VENV)/.installed
	$(RUN) ablations/remove_layers.py

# As many tests at once as there are cores; plain `pytest` does the same one after the other.
test: lint
	$(RUN) -m pytest -n auto --dist worksteal

lint: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(VENV)/.installed-test
	@test -n "$(BENCH)" || echo "no scripts in tests/benchmarks"
	@for script in $(BENCH); do echo "== $$script"; $(RUN) "$$script" || exit 1; done

claims: $(VENV)/.installed
	$(RUN) -m ablations --write README.md

clean:
	rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find ablations modules datamodules reports tests -name __pycache__ -type d -prune -exec rm -rf {} +

# pip, because a virtual environment that lacks it was left half made.
$(VENV)/bin/pip:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "$(PYTHON) not found; name a Python 3.11 or newer: make demo PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, but $(PYTHON) is `"$(PYTHON)" --version 2>&1`;" \
	    "name another: make demo PYTHON=python3.12" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV) || { \
	  echo "could not make $(VENV); on Debian and Ubuntu first: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	$(PIP) -e .
	@touch $@

# After the plain installation, so that this one adds the test tools and nothing else.
$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e ".[test]"
	@touch $@
