# make demo   distil a student on generated lesions, in a few minutes on two cores
# make test   the whole check: lint, types, import rules, tests
# make docs   the reference pages from the code, and the documentation's pages in site/
# make notebook   the notebook run on phantoms, and what it showed as docs/notebook.md
# UPGRADE=1   install the newest versions in range, not those of constraints.txt
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
CONSTRAINTS := $(if $(UPGRADE),,-c constraints.txt)
STAMP := $(VENV)/.installed$(if $(UPGRADE),-upgraded,)

.PHONY: demo docs notebook test lint types imports pytest install constraints clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python --quiet --compile-bytecode $(CONSTRAINTS) $(if $(UPGRADE),--upgrade,) -e '.[train,serve,dicom,heic,audit,cluster,openvino,mlflow,wandb,monai,transformers]' --group dev
	touch $@

demo: $(STAMP)
	$(BIN)/dermdistill demo

docs: $(STAMP)
	$(BIN)/python -m tools.reference
	$(BIN)/python -m zensical build --strict --clean

notebook: $(STAMP) # runs it on phantoms, and writes what it showed into docs/
	$(BIN)/python -m tools.render_notebook

test: lint types imports pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

# One process for each core, four at most: each holds PyTorch, and computes with one thread (tests/conftest.py).
pytest: $(STAMP)
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

constraints: # names and versions only: no addresses
	$(BIN)/uv pip compile --quiet --universal --extra train --extra serve --extra dicom --extra heic --extra audit --extra cluster --extra openvino --extra mlflow --extra wandb --extra monai --extra transformers --group dev --no-header --no-annotate -o constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) site .cache .mypy_cache .ruff_cache .pytest_cache
