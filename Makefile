# Two targets do all set-up: `make quickstart` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TWINS  := tests/jobs/test_tiny.py tests/jobs/test_twins.py tests/jobs/test_run.py

.PHONY: quickstart test twins long chaos lint bench clean

quickstart: $(VENV)/installed
	$(BIN)/python -m jobs run jobs/quickstart.yaml

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

twins: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "long and not chaos" $(TWINS)

long: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "long and not chaos"

chaos: $(VENV)/installed-test
	$(BIN)/python -m pytest -m chaos -s

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed-test
	$(BIN)/python -m tests.bench

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/installed-test: pyproject.toml $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) *.egg-info build .pytest_cache .mypy_cache .ruff_cache .hypothesis
