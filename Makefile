# Shortcuts over CMake. Every goal works on a fresh Debian machine: scripts/setup.sh installs only what is missing.
# WHENCE_SETUP=0 skips that step.

PREFIX ?= /usr/local
# What the installed library runs on: AVX2 and FMA (processors since about 2013). native: this machine; empty: any.
ARCH ?= $(if $(filter x86_64,$(shell uname -m)),x86-64-v3,native)

.PHONY: help demo gpt test test-long test-portable bench asan tsan build docs install format clean

help:
	@echo "make demo       build and run the worked example on real data"
	@echo "make gpt        train a small GPT on the King James Bible, let it write, explain a word"
	@echo "make test       build everything and run the tests (long ones left out)"
	@echo "make test-long  run the long tests"
	@echo "make test-portable  run the op suite and the goldens as built for any x86-64 (WHENCE_ARCH=)"
	@echo "make bench      run the benchmarks (BENCH=name for one of them)"
	@echo "make asan       run the tests under the address and undefined-behaviour sanitizers"
	@echo "make tsan       run the tests under the thread sanitizer"
	@echo "make docs       write docs/ops.md from the op registry"
	@echo "make install    install library, headers and CMake package (PREFIX=$(PREFIX), ARCH=$(ARCH))"
	@echo "make format     run clang-format over the lines changed since the last commit"
	@echo "make clean      remove build/"

demo:
	@ls examples/barcode* >/dev/null 2>&1 || { echo "the demo, examples/barcode, is not there yet"; exit 1; }
	@scripts/setup.sh demo
	@scripts/build.sh release example_barcode
	@scripts/demo.sh

gpt:
	@scripts/setup.sh gpt
	@scripts/build.sh release example_gpt
	@scripts/gpt.sh

build:
	@scripts/setup.sh
	@scripts/build.sh release

test:
	@scripts/setup.sh test
	@scripts/test.sh release

test-long:
	@scripts/setup.sh test
	@scripts/test.sh release long

test-portable:
	@scripts/setup.sh test
	@scripts/test.sh portable

asan tsan:
	@scripts/setup.sh
	@scripts/test.sh $@

bench:
	@scripts/setup.sh
	@scripts/bench.sh $(BENCH)

docs:
	@scripts/setup.sh test
	@scripts/build.sh release test_docs
	WHENCE_UPDATE_DOCS=1 build/release/tests/test_docs --gtest_brief=1

install:
	@scripts/setup.sh
	cmake --preset release -B build/install -DWHENCE_ARCH="$(ARCH)" -DWHENCE_BUILD_TESTS=OFF -DWHENCE_BUILD_BENCH=OFF -DWHENCE_BUILD_EXAMPLES=OFF
	cmake --build build/install -j "$(shell nproc)"
	cmake --install build/install --prefix "$(PREFIX)"

format:
	@scripts/setup.sh format
	git clang-format --quiet --force HEAD || true

clean:
	rm -rf build
