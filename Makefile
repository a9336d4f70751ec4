# The everyday commands.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build demo demo-shell observe cluster-up cluster-down images images-again charts test lint unit fuzz-smoke fuzz e2e failures releases bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the programs
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

observe: ## The same, again and again, with Prometheus and Jaeger beside it, until Ctrl-C
	@scripts/setup.sh observe
	@cargo build --locked
	@scripts/demo.sh observe

cluster-up: ## Make a kind cluster to try things on, unless it is there and well
	@scripts/setup.sh cluster
	@scripts/cluster.sh up

cluster-down: ## Remove it, and what was left of it
	@scripts/cluster.sh down

images: ## Make the images that are released, for Docker or podman and as archives in target/images
	@scripts/setup.sh images
	@scripts/images.sh

images-again: ## Make them once more from nothing in another place, and compare the digests (some 20 minutes)
	@scripts/setup.sh images
	@scripts/images-again.sh

charts: ## Package the charts, in target/charts, and put that of the demo backend beside RECIPES
	@scripts/charts.sh
	@scripts/charts.sh --packages target/charts

test: lint unit fuzz-smoke e2e ## Everything that has to pass

lint: ## Check format, lints, dependencies and scripts
	@scripts/setup.sh lint
	scripts/lint.sh

unit: ## Run the tests that need no programs
	@scripts/setup.sh test
	cargo test --locked --workspace

fuzz-smoke: ## Fuzz everything that reads what others write, 10 s each
	@scripts/setup.sh fuzz
	@scripts/fuzz.sh 10

FUZZ_SECONDS ?= 600
fuzz: ## The same for longer (FUZZ_SECONDS=600, NAME=<target> for one)
	@scripts/setup.sh fuzz
	@scripts/fuzz.sh $(FUZZ_SECONDS) $(NAME)

e2e: ## Run the end-to-end tests, as an ordinary user, as root and on a cluster
	@scripts/setup.sh test
	@scripts/setup.sh cluster
	scripts/e2e.sh

failures: ## Beside these, run the tests of a cluster's cloudlet under load, killed, and without what it needs (some 10 minutes)
	@scripts/setup.sh test
	@scripts/setup.sh cluster
	SINFONIA_E2E=cluster-failures scripts/e2e.sh

releases: ## Of these, run only those of the charts: install, upgrade, roll back and uninstall them on a cluster
	@scripts/setup.sh test
	@scripts/setup.sh cluster
	SINFONIA_E2E=charts scripts/e2e.sh

bench: ## Measure and print figures (NAME=<figure> for one)
	@scripts/setup.sh bench
	@scripts/bench.sh $(NAME)

clean: ## Remove what was built
	cargo clean
