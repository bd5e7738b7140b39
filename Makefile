# The verbs here are the ones that .ci/run and the docs use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo run test fuzz lint format docs bench clean help

help:  ## list the verbs
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ —/'

$(BIN)/enginewatch: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(BIN)/enginewatch  ## make the virtual environment and install everything from the registry

run: setup  ## the main job: plan, build, measure, store, judge on this machine
	$(BIN)/enginewatch init --if-missing
	$(BIN)/enginewatch run enginewatch.toml

demo: setup  ## recorded H200 runs in the dashboard, without a GPU
	$(BIN)/enginewatch demo

test: setup  ## the whole test suite
	$(BIN)/python -m pytest

fuzz: setup  ## the property tests with a thousand new draws each
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile fuzz

lint: setup  ## style, types, layers, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/codespell db collector harness ci dashboards docs README.md CHANGELOG.md CONTRIBUTING.md

format: setup  ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## write docs/reference from the code
	$(BIN)/python docs/generate.py

bench: setup  ## ratios against peers and limits
	$(BIN)/python -m benchmarks

clean:  ## remove the environment and the caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
