# `make` lists the targets. `run`, `fmt`, `lint` and `bench` need only Rust; `test`, `cluster` and `policies` also need
# Go, for the real programs that they build once from the pinned modules under tools/.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# The programs that tests talk to.
TOOLS := opa opacases otlpsink regal registry crane oras cargo-cyclonedx crdcheck nodeoracle kubeletoracle etcd kube-apiserver kube-controller-manager kube-scheduler kubectl helm
CARGO ?= cargo
# More arguments for cargo test: make test ARGS='--test suite -- flow:: mixed'
ARGS ?=
# `1`: `make cluster` gets a real node, which needs root on Linux.
NODE ?=
# Where `make image` pushes the image, like registry.example.com/wasmgate:0.1.0; further options of tools/image/build may follow.
PUSH ?=

.PHONY: help
help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do \
	    printf '  make %-12s %s\n' "$$target" "$$text"; done

.PHONY: run
run: ## Build the gate, start it on the samples, and print a command that sends it a review
	$(CARGO) build --locked --release
	manifests/samples/run

.PHONY: cluster
cluster: ## Start a Kubernetes on loopback with the gate in front of it; NODE=1: with a node on which pods run
	@[ '$(NODE)' != 1 ] || tools/cluster/node check machine
	$(CARGO) build --locked --release
	WASMGATE_CLUSTER_NODE=$(NODE) tools/cluster/up

.PHONY: cluster-down
cluster-down: ## Stop that Kubernetes and remove all its files
	tools/cluster/down

.PHONY: demo
demo: ## Show, on a cluster of its own with a real node, how a pushed module ends as a pod that runs
	@tools/cluster/node check machine
	$(CARGO) build --locked --release
	tools/cluster/demo

.PHONY: install
install: ## Build the gate and install it with cargo
	$(CARGO) install --locked --path .

.PHONY: test
test: tools producers ## Build the tools if they are missing, and run all tests
	paths=$$(tools/build --path $(TOOLS)); \
	while read -r path; do export "WASMGATE_$$(basename "$$path" | tr a-z- A-Z_)=$$path"; done <<<"$$paths"; \
	CARGO='$(CARGO)' tests/run $(ARGS)

.PHONY: bench-bundles
bench-bundles: ## Measure starts with many bundles, swaps under load, --watch, and the engine beside opa-wasm
	$(CARGO) build --locked --release
	paths=$$(tools/build --path opa); export WASMGATE_OPA=$$paths; \
	CARGO='$(CARGO)' benches/bundles $(ARGS)

.PHONY: allocators
allocators: ## Compare what the gate needs with mimalloc, the allocator of the system and jemalloc: make allocators ARGS='mimalloc jemalloc'
	paths=$$(tools/build --path oha); \
	while read -r path; do export "WASMGATE_$$(basename "$$path" | tr a-z- A-Z_)=$$path"; done <<<"$$paths"; \
	CARGO='$(CARGO)' benches/allocators $(ARGS)

# One line where the machine cannot: nothing is reported as passed that did not run. Last and alone come the tests under whose load
# no pod may be refused: beside a second cluster on two cores an answer may come after the API server's three seconds. They say
# what a replica needs, and how many pods were created meanwhile.
.PHONY: test-node
test-node: ## Run the tests whose pods really run: root on Linux; builds what a node is made of if need be
	if ! why=$$(tools/cluster/node check machine); then echo "tests on a real node: skipped, $$why"; exit 0; fi; \
	tools/build $(TOOLS) >/dev/null; \
	paths=$$(tools/build --path $(TOOLS) $$(tools/cluster/node parts)); \
	while read -r path; do export "WASMGATE_$$(basename "$$path" | tr a-z- A-Z_)=$$path"; done <<<"$$paths"; \
	without=; if ! tools/build --built $$(tools/cluster/node parts further) >/dev/null 2>&1; then \
	    echo 'tests of youki on it: skipped, it is not built; `make node-tools` builds it'; without='--skip node::youki::'; fi; \
	if ! tools/build --built $$(tools/cluster/node parts optional) >/dev/null 2>&1; then \
	    echo 'tests of crun on it: skipped, it is not built; `tools/build crun` builds it'; without="$$without --skip node::crun::"; fi; \
	tools/build $$(tools/cluster/node parts proxy) >/dev/null || true; \
	why=$$(tools/cluster/node check proxy) || echo "the address of a Service on it: not asked, $$why; the API server is asked for the pod behind it"; \
	if [ -n "$${WASMGATE_TEST_OLDER_GATE-}" ]; then :; \
	elif older=$$(tools/older/build --built 2>/dev/null); then export WASMGATE_TEST_OLDER_GATE=$$older; \
	else echo 'the upgrade on it: from the same program in another image, the gate of an earlier commit is not built; `tools/older/build` builds it'; fi; \
	case '$(ARGS)' in [!-]*) $(CARGO) test --locked --test live -- --ignored --skip node::calibrate:: $$without $(ARGS); exit ;; esac; \
	$(CARGO) test --locked --test live -- --ignored node:: --skip node::calibrate:: --skip node::install:: $$without $(ARGS); \
	$(CARGO) test --locked --test live -- --ignored --test-threads=1 --show-output node::install:: $(ARGS)

.PHONY: test-policy-reporter
test-policy-reporter: ## Compare what Policy Reporter shows with the reports, where `tools/build policy-reporter` has built it
	if ! tools/build --built policy-reporter >/dev/null 2>&1; then \
	    echo 'the test of Policy Reporter: skipped, it is not built; `tools/build policy-reporter` builds it'; exit 0; fi; \
	tools/build $(TOOLS) >/dev/null; \
	paths=$$(tools/build --path $(TOOLS) policy-reporter); \
	while read -r path; do export "WASMGATE_$$(basename "$$path" | tr a-z- A-Z_)=$$path"; done <<<"$$paths"; \
	$(CARGO) test --locked --test live -- --ignored reports::policy_reporter:: $(ARGS)

.PHONY: calibrate
calibrate: ## Measure on a real node what modules of real compilers need, and write docs/sizing.csv, .md and .svg, and the constants; benches/calibrate --help says how to measure a few
	if ! why=$$(tools/cluster/node check machine); then echo "not measured, $$why"; exit 1; fi; \
	tools/build $(TOOLS) >/dev/null; tests/fixtures/producers/fetch; \
	paths=$$(tools/build --path $(TOOLS) $$(tools/cluster/node parts)); \
	while read -r path; do export "WASMGATE_$$(basename "$$path" | tr a-z- A-Z_)=$$path"; done <<<"$$paths"; \
	tools/build --built $$(tools/cluster/node parts further) >/dev/null 2>&1 || echo 'not measured: youki, it is not built; `make node-tools` builds it; its rows stay if their versions are the same'; \
	tools/build --built $$(tools/cluster/node parts optional) >/dev/null 2>&1 || echo 'not measured: crun, it is not built; `tools/build crun` builds it; its rows stay if its version is the same'; \
	CARGO='$(CARGO)' benches/calibrate $(ARGS)

.PHONY: policies
policies: ## Test the Rego and compile the bundle that is built into the gate
	policies/build

.PHONY: tools
tools: ## Build opa, regal, a registry, a Kubernetes control plane and the rest into a cache that is keyed by version
	@tools/build $(TOOLS) >/dev/null

.PHONY: producers
producers: ## Download binaries of real compilers and toolchains into a cache that is keyed by version
	@tests/fixtures/producers/fetch

.PHONY: node-tools
node-tools: ## Build what a real node is made of into the same cache: containerd, runc, a kubelet, the wasmtime shim, youki
	@tools/build $$(tools/cluster/node parts) $$(tools/cluster/node parts further) >/dev/null
	@tools/build $$(tools/cluster/node parts proxy) >/dev/null || echo 'a node gets no kube-proxy, the lines above say why'

.PHONY: image
image: ## Build the gate's OCI image without Docker: make image PUSH=registry.example.com/wasmgate:0.1.0
	$(CARGO) build --locked --release
	tools/image/build $(if $(PUSH),--push $(PUSH))

.PHONY: bench
bench: ## Measure a review and its stages
	$(CARGO) bench --locked $(ARGS)

.PHONY: bench-serve
bench-serve: ## Measure the serving gate beside a floor and OPA, half an hour: make bench-serve ARGS='--page docs/performance.md'
	$(CARGO) build --locked --release --package wasmgate --package wasmgate-floor
	paths=$$(tools/build --path opa oha); \
	while read -r path; do export "WASMGATE_$$(basename "$$path" | tr a-z- A-Z_)=$$path"; done <<<"$$paths"; \
	benches/serve $(ARGS)

# One line where the machine cannot: nothing is reported as passed that was not counted.
.PHONY: instructions
instructions: ## Count the instructions of a review stage by stage with valgrind, and compare them with the committed ones
	if ! why=$$(benches/instructions check); then echo "instruction counts: skipped, $$why"; exit 0; fi; \
	CARGO='$(CARGO)' benches/instructions

.PHONY: flames
flames: ## Draw where the time of the main cases goes, with perf, and write docs/flames and the tables in docs/performance.md
	$(CARGO) build --locked --release
	paths=$$(tools/build --path oha flames); \
	while read -r path; do export "WASMGATE_$$(basename "$$path" | tr a-z- A-Z_)=$$path"; done <<<"$$paths"; \
	benches/flames --page docs/performance.md $(ARGS)

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt

.PHONY: lint
lint: ## Check the format, the lints and the docs' links
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --lib --examples --quiet

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
