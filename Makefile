# `make demo` and `make test` work on a fresh clone; everything lives in .venv.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
CODE := engine solvers tests benchmarks

.PHONY: demo test check lint types imports proto proto-check pytest exact bench serve clean

.venv/runtime: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the engine into .venv (about a minute)"
	@$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/dev: .venv/runtime
	@echo "installing the development tools into .venv"
	@$(BIN)/pip install --quiet --editable ".[dev]"
	@touch $@

demo: .venv/runtime
	@$(BIN)/walras demo

test: check pytest

check: lint types imports proto-check

lint: .venv/dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/buf lint

types: .venv/dev
	$(BIN)/mypy

imports: .venv/dev
	$(BIN)/lint-imports --no-cache

# Regenerates the Python beside the contract; only the locked grpcio-tools fits the locked protobuf.
proto: .venv/dev
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -I proto --python_out=proto \
	  --grpc_python_out=proto --mypy_out=proto --mypy_grpc_out=proto proto/walras/v1/*.proto

proto-check: .venv/dev
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && \
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -I proto --python_out=$$out \
	  --grpc_python_out=$$out --mypy_out=$$out --mypy_grpc_out=$$out proto/walras/v1/*.proto && \
	for file in $$(cd $$out && find . -type f); do \
	  cmp "$$out/$$file" "proto/$$file" || { echo "generated code is stale: run make proto"; exit 1; }; done && \
	echo "generated code is fresh"

pytest: .venv/dev
	$(BIN)/pytest

# The full comparisons with the independent CP-SAT models: 5,000 worlds of one request, 2,000 joint ones.
exact: .venv/dev
	WALRAS_EXACT_WORLDS=5000 WALRAS_EXACT_JOINT_WORLDS=2000 $(BIN)/pytest -m exact tests/solvers tests/planning

bench: .venv/dev
	$(BIN)/python -m benchmarks $(if $(DATA),--data $(DATA))

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
