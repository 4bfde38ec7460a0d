# visionbench: `make help` lists what there is. Needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test check ui doctor tutorial gpu train-tiny wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/.run ## measure the bundled model on the bundled pictures
	@$(BIN)/visionbench run

tutorial: .venv/.run ## three kinds of model at batch sizes 1, 2, 4, from a check of the machine to the report
	@$(BIN)/visionbench run experiment=tutorial

ui: .venv/.run ## open the results in MLflow
	@$(BIN)/visionbench ui

doctor: .venv/.run ## what this machine is, and what would go wrong on it
	@$(BIN)/visionbench doctor

test: .venv/.test ## run the tests
	@$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

check: .venv/.test ## lint and type-check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

gpu: ## check an NVIDIA GPU in eight minutes (PYTHON=…, torch for CUDA); results in outputs/gpu-check
	@bash benchmarks/gpu_check.sh

train-tiny: .venv/.test ## train the bundled models again (about half an hour on one core)
	@for model in clip sam blip2 classifier; do $(BIN)/python scripts/train_$${model}_tiny.py || exit 1; done

wheel: .venv/.test ## build dist/visionbench-….whl
	@$(BIN)/python -m build --wheel

clean: ## remove the environment, caches and built files; results stay
	rm -rf .venv dist build data/cache .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "visionbench needs Python 3.11 or newer; set PYTHON=…")'
	@$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing into .venv (some minutes, once)"
	@$(INSTALL) --editable .
	@touch $@

.venv/.test: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing into .venv, with the tests' tools (some minutes, once)"
	@$(INSTALL) --editable '.[dev]'
	@touch $@ .venv/.run
