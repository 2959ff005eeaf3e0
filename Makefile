# The README's commands, CI and these targets run the same things.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
WARN   := -Wall -Wextra -Wno-unused-parameter -Werror
OBJ    := build/asm
SOURCES := pyproject.toml setup.py README.md $(shell find csrc src -name '*.[ch]' -o -name '*.py' -o -name '*.py[xi]' -o -name '*.pxi')

.PHONY: help build tiny test full bench bench-quick compare demo lint asan tsan bits ulp asm lines wheel check clean

help:           ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip

build: $(VENV)/built  ## install this checkout with all extras, warnings as errors

$(VENV)/built: $(SOURCES) | $(BIN)/python
	FASTBP_CFLAGS="$(WARN)" $(BIN)/pip install -q ".[demo,test,lint]"
	@touch $@

tiny: build     ## the whole product in two seconds
	$(BIN)/pytest -q tests/test_tiny.py

test: build     ## the README's test command
	$(BIN)/pytest

full: build     ## every size instead of a sample (minutes)
	$(BIN)/pytest --full

bench: build    ## beside every peer that is installed: docs/benchmarks.md, its charts and JSON (ARGS="--quick")
	$(BIN)/pip install -q ".[bench]"
	$(BIN)/python -m benchmarks --out docs $(ARGS)

bench-quick: build  ## training steps beside the NumPy reference and the FMA peak, in a minute
	$(BIN)/python -m fastbp bench

compare: build  ## before and after: make compare A=<commit> B=<commit> (ARGS="--threads 1,2")
	$(BIN)/pip install -q cython "setuptools>=80"
	$(BIN)/python -m benchmarks.compare $(A) $(B) $(ARGS)

demo: build     ## train on handwritten digits
	$(BIN)/python -m fastbp demo

lint: $(BIN)/python  ## ruff, mypy --strict
	$(BIN)/pip install -q "ruff>=0.15" "mypy>=1.15" "numpy>=1.26"
	$(BIN)/ruff check .
	$(BIN)/mypy --strict src

asan: $(BIN)/python  ## the tests with AddressSanitizer and UndefinedBehaviorSanitizer
	PYTHON=$(PYTHON) .ci/sanitize address,undefined

tsan: $(BIN)/python  ## the thread tests with ThreadSanitizer
	PYTHON=$(PYTHON) .ci/sanitize thread

asm:            ## the hot loops of the AVX-512 float32 kernels as assembly: build/asm/*.s
	mkdir -p $(OBJ)
	$(CC) -std=gnu11 -O3 -ffp-contract=off -fno-math-errno -S -o $(OBJ)/avx512_f32.s csrc/kernels/avx512_f32.c
	@sed -n '/^tile_rows_12_2:/,/\.size/p' $(OBJ)/avx512_f32.s | grep -c vfmadd | xargs echo "FMAs in tile_rows_12_2:"

lines:          ## lines of code by part
	@wc -l csrc/*.[ch] csrc/*/*.[ch] | sort -n | tail -40
	@wc -l src/fastbp/*.py src/fastbp/*.p[yx]* src/fastbp/inspect/*.py src/fastbp/reference/*.py | sort -n | tail -30

bits:           ## the same bits from every compiler and ISA at hand, ARM under qemu included
	.ci/bits

ulp:            ## errors of the smooth activations over all float32, on every ISA (many minutes)
	mkdir -p build
	$(CC) -std=gnu11 -O3 -ffp-contract=off -fno-math-errno -Icsrc -o build/ulp tests/ulp.c csrc/*.c csrc/*/*.c -pthread -lm
	build/ulp

wheel:          ## sdist and wheel, repaired, installed into an empty environment, trained with there
	PYTHON=$(PYTHON) .ci/wheel

check: lint test  ## what CI runs
	.ci/run

clean:          ## remove what builds leave behind
	rm -rf build dist $(VENV) src/*.egg-info src/fastbp/_fastbp_core.c src/fastbp/*.so
