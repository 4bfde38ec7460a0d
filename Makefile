# `make help` lists the targets. Python 3.11 or newer is the only requirement.
PYTHON ?= python3
BIN := .venv/bin
CONSTRAINTS ?= constraints.txt # exact versions to install; empty for the newest versions that pyproject.toml allows
CONSTRAINTS := $(strip $(CONSTRAINTS))
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %)
PROCESSES := --numprocesses logical --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help run quick test browser check ui doctor tutorial gpu train-tiny wheel sbom clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/.run ## measure the bundled model on the bundled images
	@$(BIN)/visionbench run

tutorial: .venv/.run ## check the machine, measure three kinds of model at batch sizes 1, 2, 4, and write the report
	@$(BIN)/visionbench run experiment=tutorial

ui: .venv/.run ## open the results in MLflow
	@$(BIN)/visionbench ui

doctor: .venv/.run ## describe this machine and list problems for a measurement
	@$(BIN)/visionbench doctor

quick: .venv/.test ## run the quick tests: no processes, no models, no MLflow
	@$(BIN)/python -m pytest $(PROCESSES) -m 'not slow'

test: .venv/.test ## run all tests that this machine supports; COVERAGE=1 measures the coverage of src
ifeq ($(COVERAGE),)
	@$(BIN)/python -m pytest $(PROCESSES)
else
	@$(BIN)/coverage erase
	@COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
	  $(BIN)/coverage run -m pytest $(PROCESSES)
	@$(BIN)/coverage combine --quiet
	@echo "coverage of src in percent (.venv/bin/coverage report lists the files):"
	@$(BIN)/coverage report --format=total
endif

browser: .venv/.test ## run the tests of MLflow's pages; needs chromium and chromedriver
	@$(BIN)/python -m pytest -m browser

check: .venv/.test ## lint and type-check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

gpu: ## check an NVIDIA GPU in eight minutes (PYTHON=… with torch for CUDA); results in outputs/gpu-check
	@bash benchmarks/gpu_check.sh

train-tiny: .venv/.test ## train the bundled models again (about an hour on one core)
	@for model in clip sam blip2 classifier detector segformer; do $(BIN)/python scripts/train_$${model}_tiny.py || exit 1; done

wheel: .venv/.test ## build dist/visionbench-….whl
	@$(BIN)/python -m build --wheel

sbom: .venv/.run ## write dist/sbom.json, the list of all installed packages (CycloneDX)
	@$(PYTHON) -m venv dist/sbom-env
	@dist/sbom-env/bin/python -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7,<8'
	@dist/sbom-env/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible \
	  --output-file dist/sbom.json
	@rm -rf dist/sbom-env
	@echo dist/sbom.json

clean: ## remove the environment, caches and built files, but not the results
	rm -rf .venv dist build data/cache .pytest_cache .mypy_cache .ruff_cache .coverage*

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "visionbench needs Python 3.11 or newer; set PYTHON=…")'
	@$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml $(CONSTRAINTS) | .venv/bin/python
	@echo "installing into .venv (some minutes, once)"
	@$(INSTALL) --editable .
	@touch $@

.venv/.test: pyproject.toml $(CONSTRAINTS) | .venv/bin/python
	@echo "installing into .venv, with the tools for tests (some minutes, once)"
	@$(INSTALL) --editable '.[dev]'
	@touch $@ .venv/.run
