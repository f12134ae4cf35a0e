# `make` lists the targets. `run`, `fmt`, `lint` and `bench` need only Rust; `test`, `cluster` and `policies` also need
# Go, for the real programs that they build once from the pinned modules under tools/.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# The programs that tests talk to.
TOOLS := opa regal registry crane oras crdcheck nodeoracle etcd kube-apiserver kube-controller-manager kube-scheduler kubectl helm
CARGO ?= cargo
# More arguments for cargo test: make test ARGS='--test suite -- flow:: mixed'
ARGS ?=

.PHONY: help
help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do \
	    printf '  make %-12s %s\n' "$$target" "$$text"; done

.PHONY: run
run: ## Build the gate, start it on the samples, and print a command that sends it a review
	$(CARGO) build --locked --release
	manifests/samples/run

.PHONY: cluster
cluster: ## Start a Kubernetes on loopback with the gate in front of it, and print commands to try
	$(CARGO) build --locked --release
	tools/cluster/up

.PHONY: cluster-down
cluster-down: ## Stop that Kubernetes and remove all its files
	tools/cluster/down

.PHONY: install
install: ## Build the gate and install it with cargo
	$(CARGO) install --locked --path .

.PHONY: test
test: tools producers ## Build the tools if they are missing, and run all tests
	paths=$$(tools/build --path $(TOOLS)); \
	while read -r path; do export "WASMGATE_$$(basename "$$path" | tr a-z- A-Z_)=$$path"; done <<<"$$paths"; \
	$(CARGO) test --locked $(ARGS)

.PHONY: policies
policies: ## Test the Rego and compile the bundle that is built into the gate
	policies/build

.PHONY: tools
tools: ## Build opa, regal, a registry, a Kubernetes control plane and the rest into a cache that is keyed by version
	@tools/build $(TOOLS) >/dev/null

.PHONY: producers
producers: ## Download binaries of real compilers and toolchains into a cache that is keyed by version
	@tests/fixtures/producers/fetch

.PHONY: bench
bench: ## Measure a review and its stages
	$(CARGO) bench --locked $(ARGS)

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt

.PHONY: lint
lint: ## Check the format, the lints and the docs' links
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --quiet

.PHONY: deny
deny: ## Check licences, sources and banned crates with cargo-deny
	$(CARGO) deny check bans licenses sources

.PHONY: check
check: ## Run what CI runs
	.ci/run

.PHONY: samples
samples: ## Build the sample images as OCI layouts
	manifests/samples/build

.PHONY: clean
clean: ## Remove what was built; the tools' cache stays
	$(CARGO) clean
