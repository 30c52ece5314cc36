# make demo: install, and train on a synthetic corpus.   make test: install, and run all tests and the examples in docstrings.
# make docs: the website.   make test-long: minutes of injected faults.   make check: lint, types and tests.
VENV := .venv
PYTHON := $(VENV)/bin/python
# The first interpreter that runs and has a version torchaudio is built for.
BASE := $(firstword $(foreach p,python3.12 python3.11 python3.10 python3 python,$(shell \
	$(p) -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $(p))))
RUN := checkpoints/demo/$(shell date +%Y%m%d-%H%M%S)

.PHONY: demo test test-long gpu docs audit lint types check clean

demo: $(VENV)/installed
	$(PYTHON) scripts/synthesize.py --root data/demo
	$(PYTHON) scripts/train.py --config configs/demo.yaml train.output=$(RUN)
	$(PYTHON) scripts/evaluate.py --checkpoint $(RUN)/best.safetensors
	@echo
	@echo "curves:      $(PYTHON) -m serx tensorboard checkpoints/demo"
	@echo "figures:     $(RUN)/confusion.png, speakers.png, calibration.png"
	@echo "your voice:  $(PYTHON) scripts/predict.py --checkpoint $(RUN)/best.safetensors FILE.wav"
	@echo "in a browser: $(PYTHON) -m pip install -e '.[demo]' && $(PYTHON) -m serx demo --checkpoint $(RUN)/best.safetensors"

test: $(VENV)/installed-test
	$(PYTHON) -m pytest -n 2 --dist worksteal

docs: $(VENV)/installed
	$(PYTHON) -m pip install -q -e '.[docs]'
	$(PYTHON) -m sphinx -W -b html docs docs/_build/html

test-long: $(VENV)/installed-test
	$(PYTHON) -m tests.reliability.figures

# Tests on this machine's GPU, then benchmarks/gpu.md; without a GPU one line that says so.
gpu: $(VENV)/installed-test
	$(PYTHON) scripts/gpu.py

# Checks every installed dependency; --strict fails if one cannot be looked up.
audit: $(VENV)/installed-test
	$(PYTHON) -m pip install -q -e '.[audit]'
	$(PYTHON) -m bandit -q -c pyproject.toml -r serx scripts
	$(PYTHON) -m pip freeze --exclude-editable > $(VENV)/frozen.txt
	$(PYTHON) -m pip_audit --strict --no-deps --disable-pip --progress-spinner off -r $(VENV)/frozen.txt

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/installed-test
	$(VENV)/bin/mypy

check: lint types test

$(VENV)/installed: setup.cfg pyproject.toml
	@test -n "$(BASE)" || { echo "error: no Python 3.10, 3.11 or 3.12 with venv was found; install one (Debian: apt install python3 python3-venv)"; exit 2; }
	test -x $(PYTHON) || $(BASE) -m venv $(VENV)
	$(PYTHON) -m pip install -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PYTHON) -m pip install -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) data/demo checkpoints/demo
