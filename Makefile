# The everyday commands.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build demo demo-shell test lint unit e2e bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the three programs
	@scripts/setup.sh build
	cargo build --locked

demo: ## Fetch a page from a backend on a cloudlet, all on this machine (DEMO_PORT=5000)
	@scripts/setup.sh demo
	@cargo build --locked
	@scripts/demo.sh

demo-shell: ## The same, with a shell beside the backend
	@scripts/setup.sh demo
	@cargo build --locked
	@scripts/demo.sh shell

test: lint unit e2e ## Everything that has to pass

lint: ## Check format, lints, dependencies and scripts
	@scripts/setup.sh lint
	scripts/lint.sh

unit: ## Run the tests that need no programs
	@scripts/setup.sh test
	cargo test --locked --workspace --exclude sinfonia-tests

e2e: ## Run the end-to-end tests, as an ordinary user and as root
	@scripts/setup.sh test
	scripts/e2e.sh

bench: ## Measure and print figures (NAME=<figure> for one)
	@scripts/setup.sh test
	@scripts/bench.sh $(NAME)

clean: ## Remove what was built
	cargo clean
