# make run | test | test-all | test-gpu | check | docs
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Files of tests are shared out among so many processes, each with one thread. Byte code is kept: they start many.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

.PHONY: run test tests test-all test-gpu check docs wheel install clean

install: $(STAMP)

# torch first and alone: the versions in constraints.txt are those the tests run on.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

run: install   ## a ladder on the default data against other codecs: minutes on two cores
	$(BIN)/python train.py model=resnet50 split=layer3 'lambda=[0.0003,0.0007,0.001,0.003,0.01]'
	$(BIN)/python evaluate.py model=resnet50 split=layer3 'codecs=[unit,jpeg,lightweight]'

check: install docs wheel   ## formatting, types, the documentation with its links, and the package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install   ## the documentation as a site: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: install   ## what is installed elsewhere: build/wheel; an earlier build's files would come along
	rm -rf build/lib build/bdist.* build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(BIN)/twine check --strict build/wheel/*.whl

test: install  ## checks and default tests, side by side; slow, gpu and network tests are left out, and counted
	$(MAKE) --no-print-directory --jobs 2 check tests

tests: install
	$(PYTEST)

test-all: check   ## everything but what needs an accelerator or a package index: three quarters of an hour on two cores
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[transformers,openvino]'
	$(PYTEST) -m 'not gpu and not network'

test-gpu: install   ## what needs an accelerator, on one: minutes
	$(BIN)/python -m pytest -m gpu

clean:
	rm -rf logs results build *.egg-info .pytest_cache .mypy_cache .ruff_cache
