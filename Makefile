# `make` alone prints what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# Where contrib/get-bitcoind installs bitcoind if none is on the PATH, and where the
# lab keeps its prepared chain.
export LAB_NODES_DIR ?= $(CURDIR)/target/nodes

CARGO ?= cargo

# Tests wait for nodes more than they compute.
export NEXTEST_TEST_THREADS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

.PHONY: help lab test soak bench fuzz lint topics doctor clean build bitcoind nextest

help: ## print this
	@echo 'Core Lightning plugins on regtest. Two commands do everything:'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: build bitcoind ## play the workshop: two nodes, a plugin, each step checked
	@target/debug/lab workshop

test: build bitcoind nextest ## run every test, on real nodes where lightningd is found
	@target/debug/lab doctor --nodes
	$(CARGO) nextest run --workspace
	$(CARGO) test --doc --workspace --quiet

soak: build bitcoind nextest ## kill labs at random moments, LAB_SOAK_ROUNDS (500) times for each kind of node
	LAB_SOAK_ROUNDS=$${LAB_SOAK_ROUNDS:-500} $(CARGO) nextest run --workspace --profile soak \
	    --success-output final -E 'test(/^leaks::nothing_is_left_whoever/)'

bench: bitcoind ## measure, side by side; nothing is asserted
	@$(CARGO) build --profile bench --workspace --bins --examples
	@$(CARGO) bench --workspace --benches

fuzz: ## give each property test RUNS cases, a million by default
	PROPTEST_CASES=$(or $(RUNS),1000000) $(CARGO) test --release --workspace --lib --bins \
	    --test fuzz --test from_scratch_framing

lint: ## formatting, clippy, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --quiet

topics: build ## write plugin/TOPICS.md: the notifications that lightningd sends
	@target/debug/lab topics --markdown >plugin/TOPICS.md.new
	@mv plugin/TOPICS.md.new plugin/TOPICS.md

doctor: build ## report what was found, its version, and what to do about the rest
	@target/debug/lab doctor

clean: ## remove everything that was built or downloaded
	$(CARGO) clean

# What the targets above need.

build:
	@$(CARGO) build --workspace --bins --examples

bitcoind:
	@contrib/get-bitcoind --quiet

nextest:
	@$(CARGO) nextest --version >/dev/null 2>&1 || { \
	    echo 'installing cargo-nextest, this once'; \
	    $(CARGO) install --locked cargo-nextest; }
