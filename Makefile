# make train: set up, then the main job on the embedded defaults. make test: set up, then every check.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?=

.PHONY: help install train stages test lint unit slow docs clean

help:
	@echo "make train   install, then train on the demo set (more: ARGS='rlhf.beta=0.2')"
	@echo "make stages  install, then stage 1 (aligner) and stage 2 (language model) on the demo set"
	@echo "make test    install, then lint, type check and tests"
	@echo "make slow    the longer variants of the tests"
	@echo "make docs    docs/configuration.md from the dataclasses"
	@echo "make clean   remove the virtual environment"

install: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python >= 3.11 is needed, $(PYTHON) is older: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --editable '.[dev]'
	@touch $@

train: $(INSTALLED)
	$(BIN)/python -m dvlm.train +experiment=gkd_forward $(ARGS)

stages: $(INSTALLED)
	launchers/stages.sh optim.learning_rate=3e-3 $(ARGS)

test: lint unit

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(INSTALLED)
	$(BIN)/python -m pytest -n auto -m 'not slow and not gpu and not slurm' $(ARGS)

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow $(ARGS)

docs: $(INSTALLED)
	$(BIN)/python -m dvlm.config.reference > docs/configuration.md

clean:
	rm -rf $(VENV)
