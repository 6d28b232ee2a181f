# `make demo` and `make test` work on a fresh clone; everything lives in .venv.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
CODE := engine solvers tests benchmarks supply_chain

# One process a core; a file's tests share one process, and what they have in common is made once.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check lint types imports proto proto-check pytest full exact crash simulate simulate-bugs fuzz replay sbom advisories serve clean \
  bench bench-day bench-compare profile kernels kernels-single kernels-joint

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

check: lint types imports proto-check advisories

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
	@$(BIN)/python -c "from benchmarks.planning import warm_up; warm_up(); from solvers.warmup import warm_up_worth; warm_up_worth()"

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

# 500 times `kill -9` of a real server under load, on SQLite and on PostgreSQL.
KILLS ?= 500
SEED ?= 1
crash: .venv/dev
	$(BIN)/python -m tests.crash.kills $(KILLS) $(SEED)

# Seeded lives of the engine with simulated clock, network, store, nodes and solver faults, and the planted bugs.
SEEDS ?= 2000
BUG_SEEDS ?= 500
FIRST ?= 1
simulate: .venv/dev kernels
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST)

simulate-bugs: .venv/dev kernels
	$(BIN)/python -m tests.simulation --bugs --seeds $(BUG_SEEDS) --first $(FIRST)

# The published experiment on shared GPUs: ten seeds, both traces; DATA=DIR or $WALRAS_DATA.
replay: .venv/dev
	@for trace in default gpuspec33; do \
	  $(BIN)/walras replay openb --trace $$trace $(if $(DATA),--data $(DATA)) || exit; done

# Everything within 30 minutes on 2 cores; results.json, RESULTS.md and figures/ in benchmarks/.
bench: .venv/dev
	$(BIN)/python -m benchmarks $(if $(DATA),--data $(DATA)) $(KINDS)

# The whole day of the real trace at 60 times its speed: 24 minutes more.
bench-day: .venv/dev
	$(BIN)/python -m benchmarks day $(if $(DATA),--data $(DATA))

# What changed since BASE, in turns with it: make bench-compare BASE=main
bench-compare: .venv/dev
	$(BIN)/python -m benchmarks.compare $(BASE)

# Flame graphs of the deploy path and of planning: benchmarks/figures/flames-*.svg
profile: .venv/dev
	$(BIN)/python -m benchmarks.flames

# A million mutated messages parsed, 50,000 handled: only documented answers, and the event loop never held up.
fuzz: .venv/dev
	$(BIN)/python -m tests.service.fuzz

# What the engine is made of, as CycloneDX.
sbom: .venv/dev
	@mkdir -p build
	@$(BIN)/python -m supply_chain.sbom > build/sbom.cdx.json && echo "build/sbom.cdx.json"

# The pinned versions against a snapshot of advisories that $$WALRAS_ADVISORIES names; skipped, and said, without.
advisories: .venv/dev
	@$(BIN)/python -m supply_chain.advisories

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
