package wasmgate_test

import data.wasmgate
import data.wasmgate.fixture

refused["not-inspected"] := fixture.pod({
	"class": "unread",
	"kind": "unknown",
	"reason": "the registry answered 401",
	"evidence": [],
	"effective": [],
})

admitted["not-inspected"] := fixture.on(fixture.none, {
	"class": "unread",
	"kind": "unknown",
	"reason": "the registry answered 401",
	"evidence": [],
	"effective": [],
})

not_inspected(message) := {{"rule": "not-inspected", "container": "web", "message": message}}

test_an_unread_image_on_a_wasm_runtime_is_refused if {
	wasmgate.violations == not_inspected(concat("", [
		"container `web`: image `ghcr.io/myorg/orders:1.4` could not be read: the registry answered 401, ",
		"so nobody knows what it may call under runtime class `wasmtime`; ",
		"name an image that the gate can read, or give it access to the registry",
	])) with input as fixture.pod({
		"class": "unread",
		"kind": null,
		"reason": "the registry answered 401",
		"evidence": [],
		"effective": [],
	})
}

test_an_unrecognised_program_on_a_wasm_runtime_is_refused if {
	wasmgate.violations == not_inspected(concat("", [
		"container `web`: image `ghcr.io/myorg/orders:1.4` was read, but its program was not recognised: ",
		"it has two Wasm layers (seen: layer media type = application/wasm), ",
		"so nobody knows what it may call under runtime class `wasmtime`; ",
		"ship it as one of the image kinds that the gate knows, or run it without a Wasm runtime class",
	])) with input as fixture.pod({"class": "unknown", "reason": "it has two Wasm layers"})
}

test_an_image_of_unknown_kind_on_a_wasm_runtime_is_refused if {
	wasmgate.violations == not_inspected(concat("", [
		"container `web`: image `ghcr.io/myorg/orders:1.4` was read, but its program was not recognised, ",
		"so nobody knows what it may call under runtime class `wasmtime`; ",
		"ship it as one of the image kinds that the gate knows, or run it without a Wasm runtime class",
	])) with input as fixture.pod({"class": "linux", "kind": "unknown", "evidence": []})
}

test_a_class_that_the_rules_do_not_know_is_refused if {
	violations := wasmgate.violations with input as fixture.pod({"class": "new"})
	{v.rule | some v in violations} == {"not-inspected"}
}

test_init_and_ephemeral_containers_must_be_inspected_too if {
	every role in ["initContainer", "ephemeralContainer"] {
		violations := wasmgate.violations with input as fixture.pod({"class": "unread", "role": role})
		{v.rule | some v in violations} == {"not-inspected"}
	}
}

test_an_unread_image_that_is_only_mounted_is_admitted if {
	wasmgate.violations == set() with input as fixture.pod({"class": "unread", "role": "imageVolume"})
}

test_an_unread_image_without_a_wasm_runtime_is_admitted if {
	every runtime in [fixture.none, fixture.undescribed] {
		wasmgate.violations == set() with input as fixture.on(runtime, {"class": "unread"})
	}
}

test_an_unread_image_that_a_wasm_runtime_may_start_is_refused if {
	suspect := object.union(
		fixture.none,
		{"suspicion": "when annotation `run.oci.handler: wasm` asks the node's runtime for a Wasm handler"},
	)
	wasmgate.violations == not_inspected(concat("", [
		"container `web`: image `ghcr.io/myorg/orders:1.4` could not be read: the registry answered 401, so nobody knows ",
		"what it may call when annotation `run.oci.handler: wasm` asks the node's runtime for a Wasm handler; ",
		"name an image that the gate can read, or give it access to the registry",
	])) with input as fixture.on(suspect, {
		"class": "unread",
		"kind": null,
		"reason": "the registry answered 401",
		"evidence": [],
		"effective": [],
	})
}
