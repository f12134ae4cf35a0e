package wasmgate.rules.runtime_mismatch_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"kind": "spin-app"})

admitted := fixture.on(fixture.spin, {"kind": "spin-app"})

# What a new pod that the mutating webhook left as it was is told.
bypassed := concat("", [
	" (wasmgate does so on new pods: its mutating webhook warned why not, failed or was not called; see its ",
	"`failurePolicy`, `namespaceSelector` and `reinvocationPolicy`)",
])

mismatch(name, message) := {{"rule": "runtime-mismatch", "mendedBy": "runtime", "container": name, "message": message}}

test_wasm_without_a_runtime_class_is_refused if {
	wasmgate.violations == mismatch("web", concat("", [
		"container `web` starts an HTTP component from `ghcr.io/myorg/orders:1.4` ",
		"(seen: layer media type = application/wasm), and the pod has no runtime class; ",
		"write `runtimeClassName: wasmtime`",
		bypassed,
	])) with input as fixture.on(fixture.none, {})
}

test_a_template_is_not_told_of_the_mutating_webhook if {
	every operation in ["CREATE", "UPDATE"] {
		template := {"request": {"operation": operation}, "workload": {"template": true}}
		violations := wasmgate.violations with input as object.union(fixture.on(fixture.none, {}), template)
		{endswith(v.message, "class; write `runtimeClassName: wasmtime`") | some v in violations} == {true}
	}
}

test_an_update_of_a_pod_is_told_that_its_class_is_kept if {
	every runtime in [fixture.none, fixture.undescribed] {
		changed := object.union(fixture.on(runtime, {}), {"request": {"operation": "UPDATE"}})
		violations := wasmgate.violations with input as changed
		{endswith(v.message, cure) |
			some v in violations
			cure := "; create a pod, since an update cannot set it, with `runtimeClassName: wasmtime`"
		} == {true}
	}
}

test_programs_that_need_different_classes_are_told_to_part if {
	application := object.union(fixture.web, {"name": "app", "kind": "spin-app", "evidence": []})
	cure := "give the container a pod of its own with `runtimeClassName: wasmtime-spin-v2`"
	placed := wasmgate.violations with input as fixture.with_containers(fixture.pod({}), [fixture.web, application])
	{endswith(v.message, $"; {cure}") | some v in placed} == {true}
	both := fixture.with_containers(fixture.on(fixture.none, {}), [fixture.web, application])
	{v.container | some v in wasmgate.violations} == {"web", "app"} with input as both
	{endswith(v.message, $"the pod has no runtime class; {cure}") |
		some v in wasmgate.violations
		v.container == "app"
	} == {true} with input as both
	mounted := object.union(application, {"role": "imageVolume"})
	{v.message | some v in wasmgate.violations} == {concat("", [
		"container `web` starts an HTTP component from `ghcr.io/myorg/orders:1.4` (seen: layer media type = ",
		"application/wasm), and the pod has no runtime class; write `runtimeClassName: wasmtime`",
		bypassed,
	])} with input as fixture.with_containers(fixture.on(fixture.none, {}), [fixture.web, mounted])
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
		"application/wasm), and runtime class `wasmtime` is runwasi-wasmtime, which cannot start it by how it is packed",
		", by what it imports, by the memories and tables that it defines or by a proposal of WebAssembly that it uses: ",
		"it may run on crun-wasmedge, runwasi-wasmedge; ship it in another form, or use another class",
	])) with input as fixture.pod({"kind": "module", "runnableBy": ["crun-wasmedge", "runwasi-wasmedge"]})
	fixture.rules_of(fixture.pod({"kind": "module", "runnableBy": []})) == {"runtime-mismatch"}
	wasmgate.violations == set() with input as fixture.pod({"kind": "module", "runnableBy": ["runwasi-wasmtime"]})
	wasmgate.violations == set() with input as fixture.on(fixture.wasmedge, {"kind": "module", "runnableBy": []})
}

test_the_message_says_what_the_runtime_lacks_and_what_mends_it if {
	reasons := [
		concat("", [
			"`/app.wasm` uses the proposal `memory64` of WebAssembly, which the runtime is not known to run; build it ",
			"without, or list `memory64` in the profile's `proposals` if its nodes run it",
		]),
		concat("", [
			"a core module of `/app.wasm` defines 2 memories, and at most 1 fit into the pool of the runtime's engine; ",
			"build it with less, or write `allocatesOnDemand: true` into the profile if its nodes have no such pool",
		]),
		concat("", [
			"it is packed as a layer of the type `application/wasm`, and the runtime starts programs of the kind ",
			"`module` only from files; pack it so",
		]),
	]
	places := {
		"no runtime that is described starts it as it is": [],
		"it may run on crun-wasmedge, youki-wasmtime under another class": ["crun-wasmedge", "youki-wasmtime"],
	}
	every reason in reasons {
		every place, able in places {
			document := fixture.pod({"kind": "module", "runnableBy": able, "cannotStart": reason})
			violations := wasmgate.violations with input as document
			violations == mismatch("web", concat("", [
				"container `web` starts a Wasm module from `ghcr.io/myorg/orders:1.4` (seen: layer media type = ",
				"application/wasm), and runtime class `wasmtime` is runwasi-wasmtime, which cannot start it: ",
				$"{reason}; {place}",
			]))
		}
	}
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
			bypassed,
		]),
		concat("", [
			"ephemeral container `debug` starts an HTTP component from `ghcr.io/myorg/orders:1.4`, and the pod has no ",
			"runtime class; write `runtimeClassName: wasmtime`",
			bypassed,
		]),
	}
}

test_a_wasm_image_that_is_only_mounted_needs_no_runtime if {
	wasmgate.violations == set() with input as fixture.on(fixture.none, {"role": "imageVolume"})
}

test_a_linux_sidecar_matches_any_runtime if {
	not "runtime-mismatch" in fixture.rules_of(fixture.with_containers(fixture.pod({}), [fixture.web, fixture.proxy]))
}
