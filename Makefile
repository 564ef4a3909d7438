# make train    trains configs/quickstart.yaml (CONFIG=configs/mnist.yaml ARGS="train.epochs=5" for others)
# make test     tests, linters and type checks
# make bench    speed beside PyTorch and JAX (ARGS=--quick for a first look); installs them too
# All set up .venv through `make setup` first, whenever pyproject.toml or constraints.txt have changed.

CONFIG ?= configs/quickstart.yaml
ARGS ?=
PYTHON ?= $(shell for python in python3.11 python3.12 python3.10 python3 python; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$python && break; done)
BIN = .venv/bin

.PHONY: setup train test bench clean

setup: .venv/.installed

train: setup
	$(BIN)/python scripts/train.py --config $(CONFIG) $(ARGS)

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

bench: .venv/.bench
	$(BIN)/python benchmarks/run.py $(ARGS)

.venv/.bench: .venv/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[bench]" -c constraints.txt
	@touch $@

.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.10, 3.11 or 3.12 is needed (MindSpore 2.10 has no others); install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@# Debian's Python comes without ensurepip; virtualenv does not need it.
	$(PYTHON) -m venv .venv 2>/dev/null || { rm -rf .venv; $(PYTHON) -m pip install --user virtualenv && $(PYTHON) -m virtualenv .venv; }
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[dev]" -c constraints.txt
	@touch $@

clean:
	rm -rf .venv *.egg-info .pytest_cache .ruff_cache .mypy_cache
