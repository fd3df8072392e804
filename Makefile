# setup, demo, test, check, bench, fuzz, sanitize. Needs Python 3.11 or newer, make and a C compiler; the rest goes to .venv.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
PYTEST_ARGS ?= -q -n 2
DEMO_ARGS ?=
BENCH_ARGS ?=
FUZZ_SECONDS ?= 1800

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Inside build/: an editable install is dead without that folder, so the stamp must go with it.
INSTALLED := build/.installed
BUILD_FILES := pyproject.toml $(wildcard meson.build drivers/meson.build drivers/*/meson.build)

# Public models are optional: those that TEFLON_MODELS names, else those beside the checkout.
WITH_MODELS := TEFLON_MODELS="$${TEFLON_MODELS:-$(abspath $(wildcard ../shared/models))}"

.PHONY: setup demo test check bench fuzz sanitize

setup: $(INSTALLED)

$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found (name one: make PYTHON=/path/to/python3)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(INSTALLED): $(VENV)/pyvenv.cfg $(BUILD_FILES)
	python -m pip install -q meson-python meson ninja
	python -m pip install -q --no-build-isolation -e '.[dev]'
	@mkdir -p $(@D) && touch $@

demo: setup
	@$(WITH_MODELS) python -P examples/demo.py $(DEMO_ARGS)

check: setup
	ruff format --check
	ruff check
	mypy

test: check
	python -P ci/leaves_nothing.py python -P -m pytest $(PYTEST_ARGS)

bench: setup
	@$(WITH_MODELS) python benchmarks/run_all.py $(BENCH_ARGS)

# Damaged inputs of every kind, for FUZZ_SECONDS each; the next run goes on where this one ends.
fuzz: setup
	@mkdir -p out/fuzz; for kind in programs teflon_files cache_entries recordings ir_text; do \
		python -m tests.fuzz.$$kind --count 1000000000 --seconds $(FUZZ_SECONDS) \
			--state out/fuzz/$$kind.json || exit 1; done

sanitize: setup
	bash ci/sanitize.sh
