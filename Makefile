# Everything runs from .venv, which `make setup` builds from requirements.lock. See `make help`.

PROFILE ?= paper
LIMIT ?=
# Of `reproduce`: only the plan.
DRY ?=
PROTOCOL ?= lmms_eval
# How prompts are made, lmms_eval or plain; empty: as goes with the protocol.
PROMPTS ?=
RESULTS ?= results
ARGS ?=
# What decodes, generate or fast.
ENGINE ?= generate
# Of the targets whose help names them; empty: their own.
MODEL ?=
TASKS ?=
CUT ?=
DOC ?=
LAYER ?=
IMAGE ?=
CASES ?=
DOCS ?=
FAMILY ?= llava_onevision
# One of uv's torch backends (cu126, cu128, cpu, …) for machines whose driver is older than the registry's build needs.
TORCH_BACKEND ?=

VENV := .venv
PYTHON := $(VENV)/bin/python
# The backend chosen once stays chosen; another one installs torch again.
BACKEND := $(or $(TORCH_BACKEND),$(shell cat $(VENV)/.torch-backend 2>/dev/null))
STAMP := $(VENV)/.setup-stamp$(addprefix -,$(BACKEND))
RUN = $(PYTHON) -m scripts.run
REPORT = $(PYTHON) -m scripts.report
# What may hold spaces or brackets, as one word of the shell.
quoted = '$(subst ','\'',$(1))'
results = $(call quoted,results=$(RESULTS))
tasks = $(if $(TASKS),$(call quoted,tasks=$(TASKS)))
models = $(if $(MODEL),model=$(MODEL))
setting = profile=$(PROFILE) protocol=$(PROTOCOL) $(results) $(if $(PROMPTS),prompts=$(PROMPTS))
chosen = $(setting) engine=$(ENGINE)
# Tables and figures about one model, on benchmarks that can be chosen.
FLEXIBLE := table2 table4 table5 figure5 figure6 figure7 figure8
# Where models look: read for Figures 1 and 2, which share it, and one sample in full for Figure 3.
ATTEND = $(PYTHON) -m scripts.attend $(setting) $(models)
LOOK = $(ATTEND) attention.look=true $(if $(DOC),attention.doc=$(DOC)) $(if $(MODEL),,model=llava_onevision) $(or $(tasks),tasks=[detailcaps])
numerics = $(filter device=% dtype=% attn_implementation=%,$(ARGS))
cases = $(if $(CASES),cases=$(CASES)) $(if $(DOCS),docs=$(DOCS))
one = $(if $(filter $*,$(FLEXIBLE)),$(models) $(tasks))

.DEFAULT_GOAL := help
.PHONY: help demo bench gpu-check setup test test-newest test-oldest smoke lint lock toy-data toy-model preflight report compare-engines \
	reproduce reproduce-table1 reproduce-table3 $(FLEXIBLE:%=reproduce-%) \
	reproduce-figure1 reproduce-figure2 reproduce-figure3

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: $(STAMP) ## .venv from requirements.lock; TORCH_BACKEND=cu126 for an older driver

$(STAMP): requirements.lock pyproject.toml scripts/setup.sh
	@TORCH_BACKEND=$(BACKEND) bash scripts/setup.sh $(VENV)
	@rm -f $(VENV)/.setup-stamp* && touch $@

test: setup toy-data ## the whole test suite
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-newest: setup ## core, families, decoding, methods and tasks on the newest torch, torchvision, transformers that are allowed
test-oldest: setup ## the same on the oldest
test-newest test-oldest: test-%:
	@bash scripts/setup_releases.sh $* $(VENV)-$*
	$(VENV)-$*/bin/python -m tasks.toy.generate
	OMP_NUM_THREADS=1 $(VENV)-$*/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		tests/core tests/families tests/baselines tests/bench tests/tasks $(ARGS)

lint: setup ## ruff
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

smoke: ## Table 1 on the toy profile: trained toy model, drawn data, no GPU, no network
	$(MAKE) --no-print-directory reproduce-table1 PROFILE=toy

reproduce-table1: ## Table 1; PROFILE=paper|toy LIMIT=n PROTOCOL=lmms_eval|llava RESULTS=folder
reproduce-table2: ## Table 2, α × β; as Table 1, and MODEL=… TASKS=[sd,vst] for other benchmarks than the four of Figure 6
reproduce-table3: ## Table 3; as Table 1, and ARGS='model=mantis' for one model, ARGS='table.skip=[]' for all benchmarks
reproduce-table4: ## Table 4, costs of the methods on DetailCaps; as Table 1, and ENGINE=generate|fast MODEL=… TASKS=vst
reproduce-table5: ## Table 5, costs at several r; as Table 4
reproduce-figure5: ## Figure 5, vision kept against score; as Table 2, and shares all runs with Table 1
reproduce-figure6: ## Figure 6, r × Δr; as Table 2
reproduce-figure7: ## Figure 7, costs sample by sample; as Table 4, with which it shares its runs
reproduce-figure8: ## Figure 8, the same chats under each method; as Table 2, and CASES=2 of each benchmark, or DOCS=sd:12,vst:3; shares its runs with Table 1

reproduce-table1 reproduce-table3 $(FLEXIBLE:%=reproduce-%): reproduce-%: setup $(if $(filter toy,$(PROFILE)),toy-data)
	@# Exit status 1 means that samples, cells or a model failed: the table is written all the same and says which.
	@$(RUN) table=$* $(chosen) $(one) $(if $(LIMIT),limit=$(LIMIT)) $(ARGS); run=$$?; \
	[ $$run -le 1 ] || exit $$run; \
	$(REPORT) $* $(chosen) $(one) limit=$(or $(LIMIT),full) $(if $(filter figure8,$*),$(cases)) && exit $$run

reproduce-figure1: ## Figure 1, attention to vision per layer and its peaks; PROFILE LIMIT=n MODEL=… TASKS=[sd,vst] RESULTS
reproduce-figure2: ## Figure 2, attention to five groups of an image's tokens; as Figure 1, whose readings it shares, and CUT=centre|order

reproduce-figure1 reproduce-figure2: reproduce-%: setup $(if $(filter toy,$(PROFILE)),toy-data)
	@$(ATTEND) $(or $(tasks),tasks=table1) $(if $(LIMIT),limit=$(LIMIT)) $(ARGS); run=$$?; \
	[ $$run -le 1 ] || exit $$run; \
	$(REPORT) $* profile=$(PROFILE) $(results) protocol=$(PROTOCOL) $(if $(PROMPTS),prompts=$(PROMPTS)) \
	$(if $(MODEL),models=$(MODEL)) $(tasks) $(if $(LIMIT),limit=$(LIMIT)) \
	$(if $(filter figure2,$*),$(if $(CUT),cut=$(CUT))) && exit $$run

reproduce-figure3: setup $(if $(filter toy,$(PROFILE)),toy-data) ## Figure 3, where heads look and what they keep; MODEL=… TASKS=[sd] DOC=7 LAYER=5 IMAGE=2
	@$(LOOK) $(ARGS) && $(REPORT) figure3 profile=$(PROFILE) $(results) $(models) \
	$(tasks) $(if $(DOC),doc=$(DOC)) $(if $(LAYER),layer=$(LAYER)) $(if $(IMAGE),image=$(IMAGE))

reproduce: setup $(if $(filter toy,$(PROFILE)),toy-data) ## every table and figure, no cell twice; DRY=1 only shows the plan; as Table 1, and MODEL=…
	@$(RUN) table=all $(chosen) $(models) $(if $(LIMIT),limit=$(LIMIT)) $(if $(filter-out 0,$(DRY)),dry=true) $(ARGS); run=$$?; \
	[ $$run -le 1 ] || exit $$run; \
	$(ATTEND) tasks=table1 $(if $(LIMIT),limit=$(LIMIT)) $(if $(filter-out 0,$(DRY)),dry=true) $(numerics) || run=1; \
	$(if $(filter-out 0,$(DRY)),exit $$run;) $(LOOK) $(numerics) || run=1; \
	$(REPORT) all $(chosen) $(models) limit=$(or $(LIMIT),full) && exit $$run

compare-engines: setup $(if $(filter toy,$(PROFILE)),toy-data) ## do generate and fast answer alike? as Table 1, and MODEL=… ARGS=dtype=bfloat16
	@failed=0; for engine in generate fast; do \
	$(RUN) table=table1 $(setting) $(models) engine=$$engine $(if $(LIMIT),limit=$(LIMIT)) $(ARGS); run=$$?; \
	[ $$run -le 1 ] || exit $$run; [ $$run -eq 0 ] || failed=$$run; done; \
	$(REPORT) engines $(setting) $(models) limit=$(or $(LIMIT),full) $(filter dtype=% attn_implementation=%,$(ARGS)) && exit $$failed

report: setup ## the tables again, from what has been measured
	@# Protocol and engine only if they are given here: otherwise they are those there are results of.
	@$(REPORT) all profile=$(PROFILE) $(results) $(if $(filter-out file,$(origin PROTOCOL)),protocol=$(PROTOCOL)) \
	$(if $(filter-out file,$(origin ENGINE)),engine=$(ENGINE)) \
	$(if $(PROMPTS),prompts=$(PROMPTS)) $(if $(LIMIT),limit=$(LIMIT)) $(ARGS)

preflight: setup $(if $(filter toy,$(PROFILE)),toy-data) ## would a run work? MODEL=llava_onevision PROFILE=paper|toy TASKS=[sd,mv] ARGS="weights=false"
	@$(PYTHON) -m scripts.preflight $(chosen) $(models) $(tasks) $(ARGS)

demo: setup ## the methods side by side in a browser, on 127.0.0.1; PROFILE=toy (its default)|paper MODEL=… ARGS="port=7861"
	@$(PYTHON) -m scripts.demo $(if $(filter-out file,$(origin PROFILE)),profile=$(PROFILE)) $(models) $(ARGS)

bench: setup ## decoding beside its roofline; ARGS="bench=gpu", "bench=memory", "bench=sharing"; see docs/performance.md
	@$(PYTHON) -m scripts.bench $(results) $(ARGS)

gpu-check: setup ## what only a GPU can show, in 8 minutes, nothing downloaded; ARGS="--minutes 5 --parts kernels"; docs/performance.md
	@$(PYTHON) scripts/gpu_check.py --out $(RESULTS)/gpu $(ARGS)

toy-data: setup ## draw the toy data sets (seconds; nothing happens if they are there)
	$(PYTHON) -m tasks.toy.generate

toy-model: setup ## train a toy model again; FAMILY=llava_onevision (an hour on 2 cores)|qwen2_vl|idefics2|mantis; resumes
	$(PYTHON) -m scripts.train_toy --family $(FAMILY) $(ARGS)

lock: ## resolve requirements.lock anew, with the newest torch, torchvision and transformers that are allowed
	uv pip compile -q pyproject.toml --extra eval --extra dev --universal --python-version 3.11 -P torch -P torchvision -P transformers \
		--no-emit-index-url --no-annotate --no-header -o requirements.lock
