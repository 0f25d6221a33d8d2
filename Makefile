# The recipes of Latloop; continuous integration runs the same ones.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-lab soak check bench clean

help:
	@echo "make demo      set up, then profile this machine, search, deploy and prove a network"
	@echo "make test      set up, then run the tests"
	@echo "make test-lab  set up, then test boards behind real SSH servers (root; installs by apt)"
	@echo "make soak      set up, then bring boards into trouble a thousand times (root; resumable)"
	@echo "make check     set up, then lint, format, types and the import contract"
	@echo "make bench     set up, then measure what the README states (resumable)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Latloop needs Python 3.11 or newer; try: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "Python's venv module is missing (Debian: package python3-venv)"; exit 1; }

$(VENV)/runtime.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/runtime.stamp

demo: $(VENV)/runtime.stamp
	$(BIN)/latloop quickstart

# Hundreds of processes import the same sources: they are compiled once.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/dev.stamp
	LATLOOP_TEST_CACHE=$(CURDIR)/.test-cache OPENBLAS_NUM_THREADS=1 \
	  $(BIN)/python -m pytest -n 2 --no-loadscope-reorder -m "not lab and not long"

test-lab: $(VENV)/dev.stamp
	tests/lab/install.sh
	LATLOOP_TEST_CACHE=$(CURDIR)/.test-cache $(BIN)/python -m pytest -n 2 -m "lab and not long" tests/lab tests/unit/devices \
	  tests/unit/profiler/test_emulated.py

soak: $(VENV)/dev.stamp
	tests/lab/install.sh
	$(BIN)/python -m tests.lab.soak $(SOAK)
	LATLOOP_TEST_CACHE=$(CURDIR)/.test-cache $(BIN)/python -m pytest -m long tests

check: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Wheels that hold trained models, for their .onnx files alone.
ZOO := magika==1.0.3 nudenet==3.4.2 rapidocr-onnxruntime==1.4.4 silero-vad==6.2.3

.zoo/stamp: Makefile | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .zoo $(ZOO)
	@touch $@

# What TVM's MetaSchedule imports beside TVM.
METASCHEDULE := cloudpickle==3.1.2 psutil==7.2.2 xgboost-cpu==3.2.0

.metaschedule/stamp: Makefile | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .metaschedule $(METASCHEDULE)
	@touch $@

bench: $(VENV)/dev.stamp .zoo/stamp .metaschedule/stamp
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/limits.py
	PYTHONPATH=. $(BIN)/python benchmarks/models.py
	PYTHONPATH=. $(BIN)/python benchmarks/kernels.py
	PYTHONPATH=. $(BIN)/python benchmarks/kernels.py --threads 2
	PYTHONPATH=. $(BIN)/python benchmarks/operators.py
	PYTHONPATH=. $(BIN)/python benchmarks/ranking.py
	PYTHONPATH=. $(BIN)/python benchmarks/overlap.py
	PYTHONPATH=. $(BIN)/python benchmarks/fused.py
	PYTHONPATH=. $(BIN)/python benchmarks/boards.py

clean:
	rm -rf $(VENV) .zoo .metaschedule .test-cache .lab .soak .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
