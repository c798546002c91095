# make demo   sets everything up and runs a real distributed training through the real daemon
# make test   sets everything up and runs all tests, but those that take minutes
# make slow-test  runs those
# make lint   ruff and mypy --strict
# make page   builds the web page anew
# make pictures  docs/screenshots anew
# make bench  the README's figures
# make histories  a million random events through the core, its invariants held after each
# make torture  300 real faults over a mixed queue, then everything is counted; the same kills for other programs

PYTHON ?= python3
# A file of tests after the other, on as many processes as tests/conftest.py says; a developer with many cores
# has no more, since many tests start daemons that use all of them.
AT_ONCE := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up

.PHONY: demo test slow-test lint page pictures bench torture histories clean set-up

set-up: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "TrainForge needs Python 3.11 or newer; $(PYTHON) is older (make PYTHON=python3.12 …)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing TrainForge with torch into $(VENV) (once; about 2 minutes)"
	$(BIN)/python -m pip install --quiet --config-settings editable_mode=compat --editable '.[training,demo,test]'
	@touch $@

demo: set-up
	$(BIN)/python -m demo

test: set-up
	sh tests/prepare
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest $(AT_ONCE)

slow-test: set-up
	$(BIN)/python -m pytest -m slow $(AT_ONCE)

lint: set-up
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m building.page --check

page: set-up
	$(BIN)/python -m building.page

pictures: set-up
	$(BIN)/python -m tests.page.pictures

bench: set-up
	$(BIN)/python -m benchmarks

histories: set-up
	$(BIN)/python -m tests.core.histories

torture: set-up
	$(BIN)/python -m tests.torture --faults 300 --beside 60

clean:
	rm -rf $(VENV) dashboard/node_modules trainforged/web/page build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
