# Everything one does with the project, from nothing but Python, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PUBLISHING := $(VENV)/publishing
DEVELOPING := $(VENV)/developing

# A process of tests for each core; one that has nothing left to do takes over from the others.
PYTEST := $(BIN)/python -m pytest -q
SIDE_BY_SIDE := -n auto --dist worksteal

.PHONY: help run demo prove bench test test-rest test-all check format trace package test-container overload memory clean
help:
	@echo 'make run             start the service on 127.0.0.1:8080, data in data/aggregator.db'
	@echo 'make demo            start the service, publish 5,000 events to it, check every number'
	@echo 'make prove           kill a service 1,000 times, and check every word it gave (a quarter of an hour)'
	@echo 'make bench           measure the service beside its limits and its peers (half an hour; 3 minutes'
	@echo '                     with BENCH=--quick)'
	@echo 'make test            test every part (4 to 5 minutes on two cores)'
	@echo 'make test-rest       run all other tests: more cases of each fault, long proofs, what measures time'
	@echo 'make test-all        both'
	@echo 'make check           lint and type-check'
	@echo 'make format          format the code'
	@echo 'make trace           show which files a new event passes on its way to the answer; another kind:'
	@echo '                     make trace EVENT=duplicate|conflict|invalid'
	@echo 'make package         build the wheel and the source distribution in dist/, and check them'
	@echo 'make test-container  build and run the containers for real, with podman'
	@echo 'make overload        publish more than a slow disk takes, for 5 minutes, and draw it; needs strace'
	@echo 'make memory          fill every bound at once, and show the memory it takes; Linux, ten minutes'
	@echo 'make clean           remove what was built; the data stays'

run: $(INSTALLED)
	@exec $(BIN)/aggregator serve

demo: $(PUBLISHING)
	@exec $(BIN)/python loadgen/demo.py

prove: $(INSTALLED)
	@exec $(BIN)/aggregator prove --kills 1000

bench: $(INSTALLED)
	@exec $(BIN)/python -m loadgen.bench $(or $(BENCH),--output docs/benchmarks.md)

test: $(DEVELOPING)
	$(PYTEST) $(SIDE_BY_SIDE) -m 'not rest'

test-rest: $(DEVELOPING)
	$(PYTEST) $(SIDE_BY_SIDE) -m 'rest and not alone'
	$(PYTEST) -m alone

test-all: test test-rest

check: $(DEVELOPING)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(DEVELOPING)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

trace: $(DEVELOPING)
	@exec $(BIN)/python tests/trace_event.py $(EVENT)

# What an older build left, or listed in its egg-info, would be packed again.
package: $(DEVELOPING)
	rm -rf build dist *.egg-info
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

test-container:
	tests/container/try.sh

overload: $(DEVELOPING)
	@PYTHONPATH=tests exec $(BIN)/python tests/faults/overload.py docs/overload.svg

memory: $(DEVELOPING)
	@ulimit -n 8192; PYTHONPATH=tests:tests/faults exec $(BIN)/python tests/faults/worst_memory.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/python: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed; name one with: make PYTHON=python3.13 ...'; exit 1; }
	@echo 'making a virtual environment in $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(INSTALLED): $(VENV)/python setup.cfg pyproject.toml
	@echo 'installing the event aggregator into it'
	@$(BIN)/pip install -q --disable-pip-version-check -e .
	@touch $@

$(PUBLISHING): $(INSTALLED)
	@echo 'installing what loadgen needs'
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[loadgen]'
	@touch $@

$(DEVELOPING): $(INSTALLED)
	@echo 'installing what the tests need'
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[test,check]'
	@touch $@
