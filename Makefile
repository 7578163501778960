# make run | test | test-all | check
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test test-all check install clean

install: $(STAMP)

# torch first and alone: the versions in constraints.txt are those the tests run on.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

run: install   ## train two rates on the default data and judge them: a few minutes on two cores
	$(BIN)/python train.py model=resnet50 split=layer3 'lambda=[0.01,0.03]'
	$(BIN)/python evaluate.py model=resnet50 split=layer3

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check    ## checks and default tests; slow, gpu and network tests are left out, and counted
	$(BIN)/python -m pytest

test-all: check   ## everything but what needs an accelerator or a package index: about a quarter of an hour
	$(BIN)/python -m pytest -m 'not gpu and not network'

clean:
	rm -rf logs results build *.egg-info .pytest_cache .mypy_cache .ruff_cache
