# Everything runs from .venv, which `make setup` builds from requirements.lock. Targets: `make help`; keys of a command:
# `.venv/bin/plphp COMMAND --help`; ARGS='key=value …' goes to it. TORCH_BACKEND: one of uv's (cu126, cu128, cpu, …), for
# machines whose driver is older than the registry's build needs; the backend chosen once stays chosen.
PROFILE ?= paper
RESULTS ?= results
FAMILY ?= llava_onevision
# Nothing unless given: LIMIT TASKS TABLE MODEL ENGINE PROTOCOL PROMPTS DRY ARGS CHECK TORCH_BACKEND
VENV := .venv
PYTHON := $(VENV)/bin/python
BACKEND := $(or $(TORCH_BACKEND),$(shell cat $(VENV)/.torch-backend 2>/dev/null))
STAMP := $(VENV)/.setup-stamp$(addprefix -,$(BACKEND))
# A value that may hold spaces or brackets, as one word of the shell; nothing for an empty one.
key = $(if $($(2)),'$(1)=$(subst ','\'',$($(2)))')
COMMON = $(call key,results,RESULTS) $(call key,model,MODEL) $(call key,tasks,TASKS) $(call key,limit,LIMIT)
COMMON += $(call key,protocol,PROTOCOL) $(call key,prompts,PROMPTS) $(call key,engine,ENGINE) $(if $(filter-out 0,$(DRY)),dry=true)
PYTEST := OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
DATA = setup $(if $(filter toy,$(PROFILE)),toy-data)
TABLES := $(foreach n,1 2 3 4 5,reproduce-table$(n)) $(foreach n,1 2 3 5 6 7 8,reproduce-figure$(n))
.DEFAULT_GOAL := help
.PHONY: help setup test test-all test-newest test-oldest smoke lint docs readme lock toy-data toy-model preflight report leaderboard compare compare-engines demo bench gpu-check reproduce $(TABLES)

help: ## this list
	@grep -hE '^[a-zA-Z0-9$$()-]+( [a-z-]+)*:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/; s/$$(TABLES)/reproduce-table1 …/' | expand -t 24
setup: $(STAMP) ## .venv from requirements.lock; TORCH_BACKEND=cu126 for an older driver
$(STAMP): requirements.lock pyproject.toml scripts/setup.sh
	@TORCH_BACKEND=$(BACKEND) bash scripts/setup.sh $(VENV)
	@rm -f $(VENV)/.setup-stamp* && touch $@
test test-all: setup toy-data ## the tests, without those marked slow; test-all: all of them
	$(subst python,$(PYTHON),$(PYTEST)) $(if $(filter test,$@),-m 'not slow') $(ARGS)
test-newest test-oldest: test-%: setup ## core, families, decoding, methods and tasks on the newest or oldest releases allowed
	@bash scripts/setup_releases.sh $* $(VENV)-$*
	$(VENV)-$*/bin/python -m tasks.toy.generate
	$(subst python,$(VENV)-$*/bin/python,$(PYTEST)) tests/pruning tests/decoding tests/vision tests/families tests/baselines tests/bench tests/tasks $(ARGS)
lint: ## ruff and mypy, in a small environment of their own
	@bash scripts/setup_small.sh $(VENV) lint
	$(VENV)-lint/bin/ruff check . && $(VENV)-lint/bin/ruff format --check . && $(VENV)-lint/bin/mypy
docs: ## the documents as a site: open site/index.html
	@bash scripts/setup_small.sh $(VENV) docs && NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict
readme: setup toy-data ## write the numbers and pictures of the documents from results/toy; CHECK=1: only compare
	@$(PYTHON) -m scripts.readme $(if $(CHECK),--check) --results $(RESULTS)
smoke: ## Table 1 on the toy profile: trained toy model, drawn data, no GPU, no network
	$(MAKE) --no-print-directory reproduce-table1 PROFILE=toy
reproduce: $(DATA) ## every table and figure, no cell twice; PROFILE=paper|toy LIMIT=n MODEL=… RESULTS=folder; DRY=1: only the plan
	@$(PYTHON) -m scripts.reproduce table=all profile=$(PROFILE) $(COMMON) $(ARGS)
$(TABLES): reproduce-%: $(DATA) ## one of them: reproduce-table1 … 5, reproduce-figure1, 2, 3, 5 … 8; TASKS=[sd,vst] too
	@$(PYTHON) -m scripts.reproduce table=$* profile=$(PROFILE) $(COMMON) $(ARGS)
compare: $(DATA) ## methods at the same measured cost; TABLE=llava15|kvbudget TASKS=[ie] ARGS='table.budgets=[0.2,0.5]'
	@$(PYTHON) -m scripts.reproduce table=$(or $(TABLE),compare) profile=$(PROFILE) $(COMMON) $(ARGS)
compare-engines: $(DATA) ## do generate and fast answer alike? as Table 1
	@$(PYTHON) -m scripts.reproduce table=engines profile=$(PROFILE) $(COMMON) $(ARGS)
report: setup ## the tables again, from what has been measured
	@$(PYTHON) -m scripts.report table=all profile=$(PROFILE) $(COMMON) $(ARGS)
leaderboard: setup ## results folders, also other people's, as one page; RESULTS=[a,b]
	@$(PYTHON) -m scripts.leaderboard profile=$(PROFILE) $(COMMON) $(ARGS)
preflight: $(DATA) ## would a run work? ARGS=weights=false
	@$(PYTHON) -m scripts.preflight profile=$(PROFILE) $(COMMON) $(ARGS)
demo: setup ## the methods side by side in a browser, on 127.0.0.1; PROFILE=toy (its default)|paper ARGS=demo.port=7861
	@$(PYTHON) -m scripts.demo $(if $(filter-out file,$(origin PROFILE)),profile=$(PROFILE)) $(COMMON) $(ARGS)
bench: setup ## decoding beside its roofline; ARGS=bench=gpu, bench=memory, bench=sharing, bench=scores; docs/performance.md
	@$(PYTHON) -m scripts.bench $(call key,results,RESULTS) $(ARGS)
gpu-check: setup ## what only a GPU can show, in 8 minutes, nothing downloaded; ARGS="--minutes 5 --parts kernels"
	@$(PYTHON) scripts/gpu_check.py --out $(RESULTS)/gpu $(ARGS)
toy-data: setup ## draw the toy data sets (seconds; nothing happens if they are there)
	$(PYTHON) -m tasks.toy.generate
toy-model: setup ## train a toy model again; FAMILY=llava_onevision (two hours on 2 cores)|llava_1_5|qwen2_vl|idefics2|mantis; resumes
	$(PYTHON) -m scripts.train_toy --family $(FAMILY) $(ARGS)
lock: ## resolve requirements.lock anew, with the newest torch, torchvision and transformers that are allowed, and that of docs
	uv pip compile -q --group docs --python-version 3.11 --universal --no-emit-index-url --no-annotate --no-header -o requirements-docs.lock
	uv pip compile -q pyproject.toml --extra eval --extra dev --universal --python-version 3.11 $(addprefix -P ,torch torchvision transformers) --no-emit-index-url --no-annotate --no-header -o requirements.lock
