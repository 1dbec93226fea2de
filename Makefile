# make demo and make test set up .venv by themselves; nothing needs to be installed but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCENES := demo/scenes
export PYTHONUNBUFFERED = 1

.PHONY: setup test lint types imports unit test-slow bench demo clean

setup: $(VENV)/.installed

# One pip call with no torch there yet: pip then takes the torch that the newest torchvision was built with.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dethead needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-cache-dir --editable ".[dev]"
	$(BIN)/python -c "import torchvision; torchvision.ops.nms"
	touch $@

test: lint types imports unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

unit: setup
	$(BIN)/pytest

test-slow: setup
	$(BIN)/pytest -m slow

# One table of all comparisons with peers, and bench/results.json. BENCH_FLAGS=--quick only tries them out.
bench: setup
	$(BIN)/python benchmarks/run_all.py --json bench/results.json $(BENCH_FLAGS)

demo: setup
	$(BIN)/python tools/demo.py demo

clean:
	rm -rf $(VENV) bench demo build dist *.egg-info
