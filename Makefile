.PHONY: format check test test-oldest faults docs bench dist

# DATA: the folder with camera_trap_crops and weights that the benchmarks read; RESULTS: where their curves go.
RESULTS ?= bench-results

format:
	ruff check --fix .
	ruff format .

check:
	ruff check .
	ruff format --check .
	mypy

test:
	pytest

# With the oldest versions that pyproject.toml allows, in a virtual environment of their own (5 GB).
test-oldest:
	python3 -m venv .venv-oldest
	python3 tests/support/oldest_versions.py > .venv-oldest/oldest.txt
	.venv-oldest/bin/pip install --quiet --constraint .venv-oldest/oldest.txt ".[test]"
	.venv-oldest/bin/pytest -W default -n 2

# Kills a small run at every change that it makes to a file: over an hour on two cores. CI tries some of each kind.
faults:
	FAULTS=all pytest tests/whole_runs/test_faults.py -s

docs:
	mkdocs build --strict

bench:
	python benchmarks/label_efficiency.py $(DATA) $(RESULTS)
	python benchmarks/bursts.py $(DATA) $(RESULTS)
	python benchmarks/sequences.py $(DATA)

dist:
	python -m build
	twine check --strict dist/*
