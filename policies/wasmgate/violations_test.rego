package wasmgate_test

import data.wasmgate
import data.wasmgate.fixture

test_a_covered_component_on_its_runtime_is_admitted if {
	wasmgate.violations == set() with input as fixture.pod({})
}

test_a_linux_pod_is_admitted_whatever_is_known_of_its_image if {
	every class in ["linux", "unread", "unknown"] {
		wasmgate.violations == set() with input as fixture.on(fixture.none, {"class": class, "kind": "unknown"})
	}
}

test_input_of_another_version_is_refused if {
	wasmgate.violations == {{
		"rule": "unknown-input",
		"message": "the baseline rules read input `wasmgate.dev/v1alpha1`, and this is `wasmgate.dev/v2`",
	}} with input as {"apiVersion": "wasmgate.dev/v2"}
}

test_input_without_a_version_is_refused if {
	wasmgate.violations == {{
		"rule": "unknown-input",
		"message": "the baseline rules read input `wasmgate.dev/v1alpha1`, and this is `<undefined>`",
	}} with input as {}
}

test_the_fixtures_match_the_schema if {
	every document in [
		fixture.pod({}),
		fixture.on(fixture.none, {"class": "unread", "reason": "not found"}),
		fixture.on(fixture.stranger, {"native": [{"source": "/app", "magic": "ELF"}]}),
	] {
		json.match_schema(document, data.schema) == [true, []]
	}
}
