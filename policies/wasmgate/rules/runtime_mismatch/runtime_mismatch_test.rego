package wasmgate.rules.runtime_mismatch_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"kind": "spin-app"})

admitted := fixture.on(fixture.spin, {"kind": "spin-app"})

mismatch(name, message) := {{"rule": "runtime-mismatch", "mendedBy": "runtime", "container": name, "message": message}}

test_wasm_without_a_runtime_class_is_refused if {
	wasmgate.violations == mismatch("web", concat("", [
		"container `web` starts an HTTP component from `ghcr.io/myorg/orders:1.4` ",
		"(seen: layer media type = application/wasm), and the pod has no runtime class; ",
		"write `runtimeClassName: wasmtime`",
	])) with input as fixture.on(fixture.none, {})
}

test_wasm_under_a_class_that_no_profile_describes_is_refused if {
	wasmgate.violations == mismatch("web", concat("", [
		"container `web` starts a Wasm module from `ghcr.io/myorg/orders:1.4` ",
		"(seen: layer media type = application/wasm), and runtime class `kata` is not known to run Wasm; ",
		"write `runtimeClassName: wasmtime`",
	])) with input as fixture.on(fixture.undescribed, {"kind": "module"})
}

test_a_spin_app_under_a_class_for_modules_is_refused_and_told_its_own if {
	wasmgate.violations == mismatch("web", concat("", [
		"container `web` starts a Spin application from `ghcr.io/myorg/orders:1.4`, and runtime class `wasmtime` ",
		"runs only module, component, http-component; write `runtimeClassName: wasmtime-spin-v2`",
	])) with input as fixture.pod({"kind": "spin-app", "evidence": []})
}

test_a_kind_that_is_placed_nowhere_is_refused if {
	wasmgate.violations == mismatch("web", concat("", [
		"container `web` starts Wasm of a kind that no known runtime can start from `ghcr.io/myorg/orders:1.4`, and ",
		"runtime class `wasmtime` runs only module, component, http-component; ",
		"no runtime class is set up for this kind, ask the platform team for one",
	])) with input as fixture.pod({"kind": "unknown", "evidence": []})
}

test_a_program_that_the_runtime_of_the_class_cannot_start_is_refused if {
	wasmgate.violations == mismatch("web", concat("", [
		"container `web` starts a Wasm module from `ghcr.io/myorg/orders:1.4` (seen: layer media type = ",
		"application/wasm), and runtime class `wasmtime` is runwasi-wasmtime, which cannot start it by how it is packed ",
		"or by what it imports: it runs on crun-wasmedge, runwasi-wasmedge; ship it in another form, or use another ",
		"class",
	])) with input as fixture.pod({"kind": "module", "runnableBy": ["crun-wasmedge", "runwasi-wasmedge"]})
	fixture.rules_of(fixture.pod({"kind": "module", "runnableBy": []})) == {"runtime-mismatch"}
	wasmgate.violations == set() with input as fixture.pod({"kind": "module", "runnableBy": ["runwasi-wasmtime"]})
	wasmgate.violations == set() with input as fixture.on(fixture.wasmedge, {"kind": "module", "runnableBy": []})
}

test_every_wasm_container_is_looked_at if {
	document := fixture.with_containers(fixture.on(fixture.none, {}), [
		object.union(fixture.web, {"name": "job", "role": "initContainer", "evidence": []}),
		object.union(fixture.web, {"name": "debug", "role": "ephemeralContainer", "evidence": []}),
	])
	violations := wasmgate.violations with input as document
	{v.message | some v in violations} == {
		concat("", [
			"init container `job` starts an HTTP component from `ghcr.io/myorg/orders:1.4`, and the pod has no runtime ",
			"class; write `runtimeClassName: wasmtime`",
		]),
		concat("", [
			"ephemeral container `debug` starts an HTTP component from `ghcr.io/myorg/orders:1.4`, and the pod has no ",
			"runtime class; write `runtimeClassName: wasmtime`",
		]),
	}
}

test_a_wasm_image_that_is_only_mounted_needs_no_runtime if {
	wasmgate.violations == set() with input as fixture.on(fixture.none, {"role": "imageVolume"})
}

test_a_linux_sidecar_matches_any_runtime if {
	not "runtime-mismatch" in fixture.rules_of(fixture.with_containers(fixture.pod({}), [fixture.web, fixture.proxy]))
}
