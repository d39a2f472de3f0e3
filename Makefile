# make run: the whole pipeline on this machine. make test: the tests. make help: the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test clean

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

# An extra's stamp is older than setup.cfg only when something has to be installed.
$(VENV)/.%: setup.cfg pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing what '$*' needs into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	@touch $@

run: $(VENV)/.local ## the whole pipeline on this machine; ARGS="model=mobilenet_v2 epochs=5" changes parameters
	@$(BIN)/python pipeline.py run $(ARGS)

test: $(VENV)/.test ## every test that can run here
	@$(BIN)/python -m pytest $(ARGS)

compile: $(VENV)/.local ## pipeline.yaml, for the Kubeflow UI
	@$(BIN)/python pipeline.py compile

clean: ## removes the environment; runs/ stays
	rm -rf $(VENV) build *.egg-info
