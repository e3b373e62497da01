# Everyday commands over the CMake presets (CMakePresets.json).
#
#   make            release build into build/        make debug|asan|tsan|clang|fuzz   other builds
#   make demo       install what is missing, build, run the main job
#   make test       install what is missing, build, run the tests     SEED=n replays
#   make test-all   everything at full length        make bench       the figures
#   make sim        SEEDS=n seeds of the simulation from SEED on; SIM_SEED=n replays one of them
#   make volume     ten million checked operations of unmodified programs
#   make soak MINUTES=20   everything at once with events from SEED: bytes, leaks, latency checked
#   make install    release build to PREFIX (/usr/local), below DESTDIR
#   make deb        build/flextoe_VERSION_ARCHITECTURE.deb
#   make tidy       clang-tidy over all sources      make format      clang-format in place
#   make clean      remove every build folder

JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
SEED ?= $(shell tools/seed)
export SEED JOBS

.PHONY: all build debug asan tsan clang fuzz test test-all demo bench sim volume soak install \
        deb tidy format clean

all: build

build:
	@tools/packages check build
	@tools/build release

debug asan tsan clang fuzz:
	@tools/packages check build
	@tools/build $@

test:
	@tools/packages install build test
	@tools/run_tests

test-all:
	@tools/packages install build test full
	@tools/run_tests --all

demo:
	@tools/packages install build demo
	@tools/build release
	@tools/demo

bench:
	@tools/packages install build bench
	@tools/build release
	@tools/bench

# All seeds are spread over the machine's cores.
sim: SEEDS ?= 2000
sim:
	@tools/packages check build
	@tools/build release toe_sim_test
	@TOE_SEEDS=$(SEEDS) build/bin/toe_sim_test --gtest_filter='Sim.Every*'

volume:
	@tools/packages install build test
	@tools/build release
	@tools/volume

soak: MINUTES ?= 20
soak:
	@tools/packages install build test
	@tools/build release
	@tools/soak --minutes $(MINUTES) --seed $(SEED)

install: build
	@DESTDIR="$(DESTDIR)" cmake --install build --prefix "$(PREFIX)"

deb: build
	@tools/packages check deb
	@tools/deb

tidy:
	@tools/packages check build test
	@tools/run_clang_tidy

format:
	@tools/check_format --fix

clean:
	rm -rf build build-debug build-asan build-tsan build-clang build-fuzz
