# make demo     everything from nothing: install, train the quickstart, draw it, report it
# make test     lint, types and all tests but the slow ones
# make test-all those too
# make lint     style, types and the import contracts
# make docs     the documentation as a site, in site/
# make bench    measure against Ray Tune, Optuna and plain loops (hours); writes benchmarks/RESULTS.md

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all lint format docs bench compiler data browser clean

demo: $(VENV)/installed
	$(BIN)/hpscan launch quickstart
	@echo
	@echo "Figures:"; $(BIN)/hpscan figures quickstart
	@echo "Report:"; $(BIN)/hpscan report quickstart

# Two at a time: much of what the tests wait for is the start of processes.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

test: compiler data browser lint
	$(PYTEST)

test-all: compiler data browser lint
	$(PYTEST) -m ""

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy dashboards
	$(BIN)/lint-imports

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

bench: $(VENV)/installed-dev compiler data browser
	$(BIN)/python -m benchmarks.throughput --repeats 3 --fresh
	$(BIN)/python -m benchmarks.paired --write benchmarks/paired.md
	$(BIN)/python -m benchmarks.integrity
	$(BIN)/python -m benchmarks.growth --write benchmarks/growth.md
	$(BIN)/python -m benchmarks.engine --write benchmarks/engine.md
	$(BIN)/python -m benchmarks.orchestration --write benchmarks/orchestration.md
	$(BIN)/python -m benchmarks.adaptive --write benchmarks/adaptive.md
	$(BIN)/python -m benchmarks.dashboard --write benchmarks/dashboard.md
	$(BIN)/hpscan launch quickstart
	$(BIN)/python -m benchmarks.stopping --write benchmarks/stopping.md
	$(BIN)/python -m benchmarks.results

# hpscan runs without a C++ compiler, slower; its tests compare both ways and need one.
compiler:
	@command -v g++ >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq g++; } || { \
		echo "The tests need a C++ compiler: install g++ (Debian: apt-get install g++)" >&2; exit 1; }

# Some tests read Fashion-MNIST; without it they are skipped.
data:
	@[ -d /usr/share/datasets/fashion-mnist ] || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
		apt-get install -y -qq dataset-fashion-mnist; } || \
		echo "Tests on Fashion-MNIST are skipped (Debian: apt-get install dataset-fashion-mnist)" >&2

# The dashboard is tested in a real browser; without one those tests are skipped.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
		apt-get install -y -qq chromium chromium-driver; } || \
		echo "Tests in a browser are skipped (Debian: apt-get install chromium chromium-driver)" >&2

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "hpscan needs Python 3.11 or newer; say which: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[report]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
