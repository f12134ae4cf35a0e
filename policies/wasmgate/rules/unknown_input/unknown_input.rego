package wasmgate.rules.unknown_input

# METADATA
# title: The input is of a version that the rules read
# description: |
#   Guards all other rules: on a document of another version they would be undefined, and that would admit.
# custom:
#   remedy: Run a gate and a bundle that speak the same version of the input.
#   severity: high
violations contains violation if {
	not input.apiVersion == "wasmgate.dev/v1alpha1"
	violation := {
		"rule": "unknown-input",
		"mendedBy": "platform",
		"message": $"the baseline rules read input `wasmgate.dev/v1alpha1`, and this is `{input.apiVersion}`",
	}
}
