# One build configuration, release, for the programs, the tests and the drill: nothing is compiled twice.

SWIFT ?= swift
# Flags of dr-drill: make drill DRILL_FLAGS="--size 2GB"
DRILL_FLAGS ?=
# Flags of swift test: make test TEST_FLAGS="--filter Manifest"
TEST_FLAGS ?=
# Each test starts servers of its own: more at once than this starve one another on a machine of two cores.
TEST_WIDTH := SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH=3
# Flags of the comparisons: make bench BENCH_FLAGS="--pairs 9"
BENCH_FLAGS ?=

SOURCES := Sources Tests Examples Benchmarks Package.swift

.PHONY: help drill test build lint format bench bench-swift bench-tools bench-postgres bench-s3 bench-redis bench-rabbitmq bench-files clean

help:
	@echo 'make drill     destroy a throw-away PostgreSQL under load, bring it back, prove it (DRILL_FLAGS)'
	@echo 'make test      lint and all tests, against real servers and stock tools (TEST_FLAGS)'
	@echo 'make bench     benchmarks, and paired runs against stock tools, pgBackRest, rclone and aws (BENCH_FLAGS)'
	@echo 'make format    format the sources            make lint    check their format'
	@echo 'make build     the libraries and programs    make clean   remove what was built'
	@echo 'drill, test and bench say what they install and install it if it is missing.'

drill:
	Scripts/install-prerequisites drill
	$(SWIFT) build -c release --product dr-wal
	$(SWIFT) build -c release --product dr-drill
	.build/release/dr-drill $(DRILL_FLAGS)

test:
	Scripts/install-prerequisites test
	$(MAKE) lint
	$(SWIFT) build -c release --build-tests
	$(TEST_WIDTH) SWIFT=$(SWIFT) Scripts/run-tests $(TEST_FLAGS)

build:
	Scripts/install-prerequisites build
	$(SWIFT) build -c release

lint:
	$(SWIFT) format lint --strict --recursive $(SOURCES)

format:
	$(SWIFT) format --in-place --recursive $(SOURCES)

bench: bench-swift bench-tools bench-postgres bench-s3 bench-redis bench-rabbitmq bench-files

bench-swift:
	Scripts/install-prerequisites build
	$(SWIFT) package --package-path Benchmarks benchmark

bench-tools:
	Scripts/install-prerequisites bench
	$(SWIFT) build -c release --package-path Benchmarks --product dr-codec
	Benchmarks/compare-stock-tools $(BENCH_FLAGS)

bench-postgres:
	Scripts/install-prerequisites bench
	$(SWIFT) build -c release --product dr-postgres
	Benchmarks/compare-postgres $(BENCH_FLAGS)

bench-s3:
	Scripts/install-prerequisites bench
	$(SWIFT) build -c release --product dr-tier
	Benchmarks/compare-s3 $(BENCH_FLAGS)
	Benchmarks/compare-local $(BENCH_FLAGS)

bench-redis:
	Scripts/install-prerequisites bench
	$(SWIFT) build -c release --product dr-redis
	Benchmarks/compare-redis $(BENCH_FLAGS)

bench-rabbitmq:
	Scripts/install-prerequisites bench
	$(SWIFT) build -c release --product dr-rabbitmq
	Benchmarks/compare-rabbitmq $(BENCH_FLAGS)

bench-files:
	Scripts/install-prerequisites bench
	$(SWIFT) build -c release --product dr-files
	Benchmarks/compare-files $(BENCH_FLAGS)

clean:
	$(SWIFT) package clean
	$(SWIFT) package --package-path Benchmarks clean
