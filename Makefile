# `make demo` and `make test` work on a fresh clone; everything lives in .venv.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
CODE := engine solvers tests benchmarks

# One process a core; a file's tests share one process, and what they have in common is made once.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check lint types imports proto proto-check pytest full exact replay bench serve clean \
  kernels kernels-single kernels-joint

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

test: .venv/dev
	@$(MAKE) --no-print-directory -j2 -Otarget kernels check
	$(PYTEST)

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

# Compiled once, in two processes, before the tests start: theirs would each compile the same.
kernels: kernels-joint kernels-single

kernels-single: .venv/dev
	@$(BIN)/python -c "from solvers.warmup import warm_up; warm_up()"

kernels-joint: .venv/dev
	@$(BIN)/python -c "from benchmarks.planning import warm_up; warm_up()"

pytest: .venv/dev
	@$(MAKE) --no-print-directory -j2 kernels
	$(PYTEST)

# All tests with as many worlds, and worlds as large, as they were written for (tests/full_size.py).
full: .venv/dev
	@$(MAKE) --no-print-directory -j2 kernels
	WALRAS_TESTS=full $(PYTEST)

# The full comparisons with the independent CP-SAT models: 5,000 worlds of one request, 2,000 joint ones.
exact: .venv/dev
	WALRAS_EXACT_WORLDS=5000 WALRAS_EXACT_JOINT_WORLDS=2000 $(PYTEST) -m exact tests/solvers tests/planning

# The published experiment on shared GPUs: ten seeds, both traces; DATA=DIR or $WALRAS_DATA.
replay: .venv/dev
	@for trace in default gpuspec33; do \
	  $(BIN)/walras replay openb --trace $$trace $(if $(DATA),--data $(DATA)) || exit; done

bench: .venv/dev
	$(BIN)/python -m benchmarks $(if $(DATA),--data $(DATA))

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
