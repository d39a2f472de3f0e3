# make run: the whole pipeline on this machine. make test: the tests. make help: the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Ends with one line where a Python is missing, or of a version that TensorFlow has no build for: PYTHON, what to do.
SUPPORTED := f() { "$$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2> /dev/null || { \
	echo "error: Python 3.11, 3.12 or 3.13 is needed, and $$1 is $$("$$1" --version 2> /dev/null || echo missing): $$2" >&2; \
	exit 1; }; }; f

# pip, with a line now and then instead of hundreds or none; the status is pip's.
# KerasHub, without what it asks for, is no conflict.
INSTALL = { $(BIN)/python -m pip install --progress-bar off --disable-pip-version-check --no-warn-conflicts
TOLD = 2>&1; echo "status $$?"; } | awk '/^status / { exit $$2 } \
	/^Collecting / && ++n % 15 == 0 { print "  " n " packages found"; fflush() } \
	/^Installing collected/ { print "  unpacking " NF - 3 " packages"; fflush() } \
	/^(ERROR|error)/ { print > "/dev/stderr" }'

# The extra `hub` of setup.cfg, which says why its dependencies stay out.
HUB := keras-hub onnx regex safetensors tokenizers

.DEFAULT_GOAL := help
.PHONY: help venv run test lint format typecheck compile images push lock sbom audit arm64 manifests test-zoo test-containers test-slow test-all clean

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

# An extra's stamp is older than setup.cfg only when something has to be installed.
$(VENV)/.%: setup.cfg pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory venv
	@echo "installing what '$*' needs into $(VENV) (once; some minutes)"
	@$(INSTALL) --constraint constraints.txt --editable '.[$*]' $(TOLD)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt $(HUB)
	@touch $@

# An environment that was cut off while it was made has a python and no pip; it is completed.
venv:
	@$(BIN)/python -c '' 2> /dev/null || { \
		$(SUPPORTED) $(PYTHON) 'name another, such as PYTHON=python3.12' && $(PYTHON) -m venv --clear --without-pip $(VENV); }
	@$(SUPPORTED) $(BIN)/python 'make clean, then start again'
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || { \
		$(BIN)/python -m ensurepip --default-pip > /dev/null 2>&1; $(BIN)/python -m pip --version > /dev/null 2>&1; } || { \
		echo "error: $(VENV) has no pip: install Python's venv module (Debian: apt install python3-venv), make clean," \
			"then start again" >&2; exit 1; }

run: $(VENV)/.local ## the whole pipeline on this machine; ARGS="model=mobilenet_v2 epochs=5" changes parameters
	@$(BIN)/python pipeline.py run $(ARGS)

# RANDOM_ORDER=1 shuffles the tests, by a seed that is printed.
PYTEST = $(BIN)/python -m pytest $(if $(RANDOM_ORDER),,-p no:randomly) -n auto --dist loadfile --no-loadscope-reorder

# In CI a finding of ruff or mypy fails the run before the tests begin.
test: $(VENV)/.test $(if $(CI),lint typecheck) ## the tests, without the slow ones unless CI is set; ARGS="-k name" chooses, ARGS="-n 0" takes one process
	@$(PYTEST) $(if $(CI),,-m "not slow") $(ARGS)

lint: $(VENV)/.test ## ruff: faults, and whether the code is formatted
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet . || { echo "see above; make format" >&2; exit 1; }

format: $(VENV)/.test ## formats the code, and mends what ruff can
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

typecheck: $(VENV)/.test ## mypy
	@$(BIN)/mypy --no-error-summary

test-slow: $(VENV)/.test ## the tests that take long
	@$(PYTEST) -m slow $(ARGS)

test-all: $(VENV)/.test ## every test that can run here
	@$(PYTEST) $(ARGS)

compile: $(VENV)/.local ## pipeline.yaml, for the Kubeflow UI
	@$(BIN)/python pipeline.py compile

# REGISTRY, TAG, BASE_IMAGE, GPU=1, PLATFORM; PIP_CONF and CA_BUNDLE for a build behind a mirror. See docs/containers.md.
BUILD = $(PYTHON) containers/build.py $(if $(REGISTRY),--registry $(REGISTRY)) $(if $(TAG),--tag $(TAG)) \
	$(if $(BASE_IMAGE),--base-image $(BASE_IMAGE)) $(if $(GPU),--gpu) $(if $(PIP_CONF),--pip-conf $(PIP_CONF)) \
	$(if $(CA_BUNDLE),--ca-bundle $(CA_BUNDLE)) $(if $(NETWORK),--network $(NETWORK)) \
	$(if $(PLATFORM),--platform $(PLATFORM)) $(IMAGES)

images: ## builds the container images; REGISTRY=ghcr.io/you TAG=1.0
	@$(BUILD)

push: ## pushes them and writes images.json for `pipeline.py compile --digests images.json`
	@$(BUILD) --push

lock: $(VENV)/.test ## resolves the images' lock files anew
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python containers/lock.py

# In an environment of their own: they read lock files and import nothing of ours.
TOOLS = build/tools
$(TOOLS)/bin/cyclonedx-py:
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0 pip-audit==2.10.1

sbom: $(VENV)/.test $(TOOLS)/bin/cyclonedx-py ## a CycloneDX bill of materials per image, and all licences, into build/
	@PYTHONPATH=. $(BIN)/python containers/bill.py $(TOOLS)/bin/cyclonedx-py

audit: $(TOOLS)/bin/cyclonedx-py ## asks PyPI's database whether a package of the images has a known vulnerability
	@for lock in containers/*/*.lock; do echo $$lock; \
		$(TOOLS)/bin/pip-audit --progress-spinner off --disable-pip --require-hashes -r $$lock || exit 1; done

arm64: ## whether every package of the images has a wheel for ARM64 (make images PLATFORM=linux/arm64)
	@PYTHONPATH=. $(PYTHON) containers/arm64.py

manifests: ## renders the overlays into build/; DIGESTS=images.json, or REGISTRY and TAG, for your images
	@mkdir -p build
	@for overlay in local cluster; do $(PYTHON) manifests/render.py $$overlay $(if $(DIGESTS),--digests $(DIGESTS)) \
		$(if $(REGISTRY),--registry $(REGISTRY)) $(if $(TAG),--tag $(TAG)) > build/$$overlay.yaml \
		&& echo build/$$overlay.yaml || exit 1; done

test-zoo: $(VENV)/.test ## converts also the largest models to every form
	@ZOO=all $(BIN)/python -m pytest tests/train/worker/test_export.py $(ARGS)

test-containers: $(VENV)/.test ## builds the images and runs the compiled pipeline in them (podman, root; ten minutes)
	@TEST_CONTAINERS=1 $(BIN)/python -m pytest -m containers tests/test_containers.py $(ARGS)

clean: ## removes the environment; runs/ stays
	rm -rf $(VENV) build *.egg-info
