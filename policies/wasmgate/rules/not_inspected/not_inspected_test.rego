package wasmgate.rules.not_inspected_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({
	"class": "unread",
	"kind": "unknown",
	"reason": "the registry answered 401",
	"evidence": [],
	"effective": [],
})

admitted := fixture.on(fixture.none, {
	"class": "unread",
	"kind": "unknown",
	"reason": "the registry answered 401",
	"evidence": [],
	"effective": [],
})

not_inspected(message) := {{"rule": "not-inspected", "mendedBy": "image", "container": "web", "message": message}}

test_an_unread_image_on_a_wasm_runtime_is_refused if {
	wasmgate.violations == not_inspected(concat("", [
		"container `web`: image `ghcr.io/myorg/orders:1.4` could not be read: the registry answered 401, ",
		"so what it may call is not known under runtime class `wasmtime`; ",
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
		"so what it may call is not known under runtime class `wasmtime`; ",
		"ship it as one of the image kinds that the gate knows, or run it without a Wasm runtime class",
	])) with input as fixture.pod({"class": "unknown", "reason": "it has two Wasm layers"})
}

test_an_image_of_unknown_kind_on_a_wasm_runtime_is_refused if {
	wasmgate.violations == not_inspected(concat("", [
		"container `web`: image `ghcr.io/myorg/orders:1.4` was read, but its program was not recognised, ",
		"so what it may call is not known under runtime class `wasmtime`; ",
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
		"container `web`: image `ghcr.io/myorg/orders:1.4` could not be read: the registry answered 401, so ",
		"what it may call is not known when annotation `run.oci.handler: wasm` asks the node's runtime for a Wasm handler; ",
		"name an image that the gate can read, or give it access to the registry",
	])) with input as fixture.on(suspect, {
		"class": "unread",
		"kind": null,
		"reason": "the registry answered 401",
		"evidence": [],
		"effective": [],
	})
}

# What the message says after the runtime class.
cure(changes) := {split(v.message, "under runtime class `wasmtime`")[1] | some v in violations} if {
	violations := wasmgate.violations with input as fixture.pod(changes)
}

test_what_mends_it_fits_the_reason_and_is_said_once if {
	every fault, words in {
		"name": "; write the name of an image",
		"registry": "; name an image that the gate can read, or give it access to the registry",
		"content": "; build the image again without this fault, and push it",
		"size": "; push a smaller image",
		"time": "; try again, and give the registry and the gate more time if it stays so",
		"told": "",
	} {
		cure({"class": "unread", "kind": "unknown", "reason": "it failed", "fault": fault}) == {words}
	}
	hidden := "`/app.wasm` is under the volume at `/app.wasm`, which hides the image's own file; mount it elsewhere"
	cure({"class": "unknown", "kind": "unknown", "reason": hidden, "fault": "told"}) == {""}
}
