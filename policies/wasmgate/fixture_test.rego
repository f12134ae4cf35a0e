# METADATA
# title: Documents for tests
# description: A pod that every rule admits, and ways to change it.
package wasmgate.fixture

# An admitted pod with one container: `web` with what `changes` say.
pod(changes) := {
	"apiVersion": "wasmgate.dev/v1alpha1",
	"request": {
		"uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
		"operation": "CREATE",
		"kind": {"group": "", "version": "v1", "kind": "Pod"},
		"subResource": null,
		"namespace": "shop",
		"name": "orders",
		"user": {"username": "jane", "groups": ["system:authenticated"]},
		"dryRun": false,
	},
	"workload": {
		"kind": "Pod",
		"name": "orders",
		"namespace": "shop",
		"namespaceLabels": {"wasmgate.dev/enforce": "deny"},
		"labels": {"app": "orders"},
		"annotations": {},
		"serviceAccount": "orders",
		"runtimeClassName": "wasmtime",
		"hostNetwork": false,
		"hostPID": false,
		"hostIPC": false,
		"template": false,
	},
	"runtime": wasmtime,
	"containers": [object.union(web, changes)],
	"grants": [],
	"options": {},
}

# The pod on a platform that gives the rules these options.
with_options(document, options) := object.union(document, {"options": options})

# The pod with other facts about itself.
with_workload(document, changes) := object.union(document, {"workload": changes})

# The pod on another runtime.
on(runtime, changes) := object.union(pod(changes), {"runtime": runtime})

# `pod` and `on` with containers of their own.
with_containers(document, containers) := json.patch(document, [{
	"op": "replace",
	"path": "/containers",
	"value": containers,
}])

wasmtime := {
	"profile": "wasmtime",
	"runtimeClass": "wasmtime",
	"wasm": true,
	"suspicion": null,
	"runs": ["module", "component", "http-component"],
	"ambient": "runwasi-wasmtime",
	"classFor": {
		"module": "wasmtime",
		"component": "wasmtime",
		"http-component": "wasmtime",
		"spin-app": "wasmtime-spin-v2",
	},
}

# No runtime class at all.
none := object.union(wasmtime, {"profile": null, "runtimeClass": null, "wasm": false, "ambient": null})

# A class that no profile describes.
undescribed := object.union(wasmtime, {
	"profile": null,
	"runtimeClass": "kata",
	"wasm": false,
	"ambient": null,
})

# A class whose profile says that it is Wasm and nothing more.
wasmedge := object.union(wasmtime, {
	"profile": "other",
	"runtimeClass": "wasmedge",
	"ambient": "everything",
})

spin := object.union(wasmtime, {
	"profile": "spin",
	"runtimeClass": "wasmtime-spin-v2",
	"runs": ["spin-app"],
	"ambient": "spin",
})

web := {
	"name": "web",
	"role": "container",
	"image": $"ghcr.io/myorg/orders:1.4@{digest}",
	"digest": digest,
	"class": "wasm",
	"kind": "http-component",
	"shape": "wasm-artifact",
	"packaging": "layers",
	"reason": null,
	"native": [],
	"evidence": [{"seen": "layer media type", "value": "application/wasm"}],
	"warnings": [],
	"requires": [clock],
	"ambient": [clock],
	"effective": [clock],
	"missing": [],
	"resources": {"requestBytes": 10485760, "limitBytes": 33554432, "floorBytes": 20971520},
	"privileged": false,
}

digest := "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

# A Linux container beside it.
proxy := object.union(web, {
	"name": "proxy",
	"image": $"docker.io/library/envoy:v1@{digest}",
	"class": "linux",
	"kind": "linux",
	"shape": "linux-rootfs",
	"packaging": null,
	"evidence": [],
	"requires": [],
	"ambient": [],
	"effective": [],
})

clock := {
	"capability": "clock",
	"evidence": ["import wasi:clocks/wall-clock@0.2.6"],
	"coveredBy": ["default"],
}

seen := "(seen: layer media type = application/wasm)"
