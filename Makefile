# Every target sets up what it needs; `make` alone lists them.
PYTHON ?= python3
# e.g. make reproduce-all SCALE=smoke ARGS="seed=[0,1]"
SCALE ?=
ARGS ?=
# of one paper (a folder of src/repro/papers) or of one experiment alone, or of several: PAPER=a,b
PAPER ?=
EXPERIMENT ?=
# RECORDS=reference: figures and report of the records in results/reference/cpu instead of your own
RECORDS ?=
# joblib, submitit or ray: spreads reproduce-all over workers
LAUNCHER ?=

# Start-up is several times slower where no compiled modules may be kept.
unexport PYTHONDONTWRITEBYTECODE
# What a shell says of other Pythons, and of where packages go, does not matter here; which index to use does.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE PYTHONPLATLIBDIR VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_REQUIRE_VIRTUALENV PIP_NO_DEPS PIP_DRY_RUN PIP_REPORT
unexport UV_PYTHON UV_SYSTEM_PYTHON UV_BREAK_SYSTEM_PACKAGES UV_PROJECT UV_PROJECT_ENVIRONMENT UV_WORKING_DIRECTORY

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
RAY := $(VENV)/.ray
CHOSEN = $(if $(PAPER),paper=$(PAPER)) $(if $(EXPERIMENT),experiment=$(EXPERIMENT))
OVERRIDES = $(CHOSEN) $(if $(SCALE),scale=$(SCALE)) $(ARGS)
SHOWN = $(if $(filter reference,$(RECORDS)),$(CHOSEN) results=results/reference/$(or $(SCALE),cpu) scale=$(or $(SCALE),cpu) $(ARGS),$(OVERRIDES))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-ray reproduce-all figures report compare test chaos gpu lint bench lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-22s %s\n", $$1, $$2 }'
	@echo '  LAUNCHER=joblib|submitit|ray spreads reproduce-all over workers'
	@echo '  SCALE=smoke|cpu|gpu and ARGS="key=value ..." go to the experiments; PYTHON=... chooses the interpreter'
	@echo '  PAPER=structured_dropout or EXPERIMENT=rank_collapse: that alone, of reproduce-all, figures, report, compare'
	@echo '  RECORDS=reference shows the records that come with the code: make figures, make report'

setup: $(STAMP) ## make .venv from the locked, hash-checked requirements; skipped when current

setup-ray: $(RAY) ## add Ray, for LAUNCHER=ray

reproduce-all: $(STAMP) $(if $(filter ray,$(LAUNCHER)),$(RAY)) ## run every experiment that is not recorded yet, draw all figures, judge all claims
	@set -f; $(BIN)/python scripts/reproduce_all.py $(OVERRIDES) $(if $(LAUNCHER),hydra/launcher=$(LAUNCHER))

figures: $(STAMP) ## draw every figure from the records, without training
	@set -f; $(BIN)/python scripts/figures.py $(SHOWN)

report: $(STAMP) ## judge every claim on the records and write the report, without training
	@set -f; $(BIN)/python scripts/report.py $(SHOWN)

compare: $(STAMP) ## set your records beside the reference ones
	@set -f; $(BIN)/python scripts/compare.py $(OVERRIDES)

test: $(STAMP) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: $(STAMP) ## reproduce-all killed, and its files damaged, over and over; ten minutes
	OMP_NUM_THREADS=1 $(BIN)/python tests/chaos/chaos.py $(ARGS)

gpu: $(STAMP) ## on a machine with an NVIDIA GPU: its tests, benchmarks and scale=gpu, 25 minutes a call
	@set -f; $(BIN)/python scripts/gpu.py $(ARGS)

lint: $(STAMP) ## check style, formatting, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(STAMP) ## run the benchmarks (fourteen minutes), draw results/bench/*.{pdf,png}
	@set -e; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file"; done
	@PYTHONPATH=benchmarks $(BIN)/python benchmarks/support/plot.py

lock: $(STAMP) ## choose the newest versions that pyproject.toml allows and write the lock files
	$(BIN)/uv pip compile --upgrade $(COMPILE) $(EXTRAS) pyproject.toml -o requirements.lock
	echo ray | $(BIN)/uv pip compile --upgrade $(COMPILE) -c requirements.lock - -o requirements-ray.lock
	echo uv | $(BIN)/uv pip compile --upgrade $(COMPILE) - -o requirements-bootstrap.lock

clean: ## remove .venv and caches; results stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis src/*.egg-info
	find src scripts tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# All but Ray's
EXTRAS := $(addprefix --extra ,run dev bench peers joblib submitit optuna)
COMPILE := --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

# A copied or moved checkout has the scripts and the code of the place that it was set up in: the stamp says which.
ifneq ($(shell [ ! -e $(STAMP) ] || [ "$$(cat $(STAMP))" = "$$(pwd -P)" ] || echo moved),)
.PHONY: $(STAMP)
endif

# A set-up that was cut short leaves .incomplete behind and is begun anew; so is one whose Python is gone, or that was moved.
$(STAMP): requirements.lock requirements-bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is not: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.x" >&2; exit 1; }
	@if [ -e $(VENV)/.incomplete ] || { [ -e $@ ] && [ "$$(cat $@)" != "$$(pwd -P)" ]; } || ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then rm -rf $(VENV); fi
	@mkdir -p $(VENV) && touch $(VENV)/.incomplete
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock -d $(VENV)/bootstrap
	@PIP_CONFIG_FILE=/dev/null $(BIN)/python -m pip --isolated install --quiet --disable-pip-version-check --no-index \
	  --find-links $(VENV)/bootstrap --require-hashes -r requirements-bootstrap.lock
	$(BIN)/uv pip sync --python $(BIN)/python --require-hashes requirements.lock requirements-bootstrap.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@rm -rf $(VENV)/.incomplete $(VENV)/bootstrap $(RAY) && pwd -P > $@

$(RAY): $(STAMP) requirements-ray.lock
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements-ray.lock
	@touch $@
