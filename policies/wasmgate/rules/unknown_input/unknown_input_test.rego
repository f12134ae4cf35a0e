package wasmgate.rules.unknown_input_test

import data.wasmgate
import data.wasmgate.fixture

refused := object.union(fixture.pod({}), {"apiVersion": "wasmgate.dev/v2"})

admitted := fixture.pod({})

test_input_of_another_version_is_refused if {
	wasmgate.violations == {{
		"rule": "unknown-input",
		"mendedBy": "platform",
		"message": "the baseline rules read input `wasmgate.dev/v1alpha1`, and this is `wasmgate.dev/v2`",
	}} with input as {"apiVersion": "wasmgate.dev/v2"}
}

test_input_without_a_version_is_refused if {
	wasmgate.violations == {{
		"rule": "unknown-input",
		"mendedBy": "platform",
		"message": "the baseline rules read input `wasmgate.dev/v1alpha1`, and this is `<undefined>`",
	}} with input as {}
}
