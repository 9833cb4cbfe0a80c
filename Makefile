# make help lists the targets. Everything lives in .venv; nothing is installed outside this folder.

STUDY ?= organism
SEEDS ?=
THREADS ?=
PROFILE ?= local
CORES ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
PIP_ARGS ?=
READY = .venv/.ready
RUN = .venv/bin/python -m
PIP = .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off

export OMP_NUM_THREADS = 1
export SUBSPACES_THREADS = $(THREADS)
export STUDY SEEDS CORES PROFILE PRICE
export BASE ALIGNED TUNED PROMPTS CARD TASK EDIT OUT
export TOKENIZERS_PARALLELISM = false
unexport PYTHONDONTWRITEBYTECODE  # else every notebook would compile the packages anew

.PHONY: help env plan book pdf bench-methods card card-write test soak lab bench coverage publish audit clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@echo "make book  [STUDY=organism] [SEEDS=0,1] [CORES=2] [PROFILE=local]  run a study and build its report in _build/html"
	@echo "           SEEDS=published shows the published tables of a study, without running it"
	@echo "make pdf   print that report as one PDF, _build/report.pdf (needs a Chromium)"
	@echo "make plan  [STUDY=organism] [SEEDS=0,1] [PRICE='in out']  say what a study fetches, needs and takes here"
	@echo "make bench-methods [STUDY=organism]  every defence and attack of the field, and its null, on that study's models"
	@echo "make card  BASE=… ALIGNED=… TUNED='name=…' [PROMPTS=48]  one page on a fine-tune of yours: folders, or id@commit"
	@echo "make card-write CARD=… TASK=… EDIT=orthogonal:0.5 OUT=…  write the model of a defence that a card measured"
	@echo "make test  run every kind of test (needs or gets a Chromium and, as root, SLURM); make soak: the repeats"
	@echo "make lab   open the notebooks in JupyterLab; outputs are kept in lab/, out of git"
	@echo "make bench time the weight-space engine against the method as released, and how long one waits"
	@echo "make coverage simulate how often the intervals cover the truth, about 2 minutes"
	@echo "make publish STUDY=…  copy a study's tables to published/, for reports where it has not been run"
	@echo "make env   just the environment, .venv"
	@echo "make audit ask for known vulnerabilities of the pinned packages, where there is a network"
	@echo "make clean remove the report, the results and the environment"
	@echo "profiles:  $(notdir $(patsubst %/,%,$(wildcard profiles/*/)))"
	@echo "subspaces: $$(sed -n 's/^@subspace("\([^"]*\)".*/\1/p' src/helpers/methods/*.py | xargs)"
	@echo "edits:     $$(sed -n 's/^@edit("\([^"]*\)".*/\1/p' src/helpers/methods/*.py | xargs)"
	@echo "training:  $$(sed -n 's/^@training("\([^"]*\)".*/\1/p' src/helpers/methods/*.py | xargs)"
	@echo "judges:    $$(sed -n 's/^@judge("\([^"]*\)".*/\1/p' src/helpers/evaluation/judges/*.py | xargs)"
	@echo "studies:   $(basename $(notdir $(wildcard studies/*.yml)))"

env: $(READY)  ## create .venv with the pinned packages

$(READY): requirements.txt constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed: install it or name it with PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "installing the pinned packages, about 3 minutes: 2 GB with a torch for processors, 6 GB with the index's for GPUs"
	@{ $(PIP) $(PIP_ARGS) -r requirements.txt -c constraints.txt; echo $$? >.venv/.status; } | awk ' \
		/^Collecting/ { n += 1; if (n % 40 == 0) { print n " packages found"; fflush() } } \
		/^Installing collected/ { print n " packages found; unpacking them, which takes the longest"; fflush() }'
	@exit $$(cat .venv/.status)
	@$(PIP) --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)

book: $(READY)  ## run a study and build the report
	@$(RUN) pipeline.build "$$STUDY" --seeds "$$SEEDS" --cores "$$CORES" --profile "$$PROFILE"

bench-methods: $(READY)  ## run a study, then measure the methods of the field on its models
	@$(RUN) pipeline.build "$$STUDY" --seeds "$$SEEDS" --cores "$$CORES" --profile "$$PROFILE"
	@$(RUN) pipeline.build "$$STUDY-bench" --seeds "$$SEEDS" --cores "$$CORES" --profile "$$PROFILE"

pdf: $(READY)  ## print the report as one PDF
	@$(RUN) pipeline.report.pdf

plan: $(READY)  ## say what a study will fetch, need and take, before anything is fetched
	@$(RUN) pipeline.plan.plan "$$STUDY" --seeds "$$SEEDS" --cores "$$CORES" $(if $(PRICE),--price $$PRICE)

card: $(READY)  ## one page on fine-tunes of yours, without a study file; glibc gives back what matrices took
	@MALLOC_MMAP_THRESHOLD_=1048576 $(RUN) pipeline.card --base "$$BASE" --aligned "$$ALIGNED" --tuned "$$TUNED" --prompts "$${PROMPTS:-0}"

card-write: $(READY)  ## write the model, or the adapter, of a defence that a card measured
	@MALLOC_MMAP_THRESHOLD_=1048576 $(RUN) pipeline.card write "$$CARD" "$$TASK" "$$EDIT" "$$OUT"

test: $(READY)  ## every kind of test
	.venv/bin/python tests/browser.py --install
	.venv/bin/python tests/slurm_cluster.py --install
	.venv/bin/lint-imports --no-cache
	$(RUN) pytest -n 2 --dist loadscope --no-loadscope-reorder

soak: $(READY)  ## the repeats: kills, fuzz by the thousand, every study of the paper
	.venv/bin/python tests/browser.py --install
	.venv/bin/python tests/slurm_cluster.py --install
	$(RUN) pytest -n 2 --dist loadscope --no-loadscope-reorder -m soak

lab: $(READY)  ## open the notebooks in JupyterLab; what it saves with outputs goes to lab/
	@$(RUN) jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks \
		--ContentsManager.pre_save_hook=pipeline.runs.lab.save

bench: $(READY)  ## time the engine against the method as released, and the waiting
	$(RUN) benchmarks.weight_space
	$(RUN) benchmarks.grid
	$(RUN) benchmarks.waiting

coverage: $(READY)  ## simulate how often the intervals cover the truth
	$(RUN) benchmarks.coverage

publish: $(READY)  ## copy a study's tables, without weights and texts, to published/
	@$(RUN) pipeline.publish "$$STUDY" --seeds "$$SEEDS"

audit: $(READY)  ## ask for known vulnerabilities of the pinned packages
	@$(PYTHON) -m venv .cache/audit && .cache/audit/bin/python -m pip install -q --disable-pip-version-check pip-audit==2.10.1 && \
		.cache/audit/bin/python -m pip_audit -r constraints.txt --no-deps --disable-pip --progress-spinner off || \
		{ echo "error: there are known vulnerabilities (see above), or their list cannot be reached: run it where there is a network" >&2; exit 1; }

clean:  ## remove everything that the other targets made
	rm -rf _build results lab .cache .snakemake .venv .pytest_cache .hypothesis .ruff_cache src/*.egg-info
