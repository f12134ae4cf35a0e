package wasmgate.rules.unknown_import_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"effective": [gpu]})

admitted := fixture.pod({"effective": [object.union(gpu, {"coveredBy": ["WasiGrant/gpu"]})]})

gpu := {
	"capability": "unknown-import",
	"name": "acme:gpu/device",
	"evidence": ["import acme:gpu/device in layer sha256:2c26"],
	"coveredBy": [],
	"needsGrant": "{ name: unknown-import, names: [\"acme:gpu/device\"] }",
}

test_an_import_that_the_runtime_may_provide_is_refused if {
	wasmgate.violations == {{
		"rule": "unknown-import",
		"mendedBy": "grant",
		"container": "web",
		"capability": "unknown-import",
		"message": concat("", [
			"container `web` imports `acme:gpu/device`, of which nothing is known, and no grant allows it ",
			"(seen: import acme:gpu/device in layer sha256:2c26); build it without, or else a WasiGrant in namespace ",
			"`shop` would, with this under `spec.capabilities`:\n- { name: unknown-import, names: [\"acme:gpu/device\"] }",
		]),
	}} with input as refused
}

unknown_import(import_words) := {{
	"rule": "unknown-import",
	"mendedBy": "image",
	"container": "web",
	"capability": "unknown-import",
	"action": "warn",
	"message": concat("", [
		$"container `web` imports {import_words}, which runtime class `wasmtime` is not known to provide: ",
		"it will probably not start there",
	]),
}}

test_an_import_that_the_runtime_cannot_link_is_warned_of_once if {
	wasmgate.violations == unknown_import("`acme:gpu/device`") with input as fixture.pod({"missing": [{
		"capability": "unknown-import",
		"name": "acme:gpu/device",
		"evidence": ["import acme:gpu/device"],
	}]})
}

test_an_import_without_a_name_is_told_by_where_it_was_seen if {
	words := "something without a known name (seen: import acme:gpu/device open)"
	wasmgate.violations == unknown_import(words) with input as fixture.pod({"missing": [{
		"capability": "unknown-import",
		"evidence": ["import acme:gpu/device open"],
	}]})
}

unnamed := {
	"capability": "unknown-import",
	"evidence": ["component \"a\": its module was not read"],
	"coveredBy": [],
	"needsGrant": "{ name: unknown-import }",
}

test_that_nothing_is_known_of_the_imports_is_said_in_words if {
	wasmgate.violations == {{
		"rule": "unknown-import",
		"mendedBy": "grant",
		"container": "web",
		"capability": "unknown-import",
		"message": concat("", [
			"it is not known what container `web` imports, so it may do anything, and no grant allows it (seen: component ",
			"\"a\": its module was not read); a WasiGrant in namespace `shop` would, with this under ",
			"`spec.capabilities`:\n- { name: unknown-import }",
		]),
	}} with input as fixture.pod({"effective": [unnamed]})
}

test_no_grant_is_offered_for_a_program_that_was_not_recognised if {
	unknown := {"class": "unknown", "kind": "unknown", "reason": "it has two Wasm layers", "effective": [unnamed]}
	violations := wasmgate.violations with input as fixture.pod(unknown)
	{v.rule | some v in violations} == {"not-inspected", "unknown-import"}
	{endswith(v.message, "; no grant helps as long as `not-inspected` refuses the container") |
		some v in violations
		v.rule == "unknown-import"
	} == {true}
}
