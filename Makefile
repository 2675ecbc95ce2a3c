# Each target makes the environment first when it is missing. PYTHON chooses the interpreter, 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: install demo test lint bench fuzz clean

install: $(BIN)/va

$(BIN)/va: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -e '.[dev]'
	touch $@

demo: install
	$(BIN)/va demo --out demo

test: install
	$(BIN)/pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python benchmarks/startup.py
	$(BIN)/va demo --out demo
	$(BIN)/python benchmarks/region_term.py demo/corpus demo/features --out demo/region_term
	GOMP_SPINCOUNT=2000 $(BIN)/python benchmarks/train.py
	GOMP_SPINCOUNT=2000 $(BIN)/python benchmarks/sweep.py

# Optional: atheris is no dependency of the tests. A minute each; FUZZ_S changes that.
FUZZ_S ?= 60
fuzz: install
	$(BIN)/pip install 'atheris>=3,<4'
	$(BIN)/python tests/fuzz/labels.py -max_total_time=$(FUZZ_S)
	$(BIN)/python tests/fuzz/manifest.py -max_total_time=$(FUZZ_S)
	$(BIN)/python benchmarks/fuzz_media.py

clean:
	rm -rf $(VENV) demo
