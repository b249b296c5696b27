PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCHMARKS := search_queries export demo engine coverage scale validity sweep report sharing rounding experiments

GPU_PYTHON ?= python3
GPU_PYTHON_VERSION ?= 3.12
GPU_WHEELS := .whl
PLATFORMS := manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64

.PHONY: install demo test lint docs bench gpu-wheels gpu clean

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

# The site, in build/site/index.html. Every warning is an error, a link that leads nowhere too.
docs: install
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs -d build/doctrees . build/site

bench: install
	for bench in $(BENCHMARKS); do $(BIN)/python -m tests.benchmarks.$$bench || exit 1; done
	$(BIN)/python -m tests.benchmarks.engine --best "auto, attribution" granularity=projection

# Where there is a network: wheels of all that a machine with PyTorch and transformers lacks.
gpu-wheels: install
	rm -rf $(GPU_WHEELS) && mkdir -p $(GPU_WHEELS)
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir $(GPU_WHEELS) --constraint requirements.lock antlr4-python3-runtime
	$(BIN)/pip download --quiet --no-deps --only-binary=:all: --dest $(GPU_WHEELS) --find-links $(GPU_WHEELS) \
	  --python-version $(GPU_PYTHON_VERSION) --implementation cp $(PLATFORMS:%=--platform %) \
	  --constraint requirements.lock --requirement tests/benchmarks/gpu-packages.txt

# On the machine with the GPU, without a network. GPU_ARGS: see tests/benchmarks/gpu.py.
gpu:
	rm -rf build/gpu && mkdir -p build/gpu
	for wheel in $(GPU_WHEELS)/*.whl; do $(GPU_PYTHON) -m zipfile -e $$wheel build/gpu || exit 1; done
	PYTHONPATH=.:build/gpu $(GPU_PYTHON) -m tests.benchmarks.gpu --json gpu.json $(GPU_ARGS)

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
