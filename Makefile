# On a bare machine: `make demo` shows what fastcifar does, `make test` checks that it does it.
# Both install into .venv first, once, what they need: tools/install.py says what is optional and what was left out.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DEVELOPING := .venv/developing
OUT ?= build/gpu-check
DATA ?= data/cifar10

.DEFAULT_GOAL := help
.PHONY: help demo test quick lint types tests wheel gallery gallery-report gpu-check install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## time the input pipelines, train on handwritten digits with three seeds, show the results
	$(BIN)/fastcifar demo

test: lint types tests ## everything CI checks: lint, types, tests

quick: $(DEVELOPING) ## while working: ruff and the tests of less than two seconds, in about a minute
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not whole and not gpu"

lint: $(DEVELOPING) ## ruff: faults and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEVELOPING) ## mypy, strict
	$(BIN)/python tools/typing_tree.py
	$(BIN)/mypy

tests: $(DEVELOPING) ## pytest, warnings as errors
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

wheel: $(DEVELOPING) ## build the wheel and the source distribution into dist/
	$(BIN)/python -m build --no-isolation --outdir dist

gallery: $(INSTALLED) ## days, in the background: train the gallery's runs on DATA and keep their records
	$(BIN)/python tools/gallery.py --data $(DATA)

gallery-report: $(INSTALLED) ## make report.md and the figures of docs/gallery again, from the runs recorded there
	$(BIN)/fastcifar runs --out docs/gallery/runs --seal
	$(BIN)/fastcifar report --runs docs/gallery/runs --out build/gallery
	rm -f docs/gallery/figure-*.png
	cp build/gallery/report.md build/gallery/*.png docs/gallery

gpu-check: ## on a CUDA device, five minutes a call: what only it can show, into OUT; nothing is installed
	$(PYTHON) tools/gpu_check.py --out $(OUT) $(if $(RESUME),--resume $(RESUME)) $(if $(COMMIT),--commit $(COMMIT)) $(ARGS)

install: ## install into .venv what the demo needs, trying again what was left out before
	$(PYTHON) tools/install.py

clean: ## remove what was built, not .venv, data/ or runs/
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(INSTALLED): setup.py tools/install.py tools/parts.py
	$(PYTHON) tools/install.py

$(DEVELOPING): $(INSTALLED)
	$(PYTHON) tools/install.py --developing
