# Everything runs from .venv, which `make setup` builds from requirements.lock. See `make help`.

PROFILE ?= paper
LIMIT ?=
PROTOCOL ?= lmms_eval
RESULTS ?= results
ARGS ?=
# One of uv's torch backends (cu126, cu128, cpu, …) for machines whose driver is older than the registry's build needs.
TORCH_BACKEND ?=

VENV := .venv
PYTHON := $(VENV)/bin/python
# The backend chosen once stays chosen; another one installs torch again.
BACKEND := $(or $(TORCH_BACKEND),$(shell cat $(VENV)/.torch-backend 2>/dev/null))
STAMP := $(VENV)/.setup-stamp$(addprefix -,$(BACKEND))
RUN = $(PYTHON) -m scripts.run
REPORT = $(PYTHON) -m scripts.report
chosen = profile=$(PROFILE) protocol=$(PROTOCOL) results=$(RESULTS)

.DEFAULT_GOAL := help
.PHONY: help setup test smoke lint lock toy-data toy-model reproduce-table1 report

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: $(STAMP) ## .venv from requirements.lock; TORCH_BACKEND=cu126 for an older driver

$(STAMP): requirements.lock pyproject.toml scripts/setup.sh
	@TORCH_BACKEND=$(BACKEND) bash scripts/setup.sh $(VENV)
	@rm -f $(VENV)/.setup-stamp* && touch $@

test: setup toy-data ## the whole test suite
	$(PYTHON) -m pytest $(ARGS)

lint: setup ## ruff
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

smoke: ## Table 1 on the toy profile: trained toy model, drawn data, no GPU, no network
	$(MAKE) --no-print-directory reproduce-table1 PROFILE=toy

reproduce-table1: setup $(if $(filter toy,$(PROFILE)),toy-data) ## Table 1; PROFILE=paper|toy LIMIT=n PROTOCOL=lmms_eval|llava RESULTS=folder
	@# Exit status 1 means that samples failed: the table is written all the same and says which.
	@$(RUN) table=table1 $(chosen) $(if $(LIMIT),limit=$(LIMIT)) $(ARGS); run=$$?; \
	[ $$run -le 1 ] || exit $$run; \
	$(REPORT) table1 $(chosen) limit=$(or $(LIMIT),full) && exit $$run

report: setup ## the tables again, from what has been measured
	@$(REPORT) table1 profile=$(PROFILE) results=$(RESULTS) $(if $(LIMIT),limit=$(LIMIT)) $(ARGS)

toy-data: setup ## draw the toy data sets (seconds; nothing happens if they are there)
	$(PYTHON) -m tasks.toy.generate

toy-model: setup ## train the toy model again from scratch (about an hour on 2 cores; resumes)
	$(PYTHON) -m scripts.train_toy $(ARGS)

lock: ## resolve requirements.lock anew
	uv pip compile -q pyproject.toml --extra eval --extra dev --universal --python-version 3.11 -P torch==2.13.0 -P torchvision==0.28.0 \
		--no-emit-index-url --no-annotate --no-header -o requirements.lock
