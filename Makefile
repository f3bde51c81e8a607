# The work is in the crates and in tests/tools; a target here only names it. ARGS goes through to the command behind:
#   make demo ARGS="--help"        make test ARGS="a_part_of_a_test_name"

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run demo test test-long test-valkey simulate fuzz lint chaos chaos-long chaos-planted bench image tools clean

ARGS ?=

# RUST_TEST_THREADS: most tests wait for processes and deadlines, so more of them run at once than there are cores.

# The services as programs, too, with the features that the tests have: a suite that finds none builds its own, and with
# them most dependencies a second time.
BUILD_FOR_TESTS = cargo build --workspace --bins --tests --locked

help: ## this list
	@awk -F ': ## ' '/^[a-z-]+: ## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## the line on this machine, nothing installed, until Ctrl-C
	cargo run --locked -p holdfast -- up $(ARGS)

demo: ## a busy evening in about a minute, with a report
	tests/tools/setup store
	cargo build --locked -p holdfast-intake -p holdfast-queue -p holdfast-dispatch -p holdfast
	PATH="$(CURDIR)/.tools/bin:$$PATH" cargo run --locked -p holdfast -- demo $(ARGS)

test: ## everything a change must pass, beside lint
	tests/tools/setup test
	$(BUILD_FOR_TESTS)
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} cargo test --workspace --locked --no-fail-fast $(ARGS)

test-long: ## the same with the slow tests and many more random cases
	tests/tools/setup test
	$(BUILD_FOR_TESTS)
	HOLDFAST_LONG=1 HOLDFAST_HISTORIES=$${HOLDFAST_HISTORIES:-50000} cargo test --workspace --locked --no-fail-fast $(ARGS) -- --include-ignored

test-valkey: ## what the store promises, on Valkey instead of Redis
	tests/tools/setup test
	tests/tools/setup valkey
	$(BUILD_FOR_TESTS)
	HOLDFAST_REDIS_SERVER="$(CURDIR)/.tools/bin/valkey-server" RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} \
		cargo test --workspace --locked --test contract --test replicated $(ARGS)

simulate: ## the services on a simulated network: 10,000 seeds, half a second of a core each (HOLDFAST_SEEDS=n)
	HOLDFAST_SEEDS=$${HOLDFAST_SEEDS:-10000} cargo test --locked -p holdfast-tests --test simulation whatever -- --nocapture

fuzz: ## decoders and scripts against odd inputs, 200 times as many as test (HOLDFAST_FUZZ=n), another seed each time
	tests/tools/setup store
	HOLDFAST_FUZZ=$${HOLDFAST_FUZZ:-200} HOLDFAST_SEED=$${HOLDFAST_SEED:-$$(date +%s)} \
		cargo test --locked -p holdfast-tests --test fuzz -- --nocapture

lint: ## format, clippy, docs, contract, dependencies, deployment files
	tests/tools/setup lint
	cargo fmt --all --check
	tests/tools/check-proto
	tests/tools/check-dependencies
	tests/tools/check-deploy
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

chaos: ## break everything under load and judge what people saw: half an hour (ARGS=short: two minutes)
	tests/tools/setup chaos
	cargo build --locked -p holdfast-intake -p holdfast-queue -p holdfast-dispatch
	@set -e; case "$(firstword $(ARGS))" in short|herd|census|planted|judge) older= ;; *) older=$$(tests/tools/older) ;; esac; \
		HOLDFAST_OLDER=$$older cargo run --locked -p holdfast-tests --bin chaos -- $(or $(ARGS),whole)

chaos-long: ## the same in parts until there is enough of it (goes on where it was broken off), 20 wipes, 20 partitions
	$(MAKE) chaos ARGS=long
	$(BUILD_FOR_TESTS)
	HOLDFAST_WIPES=20 cargo test --workspace --locked --test scenarios -- --ignored --nocapture twenty_times
	HOLDFAST_LONG=1 cargo test --workspace --locked --test replicated -- --nocapture fencing

chaos-planted: ## bugs that are planted in the scripts are caught, one run each
	$(MAKE) chaos ARGS="planted $(ARGS)"

bench: ## the figures, against raw Redis and raw gRPC on this machine
	tests/tools/setup store
	cargo build --release --locked -p holdfast-intake -p holdfast-queue -p holdfast-dispatch
	cargo bench --locked -p holdfast-tests --bench figures $(ARGS)

image: ## container images of the services, with Docker
	deploy/build-images $(ARGS)

tools: ## what test and lint need, into .tools
	tests/tools/setup test
	tests/tools/setup lint

clean: ## what was built and what was fetched
	cargo clean
	rm -rf .tools
