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
			"container `web` imports `acme:gpu/device`, what that lets it do is not known, and no grant allows it ",
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
	wasmgate.violations == unknown_import("import acme:gpu/device open") with input as fixture.pod({"missing": [{
		"capability": "unknown-import",
		"evidence": ["import acme:gpu/device open"],
	}]})
}
