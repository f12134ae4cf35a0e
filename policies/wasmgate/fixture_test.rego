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
}

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
stranger := object.union(wasmtime, {
	"profile": null,
	"runtimeClass": "kata",
	"wasm": false,
	"ambient": "everything",
})

web := {
	"name": "web",
	"role": "container",
	"image": "ghcr.io/myorg/orders:1.4",
	"digest": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	"class": "wasm",
	"kind": "http-component",
	"shape": "wasm-artifact",
	"packaging": "layers",
	"reason": null,
	"native": [],
	"evidence": [{"seen": "layer media type", "value": "application/wasm"}],
	"hazards": [],
	"requires": [clock],
	"ambient": [clock],
	"effective": [clock],
	"missing": [],
	"resources": {"requestBytes": 10485760, "limitBytes": 33554432, "floorBytes": 20971520},
}

clock := {
	"capability": "clock",
	"evidence": ["import wasi:clocks/wall-clock@0.2.6"],
	"coveredBy": ["default"],
}

seen := "(seen: layer media type = application/wasm)"
