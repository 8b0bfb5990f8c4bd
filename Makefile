# make demo: install, then sprites -> train -> export -> select -> report, in demo/
# make test: the tests (under 6 minutes); make test-all: with the slow ones; make lint: style, types, layers
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# Files of tests side by side, each process with one thread; more than four would compete for memory. Their many child
# processes start from bytecode, wherever it is switched off else.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadfile

.PHONY: demo test test-all lint format sample-data clean

$(VENV)/.runtime: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, found {v[0]}.{v[1]}; name one: make PYTHON=python3.12 demo")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[cpu,train]"
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	touch $@

# Other projects whose models the slow tests export, and what drives a browser; torch stays the one of constraints.txt.
$(VENV)/.peers: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group peers
	touch $@

demo: $(VENV)/.runtime
	rm -rf $(DEMO)
	$(BIN)/ngvae-tools sprites $(DEMO)/sprites.h5 --images 6000 --size 32 --seed 0
	$(BIN)/ngvae-tools train $(DEMO)/sprites.h5 --epochs 40 --seed 0 --output $(DEMO)/run
	$(BIN)/ngvae-tools select-latents $(DEMO)/run/encoder.onnx $(DEMO)/sprites.h5 --decoder $(DEMO)/run/decoder.onnx --output $(DEMO)/selection
	$(BIN)/ngvae-tools report $(DEMO)/selection $(DEMO)/run --html $(DEMO)/report.html
	@echo "Files written:"
	@find $(DEMO) -type f | sort

test: $(VENV)/.dev
	$(PYTEST)

test-all: $(VENV)/.peers
	$(PYTEST) -m "not gpu"

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

sample-data: $(VENV)/.runtime
	$(BIN)/python sample_data/make.py

clean:
	rm -rf $(VENV) $(DEMO) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
