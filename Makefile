PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCHMARKS := search_queries export demo engine coverage validity

.PHONY: install demo test lint bench clean

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, not {v}: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# The whole mission on miniature models: build them once, sweep all 17 pairs, print the tables.
demo: install
	$(BIN)/dapa zoo build
	$(BIN)/dapa run -m +experiment=miniature

# The zoo first, since tests in both processes need it.
test: install
	$(BIN)/dapa zoo build
	$(BIN)/pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/mypy

bench: install
	for bench in $(BENCHMARKS); do $(BIN)/python -m tests.benchmarks.$$bench || exit 1; done
	$(BIN)/python -m tests.benchmarks.engine --best "auto, attribution" granularity=projection

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
