# `make` alone prints what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# Where contrib/get-bitcoind installs bitcoind if none is on the PATH, and where the
# lab keeps its prepared chain.
export LAB_NODES_DIR ?= $(CURDIR)/target/nodes

CARGO ?= cargo

# What `make install` installs, and where; what is packed begins with DESTDIR.
PREFIX ?= /usr/local
BUILT ?= target/release
PROGRAMS := lab cln-embedded eventlog eventlog-publish
SHARE = $(DESTDIR)$(PREFIX)/share
BASH = $(SHARE)/bash-completion/completions
ZSH = $(SHARE)/zsh/site-functions
FISH = $(SHARE)/fish/vendor_completions.d
MAN_1 := $(notdir $(wildcard contrib/man/*.1))
MAN_8 := $(notdir $(wildcard contrib/man/*.8))

# Tests wait for nodes more than they compute.
export NEXTEST_TEST_THREADS ?= $(shell echo $$((3 * $$(getconf _NPROCESSORS_ONLN))))

.PHONY: help all lab test install uninstall archive archived soak again bench fuzz lint amqp topics course man doctor clean \
    build bitcoind nextest

help: ## print this
	@echo 'Core Lightning plugins on regtest. Two commands do everything:'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: build bitcoind ## play the workshop: two nodes, a plugin, each step checked
	@target/debug/lab workshop

test: all bitcoind nextest ## run every test, on real nodes where lightningd is found
	@target/debug/lab doctor --nodes
	$(CARGO) nextest run --workspace
	$(CARGO) test --doc --workspace --quiet

install: ## install programs, man pages, completions, below PREFIX (/usr/local)
	$(CARGO) build --release --workspace --bins
	install -d $(DESTDIR)$(PREFIX)/bin $(SHARE)/man/man1 $(SHARE)/man/man8 $(BASH) $(ZSH) $(FISH)
	install -m 755 $(PROGRAMS:%=$(BUILT)/%) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(MAN_1:%=contrib/man/%) $(SHARE)/man/man1
	install -m 644 $(MAN_8:%=contrib/man/%) $(SHARE)/man/man8
	$(BUILT)/lab completions bash >$(BASH)/lab
	$(BUILT)/lab completions zsh >$(ZSH)/_lab
	$(BUILT)/lab completions fish >$(FISH)/lab.fish

uninstall: ## remove what `make install` installed, below the same PREFIX
	rm -f $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/bin/%) $(BASH)/lab $(ZSH)/_lab $(FISH)/lab.fish
	rm -f $(MAN_1:%=$(SHARE)/man/man1/%) $(MAN_8:%=$(SHARE)/man/man8/%)

archive: all nextest ## build every test into target/tests.tar.zst, for `make archived` elsewhere
	$(CARGO) nextest archive --workspace --archive-file target/tests.tar.zst

archived: bitcoind nextest ## run PART (1/3, say; 1/1) of the tests in target/tests.tar.zst
	$(CARGO) fetch --locked
	$(CARGO) nextest run --archive-file target/tests.tar.zst --extract-to . --extract-overwrite \
	    --workspace-remap . --partition count:$(or $(PART),1/1)

soak: build bitcoind nextest ## many rounds of what `make test` tries a few times; a table at the end
	@rm -f target/tmp/soak
	@$(CARGO) nextest run --workspace --profile soak; status=$$?; \
	    printf '\n%-60s %8s %8s %9s\n' row rounds failures time; cat target/tmp/soak; exit $$status

again: build bitcoind nextest ## run every test TIMES (20) times, with BUSY=1 while all cores are; ends at a failure
	@if [ -n "$(BUSY)" ]; then \
	    trap 'kill $$busy' EXIT; \
	    for core in $$(seq $$(getconf _NPROCESSORS_ONLN)); do \
	        while :; do :; done & busy="$$busy $$!"; \
	    done; \
	fi; \
	for n in $$(seq $(or $(TIMES),20)); do \
	    $(CARGO) nextest run --workspace --status-level fail --final-status-level fail || exit; \
	    echo "$$n of $(or $(TIMES),20)"; \
	done

bench: bitcoind ## measure, side by side; nothing is asserted
	@$(CARGO) build --profile bench --workspace --bins --examples
	@$(CARGO) bench --workspace --benches

fuzz: ## give each property test RUNS cases, a million by default
	PROPTEST_CASES=$(or $(RUNS),1000000) $(CARGO) test --profile bench --workspace --lib --bins \
	    --test fuzz --test from_scratch_framing

lint: ## formatting, clippy, documentation, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --quiet
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	    $(CARGO) deny --config .config/deny.toml check licenses bans sources; \
	else \
	    echo 'licences and sources are not checked: there is no cargo-deny'; \
	fi

amqp: ## lint and test eventlog-publish with AMQP, on rabbitmq-server where it is found
	$(CARGO) clippy -p cln-eventlog-publish --features amqp --all-targets -- -D warnings
	$(CARGO) test -p cln-eventlog-publish --features amqp

topics: build ## write plugin/TOPICS.md and lab/corpus/CHANGES.md: what lightningd sends
	@target/debug/lab topics --markdown >plugin/TOPICS.md.new
	@mv plugin/TOPICS.md.new plugin/TOPICS.md
	@target/debug/lab topics --changes >lab/corpus/CHANGES.md.new
	@mv lab/corpus/CHANGES.md.new lab/corpus/CHANGES.md

course: build ## write contrib/course: the course of `lab learn`, to be read
	@rm -rf contrib/course && target/debug/lab learn --markdown contrib/course

man: build ## write contrib/man: the manual pages
	@rm -rf contrib/man && target/debug/lab man contrib/man eventlog.8 eventlog-publish.1

doctor: build ## report what was found, its version, and what to do about the rest
	@target/debug/lab doctor

clean: ## remove everything that was built or downloaded
	$(CARGO) clean

# What the targets above need.

build:
	@$(CARGO) build --workspace --bins --examples

# With what `build` makes, at once: cores that wait for one crate build another.
all:
	@$(CARGO) build --workspace --bins --examples --tests

bitcoind:
	@contrib/get-bitcoind --print >/dev/null 2>&1 || contrib/get-bitcoind

nextest:
	@$(CARGO) nextest --version >/dev/null 2>&1 || { \
	    echo 'installing cargo-nextest, this once'; \
	    $(CARGO) install --locked cargo-nextest; }
