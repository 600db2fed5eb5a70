# The environment is .venv in this folder; every target makes it if need be.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test slow check inputs promises gpu soak soak-faults soak-inputs docs wheel compatibility clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[train,dev,viz,export]"
	touch $@

# Trains on procedural chairs, scores chairs that it never saw, and draws some of them.
demo: $(READY)
	rm -rf runs/demo
	$(BIN)/pcsa train supervised demo --out runs/demo
	$(BIN)/pcsa evaluate runs/demo/last.ckpt --split test --pictures 6

# All tests but those that take five seconds or more of one core; those are `make slow`.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

slow: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow --durations 20

# Slower: style, types, the examples in the docstrings, and the shapes in the annotations.
check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --doctest-modules pcsa
	$(BIN)/python -m pytest --jaxtyping-packages=pcsa,beartype.beartype -k "not bad_input and not broken_rule and not compil and not refuse and not numpy_s" \
		tests/test_sampling.py tests/test_bandwidth.py tests/test_localization.py tests/losses \
		tests/test_skeleton.py tests/metrics tests/grid

# Measures again every figure that was promised: about eight minutes on two idle cores. Times never fail it.
promises: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pcsa.scripts.promises $(OPTIONS)

# Does harm to everything that writes, and to everything that reads, for hours: tables of what was lost, and of memory.
# `make soak-faults OPTIONS=--short` takes four minutes; `tests/faults/soak.py --help` lists the options.
soak: soak-faults
	$(MAKE) soak-inputs

soak-faults: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/soak.py $(OPTIONS)

# Measures on a machine with a card what is counted or estimated elsewhere: at most eight minutes, no network. Where there
# is no .venv it takes $(PYTHON), which must have a torch for CUDA and what constraints.txt pins.
gpu:
	PYTHONPATH="$$PWD$${PYTHONPATH:+:$$PYTHONPATH}" $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m pcsa.scripts.gpu $(OPTIONS)

# What guides the fuzzing by coverage is not in the environment that the tests wait for.
.venv/.soak: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[soak]"
	touch $@

# Reads a million changed files by every reader, a fifth of them guided by coverage, which is slower: at most four hours
# of one core. Another SEED makes others.
SEED ?= 1
soak-inputs: .venv/.soak
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/fuzz.py --coverage --inputs 200000 --seconds 7200 --seed $(SEED) $(OPTIONS)
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/fuzz.py --inputs 800000 --seconds 7200 --seed $(SEED) $(OPTIONS)

# The same with random changes, ten thousand: a minute and a half of one core.
inputs: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/fuzz.py --inputs 10000 $(OPTIONS)

# What builds the documentation is not in the environment that the tests wait for.
.venv/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

# The documentation, as pages that need no server and no network: site/index.html. A warning is an error.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo 'built: site/index.html'

# Builds the wheel and imports every sub-package from it, in an environment that has nothing else.
wheel: $(READY)
	rm -rf build dist .wheel
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv .wheel
	.wheel/bin/python -m pip install --quiet --constraint constraints.txt "$$(echo dist/pcsa-*.whl)[train]"
	cd .wheel && bin/python -P ../tests/import_everything.py ..
	rm -rf build .wheel

# Installs the wheel beside the oldest and the newest of what it needs and tries it there: gigabytes, and an hour of one core.
# The environments stay in .compatibility, so that a call that was stopped goes on; remove the folder to start anew.
compatibility: $(READY)
	$(BIN)/python tests/compatibility/table.py --out docs/compatibility.md $(OPTIONS)

clean:
	rm -rf .venv .wheel .compatibility build dist runs site
