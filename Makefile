# The README's commands. Each does its own set-up; a second run starts at once.
PYTHON ?= python3
BIN := .venv/bin
EVAL ?= ../shared/eval/dev

.PHONY: setup demo test test-slow serve check bench
.DEFAULT_GOAL := demo

setup:
	@$(PYTHON) setup/install.py

demo: setup
	@$(BIN)/python examples/demo.py

test: setup
	@$(BIN)/python -m pytest -m "not slow"

test-slow: setup
	@$(BIN)/python -m pytest -m slow

serve: setup
	@$(BIN)/mynah serve

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_readme.py tests/server/test_docs.py

bench: setup
	@$(BIN)/python -m bench.retrieval $(EVAL)
	@$(BIN)/python -m bench.answers $(EVAL)
