# make help lists the targets. PAIR, BACKEND, PROMPT, SEED and OUT can be set: make run PROMPT="a large red ring ..."
PYTHON  ?= python3
PAIR    ?= demo
BACKEND ?= onnxruntime
PROMPT  ?= a large dotted yellow square above a large striped orange circle on a sky background
SEED    ?= 5
OUT     ?= out
VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready

# A prompt may hold quotes, backticks and dollars: it reaches the command through the environment, untouched.
override PROMPT := $(value PROMPT)
export PROMPT

.DEFAULT_GOAL := help
.PHONY: help setup engines run cpp triton-server train test test-slow test-ray bench bench-check lock audit lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv with everything that is needed (does nothing the second time)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

engines: $(READY)  ## build the engines of PAIR (demo) for BACKEND (onnxruntime): what changed, and nothing else
	$(BIN)/hybridstitch-trt build --pair "$(PAIR)" --backend $(BACKEND)

run: engines  ## draw PROMPT with SEED into OUT (out/): the picture, its mask, and where the time went
	@mkdir -p "$(OUT)"
	$(BIN)/hybridstitch-trt run --pair "$(PAIR)" --backend $(BACKEND) --prompt "$$PROMPT" --seed $(SEED) --save-mask --out "$(OUT)"

cpp: $(READY)  ## build the C++ library and its example server in build/cpp (needs cmake, a compiler, cpp-httplib)
	cmake -S serving/cpp -B build/cpp -DHYBRIDSTITCH_EXAMPLE=ON -DPython3_EXECUTABLE="$(CURDIR)/$(BIN)/python"
	cmake --build build/cpp

serve: engines  ## draw over HTTP: a page and OpenAI's images API on http://127.0.0.1:8000
	$(BIN)/hybridstitch-trt serve --pair "$(PAIR)" --backend $(BACKEND)

triton-server: $(READY)  ## a Triton server for the tests, in build/triton (60 MB from the package index)
	test -e build/triton/model/ready || tests/serving/triton/install_server.sh "$(CURDIR)/$(BIN)/python" "$(CURDIR)/build/triton"

train: $(READY)  ## train the demo pair from nothing (many hours on a CPU; goes on where it stopped)
	$(BIN)/python -m training

test: $(READY)  ## run the tests (8 to 16 minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(READY)  ## run the tests that take longer
	$(BIN)/python -m pytest -m slow --timeout 7200

test-ray: $(READY)  ## install Ray (360 MB) into .venv, and run the tests that start one
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ray]'
	$(BIN)/python -m pytest -m "ray or not ray" tests/serving/ray

bench: engines  ## measure every method beside the large model; kept in benchmarks/results
	@mkdir -p "$(OUT)"
	$(BIN)/hybridstitch-trt bench --pair "$(PAIR)" --backend $(BACKEND) --json "benchmarks/results/bench-$(PAIR)-$(BACKEND).json" --plots "$(OUT)" --overwrite

bench-check: engines  ## measure again, and say what is worse than what make bench kept
	@test -f "benchmarks/results/bench-$(PAIR)-$(BACKEND).json" || { echo "nothing to compare with: run make bench first"; exit 2; }
	@mkdir -p "$(OUT)"
	$(BIN)/hybridstitch-trt bench --pair "$(PAIR)" --backend $(BACKEND) --no-diffusers --json "$(OUT)/bench.json" --overwrite
	$(BIN)/python -m benchmarks.regressions "benchmarks/results/bench-$(PAIR)-$(BACKEND).json" "$(OUT)/bench.json"

lock: $(READY)  ## write requirements.lock: every dependency with its hash (Python 3.11, Linux x86_64)
	$(BIN)/python .ci/lock.py

audit: $(READY)  ## look up known vulnerabilities of what the lock holds (exit code 3 of the script: it could not)
	$(BIN)/python .ci/audit.py

lint: $(READY)  ## check style, types, and that the lock agrees with pyproject.toml
	$(BIN)/python .ci/lock.py --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

clean:  ## remove what was built (not the virtual environment)
	rm -rf build dist "$(OUT)" *.egg-info .pytest_cache .ruff_cache
